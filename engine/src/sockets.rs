//! What a shard does with its connections: arm, receive, send, close, retire.
//!
//! Everything here changes state and submits operations; nothing here runs a task or a session. Owners learn what
//! happened from their ready list or waker, after the reaping is over.

use std::time::Duration;

use crate::conn::{
    ARMED, BLOCKED, CLOSED, CLOSING, COPIED, Chunk, Close, Conn, ConnId, ConnTable, DEAD, DIALED, DIRECT, DIRTY,
    DRAINED, Direct, ENDED, ENDED_TOLD, LINGERING, OPENED, Owner, PACED, PARKED, PAUSED, RESTING, Reason, SENDING,
    SENT_TO, TELL_DRAINED, TRACED_IN, TRACED_OUT,
};
use crate::driver::{Batch, Completion, Errno, Fd, Memory, Op, SendManner, Shut, Token};
use crate::frame::Frame;
use crate::limits;
use crate::shard::{Core, TAG_CONNECT, TAG_DIRECT, TAG_RECEIVE, TAG_SEND};
use crate::trace::{Kind, Trace};

/// Fan-outs are paced: whoever was sent to as one of many is left alone for a moment, and what it is sent meanwhile leaves
/// together. A send costs the same for one message as for a hundred, so a shard that is told something every 20 us would
/// otherwise spend all its time on sends of a few bytes. Who was not sent to lately does not wait for those who were.
#[derive(Default)]
pub(crate) struct Paced {
    resting: Vec<Rest>,
    /// How many rest.
    receivers: usize,
    /// Something may wait for some of them.
    has_waiting: bool,
}

/// Receivers of one fan-out.
struct Rest {
    until: Duration,
    receivers: Vec<u32>,
}

impl Paced {
    /// Lets them rest, the longer the more they are, or the more do.
    fn rest(&mut self, now: Duration, receivers: Vec<u32>) {
        self.receivers += receivers.len();
        let of =
            |each: Duration, count: usize, most| each.saturating_mul(count.try_into().unwrap_or(u32::MAX)).min(most);
        let own = of(limits::FAN_OUT_REST_PER_RECEIVER, receivers.len(), limits::FAN_OUT_REST_MAX);
        let all = of(limits::FAN_OUT_REST_PER_RESTING, self.receivers, limits::FAN_OUT_REST_AMONG_MANY_MAX);
        self.resting.push(Rest { until: now + own.max(all), receivers });
    }
}

/// What became of bytes given to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a full outbox has a consequence that the caller must choose"]
pub enum Sent {
    /// They will leave in order, or the connection will close.
    Queued,
    /// The outbox is at its cap: these bytes were not taken.
    Full,
    /// The connection is closing or gone: these bytes were not taken.
    Gone,
}

impl Core {
    /// Adopts a connected descriptor, which has been counted in, and starts receiving.
    pub(crate) fn open(&self, fd: Fd, owner: Owner) -> ConnId {
        let mut conns = self.conns.borrow_mut();
        let id = conns.insert(fd, owner);
        self.metrics.connections.set(conns.alive() as u64);
        let conn = conns.at(id.index);
        conn.last_active = self.coarse_now();
        if let Owner::Group(_) = owner {
            conn.set(OPENED);
            self.tell(id.index, conn);
        }
        self.arm(id.index, conn);
        id
    }

    /// Arms the receive unless something speaks against it.
    pub(crate) fn arm(&self, index: u32, conn: &mut Conn) {
        let full = conn.chunks.bytes() >= limits::RECEIVE_QUEUE_BYTES_MAX;
        if full || conn.is(ARMED | PAUSED | ENDED | DEAD | DIRECT | PARKED) || self.is_connecting(conn) {
            return;
        }
        conn.set(ARMED);
        conn.ops += 1;
        let token = Token::new(TAG_RECEIVE, conn.generation, index);
        self.driver.borrow_mut().submit(token, Op::Receive { socket: conn.fd });
    }

    fn is_connecting(&self, conn: &Conn) -> bool {
        matches!(&conn.side, Some(side) if side.connected.is_none())
    }

    pub(crate) fn disarm(&self, index: u32, conn: &Conn) {
        if conn.is(ARMED) {
            let token = Token::new(TAG_RECEIVE, conn.generation, index);
            self.driver.borrow_mut().cancel_receive(conn.fd, token);
        }
    }

    /// One of possibly many completions of a multishot receive.
    pub(crate) fn on_receive(&self, done: Completion) {
        let mut conns = self.conns.borrow_mut();
        let index = done.token.index();
        let conn = conns.at(index);
        if conn.generation != done.token.generation() {
            return self.metrics.stale_completions.add(1);
        }
        if !done.more {
            conn.clear(ARMED);
            conn.ops -= 1;
        }
        match (done.result, done.memory) {
            (Ok(0), _) => self.on_end(index, conn),
            (Ok(len), Memory::Lease(lease)) => {
                self.metrics.bytes_received.add(len as u64);
                conn.last_active = self.coarse_now();
                if !conn.is(LINGERING | DEAD) {
                    self.chunks.borrow_mut().push(&mut conn.chunks, Chunk::Leased(lease));
                    self.tracer.on_received(ConnId { index, generation: conn.generation }, conn);
                    self.tell(index, conn);
                    if conn.chunks.bytes() >= limits::RECEIVE_QUEUE_BYTES_MAX {
                        self.disarm(index, conn);
                    }
                }
            }
            (Err(Errno::NOBUFS), _) => {
                self.metrics.enobufs.add(1);
                if !conn.is(DEAD) {
                    conn.set(PARKED);
                    self.parked.borrow_mut().push_back(ConnId { index, generation: conn.generation });
                }
            }
            // Cancelled for a reason that may have passed meanwhile; armed again below if so.
            (Err(Errno::CANCELED), _) | (Ok(_), _) => {}
            (Err(errno), _) => self.fail(index, conn, errno),
        }
        if !done.more {
            self.start_direct(index, conn);
            self.arm(index, conn);
        }
        self.retire(&mut conns, index);
    }

    fn on_end(&self, index: u32, conn: &mut Conn) {
        conn.set(ENDED);
        if conn.is(LINGERING) {
            self.kill(conn);
        } else if !conn.is(DEAD) {
            self.tell(index, conn);
        }
    }

    /// Lets connections that starved try again, as far as there are buffers for them.
    pub(crate) fn unpark(&self) {
        if self.parked.borrow().is_empty() {
            return;
        }
        let (mut room, exhausted) = {
            let driver = self.driver.borrow();
            let pool = driver.pool();
            (pool.free() + pool.published(), pool.free() + pool.published() == 0)
        };
        if exhausted {
            // Every buffer is held by somebody who does not read: copy what they hold, so that all can go on.
            self.hold_everything();
            room = self.driver.borrow().pool().free();
        }
        let mut conns = self.conns.borrow_mut();
        while room > 0 {
            let Some(id) = self.parked.borrow_mut().pop_front() else { break };
            let Some(conn) = conns.get(id) else { continue };
            conn.clear(PARKED);
            self.metrics.parked.add(1);
            self.arm(id.index, conn);
            room -= 1;
        }
    }

    fn hold_everything(&self) {
        let mut conns = self.conns.borrow_mut();
        let mut chunks = self.chunks.borrow_mut();
        for index in 0..conns.used() {
            let copied = chunks.hold(&conns.at(index).chunks);
            self.metrics.bytes_copied.add(copied as u64);
        }
    }

    /// The next received chunk.
    pub(crate) fn take_chunk(&self, index: u32, conn: &mut Conn) -> Option<Chunk> {
        let chunk = self.chunks.borrow_mut().pop(&mut conn.chunks)?;
        self.tracer.on_taken(index, conn);
        self.arm(index, conn);
        Some(chunk)
    }

    /// Gives back a chunk that was not used up.
    pub(crate) fn return_chunk(&self, id: ConnId, chunk: Chunk) {
        if let Some(conn) = self.conns.borrow_mut().get(id)
            && !chunk.is_empty()
        {
            self.chunks.borrow_mut().unpop(&mut conn.chunks, chunk);
            self.tell(id.index, conn);
        }
    }

    /// Stops and resumes reading. Bytes that are already here stay queued.
    pub(crate) fn pause(&self, id: ConnId, paused: bool) {
        let mut conns = self.conns.borrow_mut();
        let Some(conn) = conns.get(id) else { return };
        if paused {
            conn.set(PAUSED);
            self.disarm(id.index, conn);
            let copied = self.chunks.borrow_mut().hold(&conn.chunks);
            self.metrics.bytes_copied.add(copied as u64);
        } else {
            conn.clear(PAUSED);
            self.arm(id.index, conn);
            self.tell(id.index, conn);
        }
    }

    /// Starts a direct receive once the multishot one is out of the way.
    pub(crate) fn start_direct(&self, index: u32, conn: &mut Conn) {
        if !conn.is(DIRECT) || conn.is(ARMED) {
            return;
        }
        let (fd, generation, gone) = (conn.fd, conn.generation, conn.is(DEAD | ENDED));
        let unread = !conn.chunks.is_empty();
        let Some(side) = &mut conn.side else { return };
        if !matches!(side.direct, Some(Direct::Wanted { .. })) {
            return;
        }
        let Some(Direct::Wanted { memory, want }) = side.direct.take() else { return };
        if gone || unread {
            // Bytes came before the receive could be switched over (or none will): the reader copies those first.
            side.direct = Some(Direct::Done { memory, result: Ok(0) });
            if let Some(waker) = side.reader.take() {
                waker.wake();
            }
            conn.clear(DIRECT);
            return self.arm(index, conn);
        }
        side.direct = Some(Direct::InFlight);
        conn.ops += 1;
        let token = Token::new(TAG_DIRECT, generation, index);
        self.driver.borrow_mut().submit(token, Op::ReceiveInto { socket: fd, memory, want });
    }

    /// The end of a direct receive.
    pub(crate) fn on_direct(&self, done: Completion) {
        let mut conns = self.conns.borrow_mut();
        let index = done.token.index();
        let conn = conns.at(index);
        if conn.generation != done.token.generation() {
            return self.metrics.stale_completions.add(1);
        }
        conn.ops -= 1;
        conn.clear(DIRECT);
        conn.last_active = self.coarse_now();
        let memory = match done.memory {
            Memory::Bytes(memory) => memory,
            _ => Vec::new(),
        };
        self.metrics.bytes_received.add(done.result.unwrap_or(0) as u64);
        // If the reader is gone, so are its bytes.
        if let Some(side) = &mut conn.side {
            side.direct = Some(Direct::Done { memory, result: done.result });
            if let Some(waker) = side.reader.take() {
                waker.wake();
            }
        }
        match done.result {
            Ok(0) => self.on_end(index, conn),
            Ok(_) | Err(Errno::CANCELED) => {}
            Err(errno) => self.fail(index, conn, errno),
        }
        self.arm(index, conn);
        self.retire(&mut conns, index);
    }

    /// The end of a connect.
    pub(crate) fn on_connect(&self, done: Completion) {
        let mut conns = self.conns.borrow_mut();
        let index = done.token.index();
        let conn = conns.at(index);
        if conn.generation != done.token.generation() {
            return self.metrics.stale_completions.add(1);
        }
        conn.ops -= 1;
        if let Some(side) = &mut conn.side {
            side.connected = Some(done.result.map(|_| ()));
            if let Some(waker) = side.writer.take() {
                waker.wake();
            }
        }
        match done.result {
            Ok(_) => self.arm(index, conn),
            Err(errno) => self.fail(index, conn, errno),
        }
        self.retire(&mut conns, index);
    }

    /// Opens a socket and starts connecting it.
    pub(crate) fn dial(
        &self,
        peer: &crate::driver::Address,
        options: &crate::driver::SocketOptions,
    ) -> std::io::Result<ConnId> {
        let fd = self.driver.borrow_mut().socket(peer, options)?;
        let mut conns = self.conns.borrow_mut();
        self.count_in(self.index);
        let id = conns.insert(fd, Owner::Stream);
        self.metrics.connections.set(conns.alive() as u64);
        let conn = conns.at(id.index);
        conn.set(DIALED);
        conn.side = Some(Box::default());
        conn.ops += 1;
        let token = Token::new(TAG_CONNECT, id.generation, id.index);
        self.driver.borrow_mut().submit(token, Op::Connect { socket: fd, peer: peer.clone() });
        Ok(id)
    }

    /// Queues `frame` behind what waits already.
    pub(crate) fn send(&self, id: ConnId, frame: &Frame, cap: usize) -> Sent {
        let mut conns = self.conns.borrow_mut();
        let Some(conn) = conns.get(id) else { return Sent::Gone };
        let sent = self.enqueue(conn, frame, cap);
        if sent == Sent::Queued {
            self.mark_dirty(id.index, conn);
        }
        sent
    }

    /// Queues `frame` on many connections. It leaves with this turn, or, where one was sent to as one of many lately, when
    /// that is long enough ago.
    pub(crate) fn send_all(&self, ids: &[ConnId], frame: &Frame, cap: usize, full: &mut Vec<ConnId>) {
        let mut conns = self.conns.borrow_mut();
        let mut paced = self.paced.borrow_mut();
        let mut receivers = Vec::new();
        for &id in ids {
            let Some(conn) = conns.get(id) else { continue };
            match self.enqueue(conn, frame, cap) {
                Sent::Queued if !conn.is(RESTING) => {
                    self.mark_dirty(id.index, conn);
                    conn.set(RESTING);
                    conn.clear(SENT_TO);
                    receivers.push(id.index);
                }
                Sent::Queued if conn.outbox.bytes() >= limits::FAN_OUT_REST_BYTES_MAX.min(cap / 2) => {
                    self.mark_dirty(id.index, conn);
                }
                Sent::Queued if !conn.is(DIRTY | SENDING) => {
                    conn.set(PACED);
                    paced.has_waiting = true;
                }
                Sent::Queued | Sent::Gone => {}
                Sent::Full => full.push(id),
            }
        }
        if !receivers.is_empty() {
            paced.rest(self.timers.now(), receivers);
        }
    }

    fn enqueue(&self, conn: &mut Conn, frame: &Frame, cap: usize) -> Sent {
        if conn.is(CLOSING | LINGERING | DEAD) {
            return Sent::Gone;
        }
        if conn.outbox.bytes() >= cap {
            return Sent::Full;
        }
        if !frame.is_empty() {
            conn.outbox.push(frame);
        }
        Sent::Queued
    }

    /// What is queued leaves with this turn, what waits for its fan-out included.
    fn mark_dirty(&self, index: u32, conn: &mut Conn) {
        conn.clear(PACED);
        conn.set(SENT_TO);
        if !conn.is(DIRTY | SENDING) {
            conn.set(DIRTY);
            self.dirty.borrow_mut().push(index);
        }
    }

    /// A trace ends when what is queued on the connection now has left.
    pub(crate) fn trace(&self, id: ConnId, trace: Trace, kind: &'static Kind) {
        if trace.is_chosen()
            && let Some(conn) = self.conns.borrow_mut().get(id)
        {
            self.tracer.on_queued(id, conn, trace, kind, &self.metrics);
        }
    }

    /// Lets what waits for those who have rested leave with this turn.
    pub(crate) fn release_paced(&self, now: Duration) {
        let mut paced = self.paced.borrow_mut();
        let mut conns = self.conns.borrow_mut();
        for mut rest in paced.resting.extract_if(.., |rest| rest.until <= now).collect::<Vec<_>>() {
            paced.receivers -= rest.receivers.len();
            rest.receivers.retain(|&index| {
                let conn = conns.at(index);
                let is_busy = conn.is(PACED | SENT_TO);
                if conn.is(PACED) {
                    self.mark_dirty(index, conn);
                }
                conn.clear(SENT_TO);
                // A slot may have a new owner, who does not rest.
                if !is_busy {
                    conn.clear(RESTING);
                }
                conn.is(RESTING)
            });
            if !rest.receivers.is_empty() {
                paced.rest(now, rest.receivers);
            }
        }
        paced.has_waiting &= !paced.resting.is_empty();
    }

    /// When [`Core::release_paced`] may have something to do.
    pub(crate) fn paced_deadline(&self) -> Option<Duration> {
        let paced = self.paced.borrow();
        paced.resting.iter().map(|rest| rest.until).min().filter(|_| paced.has_waiting)
    }

    /// One coalesced send for every connection that has something to send and nothing in flight.
    pub(crate) fn flush(&self) {
        let dirty = std::mem::take(&mut *self.dirty.borrow_mut());
        let mut conns = self.conns.borrow_mut();
        for &index in &dirty {
            let conn = conns.at(index);
            conn.clear(DIRTY);
            if conn.is(SENDING | DEAD) || self.is_connecting(conn) {
                continue;
            }
            let Some(batch) = conn.outbox.take(limits::SEND_BYTES_MAX, limits::SEND_FRAMES_MAX) else { continue };
            let len = batch.len();
            let manner = self.manner_of_send(conn, len);
            self.metrics.zero_copy_sends.add((manner == SendManner::ZeroCopy) as u64);
            if conn.is(TRACED_OUT) {
                self.tracer.on_sending(ConnId { index, generation: conn.generation });
            }
            conn.set(SENDING);
            conn.outbox.sending = len as u32;
            conn.ops += 1;
            let token = Token::new(TAG_SEND, conn.generation, index);
            self.driver.borrow_mut().submit(token, Op::Send { socket: conn.fd, batch, manner });
        }
        drop(conns);
        // Keep the allocation for the next turn.
        let mut empty = self.dirty.borrow_mut();
        if empty.is_empty() {
            *empty = dirty;
            empty.clear();
        }
    }

    /// A send whose outcome nobody waits for, to a peer that has kept up, does not wake the shard.
    fn manner_of_send(&self, conn: &Conn, len: usize) -> SendManner {
        let has_writer = || conn.side.as_ref().is_some_and(|side| side.writer.is_some());
        if len >= self.zero_copy_bytes_min && !conn.is(COPIED) {
            SendManner::ZeroCopy
        } else if conn.is(BLOCKED | CLOSING | TELL_DRAINED | TRACED_OUT) || !conn.outbox.is_empty() || has_writer() {
            SendManner::Copy
        } else {
            SendManner::Quiet
        }
    }

    /// The outcome of a send, or the notification that a zero-copy send's memory is free.
    pub(crate) fn on_send(&self, done: Completion) {
        let mut conns = self.conns.borrow_mut();
        let index = done.token.index();
        let conn = conns.at(index);
        if conn.generation != done.token.generation() {
            return self.metrics.stale_completions.add(1);
        }
        conn.ops -= !done.more as u16;
        if matches!(done, Completion { result: Ok(1), more: false, memory: Memory::None, .. }) {
            conn.set(COPIED);
        }
        if let Memory::Batch(batch) = done.memory {
            let len = conn.outbox.sending;
            conn.outbox.sending = 0;
            conn.clear(SENDING);
            match done.result {
                Ok(sent) => {
                    self.metrics.bytes_sent.add(sent as u64);
                    if sent < len {
                        self.metrics.short_sends.add(1);
                    }
                    self.on_sent(index, conn, batch, sent as usize);
                }
                Err(Errno::AGAIN) => {
                    self.metrics.short_sends.add(1);
                    self.on_sent(index, conn, batch, 0);
                }
                Err(errno) => {
                    self.metrics.send_errors.add(1);
                    self.fail(index, conn, errno);
                }
            }
        }
        self.retire(&mut conns, index);
    }

    fn on_sent(&self, index: u32, conn: &mut Conn, batch: Batch, sent: usize) {
        if conn.is(DEAD) {
            return;
        }
        conn.clear(BLOCKED);
        if let Some(rest) = batch.after(sent) {
            conn.set(BLOCKED);
            conn.outbox.unshift(rest);
        }
        if !conn.outbox.is_empty() {
            self.mark_dirty(index, conn);
            return;
        }
        if conn.is(TRACED_OUT) {
            self.tracer.on_sent(ConnId { index, generation: conn.generation }, conn, &self.metrics);
        }
        if conn.is(CLOSING) {
            return self.linger(index, conn);
        }
        if conn.is(TELL_DRAINED) {
            conn.clear(TELL_DRAINED);
            conn.set(DRAINED);
            self.tell(index, conn);
        }
        if let Some(side) = &mut conn.side
            && let Some(waker) = side.writer.take()
        {
            waker.wake();
        }
    }

    /// Closes; calling it again can only hasten it.
    pub(crate) fn close(&self, id: ConnId, how: Close, reason: Reason) {
        let mut conns = self.conns.borrow_mut();
        let Some(conn) = conns.get(id) else { return };
        if conn.is(CLOSED) {
            return;
        }
        if !conn.is(CLOSING | LINGERING | DEAD) {
            conn.reason = reason;
        }
        match how {
            Close::Now => self.kill(conn),
            Close::Graceful if conn.is(CLOSING | LINGERING | DEAD) => {}
            Close::Graceful => {
                conn.set(CLOSING);
                if self.is_connecting(conn) {
                    self.kill(conn);
                } else if conn.outbox.is_empty() && !conn.is(SENDING) {
                    self.linger(id.index, conn);
                } else if conn.is(PACED) {
                    self.mark_dirty(id.index, conn);
                }
            }
        }
        self.retire(&mut conns, id.index);
    }

    /// Everything is sent: end our half, and wait for the peer's so that no reset overtakes our last bytes.
    fn linger(&self, index: u32, conn: &mut Conn) {
        if conn.is(ENDED) {
            return self.kill(conn);
        }
        conn.set(LINGERING);
        conn.clear(PAUSED);
        self.chunks.borrow_mut().clear(&mut conn.chunks);
        self.driver.borrow_mut().shutdown(conn.fd, Shut::Write);
        self.arm(index, conn);
        let until = self.timers.now() + limits::LINGER_MAX;
        self.lingering.borrow_mut().push_back((until, ConnId { index, generation: conn.generation }));
    }

    /// Ends the patience with peers that do not close.
    pub(crate) fn sweep_lingering(&self, now: Duration) {
        loop {
            let due = {
                let mut lingering = self.lingering.borrow_mut();
                match lingering.front() {
                    Some((until, _)) if *until <= now => lingering.pop_front(),
                    _ => None,
                }
            };
            let Some((_, id)) = due else { return };
            self.close(id, Close::Now, Reason::Local);
        }
    }

    /// When [`Core::sweep_lingering`] has something to do.
    pub(crate) fn linger_deadline(&self) -> Option<Duration> {
        self.lingering.borrow().front().map(|(until, _)| *until)
    }

    /// Shuts both halves; the descriptor closes when the last operation on it has ended.
    fn kill(&self, conn: &mut Conn) {
        if conn.is(DEAD) {
            return;
        }
        conn.set(DEAD);
        conn.outbox.clear();
        let mut driver = self.driver.borrow_mut();
        driver.shutdown(conn.fd, Shut::Both);
        if conn.ops > 0 {
            driver.cancel(conn.fd);
        }
    }

    fn fail(&self, index: u32, conn: &mut Conn, errno: Errno) {
        if !conn.is(CLOSING | LINGERING | DEAD) {
            conn.reason = if conn.is(ENDED) { Reason::Peer } else { Reason::Failed(errno) };
        }
        self.kill(conn);
        self.tell(index, conn);
    }

    /// Closes the descriptor of a dead connection once nothing is in flight on it.
    fn retire(&self, conns: &mut ConnTable, index: u32) {
        let conn = conns.at(index);
        if !conn.is(DEAD) || conn.ops > 0 || conn.is(CLOSED) {
            return;
        }
        conn.set(CLOSED);
        self.driver.borrow_mut().close(conn.fd);
        self.metrics.closed.add(1);
        match conn.owner {
            Owner::Nobody => self.free(conns, index),
            _ => self.tell(index, conn),
        }
    }

    /// Frees the slot of a closed connection. The owner has been told or is gone.
    pub(crate) fn free(&self, conns: &mut ConnTable, index: u32) {
        let conn = conns.at(index);
        self.chunks.borrow_mut().clear(&mut conn.chunks);
        if conn.is(TRACED_IN | TRACED_OUT) {
            self.tracer.forget(ConnId { index, generation: conn.generation });
        }
        conns.remove(index);
        self.metrics.connections.set(conns.alive() as u64);
        self.count_out(self.index);
    }

    /// Leaves a connection to itself: it sends what is queued and closes.
    pub(crate) fn abandon(&self, id: ConnId) {
        let how = {
            let mut conns = self.conns.borrow_mut();
            let Some(conn) = conns.get(id) else { return };
            // What never connected has nothing to send and nobody to wait for.
            let how = if self.is_connecting(conn) { Close::Now } else { Close::Graceful };
            conn.owner = Owner::Nobody;
            let side = conn.side.take();
            if !matches!(side.and_then(|side| side.direct), Some(Direct::InFlight)) {
                // One in flight keeps its flag, and with it any other receive away, until it ends.
                conn.clear(DIRECT);
            }
            if conn.is(CLOSED) {
                return self.free(&mut conns, id.index);
            }
            how
        };
        self.close(id, how, Reason::Local);
    }

    /// Whether the owner was told of the peer's end of stream; marks it told.
    pub(crate) fn end_untold(conn: &mut Conn) -> bool {
        let untold = conn.is(ENDED) && !conn.is(ENDED_TOLD);
        if untold {
            conn.set(ENDED_TOLD);
        }
        untold
    }
}
