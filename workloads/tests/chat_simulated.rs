//! The chat in a few simulated lives. `make sim` runs many more.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

#[path = "simulated/chat/mod.rs"]
mod chat;
#[path = "simulated/lab.rs"]
mod lab;

const SEEDS: u64 = 40;
/// Of lives that failed once, all by mistakes of the simulated clients: what they may ask for, and when they may be sent away.
const ONCE_FAILED: [u64; 3] = [1, 3, 22];

#[test]
fn lives_lose_nothing_that_was_acknowledged_and_tell_everything_once() {
    let mut all = chat::Outcome::default();
    for seed in (0..SEEDS).chain(ONCE_FAILED) {
        all.add(chat::run(seed, &mut None));
    }
    // Lives in which little is told, or nothing fails, show little.
    let seen = &all.seen;
    let many = [seen.acknowledged, seen.refused, seen.pushed, seen.recovered, seen.unrecovered, seen.slow, seen.read];
    assert!(many.iter().all(|count| *count > 2 * SEEDS as usize), "{seen:?}");
    // Goodbyes of clients, of the process, and those to clients that break a rule of WebSocket, of size, of the protocol.
    for code in [1000, 3001, 1002, 1009, 3501] {
        assert!(seen.closed.get(&code).is_some_and(|count| *count > SEEDS as usize / 4), "{code}: {seen:?}");
    }
}
