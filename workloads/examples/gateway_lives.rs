//! Lives of the gateway on a simulated kernel, between simulated clients and services: `cargo run --release -p annulus
//! --example gateway_lives -- --seeds 100000 [--start 0] >/dev/null`, or one with its trace: `-- --seed 17`. On standard output are the
//! gateway's own lines.

#[path = "../tests/simulated/gateway/mod.rs"]
mod gateway;
#[path = "../tests/simulated/lab.rs"]
mod lab;
#[path = "../../engine/examples/common/seeds.rs"]
mod seeds;

use std::process::ExitCode;

fn main() -> ExitCode {
    let replay = "cargo run --release -p annulus --example gateway_lives --";
    seeds::main(["turns", "answers"], replay, |seed, world| {
        let outcome = gateway::run(seed, world);
        [outcome.turns, outcome.answers.values().sum()]
    })
}
