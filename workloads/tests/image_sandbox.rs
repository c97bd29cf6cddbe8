//! Worker processes that do everything they should not: each forbidden act is refused, each crash is told apart, and
//! the lane works on after all of them.
//!
//! This program is the test and, started with `image-worker`, the worker: its pipeline does what the first recipe's
//! name says.
#![allow(clippy::unwrap_used)] // A test that panics fails.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use annulus::image::fault::{Fault, Kind};
use annulus::image::format::Format;
use annulus::image::header::{self, Header, Limits, Orientation, Progress};
use annulus::image::lanes::cpu::{CpuLane, Isolation, Options};
use annulus::image::lanes::wire::{Answer, Claim};
use annulus::image::lanes::{Done, Lane, Pipeline, Processor, Stop, Task, worker};
use annulus::image::pipeline::pixels::Pool;
use annulus::image::pipeline::placeholder::Placeholders;
use annulus::image::pipeline::{Made, Output, Timings, Wanted, Watch};
use annulus::image::recipe::Recipe;
use rustix::fs::{MemfdFlags, OFlags, SealFlags};

const ORIGINAL: &[u8] = b"the original";
const FIRST: u64 = 1;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some(worker::COMMAND) => return worker::main(&Hostile),
        Some("be-a-server") => return be_a_server(),
        Some("be-shut-in") => return be_shut_in(),
        _ => {}
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
    ("what_is_asked_for_is_made", what_is_asked_for_is_made),
    ("every_format_gets_through_the_walls", every_format_gets_through_the_walls),
    ("forbidden_acts_kill", forbidden_acts_kill),
    ("ends_are_told_apart", ends_are_told_apart),
    ("lies_are_found_out", lies_are_found_out),
    ("stop_and_time_out_end_work", stop_and_time_out_end_work),
    ("a_crash_costs_no_start", a_crash_costs_no_start),
    ("workers_are_replaced", workers_are_replaced),
    ("a_task_that_cannot_be_asked_for_costs_no_worker", a_task_that_cannot_be_asked_for_costs_no_worker),
    ("the_walls_stand", the_walls_stand),
    ("the_second_wall_stands_alone", the_second_wall_stands_alone),
    ("workers_end_with_their_server", workers_end_with_their_server),
    ("threads_do_the_same", threads_do_the_same),
    ("many_at_once", many_at_once),
    ("started_by_hand_it_says_so", started_by_hand_it_says_so),
];

// The worker.

struct Hostile;

impl Processor for Hostile {
    fn process(
        &self,
        input: &[u8],
        wanted: Wanted<'_>,
        pool: &mut Pool,
        watch: &dyn Watch,
        made: Made<'_>,
    ) -> Result<Timings, Fault> {
        let recipes = wanted.recipes;
        let name = recipes[0].name.as_str();
        match name {
            "the real one" => return Pipeline.process(input, wanted, pool, watch, made),
            "copy" => {
                for (index, _) in recipes.iter().enumerate().rev() {
                    let (width, bytes) = (input.len() as u32, picture(input));
                    made(Output { width, bytes, ..small(index) })?;
                }
            }
            "panic" => panic!("as asked\nin two lines"),
            "abort" => std::process::abort(),
            "exit" => std::process::exit(3),
            "fault" => return Err(Fault::new(Kind::BadImage, "not\x1b[31m an image")),
            "never told to stop" => return Err(Fault::new(Kind::Stopped, "of its own accord")),
            "crashed, it says" => return Err(Fault::new(Kind::Crashed, "and yet it runs")),
            "hang" => loop {
                std::hint::spin_loop();
            },
            "obey" => loop {
                watch.check()?;
            },
            "eat" => {
                let mut eaten = Vec::new();
                loop {
                    eaten.push(vec![1u8; 1 << 20]);
                }
            }
            "pool" => {
                let mut buffer = pool.take(64 << 20);
                buffer.fill(1);
                pool.give(std::hint::black_box(buffer));
                made(small(0))?;
            }
            "leak" => {
                std::mem::forget(vec![1u8; 48 << 20]);
                made(small(0))?;
            }
            "chatter" | "chatter for ever" => {
                let lines = if name == "chatter" { 20_000 } else { 100_000 };
                for _ in 0..lines {
                    eprintln!("a codec's warning");
                }
                made(small(0))?;
            }
            "recurse" => assert!(recurse(1) > 0),
            "large output" => made(Output { bytes: vec![0; 2 << 20], ..small(0) })?,
            "wrong magic" => made(Output { format: Format::Avif, ..small(0) })?,
            "wrong size" => made(Output { width: 3, ..small(0) })?,
            "words for the document" => {
                let blurhash = Some("</script>".to_owned());
                made(Output { placeholders: Placeholders { thumbhash: None, blurhash }, ..small(0) })?;
            }
            "no output" => {}
            "same twice" => {
                made(small(0))?;
                made(small(0))?;
            }
            "a stranger's output" => made(small(9))?,
            lie if lie.starts_with("say ") => {
                rustix::io::write(io::stdin(), said(lie).as_slice()).unwrap();
                let until = Instant::now() + Duration::from_millis(50);
                while Instant::now() < until {}
                made(small(0))?;
            }
            "flood" => {
                while rustix::io::write(io::stdin(), b"{}").is_ok() {
                    watch.check()?;
                }
            }
            act => {
                forbidden(act);
                made(small(0))?;
            }
        }
        Ok(Timings::default())
    }
}

fn small(index: usize) -> Output {
    let placeholders = Placeholders::default();
    Output { index, format: Format::Png, width: 2, height: 1, bytes: picture(b"xy"), placeholders }
}

/// A picture of these bytes in a row.
fn picture(samples: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, samples.len() as u32, 1);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(samples).unwrap();
    bytes
}

#[inline(never)]
fn recurse(depth: usize) -> usize {
    let mut frame = [depth; 1024];
    std::hint::black_box(&mut frame);
    if depth == usize::MAX { 0 } else { recurse(depth + 1) + frame[7] }
}

/// Answers that no honest worker gives.
fn said(lie: &str) -> Vec<u8> {
    let Output { index, format, width, height, bytes, placeholders } = small(0);
    let claim = Claim { index, format, width, height, len: bytes.len() as u64, placeholders };
    let done = |task, outputs| Answer::Done { task, outputs, timings: Timings::default() };
    let answer = match lie {
        "say nothing" => return Vec::new(),
        "say garbage" => return b"\0\xff{".to_vec(),
        "say too much" => return vec![b' '; 100_000],
        "say nested" => return "[".repeat(16_000).into_bytes(),
        "say done, of another task" => done(77, vec![claim]),
        "say done, without outputs" => done(FIRST, vec![]),
        "say done, before it is" => done(FIRST, vec![claim]),
        "say done, a thousand times" => return vec![b'1'; 16 << 10],
        "say ready" => return br#"{"Ready":{"landlock":true,"seccomp":true}}"#.to_vec(),
        other => panic!("{other}"),
    };
    serde_json::to_vec(&answer).unwrap()
}

/// What the sandbox is there to prevent. Each returns when it was allowed or politely refused; neither happens.
const FORBIDDEN: &[&str] = &[
    "open a file",
    "make a file",
    "remove a file",
    "list a folder",
    "look at a file",
    "make a socket",
    "connect",
    "listen",
    "make a pipe",
    "start a thread",
    "start a program",
    "become a program",
    "kill the server",
    "kill a group",
    "raise a limit",
    "make a memory file",
    "set seals",
    "become dumpable",
    "start a session",
    "make a ring",
    "wait for a child",
    "sleep",
    "seek",
    "cut an output",
    "change a descriptor",
    "send a descriptor",
    "look at another process's memory",
];

fn forbidden(act: &str) {
    let none = |_| ();
    let parent = rustix::process::getpid;
    match act {
        "open a file" => drop(File::open("/etc/passwd")),
        "make a file" => drop(File::create("/tmp/annulus-was-here")),
        "remove a file" => drop(fs::remove_file("/tmp/annulus-was-here")),
        "list a folder" => drop(fs::read_dir("/")),
        "look at a file" => drop(fs::metadata("/etc/passwd")),
        "make a socket" => drop(std::net::UdpSocket::bind("127.0.0.1:0")),
        "connect" => drop(std::net::TcpStream::connect("127.0.0.1:9")),
        "listen" => drop(std::os::unix::net::UnixListener::bind("/tmp/annulus-was-here")),
        "make a pipe" => drop(io::pipe()),
        "start a thread" => drop(std::thread::Builder::new().spawn(|| ())),
        "start a program" => drop(Command::new("/bin/true").spawn()),
        "become a program" => drop(Command::new("/bin/true").exec()),
        "kill the server" => {
            // It knows no other process's number, and needs none to try.
            let one = rustix::process::Pid::from_raw(1).unwrap();
            rustix::process::kill_process(one, rustix::process::Signal::URG).map_or_else(|_| (), none);
        }
        "kill a group" => {
            rustix::process::kill_current_process_group(rustix::process::Signal::URG).map_or_else(|_| (), none);
        }
        "raise a limit" => {
            let limit = rustix::process::Rlimit { current: None, maximum: None };
            rustix::process::setrlimit(rustix::process::Resource::As, limit).map_or_else(|_| (), none);
        }
        "make a memory file" => drop(rustix::fs::memfd_create("x", MemfdFlags::empty())),
        "set seals" => rustix::fs::fcntl_add_seals(io::stdin(), SealFlags::SEAL).map_or_else(|_| (), none),
        "become dumpable" => {
            let dumpable = rustix::process::DumpableBehavior::Dumpable;
            rustix::process::set_dumpable_behavior(dumpable).map_or_else(|_| (), none);
        }
        "start a session" => drop(rustix::process::setsid()),
        "make a ring" => drop(annulus_engine::describe_drivers()),
        "wait for a child" => drop(rustix::process::wait(rustix::process::WaitOptions::NOHANG)),
        "sleep" => std::thread::sleep(Duration::from_millis(1)),
        "seek" => drop(rustix::fs::seek(io::stdin(), rustix::fs::SeekFrom::Start(0))),
        "cut an output" => rustix::fs::ftruncate(io::stdin(), 0).map_or_else(|_| (), none),
        "change a descriptor" => rustix::fs::fcntl_setfl(io::stdin(), OFlags::NONBLOCK).map_or_else(|_| (), none),
        "send a descriptor" => {
            let stdin = io::stdin();
            let sent = annulus::image::lanes::wire::send_bytes(stdin.as_fd(), b"x", &[stdin.as_fd()]);
            sent.map_or_else(|_| (), none);
        }
        "look at another process's memory" => drop(fs::read(format!("/proc/{}/mem", parent().as_raw_nonzero()))),
        other => panic!("{other} is no act"),
    }
}

// The server.

fn options() -> Options {
    Options { processor: Arc::new(Hostile), output_bytes_max: 1 << 20, yields: false, ..Options::default() }
}

fn lane() -> CpuLane {
    CpuLane::start(options()).unwrap()
}

fn input(bytes: &[u8]) -> File {
    let memory = rustix::fs::memfd_create("input", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let mut file = File::from(memory);
    file.write_all(bytes).unwrap();
    rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE).unwrap();
    file
}

fn task(names: &[&str]) -> Task {
    let bytes = ORIGINAL;
    let header = Header {
        format: Format::Png,
        width: 1,
        height: 1,
        components: 3,
        bits: 8,
        alpha: false,
        frames: 1,
        coefficient_bytes: 0,
        orientation: Orientation::Normal,
    };
    Task {
        input: input(bytes),
        len: bytes.len() as u64,
        header,
        recipes: names.iter().map(|name| Recipe::named(*name)).collect(),
        memory_bytes: 64 << 20,
        time_max: Duration::from_secs(5),
        stop: Stop::default(),
        only_cpu: None,
        original: None,
    }
}

fn run(lane: &CpuLane, name: &str) -> Result<Done, Fault> {
    lane.run(task(&[name]))
}

fn content(mut file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

#[track_caller]
fn works(lane: &CpuLane) {
    let done = lane.run(task(&["copy"])).unwrap();
    assert_eq!(content(&done.outputs[0].file), picture(ORIGINAL));
}

fn what_is_asked_for_is_made() {
    let lane = lane();
    assert_eq!(lane.warnings(), Vec::<String>::new());
    for _ in 0..3 {
        let done = lane.run(task(&["copy", "second", "third"])).unwrap();
        let names: Vec<&str> = done.outputs.iter().map(|output| output.name.as_str()).collect();
        assert_eq!(names, ["copy", "second", "third"]);
        for output in &done.outputs {
            assert_eq!((output.format, output.width, output.height), (Format::Png, ORIGINAL.len() as u32, 1));
            let bytes = content(&output.file);
            assert_eq!(bytes, picture(ORIGINAL));
            assert_eq!(bytes.len() as u64, output.len);
            let seals = rustix::fs::fcntl_get_seals(&output.file).unwrap();
            assert!(seals.contains(SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL));
        }
    }
    // The peak is of one task, and counts what it touched.
    let large = run(&lane, "pool").unwrap().peak_bytes;
    assert!((64 << 20..160 << 20).contains(&large), "{large} bytes");
}

const WRITTEN: [Format; 4] = [Format::Jpeg, Format::Png, Format::Webp, Format::Avif];

/// All formats that are written, of this image, by the service's own pipeline.
fn all_formats(lane: &CpuLane, bytes: &[u8]) -> Vec<Vec<u8>> {
    let read = header::read(bytes, Some(bytes.len() as u64), &Limits::DEFAULT).unwrap();
    let Progress::Header(header) = read else { panic!("{read:?}") };
    let recipe = |format| Recipe { format: Some(format), blur: 0.6, sharpen: 0.5, ..Recipe::named("the real one") };
    let task = Task {
        input: input(bytes),
        len: bytes.len() as u64,
        recipes: WRITTEN.map(recipe).into(),
        memory_bytes: 256 << 20,
        time_max: Duration::from_secs(60),
        header,
        ..task(&[])
    };
    let done = lane.run(task).unwrap();
    let made: Vec<Format> = done.outputs.iter().map(|output| output.format).collect();
    assert_eq!(made, WRITTEN);
    done.outputs.iter().map(|output| content(&output.file)).collect()
}

fn every_format_gets_through_the_walls() {
    let (width, height) = (80u16, 60u16);
    let pixels: Vec<u8> = (0..u32::from(width) * u32::from(height))
        .flat_map(|at| [(at % 80) * 3, (at / 80) * 4, at % 251, 255 - at % 80].map(|sample| sample as u8))
        .collect();
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, u32::from(width), u32::from(height));
    encoder.set_color(png::ColorType::Rgba);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    let mut gif = Vec::new();
    let indexes: Vec<u8> = pixels.chunks_exact(4).map(|pixel| pixel[0] / 128).collect();
    let frame = gif::Frame { width, height, buffer: indexes.into(), ..gif::Frame::default() };
    gif::Encoder::new(&mut gif, width, height, &[0, 0, 0, 250, 200, 10]).unwrap().write_frame(&frame).unwrap();

    // One worker does it all: a call that the filter forbids would have ended it.
    let lane = lane();
    wait_for(|| workers().len() == 2, "a worker and a spare");
    let before = workers();
    for bytes in all_formats(&lane, &png).into_iter().chain([gif]) {
        all_formats(&lane, &bytes);
    }
    assert_eq!(workers(), before);
}

fn forbidden_acts_kill() {
    let lane = lane();
    for act in FORBIDDEN {
        let fault = run(&lane, act).unwrap_err();
        assert_eq!(fault.kind, Kind::Crashed, "{act}: {fault}");
        assert!(fault.detail.contains("sandbox forbids"), "{act}: {fault}");
    }
    assert!(!fs::exists("/tmp/annulus-was-here").unwrap());
    works(&lane);
}

fn ends_are_told_apart() {
    let lane = lane();
    for (name, kind, says) in [
        ("panic", Kind::Crashed, "as asked in two lines"),
        ("abort", Kind::Crashed, "signal 6"),
        ("exit", Kind::Crashed, "exit status: 3"),
        ("recurse", Kind::Crashed, "overflowed its stack"),
        ("fault", Kind::BadImage, "not [31m an image"),
        ("eat", Kind::Memory, "67108864 bytes"),
        ("large output", Kind::TooLarge, "output_bytes_max = 1048576"),
        ("a stranger's output", Kind::Io, "nobody asked for"),
    ] {
        let fault = run(&lane, name).unwrap_err();
        assert_eq!(fault.kind, kind, "{name}: {fault}");
        assert!(fault.detail.contains(says), "{name}: {fault}");
        works(&lane);
    }
    run(&lane, "chatter").unwrap();
    works(&lane);
    let (worker, killing) = (workers().pop().unwrap(), kill_soon());
    let fault = run(&lane, "obey").unwrap_err();
    // The spare, too: what comes next must not be killed for it.
    killing.join().unwrap();
    assert_eq!(fault.kind, Kind::Memory, "{worker}: {fault}");
    assert!(fault.detail.contains("from outside"), "{fault}");
    works(&lane);
}

/// Kills all workers in a moment, as the kernel does when memory is short, and waits until they are dead: one that is
/// dying can still be given a task.
fn kill_soon() -> std::thread::JoinHandle<()> {
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(300));
        let killed = workers();
        for &pid in &killed {
            let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        wait_for(|| workers().iter().all(|pid| !killed.contains(pid)), "the end of those that were killed");
    })
}

fn lies_are_found_out() {
    for lie in [
        "say nothing",
        "say garbage",
        "say too much",
        "say nested",
        "say done, of another task",
        "say done, without outputs",
        "say done, before it is",
        "say done, a thousand times",
        "say ready",
        "wrong magic",
        "wrong size",
        "words for the document",
        "no output",
        "same twice",
        "never told to stop",
        "crashed, it says",
        "flood",
        "chatter for ever",
    ] {
        let lane = lane();
        let fault = run(&lane, lie).unwrap_err();
        assert_eq!(fault.kind, Kind::Crashed, "{lie}: {fault}");
        works(&lane);
    }
}

fn stop_and_time_out_end_work() {
    let lane = lane();
    for (name, at_most) in [("obey", 60), ("hang", 160)] {
        let mut task = task(&[name]);
        task.time_max = Duration::from_millis(200);
        let started = Instant::now();
        let fault = lane.run(task).unwrap_err();
        let took = started.elapsed();
        assert_eq!(fault.kind, Kind::Stopped, "{name}: {fault}");
        assert!(fault.detail.contains("200ms"), "{name}: {fault}");
        // A shared machine may be late by itself.
        assert!(took >= Duration::from_millis(200) && took < Duration::from_millis(200 + 5 * at_most), "{took:?}");

        let task = self::task(&[name]);
        let stop = task.stop.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            stop.stop();
        });
        let started = Instant::now();
        let fault = lane.run(task).unwrap_err();
        assert_eq!((fault.kind, fault.detail.as_str()), (Kind::Stopped, "cancelled"), "{name}");
        assert!(started.elapsed() < Duration::from_millis(50 + 5 * at_most), "{:?}", started.elapsed());
        works(&lane);
    }
    let stopped = task(&["copy"]);
    stopped.stop.stop();
    assert_eq!(lane.run(stopped).unwrap_err().kind, Kind::Stopped);
    drop(lane);
    wait_for(|| workers().is_empty(), "the end of the workers before");
    // An obedient worker lives on, however long a busy machine keeps it from hearing of it.
    let lane = CpuLane::start(Options { grace: Duration::from_secs(10), ..options() }).unwrap();
    wait_for(|| workers().len() == 2, "a worker and a spare");
    let before = workers();
    let mut obedient = task(&["obey"]);
    obedient.time_max = Duration::from_millis(20);
    lane.run(obedient).unwrap_err();
    assert_eq!(workers(), before);
}

fn a_crash_costs_no_start() {
    let lane = lane();
    wait_for(|| workers().len() == 2, "a worker and a spare");
    run(&lane, "abort").unwrap_err();
    works(&lane);
    wait_for(|| workers().len() == 2, "a worker and a spare again");
    // A worker that died in its sleep costs the next task nothing at all.
    for pid in workers() {
        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    std::thread::sleep(Duration::from_millis(50));
    works(&lane);
}

fn workers_are_replaced() {
    let few = Options { tasks_per_worker: 2, ..options() };
    let lane = CpuLane::start(few).unwrap();
    let mut seen = BTreeSet::new();
    for _ in 0..6 {
        works(&lane);
        wait_for(|| !workers().is_empty(), "a spare");
        seen.extend(workers());
    }
    assert!(seen.len() >= 4, "{seen:?}");
    drop(lane);

    let lean = Options { resident_bytes_max: 64 << 20, ..options() };
    let lane = CpuLane::start(lean).unwrap();
    wait_for(|| workers().len() == 2, "a worker and a spare");
    let first = workers()[0];
    run(&lane, "leak").unwrap();
    works(&lane);
    assert!(workers().contains(&first), "48 MiB are within 64 with the program");
    run(&lane, "leak").unwrap();
    wait_for(|| !workers().contains(&first), "the leaking worker's end");
    works(&lane);
}

fn a_task_that_cannot_be_asked_for_costs_no_worker() {
    let lane = lane();
    wait_for(|| workers().len() == 2, "a worker and a spare");
    let before = workers();
    let kind = |task: Task| lane.run(task).unwrap_err().kind;
    assert_eq!(kind(task(&[])), Kind::BadRequest);
    assert_eq!(kind(task(&["copy"; 33])), Kind::BadRequest);
    assert_eq!(kind(task(&["x".repeat(70_000).as_str()])), Kind::BadRequest);
    let writable = File::from(rustix::fs::memfd_create("input", MemfdFlags::CLOEXEC).unwrap());
    assert_eq!(kind(Task { input: writable, ..task(&["copy"]) }), Kind::Io);
    assert_eq!(kind(Task { len: 1000, ..task(&["copy"]) }), Kind::Io);
    lane.run(task(&["copy"; 32])).unwrap();
    assert_eq!(workers(), before);
}

fn the_walls_stand() {
    let lane = lane();
    works(&lane);
    wait_for(|| workers().len() == 2, "a worker and a spare");
    for pid in workers() {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        let status = read("status");
        let has = |line: &str| assert!(status.lines().any(|said| said == line), "{line}: {status}");
        has("NoNewPrivs:\t1");
        has("Seccomp:\t2");
        has("Threads:\t1");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            has(&format!("{set}:\t0000000000000000"));
        }
        assert_eq!(read("oom_score_adj").trim(), "1000");
        // Only root may look at descriptors and limits of a process that cannot be dumped.
        if let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) {
            assert_eq!(open.count(), 3, "descriptors of a worker at rest");
        }
        let limits = read("limits");
        for limit in
            ["Max core file size         0 ", "Max processes              0 ", "Max open files             44 "]
        {
            let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(limits.lines().any(|line| squeeze(line).starts_with(&squeeze(limit))), "{limit}: {limits}");
        }
    }
}

/// Landlock without seccomp in front of it, on a thread that could do everything a moment before.
fn be_shut_in() -> ExitCode {
    File::open("/etc/passwd").unwrap();
    if !annulus::image::lanes::sandbox::shut_paths().unwrap() {
        return ExitCode::from(77);
    }
    let denied = |result: io::Result<()>, act: &str| {
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::PermissionDenied, "{act}");
    };
    denied(File::open("/etc/passwd").map(drop), "open");
    denied(fs::read_dir("/").map(drop), "list");
    denied(File::create("/tmp/annulus-was-here").map(drop), "create");
    denied(Command::new("/bin/true").spawn().map(drop), "run");
    denied(std::net::TcpListener::bind("127.0.0.1:0").map(drop), "listen");
    denied(std::net::TcpStream::connect("127.0.0.1:9").map(drop), "connect");
    let parent = rustix::process::getppid().unwrap();
    let signal = rustix::process::kill_process(parent, rustix::process::Signal::URG);
    denied(signal.map_err(io::Error::from), "signal");
    ExitCode::SUCCESS
}

fn the_second_wall_stands_alone() {
    let mut command = Command::new("/proc/self/exe");
    let output = command.arg("be-shut-in").output().unwrap();
    if output.status.code() == Some(77) {
        let line = "image_sandbox: landlock: this kernel has none, so its wall was not tried";
        eprintln!("{line}");
        if let Ok(path) = std::env::var("ANNULUS_NOT_RUN") {
            let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
            writeln!(file, "{line}").unwrap();
        }
        return;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a lane, tells its workers, and waits to be killed.
fn be_a_server() -> ExitCode {
    let lane = lane();
    wait_for(|| workers().len() == 2, "a worker and a spare");
    println!("{}", workers().iter().map(u32::to_string).collect::<Vec<_>>().join(" "));
    // A worker that is busy, and never looks at its socket, ends as well.
    let _killed_before = run(&lane, "hang");
    ExitCode::FAILURE
}

fn workers_end_with_their_server() {
    let mut command = Command::new("/proc/self/exe");
    let mut server = command.arg("be-a-server").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pids: Vec<u32> = line.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    std::thread::sleep(Duration::from_millis(50));
    server.kill().unwrap();
    server.wait().unwrap();
    let ended = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    wait_for(|| pids.iter().all(ended), "the workers' end");
}

fn threads_do_the_same() {
    let lane = CpuLane::start(Options { isolation: Isolation::Thread, ..options() }).unwrap();
    assert_eq!(lane.warnings().len(), 1);
    works(&lane);
    std::panic::set_hook(Box::new(|_| ()));
    let fault = run(&lane, "panic").unwrap_err();
    drop(std::panic::take_hook());
    assert_eq!(fault.kind, Kind::Crashed);
    assert!(fault.detail.contains("as asked in two lines"), "{fault}");
    assert_eq!(run(&lane, "fault").unwrap_err().kind, Kind::BadImage);
    assert_eq!(run(&lane, "no output").unwrap_err().kind, Kind::Crashed);
    assert_eq!(run(&lane, "large output").unwrap_err().kind, Kind::TooLarge);
    let peak = run(&lane, "pool").unwrap().peak_bytes;
    assert!((64 << 20..65 << 20).contains(&peak), "{peak} bytes");
    let mut obedient = task(&["obey"]);
    obedient.time_max = Duration::from_millis(20);
    assert_eq!(lane.run(obedient).unwrap_err().kind, Kind::Stopped);
    let stopped = task(&["obey"]);
    let stop = stopped.stop.clone();
    std::thread::spawn(move || stop.stop());
    assert_eq!(lane.run(stopped).unwrap_err().kind, Kind::Stopped);
    works(&lane);
}

fn many_at_once() {
    let lane = lane();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let lane = &lane;
            scope.spawn(move || {
                for round in 0..25 {
                    match (thread + round) % 5 {
                        0 => assert_eq!(run(lane, "abort").unwrap_err().kind, Kind::Crashed),
                        1 => assert_eq!(run(lane, "fault").unwrap_err().kind, Kind::BadImage),
                        _ => works(lane),
                    }
                }
            });
        }
    });
    wait_for(|| workers().len() <= 5, "no more workers than threads and a spare");
    drop(lane);
    assert_eq!(workers(), Vec::<u32>::new(), "workers outlive their lane");
    let open = fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open < 16, "{open} descriptors are left open");
}

fn started_by_hand_it_says_so() {
    let mut command = Command::new("/proc/self/exe");
    let output = command.arg(worker::COMMAND).stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("by hand"), "{output:?}");
}

/// Our worker processes, those at rest and those at work, oldest first.
fn workers() -> Vec<u32> {
    let us = std::process::id().to_string();
    let mut workers = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let words: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if words.get(1) == Some(&us.as_str()) && words[0] != "Z" && command.contains(worker::COMMAND) {
            workers.push(pid);
        }
    }
    workers.sort_unstable();
    workers
}

#[track_caller]
fn wait_for(met: impl Fn() -> bool, what: &str) {
    let until = Instant::now() + Duration::from_secs(10);
    while !met() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
