//! What all threads may see of the log, without asking its writer.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use annulus_engine::{MailboxFull, Shard};

use super::writer::{Append, LOG_INBOX, LogLetter};
use super::{Lsn, Options};

/// Bytes that may wait for the writer. Beyond: [`LogState::is_full`]. What a stalled disk costs in memory at most, but
/// for what is on its way when that shows.
pub const WAITING_BYTES_MAX: u64 = 32 << 20;

/// See the module's description.
#[derive(Debug)]
pub struct LogState {
    bytes_max: u64,
    writer: usize,
    oldest: AtomicU64,
    written: AtomicU64,
    told: AtomicU64,
    durable: AtomicU64,
    waiting: AtomicU64,
    starved: AtomicBool,
    failure: OnceLock<String>,
}

impl LogState {
    pub(super) fn new(options: &Options, oldest: Lsn, next: Lsn) -> LogState {
        LogState {
            bytes_max: options.bytes_max,
            writer: options.shard,
            oldest: AtomicU64::new(oldest.0),
            written: AtomicU64::new(next.0),
            told: AtomicU64::new(next.0),
            durable: AtomicU64::new(next.0),
            waiting: AtomicU64::new(0),
            starved: AtomicBool::new(false),
            failure: OnceLock::new(),
        }
    }

    /// Hands records to the writer, from any shard, also while that is still starting. In order with what this shard
    /// handed over before.
    ///
    /// # Errors
    /// [`MailboxFull`] when the writer's shard lags too far behind; nothing was handed over.
    ///
    /// # Panics
    /// When the engine has no such shard as [`Options::shard`].
    pub fn append(&self, shard: &Shard, append: Append) -> Result<(), MailboxFull<Append>> {
        let bytes = append.bytes.len() as u64;
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        shard.post(self.writer, LOG_INBOX, LogLetter::Append(append)).map_err(|MailboxFull(letter)| match letter {
            LogLetter::Append(append) => {
                self.waiting.fetch_sub(bytes, Ordering::Relaxed);
                MailboxFull(append)
            }
            _ => unreachable!("the letter that was posted comes back"),
        })
    }

    /// Whether new publications must be refused: the log holds as much as it may, the disk has no room for another
    /// segment, or the disk does not keep up.
    pub fn is_full(&self) -> bool {
        let waiting = self.waiting_bytes();
        self.is_starved() || waiting > WAITING_BYTES_MAX || self.used_bytes() + waiting >= self.bytes_max
    }

    /// Whether the disk has no room for another segment, or refuses one.
    pub fn is_starved(&self) -> bool {
        self.starved.load(Ordering::Relaxed)
    }

    /// Why the log has failed, if it has: the node is read-only then, until it is started again.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Bytes of the log, from the oldest segment that is needed to the newest record.
    pub fn used_bytes(&self) -> u64 {
        self.written.load(Ordering::Relaxed).saturating_sub(self.oldest.load(Ordering::Relaxed))
    }

    /// Bytes on their way to the writer.
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Everything that has settled at a level of the log lies below, durable or about to be; and nothing but records of
    /// shards, no filler, so that whoever reads the log to there has come to its end.
    pub fn told_lsn(&self) -> Lsn {
        Lsn(self.told.load(Ordering::Acquire))
    }

    /// Where the oldest segment that is needed begins.
    pub fn oldest_lsn(&self) -> Lsn {
        Lsn(self.oldest.load(Ordering::Relaxed))
    }

    /// Everything below is durable, and may be read with [`Reader`](super::Reader).
    pub fn durable_lsn(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    pub(super) fn set_oldest(&self, lsn: Lsn) {
        self.oldest.store(lsn.0, Ordering::Relaxed);
    }

    pub(super) fn set_written(&self, lsn: Lsn) {
        self.written.store(lsn.0, Ordering::Relaxed);
    }

    pub(super) fn set_told(&self, lsn: Lsn) {
        self.told.fetch_max(lsn.0, Ordering::Release);
    }

    pub(super) fn set_durable(&self, lsn: Lsn) {
        self.durable.store(lsn.0, Ordering::Release);
    }

    pub(super) fn set_starved(&self, starved: bool) {
        self.starved.store(starved, Ordering::Relaxed);
    }

    pub(super) fn on_taken(&self, bytes: u64) {
        // A letter posted without `append` was never counted, so this must not go below zero.
        let less = |waiting: u64| Some(waiting.saturating_sub(bytes));
        let taken = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        taken.expect("the closure gives a value for every value");
    }

    pub(super) fn set_failure(&self, reason: &str) {
        self.failure.get_or_init(|| reason.to_owned());
    }
}
