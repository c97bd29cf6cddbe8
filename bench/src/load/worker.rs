//! One thread of the load, with its connections.
//!
//! ```text
//!   due ─► waiting ─► a connection with room ─► under way ─► verdict ─► tally
//!             │                                    └─ not seen by the server ─► waiting, once
//!             └─ too long ─► verdict
//! ```
//!
//! The loop is open: a request is due when the schedule says, whatever is under way; what waits for a connection waits
//! on the server's account. In a closed loop a request is due as soon as a connection has room.

use super::conn::{Conn, Protocol, Talk, reason_of};
use super::flight::{Flight, Verdict, reason};
use super::http1::Http1;
use super::http2::Http2;
use super::request::Requests;
use super::tally::{Expected, Tally};
use super::tls;
use super::websocket::WebSocket;
use super::wire::{Broken, Received, Wire};
use crate::alarm::{Alarm, TIMER};
use crate::schedule::trace::Due;
use mio::{Events, Interest, Token};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const BUFFER_BYTES: usize = 256 << 10;
/// Requests that become due before answers are looked for again.
const DUE_PER_TURN: usize = 32;
/// Connections begun in one turn.
const CONNECTS_PER_TURN: usize = 64;
/// How long nobody is knocked up again who did not let us in.
const RETRY_NS: u64 = 20_000_000;
/// Bits of a WebSocket's stamp that tell threads apart; the others count their sockets.
const STAMP_SHIFT: u32 = 24;

/// What all threads of a side share.
#[derive(Clone)]
pub struct Job {
    /// Where the server is.
    pub address: SocketAddr,
    /// What is asked.
    pub requests: Requests,
    /// How it is encrypted.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// What is spoken.
    pub protocol: Protocol,
    /// Requests at once on an HTTP/2 connection.
    pub streams: usize,
    /// How long an answer may take from the intended time.
    pub timeout_ns: u64,
    /// What counts as an answer.
    pub expected: Expected,
    /// The time that counts, in nanoseconds since the beginning.
    pub counted: std::ops::Range<u64>,
    /// Whether the thread never sleeps while requests are to come.
    pub is_spinning: bool,
    /// In a closed loop, when it ends.
    pub closed_until: Option<u64>,
}

/// Where a thread leaves what it has counted, when somebody asks for it.
#[derive(Default)]
pub struct Exchange {
    wanted: AtomicBool,
    tally: Mutex<Option<Box<Tally>>>,
}

impl Exchange {
    /// Offers an empty tally for what the thread has counted until it sees the offer; what an earlier one brought.
    pub fn trade(&self, empty: impl FnOnce() -> Box<Tally>) -> Option<Box<Tally>> {
        if self.wanted.load(Ordering::Acquire) {
            return None;
        }
        let brought = self.lock().take();
        *self.lock() = Some(empty());
        self.wanted.store(true, Ordering::Release);
        brought
    }

    /// What lies there when the thread has ended: full, or empty and not wanted any more.
    pub fn last(&self) -> Option<Box<Tally>> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Box<Tally>>> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that has no connection yet.
#[derive(Clone, Copy)]
struct Waiting {
    due: u64,
    request: u32,
    resent: bool,
}

/// See the module's description.
pub struct Worker {
    job: Arc<Job>,
    exchange: Arc<Exchange>,
    /// Which thread of how many.
    place: (usize, usize),
    alarm: Alarm,
    clock: Instant,
    conns: Vec<Option<Conn>>,
    vacant: Vec<usize>,
    /// Connections with room, longest idle first.
    roomy: VecDeque<usize>,
    dirty: Vec<usize>,
    waiting: VecDeque<Waiting>,
    under_way: usize,
    /// Of requests under way, in order: when they are given up, on which connection, which.
    deadlines: VecDeque<(u64, usize, u64)>,
    serial: u64,
    opened: u32,
    /// When to connect again; set while the server does not let us in.
    retry_at: Option<u64>,
    /// When connections that do not open are looked for again.
    check_at: u64,
    /// Why it does not.
    trouble: &'static str,
    /// The same with a remedy, the first time.
    explained: Option<String>,
    tally: Box<Tally>,
    buffer: Vec<u8>,
    verdicts: Vec<(Flight, Verdict)>,
    oddities: Vec<&'static str>,
}

impl Worker {
    /// A thread with so many connections, none of them open.
    ///
    /// # Errors
    /// A sentence: the kernel grants no poll or timer.
    pub fn new(
        job: Arc<Job>,
        exchange: Arc<Exchange>,
        place: (usize, usize),
        connections: usize,
    ) -> Result<Worker, String> {
        let tally = Box::new(Tally::new(job.counted.clone()));
        Ok(Worker {
            job,
            exchange,
            place,
            alarm: Alarm::new()?,
            clock: Instant::now(),
            conns: (0..connections).map(|_| None).collect(),
            vacant: (0..connections).rev().collect(),
            roomy: VecDeque::with_capacity(connections),
            dirty: Vec::new(),
            waiting: VecDeque::new(),
            under_way: 0,
            deadlines: VecDeque::new(),
            serial: 0,
            opened: 0,
            retry_at: None,
            check_at: 0,
            trouble: reason::CANNOT_CONNECT,
            explained: None,
            tally,
            buffer: vec![0; BUFFER_BYTES],
            verdicts: Vec::new(),
            oddities: Vec::new(),
        })
    }

    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// What is spoken on a connection that is ready.
    pub fn spoken(&self) -> &'static str {
        let talk = self.conns.iter().flatten().find_map(|conn| conn.talk.as_ref());
        match talk {
            Some(Talk::Http2(_)) => Protocol::Http2.name(),
            Some(Talk::Http1(_)) => Protocol::Http1.name(),
            Some(Talk::WebSocket(_)) => "WebSocket",
            None => self.job.protocol.name(),
        }
    }

    /// Opens all connections before the clock starts.
    ///
    /// # Errors
    /// A sentence with a remedy: not one could be opened.
    pub fn prepare(&mut self) -> Result<(), String> {
        let mut events = Events::with_capacity(1024);
        loop {
            let now = self.now();
            self.connect(now);
            let ready = self.conns.iter().flatten().filter(|conn| conn.is_ready()).count();
            if ready == self.conns.len() || now > self.job.timeout_ns || self.explained.is_some() {
                break;
            }
            self.alarm.wait(&mut events, None)?;
            self.on_events(&events)?;
        }
        let some = self.conns.iter().flatten().any(Conn::is_ready);
        match self.explained.take() {
            Some(why) if !some => Err(why),
            None if !some => Err(format!(
                "{} ({}) did not let us in within {:.1} s: is it overloaded, or is a firewall in between?",
                self.job.requests.origin,
                self.job.address,
                self.job.timeout_ns as f64 / 1e9
            )),
            _ => Ok(()),
        }
    }

    /// Sends what is due from `start` on, and waits for what is under way.
    ///
    /// # Errors
    /// A sentence: the kernel refused something that is not the server's fault.
    pub fn run(mut self, start: Instant, times: &mut dyn Iterator<Item = Due>) -> Result<Box<Tally>, String> {
        self.clock = start;
        (self.retry_at, self.check_at) = (None, 0);
        self.conns.iter_mut().flatten().for_each(|conn| conn.born = 0);
        let mut events = Events::with_capacity(1024);
        let (place, places) = self.place;
        let mut times = times.enumerate().skip(place).step_by(places);
        let mut turn = place;
        let mut next = times.next();
        loop {
            let mut now = self.now();
            for _ in 0..DUE_PER_TURN {
                let Some((index, due)) = next.filter(|(_, due)| due.at_ns <= now) else { break };
                self.tally.on_due(due.at_ns, now, true);
                let request = due.url.unwrap_or((index % self.job.requests.all.len()) as u32);
                self.waiting.push_back(Waiting { due: due.at_ns, request, resent: false });
                self.dispatch(now);
                next = times.next();
                now = self.now();
            }
            if let Some(until) = self.job.closed_until {
                self.dispatch(now);
                self.saturate(until, &mut turn);
            } else {
                self.dispatch(now);
            }
            self.flush_dirty()?;
            self.expire(now)?;
            self.connect(now);
            if self.exchange.wanted.load(Ordering::Acquire) {
                self.hand_over();
            }
            let is_over = next.is_none() && self.job.closed_until.is_none_or(|until| now >= until);
            if is_over && self.waiting.is_empty() && self.under_way == 0 {
                return Ok(self.tally);
            }
            self.wait(&mut events, next.map(|(_, due)| due.at_ns))?;
            self.on_events(&events)?;
        }
    }

    fn wait(&mut self, events: &mut Events, next: Option<u64>) -> Result<(), String> {
        if self.job.is_spinning && next.is_some() {
            return match self.alarm.poll.poll(events, Some(Duration::ZERO)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => Err(format!("the generator's poll: {error}")),
                _ => Ok(()),
            };
        }
        let ahead = next.map(|due| due.saturating_sub(self.now()));
        self.alarm.wait(events, ahead)
    }

    fn hand_over(&mut self) {
        let mut slot = self.exchange.lock();
        if let Some(empty) = slot.take() {
            *slot = Some(std::mem::replace(&mut self.tally, empty));
        }
        self.exchange.wanted.store(false, Ordering::Release);
    }

    /// Gives what waits to connections with room.
    fn dispatch(&mut self, now: u64) {
        while let Some(&waiting) = self.waiting.front() {
            let Some(index) = self.next_roomy() else { return };
            self.waiting.pop_front();
            self.depart(index, waiting, now);
        }
    }

    /// In a closed loop: whatever has room gets a request.
    fn saturate(&mut self, until: u64, turn: &mut usize) {
        loop {
            let now = self.now();
            if now >= until {
                return;
            }
            let Some(index) = self.next_roomy() else { return };
            self.tally.on_due(now, now, false);
            let request = (*turn % self.job.requests.all.len()) as u32;
            *turn += self.place.1;
            self.depart(index, Waiting { due: now, request, resent: false }, now);
        }
    }

    fn is_in_turn(&self) -> bool {
        self.job.closed_until.is_some()
    }

    /// The connection that has had room for longest.
    fn next_roomy(&mut self) -> Option<usize> {
        let in_turn = self.is_in_turn();
        while let Some(index) = self.roomy.pop_front() {
            let Some(conn) = &mut self.conns[index] else { continue };
            conn.listed = false;
            if conn.room(in_turn) > 0 {
                return Some(index);
            }
        }
        None
    }

    /// Notes that a connection has room, if it has.
    fn list(&mut self, index: usize) {
        let in_turn = self.is_in_turn();
        if let Some(conn) = &mut self.conns[index]
            && !conn.listed
            && conn.room(in_turn) > 0
        {
            conn.listed = true;
            self.roomy.push_back(index);
        }
    }

    fn depart(&mut self, index: usize, waiting: Waiting, now: u64) {
        let Some(conn) = &mut self.conns[index] else { return };
        self.serial += 1;
        let Waiting { due, request, resent } = waiting;
        let flight = Flight { due, sent: now, serial: self.serial, request, resent };
        self.deadlines.push_back((due + self.job.timeout_ns, index, self.serial));
        self.under_way += 1;
        if !resent {
            self.tally.on_sent(due);
        }
        let was_dirty = conn.dirty;
        let sent = conn.send(&self.job.requests, flight, now, &mut self.verdicts);
        if conn.dirty && !was_dirty {
            self.dirty.push(index);
        }
        self.settle(now);
        match sent {
            Ok(()) => self.list(index),
            Err(broken) => self.lose(index, None, reason_of(&broken)),
        }
    }

    fn flush_dirty(&mut self) -> Result<(), String> {
        while let Some(index) = self.dirty.pop() {
            let Some(conn) = &mut self.conns[index] else { continue };
            let flushed = conn.flush(&mut self.verdicts);
            let now = self.now();
            self.settle(now);
            match flushed {
                Ok(()) => self.list(index),
                Err(broken) => self.lose(index, None, reason_of(&broken)),
            }
        }
        Ok(())
    }

    /// Works off the verdicts that have come.
    fn settle(&mut self, now: u64) {
        for (flight, verdict) in self.verdicts.drain(..) {
            self.under_way -= 1;
            if let Verdict::Unseen(_) = verdict
                && !flight.resent
            {
                self.tally.resent += 1;
                self.waiting.push_front(Waiting { due: flight.due, request: flight.request, resent: true });
            } else {
                self.tally.on_verdict(&flight, now, verdict, &self.job.expected);
            }
        }
        for what in self.oddities.drain(..) {
            *self.tally.oddities.entry(what).or_default() += 1;
        }
    }

    /// Begins connections where there are none, unless the server has just refused.
    fn connect(&mut self, now: u64) {
        if self.vacant.is_empty() || self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        // One knocks while the others wait.
        let count = if self.retry_at.is_some() { 1 } else { CONNECTS_PER_TURN };
        if self.retry_at.is_some() {
            self.retry_at = Some(now + RETRY_NS);
        }
        for _ in 0..count {
            let Some(index) = self.vacant.pop() else { return };
            let tls = self.job.tls.as_ref().map(|(config, name)| (config, name));
            let number = self.place.0 * self.conns.len() + index;
            let begun = Wire::connect(self.job.address, number, tls).and_then(|mut wire| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                self.alarm.poll.registry().register(&mut wire.socket, Token(index), interest).map(|()| wire)
            });
            match begun {
                Ok(wire) => {
                    let conn = Conn { wire, talk: None, born: now, used: false, dirty: false, listed: false };
                    self.conns[index] = Some(conn);
                }
                Err(error) => {
                    self.vacant.push(index);
                    self.on_refused(now, &Broken::Socket(error));
                    return;
                }
            }
        }
    }

    /// The server does not let us in. What waits fails if there is no connection left to wait for.
    fn on_refused(&mut self, now: u64, broken: &Broken) {
        let (origin, address) = (&self.job.requests.origin, self.job.address);
        let why = match broken {
            Broken::Tls(error) => tls::remedy(error),
            Broken::Socket(error) if error.kind() == ErrorKind::ConnectionRefused => {
                "nobody listens there: start the server, or check host and port".to_owned()
            }
            Broken::Socket(error) if matches!(error.raw_os_error(), Some(23 | 24)) => {
                format!("there are not enough open files ({error}): use fewer --connections, or raise ulimit -n")
            }
            Broken::Socket(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                format!("there are no ports left on this side ({error}): use fewer --connections")
            }
            Broken::Socket(error) if error.kind() == ErrorKind::UnexpectedEof && self.job.tls.is_some() => {
                "it closed during the TLS handshake: does it speak TLS on this port?".to_owned()
            }
            Broken::Socket(error) => format!("the connection failed: {error}"),
        };
        self.explained.get_or_insert_with(|| format!("cannot reach {origin} ({address}): {why}"));
        self.on_trouble(now, reason_of(broken));
    }

    fn on_trouble(&mut self, now: u64, trouble: &'static str) {
        self.trouble = trouble;
        self.retry_at = Some(now + RETRY_NS);
        self.despair(now);
    }

    /// With no connection at all, and the server not letting us in, what waits has failed.
    fn despair(&mut self, now: u64) {
        if self.conns.iter().all(Option::is_none) && self.retry_at.is_some() {
            for Waiting { due, request, resent } in self.waiting.drain(..) {
                let flight = Flight { due, sent: due, serial: 0, request, resent };
                self.tally.on_verdict(&flight, now, Verdict::Failed(self.trouble), &self.job.expected);
            }
        }
    }

    fn on_events(&mut self, events: &Events) -> Result<(), String> {
        for event in events {
            if event.token() != TIMER {
                self.on_event(event.token().0, event.is_read_closed());
            }
        }
        Ok(())
    }

    fn on_event(&mut self, index: usize, read_closed: bool) {
        let Some(conn) = self.conns.get_mut(index).and_then(Option::as_mut) else { return };
        if conn.talk.is_none() {
            match conn.wire.advance() {
                Ok(false) => return,
                Ok(true) => {
                    if !self.establish(index) {
                        return;
                    }
                }
                Err(broken) => {
                    let now = self.now();
                    self.on_bytes(index, now);
                    self.conns[index] = None;
                    self.vacant.push(index);
                    return self.on_refused(now, &broken);
                }
            }
        }
        let Some(conn) = &mut self.conns[index] else { return };
        let flushed = if conn.wire.is_drained() { Ok(()) } else { conn.flush(&mut self.verdicts) };
        if let Err(broken) = flushed {
            return self.lose(index, None, reason_of(&broken));
        }
        self.receive(index, read_closed);
        let Some(conn) = &mut self.conns[index] else { return };
        let now = self.clock.elapsed().as_nanos() as u64;
        let is_done = conn.is_done();
        let flushed = match &conn.talk {
            Some(Talk::Http1(_)) | None => Ok(()),
            Some(_) => conn.flush(&mut self.verdicts),
        };
        self.settle(now);
        match flushed {
            Ok(()) if is_done => self.retire(index),
            Ok(()) => self.list(index),
            Err(broken) => self.lose(index, None, reason_of(&broken)),
        }
    }

    /// A connection can carry something: what it speaks is decided. Whether it can be used.
    fn establish(&mut self, index: usize) -> bool {
        let job = Arc::clone(&self.job);
        let now = self.now();
        let Some(conn) = &mut self.conns[index] else { return false };
        let agreed = conn.wire.alpn().map(<[u8]>::to_vec);
        let talk = match (&job.protocol, agreed.as_deref()) {
            (Protocol::WebSocket(messages), _) => {
                let stamp = (self.place.0 as u32) << STAMP_SHIFT | self.opened & ((1 << STAMP_SHIFT) - 1);
                let request = self.opened as usize % job.requests.all.len();
                let seed = u64::from(stamp) << 20 | u64::from(std::process::id());
                Talk::WebSocket(Box::new(WebSocket::new(messages, &job.requests, request, stamp, seed)))
            }
            (Protocol::Http2, Some(b"h2")) | (Protocol::Auto, Some(b"h2")) => {
                Talk::Http2(Box::new(Http2::new(job.streams)))
            }
            (Protocol::Http2, None) if job.tls.is_none() => Talk::Http2(Box::new(Http2::new(job.streams))),
            (Protocol::Http2, _) => {
                self.conns[index] = None;
                self.vacant.push(index);
                self.on_refused(now, &Broken::Tls(rustls::Error::NoApplicationProtocol));
                return false;
            }
            (Protocol::Auto | Protocol::Http1, _) => Talk::Http1(Http1::default()),
        };
        conn.talk = Some(talk);
        self.opened += 1;
        self.tally.opened += 1;
        // Whoever lets one in lets others in.
        self.retry_at = None;
        if let Err(broken) = conn.flush(&mut self.verdicts) {
            self.lose(index, None, reason_of(&broken));
            return false;
        }
        self.list(index);
        true
    }

    /// Reads until nothing is left.
    fn receive(&mut self, index: usize, read_closed: bool) {
        loop {
            let Some(conn) = &mut self.conns[index] else { return };
            let received = conn.wire.recv(&mut self.buffer);
            let now = self.clock.elapsed().as_nanos() as u64;
            match received {
                Ok(Received::Bytes { count, drained }) => {
                    let bytes = &mut self.buffer[..count];
                    let took = conn.recv(bytes, &self.job.requests, now, &mut self.verdicts, &mut self.oddities);
                    self.on_bytes(index, now);
                    self.settle(now);
                    match took {
                        Ok(()) if drained && !read_closed => return,
                        Ok(()) => {}
                        Err(wrong) => return self.lose(index, None, wrong),
                    }
                }
                Ok(Received::Nothing) => return,
                Ok(Received::End { clean }) => return self.lose(index, Some(clean), reason::CLOSED),
                Err(broken) => return self.lose(index, None, reason_of(&broken)),
            }
        }
    }

    fn on_bytes(&mut self, index: usize, now: u64) {
        let Some(conn) = &mut self.conns[index] else { return };
        let (received, sent) = (std::mem::take(&mut conn.wire.received), std::mem::take(&mut conn.wire.sent));
        self.tally.on_bytes(now, received, sent);
    }

    /// A connection has done its part; another takes its place.
    fn retire(&mut self, index: usize) {
        if self.conns[index].take().is_some() {
            self.vacant.push(index);
        }
    }

    /// A connection is of no more use, and neither is what it carried.
    fn lose(&mut self, index: usize, end: Option<bool>, why: &'static str) {
        let now = self.now();
        self.on_bytes(index, now);
        let Some(mut conn) = self.conns[index].take() else { return };
        self.vacant.push(index);
        conn.on_gone(end, why, &self.job.requests, &mut self.verdicts);
        self.settle(now);
        if !conn.used {
            // It was let in and shown out: no reason to hurry back.
            let detail = match &conn.talk {
                Some(Talk::WebSocket(talk)) => talk.trouble.clone(),
                _ => None,
            };
            let (origin, address) = (&self.job.requests.origin, self.job.address);
            let detail = detail.unwrap_or_else(|| match why {
                reason::CLOSED => "it closed the connection before anything was asked".to_owned(),
                _ => format!("the connection failed at once: {why}"),
            });
            self.explained.get_or_insert_with(|| format!("{origin} ({address}) cannot be loaded: {detail}"));
            self.on_trouble(now, why);
        }
    }

    /// Gives up what took too long.
    fn expire(&mut self, now: u64) -> Result<(), String> {
        while let Some(&(deadline, index, serial)) = self.deadlines.front() {
            let carries = self.conns[index].as_ref().is_some_and(|conn| conn.carries(serial));
            if carries && deadline > now {
                break;
            }
            self.deadlines.pop_front();
            if !carries {
                continue;
            }
            let given_up = self.conns[index].as_mut().and_then(|conn| conn.expire(serial));
            match given_up {
                Some(verdict) => {
                    self.verdicts.push(verdict);
                    self.settle(now);
                    if let Some(conn) = &mut self.conns[index]
                        && !conn.dirty
                    {
                        conn.dirty = true;
                        self.dirty.push(index);
                    }
                }
                None => self.lose(index, None, reason::TIMEOUT),
            }
        }
        while let Some(&Waiting { due, request, resent }) = self.waiting.front()
            && due + self.job.timeout_ns <= now
        {
            self.waiting.pop_front();
            let flight = Flight { due, sent: due, serial: 0, request, resent };
            self.tally.on_verdict(&flight, now, Verdict::Failed(reason::NEVER_SENT), &self.job.expected);
        }
        if !self.waiting.is_empty() {
            self.despair(now);
            if now >= self.check_at {
                self.check_at = now + RETRY_NS;
                self.expire_connecting(now);
            }
        }
        Ok(())
    }

    /// Gives up connections that take too long to open.
    fn expire_connecting(&mut self, now: u64) {
        for index in 0..self.conns.len() {
            let Some(conn) = &self.conns[index] else { continue };
            if !conn.is_ready() && now.saturating_sub(conn.born) > self.job.timeout_ns {
                self.conns[index] = None;
                self.vacant.push(index);
                self.on_trouble(now, reason::CONNECT_TIMEOUT);
            }
        }
    }
}
