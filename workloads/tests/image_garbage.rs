//! What strangers upload: bombs, halves, impostors, and thousands of damaged files of every format. Each is answered in
//! words or made, the server stays, and so does its memory.
//!
//! `ANNULUS_MUTATIONS=10000` asks for so many damaged files instead of a few hundred.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod image_rig;

use std::sync::atomic::{AtomicUsize, Ordering};

use image_rig::{Service, files, jpeg, noise};

/// Damaged files where nobody asks for more.
const MUTATIONS: usize = 400;
const CLIENTS: usize = 4;
/// Resident bytes that the server itself may grow by; workers are processes of their own.
const GROWTH_MAX: u64 = 64 << 20;

/// A baseline or progressive JPEG's head that promises so many pixels, and rubbish behind it.
fn promising(marker: u8, width: u16, height: u16, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xFF, 0xD8, 0xFF, marker, 0, 17, 8];
    bytes.extend(height.to_be_bytes());
    bytes.extend(width.to_be_bytes());
    bytes.extend([3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1]);
    bytes.extend([0xFF, 0xDA, 0, 12, 3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0]);
    bytes.resize(len, 0x55);
    bytes
}

/// A PNG's head that promises so many pixels; what follows is nothing.
fn png_bomb(side: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    bytes.extend(side.to_be_bytes());
    bytes.extend(side.to_be_bytes());
    bytes.extend([8, 2, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(b"\0\0\x10\0IDAT");
    bytes.resize(5000, 0);
    bytes
}

fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn bombs_halves_and_impostors_are_told_apart_by_their_heads() {
    let service = Service::start("");
    service.post("", "", &promising(0xC2, 16_000, 16_000, 1_500_000)).is_problem(413, "progressive_pixels_max");
    service.post("", "", &promising(0xC0, 30_000, 30_000, 100_000)).is_problem(413, "pixels_max");
    service.post("", "", &png_bomb(12_000)).is_problem(413, "pixels_per_byte_max");
    service.post("", "", b"").is_problem(422, "empty");
    service.post("", "", &[0; 4096]).is_problem(422, "no image");
    service
        .post("", "", b"MZ\x90\0This is a program that calls itself photo.jpg, and hopes that names are believed here.")
        .is_problem(415, "program");
    let photo = jpeg(800, 600, 1);
    // Cut off within the picture: its head is fine, so it is a job that fails, and says why.
    let half = service.post("", "Prefer: wait=20\r\n", &photo[..photo.len() / 2]);
    assert_eq!((half.status, &half.json()["state"]), (200, &"failed".into()), "{half:?}");
    assert!(half.json()["error"]["detail"].as_str().unwrap().contains("cut off"), "{half:?}");
    // A picture is what its bytes are, whatever follows them: an archive behind it goes no further.
    let both = [&photo[..], b"PK\x03\x04 and an archive with a script <script>alert(1)</script>"].concat();
    let made = service.post("", "Prefer: wait=20\r\n", &both);
    assert_eq!((made.status, &made.json()["state"]), (200, &"done".into()), "{made:?}");
    for output in made.json()["outputs"].as_array().unwrap() {
        let image = service.get(output["url"].as_str().unwrap());
        assert!(image.body.starts_with(&[0xFF, 0xD8, 0xFF]) && !image.text().contains("script"));
    }
    assert_eq!(files(&service.folder.join("data"), "original").len(), 2, "what was refused is not kept");
    service.stop();
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }
}

/// A few bytes changed, dropped or repeated, or the end cut off; anywhere, the head included.
fn damaged(file: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][random.below(5)],
            1 => bytes[at] ^= 1 << random.below(8),
            2 => drop(bytes.drain(at..(at + 1 + random.below(20)).min(bytes.len()))),
            3 => drop(bytes.splice(at..at, std::iter::repeat_n(random.below(256) as u8, 1 + random.below(20)))),
            _ if random.below(4) == 0 => bytes.truncate(at + 1),
            _ => bytes[at] = random.below(256) as u8,
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
    bytes
}

/// One picture in every format that is taken, made by the service itself; and noise, whose codes are long.
fn originals(service: &Service) -> Vec<Vec<u8>> {
    let asked: Vec<String> =
        ["jpeg", "png", "webp", "avif"].map(|format| format!("ops=rs:fit:96:96/f:{format}")).into();
    let made = service.post(&format!("?{}", asked.join("&")), "Prefer: wait=20\r\n", &jpeg(300, 200, 5));
    assert_eq!(made.json()["state"], "done", "{made:?}");
    let outputs = made.json()["outputs"].as_array().unwrap().clone();
    let mut originals: Vec<Vec<u8>> =
        outputs.iter().map(|output| service.get(output["url"].as_str().unwrap()).body).collect();
    assert_eq!(originals.len(), 4);
    originals.push(noise(120, 90));
    originals.push(b"GIF89a\x02\0\x02\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x02\0\x02\0\0\x02\x03D\x02\x05\0;".to_vec());
    originals
}

#[test]
fn damaged_files_are_made_or_refused_and_the_server_stays() {
    let service = Service::start("");
    let originals = originals(&service);
    let mutations = std::env::var("ANNULUS_MUTATIONS").map_or(MUTATIONS, |number| number.parse().unwrap());
    let before = resident(service.process.id());
    let (next, made, failed, refused) =
        (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= mutations {
                        return;
                    }
                    let mut random = Random(number as u64);
                    let file = damaged(&originals[number % originals.len()], &mut random);
                    let answer = service.post("?preset=thumbnail", "Prefer: wait=60\r\n", &file);
                    let count = match answer.status {
                        200 if answer.json()["state"] == "done" => &made,
                        200 => {
                            let document = answer.json();
                            assert_eq!(document["state"], "failed", "{number}: {document}");
                            assert!(!document["error"]["detail"].as_str().unwrap().is_empty(), "{number}: {document}");
                            &failed
                        }
                        400..500 => {
                            answer.is_problem(answer.status, "");
                            &refused
                        }
                        _ => panic!("{number}: {answer:?}"),
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let [made, failed, refused] = [made, failed, refused].map(AtomicUsize::into_inner);
    println!("of {mutations} damaged files {made} were made, {failed} failed, {refused} were refused");
    assert_eq!(made + failed + refused, mutations);
    assert!(made > 0 && failed > 0 && refused > 0, "{made} {failed} {refused}");
    let after = resident(service.process.id());
    assert!(after < before + GROWTH_MAX, "{} MB more", (after - before) >> 20);
    assert_eq!(service.get("/v1/dead").json()["jobs"].as_array().unwrap().len(), 0);
    assert!(!service.log.lock().unwrap().contains("panic"));
    let last = service.post("", "Prefer: wait=20\r\n", &jpeg(640, 480, 77));
    assert_eq!(last.json()["state"], "done", "{last:?}");
    service.stop();
}
