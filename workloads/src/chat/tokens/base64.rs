//! Base64 (RFC 4648), strictly: of every byte string there is exactly one text, and any other is refused.

/// Marks bytes that are in no alphabet. Digits are below 64, so the two upper bits tell.
const NO_DIGIT: u8 = 0xFF;
const STANDARD: [u8; 256] = alphabet(b"+/");
const URL: [u8; 256] = alphabet(b"-_");

/// What every byte is as a digit, where `last` are the digits 62 and 63.
const fn alphabet(last: &[u8; 2]) -> [u8; 256] {
    let mut digits = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < 26 {
        digits[b'A' as usize + digit] = digit as u8;
        digits[b'a' as usize + digit] = digit as u8 + 26;
        digit += 1;
    }
    digit = 0;
    while digit < 10 {
        digits[b'0' as usize + digit] = digit as u8 + 52;
        digit += 1;
    }
    digits[last[0] as usize] = 62;
    digits[last[1] as usize] = 63;
    digits
}

/// The URL alphabet (RFC 4648 section 5) without padding, as RFC 7515 section 2 has it.
pub(super) fn decode_url(text: &[u8]) -> Option<Vec<u8>> {
    decode(&URL, text)
}

/// The standard alphabet (RFC 4648 section 4) with padding.
pub(super) fn decode_standard(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    decode(&STANDARD, digits)
}

fn decode(alphabet: &[u8; 256], text: &[u8]) -> Option<Vec<u8>> {
    let (quads, tail) = text.as_chunks::<4>();
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for quad in quads {
        let digits = quad.map(|byte| alphabet[byte as usize]);
        if digits.iter().fold(0, |all, digit| all | digit) & 0xC0 != 0 {
            return None;
        }
        let [a, b, c, d] = digits;
        bytes.extend_from_slice(&[a << 2 | b >> 4, b << 4 | c >> 2, c << 6 | d]);
    }
    // Bits that belong to no byte must be zero, or several texts would stand for the same bytes.
    match *tail {
        [] => {}
        [a, b] => match [alphabet[a as usize], alphabet[b as usize]] {
            [a @ ..64, b @ ..64] if b & 0x0F == 0 => bytes.push(a << 2 | b >> 4),
            _ => return None,
        },
        [a, b, c] => match [alphabet[a as usize], alphabet[b as usize], alphabet[c as usize]] {
            [a @ ..64, b @ ..64, c @ ..64] if c & 0x03 == 0 => {
                bytes.extend_from_slice(&[a << 2 | b >> 4, b << 4 | c >> 2]);
            }
            _ => return None,
        },
        _ => return None,
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648() {
        let vectors = ["", "f", "fo", "foo", "foob", "fooba", "foobar"]
            .into_iter()
            .zip(["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
        for (plain, text) in vectors {
            assert_eq!(decode_standard(text.as_bytes()).as_deref(), Some(plain.as_bytes()), "{text}");
            assert_eq!(decode_url(text.trim_end_matches('=').as_bytes()).as_deref(), Some(plain.as_bytes()), "{text}");
        }
        assert_eq!(decode_url(b"-_-_").unwrap(), [0xFB, 0xFF, 0xBF]);
        assert_eq!(decode_standard(b"+/+/").unwrap(), [0xFB, 0xFF, 0xBF]);
    }

    #[test]
    fn every_other_text_is_refused() {
        for text in ["A", "AAAAA", "Zg==", "Zm8=", "Zh", "Zm9", "+/+/", "Zm 9", "Zm9v\n", "Zg=", "\u{e9}\u{e9}"] {
            assert_eq!(decode_url(text.as_bytes()), None, "{text}");
        }
        for text in ["Zg", "Zg=", "Z===", "====", "Zh==", "Zm9=", "-_-_", "Zg==Zg==", "Zm9v\n", " Zm9"] {
            assert_eq!(decode_standard(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn one_text_for_every_byte_string() {
        // All texts of three digits: every two bytes come from exactly one of them.
        let digits: Vec<u8> = (0..=255).filter(|byte| URL[*byte as usize] != NO_DIGIT).collect();
        assert_eq!(digits.len(), 64);
        let mut seen = vec![false; 1 << 16];
        for (a, b, c) in digits.iter().flat_map(|a| digits.iter().flat_map(move |b| [(a, b)])).flat_map(|(a, b)| {
            let digits = &digits;
            digits.iter().map(move |c| (*a, *b, *c))
        }) {
            if let Some(bytes) = decode_url(&[a, b, c]) {
                let number = (bytes[0] as usize) << 8 | bytes[1] as usize;
                assert!(!std::mem::replace(&mut seen[number], true), "{number:04x}");
            }
        }
        assert!(seen.iter().all(|seen| *seen));
    }
}
