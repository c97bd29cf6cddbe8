//! The GPU lane as a whole, with the real worker on a GPU made of the processor: what it makes against what the CPU lane
//! makes, what it does not take, and every fault that a device can have. No job may be lost by any of them.
#![allow(clippy::unwrap_used)] // A test that panics fails.

mod gpu;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use annulus::image::fault::{Fault as JobFault, Kind};
use annulus::image::header::{Header, Limits, Progress, read};
use annulus::image::lanes::cpu::{CpuLane, Options as CpuOptions};
use annulus::image::lanes::gpu::both::BothLanes;
use annulus::image::lanes::gpu::router::Way;
use annulus::image::lanes::gpu::{Ended, GpuLane, Options};
use annulus::image::lanes::{Done, Lane, Made, Stop, Task, Told};
use annulus::image::options;
use annulus::image::pipeline::Timings;
use annulus::image::recipe::{Recipe, Route};
use gpu::{Fakes, Fault};
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

/// How near the lanes must come to each other at quality 100, in decibels of all samples of red, green and blue: about one
/// step of 255 in each sample is 48. They resample in other orders and round in other places.
const NEAR_DB: f64 = 50.0;
/// The same below: a coefficient that lies between two steps of the encoder's tables falls to another side of each lane.
/// What was sharpened has many of those, so it is compared at quality 100 alone.
const NEAR_COARSE_DB: f64 = 46.0;
/// Bytes of a desk's pictures: enough for every batch here, and little to fill.
const ARENA_BYTES: u64 = 32 << 20;

// Pictures.

/// A scene with what photos have: slopes, curves, edges, and a little noise.
fn scene(width: usize, height: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(747_796_405) | 1;
    let mut noise = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        f64::from(state % 9) - 4.0
    };
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let (u, v) = (x as f64 / width as f64, y as f64 / height as f64);
            let sky = 150.0 + 60.0 * (u * 9.0 + f64::from(seed % 7)).sin() * (v * 7.0).cos();
            let hill = if v > 0.55 + 0.2 * (u * 6.0).sin() { -70.0 } else { 0.0 };
            let grain = noise();
            for (sample, tint) in [(0.9, 20.0 * v), (1.0, 15.0 * u), (1.1, -25.0 * v)] {
                pixels.push((sky * sample + hill + tint + grain).clamp(0.0, 255.0) as u8);
            }
        }
    }
    pixels
}

fn encoded(width: usize, height: usize, seed: u32, set: impl FnOnce(&mut Compressor)) -> Vec<u8> {
    let mut compressor = Compressor::new().unwrap();
    compressor.set_quality(92).unwrap();
    set(&mut compressor);
    let pixels = scene(width, height, seed);
    let image = Image { pixels: &pixels[..], width, pitch: width * 3, height, format: PixelFormat::RGB };
    compressor.compress_to_vec(image).unwrap()
}

fn jpeg(width: usize, height: usize, subsamp: Subsamp, seed: u32) -> Vec<u8> {
    encoded(width, height, seed, |compressor| compressor.set_subsamp(subsamp).unwrap())
}

fn photo(seed: u32) -> Vec<u8> {
    jpeg(320, 240, Subsamp::Sub2x2, seed)
}

/// With another segment at its beginning (ITU-T T.81 section B.1.1.4).
fn with_segment(jpeg: &[u8], marker: u8, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xFF, marker], &len, body, &jpeg[2..]].concat()
}

/// A TIFF of one entry: the orientation (Exif 2.3 section 4.6.4).
fn oriented(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let tiff =
        [b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0", &[orientation][..], b"\0\0\0\0\0\0"].concat();
    with_segment(jpeg, 0xE1, &tiff)
}

fn header(jpeg: &[u8]) -> Header {
    match read(jpeg, Some(jpeg.len() as u64), &Limits::DEFAULT).unwrap() {
        Progress::Header(header) => header,
        Progress::NeedMore { bytes, .. } => panic!("{bytes} bytes of {} needed", jpeg.len()),
    }
}

/// A file of these bytes, open for reading only: a worker is given no other.
fn memory_file(bytes: &[u8]) -> File {
    let mut file = File::from(rustix::fs::memfd_create("original", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    file.write_all(bytes).unwrap();
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap()
}

fn task(jpeg: &[u8], texts: &[&str]) -> Task {
    let recipes: Vec<Recipe> = texts.iter().map(|text| options::parse(text, text).unwrap()).collect();
    Task {
        input: memory_file(jpeg),
        len: jpeg.len() as u64,
        header: header(jpeg),
        recipes: recipes.into(),
        memory_bytes: 256 << 20,
        time_max: Duration::from_secs(120),
        stop: Stop::default(),
        only_cpu: None,
        original: None,
    }
}

fn bytes(made: &Made) -> Vec<u8> {
    let mut bytes = vec![0; made.len as usize];
    made.file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

// Lanes.

fn options_of(fakes: &Fakes) -> Options {
    Options {
        program: fakes.program(),
        desks: 2,
        arena_bytes: ARENA_BYTES,
        batch_max: 4,
        // Nothing here may be late but what is made so: machines that test may be slow.
        batch_time_max: Duration::from_secs(120),
        start_time_max: Duration::from_secs(120),
        rest: Duration::from_millis(500),
        ..Options::default()
    }
}

fn cpu_lane() -> Arc<dyn Lane> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_annulus"));
    Arc::new(CpuLane::start(CpuOptions { program, yields: false, ..CpuOptions::default() }).unwrap())
}

fn both_lanes(options: Options) -> BothLanes {
    BothLanes::new(cpu_lane(), Some(GpuLane::start(options).unwrap()), Route::Gpu, 2)
}

fn gpu_of(lanes: &BothLanes) -> &GpuLane {
    lanes.gpu().unwrap()
}

/// Waits for what must come; how long that takes says nothing.
fn until(what: &str, is: impl Fn() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < Duration::from_secs(120), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Gives jobs from so many threads at the same time, and hears of each that it was done, and where.
fn give(lanes: &BothLanes, jobs: usize, threads: usize, texts: &[&str]) -> Vec<Told> {
    let next = AtomicU64::new(0);
    let told = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= jobs as u64 {
                        return;
                    }
                    let done = lanes.run(task(&photo(number as u32), texts)).unwrap();
                    assert_eq!(done.outputs.len(), texts.len());
                    told.lock().unwrap().push(done.told);
                }
            });
        }
    });
    let told = told.into_inner().unwrap();
    assert_eq!(told.len(), jobs);
    told
}

fn by(told: &[Told], lane: &str) -> u64 {
    told.iter().filter(|told| told.lane == lane).count() as u64
}

/// The counters of both lanes: those that the GPU and the CPU did, did not suit, and were lost.
fn counted(lanes: &BothLanes) -> [u64; 4] {
    let counts = lanes.counts();
    let why = |word: &str| counts.all().filter(|(_, why, _)| *why == word).map(|(.., count)| count).sum();
    [counts.of(Way::Gpu), counts.of(Way::Cpu), why("unsuited"), why("lost") + why("down")]
}

// What it makes.

/// Compares what both lanes make of a picture, and lists what is too far apart.
fn compare(what: &str, ours: &GpuLane, theirs: &dyn Lane, jpeg: &[u8], texts: &[&str], apart: &mut Vec<String>) {
    let ours = match ours.run(&task(jpeg, texts)) {
        Ended::Done(done) => done,
        other => panic!("{what}: {other:?}"),
    };
    let theirs = theirs.run(task(jpeg, texts)).unwrap();
    for (ours, theirs) in ours.outputs.iter().zip(&theirs.outputs) {
        let (a, b) = (bytes(ours), bytes(theirs));
        let heads = [&a, &b].map(|jpeg| turbojpeg::read_header(jpeg).unwrap());
        let shape = heads.each_ref().map(|head| (head.width, head.height, head.subsamp, head.colorspace));
        assert_eq!(shape[0], shape[1], "{what} {}", ours.name);
        assert_eq!(
            (ours.width as usize, ours.height as usize),
            (heads[0].width, heads[0].height),
            "{what} {}",
            ours.name
        );
        let [a, b] = [a, b].map(|jpeg| turbojpeg::decompress(&jpeg, PixelFormat::RGB).unwrap().pixels);
        let squares: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
        let db = 10.0 * (255.0 * 255.0 * a.len() as f64 / squares).log10();
        println!("{what:<24} {:<44} {db:.1} dB", ours.name);
        if db < if ours.name.ends_with("q:100") { NEAR_DB } else { NEAR_COARSE_DB } {
            apart.push(format!("{what} {}: {db:.1} dB", ours.name));
        }
    }
}

#[test]
fn outputs_agree_with_the_processors_lane() {
    let Some(fakes) = Fakes::new("outputs_agree_with_the_processors_lane") else { return };
    let (ours, theirs) = (GpuLane::start(options_of(&fakes)).unwrap(), cpu_lane());
    let sharp = ["rs:fit:400:400/sh:0.5/q:100", "rs:fit:150:150/sh:1.5/q:100"];
    let plain =
        ["rs:fit:256:256/q:100", "rs:fill:200:150/q:100", "rs:force:301:199/q:100", "c:300:200/rs:fit:150:150/q:100"];
    let coarse = ["rs:fit:256:256/q:80", "rs:fill:201:151/q:85", "rs:fit:99:99/q:90", "rs:force:301:199/q:95"];
    let mut apart = Vec::new();
    let kinds = [
        ("4:2:0", Subsamp::Sub2x2),
        ("4:2:2", Subsamp::Sub2x1),
        ("4:4:4", Subsamp::None),
        ("grey", Subsamp::Gray),
        // Those that the hardware does not take: one by one.
        ("4:4:0", Subsamp::Sub1x2),
        ("4:1:1", Subsamp::Sub4x1),
    ];
    for (name, subsamp) in kinds {
        for (width, height) in [(640, 480), (641, 427), (333, 250)] {
            let what = format!("{name} {width} x {height}");
            let jpeg = jpeg(width, height, subsamp, 7);
            for texts in [&plain[..], &coarse[..], &sharp[..]] {
                compare(&what, &ours, &*theirs, &jpeg, texts, &mut apart);
            }
        }
    }
    for orientation in 1..=8 {
        for (subsamp, name) in [(Subsamp::Sub2x2, "4:2:0"), (Subsamp::Sub2x1, "4:2:2")] {
            let jpeg = oriented(&jpeg(321, 243, subsamp, 11), orientation);
            let texts = ["rs:fit:160:160/q:100", "rs:fill:121:75/g:no/q:85", "rs:force:97:141/q:80"];
            compare(&format!("{name} orientation {orientation}"), &ours, &*theirs, &jpeg, &texts, &mut apart);
        }
    }
    assert!(apart.is_empty(), "{} too far apart: {apart:#?}", apart.len());
}

/// The first Exif segment of a JPEG.
fn exif(jpeg: &[u8]) -> Option<&[u8]> {
    let at = jpeg.windows(6).position(|six| six == b"Exif\0\0")?;
    let len = usize::from(u16::from_be_bytes([jpeg[at - 2], jpeg[at - 1]]));
    jpeg.get(at..at - 2 + len)
}

#[test]
fn whose_picture_it_is_stays_with_it_and_srgb_by_name_changes_nothing() {
    let Some(fakes) = Fakes::new("whose_picture_it_is_stays_with_it_and_srgb_by_name_changes_nothing") else { return };
    let (ours, theirs) = (GpuLane::start(options_of(&fakes)).unwrap(), cpu_lane());
    // A TIFF of one entry: the copyright, of four bytes.
    let tiff = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x82\x98\0\x02\0\0\0\x04me!\0\0\0\0\0";
    let jpeg = with_segment(&photo(1), 0xE1, tiff);
    let texts = ["rs:fit:160:160", "rs:fit:160:160/kcr:0"];
    let Ended::Done(ours_made) = ours.run(&task(&jpeg, &texts)) else { panic!("not done") };
    let theirs_made = theirs.run(task(&jpeg, &texts)).unwrap();
    let [ours_made, theirs_made] =
        [ours_made, theirs_made].map(|done| done.outputs.iter().map(bytes).collect::<Vec<_>>());
    assert!(exif(&ours_made[0]).unwrap().windows(3).any(|three| three == b"me!"));
    assert_eq!(exif(&ours_made[0]), exif(&theirs_made[0]));
    assert_eq!((exif(&ours_made[1]), exif(&theirs_made[1])), (None, None));
    let named = with_profile(&photo(2), &moxcms::ColorProfile::new_srgb());
    let mut apart = Vec::new();
    compare("sRGB by name", &ours, &*theirs, &named, &["rs:fit:160:160/q:100"], &mut apart);
    assert!(apart.is_empty(), "{apart:?}");
}

// What it does not take.

fn with_profile(jpeg: &[u8], profile: &moxcms::ColorProfile) -> Vec<u8> {
    with_segment(jpeg, 0xE2, &[b"ICC_PROFILE\0\x01\x01".as_slice(), &profile.encode().unwrap()].concat())
}

fn four_inks() -> Vec<u8> {
    let pixels: Vec<u8> = (0..160 * 120 * 4).map(|at| (at / 37 % 256) as u8).collect();
    let image = Image { pixels: &pixels[..], width: 160, pitch: 640, height: 120, format: PixelFormat::CMYK };
    Compressor::new().unwrap().compress_to_vec(image).unwrap()
}

#[test]
fn what_is_not_taken_is_told_and_left_to_the_processor() {
    let Some(fakes) = Fakes::new("what_is_not_taken_is_told_and_left_to_the_processor") else { return };
    let lanes = both_lanes(options_of(&fakes));
    let whole = photo(3);
    let progressive = encoded(320, 240, 3, |compressor| compressor.set_progressive(true).unwrap());
    let stored_rgb = encoded(320, 240, 3, |compressor| compressor.set_colorspace(turbojpeg::Colorspace::RGB).unwrap());
    let p3 = with_profile(&whole, &moxcms::ColorProfile::new_display_p3());
    let (cut, endless) = (&whole[..whole.len() / 2], &whole[..whole.len() - 2]);
    let as_jpeg = "rs:fit:100:100/f:jpg";
    // What the head says is known before the GPU is asked; what only its bytes say is found on the way there.
    let cases: [(&str, &[u8], &str, &str); 9] = [
        ("progressive", &progressive, as_jpeg, "progressive"),
        ("four inks", &four_inks(), as_jpeg, "four inks"),
        ("to PNG", &whole, "rs:fit:100:100/f:png", "an output that is no JPEG"),
        ("blurred", &whole, "rs:fit:100:100/bl:2", "colours or canvas"),
        ("padded", &whole, "rs:fit:100:100/pd:5", "colours or canvas"),
        ("Display P3", &p3, as_jpeg, "other colours than sRGB"),
        ("stored as RGB", &stored_rgb, as_jpeg, "stores red, green and blue"),
        ("half of it", cut, as_jpeg, "ends before its picture does"),
        ("without its end", endless, as_jpeg, "ends before its picture does"),
    ];
    for (name, jpeg, text, why) in cases {
        let before = counted(&lanes);
        match lanes.run(task(jpeg, &[text])) {
            Ok(Done { outputs, told, .. }) => {
                assert!(name != "half of it" && outputs.len() == 1, "{name}");
                assert!(told.lane == "cpu" && told.why.contains(why), "{name}: {told:?}");
            }
            Err(fault) => assert_eq!((name, fault.kind), ("half of it", Kind::BadImage), "{fault:?}"),
        }
        let [gpu, cpu, unsuited, lost] = before;
        assert_eq!(counted(&lanes), [gpu, cpu + 1, unsuited + 1, lost], "{name}");
    }
    assert_eq!(gpu_of(&lanes).status().faults, 0, "none of them is a fault");
    assert_eq!(fakes.decoded(), (vec![], 0), "and none was decoded");
    // Beside whole ones, in a batch with them, they are in nobody's way.
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let (lanes, jpeg) = (&lanes, if seed % 2 == 0 { p3.clone() } else { photo(seed) });
            scope.spawn(move || {
                let told = lanes.run(task(&jpeg, &[as_jpeg])).unwrap().told;
                assert_eq!(told.lane, if seed % 2 == 0 { "cpu" } else { "gpu" }, "{told:?}");
            });
        }
    });
}

#[test]
fn what_does_not_fit_at_once_is_made_in_parts_or_by_the_processor() {
    let Some(fakes) = Fakes::new("what_does_not_fit_at_once_is_made_in_parts_or_by_the_processor") else { return };
    fakes.cause(Fault::Memory(19 << 20));
    let lanes = both_lanes(Options { desks: 1, batch_wait: Duration::from_millis(500), ..options_of(&fakes) });
    let facts = gpu_of(&lanes).status().facts.unwrap();
    assert_eq!((facts.memory_bytes, facts.arena_bytes), (19 << 20, (19 << 20) / 3), "a share of what is free");
    let run = |jpeg: &[u8]| {
        let Done { outputs, told, .. } = lanes.run(task(jpeg, &["rs:fit:20:20"])).unwrap();
        assert_eq!(outputs.len(), 1);
        told
    };
    // The planes of one take 1.8 MB, and what is on the way 0.2 MB: three would fit into 6.6, and a fourth does not begin to.
    let some = jpeg(1400, 800, Subsamp::Sub2x2, 5);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(run(&some).lane, "gpu"));
        }
    });
    let (batches, _) = fakes.decoded();
    assert!(batches.iter().sum::<usize>() >= 4 && batches.iter().all(|&images| images < 4), "{batches:?}");
    let told = run(&jpeg(3000, 2000, Subsamp::Sub2x2, 5));
    assert!(told.lane == "cpu" && told.why.contains("than the arena"), "{told:?}");
    assert_eq!(gpu_of(&lanes).status().faults, 0);
}

// Faults.

const THUMBNAIL: &[&str] = &["rs:fit:100:100/q:80"];

#[test]
fn a_fault_of_the_device_costs_no_job() {
    let Some(fakes) = Fakes::new("a_fault_of_the_device_costs_no_job") else { return };
    let lanes = both_lanes(options_of(&fakes));
    assert_eq!(by(&give(&lanes, 4, 4, THUMBNAIL), "gpu"), 4);
    let worker = gpu_of(&lanes).status().worker.unwrap();
    fakes.cause(Fault::Sticky);
    let told = give(&lanes, 40, 12, THUMBNAIL);
    assert!(!fakes.waits(Fault::Sticky), "nobody met it");
    let [gpu, cpu, unsupported, lost] = counted(&lanes);
    assert_eq!((gpu, cpu), (4 + by(&told, "gpu"), by(&told, "cpu")));
    assert!(unsupported == 0 && lost == cpu && lost > 0, "{lost} of {cpu}");
    assert!(told.iter().any(|told| told.why.contains("an illegal memory access was encountered (700)")), "{told:?}");
    until("there is another worker", || gpu_of(&lanes).is_up());
    let status = gpu_of(&lanes).status();
    assert_eq!(status.faults, 1);
    assert!(status.trouble.unwrap().contains("illegal memory access") && status.worker != Some(worker));
    assert!(!PathBuf::from(format!("/proc/{worker}")).exists(), "the broken one must be gone");
    assert_eq!(by(&give(&lanes, 8, 4, THUMBNAIL), "gpu"), 8);
}

#[test]
fn a_decode_that_never_returns_is_ended() {
    let Some(fakes) = Fakes::new("a_decode_that_never_returns_is_ended") else { return };
    let lanes = both_lanes(Options { batch_time_max: Duration::from_secs(5), ..options_of(&fakes) });
    let worker = gpu_of(&lanes).status().worker.unwrap();
    fakes.cause(Fault::Hang);
    let told = give(&lanes, 6, 6, THUMBNAIL);
    assert!(!fakes.waits(Fault::Hang), "nobody met it");
    assert!(
        told.iter().any(|told| told.lane == "cpu" && told.why.contains("a batch took longer than the 5s")),
        "{told:?}"
    );
    until("there is another worker", || gpu_of(&lanes).is_up());
    let status = gpu_of(&lanes).status();
    assert!(status.faults > 0 && status.worker != Some(worker), "{status:?}");
    assert!(!PathBuf::from(format!("/proc/{worker}")).exists(), "the hung one must be gone");
    until("the GPU does jobs again", || by(&give(&lanes, 1, 1, THUMBNAIL), "gpu") == 1);
}

/// What keeps a worker from starting, and what is said of it.
const NO_START: [(Fault, &str); 4] = [
    (Fault::StartFails(999), "the driver does not start: error 999"),
    (Fault::NoDevice, "the driver sees no device"),
    (Fault::Cramped(1 << 20), "out of memory (2)"),
    (Fault::StartHangs, "no answer within"),
];

fn impatient(fakes: &Fakes, fault: Fault) -> Options {
    let start_time_max = Duration::from_secs(if fault == Fault::StartHangs { 4 } else { 120 });
    Options { start_time_max, ..options_of(fakes) }
}

#[test]
fn a_service_that_cannot_start_its_gpu_goes_on_without() {
    for (fault, word) in NO_START {
        let Some(fakes) = Fakes::new("a_service_that_cannot_start_its_gpu_goes_on_without") else { return };
        fakes.cause(fault);
        // Where there is a device there is a lane, which goes on trying.
        let is_absent = matches!(fault, Fault::NoDevice | Fault::StartFails(_));
        let why = match GpuLane::start(impatient(&fakes, fault)) {
            Ok(lane) if !is_absent && !lane.is_up() => lane.status().trouble.unwrap(),
            Err(why) if is_absent => why,
            other => panic!("{fault:?}: {:?}", other.map(|lane| lane.status())),
        };
        assert!(why.contains(word) && !why.contains('\n'), "{fault:?}: {why}");
    }
    let lanes = BothLanes::new(cpu_lane(), None, Route::Gpu, 2);
    let told = lanes.run(task(&photo(1), THUMBNAIL)).unwrap().told;
    assert_eq!((told.lane, told.why.as_str()), ("cpu", "there is no GPU"));
}

#[test]
fn a_device_that_does_not_come_back_is_asked_for_again_after_a_rest() {
    for (fault, word) in NO_START {
        let Some(fakes) = Fakes::new("a_device_that_does_not_come_back_is_asked_for_again_after_a_rest") else {
            return;
        };
        let lanes = both_lanes(impatient(&fakes, fault));
        fakes.cause(fault);
        fakes.cause(Fault::Sticky);
        give(&lanes, 12, 6, THUMBNAIL);
        let troubled = || {
            let status = gpu_of(&lanes).status();
            status.faults > 1 && status.trouble.is_some_and(|trouble| trouble.contains(word))
        };
        until("a start has failed", troubled);
        // Whoever asks now is not kept waiting for a device that may never come.
        let told = give(&lanes, 6, 6, THUMBNAIL);
        assert!(
            told.iter().all(|told| told.lane == "cpu" && told.why == "the GPU lane is down"),
            "{fault:?}: {told:?}"
        );
        fakes.mend(fault);
        until("it is up again", || gpu_of(&lanes).is_up());
        assert_eq!(by(&give(&lanes, 6, 6, THUMBNAIL), "gpu"), 6, "{fault:?}");
        let [gpu, cpu, ..] = counted(&lanes);
        assert_eq!(gpu + cpu, 12 + 6 + 6);
    }
}

#[test]
fn three_faults_give_the_device_a_rest() {
    let Some(fakes) = Fakes::new("three_faults_give_the_device_a_rest") else { return };
    let rest = Duration::from_secs(4);
    let lanes = both_lanes(Options { rest, ..options_of(&fakes) });
    let mut before = Instant::now();
    for faults in 1..=3 {
        until("it is up", || gpu_of(&lanes).is_up());
        fakes.cause(Fault::Sticky);
        before = Instant::now();
        assert_eq!(by(&give(&lanes, 1, 1, THUMBNAIL), "cpu"), 1);
        assert_eq!(gpu_of(&lanes).status().faults, faults);
    }
    assert_eq!(give(&lanes, 1, 1, THUMBNAIL)[0].why, "the GPU lane is down");
    until("it has rested", || gpu_of(&lanes).is_up());
    assert!(before.elapsed() >= rest, "it was started after {:?}", before.elapsed());
    assert_eq!(by(&give(&lanes, 4, 4, THUMBNAIL), "gpu"), 4);
}

// Numbers.

#[test]
fn numbers_add_up() {
    let Some(fakes) = Fakes::new("numbers_add_up") else { return };
    let slow = Duration::from_millis(20);
    fakes.cause(Fault::Slow(slow.as_millis() as u64));
    let lanes = both_lanes(options_of(&fakes));
    let p3 = with_profile(&photo(9), &moxcms::ColorProfile::new_display_p3());
    let timings = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (lanes, timings, p3) = (&lanes, &timings, &p3);
            scope.spawn(move || {
                for round in 0..5 {
                    // One of five is not for the GPU.
                    let jpeg = if round == 2 { p3.clone() } else { photo(thread * 5 + round) };
                    let done = lanes.run(task(&jpeg, THUMBNAIL)).unwrap();
                    if done.told.lane == "gpu" {
                        timings.lock().unwrap().push(done.timings);
                    }
                }
            });
        }
    });
    let timings: Vec<Timings> = timings.into_inner().unwrap();
    assert_eq!(counted(&lanes), [32, 40 - 32, 8, 0]);
    let status = gpu_of(&lanes).status();
    assert_eq!((status.jobs, status.faults, timings.len()), (32, 0, 32), "those that it does not take are in no batch");
    let (batches, hybrid) = fakes.decoded();
    assert_eq!((batches.iter().sum::<usize>(), hybrid), (32, 0), "every picture was decoded once");
    assert!(batches.iter().all(|images| (1..=4).contains(images)), "{batches:?}");
    assert_eq!(status.batches, batches.len() as u64);
    assert!(status.spent[0] >= slow * batches.len() as u32, "{status:?}");
    // Each job is told an even share of its batch.
    let shares: [fn(&Timings) -> Duration; 3] = [|of| of.decode, |of| of.transform, |of| of.encode];
    for (share, spent) in shares.into_iter().zip(status.spent) {
        let told: Duration = timings.iter().map(share).sum();
        assert!(!told.is_zero() && told <= spent, "{told:?} of {spent:?}");
    }
    assert_eq!(gpu_of(&lanes).megapixels(), 0.0);
    // What a fault took is counted as lost, and neither as a batch nor twice.
    fakes.cause(Fault::Sticky);
    let told = give(&lanes, 16, 8, THUMBNAIL);
    until("it is up again", || gpu_of(&lanes).is_up());
    let status = gpu_of(&lanes).status();
    let [gpu, cpu, unsupported, lost] = counted(&lanes);
    assert_eq!((gpu, cpu, unsupported), (32 + by(&told, "gpu"), 8 + by(&told, "cpu"), 8));
    assert_eq!((gpu + cpu, cpu), (56, unsupported + lost));
    assert_eq!((status.jobs, status.faults), (gpu, 1));
    assert_eq!(gpu_of(&lanes).megapixels(), 0.0);
}

// Which lane.

/// A CPU lane that takes its time and makes nothing.
struct StandIn(Duration);

impl Lane for StandIn {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn run(&self, _: Task) -> Result<Done, JobFault> {
        std::thread::sleep(self.0);
        Ok(Done { outputs: Vec::new(), timings: Timings::default(), peak_bytes: 0, told: Told::CPU, share: None })
    }
}

#[test]
fn a_gpu_that_is_slow_for_a_while_is_left_alone_for_a_while() {
    let Some(fakes) = Fakes::new("a_gpu_that_is_slow_for_a_while_is_left_alone_for_a_while") else { return };
    // Twelve jobs at a time wait 240 ms for the processor: more than a sound GPU takes, and far less than a slow one.
    const AT_ONCE: usize = 12;
    let slow = Fault::Slow(1500);
    let gpu = GpuLane::start(options_of(&fakes)).unwrap();
    let lanes = BothLanes::new(Arc::new(StandIn(Duration::from_millis(20))), Some(gpu), Route::Auto, 1);
    let photo = jpeg(800, 600, Subsamp::Sub2x2, 4);
    let (phase, ending) = (AtomicU64::new(0), AtomicBool::new(false));
    // Which jobs ended where, in order, with the phase in which they were given.
    let ended: Mutex<Vec<(u64, &str)>> = Mutex::default();
    let last = |wanted: usize, lane: &str| {
        let ended = ended.lock().unwrap();
        let now = phase.load(Ordering::Relaxed);
        let mut last = ended.iter().rev().filter(|(phase, _)| *phase == now).take(wanted);
        ended.iter().filter(|(phase, _)| *phase == now).count() >= wanted && last.all(|(_, by)| *by == lane)
    };
    let count = |lane: &str| {
        let now = phase.load(Ordering::Relaxed);
        ended.lock().unwrap().iter().filter(|&&one| one == (now, lane)).count()
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while !ending.load(Ordering::Relaxed) {
                    let given = phase.load(Ordering::Relaxed);
                    let told = lanes.run(task(&photo, THUMBNAIL)).unwrap().told;
                    ended.lock().unwrap().push((given, told.lane));
                }
            });
        }
        let end = Ending(&ending);
        until("the GPU is found to be of use", || count("gpu") >= 20);
        fakes.cause(slow);
        phase.store(1, Ordering::Relaxed);
        // As many as the processor does in more than the time of a slow batch, so none of those is under way any more.
        until("work has moved to the processor", || count("gpu") > 0 && last(150, "cpu"));
        fakes.mend(slow);
        phase.store(2, Ordering::Relaxed);
        until("work has moved back", || count("gpu") >= 20);
        drop(end);
    });
    assert_eq!(gpu_of(&lanes).status().faults, 0);
}

/// Ends the threads that give jobs, also where the test fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

// The way of the libraries.

#[test]
fn the_environment_reaches_the_worker() {
    const TEST: &str = "the_environment_reaches_the_worker";
    const INNER: &str = "ANNULUS_GPU_LANE_INNER";
    if std::env::var_os(INNER).is_some() {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_annulus"));
        let lane = GpuLane::start(Options { program, arena_bytes: ARENA_BYTES, ..Options::default() }).unwrap();
        assert_eq!(lane.status().facts.unwrap().name, "a fake of the tests");
        assert!(matches!(lane.run(&task(&photo(1), THUMBNAIL)), Ended::Done(_)));
        return;
    }
    let Some(fakes) = Fakes::new(TEST) else { return };
    let (name, value) = fakes.environment();
    let inner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(name, value)
        .env(INNER, "1")
        .output()
        .unwrap();
    let said: BTreeMap<&str, String> = [("out", &inner.stdout), ("err", &inner.stderr)]
        .into_iter()
        .map(|(name, bytes)| (name, String::from_utf8_lossy(bytes).into_owned()))
        .collect();
    assert!(inner.status.success() && said["out"].contains("1 passed"), "{said:#?}");
}
