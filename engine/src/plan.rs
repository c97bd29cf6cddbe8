//! Which cores the process may use, and who gets them: shards, compute threads, GPU feeders.
//!
//! ```text
//!   affinity mask ─┐
//!   CPU quota ─────┴─► Grants ──(Request)──► Plan   shards [0 1 2]  compute [3]  gpu 0
//! ```
//!
//! Shards and compute threads together use each granted core once. A machine too small for that shares cores,
//! and compute threads then run at idle priority, so that they never delay a shard. [`Plan::new`] is a pure
//! function; [`Grants::of_this_process`] is the only place that looks at the machine.

use std::fmt;

/// What the process was granted by whoever started it.
#[derive(Clone, Debug, PartialEq)]
pub struct Grants {
    /// The cores of the affinity mask, ascending.
    pub cores: Vec<usize>,
    /// CPU seconds per second that the control groups allow, if they limit it.
    pub quota: Option<f64>,
}

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Shards; `None`: as many as fit.
    pub shards: Option<usize>,
    /// Compute threads; `None`: what the shards leave, or a quarter of the cores.
    pub compute: Option<usize>,
    /// GPU lanes.
    pub gpu: usize,
    /// The shards' cores, in order, instead of the first ones of the mask.
    pub pin: Vec<usize>,
    /// Start as many shards as were asked for even if they must share cores; for tests.
    pub oversubscribe: bool,
}

/// Who runs where.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Per shard, its core.
    pub shards: Vec<usize>,
    /// Per compute thread, its core.
    pub compute: Vec<usize>,
    /// GPU lanes.
    pub gpu: usize,
    /// Whether threads are pinned to their cores. Not where a quota is the limit: it grants time on any core, and
    /// all containers of a machine would crowd onto the first ones.
    pub pinned: bool,
    /// Whether compute threads share cores with shards, and so run at idle priority.
    pub compute_is_idle: bool,
    /// Cores that could be used.
    pub granted: usize,
    /// What was not granted as asked, in sentences.
    pub notes: Vec<String>,
}

impl Grants {
    /// Looks at the affinity mask and the control groups, versions 1 and 2.
    pub fn of_this_process() -> Grants {
        let ids = core_affinity::get_core_ids().unwrap_or_default();
        let mut cores: Vec<usize> = ids.into_iter().map(|core| core.id).collect();
        cores.sort_unstable();
        if cores.is_empty() {
            // The mask could not be read; one core is what every process has.
            cores.push(0);
        }
        Grants { cores, quota: quota(|path| std::fs::read_to_string(path).ok()) }
    }

    /// Cores that can be kept busy: the mask, or the quota rounded down where that is less; at least one.
    pub fn usable(&self) -> usize {
        let quota = self.quota.map_or(usize::MAX, |quota| quota as usize);
        self.cores.len().min(quota).max(1)
    }

    fn is_quota_the_limit(&self) -> bool {
        self.usable() < self.cores.len()
    }
}

/// The smallest CPU quota of the control groups that this process is in, from their files as `read` gives them.
fn quota(read: impl Fn(&str) -> Option<String>) -> Option<f64> {
    let membership = read("/proc/self/cgroup")?;
    let groups = membership.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        match controllers {
            "" => Some(("/sys/fs/cgroup", path, true)),
            _ if controllers.split(',').any(|one| one == "cpu") => Some(("/sys/fs/cgroup/cpu", path, false)),
            _ => None,
        }
    });
    let quotas = groups.flat_map(|(mount, path, unified)| {
        let read = &read;
        // A limit of any ancestor holds too. In a container the path may be the host's: then only the root exists.
        ancestors(path).filter_map(move |path| {
            let directory = format!("{mount}{path}");
            if unified {
                let text = read(&format!("{directory}/cpu.max"))?;
                let (quota, period) = text.trim().split_once(' ')?;
                ratio(quota, period)
            } else {
                ratio(
                    &read(&format!("{directory}/cpu.cfs_quota_us"))?,
                    &read(&format!("{directory}/cpu.cfs_period_us"))?,
                )
            }
        })
    });
    quotas.min_by(f64::total_cmp)
}

/// `/a/b`, `/a`, and the empty path of the root.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    let path = path.trim_end_matches('/');
    std::iter::successors(Some(path), |path| path.rfind('/').map(|slash| &path[..slash]))
}

/// `None` for no limit: `max` in version 2, -1 in version 1.
fn ratio(quota: &str, period: &str) -> Option<f64> {
    let quota: f64 = quota.trim().parse().ok()?;
    let period: f64 = period.trim().parse().ok()?;
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

impl Plan {
    /// Shares the granted cores as `request` asks, as far as they go.
    pub fn new(grants: &Grants, request: &Request) -> Plan {
        let granted = grants.usable();
        let mut notes = Vec::new();
        let cores = shard_cores(grants, request, &mut notes);
        let shards = shard_count(granted, cores.len(), request, &mut notes);
        let shards: Vec<usize> = cores.iter().copied().cycle().take(shards).collect();
        let others: Vec<usize> = grants.cores.iter().copied().filter(|core| !shards.contains(core)).collect();
        let spare = granted.saturating_sub(shards.len()).min(others.len());
        let asked = request.compute.unwrap_or(spare.max(1));
        let compute_is_idle = asked > 0 && spare == 0;
        let (from, most) = match compute_is_idle {
            // From the back: the first shard has the listener's odd jobs already.
            true => (shards.iter().rev().copied().collect(), granted),
            false => (others, spare),
        };
        let compute: Vec<usize> = from.iter().copied().cycle().take(asked.min(most)).collect();
        if compute.len() < asked {
            let (count, granted) = (compute.len(), cores_text(granted));
            notes.push(format!("{asked} compute threads asked, {granted} granted for all: {count} will run."));
        }
        let pinned = !request.pin.is_empty() || !grants.is_quota_the_limit();
        Plan { shards, compute, gpu: request.gpu, pinned, compute_is_idle, granted, notes }
    }
}

/// The cores that shards may have, in order.
fn shard_cores(grants: &Grants, request: &Request, notes: &mut Vec<String>) -> Vec<usize> {
    let (granted, refused): (Vec<usize>, Vec<usize>) =
        request.pin.iter().copied().partition(|core| grants.cores.contains(core));
    if !refused.is_empty() {
        let all = list(&grants.cores);
        notes.push(format!("core {} asked, which this process may not use: it has {all}.", list(&refused)));
    }
    if granted.is_empty() { grants.cores[..grants.usable()].to_vec() } else { granted }
}

fn shard_count(granted: usize, cores: usize, request: &Request, notes: &mut Vec<String>) -> usize {
    let limit = granted.min(cores);
    let Some(asked) = request.shards else {
        // Room for compute threads, unless they were declined.
        let compute = request.compute.unwrap_or(granted / 4);
        return if request.pin.is_empty() { limit.saturating_sub(compute).max(1) } else { limit };
    };
    let asked = asked.max(1);
    if asked <= limit {
        return asked;
    }
    let cores = cores_text(limit);
    if request.oversubscribe {
        notes.push(format!("{asked} executors asked, {cores} granted: they share, which is for tests only."));
        return asked;
    }
    notes.push(format!("{asked} executors asked, {cores} granted: {limit} will run."));
    limit
}

fn cores_text(count: usize) -> String {
    if count == 1 { "1 core".to_owned() } else { format!("{count} cores") }
}

/// `0-3, 6`.
fn list(cores: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &core in cores {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => runs.push((core, core)),
        }
    }
    let runs = runs.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    runs.collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = |cores: &[usize]| match (cores.is_empty(), self.pinned) {
            (true, _) => String::new(),
            (false, true) => format!(" on {}", list(cores)),
            (false, false) => " not pinned".to_owned(),
        };
        let idle = if self.compute_is_idle { " (shared cores, idle priority)" } else { "" };
        write!(f, "cores: {} granted; shards {}{}", self.granted, self.shards.len(), on(&self.shards))?;
        write!(f, "; compute {}{}{idle}; gpu {}", self.compute.len(), on(&self.compute), self.gpu)?;
        self.notes.iter().try_for_each(|note| write!(f, "\n  {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(cores: usize, quota: Option<f64>) -> Grants {
        Grants { cores: (0..cores).collect(), quota }
    }

    #[test]
    fn cores_are_shared_as_the_table_says() {
        let auto = Request::default();
        let asks = |shards, compute| Request { shards: Some(shards), compute, ..Request::default() };
        // cores, quota, request; shards, compute, idle, pinned, notes
        let table = [
            (1, None, auto.clone(), (1, 1, true, true, 0)),
            (2, None, auto.clone(), (2, 1, true, true, 0)),
            (4, None, auto.clone(), (3, 1, false, true, 0)),
            (16, None, auto.clone(), (12, 4, false, true, 0)),
            (8, Some(0.5), auto.clone(), (1, 1, true, false, 0)),
            (8, Some(2.9), auto.clone(), (2, 1, true, false, 0)),
            (8, Some(64.0), auto, (6, 2, false, true, 0)),
            (16, None, asks(16, None), (16, 1, true, true, 0)),
            (16, None, asks(16, Some(0)), (16, 0, false, true, 0)),
            (16, None, asks(8, None), (8, 8, false, true, 0)),
            (16, None, asks(8, Some(4)), (8, 4, false, true, 0)),
            (16, None, asks(14, Some(4)), (14, 2, false, true, 1)),
            (2, None, asks(8, Some(8)), (2, 2, true, true, 2)),
            (4, None, asks(0, Some(1)), (1, 1, false, true, 0)),
        ];
        for (cores, quota, request, expected) in table {
            let plan = Plan::new(&grants(cores, quota), &request);
            let got = (plan.shards.len(), plan.compute.len(), plan.compute_is_idle, plan.pinned, plan.notes.len());
            assert_eq!(got, expected, "{cores} cores, quota {quota:?}, {request:?}: {plan}");
            let mut used = [&plan.shards[..], &plan.compute[..]].concat();
            used.sort_unstable();
            used.dedup();
            assert!(plan.compute_is_idle || used.len() == plan.shards.len() + plan.compute.len(), "{plan}");
        }
    }

    #[test]
    fn too_few_cores_are_said_plainly() {
        let request = Request { shards: Some(8), compute: Some(0), ..Request::default() };
        let plan = Plan::new(&grants(2, None), &request);
        let text =
            "cores: 2 granted; shards 2 on 0-1; compute 0; gpu 0\n  8 executors asked, 2 cores granted: 2 will run.";
        assert_eq!(plan.to_string(), text);
        let plan = Plan::new(&grants(1, None), &Request { oversubscribe: true, ..request });
        assert_eq!(plan.shards, [0; 8]);
        assert!(plan.notes[0].contains("8 executors asked, 1 core granted: they share"));
    }

    #[test]
    fn pinning_takes_the_cores_named_and_names_those_it_cannot_have() {
        let request = Request { pin: vec![3, 1, 9], compute: Some(1), ..Request::default() };
        let plan = Plan::new(&grants(4, None), &request);
        assert_eq!((&plan.shards[..], &plan.compute[..], plan.compute_is_idle), (&[3, 1][..], &[0][..], false));
        assert_eq!(plan.notes, ["core 9 asked, which this process may not use: it has 0-3."]);
        let plan = Plan::new(&grants(4, None), &Request { shards: Some(1), pin: vec![2], ..Request::default() });
        assert_eq!((&plan.shards[..], &plan.compute[..]), (&[2][..], &[0, 1, 3][..]));
    }

    #[test]
    fn quotas_of_both_versions_and_of_ancestors_are_found() {
        type Files = &'static [(&'static str, &'static str)];
        let table: [(Files, Option<f64>); 6] = [
            (&[], None),
            (&[("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/cpu.max", "max 100000\n")], None),
            (&[("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/cpu.max", "250000 100000\n")], Some(2.5)),
            (
                &[
                    ("/proc/self/cgroup", "0::/app.slice/web\n"),
                    ("/sys/fs/cgroup/app.slice/web/cpu.max", "400000 100000\n"),
                    ("/sys/fs/cgroup/app.slice/cpu.max", "150000 100000\n"),
                ],
                Some(1.5),
            ),
            (
                &[
                    ("/proc/self/cgroup", "4:cpu,cpuacct:/docker/abc\n3:memory:/x\n"),
                    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "300000\n"),
                    ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
                ],
                Some(3.0),
            ),
            (
                &[
                    ("/proc/self/cgroup", "4:cpu:/\n0::/\n"),
                    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
                    ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
                ],
                None,
            ),
        ];
        for (files, expected) in table {
            let read = |path: &str| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned());
            assert_eq!(quota(read), expected, "{files:?}");
        }
    }

    #[test]
    fn this_process_has_at_least_one_core() {
        let grants = Grants::of_this_process();
        assert!(grants.usable() >= 1 && grants.usable() <= grants.cores.len());
        let plan = Plan::new(&grants, &Request::default());
        assert!(plan.shards.iter().chain(&plan.compute).all(|core| grants.cores.contains(core)));
    }
}
