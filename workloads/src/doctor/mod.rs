//! `annulus doctor`: whether this machine, and the servers that services are to lean on, grant what is needed, and what to do
//! where they do not.
//!
//! Each line is a finding with a verdict: `yes` it is as it should be, `note` it works and somebody should know this, `no` it
//! has to be changed. What is not `yes` says what to do. The exit status is 1 where something has to be changed.
//!
//! | file | looks at |
//! |---|---|
//! | `kernel.rs` | the kernel: its version, io_uring, walls, clocks, huge pages, swapping, profiles |
//! | `grants.rs` | what the process is granted: cores, files, locked memory, memory |
//! | `network.rs` | queues and ports of the kernel's network |
//! | `postgres.rs`, `redis.rs`, `store.rs` | servers |

mod grants;
mod kernel;
mod network;
mod postgres;
mod redis;
mod store;

use std::fmt;
use std::time::Duration;

use annulus_engine::{DriverChoice, Engine, Shard};
use serde_json::json;

pub use self::grants::capacity;
use crate::chat::config::Database;
use crate::chat::store::postgres::CONNECTIONS;
use crate::command::paint::Paint;
use crate::config::Config;
use crate::image::lanes::gpu::GpuLane;
use crate::image::lanes::gpu::settings::{GpuSettings, Mode};
use crate::image::plan::{Gpu, Knobs};
use crate::image::store::S3Settings;
use crate::journal::to_errors;
use crate::postgres::Target;
use crate::process::walls::Walls;
use crate::redis::Settings;

/// How long looking at one server may take.
const LOOK_MAX: Duration = Duration::from_secs(15);

/// How good something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Yes,
    /// It works, and whoever runs it should know this.
    Note,
    /// It has to be changed.
    No,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How good it is.
    pub verdict: Verdict,
    /// What is.
    pub says: String,
    /// What to do about it; empty where nothing is to be done.
    pub remedy: String,
}

impl Finding {
    /// As it should be.
    fn yes(says: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Yes, says: says.into(), remedy: String::new() }
    }

    /// It works, and whoever runs it should know this; and what may be done.
    fn note(says: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Note, says: says.into(), remedy: remedy.into() }
    }

    /// It has to be changed, and how.
    fn no(says: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::No, says: says.into(), remedy: remedy.into() }
    }
}

impl Verdict {
    /// As a line begins.
    fn word(self) -> &'static str {
        match self {
            Verdict::Yes => "yes",
            Verdict::Note => "note",
            Verdict::No => "no",
        }
    }
}

impl Finding {
    /// As a line for eyes, with its remedy below.
    fn painted(&self, paint: Paint) -> String {
        let word = format!("{:>6}", self.verdict.word());
        let word = match self.verdict {
            Verdict::Yes => paint.good(&word),
            Verdict::Note => paint.notable(&word),
            Verdict::No => paint.bad(&word),
        };
        match self.remedy.as_str() {
            "" => format!("{word} {}", self.says),
            remedy => format!("{word} {}\n       {} {remedy}", self.says, paint.bold("Fix:")),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.painted(Paint::PLAIN))
    }
}

/// What was found of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Section {
    title: String,
    findings: Vec<Finding>,
}

/// A server that is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Server {
    /// PostgreSQL at this URL, and how many connections are wanted of it.
    Postgres { target: Box<Result<Target, String>>, connections: usize, what_for: &'static str },
    /// Redis at this URL.
    Redis { settings: Box<Result<Settings, String>> },
    /// A store of objects.
    Store { settings: Box<Result<S3Settings, String>> },
}

impl Server {
    fn redis(url: &str) -> Server {
        Server::Redis { settings: Box::new(Settings::parse(url)) }
    }
}

/// What is to be looked at besides this machine, and what is expected of it.
#[derive(Clone, Debug, Default)]
pub struct Doctor {
    servers: Vec<Server>,
    gpu: GpuSettings,
    knobs: Option<Knobs>,
    driver: DriverChoice,
    walls: Walls,
}

impl Doctor {
    /// Looks at this Redis, too.
    pub fn add_redis(&mut self, url: &str) {
        self.servers.push(Server::redis(url));
    }

    /// And at this PostgreSQL.
    pub fn add_postgres(&mut self, url: &str) {
        self.servers.push(Server::Postgres {
            target: Box::new(Target::parse(url)),
            connections: CONNECTIONS,
            what_for: "a chat's feed with its usual number of connections",
        });
    }

    /// And at this bucket, `https://HOST/BUCKET[/PREFIX]`, with keys from the environment.
    pub fn add_store(&mut self, url: &str) {
        let settings = store::named(url, &|name| std::env::var(name).ok());
        self.servers.push(Server::Store { settings: Box::new(settings) });
    }

    /// And at what a configuration names.
    pub fn add(&mut self, config: &Config) {
        self.gpu = config.image.gpu.clone();
        self.knobs = Some(config.image.knobs.clone());
        (self.driver, self.walls) = (config.driver, config.walls);
        if let Database::Postgres { url, connections, .. } = &config.chat.database {
            let reads = config.chat.channels.reads_database();
            let connections = connections + if reads { crate::chat::store::archive::SESSIONS_MAX } else { 0 };
            let target = Box::new(Target::parse(url.reveal()));
            self.servers.push(Server::Postgres { target, connections, what_for: "the chat" });
        }
        if let Some(broker) = &config.chat.broker {
            self.servers.push(Server::redis(broker.redis.reveal()));
        }
        if let Some(queue) = &config.image.redis {
            self.servers.push(Server::Redis { settings: Box::new(Ok(queue.redis.clone())) });
        }
        if let Some(settings) = config.image.s3.clone() {
            self.servers.push(Server::Store { settings: Box::new(Ok(settings)) });
        }
        if let Some(target) = config.image.audit.clone() {
            let target = Box::new(Ok(target));
            self.servers.push(Server::Postgres { target, connections: 1, what_for: "the account of image jobs" });
        }
    }

    /// Looks, and says what it finds. Whether all is well.
    pub fn run(self) -> bool {
        let paint = Paint::of_output();
        let is_well = self.look(|section| {
            crate::answer!("{}", paint.bold(&section.title));
            section.findings.iter().for_each(|finding| crate::answer!("{}", finding.painted(paint)));
        });
        if !is_well {
            let who = Paint::of_errors().bad("annulus");
            to_errors(format_args!("{who}: something has to be changed: see the lines that begin with \"no\""));
        }
        is_well
    }

    /// The same as one object of JSON.
    pub fn run_for_machines(self) -> bool {
        let mut sections = Vec::new();
        let is_well = self.look(|section| {
            let finding = |finding: &Finding| {
                json!({"verdict": finding.verdict.word(), "says": finding.says, "remedy": finding.remedy})
            };
            let findings: Vec<_> = section.findings.iter().map(finding).collect();
            sections.push(json!({"title": section.title, "findings": findings}));
        });
        crate::answer!("{:#}", json!({"well": is_well, "sections": sections}));
        is_well
    }

    /// Looks at one thing after the other; whether nothing has to be changed.
    fn look(self, mut tell: impl FnMut(&Section)) -> bool {
        let mut is_well = true;
        let mut tell = |title: &str, findings: Vec<Finding>| {
            is_well &= findings.iter().all(|finding| finding.verdict != Verdict::No);
            tell(&Section { title: title.to_owned(), findings });
        };
        let read = |path: &str| std::fs::read_to_string(path).ok();
        tell("kernel", kernel::look(&read, rustix::process::geteuid().is_root()));
        tell("kernel interface", kernel::interface(self.driver));
        tell("walls", kernel::walls(&read, self.walls));
        tell("cores", grants::cores());
        tell("limits", grants::limits(&read));
        tell("network", network::look(&read));
        let gpu = gpu(self.gpu);
        tell("memory", grants::memory(self.knobs.unwrap_or(Knobs::DEFAULT)));
        tell("GPU, for images", vec![gpu]);
        for server in self.servers {
            let title = title(&server);
            tell(&title, look(server));
        }
        is_well
    }
}

/// Whether images can be made on a GPU: starts its worker once.
fn gpu(settings: GpuSettings) -> Finding {
    if settings.mode == Mode::Off {
        return Finding::yes("not used: image.gpu.mode = \"off\"");
    }
    match GpuLane::start(settings.options).and_then(|lane| Gpu::of(&lane)) {
        Ok(gpu) => Finding::yes(gpu.name),
        Err(why) if settings.mode == Mode::Required => {
            Finding::no(why, "image.gpu.mode = \"required\": install what is missing, or choose \"auto\"")
        }
        Err(why) => Finding::note(
            why,
            "none is needed: the CPU makes all images. For one: NVIDIA's driver, and libnvjpeg.so.13 or .12",
        ),
    }
}

/// A server's name, without what is secret.
fn title(server: &Server) -> String {
    match server {
        Server::Postgres { target, what_for, .. } => match &**target {
            Ok(target) => format!("PostgreSQL at {target}, for {what_for}"),
            Err(_) => format!("PostgreSQL for {what_for}"),
        },
        Server::Redis { settings } => match &**settings {
            Ok(settings) => format!("Redis at {}", settings.shown()),
            Err(_) => "Redis".to_owned(),
        },
        Server::Store { settings } => match &**settings {
            Ok(settings) => format!("bucket {:?} of an S3-compatible store", settings.bucket),
            Err(_) => "an S3-compatible store".to_owned(),
        },
    }
}

/// Looks at a server.
fn look(server: Server) -> Vec<Finding> {
    let wrong_url = |error: String| vec![Finding::no(error, "correct the URL")];
    match server {
        Server::Postgres { target, connections, .. } => match *target {
            Ok(target) => on_shard(move |shard| {
                let target = target.clone();
                async move { postgres::look(&shard, &target, connections).await }
            }),
            Err(error) => wrong_url(error),
        },
        Server::Redis { settings } => match *settings {
            Ok(settings) => on_shard(move |shard| {
                let settings = settings.clone();
                async move { redis::look(&shard, &settings).await }
            }),
            Err(error) => wrong_url(error),
        },
        Server::Store { settings } => match *settings {
            Ok(settings) => store::look(settings),
            Err(error) => wrong_url(error),
        },
    }
}

/// Runs that on a shard of its own.
fn on_shard<F: Future<Output = Vec<Finding>> + 'static>(
    look: impl Fn(Shard) -> F + Send + Sync + 'static,
) -> Vec<Finding> {
    let running = Engine::builder().shards(1).compute(0).oversubscribed().start(look);
    let ended = running.map_err(|error| error.to_string()).and_then(|running| {
        let shards = running.wait().map_err(|error| error.to_string())?;
        Ok(shards.into_iter().flatten().collect())
    });
    ended.unwrap_or_else(|error| {
        vec![Finding::no(
            format!("it cannot be looked at from here: {error}"),
            "see the lines about this machine above",
        )]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_with_its_remedy_below() {
        assert_eq!(Finding::yes("it is there").to_string(), "   yes it is there");
        assert_eq!(Finding::no("it is gone", "start it").to_string(), "    no it is gone\n       Fix: start it");
        assert_eq!(Finding::note("it is old", "renew it").to_string(), "  note it is old\n       Fix: renew it");
    }

    #[test]
    fn no_title_shows_a_password() {
        let target = Box::new(Target::parse("postgres://a:secret@b/c"));
        let server = Server::Postgres { target, connections: 1, what_for: "the chat" };
        assert_eq!(title(&server), "PostgreSQL at postgres://a@b:5432/c, for the chat");
    }
}
