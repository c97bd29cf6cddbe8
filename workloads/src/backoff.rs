//! How long to wait before trying again: exponential, with full jitter, so that many who failed together do not come back
//! together (the spread is what empties the queue at the server, not the length).

use std::time::Duration;

/// A sequence of waits.
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
    random: u64,
}

impl Backoff {
    /// Waits between nothing and `first`, then twice that, up to `most`. Those of another `seed` differ.
    pub(crate) fn new(first: Duration, most: Duration, seed: u64) -> Backoff {
        Backoff { first, most, failures: 0, random: seed }
    }

    /// It worked: the next failure is a first one.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// It failed: how long to wait.
    pub(crate) fn next(&mut self) -> Duration {
        let cap = self.first.saturating_mul(1 << self.failures.min(20)).min(self.most);
        self.failures += 1;
        self.within(cap)
    }

    /// A random part of `cap`.
    fn within(&mut self, cap: Duration) -> Duration {
        // SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators).
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.random;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        cap.mul_f64((word >> 11) as f64 / (1u64 << 53) as f64)
    }
}

/// A seed that nobody shares.
pub(crate) fn seed() -> u64 {
    let mut bytes = [0; 8];
    use ring::rand::SecureRandom;
    match ring::rand::SystemRandom::new().fill(&mut bytes) {
        Ok(()) => u64::from_ne_bytes(bytes),
        // Jitter needs to differ between processes, no more than that.
        Err(ring::error::Unspecified) => u64::from(std::process::id()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_are_spread_below_it() {
        let (first, most) = (Duration::from_millis(100), Duration::from_secs(10));
        let mut sums = [Duration::ZERO; 12];
        for seed in 0..500 {
            let mut backoff = Backoff::new(first, most, seed);
            for (failures, sum) in sums.iter_mut().enumerate() {
                let wait = backoff.next();
                assert!(wait <= (first * (1 << failures)).min(most));
                *sum += wait;
            }
            backoff.reset();
            assert!(backoff.next() <= first);
        }
        // The mean of full jitter is half the cap.
        for (failures, sum) in sums.iter().enumerate() {
            let cap = (first * (1 << failures)).min(most);
            let mean = *sum / 500;
            assert!(mean > cap.mul_f64(0.4) && mean < cap.mul_f64(0.6), "{failures}: {mean:?} of {cap:?}");
        }
    }
}
