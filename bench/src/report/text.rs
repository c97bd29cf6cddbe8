//! A record as text, for a terminal: facts, a block per side, rows, notes.

use super::figures::{bytes, count, duration, growth, percent, rate};
use super::summary::{PERCENTILES, Summary, refusal};
use crate::histogram::percentile_us;
use crate::record::{Record, Round, Side};
use hdrhistogram::Histogram;

/// Sentences end at this column.
pub const COLUMNS: usize = 100;
/// Width of the names at the left.
const NAME: usize = 12;
/// Width of a figure in the table of percentiles.
const FIGURE: usize = 10;

/// The whole record.
pub fn summary(record: &Record) -> String {
    let mut text = String::new();
    line(&mut text, &record.title);
    for (name, value) in &record.facts {
        labelled(&mut text, "", name, value);
    }
    for side in &record.sides {
        line(&mut text, "");
        of_side(&mut text, side);
    }
    if !record.rows.is_empty() {
        line(&mut text, "");
        text += &super::text(&[], &record.rows);
    }
    if !record.notes.is_empty() {
        line(&mut text, "");
    }
    for note in &record.notes {
        line(&mut text, &wrap(note, "- ", "  "));
    }
    text
}

/// Words in lines of at most [`COLUMNS`] characters; a longer word has a line of its own.
pub fn wrap(words: &str, first: &str, others: &str) -> String {
    let (mut text, mut column) = (first.to_owned(), length(first));
    for (index, word) in words.split_whitespace().enumerate() {
        if index > 0 && column + 1 + length(word) > COLUMNS {
            text.push('\n');
            text.push_str(others);
            column = length(others);
        } else if index > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length(word);
    }
    text
}

fn of_side(text: &mut String, side: &Side) {
    let summary = Summary::of(side);
    let warm_up = side.rounds.first().map_or(0.0, |round| round.warm_up_s);
    let warm_up =
        if warm_up > 0.0 { format!(" after {} of warm-up", super::figures::seconds(warm_up)) } else { String::new() };
    line(text, &format!("{}: {}{warm_up}", summary.name, summary.length()));
    percentiles(text, side, &summary);
    let mut told = |name: &str, value: &str| labelled(text, "  ", name, value);
    told("throughput", &throughput(&summary));
    told("failed", &failures(&summary));
    if !summary.statuses.is_empty() {
        told("statuses", &statuses(&summary));
    }
    told("traffic", &traffic(&summary));
    told("CPU", &cpu(&summary));
    if summary.memory.is_some() {
        told("memory", &memory(&summary));
        told("switches", &switches(&summary));
    }
    told("generator", &summary.lateness_text());
}

fn percentiles(text: &mut String, side: &Side, summary: &Summary) {
    let heads = PERCENTILES.iter().map(|(name, _)| *name).chain(["max"]);
    let heads: String = heads.map(|name| format!("{name:>FIGURE$}")).collect();
    line(text, &format!("  {:<NAME$}{heads}", "latency"));
    if let Some(why) = summary.without_latency() {
        labelled(text, "  ", "all", &why);
    } else {
        let name = if summary.is_closed_loop() { "closed loop" } else { "corrected" };
        line(text, &format!("  {name:<NAME$}{}", figures(&summary.corrected)));
        if !summary.is_closed_loop() {
            line(text, &format!("  {:<NAME$}{}", "uncorrected", figures(&summary.uncorrected)));
        }
        if let Some(whose) = summary.whose() {
            labelled(text, "  ", "", &whose);
        }
    }
    if side.rounds.len() > 1 {
        for (index, round) in side.rounds.iter().enumerate() {
            labelled(text, "  ", &format!("round {}", index + 1), &of_round(round));
        }
    }
}

fn of_round(round: &Round) -> String {
    if !round.is_honest() {
        return refusal(super::summary::late_p99_ns(round));
    }
    if percentile_us(&round.latency, 50.0).is_none() {
        "none: nothing was completed".to_owned()
    } else {
        figures(&round.latency)
    }
}

fn figures(of: &Histogram<u64>) -> String {
    let values = PERCENTILES.iter().map(|(_, quantile)| of.value_at_quantile(*quantile)).chain([of.max()]);
    values.map(|ns| format!("{:>FIGURE$}", duration(ns))).collect()
}

/// Answers per second, beside what was offered.
pub fn throughput(summary: &Summary) -> String {
    let answered = format!("{} answered, {} in all", rate(summary.per_s()), count(summary.completed));
    if summary.offered_per_s > 0.0 {
        format!("{answered}; {} offered, {} sent", rate(summary.offered_per_s), count(summary.sent))
    } else {
        format!("{answered}; {} sent, each when the one before was answered", count(summary.sent))
    }
}

/// Failures by reason.
pub fn failures(summary: &Summary) -> String {
    let all = summary.failures();
    if all == 0 {
        return "none".to_owned();
    }
    let mut reasons: Vec<_> = summary.failed.iter().filter(|(_, times)| **times > 0).collect();
    reasons.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
    let reasons: Vec<String> = reasons.iter().map(|(reason, times)| format!("{reason} {}", count(**times))).collect();
    let share = all as f64 / (all + summary.completed) as f64;
    format!("{} ({}): {}", count(all), percent(share), reasons.join(", "))
}

/// How often each status came.
pub fn statuses(summary: &Summary) -> String {
    let told = summary.statuses.iter().map(|(status, times)| format!("{status}: {}", count(*times)));
    told.collect::<Vec<_>>().join(", ")
}

/// Bytes and connections.
pub fn traffic(summary: &Summary) -> String {
    format!(
        "{} received, {} sent, {} connections opened",
        bytes(summary.bytes_received),
        bytes(summary.bytes_sent),
        count(summary.opened)
    )
}

/// The server's processor time.
pub fn cpu(summary: &Summary) -> String {
    let Some(cpu) = summary.cpu else { return UNKNOWN.to_owned() };
    let each = cpu.us_each.map_or_else(String::new, |us| {
        format!("; {} µs per answer", super::figures::number((us * 10.0).round() / 10.0))
    });
    let all = percent(cpu.user_cores + cpu.system_cores);
    format!("{all} of a core: user {}, system {}{each}", percent(cpu.user_cores), percent(cpu.system_cores))
}

/// Said in place of a server's accounts.
pub const UNKNOWN: &str = "not known: the server's process was not known";

/// The server's memory.
pub fn memory(summary: &Summary) -> String {
    let Some(memory) = summary.memory else { return UNKNOWN.to_owned() };
    let each = |name: &str, [first, last, most]: [u64; 3]| {
        format!(
            "{name} {} to {} ({}), at most {}",
            bytes(first),
            bytes(last),
            growth(last as i64 - first as i64),
            bytes(most)
        )
    };
    format!(
        "{}; {}; the machine's kernel slabs {}",
        each("RSS", memory.rss),
        each("PSS", memory.pss),
        growth(memory.slab_growth)
    )
}

/// The server's context switches.
pub fn switches(summary: &Summary) -> String {
    let told = summary.switches.map(|switches| {
        format!("{} asked for, {} forced", rate(switches.voluntary_per_s), rate(switches.involuntary_per_s))
    });
    told.unwrap_or_else(|| UNKNOWN.to_owned())
}

fn labelled(text: &mut String, indent: &str, name: &str, value: &str) {
    let width = NAME.max(length(name) + 1);
    let first = format!("{indent}{name:<width$}");
    let others = " ".repeat(length(&first));
    // A table's line keeps its gaps.
    if length(&first) + length(value) <= COLUMNS {
        line(text, &format!("{first}{value}"));
    } else {
        line(text, &wrap(value, &first, &others));
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::super::{Row, Target, demo};
    use super::*;

    #[test]
    fn sentences_end_at_the_last_column() {
        let words = "word ".repeat(60) + &"x".repeat(130) + " end";
        let wrapped = wrap(&words, "- ", "  ");
        let lines: Vec<&str> = wrapped.lines().collect();
        assert!(lines.iter().all(|line| length(line) <= COLUMNS || line.trim_start().starts_with('x')), "{wrapped}");
        assert!(lines[0].starts_with("- word word") && lines[1].starts_with("  word"));
        assert_eq!(
            wrapped.split_whitespace().skip(1).collect::<Vec<_>>(),
            words.split_whitespace().collect::<Vec<_>>()
        );
        assert_eq!(wrap("", "- ", ""), "- ");
    }

    #[test]
    fn figures_stand_beside_each_other_and_refusals_are_never_figures() {
        let record = demo::record();
        let text = summary(&record);
        let p99 = duration(record.sides[0].latency().value_at_quantile(0.99));
        let corrected = text.lines().find(|line| line.trim_start().starts_with("corrected")).unwrap();
        assert!(corrected.contains(&p99), "{text}");
        assert!(text.contains("of rounds 1 and 3 alone; round 2 refused"), "{text}");
        let late = text.lines().filter(|line| line.trim_start().starts_with("round 2")).nth(1).unwrap();
        assert!(late.contains("refused: the generator itself was late (p99 late by 3.9"), "{late}");
        for word in ["2,000/s offered", "no answer in 150 ms", "304: ", "µs per answer", "RSS 48.0 MiB", "forced"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert_eq!(text.matches("late by p50").count(), 2, "the generator's lateness is always told");
        let rows: Vec<String> = record.rows.iter().map(Row::text).collect();
        for line in text.lines().filter(|line| !rows.iter().any(|row| row == line)) {
            assert!(length(line) <= COLUMNS, "{line}");
        }
    }

    #[test]
    fn what_is_not_known_is_said() {
        let side = Side { name: "only".to_owned(), rounds: vec![Round { seconds: 1.0, ..Round::default() }] };
        let row = Row::new("r", Target::Most(1.0), None, "why");
        let text = summary(&Record { title: "t".to_owned(), sides: vec![side], rows: vec![row], ..Record::default() });
        for words in ["none: nothing was completed", UNKNOWN, "closed loop", "MISS"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert_eq!(summary(&Record::default()), "\n");
    }
}
