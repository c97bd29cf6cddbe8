//! Nodes around one Redis, and a client that finds its way back.

use std::net::SocketAddr;

use serde_json::Value;

use crate::chat_rig::frames::Raw;
use crate::chat_rig::{Chat, Folder, KEY, Setup};

/// Nodes that share a Redis, each with a folder of its own.
pub struct Fleet {
    url: String,
    more: String,
    pub nodes: Vec<Option<Chat>>,
    pub folders: Vec<Folder>,
}

impl Fleet {
    /// So many nodes around the Redis at `url`; `more` is what else their section `[chat]` says.
    pub fn start(nodes: usize, url: &str, more: &str) -> Fleet {
        let mut fleet = Fleet::prepare(nodes, url, more);
        (0..nodes).for_each(|node| fleet.start_again(node));
        fleet
    }

    /// As [`Fleet::start`], and none of them runs yet.
    pub fn prepare(nodes: usize, url: &str, more: &str) -> Fleet {
        let folders = (0..nodes).map(|_| Folder::new()).collect();
        Fleet { url: url.to_owned(), more: more.to_owned(), nodes: (0..nodes).map(|_| None).collect(), folders }
    }

    /// Starts a node in its folder, on any port, with one shard or two by turns.
    pub fn start_again(&mut self, node: usize) {
        let (url, more) = (&self.url, &self.more);
        let config = format!("api_key = \"{KEY}\"\nnode_name = \"node-{node}\"\nbroker.redis = \"{url}\"\n{more}\n");
        let shards = if node.is_multiple_of(2) { "1" } else { "2" };
        self.nodes[node] = Some(Setup { shards, ..Setup::ours(&config) }.start(&self.folders[node]));
    }

    /// A node that runs.
    pub fn node(&self, node: usize) -> &Chat {
        self.nodes[node].as_ref().unwrap()
    }

    /// Ends a node as `kill -9` does.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].take().unwrap().kill();
    }

    /// Ends all nodes well.
    pub fn stop(self) {
        self.nodes.into_iter().flatten().for_each(Chat::stop);
    }

    /// A client of a node.
    pub fn client(&self, node: usize) -> Client {
        Client::connect(self.node(node).address)
    }
}

/// Publishes over a node's HTTP API until that succeeds; its offset and epoch. The key makes repeating it harmless.
pub fn publish(chat: &Chat, channel: &str, number: u64) -> (u64, String) {
    let body = format!(r#"{{"channel":"{channel}","data":{{"number":{number}}},"idempotency_key":"{number}"}}"#);
    let end = std::time::Instant::now() + crate::chat_rig::PATIENCE;
    loop {
        let answer = chat.call("publish", &body);
        if let Some(offset) = answer["result"]["offset"].as_u64() {
            return (offset, answer["result"]["epoch"].as_str().unwrap().to_owned());
        }
        assert_eq!(answer["error"]["code"], 100, "{answer}");
        assert!(std::time::Instant::now() < end, "never published: {answer}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// The numbers of a channel's history as a node tells it, and where it ends.
pub fn history(chat: &Chat, channel: &str) -> (Vec<u64>, u64, String) {
    let answer = chat.call("history", &format!(r#"{{"channel":"{channel}","limit":1000}}"#));
    let result = &answer["result"];
    let list = result["publications"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let numbers = list.iter().map(|publication| publication["data"]["number"].as_u64().unwrap()).collect();
    (numbers, result["offset"].as_u64().unwrap(), result["epoch"].as_str().unwrap().to_owned())
}

/// A client with one subscription, which remembers what it has heard.
pub struct Client {
    pub raw: Raw,
    pub offset: u64,
    pub epoch: String,
    /// The numbers that it has heard, in order.
    pub numbers: Vec<u64>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let raw = Raw::connect(address, "somebody");
        Client { raw, offset: 0, epoch: String::new(), numbers: Vec::new() }
    }

    /// Subscribes, from the beginning or from where it was; the reply. Refusals that are temporary are tried again.
    pub fn subscribe(&mut self, channel: &str) -> Value {
        let from = match self.epoch.is_empty() {
            true => String::new(),
            false => format!(r#","recover":true,"offset":{},"epoch":"{}""#, self.offset, self.epoch),
        };
        loop {
            self.raw.say(&format!(
                r#"{{"id":2,"subscribe":{{"channel":"{channel}","positioned":true,"recoverable":true{from}}}}}"#
            ));
            let text = self.raw.hear_of(r#"{"id":2,"#);
            let reply: Value = serde_json::from_str(&text).unwrap();
            if reply["error"]["temporary"] == true {
                std::thread::sleep(std::time::Duration::from_millis(20));
                continue;
            }
            let result = &reply["subscribe"];
            if let Some(epoch) = result["epoch"].as_str() {
                self.epoch = epoch.to_owned();
                self.offset = result["offset"].as_u64().unwrap_or(0);
            }
            let missed = result["publications"].as_array().cloned().unwrap_or_default();
            missed.iter().for_each(|publication| self.take(publication));
            return reply;
        }
    }

    fn take(&mut self, publication: &Value) {
        let offset = publication["offset"].as_u64().unwrap();
        assert_eq!(offset, self.offset + 1, "a gap, or one twice: {publication}");
        self.offset = offset;
        self.numbers.push(publication["data"]["number"].as_u64().unwrap());
    }

    /// Hears publications until it is at this offset.
    pub fn hear_up_to(&mut self, offset: u64) {
        while self.offset < offset {
            let text = self.raw.hear();
            for line in text.lines() {
                let message: Value = serde_json::from_str(line).unwrap();
                let publication = &message["push"]["pub"];
                assert!(message["push"]["unsubscribe"].is_null(), "it was sent to begin anew: {text}");
                if publication.is_object() {
                    self.take(publication);
                }
            }
        }
    }

    /// Waits until it is sent to begin anew.
    pub fn begins_anew(&mut self) {
        let text = self.raw.hear_of("\"unsubscribe\"");
        assert!(text.contains("2500"), "{text}");
    }
}
