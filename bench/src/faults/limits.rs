//! Limits that are put on a running process: descriptors, and memory.

use super::finding::{Findings, Trouble};
use super::service::Way;
use crate::ground;
use crate::janitor::{self, GROUPS, Left};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::fs::OpenOptions;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A limit below whatever number is free: only the standard streams have smaller ones.
pub const NO_MORE: u64 = 3;

/// Lets a process open no descriptor beyond `most`; what was allowed before.
///
/// # Errors
/// That it is not allowed here.
pub fn descriptors(pid: u32, most: Option<u64>) -> Result<Option<u64>, Trouble> {
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let now = std::fs::read_to_string(format!("/proc/{pid}/limits")).map_err(|error| format!("it is gone: {error}"))?;
    let line = now.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or_default();
    // The hard limit stays: only root may raise it again.
    let hard = line.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    let before = prlimit(target, Resource::Nofile, Rlimit { current: most, maximum: hard });
    let before = before.map_err(|error| Trouble::NotRun(format!("the limit cannot be set: prlimit: {error}")))?;
    Ok(before.current)
}

/// Descriptors of a process that is soon crowded, and connections of the crowd.
pub const FEW: usize = 128;
/// See [`FEW`].
pub const CROWD: usize = 400;

/// How a process is started that may have few descriptors. From the start, because what an io_uring accepts goes by the limit of
/// when it began to.
pub fn few_descriptors() -> Way {
    let before = ["prlimit".to_owned(), format!("--nofile={FEW}:{FEW}")].map(Into::into).to_vec();
    Way { before, ..Way::default() }
}

/// Connects more often than such a process has descriptors, and holds on for a while. How many of them were closed meanwhile.
pub fn crowd(address: SocketAddr, holds: Duration) -> usize {
    let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok();
    let crowd: Vec<TcpStream> = (0..CROWD).filter_map(connect).collect();
    std::thread::sleep(holds);
    let is_closed = |stream: &&TcpStream| {
        let waits = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
        !matches!(waits, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    };
    crowd.iter().filter(is_closed).count() + (CROWD - crowd.len())
}

/// What a version of control groups calls what we need.
struct Version {
    /// The limit of memory, in bytes.
    limit: &'static str,
    /// That of swap or of both together, which would make room beyond the first one; and whether it counts both.
    swap: (&'static str, bool),
    /// What is in use that cannot be given back: a line of `memory.stat`.
    held: &'static str,
    /// How often a limit was reached, and somebody killed for it: files, and names in them where they have several.
    reached: [(&'static str, &'static str); 2],
}

/// Of the first version, whose count of limits that were reached stands still on newer kernels: the most that was in use since
/// zero was written to it. What is taken in one piece is charged in advance, so it stays a little below the limit.
const PEAK: &str = "memory.max_usage_in_bytes";
const NEAR_BYTES: u64 = 1 << 20;
/// What the kernel may hold for the processes of a cage, in MiB.
const KERNEL_MB_MOST: u64 = 64;

/// By the places in [`GROUPS`].
const VERSIONS: [Version; 2] = [
    Version {
        limit: "memory.limit_in_bytes",
        swap: ("memory.memsw.limit_in_bytes", true),
        held: "rss ",
        reached: [("memory.failcnt", ""), ("memory.oom_control", "oom_kill ")],
    },
    Version {
        limit: "memory.max",
        swap: ("memory.swap.max", false),
        held: "anon ",
        reached: [("memory.events", "max "), ("memory.events", "oom_kill ")],
    },
];

/// A control group with a limit of memory. Whoever is in it is killed when the limit is reached.
pub struct Cage {
    folder: PathBuf,
    version: &'static Version,
}

impl Cage {
    /// One with a limit, in either version's hierarchy.
    ///
    /// # Errors
    /// That there is none here in which groups can be made, and why.
    pub fn new(bytes: u64) -> Result<Cage, Trouble> {
        let mut why = Vec::new();
        for (root, version) in GROUPS.iter().zip(&VERSIONS) {
            match Cage::within(Path::new(root), version, bytes) {
                Ok(cage) => return Ok(cage),
                Err(error) => why.push(error),
            }
        }
        Err(Trouble::NotRun(format!("no control group of memory can be made here: {}", why.join("; "))))
    }

    fn within(root: &Path, version: &'static Version, bytes: u64) -> Result<Cage, String> {
        let folder = root.join(ground::name("cage"));
        janitor::note(&Left::Group(folder.clone()));
        std::fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let cage = Cage { folder, version };
        cage.narrow(bytes)?;
        Ok(cage)
    }

    /// Writes to one of the kernel's files. Where the kernel has none, none is made: what stands there would limit nobody.
    fn set(&self, file: &str, value: u64) -> Result<(), String> {
        let file = self.folder.join(file);
        let written = OpenOptions::new().write(true).open(&file).and_then(|mut open| write!(open, "{value}"));
        written.map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Another limit.
    ///
    /// # Errors
    /// A sentence.
    pub fn narrow(&self, bytes: u64) -> Result<(), String> {
        let (swap, counts_both) = self.version.swap;
        let limited = self.set(self.version.limit, bytes);
        if self.has(swap) {
            self.set(swap, if counts_both { bytes } else { 0 })?;
        }
        if self.has(PEAK) {
            self.set(PEAK, 0)?;
        }
        // A limit of both together must not be below that of memory alone: a narrower one had to follow, a wider one to go ahead.
        limited.or_else(|_| self.set(self.version.limit, bytes))
    }

    fn has(&self, file: &str) -> bool {
        self.folder.join(file).exists()
    }

    /// Whether the limit was reached by somebody, and which limits could not be set.
    pub fn felt(&self) -> Findings {
        let [reached, killed] = self.version.reached.map(|(file, name)| self.figure(file, name).unwrap_or(0));
        let (peak, limit) = (self.figure(PEAK, ""), self.figure(self.version.limit, ""));
        let is_near = peak.zip(limit).is_some_and(|(peak, limit)| peak + NEAR_BYTES >= limit);
        let mut findings = Findings::new();
        let peak = peak.map_or(String::new(), |peak| format!(", {:.1} MB at the peak", peak as f64 / 1e6));
        let observed = format!("{reached} times, {killed} killed for it{peak}");
        findings.felt("the limit was reached", is_near || reached + killed > 0, observed);
        if !self.has(self.version.swap.0) {
            findings.told("limits that could not be set", format!("{}: the kernel has none", self.version.swap.0));
        }
        findings
    }

    fn figure(&self, file: &str, name: &str) -> Option<u64> {
        let text = std::fs::read_to_string(self.folder.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// A limit that leaves those who are in hardly more than what they hold; how much it is.
    ///
    /// # Errors
    /// As [`Cage::narrow`].
    pub fn close(&self) -> Result<u64, String> {
        let held = self.figure("memory.stat", self.version.held).ok_or("the kernel does not say what is in use")?;
        // The kernel's own memory for them counts, too, and the first version refuses a limit below what cannot be given back.
        let tries = (1..=KERNEL_MB_MOST).map(|megabytes| held + (megabytes << 20));
        let mut why = String::new();
        for bytes in tries {
            match self.narrow(bytes) {
                Ok(()) => return Ok(bytes),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// How a process is started in it, so that all it has counts.
    pub fn way(&self) -> Way {
        let script = format!("echo $$ >'{}' && exec \"$@\"", self.folder.join("cgroup.procs").display());
        let before = ["sh", "-c", &script, "sh"].map(Into::into).to_vec();
        Way { before, ..Way::default() }
    }

    /// Puts a process, and what it starts from now on, in.
    ///
    /// # Errors
    /// A sentence: it is gone.
    pub fn hold(&self, pid: u32) -> Result<(), String> {
        self.set("cgroup.procs", pid.into())
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        // Whoever has just been killed in it takes a moment to be gone.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_no_control_group_limits_nobody() {
        let root = ground::Ground::new("no-groups").unwrap();
        for version in &VERSIONS {
            let cage = Cage::within(&root.folder, version, 1 << 20);
            let why = cage.err().unwrap();
            assert!(why.contains(version.limit), "{why}");
            assert_eq!(std::fs::read_dir(&root.folder).unwrap().count(), 0, "nothing was made, and nothing stays");
        }
    }
}
