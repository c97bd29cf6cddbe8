//! A request's body that goes on while it arrives.
//!
//! ```text
//!   client's connection ─► arrive ─► waiting ─► a reader ─► the stream to the backend
//!            ▲                                     │
//!            └── credit, for what was taken ◄──────┘
//! ```
//!
//! Invariants: what waits is bounded by the window that the client was given, because credit is granted for no more than
//! was taken; what was taken stays here until an answer begins, as long as it is little, so that a call which its upstream
//! certainly did not act on can be made again.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::memory::Held;
use crate::serve::wire::Notify;

/// Bytes that were taken and are kept for another call.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// See the module's description.
pub struct Inflow {
    state: RefCell<State>,
    /// Of the client's connection: there is credit to grant.
    connection: Rc<Notify>,
}

struct State {
    waiting: Vec<u8>,
    ended: bool,
    gone: bool,
    /// What was taken, from the beginning; nothing once that is too much, or not needed any more.
    kept: Option<Vec<u8>>,
    /// Bytes of what waits that were taken before and granted then.
    granted: usize,
    credit: usize,
    /// Readers so far: the last one counts.
    readers: usize,
    waker: Option<Waker>,
    /// Who waits for the end.
    watcher: Option<Waker>,
    held: Held,
}

/// What a reader gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// More will come.
    More,
    /// That was all.
    All,
    /// The client is gone, or another reader has begun.
    Lost,
}

/// One who takes it from the beginning.
pub struct Reader {
    inflow: Rc<Inflow>,
    number: usize,
}

impl Inflow {
    /// Nothing yet; `held` counts what waits.
    pub fn new(connection: &Rc<Notify>, held: Held) -> Rc<Inflow> {
        let state = State {
            waiting: Vec::new(),
            ended: false,
            gone: false,
            kept: Some(Vec::new()),
            granted: 0,
            credit: 0,
            readers: 0,
            waker: None,
            watcher: None,
            held,
        };
        Rc::new(Inflow { state: RefCell::new(state), connection: connection.clone() })
    }

    /// More of it is here, possibly the last.
    pub fn arrive(&self, bytes: &[u8], end: bool) {
        let mut state = self.state.borrow_mut();
        state.waiting.extend_from_slice(bytes);
        state.ended |= end;
        state.note();
        state.wake();
    }

    /// Nothing more will come, and nobody wants what is here.
    pub fn give_up(&self) {
        let mut state = self.state.borrow_mut();
        state.gone = true;
        (state.waiting, state.kept) = (Vec::new(), None);
        state.note();
        state.wake();
    }

    /// Bytes for which the client may be given credit: each is told once.
    pub fn credit(&self) -> usize {
        std::mem::take(&mut self.state.borrow_mut().credit)
    }

    /// Waits until all has arrived.
    pub async fn ended(&self) {
        std::future::poll_fn(|cx| {
            let mut state = self.state.borrow_mut();
            if state.ended || state.gone {
                return Poll::Ready(());
            }
            state.watcher = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Begins to read, also again; nothing if the beginning is not here any more.
    pub fn begin(self: &Rc<Self>) -> Option<Reader> {
        let mut state = self.state.borrow_mut();
        let kept = state.kept.as_mut().map(std::mem::take)?;
        state.granted += kept.len();
        state.waiting.splice(..0, kept);
        state.readers += 1;
        state.wake();
        Some(Reader { inflow: self.clone(), number: state.readers })
    }

    /// An answer has begun: nobody will begin again.
    pub fn settle(&self) {
        let mut state = self.state.borrow_mut();
        state.kept = None;
        state.note();
    }
}

impl State {
    fn wake(&mut self) {
        self.waker.take().into_iter().chain(self.watcher.take()).for_each(Waker::wake);
    }

    fn note(&mut self) {
        let bytes = self.waiting.len() + self.kept.as_ref().map_or(0, Vec::len);
        self.held.set(bytes);
    }

    fn take(&mut self, out: &mut Vec<u8>) {
        let bytes = std::mem::take(&mut self.waiting);
        let known = bytes.len().min(self.granted);
        self.granted -= known;
        self.credit += bytes.len() - known;
        match &mut self.kept {
            Some(kept) if kept.len() + bytes.len() <= KEPT_BYTES_MAX => kept.extend_from_slice(&bytes),
            kept => *kept = None,
        }
        self.note();
        out.extend_from_slice(&bytes);
    }
}

impl Reader {
    /// Appends what is here to `out`, without waiting.
    pub fn now(&self, out: &mut Vec<u8>) -> Taken {
        let mut state = self.inflow.state.borrow_mut();
        if state.gone || state.readers != self.number {
            return Taken::Lost;
        }
        if !state.waiting.is_empty() {
            state.take(out);
            self.inflow.connection.notify();
        }
        if state.ended { Taken::All } else { Taken::More }
    }

    /// As [`Reader::now`], once something is here.
    pub async fn next(&self, out: &mut Vec<u8>) -> Taken {
        std::future::poll_fn(|cx| {
            let before = out.len();
            let taken = self.now(out);
            if taken != Taken::More || out.len() > before {
                return Poll::Ready(taken);
            }
            self.inflow.state.borrow_mut().waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::gateway::memory::{Memory, Tab};

    fn inflow() -> (Rc<Inflow>, Arc<Tab>) {
        let tab = Tab::new(&Arc::new(Memory::new(1 << 20)));
        (Inflow::new(&Rc::default(), Held::none(&tab)), tab)
    }

    #[test]
    fn credit_is_for_what_was_taken_and_each_byte_once() {
        let (inflow, tab) = inflow();
        inflow.arrive(b"abc", false);
        assert_eq!((inflow.credit(), tab.taken()), (0, 3));
        let (first, mut out) = (inflow.begin().unwrap(), Vec::new());
        assert_eq!((first.now(&mut out), &out[..], inflow.credit(), inflow.credit()), (Taken::More, &b"abc"[..], 3, 0));
        // Again, from the beginning: the first reader is out.
        inflow.arrive(b"de", true);
        let (second, mut again) = (inflow.begin().unwrap(), Vec::new());
        assert_eq!(first.now(&mut out), Taken::Lost);
        assert_eq!((second.now(&mut again), &again[..], inflow.credit()), (Taken::All, &b"abcde"[..], 2));
        assert_eq!(tab.taken(), 5, "what was taken is kept");
        inflow.settle();
        assert!(inflow.begin().is_none());
        assert_eq!((second.now(&mut again), tab.taken()), (Taken::All, 0));
    }

    #[test]
    fn what_is_much_is_not_kept_and_what_is_given_up_is_lost() {
        let (inflow, tab) = inflow();
        let (reader, mut out) = (inflow.begin().unwrap(), Vec::new());
        inflow.arrive(&vec![7; KEPT_BYTES_MAX], false);
        assert_eq!(reader.now(&mut out), Taken::More);
        inflow.arrive(b"x", false);
        assert_eq!(reader.now(&mut out), Taken::More);
        assert!(inflow.begin().is_none());
        assert_eq!(out.len(), KEPT_BYTES_MAX + 1);
        inflow.arrive(b"y", false);
        inflow.give_up();
        assert_eq!((reader.now(&mut out), tab.taken()), (Taken::Lost, 0));
    }
}
