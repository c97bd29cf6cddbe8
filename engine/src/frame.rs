//! Shared immutable bytes: encoded once, sent to many, copied by none.
//!
//! ```text
//!   block  [ frame a | frame b | frame c |            free            ]
//!            ▲─────────────────▲ one send: a receiver of a and b holds a single run
//! ```
//!
//! A shard carves its frames one behind the other from a current block. Receivers of the same sequence of
//! frames hold adjacent ranges, which join into one ([`Frame::join`]): that is what turns a broadcast of many
//! queued messages into one contiguous send per receiver. When all frames of a block are gone the block is
//! used again from its start, still warm.
//!
//! Invariant: bytes below a block's `used` mark never change while a frame exists; writing happens only above
//! it, by the one arena that owns the block. Frames stay on their shard (`!Send`); what crosses shards is an
//! `Arc<[u8]>`, wrapped on arrival by [`Frame::shared`].

use std::cell::{Cell, UnsafeCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use crate::buffers::Lease;

/// Bytes of a block that small frames are carved from. A stalled receiver pins at most what it refers to.
pub const BLOCK_BYTES: usize = 16 * 1024;

/// Where a block's bytes live.
enum Storage {
    Carved(Box<[UnsafeCell<u8>]>),
    Owned(Vec<u8>),
    Shared(Arc<[u8]>),
    Leased(Lease),
    Fixed(&'static [u8]),
}

struct Block {
    storage: Storage,
}

impl Block {
    fn carved(bytes: usize) -> Rc<Block> {
        let mut cells = Vec::with_capacity(bytes);
        cells.resize_with(bytes, || UnsafeCell::new(0));
        Rc::new(Block { storage: Storage::Carved(cells.into_boxed_slice()) })
    }

    fn slice(&self, start: usize, len: usize) -> &[u8] {
        match &self.storage {
            Storage::Carved(cells) => {
                let cells = &cells[start..start + len];
                // SAFETY: `UnsafeCell<u8>` has the layout of `u8`; the range lies below the block's `used` mark,
                // where nothing is written while frames exist (module invariant).
                unsafe { std::slice::from_raw_parts(cells.as_ptr().cast(), len) }
            }
            Storage::Owned(bytes) => &bytes[start..start + len],
            Storage::Shared(bytes) => &bytes[start..start + len],
            Storage::Leased(lease) => &lease[start..start + len],
            Storage::Fixed(bytes) => &bytes[start..start + len],
        }
    }

    /// Writes `parts` one behind the other from `start`.
    fn write(&self, start: usize, parts: &[&[u8]]) {
        let Storage::Carved(cells) = &self.storage else { unreachable!("only carved blocks are written") };
        let mut at = start;
        for part in parts {
            let room = &cells[at..at + part.len()];
            // SAFETY: `room` lies above the `used` mark: no frame covers it, and only this arena writes it.
            unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), UnsafeCell::raw_get(room.as_ptr()), part.len()) };
            at += part.len();
        }
    }
}

/// A run of immutable bytes, cheap to clone. 16 bytes.
#[derive(Clone)]
pub struct Frame {
    block: Rc<Block>,
    start: u32,
    len: u32,
}

const _: () = assert!(size_of::<Frame>() == 16 && size_of::<Option<Frame>>() == 16);

impl Frame {
    fn of(storage: Storage, len: usize) -> Frame {
        let len = u32::try_from(len).expect("a frame is at most 4 GiB: callers cap messages far below");
        Frame { block: Rc::new(Block { storage }), start: 0, len }
    }

    /// Takes `bytes` over without copying.
    pub fn owned(bytes: Vec<u8>) -> Frame {
        let len = bytes.len();
        Frame::of(Storage::Owned(bytes), len)
    }

    /// Wraps bytes that several shards share.
    pub fn shared(bytes: Arc<[u8]>) -> Frame {
        let len = bytes.len();
        Frame::of(Storage::Shared(bytes), len)
    }

    /// Forwards received bytes in place; their buffer returns to the pool when the frame is gone. Copies them
    /// where buffers are scarce.
    pub fn leased(lease: Lease) -> Frame {
        let len = lease.len();
        match lease.into_held() {
            Ok(lease) => Frame::of(Storage::Leased(lease), len),
            Err(bytes) => Frame::owned(bytes),
        }
    }

    /// Wraps bytes of the program itself.
    pub fn fixed(bytes: &'static [u8]) -> Frame {
        Frame::of(Storage::Fixed(bytes), bytes.len())
    }

    /// How many bytes there are, without a look at where they are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets the first `bytes`.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.len as usize, "advance past the end of a frame");
        self.start += bytes as u32;
        self.len -= bytes as u32;
    }

    /// The first `bytes` as a frame of their own; `self` keeps the rest.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn split_to(&mut self, bytes: usize) -> Frame {
        let mut head = self.clone();
        self.advance(bytes);
        head.len = bytes as u32;
        head
    }

    /// Grows by `next` if that lies right behind; whether it did.
    pub fn join(&mut self, next: &Frame) -> bool {
        let adjacent = Rc::ptr_eq(&self.block, &next.block) && self.start + self.len == next.start;
        if adjacent {
            self.len += next.len;
        }
        adjacent
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.block.slice(self.start as usize, self.len as usize)
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({} bytes)", self.len)
    }
}

/// Where a shard's small frames come from.
pub struct FrameArena {
    current: Rc<Block>,
    used: usize,
    /// Bytes copied into frames, for the zero-copy account.
    copied: Cell<u64>,
}

impl Default for FrameArena {
    fn default() -> FrameArena {
        FrameArena { current: Block::carved(BLOCK_BYTES), used: 0, copied: Cell::new(0) }
    }
}

impl FrameArena {
    /// A frame of `parts` joined: one copy, right behind the frame made before if the block has room.
    pub fn frame(&mut self, parts: &[&[u8]]) -> Frame {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        self.copied.set(self.copied.get() + len as u64);
        if len > BLOCK_BYTES / 2 {
            return Frame::owned(parts.concat());
        }
        if Rc::strong_count(&self.current) == 1 {
            self.used = 0;
        }
        if self.used + len > BLOCK_BYTES {
            self.current = Block::carved(BLOCK_BYTES);
            self.used = 0;
        }
        self.current.write(self.used, parts);
        let frame = Frame { block: self.current.clone(), start: self.used as u32, len: len as u32 };
        self.used += len;
        frame
    }

    /// Bytes copied into frames so far.
    pub fn bytes_copied(&self) -> u64 {
        self.copied.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_made_in_a_row_join_into_one_run() {
        let mut arena = FrameArena::default();
        let mut run = arena.frame(&[b"ab", b"c"]);
        let next = arena.frame(&[b"def"]);
        let other = arena.frame(&[b"x"]);
        assert!(run.join(&next));
        assert_eq!(&run[..], b"abcdef");
        assert!(!next.clone().join(&run));
        assert!(run.join(&other));
        assert_eq!(&run[..], b"abcdefx");
    }

    #[test]
    fn a_block_without_frames_is_used_again() {
        let mut arena = FrameArena::default();
        let address = arena.frame(&[b"one"]).as_ptr();
        assert_eq!(arena.frame(&[b"two"]).as_ptr(), address);
        let kept = arena.frame(&[b"kept"]);
        assert_ne!(arena.frame(&[b"new"]).as_ptr(), kept.as_ptr());
        assert_eq!(&kept[..], b"kept");
    }

    #[test]
    fn large_and_foreign_bytes_are_frames_too() {
        let mut arena = FrameArena::default();
        let large = vec![7u8; BLOCK_BYTES];
        assert_eq!(&arena.frame(&[&large])[..], &large[..]);
        assert_eq!(&Frame::shared(Arc::from(&b"shared"[..]))[..], b"shared");
        let mut fixed = Frame::fixed(b"fixed bytes");
        assert_eq!(&fixed.split_to(5)[..], b"fixed");
        assert_eq!(&fixed[..], b" bytes");
    }
}
