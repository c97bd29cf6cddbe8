//! Rooms under a steady rate: how long a publication takes to each receiver and its acknowledgement to the publisher, and
//! whether everybody has everything exactly once.

use super::book::{Book, Times, ms, words};
use super::fleet::Fleet;
use super::work::Work;
use super::{Options, Rig};
use crate::observe::beside;
use crate::record::{Record, Round, Usage};
use crate::report::{Row, Target};
use crate::sampler::Sample;
use crate::scenario::Settings;
use crate::schedule::{Schedule, Spread};
use std::time::Duration;

/// Clients that join at once before the clock starts.
const AT_ONCE: usize = 256;
/// How long they may take.
const JOIN_MAX: Duration = Duration::from_secs(120);
/// How long the last publications may take.
const SETTLE_MAX: Duration = Duration::from_secs(10);
/// How long is loaded before anything is measured, so that buffers exist.
const WARM_UP_S: f64 = 1.0;

/// What the owner asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Goals {
    /// Delivery, 99th percentile, in milliseconds.
    pub p99_ms: Option<f64>,
    /// Delivery, 99.9th percentile, in milliseconds.
    pub p999_ms: Option<f64>,
    /// Resident memory at the peak, in megabytes.
    pub rss_mb: Option<f64>,
}

/// A finished load: what it cost the server, and what was asked of it.
pub struct Loaded {
    /// Seconds.
    pub seconds: f64,
    /// Publications per second.
    pub rate: f64,
    /// The server before and after.
    pub samples: (Sample, Sample),
    /// Deliveries meanwhile.
    pub delivered: u64,
    /// Times meanwhile.
    pub times: Times,
    /// The server meanwhile.
    pub usage: Vec<Usage>,
}

impl Loaded {
    /// As a round of a record, of deliveries.
    fn round(&self) -> Round {
        let Times { delivery, lateness, intervals, .. } = &self.times;
        Round {
            seconds: self.seconds,
            offered_per_s: delivery.len() as f64 / self.seconds,
            sent: delivery.len(),
            completed: delivery.len(),
            latency: delivery.clone(),
            lateness: lateness.clone(),
            intervals: intervals.clone(),
            usage: self.usage.clone(),
            ..Round::default()
        }
    }
}

/// Joins a fleet and warms it up.
///
/// # Errors
/// A sentence: somebody could not join.
pub fn warm(rig: &Rig, options: &Options, settings: &Settings, rate: f64) -> Result<Fleet, String> {
    let mut fleet = Fleet::new(rig.plan(options))?;
    warm_up(&mut fleet, settings, rate)?;
    Ok(fleet)
}

/// All clients join, and are loaded for a moment.
///
/// # Errors
/// As [`warm`].
pub fn warm_up(fleet: &mut Fleet, settings: &Settings, rate: f64) -> Result<(), String> {
    let took = fleet.join(AT_ONCE, JOIN_MAX)?;
    eprintln!("  {} clients joined in {took:.1} s", fleet.live());
    fleet.load(Schedule::new(Spread::Constant, rate, 1), WARM_UP_S.min(settings.seconds))?;
    fleet.settle(SETTLE_MAX)?;
    fleet.take_times();
    Ok(())
}

/// Loads it, and waits for the last delivery.
///
/// # Errors
/// A sentence: the server is gone.
pub fn load(fleet: &mut Fleet, pid: u32, settings: &Settings, rate: f64, seconds: f64) -> Result<Loaded, String> {
    let spread = if settings.poisson { Spread::Poisson } else { Spread::Constant };
    let delivered = fleet.book.tally.counts().delivered;
    let before = Sample::of(pid)?;
    let (loading, watched) = beside(&[pid], || fleet.load(Schedule::new(spread, rate, 1), seconds));
    loading?;
    // Of the same moments: what comes later costs processor time that is not counted either.
    let after = Sample::of(pid)?;
    let delivered = fleet.book.tally.counts().delivered - delivered;
    fleet.settle(SETTLE_MAX)?;
    Ok(Loaded { seconds, rate, samples: (before, after), delivered, times: fleet.take_times(), usage: watched.usage })
}

/// Runs it.
///
/// # Errors
/// A sentence: the server could not be started, or is gone.
pub fn run(settings: &Settings, options: &Options, goals: Goals) -> Result<Record, String> {
    let rig = Rig::start(options)?;
    let rate = options.rate;
    let mut fleet = warm(&rig, options, settings, rate)?;
    let loaded = load(&mut fleet, rig.server.pid(), settings, rate, settings.seconds)?;
    let name = options.name();
    let mut rows = times(&name, &loaded, goals);
    rows.extend(options.work.as_ref().map(|work| work.row(&name)));
    rows.extend(costs(&name, &loaded, options, goals));
    rows.extend(account(&name, &fleet.book));
    let from = options.work.as_ref().and_then(Work::projected_from);
    let rows: Vec<Row> = rows.into_iter().map(|row| row.projected(from.clone())).collect();
    let mut record = Record::from(rows);
    record.add_round("annulus chat, deliveries", loaded.round());
    Ok(record)
}

/// Latencies; none where the generator itself was late.
pub fn times(name: &str, loaded: &Loaded, goals: Goals) -> Vec<Row> {
    let Times { delivery, acknowledgement, lateness, .. } = &loaded.times;
    let late = ms(lateness, 99.0).unwrap_or(0.0);
    let honest = loaded.times.is_honest();
    let row = |what: &str, target: Target, value: Option<f64>, note: &str| {
        let (value, note) = match honest {
            true => (value, note.to_owned()),
            false => (None, format!("refused: the generator was late by {late:.2} ms")),
        };
        Row::new(format!("{name}: {what}"), target, value, note)
    };
    let most = |goal: Option<f64>| goal.map_or(Target::Fact, Target::Most);
    let at =
        format!("ms, {:.0} publications/s, {:.0} deliveries/s", loaded.rate, loaded.delivered as f64 / loaded.seconds);
    vec![
        row("delivery p50", Target::Fact, ms(delivery, 50.0), &at),
        row("delivery p99", most(goals.p99_ms), ms(delivery, 99.0), "ms"),
        row("delivery p99.9", most(goals.p999_ms), ms(delivery, 99.9), "ms"),
        row("delivery, longest", Target::Fact, ms(delivery, 100.0), "ms"),
        row("acknowledgement p50", Target::Fact, ms(acknowledgement, 50.0), "ms"),
        row("acknowledgement p99", Target::Fact, ms(acknowledgement, 99.0), "ms"),
        Row::fact(format!("{name}: the generator's own lateness, p99"), late, "ms; above 1 nothing is told of latency"),
    ]
}

/// What the server used.
fn costs(name: &str, loaded: &Loaded, options: &Options, goals: Goals) -> Vec<Row> {
    let (before, after) = loaded.samples;
    let cpu = after.cpu_s - before.cpu_s;
    let row = |what: &str, value: f64, note: &str| Row::fact(format!("{name}: {what}"), value, note);
    let target = goals.rss_mb.map_or(Target::Fact, Target::Most);
    let rss = after.rss_peak as f64 / 1e6;
    vec![
        row("server's CPU", cpu * 100.0 / loaded.seconds, "% of a core, program and kernel"),
        row("deliveries per CPU second", loaded.delivered as f64 / cpu.max(1e-9), "the server's"),
        Row::new(
            format!("{name}: server's RSS at the peak"),
            target,
            Some(rss),
            format!("MB, {} clients", options.clients),
        ),
        row("server's PSS at the end", after.pss as f64 / 1e6, "MB"),
    ]
}

/// What came, and what did not.
pub fn account(name: &str, book: &Book) -> Vec<Row> {
    let verdict = book.tally.verdict();
    let counts = verdict.counts;
    let events = &book.events;
    let row = |what: &str, value: u64, note: String| {
        Row::new(format!("{name}: {what}"), Target::Most(0.0), Some(value as f64), note)
    };
    let misplaced = format!(
        "{} offsets passed over, {} again, {} that differ between receivers, {} of other rooms",
        counts.gaps, counts.reversed, counts.disagreed, counts.strange
    );
    let (unanswered, unsent) = (verdict.unanswered() + verdict.abandoned, events.unsent);
    let errors = words(&events.errors);
    let refused = format!(
        "of {}; refused with an error: {errors}; {unanswered} unanswered; {unsent} not sent",
        verdict.published
    );
    vec![
        row("lost", verdict.lost, format!("of {} deliveries owed", verdict.owed)),
        row("duplicated", counts.duplicated, String::new()),
        row("misplaced", verdict.misplaced(), misplaced),
        row("not acknowledged", verdict.refused + unanswered + unsent, refused),
        row("connections lost", events.ended.values().sum(), words(&events.ended)),
    ]
}
