//! The feed between the log and a database: where rows come from, how far they have come, what is told of it.
//!
//! ```text
//!   log's writer ──advance──► Mark ──wakes──► the feed's thread ──next──► Source (the log's reader)
//!                                                  │
//!                        FeedState ◄──figures──────┤──Progress──► whoever waits for rows, or deletes segments
//! ```
//!
//! Positions are places in the log, in its bytes: a position says that everything below it is read, stored or durable.
//!
//! Invariants: rows are read up to the mark only, so nothing is in a database that a crash could take from the log;
//! a position is told once all rows up to it are stored, and it never goes back.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use annulus_engine::compute::{Reply, Ticket};

use super::row::Rows;

/// Which log: random, made with it.
pub type LogId = [u8; 16];

/// Where rows come from: the log's reader. It is used by one thread, which may block in it.
pub trait Source: Send {
    /// Which log it is. A position in another log is not believed.
    fn log(&self) -> LogId;

    /// From now on rows from `position` on are read: one that a row or a mark has told, or 0 for the oldest row that the
    /// log has. It has everything from [`Progress::checkpoint`] on.
    ///
    /// # Errors
    /// Why the log cannot be read.
    fn seek(&mut self, position: u64) -> io::Result<()>;

    /// Pushes the next rows below `upto`, until there are no more or `rows` is full. Whether there may be more.
    ///
    /// # Errors
    /// Why the log cannot be read. What was pushed before counts; it is tried again from there.
    fn next(&mut self, upto: u64, rows: &mut Rows) -> io::Result<bool>;
}

/// How far the log is on stable storage, told by its writer, which never waits here.
#[derive(Clone, Default)]
pub struct Mark {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    durable: AtomicU64,
    /// Whether the feed's thread is about to sleep or sleeps.
    asleep: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

impl Mark {
    /// A mark at `durable`.
    pub fn new(durable: u64) -> Mark {
        let mark = Mark::default();
        mark.inner.durable.store(durable, Ordering::SeqCst);
        mark
    }

    /// Everything below `lsn` is durable. Any thread, any shard: an atomic store, and a wake if the feed sleeps.
    pub fn advance(&self, lsn: u64) {
        self.inner.durable.fetch_max(lsn, Ordering::SeqCst);
        self.ring();
    }

    /// How far it is.
    pub fn durable(&self) -> u64 {
        self.inner.durable.load(Ordering::SeqCst)
    }

    /// Wakes the feed's thread if it sleeps.
    pub(super) fn ring(&self) {
        if self.inner.asleep.swap(false, Ordering::SeqCst) {
            // Free but for the moment in which a feed begins: who rings is one at a time.
            let thread = self.inner.thread.lock().unwrap_or_else(PoisonError::into_inner).clone();
            thread.iter().for_each(Thread::unpark);
        }
    }

    /// The calling thread is the feed's from now on: a mark has one feed at a time.
    pub(super) fn belongs_here(&self) {
        *self.inner.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::thread::current());
    }

    /// Sleeps until it is rung for, `most` at most. `idle` is asked again after whoever rings can see that we sleep, so
    /// that nothing is missed.
    pub(super) fn sleep(&self, most: Duration, idle: impl FnOnce() -> bool) {
        self.inner.asleep.store(true, Ordering::SeqCst);
        if idle() {
            std::thread::park_timeout(most);
        }
        self.inner.asleep.store(false, Ordering::SeqCst);
    }
}

/// How far the database has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// All rows below this place are stored: who waits for level `db` has his answer.
    pub stored: u64,
    /// And a restart knows it: what the log has below it is not asked for again and may be deleted.
    pub checkpoint: u64,
}

/// Told on the feed's thread at the start and whenever one of the two has risen. Must not block.
pub type OnProgress = Box<dyn FnMut(Progress) + Send>;

/// Figures of a feed, for metrics and consoles. Read from any thread.
#[derive(Debug, Default)]
pub struct FeedState {
    /// Rows that the database has confirmed, those included that it had before.
    pub rows: AtomicU64,
    /// Of them, rows that it had before: sent again after a crash or a broken connection.
    pub repeated: AtomicU64,
    /// Statements, or transactions, that stored them.
    pub batches: AtomicU64,
    /// Attempts that failed and were or will be made again.
    pub retries: AtomicU64,
    /// Rows that the database refuses, in the dead-letter file now.
    pub dead_letters: AtomicU64,
    /// Connections that are open; 1 for an open SQLite database.
    pub connected: AtomicU64,
    /// Bytes of rows that were read and are not stored.
    pub buffered_bytes: AtomicU64,
    /// The most of that so far.
    pub buffered_bytes_peak: AtomicU64,
    /// All rows below this place are stored.
    pub stored_lsn: AtomicU64,
    /// See [`Progress::checkpoint`].
    pub checkpoint_lsn: AtomicU64,
    /// When the oldest row in the buffer was published, in milliseconds since 1970; 0: none.
    pub oldest_ms: AtomicU64,
    mark: Mark,
    last_error: Mutex<Option<String>>,
}

impl std::fmt::Debug for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mark({})", self.durable())
    }
}

impl FeedState {
    pub(super) fn new(mark: &Mark) -> Arc<FeedState> {
        Arc::new(FeedState { mark: mark.clone(), ..FeedState::default() })
    }

    /// How much of the log is durable and not stored, in its bytes.
    pub fn lag_bytes(&self) -> u64 {
        self.mark.durable().saturating_sub(self.stored_lsn.load(Ordering::Relaxed))
    }

    /// How long the oldest row that is not stored has waited at the moment `now_ms` (milliseconds since 1970).
    pub fn lag_ms(&self, now_ms: u64) -> u64 {
        match self.oldest_ms.load(Ordering::Relaxed) {
            0 => 0,
            oldest => now_ms.saturating_sub(oldest),
        }
    }

    /// What went wrong last, if it still is: forgotten with the next success.
    pub fn last_error(&self) -> Option<String> {
        // Held for a copy of a sentence, by threads of normal priority: nobody waits long.
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_error(&self, error: Option<String>) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    pub(super) fn set_buffered(&self, bytes: usize) {
        self.buffered_bytes.store(bytes as u64, Ordering::Relaxed);
        self.buffered_bytes_peak.fetch_max(bytes as u64, Ordering::Relaxed);
    }
}

/// Tells progress when there is some.
pub(super) struct Teller {
    on_progress: OnProgress,
    told: Option<Progress>,
    state: Arc<FeedState>,
}

impl Teller {
    pub(super) fn new(on_progress: OnProgress, state: &Arc<FeedState>) -> Teller {
        Teller { on_progress, told: None, state: state.clone() }
    }

    pub(super) fn told(&self) -> Progress {
        self.told.unwrap_or_default()
    }

    /// The first time in any case: what is known at the start is news.
    pub(super) fn tell(&mut self, progress: Progress) {
        let told = self.told();
        debug_assert!(progress.stored >= told.stored && progress.checkpoint >= told.checkpoint);
        if self.told == Some(progress) {
            return;
        }
        self.told = Some(progress);
        self.state.stored_lsn.store(progress.stored, Ordering::Relaxed);
        self.state.checkpoint_lsn.store(progress.checkpoint, Ordering::Relaxed);
        (self.on_progress)(progress);
    }
}

/// Asks the feed's thread to end.
#[derive(Default)]
pub(super) struct Stop {
    deadline: OnceLock<Instant>,
}

impl Stop {
    /// By when it shall have ended, if it was asked to.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.get().copied()
    }
}

/// A running feed. Dropped without [`Feed::stop`] it stops at once; what is not stored stays in the log.
pub struct Feed {
    state: Arc<FeedState>,
    mark: Mark,
    stop: Arc<Stop>,
    ended: Option<Reply<()>>,
}

/// What the feed's thread needs of its [`Feed`].
pub(super) struct Reins {
    pub(super) state: Arc<FeedState>,
    pub(super) mark: Mark,
    pub(super) stop: Arc<Stop>,
}

impl Feed {
    /// A feed, what its thread needs, and what whoever ends last answers.
    pub(super) fn new(mark: &Mark) -> (Feed, Reins, Ticket<()>) {
        let (ticket, reply) = annulus_engine::compute::ticket();
        let (state, stop) = (FeedState::new(mark), Arc::new(Stop::default()));
        let reins = Reins { state: state.clone(), mark: mark.clone(), stop: stop.clone() };
        (Feed { state, mark: mark.clone(), stop, ended: Some(reply) }, reins, ticket)
    }

    /// Its figures.
    pub fn state(&self) -> &Arc<FeedState> {
        &self.state
    }

    /// Stores what is durable by now, for `patience` at most, and ends. Await the reply on a shard; a thread may
    /// [`Reply::wait`] for it.
    pub fn stop(mut self, patience: Duration) -> Reply<()> {
        self.ask(patience);
        self.ended.take().expect("taken here only, and this consumes the feed")
    }

    fn ask(&self, patience: Duration) {
        // The first word counts.
        self.stop.deadline.get_or_init(|| Instant::now() + patience);
        self.mark.ring();
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.ask(Duration::ZERO);
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_wakes_the_feed_that_it_belongs_to_now() {
        let mark = Mark::new(5);
        for round in 1..4 {
            let (ticket, reply) = annulus_engine::compute::ticket();
            let sleeping = mark.clone();
            // Each feed is a thread of its own.
            let thread = std::thread::spawn(move || {
                sleeping.belongs_here();
                let seen = sleeping.durable();
                ticket.answer(());
                let began = Instant::now();
                while sleeping.durable() == seen {
                    sleeping.sleep(Duration::from_secs(60), || sleeping.durable() == seen);
                }
                assert!(began.elapsed() < Duration::from_secs(30), "it was woken");
            });
            reply.wait();
            std::thread::sleep(Duration::from_millis(20));
            mark.advance(3);
            mark.advance(5 + round);
            thread.join().unwrap();
        }
        assert_eq!(mark.durable(), 8);
    }

    #[test]
    fn progress_is_told_at_the_start_and_when_it_rises() {
        let mark = Mark::new(500);
        let (state, told) = (FeedState::new(&mark), Arc::new(Mutex::new(Vec::new())));
        let telling = told.clone();
        let mut teller = Teller::new(Box::new(move |progress| telling.lock().unwrap().push(progress)), &state);
        let steps = [(0, 0), (0, 0), (100, 0), (100, 100)].map(|(stored, checkpoint)| Progress { stored, checkpoint });
        steps.into_iter().for_each(|progress| teller.tell(progress));
        assert_eq!(*told.lock().unwrap(), [steps[0], steps[2], steps[3]]);
        assert_eq!(state.lag_bytes(), 400);
        state.oldest_ms.store(1000, Ordering::Relaxed);
        assert_eq!((state.lag_ms(1500), state.lag_ms(900)), (500, 0));
    }
}
