//! Whether a figure grows: a straight line through its samples by least squares, with what chance leaves open.
//!
//! Samples of a service that follow each other are alike, so they say less than as many independent ones. Their number counts
//! as n (1 - r) / (1 + r), where r is the correlation of residuals with those before them (Bartlett 1946; as in Santer et al.
//! 2000 for trends), and never as more than n.

use crate::compare::student;

/// A slope.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    /// The figure's mean.
    pub mean: f64,
    /// Its change in an hour.
    pub per_hour: f64,
    /// Half the width of the interval that has the true slope with 95 % confidence.
    pub uncertainty: f64,
    /// The hours from the first sample to the last.
    pub hours: f64,
    /// Samples.
    pub samples: usize,
    /// What they count as.
    pub independent: f64,
}

impl Slope {
    /// The line through samples, each a time in hours and a value. None of fewer than four, or of one moment.
    pub fn of(samples: &[(f64, f64)]) -> Option<Slope> {
        let count = samples.len() as f64;
        if samples.len() < 4 {
            return None;
        }
        let mean_of = |part: fn(&(f64, f64)) -> f64| samples.iter().map(part).sum::<f64>() / count;
        let (at, mean) = (mean_of(|sample| sample.0), mean_of(|sample| sample.1));
        let spread: f64 = samples.iter().map(|(time, _)| (time - at).powi(2)).sum();
        if spread <= 0.0 {
            return None;
        }
        let per_hour = samples.iter().map(|(time, value)| (time - at) * (value - mean)).sum::<f64>() / spread;
        let residuals: Vec<f64> = samples.iter().map(|(time, value)| value - mean - per_hour * (time - at)).collect();
        let squares: f64 = residuals.iter().map(|residual| residual.powi(2)).sum();
        let lagged: f64 = residuals.windows(2).map(|pair| pair[0] * pair[1]).sum();
        let alike = if squares > 0.0 { (lagged / squares).clamp(0.0, 0.99) } else { 0.0 };
        let independent = (count * (1.0 - alike) / (1.0 + alike)).max(3.0);
        let error = (squares / (independent - 2.0) / spread).sqrt();
        let hours = samples[samples.len() - 1].0 - samples[0].0;
        let uncertainty = student(independent - 2.0) * error;
        Some(Slope { mean, per_hour, uncertainty, hours, samples: samples.len(), independent })
    }

    /// What has surely been added from the first sample to the last; negative where nothing has.
    pub fn surely_added(&self) -> f64 {
        (self.per_hour - self.uncertainty) * self.hours
    }

    /// Whether it clearly grows: beyond chance, and by more than `least`, or a share of its mean, while it was looked at.
    pub fn grows(&self, least: f64, share: f64) -> bool {
        self.surely_added() > least.max(share * self.mean.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn samples(count: usize, of: impl FnMut(f64) -> f64) -> Vec<(f64, f64)> {
        let mut of = of;
        (0..count).map(|number| number as f64 / 60.0).map(|hour| (hour, of(hour))).collect()
    }

    #[test]
    fn a_line_is_found_and_has_no_uncertainty() {
        let slope = Slope::of(&samples(10, |hour| 5.0 + 3.0 * hour)).unwrap();
        assert!((slope.per_hour - 3.0).abs() < 1e-9 && slope.uncertainty < 1e-6, "{slope:?}");
        assert!(slope.grows(0.1, 0.0) && !slope.grows(1.0, 0.0), "it was looked at for nine minutes");
        assert_eq!(Slope::of(&[(0.0, 1.0); 9]), None);
        assert_eq!(Slope::of(&samples(3, |hour| hour)), None);
    }

    #[test]
    fn noise_is_no_growth_and_growth_is_seen_through_noise() {
        let mut random = Random::new(7);
        let grown = (0..200).filter(|_| {
            let slope = Slope::of(&samples(60, |_| 100.0 + random.normal())).unwrap();
            slope.grows(0.0, 0.0)
        });
        // Two and a half in a hundred by chance.
        let grown = grown.count();
        assert!(grown <= 14, "{grown} of 200");
        let mut random = Random::new(9);
        let slope = Slope::of(&samples(60, |hour| 100.0 + 10.0 * hour + random.normal())).unwrap();
        assert!(slope.grows(1.0, 0.01), "{slope:?}");
    }

    #[test]
    fn what_wanders_counts_as_less_than_it_has_samples() {
        let (mut random, mut at) = (Random::new(3), 0.0);
        let mut wandering = || {
            at = 0.9 * at + random.normal();
            100.0 + at
        };
        let slope = Slope::of(&samples(200, |_| wandering())).unwrap();
        assert!(slope.independent < 60.0, "{slope:?}");
    }
}
