//! A connection with or without TLS, and waiting for one of two things.
//!
//! Every future here can be dropped: what had arrived stays with the connection.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use annulus_engine::tls::TlsStream;
use annulus_engine::trace::{Kind, Trace};
use annulus_engine::{Chunk, Frame, Stream};

use super::pieces::Pieces;

/// A byte stream to a client or an upstream.
pub enum Wire {
    /// As it is.
    Plain(Stream),
    /// Through TLS.
    Tls(Box<TlsStream>),
}

impl Wire {
    /// The next bytes; `None` at the end of the stream.
    ///
    /// # Errors
    /// Why the connection broke.
    pub async fn recv(&mut self) -> io::Result<Option<Chunk>> {
        match self {
            Wire::Plain(stream) => stream.recv().await,
            Wire::Tls(stream) => Ok(stream.recv().await?.map(Chunk::Owned)),
        }
    }

    /// Sends what `bytes` holds and leaves it empty. Waits while much is queued. What is long is not copied.
    ///
    /// # Errors
    /// Why the connection broke.
    pub async fn send(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let sent = match self {
            Wire::Plain(stream) if bytes.len() > COPY_BYTES_MAX => {
                stream.send(&Frame::owned(std::mem::take(bytes))).await
            }
            Wire::Plain(stream) => stream.send_copy(&[bytes]).await,
            Wire::Tls(stream) => stream.send(bytes).await,
        };
        bytes.clear();
        sent
    }

    /// As [`Wire::send`], and waits until less than `QUANTUM_BYTES` is queued: what comes after it, and on other
    /// connections, does not queue behind it.
    ///
    /// # Errors
    /// Why the connection broke.
    pub async fn send_paced(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let is_long = bytes.len() >= QUANTUM_BYTES;
        self.send(bytes).await?;
        match self {
            Wire::Plain(stream) => std::future::poll_fn(|cx| stream.poll_room(cx, QUANTUM_BYTES)).await,
            Wire::Tls(stream) if is_long => stream.flush().await,
            Wire::Tls(_) => Ok(()),
        }
    }

    /// Sends `head` and then `body`, a quantum at a time: others have their turn between. `took` hears of each.
    ///
    /// # Errors
    /// Why the connection broke.
    pub async fn send_pieces(&mut self, head: &mut Vec<u8>, mut body: Pieces, took: impl Fn(usize)) -> io::Result<()> {
        if body.len() <= COPY_BYTES_MAX {
            body.copy_to(head);
            return self.send(head).await;
        }
        self.send(head).await?;
        while let Some(frame) = body.next(QUANTUM_BYTES) {
            match self {
                Wire::Plain(stream) => {
                    stream.queue(&frame)?;
                    std::future::poll_fn(|cx| stream.poll_room(cx, QUANTUM_BYTES)).await?;
                }
                Wire::Tls(stream) => {
                    stream.send(&frame).await?;
                    stream.flush().await?;
                }
            }
            took(frame.len());
        }
        Ok(())
    }

    /// Sends `head` and then `body`, which is not copied where there is no TLS.
    ///
    /// # Errors
    /// Why the connection broke.
    pub async fn send_with_body(&mut self, head: &mut Vec<u8>, body: Vec<u8>) -> io::Result<()> {
        match self {
            Wire::Plain(stream) if body.len() > COPY_BYTES_MAX => {
                stream.send_copy(&[head]).await?;
                head.clear();
                stream.send(&Frame::owned(body)).await
            }
            Wire::Plain(_) | Wire::Tls(_) => {
                head.extend_from_slice(&body);
                self.send(head).await
            }
        }
    }

    /// A traced message's answer is what was sent last.
    pub fn trace(&self, trace: Trace, kind: &'static Kind) {
        match self {
            Wire::Plain(stream) => stream.trace(trace, kind),
            Wire::Tls(stream) => stream.trace(trace, kind),
        }
    }

    /// As [`Wire::recv`], for hand-written futures.
    ///
    /// # Errors
    /// Why the connection broke.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        pin!(self.recv()).poll(cx)
    }

    /// Ready once fewer than `below` bytes wait to be sent.
    ///
    /// # Errors
    /// Why the connection broke.
    pub fn poll_room(&mut self, cx: &mut Context<'_>, below: usize) -> Poll<io::Result<()>> {
        match self {
            Wire::Plain(stream) => stream.poll_room(cx, below),
            Wire::Tls(stream) => stream.poll_room(cx, below),
        }
    }

    /// Sends `bytes` without waiting for room: for whoever asks [`Wire::poll_room`] first.
    ///
    /// # Errors
    /// Why the connection broke.
    pub fn queue(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Queued when first polled; what it would wait for then is room.
        let mut cx = Context::from_waker(Waker::noop());
        let sent = match self {
            Wire::Plain(stream) => pin!(stream.send_copy(&[bytes])).poll(&mut cx),
            Wire::Tls(stream) => pin!(stream.send(bytes)).poll(&mut cx),
        };
        match sent {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => Ok(()),
        }
    }

    /// As [`Wire::finish`], for hand-written futures. To be polled until it is ready, and not again.
    ///
    /// # Errors
    /// Why the connection broke.
    pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_room(cx, 1))?;
        match self {
            Wire::Plain(stream) => pin!(stream.finish()).poll(cx),
            // The farewell is queued when first polled, and is the end to the peer; that of the transport comes when the
            // stream is dropped.
            Wire::Tls(stream) => match pin!(stream.finish()).poll(cx) {
                Poll::Ready(outcome) => Poll::Ready(outcome),
                Poll::Pending => Poll::Ready(Ok(())),
            },
        }
    }

    /// Says that nothing more will be sent.
    ///
    /// # Errors
    /// Why the connection broke.
    pub async fn finish(&mut self) -> io::Result<()> {
        match self {
            Wire::Plain(stream) => stream.finish().await,
            Wire::Tls(stream) => stream.finish().await,
        }
    }

    /// Closes at once; what is queued is dropped.
    pub fn abort(self) {
        match self {
            Wire::Plain(stream) => stream.abort(),
            Wire::Tls(stream) => stream.abort(),
        }
    }

    /// Whether nothing has arrived, the end included: only then may an idle connection be used for a request.
    pub fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let arrived = pin!(self.recv()).poll(&mut cx);
        arrived.is_pending()
    }
}

/// Bodies up to this size are copied behind their head: cheaper than a second piece to send.
const COPY_BYTES_MAX: usize = 4096;
/// Bytes of a large body that are handed to the kernel at once. The kernel takes them at the cost of whoever waits for this
/// shard: about 20 us.
const QUANTUM_BYTES: usize = 32 << 10;

/// What came first.
pub enum Either<A, B> {
    /// The first.
    First(A),
    /// The second.
    Second(B),
}

/// Waits for one of two futures, looking at the first one first. The other is dropped.
pub async fn either<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> Either<A, B> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(value) = first.as_mut().poll(cx) {
            return Poll::Ready(Either::First(value));
        }
        second.as_mut().poll(cx).map(Either::Second)
    })
    .await
}

/// Something happened, for one task that waits; happening again before it looked is the same.
#[derive(Default)]
pub struct Notify {
    happened: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Notify {
    /// It happened.
    pub fn notify(&self) {
        self.happened.set(true);
        if let Some(waiter) = self.waiter.borrow_mut().take() {
            waiter.wake();
        }
    }

    /// Waits until it has happened since the last wait.
    pub async fn notified(&self) {
        std::future::poll_fn(|cx| {
            if self.happened.replace(false) {
                return Poll::Ready(());
            }
            *self.waiter.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A queue of tasks that wait for something to become free, woken one by one or all together.
#[derive(Default)]
pub struct Crowd {
    waiting: RefCell<VecDeque<Rc<Waiting>>>,
}

#[derive(Default)]
struct Waiting {
    woken: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Waiting {
    fn wake(&self) {
        self.woken.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Crowd {
    /// One thing became free: whoever has waited longest looks again.
    pub fn one(&self) {
        let first = self.waiting.borrow_mut().pop_front();
        if let Some(first) = first {
            first.wake();
        }
    }

    /// How many wait.
    pub fn size(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Everything may have changed: all look again.
    pub fn all(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.iter().for_each(|waiting| waiting.wake());
    }

    /// Waits to be woken. Dropped after it was woken and before it could look, it wakes the next one.
    pub async fn wait(&self) {
        let waiting = Rc::new(Waiting::default());
        self.waiting.borrow_mut().push_back(waiting.clone());
        let place = Place { crowd: self, waiting: &waiting, done: Cell::new(false) };
        std::future::poll_fn(|cx| {
            if waiting.woken.get() {
                place.done.set(true);
                return Poll::Ready(());
            }
            *waiting.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A place in the queue.
struct Place<'a> {
    crowd: &'a Crowd,
    waiting: &'a Rc<Waiting>,
    done: Cell<bool>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.done.get() {
            return;
        }
        match self.waiting.woken.get() {
            true => self.crowd.one(),
            false => self.crowd.waiting.borrow_mut().retain(|other| !Rc::ptr_eq(other, self.waiting)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;

    type Wait<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

    fn poll(wait: &mut Wait<'_>) -> bool {
        wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_crowd_is_woken_in_order_and_no_wake_is_lost() {
        let crowd = Crowd::default();
        let mut waits: Vec<Wait<'_>> = (0..4).map(|_| Box::pin(crowd.wait()) as Wait<'_>).collect();
        assert!(!waits.iter_mut().any(poll));
        crowd.one();
        assert!(!poll(&mut waits[1]) && poll(&mut waits[0]));
        // The second is woken and gives up: its turn goes to the third.
        crowd.one();
        drop(waits.remove(1));
        assert!(poll(&mut waits[1]) && !poll(&mut waits[2]));
        // One that gives up before it is woken leaves no gap.
        drop(waits.remove(2));
        assert!(crowd.waiting.borrow().is_empty());
    }

    #[test]
    fn a_notice_is_kept_until_somebody_looks() {
        let notify = Notify::default();
        notify.notify();
        notify.notify();
        assert!(poll(&mut (Box::pin(notify.notified()) as Wait<'_>)));
        assert!(!poll(&mut (Box::pin(notify.notified()) as Wait<'_>)));
    }
}
