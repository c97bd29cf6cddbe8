//! From the queue to the lanes and back.
//!
//! ```text
//!   bell ─► dispatcher: what is free? ─lease─► queue
//!             │  ▲ ends                           ▲ complete, fail, release
//!             ▼  │                                │
//!           lane's channel (as deep as its threads) ─► lane thread: original ─► lane.run ─► store thread: outputs,
//!                                                      blocks on pixels                     then the manifest
//!             └─ every 100 ms: heartbeat; what nobody wants any more is stopped
//! ```
//!
//! Variants, for which somebody waits, come from the shards and go the same way (`aside.rs`).
//!
//! The dispatcher takes a lease only when a thread and the predicted bytes are free for it, because leasing counts as an
//! attempt. Outputs are stored by other threads than the lanes', so that no core waits for a disk. All of it is blocking
//! code on threads of its own; shards hold a [`Desk`].

mod aside;
#[cfg(test)]
mod crash;
#[cfg(test)]
pub(crate) mod stand_in;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use annulus_engine::compute::settle;
use crossbeam_channel::{Receiver, Sender, bounded, never, select, unbounded};

use super::admission::{Budget, Gate, Pace, Reservation};
use super::audit;
use super::fault::{Fault, Kind};
use super::header::Header;
use super::job::JobTimings;
use super::lanes::gpu::both::BothLanes;
use super::lanes::{Done, Lane, Stop, Task};
use super::outbox::Outbox;
use super::pipeline::Cost;
use super::pressure::Pressure;
use super::purge::{Doors, Purger};
use super::queue::{Answer, Ask, Held, Lease, LeaseId, Queue, QueueError, Settled};
use super::recipe::Recipe;
use super::store::{Key, Objects, StoreError, Suffix};
use super::tus::Tus;
use super::variants::counter::Counter;
use super::variants::{self, Call, Refused, Variants, Wish};
use super::webhooks;
use super::work::{Manifest, PIPELINE_VERSION, stored};
use aside::Turn;

/// How often leases are renewed, progress is told, and cancelled works are noticed.
const HEARTBEAT: Duration = Duration::from_millis(100);
/// How often memory and disk are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long nothing is leased after the disk was full or the queue failed.
const PAUSE: Duration = Duration::from_secs(2);
/// Threads that store outputs.
const STORERS: usize = 2;
/// Works that may wait for a storing thread; beyond, lanes wait.
const STORING_MAX: usize = 2 * STORERS;
/// Share of a work's progress that is pixels; the rest is storing.
const PIXELS_SHARE: f32 = 0.9;

/// What every shard holds of the machinery: the door, the queue and the store. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    /// The durable queue.
    pub queue: Arc<dyn Queue>,
    /// The object store; `objects.on_shard(&shard)` gives the shard's own side.
    pub objects: Arc<dyn Objects>,
    /// Says yes, later or no, before the first byte of an upload and again with its order.
    pub gate: Arc<Gate>,
    /// Memory for uploads of which it takes long to know what they are.
    pub heads: Arc<Budget>,
    /// What the lanes do.
    pub lanes: Arc<Vec<LaneGauge>>,
    /// The lanes, where the GPU has one too.
    pub both: Option<Arc<BothLanes>>,
    /// The account of jobs, if one is kept.
    pub audit: Option<Account>,
    /// Webhooks, if there are any.
    pub webhooks: Option<Telling>,
    /// What is made when it is asked for, if that is offered.
    pub variants: Option<Arc<Variants>>,
    /// Uploads that go on where they broke off, if they are offered.
    pub tus: Option<Arc<Tus>>,
    /// Which content is being entered, and which deleted.
    pub doors: Arc<Doors>,
    /// Deletes what is left of jobs.
    pub purger: Option<Arc<Purger>>,
}

/// An account of jobs that is kept.
#[derive(Clone)]
pub struct Account {
    /// What is to be sent.
    pub outbox: Arc<dyn Outbox>,
    /// What was sent.
    pub figures: Arc<audit::Figures>,
}

/// Ends of jobs that are told by webhooks.
#[derive(Clone)]
pub struct Telling {
    /// What is to be told.
    pub outbox: Arc<dyn Outbox>,
    /// What was told.
    pub figures: Arc<webhooks::Figures>,
}

/// What a lane does, for metrics and the console.
#[derive(Debug)]
pub struct LaneGauge {
    /// `cpu`, or `both` with a GPU.
    pub name: &'static str,
    /// Its threads.
    pub threads: usize,
    busy: AtomicU64,
    ran: AtomicU64,
    ran_us: AtomicU64,
}

impl LaneGauge {
    fn new(lane: &LaneThreads) -> LaneGauge {
        let [busy, ran, ran_us] = [(); 3].map(|()| AtomicU64::new(0));
        LaneGauge { name: lane.lane.name(), threads: lane.cores.len(), busy, ran, ran_us }
    }

    /// Threads at work now.
    pub fn busy(&self) -> u64 {
        self.busy.load(Ordering::Relaxed)
    }

    /// Works that ended here, well or not.
    pub fn ran(&self) -> u64 {
        self.ran.load(Ordering::Relaxed)
    }

    /// Time that its threads were at work, in microseconds.
    pub fn ran_us(&self) -> u64 {
        self.ran_us.load(Ordering::Relaxed)
    }
}

/// A lane and the threads that call it.
#[derive(Clone)]
pub struct LaneThreads {
    /// The lane.
    pub lane: Arc<dyn Lane>,
    /// One thread each, on that core; `None`: wherever the system likes.
    pub cores: Vec<Option<usize>>,
    /// Whether they run only when nothing else wants their core: where shards live on it.
    pub idle: bool,
    /// Works that it does at a time. As many as there are threads, unless those mostly wait.
    pub workers: usize,
}

/// How works are handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DispatchOptions {
    /// Time that any work may take ...
    pub time: Duration,
    /// ... and so many times its predicted processor time on top of it.
    pub time_factor: u32,
    /// How long works in flight are waited for when the service ends; what is left then is stopped and goes back.
    pub grace: Duration,
    /// Memory that a work may really take, in percent of what was predicted, and [`DispatchOptions::SLACK_BYTES`] more.
    pub memory_percent: u64,
}

impl DispatchOptions {
    /// The defaults.
    pub const DEFAULT: DispatchOptions = DispatchOptions {
        time: Duration::from_secs(30),
        time_factor: 20,
        grace: Duration::from_secs(20),
        memory_percent: 150,
    };

    /// What a worker needs besides pixels.
    pub const SLACK_BYTES: u64 = 64 << 20;
}

/// The machinery. Dropping it, or [`Dispatcher::stop`], ends it in order.
pub struct Dispatcher {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Dispatcher {
    /// Starts the lanes' threads, the storing threads and the dispatcher's own.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(desk: &Desk, lanes: Vec<LaneThreads>, options: DispatchOptions) -> io::Result<Dispatcher> {
        let shared = Arc::new(Shared { desk: desk.clone(), options, ending: AtomicBool::new(false) });
        let (ends_in, ends) = unbounded();
        let (storing, to_store) = bounded(STORING_MAX);
        let mut threads = Vec::new();
        let mut slots = Vec::new();
        for (index, LaneThreads { lane, cores, idle, .. }) in lanes.into_iter().enumerate() {
            // As deep as there are threads: a lease never waits behind another in a channel.
            let (sender, works) = bounded::<Assignment>(cores.len().max(1));
            for (number, core) in cores.iter().copied().enumerate() {
                let hand = Hand {
                    shared: shared.clone(),
                    lane: lane.clone(),
                    index,
                    works: works.clone(),
                    storing: storing.clone(),
                    ends: ends_in.clone(),
                };
                let name = format!("{}-{number}", lane.name());
                threads.push(std::thread::Builder::new().name(name).spawn(move || {
                    settle(core, idle);
                    hand.run();
                })?);
            }
            slots.push(Slots { lane, sender, free: cores.len() });
        }
        for number in 0..STORERS {
            let (shared, to_store, ends) = (shared.clone(), to_store.clone(), ends_in.clone());
            let body = move || to_store.iter().for_each(|made| shared.store(made, &ends));
            threads.push(std::thread::Builder::new().name(format!("image-store-{number}")).spawn(body)?);
        }
        drop((storing, ends_in));
        let (stop, stopped) = bounded(0);
        let mut clerk = Clerk {
            counter: Counter::new(desk.variants.clone()),
            calls: desk.variants.as_ref().map_or_else(never, |variants| variants.calls()),
            in_a_row: 0,
            shared,
            slots,
            running: HashMap::new(),
            ends,
            paused: None,
            looked: None,
            threads,
        };
        let thread =
            std::thread::Builder::new().name("image-dispatch".to_owned()).spawn(move || clerk.run(&stopped))?;
        Ok(Dispatcher { stop: Some(stop), thread: Some(thread) })
    }

    /// Leases nothing more, waits for what runs (up to the grace), gives the rest back, and ends.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so; its leases expire.
            let _ended = thread.join();
        }
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.end();
    }
}

/// The door for a machine of these workers, and the pace that its dispatcher will keep.
pub fn desk(
    queue: Arc<dyn Queue>,
    objects: Arc<dyn Objects>,
    budget: Arc<Budget>,
    marks: super::admission::Marks,
    lanes: &[LaneThreads],
) -> Desk {
    let workers = lanes.iter().map(|lane| lane.workers).sum();
    let pressure = Arc::new(Pressure::default());
    let gate = Gate::new(queue.clone(), budget, Pace::new(workers), pressure, marks);
    let lanes = Arc::new(lanes.iter().map(LaneGauge::new).collect());
    let gate = Arc::new(gate);
    Desk {
        queue,
        objects,
        gate,
        heads: super::intake::room_for_heads(),
        lanes,
        both: None,
        audit: None,
        webhooks: None,
        variants: None,
        tus: None,
        doors: Arc::default(),
        purger: None,
    }
}

struct Shared {
    desk: Desk,
    options: DispatchOptions,
    /// What is stopped now goes back, uncounted.
    ending: AtomicBool,
}

struct Slots {
    lane: Arc<dyn Lane>,
    sender: Sender<Assignment>,
    free: usize,
}

/// Work on its way through a lane.
struct Assignment {
    duty: Duty,
    stop: Stop,
    reservation: Reservation,
}

enum Duty {
    Lease(Box<Lease>),
    Variant(Arc<Wish>),
}

/// What a lane has made, on its way into the store.
enum Unstored {
    Work(Finished),
    Variant { key: Key, done: Done },
}

/// A work whose outputs are there.
struct Finished {
    lease: Box<Lease>,
    done: Done,
    began: Instant,
}

enum End {
    /// The thread of this lane is free again.
    Free(usize),
    /// The lease has ended.
    Settled(LeaseId),
    /// The disk is full: no more for a while.
    Full(LeaseId),
    /// A variant is in the store, or will not be.
    Variant(Key, Result<variants::Made, Refused>),
}

/// The dispatcher's own thread.
struct Clerk {
    shared: Arc<Shared>,
    slots: Vec<Slots>,
    running: HashMap<LeaseId, Stop>,
    /// Who waits for variants.
    counter: Counter,
    calls: Receiver<Call>,
    /// Variants that were handed out since a work of the queue had its turn.
    in_a_row: usize,
    ends: Receiver<End>,
    paused: Option<Instant>,
    looked: Option<Instant>,
    threads: Vec<JoinHandle<()>>,
}

impl Clerk {
    fn run(&mut self, stopped: &Receiver<()>) {
        let bell = self.shared.desk.queue.bell();
        let mut beat = Instant::now();
        loop {
            self.look();
            self.lease();
            select! {
                recv(stopped) -> _ => break,
                recv(bell) -> rung => if rung.is_err() { break },
                recv(self.ends) -> end => if let Ok(end) = end { self.note(end) },
                recv(self.calls) -> call => if let Ok(call) = call { self.wish(call) },
                default(HEARTBEAT.saturating_sub(beat.elapsed())) => {}
            }
            while let Ok(end) = self.ends.try_recv() {
                self.note(end);
            }
            while let Ok(call) = self.calls.try_recv() {
                self.wish(call);
            }
            if beat.elapsed() >= HEARTBEAT {
                beat = Instant::now();
                self.heartbeat();
            }
        }
        self.finish();
    }

    fn look(&mut self) {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked = Some(Instant::now());
        let pressure = self.shared.desk.gate.pressure();
        pressure.look();
        pressure.note_disk(self.shared.desk.objects.free_bytes());
    }

    fn note(&mut self, end: End) {
        match end {
            End::Free(lane) => self.slots[lane].free += 1,
            End::Settled(lease) => drop(self.running.remove(&lease)),
            End::Full(lease) => {
                self.running.remove(&lease);
                self.paused = Some(Instant::now() + PAUSE);
            }
            End::Variant(key, result) => {
                if matches!(result, Err(Refused::Store(StoreError::Full(_)))) {
                    self.paused = Some(Instant::now() + PAUSE);
                }
                self.counter.ended(Instant::now(), key, &result);
            }
        }
    }

    /// Hands out what is due, as far as threads and bytes are free.
    fn lease(&mut self) {
        if self.paused.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.paused = None;
        for lane in 0..self.slots.len() {
            match self.serve(lane) {
                Turn::All => self.lease_for(lane, self.room(lane)),
                Turn::One => {
                    self.lease_for(lane, self.room(lane).min(1));
                    self.serve(lane);
                }
                Turn::None => {}
            }
        }
    }

    /// How many works a lane would begin now.
    fn room(&self, lane: usize) -> usize {
        let Slots { lane, free, .. } = &self.slots[lane];
        lane.room(*free)
    }

    fn lease_for(&mut self, lane: usize, most: usize) {
        let (desk, budget) = (&self.shared.desk, self.shared.desk.gate.budget());
        if most == 0 || desk.queue.depth().waiting() == 0 {
            return;
        }
        let ask = Ask {
            most,
            bytes: budget.free(),
            bytes_total: budget.total(),
            giant_bytes: budget.giant(),
            giant: budget.is_giant_free(),
        };
        match desk.queue.lease(self.slots[lane].lane.name(), ask).wait() {
            Ok(leases) => leases.into_iter().for_each(|lease| self.assign(lane, lease)),
            Err(error) => {
                crate::warn!("image: nothing is leased for {} s: {error}", PAUSE.as_secs());
                self.paused = Some(Instant::now() + PAUSE);
            }
        }
    }

    fn assign(&mut self, lane: usize, lease: Lease) {
        let budget = self.shared.desk.gate.budget();
        let (needs, total) = (lease.work.cost.peak_bytes, budget.total());
        if needs > total {
            return self.hand_back(self.shared.desk.queue.fail(lease.id, too_large(needs, total)));
        }
        // Only this thread reserves, and it has asked for no more than was free.
        let Some(reservation) = budget.reserve(needs) else {
            return self.hand_back(self.shared.desk.queue.release(lease.id));
        };
        let stop = Stop::default();
        self.running.insert(lease.id, stop.clone());
        self.hand(lane, Assignment { duty: Duty::Lease(Box::new(lease)), stop, reservation });
    }

    fn hand(&mut self, lane: usize, assignment: Assignment) {
        self.slots[lane].free -= 1;
        let assigned = self.slots[lane].sender.try_send(assignment);
        assert!(assigned.is_ok(), "a lane's channel has room for every thread that is free");
    }

    /// A lease that did not get as far as a lane. When the queue cannot be told now, the lease expires.
    fn hand_back(&self, answer: Answer<Settled>) {
        if let Err(error) = answer.wait() {
            crate::warn!("image: a lease is left to expire: {error}");
        }
    }

    fn heartbeat(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let leases: Vec<(LeaseId, f32)> =
            self.running.iter().map(|(id, stop)| (*id, stop.progress() * PIXELS_SHARE)).collect();
        let ids: Vec<LeaseId> = leases.iter().map(|(id, _)| *id).collect();
        // A queue that cannot be asked now is asked again; a lease lasts many heartbeats.
        let Ok(held) = self.shared.desk.queue.heartbeat(leases).wait() else { return };
        for (id, held) in ids.iter().zip(held) {
            if let (Held::No, Some(stop)) = (held, self.running.get(id)) {
                stop.stop();
            }
        }
    }

    /// Waits for what runs, as long as the grace lasts; stops the rest; ends the threads.
    fn finish(&mut self) {
        let until = Instant::now() + self.shared.options.grace;
        self.counter.close();
        while !self.running.is_empty() || self.counter.is_running() {
            if Instant::now() >= until && !self.shared.ending.swap(true, Ordering::AcqRel) {
                self.running.values().for_each(Stop::stop);
                self.counter.stop_all();
            }
            match self.ends.recv_timeout(HEARTBEAT) {
                Ok(end) => self.note(end),
                Err(_) => self.heartbeat(),
            }
        }
        // Who asked too late learns it.
        while let Ok(too_late) = self.calls.try_recv() {
            drop(too_late);
        }
        self.slots.clear();
        for thread in self.threads.drain(..) {
            // Its works are caught; a thread that ended otherwise has nothing more to give.
            let _ended = thread.join();
        }
    }
}

/// One thread of a lane.
struct Hand {
    shared: Arc<Shared>,
    lane: Arc<dyn Lane>,
    index: usize,
    works: Receiver<Assignment>,
    storing: Sender<Unstored>,
    ends: Sender<End>,
}

impl Hand {
    fn run(&self) {
        for assignment in &self.works {
            let gauge = &self.shared.desk.lanes[self.index];
            gauge.busy.fetch_add(1, Ordering::Relaxed);
            let began = Instant::now();
            self.work(assignment, began);
            gauge.ran_us.fetch_add(began.elapsed().as_micros() as u64, Ordering::Relaxed);
            gauge.ran.fetch_add(1, Ordering::Relaxed);
            gauge.busy.fetch_sub(1, Ordering::Relaxed);
            self.end(End::Free(self.index));
        }
    }

    fn end(&self, end: End) {
        // The dispatcher outlives its lanes.
        let _told = self.ends.send(end);
    }

    fn work(&self, assignment: Assignment, began: Instant) {
        let Assignment { duty, stop, reservation } = assignment;
        match duty {
            Duty::Lease(lease) => self.leased(lease, &stop, reservation, began),
            Duty::Variant(wish) => self.variant(&wish, &stop, reservation, began),
        }
    }

    fn leased(&self, lease: Box<Lease>, stop: &Stop, reservation: Reservation, began: Instant) {
        let (shared, work) = (&self.shared, &lease.work);
        let id = lease.id;
        // Made before, and the server ended between the manifest and the queue's word.
        if let Some(manifest) = shared.published(&lease) {
            shared.end(id, || shared.desk.queue.complete(id, manifest.clone()).wait());
            return self.end(End::Settled(id));
        }
        let only_cpu = (lease.crashes > 0).then_some("it has ended a worker before");
        let task = shared.task(&work.original, &work.header, &work.recipes, &work.cost, stop);
        let task = task.map(|task| Task { only_cpu, ..task });
        let ran = task.and_then(|task| self.pixels(task));
        drop(reservation);
        match ran {
            Ok(done) => {
                shared.desk.gate.pace().observe(work.cost.cpu_us, done.share.unwrap_or_else(|| began.elapsed()));
                stop.reached(1.0);
                let unstored = Unstored::Work(Finished { lease, done, began });
                assert!(self.storing.send(unstored).is_ok(), "the storing threads end after the lanes");
            }
            Err(fault) => {
                shared.failed(id, &fault);
                self.end(End::Settled(id));
            }
        }
    }

    fn pixels(&self, task: Task) -> Result<Done, Fault> {
        catch_unwind(AssertUnwindSafe(|| self.lane.run(task)))
            .unwrap_or_else(|_payload| Err(Fault::new(Kind::Crashed, "the lane panicked while it worked on it")))
    }
}

impl Shared {
    /// The manifest of a work that is done already.
    fn published(&self, lease: &Lease) -> Option<Manifest> {
        let key = lease.work.key.manifest(self.desk.queue.salt());
        let bytes = self.desk.objects.get(&key, 0..1 << 20).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn task(
        &self,
        original: &Key,
        header: &Header,
        recipes: &Arc<[Recipe]>,
        cost: &Cost,
        stop: &Stop,
    ) -> Result<Task, Fault> {
        let (input, len) = self.desk.objects.open(original).map_err(|error| fault(&error))?;
        let options = &self.options;
        let predicted = Duration::from_micros(cost.cpu_us);
        Ok(Task {
            input,
            len,
            header: header.clone(),
            recipes: recipes.clone(),
            memory_bytes: cost.peak_bytes / 100 * options.memory_percent + DispatchOptions::SLACK_BYTES,
            time_max: options.time + predicted.saturating_mul(options.time_factor),
            stop: stop.clone(),
            only_cpu: None,
            original: Some(*original),
        })
    }

    /// The attempt has failed. What was stopped because the service ends goes back.
    fn failed(&self, id: LeaseId, fault: &Fault) {
        if fault.kind == Kind::Stopped && self.ending.load(Ordering::Acquire) {
            return self.end(id, || self.desk.queue.release(id).wait());
        }
        self.end(id, || self.desk.queue.fail(id, fault.clone()).wait());
    }

    /// Tells the queue, until it has heard: what was done must not be forgotten because a disk was full for a moment.
    /// When the service ends meanwhile, the lease goes back with the next start.
    fn end(&self, id: LeaseId, tell: impl Fn() -> Result<Settled, QueueError>) {
        loop {
            match tell() {
                Ok(_settled) => return,
                Err(QueueError::Gone) => return,
                Err(error) => crate::warn!("image: the end of work {} is told again in a moment: {error}", id.work),
            }
            if self.ending.load(Ordering::Acquire) {
                return;
            }
            std::thread::sleep(PAUSE / 4);
        }
    }

    fn store(&self, unstored: Unstored, ends: &Sender<End>) {
        let end = match unstored {
            Unstored::Work(made) => self.conclude(&made),
            Unstored::Variant { key, done } => End::Variant(key, self.keep(key, done)),
        };
        // The dispatcher outlives the storing threads.
        let _told = ends.send(end);
    }

    fn conclude(&self, made: &Finished) -> End {
        let id = made.lease.id;
        match self.publish(made) {
            Ok(manifest) => {
                self.end(id, || self.desk.queue.complete(id, manifest.clone()).wait());
                End::Settled(id)
            }
            // No fault of the work: it goes back, and comes again when there is room.
            Err(StoreError::Full(detail)) => {
                crate::warn!("image: {detail}");
                self.end(id, || self.desk.queue.release(id).wait());
                End::Full(id)
            }
            Err(error) => {
                self.failed(id, &fault(&error));
                End::Settled(id)
            }
        }
    }

    /// Stores all outputs, then the manifest. What is there already stays, so doing it twice changes nothing.
    fn publish(&self, made: &Finished) -> Result<Manifest, StoreError> {
        let began = Instant::now();
        let (work, salt) = (&made.lease.work, self.desk.queue.salt());
        let mut outputs = Vec::with_capacity(made.done.outputs.len());
        for output in &made.done.outputs {
            let key = work.key.output(salt, &output.name, Suffix::of(output.format));
            let mut bytes = io::Read::take(&output.file, output.len);
            let put = self.desk.objects.put(&key, &mut bytes)?;
            outputs.push(stored(output, key, put.bytes()));
        }
        let ms = |duration: Duration| duration.as_millis() as u64;
        let timings = JobTimings {
            store_ms: ms(began.elapsed()),
            attempt_ms: ms(made.began.elapsed()),
            ..JobTimings::of_pipeline(made.done.timings)
        };
        let (lane, lane_reason) = (made.done.told.lane.to_owned(), made.done.told.why.clone());
        let manifest = Manifest { version: PIPELINE_VERSION, lane, lane_reason, outputs, timings };
        let text = serde_json::to_vec(&manifest).expect("plain data with text keys");
        // Which of two runs published first does not matter: they name the same objects.
        let _created_or_existed = self.desk.objects.put(&work.key.manifest(salt), &mut text.as_slice())?;
        Ok(manifest)
    }
}

fn too_large(needs: u64, total: u64) -> Fault {
    let detail = format!("It needs {} MiB to decode; this server may use {} MiB.", needs >> 20, total >> 20);
    Fault::new(Kind::TooLarge, detail)
}

fn fault(error: &StoreError) -> Fault {
    Fault::new(Kind::Io, error.to_string())
}
