//! Limits that are put on a running process: descriptors, and memory.

use super::finding::Trouble;
use super::service::Way;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
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

/// A control group with a limit of memory. Whoever is in it is killed when the limit is reached.
pub struct Cage {
    folder: PathBuf,
    limit: &'static str,
}

impl Cage {
    /// One with a limit, in either version's hierarchy.
    ///
    /// # Errors
    /// That there is none here in which groups can be made.
    pub fn new(bytes: u64) -> Result<Cage, Trouble> {
        let name = format!("annulus-faults-{}", std::process::id());
        let places = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        for (root, limit) in places {
            let folder = Path::new(root).join(&name);
            if std::fs::create_dir(&folder).is_err() {
                continue;
            }
            let cage = Cage { folder, limit };
            if cage.set(bytes).is_ok() {
                return Ok(cage);
            }
        }
        Err(Trouble::NotRun("no control group of memory can be made here: needs a writable /sys/fs/cgroup".to_owned()))
    }

    fn set(&self, bytes: u64) -> std::io::Result<()> {
        std::fs::write(self.folder.join(self.limit), bytes.to_string())
    }

    /// Another limit.
    ///
    /// # Errors
    /// A sentence.
    pub fn narrow(&self, bytes: u64) -> Result<(), String> {
        self.set(bytes).map_err(|error| format!("the limit of memory cannot be {bytes}: {error}"))
    }

    /// Puts a process, and what it starts from now on, in.
    ///
    /// # Errors
    /// A sentence: it is gone.
    pub fn hold(&self, pid: u32) -> Result<(), String> {
        let file = self.folder.join("cgroup.procs");
        std::fs::write(&file, pid.to_string()).map_err(|error| format!("{}: {error}", file.display()))
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        // Whoever has just been killed in it takes a moment to be gone.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
