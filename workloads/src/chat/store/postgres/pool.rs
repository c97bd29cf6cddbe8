//! Lanes: each stores the batches of its channels one after the other, whatever it takes.
//!
//! ```text
//!            ┌──────────────── ask (with what was stored) ◄───────────────┐
//!   clerk ───┴─ batch ─► INSERT ─┬─ ok ──────────────────────────────────►┤
//!                          ▲     ├─ passing, setup: wait, connect again ─┐│
//!                          └─────│──────────────── the same rows ◄───────┘│
//!                                └─ data: halves ... one row ─► dead letter┘
//! ```
//!
//! A lane has one statement in flight at most and goes on only when it is answered, so rows of a channel become visible in
//! their order. A batch is never given up: when it is not stored, it is tried again.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use annulus_engine::compute::{Reply, ticket};
use crossbeam_channel::Sender;

use super::clerk::{Batch, Done, Word};
use super::dial::Dialer;
use super::insert::insert;
use super::session::Session;
use super::trouble::{Kind, Trouble};
use super::{DIALS_MAX, PASSING, PostgresSettings, SETUP};
use crate::backoff::Backoff;
use crate::chat::store::feed::{FeedState, Mark, Reins};
use crate::chat::store::row::Rows;
use crate::serve::wire::{Crowd, Either, either};
use crate::voice::Voice;

/// What lanes share. They live on one shard: at one round trip per batch, fifty lanes are a few per cent of a core, and
/// connections on several shards would only share less.
pub(super) struct Pool {
    dialer: Dialer,
    words: Sender<Word>,
    mark: Mark,
    state: Arc<FeedState>,
    answer_max: Duration,
    idle_max: Duration,
    /// Connections being made, and the lanes that wait for their turn: a server that comes back is not stormed.
    dialing: Cell<usize>,
    queue: Crowd,
    door: RefCell<Door>,
    in_trouble: Cell<bool>,
    trouble: RefCell<Voice>,
    refused: RefCell<Voice>,
}

/// Whether the server lets us in.
struct Door {
    is_shut: bool,
    passing: Backoff,
    setup: Backoff,
}

impl Door {
    /// It did not: how long whoever tries for all waits.
    fn shut(&mut self, kind: Kind) -> Duration {
        self.is_shut = true;
        match kind {
            Kind::Setup => self.setup.next(),
            Kind::Passing | Kind::Data => self.passing.next(),
        }
    }

    fn open(&mut self) {
        self.is_shut = false;
        self.passing.reset();
        self.setup.reset();
    }
}

/// A turn to connect, given back when dropped.
struct Turn<'a>(&'a Pool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.dialing.set(self.0.dialing.get() - 1);
        self.0.queue.one();
    }
}

impl Pool {
    /// A pool without connections. `seed` spreads its waits.
    pub(super) fn new(
        dialer: Dialer,
        words: Sender<Word>,
        reins: &Reins,
        settings: &PostgresSettings,
        seed: u64,
    ) -> Pool {
        let [passing, setup] = [PASSING, SETUP].map(|(first, most)| Backoff::new(first, most, seed));
        Pool {
            dialer,
            words,
            mark: reins.mark.clone(),
            state: reins.state.clone(),
            answer_max: settings.answer_max,
            idle_max: settings.idle_max,
            dialing: Cell::new(0),
            queue: Crowd::default(),
            door: RefCell::new(Door { is_shut: false, passing, setup }),
            in_trouble: Cell::new(false),
            trouble: RefCell::default(),
            refused: RefCell::default(),
        }
    }

    /// A new session, however long it takes. While the server lets nobody in, one lane tries for all.
    async fn connect(&self) -> Session {
        loop {
            let _turn = self.turn().await;
            match Session::open(&self.dialer).await {
                Ok(session) => {
                    self.door.borrow_mut().open();
                    self.queue.all();
                    self.state.connected.fetch_add(1, Ordering::Relaxed);
                    return session;
                }
                Err(trouble) => {
                    self.complain(&trouble);
                    let wait = self.door.borrow_mut().shut(trouble.kind);
                    self.dialer.shard().sleep(wait).await;
                }
            }
        }
    }

    async fn turn(&self) -> Turn<'_> {
        while self.dialing.get() >= if self.door.borrow().is_shut { 1 } else { DIALS_MAX } {
            self.queue.wait().await;
        }
        self.dialing.set(self.dialing.get() + 1);
        Turn(self)
    }

    fn complain(&self, trouble: &Trouble) {
        self.state.retries.fetch_add(1, Ordering::Relaxed);
        self.state.set_error(Some(trouble.to_string()));
        self.in_trouble.set(true);
        self.trouble.borrow_mut().say(&format_args!("rows wait in the log: {trouble}"));
    }

    fn succeed(&self) {
        if self.in_trouble.replace(false) {
            self.state.set_error(None);
            crate::say!("chat: the database takes rows");
        }
    }
}

/// One lane.
pub(super) struct Lane {
    pool: Rc<Pool>,
    number: usize,
    session: Option<Session>,
    passing: Backoff,
    setup: Backoff,
}

impl Lane {
    /// A lane without a connection. `seed` spreads its waits.
    pub(super) fn new(pool: &Rc<Pool>, number: usize, seed: u64) -> Lane {
        let seed = seed.wrapping_add(number as u64);
        let (passing, setup) = (Backoff::new(PASSING.0, PASSING.1, seed), Backoff::new(SETUP.0, SETUP.1, seed));
        Lane { pool: pool.clone(), number, session: None, passing, setup }
    }

    /// Stores batches until the clerk gives no more.
    pub(super) async fn run(mut self) {
        let mut done = None;
        while let Some(batch) = self.ask(done.take()).await {
            match self.store(batch).await {
                Some(stored) => done = Some(stored),
                None => break,
            }
        }
        self.close().await;
    }

    /// Says what was stored, and waits for the next batch. Meanwhile the session may end, or be idle for too long.
    async fn ask(&mut self, done: Option<Done>) -> Option<Batch> {
        let (ticket, mut reply) = ticket();
        self.pool.words.try_send(Word::Ask { lane: self.number, done, ticket }).ok()?;
        self.pool.mark.ring();
        loop {
            let Some(session) = &mut self.session else { return reply.await };
            let shard = self.pool.dialer.shard().clone();
            match shard.timeout(self.pool.idle_max, either(&mut reply, session.ended())).await {
                Ok(Either::First(batch)) => return batch,
                Ok(Either::Second(_ended)) => self.drop_session(),
                Err(_elapsed) => self.close().await,
            }
        }
    }

    /// Stores all rows, the refused ones as dead letters. `None`: the clerk has ended.
    async fn store(&mut self, batch: Batch) -> Option<Done> {
        let Batch { rows, messages } = batch;
        let mut whole = Some(messages);
        let mut done = Done::default();
        // Ranges that are not stored yet, the next one last.
        let mut open: Vec<Range<usize>> = std::iter::once(0..rows.len()).collect();
        while let Some(range) = open.pop() {
            let messages = whole.take().unwrap_or_else(|| insert(&rows, range.clone()));
            match self.attempt(messages).await {
                Ok(new) => {
                    done.batches += 1;
                    done.stored += range.len() as u64;
                    done.repeated += (range.len() as u64).saturating_sub(new);
                }
                Err(trouble) if trouble.kind == Kind::Data && range.len() > 1 => {
                    let Range { start, end } = range;
                    let middle = start + (end - start) / 2;
                    open.extend([middle..end, start..middle]);
                }
                Err(trouble) if trouble.kind == Kind::Data => match self.bury(&rows, range.start, &trouble).await? {
                    Ok(()) => done.dead += 1,
                    Err(error) => {
                        self.wait(&Trouble::setup(error)).await;
                        open.push(range);
                    }
                },
                Err(trouble) => {
                    self.wait(&trouble).await;
                    open.push(range);
                }
            }
        }
        Some(done)
    }

    /// Sends rows once; how many were new. After trouble the session is kept only if it can be used further.
    async fn attempt(&mut self, messages: Result<Vec<u8>, Trouble>) -> Result<u64, Trouble> {
        let messages = messages?;
        let pool = self.pool.clone();
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(pool.connect().await),
        };
        let answer = match pool.dialer.shard().timeout(pool.answer_max, session.insert(messages)).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                self.cancel();
                let words = format!("{} did not answer an INSERT within {:?}", pool.dialer.target(), pool.answer_max);
                Err(Trouble::passing(words))
            }
        };
        match &answer {
            Ok(_new) => {
                self.passing.reset();
                self.setup.reset();
                pool.succeed();
            }
            // Someone has changed the table, perhaps: the next session looks.
            Err(trouble) if trouble.session_lives && trouble.kind != Kind::Setup => {}
            Err(_) => self.drop_session(),
        }
        answer
    }

    async fn wait(&mut self, trouble: &Trouble) {
        self.pool.complain(trouble);
        let wait = match trouble.kind {
            Kind::Setup => self.setup.next(),
            Kind::Passing | Kind::Data => self.passing.next(),
        };
        self.pool.dialer.shard().sleep(wait).await;
    }

    /// Has the clerk write a dead letter. `None`: the clerk has ended.
    async fn bury(&mut self, rows: &Rows, index: usize, trouble: &Trouble) -> Option<Result<(), String>> {
        let words =
            format_args!("the database refuses the row below LSN {}, a dead letter: {trouble}", rows.lsn(index));
        self.pool.refused.borrow_mut().say(&words);
        let mut one = Rows::new(1, 1);
        one.push_from(rows, index);
        let (ticket, reply): (_, Reply<Result<(), String>>) = ticket();
        let word = Word::Bury { row: one, error: trouble.to_string(), ticket };
        self.pool.words.try_send(word).ok()?;
        self.pool.mark.ring();
        reply.await
    }

    /// Ends the session and what the server does for it; nobody waits for that.
    fn cancel(&mut self) {
        if let Some(session) = self.session.take() {
            self.pool.state.connected.fetch_sub(1, Ordering::Relaxed);
            let pool = self.pool.clone();
            self.pool.dialer.shard().spawn_background(async move { session.cancel(&pool.dialer).await });
        }
    }

    fn drop_session(&mut self) {
        if self.session.take().is_some() {
            self.pool.state.connected.fetch_sub(1, Ordering::Relaxed);
        }
    }

    async fn close(&mut self) {
        if let Some(session) = self.session.take() {
            self.pool.state.connected.fetch_sub(1, Ordering::Relaxed);
            session.close(&self.pool.dialer).await;
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.drop_session();
    }
}
