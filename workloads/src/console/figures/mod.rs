//! Figures for the page: what all shards count is read once a second, by a thread of its own, and kept as what has been
//! since the second before.
//!
//! ```text
//!   shards' metrics ─► Reading ─► Past: rates, percentiles ─► Board: five minutes, as text ─► /figures?after=N ─► page
//! ```
//!
//! Reading waits for no shard and no shard for it: values are read as `/metrics` reads them. Neither does it cost more with
//! more pages: those are told what is on the board.

mod board;
mod past;
mod reading;

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

pub use board::{Board, POINTS_BYTES_MAX};
pub use past::Past;
pub use reading::{BUDGETS, Reading};

/// How often everything is read.
pub const PERIOD: Duration = Duration::from_secs(1);

/// The thread that reads. It ends with this.
pub struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Has `look` called every [`PERIOD`], at once for the first time.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(mut look: impl FnMut() + Send + 'static) -> io::Result<Watch> {
        let (stop, stopped) = mpsc::channel();
        let body = move || {
            loop {
                // What was missed, as by a process that was held up, is not made up for: a look that follows at once would
                // tell of no time at all, and its rates nothing.
                let due = Instant::now() + PERIOD;
                look();
                let pause = due.saturating_duration_since(Instant::now());
                if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("figures".to_owned()).spawn(body)?;
        Ok(Watch { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Err(_panic)) = self.thread.take().map(JoinHandle::join) {
            crate::say!("console   the figures ended by a panic");
        }
    }
}

/// Milliseconds of the Unix clock.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// Bytes of memory that this process has, its resident set; `None` where the kernel does not tell.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// What has a budget, as the document tells it: those that have one, and what they have of it.
pub fn budgets(reading: &Reading) -> Vec<Value> {
    let told = BUDGETS.iter().zip(reading.budgets).filter(|(_, (_, budget))| *budget > 0);
    told.map(|((name, ..), (used, budget))| serde_json::json!({ "name": name, "used": used, "budget": budget }))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn the_thread_looks_at_once_and_ends_with_what_holds_it() {
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = looks.clone();
        let look = move || {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        let watch = Watch::start(look).unwrap();
        while looks.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        drop(watch);
        assert_eq!(Arc::strong_count(&looks), 1, "the thread has ended");
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_bytes().unwrap() > 1 << 20);
    }
}
