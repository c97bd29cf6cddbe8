//! A few sessions of one shard for many questions: opened when one is asked, kept while there are more, each question with
//! a time of its own.
//!
//! ```text
//!   with ─► turn (sessions_max at once, waiting_max wait) ─► an idle session, or a new one ─► work ─► idle again
//!                        └── beyond: Busy                        └── Late ──► what the server does is cancelled
//! ```
//!
//! Work is done once, or, where an idle session turns out to have died meanwhile, once more in a new one. So it must be
//! work that may be done twice.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use annulus_engine::Shard;

use super::dial::Dialer;
use super::migrate::Schema;
use super::session::Session;
use super::trouble::Trouble;
use super::url::Target;
use crate::serve::wire::Crowd;

/// How a pool is used.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Sessions at the same time.
    pub sessions_max: usize,
    /// Questions that wait for one; beyond: [`Refusal::Busy`].
    pub waiting_max: usize,
    /// How long a question may take, from being asked to its answer, waiting included. Beyond: [`Refusal::Late`].
    pub answer_max: Duration,
    /// How long a session without questions is kept.
    pub idle_max: Duration,
    /// The tables that questions are about: made or brought up to date when a session is opened, within the question's time.
    pub schema: Option<&'static Schema>,
}

/// Why a question was not answered.
#[derive(Debug)]
pub enum Refusal {
    /// Too many wait.
    Busy,
    /// It took longer than it may.
    Late,
    /// What the database says.
    Trouble(Trouble),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Busy => f.write_str("too many questions wait for the database"),
            Refusal::Late => f.write_str("the database did not answer in time"),
            Refusal::Trouble(trouble) => trouble.fmt(f),
        }
    }
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Refusal {
        Refusal::Trouble(trouble)
    }
}

struct Idle {
    session: Session,
    since: Duration,
}

/// See the module's description.
pub struct Pool {
    dialer: Dialer,
    settings: PoolSettings,
    idle: RefCell<Vec<Idle>>,
    busy: Cell<usize>,
    queue: Crowd,
}

/// A turn, given back when dropped.
struct Turn<'a>(&'a Pool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() - 1);
        self.0.queue.one();
    }
}

/// A session at work. Dropped with it, as when the time is up, what the server does is cancelled.
struct AtWork<'a> {
    pool: &'a Rc<Pool>,
    session: Option<Session>,
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        let (Some(session), pool) = (self.session.take(), self.pool.clone()) else { return };
        let shard = pool.dialer.shard().clone();
        drop(shard.spawn_background(async move { session.cancel(&pool.dialer).await }));
    }
}

impl Pool {
    /// A pool without sessions.
    ///
    /// # Errors
    /// A sentence: certificates cannot be read, or a name cannot be in one.
    pub fn new(shard: &Shard, target: &Target, settings: PoolSettings) -> Result<Rc<Pool>, String> {
        let dialer = Dialer::new(shard, target)?;
        let (idle, busy, queue) = (RefCell::default(), Cell::new(0), Crowd::default());
        let pool = Rc::new(Pool { dialer, settings, idle, busy, queue });
        drop(shard.spawn_background(Pool::tidy(Rc::downgrade(&pool), shard.clone(), pool.settings.idle_max)));
        Ok(pool)
    }

    /// Sessions that are open.
    pub fn sessions(&self) -> usize {
        self.idle.borrow().len() + self.busy.get()
    }

    /// Does work in a session, which must be work that may be done twice.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn with<T>(
        self: &Rc<Self>,
        work: impl AsyncFn(&mut Session) -> Result<T, Trouble>,
    ) -> Result<T, Refusal> {
        if self.busy.get() >= self.settings.sessions_max && self.queue.size() >= self.settings.waiting_max {
            return Err(Refusal::Busy);
        }
        let answering = async {
            let _turn = self.turn().await;
            if let Some(session) = self.take_idle() {
                match self.work(session, &work).await {
                    Err(trouble) if !trouble.session_lives => {}
                    answer => return answer,
                }
                // One is dead: the others are of the same server.
                self.idle.borrow_mut().clear();
            }
            self.work(self.open().await?, &work).await
        };
        match self.dialer.shard().timeout(self.settings.answer_max, answering).await {
            Ok(answer) => answer.map_err(Refusal::from),
            Err(_elapsed) => Err(Refusal::Late),
        }
    }

    async fn work<T>(
        self: &Rc<Self>,
        session: Session,
        work: &impl AsyncFn(&mut Session) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let mut at_work = AtWork { pool: self, session: Some(session) };
        let session = at_work.session.as_mut().expect("it was just put there");
        let answer = work(session).await;
        let session = at_work.session.take().expect("only dropping takes it, and this is not dropped");
        if answer.as_ref().map_or_else(|trouble| trouble.session_lives, |_| true) {
            self.idle.borrow_mut().push(Idle { session, since: self.dialer.shard().now() });
        }
        answer
    }

    async fn open(self: &Rc<Self>) -> Result<Session, Trouble> {
        let session = Session::open(&self.dialer).await?;
        let Some(schema) = self.settings.schema else { return Ok(session) };
        let mut at_work = AtWork { pool: self, session: Some(session) };
        let session = at_work.session.as_mut().expect("it was just put there");
        let ensured = schema.ensure(session).await;
        let session = at_work.session.take().expect("only dropping takes it, and this is not dropped");
        ensured.map(|()| session)
    }

    fn take_idle(&self) -> Option<Session> {
        // The one used last: the others grow old, and are closed.
        self.idle.borrow_mut().pop().map(|idle| idle.session)
    }

    async fn turn(&self) -> Turn<'_> {
        while self.busy.get() >= self.settings.sessions_max {
            self.queue.wait().await;
        }
        self.busy.set(self.busy.get() + 1);
        Turn(self)
    }

    /// Closes sessions that nobody has needed for a while, for as long as there is a pool.
    async fn tidy(pool: std::rc::Weak<Pool>, shard: Shard, idle_max: Duration) {
        loop {
            shard.sleep(idle_max / 2).await;
            let Some(pool) = pool.upgrade() else { return };
            let now = shard.now();
            let is_old = |idle: &mut Idle| now.saturating_sub(idle.since) >= idle_max;
            let old: Vec<Idle> = pool.idle.borrow_mut().extract_if(.., is_old).collect();
            for Idle { session, .. } in old {
                session.close(&pool.dialer).await;
            }
        }
    }
}
