//! What this process is granted by whoever started it: cores, files, locked memory, memory.

use annulus_engine::plan::{Grants, Plan, Request};
use annulus_engine::raise_file_limit;
use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::image::plan::{ImagePlan, Knobs, Machine};

/// Descriptors that are not connections: rings, listeners, standard streams, files.
const FILES_RESERVED: u64 = 64;
/// Fewer connections than this are hardly meant.
const CONNECTIONS_FEW: u64 = 10_000;
/// Fewer than this serve nobody.
const CONNECTIONS_MIN: u64 = 256;
/// What a kernel's own default is, in bytes; sends without a copy count against it.
const LOCKED_BYTES_MIN: u64 = 8 << 20;
/// Bytes for images in work, below which a phone's photograph does not fit.
const IMAGES_BYTES_MIN: u64 = 512 << 20;

/// The cores, and who would get them.
pub(super) fn cores() -> Vec<Finding> {
    let grants = Grants::of_this_process();
    let plan = Plan::new(&grants, &Request { compute: Some(0), ..Request::default() });
    let mut findings = vec![Finding::yes(plan.to_string())];
    findings.extend(quota(&grants));
    findings
}

/// Where a quota grants less than the cores that there are.
fn quota(grants: &Grants) -> Option<Finding> {
    let (quota, cores) = (grants.quota?, grants.cores.len());
    let remedy = "raise the quota (docker --cpus, resources.limits.cpu, CPUQuota=), best to whole cores";
    if quota < 1.0 {
        return Some(Finding::note(
            format!("the control group grants {quota:.2} of a core: a shard pauses whenever that is used up"),
            remedy,
        ));
    }
    (quota < cores as f64).then(|| {
        Finding::note(
            format!("the control group grants {quota:.2} of {cores} cores: no more shards are started"),
            remedy,
        )
    })
}

/// Open files and locked memory.
pub(super) fn limits(read: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
    let files = match raise_file_limit() {
        Ok(files) => of_files(files),
        Err(error) => Finding::note(
            format!("the limit of open files cannot be read: {error}"),
            "see what keeps a process from asking for its own limits: a seccomp profile",
        ),
    };
    let mut findings = vec![files, of_locked_memory(getrlimit(Resource::Memlock).current)];
    if let Some(most) = read("/proc/sys/fs/file-max").and_then(|text| text.trim().parse::<u64>().ok()) {
        findings.extend((most < CONNECTIONS_FEW).then(|| {
            Finding::note(format!("the whole machine may have {most} open files"), "sysctl -w fs.file-max=1000000")
        }));
    }
    findings
}

fn of_files(files: u64) -> Finding {
    let remedy = "raise the hard limit (`ulimit -Hn`), or LimitNOFILE= in the unit file";
    let connections = files.saturating_sub(FILES_RESERVED);
    let says = format!("{files} open files allowed: about {connections} connections");
    match connections {
        ..CONNECTIONS_MIN => Finding::no(says, remedy),
        CONNECTIONS_MIN..CONNECTIONS_FEW => Finding::note(says, remedy),
        CONNECTIONS_FEW.. => Finding::yes(says),
    }
}

/// Pages of a send without a copy are counted (Linux, `mm_account_pinned_pages`); rings are not, since 5.12.
fn of_locked_memory(bytes: Option<u64>) -> Finding {
    match bytes {
        None => Finding::yes("locked memory: any amount"),
        Some(bytes @ LOCKED_BYTES_MIN..) => Finding::yes(format!("locked memory: {} MiB", bytes >> 20)),
        Some(bytes) => Finding::note(
            format!("locked memory: {} KiB, which few large frames can leave without a copy", bytes >> 10),
            "raise it (`ulimit -l`), or LimitMEMLOCK=infinity in the unit file",
        ),
    }
}

/// How many connections so many open files are good for, for a service's first lines.
pub fn capacity(files: u64) -> String {
    match of_files(files) {
        Finding { says, remedy, .. } if remedy.is_empty() => says,
        Finding { says, remedy, .. } => format!("{says}. For more: {remedy}"),
    }
}

/// The memory, and what the image service would do with it.
pub(super) fn memory(knobs: Knobs) -> Vec<Finding> {
    let machine = Machine::of_this_process(Err("not asked".to_owned()), 0);
    let (bytes, limit) = machine.memory;
    vec![of_memory(bytes, &limit.to_string(), &ImagePlan::new(&machine, &knobs))]
}

fn of_memory(bytes: u64, limit: &str, plan: &ImagePlan) -> Finding {
    let plural = if plan.workers == 1 { "" } else { "s" };
    let says = format!(
        "{} MiB ({limit}): images in work may have {} MiB together, with {} worker{plural}",
        bytes >> 20,
        plan.budget_bytes >> 20,
        plan.workers
    );
    match plan.budget_bytes {
        IMAGES_BYTES_MIN.. => Finding::yes(says),
        _ => Finding::note(
            says,
            "for images: raise memory.max (docker --memory, resources.limits.memory, MemoryMax=); see annulus image --plan",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{No, Note, Yes};
    use super::*;

    #[test]
    fn grants_have_verdicts() {
        assert_eq!([200, 1000, 20_000].map(|files| of_files(files).verdict), [No, Note, Yes]);
        assert!(capacity(20_000).ends_with("about 19936 connections") && capacity(1000).contains("LimitNOFILE="));
        let locked = [Some(64 << 10), Some(8 << 20), None];
        assert_eq!(locked.map(|bytes| of_locked_memory(bytes).verdict), [Note, Yes, Yes]);
        let quota = |quota| quota_of(quota).map(|finding| finding.verdict);
        assert_eq!([None, Some(0.5), Some(1.5), Some(4.0)].map(quota), [None, Some(Note), Some(Note), None]);
    }

    fn quota_of(quota: Option<f64>) -> Option<Finding> {
        super::quota(&Grants { cores: vec![0, 1, 2, 3], quota })
    }

    #[test]
    fn little_memory_is_told() {
        let plan = |bytes| {
            let grants = Grants { cores: vec![0, 1], quota: None };
            let memory = (bytes, crate::image::plan::MemoryLimit::Group2);
            let machine = Machine { grants, memory, gpu: Err(String::new()), staging_bytes: 0 };
            of_memory(bytes, "memory.max", &ImagePlan::new(&machine, &Knobs::DEFAULT))
        };
        assert_eq!((plan(512 << 20).verdict, plan(8 << 30).verdict), (Note, Yes));
        assert!(plan(512 << 20).remedy.contains("memory.max"));
    }
}
