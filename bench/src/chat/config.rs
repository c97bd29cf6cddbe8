//! What the chat is told: its configuration files, all of them here.

use crate::placement;
use std::path::{Path, PathBuf};

/// Publications that a channel keeps while the server is killed: all of a run, so that every one can be looked for.
pub const HISTORY_ALL: usize = 100_000;

/// When a publish command is answered; the namespace of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Ack {
    /// It has its place in memory.
    Mem,
    /// It is written.
    Page,
    /// It is on stable storage.
    Wal,
    /// It is in the database.
    Db,
}

impl Ack {
    /// Its name, and its namespace's.
    pub fn name(self) -> &'static str {
        match self {
            Ack::Mem => "mem",
            Ack::Page => "page",
            Ack::Wal => "wal",
            Ack::Db => "db",
        }
    }
}

/// Files that make a publication take processor time: see `work.rs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkFiles {
    /// A JSON Schema.
    pub schema: PathBuf,
    /// A key of 32 bytes.
    pub key: PathBuf,
}

/// What differs from the defaults.
#[derive(Clone, Debug, Default)]
pub struct Chat<'a> {
    /// Shards; as many as the machine is split into when none.
    pub shards: Option<usize>,
    /// When publish commands are answered, in a namespace of that name; the server's default when none.
    pub ack: Option<Ack>,
    /// Where the log is; there is none when none.
    pub directory: Option<&'a Path>,
    /// Where rows go: the URL of PostgreSQL, or a folder for the embedded database; one beside the log when none.
    pub database: Option<&'a str>,
    /// The URL of the Redis that several nodes share.
    pub broker: Option<&'a str>,
    /// What publications are validated and encrypted with.
    pub work: Option<&'a WorkFiles>,
    /// Clients need tokens signed with this.
    pub token_secret: Option<&'a str>,
    /// Whether channels keep all that is published.
    pub keeps_all: bool,
    /// Whether clients are not pinged: where the load saturates them, they answer when they come to it.
    pub pings_nobody: bool,
}

/// No limits of rates.
const LIMITS: &str = "\n[chat.limits]\ncommands_per_second = 0\npublishes_per_second = 0\naccepts_per_second = 0\n";

/// What channels' names begin with at a level.
pub fn prefix(ack: Option<Ack>) -> String {
    ack.map_or_else(String::new, |ack| format!("{}:", ack.name()))
}

impl Chat<'_> {
    /// The configuration file.
    pub fn text(&self) -> String {
        let mut text = self.engine() + &format!("\n[chat]\ninsecure = {}\n", self.token_secret.is_none());
        if let Some(secret) = self.token_secret {
            text += &format!("\n[chat.tokens]\nhmac_secret = {secret:?}\n");
        }
        if self.pings_nobody {
            text += "\n[chat.client]\nping_interval = 0\n";
        }
        // The load is the measurement's, and no limit of it.
        text += LIMITS;
        text += &match self.directory {
            Some(directory) => format!("\n[chat.log]\ndirectory = {directory:?}\n"),
            None => "\n[chat.log]\nenabled = false\n".to_owned(),
        };
        // Behind a log there is a database; it would else be where the bench was started.
        let beside = self.directory.map(|log| log.with_file_name("database").display().to_string());
        if let Some(database) = self.database.map(str::to_owned).or(beside) {
            let kind = if database.starts_with("postgres") { "postgres" } else { "sqlite" };
            text += &format!("\n[chat.database]\n{kind} = {database:?}\n");
        }
        if let Some(redis) = self.broker {
            text += &format!("\n[chat.broker]\nredis = {redis:?}\n");
        }
        if let Some(WorkFiles { key, .. }) = self.work {
            text += &format!("\n[chat.encryption]\ncurrent = \"bench\"\nkeys.bench = \"file:{}\"\n", key.display());
        }
        text + &self.channels()
    }

    fn engine(&self) -> String {
        let mut cores = placement::server_cores();
        let shards = self.shards.unwrap_or(cores.len());
        // More shards than cores of their own: then they take what there is.
        if shards > cores.len() {
            cores = (0..shards).map(|shard| shard % placement::cores()).collect();
        }
        cores.truncate(shards);
        format!("[engine]\nshards = {shards}\npin = {cores:?}\n")
    }

    /// What the channels of the run are like.
    fn channels(&self) -> String {
        let mut text = match self.ack.map(Ack::name) {
            Some(name) => format!("\n[[chat.namespaces]]\nname = {name:?}\nack = {name:?}\n"),
            None => "\n[chat.default]\n".to_owned(),
        };
        if self.keeps_all {
            text += &format!("history_size = {HISTORY_ALL}\nhistory_ttl = \"24h\"\n");
        }
        if let Some(WorkFiles { schema, .. }) = self.work {
            text += &format!("schema = {schema:?}\nencrypt = true\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_options_there_are_cores_and_insecurity() {
        let text = Chat { shards: Some(1), ..Chat::default() }.text();
        let log = "[chat.log]\nenabled = false\n";
        assert_eq!(
            text,
            format!("[engine]\nshards = 1\npin = [0]\n\n[chat]\ninsecure = true\n{LIMITS}\n{log}\n[chat.default]\n")
        );
    }

    #[test]
    fn a_level_has_a_namespace_of_its_name_and_a_log() {
        let directory = Path::new("/tmp/log");
        let chat = Chat { ack: Some(Ack::Wal), directory: Some(directory), keeps_all: true, ..Chat::default() };
        let text = chat.text();
        assert!(text.contains("[chat.log]\ndirectory = \"/tmp/log\"\n"), "{text}");
        assert!(text.contains("sqlite = \"/tmp/database\"\n"), "{text}");
        assert!(text.contains("[[chat.namespaces]]\nname = \"wal\"\nack = \"wal\"\nhistory_size = 100000\n"), "{text}");
        assert_eq!((prefix(chat.ack), prefix(None)), ("wal:".to_owned(), String::new()));
    }

    #[test]
    fn secrets_databases_and_work_are_handed_on() {
        let files = WorkFiles { schema: "/tmp/schema".into(), key: "/tmp/key".into() };
        let chat = Chat { token_secret: Some("s"), work: Some(&files), ..Chat::default() };
        let text = chat.text();
        assert!(text.contains("insecure = false") && text.contains("hmac_secret = \"s\""), "{text}");
        assert!(text.contains("keys.bench = \"file:/tmp/key\"") && text.contains("encrypt = true"), "{text}");
        let fleet = Chat { broker: Some("redis://a"), ..Chat::default() }.text();
        assert!(fleet.contains("[chat.broker]\nredis = \"redis://a\"\n"), "{fleet}");
        let of = |url| Chat { database: Some(url), ..Chat::default() }.text();
        assert!(of("postgres://a@b/c").contains("postgres = \"postgres://a@b/c\""));
        assert!(of("/tmp/rows").contains("sqlite = \"/tmp/rows\""));
    }
}
