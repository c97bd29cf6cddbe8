//! A queue's sums as shards read them: numbers one by one, without a lock, so that no shard waits for anyone.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Counts, Depth};
use crate::image::outbox::{Fill, Reader};

/// See the module's description.
#[derive(Default)]
pub(super) struct Sums {
    depth: [AtomicU64; 5],
    counts: [AtomicU64; 11],
    /// Of each reader's outbox: what waits, is lost, and is dead.
    outboxes: [[AtomicU64; 3]; 2],
}

impl Sums {
    /// How full the queue is now.
    pub(super) fn set_depth(&self, depth: &Depth) {
        let Depth { interactive, bulk, leased, dead, waiting_cpu_us } = *depth;
        let values = [interactive, bulk, leased, dead, waiting_cpu_us];
        self.depth.iter().zip(values).for_each(|(sum, value)| sum.store(value, Ordering::Relaxed));
    }

    /// What happened since the start.
    pub(super) fn set_counts(&self, counts: &Counts) {
        self.counts.iter().zip(counts.values()).for_each(|(sum, value)| sum.store(value, Ordering::Relaxed));
    }

    /// What happened just now. A longest time is not added up.
    pub(super) fn add_counts(&self, counts: &Counts) {
        let [sums @ .., longest] = &self.counts;
        let [values @ .., took] = counts.values();
        for (sum, value) in sums.iter().zip(values) {
            sum.fetch_add(value, Ordering::Relaxed);
        }
        longest.fetch_max(took, Ordering::Relaxed);
    }

    /// How much of a reader's outbox is used.
    pub(super) fn set_fill(&self, reader: Reader, Fill { waiting, lost, dead }: Fill) {
        let values = [waiting, lost, dead];
        self.outboxes[reader as usize].iter().zip(values).for_each(|(sum, value)| sum.store(value, Ordering::Relaxed));
    }

    /// How many events wait in an outbox that is elsewhere.
    pub(super) fn set_waiting(&self, reader: Reader, waiting: u64) {
        self.outboxes[reader as usize][0].store(waiting, Ordering::Relaxed);
    }

    /// Events that found no room there just now.
    pub(super) fn add_lost(&self, reader: Reader, lost: u64) {
        self.outboxes[reader as usize][1].fetch_add(lost, Ordering::Relaxed);
    }

    /// How many dead letters of webhooks there are.
    pub(super) fn set_dead(&self, dead: u64) {
        self.outboxes[Reader::Webhooks as usize][2].store(dead, Ordering::Relaxed);
    }

    pub(super) fn fill(&self, reader: Reader) -> Fill {
        let [waiting, lost, dead] = self.outboxes[reader as usize].each_ref().map(|sum| sum.load(Ordering::Relaxed));
        Fill { waiting, lost, dead }
    }

    pub(super) fn depth(&self) -> Depth {
        let [interactive, bulk, leased, dead, waiting_cpu_us] =
            self.depth.each_ref().map(|sum| sum.load(Ordering::Relaxed));
        Depth { interactive, bulk, leased, dead, waiting_cpu_us }
    }

    pub(super) fn counts(&self) -> Counts {
        let values = self.counts.each_ref().map(|sum| sum.load(Ordering::Relaxed));
        let [accepted, joined, done, failed, died, cancelled, retried, expired, commits, calls, longest] = values;
        Counts {
            accepted,
            joined,
            done,
            failed,
            died,
            cancelled,
            retried,
            expired,
            commits,
            committed_calls: calls,
            commit_us_max: longest,
        }
    }
}

impl Counts {
    fn values(&self) -> [u64; 11] {
        let Counts { accepted, joined, done, failed, died, cancelled, retried, expired, .. } = *self;
        let commits = (self.commits, self.committed_calls, self.commit_us_max);
        [accepted, joined, done, failed, died, cancelled, retried, expired, commits.0, commits.1, commits.2]
    }
}
