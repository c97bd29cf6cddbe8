//! When a worker that failed is started again: at once, then later and later, and after too many faults in a while not
//! until the device has had a rest. No clock of its own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Faults within [`WINDOW`] that open the breaker.
pub const FAULTS_MAX: usize = 3;
/// How long a fault counts.
pub const WINDOW: Duration = Duration::from_secs(60);
/// How long an open breaker keeps the device at rest.
pub const REST: Duration = Duration::from_secs(60);
/// The first pause; each further fault in the window doubles it.
const PAUSE: Duration = Duration::from_millis(100);

/// See the module's description.
#[derive(Debug, Default)]
pub struct Breaker {
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
    /// Counts a fault.
    pub fn on_fault(&mut self, now: Instant) -> Next {
        while self.faults.front().is_some_and(|&fault| now.duration_since(fault) >= WINDOW) {
            self.faults.pop_front();
        }
        self.faults.push_back(now);
        self.total += 1;
        if self.faults.len() >= FAULTS_MAX {
            self.faults.clear();
            return Next { at: now + REST, opened: true };
        }
        let doubled = self.faults.len() as u32 - 1;
        Next { at: now + PAUSE * 2u32.pow(doubled), opened: false }
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
        let mut breaker = Breaker::default();
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
    fn faults_that_are_far_apart_are_forgiven() {
        let mut now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..10 {
            assert!(!breaker.on_fault(now).opened);
            now += WINDOW / 2 + Duration::from_secs(1);
        }
    }
}
