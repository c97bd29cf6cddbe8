//! The database of the embedded queue: its tables, and what is checked before it is trusted.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use rustix::fs::{FlockOperation, flock};

use super::QueueError;
use crate::durable::make_directory;
use crate::image::job::random;

/// `AnIm`: the file is ours (`PRAGMA application_id`).
const APPLICATION_ID: i32 = 0x416e_496d;
/// The tables below (`PRAGMA user_version`).
const SCHEMA_VERSION: i32 = 1;

/// Moments are milliseconds since 1970. States are those of [`WorkState`](super::ledger::WorkState). `turn` rises with
/// every lease and tells an old holder's answer from the newest one's.
const TABLES: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
    CREATE TABLE works (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        state INTEGER NOT NULL,
        priority INTEGER NOT NULL,
        due_ms INTEGER NOT NULL,
        turn INTEGER NOT NULL DEFAULT 0,
        revision INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        crashes INTEGER NOT NULL DEFAULT 0,
        original TEXT NOT NULL,
        len INTEGER NOT NULL,
        header TEXT NOT NULL,
        recipes TEXT NOT NULL,
        peak_bytes INTEGER NOT NULL,
        cpu_us INTEGER NOT NULL,
        lane TEXT,
        manifest TEXT,
        fault TEXT,
        started_ms INTEGER,
        finished_ms INTEGER
    ) STRICT;
    CREATE INDEX works_waiting ON works (priority, due_ms, id) WHERE state = 0;
    CREATE INDEX works_leased ON works (id) WHERE state = 1;
    CREATE INDEX works_ended ON works (state, finished_ms) WHERE state >= 2;
    CREATE INDEX works_original ON works (original);
    CREATE TABLE jobs (
        id BLOB PRIMARY KEY,
        tenant TEXT NOT NULL,
        work INTEGER NOT NULL REFERENCES works (id),
        revision INTEGER NOT NULL DEFAULT 1,
        asked TEXT NOT NULL,
        priority INTEGER NOT NULL,
        delayed INTEGER NOT NULL,
        wait_ms INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        finished_ms INTEGER,
        cancelled INTEGER NOT NULL DEFAULT 0,
        idempotency TEXT,
        request BLOB
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX jobs_work ON jobs (work);
    CREATE INDEX jobs_finished ON jobs (finished_ms) WHERE finished_ms IS NOT NULL;
    CREATE UNIQUE INDEX jobs_idempotency ON jobs (tenant, idempotency) WHERE idempotency IS NOT NULL;
    CREATE TABLE objects (
        key TEXT PRIMARY KEY,
        work INTEGER NOT NULL REFERENCES works (id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX objects_work ON objects (work);
";

/// What came later, and what programs of before pass over: what tenants have taken, for their quotas.
const ADDED: &str = "
    CREATE TABLE IF NOT EXISTS usage (
        tenant TEXT PRIMARY KEY,
        day INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS jobs_unended ON jobs (tenant) WHERE finished_ms IS NULL;
";

/// An open database, and the lock that keeps other processes out.
pub(super) struct Database {
    pub(super) connection: Connection,
    /// The secret of all names.
    pub(super) secret: [u8; 32],
    /// Held as long as the database is used.
    pub(super) lock: File,
}

/// Opens or makes the database in `directory`, and makes sure that it is ours, whole, of our version, and nobody else's.
///
/// # Errors
/// A sentence that says which of these it is not, and what to do.
pub(super) fn open(directory: &Path) -> Result<Database, QueueError> {
    let io = |doing: &str, error: std::io::Error| {
        QueueError::Io(format!(
            "{doing} {}: {error}. Fix: make it a directory that this user may write.",
            directory.display()
        ))
    };
    make_directory(directory).map_err(|error| io("making", error))?;
    let lock = lock(directory)?;
    let path = directory.join("queue.db");
    let mut connection = Connection::open(&path).map_err(|error| describe(&path, &error))?;
    configure(&connection).map_err(|error| describe(&path, &error))?;
    migrate(&mut connection, &path)?;
    let secret = secret(&connection, &path)?;
    // The file's name is durable only once its directory is; SQLite syncs it for the log but not for the database.
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| io("syncing", error))?;
    Ok(Database { connection, secret, lock })
}

/// All leases in the database are this process's, so there may be one process only.
fn lock(directory: &Path) -> Result<File, QueueError> {
    let path = directory.join("queue.lock");
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = opened.map_err(|error| QueueError::Io(format!("opening {}: {error}", path.display())))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(error) => Err(QueueError::Io(format!(
            "{} is locked ({error}): another annulus uses this directory. Fix: stop it, or give this one another data_dir.",
            path.display()
        ))),
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    // A server within walls has no folder for temporary files.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // An answered call survives a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "cache_size", -16_384)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), QueueError> {
    let fault = |error: rusqlite::Error| describe(path, &error);
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(fault);
    let (application, version) = (number("application_id")?, number("user_version")?);
    let empty: bool =
        connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0)).map_err(fault)?;
    if empty && version == 0 {
        let transaction = connection.transaction().map_err(fault)?;
        transaction.execute_batch(TABLES).map_err(fault)?;
        transaction.execute_batch(ADDED).map_err(fault)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(fault)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION).map_err(fault)?;
        let mut secret = [0; 32];
        random(&mut secret).map_err(|error| QueueError::Io(error.to_string()))?;
        transaction.execute("INSERT INTO meta VALUES ('secret', ?1)", params![secret]).map_err(fault)?;
        return transaction.commit().map_err(fault);
    }
    if application != APPLICATION_ID {
        return Err(QueueError::Io(format!(
            "{} is a database of another program. Fix: give annulus a data_dir of its own.",
            path.display()
        )));
    }
    if version != SCHEMA_VERSION {
        return Err(QueueError::Io(format!(
            "{} was written by a newer annulus (its tables are version {version}, this one knows {SCHEMA_VERSION}). \
             Fix: run that version, or another data_dir.",
            path.display()
        )));
    }
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(fault)?;
    match verdict.as_str() {
        "ok" => connection.execute_batch(ADDED).map_err(fault),
        found => Err(corrupt(path, found)),
    }
}

fn secret(connection: &Connection, path: &Path) -> Result<[u8; 32], QueueError> {
    let found = connection.query_row("SELECT value FROM meta WHERE name = 'secret'", [], |row| row.get(0));
    found.optional().map_err(|error| describe(path, &error))?.ok_or_else(|| corrupt(path, "the secret is missing"))
}

fn corrupt(path: &Path, found: &str) -> QueueError {
    QueueError::Io(format!(
        "{} is damaged: {found}. Nothing was changed. Fix: restore it from a backup, or move it away together with its \
         -wal file: stored images stay, jobs are forgotten.",
        path.display()
    ))
}

/// SQLite's word in ours.
pub(super) fn describe(path: &Path, error: &rusqlite::Error) -> QueueError {
    let detail = format!("{}: {error}", path.display());
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            QueueError::Full(format!("{detail}. Nothing that was answered is lost. Fix: free space on its disk."))
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => corrupt(path, &error.to_string()),
        _ => QueueError::Io(detail),
    }
}
