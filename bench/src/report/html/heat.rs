//! Latency over time, as a heat map per side: the darker, the more answers took that long.

use super::figure::{self, Figure, hover, line_key, refused, stretched};
use super::scale::Log;
use super::series::background;
use super::timeline::{Stretch, Timeline, length, uncounted};
use crate::histogram::Coarse;
use crate::record::{Record, Round};
use crate::report::figures::{count, duration, number, round_duration};
use crate::report::summary::{late_p99_ns, refusal};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Shades from few to many.
const SHADES: usize = 8;

/// The plots, one per side, with the same axes.
pub fn plots(record: &Record, timeline: &Timeline) -> String {
    let heading = "Latency over time";
    let rounds = || record.sides.iter().flat_map(|side| &side.rounds);
    let told = || rounds().filter(|round| round.is_honest()).flat_map(|round| &round.intervals);
    let low = told().filter_map(|interval| interval.latency.buckets().next()).map(|(from, _, _)| from).min();
    let high = told().filter_map(|interval| interval.latency.buckets().last()).map(|(_, to, _)| to).max();
    let has_late = rounds().any(|round| !round.is_honest());
    let latency = match (low, high) {
        (Some(low), Some(high)) => Some(Log::between(low as f64, high as f64)),
        _ if has_late => None,
        _ => return figure::absent("heat-0", heading, "Nothing was completed, so there is no latency to show."),
    };
    let columns: Vec<Vec<Vec<Column>>> = record
        .sides
        .iter()
        .map(|side| side.rounds.iter().map(|round| columns(round, timeline.merged)).collect())
        .collect();
    let most =
        columns.iter().flatten().flatten().flat_map(|column| column.latency.buckets()).map(|bucket| bucket.2).max();
    let most = most.unwrap_or(1);
    let mut html = String::new();
    for (index, side) in record.sides.iter().enumerate() {
        let (mut cells, mut over) = (String::new(), String::new());
        for (number, round) in side.rounds.iter().enumerate() {
            let segment = &timeline.segments[number];
            if !round.is_honest() {
                let words = refusal(late_p99_ns(round));
                let width = timeline.at(number, length(round)) - segment.from;
                over += &refused(segment.from, width, "100%", "refused", &words);
                continue;
            }
            let Some(latency) = &latency else { continue };
            cells += &drawn(&columns[index][number], timeline, number, latency, most);
            for (place, column) in columns[index][number].iter().enumerate() {
                let from = place as f64 * timeline.column_s();
                let left = timeline.at(number, from);
                let width = timeline.at(number, from + timeline.column_s()) - left;
                over += &hover(left, width, &column.words(from, timeline.column_s()));
            }
        }
        let stretches: Vec<Vec<Stretch>> = side.rounds.iter().map(|round| uncounted(std::iter::once(round))).collect();
        let class = format!("s{}", index % figure::COLOURS);
        let id = format!("heat-{index}");
        let heading = format!("{heading}: {}", side.name);
        let content =
            format!("{}<g class=\"heat {class}\">{}</g>{over}", background(timeline, &stretches), stretched(&cells));
        let refused_rounds = side.rounds.iter().filter(|round| !round.is_honest()).count();
        html += &Figure {
            id: &id,
            heading: &heading,
            side: Some(index),
            description: description(&heading, refused_rounds, side.rounds.len()),
            vertical: "latency, by powers of ten",
            horizontal: "seconds since the round began, by when a request was meant to leave",
            height: 220,
            rows: latency.as_ref().map(|latency| latency.ticks(round_duration)).unwrap_or_default(),
            columns: timeline.ticks(),
            content,
            legend: legend(index, most, refused_rounds > 0, timeline),
            caption: String::new(),
        }
        .html();
    }
    html
}

fn description(heading: &str, refused: usize, rounds: usize) -> String {
    let refused = match refused {
        0 => String::new(),
        refused => format!(" {refused} of {rounds} rounds are refused, because the generator was late."),
    };
    format!("{heading}: a heat map of how many answers took how long, from left to right by time.{refused}")
}

fn legend(side: usize, most: u32, has_refused: bool, timeline: &Timeline) -> String {
    let class = format!("s{}", side % figure::COLOURS);
    let mut ramp = String::new();
    for shade in 1..=SHADES {
        let x = (shade - 1) * 10;
        let _infallible = write!(ramp, "<rect class=\"c{shade}\" x=\"{x}\" width=\"10\" height=\"12\"/>");
    }
    let each = number(timeline.column_s());
    let mut keys = format!(
        "<li>1 <svg class=\"ramp heat {class}\" viewBox=\"0 0 80 12\" aria-hidden=\"true\">{ramp}</svg> {} answers in {each} s</li>",
        count(u64::from(most))
    );
    keys += &line_key("shade", "warm-up and cool-down, not counted");
    if has_refused {
        keys += &line_key("hatch", "refused: the generator was late");
    }
    figure::legend(&keys)
}

/// Intervals that are drawn as one.
#[derive(Default)]
struct Column {
    completed: u64,
    failed: u64,
    latency: Coarse,
}

impl Column {
    fn words(&self, from: f64, seconds: f64) -> String {
        let mut words = format!("{} to {} s\n{} answered", number(from), number(from + seconds), count(self.completed));
        if self.failed > 0 {
            let _infallible = write!(words, ", {} failed", count(self.failed));
        }
        let counts: Vec<_> = self.latency.buckets().collect();
        let all: u64 = counts.iter().map(|bucket| u64::from(bucket.2)).sum();
        let below = |share: f64| {
            let mut seen = 0;
            let found = counts.iter().find(|bucket| {
                seen += u64::from(bucket.2);
                seen as f64 >= all as f64 * share
            });
            found.map_or(0, |bucket| bucket.1)
        };
        if all > 0 {
            let _infallible = write!(
                words,
                "\np50 below {}, p99 below {}, all below {}",
                duration(below(0.5)),
                duration(below(0.99)),
                duration(below(1.0))
            );
        }
        words
    }
}

fn columns(round: &Round, merged: usize) -> Vec<Column> {
    let merge = |intervals: &[crate::record::Interval]| {
        let mut column = Column::default();
        for interval in intervals {
            column.completed += interval.completed;
            column.failed += interval.failed;
            column.latency.merge(&interval.latency);
        }
        column
    };
    round.intervals.chunks(merged).map(merge).collect()
}

/// Cells of a round, one path per shade; neighbours of the same shade are one rectangle.
fn drawn(columns: &[Column], timeline: &Timeline, round: usize, latency: &Log, most: u32) -> String {
    let mut rows: BTreeMap<(u64, u64), Vec<usize>> = BTreeMap::new();
    for (place, column) in columns.iter().enumerate() {
        for (from, to, count) in column.latency.buckets() {
            rows.entry((from, to)).or_insert_with(|| vec![0; columns.len()])[place] = shade(count, most);
        }
    }
    let mut paths = vec![String::new(); SHADES + 1];
    for ((from, to), shades) in &rows {
        let top = ((1.0 - latency.at(*to as f64)) * 1000.0).round() as i64;
        let height = ((1.0 - latency.at(*from as f64)) * 1000.0).round() as i64 - top;
        let mut place = 0;
        while place < shades.len() {
            let run = shades[place..].iter().take_while(|shade| **shade == shades[place]).count();
            if shades[place] > 0 {
                let _infallible = write!(paths[shades[place]], "M{place} {top}h{run}v{height}h-{run}z");
            }
            place += run;
        }
    }
    // A unit to the right is a column.
    let left = timeline.at(round, 0.0) * 1000.0;
    let width = timeline.segments[round].width * 1000.0 * timeline.column_s() / timeline.segments[round].seconds;
    let filled = paths.iter().enumerate().filter(|(_, path)| !path.is_empty());
    let paths: String = filled.map(|(shade, path)| format!("<path class=\"c{shade}\" d=\"{path}\"/>\n")).collect();
    format!("<g transform=\"translate({left:.2} 0) scale({width:.4} 1)\">{paths}</g>")
}

/// From 1 for a single answer to [`SHADES`] for the most, by powers.
fn shade(count: u32, most: u32) -> usize {
    if count == 0 {
        return 0;
    }
    let share = f64::from(count).ln() / f64::from(most.max(2)).ln();
    1 + (share * (SHADES - 1) as f64).round().clamp(0.0, (SHADES - 1) as f64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::demo;

    #[test]
    fn shades_grow_with_counts() {
        assert_eq!([shade(0, 100), shade(1, 100), shade(10, 100), shade(100, 100), shade(1, 1)], [0, 1, 5, 8, 1]);
    }

    #[test]
    fn late_rounds_are_hatched_and_have_no_cells() {
        let mut record = demo::record();
        let timeline = Timeline::of(&record);
        let html = plots(&record, &timeline);
        assert_eq!(html.matches("class=\"refused\"").count(), 1);
        assert_eq!(html.matches("<g transform").count(), 5);
        // Late in all of them: bands alone, and no axis with figures.
        let late = record.sides[1].rounds[1].lateness.clone();
        record.sides.iter_mut().flat_map(|side| &mut side.rounds).for_each(|round| round.lateness = late.clone());
        let html = plots(&record, &timeline);
        assert_eq!((html.matches("class=\"refused\"").count(), html.matches("<g transform").count()), (6, 0));
        assert!(!html.contains("class=\"row\""));
    }

    #[test]
    fn tooltips_tell_bounds() {
        let mut column = Column { completed: 3, failed: 1, ..Column::default() };
        [1000, 1000, 9000].into_iter().for_each(|ns| column.latency.record(ns));
        assert_eq!(
            column.words(0.5, 0.1),
            "0.5 to 0.6 s\n3 answered, 1 failed\np50 below 1.02 µs, p99 below 10.2 µs, all below 10.2 µs"
        );
    }
}
