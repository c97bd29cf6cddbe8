//! A second question where the first is slow (Dean and Barroso, "The Tail at Scale", 2013): how slow, and how often.

use std::cell::Cell;
use std::time::Duration;

use super::config::model::{Hedge, HedgeAfter};
use super::retry::Budget;

/// Answers that must have come before it is known which are slow.
const SEEN_LEAST: u32 = 20;
/// How far the estimate follows one answer, as a share of itself.
const STEP: f64 = 0.05;

/// When to ask a second time, for one backend on one shard.
pub struct Hedging {
    after: HedgeAfter,
    share: f64,
    budget: Budget,
    /// Seconds within which the wanted share of answers came.
    usual: Cell<f64>,
    seen: Cell<u32>,
}

impl Hedging {
    /// As the configuration says.
    pub fn new(hedge: &Hedge) -> Hedging {
        let (usual, seen) = (Cell::new(0.0), Cell::new(0));
        Hedging { after: hedge.after, share: hedge.budget, budget: Budget::default(), usual, seen }
    }

    /// A question is asked. How long its answer may take before it is asked again; `None`: that is not known yet.
    pub fn begin(&self) -> Option<Duration> {
        self.budget.earn(self.share);
        match self.after {
            HedgeAfter::Fixed(after) => Some(after),
            HedgeAfter::Percentile(_) => {
                (self.seen.get() >= SEEN_LEAST).then(|| Duration::from_secs_f64(self.usual.get()))
            }
        }
    }

    /// Whether a question may be asked again, as far as the budget goes.
    pub fn spend(&self) -> bool {
        self.budget.spend()
    }

    /// An answer took so long. The estimate moves so that it rests where the wanted share of answers is below it: up by
    /// much, seldom, or down by little, often.
    pub fn learn(&self, took: Duration) {
        let HedgeAfter::Percentile(percent) = self.after else { return };
        let (took, below) = (took.as_secs_f64(), percent / 100.0);
        let usual = self.usual.get();
        self.usual.set(match self.seen.get() {
            0 => took * 2.0,
            _ if took > usual => usual * (1.0 + STEP * below),
            _ => usual / (1.0 + STEP * (1.0 - below)),
        });
        self.seen.set(self.seen.get().saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_finds_the_percentile_and_follows_it() {
        let hedging = Hedging::new(&Hedge { after: HedgeAfter::Percentile(95.0), budget: 0.05 });
        assert_eq!(hedging.begin(), None);
        let mut seed = 1_u64;
        let mut uniform = |from: f64, to: f64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Duration::from_secs_f64(from + (to - from) * ((seed >> 33) as f64 / f64::from(1_u32 << 31)))
        };
        for (from, to) in [(0.1, 0.2), (0.5, 1.0)] {
            (0..20_000).for_each(|_| hedging.learn(uniform(from, to)));
            let found = hedging.begin().unwrap().as_secs_f64();
            let wanted = from + 0.95 * (to - from);
            assert!((found / wanted - 1.0).abs() < 0.1, "{found} instead of {wanted}");
        }
    }

    #[test]
    fn second_questions_are_a_share_of_all() {
        let hedging = Hedging::new(&Hedge { after: HedgeAfter::Fixed(Duration::from_millis(5)), budget: 0.05 });
        while hedging.spend() {}
        let asked = (0..1000).filter(|_| hedging.begin().is_some() && hedging.spend()).count();
        assert!((49..=51).contains(&asked), "{asked}");
    }
}
