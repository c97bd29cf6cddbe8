//! The streams of one connection that are not closed, by id. There are at most a few hundred, and new ones have the
//! highest id: a sorted list finds them faster than a hash. And those that were given up lately.

use std::collections::VecDeque;

use super::head::Priority;

/// Streams given up lately that are remembered one by one. Of those before them nobody knows any more whether what comes
/// is late or wrong; it counts as late.
const LATE_REMEMBERED: usize = 128;

/// Streams that we gave up, on which the peer may still have sent something before it heard of that.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// Ids, and the bytes that the peer may still send there.
    recent: VecDeque<(u32, i64)>,
    /// The highest id that was forgotten.
    forgotten: u32,
}

/// Whether something may still come on a stream that is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lateness {
    /// It was under way when we gave the stream up.
    Late,
    /// The peer knows that the stream is closed, or has exceeded its window.
    Wrong,
}

impl Late {
    pub(super) fn remember(&mut self, id: u32, window: i64) {
        if self.recent.len() == LATE_REMEMBERED
            && let Some((oldest, _)) = self.recent.pop_front()
        {
            self.forgotten = self.forgotten.max(oldest);
        }
        self.recent.push_back((id, window));
    }

    /// Judges a frame on a closed stream which takes `bytes` of its window.
    pub(super) fn judge(&mut self, id: u32, bytes: i64) -> Lateness {
        if let Some((_, window)) = self.recent.iter_mut().find(|(late, _)| *late == id) {
            *window -= bytes;
            return if *window >= 0 || bytes == 0 { Lateness::Late } else { Lateness::Wrong };
        }
        if id <= self.forgotten { Lateness::Late } else { Lateness::Wrong }
    }
}

/// What the other end may still send on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remote {
    /// The head of its answer is yet to come.
    AwaitsHead,
    /// The body.
    Open,
    /// Nothing more.
    Closed,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) remote: Remote,
    /// We will send nothing more.
    pub(super) local_closed: bool,
    /// Bytes that we may send. Below zero after the peer shrank its windows.
    pub(super) send_window: i64,
    /// Bytes that the peer may send.
    pub(super) recv_window: i64,
    /// Bytes taken by the caller and not yet granted again.
    pub(super) credit: u32,
    /// What its content-length leaves to come.
    pub(super) expected: Option<u64>,
    /// It answers a HEAD: its content-length is no promise.
    pub(super) bodiless: bool,
    pub(super) interim: u8,
    pub(super) priority: Priority,
    /// Since when data waits for a window, in the caller's milliseconds.
    pub(super) blocked_since: Option<u64>,
}

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Streams {
    sorted: Vec<Stream>,
}

impl Streams {
    pub(super) fn get(&mut self, id: u32) -> Option<&mut Stream> {
        let at = self.place(id)?;
        Some(&mut self.sorted[at])
    }

    pub(super) fn peek(&self, id: u32) -> Option<&Stream> {
        self.place(id).map(|at| &self.sorted[at])
    }

    /// Adds a stream whose id is the highest so far.
    pub(super) fn add(&mut self, stream: Stream) {
        debug_assert!(self.sorted.last().is_none_or(|last| last.id < stream.id));
        self.sorted.push(stream);
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Stream> {
        self.place(id).map(|at| self.sorted.remove(at))
    }

    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.sorted.iter_mut()
    }

    /// Removes those above an id.
    pub(super) fn split_above(&mut self, id: u32) -> Vec<Stream> {
        let at = self.sorted.partition_point(|stream| stream.id <= id);
        self.sorted.split_off(at)
    }

    fn place(&self, id: u32) -> Option<usize> {
        self.sorted.binary_search_by_key(&id, |stream| stream.id).ok()
    }
}
