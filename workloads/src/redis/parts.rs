//! What a command is made of.

use super::resp::{write_count, write_part};

/// A command and its arguments: slices, arrays and vectors of anything that is bytes.
///
/// ```ignore
/// redis.call(&["SET", "key", "value"]).await?;
/// redis.call(&[&b"SET"[..], key, &value]).await?;
/// ```
pub trait Parts {
    /// How many there are.
    fn count(&self) -> usize;

    /// One of them.
    ///
    /// # Panics
    /// Beyond the last.
    fn part(&self, at: usize) -> &[u8];
}

impl<P: AsRef<[u8]>> Parts for &[P] {
    fn count(&self) -> usize {
        self.len()
    }

    fn part(&self, at: usize) -> &[u8] {
        self[at].as_ref()
    }
}

impl<P: AsRef<[u8]>, const N: usize> Parts for &[P; N] {
    fn count(&self) -> usize {
        N
    }

    fn part(&self, at: usize) -> &[u8] {
        self[at].as_ref()
    }
}

impl<P: AsRef<[u8]>, const N: usize> Parts for [P; N] {
    fn count(&self) -> usize {
        N
    }

    fn part(&self, at: usize) -> &[u8] {
        self[at].as_ref()
    }
}

impl<P: AsRef<[u8]>> Parts for Vec<P> {
    fn count(&self) -> usize {
        self.len()
    }

    fn part(&self, at: usize) -> &[u8] {
        self[at].as_ref()
    }
}

impl<P: AsRef<[u8]>> Parts for &Vec<P> {
    fn count(&self) -> usize {
        self.len()
    }

    fn part(&self, at: usize) -> &[u8] {
        self[at].as_ref()
    }
}

/// The command's bytes.
pub(super) fn write(parts: &impl Parts) -> Vec<u8> {
    let all = 0..parts.count();
    let mut bytes = Vec::with_capacity(all.clone().map(|at| parts.part(at).len() + 16).sum::<usize>() + 8);
    write_count(&mut bytes, parts.count());
    all.for_each(|at| write_part(&mut bytes, parts.part(at)));
    bytes
}
