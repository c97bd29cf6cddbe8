//! A watchdog over the shards' turns: one that takes too long is counted and reported with a backtrace.
//!
//! ```text
//!   shard: since when its turn works, or that it may sleep     watchdog: for longer than the limit? count, ask, report
//! ```
//!
//! The shard pays one plain store per turn and reads no clock for this. The watchdog looks again when the oldest turn at work
//! reaches the limit, and after as long where none works: forty times a second, and never late. Each stall is counted once, however long
//! it lasts; of each shard at most one in [`REPORT_EVERY`] is reported. Durations are as of the report: the turn
//! may go on.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::metrics::ShardMetrics;
use crate::sys::stall::{install, where_is};
use crate::sys::threads::current_thread;

/// A shard's stalls are reported at most this often; the others are only counted.
pub const REPORT_EVERY: Duration = Duration::from_secs(10);

/// A turn that took too long.
#[derive(Clone, Debug)]
pub struct StallReport {
    /// Which shard.
    pub shard: usize,
    /// How long its turn has lasted.
    pub lasted: Duration,
    /// Stalls of this shard since its last report that were not reported.
    pub unreported: u64,
    /// What it was doing, innermost function first. Empty when it did not answer.
    pub frames: Vec<String>,
}

impl fmt::Display for StallReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} stalled: a turn has lasted {} ms", self.shard, self.lasted.as_millis())?;
        if self.unreported > 0 {
            write!(f, " ({} more since the last report)", self.unreported)?;
        }
        if self.frames.is_empty() {
            return f.write_str("; its thread does not answer");
        }
        self.frames.iter().try_for_each(|frame| write!(f, "\n    {frame}"))
    }
}

/// Reports that a [`StallLog`] keeps. Beyond, the oldest are forgotten.
pub const LOG_REPORTS_MAX: usize = 64;

/// The last reports, with when they were made. The watchdog's thread writes, anybody reads.
#[derive(Debug, Default)]
pub struct StallLog(Mutex<VecDeque<(SystemTime, StallReport)>>);

impl StallLog {
    /// Adds a report, made now.
    pub fn add(&self, report: StallReport) {
        let mut reports = self.lock();
        if reports.len() == LOG_REPORTS_MAX {
            reports.pop_front();
        }
        reports.push_back((SystemTime::now(), report));
    }

    /// The reports, oldest first.
    pub fn reports(&self) -> Vec<(SystemTime, StallReport)> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(SystemTime, StallReport)>> {
        // Whole at every moment at which its holder could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One shard's turns as the watchdog sees them.
struct Watched {
    shard: usize,
    thread: i32,
    metrics: Arc<ShardMetrics>,
    /// The beginning of the turn that was counted last, by the shard's clock.
    counted: Option<Duration>,
    reported: Option<Duration>,
    unreported: u64,
}

#[derive(Default)]
struct Shared {
    watched: Mutex<Vec<Watched>>,
    stop: AtomicBool,
}

impl Shared {
    /// How long it is until a turn that works now reaches the limit, and no longer than that.
    fn until_next(&self, now: Duration, limit: Duration) -> Duration {
        let left = |one: &Watched| {
            let since = one.metrics.working_since().filter(|since| one.counted != Some(*since))?;
            // One that has just reached it is looked at without spinning.
            Some((since + limit).saturating_sub(now).max(Duration::from_millis(1)))
        };
        self.watched().iter().filter_map(left).min().unwrap_or(limit).min(limit)
    }

    fn watched(&self) -> MutexGuard<'_, Vec<Watched>> {
        // The list is whole at every moment at which its holder could panic.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The watching thread; ends when dropped.
pub struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Watches for turns longer than `limit` and gives reports to `sink`, on the watchdog's own thread. `clock`: when the
    /// shards' clocks were at zero. `namer`: gives the functions of a stack their names.
    ///
    /// # Errors
    /// When the thread cannot be started, or the signal that asks for backtraces cannot be set up.
    pub fn start(
        limit: Duration,
        clock: Instant,
        namer: Namer,
        sink: impl FnMut(StallReport) + Send + 'static,
    ) -> io::Result<Watchdog> {
        install()?;
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let body = move || watch(&theirs, limit, clock, namer, sink);
        let thread = std::thread::Builder::new().name("watchdog".to_owned()).spawn(body)?;
        Ok(Watchdog { shared, thread: Some(thread) })
    }

    /// Watches the turns of shard `shard`, which runs on the calling thread. Its metrics tell when a turn works.
    pub fn watch_this_thread(&self, shard: usize, metrics: Arc<ShardMetrics>) {
        let thread = current_thread();
        let one = Watched { shard, thread, metrics, counted: None, reported: None, unreported: 0 };
        self.shared.watched().push(one);
    }

    /// Stops watching the calling thread. Call before it ends.
    pub fn forget_this_thread(&self) {
        let thread = current_thread();
        self.shared.watched().retain(|one| one.thread != thread);
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A sink that panicked has ended the watch; there is nothing else to learn.
            let _ended = thread.join();
        }
    }
}

fn watch(shared: &Shared, limit: Duration, clock: Instant, namer: Namer, mut sink: impl FnMut(StallReport)) {
    while !shared.stop.load(Ordering::Acquire) {
        let now = clock.elapsed();
        // The shards are asked while their list is locked, so that none can leave and its number be used again.
        let stalls: Vec<(StallReport, Vec<usize>)> =
            shared.watched().iter_mut().filter_map(|one| one.look(now, limit)).collect();
        for (mut report, addresses) in stalls {
            report.frames = namer(&addresses);
            sink(report);
        }
        std::thread::park_timeout(shared.until_next(clock.elapsed(), limit));
    }
}

impl Watched {
    /// A report with the thread's addresses, when one is due. `now`: by the shards' clocks.
    fn look(&mut self, now: Duration, limit: Duration) -> Option<(StallReport, Vec<usize>)> {
        let since = self.metrics.working_since()?;
        let lasted = now.saturating_sub(since);
        if self.counted == Some(since) || lasted < limit {
            return None;
        }
        self.counted = Some(since);
        self.metrics.stalls.add(1);
        if self.reported.is_some_and(|reported| now - reported < REPORT_EVERY) {
            self.unreported += 1;
            return None;
        }
        self.reported = Some(now);
        let unreported = std::mem::take(&mut self.unreported);
        let addresses = where_is(self.thread).unwrap_or_default();
        Some((StallReport { shard: self.shard, lasted, unreported, frames: Vec::new() }, addresses))
    }
}

/// Gives the functions at the addresses of a stack, innermost first: see [`names`].
pub type Namer = fn(&[usize]) -> Vec<String>;

/// The functions at `addresses` with their lines, inlined ones too, up to where a thread begins. Reads the program's debug
/// information, which for a large program takes a second and a hundred megabytes, most of which stay with the process.
pub fn names(addresses: &[usize]) -> Vec<String> {
    let mut frames = Vec::new();
    for &address in addresses.iter().take_while(|&&address| address != 0) {
        let mut known = false;
        backtrace::resolve(address as *mut std::ffi::c_void, |symbol| {
            known = true;
            frames.push(name(symbol));
        });
        if !known {
            frames.push(format!("{address:#x}"));
        }
    }
    // They are wanted once in a while. They are not given back to the kernel: while that lasts, every shard that allocates
    // waits.
    backtrace::clear_symbol_cache();
    // The standard library's mark; outside of it is what every thread has.
    let end = frames.iter().position(|frame| frame.contains("__rust_begin_short_backtrace"));
    frames.truncate(end.unwrap_or(frames.len()));
    frames
}

fn name(symbol: &backtrace::Symbol) -> String {
    let function = symbol.name().map_or_else(|| "?".to_owned(), |name| format!("{name:#}"));
    match (symbol.filename().and_then(|file| file.file_name()), symbol.lineno()) {
        (Some(file), Some(line)) => format!("{function} ({}:{line})", file.to_string_lossy()),
        _ => function,
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::sync::mpsc;

    const LIMIT: Duration = Duration::from_millis(25);

    #[inline(never)]
    fn counts_sheep_until(mut enough: impl FnMut() -> bool) -> u64 {
        let mut sheep = 0u64;
        while !enough() {
            (0..1000).for_each(|_| sheep = black_box(sheep + 1));
        }
        sheep
    }

    fn counts_sheep_for(time: Duration) {
        let begin = Instant::now();
        assert!(counts_sheep_until(|| begin.elapsed() >= time) > 0);
    }

    #[test]
    fn a_long_turn_is_reported_with_the_function_it_was_in() {
        let (sender, reports) = mpsc::channel();
        let clock = Instant::now();
        let watchdog = Watchdog::start(LIMIT, clock, names, move |report| sender.send(report).unwrap()).unwrap();
        let metrics = Arc::new(ShardMetrics::default());
        watchdog.watch_this_thread(3, metrics.clone());
        metrics.turn_began(clock.elapsed());
        metrics.turn_began(clock.elapsed());
        // However late the watchdog comes to run on a busy machine, it finds this function.
        let begin = Instant::now();
        let mut report = None;
        let _sheep = counts_sheep_until(|| {
            report = reports.try_recv().ok();
            report.is_some() || begin.elapsed() > Duration::from_secs(20)
        });
        metrics.turn_ended();
        watchdog.forget_this_thread();
        let report = report.expect("a report within 20 s");
        assert_eq!((report.shard, report.unreported, metrics.stalls.get()), (3, 0, 1));
        assert!(report.lasted >= LIMIT);
        let text = report.to_string();
        assert!(text.contains("counts_sheep_until") && text.contains("(stall.rs:"), "{text}");
        let own = ["on_signal", "write_down", "restore_rt", "short_backtrace"];
        assert!(!own.iter().any(|own| text.contains(own)), "{text}");
    }

    #[test]
    fn stalls_are_counted_each_and_reported_now_and_then() {
        let (sender, reports) = mpsc::channel();
        let clock = Instant::now();
        let watchdog = Watchdog::start(LIMIT, clock, names, move |report| sender.send(report).unwrap()).unwrap();
        let metrics = Arc::new(ShardMetrics::default());
        watchdog.watch_this_thread(0, metrics.clone());
        // The watchdog itself may be kept from running: wait for what it shall have seen.
        for stalls in 1..=3 {
            metrics.turn_began(clock.elapsed());
            while metrics.stalls.get() < stalls {
                counts_sheep_for(Duration::from_millis(5));
            }
            metrics.turn_ended();
            counts_sheep_for(Duration::from_millis(20));
        }
        drop(watchdog);
        assert_eq!((metrics.stalls.get(), reports.iter().count()), (3, 1));
    }

    #[test]
    fn sleep_and_short_turns_are_no_stalls() {
        let clock = Instant::now();
        let watchdog = Watchdog::start(Duration::from_millis(200), clock, names, |report| panic!("{report}")).unwrap();
        let metrics = Arc::new(ShardMetrics::default());
        watchdog.watch_this_thread(0, metrics.clone());
        metrics.turn_began(clock.elapsed());
        metrics.turn_ended();
        std::thread::sleep(Duration::from_millis(300));
        for _ in 0..300 {
            metrics.turn_began(clock.elapsed());
            counts_sheep_for(Duration::from_millis(1));
        }
        metrics.turn_ended();
        assert_eq!(metrics.stalls.get(), 0);
    }

    #[test]
    fn a_thread_that_is_gone_does_not_answer() {
        install().unwrap();
        let gone = std::thread::spawn(current_thread).join().unwrap();
        assert_eq!(where_is(gone), None);
        assert!(where_is(current_thread()).is_some_and(|addresses| addresses.len() > 3));
    }

    #[test]
    fn a_report_reads_well() {
        let frames = vec!["a (x.rs:1)".to_owned(), "b".to_owned()];
        let mut report = StallReport { shard: 1, lasted: Duration::from_millis(31), unreported: 2, frames };
        let text = "shard 1 stalled: a turn has lasted 31 ms (2 more since the last report)\n    a (x.rs:1)\n    b";
        assert_eq!(report.to_string(), text);
        (report.frames, report.unreported) = (Vec::new(), 0);
        assert_eq!(report.to_string(), "shard 1 stalled: a turn has lasted 31 ms; its thread does not answer");
    }
}
