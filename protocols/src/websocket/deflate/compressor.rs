//! Compressing a message into one frame, once for all who get it.

use super::super::frame::{FrameHeader, HEADER_BYTES_MAX};
use super::super::write::write_frame;
use super::super::{MessageKind, apply_mask};
use super::{TAIL, WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use std::fmt;
use zlib_rs::{Deflate, DeflateFlush};

/// How messages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompressOptions {
    /// From 2, fast, to 9, small; what lies outside is taken as the nearest. At level 1 the library forgets a block that
    /// is open when it is reset, and the next message would lack its beginning.
    pub level: u8,
    /// The window as a power of two, 9 to 15; what lies outside is taken as the nearest.
    pub window_bits: u8,
    /// Messages below so many bytes are not compressed: they gain a few bytes, which the packet around them hides.
    pub bytes_min: usize,
}

impl CompressOptions {
    /// Level 4, which at a few KiB is as small as 6 and as fast as 2; the whole window; from 256 bytes on.
    pub const DEFAULT: Self = Self { level: 4, window_bits: WINDOW_BITS_MAX, bytes_min: 256 };
}

impl Default for CompressOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Compresses messages, each for itself. Holds 371 KiB, most of it tables, so there is one per shard, not one per
/// connection.
pub struct Compressor {
    deflate: Deflate,
    options: CompressOptions,
}

impl Compressor {
    /// A compressor with these options.
    pub fn new(options: CompressOptions) -> Self {
        let level = options.level.clamp(2, 9);
        let window_bits = options.window_bits.clamp(WINDOW_BITS_MIN, WINDOW_BITS_MAX);
        let options = CompressOptions { level, window_bits, ..options };
        Self { deflate: Deflate::new(i32::from(level), false, window_bits), options }
    }

    /// What it compresses with.
    pub fn options(&self) -> CompressOptions {
        self.options
    }

    /// Appends a message as one compressed frame, or as a plain one when it is short or compression does not make it
    /// smaller. Returns whether it is compressed.
    ///
    /// The frame of a server has no mask and depends on nothing that was sent before, so it is the same for everybody
    /// whose [`Agreement`](super::Agreement) [allows](super::Agreement::allows) its window. An empty message is always
    /// plain: RFC 7692 section 7.2.3.6 would make it longer.
    pub fn write_message(
        &mut self,
        out: &mut Vec<u8>,
        kind: MessageKind,
        payload: &[u8],
        mask: Option<[u8; 4]>,
    ) -> bool {
        let begin = out.len();
        if payload.len() < self.options.bytes_min.max(1) || !self.try_compress(out, kind, payload, mask) {
            out.truncate(begin);
            write_frame(out, true, kind.into(), payload, mask);
            return false;
        }
        true
    }

    /// Appends the compressed frame, or something to be taken off again when it would not be smaller.
    fn try_compress(&mut self, out: &mut Vec<u8>, kind: MessageKind, payload: &[u8], mask: Option<[u8; 4]>) -> bool {
        let begin = out.len();
        // The header's length depends on the outcome, so the longest that is possible is left free.
        out.resize(begin + HEADER_BYTES_MAX, 0);
        let Some(len) = self.compress(out, payload) else { return false };
        let at = begin + HEADER_BYTES_MAX;
        if let Some(mask) = mask {
            apply_mask(&mut out[at..], mask);
        }
        let header = FrameHeader { fin: true, compressed: true, opcode: kind.into(), len: len as u64, mask }.encode();
        let header = header.as_bytes();
        out[begin..begin + header.len()].copy_from_slice(header);
        out.copy_within(at.., begin + header.len());
        out.truncate(begin + header.len() + len);
        true
    }

    /// Appends `payload`, compressed; `None` when the result would not be shorter. Stops as soon as that shows.
    fn compress(&mut self, out: &mut Vec<u8>, payload: &[u8]) -> Option<usize> {
        let at = out.len();
        // Exactly as long as the payload, with the tail that is taken off, is not shorter.
        out.resize(at + payload.len() + TAIL.len(), 0);
        self.deflate.reset();
        // RFC 7692 section 7.2.1: compress, flush to a byte boundary by an empty stored block, take its lengths off.
        let outcome = self.deflate.compress(payload, &mut out[at..], DeflateFlush::SyncFlush);
        let (consumed, written) = (self.deflate.total_in() as usize, self.deflate.total_out() as usize);
        let is_whole = outcome.is_ok() && consumed == payload.len() && at + written < out.len();
        out.truncate(at + written);
        if !is_whole || !out.ends_with(&TAIL) {
            return None;
        }
        let len = written - TAIL.len();
        out.truncate(at + len);
        Some(len)
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").field("options", &self.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressor(level: u8) -> Compressor {
        Compressor::new(CompressOptions { level, bytes_min: 0, ..CompressOptions::DEFAULT })
    }

    #[test]
    fn what_the_rfc_makes_of_hello() {
        // RFC 7692 section 7.2.3.1. Compression of so short a text does not help, so it is seen below the frame only.
        let mut deflate = Deflate::new(6, false, WINDOW_BITS_MAX);
        let mut out = [0; 32];
        deflate.compress(b"Hello", &mut out, DeflateFlush::SyncFlush).expect("nothing can fail");
        let packed = &out[..deflate.total_out() as usize];
        assert_eq!(packed.strip_suffix(&TAIL), Some(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..]));
    }

    /// Bytes that nothing compresses.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1u32;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        std::iter::repeat_with(next).take(len).collect()
    }

    #[test]
    fn frames_are_complete_and_the_same_each_time() {
        let noise = noise(70_000);
        for level in 1..=9 {
            let mut compressor = compressor(level);
            let text = "to be or not to be, ".repeat(30);
            let mut first = b"before".to_vec();
            assert!(compressor.write_message(&mut first, MessageKind::Text, text.as_bytes(), None));
            let frame = first.split_off(6);
            assert_eq!((&first[..], frame[0], usize::from(frame[1])), (&b"before"[..], 0xc1, frame.len() - 2));
            // Whatever came between, one that was given up half-way included.
            for other in [&[7; 5000][..], &noise, &noise[..300]] {
                compressor.write_message(&mut Vec::new(), MessageKind::Binary, other, None);
                let mut again = Vec::new();
                assert!(compressor.write_message(&mut again, MessageKind::Text, text.as_bytes(), None));
                assert_eq!(again, frame, "level {level}, after {} bytes", other.len());
            }
        }
    }

    #[test]
    fn what_does_not_shrink_or_is_short_goes_plain() {
        let noise = noise(70_000);
        for payload in [&b""[..], b"a", b"Hello", &noise[..100], &noise] {
            let (mut out, mut plain) = (Vec::new(), Vec::new());
            assert!(!compressor(9).write_message(&mut out, MessageKind::Binary, payload, None));
            write_frame(&mut plain, true, MessageKind::Binary.into(), payload, None);
            assert!(out == plain);
        }
        let mut compressor = Compressor::new(CompressOptions { bytes_min: 100, ..CompressOptions::DEFAULT });
        assert!(!compressor.write_message(&mut Vec::new(), MessageKind::Text, &[b'a'; 99], None));
        assert!(compressor.write_message(&mut Vec::new(), MessageKind::Text, &[b'a'; 100], None));
    }

    #[test]
    fn options_outside_their_range_are_the_nearest() {
        let options = CompressOptions { level: 0, window_bits: 8, bytes_min: 0 };
        assert_eq!(Compressor::new(options).options(), CompressOptions { level: 2, window_bits: 9, bytes_min: 0 });
        let options = CompressOptions { level: 77, window_bits: 16, bytes_min: 0 };
        assert_eq!(Compressor::new(options).options(), CompressOptions { level: 9, window_bits: 15, bytes_min: 0 });
    }
}
