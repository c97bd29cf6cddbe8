//! The kernel: its version, what it grants of io_uring and of walls, its clock, and what it does with memory behind our back.

use annulus_engine::{DriverChoice, io_uring_capabilities};

use super::Finding;
use crate::process::walls::{Walls, landlock_version};

/// The first release with all that the engine asks of io_uring.
const URING: (u32, u32) = (6, 0);
/// Clocks that are read without a system call.
const FAST_CLOCKS: [&str; 4] = ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"];
/// Who may look at which stacks: to others' programs and the kernel's own up to this, see perf_event_open(2).
const PARANOID_MAX: i32 = 1;

/// Its version, clock and memory, from its own files as `read` gives them.
pub(super) fn look(read: &dyn Fn(&str) -> Option<String>, is_root: bool) -> Vec<Finding> {
    let mut findings = vec![version(read("/proc/sys/kernel/osrelease").unwrap_or_default().trim())];
    if let Some(clock) = read("/sys/devices/system/clocksource/clocksource0/current_clocksource") {
        findings.push(clock_source(clock.trim()));
    }
    if let Some(text) = read("/sys/kernel/mm/transparent_hugepage/enabled") {
        findings.push(huge_pages(chosen(&text)));
    }
    if let Some(swaps) = read("/proc/swaps") {
        let swappiness = read("/proc/sys/vm/swappiness").and_then(|text| text.trim().parse().ok());
        findings.push(swapping(swaps.lines().count() > 1, swappiness.unwrap_or(60)));
    }
    if let Some(level) = read("/proc/sys/kernel/perf_event_paranoid").and_then(|text| text.trim().parse().ok()) {
        findings.push(profiles(level, is_root));
    }
    findings
}

fn version(release: &str) -> Finding {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= URING => Finding::yes(format!("Linux {release}")),
        (Some(_), Some(_)) => Finding::note(
            format!("Linux {release}: io_uring is not used before {}.{}, but epoll is", URING.0, URING.1),
            "Linux 6.1 or newer, where that matters",
        ),
        _ => Finding::note(format!("the kernel calls itself {release:?}"), "Linux 6.1 or newer"),
    }
}

fn clock_source(clock: &str) -> Finding {
    match FAST_CLOCKS.contains(&clock) {
        true => Finding::yes(format!("clock {clock}")),
        false => Finding::note(
            format!("clock {clock}: each look at it is a system call, and a shard looks at every turn"),
            "tsc or the hypervisor's own clock: echo tsc >/sys/devices/system/clocksource/clocksource0/current_clocksource, \
             or clocksource=tsc among the kernel's parameters",
        ),
    }
}

/// The word in brackets, of several.
fn chosen(text: &str) -> &str {
    text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(text.trim(), |(word, _)| word)
}

fn huge_pages(mode: &str) -> Finding {
    match mode {
        "always" => Finding::note(
            "transparent huge pages: always: memory grows by 2 MiB at a time, and looking for such pages may pause a shard",
            "echo madvise >/sys/kernel/mm/transparent_hugepage/enabled",
        ),
        mode => Finding::yes(format!("transparent huge pages: {mode}")),
    }
}

fn swapping(is_on: bool, swappiness: u32) -> Finding {
    match (is_on, swappiness) {
        (false, _) => Finding::yes("no swap"),
        (true, ..=10) => {
            Finding::yes(format!("swap, but hardly used before memory is full (vm.swappiness {swappiness})"))
        }
        (true, _) => Finding::note(
            format!(
                "swap (vm.swappiness {swappiness}): a shard that waits for a page of its own lets all of its clients wait"
            ),
            "sysctl -w vm.swappiness=1, or MemorySwapMax=0 in the unit file",
        ),
    }
}

fn profiles(level: i32, is_root: bool) -> Finding {
    let says = match level {
        _ if is_root => return Finding::yes("flamegraphs show all there is, to root"),
        ..=PARANOID_MAX => {
            return Finding::yes(format!("flamegraphs show the kernel, too (perf_event_paranoid {level})"));
        }
        2 => "flamegraphs end where the kernel begins (perf_event_paranoid 2)".to_owned(),
        _ => format!("the console's flamegraphs and annulus perf are root's only (perf_event_paranoid {level})"),
    };
    Finding::note(says, format!("sysctl -w kernel.perf_event_paranoid={PARANOID_MAX}"))
}

/// What there is of io_uring, and what is used without it.
pub(super) fn interface(driver: DriverChoice) -> Vec<Finding> {
    let mut findings = match io_uring_capabilities() {
        Ok(rows) => rows
            .iter()
            .map(|row| match row.granted {
                true => Finding::yes(format!("{:<28} {}", row.name, row.note)),
                false => Finding::note(
                    format!("{:<28} {}", row.name, row.note),
                    "a newer kernel has it; all works without it",
                ),
            })
            .collect(),
        Err(why) => vec![without_io_uring(&why, driver)],
    };
    findings.push(Finding::yes(format!("{:<28} in use when io_uring is not, or as asked", "epoll")));
    findings
}

fn without_io_uring(why: &str, driver: DriverChoice) -> Finding {
    let (says, remedy) = why.split_once(" Fix: ").unwrap_or((why, "a kernel that grants it; until then epoll is used"));
    let says = format!("no io_uring: {says}");
    match driver {
        DriverChoice::Uring => Finding::no(says, format!("{remedy} (engine.driver = \"io_uring\" asks for it)")),
        DriverChoice::Auto | DriverChoice::Epoll => Finding::note(says, remedy),
    }
}

/// What may be put around a server.
pub(super) fn walls(read: &dyn Fn(&str) -> Option<String>, wanted: Walls) -> Vec<Finding> {
    let has_filters = read("/proc/sys/kernel/seccomp/actions_avail").is_some_and(|actions| actions.contains("errno"));
    vec![
        wall(
            landlock_version()
                .map(|version| format!("landlock, version {version}: files and ports that a server does not need")),
            "landlock: a server can open whatever its user may",
            "a kernel with landlock among its lsm= (CONFIG_LSM), and a container's profile that lets it through",
            wanted,
        ),
        wall(
            has_filters.then(|| "seccomp filters: system calls that no server needs".to_owned()),
            "seccomp filters: a server can ask the kernel for anything",
            "a kernel with CONFIG_SECCOMP_FILTER",
            wanted,
        ),
    ]
}

fn wall(stands: Option<String>, without: &str, remedy: &str, wanted: Walls) -> Finding {
    match (stands, wanted) {
        (Some(says), _) => Finding::yes(says),
        (None, Walls::Required) => Finding::no(format!("no {without}"), format!("{remedy}; or walls = \"auto\"")),
        (None, Walls::Auto | Walls::Off) => Finding::note(format!("no {without}"), remedy),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{self, No, Note, Yes};
    use super::*;

    fn verdicts(findings: &[Finding]) -> Vec<Verdict> {
        findings.iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn what_the_kernel_says_of_itself_has_verdicts() {
        let good = |path: &str| {
            Some(match path {
                "/proc/sys/kernel/osrelease" => "6.1.0-18-amd64\n".to_owned(),
                "/proc/swaps" => "Filename Type Size Used Priority\n".to_owned(),
                "/proc/sys/kernel/perf_event_paranoid" => "-1\n".to_owned(),
                path if path.ends_with("clocksource") => "kvm-clock\n".to_owned(),
                path if path.ends_with("enabled") => "always [madvise] never\n".to_owned(),
                _ => return None,
            })
        };
        assert_eq!(verdicts(&look(&good, false)), [Yes; 5]);
        let poor = |path: &str| {
            Some(match path {
                "/proc/sys/kernel/osrelease" => "5.15.0\n".to_owned(),
                "/proc/swaps" => "Filename Type Size Used Priority\n/swap file 1 0 -2\n".to_owned(),
                "/proc/sys/kernel/perf_event_paranoid" => "3\n".to_owned(),
                path if path.ends_with("clocksource") => "acpi_pm\n".to_owned(),
                path if path.ends_with("enabled") => "[always] madvise never\n".to_owned(),
                _ => return None,
            })
        };
        let findings = look(&poor, false);
        assert_eq!(verdicts(&findings), [Note; 5]);
        assert!(findings.iter().all(|finding| !finding.remedy.is_empty()), "{findings:?}");
        assert_eq!(verdicts(&look(&|_| None, true)), [Note], "a kernel without files is no reason to fall over");
    }

    #[test]
    fn what_a_configuration_asks_for_has_to_be_there() {
        let why = "io_uring_setup failed: EPERM. Likely cause: seccomp. Fix: let it through";
        let (asked, else_epoll) =
            (without_io_uring(why, DriverChoice::Uring), without_io_uring(why, DriverChoice::Auto));
        assert_eq!((asked.verdict, else_epoll.verdict), (No, Note));
        assert_eq!((else_epoll.says.ends_with("seccomp."), else_epoll.remedy.as_str()), (true, "let it through"));
        let read = |_: &str| None;
        assert_eq!(walls(&read, Walls::Required)[1].verdict, No);
        assert_eq!(walls(&read, Walls::Auto)[1].verdict, Note);
    }
}
