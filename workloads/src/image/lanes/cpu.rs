//! The CPU lane: pixels in sandboxed worker processes, or by choice in the lane's own threads.
//!
//! ```text
//!   lane thread: run(task) ─► an idle worker, else the spare ─► order ─► answer ─► checked ─► idle again
//!                                        ▲                        │
//!                     nursery: one ahead ┘        late, dead, lying: killed; the next task gets the spare
//! ```
//!
//! There are as many workers as tasks were ever run at the same time, and one spare.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::child::{Child, Ended};
use super::marks::MarkFiles;
use super::nursery::Nursery;
use super::sandbox::missing;
use super::thread::Threads;
use super::wire::Walls;
use super::{Done, Lane, Pipeline, Processor, Task};
use crate::image::fault::{Fault, Kind};

/// Workers that were found dead before one of them took the task.
const WORKERS_TRIED_MAX: usize = 3;

/// Where the codecs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// In worker processes, each in a sandbox.
    Process,
    /// In the lane's own threads.
    Thread,
}

/// How the lane works.
#[derive(Clone)]
pub struct Options {
    /// Where the codecs run.
    pub isolation: Isolation,
    /// Whether the lane refuses to start where the kernel lacks a wall of the sandbox.
    pub required: bool,
    /// The program that becomes a worker when its first word is [`COMMAND`](super::worker::COMMAND).
    pub program: PathBuf,
    /// What does the work in threads; in processes the program says.
    pub processor: Arc<dyn Processor>,
    /// Tasks that a worker does before a fresh one takes its place: what leaks, or whoever hides in it, ends there.
    pub tasks_per_worker: u32,
    /// Bytes of buffers that each worker or thread keeps warm between tasks.
    pub pool_bytes_max: u64,
    /// Bytes that a worker may still hold after a task; one with more is replaced.
    pub resident_bytes_max: u64,
    /// Bytes of one output; more fails the task as too large.
    pub output_bytes_max: u64,
    /// How long a worker may take to heed a stop, or the end of its time, before it is killed.
    pub grace: Duration,
    /// The most processor time that a worker can have had before its first task.
    pub worker_start_max: Duration,
    /// Whether workers run only when nothing else wants their core.
    pub yields: bool,
    /// What may be laid over outputs.
    pub marks: Arc<MarkFiles>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            isolation: Isolation::Process,
            required: false,
            program: PathBuf::from("/proc/self/exe"),
            processor: Arc::new(Pipeline),
            tasks_per_worker: 1000,
            pool_bytes_max: 128 << 20,
            resident_bytes_max: 256 << 20,
            output_bytes_max: 64 << 20,
            grace: Duration::from_millis(100),
            worker_start_max: Duration::from_secs(10),
            yields: true,
            marks: Arc::default(),
        }
    }
}

/// See the module's description.
pub struct CpuLane {
    options: Arc<Options>,
    way: Way,
}

enum Way {
    Processes { idle: Mutex<Vec<Child>>, nursery: Nursery, walls: Walls },
    Threads(Threads),
}

impl CpuLane {
    /// Starts the lane, and with processes the first worker.
    ///
    /// # Errors
    /// A sentence: why no worker can be started, or which wall the kernel lacks.
    pub fn start(options: Options) -> Result<CpuLane, String> {
        let options = Arc::new(options);
        let way = match options.isolation {
            Isolation::Thread => Way::Threads(Threads::new(options.marks.decode()?)),
            Isolation::Process => {
                let nursery = Nursery::start(options.clone()).map_err(|error| format!("a thread: {error}"))?;
                let first = nursery.worker()?;
                let walls = first.walls();
                Way::Processes { idle: Mutex::new(vec![first]), nursery, walls }
            }
        };
        Ok(CpuLane { options, way })
    }

    /// What an operator must know of the sandbox, to be said once at the start; nothing where all walls stand.
    pub fn warnings(&self) -> Vec<String> {
        match &self.way {
            Way::Threads(_) => vec![
                "isolation = \"thread\": codecs run inside the server. A crash of one is a crash of the server, and a \
                 hole in one is a hole in the server"
                    .to_owned(),
            ],
            Way::Processes { walls, .. } => {
                let names = [("seccomp", walls.seccomp), ("landlock", walls.landlock)];
                names.into_iter().filter(|(_, stands)| !stands).map(|(name, _)| missing(name)).collect()
            }
        }
    }

    fn in_process(&self, task: &Task, idle: &Mutex<Vec<Child>>, nursery: &Nursery) -> Result<Done, Fault> {
        let idle = || idle.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..WORKERS_TRIED_MAX {
            let warm = idle().pop();
            let mut worker = match warm {
                Some(worker) => worker,
                None => nursery.worker().map_err(|sentence| Fault::new(Kind::Io, sentence))?,
            };
            match worker.run(task, &self.options) {
                Ended::Kept(result) => {
                    if worker.is_fit(&self.options) {
                        idle().push(worker);
                    } else {
                        nursery.give_up(worker);
                    }
                    return result;
                }
                Ended::Lost(fault) => {
                    nursery.give_up(worker);
                    return Err(fault);
                }
                Ended::NotBegun => nursery.give_up(worker),
            }
        }
        Err(Fault::new(
            Kind::Io,
            format!("{WORKERS_TRIED_MAX} workers one after the other were dead before they began"),
        ))
    }
}

impl Lane for CpuLane {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn run(&self, task: Task) -> Result<Done, Fault> {
        if task.stop.is_stopped() {
            return Err(super::worker::cancelled());
        }
        match &self.way {
            Way::Threads(threads) => threads.run(&task, &self.options),
            Way::Processes { idle, nursery, .. } => self.in_process(&task, idle, nursery),
        }
    }
}

impl Drop for CpuLane {
    fn drop(&mut self) {
        if let Way::Processes { idle, nursery, .. } = &self.way {
            let workers = std::mem::take(&mut *idle.lock().unwrap_or_else(PoisonError::into_inner));
            workers.into_iter().for_each(|worker| nursery.give_up(worker));
        }
    }
}
