//! The GPU lane without a GPU: its supervisor with workers that die, hang, break and lie, and the way of every job to the
//! CPU. The real worker is asked, too: on a machine without a GPU it must say so, in one line, and start nothing.
//!
//! This program is the test and, started with `image-gpu-worker`, the worker: it speaks the lane's language and makes what
//! the first recipe's name says.
#![allow(clippy::unwrap_used)] // A test that panics fails.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use annulus::image::fault::{Fault, Kind};
use annulus::image::format::Format;
use annulus::image::header::{Header, Orientation};
use annulus::image::lanes::gpu::both::BothLanes;
use annulus::image::lanes::gpu::router::Way;
use annulus::image::lanes::gpu::wire::{
    Answer, Facts, Job, Order, Outcome, PACKET_BYTES_MAX, input_at, outputs_at, put_words, take_words,
};
use annulus::image::lanes::gpu::{Ended, GpuLane, Lost, Options, worker};
use annulus::image::lanes::wire::{Claim, recv_order, send};
use annulus::image::lanes::{Done, Lane, Stop, Task, Told};
use annulus::image::pipeline::Timings;
use annulus::image::pipeline::placeholder::Placeholders;
use annulus::image::recipe::{Recipe, Route};
use annulus::image::store::{Key, Suffix};

/// The frame of a baseline JPEG, whole, with hardly anything in it.
const ORIGINAL: &[u8] =
    b"\xff\xd8\xff\xc0\0\x0b\x08\0\x10\0\x10\x01\x01\x11\0\xff\xda\0\x08\x01\x01\0\0\x3f\0 an original\xff\xd9";
/// Told by the device's number which kind of worker it is to be.
const GOOD: usize = 0;
const ABSENT: usize = 1;
const FAILING: usize = 2;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().map(String::as_str) == Some(worker::COMMAND) {
        be_a_worker(io::stdin().as_fd());
        return ExitCode::SUCCESS;
    }
    let asked: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let tests = TESTS.iter().filter(|(name, _)| asked.is_empty() || asked.iter().any(|asked| name.contains(*asked)));
    let mut failed = 0;
    for (name, test) in tests {
        let started = Instant::now();
        let passed = std::panic::catch_unwind(test).is_ok();
        failed += usize::from(!passed);
        println!("test {name} ... {} ({:?})", if passed { "ok" } else { "FAILED" }, started.elapsed());
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

const TESTS: &[(&str, fn())] = &[
    ("what_is_asked_for_is_made_in_batches", what_is_asked_for_is_made_in_batches),
    ("what_it_does_not_take_is_told", what_it_does_not_take_is_told),
    ("ends_are_survived", ends_are_survived),
    ("a_hung_worker_is_killed", a_hung_worker_is_killed),
    ("lies_are_found_out", lies_are_found_out),
    ("three_faults_open_the_breaker", three_faults_open_the_breaker),
    ("a_killed_worker_costs_no_job", a_killed_worker_costs_no_job),
    ("without_a_device_there_is_no_lane", without_a_device_there_is_no_lane),
    ("what_asks_for_a_lane_gets_it", what_asks_for_a_lane_gets_it),
    ("what_waits_for_the_cpu_waits_in_the_queue", what_waits_for_the_cpu_waits_in_the_queue),
    (
        "an_original_that_ends_workers_is_not_given_to_them_again",
        an_original_that_ends_workers_is_not_given_to_them_again,
    ),
    ("the_lane_ends_with_jobs_under_way", the_lane_ends_with_jobs_under_way),
    ("the_real_worker_says_what_is_missing", the_real_worker_says_what_is_missing),
];

// The worker.

fn be_a_worker(socket: BorrowedFd<'_>) {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    let (len, files) = recv_order(socket, true, &mut buffer).unwrap().unwrap();
    let Order::Setup(setup) = serde_json::from_slice(&buffer[..len]).unwrap() else { panic!("no setup") };
    let memory = File::from(files.into_iter().next().unwrap());
    let say = |answer: Answer| send(socket, &answer, &[]).unwrap();
    let (name, nvjpeg) = ("a pretender".to_owned(), "0.0.0".to_owned());
    match setup.device {
        ABSENT => return say(Answer::Refused { sentence: "no GPU: none was built".to_owned(), absent: true }),
        FAILING if std::env::var_os("HOME").is_some() => return say(Answer::Broken { sentence: "early".to_owned() }),
        _ => {}
    }
    let facts = Facts { name, memory_bytes: 1, engines: 0, nvjpeg, driver: 0, desks: setup.desks, arena_bytes: 0 };
    say(Answer::Ready(facts));
    while let Ok(Some((len, _))) = recv_order(socket, true, &mut buffer) {
        let Order::Batch { number, berths } = serde_json::from_slice(&buffer[..len]).unwrap() else { return };
        for &berth in &berths {
            let job: Job<'static> = take_words(&memory, berth).unwrap();
            let outcome = outcome(&memory, berth, &job, berths.len());
            put_words(&memory, berth, &outcome).unwrap();
            if job.recipes[0].name == "break" {
                say(Answer::Broken { sentence: "an illegal address\nwas met".to_owned() });
            }
        }
        say(Answer::Done { number, spent_us: [3000, 2000, 1000] });
    }
}

fn outcome(memory: &File, berth: usize, job: &Job<'_>, batch: usize) -> Outcome {
    let mut claims = Vec::new();
    let mut at = outputs_at(berth) as u64;
    for (index, recipe) in job.recipes.iter().enumerate().rev() {
        let mut bytes = vec![0; job.len];
        memory.read_exact_at(&mut bytes, input_at(berth) as u64).unwrap();
        bytes.extend([index as u8, batch as u8]);
        if recipe.name == "no jpeg" {
            bytes[0] = 0;
        }
        memory.write_all_at(&bytes, at).unwrap();
        at += bytes.len() as u64;
        let (len, placeholders) = (bytes.len() as u64, Placeholders::default());
        claims.push(Claim { index, format: Format::Jpeg, width: 16, height: 16, len, placeholders });
    }
    match job.recipes[0].name.as_str() {
        "die" => std::process::exit(7),
        "abort" => {
            let _nobody_listens = writeln!(io::stderr(), "CUDA driver: a fault of the device");
            std::process::abort()
        }
        "hang" => loop {
            std::thread::sleep(Duration::from_secs(60));
        },
        "refuse" => return Outcome::Unsupported("a strange JPEG".to_owned()),
        "fault" => return Outcome::Fault(Fault::new(Kind::BadRequest, "cannot be done")),
        "too long" => claims[0].len = u64::MAX,
        "twice" => claims.push(claims[0].clone()),
        "too few" => claims.truncate(0),
        "elsewhere" => claims[0].index = 9,
        "wide" => claims[0].width = 100_000,
        "words" => claims[0].placeholders.blurhash = Some("nobody asked".to_owned()),
        _ => {}
    }
    Outcome::Made(claims)
}

// The lane.

fn options(device: usize) -> Options {
    Options {
        program: std::env::current_exe().unwrap(),
        device,
        desks: 2,
        batch_max: 4,
        batch_time_max: Duration::from_millis(700),
        start_time_max: Duration::from_secs(20),
        ..Options::default()
    }
}

fn lane() -> GpuLane {
    GpuLane::start(options(GOOD)).unwrap()
}

fn task(names: &[&str]) -> Task {
    let mut input = tempfile();
    input.write_all(ORIGINAL).unwrap();
    input.rewind().unwrap();
    Task {
        input,
        len: ORIGINAL.len() as u64,
        header: Header {
            format: Format::Jpeg,
            width: 6000,
            height: 4000,
            components: 3,
            bits: 8,
            alpha: false,
            frames: 1,
            coefficient_bytes: 0,
            orientation: Orientation::Normal,
        },
        recipes: names.iter().map(|name| Recipe::named(*name)).collect(),
        memory_bytes: 1 << 20,
        time_max: Duration::from_secs(10),
        stop: Stop::default(),
        only_cpu: None,
        original: None,
    }
}

fn tempfile() -> File {
    File::from(rustix::fs::memfd_create("original", rustix::fs::MemfdFlags::CLOEXEC).unwrap())
}

fn until(what: &str, is: impl Fn() -> bool) -> Duration {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < Duration::from_secs(10), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
    started.elapsed()
}

fn bytes(made: &annulus::image::lanes::Made) -> Vec<u8> {
    let mut bytes = vec![0; made.len as usize];
    made.file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(made.file.write_at(b"x", 0).is_err(), "an output must be sealed");
    bytes
}

fn what_is_asked_for_is_made_in_batches() {
    let lane = lane();
    assert_eq!(lane.status().facts.unwrap().name, "a pretender");
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                let Ended::Done(done) = lane.run(&task(&["a", "b"])) else { panic!("not done") };
                for (index, (made, name)) in done.outputs.iter().zip(["a", "b"]).enumerate() {
                    assert_eq!((made.name.as_str(), made.width, made.height), (name, 16, 16));
                    let bytes = bytes(made);
                    assert_eq!(&bytes[..ORIGINAL.len()], ORIGINAL);
                    assert_eq!(bytes[ORIGINAL.len()], index as u8);
                    assert!((1..=4).contains(&bytes[ORIGINAL.len() + 1]), "a batch of {}", bytes[ORIGINAL.len() + 1]);
                }
            });
        }
    });
    let status = lane.status();
    assert_eq!((status.jobs, status.faults), (40, 0));
    assert!((10..=40).contains(&status.batches), "{}", status.batches);
    assert_eq!(lane.megapixels(), 0.0);
}

fn what_it_does_not_take_is_told() {
    let lane = lane();
    assert!(matches!(lane.run(&task(&["refuse"])), Ended::Unsupported(why) if why == "a strange JPEG"));
    assert!(matches!(lane.run(&task(&["fault"])), Ended::Fault(fault) if fault.kind == Kind::BadRequest));
    let long = Task { len: u64::MAX, ..task(&["a"]) };
    assert!(matches!(lane.run(&long), Ended::Unsupported(_)));
    let shorter = Task { len: ORIGINAL.len() as u64 + 1, ..task(&["a"]) };
    assert!(matches!(lane.run(&shorter), Ended::Fault(fault) if fault.kind == Kind::Io));
    let wordy = task(&["x".repeat(300_000).as_str()]);
    assert!(matches!(lane.run(&wordy), Ended::Unsupported(_)));
    let stopped = task(&["a"]);
    stopped.stop.stop();
    assert!(matches!(lane.run(&stopped), Ended::Fault(fault) if fault.kind == Kind::Stopped));
    assert_eq!(lane.status().faults, 0);
    assert!(matches!(lane.run(&task(&["a"])), Ended::Done(_)), "all berths must be free again");
}

fn ends_are_survived() {
    for (name, word) in
        [("die", "exit status: 7"), ("abort", "a fault of the device"), ("break", "illegal address was met")]
    {
        let lane = lane();
        let before = lane.status().worker.unwrap();
        let Ended::Lost(Lost { why, .. }) = lane.run(&task(&[name])) else { panic!("{name}: not lost") };
        assert!(!why.contains('\n'), "{why}");
        assert!(!lane.is_up() || lane.status().worker != Some(before));
        let took = until("it is back", || lane.is_up());
        assert!(took < Duration::from_secs(2), "{took:?}");
        let status = lane.status();
        assert_eq!(status.faults, 1);
        assert!(status.trouble.as_ref().unwrap().contains(word), "{name}: {status:?}");
        assert!(matches!(lane.run(&task(&["a"])), Ended::Done(_)));
    }
}

fn a_hung_worker_is_killed() {
    let lane = lane();
    let started = Instant::now();
    let Ended::Lost(Lost { why, .. }) = lane.run(&task(&["hang"])) else { panic!("not lost") };
    assert!(why.contains("took longer than"), "{why}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    until("it is back", || lane.is_up());
    assert!(matches!(lane.run(&task(&["a"])), Ended::Done(_)));
}

fn lies_are_found_out() {
    let lane = lane();
    for name in ["too long", "twice", "too few", "elsewhere", "wide", "words", "no jpeg"] {
        assert!(matches!(lane.run(&task(&[name])), Ended::Lost(lost) if !lost.begun), "{name}");
    }
}

fn three_faults_open_the_breaker() {
    let lane = lane();
    for _ in 0..3 {
        until("it is up", || lane.is_up());
        assert!(matches!(lane.run(&task(&["die"])), Ended::Lost(_)));
    }
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!lane.is_up(), "it must rest");
    assert_eq!(lane.status().faults, 3);
    assert!(matches!(lane.run(&task(&["a"])), Ended::Lost(lost) if lost.why.contains("down")));
}

/// A CPU lane that does everything, slowly.
struct Slow(AtomicU64);

impl Lane for Slow {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn run(&self, _: Task) -> Result<Done, Fault> {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(5));
        Ok(Done { outputs: Vec::new(), timings: Timings::default(), peak_bytes: 0, told: Told::CPU, share: None })
    }
}

fn a_killed_worker_costs_no_job() {
    let cpu = Arc::new(Slow(AtomicU64::new(0)));
    let lanes = BothLanes::new(cpu.clone(), Some(lane()), Route::Gpu, 2);
    let done = AtomicU64::new(0);
    let end = Instant::now() + Duration::from_millis(1500);
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                while Instant::now() < end {
                    let told = lanes.run(task(&["a"])).unwrap().told;
                    assert!(told.lane == "gpu" || !told.why.is_empty());
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(Duration::from_millis(300));
        let pid = lanes.gpu().unwrap().status().worker.unwrap();
        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    });
    let counts = lanes.counts();
    let (gpu, by_cpu) = (counts.of(Way::Gpu), counts.of(Way::Cpu));
    let lost: u64 = counts.all().filter(|(_, why, _)| *why == "lost").map(|(_, _, count)| count).sum();
    assert_eq!(gpu + by_cpu, done.load(Ordering::Relaxed));
    assert_eq!(by_cpu, cpu.0.load(Ordering::Relaxed));
    assert!(gpu > 0 && lost > 0);
    assert!(lanes.gpu().unwrap().is_up(), "it must be back");
    // What the GPU does not make goes to the CPU without having been there.
    let thumbhash = Recipe { thumbhash: true, ..Recipe::named("a") };
    let told = lanes.run(Task { recipes: [thumbhash].into(), ..task(&["a"]) }).unwrap().told;
    assert_eq!((told.lane, told.why.as_str()), ("cpu", "a ThumbHash or a BlurHash of an output"));
    // What the GPU does not take goes to the CPU at once, and a fault of the job goes nowhere.
    assert_eq!(lanes.run(task(&["refuse"])).unwrap().told, Told { lane: "cpu", why: "a strange JPEG".to_owned() });
    assert_eq!(lanes.run(task(&["fault"])).unwrap_err().kind, Kind::BadRequest);
    let progressive = Task { header: Header { coefficient_bytes: 3, ..task(&["a"]).header }, ..task(&["a"]) };
    let told = lanes.run(progressive).unwrap().told;
    assert!(told.lane == "cpu" && told.why.contains("progressive"), "{told:?}");
}

fn without_a_device_there_is_no_lane() {
    let why = GpuLane::start(options(ABSENT)).map(|_| ()).unwrap_err();
    assert!(why.starts_with("no GPU: none was built"), "{why}");
    let program = PathBuf::from("/nowhere/annulus");
    let why = GpuLane::start(Options { program, ..options(GOOD) }).map(|_| ()).unwrap_err();
    assert!(why.contains("/nowhere/annulus"), "{why}");
    // Where there is one and its worker fails, there is a lane that is down and goes on trying.
    for (options, says) in [
        (options(FAILING), "another answer"),
        (Options { program: PathBuf::from("/bin/true"), ..options(GOOD) }, "did not start"),
    ] {
        let lane = GpuLane::start(options).unwrap();
        assert!(!lane.is_up());
        let trouble = lane.status().trouble.unwrap();
        assert!(trouble.contains(says), "{trouble}");
        until("it has tried again", || lane.status().faults > 1);
        assert!(matches!(lane.run(&task(&["a"])), Ended::Lost(lost) if !lost.begun));
    }
}

fn what_asks_for_a_lane_gets_it() {
    let cpu = Arc::new(Slow(AtomicU64::new(0)));
    let lanes = BothLanes::new(cpu, Some(lane()), Route::Auto, 2);
    let told = |route, only_cpu| {
        let mut task = Task { only_cpu, ..task(&["a"]) };
        task.recipes = task.recipes.iter().map(|recipe| Recipe { route, ..recipe.clone() }).collect();
        lanes.run(task).unwrap().told
    };
    let asked = "this lane was asked for".to_owned();
    assert_eq!(told(Route::Gpu, None), Told { lane: "gpu", why: asked.clone() });
    assert_eq!(told(Route::Cpu, None), Told { lane: "cpu", why: asked });
    assert_eq!(told(Route::Gpu, Some("a variant")), Told { lane: "cpu", why: "a variant".to_owned() });
    assert!(told(Route::Auto, None).why.starts_with("expected: gpu "));
}

/// A CPU lane whose tasks end when they are told. Counts those that have begun.
struct Held(AtomicU64);

impl Lane for Held {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn run(&self, task: Task) -> Result<Done, Fault> {
        self.0.fetch_add(1, Ordering::Relaxed);
        until("it is told", || task.stop.is_stopped());
        Ok(Done { outputs: Vec::new(), timings: Timings::default(), peak_bytes: 0, told: Told::CPU, share: None })
    }
}

fn what_waits_for_the_cpu_waits_in_the_queue() {
    let cpu = Arc::new(Held(AtomicU64::new(0)));
    let lanes = BothLanes::new(cpu.clone(), Some(lane()), Route::Cpu, 2);
    assert_eq!((lanes.room(100), lanes.room(1)), (2 + 4, 1), "both cores, and a batch");
    let stops: Vec<Stop> = (0..4).map(|_| Stop::default()).collect();
    std::thread::scope(|scope| {
        let mut given = Vec::new();
        // The first two have cores; of those that wait each is one less that is taken, and beyond a core's worth none is.
        for (stop, room) in stops.iter().zip([6, 6, 5, 0]) {
            let begun = given.len() as u64 + 1;
            let (lanes, task) = (&lanes, Task { stop: stop.clone(), ..task(&["a"]) });
            given.push(scope.spawn(move || lanes.run(task).map(|_| ()).map_err(|fault| fault.kind)));
            until("it has begun, or waits", || {
                lanes.room(100) == room && cpu.0.load(Ordering::Relaxed) == begun.min(2)
            });
        }
        // Whoever waits and is not wanted any more goes at once.
        stops[3].stop();
        until("it has gone", || lanes.room(100) == 5);
        stops.iter().for_each(Stop::stop);
        let ended: Vec<_> = given.into_iter().map(|job| job.join().unwrap()).collect();
        assert_eq!((&ended[..2], ended[3]), (&[Ok(()), Ok(())][..], Err(Kind::Stopped)));
    });
    assert_eq!(lanes.room(100), 6);
}

fn an_original_that_ends_workers_is_not_given_to_them_again() {
    let lanes = BothLanes::new(Arc::new(Slow(AtomicU64::new(0))), Some(lane()), Route::Gpu, 2);
    let key = |name| Some(Key { name: [name; 32], suffix: Suffix::Original });
    let told = |name, what| lanes.run(Task { original: key(name), ..task(&[what]) }).unwrap().told;
    for faults in 1..=2 {
        assert!(told(1, "die").why.contains("hung up"));
        until("the worker is back", || lanes.gpu().unwrap().is_up());
        assert_eq!(lanes.gpu().unwrap().status().faults, faults);
    }
    // What it is to do plays no part: it is known by its original.
    assert_eq!(told(1, "a").why, "the GPU's workers were lost with this image before");
    assert_eq!(told(2, "a").lane, "gpu");
}

fn the_lane_ends_with_jobs_under_way() {
    let lane = Arc::new(lane());
    let pid = lane.status().worker.unwrap();
    let waiting = lane.clone();
    let job = std::thread::spawn(move || waiting.run(&task(&["hang"])));
    std::thread::sleep(Duration::from_millis(100));
    assert!(matches!(job.join().unwrap(), Ended::Lost(_)));
    let started = Instant::now();
    drop(lane);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(!PathBuf::from(format!("/proc/{pid}")).exists());
}

fn the_real_worker_says_what_is_missing() {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_annulus"));
    match GpuLane::start(Options { program, ..options(GOOD) }) {
        Ok(lane) => println!("there is a GPU: {:?}", lane.status().facts),
        Err(why) => {
            assert!((why.starts_with("no GPU") || why.starts_with("nvJPEG")) && !why.contains('\n'), "{why}");
            let test = "image_gpu the_real_worker_makes_images";
            eprintln!("NOT RUN: {test}: {why}");
            if let Some(path) = std::env::var_os("ANNULUS_NOT_RUN") {
                let mut file = File::options().create(true).append(true).open(path).unwrap();
                writeln!(file, "workloads {test}: {why}").unwrap();
            }
        }
    }
}
