//! How late the generator was, per round and side: what entitles a report to tell latencies at all.

use super::figure::{self, Figure, line_key, mark, percent, side_key};
use super::scale::{Log, Tick};
use crate::record::{LATENESS_MAX_NS, Record, Side};
use crate::report::figures::{duration, round_duration};
use crate::report::summary::{late_p99_ns, limit};
use std::fmt::Write;

/// Below this, nothing is told apart, in nanoseconds.
const LEAST_NS: f64 = 1000.0;

/// The plot.
pub fn plot(record: &Record) -> String {
    let (id, heading) = ("lateness-plot", "Lateness of the generator");
    let rounds = record.sides.iter().map(|side| side.rounds.len()).max().unwrap_or(0);
    let all = || record.sides.iter().flat_map(|side| &side.rounds).filter(|round| !round.lateness.is_empty());
    if all().next().is_none() {
        let why = "There was no schedule to be late for (closed loop): these latencies forgive the server for holding the \
                   generator up.";
        return figure::absent(id, heading, why);
    }
    let most = all().map(|round| round.lateness.max()).max().unwrap_or(0).max(LATENESS_MAX_NS * 2);
    let least = all().map(|round| round.lateness.value_at_quantile(0.5)).min().unwrap_or(0);
    let scale = Log::between((least as f64).max(LEAST_NS), most as f64);
    let y = |ns: u64| percent(1.0 - scale.at(ns as f64));
    let (mut content, mut sentences) = (String::new(), Vec::new());
    let limit_at = y(LATENESS_MAX_NS);
    let _infallible = write!(
        content,
        "<line class=\"limit\" x2=\"100%\" y1=\"{limit_at}\" y2=\"{limit_at}\"/>\
         <text class=\"limit\" x=\"100%\" y=\"{limit_at}\" dx=\"-4\" dy=\"-5\">refused above {}</text>",
        limit()
    );
    for number in 1..rounds {
        let at = percent(number as f64 / rounds as f64);
        let _infallible = write!(content, "<line class=\"grid\" x1=\"{at}\" x2=\"{at}\" y2=\"100%\"/>");
    }
    for (index, side) in record.sides.iter().enumerate() {
        for (number, round) in side.rounds.iter().enumerate().filter(|(_, round)| !round.lateness.is_empty()) {
            let x = (number as f64 + (index + 1) as f64 / (record.sides.len() + 1) as f64) / rounds as f64;
            let (at, class) = (percent(x), format!("s{}", index % figure::COLOURS));
            let (p50, p99, max) = (round.lateness.value_at_quantile(0.5), late_p99_ns(round), round.lateness.max());
            let verdict = if round.is_honest() { "" } else { ": late, latencies refused" };
            let words = format!(
                "{}, round {}{verdict}\np50 {}, p99 {}, at most {}",
                side.name,
                number + 1,
                duration(p50),
                duration(p99),
                duration(max)
            );
            let _infallible = write!(
                content,
                "<line class=\"thin {class}\" x1=\"{at}\" x2=\"{at}\" y1=\"{}\" y2=\"{}\"/>\
                 <line class=\"thick {class}\" x1=\"{at}\" x2=\"{at}\" y1=\"{}\" y2=\"{}\"/>",
                y(p99),
                y(max),
                y(p50),
                y(p99)
            );
            content += &mark(index, x, scale.at(p99 as f64), &words);
            sentences.push(words.replace('\n', ": "));
        }
    }
    for number in 0..rounds {
        let is_late = |side: &Side| side.rounds.get(number).is_some_and(|round| !round.is_honest());
        if record.sides.iter().any(is_late) {
            let at = percent((number as f64 + 0.5) / rounds as f64);
            let _infallible = write!(content, "<text class=\"late\" x=\"{at}\" y=\"-6\">LATE</text>");
        }
    }
    let column = |number: usize| {
        let label = (number + 1).to_string();
        Tick { at: (number as f64 + 0.5) / rounds as f64, label, is_strong: rounds < 12 || number.is_multiple_of(2) }
    };
    let keys: String = record.sides.iter().enumerate().map(|(side, of)| side_key(side, &of.name)).collect();
    Figure {
        id,
        heading,
        side: None,
        description: sentences.join(". "),
        vertical: "from meant to leave to left, by powers of ten",
        horizontal: "round",
        height: 180,
        rows: scale.ticks(round_duration),
        columns: (0..rounds).map(column).collect(),
        content,
        legend: figure::legend(&format!(
            "{keys}{}{}",
            line_key("thick", "p50 to p99, with a mark"),
            line_key("thin", "p99 to the latest of all")
        )),
        caption: format!(
            "By the generator's own fault. Where its p99 is above {}, what it took for the server's latency may be its own, \
             and is not told.",
            limit()
        ),
    }
    .html()
}
