//! A lane that makes no pixels: its outputs follow from the original's bytes, and it does what a test tells it.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};

use crate::image::admission::{Budget, Marks};
use crate::image::dispatch::{Desk, LaneThreads, desk};
use crate::image::fault::{Fault, Kind};
use crate::image::format::Format;
use crate::image::job::Document;
use crate::image::lanes::{Done, Lane, Made, Task, Told};
use crate::image::pipeline::Timings;
use crate::image::pipeline::placeholder::Placeholders;
use crate::image::queue::{Enqueued, Forecast, QueueOptions, SqliteQueue, trial};
use crate::image::store::Directory;
use crate::image::work::{ContentHash, Order, WorkKey};

/// What it does with an original, told by the original's first word: `slow`, `bad`, `broken` (ours), `panics`.
pub(crate) struct StandIn {
    /// How long a work takes.
    pub(crate) takes: Duration,
    /// Works that were begun.
    pub(crate) runs: AtomicU64,
    /// How many outputs each of them was to have, in their order.
    pub(crate) outputs: Mutex<Vec<usize>>,
    /// Works that run now, and the most that did.
    pub(crate) running: AtomicU64,
    pub(crate) running_max: AtomicU64,
}

impl StandIn {
    pub(crate) fn new(takes: Duration) -> Arc<StandIn> {
        let [runs, running, running_max] = [(); 3].map(|()| AtomicU64::new(0));
        Arc::new(StandIn { takes, runs, outputs: Mutex::default(), running, running_max })
    }

    fn process(&self, mut task: Task) -> Result<Done, Fault> {
        let mut input = Vec::new();
        task.input.read_to_end(&mut input).unwrap();
        assert_eq!(input.len() as u64, task.len);
        let word = String::from_utf8_lossy(&input[..input.len().min(6)]).into_owned();
        let takes = if word.starts_with("slow") { Duration::from_secs(60) } else { self.takes };
        let begun = Instant::now();
        while begun.elapsed() < takes {
            if task.stop.is_stopped() {
                return Err(Fault::new(Kind::Stopped, "stopped between two strips"));
            }
            std::thread::sleep(Duration::from_millis(1).min(takes));
            task.stop.reached(begun.elapsed().as_secs_f32() / takes.as_secs_f32());
        }
        match word.as_str() {
            "bad---" => return Err(Fault::new(Kind::BadImage, "its end is missing")),
            "broken" => return Err(Fault::new(Kind::Io, "the wire broke")),
            "panics" => panic!("told to"),
            _ => {}
        }
        let outputs = task.recipes.iter().map(|recipe| made(&recipe.name, &input)).collect();
        Ok(Done { outputs, timings: Timings::default(), peak_bytes: task.memory_bytes, told: Told::CPU, share: None })
    }
}

impl Lane for StandIn {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn run(&self, task: Task) -> Result<Done, Fault> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        self.outputs.lock().unwrap().push(task.recipes.len());
        let now = self.running.fetch_add(1, Ordering::AcqRel) + 1;
        self.running_max.fetch_max(now, Ordering::AcqRel);
        let leaves = Leaves(&self.running);
        let done = self.process(task);
        drop(leaves);
        done
    }
}

struct Leaves<'a>(&'a AtomicU64);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What an output must hold.
pub(crate) fn expected(name: &str, original: &[u8]) -> Vec<u8> {
    original.iter().chain(name.as_bytes()).map(|byte| byte.wrapping_mul(31).wrapping_add(7)).collect()
}

fn made(name: &str, original: &[u8]) -> Made {
    let bytes = expected(name, original);
    let mut file = File::from(memfd_create("made", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(&bytes).unwrap();
    file.rewind().unwrap();
    let (len, placeholders) = (bytes.len() as u64, Placeholders::default());
    Made { name: name.to_owned(), format: Format::Jpeg, width: 1, height: 1, file, len, placeholders }
}

/// A queue, a store, a stand-in and the desk before them.
pub(crate) struct Rig {
    pub(crate) lane: Arc<StandIn>,
    pub(crate) lanes: Vec<LaneThreads>,
    pub(crate) desk: Desk,
}

impl Rig {
    pub(crate) fn new(home: &Path, threads: usize, takes: Duration, options: QueueOptions) -> Rig {
        let queue = Arc::new(SqliteQueue::open(&home.join("queue"), options).unwrap());
        let objects = Arc::new(Directory::open(&home.join("store")).unwrap());
        let lane = StandIn::new(takes);
        let lanes = vec![LaneThreads { lane: lane.clone(), cores: vec![None; threads], idle: false, workers: threads }];
        let marks = Marks { disk_reserve_bytes: 0, ..Marks::DEFAULT };
        let desk = desk(queue, objects, Budget::new(1 << 30, 512 << 20), marks, &lanes);
        Rig { lane, lanes, desk }
    }

    /// Stores `content` and orders its work, as an upload does.
    pub(crate) fn upload(&self, tenant: &str, content: &[u8]) -> Document {
        match self.order(tenant, content) {
            Enqueued::Accepted(document) => document,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn order(&self, tenant: &str, content: &[u8]) -> Enqueued {
        self.desk.queue.enqueue(self.stored(tenant, content), Forecast::default()).wait().unwrap()
    }

    /// An order whose original is in the store.
    pub(crate) fn stored(&self, tenant: &str, content: &[u8]) -> Order {
        let mut hash = [0; 32];
        hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, content).as_ref());
        let (hash, salt) = (ContentHash(hash), self.desk.queue.salt());
        let mut order = trial::order(tenant, 0);
        order.work.key = WorkKey::of(salt, &hash, &order.work.recipes);
        order.work.original = salt.original(&hash);
        order.work.len = content.len() as u64;
        let _put = self.desk.objects.put(&order.work.original, &mut &*content).unwrap();
        order
    }

    /// Waits until the job has ended.
    pub(crate) fn ended(&self, document: &Document, tenant: &str) -> Document {
        let tenant = crate::image::job::Tenant::named(tenant);
        let (mut seen, until) = (0, Instant::now() + Duration::from_secs(60));
        loop {
            let next = self.desk.queue.follow(&tenant, document.id, seen).wait().unwrap().unwrap();
            assert!(Instant::now() < until, "still {next:?}");
            if next.state.is_final() {
                return next;
            }
            seen = next.revision;
        }
    }
}
