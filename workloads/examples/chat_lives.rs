//! Lives of the chat on a simulated kernel and disk, among simulated clients: `cargo run --release -p annulus --example chat_lives
//! -- --seeds 10000 [--start 0] >/dev/null`, or one with its trace: `-- --seed 17`. On standard output are the chat's own lines.

#[path = "../tests/simulated/chat/mod.rs"]
mod chat;
#[path = "../tests/simulated/lab.rs"]
mod lab;
#[path = "../../engine/examples/common/seeds.rs"]
mod seeds;

use std::process::ExitCode;

fn main() -> ExitCode {
    let replay = "cargo run --release -p annulus --example chat_lives --";
    seeds::main(["turns", "acknowledged publications"], replay, |seed, world| {
        let outcome = chat::run(seed, world);
        [outcome.turns, outcome.seen.acknowledged]
    })
}
