//! Why there is no profile, in one sentence with its remedy.
//!
//! The kernel has a few error numbers for many causes; here they are told apart by what else the machine says: the
//! sysctl, the filter of system calls, and whose process it is.

use std::fmt;
use std::fs;
use std::io;

use rustix::io::Errno;

/// Where the kernel says how much of sampling it allows to whom.
const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";
/// Up to this value of it, a user may sample their own processes outside of the kernel.
const PARANOID_OWN: i32 = 2;

/// What kind of thing stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The command line is wrong.
    CommandLine,
    /// There is no such process, or no such thread.
    NoProcess,
    /// The kernel forbids it to this user.
    Permission,
    /// A filter of system calls, such as a container's, forbids it to everybody inside.
    Filtered,
    /// This kernel or machine cannot do it.
    Unsupported,
    /// Something else is using what it needs; trying again later helps.
    Busy,
    /// Nothing was sampled.
    NoSamples,
    /// A file cannot be read or written.
    File,
}

/// Why there is no profile: a reason for programs, and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of thing stands in the way.
    pub reason: Reason,
    /// What happened, to what, why, and what to do.
    pub sentence: String,
}

impl Refusal {
    /// A refusal in the words given.
    pub fn new(reason: Reason, sentence: impl Into<String>) -> Refusal {
        Refusal { reason, sentence: sentence.into() }
    }

    /// What an error of `perf_event_open` on a thread of a process means here.
    pub fn of_open(error: &io::Error, pid: i32) -> Refusal {
        let paranoid = paranoid();
        let shown = paranoid.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
        match Errno::from_io_error(error) {
            Some(Errno::SRCH) => Refusal::no_process(pid),
            Some(Errno::NOSYS) => Refusal::new(
                Reason::Filtered,
                "perf_event_open does not exist here (ENOSYS): the container's seccomp profile hides it, or the kernel \
                 was built without CONFIG_PERF_EVENTS; allow it in the profile, or start the container with \
                 --cap-add PERFMON --security-opt seccomp=unconfined",
            ),
            Some(errno @ (Errno::PERM | Errno::ACCESS)) => {
                if let Some(owner) = other_owner(pid) {
                    return Refusal::new(
                        Reason::Permission,
                        format!(
                            "process {pid} may not be sampled ({}): it belongs to user {owner}; run this as that user, \
                             or give it CAP_PERFMON and CAP_SYS_PTRACE (perf_event_paranoid is {shown})",
                            name(errno)
                        ),
                    );
                }
                if paranoid.is_none_or(|value| value <= PARANOID_OWN) && is_filtered() {
                    return Refusal::new(
                        Reason::Filtered,
                        format!(
                            "perf_event_open is blocked ({}) although perf_event_paranoid is {shown}: a seccomp filter, \
                             such as a container's default profile, forbids it; allow it in the profile, or start the \
                             container with --cap-add PERFMON",
                            name(errno)
                        ),
                    );
                }
                Refusal::new(
                    Reason::Permission,
                    format!(
                        "process {pid} may not be sampled ({}): perf_event_paranoid is {shown}; allow it with \
                         `sysctl kernel.perf_event_paranoid=1`, or run with CAP_PERFMON",
                        name(errno)
                    ),
                )
            }
            Some(Errno::MFILE | Errno::NFILE) => Refusal::new(
                Reason::Busy,
                "not enough file descriptors for one event per thread and core (EMFILE); raise the hard limit (`ulimit -Hn`)",
            ),
            Some(Errno::BUSY) => Refusal::new(
                Reason::Busy,
                "the machine's counters are in use by somebody else (EBUSY); try again when they are done",
            ),
            _ => Refusal::new(Reason::Unsupported, format!("perf_event_open failed for process {pid}: {error}")),
        }
    }

    /// What it means that a ring buffer cannot be mapped.
    pub fn of_ring(error: &io::Error) -> Refusal {
        match Errno::from_io_error(error) {
            Some(Errno::PERM) => Refusal::new(
                Reason::Permission,
                "the memory for sampling is more than this user may lock (EPERM); raise it with \
                 `sysctl kernel.perf_event_mlock_kb=4096` or `ulimit -l`, or run with CAP_IPC_LOCK",
            ),
            _ => Refusal::new(Reason::Busy, format!("a ring buffer for samples cannot be mapped: {error}")),
        }
    }

    /// Nobody has this number.
    pub fn no_process(pid: i32) -> Refusal {
        Refusal::new(Reason::NoProcess, format!("there is no process {pid}; `pgrep -a NAME` finds one by its name"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.sentence)
    }
}

impl std::error::Error for Refusal {}

/// The sysctl's value, if it can be read.
pub fn paranoid() -> Option<i32> {
    fs::read_to_string(PARANOID).ok()?.trim().parse().ok()
}

/// Whether a filter of system calls is on this thread.
fn is_filtered() -> bool {
    status_field("/proc/thread-self/status", "Seccomp:").is_some_and(|mode| mode != "0")
}

/// Whose a process is, if it is not this process's user's and this user is not root.
fn other_owner(pid: i32) -> Option<String> {
    let owner = status_field(&format!("/proc/{pid}/status"), "Uid:")?;
    let own = rustix::process::geteuid().as_raw().to_string();
    (own != "0" && owner != own).then_some(owner)
}

/// The first word behind a name in a status file.
fn status_field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next().map(str::to_owned)
}

fn name(errno: Errno) -> &'static str {
    match errno {
        Errno::PERM => "EPERM",
        _ => "EACCES",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_become_sentences_with_a_remedy() {
        let of = |errno: Errno| Refusal::of_open(&io::Error::from(errno), 1);
        assert_eq!(of(Errno::SRCH).reason, Reason::NoProcess);
        assert!(of(Errno::NOSYS).sentence.contains("seccomp"));
        let denied = of(Errno::ACCESS);
        assert!(denied.sentence.contains("EACCES") && denied.sentence.contains("CAP_PERFMON"), "{denied}");
        assert!(denied.sentence.contains("perf_event_paranoid"), "{denied}");
        assert_eq!(of(Errno::BUSY).reason, Reason::Busy);
        assert!(Refusal::of_ring(&io::Error::from(Errno::PERM)).sentence.contains("mlock"));
    }
}
