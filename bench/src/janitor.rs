//! Who clears away what a run leaves when it is ended in the middle, however that happens.
//!
//! ```text
//!   run ──starts──► janitor, a process of its own                run ends (or SIGTERM, SIGINT, SIGKILL)
//!    │                 ▲                                            │
//!    └── notes, a line each: a process, a folder, a mount ..        └── the pipe ends ──► it undoes what is still there
//! ```
//!
//! A run that ends by itself has undone everything, and nothing is left to do. One that is killed cannot undo anything, so the
//! janitor takes no signal to notice: it reads a pipe, whose end the kernel closes with whoever holds it. It is in a process
//! group of its own, which Ctrl-C does not reach. Where the janitor was killed too, the next run finds what is left by its name
//! ([`sweep`]).

use crate::ground::PREFIX;
use crate::observe::{is_alive, started, tree};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Its word on the command line.
pub const COMMAND: &str = "janitor";
/// How long those who are killed have to be gone.
const GONE_MAX: Duration = Duration::from_secs(5);
/// Programs that a run starts, as the kernel calls them. Whoever else looks into what is left is let be.
const SERVERS: [&str; 4] = ["annulus", "redis-server", "postgres", "s3s-fs"];
/// Where groups of memory are made, in either version's hierarchy.
pub const GROUPS: [&str; 2] = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"];
/// Where networks with a name are.
const NETWORKS: &str = "/run/netns";

/// The pipe to it; none in tests, and where it could not be started.
static NOTES: OnceLock<Mutex<ChildStdin>> = OnceLock::new();

/// Something that a run has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// A process, and when it started, in ticks since the machine did: another one may have its number later.
    Process(u32, u64),
    /// A folder with all that is in it.
    Folder(PathBuf),
    /// A file.
    File(PathBuf),
    /// Where something is mounted.
    Mount(PathBuf),
    /// A network with a name.
    Network(String),
    /// A network's link.
    Link(String),
    /// A control group.
    Group(PathBuf),
}

impl Left {
    fn line(&self) -> String {
        match self {
            Left::Process(pid, started) => format!("process {pid} {started}\n"),
            Left::Folder(path) => format!("folder {}\n", path.display()),
            Left::File(path) => format!("file {}\n", path.display()),
            Left::Mount(path) => format!("mount {}\n", path.display()),
            Left::Network(name) => format!("network {name}\n"),
            Left::Link(name) => format!("link {name}\n"),
            Left::Group(path) => format!("group {}\n", path.display()),
        }
    }

    fn read(line: &str) -> Option<Left> {
        let (what, rest) = line.split_once(' ')?;
        Some(match what {
            "process" => {
                let (pid, started) = rest.split_once(' ')?;
                Left::Process(pid.parse().ok()?, started.parse().ok()?)
            }
            "folder" => Left::Folder(rest.into()),
            "file" => Left::File(rest.into()),
            "mount" => Left::Mount(rest.into()),
            "network" => Left::Network(rest.into()),
            "link" => Left::Link(rest.into()),
            "group" => Left::Group(rest.into()),
            _ => return None,
        })
    }

    /// Undoes it, if it is still there. Whoever runs in it has ended.
    fn undo(&self) {
        let _nothing_more_can_be_done = match self {
            Left::Process(..) => Ok(()),
            Left::Folder(path) => std::fs::remove_dir_all(path),
            Left::File(path) => std::fs::remove_file(path),
            // Lazily: somebody else may look into it.
            Left::Mount(path) => run(Command::new("umount").arg("-l").arg(path)),
            Left::Network(name) => run(Command::new("ip").args(["netns", "delete", name])),
            Left::Link(name) => run(Command::new("ip").args(["link", "delete", name])),
            Left::Group(path) => std::fs::remove_dir(path),
        };
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().map(drop)
}

/// Clears away what an earlier run has left, and starts a janitor for this one.
///
/// # Errors
/// A sentence: it cannot be started.
pub fn hire() -> Result<(), String> {
    sweep();
    let program = std::env::current_exe().map_err(|error| format!("this program cannot find itself: {error}"))?;
    let mut command = Command::new(program);
    command.arg(COMMAND).process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("no janitor can be started: {error}"))?;
    if let Some(pipe) = child.stdin.take() {
        let _there_is_one_already = NOTES.set(Mutex::new(pipe));
    }
    Ok(())
}

/// Lets the janitor know of something that was made, or is about to be.
pub fn note(left: &Left) {
    if let Some(notes) = NOTES.get() {
        let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
        let _then_there_is_no_janitor = notes.write_all(left.line().as_bytes());
    }
}

/// Starts a process, of which the janitor is told.
///
/// # Errors
/// As [`Command::spawn`].
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let child = command.spawn()?;
    if let Some(started) = started(child.id()) {
        note(&Left::Process(child.id(), started));
    }
    Ok(child)
}

/// The janitor's work: waits until the run has ended, and undoes what is left.
pub fn work(notes: impl BufRead) {
    let left: Vec<Left> = notes.lines().map_while(Result::ok).filter_map(|line| Left::read(&line)).collect();
    undo(&left);
}

/// All processes first: folders and mounts are theirs. Then the rest, the newest first.
fn undo(left: &[Left]) {
    let mut all = Vec::new();
    for one in left {
        match one {
            Left::Process(pid, began) if started(*pid) == Some(*began) => tree(*pid, &mut all),
            _ => {}
        }
    }
    end(&all);
    left.iter().rev().for_each(Left::undo);
}

/// Kills a process with all its descendants, and waits until they are gone.
pub fn end_tree(pid: u32) {
    let mut all = Vec::new();
    tree(pid, &mut all);
    end(&all);
}

/// Kills processes, but for other runs' janitors, which end by themselves, and waits until they are gone.
fn end(all: &[u32]) {
    let all: Vec<u32> = all.iter().copied().filter(|pid| !is_janitor(*pid)).collect();
    for pid in all.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
        let _already_gone = kill_process(pid, Signal::KILL);
    }
    let began = Instant::now();
    while all.iter().any(|pid| is_alive(*pid)) && began.elapsed() < GONE_MAX {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn words(pid: u32) -> Vec<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn is_janitor(pid: u32) -> bool {
    words(pid).get(1).is_some_and(|word| word == COMMAND)
}

/// Undoes what runs have left that are no more, by the names of what they made. Where another process has a run's number by now,
/// that has to wait: nothing of a run that lives is touched.
pub fn sweep() {
    let temporary = std::env::temp_dir();
    let groups = GROUPS.iter().flat_map(|root| names(Path::new(root))).map(Left::Group);
    let networks = names(Path::new(NETWORKS)).into_iter();
    let networks = networks.filter_map(|path| Some(Left::Network(path.file_name()?.to_str()?.to_owned())));
    let mut left: Vec<Left> = groups.chain(networks).collect();
    for path in names(&temporary) {
        left.extend(processes_of(&path));
        left.push(if path.is_dir() { Left::Folder(path.clone()) } else { Left::File(path.clone()) });
        left.extend(mounts_below(&path).into_iter().map(Left::Mount));
    }
    undo(&left);
}

/// What is in a folder and is named by a run that is no more.
fn names(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_left = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(run_of).is_some_and(|pid| !is_alive(pid))
    };
    entries.map(|entry| entry.path()).filter(is_left).collect()
}

/// Whose a name is: the process's number after the prefix. Something follows it: else the name would begin another run's, too.
fn run_of(name: &str) -> Option<u32> {
    let (pid, _what) = name.strip_prefix(PREFIX)?.split_once('-')?;
    pid.parse().ok()
}

fn name_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Servers that were started with a path in their words, or work in it: Redis writes others over the words it was started with.
fn processes_of(path: &Path) -> Vec<Left> {
    let text = path.to_string_lossy().into_owned();
    let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let names_it = |pid: u32| words(pid).iter().any(|word| word.contains(&text));
    let works_in_it =
        |pid: u32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&place));
    let of_path = |pid: &u32| SERVERS.contains(&name_of(*pid).as_str()) && (names_it(*pid) || works_in_it(*pid));
    pids.filter(of_path).filter_map(|pid| Some(Left::Process(pid, started(pid)?))).collect()
}

fn mounts_below(path: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = table.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    places.filter(|place| place.starts_with(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_as_they_are_written() {
        let all = [
            Left::Process(7, 99),
            Left::Folder("/tmp/a b".into()),
            Left::File("/tmp/c".into()),
            Left::Mount("/tmp/a b/disk".into()),
            Left::Network("annulus-bench-7-1".into()),
            Left::Link("anf7n1".into()),
            Left::Group("/sys/fs/cgroup/annulus-bench-7".into()),
        ];
        for left in all {
            assert_eq!(Left::read(left.line().trim_end()), Some(left));
        }
        assert_eq!(Left::read("process 7"), None);
        assert_eq!(Left::read("planet earth"), None);
    }

    #[test]
    fn what_is_left_at_the_end_is_undone_and_strangers_are_let_be() {
        let folder = std::env::temp_dir().join(format!("annulus-janitor-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("deep")).unwrap();
        std::fs::write(folder.join("deep/file"), "a").unwrap();
        let mut ours = Command::new("sh").args(["-c", "sleep 300 & wait"]).spawn().unwrap();
        let mut stranger = Command::new("sleep").arg("300").spawn().unwrap();
        let notes = [
            Left::Folder(folder.clone()),
            Left::Process(ours.id(), started(ours.id()).unwrap()),
            // Somebody else has its number by now.
            Left::Process(stranger.id(), started(stranger.id()).unwrap() - 1),
        ];
        work(notes.map(|left| left.line()).concat().as_bytes());
        assert!(!folder.exists());
        assert!(!ours.wait().unwrap().success());
        assert!(is_alive(stranger.id()));
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    #[test]
    fn a_sweep_takes_what_no_run_has_any_more() {
        let mut gone = Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        let left = std::env::temp_dir().join(format!("{PREFIX}{}-test", gone.id()));
        let held = std::env::temp_dir().join(crate::ground::name("sweep"));
        std::fs::create_dir_all(&left).unwrap();
        std::fs::create_dir_all(&held).unwrap();
        std::os::unix::fs::symlink("/bin/sh", held.join("redis-server")).unwrap();
        let run = |program: &Path, place: &Path, word: &Path| {
            Command::new(program).args(["-c", "sleep 300; true"]).arg(word).current_dir(place).spawn().unwrap()
        };
        let (redis, data) = (held.join("redis-server"), left.join("data"));
        // One was told the place, the other has only gone there.
        let mut servers = [run(&redis, &held, &data), run(&redis, &left, Path::new("none"))];
        let mut reader = run(Path::new("/bin/sh"), &left, &data);
        // Until they are what they are called.
        while servers.iter().any(|server| name_of(server.id()) != "redis-server") || name_of(reader.id()) != "sh" {
            std::thread::sleep(Duration::from_millis(5));
        }
        sweep();
        let (is_left, is_held) = (left.exists(), held.exists());
        std::fs::remove_dir_all(&held).unwrap();
        let is_read = is_alive(reader.id());
        end_tree(reader.id());
        reader.wait().unwrap();
        assert!(!is_left && is_held && is_read);
        assert!(servers.iter_mut().all(|server| !server.wait().unwrap().success()));
        assert_eq!(run_of("annulus-bench-7-chat"), Some(7));
        assert_eq!((run_of("annulus-bench-cargo"), run_of("annulus-bench-7")), (None, None));
    }
}
