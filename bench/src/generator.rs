//! The load: one thread on its own core, nonblocking sockets, frames encoded before the clock starts.
//!
//! It spins while it waits, so that its own wake-up does not count as the server's latency, and it records how late
//! it was itself: a run in which it could not keep its schedule gives no latency figure.

use crate::histogram::latencies;
use crate::record::{Interval, LATENESS_MAX_NS, Round, Usage, interval_of};
use crate::scanner;
use crate::schedule::Schedule;
use annulus_protocols::websocket::handshake::accept_key;
use annulus_protocols::websocket::{MessageKind, write_message};
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Sockets per source address: so few of its ports that the kernel finds a free one at once, even while as many linger
/// in TIME_WAIT.
const PER_SOURCE: usize = 1_000;
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The mask of all its frames.
pub const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const BUFFER_BYTES: usize = 512 * 1024;

/// The source address of a socket: the ports of one do not last for all.
pub fn source(index: usize) -> SocketAddr {
    (Ipv4Addr::new(127, 0, 0, 2 + (index / PER_SOURCE % 250) as u8), 0).into()
}

/// How long connecting may take: where packets are lost, nobody says so.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Opens one socket, through the handshake, blocking; `index` chooses the source address.
///
/// # Errors
/// A sentence: the connection or the upgrade was refused.
pub fn open(address: SocketAddr, path: &str, index: usize) -> Result<std::net::TcpStream, String> {
    let failed = |what: &str, error: std::io::Error| format!("socket {index}: {what}: {error}");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).map_err(|e| failed("create", e))?;
    // Elsewhere one address is enough, and those of the loopback lead nowhere.
    if address.ip().is_loopback() {
        socket.bind(&source(index).into()).map_err(|e| failed("bind", e))?;
    }
    socket.connect_timeout(&address.into(), CONNECT_MAX).map_err(|e| failed("connect", e))?;
    socket.set_tcp_nodelay(true).map_err(|e| failed("no delay", e))?;
    let mut stream: std::net::TcpStream = socket.into();
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(|e| failed("timeout", e))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(|e| failed("handshake", e))?;
    let (mut head, mut part) = (Vec::new(), [0; 1024]);
    // The server says nothing before we do, so nothing follows the head.
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut part).map_err(|e| failed("handshake", e))? {
            0 => return Err(format!("socket {index}: closed during the handshake")),
            count => head.extend_from_slice(&part[..count]),
        }
    }
    let accept = accept_key(KEY.as_bytes());
    if head.starts_with(b"HTTP/1.1 101") && head.windows(accept.len()).any(|window| window == accept) {
        Ok(stream)
    } else {
        Err(format!("socket {index}: refused: {}", String::from_utf8_lossy(&head).lines().next().unwrap_or_default()))
    }
}

/// A masked frame of the client.
pub fn frame(kind: MessageKind, payload: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    write_message(&mut encoded, kind, payload, Some(MASK));
    encoded
}

struct Conn {
    stream: TcpStream,
    /// The start of a frame whose end has not come.
    carry: Vec<u8>,
    /// Bytes the socket did not take.
    unsent: VecDeque<u8>,
    /// Intended times of messages under way.
    intended: VecDeque<u64>,
    frame: Vec<u8>,
}

impl Conn {
    fn send(&mut self) -> Result<(), String> {
        if !self.unsent.is_empty() {
            self.unsent.extend(&self.frame);
            return self.flush();
        }
        match self.stream.write(&self.frame) {
            Ok(count) => self.unsent.extend(&self.frame[count..]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.unsent.extend(&self.frame),
            Err(error) => return Err(format!("send: {error}")),
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        while !self.unsent.is_empty() {
            match self.stream.write(self.unsent.as_slices().0) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(format!("send: {error}")),
            }
        }
        Ok(())
    }
}

/// What a run measured at the client.
pub struct Outcome {
    /// Messages sent.
    pub sent: u64,
    /// Messages that came.
    pub received: u64,
    /// Seconds measured.
    pub seconds: f64,
    /// From intended send to arrival, in nanoseconds.
    pub latency: Histogram<u64>,
    /// From intended send to actual send, in nanoseconds.
    pub lateness: Histogram<u64>,
    /// Of an open loop, by intended time.
    pub intervals: Vec<Interval>,
}

impl Outcome {
    fn new() -> Outcome {
        let (latency, lateness) = (latencies(), latencies());
        Outcome { sent: 0, received: 0, seconds: 0.0, latency, lateness, intervals: Vec::new() }
    }

    /// As a round of a record, at so many messages per second.
    pub fn round(&self, offered_per_s: f64, usage: Vec<Usage>) -> Round {
        Round {
            seconds: self.seconds,
            offered_per_s,
            sent: self.sent,
            completed: self.received,
            latency: self.latency.clone(),
            lateness: self.lateness.clone(),
            intervals: self.intervals.clone(),
            usage,
            ..Round::default()
        }
    }

    /// A percentile of the latency in microseconds; none when the generator itself was too late.
    pub fn latency_us(&self, percentile: f64) -> Option<f64> {
        let honest = self.lateness.is_empty() || self.lateness.value_at_quantile(0.99) <= LATENESS_MAX_NS;
        (honest && !self.latency.is_empty()).then(|| self.latency.value_at_quantile(percentile / 100.0) as f64 / 1e3)
    }
}

/// Connected sockets under load.
pub struct Load {
    poll: Poll,
    events: Events,
    conns: Vec<Conn>,
    buffer: Vec<u8>,
    clock: Instant,
}

impl Load {
    /// Opens `count` sockets; each sends messages of `size` bytes that start with its own number.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(address: SocketAddr, count: usize, size: usize) -> Result<Load, String> {
        crate::placement::pin_generator();
        let poll = Poll::new().map_err(|error| error.to_string())?;
        let mut conns = Vec::with_capacity(count);
        for index in 0..count {
            let stream = open(address, "/", index)?;
            stream.set_nonblocking(true).map_err(|error| error.to_string())?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)
                .map_err(|error| error.to_string())?;
            let mut payload = vec![b'x'; size.max(4)];
            payload[..4].copy_from_slice(&(index as u32).to_be_bytes());
            let frame = frame(MessageKind::Binary, &payload);
            conns.push(Conn { stream, carry: Vec::new(), unsent: VecDeque::new(), intended: VecDeque::new(), frame });
        }
        let buffer = vec![0; BUFFER_BYTES];
        Ok(Load { poll, events: Events::with_capacity(1024), conns, buffer, clock: Instant::now() })
    }

    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// Open loop: messages leave when the schedule says, whatever comes back.
    ///
    /// # Errors
    /// A sentence: a socket failed.
    pub fn open_loop(&mut self, schedule: Schedule, seconds: f64) -> Result<Outcome, String> {
        self.clock = Instant::now();
        let end = (seconds * 1e9) as u64;
        let mut outcome = Outcome::new();
        let count = self.conns.len();
        for (index, due) in schedule.take_while(|&due| due < end).enumerate() {
            while self.now() < due {
                self.turn(Duration::ZERO, &mut outcome, false)?;
            }
            let conn = &mut self.conns[index % count];
            conn.intended.push_back(due);
            conn.send()?;
            outcome.sent += 1;
            interval_of(&mut outcome.intervals, due).offered += 1;
            let late = self.now().saturating_sub(due);
            outcome.lateness.saturating_record(late);
            // Behind schedule, answers must still be read now and then.
            if index % 64 == 63 {
                self.turn(Duration::ZERO, &mut outcome, false)?;
            }
        }
        let deadline = end + 2_000_000_000;
        while outcome.received < outcome.sent && self.now() < deadline {
            self.turn(Duration::from_millis(10), &mut outcome, false)?;
        }
        outcome.seconds = self.clock.elapsed().as_secs_f64();
        if outcome.received < outcome.sent {
            return Err(format!("{} of {} messages did not come back", outcome.sent - outcome.received, outcome.sent));
        }
        Ok(outcome)
    }

    /// Closed loop: each socket keeps one message in flight and sends its next when its own comes back.
    ///
    /// # Errors
    /// A sentence: a socket failed.
    pub fn closed_loop(&mut self, seconds: f64) -> Result<Outcome, String> {
        self.clock = Instant::now();
        let mut outcome = Outcome::new();
        for conn in &mut self.conns {
            conn.intended.push_back(0);
            conn.send()?;
            outcome.sent += 1;
        }
        while self.clock.elapsed().as_secs_f64() < seconds {
            self.turn(Duration::from_millis(100), &mut outcome, true)?;
        }
        outcome.seconds = self.clock.elapsed().as_secs_f64();
        Ok(outcome)
    }

    /// Reads until nothing has come for a while, so that the next run starts with empty pipes.
    ///
    /// # Errors
    /// A sentence: a socket failed.
    pub fn settle(&mut self) -> Result<(), String> {
        let mut outcome = Outcome::new();
        loop {
            let before = outcome.received;
            let quiet = Instant::now();
            while quiet.elapsed() < Duration::from_millis(200) {
                self.turn(Duration::from_millis(20), &mut outcome, false)?;
            }
            if outcome.received == before {
                self.conns.iter_mut().for_each(|conn| conn.intended.clear());
                return Ok(());
            }
        }
    }

    fn turn(&mut self, wait: Duration, outcome: &mut Outcome, again: bool) -> Result<(), String> {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other.map_err(|error| error.to_string())?,
        }
        for event in &self.events {
            let index = event.token().0;
            let conn = &mut self.conns[index];
            if event.is_writable() {
                conn.flush()?;
            }
            if event.is_readable() {
                receive(conn, index, &mut self.buffer, self.clock, outcome, again)?;
            }
        }
        Ok(())
    }
}

/// Reads a socket until it is empty.
fn receive(
    conn: &mut Conn,
    index: usize,
    buffer: &mut [u8],
    clock: Instant,
    outcome: &mut Outcome,
    again: bool,
) -> Result<(), String> {
    loop {
        let carried = conn.carry.len();
        buffer[..carried].copy_from_slice(&conn.carry);
        let count = match conn.stream.read(&mut buffer[carried..]) {
            Ok(0) => return Err(format!("the server closed socket {index}")),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(format!("receive: {error}")),
        };
        let now = clock.elapsed().as_nanos() as u64;
        let mut bytes = &buffer[..carried + count];
        while let Some(found) = scanner::next(&mut bytes)? {
            match found.opcode {
                1 | 2 => outcome.received += 1,
                8 => return Err(format!("the server closed socket {index}")),
                _ => continue,
            }
            let own = found.payload.first_chunk::<4>().is_some_and(|tag| u32::from_be_bytes(*tag) as usize == index);
            if !own {
                continue;
            }
            if let Some(intended) = conn.intended.pop_front() {
                let latency = now.saturating_sub(intended).max(1);
                outcome.latency.saturating_record(latency);
                if !again {
                    let interval = interval_of(&mut outcome.intervals, intended);
                    interval.completed += 1;
                    interval.latency.record(latency);
                }
            }
            if again {
                conn.intended.push_back(now);
                conn.send()?;
                outcome.sent += 1;
            }
        }
        conn.carry.clear();
        conn.carry.extend_from_slice(bytes);
        // A short read emptied the socket: another read would only say so.
        if carried + count < buffer.len() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_refused_when_the_generator_was_late() {
        let mut outcome = Outcome::new();
        assert_eq!(outcome.latency_us(99.0), None);
        outcome.latency.record(50_000).unwrap();
        outcome.lateness.record(1000).unwrap();
        assert!((outcome.latency_us(99.0).unwrap() - 50.0).abs() < 0.1);
        for _ in 0..10 {
            outcome.lateness.record(2 * LATENESS_MAX_NS).unwrap();
        }
        assert_eq!(outcome.latency_us(99.0), None);
    }
}
