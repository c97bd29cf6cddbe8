//! Flamegraphs of the running process: of the last minutes, by a sampler that looks for a second out of twenty, and of the next
//! seconds.
//!
//! | query of `/debug/flamegraph` | |
//! |---|---|
//! | `last=60` | what was sampled in the last so many seconds |
//! | `seconds=10&hz=99` | what is sampled from now on, for so long, so often per second of processor time |
//! | `format=svg` or `collapsed` | a picture to click into, or text for tools |
//!
//! Turns that took too long in the last minutes are in the first, in any case: the watchdog has their stacks.
//!
//! Below each thread stands what it did for whom: see [`class_of`]. The work is done by a thread of its own; shards only
//! wait for it.

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use annulus_engine::compute::ticket;
use annulus_engine::stall::{StallLog, StallReport};
use annulus_perf::command::NAMES_WORD;
use annulus_perf::folded::Folded;
use annulus_perf::own::names_of;
use annulus_perf::refusal::{Reason, Refusal};
use annulus_perf::sampler::{Options, Sampler};
use annulus_perf::symbols::Helper;

use super::debug::{seconds, unknown_format};
use crate::serve::{Problem, Reply, Request};

/// Looks are taken for so long...
const WINDOW: Duration = Duration::from_secs(1);
/// ...out of so long. Being looked at costs a shard that sleeps often a tenth of its time, so this costs a two-hundredth.
const WINDOW_EVERY: Duration = Duration::from_secs(20);
/// How long one may look ahead.
const SECONDS_MAX: u64 = 60;
/// And back, with the next window's distance.
const LAST_MAX: u64 = 3600;
/// Samples per second of a thread's processor time, at most.
const HZ_MAX: u64 = 999;
/// And where nothing is said.
const HZ: u64 = 99;
/// The picture has a script of its own for clicking into it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; \
    frame-ancestors 'none'";

/// See the module's description.
pub(super) struct Profiler {
    hz: u32,
    keep: Duration,
    sampler: Mutex<Option<Arc<Sampler>>>,
}

/// Where the samples come from.
#[derive(Clone, Copy)]
enum Span {
    Last(Duration),
    Next(Duration, u64),
}

impl Profiler {
    pub(super) fn new(hz: u32, keep: Duration) -> Profiler {
        Profiler { hz, keep, sampler: Mutex::new(None) }
    }

    /// Begins to look at this process's threads all the time, unless that is switched off. Says why if it cannot be.
    pub(super) fn start(&self) {
        if self.hz == 0 {
            return;
        }
        match sampler(u64::from(self.hz), self.keep, Some((WINDOW, WINDOW_EVERY))) {
            Ok(sampler) => *self.lock() = Some(Arc::new(sampler)),
            Err(refusal) => crate::say!("console   no profile of what was: {}", refusal.sentence),
        }
    }

    /// Whether there are stacks of what was.
    pub(super) fn is_running(&self) -> bool {
        self.lock().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Sampler>>> {
        // Set as a whole or not at all.
        self.sampler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers `/debug/flamegraph`.
    pub(super) async fn flamegraph(&self, request: &Request, log: &StallLog) -> Result<Reply, Problem> {
        let format = request.query_value("format").unwrap_or_else(|| "svg".to_owned());
        if !matches!(format.as_str(), "svg" | "collapsed") {
            return Err(unknown_format("svg or collapsed"));
        }
        let span = span(request)?;
        let running = self.lock().clone();
        let sampler = match (running, span) {
            (Some(sampler), _) => sampler,
            (None, Span::Next(..)) => {
                Arc::new(sampler(1, Duration::from_secs(1), None).map_err(|refusal| problem(&refusal))?)
            }
            (None, Span::Last(_)) => {
                return Err(Problem::new(
                    503,
                    "Nothing is sampled all the time: sample_hz of [console] is 0, or the kernel forbids it, which the \
                     start said. Ask for the next seconds instead: ?seconds=10.",
                ));
            }
        };
        let as_svg = format == "svg";
        let stalls = stalls_within(span, log);
        let hz = self.hz;
        let (ticket, reply) = ticket();
        let work = move || {
            let folded = match span {
                Span::Last(last) => {
                    let mut folded = sampler.folded(last);
                    stalls.iter().for_each(|stall| add_stall(&mut folded, stall, hz));
                    Ok(folded)
                }
                Span::Next(duration, hz) => sampler.burst(hz, duration),
            };
            ticket.answer(folded.map(|folded| drawn(&folded, span, as_svg)));
        };
        let started = std::thread::Builder::new().name("flamegraph".to_owned()).spawn(work);
        started.map_err(|error| Problem::new(503, format!("No thread can be started for this: {error}.")))?;
        match reply.await {
            Some(Ok(Some(svg))) if as_svg => {
                Ok(Reply::bytes(200, "image/svg+xml", svg).with("content-security-policy", POLICY))
            }
            Some(Ok(Some(text))) => Ok(Reply::bytes(200, "text/plain; charset=utf-8", text)),
            Some(Ok(None)) => Err(Problem::new(
                404,
                "Nothing was sampled: no thread used any processor time. Ask for a longer time, or put load on it.",
            )),
            Some(Err(refusal)) => Err(problem(&refusal)),
            None => Err(Problem::new(500, "Sampling ended by a fault of ours.")),
        }
    }
}

fn span(request: &Request) -> Result<Span, Problem> {
    if request.query_value("last").is_some() {
        return seconds(request, "last", 60, LAST_MAX).map(|last| Span::Last(Duration::from_secs(last)));
    }
    let duration = Duration::from_secs(seconds(request, "seconds", 10, SECONDS_MAX)?);
    let Some(text) = request.query_value("hz") else { return Ok(Span::Next(duration, HZ)) };
    let hz = text.parse().ok().filter(|hz| (1..=HZ_MAX).contains(hz));
    let hz =
        hz.ok_or_else(|| Problem::new(400, format!("hz: expected a whole number from 1 to {HZ_MAX}, not {text:?}.")));
    hz.map(|hz| Span::Next(duration, hz))
}

/// Names are looked up by this program as another process: what that takes of memory goes with it.
fn helper() -> Helper {
    Helper::new(["perf", NAMES_WORD].map(OsString::from))
}

/// The functions of a stalled stack, for the engine's watchdog.
pub fn stall_names(addresses: &[usize]) -> Vec<String> {
    let addresses: Vec<u64> = addresses.iter().map(|&address| address as u64).collect();
    names_of(&addresses, Some(&helper()))
}

/// A sampler of all threads that this process has now.
fn sampler(frequency: u64, keep: Duration, window: Option<(Duration, Duration)>) -> Result<Sampler, Refusal> {
    let (threads, classify, helper) = (threads(), Some(class_of as _), Some(helper()));
    Sampler::start(Options { threads, frequency, keep, window, classify, helper, ..Options::default() })
}

/// This process's threads by their kernel numbers, with their names.
fn threads() -> Vec<(i32, String)> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let named = |task: &Path| {
        let number = task.file_name()?.to_str()?.parse().ok()?;
        let name = std::fs::read_to_string(task.join("comm")).ok()?;
        Some((number, name.trim_end().to_owned()))
    };
    tasks.flatten().filter_map(|task| named(&task.path())).collect()
}

/// The stalls that a span of the past has.
fn stalls_within(span: Span, log: &StallLog) -> Vec<StallReport> {
    let Span::Last(last) = span else { return Vec::new() };
    let is_within = |at: &SystemTime| at.elapsed().is_ok_and(|ago| ago <= last);
    log.reports().into_iter().filter(|(at, _)| is_within(at)).map(|(_, report)| report).collect()
}

/// Adds a stall as what a sampler of this rate would have seen of it.
fn add_stall(folded: &mut Folded, stall: &StallReport, hz: u32) {
    let thread = format!("shard-{}", stall.shard);
    let roots = [thread.as_str(), "a turn that took too long"];
    // The outermost first, and without the line that a report has behind each.
    let functions =
        stall.frames.iter().rev().map(|frame| frame.rsplit_once(" (").map_or(frame.as_str(), |(name, _)| name));
    let count = stall.lasted.as_millis() as u64 * u64::from(hz) / 1000;
    folded.add(roots.into_iter().chain(functions), count.max(1));
}

/// The bytes of a picture or of a text; `None` where nothing was sampled.
fn drawn(folded: &Folded, span: Span, as_svg: bool) -> Option<Vec<u8>> {
    let title = match span {
        Span::Last(last) => format!("annulus, the last {} s", last.as_secs()),
        Span::Next(duration, hz) => format!("annulus, {} s at {hz} Hz", duration.as_secs()),
    };
    match as_svg {
        _ if folded.is_empty() => None,
        true => Some(folded.flamegraph(&title)),
        false => Some(folded.collapsed().into_bytes()),
    }
}

fn problem(refusal: &Refusal) -> Problem {
    let status = if refusal.reason == Reason::Busy { 429 } else { 503 };
    Problem::new(status, refusal.sentence.clone())
}

/// What a shard did when it was looked at, by the engine's own functions on its stack, outermost first.
fn class_of(functions: &[&str]) -> Option<String> {
    let class = |function: &&str| {
        CLASSES.iter().find(|(part, _)| function.contains(part)).map(|(_, class)| (*class).to_owned())
    };
    let is_turn = functions.iter().any(|function| function.contains("LocalShard") && function.contains("turn"));
    is_turn.then(|| functions.iter().find_map(class).unwrap_or_else(|| "the turn itself".to_owned()))
}

/// Parts of names of functions of `annulus_engine`, and the class of what is below them.
const CLASSES: [(&str, &str); 8] = [
    ("run_interactive", "interactive tasks"),
    ("run_background", "background tasks"),
    ("Driver>::turn", "kernel: submit, wait, take"),
    ("Core>::reap", "completions"),
    ("Core>::flush", "sends"),
    ("Core>::release_paced", "sends"),
    ("Core>::deliver_letters", "letters"),
    ("Core>::send_letters", "letters"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_of_shards_have_a_class_and_others_none() {
        let of = |functions: &[&str]| class_of(functions);
        let turn = "<annulus_engine::shard::LocalShard>::turn";
        let interactive = "<annulus_engine::task::Tasks>::run_interactive";
        assert_eq!(of(&["start", turn, interactive, "work"]).as_deref(), Some("interactive tasks"));
        assert_eq!(of(&["start", turn, "<annulus_engine::shard::Core>::reap"]).as_deref(), Some("completions"));
        assert_eq!(of(&["start", turn]).as_deref(), Some("the turn itself"));
        assert_eq!(of(&["start", "compute"]), None);
    }

    #[test]
    fn this_process_has_a_thread_of_this_name() {
        let named = std::thread::Builder::new().name("by-this-name".to_owned());
        let found = named.spawn(threads).unwrap().join().unwrap();
        assert!(found.iter().any(|(number, name)| *number > 0 && name == "by-this-name"), "{found:?}");
    }
}
