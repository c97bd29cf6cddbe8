//! Latencies of a run: exact enough for any percentile, merged without loss, and coarsely over time.

use hdrhistogram::Histogram;

/// The longest latency told apart, in nanoseconds. Longer ones count as this.
pub const LATENCY_MAX_NS: u64 = 120_000_000_000;

/// An empty histogram of nanoseconds up to [`LATENCY_MAX_NS`], three digits exact. All of a run's have these bounds, so
/// that merging them adds counts and loses nothing.
///
/// # Panics
/// Never: the bounds are valid.
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("these bounds are valid")
}

/// Adds another's counts.
///
/// # Panics
/// When `from` has wider bounds than [`latencies`] gives.
pub fn merge(to: &mut Histogram<u64>, from: &Histogram<u64>) {
    to.add(from).expect("all histograms of a run have the same bounds");
}

/// A percentile in microseconds; none of an empty histogram.
pub fn percentile_us(of: &Histogram<u64>, percentile: f64) -> Option<f64> {
    (!of.is_empty()).then(|| of.value_at_quantile(percentile / 100.0) as f64 / 1e3)
}

/// Buckets per power of two of a [`Coarse`].
const FINE: u64 = 4;

/// Latencies of one interval, in quarters of powers of two: a column of a heat map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coarse {
    counts: Vec<u32>,
}

impl Coarse {
    /// Counts one latency in nanoseconds.
    pub fn record(&mut self, ns: u64) {
        self.record_many(ns, 1);
    }

    /// Counts one latency as often as that.
    pub fn record_many(&mut self, ns: u64, count: u32) {
        let bucket = Self::bucket(ns);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] = self.counts[bucket].saturating_add(count);
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Coarse) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine = mine.saturating_add(*theirs));
    }

    /// Buckets that hold something: first nanosecond, first nanosecond beyond, count.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64, u32)> + '_ {
        let filled = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(index, &count)| (Self::start(index), Self::start(index + 1), count))
    }

    fn bucket(ns: u64) -> usize {
        if ns < FINE {
            return ns as usize;
        }
        let shift = ns.ilog2() - FINE.ilog2();
        (u64::from(shift) * FINE + (ns >> shift)) as usize
    }

    fn start(index: usize) -> u64 {
        let index = index as u64;
        if index < FINE {
            return index;
        }
        (FINE + index % FINE) << (index / FINE - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarse_buckets_follow_each_other_and_hold_what_belongs_to_them() {
        for ns in (0..20_000u64).chain([1 << 36, LATENCY_MAX_NS]) {
            let bucket = Coarse::bucket(ns);
            assert!(Coarse::start(bucket) <= ns && ns < Coarse::start(bucket + 1), "{ns}");
        }
    }

    #[test]
    fn merged_coarse_counts_are_the_counts_of_all() {
        let (mut one, mut two, mut all) = (Coarse::default(), Coarse::default(), Coarse::default());
        for ns in 0..10_000u64 {
            if ns % 3 == 0 {
                one.record(ns * ns)
            } else {
                two.record(ns * ns)
            }
            all.record(ns * ns);
        }
        one.merge(&two);
        assert_eq!(one, all);
        assert_eq!(one.buckets().map(|(_, _, count)| count).sum::<u32>(), 10_000);
    }

    #[test]
    fn merging_loses_nothing() {
        let (mut one, mut two, mut all) = (latencies(), latencies(), latencies());
        for value in 1..50_000u64 {
            if value % 7 == 0 { &mut one } else { &mut two }.record(value * 977).unwrap();
            all.record(value * 977).unwrap();
        }
        merge(&mut one, &two);
        assert_eq!(one, all);
        assert_eq!(percentile_us(&latencies(), 99.0), None);
    }
}
