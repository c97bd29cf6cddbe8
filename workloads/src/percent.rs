//! Percent-encoding (RFC 3986 section 2.1): of paths and queries, and of what URLs say of users and passwords.

/// Resolves percent-encoding; `None` where it is broken or the result is no UTF-8.
pub fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || (bytes.next()? as char).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        out.push((high << 4 | low) as u8);
    }
    String::from_utf8(out).ok()
}

/// A text percent-encoded, as by [`encode_into`].
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    encode_into(&mut encoded, text);
    encoded
}

/// Appends `text` percent-encoded, so that it is data and nothing else in a path segment or a query's value
/// (RFC 3986 section 2.3).
pub fn encode_into(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte as char);
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(DIGITS[usize::from(byte >> 4)] as char);
            out.push(DIGITS[usize::from(byte & 15)] as char);
        }
    }
}

/// As [`encode_into`], of a path of several segments: slashes stay.
pub fn encode_path_into(out: &mut String, text: &str) {
    for (index, segment) in text.split('/').enumerate() {
        if index > 0 {
            out.push('/');
        }
        encode_into(out, segment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_data_and_comes_back() {
        for text in ["", "a b", "a/b?c#d%", "\u{e4}\0\r\n+", "-._~"] {
            let encoded = encode(text);
            assert!(encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)), "{encoded}");
            assert_eq!(decode(&encoded).as_deref(), Some(text));
        }
        assert_eq!(encode("a b/\u{fc}?&=%#~"), "a%20b%2F%C3%BC%3F%26%3D%25%23~");
        let mut path = String::new();
        encode_path_into(&mut path, "a/b c");
        assert_eq!(path, "a/b%20c");
    }

    #[test]
    fn what_is_broken_is_nothing() {
        for broken in ["%", "%2", "%zz", "%ff", "%+1", "a%2"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }
}
