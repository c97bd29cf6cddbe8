//! What a run measured at the client: by segment of the profile, by class of request, and over time.

use crate::histogram::Coarse;
use crate::record::{INTERVAL_NS, Interval, LATENESS_MAX_NS, Round, Usage};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// One step of the timeline, in nanoseconds.
pub const STEP_NS: u64 = INTERVAL_NS;

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 120_000_000_000, 3).expect("these bounds are valid")
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// 200, and every service answered (or the gateway does not say).
    Complete,
    /// 200, without some services.
    Partial,
    /// 429 or 503: turned away.
    Rejected,
    /// Anything else, or nothing.
    Failed(&'static str),
}

/// Requests of one segment and class.
pub struct Tally {
    /// Requests sent.
    pub sent: u64,
    /// Complete answers.
    pub complete: u64,
    /// Partial answers.
    pub partial: u64,
    /// Requests turned away.
    pub rejected: u64,
    /// Requests that failed, by reason.
    pub failed: BTreeMap<&'static str, u64>,
    /// Answer time minus the slowest service's own time, in nanoseconds; of complete answers that tell it.
    pub added: Histogram<u64>,
    /// Answer time of complete and partial answers, in nanoseconds.
    pub total: Histogram<u64>,
    /// Answer time of rejections, in nanoseconds.
    pub rejection: Histogram<u64>,
    /// Body bytes of complete and partial answers.
    pub body_bytes: u64,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            sent: 0,
            complete: 0,
            partial: 0,
            rejected: 0,
            failed: BTreeMap::new(),
            added: histogram(),
            total: histogram(),
            rejection: histogram(),
            body_bytes: 0,
        }
    }
}

impl Tally {
    /// Requests that failed.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Failures in words.
    pub fn failures_text(&self) -> String {
        let each: Vec<String> = self.failed.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        if each.is_empty() { "no failures".to_owned() } else { each.join(", ") }
    }

    /// Answers with data.
    pub fn answered(&self) -> u64 {
        self.complete + self.partial
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Tally) {
        self.sent += other.sent;
        self.complete += other.complete;
        self.partial += other.partial;
        self.rejected += other.rejected;
        self.body_bytes += other.body_bytes;
        for (reason, count) in &other.failed {
            *self.failed.entry(reason).or_default() += count;
        }
        for (to, from) in
            [(&mut self.added, &other.added), (&mut self.total, &other.total), (&mut self.rejection, &other.rejection)]
        {
            to.add(from).expect("all histograms have the same bounds");
        }
    }
}

/// What happened to the requests that were meant for one tenth of a second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Answers with data.
    pub answered: u64,
    /// Requests turned away.
    pub rejected: u64,
    /// Requests that failed.
    pub failed: u64,
    /// The longest added time, in nanoseconds.
    pub added_most: u64,
    /// Answer times of answers with data.
    pub total: Coarse,
}

/// A run's results.
pub struct Outcome {
    /// By segment, then by class.
    pub tallies: Vec<Vec<Tally>>,
    /// By intended time.
    pub timeline: Vec<Step>,
    /// From intended to actual sending, in nanoseconds.
    pub lateness: Histogram<u64>,
    /// Seconds until the last answer.
    pub seconds: f64,
    /// Connections opened.
    pub opened: u64,
    /// Requests sent again because the server had closed their connection before it saw them.
    pub resent: u64,
}

impl Outcome {
    /// An empty result.
    pub fn new(segments: usize, classes: usize) -> Outcome {
        let row = || (0..classes).map(|_| Tally::default()).collect();
        Outcome {
            tallies: (0..segments).map(|_| row()).collect(),
            timeline: Vec::new(),
            lateness: histogram(),
            seconds: 0.0,
            opened: 0,
            resent: 0,
        }
    }

    /// Adds what another run of as many segments and classes measured; the timeline stays this one's.
    pub fn add(&mut self, other: &Outcome) {
        for (to, from) in self.tallies.iter_mut().flatten().zip(other.tallies.iter().flatten()) {
            to.add(from);
        }
        self.lateness.add(&other.lateness).expect("all histograms have the same bounds");
        self.seconds += other.seconds;
        self.opened += other.opened;
        self.resent += other.resent;
    }

    /// As a round of a record, at so many requests per second.
    pub fn round(&self, offered_per_s: f64, usage: Vec<Usage>) -> Round {
        let whole = self.whole();
        let interval = |step: &Step| Interval {
            offered: step.answered + step.rejected + step.failed,
            completed: step.answered,
            failed: step.rejected + step.failed,
            latency: step.total.clone(),
        };
        let mut failed: BTreeMap<String, u64> =
            whole.failed.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
        if whole.rejected > 0 {
            failed.insert("turned away".to_owned(), whole.rejected);
        }
        Round {
            seconds: self.seconds,
            offered_per_s,
            sent: whole.sent,
            completed: whole.answered(),
            failed,
            bytes_received: whole.body_bytes,
            opened: self.opened,
            latency: whole.total,
            lateness: self.lateness.clone(),
            intervals: self.timeline.iter().map(interval).collect(),
            usage,
            ..Round::default()
        }
    }

    /// A segment over all classes.
    pub fn segment(&self, segment: usize) -> Tally {
        self.tallies[segment].iter().fold(Tally::default(), added)
    }

    /// A class over all segments.
    pub fn class(&self, class: usize) -> Tally {
        self.tallies.iter().map(|row| &row[class]).fold(Tally::default(), added)
    }

    /// Everything.
    pub fn whole(&self) -> Tally {
        self.tallies.iter().flatten().fold(Tally::default(), added)
    }

    /// Whether the generator kept its schedule: otherwise its latencies are its own.
    pub fn is_honest(&self) -> bool {
        self.lateness.is_empty() || self.lateness.value_at_quantile(0.99) <= LATENESS_MAX_NS
    }

    /// Notes what became of a request meant for `due` and answered `took` later, of which the services needed
    /// `service`.
    pub fn on_verdict(&mut self, of: (usize, usize), due: u64, took: u64, service: Option<u64>, verdict: Verdict) {
        let step = (due / STEP_NS) as usize;
        if self.timeline.len() <= step {
            self.timeline.resize(step + 1, Step::default());
        }
        let (step, tally) = (&mut self.timeline[step], &mut self.tallies[of.0][of.1]);
        match verdict {
            Verdict::Complete | Verdict::Partial => {
                step.answered += 1;
                step.total.record(took);
                tally.total.saturating_record(took);
                if verdict == Verdict::Partial {
                    // The slowest service may be the one that is missing: nothing is known about the added time.
                    tally.partial += 1;
                } else {
                    tally.complete += 1;
                    if let Some(service) = service {
                        let added = took.saturating_sub(service);
                        tally.added.saturating_record(added);
                        step.added_most = step.added_most.max(added);
                    }
                }
            }
            Verdict::Rejected => {
                step.rejected += 1;
                tally.rejected += 1;
                tally.rejection.saturating_record(took);
            }
            Verdict::Failed(reason) => {
                step.failed += 1;
                *tally.failed.entry(reason).or_default() += 1;
            }
        }
    }
}

fn added(mut sum: Tally, tally: &Tally) -> Tally {
    sum.add(tally);
    sum
}

/// A percentile in milliseconds; none of nothing.
pub fn percentile_ms(histogram: &Histogram<u64>, percentile: f64) -> Option<f64> {
    (!histogram.is_empty()).then(|| histogram.value_at_quantile(percentile / 100.0) as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_counted_where_they_belong() {
        let mut outcome = Outcome::new(2, 2);
        outcome.on_verdict((0, 0), 0, 5_000_000, Some(4_000_000), Verdict::Complete);
        outcome.on_verdict((0, 1), STEP_NS, 5_000_000, Some(1), Verdict::Partial);
        outcome.on_verdict((1, 0), 3 * STEP_NS, 100_000, None, Verdict::Rejected);
        outcome.on_verdict((1, 1), 3 * STEP_NS, 1, None, Verdict::Failed("timeout"));
        let whole = outcome.whole();
        assert_eq!((whole.complete, whole.partial, whole.rejected, whole.failures()), (1, 1, 1, 1));
        assert_eq!(outcome.segment(0).answered(), 2);
        assert_eq!(outcome.class(1).failures_text(), "1 timeout");
        let added = percentile_ms(&whole.added, 50.0).unwrap();
        assert!((added - 1.0).abs() < 0.01, "{added}");
        assert_eq!(whole.added.len(), 1);
        assert_eq!(outcome.timeline.len(), 4);
        assert_eq!(outcome.timeline[3], Step { rejected: 1, failed: 1, ..Step::default() });
    }
}
