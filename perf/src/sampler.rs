//! Threads of this process, watched all the time and cheaply: what did they do in the last minutes?
//!
//! A thread of its own, at low priority, unwinds samples as they come and keeps addresses only. Names are looked up when
//! somebody asks. All memory is bounded: see the constants.
//!
//! ```text
//! sampled threads ──► kernel ──► rings ──(4 times a second)──► kept samples ──(asked)──► names ──► Folded
//! ```

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::events::{FREQUENCY_MAX, Grant, Ring, STACK_BYTES_MAX, STACK_BYTES_MIN, Sample, Settings, Unwind, What};
use crate::folded::Folded;
use crate::frame::{Frame, Mark, Stacks};
use crate::record::{DRAIN_EVERY, now_ns};
use crate::refusal::{Reason, Refusal};
use crate::short::short;
use crate::space::Spaces;
use crate::symbols::{Helper, Names};

/// Samples per second of a thread that runs, if nothing else is asked for: not in step with what happens every tenth or
/// hundredth of a second.
pub const FREQUENCY: u64 = 19;
/// How much of a stack is carried away, if nothing else is asked for: futures within futures have large frames, and what
/// a task is stands at the outer end.
pub const STACK_BYTES: u32 = 32 << 10;
/// How long samples are kept, if nothing else is asked for.
pub const KEEP: Duration = Duration::from_secs(600);
/// Samples that are kept at most, 16 bytes each. The oldest go first.
pub const SAMPLES_MAX: usize = 1 << 18;
/// Frames of all distinct stacks that are kept at most, 8 bytes each. Beyond, the older half of the samples goes.
pub const STACK_FRAMES_MAX: usize = 1 << 19;
/// Frames whose names are kept at most for the next who asks. Beyond, all are forgotten.
pub const NAMES_MAX: usize = 1 << 15;
/// A burst is this long at most.
pub const BURST_MAX: Duration = Duration::from_secs(60);
/// How often the rings are read, at a low rate.
const READ_EVERY: Duration = Duration::from_millis(250);
/// At a high rate, they are read as soon as there are about so many samples of a thread: the largest ring
/// has room for them twice if stacks are small.
const READ_SAMPLES: f64 = 12.0;
/// Samples that a ring has room for between two reads, as a multiple of those that are expected.
const RING_ROOM: u64 = 2;
/// A ring's memory at most.
const RING_BYTES_MAX: usize = 1 << 20;
/// Mappings are read again when a stack did not fit them, but not more often than this.
const MAPS_EVERY_NS: u64 = 10_000_000_000;
/// The sampling thread's niceness: everybody else goes first.
const NICENESS: i32 = 19;

/// A class for a stack by its functions, outermost first; it is shown below the thread's label.
pub type Classify = fn(&[&str]) -> Option<String>;

/// What is sampled, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads of this process by their kernel numbers, with what they are called in pictures.
    pub threads: Vec<(i32, String)>,
    /// Samples per second of a thread that runs.
    pub frequency: u64,
    /// Samples are taken for the first of these times out of each of the second; without, all the time. A thread that is
    /// sampled pays some 2 us whenever it goes to sleep or wakes, for the kernel's timer: a tenth of what a server does that
    /// sleeps ten thousand times a second, and a two-hundredth if it is sampled a second in twenty.
    pub window: Option<(Duration, Duration)>,
    /// How much of a stack is carried away, in whole KiB.
    pub stack_bytes: u32,
    /// How long samples are kept.
    pub keep: Duration,
    /// Whether time in the kernel is wanted, where it is allowed.
    pub kernel: bool,
    /// Gives stacks a class.
    pub classify: Option<Classify>,
    /// Whether functions are shown with the types that they are made for. Classes are given by full names in any case.
    pub full_names: bool,
    /// Looks up names in a process of its own. Without, this process grows by what that takes, once.
    pub helper: Option<Helper>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            threads: Vec::new(),
            frequency: FREQUENCY,
            window: None,
            stack_bytes: STACK_BYTES,
            keep: KEEP,
            kernel: true,
            classify: None,
            full_names: false,
            helper: None,
        }
    }
}

/// What a sampler holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Samples that are kept.
    pub samples: usize,
    /// Distinct stacks among them.
    pub stacks: usize,
    /// Frames of these stacks.
    pub frames: usize,
    /// Records that found no room since the start.
    pub lost: u64,
}

/// A running sampler; dropping it ends it.
pub struct Sampler {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    options: Options,
    grant: Grant,
    state: Mutex<State>,
    names: Mutex<Names>,
    /// Held by whoever samples a burst.
    burst: Mutex<()>,
    is_ending: AtomicBool,
}

struct Kept {
    time: u64,
    stack: u32,
    thread: u32,
}

#[derive(Default)]
struct State {
    spaces: Spaces,
    maps_read: u64,
    stacks: Stacks,
    kept: VecDeque<Kept>,
    lost: u64,
}

/// Samples of stacks, by thread and stack.
type Counts = HashMap<(u32, Arc<[Frame]>), u64>;

impl Sampler {
    /// Begins to sample.
    ///
    /// # Errors
    /// The kernel does not let us, or a thread does not exist.
    pub fn start(options: Options) -> Result<Sampler, Refusal> {
        if options.frequency == 0 || options.frequency > FREQUENCY_MAX {
            let why = format!("{} samples per second: expected 1 to {FREQUENCY_MAX}", options.frequency);
            return Err(Refusal::new(Reason::Unsupported, why));
        }
        if !(STACK_BYTES_MIN..=STACK_BYTES_MAX).contains(&options.stack_bytes) {
            let why =
                format!("{} bytes of each stack: expected {STACK_BYTES_MIN} to {STACK_BYTES_MAX}", options.stack_bytes);
            return Err(Refusal::new(Reason::Unsupported, why));
        }
        let (rings, grant) = open(&options, options.frequency, read_every(options.frequency), None)?;
        let mut state = State::default();
        state.read_maps();
        let (names, burst) = (Mutex::default(), Mutex::default());
        let shared =
            Shared { options, grant, state: Mutex::new(state), names, burst, is_ending: AtomicBool::new(false) };
        let shared = Arc::new(shared);
        let thread = thread::Builder::new().name("annulus-perf".into()).spawn({
            let shared = shared.clone();
            move || shared.run(rings)
        });
        let failed = |error| Refusal::new(Reason::Busy, format!("the thread that samples cannot be started: {error}"));
        Ok(Sampler { thread: Some(thread.map_err(failed)?), shared })
    }

    /// What the kernel granted.
    pub fn grant(&self) -> Grant {
        self.shared.grant
    }

    /// What is held now.
    pub fn figures(&self) -> Figures {
        let state = lock(&self.shared.state);
        let (stacks, frames) = (state.stacks.len(), state.stacks.frames());
        Figures { samples: state.kept.len(), stacks, frames, lost: state.lost }
    }

    /// The samples of the last so long, with names. Takes a tenth of a second to seconds where names are not known yet:
    /// not to be called by a thread that serves others.
    pub fn folded(&self, last: Duration) -> Folded {
        let since = now_ns().saturating_sub(u64::try_from(last.as_nanos()).unwrap_or(u64::MAX));
        let mut counts = Counts::new();
        {
            let state = lock(&self.shared.state);
            for kept in state.kept.iter().rev().take_while(|kept| kept.time >= since) {
                *counts.entry((kept.thread, state.stacks.get(kept.stack).clone())).or_default() += 1;
            }
        }
        self.shared.fold(&counts)
    }

    /// Samples at another rate for a while, which it takes to return. Samples of the usual rate go on besides.
    ///
    /// # Errors
    /// Another burst is under way, the rate or duration is out of range, or the kernel does not let us.
    pub fn burst(&self, frequency: u64, duration: Duration) -> Result<Folded, Refusal> {
        if frequency == 0 || frequency > FREQUENCY_MAX || duration > BURST_MAX {
            let why = format!(
                "a burst of {frequency} samples per second for {} s: expected 1 to {FREQUENCY_MAX}, and at most {} s",
                duration.as_secs(),
                BURST_MAX.as_secs()
            );
            return Err(Refusal::new(Reason::Unsupported, why));
        }
        let Ok(_alone) = self.shared.burst.try_lock() else {
            return Err(Refusal::new(Reason::Busy, "another burst is under way; try again when it is over"));
        };
        let burst_every = read_every(frequency).min(DRAIN_EVERY);
        let (mut rings, _) = open(&self.shared.options, frequency, burst_every, Some(self.shared.grant))?;
        let mut counts = Counts::new();
        let end = now_ns() + u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        loop {
            let now = now_ns();
            thread::sleep(burst_every.min(Duration::from_nanos(end.saturating_sub(now))));
            let mut state = lock(&self.shared.state);
            let mut stack = Vec::new();
            for (thread, ring) in &mut rings {
                ring.drain(|happened| {
                    if let What::Sample(sample) = happened.what {
                        state.unwind(&sample, happened.time, &mut stack);
                        *counts.entry((*thread, stack.as_slice().into())).or_default() += 1;
                    }
                });
            }
            if now >= end {
                break;
            }
        }
        drop(rings);
        Ok(self.shared.fold(&counts))
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _its_panic_is_told_by_the_hook = thread.join();
        }
    }
}

impl Shared {
    /// The sampling thread.
    fn run(&self, mut rings: Vec<(u32, Ring)>) {
        // For this thread alone: on Linux, niceness belongs to threads (setpriority(2), under BUGS).
        let _stays_as_it_is = rustix::process::setpriority_process(None, NICENESS);
        let keep = u64::try_from(self.options.keep.as_nanos()).unwrap_or(u64::MAX);
        loop {
            self.sample(&mut rings, self.options.window.map(|(open, _)| Instant::now() + open));
            let Some((open, every)) = self.options.window.filter(|_| !self.is_ending()) else { return };
            // Closed, so that the threads pay nothing.
            rings.clear();
            let next = Instant::now() + every.saturating_sub(open);
            while let Some(left) = next.checked_duration_since(Instant::now()).filter(|_| !self.is_ending()) {
                thread::park_timeout(left);
            }
            lock(&self.state).forget(now_ns().saturating_sub(keep));
            // Threads may have ended. What the kernel has granted once it may grant again later.
            rings = reopened(&self.options, self.grant);
        }
    }

    fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }

    /// Takes samples until a moment, or the end.
    fn sample(&self, rings: &mut [(u32, Ring)], until: Option<Instant>) {
        let read_every = read_every(self.options.frequency);
        let keep = u64::try_from(self.options.keep.as_nanos()).unwrap_or(u64::MAX);
        let mut stack = Vec::new();
        while !self.is_ending() && until.is_none_or(|until| Instant::now() < until) {
            let left = until.map_or(read_every, |until| until.saturating_duration_since(Instant::now()));
            thread::park_timeout(read_every.min(left));
            for (thread, ring) in rings.iter_mut() {
                let mut state = lock(&self.state);
                ring.drain(|happened| match happened.what {
                    What::Sample(sample) => {
                        state.unwind(&sample, happened.time, &mut stack);
                        state.keep(happened.time, *thread, &stack);
                    }
                    What::Lost(records) => state.lost += records,
                    _ => {}
                });
            }
            lock(&self.state).forget(now_ns().saturating_sub(keep));
        }
    }

    fn fold(&self, counts: &Counts) -> Folded {
        let modules = lock(&self.state).spaces.modules().all().to_vec();
        let mut names = lock(&self.names);
        if names.len() > NAMES_MAX {
            *names = Names::default();
        }
        names.look_up(
            &modules,
            counts.keys().flat_map(|(_, stack)| stack.iter().copied()),
            self.options.helper.as_ref(),
        );
        let mut folded = Folded::default();
        for ((thread, stack), &count) in counts {
            let functions: Vec<&str> = names.functions(stack).collect();
            let class = self.options.classify.and_then(|classify| classify(&functions));
            let functions = without_beginning(functions);
            let label = self.options.threads[*thread as usize].1.as_str();
            let roots = [label].into_iter().chain(class.as_deref());
            if self.options.full_names {
                folded.add(roots.chain(functions), count);
            } else {
                let functions: Vec<_> = functions.into_iter().map(short).collect();
                folded.add(roots.chain(functions.iter().map(|name| &**name)), count);
            }
        }
        folded
    }
}

/// What is below the standard library's mark, as its own backtraces have it: outside of that is how a thread begins, which is
/// the same for all.
fn without_beginning(mut functions: Vec<&str>) -> Vec<&str> {
    if let Some(at) = functions.iter().position(|function| function.contains("__rust_begin_short_backtrace")) {
        functions.drain(..=at);
    }
    functions
}

impl State {
    fn read_maps(&mut self) {
        self.spaces.read(own());
        self.maps_read = now_ns();
    }

    fn unwind(&mut self, sample: &Sample, time: u64, stack: &mut Vec<Frame>) {
        self.spaces.unwind(own(), sample, stack);
        // Perhaps a library was loaded.
        if stack.last() == Some(&Frame::mark(Mark::Incomplete)) && time > self.maps_read + MAPS_EVERY_NS {
            self.read_maps();
            self.spaces.unwind(own(), sample, stack);
        }
    }

    fn keep(&mut self, time: u64, thread: u32, stack: &[Frame]) {
        if self.kept.len() == SAMPLES_MAX {
            self.kept.pop_front();
        }
        if self.stacks.frames() + stack.len() > STACK_FRAMES_MAX {
            self.kept.drain(..self.kept.len() / 2);
            self.rebuild();
        }
        let stack = self.stacks.number(stack);
        self.kept.push_back(Kept { time, stack, thread });
    }

    /// Lets go of samples from before, and of their stacks when most are of no use any more.
    fn forget(&mut self, before: u64) {
        let old = self.kept.iter().take_while(|kept| kept.time < before).count();
        self.kept.drain(..old);
        if self.stacks.len() > 2 * self.kept.len() + STACKS_FEW {
            self.rebuild();
        }
    }

    /// Keeps the stacks of kept samples only.
    fn rebuild(&mut self) {
        let mut stacks = Stacks::default();
        for kept in &mut self.kept {
            kept.stack = stacks.number(self.stacks.get(kept.stack));
        }
        self.stacks = stacks;
    }
}

fn read_every(frequency: u64) -> Duration {
    READ_EVERY.min(Duration::from_secs_f64(READ_SAMPLES / frequency as f64))
}

/// So few stacks without samples are no reason to clean up.
const STACKS_FEW: usize = 1024;

fn own() -> i32 {
    std::process::id() as i32
}

/// A poisoned lock only means that a sample was lost half way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A ring per thread, with the thread's place in the options.
fn open(
    options: &Options,
    frequency: u64,
    read_every: Duration,
    grant: Option<Grant>,
) -> Result<(Vec<(u32, Ring)>, Grant), Refusal> {
    let settings = settings(options, frequency, read_every);
    let (mut rings, mut grant) = (Vec::new(), grant);
    for (at, (tid, _)) in options.threads.iter().enumerate() {
        let (ring, granted) = Ring::open(&settings, grant, *tid, None).map_err(|failure| refusal(&failure, *tid))?;
        grant = Some(granted);
        rings.push((at as u32, ring));
    }
    let grant = grant.ok_or_else(|| Refusal::new(Reason::NoProcess, "there is no thread to sample"))?;
    Ok((rings, grant))
}

/// The rings of the threads that are still there.
fn reopened(options: &Options, grant: Grant) -> Vec<(u32, Ring)> {
    let settings = settings(options, options.frequency, read_every(options.frequency));
    let threads = options.threads.iter().enumerate();
    threads
        .filter_map(|(at, (tid, _))| Some((at as u32, Ring::open(&settings, Some(grant), *tid, None).ok()?.0)))
        .collect()
}

fn settings(options: &Options, frequency: u64, read_every: Duration) -> Settings {
    let millis = u64::try_from(read_every.as_millis()).unwrap_or(u64::MAX);
    let expected = (frequency * millis).div_ceil(1000) + 1;
    let ring_bytes = usize::try_from(expected * RING_ROOM * u64::from(options.stack_bytes)).unwrap_or(RING_BYTES_MAX);
    Settings {
        frequency,
        unwind: Unwind::Dwarf,
        // The kernel takes multiples of eight.
        stack_bytes: options.stack_bytes >> 10 << 10,
        kernel: options.kernel,
        // The timer: it costs the same everywhere, and leaves the counters to whoever needs them.
        cycles: false,
        inherit: false,
        tracking: false,
        on_exec: false,
        ring_bytes: ring_bytes.min(RING_BYTES_MAX),
    }
}

fn refusal(failure: &crate::events::Failure, tid: i32) -> Refusal {
    if failure.is_gone() {
        return Refusal::new(Reason::NoProcess, format!("there is no thread {tid} in this process"));
    }
    failure.refusal(own())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(frames: usize, from: u64) -> Vec<Frame> {
        (0..frames as u64).map(|at| Frame::module(0, from + at)).collect()
    }

    #[test]
    fn old_samples_and_their_stacks_are_let_go() {
        let mut state = State::default();
        for at in 0..4096 {
            state.keep(at, 0, &stack(2, at * 2));
        }
        state.forget(4000);
        assert_eq!((state.kept.len(), state.stacks.len(), state.stacks.frames()), (96, 96, 192));
        assert_eq!(state.stacks.get(state.kept[0].stack)[0], Frame::module(0, 8000));
    }

    #[test]
    fn neither_samples_nor_stacks_grow_without_end() {
        let mut state = State::default();
        for at in 0..SAMPLES_MAX as u64 + 10 {
            state.keep(at, 0, &stack(1, 0));
        }
        assert_eq!((state.kept.len(), state.kept[0].time), (SAMPLES_MAX, 10));
        let mut state = State::default();
        for at in 0..5000 {
            state.keep(at, 0, &stack(200, at * 200));
            assert!(state.stacks.frames() <= STACK_FRAMES_MAX);
        }
        assert!(state.kept.len() > 1000, "{}", state.kept.len());
    }

    #[test]
    fn the_way_a_thread_begins_is_left_out() {
        let stack = vec!["clone3", "std::sys::backtrace::__rust_begin_short_backtrace", "work", "more"];
        assert_eq!(without_beginning(stack), ["work", "more"]);
        assert_eq!(without_beginning(vec!["clone3", "foreign"]), ["clone3", "foreign"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let reason = |options| Sampler::start(options).err().map(|refusal: Refusal| refusal.reason);
        assert_eq!(reason(Options { frequency: 0, ..Options::default() }), Some(Reason::Unsupported));
        assert_eq!(reason(Options::default()), Some(Reason::NoProcess));
    }
}
