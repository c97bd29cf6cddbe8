//! The embedded database: SQLite on the feed's own thread, rows and the log's position in one transaction, so that rows
//! become visible once and no crash can tear the two apart.
//!
//! ```text
//!   Source ─► Rows ─► BEGIN; INSERT ...; UPDATE position; COMMIT (one fdatasync) ─► Progress
//! ```
//!
//! A transaction takes what the log has, `batch_rows` at most; the next begins `gather` later at the earliest, so that
//! few rows a second cost few fdatasyncs and many rows share one.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, Transaction, params};

use super::dead::{self, DeadLetters, uuid};
use super::feed::{Feed, LogId, Mark, OnProgress, Progress, Reins, Source, Teller};
use super::folder::Folder;
use super::row::{Rows, Stored};
use crate::backoff::{Backoff, seed};
use crate::voice::Voice;

/// `AnCh`: the file is ours (`PRAGMA application_id`).
pub(super) const APPLICATION_ID: i32 = 0x416e_4368;
/// The tables below (`PRAGMA user_version`).
const SCHEMA_VERSION: i32 = 1;
/// The database's file in its folder.
pub const FILE: &str = "publications.db";

/// What the columns mean is told in the module above. Rows lie in the order in which they came.
const TABLES: &str = r#"
    CREATE TABLE annulus_publications (
        channel TEXT NOT NULL,
        epoch TEXT NOT NULL,
        "offset" INTEGER NOT NULL,
        time_ms INTEGER NOT NULL,
        "user" TEXT NOT NULL,
        client TEXT,
        conn_info BLOB,
        chan_info BLOB,
        tags TEXT,
        data BLOB NOT NULL,
        sealed INTEGER NOT NULL,
        binary_data INTEGER NOT NULL,
        PRIMARY KEY (channel, epoch, "offset")
    ) STRICT;
    CREATE TABLE annulus_position (id INTEGER PRIMARY KEY CHECK (id = 1), log BLOB NOT NULL, lsn INTEGER NOT NULL) STRICT;
    INSERT INTO annulus_position VALUES (1, zeroblob(16), 0);
    CREATE VIEW annulus_messages AS
        SELECT channel, epoch, "offset", time_ms, "user", client, tags,
            CASE WHEN sealed OR binary_data THEN NULL ELSE CAST(data AS TEXT) END AS data
        FROM annulus_publications;
"#;

/// Rows that are there already stay as they are; any other conflict is an error, not silence.
const INSERT: &str = r#"INSERT INTO annulus_publications
    (channel, epoch, "offset", time_ms, "user", client, conn_info, chan_info, tags, data, sealed, binary_data)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT (channel, epoch, "offset") DO NOTHING"#;

/// First and longest wait after a failure of the disk.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How long the feed sleeps when nobody wakes it.
const IDLE: Duration = Duration::from_secs(60);
/// A wish to stop is seen this late while rows gather.
const STOP_SEEN: Duration = Duration::from_millis(20);
/// A position is written without rows so often at most: when the log has records that are no rows.
const POSITION_EVERY: Duration = Duration::from_secs(1);

/// How the embedded database is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqliteSettings {
    /// Its folder: the database, the dead letters.
    pub directory: PathBuf,
    /// Rows in one transaction at most.
    pub batch_rows: usize,
    /// Bytes of rows in one transaction at most, beyond which the last row may reach: all that is buffered.
    pub batch_bytes: usize,
    /// From one transaction to the next at least, unless the next is full.
    pub gather: Duration,
    /// Longest dead-letter file in bytes; at the limit the feed stops.
    pub dead_bytes_max: u64,
}

impl SqliteSettings {
    /// The usual ones.
    pub fn new(directory: &Path) -> SqliteSettings {
        SqliteSettings {
            directory: directory.to_owned(),
            batch_rows: 2000,
            batch_bytes: 2 << 20,
            gather: Duration::from_millis(10),
            dead_bytes_max: dead::BYTES_MAX,
        }
    }
}

/// Feeds the embedded database from `source`, beginning behind what it has of that log.
///
/// # Errors
/// A sentence: the folder or the database cannot be used, or is another's.
pub fn start_sqlite(
    settings: &SqliteSettings,
    source: Box<dyn Source>,
    mark: &Mark,
    on_progress: OnProgress,
) -> Result<Feed, String> {
    let (feed, reins, ended) = Feed::new(mark);
    let folder = Folder::open(&settings.directory)?;
    let path = folder.file(FILE);
    let database = open(&path)?;
    folder.sync().map_err(|error| format!("syncing {}: {error}", settings.directory.display()))?;
    let settings = settings.clone();
    let body = move || {
        let folder = Rc::new(folder);
        let dead = DeadLetters::new(folder, settings.dead_bytes_max);
        let mut keeper = Keeper {
            rows: Rows::new(settings.batch_rows, settings.batch_bytes),
            teller: Teller::new(on_progress, &reins.state),
            backoff: Backoff::new(RETRY.0, RETRY.1, seed()),
            written: Instant::now(),
            at: 0,
            cannot_read: false,
            trouble: Voice::default(),
            refused: Voice::default(),
            settings,
            path,
            database,
            dead,
            source,
            reins,
        };
        keeper.run();
        // The database is closed and the folder free before anybody hears of it.
        drop(keeper);
        ended.answer(());
    };
    let thread = std::thread::Builder::new().name("chat-store".to_owned()).spawn(body);
    thread.map_err(|error| format!("starting the database's thread: {error}"))?;
    Ok(feed)
}

fn open(path: &Path) -> Result<Connection, String> {
    let fault = |error: rusqlite::Error| describe(path, &error);
    let mut connection = Connection::open(path).map_err(fault)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(fault)?;
    let pragmas = [
        ("journal_mode", "WAL"),
        ("synchronous", "FULL"),
        ("cell_size_check", "ON"),
        ("cache_size", "-8192"),
        ("temp_store", "MEMORY"),
    ];
    // FULL: what the log deletes because of our word must survive a power cut here.
    for (name, value) in pragmas {
        connection.pragma_update(None, name, value).map_err(fault)?;
    }
    migrate(&mut connection, path)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), String> {
    let fault = |error: rusqlite::Error| describe(path, &error);
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(fault);
    let (application, version) = (number("application_id")?, number("user_version")?);
    let empty: bool =
        connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0)).map_err(fault)?;
    match (empty && version == 0, application == APPLICATION_ID, version) {
        (true, ..) => {
            let transaction = connection.transaction().map_err(fault)?;
            transaction.execute_batch(TABLES).map_err(fault)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(fault)?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION).map_err(fault)?;
            transaction.commit().map_err(fault)
        }
        (false, true, SCHEMA_VERSION) => Ok(()),
        (false, true, version) => Err(format!(
            "{} has tables of version {version}, and this annulus knows {SCHEMA_VERSION}. Fix: run the version that wrote \
             it, or give this one another folder.",
            path.display()
        )),
        (false, false, _) => {
            Err(format!("{} is a database of another program. Fix: give annulus a folder of its own.", path.display()))
        }
    }
}

/// SQLite's word in ours.
pub(super) fn describe(path: &Path, error: &rusqlite::Error) -> String {
    let detail = format!("{}: {error}", path.display());
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => format!("{detail}. Fix: free space on its disk; rows wait in the log."),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            format!("{detail}. Fix: restore it from a backup, or move it away together with its -wal file.")
        }
        _ => detail,
    }
}

/// Whether it is this one row that cannot be stored, and the transaction can go on without it.
fn is_one_row(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::ToSqlConversionFailure(_))
        || matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch)
        )
}

/// The thread's own.
struct Keeper {
    settings: SqliteSettings,
    path: PathBuf,
    database: Connection,
    dead: DeadLetters,
    source: Box<dyn Source>,
    rows: Rows,
    reins: Reins,
    teller: Teller,
    backoff: Backoff,
    /// When the last transaction began.
    written: Instant,
    /// Everything below was read from the log.
    at: u64,
    cannot_read: bool,
    trouble: Voice,
    refused: Voice,
}

/// What a transaction has done.
#[derive(Default)]
struct Done {
    repeated: u64,
    dead: u64,
}

impl Keeper {
    fn run(&mut self) {
        self.reins.mark.belongs_here();
        while !self.begin() {
            if self.is_over() {
                return;
            }
        }
        self.reins.state.connected.store(1, Ordering::Relaxed);
        let mut more = true;
        loop {
            if !more && self.reins.mark.durable() <= self.at {
                self.note_position();
                if self.reins.stop.deadline().is_some() {
                    break;
                }
                self.sleep(if self.is_position_open() { POSITION_EVERY } else { IDLE });
                continue;
            }
            if !more {
                self.gather();
            }
            match self.step(self.reins.mark.durable()) {
                Some(may_be) => more = may_be,
                None => break,
            }
        }
        self.reins.state.connected.store(0, Ordering::Relaxed);
    }

    /// Whether the time is up.
    fn is_over(&self) -> bool {
        self.reins.stop.deadline().is_some_and(|deadline| deadline <= Instant::now())
    }

    fn sleep(&self, most: Duration) {
        let (mark, stop, at) = (&self.reins.mark, &self.reins.stop, self.at);
        mark.sleep(most, || mark.durable() <= at && stop.deadline().is_none());
    }

    /// Lets rows gather until the next transaction may begin. Nobody wakes us for each.
    fn gather(&self) {
        let left = || self.settings.gather.saturating_sub(self.written.elapsed());
        while !left().is_zero() && self.reins.stop.deadline().is_none() {
            std::thread::sleep(left().min(STOP_SEEN));
        }
    }

    /// Finds where to begin.
    fn begin(&mut self) -> bool {
        let log = self.source.log();
        let known = position(&self.database).map_err(|error| describe(&self.path, &error));
        let begun = known.and_then(|(in_log, lsn)| {
            let after = if in_log == log { lsn } else { 0 };
            self.source.seek(after).map_err(|error| format!("reading the log: {error}"))?;
            Ok(after)
        });
        match begun {
            Ok(after) => {
                self.at = after;
                self.teller.tell(Progress { stored: after, checkpoint: after });
                true
            }
            Err(error) => {
                self.complain(error);
                false
            }
        }
    }

    /// Reads and stores one batch; whether the log may have more. `None`: the time was up before it was stored.
    fn step(&mut self, upto: u64) -> Option<bool> {
        if self.is_over() {
            return None;
        }
        self.rows.clear();
        let more = match self.source.next(upto, &mut self.rows) {
            Ok(more) => {
                self.has_read();
                more
            }
            Err(error) => {
                self.cannot_read = true;
                self.complain(format!("reading the log: {error}"));
                true
            }
        };
        let last = self.rows.len().checked_sub(1).map(|last| self.rows.lsn(last));
        self.at = if more { last.unwrap_or(self.at) } else { upto.max(self.at) };
        if last.is_some() {
            self.show_buffer();
            while !self.store() {
                if self.is_over() {
                    return None;
                }
            }
            self.rows.clear();
            self.show_buffer();
        }
        Some(more)
    }

    fn has_read(&mut self) {
        if std::mem::take(&mut self.cannot_read) {
            self.backoff.reset();
            self.reins.state.set_error(None);
        }
    }

    fn show_buffer(&self) {
        let oldest = if self.rows.is_empty() { 0 } else { self.rows.get(0).time_ms };
        self.reins.state.oldest_ms.store(oldest, Ordering::Relaxed);
        self.reins.state.set_buffered(self.rows.bytes());
    }

    /// One transaction; whether it was committed.
    fn store(&mut self) -> bool {
        self.written = Instant::now();
        match self.transact() {
            Ok(done) => {
                let state = &self.reins.state;
                state.rows.fetch_add(self.rows.len() as u64 - done.dead, Ordering::Relaxed);
                state.repeated.fetch_add(done.repeated, Ordering::Relaxed);
                state.dead_letters.fetch_add(done.dead, Ordering::Relaxed);
                state.batches.fetch_add(1, Ordering::Relaxed);
                state.set_error(None);
                self.backoff.reset();
                self.teller.tell(Progress { stored: self.at, checkpoint: self.at });
                true
            }
            Err(error) => {
                self.complain(error);
                false
            }
        }
    }

    fn transact(&mut self) -> Result<Done, String> {
        let fault = |error: rusqlite::Error| describe(&self.path, &error);
        let transaction = self.database.transaction().map_err(fault)?;
        let mut done = Done::default();
        for (index, row) in self.rows.iter().enumerate() {
            match insert(&transaction, &row) {
                Ok(1) => {}
                Ok(_) => done.repeated += 1,
                Err(error) if is_one_row(&error) => {
                    self.dead.bury(&self.rows, index, &error.to_string())?;
                    let lsn = self.rows.lsn(index);
                    self.refused
                        .say(&format_args!("the database refuses the row below LSN {lsn}, a dead letter now: {error}"));
                    done.dead += 1;
                }
                Err(error) => return Err(fault(error)),
            }
        }
        set_position(&transaction, self.source.log(), self.at).map_err(fault)?;
        transaction.commit().map_err(fault)?;
        Ok(done)
    }

    fn is_position_open(&self) -> bool {
        self.at > self.teller.told().checkpoint
    }

    /// What the log has beyond the last row is no row: a restart need not read it again.
    fn note_position(&mut self) {
        if !self.is_position_open() {
            return;
        }
        let mut progress = Progress { stored: self.at, ..self.teller.told() };
        if self.written.elapsed() >= POSITION_EVERY || self.reins.stop.deadline().is_some() {
            self.written = Instant::now();
            match set_position(&self.database, self.source.log(), self.at) {
                Ok(()) => progress.checkpoint = self.at,
                Err(error) => self.complain(describe(&self.path, &error)),
            }
        }
        self.teller.tell(progress);
    }

    /// Says what is wrong, and waits.
    fn complain(&mut self, error: String) {
        let wait = self.backoff.next();
        self.trouble.say(&format_args!("rows wait in the log: {error}"));
        self.reins.state.retries.fetch_add(1, Ordering::Relaxed);
        self.reins.state.set_error(Some(error));
        let until = Instant::now() + wait;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if self.is_over() {
                return;
            }
            let stop = &self.reins.stop;
            let left = stop.deadline().map_or(left, |by| left.min(by.saturating_duration_since(Instant::now())));
            self.reins.mark.sleep(left, || true);
        }
    }
}

fn insert(transaction: &Transaction<'_>, row: &Stored<'_>) -> rusqlite::Result<usize> {
    let wrong = |error: Box<dyn std::error::Error + Send + Sync>| rusqlite::Error::ToSqlConversionFailure(error);
    let number = |number: u64| i64::try_from(number).map_err(|error| wrong(error.into()));
    let epoch = std::str::from_utf8(&row.epoch).map_err(|error| wrong(error.into()))?;
    let some = |bytes| Some(bytes).filter(|bytes: &&[u8]| !bytes.is_empty());
    transaction.prepare_cached(INSERT)?.execute(params![
        row.channel,
        epoch,
        number(row.offset)?,
        number(row.time_ms)?,
        row.user,
        uuid(row.client),
        some(row.conn_info),
        some(row.chan_info),
        Some(row.tags).filter(|tags| !tags.is_empty()),
        row.data,
        row.sealed,
        row.binary,
    ])
}

/// An LSN is bits to SQLite, whose integers have a sign.
fn set_position(connection: &Connection, log: LogId, lsn: u64) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached("UPDATE annulus_position SET log = ?1, lsn = ?2")?;
    update.execute(params![log, lsn.cast_signed()])?;
    Ok(())
}

/// Which log the database was fed from, and how far.
pub(super) fn position(connection: &Connection) -> rusqlite::Result<(LogId, u64)> {
    connection.query_row("SELECT log, lsn FROM annulus_position", [], |row| {
        Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
    })
}
