//! A shard's connections: one slab entry each, for groups and streams alike.
//!
//! ```text
//!            armed ──► chunks queued ──► reader takes them
//!   opened ─┤                                                   ops == 0
//!            frames queued ──► one send in flight ──► …  closing ──────────► fd closed ──► slot free, generation + 1
//! ```
//!
//! Invariants:
//! * `ops` counts operations in flight on the descriptor; it is closed only at zero.
//! * At most one send is in flight (`SENDING`); everything else waits in the outbox.
//! * An idle connection owns no heap memory: no chunk, no frame, no waker.
//!
//! This file is bookkeeping only. What to ask of the kernel is decided in `sockets.rs`.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::task::Waker;

use crate::buffers::Lease;
use crate::driver::{Errno, Fd};
use crate::frame::Frame;

/// Names a connection of one shard, in one of its lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl ConnId {
    /// The slot's number: dense, and used again after the connection closed.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// One word that names the connection within its shard.
    pub fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// The inverse of [`ConnId::to_bits`].
    pub fn from_bits(bits: u64) -> ConnId {
        ConnId { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

impl std::fmt::Debug for ConnId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}.{}", self.index, self.generation)
    }
}

/// Received bytes: in a receive buffer while they are fresh, in memory of their own once they are held.
#[derive(Debug)]
pub enum Chunk {
    /// In place.
    Leased(Lease),
    /// Copied out, or received directly.
    Owned(Vec<u8>),
}

impl Chunk {
    /// The bytes as a vector, copying only if they sit in a receive buffer.
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Chunk::Leased(lease) => lease.to_vec(),
            Chunk::Owned(bytes) => bytes,
        }
    }

    /// To be called by whoever keeps the bytes for as long as a peer pleases: they stay where they are while buffers are at
    /// hand, and are copied out where those are scarce.
    pub fn hold(&mut self) {
        *self = match std::mem::replace(self, Chunk::Owned(Vec::new())) {
            Chunk::Leased(lease) => lease.into_held().map_or_else(Chunk::Owned, Chunk::Leased),
            owned @ Chunk::Owned(_) => owned,
        };
    }

    /// The bytes as a frame, in place.
    pub fn into_frame(self) -> Frame {
        match self {
            Chunk::Leased(lease) => Frame::leased(lease),
            Chunk::Owned(bytes) => Frame::owned(bytes),
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Chunk::Leased(lease) => lease,
            Chunk::Owned(bytes) => bytes,
        }
    }
}

impl DerefMut for Chunk {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Chunk::Leased(lease) => lease,
            Chunk::Owned(bytes) => bytes,
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// We closed it.
    Local,
    /// The peer closed it, or closed its half and we the other.
    Peer,
    /// The kernel reported an error: reset, timed out, unreachable.
    Failed(Errno),
    /// It took too long to take what was sent to it.
    Slow,
    /// The engine is shutting down.
    Shutdown,
}

/// How to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Send what is queued, then the end of the stream, then wait a little for the peer's.
    Graceful,
    /// Drop what is queued.
    Now,
}

pub(crate) type Flags = u32;
/// The multishot receive is armed.
pub(crate) const ARMED: Flags = 1 << 0;
/// A send is in flight.
pub(crate) const SENDING: Flags = 1 << 1;
/// In the list of connections with something to send.
pub(crate) const DIRTY: Flags = 1 << 2;
/// In its group's ready list.
pub(crate) const READY: Flags = 1 << 3;
/// The peer sent the end of the stream.
pub(crate) const ENDED: Flags = 1 << 4;
/// That was told to the owner.
pub(crate) const ENDED_TOLD: Flags = 1 << 5;
/// New, and its owner does not know yet.
pub(crate) const OPENED: Flags = 1 << 6;
/// Close once the outbox is empty.
pub(crate) const CLOSING: Flags = 1 << 7;
/// Our end of the stream was sent; what comes is discarded.
pub(crate) const LINGERING: Flags = 1 << 8;
/// Both halves are shut: only operations in flight keep the descriptor open.
pub(crate) const DEAD: Flags = 1 << 9;
/// The descriptor is closed; the owner has yet to hear it.
pub(crate) const CLOSED: Flags = 1 << 10;
/// The owner wants no more input for now.
pub(crate) const PAUSED: Flags = 1 << 11;
/// Tell the owner when the outbox is empty.
pub(crate) const TELL_DRAINED: Flags = 1 << 12;
/// The outbox is empty, and that is to be told.
pub(crate) const DRAINED: Flags = 1 << 13;
/// Waits for receive buffers.
pub(crate) const PARKED: Flags = 1 << 14;
/// A direct receive into the reader's own memory is wanted or in flight.
pub(crate) const DIRECT: Flags = 1 << 15;
/// Rests, and something waits for it: see `Paced`.
pub(crate) const PACED: Flags = 1 << 16;
/// The last send found no room for all of it.
pub(crate) const BLOCKED: Flags = 1 << 17;
/// Was sent to as one of many lately: see `Paced`.
pub(crate) const RESTING: Flags = 1 << 18;
/// Was sent to since its rest began.
pub(crate) const SENT_TO: Flags = 1 << 19;
/// The kernel copies what is to be sent in any case.
pub(crate) const COPIED: Flags = 1 << 20;
/// We connected it, and not the peer.
pub(crate) const DIALED: Flags = 1 << 21;
/// What was received last is traced, and waits for its reader.
pub(crate) const TRACED_IN: Flags = 1 << 22;
/// Something of what waits to be sent is traced.
pub(crate) const TRACED_OUT: Flags = 1 << 23;

/// Who is told what happens on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The group with this number.
    Group(u16),
    /// A [`crate::Stream`].
    Stream,
    /// Nobody any more: it drains and closes by itself.
    Nobody,
}

/// What a stream keeps beside its connection: only streams pay for wakers.
#[derive(Default)]
pub(crate) struct StreamSide {
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
    pub(crate) direct: Option<Direct>,
    pub(crate) connected: Option<Result<(), Errno>>,
}

/// A direct receive: wanted, in flight, or done.
pub(crate) enum Direct {
    Wanted { memory: Vec<u8>, want: usize },
    InFlight,
    Done { memory: Vec<u8>, result: Result<u32, Errno> },
}

const NONE: u32 = u32::MAX;

/// One connection.
pub(crate) struct Conn {
    pub(crate) fd: Fd,
    pub(crate) generation: u32,
    pub(crate) flags: Flags,
    pub(crate) ops: u16,
    pub(crate) owner: Owner,
    /// Of the turn that last received something, in 64 ms units.
    pub(crate) last_active: u32,
    pub(crate) chunks: Chunks,
    pub(crate) outbox: Outbox,
    pub(crate) side: Option<Box<StreamSide>>,
    pub(crate) reason: Reason,
}

const _: () = assert!(size_of::<Conn>() <= 88, "idle connections are counted in bytes");

impl Conn {
    pub(crate) fn is(&self, flags: Flags) -> bool {
        self.flags & flags != 0
    }

    pub(crate) fn set(&mut self, flags: Flags) {
        self.flags |= flags;
    }

    pub(crate) fn clear(&mut self, flags: Flags) {
        self.flags &= !flags;
    }
}

/// The queue of one connection's received chunks, threaded through the shard's [`ChunkStore`].
#[derive(Clone, Copy)]
pub(crate) struct Chunks {
    head: u32,
    tail: u32,
    bytes: u32,
}

impl Chunks {
    pub(crate) const EMPTY: Chunks = Chunks { head: NONE, tail: NONE, bytes: 0 };

    pub(crate) fn is_empty(&self) -> bool {
        self.head == NONE
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes as usize
    }
}

struct ChunkNode {
    chunk: Option<Chunk>,
    next: u32,
}

/// Where all connections' received chunks are linked.
#[derive(Default)]
pub(crate) struct ChunkStore {
    nodes: Vec<ChunkNode>,
    vacant: Vec<u32>,
}

impl ChunkStore {
    pub(crate) fn push(&mut self, chunks: &mut Chunks, chunk: Chunk) {
        chunks.bytes += chunk.len() as u32;
        let node = ChunkNode { chunk: Some(chunk), next: NONE };
        let index = match self.vacant.pop() {
            Some(index) => {
                self.nodes[index as usize] = node;
                index
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        match chunks.tail {
            NONE => chunks.head = index,
            tail => self.nodes[tail as usize].next = index,
        }
        chunks.tail = index;
    }

    pub(crate) fn pop(&mut self, chunks: &mut Chunks) -> Option<Chunk> {
        if chunks.head == NONE {
            return None;
        }
        let index = chunks.head;
        let node = &mut self.nodes[index as usize];
        let chunk = node.chunk.take()?;
        chunks.head = node.next;
        if chunks.head == NONE {
            chunks.tail = NONE;
        }
        chunks.bytes -= chunk.len() as u32;
        self.vacant.push(index);
        Some(chunk)
    }

    /// Puts a partly used chunk back in front.
    pub(crate) fn unpop(&mut self, chunks: &mut Chunks, chunk: Chunk) {
        let rest = *chunks;
        *chunks = Chunks::EMPTY;
        self.push(chunks, chunk);
        if rest.head != NONE {
            self.nodes[chunks.tail as usize].next = rest.head;
            chunks.tail = rest.tail;
            chunks.bytes += rest.bytes;
        }
    }

    /// Copies what is held in receive buffers out, so that the buffers go back; the bytes copied.
    pub(crate) fn hold(&mut self, chunks: &Chunks) -> usize {
        let mut copied = 0;
        let mut index = chunks.head;
        while index != NONE {
            let node = &mut self.nodes[index as usize];
            if let Some(Chunk::Leased(lease)) = &node.chunk {
                copied += lease.len();
                node.chunk = Some(Chunk::Owned(lease.to_vec()));
            }
            index = node.next;
        }
        copied
    }

    pub(crate) fn clear(&mut self, chunks: &mut Chunks) {
        while self.pop(chunks).is_some() {}
    }

    /// Chunks queued on all connections.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len() - self.vacant.len()
    }
}

/// What waits to be sent on one connection. 32 bytes while it is empty or one contiguous run.
pub(crate) struct Outbox {
    first: Option<Frame>,
    #[allow(clippy::box_collection)] // A thin pointer: most outboxes never need it.
    rest: Option<Box<VecDeque<Frame>>>,
    /// Queued here, without what is in flight.
    pub(crate) queued: u32,
    /// In flight.
    pub(crate) sending: u32,
}

impl Outbox {
    pub(crate) const EMPTY: Outbox = Outbox { first: None, rest: None, queued: 0, sending: 0 };

    pub(crate) fn bytes(&self) -> usize {
        self.queued as usize + self.sending as usize
    }

    pub(crate) fn push(&mut self, frame: &Frame) {
        self.queued += frame.len() as u32;
        let last = match &mut self.rest {
            Some(rest) => rest.back_mut(),
            None => self.first.as_mut(),
        };
        match last {
            Some(last) => {
                if !last.join(frame) {
                    self.rest.get_or_insert_default().push_back(frame.clone());
                }
            }
            None => self.first = Some(frame.clone()),
        }
    }

    /// Takes frames for one send: at least one, up to `most_bytes` and `most_frames`.
    pub(crate) fn take(&mut self, most_bytes: usize, most_frames: usize) -> Option<crate::driver::Batch> {
        let mut first = self.first.take()?;
        if self.rest.is_none() && first.len() <= most_bytes {
            self.queued = 0;
            return Some(crate::driver::Batch::One(first));
        }
        if first.len() > most_bytes {
            let head = first.split_to(most_bytes);
            self.first = Some(first);
            self.queued -= head.len() as u32;
            return Some(crate::driver::Batch::One(head));
        }
        let mut bytes = first.len();
        let mut frames = vec![first];
        if let Some(rest) = &mut self.rest {
            while frames.len() < most_frames {
                let Some(next) = rest.front() else { break };
                if bytes + next.len() > most_bytes {
                    break;
                }
                bytes += next.len();
                frames.extend(rest.pop_front());
            }
            self.first = rest.pop_front();
            if rest.is_empty() {
                self.rest = None;
            }
        }
        self.queued -= bytes as u32;
        Some(if frames.len() == 1 {
            crate::driver::Batch::One(frames.remove(0))
        } else {
            crate::driver::Batch::Many(frames)
        })
    }

    /// Puts the unsent part of a send back in front.
    pub(crate) fn unshift(&mut self, batch: crate::driver::Batch) {
        let mut frames: VecDeque<Frame> = batch.frames().iter().cloned().collect();
        self.queued += batch.len() as u32;
        frames.extend(self.first.take());
        frames.extend(self.rest.take().into_iter().flat_map(|rest| *rest));
        self.first = frames.pop_front();
        self.rest = (!frames.is_empty()).then(|| Box::new(frames));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn clear(&mut self) {
        self.first = None;
        self.rest = None;
        self.queued = 0;
    }
}

const PAGE: usize = 256;

/// The slab: pages that never move, so that growing copies nothing.
#[derive(Default)]
pub(crate) struct ConnTable {
    pages: Vec<Box<[Conn]>>,
    vacant: Vec<u32>,
    used: u32,
    alive: usize,
}

impl ConnTable {
    pub(crate) fn insert(&mut self, fd: Fd, owner: Owner) -> ConnId {
        let index = self.vacant.pop().unwrap_or_else(|| {
            if self.used as usize == self.pages.len() * PAGE {
                self.pages.push((0..PAGE).map(|_| vacant()).collect());
            }
            self.used += 1;
            self.used - 1
        });
        self.alive += 1;
        let conn = self.at(index);
        conn.fd = fd;
        conn.owner = owner;
        ConnId { index, generation: conn.generation }
    }

    /// Frees the slot for another life.
    pub(crate) fn remove(&mut self, index: u32) {
        let conn = self.at(index);
        let generation = (conn.generation + 1) & 0xff_ffff;
        *conn = vacant();
        conn.generation = generation;
        self.vacant.push(index);
        self.alive -= 1;
    }

    /// The slot, whoever lives there.
    pub(crate) fn at(&mut self, index: u32) -> &mut Conn {
        &mut self.pages[index as usize / PAGE][index as usize % PAGE]
    }

    /// The connection, if it is still in that life.
    pub(crate) fn get(&mut self, id: ConnId) -> Option<&mut Conn> {
        let page = self.pages.get_mut(id.index as usize / PAGE)?;
        Some(&mut page[id.index as usize % PAGE]).filter(|conn| conn.generation == id.generation && conn.fd.0 >= 0)
    }

    /// Connections alive, those waiting for their end included.
    pub(crate) fn alive(&self) -> usize {
        self.alive
    }

    /// Slots ever used: an upper bound for indexes.
    pub(crate) fn used(&self) -> u32 {
        self.used
    }

    /// The connection living in a slot.
    pub(crate) fn living(&mut self, index: u32) -> Option<ConnId> {
        let conn = self.at(index);
        (conn.fd.0 >= 0).then_some(ConnId { index, generation: conn.generation })
    }
}

fn vacant() -> Conn {
    Conn {
        fd: Fd(-1),
        generation: 0,
        flags: 0,
        ops: 0,
        owner: Owner::Nobody,
        last_active: 0,
        chunks: Chunks::EMPTY,
        outbox: Outbox::EMPTY,
        side: None,
        reason: Reason::Local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Batch;
    use crate::frame::FrameArena;

    #[test]
    fn a_slot_is_used_again_with_another_generation() {
        let mut table = ConnTable::default();
        let first = table.insert(Fd(5), Owner::Stream);
        table.remove(first.index);
        assert!(table.get(first).is_none());
        let second = table.insert(Fd(6), Owner::Stream);
        assert_eq!(first.index, second.index);
        assert_ne!(first, second);
        assert!(table.get(first).is_none() && table.get(second).is_some());
        assert_eq!(ConnId::from_bits(second.to_bits()), second);
    }

    #[test]
    fn chunks_come_out_in_order_and_can_be_put_back() {
        let mut store = ChunkStore::default();
        let mut chunks = Chunks::EMPTY;
        for text in ["one", "two", "three"] {
            store.push(&mut chunks, Chunk::Owned(text.into()));
        }
        assert_eq!(chunks.bytes(), 11);
        let first = store.pop(&mut chunks).unwrap();
        store.unpop(&mut chunks, first);
        let all: Vec<_> = std::iter::from_fn(|| store.pop(&mut chunks).map(Chunk::into_vec)).collect();
        assert_eq!(all, [&b"one"[..], b"two", b"three"]);
        assert!(chunks.is_empty() && chunks.bytes() == 0 && store.len() == 0);
    }

    #[test]
    fn adjacent_frames_leave_as_one_run_and_others_are_gathered() {
        let mut arena = FrameArena::default();
        let mut outbox = Outbox::EMPTY;
        let (a, b) = (arena.frame(&[b"a"]), arena.frame(&[b"b"]));
        outbox.push(&a);
        outbox.push(&b);
        let Some(Batch::One(run)) = outbox.take(100, 10) else { panic!("not joined") };
        assert_eq!(&run[..], b"ab");
        outbox.push(&b);
        outbox.push(&a);
        outbox.push(&b);
        assert_eq!(outbox.queued, 3);
        let Some(Batch::Many(frames)) = outbox.take(100, 10) else { panic!("not gathered") };
        assert_eq!(frames.iter().map(|frame| &frame[..]).collect::<Vec<_>>(), [&b"b"[..], b"ab"]);
        assert!(outbox.is_empty() && outbox.bytes() == 0);
    }

    #[test]
    fn a_send_takes_no_more_than_it_may() {
        let mut outbox = Outbox::EMPTY;
        for text in [&b"0123456789"[..], b"abc", b"def", b"g"] {
            outbox.push(&Frame::owned(text.to_vec()));
        }
        let mut sent = Vec::new();
        while let Some(batch) = outbox.take(6, 2) {
            assert!(batch.len() <= 6 && batch.frames().len() <= 2);
            batch.frames().iter().for_each(|frame| sent.extend_from_slice(frame));
        }
        assert_eq!(sent, b"0123456789abcdefg");
        assert_eq!(outbox.bytes(), 0);
    }
}
