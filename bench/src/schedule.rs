//! When each message is meant to leave, decided before the run and independent of the answers.
//!
//! Latency is counted from these times, so that a server which stalls is charged for every message that should have
//! been sent meanwhile.

pub mod course;
pub mod profile;
pub mod trace;

use crate::random::Random;

/// How messages are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Equal gaps.
    Constant,
    /// Independent arrivals: exponential gaps.
    Poisson,
}

/// Intended times in nanoseconds since the start of the run; never decreasing, without end.
#[derive(Clone, Debug)]
pub struct Schedule {
    spread: Spread,
    gap_ns: f64,
    index: u64,
    at_ns: f64,
    random: Random,
}

impl Schedule {
    /// A schedule of `per_second` messages. The seed makes a Poisson schedule repeatable.
    pub fn new(spread: Spread, per_second: f64, seed: u64) -> Schedule {
        let gap_ns = 1e9 / per_second.max(1e-3);
        Schedule { spread, gap_ns, index: 0, at_ns: 0.0, random: Random::new(seed) }
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.index += 1;
        self.at_ns = match self.spread {
            // By multiplication: adding gaps would drift over millions of messages.
            Spread::Constant => self.gap_ns * self.index as f64,
            Spread::Poisson => self.at_ns - self.random.uniform().ln() * self.gap_ns,
        };
        Some(self.at_ns as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_times_do_not_drift() {
        let last = Schedule::new(Spread::Constant, 30_000.0, 1).nth(29_999_999).unwrap();
        assert!(last.abs_diff(1_000_000_000_000) < 1000, "{last}");
    }

    #[test]
    fn poisson_times_have_the_rate_and_the_variance() {
        let times: Vec<u64> = Schedule::new(Spread::Poisson, 1000.0, 7).take(100_000).collect();
        assert!(times.is_sorted());
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
    }

    #[test]
    fn the_same_seed_gives_the_same_times() {
        let take = |seed| Schedule::new(Spread::Poisson, 10.0, seed).take(50).collect::<Vec<_>>();
        assert_eq!(take(3), take(3));
        assert_ne!(take(3), take(5));
    }
}
