//! The tables of the page: verdicts, a card per side, percentiles.

use super::figure::{escape, swatch};
use crate::record::Record;
use crate::report::figures::{duration, number, rate};
use crate::report::summary::{PERCENTILES, Summary, late_p99_ns, refusal};
use crate::report::{Row, Target, text};
use hdrhistogram::Histogram;
use std::fmt::Write;

/// Targets, what was measured, verdicts.
pub fn rows(rows: &[Row]) -> String {
    let each: String = rows.iter().map(row).collect();
    stacked(
        "Targets and facts",
        &format!(
            "<thead><tr><th scope=\"col\">what</th><th scope=\"col\" class=\"number\">target</th><th scope=\"col\" \
             class=\"number\">measured</th><th scope=\"col\">verdict</th><th scope=\"col\">note</th></tr></thead>\
             <tbody>{each}</tbody>"
        ),
    )
}

fn row(row: &Row) -> String {
    let target = match row.target {
        Target::Most(most) => format!("\u{2264} {}", number(most)),
        Target::Least(least) => format!("\u{2265} {}", number(least)),
        Target::Fact => String::new(),
    };
    let measured = row.measured.map_or_else(|| "none".to_owned(), number);
    let (class, verdict) = match (row.target, row.holds()) {
        (Target::Fact, _) => ("", ""),
        (_, true) => ("ok", "\u{2713} ok"),
        (_, false) => ("miss", "\u{2717} MISS"),
    };
    format!(
        "<tr role=\"row\" class=\"{class}\"><th role=\"rowheader\" scope=\"row\">{}</th>\
         <td role=\"cell\" class=\"number\" data-name=\"target\">{target}</td>\
         <td role=\"cell\" class=\"number\" data-name=\"measured\">{measured}</td>\
         <td role=\"cell\" class=\"verdict\">{verdict}</td><td role=\"cell\" class=\"note\">{}</td></tr>\n",
        escape(&row.name),
        escape(&row.note)
    )
}

/// In a word or two: whether the targets hold.
pub fn verdict(rows: &[Row]) -> String {
    let targets = rows.iter().filter(|row| row.target != Target::Fact).count();
    let missed = rows.iter().filter(|row| !row.holds()).count();
    match (targets, missed) {
        (0, _) => String::new(),
        (1, 0) => "<p class=\"verdict ok\">\u{2713} The target holds</p>".to_owned(),
        (targets, 0) => format!("<p class=\"verdict ok\">\u{2713} All {targets} targets hold</p>"),
        (targets, missed) => format!("<p class=\"verdict miss\">\u{2717} {missed} of {targets} targets missed</p>"),
    }
}

/// A card per side: what matters most in large letters, and everything else.
pub fn cards(record: &Record, summaries: &[Summary]) -> String {
    let mut cards = String::new();
    for (index, (summary, side)) in summaries.iter().zip(&record.sides).enumerate() {
        let warm_up = side.rounds.first().map_or(0.0, |round| round.warm_up_s);
        let warm_up = if warm_up > 0.0 {
            format!(" after {} of warm-up", crate::report::figures::seconds(warm_up))
        } else {
            String::new()
        };
        let p99 = match summary.without_latency() {
            None => duration(summary.corrected.value_at_quantile(0.99)),
            Some(why) if why.starts_with("refused") => "refused".to_owned(),
            Some(_) => "none".to_owned(),
        };
        let cpu =
            summary.cpu.and_then(|cpu| cpu.us_each).map(|us| format!("{} µs", number((us * 10.0).round() / 10.0)));
        let failures = crate::report::figures::count(summary.failures());
        let tiles = [
            ("latency p99", p99),
            ("answers", rate(summary.per_s())),
            ("CPU per answer", cpu.unwrap_or_else(|| "not known".to_owned())),
            ("failed", failures),
        ];
        let tiles: String = tiles.map(|(name, value)| entry(name, &value)).concat();
        let statuses =
            if summary.statuses.is_empty() { String::new() } else { entry("statuses", &text::statuses(summary)) };
        let mut more = entry("throughput", &text::throughput(summary));
        more += &entry("failed", &text::failures(summary));
        more += &statuses;
        more += &entry("traffic", &text::traffic(summary));
        more += &entry("CPU", &text::cpu(summary));
        more += &entry("memory", &text::memory(summary));
        more += &entry("context switches", &text::switches(summary));
        more += &entry("generator", &summary.lateness_text());
        let _infallible = writeln!(
            cards,
            "<article class=\"side\"><h3>{}{}</h3><p class=\"quiet\">{}{warm_up}</p><dl class=\"tiles\">{tiles}</dl><dl \
             class=\"more\">{more}</dl></article>",
            swatch(index),
            escape(&summary.name),
            escape(&summary.length()),
        );
    }
    format!("<div class=\"sides\">{cards}</div>")
}

/// Names and values.
pub fn entry(name: &str, value: &str) -> String {
    format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value))
}

/// Latencies of each side: together, uncorrected, and by round.
pub fn percentiles(record: &Record, summaries: &[Summary]) -> String {
    let heads: String = PERCENTILES
        .iter()
        .map(|(name, _)| *name)
        .chain(["max"])
        .map(|name| format!("<th scope=\"col\" class=\"number\">{name}</th>"))
        .collect();
    let mut bodies = String::new();
    for (index, (summary, side)) in summaries.iter().zip(&record.sides).enumerate() {
        let mut lines = String::new();
        match summary.without_latency() {
            Some(why) => lines += &line("corrected", &refused(&why), "total"),
            None => {
                let name = if summary.is_closed_loop() { "closed loop" } else { "corrected" };
                lines += &line(name, &cells(&summary.corrected), "total");
                if !summary.is_closed_loop() {
                    lines += &line("uncorrected", &cells(&summary.uncorrected), "lesser");
                }
            }
        }
        for (number, round) in side.rounds.iter().enumerate().filter(|_| side.rounds.len() > 1) {
            let cells = match (round.is_honest(), round.latency.is_empty()) {
                (false, _) => refused(&refusal(late_p99_ns(round))),
                (true, true) => refused("none: nothing was completed"),
                (true, false) => cells(&round.latency),
            };
            lines += &line(&format!("round {}", number + 1), &cells, "");
        }
        let whose = summary.whose().map_or_else(String::new, |whose| format!(" {whose}"));
        let _infallible = writeln!(
            bodies,
            "<tbody><tr class=\"group\"><th scope=\"rowgroup\" colspan=\"{}\"><span>{}{}<small>{}</small></span></th></tr>{lines}</tbody>",
            PERCENTILES.len() + 2,
            swatch(index),
            escape(&summary.name),
            escape(&whose)
        );
    }
    wide("Latency by percentile", &format!("<thead><tr><th scope=\"col\">latency</th>{heads}</tr></thead>{bodies}"))
}

fn line(name: &str, cells: &str, class: &str) -> String {
    format!("<tr class=\"{class}\"><th scope=\"row\">{name}</th>{cells}</tr>\n")
}

fn cells(of: &Histogram<u64>) -> String {
    let values = PERCENTILES.iter().map(|(_, quantile)| of.value_at_quantile(*quantile)).chain([of.max()]);
    values.map(|ns| format!("<td class=\"number\">{}</td>", duration(ns))).collect()
}

fn refused(why: &str) -> String {
    format!("<td class=\"why\" colspan=\"{}\"><span>{}</span></td>", PERCENTILES.len() + 1, escape(why))
}

/// A table whose rows become little cards on a narrow screen. Browsers forget then that it is a table, so that its parts
/// say what they are.
pub fn stacked(caption: &str, content: &str) -> String {
    let caption = escape(caption);
    format!(
        "<div class=\"wide stacked\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\"><table \
         role=\"table\"><caption>{caption}</caption>{content}</table></div>\n"
    )
}

/// A table that scrolls in its own frame, by keys too.
pub fn wide(caption: &str, content: &str) -> String {
    let caption = escape(caption);
    format!(
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\"><table><caption>{caption}</caption>\
         {content}</table></div>\n"
    )
}
