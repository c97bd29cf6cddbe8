//! Who is alive: leases as they were read last, and what each node said of itself in its own.
//!
//! A lease ends by Redis' clock when it is read, and by ours afterwards: if Redis is away, others are known for as long as
//! their leases would have lasted, and then nobody is. A node that did not answer is not waited for again before its lease
//! shows that it still works.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fields::{Reader, Writer};
use super::wire::{NodeId, VERSION};

/// What a node says of itself with each beat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// For people.
    pub name: String,
    /// Of the program.
    pub release: String,
    /// Clients that are connected.
    pub clients: u64,
    /// Users that they belong to.
    pub users: u64,
    /// Subscriptions of these.
    pub subscriptions: u64,
    /// Channels with subscribers.
    pub channels: u64,
    /// Seconds since the start.
    pub uptime: u64,
    /// How often it has beaten.
    pub beat: u64,
}

impl Figures {
    /// As a lease holds them: the version first, so that a node of another one is known to be there.
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer(&mut out);
        writer.byte(VERSION).text(&self.name).text(&self.release);
        for number in [self.clients, self.users, self.subscriptions, self.channels, self.uptime, self.beat] {
            writer.number(number);
        }
        out
    }

    /// Reads them; what a later release has added behind them is passed over. `None`: they are of a version that is not
    /// understood, or none at all.
    pub fn read(bytes: &[u8]) -> Option<Figures> {
        let mut reader = Reader(bytes);
        if reader.byte()? != VERSION {
            return None;
        }
        Some(Figures {
            name: reader.text()?.to_owned(),
            release: reader.text()?.to_owned(),
            clients: reader.number()?,
            users: reader.number()?,
            subscriptions: reader.number()?,
            channels: reader.number()?,
            uptime: reader.number()?,
            beat: reader.number()?,
        })
    }
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Other {
    /// `None`: it is of a version that is not understood here.
    figures: Option<Figures>,
    /// When its lease ends, on the shard's clock.
    ends: Duration,
    /// It did not answer, and has not beaten since.
    is_suspect: bool,
}

/// The other nodes.
#[derive(Debug, Default)]
pub struct Roster {
    others: BTreeMap<NodeId, Other>,
    /// When leases were read last, on the shard's clock.
    read: Option<Duration>,
}

/// The other nodes, as somebody who asks them all sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Whose answers are waited for.
    pub awaited: Vec<NodeId>,
    /// The names of those from whom nothing is to be expected.
    pub missing: Vec<String>,
}

impl Roster {
    /// Leases were read, and last so long. Who came and who is gone, by name.
    pub fn on_leases(
        &mut self,
        now: Duration,
        lease: Duration,
        leases: Vec<(NodeId, Option<Figures>)>,
    ) -> (Vec<String>, Vec<String>) {
        let before = std::mem::take(&mut self.others);
        let mut came = Vec::new();
        for (id, figures) in leases {
            let known = before.get(&id);
            let has_beaten = known.is_none_or(|known| known.figures != figures);
            let ends = match known {
                // Ours lasts no longer than Redis would have it.
                Some(known) if !has_beaten => known.ends,
                _ => now + lease,
            };
            let is_suspect = known.is_some_and(|known| known.is_suspect) && !has_beaten;
            let other = Other { figures, ends, is_suspect };
            if known.is_none() {
                came.push(other.shown(id));
            }
            self.others.insert(id, other);
        }
        self.read = Some(now);
        let gone = before.iter().filter(|(id, _)| !self.others.contains_key(id));
        (came, gone.map(|(id, other)| other.shown(*id)).collect())
    }

    /// Forgets those whose leases have ended by our clock.
    pub fn expire(&mut self, now: Duration) {
        self.others.retain(|_, other| other.ends > now);
    }

    /// Whether leases were read lately: whether this is all there is.
    pub fn is_current(&self, now: Duration, lease: Duration) -> bool {
        self.read.is_some_and(|read| read + lease > now)
    }

    /// Whether a node lives.
    pub fn has(&self, id: NodeId) -> bool {
        self.others.contains_key(&id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.others.len()
    }

    /// Who answers if all are asked.
    pub fn asked(&self) -> Asked {
        let mut asked = Asked::default();
        for (id, other) in &self.others {
            match other.is_suspect || other.figures.is_none() {
                true => asked.missing.push(other.shown(*id)),
                false => asked.awaited.push(*id),
            }
        }
        asked
    }

    /// A node did not answer; what it is called.
    pub fn suspect(&mut self, id: NodeId) -> String {
        match self.others.get_mut(&id) {
            Some(other) => {
                other.is_suspect = true;
                other.shown(id)
            }
            None => id.to_string(),
        }
    }

    /// What a node is called.
    pub fn shown(&self, id: NodeId) -> String {
        self.others.get(&id).map_or_else(|| id.to_string(), |other| other.shown(id))
    }

    /// What all say of themselves.
    pub fn figures(&self) -> Vec<(NodeId, Figures)> {
        let unknown = || Figures { name: "another version".to_owned(), ..Figures::default() };
        self.others.iter().map(|(id, other)| (*id, other.figures.clone().unwrap_or_else(unknown))).collect()
    }
}

impl Other {
    fn shown(&self, id: NodeId) -> String {
        match &self.figures {
            Some(figures) if !figures.name.is_empty() => figures.name.clone(),
            _ => id.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(4);
    const A: NodeId = NodeId([1; 16]);
    const B: NodeId = NodeId([2; 16]);

    fn figures(name: &str, beat: u64) -> Option<Figures> {
        Some(Figures { name: name.to_owned(), beat, ..Figures::default() })
    }

    #[test]
    fn figures_are_read_as_they_were_written() {
        let written =
            Figures { name: "n".to_owned(), release: "r".to_owned(), clients: 300, beat: 7, ..Figures::default() };
        let mut bytes = written.write();
        assert_eq!(Figures::read(&bytes), Some(written.clone()));
        for len in 0..bytes.len() {
            assert_eq!(Figures::read(&bytes[..len]), None);
        }
        bytes.extend_from_slice(b"more of a later release");
        assert_eq!(Figures::read(&bytes), Some(written));
        bytes[0] = 9;
        assert_eq!(Figures::read(&bytes), None);
    }

    #[test]
    fn nodes_come_are_suspected_recover_and_go() {
        let mut roster = Roster::default();
        let at = Duration::from_secs;
        assert!(!roster.is_current(at(0), LEASE));
        let leases = vec![(A, figures("a", 1)), (B, None)];
        assert_eq!(roster.on_leases(at(1), LEASE, leases).0, ["a".to_owned(), B.to_string()]);
        assert_eq!(roster.asked(), Asked { awaited: vec![A], missing: vec![B.to_string()] });
        assert_eq!(roster.suspect(A), "a");
        roster.on_leases(at(2), LEASE, vec![(A, figures("a", 1))]);
        assert_eq!(roster.asked(), Asked { awaited: vec![], missing: vec!["a".to_owned()] }, "it has not beaten");
        roster.on_leases(at(3), LEASE, vec![(A, figures("a", 2))]);
        assert_eq!(roster.asked().awaited, [A]);
        assert!(roster.is_current(at(6), LEASE) && !roster.is_current(at(7), LEASE));
        roster.expire(at(6));
        assert!(roster.has(A));
        roster.expire(at(7));
        assert!(!roster.has(A), "Redis is away, and so is what it said");
        let (came, gone) = roster.on_leases(at(8), LEASE, vec![(B, figures("b", 1))]);
        assert_eq!((came, gone), (vec!["b".to_owned()], vec![]));
        assert_eq!(roster.on_leases(at(9), LEASE, vec![]).1, ["b"]);
    }
}
