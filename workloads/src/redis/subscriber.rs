//! Channels and what is published on them, on a connection of their own.
//!
//! ```text
//!   subscribe, unsubscribe ─► orders ─► SUBSCRIBE ... ─► server ─► Subscribed, Message ─► Events
//!                                                        broken ─► Lost ─► connect ─► SUBSCRIBE all ─► Subscribed ...
//! ```
//!
//! What is published while there is no connection is gone: that is Redis' promise of it. So a loss is told first, and then, for
//! each channel, when it is heard again: whatever was published before its `Subscribed` may have been missed, whatever was
//! published after it is told. `Subscribed` belongs to the last `subscribe`: one that an `unsubscribe` overtook says nothing.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

use annulus_engine::Shard;
use bytes::Bytes;

use super::herald;
use super::lane::Waits;
use super::link::{Dialer, Link};
use super::meters::Meters;
use super::resp::{Reply, write_command, write_count, write_part};
use super::settings::{Place, Settings};
use super::value::Value;
use crate::serve::wire::{Crowd, Either, Notify, either};

/// Bytes of events that nobody has taken yet, beyond which nothing more is read: the server holds what comes, and cuts us off
/// when that is too much for it (`client-output-buffer-limit pubsub`).
pub const EVENT_BYTES_MAX: usize = 16 << 20;
/// What an event takes beside its bytes.
const EVENT_BYTES: usize = 96;
/// Channels in one command.
const CHANNELS_AT_ONCE: usize = 512;

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
struct Queue {
    events: RefCell<VecDeque<Event>>,
    bytes: Cell<usize>,
    arrived: Notify,
    room: Crowd,
}

impl Queue {
    fn push(&self, event: Event) {
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

    fn is_full(&self) -> bool {
        self.bytes.get() > EVENT_BYTES_MAX
    }
}

/// Chooses channels. Dropping it, or its [`Events`], ends the connection.
pub struct Subscriber {
    ear: Rc<Ear>,
}

impl Subscriber {
    /// Begins to connect, and connects again whenever the connection breaks. `purpose` as for [`super::Redis::start`].
    pub fn start(shard: &Shard, settings: &Settings, purpose: &str) -> (Subscriber, Events) {
        let dialer = Rc::new(Dialer::new(shard, settings, purpose));
        let meters = Rc::new(Meters::new(shard, purpose));
        let queue = Rc::new(Queue::default());
        let ear = Ear::start(&dialer, &settings.places[0], purpose, &meters, &queue);
        (Subscriber { ear: ear.clone() }, Events { queue, ear })
    }

    /// Subscribes to a channel, and again after every loss, until it is unsubscribed. `Subscribed` comes when it is heard.
    /// Twice is the same as once.
    pub fn subscribe(&self, channel: impl Into<Bytes>) {
        self.ear.subscribe(channel.into());
    }

    /// Unsubscribes. No `Subscribed` and no message of the channel follow, but those that wait in the events already.
    pub fn unsubscribe(&self, channel: impl Into<Bytes>) {
        self.ear.unsubscribe(&channel.into());
    }

    /// Whether there is a connection now.
    pub fn is_up(&self) -> bool {
        self.ear.is_up.get()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.ear.give_up();
    }
}

/// What a subscriber hears, in order.
pub struct Events {
    queue: Rc<Queue>,
    ear: Rc<Ear>,
}

impl Events {
    /// The next event. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Event {
        loop {
            match self.queue.pop() {
                Some(event) => return event,
                None => self.queue.arrived.notified().await,
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.ear.give_up();
    }
}

/// One connection that listens.
struct Ear {
    dialer: Rc<Dialer>,
    place: Place,
    subject: String,
    meters: Rc<Meters>,
    queue: Rc<Queue>,
    wanted: RefCell<BTreeSet<Bytes>>,
    /// What to tell the server: to subscribe or not, and where.
    orders: RefCell<VecDeque<(bool, Bytes)>>,
    is_up: Cell<bool>,
    is_needed: Cell<bool>,
    wake: Notify,
}

impl Ear {
    fn start(dialer: &Rc<Dialer>, place: &Place, purpose: &str, meters: &Rc<Meters>, queue: &Rc<Queue>) -> Rc<Ear> {
        let ear = Rc::new(Ear {
            dialer: dialer.clone(),
            place: place.clone(),
            subject: format!("{purpose} at {place}"),
            meters: meters.clone(),
            queue: queue.clone(),
            wanted: RefCell::default(),
            orders: RefCell::default(),
            is_up: Cell::new(false),
            is_needed: Cell::new(true),
            wake: Notify::default(),
        });
        drop(dialer.shard().spawn(ear.clone().run()));
        ear
    }

    fn subscribe(&self, channel: Bytes) {
        if self.wanted.borrow_mut().insert(channel.clone()) {
            self.order(true, channel);
        }
    }

    fn unsubscribe(&self, channel: &Bytes) {
        if self.wanted.borrow_mut().remove(channel) {
            self.order(false, channel.clone());
        }
    }

    fn order(&self, subscribe: bool, channel: Bytes) {
        // Without a connection there is nothing to tell: the next one begins with all that is wanted then.
        if self.is_up.get() {
            self.orders.borrow_mut().push_back((subscribe, channel));
            self.wake.notify();
        }
    }

    fn give_up(&self) {
        self.is_needed.set(false);
        self.wake.notify();
        self.queue.room.all();
    }

    async fn unneeded(&self) {
        while self.is_needed.get() {
            self.wake.notified().await;
        }
    }

    async fn run(self: Rc<Ear>) {
        let mut waits = Waits::new();
        while self.is_needed.get() {
            let Either::First(opened) = either(self.dialer.open(&self.place), self.unneeded()).await else { return };
            let wait = match opened {
                Ok((link, _facts)) => {
                    let began = self.dialer.shard().now();
                    self.live(link).await;
                    waits.after(self.dialer.shard().now().saturating_sub(began))
                }
                Err(unreachable) => {
                    self.meters.failures.add(1);
                    herald::say_trouble(&self.subject, &unreachable.why);
                    waits.next(unreachable.is_setup)
                }
            };
            either(self.dialer.shard().sleep(wait), self.unneeded()).await;
        }
    }

    /// A connection's life.
    async fn live(&self, mut link: Link) {
        herald::say_well(&self.subject, &"listening");
        self.meters.connects.add(1);
        self.meters.up.add(1);
        self.is_up.set(true);
        *self.orders.borrow_mut() = self.wanted.borrow().iter().map(|channel| (true, channel.clone())).collect();
        let ended = self.listen(&mut link).await;
        self.is_up.set(false);
        self.meters.up.sub(1);
        link.abort();
        if let Some(why) = ended {
            herald::say_trouble(&self.subject, &format_args!("{}: {why}", self.place));
            self.queue.push(Event::Lost);
        }
    }

    /// Subscribes and hears until the connection breaks, and why; nothing, when nobody needs it any more.
    async fn listen(&self, link: &mut Link) -> Option<String> {
        let shard = self.dialer.shard();
        let silence_max = self.dialer.settings().answer_max;
        let mut out = Vec::new();
        // Subscriptions that the server has not confirmed yet, by channel.
        let mut unconfirmed = HashMap::<Bytes, usize>::new();
        let (mut heard, mut is_asked) = (shard.now(), false);
        loop {
            while !self.queue.is_full() {
                match link.next_reply() {
                    Ok(Some(reply)) => {
                        if let Some(why) = self.hear(reply, &mut unconfirmed) {
                            return Some(why);
                        }
                    }
                    Ok(None) => break,
                    Err(why) => return Some(why),
                }
            }
            if !self.is_needed.get() {
                return None;
            }
            self.write_orders(&mut out, &mut unconfirmed);
            if !is_asked && shard.now() >= heard + silence_max {
                is_asked = true;
                write_command(&mut out, &["PING"]);
            }
            if !out.is_empty() {
                self.meters.sends.add(1);
                self.meters.sent.add(out.len() as u64);
                match shard.timeout(silence_max, link.send(&mut out)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(why)) => return Some(why),
                    Err(_elapsed) => return Some(format!("it took nothing for {silence_max:?}")),
                }
            }
            if self.queue.is_full() {
                self.queue.room.wait().await;
                // Whose fault the silence was is known: not the server's.
                heard = shard.now();
                continue;
            }
            let patience = if is_asked { silence_max * 2 } else { silence_max };
            let wait = (heard + patience).saturating_sub(shard.now());
            match either(link.feed(), either(self.wake.notified(), shard.sleep(wait))).await {
                Either::First(Ok(bytes)) => {
                    (heard, is_asked) = (shard.now(), false);
                    self.meters.received.add(bytes as u64);
                }
                Either::First(Err(why)) => return Some(why),
                Either::Second(Either::First(())) => {}
                Either::Second(Either::Second(())) => {
                    if is_asked && shard.now() >= heard + silence_max * 2 {
                        return Some(format!("it has said nothing for {:?}", silence_max * 2));
                    }
                }
            }
        }
    }

    /// Writes what to subscribe to and what not, in order.
    fn write_orders(&self, out: &mut Vec<u8>, unconfirmed: &mut HashMap<Bytes, usize>) {
        let mut orders = self.orders.borrow_mut();
        while let Some(&(subscribe, _)) = orders.front() {
            let same = orders.iter().take_while(|order| order.0 == subscribe).count().min(CHANNELS_AT_ONCE);
            write_count(out, 1 + same);
            write_part(out, if subscribe { b"SUBSCRIBE" } else { b"UNSUBSCRIBE" });
            for (_, channel) in orders.drain(..same) {
                write_part(out, &channel);
                if subscribe {
                    *unconfirmed.entry(channel).or_default() += 1;
                }
            }
        }
    }

    /// Takes what the server says. Why not to go on, if so.
    fn hear(&self, reply: Reply, unconfirmed: &mut HashMap<Bytes, usize>) -> Option<String> {
        let values = match reply {
            Reply::Push(values) | Reply::Answer(Value::List(values)) => values,
            // Answers to PING are the sign of life that was asked for.
            Reply::Answer(Value::Error { code, message }) => {
                return Some(format!("it refused a subscription: {code} {message}"));
            }
            Reply::Answer(_) => return None,
        };
        let mut values = values.into_iter();
        let kind = values.next()?;
        let mut next = || values.next().and_then(Value::into_bytes);
        match kind.as_bytes()? {
            b"message" => {
                if let (Some(channel), Some(payload)) = (next(), next())
                    && self.wanted.borrow().contains(&channel)
                {
                    self.queue.push(Event::Message { channel, payload });
                }
            }
            b"subscribe" => {
                let channel = next()?;
                let left = unconfirmed.get_mut(&channel)?;
                *left -= 1;
                if *left == 0 {
                    unconfirmed.remove(&channel);
                    if self.wanted.borrow().contains(&channel) {
                        self.queue.push(Event::Subscribed { channel });
                    }
                }
            }
            _ => {}
        }
        None
    }
}
