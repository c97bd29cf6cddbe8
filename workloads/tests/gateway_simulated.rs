//! The gateway in a few hundred simulated lives. `make sim` runs many more.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

#[path = "simulated/gateway/mod.rs"]
mod gateway;
#[path = "simulated/lab.rs"]
mod lab;

use std::collections::{BTreeMap, BTreeSet};

const SEEDS: u64 = 300;
/// Of lives that failed once, by these rules or older ones, which made other lives of the same seeds: 4 found that idle clients kept
/// receive buffers; 10134 an answer of which nothing had left when its service broke off, and whose client was told nothing; 163,
/// 3593, 10762, 14080 and 27829 were mistakes of the simulated ends.
const ONCE_FAILED: [u64; 7] = [4, 163, 3593, 10_134, 10_762, 14_080, 27_829];

#[test]
fn hundreds_of_lives_answer_every_request_once() {
    let (mut answers, mut mistaken) = (BTreeMap::<(&str, u16), usize>::new(), 0);
    for seed in (0..SEEDS).chain(ONCE_FAILED) {
        let outcome = gateway::run(seed, &mut None);
        mistaken += outcome.mistaken;
        outcome.answers.into_iter().for_each(|(what, count)| *answers.entry(what).or_default() += count);
    }
    // They have to arrive at the one wrong moment: when the connection has been chosen again.
    assert!(mistaken <= SEEDS as usize / 30, "{mistaken} answers that nobody had asked for");
    // Lives in which little is answered, or nothing fails, show little.
    let paths: BTreeSet<&str> = answers.keys().map(|(path, _)| *path).collect();
    assert_eq!(paths.len(), 8, "{paths:?}");
    for path in paths {
        let good = answers.get(&(path, 200)).copied().unwrap_or(0);
        let bad: usize =
            answers.iter().filter(|((of, status), _)| *of == path && *status != 200).map(|(_, count)| count).sum();
        assert!(good > SEEDS as usize / 2 && bad > 10, "{path}: {good} good, {bad} bad: {answers:?}");
    }
}
