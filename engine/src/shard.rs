//! A shard: one core, one kernel interface, and everything that lives on them.
//!
//! ```text
//!   one turn    enter ─► reap ─► letters ─► timers ─► tasks (500 us) ─► unpark ─► sends ─► letters out
//!                 ▲                                                                            │
//!                 └────────── sleep here, if nothing is ready and no letter waits ◄────────────┘
//! ```
//!
//! Reaping changes state only. Sessions and tasks run afterwards, from queues, so no workload code is ever on
//! the stack while completions are taken, and nothing recurses.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::compute::{Busy, Compute, Job};
use crate::conn::{ChunkStore, Conn, ConnId, ConnTable, Owner, READY};
use crate::driver::{Address, Completion, Driver, DriverKind, Fd, Wait};
use crate::frame::{Frame, FrameArena};
use crate::group::GroupState;
use crate::limits;
use crate::listen::{Inherited, ListenerTable};
use crate::listening::Listening;
use crate::mail::{Mail, Post};
use crate::metrics::ShardMetrics;
use crate::once::OnceTable;
use crate::remote::Registered;
use crate::sockets::Paced;
use crate::stall::StallLog;
use crate::task::{JoinHandle, TaskClass, Tasks};
use crate::timer::{Elapsed, Interval, Sleep, Timers, timeout};
use crate::trace::{Stage, Trace};
use crate::tracer::Tracer;

pub(crate) const TAG_RECEIVE: u8 = 1;
pub(crate) const TAG_SEND: u8 = 2;
pub(crate) const TAG_DIRECT: u8 = 3;
pub(crate) const TAG_CONNECT: u8 = 4;
pub(crate) const TAG_ACCEPT: u8 = 5;
pub(crate) const TAG_ONCE: u8 = 6;

/// What all shards of an engine share.
pub(crate) struct Mesh {
    /// Connections of each shard, those that are on their way to it included, for balancing.
    pub(crate) load: Vec<AtomicUsize>,
    /// Shards that have more to do than they can.
    pub(crate) strained: Vec<AtomicBool>,
    /// Metrics per shard.
    pub(crate) metrics: Vec<Arc<ShardMetrics>>,
    /// Set once the engine is asked to stop.
    pub(crate) draining: AtomicBool,
    /// Turns that took too long.
    pub(crate) stalls: Arc<StallLog>,
    /// The compute threads, if any.
    pub(crate) compute: Option<Compute>,
    /// What is known of the listeners, by the address asked for.
    pub(crate) listening: std::sync::Mutex<std::collections::HashMap<Arc<str>, Arc<Listening>>>,
    /// The sockets that accept, with the addresses asked for: a successor is given them.
    pub(crate) sockets: std::sync::Mutex<Vec<(Arc<str>, Fd)>>,
    /// The sockets that the engine was given, until shards take them.
    pub(crate) inherited: std::sync::Mutex<Inherited>,
    /// Where the shards share a port: by the address asked for and how often it was asked for before.
    pub(crate) ports: std::sync::Mutex<std::collections::HashMap<(String, usize), Address>>,
}

/// Everything a shard has. Handles share it; it never leaves its thread.
pub(crate) struct Core {
    pub(crate) index: usize,
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) driver: RefCell<Box<dyn Driver>>,
    pub(crate) conns: RefCell<ConnTable>,
    pub(crate) chunks: RefCell<ChunkStore>,
    pub(crate) arena: RefCell<FrameArena>,
    pub(crate) dirty: RefCell<Vec<u32>>,
    pub(crate) paced: RefCell<Paced>,
    pub(crate) parked: RefCell<VecDeque<ConnId>>,
    pub(crate) lingering: RefCell<VecDeque<(Duration, ConnId)>>,
    pub(crate) groups: RefCell<Vec<GroupState>>,
    pub(crate) listeners: RefCell<ListenerTable>,
    pub(crate) once: RefCell<OnceTable>,
    /// Addresses that this shard was asked to listen on, in order.
    pub(crate) bound: RefCell<Vec<String>>,
    pub(crate) mail: Mail,
    pub(crate) tasks: Rc<Tasks>,
    pub(crate) timers: Rc<Timers>,
    pub(crate) metrics: Arc<ShardMetrics>,
    pub(crate) tracer: Tracer,
    pub(crate) zero_copy_bytes_min: usize,
    pub(crate) drain_waiters: RefCell<Vec<Waker>>,
    drain_seen: Cell<bool>,
}

impl Core {
    /// A connection is on its way to a shard, or opens there.
    pub(crate) fn count_in(&self, shard: usize) {
        self.mesh.load[shard].fetch_add(1, Ordering::Relaxed);
    }

    /// It is closed, or does not come.
    pub(crate) fn count_out(&self, shard: usize) {
        let before = self.mesh.load[shard].fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "every connection is counted in once");
    }

    /// The turn's time in units of 64 ms, wrapping after eight years.
    pub(crate) fn coarse_now(&self) -> u32 {
        (self.timers.now().as_millis() >> 6) as u32
    }

    /// Puts the connection before its owner.
    pub(crate) fn tell(&self, index: u32, conn: &mut Conn) {
        match conn.owner {
            Owner::Group(number) => {
                if conn.is(READY) {
                    return;
                }
                conn.set(READY);
                let mut groups = self.groups.borrow_mut();
                let group = &mut groups[number as usize];
                group.ready.push_back(index);
                let waker = group.waker.take();
                drop(groups);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Owner::Stream => {
                let dead = conn.is(crate::conn::DEAD);
                if let Some(side) = &mut conn.side {
                    let writer = if dead { side.writer.take() } else { None };
                    for waker in side.reader.take().into_iter().chain(writer) {
                        waker.wake();
                    }
                }
            }
            Owner::Nobody => {}
        }
    }
}

impl Core {
    /// Routes completions to whose they are. State changes only.
    fn reap(&self, completions: &mut Vec<Completion>) {
        for done in completions.drain(..) {
            match done.token.tag() {
                TAG_RECEIVE => self.on_receive(done),
                TAG_SEND => self.on_send(done),
                TAG_DIRECT => self.on_direct(done),
                TAG_CONNECT => self.on_connect(done),
                TAG_ACCEPT => self.on_accept(done),
                TAG_ONCE => self.on_once(done),
                _ => self.metrics.stale_completions.add(1),
            }
        }
    }

    /// Whether this turn has work that must not wait for the kernel.
    fn is_busy(&self) -> bool {
        let starved = !self.parked.borrow().is_empty() && self.driver.borrow().pool().free() > 0;
        self.tasks.is_ready() || !self.dirty.borrow().is_empty() || starved || self.mail.is_waiting()
    }

    fn next_deadline(&self) -> Option<Duration> {
        let deadlines =
            [self.timers.next_deadline(), self.linger_deadline(), self.accept_deadline(), self.paced_deadline()];
        deadlines.into_iter().flatten().min()
    }

    pub(crate) fn notice_drain(&self) {
        if self.mesh.draining.load(Ordering::Acquire) && !self.drain_seen.replace(true) {
            self.drain_waiters.borrow_mut().drain(..).for_each(Waker::wake);
        }
    }
}

/// A shard driven by its owner, turn by turn: what an engine's threads loop over, and what tests step through.
pub struct LocalShard {
    core: Rc<Core>,
    registered: Registered,
    completions: Vec<Completion>,
}

impl LocalShard {
    /// A shard on its own, without peers, on a driver of the caller's choice.
    pub fn new(driver: Box<dyn Driver>) -> LocalShard {
        let mesh = Mesh::new(1, None, Vec::new());
        let registered = Registered::new(driver.doorbell());
        let post = Post::alone(registered.remote.clone());
        LocalShard::build(0, Arc::new(mesh), driver, registered, post, limits::ZERO_COPY_BYTES_MIN)
    }

    /// Shards that are each other's peers, all driven by one owner on one thread, which also closes them all.
    pub fn mesh(drivers: Vec<Box<dyn Driver>>) -> Vec<LocalShard> {
        let mesh = Arc::new(Mesh::new(drivers.len(), None, Vec::new()));
        let registered: Vec<_> = drivers.iter().map(|driver| Registered::new(driver.doorbell())).collect();
        let posts = Post::mesh(registered.iter().map(|registered| registered.remote.clone()).collect());
        let parts = drivers.into_iter().zip(registered).zip(posts).enumerate();
        let build = |(index, ((driver, registered), post))| {
            LocalShard::build(index, mesh.clone(), driver, registered, post, limits::ZERO_COPY_BYTES_MIN)
        };
        parts.map(build).collect()
    }

    pub(crate) fn build(
        index: usize,
        mesh: Arc<Mesh>,
        driver: Box<dyn Driver>,
        registered: Registered,
        post: Post,
        zero_copy_bytes_min: usize,
    ) -> LocalShard {
        let core = Core {
            index,
            metrics: mesh.metrics[index].clone(),
            mesh,
            driver: RefCell::new(driver),
            conns: RefCell::default(),
            chunks: RefCell::default(),
            arena: RefCell::default(),
            dirty: RefCell::default(),
            paced: RefCell::default(),
            parked: RefCell::default(),
            lingering: RefCell::default(),
            groups: RefCell::default(),
            listeners: RefCell::default(),
            once: RefCell::default(),
            bound: RefCell::default(),
            mail: Mail::new(index, post),
            tasks: Tasks::new(registered.number()),
            timers: Timers::new(),
            tracer: Tracer::new(),
            zero_copy_bytes_min,
            drain_waiters: RefCell::default(),
            drain_seen: Cell::new(false),
        };
        core.timers.advance(core.driver.borrow().now());
        LocalShard { core: Rc::new(core), registered, completions: Vec::with_capacity(limits::COMPLETIONS_PER_TURN) }
    }

    /// The handle that tasks use.
    pub fn shard(&self) -> Shard {
        Shard { core: self.core.clone() }
    }

    /// One turn. Sleeps in the kernel only if `may_sleep` and nothing is ready.
    ///
    /// # Errors
    /// What leaves the driver unusable.
    pub fn turn(&mut self, may_sleep: bool) -> io::Result<()> {
        let core = &self.core;
        let _entered = core.tasks.enter();
        core.metrics.turns.add(1);
        let sleep = &self.registered.remote.sleep;
        let mut wait = Wait::No;
        if may_sleep && !core.is_busy() {
            sleep.prepare();
            // Announced; look again at everything that could have been published before the announcement.
            if !core.is_busy() && self.registered.wakes.is_empty() && !core.mesh.draining_unseen(core) {
                wait = Wait::Until(core.next_deadline());
            }
        }
        if wait != Wait::No {
            core.metrics.turn_ended();
        }
        core.driver.borrow_mut().turn(wait, &mut self.completions)?;
        sleep.awake();
        let begin = core.driver.borrow().now();
        core.metrics.turn_began(begin);
        core.metrics.cqes.add(self.completions.len() as u64);
        core.notice_drain();
        core.timers.set_now(begin);
        core.tracer.on_turn(begin, wait != Wait::No);
        core.reap(&mut self.completions);
        core.deliver_letters();
        for _ in 0..limits::REMOTE_WAKES_PER_TURN {
            let Ok(id) = self.registered.wakes.try_recv() else { break };
            core.tasks.wake(id);
        }
        core.metrics.timers_fired.add(core.timers.advance(begin) as u64);
        core.sweep_lingering(begin);
        core.resume_accepting(begin);
        core.tasks.run(|| core.driver.borrow().now() - begin >= limits::TURN_BUDGET);
        core.unpark();
        core.release_paced(begin);
        core.flush();
        core.send_letters();
        self.account(begin);
        Ok(())
    }

    fn account(&self, begin: Duration) {
        let core = &self.core;
        let driver = core.driver.borrow();
        let end = driver.now();
        core.tracer.on_turn_end(end);
        core.metrics.turn_us.record((end - begin).as_micros() as u64);
        core.metrics.bytes_copied_frames.set(core.arena.borrow().bytes_copied() + driver.pool().bytes_copied());
        core.metrics.buffers_leased.set(driver.pool().leased() as u64);
        core.metrics.buffers_published.set(driver.pool().published() as u64);
        core.metrics.task_polls.set(core.tasks.polls.get());
        core.metrics.task_panics.set(core.tasks.panics.get());
        let account = driver.account();
        core.metrics.enters.set(account.enters);
        core.metrics.sqes.set(account.submitted);
        core.metrics.cq_overflows.set(account.overflows);
    }

    /// Runs until `main` has finished, then closes everything and drains what is in flight.
    ///
    /// # Errors
    /// What leaves the driver unusable; `main` ending by a panic.
    pub fn run<T: 'static>(mut self, main: impl Future<Output = T> + 'static) -> io::Result<T> {
        let entered = self.core.tasks.enter();
        let main = self.core.tasks.spawn(TaskClass::Interactive, main);
        drop(entered);
        while !main.is_finished() {
            self.turn(true)?;
        }
        let value = crate::task::take_finished(main);
        self.close(limits::TEARDOWN_MAX)?;
        value.map_err(|_ended| io::Error::other("the shard's main task ended by a panic"))
    }

    /// Drops all tasks, closes all connections, and turns until nothing is in flight or `patience` has passed.
    ///
    /// # Errors
    /// What leaves the driver unusable.
    pub fn close(&mut self, patience: Duration) -> io::Result<()> {
        {
            let _entered = self.core.tasks.enter();
            self.core.tasks.clear();
        }
        self.core.close_all();
        let until = self.core.driver.borrow().now() + patience;
        let timers = self.core.timers.clone();
        let mut tick = std::pin::pin!(timers.at(until));
        while self.core.driver.borrow().in_flight() > 0 && self.core.driver.borrow().now() < until {
            let _entered = self.core.tasks.enter();
            // Keeps the kernel's wait from being endless should an operation never end.
            let _pending = tick.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            drop(_entered);
            self.turn(true)?;
        }
        self.core.clear_letters();
        Ok(())
    }

    /// Counts of what exists: `(connections, tasks, timers, chunks, buffers leased)`. All zero after a clean
    /// close.
    pub fn residue(&self) -> [usize; 5] {
        let core = &self.core;
        [
            core.conns.borrow().alive(),
            core.tasks.alive(),
            core.timers.waiting(),
            core.chunks.borrow().len(),
            core.driver.borrow().pool().leased(),
        ]
    }
}

impl Mesh {
    /// How many listeners of this address each shard has.
    pub(crate) fn listeners_of(&self, key: &Arc<str>) -> Arc<Listening> {
        let mut listening = self.listening.lock().expect("nothing panics under this lock");
        let none = || Arc::new(Listening::new(self.load.len()));
        listening.entry(key.clone()).or_insert_with(none).clone()
    }

    /// A socket accepts.
    pub(crate) fn keep_listener(&self, key: &Arc<str>, fd: Fd) {
        self.sockets.lock().expect("nothing panics under this lock").push((key.clone(), fd));
    }

    /// A socket is about to be closed: from here on its number may be another's.
    pub(crate) fn forget_listener(&self, fd: Fd) {
        self.sockets.lock().expect("nothing panics under this lock").retain(|(_, other)| *other != fd);
    }

    /// Whether a drain was asked for that the shard has not noticed.
    fn draining_unseen(&self, core: &Core) -> bool {
        self.draining.load(Ordering::Acquire) && !core.drain_seen.get()
    }
}

/// A handle to the shard the caller runs on. Cheap to clone; stays on its thread.
#[derive(Clone)]
pub struct Shard {
    pub(crate) core: Rc<Core>,
}

impl Shard {
    /// Its number, from 0.
    pub fn index(&self) -> usize {
        self.core.index
    }

    /// Shards in the engine.
    pub fn count(&self) -> usize {
        self.core.mesh.load.len()
    }

    /// The kernel interface in use.
    pub fn driver_kind(&self) -> DriverKind {
        self.core.driver.borrow().kind()
    }

    /// The time of this turn, since an arbitrary start.
    pub fn now(&self) -> Duration {
        self.core.timers.now()
    }

    /// The time at this very moment: for measuring, at the price of a clock read.
    pub fn precise_now(&self) -> Duration {
        self.core.driver.borrow().now()
    }

    /// Turns of all shards that took too long.
    pub fn stalls(&self) -> &StallLog {
        &self.core.mesh.stalls
    }

    /// The trace of the bytes that were received last, on whatever connection: to be asked for before anything else is
    /// received. See [`crate::trace`].
    pub fn take_trace(&self) -> Trace {
        self.core.tracer.take()
    }

    /// Marks the end of a stage in which a traced message waited for something else, which came with this turn: from when
    /// it may have been ready, it waited for the shard.
    pub fn woke(&self, trace: &mut Trace, stage: Stage) {
        if trace.is_chosen() {
            trace.mark_until(stage, self.core.tracer.ready_since(self.precise_now()));
        }
    }

    /// Runs a future and tells its own work ([`Stage::Work`]) from what it waited for ([`Stage::Away`]) and from waiting for
    /// the shard ([`Stage::Queue`]), poll by poll, where the message is traced.
    pub async fn follow<T>(&self, trace: &mut Trace, future: impl Future<Output = T>) -> T {
        if !trace.is_chosen() {
            return future.await;
        }
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| {
            self.woke(trace, Stage::Away);
            let polled = future.as_mut().poll(cx);
            trace.mark(Stage::Work);
            polled
        })
        .await
    }

    /// Starts an interactive task.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        self.core.tasks.spawn(TaskClass::Interactive, future)
    }

    /// Starts a task that yields to interactive ones.
    pub fn spawn_background<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        self.core.tasks.spawn(TaskClass::Background, future)
    }

    /// Waits `duration`, never less, at most a tick (1 ms) and a turn more.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.core.timers.at(self.now().saturating_add(duration))
    }

    /// Waits until the shard's clock shows `moment`.
    pub fn sleep_until(&self, moment: Duration) -> Sleep {
        self.core.timers.at(moment)
    }

    /// Ticks every `period`, the first time one period from now.
    pub fn interval(&self, period: Duration) -> Interval {
        Interval::new(self.core.timers.clone(), period)
    }

    /// Gives `future` so long and no longer.
    ///
    /// # Errors
    /// [`Elapsed`] when the time ran out; the future is dropped then.
    pub async fn timeout<T>(&self, duration: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
        timeout(self.sleep(duration), future).await
    }

    /// Lets other tasks run.
    pub async fn yield_now(&self) {
        let mut yielded = false;
        std::future::poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    /// A shared immutable frame of `parts` joined. The one copy its receivers share.
    pub fn frame(&self, parts: &[&[u8]]) -> Frame {
        self.core.arena.borrow_mut().frame(parts)
    }

    /// Connections open on this shard.
    pub fn connections(&self) -> usize {
        self.core.conns.borrow().alive()
    }

    /// This shard's counters.
    pub fn metrics(&self) -> &Arc<ShardMetrics> {
        &self.core.metrics
    }

    /// The counters of all shards, by shard.
    pub fn all_metrics(&self) -> &[Arc<ShardMetrics>] {
        &self.core.mesh.metrics
    }

    /// Whether the engine was asked to stop.
    pub fn is_draining(&self) -> bool {
        self.core.mesh.draining.load(Ordering::Acquire)
    }

    /// Says whether this shard has more to do than it can: new connections go to those that have not, whatever the number
    /// of connections ([`Balance::LeastLoaded`](crate::Balance::LeastLoaded)).
    pub fn set_strained(&self, strained: bool) {
        let ours = &self.core.mesh.strained[self.core.index];
        // Asked often and changed seldom: the line stays in every core's cache.
        if ours.load(Ordering::Relaxed) != strained {
            ours.store(strained, Ordering::Relaxed);
        }
    }

    /// Whether some shard could do more.
    pub fn is_any_unstrained(&self) -> bool {
        self.core.mesh.strained.iter().any(|strained| !strained.load(Ordering::Relaxed))
    }

    /// Gives `job` to the compute threads; the future gives its result.
    ///
    /// # Errors
    /// [`Busy`] when their queue is full, or there are none.
    pub fn compute<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<Job<T>, Busy> {
        let submitted = self.core.mesh.compute.as_ref().ok_or(Busy).and_then(|compute| compute.run(job));
        match &submitted {
            Ok(_) => self.core.metrics.compute_submitted.add(1),
            Err(Busy) => self.core.metrics.compute_busy.add(1),
        }
        submitted
    }

    /// Waits until the engine is asked to stop.
    pub async fn draining(&self) {
        std::future::poll_fn(|cx| self.poll_draining(cx)).await
    }

    /// Runs `future` until it is ready, or until the engine is asked to stop: `None` then.
    pub async fn until_drained<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| {
            if self.poll_draining(cx).is_ready() {
                return Poll::Ready(None);
            }
            future.as_mut().poll(cx).map(Some)
        })
        .await
    }

    fn poll_draining(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.core.drain_seen.get() {
            return Poll::Ready(());
        }
        let mut waiters = self.core.drain_waiters.borrow_mut();
        if !waiters.iter().any(|waiter| waiter.will_wake(cx.waker())) {
            waiters.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
