//! A group: masses of sockets whose sessions are slab entries, turned by one task per shard.
//!
//! ```text
//!   completions ─► ready list ─► runner:  group.ready().await
//!                                         while let Some(event) = group.next_event() { … outlet.send(id, &frame) … }
//! ```
//!
//! No socket has a future, task, timer or buffer of its own. The runner takes events in a bounded batch, so other
//! tasks of the shard get their turn; fairness among sockets is one chunk each, round and round.
//!
//! Events of one connection come in this order: `Opened`, any number of `Received`, at most one `Ended`, and
//! finally `Closed`, after which its id names nothing.

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::conn::{CLOSED, Chunk, Close, ConnId, DRAINED, OPENED, Owner, PAUSED, READY, Reason, TELL_DRAINED};
use crate::driver::Address;
use crate::frame::Frame;
use crate::limits;
use crate::listen::Listener;
use crate::shard::{Core, Shard};
use crate::sockets::Sent;
use crate::stream::Stream;
use crate::trace::{Kind, Trace};

/// What happened on a connection of a group.
#[derive(Debug)]
pub enum Event {
    /// It is new: attach a session to it.
    Opened(ConnId),
    /// Bytes came, in order.
    Received(ConnId, Chunk),
    /// The peer will send nothing more. Sending still works; usually it is time to close.
    Ended(ConnId),
    /// The outbox is empty, after [`Outlet::tell_drained`].
    Drained(ConnId),
    /// It is gone; nothing more will come. Its session is dropped with the next call of `next_event`.
    Closed(ConnId, Reason),
    /// One period of [`GroupOptions::tick`] has passed; the number says which cohort's turn it is.
    Tick(u32),
}

/// How a group behaves.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// Bytes that may wait for one peer. Beyond, [`Sent::Full`].
    pub outbox_bytes_max: usize,
    /// The period of [`Event::Tick`], if any.
    pub tick: Option<Duration>,
    /// Connections are divided into so many cohorts; each tick is one cohort's, in turn.
    pub cohorts: u32,
}

impl Default for GroupOptions {
    fn default() -> GroupOptions {
        GroupOptions { outbox_bytes_max: limits::OUTBOX_BYTES_MAX, tick: None, cohorts: 1 }
    }
}

/// What a group keeps in its shard.
pub(crate) struct GroupState {
    pub(crate) ready: VecDeque<u32>,
    pub(crate) waker: Option<Waker>,
}

const PAGE: usize = 256;

/// The session of a slot, and of which of the slot's lives: an id that outlived its connection must not reach the next one's.
struct Page<S> {
    sessions: [Option<S>; PAGE],
    generations: [u32; PAGE],
}

/// Sessions by connection, in pages that never move.
struct Sessions<S> {
    pages: Vec<Option<Box<Page<S>>>>,
    count: usize,
}

impl<S> Sessions<S> {
    fn put(&mut self, id: ConnId, session: S) -> Option<S> {
        let (page, at) = (id.index() / PAGE, id.index() % PAGE);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let empty = || Box::new(Page { sessions: [const { None }; PAGE], generations: [0; PAGE] });
        let page = self.pages[page].get_or_insert_with(empty);
        page.generations[at] = id.generation;
        let before = page.sessions[at].replace(session);
        self.count += before.is_none() as usize;
        before
    }

    fn take(&mut self, id: ConnId) -> Option<S> {
        let session = self.slot(id)?.take();
        self.count -= session.is_some() as usize;
        session
    }

    fn peek(&self, id: ConnId) -> Option<&S> {
        let (page, at) = (self.pages.get(id.index() / PAGE)?.as_ref()?, id.index() % PAGE);
        page.sessions[at].as_ref().filter(|_| page.generations[at] == id.generation)
    }

    fn get(&mut self, id: ConnId) -> Option<&mut S> {
        self.slot(id)?.as_mut()
    }

    fn slot(&mut self, id: ConnId) -> Option<&mut Option<S>> {
        let (page, at) = (self.pages.get_mut(id.index() / PAGE)?.as_mut()?, id.index() % PAGE);
        (page.generations[at] == id.generation).then_some(&mut page.sessions[at])
    }
}

/// Many connections with a session of type `S` each. See the module's description.
pub struct Group<S> {
    core: Rc<Core>,
    number: u16,
    options: GroupOptions,
    sessions: Sessions<S>,
    listeners: Vec<Listener>,
    /// Events given out since the runner last awaited.
    batch: usize,
    /// Its session is dropped at the next call, so that the runner can look at it while handling `Closed`.
    closed: Option<ConnId>,
    next_tick: Duration,
    cohort: u32,
    ticker: Option<crate::timer::Sleep>,
}

impl Shard {
    /// Makes an empty group. One task must turn it.
    pub fn group<S>(&self, options: GroupOptions) -> Group<S> {
        let mut groups = self.core.groups.borrow_mut();
        groups.push(GroupState { ready: VecDeque::new(), waker: None });
        let number = u16::try_from(groups.len() - 1).expect("a shard has at most 65,536 groups");
        let next_tick = self.now() + options.tick.unwrap_or(Duration::MAX / 4);
        Group {
            core: self.core.clone(),
            number,
            options,
            sessions: Sessions { pages: Vec::new(), count: 0 },
            listeners: Vec::new(),
            batch: 0,
            closed: None,
            next_tick,
            cohort: 0,
            ticker: None,
        }
    }
}

impl<S> Group<S> {
    /// Takes over what the listener accepts, from now on and what waits already.
    pub fn listen(&mut self, listener: Listener) {
        self.core.listen_for(&listener, self.number);
        self.listeners.push(listener);
    }

    /// Stops accepting as [`Listener::stop`] does: what was accepted before still arrives.
    pub fn stop_accepting(&mut self) {
        self.listeners.iter().for_each(Listener::stop);
    }

    /// Whether nothing more can arrive after [`Group::stop_accepting`]. All shards have to stop for that.
    pub fn is_settled(&self) -> bool {
        self.listeners.iter().all(Listener::is_settled)
    }

    /// Stops accepting; connections stay.
    pub fn stop_listening(&mut self) {
        self.listeners.clear();
    }

    /// Takes a stream over, with what it has received and not read.
    pub fn adopt(&mut self, stream: Stream, session: S) -> ConnId {
        let id = stream.into_id();
        let mut conns = self.core.conns.borrow_mut();
        if let Some(conn) = conns.get(id) {
            conn.owner = Owner::Group(self.number);
            conn.side = None;
            self.core.tell(id.index, conn);
        }
        drop(conns);
        drop(self.sessions.put(id, session));
        id
    }

    /// Waits until [`Group::next_event`] has something.
    pub async fn ready(&mut self) {
        // A new batch: other tasks have had their turn if this awaits.
        let spent = std::mem::take(&mut self.batch) >= limits::GROUP_EVENTS_PER_BATCH;
        let mut yielded = !spent;
        std::future::poll_fn(|cx| {
            if !std::mem::replace(&mut yielded, true) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.is_tick_due() {
                return Poll::Ready(());
            }
            let mut groups = self.core.groups.borrow_mut();
            let group = &mut groups[self.number as usize];
            if !group.ready.is_empty() {
                return Poll::Ready(());
            }
            group.waker = Some(cx.waker().clone());
            drop(groups);
            if self.options.tick.is_some() {
                let (core, next) = (&self.core, self.next_tick);
                let ticker = self.ticker.get_or_insert_with(|| core.timers.at(next));
                let _pending = std::future::Future::poll(std::pin::Pin::new(ticker), cx);
            }
            Poll::Pending
        })
        .await
    }

    fn is_tick_due(&self) -> bool {
        self.options.tick.is_some() && self.core.timers.now() >= self.next_tick
    }

    /// The next event of this batch; `None` when it is time to call [`Group::ready`] again.
    pub fn next_event(&mut self) -> Option<Event> {
        if let Some(id) = self.closed.take() {
            drop(self.sessions.take(id));
        }
        if self.batch >= limits::GROUP_EVENTS_PER_BATCH {
            return None;
        }
        self.batch += 1;
        if self.is_tick_due() {
            return Some(self.tick());
        }
        loop {
            let index = self.core.groups.borrow_mut()[self.number as usize].ready.pop_front()?;
            if let Some(event) = self.event_of(index) {
                return Some(event);
            }
        }
    }

    fn tick(&mut self) -> Event {
        let period = self.options.tick.unwrap_or(Duration::MAX / 4);
        // Ticks that were missed are not made up for: cohorts just come round later.
        self.next_tick = (self.next_tick + period).max(self.core.timers.now());
        self.ticker = None;
        let cohort = self.cohort;
        self.cohort = (cohort + 1) % self.options.cohorts.max(1);
        Event::Tick(cohort)
    }

    /// What the connection at the front of the ready list has to tell, if anything.
    fn event_of(&mut self, index: u32) -> Option<Event> {
        let mut conns = self.core.conns.borrow_mut();
        let conn = conns.at(index);
        let id = ConnId { index, generation: conn.generation };
        if conn.owner != Owner::Group(self.number) {
            // It moved to another owner after it was queued; that owner was told.
            return None;
        }
        conn.clear(READY);
        if conn.is(OPENED) {
            conn.clear(OPENED);
            // There may be more to tell already.
            self.core.tell(index, conn);
            return Some(Event::Opened(id));
        }
        if !conn.is(PAUSED)
            && !conn.is(crate::conn::LINGERING)
            && let Some(chunk) = self.core.take_chunk(index, conn)
        {
            self.core.tell(index, conn);
            return Some(Event::Received(id, chunk));
        }
        if conn.is(DRAINED) {
            conn.clear(DRAINED);
            self.core.tell(index, conn);
            return Some(Event::Drained(id));
        }
        if conn.is(CLOSED) {
            let reason = conn.reason;
            self.core.free(&mut conns, index);
            self.closed = Some(id);
            return Some(Event::Closed(id, reason));
        }
        if !conn.is(PAUSED) && Core::end_untold(conn) {
            return Some(Event::Ended(id));
        }
        None
    }

    /// Gives a connection its session; the one it had, if any.
    pub fn attach(&mut self, id: ConnId, session: S) -> Option<S> {
        self.sessions.put(id, session)
    }

    /// The session of a connection: from `attach` until the call of `next_event` after `Closed`.
    pub fn session(&mut self, id: ConnId) -> Option<&mut S> {
        self.sessions.get(id)
    }

    /// As [`Group::session`], to look only.
    pub fn peek(&self, id: ConnId) -> Option<&S> {
        self.sessions.peek(id)
    }

    /// Takes the session away from its connection.
    pub fn detach(&mut self, id: ConnId) -> Option<S> {
        self.sessions.take(id)
    }

    /// Sessions attached.
    pub fn len(&self) -> usize {
        self.sessions.count
    }

    /// Whether there are no sessions.
    pub fn is_empty(&self) -> bool {
        self.sessions.count == 0
    }

    /// The handle by which bytes leave and connections end. Independent of the sessions, so both can be used at once.
    pub fn outlet(&self) -> Outlet {
        Outlet {
            core: self.core.clone(),
            number: self.number,
            outbox_bytes_max: self.options.outbox_bytes_max,
            cohorts: self.options.cohorts.max(1),
        }
    }
}

/// What a runner does to the connections of its group. Cheap to clone.
#[derive(Clone)]
pub struct Outlet {
    core: Rc<Core>,
    number: u16,
    outbox_bytes_max: usize,
    cohorts: u32,
}

impl Outlet {
    /// Queues a shared frame: no copy.
    pub fn send(&self, id: ConnId, frame: &Frame) -> Sent {
        self.core.send(id, frame, self.outbox_bytes_max)
    }

    /// Queues `parts` joined: one copy, into a frame.
    pub fn send_copy(&self, id: ConnId, parts: &[&[u8]]) -> Sent {
        let frame = self.core.arena.borrow_mut().frame(parts);
        self.core.send(id, &frame, self.outbox_bytes_max)
    }

    /// Bytes that may wait for one peer.
    pub fn outbox_bytes_max(&self) -> usize {
        self.outbox_bytes_max
    }

    /// The same handle with another cap on what may wait for one peer.
    pub fn with_outbox_bytes_max(&self, outbox_bytes_max: usize) -> Outlet {
        Outlet { outbox_bytes_max, ..self.clone() }
    }

    /// Queues a shared frame to many; those whose outbox was full are appended to `full`.
    pub fn send_all(&self, ids: &[ConnId], frame: &Frame, full: &mut Vec<ConnId>) {
        self.core.send_all(ids, frame, self.outbox_bytes_max, full);
    }

    /// A traced message's answer is what was queued for this connection last: its trace ends when that has left.
    pub fn trace(&self, id: ConnId, trace: Trace, kind: &'static Kind) {
        self.core.trace(id, trace, kind);
    }

    /// Bytes that wait for the peer, those in flight included.
    pub fn outbox_bytes(&self, id: ConnId) -> usize {
        self.core.conns.borrow_mut().get(id).map_or(0, |conn| conn.outbox.bytes())
    }

    /// Asks for one [`Event::Drained`] when the outbox is empty.
    pub fn tell_drained(&self, id: ConnId) {
        let mut conns = self.core.conns.borrow_mut();
        let Some(conn) = conns.get(id) else { return };
        if conn.outbox.bytes() > 0 {
            conn.set(TELL_DRAINED);
        } else {
            conn.set(DRAINED);
            self.core.tell(id.index, conn);
        }
    }

    /// Closes. [`Event::Closed`] follows in any case.
    pub fn close(&self, id: ConnId, how: Close, reason: Reason) {
        self.core.close(id, how, reason);
    }

    /// Gives no more [`Event::Received`] for this connection until resumed; what is received waits, up to
    /// [`limits::RECEIVE_QUEUE_BYTES_MAX`], then the peer does.
    pub fn pause(&self, id: ConnId) {
        self.core.pause(id, true);
    }

    /// Ends a pause.
    pub fn resume(&self, id: ConnId) {
        self.core.pause(id, false);
    }

    /// Puts bytes back in front of what was received: they are the next [`Event::Received`].
    pub fn give_back(&self, id: ConnId, chunk: Chunk) {
        self.core.return_chunk(id, chunk);
    }

    /// How long nothing was received, to the nearest 64 ms.
    pub fn silence(&self, id: ConnId) -> Duration {
        let now = self.core.coarse_now();
        let last = self.core.conns.borrow_mut().get(id).map_or(now, |conn| conn.last_active);
        Duration::from_millis(now.wrapping_sub(last) as u64 * 64)
    }

    /// The peer's address.
    pub fn peer(&self, id: ConnId) -> Option<Address> {
        let fd = self.core.conns.borrow_mut().get(id)?.fd;
        self.core.driver.borrow().peer(fd).ok()
    }

    /// The connections of a cohort, appended to `ids`.
    pub fn cohort(&self, cohort: u32, ids: &mut Vec<ConnId>) {
        let mut conns = self.core.conns.borrow_mut();
        let owner = Owner::Group(self.number);
        for index in (cohort..conns.used()).step_by(self.cohorts as usize) {
            if let Some(id) = conns.living(index)
                && conns.at(index).owner == owner
            {
                ids.push(id);
            }
        }
    }

    /// All connections, appended to `ids`.
    pub fn all(&self, ids: &mut Vec<ConnId>) {
        (0..self.cohorts).for_each(|cohort| self.cohort(cohort, ids));
    }
}

impl<S> Drop for Group<S> {
    fn drop(&mut self) {
        self.listeners.clear();
        let mut ids = Vec::new();
        self.outlet().all(&mut ids);
        for id in ids {
            self.core.abandon(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PAGE, Sessions};
    use crate::conn::ConnId;

    #[test]
    fn an_id_that_outlived_its_connection_does_not_reach_the_next_ones_session() {
        let mut sessions = Sessions { pages: Vec::new(), count: 0 };
        let (old, new) = (ConnId { index: 300, generation: 6 }, ConnId { index: 300, generation: 7 });
        assert!(sessions.get(old).is_none());
        assert_eq!(sessions.put(old, "old"), None);
        // The connection closed, and another took its slot before the old session was dropped.
        assert_eq!(sessions.put(new, "new"), Some("old"));
        assert_eq!(sessions.count, 1);
        assert_eq!(sessions.peek(old), None);
        assert_eq!(sessions.get(old), None);
        assert_eq!(sessions.take(old), None);
        assert_eq!((sessions.count, sessions.peek(new)), (1, Some(&"new")));
        assert_eq!(sessions.take(new), Some("new"));
        assert_eq!((sessions.count, sessions.peek(new)), (0, None));
        let beside = ConnId { index: 300 + PAGE as u32, generation: 7 };
        assert!(sessions.peek(beside).is_none());
    }
}
