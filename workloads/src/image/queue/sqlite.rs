//! The queue on one machine: SQLite behind one thread, which makes durable together what was asked for together.
//!
//! ```text
//!   shards, threads ──calls──► channel ──► gather all that wait ──► one transaction ──► one fdatasync ──► answer all
//!                                 ▲                                                                          │
//!                                 └───────────── meanwhile the next calls gather here ◄──────────────────────┘
//! ```
//!
//! An answer is given only after the commit. When a commit fails, every call of it is answered with the failure, and
//! the tables are as they were.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use annulus_engine::compute::{Ticket, ticket};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::ledger::{Ledger, is_one_row};
use super::options::QueueOptions;
use super::sums::Sums;
use super::{
    Answer, Ask, Counts, Depth, Enqueued, Forecast, Held, Lease, LeaseId, Purged, Queue, QueueError, Settled, Usage,
    schema,
};
use crate::image::fault::Fault;
use crate::image::job::{Document, JobId, Tenant};
use crate::image::outbox::{Fill, Letter, Noted, Outbox, Place, Reader};
use crate::image::store::Key;
use crate::image::work::{Manifest, Order, Salt};

/// Calls that may wait for the thread; beyond, [`QueueError::Busy`].
const CALLS_MAX: usize = 16_384;
/// Calls in one transaction.
const BATCH_MAX: usize = 1024;
/// How often what is too old is forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);

type Slip<T> = Ticket<Result<T, QueueError>>;

enum Call {
    Enqueue(Box<Order>, Forecast, Slip<Enqueued>),
    Find(Tenant, String, Slip<Option<(Document, [u8; 32])>>),
    Job(Tenant, JobId, Slip<Option<Document>>),
    Follow(Tenant, JobId, u64, Slip<Option<Document>>),
    Cancel(Tenant, JobId, Slip<Option<Document>>),
    Whose(JobId, Slip<Option<(Tenant, Document)>>),
    Purge(Tenant, JobId, Slip<Purged>),
    Lease(String, Ask, Slip<Vec<Lease>>),
    Heartbeat(Vec<(LeaseId, f32)>, Slip<Vec<Held>>),
    Complete(LeaseId, Manifest, Slip<Settled>),
    Fail(LeaseId, Fault, Slip<Settled>),
    Release(LeaseId, Slip<Settled>),
    Dead(Option<Tenant>, u64, usize, Slip<Vec<(Tenant, Document)>>),
    Retry(Option<Tenant>, JobId, Slip<Option<Document>>),
    Wanted(Vec<Key>, Slip<Vec<bool>>),
    Usage(Tenant, Slip<Usage>),
    Events(Reader, usize, Slip<Vec<Noted>>),
    Told(Reader, Place, Slip<()>),
    GiveUp(Place, String, Slip<()>),
    Letters(Option<Place>, usize, Slip<Vec<Letter>>),
    Again(Option<Place>, Slip<u64>),
}

impl Call {
    /// Whether it changes nothing in the tables.
    fn is_read(&self) -> bool {
        matches!(
            self,
            Call::Find(..)
                | Call::Job(..)
                | Call::Whose(..)
                | Call::Follow(..)
                | Call::Heartbeat(..)
                | Call::Dead(..)
                | Call::Wanted(..)
                | Call::Usage(..)
                | Call::Events(..)
                | Call::Letters(..)
        )
    }
}

/// Gives an answer once it is known whether the transaction was committed.
type Deliver = Box<dyn FnOnce(Result<(), QueueError>)>;

/// See the module's description. Dropping it works off what was called, and closes the database.
pub struct SqliteQueue {
    calls: Option<Sender<Call>>,
    bell: Receiver<()>,
    sums: Arc<Sums>,
    salt: Salt,
    thread: Option<JoinHandle<()>>,
}

impl SqliteQueue {
    /// Opens or makes the queue in `directory`. What an earlier process had leased goes back to wait, its attempt
    /// counted.
    ///
    /// # Errors
    /// [`QueueError::Io`] when the directory cannot be used, another process uses it, or the database is damaged or of
    /// a newer version.
    pub fn open(directory: &Path, options: QueueOptions) -> Result<SqliteQueue, QueueError> {
        let schema::Database { connection, secret, lock } = schema::open(directory)?;
        let path = directory.join("queue.db");
        let salt = Salt::new(&secret);
        let ledger = Ledger::new(connection, salt.clone(), options).map_err(|error| schema::describe(&path, &error))?;
        let (calls, receiver) = bounded(CALLS_MAX);
        let (ring, bell) = bounded(1);
        let sums = Arc::new(Sums::default());
        show(&sums, &ledger);
        let mut clerk = Clerk { ledger, path, ring, sums: sums.clone(), broken: None, forgot: Instant::now() };
        let body = move || {
            clerk.run(&receiver);
            drop(lock);
        };
        let thread = std::thread::Builder::new().name("image-queue".to_owned()).spawn(body);
        let thread = thread.map_err(|error| QueueError::Io(format!("starting the queue's thread: {error}")))?;
        Ok(SqliteQueue { calls: Some(calls), bell, sums, salt, thread: Some(thread) })
    }

    fn call<T>(&self, call: impl FnOnce(Slip<T>) -> Call) -> Answer<T> {
        let (slip, reply) = ticket();
        let calls = self.calls.as_ref().expect("the sender is taken only by drop");
        match calls.try_send(call(slip)) {
            Ok(()) => Answer::coming(reply),
            Err(crossbeam_channel::TrySendError::Full(_)) => Answer::known(Err(QueueError::Busy)),
            Err(crossbeam_channel::TrySendError::Disconnected(_)) => Answer::known(Err(QueueError::Gone)),
        }
    }
}

impl Drop for SqliteQueue {
    fn drop(&mut self) {
        self.calls = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so, and has nothing more to give.
            let _ended = thread.join();
        }
    }
}

impl Queue for SqliteQueue {
    fn salt(&self) -> &Salt {
        &self.salt
    }

    fn enqueue(&self, order: Order, forecast: Forecast) -> Answer<Enqueued> {
        self.call(|slip| Call::Enqueue(Box::new(order), forecast, slip))
    }

    fn find(&self, tenant: &Tenant, idempotency_key: &str) -> Answer<Option<(Document, [u8; 32])>> {
        self.call(|slip| Call::Find(tenant.clone(), idempotency_key.to_owned(), slip))
    }

    fn job(&self, tenant: &Tenant, id: JobId) -> Answer<Option<Document>> {
        self.call(|slip| Call::Job(tenant.clone(), id, slip))
    }

    fn follow(&self, tenant: &Tenant, id: JobId, seen: u64) -> Answer<Option<Document>> {
        self.call(|slip| Call::Follow(tenant.clone(), id, seen, slip))
    }

    fn cancel(&self, tenant: &Tenant, id: JobId) -> Answer<Option<Document>> {
        self.call(|slip| Call::Cancel(tenant.clone(), id, slip))
    }

    fn whose(&self, id: JobId) -> Answer<Option<(Tenant, Document)>> {
        self.call(|slip| Call::Whose(id, slip))
    }

    fn purge(&self, tenant: &Tenant, id: JobId) -> Answer<Purged> {
        self.call(|slip| Call::Purge(tenant.clone(), id, slip))
    }

    fn lease(&self, lane: &str, ask: Ask) -> Answer<Vec<Lease>> {
        self.call(|slip| Call::Lease(lane.to_owned(), ask, slip))
    }

    fn bell(&self) -> Receiver<()> {
        self.bell.clone()
    }

    fn heartbeat(&self, leases: Vec<(LeaseId, f32)>) -> Answer<Vec<Held>> {
        self.call(|slip| Call::Heartbeat(leases, slip))
    }

    fn complete(&self, lease: LeaseId, manifest: Manifest) -> Answer<Settled> {
        self.call(|slip| Call::Complete(lease, manifest, slip))
    }

    fn fail(&self, lease: LeaseId, fault: Fault) -> Answer<Settled> {
        self.call(|slip| Call::Fail(lease, fault, slip))
    }

    fn release(&self, lease: LeaseId) -> Answer<Settled> {
        self.call(|slip| Call::Release(lease, slip))
    }

    fn dead(&self, tenant: Option<&Tenant>, before: u64, most: usize) -> Answer<Vec<(Tenant, Document)>> {
        self.call(|slip| Call::Dead(tenant.cloned(), before, most, slip))
    }

    fn retry(&self, tenant: Option<&Tenant>, id: JobId) -> Answer<Option<Document>> {
        self.call(|slip| Call::Retry(tenant.cloned(), id, slip))
    }

    fn wanted(&self, keys: Vec<Key>) -> Answer<Vec<bool>> {
        self.call(|slip| Call::Wanted(keys, slip))
    }

    fn usage(&self, tenant: &Tenant) -> Answer<Usage> {
        self.call(|slip| Call::Usage(tenant.clone(), slip))
    }

    fn depth(&self) -> Depth {
        self.sums.depth()
    }

    fn counts(&self) -> Counts {
        self.sums.counts()
    }
}

impl Outbox for SqliteQueue {
    fn first(&self, reader: Reader, most: usize) -> Answer<Vec<Noted>> {
        self.call(|slip| Call::Events(reader, most, slip))
    }

    fn forget(&self, reader: Reader, upto: Place) -> Answer<()> {
        self.call(|slip| Call::Told(reader, upto, slip))
    }

    fn give_up(&self, upto: Place, why: &str) -> Answer<()> {
        self.call(|slip| Call::GiveUp(upto, why.to_owned(), slip))
    }

    fn letters(&self, before: Option<Place>, most: usize) -> Answer<Vec<Letter>> {
        self.call(|slip| Call::Letters(before, most, slip))
    }

    fn again(&self, letter: Option<Place>) -> Answer<u64> {
        self.call(|slip| Call::Again(letter, slip))
    }

    fn fill(&self, reader: Reader) -> Fill {
        self.sums.fill(reader)
    }
}

/// Shows the ledger's sums to those who do not wait for it.
fn show(sums: &Sums, ledger: &Ledger) {
    sums.set_depth(&ledger.depth());
    sums.set_counts(&ledger.counts());
    for reader in [Reader::Account, Reader::Webhooks] {
        sums.set_fill(reader, ledger.fill(reader));
    }
}

/// The thread's own.
struct Clerk {
    ledger: Ledger,
    path: PathBuf,
    ring: Sender<()>,
    sums: Arc<Sums>,
    /// Why this batch cannot be committed.
    broken: Option<QueueError>,
    forgot: Instant,
}

impl Clerk {
    /// Until every sender is gone and every call is answered.
    fn run(&mut self, calls: &Receiver<Call>) {
        self.ring();
        loop {
            let patience = FORGET_EVERY.saturating_sub(self.forgot.elapsed());
            let patience = self.ledger.idle_for(patience).unwrap_or(patience);
            let batch: Vec<Call> = match calls.recv_timeout(patience) {
                Ok(first) => std::iter::once(first).chain(calls.try_iter().take(BATCH_MAX - 1)).collect(),
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let idle = batch.is_empty();
            self.upkeep();
            // Apart, so that questions are answered even while a full disk takes nothing.
            let (reads, writes): (Vec<Call>, Vec<Call>) = batch.into_iter().partition(Call::is_read);
            self.transact(writes);
            self.transact(reads);
            if idle {
                // Waiting has ended by itself: a backoff or a lease may be over.
                self.ring();
            }
        }
    }

    fn ring(&self) {
        // It rings already.
        let _rings = self.ring.try_send(());
    }

    fn transact(&mut self, batch: Vec<Call>) {
        if batch.is_empty() {
            return;
        }
        self.begin();
        let count = batch.len() as u64;
        let deliveries: Vec<Deliver> = batch.into_iter().filter_map(|call| self.perform(call)).collect();
        let committed = self.commit(count);
        for deliver in deliveries {
            deliver(committed.clone());
        }
        self.tell();
    }

    fn tell(&mut self) {
        for (slip, document) in self.ledger.news() {
            slip.answer(Ok(document));
        }
    }

    fn begin(&mut self) {
        self.broken = None;
        let begun = self.ledger.begin();
        self.note(begun);
    }

    /// Takes back what expired, and forgets what is old. What cannot be done now is done the next time.
    fn upkeep(&mut self) {
        let forgets = self.forgot.elapsed() >= FORGET_EVERY;
        if !forgets && !self.ledger.is_expiring() {
            return;
        }
        self.begin();
        let expired = self.ledger.expire();
        self.note(expired);
        let mut more = false;
        if forgets {
            let forgot = self.ledger.forget().map(|some| more = some);
            self.note(forgot);
        }
        match self.commit(0) {
            Ok(()) if forgets && !more => self.forgot = Instant::now(),
            Ok(()) => {}
            Err(error) => {
                crate::warn!("image: the queue's upkeep waits: {error}");
                self.forgot = Instant::now();
            }
        }
        self.tell();
    }

    fn note(&mut self, result: rusqlite::Result<()>) {
        if let Err(error) = result {
            let error = schema::describe(&self.path, &error);
            self.broken.get_or_insert(error);
        }
    }

    fn commit(&mut self, calls: u64) -> Result<(), QueueError> {
        if self.broken.is_none() {
            match self.ledger.commit(calls) {
                Ok(committed) => {
                    show(&self.sums, &self.ledger);
                    if committed.ring {
                        self.ring();
                    }
                }
                Err(error) => self.note(Err(error)),
            }
        }
        match self.broken.take() {
            None => Ok(()),
            Some(error) => {
                self.ledger.roll_back();
                Err(error)
            }
        }
    }

    /// An answer that waits for the commit. A failure of the database spoils the whole batch; a row that cannot be
    /// read, its own call only.
    fn answer<T: 'static>(&mut self, slip: Slip<T>, result: rusqlite::Result<T>) -> Option<Deliver> {
        let result = result.map_err(|error| {
            let described = schema::describe(&self.path, &error);
            if !is_one_row(&error) {
                self.broken.get_or_insert(described.clone());
            }
            described
        });
        Some(Box::new(move |committed| slip.answer(committed.and(result))))
    }

    fn perform(&mut self, call: Call) -> Option<Deliver> {
        let ledger = &mut self.ledger;
        match call {
            Call::Enqueue(order, forecast, slip) => {
                let result = ledger.enqueue(&order, forecast);
                self.answer(slip, result)
            }
            Call::Find(tenant, key, slip) => {
                let result = ledger.find(&tenant, &key);
                self.answer(slip, result)
            }
            Call::Job(tenant, id, slip) => {
                let result = ledger.job(&tenant, id);
                self.answer(slip, result)
            }
            Call::Follow(tenant, id, seen, slip) => match ledger.follow(tenant, id, seen, slip) {
                Ok(told) => {
                    let (slip, document) = told?;
                    self.answer(slip, Ok(document))
                }
                // Its ticket, dropped, says that there will be no answer.
                Err(error) => {
                    self.note(if is_one_row(&error) { Ok(()) } else { Err(error) });
                    None
                }
            },
            Call::Cancel(tenant, id, slip) => {
                let result = ledger.cancel(&tenant, id);
                self.answer(slip, result)
            }
            Call::Whose(id, slip) => {
                let result = ledger.whose(id);
                self.answer(slip, result)
            }
            Call::Purge(tenant, id, slip) => {
                let result = ledger.purge(&tenant, id);
                self.answer(slip, result)
            }
            Call::Lease(lane, ask, slip) => {
                // A lease that nobody hears of would only expire.
                if slip.is_abandoned() {
                    return None;
                }
                let result = ledger.lease(&lane, ask);
                self.answer(slip, result)
            }
            Call::Heartbeat(leases, slip) => {
                let result = ledger.heartbeat(&leases);
                self.answer(slip, result)
            }
            Call::Complete(lease, manifest, slip) => {
                let result = ledger.complete(lease, &manifest);
                self.answer(slip, result)
            }
            Call::Fail(lease, fault, slip) => {
                let result = ledger.fail(lease, &fault);
                self.answer(slip, result)
            }
            Call::Release(lease, slip) => {
                let result = ledger.release(lease);
                self.answer(slip, result)
            }
            Call::Dead(tenant, before, most, slip) => {
                let result = ledger.dead(tenant.as_ref(), before, most);
                self.answer(slip, result)
            }
            Call::Retry(tenant, id, slip) => {
                let result = ledger.retry(tenant.as_ref(), id);
                self.answer(slip, result)
            }
            Call::Wanted(keys, slip) => {
                let result = ledger.wanted(&keys);
                self.answer(slip, result)
            }
            Call::Usage(tenant, slip) => {
                let result = ledger.usage(&tenant);
                self.answer(slip, result)
            }
            Call::Events(reader, most, slip) => {
                let result = ledger.events(reader, most);
                self.answer(slip, result)
            }
            Call::Told(reader, upto, slip) => {
                let result = ledger.forget_events(reader, upto);
                self.answer(slip, result)
            }
            Call::GiveUp(upto, why, slip) => {
                let result = ledger.give_up_events(upto, &why);
                self.answer(slip, result)
            }
            Call::Letters(before, most, slip) => {
                let result = ledger.letters(before, most);
                self.answer(slip, result)
            }
            Call::Again(letter, slip) => {
                let result = ledger.tell_again(letter);
                self.answer(slip, result)
            }
        }
    }
}
