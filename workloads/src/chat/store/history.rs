//! Reading the embedded database: for exports, and for whoever asks what was published.

use std::path::{Path, PathBuf};

use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params, params_from_iter};

use super::archive::CLEARED_SQLITE;
use super::feed::LogId;
use super::row::Stored;
use super::sqlite::{APPLICATION_ID, FILE, describe, position};
use crate::chat::past::Span;

const ALL: &str = r#"SELECT channel, epoch, "offset", time_ms, "user", client, conn_info, chan_info, tags, data, sealed,
    binary_data FROM annulus_publications ORDER BY channel, epoch, "offset""#;

/// The key begins with the channel, so this reads no other.
const OF_CHANNEL: &str = r#"SELECT channel, epoch, "offset", time_ms, "user", client, conn_info, chan_info, tags, data,
    sealed, binary_data FROM annulus_publications WHERE channel = ?1 ORDER BY epoch, "offset""#;

/// `DIRECTION` given. What was removed is not shown.
const SPAN: &str = r#"SELECT channel, epoch, "offset", time_ms, "user", client, conn_info, chan_info, tags, data, sealed,
    binary_data FROM annulus_publications WHERE channel = ?1 AND epoch = ?2 AND "offset" > ?3 AND "offset" < ?4 AND "offset" >
        coalesce((SELECT upto FROM annulus_cleared WHERE channel = ?1 AND epoch = ?2), 0)
        AND NOT EXISTS (SELECT 1 FROM annulus_removed AS removed WHERE removed.channel = ?1 AND removed.epoch = ?2
            AND removed."offset" = annulus_publications."offset")
    ORDER BY "offset" DIRECTION LIMIT ?5"#;

const CLEAR: &str = "INSERT INTO annulus_cleared (channel, epoch, upto) VALUES (?1, ?2, ?3) ON CONFLICT (channel, epoch) \
                     DO UPDATE SET upto = max(upto, excluded.upto)";

const REMOVE: &str = r#"INSERT OR IGNORE INTO annulus_removed (channel, epoch, "offset") VALUES (?1, ?2, ?3)"#;

const REMOVED: &str = "SELECT upto FROM annulus_cleared WHERE channel = ?1 AND epoch = ?2";

/// How long the feed's transactions are waited for.
const BUSY_MAX: Duration = Duration::from_secs(2);

/// Reads what the embedded database has, also while it is fed.
pub struct History {
    connection: Connection,
    path: PathBuf,
}

impl History {
    /// Opens the database in that folder for reading.
    ///
    /// # Errors
    /// A sentence: there is none, or it is none of ours.
    pub fn open(directory: &Path) -> Result<History, String> {
        let path = directory.join(FILE);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(|error| describe(&path, &error))?;
        let application = connection.pragma_query_value(None, "application_id", |row| row.get::<_, i32>(0));
        match application.map_err(|error| describe(&path, &error))? {
            APPLICATION_ID => Ok(History { connection, path }),
            _ => Err(format!("{} is a database of another program.", path.display())),
        }
    }

    /// Which log it was fed from, and how far: all rows below that place are here.
    ///
    /// # Errors
    /// A sentence: it cannot be read.
    pub fn position(&self) -> Result<(LogId, u64), String> {
        position(&self.connection).map_err(|error| describe(&self.path, &error))
    }

    /// How many publications there are.
    ///
    /// # Errors
    /// As [`History::position`].
    pub fn count(&self) -> Result<u64, String> {
        let count = "SELECT count(*) FROM annulus_publications";
        let count = self.connection.query_row(count, [], |row| row.get::<_, i64>(0));
        count.map(i64::cast_unsigned).map_err(|error| describe(&self.path, &error))
    }

    /// Gives `each` the publications of one channel, or of all, by channel, epoch and offset, until it returns false.
    ///
    /// # Errors
    /// As [`History::position`].
    pub fn read(&self, channel: Option<&str>, mut each: impl FnMut(&Stored<'_>) -> bool) -> Result<(), String> {
        let mut read = || {
            let mut select = self.connection.prepare_cached(if channel.is_some() { OF_CHANNEL } else { ALL })?;
            let mut found = select.query(params_from_iter(channel))?;
            while let Some(row) = found.next()? {
                if !each(&stored(row)?) {
                    break;
                }
            }
            Ok(())
        };
        read().map_err(|error| describe(&self.path, &error))
    }
}

/// Reads spans of channels while the database is fed, and notes what is not to be shown any more.
pub(super) struct Reader {
    connection: Connection,
    path: PathBuf,
}

impl Reader {
    /// Opens the database in that folder.
    ///
    /// # Errors
    /// A sentence: there is none yet, or it is none of ours.
    pub(super) fn open(directory: &Path) -> Result<Reader, String> {
        let path = History::open(directory)?.path;
        let fault = |error: rusqlite::Error| describe(&path, &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(fault)?;
        connection.busy_timeout(BUSY_MAX).map_err(fault)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(fault)?;
        connection.execute_batch(CLEARED_SQLITE).map_err(fault)?;
        Ok(Reader { connection, path })
    }

    /// Gives `each` the rows of a span, in its order, until it returns false.
    ///
    /// # Errors
    /// A sentence: it cannot be read.
    pub(super) fn span(
        &self,
        channel: &str,
        epoch: &str,
        span: Span,
        mut each: impl FnMut(&Stored<'_>) -> bool,
    ) -> Result<(), String> {
        let words = SPAN.replace("DIRECTION", if span.reverse { "DESC" } else { "ASC" });
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let mut read = || {
            let mut select = self.connection.prepare_cached(&words)?;
            let (after, before, most) = (number(span.after), number(span.before), number(span.most as u64));
            let mut found = select.query(params![channel, epoch, after, before, most])?;
            while let Some(row) = found.next()? {
                if !each(&stored(row)?) {
                    break;
                }
            }
            Ok(())
        };
        read().map_err(|error| describe(&self.path, &error))
    }

    /// Up to which number that life was removed.
    ///
    /// # Errors
    /// A sentence: it cannot be read.
    pub(super) fn removed(&self, channel: &str, epoch: &str) -> Result<u64, String> {
        let read = || {
            let mut select = self.connection.prepare_cached(REMOVED)?;
            select.query_row([channel, epoch], |row| row.get::<_, i64>(0)).optional()
        };
        let upto = read().map_err(|error| describe(&self.path, &error))?;
        Ok(upto.map_or(0, i64::cast_unsigned))
    }

    /// Shows nothing of that life up to `upto` any more.
    ///
    /// # Errors
    /// A sentence: it cannot be written.
    pub(super) fn clear(&self, channel: &str, epoch: &str, upto: u64) -> Result<(), String> {
        let clear = || {
            let upto = i64::try_from(upto).unwrap_or(i64::MAX);
            self.connection.prepare_cached(CLEAR)?.execute(params![channel, epoch, upto])
        };
        clear().map(drop).map_err(|error| describe(&self.path, &error))
    }

    /// Shows that publication no more.
    ///
    /// # Errors
    /// A sentence: it cannot be written.
    pub(super) fn remove(&self, channel: &str, epoch: &str, offset: u64) -> Result<(), String> {
        let remove = || {
            let offset = i64::try_from(offset).unwrap_or(i64::MAX);
            self.connection.prepare_cached(REMOVE)?.execute(params![channel, epoch, offset])
        };
        remove().map(drop).map_err(|error| describe(&self.path, &error))
    }
}

fn stored<'a>(row: &'a rusqlite::Row<'_>) -> rusqlite::Result<Stored<'a>> {
    let text = |index: usize| row.get_ref(index).and_then(|value| Ok(value.as_str_or_null()?.unwrap_or("")));
    let bytes = |index: usize| row.get_ref(index).and_then(|value| Ok(value.as_blob_or_null()?.unwrap_or(&[])));
    let number = |index: usize| row.get::<_, i64>(index).map(i64::cast_unsigned);
    let mut epoch = [0; 4];
    epoch.iter_mut().zip(text(1)?.bytes()).for_each(|(to, from)| *to = from);
    Ok(Stored {
        channel: text(0)?,
        epoch,
        offset: number(2)?,
        time_ms: number(3)?,
        user: text(4)?,
        client: client(text(5)?),
        conn_info: bytes(6)?,
        chan_info: bytes(7)?,
        tags: text(8)?,
        data: bytes(9)?,
        sealed: row.get(10)?,
        binary: row.get(11)?,
    })
}

/// A UUID's bytes; zero for none.
fn client(text: &str) -> [u8; 16] {
    let digits = text.chars().filter_map(|digit| digit.to_digit(16));
    digits.enumerate().take(32).fold([0; 16], |mut client, (index, digit)| {
        client[index / 2] = client[index / 2] << 4 | digit as u8;
        client
    })
}
