//! Nodes of several hubs around a broker, which the test plays: it numbers, keeps and passes on as the scripts do.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::chat::broker::{Added, Failure, From, News, Page, Read};
use crate::chat::config::model::Broker as Settings;
use crate::chat::config::{Ack, RecoveryMode};
use crate::chat::letters::Key;
use crate::chat::log::{self, Lsn, Record};
use crate::chat::stream::Epoch;

/// A channel at the broker.
#[derive(Default)]
struct Kept {
    epoch: Epoch,
    top: u64,
    entries: Vec<(u64, Bytes)>,
    keys: BTreeMap<[u8; 16], (u64, u64)>,
}

/// What Redis does, in memory.
#[derive(Default)]
struct Broker {
    channels: BTreeMap<String, Kept>,
    epochs: u8,
    /// Who listens: node, shard, channel.
    listeners: Vec<(usize, usize, Arc<str>)>,
    is_away: bool,
    /// Nothing is passed on: as if a connection were about to break.
    is_deaf: bool,
}

impl Broker {
    fn of(&mut self, channel: &str) -> &mut Kept {
        self.epochs += 1;
        let epoch = [b'e', b'p', b'0', b'a' + self.epochs % 26];
        self.channels.entry(channel.to_owned()).or_insert_with(|| Kept { epoch, ..Kept::default() })
    }
}

struct Fleet {
    nodes: Vec<World>,
    broker: Broker,
}

impl Fleet {
    fn new(nodes: usize, shards: usize, mut config: Config) -> Fleet {
        config.broker = Some(Settings::default());
        config.channels.default.idempotency_field = Some("id".to_owned());
        let node = |number: usize| World::new(shards, Config { uid: format!("node-{number}"), ..config.clone() });
        let mut fleet = Fleet { nodes: (0..nodes).map(node).collect(), broker: Broker::default() };
        for node in 0..nodes {
            fleet.tell_all(node, || News::Up(true));
        }
        fleet
    }

    fn tell(&mut self, node: usize, shard: usize, news: News) {
        self.nodes[node].letters.push_back((shard, Letter::Broker(news)));
        self.nodes[node].settle();
    }

    fn tell_all(&mut self, node: usize, news: impl Fn() -> News) {
        for shard in 0..self.nodes[node].hubs.len() {
            self.tell(node, shard, news());
        }
    }

    /// Fulfils wishes until there are none.
    fn settle(&mut self) {
        while let Some((node, shard, wish)) = self.next_wish() {
            self.fulfil(node, shard, wish);
        }
    }

    fn next_wish(&mut self) -> Option<(usize, usize, Wish)> {
        for node in 0..self.nodes.len() {
            self.nodes[node].settle();
            if !self.nodes[node].wishes.is_empty() {
                let (shard, wish) = self.nodes[node].wishes.remove(0);
                return Some((node, shard, wish));
            }
        }
        None
    }

    fn fulfil(&mut self, node: usize, shard: usize, wish: Wish) {
        match wish {
            Wish::Attach(channel) => {
                self.broker.listeners.push((node, shard, channel.clone()));
                if !self.broker.is_away {
                    self.tell(node, shard, News::Attached(channel));
                }
            }
            Wish::Detach(channel) => self.broker.listeners.retain(|known| *known != (node, shard, channel.clone())),
            Wish::Say { channel, message } => self.pass_on(&channel, message.into()),
            Wish::Read(read) => {
                let outcome = if self.broker.is_away { Err(Failure::Away) } else { Ok(self.read(&read)) };
                self.tell(node, shard, News::Read { id: read.id, outcome });
            }
            Wish::Clear { id, channel, .. } => {
                let kept = self.broker.of(&channel);
                kept.entries.clear();
                let forgotten = (kept.epoch, kept.top);
                let message = [b"1C", &kept.epoch[..], format!("{}:", kept.top).as_bytes()].concat();
                self.pass_on(&channel, message.into());
                self.tell(node, shard, News::Cleared { id, outcome: Ok(forgotten) });
            }
            Wish::Remove { id, channel, offset, epoch, .. } => {
                let kept = self.broker.of(&channel);
                let is_meant = epoch.is_empty() || epoch.as_bytes() == kept.epoch;
                let was_given = is_meant && offset <= kept.top;
                let removed = (kept.epoch, was_given);
                let entry = kept.entries.iter_mut().find(|(known, _)| *known == offset && was_given);
                if let Some((_, entry)) = entry {
                    *entry = Bytes::new();
                }
                if was_given {
                    let message = [b"1R", &removed.0[..], format!("{offset}:").as_bytes()].concat();
                    self.pass_on(&channel, message.into());
                }
                self.tell(node, shard, News::Removed { id, outcome: Ok(removed) });
            }
            Wish::Add(add) => {
                let outcome = match self.broker.is_away {
                    true => Err(Failure::Away),
                    false => Ok(self.add(&add.channel, add.key, add.entry, add.keep.size)),
                };
                self.tell(node, shard, News::Added { id: add.id, outcome });
            }
        }
    }

    fn add(&mut self, channel: &str, key: Key, entry: Bytes, size: usize) -> Added {
        let kept = self.broker.of(channel);
        if let Some(&(offset, payload)) = kept.keys.get(&key.digest) {
            return Added { epoch: kept.epoch, offset, is_repeat: true, payload };
        }
        kept.top += 1;
        let (epoch, offset) = (kept.epoch, kept.top);
        kept.entries.push((offset, entry.clone()));
        let excess = kept.entries.len().saturating_sub(size);
        kept.entries.drain(..excess);
        kept.keys.insert(key.digest, (offset, key.payload));
        let message = [b"1P", &epoch[..], format!("{offset}:").as_bytes(), &entry].concat();
        self.pass_on(channel, message.into());
        Added { epoch, offset, is_repeat: false, payload: key.payload }
    }

    fn read(&mut self, read: &Read) -> Page {
        let kept = self.broker.of(&read.channel);
        let (oldest, newest) = (kept.entries.clone(), kept.entries.iter().rev().cloned());
        let entries: Vec<_> = match read.from {
            From::After(number) => oldest.into_iter().filter(|(offset, _)| *offset > number).take(read.limit).collect(),
            From::Before(number) => newest.filter(|(offset, _)| *offset < number).take(read.limit).collect(),
            From::End => newest.take(read.limit).collect(),
        };
        Page { epoch: kept.epoch, top: kept.top, entries }
    }

    fn pass_on(&mut self, channel: &str, message: Bytes) {
        if self.broker.is_deaf || self.broker.is_away {
            return;
        }
        let listeners: Vec<_> =
            self.broker.listeners.iter().filter(|(.., known)| **known == *channel).cloned().collect();
        for (node, shard, channel) in listeners {
            self.tell(node, shard, News::Heard { channel, message: message.clone() });
        }
    }

    fn connected(&mut self, node: usize, shard: usize) -> (usize, Place) {
        (node, self.nodes[node].connected(shard))
    }

    fn say(&mut self, (node, place): (usize, Place), text: &str) {
        self.nodes[node].say(place, text);
        self.settle();
    }

    fn heard(&mut self, (node, place): (usize, Place)) -> Vec<String> {
        self.nodes[node].heard(place)
    }

    fn tick(&mut self, ms: u64) {
        for node in 0..self.nodes.len() {
            self.nodes[node].now += ms;
            for shard in 0..self.nodes[node].hubs.len() {
                let (mut fake, now) = (self.nodes[node].fake(shard), self.nodes[node].now);
                self.nodes[node].hubs[shard].tick(&mut fake, now);
                self.nodes[node].absorb(shard, fake);
            }
        }
        self.settle();
    }

    /// The broker's connections break and come back.
    fn reconnect(&mut self) {
        for node in 0..self.nodes.len() {
            self.tell_all(node, || News::Lost);
            self.tell_all(node, || News::Up(true));
        }
        for (node, shard, channel) in self.broker.listeners.clone() {
            self.tell(node, shard, News::Attached(channel));
        }
        self.settle();
    }
}

const SUBSCRIBE: &str = "{\"id\":2,\"subscribe\":{\"channel\":\"c\",\"positioned\":true,\"recoverable\":true}}";

fn publish(id: u32, data: &str) -> String {
    format!("{{\"id\":{id},\"publish\":{{\"channel\":\"c\",\"data\":{data}}}}}")
}

fn recover(offset: u64, epoch: &str) -> String {
    format!(
        "{{\"id\":2,\"subscribe\":{{\"channel\":\"c\",\"recoverable\":true,\"recover\":true,\"offset\":{offset},\
         \"epoch\":\"{epoch}\"}}}}"
    )
}

/// The numbers of publications within a reply: each stands last in its object.
fn within(reply: &str) -> Vec<u64> {
    let numbers = reply.split("\"offset\":").skip(1).filter_map(|rest| {
        let (digits, rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        digits.parse().ok().filter(|_| rest.starts_with('}') && !rest.starts_with("}}"))
    });
    numbers.collect()
}

fn epoch_in(text: &str) -> String {
    text.split_once("\"epoch\":\"").unwrap().1[..4].to_owned()
}

#[test]
fn members_of_all_nodes_hear_everything_once_and_in_one_order() {
    let mut fleet = Fleet::new(3, 2, with_history(100));
    let clients: Vec<_> = (0..6).map(|n| fleet.connected(n % 3, n / 3)).collect();
    for &client in &clients {
        fleet.say(client, SUBSCRIBE);
        assert!(fleet.heard(client)[0].contains("\"epoch\":\"ep0"));
    }
    for n in 0..12 {
        let client = clients[n % 6];
        fleet.say(client, &publish(n as u32 + 3, &n.to_string()));
    }
    for &client in &clients {
        let heard = fleet.heard(client);
        assert_eq!(offsets(&heard), (1..=12).collect::<Vec<u64>>());
        assert_eq!(heard.iter().filter(|text| text.contains("\"publish\":{}")).count(), 2);
    }
}

#[test]
fn a_key_is_one_publication_wherever_it_comes_in() {
    let mut fleet = Fleet::new(2, 1, with_history(100));
    let (here, there) = (fleet.connected(0, 0), fleet.connected(1, 0));
    fleet.say(here, SUBSCRIBE);
    fleet.heard(here);
    fleet.say(here, &publish(3, "{\"id\":\"k\",\"n\":1}"));
    let heard = fleet.heard(here);
    assert_eq!(offsets(&heard), [1]);
    // The same user, or the key would be another's.
    let again = fleet.nodes[1].open(0);
    fleet.nodes[1].say(again, "{\"id\":1,\"connect\":{\"data\":{\"user\":\"u0\"}}}");
    fleet.say((1, again), &publish(4, "{\"id\":\"k\",\"n\":1}"));
    assert!(fleet.heard((1, again)).join("\n").contains("{\"id\":4,\"publish\":{}}"));
    assert_eq!(fleet.nodes[1].hubs[0].counts.repeated, 1);
    assert!(fleet.heard(here).is_empty() && fleet.heard(there).is_empty());
    fleet.say((1, again), &publish(5, "{\"id\":\"k\",\"n\":2}"));
    assert!(fleet.heard((1, again)).join("\n").contains("\"code\":107"), "the same key with another payload");
}

#[test]
fn who_comes_back_to_another_node_recovers_from_the_copy_or_from_the_broker() {
    let mut fleet = Fleet::new(2, 1, with_history(10));
    let first = fleet.connected(0, 0);
    fleet.say(first, SUBSCRIBE);
    let epoch = epoch_in(&fleet.heard(first)[0]);
    for n in 0..8 {
        fleet.say(first, &publish(n + 3, "1"));
    }
    // Nobody on the other node has listened so far: what is missed is read.
    let second = fleet.connected(1, 0);
    fleet.say(second, &recover(3, &epoch));
    let heard = fleet.heard(second).join("\n");
    assert!(heard.contains("\"recovered\":true") && heard.contains("\"offset\":3"), "{heard}");
    assert_eq!(within(&heard), [4, 5, 6, 7, 8], "{heard}");
    // From the copy now, as far as it goes.
    fleet.say(first, &publish(20, "2"));
    assert_eq!(offsets(&fleet.heard(second)), [9]);
    let third = fleet.connected(1, 0);
    fleet.say(third, &recover(8, &epoch));
    assert!(fleet.heard(third).join("\n").contains("\"recovered\":true"));
    // Too far back, another life, and a position from the future.
    for n in 0..9 {
        fleet.say(first, &publish(n + 30, "3"));
    }
    for (offset, epoch) in [(3, epoch.as_str()), (18, "none"), (99, epoch.as_str())] {
        let client = fleet.connected(1, 0);
        fleet.say(client, &recover(offset, epoch));
        let heard = fleet.heard(client).join("\n");
        assert!(
            !heard.contains("\"recovered\":true") && heard.contains("\"was_recovering\":true"),
            "{offset}: {heard}"
        );
    }
}

#[test]
fn the_latest_is_read_where_only_that_is_recovered() {
    let mut config = with_history(10);
    config.channels.default.recovery_mode = RecoveryMode::Cache;
    let mut fleet = Fleet::new(2, 1, config);
    let first = fleet.connected(0, 0);
    fleet.say(first, &publish(3, "\"old\""));
    fleet.say(first, &publish(4, "\"new\""));
    let second = fleet.connected(1, 0);
    fleet.say(second, &recover(0, ""));
    let heard = fleet.heard(second).join("\n");
    assert!(heard.contains("\"new\"") && !heard.contains("\"old\"") && heard.contains("\"recovered\":true"), "{heard}");
}

#[test]
fn a_gap_is_read_and_nobody_sees_it() {
    let mut fleet = Fleet::new(2, 1, with_history(10));
    let (here, there) = (fleet.connected(0, 0), fleet.connected(1, 0));
    fleet.say(here, SUBSCRIBE);
    fleet.say(there, SUBSCRIBE);
    fleet.heard(there);
    fleet.broker.is_deaf = true;
    for n in 0..3 {
        fleet.say(here, &publish(n + 3, "1"));
    }
    assert!(fleet.heard(there).is_empty());
    fleet.broker.is_deaf = false;
    fleet.say(here, &publish(9, "1"));
    assert_eq!(offsets(&fleet.heard(there)), [1, 2, 3, 4]);
    assert_eq!(fleet.nodes[1].hubs[0].counts.resynced, 1);
    // The same without a publication that shows it: the connection was lost.
    fleet.broker.is_deaf = true;
    fleet.say(here, &publish(10, "1"));
    fleet.broker.is_deaf = false;
    fleet.reconnect();
    assert_eq!(offsets(&fleet.heard(there)), [5]);
    // More than is kept: members begin anew.
    fleet.broker.is_deaf = true;
    for n in 0..12 {
        fleet.say(here, &publish(n + 20, "1"));
    }
    fleet.broker.is_deaf = false;
    fleet.reconnect();
    let heard = fleet.heard(there);
    assert!(heard.len() == 1 && heard[0].contains("\"unsubscribe\"") && heard[0].contains("2500"), "{heard:?}");
    fleet.say(there, SUBSCRIBE);
    assert!(fleet.heard(there)[0].contains("\"offset\":17"));
}

#[test]
fn another_life_of_a_channel_sends_its_members_to_begin_anew() {
    let mut fleet = Fleet::new(1, 2, with_history(10));
    let clients = [fleet.connected(0, 0), fleet.connected(0, 1)];
    for client in clients {
        fleet.say(client, SUBSCRIBE);
    }
    fleet.say(clients[0], &publish(3, "1"));
    let epoch = epoch_in(&fleet.heard(clients[0])[0]);
    fleet.heard(clients[1]);
    fleet.broker.of("c").epoch = *b"next";
    fleet.say(clients[0], &publish(4, "2"));
    for client in clients {
        let heard = fleet.heard(client).join("\n");
        assert!(heard.contains("2500") && offsets(std::slice::from_ref(&heard)).is_empty(), "{heard}");
    }
    fleet.say(clients[1], &recover(1, &epoch));
    let heard = fleet.heard(clients[1]).join("\n");
    assert!(heard.contains("\"epoch\":\"next\"") && !heard.contains("\"recovered\":true"), "{heard}");
    fleet.say(clients[0], &publish(5, "3"));
    assert_eq!(offsets(&fleet.heard(clients[1])), [3]);
}

#[test]
fn without_the_broker_history_waits_and_the_rest_goes_on() {
    let mut config = with_history(10);
    config.channels.namespaces.push(Namespace { name: "now".to_owned(), history_size: 0, ..Namespace::default() });
    let mut fleet = Fleet::new(2, 1, config);
    let (here, there) = (fleet.connected(0, 0), fleet.connected(1, 0));
    let neighbour = fleet.connected(0, 0);
    let now = "{\"id\":5,\"subscribe\":{\"channel\":\"now:a\"}}";
    let tell = "{\"id\":6,\"publish\":{\"channel\":\"now:a\",\"data\":1}}";
    for client in [here, there] {
        fleet.say(client, SUBSCRIBE);
        fleet.say(client, now);
    }
    fleet.say(here, tell);
    assert!(fleet.heard(there).join("\n").contains("\"data\":1"));
    assert_eq!(fleet.heard(here).iter().filter(|text| text.contains("\"data\":1")).count(), 1, "its own comes once");
    fleet.broker.is_away = true;
    for node in 0..2 {
        fleet.tell_all(node, || News::Up(false));
        fleet.tell_all(node, || News::Lost);
    }
    fleet.say(here, &publish(7, "1"));
    assert!(fleet.heard(here)[0].contains("{\"id\":7,\"error\":{\"code\":100,"), "temporary");
    fleet.say(neighbour, SUBSCRIBE);
    assert!(fleet.heard(neighbour)[0].contains("\"code\":100,"));
    fleet.say(neighbour, now);
    assert!(fleet.heard(neighbour)[0].contains("{\"id\":5,\"subscribe\":{"));
    fleet.say(here, tell);
    assert!(fleet.heard(neighbour).join("\n").contains("\"data\":1"));
    fleet.say(here, "{\"id\":8,\"history\":{\"channel\":\"c\",\"limit\":9}}");
    assert!(fleet.heard(here).join("\n").contains("{\"id\":8,\"error\":{\"code\":100,"));
    fleet.broker.is_away = false;
    fleet.reconnect();
    fleet.say(neighbour, SUBSCRIBE);
    fleet.heard(there);
    fleet.say(here, &publish(9, "2"));
    assert_eq!(offsets(&fleet.heard(there)), [1]);
    assert_eq!(offsets(&fleet.heard(neighbour)), [1]);
}

#[test]
fn history_is_the_brokers_and_clearing_it_reaches_every_copy() {
    let mut fleet = Fleet::new(2, 1, with_history(10));
    let (here, there) = (fleet.connected(0, 0), fleet.connected(1, 0));
    fleet.say(here, SUBSCRIBE);
    for n in 0..4 {
        fleet.say(here, &publish(n + 3, &n.to_string()));
    }
    let pages = [
        ("\"limit\":2", vec![1, 2]),
        ("\"limit\":2,\"reverse\":true", vec![4, 3]),
        ("\"limit\":9,\"since\":{\"offset\":2}", vec![3, 4]),
        ("\"limit\":9,\"since\":{\"offset\":3},\"reverse\":true", vec![2, 1]),
    ];
    for (which, expected) in pages {
        fleet.say(there, &format!("{{\"id\":9,\"history\":{{\"channel\":\"c\",{which}}}}}"));
        let heard = fleet.heard(there).join("\n");
        assert_eq!(within(&heard), expected, "{which}: {heard}");
    }
    let epoch = "{\"id\":9,\"history\":{\"channel\":\"c\",\"since\":{\"offset\":2,\"epoch\":\"none\"}}}";
    fleet.say(there, epoch);
    assert!(fleet.heard(there)[0].contains("\"code\":112"));
    fleet.nodes[1]
        .letters
        .push_back((0, Letter::Ask { asker: Asker::Nobody, shard: 0, channel: "c".into(), ask: Ask::Clear }));
    fleet.settle();
    fleet.heard(here);
    let again = fleet.connected(0, 0);
    fleet.say(again, &recover(2, &epoch_in("\"epoch\":\"none")));
    assert!(!fleet.heard(again).join("\n").contains("\"recovered\":true"));
}

#[test]
fn a_publication_that_was_removed_is_gone_on_every_node_also_while_a_copy_is_read() {
    let mut fleet = Fleet::new(2, 1, with_history(10));
    let (here, there) = (fleet.connected(0, 0), fleet.connected(1, 0));
    for client in [here, there] {
        fleet.say(client, SUBSCRIBE);
    }
    let epoch = epoch_in(&fleet.heard(here)[0]);
    for n in 1..=5 {
        fleet.say(here, &publish(n + 3, &n.to_string()));
    }
    let remove = |fleet: &mut Fleet, offset, epoch: &str| {
        let (ticket, mut reply) = annulus_engine::compute::ticket();
        let asker = Asker::Call(crate::chat::letters::CallTicket(ticket));
        let ask = Ask::Remove { offset, epoch: epoch.to_owned() };
        fleet.nodes[1].letters.push_back((0, Letter::Ask { asker, shard: 0, channel: "c".into(), ask }));
        fleet.settle();
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(&mut reply).poll(&mut cx) {
            std::task::Poll::Ready(answer) => answer.unwrap(),
            std::task::Poll::Pending => panic!("no answer"),
        }
    };
    assert!(matches!(remove(&mut fleet, 2, &epoch), Answer::Removed(Some(_))));
    assert!(matches!(remove(&mut fleet, 6, ""), Answer::Refused(error) if error.code == 107));
    assert!(matches!(remove(&mut fleet, 1, "zzzz"), Answer::Refused(error) if error.code == 112));
    let left = |fleet: &mut Fleet, expected: &[u64]| {
        for node in 0..2 {
            let again = fleet.connected(node, 0);
            fleet.say(again, &recover(1, &epoch));
            let reply = fleet.heard(again).join("\n");
            assert!(reply.contains("\"recovered\":true"), "{reply}");
            assert_eq!(within(&reply), expected, "of {node}: {reply}");
            fleet.say(again, "{\"id\":9,\"history\":{\"channel\":\"c\",\"limit\":2,\"reverse\":true}}");
            let page = within(&fleet.heard(again).join("\n"));
            let newest: Vec<u64> = expected.iter().copied().rev().chain([1]).take(2).collect();
            assert_eq!(page, newest, "of {node}, filled behind what is not there");
        }
    };
    left(&mut fleet, &[3, 4, 5]);
    // The copies are read anew, with its place empty.
    fleet.reconnect();
    left(&mut fleet, &[3, 4, 5]);
    for offset in [4, 5] {
        assert!(matches!(remove(&mut fleet, offset, ""), Answer::Removed(Some(_))));
    }
    left(&mut fleet, &[3]);
    // Members go on behind it.
    fleet.heard(there);
    fleet.say(here, &publish(20, "6"));
    assert_eq!(offsets(&fleet.heard(there)), [6]);
}

#[test]
fn a_channel_that_nobody_listens_to_is_given_up_and_found_again() {
    let mut fleet = Fleet::new(1, 1, with_history(10));
    let client = fleet.connected(0, 0);
    fleet.say(client, SUBSCRIBE);
    let epoch = epoch_in(&fleet.heard(client)[0]);
    fleet.say(client, "{\"id\":3,\"unsubscribe\":{\"channel\":\"c\"}}");
    assert_eq!(fleet.nodes[0].hubs[0].attached(), 1, "somebody may come back");
    fleet.tick(11_000);
    assert_eq!((fleet.nodes[0].hubs[0].attached(), fleet.nodes[0].hubs[0].channels()), (0, 0));
    assert!(fleet.broker.listeners.is_empty());
    fleet.say(client, &publish(4, "1"));
    fleet.heard(client);
    fleet.say(client, &recover(0, &epoch));
    assert!(fleet.heard(client).join("\n").contains("\"recovered\":true"));
}

#[test]
fn who_waits_for_too_long_is_told_so() {
    let mut fleet = Fleet::new(1, 1, with_history(10));
    let client = fleet.connected(0, 0);
    fleet.nodes[0].say(client.1, SUBSCRIBE);
    fleet.nodes[0].wishes.clear();
    fleet.tick(5_100);
    assert!(fleet.heard(client)[0].contains("\"code\":100,"));
}

#[test]
fn those_who_come_and_go_are_told_on_every_node() {
    let mut fleet = Fleet::new(2, 1, with_history(10));
    let (here, there) = (fleet.connected(0, 0), fleet.connected(1, 0));
    let watch = SUBSCRIBE.replace("\"positioned\"", "\"join_leave\":true,\"positioned\"");
    fleet.say(here, &watch);
    fleet.heard(here);
    fleet.say(there, &watch);
    fleet.say(there, "{\"id\":3,\"unsubscribe\":{\"channel\":\"c\"}}");
    let heard = fleet.heard(here);
    assert!(heard.len() == 2 && heard[0].contains("\"join\"") && heard[1].contains("\"leave\""), "{heard:?}");
}

/// A node whose log the test plays.
fn logged(ack: Ack) -> Fleet {
    let mut config = with_history(100);
    config.channels.default.ack = Some(ack);
    let mut fleet = Fleet::new(1, 1, config.clone());
    let directory = super::logged::tempfile();
    config.log.directory = Some(directory.clone());
    config.broker = Some(Settings::default());
    let opened = log::Log::open(&log::Options::new(&directory), &mut |_, _| {}).unwrap();
    std::fs::remove_dir_all(directory).unwrap();
    let common = Common { log: Some(opened.state.clone()), ..common(config) };
    fleet.nodes[0].hubs = vec![Hub::new(0, 1, Arc::new(common), verifiers())];
    fleet.tell_all(0, || News::Up(true));
    fleet
}

fn handed_over(fleet: &mut Fleet) -> Vec<String> {
    let append = fleet.nodes[0].hubs[0].take_append();
    let bytes = append.map(|append| append.bytes).unwrap_or_default();
    let records = log::split_hand_over(&bytes).unwrap();
    records.iter().map(|record| record.name().to_owned()).collect()
}

#[test]
fn the_intent_is_durable_before_the_broker_sees_it_and_the_place_is_logged_before_the_reply() {
    for ack in [Ack::Redis, Ack::Db] {
        let mut fleet = logged(ack);
        let client = fleet.connected(0, 0);
        fleet.say(client, &publish(3, "1"));
        assert_eq!(handed_over(&mut fleet), ["intent"]);
        assert!(fleet.broker.channels.is_empty());
        fleet.nodes[0].log(0, Told::Durable { last: 1, end: Lsn(10) });
        fleet.settle();
        assert_eq!(fleet.broker.channels["c"].top, 1);
        assert_eq!(handed_over(&mut fleet), ["publication"]);
        assert!(fleet.heard(client).is_empty() && fleet.nodes[0].hubs[0].pending() == 1);
        fleet.nodes[0].log(0, Told::Written { last: 2, end: Lsn(20) });
        assert_eq!(fleet.heard(client).len(), usize::from(ack == Ack::Redis));
        fleet.nodes[0].log(0, Told::Durable { last: 2, end: Lsn(20) });
        fleet.nodes[0].letters.push_back((0, Letter::Stored(20)));
        fleet.nodes[0].settle();
        assert_eq!(fleet.heard(client).len(), usize::from(ack == Ack::Db));
        assert_eq!(fleet.nodes[0].hubs[0].pending(), 0);
    }
}

#[test]
fn what_the_broker_does_not_take_is_dropped_and_what_is_in_doubt_is_not() {
    let mut fleet = logged(Ack::Redis);
    let client = fleet.connected(0, 0);
    let fail = |fleet: &mut Fleet, id: u32, record: u64, failure: Failure| {
        fleet.say(client, &publish(id, "1"));
        fleet.nodes[0].log(0, Told::Durable { last: record, end: Lsn(record) });
        let Some((_, _, Wish::Add(add))) = fleet.next_wish() else { panic!("nothing was given to the broker") };
        handed_over(fleet);
        fleet.tell(0, 0, News::Added { id: add.id, outcome: Err(failure) });
        assert!(fleet.heard(client)[0].contains(&format!("{{\"id\":{id},\"error\":{{\"code\":100,")));
        add
    };
    for (id, failure) in [(3, Failure::Away), (4, Failure::Refused), (5, Failure::TooOld)] {
        let record = u64::from(id - 3) * 2 + 1;
        fail(&mut fleet, id, record, failure);
        assert_eq!(handed_over(&mut fleet), ["dropped"]);
    }
    assert_eq!(fleet.nodes[0].hubs[0].counts.given_up, 1);
    let add = fail(&mut fleet, 6, 7, Failure::Doubtful);
    assert!(handed_over(&mut fleet).is_empty());
    // A checkpoint tells of it, for it may still be made.
    fleet.nodes[0].log(0, Told::Checkpoint { number: 1 });
    while fleet.nodes[0].hubs[0].go_on_with_checkpoint(1000) {}
    assert_eq!(handed_over(&mut fleet), ["intent", "checkpoint end"]);
    let outcome = Ok(Added { epoch: *b"abcd", offset: 1, is_repeat: true, payload: add.key.payload });
    fleet.tell(0, 0, News::Added { id: add.id, outcome });
    assert_eq!(handed_over(&mut fleet), ["publication"], "the database is to have it");
}

#[test]
fn an_intent_of_an_earlier_life_is_made_once() {
    let mut fleet = logged(Ack::Redis);
    let client = fleet.connected(0, 0);
    for id in 3..6 {
        fleet.say(client, &publish(id, &id.to_string()));
    }
    let bytes = fleet.nodes[0].hubs[0].take_append().unwrap().bytes;
    let config = fleet.nodes[0].hubs[0].common.config.clone();
    let mut restorer = Restorer::new(&config, None, 1);
    let mut keys = Vec::new();
    for record in log::split_hand_over(&bytes).unwrap() {
        let Record::Intent(intent) = &record else { panic!("{record:?}") };
        keys.push(intent.key.unwrap());
        restorer.apply(record);
    }
    // The first was made, and the log knows; the second was not taken, and the log knows that, too.
    let made = log::split_hand_over(&bytes).unwrap().remove(0);
    let Record::Intent(made) = made else { panic!("it was an intent") };
    restorer.apply(Record::Publication(log::Publication { epoch: *b"abcd", offset: 1, ..made }));
    restorer.apply(Record::Dropped(log::Dropped { channel: "c", key: keys[1] }));
    let mut restored = restorer.finish().remove(0);
    assert_eq!(restored.counts(), (0, 0, 0), "the broker has the rest");
    let intents = restored.take_intents();
    assert_eq!(intents.iter().map(|intent| intent.key).collect::<Vec<_>>(), [keys[2]]);
    let mut next = logged(Ack::Redis);
    let mut fake = next.nodes[0].fake(0);
    next.nodes[0].hubs[0].resume_intents(&mut fake, intents);
    let [Wish::Add(add)] = fake.wishes.as_slice() else { panic!("{:?}", fake.wishes) };
    assert!(add.key == keys[2] && add.is_patient);
    next.nodes[0].absorb(0, fake);
    next.settle();
    assert_eq!(next.broker.channels["c"].top, 1);
    assert_eq!(handed_over(&mut next), ["publication"]);
}

#[test]
fn a_member_that_comes_in_as_the_last_one_leaves_keeps_the_channel() {
    let mut fleet = Fleet::new(1, 2, with_history(10));
    let (leaves, comes) = (fleet.connected(0, 0), fleet.connected(0, 1));
    fleet.say(leaves, SUBSCRIBE);
    // It waits, because nothing is heard just now; meanwhile there is no member at all.
    fleet.tell_all(0, || News::Lost);
    fleet.say(comes, SUBSCRIBE);
    fleet.say(leaves, "{\"id\":3,\"unsubscribe\":{\"channel\":\"c\"}}");
    fleet.reconnect();
    assert!(fleet.heard(comes)[0].contains("\"epoch\":\"ep0"));
    fleet.tick(11_000);
    assert_eq!(fleet.nodes[0].hubs.iter().map(Hub::attached).sum::<usize>(), 1);
    fleet.say(leaves, &publish(4, "1"));
    assert_eq!(offsets(&fleet.heard(comes)), [1]);
}

#[test]
fn who_recovers_into_another_life_that_nobody_has_heard_of_is_answered() {
    let mut fleet = Fleet::new(1, 1, with_history(10));
    let (member, comes) = (fleet.connected(0, 0), fleet.connected(0, 0));
    for n in 0..3 {
        fleet.say(member, &publish(n + 3, "1"));
    }
    fleet.say(member, SUBSCRIBE);
    fleet.heard(member);
    fleet.broker.of("c").epoch = *b"next";
    fleet.say(comes, &recover(0, ""));
    assert!(fleet.heard(comes).join("\n").contains("\"epoch\":\"next\""));
    assert!(fleet.heard(member).join("\n").contains("2500"));
}

#[test]
fn what_is_too_old_does_not_hide_what_is_not() {
    let mut config = with_history(10);
    config.channels.default.history_ttl_ms = 1000;
    let mut fleet = Fleet::new(1, 1, config);
    let client = fleet.connected(0, 0);
    for n in 0..7 {
        fleet.nodes[0].now += if n == 5 { 10_000 } else { 0 };
        fleet.say(client, &publish(n + 3, "1"));
    }
    fleet.heard(client);
    for (limit, expected) in [(1, vec![6]), (2, vec![6, 7]), (9, vec![6, 7])] {
        fleet.say(client, &format!("{{\"id\":20,\"history\":{{\"channel\":\"c\",\"limit\":{limit}}}}}"));
        assert_eq!(within(&fleet.heard(client).join("\n")), expected, "{limit}");
    }
}

#[test]
fn what_was_cleared_while_nothing_was_heard_does_not_come_back() {
    let mut fleet = Fleet::new(1, 1, with_history(10));
    let (client, comes) = (fleet.connected(0, 0), fleet.connected(0, 0));
    fleet.say(client, SUBSCRIBE);
    let epoch = epoch_in(&fleet.heard(client)[0]);
    for n in 0..3 {
        fleet.say(client, &publish(n + 3, "1"));
    }
    fleet.broker.of("c").entries.clear();
    fleet.reconnect();
    fleet.say(comes, &recover(1, &epoch));
    assert!(!fleet.heard(comes).join("\n").contains("\"recovered\":true"));
}

#[test]
fn a_place_that_cannot_be_logged_any_more_is_not_promised() {
    for ack in [Ack::Redis, Ack::Db] {
        let mut fleet = logged(ack);
        let client = fleet.connected(0, 0);
        fleet.say(client, &publish(3, "1"));
        fleet.nodes[0].log(0, Told::Durable { last: 1, end: Lsn(10) });
        let Some((_, _, Wish::Add(add))) = fleet.next_wish() else { panic!("nothing was given to the broker") };
        fleet.nodes[0].log(0, Told::Failed("the disk is gone".to_owned()));
        let outcome = Ok(Added { epoch: *b"abcd", offset: 1, is_repeat: false, payload: add.key.payload });
        fleet.tell(0, 0, News::Added { id: add.id, outcome });
        assert!(fleet.heard(client)[0].contains("{\"id\":3,\"error\":{\"code\":100,"));
    }
}

#[test]
fn what_the_broker_keeps_no_more_of_a_page_is_asked_of_the_database() {
    let mut config = with_history(3);
    config.channels.default.history_from_database = true;
    let mut fleet = Fleet::new(2, 1, config);
    let here = fleet.connected(0, 0);
    for n in 1..=8 {
        fleet.say(here, &publish(n, &n.to_string()));
    }
    let mut ask = |which: &str| {
        let there = fleet.connected(1, 0);
        fleet.say(there, &format!("{{\"id\":9,\"history\":{{\"channel\":\"c\",{which}}}}}"));
        match fleet.nodes[1].work.pop() {
            Some((_, Work::Past { partial, .. })) => Ok((partial.span.after, partial.span.before, partial.span.most)),
            Some(_) => panic!("other work"),
            None => Err(within(&fleet.heard(there).join("\n"))),
        }
    };
    assert_eq!(ask("\"limit\":9"), Err(vec![6, 7, 8]), "without a position it begins with the window");
    assert_eq!(ask("\"limit\":9,\"since\":{\"offset\":5}"), Err(vec![6, 7, 8]));
    assert_eq!(ask("\"limit\":2,\"reverse\":true"), Err(vec![8, 7]));
    assert_eq!(ask("\"limit\":9,\"since\":{\"offset\":2}"), Ok((2, 6, 9)));
    assert_eq!(ask("\"limit\":9,\"reverse\":true"), Ok((0, 6, 6)));
    assert_eq!(ask("\"limit\":9,\"reverse\":true,\"since\":{\"offset\":4}"), Ok((0, 4, 9)));
}

#[test]
fn one_that_is_too_old_among_those_that_are_not_leaves_no_page_short_and_is_not_waited_for() {
    let mut config = with_history(10);
    config.channels.default.history_ttl_ms = 1000;
    let mut fleet = Fleet::new(1, 1, config);
    let client = fleet.connected(0, 0);
    fleet.nodes[0].now += 10_000;
    // A node's clock is behind.
    for (n, behind) in [(1, 0), (2, 5_000), (3, 0)] {
        fleet.nodes[0].now -= behind;
        fleet.say(client, &publish(n, "1"));
        fleet.nodes[0].now += behind;
    }
    fleet.heard(client);
    for (limit, expected) in [(1, vec![1]), (2, vec![1, 3]), (3, vec![1, 3]), (9, vec![1, 3])] {
        fleet.say(client, &format!("{{\"id\":20,\"history\":{{\"channel\":\"c\",\"limit\":{limit}}}}}"));
        assert_eq!(within(&fleet.heard(client).join("\n")), expected, "{limit}");
    }
}
