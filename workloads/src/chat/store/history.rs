//! Reading the embedded database: for exports, and for whoever asks what was published.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::feed::LogId;
use super::row::Stored;
use super::sqlite::{APPLICATION_ID, FILE, describe, position};

const ALL: &str = r#"SELECT channel, epoch, "offset", time_ms, "user", client, conn_info, chan_info, tags, data, sealed,
    binary_data FROM annulus_publications ORDER BY channel, epoch, "offset""#;

/// The key begins with the channel, so this reads no other.
const OF_CHANNEL: &str = r#"SELECT channel, epoch, "offset", time_ms, "user", client, conn_info, chan_info, tags, data,
    sealed, binary_data FROM annulus_publications WHERE channel = ?1 ORDER BY epoch, "offset""#;

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
