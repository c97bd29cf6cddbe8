//! Many clients on one thread and one poll: they join, publish when it is time, and come back when they are cut off.
//!
//! The load is open: publications leave when they are due, whatever comes back, and every time counts from then. A client
//! that lost its connection returns as the JavaScript SDK does: after a random time of a window that doubles.

use super::book::{Book, Times};
use super::client::{Client, Gone, Phase, Speech, World};
use super::stamp::Stamp;
use super::token::Signer;
use crate::alarm::{Alarm, TIMER};
use crate::placement;
use crate::random::Random;
use crate::schedule::Schedule;
use mio::Events;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The SDK's shortest wait before it comes back, and the first window on top of it.
const RETURN_MIN_NS: u64 = 500_000_000;
/// And its longest.
const RETURN_MAX_NS: u64 = 20_000_000_000;
/// How long an attempt may last, from the connection's start to its last reply.
const ATTEMPT_MAX_NS: u64 = 10_000_000_000;
/// Attempts are looked at this often.
const SWEEP_NS: u64 = 250_000_000;
/// Sockets that one turn looks at, so that no publication waits for all of them.
const EVENTS: usize = 64;
/// Behind schedule, sockets are looked at after so many publications nevertheless.
const BEHIND: usize = 16;
const BUFFER_BYTES: usize = 512 * 1024;

/// What a fleet is made of.
pub struct Plan {
    /// Where the server is, or its nodes: clients are spread over them.
    pub addresses: Vec<SocketAddr>,
    /// How many clients.
    pub clients: usize,
    /// Members of a room; the last room may have fewer.
    pub room_size: usize,
    /// What channels' names begin with: empty, or a namespace and its colon.
    pub prefix: String,
    /// Whether every client has a channel of its own besides.
    pub own_channel: bool,
    /// Signs tokens; without one, clients claim their names.
    pub signer: Option<Signer>,
    /// What is spoken.
    pub speech: Speech,
    /// Bytes of a publication's data.
    pub size: usize,
}

/// The clients.
pub struct Fleet {
    addresses: Vec<SocketAddr>,
    size: usize,
    speech: Speech,
    room_size: usize,
    clients: Vec<Client>,
    alarm: Alarm,
    events: Events,
    buffer: Vec<u8>,
    clock: Instant,
    /// When who comes back.
    returns: BinaryHeap<Reverse<(u64, usize)>>,
    random: Random,
    swept: u64,
    own: Vec<usize>,
    /// Publications that were due so far: whose turn it is.
    published: usize,
    live: usize,
    /// Clients between their first packet and their last reply.
    joining: usize,
    /// What was measured.
    pub book: Book,
}

impl Fleet {
    /// A fleet of clients that are all away. Pins this thread to the generator's core.
    ///
    /// # Errors
    /// A sentence: the kernel grants no poll.
    pub fn new(plan: Plan) -> Result<Fleet, String> {
        placement::pin_generator();
        let rooms: Vec<usize> = (0..plan.clients).map(|client| client / plan.room_size).collect();
        let client = |(index, &room): (usize, &usize)| {
            let mut channels = vec![format!("{}room-{room}", plan.prefix)];
            channels.extend(plan.own_channel.then(|| format!("{}own-{index}", plan.prefix)));
            let token = plan.signer.as_ref().map(|signer| signer.connection(&format!("u{index}")));
            Client::new(index, room, channels, token)
        };
        Ok(Fleet {
            addresses: plan.addresses,
            size: plan.size,
            speech: plan.speech,
            room_size: plan.room_size,
            clients: rooms.iter().enumerate().map(client).collect(),
            alarm: Alarm::new()?,
            events: Events::with_capacity(EVENTS),
            buffer: vec![0; BUFFER_BYTES],
            clock: Instant::now(),
            returns: BinaryHeap::new(),
            random: Random::new(1),
            swept: 0,
            own: Vec::new(),
            published: 0,
            live: 0,
            joining: 0,
            book: Book::new(&rooms),
        })
    }

    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// How many clients are subscribed.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Whether all are.
    pub fn is_complete(&self) -> bool {
        self.live == self.clients.len()
    }

    /// All clients join, at most `at_once` at a time; the seconds until the last has.
    ///
    /// # Errors
    /// A sentence: some have not within `limit`, and why.
    pub fn join(&mut self, at_once: usize, limit: Duration) -> Result<f64, String> {
        self.join_first(self.clients.len(), at_once, limit)
    }

    /// The first `count` clients join.
    ///
    /// # Errors
    /// As [`Fleet::join`].
    pub fn join_first(&mut self, count: usize, at_once: usize, limit: Duration) -> Result<f64, String> {
        let began = self.now();
        let mut next = self.clients.iter().take_while(|client| client.phase != Phase::Away).count();
        while self.live < count {
            while next < count && self.joining < at_once {
                self.connect(next);
                next += 1;
            }
            self.turn(None)?;
            if self.now() - began > limit.as_nanos() as u64 {
                return Err(format!(
                    "{} of {count} clients joined within {limit:?}; {:?}",
                    self.live, self.book.events
                ));
            }
        }
        Ok((self.now() - began) as f64 / 1e9)
    }

    /// Publishes when the schedule says, for so many seconds: to room after room, by one member after the other.
    ///
    /// # Errors
    /// A sentence: the kernel refused.
    pub fn load(&mut self, schedule: Schedule, seconds: f64) -> Result<(), String> {
        self.load_while(schedule, seconds, |_| true)
    }

    /// The same, for as long as it is wanted.
    ///
    /// # Errors
    /// As [`Fleet::load`].
    pub fn load_while(
        &mut self,
        schedule: Schedule,
        seconds: f64,
        wanted: impl Fn(&Fleet) -> bool,
    ) -> Result<(), String> {
        let start = self.now();
        self.book.times.began = start;
        let end = start + (seconds * 1e9) as u64;
        for due in schedule.map(|due| start + due).take_while(|&due| due < end) {
            if self.published.is_multiple_of(BEHIND) {
                self.turn(Some(0))?;
            }
            while wanted(self) && self.now() < due {
                self.turn(Some(due.saturating_sub(self.now())))?;
            }
            if !wanted(self) {
                return Ok(());
            }
            self.published += 1;
            match self.publisher(self.published - 1) {
                Some(client) => self.publish(client, due),
                None => self.book.events.unsent += 1,
            }
            let late = self.now() - due;
            self.book.times.lateness.saturating_record(late.max(1));
        }
        while wanted(self) && self.now() < end {
            self.turn(Some(end.saturating_sub(self.now())))?;
        }
        Ok(())
    }

    /// Each of `publishers` clients keeps one publication under way, and sends its next when its own comes back.
    ///
    /// # Errors
    /// A sentence: the kernel refused, or a connection broke.
    pub fn saturate(&mut self, publishers: usize, seconds: f64) -> Result<f64, String> {
        let start = self.now();
        let end = start + (seconds * 1e9) as u64;
        // All that is ready is read before anybody publishes, so that publications come in waves: a server that has less
        // to do than its clients would else be asked for one at a time.
        self.events = Events::with_capacity(self.clients.len());
        (0..publishers).for_each(|client| self.publish(client, start));
        while self.now() < end {
            self.turn(None)?;
            let now = self.now();
            for client in std::mem::take(&mut self.own) {
                self.publish(client, now);
            }
            if self.live < self.clients.len() {
                return Err(format!("a connection broke: {:?}", self.book.events.ended));
            }
        }
        self.events = Events::with_capacity(EVENTS);
        Ok((self.now() - start) as f64 / 1e9)
    }

    /// Turns until everything that is owed has come, or `limit` is over.
    ///
    /// # Errors
    /// A sentence: the kernel refused.
    pub fn settle(&mut self, limit: Duration) -> Result<bool, String> {
        let end = self.now() + limit.as_nanos() as u64;
        while !self.book.tally.is_settled() {
            if self.now() > end {
                return Ok(false);
            }
            self.idle(Duration::from_millis(20))?;
        }
        Ok(true)
    }

    /// Turns for a while without publishing.
    ///
    /// # Errors
    /// A sentence: the kernel refused.
    pub fn idle(&mut self, time: Duration) -> Result<(), String> {
        let end = self.now() + time.as_nanos() as u64;
        while self.now() < end {
            self.turn(None)?;
        }
        Ok(())
    }

    /// Every client loses its connection at once.
    pub fn scatter(&mut self) {
        self.scatter_some(0, self.clients.len());
    }

    /// So many clients from `first` on, around the end, lose their connections.
    pub fn scatter_some(&mut self, first: usize, count: usize) {
        let all = self.clients.len();
        for index in (first..first + count).map(|index| index % all) {
            if self.clients[index].phase != Phase::Away {
                self.gone(index, &Gone::Because("scattered".into()));
            }
        }
    }

    /// Takes the times that were measured; what follows is measured anew.
    pub fn take_times(&mut self) -> Times {
        std::mem::take(&mut self.book.times)
    }

    /// A living member of the room whose turn it is.
    fn publisher(&self, turn: usize) -> Option<usize> {
        let rooms = self.clients.len().div_ceil(self.room_size);
        let (room, turn) = (turn % rooms, turn / rooms);
        let first = room * self.room_size;
        let members = self.room_size.min(self.clients.len() - first);
        let nth = |member: usize| first + (turn + member) % members;
        (0..members).map(nth).find(|&client| self.clients[client].phase == Phase::Live)
    }

    fn publish(&mut self, index: usize, due: u64) {
        let client = &mut self.clients[index];
        let number = self.book.tally.on_publish(client.room, due);
        let stamp = Stamp { room: client.room as u32, publisher: index as u32, number };
        if let Err(gone) = client.publish(number, due, &stamp.data(self.size)) {
            self.gone(index, &gone);
        }
    }

    fn connect(&mut self, index: usize) {
        let now = self.now();
        self.joining += 1;
        let address = self.addresses[index % self.addresses.len()];
        if let Err(gone) = self.clients[index].connect(now, address, self.alarm.poll.registry()) {
            self.gone(index, &gone);
        }
    }

    /// A connection is no more: it is counted, and its client comes back later.
    fn gone(&mut self, index: usize, gone: &Gone) {
        let client = &mut self.clients[index];
        let was_live = client.phase == Phase::Live;
        let count = if was_live { &mut self.live } else { &mut self.joining };
        *count -= 1;
        client.leave(&mut self.book);
        let events = &mut self.book.events;
        match gone {
            Gone::Busy => events.busy += 1,
            Gone::Because(reason) if was_live => *events.ended.entry(reason.clone()).or_default() += 1,
            Gone::Because(reason) => *events.failed.entry(reason.clone()).or_default() += 1,
        }
        let window = RETURN_MIN_NS.saturating_mul(1 << client.attempts.min(16)).min(RETURN_MAX_NS);
        client.attempts += 1;
        let wait = (RETURN_MIN_NS + (self.random.uniform() * window as f64) as u64).min(RETURN_MAX_NS);
        let at = self.now() + wait;
        self.returns.push(Reverse((at, index)));
    }

    /// Waits for sockets, at most `ahead` nanoseconds, and turns to what has happened.
    fn turn(&mut self, ahead: Option<u64>) -> Result<(), String> {
        self.alarm.wait(&mut self.events, ahead)?;
        let mut lost = Vec::new();
        self.own.clear();
        let mut world = World {
            book: &mut self.book,
            buffer: &mut self.buffer,
            clock: self.clock,
            speech: self.speech,
            own: &mut self.own,
        };
        for event in self.events.iter().filter(|event| event.token() != TIMER) {
            let index = event.token().0;
            let client = &mut self.clients[index];
            let before = client.phase;
            let mut done = Ok(());
            if event.is_writable() {
                done = client.on_writable(self.addresses[index % self.addresses.len()]);
            }
            if done.is_ok() && event.is_readable() {
                done = client.on_readable(&mut world);
            }
            if before != Phase::Live && client.phase == Phase::Live {
                self.live += 1;
                self.joining -= 1;
            }
            if let Err(gone) = done {
                lost.push((event.token().0, gone));
            }
        }
        lost.iter().for_each(|(index, gone)| self.gone(*index, gone));
        self.come_back();
        Ok(())
    }

    /// Those whose time has come connect again, and attempts that last too long are given up.
    fn come_back(&mut self) {
        let now = self.now();
        while let Some(Reverse((_, index))) = self.returns.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.returns.pop();
            self.connect(index);
        }
        if now - self.swept < SWEEP_NS {
            return;
        }
        self.swept = now;
        for index in 0..self.clients.len() {
            let client = &self.clients[index];
            let waits = !matches!(client.phase, Phase::Away | Phase::Live);
            if waits && now.saturating_sub(client.since) > ATTEMPT_MAX_NS {
                self.gone(index, &Gone::Because(format!("no answer while {:?}", client.phase)));
            }
        }
    }
}
