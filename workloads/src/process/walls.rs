//! The kernel's walls around a server: it can open, listen on and ask for no more than it needs, whoever speaks out of it.
//!
//! ```text
//!   landlock   before the first thread: files and folders of the configuration, its ports, ourselves as the only program,
//!              no signal and no abstract socket of others
//!   seccomp    when the rings are there: no tracing, mounting, modules, keys, other users, namespaces, no further ring
//! ```
//!
//! The two are of different use. Landlock is asked by the kernel's files and sockets themselves, so it holds for operations
//! of a ring as for system calls. Seccomp sees system calls only: what a ring is asked for passes it by. So nothing is on the
//! list that a ring could do instead, and rings themselves are on it: those there are take the engine's operations and no
//! others (`engine/src/sys/uring.rs`), and another one cannot be made.
//!
//! The list says what is refused and not what is allowed, because a server's libraries may ask for much, and a
//! call that is missing would be found by an outage. Workers with foreign codecs have the strict one:
//! `image/lanes/sandbox.rs`.

use std::collections::BTreeMap;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::thread::set_no_new_privs;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Is, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads,
};

use super::needs::Needs;

/// What is known of landlock here; older kernels do what they can of it.
const KNOWN: ABI = ABI::V6;

/// Whether there are to be walls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Walls {
    /// Those that the kernel offers.
    #[default]
    Auto,
    /// All of them, or no start.
    Required,
    /// None.
    Off,
}

impl std::str::FromStr for Walls {
    type Err = String;

    fn from_str(text: &str) -> Result<Walls, String> {
        match text {
            "auto" => Ok(Walls::Auto),
            "required" => Ok(Walls::Required),
            "off" => Ok(Walls::Off),
            other => Err(format!("there are no walls {other:?}: use \"auto\", \"required\" or \"off\"")),
        }
    }
}

impl Walls {
    /// Restricts the calling thread, and all that it starts, to what is needed. The process must have one thread. Whether it
    /// does now.
    ///
    /// # Errors
    /// A sentence: the kernel refuses, or offers none and has to.
    pub fn shut_paths(self, needs: &Needs) -> Result<bool, String> {
        if self == Walls::Off {
            return Ok(false);
        }
        let failed = |error: &dyn std::fmt::Display| format!("landlock: {error}");
        set_no_new_privs(true).map_err(|error| failed(&error))?;
        let stands = landlock(needs).map_err(|error| failed(&error))?;
        match stands || self == Walls::Auto {
            true => Ok(stands),
            false => Err(missing("landlock")),
        }
    }

    /// Refuses, for all threads, the system calls that no server needs. Call it when all rings are there. Whether it does now.
    ///
    /// # Errors
    /// As [`Walls::shut_paths`].
    pub fn shut_calls(self, profiles: bool) -> Result<bool, String> {
        if self == Walls::Off {
            return Ok(false);
        }
        for program in filters(profiles)? {
            match apply_filter_all_threads(&program) {
                Ok(()) => {}
                Err(error) if self == Walls::Required => return Err(format!("{} ({error})", missing("seccomp"))),
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Which version of landlock this kernel offers, if it does.
pub fn landlock_version() -> Option<u8> {
    let versions = [(6, ABI::V6), (5, ABI::V5), (4, ABI::V4), (3, ABI::V3), (2, ABI::V2), (1, ABI::V1)];
    let is_offered = |abi: ABI| {
        let asked =
            Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(AccessFs::from_all(abi));
        let asked = match abi {
            ABI::V1 | ABI::V2 | ABI::V3 => asked,
            _ => asked.and_then(|asked| asked.handle_access(AccessNet::from_all(abi))),
        };
        let asked = match abi {
            ABI::V6 => asked.and_then(|asked| asked.scope(Scope::from_all(abi))),
            _ => asked,
        };
        // A set of rules that nobody is restricted by.
        asked.and_then(|asked| asked.create()).is_ok()
    };
    versions.into_iter().find(|(_, abi)| is_offered(*abi)).map(|(version, _)| version)
}

fn missing(wall: &str) -> String {
    format!(
        "this kernel offers no {wall}, and walls = \"required\" asks for it. Likely cause: a kernel built without it, or a \
         container's own profile. Fix: allow it there, or use walls = \"auto\""
    )
}

fn landlock(needs: &Needs) -> Result<bool, landlock::RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let devices = AccessFs::MakeChar | AccessFs::MakeBlock;
    let write = AccessFs::from_all(KNOWN) & !(AccessFs::Execute | AccessFs::IoctlDev | devices);
    let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(KNOWN))?.scope(Scope::from_all(KNOWN))?;
    let any_port = needs.ports.contains(&0);
    if !any_port {
        ruleset = ruleset.handle_access(AccessNet::BindTcp)?;
    }
    let mut created = ruleset.create()?;
    let rules = [
        (&needs.read, read),
        (&needs.write, write),
        (&needs.run, AccessFs::Execute | AccessFs::ReadFile),
        (&needs.devices, AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev),
    ];
    for (paths, access) in rules {
        for path in paths {
            // What is not there cannot be opened either.
            let Ok(file) = PathFd::new(path) else { continue };
            created = created.add_rule(PathBeneath::new(file, fitting(path, access)))?;
        }
    }
    if !any_port {
        for &port in &needs.ports {
            created = created.add_rule(NetPort::new(port, AccessNet::BindTcp))?;
        }
    }
    Ok(created.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

/// Of these rights those that a file can have, where it is no folder.
fn fitting(path: &Path, access: BitFlags<AccessFs>) -> BitFlags<AccessFs> {
    if path.is_dir() { access } else { access & AccessFs::from_file(KNOWN) }
}

/// System calls that fail with `EPERM`.
const REFUSED: &[i64] = &[
    // Into other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // The kernel itself.
    libc::SYS_bpf,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    // What files are seen.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_mknodat,
    // Who we are.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_personality,
    // Keys of the kernel's, and what has been of most use to those who break kernels.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    libc::SYS_lookup_dcookie,
    // Rings that would not be restricted.
    libc::SYS_io_uring_setup,
];

/// What a new process may not be given of its own (clone(2)): `CLONE_NEWNS`, `NEWCGROUP`, `NEWUTS`, `NEWIPC`, `NEWUSER`,
/// `NEWPID` and `NEWNET`.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// The filters, in the order in which they are applied. Whether `profiles` are taken decides about `perf_event_open(2)`.
fn filters(profiles: bool) -> Result<[BpfProgram; 2], String> {
    let sentence = |error: seccompiler::BackendError| format!("seccomp: {error}");
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(sentence)?;
    let made = |calls: BTreeMap<i64, Vec<SeccompRule>>, errno: i32| -> Result<BpfProgram, String> {
        let refused = SeccompAction::Errno(errno.unsigned_abs());
        let filter = SeccompFilter::new(calls, SeccompAction::Allow, refused, architecture).map_err(sentence)?;
        filter.try_into().map_err(sentence)
    };
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|&call| (call, Vec::new())).collect();
    if !profiles {
        refused.insert(libc::SYS_perf_event_open, Vec::new());
    }
    let namespace = |flag: i32| -> Result<SeccompRule, String> {
        let flag = u64::from(flag.unsigned_abs());
        let given = SeccompCondition::new(0, Width::Qword, Is::MaskedEq(flag), flag).map_err(sentence)?;
        SeccompRule::new(vec![given]).map_err(sentence)
    };
    refused.insert(libc::SYS_clone, NAMESPACES.into_iter().map(namespace).collect::<Result<_, _>>()?);
    // Its flags are in memory, where no filter can see them. Who is told that there is no such call uses clone(2).
    let unknown = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    Ok([made(refused, libc::EPERM)?, made(unknown, libc::ENOSYS)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_compile_and_are_of_a_size_that_the_kernel_takes() {
        for profiles in [false, true] {
            for program in filters(profiles).unwrap() {
                assert!((3..4096).contains(&program.len()), "{}", program.len());
            }
        }
    }

    /// Runs in a thread of its own, because there is no way back.
    fn within<T: Send + 'static>(inside: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(inside).join().unwrap()
    }

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("annulus-walls-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("file"), "inside").unwrap();
        folder
    }

    #[test]
    fn what_is_not_needed_cannot_be_opened_changed_run_or_listened_on() {
        let (reads, writes, others) = (folder("reads"), folder("writes"), folder("others"));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let needs = Needs {
            read: vec![reads.clone(), others.join("file")],
            write: vec![writes.clone()],
            ports: vec![port],
            ..Needs::default()
        };
        let (read, write, other) = (reads.clone(), writes.clone(), others.clone());
        let stands = within(move || {
            if !Walls::Auto.shut_paths(&needs).unwrap() {
                return false;
            }
            let denied = |error: std::io::Error| assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
            assert_eq!(std::fs::read_to_string(read.join("file")).unwrap(), "inside");
            denied(std::fs::write(read.join("file"), "x").unwrap_err());
            denied(std::fs::write(read.join("new"), "x").unwrap_err());
            std::fs::write(write.join("new"), "x").unwrap();
            std::fs::rename(write.join("new"), write.join("renamed")).unwrap();
            assert_eq!(std::fs::read_to_string(other.join("file")).unwrap(), "inside", "a file by itself");
            denied(std::fs::read_dir(&other).unwrap_err());
            denied(std::fs::read_to_string("/etc/passwd").unwrap_err());
            denied(std::process::Command::new("/bin/true").status().unwrap_err());
            std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
            denied(std::net::TcpListener::bind(("127.0.0.1", port ^ 1)).unwrap_err());
            true
        });
        for folder in [reads, writes, others] {
            std::fs::remove_dir_all(folder).unwrap();
        }
        if !stands {
            eprintln!("NOT RUN: landlock is not offered here");
        }
    }

    #[test]
    fn refused_calls_fail_and_the_others_work() {
        use rustix::io::Errno;
        use rustix::thread::{LinkNameSpaceType, UnshareFlags};
        within(|| {
            set_no_new_privs(true).unwrap();
            for program in filters(false).unwrap() {
                seccompiler::apply_filter(&program).unwrap();
            }
            assert_eq!(rustix::process::chroot("/").unwrap_err(), Errno::PERM);
            let namespace = std::fs::File::open("/proc/self/ns/net").unwrap();
            let moved = rustix::thread::move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&namespace),
                Some(LinkNameSpaceType::Network),
            );
            assert_eq!(moved.unwrap_err(), Errno::PERM);
            let _flags_exist = UnshareFlags::NEWUSER;
            assert_eq!(rustix::thread::set_thread_groups(&[]).unwrap_err(), Errno::PERM);
            let ring = annulus_engine::Engine::builder().shards(1).oversubscribed();
            let ring = ring.driver(annulus_engine::DriverChoice::Uring).run(|_| async {});
            assert!(ring.is_err(), "no further ring");
            // Threads, programs, files and sockets are what a server is made of.
            assert!(std::process::Command::new("/bin/true").status().unwrap().success());
            std::thread::spawn(|| std::fs::read_to_string("/etc/passwd").unwrap()).join().unwrap();
            std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        });
    }

    #[test]
    fn words_are_read() {
        for (word, walls) in [("auto", Walls::Auto), ("required", Walls::Required), ("off", Walls::Off)] {
            assert_eq!(word.parse(), Ok(walls));
        }
        assert!("no".parse::<Walls>().unwrap_err().contains("required"));
    }
}
