//! The clerk: the feed's thread. It reads the log, sorts rows into lanes, hands out batches, and keeps the position.
//!
//! ```text
//!   Source ─► chunk ─► lane = hash(channel) ─► loads (a batch each) ─► out ─► stored
//!                        └── what is read and not stored is buffer_bytes at most; beyond, the clerk does not read ──┘
//! ```
//!
//! It is the only one that knows of all lanes. They ask, with what they have stored, and it answers with a batch: no lock,
//! and nothing that a shard would wait for. Batches are encoded here, too, off the shards.
//!
//! Every load remembers the place of its first row. All rows below the least of these are stored; lanes without rows
//! hold nothing back.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use annulus_engine::compute::Ticket;
use crossbeam_channel::Receiver;

use super::insert::insert;
use super::trouble::Trouble;
use super::{PASSING, PostgresSettings};
use crate::backoff::Backoff;
use crate::chat::store::checkpoint::Checkpoint;
use crate::chat::store::dead::DeadLetters;
use crate::chat::store::feed::{Progress, Reins, Source, Teller};
use crate::chat::store::row::Rows;
use crate::voice::Voice;

/// Rows and bytes read from the log at once: between two looks at what lanes say.
const CHUNK_ROWS: usize = 1024;
const CHUNK_BYTES: usize = 256 << 10;
/// How long the clerk sleeps when nobody wakes it.
const IDLE: Duration = Duration::from_secs(60);

/// Rows for one lane, and the messages that insert all of them.
pub(super) struct Batch {
    pub(super) rows: Rows,
    pub(super) messages: Result<Vec<u8>, Trouble>,
}

/// What a lane has done with a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    pub(super) stored: u64,
    pub(super) repeated: u64,
    pub(super) dead: u64,
    pub(super) batches: u64,
}

/// What lanes say.
pub(super) enum Word {
    /// The batch before is done, if there was one; the next one, please.
    Ask { lane: usize, done: Option<Done>, ticket: Ticket<Batch> },
    /// This one row is refused, and why.
    Bury { row: Rows, error: String, ticket: Ticket<Result<(), String>> },
}

/// Rows that wait for their lane.
struct Load {
    rows: Rows,
    /// Where the first of these is: the place behind the row that was read before it, whatever its lane.
    before: u64,
}

/// What a lane has in hand.
struct Out {
    before: u64,
    oldest_ms: u64,
    bytes: usize,
}

#[derive(Default)]
struct Place {
    loads: VecDeque<Load>,
    asking: Option<Ticket<Batch>>,
    out: Option<Out>,
}

impl Place {
    /// The place of the first row that is not stored, and when that was published.
    fn oldest(&self) -> Option<(u64, u64)> {
        let out = self.out.as_ref().map(|out| (out.before, out.oldest_ms));
        out.or_else(|| self.loads.front().map(|load| (load.before, load.rows.get(0).time_ms)))
    }
}

/// The thread's own.
pub(super) struct Clerk {
    settings: PostgresSettings,
    source: Box<dyn Source>,
    words: Receiver<Word>,
    reins: Reins,
    teller: Teller,
    checkpoint: Checkpoint,
    dead: DeadLetters,
    hash: RandomState,
    places: Vec<Place>,
    chunk: Rows,
    /// Everything up to here was read.
    at: u64,
    more: bool,
    buffered: usize,
    reading: Backoff,
    /// Reading has failed: not before then again.
    pause: Option<Instant>,
    trouble: Voice,
}

impl Clerk {
    pub(super) fn new(
        settings: PostgresSettings,
        source: Box<dyn Source>,
        words: Receiver<Word>,
        (reins, teller): (Reins, Teller),
        (checkpoint, dead): (Checkpoint, DeadLetters),
        seed: u64,
    ) -> Clerk {
        let places = (0..settings.connections).map(|_| Place::default()).collect();
        let at = checkpoint.written();
        let (hash, chunk) = (RandomState::new(), Rows::new(CHUNK_ROWS, CHUNK_BYTES));
        let reading = Backoff::new(PASSING.0, PASSING.1, seed);
        Clerk {
            settings,
            source,
            words,
            reins,
            teller,
            checkpoint,
            dead,
            hash,
            places,
            chunk,
            at,
            more: true,
            buffered: 0,
            reading,
            pause: None,
            trouble: Voice::default(),
        }
    }

    /// Until it is asked to stop and all is stored, or the time for that is up.
    pub(super) fn run(&mut self) {
        self.reins.mark.belongs_here();
        self.teller.tell(Progress { stored: self.at, checkpoint: self.at });
        while !self.is_over() {
            if self.seek() {
                self.work();
                return;
            }
            self.sleep();
        }
    }

    fn seek(&mut self) -> bool {
        match self.source.seek(self.at) {
            Ok(()) => true,
            Err(error) => {
                self.complain(&error);
                false
            }
        }
    }

    fn work(&mut self) {
        loop {
            let heard = self.hear();
            let read = self.may_read();
            if read {
                self.read();
            }
            self.hand_out();
            self.account();
            if self.is_over() || (self.reins.stop.deadline().is_some() && self.is_done()) {
                break;
            }
            if !heard && !read {
                self.sleep();
            }
        }
        // Lanes without work end when their tickets are gone.
        self.places.clear();
        self.note();
    }

    fn is_over(&self) -> bool {
        self.reins.stop.deadline().is_some_and(|deadline| deadline <= Instant::now())
    }

    fn is_done(&self) -> bool {
        self.is_read() && self.places.iter().all(|place| place.oldest().is_none())
    }

    fn is_read(&self) -> bool {
        !self.more && self.reins.mark.durable() <= self.at
    }

    fn may_read(&self) -> bool {
        !self.is_read()
            && self.buffered < self.settings.buffer_bytes
            && self.pause.is_none_or(|until| until <= Instant::now())
    }

    /// Sleeps until a lane or the log says something, or time has come for something.
    fn sleep(&self) {
        let now = Instant::now();
        let due = self.checkpoint.due(self.teller.told().stored);
        let times = [due, self.pause.filter(|_| !self.is_read()), self.reins.stop.deadline()];
        let next = times.into_iter().flatten().min().map_or(IDLE, |next| next.saturating_duration_since(now));
        let stopping = self.reins.stop.deadline().is_some();
        let idle = || self.words.is_empty() && !self.may_read() && self.reins.stop.deadline().is_some() == stopping;
        self.reins.mark.sleep(next.min(IDLE), idle);
    }

    /// Hears what lanes have said.
    fn hear(&mut self) -> bool {
        let mut heard = false;
        while let Ok(word) = self.words.try_recv() {
            heard = true;
            match word {
                Word::Ask { lane, done, ticket } => {
                    let place = &mut self.places[lane];
                    place.asking = Some(ticket);
                    if let Some(out) = place.out.take() {
                        self.buffered -= out.bytes;
                    }
                    self.count(done.unwrap_or_default());
                }
                Word::Bury { row, error, ticket } => ticket.answer(self.dead.bury(&row, 0, &error)),
            }
        }
        heard
    }

    fn count(&self, done: Done) {
        let state = &self.reins.state;
        state.rows.fetch_add(done.stored, Ordering::Relaxed);
        state.repeated.fetch_add(done.repeated, Ordering::Relaxed);
        state.dead_letters.fetch_add(done.dead, Ordering::Relaxed);
        state.batches.fetch_add(done.batches, Ordering::Relaxed);
    }

    /// Reads the next chunk and sorts it into lanes.
    fn read(&mut self) {
        let upto = self.reins.mark.durable();
        self.chunk.clear();
        let had_failed = self.pause.take().is_some();
        match self.source.next(upto, &mut self.chunk) {
            Ok(more) => {
                self.more = more;
                if had_failed {
                    self.reading.reset();
                    self.reins.state.set_error(None);
                }
            }
            Err(error) => {
                self.more = true;
                self.complain(&error);
            }
        }
        for index in 0..self.chunk.len() {
            self.sort(index);
        }
        if !self.more {
            self.at = self.at.max(upto);
        }
    }

    fn sort(&mut self, index: usize) {
        let PostgresSettings { batch_rows, batch_bytes, .. } = self.settings;
        let lane = self.hash.hash_one(self.chunk.get(index).channel) as usize % self.places.len();
        let loads = &mut self.places[lane].loads;
        if loads.back().is_none_or(|load| load.rows.is_full()) {
            loads.push_back(Load { rows: Rows::new(batch_rows, batch_bytes), before: self.at });
        }
        let rows = &mut loads.back_mut().expect("pushed above if there was none").rows;
        let bytes = rows.bytes();
        rows.push_from(&self.chunk, index);
        self.buffered += rows.bytes() - bytes;
        self.at = self.chunk.lsn(index);
    }

    /// Gives every lane that asks its next batch.
    fn hand_out(&mut self) {
        for place in &mut self.places {
            if place.asking.is_none() || place.loads.is_empty() {
                continue;
            }
            let (Some(ticket), Some(load)) = (place.asking.take(), place.loads.pop_front()) else { continue };
            let Load { rows, before } = load;
            let messages = insert(&rows, 0..rows.len());
            let bytes = rows.bytes() + messages.as_ref().map_or(0, Vec::len);
            self.buffered += bytes - rows.bytes();
            place.out = Some(Out { before, oldest_ms: rows.get(0).time_ms, bytes });
            ticket.answer(Batch { rows, messages });
        }
    }

    /// Sees how far all lanes have come, and tells it.
    fn account(&mut self) {
        let oldest = self.places.iter().filter_map(Place::oldest).min();
        let stored = oldest.map_or(self.at, |(before, _)| before);
        self.reins.state.oldest_ms.store(oldest.map_or(0, |(_, ms)| ms), Ordering::Relaxed);
        self.reins.state.set_buffered(self.buffered);
        let told = self.teller.told();
        self.teller.tell(Progress { stored: stored.max(told.stored), checkpoint: self.checkpoint.written() });
        if self.checkpoint.due(stored).is_some_and(|due| due <= Instant::now()) {
            self.note();
        }
    }

    /// Writes the position, if it has risen.
    fn note(&mut self) {
        let stored = self.teller.told().stored;
        if self.checkpoint.due(stored).is_none() {
            return;
        }
        if let Err(error) = self.checkpoint.write(stored) {
            let words =
                format_args!("writing the feed's position: {error}. After a crash more rows would be sent again");
            self.trouble.say(&words);
        }
        self.teller.tell(Progress { stored, checkpoint: self.checkpoint.written() });
    }

    fn complain(&mut self, error: &std::io::Error) {
        self.trouble.say(&format_args!("the feed cannot read the log: {error}"));
        self.reins.state.set_error(Some(format!("reading the log: {error}")));
        self.pause = Some(Instant::now() + self.reading.next());
    }
}
