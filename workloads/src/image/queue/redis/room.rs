//! The queue's side on its courier's shard: connections, scripts, and what comes by itself.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::Shard;
use annulus_engine::compute::Ticket;
use crossbeam_channel::Sender;

use super::news::{Message, News};
use super::records::{self, Shown, Told, Versioned};
use super::scripts::{ASK, CANCEL, ENQUEUE, EVENTS, HOLD, LEASE, LETTERS, PURGE, RETRY, SETTLE, TEND};
use super::settings::RedisQueueSettings;
use crate::hex;
use crate::image::fault::{Fault, Kind};
use crate::image::job::{Document, JobId, Tenant, random};
use crate::image::outbox::{AGAIN_MAX, EVENTS_MAX_IN_REDIS, LETTERS_MAX, Letter, Noted, Place, Reader};
use crate::image::queue::options::QueueOptions;
use crate::image::queue::sums::Sums;
use crate::image::queue::{Ask, Enqueued, Forecast, Held, Lease, LeaseId, Purged, QueueError, Remains, Settled, Usage};
use crate::image::store::Key;
use crate::image::work::{Manifest, Order, Salt};
use crate::redis::{Event, Events, Redis, Script, Subscriber, Trouble, Value};

/// How long a call waits for a Redis that is away, before it is answered with that.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same at the start, where it may be starting, too.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// Pause between attempts of one call.
const PAUSE: Duration = Duration::from_millis(50);
/// How often what comes by itself is looked for at least, and at most.
const TEND_MAX: Duration = Duration::from_secs(1);
const TEND_MIN: Duration = Duration::from_millis(50);
/// How often what is too old is forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// How often a lease is renewed at most, unless something happened to its work: progress is told so often.
const HOLD_EVERY: Duration = Duration::from_millis(500);
/// A lease is renewed so many times before it ends at least.
const HOLDS_PER_LEASE: u32 = 4;
/// How long a follower trusts that it is told; then it looks.
const FOLLOW_LOOK: Duration = Duration::from_secs(15);

/// A lease as it was renewed last.
struct Beat {
    turn: u64,
    at: Duration,
}

/// See the module's description.
pub(super) struct Room {
    shard: Shard,
    redis: Redis,
    subscriber: Subscriber,
    events: RefCell<Option<Events>>,
    where_: String,
    base: String,
    publish: &'static [u8],
    /// The consumer that this process is, another one with every start.
    node: String,
    options: QueueOptions,
    /// How much of events is kept, and of which, as scripts are told.
    outboxes: String,
    sums: Arc<Sums>,
    version: Cell<u64>,
    ring: Sender<()>,
    news: News,
    beats: RefCell<HashMap<i64, Beat>>,
    secret: Cell<Option<[u8; 32]>>,
    /// Redis has another secret, which was told.
    is_another: Cell<bool>,
}

impl Room {
    /// The room, with connections on their way.
    pub(super) fn furnish(
        shard: &Shard,
        settings: &RedisQueueSettings,
        options: QueueOptions,
        sums: Arc<Sums>,
        ring: Sender<()>,
    ) -> Rc<Room> {
        let redis = Redis::start(shard, &settings.redis, "image queue");
        let (subscriber, events) = Subscriber::start(shard, &settings.redis, "image news");
        let mut node = [0; 8];
        // Without randomness the process' number tells nodes of one machine apart.
        let _as_good_as_it_gets = random(&mut node);
        let node = hex::encode(&node);
        Rc::new(Room {
            shard: shard.clone(),
            redis,
            subscriber,
            events: RefCell::new(Some(events)),
            where_: settings.redis.shown(),
            base: settings.base(),
            publish: if settings.redis.is_cluster() { b"SPUBLISH" } else { b"PUBLISH" },
            node: format!("{}-{node}", std::process::id()),
            outboxes: outboxes(&options),
            options,
            sums,
            version: Cell::new(0),
            ring,
            news: News::default(),
            beats: RefCell::default(),
            secret: Cell::new(None),
            is_another: Cell::new(false),
        })
    }

    /// Waits for Redis, agrees with the other nodes on the secret, and begins to listen and to tend. The salt, and what is to
    /// be said.
    pub(super) async fn open(self: &Rc<Room>) -> Result<(Salt, Vec<String>), QueueError> {
        if self.shard.timeout(START_PATIENCE, self.redis.up()).await.is_err() {
            let why =
                self.redis.call([&b"PING"[..]]).await.err().map_or_else(String::new, |trouble| trouble.to_string());
            return Err(QueueError::Io(format!(
                "image.redis {} could not be reached within {} s: {why}. Fix: start it, or correct the URL",
                self.where_,
                START_PATIENCE.as_secs()
            )));
        }
        self.subscriber.subscribe(format!("{}:news", self.base));
        let first = self.tend(true).await?;
        let secret = self.secret.get().ok_or_else(|| QueueError::Io("the queue has no secret".to_owned()))?;
        let (tends, listens) = (self.clone(), self.clone());
        drop(self.shard.spawn_background(async move { tends.keep_tending(first).await }));
        drop(self.shard.spawn(async move { listens.keep_listening().await }));
        Ok((Salt::new(&secret), self.told()))
    }

    fn told(&self) -> Vec<String> {
        let mut lines = vec![format!("queue in {} under {}, node {}", self.where_, self.base, self.node)];
        if let Some(server) = self.redis.server_of(self.base.as_bytes()) {
            let loses = server.durability.loses();
            lines.push(format!(
                "a 202 is as durable as that Redis {}: a crash of it loses {loses}, a failover what was not replicated",
                server.version
            ));
            if !matches!(&server.maxmemory_policy[..], "noeviction" | "") {
                lines.push(format!(
                    "REDIS MAY DROP JOBS: its maxmemory-policy is {}. Fix: CONFIG SET maxmemory-policy noeviction",
                    server.maxmemory_policy
                ));
            }
        }
        lines
    }

    /// The secret of all names, or a new one for a queue that has none yet.
    fn secret_or_new(&self) -> Result<[u8; 32], QueueError> {
        let mut secret = [0; 32];
        match self.secret.get() {
            Some(known) => secret = known,
            None => random(&mut secret).map_err(|error| QueueError::Io(error.to_string()))?,
        }
        Ok(secret)
    }

    /// Takes the secret as Redis has it: the first node's, for all. One that changes later is not taken but told, for names that
    /// were given would change with it.
    fn agree(&self, found: Option<&[u8]>) -> Result<(), QueueError> {
        let secret = found.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
            QueueError::Io(format!("{}:secret in {} is no secret of an image queue", self.base, self.where_))
        })?;
        let is_another = self.secret.get().is_some_and(|ours| ours != secret);
        match is_another {
            false => self.secret.set(Some(secret)),
            true if !self.is_another.get() => crate::warn!(
                "image: THE QUEUE IN {} IS ANOTHER ONE THAN BEFORE: its secret differs, so names of images would. Fix: \
                 restart all nodes, or bring the old Redis back",
                self.where_
            ),
            true => {}
        }
        self.is_another.set(is_another);
        Ok(())
    }

    /// Runs a script, again where its answer is lost and `again` says that twice is as good as once.
    async fn run(&self, script: &'static Script, args: &[&[u8]], again: bool) -> Result<Value, QueueError> {
        let lease_ms = self.options.lease.as_millis().to_string();
        let mut all: Vec<&[u8]> = vec![self.publish, lease_ms.as_bytes(), self.outboxes.as_bytes()];
        all.extend_from_slice(args);
        let until = self.shard.now() + PATIENCE;
        loop {
            let trouble = match self.redis.script(script, &[self.base.as_bytes()], &all).await {
                Ok(value) => {
                    let told = Told::read(value).map_err(QueueError::Io)?;
                    self.sums.add_counts(&told.counts);
                    self.sums.add_lost(Reader::Account, told.unnoted);
                    self.sums.add_lost(Reader::Webhooks, told.untold);
                    self.note(told.depth);
                    return Ok(told.result);
                }
                Err(trouble) => trouble,
            };
            let may = match &trouble {
                Trouble::Away(_) => true,
                Trouble::Doubtful(_) => again,
                Trouble::Refused { .. } => trouble.is_passing() && !trouble.is("OOM"),
            };
            let left = until.saturating_sub(self.shard.now());
            if !may || left.is_zero() {
                return Err(of_trouble(trouble));
            }
            // Whether it came up is seen by the next attempt.
            let _up_or_not = self.shard.timeout(left, self.redis.up()).await;
            self.shard.sleep(PAUSE.min(left)).await;
        }
    }

    fn note(&self, sums: Versioned) {
        if sums.version >= self.version.get() {
            self.version.set(sums.version);
            self.sums.set_depth(&sums.depth);
        }
    }

    fn ring(&self) {
        if self.sums.depth().waiting() > 0 {
            // It rings already.
            let _rings = self.ring.try_send(());
        }
    }

    fn shown(&self, value: Value) -> Result<Option<Shown>, QueueError> {
        Shown::find(value, self.options.attempts_max).map_err(QueueError::Io)
    }

    pub(super) async fn enqueue(&self, order: &Order, forecast: Forecast) -> Result<Enqueued, QueueError> {
        let id = JobId::random().map_err(|error| QueueError::Io(error.to_string()))?;
        let work = &order.work;
        let (idempotency, request) = match &order.idempotency {
            Some(idempotency) => (idempotency_name(&order.tenant, &idempotency.key), &idempotency.request[..]),
            None => (String::new(), &[][..]),
        };
        let texts = [
            id.to_string(),
            order.tenant.0.to_string(),
            hex::encode(&work.key.0),
            work.original.to_string(),
            work.len.to_string(),
            json(&work.header),
            json(&&*work.recipes),
            work.cost.peak_bytes.to_string(),
            work.cost.cpu_us.to_string(),
            (order.priority as u8).to_string(),
            order.asked.clone(),
            u8::from(forecast.delayed).to_string(),
            forecast.wait.as_millis().to_string(),
            idempotency,
        ];
        let (most, stopped) = (self.options.waiting_max.to_string(), format!("\"kind\":{}", json(&Kind::Stopped)));
        let mut args: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        args.extend([request, most.as_bytes(), stopped.as_bytes()]);
        let mut answer = self.run(&ENQUEUE, &args, true).await?.into_list().unwrap_or_default().into_iter();
        let word = answer.next();
        let shown = answer.next().map(|value| self.shown(value)).transpose()?.flatten();
        self.ring();
        match (word.as_ref().and_then(Value::as_str), shown) {
            (Some("accepted"), Some(shown)) => Ok(Enqueued::Accepted(shown.document)),
            (Some("before"), Some(shown)) => Ok(Enqueued::Before(shown.document)),
            (Some("reused"), Some(shown)) => Ok(Enqueued::KeyReused(shown.document.id)),
            (Some("refused"), None) => Ok(Enqueued::Refused),
            _ => Err(QueueError::Io(format!("entering a job was answered with {word:?}"))),
        }
    }

    async fn ask(&self, what: &str, args: &[&[u8]]) -> Result<Value, QueueError> {
        let mut all: Vec<&[u8]> = vec![what.as_bytes()];
        all.extend_from_slice(args);
        self.run(&ASK, &all, true).await
    }

    pub(super) async fn find(&self, tenant: &Tenant, key: &str) -> Result<Option<(Document, [u8; 32])>, QueueError> {
        let name = idempotency_name(tenant, key);
        let found = self.shown(self.ask("find", &[name.as_bytes(), tenant.0.as_bytes()]).await?)?;
        let Some(shown) = found else { return Ok(None) };
        let request = shown.job.bytes("request").and_then(|bytes| bytes.try_into().ok());
        let request = request.ok_or_else(|| QueueError::Io(format!("job {} has no request", shown.document.id)))?;
        Ok(Some((shown.document, request)))
    }

    async fn show(&self, tenant: &Tenant, id: JobId) -> Result<Option<Shown>, QueueError> {
        self.shown(self.ask("job", &[id.to_string().as_bytes(), tenant.0.as_bytes()]).await?)
    }

    pub(super) async fn job(&self, tenant: &Tenant, id: JobId) -> Result<Option<Document>, QueueError> {
        Ok(self.show(tenant, id).await?.map(|shown| shown.document))
    }

    pub(super) async fn follow(
        self: Rc<Room>,
        tenant: Tenant,
        id: JobId,
        seen: u64,
        slip: Ticket<Result<Option<Document>, QueueError>>,
    ) {
        while !slip.is_abandoned() {
            let heard = self.news.heard();
            match self.show(&tenant, id).await {
                Ok(Some(shown)) if shown.document.revision <= seen => {
                    // Looked again now and then, whatever was heard.
                    let _heard_or_not = self.shard.timeout(FOLLOW_LOOK, self.news.changed(shown.work, heard)).await;
                }
                answer => return slip.answer(answer.map(|shown| shown.map(|shown| shown.document))),
            }
        }
    }

    pub(super) async fn cancel(&self, tenant: &Tenant, id: JobId) -> Result<Option<Document>, QueueError> {
        let args: [&[u8]; 2] = [&id.to_string().into_bytes(), tenant.0.as_bytes()];
        let shown = self.shown(self.run(&CANCEL, &args, true).await?)?;
        Ok(shown.map(|shown| {
            self.beats.borrow_mut().remove(&shown.work);
            shown.document
        }))
    }

    pub(super) async fn lease(&self, lane: &str, ask: Ask) -> Result<Vec<Lease>, QueueError> {
        let numbers = [
            ask.most.to_string(),
            ask.bytes.to_string(),
            ask.bytes_total.to_string(),
            ask.giant_bytes.to_string(),
            u8::from(ask.giant).to_string(),
            self.options.bulk_share.max(2).to_string(),
        ];
        let mut args: Vec<&[u8]> = vec![self.node.as_bytes(), lane.as_bytes()];
        args.extend(numbers.iter().map(String::as_bytes));
        let answer = match self.run(&LEASE, &args, false).await {
            // A stream that Redis has lost: it is made anew, and is empty.
            Err(QueueError::Io(why)) if why.contains("no such key") || why.contains("NOGROUP") => {
                let _next = self.tend(false).await?;
                self.run(&LEASE, &args, false).await?
            }
            answer => answer?,
        };
        let mut leases = Vec::new();
        for value in answer.into_list().unwrap_or_default() {
            match records::lease(value) {
                Ok(lease) => leases.push(lease),
                Err((id, why)) => {
                    let detail = format!("the queue's record of it cannot be read: {why}");
                    crate::warn!("image: a work is given back: {detail}");
                    if let Some(id) = id {
                        // A node of another version may read it; after some attempts it waits for a person.
                        let mut args = fault_args(&Fault::new(Kind::Io, detail), true);
                        args.extend(self.policy());
                        if let Err(error) = self.end(id, "fail", &args).await {
                            crate::warn!("image: it stays leased until its time is over: {error}");
                        }
                    }
                }
            }
        }
        Ok(leases)
    }

    /// Renews leases; those that were renewed a moment ago, and of whose works nothing was heard since, are held.
    pub(super) async fn hold(&self, leases: &[(LeaseId, f32)]) -> Result<Vec<Held>, QueueError> {
        let now = self.shard.now();
        let every = HOLD_EVERY.min(self.options.lease / HOLDS_PER_LEASE);
        let is_fresh = |lease: &LeaseId| {
            let beats = self.beats.borrow();
            beats.get(&lease.work).is_some_and(|beat| beat.turn == lease.turn && beat.at + every > now)
        };
        let due: Vec<usize> = (0..leases.len()).filter(|&at| !is_fresh(&leases[at].0)).collect();
        let mut held = vec![Held::Yes; leases.len()];
        if due.is_empty() {
            return Ok(held);
        }
        let mut texts = vec![self.node.clone()];
        for &at in &due {
            let (lease, progress) = leases[at];
            texts.extend([lease.work.to_string(), lease.turn.to_string(), progress.to_string()]);
        }
        let args: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        let answers = self.run(&HOLD, &args, true).await?.into_list().unwrap_or_default();
        if answers.len() != due.len() {
            return Err(QueueError::Io(format!("{} leases were renewed with {} answers", due.len(), answers.len())));
        }
        let mut beats = self.beats.borrow_mut();
        for (at, answer) in due.into_iter().zip(answers) {
            let lease = leases[at].0;
            if answer.as_int() == Some(1) {
                beats.insert(lease.work, Beat { turn: lease.turn, at: now });
            } else {
                if beats.get(&lease.work).is_some_and(|beat| beat.turn == lease.turn) {
                    beats.remove(&lease.work);
                }
                held[at] = Held::No;
            }
        }
        Ok(held)
    }

    /// The end of an attempt.
    async fn end(&self, lease: LeaseId, how: &str, args: &[Vec<u8>]) -> Result<Settled, QueueError> {
        let (work, turn) = (lease.work.to_string(), lease.turn.to_string());
        let mut all: Vec<&[u8]> = vec![how.as_bytes(), work.as_bytes(), turn.as_bytes()];
        all.extend(args.iter().map(Vec::as_slice));
        let answer = self.run(&SETTLE, &all, true).await?;
        self.beats.borrow_mut().remove(&lease.work);
        self.ring();
        match answer.as_int() {
            Some(-2) => Ok(Settled::Stale),
            Some(-1) => Ok(Settled::Ended),
            Some(wait) if wait >= 0 => Ok(Settled::Again(Duration::from_millis(wait as u64))),
            _ => Err(QueueError::Io(format!("the end of an attempt was answered with {answer:?}"))),
        }
    }

    pub(super) async fn complete(&self, lease: LeaseId, manifest: &Manifest) -> Result<Settled, QueueError> {
        let made: u64 = manifest.outputs.iter().map(|output| output.bytes).sum();
        let mut args =
            vec![json(manifest).into_bytes(), manifest.lane.clone().into_bytes(), made.to_string().into_bytes()];
        let key = self.key_of(lease).await?;
        if let (Some(key), Some(secret)) = (key, self.secret.get()) {
            args.push(key.manifest(&Salt::new(&secret)).to_string().into_bytes());
        }
        args.extend(manifest.outputs.iter().map(|output| output.key.to_string().into_bytes()));
        self.end(lease, "complete", &args).await
    }

    /// The name of a lease's work; `None`: there is none any more.
    async fn key_of(&self, lease: LeaseId) -> Result<Option<crate::image::work::WorkKey>, QueueError> {
        let name = format!("{}:w:{}", self.base, lease.work);
        let found = self.redis.call([b"HGET", name.as_bytes(), b"key"]).await.map_err(of_trouble)?;
        let mut key = [0; 32];
        let read = found.as_str().and_then(|text| hex::decode_into(text, &mut key));
        Ok(read.map(|()| crate::image::work::WorkKey(key)))
    }

    pub(super) async fn fail(&self, lease: LeaseId, fault: &Fault) -> Result<Settled, QueueError> {
        let mut args = fault_args(fault, fault.is_transient());
        args.extend(self.policy());
        self.end(lease, "fail", &args).await
    }

    pub(super) async fn release(&self, lease: LeaseId) -> Result<Settled, QueueError> {
        self.end(lease, "release", &[]).await
    }

    /// When a work that failed is tried again: limits, waits in milliseconds, and a number from 0 to 1 for the jitter.
    fn policy(&self) -> [Vec<u8>; 5] {
        let options = &self.options;
        let mut number = [0; 4];
        // Without randomness the longest wait is as good.
        let part =
            random(&mut number).map_or(1.0, |()| f64::from(u32::from_le_bytes(number)) / (f64::from(u32::MAX) + 1.0));
        [
            options.attempts_max.to_string(),
            options.crashes_max.to_string(),
            options.backoff.as_millis().to_string(),
            options.backoff_max.as_millis().to_string(),
            part.to_string(),
        ]
        .map(String::into_bytes)
    }

    pub(super) async fn dead(
        &self,
        tenant: Option<&Tenant>,
        before: u64,
        most: usize,
    ) -> Result<Vec<(Tenant, Document)>, QueueError> {
        let (before, most) = (before.to_string(), most.min(10_000).to_string());
        let tenant = tenant.map_or(&[][..], |tenant| tenant.0.as_bytes());
        let found = self.ask("dead", &[before.as_bytes(), most.as_bytes(), tenant]).await?;
        let shown = found.into_list().unwrap_or_default().into_iter().map(|value| {
            let shown = Shown::read(value, self.options.attempts_max)?;
            Ok((Tenant::named(shown.job.tenant()?), shown.document))
        });
        shown.collect::<Result<_, String>>().map_err(QueueError::Io)
    }

    pub(super) async fn retry(&self, tenant: Option<&Tenant>, id: JobId) -> Result<Option<Document>, QueueError> {
        let id = id.to_string();
        let args = [id.as_bytes(), tenant.map_or(&[][..], |tenant| tenant.0.as_bytes())];
        let found = self.run(&RETRY, &args, true).await?.into_list();
        self.ring();
        match found.and_then(|mut found| found.pop()) {
            Some(shown) => Ok(self.shown(shown)?.map(|shown| shown.document)),
            None => Ok(None),
        }
    }

    pub(super) async fn usage(&self, tenant: &Tenant) -> Result<Usage, QueueError> {
        let told = self.ask("usage", &[tenant.0.as_bytes()]).await?.into_list().unwrap_or_default();
        match &told[..] {
            [unended, bytes] => {
                let number = |value: &Value| value.as_int().and_then(|number| u64::try_from(number).ok());
                let unended = number(unended).unwrap_or(0);
                // As text, because a number of Lua's becomes one of 53 bits.
                let bytes_of_day = bytes.as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
                Ok(Usage { unended, bytes_of_day })
            }
            _ => Err(QueueError::Io("what a tenant has is not two numbers".to_owned())),
        }
    }

    /// Whether originals of works that are done are kept, and of those that have ended since when.
    fn originals(&self) -> [String; 2] {
        let since = self.options.originals_since_ms();
        [u8::from(self.options.originals_kept).to_string(), since.map_or_else(String::new, |since| since.to_string())]
    }

    pub(super) async fn whose(&self, id: JobId) -> Result<Option<(Tenant, Document)>, QueueError> {
        let found = self.ask("whose", &[id.to_string().as_bytes()]).await?;
        let Some(shown) = self.shown(found)? else { return Ok(None) };
        Ok(Some((Tenant::named(shown.job.tenant().map_err(QueueError::Io)?), shown.document)))
    }

    pub(super) async fn purge(&self, tenant: &Tenant, id: JobId) -> Result<Purged, QueueError> {
        let (job, [kept, since]) = (id.to_string(), self.originals());
        let args = [job.as_bytes(), tenant.0.as_bytes(), kept.as_bytes(), since.as_bytes()];
        let mut parts = self.run(&PURGE, &args, true).await?.into_list().unwrap_or_default().into_iter();
        let strange = || QueueError::Io("what is left of a job is not what was asked for".to_owned());
        match parts.next().and_then(|part| part.as_int()).ok_or_else(strange)? {
            0 => Ok(Purged::Unknown),
            1 => {
                let shown = self.shown(parts.next().ok_or_else(strange)?)?.ok_or_else(strange)?;
                Ok(Purged::Unended(Box::new(shown.document)))
            }
            _ => {
                let mut flag = || parts.next().and_then(|part| part.as_int()).ok_or_else(strange);
                let (keeps_outputs, original_goes) = (flag()? == 1, flag()? == 1);
                let mut keys = parts.map(|part| part.as_str().and_then(|text| text.parse::<Key>().ok()));
                let original = keys.next().ok_or_else(strange)?.filter(|_| original_goes);
                Ok(Purged::Gone(Remains { objects: keys.flatten().collect(), original, keeps_outputs }))
            }
        }
    }

    pub(super) async fn wanted(&self, keys: &[Key]) -> Result<Vec<bool>, QueueError> {
        let names: Vec<String> = keys.iter().map(Key::to_string).collect();
        let [kept, since] = self.originals();
        let mut args = vec![kept.as_bytes(), since.as_bytes()];
        args.extend(names.iter().map(String::as_bytes));
        let answers = self.ask("wanted", &args).await?.into_list().unwrap_or_default();
        if answers.len() != keys.len() {
            return Err(QueueError::Io(format!(
                "{} objects were asked about with {} answers",
                keys.len(),
                answers.len()
            )));
        }
        Ok(answers.iter().map(|answer| answer.as_int() == Some(1)).collect())
    }

    /// Events for a reader: those up to a place go, and as many of the next ones come, if no other node tells them.
    pub(super) async fn events(
        &self,
        reader: Reader,
        told: Option<Place>,
        most: usize,
    ) -> Result<Vec<Noted>, QueueError> {
        let numbers = [reader.lease().as_millis().to_string(), most.to_string()];
        let kept = told.map_or_else(String::new, |Place(at, number)| Place(at, number + 1).to_string());
        let outbox = match reader {
            Reader::Account => "events",
            Reader::Webhooks => "webhooks",
        };
        let args = [outbox, &self.node, &numbers[0], &numbers[1], &kept].map(str::as_bytes);
        let [waiting, dead, events]: [Value; 3] = self
            .run(&EVENTS, &args, true)
            .await?
            .into_list()
            .and_then(|parts| parts.try_into().ok())
            .ok_or_else(|| QueueError::Io("events are not two numbers and a list".to_owned()))?;
        self.sums.set_waiting(reader, unsigned(&waiting));
        self.sums.set_dead(unsigned(&dead));
        let events = events.into_list().unwrap_or_default().into_iter().map(records::event);
        events.collect::<Result<_, String>>().map_err(QueueError::Io)
    }

    /// All events of webhooks up to a place become dead letters.
    pub(super) async fn give_up(&self, upto: Place, why: &str) -> Result<(), QueueError> {
        let (upto, most) = (upto.to_string(), LETTERS_MAX.to_string());
        let args = ["give up", &upto, why, &most].map(str::as_bytes);
        self.move_letters(&args, true).await.map(drop)
    }

    /// Dead letters, newest first.
    pub(super) async fn letters(&self, before: Option<Place>, most: usize) -> Result<Vec<Letter>, QueueError> {
        if before == Some(Place(0, 0)) {
            // Nothing is before it, and Redis takes it for no bound.
            return Ok(Vec::new());
        }
        let (before, most) = (before.map_or_else(|| "+".to_owned(), |place| format!("({place}")), most.to_string());
        let args = ["list", &before, &most].map(str::as_bytes);
        let letters = self.run(&LETTERS, &args, true).await?.into_list().unwrap_or_default();
        letters.into_iter().map(records::letter).collect::<Result<_, String>>().map_err(QueueError::Io)
    }

    /// Dead letters are told again. How many.
    pub(super) async fn again(&self, letter: Option<Place>) -> Result<u64, QueueError> {
        let (letter, most) = (letter.map_or_else(String::new, |place| place.to_string()), AGAIN_MAX.to_string());
        // Whoever asks twice is told the second time that there is none.
        self.move_letters(&["again", &letter, &most].map(str::as_bytes), false).await
    }

    async fn move_letters(&self, args: &[&[u8]], again: bool) -> Result<u64, QueueError> {
        let answer = self.run(&LETTERS, args, again).await?.into_list().unwrap_or_default();
        let [moved, dead] = [0, 1].map(|at| answer.get(at).map_or(0, unsigned));
        self.sums.set_dead(dead);
        Ok(moved)
    }

    /// One round of what comes by itself. How long until there is more to do.
    pub(super) async fn tend(&self, forgets: bool) -> Result<Duration, QueueError> {
        let (options, kept) = (&self.options, |kept: Duration| kept.as_millis().to_string().into_bytes());
        let kind = if options.lost_is_crash { Kind::Crashed } else { Kind::Io };
        let mut args = vec![self.node.clone().into_bytes()];
        args.push(json(&Fault::new(kind, "its lease was not renewed in time")).into_bytes());
        args.push(u8::from(options.lost_is_crash).to_string().into_bytes());
        args.extend(self.policy());
        args.push(u8::from(forgets).to_string().into_bytes());
        args.extend([kept(options.jobs_kept), kept(options.dead_kept)]);
        args.push(options.outputs_kept.map(kept).unwrap_or_default());
        args.push(self.secret_or_new()?.to_vec());
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let answer = self.run(&TEND, &args, true).await?.into_list().unwrap_or_default();
        self.agree(answer.get(2).and_then(Value::as_bytes))?;
        let [next, more] = [0, 1].map(|at| answer.get(at).and_then(Value::as_int).unwrap_or(-1));
        let next = if more == 1 { Some(0) } else { u64::try_from(next).ok() };
        let most = TEND_MAX.min(options.lease / HOLDS_PER_LEASE).max(TEND_MIN);
        Ok(next.map_or(most, |next| Duration::from_millis(next + 1).clamp(TEND_MIN, most)))
    }

    async fn keep_tending(&self, first: Duration) {
        let (mut wait, mut forgot) = (first, self.shard.now());
        loop {
            self.shard.sleep(wait).await;
            let forgets = self.shard.now().saturating_sub(forgot) >= FORGET_EVERY;
            match self.tend(forgets).await {
                Ok(next) => wait = next,
                // What is not done now is done the next time; that Redis is away is told by its client.
                Err(error) => {
                    wait = TEND_MAX;
                    if !matches!(&error, QueueError::Io(why) if why.starts_with("Redis ")) {
                        crate::warn!("image: the queue's upkeep waits: {error}");
                    }
                }
            }
            if forgets {
                forgot = self.shard.now();
                self.news.tidy();
            }
            self.ring();
        }
    }

    async fn keep_listening(&self) {
        let Some(mut events) = self.events.take() else { return };
        loop {
            match events.next().await {
                Event::Message { payload, .. } => {
                    let Some(message) = Message::read(&payload) else { continue };
                    self.note(message.depth);
                    for (work, is_progress) in message.works {
                        if !is_progress {
                            self.beats.borrow_mut().remove(&work);
                        }
                        self.news.tell(work);
                    }
                    self.ring();
                }
                Event::Subscribed { .. } => self.caught_up().await,
                Event::Lost => {}
            }
        }
    }

    /// The connection was new: whatever happened before, nobody may have heard of it, and it may be another Redis' life.
    async fn caught_up(&self) {
        // Sums that went back are those of a Redis that has lost something.
        self.version.set(0);
        if let Err(error) = self.tend(false).await {
            crate::warn!("image: the queue's upkeep waits: {error}");
        }
        self.news.tell_all();
        self.ring();
    }
}

/// How many events may wait for the account and for webhooks, and which ones these tell.
fn outboxes(options: &QueueOptions) -> String {
    let most = [options.events_max.min(EVENTS_MAX_IN_REDIS), EVENTS_MAX_IN_REDIS].map(|most| most.to_string());
    let told = options.webhooks.iter().map(|event| event.name().to_owned());
    most.into_iter().chain(told).collect::<Vec<_>>().join(",")
}

fn unsigned(value: &Value) -> u64 {
    value.as_int().unwrap_or(0).max(0) as u64
}

fn fault_args(fault: &Fault, is_transient: bool) -> Vec<Vec<u8>> {
    let is_crash = fault.kind == Kind::Crashed;
    vec![
        json(fault).into_bytes(),
        u8::from(is_transient).to_string().into_bytes(),
        u8::from(is_crash).to_string().into_bytes(),
    ]
}

fn idempotency_name(tenant: &Tenant, key: &str) -> String {
    format!("{}\0{key}", tenant.0)
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data with text keys")
}

fn of_trouble(trouble: Trouble) -> QueueError {
    match &trouble {
        Trouble::Refused { code, .. } if code == "OOM" => QueueError::Full(format!(
            "{trouble}. Nothing that was answered is lost. Fix: give Redis more memory (maxmemory), with noeviction"
        )),
        _ if trouble.is("BUSY") => QueueError::Busy,
        _ => QueueError::Io(trouble.to_string()),
    }
}
