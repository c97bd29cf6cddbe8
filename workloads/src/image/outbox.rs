//! What happened to jobs, kept in the queue until it has been told: to the [account of jobs](super::audit) and by
//! [webhooks](super::webhooks).
//!
//! ```text
//!   queue: a change of state ──┬─ the tables                      one transaction, or one script
//!                              ├─ the account's outbox   ─► audit/      ─► in the database: forgotten
//!                              └─ the webhooks' outbox   ─► webhooks/   ─► taken: forgotten
//!                                                               └──────► refused, or for too long: a dead letter
//! ```
//!
//! An event is in an outbox exactly if its change happened, whatever crashes, and stays there until its reader says that it is
//! told: so it is told at least once. Each reader has an outbox of its own, so that neither waits for the other. Jobs wait for
//! nothing of this: beyond [`EVENTS_MAX`] events are left out, and counted.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use super::queue::Answer;

/// Events in an outbox at most, some 200 bytes each. Beyond, new ones are lost to its reader, and counted.
pub const EVENTS_MAX: u64 = 1_000_000;
/// The same where the outbox is in Redis: its memory is for jobs.
pub const EVENTS_MAX_IN_REDIS: u64 = 100_000;
/// Dead letters that are kept; beyond, the oldest go, and count as lost.
pub const LETTERS_MAX: u64 = 10_000;
/// Dead letters that one call tells again, at most.
pub const AGAIN_MAX: u64 = 1000;

/// What happened to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was entered, durably.
    Accepted,
    /// A lane has taken it.
    Leased,
    /// The attempt failed, and it will be tried again.
    Retried,
    /// Whoever had taken it did not say that it still works on it.
    Expired,
    /// It was given back untouched.
    Released,
    /// Its outputs are there.
    Done,
    /// The image is to blame.
    Failed,
    /// It failed too often, and waits for a person.
    Dead,
    /// Nobody wants it any more.
    Cancelled,
    /// It begins anew, because somebody asked for it again.
    Revived,
}

impl Event {
    /// All of them.
    pub const ALL: [Event; 10] = [
        Event::Accepted,
        Event::Leased,
        Event::Retried,
        Event::Expired,
        Event::Released,
        Event::Done,
        Event::Failed,
        Event::Dead,
        Event::Cancelled,
        Event::Revived,
    ];

    /// As it is told.
    pub const fn name(self) -> &'static str {
        match self {
            Event::Accepted => "accepted",
            Event::Leased => "leased",
            Event::Retried => "retried",
            Event::Expired => "expired",
            Event::Released => "released",
            Event::Done => "done",
            Event::Failed => "failed",
            Event::Dead => "dead",
            Event::Cancelled => "cancelled",
            Event::Revived => "revived",
        }
    }
}

/// Some kinds of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventSet(u16);

impl EventSet {
    /// None of them.
    pub const NONE: EventSet = EventSet(0);
    /// All of them.
    pub const ALL: EventSet = EventSet(u16::MAX);

    /// These.
    pub fn of(events: &[Event]) -> EventSet {
        EventSet(events.iter().fold(0, |bits, &event| bits | 1 << event as u16))
    }

    /// Whether this kind is one of them.
    pub fn has(self, event: Event) -> bool {
        self.0 & 1 << event as u16 != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Event> {
        Event::ALL.into_iter().filter(move |event| self.has(*event))
    }
}

/// Who is told of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The account of jobs.
    Account,
    /// Webhooks.
    Webhooks,
}

impl Reader {
    /// How long the node of a fleet that tells a reader is the one that does, after it last asked for events: longer than one
    /// statement or request takes.
    pub const fn lease(self) -> Duration {
        match self {
            Reader::Account => Duration::from_secs(10),
            Reader::Webhooks => Duration::from_secs(30),
        }
    }
}

/// Where an event is in an outbox; later ones are greater. What the numbers are is the outbox' own affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub u64, pub u64);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// It is not the text of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAPlace;

impl FromStr for Place {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Place, NotAPlace> {
        let (at, number) = text.split_once('-').ok_or(NotAPlace)?;
        let number_of = |digits: &str| digits.parse().map_err(|_| NotAPlace);
        Ok(Place(number_of(at)?, number_of(number)?))
    }
}

/// An event in an outbox.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Noted {
    /// Its place in the outbox, or among the dead letters.
    #[serde(skip)]
    pub place: Place,
    /// The job, as clients know it.
    pub job: String,
    /// The job's revision with this event.
    pub revision: i64,
    /// What happened.
    pub event: String,
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// Whose job it is.
    pub tenant: String,
    /// Attempts so far.
    pub attempt: i64,
    /// Where it was worked on.
    pub lane: Option<String>,
    /// Bytes of the original.
    pub bytes_in: i64,
    /// Its width in pixels.
    pub width: Option<i64>,
    /// Its height.
    pub height: Option<i64>,
    /// Bytes of the outputs, of one that is done.
    pub bytes_out: Option<i64>,
    /// What went wrong: kind and words.
    pub error: Option<String>,
}

/// An event that nobody took.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// What happened; its place is the letter's.
    pub noted: Noted,
    /// When it was given up, in milliseconds since 1970.
    pub given_up_ms: i64,
    /// Why.
    pub why: String,
}

/// How much of an outbox is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Events that wait.
    pub waiting: u64,
    /// Events that this process left out for want of room since its start, and dead letters that had to go.
    pub lost: u64,
    /// Dead letters.
    pub dead: u64,
}

/// Events that are to be told, oldest first. Part of a queue, since it must not say what did not happen.
pub trait Outbox: Send + Sync {
    /// The first ones. None where another node of the fleet tells them.
    fn first(&self, reader: Reader, most: usize) -> Answer<Vec<Noted>>;

    /// All up to this place are told.
    fn forget(&self, reader: Reader, upto: Place) -> Answer<()>;

    /// All of the webhooks' up to this place are dead letters now.
    fn give_up(&self, upto: Place, why: &str) -> Answer<()>;

    /// Dead letters, newest first, those before `before` only.
    fn letters(&self, before: Option<Place>, most: usize) -> Answer<Vec<Letter>>;

    /// Dead letters are to be told again, behind what waits: one of them, or the oldest [`AGAIN_MAX`]. How many that were.
    fn again(&self, letter: Option<Place>) -> Answer<u64>;

    /// How much is used.
    fn fill(&self, reader: Reader) -> Fill;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        for place in [Place(0, 0), Place(17, 3), Place(u64::MAX, u64::MAX)] {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        for text in ["", "1", "1-", "-1", "a-1", "1-2-3", "18446744073709551616-0"] {
            assert_eq!(text.parse::<Place>(), Err(NotAPlace), "{text}");
        }
    }

    #[test]
    fn a_set_has_what_it_was_made_of() {
        let set = EventSet::of(&[Event::Done, Event::Revived]);
        assert!(set.has(Event::Done) && set.has(Event::Revived) && !set.has(Event::Failed) && !set.is_empty());
        assert!(set.iter().eq([Event::Done, Event::Revived]) && EventSet::ALL.iter().eq(Event::ALL));
        assert!(EventSet::NONE.is_empty() && EventSet::ALL.has(Event::Accepted) && EventSet::ALL.has(Event::Revived));
    }
}
