//! Repeatable chance: the same seed gives the same run. Quality suffices for load, not for anything that must be secret.

/// Marsaglia's xorshift with 64 bits (2003), period 2^64 - 1.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for every odd seed; an even one counts as the next odd one.
    pub const fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    /// The next 64 bits; never all zero.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number in (0, 1].
    pub fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 1.0) / (1u64 << 53) as f64
    }

    /// A number in `0..count`.
    ///
    /// # Panics
    /// When `count` is zero.
    pub fn below(&mut self, count: usize) -> usize {
        // The low bits of xorshift are its weak ones.
        ((self.bits() >> 16) % count as u64) as usize
    }

    /// Whether something of this probability happens.
    pub fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.uniform() <= probability
    }

    /// A number of the standard normal distribution, after Box and Muller (1958).
    pub fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.uniform(), self.uniform());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_moments_they_should() {
        let mut random = Random::new(7);
        let many: Vec<f64> = (0..100_000).map(|_| random.normal()).collect();
        let mean = many.iter().sum::<f64>() / many.len() as f64;
        let variance = many.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / many.len() as f64;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
        let hits = (0..100_000).filter(|_| random.happens(0.1)).count();
        assert!((9_500..10_500).contains(&hits), "{hits}");
        let mut counts = [0usize; 10];
        (0..100_000).for_each(|_| counts[random.below(10)] += 1);
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn what_cannot_happen_does_not_and_what_must_does() {
        let mut random = Random::new(1);
        assert!((0..1000).all(|_| !random.happens(0.0) && random.happens(1.0)));
    }
}
