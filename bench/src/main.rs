//! The command line of annulus-bench.

mod options;

use annulus_bench::chat::{self, config::Ack};
use annulus_bench::gateway::{self, Case, config::Upstream, rig::Outside};
use annulus_bench::histogram::percentile_us;
use annulus_bench::image;
use annulus_bench::placement;
use annulus_bench::progress::Lines;
use annulus_bench::record::Record;
use annulus_bench::report::{self, Row};
use annulus_bench::scenario::{Settings, smoke, ws_broadcast, ws_echo, ws_idle};
use annulus_bench::upstreams::{self, behaviour::Behaviour};
use clap::{Args, Parser, Subcommand, ValueEnum};
use options::Common;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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
    /// A gateway in front of the fake services: what it costs, what it adds, and how it bears trouble.
    Gateway(Gateway),
    /// The chat: delivery and acknowledgement, storms, a large room beside a peer, idle clients, kills.
    Chat(Box<Chat>),
    /// Images: processor time, fidelity and memory, beside other libraries.
    Image {
        /// What is measured: the pipeline alone, or the service under overload and kills, or what a neighbour
        /// feels of it.
        #[arg(long, value_enum, default_value_t = Image::Pipeline)]
        case: Image,
        /// Print the owner's case: 50 uploads of 5 MB at once.
        #[arg(long)]
        seed_target: bool,
        /// How often the service is killed.
        #[arg(long, default_value_t = 200)]
        kills: u32,
    },
    /// Fake microservices of a shop, for a gateway to aggregate. Runs until interrupted.
    Upstreams(Box<Upstreams>),
    /// HTTP requests to any server: HTTP/1.1 or HTTP/2, with TLS or without.
    Http(Box<options::Http>),
    /// WebSocket messages to any server.
    Ws(Box<options::Ws>),
    /// All scenarios, tiny: do they run?
    Smoke,
}

#[derive(Args)]
struct Chat {
    /// What is done to it.
    #[arg(long, value_enum, default_value_t = chat::Case::Deliver)]
    case: chat::Case,
    /// Print the owner's case: 10,000 clients in rooms of 100, 250 messages/s, for a minute.
    #[arg(long)]
    seed_target: bool,
    /// Clients; the case's own number if not set.
    #[arg(long)]
    clients: Option<usize>,
    /// Members of a room; the case's own number if not set.
    #[arg(long)]
    room_size: Option<usize>,
    /// When a publish command is answered, in a namespace of that name.
    #[arg(long, value_enum)]
    ack: Option<Ack>,
    /// What channels' names begin with, instead of the namespace of --ack; empty for none.
    #[arg(long)]
    namespace: Option<String>,
    /// Clients sign in with HS256 tokens of this secret.
    #[arg(long)]
    token_secret: Option<String>,
    /// Where the log is; a temporary folder if not set.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Where the server's rows go: the URL of PostgreSQL, or a folder for the embedded database.
    #[arg(long)]
    database: Option<String>,
    /// Milliseconds of processor time that validation takes per message; encrypted besides.
    #[arg(long)]
    work_ms: Option<f64>,
    /// The server's shards; one, or as many as the owner's case allows where there are cores.
    #[arg(long)]
    shards: Option<usize>,
    /// How often it is killed.
    #[arg(long, default_value_t = 200)]
    kills: u32,
}

impl Chat {
    fn run(self, settings: &Settings, seconds: Option<f64>) -> Result<Vec<Row>, String> {
        let asked = chat::Asked {
            clients: self.clients,
            room_size: self.room_size,
            ack: self.ack,
            namespace: self.namespace,
            token_secret: self.token_secret,
            directory: self.directory,
            database: self.database,
            work_ms: self.work_ms,
            shards: self.shards,
            kills: self.kills,
            seconds,
        };
        if self.seed_target { chat::seed_target(settings, asked) } else { chat::run(settings, self.case, asked) }
    }
}

#[derive(Args)]
struct Gateway {
    /// What is done to it: cpu, spike, overload, blackhole, storm, soak, attack, fairness.
    #[arg(long, default_value = "cpu")]
    case: Case,
    /// What it speaks to the services.
    #[arg(long, value_enum, default_value_t = Protocol::H2c)]
    upstream: Protocol,
    /// Services per request, where the case does not mix them: 1 to 10.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u8).range(1..=10))]
    fan_out: u8,
    /// Print the owner's case: 1,000 requests/s with spikes to 5,000 on 4 cores and 1 GB.
    #[arg(long)]
    seed_target: bool,
    /// Measure a gateway that runs already, instead of ours.
    #[arg(long, requires = "pid")]
    at: Option<SocketAddr>,
    /// Its process number.
    #[arg(long)]
    pid: Option<u32>,
    /// The port at which it expects the services.
    #[arg(long)]
    shop_port: Option<u16>,
    /// What to request, instead of the case's own paths.
    #[arg(long)]
    path: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Protocol {
    H2c,
    Http1,
}

impl Gateway {
    fn run(self, settings: &Settings) -> Result<Vec<Row>, String> {
        let outside = self.at.zip(self.pid).map(|(address, pid)| Outside { address, pid });
        let options = gateway::Options {
            case: self.case,
            upstream: match self.upstream {
                Protocol::H2c => Upstream::H2c,
                Protocol::Http1 => Upstream::Http1,
            },
            fan_out: usize::from(self.fan_out),
            outside,
            shop_port: self.shop_port,
            path: self.path,
        };
        if self.seed_target { gateway::seed_target(settings, &options) } else { gateway::run(settings, &options) }
    }
}

#[derive(Args)]
struct Upstreams {
    /// The port of all services; the services' own ports follow it.
    #[arg(long, default_value = "127.0.0.1:9100")]
    listen: SocketAddr,
    /// Shards, one per core.
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// Cores to run on.
    #[arg(long, value_delimiter = ',')]
    pin: Vec<usize>,
    /// The services' own time: 0, fixed:20ms, 100-500ms, lognormal:50ms,400ms.
    #[arg(long, default_value = "100-500ms")]
    latency: String,
    /// Body sizes, log-uniform: 1KB, 1-100KB.
    #[arg(long, default_value = "1-100KB")]
    sizes: String,
    /// Share of requests that are never answered.
    #[arg(long, default_value = "0")]
    stalls: String,
    /// Share turned away unprocessed.
    #[arg(long, default_value = "0")]
    refused: String,
    /// Share broken off in the middle of the body.
    #[arg(long, default_value = "0")]
    resets: String,
    /// Share answered with 500.
    #[arg(long, default_value = "0")]
    errors: String,
    /// Share answered later by --late-by.
    #[arg(long, default_value = "0")]
    late: String,
    /// How much later.
    #[arg(long, default_value = "3s")]
    late_by: String,
    /// Requests after which a connection is retired; 0: never.
    #[arg(long, default_value = "0")]
    goaway_every: String,
    /// What differs for one service: SERVICE:NAME=VALUE,... with the names above. May be repeated.
    #[arg(long = "set", value_name = "SERVICE:NAME=VALUE,...")]
    overrides: Vec<String>,
    /// Makes chances repeatable.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Upstreams {
    fn run(self) -> Result<(), String> {
        let mut behaviour = Behaviour::default();
        let settings = [
            ("latency", self.latency),
            ("sizes", self.sizes),
            ("stalls", self.stalls),
            ("refused", self.refused),
            ("resets", self.resets),
            ("errors", self.errors),
            ("late", self.late),
            ("late_by", self.late_by),
            ("goaway_every", self.goaway_every),
        ];
        settings.iter().try_for_each(|(name, value)| behaviour.set(name, value))?;
        upstreams::run(&upstreams::Options {
            listen: self.listen,
            shards: self.shards,
            pin: self.pin,
            behaviour,
            overrides: self.overrides,
            seed: self.seed,
        })
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Image {
    Pipeline,
    Overload,
    Crash,
    Beside,
}

#[derive(Clone, Copy, ValueEnum, PartialEq)]
enum Idle {
    Echo,
    Chat,
}

#[derive(Args)]
struct Options {
    /// Peers to alternate with; bench/peers/README.md lists them.
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
    /// Seconds per round (default: 3; 60 for the chat's --seed-target).
    #[arg(long, global = true)]
    seconds: Option<f64>,
    /// Rounds per side (default: 5; 1 for http and ws without --compare).
    #[arg(long, global = true)]
    rounds: Option<usize>,
    /// Messages arrive at random (Poisson) instead of evenly.
    #[arg(long, global = true)]
    poisson: bool,
}

/// Seconds per round, where the command line says nothing.
const SECONDS: f64 = 3.0;
/// Rounds per side, where the command line says nothing.
const ROUNDS: usize = 5;
/// Percentiles of the table under a load's rows.
const PERCENTILES: [f64; 7] = [50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 100.0];

fn main() -> ExitCode {
    let Cli { scenario, options } = Cli::parse();
    if let Err(error) = annulus_engine::raise_file_limit() {
        eprintln!("the limit of open files stays as it is: {error}");
    }
    let settings = Settings {
        peers: options.vs.clone(),
        sockets: options.sockets.map(|sockets| sockets.max(1)),
        size: options.size,
        rate: options.rate,
        seconds: options.seconds.unwrap_or(SECONDS).max(0.1),
        rounds: options.rounds.unwrap_or(ROUNDS).max(1),
        poisson: options.poisson,
    };
    // Before the scenario: it pins this thread, and the machine would look as if it had one core.
    placement::cores();
    let facts = report::facts();
    let common = Common {
        rate: options.rate,
        poisson: options.poisson,
        seconds: options.seconds.unwrap_or(SECONDS),
        rounds: options.rounds,
        sockets: options.sockets,
        size: options.size,
    };
    let rows = match scenario {
        Scenario::Http(http) => return load(http.plan(&common), &facts, options),
        Scenario::Ws(ws) => return load(ws.plan(&common), &facts, options),
        Scenario::WsEcho => ws_echo(&settings),
        Scenario::WsBroadcast => ws_broadcast(&settings),
        Scenario::WsIdle { target } => ws_idle(&settings, target == Idle::Chat),
        Scenario::Chat(chat) => chat.run(&settings, options.seconds),
        Scenario::Gateway(gateway) => gateway.run(&settings),
        Scenario::Image { seed_target: true, .. } => image::seed_target(&settings),
        Scenario::Image { case: Image::Pipeline, .. } => image::pipeline(&settings),
        Scenario::Image { case: Image::Overload, .. } => image::overload(&settings),
        Scenario::Image { case: Image::Beside, .. } => image::beside(&settings),
        Scenario::Image { case: Image::Crash, kills, .. } => image::crash(&settings, kills),
        Scenario::Upstreams(upstreams) => {
            return match upstreams.run() {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("annulus-bench: {error}");
                    ExitCode::from(2)
                }
            };
        }
        Scenario::Smoke => smoke(&settings),
    };
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => {
            eprintln!("annulus-bench: {error}");
            return ExitCode::from(2);
        }
    };
    if let Err(code) = write_json(&facts, &rows, options.json.as_deref()) {
        return code;
    }
    print!("{}", report::text(&facts, &rows));
    let missed = options.check && rows.iter().any(|row| !row.holds());
    ExitCode::from(u8::from(missed))
}

fn write_json(facts: &[(&str, String)], rows: &[Row], file: Option<&Path>) -> Result<(), ExitCode> {
    let Some(file) = file else { return Ok(()) };
    let json = format!("{:#}\n", report::json(facts, rows));
    std::fs::write(file, json).map_err(|error| {
        eprintln!("annulus-bench: cannot write {}: {error}", file.display());
        ExitCode::from(2)
    })
}

/// Loads a server as the command line wants it: 2 where that makes no sense, 1 where the run failed.
fn load(
    plan: Result<(annulus_bench::load::Settings, Vec<annulus_bench::load::Target>), String>,
    facts: &[(&'static str, String)],
    options: Options,
) -> ExitCode {
    let (settings, targets) = match plan {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("annulus-bench: {error}");
            return ExitCode::from(2);
        }
    };
    match annulus_bench::load::run(&settings, &targets, &mut Lines) {
        Ok(mut record) => {
            record.facts = facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            finish(record, options)
        }
        Err(error) => {
            eprintln!("annulus-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Shows what a load left.
fn finish(record: Record, options: Options) -> ExitCode {
    let facts: Vec<(&str, String)> = record.facts.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    if let Err(code) = write_json(&facts, &record.rows, options.json.as_deref()) {
        return code;
    }
    print!("{}", report::text(&facts, &record.rows));
    for side in record.sides.iter().filter(|side| !side.rounds.is_empty()) {
        println!(
            "\n{}, us{:>width$}{:>14}",
            side.name,
            "latency",
            "uncorrected",
            width = 24usize.saturating_sub(side.name.len())
        );
        let (latency, uncorrected) = (side.latency(), side.uncorrected());
        for percentile in PERCENTILES {
            let name = if percentile == 100.0 { "max".to_owned() } else { format!("p{percentile}") };
            let cell = |of| match (side.is_honest(), percentile_us(of, percentile)) {
                (false, _) => "refused".to_owned(),
                (true, value) => value.map_or_else(|| "none".to_owned(), |us| format!("{us:.0}")),
            };
            println!("{name:<14}{:>14}{:>14}", cell(&latency), cell(&uncorrected));
        }
    }
    if !record.notes.is_empty() {
        println!();
    }
    record.notes.iter().for_each(|note| println!("{note}"));
    let nothing = record.sides.iter().any(|side| side.rounds.iter().all(|round| round.completed == 0));
    let missed = options.check && record.rows.iter().any(|row| !row.holds());
    ExitCode::from(u8::from(missed || nothing))
}
