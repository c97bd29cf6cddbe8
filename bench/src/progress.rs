//! Who watches a run while it runs.

use crate::histogram::percentile_us;
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

/// A line on standard error for each round and step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines;

impl Progress for Lines {
    fn on_step(&mut self, what: &str) {
        eprintln!("  {what}");
    }

    fn on_interval(&mut self, _: &str, _: usize, _: f64, _: f64, _: u64, _: u64, _: &Histogram<u64>) {}

    fn on_round(&mut self, side: &str, round: usize, of: &Round) {
        eprintln!("  {}", line(side, round, of));
    }
}

/// A round in one line.
pub fn line(side: &str, round: usize, of: &Round) -> String {
    let us = |percentile| match (of.is_honest(), percentile_us(&of.latency, percentile)) {
        (false, _) => "refused".to_owned(),
        (true, None) => "none".to_owned(),
        (true, Some(us)) => format!("{us:.0} us"),
    };
    let late = percentile_us(&of.lateness, 99.0).map_or_else(String::new, |us| format!(", sent late p99 {us:.0} us"));
    let cpu = of.cpu_us_each().map_or_else(String::new, |us| format!(", {us:.2} us CPU each"));
    let failed = of.failures();
    let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
    format!("{side} round {round}: {:.0}/s, p50 {}, p99 {}{cpu}{late}{failed}", of.per_s(), us(50.0), us(99.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::LATENESS_MAX_NS;

    #[test]
    fn a_line_says_what_a_round_brought() {
        let mut round = Round { seconds: 2.0, completed: 10, ..Round::default() };
        assert_eq!(line("a", 1, &round), "a round 1: 5/s, p50 none, p99 none");
        round.latency.record(1_000_000).unwrap();
        round.failed.insert("reset".to_owned(), 3);
        assert!(line("a", 1, &round).ends_with("p50 1000 us, p99 1000 us, 3 failed"), "{}", line("a", 1, &round));
        round.lateness.record(2 * LATENESS_MAX_NS).unwrap();
        assert!(line("a", 1, &round).contains("p99 refused"), "{}", line("a", 1, &round));
    }
}
