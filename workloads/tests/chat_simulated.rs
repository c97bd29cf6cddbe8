//! The chat in a few simulated lives. `make sim` runs many more.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

#[path = "simulated/chat/mod.rs"]
mod chat;
#[path = "simulated/lab.rs"]
mod lab;

const SEEDS: u64 = 60;
/// Of lives that failed once.
const ONCE_FAILED: [u64; 0] = [];

#[test]
fn lives_lose_nothing_that_was_acknowledged_and_tell_everything_once() {
    let mut all = chat::Outcome::default();
    for seed in (0..SEEDS).chain(ONCE_FAILED) {
        all.add(chat::run(seed, &mut None));
    }
    eprintln!("{all:?}");
}
