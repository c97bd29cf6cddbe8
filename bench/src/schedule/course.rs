//! The course of a load as a command line describes it: one rate, steps, a spike, or a recorded trace; with a warm-up
//! before and a cool-down behind it that are sent and not counted.

use super::profile::{Profile, Segment};
use super::trace::{self, Due};
use super::{Schedule, Spread};
use std::path::Path;
use std::sync::Arc;

/// Highest rate that can be asked for, per second.
pub const RATE_MAX: f64 = 1e8;
/// Longest stretch that can be asked for, in seconds.
pub const SECONDS_MAX: f64 = 86_400.0;
/// Largest factor of a spike.
const TIMES_MAX: f64 = 1e6;

/// What the rate does.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// So many per second throughout.
    Steady(f64),
    /// One rate after the other.
    Steps(Vec<Segment>),
    /// One rate, and a multiple of it for a while.
    Spike {
        /// Per second, before and after.
        base: f64,
        /// The factor.
        times: f64,
        /// When it begins, in seconds; in the middle if not set.
        at_s: Option<f64>,
        /// How long it lasts.
        seconds: f64,
    },
    /// Recorded.
    Trace(Arc<Vec<Due>>),
}

/// When the requests of a round are meant to leave.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    /// What the rate does between warm-up and cool-down.
    pub shape: Shape,
    /// Evenly, or at random. Of no matter to a trace.
    pub spread: Spread,
    /// Seconds before.
    pub warm_up_s: f64,
    /// Seconds that count.
    pub seconds: f64,
    /// Seconds behind.
    pub cool_down_s: f64,
}

impl Course {
    /// The whole round, in seconds.
    pub fn total_s(&self) -> f64 {
        self.warm_up_s + self.seconds + self.cool_down_s
    }

    /// Intended times since the beginning of the warm-up, never decreasing. The same seed gives the same times.
    pub fn times(&self, seed: u64) -> Box<dyn Iterator<Item = Due> + Send> {
        let offset = (self.warm_up_s * 1e9) as u64;
        let until = offset + (self.seconds * 1e9) as u64;
        let segments = match &self.shape {
            Shape::Trace(trace) => {
                let around = self.mean_rate();
                let before = Schedule::new(self.spread, around, seed).take_while(move |&at| at < offset);
                let whole = until + (self.cool_down_s * 1e9) as u64;
                let behind = Schedule::new(self.spread, around, seed + 2).map(move |at| until + at);
                let plain = |at_ns| Due { at_ns, url: None };
                let trace = Arc::clone(trace);
                let recorded = (0..trace.len()).map(move |index| trace[index]);
                let recorded = recorded.map(move |due| Due { at_ns: due.at_ns + offset, ..due });
                return Box::new(
                    before
                        .map(plain)
                        .chain(recorded.take_while(move |due| due.at_ns < until))
                        .chain(behind.take_while(move |&at| at < whole).map(plain)),
                );
            }
            Shape::Steady(rate) => vec![Segment { rate: *rate, seconds: self.seconds }],
            Shape::Steps(steps) => steps.clone(),
            Shape::Spike { base, times, at_s, seconds } => {
                let at_s = at_s.unwrap_or((self.seconds - seconds) / 2.0);
                let calm = |seconds| Segment { rate: *base, seconds };
                let spike = Segment { rate: base * times, seconds: *seconds };
                vec![calm(at_s), spike, calm((self.seconds - at_s - seconds).max(0.0))]
            }
        };
        let around = |seconds: f64, rate: f64| Segment { rate, seconds };
        let (first, last) = (segments[0].rate, segments[segments.len() - 1].rate);
        let mut all = vec![around(self.warm_up_s, first)];
        all.extend(segments);
        all.push(around(self.cool_down_s, last));
        // Neighbours of one rate are one stretch: evenly spaced times go on across the borders.
        all.dedup_by(|next, before| {
            let same = next.rate == before.rate;
            if same {
                before.seconds += next.seconds;
            }
            same
        });
        let profile = Profile { segments: all, spread: self.spread, seed };
        Box::new(profile.times().map(|(at_ns, _)| Due { at_ns, url: None }))
    }

    /// The mean rate between warm-up and cool-down, per second.
    pub fn mean_rate(&self) -> f64 {
        let of = |requests: f64| requests / self.seconds.max(1e-9);
        match &self.shape {
            Shape::Steady(rate) => *rate,
            Shape::Steps(steps) => of(steps.iter().map(|step| step.rate * step.seconds).sum()),
            Shape::Spike { base, times, seconds, .. } => of(base * (self.seconds + seconds * (times - 1.0))),
            Shape::Trace(trace) => {
                let until = self.seconds * 1e9;
                of(trace.iter().take_while(|due| (due.at_ns as f64) < until).count() as f64)
            }
        }
    }
}

/// A positive number with its unit left off.
fn number(text: &str, most: f64) -> Option<f64> {
    text.parse().ok().filter(|&value: &f64| value > 0.0 && value <= most)
}

/// Seconds out of `5s`, `500ms`, `2m` or a plain number.
///
/// # Errors
/// A sentence.
pub fn parse_seconds(text: &str) -> Result<f64, String> {
    let (digits, unit) = match text {
        _ if text.ends_with("ms") => (&text[..text.len() - 2], 1e-3),
        _ if text.ends_with("us") => (&text[..text.len() - 2], 1e-6),
        _ if text.ends_with('s') => (&text[..text.len() - 1], 1.0),
        _ if text.ends_with('m') => (&text[..text.len() - 1], 60.0),
        _ => (text, 1.0),
    };
    let seconds = digits.parse::<f64>().ok().map(|value| value * unit);
    let seconds = seconds.filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds));
    seconds.ok_or_else(|| format!("{text:?} is no time: write 5s, 500ms or 2m, at most {SECONDS_MAX} s"))
}

/// A rate per second.
///
/// # Errors
/// A sentence.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    number(text, RATE_MAX).ok_or_else(|| format!("{text:?} is no rate: write how many per second, as in 5000"))
}

/// `1000,2000,4000` shares `seconds` among the steps; `1000,2000,4000:5s` gives each five seconds.
///
/// # Errors
/// A sentence.
pub fn parse_steps(text: &str, seconds: f64) -> Result<Vec<Segment>, String> {
    let (rates, each) = match text.split_once(':') {
        Some((rates, each)) => (rates, Some(parse_seconds(each)?)),
        None => (text, None),
    };
    let rates = rates.split(',').map(parse_rate).collect::<Result<Vec<f64>, _>>();
    let rates = rates.map_err(|error| format!("the steps {text:?}: {error}; steps look like 1000,2000,4000:5s"))?;
    let seconds = each.unwrap_or(seconds / rates.len() as f64);
    if seconds <= 0.0 {
        return Err(format!("the steps {text:?} last no time: steps look like 1000,2000,4000:5s"));
    }
    Ok(rates.into_iter().map(|rate| Segment { rate, seconds }).collect())
}

/// `5x:2s` is five times `base` for two seconds in the middle; `5x:2s@3s` begins after three.
///
/// # Errors
/// A sentence.
pub fn parse_spike(text: &str, base: f64, whole_s: f64) -> Result<Shape, String> {
    let wrong = || format!("the spike {text:?} is not like 5x:2s or 5x:2s@3s: a factor, how long, and when");
    let (times, rest) = text.split_once("x:").ok_or_else(wrong)?;
    let (seconds, at) = match rest.split_once('@') {
        Some((seconds, at)) => (seconds, Some(at)),
        None => (rest, None),
    };
    let times = number(times, TIMES_MAX).ok_or_else(wrong)?;
    let seconds = parse_seconds(seconds).ok().filter(|&seconds| seconds > 0.0).ok_or_else(wrong)?;
    let at_s = at.map(|at| parse_seconds(at).map_err(|_not_a_time| wrong())).transpose()?;
    if at_s.unwrap_or(0.0) + seconds > whole_s {
        return Err(format!("the spike {text:?} does not fit into {whole_s} s: lengthen --seconds"));
    }
    Ok(Shape::Spike { base, times, at_s, seconds })
}

/// Reads a trace; how long it lasts comes with it, in seconds.
///
/// # Errors
/// As [`trace::read`].
pub fn read_trace(file: &Path, urls: usize) -> Result<(Shape, f64), String> {
    let trace = trace::read(file, urls)?;
    let last = trace.last().map_or(0, |due| due.at_ns);
    // The last request is part of it.
    Ok((Shape::Trace(Arc::new(trace)), (last as f64 + 1e6) / 1e9))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(shape: Shape) -> Course {
        Course { shape, spread: Spread::Constant, warm_up_s: 1.0, seconds: 6.0, cool_down_s: 0.5 }
    }

    fn counts(course: &Course) -> Vec<usize> {
        let times: Vec<u64> = course.times(1).map(|due| due.at_ns).collect();
        assert!(times.is_sorted());
        let mut counts = vec![0; 8];
        times.iter().for_each(|at| counts[(at / 1_000_000_000) as usize] += 1);
        counts
    }

    fn close(counts: &[usize], wanted: &[usize]) -> bool {
        counts.iter().zip(wanted).all(|(count, wanted)| count.abs_diff(*wanted) <= 1)
    }

    #[test]
    fn steady_rates_go_on_from_warm_up_to_cool_down() {
        let course = course(Shape::Steady(100.0));
        assert!(close(&counts(&course), &[100, 100, 100, 100, 100, 100, 100, 50]), "{:?}", counts(&course));
        assert_eq!((course.mean_rate(), course.total_s()), (100.0, 7.5));
        let times: Vec<u64> = course.times(1).map(|due| due.at_ns).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 10_000_000), "gaps differ at a border");
    }

    #[test]
    fn steps_and_spikes_have_their_rates() {
        let steps = course(Shape::Steps(parse_steps("100,200,400", 6.0).unwrap()));
        assert!(close(&counts(&steps), &[100, 100, 100, 200, 200, 400, 400, 200]), "{:?}", counts(&steps));
        assert!((steps.mean_rate() - 1400.0 / 6.0).abs() < 1e-9);
        let spike = course(parse_spike("5x:2s", 100.0, 6.0).unwrap());
        assert!(close(&counts(&spike), &[100, 100, 100, 500, 500, 100, 100, 50]), "{:?}", counts(&spike));
        let early = course(parse_spike("2x:1s@0s", 100.0, 6.0).unwrap());
        assert!(close(&counts(&early), &[100, 200, 100, 100, 100, 100, 100, 50]), "{:?}", counts(&early));
        assert!((spike.mean_rate() - 1400.0 / 6.0).abs() < 1e-9);
    }

    #[test]
    fn a_trace_is_replayed_between_warm_up_and_cool_down() {
        let due = |at_ms: u64| Due { at_ns: at_ms * 1_000_000, url: Some(1) };
        let trace = Shape::Trace(Arc::new((0..600).map(|index| due(index * 10)).collect()));
        let course = course(trace);
        assert!(close(&counts(&course), &[100, 100, 100, 100, 100, 100, 100, 50]), "{:?}", counts(&course));
        assert_eq!(course.times(1).filter(|due| due.url == Some(1)).count(), 600);
    }

    #[test]
    fn poisson_rounds_differ_by_their_seed_only() {
        let course = Course { spread: Spread::Poisson, ..course(Shape::Steady(50.0)) };
        let times = |seed| course.times(seed).collect::<Vec<_>>();
        assert_eq!(times(3), times(3));
        assert_ne!(times(3), times(5));
    }

    #[test]
    fn what_is_wrong_is_told_with_what_is_right() {
        for wrong in ["", "0", "-1", "x", "1e99", "inf", "nan"] {
            assert!(parse_rate(wrong).is_err(), "{wrong:?}");
        }
        for wrong in ["", "1000,", "1000:5", "a:5s", "1000:-1s", "1000:0s"] {
            assert!(parse_steps(wrong, 3.0).is_err() == (wrong != "1000:5"), "{wrong:?}");
        }
        for wrong in ["", "5:2s", "x:2s", "5x:", "5x:0s", "0x:1s", "5x:2s@", "5x:9s", "5x:2s@5s"] {
            assert!(parse_spike(wrong, 100.0, 6.0).unwrap_err().contains(wrong), "{wrong:?}");
        }
        assert_eq!(parse_seconds("250ms"), Ok(0.25));
        assert_eq!(parse_seconds("2m"), Ok(120.0));
        assert!(parse_seconds("5 parsecs").unwrap_err().contains("500ms"));
    }
}
