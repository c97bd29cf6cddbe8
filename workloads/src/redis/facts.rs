//! What a server says of itself when a connection is made: which run of it this is, and what its word is worth.

use super::value::Value;

/// How durable what a server has acknowledged is (`appendonly`, `appendfsync`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On its disk before it answers.
    Always,
    /// On its disk a second later: a crash of its machine loses about a second.
    EverySecond,
    /// When its kernel likes, or with the next snapshot: a crash loses everything since.
    No,
    /// It does not say: `CONFIG` is refused to us.
    Unknown,
}

impl Durability {
    /// What a crash of the server's machine can lose, in words.
    pub fn loses(self) -> &'static str {
        match self {
            Durability::Always => "nothing (appendfsync always)",
            Durability::EverySecond => "about a second (appendfsync everysec)",
            Durability::No => "everything since its last snapshot (no append-only file, or appendfsync no)",
            Durability::Unknown => "nobody knows how much (it does not show us its configuration)",
        }
    }
}

/// A server, as it was when the connection was made. What is configured later is seen with the next connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// Another one after each start of the server.
    pub run_id: String,
    /// Its version.
    pub version: String,
    /// Whether it was a replica and became the one that takes writes: what the one before it had acknowledged and not yet
    /// replicated is lost.
    pub is_promoted: bool,
    /// Replicas that follow it.
    pub replicas: u64,
    /// What it promises of what it acknowledges.
    pub durability: Durability,
    /// What it does when its memory is full (`maxmemory-policy`): anything but `noeviction` may drop what we keep there. Empty
    /// if it does not say.
    pub maxmemory_policy: String,
}

/// What the answers to the greeting say.
#[derive(Default)]
pub(super) struct Told {
    info: Vec<(String, String)>,
    config: Vec<(String, String)>,
}

impl Told {
    /// Takes an answer to `INFO`: lines of `name:value`.
    pub(super) fn take_info(&mut self, answer: &Value) {
        for line in answer.as_str().unwrap_or_default().lines() {
            if let Some((name, value)) = line.split_once(':') {
                self.info.push((name.to_owned(), value.trim().to_owned()));
            }
        }
    }

    /// Takes an answer to `CONFIG GET`; a refusal says nothing.
    pub(super) fn take_config(&mut self, answer: Value) {
        for (name, value) in answer.into_pairs().unwrap_or_default() {
            if let (Some(name), Some(value)) = (name.as_str(), value.as_str()) {
                self.config.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    fn info(&self, name: &str) -> &str {
        self.info.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    fn config(&self, name: &str) -> &str {
        self.config.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Why it cannot serve now, if it says so.
    pub(super) fn trouble(&self) -> Option<String> {
        if self.info("loading") == "1" {
            return Some(format!("it loads its data ({} s to go)", self.info("loading_eta_seconds")));
        }
        if self.info("role") == "slave" {
            return Some(format!(
                "it is a replica of {}:{}, and replicas refuse writes. Fix: name the primary, or a host that always leads to it",
                self.info("master_host"),
                self.info("master_port")
            ));
        }
        None
    }

    /// Everything together.
    pub(super) fn facts(&self) -> ServerFacts {
        let is_promoted = self.info("second_repl_offset").parse::<i64>().is_ok_and(|offset| offset >= 0)
            || self.info("master_replid2").bytes().any(|digit| digit != b'0');
        let durability = match (self.config("appendonly"), self.config("appendfsync"), self.info("aof_enabled")) {
            ("yes", "always", _) => Durability::Always,
            ("yes", "everysec", _) => Durability::EverySecond,
            ("yes", "no", _) | ("no", ..) | (_, _, "0") => Durability::No,
            _ => Durability::Unknown,
        };
        ServerFacts {
            run_id: self.info("run_id").to_owned(),
            version: self.info("redis_version").to_owned(),
            is_promoted,
            replicas: self.info("connected_slaves").parse().unwrap_or(0),
            durability,
            maxmemory_policy: self.config("maxmemory-policy").to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(info: &str, config: &[(&str, &str)]) -> Told {
        let mut told = Told::default();
        told.take_info(&Value::Text(info.to_owned()));
        for (name, value) in config {
            told.take_config(Value::List(vec![Value::Text(name.to_string()), Value::Text(value.to_string())]));
        }
        told.take_config(Value::Error { code: "NOPERM".to_owned(), message: String::new() });
        told
    }

    #[test]
    fn what_a_server_says_is_what_its_word_is_worth() {
        for (appendonly, appendfsync, durability) in [
            ("yes", "always", Durability::Always),
            ("yes", "everysec", Durability::EverySecond),
            ("yes", "no", Durability::No),
            ("no", "always", Durability::No),
        ] {
            let told = told("aof_enabled:1", &[("appendonly", appendonly), ("appendfsync", appendfsync)]);
            assert_eq!(told.facts().durability, durability);
        }
        assert_eq!(told("aof_enabled:1\r\n", &[]).facts().durability, Durability::Unknown);
        assert_eq!(told("aof_enabled:0\r\n", &[]).facts().durability, Durability::No);
        assert_eq!(told("", &[]).facts().durability, Durability::Unknown);
    }

    #[test]
    fn a_promoted_replica_is_told_from_a_primary() {
        let zeros = "0".repeat(40);
        let primary = format!("role:master\r\nmaster_replid2:{zeros}\r\nsecond_repl_offset:-1\r\n");
        assert!(!told(&primary, &[]).facts().is_promoted);
        assert!(!told("", &[]).facts().is_promoted);
        assert!(told("role:master\r\nsecond_repl_offset:120\r\n", &[]).facts().is_promoted);
        assert!(told("role:master\r\nmaster_replid2:00a0\r\n", &[]).facts().is_promoted);
    }

    #[test]
    fn replicas_and_servers_that_load_do_not_serve() {
        assert_eq!(told("role:master\r\nloading:0\r\n", &[]).trouble(), None);
        assert!(told("loading:1\r\nloading_eta_seconds:3\r\n", &[]).trouble().unwrap().contains("3 s"));
        let replica = told("role:slave\r\nmaster_host:a\r\nmaster_port:1\r\n", &[]);
        assert!(replica.trouble().unwrap().contains("a:1"));
    }
}
