//! What changes over time and is told of all sides in one plot: rate, processor time, memory.

use super::figure::{self, Figure, curve, hover, line_key, mark, side_key, stretched};
use super::scale::Linear;
use super::timeline::{Stretch, Timeline};
use crate::record::{INTERVAL_NS, Interval, Record, Round, Usage};
use crate::report::figures::{bytes, number, percent, rate};
use std::fmt::Write;

/// Readings of a round that are drawn, over the whole width.
const READINGS_MAX: usize = 400;
/// A curve does not touch the upper edge.
const ROOM: f64 = 1.04;
/// Up to so many rounds, a curve has two marks in each.
const MARKED_TWICE: usize = 4;
/// Columns with tooltips.
const HOVERS_MAX: f64 = 120.0;
const HORIZONTAL: &str = "seconds since the round began";

/// How a line is drawn, what it is called, and where its values are.
type Kind<F> = (&'static str, &'static str, F);
/// A count of an interval.
type OfInterval = fn(&Interval) -> u64;
/// A value of a reading.
type OfUsage = fn(&Usage) -> f64;

/// A curve of a side: seconds of a round and values.
struct Line {
    side: usize,
    kind: &'static str,
    name: &'static str,
    /// By round.
    points: Vec<Vec<(f64, f64)>>,
}

/// Offered, answered and failed.
pub fn rates(record: &Record, timeline: &Timeline) -> String {
    let (id, heading) = ("rate-plot", "Requests per second");
    let mut lines = Vec::new();
    let each: [Kind<OfInterval>; 3] = [
        ("dotted", "offered", |interval| interval.offered),
        ("solid", "answered", |interval| interval.completed),
        ("dashed", "failed", |interval| interval.failed),
    ];
    for (side, of) in record.sides.iter().enumerate() {
        for (kind, name, count) in each {
            let points = |round: &Round| {
                let columns = round.intervals.chunks(timeline.merged).enumerate();
                let per_s = |(place, intervals): (usize, &[Interval])| {
                    let seconds = intervals.len() as f64 * INTERVAL_NS as f64 / 1e9;
                    let middle = place as f64 * timeline.column_s() + seconds / 2.0;
                    (middle, intervals.iter().map(count).sum::<u64>() as f64 / seconds)
                };
                columns.map(per_s).collect::<Vec<_>>()
            };
            let points: Vec<_> = of.rounds.iter().map(points).collect();
            let has_any = points.iter().flatten().any(|point| point.1 > 0.0);
            // Failures and offers that never were are not drawn; that nothing was answered is.
            if has_any || name == "answered" {
                lines.push(Line { side, kind, name, points });
            }
        }
    }
    let has_none = lines.iter().all(|line| line.points.iter().all(Vec::is_empty));
    if has_none {
        return figure::absent(id, heading, "Nothing was counted by time in this run.");
    }
    let failures = if lines.iter().any(|line| line.name == "failed") { "" } else { "No request failed." };
    let caption =
        format!("Each request counts at the time when it was meant to leave, whenever it was answered. {failures}");
    let scale = Linear::to(most(&lines) * ROOM);
    let ticks = scale.ticks(number);
    chart(
        record,
        timeline,
        &lines,
        &Plot { id, heading, vertical: "per second", caption: caption.trim() },
        &scale,
        ticks,
        &rate,
    )
}

/// Processor time, in the program and in the kernel.
pub fn cpu(record: &Record, timeline: &Timeline) -> String {
    let (id, heading) = ("cpu-plot", "Processor time of the server");
    let of: [Kind<OfUsage>; 2] =
        [("solid", "user", |usage| usage.user_s), ("dashed", "system", |usage| usage.system_s)];
    let points = |round: &Round, of: OfUsage| {
        let readings = thinned(&round.usage, record);
        let pairs = readings.windows(2).filter(|pair| pair[1].at_s > pair[0].at_s);
        let share = |pair: &[Usage]| {
            let (from, to) = (&pair[0], &pair[1]);
            let share = (of(to) - of(from)) / (to.at_s - from.at_s);
            (f64::midpoint(from.at_s, to.at_s), share.max(0.0))
        };
        pairs.map(share).collect::<Vec<_>>()
    };
    let lines = of_usage(record, of, points);
    if lines.is_empty() {
        return figure::absent(
            id,
            heading,
            "The server's process was not known, so nothing is told of its processor time.",
        );
    }
    let scale = Linear::to(most(&lines) * ROOM);
    let ticks = scale.ticks(|share| format!("{} %", number(share * 100.0)));
    let plot = Plot { id, heading, vertical: "percent of one core", caption: "" };
    chart(record, timeline, &lines, &plot, &scale, ticks, &percent)
}

/// Resident and proportional memory.
pub fn memory(record: &Record, timeline: &Timeline) -> String {
    let (id, heading) = ("memory-plot", "Memory of the server");
    let of: [Kind<OfUsage>; 2] =
        [("solid", "RSS", |usage| usage.rss as f64), ("dashed", "PSS", |usage| usage.pss as f64)];
    let points = |round: &Round, of: OfUsage| {
        thinned(&round.usage, record).iter().map(|usage| (usage.at_s, of(usage))).collect::<Vec<_>>()
    };
    let lines = of_usage(record, of, points);
    if lines.is_empty() {
        return figure::absent(id, heading, "The server's process was not known, so nothing is told of its memory.");
    }
    let most = most(&lines);
    let (unit, name) = [(1.0, "B"), (1024.0, "KiB"), (1_048_576.0, "MiB"), (1_073_741_824.0, "GiB")]
        .into_iter()
        .rfind(|(unit, _)| most >= *unit)
        .unwrap_or((1.0, "B"));
    let in_unit = Linear::to(most * ROOM / unit);
    let ticks = in_unit.ticks(|value| format!("{} {name}", number(value)));
    let scaled: Vec<Line> = lines
        .into_iter()
        .map(|line| Line {
            points: line
                .points
                .iter()
                .map(|round| round.iter().map(|(s, value)| (*s, value / unit)).collect())
                .collect(),
            ..line
        })
        .collect();
    let plot = Plot {
        id,
        heading,
        vertical: "bytes",
        caption: "RSS counts pages that are shared with other processes in full, PSS by their share.",
    };
    chart(record, timeline, &scaled, &plot, &in_unit, ticks, &|value| bytes((value * unit) as u64))
}

/// What is behind every plot over time: what is not counted, by round, and the rounds' numbers.
pub fn background(timeline: &Timeline, uncounted: &[Vec<Stretch>]) -> String {
    let mut drawn = String::new();
    for (number, (segment, stretches)) in timeline.segments.iter().zip(uncounted).enumerate() {
        for (from, to, what) in stretches {
            let left = timeline.at(number, *from);
            let (left, width) = (figure::percent(left), figure::percent(timeline.at(number, *to) - left));
            let _infallible = write!(
                drawn,
                "<rect class=\"uncounted\" x=\"{left}\" width=\"{width}\" height=\"100%\"><title>{what}, not \
                 counted</title></rect>"
            );
        }
        let (left, right) = (figure::percent(segment.from), figure::percent(segment.from + segment.width));
        let name = if number == 0 { "round 1".to_owned() } else { (number + 1).to_string() };
        let _infallible = write!(
            drawn,
            "<line class=\"edge\" x1=\"{left}\" x2=\"{left}\" y2=\"100%\"/><line class=\"grid\" x1=\"{right}\" \
             x2=\"{right}\" y2=\"100%\"/><text class=\"round\" x=\"{left}\" y=\"-5\">{name}</text>"
        );
    }
    drawn
}

struct Plot<'a> {
    id: &'a str,
    heading: &'a str,
    vertical: &'a str,
    caption: &'a str,
}

fn of_usage(
    record: &Record,
    kinds: [Kind<OfUsage>; 2],
    points: impl Fn(&Round, OfUsage) -> Vec<(f64, f64)>,
) -> Vec<Line> {
    let mut lines = Vec::new();
    for (side, of) in record.sides.iter().enumerate() {
        for (kind, name, value) in kinds {
            let points: Vec<_> = of.rounds.iter().map(|round| points(round, value)).collect();
            if points.iter().any(|round| !round.is_empty()) {
                lines.push(Line { side, kind, name, points });
            }
        }
    }
    lines
}

/// Every so many readings, the last among them.
fn thinned(usage: &[Usage], record: &Record) -> Vec<Usage> {
    let rounds = record.sides.iter().map(|side| side.rounds.len()).max().unwrap_or(1).max(1);
    let each = usage.len().div_ceil((READINGS_MAX / rounds).max(2)).max(1);
    let mut thinned: Vec<Usage> = usage.iter().step_by(each).copied().collect();
    if let Some(last) = usage.last().filter(|last| thinned.last() != Some(last)) {
        thinned.push(*last);
    }
    thinned
}

fn most(lines: &[Line]) -> f64 {
    lines.iter().flat_map(|line| line.points.iter().flatten()).map(|point| point.1).fold(0.0, f64::max)
}

fn chart(
    record: &Record,
    timeline: &Timeline,
    lines: &[Line],
    plot: &Plot<'_>,
    scale: &Linear,
    rows: Vec<super::scale::Tick>,
    told: &dyn Fn(f64) -> String,
) -> String {
    let (mut curves, mut marks) = (String::new(), String::new());
    for line in lines {
        let place = |(round, points): (usize, &Vec<(f64, f64)>)| {
            points.iter().map(|(second, value)| (timeline.at(round, *second), scale.at(*value))).collect::<Vec<_>>()
        };
        let places: Vec<Vec<(f64, f64)>> = line.points.iter().enumerate().map(place).collect();
        curves += &curve(&format!("s{} {}", line.side % figure::COLOURS, line.kind), &places);
        // Marks in each round, so that sides are told apart without colour; each side's at other places.
        let parts = if places.len() > MARKED_TWICE { &[0.5][..] } else { &[0.3, 0.8] };
        for places in places.iter().filter(|places| places.len() > 3 && line.kind != "dotted") {
            for part in parts {
                let shift = line.side as f64 / record.sides.len().max(1) as f64 * 0.2;
                let (x, y) = places[((part - shift) * places.len() as f64) as usize];
                marks += &mark(line.side, x, y, "");
            }
        }
    }
    let uncounted: Vec<Vec<Stretch>> = timeline.segments.iter().map(|segment| segment.uncounted.clone()).collect();
    let content = format!(
        "{}{}{marks}{}",
        background(timeline, &uncounted),
        stretched(&curves),
        hovers(record, timeline, lines, told)
    );
    let mut keys: String = record.sides.iter().enumerate().map(|(side, of)| side_key(side, &of.name)).collect();
    let mut kinds: Vec<(&str, &str)> = Vec::new();
    for line in lines {
        if !kinds.contains(&(line.kind, line.name)) {
            kinds.push((line.kind, line.name));
        }
    }
    kinds.iter().for_each(|(kind, name)| keys += &line_key(kind, name));
    keys += &line_key("shade", "not counted");
    Figure {
        id: plot.id,
        heading: plot.heading,
        side: None,
        description: description(record, lines, told),
        vertical: plot.vertical,
        horizontal: HORIZONTAL,
        height: 200,
        rows,
        columns: timeline.ticks(),
        content,
        legend: figure::legend(&keys),
        caption: figure::escape(plot.caption),
    }
    .html()
}

/// Tooltips with every line's value at that time.
fn hovers(record: &Record, timeline: &Timeline, lines: &[Line], told: &dyn Fn(f64) -> String) -> String {
    let total: f64 = timeline.segments.iter().map(|segment| segment.seconds).sum();
    let each = super::scale::step((total / HOVERS_MAX).max(timeline.column_s()));
    let mut drawn = String::new();
    for (round, segment) in timeline.segments.iter().enumerate() {
        for index in 0..(segment.seconds / each).ceil() as usize {
            let (from, to) = (index as f64 * each, ((index + 1) as f64 * each).min(segment.seconds));
            let mut words = format!("round {}, {} to {} s", round + 1, number(from), number(to));
            for line in lines {
                let middle = f64::midpoint(from, to);
                let near = line.points.get(round).and_then(|points| nearest(points, middle));
                if let Some(value) = near.filter(|near| (near.0 - middle).abs() <= 2.0 * each.max(1.0)) {
                    let _infallible =
                        write!(words, "\n{}: {} {}", record.sides[line.side].name, told(value.1), line.name);
                }
            }
            let left = timeline.at(round, from);
            drawn += &hover(left, timeline.at(round, to) - left, &words);
        }
    }
    drawn
}

fn nearest(points: &[(f64, f64)], second: f64) -> Option<(f64, f64)> {
    points.iter().copied().min_by(|one, two| (one.0 - second).abs().total_cmp(&(two.0 - second).abs()))
}

fn description(record: &Record, lines: &[Line], told: &dyn Fn(f64) -> String) -> String {
    let mut sentences = Vec::new();
    for line in lines {
        let values = || line.points.iter().flatten().map(|point| point.1);
        let count = values().count();
        if count > 0 {
            let mean = values().sum::<f64>() / count as f64;
            let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
            let name = &record.sides[line.side].name;
            sentences.push(format!(
                "{name}, {}: {} to {}, {} on average.",
                line.name,
                told(low),
                told(high),
                told(mean)
            ));
        }
    }
    sentences.join(" ")
}
