//! Both lanes as one: each job goes the way that the router says, and what the GPU does not take, or was lost with, goes to
//! the CPU at once. No attempt visits the GPU twice, so a job that kills its worker does so once; and an original that was
//! under way in two losses is not sent there again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use super::router::{Load, Router, State, Way, Why};
use super::{Ended, GpuLane, LOOK_EVERY, Lost, suits};
use crate::image::fault::Fault;
use crate::image::lanes::worker::cancelled;
use crate::image::lanes::{Done, Lane, Stop, Task, Told};
use crate::image::pipeline::predict;
use crate::image::recipe::Route;
use crate::image::store::Key;

/// Losses of the GPU's worker that an original may have been under way in; then it is the CPU's.
const LOSSES_MAX: u8 = 2;
/// Originals that are remembered for that.
const SUSPECTS_MAX: usize = 1024;
/// The lanes' names, in the order of [`Counts`].
const NAMES: [&str; 2] = ["cpu", "gpu"];

/// How many jobs each lane did, and why that one.
#[derive(Debug, Default)]
pub struct Counts([[AtomicU64; Why::LABELS.len()]; 2]);

impl Counts {
    fn count(&self, way: Way, why: &Why) {
        self.0[way as usize][why.label()].fetch_add(1, Ordering::Relaxed);
    }

    /// Jobs of a lane, for all reasons.
    pub fn of(&self, way: Way) -> u64 {
        self.0[way as usize].iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// The lane, a word for the reason, and the jobs.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        NAMES.into_iter().zip(&self.0).flat_map(|(lane, counts)| {
            let counts = Why::LABELS.into_iter().zip(counts);
            counts.map(move |(why, count)| (lane, why, count.load(Ordering::Relaxed)))
        })
    }
}

/// See the module's description.
pub struct BothLanes {
    cpu: Arc<dyn Lane>,
    gpu: Option<GpuLane>,
    route: Route,
    router: Mutex<Router>,
    cores: usize,
    /// Predicted microseconds of the CPU lane's jobs that wait or are begun.
    cpu_us: AtomicU64,
    cpu_free: (Mutex<usize>, Condvar),
    /// Jobs that wait for a core.
    cpu_waiting: AtomicUsize,
    gpu_under_way: AtomicUsize,
    /// Originals that were under way when a worker was lost, and how often; the newest last.
    suspects: Mutex<VecDeque<(Key, u8)>>,
    counts: Counts,
}

impl BothLanes {
    /// Puts the lanes together. The CPU lane gets at most `cores` jobs at a time; `route` is for jobs that ask for nothing.
    pub fn new(cpu: Arc<dyn Lane>, gpu: Option<GpuLane>, route: Route, cores: usize) -> BothLanes {
        BothLanes {
            cpu,
            gpu,
            route,
            router: Mutex::default(),
            cores,
            cpu_us: AtomicU64::new(0),
            cpu_free: (Mutex::new(cores.max(1)), Condvar::new()),
            cpu_waiting: AtomicUsize::new(0),
            gpu_under_way: AtomicUsize::new(0),
            suspects: Mutex::default(),
            counts: Counts::default(),
        }
    }

    /// Jobs that should be given at a time, so that no core and no desk waits.
    pub fn concurrency(&self) -> usize {
        self.cores + self.gpu.as_ref().map_or(0, GpuLane::concurrency)
    }

    /// The GPU lane.
    pub fn gpu(&self) -> Option<&GpuLane> {
        self.gpu.as_ref()
    }

    /// What was counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The GPU lane, if the job goes there; and why it goes where it goes.
    fn way(&self, task: &Task, load: Load) -> (Option<&GpuLane>, Why) {
        let Some(gpu) = &self.gpu else { return (None, Why::Down("there is no GPU".to_owned())) };
        if let Some(why) = task.only_cpu {
            return (None, Why::Unsuited(why.to_owned()));
        }
        if let Err(why) = suits::plans(&task.header, &task.recipes) {
            return (None, Why::Unsuited(why.to_owned()));
        }
        if self.is_suspect(task) {
            return (None, Why::Suspect);
        }
        let asked = Route::of(&task.recipes).unwrap_or(Route::Cpu);
        match if asked.is_auto() { self.route } else { asked } {
            Route::Cpu => return (None, Why::Asked),
            Route::Gpu => return (Some(gpu), Why::Asked),
            Route::Auto => {}
        }
        let state = State {
            cpu_us: self.cpu_us.load(Ordering::Relaxed),
            cores: self.cores,
            gpu_megapixels: gpu.megapixels(),
            gpu_up: gpu.is_up(),
        };
        let (way, why) = self.router().choose(load, state);
        ((way == Way::Gpu).then_some(gpu), why)
    }

    /// The GPU's result, or why the job is the CPU's after all.
    fn on_gpu(&self, gpu: &GpuLane, task: &Task, load: Load) -> Result<Result<Done, Fault>, Why> {
        let at_once = self.gpu_under_way.fetch_add(1, Ordering::Relaxed) + 1;
        let started = Instant::now();
        let ended = gpu.run(task);
        self.gpu_under_way.fetch_sub(1, Ordering::Relaxed);
        match ended {
            Ended::Done(done) => {
                let took = started.elapsed();
                self.router().on_gpu(load, took, at_once);
                // Jobs that are done side by side share what all workers of the service would be busy with.
                Ok(Ok(Done { share: Some(took * self.cores as u32 / at_once as u32), ..done }))
            }
            Ended::Fault(fault) => Ok(Err(fault)),
            Ended::Unsupported(why) => Err(Why::Unsuited(why)),
            Ended::Lost(Lost { why, begun }) => {
                if let (Some(original), true) = (task.original, begun) {
                    self.suspect(original);
                }
                Err(if begun { Why::Lost(why) } else { Why::Down(why) })
            }
        }
    }

    fn on_cpu(&self, task: Task, load: Load) -> Result<Done, Fault> {
        self.cpu_us.fetch_add(load.cpu_us, Ordering::Relaxed);
        let ran = self.core(&task.stop).and_then(|core| {
            let done = self.cpu.run(task)?;
            Ok((done, core.since.elapsed()))
        });
        self.cpu_us.fetch_sub(load.cpu_us, Ordering::Relaxed);
        let (done, took) = ran?;
        self.router().on_cpu(load, took);
        Ok(Done { share: Some(took), ..done })
    }

    /// Notes that a worker was lost with this original. Most of those with it are innocent, and one loss is forgiven.
    fn suspect(&self, original: Key) {
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        let known = suspects.iter().position(|(key, _)| *key == original).and_then(|at| suspects.remove(at));
        suspects.push_back((original, known.map_or(1, |(_, losses)| losses.saturating_add(1))));
        if suspects.len() > SUSPECTS_MAX {
            suspects.pop_front();
        }
    }

    fn is_suspect(&self, task: &Task) -> bool {
        let suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        task.original
            .is_some_and(|original| suspects.iter().any(|(key, losses)| *key == original && *losses >= LOSSES_MAX))
    }

    /// Waits for a core. The job may be unwanted before one is free.
    fn core(&self, stop: &Stop) -> Result<Core<'_>, Fault> {
        let (free, freed) = &self.cpu_free;
        let mut count = free.lock().unwrap_or_else(PoisonError::into_inner);
        self.cpu_waiting.fetch_add(1, Ordering::Relaxed);
        while *count == 0 && !stop.is_stopped() {
            (count, _) = freed.wait_timeout(count, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner);
        }
        self.cpu_waiting.fetch_sub(1, Ordering::Relaxed);
        if *count == 0 {
            return Err(cancelled());
        }
        *count -= 1;
        Ok(Core { lanes: self, since: Instant::now() })
    }

    fn router(&self) -> std::sync::MutexGuard<'_, Router> {
        self.router.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane for BothLanes {
    fn name(&self) -> &'static str {
        if self.gpu.is_some() { "both" } else { "cpu" }
    }

    /// Whoever waits for a core takes the room of another, and nothing is taken while as many wait as there are cores: what is
    /// leased has left the queue, where who is urgent goes first.
    fn room(&self, threads: usize) -> usize {
        let cores = self.cores.max(1).saturating_sub(self.cpu_waiting.load(Ordering::Relaxed));
        let batch = self.gpu.as_ref().filter(|gpu| gpu.is_up()).map_or(0, GpuLane::batch_max);
        if cores == 0 { 0 } else { threads.min(cores + batch) }
    }

    fn run(&self, task: Task) -> Result<Done, Fault> {
        let load =
            Load { cpu_us: predict(&task.header, &task.recipes).cpu_us, megapixels: task.header.pixels() as f64 / 1e6 };
        let (gpu, mut why) = self.way(&task, load);
        if let Some(gpu) = gpu {
            match self.on_gpu(gpu, &task, load) {
                Ok(result) => {
                    self.counts.count(Way::Gpu, &why);
                    return result.map(|done| Done { told: Told { lane: "gpu", why: why.to_string() }, ..done });
                }
                Err(after_all) => why = after_all,
            }
        }
        let done = self.on_cpu(task, load);
        self.counts.count(Way::Cpu, &why);
        done.map(|done| Done { told: Told { lane: "cpu", why: why.to_string() }, ..done })
    }
}

/// The right to keep one core busy.
struct Core<'a> {
    lanes: &'a BothLanes,
    since: Instant,
}

impl Drop for Core<'_> {
    fn drop(&mut self) {
        let (free, freed) = &self.lanes.cpu_free;
        *free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        freed.notify_one();
    }
}
