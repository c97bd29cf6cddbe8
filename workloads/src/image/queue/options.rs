//! How patient the queue is.

use std::time::Duration;

use super::ledger::now_ms;
use crate::image::outbox::EventSet;

/// Every limit of the queue, with its unit and consequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// Works that may wait; beyond, new ones are refused. Joining a work that is there is always possible.
    pub waiting_max: u64,
    /// Attempts of a work; the last one that fails makes it dead.
    pub attempts_max: u32,
    /// Workers that a work may end; with the last it is dead.
    pub crashes_max: u32,
    /// Whether an attempt that ended with the server counts as a crash: where codecs run inside the server, it may have
    /// been the image.
    pub lost_is_crash: bool,
    /// How long a lease lasts unless it is renewed; then the work goes back.
    pub lease: Duration,
    /// The n-th repetition waits a random time up to this times 2^(n-1) ...
    pub backoff: Duration,
    /// ... and never longer than this.
    pub backoff_max: Duration,
    /// One lease in so many prefers bulk to interactive works. At least 2.
    pub bulk_share: u32,
    /// How long a finished job's document is kept.
    pub jobs_kept: Duration,
    /// How long a dead job is kept.
    pub dead_kept: Duration,
    /// How long the outputs of a finished work are kept once no job refers to it; `None`: for good.
    pub outputs_kept: Option<Duration>,
    /// Whether originals of finished works are kept as long as their outputs. Else the sweep takes them.
    pub originals_kept: bool,
    /// How long they are kept after the end of the newest work that is made of them; `None`: as long as those. Where they go
    /// before, nothing new is made of them.
    pub originals_kept_for: Option<Duration>,
    /// Events that may wait to be sent to the account of jobs; beyond, they are counted and left out. 0: there is none.
    pub events_max: u64,
    /// What webhooks tell.
    pub webhooks: EventSet,
}

impl QueueOptions {
    /// The defaults.
    pub const DEFAULT: QueueOptions = QueueOptions {
        waiting_max: 100_000,
        attempts_max: 5,
        crashes_max: 2,
        lost_is_crash: false,
        lease: Duration::from_secs(30),
        backoff: Duration::from_secs(1),
        backoff_max: Duration::from_secs(300),
        bulk_share: 5,
        jobs_kept: Duration::from_secs(7 * 86_400),
        dead_kept: Duration::from_secs(30 * 86_400),
        outputs_kept: None,
        originals_kept: true,
        originals_kept_for: None,
        events_max: 0,
        webhooks: EventSet::NONE,
    };

    /// Works that are done must have ended after this moment (milliseconds since 1970) for their originals to be kept; `None`:
    /// at any time.
    pub(super) fn originals_since_ms(&self) -> Option<i64> {
        let kept = self.originals_kept_for?.as_millis().min(i64::MAX as u128) as i64;
        Some(now_ms().saturating_sub(kept))
    }

    /// How long the next attempt waits, after `attempts` of them: uniformly from nothing to the exponential bound ("full
    /// jitter"), so that what failed together does not come back together. `random` is any number.
    pub fn backoff(&self, attempts: u32, random: u64) -> Duration {
        let doublings = attempts.saturating_sub(1).min(32);
        let bound = self.backoff.saturating_mul(1 << doublings.min(31)).min(self.backoff_max);
        let bound_ms = bound.as_millis() as u64;
        Duration::from_millis(random % (bound_ms + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_up_to_its_bound() {
        let options = QueueOptions::DEFAULT;
        for (attempts, bound_ms) in
            [(1, 1000), (2, 2000), (5, 16_000), (9, 256_000), (10, 300_000), (u32::MAX, 300_000)]
        {
            assert_eq!(options.backoff(attempts, bound_ms), Duration::from_millis(bound_ms), "{attempts}");
            assert_eq!(options.backoff(attempts, bound_ms + 1), Duration::ZERO, "{attempts}");
        }
        assert_eq!(options.backoff(3, 0), Duration::ZERO);
    }
}
