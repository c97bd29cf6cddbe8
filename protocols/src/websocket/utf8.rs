//! UTF-8 (RFC 3629): whole texts at once, and growing texts piece by piece without looking twice at a byte that was
//! accepted. Fails at the first byte that cannot be part of any valid text, not only at the end.

use super::Fault;

/// Checks a whole text.
#[inline]
pub(super) fn check_whole(text: &[u8]) -> Result<(), Fault> {
    simdutf8::basic::from_utf8(text).map(|_| ()).map_err(|_| Fault::InvalidUtf8)
}

/// Checks the part of a growing text that is not yet known to be good.
///
/// `checked` is how far the text was accepted, and is moved on. At most three bytes stay behind it: the beginning of a
/// character whose end has not arrived.
pub(super) fn check_grown(text: &[u8], checked: &mut usize) -> Result<(), Fault> {
    let fresh = &text[*checked..];
    // The fast validator says only yes or no, so it gets everything but what may be the beginning of a character.
    let (whole, tail) = fresh.split_at(fresh.len() - unfinished(fresh));
    check_whole(whole)?;
    *checked += whole.len();
    match std::str::from_utf8(tail) {
        Ok(_) => *checked += tail.len(),
        Err(error) if error.error_len().is_none() => {}
        Err(_) => return Err(Fault::InvalidUtf8),
    }
    Ok(())
}

/// How many bytes at the end belong to a character that is longer than what is there: 0 to 3.
fn unfinished(text: &[u8]) -> usize {
    let reaches_beyond = |back: &usize| match text.len().checked_sub(*back).map(|at| text[at]) {
        Some(0xf0..) => *back < 4,
        Some(0xe0..) => *back < 3,
        Some(0xc0..) => *back < 2,
        _ => false,
    };
    (1..=3).find(reaches_beyond).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a text fed byte by byte is refused: the index of the byte.
    fn refused_at(bytes: &[u8]) -> Option<usize> {
        let (mut text, mut checked) = (Vec::new(), 0);
        for (index, byte) in bytes.iter().enumerate() {
            text.push(*byte);
            if check_grown(&text, &mut checked).is_err() {
                return Some(index);
            }
            assert!(text.len() - checked <= 3);
        }
        None
    }

    #[test]
    fn fails_at_the_first_impossible_byte() {
        // RFC 3629 section 3: overlong forms, surrogates, beyond U+10FFFF.
        assert_eq!(refused_at(b"ab\xc0"), Some(2));
        assert_eq!(refused_at(b"\xe0\x80"), Some(1));
        assert_eq!(refused_at(b"\xed\xa0"), Some(1));
        assert_eq!(refused_at(b"\xf0\x80"), Some(1));
        assert_eq!(refused_at(b"\xf4\x90"), Some(1));
        assert_eq!(refused_at(b"\xf5"), Some(0));
        assert_eq!(refused_at(b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited"), Some(12));
        assert_eq!(refused_at("κόσμε \u{10ffff} \u{d7ff}\u{e000}".as_bytes()), None);
    }

    #[test]
    fn every_split_of_mixed_text_is_accepted() {
        let text = "aß水🍣".repeat(20);
        for split in 0..text.len() {
            let mut checked = 0;
            check_grown(&text.as_bytes()[..split], &mut checked).expect("prefix of valid text");
            assert!(split - checked <= 3);
            check_grown(text.as_bytes(), &mut checked).expect("valid text");
            assert_eq!(checked, text.len());
        }
    }
}
