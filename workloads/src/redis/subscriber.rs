//! Channels and what is published on them, on connections of their own.
//!
//! ```text
//!   subscribe, unsubscribe ─► choir ─► ear ─ SUBSCRIBE ... ─► server ─► Subscribed, Message ─► Events
//!                                 (one; in a cluster, one for each owner of a channel: SSUBSCRIBE)
//! ```
//!
//! What is published while there is no connection is gone: that is Redis' promise of it. So a loss is told first, and then, for
//! each channel, when it is heard again: whatever was published before its `Subscribed` may have been missed, whatever was
//! published after it is told. `Subscribed` belongs to the last `subscribe`: one that an `unsubscribe` overtook says nothing.
//!
//! In a cluster a channel moves with its slot. Then its `Subscribed` comes again, without `Lost`, and means the same.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::{Rc, Weak};

use annulus_engine::Shard;
use bytes::Bytes;

use super::ear::Ear;
use super::link::Dialer;
use super::meters::Meters;
use super::settings::{Place, Settings};
use super::topology::{Atlas, Follow, Topology, slot_of};
use crate::serve::wire::{Crowd, Notify};

/// Bytes of events that nobody has taken yet, beyond which nothing more is read: the server holds what comes, and cuts us off
/// when that is too much for it (`client-output-buffer-limit pubsub`).
pub const EVENT_BYTES_MAX: usize = 16 << 20;
/// What an event takes beside its bytes.
const EVENT_BYTES: usize = 96;

/// What is heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// From here on everything that is published there is told.
    Subscribed {
        /// Where.
        channel: Bytes,
    },
    /// A message.
    Message {
        /// Where it was published.
        channel: Bytes,
        /// What was published.
        payload: Bytes,
    },
    /// The connection broke: of every channel, everything may be missed until its next `Subscribed`.
    Lost,
}

impl Event {
    fn bytes(&self) -> usize {
        EVENT_BYTES
            + match self {
                Event::Subscribed { channel } => channel.len(),
                Event::Message { channel, payload } => channel.len() + payload.len(),
                Event::Lost => 0,
            }
    }
}

/// Events on their way to who takes them.
#[derive(Default)]
pub(super) struct Queue {
    events: RefCell<VecDeque<Event>>,
    bytes: Cell<usize>,
    arrived: Notify,
    /// Who waits until there is room again.
    pub(super) room: Crowd,
}

impl Queue {
    /// Tells an event.
    pub(super) fn push(&self, event: Event) {
        self.bytes.set(self.bytes.get() + event.bytes());
        self.events.borrow_mut().push_back(event);
        self.arrived.notify();
    }

    fn pop(&self) -> Option<Event> {
        let event = self.events.borrow_mut().pop_front()?;
        let was_full = self.is_full();
        self.bytes.set(self.bytes.get() - event.bytes());
        if was_full && !self.is_full() {
            self.room.all();
        }
        Some(event)
    }

    /// Whether nothing more is to be read for now.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.get() > EVENT_BYTES_MAX
    }
}

/// Chooses channels. Dropping it, or its [`Events`], ends the connections.
pub struct Subscriber {
    choir: Rc<Choir>,
}

impl Subscriber {
    /// Begins to connect, and connects again whenever the connection breaks. `purpose` as for [`super::Redis::start`].
    pub fn start(shard: &Shard, settings: &Settings, purpose: &str) -> (Subscriber, Events) {
        let choir = Choir::start(shard, settings, purpose);
        (Subscriber { choir: choir.clone() }, Events { choir })
    }

    /// Subscribes to a channel, and again after every loss, until it is unsubscribed. `Subscribed` comes when it is heard.
    /// Twice is the same as once.
    pub fn subscribe(&self, channel: impl Into<Bytes>) {
        self.choir.subscribe(channel.into());
    }

    /// Unsubscribes. No `Subscribed` and no message of the channel follow, but those that wait in the events already.
    pub fn unsubscribe(&self, channel: impl Into<Bytes>) {
        self.choir.unsubscribe(&channel.into());
    }

    /// Whether there is a connection now; in a cluster, one to every owner of a channel.
    pub fn is_up(&self) -> bool {
        self.choir.is_well()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.choir.give_up();
    }
}

/// What a subscriber hears, in order.
pub struct Events {
    choir: Rc<Choir>,
}

impl Events {
    /// The next event. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Event {
        loop {
            match self.choir.queue.pop() {
                Some(event) => return event,
                None => self.choir.queue.arrived.notified().await,
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.choir.give_up();
    }
}

/// Who listens where.
pub(super) struct Choir {
    own: Weak<Choir>,
    dialer: Rc<Dialer>,
    purpose: String,
    meters: Rc<Meters>,
    queue: Rc<Queue>,
    /// Of a cluster.
    atlas: Option<Rc<Atlas>>,
    wanted: RefCell<BTreeSet<Bytes>>,
    placed: RefCell<HashMap<Bytes, Rc<Ear>>>,
    ears: RefCell<BTreeMap<Place, Rc<Ear>>>,
    is_over: Cell<bool>,
}

impl Choir {
    fn start(shard: &Shard, settings: &Settings, purpose: &str) -> Rc<Choir> {
        let dialer = Rc::new(Dialer::new(shard, settings, purpose));
        let choir = Rc::new_cyclic(|own: &Weak<Choir>| Choir {
            own: own.clone(),
            atlas: settings.is_cluster.then(|| Atlas::start(&dialer, purpose, own.clone())),
            dialer,
            purpose: purpose.to_owned(),
            meters: Rc::new(Meters::new(shard, purpose)),
            queue: Rc::default(),
            wanted: RefCell::default(),
            placed: RefCell::default(),
            ears: RefCell::default(),
            is_over: Cell::new(false),
        });
        if choir.atlas.is_none() {
            choir.ear_at(&settings.places[0]);
        }
        choir
    }

    fn subscribe(&self, channel: Bytes) {
        if self.wanted.borrow_mut().insert(channel.clone()) {
            let owner = match &self.atlas {
                None => Some(self.dialer.settings().places[0].clone()),
                // Who is not known yet is told when it is.
                Some(atlas) => atlas.with(|topology| topology.owner(slot_of(&channel)).cloned()),
            };
            if let Some(place) = owner {
                self.place(channel, self.ear_at(&place));
            }
        }
    }

    fn unsubscribe(&self, channel: &Bytes) {
        if self.wanted.borrow_mut().remove(channel)
            && let Some(ear) = self.placed.borrow_mut().remove(channel)
        {
            ear.unsubscribe(channel);
        }
    }

    fn place(&self, channel: Bytes, ear: Rc<Ear>) {
        let before = self.placed.borrow_mut().insert(channel.clone(), ear.clone());
        match before {
            Some(before) if Rc::ptr_eq(&before, &ear) => return,
            Some(before) => before.unsubscribe(&channel),
            None => {}
        }
        ear.subscribe(channel);
    }

    fn ear_at(&self, place: &Place) -> Rc<Ear> {
        let begin = || {
            let is_sharded = self.atlas.is_some();
            Ear::start(&self.dialer, place, (&self.purpose, is_sharded), &self.meters, &self.queue, self.own.clone())
        };
        self.ears.borrow_mut().entry(place.clone()).or_insert_with(begin).clone()
    }

    /// A connection broke. Who listens to all of them hears it, and where others are heard all the same.
    pub(super) fn on_lost(&self) {
        self.queue.push(Event::Lost);
        for ear in self.ears.borrow().values() {
            ear.confirmed().into_iter().for_each(|channel| self.queue.push(Event::Subscribed { channel }));
        }
        self.on_trouble();
    }

    /// A connection cannot be made.
    pub(super) fn on_trouble(&self) {
        if let Some(atlas) = &self.atlas {
            atlas.ask();
        }
    }

    /// A server says that a channel is not its own (any more): somebody else's will be asked for it.
    pub(super) fn on_moved(&self, channel: &Bytes) {
        self.placed.borrow_mut().remove(channel);
        self.on_trouble();
    }

    fn give_up(&self) {
        self.is_over.set(true);
        self.ears.borrow().values().for_each(|ear| ear.give_up());
        self.on_trouble();
    }
}

impl Follow for Choir {
    fn follow(&self, topology: &Topology) {
        if self.is_over.get() {
            return;
        }
        let wanted: Vec<Bytes> = self.wanted.borrow().iter().cloned().collect();
        for channel in wanted {
            if let Some(place) = topology.owner(slot_of(&channel)) {
                self.place(channel, self.ear_at(place));
            }
        }
        self.ears.borrow_mut().retain(|place, ear| {
            let is_needed = topology.primaries().contains(place);
            if !is_needed {
                self.placed.borrow_mut().retain(|_, placed| !Rc::ptr_eq(placed, ear));
                ear.give_up();
            }
            is_needed
        });
    }

    fn is_well(&self) -> bool {
        let is_placed = self.placed.borrow().len() == self.wanted.borrow().len();
        is_placed && self.ears.borrow().values().all(|ear| ear.is_up())
    }
}
