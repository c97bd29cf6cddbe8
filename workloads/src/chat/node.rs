//! What all shards of a chat share, and what has to happen before the first of them starts: opening the log, putting an
//! earlier life together.

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use annulus_engine::Shard;
use annulus_engine::tls::rustls::{ClientConfig, ServerConfig};

use super::admin::Console;
use super::config::{self, Config};
use super::emulation::Sessions;
use super::feeding::{Bell, Tail};
use super::hub::{Common, Restored, Restorer, Verifiers};
use super::log::{self, LogId, Opened};
use super::prepared::{self, Database, Prepared};
use super::quota::Quota;
use super::secure;
use super::store::{Archive, Archivist, Feed, FeedState, Mark, start_postgres, start_sqlite};
use super::users::Counted;
use crate::durable::make_directory;
use crate::gateway::access::{AccessLog, Writer};
use crate::postgres::Target;

/// The log's shard. The first one has the console already.
const LOG_SHARD: usize = 0;
/// Names the machine's present run: another one means that it went down.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Beside the log: the machine's run in which it was last used, for as long as it is.
const MARK_FILE: &str = "in-use";

/// See the module's description.
pub struct Node {
    /// What the hubs share.
    pub common: Arc<Common>,
    /// Towards hooks and key sets.
    pub client_tls: Arc<ClientConfig>,
    /// The machine went down while the log was in use: what was not on the disk may be gone.
    pub is_doubtful: bool,
    /// The console.
    pub(super) admin: Console,
    tls: Mutex<Option<Arc<ServerConfig>>>,
    verifiers: Mutex<Arc<Verifiers>>,
    /// How often the verifiers were replaced.
    edition: AtomicUsize,
    restored: Mutex<Vec<Option<Restored>>>,
    opened: Mutex<Option<Opened>>,
    database: Mutex<Database>,
    /// Reads SQLite, where histories are.
    archivist: Option<Archivist>,
    feed: Mutex<Option<Arc<FeedState>>>,
    access: Option<Writer>,
    /// The log's writer runs, and counts here.
    writer: OnceLock<log::meters::Meters>,
    /// Shards of which nothing is in doubt any more.
    settled: AtomicUsize,
    /// Shards that accept clients.
    listening: AtomicUsize,
    /// Where: the first shard's, which others are given connections from where the port is any.
    address: OnceLock<String>,
    left: AtomicUsize,
    /// Shards whose clients have all been sent away.
    farewells: AtomicUsize,
    connections: AtomicI64,
    started: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    /// Whether a chat could be prepared, as far as that is known without its log: another process may have that still.
    ///
    /// # Errors
    /// As [`Node::open`].
    pub fn check(config: &Config) -> Result<(), String> {
        Prepared::read(config).map(drop)
    }

    /// Prepares a chat for so many shards.
    ///
    /// # Errors
    /// A sentence for people: what is wrong, with what, and what to do.
    pub fn open(config: Config, shards: usize) -> Result<Arc<Node>, String> {
        let Prepared { verifiers, sealer, schemas, tls, client_tls, admin, database } = Prepared::read(&config)?;
        make_directories(&config)?;
        for warning in config.warnings() {
            crate::warn!("chat: note: {warning}");
        }
        let archivist = match &config.database {
            config::Database::Sqlite { directory } if config.channels.reads_database() => {
                Some(Archivist::start(directory).map_err(|error| format!("chat: {error}"))?)
            }
            _ => None,
        };
        let access = config.access_log.then(Writer::start).transpose();
        let access = access.map_err(|error| format!("chat: the access log's thread cannot start: {error}"))?;
        let mut restorer = Restorer::new(&config, sealer.as_deref(), shards);
        let opened = open_log(&config, !matches!(database, Database::None), &mut restorer)?;
        check_readable(&config, restorer.unreadable)?;
        let is_doubtful = match &config.log.directory {
            Some(directory) if opened.is_some() => mark_in_use(directory)?,
            _ => false,
        };
        let restored = restorer.finish();
        if let Some(opened) = &opened {
            tell_opened(opened, &restored);
        }
        let common = Common {
            schemas,
            quotas: config.channels.all().map(Quota::of).collect(),
            sealer,
            counted: Counted::new(config.client.user_connection_limit),
            connects: AtomicU64::new(0),
            fan_outs: AtomicUsize::new(0),
            log: opened.as_ref().map(|opened| opened.state.clone()),
            sessions: Sessions::new()?,
            config,
        };
        Ok(Arc::new(Node {
            common: Arc::new(common),
            client_tls,
            is_doubtful,
            admin,
            tls: Mutex::new(tls),
            verifiers: Mutex::new(Arc::new(verifiers)),
            edition: AtomicUsize::new(0),
            restored: Mutex::new(restored.into_iter().map(Some).collect()),
            opened: Mutex::new(opened),
            database: Mutex::new(database),
            archivist,
            feed: Mutex::default(),
            access,
            writer: OnceLock::new(),
            settled: AtomicUsize::new(0),
            listening: AtomicUsize::new(0),
            address: OnceLock::new(),
            left: AtomicUsize::new(0),
            farewells: AtomicUsize::new(0),
            connections: AtomicI64::new(0),
            started: Instant::now(),
        }))
    }

    /// One more shard accepts clients, of so many. The last of them says where they find it: who connects before may meet
    /// a shard that is not there yet.
    pub(super) fn listens(&self, shard: usize, shards: usize, address: String) {
        if shard == 0 {
            let _only_once = self.address.set(address);
        }
        if self.listening.fetch_add(1, Ordering::AcqRel) + 1 == shards {
            self.announce(self.address.get().map_or("", String::as_str));
        }
    }

    fn announce(&self, address: &str) {
        let config = &self.common.config;
        let (http, ws) = if config.tls.is_some() { ("https", "wss") } else { ("http", "ws") };
        crate::say!("chat      {http}://{address}/   clients: {ws}://{address}{}", config.paths.websocket);
        match (config.is_insecure(), config.tokens.has_key(), config.hooks.connect.is_some()) {
            (true, ..) => crate::say!("          clients need no token and may claim any name (chat.client.insecure)"),
            (false, false, false) if !config.client.allow_anonymous_connect_without_token => crate::say!(
                "          nobody can connect yet: set a key in [chat.tokens], a hook in [chat.hooks.connect], or \
                 chat.client.insecure = true to let anybody in"
            ),
            _ => {}
        }
        if !self.admin.door.is_off() {
            crate::say!("          console: {http}://{address}{}", super::admin::ROOT);
        }
        match &config.log.directory {
            Some(directory) => crate::say!("          log in {}, {}", directory.display(), self.database_name()),
            None => crate::say!("          no log: nothing outlives this process (chat.log.directory)"),
        }
        if let Some(broker) = &config.broker {
            crate::say!("          one of several nodes: those with the prefix {:?} in the same Redis", broker.prefix);
        }
    }

    fn database_name(&self) -> String {
        match &self.common.config.database {
            config::Database::None => "no database".to_owned(),
            config::Database::Sqlite { directory } => format!("SQLite in {}", directory.display()),
            config::Database::Postgres { connections, .. } => format!("PostgreSQL over {connections} connections"),
        }
    }

    /// The TLS configuration in force.
    pub(super) fn server_tls(&self) -> Option<Arc<ServerConfig>> {
        lock(&self.tls).clone()
    }

    /// A shard's end of the access log, if there is one.
    pub(super) fn access_log(&self, shard: &Shard) -> Option<AccessLog> {
        let dropped = shard.metrics().counter("annulus_chat_access_lost_total", "Lines that the access log left out.");
        self.access.clone().map(|writer| AccessLog::new(writer, dropped))
    }

    /// Where it is, a URL without a path: as it was configured until it listens.
    pub fn url(&self) -> String {
        let config = &self.common.config;
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let address = self.address.get().cloned().unwrap_or_else(|| config.listen.to_string());
        format!("{scheme}://{address}")
    }

    /// Where its console is; none: there is none.
    pub fn console(&self) -> Option<&'static str> {
        (!self.admin.door.is_off()).then_some(super::admin::ROOT)
    }

    /// Reads certificates and key sets again. What is wrong with them leaves the old ones in force.
    pub fn reload(&self) {
        let config = &self.common.config;
        match config.tls.as_ref().map(secure::server_config).transpose() {
            Ok(tls) => {
                *lock(&self.tls) = tls;
                crate::say!("chat: certificates read again: new connections meet the new ones");
            }
            Err(sentence) => crate::warn!("chat: the certificates stay as they were: {sentence}"),
        }
        match prepared::verifiers(config) {
            Ok(verifiers) => {
                *lock(&self.verifiers) = Arc::new(verifiers);
                self.edition.fetch_add(1, Ordering::Release);
                crate::say!("chat: the keys of tokens read again: new tokens meet the new ones");
            }
            Err(sentence) => crate::warn!("chat: the keys of tokens stay as they were: {sentence}"),
        }
    }

    /// What proves tokens now.
    pub(super) fn verifiers(&self) -> Arc<Verifiers> {
        lock(&self.verifiers).clone()
    }

    /// What proves tokens, if that is not of the edition that somebody knows.
    pub(super) fn newer_verifiers(&self, known: &mut usize) -> Option<Arc<Verifiers>> {
        let present = self.edition.load(Ordering::Acquire);
        (std::mem::replace(known, present) != present).then(|| self.verifiers())
    }

    /// What the log had of a shard's channels; once.
    pub(super) fn take_restored(&self, shard: usize) -> Option<Restored> {
        lock(&self.restored).get_mut(shard).and_then(Option::take)
    }

    /// The open log, on the shard where its writer runs; once.
    pub(super) fn take_opened(&self, shard: usize) -> Option<Opened> {
        if shard == LOG_SHARD { lock(&self.opened).take() } else { None }
    }

    /// The database's settings; once.
    pub(super) fn take_database(&self) -> Database {
        std::mem::replace(&mut lock(&self.database), Database::None)
    }

    /// A shard's way to read histories in the database; none: no namespace wants it.
    ///
    /// # Errors
    /// A sentence: the database cannot be used.
    pub(super) fn archive(&self, shard: &Shard) -> Result<Option<Archive>, String> {
        let (config, sealer) = (&self.common.config, self.common.sealer.clone());
        match (&config.database, &self.archivist) {
            _ if !config.channels.reads_database() => Ok(None),
            (config::Database::Postgres { url, .. }, _) => {
                let named = |error: String| format!("chat.database.postgres: {error}");
                let target = Target::parse(url.reveal()).map_err(named)?;
                Archive::postgres(shard, &target, sealer).map(Some).map_err(named)
            }
            (_, Some(archivist)) => Ok(Some(Archive::sqlite(shard, archivist.clone(), sealer))),
            (_, None) => Ok(None),
        }
    }

    /// The writer runs, and counts there.
    pub(super) fn set_writer(&self, meters: log::meters::Meters) {
        self.writer.get_or_init(|| meters);
    }

    /// What the log counts, once its writer runs.
    pub(super) fn log_meters(&self) -> Option<&log::meters::Meters> {
        self.writer.get()
    }

    /// Whether the writer runs.
    pub(super) fn has_writer(&self) -> bool {
        self.writer.get().is_some()
    }

    /// A shard hands nothing more to the log.
    pub(super) fn leave_log(&self) {
        self.left.fetch_add(1, Ordering::AcqRel);
    }

    /// A shard has sent its clients away.
    pub(super) fn count_farewell(&self) {
        self.farewells.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether all shards have.
    pub(super) fn have_all_said_farewell(&self, shards: usize) -> bool {
        self.farewells.load(Ordering::Acquire) >= shards
    }

    /// Whether no shard does.
    pub(super) fn is_log_left(&self, shards: usize) -> bool {
        self.left.load(Ordering::Acquire) >= shards
    }

    /// The log knows which of a shard's channels begin anew after a loss of power. When it knows that of all shards, what
    /// is promised from now on is as good as ever.
    pub(super) fn settle_doubt(&self, shard: &Shard) {
        let Some(directory) = self.common.config.log.directory.clone() else { return };
        if self.settled.fetch_add(1, Ordering::AcqRel) + 1 == shard.count() {
            let mark = move || {
                let present = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
                // If the old one stays, the next start is merely more careful.
                write_mark(&directory, &present).unwrap_or_else(|sentence| crate::warn!("{sentence}"));
            };
            let _busy = shard.compute(mark);
        }
    }

    /// The log has ended; if it ended well, nothing is in doubt at the next start.
    pub(super) fn close_log(&self) {
        if self.common.log.as_ref().is_some_and(|state| state.failure().is_some()) {
            return;
        }
        if let Some(directory) = &self.common.config.log.directory {
            // If it stays, the next start is merely more careful.
            let _stays = std::fs::remove_file(directory.join(MARK_FILE));
        }
    }

    /// Counts connections of clients in and out.
    pub(super) fn count_connection(&self, by: i64) {
        self.connections.fetch_add(by, Ordering::Relaxed);
    }

    /// Whether as many clients are connected as may be.
    pub(super) fn is_crowded(&self) -> bool {
        let most = self.common.config.connections_max;
        most > 0 && self.connections.load(Ordering::Relaxed) >= most as i64
    }

    /// Where the key set is that connection tokens, or subscription tokens, are signed with.
    pub(super) fn jwks_url(&self, is_subscription: bool) -> Option<&str> {
        let config = &self.common.config;
        let tokens = if is_subscription { config.subscription_tokens() } else { &config.tokens };
        tokens.jwks_url.as_deref()
    }

    /// How it is, as `/health` says: a status and a JSON text.
    pub(super) fn health(&self) -> (u16, &'static str) {
        match self.common.log.as_ref().and_then(|log| log.failure()) {
            Some(_) => (503, "{\"log\":\"failed\"}"),
            None => (200, "{}"),
        }
    }

    /// How far the database is; none: there is no database, or it has not started.
    pub fn feed(&self) -> Option<Arc<FeedState>> {
        lock(&self.feed).clone()
    }

    /// Microseconds since the start, at this very moment: a clock that all shards share.
    pub(super) fn clock_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    /// What it calls itself.
    pub(super) fn name(&self) -> String {
        let config = &self.common.config;
        if !config.node_name.is_empty() {
            return config.node_name.clone();
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{}_{}", host.trim(), config.listen.port())
    }

    /// Seconds since the start.
    pub fn uptime(&self) -> u64 {
        self.started.elapsed().as_secs()
    }
}

impl Database {
    /// Starts feeding it.
    pub(super) fn start(self, shard: &Shard, node: &Arc<Node>, id: LogId, mark: &Mark) -> Result<Option<Feed>, String> {
        let Some(state) = node.common.log.clone() else { return Ok(None) };
        let directory = node.common.config.log.directory.clone().unwrap_or_default();
        let source = Box::new(Tail::new(directory, id, state));
        let bell: Arc<Bell> = Arc::default();
        let rings = bell.clone();
        let on_progress = Box::new(move |progress| rings.ring(progress));
        let feed = match self {
            Database::None => return Ok(None),
            Database::Sqlite(settings) => start_sqlite(&settings, source, mark, on_progress),
            Database::Postgres(settings) => start_postgres(shard, &settings, source, mark, on_progress),
        };
        let feed = feed.map_err(|error| format!("chat: the database cannot be fed: {error}"))?;
        drop(shard.spawn_background(bell.tell(shard.clone())));
        *lock(&node.feed) = Some(feed.state().clone());
        Ok(Some(feed))
    }
}

/// Makes the directories, where something is to be kept.
fn make_directories(config: &Config) -> Result<(), String> {
    let database = match &config.database {
        config::Database::Sqlite { directory } => Some(directory),
        config::Database::None | config::Database::Postgres { .. } => None,
    };
    for directory in config.log.directory.iter().chain(database) {
        make_directory(directory).map_err(|error| {
            format!("chat: {} cannot be made: {error}. Choose another with --data DIR", directory.display())
        })?;
    }
    Ok(())
}

fn open_log(config: &Config, has_feeder: bool, restorer: &mut Restorer<'_>) -> Result<Option<Opened>, String> {
    let Some(directory) = &config.log.directory else { return Ok(None) };
    let options = log::Options {
        segment_bytes: config.log.segment_bytes,
        bytes_max: config.log.bytes_max,
        batch_bytes_max: config.log.batch_bytes_max,
        checkpoint_bytes: config.log.checkpoint_bytes,
        accept_loss: config.log.accept_loss,
        has_feeder,
        ..log::Options::new(directory)
    };
    let opened = log::Log::open(&options, &mut |_, record| restorer.apply(record));
    opened.map(Some).map_err(|error| format!("chat: {error}"))
}

fn tell_opened(opened: &Opened, restored: &[Restored]) {
    let counts = restored.iter().map(Restored::counts);
    let (channels, publications, keys) =
        counts.fold((0, 0, 0), |sums, more| (sums.0 + more.0, sums.1 + more.1, sums.2 + more.2));
    if !opened.is_new {
        crate::say!(
            "chat: {} records of the log read: {channels} channels, {publications} publications in histories, {keys} keys",
            opened.records
        );
    }
    if let Some(torn) = &opened.torn {
        crate::warn!(
            "chat: the log's end was torn at {} ({} bytes): a batch that was never acknowledged, and is cut off",
            torn.at,
            torn.bytes
        );
    }
    for loss in &opened.losses {
        crate::warn!("chat: LOST by log.accept_loss: {:?}, up to {}", loss.damage, loss.resume);
    }
}

/// Whether all publications in the log could be decrypted. Those that could not are no part of a history, and the next
/// checkpoint would leave them out for good.
fn check_readable(config: &Config, unreadable: u64) -> Result<(), String> {
    let says = format!("chat: {unreadable} publications in the log cannot be decrypted");
    match unreadable {
        0 => Ok(()),
        _ if config.log.accept_loss => {
            crate::warn!("{says}: LOST by log.accept_loss");
            Ok(())
        }
        _ => Err(format!(
            "{says}. Fix: add the keys that they were encrypted with to chat.encryption.keys, or start once with \
             log.accept_loss = true to go on without them"
        )),
    }
}

/// Marks the log as in use in this run of the machine. Whether it was in use in an earlier one that ended badly: then the
/// mark stays as it is until that is settled.
fn mark_in_use(directory: &std::path::Path) -> Result<bool, String> {
    let present = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
    let before = std::fs::read_to_string(directory.join(MARK_FILE)).ok();
    let is_doubtful = before.is_some_and(|before| before != present || present.is_empty());
    if !is_doubtful {
        write_mark(directory, &present)?;
    }
    Ok(is_doubtful)
}

fn write_mark(directory: &std::path::Path, boot_id: &str) -> Result<(), String> {
    let path = directory.join(MARK_FILE);
    std::fs::write(&path, boot_id).map_err(|error| format!("chat: {} cannot be written: {error}", path.display()))
}
