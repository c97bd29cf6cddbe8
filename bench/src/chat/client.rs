//! One client of a fleet: a socket that does not block, the upgrade, joining, and what it hears.
//!
//! ```text
//!   Away ─► Connecting ─► Upgrading ─► Joining ─► Live
//!     ▲          └────────────┴───────────┴─────────┴──► a reason, and Away again
//!     └── the fleet says when to come back
//! ```

use super::book::Book;
use super::wire::{self, CONNECT_ID, Credentials, PONG, PUBLISH_IDS, Position, Said, Subscribed};
use crate::generator::{MASK, frame, source};
use crate::scanner;
use annulus_protocols::websocket::{MessageKind, write_pong};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

/// `EINPROGRESS` of Linux: what connecting without blocking answers.
const IN_PROGRESS: i32 = 115;
const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                       Sec-WebSocket-Version: 13\r\n\r\n";

/// What is spoken after the upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// The Centrifuge protocol.
    Centrifuge {
        /// Whether positions are asked for, and recovery after an absence.
        recoverable: bool,
    },
    /// Nothing to begin with: every message goes to everybody as it is.
    Raw,
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Without a connection.
    Away,
    /// Waits for the connection.
    Connecting,
    /// Waits for the answer to its upgrade.
    Upgrading,
    /// Waits for so many replies.
    Joining(usize),
    /// Subscribed.
    Live,
}

/// Why a connection is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gone {
    /// The upgrade was answered with 503.
    Busy,
    /// Anything else, in words.
    Because(String),
}

fn because(what: &str, error: &std::io::Error) -> Gone {
    Gone::Because(format!("{what}: {:?}", error.kind()))
}

/// A publish command without a reply.
struct Waiting {
    id: u32,
    number: u32,
    due: u64,
}

/// What a client needs of its fleet while it reads.
pub struct World<'a> {
    /// What is measured.
    pub book: &'a mut Book,
    /// Where sockets are read into.
    pub buffer: &'a mut [u8],
    /// The fleet's clock.
    pub clock: Instant,
    /// What is spoken.
    pub speech: Speech,
    /// Clients whose own publication came back.
    pub own: &'a mut Vec<usize>,
}

impl World<'_> {
    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }
}

/// A client.
pub struct Client {
    index: usize,
    /// Its room, as the tally counts them.
    pub room: usize,
    user: String,
    token: Option<String>,
    /// Channels with its positions; the first is the room's.
    channels: Vec<(String, Option<Position>)>,
    /// Where it is.
    pub phase: Phase,
    /// When this attempt, or this phase of it, began.
    pub since: u64,
    /// Attempts without a success.
    pub attempts: u32,
    stream: Option<TcpStream>,
    /// The start of a frame, or of a head, whose end has not come.
    carry: Vec<u8>,
    /// Bytes that the socket did not take.
    unsent: VecDeque<u8>,
    waiting: VecDeque<Waiting>,
    next_id: u32,
}

impl Client {
    /// A client that is away.
    pub fn new(index: usize, room: usize, channels: Vec<String>, token: Option<String>) -> Client {
        Client {
            index,
            room,
            user: format!("u{index}"),
            token,
            channels: channels.into_iter().map(|channel| (channel, None)).collect(),
            phase: Phase::Away,
            since: 0,
            attempts: 0,
            stream: None,
            carry: Vec::new(),
            unsent: VecDeque::new(),
            waiting: VecDeque::new(),
            next_id: PUBLISH_IDS,
        }
    }

    /// Begins to connect.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn connect(&mut self, now: u64, address: SocketAddr, registry: &Registry) -> Result<(), Gone> {
        self.since = now;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).map_err(|e| because("socket", &e))?;
        socket.set_nonblocking(true).map_err(|e| because("nonblocking", &e))?;
        socket.set_tcp_nodelay(true).map_err(|e| because("no delay", &e))?;
        socket.bind(&source(self.index).into()).map_err(|e| because("bind", &e))?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(IN_PROGRESS) => return Err(because("connect", &error)),
            _ => {}
        }
        let mut stream = TcpStream::from_std(socket.into());
        registry
            .register(&mut stream, Token(self.index), Interest::READABLE | Interest::WRITABLE)
            .map_err(|e| because("poll", &e))?;
        self.stream = Some(stream);
        self.phase = Phase::Connecting;
        Ok(())
    }

    /// Forgets its connection; what it had asked is not answered any more.
    pub fn leave(&mut self, book: &mut Book) {
        for waiting in self.waiting.drain(..) {
            book.tally.on_abandoned(self.room, waiting.number);
        }
        self.stream = None;
        self.carry.clear();
        self.unsent.clear();
        self.phase = Phase::Away;
    }

    /// Publishes; `number` is the publication's in this client's room.
    ///
    /// # Errors
    /// Why the connection is no more.
    pub fn publish(&mut self, number: u32, due: u64, data: &str) -> Result<(), Gone> {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1).max(PUBLISH_IDS);
        self.waiting.push_back(Waiting { id, number, due });
        let text = wire::publish(id, &self.channels[0].0, data);
        self.send(&frame(MessageKind::Text, text.as_bytes()))
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        self.unsent.extend(bytes);
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Gone> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while !self.unsent.is_empty() {
            match stream.write(self.unsent.as_slices().0) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(because("send", &error)),
            }
        }
        Ok(())
    }

    /// The socket takes bytes.
    ///
    /// # Errors
    /// Why the connection is no more.
    pub fn on_writable(&mut self, address: SocketAddr) -> Result<(), Gone> {
        if self.phase == Phase::Connecting {
            if let Some(error) = self.stream.as_ref().and_then(|stream| stream.take_error().ok().flatten()) {
                return Err(because("connect", &error));
            }
            self.phase = Phase::Upgrading;
            let request = format!("GET /connection/websocket HTTP/1.1\r\nHost: {address}\r\n{UPGRADE}");
            return self.send(request.as_bytes());
        }
        self.flush()
    }

    /// The socket has bytes: reads until it is empty.
    ///
    /// # Errors
    /// Why the connection is no more.
    pub fn on_readable(&mut self, world: &mut World<'_>) -> Result<(), Gone> {
        loop {
            let carried = self.carry.len();
            world.buffer[..carried].copy_from_slice(&self.carry);
            let Some(stream) = &mut self.stream else { return Ok(()) };
            let count = match stream.read(&mut world.buffer[carried..]) {
                Ok(0) => return Err(Gone::Because("the server closed without a word".into())),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(because("receive", &error)),
            };
            world.book.bytes += count as u64;
            let filled = carried + count;
            let buffer = std::mem::take(&mut world.buffer);
            let read = self.read(&buffer[..filled], world);
            let is_full = filled == buffer.len();
            world.buffer = buffer;
            read?;
            // A short read emptied the socket: another would only say so.
            if !is_full {
                return Ok(());
            }
        }
    }

    /// Reads what has come; what is incomplete is carried over.
    fn read(&mut self, mut bytes: &[u8], world: &mut World<'_>) -> Result<(), Gone> {
        if self.phase == Phase::Upgrading {
            let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
                self.carry = bytes.to_vec();
                return Ok(());
            };
            self.upgraded(&bytes[..end], world)?;
            bytes = &bytes[end + 4..];
        }
        let now = world.now();
        while let Some(found) = scanner::next(&mut bytes).map_err(Gone::Because)? {
            match found.opcode {
                1 | 2 => {
                    let mut rest = found.payload;
                    while let Some(at) = memchr::memchr(b'\n', rest) {
                        self.hear(&rest[..at], now, world)?;
                        rest = &rest[at + 1..];
                    }
                    self.hear(rest, now, world)?;
                }
                // RFC 6455 section 7.4: a code of two bytes comes first.
                8 => {
                    let code = found.payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                    return Err(Gone::Because(format!("closed with {code}")));
                }
                9 => {
                    let mut pong = Vec::new();
                    write_pong(&mut pong, found.payload, Some(MASK));
                    self.send(&pong)?;
                }
                _ => {}
            }
        }
        self.carry.clear();
        self.carry.extend_from_slice(bytes);
        Ok(())
    }

    /// The answer to the upgrade.
    fn upgraded(&mut self, head: &[u8], world: &mut World<'_>) -> Result<(), Gone> {
        let status = head.get(9..12).unwrap_or_default();
        match status {
            b"101" => {}
            b"503" => return Err(Gone::Busy),
            _ => return Err(Gone::Because(format!("refused with {}", String::from_utf8_lossy(status)))),
        }
        let now = world.now();
        world.book.times.handshake.saturating_record(now - self.since);
        self.since = now;
        let Speech::Centrifuge { recoverable } = world.speech else {
            self.phase = Phase::Live;
            return Ok(());
        };
        let credentials = self.token.as_deref().map_or(Credentials::Claim(&self.user), Credentials::Token);
        let join = wire::join(credentials, &self.channels, recoverable);
        self.phase = Phase::Joining(1 + self.channels.len());
        self.send(&frame(MessageKind::Text, join.as_bytes()))
    }

    #[inline]
    fn hear(&mut self, line: &[u8], now: u64, world: &mut World<'_>) -> Result<(), Gone> {
        match wire::said(line) {
            Said::Publication(stamp, offset) => {
                if let Some(due) = world.book.tally.on_publication(self.index, stamp, offset) {
                    world.book.times.on_delivery(due, now);
                }
                if let (Some(offset), Some(position)) = (offset, &mut self.channels[0].1) {
                    position.offset = offset;
                }
                if stamp.publisher as usize == self.index {
                    world.own.push(self.index);
                    // Whoever only broadcasts answers by that.
                    if world.speech == Speech::Raw {
                        self.waiting.retain(|waiting| waiting.number != stamp.number);
                        world.book.tally.on_answer(self.room, stamp.number, true);
                    }
                }
            }
            Said::Ping => self.send(&frame(MessageKind::Text, PONG))?,
            Said::Reply(id, error) if id >= PUBLISH_IDS => self.answered(id, error, now, world),
            Said::Reply(id, error) => self.joined(id, error, line, world)?,
            Said::Unsubscribed => {
                world.book.events.unsubscribed += 1;
                // What an SDK does with 2500: it subscribes again from where it is. Here the whole session does.
                return Err(Gone::Because("unsubscribed".into()));
            }
            Said::Other => {}
        }
        Ok(())
    }

    /// A publish command was answered.
    fn answered(&mut self, id: u32, error: Option<u32>, now: u64, world: &mut World<'_>) {
        // Replies come in the order of commands, so this looks at the first.
        let Some(at) = self.waiting.iter().position(|waiting| waiting.id == id) else { return };
        let Some(waiting) = self.waiting.remove(at) else { return };
        world.book.tally.on_answer(self.room, waiting.number, error.is_none());
        match error {
            None => world.book.times.acknowledgement.saturating_record(now.saturating_sub(waiting.due).max(1)),
            Some(code) => *world.book.events.errors.entry(code).or_default() += 1,
        }
    }

    /// A command of joining was answered.
    fn joined(&mut self, id: u32, error: Option<u32>, line: &[u8], world: &mut World<'_>) -> Result<(), Gone> {
        let Phase::Joining(left) = self.phase else { return Ok(()) };
        if let Some(code) = error {
            let what = if id == CONNECT_ID { "connect" } else { "subscribe" };
            return Err(Gone::Because(format!("{what} refused with {code}")));
        }
        if let Some(channel) = id.checked_sub(CONNECT_ID + 1) {
            self.subscribed(channel as usize, Subscribed::read(line).map_err(Gone::Because)?, world);
        }
        self.phase = match left {
            1 => {
                self.attempts = 0;
                world.book.times.joining.saturating_record(world.now() - self.since);
                Phase::Live
            }
            more => Phase::Joining(more - 1),
        };
        Ok(())
    }

    /// A channel's subscription begins, or goes on where it was.
    fn subscribed(&mut self, channel: usize, reply: Subscribed, world: &mut World<'_>) {
        let Some((_, at)) = self.channels.get_mut(channel) else { return };
        let Book { tally, events, .. } = &mut *world.book;
        if channel == 0 {
            if reply.was_recovering && reply.recovered {
                events.recovered += 1;
                events.caught_up += reply.missed.len() as u64;
            } else {
                events.unrecovered += u64::from(at.is_some());
                if let Some(Position { epoch, offset }) = &reply.position {
                    tally.on_position(self.index, epoch, *offset);
                }
            }
            for (stamp, offset) in &reply.missed {
                // Its time says how long the client was away, not how fast the server is.
                let _due = tally.on_publication(self.index, *stamp, Some(*offset));
            }
        }
        let last = reply.missed.last().map(|(_, offset)| *offset);
        *at = reply.position.map(|position| Position { offset: last.unwrap_or(position.offset), ..position });
    }
}
