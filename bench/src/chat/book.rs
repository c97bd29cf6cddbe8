//! What a fleet of clients measured: times, and what happened to its connections.

use super::tally::Tally;
use crate::histogram::latencies;
use crate::record::{Interval, LATENESS_MAX_NS, interval_of};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Times in nanoseconds. Those of messages count from when the publication was meant to leave.
pub struct Times {
    /// Until each receiver had it.
    pub delivery: Histogram<u64>,
    /// Until the publisher had its reply.
    pub acknowledgement: Histogram<u64>,
    /// Until it left: the generator's own lateness.
    pub lateness: Histogram<u64>,
    /// From the start of a connection to its upgrade.
    pub handshake: Histogram<u64>,
    /// From there to the last reply to what a client subscribes.
    pub joining: Histogram<u64>,
    /// Deliveries by when they were meant to leave, since the load began.
    pub intervals: Vec<Interval>,
    /// When that was.
    pub began: u64,
}

impl Default for Times {
    fn default() -> Times {
        Times {
            delivery: latencies(),
            acknowledgement: latencies(),
            lateness: latencies(),
            handshake: latencies(),
            joining: latencies(),
            intervals: Vec::new(),
            began: 0,
        }
    }
}

impl Times {
    /// Notes that something meant to leave at `due` was delivered at `now`.
    pub fn on_delivery(&mut self, due: u64, now: u64) {
        let latency = now.saturating_sub(due).max(1);
        self.delivery.saturating_record(latency);
        let interval = interval_of(&mut self.intervals, due.saturating_sub(self.began));
        interval.offered += 1;
        interval.completed += 1;
        interval.latency.record(latency);
    }

    /// Whether the generator kept its schedule: otherwise latencies are its own.
    pub fn is_honest(&self) -> bool {
        self.lateness.is_empty() || self.lateness.value_at_quantile(0.99) <= LATENESS_MAX_NS
    }
}

/// What happened to connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Upgrades refused with 503.
    pub busy: u64,
    /// Attempts that failed otherwise, by reason.
    pub failed: BTreeMap<String, u64>,
    /// Living connections that ended, by reason.
    pub ended: BTreeMap<String, u64>,
    /// Subscriptions that went on where they were.
    pub recovered: u64,
    /// Subscriptions that could not.
    pub unrecovered: u64,
    /// Publications that came with a subscription.
    pub caught_up: u64,
    /// Subscriptions that the server ended.
    pub unsubscribed: u64,
    /// Publish commands answered with an error, by code.
    pub errors: BTreeMap<u32, u64>,
    /// Publications without a living client to send them.
    pub unsent: u64,
}

/// All of it.
pub struct Book {
    /// Who received what.
    pub tally: Tally,
    /// How long it took.
    pub times: Times,
    /// What happened on the way.
    pub events: Events,
    /// Bytes received, of everything.
    pub bytes: u64,
}

impl Book {
    /// Nothing yet.
    pub fn new(rooms_of: &[usize]) -> Book {
        Book { tally: Tally::new(rooms_of), times: Times::default(), events: Events::default(), bytes: 0 }
    }
}

/// A percentile in milliseconds; none of nothing.
pub fn ms(histogram: &Histogram<u64>, percentile: f64) -> Option<f64> {
    (!histogram.is_empty()).then(|| histogram.value_at_quantile(percentile / 100.0) as f64 / 1e6)
}

/// Counts by reason, in words.
pub fn words<K: std::fmt::Display>(counts: &BTreeMap<K, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    counts.iter().map(|(reason, count)| format!("{count} x {reason}")).collect::<Vec<_>>().join(", ")
}
