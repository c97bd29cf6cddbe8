//! What a worker gives up before it sees its first task. Nothing here can be taken back.
//!
//! ```text
//!   own process group, no terminal's signals   by the lane, before the program starts
//!   ends with its lane                         the kernel kills it when the thread that started it ends
//!   no new privileges                          no program run from here could gain any
//!   no capabilities                            also for a server that root runs
//!   no descriptors but three                   its socket, /dev/null, a pipe for last words
//!   first to go when memory is short           the kernel kills a codec, not the server
//!   no core files, no debugger                 an image in memory is somebody's
//!   limits                                     descriptors, file size, processes, locked memory, queues;
//!                                              the lane adds memory and processor time per task
//!   landlock                                   no path, no port, no signal or abstract socket outside
//!   seccomp                                    a handful of system calls; any other one kills the process
//! ```
//!
//! A process group of its own, and not a session: a session would be an autogroup of its own to the scheduler
//! (sched(7)), and get as large a share of the processor as the server that it is to step back for.
//!
//! Seccomp alone would do: it lets nothing through that names a path, an address or another process. Landlock is the
//! second wall behind it, for the day that somebody widens the list.

use std::collections::BTreeMap;
use std::fs;

use annulus_engine::yield_to_all;
use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, getpid, getppid, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Is, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use super::wire::{OUTPUTS_MAX, Setup, Walls};

/// Standard streams, the input, the outputs, and a few for the walls themselves while they are built.
const DESCRIPTORS_MAX: u64 = 3 + 1 + OUTPUTS_MAX as u64 + 8;
/// The kernel's highest score for whom to kill when memory runs out.
const KILL_FIRST: &str = "1000";

/// Shuts the calling process in. It must have one thread.
///
/// # Errors
/// A sentence: what could not be given up. The process should end.
pub fn enclose(setup: &Setup) -> Result<Walls, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| failed("its end with its lane", &error))?;
    // Whoever was orphaned before that call would never be told.
    if getppid().map(Pid::as_raw_nonzero).map(|pid| pid.get() as u32) != Some(setup.parent) {
        return Err("its lane ended while it started".to_owned());
    }
    set_no_new_privs(true).map_err(|error| failed("no new privileges", &error))?;
    only_standard_streams()?;
    fs::write("/proc/self/oom_score_adj", KILL_FIRST).map_err(|error| failed("/proc/self/oom_score_adj", &error))?;
    if setup.yields {
        yield_to_all().map_err(|error| failed("its priority", &error))?;
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| failed("no core files", &error))?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, sets).map_err(|error| failed("no capabilities", &error))?;
    limits(setup).map_err(|error| failed("limits", &error))?;
    let landlock = shut_paths().map_err(|error| failed("landlock", &error))?;
    if setup.required && !landlock {
        return Err(missing("landlock"));
    }
    let program = filter(getpid()).map_err(|error| failed("the list of system calls", &error))?;
    // Nothing after this line may open, connect or start anything.
    let seccomp = match apply_filter(&program) {
        Ok(()) => true,
        Err(error) if setup.required => return Err(format!("{} ({error})", missing("seccomp"))),
        Err(_) => false,
    };
    Ok(Walls { landlock, seccomp })
}

/// What to do about a wall that the kernel does not offer.
pub fn missing(wall: &str) -> String {
    format!(
        "this kernel offers no {wall}, and isolation = \"process\" asks for it. Likely cause: a kernel built without \
         it, or a container's own seccomp profile. Fix: allow it there, or leave `isolation` out to go on with the \
         walls that there are, or set isolation = \"thread\" to go on with none"
    )
}

/// The lane keeps its descriptors to itself; this makes sure of it.
fn only_standard_streams() -> Result<(), String> {
    let read = |error: std::io::Error| format!("/proc/self/fd: {error}");
    let mut open = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").map_err(read)? {
        let entry = entry.map_err(read)?;
        // The listing's own descriptor is listed too, and leads to this folder.
        let leads_to = fs::read_link(entry.path()).unwrap_or_default();
        let number = entry.file_name().to_string_lossy().parse().unwrap_or(u32::MAX);
        if number > 2 && !leads_to.starts_with("/proc") {
            open.push(format!("{number} ({})", leads_to.display()));
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("descriptors were left open for it: {}", open.join(", "))) }
}

fn limits(setup: &Setup) -> rustix::io::Result<()> {
    let limits = [
        (Resource::Core, 0),
        (Resource::Nproc, 0),
        (Resource::Nofile, DESCRIPTORS_MAX),
        (Resource::Fsize, setup.output_bytes_max),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
        (Resource::Sigpending, 0),
    ];
    limits
        .into_iter()
        .try_for_each(|(resource, limit)| setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) }))
}

/// Landlock with every right handled and none given, for the calling thread. Whether the kernel does it.
///
/// # Errors
/// When a kernel that has landlock refuses.
pub fn shut_paths() -> Result<bool, landlock::RulesetError> {
    let abi = ABI::V6;
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?;
    Ok(ruleset.create()?.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

/// The calls that a codec, the allocator, a panic and an abort make, and no others.
const CALLS: [i64; 24] = [
    // The socket, the input and the outputs, all opened by somebody else.
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_recvmsg,
    libc::SYS_close,
    // Memory. Making mappings has conditions; see `filter`.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Locks and clocks; the clock is only a call where the kernel has no faster way.
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_clock_gettime,
    libc::SYS_restart_syscall,
    // Seeds of hash tables.
    libc::SYS_getrandom,
    // Who am I, how many cores may I use: asked by abort() and by codecs that decide to use one thread.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_sched_getaffinity,
    // Signals of its own, as the runtime's guard of the stack and abort() set them.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Is a descriptor open, which the standard library asks in debug builds before it closes one. Reads flags only.
    libc::SYS_fcntl,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// The filter for the process `own`.
///
/// # Errors
/// A sentence; on an architecture that the filter's compiler does not know.
pub fn filter(own: Pid) -> Result<BpfProgram, String> {
    let sentence = |error: seccompiler::BackendError| error.to_string();
    let when = |conditions: &[(u8, Is, u64)]| -> Result<Vec<SeccompRule>, String> {
        let conditions = conditions.iter().map(|(argument, is, value)| {
            SeccompCondition::new(*argument, Width::Dword, is.clone(), *value).map_err(sentence)
        });
        Ok(vec![SeccompRule::new(conditions.collect::<Result<_, _>>()?).map_err(sentence)?])
    };
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> = CALLS.into_iter().map(|call| (call, Vec::new())).collect();
    let not_executable = (2, Is::MaskedEq(u64::from(PROT_EXEC)), 0);
    // Anonymous memory only, so that no file's end can become a fault; and none that is code.
    let no_descriptor = (4, Is::Eq, u64::from(u32::MAX));
    calls.insert(libc::SYS_mmap, when(&[not_executable.clone(), no_descriptor])?);
    calls.insert(libc::SYS_mprotect, when(&[not_executable])?);
    calls.insert(libc::SYS_fcntl, when(&[(1, Is::Eq, F_GETFD)])?);
    // abort() sends itself a signal. Nobody else gets one.
    let own = u64::from(own.as_raw_nonzero().get().unsigned_abs());
    calls.insert(libc::SYS_tgkill, when(&[(0, Is::Eq, own)])?);
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(sentence)?;
    let filter = SeccompFilter::new(calls, SeccompAction::KillProcess, SeccompAction::Allow, architecture);
    filter.map_err(sentence)?.try_into().map_err(sentence)
}

/// `PROT_EXEC` of mmap(2).
const PROT_EXEC: u32 = libc::PROT_EXEC.unsigned_abs();
/// `F_GETFD` of fcntl(2).
const F_GETFD: u64 = libc::F_GETFD.unsigned_abs() as u64;

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOW: u32 = 0x7fff_0000;
    const KILL_PROCESS: u32 = 0x8000_0000;
    #[cfg(target_arch = "x86_64")]
    const ARCHITECTURE: u32 = 0xc000_003e;
    #[cfg(target_arch = "aarch64")]
    const ARCHITECTURE: u32 = 0xc000_00b7;
    /// Far beyond the last call of any kernel so far.
    const CALLS_END: i64 = 1024;

    /// Runs a classic BPF program over a `struct seccomp_data` (seccomp(2)): the few instructions that filters use.
    fn verdict(program: &BpfProgram, call: u32, architecture: u32, arguments: [u64; 6]) -> u32 {
        let mut words = vec![call, architecture, 0, 0];
        words.extend(arguments.iter().flat_map(|argument| [*argument as u32, (*argument >> 32) as u32]));
        let (mut at, mut a) = (0, 0u32);
        loop {
            let step = &program[at];
            at += 1;
            let jump = |met: bool| usize::from(if met { step.jt } else { step.jf });
            match step.code {
                0x20 => a = words[step.k as usize / 4],
                0x54 => a &= step.k,
                0x05 => at += step.k as usize,
                0x15 => at += jump(a == step.k),
                0x25 => at += jump(a > step.k),
                0x35 => at += jump(a >= step.k),
                0x06 => return step.k,
                other => panic!("an instruction that this test does not know: {other:#x}"),
            }
        }
    }

    fn allowed(call: i64, arguments: [u64; 6]) -> bool {
        let program = filter(Pid::from_raw(77).unwrap()).unwrap();
        match verdict(&program, call as u32, ARCHITECTURE, arguments) {
            ALLOW => true,
            KILL_PROCESS => false,
            other => panic!("call {call}: {other:#x}"),
        }
    }

    #[test]
    fn of_all_calls_only_the_listed_pass() {
        let program = filter(Pid::from_raw(77).unwrap()).unwrap();
        for call in 0..CALLS_END {
            let verdict = verdict(&program, call as u32, ARCHITECTURE, [0; 6]);
            // With arguments of zero: fcntl's F_DUPFD, mmap of descriptor 0 and a signal to the group are refused.
            let conditional = [libc::SYS_fcntl, libc::SYS_mmap, libc::SYS_tgkill].contains(&call);
            let listed = (CALLS.contains(&call) && !conditional) || call == libc::SYS_mprotect;
            assert_eq!(verdict, if listed { ALLOW } else { KILL_PROCESS }, "call {call}");
        }
    }

    #[test]
    fn another_architectures_calls_are_refused() {
        let program = filter(Pid::from_raw(77).unwrap()).unwrap();
        const I386: u32 = 0x4000_0003;
        const X32: u32 = 0x4000_0000;
        for call in CALLS {
            assert_eq!(verdict(&program, call as u32, I386, [0; 6]), KILL_PROCESS);
            assert_eq!(verdict(&program, call as u32 | X32, ARCHITECTURE, [0; 6]), KILL_PROCESS);
        }
    }

    #[test]
    fn memory_is_neither_code_nor_a_file() {
        let none = u64::from(u32::MAX);
        let (read_write, execute) = (3, 7);
        assert!(allowed(libc::SYS_mmap, [0, 4096, read_write, 0x22, none, 0]));
        assert!(allowed(libc::SYS_mmap, [0, 4096, read_write, 0x22, u64::MAX, 0]));
        assert!(!allowed(libc::SYS_mmap, [0, 4096, execute, 0x22, none, 0]));
        assert!(!allowed(libc::SYS_mmap, [0, 4096, read_write, 0x1, 5, 0]));
        assert!(allowed(libc::SYS_mprotect, [0, 4096, read_write, 0, 0, 0]));
        assert!(!allowed(libc::SYS_mprotect, [0, 4096, execute, 0, 0, 0]));
        assert!(!allowed(libc::SYS_mprotect, [0, 4096, execute | 1 << 40, 0, 0, 0]));
    }

    #[test]
    fn signals_go_to_itself_alone() {
        assert!(allowed(libc::SYS_tgkill, [77, 77, 6, 0, 0, 0]));
        assert!(!allowed(libc::SYS_tgkill, [78, 78, 6, 0, 0, 0]));
        assert!(allowed(libc::SYS_fcntl, [3, 1, 0, 0, 0, 0]));
        assert!(!allowed(libc::SYS_fcntl, [3, 4, 0, 0, 0, 0]));
    }
}
