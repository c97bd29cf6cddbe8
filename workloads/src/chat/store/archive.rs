//! Reading parts of channels' histories out of the database while it is fed, for pages that reach behind memory.
//!
//! ```text
//!   shard ─► Archive ─┬─ PostgreSQL: a few sessions of the shard
//!                     └─ SQLite: one thread of the node, which reads beside the feed's
//! ```
//!
//! A history that was removed must not come back from here. Rows are never changed, so `annulus_cleared` says up to which
//! offset of an epoch they are not shown any more, and `annulus_removed` which ones are not.
//!
//! Limits: so many reads wait ([`WAITING_MAX`]), each takes [`READ_MAX`] at most, and gives no more than
//! [`ROWS_MAX`](crate::chat::past::ROWS_MAX) rows and [`BYTES_MAX`] bytes of payloads, or one row if that is longer.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::Shard;
use annulus_engine::compute::{Ticket, ticket};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use serde::Deserialize;

use super::history::Reader;
use super::row::Stored as Row;
use crate::chat::kept::Place;
use crate::chat::past::{BYTES_MAX, Found, Span};
use crate::chat::seal::Sealer;
use crate::chat::session::ClientId;
use crate::chat::stream::{Author, Content, Stored};
use crate::postgres::migrate::{Schema, Step};
use crate::postgres::pool::Refusal;
use crate::postgres::{self, Pool, PoolSettings, Target, Trouble};

/// How long a read may take, waiting included.
pub const READ_MAX: Duration = Duration::from_secs(5);
/// Reads that wait, of a shard with PostgreSQL and of the node with SQLite. Beyond, clients are told to come again.
pub const WAITING_MAX: usize = 64;
/// Sessions for reading of all shards together, one for each at least.
pub const SESSIONS_MAX: usize = 8;
/// How long a session without reads is kept.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// What histories were removed, beside the table of publications: only who reads them needs it.
pub static SCHEMA: Schema = Schema {
    name: "chat history",
    table: "annulus_cleared",
    steps: &[Step { words: CLEARED, least: 1 }, REMOVED_STEP],
};
/// It only adds: while a fleet is replaced, nodes of the release before go on, and show what was removed meanwhile.
const REMOVED_STEP: Step = Step { words: REMOVED_TABLE, least: 1 };

const CLEARED: &str = "
CREATE TABLE annulus_cleared (
    channel text NOT NULL,
    epoch text NOT NULL,
    upto bigint NOT NULL,
    PRIMARY KEY (channel, epoch)
);
COMMENT ON TABLE annulus_cleared IS
    'histories of the chat that were removed: publications up to there are not shown to clients any more';
";

const REMOVED_TABLE: &str = "
CREATE TABLE annulus_removed (
    channel text NOT NULL,
    epoch text NOT NULL,
    \"offset\" bigint NOT NULL,
    PRIMARY KEY (channel, epoch, \"offset\")
);
COMMENT ON TABLE annulus_removed IS 'publications of the chat that were removed: they are not shown to clients any more';
";

/// The other database's.
pub(super) const CLEARED_SQLITE: &str = "CREATE TABLE IF NOT EXISTS annulus_cleared (channel TEXT NOT NULL, epoch TEXT NOT NULL, \
                                         upto INTEGER NOT NULL, PRIMARY KEY (channel, epoch)) STRICT; \
                                         CREATE TABLE IF NOT EXISTS annulus_removed (channel TEXT NOT NULL, epoch TEXT NOT NULL, \
                                         \"offset\" INTEGER NOT NULL, PRIMARY KEY (channel, epoch, \"offset\")) STRICT";

const CLEAR: &str = "INSERT INTO annulus_cleared AS known (channel, epoch, upto) VALUES ($1::text, $2::text, $3::int8) \
                     ON CONFLICT (channel, epoch) DO UPDATE SET upto = greatest(known.upto, excluded.upto)";

const REMOVE: &str = "INSERT INTO annulus_removed (channel, epoch, \"offset\") VALUES ($1::text, $2::text, $3::int8) \
                      ON CONFLICT DO NOTHING";

/// A span, `DIRECTION` given. Payloads are counted by the server, so that it sends no more of them than are taken.
const SPAN: &str = r#"
SELECT "offset", time_ms, "user", client, conn_info, chan_info, tags, data, sealed, binary_data FROM (
    SELECT *, sum(octet_length(data)) OVER (ORDER BY "offset" DIRECTION) - octet_length(data) AS before FROM (
        SELECT * FROM annulus_publications
        WHERE channel = $1::text AND epoch = $2::text AND "offset" > $3::int8 AND "offset" < $4::int8 AND "offset" >
            coalesce((SELECT upto FROM annulus_cleared WHERE channel = $1::text AND epoch = $2::text), 0)
            AND NOT EXISTS (SELECT FROM annulus_removed AS removed WHERE removed.channel = $1::text
                AND removed.epoch = $2::text AND removed."offset" = annulus_publications."offset")
        ORDER BY "offset" DIRECTION LIMIT $5::int8
    ) AS page
) AS sized WHERE before < $6::int8 ORDER BY "offset" DIRECTION"#;

const REMOVED: &str = "SELECT upto FROM annulus_cleared WHERE channel = $1::text AND epoch = $2::text";

/// Why nothing was read.
#[derive(Debug)]
pub enum Unread {
    /// Too many reads wait.
    Busy,
    /// The database is away, or too slow, or has what cannot be read: a sentence.
    Failed(String),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unread::Busy => f.write_str("too many reads wait"),
            Unread::Failed(sentence) => f.write_str(sentence),
        }
    }
}

/// A shard's way to the database.
pub struct Archive {
    shard: Shard,
    sealer: Option<Arc<Sealer>>,
    way: Way,
}

enum Way {
    Sqlite(Archivist),
    Postgres(Rc<Pool>),
}

impl Archive {
    /// Reads through a node's thread.
    pub fn sqlite(shard: &Shard, archivist: Archivist, sealer: Option<Arc<Sealer>>) -> Archive {
        Archive { shard: shard.clone(), sealer, way: Way::Sqlite(archivist) }
    }

    /// Reads from a server.
    ///
    /// # Errors
    /// A sentence: the URL's certificates cannot be used.
    pub fn postgres(shard: &Shard, target: &Target, sealer: Option<Arc<Sealer>>) -> Result<Archive, String> {
        let settings = PoolSettings {
            sessions_max: (SESSIONS_MAX / shard.count()).max(1),
            waiting_max: WAITING_MAX,
            answer_max: READ_MAX,
            idle_max: IDLE_MAX,
            schema: Some(&SCHEMA),
        };
        let way = Way::Postgres(Pool::new(shard, target, settings)?);
        Ok(Archive { shard: shard.clone(), sealer, way })
    }

    /// Reads a span of a channel in one of its lives.
    ///
    /// # Errors
    /// See [`Unread`].
    pub async fn read(&self, channel: &Arc<str>, epoch: &str, span: Span) -> Result<Found, Unread> {
        match &self.way {
            Way::Postgres(pool) => {
                let read = async |session: &mut postgres::Session| {
                    let mut gathering = Gathering::new(self.sealer.as_deref());
                    let direction = if span.reverse { "DESC" } else { "ASC" };
                    let words = SPAN.replace("DIRECTION", direction);
                    let numbers = [span.after, span.before, span.most as u64, BYTES_MAX as u64];
                    let [after, before, most, bytes] = numbers.map(|number| bigint(number).to_string());
                    let texts = [channel, epoch, &after, &before, &most, &bytes].map(Some);
                    session.ask(&words, &texts, |row| gathering.take_row(channel, epoch, &row)).await?;
                    let mut found = gathering.finish().map_err(Trouble::row)?;
                    if found.rows.is_empty() {
                        let removed = |row: postgres::Row| {
                            found.removed = row.int8(0)?.cast_unsigned();
                            Ok(())
                        };
                        session.ask(REMOVED, &texts[..2], removed).await?;
                    }
                    Ok(found)
                };
                pool.with(read).await.map_err(|refusal| match refusal {
                    Refusal::Busy => Unread::Busy,
                    other => Unread::Failed(other.to_string()),
                })
            }
            Way::Sqlite(archivist) => {
                let (channel, epoch, sealer) = (channel.clone(), epoch.to_owned(), self.sealer.clone());
                self.job(archivist, |ticket| Job::Read { channel, epoch, span, sealer, ticket }).await
            }
        }
    }

    /// Shows no publication of that life up to `upto` any more.
    ///
    /// # Errors
    /// See [`Unread`]; it may be so nevertheless.
    pub async fn clear(&self, channel: &Arc<str>, epoch: &str, upto: u64) -> Result<(), Unread> {
        match &self.way {
            Way::Postgres(pool) => note(pool, CLEAR, channel, epoch, upto).await,
            Way::Sqlite(archivist) => {
                let (channel, epoch) = (channel.clone(), epoch.to_owned());
                self.job(archivist, |ticket| Job::Clear { channel, epoch, upto, ticket }).await
            }
        }
    }

    /// Shows that publication no more.
    ///
    /// # Errors
    /// See [`Unread`]; it may be so nevertheless.
    pub async fn remove(&self, channel: &Arc<str>, epoch: &str, offset: u64) -> Result<(), Unread> {
        match &self.way {
            Way::Postgres(pool) => note(pool, REMOVE, channel, epoch, offset).await,
            Way::Sqlite(archivist) => {
                let (channel, epoch) = (channel.clone(), epoch.to_owned());
                self.job(archivist, |ticket| Job::Remove { channel, epoch, offset, ticket }).await
            }
        }
    }

    async fn job<T: Send + 'static>(
        &self,
        archivist: &Archivist,
        job: impl FnOnce(Ticket<Result<T, String>>) -> Job,
    ) -> Result<T, Unread> {
        let (ticket, reply) = ticket();
        archivist.jobs.try_send(job(ticket)).map_err(|refused| match refused {
            TrySendError::Full(_) => Unread::Busy,
            TrySendError::Disconnected(_) => Unread::Failed("the thread that reads the database has ended".to_owned()),
        })?;
        match self.shard.timeout(READ_MAX, reply).await {
            Ok(Some(read)) => read.map_err(Unread::Failed),
            Ok(None) => Err(Unread::Failed("the thread that reads the database has ended".to_owned())),
            Err(_elapsed) => Err(Unread::Failed("the database did not answer in time".to_owned())),
        }
    }
}

/// Notes something of one publication, or of those up to it, in PostgreSQL.
async fn note(pool: &Rc<Pool>, words: &str, channel: &str, epoch: &str, offset: u64) -> Result<(), Unread> {
    let offset = bigint(offset).to_string();
    let texts = [Some(channel), Some(epoch), Some(offset.as_str())];
    let ask = async |session: &mut postgres::Session| session.ask(words, &texts, |_| Ok(())).await;
    pool.with(ask).await.map(drop).map_err(|refusal| Unread::Failed(refusal.to_string()))
}

/// PostgreSQL's numbers have a sign, and no offset is so large.
fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The thread that reads SQLite for all shards of a node. It ends with the last of these.
#[derive(Clone)]
pub struct Archivist {
    jobs: Sender<Job>,
}

enum Job {
    Read {
        channel: Arc<str>,
        epoch: String,
        span: Span,
        sealer: Option<Arc<Sealer>>,
        ticket: Ticket<Result<Found, String>>,
    },
    Clear {
        channel: Arc<str>,
        epoch: String,
        upto: u64,
        ticket: Ticket<Result<(), String>>,
    },
    Remove {
        channel: Arc<str>,
        epoch: String,
        offset: u64,
        ticket: Ticket<Result<(), String>>,
    },
}

impl Archivist {
    /// Starts it; the database in that folder is opened when it is first read.
    ///
    /// # Errors
    /// A sentence: there is no thread.
    pub fn start(directory: &Path) -> Result<Archivist, String> {
        let (jobs, waiting) = bounded(WAITING_MAX);
        let directory = directory.to_owned();
        let body = move || work(directory, &waiting);
        let thread = std::thread::Builder::new().name("chat-history".to_owned()).spawn(body);
        thread.map_err(|error| format!("starting the thread that reads the database: {error}"))?;
        Ok(Archivist { jobs })
    }
}

fn work(directory: PathBuf, jobs: &Receiver<Job>) {
    let mut reader = None;
    for job in jobs {
        // Who has given up does not delay who has not.
        match job {
            Job::Read { ticket, .. } if ticket.is_abandoned() => {}
            Job::Read { channel, epoch, span, sealer, ticket } => {
                ticket.answer(opened(&mut reader, &directory).and_then(|reader| {
                    let mut gathering = Gathering::new(sealer.as_deref());
                    reader.span(&channel, &epoch, span, |row| gathering.take(row))?;
                    let mut found = gathering.finish()?;
                    if found.rows.is_empty() {
                        found.removed = reader.removed(&channel, &epoch)?;
                    }
                    Ok(found)
                }));
            }
            Job::Clear { channel, epoch, upto, ticket } => {
                ticket.answer(opened(&mut reader, &directory).and_then(|reader| reader.clear(&channel, &epoch, upto)));
            }
            Job::Remove { channel, epoch, offset, ticket } => {
                let reader = opened(&mut reader, &directory);
                ticket.answer(reader.and_then(|reader| reader.remove(&channel, &epoch, offset)));
            }
        }
    }
}

fn opened<'r>(reader: &'r mut Option<Reader>, directory: &Path) -> Result<&'r mut Reader, String> {
    match reader {
        Some(reader) => Ok(reader),
        none => Ok(none.insert(Reader::open(directory)?)),
    }
}

/// Rows on their way to be a part of a page.
struct Gathering<'s> {
    sealer: Option<&'s Sealer>,
    found: Found,
    bytes: usize,
    unreadable: Option<String>,
}

impl<'s> Gathering<'s> {
    fn new(sealer: Option<&'s Sealer>) -> Gathering<'s> {
        Gathering { sealer, found: Found::default(), bytes: 0, unreadable: None }
    }

    /// Takes a row, if there is room left. Whether there may be more.
    fn take(&mut self, row: &Row<'_>) -> bool {
        if self.bytes >= BYTES_MAX {
            self.found.is_cut = true;
            return false;
        }
        self.bytes += row.data.len();
        match as_published(row, self.sealer) {
            Ok(stored) => self.found.rows.push(stored),
            Err(sentence) => self.unreadable = Some(sentence),
        }
        self.unreadable.is_none()
    }

    fn take_row(&mut self, channel: &str, epoch: &str, row: &postgres::Row) -> Result<(), Trouble> {
        let mut letters = [0; 4];
        letters.iter_mut().zip(epoch.bytes()).for_each(|(to, from)| *to = from);
        let row = Row {
            channel,
            epoch: letters,
            offset: row.int8(0)?.cast_unsigned(),
            time_ms: row.int8(1)?.cast_unsigned(),
            user: row.text(2)?,
            client: row.fixed(3)?.unwrap_or_default(),
            conn_info: row.bytes(4)?.unwrap_or_default(),
            chan_info: row.bytes(5)?.unwrap_or_default(),
            tags: row.text(6)?,
            data: row.bytes(7)?.unwrap_or_default(),
            sealed: row.boolean(8)?,
            binary: row.boolean(9)?,
        };
        let _more = self.take(&row);
        Ok(())
    }

    /// The span, or why a row of it cannot be given to anybody.
    fn finish(mut self) -> Result<Found, String> {
        // The server counts with us, and has sent no more than this.
        self.found.is_cut |= self.bytes >= BYTES_MAX;
        self.unreadable.map_or(Ok(self.found), Err)
    }
}

/// A row as clients get it.
fn as_published(row: &Row<'_>, sealer: Option<&Sealer>) -> Result<Stored, String> {
    let (channel, offset) = (row.channel, row.offset);
    let data = match row.sealed {
        false => row.data.into(),
        true => {
            let place = Place { channel, epoch: row.epoch, offset }.bytes();
            let opened = sealer.and_then(|sealer| sealer.open(&place, row.data));
            opened.map(Vec::into_boxed_slice).ok_or_else(|| {
                format!(
                    "the publication {offset} of {channel:?} in the database cannot be decrypted. Fix: add the key that it \
                     was encrypted with to chat.encryption.keys"
                )
            })?
        }
    };
    let some = |bytes: &[u8]| (!bytes.is_empty()).then(|| Arc::from(bytes));
    let author = (row.client != [0; 16]).then(|| Author {
        user: row.user.into(),
        client: ClientId(row.client).into(),
        conn_info: some(row.conn_info),
        chan_info: some(row.chan_info),
    });
    let tags = match row.tags {
        "" => Vec::new(),
        text => {
            let Tags(tags) = serde_json::from_str(text)
                .map_err(|error| format!("the tags of the publication {offset} of {channel:?}: {error}"))?;
            tags.into_iter().map(|(name, value)| (Cow::Owned(name), Cow::Owned(value))).collect()
        }
    };
    let content = Content { data, binary: row.binary, author, tags };
    Ok(Stored { offset, time_ms: row.time_ms, content: Arc::new(content) })
}

/// An object of texts, in its order.
struct Tags(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Tags, D::Error> {
        struct Pairs;
        impl<'de> serde::de::Visitor<'de> for Pairs {
            type Value = Tags;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<M: serde::de::MapAccess<'de>>(self, mut map: M) -> Result<Tags, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Tags(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_becomes_what_was_published() {
        let sealer = Sealer::new("k", &[("k".to_owned(), [7; 32])]).unwrap();
        let sealed = sealer.seal(&Place { channel: "a", epoch: *b"abcd", offset: 3 }.bytes(), b"{\"x\":1}");
        let row = Row {
            channel: "a",
            epoch: *b"abcd",
            offset: 3,
            time_ms: 9,
            user: "42",
            client: [1; 16],
            conn_info: b"{}",
            chan_info: b"",
            tags: r#"{"z":"1","a":"ü"}"#,
            data: &sealed,
            sealed: true,
            binary: false,
        };
        let stored = as_published(&row, Some(&sealer)).unwrap();
        assert_eq!((&*stored.content.data, stored.offset), (&b"{\"x\":1}"[..], 3));
        let tags: Vec<_> = stored.content.tags.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(tags, [("z", "1"), ("a", "ü")], "in their order");
        let author = stored.content.author.as_ref().unwrap();
        assert_eq!((&*author.user, author.chan_info.as_deref()), ("42", None));
        // Put in another place, or without its key, it is not given to anybody.
        assert!(as_published(&Row { offset: 4, ..row }, Some(&sealer)).unwrap_err().contains("Fix:"));
        assert!(as_published(&row, None).is_err());
        assert!(as_published(&Row { tags: "[]", sealed: false, ..row }, None).unwrap_err().contains("tags"));
    }

    #[test]
    fn bytes_have_a_limit_and_one_row_always_fits() {
        let data = vec![b'1'; BYTES_MAX];
        let row = Row { data: &data, ..one() };
        let mut gathering = Gathering::new(None);
        assert!(gathering.take(&row), "it fits");
        assert!(!gathering.take(&row));
        let found = gathering.finish().unwrap();
        assert!(found.is_cut && found.rows.len() == 1);
    }

    fn one() -> Row<'static> {
        Row {
            channel: "a",
            epoch: *b"abcd",
            offset: 1,
            time_ms: 1,
            user: "",
            client: [0; 16],
            conn_info: b"",
            chan_info: b"",
            tags: "",
            data: b"1",
            sealed: false,
            binary: false,
        }
    }
}
