//! A rate that all shards share without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How far the clocks of two shards may be apart: each looks at its own once a turn. A clock that is further behind than this
/// was set back.
const SKEW_MAX: Duration = Duration::from_secs(1);

/// So many in a time: the generic cell rate algorithm (ITU-T I.371), whose whole state is the moment at which the next one
/// would be exactly on time.
#[derive(Debug)]
pub struct Pace {
    each_ns: u64,
    /// How far ahead of its time one may come: as many at once.
    burst_ns: u64,
    on_time_ns: AtomicU64,
}

impl Pace {
    /// `count`, at least one, in each `period`, and `burst` at once after a pause.
    pub fn new(count: u64, period: Duration, burst: u64) -> Pace {
        let each_ns = (period.as_nanos() as u64 / count.max(1)).max(1);
        Pace { each_ns, burst_ns: each_ns.saturating_mul(burst.max(1)), on_time_ns: AtomicU64::new(0) }
    }

    /// One more at that moment, by any clock that all who take go by; or how long until there may be one.
    pub fn take(&self, now: Duration) -> Result<(), Duration> {
        let now = now.as_nanos() as u64;
        let latest = now.saturating_add(self.burst_ns);
        let after = |on_time: u64| {
            let was_set_back = on_time > latest.saturating_add(SKEW_MAX.as_nanos() as u64);
            (if was_set_back { now } else { on_time.max(now) }).saturating_add(self.each_ns)
        };
        let grant = |on_time| Some(after(on_time)).filter(|after| *after <= latest);
        match self.on_time_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grant) {
            Ok(_before) => Ok(()),
            Err(on_time) => Err(Duration::from_nanos(after(on_time).saturating_sub(latest))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_granted_and_then_the_rate_on_all_shards_together() {
        let pace = Pace::new(10, Duration::from_secs(1), 5);
        let take = |now_ms| pace.take(Duration::from_millis(now_ms)).is_ok();
        assert!((0..5).all(|_| take(1_000_000)) && !take(1_000_000));
        assert!(!take(1_000_099) && take(1_000_100) && !take(1_000_199) && take(1_000_200));
        assert!((0..5).all(|_| take(2_000_000)) && !take(2_000_000), "it never holds more than a burst");
        assert!(
            !take(1_999_999) && !take(1_999_000),
            "a shard whose clock is a little behind gets no burst of its own"
        );
        assert!(take(1_500_000), "a clock that is set back does not stop everybody");
        let granted = std::thread::scope(|scope| {
            let count = || (0..1000).filter(|_| take(9_000_000)).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!(granted, 5);
    }

    #[test]
    fn who_is_too_early_is_told_how_long_to_wait() {
        let pace = Pace::new(4, Duration::from_secs(1), 4);
        let take = |ms: u64| pace.take(Duration::from_millis(5_000 + ms));
        assert!((0..4).all(|_| take(0).is_ok()));
        assert_eq!(take(0), Err(Duration::from_millis(250)));
        assert_eq!(take(249), Err(Duration::from_millis(1)));
        assert_eq!(take(250), Ok(()));
        assert!(take(250).is_err());
        // A quiet second fills it, a quiet hour no more than that.
        assert_eq!((0..9).filter(|_| take(3_600_000).is_ok()).count(), 4);
    }
}
