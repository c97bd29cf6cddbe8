//! Clients of a run: they subscribe, publish and read, take little or nothing for a while, say nonsense, go away in the midst, and
//! come back where they were.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::book::{Position, number};
use super::conn::{Conn, Heard};
use super::{CHANNELS, CHAT, Lab};
use crate::lab::{PATIENCE, address};

/// How many there are.
const COUNT: usize = 6;
/// Commands of a client that wait for an answer, at most.
const ASKED_MAX: usize = 12;
/// Longer than a message may be.
const TOO_LONG: usize = 5000;

/// All clients.
pub struct People {
    lab: Lab,
    all: Vec<Person>,
}

/// What was asked.
enum Asked {
    Connect,
    /// From where on, and the last offset that anybody had been told by then.
    Subscribe(&'static str, Option<Position>, u64),
    Unsubscribe(&'static str),
    Publish(u64),
    /// Whether it must be all that is kept.
    History(&'static str, bool),
    Presence(&'static str),
}

/// How somebody is subscribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sub {
    Asked,
    In,
    /// Asked for the end.
    Leaving,
}

/// Somebody, whatever connections they have.
struct Person {
    name: String,
    conn: Option<Conn>,
    /// When that began.
    since: Duration,
    asked: BTreeMap<u32, Asked>,
    next_id: u32,
    subs: BTreeMap<&'static str, Sub>,
    /// Where they are in channels.
    positions: BTreeMap<&'static str, Position>,
    /// Acts until they read again.
    dozes: usize,
    /// They said what no client says, took nothing for long, or are leaving: the connection may end at any time.
    may_be_cut: bool,
}

impl People {
    pub fn new(lab: &Lab) -> People {
        People { lab: lab.clone(), all: (0..COUNT).map(|at| Person::new(format!("p{at}"))).collect() }
    }

    /// A few random acts.
    pub fn act(&mut self) {
        for _ in 0..1 + self.lab.below(6) {
            let at = self.lab.below(COUNT);
            self.all[at].acts(&self.lab);
        }
    }

    /// Everybody gets the answers to what was asked, and goes. Whether all have.
    pub fn finish(&mut self) -> bool {
        self.all.iter_mut().for_each(|person| person.finishes(&self.lab));
        self.all.iter().all(|person| person.conn.is_none())
    }

    /// Everybody comes, and goes on in every channel where they have been.
    pub fn come_back(&mut self) {
        for person in &mut self.all {
            person.comes(&self.lab);
            if person.conn.is_none() {
                self.lab.world.fail(format!("{} cannot come back", person.name));
            }
            let known: Vec<&'static str> = person.positions.keys().copied().collect();
            known.into_iter().for_each(|channel| person.subscribes(&self.lab, channel, true));
        }
    }

    /// Somebody comes and reads all histories.
    pub fn read_histories(&mut self) {
        let person = &mut self.all[0];
        person.comes(&self.lab);
        CHANNELS.iter().for_each(|(channel, _)| person.reads_history(&self.lab, channel, true));
    }

    /// Everybody reads; whoever is sent away goes.
    pub fn hear_farewells(&mut self) {
        for person in &mut self.all {
            person.may_be_cut = true;
            person.dozes = 0;
            person.reads(&self.lab, usize::MAX);
            if let Some(conn) = &mut person.conn {
                conn.flush(usize::MAX);
            }
        }
    }

    /// The other end is no more.
    pub fn are_cut_off(&mut self) {
        self.all.iter_mut().for_each(|person| person.is_cut_off(&self.lab));
    }

    /// Who waits, and for what.
    pub fn waiting(&self) -> Vec<String> {
        let of = |person: &Person| {
            let conn = person.conn.as_ref()?;
            let (name, number, asked) = (&person.name, conn.peer.number(), person.asked.len());
            Some(format!("{name} on {number}: {asked} unanswered, {} unsent, {:?}", conn.unsent(), person.subs))
        };
        self.all.iter().filter_map(of).collect()
    }
}

impl Person {
    fn new(name: String) -> Person {
        Person {
            name,
            conn: None,
            since: Duration::ZERO,
            asked: BTreeMap::new(),
            next_id: 1,
            subs: BTreeMap::new(),
            positions: BTreeMap::new(),
            dozes: 0,
            may_be_cut: false,
        }
    }

    fn acts(&mut self, lab: &Lab) {
        if self.conn.is_none() {
            if lab.hit(300) {
                self.comes(lab);
            }
            return;
        }
        match lab.below(100) {
            0 => self.leaves(lab, true),
            1 => self.leaves(lab, false),
            2 => self.closes(lab),
            3 => self.says_nonsense(lab),
            4 => {
                // Takes nothing for a while: more may wait for it than may.
                self.dozes = 20 + lab.below(80);
                self.may_be_cut = true;
            }
            5..45 => self.commands(lab),
            _ => {}
        }
        let most = 1 + lab.below(2000);
        if let Some(conn) = &mut self.conn {
            conn.flush(if lab.hit(300) { 1 + lab.below(30) } else { most });
        }
        match self.dozes {
            0 => self.reads(lab, if lab.hit(200) { 1 + lab.below(20) } else { most }),
            _ => self.dozes -= 1,
        }
    }

    fn comes(&mut self, lab: &Lab) {
        let Ok(peer) = lab.world.connect(&address(CHAT)) else { return };
        self.conn = Some(Conn::new(lab, peer));
        self.since = lab.world.now();
        self.may_be_cut = false;
        self.dozes = 0;
        let connect = format!("\"connect\":{{\"data\":{{\"user\":\"{}\"}}}}", self.name);
        self.asks(lab, Asked::Connect, &connect);
    }

    fn asks(&mut self, lab: &Lab, what: Asked, text: &str) {
        let Some(conn) = &mut self.conn else { return };
        let id = self.next_id;
        self.next_id += 1;
        conn.say(lab, format!("{{\"id\":{id},{text}}}"));
        self.asked.insert(id, what);
    }

    /// Any command that makes sense.
    fn commands(&mut self, lab: &Lab) {
        if self.asked.len() >= ASKED_MAX {
            return;
        }
        let (channel, _) = CHANNELS[lab.below(CHANNELS.len())];
        match (lab.below(10), self.subs.get(channel)) {
            (0..3, None) => self.subscribes(lab, channel, lab.hit(800)),
            (0, Some(Sub::In)) => {
                self.subs.insert(channel, Sub::Leaving);
                self.asks(lab, Asked::Unsubscribe(channel), &format!("\"unsubscribe\":{{\"channel\":\"{channel}\"}}"));
            }
            (1, _) => self.reads_history(lab, channel, false),
            (2, _) => {
                self.asks(lab, Asked::Presence(channel), &format!("\"presence\":{{\"channel\":\"{channel}\"}}"));
            }
            _ => {
                let filler = if lab.hit(100) { lab.below(3000) } else { lab.below(100) };
                let (number, data) = lab.book.borrow_mut().publish(channel, filler);
                let publish = format!("\"publish\":{{\"channel\":\"{channel}\",\"data\":{data}}}");
                self.asks(lab, Asked::Publish(number), &publish);
            }
        }
    }

    fn subscribes(&mut self, lab: &Lab, channel: &'static str, recovers: bool) {
        if self.conn.is_none() {
            return;
        }
        let since = self.positions.get(channel).filter(|_| recovers).cloned();
        let from = since.as_ref().map_or(String::new(), |Position { epoch, offset }| {
            format!(",\"recover\":true,\"epoch\":\"{epoch}\",\"offset\":{offset}")
        });
        // Some want to know who comes and goes.
        let watches = lab.hit(300);
        let subscribe = format!(
            "\"subscribe\":{{\"channel\":\"{channel}\",\"recoverable\":true,\"positioned\":true,\"join_leave\":{watches}{from}}}"
        );
        let top = lab.book.borrow().top(channel);
        self.subs.insert(channel, Sub::Asked);
        self.asks(lab, Asked::Subscribe(channel, since, top), &subscribe);
    }

    fn reads_history(&mut self, lab: &Lab, channel: &'static str, all: bool) {
        let limit = if all { -1 } else { lab.below(8) as i64 };
        let history = format!("\"history\":{{\"channel\":\"{channel}\",\"limit\":{limit}}}");
        self.asks(lab, Asked::History(channel, all), &history);
    }

    fn says_nonsense(&mut self, lab: &Lab) {
        self.may_be_cut = true;
        let Some(conn) = &mut self.conn else { return };
        match lab.below(5) {
            0 => conn.babble(lab),
            1 => conn.say(lab, "{\"id\":".to_owned()),
            2 => conn.say(lab, format!("{{\"id\":1,\"rpc\":{{\"method\":\"{}\"}}}}", "m".repeat(TOO_LONG))),
            3 => conn.say(lab, "{\"publish\":{\"channel\":\"room\"}}".to_owned()),
            _ => conn.say(lab, "[]".to_owned()),
        }
    }

    fn closes(&mut self, lab: &Lab) {
        self.may_be_cut = true;
        if let Some(conn) = &mut self.conn {
            conn.close(lab);
        }
    }

    fn leaves(&mut self, lab: &Lab, reset: bool) {
        self.may_be_cut = true;
        if let Some(conn) = self.conn.take()
            && reset
        {
            conn.peer.reset();
        }
        self.is_cut_off(lab);
    }

    /// Its connection is no more.
    fn is_cut_off(&mut self, lab: &Lab) {
        self.conn = None;
        self.subs.clear();
        lab.book.borrow_mut().seen.unanswered += self.asked.len();
        self.asked.clear();
    }

    /// Gets what was asked for, and goes.
    fn finishes(&mut self, lab: &Lab) {
        self.dozes = 0;
        if let Some(conn) = &mut self.conn {
            conn.flush(usize::MAX);
        }
        self.reads(lab, usize::MAX);
        if self.asked.is_empty() && !self.subs.values().any(|sub| *sub == Sub::Asked) {
            self.closes(lab);
        }
    }

    fn reads(&mut self, lab: &Lab, most: usize) {
        let Some(conn) = &mut self.conn else { return };
        let heard = conn.hear(lab, most);
        for heard in heard {
            let done = match heard {
                Heard::Line(line) => self.hears(lab, &line),
                Heard::Closed(code) => {
                    *lab.book.borrow_mut().seen.closed.entry(code).or_default() += 1;
                    let said = self.is_sent_away(lab, code);
                    // What was asked and is not answered yet will not be.
                    self.may_be_cut |= code != 1000;
                    said
                }
                // Only so many may come at once.
                Heard::Refused(503) => {
                    self.may_be_cut = true;
                    Ok(())
                }
                Heard::Refused(status) => Err(format!("the WebSocket was answered with {status}")),
            };
            if let Err(why) = done {
                lab.world.fail(format!("{}: {why}", self.name));
            }
        }
        if self.conn.as_ref().is_some_and(Conn::is_gone) {
            if !self.asked.is_empty()
                && !self.may_be_cut
                && !self.wants_too_much(lab)
                && !lab.may_cut(self.since, PATIENCE)
            {
                lab.world.fail(format!("{}: {} commands got no answer", self.name, self.asked.len()));
            }
            self.is_cut_off(lab);
        }
    }

    /// Whether more was asked for than may wait for a client, perhaps.
    fn wants_too_much(&self, lab: &Lab) -> bool {
        let is_long = |asked: &Asked| matches!(asked, Asked::Subscribe(_, Some(_), _) | Asked::History(..));
        lab.book.borrow().is_tight && self.asked.values().any(is_long)
    }

    /// A client is sent away for a reason.
    fn is_sent_away(&self, lab: &Lab, code: u16) -> Result<(), String> {
        let may = match code {
            // Of a normal close the client began, or the process ends.
            1000 | 3001 => true,
            // What it was pinged waits behind too much.
            3012 => lab.book.borrow().is_tight,
            // It spoke nonsense, or too long; or took nothing.
            _ => self.may_be_cut || self.wants_too_much(lab) || lab.may_cut(self.since, PATIENCE),
        };
        if may { Ok(()) } else { Err(format!("sent away with {code}")) }
    }

    fn hears(&mut self, lab: &Lab, line: &[u8]) -> Result<(), String> {
        let value: Value = serde_json::from_slice(line).map_err(|error| format!("a line that is no JSON: {error}"))?;
        if value.as_object().is_some_and(serde_json::Map::is_empty) {
            // A ping of the protocol's.
            if let Some(conn) = &mut self.conn {
                conn.say(lab, "{}".to_owned());
            }
            return Ok(());
        }
        if let Some(push) = value.get("push") {
            return self.is_pushed(lab, push);
        }
        let id = number(&value, "id") as u32;
        let Some(asked) = self.asked.remove(&id) else {
            return Err(format!("an answer that nobody asked for: {value}"));
        };
        if let Some(error) = value.get("error") {
            return self.is_refused(lab, asked, number(error, "code"));
        }
        self.is_answered(lab, asked, &value)
    }

    fn is_refused(&mut self, lab: &Lab, asked: Asked, code: u64) -> Result<(), String> {
        lab.book.borrow_mut().seen.refused += 1;
        match asked {
            Asked::Publish(number) => lab.book.borrow_mut().refuse(number, code),
            Asked::Subscribe(channel, ..) => {
                self.subs.remove(channel);
                Err(format!("a subscription to {channel} is refused with {code}"))
            }
            Asked::Connect => Err(format!("cannot connect: {code}")),
            Asked::Unsubscribe(channel) => Err(format!("cannot unsubscribe from {channel}: {code}")),
            Asked::History(channel, _) => Err(format!("cannot read {channel}: {code}")),
            Asked::Presence(channel) => Err(format!("cannot see who is in {channel}: {code}")),
        }
    }

    fn is_answered(&mut self, lab: &Lab, asked: Asked, reply: &Value) -> Result<(), String> {
        let result = |name: &str| reply.get(name).ok_or_else(|| format!("{reply} is no answer to {name}"));
        match asked {
            Asked::Connect => result("connect").map(drop),
            Asked::Publish(number) => {
                result("publish")?;
                lab.book.borrow_mut().acknowledge(number);
                Ok(())
            }
            Asked::Unsubscribe(channel) => {
                result("unsubscribe")?;
                self.subs.remove(channel);
                Ok(())
            }
            Asked::Presence(channel) => {
                let present = result("presence")?.get("presence").and_then(Value::as_object);
                lab.book.borrow_mut().seen.read += 1;
                let is_here = |info: &Value| info.get("user").and_then(Value::as_str) == Some(&self.name);
                let is_there = present.is_some_and(|present| present.values().any(is_here));
                match self.subs.get(channel) {
                    Some(Sub::In) if !is_there => Err(format!("is in {channel}, and not present")),
                    _ => Ok(()),
                }
            }
            Asked::History(channel, all) => read_page(lab, channel, all, result("history")?),
            Asked::Subscribe(channel, since, top) => {
                self.subs.insert(channel, Sub::In);
                self.is_subscribed(lab, channel, since, top, result("subscribe")?)
            }
        }
    }

    fn is_subscribed(
        &mut self,
        lab: &Lab,
        channel: &'static str,
        since: Option<Position>,
        top: u64,
        result: &Value,
    ) -> Result<(), String> {
        let mut book = lab.book.borrow_mut();
        let epoch = result.get("epoch").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut position = Position { epoch, offset: number(result, "offset") };
        book.is_in(channel, &position.epoch)?;
        let recovered = result.get("recovered").and_then(Value::as_bool).unwrap_or(false);
        let missed = result.get("publications").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        match &since {
            Some(since) if recovered => {
                if position != *since {
                    return Err(format!("{channel} goes on from {position:?} instead of {since:?}"));
                }
                book.seen.recovered += usize::from(!missed.is_empty());
            }
            Some(since) => {
                book.may_lose(channel, since, &position)?;
                book.seen.unrecovered += 1;
            }
            None => {}
        }
        if !recovered && !missed.is_empty() {
            return Err(format!("{channel} is not recovered, and {} publications come along", missed.len()));
        }
        for publication in missed {
            let offset = book.tell(channel, publication)?;
            if offset != position.offset + 1 {
                return Err(format!("{channel} goes on with {offset} behind {}", position.offset));
            }
            position.offset = offset;
        }
        if position.offset < top {
            return Err(format!("{channel} was up to {top}, and is up to {}", position.offset));
        }
        drop(book);
        self.positions.insert(channel, position);
        Ok(())
    }

    fn is_pushed(&mut self, lab: &Lab, push: &Value) -> Result<(), String> {
        let named = push.get("channel").and_then(Value::as_str).unwrap_or_default();
        let known = CHANNELS.iter().find(|(channel, _)| *channel == named);
        let Some((channel, _)) = known else { return Err(format!("a push of nothing: {push}")) };
        let sub = self.subs.get(channel).copied();
        if let Some(why) = push.get("unsubscribe") {
            // Too slow, or nobody knows what it has missed: it may begin anew.
            self.subs.remove(channel);
            lab.book.borrow_mut().seen.fallen_off += 1;
            return match number(why, "code") {
                2500 => Ok(()),
                code => Err(format!("the subscription to {channel} was ended with {code}")),
            };
        }
        if push.get("join").or(push.get("leave")).is_some() {
            return match sub {
                Some(Sub::In | Sub::Leaving) => Ok(()),
                _ => Err(format!("told who comes to {channel} without a subscription ({sub:?})")),
            };
        }
        let Some(publication) = push.get("pub") else { return Err(format!("a push of a kind nobody wants: {push}")) };
        if !matches!(sub, Some(Sub::In | Sub::Leaving)) {
            return Err(format!("told of {channel} without a subscription ({sub:?})"));
        }
        let mut book = lab.book.borrow_mut();
        let offset = book.tell(channel, publication)?;
        book.seen.pushed += 1;
        let position = self.positions.entry(channel).or_default();
        if offset != position.offset + 1 {
            return Err(format!("{channel} goes on with {offset} behind {}", position.offset));
        }
        position.offset = offset;
        Ok(())
    }
}

/// A page of history, newest or all of it.
fn read_page(lab: &Lab, channel: &'static str, all: bool, page: &Value) -> Result<(), String> {
    let mut book = lab.book.borrow_mut();
    book.seen.read += 1;
    let epoch = page.get("epoch").and_then(Value::as_str).unwrap_or_default();
    book.is_in(channel, epoch)?;
    let publications = page.get("publications").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let offsets = publications.iter().map(|publication| book.tell(channel, publication));
    let offsets = offsets.collect::<Result<Vec<u64>, String>>()?;
    if let Some(pair) = offsets.windows(2).find(|pair| pair[1] != pair[0] + 1) {
        return Err(format!("the history of {channel} has {} behind {}", pair[1], pair[0]));
    }
    if all { book.read_all(channel, &offsets, number(page, "offset")) } else { Ok(()) }
}
