//! The load on a gateway over few HTTP/2 connections that carry everything: whether answers of one connection hold each
//! other up is seen only there.
//!
//! The same open loop as [`super::generator`]: requests leave when they are due, latency counts from then. The frames
//! are our own protocol machine's, whose faults the gateway would share; what is measured here is time.

use super::answer::slowest;
use super::tally::{Outcome, Verdict};
use crate::alarm::{Alarm, TIMER};
use crate::random::Random;
use crate::schedule::profile::Profile;
use annulus_protocols::Input;
use annulus_protocols::http2::{Connection, Event, Head, Limits, RequestLine};
use mio::net::TcpStream;
use mio::{Events, Interest, Token};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Windows as wide as browsers have them: the client is not what holds large answers up.
const LIMITS: Limits = Limits { stream_window_bytes: 4 << 20, connection_window_bytes: 12 << 20, ..Limits::DEFAULT };
/// Bytes read from one connection before the others' turn.
const BUFFER_BYTES: usize = 64 << 10;
/// Of a body, so much is kept: its services' own times stand at its beginning.
const LEAD_BYTES: usize = 256;
/// How long after the last request answers are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request under way.
struct Flight {
    due: u64,
    segment: usize,
    class: usize,
    status: u16,
    completed: Option<bool>,
    lead: Vec<u8>,
    bytes: u64,
}

struct Conn {
    stream: TcpStream,
    machine: Connection,
    out: Vec<u8>,
    flights: HashMap<u32, Flight>,
}

/// The generator with its connections.
pub struct Load {
    /// What is requested, each equally likely, with its class.
    requests: Vec<(String, usize)>,
    authority: String,
    alarm: Alarm,
    conns: Vec<Option<Conn>>,
    turn: usize,
    clock: Instant,
    random: Random,
}

impl Load {
    /// A generator of `requests` on so many connections.
    ///
    /// # Errors
    /// A sentence: it cannot connect.
    pub fn open(address: SocketAddr, requests: Vec<(String, usize)>, conns: usize, seed: u64) -> Result<Load, String> {
        let alarm = Alarm::new()?;
        let opened = (0..conns).map(|index| Conn::open(address, &alarm, index).map(Some)).collect::<Result<_, _>>();
        Ok(Load {
            requests,
            authority: address.to_string(),
            alarm,
            conns: opened.map_err(|error| format!("the generator cannot connect to {address}: {error}"))?,
            turn: 0,
            clock: Instant::now(),
            random: Random::new(seed),
        })
    }

    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// Sends by the profile and waits for what is under way.
    ///
    /// # Errors
    /// A sentence: the kernel refused something that is not the server's fault.
    pub fn open_loop(&mut self, profile: &Profile) -> Result<Outcome, String> {
        let classes = self.requests.iter().map(|(_, class)| class + 1).max().unwrap_or(1);
        let mut outcome = Outcome::new(profile.segments.len(), classes);
        let mut times = profile.times();
        let mut next = times.next();
        let mut events = Events::with_capacity(64);
        self.clock = Instant::now();
        let give_up = Duration::from_secs_f64(profile.seconds()) + PATIENCE;
        loop {
            while let Some((due, segment)) = next.filter(|(due, _)| *due <= self.now()) {
                self.depart(due, segment, &mut outcome);
                outcome.lateness.saturating_record(self.now() - due);
                next = times.next();
            }
            self.flush(&mut outcome);
            let is_busy = self.conns.iter().flatten().any(|conn| !conn.flights.is_empty());
            if next.is_none() && (!is_busy || self.clock.elapsed() > give_up) {
                break;
            }
            let ahead = next.map(|(due, _)| due.saturating_sub(self.now()));
            self.alarm.wait(&mut events, ahead)?;
            for event in events.iter().filter(|event| event.token() != TIMER) {
                self.receive(event.token().0, &mut outcome);
            }
        }
        for index in 0..self.conns.len() {
            self.fail_all(index, "timeout", &mut outcome);
        }
        outcome.seconds = self.clock.elapsed().as_secs_f64();
        Ok(outcome)
    }

    /// Sends the next request, drawn at random, on the next connection.
    fn depart(&mut self, due: u64, segment: usize, outcome: &mut Outcome) {
        let (path, class) = &self.requests[self.random.below(self.requests.len())];
        let class = *class;
        outcome.tallies[segment][class].sent += 1;
        self.turn = (self.turn + 1) % self.conns.len();
        let opened = self.conns[self.turn].as_mut().and_then(|conn| {
            let line = RequestLine { method: "GET", scheme: "http", authority: &self.authority, path };
            let id = conn.machine.open(&mut conn.out, &line, [("accept", &b"application/json"[..])], true).ok()?;
            let flight = Flight { due, segment, class, status: 0, completed: None, lead: Vec::new(), bytes: 0 };
            conn.flights.insert(id, flight).is_none().then_some(())
        });
        if opened.is_none() {
            outcome.on_verdict((segment, class), due, 0, None, Verdict::Failed("without a stream"));
        }
    }

    /// Sends what waits.
    fn flush(&mut self, outcome: &mut Outcome) {
        for index in 0..self.conns.len() {
            if self.conns[index].as_mut().is_some_and(|conn| !conn.flush()) {
                self.fail_all(index, "closed", outcome);
            }
        }
    }

    /// Reads until nothing is left.
    fn receive(&mut self, index: usize, outcome: &mut Outcome) {
        let mut buffer = [0; BUFFER_BYTES];
        loop {
            let now = self.now();
            let Some(conn) = self.conns.get_mut(index).and_then(Option::as_mut) else { return };
            match conn.stream.read(&mut buffer) {
                Ok(0) => return self.fail_all(index, "closed", outcome),
                Ok(count) => {
                    if !conn.take(&mut buffer[..count], now, outcome) {
                        return self.fail_all(index, "broke the protocol", outcome);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.fail_all(index, "reset", outcome),
            }
            // Windows are to open while the rest is read.
            if !self.conns[index].as_mut().is_some_and(Conn::flush) {
                return self.fail_all(index, "closed", outcome);
            }
        }
    }

    /// Gives a connection up, if anything is under way on it.
    fn fail_all(&mut self, index: usize, reason: &'static str, outcome: &mut Outcome) {
        let now = self.now();
        let ended = reason != "timeout";
        let Some(conn) = self.conns[index].as_mut() else { return };
        for flight in std::mem::take(&mut conn.flights).into_values() {
            flight.fails(now, reason, outcome);
        }
        if ended {
            self.conns[index] = None;
        }
    }
}

impl Conn {
    fn open(address: SocketAddr, alarm: &Alarm, index: usize) -> std::io::Result<Conn> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        alarm.poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        let (mut machine, mut out) = (Connection::client(&LIMITS), Vec::new());
        machine.write_preface(&LIMITS, &mut out);
        Ok(Conn { stream, machine, out, flights: HashMap::new() })
    }

    /// Sends what waits. False when the connection is broken.
    fn flush(&mut self) -> bool {
        self.machine.write_pending(&mut self.out);
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// Works off received bytes. False when they break the protocol.
    fn take(&mut self, bytes: &mut [u8], now: u64, outcome: &mut Outcome) -> bool {
        let mut input = Input::new(bytes);
        loop {
            let (stream, end) = match self.machine.next_event(&LIMITS, now / 1_000_000, &mut input) {
                Ok(Event::NeedMore) => return true,
                Err(_) => return false,
                Ok(Event::Head { stream, head: Head::Response { status, fields, .. }, end }) => {
                    if let Some(flight) = self.flights.get_mut(&stream) {
                        flight.status = status;
                        let completed = fields.get(b"x-krakend-completed").or_else(|| fields.get(b"x-completed"));
                        flight.completed = completed.map(|value| value == b"true");
                    }
                    (stream, end)
                }
                Ok(Event::Data { stream, bytes, end }) => {
                    if let Some(flight) = self.flights.get_mut(&stream) {
                        let room = LEAD_BYTES - flight.lead.len();
                        flight.lead.extend_from_slice(&bytes[..room.min(bytes.len())]);
                        flight.bytes += bytes.len() as u64;
                    }
                    let len = bytes.len() as u32;
                    self.machine.release(stream, len);
                    (stream, end)
                }
                Ok(Event::Trailers { stream, .. }) => (stream, true),
                Ok(Event::Reset { stream, .. }) => {
                    if let Some(flight) = self.flights.remove(&stream) {
                        flight.fails(now, "stream reset", outcome);
                    }
                    continue;
                }
                Ok(_) => continue,
            };
            if end && let Some(flight) = self.flights.remove(&stream) {
                flight.ends(now, outcome);
            }
        }
    }
}

impl Flight {
    fn fails(self, now: u64, reason: &'static str, outcome: &mut Outcome) {
        let took = now.saturating_sub(self.due);
        outcome.on_verdict((self.segment, self.class), self.due, took, None, Verdict::Failed(reason));
    }

    fn ends(self, now: u64, outcome: &mut Outcome) {
        let verdict = match (self.status, self.completed) {
            (200..=299, Some(false)) => Verdict::Partial,
            (200..=299, _) => Verdict::Complete,
            (429 | 503, _) => Verdict::Rejected,
            _ => Verdict::Failed("other status"),
        };
        if self.status < 300 {
            outcome.tallies[self.segment][self.class].body_bytes += self.bytes;
        }
        let (took, service) = (now.saturating_sub(self.due), slowest(&self.lead).map(|us| us * 1000));
        outcome.on_verdict((self.segment, self.class), self.due, took, service, verdict);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Spread;
    use crate::upstreams::fixture::Shop;

    fn run(shop: &Shop, paths: &[&str]) -> Outcome {
        let address = SocketAddr::from(([127, 0, 0, 1], shop.base));
        let requests = paths.iter().enumerate().map(|(class, path)| ((*path).to_owned(), class)).collect();
        let profile = Profile { spread: Spread::Constant, ..Profile::steady(200.0, 0.5, 1) };
        Load::open(address, requests, 2, 1).unwrap().open_loop(&profile).unwrap()
    }

    #[test]
    fn small_and_large_answers_share_connections() {
        let outcome = run(&Shop::open(&[]), &["/s/1?bytes=1000&delay_ms=20", "/s/2?bytes=1000000"]);
        let (small, large) = (outcome.class(0), outcome.class(1));
        assert_eq!((small.sent + large.sent, small.complete + large.complete), (99, 99));
        assert!(small.sent > 20 && large.sent > 20 && large.body_bytes == large.sent * 1_000_000);
        assert_eq!((small.added.len(), large.added.len()), (small.sent, large.sent), "all told their services' time");
        assert!(small.total.value_at_quantile(0.01) >= 19_000_000, "the service takes its time");
        assert!(small.added.value_at_quantile(0.1) < 19_000_000, "which is not charged");
    }

    #[test]
    fn what_goes_wrong_is_counted() {
        let outcome = run(&Shop::open(&[("refused", "1")]), &["/svc/stock/"]);
        assert_eq!(outcome.whole().failed, [("stream reset", 99)].into());
        let outcome = run(&Shop::open(&[("errors", "1")]), &["/svc/stock/"]);
        assert_eq!(outcome.whole().failed, [("other status", 99)].into());
    }
}
