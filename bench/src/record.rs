//! What a run leaves: every figure that a report shows, and enough raw data to compute it again.
//!
//! ```text
//!   Record ── facts (machine, commit, command)
//!          ├─ sides ── rounds ── histograms, counts, intervals (100 ms each), usage of the server
//!          ├─ rows  (what was asked, what was measured, whether it holds)
//!          └─ notes (what a reader must know: refusals, warnings, why two figures differ)
//! ```
//!
//! Sides are measured in turn, round after round. All times of a round are seconds or nanoseconds since it began, its
//! warm-up included; histograms hold only what was meant to leave between warm-up and cool-down.

use crate::histogram::{Coarse, latencies, merge, percentile_us};
use crate::report::Row;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Later than this at the 99th percentile, and the generator's latencies are refused.
pub const LATENESS_MAX_NS: u64 = 1_000_000;
/// Length of an [`Interval`], in nanoseconds.
pub const INTERVAL_NS: u64 = 100_000_000;

/// A run.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// What was measured, in a few words.
    pub title: String,
    /// Machine, versions, commit and command, by name.
    pub facts: Vec<(String, String)>,
    /// The servers measured. One, or several that were alternated.
    pub sides: Vec<Side>,
    /// The figures with their targets.
    pub rows: Vec<Row>,
    /// Sentences for the reader.
    pub notes: Vec<String>,
}

/// A server with its rounds.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// How it is called in tables and legends.
    pub name: String,
    /// In order.
    pub rounds: Vec<Round>,
}

/// One measured stretch of load on one server.
#[derive(Clone, Debug)]
pub struct Round {
    /// Seconds from the record's beginning to the round's.
    pub at_s: f64,
    /// Seconds at the beginning that are not counted.
    pub warm_up_s: f64,
    /// Seconds between warm-up and cool-down.
    pub seconds: f64,
    /// Requests or messages meant to leave in those, per second. Zero where the loop is closed.
    pub offered_per_s: f64,
    /// Of them sent.
    pub sent: u64,
    /// Of them answered as they should be.
    pub completed: u64,
    /// Of them not, by reason in a few words.
    pub failed: BTreeMap<String, u64>,
    /// How often each status came, where answers have one.
    pub statuses: BTreeMap<u16, u64>,
    /// Bytes received, heads included.
    pub bytes_received: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Connections opened, in the whole round.
    pub opened: u64,
    /// From intended sending to the last byte of the answer, in nanoseconds: the latency.
    pub latency: Histogram<u64>,
    /// From actual sending to the last byte, in nanoseconds: what a generator reports that forgives the server for
    /// holding it up.
    pub uncorrected: Histogram<u64>,
    /// From intended to actual sending, by the generator's own fault, in nanoseconds.
    pub lateness: Histogram<u64>,
    /// The whole round, by intended time.
    pub intervals: Vec<Interval>,
    /// The server's accounts, in order of time. Empty where its process is unknown.
    pub usage: Vec<Usage>,
}

impl Default for Round {
    fn default() -> Round {
        Round {
            at_s: 0.0,
            warm_up_s: 0.0,
            seconds: 0.0,
            offered_per_s: 0.0,
            sent: 0,
            completed: 0,
            failed: BTreeMap::new(),
            statuses: BTreeMap::new(),
            bytes_received: 0,
            bytes_sent: 0,
            opened: 0,
            latency: latencies(),
            uncorrected: latencies(),
            lateness: latencies(),
            intervals: Vec::new(),
            usage: Vec::new(),
        }
    }
}

/// A tenth of a second of a round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// Meant to leave in it.
    pub offered: u64,
    /// Of them answered as they should be, whenever.
    pub completed: u64,
    /// Of them failed.
    pub failed: u64,
    /// Latencies of those completed.
    pub latency: Coarse,
}

/// What the kernel said about a server at one moment. Counters only grow; differences are what counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Seconds since the round began.
    pub at_s: f64,
    /// Processor seconds in the program.
    pub user_s: f64,
    /// Processor seconds in the kernel on its behalf.
    pub system_s: f64,
    /// Resident set size, in bytes.
    pub rss: u64,
    /// Proportional set size, in bytes.
    pub pss: u64,
    /// Kernel slab memory of the whole machine, in bytes.
    pub slab: u64,
    /// Context switches that its threads asked for.
    pub voluntary: u64,
    /// Context switches forced upon them.
    pub involuntary: u64,
}

impl From<Vec<Row>> for Record {
    fn from(rows: Vec<Row>) -> Record {
        Record { rows, ..Record::default() }
    }
}

impl Record {
    /// Adds a round to the side of that name, which is made if there is none.
    pub fn add_round(&mut self, side: &str, round: Round) {
        match self.sides.iter_mut().find(|of| of.name == side) {
            Some(of) => of.rounds.push(round),
            None => self.sides.push(Side { name: side.to_owned(), rounds: vec![round] }),
        }
    }
}

/// The interval of a moment, in nanoseconds since the round began.
pub fn interval_of(intervals: &mut Vec<Interval>, ns: u64) -> &mut Interval {
    let index = (ns / INTERVAL_NS) as usize;
    if intervals.len() <= index {
        intervals.resize(index + 1, Interval::default());
    }
    &mut intervals[index]
}

impl Round {
    /// Whether the generator kept its schedule: its 99th percentile of lateness is below [`LATENESS_MAX_NS`].
    pub fn is_honest(&self) -> bool {
        self.lateness.is_empty() || self.lateness.value_at_quantile(0.99) <= LATENESS_MAX_NS
    }

    /// A percentile of the latency in microseconds; none when the generator was late, or nothing was completed.
    pub fn latency_us(&self, percentile: f64) -> Option<f64> {
        if self.is_honest() { percentile_us(&self.latency, percentile) } else { None }
    }

    /// Answers per second.
    pub fn per_s(&self) -> f64 {
        self.completed as f64 / self.seconds.max(1e-9)
    }

    /// Failures of all reasons.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// The server's processor seconds between the first and the last reading; none without two.
    pub fn cpu_s(&self) -> Option<f64> {
        let (first, last) = (self.usage.first()?, self.usage.last()?);
        (first.at_s < last.at_s).then_some(last.user_s + last.system_s - first.user_s - first.system_s)
    }

    /// Answers to what was meant to leave between two moments: all rounds are as even as their intervals say, and a server that
    /// died in the middle answered nothing after.
    pub fn answered_between(&self, from_s: f64, to_s: f64) -> f64 {
        if self.intervals.is_empty() {
            return self.per_s() * (to_s - from_s);
        }
        let middle = |index: usize| (index as f64 + 0.5) * INTERVAL_NS as f64 / 1e9;
        let within = self.intervals.iter().enumerate().filter(|(index, _)| (from_s..to_s).contains(&middle(*index)));
        within.map(|(_, interval)| interval.completed as f64).sum()
    }

    /// The server's processor microseconds per answer, between the first and the last reading.
    pub fn cpu_us_each(&self) -> Option<f64> {
        let (first, last) = (self.usage.first()?, self.usage.last()?);
        let answered = self.answered_between(first.at_s, last.at_s);
        self.cpu_s().filter(|_| answered > 0.0).map(|cpu_s| cpu_s * 1e6 / answered)
    }
}

impl Side {
    /// All rounds' latencies together.
    pub fn latency(&self) -> Histogram<u64> {
        self.merged(|round| &round.latency)
    }

    /// All rounds' uncorrected latencies together.
    pub fn uncorrected(&self) -> Histogram<u64> {
        self.merged(|round| &round.uncorrected)
    }

    /// All rounds' lateness together.
    pub fn lateness(&self) -> Histogram<u64> {
        self.merged(|round| &round.lateness)
    }

    /// Whether the generator kept its schedule in every round.
    pub fn is_honest(&self) -> bool {
        self.rounds.iter().all(Round::is_honest)
    }

    fn merged(&self, of: impl Fn(&Round) -> &Histogram<u64>) -> Histogram<u64> {
        let mut all = latencies();
        self.rounds.iter().for_each(|round| merge(&mut all, of(round)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_generator_gives_no_latency() {
        let mut round = Round { completed: 1, seconds: 2.0, ..Round::default() };
        round.latency.record(50_000).unwrap();
        round.lateness.record(1000).unwrap();
        assert!((round.latency_us(99.0).unwrap() - 50.0).abs() < 0.1);
        (0..10).for_each(|_| round.lateness.record(2 * LATENESS_MAX_NS).unwrap());
        assert_eq!((round.latency_us(99.0), round.is_honest(), round.per_s()), (None, false, 0.5));
    }

    #[test]
    fn processor_time_is_told_per_answer() {
        let reading = |at_s, user_s| Usage { at_s, user_s, system_s: user_s, ..Usage::default() };
        let usage = vec![reading(1.0, 5.0), reading(3.0, 5.5)];
        let round = Round { seconds: 4.0, completed: 4000, usage, ..Round::default() };
        assert_eq!((round.cpu_s(), round.cpu_us_each()), (Some(1.0), Some(500.0)));
        assert_eq!(Round::default().cpu_s(), None);
        // The server died after two seconds of four: what it did not answer it did not pay for.
        let interval = |index: usize| Interval { completed: if index < 20 { 100 } else { 0 }, ..Interval::default() };
        let usage = vec![reading(0.0, 5.0), reading(2.0, 5.1)];
        let intervals = (0..40).map(interval).collect();
        let dead = Round { seconds: 4.0, completed: 2000, usage, intervals, ..Round::default() };
        assert!((dead.cpu_us_each().unwrap() - 100.0).abs() < 0.1, "{:?}", dead.cpu_us_each());
    }
}
