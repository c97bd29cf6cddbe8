//! The durable queue: what was promised with a 202, in what order it is done, and what became of it.
//!
//! ```text
//!   enqueue ─(durable)─► waiting ──lease──► leased ──complete──► done
//!               ▲           ▲                 │ ├──fail (image)─► failed
//!               │           └──backoff────────┤ ├──fail (ours)──► waiting again, or dead
//!               │           └──release────────┤ └──all jobs cancelled─► cancelled
//!          job joins a      └──lease expired──┘
//!          work that is there
//! ```
//!
//! Every call answers later ([`Answer`]): a task of a shard awaits it, a thread waits for it. An answer to `enqueue`
//! means that it survives a power cut. A lease that is not renewed in time goes back, its attempt counted.

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod ledger;
mod options;
pub mod redis;
mod schema;
mod sqlite;
mod sums;
#[cfg(test)]
mod tests;
#[cfg(any(test, fuzzing))]
pub(crate) mod trial;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use annulus_engine::compute::Reply;
use crossbeam_channel::Receiver;

pub use options::QueueOptions;
pub use redis::{RedisQueue, RedisQueueSettings};
pub use sqlite::SqliteQueue;

use super::fault::Fault;
use super::job::{Document, JobId, Priority, Tenant};
use super::store::Key;
use super::work::{Manifest, Order, Salt, Work};

/// Why the queue did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// More calls wait than it takes; try again later.
    Busy,
    /// There is no room on the disk; nothing that was answered before is lost.
    Full(String),
    /// Reading or writing failed, in a sentence.
    Io(String),
    /// The queue has ended.
    Gone,
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueueError::Busy => f.write_str("the queue has too many calls waiting"),
            QueueError::Full(detail) | QueueError::Io(detail) => f.write_str(detail),
            QueueError::Gone => f.write_str("the queue has ended"),
        }
    }
}

impl std::error::Error for QueueError {}

/// An answer on its way. Dropping it does not undo what was asked.
pub struct Answer<T> {
    state: AnswerState<T>,
}

enum AnswerState<T> {
    Coming(Reply<Result<T, QueueError>>),
    Known(Option<Result<T, QueueError>>),
}

/// The value is only ever moved out, never pinned.
impl<T> Unpin for Answer<T> {}

impl<T> Answer<T> {
    /// What a ticket's holder will answer.
    pub fn coming(reply: Reply<Result<T, QueueError>>) -> Answer<T> {
        Answer { state: AnswerState::Coming(reply) }
    }

    /// What is known already.
    pub fn known(answer: Result<T, QueueError>) -> Answer<T> {
        Answer { state: AnswerState::Known(Some(answer)) }
    }

    /// Blocks the calling thread until it is here. Never on a shard: await it there.
    ///
    /// # Errors
    /// [`QueueError`].
    pub fn wait(self) -> Result<T, QueueError> {
        match self.state {
            AnswerState::Coming(reply) => reply.wait().unwrap_or(Err(QueueError::Gone)),
            AnswerState::Known(answer) => answer.unwrap_or(Err(QueueError::Gone)),
        }
    }
}

impl<T> Future for Answer<T> {
    type Output = Result<T, QueueError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            AnswerState::Coming(reply) => Pin::new(reply).poll(cx).map(|reply| reply.unwrap_or(Err(QueueError::Gone))),
            AnswerState::Known(answer) => Poll::Ready(answer.take().unwrap_or(Err(QueueError::Gone))),
        }
    }
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum Enqueued {
    /// It is in the queue, durably, or joined a work that is there.
    Accepted(Document),
    /// The same request came before, with the same idempotency key: this is its job.
    Before(Document),
    /// The idempotency key came before with another request: 422.
    KeyReused(JobId),
    /// The queue is at its hard mark: 429.
    Refused,
}

/// What became of a job that was to be deleted.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum Purged {
    /// There is no such job.
    Unknown,
    /// It has not ended: nothing was changed.
    Unended(Box<Document>),
    /// It is forgotten, and so is its work, unless another job has that; this is left of them in the store.
    Gone(Remains),
}

/// Objects that nothing refers to any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Outputs and the manifest.
    pub objects: Vec<Key>,
    /// The original, unless another work needs it.
    pub original: Option<Key>,
    /// Whether outputs stay because another job has the same work.
    pub keeps_outputs: bool,
}

/// How the door judged an order when it came, to be told in its document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// Whether the queue is long.
    pub delayed: bool,
    /// How long it will probably wait for its turn.
    pub wait: Duration,
}

/// What a caller of [`Queue::lease`] can take now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// How many works.
    pub most: usize,
    /// Bytes that all of them together may hold at their peaks.
    pub bytes: u64,
    /// Bytes that there are in all: a work that needs more is leased although it cannot run, so that its holder fails it
    /// and nobody waits behind it for good.
    pub bytes_total: u64,
    /// A work whose peak is above this is a giant.
    pub giant_bytes: u64,
    /// Whether the lane of one for giants is free. One giant at most is leased then, and none otherwise.
    pub giant: bool,
}

/// A lease by its work and attempt: an answer to an older attempt is told apart from one to the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId {
    /// The queue's number of the work.
    pub work: i64,
    /// Rises with every lease of the work; never the same again, whatever became of the count of attempts.
    pub turn: u64,
}

/// The right and duty to do a work, until it expires.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// What to name when renewing or ending it.
    pub id: LeaseId,
    /// What to do.
    pub work: Work,
    /// This attempt's number, from 1.
    pub attempt: u32,
    /// Workers that this work has ended before.
    pub crashes: u32,
    /// Who goes first.
    pub priority: Priority,
}

/// What the holder of a lease has learned when renewing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Held {
    /// It is still its own.
    Yes,
    /// Nobody wants it any more, or another has it: stop.
    No,
}

/// What became of a work whose attempt has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is done, failed or dead now.
    Ended,
    /// It will be tried again after this long.
    Again(Duration),
    /// The lease was no longer its holder's, and the answer changed nothing.
    Stale,
}

/// What a tenant has in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Jobs that have not ended.
    pub unended: u64,
    /// Bytes of the originals of its jobs of this day of UTC, those that were forgotten meanwhile too.
    pub bytes_of_day: u64,
}

/// How full the queue is. Read without waiting for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Works that wait for their turn or their next attempt, interactive ones.
    pub interactive: u64,
    /// The same, bulk.
    pub bulk: u64,
    /// Works that are being worked on.
    pub leased: u64,
    /// Works that wait for a person.
    pub dead: u64,
    /// Predicted processor time of all that waits, in microseconds.
    pub waiting_cpu_us: u64,
}

impl Depth {
    /// Works that wait.
    pub fn waiting(&self) -> u64 {
        self.interactive + self.bulk
    }
}

/// What happened since the start. Read without waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs accepted.
    pub accepted: u64,
    /// Jobs that joined a work that was there.
    pub joined: u64,
    /// Works done.
    pub done: u64,
    /// Works failed.
    pub failed: u64,
    /// Works that became dead letters.
    pub died: u64,
    /// Works cancelled.
    pub cancelled: u64,
    /// Attempts that will be repeated.
    pub retried: u64,
    /// Leases that were not renewed in time, those of an earlier process included.
    pub expired: u64,
    /// Transactions, each of which made all its calls durable at once.
    pub commits: u64,
    /// Calls in them.
    pub committed_calls: u64,
    /// The longest transaction, in microseconds.
    pub commit_us_max: u64,
}

/// The queue. All of it may be called from any thread and any shard; nothing blocks but [`Answer::wait`].
pub trait Queue: Send + Sync {
    /// The secret of all names.
    fn salt(&self) -> &Salt;

    /// Enters a job. Answered once it is durable.
    fn enqueue(&self, order: Order, forecast: Forecast) -> Answer<Enqueued>;

    /// The job that came with this idempotency key, and the fingerprint it came with.
    fn find(&self, tenant: &Tenant, idempotency_key: &str) -> Answer<Option<(Document, [u8; 32])>>;

    /// A job's document, for its own tenant only.
    fn job(&self, tenant: &Tenant, id: JobId) -> Answer<Option<Document>>;

    /// The document as soon as its revision is above `seen`: at once, or with the next change.
    fn follow(&self, tenant: &Tenant, id: JobId, seen: u64) -> Answer<Option<Document>>;

    /// Cancels a job; its work ends when no other job wants it. The document afterwards; a final one stays as it was.
    fn cancel(&self, tenant: &Tenant, id: JobId) -> Answer<Option<Document>>;

    /// A job's document, whosever it is, and whose.
    fn whose(&self, id: JobId) -> Answer<Option<(Tenant, Document)>>;

    /// Forgets a job that has ended, and its work if no other job has it, whatever is kept for how long. Its objects are the
    /// caller's to remove.
    fn purge(&self, tenant: &Tenant, id: JobId) -> Answer<Purged>;

    /// Leases what is due, as much as was asked, without waiting for more. Interactive works come first but for bulk's
    /// share; a work that does not fit into `ask.bytes` holds back those behind it, so that it comes to its turn.
    fn lease(&self, lane: &str, ask: Ask) -> Answer<Vec<Lease>>;

    /// Rings when something may be due. Bells that ring while nobody listens are one.
    fn bell(&self) -> Receiver<()>;

    /// Renews leases, and tells how far each is (0 to 1). One [`Held`] each, in order.
    fn heartbeat(&self, leases: Vec<(LeaseId, f32)>) -> Answer<Vec<Held>>;

    /// The work is done: its manifest is published.
    fn complete(&self, lease: LeaseId, manifest: Manifest) -> Answer<Settled>;

    /// The attempt failed; whether it is repeated follows from the fault.
    fn fail(&self, lease: LeaseId, fault: Fault) -> Answer<Settled>;

    /// Gives a lease back as if it had not been taken: the attempt is not counted.
    fn release(&self, lease: LeaseId) -> Answer<Settled>;

    /// Dead jobs, newest first, those before `before` (a moment in milliseconds) only; of one tenant or of all.
    fn dead(&self, tenant: Option<&Tenant>, before: u64, most: usize) -> Answer<Vec<(Tenant, Document)>>;

    /// Tries a dead job again, its attempts forgotten. `None`: there is no such job. One that is not dead stays as it is.
    fn retry(&self, tenant: Option<&Tenant>, id: JobId) -> Answer<Option<Document>>;

    /// Which of these objects a work refers to.
    fn wanted(&self, keys: Vec<Key>) -> Answer<Vec<bool>>;

    /// What a tenant has in it.
    fn usage(&self, tenant: &Tenant) -> Answer<Usage>;

    /// How full it is.
    fn depth(&self) -> Depth;

    /// What happened.
    fn counts(&self) -> Counts;
}
