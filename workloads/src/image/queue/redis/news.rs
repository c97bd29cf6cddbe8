//! What changed in the queue, as every node hears of it: one channel, on which scripts publish the works they touched and the
//! sums afterwards.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};

use annulus_engine::compute::{Ticket, ticket};

use super::records::{Versioned, depth};

/// News that are remembered for who is about to wait: a question and its news overtake each other by milliseconds.
const RECENT_MAX: usize = 4096;

/// A message of the channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Works, and whether only their progress changed.
    pub(super) works: Vec<(i64, bool)>,
    pub(super) depth: Versioned,
}

impl Message {
    /// `12,p13 VERSION INTERACTIVE BULK LEASED DEAD CPU`. `None`: it is something else.
    pub(super) fn read(payload: &[u8]) -> Option<Message> {
        let mut words = std::str::from_utf8(payload).ok()?.split(' ');
        let works = words.next()?.split(',').map(|word| {
            let number = word.strip_prefix('p');
            Some((number.unwrap_or(word).parse().ok()?, number.is_some()))
        });
        let works = works.collect::<Option<_>>()?;
        Some(Message { works, depth: depth(words.map(|word| word.parse().ok()))? })
    }
}

/// Who waits for news of which work.
#[derive(Default)]
pub(super) struct News {
    heard: Cell<u64>,
    recent: RefCell<VecDeque<(u64, i64)>>,
    /// What came before this is not remembered.
    since: Cell<u64>,
    waiting: RefCell<HashMap<i64, Vec<Ticket<()>>>>,
}

impl News {
    /// How much was heard so far: to be asked before a question, and given to [`News::changed`] after it.
    pub(super) fn heard(&self) -> u64 {
        self.heard.get()
    }

    /// A work has changed.
    pub(super) fn tell(&self, work: i64) {
        let number = self.heard.get() + 1;
        self.heard.set(number);
        let mut recent = self.recent.borrow_mut();
        recent.push_back((number, work));
        if recent.len() > RECENT_MAX
            && let Some((gone, _)) = recent.pop_front()
        {
            self.since.set(gone);
        }
        self.waiting.borrow_mut().remove(&work).into_iter().flatten().for_each(|ticket| ticket.answer(()));
    }

    /// News may have been missed: everybody looks again.
    pub(super) fn tell_all(&self) {
        self.heard.set(self.heard.get() + 1);
        self.since.set(self.heard.get());
        self.waiting.take().into_values().flatten().for_each(|ticket| ticket.answer(()));
    }

    /// Waits until a work changes, unless it did since then.
    pub(super) async fn changed(&self, work: i64, since: u64) {
        let is_known = self.since.get() > since
            || self.recent.borrow().iter().rev().take_while(|(at, _)| *at > since).any(|(_, of)| *of == work);
        if is_known {
            return;
        }
        let (ticket, reply) = ticket();
        {
            let mut waiting = self.waiting.borrow_mut();
            let tickets = waiting.entry(work).or_default();
            tickets.retain(|ticket| !ticket.is_abandoned());
            tickets.push(ticket);
        }
        // Answered or dropped, there is news.
        let _news = reply.await;
    }

    /// Forgets who waits no more.
    pub(super) fn tidy(&self) {
        self.waiting.borrow_mut().retain(|_, tickets| {
            tickets.retain(|ticket| !ticket.is_abandoned());
            !tickets.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::queue::Depth;

    #[test]
    fn messages_are_read() {
        let message = Message::read(b"12,p13 7 1 2 3 4 5").unwrap();
        assert_eq!(message.works, [(12, false), (13, true)]);
        let depth = Depth { interactive: 1, bulk: 2, leased: 3, dead: 4, waiting_cpu_us: 5 };
        assert_eq!(message.depth, Versioned { version: 7, depth });
        for other in [&b""[..], b"12", b"x 7 1 2 3 4 5", b"12 7 1 2 3 4", b"12 7 1 2 3 4 5 6", b"\xff 1 1 1 1 1 1"] {
            assert_eq!(Message::read(other), None, "{other:?}");
        }
    }
}
