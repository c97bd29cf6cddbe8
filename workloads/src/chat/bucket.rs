//! A token bucket in eight bytes: there is one per client.

use super::config::Rate;

/// Parts of a permission, so that slow rates fill evenly.
const PARTS: u64 = 1000;

/// What is left of a [`Rate`]. A new one is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Parts that are missing from a full one.
    missing: u32,
    /// When that was counted, in milliseconds, round and round.
    at: u32,
}

impl Bucket {
    /// Takes one permission, if there is one. `now` in milliseconds, of any clock that does not go back.
    pub fn take(&mut self, rate: Rate, now: u64) -> bool {
        let missing = self.missing(rate, now);
        let most = u64::from(rate.burst.max(1)) * PARTS;
        let granted = missing + PARTS <= most;
        let missing = missing + if granted { PARTS } else { 0 };
        *self = Bucket { missing: u32::try_from(missing).unwrap_or(u32::MAX), at: now as u32 };
        granted
    }

    /// Takes so many permissions of what has been done already, whether they are there or not. What is missing then has to fill
    /// before the next one is granted; never more than as much as it holds, so that nobody waits longer than that takes.
    pub fn owe(&mut self, rate: Rate, now: u64, count: usize) {
        let most = 2 * u64::from(rate.burst.max(1)) * PARTS;
        let missing = self.missing(rate, now).saturating_add(PARTS.saturating_mul(count as u64)).min(most);
        *self = Bucket { missing: u32::try_from(missing).unwrap_or(u32::MAX), at: now as u32 };
    }

    /// Parts that are missing by now.
    fn missing(&self, rate: Rate, now: u64) -> u64 {
        let passed = u64::from((now as u32).wrapping_sub(self.at));
        let filled = passed.saturating_mul(u64::from(rate.per_second)).saturating_mul(PARTS) / 1000;
        u64::from(self.missing).saturating_sub(filled)
    }

    /// Whether it is full again, so that forgetting it changes nothing.
    pub fn is_full(&self, rate: Rate, now: u64) -> bool {
        self.missing(rate, now) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_granted_and_then_the_rate() {
        let (rate, mut bucket) = (Rate { per_second: 10, burst: 5 }, Bucket::default());
        let mut take = |now| bucket.take(rate, now);
        assert!((0..5).all(|_| take(1_000_000)) && !take(1_000_000));
        assert!(!take(1_000_099) && take(1_000_199) && take(1_000_200) && !take(1_000_201));
        assert!((0..5).all(|_| take(2_000_000)) && !take(2_000_000), "it never holds more than a burst");
        assert!(!bucket.is_full(rate, 2_000_400) && bucket.is_full(rate, 2_000_500));
    }

    #[test]
    fn what_is_owed_fills_first_and_is_never_more_than_it_holds() {
        let (rate, mut bucket) = (Rate { per_second: 10, burst: 5 }, Bucket::default());
        bucket.owe(rate, 1000, 3);
        assert!(bucket.take(rate, 1000) && bucket.take(rate, 1000) && !bucket.take(rate, 1000));
        bucket.owe(rate, 1000, 2);
        assert!(!bucket.take(rate, 1299) && bucket.take(rate, 1300), "two that were owed, and one");
        bucket.owe(rate, 2000, usize::MAX);
        assert!(!bucket.take(rate, 2599) && bucket.take(rate, 2600), "five below nothing, and one");
    }

    #[test]
    fn no_pause_and_no_rate_are_too_large() {
        let (rate, mut bucket) = (Rate { per_second: u32::MAX, burst: 1 }, Bucket::default());
        assert!(bucket.take(rate, u64::from(u32::MAX)) && !bucket.take(rate, u64::from(u32::MAX)));
    }

    #[test]
    fn refusals_do_not_lose_what_has_filled_since() {
        let (rate, mut bucket) = (Rate { per_second: 1, burst: 1 }, Bucket::default());
        assert!(bucket.take(rate, 0));
        let granted = (1..=10_000).filter(|now| bucket.take(rate, *now)).count();
        assert_eq!(granted, 10);
    }
}
