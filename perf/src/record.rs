//! A recording: samples of a process's threads, those that begin later and its children, until it is told to end.
//!
//! Records come from many rings, each in its own order, and what a sample means depends on what was mapped before it. So
//! they are sorted by time, and worked off up to a moment that all rings are surely read beyond.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::time::Duration;

use rustix::process::Resource;

use crate::events::{
    Failure, Grant, Happened, RING_BYTES_MIN, Ring, STACK_BYTES, STACK_BYTES_MAX, Settings, Unwind, What,
};
use crate::folded::Folded;
use crate::frame::{Frame, Mark, Place, Stacks};
use crate::refusal::{self, Refusal};
use crate::short::short;
use crate::space::Spaces;
use crate::symbols::{Names, kernel_names_are_shown};
use crate::target;

/// Events at most if there is one per thread and core; above, there is one per thread, and new threads are followed.
pub const EVENTS_MAX: usize = 1024;
/// Memory of all rings together, as long as none gets too small.
const RINGS_BYTES: usize = 64 << 20;
/// A ring's memory at most: at a thousand samples per second it is a quarter full when it is read.
const RING_BYTES_MAX: usize = 1 << 20;
/// How often rings are read.
pub const DRAIN_EVERY: Duration = Duration::from_millis(20);
/// A record is in its ring this long after its time at the latest.
const SETTLED_NS: u64 = 5_000_000;
/// Descriptors for everything but events.
const FILES_RESERVED: u64 = 256;
/// A module whose functions have no names is told if it has at least this share of the frames' samples.
const UNNAMED_SHARE: f64 = 0.01;

/// What is recorded, and how.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The process.
    pub pid: i32,
    /// Samples per second of a thread that runs.
    pub frequency: u64,
    /// How callers are found.
    pub unwind: Unwind,
    /// How much of the stack is carried away, in whole KiB: [`crate::events::STACK_BYTES`], up to
    /// [`crate::events::STACK_BYTES_MAX`].
    pub stack_bytes: u32,
    /// Whether the process is about to load its program, and nothing before that is wanted.
    pub on_exec: bool,
    /// Events at most if there is one per thread and core: [`EVENTS_MAX`].
    pub events_max: usize,
}

impl Request {
    /// A process that runs, at a rate, with everything else as usual.
    pub fn new(pid: i32, frequency: u64) -> Request {
        let (unwind, stack_bytes) = (Unwind::Dwarf, STACK_BYTES);
        Request { pid, frequency, unwind, stack_bytes, on_exec: false, events_max: EVENTS_MAX }
    }
}

/// Samples while they come.
pub struct Recording {
    request: Request,
    settings: Settings,
    grant: Grant,
    rings: Vec<Ring>,
    pending: Vec<Happened>,
    work: Work,
}

/// What records have become so far.
#[derive(Default)]
struct Work {
    spaces: Spaces,
    stacks: Stacks,
    /// Samples by thread's name and stack.
    counts: HashMap<(u32, u32), u64>,
    names: Vec<String>,
    /// The name's number, by thread.
    threads: HashMap<i32, u32>,
    stack: Vec<Frame>,
    samples: u64,
    lost: u64,
}

impl Recording {
    /// Begins: on all threads that there are, and through them on all that they will begin.
    ///
    /// # Errors
    /// There is no such process, or the kernel does not let us.
    pub fn start(request: Request) -> Result<Recording, Refusal> {
        let cores = cores();
        let threads = target::threads(request.pid)?.len();
        let inherit = threads * cores.len() <= request.events_max;
        let events = if inherit { threads * cores.len() } else { threads };
        raise_file_limit(events as u64 + FILES_RESERVED);
        let mut settings = Settings {
            frequency: request.frequency,
            unwind: request.unwind,
            stack_bytes: request.stack_bytes,
            kernel: true,
            cycles: true,
            inherit,
            tracking: true,
            on_exec: request.on_exec,
            ring_bytes: (RINGS_BYTES / events.max(1)).clamp(RING_BYTES_MIN, RING_BYTES_MAX),
        };
        let (rings, grant) = loop {
            match open_all(request.pid, &settings, &cores) {
                Ok(opened) => break opened,
                // A user may lock only so much memory.
                Err(failure) if failure.is_ring() && settings.ring_bytes > RING_BYTES_MIN => settings.ring_bytes /= 2,
                Err(failure) => return Err(failure.refusal(request.pid)),
            }
        };
        let mut work = Work::default();
        // After the events are open: nothing that is mapped in between is missed.
        work.spaces.read(request.pid);
        for tid in target::threads(request.pid).unwrap_or_default() {
            let name = target::thread_name(request.pid, tid).unwrap_or_else(|| format!("thread {tid}"));
            work.name(tid, name);
        }
        Ok(Recording { request, settings, grant, rings, pending: Vec::new(), work })
    }

    /// What the kernel granted.
    pub fn grant(&self) -> Grant {
        self.grant
    }

    /// Samples so far.
    pub fn samples(&self) -> u64 {
        self.work.samples
    }

    /// Takes what has come. To be called every [`DRAIN_EVERY`].
    pub fn step(&mut self) {
        let settled = now_ns().saturating_sub(SETTLED_NS);
        self.drain();
        self.pending.sort_by_key(|happened| happened.time);
        let ready = self.pending.partition_point(|happened| happened.time <= settled);
        for happened in self.pending.drain(..ready) {
            self.work.take(happened);
        }
    }

    fn drain(&mut self) {
        let mut begun = Vec::new();
        for ring in &mut self.rings {
            ring.drain(|happened| {
                if let What::Forked { parent_pid, .. } = happened.what {
                    begun.push((happened.pid, happened.tid, parent_pid));
                }
                self.pending.push(happened);
            });
        }
        if !self.settings.inherit {
            begun.into_iter().for_each(|(pid, tid, parent_pid)| self.follow(pid, tid, parent_pid));
        }
    }

    /// Samples a thread that was begun by one that is sampled.
    fn follow(&mut self, pid: i32, tid: i32, parent_pid: i32) {
        // One that cannot be opened has ended, or there are too many: it is missed, like what it begins.
        let Ok((ring, _)) = Ring::open(&self.settings, Some(self.grant), tid, None) else { return };
        self.rings.push(ring);
        // What it did before, such as taking a name or loading a program, nobody has told.
        let mut tell = |what| self.pending.push(Happened { time: now_ns(), pid, tid, what });
        let Some(name) = target::thread_name(pid, tid) else { return };
        if pid == parent_pid {
            return tell(What::Named(name.into()));
        }
        tell(What::Executed(name.into()));
        target::maps(pid).unwrap_or_default().into_iter().for_each(|mapped| tell(What::Mapped(mapped)));
    }

    /// Ends, with everything that has come.
    pub fn finish(mut self) -> Profile {
        self.drain();
        self.rings.clear();
        self.pending.sort_by_key(|happened| happened.time);
        for happened in self.pending.drain(..) {
            self.work.take(happened);
        }
        Profile { request: self.request, grant: self.grant, work: self.work }
    }
}

/// One event per thread and core, or one per thread.
fn open_all(pid: i32, settings: &Settings, cores: &[usize]) -> Result<(Vec<Ring>, Grant), Failure> {
    let cores: Vec<Option<usize>> =
        if settings.inherit { cores.iter().copied().map(Some).collect() } else { vec![None] };
    let (mut rings, mut grant, mut seen) = (Vec::new(), None, Vec::new());
    let mut gone = None;
    // Threads that were begun in the meantime, by one that had no event yet, are found in the next round.
    loop {
        let threads = target::threads(pid).unwrap_or_default();
        let fresh: Vec<i32> = threads.into_iter().filter(|tid| !seen.contains(tid)).collect();
        if fresh.is_empty() {
            break;
        }
        for (&tid, &core) in fresh.iter().flat_map(|tid| cores.iter().map(move |core| (tid, core))) {
            match Ring::open(settings, grant, tid, core) {
                Ok((ring, granted)) => {
                    grant = Some(granted);
                    rings.push(ring);
                }
                Err(failure) if failure.is_gone() => gone = Some(failure),
                Err(failure) => return Err(failure),
            }
        }
        seen.extend(fresh);
    }
    match (grant, gone) {
        (Some(grant), _) => Ok((rings, grant)),
        (None, Some(failure)) => Err(failure),
        (None, None) => Err(Failure::Open(rustix::io::Errno::SRCH.into())),
    }
}

impl Work {
    fn name(&mut self, tid: i32, name: String) {
        let known = self.names.iter().position(|known| *known == name);
        let number = known.unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        self.threads.insert(tid, number as u32);
    }

    fn take(&mut self, happened: Happened) {
        let Happened { pid, tid, what, .. } = happened;
        match what {
            What::Sample(sample) => {
                self.spaces.unwind(pid, &sample, &mut self.stack);
                if !self.threads.contains_key(&tid) {
                    let name = target::thread_name(pid, tid).unwrap_or_else(|| format!("thread {tid}"));
                    self.name(tid, name);
                }
                let stack = self.stacks.number(&self.stack);
                *self.counts.entry((self.threads[&tid], stack)).or_default() += 1;
                self.samples += 1;
            }
            What::Mapped(mapped) => self.spaces.add(pid, &mapped),
            What::Named(name) => self.name(tid, name.to_string_lossy().into_owned()),
            What::Executed(name) => {
                self.spaces.clear(pid);
                self.name(tid, name.to_string_lossy().into_owned());
            }
            What::Forked { parent_pid, parent_tid } => {
                if parent_pid != pid {
                    self.spaces.copy(parent_pid, pid);
                }
                if let Some(&name) = self.threads.get(&parent_tid) {
                    self.threads.insert(tid, name);
                }
            }
            What::Exited => {}
            What::Lost(records) => self.lost += records,
        }
    }
}

/// A finished recording.
pub struct Profile {
    request: Request,
    grant: Grant,
    work: Work,
}

impl Profile {
    /// All samples.
    pub fn samples(&self) -> u64 {
        self.work.samples
    }

    /// Records that found no room in a ring.
    pub fn lost(&self) -> u64 {
        self.work.lost
    }

    /// What the kernel granted.
    pub fn grant(&self) -> Grant {
        self.grant
    }

    /// Samples whose stacks end in this mark.
    pub fn marked(&self, mark: Mark) -> u64 {
        let has = |stack: u32| self.work.stacks.get(stack).last() == Some(&Frame::mark(mark));
        self.work.counts.iter().filter(|((_, stack), _)| has(*stack)).map(|(_, count)| count).sum()
    }

    /// Names for all frames.
    pub fn names(&self) -> Names {
        let mut names = Names::default();
        let stacks = self.work.counts.keys().map(|&(_, stack)| self.work.stacks.get(stack));
        names.look_up(self.work.spaces.modules().all(), stacks.flat_map(|stack| stack.iter().copied()), None);
        names
    }

    /// Stacks by names, with the threads' names as roots or without; functions' names without their types' arguments or
    /// with.
    pub fn fold(&self, names: &Names, with_threads: bool, full_names: bool) -> Folded {
        let mut folded = Folded::default();
        for (&(thread, stack), &count) in &self.work.counts {
            let root = with_threads.then(|| self.work.names[thread as usize].as_str());
            let frames = self.work.stacks.get(stack);
            if full_names {
                folded.add(root.into_iter().chain(names.functions(frames)), count);
            } else {
                let functions: Vec<_> = names.functions(frames).map(short).collect();
                folded.add(root.into_iter().chain(functions.iter().map(|name| &**name)), count);
            }
        }
        folded
    }

    /// What a reader of the profile should know, each with its remedy.
    pub fn notes(&self, names: &Names) -> Vec<String> {
        let mut notes = Vec::new();
        let kernel_seen = self.work.counts.keys().any(|&(_, stack)| {
            self.work.stacks.get(stack).first().is_some_and(|frame| matches!(frame.place(), Place::Kernel(_)))
        });
        if !self.grant.kernel {
            let paranoid = refusal::paranoid().map_or_else(|| "unknown".to_owned(), |value| value.to_string());
            notes.push(format!(
                "time in the kernel is not shown: perf_event_paranoid is {paranoid}; allow it with \
                 `sysctl kernel.perf_event_paranoid=1`, or run with CAP_PERFMON"
            ));
        } else if kernel_seen && !kernel_names_are_shown() {
            notes.push(
                "functions of the kernel have no names: /proc/kallsyms hides them; run with CAP_SYSLOG, or allow it with \
                 `sysctl kernel.kptr_restrict=0`"
                    .to_owned(),
            );
        }
        for (name, has_some) in self.unnamed(names) {
            let (what, which) =
                if has_some { ("only exported symbols", "others") } else { ("no symbols", "functions") };
            notes.push(format!(
                "{name} has {what}: its {which} show as [{name}]; install its debug package, or build it without stripping"
            ));
        }
        let share = |samples: u64| samples as f64 * 100.0 / self.samples().max(1) as f64;
        let truncated = self.marked(Mark::Truncated);
        if truncated > 0 {
            let remedy = if self.request.stack_bytes < STACK_BYTES_MAX { "; raise --stack-kib" } else { "" };
            notes.push(format!(
                "{truncated} stacks ({:.1} %) are deeper than the {} KiB that were copied of them, and begin with \
                 [truncated]{remedy}",
                share(truncated),
                self.request.stack_bytes >> 10
            ));
        }
        let incomplete = self.marked(Mark::Incomplete);
        if incomplete > 0 {
            let remedy = match self.request.unwind {
                Unwind::Dwarf => "unwind tables are missing or wrong there",
                Unwind::FramePointers => "code without frame pointers is among them; --unwind dwarf does without",
            };
            notes.push(format!("{incomplete} stacks ({:.1} %) begin with [incomplete]: {remedy}", share(incomplete)));
        }
        if self.lost() > 0 {
            notes.push(format!(
                "{} records were lost because they came faster than they were read; lower --frequency",
                self.lost()
            ));
        }
        notes
    }

    /// Modules without names for functions that make a difference, each once, and whether they have names for others.
    fn unnamed(&self, names: &Names) -> BTreeMap<String, bool> {
        let (mut samples, mut named) = (HashMap::<u16, u64>::new(), HashSet::new());
        for (&(_, stack), &count) in &self.work.counts {
            let mut modules = HashSet::new();
            for &frame in self.work.stacks.get(stack).iter() {
                match (names.unnamed(frame), frame.place()) {
                    (Some(module), _) => modules.insert(module),
                    (None, Place::Module(module, _)) => named.insert(module),
                    _ => false,
                };
            }
            modules.into_iter().for_each(|module| *samples.entry(module).or_default() += count);
        }
        let least = self.samples() as f64 * UNNAMED_SHARE;
        let told = samples.into_iter().filter(|&(_, count)| count as f64 >= least);
        let told = told.map(|(number, _)| (self.work.spaces.modules().get(number), named.contains(&number)));
        told.filter(|(module, _)| !module.has_symbols).map(|(module, has)| (module.name.clone(), has)).collect()
    }
}

/// Now, by the clock of records.
pub fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The cores that run.
fn cores() -> Vec<usize> {
    let text = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let cores = read_cores(text.trim());
    if cores.is_empty() { (0..std::thread::available_parallelism().map_or(1, usize::from)).collect() } else { cores }
}

/// Reads lists such as `0-3,6`.
fn read_cores(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

/// Lets this process have so many descriptors, as far as it may.
fn raise_file_limit(files: u64) {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < files) {
        limit.current = limit.maximum.map_or(Some(files), |maximum| Some(maximum.min(files)));
        // Where it stays too low, opening says so.
        let _stays = rustix::process::setrlimit(Resource::Nofile, limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(read_cores("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(read_cores("0"), [0]);
        assert_eq!(read_cores(""), Vec::<usize>::new());
        assert!(!cores().is_empty());
    }

    #[test]
    fn a_thread_has_the_name_of_who_began_it_until_it_has_its_own() {
        let mut work = Work::default();
        let happened = |tid, what| Happened { time: 0, pid: 1, tid, what };
        work.name(1, "main".into());
        work.take(happened(2, What::Forked { parent_pid: 1, parent_tid: 1 }));
        assert_eq!(work.names[work.threads[&2] as usize], "main");
        work.take(happened(2, What::Named("worker".into())));
        assert_eq!(work.names[work.threads[&2] as usize], "worker");
        work.take(happened(0, What::Lost(3)));
        assert_eq!((work.lost, work.samples), (3, 0));
    }
}
