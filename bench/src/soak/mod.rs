//! All three services under mixed load for a chosen time: whether anything grows that should not.
//!
//! ```text
//!   load.rs    what is done to them        gauge.rs   what is looked at        trend.rs   whether it grows
//! ```
//!
//! The text is written anew after each interval, so that a run in the background can be looked at, and stopped, at any time;
//! the samples stand beside it as CSV. Three things can be said of a figure: it grows by more than its limit in an hour, it does
//! not, or that cannot be told in this time; and what would have been seen in it. Nothing grows only where all the time was
//! waited for, all three loads worked to the end, and each figure could be told.

mod gauge;
mod load;
mod trend;

use crate::chat::config::{Ack, Chat};
use crate::faults::service::{Service, Way};
use crate::gateway::config::{self, Choices, Upstream};
use crate::gateway::shop::Shop;
use crate::ground::Ground;
use crate::process::Driver;
use crate::report;
use gauge::{GAUGES, Gauge, Judged, SERVICES, Scene};
use load::{Account, Loads};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use trend::{Trend, Verdict, WARM_UP};

/// What channels' names begin with: a namespace of this level.
const NAMESPACE: &str = "wal:";
/// The log gives segments back after so much; small, so that it does so in minutes.
const LOG: &str = "[chat.log]\nsegment_bytes = \"2MiB\"\ncheckpoint_bytes = \"1MiB\"\n";
/// What the image service forgets soon, so that what stays is a leak.
const IMAGE: &str = "workers = 1\noriginals_kept = false\noutputs_kept_seconds = 60\njobs_kept_seconds = 60\n\
                     sweep_seconds = 60\n";

/// How it is run.
pub struct Options {
    /// For so long.
    pub time: Duration,
    /// With samples so far apart.
    pub every: Duration,
    /// Where the text is written; the samples go beside it.
    pub out: PathBuf,
}

/// What came of it, from the worst: the first that is true of any part is true of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use]
pub enum Outcome {
    /// Something grows, failed, was not done or ended early.
    Bad,
    /// Nothing of the kind, but of some figure it cannot be told in this time.
    CannotTell,
    /// Nothing grows.
    Good,
}

/// Samples in order.
type Samples = Vec<Sample>;

/// One look at everything.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sample {
    /// Hours since the beginning.
    hours: f64,
    /// What each gauge said.
    values: Vec<Option<f64>>,
    /// What each load has done so far.
    done: [u64; 3],
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Running,
    Over,
    /// For this reason.
    EndedEarly(String),
}

/// Runs it.
///
/// # Errors
/// A sentence: something could not be started, or the text not be written.
pub fn run(options: &Options) -> Result<Outcome, String> {
    let ground = Ground::new("soak")?;
    let chat_folder = ground.folder.join("chat");
    let chat =
        Chat { ack: Some(Ack::Wal), shards: Some(1), directory: Some(&chat_folder.join("log")), ..Chat::default() };
    let chat = Service::chat(&chat_folder, &chat.text().replace("[chat.log]\n", LOG), None, Way::default())?;
    let image_folder = ground.folder.join("image");
    let image = Service::image(&image_folder, &image_folder.join("data"), IMAGE, Way::default())?;
    let shop = Shop::start(None, &[("latency", "5-20ms"), ("sizes", "1-4KB")])?;
    let gateway =
        Service::gateway(&ground.folder, |listen| config::write(listen, shop.address, &choices()), Way::default())?;
    let loads = Loads {
        chat: chat.address,
        image: image.address,
        gateway: gateway.address,
        every: options.every,
        last: std::sync::Mutex::default(),
        done: Default::default(),
        failed: Default::default(),
        why: std::sync::Mutex::default(),
        stop: false.into(),
    };
    let folders = [chat_folder, image_folder.join("data"), ground.folder.clone()];
    let mut samples = Samples::new();
    let watched = loads.run(|loads| {
        let scene = Scene { services: [&chat, &image, &gateway], loads, folders };
        watch(options, &scene, &mut samples)
    });
    let state = watched.map_or_else(State::EndedEarly, |()| State::Over);
    let (text, outcome) = told(options.time, &samples, &loads.account(), &state);
    write(&options.out, &text)?;
    print!("{text}");
    Ok(outcome)
}

/// Samples until the time is over, and writes what is known after each.
fn watch(options: &Options, scene: &Scene, samples: &mut Samples) -> Result<(), String> {
    let csv = options.out.with_extension("csv");
    let names: Vec<String> = GAUGES.iter().map(Gauge::name).collect();
    let mut lines = format!("hours,{}\n", names.join(",").replace(", ", " "));
    let began = Instant::now();
    let mut next = options.every;
    while began.elapsed() < options.time {
        std::thread::sleep(next.saturating_sub(began.elapsed()));
        next += options.every;
        if let Some(of) = (0..SERVICES.len()).find(|of| !crate::observe::is_alive(scene.services[*of].pid())) {
            return Err(format!("the {} has ended: {}", SERVICES[of], scene.services[of].last_words()));
        }
        let hours = began.elapsed().as_secs_f64() / 3600.0;
        let done = scene.loads.account().done;
        let values: Vec<Option<f64>> = GAUGES.iter().map(|gauge| gauge.read(scene)).collect();
        let cell = |value: &Option<f64>| value.map(|value| format!("{value:.3}")).unwrap_or_default();
        lines += &format!("{hours:.5},{}\n", values.iter().map(cell).collect::<Vec<_>>().join(","));
        samples.push(Sample { hours, values, done });
        write(&csv, &lines)?;
        let (text, _so_far) = told(options.time, samples, &scene.loads.account(), &State::Running);
        write(&options.out, &text)?;
    }
    Ok(())
}

fn choices() -> Choices {
    Choices {
        upstream: Upstream::Http1,
        backend_ms: 2000,
        all_cores: false,
        breakers: true,
        retries: true,
        apart: false,
        h2c_clients: false,
        compresses: false,
        memory_bytes: None,
        hostile: None,
        driver: Driver::Auto,
    }
}

/// The text, and what came of it as far as it is.
fn told(planned: Duration, samples: &[Sample], account: &Account, state: &State) -> (String, Outcome) {
    let (planned, last) = (planned.as_secs_f64() / 60.0, samples.last().map_or(0.0, |sample| sample.hours * 60.0));
    let mut text: String = report::facts().iter().map(|(name, value)| format!("{name:<8} {value}\n")).collect();
    let words = match state {
        State::Running => "RUNNING".to_owned(),
        State::Over => "over".to_owned(),
        State::EndedEarly(why) => format!("ENDED EARLY ({why})"),
    };
    let warm_up = last * WARM_UP;
    text += &format!("state    {words}: {last:.1} of {planned:.1} minutes, the first {warm_up:.1} of them warm-up\n\n");
    text += &line("", "figure", "level", "slope an hour, 99 %", "limit", "seen from");
    let mut outcome = if matches!(state, State::EndedEarly(_)) { Outcome::Bad } else { Outcome::Good };
    for (index, gauge) in GAUGES.iter().enumerate() {
        let values: Vec<(f64, f64)> =
            samples.iter().filter_map(|sample| Some((sample.hours, sample.values[index]?))).collect();
        let (row, of_gauge) = row(gauge, &values);
        outcome = outcome.min(of_gauge);
        text += &row;
    }
    text.push('\n');
    for (of, what) in ["deliveries", "jobs", "answers"].into_iter().enumerate() {
        let (done, failed) = (account.done[of], account.failed[of]);
        let idle = !worked_to_the_end(samples, of);
        let verdict = match (failed, idle) {
            (1.., _) => "FAILED",
            (0, true) => "NOTHING DONE",
            (0, false) => "",
        };
        if !verdict.is_empty() {
            outcome = Outcome::Bad;
        }
        let name = SERVICES[of];
        text += &format!("  {verdict:<12}  {name}: {done} {what}, {failed} failures {}\n", account.why[of]);
    }
    let end = match (state, outcome) {
        (State::Running, _) => String::new(),
        (State::EndedEarly(_), _) => format!("IT ENDED EARLY, AFTER {last:.1} OF {planned:.1} MINUTES"),
        (State::Over, Outcome::Bad) => "SOMETHING GROWS, FAILED, OR WAS NOT DONE".to_owned(),
        (State::Over, Outcome::CannotTell) => {
            format!("nothing is seen to grow, but {last:.1} minutes do not tell of all")
        }
        (State::Over, Outcome::Good) => format!("nothing grows, in {last:.1} minutes"),
    };
    (format!("{text}\n{end}").trim_end().to_owned() + "\n", outcome)
}

/// Whether a load still did something in the last third of the time.
fn worked_to_the_end(samples: &[Sample], of: usize) -> bool {
    let at = |index: usize| samples.get(index).map_or(0, |sample: &Sample| sample.done[of]);
    at(samples.len().saturating_sub(1)) > at(samples.len() * 2 / 3 - usize::from(samples.len() > 1))
}

fn line(verdict: &str, figure: &str, level: &str, slope: &str, limit: &str, seen_from: &str) -> String {
    let text = format!("  {verdict:<12}  {figure:<40} {level:>9}  {slope:>34}  {limit:>9}  {seen_from:>10}");
    text.trim_end().to_owned() + "\n"
}

/// A figure's line, and what it says.
fn row(gauge: &Gauge, values: &[(f64, f64)]) -> (String, Outcome) {
    let limit = match gauge.judged {
        Judged::Limit(limit) => limit,
        Judged::ByDesign(why) => return (line("by design", &gauge.name(), "", why, "", ""), Outcome::Good),
    };
    let Some(trend) = Trend::of(values, limit.by, limit.grain, limit.settled_after) else {
        return (line("cannot tell", &gauge.name(), "", "too few samples", "", ""), Outcome::CannotTell);
    };
    let ((low, high), unit) = (trend.interval, gauge.unit);
    let slope = format!("{:+.2} ({low:+.2} .. {high:+.2}) {unit}", trend.per_hour);
    let level = format!("{:.2}", trend.level);
    let limit = limit.at(trend.level);
    let (verdict, outcome) = match trend.verdict(limit) {
        Verdict::Grows => ("GROWS", Outcome::Bad),
        Verdict::Bounded => ("does not", Outcome::Good),
        Verdict::CannotTell => ("cannot tell", Outcome::CannotTell),
    };
    let seen_from = format!("{:.1}", trend.detectable(limit));
    (line(verdict, &gauge.name(), &level, &slope, &format!("{limit:.1}"), &seen_from), outcome)
}

/// Writes a file at once, so that nobody reads half of it.
fn write(file: &Path, text: &str) -> Result<(), String> {
    let next = file.with_extension("next");
    std::fs::write(&next, text)
        .and_then(|()| std::fs::rename(&next, file))
        .map_err(|error| format!("cannot write {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// An hour's samples, a minute apart, of which all loads do something; each figure as `of` says, by its index and the hour.
    fn samples(of: impl Fn(usize, f64) -> f64) -> Samples {
        let sample = |minute: u64| {
            let hours = minute as f64 / 60.0;
            let values = (0..GAUGES.len()).map(|index| Some(of(index, hours))).collect();
            Sample { hours, values, done: [minute * 10; 3] }
        };
        (1..=60).map(sample).collect()
    }

    fn account() -> Account {
        Account { done: [600; 3], failed: [0; 3], why: Default::default() }
    }

    fn named(name: &str) -> usize {
        GAUGES.iter().position(|gauge| gauge.name() == name).unwrap()
    }

    #[test]
    fn nothing_grows_where_nothing_does_and_everybody_worked() {
        let (text, outcome) = told(HOUR, &samples(|_, _| 50.0), &account(), &State::Over);
        assert_eq!(outcome, Outcome::Good, "{text}");
        assert!(text.ends_with("\nnothing grows, in 60.0 minutes\n"), "{text}");
    }

    #[test]
    fn what_grows_is_said_and_what_may_grow_is_not_held_against_it() {
        let growing = |which: usize, per_hour: f64| {
            told(
                HOUR,
                &samples(|index, hour| 50.0 + if index == which { per_hour * hour } else { 0.0 }),
                &account(),
                &State::Over,
            )
        };
        let memory = named("chat: memory (RSS)");
        let (text, outcome) = growing(memory, 20.0);
        assert_eq!(outcome, Outcome::Bad);
        assert!(text.contains("  GROWS         chat: memory (RSS) ") && text.contains("+20.00"), "{text}");
        assert!(text.contains("SOMETHING GROWS"), "{text}");
        let (text, outcome) = growing(memory, 0.5);
        assert_eq!(outcome, Outcome::Good, "half a megabyte in an hour is little: {text}");
        assert_eq!(growing(named("image: queue on disk"), 20.0).1, Outcome::Good);
    }

    #[test]
    fn nothing_is_said_of_a_run_that_ended_early_or_did_nothing() {
        let good = samples(|_, _| 50.0);
        let early = State::EndedEarly("the chat has ended".to_owned());
        let (text, outcome) = told(HOUR, &good[..30], &account(), &early);
        assert_eq!(outcome, Outcome::Bad);
        assert!(text.contains("30.0 of 60.0 minutes") && !text.contains("nothing grows"), "{text}");
        let mut idle = good.clone();
        idle.iter_mut().skip(30).for_each(|sample| sample.done[1] = 300);
        let (text, outcome) = told(HOUR, &idle, &account(), &State::Over);
        assert_eq!(outcome, Outcome::Bad);
        assert!(text.contains("NOTHING DONE  image: "), "{text}");
        let failed = Account { failed: [0, 0, 2], ..account() };
        assert_eq!(told(HOUR, &good, &failed, &State::Over).1, Outcome::Bad);
        assert_eq!(told(HOUR, &[], &account(), &State::Over).1, Outcome::Bad);
    }

    #[test]
    fn a_short_run_says_what_it_cannot_tell() {
        let (text, outcome) = told(HOUR / 20, &samples(|_, _| 50.0)[..3], &account(), &State::Over);
        assert_eq!(outcome, Outcome::CannotTell, "{text}");
        assert!(text.contains("  cannot tell   chat: memory (RSS) ") && text.contains("do not tell of all"), "{text}");
    }
}
