//! Bytes as hexadecimal digits, two each, small letters.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The digits of some bytes.
pub fn encode(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(2 * bytes.len());
    encode_into(&mut digits, bytes);
    digits
}

/// Appends the digits of some bytes.
pub fn encode_into(out: &mut String, bytes: &[u8]) {
    out.extend(
        bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])),
    );
}

/// Fills `bytes` with what the digits say; `None` where there are others than so many of [`encode`]'s.
pub fn decode_into(text: &str, bytes: &mut [u8]) -> Option<()> {
    let digits = text.as_bytes();
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_nothing_else_does() {
        let bytes: Vec<u8> = (0..=255).collect();
        let digits = encode(&bytes);
        assert!(digits.starts_with("000102") && digits.ends_with("fdfeff"));
        let mut back = [0; 256];
        assert_eq!((decode_into(&digits, &mut back), &back[..]), (Some(()), &bytes[..]));
        for wrong in ["", "0", "000", "0g", "0G", "FF", "+1", "\u{e4}"] {
            assert_eq!(decode_into(wrong, &mut [0]), None, "{wrong}");
        }
    }
}
