//! Whether a failed call is made again: only where that is safe, within a budget, and before the deadline. And budgets.

use std::cell::Cell;

use super::config::model::Retry;
use super::message::{Cause, Failure, Phase};

/// Repetitions that may be saved up, in calls.
const SAVED_MAX: f64 = 10.0;

/// The budget of one backend on one shard: each call earns a share of a repetition.
pub struct Budget {
    saved: Cell<f64>,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { saved: Cell::new(SAVED_MAX) }
    }
}

impl Budget {
    /// A call is made, which earns so much of another.
    pub fn earn(&self, share: f64) {
        self.saved.set((self.saved.get() + share).min(SAVED_MAX));
    }

    /// A call is made again, if the budget allows.
    pub fn spend(&self) -> bool {
        let saved = self.saved.get();
        let allowed = saved >= 1.0;
        if allowed {
            self.saved.set(saved - 1.0);
        }
        allowed
    }
}

/// Whether the configuration wants a call repeated after this failure, and nothing can be done twice by that.
pub fn is_worth_it(retry: &Retry, failure: &Failure, idempotent: bool) -> bool {
    let safe = failure.unprocessed || idempotent;
    let wanted = match &failure.cause {
        _ if failure.unprocessed && failure.phase == Phase::Request => retry.on.refused,
        Cause::Status(status) => retry.on.statuses.contains(status),
        Cause::Timeout => retry.on.timeout,
        Cause::Unresolved(..) => retry.on.connect,
        Cause::Transport(_) | Cause::Reset(_) => match failure.phase {
            Phase::Resolve | Phase::Connect => retry.on.connect,
            _ => retry.on.reset,
        },
        Cause::Refused(_) | Cause::Protocol(_) | Cause::TooLarge(_) | Cause::Malformed(_) => false,
    };
    safe && wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::config::model::RetryOn;

    fn retry() -> Retry {
        let on = RetryOn { connect: true, refused: true, reset: true, timeout: false, statuses: vec![503] };
        Retry { attempts: 2, on, budget: 0.2 }
    }

    fn failure(phase: Phase, cause: Cause, unprocessed: bool) -> Failure {
        Failure { phase, cause, unprocessed }
    }

    #[test]
    fn what_may_have_happened_is_repeated_only_where_twice_is_once() {
        let retry = retry();
        let reset = failure(Phase::Request, Cause::Transport("reset".into()), false);
        assert!(is_worth_it(&retry, &reset, true) && !is_worth_it(&retry, &reset, false));
        let refused = failure(Phase::Request, Cause::Transport("REFUSED_STREAM".into()), true);
        assert!(is_worth_it(&retry, &refused, false));
        let unreachable = failure(Phase::Connect, Cause::Transport("refused".into()), true);
        assert!(is_worth_it(&retry, &unreachable, false));
        assert!(is_worth_it(&retry, &failure(Phase::Body, Cause::Status(503), false), true));
        assert!(!is_worth_it(&retry, &failure(Phase::Body, Cause::Status(503), false), false));
        assert!(!is_worth_it(&retry, &failure(Phase::Body, Cause::Status(500), false), true));
        assert!(!is_worth_it(&retry, &failure(Phase::Request, Cause::Timeout, false), true));
        assert!(!is_worth_it(&retry, &failure(Phase::Decode, Cause::Malformed("x".into()), false), true));
    }

    #[test]
    fn repetitions_are_a_share_of_the_calls() {
        let (budget, retry) = (Budget::default(), retry());
        while budget.spend() {}
        let mut repeated = 0;
        for _ in 0..1000 {
            budget.earn(retry.budget);
            repeated += budget.spend() as usize;
        }
        assert!((195..=200).contains(&repeated), "{repeated}");
    }
}
