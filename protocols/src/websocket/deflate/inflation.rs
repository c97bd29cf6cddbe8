//! A compressed message on its way in: compressed bytes are gathered into blocks, blocks are inflated into the message.
//!
//! ```text
//!  pieces of any size --> gathered, less than a block --> inflater --> Body
//! ```
//!
//! Invariants: the inflater exists from the first block to the message's end; it is fed the same blocks however the bytes
//! arrived, so verdicts do not depend on the split; the message never holds more than the limits allow, whatever the
//! compressed bytes would make of themselves.

use super::super::partial::Body;
use super::super::{Fault, Limits};
use super::{TAIL, WINDOW_BITS_MAX};
use std::fmt;
use zlib_rs::{Inflate, InflateFlush, Status};

/// How many compressed bytes are inflated at a time. Until so many have come a message costs what it sent, and no
/// inflater, which is twelve times as large.
const BLOCK_BYTES: usize = 4096;

/// What an inflater holds: a window of 32 KiB and its tables.
const INFLATER_BYTES: usize = 48 << 10;

/// Most bytes that are inflated in one call: output is cleared before it is written.
const STEP_BYTES_MAX: usize = 64 << 10;

/// Room for output below which more is allocated.
const SPARE_BYTES_MIN: usize = 256;

/// How much more a text is, usually, than its compressed form: the first guess at a message's size.
const EXPANSION_GUESS: usize = 4;

/// Most blocks of one message that may be marked as final, and be followed by more. Each makes the inflater start anew
/// with a window that is copied. Beyond it: close 1007.
const RESTARTS_MAX: u32 = 64;

/// What follows a message's last byte: the tail that the sender took off, and an empty final block. A whole message has
/// given all its output before; one that was cut off within a stored block takes some of this for its own, or does not
/// reach the final block.
const END: [u8; 9] = [TAIL[0], TAIL[1], TAIL[2], TAIL[3], 0x01, 0x00, 0x00, 0xff, 0xff];

/// The compressed side of a message under assembly.
#[derive(Default)]
pub(in super::super) struct Inflation {
    inflater: Option<Inflate>,
    gathered: Vec<u8>,
    /// Compressed bytes that came, gathered ones included.
    received: u64,
    /// Compressed bytes that were given to the inflater.
    inflated: u64,
    /// The last block was marked as final.
    ended: bool,
    restarts: u32,
}

impl Inflation {
    /// Compressed bytes that have arrived.
    pub(in super::super) fn received(&self) -> u64 {
        self.received
    }

    /// Heap bytes held.
    pub(in super::super) fn heap_bytes(&self) -> usize {
        let inflater = if self.inflater.is_some() { INFLATER_BYTES } else { 0 };
        size_of::<Self>() + self.gathered.capacity() + inflater
    }

    /// Takes the next compressed bytes; `is_last` when no more come.
    ///
    /// # Errors
    ///
    /// When they are no DEFLATE, make more than is allowed, or make a text that is not UTF-8.
    pub(in super::super) fn recv(
        &mut self,
        limits: &Limits,
        bytes: &[u8],
        is_last: bool,
        body: &mut Body,
    ) -> Result<(), Fault> {
        self.received += bytes.len() as u64;
        let mut rest = bytes;
        if !self.gathered.is_empty() {
            let (part, behind) = rest.split_at(rest.len().min(BLOCK_BYTES - self.gathered.len()));
            gather(&mut self.gathered, part);
            rest = behind;
            if self.gathered.len() == BLOCK_BYTES || is_last {
                let block = std::mem::take(&mut self.gathered);
                self.inflate(limits, &block, body)?;
            }
        }
        let (blocks, rest) = rest.as_chunks::<BLOCK_BYTES>();
        for block in blocks {
            self.inflate(limits, block, body)?;
        }
        if !is_last {
            gather(&mut self.gathered, rest);
            return Ok(());
        }
        self.inflate(limits, rest, body)?;
        let len = body.bytes.len();
        self.write_out(limits, &END, body)?;
        if self.ended && body.bytes.len() == len { Ok(()) } else { Err(Fault::BrokenDeflate) }
    }

    /// Inflates a block.
    fn inflate(&mut self, limits: &Limits, block: &[u8], body: &mut Body) -> Result<(), Fault> {
        self.inflated += block.len() as u64;
        self.write_out(limits, block, body)
    }

    /// Inflates, and checks what came of it before it says what was wrong: faults are told in the order of the stream.
    fn write_out(&mut self, limits: &Limits, compressed: &[u8], body: &mut Body) -> Result<(), Fault> {
        let verdict = self.pump(limits, compressed, &mut body.bytes);
        body.check()?;
        verdict
    }

    fn pump(&mut self, limits: &Limits, compressed: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let (room, beyond) = self.room(limits);
        let mut rest = compressed;
        let mut is_full = false;
        while !rest.is_empty() || is_full {
            if self.ended {
                self.restart(out)?;
            }
            let inflater = self.inflater.get_or_insert_with(|| Inflate::new(false, WINDOW_BITS_MAX));
            // One byte more than allowed, so that too much shows.
            let step = make_room(out, rest.len(), room.saturating_sub(out.len()).saturating_add(1));
            let (len, consumed, written) = (out.len(), inflater.total_in(), inflater.total_out());
            out.resize(len + step, 0);
            let status = inflater.decompress(rest, &mut out[len..], InflateFlush::SyncFlush);
            let consumed = (inflater.total_in() - consumed) as usize;
            let written = (inflater.total_out() - written) as usize;
            out.truncate((len + written).min(room));
            if len + written > room {
                return Err(beyond);
            }
            self.ended = status.map_err(|_| Fault::BrokenDeflate)? == Status::StreamEnd;
            rest = &rest[consumed..];
            is_full = written == step && !self.ended;
            if consumed == 0 && written == 0 && !self.ended {
                // With bytes to take and room to write there is always progress; without bytes, this is the end.
                return if rest.is_empty() { Ok(()) } else { Err(Fault::BrokenDeflate) };
            }
        }
        Ok(())
    }

    /// How long the message may be by now, and what it is if it is longer.
    fn room(&self, limits: &Limits) -> (usize, Fault) {
        let by_ratio = self.inflated.saturating_mul(u64::from(limits.inflated_ratio_max));
        let by_ratio = by_ratio.max(limits.inflated_bytes_free);
        let room = by_ratio.min(limits.message_bytes_max);
        let beyond = if by_ratio < limits.message_bytes_max { Fault::InflatedRatio } else { Fault::MessageTooBig };
        (usize::try_from(room).unwrap_or(usize::MAX), beyond)
    }

    /// Goes on behind a final block, at the next byte, with what was written so far as the window (RFC 7692
    /// section 7.2.1).
    fn restart(&mut self, written: &[u8]) -> Result<(), Fault> {
        self.restarts += 1;
        if self.restarts > RESTARTS_MAX {
            return Err(Fault::BrokenDeflate);
        }
        self.ended = false;
        let Some(inflater) = &mut self.inflater else { return Ok(()) };
        inflater.reset(false);
        let window = &written[written.len().saturating_sub(1 << WINDOW_BITS_MAX)..];
        inflater.set_dictionary(window).map(|_checksum| ()).map_err(|_| Fault::BrokenDeflate)
    }
}

/// Appends what makes at most one block, with room made by doubling up to a block.
fn gather(gathered: &mut Vec<u8>, bytes: &[u8]) {
    if gathered.capacity() - gathered.len() < bytes.len() {
        let doubled = gathered.len().max(bytes.len());
        gathered.reserve_exact(doubled.min(BLOCK_BYTES - gathered.len()));
    }
    gathered.extend_from_slice(bytes);
}

/// Makes sure that there is room behind `out`, without filling it; says how much of it to use, at most `most`.
fn make_room(out: &mut Vec<u8>, compressed: usize, most: usize) -> usize {
    if out.capacity() - out.len() < most.min(SPARE_BYTES_MIN) {
        // Doubling keeps memory in proportion to what is there already.
        let more = out.len().max(compressed * EXPANSION_GUESS).max(SPARE_BYTES_MIN);
        out.reserve_exact(more.min(most));
    }
    (out.capacity() - out.len()).min(most).min(STEP_BYTES_MAX)
}

/// Shows sizes only: the content is a peer's.
impl fmt::Debug for Inflation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflation").field("received", &self.received).field("inflated", &self.inflated).finish()
    }
}
