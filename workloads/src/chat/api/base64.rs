//! Base64 with padding (RFC 4648 section 4): bytes that are no JSON, inside JSON.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What each byte stands for; 255 for those that stand for nothing.
const VALUES: [u8; 256] = {
    let mut values = [255; 256];
    let mut at = 0;
    while at < ALPHABET.len() {
        values[ALPHABET[at] as usize] = at as u8;
        at += 1;
    }
    values
};

/// Appends `bytes` as text.
pub fn encode(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= chunk.len() { digit } else { b'=' });
        }
    }
}

/// The bytes that `text` stands for. `None` unless it is exactly what [`encode`] would write: line ends, missing
/// padding and bits that say nothing are refused.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    if !text.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in text[..text.len() - padding].chunks(4) {
        let mut word = 0u32;
        for &digit in chunk {
            let value = VALUES[digit as usize];
            if value == 255 {
                return None;
            }
            word = word << 6 | u32::from(value);
        }
        let word = word << (6 * (4 - chunk.len()));
        let bytes = word.to_be_bytes();
        let (meant, rest) = bytes[1..].split_at(chunk.len() - 1);
        if rest.iter().any(|&byte| byte != 0) {
            return None;
        }
        out.extend_from_slice(meant);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, text) in vectors {
            let mut out = Vec::new();
            encode(&mut out, plain.as_bytes());
            assert_eq!(out, text.as_bytes());
            assert_eq!(decode(text).as_deref(), Some(plain.as_bytes()));
        }
    }

    #[test]
    fn every_byte_comes_back() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for len in 0..bytes.len() {
            let mut out = Vec::new();
            encode(&mut out, &bytes[..len]);
            assert_eq!(decode(std::str::from_utf8(&out).unwrap()).as_deref(), Some(&bytes[..len]));
        }
    }

    #[test]
    fn only_what_would_be_written_is_read() {
        for bad in ["Z", "Zg", "Zg=", "Zh==", "Zm9=", "====", "=", "Zg==Zg==", "Zm9v\n", "Zm-_", "Zg=a", "Z===", "é==="]
        {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
