//! What was received on a connection and not used yet.
//!
//! Bytes come in the shard's receive buffers, of which there are some thousands for all its connections. Who waits for a
//! peer must not keep one: with as many idle connections nobody would receive anything any more.

use annulus_engine::Chunk;
use annulus_protocols::Input;

/// One chunk, and how much of it was taken.
#[derive(Debug)]
pub struct Rest {
    chunk: Chunk,
    taken: usize,
}

impl Rest {
    /// Of a connection on which nothing was received.
    pub const fn empty() -> Rest {
        Rest::of(Chunk::Owned(Vec::new()))
    }

    /// All of a chunk.
    pub const fn of(chunk: Chunk) -> Rest {
        Rest { chunk, taken: 0 }
    }

    /// Whether everything was used.
    pub fn is_empty(&self) -> bool {
        self.taken == self.chunk.len()
    }

    /// The bytes that nobody has taken.
    pub fn bytes(&self) -> &[u8] {
        &self.chunk[self.taken..]
    }

    /// Lets a machine take from the front.
    pub fn read<'a, T>(&'a mut self, read: impl FnOnce(&mut Input<'a>) -> T) -> T {
        let Rest { chunk, taken } = self;
        let len = chunk.len();
        let mut input = Input::new(&mut chunk[*taken..]);
        let outcome = read(&mut input);
        *taken = len - input.len();
        outcome
    }

    /// The bytes that were taken last.
    pub fn last_taken(&mut self, len: usize) -> &mut [u8] {
        &mut self.chunk[self.taken - len..self.taken]
    }

    /// To be called before waiting, for however short a time: gives the receive buffer back if it is used up. What is left
    /// is copied where buffers are scarce.
    pub fn hold(&mut self) {
        if self.is_empty() {
            *self = Rest::empty();
        } else {
            self.chunk.hold();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_gone_and_the_rest_is_kept() {
        let mut rest = Rest::of(Chunk::Owned(b"abcdef".to_vec()));
        assert_eq!(rest.read(|input| input.take(2).to_vec()), b"ab");
        assert_eq!(rest.last_taken(2), b"ab");
        assert!(!rest.is_empty());
        rest.hold();
        assert_eq!(rest.bytes(), b"cdef");
        rest.read(|input| input.take_rest().len());
        assert!(rest.is_empty());
        rest.hold();
        assert!(rest.is_empty() && rest.chunk.is_empty(), "nothing is kept of what was used");
    }
}
