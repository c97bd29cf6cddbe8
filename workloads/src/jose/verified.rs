//! Which signatures were found good already. When a server comes back, all its clients do, each with the token that
//! was verified a minute before.
//!
//! Only that fact is kept, as the hash of key and token: times, audience and claims are read anew from the token each
//! time, so that nothing here can be out of date. A key that is gone or replaced has another hash, which nothing here
//! matches.
//!
//! ```text
//!   hash ─► set (one lock) ─► 8 hashes, the oldest makes room
//! ```
//!
//! Shards and compute threads share it. Nobody waits for a lock: one that is held counts as not found, which costs a
//! verification and nothing else.

use std::sync::{Mutex, MutexGuard, TryLockError};

use ring::digest;

use super::keys::PublicKey;

/// Hashes that share a lock and make room for each other.
const WAYS: usize = 8;

/// Key and token.
pub(super) type Seen = [u8; 32];

/// The hash of a token and the key that verifies it: SHA-256, so that nobody finds another token with the same.
pub(super) fn seen(key: &PublicKey, token: &str) -> Seen {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(key.fingerprint());
    hash.update(token.as_bytes());
    let mut seen = [0; 32];
    seen.copy_from_slice(hash.finish().as_ref());
    seen
}

#[derive(Debug, Default)]
struct Set {
    seen: Vec<Seen>,
    oldest: usize,
}

/// A bounded memory of hashes.
#[derive(Debug)]
pub(super) struct Verified {
    sets: Box<[Mutex<Set>]>,
}

impl Verified {
    /// Of at most that many, rounded up to a power of two; of none at all if 0.
    pub(super) fn new(tokens_max: usize) -> Verified {
        let sets = if tokens_max == 0 { 0 } else { tokens_max.div_ceil(WAYS).next_power_of_two() };
        Verified { sets: (0..sets).map(|_| Mutex::default()).collect() }
    }

    /// Whether it is known. `false` may also mean that it could not be looked up at once.
    pub(super) fn contains(&self, seen: &Seen) -> bool {
        self.set(seen).is_some_and(|set| set.seen.contains(seen))
    }

    /// Remembers it, unless its place is held by another just now.
    pub(super) fn insert(&self, seen: Seen) {
        let Some(mut set) = self.set(&seen) else { return };
        if set.seen.contains(&seen) {
            return; // Two verified the same token at the same time.
        }
        if set.seen.len() < WAYS {
            set.seen.push(seen);
        } else {
            let oldest = set.oldest;
            set.seen[oldest] = seen;
            set.oldest = (oldest + 1) % WAYS;
        }
    }

    fn set(&self, seen: &Seen) -> Option<MutexGuard<'_, Set>> {
        let number = u64::from_le_bytes(*seen.first_chunk().expect("a hash has 32 bytes"));
        let set = self.sets.get(number as usize & self.sets.len().wrapping_sub(1))?;
        match set.try_lock() {
            Ok(set) => Some(set),
            Err(TryLockError::Poisoned(set)) => Some(set.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(number: u8) -> Seen {
        let mut seen = [0; 32]; // All in the first set.
        seen[31] = number;
        seen
    }

    #[test]
    fn the_oldest_makes_room() {
        let verified = Verified::new(20);
        assert_eq!(verified.sets.len(), 4);
        for number in 0..12 {
            assert!(!verified.contains(&numbered(number)));
            verified.insert(numbered(number));
            verified.insert(numbered(number));
            assert!(verified.contains(&numbered(number)));
        }
        let kept: Vec<u8> = (0..12).filter(|number| verified.contains(&numbered(*number))).collect();
        assert_eq!(kept, [4, 5, 6, 7, 8, 9, 10, 11]);
    }

    #[test]
    fn a_lock_that_is_held_is_a_miss() {
        let verified = Verified::new(8);
        verified.insert(numbered(1));
        let held = verified.sets[0].lock().unwrap();
        assert!(!verified.contains(&numbered(1)));
        verified.insert(numbered(2));
        drop(held);
        assert!(verified.contains(&numbered(1)) && !verified.contains(&numbered(2)));
    }

    #[test]
    fn none_at_all() {
        let verified = Verified::new(0);
        verified.insert(numbered(1));
        assert!(!verified.contains(&numbered(1)));
    }
}
