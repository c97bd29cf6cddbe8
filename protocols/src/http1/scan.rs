//! Finds where a head ends, resumably, and enforces what must hold before it is parsed: line ends and byte limits. The
//! verdict depends on the bytes only, never on how they were split.

use super::limits::REQUEST_LINE_OVERHEAD;
use super::{Fault, Limits};
use memchr::memchr;

/// What kind of line a head starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// A request line, whose target has a limit of its own.
    Request,
    /// A status line.
    Status,
}

/// How far a growing head was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeadScan {
    /// Where the current line starts.
    line_start: usize,
    /// Up to where there is no line feed of interest.
    scanned: usize,
}

impl HeadScan {
    /// Looks at the part of `head` that is new. Returns the head's length once its empty line is there.
    pub(super) fn advance(&mut self, start: Start, head: &[u8], limits: &Limits) -> Result<Option<usize>, Fault> {
        // Anything that is not text fails with its first byte, a TLS greeting for example.
        if head.first().is_some_and(|byte| !byte.is_ascii_alphanumeric() && !b"!#$%&'*+-.^_`|~".contains(byte)) {
            return Err(Fault::StartLine);
        }
        while let Some(found) = memchr(b'\n', &head[self.scanned..]) {
            let line_feed = self.scanned + found;
            self.check_size(start, line_feed + 1, limits)?;
            if line_feed == 0 || head[line_feed - 1] != b'\r' {
                return Err(Fault::BareLineFeed);
            }
            if line_feed - 1 == self.line_start {
                return Ok(Some(line_feed + 1));
            }
            self.line_start = line_feed + 1;
            self.scanned = line_feed + 1;
        }
        self.scanned = head.len();
        self.check_size(start, head.len(), limits)?;
        Ok(None)
    }

    fn check_size(&self, start: Start, len: usize, limits: &Limits) -> Result<(), Fault> {
        let in_request_line = start == Start::Request && self.line_start == 0;
        if in_request_line && len > limits.target_bytes_max + REQUEST_LINE_OVERHEAD {
            return Err(Fault::TargetTooLong);
        }
        if len > limits.head_bytes_max {
            return Err(Fault::HeadTooLarge);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_same_end_in_any_split() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET";
        for split in 0..head.len() {
            let mut scan = HeadScan::default();
            let early = scan.advance(Start::Request, &head[..split], &Limits::DEFAULT).unwrap();
            assert_eq!(early, (split >= 27).then_some(27));
            if early.is_none() {
                assert_eq!(scan.advance(Start::Request, head, &Limits::DEFAULT), Ok(Some(27)));
            }
        }
    }

    #[test]
    fn names_the_limit_that_was_passed() {
        let scan = |head: &[u8]| HeadScan::default().advance(Start::Request, head, &Limits::DEFAULT);
        let long_target = [b"GET /", [b'a'; 8300].as_slice()].concat();
        assert_eq!(scan(&long_target), Err(Fault::TargetTooLong));
        let long_field = [b"GET / HTTP/1.1\r\nA: ", [b'a'; 16 << 10].as_slice()].concat();
        assert_eq!(scan(&long_field), Err(Fault::HeadTooLarge));
        assert_eq!(scan(b"GET / HTTP/1.1\n"), Err(Fault::BareLineFeed));
        assert_eq!(scan(b"\x16\x03\x01"), Err(Fault::StartLine));
    }
}
