//! One HTTP/2 connection, either end.
//!
//! ```text
//!   input ─► header ─┬─► DATA: handed out as it comes ──────────────► Event::Data
//!                    └─► anything else: gathered, then acted upon ──► Event::Head, Reset, GoAway, …
//!                                  └─► answers to it (ACKs, credit, resets) ─► pending ─► write_pending
//! ```
//!
//! Invariants:
//! * For the connection and for each stream: what the peer may send + what the caller has not released + what was
//!   released and not yet granted = the window that we announced. It holds for streams that were reset as well: what
//!   still comes on them is granted again at once.
//! * Every field block is decoded, also one for a stream that is gone: the tables stay in step.
//! * What was under way when a stream was reset, or when we said farewell, is no fault. Anything else on a closed stream
//!   is.
//! * After a fault nothing is read any more; a GOAWAY is pending.

mod receive;
mod send;

use std::collections::VecDeque;

use super::Limits;
use super::fault::{ErrorCode, Fault, fault};
use super::fields::Fields;
use super::floods::Floods;
use super::frame::{self, HEADER_BYTES, Header, PAYLOAD_BYTES_MAX, PREFACE, WINDOW_INITIAL, WINDOW_MAX};
use super::head::Head;
use super::hpack::{Decoder, Encoder};
use super::streams::{Late, Streams};
use crate::Input;

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Opens streams.
    Client,
    /// Answers them.
    Server,
}

/// Streams that a client opens before it has heard of a limit (RFC 9113 section 6.5.2 recommends no less).
const STREAMS_ASSUMED: u32 = 100;
/// Room for fields and control frames beyond this is given back once they are written.
const ROOM_BYTES_KEPT: usize = 4096;

/// One thing that arrived.
#[derive(Debug)]
#[must_use]
pub enum Event<'a> {
    /// The input is used up; feed more.
    NeedMore,
    /// A message begins: a request at a server, the final answer at a client.
    Head {
        /// Whose.
        stream: u32,
        /// What it says.
        head: Head,
        /// Whether that is all of the message.
        end: bool,
    },
    /// The next part of a body. Give its length to [`Connection::release`] once it is used, whatever became of the
    /// stream.
    Data {
        /// Whose.
        stream: u32,
        /// The bytes, possibly none at the end.
        bytes: &'a [u8],
        /// Whether that is the end of the message.
        end: bool,
    },
    /// Fields after a body; the end of the message.
    Trailers {
        /// Whose.
        stream: u32,
        /// What they say.
        fields: Fields,
    },
    /// A stream is gone before its end.
    Reset {
        /// Which.
        stream: u32,
        /// Why.
        code: ErrorCode,
        /// Whether the peer certainly did not act on it: the request may be sent again elsewhere.
        unprocessed: bool,
        /// What the peer did wrong, where it was we who reset it.
        fault: Option<&'static str>,
    },
    /// The peer will take no streams above this one. Those we had opened are told as [`Event::Reset`].
    GoAway {
        /// The last stream that it may have acted on.
        last: u32,
        /// Why.
        code: ErrorCode,
    },
    /// Windows or the limit of streams have grown: what waited may go on.
    Writable,
    /// The answer to [`Connection::ping`].
    Pong(u64),
}

/// Why a stream cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// As many are open as the peer allows.
    Full,
    /// The peer goes away, or the connection is broken.
    Closing,
    /// There are no ids left: use a new connection.
    Exhausted,
}

/// What comes next on the wire.
#[derive(Debug)]
enum Reading {
    /// A client's preface, of which so many bytes were seen.
    Preface(usize),
    Header {
        bytes: [u8; HEADER_BYTES],
        have: usize,
    },
    /// The length of a DATA frame's padding.
    PadLength {
        header: Header,
    },
    Data(DataFrame),
    Payload {
        header: Header,
        gathered: Vec<u8>,
    },
    /// Nothing more is read.
    Closed,
}

const NEXT: Reading = Reading::Header { bytes: [0; HEADER_BYTES], have: 0 };

#[derive(Clone, Copy, Debug)]
struct DataFrame {
    stream: u32,
    left: usize,
    padding: usize,
    end: bool,
    /// The stream is gone: the bytes are granted again and not handed out.
    discarded: bool,
}

/// A field block whose frames are not all here.
#[derive(Debug)]
struct Block {
    stream: u32,
    end: bool,
    bytes: Vec<u8>,
    continuations: u32,
}

/// What the peer allows.
#[derive(Debug)]
struct Peer {
    /// Its SETTINGS have come.
    greeted: bool,
    streams_max: u32,
    window: i64,
    payload_max: usize,
}

/// What our GOAWAY said.
#[derive(Clone, Copy, Debug)]
struct Farewell {
    /// The last stream that is served.
    last: u32,
    code: ErrorCode,
}

/// See the module's description.
pub struct Connection {
    role: Role,
    reading: Reading,
    block: Option<Block>,
    streams: Streams,
    decoder: Decoder,
    encoder: Encoder,
    scratch: Vec<u8>,
    pending: Vec<u8>,
    peer: Peer,
    acknowledged: bool,
    /// Since when that is waited for, by [`Connection::on_clock`].
    unacknowledged_since: Option<u64>,
    stream_window: u32,
    connection_window: u32,
    send_window: i64,
    recv_window: i64,
    credit: u32,
    next_id: u32,
    /// The highest stream that the peer has used.
    last_peer_id: u32,
    /// Ids that the peer passed over lately, without an end: it must not come back to them.
    passed_over: std::ops::Range<u32>,
    farewell: Option<Farewell>,
    /// The code of the peer's GOAWAY.
    peer_farewell: Option<ErrorCode>,
    /// Streams lost by a GOAWAY, to be told.
    lost: VecDeque<u32>,
    late: Late,
    /// Streams that we reset of our own accord.
    own_resets: u64,
    floods: Floods,
}

impl Connection {
    /// The end that opens streams. Begin with [`Connection::write_preface`].
    pub fn client(limits: &Limits) -> Connection {
        Connection::new(Role::Client, limits)
    }

    /// The end that answers them. Begin with [`Connection::write_preface`].
    pub fn server(limits: &Limits) -> Connection {
        Connection::new(Role::Server, limits)
    }

    fn new(role: Role, limits: &Limits) -> Connection {
        let (initial, most) = (WINDOW_INITIAL as u32, WINDOW_MAX as u32);
        let connection_window = limits.connection_window_bytes.clamp(initial, most);
        Connection {
            role,
            reading: if role == Role::Server { Reading::Preface(0) } else { NEXT },
            block: None,
            streams: Streams::default(),
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            scratch: Vec::new(),
            pending: Vec::new(),
            peer: Peer {
                greeted: false,
                streams_max: STREAMS_ASSUMED,
                window: WINDOW_INITIAL,
                payload_max: PAYLOAD_BYTES_MAX,
            },
            acknowledged: false,
            unacknowledged_since: None,
            stream_window: limits.stream_window_bytes.min(most),
            connection_window,
            send_window: WINDOW_INITIAL,
            recv_window: i64::from(connection_window),
            credit: 0,
            next_id: 1,
            last_peer_id: 0,
            passed_over: 0..0,
            farewell: None,
            peer_farewell: None,
            lost: VecDeque::new(),
            late: Late::default(),
            own_resets: 0,
            floods: Floods::default(),
        }
    }

    /// Appends what this end begins with: a client's preface, our settings, and the connection's window.
    pub fn write_preface(&mut self, limits: &Limits, out: &mut Vec<u8>) {
        let mut settings = Vec::with_capacity(32);
        let list = u32::try_from(limits.list_bytes_max).unwrap_or(u32::MAX);
        frame::write_setting(&mut settings, frame::SETTINGS_INITIAL_WINDOW_SIZE, self.stream_window);
        frame::write_setting(&mut settings, frame::SETTINGS_MAX_HEADER_LIST_SIZE, list);
        match self.role {
            Role::Client => {
                out.extend_from_slice(PREFACE);
                frame::write_setting(&mut settings, frame::SETTINGS_ENABLE_PUSH, 0);
            }
            Role::Server => {
                frame::write_setting(&mut settings, frame::SETTINGS_MAX_CONCURRENT_STREAMS, limits.streams_max);
                frame::write_setting(&mut settings, frame::SETTINGS_NO_RFC7540_PRIORITIES, 1);
            }
        }
        frame::write_header(out, settings.len(), frame::SETTINGS, 0, 0);
        out.extend_from_slice(&settings);
        let more = self.connection_window - WINDOW_INITIAL as u32;
        if more > 0 {
            frame::write_window_update(out, 0, more);
        }
    }

    /// Appends what the machine itself has to say. To be called after each round of [`Connection::next_event`]. Whatever
    /// else is written brings it along in front: what makes use of new settings must not come before their
    /// acknowledgement (section 6.5.3).
    pub fn write_pending(&mut self, out: &mut Vec<u8>) {
        if self.pending.is_empty() {
            return;
        }
        out.append(&mut self.pending);
        if self.pending.capacity() > ROOM_BYTES_KEPT {
            self.pending = Vec::new();
        }
    }

    /// Whether [`Connection::write_pending`] would append something.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The next event from `input`. [`Event::NeedMore`] means that the input is used up.
    ///
    /// # Errors
    ///
    /// What the peer did wrong. A GOAWAY is pending; send it and close. All streams are lost.
    pub fn next_event<'a>(&mut self, limits: &Limits, now: u64, input: &mut Input<'a>) -> Result<Event<'a>, Fault> {
        let outcome = self.step(limits, now, input);
        if let Err(fault) = &outcome {
            self.reading = Reading::Closed;
            self.go_away(fault.code, fault.what);
        }
        outcome
    }

    /// Time has passed: to be called every second or so, also where nothing arrives.
    ///
    /// # Errors
    ///
    /// The peer has not done in time what it must, as in [`Connection::next_event`].
    pub fn on_clock(&mut self, limits: &Limits, now: u64) -> Result<(), Fault> {
        if self.acknowledged || self.is_closed() {
            return Ok(());
        }
        let since = *self.unacknowledged_since.get_or_insert(now);
        if now.saturating_sub(since) <= limits.ack_ms_max {
            return Ok(());
        }
        let fault = fault(ErrorCode::SETTINGS_TIMEOUT, "does not acknowledge our settings");
        self.reading = Reading::Closed;
        self.go_away(fault.code, fault.what);
        Err(fault)
    }

    fn step<'a>(&mut self, limits: &Limits, now: u64, input: &mut Input<'a>) -> Result<Event<'a>, Fault> {
        if let Some(stream) = self.lost.pop_front() {
            return Ok(Event::Reset { stream, code: ErrorCode::REFUSED_STREAM, unprocessed: true, fault: None });
        }
        loop {
            if self.pending.len() > limits.pending_bytes_max && !self.is_closed() {
                return Err(fault(ErrorCode::ENHANCE_YOUR_CALM, "asks for answers and does not read them"));
            }
            if input.is_empty() && !self.is_frame_complete() {
                return Ok(Event::NeedMore);
            }
            match &mut self.reading {
                Reading::Closed => {
                    input.take_rest();
                    return Ok(Event::NeedMore);
                }
                Reading::Preface(have) => {
                    let bytes = input.take(PREFACE.len() - *have);
                    if *bytes != PREFACE[*have..*have + bytes.len()] {
                        return Err(fault(ErrorCode::PROTOCOL_ERROR, "does not begin as an HTTP/2 client does"));
                    }
                    *have += bytes.len();
                    if *have == PREFACE.len() {
                        self.reading = NEXT;
                    }
                }
                Reading::Header { bytes, have } => {
                    let part = input.take(HEADER_BYTES - *have);
                    bytes[*have..*have + part.len()].copy_from_slice(part);
                    *have += part.len();
                    if *have == HEADER_BYTES {
                        // Sooner than what these letters would mean as a frame's head: whoever looks for the error is told it.
                        if !self.peer.greeted && bytes.starts_with(b"HTTP/1.") {
                            return Err(fault(ErrorCode::PROTOCOL_ERROR, "answers in HTTP/1 what was asked in HTTP/2"));
                        }
                        let header = Header::read(bytes);
                        if let Some(event) = self.begin_frame(limits, now, header)? {
                            return Ok(event);
                        }
                    }
                }
                Reading::PadLength { header } => {
                    let (header, padding) = (*header, input.take(1).first().copied().map_or(0, usize::from));
                    if padding >= header.len {
                        return Err(fault(ErrorCode::PROTOCOL_ERROR, "pads a frame beyond its length"));
                    }
                    self.grant_back(header.stream, padding as u32 + 1);
                    if let Some(event) = self.begin_body(limits, now, header, header.len - 1 - padding, padding)? {
                        return Ok(event);
                    }
                }
                Reading::Data(_) => {
                    if let Some(event) = self.data(input) {
                        return Ok(event);
                    }
                }
                Reading::Payload { header, gathered } => {
                    let (header, missing) = (*header, header.len - gathered.len());
                    let event = if gathered.is_empty() && input.len() >= missing {
                        let payload = input.take(missing);
                        self.reading = NEXT;
                        self.on_frame(limits, now, header, payload)?
                    } else {
                        gathered.extend_from_slice(input.take(missing));
                        if gathered.len() < header.len {
                            continue;
                        }
                        let payload = std::mem::take(gathered);
                        self.reading = NEXT;
                        self.on_frame(limits, now, header, &payload)?
                    };
                    if let Some(event) = event {
                        return Ok(event);
                    }
                }
            }
        }
    }

    /// Whether the frame under way needs no more bytes.
    fn is_frame_complete(&self) -> bool {
        match &self.reading {
            Reading::Data(data) => data.left + data.padding == 0,
            Reading::Payload { header, gathered } => header.len == gathered.len(),
            _ => false,
        }
    }
}

/// What a request begins with.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    /// The method.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host and port.
    pub authority: &'a str,
    /// Path and query, percent-encoded.
    pub path: &'a str,
}
