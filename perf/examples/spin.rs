//! A program to be profiled: two functions share a thread's time 70 to 30, and a second thread has one for itself.
//!
//! `spin SECONDS`; with `later`, the second thread begins half way; with `die`, it aborts at the end; with `child`, a
//! child process spins instead, with `late` after a while; with `deep`, below more stack than a sample carries away.

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

/// Rounds of a loop between two looks at the clock.
const ROUNDS: u64 = 20_000;
/// Bytes of a frame, and frames: together more than a sample has.
const FRAME_BYTES: usize = 1 << 10;
const FRAMES: u32 = 64;

#[inline(never)]
fn rounds(count: u64) -> u64 {
    let mut sum = 0_u64;
    for at in 0..count * ROUNDS {
        sum = black_box(sum.wrapping_add(at));
    }
    sum
}

#[inline(never)]
fn seven_parts() -> u64 {
    black_box(rounds(7)) + 1
}

#[inline(never)]
fn three_parts() -> u64 {
    black_box(rounds(3)) + 1
}

#[inline(never)]
fn alone() -> u64 {
    black_box(rounds(5)) + 1
}

#[inline(never)]
fn both(end: Instant) {
    while Instant::now() < end {
        black_box(seven_parts());
        black_box(three_parts());
    }
}

#[inline(never)]
fn deep(level: u32, end: Instant) -> u8 {
    let frame = black_box([level as u8; FRAME_BYTES]);
    if level == 0 {
        both(end);
        return frame[0];
    }
    deep(level - 1, end).wrapping_add(black_box(frame)[1])
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|given| given == word);
    let seconds = words.first().and_then(|word| word.parse().ok()).expect("spin SECONDS");
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    if has("child") {
        std::thread::sleep(Duration::from_secs_f64(if has("late") { seconds / 4.0 } else { 0.0 }));
        let program = std::env::current_exe().expect("it was started from a file");
        let status = Command::new(program).arg(&words[0]).status().expect("a program can start itself");
        assert!(status.success());
        return;
    }
    let pause = if has("later") { seconds / 2.0 } else { 0.0 };
    let second = std::thread::Builder::new().name("second".into()).spawn(move || {
        std::thread::sleep(Duration::from_secs_f64(pause));
        while Instant::now() < end {
            black_box(alone());
        }
    });
    if has("deep") {
        black_box(deep(FRAMES, end));
    } else {
        both(end);
    }
    second.expect("there is memory for a thread").join().expect("it does not panic");
    if has("die") {
        std::process::abort();
    }
}
