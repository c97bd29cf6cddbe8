//! The chat under load: delivery and acknowledgement at a steady rate, storms, one large room beside a peer, the disk,
//! idle clients, and kills.
//!
//! ```text
//!   stamp.rs    what a publication carries       tally.rs    who must have it, who has it
//!   wire.rs     the protocol's texts             token.rs    who one is            config.rs  work.rs  what the server is told
//!   client.rs   one client, without blocking     fleet.rs    all of them on one poll       book.rs    what they measured
//!   deliver.rs  storm.rs  room.rs  ack.rs  idle.rs               the cases
//!   nodes.rs    several around one Redis
//!   crash.rs    kills            member.rs   their clients       ledger.rs   what was promised      talk.rs  blocking
//!   trial.rs    clients while something is done to the server, and the account of it
//! ```
//!
//! Every publication is known by its room and number, so a loss and a second copy are counted, not estimated; see
//! [`tally`].

mod ack;
pub mod book;
pub mod client;
pub mod config;
mod crash;
mod deliver;
pub mod fleet;
mod idle;
pub mod ledger;
pub mod member;
mod nodes;
mod room;
pub mod stamp;
mod storm;
pub mod talk;
pub mod tally;
mod token;
pub mod trial;
pub mod wire;
mod work;

use crate::ground::Ground;
use crate::placement;
use crate::process::{Driver, Server};
use crate::record::Record;
use crate::scenario::Settings;
use client::Speech;
use config::{Ack, Chat, WorkFiles};
use deliver::Goals;
use fleet::{Fleet, Plan};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use token::Signer;
use work::Work;

/// Bytes of a publication's data: a line of chat with its surroundings.
const SIZE: usize = 200;

/// What is done to the chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// A steady rate: delivery, acknowledgement, losses.
    Deliver,
    /// Everybody at once: connecting, and coming back after cuts and kills.
    Storm,
    /// One large room, beside a peer.
    Room,
    /// Acknowledgement from stable storage, beside the disk's own time.
    Ack,
    /// Memory of clients that only listen.
    Idle,
    /// Kills at random moments: what was promised is there.
    Crash,
}

/// What the command line says; what it leaves out is the case's own.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Clients.
    pub clients: Option<usize>,
    /// Members of a room.
    pub room_size: Option<usize>,
    /// When publish commands are answered.
    pub ack: Option<Ack>,
    /// What channels' names begin with, instead of the namespace of [`Asked::ack`].
    pub namespace: Option<String>,
    /// Clients sign in with tokens of this secret.
    pub token_secret: Option<String>,
    /// Where the log is; a temporary folder when none.
    pub directory: Option<PathBuf>,
    /// Where rows go.
    pub database: Option<String>,
    /// Processor time of validation and encryption per message, in milliseconds.
    pub work_ms: Option<f64>,
    /// The server's shards.
    pub shards: Option<usize>,
    /// How often it is killed.
    pub kills: u32,
    /// Seconds per round.
    pub seconds: Option<f64>,
    /// Nodes that share a Redis; one without, if none.
    pub nodes: Option<usize>,
    /// With kills of several nodes: Redis is killed, and not a node.
    pub kills_redis: bool,
}

impl Asked {
    /// What survives is asked for, unless somebody chose a level.
    fn durable(self) -> Asked {
        let ack = self.ack.or(Some(Ack::Wal));
        Asked { ack, ..self }
    }
}

/// What a case runs with.
struct Options {
    asked: Asked,
    clients: usize,
    room_size: usize,
    /// Publications per second.
    rate: f64,
    /// Bytes of a publication's data.
    size: usize,
    /// Processor time per message, as the server is told.
    work: Option<Work>,
}

impl Options {
    fn new(settings: &Settings, asked: Asked, clients: usize, room_size: usize, rate: f64) -> Options {
        let rate = settings.rate.unwrap_or(rate);
        let shards = asked.shards.unwrap_or_else(|| placement::server_cores().len());
        Options {
            clients: asked.clients.unwrap_or(clients).max(1),
            room_size: asked.room_size.unwrap_or(room_size).max(1),
            rate,
            size: settings.size.unwrap_or(SIZE),
            work: asked.work_ms.map(|work| Work::new(work, rate, placement::cores(), shards)),
            asked,
        }
    }

    /// What rows begin with.
    fn name(&self) -> String {
        format!("{} in rooms of {}", self.clients, self.room_size)
    }

    fn chat<'a>(&'a self, directory: &'a Path, work: Option<&'a WorkFiles>) -> Chat<'a> {
        Chat {
            shards: self.asked.shards,
            ack: self.asked.ack,
            directory: Some(directory),
            database: self.asked.database.as_deref(),
            work,
            broker: None,
            token_secret: self.asked.token_secret.as_deref(),
            keeps_all: false,
            pings_nobody: false,
        }
    }

    fn plan(&self, addresses: Vec<SocketAddr>) -> Plan {
        Plan {
            addresses,
            clients: self.clients,
            room_size: self.room_size,
            prefix: self.prefix(),
            own_channel: false,
            signer: self.asked.token_secret.as_deref().map(Signer::new),
            speech: Speech::Centrifuge { recoverable: true },
            size: self.size,
        }
    }

    /// Whether what is acknowledged outlives the process.
    fn survives_kills(&self) -> bool {
        self.asked.ack != Some(Ack::Mem)
    }

    /// What channels' names begin with.
    fn prefix(&self) -> String {
        match &self.asked.namespace {
            Some(namespace) if namespace.is_empty() => String::new(),
            Some(namespace) => format!("{namespace}:"),
            None => config::prefix(self.asked.ack),
        }
    }
}

/// The server of a case, and where its log is.
struct Rig {
    server: Server,
    folder: Folder,
}

impl Rig {
    fn start(options: &Options) -> Result<Rig, String> {
        let folder = Folder::new(options.asked.directory.as_deref())?;
        let work = options.work.as_ref().map(|work| work.prepare(options, &folder)).transpose()?;
        let text = options.chat(&folder.log(), work.as_ref()).text();
        Ok(Rig { server: Server::start_chat(&text, None)?, folder })
    }

    fn plan(&self, options: &Options) -> Plan {
        options.plan(vec![self.server.address])
    }
}

/// A folder of its own for a log, removed at the end.
struct Folder {
    ground: Ground,
}

impl Folder {
    /// In `parent`, or in the folder for temporary files.
    fn new(parent: Option<&Path>) -> Result<Folder, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("chat-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let ground = parent.map_or_else(|| Ground::new(&name), |parent| Ground::within(parent, &name))?;
        Ok(Folder { ground })
    }

    /// Where the log is in it.
    fn log(&self) -> PathBuf {
        self.ground.folder.join("log")
    }

    fn path(&self) -> &Path {
        &self.ground.folder
    }
}

/// Runs a case.
///
/// # Errors
/// A sentence: a process could not be started, or is gone.
pub fn run(settings: &Settings, case: Case, asked: Asked) -> Result<Record, String> {
    let options = |asked, clients, room_size, rate| Options::new(settings, asked, clients, room_size, rate);
    let rows = match case {
        Case::Deliver if asked.nodes.is_some() => {
            let nodes = asked.nodes.unwrap_or(1);
            nodes::scaling(settings, &options(asked, 1000, 100, 250.0), nodes)
        }
        Case::Crash if asked.nodes.is_some() => crash::run(&options(asked, 1, 1, 0.0)),
        Case::Deliver => return deliver::run(settings, &options(asked, 1000, 100, 250.0), Goals::default()),
        Case::Storm => storm::run(settings, &options(asked, 10_000, 100, 100.0)),
        Case::Room => {
            // The peer promises nothing, and has one thread.
            let (ack, shards) = (asked.ack.or(Some(Ack::Mem)), asked.shards.or(Some(1)));
            room::run(settings, &options(Asked { ack, shards, ..asked }, 1000, 1000, 0.0))
        }
        Case::Ack => {
            let asked = asked.durable();
            ack::run(settings, &options(asked, 100, 10, 250.0))
        }
        Case::Crash => {
            let asked = asked.durable();
            crash::run(&options(asked, 1, 1, 0.0))
        }
        Case::Idle => idle::run(settings, &options(asked, 16_000, 16, 0.0)),
    };
    rows.map(Record::from)
}

/// The owner's case: 10,000 clients in rooms of 100, 250 messages a second for a minute.
///
/// # Errors
/// As [`run`].
pub fn seed_target(settings: &Settings, asked: Asked) -> Result<Record, String> {
    let settings = Settings { seconds: asked.seconds.unwrap_or(60.0), ..settings.clone() };
    let goals = Goals { p99_ms: Some(50.0), p999_ms: Some(10.0), rss_mb: Some(60.0) };
    deliver::run(&settings, &Options::new(&settings, asked, 10_000, 100, 250.0), goals)
}

/// What a delivery costs a server on this driver, in microseconds of processor time.
///
/// # Errors
/// As [`run`].
pub fn delivery_cpu_us(settings: &Settings, driver: Driver) -> Result<f64, String> {
    let asked = Asked { ack: Some(Ack::Mem), ..Asked::default() };
    let options = Options::new(settings, asked, 500, 100, 100.0);
    let folder = Folder::new(None)?;
    let server = Server::start_chat_on(driver, &options.chat(&folder.log(), None).text(), None)?;
    let mut fleet = Fleet::new(options.plan(vec![server.address]))?;
    deliver::warm_up(&mut fleet, settings, options.rate)?;
    let loaded = deliver::load(&mut fleet, server.pid(), settings, options.rate, settings.seconds)?;
    let (before, after) = loaded.samples;
    Ok((after.cpu_s - before.cpu_s) * 1e6 / (loaded.delivered as f64).max(1.0))
}

/// The shortest run that needs everything here but kills.
///
/// # Errors
/// As [`run`].
pub fn smoke(settings: &Settings) -> Result<Record, String> {
    run(settings, Case::Deliver, Asked { clients: Some(20), room_size: Some(10), ..Asked::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_survives_is_asked_for_unless_somebody_chose() {
        assert_eq!(Asked::default().durable().ack, Some(Ack::Wal));
        assert_eq!(Asked { ack: Some(Ack::Page), ..Asked::default() }.durable().ack, Some(Ack::Page));
    }
}
