//! The cursor over what was received. It owns nothing; what it hands out lives as long as the caller's buffer, not as
//! long as the cursor, so an event can outlive the call that produced it.

use std::fmt;

/// A cursor over received bytes. Machines take from its front.
pub struct Input<'a> {
    rest: &'a mut [u8],
}

impl<'a> Input<'a> {
    /// Wraps what was received. The bytes are mutable because WebSocket payloads are unmasked in place.
    #[inline]
    pub fn new(received: &'a mut [u8]) -> Self {
        Self { rest: received }
    }

    /// How many bytes nobody has taken yet.
    #[inline]
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether everything was taken.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The bytes that nobody has taken yet, in the order in which they arrived.
    #[inline]
    pub fn rest(&self) -> &[u8] {
        self.rest
    }

    /// Takes up to `len` bytes from the front.
    #[inline]
    pub fn take(&mut self, len: usize) -> &'a mut [u8] {
        let len = len.min(self.rest.len());
        let (taken, rest) = std::mem::take(&mut self.rest).split_at_mut(len);
        self.rest = rest;
        taken
    }

    /// Takes everything that is left.
    #[inline]
    pub fn take_rest(&mut self) -> &'a mut [u8] {
        std::mem::take(&mut self.rest)
    }
}

/// Shows the length only: the content is a peer's, and may be large or secret.
impl fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("len", &self.rest.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_from_the_front_and_outlives_the_cursor() {
        let mut bytes = *b"abcdef";
        let (first, second) = {
            let mut input = Input::new(&mut bytes);
            let first = input.take(2);
            let second = input.take(99);
            assert!(input.is_empty());
            (first, second)
        };
        assert_eq!(first, b"ab");
        assert_eq!(second, b"cdef");
    }
}
