//! The write-ahead log: what was promised to publishers, in the order in which it was promised.
//!
//! ```text
//!   shards ──Append──► inbox ─► writer: gather ─► frame ─► write ─► fdatasync ─► Told::Durable ──► shards
//!                                 ▲                                     │
//!                                 └── meanwhile the next batch gathers ◄┘
//!   directory   wal-0000000000000000.log   wal-0000000001000000.log   wal-…   spare-1.log   lock
//!                 ▲ oldest                    ▲ next record here        ▲ ready for when that one is full
//! ```
//!
//! | file | noun |
//! |---|---|
//! | `record.rs` | what is logged, and its bytes |
//! | `segment.rs` | a file of the log: its header, frames around records, checksums |
//! | `replay.rs` | opening: what to begin with, and the end made clean |
//! | `walk.rs` | segments in order, and why a walk over their frames ends: the end, torn, or damage |
//! | `checkpoint.rs` | which checkpoint is complete |
//! | `writer.rs`, `batch.rs` | the one task that writes, and what it writes at once |
//! | `keeper.rs` | segments made ready ahead and used again |
//! | `state.rs` | what all threads may see of the log |
//! | `reader.rs` | records in order, for the database's feeder |
//! | `verify.rs`, `export.rs` | offline: is it whole, and what is in it |
//!
//! Invariants: **a batch is begun only after the one before is on stable storage**, so that a torn end is told from
//! damage exactly; **a record lies in one segment**; **whatever a segment held in its earlier life passes no checksum of
//! its present one**; **after a failed write or sync nothing is acknowledged any more**.

mod batch;
mod checkpoint;
pub mod export;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod keeper;
pub mod meters;
pub mod reader;
pub mod record;
pub mod replay;
mod segment;
pub mod state;
#[cfg(test)]
mod tests;
pub mod verify;
mod walk;
pub mod writer;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use reader::Reader;
#[cfg(test)]
pub use record::split_hand_over;
pub use record::{
    ChannelState, Cleared, Dropped, Key, KeyState, Publication, Record, RecordTooLong, Removed, SanctionState, Tags,
    write_record,
};
pub use replay::{Log, Loss, Opened, Torn};
pub use state::LogState;
pub use writer::{Append, LOG_INBOX, LogLetter, Told, Writer, WriterHandle};

/// A place in the log: bytes since its beginning, headers of segments included. Rises for as long as the log exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Which log this is: random, made with its first segment. A place in one log means nothing in another.
pub type LogId = [u8; 16];

/// Smallest segment: it must hold the longest record. Tests and the fuzzer use small ones, with small records, to cross many borders.
pub const SEGMENT_BYTES_MIN: u64 = if cfg!(any(test, fuzzing)) { 4096 } else { 2 << 20 };
/// Largest segment: what recovery looks through for signs of later batches is at most two of them.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Most bytes of a batch: at some hundred MB/s a disk takes less than a millisecond for as many more.
pub const BATCH_BYTES_MAX: usize = 16 << 20;

const _: () = assert!(cfg!(any(test, fuzzing)) || SEGMENT_BYTES_MIN > (record::RECORD_BYTES_MAX + 4096) as u64);

/// Where the log lies and how it behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its directory, made if missing, used by one process at a time.
    pub directory: PathBuf,
    /// Bytes of a segment, a multiple of 4096.
    pub segment_bytes: u64,
    /// Bytes that the log may hold. Beyond: [`LogState::is_full`], and publications must be refused. A checkpoint may
    /// go beyond, because it is what makes room; up to four more segments are ready or kept to be used again.
    pub bytes_max: u64,
    /// Bytes of one batch. A longer record goes alone.
    pub batch_bytes_max: usize,
    /// Bytes after which the shards are asked for a checkpoint; at most a quarter of `bytes_max` is used.
    pub checkpoint_bytes: u64,
    /// Open a damaged log without what is damaged, once and for all.
    pub accept_loss: bool,
    /// Whether batches are synced. Without, all levels promise what `page` promises.
    pub sync: bool,
    /// The shard that writes it.
    pub shard: usize,
    /// Whether somebody reads the log into a database: then nothing is released that was not reported as read
    /// ([`LogLetter::Fed`]).
    pub has_feeder: bool,
}

impl Options {
    /// The defaults, in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Options {
        Options {
            directory: directory.into(),
            segment_bytes: 16 << 20,
            bytes_max: 4 << 30,
            batch_bytes_max: 256 << 10,
            checkpoint_bytes: 64 << 20,
            accept_loss: false,
            sync: true,
            shard: 0,
            has_feeder: false,
        }
    }

    /// Refuses what cannot work.
    fn check(&self) -> Result<(), LogError> {
        let bytes = self.segment_bytes;
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes) || !bytes.is_multiple_of(4096) {
            return Err(LogError::Options(format!(
                "log.segment_bytes = {bytes}: use a multiple of 4096 from {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}"
            )));
        }
        if self.bytes_max < 4 * bytes {
            let least = 4 * bytes;
            return Err(LogError::Options(format!(
                "log.bytes_max = {}: use at least {least}, four segments",
                self.bytes_max
            )));
        }
        if !(4096..=BATCH_BYTES_MAX).contains(&self.batch_bytes_max) {
            let given = self.batch_bytes_max;
            return Err(LogError::Options(format!("log.batch_bytes_max = {given}: use 4096 to {BATCH_BYTES_MAX}")));
        }
        Ok(())
    }
}

/// Tells people. In tests by the way that the harness captures: simulated disks fail often.
fn tell_people(words: fmt::Arguments<'_>) {
    if cfg!(test) {
        eprintln!("chat: {words}");
    } else {
        crate::say!("chat: {words}");
    }
}

/// Why the log cannot be used, in a sentence for people.
#[derive(Debug)]
pub enum LogError {
    /// An option that cannot work.
    Options(String),
    /// The system refused something.
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// Another process uses the directory.
    Locked(PathBuf),
    /// Something is not as it was written, and not merely the end that a crash tore.
    Damaged {
        /// Where in the log.
        lsn: Lsn,
        /// In which file.
        path: PathBuf,
        /// Where in that file.
        offset: u64,
        /// What is wrong there.
        why: String,
    },
    /// Written by a version that this one does not know.
    Version {
        /// The file that says so.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Not a segment of this log.
    Strange(PathBuf),
    /// A place that the log does not have: released long ago, or never written.
    Absent {
        /// The place asked for.
        lsn: Lsn,
        /// The first that is there.
        oldest: Lsn,
        /// The first that is not there yet.
        end: Lsn,
    },
}

impl LogError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
        let path = path.to_owned();
        move |error| LogError::Io { doing, path, error }
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Options(why) => f.write_str(why),
            LogError::Io { doing, path, error } => write!(f, "{doing} {}: {error}.", path.display()),
            LogError::Locked(directory) => write!(
                f,
                "{} is in use by another annulus. Fix: stop it, or give this one another directory.",
                directory.display()
            ),
            LogError::Damaged { lsn, path, offset, why } => write!(
                f,
                "the log is damaged at {lsn} ({}, byte {offset}): {why}. This is no end torn by a crash, so nothing was \
                 changed. Fix: run `annulus chat verify-log {}` to see how much is affected and restore the directory \
                 from a copy, or start once with log.accept_loss = true to go on without what is damaged.",
                path.display(),
                path.parent().unwrap_or(path).display()
            ),
            LogError::Version { path, version } => write!(
                f,
                "{} is of version {version} of the log, and this annulus knows version {}. Fix: use the annulus that \
                 wrote it.",
                path.display(),
                segment::VERSION
            ),
            LogError::Strange(path) => write!(
                f,
                "{} belongs to another log, or is none. Nothing was changed. Fix: move it out of the directory, or \
                 restore the directory from a copy.",
                path.display()
            ),
            LogError::Absent { lsn, oldest, end } => write!(
                f,
                "the log has no {lsn}: it reaches from {oldest} to {end}. Likely cause: the log and the database are \
                 not of the same history. Fix: restore both from one moment."
            ),
        }
    }
}

impl std::error::Error for LogError {}
