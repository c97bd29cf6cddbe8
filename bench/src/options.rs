//! The command line of loads on any server: what clap has read, made into settings.

use annulus_bench::load::conn::Protocol;
use annulus_bench::load::request::{Asked, Requests, read_body, read_urls};
use annulus_bench::load::round::Pace;
use annulus_bench::load::search::Bound;
use annulus_bench::load::server::parse_list;
use annulus_bench::load::tally::Expected;
use annulus_bench::load::tls::Trust;
use annulus_bench::load::url::Url;
use annulus_bench::load::websocket::{Expect, Messages, SIZE_MAX, STAMP_BYTES};
use annulus_bench::load::{Settings, Target, Task};
use annulus_bench::schedule::Spread;
use annulus_bench::schedule::course::{
    Course, SECONDS_MAX, Shape, parse_rate, parse_seconds, parse_spike, parse_steps, read_trace,
};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Most connections and threads that can be asked for.
const CONNECTIONS_MAX: usize = 500_000;
const THREADS_MAX: usize = 64;
const STREAMS_MAX: usize = 100_000;
/// Most rounds.
const ROUNDS_MAX: usize = 10_000;
/// Rounds of a comparison, where the command line says nothing.
const ROUNDS_COMPARED: usize = 5;
/// Connections, where the command line says nothing.
const CONNECTIONS: usize = 64;
/// Bytes of a message, where the command line says nothing.
const SIZE: usize = 32;

/// What loads of HTTP and of WebSockets have in common.
#[derive(Args)]
pub struct Load {
    /// Measure two servers in turn, with the same load, and say how they differ.
    #[arg(long, num_args = 2, value_names = ["URL", "URL"], conflicts_with = "search")]
    compare: Vec<String>,
    /// What the two are called.
    #[arg(long, value_name = "A,B", requires = "compare")]
    names: Option<String>,
    /// As fast as the connections allow (closed loop), instead of at a rate.
    #[arg(long, conflicts_with_all = ["steps", "spike", "trace", "search"])]
    saturate: bool,
    /// One rate after the other: 1000,2000,4000 or 1000,2000,4000:5s.
    #[arg(long, conflicts_with_all = ["spike", "trace", "search"])]
    steps: Option<String>,
    /// Of --rate a multiple for a while: 5x:2s, or 5x:2s@3s to begin after three seconds.
    #[arg(long, conflicts_with_all = ["trace", "search"])]
    spike: Option<String>,
    /// Recorded times: a line for each request, in seconds, and the number of the URL where there are several.
    #[arg(long, value_name = "FILE", conflicts_with = "search")]
    trace: Option<PathBuf>,
    /// The highest rate at which a percentile keeps a bound and fewer than 0.1 % fail: p99:10ms.
    #[arg(long, value_name = "BOUND")]
    search: Option<String>,
    /// Time before each round that is loaded and not counted.
    #[arg(long, default_value = "1s")]
    warm_up: String,
    /// Time behind each round that is loaded and not counted.
    #[arg(long, default_value = "0s")]
    cool_down: String,
    /// How long an answer may take from the time when its request was meant to leave.
    #[arg(long, default_value = "10s")]
    timeout: String,
    /// Connections, all threads together [default: 64].
    #[arg(long)]
    connections: Option<usize>,
    /// Threads of the generator.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Their cores, as 1,3-5; those that the server leaves free if not set.
    #[arg(long, value_name = "LIST")]
    generator_cores: Option<String>,
    /// Do not sleep between requests: exact to a microsecond where the generator has its core to itself.
    #[arg(long)]
    spin: bool,
    /// The server's process; found by its port if it runs here.
    #[arg(long)]
    pid: Vec<u32>,
    /// Sent with each request: 'Name: value'. May be repeated.
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// Trust any certificate.
    #[arg(long, conflicts_with = "cacert")]
    insecure: bool,
    /// Trust the authorities in this PEM file.
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
}

/// HTTP requests.
#[derive(Args)]
pub struct Http {
    /// What is asked for, in turn.
    urls: Vec<String>,
    /// More of them: a line for each, URL or METHOD URL; of the URL everything before its path may be left out.
    #[arg(long = "urls", value_name = "FILE")]
    file: Option<PathBuf>,
    /// GET, or POST where there is a body, if not set.
    #[arg(long)]
    method: Option<String>,
    /// The body of all requests, or @FILE.
    #[arg(long)]
    body: Option<String>,
    /// Statuses that count as answers, as 200,404 [default: 2xx and 3xx].
    #[arg(long)]
    expect: Option<String>,
    /// What is spoken. By itself HTTP/2 where TLS agrees on it, else HTTP/1.1.
    #[arg(long, value_enum, default_value_t = Version::Auto)]
    protocol: Version,
    /// Requests at once on an HTTP/2 connection.
    #[arg(long, default_value_t = 100)]
    streams: usize,
    #[command(flatten)]
    load: Load,
}

/// WebSocket messages.
#[derive(Args)]
pub struct Ws {
    /// Where the sockets go: ws:// or wss://.
    urls: Vec<String>,
    /// What a message is answered with.
    #[arg(long, value_enum, default_value_t = Answer::Echo)]
    expect: Answer,
    /// Binary messages instead of text.
    #[arg(long)]
    binary: bool,
    /// A subprotocol to offer. May be repeated.
    #[arg(long)]
    subprotocol: Vec<String>,
    #[command(flatten)]
    load: Load,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Version {
    Auto,
    Http1,
    Http2,
}

#[derive(Clone, Copy, ValueEnum)]
enum Answer {
    /// The same message.
    Echo,
    /// Any message, the first for the first.
    Any,
    /// Nothing.
    None,
}

/// Options that every scenario has.
pub struct Common {
    /// Per second.
    pub rate: Option<f64>,
    /// At random.
    pub poisson: bool,
    /// Seconds per round.
    pub seconds: f64,
    /// Rounds per side.
    pub rounds: Option<usize>,
    /// Sockets.
    pub sockets: Option<usize>,
    /// Payload bytes.
    pub size: Option<usize>,
}

/// A number between its bounds.
fn within(name: &str, value: usize, least: usize, most: usize) -> Result<usize, String> {
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err(format!("--{name} {value} is not possible: use {least} to {most}"))
    }
}

/// Methods and URLs.
type Urls = Vec<(Option<String>, Url)>;

impl Load {
    fn course(&self, common: &Common, urls: usize) -> Result<Course, String> {
        let time = |name: &str, text: &str| parse_seconds(text).map_err(|error| format!("--{name}: {error}"));
        if !(common.seconds > 0.0 && common.seconds <= SECONDS_MAX) {
            return Err(format!("--seconds {} is not possible: use up to {SECONDS_MAX}", common.seconds));
        }
        let rate = match common.rate {
            Some(rate) => Some(parse_rate(&rate.to_string()).map_err(|error| format!("--rate: {error}"))?),
            None => None,
        };
        let mut seconds = common.seconds;
        let shape = if let Some(text) = &self.steps {
            let steps = parse_steps(text, seconds).map_err(|error| format!("--steps: {error}"))?;
            seconds = steps.iter().map(|step| step.seconds).sum();
            Shape::Steps(steps)
        } else if let Some(text) = &self.spike {
            let base = rate.ok_or("--spike needs --rate, of which it is a multiple")?;
            parse_spike(text, base, seconds).map_err(|error| format!("--spike: {error}"))?
        } else if let Some(file) = &self.trace {
            let (shape, lasts) = read_trace(file, urls)?;
            seconds = lasts;
            shape
        } else {
            Shape::Steady(rate.unwrap_or(0.0))
        };
        let spread = if common.poisson { Spread::Poisson } else { Spread::Constant };
        let (warm_up_s, cool_down_s) = (time("warm-up", &self.warm_up)?, time("cool-down", &self.cool_down)?);
        Ok(Course { shape, spread, warm_up_s, seconds, cool_down_s })
    }

    fn task(&self, common: &Common, urls: usize, is_local: bool) -> Result<Task, String> {
        let course = self.course(common, urls)?;
        if self.saturate && common.rate.is_some() {
            return Err("--saturate and --rate exclude each other: leave one out".to_owned());
        }
        if self.saturate {
            return Ok(Task::Rounds(Pace::Closed(course)));
        }
        if let Some(text) = &self.search {
            let bound = Bound::parse(text).map_err(|error| format!("--search: {error}"))?;
            return Ok(Task::Search(Pace::Open(course), bound));
        }
        let has_rate = course.shape != Shape::Steady(0.0);
        match (has_rate, is_local) {
            (true, _) => Ok(Task::Rounds(Pace::Open(course))),
            (false, true) => Ok(Task::Half(Pace::Open(course))),
            (false, false) => Err("the server is not on this machine, and is not loaded to saturation unasked: give \
                 --rate R, --saturate, or --search p99:10ms"
                .to_owned()),
        }
    }

    fn settings(
        &self,
        common: &Common,
        targets: &[Target],
        protocol: Protocol,
        expected: Expected,
    ) -> Result<Settings, String> {
        let mut is_local = true;
        for target in targets {
            is_local &= target.requests.origin.resolve()?.ip().is_loopback();
        }
        let urls = targets.first().map_or(0, |target| target.requests.all.len());
        let timeout = parse_seconds(&self.timeout).map_err(|error| format!("--timeout: {error}"))?;
        if timeout <= 0.0 {
            return Err("--timeout must be longer than nothing: write 10s".to_owned());
        }
        let connections = self.connections.or(common.sockets).unwrap_or(CONNECTIONS);
        let rounds = common.rounds.unwrap_or(if self.compare.is_empty() { 1 } else { ROUNDS_COMPARED });
        let cores = self.generator_cores.as_deref().map(parse_list).transpose();
        let our_cores = core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
        let trust = match (&self.cacert, self.insecure) {
            (_, true) => Trust::Anybody,
            (Some(file), _) => Trust::File(file.clone()),
            (None, false) => Trust::System,
        };
        Ok(Settings {
            task: self.task(common, urls, is_local)?,
            rounds: within("rounds", rounds, 1, ROUNDS_MAX)?,
            connections: within("connections", connections, 1, CONNECTIONS_MAX)?,
            streams: 1,
            threads: within("threads", self.threads, 1, THREADS_MAX)?,
            cores: cores.map_err(|error| format!("--generator-cores: {error}"))?,
            our_cores,
            timeout: Duration::from_secs_f64(timeout),
            expected,
            protocol,
            trust,
            spin: self.spin,
        })
    }

    /// One target, or the two that are compared.
    fn targets(&self, urls: &Urls, more: &[(Option<String>, String)], asked: &Asked) -> Result<Vec<Target>, String> {
        let sides: Vec<Urls> = if self.compare.is_empty() {
            vec![urls.clone()]
        } else if urls.is_empty() {
            self.compare.iter().map(|text| Ok(vec![(None, Url::parse(text)?)])).collect::<Result<_, String>>()?
        } else {
            return Err("--compare brings its own two URLs: leave the others out".to_owned());
        };
        let names: Vec<String> = match &self.names {
            Some(names) => names.split(',').map(|name| name.trim().to_owned()).collect(),
            None => Vec::new(),
        };
        if self.names.is_some() && (names.len() != sides.len() || names.iter().any(String::is_empty)) {
            return Err(format!("--names must be {} names with a comma between: --names ours,theirs", sides.len()));
        }
        if self.pid.len() > sides.len() {
            return Err(format!("--pid is given {} times for {} server(s)", self.pid.len(), sides.len()));
        }
        let mut targets: Vec<Target> = Vec::with_capacity(sides.len());
        for (index, mut side) in sides.into_iter().enumerate() {
            for (method, text) in more {
                let whole = match (text.starts_with('/'), side.first()) {
                    (true, Some((_, first))) => format!("{}{text}", first.origin),
                    (true, None) => {
                        return Err(format!("{text:?} is a path only: give a URL besides, or write it whole"));
                    }
                    (false, _) => text.clone(),
                };
                side.push((method.clone(), Url::parse(&whole)?));
            }
            let requests = Requests::new(&side, asked)?;
            let name = names.get(index).cloned().unwrap_or_else(|| requests.origin.to_string());
            targets.push(Target { name, requests, pid: self.pid.get(index).copied() });
        }
        if let [first, second] = &mut targets[..]
            && first.name == second.name
        {
            // Two paths of one server: their names must differ.
            let named = |target: &Target| format!("{}{}", target.name, target.requests.all[0].target);
            (first.name, second.name) = (named(first), named(second));
        }
        Ok(targets)
    }
}

fn parse_urls(texts: &[String]) -> Result<Urls, String> {
    texts.iter().map(|text| Ok((None, Url::parse(text)?))).collect()
}

impl Http {
    /// What to do, and to whom.
    ///
    /// # Errors
    /// A sentence: an option's value is wrong.
    pub fn plan(&self, common: &Common) -> Result<(Settings, Vec<Target>), String> {
        let urls = parse_urls(&self.urls)?;
        let more = self.file.as_deref().map(read_urls).transpose()?.unwrap_or_default();
        let body = self.body.as_deref().map(read_body).transpose()?;
        let asked = Asked { method: self.method.clone(), headers: self.load.headers.clone(), body };
        let targets = self.load.targets(&urls, &more, &asked)?;
        if let Some(target) = targets.iter().find(|target| target.requests.origin.scheme.is_websocket()) {
            return Err(format!("{} is a WebSocket: use annulus-bench ws", target.requests.origin));
        }
        let protocol = match self.protocol {
            Version::Auto => Protocol::Auto,
            Version::Http1 => Protocol::Http1,
            Version::Http2 => Protocol::Http2,
        };
        let expected = match &self.expect {
            None => Expected::Good,
            Some(text) => {
                let status = |word: &str| {
                    let status = word.trim().parse::<u16>().ok().filter(|status| (200..=999).contains(status));
                    status.ok_or_else(|| format!("--expect: {word:?} is no status: write 200, or 200,404"))
                };
                Expected::Only(text.split(',').map(status).collect::<Result<_, _>>()?)
            }
        };
        let mut settings = self.load.settings(common, &targets, protocol, expected)?;
        settings.streams = within("streams", self.streams, 1, STREAMS_MAX)?;
        Ok((settings, targets))
    }
}

impl Ws {
    /// What to do, and to whom.
    ///
    /// # Errors
    /// A sentence: an option's value is wrong.
    pub fn plan(&self, common: &Common) -> Result<(Settings, Vec<Target>), String> {
        let urls = parse_urls(&self.urls)?;
        let asked = Asked { headers: self.load.headers.clone(), ..Asked::default() };
        let targets = self.load.targets(&urls, &[], &asked)?;
        if let Some(target) = targets.iter().find(|target| !target.requests.origin.scheme.is_websocket()) {
            return Err(format!(
                "{} is no WebSocket: write ws:// or wss://, or use annulus-bench http",
                target.requests.origin
            ));
        }
        let (expect, least) = match self.expect {
            Answer::Echo => (Expect::Echo, STAMP_BYTES),
            Answer::Any => (Expect::Any, 0),
            Answer::None => (Expect::Nothing, 0),
        };
        let size = within("size", common.size.unwrap_or(SIZE), least, SIZE_MAX)?;
        let messages = Messages { size, is_binary: self.binary, expect, protocols: self.subprotocol.clone() };
        let settings = self.load.settings(common, &targets, Protocol::WebSocket(messages), Expected::Good)?;
        Ok((settings, targets))
    }
}
