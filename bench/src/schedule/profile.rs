//! The rate over time: segments, one after the other.

use super::{Schedule, Spread};

/// A stretch of constant rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// Requests per second.
    pub rate: f64,
    /// How long.
    pub seconds: f64,
}

/// What the rate does over a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// In order.
    pub segments: Vec<Segment>,
    /// Evenly, or at random.
    pub spread: Spread,
    /// Makes random arrivals repeatable.
    pub seed: u64,
}

impl Profile {
    /// One rate throughout.
    pub fn steady(rate: f64, seconds: f64, seed: u64) -> Profile {
        Profile { segments: vec![Segment { rate, seconds }], spread: Spread::Poisson, seed }
    }

    /// A spike of `times` the rate between two calm stretches, all of the same length.
    pub fn spike(rate: f64, times: f64, seconds: f64, seed: u64) -> Profile {
        let calm = Segment { rate, seconds };
        Profile { segments: vec![calm, Segment { rate: rate * times, seconds }, calm], spread: Spread::Poisson, seed }
    }

    /// Seconds in all.
    pub fn seconds(&self) -> f64 {
        self.segments.iter().map(|segment| segment.seconds).sum()
    }

    /// When a segment begins, in nanoseconds since the start.
    pub fn start_ns(&self, segment: usize) -> u64 {
        (self.segments[..segment].iter().map(|segment| segment.seconds).sum::<f64>() * 1e9) as u64
    }

    /// Intended times in nanoseconds since the start, with the number of their segment.
    pub fn times(&self) -> impl Iterator<Item = (u64, usize)> + use<> {
        let (spread, seed) = (self.spread, self.seed);
        let mut start = 0;
        let begun: Vec<(u64, Segment)> = self
            .segments
            .iter()
            .map(|segment| {
                let before = start;
                start += (segment.seconds * 1e9) as u64;
                (before, *segment)
            })
            .collect();
        begun.into_iter().enumerate().filter(|(_, (_, segment))| segment.rate > 0.0).flat_map(
            move |(number, (start, segment))| {
                let end = (segment.seconds * 1e9) as u64;
                let schedule = Schedule::new(spread, segment.rate, seed + 2 * number as u64);
                schedule.take_while(move |&due| due < end).map(move |due| (start + due, number))
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_has_its_rates_in_its_segments() {
        let profile = Profile { spread: Spread::Constant, ..Profile::spike(1000.0, 5.0, 2.0, 1) };
        let times: Vec<(u64, usize)> = profile.times().collect();
        assert!(times.is_sorted());
        let of = |segment| times.iter().filter(|(_, number)| *number == segment).count();
        assert_eq!([of(0), of(1), of(2)], [1999, 9999, 1999]);
        assert!(
            times.iter().filter(|(_, number)| *number == 1).all(|(at, _)| (2_000_000_000..4_000_000_000).contains(at))
        );
        assert_eq!((profile.seconds(), profile.start_ns(2)), (6.0, 4_000_000_000));
    }
}
