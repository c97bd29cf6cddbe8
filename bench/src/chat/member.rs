//! Clients of the kills: each lives on over all lives of the server, as an application with an SDK does.
//!
//! A member subscribes, publishes in bursts and goes on from its position after every cut. A backend publishes over HTTP
//! with idempotency keys, and repeats what it had no answer to, and some of what it had.

use super::config::HISTORY_ALL;
use super::ledger::Ledger;
use super::stamp::Stamp;
use super::talk::{Seen, Talk, place, post};
use super::wire::{self, CONNECT_ID, Credentials, PUBLISH_IDS, Position};
use crate::pulse::Pulse;
use crate::random::Random;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Publish commands that a member sends before it waits for their replies.
const BURST: u32 = 4;
/// The pause between two bursts, and between two requests, so that the disk is not the load, and channels keep all.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest wait before a member comes back, in milliseconds.
const RETURN_MS: usize = 40;
/// Publications of a channel: well below what it keeps, so that every one can be looked for.
const PUBLICATIONS_MAX: usize = HISTORY_ALL / 10 * 9;
/// Publications of a backend's whose key it keeps.
const KEPT: usize = 8;

/// What all of them share.
pub struct Field {
    /// Where the server is, whenever it is, or its nodes.
    pub addresses: Vec<SocketAddr>,
    /// Codes of errors that say "not now": of what nodes share, which may be away, or of a disk that is full.
    pub for_now: Vec<u64>,
    /// What channels' names begin with.
    pub prefix: String,
    /// How many channels.
    pub channels: usize,
    /// The account.
    pub ledger: Mutex<Ledger>,
    /// Nothing new is published.
    pub quiet: AtomicBool,
    /// All is over.
    pub stop: AtomicBool,
    /// Subscriptions that went on after a cut.
    pub recovered: AtomicU64,
    /// Subscriptions that could not.
    pub unrecovered: AtomicU64,
    /// Publications that came out of order, or with a gap before them.
    pub disordered: AtomicU64,
    /// Requests that were repeated with their key after the server had died.
    pub repeated: AtomicU64,
    /// Of them answered with another place.
    pub differing: AtomicU64,
    /// Publish commands and requests that were refused.
    pub refused: AtomicU64,
    /// What the first refusal said.
    pub why: Mutex<String>,
    /// What the first publication out of order was.
    pub disorder: Mutex<String>,
    /// When something was acknowledged.
    pub pulse: Pulse,
}

/// The size of a publication's data: of all kinds, and known from its number.
pub fn size(number: u32) -> usize {
    64 + (number as usize * 37) % 700
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn keep_first(first: &Mutex<String>, text: impl FnOnce() -> String) {
    let mut first = first.lock().expect("nobody panics with it");
    if first.is_empty() {
        *first = text();
    }
}

impl Field {
    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("nobody panics with it")
    }

    /// A channel's name.
    pub fn channel(&self, channel: usize) -> String {
        format!("{}crash-{channel}", self.prefix)
    }

    /// Where somebody goes at their n-th attempt: to one node after the other.
    fn address(&self, who: usize, attempt: usize) -> SocketAddr {
        self.addresses[(who + attempt) % self.addresses.len()]
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether nothing more is published there: all is about to end, or the channel would forget.
    fn is_quiet(&self, channel: usize) -> bool {
        self.quiet.load(Ordering::Relaxed) || self.ledger().published(channel) >= PUBLICATIONS_MAX
    }

    /// Nothing yet of so many channels.
    pub fn new(addresses: Vec<SocketAddr>, prefix: String, channels: usize) -> Field {
        Field {
            addresses,
            for_now: Vec::new(),
            prefix,
            channels,
            ledger: Mutex::new(Ledger::new(channels)),
            quiet: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            recovered: AtomicU64::new(0),
            unrecovered: AtomicU64::new(0),
            disordered: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            differing: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            why: Mutex::new(String::new()),
            disorder: Mutex::new(String::new()),
            pulse: Pulse::default(),
        }
    }

    /// Whether an error says "not now".
    pub fn is_for_now(&self, error: &Value) -> bool {
        error["code"].as_u64().is_some_and(|code| self.for_now.contains(&code))
    }

    fn acknowledge(&self, channel: usize, number: u32) {
        self.ledger().acknowledge(channel, number);
        self.pulse.beat();
    }

    fn refuse(&self, error: &Value) {
        count(&self.refused);
        keep_first(&self.why, || error.to_string());
    }
}

/// A client over WebSocket.
pub struct Member<'a> {
    field: &'a Field,
    index: usize,
    channel: usize,
    position: Option<Position>,
    /// Publications since the last subscription, and what its reply told.
    since: u32,
    joined: String,
    /// Connections so far.
    sessions: usize,
    random: Random,
}

impl<'a> Member<'a> {
    /// A member of a channel.
    pub fn new(field: &'a Field, index: usize) -> Member<'a> {
        let random = Random::new(2 * index as u64 + 1);
        Member {
            field,
            index,
            channel: index % field.channels,
            position: None,
            since: 0,
            joined: String::new(),
            sessions: 0,
            random,
        }
    }

    /// Lives until all is over, and gives the last offset that it saw.
    pub fn live(mut self) -> (usize, u64) {
        while !self.field.is_over() {
            // However it ends, it is the server's death, or a fault that the account will show.
            let _cut_off = self.session();
            std::thread::sleep(Duration::from_millis(1 + self.random.below(RETURN_MS) as u64));
        }
        (self.channel, self.position.map_or(0, |position| position.offset))
    }

    fn session(&mut self) -> Result<(), String> {
        self.sessions += 1;
        let mut talk = Talk::open(self.field.address(self.index, self.sessions), self.index)?;
        let user = format!("m{}", self.index);
        let channel = [(self.field.channel(self.channel), self.position.clone())];
        talk.say(&wire::join(Credentials::Claim(&user), &channel, true))?;
        talk.reply(CONNECT_ID)?;
        let joined = loop {
            let line = talk.hear()?;
            if line["push"].get("pub").is_some() {
                count(&self.field.disordered);
                keep_first(&self.field.disorder, || format!("before the reply to its subscription: {line}"));
            }
            if line["id"] == CONNECT_ID + 1 {
                break line;
            }
        };
        if let Some(error) = joined.get("error") {
            if !self.field.is_for_now(error) {
                self.field.refuse(error);
            }
            return Err("no subscription".into());
        }
        self.subscribed(&joined["subscribe"])?;
        let mut id = PUBLISH_IDS;
        while !self.field.is_over() {
            if self.field.is_quiet(self.channel) {
                // A question whose answer comes after everything that was pushed before.
                talk.say(&wire::history(id, &channel[0].0, &Position::default(), 0))?;
                while !self.heard(&talk.hear()?, id, &[])? {}
                std::thread::sleep(Duration::from_millis(20));
            } else {
                self.burst(&mut talk, id)?;
                std::thread::sleep(PAUSE);
            }
            id += BURST;
        }
        Ok(())
    }

    fn burst(&mut self, talk: &mut Talk, id: u32) -> Result<(), String> {
        let numbers: Vec<u32> = {
            let mut ledger = self.field.ledger();
            (0..BURST).map(|_| ledger.publish(self.channel)).collect()
        };
        let name = self.field.channel(self.channel);
        let commands = numbers.iter().zip(id..).map(|(&number, id)| {
            let stamp = Stamp { room: self.channel as u32, publisher: self.index as u32, number };
            wire::publish(id, &name, &stamp.data(size(number)))
        });
        talk.say(&commands.collect::<Vec<_>>().join("\n"))?;
        let mut open = numbers.len();
        while open > 0 {
            open -= usize::from(self.heard(&talk.hear()?, id, &numbers)?);
        }
        Ok(())
    }

    /// Takes a line. Whether it is the reply to a command from `first` on; those of publish commands are for `numbers`.
    fn heard(&mut self, line: &Value, first: u32, numbers: &[u32]) -> Result<bool, String> {
        if let Some(publication) = line["push"].get("pub") {
            self.saw(publication, "live")?;
            return Ok(false);
        }
        if line["push"].get("unsubscribe").is_some() {
            return Err("unsubscribed".into());
        }
        let Some(index) = line["id"].as_u64().and_then(|id| id.checked_sub(first.into())) else { return Ok(false) };
        if let Some(error) = line.get("error") {
            // Published or not, as without an answer.
            if !self.field.is_for_now(error) {
                self.field.refuse(error);
            }
        } else if let Some(&number) = numbers.get(index as usize) {
            self.field.acknowledge(self.channel, number);
        }
        Ok(true)
    }

    fn subscribed(&mut self, reply: &Value) -> Result<(), String> {
        let epoch = reply["epoch"].as_str().unwrap_or_default().to_owned();
        let offset = reply["offset"].as_u64().unwrap_or(0);
        self.field.ledger().epoch(self.channel, &epoch);
        self.since = 0;
        let (recovered, more) = (&reply["recovered"], reply["publications"].as_array().map_or(0, Vec::len));
        self.joined = format!("at {:?}, told {offset}, recovered {recovered}, {more} with it", self.position);
        if self.position.is_some() && reply["recovered"] == true {
            count(&self.field.recovered);
            for publication in reply["publications"].as_array().map(Vec::as_slice).unwrap_or_default() {
                self.saw(publication, "recovered")?;
            }
        } else {
            if self.position.is_some() {
                count(&self.field.unrecovered);
            }
            self.position = Some(Position { epoch, offset });
        }
        Ok(())
    }

    /// A publication came: the one after the last, or something is wrong.
    fn saw(&mut self, publication: &Value, how: &str) -> Result<(), String> {
        let seen = Seen::read(publication, size)?;
        self.since += 1;
        let position = self.position.get_or_insert_default();
        if seen.offset != position.offset + 1 {
            count(&self.field.disordered);
            let (since, at, joined) = (self.since, position.offset, &self.joined);
            let what = || format!("{} after {at}, {how}, number {since} since it subscribed {joined}", seen.offset);
            keep_first(&self.field.disorder, what);
        }
        position.offset = seen.offset;
        self.field.ledger().see(self.channel, &position.epoch, &seen);
        Ok(())
    }
}

/// Publishes over HTTP until it is quiet.
pub fn backend(field: &Field, index: usize) {
    let channel = index % field.channels;
    let mut kept: Vec<(u32, Position)> = Vec::new();
    let mut random = Random::new(1000 + 2 * index as u64 + 1);
    while !field.is_over() && !field.is_quiet(channel) {
        let number = field.ledger().publish(channel);
        // The server is asked until it answers, with the same key, however often it dies meanwhile.
        let Some((answer, deaths)) = insist(field, channel, index, number) else { return };
        match place(&answer) {
            Some(at) => {
                field.ledger().told(channel, number, &at);
                field.pulse.beat();
                kept.push((number, at));
            }
            None => field.refuse(&answer["error"]),
        }
        if deaths > 0 && !kept.is_empty() {
            let (number, at) = &kept[random.below(kept.len())];
            let Some((again, _)) = insist(field, channel, index, *number) else { return };
            count(&field.repeated);
            if place(&again).as_ref() != Some(at) {
                count(&field.differing);
            }
        }
        if kept.len() > KEPT {
            kept.remove(0);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Publishes until there is an answer: it, and how many attempts had none. Nothing when all is over.
fn insist(field: &Field, channel: usize, index: usize, number: u32) -> Option<(Value, u32)> {
    let stamp = Stamp { room: channel as u32, publisher: index as u32, number };
    let (name, data) = (field.channel(channel), stamp.data(size(number)));
    let body = format!(r#"{{"channel":"{name}","data":{data},"idempotency_key":"{channel}-{number}"}}"#);
    for attempt in 0.. {
        if field.is_over() {
            return None;
        }
        match post(field.address(index, attempt as usize), "publish", &body) {
            Ok(answer) if !field.is_for_now(&answer["error"]) => return Some((answer, attempt)),
            Ok(_) | Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    None
}
