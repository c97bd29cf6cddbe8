//! What the sandbox costs: the start of a worker, the way to it and back, and what the filter takes from the codecs.
//!
//! `cargo run --release --example image_lane -- [ROUNDS [PHOTO...]]`. Without photos only the first two are measured.
#![allow(clippy::unwrap_used)] // A measurement that fails ends.

use std::fs::{self, File};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use annulus::image::fault::Fault;
use annulus::image::format::Format;
use annulus::image::header::{Limits, Progress, read};
use annulus::image::lanes::cpu::{CpuLane, Isolation, Options};
use annulus::image::lanes::{Lane, Pipeline, Processor, Stop, Task, worker};
use annulus::image::pipeline::pixels::Pool;
use annulus::image::pipeline::placeholder::Placeholders;
use annulus::image::pipeline::{Made, Output, Timings, Wanted, Watch};
use annulus::image::recipe::{Mode, Recipe, Resize};

/// The pipeline, but for a recipe of this name, which costs nothing.
const NOTHING: &str = "nothing";

struct Measured;

impl Processor for Measured {
    fn process(
        &self,
        input: &[u8],
        wanted: Wanted<'_>,
        pool: &mut Pool,
        watch: &dyn Watch,
        made: Made<'_>,
    ) -> Result<Timings, Fault> {
        let recipes = wanted.recipes;
        if recipes[0].name != NOTHING {
            return Pipeline.process(input, wanted, pool, watch, made);
        }
        watch.check()?;
        for (index, _) in recipes.iter().enumerate() {
            let (bytes, placeholders) = (input.to_vec(), Placeholders::default());
            made(Output { index, format: Format::Png, width: 1, height: 1, bytes, placeholders })?;
        }
        Ok(Timings::default())
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let first = words.next();
    if first.as_deref() == Some(worker::COMMAND) {
        return worker::main(&Measured);
    }
    let rounds = first.map_or(1000, |rounds| rounds.parse().unwrap());
    starts();
    let dot = dot();
    for (name, isolation, yields) in [
        ("thread", Isolation::Thread, false),
        ("process", Isolation::Process, false),
        ("idle", Isolation::Process, true),
    ] {
        for outputs in [1, 3] {
            let recipes: Arc<[Recipe]> = (0..outputs).map(|_| Recipe::named(NOTHING)).collect();
            way(name, &lane(isolation, yields), &dot, &recipes, rounds);
        }
    }
    for photo in words {
        let file = File::open(&photo).unwrap();
        println!("{photo}");
        for (name, isolation) in [("thread", Isolation::Thread), ("process", Isolation::Process)] {
            photos(name, isolation, &file, (rounds / 100).max(3));
        }
    }
    ExitCode::SUCCESS
}

fn lane(isolation: Isolation, yields: bool) -> CpuLane {
    CpuLane::start(Options { isolation, yields, processor: Arc::new(Measured), ..Options::default() }).unwrap()
}

/// How long it takes until a worker is ready.
fn starts() {
    let mut took = Vec::new();
    for _ in 0..20 {
        let started = Instant::now();
        let lane = lane(Isolation::Process, false);
        took.push(started.elapsed());
        drop(lane);
    }
    took.sort_unstable();
    println!(
        "start of a worker: median {:?}, worst of {} {:?}",
        took[took.len() / 2],
        took.len(),
        took[took.len() - 1]
    );
}

/// How long a task takes that does nothing.
fn way(name: &str, lane: &CpuLane, input: &File, recipes: &Arc<[Recipe]>, rounds: usize) {
    let mut took = Vec::new();
    for _ in 0..rounds {
        let task = task(input, recipes);
        let started = Instant::now();
        lane.run(task).unwrap();
        took.push(started.elapsed());
    }
    took.sort_unstable();
    let at = |share: f64| took[((rounds - 1) as f64 * share) as usize];
    println!("{name}, {} outputs: median {:?}, p90 {:?}, p99 {:?}", recipes.len(), at(0.5), at(0.9), at(0.99));
}

/// What a photo to three sizes takes.
fn photos(name: &str, isolation: Isolation, photo: &File, rounds: usize) {
    let recipes: Arc<[Recipe]> = [256, 800, 1600]
        .map(|side| {
            let resize = Resize { mode: Mode::Fit, width: side, height: side, enlarge: false, extend: false };
            Recipe { resize: Some(resize), sharpen: 0.5, ..Recipe::named(format!("{side}")) }
        })
        .into();
    let before = processor_time();
    let lane = lane(isolation, false);
    let (mut peak, started) = (0, Instant::now());
    for _ in 0..rounds {
        let done = lane.run(task(photo, &recipes)).unwrap();
        peak = peak.max(done.peak_bytes);
    }
    let wall = started.elapsed() / rounds as u32;
    drop(lane);
    let cpu = (processor_time() - before) / rounds as u32;
    println!("  {name}: {cpu:?} of processor time, {wall:?} by the clock, {} MB at the peak", peak / 1_000_000);
}

/// Of this process and of its children that ended, in the kernel's ticks of 10 ms (proc_pid_stat(5)).
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let after_name: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = after_name[11..15].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

fn task(input: &File, recipes: &Arc<[Recipe]>) -> Task {
    use std::os::unix::fs::FileExt;
    let len = input.metadata().unwrap().len();
    let mut head = vec![0; len.min(64 << 10) as usize];
    input.read_exact_at(&mut head, 0).unwrap();
    let Progress::Header(header) = read(&head, Some(len), &Limits::DEFAULT).unwrap() else { panic!("a long header") };
    Task {
        input: input.try_clone().unwrap(),
        len,
        header,
        recipes: recipes.clone(),
        memory_bytes: 512 << 20,
        time_max: Duration::from_secs(30),
        stop: Stop::default(),
        only_cpu: None,
        original: None,
    }
}

/// A PNG of one pixel, as a file for reading.
fn dot() -> File {
    let path = std::env::temp_dir().join(format!("annulus-dot-{}.png", std::process::id()));
    let file = File::create(&path).unwrap();
    png::Encoder::new(file, 1, 1).write_header().unwrap().write_image_data(&[7]).unwrap();
    let file = File::open(&path).unwrap();
    fs::remove_file(path).unwrap();
    file
}
