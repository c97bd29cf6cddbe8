//! Who watches a run while it runs.

use crate::record::Round;
use hdrhistogram::Histogram;

/// Is told what happens, from the thread that coordinates.
pub trait Progress {
    /// Something other than a round is going on.
    fn on_step(&mut self, what: &str);

    /// About four times a second: so many seconds of a round are over, so many requests were completed since the last
    /// time and so many failed, and these are the latencies so far.
    #[allow(clippy::too_many_arguments)]
    fn on_interval(
        &mut self,
        side: &str,
        round: usize,
        at_s: f64,
        total_s: f64,
        completed: u64,
        failed: u64,
        latency_so_far: &Histogram<u64>,
    );

    /// A round is over. Rounds count from 1.
    fn on_round(&mut self, side: &str, round: usize, of: &Round);
}
