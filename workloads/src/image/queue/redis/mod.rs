//! The queue of a fleet: Redis, which every node asks and none owns.
//!
//! ```text
//!   shards, threads ──calls──► courier's shard ──scripts──► Redis ──news──► every node: bell, followers, depth
//!
//!   ready:0 ready:1    streams of what is due, interactive and bulk; aside:0, aside:1 giants that wait for room
//!   later              what will be due: repetitions with their backoff, moved to ready by a script
//!   w:N, j:ID          works and jobs, as hashes: any node answers for any job
//! ```
//!
//! **Leases are deliveries.** A node takes the head of a stream for the consumer group `lanes` (`XREADGROUP`), in the script that
//! looked whether it fits; renewing claims the entry anew (`XCLAIM`, idle time 0), the end acknowledges and deletes it, and what
//! is idle for a lease's length is claimed by whoever tends the queue (`XAUTOCLAIM`) and goes back. So a node that is killed costs
//! its works one lease, by Redis' own clock, whatever the nodes' clocks say. Attempts are counted in the work's hash and not
//! taken from the group's delivery counter: a lease that was given back uncounted, or taken over, has none of its own there.
//!
//! **Everything that changes is one script** over keys of one hash tag, so a cluster runs it whole on one of its servers, and the
//! append-only file holds all of it or nothing. Scripts may be asked twice: a job is entered under an id that its node chose, an
//! end is stale the second time. Only a lease is not asked for again when its answer is lost: it expires.
//!
//! **What is answered is as durable as that Redis**: `appendfsync always` survives its crash, anything less loses what the start
//! says. Where Redis has lost everything, nodes put their secret back, so that names stay; jobs are gone, and images stay.

mod news;
mod records;
mod room;
mod scripts;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use annulus_engine::compute::{Ticket, ticket};
use crossbeam_channel::{Receiver, bounded};

pub use settings::RedisQueueSettings;

use self::room::Room;
use super::options::QueueOptions;
use super::sums::Sums;
use super::{
    Answer, Ask, Counts, Depth, Enqueued, Forecast, Held, Lease, LeaseId, Purged, Queue, QueueError, Settled, Usage,
};
use crate::image::courier::{Courier, NotTaken};
use crate::image::fault::Fault;
use crate::image::job::{Document, JobId, Tenant};
use crate::image::outbox::{Fill, Letter, Noted, Outbox, Place, Reader};
use crate::image::store::Key;
use crate::image::work::{Manifest, Order, Salt};

/// See the module's description. Dropping it waits for what was called.
pub struct RedisQueue {
    courier: Courier<Room>,
    bell: Receiver<()>,
    sums: Arc<Sums>,
    salt: Salt,
    told: Vec<String>,
}

impl RedisQueue {
    /// Connects, and makes the queue if there is none.
    ///
    /// # Errors
    /// [`QueueError::Io`] with a sentence: Redis cannot be reached, or what is there is not this queue.
    pub fn open(settings: &RedisQueueSettings, options: QueueOptions) -> Result<RedisQueue, QueueError> {
        let sums = Arc::new(Sums::default());
        let (ring, bell) = bounded(1);
        let (inside, counted) = (settings.clone(), sums.clone());
        let courier = Courier::start(move |shard| Ok(Room::furnish(shard, &inside, options, counted, ring)));
        let courier = courier.map_err(QueueError::Io)?;
        let opened = courier.ask(|room| async move { room.open().await }).map_err(not_taken)?;
        let (salt, told) = opened.wait().unwrap_or(Err(QueueError::Gone))?;
        Ok(RedisQueue { courier, bell, sums, salt, told })
    }

    /// Where it is and what its word is worth, for the log.
    pub fn told(&self) -> &[String] {
        &self.told
    }

    fn call<T: Send + 'static, F: Future<Output = Result<T, QueueError>> + 'static>(
        &self,
        errand: impl FnOnce(std::rc::Rc<Room>) -> F + Send + 'static,
    ) -> Answer<T> {
        let (slip, reply): (Ticket<Result<T, QueueError>>, _) = ticket();
        let sent = self.courier.send(move |room| {
            let result = errand(room);
            async move { slip.answer(result.await) }
        });
        match sent {
            Ok(()) => Answer::coming(reply),
            Err(error) => Answer::known(Err(not_taken(error))),
        }
    }
}

fn not_taken(error: NotTaken) -> QueueError {
    match error {
        NotTaken::Busy => QueueError::Busy,
        NotTaken::Gone => QueueError::Gone,
    }
}

impl Queue for RedisQueue {
    fn salt(&self) -> &Salt {
        &self.salt
    }

    fn enqueue(&self, order: Order, forecast: Forecast) -> Answer<Enqueued> {
        self.call(move |room| async move { room.enqueue(&order, forecast).await })
    }

    fn find(&self, tenant: &Tenant, idempotency_key: &str) -> Answer<Option<(Document, [u8; 32])>> {
        let (tenant, key) = (tenant.clone(), idempotency_key.to_owned());
        self.call(move |room| async move { room.find(&tenant, &key).await })
    }

    fn job(&self, tenant: &Tenant, id: JobId) -> Answer<Option<Document>> {
        let tenant = tenant.clone();
        self.call(move |room| async move { room.job(&tenant, id).await })
    }

    fn follow(&self, tenant: &Tenant, id: JobId, seen: u64) -> Answer<Option<Document>> {
        let (tenant, (slip, reply)) = (tenant.clone(), ticket());
        let sent = self.courier.send(move |room| async move { room.follow(tenant, id, seen, slip).await });
        match sent {
            Ok(()) => Answer::coming(reply),
            Err(error) => Answer::known(Err(not_taken(error))),
        }
    }

    fn cancel(&self, tenant: &Tenant, id: JobId) -> Answer<Option<Document>> {
        let tenant = tenant.clone();
        self.call(move |room| async move { room.cancel(&tenant, id).await })
    }

    fn whose(&self, id: JobId) -> Answer<Option<(Tenant, Document)>> {
        self.call(move |room| async move { room.whose(id).await })
    }

    fn purge(&self, tenant: &Tenant, id: JobId) -> Answer<Purged> {
        let tenant = tenant.clone();
        self.call(move |room| async move { room.purge(&tenant, id).await })
    }

    fn lease(&self, lane: &str, ask: Ask) -> Answer<Vec<Lease>> {
        let lane = lane.to_owned();
        self.call(move |room| async move { room.lease(&lane, ask).await })
    }

    fn bell(&self) -> Receiver<()> {
        self.bell.clone()
    }

    fn heartbeat(&self, leases: Vec<(LeaseId, f32)>) -> Answer<Vec<Held>> {
        self.call(move |room| async move { room.hold(&leases).await })
    }

    fn complete(&self, lease: LeaseId, manifest: Manifest) -> Answer<Settled> {
        self.call(move |room| async move { room.complete(lease, &manifest).await })
    }

    fn fail(&self, lease: LeaseId, fault: Fault) -> Answer<Settled> {
        self.call(move |room| async move { room.fail(lease, &fault).await })
    }

    fn release(&self, lease: LeaseId) -> Answer<Settled> {
        self.call(move |room| async move { room.release(lease).await })
    }

    fn dead(&self, tenant: Option<&Tenant>, before: u64, most: usize) -> Answer<Vec<(Tenant, Document)>> {
        let tenant = tenant.cloned();
        self.call(move |room| async move { room.dead(tenant.as_ref(), before, most).await })
    }

    fn retry(&self, tenant: Option<&Tenant>, id: JobId) -> Answer<Option<Document>> {
        let tenant = tenant.cloned();
        self.call(move |room| async move { room.retry(tenant.as_ref(), id).await })
    }

    fn wanted(&self, keys: Vec<Key>) -> Answer<Vec<bool>> {
        self.call(move |room| async move { room.wanted(&keys).await })
    }

    fn usage(&self, tenant: &Tenant) -> Answer<Usage> {
        let tenant = tenant.clone();
        self.call(move |room| async move { room.usage(&tenant).await })
    }

    fn depth(&self) -> Depth {
        self.sums.depth()
    }

    fn counts(&self) -> Counts {
        self.sums.counts()
    }
}

impl Outbox for RedisQueue {
    fn first(&self, reader: Reader, most: usize) -> Answer<Vec<Noted>> {
        self.call(move |room| async move { room.events(reader, None, most).await })
    }

    fn forget(&self, reader: Reader, upto: Place) -> Answer<()> {
        self.call(move |room| async move { room.events(reader, Some(upto), 0).await.map(drop) })
    }

    fn give_up(&self, upto: Place, why: &str) -> Answer<()> {
        let why = why.to_owned();
        self.call(move |room| async move { room.give_up(upto, &why).await })
    }

    fn letters(&self, before: Option<Place>, most: usize) -> Answer<Vec<Letter>> {
        self.call(move |room| async move { room.letters(before, most).await })
    }

    fn again(&self, letter: Option<Place>) -> Answer<u64> {
        self.call(move |room| async move { room.again(letter).await })
    }

    fn fill(&self, reader: Reader) -> Fill {
        self.sums.fill(reader)
    }
}
