//! A circuit breaker: a backend that keeps failing is given a rest.
//!
//! ```text
//!   closed ──(errors_max + 1 failures in a row within the interval)──► open ──(timeout)──► half open: one call tries
//!     ▲                                                                ▲                         │
//!     └──────────────────────── it answers ────────────────────────────┴──── it fails ◄──────────┘
//! ```

use std::cell::Cell;
use std::time::Duration;

use super::config::model::CircuitBreaker;

/// What a breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything.
    Closed,
    /// Nothing.
    Open,
    /// One call, to try.
    HalfOpen,
}

impl State {
    /// As logs and the dashboard say it.
    pub const fn name(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half-open",
        }
    }
}

/// One backend's breaker, on one shard. Times are the shard's clock.
pub struct Breaker {
    settings: CircuitBreaker,
    /// Failures in a row, and when the first of them was.
    failures: Cell<(u32, Duration)>,
    /// Until when nothing is let through; zero while closed.
    opened_until: Cell<Duration>,
    /// A call tries.
    trying: Cell<bool>,
}

/// A call that was let through. It must be told how it ended: see [`Breaker::settle`].
#[derive(Debug, Default)]
#[must_use]
pub struct Pass {
    trial: bool,
}

impl Pass {
    /// Whether the call tries if the backend is well again.
    pub const fn is_trial(&self) -> bool {
        self.trial
    }
}

impl Breaker {
    /// A closed one.
    pub fn new(settings: CircuitBreaker) -> Breaker {
        Breaker {
            settings,
            failures: Cell::new((0, Duration::ZERO)),
            opened_until: Cell::new(Duration::ZERO),
            trying: Cell::new(false),
        }
    }

    /// What it lets through now.
    pub fn state(&self, now: Duration) -> State {
        match self.opened_until.get() {
            Duration::ZERO => State::Closed,
            until if now < until => State::Open,
            _ => State::HalfOpen,
        }
    }

    /// Lets a call through, or not.
    pub fn admit(&self, now: Duration) -> Option<Pass> {
        match self.state(now) {
            State::Closed => Some(Pass { trial: false }),
            State::Open => None,
            State::HalfOpen => (!self.trying.replace(true)).then_some(Pass { trial: true }),
        }
    }

    /// Tells how a call ended: whether the backend served it, or `None` if it was given up for reasons of our own. The
    /// state afterwards, if it changed.
    pub fn settle(&self, now: Duration, pass: Pass, served: Option<bool>) -> Option<State> {
        if pass.trial {
            self.trying.set(false);
        }
        match (served?, pass.trial) {
            (true, trial) => {
                self.failures.set((0, now));
                // One that began before it opened says nothing about now.
                (trial && self.opened_until.replace(Duration::ZERO) > Duration::ZERO).then_some(State::Closed)
            }
            (false, true) => {
                self.opened_until.set(now + self.settings.timeout);
                Some(State::Open)
            }
            (false, false) => {
                let (count, first) = self.failures.get();
                let (count, first) = match count > 0 && now.saturating_sub(first) <= self.settings.interval {
                    true => (count + 1, first),
                    false => (1, now),
                };
                self.failures.set((count, first));
                let opens = count > self.settings.max_errors && self.opened_until.get().is_zero();
                if opens {
                    self.opened_until.set(now + self.settings.timeout);
                    self.failures.set((0, now));
                }
                opens.then_some(State::Open)
            }
        }
    }

    /// Whether its changes are to be logged, and under which name.
    pub fn logs_as(&self) -> Option<&str> {
        self.settings.log_status_change.then_some(&self.settings.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(100 + seconds)
    }

    fn breaker() -> Breaker {
        Breaker::new(CircuitBreaker {
            name: "b".into(),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            max_errors: 2,
            log_status_change: true,
        })
    }

    fn call(breaker: &Breaker, now: Duration, served: Option<bool>) -> Option<State> {
        let pass = breaker.admit(now).expect("it is let through");
        breaker.settle(now, pass, served)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_when_a_trial_is_served() {
        let breaker = breaker();
        assert_eq!(call(&breaker, at(0), Some(false)), None);
        assert_eq!(call(&breaker, at(1), Some(true)), None);
        assert_eq!(call(&breaker, at(1), Some(false)), None);
        assert_eq!(call(&breaker, at(2), Some(false)), None);
        assert_eq!(call(&breaker, at(3), Some(false)), Some(State::Open));
        assert!(breaker.admit(at(7)).is_none());
        assert_eq!(breaker.state(at(8)), State::HalfOpen);
        let trial = breaker.admit(at(8)).unwrap();
        assert!(breaker.admit(at(8)).is_none(), "one call tries, not two");
        assert_eq!(breaker.settle(at(9), trial, Some(false)), Some(State::Open));
        assert!(breaker.admit(at(13)).is_none());
        assert_eq!(call(&breaker, at(14), None), None);
        assert_eq!(call(&breaker, at(14), Some(true)), Some(State::Closed));
        assert_eq!(breaker.state(at(14)), State::Closed);
    }

    #[test]
    fn failures_far_apart_do_not_add_up() {
        let breaker = breaker();
        for round in 0..10 {
            assert_eq!(call(&breaker, at(round * 11), Some(false)), None);
        }
    }

    #[test]
    fn a_late_answer_from_before_does_not_close_it() {
        let breaker = breaker();
        let old = breaker.admit(at(0)).unwrap();
        (0..2).for_each(|_| assert_eq!(call(&breaker, at(1), Some(false)), None));
        assert_eq!(call(&breaker, at(1), Some(false)), Some(State::Open));
        assert_eq!(breaker.settle(at(2), old, Some(true)), None);
        assert_eq!(breaker.state(at(2)), State::Open);
    }
}
