//! Processes, as `/proc` tells of them, and a program that is started so that nothing of it is missed.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::events::Mapped;
use crate::refusal::{Reason, Refusal};

/// What the command line of a program that is about to be started begins with: see [`Paused`].
pub const START_WORD: &str = "start-when-told";
/// How long a program may take to come as far as being about to start.
const START_SECONDS_MAX: u64 = 10;
/// How often it is looked at until then.
const START_LOOK: Duration = Duration::from_millis(1);
/// What shells say when a program cannot be started.
const EXIT_CANNOT_START: u8 = 127;

/// The bytes of a page.
pub fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

/// The threads of a process.
///
/// # Errors
/// When it is gone.
pub fn threads(pid: i32) -> Result<Vec<i32>, Refusal> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).map_err(|_| Refusal::no_process(pid))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// A thread's name, without what would break a line of a collapsed stack.
pub fn thread_name(pid: i32, tid: i32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")).ok().map(|name| name.trim_end_matches('\n').to_owned())
}

/// What tells a process from a later one of the same number: when it was started. None if it is gone, or a zombie.
pub fn started_at(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may have spaces and parentheses of its own (proc(5)).
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then_some(())?;
    fields.nth(18)?.parse().ok()
}

/// What is mapped executable in a process.
///
/// # Errors
/// The kernel's: it is gone, or another user's.
pub fn maps(pid: i32) -> io::Result<Vec<Mapped>> {
    let text = fs::read(format!("/proc/{pid}/maps"))?;
    Ok(String::from_utf8_lossy(&text).lines().filter_map(map_line).collect())
}

/// One line of `/proc/PID/maps`, if it is executable.
fn map_line(line: &str) -> Option<Mapped> {
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let permissions = words.next()?;
    permissions.contains('x').then_some(())?;
    let offset = u64::from_str_radix(words.next()?, 16).ok()?;
    let _device = words.next()?;
    let inode = words.next()?.parse().ok()?;
    let path = words.next().unwrap_or_default().trim_start().into();
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some(Mapped { start: number(start)?, end: number(end)?, offset, inode, path })
}

/// A program that is loaded when it is told to, so that whoever samples it is there before its first instruction.
///
/// It is this very program with [`START_WORD`], which stops itself, and becomes the other one when it is continued.
pub struct Paused {
    child: Option<Child>,
    pid: Pid,
}

impl Paused {
    /// Starts it as far as that. `before` are the words with which this program finds [`start_when_told`].
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(before: &[OsString], words: &[String]) -> Result<Paused, Refusal> {
        let failed = |why: &str| Refusal::new(Reason::File, format!("{} cannot be started: {why}", words[0]));
        let child = Command::new("/proc/self/exe").args(before).arg(START_WORD).args(words).spawn();
        let mut child = child.map_err(|error| failed(&error.to_string()))?;
        let pid = Pid::from_child(&child);
        let patience = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        while !is_stopped(pid) {
            let has_ended = child.try_wait().map_err(|error| failed(&error.to_string()))?.is_some();
            if has_ended || Instant::now() > patience {
                return Err(failed("it did not come as far as loading it"));
            }
            std::thread::sleep(START_LOOK);
        }
        Ok(Paused { child: Some(child), pid })
    }

    /// Its number, which it keeps.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Lets it run.
    ///
    /// # Errors
    /// The kernel's: somebody else ended it.
    pub fn go(mut self) -> io::Result<Child> {
        rustix::process::kill_process(self.pid, Signal::CONT)?;
        Ok(self.child.take().expect("it is taken once, here"))
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _already_gone = child.kill();
            let _already_waited_for = child.wait();
        }
    }
}

fn is_stopped(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// The other side of [`Paused`]: stops, and becomes the program. Returns only if it cannot.
pub fn start_when_told(words: &[String]) -> ExitCode {
    let Some((program, arguments)) = words.split_first() else { return ExitCode::from(EXIT_CANNOT_START) };
    let error = match rustix::process::kill_process(rustix::process::getpid(), Signal::STOP) {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(errno) => errno.into(),
    };
    eprintln!("{program} cannot be started: {error}");
    ExitCode::from(EXIT_CANNOT_START)
}

/// What a started program's end is called.
pub fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps_are_read() {
        let line = "7f00-7f80 r-xp 00001000 08:01 1234                       /usr/lib/a b.so (deleted)";
        let mapped = map_line(line).unwrap();
        assert_eq!((mapped.start, mapped.end, mapped.offset, mapped.inode), (0x7f00, 0x7f80, 0x1000, 1234));
        assert_eq!(mapped.path.to_str(), Some("/usr/lib/a b.so (deleted)"));
        assert_eq!(map_line("7f00-7f80 rw-p 00000000 00:00 0 "), None);
        assert_eq!(map_line("7f00-7f80 r-xp 00000000 00:00 0 ").unwrap().path.to_str(), Some(""));
        assert_eq!(map_line(""), None);
    }

    #[test]
    fn this_process_lives_and_has_threads_and_code() {
        let own = std::process::id() as i32;
        assert!(started_at(own).is_some_and(|time| time > 0));
        assert!(threads(own).unwrap().contains(&own));
        assert!(maps(own).unwrap().iter().any(|mapped| mapped.path.to_str() == Some("[vdso]")));
        assert!(thread_name(own, own).is_some());
        assert_eq!(started_at(i32::MAX), None);
        assert_eq!(threads(i32::MAX).unwrap_err().reason, Reason::NoProcess);
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child =
            Command::new("/proc/self/exe").arg("--list").stdout(std::process::Stdio::null()).spawn().unwrap();
        let pid = child.id() as i32;
        while started_at(pid).is_some() {
            std::thread::sleep(START_LOOK);
        }
        child.wait().unwrap();
    }
}
