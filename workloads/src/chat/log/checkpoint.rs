//! Which checkpoint is complete: the newest one whose end was said by all shards that there were.

use std::collections::BTreeSet;

use super::Lsn;
use super::record::Record;

/// Follows the marks of checkpoints in the order of the log.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// The newest number seen.
    pub(super) number: u64,
    /// Where the newest complete one begins.
    pub(super) complete: Option<Lsn>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    number: u64,
    begin: Lsn,
    ended: BTreeSet<u32>,
}

impl Checkpoints {
    /// For a new run: what was running when the last one ended is never completed.
    pub(super) fn resumed(self) -> Checkpoints {
        Checkpoints { running: None, ..self }
    }

    /// Whether one has begun and not ended.
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// A checkpoint begins; one that was running is never completed.
    pub(super) fn on_begin(&mut self, number: u64, begin: Lsn) {
        self.number = self.number.max(number);
        self.running = Some(Running { number, begin, ended: BTreeSet::new() });
    }

    /// A shard has said its state. Whether that completes the checkpoint.
    pub(super) fn on_end(&mut self, number: u64, shard: u32, shards: u32) -> bool {
        let Some(running) = self.running.as_mut().filter(|running| running.number == number) else { return false };
        if shard < shards {
            running.ended.insert(shard);
        }
        if running.ended.len() < shards as usize {
            return false;
        }
        self.complete = Some(running.begin);
        self.running = None;
        true
    }

    /// Notes a record that is a mark.
    pub(super) fn on_record(&mut self, lsn: Lsn, record: &Record<'_>) {
        match *record {
            Record::CheckpointBegin { number } => self.on_begin(number, lsn),
            Record::CheckpointEnd { number, shard, shards } => {
                self.on_end(number, shard, shards);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_complete_when_all_shards_have_ended_it() {
        let mut checkpoints = Checkpoints::default();
        checkpoints.on_begin(1, Lsn(100));
        assert!(!checkpoints.on_end(1, 0, 2));
        assert!(!checkpoints.on_end(1, 0, 2), "twice by the same shard");
        assert!(!checkpoints.on_end(1, 7, 2), "by a shard that there is not");
        assert!(checkpoints.is_running() && checkpoints.complete.is_none());
        assert!(checkpoints.on_end(1, 1, 2));
        assert_eq!((checkpoints.complete, checkpoints.is_running()), (Some(Lsn(100)), false));
    }

    #[test]
    fn one_that_was_overtaken_never_counts() {
        let mut checkpoints = Checkpoints { number: 4, complete: Some(Lsn(7)), running: None };
        checkpoints.on_begin(5, Lsn(100));
        checkpoints.on_begin(6, Lsn(200));
        assert!(!checkpoints.on_end(5, 0, 1));
        assert_eq!((checkpoints.complete, checkpoints.number), (Some(Lsn(7)), 6));
        checkpoints.on_record(Lsn(300), &Record::CheckpointEnd { number: 6, shard: 0, shards: 1 });
        assert_eq!(checkpoints.complete, Some(Lsn(200)));
        checkpoints.on_begin(7, Lsn(400));
        let mut checkpoints = checkpoints.resumed();
        assert!(!checkpoints.is_running() && !checkpoints.on_end(7, 0, 1));
        assert_eq!((checkpoints.complete, checkpoints.number), (Some(Lsn(200)), 7));
    }
}
