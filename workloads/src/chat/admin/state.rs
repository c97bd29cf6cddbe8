//! What the console is told: figures of the moment, totals since the start, and times of the last seconds.
//!
//! Totals are totals; the page makes rates of them, so that any number of pages may look, each at its own pace. Times are
//! quantiles over the last [`WINDOW_MS`], which needs something to compare with: the figures of an earlier look.

use std::collections::{BTreeMap, VecDeque};

use annulus_engine::metrics::Snapshot;
use serde::Serialize;

/// Quantiles are over this time, in milliseconds, or as much of it as somebody has looked.
pub const WINDOW_MS: u64 = 10_000;
/// Looks that are nearer to the one before are not kept to compare with, in milliseconds.
const SPACING_MS: u64 = 500;
/// After so long without a look, in milliseconds, the next one begins anew: its quantiles would be of the past.
const FORGET_MS: u64 = 15_000;

/// Everything.
#[derive(Clone, Debug, Default, Serialize)]
pub struct State<'a> {
    /// Milliseconds of the Unix clock, as it was when the node started: it never goes back.
    pub now_ms: u64,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// What the node calls itself.
    pub name: &'a str,
    /// The release.
    pub version: &'a str,
    /// Where all metrics are, if anywhere.
    pub metrics: Option<&'a str>,
    /// By shard.
    pub shards: Vec<OfShard>,
    /// From publications' numbers to their hand-over to members; none: there were none.
    pub delivery: Option<Times>,
    /// The write-ahead log, if there is one.
    pub log: Option<OfLog<'a>>,
    /// The database, if there is one.
    pub database: Option<OfDatabase>,
}

impl State<'_> {
    /// As JSON.
    pub fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers, texts and lists of them can always be written")
    }
}

/// One shard's figures: the metrics of the same names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OfShard {
    /// Connected clients.
    pub clients: u64,
    /// Users with clients here.
    pub users: u64,
    /// Channels known here.
    pub channels: u64,
    /// Subscriptions of clients here.
    pub subscriptions: u64,
    /// Publications that wait for what was promised.
    pub unsettled: u64,
    /// Bytes that wait for clients.
    pub outbound_bytes: u64,
    /// Commands so far.
    pub commands: u64,
    /// Of them, refused.
    pub refused: u64,
    /// Publications numbered here so far.
    pub publications: u64,
    /// Publications whose key was known.
    pub repeated: u64,
    /// Publications handed to members so far.
    pub deliveries: u64,
    /// Times that a member was too slow.
    pub slow: u64,
    /// Times that one had to begin anew.
    pub fallen_off: u64,
    /// Publications that slow members were not given.
    pub dropped: u64,
    /// WebSockets that were not opened.
    pub turned_away: u64,
    /// Connections that the server closed, by close code; without codes that did not occur.
    pub closed: BTreeMap<String, u64>,
    /// Connections open, HTTP among them.
    pub connections: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// Microseconds that turns worked: its growth per second is the shard's load.
    pub busy_us: u64,
    /// How long turns worked.
    pub turn: Option<Times>,
    /// Turns that lasted too long.
    pub stalls: u64,
    /// Letters that did not fit into a mailbox.
    pub mailbox_full: u64,
}

/// The log's figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OfLog<'a> {
    /// Bytes that it holds.
    pub used_bytes: u64,
    /// Bytes that it may hold.
    pub bytes_max: u64,
    /// Bytes on their way to it.
    pub waiting_bytes: u64,
    /// How long `fdatasync` took.
    pub sync: Option<Times>,
    /// New publications are refused for want of room.
    pub is_full: bool,
    /// Why it has failed and the node is read-only.
    pub failure: Option<&'a str>,
}

/// The database's figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OfDatabase {
    /// Bytes of the log that it has still to get.
    pub lag_bytes: u64,
    /// How long the oldest row that it has not got waits, in milliseconds.
    pub lag_ms: u64,
    /// Rows that it has.
    pub rows: u64,
    /// Rows that it had before.
    pub repeated: u64,
    /// Attempts that failed.
    pub retries: u64,
    /// Rows that it refuses.
    pub dead_letters: u64,
    /// Connections open.
    pub connected: u64,
    /// What went wrong last, if it still does.
    pub last_error: Option<String>,
}

/// Quantiles of times within the last seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Times {
    /// How many there were.
    pub count: u64,
    /// Half took no longer, in microseconds.
    pub p50_us: u64,
    /// 99 of 100.
    pub p99_us: u64,
    /// 999 of 1000.
    pub p999_us: u64,
}

impl Times {
    fn of(snapshot: &Snapshot) -> Option<Times> {
        let [p50_us, p99_us, p999_us] = [0.5, 0.99, 0.999].map(|q| snapshot.quantile(q));
        (snapshot.count() > 0).then(|| Times { count: snapshot.count(), p50_us, p99_us, p999_us })
    }
}

/// A histogram as it was at earlier looks.
#[derive(Default)]
pub struct Recent {
    kept: VecDeque<(u64, Snapshot)>,
}

impl Recent {
    /// What was recorded within the last `WINDOW_MS`; none: nothing, or nobody has looked so that it could be known.
    pub fn look(&mut self, now_ms: u64, snapshot: Snapshot) -> Option<Times> {
        let since = |at: &(u64, Snapshot)| now_ms.saturating_sub(at.0);
        if self.kept.back().is_some_and(|last| since(last) > FORGET_MS) {
            self.kept.clear();
        }
        while self.kept.get(1).is_some_and(|second| since(second) >= WINDOW_MS) {
            self.kept.pop_front();
        }
        let times = self.kept.front().and_then(|(_, first)| Times::of(&snapshot.since(first)));
        if self.kept.back().is_none_or(|last| since(last) >= SPACING_MS) {
            self.kept.push_back((now_ms, snapshot));
        }
        times
    }
}

/// What quantiles are told of.
#[derive(Default)]
pub struct Measured {
    /// Deliveries.
    pub delivery: Recent,
    /// The log's `fdatasync`.
    pub sync: Recent,
    /// Turns, by shard.
    pub turns: Vec<Recent>,
}

#[cfg(test)]
mod tests {
    use annulus_engine::metrics::Histogram;

    use super::*;

    #[test]
    fn quantiles_are_of_the_last_seconds() {
        let (histogram, mut recent) = (Histogram::default(), Recent::default());
        histogram.record(1_000_000);
        assert_eq!(recent.look(0, histogram.snapshot()), None, "nothing to compare with");
        assert_eq!(recent.look(1000, histogram.snapshot()), None, "nothing since");
        for second in 2..20 {
            histogram.record(second);
            let times = recent.look(second * 1000, histogram.snapshot()).unwrap();
            assert_eq!(times.count, (second - 1).min(10), "at {second} s");
            assert!((times.p50_us..=times.p99_us).contains(&times.p50_us) && times.p99_us < 1_000_000);
        }
        assert!(recent.kept.len() <= 1 + (WINDOW_MS / SPACING_MS) as usize);
        let much_later = 20_000 + FORGET_MS;
        histogram.record(5);
        assert_eq!(recent.look(much_later, histogram.snapshot()), None);
        histogram.record(7);
        let times = recent.look(much_later + 100, histogram.snapshot()).unwrap();
        assert_eq!(times, Times { count: 1, p50_us: 7, p99_us: 7, p999_us: 7 });
        assert_eq!(recent.kept.len(), 1, "looks that are near to each other are one");
    }

    #[test]
    fn the_state_is_json_that_the_page_reads() {
        let shard = OfShard { clients: 3, closed: [("3008".to_owned(), 2)].into(), ..OfShard::default() };
        let log = OfLog { failure: Some("a \"broken\" disk"), ..OfLog::default() };
        let state = State { name: "n", shards: vec![shard], log: Some(log), ..State::default() };
        let value: serde_json::Value = serde_json::from_slice(&state.write()).unwrap();
        assert_eq!(value["shards"][0]["closed"]["3008"], 2);
        assert_eq!(value["log"]["failure"], "a \"broken\" disk");
        assert!(value["database"].is_null() && value["delivery"].is_null());
        // Every member that the script reads is there.
        let script = include_str!("page.js");
        for name in value["shards"][0].as_object().unwrap().keys() {
            assert!(script.contains(name.as_str()), "the page shows {name}");
        }
    }
}
