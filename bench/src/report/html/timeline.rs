//! Time from left to right: round beside round, the sides' rounds of one number over each other.
//!
//! ```text
//!   |▒▒ round 1      ▒| |▒▒ round 2      ▒| |▒▒ round 3      ▒|     ▒ warm-up and cool-down: not counted
//!   0    2    4    6    0    2    4    6    0    2    4    6
//! ```

use super::scale::{Tick, step};
use crate::record::{INTERVAL_NS, Record, Round};

/// Between rounds, of the whole width.
const GAP: f64 = 0.012;
/// At most so many columns over the whole width.
pub const COLUMNS_MAX: usize = 300;

/// Where rounds and their seconds are.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline {
    /// By number of the round, from 0.
    pub segments: Vec<Segment>,
    /// So many intervals are one column.
    pub merged: usize,
}

/// The place of all rounds of one number.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// Where it begins, between 0 and 1.
    pub from: f64,
    /// How wide it is.
    pub width: f64,
    /// The seconds of its longest round.
    pub seconds: f64,
    /// Stretches that are not counted in one of its rounds.
    pub uncounted: Vec<Stretch>,
}

/// Seconds of a round from which on and up to which something is so, and what it is called.
pub type Stretch = (f64, f64, &'static str);

impl Timeline {
    /// The rounds of all sides.
    pub fn of(record: &Record) -> Timeline {
        let count = record.sides.iter().map(|side| side.rounds.len()).max().unwrap_or(0);
        let rounds = |number: usize| record.sides.iter().filter_map(move |side| side.rounds.get(number));
        let lengths: Vec<f64> = (0..count).map(|number| rounds(number).map(length).fold(0.1, f64::max)).collect();
        let total: f64 = lengths.iter().sum();
        let gap = GAP.min(0.2 / count.max(1) as f64);
        let share = (1.0 - gap * count.saturating_sub(1) as f64) / total.max(0.1);
        let mut from = 0.0;
        let segment = |(number, &seconds): (usize, &f64)| {
            let segment = Segment { from, width: seconds * share, seconds, uncounted: uncounted(rounds(number)) };
            from += segment.width + gap;
            segment
        };
        let segments = lengths.iter().enumerate().map(segment).collect();
        let intervals = total * 1e9 / INTERVAL_NS as f64;
        let mut merged = 1;
        // 1, 2, 5, 10, ... intervals: columns then begin at round seconds.
        while intervals / merged as f64 > COLUMNS_MAX as f64 {
            merged = step(merged as f64 + 0.5).round() as usize;
        }
        Timeline { segments, merged }
    }

    /// Where a second of a round is, between 0 and 1.
    pub fn at(&self, round: usize, second: f64) -> f64 {
        let segment = &self.segments[round];
        segment.from + segment.width * (second / segment.seconds).clamp(0.0, 1.0)
    }

    /// The seconds of one column.
    pub fn column_s(&self) -> f64 {
        self.merged as f64 * INTERVAL_NS as f64 / 1e9
    }

    /// Ticks at seconds of each round.
    pub fn ticks(&self) -> Vec<Tick> {
        let total: f64 = self.segments.iter().map(|segment| segment.seconds).sum();
        let each = step(total / 12.0).max(step(total / self.segments.len().max(1) as f64 / 6.0));
        let mut ticks = Vec::new();
        for (round, segment) in self.segments.iter().enumerate() {
            let count = (segment.seconds / each * 1.000_001).floor() as usize;
            for index in 0..=count {
                let second = index as f64 * each;
                // At the very end it would touch the next round's zero.
                let is_last = self.segments.len() > 1 && segment.seconds - second < each * 0.4 && index > 0;
                let label = if is_last { String::new() } else { crate::report::figures::number(second) };
                ticks.push(Tick { at: self.at(round, second), label, is_strong: index % 2 == 0 });
            }
        }
        ticks
    }
}

/// The seconds of a round, warm-up and cool-down included.
pub fn length(round: &Round) -> f64 {
    let intervals = round.intervals.len() as f64 * INTERVAL_NS as f64 / 1e9;
    let read = round.usage.last().map_or(0.0, |usage| usage.at_s);
    // The last answers may be waited for long after; the accounts are read until then.
    if intervals > 0.0 { intervals } else { (round.warm_up_s + round.seconds).max(read) }
}

/// What is not counted in rounds, each stretch once.
pub fn uncounted<'a>(rounds: impl Iterator<Item = &'a Round>) -> Vec<Stretch> {
    let mut stretches = Vec::new();
    for round in rounds {
        let (begins, ends, all) = (round.warm_up_s, round.warm_up_s + round.seconds, length(round));
        for stretch in [(0.0, begins, "warm-up"), (ends, all, "cool-down")] {
            if stretch.1 - stretch.0 > 0.01 && !stretches.contains(&stretch) {
                stretches.push(stretch);
            }
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Interval, Side};
    use crate::report::demo;

    #[test]
    fn rounds_stand_beside_each_other_with_what_is_not_counted() {
        let timeline = Timeline::of(&demo::record());
        assert_eq!((timeline.segments.len(), timeline.merged), (3, 1));
        let last = &timeline.segments[2];
        assert!((last.from + last.width - 1.0).abs() < 1e-9);
        assert_eq!(last.uncounted, [(0.0, 1.0, "warm-up"), (6.0, 6.5, "cool-down")]);
        assert!(timeline.at(0, 6.5) < timeline.at(1, 0.0));
        let zeros = timeline.ticks().iter().filter(|tick| tick.label == "0").count();
        assert_eq!(zeros, 3);
    }

    #[test]
    fn long_runs_have_few_columns() {
        for seconds in [1usize, 29, 31, 60, 599, 86_400] {
            let round = Round { intervals: vec![Interval::default(); seconds * 10], ..Round::default() };
            let side = Side { rounds: vec![round], ..Side::default() };
            let timeline = Timeline::of(&Record { sides: vec![side], ..Record::default() });
            let columns = seconds * 10 / timeline.merged;
            assert!(
                columns <= COLUMNS_MAX && (columns > 100 || timeline.merged == 1),
                "{seconds}: {}",
                timeline.merged
            );
            assert!((2..=14).contains(&timeline.ticks().len()), "{seconds}: {:?}", timeline.ticks());
        }
        assert!(Timeline::of(&Record::default()).segments.is_empty());
    }
}
