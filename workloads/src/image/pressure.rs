//! Whether the machine is short of memory or disk: then new work is shed first, never what runs.
//!
//! Memory is short when tasks stall for it (pressure stall information) or the control group is almost full. A thread
//! looks once a second; shards only read the verdict.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Share of the last ten seconds in which some task waited for memory, in percent; above, new work is shed.
const STALL_PERCENT_MAX: f64 = 20.0;
/// Share of the control group's memory that cannot be reclaimed, in percent; above, new work is shed.
const FULL_PERCENT: u64 = 95;

const CALM: u8 = 0;
const STALLS: u8 = 1;
const FULL: u8 = 2;

/// The latest verdict.
#[derive(Debug)]
pub struct Pressure {
    memory: AtomicU8,
    disk_free: AtomicU64,
}

impl Default for Pressure {
    fn default() -> Pressure {
        Pressure { memory: AtomicU8::new(CALM), disk_free: AtomicU64::new(u64::MAX) }
    }
}

impl Pressure {
    /// Why new work is shed, if it is.
    pub fn why(&self, disk_reserve_bytes: u64) -> Option<String> {
        match self.memory.load(Ordering::Relaxed) {
            STALLS => return Some("The machine is short of memory: its tasks wait for it.".to_owned()),
            FULL => return Some("The memory that this server was granted is almost full.".to_owned()),
            _ => {}
        }
        let free = self.disk_free.load(Ordering::Relaxed);
        (free < disk_reserve_bytes).then(|| {
            let (free, reserve) = (free >> 20, disk_reserve_bytes >> 20);
            format!("The disk has {free} MiB left, and {reserve} MiB are kept free.")
        })
    }

    /// Looks at the machine's memory.
    pub fn look(&self) {
        self.note_memory(&|path| std::fs::read_to_string(path).ok());
    }

    /// Bytes free on the store's disk; `None` where nobody knows.
    pub fn note_disk(&self, free: Option<u64>) {
        self.disk_free.store(free.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn note_memory(&self, read: &dyn Fn(&str) -> Option<String>) {
        let group = group(read);
        let stalls = read(&format!("{group}/memory.pressure")).or_else(|| read("/proc/pressure/memory"));
        let verdict = if stalls.is_some_and(|text| some_avg10(&text) > STALL_PERCENT_MAX) {
            STALLS
        } else if is_full(read, &group) {
            FULL
        } else {
            CALM
        };
        self.memory.store(verdict, Ordering::Relaxed);
    }
}

/// The control group's folder, version 2; in a container its own root.
fn group(read: &dyn Fn(&str) -> Option<String>) -> String {
    let membership = read("/proc/self/cgroup").unwrap_or_default();
    let path = membership.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").trim_end_matches('/');
    let folder = format!("/sys/fs/cgroup{path}");
    match read(&format!("{folder}/memory.current")) {
        Some(_) => folder,
        None => "/sys/fs/cgroup".to_owned(),
    }
}

/// `some avg10=1.23 avg60=…`.
fn some_avg10(text: &str) -> f64 {
    let some = text.lines().find(|line| line.starts_with("some "));
    let number = some.and_then(|line| line.split_once("avg10=")).and_then(|(_, rest)| rest.split(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

/// What can be reclaimed at once (inactive file pages) does not count.
fn is_full(read: &dyn Fn(&str) -> Option<String>, group: &str) -> bool {
    let number = |name: &str| read(&format!("{group}/{name}"))?.trim().parse::<u64>().ok();
    let (Some(current), Some(most)) = (number("memory.current"), number("memory.max")) else { return false };
    let stat = read(&format!("{group}/memory.stat")).unwrap_or_default();
    let inactive = stat.lines().find_map(|line| line.strip_prefix("inactive_file "));
    let inactive: u64 = inactive.and_then(|number| number.trim().parse().ok()).unwrap_or(0);
    u128::from(current.saturating_sub(inactive)) * 100 > u128::from(most) * u128::from(FULL_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Files<'a> = &'a [(&'a str, &'a str)];

    fn verdict(files: Files<'_>) -> Option<String> {
        let pressure = Pressure::default();
        pressure.note_memory(&|path| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned()));
        pressure.why(0)
    }

    #[test]
    fn stalls_and_a_full_group_shed_new_work() {
        assert_eq!(verdict(&[]), None);
        let calm = "some avg10=3.10 avg60=1.00 avg300=0.10 total=1\nfull avg10=90.00 avg60=0.00 avg300=0.00 total=1\n";
        assert_eq!(verdict(&[("/proc/pressure/memory", calm)]), None);
        let stalls =
            "some avg10=33.10 avg60=1.00 avg300=0.10 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n";
        assert!(verdict(&[("/proc/pressure/memory", stalls)]).unwrap().contains("short of memory"));
        let group: Files<'_> = &[
            ("/proc/self/cgroup", "0::/a/b\n"),
            ("/sys/fs/cgroup/a/b/memory.current", "970\n"),
            ("/sys/fs/cgroup/a/b/memory.max", "1000\n"),
            ("/sys/fs/cgroup/a/b/memory.stat", "anon 1\ninactive_file 10\n"),
        ];
        assert!(verdict(group).unwrap().contains("almost full"));
        let reclaimable: Files<'_> = &[
            ("/proc/self/cgroup", "0::/host/path\n"),
            ("/sys/fs/cgroup/memory.current", "970\n"),
            ("/sys/fs/cgroup/memory.max", "1000\n"),
            ("/sys/fs/cgroup/memory.stat", "inactive_file 200\n"),
        ];
        assert_eq!(verdict(reclaimable), None);
        assert_eq!(verdict(&[("/sys/fs/cgroup/memory.current", "5"), ("/sys/fs/cgroup/memory.max", "max\n")]), None);
    }

    #[test]
    fn a_disk_below_its_reserve_sheds_new_work() {
        let pressure = Pressure::default();
        assert_eq!(pressure.why(1 << 30), None);
        pressure.note_disk(Some(100 << 20));
        assert_eq!(pressure.why(1 << 30).unwrap(), "The disk has 100 MiB left, and 1024 MiB are kept free.");
        pressure.look();
    }
}
