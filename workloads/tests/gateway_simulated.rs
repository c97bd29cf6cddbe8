//! The gateway in a few hundred simulated lives. `make sim` runs many more.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod simulated;

const SEEDS: u64 = 300;
/// Seeds that failed once, each with what it found.
const ONCE_FAILED: [u64; 0] = [];

#[test]
fn hundreds_of_lives_answer_every_request_once() {
    let mut answers = std::collections::BTreeMap::<u16, usize>::new();
    for seed in (0..SEEDS).chain(ONCE_FAILED) {
        let outcome = simulated::run(seed, &mut None);
        outcome.answers.into_iter().for_each(|(status, count)| *answers.entry(status).or_default() += count);
    }
    let good = answers.get(&200).copied().unwrap_or(0);
    assert!(good > SEEDS as usize * 5, "lives in which little is answered show little: {answers:?}");
    assert!(answers.len() >= 4, "services that never fail show little: {answers:?}");
}
