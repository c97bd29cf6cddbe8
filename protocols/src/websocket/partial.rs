//! What exists only while something is partial: a frame whose payload has not arrived in full, a message whose last
//! fragment has not arrived, or both.

use super::deflate::Inflation;
use super::frame::{FrameHeader, Opcode};
use super::mask::{rotated, unmask};
use super::utf8::check_grown;
use super::{Fault, Limits, MessageKind};
use crate::output::append;

/// The heap part of a machine, dropped as soon as nothing is partial.
#[derive(Debug)]
pub(super) struct Partial {
    /// When the first byte of whatever is partial was seen.
    pub(super) started: u64,
    pub(super) message: Option<Assembly>,
    pub(super) frame: Option<FrameProgress>,
}

impl Partial {
    pub(super) fn new(started: u64) -> Self {
        Self { started, message: None, frame: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.message.is_none() && self.frame.is_none()
    }

    /// Forgets the message, and the rest of the frame when it is part of one: after we sent a close frame, data is of
    /// no interest any more.
    pub(super) fn discard_message(&mut self) {
        self.message = None;
        if let Some(FrameProgress { target: target @ Target::Message, .. }) = &mut self.frame {
            *target = Target::Nothing;
        }
    }
}

/// A frame of which the header is known and `remaining` bytes are missing.
#[derive(Debug)]
pub(super) struct FrameProgress {
    pub(super) opcode: Opcode,
    pub(super) fin: bool,
    pub(super) target: Target,
    pub(super) remaining: u64,
    /// Aligned with the next byte.
    mask: Option<[u8; 4]>,
}

/// Where a frame's payload goes.
#[derive(Debug)]
pub(super) enum Target {
    /// Into the message under assembly.
    Message,
    /// Into these bytes, at most 125.
    Control(Vec<u8>),
    /// Nowhere: data after our own close frame.
    Nothing,
}

impl FrameProgress {
    pub(super) fn new(header: &FrameHeader, target: Target) -> Self {
        Self { opcode: header.opcode, fin: header.fin, target, remaining: header.len, mask: header.mask }
    }

    /// Takes the next part of the payload, unmasked in place first.
    ///
    /// # Errors
    ///
    /// When a text message is no longer UTF-8, or a compressed one no DEFLATE or too much.
    pub(super) fn recv(
        &mut self,
        limits: &Limits,
        bytes: &mut [u8],
        message: &mut Option<Assembly>,
    ) -> Result<(), Fault> {
        let mut is_ascii = false;
        if let Some(mask) = &mut self.mask {
            is_ascii = unmask(bytes, *mask);
            *mask = rotated(*mask, bytes.len());
        }
        match (&mut self.target, message) {
            (Target::Message, Some(message)) => {
                message.append(limits, bytes, is_ascii, self.fin.then_some(self.remaining))?;
            }
            (Target::Control(payload), _) => payload.extend_from_slice(bytes),
            _ => {}
        }
        self.remaining -= bytes.len() as u64;
        Ok(())
    }
}

/// A data message whose end has not arrived.
#[derive(Debug)]
pub(super) struct Assembly {
    body: Body,
    /// The compressed side of a compressed message.
    inflation: Option<Box<Inflation>>,
    fragments: u32,
}

impl Assembly {
    pub(super) fn new(kind: MessageKind, compressed: bool) -> Self {
        let body = Body { kind, bytes: Vec::new(), checked: 0 };
        Self { body, inflation: compressed.then(Box::default), fragments: 0 }
    }

    /// Heap bytes held.
    pub(super) fn heap_bytes(&self) -> usize {
        self.body.bytes.capacity() + self.inflation.as_ref().map_or(0, |inflation| inflation.heap_bytes())
    }

    /// Counts a fragment that declares `len` bytes, before anything of it is stored.
    pub(super) fn begin_fragment(&mut self, limits: &Limits, len: u64) -> Result<(), Fault> {
        let (before, most) = match &self.inflation {
            None => (self.body.bytes.len() as u64, limits.message_bytes_max),
            Some(inflation) => (inflation.received(), limits.compressed_bytes_max()),
        };
        let total = len.saturating_add(before);
        if total > most {
            return Err(Fault::MessageTooBig);
        }
        self.fragments = self.fragments.saturating_add(1);
        let beyond_free = u64::from(self.fragments.saturating_sub(limits.fragments_free.max(1)));
        if self.fragments > limits.fragments_max || total < beyond_free * u64::from(limits.fragment_bytes_mean_min) {
            return Err(Fault::TooManyFragments);
        }
        Ok(())
    }

    /// Appends payload. `is_ascii` may be false for ASCII too. `last` is how much the last fragment still brings, this
    /// part included, when it is the last.
    pub(super) fn append(
        &mut self,
        limits: &Limits,
        bytes: &[u8],
        is_ascii: bool,
        last: Option<u64>,
    ) -> Result<(), Fault> {
        match &mut self.inflation {
            None => self.body.append(bytes, is_ascii, last),
            Some(inflation) => inflation.recv(limits, bytes, last == Some(bytes.len() as u64), &mut self.body),
        }
    }

    /// The message, complete.
    ///
    /// # Errors
    ///
    /// When a text ends inside a character.
    pub(super) fn finish(self) -> Result<(MessageKind, Vec<u8>), Fault> {
        if self.body.checked < self.body.bytes.len() {
            return Err(Fault::InvalidUtf8);
        }
        Ok((self.body.kind, self.body.bytes))
    }
}

/// What a message says so far.
#[derive(Debug)]
pub(super) struct Body {
    kind: MessageKind,
    pub(super) bytes: Vec<u8>,
    /// How far the bytes are known to fit their kind: everything that is here, or a text up to an unfinished character.
    checked: usize,
}

impl Body {
    fn append(&mut self, bytes: &[u8], is_ascii: bool, last: Option<u64>) -> Result<(), Fault> {
        self.grow(bytes.len(), last);
        let is_checked = self.checked == self.bytes.len();
        append(&mut self.bytes, bytes);
        if is_ascii && is_checked {
            self.checked = self.bytes.len();
            return Ok(());
        }
        self.check()
    }

    /// Looks at what was appended.
    ///
    /// # Errors
    ///
    /// When a text is no longer UTF-8.
    pub(super) fn check(&mut self) -> Result<(), Fault> {
        if self.kind == MessageKind::Binary {
            self.checked = self.bytes.len();
            return Ok(());
        }
        check_grown(&self.bytes, &mut self.checked)
    }

    /// Makes room by doubling, so that memory stays in proportion to what has arrived; at a message's end no further
    /// than that end.
    fn grow(&mut self, incoming: usize, last: Option<u64>) {
        if self.bytes.capacity() - self.bytes.len() >= incoming {
            return;
        }
        let doubled = incoming.max(self.bytes.len());
        let needed = last.map_or(doubled, |remaining| usize::try_from(remaining).map_or(doubled, |n| n.min(doubled)));
        self.bytes.reserve_exact(needed);
    }
}
