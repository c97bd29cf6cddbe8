//! How many workers, how many bytes, how long a queue: every limit with its terms, and which one binds.
//!
//! ```text
//!   workers = min(floor(cores / cores_per_worker), floor((memory_total - reserved) / 2 GB), gpu_limit)
//! ```
//!
//! That is the ceiling. Below it, works are admitted by the bytes that each is predicted to need, which for most images is
//! far less than 2 GB; 2 GB stand for what cannot be predicted. [`Machine::of_this_process`] is the only place here that
//! looks at the machine; the rest is arithmetic and text.

use std::fmt::{self, Write};
use std::path::Path;
use std::time::Duration;

use annulus_engine::plan::{Grants, Plan};

use super::admission::{Budget, Marks};
use super::fault::Fault;
use super::header::Header;
use super::lanes::gpu::GpuLane;
use super::lanes::{Lane, Stop, Task};
use super::pipeline::predict;
use super::recipe::Recipe;

/// Bytes per worker where nothing better is known.
pub const WORKER_BYTES: u64 = 2_000_000_000;

/// What the process may use, and who says so.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// Cores by affinity and quota.
    pub grants: Grants,
    /// Bytes, and the limit that allows no more of them.
    pub memory: (u64, MemoryLimit),
    /// The GPU, or why there is none.
    pub gpu: Result<Gpu, String>,
    /// Bytes that its lane keeps, also while it is down.
    pub staging_bytes: u64,
}

/// What a GPU adds to the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its name, and what decodes there.
    pub name: String,
    /// Its memory in bytes.
    pub bytes: u64,
    /// What of it a batch takes: pictures, and the codecs' own buffers.
    pub batch_bytes: u64,
}

impl Gpu {
    /// The lane's, if its worker could be started at least once.
    ///
    /// # Errors
    /// Why not.
    pub fn of(lane: &GpuLane) -> Result<Gpu, String> {
        let status = lane.status();
        let facts = status.facts.ok_or_else(|| {
            format!("it is down for now: {}", status.trouble.as_deref().unwrap_or("its worker has not started"))
        })?;
        Ok(Gpu {
            name: format!("{}, {} decoder engines, nvJPEG {}", facts.name, facts.engines, facts.nvjpeg),
            bytes: facts.memory_bytes,
            batch_bytes: facts.batch_bytes(),
        })
    }
}

/// Who limits the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimit {
    /// All that the machine has (`/proc/meminfo`).
    Machine,
    /// A control group of version 2 (`memory.max`).
    Group2,
    /// A control group of version 1 (`memory.limit_in_bytes`).
    Group1,
    /// `RLIMIT_AS`.
    AddressSpace,
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MemoryLimit::Machine => "the machine's memory, /proc/meminfo",
            MemoryLimit::Group2 => "control group, memory.max",
            MemoryLimit::Group1 => "control group, memory.limit_in_bytes",
            MemoryLimit::AddressSpace => "RLIMIT_AS",
        })
    }
}

/// Bytes of memory that this process may have, and who says so.
pub fn memory_granted() -> (u64, MemoryLimit) {
    let address_space = rustix::process::getrlimit(rustix::process::Resource::As).current;
    memory(&|path| std::fs::read_to_string(path).ok(), address_space)
}

impl Machine {
    /// Looks at the affinity mask, the control groups, the resource limits and the machine; the GPU is its lane's to tell.
    pub fn of_this_process(gpu: Result<Gpu, String>, staging_bytes: u64) -> Machine {
        Machine { grants: Grants::of_this_process(), memory: memory_granted(), gpu, staging_bytes }
    }
}

/// The smallest of the limits.
fn memory(read: &dyn Fn(&str) -> Option<String>, address_space: Option<u64>) -> (u64, MemoryLimit) {
    let meminfo = read("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let total_kib: Option<u64> = total.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok());
    // A machine that does not even tell this is taken for a small one.
    let machine = (total_kib.unwrap_or(1 << 20) * 1024, MemoryLimit::Machine);
    let groups = group_limits(read).into_iter();
    let space = address_space.map(|bytes| (bytes, MemoryLimit::AddressSpace));
    groups.chain(space).chain([machine]).min_by_key(|(bytes, _)| *bytes).unwrap_or(machine)
}

/// The limits of the groups that this process is in, and of all groups above them.
fn group_limits(read: &dyn Fn(&str) -> Option<String>) -> Vec<(u64, MemoryLimit)> {
    let mut limits = Vec::new();
    for line in read("/proc/self/cgroup").unwrap_or_default().lines() {
        let Some((controllers, path)) = line.split_once(':').and_then(|(_, rest)| rest.split_once(':')) else {
            continue;
        };
        let (mount, file, limit) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max", MemoryLimit::Group2),
            _ if controllers.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", MemoryLimit::Group1)
            }
            _ => continue,
        };
        let path = path.trim_end_matches('/');
        let ancestors = std::iter::successors(Some(path), |path| path.rfind('/').map(|slash| &path[..slash]));
        for path in ancestors {
            let text = read(&format!("{mount}{path}/{file}")).unwrap_or_default();
            // `max`, or in version 1 a number near the largest there is: no limit.
            if let Some(bytes) = text.trim().parse::<u64>().ok().filter(|bytes| *bytes < 1 << 60) {
                limits.push((bytes, limit));
            }
        }
    }
    limits
}

/// What the configuration says about sizes; `None` means that the plan chooses.
#[derive(Clone, Debug, PartialEq)]
pub struct Knobs {
    /// Cores that a worker keeps busy.
    pub cores_per_worker: f64,
    /// Bytes that are not for decoding: the server itself, uploads under way, the page cache's share.
    pub reserved_bytes: Option<u64>,
    /// Workers, instead of the rule's number.
    pub workers: Option<usize>,
    /// Bytes that all decoders together may use.
    pub budget_bytes: Option<u64>,
    /// A work that needs more than this runs one at a time.
    pub giant_bytes: Option<u64>,
    /// When the queue is long.
    pub marks: Marks,
}

impl Knobs {
    /// The defaults.
    pub const DEFAULT: Knobs = Knobs {
        cores_per_worker: 1.0,
        reserved_bytes: None,
        workers: None,
        budget_bytes: None,
        giant_bytes: None,
        marks: Marks::DEFAULT,
    };
}

/// What follows from both.
#[derive(Clone, Debug, PartialEq)]
pub struct ImagePlan {
    machine: Machine,
    knobs: Knobs,
    reserved_bytes: u64,
    by_cores: u64,
    by_memory: u64,
    by_gpu: Option<u64>,
    /// Workers of the CPU lane.
    pub workers: usize,
    /// Bytes that all decoders together may use.
    pub budget_bytes: u64,
    /// A work that needs more than this runs one at a time.
    pub giant_bytes: u64,
}

impl ImagePlan {
    /// The arithmetic.
    pub fn new(machine: &Machine, knobs: &Knobs) -> ImagePlan {
        let total = machine.memory.0;
        // An eighth, at least 512 MB, never more than half.
        let usual = (total / 8).max(512_000_000).min(total / 2);
        let reserved_bytes = (knobs.reserved_bytes.unwrap_or(usual) + machine.staging_bytes).min(total);
        let left = total.saturating_sub(reserved_bytes);
        let cores = machine.grants.quota.unwrap_or(f64::MAX).min(machine.grants.cores.len() as f64);
        let by_cores = (cores / knobs.cores_per_worker.max(0.01)) as u64;
        let by_memory = left / WORKER_BYTES;
        let by_gpu = machine.gpu.as_ref().ok().map(|gpu| gpu.bytes / gpu.batch_bytes.max(1));
        let rule = by_cores.min(by_memory).min(by_gpu.unwrap_or(u64::MAX)).max(1) as usize;
        let budget_bytes = knobs.budget_bytes.unwrap_or(left);
        let giant_bytes = knobs.giant_bytes.unwrap_or((budget_bytes / 4).max(WORKER_BYTES / 4)).min(budget_bytes);
        ImagePlan {
            machine: machine.clone(),
            knobs: knobs.clone(),
            reserved_bytes,
            by_cores,
            by_memory,
            by_gpu,
            workers: knobs.workers.unwrap_or(rule).max(1),
            budget_bytes,
            giant_bytes,
        }
    }

    /// The bytes that it grants.
    pub fn budget(&self) -> std::sync::Arc<Budget> {
        Budget::new(self.budget_bytes, self.giant_bytes)
    }

    /// A core for each worker, by the engine's plan, and whether they share it with shards. Workers beyond the plan's
    /// compute cores take them in turn.
    pub fn cores(&self, engine: &Plan) -> (Vec<Option<usize>>, bool) {
        let idle = engine.compute_is_idle || engine.compute.is_empty() || self.workers > engine.compute.len();
        let cores = engine.compute.iter().copied().map(Some).filter(|_| engine.pinned);
        // More workers than cores of their own: the system places them, behind everything else.
        let pinned: Vec<Option<usize>> = if self.workers > engine.compute.len() { Vec::new() } else { cores.collect() };
        ((0..self.workers).map(|worker| pinned.get(worker).copied().flatten()).collect(), idle)
    }

    fn binds(&self) -> &'static str {
        if self.knobs.workers.is_some() {
            return "the configuration decides";
        }
        match self.by_gpu {
            Some(gpu) if gpu <= self.by_cores && gpu <= self.by_memory => "the GPU's memory binds",
            _ if self.by_cores.min(self.by_memory) == 0 => "less than one of a term: one worker runs all the same",
            _ if self.by_cores <= self.by_memory => "cores bind",
            _ => "memory binds",
        }
    }
}

fn gb(bytes: u64) -> String {
    format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10)
}

fn mb(bytes: u64) -> String {
    if bytes >= 10_000_000_000 { gb(bytes) } else { format!("{} MB", bytes / 1_000_000) }
}

impl fmt::Display for ImagePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (grants, (total, limit), knobs) = (&self.machine.grants, self.machine.memory, &self.knobs);
        let cores = grants.quota.unwrap_or(f64::MAX).min(grants.cores.len() as f64);
        let source = match grants.quota {
            Some(quota) if quota < grants.cores.len() as f64 => "CPU quota of the control groups",
            _ => "affinity mask",
        };
        let (gpu_term, gpu_number) = match (&self.machine.gpu, self.by_gpu) {
            (Ok(gpu), Some(by_gpu)) => {
                (format!(", floor({} / {})", gb(gpu.bytes), gb(gpu.batch_bytes)), format!(", {by_gpu}"))
            }
            _ => (String::new(), String::new()),
        };
        writeln!(
            f,
            "workers   = min(floor(cores / cores_per_worker), floor((memory_total - reserved) / 2 GB), gpu_limit)"
        )?;
        writeln!(
            f,
            "          = min(floor({cores} / {}), floor(({} - {}) / 2 GB){gpu_term})",
            knobs.cores_per_worker,
            gb(total),
            gb(self.reserved_bytes)
        )?;
        writeln!(
            f,
            "          = min({}, {}{gpu_number}) -> {}: {}",
            self.by_cores,
            self.by_memory,
            self.workers,
            self.binds()
        )?;
        writeln!(f, "cores     {cores} ({source})")?;
        writeln!(f, "memory    {} ({limit})", gb(total))?;
        match &self.machine.gpu {
            Ok(gpu) => writeln!(
                f,
                "gpu       {}: {} of it per batch; {} of the machine's memory for originals on their way there",
                gpu.name,
                gb(gpu.batch_bytes),
                mb(self.machine.staging_bytes)
            )?,
            Err(why) => writeln!(f, "gpu       none, and its term falls away: {why}")?,
        }
        writeln!(
            f,
            "budget    {} for all decoders at once, each by its predicted peak; above {} one at a time; above all of it: 413",
            mb(self.budget_bytes),
            mb(self.giant_bytes)
        )?;
        let marks = &knobs.marks;
        write!(
            f,
            "queue     above {} s of forecast wait: 202 with delayed; above {} s or {} works: 429 with Retry-After; disk \
             below {}: 503",
            marks.soft.as_secs(),
            marks.hard.as_secs(),
            marks.waiting_max,
            mb(marks.disk_reserve_bytes)
        )
    }
}

/// One image of the user's, measured.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    pixels: u64,
    bytes: u64,
    cpu: Duration,
    predicted_us: u64,
    peak_bytes: u64,
    predicted_bytes: u64,
}

/// Images measured at most: enough for a mean.
const SAMPLES_MAX: usize = 200;

/// Runs the user's own images through a lane, one after the other, and recommends the knobs. `read` tells the header of
/// an image from its bytes.
///
/// # Errors
/// A sentence, when the directory cannot be read or none of its files is an image.
pub fn measure(
    plan: &ImagePlan,
    directory: &Path,
    recipes: &[Recipe],
    lane: &dyn Lane,
    read: &dyn Fn(&[u8]) -> Result<Header, Fault>,
) -> Result<String, String> {
    let listed = std::fs::read_dir(directory).map_err(|error| format!("reading {}: {error}", directory.display()))?;
    let mut paths: Vec<_> =
        listed.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    let mut text = String::new();
    let mut samples = Vec::new();
    for path in paths.iter().take(SAMPLES_MAX) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match sample(path, name.clone(), recipes, lane, read) {
            Ok(sample) => samples.push(sample),
            // Whoever keeps other files beside the images wants to know that they were seen, and no more.
            Err(why) => text.push_str(&format!("{name}: left out: {why}\n")),
        }
    }
    if samples.is_empty() {
        return Err(format!("{text}{}: no image in it could be measured.", directory.display()));
    }
    write_samples(&mut text, &samples)
        .and_then(|()| recommend(&mut text, plan, &samples))
        .map_err(|e| e.to_string())?;
    Ok(text)
}

fn sample(
    path: &Path,
    name: String,
    recipes: &[Recipe],
    lane: &dyn Lane,
    read: &dyn Fn(&[u8]) -> Result<Header, Fault>,
) -> Result<Sample, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let header = read(&bytes).map_err(|fault| fault.detail)?;
    let cost = predict(&header, recipes);
    let task = || -> std::io::Result<Task> {
        Ok(Task {
            input: std::fs::File::open(path)?,
            len: bytes.len() as u64,
            header: header.clone(),
            recipes: recipes.into(),
            memory_bytes: cost.peak_bytes.saturating_mul(4).saturating_add(1 << 30),
            time_max: Duration::from_secs(300),
            stop: Stop::default(),
            only_cpu: None,
            original: None,
        })
    };
    let run = || lane.run(task().map_err(|error| error.to_string())?).map_err(|fault| fault.detail);
    // The first run warms buffers and caches up, as they are in a server.
    run()?;
    let done = run()?;
    let cpu = done.timings.decode + done.timings.transform + done.timings.encode;
    Ok(Sample {
        name,
        pixels: header.pixels(),
        bytes: bytes.len() as u64,
        cpu,
        predicted_us: cost.cpu_us,
        peak_bytes: done.peak_bytes,
        predicted_bytes: cost.peak_bytes,
    })
}

fn write_samples(text: &mut String, samples: &[Sample]) -> fmt::Result {
    let wide = samples.iter().map(|sample| sample.name.len()).max().unwrap_or(0).min(40);
    writeln!(
        text,
        "{:wide$}  {:>7} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "MP", "size", "CPU", "predicted", "peak", "predicted"
    )?;
    for sample in samples {
        writeln!(
            text,
            "{:wide$}  {:>7.1} {:>9} {:>6} ms {:>6} ms {:>9} {:>9}",
            sample.name,
            sample.pixels as f64 / 1e6,
            mb(sample.bytes),
            sample.cpu.as_millis(),
            sample.predicted_us / 1000,
            mb(sample.peak_bytes),
            mb(sample.predicted_bytes)
        )?;
    }
    Ok(())
}

fn recommend(text: &mut String, plan: &ImagePlan, samples: &[Sample]) -> fmt::Result {
    let count = samples.len() as u32;
    let mean = samples.iter().map(|sample| sample.cpu).sum::<Duration>() / count;
    let largest = samples.iter().map(|sample| sample.peak_bytes).max().unwrap_or(0);
    let over = samples.iter().map(|sample| sample.peak_bytes as f64 / sample.predicted_bytes.max(1) as f64);
    let over = over.fold(0.0, f64::max);
    let rate = plan.workers as f64 / mean.as_secs_f64().max(1e-6);
    let fits = (plan.budget_bytes / largest.max(1)).max(1);
    let noun = if count == 1 { "image" } else { "images" };
    writeln!(
        text,
        "\n{count} {noun}, {} ms of CPU each on the average, at most {} at the peak.",
        mean.as_millis(),
        mb(largest)
    )?;
    writeln!(
        text,
        "{} workers make about {rate:.1} of them a second; the budget holds {fits} of the largest.",
        plan.workers
    )?;
    if over > 1.1 {
        writeln!(
            text,
            "One needed {over:.1} times the predicted memory: leave memory_percent at {} or more.",
            (over * 120.0) as u64
        )?;
    }
    let memory_workers = fits.min(plan.by_cores.max(1));
    writeln!(text, "\nrecommended")?;
    writeln!(text, "  workers       = {memory_workers}")?;
    writeln!(
        text,
        "  budget_bytes  = {}",
        (largest.saturating_mul(memory_workers) / 2 * 3).min(plan.budget_bytes).max(largest)
    )?;
    let (soft, hard) = (plan.knobs.marks.soft.as_secs_f64(), plan.knobs.marks.hard.as_secs_f64());
    write!(
        text,
        "  so that {:.0} of these images wait at the soft mark and {:.0} at the hard one",
        rate * soft,
        rate * hard
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::dispatch::stand_in::StandIn;
    use crate::image::fault::Kind;
    use crate::image::queue::trial::{Home, header};

    fn machine(cores: usize, quota: Option<f64>, memory_gb: u64, gpu_gb: Option<u64>) -> Machine {
        Machine {
            grants: Grants { cores: (0..cores).collect(), quota },
            memory: (memory_gb * 1_000_000_000, MemoryLimit::Machine),
            gpu: gpu_gb.ok_or_else(|| "no GPU: none was built in".to_owned()).map(|gb| Gpu {
                name: "a card".to_owned(),
                bytes: gb * 1_000_000_000,
                batch_bytes: 2_000_000_000,
            }),
            staging_bytes: 0,
        }
    }

    #[test]
    fn the_rule_as_the_table_says() {
        let knobs =
            |cores_per_worker| Knobs { reserved_bytes: Some(1_000_000_000), cores_per_worker, ..Knobs::DEFAULT };
        // cores, quota, memory, GPU memory, cores per worker; workers, what binds
        let table = [
            (2, None, 24, None, 1.0, 2, "cores bind"),
            (16, None, 9, None, 1.0, 4, "memory binds"),
            (16, None, 9, None, 4.0, 4, "cores bind"),
            (16, Some(2.5), 64, None, 1.0, 2, "cores bind"),
            (16, Some(2.5), 64, None, 0.5, 5, "cores bind"),
            (16, None, 64, Some(8), 1.0, 4, "the GPU's memory binds"),
            (1, None, 2, None, 1.0, 1, "less than one of a term: one worker runs all the same"),
            (8, Some(0.5), 64, None, 1.0, 1, "less than one of a term: one worker runs all the same"),
        ];
        for (cores, quota, memory, gpu, per_worker, workers, binds) in table {
            let plan = ImagePlan::new(&machine(cores, quota, memory, gpu), &knobs(per_worker));
            assert_eq!((plan.workers, plan.binds()), (workers, binds), "{plan}");
        }
        let asked = Knobs { workers: Some(3), ..Knobs::DEFAULT };
        let plan = ImagePlan::new(&machine(2, None, 24, None), &asked);
        assert_eq!((plan.workers, plan.binds()), (3, "the configuration decides"));
    }

    #[test]
    fn every_limit_is_printed_with_its_terms() {
        let plan = ImagePlan::new(&machine(2, None, 24, None), &Knobs::DEFAULT);
        let text = plan.to_string();
        let expected = "\
workers   = min(floor(cores / cores_per_worker), floor((memory_total - reserved) / 2 GB), gpu_limit)
          = min(floor(2 / 1), floor((24.0 GB - 3.0 GB) / 2 GB))
          = min(2, 10) -> 2: cores bind
cores     2 (affinity mask)
memory    24.0 GB (the machine's memory, /proc/meminfo)
gpu       none, and its term falls away: no GPU: none was built in
budget    21.0 GB for all decoders at once, each by its predicted peak; above 5250 MB one at a time; above all of it: 413
queue     above 10 s of forecast wait: 202 with delayed; above 120 s or 100000 works: 429 with Retry-After; disk below 1073 MB: 503";
        assert_eq!(text, expected);
        let gpu = ImagePlan::new(&machine(16, Some(12.5), 64, Some(80)), &Knobs::DEFAULT).to_string();
        assert!(
            gpu.contains("= min(floor(12.5 / 1), floor((64.0 GB - 8.0 GB) / 2 GB), floor(80.0 GB / 2.0 GB))"),
            "{gpu}"
        );
        assert!(gpu.contains("= min(12, 28, 40) -> 12: cores bind") && gpu.contains("CPU quota"), "{gpu}");
    }

    #[test]
    fn memory_is_the_smallest_of_its_limits() {
        type Files<'a> = &'a [(&'a str, &'a str)];
        let meminfo = ("/proc/meminfo", "MemTotal:       8000000 kB\nMemFree: 1 kB\n");
        let table: [(Files<'_>, Option<u64>, (u64, MemoryLimit)); 6] = [
            (&[meminfo], None, (8_192_000_000, MemoryLimit::Machine)),
            (&[meminfo], Some(1_000_000_000), (1_000_000_000, MemoryLimit::AddressSpace)),
            (
                &[meminfo, ("/proc/self/cgroup", "0::/a/b\n"), ("/sys/fs/cgroup/a/memory.max", "2000000000\n")],
                None,
                (2_000_000_000, MemoryLimit::Group2),
            ),
            (
                &[meminfo, ("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/memory.max", "max\n")],
                None,
                (8_192_000_000, MemoryLimit::Machine),
            ),
            (
                &[
                    meminfo,
                    ("/proc/self/cgroup", "5:memory,hugetlb:/docker/x\n"),
                    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "3000000000\n"),
                    ("/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "9223372036854771712\n"),
                ],
                None,
                (3_000_000_000, MemoryLimit::Group1),
            ),
            (&[], None, (1 << 30, MemoryLimit::Machine)),
        ];
        for (files, space, expected) in table {
            let read = |path: &str| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned());
            assert_eq!(memory(&read, space), expected, "{files:?}");
        }
        assert!(Machine::of_this_process(Err("not looked for".to_owned()), 0).memory.0 > 0);
    }

    #[test]
    fn workers_get_the_engines_compute_cores() {
        let grants = Grants { cores: (0..8).collect(), quota: None };
        let engine = Plan::new(&grants, &annulus_engine::plan::Request { compute: Some(4), ..Default::default() });
        let plan = |workers| {
            ImagePlan::new(&machine(8, None, 64, None), &Knobs { workers: Some(workers), ..Knobs::DEFAULT })
                .cores(&engine)
        };
        assert_eq!(plan(2), (vec![Some(4), Some(5)], false));
        assert_eq!(plan(5), (vec![None; 5], true));
    }

    #[test]
    fn the_users_own_images_are_measured() {
        let home = Home::new("measure");
        std::fs::write(home.path().join("a.jpg"), b"a photo").unwrap();
        std::fs::write(home.path().join("notes.txt"), b"no photo").unwrap();
        let plan = ImagePlan::new(&machine(2, None, 24, None), &Knobs::DEFAULT);
        let lane = StandIn::new(Duration::from_millis(2));
        let read = |bytes: &[u8]| match bytes.starts_with(b"a photo") {
            true => Ok(header()),
            false => Err(Fault::new(Kind::BadImage, "no image by its first bytes")),
        };
        let text = measure(&plan, home.path(), &[Recipe::named("small")], &*lane, &read).unwrap();
        assert!(text.contains("notes.txt: left out: no image by its first bytes"), "{text}");
        assert!(text.contains("1 image,") && text.contains("workers       = 2"), "{text}");
        let none = measure(&plan, &home.path().join("none"), &[], &*lane, &read);
        assert!(none.unwrap_err().contains("reading"));
    }
}
