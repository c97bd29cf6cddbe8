//! The command line of a program that runs simulated lives: many, or one with its trace.

use std::process::ExitCode;
use std::time::Instant;

use annulus_engine::driver::sim::World;

/// What a life did, in numbers that add up.
pub type Sums = [usize; 2];

/// Runs what the command line says. `run` keeps its world where it is told, and panics with a report when something is not as
/// it should be; `what` are the names of its numbers, `replay` is the command for one seed.
pub fn main(what: [&str; 2], replay: &str, run: fn(u64, &mut Option<World>) -> Sums) -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("usage: --seeds COUNT [--start SEED]   runs COUNT lives, from SEED (default 0)");
        eprintln!("       --seed SEED                    runs one and prints its trace");
        return ExitCode::from(2);
    };
    if let Some(seed) = arguments.one {
        return replayed(seed, run);
    }
    let (begin, mut sums) = (Instant::now(), Sums::default());
    let end = arguments.start.saturating_add(arguments.seeds);
    for seed in arguments.start..end {
        let Ok(numbers) = std::panic::catch_unwind(|| run(seed, &mut None)) else {
            eprintln!("seed {seed} failed; replay: {replay} --seed {seed}");
            return ExitCode::FAILURE;
        };
        sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
        if (seed + 1 - arguments.start).is_multiple_of(10_000) {
            eprintln!("{} lives, {:.0} s", seed + 1 - arguments.start, begin.elapsed().as_secs_f64());
        }
    }
    let (count, seconds) = (arguments.seeds, begin.elapsed().as_secs_f64());
    let ([first, second], [one, other]) = (what, sums);
    eprintln!(
        "{count} lives from seed {}: no violation ({one} {first}, {other} {second}, {seconds:.1} s)",
        arguments.start
    );
    ExitCode::SUCCESS
}

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

fn replayed(seed: u64, run: fn(u64, &mut Option<World>) -> Sums) -> ExitCode {
    let mut world = None;
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, &mut world)));
    match outcome {
        Ok(numbers) => {
            eprint!("{}", world.map(|world| world.trace_text()).unwrap_or_default());
            eprintln!("seed {seed}: no violation: {numbers:?}");
            ExitCode::SUCCESS
        }
        // The report with its trace was printed where it failed.
        Err(_) => ExitCode::FAILURE,
    }
}
