//! `annulus doctor`: whether this machine, and the servers that services are to lean on, grant what is needed, and what to do
//! where they do not.
//!
//! ```text
//! annulus doctor [--config FILE] [--redis URL]... [--postgres URL]...
//! ```
//!
//! Each line is a finding with a verdict: `yes` it is as it should be, `note` it works and somebody should know this, `no` it
//! has to be changed, and how. The exit status is 1 where something has to be changed.

mod postgres;
mod redis;
mod store;

use std::fmt;
use std::time::Duration;

use annulus_engine::plan::{Grants, Plan, Request};
use annulus_engine::{Engine, Shard, describe_drivers, raise_file_limit};

use crate::chat::config::Database;
use crate::chat::store::postgres::CONNECTIONS;
use crate::config::Config;
use crate::image::lanes::gpu::GpuLane;
use crate::image::lanes::gpu::settings::{GpuSettings, Mode};
use crate::image::plan::Gpu;
use crate::image::store::S3Settings;
use crate::postgres::Target;
use crate::redis::Settings;

/// Descriptors that are not connections: rings, listeners, standard streams, files.
const FILES_RESERVED: u64 = 64;
/// Fewer connections than this are hardly meant.
const CONNECTIONS_FEW: u64 = 10_000;
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
    fn yes(says: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Yes, says: says.into(), remedy: String::new() }
    }

    fn note(says: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Note, says: says.into(), remedy: remedy.into() }
    }

    fn no(says: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::No, says: says.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Yes => "yes",
            Verdict::Note => "note",
            Verdict::No => "no",
        };
        write!(f, "{verdict:>6} {}", self.says)?;
        match self.remedy.as_str() {
            "" => Ok(()),
            remedy => write!(f, "\n       Fix: {remedy}"),
        }
    }
}

/// A server that is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Server {
    /// PostgreSQL at this URL, and how many connections are wanted of it.
    Postgres { target: Box<Result<Target, String>>, connections: usize, what_for: &'static str },
    /// Redis at this URL.
    Redis { settings: Box<Result<Settings, String>> },
    /// A store of objects.
    Store { settings: Box<S3Settings> },
}

impl Server {
    fn redis(url: &str) -> Server {
        Server::Redis { settings: Box::new(Settings::parse(url)) }
    }
}

/// What is to be looked at besides this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doctor {
    servers: Vec<Server>,
    gpu: GpuSettings,
}

impl Doctor {
    /// Looks at these servers.
    pub fn new(redis: &[String], postgres: &[String]) -> Doctor {
        let redis = redis.iter().map(|url| Server::redis(url));
        let postgres = postgres.iter().map(|url| Server::Postgres {
            target: Box::new(Target::parse(url)),
            connections: CONNECTIONS,
            what_for: "a chat's feed with its usual number of connections",
        });
        Doctor { servers: redis.chain(postgres).collect(), gpu: GpuSettings::default() }
    }

    /// And at those that a configuration names.
    pub fn add(&mut self, config: &Config) {
        self.gpu = config.image.gpu.clone();
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
            self.servers.push(Server::Store { settings: Box::new(settings) });
        }
        if let Some(target) = config.image.audit.clone() {
            let target = Box::new(Ok(target));
            self.servers.push(Server::Postgres { target, connections: 1, what_for: "the account of image jobs" });
        }
    }

    /// Looks, and says what it finds. Whether all is well.
    pub fn run(self) -> bool {
        crate::say!("kernel interface");
        crate::say!("{}", describe_drivers().trim_end());
        crate::say!("cores");
        crate::say!("  {}", Plan::new(&Grants::of_this_process(), &Request { compute: Some(0), ..Request::default() }));
        crate::say!("limits");
        match raise_file_limit() {
            Ok(files) => crate::say!("  {}", capacity(files)),
            Err(error) => crate::say!("  the limit of open files cannot be read: {error}"),
        }
        crate::say!("GPU, for images");
        let found = gpu(self.gpu);
        crate::say!("{found}");
        let mut is_well = found.verdict != Verdict::No;
        for server in self.servers {
            crate::say!("{}", title(&server));
            for finding in look(server) {
                crate::say!("{finding}");
                is_well &= finding.verdict != Verdict::No;
            }
        }
        is_well
    }
}

/// Whether images can be made on a GPU: starts its worker once.
fn gpu(settings: GpuSettings) -> Finding {
    if settings.mode == Mode::Off {
        return Finding::note("not used: image.gpu.mode = \"off\"", "");
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

/// How many connections so many open files are good for.
pub fn capacity(files: u64) -> String {
    let connections = files.saturating_sub(FILES_RESERVED);
    let remedy = match connections < CONNECTIONS_FEW {
        true => ". For more: raise the hard limit (`ulimit -Hn`), or LimitNOFILE= in the unit file",
        false => "",
    };
    format!("{files} open files allowed: about {connections} connections{remedy}")
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
        Server::Store { settings } => format!("bucket {:?} of an S3-compatible store", settings.bucket),
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
        Server::Store { settings } => store::look(*settings),
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
        assert_eq!(Finding::note("it is old", "").to_string(), "  note it is old");
    }

    #[test]
    fn no_title_shows_a_password() {
        let target = Box::new(Target::parse("postgres://a:secret@b/c"));
        let server = Server::Postgres { target, connections: 1, what_for: "the chat" };
        assert_eq!(title(&server), "PostgreSQL at postgres://a@b:5432/c, for the chat");
    }
}
