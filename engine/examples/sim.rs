//! Runs random schedules on the simulated kernel: `cargo run --release -p annulus-engine --example sim --
//! --seeds 100000 [--start 0]`, or replays one with its trace: `-- --seed 17`.

#[path = "../tests/schedules/mod.rs"]
mod schedules;
#[path = "common/seeds.rs"]
mod seeds;

use std::process::ExitCode;

fn main() -> ExitCode {
    let replay = "cargo run --release -p annulus-engine --example sim --";
    seeds::main(["turns", "exchanges"], replay, |seed, world| {
        let outcome = schedules::run(seed, world);
        [outcome.turns, outcome.completed]
    })
}
