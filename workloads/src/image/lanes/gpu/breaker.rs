//! When a worker that failed is started again: after a moment, then later and later, and after too many faults in a while
//! not until the device has had a rest. No clock of its own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Faults within [`WINDOW`] that open the breaker.
pub const FAULTS_MAX: usize = 3;
/// How long a fault counts.
pub const WINDOW: Duration = Duration::from_secs(60);
/// How long an open breaker keeps the device at rest, where nothing else is said.
pub const REST: Duration = Duration::from_secs(60);
/// The first pause; each further fault in the window doubles it.
const PAUSE: Duration = Duration::from_millis(100);

/// See the module's description.
#[derive(Debug)]
pub struct Breaker {
    rest: Duration,
    faults: VecDeque<Instant>,
    total: u64,
}

/// What follows a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// When a worker may be started again.
    pub at: Instant,
    /// Whether the breaker has opened.
    pub opened: bool,
}

impl Breaker {
    /// One that keeps the device at rest for so long.
    pub fn new(rest: Duration) -> Breaker {
        Breaker { rest, faults: VecDeque::new(), total: 0 }
    }

    /// Counts a fault.
    pub fn on_fault(&mut self, now: Instant) -> Next {
        while self.faults.front().is_some_and(|&fault| now.duration_since(fault) >= WINDOW) {
            self.faults.pop_front();
        }
        self.faults.push_back(now);
        self.total += 1;
        if self.faults.len() >= FAULTS_MAX {
            return self.open(now);
        }
        let doubled = self.faults.len() as u32 - 1;
        Next { at: now + PAUSE * 2u32.pow(doubled), opened: false }
    }

    /// Counts that the device is not there any more. It may come back, but not because it is asked for often.
    pub fn on_absence(&mut self, now: Instant) -> Next {
        self.total += 1;
        self.open(now)
    }

    fn open(&mut self, now: Instant) -> Next {
        self.faults.clear();
        Next { at: now + self.rest, opened: true }
    }

    /// Faults since the start.
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_faults_in_a_minute_give_the_device_a_rest() {
        let start = Instant::now();
        let mut breaker = Breaker::new(REST);
        let second = Duration::from_secs(1);
        assert_eq!(breaker.on_fault(start), Next { at: start + PAUSE, opened: false });
        assert_eq!(breaker.on_fault(start + second), Next { at: start + second + PAUSE * 2, opened: false });
        assert_eq!(breaker.on_fault(start + 2 * second), Next { at: start + 2 * second + REST, opened: true });
        // After the rest, one fault is one fault.
        let later = start + 2 * second + REST;
        assert_eq!(breaker.on_fault(later), Next { at: later + PAUSE, opened: false });
        assert_eq!(breaker.total(), 4);
    }

    #[test]
    fn a_device_that_is_gone_is_asked_for_once_per_rest() {
        let start = Instant::now();
        let mut breaker = Breaker::new(REST);
        breaker.on_fault(start);
        assert_eq!(breaker.on_absence(start), Next { at: start + REST, opened: true });
        assert_eq!(breaker.on_absence(start + REST), Next { at: start + 2 * REST, opened: true });
        assert_eq!(breaker.total(), 3);
        assert!(!breaker.on_fault(start).opened, "what was before the rest does not count");
    }

    #[test]
    fn faults_that_are_far_apart_are_forgiven() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(REST);
        for _ in 0..10 {
            assert!(!breaker.on_fault(now).opened);
            now += WINDOW / 2 + Duration::from_secs(1);
        }
    }
}
