//! The highest rate that a server bears: doubled until it does not, then halved in between, then held for longer.

use super::round::{self, Load, Outcome, Pace};
use super::summary::failures_text;
use crate::histogram::percentile_us;
use crate::progress::Progress;
use crate::record::Round;
use crate::report::{Row, Target};
use crate::schedule::Spread;
use crate::schedule::course::{Course, RATE_MAX, Shape, parse_seconds};
use hdrhistogram::Histogram;
use std::fmt;
use std::time::Instant;

/// Of all requests, so many may fail.
const FAILED_SHARE_MAX: f64 = 0.001;
/// Where the search begins if no rate is given.
const FIRST_RATE: f64 = 1000.0;
/// The search ends when the rates that hold and do not are so near to each other.
const NEAR_ENOUGH: f64 = 1.05;
/// Longest try, in seconds, and what comes before it.
const TRY_S: f64 = 2.0;
const TRY_WARM_UP_S: f64 = 0.3;
/// How often a rate that held shortly and not for long is lowered, and to what.
const CONFIRMATIONS: usize = 4;
const LOWERED: f64 = 0.93;
/// How often a try is repeated in which the generator was late.
const LATE_REPEATS: usize = 2;
/// Where not even so many per second are borne, it is not a matter of the rate.
const RATE_MIN: f64 = 1.0;
/// A try need not wait for answers that are so many times too late.
const PATIENCE_TIMES: f64 = 20.0;
const PATIENCE_NS_MIN: u64 = 500_000_000;

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// Of all requests, in percent.
    pub percentile: f64,
    /// Their latency at most, in seconds.
    pub seconds: f64,
}

impl Bound {
    /// Reads `p99:10ms`.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(text: &str) -> Result<Bound, String> {
        let wrong = || format!("{text:?} is no bound to search for: write p99:10ms or p99.9:50ms");
        let (percentile, seconds) = text.strip_prefix('p').and_then(|rest| rest.split_once(':')).ok_or_else(wrong)?;
        let percentile = percentile.parse().ok().filter(|&percentile: &f64| percentile > 0.0 && percentile < 100.0);
        let seconds = parse_seconds(seconds).ok().filter(|&seconds| seconds > 0.0);
        Ok(Bound { percentile: percentile.ok_or_else(wrong)?, seconds: seconds.ok_or_else(wrong)? })
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{} <= {} ms", self.percentile, self.seconds * 1e3)
    }
}

/// A rate that was tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// Per second.
    pub rate: f64,
    /// The percentile that is bounded, in microseconds.
    pub us: Option<f64>,
    /// Whether the bound held.
    pub holds: bool,
    /// Why not.
    pub why: String,
    /// Seconds.
    pub seconds: f64,
}

/// What was found.
#[derive(Default)]
pub struct Found {
    /// The long round at the highest rate, if there was one.
    pub outcome: Option<Outcome>,
    /// Sentences.
    pub notes: Vec<String>,
}

/// Tells nobody.
pub struct Quiet;

impl Progress for Quiet {
    fn on_step(&mut self, _: &str) {}
    fn on_interval(&mut self, _: &str, _: usize, _: f64, _: f64, _: u64, _: u64, _: &Histogram<u64>) {}
    fn on_round(&mut self, _: &str, _: usize, _: &Round) {}
}

/// The same pace with another rate.
pub fn at_rate(pace: &Pace, rate: f64) -> Pace {
    Pace::Open(Course { shape: Shape::Steady(rate), ..pace.course().clone() })
}

/// A closed loop.
pub fn closed(warm_up_s: f64, seconds: f64) -> Pace {
    let (shape, spread) = (Shape::Steady(0.0), Spread::Constant);
    Pace::Closed(Course { shape, spread, warm_up_s, seconds, cool_down_s: 0.0 })
}

fn judge(round: &Round, bound: &Bound) -> Result<(), String> {
    let offered = (round.offered_per_s * round.seconds).max(1.0);
    let unanswered = offered - round.completed as f64;
    if !round.is_honest() {
        Err("the generator itself was late: more --threads, or cores of its own, might go further".to_owned())
    } else if unanswered / offered > FAILED_SHARE_MAX {
        Err(format!("{:.2} % failed: {}", unanswered * 100.0 / offered, failures_text(&round.failed)))
    } else if percentile_us(&round.latency, bound.percentile).is_none_or(|us| us > bound.seconds * 1e6) {
        Err("too slow".to_owned())
    } else {
        Ok(())
    }
}

/// Searches, and holds what was found for as long as `pace` says.
///
/// # Errors
/// As [`round::run`].
pub fn run(
    load: &Load,
    pace: &Pace,
    bound: &Bound,
    began: Instant,
    progress: &mut dyn Progress,
) -> Result<(Vec<Tried>, Found), String> {
    let course = pace.course();
    let mut hurried = Load {
        name: load.name.clone(),
        job: load.job.clone(),
        connections: load.connections,
        placed: load.placed.clone(),
        server: Vec::new(),
    };
    let patience = ((bound.seconds * PATIENCE_TIMES * 1e9) as u64).max(PATIENCE_NS_MIN);
    hurried.job.timeout_ns = load.job.timeout_ns.min(patience);
    let short = Course {
        warm_up_s: TRY_WARM_UP_S.min(course.seconds),
        seconds: course.seconds.min(TRY_S),
        cool_down_s: 0.0,
        ..course.clone()
    };
    let short = Pace::Open(short);
    let mut tried: Vec<Tried> = Vec::new();
    let mut was_late = false;
    let mut attempt = |load: &Load, pace: &Pace, progress: &mut dyn Progress| -> Result<Outcome, String> {
        let mut outcome = round::run(load, pace, tried.len() + 1, began, &mut Quiet)?;
        // A late generator says nothing about the server, and may have been disturbed by chance.
        for _ in 0..LATE_REPEATS {
            if outcome.round.is_honest() {
                break;
            }
            outcome = round::run(load, pace, tried.len() + 1, began, &mut Quiet)?;
        }
        was_late |= !outcome.round.is_honest();
        let verdict = judge(&outcome.round, bound);
        let us = percentile_us(&outcome.round.latency, bound.percentile);
        let rate = pace.course().mean_rate();
        let one = Tried {
            rate,
            us,
            holds: verdict.is_ok(),
            why: verdict.err().unwrap_or_default(),
            seconds: pace.course().seconds,
        };
        let slow = us.map_or_else(|| "nothing answered".to_owned(), |us| format!("p{} {us:.0} us", bound.percentile));
        progress.on_step(&format!("{rate:.0}/s: {slow}, {}", if one.holds { "holds" } else { &one.why }));
        tried.push(one);
        Ok(outcome)
    };
    let holds = |outcome: &Outcome| judge(&outcome.round, bound).is_ok();
    let mut found = Found::default();
    let (mut good, mut bad) = (None::<f64>, None::<f64>);
    let mut rate = match course.shape {
        Shape::Steady(rate) if rate > 0.0 => rate,
        _ => FIRST_RATE,
    };
    // Up until it does not hold, or down until it does.
    while good.is_none() || bad.is_none() {
        let outcome = attempt(&hurried, &at_rate(&short, rate), progress)?;
        if holds(&outcome) {
            good = Some(rate);
            rate *= 2.0;
        } else {
            bad = Some(rate);
            rate /= 2.0;
        }
        if !(RATE_MIN..=RATE_MAX).contains(&rate) || outcome.gone.is_some() {
            break;
        }
    }
    if let (Some(mut low), Some(mut high)) = (good, bad) {
        while high / low > NEAR_ENOUGH {
            let middle = (low * high).sqrt();
            if holds(&attempt(&hurried, &at_rate(&short, middle), progress)?) {
                low = middle;
            } else {
                high = middle;
            }
        }
        good = Some(low);
    }
    let Some(mut rate) = good else {
        found.notes.push(format!("No rate was found at which {bound} holds."));
        return Ok((tried, found));
    };
    for _ in 0..CONFIRMATIONS {
        let outcome = attempt(load, &at_rate(pace, rate), progress)?;
        let held = holds(&outcome);
        found.outcome = Some(outcome);
        if held {
            found.notes.push(format!("{rate:.0}/s held {bound} for {} s.", course.seconds));
            if was_late {
                found.notes.push(
                    "At some rates it was the generator that was late, not the server: the server may carry more than was \
                     found. Use more --threads, or cores that nobody else wants."
                        .to_owned(),
                );
            }
            return Ok((tried, found));
        }
        rate *= LOWERED;
    }
    found.notes.push(format!(
        "No rate was confirmed: what held {bound} for {} s did not for {} s. The last round is shown.",
        short.course().seconds,
        course.seconds
    ));
    Ok((tried, found))
}

/// The tries as rows, and the highest rate that was confirmed.
pub fn rows(tried: &[Tried], bound: &Bound) -> Vec<Row> {
    let mut rows: Vec<Row> = tried
        .iter()
        .map(|one| {
            let note = format!("us, {} s, {}", one.seconds, if one.holds { "holds" } else { &one.why });
            Row::new(format!("search {:.0}/s, p{}", one.rate, bound.percentile), Target::Fact, one.us, note)
        })
        .collect();
    let confirmed = tried.last().filter(|last| last.holds);
    let note = match confirmed {
        Some(_) => "per second".to_owned(),
        None => "none was confirmed".to_owned(),
    };
    rows.push(Row::new(
        format!("highest rate with {bound}"),
        Target::Least(RATE_MIN),
        confirmed.map(|one| one.rate),
        note,
    ));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read() {
        assert_eq!(Bound::parse("p99:10ms"), Ok(Bound { percentile: 99.0, seconds: 0.01 }));
        assert_eq!(Bound::parse("p99.9:1s").unwrap().to_string(), "p99.9 <= 1000 ms");
        for wrong in ["", "99:10ms", "p99", "p0:1s", "p100:1s", "p99:", "p99:0s", "px:1s"] {
            assert!(Bound::parse(wrong).unwrap_err().contains("p99:10ms"), "{wrong:?}");
        }
    }

    #[test]
    fn failures_slowness_and_a_late_generator_do_not_hold() {
        let bound = Bound { percentile: 99.0, seconds: 0.01 };
        let round = |completed: u64, us: u64| {
            let mut round = Round { seconds: 1.0, offered_per_s: 10_000.0, completed, ..Round::default() };
            round.latency.record_n(us * 1000, completed).unwrap();
            round
        };
        assert_eq!(judge(&round(10_000, 9_000), &bound), Ok(()));
        assert_eq!(judge(&round(9_995, 9_000), &bound), Ok(()));
        assert!(judge(&round(9_980, 9_000), &bound).unwrap_err().contains("0.20 % failed"));
        assert_eq!(judge(&round(10_000, 11_000), &bound), Err("too slow".to_owned()));
        let mut late = round(10_000, 9_000);
        late.lateness.record(1_000_000_000).unwrap();
        assert!(judge(&late, &bound).unwrap_err().contains("--threads"));
    }

    #[test]
    fn only_what_held_last_is_confirmed() {
        let one = |rate, holds| Tried { rate, us: Some(1.0), holds, why: "too slow".to_owned(), seconds: 1.0 };
        let bound = Bound { percentile: 99.0, seconds: 0.01 };
        let rows_of = |tried: &[Tried]| rows(tried, &bound).pop().unwrap().measured;
        assert_eq!(rows_of(&[one(1.0, true), one(2.0, false), one(1.5, true)]), Some(1.5));
        assert_eq!(rows_of(&[one(1.0, true), one(1.5, false)]), None);
        assert_eq!(rows_of(&[]), None);
    }
}
