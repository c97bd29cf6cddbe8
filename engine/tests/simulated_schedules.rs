//! A few thousand random schedules on the simulated kernel. `make sim` runs many more. Not for Miri, which takes
//! minutes for a single one; it runs the simulation's own tests (`driver::sim::tests`).
#![cfg(not(miri))]

mod schedules;

const SEEDS: u64 = 3000;

fn run(seed: u64) -> schedules::Outcome {
    schedules::run(seed, &mut None)
}

#[test]
fn thousands_of_schedules_keep_every_invariant() {
    let outcomes: Vec<_> = (0..SEEDS).map(run).collect();
    let completed: usize = outcomes.iter().map(|outcome| outcome.completed).sum();
    let least = SEEDS as usize;
    assert!(completed > least, "schedules that exchange nothing show nothing: {completed} exchanges completed");
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let runs: Vec<_> = (0..20).map(|seed| (run(seed), run(seed))).collect();
    assert!(runs.iter().all(|(first, second)| first == second));
    assert!(runs.windows(2).all(|pair| pair[0].0.hash != pair[1].0.hash));
}
