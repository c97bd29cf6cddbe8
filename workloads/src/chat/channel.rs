//! Channels: who of this shard is in them, and, on the shard that owns them, what was published.
//!
//! A channel's owner is the shard its name hashes to. The owner numbers publications, keeps history, and knows which
//! shards have subscribers. Members are kept where they are connected; nobody keeps them all.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use annulus_engine::ConnId;

use super::session::ChannelSlot;

/// A publication in a history: shared, because it may cross shards.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its place.
    pub offset: u64,
    /// A validated JSON value.
    pub data: Arc<[u8]>,
    /// The publishing client's user and id.
    pub info: Option<Arc<(String, String)>>,
    /// When, in milliseconds of the shard's clock.
    pub at: u64,
}

/// What the owner of a channel knows.
#[derive(Debug)]
pub struct Owned {
    /// A bit for each shard with subscribers.
    pub shards: u64,
    /// Tells this stream from an earlier one of the same name.
    pub epoch: [u8; 4],
    /// The last number given.
    pub top: u64,
    /// The latest publications, oldest first.
    pub history: VecDeque<Stored>,
}

impl Owned {
    fn new(epoch: [u8; 4]) -> Owned {
        Owned { shards: 0, epoch, top: 0, history: VecDeque::new() }
    }

    /// The epoch as text.
    pub fn epoch(&self) -> &str {
        std::str::from_utf8(&self.epoch).expect("an epoch is made of letters")
    }

    /// Numbers a publication and keeps it, within `size` publications.
    pub fn publish(&mut self, now: u64, data: Arc<[u8]>, info: Option<Arc<(String, String)>>, size: usize) -> u64 {
        self.top += 1;
        if size > 0 {
            self.history.push_back(Stored { offset: self.top, data, info, at: now });
            while self.history.len() > size {
                self.history.pop_front();
            }
        }
        self.top
    }

    /// Forgets publications older than `ttl` milliseconds.
    pub fn expire(&mut self, now: u64, ttl: u64) {
        while self.history.front().is_some_and(|stored| now.saturating_sub(stored.at) > ttl) {
            self.history.pop_front();
        }
        if self.history.is_empty() {
            self.history = VecDeque::new();
        }
    }

    /// What a client at `offset` of `epoch` has missed, if all of it is still here: at most `most` publications.
    pub fn missed(&self, offset: u64, epoch: &str, most: usize) -> Option<Vec<Stored>> {
        if !epoch.is_empty() && epoch != self.epoch() {
            return None;
        }
        let missed: Vec<Stored> =
            self.history.iter().filter(|stored| stored.offset > offset).take(most).cloned().collect();
        let complete = match (missed.first(), missed.last()) {
            (Some(first), Some(last)) => first.offset == offset + 1 && last.offset == self.top,
            _ => self.top == offset,
        };
        complete.then_some(missed)
    }

    /// A page of history: `limit` publications after (or, in reverse, before) `since`.
    pub fn page(&self, since: Option<u64>, reverse: bool, limit: usize) -> Vec<Stored> {
        let mut page: Vec<Stored> = match reverse {
            false => self.history.iter().filter(|s| since.is_none_or(|since| s.offset > since)).cloned().collect(),
            true => self.history.iter().rev().filter(|s| since.is_none_or(|since| s.offset < since)).cloned().collect(),
        };
        page.truncate(limit);
        page
    }
}

/// One channel on this shard.
#[derive(Debug)]
pub struct Channel {
    /// Its name.
    pub name: Arc<str>,
    /// Connections of this shard that are subscribed.
    pub members: Vec<ConnId>,
    /// Those of them that want to know who comes and goes.
    pub watchers: Vec<ConnId>,
    /// Subscribing members that wait for the owner's answer: the slot must stay.
    pub arriving: u32,
    /// On its owner only.
    pub owned: Option<Box<Owned>>,
}

/// The channels of a shard.
#[derive(Default)]
pub struct Channels {
    by_name: HashMap<Arc<str>, ChannelSlot>,
    slots: Vec<Option<Channel>>,
    vacant: Vec<ChannelSlot>,
}

impl Channels {
    /// The slot of a channel, if it is known here.
    pub fn find(&self, name: &str) -> Option<ChannelSlot> {
        self.by_name.get(name).copied()
    }

    /// The slot of a channel, made if need be.
    pub fn open(&mut self, name: &str) -> ChannelSlot {
        if let Some(slot) = self.find(name) {
            return slot;
        }
        let name: Arc<str> = name.into();
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as ChannelSlot
        });
        self.by_name.insert(name.clone(), slot);
        let (members, watchers) = (Vec::new(), Vec::new());
        self.slots[slot as usize] = Some(Channel { name, members, watchers, arriving: 0, owned: None });
        slot
    }

    /// The channel in a slot.
    pub fn at(&mut self, slot: ChannelSlot) -> &mut Channel {
        self.slots[slot as usize].as_mut().expect("a slot in use is not vacant")
    }

    /// What the owner knows of a channel, made with `epoch` if need be.
    pub fn own(&mut self, slot: ChannelSlot, epoch: impl FnOnce() -> [u8; 4]) -> &mut Owned {
        self.at(slot).owned.get_or_insert_with(|| Box::new(Owned::new(epoch())))
    }

    /// Forgets a channel that nobody needs any more. One with publications behind it stays: its numbers must not
    /// begin anew while a client may still come back with an old one.
    pub fn release(&mut self, slot: ChannelSlot) {
        let channel = self.at(slot);
        let owned = channel.owned.as_ref().is_some_and(|owned| owned.shards != 0 || owned.top != 0);
        if channel.members.is_empty() && channel.arriving == 0 && !owned {
            let channel = self.slots[slot as usize].take();
            self.by_name.remove(&channel.expect("it was just used").name);
            self.vacant.push(slot);
        }
    }

    /// Channels known here.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether none are known here.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Expires history everywhere.
    pub fn expire(&mut self, now: u64, ttl: u64) {
        for channel in self.slots.iter_mut().flatten() {
            if let Some(owned) = &mut channel.owned {
                owned.expire(now, ttl);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(count: u64, size: usize) -> Owned {
        let mut owned = Owned::new(*b"abcd");
        for n in 0..count {
            owned.publish(n * 10, Arc::from(n.to_string().as_bytes()), None, size);
        }
        owned
    }

    fn offsets(stored: &[Stored]) -> Vec<u64> {
        stored.iter().map(|stored| stored.offset).collect()
    }

    #[test]
    fn what_was_missed_comes_back_only_if_it_is_complete() {
        let owned = stream(10, 4);
        assert_eq!(offsets(&owned.missed(6, "abcd", 300).unwrap()), [7, 8, 9, 10]);
        assert_eq!(offsets(&owned.missed(9, "", 300).unwrap()), [10]);
        assert_eq!(offsets(&owned.missed(10, "abcd", 300).unwrap()), [0u64; 0]);
        assert!(owned.missed(5, "abcd", 300).is_none(), "7 to 10 are kept, 6 is gone");
        assert!(owned.missed(6, "other", 300).is_none());
        assert!(owned.missed(11, "abcd", 300).is_none(), "a position from the future");
        assert!(owned.missed(6, "abcd", 3).is_none(), "more than may be recovered");
        assert!(stream(0, 4).missed(0, "", 300).is_some());
    }

    #[test]
    fn pages_go_both_ways() {
        let owned = stream(10, 6);
        assert_eq!(offsets(&owned.page(None, false, 2)), [5, 6]);
        assert_eq!(offsets(&owned.page(Some(7), false, 10)), [8, 9, 10]);
        assert_eq!(offsets(&owned.page(Some(7), true, 10)), [6, 5]);
        assert_eq!(offsets(&owned.page(None, true, 3)), [10, 9, 8]);
    }

    #[test]
    fn old_publications_expire_and_their_numbers_stay() {
        let mut owned = stream(10, 100);
        owned.expire(90 + 45, 50);
        assert_eq!(offsets(&owned.page(None, false, 100)), [10]);
        owned.expire(1000, 50);
        assert!(owned.history.is_empty());
        assert_eq!(owned.publish(1000, Arc::from(&b"1"[..]), None, 100), 11);
    }

    #[test]
    fn an_unused_channel_is_forgotten_and_a_published_one_is_not() {
        let mut channels = Channels::default();
        let slot = channels.open("a");
        assert_eq!(channels.open("a"), slot);
        channels.own(slot, || *b"abcd").shards = 0;
        channels.release(slot);
        assert!(channels.is_empty() && channels.find("a").is_none());
        let slot = channels.open("b");
        channels.own(slot, || *b"abcd").publish(0, Arc::from(&b"1"[..]), None, 0);
        channels.release(slot);
        assert_eq!(channels.len(), 1);
    }
}
