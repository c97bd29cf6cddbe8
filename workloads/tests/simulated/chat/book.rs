//! What is true of a run: what was published, acknowledged and told. Everything that anybody hears is held against it, in all
//! lives of the process.

use std::collections::BTreeMap;

use serde_json::Value;

use super::CHANNELS;

/// What a run has seen, to see that runs do something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Publications that were acknowledged.
    pub acknowledged: usize,
    /// Commands that were answered with an error.
    pub refused: usize,
    /// Commands that were not answered, because their connection ended.
    pub unanswered: usize,
    /// Publications that were pushed.
    pub pushed: usize,
    /// Subscriptions that went on where they were, with something that was missed.
    pub recovered: usize,
    /// Subscriptions that could not, because more was missed than is kept.
    pub unrecovered: usize,
    /// Times that a subscriber took too little, and was told later what it had not been.
    pub slow: usize,
    /// Subscriptions that the server ended.
    pub fallen_off: usize,
    /// Clients that the server sent away, by code.
    pub closed: BTreeMap<u16, usize>,
    /// Pages of history and lists of who is there.
    pub read: usize,
}

impl Seen {
    pub fn add(&mut self, other: Seen) {
        let Seen { acknowledged, refused, unanswered, pushed, recovered, unrecovered, .. } = other;
        let Seen { slow, fallen_off, closed, read, .. } = other;
        self.acknowledged += acknowledged;
        self.refused += refused;
        self.unanswered += unanswered;
        self.pushed += pushed;
        self.recovered += recovered;
        self.unrecovered += unrecovered;
        self.slow += slow;
        self.fallen_off += fallen_off;
        closed.into_iter().for_each(|(code, count)| *self.closed.entry(code).or_default() += count);
        self.read += read;
    }
}

/// What became of a publication, as far as its publisher knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Unknown,
    Acknowledged,
    Refused(u64),
}

struct Published {
    channel: &'static str,
    data: Value,
    fate: Fate,
}

/// A place in a channel, as clients know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub epoch: String,
    pub offset: u64,
}

/// What was told of a channel, by offset: numbers of publications.
#[derive(Default)]
struct Told {
    epoch: String,
    numbers: BTreeMap<u64, u64>,
}

/// See the module's description.
#[derive(Default)]
pub struct Book {
    published: Vec<Published>,
    told: BTreeMap<&'static str, Told>,
    /// Where the histories begin and end that were read at the end.
    last: BTreeMap<&'static str, (u64, u64)>,
    /// Whether publications may be refused: the disk fails, or is full.
    pub may_refuse: bool,
    /// Whether so little may wait for a client that a long reply is too much.
    pub is_tight: bool,
    pub seen: Seen,
}

/// How many publications a channel keeps.
fn kept(channel: &str) -> u64 {
    CHANNELS.iter().find(|(name, _)| *name == channel).map_or(0, |(_, kept)| *kept)
}

/// What a publication or a reply says that is a number.
pub fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

impl Book {
    /// The number of a new publication, and what is in it.
    pub fn publish(&mut self, channel: &'static str, filler: usize) -> (u64, String) {
        let number = self.published.len() as u64;
        let text = format!("{{\"n\":{number},\"x\":\"{}\"}}", "y".repeat(filler));
        let data = serde_json::from_str(&text).unwrap();
        self.published.push(Published { channel, data, fate: Fate::Unknown });
        (number, text)
    }

    /// Its publisher was answered.
    pub fn acknowledge(&mut self, number: u64) {
        self.published[number as usize].fate = Fate::Acknowledged;
        self.seen.acknowledged += 1;
    }

    /// Its publisher was answered with an error.
    pub fn refuse(&mut self, number: u64, code: u64) -> Result<(), String> {
        self.published[number as usize].fate = Fate::Refused(code);
        match self.may_refuse {
            true => Ok(()),
            false => Err(format!("publication {number} was refused with {code} though nothing is wrong with the disk")),
        }
    }

    /// The last offset that anybody was told.
    pub fn top(&self, channel: &str) -> u64 {
        let last = self.told.get(channel).and_then(|told| told.numbers.last_key_value());
        last.map_or(0, |(offset, _)| *offset)
    }

    /// A channel is in this epoch: in the one before, unless nothing was ever told there.
    pub fn is_in(&mut self, channel: &'static str, epoch: &str) -> Result<(), String> {
        let told = self.told.entry(channel).or_default();
        if told.epoch != epoch {
            if let Some((offset, _)) = told.numbers.last_key_value() {
                let before = &told.epoch;
                return Err(format!("{channel} begins anew in {epoch}: up to {offset} was told in {before}"));
            }
            told.epoch = epoch.to_owned();
        }
        Ok(())
    }

    /// Somebody is told a publication.
    pub fn tell(&mut self, channel: &'static str, publication: &Value) -> Result<u64, String> {
        let offset = number(publication, "offset");
        let data = publication.get("data").unwrap_or(&Value::Null);
        let which =
            data.get("n").and_then(Value::as_u64).ok_or_else(|| format!("nobody has published {publication}"))?;
        let published = self.published.get(which as usize);
        let published = published.ok_or_else(|| format!("publication {which} was never published"))?;
        if published.channel != channel || published.data != *data {
            return Err(format!("publication {which} of {} is not what {channel} tells", published.channel));
        }
        if let Fate::Refused(code) = published.fate
            && code != INTERNAL
        {
            return Err(format!("publication {which} was refused with {code}, and told"));
        }
        let told = self.told.entry(channel).or_default();
        match told.numbers.insert(offset, which) {
            Some(other) if other != which => {
                return Err(format!("{channel} {offset} was publication {other}, and is {which}"));
            }
            Some(_) => return Ok(offset),
            None => {}
        }
        let places = told.numbers.iter().filter(|(_, other)| **other == which).count();
        if places > 1 {
            return Err(format!("publication {which} of {channel} is told at {places} offsets"));
        }
        Ok(offset)
    }

    /// A subscriber that was at `since` is told that it has to begin anew at `now`: right only if more was missed than is kept,
    /// or if it was where nothing had been told, which no log remembers.
    pub fn may_lose(&self, channel: &str, since: &Position, now: &Position) -> Result<(), String> {
        let missed = now.offset.saturating_sub(since.offset);
        let has_begun_anew = since.epoch != now.epoch && since.offset == 0;
        if has_begun_anew || since.epoch == now.epoch && missed > kept(channel) {
            return Ok(());
        }
        Err(format!("{channel} cannot be recovered from {since:?} to {now:?}, and {} are kept", kept(channel)))
    }

    /// A history was read to its end, `top`, after everything.
    pub fn read_all(&mut self, channel: &'static str, offsets: &[u64], top: u64) -> Result<(), String> {
        let first = offsets.first().copied().unwrap_or(top + 1);
        let expected = kept(channel).min(top);
        if offsets.len() as u64 != expected || !offsets.iter().copied().eq(first..=top) {
            return Err(format!("the history of {channel} up to {top} is {offsets:?}: {expected} are kept"));
        }
        self.last.insert(channel, (first, top));
        Ok(())
    }

    /// Whether everything that was promised is there.
    pub fn check(&self) -> Result<(), String> {
        for (channel, _) in CHANNELS {
            let Some((first, top)) = self.last.get(channel) else {
                return Err(format!("the history of {channel} was not read"));
            };
            let nothing = Told::default();
            let told = self.told.get(channel).unwrap_or(&nothing);
            if let Some((offset, _)) = told.numbers.last_key_value().filter(|(offset, _)| *offset > top) {
                return Err(format!("{channel} {offset} was told, and the history ends at {top}"));
            }
            let is_told = |number: u64| told.numbers.values().any(|other| *other == number);
            let acknowledged = self
                .published
                .iter()
                .enumerate()
                .filter(|(_, published)| published.channel == channel && published.fate == Fate::Acknowledged);
            // What nobody was told lies before the history's begin, where offsets are that nobody was told.
            let unseen: Vec<usize> = acknowledged.map(|(at, _)| at).filter(|at| !is_told(*at as u64)).collect();
            let room = (1..*first).filter(|offset| !told.numbers.contains_key(offset)).count();
            if unseen.len() > room {
                return Err(format!("{channel}: acknowledged and lost: {room} of {unseen:?} may be before {first}"));
            }
        }
        Ok(())
    }
}

/// The error of what may have been done or not.
const INTERNAL: u64 = 100;
