//! Writing strings, bytes as strings, and passing values on within one line.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// Appends `text` as a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[plain..at]);
        plain = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]);
            }
        }
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
    out.push(b'"');
}

/// Appends `bytes` as a JSON string in base64 with padding (RFC 4648 section 4).
pub fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let at = out.len();
    out.resize(at + bytes.len().div_ceil(3) * 4, 0);
    BASE64_STANDARD.encode_slice(bytes, &mut out[at..]).expect("every three bytes make four digits");
    out.push(b'"');
}

/// Appends a validated value on one line: line ends can only be white space between tokens, and are left out.
pub fn write_without_line_ends(out: &mut Vec<u8>, value: &[u8]) {
    value.split(|&byte| byte == b'\n' || byte == b'\r').for_each(|part| out.extend_from_slice(part));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_survives() {
        let text: String = (0..0x250u32).filter_map(char::from_u32).chain("水😀\u{2028}".chars()).collect();
        let mut out = Vec::new();
        write_string(&mut out, &text);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        assert!(!out.contains(&b'\n'));
    }

    /// The vectors of RFC 4648 section 10, and the two last characters of the alphabet.
    #[test]
    fn bytes_are_in_base_64() {
        let vectors: [(&[u8], &str); 8] = [
            (b"", ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"fooba", "Zm9vYmE="),
            (b"foobar", "Zm9vYmFy"),
            (b"\xfb\xff\xbf", "+/+/"),
        ];
        for (bytes, expected) in vectors {
            let mut out = b"[".to_vec();
            write_base64(&mut out, bytes);
            assert_eq!(String::from_utf8(out).unwrap(), format!("[\"{expected}\""));
        }
    }

    #[test]
    fn a_value_over_several_lines_becomes_one() {
        let mut out = Vec::new();
        write_without_line_ends(&mut out, b"{\r\n  \"a\": [1,\n2]\n}");
        assert_eq!(out, b"{  \"a\": [1,2]}");
    }
}
