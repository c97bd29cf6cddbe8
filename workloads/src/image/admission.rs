//! Who is let in: marks of the queue's length, a forecast of the wait, and memory by predicted bytes.
//!
//! ```text
//!   upload ─► Gate: memory or disk short? 503    wait above the hard mark? 429    above the soft mark? 202, delayed
//!   lease  ─► Budget: the predicted peaks of all that runs stay below one sum; giants run one at a time
//! ```
//!
//! Waits are forecast from the predicted processor time of all that waits, corrected by how long works of late really
//! took ([`Pace`]). All of this is read and written by shards and threads alike, so it is atomics and no lock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::pipeline::Cost;
use super::pressure::Pressure;
use super::queue::{Forecast, Queue};

/// Bytes that may be used at once, and who uses them.
#[derive(Debug)]
pub struct Budget {
    total: u64,
    giant: u64,
    used: AtomicU64,
    used_max: AtomicU64,
    giant_runs: AtomicBool,
}

/// Bytes taken from a [`Budget`] until this is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
    giant: bool,
}

impl Budget {
    /// `total` bytes; what needs more than `giant` of them runs one at a time.
    pub fn new(total: u64, giant: u64) -> Arc<Budget> {
        Arc::new(Budget {
            total,
            giant: giant.min(total),
            used: AtomicU64::new(0),
            used_max: AtomicU64::new(0),
            giant_runs: AtomicBool::new(false),
        })
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What needs more than this is a giant.
    pub fn giant(&self) -> u64 {
        self.giant
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The most that was in use at once.
    pub fn used_max(&self) -> u64 {
        self.used_max.load(Ordering::Relaxed)
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        self.total.saturating_sub(self.used())
    }

    /// Whether the lane of one for giants is free.
    pub fn is_giant_free(&self) -> bool {
        !self.giant_runs.load(Ordering::Acquire)
    }

    /// Takes `bytes`, if they are free.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        let giant = bytes > self.giant;
        if giant && self.giant_runs.swap(true, Ordering::AcqRel) {
            return None;
        }
        let within = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.total);
        let Ok(before) = self.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, within) else {
            if giant {
                self.giant_runs.store(false, Ordering::Release);
            }
            return None;
        };
        self.used_max.fetch_max(before + bytes, Ordering::Relaxed);
        Some(Reservation { budget: self.clone(), bytes, giant })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
        if self.giant {
            self.budget.giant_runs.store(false, Ordering::Release);
        }
    }
}

/// How fast works really are, measured as they end.
#[derive(Debug)]
pub struct Pace {
    workers: u64,
    /// Time in a lane per predicted processor time, in parts per million: a moving mean of the last works.
    ratio_ppm: AtomicU64,
    /// Predicted processor time of a work, in microseconds: a moving mean.
    cpu_us: AtomicU64,
}

/// One in so many of a moving mean is the newest value.
const MEMORY: u64 = 16;

impl Pace {
    /// Of that many workers, of which nothing is known yet: predictions are taken at their word.
    pub fn new(workers: usize) -> Arc<Pace> {
        Arc::new(Pace {
            workers: workers.max(1) as u64,
            ratio_ppm: AtomicU64::new(1_000_000),
            cpu_us: AtomicU64::new(200_000),
        })
    }

    /// A work of this predicted processor time has held a worker for so long.
    pub fn observe(&self, predicted_us: u64, took: Duration) {
        // Between a hundredth and a hundred times the prediction: one outlier must not turn the forecast over.
        let ratio = (took.as_micros() as u64).saturating_mul(1_000_000) / predicted_us.max(1);
        mix(&self.ratio_ppm, ratio.clamp(10_000, 100_000_000));
        mix(&self.cpu_us, predicted_us);
    }

    /// How long all workers need for works of this predicted processor time in sum.
    pub fn duration(&self, predicted_us: u64) -> Duration {
        let us = u128::from(predicted_us) * u128::from(self.ratio_ppm.load(Ordering::Relaxed)) / 1_000_000;
        Duration::from_micros((us / u128::from(self.workers)).min(u128::from(u64::MAX)) as u64)
    }

    /// Works per second that leave the queue while it is not empty.
    pub fn rate(&self) -> f64 {
        1.0 / self.duration(self.cpu_us.load(Ordering::Relaxed)).as_secs_f64().max(1e-6)
    }
}

/// A lost update is one sample less, nothing more.
fn mix(mean: &AtomicU64, value: u64) {
    let before = mean.load(Ordering::Relaxed);
    mean.store(before - before / MEMORY + value / MEMORY, Ordering::Relaxed);
}

/// When the queue is long, and when it is too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Beyond this forecast wait, a 202 says `delayed`.
    pub soft: Duration,
    /// Beyond this forecast wait, 429.
    pub hard: Duration,
    /// Works that may wait, whatever the forecast; beyond, 429.
    pub waiting_max: u64,
    /// Bytes that stay free on the store's disk; below, 503.
    pub disk_reserve_bytes: u64,
}

impl Marks {
    /// The defaults.
    pub const DEFAULT: Marks = Marks {
        soft: Duration::from_secs(10),
        hard: Duration::from_secs(120),
        waiting_max: 100_000,
        disk_reserve_bytes: 1 << 30,
    };
}

/// What the door says to an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Come in; the forecast goes into the order.
    Welcome(Forecast),
    /// Not now: 429 with `Retry-After`, or 503 where the machine's state and not the queue's length is the reason.
    Later {
        /// When it will probably be welcome; whole seconds, at least one.
        retry_after: Duration,
        /// A sentence.
        why: String,
        /// Whether the queue's length is the reason (429), else the machine (503).
        too_many: bool,
    },
    /// Never on this machine: it needs more memory than all of it that may be used. 413.
    Never(String),
}

/// No `Retry-After` is longer than this: nobody knows more.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);
/// How long a machine without memory or disk is given.
const RELIEF: Duration = Duration::from_secs(5);

/// The door. Everything it looks at is in memory, so that asking costs nothing.
pub struct Gate {
    queue: Arc<dyn Queue>,
    budget: Arc<Budget>,
    pace: Arc<Pace>,
    pressure: Arc<Pressure>,
    marks: Marks,
    start: Instant,
    /// Until when refused clients have been given their times, in milliseconds since the start. Each gets the next one,
    /// so that they do not all come back at once, only to be refused again.
    promised_ms: AtomicU64,
    refused: AtomicU64,
    shed: AtomicU64,
    delayed: AtomicU64,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("marks", &self.marks).field("budget", &self.budget).finish_non_exhaustive()
    }
}

impl Gate {
    /// The door before this queue.
    pub fn new(
        queue: Arc<dyn Queue>,
        budget: Arc<Budget>,
        pace: Arc<Pace>,
        pressure: Arc<Pressure>,
        marks: Marks,
    ) -> Gate {
        let start = Instant::now();
        let [promised_ms, refused, shed, delayed] = [(); 4].map(|()| AtomicU64::new(0));
        Gate { queue, budget, pace, pressure, marks, start, promised_ms, refused, shed, delayed }
    }

    /// How long a work that comes now will probably wait for its turn.
    pub fn forecast(&self) -> Duration {
        self.pace.duration(self.queue.depth().waiting_cpu_us)
    }

    /// Before an upload, without its cost; and again once its head is known, with it.
    pub fn ask(&self, cost: Option<&Cost>) -> Verdict {
        if let Some(verdict) = self.machine(cost) {
            return verdict;
        }
        let (wait, waiting) = (self.forecast(), self.queue.depth().waiting());
        if wait > self.marks.hard || waiting >= self.marks.waiting_max {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let retry_after = self.promise(wait, waiting);
            let (wait_s, rate) = (wait.as_secs(), self.pace.rate());
            let why = format!("{waiting} images wait, about {wait_s} s of work at {rate:.1} images a second.");
            return Verdict::Later { retry_after, why, too_many: true };
        }
        let delayed = wait > self.marks.soft;
        self.delayed.fetch_add(u64::from(delayed), Ordering::Relaxed);
        Verdict::Welcome(Forecast { delayed, wait })
    }

    /// Before a work that does not go through the queue: its length is no reason.
    pub fn ask_aside(&self, cost: &Cost) -> Verdict {
        self.machine(Some(cost)).unwrap_or_else(|| Verdict::Welcome(Forecast::default()))
    }

    /// What the machine has against it.
    fn machine(&self, cost: Option<&Cost>) -> Option<Verdict> {
        if let Some(cost) = cost.filter(|cost| cost.peak_bytes > self.budget.total()) {
            let (needs, all) = (cost.peak_bytes >> 20, self.budget.total() >> 20);
            let why = format!("It needs {needs} MiB of memory to decode; this server may use {all} MiB.");
            return Some(Verdict::Never(why));
        }
        let why = self.pressure.why(self.marks.disk_reserve_bytes)?;
        self.shed.fetch_add(1, Ordering::Relaxed);
        Some(Verdict::Later { retry_after: RELIEF, why, too_many: false })
    }

    /// When there will be room for one more, after all who were given a time before.
    fn promise(&self, wait: Duration, waiting: u64) -> Duration {
        let each = Duration::from_secs_f64(1.0 / self.pace.rate());
        let by_wait = wait.saturating_sub(self.marks.hard);
        let over = waiting.saturating_sub(self.marks.waiting_max).min(u64::from(u32::MAX)) as u32;
        let soonest = by_wait.max(each.saturating_mul(over)) + each;
        let now_ms = self.start.elapsed().as_millis() as u64;
        let (soonest_ms, each_ms) = (now_ms + soonest.as_millis() as u64, (each.as_millis() as u64).max(1));
        let latest_ms = now_ms + RETRY_AFTER_MAX.as_millis() as u64;
        let next = |promised: u64| Some((promised + each_ms).max(soonest_ms).min(latest_ms));
        let before = self.promised_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or(soonest_ms);
        let at_ms = next(before).unwrap_or(soonest_ms);
        // Rounded up: a client that comes a moment early is refused for nothing.
        Duration::from_secs((at_ms - now_ms).div_ceil(1000).max(1))
    }

    /// Uploads refused because the queue was too long.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Uploads refused because memory or disk was short.
    pub fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }

    /// Uploads that were told of a delay.
    pub fn delayed(&self) -> u64 {
        self.delayed.load(Ordering::Relaxed)
    }

    /// The bytes that running works use.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// How fast works are.
    pub fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }

    /// What is known of the machine.
    pub fn pressure(&self) -> &Pressure {
        &self.pressure
    }

    /// The marks it goes by.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::queue::trial;
    use crate::image::queue::{QueueOptions, SqliteQueue};

    #[test]
    fn the_budget_is_never_overdrawn_and_giants_run_alone() {
        let budget = Budget::new(1000, 400);
        let small = budget.reserve(300).unwrap();
        let giant = budget.reserve(600).unwrap();
        assert!(!budget.is_giant_free());
        assert!(budget.reserve(101).is_none());
        assert_eq!((budget.used(), budget.free()), (900, 100));
        drop(small);
        assert!(budget.reserve(400).is_some());
        assert!(budget.reserve(401).is_none(), "a second giant");
        drop(giant);
        assert!(budget.is_giant_free());
        assert_eq!((budget.used(), budget.used_max()), (0, 1000));
        assert!(budget.reserve(1001).is_none());
        assert!(budget.is_giant_free(), "a giant that did not fit gave its lane back");
        assert!(budget.reserve(u64::MAX).is_none());
    }

    #[test]
    fn threads_share_the_budget() {
        let budget = Budget::new(100, 100);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let budget = budget.clone();
                std::thread::spawn(move || (0..2000).filter(|_| budget.reserve(30).is_some()).count())
            })
            .collect();
        assert!(threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>() > 0);
        assert_eq!(budget.used(), 0);
        assert!(budget.used_max() <= 100);
    }

    #[test]
    fn the_pace_follows_what_is_measured() {
        let pace = Pace::new(2);
        assert_eq!(pace.duration(4_000_000), Duration::from_secs(2));
        for _ in 0..200 {
            pace.observe(100_000, Duration::from_millis(300));
        }
        let forecast = pace.duration(4_000_000).as_secs_f64();
        assert!((5.8..6.2).contains(&forecast), "{forecast}");
        assert!((6.3..7.0).contains(&pace.rate()), "{}", pace.rate());
    }

    #[test]
    fn the_door_says_yes_then_later_then_no_with_times_that_do_not_collide() {
        let home = trial::Home::new("gate");
        let queue: Arc<dyn Queue> = Arc::new(SqliteQueue::open(home.path(), QueueOptions::DEFAULT).unwrap());
        let marks = Marks {
            soft: Duration::from_millis(500),
            hard: Duration::from_millis(1500),
            waiting_max: 5,
            disk_reserve_bytes: 0,
        };
        let budget = Budget::new(1000 << 20, 500 << 20);
        let pressure = Arc::new(Pressure::default());
        // One worker, and works of 0.4 s each.
        let gate = Gate::new(queue.clone(), budget, Pace::new(1), pressure.clone(), marks);
        let mut seen = Vec::new();
        for number in 0..6 {
            match gate.ask(None) {
                Verdict::Welcome(forecast) => {
                    let mut order = trial::order("a", number);
                    order.work.cost.cpu_us = 400_000;
                    let _accepted = queue.enqueue(order, forecast).wait().unwrap();
                    seen.push(if forecast.delayed { "delayed" } else { "welcome" });
                }
                Verdict::Later { too_many: true, .. } => seen.push("later"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen, ["welcome", "welcome", "delayed", "delayed", "later", "later"]);
        let times = (0..20).map(|_| match gate.ask(None) {
            Verdict::Later { retry_after, .. } => retry_after.as_secs(),
            other => panic!("{other:?}"),
        });
        let times: Vec<u64> = times.collect();
        assert!(times.is_sorted() && times[19] >= times[0] + 3, "{times:?}");
        assert!(matches!(gate.ask(Some(&Cost { peak_bytes: 1001 << 20, cpu_us: 1 })), Verdict::Never(_)));
        pressure.note_disk(Some(0));
        let reserve = Marks { disk_reserve_bytes: 1, ..Marks::DEFAULT };
        let tight = Gate::new(queue, gate.budget().clone(), gate.pace().clone(), pressure, reserve);
        assert!(matches!(tight.ask(None), Verdict::Later { too_many: false, .. }));
        assert_eq!((gate.delayed(), gate.refused(), tight.shed()), (2, 22, 1));
    }
}
