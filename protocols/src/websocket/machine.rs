//! The machine of one connection: from received bytes to events, and the state of the close dance.
//!
//! ```text
//!              recv close                    write_close
//!       Open ------------> CloseReceived -----------------> Closed
//!        |  \ write_close                     recv close      ^
//!        |   `-----------> CloseSent ------------------------>|
//!        `- fault -------> Failed ------ write_close ---------'
//! ```
//!
//! Input is looked at in `Open` and `CloseSent` only. In `CloseSent` frames are still checked, but only the peer's close
//! frame is reported (RFC 6455 section 5.5.1: data after our close frame may be discarded).

use super::deflate::Agreement;
use super::frame::{FrameHeader, HEADER_BYTES_MAX, Opcode};
use super::mask::unmask;
use super::partial::{Assembly, FrameProgress, Partial, Target};
use super::utf8::check_whole;
use super::write::write_frame;
use super::{Close, CloseCode, Event, Fault, Limits, Message, MessageKind, Payload, Role};
use crate::Input;
use std::borrow::Cow;

/// Longest reason of a close frame: 125 bytes less the code.
const REASON_BYTES_MAX: usize = 123;

/// One WebSocket connection after its handshake, either role.
///
/// Idle it is a few plain bytes; it owns heap memory only while a frame or message is partial.
#[derive(Debug)]
pub struct WebSocket {
    partial: Option<Box<Partial>>,
    role: Role,
    phase: Phase,
    deflate: Option<Agreement>,
    held_len: u8,
    /// The beginning of a frame header whose end has not arrived.
    held: [u8; HEADER_BYTES_MAX],
}

const _: () = assert!(size_of::<WebSocket>() <= 32, "an idle connection must stay small");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    CloseSent,
    CloseReceived,
    Failed,
    Closed,
}

impl WebSocket {
    /// A connection whose handshake is done.
    pub const fn new(role: Role) -> Self {
        Self::open(role, None)
    }

    /// A connection whose handshake is done, and agreed on compression: the peer may send compressed messages.
    pub const fn with_deflate(role: Role, agreement: Agreement) -> Self {
        Self::open(role, Some(agreement))
    }

    const fn open(role: Role, deflate: Option<Agreement>) -> Self {
        Self { partial: None, role, phase: Phase::Open, deflate, held_len: 0, held: [0; HEADER_BYTES_MAX] }
    }

    /// Which end this is.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// What was agreed on compression: says which compressed messages may be sent.
    pub const fn deflate(&self) -> Option<Agreement> {
        self.deflate
    }

    /// Whether messages may be sent: neither end has closed, and the peer broke no rule.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether the close dance is over: both close frames passed, or ours answered a fault. What is left is to flush
    /// and to close the transport (the server first, RFC 6455 section 7.1.1).
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Whether a frame or message is partial, that is, whether the machine holds memory or an incomplete header.
    pub fn is_partial(&self) -> bool {
        self.partial.is_some() || self.held_len > 0
    }

    /// When the frame or message under assembly began, in the caller's milliseconds.
    pub fn assembly_started(&self) -> Option<u64> {
        self.partial.as_ref().map(|partial| partial.started)
    }

    /// Whether the frame or message under assembly takes longer than allowed. The caller looks at its own intervals and
    /// closes with [`CloseCode::POLICY`].
    pub fn is_overdue(&self, limits: &Limits, now: u64) -> bool {
        self.assembly_started().is_some_and(|started| now.saturating_sub(started) > limits.assembly_ms_max)
    }

    /// How many bytes of the current frame are still missing: lets the transport choose larger reads for a large frame.
    pub fn frame_bytes_missing(&self) -> Option<u64> {
        self.partial.as_ref()?.frame.as_ref().map(|frame| frame.remaining)
    }

    /// Heap bytes held for what is partial.
    pub fn heap_bytes(&self) -> usize {
        let Some(partial) = &self.partial else { return 0 };
        size_of::<Partial>() + partial.message.as_ref().map_or(0, Assembly::heap_bytes)
    }

    /// The next event from `input`. [`Event::NeedMore`] means that the input is used up.
    ///
    /// # Errors
    ///
    /// What the peer did wrong. The machine then discards all further input; answer with
    /// `write_close(out, Some(fault.close_code()), fault.reason(), mask)`.
    #[inline]
    pub fn next_event<'a>(&mut self, limits: &Limits, now: u64, input: &mut Input<'a>) -> Result<Event<'a>, Fault> {
        if !matches!(self.phase, Phase::Open | Phase::CloseSent) {
            input.take_rest();
            return Ok(Event::NeedMore);
        }
        if self.phase == Phase::Open && !self.is_partial() {
            if let Some((kind, payload, is_ascii)) = next_small_message(self.role, limits, input) {
                if kind == MessageKind::Text && !is_ascii && check_whole(payload).is_err() {
                    return Err(self.fail(Fault::InvalidUtf8));
                }
                return Ok(Event::Message(Message { kind, payload: Payload::Borrowed(payload) }));
            }
            if input.is_empty() {
                return Ok(Event::NeedMore);
            }
        }
        self.advance(limits, now, input).map_err(|fault| self.fail(fault))
    }

    /// Appends a close frame, unless one was sent before. A `reason` over 123 bytes is cut at a character boundary, and
    /// without a code it is left out. Returns whether anything was written.
    ///
    /// Answering the peer's close: pass on its code, or `None` when it sent none (RFC 6455 section 5.5.1).
    pub fn write_close(
        &mut self,
        out: &mut Vec<u8>,
        code: Option<CloseCode>,
        reason: &str,
        mask: Option<[u8; 4]>,
    ) -> bool {
        self.phase = match self.phase {
            Phase::Open => Phase::CloseSent,
            Phase::CloseReceived | Phase::Failed => Phase::Closed,
            Phase::CloseSent | Phase::Closed => return false,
        };
        if let Some(partial) = &mut self.partial {
            partial.discard_message();
        }
        self.drop_empty_partial();
        let mut payload = [0; 2 + REASON_BYTES_MAX];
        let mut len = 0;
        if let Some(code) = code {
            let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
            payload[..2].copy_from_slice(&code.get().to_be_bytes());
            payload[2..2 + reason.len()].copy_from_slice(reason.as_bytes());
            len = 2 + reason.len();
        }
        write_frame(out, true, Opcode::Close, &payload[..len], mask);
        true
    }

    #[cold]
    fn fail(&mut self, fault: Fault) -> Fault {
        self.phase = Phase::Failed;
        self.partial = None;
        self.held_len = 0;
        fault
    }

    fn advance<'a>(&mut self, limits: &Limits, now: u64, input: &mut Input<'a>) -> Result<Event<'a>, Fault> {
        loop {
            if self.partial.as_ref().is_some_and(|partial| partial.frame.is_some()) {
                match self.resume_frame(limits, input)? {
                    Resumed::Event(event) => return Ok(event),
                    Resumed::Done => {}
                    Resumed::Missing => return Ok(Event::NeedMore),
                }
            }
            let Some(header) = self.next_header(input)? else { return Ok(Event::NeedMore) };
            if let Some(event) = self.begin_frame(limits, now, &header, input)? {
                return Ok(event);
            }
        }
    }

    /// Takes a frame header, or holds the part of one.
    fn next_header(&mut self, input: &mut Input<'_>) -> Result<Option<FrameHeader>, Fault> {
        if self.held_len > 0 {
            return self.resume_header(input);
        }
        if let Some((header, len)) = FrameHeader::parse(input.rest(), self.role, self.deflate.is_some())? {
            input.take(len);
            return Ok(Some(header));
        }
        // Without a verdict there are fewer bytes than the longest header has.
        let rest = input.take_rest();
        self.held[..rest.len()].copy_from_slice(rest);
        self.held_len = rest.len() as u8;
        Ok(None)
    }

    /// Completes a held header byte by byte; there are at most thirteen to come.
    #[cold]
    fn resume_header(&mut self, input: &mut Input<'_>) -> Result<Option<FrameHeader>, Fault> {
        while let [byte] = input.take(1) {
            self.held[usize::from(self.held_len)] = *byte;
            self.held_len += 1;
            let held = &self.held[..usize::from(self.held_len)];
            if let Some((header, _)) = FrameHeader::parse(held, self.role, self.deflate.is_some())? {
                self.held_len = 0;
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    /// Starts a frame. What lies in the input as a whole becomes an event at once; the rest is remembered as partial.
    fn begin_frame<'a>(
        &mut self,
        limits: &Limits,
        now: u64,
        header: &FrameHeader,
        input: &mut Input<'a>,
    ) -> Result<Option<Event<'a>>, Fault> {
        let kind = match header.opcode {
            Opcode::Text => MessageKind::Text,
            Opcode::Binary => MessageKind::Binary,
            Opcode::Continuation => return self.begin_fragment(limits, now, header, None),
            Opcode::Close | Opcode::Ping | Opcode::Pong => return self.begin_control(now, header, input),
        };
        if header.fin && header.len <= input.len() as u64 && self.phase == Phase::Open && self.partial.is_none() {
            if header.compressed {
                return whole_compressed(limits, kind, header, input).map(Some);
            }
            if header.len > limits.message_bytes_max {
                return Err(Fault::MessageTooBig);
            }
            return whole_message(kind, header, input.take(header.len as usize)).map(Some);
        }
        self.begin_fragment(limits, now, header, Some(kind))
    }

    /// A data frame that is a fragment, or not here in full: its payload goes to the message under assembly. `kind` is
    /// absent for a continuation.
    #[cold]
    fn begin_fragment<'a>(
        &mut self,
        limits: &Limits,
        now: u64,
        header: &FrameHeader,
        kind: Option<MessageKind>,
    ) -> Result<Option<Event<'a>>, Fault> {
        let discards = self.phase == Phase::CloseSent;
        let partial = self.partial.get_or_insert_with(|| Box::new(Partial::new(now)));
        if discards {
            partial.frame = Some(FrameProgress::new(header, Target::Nothing));
            return Ok(None);
        }
        let message = match (kind, &mut partial.message) {
            (None, None) => return Err(Fault::StrayContinuation),
            (Some(_), Some(_)) => return Err(Fault::InterruptedMessage),
            (Some(kind), message) => message.insert(Assembly::new(kind, header.compressed)),
            (None, Some(message)) => message,
        };
        message.begin_fragment(limits, header.len)?;
        partial.frame = Some(FrameProgress::new(header, Target::Message));
        Ok(None)
    }

    fn begin_control<'a>(
        &mut self,
        now: u64,
        header: &FrameHeader,
        input: &mut Input<'a>,
    ) -> Result<Option<Event<'a>>, Fault> {
        // A control frame's length was checked with its header, so it fits.
        let len = header.len as usize;
        if input.len() < len {
            let partial = self.partial.get_or_insert_with(|| Box::new(Partial::new(now)));
            partial.frame = Some(FrameProgress::new(header, Target::Control(Vec::with_capacity(len))));
            return Ok(None);
        }
        let payload = input.take(len);
        if let Some(mask) = header.mask {
            unmask(payload, mask);
        }
        self.on_control(header.opcode, Payload::Borrowed(payload))
    }

    /// Gives more bytes to the frame under way.
    fn resume_frame<'a>(&mut self, limits: &Limits, input: &mut Input<'a>) -> Result<Resumed<'a>, Fault> {
        let Some(partial) = &mut self.partial else { return Ok(Resumed::Done) };
        let Some(frame) = &mut partial.frame else { return Ok(Resumed::Done) };
        let part = input.take(usize::try_from(frame.remaining).unwrap_or(usize::MAX));
        frame.recv(limits, part, &mut partial.message)?;
        if frame.remaining > 0 {
            return Ok(Resumed::Missing);
        }
        let Some(FrameProgress { opcode, fin, target, .. }) = partial.frame.take() else { return Ok(Resumed::Done) };
        let message = if fin && matches!(target, Target::Message) { partial.message.take() } else { None };
        self.drop_empty_partial();
        if let Target::Control(payload) = target {
            let event = self.on_control(opcode, Payload::Owned(payload))?;
            return Ok(event.map_or(Resumed::Done, Resumed::Event));
        }
        let Some(message) = message else { return Ok(Resumed::Done) };
        let (kind, bytes) = message.finish()?;
        Ok(Resumed::Event(Event::Message(Message { kind, payload: Payload::Owned(bytes) })))
    }

    /// A whole control frame. After our own close frame only the peer's is of interest.
    fn on_control<'a>(&mut self, opcode: Opcode, payload: Payload<'a>) -> Result<Option<Event<'a>>, Fault> {
        match opcode {
            Opcode::Close => {
                let close = parse_close(payload)?;
                self.phase = if self.phase == Phase::CloseSent { Phase::Closed } else { Phase::CloseReceived };
                self.partial = None;
                Ok(Some(Event::Close(close)))
            }
            _ if self.phase == Phase::CloseSent => Ok(None),
            Opcode::Ping => Ok(Some(Event::Ping(payload))),
            _ => Ok(Some(Event::Pong(payload))),
        }
    }

    fn drop_empty_partial(&mut self) {
        if self.partial.as_ref().is_some_and(|partial| partial.is_empty()) {
            self.partial = None;
        }
    }
}

/// What became of the frame under way.
enum Resumed<'a> {
    Event(Event<'a>),
    /// Complete, and nothing to report.
    Done,
    /// The input is used up.
    Missing,
}

/// Takes a message that lies in the input as one whole frame with a length of at most two bytes: nearly all traffic, so
/// this path keeps everything in registers. Whatever else there is, violations included, is left to the general path.
/// Says also whether the payload is known to be ASCII.
#[inline]
fn next_small_message<'a>(
    role: Role,
    limits: &Limits,
    input: &mut Input<'a>,
) -> Option<(MessageKind, &'a mut [u8], bool)> {
    let rest = input.rest();
    let kind = match rest.first()? {
        0x81 => MessageKind::Text,
        0x82 => MessageKind::Binary,
        _ => return None,
    };
    let mask_bytes = if role == Role::Server { 4 } else { 0 };
    // The mask bit must be what the role asks for.
    let (len, len_bytes) = match rest.get(1)? ^ if role == Role::Server { 0x80 } else { 0 } {
        short @ 0..126 => (usize::from(short), 0),
        126 => (usize::from(u16::from_be_bytes(*rest.get(2..)?.first_chunk()?)), 2),
        _ => return None,
    };
    let header_bytes = 2 + len_bytes + mask_bytes;
    let is_minimal = len_bytes == 0 || len >= 126;
    if !is_minimal || header_bytes + len > rest.len() || len as u64 > limits.message_bytes_max {
        return None;
    }
    let header = input.take(header_bytes);
    let payload = input.take(len);
    let is_ascii = match header.last_chunk() {
        Some(mask) if role == Role::Server => unmask(payload, *mask),
        _ => false,
    };
    Some((kind, payload, is_ascii))
}

/// A message in one frame that lies in the input as a whole.
fn whole_message<'a>(kind: MessageKind, header: &FrameHeader, payload: &'a mut [u8]) -> Result<Event<'a>, Fault> {
    let is_ascii = match header.mask {
        Some(mask) => unmask(payload, mask),
        None => false,
    };
    if kind == MessageKind::Text && !is_ascii {
        check_whole(payload)?;
    }
    Ok(Event::Message(Message { kind, payload: Payload::Borrowed(payload) }))
}

/// A compressed message in one frame that lies in the input as a whole.
fn whole_compressed<'a>(
    limits: &Limits,
    kind: MessageKind,
    header: &FrameHeader,
    input: &mut Input<'a>,
) -> Result<Event<'a>, Fault> {
    let mut message = Assembly::new(kind, true);
    message.begin_fragment(limits, header.len)?;
    let payload = input.take(header.len as usize);
    if let Some(mask) = header.mask {
        unmask(payload, mask);
    }
    message.append(limits, payload, false, Some(header.len))?;
    let (kind, bytes) = message.finish()?;
    Ok(Event::Message(Message { kind, payload: Payload::Owned(bytes) }))
}

/// RFC 6455 section 5.5.1: nothing, or a code of two bytes and a reason in UTF-8.
fn parse_close(payload: Payload<'_>) -> Result<Close<'_>, Fault> {
    let code = match *payload {
        [] => None,
        [_] => return Err(Fault::ShortClose),
        [high, low, ..] => Some(CloseCode::new(u16::from_be_bytes([high, low])).ok_or(Fault::InvalidCloseCode)?),
    };
    let at = payload.len().min(2);
    let reason = match payload {
        Payload::Borrowed(bytes) => std::str::from_utf8(&bytes[at..]).map(Cow::Borrowed),
        Payload::Owned(bytes) => std::str::from_utf8(&bytes[at..]).map(|reason| Cow::Owned(reason.to_owned())),
    };
    Ok(Close { code, reason: reason.map_err(|_| Fault::InvalidUtf8)? })
}
