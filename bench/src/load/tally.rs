//! What one thread counted between two looks at it. Tallies are handed over whole and added exactly.

use super::flight::{Flight, Verdict, reason};
use crate::histogram::{latencies, merge};
use crate::record::{INTERVAL_NS, Interval, Round};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::ops::Range;

/// Statuses that count as an answer.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Expected {
    /// 2xx and 3xx, and messages, which have none.
    #[default]
    Good,
    /// These.
    Only(Vec<u16>),
}

impl Expected {
    fn holds(&self, status: u16) -> bool {
        match self {
            Expected::Good => matches!(status, 0 | 200..=399),
            Expected::Only(all) => status == 0 || all.contains(&status),
        }
    }
}

/// See the module's description.
pub struct Tally {
    /// Meant to leave in the time that counts.
    pub offered: u64,
    /// Sent in it.
    pub sent: u64,
    /// Answered as expected.
    pub completed: u64,
    /// Failed, by reason.
    pub failed: BTreeMap<&'static str, u64>,
    /// How often each status came.
    pub statuses: BTreeMap<u16, u64>,
    /// What is odd and no request's failure.
    pub oddities: BTreeMap<&'static str, u64>,
    /// Bytes from the sockets.
    pub bytes_received: u64,
    /// Bytes to them.
    pub bytes_sent: u64,
    /// Connections opened.
    pub opened: u64,
    /// Requests sent again.
    pub resent: u64,
    /// As in [`Round`].
    pub latency: Histogram<u64>,
    /// As in [`Round`].
    pub uncorrected: Histogram<u64>,
    /// As in [`Round`].
    pub lateness: Histogram<u64>,
    /// As in [`Round`].
    pub intervals: Vec<Interval>,
    /// Completed and failed in the whole round, for whoever watches.
    pub seen: (u64, u64),
    counted: Range<u64>,
}

impl Tally {
    /// An empty one. What is meant for a time in `counted`, in nanoseconds, counts.
    pub fn new(counted: Range<u64>) -> Tally {
        Tally {
            offered: 0,
            sent: 0,
            completed: 0,
            failed: BTreeMap::new(),
            statuses: BTreeMap::new(),
            oddities: BTreeMap::new(),
            bytes_received: 0,
            bytes_sent: 0,
            opened: 0,
            resent: 0,
            latency: latencies(),
            uncorrected: latencies(),
            lateness: latencies(),
            intervals: Vec::new(),
            seen: (0, 0),
            counted,
        }
    }

    fn interval(&mut self, due: u64) -> &mut Interval {
        let index = (due / INTERVAL_NS) as usize;
        if self.intervals.len() <= index {
            self.intervals.resize(index + 1, Interval::default());
        }
        &mut self.intervals[index]
    }

    /// A request is due.
    pub fn on_due(&mut self, due: u64, now: u64, is_open_loop: bool) {
        self.interval(due).offered += 1;
        if self.counted.contains(&due) {
            self.offered += 1;
            if is_open_loop {
                self.lateness.saturating_record(now.saturating_sub(due).max(1));
            }
        }
    }

    /// It was given to a connection.
    pub fn on_sent(&mut self, due: u64) {
        self.sent += u64::from(self.counted.contains(&due));
    }

    /// Bytes passed a socket.
    pub fn on_bytes(&mut self, now: u64, received: u64, sent: u64) {
        if self.counted.contains(&now) {
            self.bytes_received += received;
            self.bytes_sent += sent;
        }
    }

    /// It has its verdict.
    pub fn on_verdict(&mut self, flight: &Flight, now: u64, verdict: Verdict, expected: &Expected) {
        let counts = self.counted.contains(&flight.due);
        let failure = match verdict {
            Verdict::Answered(status) => {
                if counts && status > 0 {
                    *self.statuses.entry(status).or_default() += 1;
                }
                (!expected.holds(status)).then(|| reason::of_status(status))
            }
            Verdict::Failed(reason) | Verdict::Unseen(reason) => Some(reason),
        };
        match failure {
            Some(reason) => {
                self.seen.1 += 1;
                self.interval(flight.due).failed += 1;
                if counts {
                    *self.failed.entry(reason).or_default() += 1;
                }
            }
            None => {
                let latency = now.saturating_sub(flight.due).max(1);
                self.seen.0 += 1;
                let interval = self.interval(flight.due);
                interval.completed += 1;
                interval.latency.record(latency);
                if counts {
                    self.completed += 1;
                    self.latency.saturating_record(latency);
                    self.uncorrected.saturating_record(now.saturating_sub(flight.sent).max(1));
                }
            }
        }
    }

    /// Adds to a round, and empties itself.
    pub fn drain_into(&mut self, round: &mut Round, extra: &mut Extra) {
        round.sent += std::mem::take(&mut self.sent);
        round.completed += std::mem::take(&mut self.completed);
        round.bytes_received += std::mem::take(&mut self.bytes_received);
        round.bytes_sent += std::mem::take(&mut self.bytes_sent);
        round.opened += std::mem::take(&mut self.opened);
        extra.offered += std::mem::take(&mut self.offered);
        extra.resent += std::mem::take(&mut self.resent);
        extra.seen.0 += self.seen.0;
        extra.seen.1 += self.seen.1;
        self.seen = (0, 0);
        for (reason, count) in std::mem::take(&mut self.failed) {
            *round.failed.entry(reason.to_owned()).or_default() += count;
        }
        for (status, count) in std::mem::take(&mut self.statuses) {
            *round.statuses.entry(status).or_default() += count;
        }
        for (what, count) in std::mem::take(&mut self.oddities) {
            *extra.oddities.entry(what).or_default() += count;
        }
        for (to, from) in [
            (&mut round.latency, &mut self.latency),
            (&mut round.uncorrected, &mut self.uncorrected),
            (&mut round.lateness, &mut self.lateness),
        ] {
            if !from.is_empty() {
                merge(to, from);
                from.reset();
            }
        }
        if round.intervals.len() < self.intervals.len() {
            round.intervals.resize(self.intervals.len(), Interval::default());
        }
        for (to, from) in round.intervals.iter_mut().zip(&mut self.intervals) {
            let from = std::mem::take(from);
            to.offered += from.offered;
            to.completed += from.completed;
            to.failed += from.failed;
            to.latency.merge(&from.latency);
        }
    }
}

/// What a round has beside its record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// Meant to leave in the time that counts.
    pub offered: u64,
    /// Requests sent again because the server had closed their connection before it saw them.
    pub resent: u64,
    /// What is odd and no request's failure.
    pub oddities: BTreeMap<&'static str, u64>,
    /// Completed and failed in the whole round.
    pub seen: (u64, u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(due: u64) -> Flight {
        Flight { due, sent: due + 10, serial: 0, request: 0, resent: false }
    }

    #[test]
    fn only_what_was_meant_for_the_time_that_counts_is_counted() {
        let mut tally = Tally::new(INTERVAL_NS..3 * INTERVAL_NS);
        for (due, verdict) in [
            (0, Verdict::Answered(200)),
            (INTERVAL_NS, Verdict::Answered(200)),
            (2 * INTERVAL_NS, Verdict::Answered(503)),
            (2 * INTERVAL_NS, Verdict::Failed(reason::RESET)),
            (3 * INTERVAL_NS, Verdict::Failed(reason::RESET)),
        ] {
            tally.on_due(due, due + 5, true);
            tally.on_sent(due);
            tally.on_verdict(&flight(due), due + 1000, verdict, &Expected::Good);
        }
        let (mut round, mut extra) = (Round::default(), Extra::default());
        tally.drain_into(&mut round, &mut extra);
        tally.drain_into(&mut round, &mut extra);
        assert_eq!((round.sent, round.completed, round.failures(), extra.offered), (3, 1, 2, 3));
        assert_eq!(round.failed, [("reset".to_owned(), 1), ("status 5xx".to_owned(), 1)].into());
        assert_eq!(round.statuses, [(200, 1), (503, 1)].into());
        assert_eq!((round.latency.len(), round.latency.max(), round.uncorrected.max()), (1, 1000, 990));
        assert_eq!(round.lateness.len(), 3);
        assert_eq!(
            round.intervals.iter().map(|i| (i.offered, i.completed, i.failed)).collect::<Vec<_>>(),
            [(1, 1, 0), (1, 1, 0), (2, 0, 2), (1, 0, 1)]
        );
        assert_eq!(extra.seen, (2, 3));
    }

    #[test]
    fn one_may_say_what_is_expected() {
        let expected = Expected::Only(vec![404]);
        let mut tally = Tally::new(0..10);
        tally.on_verdict(&flight(1), 2, Verdict::Answered(404), &expected);
        tally.on_verdict(&flight(1), 2, Verdict::Answered(200), &expected);
        assert_eq!((tally.completed, tally.failed), (1, [("status 2xx", 1)].into()));
    }
}
