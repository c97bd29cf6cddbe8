//! The profiler as a program of its own: `annulus-perf` is what `annulus perf` is.

use std::process::ExitCode;

fn main() -> ExitCode {
    annulus_perf::command::main(std::env::args().skip(1).collect())
}
