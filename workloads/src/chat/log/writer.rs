//! The one task that writes the log.
//!
//! ```text
//!   letters ─► backlog ─► batch ─► write ─► Told::Written ─► fdatasync ─► Told::Durable ─► next batch
//!                 ▲                                                                            │
//!                 └────────────────── what came meanwhile ◄────────────────────────────────────┘
//! ```
//!
//! An idle log writes at once; a busy one writes together what came while the disk was busy. So the number of syncs
//! depends on the disk and not on the load, and no timer is needed.
//!
//! A failed write or sync ends it: the page cache may say otherwise than the disk from then on, and a second sync would
//! say that all is well (Linux reports a lost page once). Every shard is told, nothing is acknowledged any more, and the
//! next start reads what the disk has.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use annulus_engine::{File, Frame, Inbox, JoinHandle, OpenOptions, Shard};

use super::batch::{Backlog, Batch, Place, Share};
use super::checkpoint::Checkpoints;
use super::keeper::{Keeper, READY_INBOX, Ready, WORK_INBOX, Work};
use super::meters::Meters;
use super::replay::Opened;
use super::segment::{Identity, Segment};
use super::state::LogState;
use super::{LogId, Lsn, Options, tell_people};

/// How long a process without descriptors waits before it tries again.
const DESCRIPTORS_RETRY: Duration = Duration::from_millis(250);

/// The inbox of the writer, on its shard.
pub const LOG_INBOX: &str = "chat log";

/// Records of one shard, in order: see [`write_record`](super::write_record).
#[derive(Debug)]
pub struct Append {
    /// Whose they are.
    pub shard: usize,
    /// The shard's own number of the last of them; rises from hand-over to hand-over.
    pub last: u64,
    /// Whether they are to be synced; else they are, with the next batch that is.
    pub sync: bool,
    /// Whether the shard wants to know when they are written, before they are synced.
    pub tells_written: bool,
    /// The records.
    pub bytes: Vec<u8>,
}

/// What the writer may be sent.
#[derive(Debug)]
pub enum LogLetter {
    /// Records. Best sent with [`LogState::append`], which counts what waits.
    Append(Append),
    /// Everything below is in the database.
    Fed {
        /// The place.
        lsn: Lsn,
    },
    /// Make a checkpoint now, if none is under way.
    Checkpoint,
    /// Write what came before this, sync it, and end.
    Finish,
}

/// What the writer tells a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// `write` has returned for its records up to `last`. Told only where [`Append::tells_written`] asks for it.
    Written {
        /// The shard's own number.
        last: u64,
        /// Where that record ends.
        end: Lsn,
    },
    /// Its records up to `last` are on stable storage. Once per shard and sync.
    Durable {
        /// The shard's own number.
        last: u64,
        /// Where that record ends.
        end: Lsn,
    },
    /// Append your state now: every channel, what is kept of its history, every key whose publication is not among
    /// that; and a [`CheckpointEnd`](super::Record::CheckpointEnd) of this number behind it. Better in hand-overs of some
    /// 64 KiB than in one. Whoever replays may see a publication twice, here and as itself: the offset tells.
    Checkpoint {
        /// The checkpoint's number.
        number: u64,
    },
    /// The log has failed, for the reason given. Nothing is acknowledged from now on; what was handed over and not told
    /// may be there at the next start or not.
    Failed(String),
}

/// A writer that runs. Dropping this lets it run on.
pub struct WriterHandle {
    /// What all threads may see.
    pub state: Arc<LogState>,
    /// What is shown in `/metrics`.
    pub meters: Meters,
    shard: Shard,
    task: JoinHandle<()>,
    keeper: JoinHandle<()>,
}

impl WriterHandle {
    /// Waits until everything that came before is written and synced and released segments are put away, and ends the
    /// writer. Call it when no shard appends
    /// any more.
    pub async fn finish(self) {
        post_here(&self.shard, LOG_INBOX, LogLetter::Finish);
        post_here(&self.shard, WORK_INBOX, Work::Hurry);
        // A task that ended by a panic has said so.
        let _ended = self.task.await;
        let _ended = self.keeper.await;
    }
}

/// Posts to this shard itself.
pub(super) fn post_here<T: Send + std::fmt::Debug + 'static>(shard: &Shard, inbox: &'static str, letter: T) {
    shard.post(shard.index(), inbox, letter).expect("a letter to oneself always fits");
}

/// See the module's description.
pub struct Writer {
    shard: Shard,
    on: Box<dyn Fn(usize, Told)>,
    state: Arc<LogState>,
    meters: Meters,
    options: Options,
    id: LogId,
    inbox: Inbox<LogLetter>,
    ready: Inbox<Ready>,
    backlog: Backlog,
    /// All that are needed, oldest first; the last is written to.
    segments: VecDeque<Segment>,
    at: Lsn,
    /// The number of the batch that is begun next, or continued: it rises with every sync.
    batch: u64,
    /// What was written and not synced.
    unsynced: Vec<Share>,
    checkpoints: Checkpoints,
    /// Where the newest checkpoint began, or was completed.
    checkpoint_at: Lsn,
    checkpoint_wanted: bool,
    fed: Option<Lsn>,
    finishes: bool,
    /// Kept open: it is locked for as long as somebody writes.
    _lock: std::fs::File,
}

impl Writer {
    /// Starts the writer on `shard`; `on` is called there with what is to be told to which shard. All shards of the
    /// engine are asked for checkpoints. One writer per engine.
    ///
    /// # Panics
    /// When this is not the shard of [`Options::shard`].
    pub fn start(shard: &Shard, opened: Opened, on: impl Fn(usize, Told) + 'static) -> WriterHandle {
        let Opened { state, options, id, segments, spares, next_spare, next, batch, checkpoints, lock, .. } = opened;
        let meters = Meters::new(shard.metrics());
        assert_eq!(shard.index(), options.shard, "the writer is started where records are sent to");
        let keeper = Keeper::new(
            shard,
            state.clone(),
            options.directory.clone(),
            id,
            options.segment_bytes,
            (spares, next_spare),
            meters.clone(),
        );
        let keeper = shard.spawn_background(keeper.run());
        let writer = Writer {
            shard: shard.clone(),
            on: Box::new(on),
            state: state.clone(),
            meters: meters.clone(),
            inbox: shard.inbox(LOG_INBOX),
            ready: shard.inbox(READY_INBOX),
            backlog: Backlog::default(),
            segments,
            at: next,
            batch,
            unsynced: Vec::new(),
            // What was not replayed counts as checkpointed.
            checkpoint_at: checkpoints.complete.unwrap_or_default(),
            checkpoints,
            checkpoint_wanted: false,
            fed: None,
            finishes: false,
            options,
            id,
            _lock: lock,
        };
        let task = shard.spawn(writer.run());
        WriterHandle { state, meters, shard: shard.clone(), task, keeper }
    }

    async fn run(mut self) {
        if let Err(reason) = self.work().await {
            self.fail(&reason);
            while !self.finishes {
                // Nothing is written any more, and who sent it was told so.
                if let LogLetter::Finish = self.inbox.recv().await {
                    self.finishes = true;
                }
            }
        }
        post_here(&self.shard, WORK_INBOX, Work::End);
    }

    fn fail(&mut self, reason: &str) {
        let reason = format!(
            "{reason}. Nothing beyond {} is acknowledged, and this node takes no more publications. Fix: look at the \
             disk (dmesg, df), then start again",
            self.state.durable_lsn()
        );
        tell_people(format_args!("THE LOG HAS FAILED: {reason}."));
        self.state.set_failure(&reason);
        self.meters.failed.set(1);
        for shard in 0..self.shard.count() {
            (self.on)(shard, Told::Failed(reason.clone()));
        }
    }

    async fn work(&mut self) -> Result<(), String> {
        self.release();
        self.prepare_next();
        let mut file = self.open_current().await?;
        loop {
            while let Some(letter) = self.inbox.try_recv() {
                self.on_letter(letter);
            }
            self.consider_checkpoint();
            if self.backlog.is_empty() && self.finishes {
                return if self.unsynced.is_empty() { Ok(()) } else { self.sync(&file).await };
            }
            if self.backlog.is_empty() {
                let letter = self.inbox.recv().await;
                self.on_letter(letter);
                continue;
            }
            if self.write_batch(&file).await? {
                file = self.next_segment().await?;
            }
        }
    }

    fn current(&self) -> Segment {
        *self.segments.back().expect("there is always a segment to write to")
    }

    /// Opens the current segment. Nothing of it was written yet, so a process that has no descriptor left for it waits until
    /// it has one, and the log is no worse for that.
    async fn open_current(&mut self) -> Result<File, String> {
        let path = self.current().path(&self.options.directory);
        let mut waits = false;
        loop {
            let opened = self.shard.open(&path, OpenOptions { write: true, ..OpenOptions::default() }).await;
            match opened {
                Ok(file) => {
                    if waits {
                        tell_people(format_args!("the log goes on."));
                    }
                    return Ok(file);
                }
                Err(error) if lacks_descriptors(&error) && !self.finishes => {
                    if !std::mem::replace(&mut waits, true) {
                        tell_people(format_args!(
                            "the log waits: opening {}: {error}. Publications are not acknowledged until it goes on. Fix: \
                             raise the limit (`ulimit -n`, or LimitNOFILE= in the unit file).",
                            path.display()
                        ));
                    }
                    // Letters are taken meanwhile: what waits is counted, and the end may be among them.
                    let until = self.shard.precise_now() + DESCRIPTORS_RETRY;
                    while let Some(left) = until.checked_sub(self.shard.precise_now()) {
                        let Ok(letter) = self.shard.timeout(left, self.inbox.recv()).await else { break };
                        self.on_letter(letter);
                    }
                }
                Err(error) => return Err(format!("opening {}: {error}", path.display())),
            }
        }
    }

    fn on_letter(&mut self, letter: LogLetter) {
        match letter {
            LogLetter::Append(append) => self.backlog.push(append),
            LogLetter::Fed { lsn } => {
                self.fed = Some(self.fed.unwrap_or_default().max(lsn));
                self.release();
            }
            LogLetter::Checkpoint => self.checkpoint_wanted = true,
            LogLetter::Finish => self.finishes = true,
        }
        self.show_room();
    }

    fn show_room(&self) {
        self.meters.used_bytes.set(self.state.used_bytes());
        self.meters.waiting_bytes.set(self.state.waiting_bytes());
        self.meters.full.set(self.state.is_full() as u64);
    }

    /// Writes the next batch, and syncs it if any of it is to be. Whether the segment is full now.
    async fn write_batch(&mut self, file: &File) -> Result<bool, String> {
        let segment = self.current();
        let place = Place {
            segment,
            identity: Identity::new(&self.id, &segment),
            at: self.at,
            number: self.batch,
            bytes_max: self.options.batch_bytes_max,
            may_sync: self.options.sync,
        };
        let mut batch = self.backlog.take(&place)?;
        let bytes = std::mem::take(&mut batch.bytes);
        let len = bytes.len() as u64;
        let begin = self.shard.precise_now();
        let written = file.write_at(Frame::owned(bytes), self.at.0 - segment.first.0).await;
        written.map_err(|error| self.words("writing", &error))?;
        self.meters.write.record((self.shard.precise_now() - begin).as_micros() as u64);
        self.on_written(&batch, len);
        if batch.syncs || !self.options.sync {
            self.sync(file).await?;
        }
        for &(number, shard, shards) in &batch.ends {
            if self.checkpoints.on_end(number, shard, shards) {
                self.checkpoint_at = self.at;
                self.meters.checkpoints.add(1);
                self.release();
            }
        }
        Ok(batch.turns)
    }

    fn on_written(&mut self, batch: &Batch, len: u64) {
        // A filler is written as its head only, and covers the rest of the segment.
        self.at = if batch.turns { self.current().end() } else { Lsn(self.at.0 + len) };
        self.state.set_written(self.at);
        self.state.on_taken(batch.taken);
        self.meters.batches.add(1);
        self.meters.records.add(batch.records);
        self.meters.bytes.add(len);
        self.meters.batch_records.record(batch.records);
        self.show_room();
        for share in &batch.shares {
            self.state.set_told(share.end);
            if share.tells_written {
                (self.on)(share.shard, Told::Written { last: share.last, end: share.end });
            }
            match self.unsynced.iter_mut().find(|known| known.shard == share.shard) {
                Some(known) => *known = *share,
                None => self.unsynced.push(*share),
            }
        }
        if let Some((number, begin)) = batch.begins {
            self.checkpoints.on_begin(number, begin);
            self.checkpoint_at = begin;
            for shard in 0..self.shard.count() {
                (self.on)(shard, Told::Checkpoint { number });
            }
        }
    }

    /// Makes everything written durable, and tells. Without syncs it only tells.
    async fn sync(&mut self, file: &File) -> Result<(), String> {
        if self.options.sync {
            let begin = self.shard.precise_now();
            let synced = file.sync_data().await;
            synced.map_err(|error| self.words("syncing", &error))?;
            self.meters.sync.record((self.shard.precise_now() - begin).as_micros() as u64);
            self.batch += 1;
        }
        self.state.set_durable(self.at);
        for share in self.unsynced.drain(..) {
            (self.on)(share.shard, Told::Durable { last: share.last, end: share.end });
        }
        Ok(())
    }

    fn words(&self, doing: &str, error: &std::io::Error) -> String {
        format!("{doing} {}: {error}", self.current().path(&self.options.directory).display())
    }

    /// Asks for the segment after the current one.
    fn prepare_next(&self) {
        let segment = Segment { first: self.current().end(), bytes: self.options.segment_bytes };
        let checkpoint = self.checkpoints.complete.unwrap_or_default();
        post_here(&self.shard, WORK_INBOX, Work::Prepare { segment, checkpoint });
    }

    /// Goes on in the next segment. Letters are read while it is waited for: some of them make room.
    async fn next_segment(&mut self) -> Result<File, String> {
        let Ready(segment) = loop {
            let ready = std::future::poll_fn(|cx| match self.ready.poll_recv(cx) {
                Poll::Ready(ready) => Poll::Ready(Ok(ready)),
                Poll::Pending => self.inbox.poll_recv(cx).map(Err),
            });
            match ready.await {
                Ok(ready) => break ready,
                Err(letter) => self.on_letter(letter),
            }
        };
        let segment = segment.ok_or("there is no room on the disk for what was to be written before the end")?;
        self.segments.push_back(segment);
        self.at = segment.body();
        self.prepare_next();
        self.open_current().await
    }

    /// Begins a checkpoint when enough was written since the last one, when asked to, and when nothing but a checkpoint
    /// keeps a full log from releasing segments.
    fn consider_checkpoint(&mut self) {
        if self.checkpoints.is_running() || self.finishes {
            return;
        }
        let since = self.at.0 - self.checkpoint_at.0;
        let every = self.options.checkpoint_bytes.min(self.options.bytes_max / 4);
        if self.checkpoint_wanted || since >= every || (self.state.is_full() && self.waits_for_checkpoint()) {
            self.checkpoint_wanted = false;
            self.backlog.begin_checkpoint(self.checkpoints.number + 1);
        }
    }

    fn waits_for_checkpoint(&self) -> bool {
        let oldest = self.segments[0];
        let is_fed = !self.options.has_feeder || self.fed.is_some_and(|fed| fed >= oldest.end());
        self.segments.len() > 1 && is_fed && self.checkpoints.complete.unwrap_or_default() < oldest.end()
    }

    /// Gives back the segments that neither a replay nor the feeder will read.
    fn release(&mut self) {
        let fed = if self.options.has_feeder { self.fed.unwrap_or_default() } else { Lsn(u64::MAX) };
        let needed = self.checkpoints.complete.unwrap_or_default().min(fed);
        while self.segments.len() > 1 && self.segments[0].end() <= needed {
            if let Some(segment) = self.segments.pop_front() {
                post_here(&self.shard, WORK_INBOX, Work::Release(segment));
            }
        }
        self.state.set_oldest(self.segments[0].first);
        // A log that was full may have room now, and nobody may have sent anything since.
        self.show_room();
    }
}

/// Whether the process, or the machine, has no descriptor left.
fn lacks_descriptors(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
