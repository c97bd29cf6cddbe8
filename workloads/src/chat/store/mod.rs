//! The chat's database: publications come asynchronously from the write-ahead log, in log order, and become visible once.
//!
//! ```text
//!   log ─► Source ─► feed ─┬─► sqlite.rs     one thread: rows and position in one transaction
//!                          └─► postgres/     clerk (thread) ─► lanes by hash(channel) ─► one INSERT in flight on each
//!                                │
//!   row.rs  checkpoint.rs  dead.rs           rows in arenas; how far it is; rows that the database refuses
//!   history.rs                               reading the embedded database
//! ```
//!
//! # The table, for readers
//!
//! `annulus_publications`, one row per publication, never changed once written:
//!
//! | column | PostgreSQL | SQLite | |
//! |---|---|---|---|
//! | `channel` | text | TEXT | |
//! | `epoch` | text | TEXT | four letters; another epoch is another history of the channel |
//! | `"offset"` | bigint | INTEGER | place in the history, without holes but for dead letters |
//! | `time_ms` | bigint | INTEGER | when it was published, milliseconds since 1970 |
//! | `"user"` | text | TEXT | who published it; empty: the server |
//! | `client` | uuid | TEXT | the connection that published it; null: the server |
//! | `conn_info`, `chan_info` | bytea | BLOB | what tokens said of them; null: nothing |
//! | `tags` | json | TEXT | an object of texts; null: none |
//! | `data` | bytea | BLOB | what was published |
//! | `sealed` | boolean | INTEGER | `data` is encrypted |
//! | `binary_data` | boolean | INTEGER | `data`, once opened, is bytes and no JSON text |
//!
//! The key is `(channel, epoch, "offset")`. `data` is kept as bytes, so that no encoding of the database can change or
//! refuse it; the view `annulus_messages` shows it as JSON (null where it is sealed or binary).

mod checkpoint;
mod dead;
pub mod feed;
mod folder;
pub mod history;
pub mod postgres;
pub mod row;
pub mod sqlite;

pub use feed::{Feed, FeedState, LogId, Mark, OnProgress, Progress, Source};
pub use history::History;
pub use postgres::{PostgresSettings, SslMode, Target, start_postgres};
pub use row::{Row, Rows, Stored};
pub use sqlite::{SqliteSettings, start_sqlite};
