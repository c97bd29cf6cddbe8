//! One answer on its way from a thread to a task of a shard, which must never wait for a thread.
//!
//! ```text
//!   ticket: answer out (or none, for good) ─► lock the bell, take the waker ─► wake
//!   reply:  look ─► try the bell: leave a waker, or leave it be ─► look again
//! ```
//!
//! The lock is taken by the waiting side to leave a waker, and by the other once its answer is out. So either the waiting side
//! comes first and is woken, or the answer is out when it looks again; a lock that is held means the latter.
//!
//! Built with `--cfg loom`, this file runs on Loom's locks and a channel made of them: see `tests/loom_ticket.rs`.

use std::future::Future;
use std::pin::Pin;
use std::sync::{PoisonError, TryLockError};
use std::task::{Context, Poll, Waker};

use kernel::{Arc, Mutex, Receiver, Sender, TryRecvError, bounded};

#[cfg(not(loom))]
mod kernel {
    pub(super) use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
    pub(super) use std::sync::{Arc, Mutex};
}

/// What of a channel is used here, made of what Loom sees through.
#[cfg(loom)]
mod kernel {
    pub(super) use loom::sync::{Arc, Mutex};

    struct State<T> {
        value: Option<T>,
        has_sender: bool,
    }

    pub(super) struct Sender<T>(Arc<Mutex<State<T>>>);
    pub(super) struct Receiver<T>(Arc<Mutex<State<T>>>);

    pub(super) enum TryRecvError {
        Empty,
        Disconnected,
    }

    pub(super) fn bounded<T>(_capacity: usize) -> (Sender<T>, Receiver<T>) {
        let state = Arc::new(Mutex::new(State { value: None, has_sender: true }));
        (Sender(state.clone()), Receiver(state))
    }

    impl<T> Sender<T> {
        pub(super) fn try_send(&self, value: T) -> Result<(), T> {
            match self.0.lock().expect("nothing panics under this lock").value.replace(value) {
                None => Ok(()),
                Some(before) => Err(before),
            }
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.0.lock().expect("nothing panics under this lock").has_sender = false;
        }
    }

    impl<T> Receiver<T> {
        pub(super) fn try_recv(&self) -> Result<T, TryRecvError> {
            let mut state = self.0.lock().expect("nothing panics under this lock");
            let none = if state.has_sender { TryRecvError::Empty } else { TryRecvError::Disconnected };
            state.value.take().ok_or(none)
        }

        /// Blocks nobody: models wait by polling.
        pub(super) fn recv(&self) -> Result<T, TryRecvError> {
            self.try_recv()
        }
    }
}

/// One answer on its way from another thread to a task.
pub fn ticket<T>() -> (Ticket<T>, Reply<T>) {
    let (sender, receiver) = bounded(1);
    let bell = Arc::new(Bell(Mutex::new(None)));
    (Ticket { answer: Some(sender), bell: bell.clone() }, Reply { answer: receiver, bell })
}

/// Whom to wake. The answering thread locks it only once its answer is out.
struct Bell(Mutex<Option<Waker>>);

/// The right to answer, once. Dropped unanswered, the other side learns that.
pub struct Ticket<T> {
    /// Gone before the bell is rung: an answer, or its absence, is then final.
    answer: Option<Sender<T>>,
    bell: Arc<Bell>,
}

impl<T> Ticket<T> {
    /// Answers, and wakes who waits.
    pub fn answer(self, value: T) {
        if let Some(answer) = &self.answer {
            // Nobody waits any more: the value has no use.
            let _abandoned = answer.try_send(value);
        }
    }

    /// Whether nobody waits any more.
    pub fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.bell) == 1
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        self.answer = None;
        let waker = self.bell.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Waits for the answer to a [`Ticket`]; `None` when there will be none.
pub struct Reply<T> {
    answer: Receiver<T>,
    bell: Arc<Bell>,
}

/// The value is elsewhere, never in here.
impl<T> Unpin for Reply<T> {}

impl<T> Reply<T> {
    /// Blocks the calling thread until the answer is here, or its absence is certain. For threads that are no shard.
    pub fn wait(self) -> Option<T> {
        self.answer.recv().ok()
    }

    fn look(&self) -> Poll<Option<T>> {
        match self.answer.try_recv() {
            Ok(value) => Poll::Ready(Some(value)),
            Err(TryRecvError::Disconnected) => Poll::Ready(None),
            Err(TryRecvError::Empty) => Poll::Pending,
        }
    }
}

impl<T> Future for Reply<T> {
    type Output = Option<T>;

    /// Never blocks; see the module's description.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Poll::Ready(answer) = self.look() {
            return Poll::Ready(answer);
        }
        match self.bell.0.try_lock() {
            Ok(mut waker) => *waker = Some(cx.waker().clone()),
            Err(TryLockError::Poisoned(poisoned)) => *poisoned.into_inner() = Some(cx.waker().clone()),
            Err(TryLockError::WouldBlock) => {}
        }
        self.look()
    }
}
