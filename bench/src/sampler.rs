//! What the kernel says a server used: processor time, memory, context switches.
//!
//! Processor time comes in ticks of 10 ms, so a measured stretch should last a second or more.

use std::fs;

/// Ticks of processor time per second in `/proc` (fixed by the kernel's interface on Linux).
const TICKS_PER_SECOND: f64 = 100.0;

/// One reading.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Processor seconds in the program itself.
    pub user_s: f64,
    /// Processor seconds in the kernel on its behalf.
    pub system_s: f64,
    /// Proportional set size, in bytes.
    pub pss: u64,
    /// Resident set size, in bytes.
    pub rss: u64,
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
        let (user_s, system_s) = times(&read(format!("/proc/{pid}/stat"))?).ok_or("unexpected /proc/PID/stat")?;
        let rollup = read(format!("/proc/{pid}/smaps_rollup"))?;
        let meminfo = read("/proc/meminfo".to_owned())?;
        let mut switches = 0;
        for task in fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| error.to_string())?.flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            switches += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            switches += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
        Ok(Sample {
            user_s,
            system_s,
            pss: field(&rollup, "Pss:").unwrap_or(0) * 1024,
            rss: field(&rollup, "Rss:").unwrap_or(0) * 1024,
            switches,
            slab: field(&meminfo, "Slab:").unwrap_or(0) * 1024,
        })
    }

    /// Processor seconds in all.
    pub fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }
}

/// User and system seconds out of `/proc/PID/stat`. The name in parentheses may itself hold spaces and parentheses.
fn times(stat: &str) -> Option<(f64, f64)> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let user: f64 = fields.nth(11)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user / TICKS_PER_SECOND, system / TICKS_PER_SECOND))
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
    fn times_are_found_behind_an_awkward_name() {
        let stat = "42 (a) b) (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 125 0 0 20 0 1 0 99 1000 10";
        assert_eq!(times(stat), Some((2.5, 1.25)));
        assert_eq!(times("42 (a) S 1"), None);
        assert_eq!(times(""), None);
    }

    #[test]
    fn fields_are_matched_at_the_start_of_a_line() {
        let text = "Pss_Anon: 9 kB\nPss:      1234 kB\nnonvoluntary_ctxt_switches:\t5\nvoluntary_ctxt_switches:\t7\n";
        assert_eq!(field(text, "Pss:"), Some(1234));
        assert_eq!(field(text, "voluntary_ctxt_switches:"), Some(7));
        assert_eq!(field(text, "Rss:"), None);
    }

    #[test]
    fn a_living_process_has_memory_and_switches() {
        let sample = Sample::of(std::process::id()).unwrap();
        assert!(sample.rss > 100_000 && sample.pss > 0, "{sample:?}");
    }
}
