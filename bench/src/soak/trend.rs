//! Whether a figure grows: a line through it that neither peaks nor a single step can bend, with what chance leaves open.
//!
//! ```text
//!   samples ─► the later two thirds ─► windows, each its least or its middle value ─► slopes of all pairs ─► their median
//! ```
//!
//! The first third is warm-up. Of what is taken and given back again and again (memory, descriptors, files) a window says its
//! least value, or a sawtooth would look like growth wherever it is cut; of latencies it says the middle one. The slope is that
//! of Theil and Sen (Sen 1968, "Estimates of the regression coefficient based on Kendall's tau"), and its interval comes from
//! the variance of Mann's and Kendall's S with ties (Gilbert 1987, "Statistical methods for environmental pollution
//! monitoring", sections 16.4.2 and 16.5). Windows that are alike because they follow each other count as fewer: the variance is
//! multiplied by (1 + r) / (1 - r) where the correlation r of neighbours' residuals is beyond chance (Yue and Wang 2004).

use crate::compare::median;

/// The share of the samples that is warm-up.
pub const WARM_UP: f64 = 1.0 / 3.0;
/// Windows: no slope is told of fewer, and of more only where each has some samples.
const WINDOWS_LEAST: usize = 8;
const WINDOWS_MOST: usize = 24;
const SAMPLES_OF_WINDOW: usize = 5;
/// The quantile of the normal distribution for 99 % between both ends: nineteen figures are looked at, so one of them in five
/// runs is beyond it by chance, and then still within its limit.
const NORMAL_99: f64 = 2.576;
/// The same for 95 %.
const NORMAL_95: f64 = 1.960;
/// The most that neighbours are taken to be alike.
const ALIKE_MOST: f64 = 0.9;
/// Steps of a count until it is told from one that has stepped by chance.
const STEPS_SEEN: f64 = 4.0;

/// What a window says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Its least value.
    Floor,
    /// Its middle value.
    Middle,
}

/// What is told of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It grows by more than its limit.
    Grows,
    /// It does not grow by more than its limit.
    Bounded,
    /// It may, or not: the time was too short for what it wavers.
    CannotTell,
}

/// A figure's slope.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// The median of its windows.
    pub level: f64,
    /// Its change in an hour.
    pub per_hour: f64,
    /// The interval that has the true one with 99 % confidence.
    pub interval: (f64, f64),
    /// The hours from the first window to the last.
    pub hours: f64,
    /// The least step by which it can change: 1 of a count.
    grain: f64,
}

impl Trend {
    /// Of samples, each a time in hours and a value, in order; the warm-up is left out here, and lasts until `settled_after` at
    /// least. None of too few.
    pub fn of(samples: &[(f64, f64)], by: By, grain: f64, settled_after: f64) -> Option<Trend> {
        let windows = windows(after_warm_up(samples, settled_after), by)?;
        let hours = windows[windows.len() - 1].0 - windows[0].0;
        let slopes = slopes(&windows);
        if slopes.is_empty() || hours <= 0.0 {
            return None;
        }
        let per_hour = median(&slopes);
        let spread = NORMAL_99 * (variance(&windows) * likeness(&windows, per_hour)).sqrt();
        let pairs = slopes.len() as f64;
        // Ranks from 1 of the interval's ends; beyond the slopes there is none at this confidence.
        let at = |rank: f64| slopes.get((rank - 1.0) as usize).copied();
        let lowest = (pairs - spread) / 2.0;
        let low = if lowest < 1.0 { None } else { at(lowest.floor()) };
        let high = at(((pairs + spread) / 2.0).ceil() + 1.0);
        let values: Vec<f64> = windows.iter().map(|(_, value)| *value).collect();
        // A count that stands still may be about to step.
        let high = high.unwrap_or(if spread == 0.0 { per_hour } else { f64::INFINITY }).max(per_hour + grain / hours);
        let interval = (low.unwrap_or(f64::NEG_INFINITY), high);
        Some(Trend { level: median(&values), per_hour, interval, hours, grain })
    }

    /// Whether it grows by more than so much in an hour.
    pub fn verdict(&self, limit: f64) -> Verdict {
        match self.interval {
            (low, _) if low > limit => Verdict::Grows,
            (_, high) if high <= limit => Verdict::Bounded,
            _ => Verdict::CannotTell,
        }
    }

    /// The smallest change in an hour that would have been seen to be more than `limit` in this time.
    pub fn detectable(&self, limit: f64) -> f64 {
        limit + (self.per_hour - self.interval.0).max(STEPS_SEEN * self.grain / self.hours)
    }
}

fn after_warm_up(samples: &[(f64, f64)], settled_after: f64) -> &[(f64, f64)] {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return samples };
    let from = (first.0 + (last.0 - first.0) * WARM_UP).max(settled_after);
    &samples[samples.partition_point(|(at, _)| *at < from)..]
}

/// The mean time and the value of each window; none where there are too few samples.
fn windows(samples: &[(f64, f64)], by: By) -> Option<Vec<(f64, f64)>> {
    if samples.len() < WINDOWS_LEAST {
        return None;
    }
    let count = (samples.len() / SAMPLES_OF_WINDOW).clamp(WINDOWS_LEAST, WINDOWS_MOST);
    let of = |number: usize| {
        let window = &samples[number * samples.len() / count..(number + 1) * samples.len() / count];
        let values: Vec<f64> = window.iter().map(|(_, value)| *value).collect();
        let value = match by {
            By::Floor => values.iter().copied().fold(f64::INFINITY, f64::min),
            By::Middle => median(&values),
        };
        (window.iter().map(|(at, _)| at).sum::<f64>() / window.len() as f64, value)
    };
    Some((0..count).map(of).collect())
}

/// Of all pairs, in order.
fn slopes(windows: &[(f64, f64)]) -> Vec<f64> {
    let mut slopes = Vec::new();
    for (number, (at, value)) in windows.iter().enumerate() {
        let later = windows[number + 1..].iter().filter(|(then, _)| then > at);
        slopes.extend(later.map(|(then, grown)| (grown - value) / (then - at)));
    }
    slopes.sort_by(f64::total_cmp);
    slopes
}

/// Of S where nothing grows, with ties (Gilbert 1987, section 16.4.2).
fn variance(windows: &[(f64, f64)]) -> f64 {
    let term = |count: f64| count * (count - 1.0) * (2.0 * count + 5.0) / 18.0;
    let mut values: Vec<f64> = windows.iter().map(|(_, value)| *value).collect();
    values.sort_by(f64::total_cmp);
    let ties = values.chunk_by(|one, other| one == other).map(|tied| term(tied.len() as f64));
    (term(values.len() as f64) - ties.sum::<f64>()).max(0.0)
}

/// By how much neighbours that are alike multiply that variance.
fn likeness(windows: &[(f64, f64)], per_hour: f64) -> f64 {
    let levels: Vec<f64> = windows.iter().map(|(at, value)| value - per_hour * at).collect();
    let mean = levels.iter().sum::<f64>() / levels.len() as f64;
    let residuals: Vec<f64> = levels.iter().map(|level| level - mean).collect();
    let squares: f64 = residuals.iter().map(|residual| residual * residual).sum();
    let lagged: f64 = residuals.windows(2).map(|pair| pair[0] * pair[1]).sum();
    let alike = if squares > 0.0 { lagged / squares } else { 0.0 };
    if alike <= NORMAL_95 / (windows.len() as f64).sqrt() {
        return 1.0;
    }
    let alike = alike.min(ALIKE_MOST);
    (1.0 + alike) / (1.0 - alike)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Samples of ten seconds each over so many minutes, of a function of hours.
    fn samples(minutes: f64, mut of: impl FnMut(f64) -> f64) -> Vec<(f64, f64)> {
        (0..(minutes * 6.0) as usize).map(|number| number as f64 / 360.0).map(|hour| (hour, of(hour))).collect()
    }

    fn verdict(samples: &[(f64, f64)], by: By, grain: f64, limit: f64) -> Verdict {
        Trend::of(samples, by, grain, 0.0).unwrap().verdict(limit)
    }

    #[test]
    fn a_line_is_found_and_too_few_samples_tell_nothing() {
        let trend = Trend::of(&samples(60.0, |hour| 5.0 + 3.0 * hour), By::Middle, 0.0, 0.0).unwrap();
        assert!((trend.per_hour - 3.0).abs() < 1e-9 && trend.interval.0 > 2.99, "{trend:?}");
        assert_eq!((trend.verdict(2.9), trend.verdict(3.1)), (Verdict::Grows, Verdict::Bounded));
        assert_eq!(Trend::of(&samples(1.0, |hour| hour), By::Middle, 0.0, 0.0), None);
        assert_eq!(Trend::of(&[(0.0, 1.0); 40], By::Middle, 0.0, 0.0), None, "all of one moment");
        assert_eq!(Trend::of(&[], By::Floor, 1.0, 0.0), None);
    }

    #[test]
    fn a_sawtooth_does_not_grow_wherever_it_is_cut() {
        for minutes in [31.0, 40.0, 47.0, 60.0] {
            for period in [20.0, 37.0, 60.0] {
                // It gathers for a while, and gives all of it back.
                let teeth = samples(minutes, |hour| 80.0 + 30.0 * (hour * period).fract());
                let verdict = verdict(&teeth, By::Floor, 0.0, 3.0);
                assert_ne!(verdict, Verdict::Grows, "{minutes} minutes, {period} an hour");
            }
        }
        let teeth = samples(60.0, |hour| 80.0 + 30.0 * (hour * 60.0).fract());
        assert_eq!(verdict(&teeth, By::Floor, 0.0, 3.0), Verdict::Bounded);
        let climbing = samples(60.0, |hour| 80.0 + 12.0 * hour + 30.0 * (hour * 60.0).fract());
        assert_eq!(verdict(&climbing, By::Floor, 0.0, 3.0), Verdict::Grows);
    }

    #[test]
    fn a_warm_up_that_has_ended_is_no_growth() {
        // Nearly all of it within the first minutes of an hour.
        let warm = samples(60.0, |hour| 100.0 - 60.0 * (-hour * 20.0).exp());
        assert_eq!(verdict(&warm, By::Floor, 0.0, 3.0), Verdict::Bounded);
    }

    #[test]
    fn a_slow_leak_of_descriptors_is_seen_in_a_short_run_and_a_slower_one_cannot_be_told() {
        let mut random = Random::new(5);
        // One of a hundred requests at sixty a second keeps its descriptor; clients come and go besides.
        let mut leaking = |per_hour: f64| {
            let of = |hour: f64| 40.0 + (per_hour * hour).floor() + (random.uniform() * 4.0).floor();
            samples(6.0, of)
        };
        assert_eq!(verdict(&leaking(2160.0), By::Floor, 1.0, 3.0), Verdict::Grows);
        assert_eq!(verdict(&leaking(216.0), By::Floor, 1.0, 3.0), Verdict::Grows);
        assert_eq!(verdict(&leaking(10.0), By::Floor, 1.0, 3.0), Verdict::CannotTell);
        let hour = samples(60.0, |hour| 40.0 + (10.0 * hour).floor());
        assert_eq!(verdict(&hour, By::Floor, 1.0, 3.0), Verdict::Grows);
    }

    #[test]
    fn a_count_that_stands_still_tells_only_what_its_time_can_show() {
        let short = Trend::of(&samples(6.0, |_| 40.0), By::Floor, 1.0, 0.0).unwrap();
        assert_eq!(short.verdict(3.0), Verdict::CannotTell, "three an hour are none in four minutes: {short:?}");
        let long = Trend::of(&samples(60.0, |_| 40.0), By::Floor, 1.0, 0.0).unwrap();
        assert_eq!(long.verdict(3.0), Verdict::Bounded);
        assert!(short.detectable(3.0) > 50.0 && (3.0..12.0).contains(&long.detectable(3.0)), "{short:?} {long:?}");
    }

    #[test]
    fn what_is_detectable_is_detected() {
        for minutes in [6.0, 12.0, 30.0, 60.0] {
            let still = Trend::of(&samples(minutes, |_| 40.0), By::Floor, 1.0, 0.0).unwrap();
            let slope = 1.2 * still.detectable(3.0);
            let leaking = samples(minutes, |hour| 40.0 + (slope * hour).floor());
            assert_eq!(verdict(&leaking, By::Floor, 1.0, 3.0), Verdict::Grows, "{slope} an hour in {minutes} minutes");
        }
    }

    #[test]
    fn what_settles_late_is_looked_at_late() {
        let filling = samples(12.0, |hour| 20.0 + 300.0 * hour.min(0.16));
        assert_eq!(verdict(&filling, By::Floor, 0.0, 3.0), Verdict::Grows);
        assert_eq!(Trend::of(&filling, By::Floor, 0.0, 1.0 / 6.0).unwrap().verdict(3.0), Verdict::Bounded);
        assert_eq!(Trend::of(&filling, By::Floor, 0.0, 0.25), None);
    }

    #[test]
    fn a_single_step_is_no_growth() {
        for at in [0.4, 0.5, 0.6, 0.67, 0.75, 0.9] {
            let stepped = samples(60.0, |hour| if hour < at { 100.0 } else { 120.0 });
            assert_ne!(verdict(&stepped, By::Floor, 0.0, 3.0), Verdict::Grows, "a step after {at} of the hour");
        }
    }

    #[test]
    fn noise_is_no_growth_and_growth_is_seen_through_noise() {
        let mut random = Random::new(7);
        let grown = (0..300).filter(|_| {
            let noise = samples(30.0, |_| 100.0 + random.normal());
            verdict(&noise, By::Middle, 0.0, 0.0) == Verdict::Grows
        });
        // One in two hundred by chance.
        let grown = grown.count();
        assert!(grown <= 6, "{grown} of 300");
        let noisy = samples(60.0, |hour| 100.0 + 10.0 * hour + random.normal());
        assert_eq!(verdict(&noisy, By::Middle, 0.0, 3.0), Verdict::Grows);
        let loud = samples(6.0, |_| 100.0 + 40.0 * random.normal());
        assert_eq!(verdict(&loud, By::Middle, 0.0, 3.0), Verdict::CannotTell);
    }

    #[test]
    fn what_wanders_is_rarely_taken_for_growth() {
        let mut random = Random::new(3);
        let grown = (0..100).filter(|_| {
            let mut at = 0.0;
            let wandering = samples(60.0, |_| {
                at = 0.95 * at + random.normal();
                100.0 + at
            });
            verdict(&wandering, By::Middle, 0.0, 3.0) == Verdict::Grows
        });
        let grown = grown.count();
        assert!(grown <= 8, "{grown} of 100");
    }
}
