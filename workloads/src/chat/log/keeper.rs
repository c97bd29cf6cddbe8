//! Segments made ready ahead of the writer, and taken back from it.
//!
//! ```text
//!   zeros ─► spare ─► header, sync ─► renamed to its place, directory synced ─► the writer's next segment
//!              ▲                                                                       │ everything in it is
//!              └── renamed back, directory synced ◄────────────────────────────────────┘ in checkpoint and database
//! ```
//!
//! A segment that the writer gets has all its blocks, written: so writing a batch allocates nothing, cannot find the
//! disk full, and changes no metadata that `fdatasync` would have to write too. (Copy-on-write file systems allocate all
//! the same; there a full disk is a failed write, and the log stops.) A full disk shows here, a whole segment before the
//! writer needs the room, and is waited out.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::{Frame, Inbox, OpenOptions, Shard};

use super::meters::Meters;
use super::segment::{Header, Segment, Spare};
use super::state::LogState;
use super::writer::post_here;
use super::{LogId, Lsn, tell_people};

/// Released segments that are kept to be used again; beyond, they are removed.
pub(super) const SPARES: usize = 2;
/// Written at once.
const ZEROS: &[u8] = &[0; 64 << 10];
/// Synced at once while zeros are written, so that the log's own syncs never wait for a whole segment of them.
const SYNC_BYTES: u64 = 512 << 10;
/// How long to wait before a segment is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What the keeper shall do.
pub(super) const WORK_INBOX: &str = "chat log: keeper";
/// Where the writer finds its next segment.
pub(super) const READY_INBOX: &str = "chat log: ready segments";

/// A job for the keeper.
#[derive(Debug)]
pub(super) enum Work {
    /// Make a segment ready, and tell.
    Prepare {
        /// Its place.
        segment: Segment,
        /// What its header says of checkpoints.
        checkpoint: Lsn,
    },
    /// Nobody needs it any more.
    Release(Segment),
    /// Do not wait for room any more.
    Hurry,
    /// There is nothing more to do.
    End,
}

/// A segment that is ready; `None`: there is no room, and no time to wait for it.
#[derive(Debug)]
pub(super) struct Ready(pub(super) Option<Segment>);

/// See the module's description.
pub(super) struct Keeper {
    shard: Shard,
    state: Arc<LogState>,
    directory: PathBuf,
    id: LogId,
    segment_bytes: u64,
    spares: Vec<PathBuf>,
    /// Of the next spare file.
    next_spare: u64,
    released: VecDeque<Segment>,
    hurries: bool,
    meters: Meters,
}

impl Keeper {
    pub(super) fn new(
        shard: &Shard,
        state: Arc<LogState>,
        directory: PathBuf,
        id: LogId,
        segment_bytes: u64,
        (spares, next_spare): (Vec<PathBuf>, u64),
        meters: Meters,
    ) -> Keeper {
        let (released, hurries) = (VecDeque::new(), false);
        Keeper {
            shard: shard.clone(),
            state,
            directory,
            id,
            segment_bytes,
            spares,
            next_spare,
            released,
            hurries,
            meters,
        }
    }

    pub(super) async fn run(mut self) {
        let mut work: Inbox<Work> = self.shard.inbox(WORK_INBOX);
        loop {
            match work.recv().await {
                Work::Prepare { segment, checkpoint } => {
                    let ready = self.prepare_patiently(&mut work, segment, checkpoint).await;
                    post_here(&self.shard, READY_INBOX, Ready(ready.then_some(segment)));
                }
                Work::Release(segment) => self.released.push_back(segment),
                Work::Hurry => self.hurries = true,
                Work::End => return,
            }
            self.release().await;
        }
    }

    /// Until it is ready, or waiting makes no sense any more: whether it is.
    async fn prepare_patiently(&mut self, work: &mut Inbox<Work>, segment: Segment, checkpoint: Lsn) -> bool {
        while let Err(error) = self.prepare(segment, checkpoint).await {
            if !self.state.is_starved() {
                tell_people(format_args!(
                    "the log gets no more room in {}: {error}. Publications are refused until it does. Fix: make room \
                     on that disk (df), or see what is wrong with it (dmesg).",
                    self.directory.display()
                ));
            }
            self.starves(true);
            if self.hurries {
                return false;
            }
            match self.shard.timeout(RETRY, work.recv()).await {
                Ok(Work::Release(segment)) => self.released.push_back(segment),
                Ok(Work::Hurry) => self.hurries = true,
                Ok(Work::End) => return false,
                // The writer asks for one segment at a time.
                Ok(Work::Prepare { .. }) | Err(_) => {}
            }
            self.release().await;
        }
        if self.state.is_starved() {
            tell_people(format_args!("the log has room again."));
        }
        self.starves(false);
        true
    }

    /// Whoever is refused sends the writer nothing that would make it look: so the figure is set here.
    fn starves(&self, starved: bool) {
        self.state.set_starved(starved);
        self.meters.full.set(self.state.is_full() as u64);
    }

    async fn prepare(&mut self, segment: Segment, checkpoint: Lsn) -> io::Result<()> {
        let spare = match self.spares.pop().filter(|_| segment.bytes == self.segment_bytes) {
            Some(spare) => spare,
            None => self.make_spare(segment.bytes).await?,
        };
        let dressed = self.dress(&spare, segment, checkpoint).await;
        if dressed.is_err() {
            // A file whose sync failed is not trusted again. What cannot be removed is found at the next start.
            let _gone = self.shard.remove(&spare).await;
            let _gone = self.shard.remove(segment.path(&self.directory)).await;
        }
        dressed
    }

    /// A new file of zeros.
    async fn make_spare(&mut self, bytes: u64) -> io::Result<PathBuf> {
        let path = Spare::path(&self.directory, self.next_spare);
        self.next_spare += 1;
        let filled = self.fill(&path, bytes).await;
        if filled.is_err() {
            // Half a file of zeros would keep the last room from whoever could make more. As above.
            let _gone = self.shard.remove(&path).await;
        }
        filled.map(|()| path)
    }

    async fn fill(&self, path: &PathBuf, bytes: u64) -> io::Result<()> {
        let options = OpenOptions { write: true, create: true, truncate: true, ..OpenOptions::default() };
        let file = self.shard.open(path, options).await?;
        let mut at = 0;
        while at < bytes {
            let until = bytes.min(at + SYNC_BYTES);
            while at < until {
                let len = ZEROS.len().min((until - at) as usize);
                file.write_at(Frame::fixed(&ZEROS[..len]), at).await?;
                at += len as u64;
            }
            file.sync_data().await?;
        }
        Ok(())
    }

    /// Gives a spare file its header and its name, in this order: a segment that is found by its name has its header.
    async fn dress(&self, spare: &PathBuf, segment: Segment, checkpoint: Lsn) -> io::Result<()> {
        let file = self.shard.open(spare, OpenOptions { write: true, ..OpenOptions::default() }).await?;
        let header = Header { id: self.id, segment, checkpoint }.encode();
        file.write_at(Frame::owned(header.to_vec()), 0).await?;
        file.sync_data().await?;
        self.shard.rename(spare, segment.path(&self.directory)).await?;
        self.shard.sync_directory(&self.directory).await
    }

    /// Takes released segments back, oldest first and each for good before the next: what a crash leaves has no gap.
    /// One that cannot be taken back now is tried again with the next job.
    async fn release(&mut self) {
        while let Some(segment) = self.released.front().copied() {
            let path = segment.path(&self.directory);
            let keeps = self.spares.len() < SPARES && segment.bytes == self.segment_bytes;
            let spare = Spare::path(&self.directory, self.next_spare);
            let moved = match keeps {
                true => self.shard.rename(&path, &spare).await,
                false => self.shard.remove(&path).await,
            };
            if let Err(error) = moved {
                tell_people(format_args!("{} is still there, and not needed: {error}", path.display()));
                return;
            }
            self.next_spare += keeps as u64;
            self.released.pop_front();
            match self.shard.sync_directory(&self.directory).await {
                // Only now may its header be written over: found under its old name, it must be what it was.
                Ok(()) if keeps => self.spares.push(spare),
                Ok(()) => {}
                Err(error) => tell_people(format_args!("syncing {}: {error}", self.directory.display())),
            }
        }
    }
}
