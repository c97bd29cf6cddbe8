//! What a person is told of a run: rows with targets, as text and as JSON, under the facts needed to repeat it; and the
//! whole of a [`Record`](crate::record::Record) as text, as JSON and as a page.
//!
//! ```text
//!   Record ── summary ──┬─ text      a terminal
//!      │                ├─ html      one page with tables and plots
//!      └── json ────────┴─ results   a folder of both, with a list
//! ```

pub mod demo;
pub mod figures;
pub mod html;
pub mod json;
pub mod results;
pub mod seeds;
pub mod summary;
pub mod text;

use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// What a measured value must satisfy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// At most this.
    Most(f64),
    /// At least this.
    Least(f64),
    /// Nothing: printed for the reader.
    Fact,
}

/// One line of the result.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// What it must satisfy.
    pub target: Target,
    /// The value; none when it could not be measured, which misses any target.
    pub measured: Option<f64>,
    /// Unit, spread, or why there is no value.
    pub note: String,
    /// What ran, where the value was computed from something smaller than was asked for.
    pub projected_from: Option<String>,
}

impl Row {
    /// A row with a target.
    pub fn new(name: impl Into<String>, target: Target, measured: Option<f64>, note: impl Into<String>) -> Row {
        Row { name: name.into(), target, measured, note: note.into(), projected_from: None }
    }

    /// The row, computed from what ran instead of what was asked for; unchanged where that is nothing.
    pub fn projected(self, from: Option<String>) -> Row {
        Row { projected_from: from, ..self }
    }

    /// A row without one.
    pub fn fact(name: impl Into<String>, measured: f64, note: impl Into<String>) -> Row {
        Row::new(name, Target::Fact, Some(measured), note)
    }

    /// Whether the target holds.
    pub fn holds(&self) -> bool {
        match (self.target, self.measured) {
            (Target::Fact, _) => true,
            (Target::Most(most), Some(value)) => value <= most,
            (Target::Least(least), Some(value)) => value >= least,
            (_, None) => false,
        }
    }

    /// The row as text.
    pub fn text(&self) -> String {
        let (target, verdict) = match self.target {
            Target::Most(most) => (format!("<= {most:.2}"), if self.holds() { "ok" } else { "MISS" }),
            Target::Least(least) => (format!(">= {least:.2}"), if self.holds() { "ok" } else { "MISS" }),
            Target::Fact => (String::new(), ""),
        };
        let measured = self.measured.map_or_else(|| "none".to_owned(), |value| format!("{value:.3}"));
        format!("{:<60} {target:>10} {measured:>14}  {verdict:<4}  {}", self.name, self.note).trim_end().to_owned()
    }

    fn json(&self) -> Value {
        let target = match self.target {
            Target::Most(most) => json!({ "at_most": most }),
            Target::Least(least) => json!({ "at_least": least }),
            Target::Fact => Value::Null,
        };
        json!({
            "name": self.name, "target": target, "measured": self.measured, "ok": self.holds(), "note": self.note,
            "projected_from": self.projected_from,
        })
    }
}

/// Machine, commit and command of this run.
pub fn facts() -> Vec<(&'static str, String)> {
    let line = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let found = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        found.split_once(':').map_or(found, |pair| pair.1).trim().to_owned()
    };
    let output = |program: &str, arguments: &[&str]| {
        Command::new(program)
            .args(arguments)
            .output()
            .map_or_else(|_| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    // The first word is where the binary happened to be built.
    let words = std::iter::once("annulus-bench".to_owned()).chain(std::env::args().skip(1));
    vec![
        ("cpu", format!("{} x {cores}", line("/proc/cpuinfo", "model name"))),
        ("kernel", fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()),
        ("load", fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()),
        ("rustc", output("rustc", &["--version"])),
        ("commit", output("git", &["rev-parse", "--short", "HEAD"])),
        ("command", words.collect::<Vec<_>>().join(" ")),
    ]
}

/// Facts and rows as text.
pub fn text(facts: &[(&str, String)], rows: &[Row]) -> String {
    let facts = facts.iter().map(|(name, value)| format!("{name:<8} {value}\n"));
    let head = format!("{:<60} {:>10} {:>14}", "name", "target", "measured");
    facts.chain([head + "\n"]).chain(rows.iter().map(|row| row.text() + "\n")).collect()
}

/// Facts and rows as JSON.
pub fn json(facts: &[(&str, String)], rows: &[Row]) -> Value {
    let facts: serde_json::Map<_, _> =
        facts.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str()))).collect();
    json!({ "facts": facts, "rows": rows.iter().map(Row::json).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_hold_at_their_target_and_miss_beyond_it() {
        assert!(Row::new("a", Target::Most(0.9), Some(0.9), "").holds());
        assert!(!Row::new("a", Target::Most(0.9), Some(0.91), "").holds());
        assert!(Row::new("a", Target::Least(3.0), Some(3.0), "").holds());
        assert!(!Row::new("a", Target::Least(3.0), Some(2.9), "").holds());
        assert!(!Row::new("a", Target::Most(1.0), None, "refused").holds());
        assert!(!Row::new("a", Target::Least(1.0), Some(f64::NAN), "").holds());
    }

    #[test]
    fn a_row_says_name_target_value_and_verdict() {
        let text = Row::new("bytes", Target::Most(400.0), Some(512.5), "why").text();
        assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["bytes", "<=", "400.00", "512.500", "MISS", "why"]);
        let rows = [Row::fact("x", 1.0, ""), Row::new("y", Target::Least(2.0), Some(3.0), "")];
        let value = json(&[("cpu", "c".to_owned())], &rows);
        assert_eq!(value["rows"][1]["target"]["at_least"], 2.0);
        assert_eq!(value["rows"][1]["ok"], true);
        assert_eq!(value["facts"]["cpu"], "c");
    }
}
