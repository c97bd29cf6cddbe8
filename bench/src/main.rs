//! The command line of annulus-bench.

mod options;

use annulus_bench::chat::{self, config::Ack};
use annulus_bench::drivers;
use annulus_bench::faults;
use annulus_bench::gateway::{self, Case, config::Upstream, rig::Outside};
use annulus_bench::image;
use annulus_bench::janitor;
use annulus_bench::live::Live;
use annulus_bench::placement;
use annulus_bench::process;
use annulus_bench::record::Record;
use annulus_bench::report;
use annulus_bench::scenario::{Settings, ws_broadcast, ws_echo, ws_idle};
use annulus_bench::smoke;
use annulus_bench::soak;
use annulus_bench::suite;
use annulus_bench::upstreams::{self, behaviour::Behaviour};
use clap::{Args, Parser, Subcommand, ValueEnum};
use options::Common;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

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
        /// So many nodes on one Redis and one S3 server: what each adds, or with --case crash what a killed one costs.
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=16))]
        nodes: Option<u8>,
    },
    /// Fake microservices of a shop, for a gateway to aggregate. Runs until interrupted.
    Upstreams(Box<Upstreams>),
    /// Attacks on all services, each with the promise that bounds it; exits with 1 when one is broken.
    Attacks {
        /// Words of services' and attacks' names; all attacks if not set. May be repeated.
        #[arg(long)]
        only: Vec<String>,
    },
    /// HTTP requests to any server: HTTP/1.1 or HTTP/2, with TLS or without.
    Http(Box<options::Http>),
    /// WebSocket messages to any server.
    Ws(Box<options::Ws>),
    /// Shows results again that were written as JSON, several of them as one: report a.json b.json --html both.html
    Report {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// The owner's three cases, and one table of what passes.
    Seeds,
    /// A short version of everything, into a folder of results.
    Suite {
        /// Where the day's folder is made.
        #[arg(long, default_value = "bench/results")]
        folder: PathBuf,
    },
    /// Real faults done to real processes, and what becomes of every promise: kills, pauses, cuts, full disks and others.
    /// Exits with 1 when a promise is broken.
    Faults {
        /// Those whose names contain this. May be repeated.
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
        /// Their names and what they do, and nothing is done.
        #[arg(long)]
        list: bool,
        /// Write the table to this file, too.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// All three services under mixed load for long: whether memory, descriptors, latencies, logs or queues grow. Exits
    /// with 1 when something does or failed, and with 3 when the time was too short to tell.
    Soak {
        /// For so long.
        #[arg(long, default_value_t = 60.0)]
        minutes: f64,
        /// Seconds from one sample to the next.
        #[arg(long, default_value_t = 10.0)]
        every: f64,
        /// Written anew after each sample; the samples themselves go beside it.
        #[arg(long, value_name = "FILE", default_value = "target/soak.txt")]
        out: PathBuf,
    },
    /// What an operation costs on io_uring and on epoll: echo, a room of the chat, the gateway.
    Drivers,
    /// All scenarios, tiny: do they run?
    Smoke,
    /// Clears away what a run leaves that is ended in the middle; such a run starts it by itself.
    #[command(name = janitor::COMMAND, hide = true)]
    Janitor,
}

impl Scenario {
    /// Whether it starts processes, or makes something outside of its own.
    fn makes_things(&self) -> bool {
        !matches!(
            self,
            Scenario::Janitor | Scenario::Upstreams(_) | Scenario::Report { .. } | Scenario::Faults { list: true, .. }
        )
    }
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
    /// So many nodes on one Redis: what each adds, or with --case crash what a killed one costs.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=16))]
    nodes: Option<u8>,
    /// With --case crash and --nodes: Redis is killed, with its append-only file synced always, and not a node.
    #[arg(long, requires = "nodes")]
    kill_redis: bool,
}

impl Chat {
    fn run(self, settings: &Settings, seconds: Option<f64>) -> Result<Record, String> {
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
            nodes: self.nodes.map(usize::from),
            kills_redis: self.kill_redis,
        };
        if self.seed_target { chat::seed_target(settings, asked) } else { chat::run(settings, self.case, asked) }
    }
}

#[derive(Args)]
struct Gateway {
    /// What is done to it: cpu, spike, overload, blackhole, storm, soak, attack, fairness, kept, hedged.
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
    fn run(self, settings: &Settings) -> Result<Record, String> {
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
    Variants,
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
    /// Write the result as JSON to this file; `annulus-bench report FILE` shows it again.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    /// Write the result as one page with plots to this file.
    #[arg(long, global = true)]
    html: Option<PathBuf>,
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
/// Why there is no result: the exit code, and a sentence.
struct Failed(u8, String);

/// Asked for something that makes no sense.
const WRONG: u8 = 2;
/// The run failed, or a target was missed with `--check`.
const MISSED: u8 = 1;
/// Nothing was wrong, but the run was too short to tell.
const UNTOLD: u8 = 3;

impl From<String> for Failed {
    fn from(sentence: String) -> Failed {
        Failed(WRONG, sentence)
    }
}

fn main() -> ExitCode {
    let Cli { scenario, options } = Cli::parse();
    match run(scenario, &options) {
        Ok(code) => ExitCode::from(code),
        Err(Failed(code, sentence)) => {
            eprintln!("annulus-bench: {sentence}");
            ExitCode::from(code)
        }
    }
}

fn run(scenario: Scenario, options: &Options) -> Result<u8, Failed> {
    if matches!(scenario, Scenario::Janitor) {
        janitor::work(std::io::stdin().lock());
        return Ok(0);
    }
    if scenario.makes_things() {
        janitor::hire()?;
    }
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
    let mut facts: Vec<(String, String)> =
        report::facts().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    for peer in &options.vs {
        facts.push((peer.clone(), process::versions(peer)?));
    }
    let common = Common {
        rate: options.rate,
        poisson: options.poisson,
        seconds: options.seconds.unwrap_or(SECONDS),
        rounds: options.rounds,
        sockets: options.sockets,
        size: options.size,
    };
    let (title, record) = match scenario {
        Scenario::Http(http) => return load(http.plan(&common)?, facts, options),
        Scenario::Ws(ws) => return load(ws.plan(&common)?, facts, options),
        Scenario::Report { files } => return report_of(&files, options),
        Scenario::Seeds => return seeds(facts, options),
        Scenario::Attacks { only } => return attacks(only, settings.seconds, facts, options),
        Scenario::Suite { folder } => {
            println!("written to {}", suite::run(&folder)?.display());
            return Ok(0);
        }
        Scenario::Upstreams(upstreams) => return upstreams.run().map(|()| 0).map_err(Failed::from),
        Scenario::WsEcho => ("WebSocket echo", ws_echo(&settings)?),
        Scenario::WsBroadcast => ("WebSocket broadcast", ws_broadcast(&settings)?.into()),
        Scenario::WsIdle { target } => ("Memory of idle WebSockets", ws_idle(&settings, target == Idle::Chat)?.into()),
        Scenario::Chat(chat) => ("Chat", chat.run(&settings, options.seconds)?),
        Scenario::Gateway(gateway) => ("Gateway", gateway.run(&settings)?),
        Scenario::Image { seed_target: true, .. } => {
            ("Images: the owner's case", image::seed_target(&settings)?.into())
        }
        Scenario::Image { case: Image::Crash, nodes: Some(nodes), kills, .. } => {
            ("Images: kills in a fleet", image::fleet_crash(&settings, nodes.into(), kills)?.into())
        }
        Scenario::Image { nodes: Some(nodes), .. } => {
            ("Images: a fleet", image::scaling(&settings, nodes.into())?.into())
        }
        Scenario::Image { case: Image::Pipeline, .. } => {
            ("Images: the pipeline alone", image::pipeline(&settings)?.into())
        }
        Scenario::Image { case: Image::Overload, .. } => ("Images: overload", image::overload(&settings)?.into()),
        Scenario::Image { case: Image::Beside, .. } => ("Images: a neighbour", image::beside(&settings)?.into()),
        Scenario::Image { case: Image::Variants, .. } => ("Images: variants", image::variants(&settings)?.into()),
        Scenario::Image { case: Image::Crash, kills, .. } => ("Images: kills", image::crash(&settings, kills)?.into()),
        Scenario::Faults { list: true, .. } => {
            faults::FAULTS.iter().for_each(|fault| println!("{:<24} {}", fault.name, fault.what));
            return Ok(0);
        }
        Scenario::Faults { only, out, .. } => {
            return Ok(if faults::run(&only, out.as_deref())? { 0 } else { MISSED });
        }
        Scenario::Soak { minutes, every, out } => {
            let time = Duration::from_secs_f64(minutes.clamp(0.5, 10_000.0) * 60.0);
            let every = Duration::from_secs_f64(every.clamp(1.0, 600.0));
            return Ok(match soak::run(&soak::Options { time, every, out })? {
                soak::Outcome::Good => 0,
                soak::Outcome::Bad => MISSED,
                soak::Outcome::CannotTell => UNTOLD,
            });
        }
        Scenario::Drivers => ("io_uring and epoll", drivers::run(&settings)?.into()),
        Scenario::Smoke => ("Everything, tiny", smoke::smoke(&settings)?.into()),
        Scenario::Janitor => return Ok(0),
    };
    finish(&Record { title: title.to_owned(), facts, ..record }, options)
}

/// Loads a server of anybody's.
fn load(
    (settings, targets): (annulus_bench::load::Settings, Vec<annulus_bench::load::Target>),
    facts: Vec<(String, String)>,
    options: &Options,
) -> Result<u8, Failed> {
    let record = annulus_bench::load::run(&settings, &targets, &mut Live::stderr());
    let record = Record { facts, ..record.map_err(|error| Failed(MISSED, error))? };
    let nothing = record.sides.iter().any(|side| side.rounds.iter().all(|round| round.completed == 0));
    Ok(finish(&record, options)?.max(if nothing { MISSED } else { 0 }))
}

/// Shows earlier results again, several of them as one.
fn report_of(files: &[PathBuf], options: &Options) -> Result<u8, Failed> {
    let read = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let record = report::json::read(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        let name = file.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok::<_, String>((name, record))
    };
    let records = files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    finish(&report::json::overlay(records), options)
}

/// The owner's cases.
fn seeds(facts: Vec<(String, String)>, options: &Options) -> Result<u8, Failed> {
    let (lines, _records) = annulus_bench::seeds::run(options.seconds);
    for (name, value) in &facts {
        println!("{name:<8} {value}");
    }
    print!("{}", report::seeds::text(&lines));
    if let Some(file) = &options.html {
        write(file, &report::seeds::html(&facts, &lines))?;
    }
    Ok(u8::from(options.check && !report::seeds::all_pass(&lines)))
}

/// Attacks, and a table of what held.
fn attacks(only: Vec<String>, seconds: f64, facts: Vec<(String, String)>, options: &Options) -> Result<u8, Failed> {
    let choice = annulus_bench::attacks::Choice { only, seconds };
    let findings = annulus_bench::attacks::run(&choice).map_err(|error| Failed(MISSED, error))?;
    for (name, value) in &facts {
        println!("{name:<8} {value}");
    }
    print!("{}", findings.text);
    into_files(&Record { title: "Attacks".to_owned(), facts, ..findings.record }, options)?;
    Ok(if findings.broken > 0 { MISSED } else { 0 })
}

/// Shows a record: on the terminal, and in the files that were asked for.
fn finish(record: &Record, options: &Options) -> Result<u8, Failed> {
    into_files(record, options)?;
    print!("{}", report::text::summary(record));
    Ok(u8::from(options.check && record.rows.iter().any(|row| !row.holds())))
}

/// Writes a record to the files that were asked for.
fn into_files(record: &Record, options: &Options) -> Result<(), Failed> {
    if let Some(file) = &options.json {
        write(file, &report::json::write(record))?;
    }
    if let Some(file) = &options.html {
        write(file, &report::html::page(record))?;
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<(), Failed> {
    std::fs::write(file, text).map_err(|error| Failed(WRONG, format!("cannot write {}: {error}", file.display())))
}
