//! Async byte streams for the few: upstream connections, requests, jobs. Masses belong in a [`crate::Group`].
//!
//! The connection owns its armed receive and its queue; a `Stream`'s futures only wait for them. So dropping any
//! future here loses nothing: bytes that came stay queued, bytes that were queued for sending still leave.

use std::io;
use std::rc::Rc;
use std::task::Poll;

use crate::conn::{Chunk, Close, Conn, ConnId, DEAD, DIRECT, Direct, ENDED, OPENED, Owner, Reason};
use crate::driver::{Address, Errno, Fd, Shut, SocketOptions};
use crate::frame::Frame;
use crate::limits;
use crate::shard::{Core, Shard};
use crate::sockets::Sent;
use crate::trace::{Kind, Trace};

/// One connection, read and written by tasks. Dropping it sends what is queued, then closes.
pub struct Stream {
    core: Rc<Core>,
    id: ConnId,
    owned: bool,
}

impl Shard {
    /// Connects to `peer`.
    ///
    /// # Errors
    /// The kernel's, as from `connect(2)`. Wrap it in [`Shard::timeout`]: a silent host takes minutes to fail.
    pub async fn connect(&self, peer: &Address, options: &SocketOptions) -> io::Result<Stream> {
        let id = self.core.dial(peer, options)?;
        let stream = Stream { core: self.core.clone(), id, owned: true };
        std::future::poll_fn(|cx| {
            stream.with(|conn| match &mut conn.side {
                Some(side) => match side.connected {
                    Some(result) => Poll::Ready(result),
                    None => {
                        side.writer = Some(cx.waker().clone());
                        Poll::Pending
                    }
                },
                None => Poll::Ready(Err(Errno::CANCELED)),
            })
        })
        .await?;
        Ok(stream)
    }
}

impl Shard {
    /// Two streams that are connected with each other: to put something between a peer and a [`crate::Group`], such as
    /// TLS.
    ///
    /// # Errors
    /// The kernel's, as from `socketpair(2)`.
    pub fn pair(&self) -> io::Result<(Stream, Stream)> {
        let (one, other) = self.core.driver.borrow_mut().pair()?;
        let adopt = |fd| {
            self.core.count_in(self.core.index);
            Stream::adopt(&self.core, fd)
        };
        Ok((adopt(one), adopt(other)))
    }
}

impl Stream {
    pub(crate) fn adopt(core: &Rc<Core>, fd: Fd) -> Stream {
        let id = core.open(fd, Owner::Stream);
        let stream = Stream { core: core.clone(), id, owned: true };
        let connected = Some(Ok(()));
        stream.with(|conn| conn.side = Some(Box::new(crate::conn::StreamSide { connected, ..Default::default() })));
        stream
    }

    /// Gives the connection up without closing it.
    pub(crate) fn into_id(mut self) -> ConnId {
        self.owned = false;
        self.id
    }

    fn with<T>(&self, f: impl FnOnce(&mut Conn) -> T) -> T {
        let mut conns = self.core.conns.borrow_mut();
        // A stream's slot is freed by the stream alone (`abandon`), so the id always names a living entry.
        f(conns.get(self.id).expect("a stream's connection outlives it"))
    }

    /// The peer's address.
    ///
    /// # Errors
    /// The kernel's, for instance when the connection is gone.
    pub fn peer(&self) -> io::Result<Address> {
        let fd = self.with(|conn| conn.fd);
        self.core.driver.borrow().peer(fd)
    }

    /// The next bytes in order; `None` at the end of the stream. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Why the connection broke. Bytes received before that come first.
    pub async fn recv(&mut self) -> io::Result<Option<Chunk>> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// As [`Stream::recv`], for hand-written futures.
    ///
    /// # Errors
    /// As [`Stream::recv`].
    pub fn poll_recv(&mut self, cx: &mut std::task::Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        self.with(|conn| {
            if let Some(chunk) = self.core.take_chunk(self.id.index, conn) {
                return Poll::Ready(Ok(Some(chunk)));
            }
            if conn.is(ENDED) {
                return Poll::Ready(Ok(None));
            }
            if conn.is(DEAD) {
                return Poll::Ready(Err(broken(conn.reason)));
            }
            if let Some(side) = &mut conn.side {
                side.reader = Some(cx.waker().clone());
            }
            Poll::Pending
        })
    }

    /// Puts bytes back in front, to be received again.
    pub fn give_back(&mut self, chunk: Chunk) {
        self.core.return_chunk(self.id, chunk);
    }

    /// Receives exactly `want` bytes behind what `memory` holds, straight into it: for bodies of known length.
    /// What is queued already is copied; the rest bypasses the receive buffers.
    ///
    /// Unlike [`Stream::recv`], dropping this future before it is ready loses the bytes it had received.
    ///
    /// # Errors
    /// `UnexpectedEof` when the stream ends first; why the connection broke.
    pub async fn recv_exact(&mut self, mut memory: Vec<u8>, want: usize) -> io::Result<Vec<u8>> {
        let goal = memory.len() + want;
        memory.reserve_exact(want);
        loop {
            while memory.len() < goal {
                let taken = self.with(|conn| self.core.take_chunk(self.id.index, conn));
                let Some(chunk) = taken else { break };
                let used = chunk.len().min(goal - memory.len());
                memory.extend_from_slice(&chunk[..used]);
                self.core.metrics.bytes_copied.add(used as u64);
                if used < chunk.len() {
                    self.give_back(Chunk::Owned(chunk[used..].to_vec()));
                }
            }
            if memory.len() == goal {
                return Ok(memory);
            }
            let left = goal - memory.len();
            if left < limits::DIRECT_RECEIVE_BYTES_MIN {
                let Some(chunk) = self.recv().await? else { return Err(cut_short()) };
                self.give_back(chunk);
                continue;
            }
            let (filled, result) = self.recv_direct(memory, left).await;
            memory = filled;
            let (ended, broken_by) = self.with(|conn| {
                let dry = conn.chunks.is_empty();
                (conn.is(ENDED) && dry, Some(conn.reason).filter(|_| conn.is(DEAD) && dry))
            });
            match (result, broken_by) {
                (Err(errno), _) if errno != Errno::CANCELED => return Err(errno.into()),
                _ if memory.len() == goal => {}
                _ if ended => return Err(cut_short()),
                // Nothing more will come: trying again would go round for ever.
                (_, Some(reason)) => return Err(broken(reason)),
                _ => {}
            }
        }
    }

    async fn recv_direct(&mut self, memory: Vec<u8>, want: usize) -> (Vec<u8>, Result<u32, Errno>) {
        // One whose future was dropped may still be in flight: the socket is its until it ends.
        std::future::poll_fn(|cx| {
            self.with(|conn| match &mut conn.side {
                Some(side) if matches!(side.direct, Some(Direct::InFlight)) => {
                    side.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            })
        })
        .await;
        self.with(|conn| {
            if let Some(side) = &mut conn.side {
                side.direct = Some(Direct::Wanted { memory, want });
            }
            conn.set(DIRECT);
        });
        self.core.switch_to_direct(self.id);
        std::future::poll_fn(|cx| {
            self.with(|conn| {
                let Some(side) = &mut conn.side else { return Poll::Ready((Vec::new(), Err(Errno::CANCELED))) };
                match side.direct.take() {
                    Some(Direct::Done { memory, result }) => Poll::Ready((memory, result)),
                    waiting => {
                        side.direct = waiting;
                        side.reader = Some(cx.waker().clone());
                        Poll::Pending
                    }
                }
            })
        })
        .await
    }

    /// Queues `frame` and waits until less than the high-water mark is queued. Dropping the future after its
    /// first poll does not take the bytes back.
    ///
    /// # Errors
    /// Why the connection broke.
    pub async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.queue(frame)?;
        std::future::poll_fn(|cx| self.poll_room(cx, limits::STREAM_HIGH_WATER_BYTES)).await
    }

    /// As [`Stream::send`], of `parts` joined in one copy.
    ///
    /// # Errors
    /// Why the connection broke.
    pub async fn send_copy(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let frame = self.core.arena.borrow_mut().frame(parts);
        self.send(&frame).await
    }

    /// Queues `frame` without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when the outbox is at its cap; why the connection broke.
    pub fn queue(&mut self, frame: &Frame) -> io::Result<()> {
        match self.core.send(self.id, frame, limits::STREAM_OUTBOX_BYTES_MAX) {
            Sent::Queued => Ok(()),
            Sent::Full => Err(io::ErrorKind::WouldBlock.into()),
            Sent::Gone => Err(self.with(|conn| broken(conn.reason))),
        }
    }

    /// A traced message's answer is what was queued last: its trace ends when that has left.
    pub fn trace(&self, trace: Trace, kind: &'static Kind) {
        self.core.trace(self.id, trace, kind);
    }

    /// Waits until everything queued has been handed to the kernel.
    ///
    /// # Errors
    /// Why the connection broke.
    pub async fn flush(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_room(cx, 1)).await
    }

    /// Bytes that wait to be sent.
    pub fn outbox_bytes(&self) -> usize {
        self.with(|conn| conn.outbox.bytes())
    }

    /// Ready once fewer than `below` bytes wait.
    ///
    /// # Errors
    /// Why the connection broke.
    pub fn poll_room(&mut self, cx: &mut std::task::Context<'_>, below: usize) -> Poll<io::Result<()>> {
        self.with(|conn| {
            if conn.is(DEAD) {
                return Poll::Ready(Err(broken(conn.reason)));
            }
            if conn.outbox.bytes() < below {
                return Poll::Ready(Ok(()));
            }
            if let Some(side) = &mut conn.side {
                side.writer = Some(cx.waker().clone());
            }
            Poll::Pending
        })
    }

    /// Sends what is queued, then the end of our half. Receiving goes on.
    ///
    /// # Errors
    /// Why the connection broke.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.flush().await?;
        let fd = self.with(|conn| conn.fd);
        self.core.driver.borrow_mut().shutdown(fd, Shut::Write);
        Ok(())
    }

    /// Closes at once; what is queued is dropped.
    pub fn abort(self) {
        self.core.close(self.id, Close::Now, Reason::Local);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.owned {
            self.core.abandon(self.id);
        }
    }
}

impl Core {
    /// Lets the multishot receive end, then the wanted direct receive begin.
    pub(crate) fn switch_to_direct(&self, id: ConnId) {
        let mut conns = self.conns.borrow_mut();
        let Some(conn) = conns.get(id) else { return };
        self.disarm(id.index, conn);
        self.start_direct(id.index, conn);
    }

    /// Closes every connection and listener at once, as a shard does when it ends.
    pub(crate) fn close_all(&self) {
        self.close_listeners();
        let used = self.conns.borrow().used();
        for index in 0..used {
            let id = self.conns.borrow_mut().living(index);
            let Some(id) = id else { continue };
            self.close(id, Close::Now, Reason::Shutdown);
            let mut conns = self.conns.borrow_mut();
            let Some(conn) = conns.get(id) else { continue };
            conn.owner = Owner::Nobody;
            conn.side = None;
            conn.clear(OPENED);
            if conn.is(crate::conn::CLOSED) {
                self.free(&mut conns, index);
            }
        }
    }
}

fn broken(reason: Reason) -> io::Error {
    match reason {
        Reason::Failed(errno) => errno.into(),
        Reason::Local | Reason::Shutdown => {
            io::Error::new(io::ErrorKind::NotConnected, "the connection was closed here")
        }
        Reason::Peer => io::Error::new(io::ErrorKind::ConnectionReset, "the peer closed the connection"),
        Reason::Slow => io::Error::new(io::ErrorKind::TimedOut, "the peer took too long to take what was sent"),
    }
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the stream ended before the announced length")
}
