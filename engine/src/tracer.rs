//! A shard's part in tracing (see [`crate::trace`]): chooses receives, and keeps the traces of bytes that wait for their
//! reader or for the kernel.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use crate::conn::{Conn, ConnId, DIALED, TRACED_IN, TRACED_OUT};
use crate::metrics::{BARE, ShardMetrics};
use crate::trace::{Kind, Stage, Trace};

/// Messages that are traced per second. Beyond, every n-th is, so that it is about as many.
const PER_SECOND: u32 = 256;
/// How often n is chosen anew.
const WINDOW: Duration = Duration::from_millis(250);
/// Traces that wait for a reader, or for the kernel. Beyond, no new ones begin.
const WAITING_MAX: usize = 512;
/// A kernel that returns so soon, or in so small a part of the time that the turn before worked, had something already:
/// the shard was not woken. What it does for us before it returns, sends above all, is part of that time.
const AT_ONCE: Duration = Duration::from_micros(50);
const AT_ONCE_PART: u32 = 8;

/// A turn is long if nothing is reaped for so long.
const LONG: Duration = Duration::from_millis(1);
/// What it held up is worked off so long after it.
const AFTERMATH: Duration = Duration::from_millis(2);

/// See the module's description.
pub(crate) struct Tracer {
    chooser: Chooser,
    /// Turns, on the shard's clock: when this one was reaped, and the last one's work ended.
    began: Cell<Duration>,
    ended: Cell<Duration>,
    /// How long what this turn reaped may have waited to be reaped.
    slack: Cell<Duration>,
    /// The last turn that was long: from when to when nothing was reaped.
    long: Cell<(Duration, Duration)>,
    /// Of bytes that wait for their reader.
    arrived: RefCell<Vec<(ConnId, Trace)>>,
    /// Of the chunk that was taken last.
    current: RefCell<Trace>,
    has_current: Cell<bool>,
    /// Of bytes that wait to be sent, or are being sent.
    leaving: RefCell<Vec<Leaving>>,
}

struct Leaving {
    id: ConnId,
    trace: Trace,
    kind: &'static Kind,
    is_sent: bool,
}

impl Tracer {
    pub(crate) fn new() -> Tracer {
        Tracer {
            chooser: Chooser::default(),
            began: Cell::default(),
            ended: Cell::default(),
            slack: Cell::default(),
            long: Cell::default(),
            arrived: RefCell::default(),
            current: RefCell::default(),
            has_current: Cell::new(false),
            leaving: RefCell::default(),
        }
    }

    /// A turn begins with what the kernel had. `may_sleep`: it might have waited for it.
    pub(crate) fn on_turn(&self, now: Duration, may_sleep: bool) {
        let (began, ended) = (self.began.replace(now), self.ended.get());
        let at_once = (ended.saturating_sub(began) / AT_ONCE_PART).max(AT_ONCE);
        let was_woken = may_sleep && now.saturating_sub(ended) > at_once;
        let since_last = now.saturating_sub(began);
        self.slack.set(if was_woken { Duration::ZERO } else { since_last });
        if !was_woken && since_last >= LONG {
            self.long.set((began, now));
        }
    }

    /// Its work has ended.
    pub(crate) fn on_turn_end(&self, now: Duration) {
        self.ended.set(now);
    }

    /// Bytes came on a connection.
    pub(crate) fn on_received(&self, id: ConnId, conn: &mut Conn) {
        if conn.is(DIALED | TRACED_IN) || !self.chooser.chooses(self.began.get()) {
            return;
        }
        let mut arrived = self.arrived.borrow_mut();
        if arrived.len() < WAITING_MAX {
            conn.set(TRACED_IN);
            arrived.push((id, Trace::begin(Instant::now(), self.slack.get())));
        }
    }

    /// Their reader takes them.
    pub(crate) fn on_taken(&self, index: u32, conn: &mut Conn) {
        if conn.is(TRACED_IN) {
            conn.clear(TRACED_IN);
            let id = ConnId { index, generation: conn.generation };
            let mut arrived = self.arrived.borrow_mut();
            let Some(at) = arrived.iter().position(|(of, _)| *of == id) else { return };
            let (_, mut trace) = arrived.swap_remove(at);
            trace.mark(Stage::Queue);
            *self.current.borrow_mut() = trace;
            self.has_current.set(true);
        } else if self.has_current.get() {
            // Nobody wanted it.
            drop(self.take());
        }
    }

    /// The trace of the chunk that was taken last.
    pub(crate) fn take(&self) -> Trace {
        match self.has_current.replace(false) {
            true => self.current.take(),
            false => Trace::NONE,
        }
    }

    /// When what woke somebody in this turn may have been ready. `now`: on the shard's clock, at this moment. What is reaped
    /// right after a long turn may come as a letter, or through another task, some turns later.
    pub(crate) fn ready_since(&self, now: Duration) -> Instant {
        let (long_began, long_ended) = self.long.get();
        let ago = match now.saturating_sub(long_ended) <= AFTERMATH && long_ended > long_began {
            true => now.saturating_sub(long_began),
            false => now.saturating_sub(self.began.get()) + self.slack.get(),
        };
        let now = Instant::now();
        now.checked_sub(ago).unwrap_or(now)
    }

    /// What is queued on the connection is what the trace waits for.
    pub(crate) fn on_queued(
        &self,
        id: ConnId,
        conn: &mut Conn,
        trace: Trace,
        kind: &'static Kind,
        metrics: &ShardMetrics,
    ) {
        if conn.outbox.bytes() == 0 {
            return keep(trace, kind, metrics);
        }
        let mut leaving = self.leaving.borrow_mut();
        if leaving.len() < WAITING_MAX {
            conn.set(TRACED_OUT);
            leaving.push(Leaving { id, trace, kind, is_sent: false });
        }
    }

    /// What is queued on the connection goes to the kernel.
    pub(crate) fn on_sending(&self, id: ConnId) {
        let mut leaving = self.leaving.borrow_mut();
        for of in leaving.iter_mut().filter(|of| of.id == id && !of.is_sent) {
            of.trace.mark(Stage::Outbox);
            of.is_sent = true;
        }
    }

    /// The kernel has taken all that was queued on the connection.
    pub(crate) fn on_sent(&self, id: ConnId, conn: &mut Conn, metrics: &ShardMetrics) {
        conn.clear(TRACED_OUT);
        for Leaving { mut trace, kind, .. } in self.leaving.borrow_mut().extract_if(.., |of| of.id == id) {
            trace.mark(Stage::Send);
            keep(trace, kind, metrics);
        }
    }

    /// The connection is no more.
    pub(crate) fn forget(&self, id: ConnId) {
        self.arrived.borrow_mut().retain(|(of, _)| *of != id);
        self.leaving.borrow_mut().retain(|of| of.id != id);
    }
}

fn keep(trace: Trace, kind: &'static Kind, metrics: &ShardMetrics) {
    if let Some(journey) = trace.into_journey() {
        metrics.traces.keep(kind, journey);
    }
}

/// Which receives are traced: all while few come, every n-th while many do.
#[derive(Debug)]
struct Chooser {
    /// Receives until the next is chosen.
    left: Cell<u32>,
    stride: Cell<u32>,
    /// Receives in the window, and those chosen since the stride is what it is.
    seen: Cell<u32>,
    chosen: Cell<u32>,
    window_ends: Cell<Duration>,
}

impl Default for Chooser {
    fn default() -> Chooser {
        Chooser {
            left: Cell::new(0),
            stride: Cell::new(1),
            seen: Cell::new(0),
            chosen: Cell::new(0),
            window_ends: Cell::new(WINDOW),
        }
    }
}

impl Chooser {
    /// Whether this receive is one, of a turn that began at `now`.
    fn chooses(&self, now: Duration) -> bool {
        if BARE {
            return false;
        }
        if let Some(left) = self.left.get().checked_sub(1) {
            self.left.set(left);
            return false;
        }
        self.seen.set(self.seen.get() + self.stride.get());
        self.chosen.set(self.chosen.get() + 1);
        let most = PER_SECOND * WINDOW.as_millis() as u32 / 1000;
        if now >= self.window_ends.get() {
            let windows = 1 + ((now - self.window_ends.get()).as_nanos() / WINDOW.as_nanos()).min(1 << 20) as u32;
            self.stride.set((self.seen.get() / windows / most).max(1));
            self.seen.set(0);
            self.chosen.set(0);
            self.window_ends.set(now + WINDOW);
        } else if self.chosen.get() > most {
            // Much more than before: the window's end need not be waited for to see it.
            self.stride.set(self.stride.get().saturating_mul(2));
            self.chosen.set(0);
        }
        self.left.set(self.stride.get() - 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_chosen_whole_and_much_in_even_steps() {
        let chosen = |per_second: u64, seconds: u64| {
            let chooser = Chooser::default();
            let at = |n: u64| Duration::from_nanos(n * 1_000_000_000 / per_second);
            // The first second is for getting to know the rate.
            let all: Vec<bool> = (0..per_second * seconds).map(|n| chooser.chooses(at(n))).collect();
            all[per_second as usize..].iter().filter(|chosen| **chosen).count() as u64 / (seconds - 1)
        };
        assert_eq!(chosen(100, 5), 100);
        assert!((200..=300).contains(&chosen(10_000, 5)), "{}", chosen(10_000, 5));
        assert!((200..=300).contains(&chosen(100_000, 3)), "{}", chosen(100_000, 3));
    }

    #[test]
    fn much_is_forgotten_when_little_comes() {
        let chooser = Chooser::default();
        let chosen = (0..100_000).filter(|n| chooser.chooses(Duration::from_micros(n * 10))).count();
        assert!(chosen < 1000, "{chosen}");
        let after =
            (0..500).filter(|n| chooser.chooses(Duration::from_secs(60) + Duration::from_millis(n * 10))).count();
        assert!(after >= 100, "{after}");
    }

    #[test]
    fn what_a_long_turn_held_up_is_told_from_what_woke_the_shard() {
        let (tracer, ms) = (Tracer::new(), Duration::from_millis);
        tracer.on_turn(ms(10), true);
        tracer.on_turn_end(ms(50));
        // It worked for 40 ms, and the kernel had something as soon as it had sent what there was.
        tracer.on_turn(ms(51), true);
        assert_eq!(tracer.slack.get(), ms(41));
        tracer.on_turn_end(ms(52));
        tracer.on_turn(ms(53), false);
        assert_eq!(tracer.slack.get(), ms(2));
        tracer.on_turn_end(ms(54));
        // It slept.
        tracer.on_turn(ms(65), true);
        assert_eq!(tracer.slack.get(), Duration::ZERO);
    }

    #[test]
    fn what_comes_on_a_long_turns_heels_was_held_up_by_it() {
        let (tracer, us) = (Tracer::new(), Duration::from_micros);
        tracer.on_turn(us(10_000), true);
        tracer.on_turn_end(us(50_000));
        tracer.on_turn(us(50_010), true);
        tracer.on_turn_end(us(50_020));
        // Two turns later, as a letter.
        tracer.on_turn(us(50_021), false);
        let ago = |now| Instant::now().saturating_duration_since(tracer.ready_since(us(now)));
        assert!(ago(50_030) >= us(40_000), "{:?}", ago(50_030));
        // Long after, nothing is its fault.
        tracer.on_turn_end(us(50_040));
        tracer.on_turn(us(90_000), true);
        assert!(ago(90_005) < us(10_000), "{:?}", ago(90_005));
    }
}
