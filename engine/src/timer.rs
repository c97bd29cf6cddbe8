//! One hierarchical timing wheel per shard, after Varghese and Lauck (1987), with one kernel deadline per sleep.
//!
//! ```text
//!   level 0   64 slots of   1 ms     a timer sits on the level where its deadline first differs from `now`,
//!   level 1   64 slots of  64 ms     and moves down as time reaches its slot; inserting and removing are O(1)
//!   ...
//!   level 5   64 slots of  12 days   (2.1 years in all; later deadlines wait at the top and are looked at again)
//! ```
//!
//! Timers never fire early; they fire at most one tick late, plus what the turn they wait for takes. Nodes live
//! in a slab and link by index; a handle carries its node's generation.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const LEVELS: usize = 6;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const NONE: u32 = u32::MAX;

struct Node {
    generation: u32,
    /// In ticks.
    deadline: u64,
    waker: Option<Waker>,
    fired: bool,
    linked: Option<(u8, u8)>,
    previous: u32,
    next: u32,
}

struct Inner {
    /// The tick up to which everything has fired.
    elapsed: u64,
    nodes: Vec<Node>,
    vacant: Vec<u32>,
    heads: [[u32; SLOTS]; LEVELS],
    /// A bit per slot that holds timers.
    occupied: [u64; LEVELS],
}

/// The timers of one shard.
pub(crate) struct Timers {
    inner: RefCell<Inner>,
    now: Cell<Duration>,
}

/// One tick.
pub(crate) const TICK: Duration = Duration::from_millis(1);

fn tick_of(time: Duration) -> u64 {
    time.as_millis() as u64
}

#[derive(Clone, Copy)]
struct TimerId {
    index: u32,
    generation: u32,
}

impl Timers {
    pub(crate) fn new() -> Rc<Timers> {
        Rc::new(Timers {
            inner: RefCell::new(Inner {
                elapsed: 0,
                nodes: Vec::new(),
                vacant: Vec::new(),
                heads: [[NONE; SLOTS]; LEVELS],
                occupied: [0; LEVELS],
            }),
            now: Cell::new(Duration::ZERO),
        })
    }

    /// The time of this turn.
    pub(crate) fn now(&self) -> Duration {
        self.now.get()
    }

    /// Sets the turn's time, before anything is fired.
    pub(crate) fn set_now(&self, now: Duration) {
        self.now.set(now.max(self.now.get()));
    }

    /// A future that is ready once `deadline` has passed.
    pub(crate) fn at(self: &Rc<Self>, deadline: Duration) -> Sleep {
        Sleep { timers: self.clone(), deadline, timer: None }
    }

    /// Timers that wait.
    pub(crate) fn waiting(&self) -> usize {
        let inner = self.inner.borrow();
        inner.nodes.len() - inner.vacant.len()
    }

    /// A moment at which to look again: no timer fires before it, and if one is due then it fires then.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let inner = self.inner.borrow();
        inner.next_tick().map(Duration::from_millis)
    }

    /// Fires what is due; how many timers that were.
    pub(crate) fn advance(&self, now: Duration) -> usize {
        self.set_now(now);
        let mut fired = 0;
        loop {
            // Waking needs the wheel unborrowed: a waker may belong to anyone.
            let Some(waker) = self.inner.borrow_mut().next_due(tick_of(self.now.get())) else { return fired };
            fired += 1;
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl Inner {
    fn insert(&mut self, deadline: u64, waker: Waker) -> TimerId {
        let index = self.vacant.pop().unwrap_or_else(|| {
            let (previous, next) = (NONE, NONE);
            self.nodes.push(Node {
                generation: 0,
                deadline: 0,
                waker: None,
                fired: false,
                linked: None,
                previous,
                next,
            });
            (self.nodes.len() - 1) as u32
        });
        let node = &mut self.nodes[index as usize];
        node.deadline = deadline;
        node.waker = Some(waker);
        node.fired = false;
        let generation = node.generation;
        self.link(index);
        TimerId { index, generation }
    }

    /// The level on which `deadline` lies, seen from `elapsed`: that of the highest bit in which they differ.
    fn level(&self, deadline: u64) -> usize {
        let differing = (deadline ^ self.elapsed) | (SLOTS as u64 - 1);
        let highest = 63 - differing.leading_zeros();
        ((highest / SLOT_BITS) as usize).min(LEVELS - 1)
    }

    fn link(&mut self, index: u32) {
        let deadline = self.nodes[index as usize].deadline;
        // Due now: the slot being worked off.
        let level = if deadline <= self.elapsed { 0 } else { self.level(deadline) };
        // Beyond the top level's reach: its farthest slot, and another look then.
        let reach = self.elapsed + ((SLOTS as u64 - 1) << (SLOT_BITS * level as u32));
        let at = if level == LEVELS - 1 { deadline.min(reach) } else { deadline.max(self.elapsed) };
        let slot = (at >> (SLOT_BITS * level as u32)) as usize % SLOTS;
        let head = self.heads[level][slot];
        let node = &mut self.nodes[index as usize];
        node.linked = Some((level as u8, slot as u8));
        node.previous = NONE;
        node.next = head;
        if head != NONE {
            self.nodes[head as usize].previous = index;
        }
        self.heads[level][slot] = index;
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, index: u32) {
        let node = &mut self.nodes[index as usize];
        let Some((level, slot)) = node.linked.take() else { return };
        let (previous, next) = (node.previous, node.next);
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        if previous != NONE {
            self.nodes[previous as usize].next = next;
        } else {
            self.heads[level as usize][slot as usize] = next;
            if next == NONE {
                self.occupied[level as usize] &= !(1 << slot);
            }
        }
    }

    fn remove(&mut self, id: TimerId) {
        if self.nodes[id.index as usize].generation == id.generation {
            self.unlink(id.index);
            let node = &mut self.nodes[id.index as usize];
            node.generation = node.generation.wrapping_add(1);
            node.waker = None;
            self.vacant.push(id.index);
        }
    }

    /// The first tick after `elapsed` at which some slot's time begins, lowest level first: every timer of a
    /// lower level is due before any of a higher one.
    fn next_tick(&self) -> Option<u64> {
        (0..LEVELS).find_map(|level| {
            let shift = SLOT_BITS * level as u32;
            let position = self.elapsed >> shift;
            let here = (position % SLOTS as u64) as u32;
            let ahead = self.occupied[level].rotate_right(here);
            // The slot we are in has had its turn; what is linked there now lies a whole round ahead.
            let distance = match ahead & !1 {
                0 if ahead == 0 => return None,
                0 => SLOTS as u64,
                later => later.trailing_zeros() as u64,
            };
            Some((position + distance) << shift)
        })
    }

    /// Moves time towards `now` until a timer fires; its waker, or `None` when all that is due has fired.
    fn next_due(&mut self, now: u64) -> Option<Option<Waker>> {
        loop {
            let here = (self.elapsed % SLOTS as u64) as usize;
            let due = self.heads[0][here];
            if due != NONE && self.nodes[due as usize].deadline <= self.elapsed {
                self.unlink(due);
                let node = &mut self.nodes[due as usize];
                node.fired = true;
                return Some(node.waker.take());
            }
            match self.next_tick().filter(|&tick| tick <= now) {
                Some(tick) => self.step(tick),
                None => {
                    self.elapsed = self.elapsed.max(now);
                    return None;
                }
            }
        }
    }

    /// Goes to `tick` and moves the timers of every slot that begins there one level down.
    fn step(&mut self, tick: u64) {
        self.elapsed = tick;
        for level in (1..LEVELS).rev() {
            let shift = SLOT_BITS * level as u32;
            if tick & ((1 << shift) - 1) != 0 {
                continue;
            }
            let slot = (tick >> shift) as usize % SLOTS;
            while self.heads[level][slot] != NONE {
                let index = self.heads[level][slot];
                self.unlink(index);
                self.link(index);
            }
        }
    }
}

/// Waits until a moment has passed. See [`crate::Shard::sleep`].
pub struct Sleep {
    timers: Rc<Timers>,
    deadline: Duration,
    timer: Option<TimerId>,
}

impl Sleep {
    /// When it ends, on the shard's clock.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.timers.now() >= self.deadline {
            return Poll::Ready(());
        }
        // Never early: a deadline inside a tick belongs to the next one.
        let tick = tick_of(self.deadline + TICK - Duration::from_nanos(1));
        let timers = self.timers.clone();
        let mut inner = timers.inner.borrow_mut();
        match self.timer {
            Some(id) if !inner.nodes[id.index as usize].fired => {
                inner.nodes[id.index as usize].waker = Some(cx.waker().clone());
            }
            Some(id) => {
                inner.remove(id);
                self.timer = Some(inner.insert(tick, cx.waker().clone()));
            }
            None => self.timer = Some(inner.insert(tick, cx.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.timer {
            self.timers.inner.borrow_mut().remove(id);
        }
    }
}

/// Ticks at a fixed rate. A tick that comes late does not move the following ones; ticks missed altogether are
/// skipped.
pub struct Interval {
    timers: Rc<Timers>,
    next: Duration,
    period: Duration,
}

impl Interval {
    pub(crate) fn new(timers: Rc<Timers>, period: Duration) -> Interval {
        let next = timers.now() + period;
        Interval { timers, next, period: period.max(TICK) }
    }

    /// Waits for the next tick; the moment it was meant for.
    pub async fn tick(&mut self) -> Duration {
        let meant = self.next;
        self.timers.at(meant).await;
        let late = self.timers.now().saturating_sub(meant);
        let missed = (late.as_nanos() / self.period.as_nanos()) as u32;
        self.next = meant + self.period * (missed + 1);
        meant
    }
}

/// The time allowed has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl std::fmt::Display for Elapsed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the time allowed has passed")
    }
}

impl std::error::Error for Elapsed {}

/// Runs `future` until it is ready or `sleep` is.
pub(crate) async fn timeout<T>(sleep: Sleep, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut future = std::pin::pin!(future);
    let mut sleep = std::pin::pin!(sleep);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        sleep.as_mut().poll(cx).map(|()| Err(Elapsed))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn start(sleep: &mut Pin<Box<Sleep>>, count: &Arc<Count>) -> bool {
        sleep.as_mut().poll(&mut Context::from_waker(&count.clone().into())).is_ready()
    }

    #[test]
    fn every_deadline_fires_on_its_tick_and_never_before() {
        let mut deadlines: Vec<u64> = (1..200).collect();
        deadlines.extend([255, 256, 257, 4095, 4096, 4097, 5000, 262_143, 262_144, 300_000, 20_000_000]);
        for begin in [0u64, 1, 63, 64, 1000, 4095, 262_144 - 7] {
            for &wait in &deadlines {
                let timers = Timers::new();
                timers.advance(ms(begin));
                let count = Arc::new(Count::default());
                let mut sleep = Box::pin(timers.at(ms(begin + wait)));
                assert!(!start(&mut sleep, &count));
                let mut now = begin;
                // Follow the wheel's own deadlines, as a shard does.
                while let Some(next) = timers.next_deadline() {
                    assert!(next > ms(now), "time stands still at {now}");
                    assert!(next <= ms(begin + wait), "overslept");
                    now = next.as_millis() as u64;
                    let fired = timers.advance(next);
                    assert_eq!(fired == 1, now == begin + wait);
                }
                assert_eq!((now, count.0.load(Ordering::Relaxed)), (begin + wait, 1));
                assert!(start(&mut sleep, &count));
            }
        }
    }

    #[test]
    fn a_jump_of_the_clock_fires_all_that_is_due() {
        let timers = Timers::new();
        let count = Arc::new(Count::default());
        let mut sleeps: Vec<_> = (1..5000u64).map(|n| Box::pin(timers.at(ms(n * 7)))).collect();
        for sleep in &mut sleeps {
            assert!(!start(sleep, &count));
        }
        assert_eq!(timers.advance(ms(14_000)), 2000);
        assert_eq!(timers.advance(ms(1_000_000)), 2999);
        assert_eq!(count.0.load(Ordering::Relaxed), 4999);
        drop(sleeps);
        assert_eq!(timers.waiting(), 0);
    }

    #[test]
    fn a_dropped_sleep_leaves_nothing_behind() {
        let timers = Timers::new();
        let count = Arc::new(Count::default());
        for wait in [1u64, 100, 10_000, 100_000_000_000] {
            let mut sleep = Box::pin(timers.at(ms(wait)));
            assert!(!start(&mut sleep, &count));
            assert_eq!(timers.waiting(), 1);
            drop(sleep);
            assert_eq!(timers.waiting(), 0);
            assert_eq!(timers.next_deadline(), None);
        }
    }

    #[test]
    fn a_deadline_within_a_tick_waits_for_the_tick_after() {
        let timers = Timers::new();
        let count = Arc::new(Count::default());
        let mut sleep = Box::pin(timers.at(Duration::from_micros(1500)));
        assert!(!start(&mut sleep, &count));
        assert_eq!(timers.advance(ms(1)), 0);
        assert_eq!(timers.advance(ms(2)), 1);
        assert!(start(&mut sleep, &count));
    }
}
