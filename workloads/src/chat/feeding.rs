//! The log as the source of the database's rows, and how far the database is as letters to the hubs.
//!
//! A row's LSN is the place behind its record: a place where reading can go on.

use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use annulus_engine::Shard;

use super::letters::Letter;
use super::log::{LOG_INBOX, LogId, LogLetter, LogState, Lsn, Reader, Record};
use super::serve::INBOX;
use super::store::{Progress, Row, Rows, Source};

/// How long it takes until a shard is told again that had no room for a letter.
const RETRY: Duration = Duration::from_millis(5);

/// The log, read behind its writer.
pub struct Tail {
    directory: PathBuf,
    id: LogId,
    state: Arc<LogState>,
    reader: Option<Reader>,
}

impl Tail {
    /// Of the log in a directory.
    pub fn new(directory: PathBuf, id: LogId, state: Arc<LogState>) -> Tail {
        Tail { directory, id, state, reader: None }
    }
}

impl Source for Tail {
    fn log(&self) -> LogId {
        self.id
    }

    fn seek(&mut self, after: u64) -> io::Result<()> {
        let end = self.state.durable_lsn();
        if Lsn(after) > end {
            return Err(io::Error::other(format!(
                "the database has the log up to {} and the log ends at {end}: it is older than the database. Nothing is \
                 stored any more. Fix: stop, and restore log and database from one moment",
                Lsn(after)
            )));
        }
        let from = Lsn(after).max(self.state.oldest_lsn());
        self.reader = Some(Reader::open(&self.directory, from).map_err(io::Error::other)?);
        Ok(())
    }

    fn next(&mut self, upto: u64, rows: &mut Rows) -> io::Result<bool> {
        let Some(reader) = &mut self.reader else { return Ok(false) };
        while !rows.is_full() {
            let Some((places, record)) = reader.next_between(Lsn(upto)).map_err(io::Error::other)? else {
                return Ok(false);
            };
            // What a checkpoint repeats is no news.
            let Record::Publication(publication) = record else { continue };
            let row = Row {
                lsn: places.end.0,
                channel: publication.channel,
                epoch: publication.epoch,
                offset: publication.offset,
                time_ms: publication.time_ms,
                user: publication.user,
                client: publication.client,
                conn_info: publication.conn_info,
                chan_info: publication.chan_info,
                data: publication.data,
                sealed: publication.sealed,
                binary: publication.binary,
            };
            rows.push(&row, publication.tags.iter());
        }
        Ok(true)
    }
}

/// How far the database is, told by its thread and heard by a task.
#[derive(Default)]
pub struct Bell {
    stored: AtomicU64,
    checkpoint: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

impl Bell {
    /// The database is there.
    pub fn ring(&self, progress: Progress) {
        self.stored.store(progress.stored, Ordering::Release);
        self.checkpoint.store(progress.checkpoint, Ordering::Release);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn heard(&self) -> (u64, u64) {
        (self.stored.load(Ordering::Acquire), self.checkpoint.load(Ordering::Acquire))
    }

    /// Waits until it is not where it was.
    async fn rung(&self, before: (u64, u64)) -> (u64, u64) {
        poll_fn(|cx| {
            if self.heard() != before {
                return Poll::Ready(self.heard());
            }
            // Held for as long as it takes to put a waker there, by the database's thread and by us.
            if let Ok(mut waker) = self.waker.try_lock() {
                *waker = Some(cx.waker().clone());
            } else {
                cx.waker().wake_by_ref();
            }
            match self.heard() != before {
                true => Poll::Ready(self.heard()),
                false => Poll::Pending,
            }
        })
        .await
    }

    /// Tells the log's writer and all hubs, for as long as the engine runs.
    pub async fn tell(self: Arc<Bell>, shard: Shard) {
        let mut before = (0, 0);
        loop {
            let (stored, checkpoint) = self.rung(before).await;
            if checkpoint != before.1 {
                let told = shard.post(shard.index(), LOG_INBOX, LogLetter::Fed { lsn: Lsn(checkpoint) });
                debug_assert!(told.is_ok(), "a letter to oneself always fits");
            }
            for to in 0..shard.count() {
                // Somebody may wait for just this: a shard that is too far behind is told a little later.
                while shard.post(to, INBOX, Letter::Stored(stored)).is_err() {
                    shard.sleep(RETRY).await;
                }
            }
            before = (stored, checkpoint);
        }
    }
}
