//! One connection that listens, made again when it breaks.
//!
//! ```text
//!   orders ─► SUBSCRIBE ... ─► server ─► confirmations, in the order of the orders ─► Subscribed ─► messages
//!                              silent for a while: PING; silent for as long again: broken ─► Lost
//! ```

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::{Rc, Weak};

use bytes::Bytes;

use super::herald;
use super::lane::Waits;
use super::link::{Dialer, Link};
use super::meters::Meters;
use super::resp::{Reply, write_command, write_count, write_part};
use super::settings::Place;
use super::subscriber::{Choir, Event, Queue};
use super::value::Value;
use crate::serve::wire::{Either, Notify, either};

/// Channels in one command.
const CHANNELS_AT_ONCE: usize = 512;

/// What the server was told and has not confirmed yet.
#[derive(Default)]
struct Told {
    orders: VecDeque<(bool, Bytes)>,
    /// Subscriptions among them, by channel.
    subscriptions: HashMap<Bytes, usize>,
}

impl Told {
    fn push(&mut self, subscribe: bool, channel: Bytes) {
        if subscribe {
            *self.subscriptions.entry(channel.clone()).or_default() += 1;
        }
        self.orders.push_back((subscribe, channel));
    }

    /// Takes the oldest.
    fn pop(&mut self) -> Option<(bool, Bytes)> {
        let (subscribe, channel) = self.orders.pop_front()?;
        if subscribe && let Some(left) = self.subscriptions.get_mut(&channel) {
            *left -= 1;
            if *left == 0 {
                self.subscriptions.remove(&channel);
            }
        }
        Some((subscribe, channel))
    }

    fn is_oldest(&self, subscribe: bool, channel: &Bytes) -> bool {
        self.orders.front().is_some_and(|oldest| oldest.0 == subscribe && oldest.1 == *channel)
    }
}

/// See the module's description.
pub(super) struct Ear {
    dialer: Rc<Dialer>,
    place: Place,
    subject: String,
    meters: Rc<Meters>,
    queue: Rc<Queue>,
    choir: Weak<Choir>,
    /// In a cluster channels belong to servers, and commands have an S in front.
    is_sharded: bool,
    wanted: RefCell<BTreeSet<Bytes>>,
    /// Those of them that are heard.
    heard: RefCell<BTreeSet<Bytes>>,
    /// What to tell the server: to subscribe or not, and where.
    orders: RefCell<VecDeque<(bool, Bytes)>>,
    is_up: Cell<bool>,
    is_needed: Cell<bool>,
    wake: Notify,
}

impl Ear {
    /// Begins to connect. `manner` is what for, and whether it is one of a cluster.
    pub(super) fn start(
        dialer: &Rc<Dialer>,
        place: &Place,
        manner: (&str, bool),
        meters: &Rc<Meters>,
        queue: &Rc<Queue>,
        choir: Weak<Choir>,
    ) -> Rc<Ear> {
        let ear = Rc::new(Ear {
            dialer: dialer.clone(),
            place: place.clone(),
            subject: format!("{}, listening at {place}", manner.0),
            meters: meters.clone(),
            queue: queue.clone(),
            choir,
            is_sharded: manner.1,
            heard: RefCell::default(),
            wanted: RefCell::default(),
            orders: RefCell::default(),
            is_up: Cell::new(false),
            is_needed: Cell::new(true),
            wake: Notify::default(),
        });
        drop(dialer.shard().spawn(ear.clone().run()));
        ear
    }

    /// Listens to a channel.
    pub(super) fn subscribe(&self, channel: Bytes) {
        if self.wanted.borrow_mut().insert(channel.clone()) {
            self.order(true, channel);
        }
    }

    /// Listens to it no more.
    pub(super) fn unsubscribe(&self, channel: &Bytes) {
        self.heard.borrow_mut().remove(channel);
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

    /// Channels that are heard now.
    pub(super) fn confirmed(&self) -> Vec<Bytes> {
        self.heard.borrow().iter().cloned().collect()
    }

    /// Whether there is a connection.
    pub(super) fn is_up(&self) -> bool {
        self.is_up.get()
    }

    /// It is not needed any more.
    pub(super) fn give_up(&self) {
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
                    if let Some(choir) = self.choir.upgrade() {
                        choir.on_trouble();
                    }
                    waits.next(unreachable.is_setup)
                }
            };
            either(self.dialer.shard().sleep(wait), self.unneeded()).await;
        }
    }

    /// A connection's life.
    async fn live(&self, mut link: Link) {
        herald::say_well(&self.subject, &"connected");
        self.meters.connects.add(1);
        self.meters.up.add(1);
        self.is_up.set(true);
        *self.orders.borrow_mut() = self.wanted.borrow().iter().map(|channel| (true, channel.clone())).collect();
        let ended = self.listen(&mut link).await;
        self.is_up.set(false);
        self.meters.up.sub(1);
        link.abort();
        self.heard.borrow_mut().clear();
        if let Some(why) = ended {
            herald::say_trouble(&self.subject, &why);
            if let Some(choir) = self.choir.upgrade() {
                choir.on_lost();
            }
        }
    }

    /// Subscribes and hears until the connection breaks, and why; nothing, when nobody needs it any more.
    async fn listen(&self, link: &mut Link) -> Option<String> {
        let shard = self.dialer.shard();
        let silence_max = self.dialer.settings().answer_max;
        let mut out = Vec::new();
        let mut told = Told::default();
        let (mut heard, mut is_asked) = (shard.now(), false);
        loop {
            while !self.queue.is_full() {
                match link.next_reply() {
                    Ok(Some(reply)) => {
                        if let Some(why) = self.hear(reply, &mut told) {
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
            self.write_orders(&mut out, &mut told);
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
    fn write_orders(&self, out: &mut Vec<u8>, told: &mut Told) {
        let mut orders = self.orders.borrow_mut();
        while let Some(&(subscribe, _)) = orders.front() {
            let (command, at_once): (&[u8], usize) = match (self.is_sharded, subscribe) {
                (false, true) => (b"SUBSCRIBE", CHANNELS_AT_ONCE),
                (false, false) => (b"UNSUBSCRIBE", CHANNELS_AT_ONCE),
                // All channels of such a command have to be of one slot, and an error says nothing of which it is about.
                (true, true) => (b"SSUBSCRIBE", 1),
                (true, false) => (b"SUNSUBSCRIBE", 1),
            };
            let same = orders.iter().take_while(|order| order.0 == subscribe).count().min(at_once);
            write_count(out, 1 + same);
            write_part(out, command);
            for (_, channel) in orders.drain(..same) {
                write_part(out, &channel);
                told.push(subscribe, channel);
            }
        }
    }

    /// Takes what the server says. Why not to go on, if so.
    fn hear(&self, reply: Reply, told: &mut Told) -> Option<String> {
        let values = match reply {
            Reply::Push(values) | Reply::Answer(Value::List(values)) => values,
            Reply::Answer(Value::Error { code, message }) => return self.hear_error(&code, &message, told),
            // Answers to PING are the sign of life that was asked for.
            Reply::Answer(_) => return None,
        };
        let mut values = values.into_iter();
        let kind = values.next()?;
        let channel = values.next().and_then(Value::into_bytes)?;
        match kind.as_bytes()? {
            b"message" | b"smessage" => {
                let payload = values.next().and_then(Value::into_bytes)?;
                if self.wanted.borrow().contains(&channel) {
                    self.queue.push(Event::Message { channel, payload });
                }
            }
            b"subscribe" | b"ssubscribe" => {
                told.pop();
                let is_last = !told.subscriptions.contains_key(&channel);
                if is_last && self.wanted.borrow().contains(&channel) {
                    self.heard.borrow_mut().insert(channel.clone());
                    self.queue.push(Event::Subscribed { channel });
                }
            }
            b"unsubscribe" | b"sunsubscribe" if told.is_oldest(false, &channel) => drop(told.pop()),
            // Its slot has moved away.
            b"sunsubscribe" => self.lose(&channel),
            _ => {}
        }
        None
    }

    fn hear_error(&self, code: &str, message: &str, told: &mut Told) -> Option<String> {
        match (code, told.pop()) {
            ("MOVED" | "CLUSTERDOWN" | "TRYAGAIN", oldest) if self.is_sharded => {
                // Of what is not wanted any more, it is as good as done.
                if let Some((true, channel)) = oldest {
                    self.lose(&channel);
                }
                None
            }
            _ => Some(format!("it refused a subscription: {code} {message}")),
        }
    }

    /// A channel is heard elsewhere, or nowhere for now.
    fn lose(&self, channel: &Bytes) {
        self.heard.borrow_mut().remove(channel);
        if self.wanted.borrow_mut().remove(channel)
            && let Some(choir) = self.choir.upgrade()
        {
            choir.on_moved(channel);
        }
    }
}
