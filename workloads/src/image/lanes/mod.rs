//! Where pixels are made: a lane takes a task and blocks until its outputs are there.

pub mod cpu;
pub mod gpu;
pub mod marks;
pub mod sandbox;
pub mod wire;
pub mod worker;

mod child;
mod nursery;
mod thread;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::fault::Fault;
use super::format::Format;
use super::header::Header;
use super::pipeline::pixels::Pool;
use super::pipeline::placeholder::Placeholders;
use super::pipeline::{self, Timings, Wanted, Watch};
use super::recipe::Recipe;
use super::store::Key;

/// One image and what is to be made of it.
pub struct Task {
    /// The original, opened for reading, at its start.
    pub input: File,
    /// Its length in bytes.
    pub len: u64,
    /// What its head said.
    pub header: Header,
    /// The outputs wanted.
    pub recipes: Arc<[Recipe]>,
    /// Bytes that it may hold at the peak.
    pub memory_bytes: u64,
    /// Processor time and wall-clock time that it may take.
    pub time_max: Duration,
    /// Ends it between two strips.
    pub stop: Stop,
    /// Why no other lane than the CPU's may have it, if that is so.
    pub only_cpu: Option<&'static str>,
    /// Its original's place in the store: what was there when workers were lost is known by it.
    pub original: Option<Key>,
}

/// Tells a task in progress to end, and hears how far it is.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Strings>);

#[derive(Debug, Default)]
struct Strings {
    stopped: AtomicBool,
    permille: AtomicU32,
}

impl Stop {
    /// Ends the task soon. Its result is [`Kind::Stopped`](super::fault::Kind::Stopped).
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Release);
    }

    /// The lane's word on how far it is, from 0 to 1. Never less than before.
    pub fn reached(&self, share: f32) {
        self.0.permille.fetch_max((share.clamp(0.0, 1.0) * 1000.0) as u32, Ordering::Relaxed);
    }

    /// How far it is, from 0 to 1.
    pub fn progress(&self) -> f32 {
        self.0.permille.load(Ordering::Relaxed) as f32 / 1000.0
    }

    /// Whether it was told.
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Acquire)
    }
}

/// An encoded output in memory that nobody writes to any more, to be copied into the store.
#[derive(Debug)]
pub struct Made {
    /// The recipe's name.
    pub name: String,
    /// What it was encoded as.
    pub format: Format,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Its bytes, from the start of a sealed memory file.
    pub file: File,
    /// How many.
    pub len: u64,
    /// What stands in for it, as far as its recipe asks for that.
    pub placeholders: Placeholders,
}

/// A task's result.
#[derive(Debug)]
pub struct Done {
    /// One per recipe, in the recipes' order.
    pub outputs: Vec<Made>,
    /// Where the time went.
    pub timings: Timings,
    /// Bytes at the peak, as measured.
    pub peak_bytes: u64,
    /// Which lane did it, and why that one.
    pub told: Told,
    /// How long it kept one of the service's workers busy, where that is not how long it took: others were done at the same
    /// time, or it waited for a core.
    pub share: Option<Duration>,
}

/// Which lane did a task, and why: for the job's document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// `cpu` or `gpu`.
    pub lane: &'static str,
    /// A sentence; empty where there was no choice.
    pub why: String,
}

impl Told {
    /// The CPU's lane, where there is no other.
    pub const CPU: Told = Told { lane: "cpu", why: String::new() };
}

/// A way to make pixels. `run` is called by one of the lane's own threads and blocks it.
pub trait Lane: Send + Sync {
    /// `cpu`, `gpu`, or `both`: what job documents say until it is known who did it.
    fn name(&self) -> &'static str;

    /// How many more tasks it would begin now, if so many threads are free to call it.
    fn room(&self, threads: usize) -> usize {
        threads
    }

    /// Makes all outputs.
    ///
    /// # Errors
    /// A [`Fault`], whose kind says whether another attempt can help.
    fn run(&self, task: Task) -> Result<Done, Fault>;
}

/// What does the work of a task, wherever that is. The service's is [`Pipeline`]; tests bring worse ones.
pub trait Processor: Send + Sync {
    /// As [`pipeline::process`].
    ///
    /// # Errors
    /// A [`Fault`].
    fn process(
        &self,
        input: &[u8],
        wanted: Wanted<'_>,
        pool: &mut Pool,
        watch: &dyn Watch,
        made: pipeline::Made<'_>,
    ) -> Result<Timings, Fault>;
}

/// The pipeline of this service.
#[derive(Clone, Copy, Debug)]
pub struct Pipeline;

impl Processor for Pipeline {
    fn process(
        &self,
        input: &[u8],
        wanted: Wanted<'_>,
        pool: &mut Pool,
        watch: &dyn Watch,
        made: pipeline::Made<'_>,
    ) -> Result<Timings, Fault> {
        pipeline::process(input, wanted, pool, watch, made)
    }
}
