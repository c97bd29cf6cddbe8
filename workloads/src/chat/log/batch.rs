//! What is written at once: records that wait, framed one behind the other into the current segment.

use std::collections::VecDeque;

use super::Lsn;
use super::record::{PREFIX_BYTES, Record, kind, split_record};
use super::segment::{FRAME_BYTES, Identity, Segment};
use super::writer::Append;

/// Where a batch goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) segment: Segment,
    pub(super) identity: Identity,
    /// Its first byte.
    pub(super) at: Lsn,
    /// Its number.
    pub(super) number: u64,
    /// Most bytes of it; a longer record goes alone.
    pub(super) bytes_max: usize,
    /// Whether anything is ever synced.
    pub(super) may_sync: bool,
}

/// What a shard has in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) shard: usize,
    /// Its newest record in it.
    pub(super) last: u64,
    /// Where that ends.
    pub(super) end: Lsn,
    /// Whether it wants to know when it was written, before it is synced.
    pub(super) tells_written: bool,
}

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) records: u64,
    /// Bytes of hand-overs that are in it to their end.
    pub(super) taken: u64,
    /// Whether a sync follows.
    pub(super) syncs: bool,
    /// Whether the segment is full behind it.
    pub(super) turns: bool,
    /// At most one per shard.
    pub(super) shares: Vec<Share>,
    /// The checkpoint that begins in it, and where.
    pub(super) begins: Option<(u64, Lsn)>,
    /// Ends of checkpoints in it: number, shard, shards.
    pub(super) ends: Vec<(u64, u32, u32)>,
    /// Where its last frame begins.
    last_frame: usize,
}

/// Why a record did not go into a batch.
enum NoRoom {
    /// The batch is long enough.
    Batch,
    /// The segment has no room for it.
    Segment,
}

impl Batch {
    fn end(&self, place: &Place) -> Lsn {
        Lsn(place.at.0 + self.bytes.len() as u64)
    }

    fn put(&mut self, place: &Place, kind: u8, payload: &[u8]) -> Result<(), NoRoom> {
        let frame = FRAME_BYTES + payload.len();
        if !self.bytes.is_empty() && self.bytes.len() + frame > place.bytes_max {
            return Err(NoRoom::Batch);
        }
        let room = place.segment.end().0 - self.end(place).0;
        // A filler must fit behind it, unless nothing must.
        if frame as u64 != room && (frame + FRAME_BYTES) as u64 > room {
            return Err(NoRoom::Segment);
        }
        self.last_frame = self.bytes.len();
        place.identity.put_record(&mut self.bytes, place.number, kind, payload);
        self.records += 1;
        Ok(())
    }

    /// Fills the segment up if it is full, and marks the batch's end.
    fn close(&mut self, place: &Place) {
        let room = place.segment.end().0 - self.end(place).0;
        if self.turns && room > 0 {
            self.last_frame = self.bytes.len();
            place.identity.put_filler(&mut self.bytes, place.number, room);
        }
        self.turns |= room == 0;
        // A segment is durable before the next one is begun: no batch lies in two.
        self.syncs = place.may_sync && (self.syncs || self.turns);
        if self.syncs {
            place.identity.end_batch(&mut self.bytes[self.last_frame..]);
        }
    }

    fn share(&mut self, place: &Place, append: &Append) {
        let share =
            Share { shard: append.shard, last: append.last, end: self.end(place), tells_written: append.tells_written };
        match self.shares.iter_mut().find(|share| share.shard == append.shard) {
            Some(known) => *known = Share { tells_written: share.tells_written || known.tells_written, ..share },
            None => self.shares.push(share),
        }
    }
}

/// Records that wait for their batch.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    appends: VecDeque<Append>,
    /// Bytes of the first one that are in batches already.
    begun: usize,
    /// A checkpoint that shall begin with the next batch.
    begin: Option<u64>,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.appends.is_empty() && self.begin.is_none()
    }

    pub(super) fn push(&mut self, append: Append) {
        self.appends.push_back(append);
    }

    /// Begins a checkpoint with the next batch.
    pub(super) fn begin_checkpoint(&mut self, number: u64) {
        self.begin = Some(number);
    }

    /// Takes what goes into the next batch. It is empty of records when the segment had no room for the next one.
    ///
    /// # Errors
    /// What was handed over are not records, or one that fits into no segment: our own mistake.
    pub(super) fn take(&mut self, place: &Place) -> Result<Batch, String> {
        let mut batch = Batch::default();
        if let Some(number) = self.begin {
            let at = batch.end(place);
            let mut record = Vec::new();
            let begin = Record::CheckpointBegin { number };
            super::write_record(&mut record, &begin).expect("a number is shorter than the longest record");
            match batch.put(place, kind::CHECKPOINT_BEGIN, &record[PREFIX_BYTES..]) {
                Ok(()) => batch.begins = self.begin.take().map(|number| (number, at)),
                Err(_) => batch.turns = true,
            }
        }
        while !batch.turns
            && let Some(append) = self.appends.front()
        {
            let rest = &append.bytes[self.begun..];
            if !rest.is_empty() {
                let (kind, payload, after) = record_of(rest, append)?;
                match batch.put(place, kind, payload) {
                    Ok(()) => {}
                    Err(NoRoom::Batch) => break,
                    Err(NoRoom::Segment) => {
                        fits_anywhere(payload.len(), &place.segment)?;
                        batch.turns = true;
                        break;
                    }
                }
                if let Some(Record::CheckpointEnd { number, shard, shards }) =
                    (kind == kind::CHECKPOINT_END).then(|| Record::decode(kind, payload)).flatten()
                {
                    batch.ends.push((number, shard, shards));
                    batch.syncs = true;
                }
                batch.syncs |= append.sync;
                self.begun = append.bytes.len() - after.len();
            }
            if self.begun == append.bytes.len() {
                batch.share(place, append);
                batch.taken += append.bytes.len() as u64;
                self.begun = 0;
                self.appends.pop_front();
            }
        }
        batch.close(place);
        Ok(batch)
    }
}

fn record_of<'a>(rest: &'a [u8], append: &Append) -> Result<(u8, &'a [u8], &'a [u8]), String> {
    let known = |kind: u8| kind::is_known(kind) && !matches!(kind, kind::FILLER | kind::CHECKPOINT_BEGIN);
    split_record(rest).filter(|(kind, ..)| known(*kind)).ok_or_else(|| {
        format!("shard {} handed over bytes that are no records, up to its {}", append.shard, append.last)
    })
}

fn fits_anywhere(payload: usize, segment: &Segment) -> Result<(), String> {
    let room = segment.end().0 - segment.body().0;
    match (payload + 2 * FRAME_BYTES) as u64 <= room {
        true => Ok(()),
        false => Err(format!("a record of {payload} bytes fits into no segment of {} bytes", segment.bytes)),
    }
}
