//! What a server takes while something is done to it: memory at its peak, processor time, descriptors. Twenty looks a second.

use crate::sampler::{self, Sample};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// What was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Used {
    /// Resident bytes at the peak beyond those at the beginning, children included.
    pub growth: u64,
    /// Processor seconds, children included.
    pub cpu_s: f64,
    /// How long that was.
    pub seconds: f64,
    /// Open descriptors at the beginning, and at the peak.
    pub descriptors: (usize, usize),
}

/// Eyes on a process.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Used, String>>,
}

impl Watch {
    /// Begins to look.
    ///
    /// # Errors
    /// A sentence: the process is gone.
    pub fn start(pid: u32) -> Result<Watch, String> {
        let before = Sample::of_tree(pid)?;
        // The kernel's own record sees peaks between two looks; it has none of children.
        sampler::forget_peak(pid)?;
        let (alone, spent) = (Sample::of(pid)?.rss, sampler::spent_s(pid)?);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let began = Instant::now();
            let first = descriptors(pid);
            let mut used = Used { descriptors: (first, first), ..Used::default() };
            loop {
                let last = stopped.load(Ordering::Relaxed);
                let now = Sample::of_tree(pid)?;
                let peak = Sample::of(pid)?.rss_peak;
                let growth = now.rss.saturating_sub(before.rss).max(peak.saturating_sub(alone));
                used.growth = used.growth.max(growth);
                used.descriptors.1 = used.descriptors.1.max(descriptors(pid));
                used.cpu_s = sampler::spent_s(pid)? - spent;
                if last {
                    used.seconds = began.elapsed().as_secs_f64();
                    return Ok(used);
                }
                std::thread::sleep(LOOK);
            }
        });
        Ok(Watch { stop, thread })
    }

    /// Looks once more and tells.
    ///
    /// # Errors
    /// A sentence: the process is gone.
    pub fn end(self) -> Result<Used, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the watching thread has panicked".to_owned())?
    }
}

/// Connections that a server has at its port, those that are only remembered by the kernel not counted.
pub fn connections(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    connections_in(&table, port)
}

fn connections_in(table: &str, port: u16) -> usize {
    let of = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, ..] = words[..] else { return false };
        // Listening is 0A; with 06 the kernel waits for late packets, and no process has it any more.
        local.ends_with(&format!(":{port:04X}")) && !matches!(state, "0A" | "06")
    };
    table.lines().skip(1).filter(of).count()
}

/// Open descriptors of a process; none where it is gone.
fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_takes_meanwhile_is_seen() {
        let watch = Watch::start(std::process::id()).unwrap();
        let held = std::hint::black_box(vec![1u8; 32 << 20]);
        // Twice as many as are asked for: other tests of this process close theirs meanwhile.
        let files: Vec<_> = (0..40).filter_map(|_| std::fs::File::open("/dev/null").ok()).collect();
        std::thread::sleep(3 * LOOK);
        drop((held, files));
        let used = watch.end().unwrap();
        assert!(used.growth >= 30 << 20, "{used:?}");
        assert!(used.descriptors.1 >= used.descriptors.0 + 20, "{used:?}");
    }

    #[test]
    fn connections_are_those_that_a_process_has() {
        let line = |local: &str, state: &str| {
            format!("   0: 0100007F:{local} 0100007F:9999 {state} 00000000:00000000 00:00000000\n")
        };
        let head = "  sl  local_address rem_address   st tx_queue rx_queue\n";
        let table = [
            head,
            &line("1F40", "01"),
            &line("1F40", "08"),
            &line("1F40", "0A"),
            &line("1F40", "06"),
            &line("1F41", "01"),
        ]
        .concat();
        assert_eq!(connections_in(&table, 8000), 2);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(Watch::start(u32::MAX).is_err());
    }
}
