//! Starting and stopping: one thread, one core and one kernel interface per shard.
//!
//! ```text
//!   Engine::builder().shards(2).run(|shard| async move { … })
//!        │  per shard: thread ─► pin ─► driver ─► rings to all others ─► the closure's future, until it ends
//!        └─ waits for all; the first error stops the others
//! ```

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use crate::compute::Compute;
use crate::driver::epoll::EpollDriver;
use crate::driver::uring::{Capability, UringDriver};
use crate::driver::{Address, Driver, DriverKind, Errno, Fd};
use crate::error::explain_uring;
use crate::limits;
use crate::listen::{Inherited, ListeningSocket};
use crate::mail::Post;
use crate::metrics::ShardMetrics;
use crate::plan::{Grants, Plan, Request};
use crate::remote::{Registered, Remote};
use crate::shard::{LocalShard, Mesh, Shard};
use crate::stall::{self, Namer, StallReport, Watchdog};
use crate::sys::net;

/// Which kernel interface to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// io_uring where the kernel grants it, else epoll, with the reason printed once.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// epoll.
    Epoll,
}

impl std::str::FromStr for DriverChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<DriverChoice, String> {
        match text {
            "auto" => Ok(DriverChoice::Auto),
            "io_uring" => Ok(DriverChoice::Uring),
            "epoll" => Ok(DriverChoice::Epoll),
            other => Err(format!("no driver is called {other:?}: use \"auto\", \"io_uring\" or \"epoll\"")),
        }
    }
}

/// What an engine shall be. See [`Engine::builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    request: Request,
    driver: DriverChoice,
    buffers: usize,
    zero_copy_bytes_min: usize,
    stall_names: Namer,
}

/// A handle to a running engine, for any thread.
#[derive(Clone)]
pub struct Engine {
    mesh: Arc<Mesh>,
    plan: Arc<Plan>,
    remotes: Arc<Vec<Arc<Remote>>>,
    restricted: Result<(), Errno>,
}

/// What a shard's thread says of itself once it has its driver.
struct Ready {
    remote: Arc<Remote>,
    restricted: Result<(), Errno>,
}

impl Engine {
    /// As many shards as there are cores, no compute threads, on the best driver.
    pub fn builder() -> Builder {
        Builder {
            request: Request { compute: Some(0), ..Request::default() },
            driver: DriverChoice::Auto,
            buffers: limits::BUFFERS,
            zero_copy_bytes_min: limits::ZERO_COPY_BYTES_MIN,
            stall_names: stall::names,
        }
    }

    /// Asks every shard to finish: wakes what waits for [`Shard::draining`].
    pub fn drain(&self) {
        self.mesh.draining.store(true, Ordering::Release);
        self.remotes.iter().for_each(|remote| remote.nudge());
    }

    /// The listening sockets of all shards, as further descriptors of the same sockets: for a successor.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn listening_sockets(&self) -> io::Result<Vec<ListeningSocket>> {
        // Under the lock none of them is closed.
        let sockets = self.mesh.sockets.lock().expect("nothing panics under this lock");
        let share = |(name, fd): &(Arc<str>, Fd)| {
            net::share(*fd).map(|socket| ListeningSocket { name: name.to_string(), socket })
        };
        sockets.iter().map(share).collect()
    }

    /// Whether every shard listens on the address, given as it was asked for.
    pub fn listens(&self, address: &Address) -> bool {
        let key: Arc<str> = address.to_string().into();
        self.mesh.listeners_of(&key).is_everywhere()
    }

    /// Closes the sockets that the engine was given and that nobody listens on; their addresses. Who waits there is lost.
    pub fn give_up_sockets(&self) -> Vec<String> {
        self.mesh.inherited.lock().expect("nothing panics under this lock").give_up()
    }

    /// Whether no shard can be made to ask a kernel for more than the engine does where no filter of system calls sees it: each ring
    /// takes the engine's operations only. Without rings there is nothing to restrict.
    ///
    /// # Errors
    /// The kernel's word when it did not restrict a ring. The rings work all the same.
    pub fn rings_restricted(&self) -> io::Result<()> {
        Ok(self.restricted?)
    }

    /// Who runs where.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The metrics of all shards, by shard.
    pub fn metrics(&self) -> &[Arc<ShardMetrics>] {
        &self.mesh.metrics
    }
}

impl Builder {
    /// How many shards; what is granted when there are fewer cores, [`Engine::plan`] says.
    pub fn shards(mut self, shards: usize) -> Builder {
        self.request.shards = Some(shards.max(1));
        self
    }

    /// The cores to pin shards to, instead of the first ones granted.
    pub fn cores(mut self, cores: Vec<usize>) -> Builder {
        self.request.pin = cores;
        self
    }

    /// How many compute threads for [`Shard::compute`].
    pub fn compute(mut self, threads: usize) -> Builder {
        self.request.compute = Some(threads);
        self
    }

    /// Start as many shards as were asked for, on whatever cores there are, not pinned: for tests.
    pub fn oversubscribed(mut self) -> Builder {
        self.request.oversubscribe = true;
        self
    }

    /// The kernel interface.
    pub fn driver(mut self, driver: DriverChoice) -> Builder {
        self.driver = driver;
        self
    }

    /// Receive buffers per shard, of 4 KiB each.
    pub fn buffers(mut self, buffers: usize) -> Builder {
        self.buffers = buffers;
        self
    }

    /// How stalled stacks get names: by [`crate::stall::names`] unless told otherwise, which is for small programs.
    pub fn stall_names(mut self, namer: Namer) -> Builder {
        self.stall_names = namer;
        self
    }

    /// Sends at least this long are done without copying into the kernel.
    pub fn zero_copy_bytes_min(mut self, bytes: usize) -> Builder {
        self.zero_copy_bytes_min = bytes;
        self
    }

    /// Runs `main` on every shard until all have ended; their values, by shard.
    ///
    /// # Errors
    /// No usable driver; a thread that could not start; a shard whose `main` panicked or whose driver failed, after
    /// the others were asked to drain.
    pub fn run<T, F, M>(self, main: M) -> io::Result<Vec<T>>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
        M: Fn(Shard) -> F + Send + Sync + 'static,
    {
        self.start(main)?.wait()
    }

    /// As [`Builder::run`], without waiting.
    ///
    /// # Errors
    /// As [`Builder::run`], as far as they happen at the start.
    pub fn start<T, F, M>(self, main: M) -> io::Result<Running<T>>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
        M: Fn(Shard) -> F + Send + Sync + 'static,
    {
        self.start_with(Vec::new(), main)
    }

    /// As [`Builder::start`], with listening sockets of somebody else: [`Shard::listen`] takes those of its address instead of
    /// opening others.
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub fn start_with<T, F, M>(self, inherited: Vec<ListeningSocket>, main: M) -> io::Result<Running<T>>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
        M: Fn(Shard) -> F + Send + Sync + 'static,
    {
        let main = Arc::new(main);
        let plan = Plan::new(&Grants::of_this_process(), &self.request);
        let shards = plan.shards.len();
        let start = Instant::now();
        let (ready_sender, ready) = mpsc::channel::<(usize, io::Result<Ready>)>();
        let mut threads = Vec::new();
        let mut starters = Vec::new();
        for (index, &core) in plan.shards.iter().enumerate() {
            let (starter, go) = mpsc::channel::<(Post, Engine, Arc<Watchdog>)>();
            let (ready, main, builder) = (ready_sender.clone(), main.clone(), self.clone());
            let core = (plan.pinned && !self.request.oversubscribe).then_some(core);
            let body = move || builder.shard_thread(index, core, start, &ready, &go, &*main);
            threads.push(std::thread::Builder::new().name(format!("shard-{index}")).spawn(body)?);
            starters.push(starter);
        }
        drop(ready_sender);
        let mut remotes: Vec<Option<Arc<Remote>>> = vec![None; shards];
        let mut restricted = Ok(());
        for (index, ready) in ready.iter().take(shards) {
            // An error drops the starters; the shards that wait for them end.
            let ready = ready?;
            remotes[index] = Some(ready.remote);
            restricted = restricted.and(ready.restricted);
        }
        let remotes: Vec<_> = remotes.into_iter().flatten().collect();
        if remotes.len() != shards {
            return Err(io::Error::other("a shard's thread ended before it had started"));
        }
        let compute = match plan.compute.is_empty() {
            true => None,
            false => Some(Compute::start(&plan, limits::COMPUTE_QUEUE_MAX)?),
        };
        let mesh = Arc::new(Mesh::new(shards, compute, inherited));
        let log = mesh.stalls.clone();
        let on_stall = move |report: StallReport| {
            crate::told::tell(format_args!("{report}"));
            log.add(report);
        };
        let watchdog = Arc::new(Watchdog::start(limits::STALL, start, self.stall_names, on_stall)?);
        let engine = Engine { mesh, plan: Arc::new(plan), remotes: Arc::new(remotes.clone()), restricted };
        for (post, starter) in Post::mesh(remotes).into_iter().zip(starters) {
            // A thread that is gone shows when it is joined.
            let _joined_later = starter.send((post, engine.clone(), watchdog.clone()));
        }
        Ok(Running { engine, threads })
    }

    fn shard_thread<T: 'static, F: Future<Output = T> + 'static>(
        &self,
        index: usize,
        core: Option<usize>,
        start: Instant,
        ready: &mpsc::Sender<(usize, io::Result<Ready>)>,
        go: &mpsc::Receiver<(Post, Engine, Arc<Watchdog>)>,
        main: &dyn Fn(Shard) -> F,
    ) -> io::Result<T> {
        let gone = || io::Error::other("the engine did not start");
        if let Some(id) = core {
            // A core outside the affinity mask cannot be had; the kernel then schedules freely.
            core_affinity::set_for_current(core_affinity::CoreId { id });
        }
        if let Err(error) = crate::sys::threads::wake_in_time() {
            crate::told::tell(format_args!("shard {index}: timers may be 50 us late: {error}"));
        }
        let driver = match self.make_driver(index, start) {
            Ok(driver) => driver,
            Err(error) => {
                let text = error.to_string();
                ready.send((index, Err(error))).map_err(|_| gone())?;
                return Err(io::Error::other(text));
            }
        };
        let registered = Registered::new(driver.doorbell());
        let said = Ready { remote: registered.remote.clone(), restricted: driver.restricted() };
        ready.send((index, Ok(said))).map_err(|_| gone())?;
        let (post, engine, watchdog) = go.recv().map_err(|_| gone())?;
        let mesh = engine.mesh.clone();
        let shard = LocalShard::build(index, mesh, driver, registered, post, self.zero_copy_bytes_min);
        let future = on_the_heap(main, shard.shard());
        watchdog.watch_this_thread(index, engine.mesh.metrics[index].clone());
        let ended = shard.run(future);
        watchdog.forget_this_thread();
        if ended.is_err() {
            engine.drain();
        }
        ended
    }

    fn make_driver(&self, index: usize, start: Instant) -> io::Result<Box<dyn Driver>> {
        let epoll = || -> io::Result<Box<dyn Driver>> { Ok(Box::new(EpollDriver::new(self.buffers, start)?)) };
        match self.driver {
            DriverChoice::Epoll => epoll(),
            DriverChoice::Uring => match UringDriver::new(self.buffers, start) {
                Ok(driver) => Ok(Box::new(driver)),
                Err(error) => Err(io::Error::new(error.kind(), explain_uring(&error))),
            },
            DriverChoice::Auto => match UringDriver::new(self.buffers, start) {
                Ok(driver) => Ok(Box::new(driver)),
                Err(error) => {
                    if index == 0 {
                        crate::told::tell(format_args!("{} Going on with epoll.", explain_uring(&error)));
                    }
                    epoll()
                }
            },
        }
    }
}

/// A shard's main future may be tens of kilobytes. Made here, it lies on no stack while the shard runs: stacks stay so shallow
/// that a profiler that copies a part of them has all of it.
#[inline(never)]
fn on_the_heap<F: Future>(main: &dyn Fn(Shard) -> F, shard: Shard) -> Pin<Box<F>> {
    Box::pin(main(shard))
}

impl Mesh {
    pub(crate) fn new(shards: usize, compute: Option<Compute>, inherited: Vec<ListeningSocket>) -> Mesh {
        Mesh {
            load: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
            strained: (0..shards).map(|_| AtomicBool::new(false)).collect(),
            metrics: (0..shards).map(|_| Arc::default()).collect(),
            draining: AtomicBool::new(false),
            stalls: Arc::default(),
            compute,
            listening: std::sync::Mutex::default(),
            sockets: std::sync::Mutex::default(),
            inherited: std::sync::Mutex::new(Inherited::new(inherited)),
            ports: std::sync::Mutex::default(),
        }
    }
}

/// An engine that was started.
pub struct Running<T> {
    engine: Engine,
    threads: Vec<std::thread::JoinHandle<io::Result<T>>>,
}

impl<T> Running<T> {
    /// A handle for other threads.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Waits for all shards; their values, by shard.
    ///
    /// # Errors
    /// The first shard's that failed.
    pub fn wait(self) -> io::Result<Vec<T>> {
        let ended = self
            .threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("a shard's thread ended by a panic"))));
        // All are joined, also after an error.
        ended.collect::<Vec<_>>().into_iter().collect()
    }
}

/// What this kernel grants this process of io_uring, if it grants any.
///
/// # Errors
/// A sentence: why there is none, and what to do.
pub fn io_uring_capabilities() -> Result<Vec<Capability>, String> {
    match UringDriver::new(64, Instant::now()) {
        Ok(driver) => Ok(driver.capabilities().to_vec()),
        Err(error) => Err(explain_uring(&error)),
    }
}

/// The same as a text for people, and that epoll is there.
pub fn describe_drivers() -> String {
    let row =
        |row: Capability| format!("  {} {:<28} {}\n", if row.granted { "yes" } else { " no" }, row.name, row.note);
    let uring = match io_uring_capabilities() {
        Ok(rows) => rows.into_iter().map(row).collect(),
        Err(why) => format!("   no io_uring: {why}\n"),
    };
    format!("{uring}  yes {:<28} in use when io_uring is not, or as asked\n", DriverKind::Epoll.to_string())
}

/// Raises the process's limit of open files to the hard limit, and gives it: connections and files count together.
///
/// # Errors
/// As `setrlimit(2)`.
pub fn raise_file_limit() -> io::Result<u64> {
    crate::sys::process::raise_file_limit()
}

/// Marks every open descriptor but the standard streams as closed when another program is run: a child inherits none
/// that somebody left open.
///
/// # Errors
/// As `close_range(2)`; Linux before 5.11 does not know it.
pub fn keep_descriptors_from_programs() -> io::Result<()> {
    crate::sys::process::keep_descriptors_from_programs()
}

/// Lets the calling thread run only when nothing else wants its core; where that is refused, at the lowest of the
/// ordinary priorities. A program that it runs inherits this.
///
/// # Errors
/// When both were refused.
pub fn yield_to_all() -> io::Result<()> {
    crate::sys::threads::yield_to_all()
}
