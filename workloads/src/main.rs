//! The binary: its words go to the front door.

use std::process::ExitCode;

fn main() -> ExitCode {
    annulus::command::main(std::env::args_os().skip(1))
}
