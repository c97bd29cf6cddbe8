//! The captain: what goes through Redis, on shard 0 of each node.
//!
//! Each question, order and beat is a task, and they share what is here. Nothing is locked: it is one shard.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use annulus_engine::compute::{Ticket, ticket};
use annulus_engine::metrics::{Counter, Gauge};
use annulus_engine::{Inbox, Shard};
use bytes::Bytes;

use super::learning::TRIES_MAX;
use super::roster::{Asked, Figures, Roster};
use super::wire::{self, Fault, Found, Head, Message, NodeId, VERSION};
use super::{ANSWER_MAX, BEAT, Census, Forwarded, INBOX, LATE, LEASE, Letter, Survey};
use crate::chat::config::Broker;
use crate::chat::node::Node;
use crate::chat::serve::figures;
use crate::redis::{Event, Events, Redis, Script, Settings, Subscriber, Trouble, Value};

/// How long taking a lease back may take at the end.
const FAREWELL_MAX: Duration = Duration::from_millis(500);
/// Questions and orders of ours that are under way. Beyond, nobody else is asked.
const ASKING_MAX: usize = 1024;
/// Between two lines about messages that are not understood.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);

/// Renews a lease, and tells those that last; those that have ended are removed. The one key is a hash: a field per node, its
/// value the end in milliseconds of Redis' clock, a colon, and what the node says of itself. Atomic, and right on any server:
/// it needs neither fields that expire (Redis 7.4) nor keys in one slot.
static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f:', now + ARGV[2]) .. ARGV[3])
local told, all = {now}, redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do
  local ends = tonumber(string.match(all[at + 1], '^(%d+):') or '0')
  if ends <= now then
    redis.call('HDEL', KEYS[1], all[at])
  else
    told[#told + 1] = all[at]
    told[#told + 1] = string.match(all[at + 1], '^%d+:(.*)$')
  end
end
return told",
    )
});

/// A question or an order of ours, under way.
struct Asking {
    waiting: HashSet<NodeId>,
    found: Vec<Found>,
    /// Nodes that answered that they cannot.
    refused: Vec<NodeId>,
    /// Answered when nobody is waited for any more.
    done: Option<Ticket<()>>,
}

/// Redis' clock, as it was told with the last lease.
#[derive(Clone, Copy)]
struct Clock {
    redis_ms: u64,
    at: Duration,
}

struct Meters {
    nodes: Arc<Gauge>,
    beats: Arc<Counter>,
    lost_beats: Arc<Counter>,
    sent: Arc<Counter>,
    received: Arc<Counter>,
    dropped: Arc<Counter>,
    unanswered: Arc<Counter>,
}

/// See the module's description.
pub struct Captain {
    pub(super) shard: Shard,
    pub(super) node: Arc<Node>,
    redis: Redis,
    /// It is kept, because its events end with it.
    subscriber: Subscriber,
    prefix: String,
    pub(super) id: NodeId,
    roster: RefCell<Roster>,
    asking: RefCell<HashMap<u64, Asking>>,
    number: Cell<u64>,
    beat: Cell<u64>,
    /// How often the others are still to be asked for what was ordered while this node was away.
    pub(super) tries: Cell<u32>,
    /// The lease is taken back, and not renewed any more.
    is_leaving: Cell<bool>,
    clock: Cell<Option<Clock>>,
    /// Questions and orders of other nodes that are being seen to.
    pub(super) serving: Cell<usize>,
    /// When it was said last that something is not understood.
    complained: Cell<Option<Duration>>,
    meters: Meters,
}

impl Captain {
    /// Starts on shard 0.
    ///
    /// # Errors
    /// The URL cannot be read: a sentence.
    pub fn start(shard: &Shard, node: &Arc<Node>, broker: &Broker) -> Result<Rc<Captain>, String> {
        let settings = Settings::parse(broker.redis.reveal()).map_err(|error| format!("chat.broker.redis: {error}"))?;
        let uid = &node.common.config.uid;
        let id = NodeId::parse(uid).ok_or_else(|| format!("chat: {uid:?} is no name for a node: expected a UUID"))?;
        let redis = Redis::start(shard, &settings, "chat fleet");
        let (subscriber, events) = Subscriber::start(shard, &settings, "chat fleet");
        let counter = |name, help| shard.metrics().counter(name, help);
        let meters = Meters {
            nodes: shard.metrics().gauge("annulus_chat_fleet_nodes", "Nodes that live, this one included."),
            beats: counter("annulus_chat_fleet_beats_total", "Times that the lease was renewed."),
            lost_beats: counter("annulus_chat_fleet_beats_lost_total", "Times that the lease could not be renewed."),
            sent: counter("annulus_chat_fleet_sent_total", "Messages to other nodes."),
            received: counter("annulus_chat_fleet_received_total", "Messages of other nodes."),
            dropped: counter("annulus_chat_fleet_dropped_total", "Messages that were not understood or came too late."),
            unanswered: counter("annulus_chat_fleet_unanswered_total", "Times that a node did not answer in time."),
        };
        meters.nodes.set(1);
        let captain = Rc::new(Captain {
            shard: shard.clone(),
            node: node.clone(),
            redis,
            prefix: broker.prefix.clone(),
            id,
            roster: RefCell::default(),
            asking: RefCell::default(),
            number: Cell::new(0),
            beat: Cell::new(0),
            tries: Cell::new(TRIES_MAX),
            is_leaving: Cell::new(false),
            clock: Cell::new(None),
            serving: Cell::new(0),
            complained: Cell::new(None),
            meters,
            subscriber,
        });
        captain.subscriber.subscribe(captain.control());
        captain.subscriber.subscribe(captain.channel_of(id));
        drop(shard.spawn(captain.clone().take_letters(shard.inbox(INBOX))));
        drop(shard.spawn(captain.clone().listen(events)));
        drop(shard.spawn(captain.clone().renew()));
        Ok(captain)
    }

    fn control(&self) -> Bytes {
        format!("{}.control", self.prefix).into()
    }

    fn channel_of(&self, node: NodeId) -> Bytes {
        format!("{}.node.{node}", self.prefix).into()
    }

    fn leases(&self) -> String {
        format!("{}.nodes", self.prefix)
    }

    /// Renews the lease, for as long as there is a shard.
    async fn renew(self: Rc<Self>) {
        while !self.is_leaving.get() {
            match self.renew_once().await {
                Ok(()) => {
                    self.meters.beats.add(1);
                    self.learn_if_need_be();
                }
                Err(_) => {
                    self.meters.lost_beats.add(1);
                    self.has_missed_orders();
                }
            }
            self.roster.borrow_mut().expire(self.shard.now());
            self.meters.nodes.set(1 + self.roster.borrow().len() as u64);
            self.shard.sleep(BEAT).await;
            if !self.redis.is_up() {
                // As soon as it is back, and not a beat later; meanwhile leases end.
                let _waited = self.shard.timeout(BEAT, self.redis.up()).await;
            }
        }
    }

    async fn renew_once(&self) -> Result<(), Trouble> {
        self.beat.set(self.beat.get() + 1);
        let figures = Figures { beat: self.beat.get(), ..figures(&self.shard, &self.node) };
        let (key, id, lease) = (self.leases(), self.id.to_string(), LEASE.as_millis().to_string());
        let arguments: [&[u8]; 3] = [id.as_bytes(), lease.as_bytes(), &figures.write()];
        let told = self.redis.script(&RENEW, &[key.as_bytes()], &arguments).await?;
        let Value::List(told) = told else { return Ok(()) };
        let now = self.shard.now();
        let mut told = told.into_iter();
        if let Some(redis_ms) = told.next().and_then(|now| now.as_int()) {
            self.clock.set(Some(Clock { redis_ms: redis_ms.unsigned_abs(), at: now }));
        }
        let mut leases = Vec::new();
        while let (Some(id), Some(figures)) = (told.next(), told.next()) {
            let id = id.as_str().and_then(NodeId::parse).filter(|id| *id != self.id);
            leases.extend(id.map(|id| (id, figures.as_bytes().and_then(Figures::read))));
        }
        let (came, gone) = self.roster.borrow_mut().on_leases(now, LEASE, leases);
        for name in came {
            crate::say!("chat: node {name} is there");
        }
        for name in gone {
            crate::warn!("chat: node {name} is gone");
        }
        Ok(())
    }

    /// How many other nodes live.
    pub(super) fn roster_len(&self) -> usize {
        self.roster.borrow().len()
    }

    /// Takes the lease back: the other nodes need not wait for its end.
    pub async fn leave(&self) {
        self.is_leaving.set(true);
        let (key, id) = (self.leases(), self.id.to_string());
        let leaving = self.redis.call(["HDEL", &key, &id]);
        // If it cannot be taken back, it ends by itself.
        let _left = self.shard.timeout(FAREWELL_MAX, leaving).await;
    }

    async fn take_letters(self: Rc<Self>, mut inbox: Inbox<Letter>) {
        loop {
            let (letter, captain) = (inbox.recv().await, self.clone());
            drop(self.shard.spawn(async move { captain.see_to(letter).await }));
        }
    }

    async fn see_to(&self, letter: Letter) {
        match letter {
            Letter::Ask(question, ticket) => ticket.answer(self.ask_all(Message::Question(question)).await),
            Letter::Order(order, ticket) => {
                let survey = self.ask_all(Message::Order((*order).clone())).await;
                ticket.answer(survey.missing);
            }
            Letter::Emulated { node, session, message, ticket } => {
                ticket.answer(self.forward(node, session, message).await);
            }
            Letter::Census(ticket) => ticket.answer(self.census()),
        }
    }

    fn census(&self) -> Census {
        let mut roster = self.roster.borrow_mut();
        roster.expire(self.shard.now());
        Census { nodes: roster.figures(), missing: self.absent(&roster) }
    }

    /// Why there may be more nodes than the roster has.
    fn absent(&self, roster: &Roster) -> Vec<String> {
        match roster.is_current(self.shard.now(), LEASE) {
            true => Vec::new(),
            false => vec!["all other nodes (Redis is away)".to_owned()],
        }
    }

    /// Says something to all other nodes, and waits for their answers.
    pub(super) async fn ask_all(&self, message: Message) -> Survey {
        let (awaited, mut missing) = {
            let mut roster = self.roster.borrow_mut();
            roster.expire(self.shard.now());
            let Asked { awaited, mut missing } = roster.asked();
            missing.extend(self.absent(&roster));
            (awaited, missing)
        };
        if awaited.is_empty() && missing.is_empty() {
            return Survey::default();
        }
        if self.asking.borrow().len() >= ASKING_MAX {
            return Survey { missing: vec![super::BUSY.to_owned()], ..Survey::default() };
        }
        let head = self.head();
        let (done, all_answered) = ticket();
        let asking = Asking {
            waiting: awaited.iter().copied().collect(),
            found: Vec::new(),
            refused: Vec::new(),
            done: Some(done),
        };
        self.asking.borrow_mut().insert(head.number, asking);
        let answers = async {
            let sent = self.publish(self.control(), &head, &message).await;
            if sent.is_ok() && !awaited.is_empty() {
                all_answered.await;
            }
        };
        // Who has not answered when it ends is looked up below.
        let _all = self.shard.timeout(ANSWER_MAX, answers).await;
        let asking = self.asking.borrow_mut().remove(&head.number);
        let Some(Asking { waiting, found, refused, .. }) = asking else { return Survey::default() };
        let mut roster = self.roster.borrow_mut();
        self.meters.unanswered.add(waiting.len() as u64);
        missing.extend(waiting.iter().map(|node| roster.suspect(*node)));
        missing.extend(refused.iter().map(|node| roster.shown(*node)));
        missing.sort();
        Survey { found, missing }
    }

    /// Sends a client's message to the node where its session is.
    async fn forward(&self, node: NodeId, session: String, message: Vec<u8>) -> Forwarded {
        if !self.roster.borrow().has(node) {
            return Forwarded::Unknown;
        }
        let (channel, head, message) = (self.channel_of(node), self.head(), Message::Emulated { session, message });
        match self.shard.timeout(ANSWER_MAX, self.publish(channel, &head, &message)).await {
            Ok(Ok(0)) => Forwarded::Unknown,
            Ok(Ok(_)) => Forwarded::Sent,
            Ok(Err(trouble)) => Forwarded::Away(trouble.to_string()),
            Err(_) => Forwarded::Away("Redis does not answer in time".to_owned()),
        }
    }

    /// Publishes a message; how many heard it. (Not through [`Redis::publish`], which does not say.)
    async fn publish(&self, channel: Bytes, head: &Head, message: &Message) -> Result<i64, Trouble> {
        self.meters.sent.add(1);
        let command: &[u8] = if self.redis.is_cluster() { b"SPUBLISH" } else { b"PUBLISH" };
        let heard = self.redis.call([command, &channel, &wire::write(head, message)]).await?;
        Ok(heard.as_int().unwrap_or(0))
    }

    fn head(&self) -> Head {
        self.number.set(self.number.get() + 1);
        Head { sender: self.id, number: self.number.get(), sent_ms: self.redis_ms().unwrap_or(0) }
    }

    /// What Redis' clock says now; `None`: it was never heard.
    fn redis_ms(&self) -> Option<u64> {
        let clock = self.clock.get()?;
        Some(clock.redis_ms + self.shard.now().saturating_sub(clock.at).as_millis() as u64)
    }

    async fn listen(self: Rc<Self>, mut events: Events) {
        loop {
            match events.next().await {
                Event::Message { payload, .. } => self.on_message(&payload),
                // What was said meanwhile is not said again: who asked learns that we have not answered.
                Event::Lost => self.has_missed_orders(),
                Event::Subscribed { .. } => {}
            }
        }
    }

    fn on_message(self: &Rc<Self>, payload: &[u8]) {
        let (head, message) = match wire::read(payload) {
            Ok((head, _)) if head.sender == self.id => return,
            Ok(read) => read,
            Err(fault) => return self.on_fault(&fault),
        };
        self.meters.received.add(1);
        match message {
            Message::Question(_) | Message::Order(_) | Message::Emulated { .. } if self.is_late(&head) => {
                self.meters.dropped.add(1);
            }
            Message::Question(question) => self.serve_question(head, question),
            Message::Order(order) => self.serve_order(head, order),
            Message::Emulated { session, message } => self.serve_emulated(&session, message),
            Message::Found(found) => self.on_answer(head, Some(found)),
            Message::Done => self.on_answer(head, Some(Found::default())),
            Message::Busy => self.on_answer(head, None),
            Message::NotUnderstood(version) => {
                self.complain(&format!(
                    "node {} understands version {version} of what nodes say to each other, and this one speaks {VERSION}",
                    head.sender
                ));
                self.on_answer(head, None);
            }
        }
    }

    fn is_late(&self, head: &Head) -> bool {
        match self.redis_ms() {
            Some(now) if head.sent_ms > 0 => now.saturating_sub(head.sent_ms) > LATE.as_millis() as u64,
            _ => false,
        }
    }

    fn on_fault(self: &Rc<Self>, fault: &Fault) {
        self.meters.dropped.add(1);
        match fault {
            Fault::Version(_, head) | Fault::Malformed(head) if head.sender == self.id => {}
            Fault::Version(version, head) => {
                self.complain(&format!(
                    "node {} speaks version {version} of what nodes say to each other, and this one understands {VERSION}",
                    head.sender
                ));
                self.answer(*head, Message::NotUnderstood(VERSION));
            }
            Fault::Malformed(head) => {
                self.complain(&format!("node {} says what is no message", head.sender));
                self.answer(*head, Message::NotUnderstood(VERSION));
            }
            Fault::Headless => {
                self.complain("something that is no message was published on the nodes' channels");
            }
        }
    }

    fn complain(&self, what: &str) {
        let now = self.shard.now();
        if self.complained.get().is_none_or(|before| now >= before + COMPLAINT_PAUSE) {
            self.complained.set(Some(now));
            crate::warn!(
                "chat: {what}. While a fleet is upgraded that passes; otherwise: who else uses the prefix {:?}?",
                self.prefix
            );
        }
    }

    /// A node has answered; `None`: that it cannot.
    fn on_answer(&self, head: Head, found: Option<Found>) {
        let mut asking = self.asking.borrow_mut();
        // Otherwise it came too late, and was counted as missing.
        let Some(asking) = asking.get_mut(&head.number) else { return };
        let was_awaited = asking.waiting.remove(&head.sender);
        match found {
            Some(found) => {
                if found.is_cut {
                    asking.refused.push(head.sender);
                }
                asking.found.push(found);
            }
            None if was_awaited => asking.refused.push(head.sender),
            None => {}
        }
        if asking.waiting.is_empty()
            && let Some(done) = asking.done.take()
        {
            done.answer(());
        }
    }

    /// Answers a node, in a task.
    pub(super) fn answer(self: &Rc<Self>, head: Head, message: Message) {
        let captain = self.clone();
        drop(self.shard.spawn(async move {
            let answer = Head { number: head.number, ..captain.head() };
            // If it does not arrive, who asked counts this node as missing.
            let _sent = captain.publish(captain.channel_of(head.sender), &answer, &message).await;
        }));
    }
}
