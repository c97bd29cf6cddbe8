//! Watches a server beside its load: the kernel's accounts of its processes, ten times a second.
//!
//! Processor time is the scheduler's own account of each thread, in nanoseconds; how much of it was spent in the kernel
//! is known in ticks only, and split off in their proportion. Threads and processes that end keep what they had.

use crate::record::Usage;
use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Between two readings.
const READ_EVERY: Duration = Duration::from_millis(100);
/// Between two readings of what is dear to read: shared memory, and the machine's slab.
const READ_DEAR_EVERY: u32 = 10;
/// Sleeps at most so long, so as to hear that it should stop.
const NAP: Duration = Duration::from_millis(20);

/// Longer than anything is watched, in seconds.
const FOREVER_S: f64 = 1e6;

/// The accounts of some processes and all their descendants.
#[derive(Debug, Default)]
pub struct Observer {
    roots: Vec<u32>,
    /// By thread: nanoseconds run, switches asked for, switches forced.
    threads: HashMap<u32, (u64, u64, u64)>,
    /// By process: ticks in the program and in the kernel.
    ticks: HashMap<u32, (u64, u64)>,
    ran_ns: u64,
    ticked: (u64, u64),
    now: Usage,
    readings: u32,
}

impl Observer {
    /// Of these processes.
    pub fn new(roots: Vec<u32>) -> Observer {
        Observer { roots, ..Observer::default() }
    }

    /// Reads; none when all of them are gone.
    pub fn read(&mut self, at_s: f64) -> Option<Usage> {
        let mut living = Vec::new();
        self.roots.iter().filter(|&&root| is_alive(root)).for_each(|&root| tree(root, &mut living));
        if living.is_empty() {
            return None;
        }
        living.sort_unstable();
        living.dedup();
        let is_dear = self.readings.is_multiple_of(READ_DEAR_EVERY);
        self.readings += 1;
        let (mut rss, mut pss) = (0, 0);
        for &pid in &living {
            rss += self.read_process(pid);
            if is_dear {
                // Of somebody else's process only its owner may see this.
                let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
                pss += field(&rollup, "Pss:").unwrap_or(0) * 1024;
            }
        }
        self.account();
        self.now.at_s = at_s;
        self.now.rss = rss;
        if is_dear {
            let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
            self.now.pss = pss;
            self.now.slab = field(&meminfo, "Slab:").unwrap_or(0) * 1024;
        }
        Some(self.now)
    }

    /// Notes a process's accounts; its resident bytes.
    fn read_process(&mut self, pid: u32) -> u64 {
        if let Some(ticks) = ticks_of(pid) {
            self.ticks.insert(pid, ticks);
        }
        let mut rss = 0;
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let Some(thread) = task.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // A thread that has just ended has neither file, and keeps what was read before.
            let Ok(schedule) = fs::read_to_string(task.path().join("schedstat")) else { continue };
            let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
            let ran = schedule.split_ascii_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
            let voluntary = field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            let forced = field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
            rss = field(&status, "VmRSS:").unwrap_or(0) * 1024;
            self.threads.insert(thread, (ran, voluntary, forced));
        }
        rss
    }

    /// Adds up, and splits what is new.
    fn account(&mut self) {
        let (mut ran_ns, mut voluntary, mut involuntary) = (0, 0, 0);
        for (ran, asked, forced) in self.threads.values() {
            ran_ns += ran;
            voluntary += asked;
            involuntary += forced;
        }
        let ticked = self.ticks.values().fold((0, 0), |sum, ticks| (sum.0 + ticks.0, sum.1 + ticks.1));
        let new_ns = ran_ns.saturating_sub(self.ran_ns) as f64 / 1e9;
        let mut new = (ticked.0.saturating_sub(self.ticked.0) as f64, ticked.1.saturating_sub(self.ticked.1) as f64);
        if new.0 + new.1 == 0.0 {
            // Not a tick since the last reading: as it was until now.
            new = (ticked.0 as f64, ticked.1 as f64);
        }
        let share = if new.0 + new.1 > 0.0 { new.0 / (new.0 + new.1) } else { 1.0 };
        self.now.user_s += new_ns * share;
        self.now.system_s += new_ns * (1.0 - share);
        self.now.voluntary = voluntary;
        self.now.involuntary = involuntary;
        (self.ran_ns, self.ticked) = (ran_ns, ticked);
    }
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Watched {
    /// The readings.
    pub usage: Vec<Usage>,
    /// A sentence, when the server was gone.
    pub gone: Option<String>,
}

/// Reads from `from` to `until`, both in seconds since `start`, or until told to stop.
pub fn watch(roots: &[u32], start: Instant, from: f64, until: f64, stop: &AtomicBool) -> Watched {
    let mut observer = Observer::new(roots.to_vec());
    let mut watched = Watched::default();
    let mut next = start + Duration::from_secs_f64(from);
    let end = start + Duration::from_secs_f64(until);
    loop {
        while let Some(left) = next.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if stop.load(Ordering::Relaxed) {
                return watched;
            }
            std::thread::sleep(left.min(NAP));
        }
        let at_s = start.elapsed().as_secs_f64();
        match observer.read(at_s) {
            Some(usage) => watched.usage.push(usage),
            None => {
                watched.gone = Some(farewell(roots, at_s));
                return watched;
            }
        }
        if next >= end {
            return watched;
        }
        next = (next + READ_EVERY).min(end);
    }
}

/// Watches processes while something runs, from its beginning to its end.
pub fn beside<T>(roots: &[u32], run: impl FnOnce() -> T) -> (T, Watched) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(roots, Instant::now(), 0.0, FOREVER_S, &stop));
        let value = run();
        stop.store(true, Ordering::Relaxed);
        (value, watching.join().unwrap_or_default())
    })
}

fn farewell(roots: &[u32], at_s: f64) -> String {
    let list = roots.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let how = roots.iter().find_map(|&pid| exit_of(pid)).unwrap_or_else(|| {
        "nobody but its parent knows how: look at its log, and at dmesg for the kernel's out-of-memory killer"
            .to_owned()
    });
    format!("the server (process {list}) ended {at_s:.1} s into the round: {how}")
}

/// How a process ended that its parent has not asked about yet.
fn exit_of(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc(5): the state is the third field, the exit code the last, as waitpid tells it.
    let status: i32 = stat.split_ascii_whitespace().next_back()?.parse().ok()?;
    Some(match status & 0x7f {
        0 => format!("it exited with {}", status >> 8 & 0xff),
        signal => format!("signal {signal} killed it"),
    })
}

/// Whether a process runs, and is not merely remembered.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = after_name(&stat).and_then(|rest| rest.split_ascii_whitespace().next());
    !matches!(state, None | Some("Z" | "X"))
}

/// A process and its descendants.
pub fn tree(pid: u32, all: &mut Vec<u32>) {
    all.push(pid);
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.split_ascii_whitespace().filter_map(|child| child.parse().ok()).for_each(|child| tree(child, all));
    }
}

/// What follows the name in a `stat`, which may have blanks in it.
fn after_name(stat: &str) -> Option<&str> {
    stat.rsplit_once(") ").map(|(_, rest)| rest)
}

/// When a process started, in ticks since the machine did: with its number, that is a process's name for good.
pub fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc(5): field 22; the state, field 3, is the first here.
    after_name(&stat)?.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn ticks_of(pid: u32) -> Option<(u64, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = after_name(&stat)?.split_ascii_whitespace();
    // proc(5): utime and stime are fields 14 and 15; the state, field 3, is the first here.
    let user = fields.nth(11)?.parse().ok()?;
    Some((user, fields.next()?.parse().ok()?))
}

/// The number behind a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_busy_process_is_seen_to_be_busy() {
        let mut observer = Observer::new(vec![std::process::id()]);
        let first = observer.read(0.0).unwrap();
        let since = Instant::now();
        let mut number = 1u64;
        while since.elapsed() < Duration::from_millis(200) {
            number = std::hint::black_box(number.wrapping_mul(3));
        }
        let last = observer.read(0.2).unwrap();
        let ran = last.user_s + last.system_s - first.user_s - first.system_s;
        assert!(ran > 0.02, "{first:?} {last:?}");
        assert!(last.rss > 100_000 && last.pss > 0 && last.slab > 0, "{last:?}");
    }

    #[test]
    fn descendants_belong_to_it_and_keep_their_time() {
        let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep 30";
        let mut parent = Command::new("sh").args(["-c", &format!("sh -c '{script}'; true")]).spawn().unwrap();
        let mut observer = Observer::new(vec![parent.id()]);
        let since = Instant::now();
        let mut all = Vec::new();
        while all.len() < 3 && since.elapsed() < Duration::from_secs(20) {
            all.clear();
            tree(parent.id(), &mut all);
            std::thread::sleep(Duration::from_millis(10));
        }
        let usage = observer.read(1.0).unwrap();
        assert!(usage.user_s + usage.system_s > 0.001, "{all:?} {usage:?}");
        for pid in all.iter().rev() {
            let _may_be_gone = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
        }
        parent.wait().unwrap();
        assert_eq!(observer.read(2.0), None);
    }

    #[test]
    fn a_process_that_ends_is_told_with_its_exit() {
        let mut child = Command::new("sh").args(["-c", "sleep 0.3; exit 3"]).spawn().unwrap();
        let stop = AtomicBool::new(false);
        let watched = watch(&[child.id()], Instant::now(), 0.0, 30.0, &stop);
        let gone = watched.gone.unwrap();
        assert!(gone.contains("exited with 3"), "{gone}");
        assert!(!watched.usage.is_empty());
        child.wait().unwrap();
    }

    #[test]
    fn watching_stops_when_told_and_at_its_end() {
        let own = [std::process::id()];
        let stop = AtomicBool::new(false);
        let watched = watch(&own, Instant::now(), 0.0, 0.25, &stop);
        assert!(watched.usage.len() == 4 && watched.usage[3].at_s >= 0.25, "{:?}", watched.usage);
        stop.store(true, Ordering::Relaxed);
        assert!(watch(&own, Instant::now(), 5.0, 9.0, &stop).usage.is_empty());
    }
}
