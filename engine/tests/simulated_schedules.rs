//! A few thousand random schedules on the simulated kernel. `make sim` runs many more.

mod schedules;

#[test]
fn thousands_of_schedules_keep_every_invariant() {
    let outcomes: Vec<_> = (0..3000).map(schedules::run).collect();
    let completed: usize = outcomes.iter().map(|outcome| outcome.completed).sum();
    assert!(completed > 3000, "schedules that exchange nothing show nothing: {completed} exchanges completed");
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let runs: Vec<_> = (0..20).map(|seed| (schedules::run(seed), schedules::run(seed))).collect();
    assert!(runs.iter().all(|(first, second)| first == second));
    assert!(runs.windows(2).all(|pair| pair[0].0.hash != pair[1].0.hash));
}
