//! One-shot operations of tasks: files and datagrams.
//!
//! The operation and its memory belong to the driver until it ends, whatever becomes of the future that waits: a
//! dropped future leaves an orphan whose outcome is thrown away, and whose descriptor, if it opened one, is
//! closed.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::driver::{Completion, Errno, Fd, Memory, Op, Token};
use crate::shard::{Core, TAG_ONCE};

/// The outcome of an operation and the memory it worked on.
pub(crate) type Outcome = (Result<u32, Errno>, Memory);

enum State {
    Vacant,
    InFlight(Option<Waker>),
    /// The waiter is gone; what its end leaves to be closed.
    Orphan(Closes),
    Done(Outcome),
}

/// What to close when an operation ends that nobody waits for.
#[derive(Clone, Copy)]
struct Closes {
    /// The descriptor it opened.
    result: bool,
    /// The descriptor it worked on.
    operand: Option<Fd>,
}

struct Entry {
    generation: u32,
    /// What the operation works on.
    operand: Option<Fd>,
    state: State,
}

/// The one-shot operations of a shard.
#[derive(Default)]
pub(crate) struct OnceTable {
    entries: Vec<Entry>,
    vacant: Vec<u32>,
}

/// Waits for the end of one operation.
pub(crate) struct Once {
    core: Rc<Core>,
    index: u32,
    closes: Closes,
    finished: bool,
}

impl Core {
    /// Submits `op`; the future gives its outcome.
    pub(crate) fn once(self: &Rc<Self>, op: Op) -> Once {
        let closes = Closes { result: matches!(op, Op::Open { .. } | Op::OpenBeneath { .. }), operand: None };
        let mut table = self.once.borrow_mut();
        let index = match table.vacant.pop() {
            Some(index) => index,
            None => {
                table.entries.push(Entry { generation: 0, operand: None, state: State::Vacant });
                (table.entries.len() - 1) as u32
            }
        };
        let entry = &mut table.entries[index as usize];
        entry.operand = operand(&op);
        entry.state = State::InFlight(None);
        let token = Token::new(TAG_ONCE, entry.generation, index);
        self.driver.borrow_mut().submit(token, op);
        Once { core: self.clone(), index, closes, finished: false }
    }

    pub(crate) fn on_once(&self, done: Completion) {
        let mut table = self.once.borrow_mut();
        let index = done.token.index();
        let entry = &mut table.entries[index as usize];
        if entry.generation & 0xff_ffff != done.token.generation() {
            return self.metrics.stale_completions.add(1);
        }
        match std::mem::replace(&mut entry.state, State::Done((done.result, done.memory))) {
            State::InFlight(Some(waker)) => waker.wake(),
            State::Orphan(closes) => {
                table.vacate(index);
                drop(table);
                self.close_after(closes, done.result);
                if let Some(fd) = closes.operand {
                    self.close_when_idle(fd);
                }
            }
            State::InFlight(None) | State::Vacant | State::Done(_) => {}
        }
    }
}

impl Core {
    /// Closes a descriptor whose futures are all gone: at once, or when the last orphan on it ends.
    pub(crate) fn close_when_idle(&self, fd: Fd) {
        let mut table = self.once.borrow_mut();
        let orphan = table
            .entries
            .iter_mut()
            .find(|entry| entry.operand == Some(fd) && matches!(entry.state, State::Orphan(_) | State::InFlight(_)));
        match orphan {
            Some(entry) => {
                let result = matches!(entry.state, State::Orphan(Closes { result: true, .. }));
                entry.state = State::Orphan(Closes { result, operand: Some(fd) });
            }
            None => self.driver.borrow_mut().close(fd),
        }
    }

    fn close_after(&self, closes: Closes, result: Result<u32, Errno>) {
        if let (true, Ok(fd)) = (closes.result, result) {
            self.driver.borrow_mut().close(Fd(fd as i32));
        }
    }
}

impl OnceTable {
    fn vacate(&mut self, index: u32) -> State {
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.operand = None;
        self.vacant.push(index);
        std::mem::replace(&mut entry.state, State::Vacant)
    }
}

impl Future for Once {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let core = self.core.clone();
        let mut table = core.once.borrow_mut();
        if let State::InFlight(waker) = &mut table.entries[self.index as usize].state {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        assert!(!self.finished, "polled after it was ready");
        self.finished = true;
        match table.vacate(self.index) {
            State::Done(outcome) => Poll::Ready(outcome),
            _ => unreachable!("an entry stays in flight until it is done, and its waiter alone vacates it"),
        }
    }
}

impl Drop for Once {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let mut table = self.core.once.borrow_mut();
        match &mut table.entries[self.index as usize].state {
            state @ State::InFlight(_) => *state = State::Orphan(self.closes),
            _ => {
                if let State::Done((result, _)) = table.vacate(self.index) {
                    self.core.close_after(self.closes, result);
                }
            }
        }
    }
}

fn operand(op: &Op) -> Option<Fd> {
    match op {
        Op::Read { file, .. } | Op::Write { file, .. } | Op::Sync { file, .. } => Some(*file),
        Op::OpenBeneath { directory, .. } => Some(*directory),
        Op::ReceiveFrom { socket, .. } | Op::SendTo { socket, .. } => Some(*socket),
        _ => None,
    }
}
