//! Runs random schedules on the simulated kernel: `cargo run --release -p annulus-engine --example sim --
//! --seeds 100000 [--start 0]`, or replays one with its trace: `-- --seed 17`.

#[path = "../tests/schedules/mod.rs"]
mod schedules;

use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "usage: sim --seeds COUNT [--start SEED]   runs COUNT schedules, from SEED (default 0)
       sim --seed SEED                    runs one and prints its trace";

struct Arguments {
    seeds: u64,
    start: u64,
    one: Option<u64>,
}

fn arguments() -> Option<Arguments> {
    let mut arguments = Arguments { seeds: 1000, start: 0, one: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let number = words.next()?.parse().ok()?;
        match word.as_str() {
            "--seeds" => arguments.seeds = number,
            "--start" => arguments.start = number,
            "--seed" => arguments.one = Some(number),
            _ => return None,
        }
    }
    Some(arguments)
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if let Some(seed) = arguments.one {
        return replay(seed);
    }
    let (begin, mut turns, mut completed) = (Instant::now(), 0, 0);
    let end = arguments.start.saturating_add(arguments.seeds);
    for seed in arguments.start..end {
        let run = std::panic::catch_unwind(|| schedules::run(seed));
        let Ok(outcome) = run else {
            eprintln!(
                "seed {seed} failed; replay: cargo run --release -p annulus-engine --example sim -- --seed {seed}"
            );
            return ExitCode::FAILURE;
        };
        turns += outcome.turns;
        completed += outcome.completed;
        if (seed + 1 - arguments.start).is_multiple_of(10_000) {
            println!("{} schedules, {:.0} s", seed + 1 - arguments.start, begin.elapsed().as_secs_f64());
        }
    }
    let (count, seconds) = (arguments.seeds, begin.elapsed().as_secs_f64());
    println!(
        "{count} schedules from seed {}: no violation ({turns} turns, {completed} exchanges, {seconds:.1} s)",
        arguments.start
    );
    ExitCode::SUCCESS
}

fn replay(seed: u64) -> ExitCode {
    let mut world = None;
    let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| schedules::run_keeping(seed, &mut world)));
    match run {
        Ok(outcome) => {
            print!("{}", world.map(|world| world.trace_text()).unwrap_or_default());
            println!("seed {seed}: no violation: {outcome:?}");
            ExitCode::SUCCESS
        }
        // The report with its trace was printed where it failed.
        Err(_) => ExitCode::FAILURE,
    }
}
