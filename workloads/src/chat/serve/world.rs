//! What the hub does to the world: this shard's sockets, the other shards, and work that takes longer.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use annulus_engine::frame::FrameArena;
use annulus_engine::metrics::Histogram;
use annulus_engine::trace::{self, Stage, Trace};
use annulus_engine::{ConnId, Group, MailboxFull, Outlet, Sent, Shard};
use annulus_protocols::centrifuge::Disconnect;
use annulus_protocols::websocket::{message_header, write_ping};

use super::meters::Meters;
use super::session::Session;
use super::work::Works;
use super::{COHORTS, INBOX};
use crate::chat::broker::Wish;
use crate::chat::broker::link::Link;
use crate::chat::dialect::{Carrier, Dialect};
use crate::chat::events::Event;
use crate::chat::hooks::{Kind, Unfit};
use crate::chat::hub::{Clients, Ports};
use crate::chat::letters::{Letter, Work};
use crate::chat::node::Node;
use crate::chat::session::Client;

/// Letters that wait for a shard that lags. Beyond, publications are not told to it: its members ask for them later.
const OVERFLOW_LETTERS_MAX: usize = 65_536;

/// See the module's description.
pub struct Sockets {
    pub(super) shard: Shard,
    /// For replies: its cap is what may wait for one client at all.
    pub(super) outlet: Outlet,
    /// For what goes to many: a client for whom a quarter of that waits is slow.
    broadcast: Outlet,
    /// Where frames for many are made. Replies are made elsewhere: nothing comes between publications that follow each
    /// other, so that they lie in one piece, and each receiver gets them as one.
    frames: FrameArena,
    /// The message at hand, as it is on the wire of a stream.
    scratch: Vec<u8>,
    /// Connections that are to be closed, and why.
    pub(super) closing: Vec<(ConnId, Disconnect)>,
    /// Letters that did not fit, by shard.
    overflow: Vec<VecDeque<Letter>>,
    /// Channels of which a shard was not told everything.
    missed: HashSet<(usize, Arc<str>)>,
    works: Rc<Works>,
    /// To what several nodes share; `None`: this one is alone.
    link: Option<Rc<Link>>,
    node: Arc<Node>,
    /// Bytes that wait for clients, by cohort, as they were when its sessions were looked at last.
    waiting: [usize; COHORTS as usize],
    cohort: usize,
    /// What may wait for the clients of this shard.
    waiting_max: usize,
    /// From publications' numbers to their hand-over.
    delivery: Arc<Histogram>,
    /// Of the message at hand.
    pub(super) trace: Trace,
}

impl Sockets {
    pub(super) fn new(
        shard: &Shard,
        node: &Arc<Node>,
        outlet: Outlet,
        works: Rc<Works>,
        link: Option<Rc<Link>>,
    ) -> Sockets {
        let config = &node.common.config;
        let meters = Meters::of(shard, shard.index());
        let share = (config.outbound_bytes_max > 0).then(|| config.outbound_bytes_max / shard.count());
        meters.show_waiting_max(share);
        Sockets {
            shard: shard.clone(),
            broadcast: outlet.with_outbox_bytes_max((config.outbox_bytes_max / 4).max(1)),
            outlet,
            frames: FrameArena::default(),
            scratch: Vec::new(),
            closing: Vec::new(),
            overflow: (0..shard.count()).map(|_| VecDeque::new()).collect(),
            missed: HashSet::new(),
            works,
            link,
            node: node.clone(),
            waiting: [0; COHORTS as usize],
            cohort: 0,
            waiting_max: share.unwrap_or(usize::MAX),
            delivery: meters.delivery,
            trace: Trace::NONE,
        }
    }

    /// Begins to count what waits for a cohort.
    pub(super) fn begin_cohort(&mut self, cohort: u32) {
        self.cohort = cohort as usize;
        self.waiting[self.cohort] = 0;
    }

    /// Counts what waits for a client of the cohort; whether it has to give way, because too much waits for all.
    pub(super) fn count_waiting(&mut self, bytes: usize) -> bool {
        self.waiting[self.cohort] += bytes;
        let slow = self.outlet_quarter();
        bytes >= slow && self.waiting_bytes() > self.waiting_max
    }

    fn outlet_quarter(&self) -> usize {
        self.broadcast.outbox_bytes_max()
    }

    /// Bytes that wait for clients of this shard.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting.iter().sum()
    }

    /// Sends letters that did not fit before.
    pub(super) fn send_overflow(&mut self) {
        for shard in 0..self.overflow.len() {
            while let Some(letter) = self.overflow[shard].pop_front() {
                if let Letter::Missed { channel, .. } = &letter {
                    self.missed.remove(&(shard, channel.clone()));
                }
                if let Err(MailboxFull(letter)) = self.shard.post(shard, INBOX, letter) {
                    self.overflow[shard].push_front(letter);
                    break;
                }
            }
        }
    }

    fn hold(&mut self, shard: usize, letter: Letter) {
        if self.overflow[shard].len() < OVERFLOW_LETTERS_MAX {
            return self.overflow[shard].push_back(letter);
        }
        match letter {
            Letter::Deliver { channel, offset, watchers: false, .. } if offset > 0 => {
                if self.missed.insert((shard, channel.clone())) {
                    self.overflow[shard].push_back(Letter::Missed { channel, offset });
                }
            }
            // Promised to nobody: publications without history, and who comes and goes.
            Letter::Deliver { .. } | Letter::Announce { .. } => {}
            other => self.overflow[shard].push_back(other),
        }
    }
}

impl Ports for Sockets {
    fn send(&mut self, to: ConnId, dialect: Dialect, message: &[u8]) {
        let sent = match dialect.carrier() {
            Carrier::WebSocket => {
                let header = message_header(dialect.codec().message_kind(), message.len());
                self.outlet.send_copy(to, &[header.as_bytes(), message])
            }
            Carrier::HttpStream | Carrier::EventStream => {
                self.scratch.clear();
                dialect.write_message(&mut self.scratch, message);
                self.outlet.send_copy(to, &[&self.scratch])
            }
        };
        if sent == Sent::Full {
            self.closing.push((to, Disconnect::SLOW));
        }
    }

    fn send_all(&mut self, to: &[ConnId], frame: &[u8], full: &mut Vec<ConnId>) {
        if !to.is_empty() {
            let frame = self.frames.frame(&[frame]);
            self.broadcast.send_all(to, &frame, full);
        }
    }

    fn ping(&mut self, to: ConnId) {
        let mut frame = Vec::new();
        write_ping(&mut frame, b"", None);
        if self.outlet.send_copy(to, &[&frame]) == Sent::Full {
            self.closing.push((to, Disconnect::SLOW));
        }
    }

    fn tell_drained(&mut self, to: ConnId) {
        self.outlet.tell_drained(to);
    }

    fn resume(&mut self, to: ConnId) {
        self.outlet.resume(to);
    }

    fn close(&mut self, conn: ConnId, why: Disconnect) {
        self.closing.push((conn, why));
    }

    fn post(&mut self, shard: usize, letter: Letter) {
        // In order: what comes after something that did not fit waits behind it.
        if !self.overflow[shard].is_empty() {
            return self.hold(shard, letter);
        }
        if let Err(MailboxFull(letter)) = self.shard.post(shard, INBOX, letter) {
            self.hold(shard, letter);
        }
    }

    fn begin(&mut self, conn: ConnId, work: Work) {
        Works::begin(&self.works, conn, work);
    }

    fn wish(&mut self, wish: Wish) {
        if let Some(link) = &self.link {
            link.wish(wish);
        }
    }

    fn clock_us(&self) -> u64 {
        self.node.clock_us()
    }

    fn take_trace(&mut self) -> Trace {
        std::mem::take(&mut self.trace)
    }

    fn woke(&mut self, trace: &mut Trace) {
        self.shard.woke(trace, Stage::Away);
    }

    fn trace(&mut self, conn: ConnId, trace: Trace, kind: &'static trace::Kind) {
        self.outlet.trace(conn, trace, kind);
    }

    fn handed_over(&mut self, numbered_us: u64) {
        self.delivery.record(self.clock_us().saturating_sub(numbered_us));
    }

    fn unfit(&mut self, hook: (Kind, &str), unfit: &Unfit) {
        self.works.unfit(hook, unfit);
    }

    fn note(&mut self, event: Event) {
        if let Some(sender) = &self.works.events {
            sender.push(event);
        }
    }
}

/// The clients among a group's sessions.
pub struct Visitors<'g>(pub &'g mut Group<Session>);

impl Clients for Visitors<'_> {
    fn client(&mut self, conn: ConnId) -> Option<&mut Client> {
        self.0.session(conn)?.client()
    }

    fn all(&mut self) -> Vec<ConnId> {
        let mut ids = Vec::new();
        self.0.outlet().all(&mut ids);
        ids
    }
}
