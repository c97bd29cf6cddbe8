//! A client's connection as its requests see it: what its answers take of the memory, which of its requests may begin,
//! and how fast it takes what is there for it.
//!
//! ```text
//!   request ─► turn: may what it will bring be held, too? ─► sub-requests ─► answer waits ─► client takes it
//!                └─ no: waits, first come first served ◄────────────── room ◄──────────────────┘
//! ```
//!
//! A request brings more than it is: a hundred streams cost a client nothing, and their answers a megabyte each. So a
//! request begins when its client's share of the memory has room for what its endpoint's answers usually take. The share is
//! opened to those who take: a new client may have a megabyte under way, and sixteen times what it has taken more. One that has
//! nothing under way is always let in, and so everybody gets on, at the pace at which it takes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use annulus_engine::Shard;

use super::config::model::{Endpoint, OutputEncoding};
use super::memory::{Held, Memory, Tab};

/// Bytes that a new client's answers may take. Beyond, its requests wait until it has taken some: it may have
/// [`OPENING_FACTOR`] times that more, within its share.
const OPENING_BYTES: u64 = 1 << 20;
const OPENING_FACTOR: u64 = 16;
/// What is expected of an answer of which nothing is known, in bytes: all that a new client may have. So it begins one, and
/// the others when that has told how much they bring. Were two begun, a few clients that take nothing would hold twice
/// what they may, and an honest one's answer would not fit its share.
const UNKNOWN_BYTES: u64 = OPENING_BYTES;
/// What an answer takes that is passed on as it comes: what waits for the client, and what its upstream's window lets
/// through meanwhile.
const STREAMED_BYTES: u64 = 192 << 10;
/// Bytes of answers that wait for one client. Beyond, its further requests wait until it takes some, however much memory
/// there is.
const UNTAKEN_BYTES_MAX: usize = 4 << 20;
/// Bytes per second that a client must take of what waits for it, over [`PATIENCE`]. Less: its connection is ended.
const PACE_LEAST: u64 = 1 << 10;
/// Time for which something waited, before the pace is judged. A kernel takes a megabyte at once and then nothing until
/// it has sent most of it: over less time a client of 256 KB/s may look like one that stands still.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same while memory is short.
const PACE_LEAST_SHORT: u64 = 16 << 10;
const PATIENCE_SHORT: Duration = Duration::from_secs(10);

/// How often that is looked at.
pub const LOOK: Duration = Duration::from_secs(1);

/// One connection's.
pub struct Client {
    answers: RefCell<Arc<Tab>>,
    /// Bodies of requests have a tab of their own: what waits to begin must not keep itself from beginning.
    bodies: RefCell<Arc<Tab>>,
    /// Requests that have begun, and what they may bring.
    begun: Cell<usize>,
    expected: Cell<u64>,
    queue: RefCell<VecDeque<Rc<Place>>>,
    /// What of complete answers it has not taken.
    untaken: Cell<usize>,
    /// What it has taken since it came.
    taken: Cell<u64>,
    /// How fast it takes its answers.
    pace: Pace,
}

/// Bytes that an endpoint's answers take, learned from them: rising half of the way at once, and falling slowly.
pub struct Expected {
    learned: Cell<Option<u64>>,
    unknown: u64,
}

impl Expected {
    /// Before the first answer.
    pub fn of(endpoint: &Endpoint) -> Expected {
        let limits = endpoint.answering().map(|backend| backend.max_response_bytes);
        let most: Option<u64> = limits.sum();
        let unknown = match endpoint.output_encoding {
            OutputEncoding::NoOp => STREAMED_BYTES,
            _ => most.unwrap_or(UNKNOWN_BYTES).min(UNKNOWN_BYTES),
        };
        Expected { learned: Cell::new(None), unknown }
    }

    /// Takes note of an answer.
    pub fn learn(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.learned.set(Some(match self.learned.get() {
            None => bytes,
            Some(known) if bytes > known => known + (bytes - known).div_ceil(2),
            Some(known) => known - (known - bytes) / 8,
        }));
    }

    /// Takes note of an answer that failed: where nothing else is known, the next ones do not wait for one that may never
    /// come.
    pub fn learn_failure(&self) {
        self.learned.set(self.learned.get().or(Some(0)));
    }

    fn bytes(&self) -> u64 {
        self.learned.get().unwrap_or(self.unknown)
    }
}

/// A place in the queue of requests that wait for their turn.
struct Place {
    expected: Rc<Expected>,
    turn: RefCell<Option<Turn>>,
    waker: RefCell<Option<Waker>>,
}

/// A request that may bring an answer; the next one's turn comes when it is dropped.
pub struct Turn {
    client: Rc<Client>,
    expected: u64,
}

impl Client {
    /// A client whose answers are held in `memory`.
    pub fn new(memory: &Arc<Memory>) -> Rc<Client> {
        Rc::new(Client {
            answers: RefCell::new(Tab::new(memory)),
            bodies: RefCell::new(Tab::new(memory)),
            begun: Cell::new(0),
            expected: Cell::new(0),
            queue: RefCell::default(),
            untaken: Cell::new(0),
            taken: Cell::new(0),
            pace: Pace::default(),
        })
    }

    /// Uses another budget from now on, if it is another: a reload may have changed it.
    pub fn follow(&self, memory: &Arc<Memory>) {
        if !Arc::ptr_eq(self.answers.borrow().memory(), memory) {
            *self.answers.borrow_mut() = Tab::new(memory);
            *self.bodies.borrow_mut() = Tab::new(memory);
        }
    }

    /// Room for an answer, of which nothing is here yet.
    pub fn room(&self) -> Held {
        Held::none(&self.answers.borrow())
    }

    /// Counts an answer that is here.
    pub fn hold(&self, bytes: usize) -> Held {
        Held::of(&self.answers.borrow(), bytes)
    }

    /// Room for a request's body.
    pub fn body_room(&self) -> Held {
        Held::none(&self.bodies.borrow())
    }

    /// Waits until a request may begin whose answer takes what such answers do.
    pub async fn turn(self: &Rc<Self>, expected: &Rc<Expected>) -> Turn {
        if self.queue.borrow().is_empty() && self.has_room(expected.bytes()) {
            return self.begin(expected.bytes());
        }
        let place = Rc::new(Place { expected: expected.clone(), turn: RefCell::default(), waker: RefCell::default() });
        self.queue.borrow_mut().push_back(place.clone());
        std::future::poll_fn(|cx| {
            if let Some(turn) = place.turn.borrow_mut().take() {
                return Poll::Ready(turn);
            }
            *place.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Lets those begin for whom there is room now. To be called when some has become free.
    pub fn let_in(self: &Rc<Self>) {
        loop {
            let first = self.queue.borrow().front().cloned();
            let Some(place) = first else { return };
            // One that nobody waits at any more: the queue's hold on it, and this one.
            let given_up = Rc::strong_count(&place) == 2;
            if !given_up && !self.has_room(place.expected.bytes()) {
                return;
            }
            self.queue.borrow_mut().pop_front();
            if given_up {
                continue;
            }
            *place.turn.borrow_mut() = Some(self.begin(place.expected.bytes()));
            let waker = place.waker.borrow_mut().take();
            waker.into_iter().for_each(Waker::wake);
        }
    }

    fn has_room(&self, expected: u64) -> bool {
        let answers = self.answers.borrow();
        let alone = self.begun.get() == 0 && answers.taken() == 0;
        let more = self.expected.get() + expected;
        let opened = OPENING_BYTES.saturating_add(self.taken.get().saturating_mul(OPENING_FACTOR));
        let fits =
            || answers.taken() + more <= opened && answers.has_room(more) && self.untaken.get() <= UNTAKEN_BYTES_MAX;
        alone || fits()
    }

    fn begin(self: &Rc<Self>, expected: u64) -> Turn {
        self.begun.set(self.begun.get() + 1);
        self.expected.set(self.expected.get() + expected);
        Turn { client: self.clone(), expected }
    }

    /// Notes whether something waits for the client to take it.
    pub fn waits(&self, now: Duration, something: bool) {
        self.pace.waits(now, something);
    }

    /// Notes what waits for the client now, and lets those begin for whom there is room.
    pub fn leaves(self: &Rc<Self>, untaken: usize) {
        self.untaken.set(untaken);
        self.let_in();
    }

    /// Notes bytes that the client has taken.
    pub fn took(&self, bytes: usize) {
        self.pace.taken.set(self.pace.taken.get() + bytes as u64);
        self.taken.set(self.taken.get() + bytes as u64);
    }

    /// Whether it takes its answers so slowly that its connection is to be ended.
    pub fn is_slow(&self, now: Duration) -> bool {
        let (patience, least) = match self.answers.borrow().memory().is_short() {
            true => (PATIENCE_SHORT, PACE_LEAST_SHORT),
            false => (PATIENCE, PACE_LEAST),
        };
        self.pace.is_below(now, patience, least)
    }

    /// Waits until the client is too slow.
    pub async fn too_slow(&self, shard: &Shard) {
        while !self.is_slow(shard.now()) {
            shard.sleep(LOOK).await;
        }
    }

    /// How long one of many answers may wait without a byte being taken: less than [`PATIENCE`], so that a stream which its
    /// client has forgotten costs that stream, and not the connection.
    pub fn stall_max(&self) -> Duration {
        let short = self.answers.borrow().memory().is_short();
        (if short { PATIENCE_SHORT } else { PATIENCE }) * 2 / 3
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let client = &self.client;
        client.begun.set(client.begun.get() - 1);
        client.expected.set(client.expected.get() - self.expected);
        client.let_in();
    }
}

/// What was taken in the time in which something waited to be taken.
#[derive(Default)]
struct Pace {
    waiting_since: Cell<Option<Duration>>,
    waited: Cell<Duration>,
    taken: Cell<u64>,
}

impl Pace {
    fn waits(&self, now: Duration, something: bool) {
        let before = self.waiting_since.replace(something.then_some(now));
        if let Some(since) = before {
            self.waited.set(self.waited.get() + now.saturating_sub(since));
        }
    }

    /// Whether less than `least` bytes a second were taken in `patience` or more. If not, that time begins anew.
    fn is_below(&self, now: Duration, patience: Duration, least: u64) -> bool {
        self.waits(now, self.waiting_since.get().is_some());
        let waited = self.waited.get();
        if waited < patience {
            return false;
        }
        let is_below = (self.taken.replace(0) as f64) < least as f64 * waited.as_secs_f64();
        self.waited.set(Duration::ZERO);
        is_below
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::Pin;
    use std::task::Context;

    type Wait = Pin<Box<dyn Future<Output = Turn>>>;

    fn wait(client: &Rc<Client>, expected: u64) -> Wait {
        wait_for(client, Rc::new(Expected { learned: Cell::new(Some(expected)), unknown: 0 }))
    }

    fn wait_for(client: &Rc<Client>, expected: Rc<Expected>) -> Wait {
        let client = client.clone();
        Box::pin(async move { client.turn(&expected).await })
    }

    /// A client to whom its share is open.
    fn known(memory: &Arc<Memory>) -> Rc<Client> {
        let client = Client::new(memory);
        client.took(100 << 20);
        client
    }

    fn poll(wait: &mut Wait) -> Option<Turn> {
        match wait.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    /// One client may have 20 MiB of it at first.
    fn memory() -> Arc<Memory> {
        Arc::new(Memory::new(50 << 20))
    }

    #[test]
    fn as_many_begin_as_there_is_room_for_in_order() {
        let client = known(&memory());
        let mut waits: Vec<Wait> = (0..6).map(|_| wait(&client, 8 << 20)).collect();
        let mut turns: Vec<Option<Turn>> = waits.iter_mut().map(poll).collect();
        assert_eq!(turns.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false, false, false, false]);
        // One that would fit waits behind those that do not.
        assert!(poll(&mut wait(&client, 1)).is_none());
        // The third gives up; an end lets the fourth in, and nobody behind it.
        waits[2] = wait(&client, 0);
        turns[0] = None;
        assert!(poll(&mut waits[4]).is_none());
        assert!(poll(&mut waits[3]).is_some(), "and is over at once");
        assert!(poll(&mut waits[4]).is_some());
    }

    #[test]
    fn what_is_not_taken_holds_back_and_whoever_has_nothing_is_let_in() {
        let client = known(&memory());
        let turn = poll(&mut wait(&client, 200 << 20)).expect("it has nothing else");
        let held = client.hold(19 << 20);
        drop(turn);
        let mut next = wait(&client, 1 << 20);
        assert!(poll(&mut next).is_none());
        drop(held);
        client.let_in();
        assert!(poll(&mut next).is_some());
    }

    #[test]
    fn a_new_client_begins_little_until_it_takes() {
        let client = Client::new(&memory());
        let mut waits: Vec<Wait> = (0..4).map(|_| wait(&client, 600 << 10)).collect();
        let mut turns: Vec<Option<Turn>> = waits.iter_mut().map(poll).collect();
        assert_eq!(turns.iter().flatten().count(), 1);
        client.took(600 << 10);
        turns[0] = None;
        turns.extend(waits.iter_mut().skip(1).map(poll));
        assert_eq!(turns.iter().flatten().count(), 3, "a megabyte, and sixteen times what it took");
    }

    #[test]
    fn what_is_learned_counts_for_those_who_wait() {
        let expected = Rc::new(Expected { learned: Cell::new(None), unknown: UNKNOWN_BYTES });
        let client = Client::new(&memory());
        let mut waits: Vec<Wait> = (0..50).map(|_| wait_for(&client, expected.clone())).collect();
        let turns: Vec<Option<Turn>> = waits.iter_mut().map(poll).collect();
        assert_eq!(turns.iter().flatten().count(), 1);
        expected.learn(1000);
        drop(turns);
        let turns: Vec<Turn> = waits.iter_mut().skip(1).filter_map(poll).collect();
        assert_eq!(turns.len(), 49);
        expected.learn(3000);
        expected.learn(0);
        assert_eq!(expected.bytes(), 1750, "up by half, down by an eighth");
        expected.learn_failure();
        assert_eq!(expected.bytes(), 1750);
        let failing = Rc::new(Expected { learned: Cell::new(None), unknown: UNKNOWN_BYTES });
        let client = Client::new(&memory());
        let mut waits: Vec<Wait> = (0..50).map(|_| wait_for(&client, failing.clone())).collect();
        let first: Vec<Turn> = waits.iter_mut().filter_map(poll).collect();
        assert_eq!(first.len(), 1);
        failing.learn_failure();
        drop(first);
        let others: Vec<Turn> = waits.iter_mut().skip(1).filter_map(poll).collect();
        assert_eq!(others.len(), 49);
    }

    #[test]
    fn a_turn_that_nobody_took_goes_on() {
        let client = known(&memory());
        let turn = poll(&mut wait(&client, 15 << 20)).unwrap();
        let (mut second, mut third) = (wait(&client, 15 << 20), wait(&client, 15 << 20));
        assert!(poll(&mut second).is_none() && poll(&mut third).is_none());
        drop(turn);
        // Let in and given up before it was polled.
        drop(second);
        assert!(poll(&mut third).is_some());
        assert_eq!((client.begun.get(), client.expected.get()), (0, 0));
    }

    #[test]
    fn the_pace_is_judged_over_the_time_in_which_something_waits() {
        let at = Duration::from_secs;
        let pace = Pace::default();
        let below = |now: u64| pace.is_below(at(now), at(10), 1000);
        pace.waits(at(0), true);
        assert!(!below(9) && below(10), "nothing was taken");
        pace.taken.set(10_000);
        assert!(!below(20) && !below(29));
        pace.waits(at(29), false);
        assert!(!below(1000), "nothing waits");
        pace.waits(at(1000), true);
        assert!(below(1001), "nine seconds before and one now");
    }

    #[test]
    fn short_memory_shortens_patience() {
        let memory = memory();
        let (client, other) = (Client::new(&memory), Client::new(&memory));
        client.waits(Duration::ZERO, true);
        client.took(PACE_LEAST as usize * 40);
        let seconds = Duration::from_secs;
        assert!(!client.is_slow(seconds(12)));
        let _held = other.hold(30 << 20);
        assert_eq!(client.stall_max(), PATIENCE_SHORT * 2 / 3);
        assert!(client.is_slow(seconds(12)));
    }
}
