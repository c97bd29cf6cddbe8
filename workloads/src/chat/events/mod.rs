//! What the backend is told happened: clients came and went, subscribed and left, channels began and ceased to be used.
//!
//! ```text
//!   hub ─► Event ─► the shard's queue ─► batches, one after the other ─► POST, signed ─► 2xx: forgotten
//!                      │ full                        │ 5xx, no answer: again, later
//!                      ▼                             ▼ 4xx, or for too long
//!                   counted, said                 a dead letter: counted, said
//! ```
//!
//! | file | noun |
//! |---|---|
//! | `mod.rs` | what happened, and how it is written |
//! | `queue.rs` | what waits, numbered and bounded, and the batches that it makes |
//! | `sender.rs` | the task that empties a shard's queue, and its signature |
//!
//! Invariants:
//! * Nobody waits for the backend: a hub hands an event over, and that is all it does.
//! * What of one shard is told is told in its order, at least once. Between shards there is no order.
//! * Every event of a shard has a number, told or not: what was not told is a gap that the backend can see.

pub mod queue;
pub mod sender;

use std::io::Write;
use std::sync::Arc;

use annulus_protocols::json::write_string;

use super::session::ClientId;
pub use queue::{Batch, Full, Origin, Queue};
pub use sender::Sender;

/// What kind of thing happened, as configurations choose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A client connected.
    Connected,
    /// A client is gone.
    Disconnected,
    /// A client subscribed to a channel.
    Joined,
    /// A client left one.
    Left,
    /// A channel has its first subscriber on this node.
    Occupied,
    /// A channel has no subscriber on this node any more.
    Vacated,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] =
        [Kind::Connected, Kind::Disconnected, Kind::Joined, Kind::Left, Kind::Occupied, Kind::Vacated];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Connected => "connected",
            Kind::Disconnected => "disconnected",
            Kind::Joined => "joined",
            Kind::Left => "left",
            Kind::Occupied => "occupied",
            Kind::Vacated => "vacated",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A client, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The user, who may have no name.
    pub user: Box<str>,
    /// One of its clients.
    pub client: ClientId,
}

/// What happened, to whom and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// See [`Kind::Connected`].
    Connected(Who),
    /// See [`Kind::Disconnected`].
    Disconnected(Who),
    /// See [`Kind::Joined`].
    Joined(Who, Arc<str>),
    /// See [`Kind::Left`].
    Left(Who, Arc<str>),
    /// See [`Kind::Occupied`].
    Occupied(Arc<str>),
    /// See [`Kind::Vacated`].
    Vacated(Arc<str>),
}

impl What {
    /// Which kind it is.
    pub const fn kind(&self) -> Kind {
        match self {
            What::Connected(_) => Kind::Connected,
            What::Disconnected(_) => Kind::Disconnected,
            What::Joined(..) => Kind::Joined,
            What::Left(..) => Kind::Left,
            What::Occupied(_) => Kind::Occupied,
            What::Vacated(_) => Kind::Vacated,
        }
    }

    fn who(&self) -> Option<&Who> {
        match self {
            What::Connected(who) | What::Disconnected(who) | What::Joined(who, _) | What::Left(who, _) => Some(who),
            What::Occupied(_) | What::Vacated(_) => None,
        }
    }

    fn channel(&self) -> Option<&str> {
        match self {
            What::Connected(_) | What::Disconnected(_) => None,
            What::Joined(_, channel) | What::Left(_, channel) | What::Occupied(channel) | What::Vacated(channel) => {
                Some(channel)
            }
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in milliseconds of the Unix clock.
    pub time_ms: u64,
    /// What.
    pub what: What,
}

impl Event {
    /// Bytes of memory that it takes, its names included.
    pub fn bytes(&self) -> usize {
        let user = self.what.who().map_or(0, |who| who.user.len());
        size_of::<Event>() + user + self.what.channel().map_or(0, str::len)
    }

    /// Appends it as JSON.
    pub fn write(&self, number: u64, out: &mut Vec<u8>) {
        let (kind, time_ms) = (self.what.kind().name(), self.time_ms);
        put(out, format_args!("{{\"number\":{number},\"type\":\"{kind}\",\"time_ms\":{time_ms}"));
        if let Some(channel) = self.what.channel() {
            put(out, format_args!(",\"channel\":"));
            write_string(out, channel);
        }
        if let Some(Who { user, client }) = self.what.who() {
            put(out, format_args!(",\"user\":"));
            write_string(out, user);
            put(out, format_args!(",\"client\":\"{client}\""));
        }
        out.push(b'}');
    }
}

/// Appends a text.
fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_json_whatever_names_are() {
        let who = || Who { user: "a\"n\n\u{1}\u{e9}".into(), client: ClientId([1; 16]) };
        let written = |number, what| {
            let mut out = Vec::new();
            Event { time_ms: 7, what }.write(number, &mut out);
            assert!(annulus_protocols::json::validate(&out).is_ok());
            String::from_utf8(out).unwrap()
        };
        let whose = "\"user\":\"a\\\"n\\n\\u0001\u{e9}\",\"client\":\"01010101-0101-0101-0101-010101010101\"";
        assert_eq!(
            written(1, What::Connected(who())),
            format!("{{\"number\":1,\"type\":\"connected\",\"time_ms\":7,{whose}}}")
        );
        assert_eq!(
            written(u64::MAX, What::Left(who(), "r\"\\".into())),
            format!("{{\"number\":{},\"type\":\"left\",\"time_ms\":7,\"channel\":\"r\\\"\\\\\",{whose}}}", u64::MAX)
        );
        assert_eq!(
            written(3, What::Vacated("room".into())),
            "{\"number\":3,\"type\":\"vacated\",\"time_ms\":7,\"channel\":\"room\"}"
        );
    }

    #[test]
    fn kinds_have_names_of_their_own() {
        for kind in Kind::ALL {
            assert_eq!(Kind::named(kind.name()), Some(kind));
        }
        assert_eq!((Kind::named("Connected"), Kind::named("")), (None, None));
    }

    #[test]
    fn an_event_counts_with_its_names() {
        let who = || Who { user: "ann".into(), client: ClientId::default() };
        let bytes = |what| Event { time_ms: 0, what }.bytes() - size_of::<Event>();
        assert_eq!(bytes(What::Connected(who())), 3);
        assert_eq!((bytes(What::Joined(who(), "room".into())), bytes(What::Occupied("room".into()))), (7, 4));
    }
}
