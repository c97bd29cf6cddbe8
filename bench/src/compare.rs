//! Ours against theirs: medians of alternating rounds, their ratio, and how far rounds spread.

/// The middle value; for an even count, the mean of the two in the middle. Zero without values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// Two sides measured in alternating rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// Median of ours over median of theirs.
    pub value: f64,
    /// The smallest ratio of two rounds that ran one after the other.
    pub low: f64,
    /// The largest.
    pub high: f64,
}

impl Ratio {
    /// The ratio of medians, with the spread over pairs of rounds. None when a side has no rounds or a zero.
    pub fn of(ours: &[f64], theirs: &[f64]) -> Option<Ratio> {
        if ours.is_empty() || theirs.is_empty() || theirs.iter().any(|&value| value <= 0.0) {
            return None;
        }
        let pairs = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs);
        let (low, high) =
            pairs.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), pair| (pair.min(low), pair.max(high)));
        Some(Ratio { value: median(ours) / median(theirs), low, high })
    }

    /// Half the distance between the most different rounds: what chance alone does to the ratio.
    pub fn spread(&self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

/// Student's t for 95 % between both ends, by degrees of freedom from 1 to 30: NIST/SEMATECH e-Handbook of Statistical
/// Methods, section 1.3.6.7.2, column 0.975.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];
/// Student's t for 95 % between both ends; beyond the table its last value, which is a little too wide.
pub fn student(degrees_of_freedom: f64) -> f64 {
    STUDENT[(degrees_of_freedom.max(1.0) as usize - 1).min(STUDENT.len() - 1)]
}

/// Fewer pairs of rounds say nothing about chance.
pub const PAIRS_MIN: usize = 3;

/// A ratio out of paired rounds, with what chance leaves open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Confidence {
    /// The geometric mean of the pairs' ratios.
    pub ratio: f64,
    /// The ratio is between this,
    pub low: f64,
    /// and this, with 95 % confidence: as far as the logarithms of the pairs' ratios are normally distributed.
    pub high: f64,
    /// How many pairs it was made of.
    pub pairs: usize,
}

impl Confidence {
    /// The ratio of the first side to the second. None with fewer than [`PAIRS_MIN`] pairs, or a value that is not above
    /// zero.
    pub fn of(first: &[f64], second: &[f64]) -> Option<Confidence> {
        let pairs = first.len().min(second.len());
        if pairs < PAIRS_MIN {
            return None;
        }
        let logs: Vec<f64> = first.iter().zip(second).map(|(first, second)| (first / second).ln()).collect();
        if !logs.iter().all(|log| log.is_finite()) {
            return None;
        }
        let count = pairs as f64;
        let mean = logs.iter().sum::<f64>() / count;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let half = student(count - 1.0) * (variance / count).sqrt();
        Some(Confidence { ratio: mean.exp(), low: (mean - half).exp(), high: (mean + half).exp(), pairs })
    }

    /// Whether chance alone would hardly give this.
    pub fn shows_difference(&self) -> bool {
        self.low > 1.0 || self.high < 1.0
    }

    /// The interval, and what it says.
    pub fn text(&self) -> String {
        let verdict = if self.shows_difference() { "" } else { ": no difference shown" };
        format!("95 % between {:.3} and {:.3} of {} pairs{verdict}", self.low, self.high, self.pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidence_is_students() {
        // Logarithms of ratios 0, 1 and 2: mean 1, deviation 1, so the half width is 4.303 / sqrt(3).
        let e = std::f64::consts::E;
        let found = Confidence::of(&[1.0, e, e * e], &[1.0, 1.0, 1.0]).unwrap();
        assert!((found.ratio - e).abs() < 1e-9 && found.pairs == 3, "{found:?}");
        assert!((found.high.ln() - 1.0 - 4.303 / 3f64.sqrt()).abs() < 1e-9, "{found:?}");
        assert!((found.low.ln() - 1.0 + 4.303 / 3f64.sqrt()).abs() < 1e-9, "{found:?}");
        assert!(!found.shows_difference() && found.text().contains("no difference shown"));
        let same = Confidence::of(&[2.0; 50], &[1.0; 50]).unwrap();
        assert!((same.low - 2.0).abs() < 1e-9 && same.shows_difference() && !same.text().contains("no difference"));
    }

    #[test]
    fn too_little_gives_no_confidence() {
        assert_eq!(Confidence::of(&[1.0, 2.0], &[1.0, 2.0]), None);
        assert_eq!(Confidence::of(&[1.0, 2.0, 0.0], &[1.0, 2.0, 3.0]), None);
        assert_eq!(Confidence::of(&[1.0, 2.0, 3.0], &[1.0, 2.0, 0.0]), None);
    }

    #[test]
    fn medians_of_odd_even_and_none() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn a_ratio_is_of_medians_and_spreads_over_pairs() {
        let ratio = Ratio::of(&[1.0, 2.0, 30.0], &[2.0, 4.0, 10.0]).unwrap();
        assert_eq!(ratio, Ratio { value: 0.5, low: 0.5, high: 3.0 });
        assert_eq!(ratio.spread(), 1.25);
        assert_eq!(Ratio::of(&[1.0], &[0.0]), None);
        assert_eq!(Ratio::of(&[], &[1.0]), None);
    }
}
