//! The owner's cases, one after the other, and one table of what was asked, what was measured, and what passes.
//!
//! Only what ran as it was asked for passes. Where the machine has too few cores for that, a case says what it ran instead,
//! and what follows is called projected. Running on fewer cores than were asked for is no such thing: it is harder.

use crate::record::Record;
use crate::report::Target;
use crate::report::seeds::{How, SeedLine};
use crate::runs;

/// One of the owner's cases.
struct Case {
    name: &'static str,
    arguments: &'static [&'static str],
    figures: &'static [Figure],
}

/// A figure of a case, by the end of its row's name.
struct Figure {
    row: &'static str,
    what: &'static str,
    target: Target,
    unit: &'static str,
}

const fn most(row: &'static str, what: &'static str, most: f64, unit: &'static str) -> Figure {
    Figure { row, what, target: Target::Most(most), unit }
}

const fn least(row: &'static str, what: &'static str, least: f64, unit: &'static str) -> Figure {
    Figure { row, what, target: Target::Least(least), unit }
}

const fn fact(row: &'static str, what: &'static str, unit: &'static str) -> Figure {
    Figure { row, what, target: Target::Fact, unit }
}

const CHAT: &[Figure] = &[
    most("delivery p99", "delivery, p99", 50.0, "ms"),
    most("delivery p99.9", "delivery, p99.9 (ours)", 10.0, "ms"),
    most("server's RSS at the peak", "memory at the peak", 510.0, "MB"),
    most("lost", "deliveries lost", 0.0, ""),
    most("duplicated", "deliveries doubled", 0.0, ""),
    most("connections lost", "connections lost", 0.0, ""),
    fact("server's CPU", "the server's processor time", "% of a core"),
    fact("deliveries per CPU second", "deliveries per processor second", ""),
];

const CASES: [Case; 4] = [
    Case {
        name: "chat: 10,000 sockets, 250 messages/s, 8 cores",
        arguments: &["chat", "--seed-target"],
        figures: CHAT,
    },
    Case {
        name: "chat, with 4 ms of work per message",
        arguments: &["chat", "--seed-target", "--work-ms", "4"],
        figures: CHAT,
    },
    Case {
        name: "image: 50 uploads of 5 MB at once, 16 cores",
        arguments: &["image", "--seed-target"],
        figures: &[
            least("finished", "uploads finished", 50.0, ""),
            most("time until all were done", "time until all were done", 10.0, "s"),
            fact("images per second", "images per second", ""),
            fact("CPU per image", "processor time per image", "ms"),
            most("RSS at the peak", "memory at the peak", 100_000.0, "MB"),
        ],
    },
    Case {
        name: "gateway: 1,000/s with spikes to 5,000, 4 cores, 1 GB",
        arguments: &["gateway", "--seed-target"],
        figures: &[
            most("owner's case, steady: failures", "failures at 1,000/s", 0.0, ""),
            most("owner's case, steady: cores", "cores at 1,000/s", 4.0, ""),
            most("owner's case, steady: added p99", "added latency at 1,000/s, p99 (ours)", 3.0, "ms"),
            most("owner's case, steady: memory", "memory at 1,000/s", 1000.0, "MB"),
            most("owner's case, spike: failures", "failures at 5,000/s", 0.0, ""),
            most("owner's case, spike: cores", "cores at 5,000/s", 4.0, ""),
            most("owner's case, spike: memory", "memory at 5,000/s", 1000.0, "MB"),
            fact("owner's case, steady: CPU per request", "processor time per request", "us"),
        ],
    },
];

/// Runs all of them, each for so many seconds if that is said. The lines, and each case's own record.
pub fn run(seconds: Option<f64>) -> (Vec<SeedLine>, Vec<(String, Record)>) {
    let (mut lines, mut records) = (Vec::new(), Vec::new());
    for case in &CASES {
        eprintln!("{}", case.name);
        let mut arguments: Vec<String> = case.arguments.iter().map(|word| (*word).to_owned()).collect();
        arguments.extend(seconds.map(|seconds| format!("--seconds={seconds}")));
        match runs::run(&arguments) {
            Ok(record) => {
                lines.extend(case.figures.iter().map(|figure| line(case, figure, &record)));
                records.push((file_name(case), record));
            }
            Err(why) => lines.extend(
                case.figures
                    .iter()
                    .map(|figure| SeedLine { how: How::NotRun { why: why.clone() }, ..empty(case, figure) }),
            ),
        }
    }
    (lines, records)
}

fn file_name(case: &Case) -> String {
    case.arguments.iter().map(|word| word.trim_matches('-')).collect::<Vec<_>>().join("-")
}

fn empty(case: &Case, figure: &Figure) -> SeedLine {
    SeedLine {
        case: case.name.to_owned(),
        what: figure.what.to_owned(),
        target: figure.target,
        unit: figure.unit.to_owned(),
        measured: None,
        how: How::Ran,
    }
}

fn line(case: &Case, figure: &Figure, record: &Record) -> SeedLine {
    let is_it = |name: &str| name == figure.row || name.ends_with(&format!(": {}", figure.row));
    let Some(row) = record.rows.iter().find(|row| is_it(&row.name)) else {
        return SeedLine { how: How::NotRun { why: "the run does not tell it".to_owned() }, ..empty(case, figure) };
    };
    let how = match &row.projected_from {
        Some(from) => How::Projected { from: from.clone() },
        // Refused, by the generator's own fault: nothing was measured that could pass or fail.
        None if row.measured.is_none() => How::NotRun { why: row.note.clone() },
        None => How::Ran,
    };
    SeedLine { measured: row.measured, how, ..empty(case, figure) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Row;

    #[test]
    fn figures_are_found_by_the_end_of_their_rows_names() {
        let rows = vec![
            Row::new("10000 in rooms of 100: delivery p99", Target::Most(50.0), Some(4.4), "ms"),
            Row::new("10000 in rooms of 100: delivery p99.9", Target::Most(10.0), None, "refused: late"),
            Row::fact("10000 in rooms of 100: lost", 0.0, "").projected(Some("half of it".to_owned())),
        ];
        let record = Record { rows, ..Record::default() };
        let of = |index: usize| line(&CASES[0], &CHAT[index], &record);
        assert_eq!((of(0).measured, of(0).verdict()), (Some(4.4), "pass"));
        assert_eq!(of(1).how, How::NotRun { why: "refused: late".to_owned() });
        assert_eq!((of(3).what.as_str(), of(3).verdict()), ("deliveries lost", "projected"));
        assert_eq!(of(2).verdict(), "not run", "there is no such row");
    }

    #[test]
    fn cases_have_names_for_files() {
        let names: Vec<String> = CASES.iter().map(file_name).collect();
        assert_eq!(names[1], "chat-seed-target-work-ms-4");
        assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')));
    }
}
