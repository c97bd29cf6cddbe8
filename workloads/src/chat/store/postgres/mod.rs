//! PostgreSQL behind the log: a client of its own on the engine, partitioned by channel.
//!
//! ```text
//!   clerk.rs     a thread: reads the log, sorts rows, hands out batches, keeps the position
//!   pool.rs      lanes on one shard: one INSERT in flight on each, retries, bisection
//!   session.rs   logged in and prepared        insert.rs   the statement        schema.rs   the table
//!   login.rs     authentication                dial.rs     name, TCP, TLS       wire.rs     messages
//!   url.rs       where and who                 trouble.rs  what goes wrong, and what to do about it
//! ```
//!
//! # How many connections
//!
//! By Little's law, `connections = rate x latency / rows per batch`. Batches fill by themselves while a lane waits for its
//! answer, so few connections carry much: 50 of them with full batches of 500 rows and answers after 200 ms take
//! 50 x 500 / 0.2 s = 125,000 rows a second, and the owner's 250 a second need one. What many connections buy is latency
//! while batches are small (250/s x 0.2 s = 50 single rows under way) and that channels do not wait for each other. One
//! channel is one lane: 500 / 0.2 s = 2,500 rows a second at 200 ms. Connections are made when a lane has rows first, and
//! closed after a minute without any. While the server lets nobody in, one lane tries for all.
//!
//! # What a database's word is worth
//!
//! A row counts as stored when its INSERT is committed, and then the log may delete it. With `synchronous_commit = off`,
//! or when a server fails over to a standby that lags, rows that were committed can be lost: that is the database's promise,
//! not ours.

mod clerk;
mod dial;
mod insert;
mod login;
mod pool;
mod schema;
mod session;
mod trouble;
pub mod url;
mod wire;

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use annulus_engine::compute::{Reply, Ticket, ticket};
use annulus_engine::{JoinHandle, Shard};
use crossbeam_channel::bounded;

pub use url::{SslMode, Target};

use self::clerk::Clerk;
use self::dial::Dialer;
use self::pool::{Lane, Pool};
use super::checkpoint::Checkpoint;
use super::dead::{self, DeadLetters};
use super::feed::{Feed, Mark, OnProgress, Source, Teller};
use super::folder::Folder;
use crate::backoff::seed;

/// Connections made at the same time; others wait for their turn.
const DIALS_MAX: usize = 4;
/// First and longest wait after what will probably pass. Each is a random part of its length.
const PASSING: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// First and longest wait after what a person has to change.
const SETUP: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// How long saying farewell may take, and cancelling, and lanes in ending.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// How PostgreSQL is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresSettings {
    /// The feed's folder: its position, the dead letters.
    pub directory: PathBuf,
    /// The server.
    pub target: Target,
    /// Lanes, and so connections at most.
    pub connections: usize,
    /// Rows in one statement at most.
    pub batch_rows: usize,
    /// Bytes of rows in one statement at most, beyond which the last row may reach.
    pub batch_bytes: usize,
    /// Bytes of rows that are read and not stored, their statements included. Beyond, the log is not read further: it
    /// keeps the rows.
    pub buffer_bytes: usize,
    /// How long a statement may take. Beyond, it is cancelled and tried again.
    pub answer_max: Duration,
    /// How long a connection without rows is kept.
    pub idle_max: Duration,
    /// Longest dead-letter file in bytes; at the limit the lane of the next such row stops.
    pub dead_bytes_max: u64,
}

impl PostgresSettings {
    /// The usual ones.
    pub fn new(directory: &Path, target: Target) -> PostgresSettings {
        PostgresSettings {
            directory: directory.to_owned(),
            target,
            connections: 50,
            batch_rows: 500,
            batch_bytes: 256 << 10,
            buffer_bytes: 16 << 20,
            answer_max: Duration::from_secs(60),
            idle_max: Duration::from_secs(60),
            dead_bytes_max: dead::BYTES_MAX,
        }
    }
}

/// Feeds PostgreSQL from `source`, on `shard` and a thread, beginning behind the position in the folder. The server need
/// not be there: the feed tries until it is.
///
/// # Errors
/// A sentence: the folder or the certificates cannot be used.
pub fn start_postgres(
    shard: &Shard,
    settings: &PostgresSettings,
    source: Box<dyn Source>,
    mark: &Mark,
    on_progress: OnProgress,
) -> Result<Feed, String> {
    let (feed, reins, ended) = Feed::new(mark);
    let dialer = Dialer::new(shard, &settings.target)?;
    let folder = Folder::open(&settings.directory)?;
    let lanes = settings.connections.max(1);
    let settings = PostgresSettings { connections: lanes, ..settings.clone() };
    let seed = seed();
    // A lane asks once and buries once at a time: this is never full.
    let (words, receiver) = bounded(2 * lanes);
    let pool = Rc::new(Pool::new(dialer, words, &reins, &settings, seed));
    let (clerk_ended, clerk_ends) = ticket();
    let body = move || {
        let folder = Rc::new(folder);
        let checkpoint = Checkpoint::open(folder.clone(), &settings.target.place(), source.log());
        let dead = DeadLetters::new(folder, settings.dead_bytes_max);
        let teller = Teller::new(on_progress, &reins.state);
        let mut clerk = Clerk::new(settings, source, receiver, (reins, teller), (checkpoint, dead), seed);
        clerk.run();
        // The folder is free, and lanes hear that there is nothing more, before the end is told.
        drop(clerk);
        clerk_ended.answer(());
    };
    let thread = std::thread::Builder::new().name("chat-store".to_owned()).spawn(body);
    thread.map_err(|error| format!("starting the database's thread: {error}"))?;
    let lanes = (0..lanes).map(|number| shard.spawn_background(Lane::new(&pool, number, seed).run())).collect();
    shard.spawn_background(end(shard.clone(), clerk_ends, lanes, ended));
    Ok(feed)
}

/// When the clerk has ended, lanes that have nothing in hand say farewell, and the others are cut.
async fn end(shard: Shard, clerk_ends: Reply<()>, mut lanes: Vec<JoinHandle<()>>, ended: Ticket<()>) {
    // Without an answer it has panicked: ended, too.
    let _ended = clerk_ends.await;
    let farewells = async {
        for lane in &mut lanes {
            // One that panicked has said so.
            let _ended = lane.await;
        }
    };
    if shard.timeout(FAREWELL_MAX, farewells).await.is_err() {
        lanes.iter().for_each(JoinHandle::abort);
    }
    ended.answer(());
}
