//! The command line of annulus-bench.

use annulus_bench::report;
use annulus_bench::scenario::{Settings, smoke, ws_broadcast, ws_echo, ws_idle};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;

/// Open-loop load, honest percentiles, peers side by side.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Scenario {
    /// Echo: processor time per message, and latency at a fixed rate.
    WsEcho,
    /// Broadcast with every socket sending: deliveries per processor second.
    WsBroadcast,
    /// Server memory per idle connection.
    WsIdle {
        /// Which server holds them.
        #[arg(long, value_enum, default_value_t = Idle::Echo)]
        target: Idle,
    },
    /// All scenarios, tiny: do they run?
    Smoke,
}

#[derive(Clone, Copy, ValueEnum, PartialEq)]
enum Idle {
    Echo,
    Chat,
}

#[derive(Args)]
struct Options {
    /// Peers to alternate with: fastwebsockets, tokio-tungstenite, monoio, glommio.
    #[arg(long, global = true, value_delimiter = ',')]
    vs: Vec<String>,
    /// Write the result as JSON to this file.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    /// Exit with 1 when a row misses its target.
    #[arg(long, global = true)]
    check: bool,
    /// Sockets.
    #[arg(long, global = true)]
    sockets: Option<usize>,
    /// Payload bytes.
    #[arg(long, global = true)]
    size: Option<usize>,
    /// Messages per second (default: 60 % of the slower side's saturation).
    #[arg(long, global = true)]
    rate: Option<f64>,
    /// Seconds per round.
    #[arg(long, global = true, default_value_t = 3.0)]
    seconds: f64,
    /// Rounds per side.
    #[arg(long, global = true, default_value_t = 5)]
    rounds: usize,
    /// Messages arrive at random (Poisson) instead of evenly.
    #[arg(long, global = true)]
    poisson: bool,
}

fn main() -> ExitCode {
    let Cli { scenario, options } = Cli::parse();
    if let Err(error) = annulus_engine::raise_file_limit() {
        eprintln!("the limit of open files stays as it is: {error}");
    }
    let settings = Settings {
        peers: options.vs,
        sockets: options.sockets.map(|sockets| sockets.max(1)),
        size: options.size,
        rate: options.rate,
        seconds: options.seconds.max(0.1),
        rounds: options.rounds.max(1),
        poisson: options.poisson,
    };
    // Before the scenario: it pins this thread, and the machine would look as if it had one core.
    let facts = report::facts();
    let rows = match scenario {
        Scenario::WsEcho => ws_echo(&settings),
        Scenario::WsBroadcast => ws_broadcast(&settings),
        Scenario::WsIdle { target } => ws_idle(&settings, target == Idle::Chat),
        Scenario::Smoke => smoke(&settings),
    };
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => {
            eprintln!("annulus-bench: {error}");
            return ExitCode::from(2);
        }
    };
    if let Some(file) = options.json {
        let json = format!("{:#}\n", report::json(&facts, &rows));
        if let Err(error) = std::fs::write(&file, json) {
            eprintln!("annulus-bench: cannot write {}: {error}", file.display());
            return ExitCode::from(2);
        }
    }
    print!("{}", report::text(&facts, &rows));
    let missed = options.check && rows.iter().any(|row| !row.holds());
    ExitCode::from(u8::from(missed))
}
