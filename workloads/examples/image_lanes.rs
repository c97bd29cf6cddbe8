//! Measures the lanes of the image service on this machine: agreement, jobs per second of each way and of both together,
//! batch sizes, latency at half load, and what happens when the GPU's worker is killed in the middle.
//!
//! `image_lanes PHOTOS [--nvjpeg FILE] [--seconds N] [--part NAME]...`; the photos are baseline JPEGs, and those whose
//! names contain `prog` progressive ones. This program is the measurement and, by its first word, the lanes' workers.
#![allow(clippy::unwrap_used)] // A measurement that cannot go on stops.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use annulus::image::fault::Fault;
use annulus::image::header::{Header, Limits, Progress, read};
use annulus::image::lanes::cpu::{CpuLane, Options as CpuOptions};
use annulus::image::lanes::gpu::both::BothLanes;
use annulus::image::lanes::gpu::{Ended, GpuLane, Options, worker as gpu_worker};
use annulus::image::lanes::{Done, Lane, Pipeline, Stop, Task, worker};
use annulus::image::recipe::{Mode as Fit, Recipe, Resize, Route};

/// What is measured, by its name on the command line.
type Part = (&'static str, fn(&Setting));

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some(worker::COMMAND) => return worker::main(&Pipeline),
        Some(gpu_worker::COMMAND) => {
            std::thread::spawn(fault_when_told);
            return gpu_worker::main();
        }
        _ => {}
    }
    let after = |name: &str| words.iter().position(|word| word == name).and_then(|at| words.get(at + 1)).cloned();
    let Some(photos) = words.first().filter(|word| !word.starts_with('-')) else {
        eprintln!(
            "image_lanes PHOTOS [--nvjpeg FILE] [--seconds N] [--part agreement|batches|throughput|latency|killed|busy]"
        );
        return ExitCode::from(2);
    };
    let setting = Setting {
        photos: Photo::all(photos),
        nvjpeg: after("--nvjpeg").map(PathBuf::from),
        seconds: after("--seconds").map_or(2.0, |seconds| seconds.parse().unwrap()),
        cores: std::thread::available_parallelism().unwrap().get(),
    };
    println!("{} cores, {} photos, {} s per line", setting.cores, setting.photos.len(), setting.seconds);
    let part = after("--part");
    let parts: [Part; 6] = [
        ("agreement", agreement),
        ("batches", batches),
        ("throughput", throughput),
        ("killed", killed),
        ("latency", latency),
        ("busy", busy),
    ];
    for (name, run) in parts.into_iter().filter(|(name, _)| part.as_ref().is_none_or(|part| part == name)) {
        println!("== {name}");
        run(&setting);
    }
    ExitCode::SUCCESS
}

struct Setting {
    photos: Vec<Photo>,
    nvjpeg: Option<PathBuf>,
    seconds: f64,
    cores: usize,
}

#[derive(Clone)]
struct Photo {
    name: String,
    path: PathBuf,
    len: u64,
    header: Header,
}

impl Photo {
    fn all(folder: &str) -> Vec<Photo> {
        let mut photos = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.ends_with(".jpg") {
                let bytes = std::fs::read(&path).unwrap();
                let Progress::Header(header) = read(&bytes, Some(bytes.len() as u64), &Limits::DEFAULT).unwrap() else {
                    panic!("{name} has no whole header")
                };
                photos.push(Photo { name, path, len: bytes.len() as u64, header });
            }
        }
        photos.sort_by(|a, b| a.name.cmp(&b.name));
        photos
    }

    fn is_progressive(&self) -> bool {
        self.header.coefficient_bytes > 0
    }

    fn task(&self, recipes: &Arc<[Recipe]>) -> Task {
        Task {
            input: File::open(&self.path).unwrap(),
            len: self.len,
            header: self.header.clone(),
            recipes: recipes.clone(),
            memory_bytes: 512 << 20,
            time_max: Duration::from_secs(30),
            stop: Stop::default(),
            only_cpu: None,
            original: None,
        }
    }
}

fn recipe(side: u32, sharpen: f32, quality: u8) -> Recipe {
    let mut recipe = Recipe::named(format!("{side}"));
    recipe.resize = Some(Resize { mode: Fit::Fit, width: side, height: side, enlarge: false, extend: false });
    (recipe.sharpen, recipe.quality) = (sharpen, Some(quality));
    recipe
}

fn three() -> Arc<[Recipe]> {
    [256, 800, 1600].map(|side| recipe(side, 0.5, 80)).into()
}

impl Setting {
    fn baseline(&self) -> Vec<Photo> {
        self.photos.iter().filter(|photo| !photo.is_progressive()).cloned().collect()
    }

    fn cpu(&self) -> Arc<dyn Lane> {
        Arc::new(CpuLane::start(CpuOptions::default()).unwrap())
    }

    fn gpu(&self, desks: usize, batch_max: usize) -> Option<GpuLane> {
        let options = Options { nvjpeg: self.nvjpeg.clone(), desks, batch_max, ..Options::default() };
        GpuLane::start(options).inspect_err(|why| println!("no GPU lane: {why}")).ok()
    }

    fn both(&self, route: Route) -> BothLanes {
        let gpu =
            if route == Route::Cpu { None } else { self.gpu(Options::default().desks, Options::default().batch_max) };
        BothLanes::new(self.cpu(), gpu, route, self.cores)
    }

    /// Jobs per second of so many threads that give one job after the other.
    fn drive(
        &self,
        what: &str,
        threads: usize,
        photos: &[Photo],
        recipes: &Arc<[Recipe]>,
        run: &(dyn Fn(Task) -> bool + Sync),
    ) {
        let (done, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        // The device's decoder sets itself up for each size of batch that comes.
        let warm = Duration::from_secs(3);
        let (began, took) = (Instant::now(), Duration::from_secs_f64(self.seconds));
        let spent = spent();
        let waits = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (done, failed, waits) = (&done, &failed, &waits);
                scope.spawn(move || {
                    let mut own = Vec::new();
                    for round in 0.. {
                        let started = Instant::now();
                        let ok = run(photos[(thread + round) % photos.len()].task(recipes));
                        let at = began.elapsed();
                        if at >= warm + took {
                            break;
                        }
                        if at >= warm {
                            own.push(started.elapsed());
                            if ok { done } else { failed }.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    waits.lock().unwrap().extend(own);
                });
            }
        });
        let cores = (spent_now() - spent).as_secs_f64() / began.elapsed().as_secs_f64();
        let mut waits = waits.into_inner().unwrap();
        waits.sort();
        let at = |share: f64| waits.get(((waits.len() as f64 * share) as usize).min(waits.len().saturating_sub(1)));
        let ms = |share: f64| at(share).map_or(0.0, |wait| wait.as_secs_f64() * 1e3);
        println!(
            "{what:<44} {:7.1} jobs/s   p50 {:6.0} ms   p99 {:6.0} ms   {cores:5.1} cores busy   {} failed",
            done.load(Ordering::Relaxed) as f64 / self.seconds,
            ms(0.5),
            ms(0.99),
            failed.load(Ordering::Relaxed),
        );
    }
}

/// Processor time of this process and of all its children that were waited for or live, by the machine's own count.
fn spent() -> Duration {
    spent_now()
}

fn spent_now() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let line: Vec<u64> =
        stat.lines().next().unwrap().split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect();
    // user, nice, system, irq, softirq, in hundredths of a second
    Duration::from_millis((line[0] + line[1] + line[2] + line[5] + line[6]) * 10)
}

fn throughput(setting: &Setting) {
    let photos = setting.baseline();
    let progressive: Vec<Photo> = setting.photos.iter().filter(|photo| photo.is_progressive()).cloned().collect();
    let thumbnail: Arc<[Recipe]> = [recipe(256, 0.5, 80)].into();
    for (route, name) in [(Route::Cpu, "cpu alone"), (Route::Gpu, "gpu alone"), (Route::Auto, "both")] {
        let lanes = setting.both(route);
        let run = |task: Task| lanes.run(task).is_ok();
        let threads = lanes.concurrency();
        setting.drive(&format!("{name}: 256 + 800 + 1600"), threads, &photos, &three(), &run);
        setting.drive(&format!("{name}: 256 alone"), threads, &photos, &thumbnail, &run);
        if route == Route::Cpu {
            setting.drive("one core: 256 + 800 + 1600", 1, &photos, &three(), &run);
            setting.drive("cpu alone: 256 + 800 + 1600, progressive", threads, &progressive, &three(), &run);
        }
        report(&lanes);
    }
}

fn report(lanes: &BothLanes) {
    let counts = lanes.counts();
    let reasons: Vec<String> = counts
        .all()
        .filter(|(.., count)| *count > 0)
        .map(|(lane, why, count)| format!("{lane} {count} ({why})"))
        .collect();
    println!("    {}", reasons.join(", "));
    if let Some(gpu) = lanes.gpu() {
        let status = gpu.status();
        let per_job = status.spent.map(|spent| spent.as_secs_f64() * 1e3 / status.jobs.max(1) as f64);
        println!(
            "    {} batches of {:.1} jobs; at a desk per job: decode {:.2} ms, kernels {:.2} ms, encode {:.2} ms; faults {}",
            status.batches,
            status.jobs as f64 / status.batches.max(1) as f64,
            per_job[0],
            per_job[1],
            per_job[2],
            status.faults
        );
    }
}

fn batches(setting: &Setting) {
    let photos = setting.baseline();
    for (desks, batch) in [(1, 1), (1, 4), (1, 7), (1, 14), (2, 7), (2, 14), (2, 28), (3, 14), (2, 64)] {
        let Some(gpu) = setting.gpu(desks, batch) else { return };
        let run = |task: Task| matches!(gpu.run(&task), Ended::Done(_));
        setting.drive(&format!("gpu: {desks} desks, batches of {batch}"), desks * batch * 2, &photos, &three(), &run);
    }
}

/// Keeps the GPU busy, for whoever looks at what that does to others.
fn busy(setting: &Setting) {
    let lanes = setting.both(Route::Gpu);
    let run = |task: Task| lanes.run(task).is_ok();
    setting.drive("gpu busy", lanes.concurrency(), &setting.baseline(), &three(), &run);
    report(&lanes);
}

fn latency(setting: &Setting) {
    let lanes = setting.both(Route::Auto);
    let photos = setting.baseline();
    let run = |task: Task| lanes.run(task).is_ok();
    // A quarter of the threads that fill both: about half of the load.
    setting.drive("both, a few at a time", 8, &photos, &three(), &run);
    setting.drive("both, a quarter of the threads", lanes.concurrency() / 4, &photos, &three(), &run);
    report(&lanes);
}

/// What happens to a worker in the middle of its batches.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Killed,
    Faulted,
}

/// The file whose appearance makes a worker's context useless.
fn drill(lane: u32) -> PathBuf {
    std::env::temp_dir().join(format!("annulus-gpu-drill-{lane}"))
}

/// In the worker's process: waits for the drill of its lane, and makes its device's context useless.
fn fault_when_told() {
    let Some(lane) = rustix::process::getppid() else { return };
    let drill = drill(lane.as_raw_nonzero().get().unsigned_abs());
    while std::fs::remove_file(&drill).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let device = annulus_engine::gpu::Device::open(0).unwrap();
    eprintln!("the drill: {}", device.fault());
}

fn killed(setting: &Setting) {
    // Each with a lane of its own: the third fault within a minute would open the breaker.
    [Blow::Killed, Blow::Faulted].into_iter().for_each(|blow| struck(setting, blow));
}

fn struck(setting: &Setting, blow: Blow) {
    let lanes = setting.both(Route::Gpu);
    let Some(gpu) = lanes.gpu() else { return };
    let photos = setting.baseline();
    let (done, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let ending = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..lanes.concurrency() {
            let (lanes, photos, done, failed, ending) = (&lanes, &photos, &done, &failed, &ending);
            scope.spawn(move || {
                for round in 0.. {
                    if ending.load(Ordering::Relaxed) {
                        break;
                    }
                    let result = lanes.run(photos[(thread + round) % photos.len()].task(&three()));
                    if result.is_ok() { done } else { failed }.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..2 {
            std::thread::sleep(Duration::from_secs(2));
            let started = Instant::now();
            match (blow, gpu.status().worker.and_then(|pid| rustix::process::Pid::from_raw(pid as i32))) {
                (Blow::Killed, Some(pid)) => {
                    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
                }
                (Blow::Faulted, Some(_)) => drop(File::create(drill(std::process::id())).unwrap()),
                (_, None) => println!("{blow:?}: it was down already"),
            }
            let waits = |up: bool| {
                while gpu.is_up() != up && started.elapsed() < Duration::from_secs(20) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                started.elapsed()
            };
            let (down, up) = (waits(false), waits(true));
            println!("{blow:?} in the middle of its batches: down after {down:?}, up again after {up:?}");
        }
        std::thread::sleep(Duration::from_secs(1));
        ending.store(true, Ordering::Relaxed);
    });
    println!("{} jobs done, {} failed", done.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    report(&lanes);
}

fn agreement(setting: &Setting) {
    let cpu = setting.cpu();
    let Some(gpu) = setting.gpu(1, 1) else { return };
    for photo in setting.baseline() {
        for (quality, sharpen) in [(100, 0.0), (100, 0.5), (95, 0.5), (80, 0.5)] {
            let recipes: Arc<[Recipe]> = [256, 533, 800, 1600].map(|side| recipe(side, sharpen, quality)).into();
            let theirs = cpu.run(photo.task(&recipes));
            let ours = match gpu.run(&photo.task(&recipes)) {
                Ended::Done(done) => Ok(done),
                other => Err(format!("{other:?}")),
            };
            println!("{:<14} quality {quality:>3} sharpen {sharpen}: {}", photo.name, compared(ours, theirs));
        }
        // Turned, cut and squeezed.
        let mut turned = photo.clone();
        turned.header.orientation = annulus::image::header::Orientation::Rotate90;
        for fit in [Fit::Fill, Fit::Force] {
            let mut recipe = recipe(601, 0.5, 95);
            recipe.resize = Some(Resize { mode: fit, width: 601, height: 401, enlarge: false, extend: false });
            let recipes: Arc<[Recipe]> = [recipe].into();
            let theirs = cpu.run(turned.task(&recipes));
            let ours = match gpu.run(&turned.task(&recipes)) {
                Ended::Done(done) => Ok(done),
                other => Err(format!("{other:?}")),
            };
            println!("{:<14} quality  95 turned, {fit:?} 601 x 401: {}", photo.name, compared(ours, theirs));
        }
    }
}

fn compared(ours: Result<Done, String>, theirs: Result<Done, Fault>) -> String {
    let (ours, theirs) = match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => (ours, theirs),
        (ours, theirs) => return format!("gpu {:?}, cpu {:?}", ours.map(|_| "done"), theirs.map(|_| "done")),
    };
    let mut words = Vec::new();
    for (ours, theirs) in ours.outputs.iter().zip(&theirs.outputs) {
        let decoded = |made: &annulus::image::lanes::Made| {
            let mut bytes = vec![0; made.len as usize];
            std::os::unix::fs::FileExt::read_exact_at(&made.file, &mut bytes, 0).unwrap();
            turbojpeg::decompress(&bytes, turbojpeg::PixelFormat::RGB).unwrap()
        };
        let (a, b) = (decoded(ours), decoded(theirs));
        assert_eq!((a.width, a.height), (b.width, b.height), "{}", ours.name);
        let squares: f64 = a.pixels.iter().zip(&b.pixels).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
        let mean = squares / a.pixels.len() as f64;
        let db = if mean == 0.0 { f64::INFINITY } else { 10.0 * (255.0 * 255.0 / mean).log10() };
        words.push(format!("{} {db:.1} dB ({} against {} bytes)", ours.name, ours.len, theirs.len));
    }
    words.join(", ")
}
