//! Channels: who of this shard is in them, and, on the shard that owns them, what was published.
//!
//! A channel's owner is the shard its name hashes to. The owner numbers publications, keeps history, and knows which
//! shards have subscribers. Members are kept where they are connected; nobody keeps them all.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use annulus_engine::ConnId;
use annulus_protocols::centrifuge::Filter;

use super::dialect::Dialect;
use super::differences::Differences;
use super::session::{ChannelSlot, Given, Subscription};
use super::slots::{Named, Slots};
use super::stream::{Epoch, Stream};

/// Publications that wait for a slow member of a channel without history, at most. Beyond, the oldest is forgotten.
pub const KEPT_FRAMES_MAX: usize = 64;

/// Why a member does not get what the others get.
#[derive(Debug)]
pub enum Apart {
    /// It is slow: it has everything up to this offset, and is given the rest when it has taken that.
    Behind {
        /// The last publication it was given.
        offset: u64,
        /// The owner was asked for what follows.
        asked: bool,
    },
    /// It is slow, and the channel keeps no history: these wait for it.
    Kept {
        /// The latest, oldest first.
        frames: VecDeque<Arc<[u8]>>,
        /// How many may wait.
        most: usize,
    },
    /// It came, or came back, while a fan-out was under way, and has everything up to this offset.
    Has(u64),
    /// It left while a fan-out was under way.
    Gone,
}

/// Members of a channel. One alone, as in a channel of somebody's own, needs nothing on the heap.
#[derive(Debug)]
enum Members {
    One(ConnId),
    Any(Vec<ConnId>),
}

impl Default for Members {
    fn default() -> Members {
        Members::Any(Vec::new())
    }
}

impl Members {
    fn as_slice(&self) -> &[ConnId] {
        match self {
            Members::One(one) => std::slice::from_ref(one),
            Members::Any(any) => any,
        }
    }

    fn push(&mut self, new: ConnId) {
        match self {
            Members::One(one) => *self = Members::Any(vec![*one, new]),
            Members::Any(any) if any.is_empty() => *self = Members::One(new),
            Members::Any(any) => any.push(new),
        }
    }

    fn remove(&mut self, old: ConnId) {
        match self {
            Members::One(one) if *one == old => *self = Members::default(),
            Members::One(_) => {}
            // Who came last leaves first, more often than not.
            Members::Any(any) => {
                if let Some(at) = any.iter().rposition(|&member| member == old) {
                    any.swap_remove(at);
                }
            }
        }
    }
}

/// Members of a channel that are sent the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Those who get every publication as it is.
    Whole,
    /// Those who get what their filters let through.
    Filtered,
    /// Those who get differences, and have nothing yet from which the next one could differ.
    Fresh,
    /// Those who get differences.
    Steady,
    /// Those who want to know who comes and goes, whatever else they are.
    Watchers,
}

impl Group {
    /// Each member is in one of these. Who is fresh is told last: with that it becomes steady.
    pub const MEMBERS: [Group; 4] = [Group::Whole, Group::Filtered, Group::Steady, Group::Fresh];
}

/// What few channels have.
#[derive(Debug, Default)]
pub struct Rare {
    /// All groups but the members of the usual dialect who get everything whole: none of them empty, and hardly ever more
    /// than two.
    lists: Vec<(Group, Dialect, Members)>,
    /// What members want who do not want everything.
    pub filters: HashMap<ConnId, Filter>,
    /// On the channel's owner only: what those who get differences need.
    pub differences: Option<Differences>,
    /// Members that do not get what the others get.
    pub apart: HashMap<ConnId, Apart>,
    /// Fan-outs under way.
    pub fanning: u32,
}

impl Rare {
    fn position(&self, group: Group, dialect: Dialect) -> Option<usize> {
        self.lists.iter().position(|(other, spoken, _)| *other == group && *spoken == dialect)
    }

    fn list(&self, group: Group, dialect: Dialect) -> &[ConnId] {
        self.position(group, dialect).map_or(&[], |at| self.lists[at].2.as_slice())
    }

    fn add(&mut self, group: Group, dialect: Dialect, conn: ConnId) {
        match self.position(group, dialect) {
            Some(at) => self.lists[at].2.push(conn),
            None => self.lists.push((group, dialect, Members::One(conn))),
        }
    }

    fn remove(&mut self, group: Group, dialect: Dialect, conn: ConnId) {
        let Some(at) = self.position(group, dialect) else { return };
        self.lists[at].2.remove(conn);
        if self.lists[at].2.as_slice().is_empty() {
            self.lists.swap_remove(at);
        }
    }

    fn is_empty(&self) -> bool {
        let is_told = self.lists.is_empty() && self.filters.is_empty() && self.differences.is_none();
        is_told && self.fanning == 0 && self.apart.is_empty()
    }
}

/// One channel on this shard.
#[derive(Debug)]
pub struct Channel {
    /// Its name.
    pub name: Arc<str>,
    /// Connections of this shard that are subscribed and speak the usual dialect.
    members: Members,
    /// What few channels have.
    pub rare: Option<Box<Rare>>,
    /// Subscribing members that wait for the owner's answer: the slot must stay.
    pub arriving: u32,
    /// On its owner only: a bit for each dialect that members who get publications as they are have spoken since the last
    /// one left.
    pub dialects: u8,
    /// On its owner only.
    pub stream: Option<Box<Stream>>,
}

impl Channel {
    /// Those of a group who speak one dialect.
    pub fn group(&self, group: Group, dialect: Dialect) -> &[ConnId] {
        match &self.rare {
            _ if group == Group::Whole && dialect.index() == 0 => self.members.as_slice(),
            Some(rare) => rare.list(group, dialect),
            None => &[],
        }
    }

    fn lists(&self) -> impl Iterator<Item = &[ConnId]> {
        let rare = self.rare.iter().flat_map(|rare| &rare.lists).filter(|(group, ..)| *group != Group::Watchers);
        std::iter::once(&self.members).chain(rare.map(|(_, _, members)| members)).map(Members::as_slice)
    }

    /// All members.
    pub fn everybody(&self) -> impl Iterator<Item = ConnId> {
        self.lists().flatten().copied()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lists().map(<[ConnId]>::len).sum()
    }

    /// On its owner only: a bit for each dialect of those whom any publication is told.
    pub fn all_dialects(&self) -> u8 {
        let differences = self.rare.as_ref().and_then(|rare| rare.differences.as_ref());
        self.dialects | differences.map_or(0, |differences| differences.dialects)
    }

    /// What few channels have; made if need be.
    pub fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_with(Default::default)
    }

    /// Adds a member that has everything up to `offset`.
    pub fn enter(&mut self, conn: ConnId, dialect: Dialect, subscription: Subscription, offset: u64) {
        match (subscription.given(), dialect.index()) {
            (Given::Whole, 0) => self.members.push(conn),
            (Given::Whole, _) => self.rare_mut().add(Group::Whole, dialect, conn),
            (Given::Filtered, _) => self.rare_mut().add(Group::Filtered, dialect, conn),
            (Given::Differences, _) => self.rare_mut().add(Group::Fresh, dialect, conn),
        }
        if subscription.watches() {
            self.rare_mut().add(Group::Watchers, dialect, conn);
        }
        self.set_apart_if_fanning(conn, Apart::Has(offset));
    }

    /// Takes a member out.
    pub fn leave(&mut self, conn: ConnId, dialect: Dialect, subscription: Subscription) {
        if subscription.given() == Given::Whole && dialect.index() == 0 {
            self.members.remove(conn);
        }
        if let Some(rare) = &mut self.rare {
            match subscription.given() {
                Given::Whole => rare.remove(Group::Whole, dialect, conn),
                Given::Filtered => {
                    rare.remove(Group::Filtered, dialect, conn);
                    rare.filters.remove(&conn);
                }
                Given::Differences => {
                    rare.remove(Group::Fresh, dialect, conn);
                    rare.remove(Group::Steady, dialect, conn);
                }
            }
            if subscription.watches() {
                rare.remove(Group::Watchers, dialect, conn);
            }
            rare.apart.remove(&conn);
        }
        self.set_apart_if_fanning(conn, Apart::Gone);
        self.tidy();
    }

    /// These have what was published last, whole, and get differences from now on.
    pub fn promote(&mut self, members: &[ConnId], dialect: Dialect) {
        let Some(rare) = &mut self.rare else { return };
        for &conn in members {
            rare.remove(Group::Fresh, dialect, conn);
            rare.add(Group::Steady, dialect, conn);
        }
    }

    /// Takes a publication out of the history, if it is there: its place stays. Nothing is told as a difference from it.
    pub fn remove(&mut self, offset: u64) -> bool {
        if let Some(differences) = self.rare.as_mut().and_then(|rare| rare.differences.as_mut()) {
            differences.forget(offset);
        }
        self.stream.as_mut().is_some_and(|stream| stream.remove(offset))
    }

    /// On its owner only: nobody is here any more.
    pub fn vacate(&mut self) {
        self.dialects = 0;
        if let Some(rare) = &mut self.rare {
            rare.differences = None;
        }
        self.tidy();
    }

    fn set_apart_if_fanning(&mut self, conn: ConnId, apart: Apart) {
        if let Some(rare) = self.rare.as_mut().filter(|rare| rare.fanning > 0) {
            rare.apart.insert(conn, apart);
        }
    }

    /// A fan-out has ended. After the last one nobody needs to be remembered for having come or gone meanwhile.
    pub fn fanned(&mut self) {
        let Some(rare) = &mut self.rare else { return };
        rare.fanning -= 1;
        if rare.fanning == 0 {
            rare.apart.retain(|_, apart| matches!(apart, Apart::Behind { .. } | Apart::Kept { .. }));
        }
        self.tidy();
    }

    /// Gives up what is empty.
    pub fn tidy(&mut self) {
        if self.rare.as_deref().is_some_and(Rare::is_empty) {
            self.rare = None;
        }
    }
}

impl Named for Channel {
    fn name(&self) -> &str {
        &self.name
    }
}

/// The channels of a shard.
#[derive(Default)]
pub struct Channels(Slots<Channel>);

impl Channels {
    /// The slot of a channel, if it is known here.
    pub fn find(&self, name: &str) -> Option<ChannelSlot> {
        self.0.find(name)
    }

    /// The slot of a channel, made if need be.
    pub fn open(&mut self, name: &str) -> ChannelSlot {
        self.find(name).unwrap_or_else(|| {
            let members = Members::default();
            let slot = self.0.insert(Channel {
                name: name.into(),
                members,
                rare: None,
                arriving: 0,
                dialects: 0,
                stream: None,
            });
            assert!(slot < Subscription::SLOTS, "more channels than slots have names for");
            slot
        })
    }

    /// The channel in a slot.
    pub fn at(&mut self, slot: ChannelSlot) -> &mut Channel {
        self.0.get_mut(slot).expect("a slot in use is not vacant")
    }

    /// The channel in a slot, to look only.
    pub fn peek(&self, slot: ChannelSlot) -> &Channel {
        self.0.get(slot).expect("a slot in use is not vacant")
    }

    /// The stream of a channel that this shard owns, made with `epoch` if need be.
    pub fn stream(&mut self, slot: ChannelSlot, epoch: impl FnOnce() -> Epoch) -> &mut Stream {
        self.at(slot).stream.get_or_insert_with(|| Box::new(Stream::new(epoch())))
    }

    /// Forgets a channel that nobody needs any more. One with publications behind it stays: its numbers must not
    /// begin anew while a client may still come back with an old one.
    pub fn release(&mut self, slot: ChannelSlot, now: u64, meta_ttl_ms: u64) {
        let channel = self.at(slot);
        let is_kept = channel.stream.as_ref().is_some_and(|stream| !stream.is_forgettable(now, meta_ttl_ms));
        let is_fanning = channel.rare.as_ref().is_some_and(|rare| rare.fanning > 0);
        if channel.count() == 0 && channel.arriving == 0 && !is_kept && !is_fanning {
            self.0.remove(slot);
        }
    }

    /// Channels known here.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none are known here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Slots given so far; those below may be vacant.
    pub fn slots(&self) -> ChannelSlot {
        self.0.given()
    }

    /// The channel in a slot, if one is there.
    pub fn get(&mut self, slot: ChannelSlot) -> Option<&mut Channel> {
        self.0.get_mut(slot)
    }

    /// All channels.
    pub fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: u64 = 1000;

    #[test]
    fn an_unused_channel_is_forgotten_and_a_published_one_is_not() {
        let mut channels = Channels::default();
        let slot = channels.open("a");
        assert_eq!(channels.open("a"), slot);
        channels.stream(slot, || *b"abcd").shards = 0;
        channels.release(slot, 0, TTL);
        assert!(channels.is_empty() && channels.find("a").is_none());
        let slot = channels.open("b");
        let stream = channels.stream(slot, || *b"abcd");
        stream.restore_top(1);
        channels.release(slot, 0, TTL);
        assert_eq!(channels.len(), 1);
        channels.release(slot, TTL + 1, TTL);
        assert!(channels.is_empty());
    }

    #[test]
    fn members_of_each_dialect_come_and_go() {
        let mut channels = Channels::default();
        let slot = channels.open("a");
        let channel = channels.at(slot);
        let conns: Vec<ConnId> = (1..=2 * Dialect::COUNT as u64).map(ConnId::from_bits).collect();
        let of = |at: usize| {
            let dialect = Dialect::all().nth(at % Dialect::COUNT).unwrap();
            let given = [Given::Whole, Given::Differences, Given::Filtered][at % 3];
            (dialect, Subscription::new(slot, false, at > 5, given))
        };
        for (at, &conn) in conns.iter().enumerate() {
            let (dialect, subscription) = of(at);
            channel.enter(conn, dialect, subscription, 0);
        }
        assert_eq!(channel.count(), conns.len());
        let of_group = |channel: &Channel, group| -> usize {
            Dialect::all().map(|dialect| channel.group(group, dialect).len()).sum()
        };
        assert_eq!(of_group(channel, Group::Watchers), conns.len() - 6);
        assert_eq!(Group::MEMBERS.map(|group| of_group(channel, group)).iter().sum::<usize>(), conns.len());
        let (steady, _) = of(1);
        let fresh = channel.group(Group::Fresh, steady).to_vec();
        channel.promote(&fresh, steady);
        assert_eq!((channel.group(Group::Fresh, steady), channel.group(Group::Steady, steady)), (&[][..], &fresh[..]));
        for (at, &conn) in conns.iter().enumerate() {
            let (dialect, subscription) = of(at);
            channel.leave(conn, dialect, subscription);
            assert!(!channel.everybody().any(|member| member == conn));
        }
        assert_eq!(channel.count(), 0);
        assert!(channel.rare.is_none(), "nothing is kept for what is not there any more");
    }

    #[test]
    fn who_comes_and_goes_during_a_fan_out_is_remembered_until_it_ends() {
        let mut channels = Channels::default();
        let slot = channels.open("a");
        let channel = channels.at(slot);
        let (one, two) = (ConnId::from_bits(1), ConnId::from_bits(2));
        let subscription = Subscription::new(slot, false, false, Given::Whole);
        channel.enter(one, Dialect::default(), subscription, 3);
        channel.rare_mut().fanning = 1;
        channel.enter(two, Dialect::default(), subscription, 7);
        channel.leave(one, Dialect::default(), subscription);
        let apart = &channel.rare.as_ref().unwrap().apart;
        assert!(matches!(apart[&one], Apart::Gone) && matches!(apart[&two], Apart::Has(7)));
        channel.fanned();
        assert!(channel.rare.is_none());
    }
}
