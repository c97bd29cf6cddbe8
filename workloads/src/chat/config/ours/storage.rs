//! `[chat.log]`, `[chat.database]`, `[chat.broker]` and `[chat.encryption]`.

use super::{TIB, key, secret, some};
use crate::chat::config::keys::{Key, Set, expected, members, read_table};
use crate::chat::config::model::{Broker, Config, Database, Encryption, Log};
use crate::chat::config::secret::{KeySource, Secret};
use crate::gateway::config::tree::Value;

/// `[chat.log]`.
pub const LOG: &[Key<Log>] = &[
    key(
        "enabled",
        "true",
        "whether there is a log; without it nothing outlives the process",
        Set::Bool(|log, is| log.enabled = is),
    ),
    key(
        "directory",
        "DATA/chat/log",
        "where it is; DATA is what `--data` says, `./annulus-data` if it says nothing",
        Set::Text(|log, path| log.directory = some(path).map(Into::into)),
    ),
    key(
        "accept_loss",
        "false",
        "a damaged log is opened without what is damaged: for one start, after `annulus chat verify-log`",
        Set::Bool(|log, is| log.accept_loss = is),
    ),
    key(
        "segment_bytes",
        "\"16MiB\"",
        "size of a segment's file",
        Set::Bytes(1 << 20, 1 << 30, |log, bytes| log.segment_bytes = bytes),
    ),
    key(
        "bytes_max",
        "\"4GiB\"",
        "all segments; beyond: publishing gets a temporary error",
        Set::Bytes(4 << 20, TIB, |log, bytes| log.bytes_max = bytes),
    ),
    key(
        "batch_bytes_max",
        "\"256KiB\"",
        "what one fdatasync takes",
        Set::Bytes(4096, 16 << 20, |log, bytes| log.batch_bytes_max = bytes as usize),
    ),
    key(
        "checkpoint_bytes",
        "\"64MiB\"",
        "written between checkpoints; what a start reads again",
        Set::Bytes(1 << 20, TIB, |log, bytes| log.checkpoint_bytes = bytes),
    ),
];

/// `[chat.broker]`.
pub const BROKER: &[Key<Broker>] = &[
    key(
        "redis",
        "\"redis://127.0.0.1:6379\"",
        "the Redis that numbers publications and keeps history for all nodes: `redis://`, `rediss://` or \
         `redis+cluster://` with `user:password@` if need be",
        Set::Text(|broker, url| broker.redis = Secret::new(url)),
    ),
    key(
        "prefix",
        "\"annulus\"",
        "what all names in it begin with; the same on all nodes of a chat, another for another chat",
        Set::Text(|broker, prefix| broker.prefix = prefix),
    ),
];

/// What `[chat.database]` says before it is known which database it is.
#[derive(Default)]
pub struct DatabaseDraft {
    sqlite: Option<String>,
    postgres: Option<Secret>,
    connections: Option<usize>,
    batch_rows_max: Option<usize>,
    disabled: bool,
}

/// Connections to PostgreSQL, and rows of a statement, if nothing is said.
const CONNECTIONS: usize = 50;
const BATCH_ROWS_MAX: usize = 500;

/// `[chat.database]`.
pub const DATABASE: &[Key<DatabaseDraft>] = &[
    key("enabled", "true", "whether there is a database behind the log", Set::Bool(|draft, is| draft.disabled = !is)),
    key(
        "sqlite",
        "DATA/chat/database",
        "folder of the embedded database; made if it is not there",
        Set::Text(|draft, path| draft.sqlite = some(path)),
    ),
    key(
        "postgres",
        "none",
        "`postgres://user:password@host:port/database`, instead of it",
        Set::Text(|draft, url| draft.postgres = secret(url)),
    ),
    key(
        "connections",
        "50",
        "to PostgreSQL",
        Set::Count(1, 1000, |draft, count| draft.connections = Some(count as usize)),
    ),
    key(
        "batch_rows_max",
        "500",
        "rows of a statement to PostgreSQL",
        Set::Count(1, 10_000, |draft, count| draft.batch_rows_max = Some(count as usize)),
    ),
];

/// `[chat.encryption]`.
pub const ENCRYPTION: &[Key<Encryption>] = &[
    key(
        "current",
        "none",
        "the name of the key for new publications",
        Set::Text(|encryption, name| encryption.current = some(name)),
    ),
    key(
        "keys",
        "{}",
        "32 bytes by name: `\"file:PATH\"` (as they are, hexadecimal or base64) or `\"env:NAME\"`",
        Set::Value("texts by name", set_encryption_keys),
    ),
];

/// Reads it.
pub fn set_database(chat: &mut Config, value: &Value) -> Result<(), String> {
    let mut draft = DatabaseDraft::default();
    read_table(DATABASE, &mut draft, value)?;
    chat.has_database = !draft.disabled;
    if draft.disabled {
        chat.database = Database::None;
        return Ok(());
    }
    chat.database = match (draft.sqlite, draft.postgres) {
        (Some(_), Some(_)) => {
            return Err("sqlite and postgres exclude each other: one database holds a channel".to_owned());
        }
        (Some(path), None) => {
            if draft.connections.is_some() || draft.batch_rows_max.is_some() {
                return Err("connections and batch_rows_max are of postgres: sqlite has one writer".to_owned());
            }
            Database::Sqlite { directory: path.into() }
        }
        (None, Some(url)) => Database::Postgres {
            url,
            connections: draft.connections.unwrap_or(CONNECTIONS),
            batch_rows_max: draft.batch_rows_max.unwrap_or(BATCH_ROWS_MAX),
        },
        (None, None) if draft.connections.is_some() || draft.batch_rows_max.is_some() => {
            return Err("connections and batch_rows_max are of postgres, and there is no postgres".to_owned());
        }
        (None, None) => Database::None,
    };
    Ok(())
}

fn set_encryption_keys(encryption: &mut Encryption, value: &Value) -> Result<(), String> {
    encryption.keys.clear();
    for member in members(value)? {
        let Value::String(text) = &member.value.value else { return expected("texts by name") };
        let Some(source) = KeySource::parse(text) else {
            return Err(format!("{}: expected \"file:PATH\" or \"env:NAME\"", member.name));
        };
        encryption.keys.push((member.name.clone(), source));
    }
    Ok(())
}
