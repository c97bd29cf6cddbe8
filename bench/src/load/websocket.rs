//! One WebSocket (RFC 6455) that sends messages and looks at what comes back.
//!
//! An echoed message carries who sent it and its number, so that a lost, misplaced or altered one is seen:
//!
//! ```text
//!   3 9 a 2 0 0 0 1   0 0 0 0 0 0 1 f   x x x x ...
//!   socket            number            filler up to --size
//! ```

use super::flight::{Flight, Verdict, reason};
use super::request::Requests;
use super::wire::{Broken, Wire};
use crate::random::Random;
use annulus_protocols::Input;
use annulus_protocols::http1::{self, Client, ClientEvent};
use annulus_protocols::websocket::handshake::{check_accept, write_request};
use annulus_protocols::websocket::{Event, Limits, MessageKind, Role, WebSocket as Machine, write_message, write_pong};
use std::collections::VecDeque;

/// Bytes of an echoed message that say whose it is.
pub const STAMP_BYTES: usize = 16;
/// Largest message, as a server may have it.
pub const SIZE_MAX: usize = 64 << 20;
/// Bytes that wait for a server which does not read. Beyond, messages wait without being encoded.
const BACKLOG_BYTES_MAX: usize = 1 << 20;
const LIMITS: Limits = Limits::with_message_bytes_max(SIZE_MAX as u64);
const HTTP_LIMITS: http1::Limits = http1::Limits { head_bytes_max: 64 << 10, ..http1::Limits::DEFAULT };
/// A frame that the protocol forbids.
const BROKE: &str = "broke the WebSocket protocol";
/// The server said farewell.
const FAREWELL: &str = "WebSocket closed by the server";

/// What a message is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The same message.
    Echo,
    /// Any message; the first answers the first.
    Any,
    /// Nothing: it is done once the socket has taken it.
    Nothing,
}

/// What is sent, and what should come back.
#[derive(Clone, Debug)]
pub struct Messages {
    /// Payload bytes.
    pub size: usize,
    /// Binary instead of text.
    pub is_binary: bool,
    /// What a message is answered with.
    pub expect: Expect,
    /// Subprotocols to offer.
    pub protocols: Vec<String>,
}

enum Phase {
    Opening { client: Client, nonce: [u8; 16] },
    Open(Machine),
    Done,
}

/// See the module's description.
pub struct WebSocket {
    messages: Messages,
    phase: Phase,
    out: Vec<u8>,
    payload: Vec<u8>,
    stamp: u32,
    /// Of the next message.
    number: u32,
    /// Under way, with their numbers, which grow.
    flights: VecDeque<(u32, Flight)>,
    random: Random,
    /// Why it was not granted.
    pub trouble: Option<String>,
}

impl WebSocket {
    /// Asks for one. `stamp` is its own, and `seed` makes its masks.
    pub fn new(messages: &Messages, requests: &Requests, request: usize, stamp: u32, seed: u64) -> WebSocket {
        let mut random = Random::new(seed);
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&random.bits().to_le_bytes());
        nonce[8..].copy_from_slice(&random.bits().to_le_bytes());
        let mut client = Client::new();
        let _always_idle = client.on_request("GET");
        let fields: Vec<(&str, &str)> =
            requests.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let protocols: Vec<&str> = messages.protocols.iter().map(String::as_str).collect();
        let mut out = Vec::new();
        write_request(&mut out, &requests.all[request].target, &requests.authority, nonce, &protocols, &fields);
        WebSocket {
            payload: vec![b'x'; messages.size],
            messages: messages.clone(),
            phase: Phase::Opening { client, nonce },
            out,
            stamp,
            number: 0,
            flights: VecDeque::new(),
            random,
            trouble: None,
        }
    }

    /// Whether messages can be sent.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// Whether it is over.
    pub fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    /// Messages that may be sent now.
    pub fn room(&self, wire: &Wire) -> usize {
        if self.is_open() && wire.backlog() + self.out.len() < BACKLOG_BYTES_MAX { usize::MAX } else { 0 }
    }

    /// Messages under way.
    pub fn busy(&self) -> usize {
        self.flights.len()
    }

    /// Puts a message into what is sent with the next [`WebSocket::flush`].
    pub fn send(&mut self, flight: Flight) {
        if self.payload.len() >= STAMP_BYTES {
            write_hex(&mut self.payload[..8], self.stamp);
            write_hex(&mut self.payload[8..STAMP_BYTES], self.number);
        }
        let kind = if self.messages.is_binary { MessageKind::Binary } else { MessageKind::Text };
        let mask = (self.random.bits() >> 32) as u32;
        write_message(&mut self.out, kind, &self.payload, Some(mask.to_ne_bytes()));
        self.flights.push_back((self.number, flight));
        self.number = self.number.wrapping_add(1);
    }

    /// Gives the wire what waits.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn flush(&mut self, wire: &mut Wire) -> Result<(), Broken> {
        if self.out.is_empty() {
            return Ok(());
        }
        let sent = wire.send(&self.out);
        self.out.clear();
        sent
    }

    /// The wire has had its turn: where nothing is expected, messages are done once it has given everything away.
    pub fn on_flushed(&mut self, wire: &Wire, verdicts: &mut Vec<(Flight, Verdict)>) {
        if self.messages.expect == Expect::Nothing && wire.is_drained() {
            verdicts.extend(self.flights.drain(..).map(|(_, flight)| (flight, Verdict::Answered(0))));
        }
    }

    /// Takes received bytes.
    ///
    /// # Errors
    /// What is wrong with them: the connection is of no more use.
    pub fn recv(
        &mut self,
        bytes: &mut [u8],
        now: u64,
        verdicts: &mut Vec<(Flight, Verdict)>,
        oddities: &mut Vec<&'static str>,
    ) -> Result<(), &'static str> {
        let mut input = Input::new(bytes);
        if let Phase::Opening { client, nonce } = &mut self.phase {
            loop {
                match client.next_event(&HTTP_LIMITS, now / 1_000_000, &mut input) {
                    Ok(ClientEvent::NeedMore) => return Ok(()),
                    Ok(ClientEvent::Head(head)) => {
                        let protocols: Vec<&str> = self.messages.protocols.iter().map(String::as_str).collect();
                        if let Err(rejection) = check_accept(&head, *nonce, &protocols) {
                            self.trouble = Some(rejection.to_string());
                            return Err(reason::HANDSHAKE);
                        }
                    }
                    Ok(ClientEvent::End) => break,
                    Ok(_) => {}
                    Err(fault) => {
                        self.trouble = Some(format!("what it answered is no HTTP: {fault}"));
                        return Err(reason::HANDSHAKE);
                    }
                }
            }
            self.phase = Phase::Open(Machine::new(Role::Client));
        }
        loop {
            let Phase::Open(machine) = &mut self.phase else { return Ok(()) };
            match machine.next_event(&LIMITS, now / 1_000_000, &mut input).map_err(|_fault| BROKE)? {
                Event::NeedMore => return Ok(()),
                Event::Message(message) => {
                    let payload = message.payload;
                    self.on_message(&payload, verdicts, oddities);
                }
                Event::Ping(payload) => {
                    let mask = (self.random.bits() >> 32) as u32;
                    write_pong(&mut self.out, &payload, Some(mask.to_ne_bytes()));
                }
                Event::Pong(_) => {}
                Event::Close(close) => {
                    let mask = (self.random.bits() >> 32) as u32;
                    machine.write_close(&mut self.out, close.code, "", Some(mask.to_ne_bytes()));
                    self.phase = Phase::Done;
                    self.on_gone(FAREWELL, verdicts);
                    return Ok(());
                }
            }
        }
    }

    fn on_message(&mut self, payload: &[u8], verdicts: &mut Vec<(Flight, Verdict)>, oddities: &mut Vec<&'static str>) {
        match self.messages.expect {
            Expect::Nothing => {}
            Expect::Any => match self.flights.pop_front() {
                Some((_, flight)) => verdicts.push((flight, Verdict::Answered(0))),
                None => oddities.push("messages that nobody asked for"),
            },
            Expect::Echo => {
                let stamp = payload.first_chunk::<STAMP_BYTES>().and_then(|stamp| {
                    let (socket, number) = stamp.split_at(8);
                    Some((read_hex(socket)?, read_hex(number)?))
                });
                let Some((_, number)) = stamp.filter(|(socket, _)| *socket == self.stamp) else {
                    return oddities.push("messages of other senders");
                };
                let Ok(at) = self.flights.binary_search_by_key(&number, |(number, _)| *number) else {
                    return oddities.push("echoes that came late or twice");
                };
                let Some((_, flight)) = self.flights.remove(at) else { return };
                let is_same =
                    payload.len() == self.payload.len() && payload[STAMP_BYTES..] == self.payload[STAMP_BYTES..];
                verdicts.push((
                    flight,
                    match (is_same, at) {
                        (false, _) => Verdict::Failed(reason::ALTERED),
                        (true, 0) => Verdict::Answered(0),
                        (true, _) => Verdict::Failed(reason::MISORDERED),
                    },
                ));
            }
        }
    }

    /// It is gone, and with it what was under way.
    pub fn on_gone(&mut self, why: &'static str, verdicts: &mut Vec<(Flight, Verdict)>) {
        verdicts.extend(self.flights.drain(..).map(|(_, flight)| (flight, Verdict::Failed(why))));
    }

    /// Whether a message is still under way.
    pub fn carries(&self, serial: u64) -> bool {
        self.flights.binary_search_by_key(&serial, |(_, flight)| flight.serial).is_ok()
    }

    /// Gives a message up.
    pub fn expire(&mut self, serial: u64) -> Option<Flight> {
        let at = self.flights.binary_search_by_key(&serial, |(_, flight)| flight.serial).ok()?;
        self.flights.remove(at).map(|(_, flight)| flight)
    }
}

fn write_hex(to: &mut [u8], number: u32) {
    for (index, digit) in to.iter_mut().enumerate() {
        let nibble = (number >> (28 - 4 * index)) as u8 & 15;
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    }
}

fn read_hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, &digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u32::from(nibble))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::request::Asked;
    use crate::load::url::Url;
    use annulus_protocols::websocket::{Role, write_fragment};

    fn flight(serial: u64) -> Flight {
        Flight { due: serial, sent: serial, serial, request: 0, resent: false }
    }

    fn open(expect: Expect) -> WebSocket {
        let requests = Requests::new(&[(None, Url::parse("ws://a/").unwrap())], &Asked::default()).unwrap();
        let messages = Messages { size: 20, is_binary: false, expect, protocols: Vec::new() };
        let mut socket = WebSocket::new(&messages, &requests, 0, 0x39a2_0001, 7);
        socket.phase = Phase::Open(Machine::new(Role::Client));
        socket.out.clear();
        socket
    }

    /// What the messages under way look like to the server.
    fn payloads(socket: &mut WebSocket) -> Vec<Vec<u8>> {
        let mut server = Machine::new(Role::Server);
        let mut sent = std::mem::take(&mut socket.out);
        let mut input = Input::new(&mut sent);
        let mut all = Vec::new();
        while let Event::Message(message) = server.next_event(&LIMITS, 0, &mut input).unwrap() {
            all.push(message.payload.into_vec());
        }
        all
    }

    fn feed(socket: &mut WebSocket, wire: &mut [u8]) -> (Vec<(u64, Verdict)>, Vec<&'static str>) {
        let (mut verdicts, mut oddities) = (Vec::new(), Vec::new());
        socket.recv(wire, 0, &mut verdicts, &mut oddities).unwrap();
        (verdicts.into_iter().map(|(flight, verdict)| (flight.serial, verdict)).collect(), oddities)
    }

    fn echo(payload: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        write_message(&mut wire, MessageKind::Text, payload, None);
        wire
    }

    #[test]
    fn echoes_are_told_apart() {
        let mut socket = open(Expect::Echo);
        (0..4).for_each(|serial| socket.send(flight(serial)));
        let sent = payloads(&mut socket);
        assert_eq!(sent[3], b"39a2000100000003xxxx");
        assert_eq!(feed(&mut socket, &mut echo(&sent[0])).0, [(0, Verdict::Answered(0))]);
        assert_eq!(feed(&mut socket, &mut echo(&sent[2])).0, [(2, Verdict::Failed(reason::MISORDERED))]);
        assert_eq!(feed(&mut socket, &mut echo(&sent[0])).1, ["echoes that came late or twice"]);
        let foreign = [&b"00000000"[..], &sent[1][8..]].concat();
        assert_eq!(feed(&mut socket, &mut echo(&foreign)).1, ["messages of other senders"]);
        let altered = [&sent[1][..19], b"y"].concat();
        assert_eq!(feed(&mut socket, &mut echo(&altered)).0, [(1, Verdict::Failed(reason::ALTERED))]);
        assert!(socket.carries(3) && socket.expire(3) == Some(flight(3)) && !socket.carries(3));
        assert_eq!(feed(&mut socket, &mut echo(&sent[3])).1, ["echoes that came late or twice"]);
    }

    #[test]
    fn fragments_are_joined_and_pings_are_answered() {
        let mut socket = open(Expect::Echo);
        socket.send(flight(0));
        let sent = payloads(&mut socket).remove(0);
        let mut wire = Vec::new();
        write_fragment(&mut wire, MessageKind::Text, true, false, &sent[..7], None);
        annulus_protocols::websocket::write_ping(&mut wire, b"are you there", None);
        write_fragment(&mut wire, MessageKind::Text, false, true, &sent[7..], None);
        assert_eq!(feed(&mut socket, &mut wire).0, [(0, Verdict::Answered(0))]);
        let mut server = Machine::new(Role::Server);
        let Event::Pong(payload) = server.next_event(&LIMITS, 0, &mut Input::new(&mut socket.out)).unwrap() else {
            panic!("no pong")
        };
        assert_eq!(&payload[..], b"are you there");
    }

    #[test]
    fn any_answer_is_the_next_ones_and_a_farewell_ends_all() {
        let mut socket = open(Expect::Any);
        (0..2).for_each(|serial| socket.send(flight(serial)));
        assert_eq!(feed(&mut socket, &mut echo(b"whatever")).0, [(0, Verdict::Answered(0))]);
        let mut close = Vec::new();
        Machine::new(Role::Server).write_close(&mut close, None, "", None);
        assert_eq!(feed(&mut socket, &mut close).0, [(1, Verdict::Failed(FAREWELL))]);
        assert!(socket.is_done() && socket.busy() == 0);
    }

    #[test]
    fn masked_frames_of_a_server_are_a_fault() {
        let mut socket = open(Expect::Any);
        let mut wire = Vec::new();
        write_message(&mut wire, MessageKind::Text, b"masked", Some([1, 2, 3, 4]));
        assert_eq!(socket.recv(&mut wire, 0, &mut Vec::new(), &mut Vec::new()), Err(BROKE));
    }

    #[test]
    fn numbers_are_written_as_they_are_read() {
        let mut digits = [0; 8];
        for number in [0, 1, 0x1234_5678, 0xdead_beef, u32::MAX] {
            write_hex(&mut digits, number);
            assert_eq!(read_hex(&digits), Some(number));
        }
        assert_eq!(read_hex(b"0000000X"), None);
    }
}
