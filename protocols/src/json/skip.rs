//! How long the string or value is that begins here. The text must have passed [`validate`](super::validate); of any
//! other the lengths are within the text, and mean nothing.

use super::lanes::{LANES, Lanes, parity};

/// The length of the string that begins at `text`, quotes included, and whether there are escapes in it.
pub(super) fn string_len(text: &[u8]) -> (usize, bool) {
    let (mut at, mut escaped) = (1, false);
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found + 1;
        if text[at - 1] == b'"' {
            return (at, escaped);
        }
        (at, escaped) = (at + 1, true);
    }
    (text.len(), escaped)
}

/// The length of the value that begins at `text`.
pub(super) fn value_len(text: &[u8]) -> usize {
    match text.first() {
        Some(b'"') => string_len(text).0,
        Some(b'{' | b'[') => container_len(text),
        _ => {
            let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
            text.iter().position(ends).unwrap_or(text.len())
        }
    }
}

/// The length of the array or object that begins at `text`: brackets outside of strings are counted, a block at a time
/// where the end cannot be in it.
fn container_len(text: &[u8]) -> usize {
    let mut strings = Strings::default();
    let (mut depth, mut rest) = (0, text);
    while !rest.is_empty() {
        let lanes = match rest.first_chunk() {
            Some(block) => Lanes::new(block),
            None => {
                let mut block = [b' '; LANES];
                block[..rest.len()].copy_from_slice(rest);
                Lanes::new(&block)
            }
        };
        let outside = !strings.inside(lanes);
        let folded = lanes.folded();
        let (opens, closes) = (folded.equal(b'{') & outside, folded.equal(b'}') & outside);
        if closes.count_ones() < depth {
            depth = depth + opens.count_ones() - closes.count_ones();
        } else if let Some(end) = end_of(opens, closes, &mut depth) {
            return text.len() - rest.len() + end;
        }
        rest = rest.get(LANES..).unwrap_or_default();
    }
    text.len()
}

/// Goes through a block's brackets: behind which of them nothing is open any more.
fn end_of(opens: u64, closes: u64, depth: &mut u32) -> Option<usize> {
    let mut left = opens | closes;
    while left != 0 {
        let at = left.trailing_zeros() as usize;
        left &= left - 1;
        *depth = if opens >> at & 1 == 1 { *depth + 1 } else { depth.saturating_sub(1) };
        if *depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// What of a block is inside strings, from block to block.
#[derive(Default)]
struct Strings {
    /// All ones inside of one.
    inside: u64,
    /// The first byte of the next block is escaped.
    escaped: bool,
}

impl Strings {
    fn inside(&mut self, lanes: Lanes) -> u64 {
        let escaped = self.escaped(lanes.equal(b'\\'));
        let region = parity(lanes.equal(b'"') & !escaped) ^ self.inside;
        self.inside = if region >> (LANES - 1) == 1 { !0 } else { 0 };
        region
    }

    /// The bytes that follow a backslash that is not itself escaped.
    fn escaped(&mut self, backslashes: u64) -> u64 {
        let mut escaped = self.escaped as u64;
        self.escaped = false;
        let mut left = backslashes & !escaped;
        while left != 0 {
            let backslash = left & left.wrapping_neg();
            self.escaped = backslash << 1 == 0;
            escaped |= backslash << 1;
            left &= !(backslash | backslash << 1);
        }
        escaped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_ends_at_its_own_bracket_wherever_the_blocks_fall() {
        for pad in 0..140 {
            let value = format!("{{\"{}\":[{{\"b\":\"}}\\\\\\\"]\"}},[]],\"\\\\\":{{}}}}", "x".repeat(pad));
            let text = format!("{value},\"}}\":[]}}");
            assert_eq!(value_len(text.as_bytes()), value.len());
            let string = format!("\"{}\\\"{}\\\\\"", "y".repeat(pad), "]".repeat(pad));
            assert_eq!(string_len(format!("{string}\"").as_bytes()), (string.len(), true));
            assert_eq!(value_len(format!("[{string}]]").as_bytes()), string.len() + 2);
        }
        assert_eq!(value_len(b"-1.5e3 ,"), 6);
        assert_eq!(value_len(b"true}"), 4);
    }

    #[test]
    fn what_was_not_validated_ends_with_the_text() {
        for text in [&b"\""[..], b"\"\\", b"[", b"{\"a\":[", b"", b"]", b"[\"\\"] {
            assert!(value_len(text) <= text.len());
        }
    }
}
