//! Channels: who of this shard is in them, and, on the shard that owns them, what was published.
//!
//! A channel's owner is the shard its name hashes to. The owner numbers publications, keeps history, and knows which
//! shards have subscribers. Members are kept where they are connected; nobody keeps them all.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use annulus_engine::ConnId;

use super::dialect::Dialect;
use super::session::{ChannelSlot, Subscription};
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

/// One of a channel's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Members(Dialect),
    Watchers(Dialect),
}

/// What few channels have.
#[derive(Debug, Default)]
pub struct Rare {
    /// Members of dialects other than the usual one, and members that want to know who comes and goes: none of them empty,
    /// and hardly ever more than two.
    lists: Vec<(Which, Members)>,
    /// Members that do not get what the others get.
    pub apart: HashMap<ConnId, Apart>,
    /// Fan-outs under way.
    pub fanning: u32,
}

impl Rare {
    fn list(&self, which: Which) -> &[ConnId] {
        let found = self.lists.iter().find(|(other, _)| *other == which);
        found.map_or(&[], |(_, members)| members.as_slice())
    }

    fn add(&mut self, which: Which, conn: ConnId) {
        match self.lists.iter_mut().find(|(other, _)| *other == which) {
            Some((_, members)) => members.push(conn),
            None => self.lists.push((which, Members::One(conn))),
        }
    }

    fn remove(&mut self, which: Which, conn: ConnId) {
        let Some(at) = self.lists.iter().position(|(other, _)| *other == which) else { return };
        self.lists[at].1.remove(conn);
        if self.lists[at].1.as_slice().is_empty() {
            self.lists.swap_remove(at);
        }
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
    /// On its owner only: a bit for each dialect that members have spoken since the last one left.
    pub dialects: u8,
    /// On its owner only.
    pub stream: Option<Box<Stream>>,
}

impl Channel {
    /// Members of one dialect.
    pub fn members(&self, dialect: Dialect) -> &[ConnId] {
        match &self.rare {
            _ if dialect.index() == 0 => self.members.as_slice(),
            Some(rare) => rare.list(Which::Members(dialect)),
            None => &[],
        }
    }

    /// Members of one dialect that want to know who comes and goes.
    pub fn watchers(&self, dialect: Dialect) -> &[ConnId] {
        self.rare.as_ref().map_or(&[], |rare| rare.list(Which::Watchers(dialect)))
    }

    /// All members of all dialects.
    pub fn everybody(&self) -> impl Iterator<Item = ConnId> {
        Dialect::all().flat_map(|dialect| self.members(dialect).iter().copied())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        Dialect::all().map(|dialect| self.members(dialect).len()).sum()
    }

    /// What few channels have; made if need be.
    pub fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_with(Default::default)
    }

    /// Adds a member that has everything up to `offset`.
    pub fn enter(&mut self, conn: ConnId, dialect: Dialect, subscription: Subscription, offset: u64) {
        match dialect.index() {
            0 => self.members.push(conn),
            _ => self.rare_mut().add(Which::Members(dialect), conn),
        }
        if subscription.watches() {
            self.rare_mut().add(Which::Watchers(dialect), conn);
        }
        self.set_apart_if_fanning(conn, Apart::Has(offset));
    }

    /// Takes a member out.
    pub fn leave(&mut self, conn: ConnId, dialect: Dialect, subscription: Subscription) {
        if dialect.index() == 0 {
            self.members.remove(conn);
        }
        if let Some(rare) = &mut self.rare {
            rare.remove(Which::Members(dialect), conn);
            if subscription.watches() {
                rare.remove(Which::Watchers(dialect), conn);
            }
            rare.apart.remove(&conn);
        }
        self.set_apart_if_fanning(conn, Apart::Gone);
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
        let is_empty = |rare: &Rare| rare.fanning == 0 && rare.apart.is_empty() && rare.lists.is_empty();
        if self.rare.as_deref().is_some_and(is_empty) {
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
            (dialect, Subscription::new(slot, false, at > 5))
        };
        for (at, &conn) in conns.iter().enumerate() {
            let (dialect, subscription) = of(at);
            channel.enter(conn, dialect, subscription, 0);
        }
        assert_eq!(channel.count(), conns.len());
        assert!(Dialect::all().all(|dialect| channel.members(dialect).len() == 2));
        assert_eq!(Dialect::all().map(|dialect| channel.watchers(dialect).len()).sum::<usize>(), conns.len() - 6);
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
        let subscription = Subscription::new(slot, false, false);
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
