//! What the kernel says a server used: processor time, memory, context switches.
//!
//! Processor time is the scheduler's own account of each living thread, in nanoseconds.

use std::fs;

/// What Linux counts processor time in towards programs, whatever the kernel's own tick (USER_HZ).
const TICKS_PER_S: f64 = 100.0;

/// One reading.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Processor seconds, in the program and in the kernel on its behalf.
    pub cpu_s: f64,
    /// Proportional set size, in bytes.
    pub pss: u64,
    /// Resident set size, in bytes.
    pub rss: u64,
    /// The largest resident set size so far, in bytes.
    pub rss_peak: u64,
    /// Context switches of all threads, asked for and not.
    pub switches: u64,
    /// Kernel slab memory of the whole machine, in bytes.
    pub slab: u64,
}

impl Sample {
    /// Reads a process's accounts.
    ///
    /// # Errors
    /// When the process is gone or its files do not read as expected.
    pub fn of(pid: u32) -> Result<Sample, String> {
        let read = |name: String| fs::read_to_string(&name).map_err(|error| format!("cannot read {name}: {error}"));
        let rollup = read(format!("/proc/{pid}/smaps_rollup"))?;
        let meminfo = read("/proc/meminfo".to_owned())?;
        let status = read(format!("/proc/{pid}/status"))?;
        let (mut switches, mut cpu_ns) = (0, 0);
        for task in fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| error.to_string())?.flatten() {
            // A thread that has just ended has neither file.
            let schedule = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            cpu_ns += ran_ns(&schedule).unwrap_or(0);
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            switches += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            switches += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
        Ok(Sample {
            cpu_s: cpu_ns as f64 / 1e9,
            pss: field(&rollup, "Pss:").unwrap_or(0) * 1024,
            rss: field(&rollup, "Rss:").unwrap_or(0) * 1024,
            rss_peak: field(&status, "VmHWM:").unwrap_or(0) * 1024,
            switches,
            slab: field(&meminfo, "Slab:").unwrap_or(0) * 1024,
        })
    }
}

impl Sample {
    /// The sum over a process and all its living descendants.
    ///
    /// # Errors
    /// As [`Sample::of`].
    pub fn of_tree(pid: u32) -> Result<Sample, String> {
        let mut sum = Sample::of(pid)?;
        for child in children(pid) {
            // One that has just ended is told by nobody.
            let Ok(child) = Sample::of_tree(child) else { continue };
            sum.cpu_s += child.cpu_s;
            sum.pss += child.pss;
            sum.rss += child.rss;
            sum.rss_peak += child.rss_peak;
            sum.switches += child.switches;
        }
        Ok(sum)
    }
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = tasks.flatten().map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Processor seconds of a process, its threads that have ended included, and of its descendants, to a hundredth.
///
/// # Errors
/// When the process is gone.
pub fn spent_s(pid: u32) -> Result<f64, String> {
    let name = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&name).map_err(|error| format!("cannot read {name}: {error}"))?;
    let own = ticks(&stat).ok_or_else(|| format!("{name} does not read as expected"))? as f64 / TICKS_PER_S;
    // One that has just ended is in its parent's account.
    Ok(own + children(pid).into_iter().filter_map(|child| spent_s(child).ok()).sum::<f64>())
}

/// Ticks in the program and in the kernel, its own and those of children that were waited for, out of a `stat`.
fn ticks(stat: &str) -> Option<u64> {
    // The program's name may hold anything, and ends with the last bracket; utime is the twelfth word behind it.
    let words = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11).take(4);
    words.map(|word| word.parse::<u64>().ok()).sum()
}

/// Lets a process's largest resident set size begin anew at what it is now.
///
/// # Errors
/// When the process is gone, or is somebody else's.
pub fn forget_peak(pid: u32) -> Result<(), String> {
    let name = format!("/proc/{pid}/clear_refs");
    fs::write(&name, "5").map_err(|error| format!("cannot write {name}: {error}"))
}

/// Nanoseconds that a thread has run, out of its `schedstat`.
fn ran_ns(schedule: &str) -> Option<u64> {
    schedule.split_ascii_whitespace().next()?.parse().ok()
}

/// The number behind a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_time_comes_first() {
        assert_eq!(ran_ns("1234567 89 10\n"), Some(1_234_567));
        assert_eq!(ran_ns(""), None);
    }

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "17 (a) b) S 1 17 17 0 -1 4194560 100 200 0 0 7 5 2 1 20 0 1 0 12345 1000 100";
        assert_eq!(ticks(stat), Some(15));
        assert!(spent_s(std::process::id()).unwrap() >= 0.0 && spent_s(u32::MAX).is_err());
    }

    #[test]
    fn fields_are_matched_at_the_start_of_a_line() {
        let text = "Pss_Anon: 9 kB\nPss:      1234 kB\nnonvoluntary_ctxt_switches:\t5\nvoluntary_ctxt_switches:\t7\n";
        assert_eq!(field(text, "Pss:"), Some(1234));
        assert_eq!(field(text, "voluntary_ctxt_switches:"), Some(7));
        assert_eq!(field(text, "Rss:"), None);
    }

    #[test]
    fn a_peak_can_be_forgotten() {
        // Looked at by nobody, it would not be made at all in an optimised build.
        let large = std::hint::black_box(vec![1u8; 64 << 20]);
        let before = Sample::of(std::process::id()).unwrap().rss_peak;
        assert!(before >= large.len() as u64);
        drop(large);
        forget_peak(std::process::id()).unwrap();
        let after = Sample::of(std::process::id()).unwrap().rss_peak;
        assert!(after < before, "{before} {after}");
    }

    #[test]
    fn a_living_process_has_memory_and_switches() {
        let sample = Sample::of(std::process::id()).unwrap();
        assert!(sample.rss > 100_000 && sample.pss > 0 && sample.cpu_s > 0.0, "{sample:?}");
    }
}
