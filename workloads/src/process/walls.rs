//! The kernel's walls around a server: it can open, listen on and ask for no more than it needs, whoever speaks out of it.
//!
//! ```text
//!   landlock   before the first thread: files and folders of the configuration, its ports, ourselves as the only program,
//!              no signal and no abstract socket of others
//!   seccomp    when the rings are there: no tracing, mounting, modules, keys, other users, namespaces, no further ring
//!   rings      from when they are made: each takes the engine's operations only
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

/// What became of one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wall {
    /// It is there, for good.
    Stands,
    /// The kernel did not make it, for this reason.
    Missing(String),
    /// It was not asked for.
    Off,
}

impl std::fmt::Display for Wall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wall::Stands => f.write_str("stands"),
            Wall::Missing(why) => write!(f, "is not offered here ({why})"),
            Wall::Off => f.write_str("is off"),
        }
    }
}

/// All three, as the start says them.
pub fn describe(paths: &Wall, calls: &Wall, rings: &Wall) -> String {
    match [paths, calls, rings].iter().all(|wall| **wall == Wall::Off) {
        true => "none".to_owned(),
        false => format!("landlock {paths}, seccomp {calls}, the restriction of rings {rings}"),
    }
}

impl Walls {
    /// Restricts the calling thread, and all that it starts, to what is needed. The process must have one thread. Whether it
    /// does now.
    ///
    /// # Errors
    /// A sentence: the kernel refuses, or offers none and has to.
    pub fn shut_paths(self, needs: &Needs) -> Result<Wall, String> {
        if self == Walls::Off {
            return Ok(Wall::Off);
        }
        let failed = |error: &dyn std::fmt::Display| format!("landlock: {error}");
        set_no_new_privs(true).map_err(|error| failed(&error))?;
        match landlock(needs).map_err(|error| failed(&error))? {
            true => Ok(Wall::Stands),
            false => self.without("landlock", "it is not among the security modules of this kernel", ALLOW_IT),
        }
    }

    /// Refuses, for all threads, the system calls that no server needs. Call it when all rings are there. Whether it does now.
    ///
    /// # Errors
    /// As [`Walls::shut_paths`].
    pub fn shut_calls(self, profiles: bool) -> Result<Wall, String> {
        if self == Walls::Off {
            return Ok(Wall::Off);
        }
        for program in filters(profiles)? {
            if let Err(error) = apply_filter_all_threads(&program) {
                return self.without("seccomp", &error.to_string(), ALLOW_IT);
            }
        }
        Ok(Wall::Stands)
    }

    /// Whether the rings are what the engine says of them: see [`annulus_engine::Engine::rings_restricted`].
    ///
    /// # Errors
    /// As [`Walls::shut_paths`].
    pub fn see_rings(self, restricted: std::io::Result<()>) -> Result<Wall, String> {
        match restricted {
            _ if self == Walls::Off => Ok(Wall::Off),
            Ok(()) => Ok(Wall::Stands),
            Err(error) => {
                self.without("restriction of rings", &error.to_string(), "do without rings (driver = \"epoll\")")
            }
        }
    }

    /// A wall does not stand.
    fn without(self, wall: &str, why: &str, fix: &str) -> Result<Wall, String> {
        match self {
            Walls::Required => Err(format!(
                "this kernel offers no {wall} ({why}), and walls = \"required\" asks for it. Likely cause: a kernel built without \
                 it, or a container's own profile. Fix: {fix}, or use walls = \"auto\""
            )),
            Walls::Auto | Walls::Off => Ok(Wall::Missing(why.to_owned())),
        }
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

/// What helps where somebody else forbids a wall.
const ALLOW_IT: &str = "allow it there";

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
    // New devices; see `REFUSED_OLD`, too.
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

/// Further ones that only older architectures have: what newer calls do, and ports of devices.
#[cfg(target_arch = "x86_64")]
const REFUSED_OLD: &[i64] = &[libc::SYS_mknod, libc::SYS_iopl, libc::SYS_ioperm];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_OLD: &[i64] = &[];

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

/// Calls of the x32 ABI (`__X32_SYSCALL_BIT`): the same calls under other numbers, and some under numbers of their own, which a
/// kernel may offer to every program of x86-64.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

/// Refuses all that have x32's bit: no program here is of that ABI. Filters of seccompiler know single numbers only.
#[cfg(target_arch = "x86_64")]
fn without_x32() -> BpfProgram {
    // linux/bpf_common.h, and `struct seccomp_data` of linux/seccomp.h, whose first word is the call's number.
    let [load, if_bit, ret] = [0x20, 0x45, 0x06];
    let instruction = |code, jt, jf, k| seccompiler::sock_filter { code, jt, jf, k };
    vec![
        instruction(load, 0, 0, 0),
        instruction(if_bit, 0, 1, X32),
        instruction(ret, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs()),
        instruction(ret, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// The filters, in the order in which they are applied. Whether `profiles` are taken decides about `perf_event_open(2)`.
fn filters(profiles: bool) -> Result<Vec<BpfProgram>, String> {
    let sentence = |error: seccompiler::BackendError| format!("seccomp: {error}");
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(sentence)?;
    let made = |calls: BTreeMap<i64, Vec<SeccompRule>>, errno: i32| -> Result<BpfProgram, String> {
        let refused = SeccompAction::Errno(errno.unsigned_abs());
        let filter = SeccompFilter::new(calls, SeccompAction::Allow, refused, architecture).map_err(sentence)?;
        filter.try_into().map_err(sentence)
    };
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().chain(REFUSED_OLD).map(|&call| (call, Vec::new())).collect();
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
    Ok(vec![
        made(refused, libc::EPERM)?,
        made(unknown, libc::ENOSYS)?,
        #[cfg(target_arch = "x86_64")]
        without_x32(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_compile_and_are_of_a_size_that_the_kernel_takes() {
        for profiles in [false, true] {
            for program in filters(profiles).unwrap() {
                assert!((4..4096).contains(&program.len()), "{}", program.len());
            }
        }
    }

    /// What a kernel does with a call: the strictest verdict of all filters (seccomp(2)), as an error's number; `None`: it is
    /// allowed. Knows what the filters are made of, and no more.
    fn verdict(programs: &[BpfProgram], number: u32, first: u64) -> Option<i32> {
        let here = if cfg!(target_arch = "x86_64") { 0xc000_003e_u32 } else { 0xc000_00b7 };
        let data = [number.to_ne_bytes(), here.to_ne_bytes()].concat();
        let data = [&data[..], &[0; 8], &first.to_ne_bytes(), &[0; 40]].concat();
        let verdict = |program: &BpfProgram| {
            let (mut at, mut accumulator) = (0, 0);
            loop {
                let seccompiler::sock_filter { code, jt, jf, k } = program[at].clone();
                let mut jump = |holds: bool| at += usize::from(if holds { jt } else { jf });
                match code {
                    0x20 => accumulator = u32::from_ne_bytes(data[k as usize..][..4].try_into().unwrap()),
                    0x54 => accumulator &= k,
                    0x05 => at += k as usize,
                    0x15 => jump(accumulator == k),
                    0x25 => jump(accumulator > k),
                    0x35 => jump(accumulator >= k),
                    0x45 => jump(accumulator & k != 0),
                    0x06 => return k,
                    other => panic!("instruction {other:#x} is not known here"),
                }
                at += 1;
            }
        };
        let verdicts = programs.iter().map(verdict);
        let refusals = verdicts.filter(|&verdict| verdict != libc::SECCOMP_RET_ALLOW).inspect(|&verdict| {
            assert_eq!(verdict & 0xffff_0000, libc::SECCOMP_RET_ERRNO, "nothing is killed");
        });
        refusals.map(|verdict| (verdict & 0xffff) as i32).min()
    }

    #[test]
    fn calls_are_refused_under_all_of_their_numbers() {
        let programs = filters(false).unwrap();
        let number = |call: i64| u32::try_from(call).unwrap();
        for &call in REFUSED.iter().chain(REFUSED_OLD).chain(&[libc::SYS_perf_event_open]) {
            assert_eq!(verdict(&programs, number(call), 0), Some(libc::EPERM), "{call}");
        }
        for flag in NAMESPACES {
            let flags = u64::from(flag.unsigned_abs());
            assert_eq!(verdict(&programs, number(libc::SYS_clone), flags), Some(libc::EPERM), "{flag:#x}");
        }
        assert_eq!(verdict(&programs, number(libc::SYS_clone3), 0), Some(libc::ENOSYS));
        let profiles = filters(true).unwrap();
        for call in [libc::SYS_clone, libc::SYS_openat, libc::SYS_execve, libc::SYS_io_uring_enter, libc::SYS_futex] {
            assert_eq!(verdict(&programs, number(call), 0), None, "{call}");
        }
        assert_eq!(verdict(&profiles, number(libc::SYS_perf_event_open), 0), None);
        #[cfg(target_arch = "x86_64")]
        {
            // `ptrace` and `process_vm_readv` have numbers of their own there (arch/x86/entry/syscalls/syscall_64.tbl).
            let own = [521, 539];
            for call in REFUSED.iter().chain(REFUSED_OLD).map(|&call| number(call)).chain(own) {
                assert_eq!(verdict(&programs, call | X32, 0), Some(libc::EPERM), "{call}");
            }
            assert_eq!(verdict(&programs, number(libc::SYS_mknod), 0), Some(libc::EPERM));
        }
    }

    #[test]
    fn a_wall_that_is_missing_is_told_with_its_cause_or_ends_the_start() {
        let refused = || Err(std::io::Error::from_raw_os_error(libc::EINVAL));
        let missing = Walls::Auto.see_rings(refused()).unwrap();
        assert!(matches!(&missing, Wall::Missing(why) if why.contains("Invalid argument")), "{missing:?}");
        let said = describe(&Wall::Stands, &Wall::Stands, &missing);
        assert!(
            said.starts_with("landlock stands, seccomp stands, the restriction of rings is not offered here (Inv"),
            "{said}"
        );
        let ended = Walls::Required.see_rings(refused()).unwrap_err();
        assert!(ended.contains("restriction of rings (Invalid argument") && ended.contains("epoll"), "{ended}");
        assert_eq!(Walls::Required.see_rings(Ok(())), Ok(Wall::Stands));
        assert_eq!(Walls::Off.see_rings(refused()), Ok(Wall::Off));
        assert_eq!(describe(&Wall::Off, &Wall::Off, &Wall::Off), "none");
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
            if Walls::Auto.shut_paths(&needs).unwrap() != Wall::Stands {
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
        use rustix::thread::LinkNameSpaceType;
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
