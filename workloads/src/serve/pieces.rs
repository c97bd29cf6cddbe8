//! An answer's body as the pieces that it was put together from, most of them in the upstreams' own texts: what is large
//! is not copied, and is sent a quantum at a time.

use std::collections::VecDeque;

use annulus_engine::Frame;

/// Bytes in one or more frames.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    frames: VecDeque<Frame>,
    len: usize,
}

impl From<Vec<u8>> for Pieces {
    fn from(bytes: Vec<u8>) -> Pieces {
        let mut pieces = Pieces::default();
        pieces.push(Frame::owned(bytes));
        pieces
    }
}

impl Pieces {
    /// Appends a frame.
    pub fn push(&mut self, frame: Frame) {
        self.len += frame.len();
        if !frame.is_empty() {
            self.frames.push_back(frame);
        }
    }

    /// Bytes that are left.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first bytes in one run, `most` at most and as many as there are: in place where one frame has them, otherwise
    /// by way of `joined`.
    pub fn peek<'a>(&'a self, most: usize, joined: &'a mut Vec<u8>) -> &'a [u8] {
        let want = most.min(self.len);
        let Some(first) = self.frames.front() else { return &[] };
        if first.len() >= want {
            return &first[..want];
        }
        joined.clear();
        for frame in &self.frames {
            joined.extend_from_slice(&frame[..frame.len().min(want - joined.len())]);
            if joined.len() == want {
                break;
            }
        }
        joined
    }

    /// Forgets the first bytes, as many as there are at most.
    pub fn advance(&mut self, mut bytes: usize) {
        bytes = bytes.min(self.len);
        self.len -= bytes;
        while bytes > 0 {
            let Some(first) = self.frames.front_mut() else { return };
            let taken = bytes.min(first.len());
            first.advance(taken);
            bytes -= taken;
            if first.is_empty() {
                self.frames.pop_front();
            }
        }
    }

    /// The first bytes as a frame, `most` at most and possibly fewer than there are; `None` if nothing is left.
    pub fn next(&mut self, most: usize) -> Option<Frame> {
        let first = self.frames.front_mut()?;
        let frame = match first.len() > most {
            true => first.split_to(most),
            false => self.frames.pop_front()?,
        };
        self.len -= frame.len();
        Some(frame)
    }

    /// Appends everything to `out`.
    pub fn copy_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.len);
        self.frames.iter().for_each(|frame| out.extend_from_slice(frame));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(texts: &[&str]) -> Pieces {
        let mut pieces = Pieces::default();
        texts.iter().for_each(|text| pieces.push(Frame::owned(text.as_bytes().to_vec())));
        pieces
    }

    #[test]
    fn runs_are_in_place_where_they_can_be() {
        let mut all = pieces(&["abcdef", "", "g", "hij"]);
        let mut joined = Vec::new();
        let place = all.frames[0].as_ptr();
        assert_eq!((all.len(), all.peek(4, &mut joined).as_ptr()), (10, place));
        all.advance(4);
        assert_eq!(all.peek(4, &mut joined), b"efgh");
        assert_eq!(all.peek(100, &mut joined), b"efghij");
        all.advance(3);
        assert_eq!((all.peek(2, &mut joined), all.frames.len()), (&b"hi"[..], 1));
        all.advance(100);
        assert!(all.is_empty() && all.peek(1, &mut joined).is_empty() && all.next(1).is_none());
    }

    #[test]
    fn frames_are_no_longer_than_asked_for() {
        let mut all = pieces(&["abcdef", "g"]);
        let mut copy = Vec::new();
        all.copy_to(&mut copy);
        assert_eq!(copy, b"abcdefg");
        let frames: Vec<Vec<u8>> = std::iter::from_fn(|| all.next(4).map(|frame| frame.to_vec())).collect();
        assert_eq!(frames, [&b"abcd"[..], b"ef", b"g"]);
        assert!(all.is_empty());
    }
}
