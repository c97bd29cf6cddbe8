//! A few thousand random schedules on the simulated kernel. `make sim` runs many more.

mod schedules;

/// Miri runs some ten thousand times slower.
const SEEDS: u64 = if cfg!(miri) { 1 } else { 3000 };

#[test]
fn thousands_of_schedules_keep_every_invariant() {
    let outcomes: Vec<_> = (0..SEEDS).map(schedules::run).collect();
    let completed: usize = outcomes.iter().map(|outcome| outcome.completed).sum();
    let least = SEEDS as usize;
    assert!(completed > least, "schedules that exchange nothing show nothing: {completed} exchanges completed");
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let seeds = 0..SEEDS.min(20);
    let runs: Vec<_> = seeds.map(|seed| (schedules::run(seed), schedules::run(seed))).collect();
    assert!(runs.iter().all(|(first, second)| first == second));
    assert!(runs.windows(2).all(|pair| pair[0].0.hash != pair[1].0.hash));
}
