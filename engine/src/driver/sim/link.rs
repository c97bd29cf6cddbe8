//! A simulated connection: two ends, and a pipe of bytes each way.
//!
//! ```text
//!   end 0 (connected)                                     end 1 (accepted)
//!     write ─► pipes[0]: wire ──deliver──► ready ─► read
//!      read ◄─ ready ◄──deliver── wire :pipes[1] ◄─ write
//! ```
//!
//! Writing and reading act at once; bytes, ends of stream and resets travel when the world delivers them.

use std::collections::VecDeque;

use super::Random;
use crate::driver::{Address, Batch, Errno};

/// The outcome of reading or writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Io {
    /// So many bytes moved; at least one.
    Moved(usize),
    /// The end of the stream.
    End,
    /// Not now.
    Wait,
    /// Not any more.
    Failed(Errno),
}

/// One direction.
#[derive(Default)]
struct Pipe {
    wire: VecDeque<u8>,
    ready: VecDeque<u8>,
    /// Most bytes in both.
    room: usize,
    /// Bytes that its writer has written, ever.
    written: u64,
    /// Bytes that its reader, where that is a shard, has been handed by completions.
    handed: u64,
    /// For each send of its writer, where that is a shard: which byte it began with, and what the shard had been handed of
    /// the other direction by then.
    sends: Vec<(u64, u64)>,
    /// The writer has ended it.
    fin: bool,
    /// The reader can see that.
    ended: bool,
}

#[derive(Default)]
struct End {
    closed: bool,
    shut_read: bool,
    /// Reported to the next operation.
    error: Option<Errno>,
    /// A reset has arrived: nothing is sent or received any more.
    broken: bool,
    reset_coming: bool,
}

/// See the module's description.
pub(super) struct Link {
    pipes: [Pipe; 2],
    ends: [End; 2],
    /// The address of each end.
    pub(super) names: [Address; 2],
}

impl Link {
    /// A connection whose pipes hold so many bytes each.
    pub(super) fn new(names: [Address; 2], room: [usize; 2]) -> Link {
        let pipes = room.map(|room| Pipe { room, ..Pipe::default() });
        Link { pipes, ends: Default::default(), names }
    }

    pub(super) fn is_over(&self) -> bool {
        self.ends[0].closed && self.ends[1].closed
    }

    /// Whether reading gives anything but [`Io::Wait`].
    pub(super) fn is_readable(&self, side: usize) -> bool {
        let (pipe, end) = (&self.pipes[1 - side], &self.ends[side]);
        !pipe.ready.is_empty() || pipe.ended || end.shut_read || end.broken
    }

    /// Bytes that can be read now.
    pub(super) fn ready(&self, side: usize) -> usize {
        self.pipes[1 - side].ready.len()
    }

    pub(super) fn read(&mut self, side: usize, out: &mut [u8]) -> Io {
        let (pipe, end) = (&mut self.pipes[1 - side], &mut self.ends[side]);
        let len = pipe.ready.len().min(out.len());
        if len > 0 {
            out.iter_mut().zip(pipe.ready.drain(..len)).for_each(|(place, byte)| *place = byte);
            return Io::Moved(len);
        }
        match end.error.take() {
            Some(errno) => Io::Failed(errno),
            None if pipe.ended || end.shut_read || end.broken => Io::End,
            None => Io::Wait,
        }
    }

    /// Takes up to `most` bytes of `batch`, from `skip` on, as far as there is room.
    pub(super) fn write(&mut self, side: usize, batch: &Batch, skip: usize, most: usize) -> Io {
        let (pipe, end) = (&mut self.pipes[side], &mut self.ends[side]);
        if let Some(errno) = end.error.take() {
            return Io::Failed(errno);
        }
        if end.broken || pipe.fin {
            return Io::Failed(Errno(libc::EPIPE));
        }
        let room = pipe.room.saturating_sub(pipe.wire.len() + pipe.ready.len()).min(most);
        if room == 0 {
            return Io::Wait;
        }
        let (mut skip, mut left) = (skip, room);
        for frame in batch.frames() {
            let start = skip.min(frame.len());
            let len = (frame.len() - start).min(left);
            pipe.wire.extend(&frame[start..start + len]);
            (skip, left) = (skip - start, left - len);
        }
        pipe.written += (room - left) as u64;
        Io::Moved(room - left)
    }

    /// The shard at `side` has been handed so many bytes more.
    pub(super) fn on_handed(&mut self, side: usize, len: u64) {
        self.pipes[1 - side].handed += len;
    }

    /// The shard at `side` hands over a send.
    pub(super) fn on_send(&mut self, side: usize) {
        let handed = self.pipes[1 - side].handed;
        let pipe = &mut self.pipes[side];
        pipe.sends.push((pipe.written, handed));
    }

    /// Bytes that `side` has written, ever.
    pub(super) fn written(&self, side: usize) -> u64 {
        self.pipes[side].written
    }

    /// How many bytes of what `side` wrote the other side, a shard, had in its hands when it handed over its byte number `at`.
    pub(super) fn handed_before(&self, side: usize, at: u64) -> u64 {
        let sends = &self.pipes[1 - side].sends;
        sends.iter().rev().find(|(first, _)| *first <= at).map_or(0, |(_, handed)| *handed)
    }

    /// Ends what `side` sends.
    pub(super) fn shut_write(&mut self, side: usize) {
        self.pipes[side].fin = true;
    }

    /// Ends what `side` receives, once it has read what is there.
    pub(super) fn shut_read(&mut self, side: usize) {
        self.ends[side].shut_read = true;
    }

    /// Closes `side`: with unread bytes that is a reset, as with TCP.
    pub(super) fn close(&mut self, side: usize) {
        if !self.pipes[1 - side].ready.is_empty() {
            return self.reset(side);
        }
        self.ends[side].closed = true;
        self.pipes[side].fin = true;
    }

    /// `side` is gone without a word; the other learns it when the reset arrives.
    pub(super) fn reset(&mut self, side: usize) {
        self.ends[side].closed = true;
        self.pipes[side].wire.clear();
        self.pipes[1 - side].wire.clear();
        self.pipes[1 - side].ready.clear();
        self.ends[1 - side].reset_coming = true;
    }

    /// The network gives up on the connection.
    pub(super) fn cut(&mut self) {
        self.ends.iter_mut().for_each(|end| end.reset_coming = true);
    }

    pub(super) fn is_broken(&self, side: usize) -> bool {
        self.ends[side].broken
    }

    /// Whether the other end has sent its last byte and `side` could read up to it.
    pub(super) fn is_ended(&self, side: usize) -> bool {
        self.pipes[1 - side].ended
    }

    /// Lets what travels arrive, in pieces where `trickle` strikes. Whether anything did.
    pub(super) fn deliver(&mut self, random: &mut Random, trickle: u16) -> bool {
        let mut moved = false;
        for from in 0..2 {
            moved |= self.deliver_from(from, random, trickle);
        }
        for side in 0..2 {
            let end = &mut self.ends[side];
            if end.reset_coming && !end.broken && !end.closed && !random.hit(trickle) {
                end.broken = true;
                end.error = Some(Errno(libc::ECONNRESET));
                let keeps = random.hit(500);
                let incoming = &mut self.pipes[1 - side];
                incoming.wire.clear();
                if !keeps {
                    incoming.ready.clear();
                }
                self.pipes[side].wire.clear();
                moved = true;
            }
        }
        moved
    }

    fn deliver_from(&mut self, from: usize, random: &mut Random, trickle: u16) -> bool {
        let pipe = &mut self.pipes[from];
        if self.ends[1 - from].closed || self.ends[1 - from].broken {
            // Bytes for nobody: answered by a reset.
            if !pipe.wire.is_empty() {
                pipe.wire.clear();
                self.ends[from].reset_coming = true;
            }
            return false;
        }
        let mut moved = false;
        if !pipe.wire.is_empty() {
            let len = match random.hit(trickle) {
                true => random.below(pipe.wire.len() + 1),
                false => pipe.wire.len(),
            };
            pipe.ready.extend(pipe.wire.drain(..len));
            moved = len > 0;
        }
        if pipe.fin && pipe.wire.is_empty() && !pipe.ended && !random.hit(trickle) {
            pipe.ended = true;
            moved = true;
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;

    fn link() -> Link {
        let name = Address::Ip(([10, 0, 0, 1], 1).into());
        Link::new([name.clone(), name], [8, 8])
    }

    fn bytes(text: &[u8]) -> Batch {
        Batch::One(Frame::owned(text.to_vec()))
    }

    #[test]
    fn bytes_travel_in_order_and_wait_for_room() {
        let (mut link, mut random) = (link(), Random::new(1));
        assert_eq!(link.write(0, &bytes(b"0123456789"), 0, 100), Io::Moved(8));
        assert_eq!(link.write(0, &bytes(b"0123456789"), 8, 100), Io::Wait);
        let mut out = [0; 5];
        assert_eq!(link.read(1, &mut out), Io::Wait);
        assert!(link.deliver(&mut random, 0));
        assert_eq!(link.read(1, &mut out), Io::Moved(5));
        assert_eq!(&out, b"01234");
        assert_eq!(link.write(0, &bytes(b"0123456789"), 8, 100), Io::Moved(2));
        link.close(0);
        assert!(link.deliver(&mut random, 0));
        let mut out = [0; 9];
        assert_eq!(link.read(1, &mut out), Io::Moved(5));
        assert_eq!(&out[..5], b"56789");
        assert_eq!(link.read(1, &mut out), Io::End);
    }

    #[test]
    fn closing_with_unread_bytes_resets_the_other_end() {
        let (mut link, mut random) = (link(), Random::new(1));
        assert_eq!(link.write(0, &bytes(b"abc"), 0, 100), Io::Moved(3));
        link.deliver(&mut random, 0);
        link.close(1);
        assert!(!link.is_broken(0));
        link.deliver(&mut random, 0);
        assert_eq!(link.read(0, &mut [0]), Io::Failed(Errno(libc::ECONNRESET)));
        assert_eq!(link.read(0, &mut [0]), Io::End);
        assert_eq!(link.write(0, &bytes(b"x"), 0, 1), Io::Failed(Errno(libc::EPIPE)));
    }

    #[test]
    fn bytes_for_a_closed_end_come_back_as_a_reset() {
        let (mut link, mut random) = (link(), Random::new(1));
        link.close(1);
        link.deliver(&mut random, 0);
        assert_eq!(link.read(0, &mut [0]), Io::End);
        assert_eq!(link.write(0, &bytes(b"late"), 0, 100), Io::Moved(4));
        link.deliver(&mut random, 0);
        assert!(link.is_broken(0));
    }
}
