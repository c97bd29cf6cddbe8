//! What a side's rounds amount to: the figures that the text and the page both show.
//!
//! Latencies of a round in which the generator was late are left out and named: they are refused, not averaged away.

use super::figures::{duration, list, of, round_duration};
use crate::histogram::{latencies, merge};
use crate::record::{LATENESS_MAX_NS, Record, Round, Side};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// The percentiles of every table, by name and as a share.
pub const PERCENTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

/// A round without latencies, because the generator was late in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which, from 1.
    pub round: usize,
    /// By how much the generator was late at the 99th percentile, in nanoseconds.
    pub late_p99_ns: u64,
}

/// The server's processor time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cpu {
    /// Cores kept busy in the program.
    pub user_cores: f64,
    /// Cores kept busy in the kernel on its behalf.
    pub system_cores: f64,
    /// Microseconds per answer, both together; none without answers.
    pub us_each: Option<f64>,
}

/// The server's memory, in bytes: at the first reading, at the last, and at the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Resident.
    pub rss: [u64; 3],
    /// Proportional.
    pub pss: [u64; 3],
    /// By how much the kernel's slabs grew, of the whole machine.
    pub slab_growth: i64,
}

/// The server's context switches per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Switches {
    /// Asked for by its threads.
    pub voluntary_per_s: f64,
    /// Forced upon them.
    pub involuntary_per_s: f64,
}

/// A side in figures.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// How many rounds it has.
    pub rounds: usize,
    /// Those whose latencies are refused.
    pub refused: Vec<Refused>,
    /// Latencies of all other rounds.
    pub corrected: Histogram<u64>,
    /// Their uncorrected ones.
    pub uncorrected: Histogram<u64>,
    /// Lateness of the generator in all rounds.
    pub lateness: Histogram<u64>,
    /// Seconds that were counted, of all rounds.
    pub seconds: f64,
    /// Offered per second; zero where the loop was closed.
    pub offered_per_s: f64,
    /// Sent.
    pub sent: u64,
    /// Answered as they should be.
    pub completed: u64,
    /// Failed, by reason.
    pub failed: BTreeMap<String, u64>,
    /// How often each status came.
    pub statuses: BTreeMap<u16, u64>,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Connections opened.
    pub opened: u64,
    /// None where the server's process is unknown.
    pub cpu: Option<Cpu>,
    /// As `cpu`.
    pub memory: Option<Memory>,
    /// As `cpu`.
    pub switches: Option<Switches>,
}

impl Summary {
    /// All sides of a record.
    pub fn all(record: &Record) -> Vec<Summary> {
        record.sides.iter().map(Summary::of).collect()
    }

    /// One side.
    pub fn of(side: &Side) -> Summary {
        let rounds = &side.rounds;
        let seconds: f64 = rounds.iter().map(|round| round.seconds).sum();
        let offered: f64 = rounds.iter().map(|round| round.offered_per_s * round.seconds).sum();
        let sum = |of: fn(&Round) -> u64| rounds.iter().map(of).sum::<u64>();
        let (mut corrected, mut uncorrected) = (latencies(), latencies());
        let (mut failed, mut statuses) = (BTreeMap::new(), BTreeMap::new());
        for round in rounds {
            if round.is_honest() {
                merge(&mut corrected, &round.latency);
                merge(&mut uncorrected, &round.uncorrected);
            }
            round.failed.iter().for_each(|(reason, count)| *failed.entry(reason.clone()).or_default() += count);
            round.statuses.iter().for_each(|(status, count)| *statuses.entry(*status).or_default() += count);
        }
        let numbered = rounds.iter().enumerate().map(|(index, round)| (index + 1, round));
        let refused = numbered
            .filter(|(_, round)| !round.is_honest())
            .map(|(number, round)| Refused { round: number, late_p99_ns: late_p99_ns(round) });
        Summary {
            name: side.name.clone(),
            rounds: rounds.len(),
            refused: refused.collect(),
            corrected,
            uncorrected,
            lateness: side.lateness(),
            seconds,
            offered_per_s: if seconds > 0.0 { offered / seconds } else { 0.0 },
            sent: sum(|round| round.sent),
            completed: sum(|round| round.completed),
            failed,
            statuses,
            bytes_received: sum(|round| round.bytes_received),
            bytes_sent: sum(|round| round.bytes_sent),
            opened: sum(|round| round.opened),
            cpu: cpu(rounds),
            memory: memory(rounds),
            switches: switches(rounds),
        }
    }

    /// Answers per second.
    pub fn per_s(&self) -> f64 {
        self.completed as f64 / self.seconds.max(1e-9)
    }

    /// Whether there was no schedule: each request left when the one before was answered, and nothing is corrected.
    pub fn is_closed_loop(&self) -> bool {
        self.offered_per_s <= 0.0 && self.lateness.is_empty()
    }

    /// Failures of all reasons.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Why no latency is told at all, if so.
    pub fn without_latency(&self) -> Option<String> {
        if !self.refused.is_empty() && self.refused.len() == self.rounds {
            let worst = self.refused.iter().map(|refused| refused.late_p99_ns).max().unwrap_or(0);
            return Some(refusal(worst));
        }
        self.corrected.is_empty().then(|| "none: nothing was completed".to_owned())
    }

    /// Whose latencies the figures are, where it is not every round's.
    pub fn whose(&self) -> Option<String> {
        let late: Vec<usize> = self.refused.iter().map(|refused| refused.round).collect();
        if late.is_empty() || late.len() == self.rounds {
            return None;
        }
        let others: Vec<usize> = (1..=self.rounds).filter(|round| !late.contains(round)).collect();
        let noun = |rounds: &[usize]| if rounds.len() == 1 { "round" } else { "rounds" };
        Some(format!("figures of {} {} alone; {} {} refused", noun(&others), list(&others), noun(&late), list(&late)))
    }

    /// How the rounds were: `3 rounds of 5 s`.
    pub fn length(&self) -> String {
        let each = self.seconds / self.rounds.max(1) as f64;
        format!("{} of {}", of(self.rounds, "round"), super::figures::seconds(each))
    }

    /// The generator's lateness, always told.
    pub fn lateness_text(&self) -> String {
        if self.lateness.is_empty() {
            return "kept no schedule (closed loop): its latency forgives the server for holding it up".to_owned();
        }
        let at = |quantile| duration(self.lateness.value_at_quantile(quantile));
        let (p50, p99, most) = (at(0.5), at(0.99), duration(self.lateness.max()));
        format!("late by p50 {p50}, p99 {p99}, at most {most}; latencies are refused above {} at p99", limit())
    }
}

/// How a latency is refused.
pub fn refusal(late_p99_ns: u64) -> String {
    format!("refused: the generator itself was late (p99 late by {})", duration(late_p99_ns))
}

/// The generator's lateness in a round at the 99th percentile.
pub fn late_p99_ns(round: &Round) -> u64 {
    round.lateness.value_at_quantile(0.99)
}

/// How late a generator may be.
pub fn limit() -> String {
    round_duration(LATENESS_MAX_NS as f64)
}

/// Rounds with at least two readings, as the first and the last of each.
fn read(rounds: &[Round]) -> impl Iterator<Item = (&Round, f64)> {
    rounds.iter().filter_map(|round| {
        let seconds = round.usage.last()?.at_s - round.usage.first()?.at_s;
        (seconds > 0.0).then_some((round, seconds))
    })
}

fn cpu(rounds: &[Round]) -> Option<Cpu> {
    let (mut user_s, mut system_s, mut seconds, mut answered) = (0.0, 0.0, 0.0, 0.0);
    for (round, length) in read(rounds) {
        let (first, last) = (&round.usage[0], &round.usage[round.usage.len() - 1]);
        user_s += last.user_s - first.user_s;
        system_s += last.system_s - first.system_s;
        seconds += length;
        answered += round.answered_between(first.at_s, last.at_s);
    }
    (seconds > 0.0).then(|| Cpu {
        user_cores: user_s / seconds,
        system_cores: system_s / seconds,
        us_each: (answered > 0.0).then(|| (user_s + system_s) * 1e6 / answered),
    })
}

fn memory(rounds: &[Round]) -> Option<Memory> {
    let readings: Vec<_> = rounds.iter().flat_map(|round| &round.usage).collect();
    let (first, last) = (readings.first()?, readings.last()?);
    let most = |of: fn(&crate::record::Usage) -> u64| readings.iter().map(|usage| of(usage)).max().unwrap_or(0);
    Some(Memory {
        rss: [first.rss, last.rss, most(|usage| usage.rss)],
        pss: [first.pss, last.pss, most(|usage| usage.pss)],
        slab_growth: last.slab as i64 - first.slab as i64,
    })
}

fn switches(rounds: &[Round]) -> Option<Switches> {
    let (mut voluntary, mut involuntary, mut seconds) = (0, 0, 0.0);
    for (round, length) in read(rounds) {
        let (first, last) = (&round.usage[0], &round.usage[round.usage.len() - 1]);
        voluntary += last.voluntary.saturating_sub(first.voluntary);
        involuntary += last.involuntary.saturating_sub(first.involuntary);
        seconds += length;
    }
    (seconds > 0.0).then(|| Switches {
        voluntary_per_s: voluntary as f64 / seconds,
        involuntary_per_s: involuntary as f64 / seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::super::demo;
    use super::*;

    #[test]
    fn a_late_round_is_left_out_and_named() {
        let record = demo::record();
        let [ours, theirs] = &Summary::all(&record)[..] else { panic!("two sides") };
        assert_eq!(theirs.refused.iter().map(|refused| refused.round).collect::<Vec<_>>(), [2]);
        assert_eq!(theirs.whose().unwrap(), "figures of rounds 1 and 3 alone; round 2 refused");
        let told = [0, 2].map(|index: usize| record.sides[1].rounds[index].latency.len()).iter().sum::<u64>();
        assert_eq!(theirs.corrected.len(), told);
        assert_eq!((ours.whose(), ours.without_latency()), (None, None));
    }

    #[test]
    fn a_side_whose_rounds_are_all_late_has_no_latency() {
        let mut side = demo::record().sides.remove(1);
        side.rounds.retain(|round| !round.is_honest());
        let summary = Summary::of(&side);
        assert!(summary.without_latency().unwrap().starts_with("refused: the generator itself was late (p99 late by"));
        assert!(summary.corrected.is_empty() && summary.whose().is_none());
    }

    #[test]
    fn processor_time_agrees_with_the_rounds_own() {
        let mut side = demo::record().sides.remove(0);
        side.rounds.truncate(1);
        let (cpu, round) = (Summary::of(&side).cpu.unwrap(), &side.rounds[0]);
        assert!((cpu.us_each.unwrap() - round.cpu_us_each().unwrap()).abs() < 1e-6);
        let seconds = round.usage.last().unwrap().at_s - round.usage[0].at_s;
        assert!(((cpu.user_cores + cpu.system_cores) * seconds - round.cpu_s().unwrap()).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_told_of_a_process_that_is_unknown() {
        let mut side = demo::record().sides.remove(0);
        side.rounds.iter_mut().for_each(|round| round.usage.clear());
        let summary = Summary::of(&side);
        assert_eq!((summary.cpu, summary.memory, summary.switches), (None, None, None));
        let empty = Summary::of(&Side::default());
        assert_eq!((empty.per_s(), empty.without_latency().unwrap()), (0.0, "none: nothing was completed".to_owned()));
    }
}
