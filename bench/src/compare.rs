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

#[cfg(test)]
mod tests {
    use super::*;

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
