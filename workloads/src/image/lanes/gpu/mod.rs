//! The GPU lane: jobs in berths of shared memory, a thread that gathers them into batches, and a process of its own for
//! the device.
//!
//! ```text
//!   run(task) ─► berth: original ─► queue (lock-free) ─► supervisor: batches ─► worker process: desks ─► the device
//!        ▲                                                  │  ▲                      │
//!        └─ outputs ◄─ berth ◄──────────────────── done ────┘  └── dead, late, broken ┘ all its jobs: lost, try the CPU
//! ```
//!
//! `suits` says what the lane takes, `batch` makes it, `router` says when it is worth it, and `both` is the lane that the
//! service sees: it sends each job one way, and what the GPU lost or does not take, the other.

pub mod batch;
pub mod both;
pub mod breaker;
pub mod router;
pub mod settings;
pub mod suits;
pub mod supervisor;
pub mod wire;
pub mod worker;

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{FallocateFlags, fallocate};

use super::child::{memory_file, take};
use super::wire::Claim;
use super::{Done, Made, Task, Told};
use crate::image::fault::{Fault, Kind};
use crate::image::format::Format;
use crate::image::pipeline::Timings;
use annulus_engine::gpu::Shared;
use supervisor::{Pending, Supervisor};
use wire::{
    BERTH_BYTES, Facts, INPUT_BYTES_MAX, Job, OUTPUTS_BYTES_MAX, Outcome, input_at, outputs_at, put_words, take_words,
};

/// Bytes copied at a time: they stay in the core's own cache between the two sides.
const CHUNK_BYTES: usize = 256 << 10;
/// Bytes of a berth's original, and as many of its outputs, that stay in memory between jobs; what a larger job used is given
/// back.
const KEPT_BYTES: usize = 8 << 20;
/// How often whoever waits for a berth looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How the lane works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The program that becomes a worker when its first word is [`COMMAND`](worker::COMMAND).
    pub program: PathBuf,
    /// The device, counted from 0.
    pub device: usize,
    /// nvJPEG's file; without it, it is looked for by its names.
    pub nvjpeg: Option<PathBuf>,
    /// Batches at a time: one is decoded while another is encoded.
    pub desks: usize,
    /// Bytes of the device's memory for one desk's pictures; less where the device has not so many.
    pub arena_bytes: u64,
    /// Jobs of a batch. Two rounds of an H100's seven decoder engines are 14.
    pub batch_max: usize,
    /// How long a job waits for others to fill its batch.
    pub batch_wait: Duration,
    /// How long a batch may take before the worker counts as hung and is killed.
    pub batch_time_max: Duration,
    /// How long a worker may take to open the device.
    pub start_time_max: Duration,
    /// How long the device is left alone after too many faults in a while, or when it is gone.
    pub rest: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            program: PathBuf::from("/proc/self/exe"),
            device: 0,
            nvjpeg: None,
            desks: 2,
            arena_bytes: 2 << 30,
            batch_max: 14,
            batch_wait: Duration::from_millis(4),
            batch_time_max: Duration::from_secs(10),
            start_time_max: Duration::from_secs(30),
            rest: breaker::REST,
        }
    }
}

impl Options {
    /// Jobs that keep all desks busy, with one batch that gathers.
    pub fn concurrency(&self) -> usize {
        (self.desks + 1) * self.batch_max
    }

    /// Bytes of this machine's memory that the lane holds at most between jobs.
    pub fn host_bytes(&self) -> u64 {
        (self.berths() * 2 * KEPT_BYTES) as u64
    }

    /// Jobs that can be in the lane: under way, and as many again so that no desk waits for a copy.
    pub fn berths(&self) -> usize {
        self.desks * self.batch_max * 2
    }
}

/// What the lane is doing.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The worker's process, while it is up.
    pub worker: Option<u32>,
    /// What it found.
    pub facts: Option<Facts>,
    /// The last thing that went wrong, in a sentence.
    pub trouble: Option<String>,
    /// Workers that died, hung or broke.
    pub faults: u64,
    /// Batches that were done.
    pub batches: u64,
    /// Jobs in them.
    pub jobs: u64,
    /// Time of all batches at their desks: decoding, our kernels, encoding.
    pub spent: [Duration; 3],
}

/// How a job ended.
#[derive(Debug)]
pub enum Ended {
    /// All outputs are there.
    Done(Done),
    /// The lane does not take it: why.
    Unsupported(String),
    /// Nobody can do it, or it is not wanted any more.
    Fault(Fault),
    /// The worker was lost with it, or is not up.
    Lost(Lost),
}

/// Why the lane has not done a job that it might have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// A sentence.
    pub why: String,
    /// Whether the worker had begun it.
    pub begun: bool,
}

impl Lost {
    fn before(why: impl Into<String>) -> Ended {
        Ended::Lost(Lost { why: why.into(), begun: false })
    }
}

/// What the job threads and the supervisor share.
pub(in crate::image::lanes) struct Common {
    memory: File,
    /// The same, for reading originals where they lie.
    mapped: Shared,
    free: (Sender<usize>, Receiver<usize>),
    jobs: Sender<Pending>,
    bell: OwnedFd,
    is_up: AtomicBool,
    is_ending: AtomicBool,
    /// Pixels that wait or are under way.
    pixels: AtomicU64,
    status: Mutex<Status>,
}

impl Common {
    /// Wakes the supervisor.
    fn ring(&self) {
        // Fails only where the counter is full, and then it wakes already.
        let _awake = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    fn status(&self) -> std::sync::MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module's description.
pub struct GpuLane {
    common: Arc<Common>,
    batch_max: usize,
    concurrency: usize,
    host_bytes: u64,
    supervisor: Option<JoinHandle<()>>,
}

impl GpuLane {
    /// Starts the lane and its first worker. Where that one fails although there is a device, the lane is down, and starts
    /// others.
    ///
    /// # Errors
    /// A sentence: why there is no lane, because there is no device or no library.
    pub fn start(options: Options) -> Result<GpuLane, String> {
        let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let berths = options.berths();
        let free = bounded(berths);
        (0..berths).try_for_each(|berth| free.0.send(berth)).map_err(|error| error.to_string())?;
        // As many as there are berths, so that whoever has one never waits here.
        let (jobs, queue) = bounded(berths);
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let memory = wire::memory_file(berths).map_err(failed("shared memory"))?;
        let common = Arc::new(Common {
            mapped: Shared::map(&memory, berths * BERTH_BYTES).map_err(failed("shared memory"))?,
            memory,
            free,
            jobs,
            bell: bell.map_err(|error| failed("a bell")(error.into()))?,
            is_up: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
            pixels: AtomicU64::new(0),
            status: Mutex::default(),
        });
        let (told, first) = bounded(1);
        let batch_max = options.batch_max;
        let (concurrency, host_bytes) = (options.concurrency(), options.host_bytes());
        let supervisor = Supervisor::new(options, common.clone(), queue);
        let thread = std::thread::Builder::new().name("image-gpu".to_owned());
        let thread = thread.spawn(move || supervisor.run(&told)).map_err(failed("a thread"))?;
        let lane = GpuLane { common, batch_max, concurrency, host_bytes, supervisor: Some(thread) };
        first.recv().unwrap_or_else(|_| Err("the GPU's supervisor has ended".to_owned()))?;
        Ok(lane)
    }

    /// Bytes of this machine's memory that it holds at most between jobs.
    pub fn host_bytes(&self) -> u64 {
        self.host_bytes
    }

    /// Whether a worker is up.
    pub fn is_up(&self) -> bool {
        self.common.is_up.load(Ordering::Acquire)
    }

    /// What it is doing.
    pub fn status(&self) -> Status {
        self.common.status().clone()
    }

    /// Megapixels that wait or are under way.
    pub fn megapixels(&self) -> f64 {
        self.common.pixels.load(Ordering::Relaxed) as f64 / 1e6
    }

    /// Jobs of a batch.
    pub fn batch_max(&self) -> usize {
        self.batch_max
    }

    /// Jobs that keep all desks busy: the ones in work, and as many as wait to fill the next batch.
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Makes all outputs, in a batch with others. Blocks.
    pub fn run(&self, task: &Task) -> Ended {
        let pixels = task.header.pixels();
        self.common.pixels.fetch_add(pixels, Ordering::Relaxed);
        let ended = self.in_berth(task);
        self.common.pixels.fetch_sub(pixels, Ordering::Relaxed);
        ended
    }

    fn in_berth(&self, task: &Task) -> Ended {
        if task.len > INPUT_BYTES_MAX as u64 {
            return Ended::Unsupported(format!("an original of {} bytes", task.len));
        }
        let started = Instant::now();
        let mut berth = match self.berth(task) {
            Ok(berth) => berth,
            Err(ended) => return *ended,
        };
        let number = berth.number;
        if let Err(error) = self.load(number, task) {
            berth.outputs = 0;
            return match error.kind() {
                io::ErrorKind::InvalidInput => Ended::Unsupported(error.to_string()),
                _ => Ended::Fault(Fault::new(Kind::Io, format!("the original could not be read: {error}"))),
            };
        }
        // Here, and not at a desk: job threads do it side by side.
        let input = self.common.mapped.slice(input_at(number), task.len as usize).unwrap_or_default();
        if let Err(why) = suits::bytes(input, &task.header) {
            berth.outputs = 0;
            return Ended::Unsupported(why.to_owned());
        }
        let (answer, ended) = bounded(1);
        let pending = Pending { berth: number, since: Instant::now(), answer };
        if self.common.jobs.send(pending).is_err() {
            return Lost::before("the GPU's supervisor has ended");
        }
        self.common.ring();
        match ended.recv() {
            _ if task.stop.is_stopped() => Ended::Fault(super::worker::cancelled()),
            Ok(Ok(timings)) => self.unload(&mut berth, task, timings),
            Ok(Err(lost)) => Ended::Lost(lost),
            Err(_) => Lost::before(format!("the GPU's supervisor has ended after {:?}", started.elapsed())),
        }
    }

    /// A free berth, if one comes before the job's time is over.
    fn berth(&self, task: &Task) -> Result<Berth<'_>, Box<Ended>> {
        let until = Instant::now() + task.time_max;
        loop {
            if !self.is_up() {
                return Err(Box::new(Lost::before(supervisor::DOWN)));
            }
            match self.common.free.1.recv_timeout(LOOK_EVERY) {
                Ok(number) => {
                    return Ok(Berth { number, common: &self.common, input: task.len as usize, outputs: usize::MAX });
                }
                Err(RecvTimeoutError::Timeout) if task.stop.is_stopped() => {
                    return Err(Box::new(Ended::Fault(super::worker::cancelled())));
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
                Err(_) => return Err(Box::new(Lost::before("the GPU lane was full all the time"))),
            }
        }
    }

    /// Brings a job into its berth.
    fn load(&self, berth: usize, task: &Task) -> io::Result<()> {
        let len = task.len as usize;
        let job = Job { len, header: Cow::Borrowed(&task.header), recipes: Cow::Borrowed(&task.recipes) };
        put_words(&self.common.memory, berth, &job)?;
        copy(&task.input, 0, &self.common.memory, input_at(berth) as u64, len)
    }

    /// Takes a job's outputs out of its berth.
    fn unload(&self, berth: &mut Berth<'_>, task: &Task, timings: Timings) -> Ended {
        let io = |error: io::Error| match error.kind() {
            io::ErrorKind::InvalidData => lied(format!("its worker's result: {error}")),
            _ => Ended::Fault(Fault::new(Kind::Io, format!("the GPU's result: {error}"))),
        };
        let claims = match take_words::<Outcome>(&self.common.memory, berth.number) {
            Ok(Outcome::Made(claims)) => claims,
            Ok(Outcome::Unsupported(why)) => return Ended::Unsupported(why),
            Ok(Outcome::Fault(fault)) => return Ended::Fault(fault),
            Err(error) => return io(error),
        };
        let mut at = outputs_at(berth.number) as u64;
        let end = at + OUTPUTS_BYTES_MAX as u64;
        let mut outputs: Vec<Option<Made>> = task.recipes.iter().map(|_| None).collect();
        for claim in claims {
            let place = outputs.get_mut(claim.index).filter(|place| place.is_none()).zip(task.recipes.get(claim.index));
            let Some((place, recipe)) = place.filter(|_| is_sensible(&claim, end - at)) else {
                return lied(format!("its worker told of an output that cannot be: {claim:?}"));
            };
            let copied = memory_file().and_then(|file| {
                copy(&self.common.memory, at, &file, 0, claim.len as usize)?;
                Ok(file)
            });
            match copied.map(|file| take(&claim, recipe, &file, OUTPUTS_BYTES_MAX as u64)) {
                Ok(Ok(made)) => *place = Some(made),
                Ok(Err(why)) => return lied(format!("its worker made {why}")),
                Err(error) => return io(error),
            }
            at += claim.len;
        }
        berth.outputs = at as usize - outputs_at(berth.number);
        let bytes = task.len + outputs.iter().flatten().map(|output| output.len).sum::<u64>();
        match outputs.into_iter().collect::<Option<Vec<Made>>>() {
            Some(outputs) => Ended::Done(Done {
                outputs,
                timings,
                peak_bytes: bytes,
                told: Told { lane: "gpu", why: String::new() },
                share: None,
            }),
            None => lied("its worker left an output out".to_owned()),
        }
    }
}

impl Drop for GpuLane {
    fn drop(&mut self) {
        self.common.is_ending.store(true, Ordering::Release);
        self.common.ring();
        if let Some(thread) = self.supervisor.take() {
            // A panic there was told there.
            let _told = thread.join();
        }
    }
}

/// The worker's result makes no sense: the job is for another lane. That is the worker's doing, and not the original's.
fn lied(why: String) -> Ended {
    Ended::Lost(Lost { why, begun: false })
}

/// Whether a claim can be looked into at all.
fn is_sensible(claim: &Claim, room: u64) -> bool {
    claim.format == Format::Jpeg && (4..=room).contains(&claim.len)
}

fn copy(from: &File, at: u64, to: &File, to_at: u64, len: usize) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES.min(len)];
    let mut done = 0;
    while done < len {
        let part = (len - done).min(CHUNK_BYTES);
        from.read_exact_at(&mut chunk[..part], at + done as u64)?;
        to.write_all_at(&chunk[..part], to_at + done as u64)?;
        done += part;
    }
    Ok(())
}

/// A berth that is given back when its job ends, however that is.
struct Berth<'a> {
    number: usize,
    common: &'a Common,
    /// Bytes of the original.
    input: usize,
    /// Bytes of the outputs, once they are known.
    outputs: usize,
}

impl Drop for Berth<'_> {
    fn drop(&mut self) {
        for (at, used, most) in [
            (input_at(self.number), self.input, INPUT_BYTES_MAX),
            (outputs_at(self.number), self.outputs, OUTPUTS_BYTES_MAX),
        ] {
            if used > KEPT_BYTES {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                // What could not be given back is used again.
                let _kept = fallocate(self.common.memory.as_fd(), flags, at as u64, most as u64);
            }
        }
        // There is room for all of them.
        let _given = self.common.free.0.try_send(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::pipeline::placeholder::Placeholders;

    #[test]
    fn a_claim_must_make_sense() {
        let (format, placeholders) = (Format::Jpeg, Placeholders::default());
        let claim = Claim { index: 0, format, width: 16, height: 9, len: 100, placeholders };
        assert!(is_sensible(&claim, 100));
        for wrong in [
            Claim { len: 101, ..claim.clone() },
            Claim { len: 0, ..claim.clone() },
            Claim { format: Format::Png, ..claim.clone() },
        ] {
            assert!(!is_sensible(&wrong, 100), "{wrong:?}");
        }
    }

    #[test]
    fn without_a_gpu_it_says_so_in_one_line() {
        let program = PathBuf::from("/nowhere/annulus");
        let why = GpuLane::start(Options { program, ..Options::default() }).map(|_| ()).unwrap_err();
        assert!(why.contains("/nowhere/annulus") && !why.contains('\n'), "{why}");
    }
}
