//! The load on a gateway: one thread, HTTP/1.1 connections kept alive, requests encoded before the clock starts.
//!
//! ```text
//!   due ─► an idle connection, or a new one ─► Busy ─► answer ─► tally ─► idle
//!                                               └─► time-out, close ─► tally, connection gone
//! ```
//!
//! The loop is open: a request leaves when it is due, whatever is still under way, on as many connections as that
//! takes. The services share the generator's core, so it sleeps until the next request is due (by a timer of the
//! kernel's, exact to microseconds) instead of spinning, and says how late it was.

use super::answer::{Answer, AnswerReader};
use super::tally::{Outcome, Verdict};
use crate::alarm::{Alarm, TIMER};
use crate::random::Random;
use crate::schedule::profile::Profile;
use mio::net::TcpStream;
use mio::{Events, Interest, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// How long an answer may take unless [`Load::answer_max`] says otherwise.
pub const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Connections at once. Beyond, requests fail.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Connections per source address: well below the ports of one.
const PER_SOURCE: usize = 8_000;
const BUFFER_BYTES: usize = 512 * 1024;
/// Requests sent before answers are looked for again.
const SENDS_PER_TURN: usize = 32;
/// Digits of a mark.
const MARK_DIGITS: usize = 16;

/// A request as it is sent.
#[derive(Clone, Debug)]
pub struct Request {
    bytes: Vec<u8>,
    mark_at: Option<usize>,
    class: usize,
}

impl Request {
    /// A GET of `path`, counted under `class`.
    pub fn get(host: SocketAddr, path: &str, class: usize) -> Request {
        let bytes = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n\r\n").into_bytes();
        Request { bytes, mark_at: None, class }
    }

    /// The same by a client that takes answers compressed by gzip.
    pub fn get_gzip(host: SocketAddr, path: &str, class: usize) -> Request {
        let mut request = Request::get(host, path, class);
        request.bytes.truncate(request.bytes.len() - 2);
        request.bytes.extend_from_slice(b"Accept-Encoding: gzip\r\n\r\n");
        request
    }

    /// A POST with a mark that no other has, by which a service sees that it comes twice.
    pub fn post(host: SocketAddr, path: &str, class: usize) -> Request {
        let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nX-Bench-Mark: ");
        let rest = "\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{\"quantity\":1}";
        let bytes = format!("{head}{:0MARK_DIGITS$}{rest}", 0).into_bytes();
        Request { bytes, mark_at: Some(head.len()), class }
    }
}

/// A request under way.
struct Flight {
    due: u64,
    segment: usize,
    request: usize,
    mark: u64,
}

enum State {
    Idle,
    Busy(Flight),
}

struct Conn {
    stream: TcpStream,
    connected: bool,
    state: State,
    reader: AnswerReader,
    unsent: Vec<u8>,
    /// Requests carried before this one.
    carried: u64,
    /// Tells requests of one slot apart.
    serial: u64,
}

/// When requests leave.
enum Pace<'a> {
    Open(&'a mut dyn Iterator<Item = (u64, usize)>),
    /// So many at once, each followed by the next until this time.
    Closed {
        at_once: usize,
        until: u64,
    },
}

impl Pace<'_> {
    fn next(&mut self) -> Option<(u64, usize)> {
        match self {
            Pace::Open(times) => times.next(),
            Pace::Closed { .. } => None,
        }
    }
}

/// The generator with its connections, which stay open from run to run.
pub struct Load {
    /// How long an answer may take. Beyond: a failure, and the connection is closed.
    pub answer_max: Duration,
    address: SocketAddr,
    requests: Vec<Request>,
    alarm: Alarm,
    conns: Vec<Option<Conn>>,
    vacant: Vec<usize>,
    idle: Vec<usize>,
    /// Deadlines of requests under way, in order, with the serial of the request.
    deadlines: VecDeque<(u64, usize, u64)>,
    busy: usize,
    buffer: Vec<u8>,
    clock: Instant,
    random: Random,
    serial: u64,
    mark: u64,
}

impl Load {
    /// A generator of `requests`, each equally likely.
    ///
    /// # Errors
    /// A sentence: the kernel grants no poll or timer.
    pub fn new(address: SocketAddr, requests: Vec<Request>, seed: u64) -> Result<Load, String> {
        let (alarm, clock) = (Alarm::new()?, Instant::now());
        Ok(Load {
            answer_max: ANSWER_MAX,
            address,
            requests,
            alarm,
            conns: Vec::new(),
            vacant: Vec::new(),
            idle: Vec::new(),
            deadlines: VecDeque::new(),
            busy: 0,
            buffer: vec![0; BUFFER_BYTES],
            clock,
            random: Random::new(seed),
            serial: 0,
            // Marks of different runs on one shop must differ too.
            mark: seed << 40,
        })
    }

    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    fn classes(&self) -> usize {
        self.requests.iter().map(|request| request.class + 1).max().unwrap_or(1)
    }

    /// Sends by the profile and waits for what is under way.
    ///
    /// # Errors
    /// A sentence: the kernel refused something that is not the server's fault.
    pub fn open_loop(&mut self, profile: &Profile) -> Result<Outcome, String> {
        let mut outcome = Outcome::new(profile.segments.len(), self.classes());
        self.clock = Instant::now();
        self.run(Pace::Open(&mut profile.times()), &mut outcome)?;
        Ok(outcome)
    }

    /// Keeps `at_once` requests under way for some seconds.
    ///
    /// # Errors
    /// As [`Load::open_loop`].
    pub fn closed_loop(&mut self, at_once: usize, seconds: f64) -> Result<Outcome, String> {
        let mut outcome = Outcome::new(1, self.classes());
        self.clock = Instant::now();
        self.run(Pace::Closed { at_once, until: (seconds * 1e9) as u64 }, &mut outcome)?;
        Ok(outcome)
    }

    fn run(&mut self, mut pace: Pace<'_>, outcome: &mut Outcome) -> Result<(), String> {
        let mut events = Events::with_capacity(1024);
        let mut next = pace.next();
        loop {
            let mut now = self.now();
            for _ in 0..SENDS_PER_TURN {
                let Some((due, segment)) = next.filter(|(due, _)| *due <= now) else { break };
                self.depart(due, segment, outcome);
                now = self.now();
                outcome.lateness.saturating_record(now - due);
                next = pace.next();
            }
            if let Pace::Closed { at_once, until } = pace
                && now < until
            {
                (self.busy..at_once).for_each(|_| self.depart(now, 0, outcome));
            }
            self.expire(now, outcome);
            if next.is_none() && self.busy == 0 {
                break;
            }
            let ahead = next.map(|(due, _)| due.saturating_sub(self.now()));
            self.alarm.wait(&mut events, ahead)?;
            for event in &events {
                if event.token() != TIMER {
                    self.on_event(event.token().0, outcome);
                }
            }
        }
        outcome.seconds = self.clock.elapsed().as_secs_f64();
        Ok(())
    }

    /// Sends the next request, drawn at random.
    fn depart(&mut self, due: u64, segment: usize, outcome: &mut Outcome) {
        let request = self.random.below(self.requests.len());
        self.mark += 1;
        outcome.tallies[segment][self.requests[request].class].sent += 1;
        self.send(Flight { due, segment, request, mark: self.mark }, outcome);
    }

    fn send(&mut self, flight: Flight, outcome: &mut Outcome) {
        let of = (flight.segment, self.requests[flight.request].class);
        let Some(index) = self.free_conn(outcome) else {
            return outcome.on_verdict(of, flight.due, 0, None, Verdict::Failed("without a connection"));
        };
        let Some(conn) = &mut self.conns[index] else { return };
        self.serial += 1;
        conn.serial = self.serial;
        let request = &self.requests[flight.request];
        conn.unsent.clear();
        conn.unsent.extend_from_slice(&request.bytes);
        if let Some(at) = request.mark_at {
            let digits = format!("{:0MARK_DIGITS$x}", flight.mark);
            conn.unsent[at..at + MARK_DIGITS].copy_from_slice(digits.as_bytes());
        }
        let deadline = self.clock.elapsed().as_nanos() as u64 + self.answer_max.as_nanos() as u64;
        self.deadlines.push_back((deadline, index, self.serial));
        conn.state = State::Busy(flight);
        self.busy += 1;
        if conn.connected && !flush(conn) {
            self.lose(index, "closed", outcome);
        }
    }

    /// A connection that carries nothing: the one used last, which is the warmest, or a new one.
    fn free_conn(&mut self, outcome: &mut Outcome) -> Option<usize> {
        while let Some(index) = self.idle.pop() {
            if matches!(&self.conns[index], Some(Conn { state: State::Idle, .. })) {
                return Some(index);
            }
        }
        let index = self.vacant.pop().unwrap_or(self.conns.len());
        if index >= CONNECTIONS_MAX {
            return None;
        }
        let mut stream = connect(self.address, index).ok()?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.alarm.poll.registry().register(&mut stream, Token(index), interest).ok()?;
        outcome.opened += 1;
        let conn = Conn {
            stream,
            connected: false,
            state: State::Idle,
            reader: AnswerReader::default(),
            unsent: Vec::new(),
            carried: 0,
            serial: 0,
        };
        if index == self.conns.len() {
            self.conns.push(Some(conn));
        } else {
            self.conns[index] = Some(conn);
        }
        Some(index)
    }

    fn on_event(&mut self, index: usize, outcome: &mut Outcome) {
        let Some(conn) = self.conns.get_mut(index).and_then(Option::as_mut) else { return };
        if !conn.connected {
            // Writable and without an error: connected. Else `flush` or `read` says what is wrong.
            conn.connected = conn.stream.peer_addr().is_ok();
        }
        if conn.connected && !flush(conn) {
            return self.lose(index, "closed", outcome);
        }
        loop {
            let Some(conn) = self.conns[index].as_mut() else { return };
            let read = conn.stream.read(&mut self.buffer);
            let answer = match read {
                Ok(0) => return self.on_end(index, outcome),
                Ok(count) => conn.reader.recv(&self.buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    return self.lose(index, "refused", outcome);
                }
                Err(error) if error.kind() == ErrorKind::NotConnected && !conn.connected => return,
                Err(_) => return self.lose(index, "reset", outcome),
            };
            match answer {
                Ok(Some(answer)) => self.on_answer(index, answer, outcome),
                Ok(None) => {}
                Err(wrong) => return self.lose(index, wrong, outcome),
            }
        }
    }

    fn on_end(&mut self, index: usize, outcome: &mut Outcome) {
        let Some(conn) = self.conns[index].as_mut() else { return };
        match (conn.reader.on_end(), &conn.state) {
            (Ok(answer), State::Busy(_)) => self.on_answer(index, answer, outcome),
            (Err(wrong), State::Busy(_)) => self.lose(index, wrong, outcome),
            (_, State::Idle) => self.drop_conn(index),
        }
    }

    fn on_answer(&mut self, index: usize, answer: Answer, outcome: &mut Outcome) {
        let now = self.now();
        let Some(conn) = self.conns[index].as_mut() else { return };
        let State::Busy(flight) = std::mem::replace(&mut conn.state, State::Idle) else {
            // An answer that nobody asked for.
            return self.drop_conn(index);
        };
        conn.carried += 1;
        self.busy -= 1;
        let of = (flight.segment, self.requests[flight.request].class);
        let verdict = match (answer.status, answer.completed) {
            (200..=299, Some(false)) => Verdict::Partial,
            (200..=299, _) => Verdict::Complete,
            (429 | 503, _) => Verdict::Rejected,
            (500, _) => Verdict::Failed("status 500"),
            (502, _) => Verdict::Failed("status 502"),
            (504, _) => Verdict::Failed("status 504"),
            _ => Verdict::Failed("other status"),
        };
        if answer.status < 300 {
            outcome.tallies[of.0][of.1].body_bytes += answer.body_bytes as u64;
        }
        let service = answer.service_us.map(|us| us * 1000);
        outcome.on_verdict(of, flight.due, now.saturating_sub(flight.due), service, verdict);
        if answer.closes {
            self.drop_conn(index);
        } else {
            self.idle.push(index);
        }
    }

    /// The connection is of no more use, and neither is what it carried. A request that the server cannot have seen,
    /// because it closed a connection kept alive, goes out again as every client sends it.
    fn lose(&mut self, index: usize, reason: &'static str, outcome: &mut Outcome) {
        let Some(conn) = self.conns[index].as_mut() else { return };
        let state = std::mem::replace(&mut conn.state, State::Idle);
        let unseen = conn.carried > 0 && !conn.reader.has_begun() && reason != "timeout";
        self.drop_conn(index);
        let State::Busy(flight) = state else { return };
        self.busy -= 1;
        let request = &self.requests[flight.request];
        if unseen && request.mark_at.is_none() {
            outcome.resent += 1;
            return self.send(flight, outcome);
        }
        let took = self.now().saturating_sub(flight.due);
        outcome.on_verdict((flight.segment, request.class), flight.due, took, None, Verdict::Failed(reason));
    }

    fn drop_conn(&mut self, index: usize) {
        if self.conns[index].take().is_some() {
            self.vacant.push(index);
        }
    }

    /// Gives up what took too long.
    fn expire(&mut self, now: u64, outcome: &mut Outcome) {
        while let Some(&(deadline, index, serial)) = self.deadlines.front() {
            let waits = matches!(&self.conns[index], Some(conn) if conn.serial == serial && matches!(conn.state, State::Busy(_)));
            if waits && deadline > now {
                return;
            }
            self.deadlines.pop_front();
            if waits {
                self.lose(index, "timeout", outcome);
            }
        }
    }
}

/// Sends what waits. False when the connection is broken.
fn flush(conn: &mut Conn) -> bool {
    while !conn.unsent.is_empty() {
        match conn.stream.write(&conn.unsent) {
            Ok(count) => drop(conn.unsent.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(_) => return false,
        }
    }
    true
}

/// Begins to connect; `index` chooses the source address.
fn connect(address: SocketAddr, index: usize) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.ip().is_loopback() && address.is_ipv4() {
        let source = Ipv4Addr::new(127, 0, 0, 2 + (index / PER_SOURCE % 250) as u8);
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::tally::{Tally, percentile_ms};
    use crate::schedule::Spread;
    use crate::schedule::profile::Segment;
    use crate::upstreams::fixture::Shop;

    fn load(shop: &Shop, paths: &[&str]) -> Load {
        let address = SocketAddr::from(([127, 0, 0, 1], shop.base));
        let requests = paths.iter().enumerate().map(|(class, path)| match path.starts_with("/svc/payments") {
            true => Request::post(address, path, class),
            false => Request::get(address, path, class),
        });
        Load::new(address, requests.collect(), 1).unwrap()
    }

    /// Half a second of evenly spaced requests, and all of them together.
    fn steady(shop: &Shop, paths: &[&str], rate: f64) -> (Outcome, Tally) {
        let profile = Profile { spread: Spread::Constant, ..Profile::steady(rate, 0.5, 1) };
        let outcome = load(shop, paths).open_loop(&profile).unwrap();
        let whole = outcome.whole();
        assert_eq!(whole.sent, whole.answered() + whole.rejected + whole.failures(), "every request has one verdict");
        (outcome, whole)
    }

    #[test]
    fn the_services_time_is_not_charged_to_the_gateway() {
        let shop = Shop::open(&[]);
        let (outcome, whole) = steady(&shop, &["/s/1?bytes=1000&delay_ms=50", "/s/2?bytes=90000&delay_ms=10"], 400.0);
        assert_eq!((whole.sent, whole.complete, outcome.lateness.len()), (199, 199, 199));
        let (slow, fast) = (&outcome.tallies[0][0], &outcome.tallies[0][1]);
        assert!(slow.sent > 50 && fast.sent > 50, "both are asked");
        assert!(percentile_ms(&slow.total, 1.0).unwrap() >= 49.9 && percentile_ms(&fast.total, 1.0).unwrap() >= 9.9);
        let added = percentile_ms(&whole.added, 10.0).unwrap();
        assert!(added < 9.0, "a service's time was counted as added: {added} ms");
        assert_eq!(fast.body_bytes, fast.sent * 90_000);
    }

    #[test]
    fn segments_follow_one_another_and_connections_are_kept() {
        let shop = Shop::open(&[]);
        let segment = |rate| Segment { rate, seconds: 0.3 };
        let segments = vec![segment(100.0), segment(500.0), segment(100.0)];
        let mut load = load(&shop, &["/s/0?delay_ms=5"]);
        let outcome = load.open_loop(&Profile { segments, spread: Spread::Constant, seed: 1 }).unwrap();
        assert_eq!([0, 1, 2].map(|number| outcome.segment(number).complete), [29, 149, 29]);
        assert!(outcome.opened < 207, "no connection was used twice");
        let again = load.closed_loop(1, 0.1).unwrap();
        assert_eq!(again.opened, 0);
    }

    #[test]
    fn a_closed_loop_keeps_so_many_under_way() {
        let shop = Shop::open(&[]);
        let outcome = load(&shop, &["/s/0?delay_ms=20"]).closed_loop(10, 0.5).unwrap();
        // Ten at a time, of 20 ms or more each.
        assert!((10..=260).contains(&outcome.whole().complete), "{}", outcome.whole().complete);
        assert_eq!(outcome.opened, 10);
    }

    #[test]
    fn what_goes_wrong_is_told_apart() {
        let reasons = |settings: &[(&str, &str)]| {
            let shop = Shop::open(settings);
            steady(&shop, &["/svc/stock/"], 100.0).1.failed
        };
        assert_eq!(reasons(&[("errors", "1")]), [("status 500", 49)].into());
        assert_eq!(reasons(&[("resets", "1")]), [("closed in the middle of an answer", 49)].into());
        // A connection's first request that goes unanswered is not tried again.
        assert_eq!(reasons(&[("refused", "1")]).values().sum::<u64>(), 49);
    }

    #[test]
    fn silence_ends_with_patience() {
        let shop = Shop::open(&[("stalls", "1")]);
        let mut load = load(&shop, &["/svc/stock/"]);
        load.answer_max = Duration::from_millis(200);
        let outcome = load.open_loop(&Profile { spread: Spread::Constant, ..Profile::steady(50.0, 0.2, 1) }).unwrap();
        assert_eq!(outcome.whole().failed, [("timeout", 9)].into());
        assert!(outcome.seconds < 5.0, "{}", outcome.seconds);
    }

    #[test]
    fn retired_connections_are_replaced_and_marks_differ() {
        let shop = Shop::open(&[("goaway_every", "2")]);
        let (outcome, whole) = steady(&shop, &["/svc/payments/authorise"], 100.0);
        assert_eq!((whole.complete, whole.failures()), (49, 0));
        assert!(outcome.opened >= 24, "{}", outcome.opened);
        assert_eq!(shop.control()["repeated"], 0);
    }

    #[test]
    fn a_get_that_the_server_cannot_have_seen_goes_out_again() {
        let shop = Shop::open(&[]);
        let mut load = load(&shop, &["/svc/stock/"]);
        load.closed_loop(4, 0.1).unwrap();
        // One in four: a request that goes out on a new connection, or again, fails no more often, and most come through.
        shop.ask(shop.base, "POST /control", r#"{"refused": 0.25}"#);
        let outcome = load.open_loop(&Profile::steady(200.0, 0.5, 1)).unwrap();
        let whole = outcome.whole();
        assert!(
            outcome.resent > 0 && whole.complete > whole.failures(),
            "{} {}",
            outcome.resent,
            whole.failures_text()
        );
    }
}
