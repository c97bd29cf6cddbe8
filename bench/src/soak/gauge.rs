//! What is looked at in a soak: memory, descriptors, logs, queues and latencies of each service.

use super::load::Loads;
use super::trend::By;
use crate::faults::service::Service;
use crate::observe::tree;
use crate::sampler::Sample;
use std::path::{Path, PathBuf};

/// How a figure is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Judged {
    /// It must not grow by more than its limit.
    Limit(Limit),
    /// It grows by design, which the note explains.
    ByDesign(&'static str),
}

/// What a figure may grow by, and how it is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// In its unit, in an hour.
    pub per_hour: f64,
    /// Or, where that is more, this share of its level, in an hour.
    pub share_per_hour: f64,
    /// What a window of samples says.
    pub by: By,
    /// The least step by which the figure can change.
    pub grain: f64,
    /// Hours until it may be looked at: an allocator and the caches that fill it take minutes until they have what they keep.
    pub settled_after: f64,
}

impl Limit {
    /// What a figure at this level may grow by in an hour.
    pub fn at(&self, level: f64) -> f64 {
        self.per_hour.max(self.share_per_hour * level.abs())
    }
}

/// A figure of a service.
#[derive(Clone, Copy, Debug)]
pub struct Gauge {
    /// Whose.
    pub of: usize,
    /// What.
    pub what: &'static str,
    /// In what.
    pub unit: &'static str,
    /// How it is judged.
    pub judged: Judged,
    read: fn(&Scene, usize) -> Option<f64>,
}

/// The services, by number: chat, image, gateway.
pub const SERVICES: [&str; 3] = ["chat", "image", "gateway"];

/// What is read from.
pub struct Scene<'a> {
    /// The services.
    pub services: [&'a Service; 3],
    /// The load, for its latencies.
    pub loads: &'a Loads,
    /// Where each keeps its files.
    pub folders: [PathBuf; 3],
}

/// Megabytes that are taken and given back.
const fn megabytes(per_hour: f64, share_per_hour: f64) -> Judged {
    Judged::Limit(Limit { per_hour, share_per_hour, by: By::Floor, grain: 0.0, settled_after: 1.0 / 6.0 })
}

/// Things that are counted, and come and go.
const fn count(per_hour: f64, share_per_hour: f64) -> Judged {
    Judged::Limit(Limit { per_hour, share_per_hour, by: By::Floor, grain: 1.0, settled_after: 0.0 })
}

/// Times.
const fn milliseconds(per_hour: f64, share_per_hour: f64) -> Judged {
    Judged::Limit(Limit { per_hour, share_per_hour, by: By::Middle, grain: 0.0, settled_after: 0.0 })
}

const MEMORY: Judged = megabytes(3.0, 0.03);
/// Three segments: the log gives them back whole.
const LOG: Judged = megabytes(6.0, 0.05);
const DESCRIPTORS: Judged = count(3.0, 0.0);
const LATENCY: Judged = milliseconds(1.0, 0.25);
const QUEUE: Judged = count(3.0, 0.1);

/// All that is looked at.
pub const GAUGES: [Gauge; 19] = [
    Gauge { of: 0, what: "memory (RSS)", unit: "MB", judged: MEMORY, read: memory },
    Gauge { of: 0, what: "descriptors", unit: "", judged: DESCRIPTORS, read: descriptors },
    Gauge { of: 0, what: "delivery p50", unit: "ms", judged: LATENCY, read: p50 },
    Gauge { of: 0, what: "delivery p99", unit: "ms", judged: LATENCY, read: p99 },
    Gauge { of: 0, what: "log on disk", unit: "MB", judged: LOG, read: log },
    Gauge { of: 0, what: "publications unsettled", unit: "", judged: QUEUE, read: unsettled },
    Gauge { of: 0, what: "database behind by", unit: "ms", judged: milliseconds(500.0, 0.5), read: lag },
    Gauge { of: 0, what: "sessions", unit: "", judged: DESCRIPTORS, read: sessions },
    Gauge { of: 1, what: "memory (RSS), workers included", unit: "MB", judged: MEMORY, read: memory },
    Gauge { of: 1, what: "descriptors, workers included", unit: "", judged: DESCRIPTORS, read: descriptors },
    Gauge { of: 1, what: "upload to done p50", unit: "ms", judged: milliseconds(20.0, 0.25), read: p50 },
    Gauge { of: 1, what: "upload to done p99", unit: "ms", judged: milliseconds(50.0, 0.5), read: p99 },
    Gauge { of: 1, what: "works that wait or are leased", unit: "", judged: QUEUE, read: works },
    Gauge {
        of: 1,
        what: "queue on disk",
        unit: "MB",
        judged: Judged::ByDesign("documents are kept for days"),
        read: queue,
    },
    Gauge { of: 2, what: "memory (RSS)", unit: "MB", judged: MEMORY, read: memory },
    Gauge { of: 2, what: "descriptors", unit: "", judged: DESCRIPTORS, read: descriptors },
    Gauge { of: 2, what: "answer p50", unit: "ms", judged: LATENCY, read: p50 },
    Gauge { of: 2, what: "answer p99", unit: "ms", judged: milliseconds(3.0, 0.25), read: p99 },
    Gauge { of: 2, what: "requests in flight", unit: "", judged: QUEUE, read: in_flight },
];

impl Gauge {
    /// Its name.
    pub fn name(&self) -> String {
        format!("{}: {}", SERVICES[self.of], self.what)
    }

    /// What it says now.
    pub fn read(&self, scene: &Scene) -> Option<f64> {
        (self.read)(scene, self.of)
    }
}

fn memory(scene: &Scene, of: usize) -> Option<f64> {
    Some(Sample::of_tree(scene.services[of].pid()).ok()?.rss as f64 / 1e6)
}

fn descriptors(scene: &Scene, of: usize) -> Option<f64> {
    let mut all = Vec::new();
    tree(scene.services[of].pid(), &mut all);
    let count = |pid: &u32| Some(std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count());
    let counts: Vec<usize> = all.iter().filter_map(count).collect();
    (!counts.is_empty()).then(|| counts.iter().sum::<usize>() as f64)
}

fn p50(scene: &Scene, of: usize) -> Option<f64> {
    scene.loads.last.lock().ok()?[of].p50_ms
}

fn p99(scene: &Scene, of: usize) -> Option<f64> {
    scene.loads.last.lock().ok()?[of].p99_ms
}

fn log(scene: &Scene, of: usize) -> Option<f64> {
    Some(size(&scene.folders[of].join("log")) as f64 / 1e6)
}

fn unsettled(scene: &Scene, of: usize) -> Option<f64> {
    scene.services[of].figure("annulus_chat_unsettled")
}

fn lag(scene: &Scene, of: usize) -> Option<f64> {
    scene.services[of].figure("annulus_chat_database_lag_ms")
}

fn sessions(scene: &Scene, of: usize) -> Option<f64> {
    scene.services[of].figure("annulus_chat_sessions")
}

fn works(scene: &Scene, of: usize) -> Option<f64> {
    let service = scene.services[of];
    Some(service.figure("annulus_image_queue_depth")? + service.figure("annulus_image_queue_leased").unwrap_or(0.0))
}

fn queue(scene: &Scene, of: usize) -> Option<f64> {
    let files = std::fs::read_dir(&scene.folders[of]).ok()?.flatten();
    let of_queue = files.filter(|entry| entry.file_name().to_string_lossy().contains(".db"));
    Some(of_queue.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum::<u64>() as f64 / 1e6)
}

fn in_flight(scene: &Scene, of: usize) -> Option<f64> {
    scene.services[of].figure("annulus_gateway_requests_in_flight")
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}
