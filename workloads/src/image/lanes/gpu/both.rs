//! Both lanes as one: each job goes the way that the router says, and what the GPU does not take, or was lost with, goes to
//! the CPU at once. No job visits the GPU twice, so one that kills its worker does so once.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::router::{Load, Mode, Router, State, Way};
use super::{Ended, GpuLane, suits};
use crate::image::fault::Fault;
use crate::image::lanes::{Done, Lane, Task};
use crate::image::pipeline::predict;

/// Which way a job went, and why: for its document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// `cpu` or `gpu`.
    pub lane: &'static str,
    /// A sentence.
    pub why: String,
}

/// Counters, as an operator sees them.
#[derive(Debug, Default)]
pub struct Counts {
    /// Jobs that the GPU did.
    pub gpu: AtomicU64,
    /// Jobs that the CPU did.
    pub cpu: AtomicU64,
    /// Of those, the ones that the GPU did not take.
    pub unsupported: AtomicU64,
    /// And the ones that were lost with its worker.
    pub lost: AtomicU64,
}

/// See the module's description.
pub struct BothLanes {
    cpu: Arc<dyn Lane>,
    gpu: Option<GpuLane>,
    mode: Mode,
    router: Mutex<Router>,
    cores: usize,
    /// Predicted microseconds of the CPU lane's jobs that wait or are begun.
    cpu_us: AtomicU64,
    cpu_free: (Mutex<usize>, Condvar),
    gpu_under_way: AtomicUsize,
    counts: Counts,
}

impl BothLanes {
    /// Puts the lanes together. The CPU lane gets at most `cores` jobs at a time.
    pub fn new(cpu: Arc<dyn Lane>, gpu: Option<GpuLane>, mode: Mode, cores: usize) -> BothLanes {
        BothLanes {
            cpu,
            gpu,
            mode,
            router: Mutex::default(),
            cores,
            cpu_us: AtomicU64::new(0),
            cpu_free: (Mutex::new(cores.max(1)), Condvar::new()),
            gpu_under_way: AtomicUsize::new(0),
            counts: Counts::default(),
        }
    }

    /// Jobs that should be given at a time, so that no core and no desk waits.
    pub fn concurrency(&self) -> usize {
        self.cores + self.gpu.as_ref().map_or(0, |gpu| gpu.batch_max() * 4)
    }

    /// The GPU lane.
    pub fn gpu(&self) -> Option<&GpuLane> {
        self.gpu.as_ref()
    }

    /// What was counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Makes all outputs, and tells which lane did and why.
    pub fn run_told(&self, task: Task) -> (Result<Done, Fault>, Told) {
        let load =
            Load { cpu_us: predict(&task.header, &task.recipes).cpu_us, megapixels: task.header.pixels() as f64 / 1e6 };
        let why = match self.way(&task, load) {
            Err(why) => why,
            Ok((gpu, why)) => match self.on_gpu(gpu, &task, load) {
                Ended::Done(done) => {
                    self.counts.gpu.fetch_add(1, Ordering::Relaxed);
                    return (Ok(done), Told { lane: "gpu", why });
                }
                Ended::Fault(fault) => return (Err(fault), Told { lane: "gpu", why }),
                Ended::Unsupported(why) => {
                    self.counts.unsupported.fetch_add(1, Ordering::Relaxed);
                    why
                }
                Ended::Lost(why) => {
                    self.counts.lost.fetch_add(1, Ordering::Relaxed);
                    why
                }
            },
        };
        let done = self.on_cpu(task, load);
        self.counts.cpu.fetch_add(1, Ordering::Relaxed);
        (done, Told { lane: "cpu", why })
    }

    /// The GPU lane, if the job goes there; otherwise why not.
    fn way(&self, task: &Task, load: Load) -> Result<(&GpuLane, String), String> {
        let gpu = self.gpu.as_ref().ok_or_else(|| "there is no GPU".to_owned())?;
        suits::plans(&task.header, &task.recipes).map_err(str::to_owned)?;
        match self.mode {
            Mode::Cpu => return Err("lane = cpu".to_owned()),
            Mode::Gpu => return Ok((gpu, "lane = gpu".to_owned())),
            Mode::Auto => {}
        }
        let state = State {
            cpu_us: self.cpu_us.load(Ordering::Relaxed),
            cores: self.cores,
            gpu_megapixels: gpu.megapixels(),
            gpu_up: gpu.is_up(),
        };
        match self.router().choose(load, state) {
            (Way::Gpu, why) => Ok((gpu, why)),
            (Way::Cpu, why) => Err(why),
        }
    }

    fn on_gpu(&self, gpu: &GpuLane, task: &Task, load: Load) -> Ended {
        let at_once = self.gpu_under_way.fetch_add(1, Ordering::Relaxed) + 1;
        let started = Instant::now();
        let ended = gpu.run(task);
        self.gpu_under_way.fetch_sub(1, Ordering::Relaxed);
        if matches!(ended, Ended::Done(_)) {
            self.router().on_gpu(load, started.elapsed(), at_once);
        }
        ended
    }

    fn on_cpu(&self, task: Task, load: Load) -> Result<Done, Fault> {
        self.cpu_us.fetch_add(load.cpu_us, Ordering::Relaxed);
        let (took, done) = self.with_core(|| self.cpu.run(task));
        self.cpu_us.fetch_sub(load.cpu_us, Ordering::Relaxed);
        if done.is_ok() {
            self.router().on_cpu(load, took);
        }
        done
    }

    /// Waits for a core, and uses it.
    fn with_core<T>(&self, work: impl FnOnce() -> T) -> (Duration, T) {
        let (free, freed) = &self.cpu_free;
        let mut count = free.lock().unwrap_or_else(PoisonError::into_inner);
        while *count == 0 {
            count = freed.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
        *count -= 1;
        drop(count);
        let started = Instant::now();
        let done = work();
        let took = started.elapsed();
        *free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        freed.notify_one();
        (took, done)
    }

    fn router(&self) -> std::sync::MutexGuard<'_, Router> {
        self.router.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane for BothLanes {
    fn name(&self) -> &'static str {
        "auto"
    }

    fn run(&self, task: Task) -> Result<Done, Fault> {
        self.run_told(task).0
    }
}
