//! Where frames begin in a stream that somebody else reads: for whoever passes a WebSocket on and has a word of its own to
//! put between two frames.
//!
//! Only the headers' lengths are looked at; what a frame carries, and whether it may, is for the two ends to say. A stream
//! that is no WebSocket is counted all the same: it is merely never certain then that a frame begins where this says.

use super::frame::HEADER_BYTES_MAX;

/// One direction of a WebSocket, as it passes by.
#[derive(Clone, Debug, Default)]
pub struct Boundaries {
    /// The beginning of a header that is not all here.
    header: [u8; HEADER_BYTES_MAX],
    have: usize,
    /// Bytes of the payload that are to come.
    left: u64,
    closed: bool,
}

impl Boundaries {
    /// The next bytes have passed.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let step = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= step as u64;
                bytes = &bytes[step..];
                continue;
            }
            let (first, rest) = (bytes[0], &bytes[1..]);
            bytes = rest;
            self.header[self.have] = first;
            self.have += 1;
            if self.have == self.header_len() {
                self.closed |= self.header[0] & 0x0f == 0x8;
                self.left = self.payload_len();
                self.have = 0;
            }
        }
    }

    /// Whether a frame may be put in here.
    pub fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Whether a close frame has passed, behind which nothing may come (RFC 6455 section 5.5.1).
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Of the header under way, as far as it says so by now.
    fn header_len(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let longer = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + longer + if self.header[1] & 0x80 != 0 { 4 } else { 0 }
    }

    fn payload_len(&self) -> u64 {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        match self.header[1] & 0x7f {
            126 => number(&self.header[2..4]),
            127 => number(&self.header[2..10]),
            short => u64::from(short),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::frame::{FrameHeader, Opcode};

    fn frame(opcode: Opcode, len: usize, mask: Option<[u8; 4]>) -> Vec<u8> {
        let header = FrameHeader { fin: true, compressed: false, opcode, len: len as u64, mask };
        [header.encode().as_bytes(), &vec![0x88; len]].concat()
    }

    #[test]
    fn a_frame_begins_where_the_one_before_ends_however_it_comes() {
        let lengths = [0, 1, 125, 126, 65_535, 65_536, 70_000];
        let masks = [None, Some([1, 2, 3, 4])];
        let frames: Vec<Vec<u8>> =
            lengths.iter().flat_map(|len| masks.map(|mask| frame(Opcode::Binary, *len, mask))).collect();
        for piece in [1, 2, 7, 1000, usize::MAX] {
            let mut boundaries = Boundaries::default();
            for frame in &frames {
                let (most, last) = frame.split_at(frame.len() - 1);
                most.chunks(piece.min(frame.len())).for_each(|piece| boundaries.pass(piece));
                assert!(!boundaries.is_between(), "{} bytes in pieces of {piece}", frame.len());
                boundaries.pass(last);
                assert!(boundaries.is_between() && !boundaries.is_closed());
            }
        }
    }

    #[test]
    fn a_close_is_seen_among_others() {
        let mut boundaries = Boundaries::default();
        boundaries.pass(&[frame(Opcode::Text, 3, None), frame(Opcode::Close, 2, Some([0; 4]))].concat());
        assert!(boundaries.is_between() && boundaries.is_closed());
    }

    #[test]
    fn no_bytes_are_too_strange() {
        let mut boundaries = Boundaries::default();
        boundaries.pass(&[0xff; 14]);
        assert!(!boundaries.is_between());
        boundaries.pass(&[0xff; 100_000]);
        assert_eq!(boundaries.left, u64::MAX - 100_000);
    }
}
