//! A folder of results: each run as JSON and as a page, and lists of them for a browser and for a repository.
//!
//! ```text
//!   bench/results/2026-01-31/
//!     index.html  README.md          all rows, links, machine and commands
//!     NAME.json   NAME.html          per run
//! ```

use super::figures::number;
use super::html::{self, document, escape, head, of_command, wide};
use super::{Row, Target, json};
use crate::record::Record;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes the folder `root/date` of runs, each with the name of its files; says where it is. Files of the same names are
/// replaced, others stay.
///
/// # Errors
/// A sentence: a name is no file's name or comes twice, or a file cannot be written.
pub fn write(root: &Path, date: &str, runs: &[(String, Record)]) -> Result<PathBuf, String> {
    for (index, (name, _)) in runs.iter().enumerate() {
        if !is_name(name) || matches!(name.as_str(), "index" | "README") {
            return Err(format!("{name:?} cannot name a run's files: use letters, digits, hyphens and underscores"));
        }
        if runs[..index].iter().any(|(earlier, _)| earlier == name) {
            return Err(format!("two runs are called {name}: one's files would replace the other's"));
        }
    }
    if !is_name(date) {
        return Err(format!("{date:?} cannot name a folder: use a date, as in 2026-01-31"));
    }
    let folder = root.join(date);
    fs::create_dir_all(&folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    let file = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
    };
    for (name, record) in runs {
        file(&format!("{name}.json"), json::write(record))?;
        file(&format!("{name}.html"), html::page(record))?;
    }
    file("README.md", markdown(date, runs))?;
    file("index.html", index(date, runs))?;
    Ok(folder)
}

/// The day it is, in UTC, as in `2026-01-31`.
pub fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    date(seconds / 86_400)
}

/// The date of a day since 1970, after Richards' algorithm for Julian day numbers (Explanatory Supplement to the
/// Astronomical Almanac, 2013, 15.11).
fn date(days: u64) -> String {
    let julian = days + 2_440_588;
    let f = julian + 1401 + (4 * julian + 274_277) / 146_097 * 3 / 4 - 38;
    let e = 4 * f + 3;
    let h = 5 * (e % 1461 / 4) + 2;
    let (day, month) = (h % 153 / 5 + 1, (h / 153 + 2) % 12 + 1);
    let year = e / 1461 - 4716 + (14 - month) / 12;
    format!("{year:04}-{month:02}-{day:02}")
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Facts that all runs have in common, commands apart.
fn common(runs: &[(String, Record)]) -> Vec<(String, String)> {
    let first = runs.first().map(|(_, run)| run.facts.clone()).unwrap_or_default();
    // The load was another each time; the first run's would be told of all.
    let is_common = |fact: &(String, String)| runs.iter().all(|(_, run)| run.facts.contains(fact));
    first.into_iter().filter(|fact| fact.0 != "command" && is_common(fact)).collect()
}

fn command(record: &Record) -> &str {
    record.facts.iter().find(|(name, _)| name == "command").map_or("not told", |(_, command)| command)
}

/// Target, value and verdict of a row.
fn told(row: &Row) -> [String; 3] {
    let (target, verdict) = match row.target {
        Target::Most(most) => (format!("\u{2264} {}", number(most)), if row.holds() { "ok" } else { "MISS" }),
        Target::Least(least) => (format!("\u{2265} {}", number(least)), if row.holds() { "ok" } else { "MISS" }),
        Target::Fact => (String::new(), ""),
    };
    [target, row.measured.map_or_else(|| "none".to_owned(), number), verdict.to_owned()]
}

fn conclusion(runs: &[(String, Record)]) -> (bool, String) {
    let rows = || runs.iter().flat_map(|(_, run)| &run.rows).filter(|row| row.target != Target::Fact);
    let missed = rows().filter(|row| !row.holds()).count();
    let words = if missed == 0 {
        format!("All {} targets hold.", rows().count())
    } else {
        format!("{missed} of {} targets are missed.", rows().count())
    };
    (missed == 0, words)
}

fn markdown(date: &str, runs: &[(String, Record)]) -> String {
    let mut text = format!("# Results of {date}\n\n{}\n\n", conclusion(runs).1);
    for (name, value) in common(runs) {
        let _infallible = writeln!(text, "- {}: {}", cell(&name), cell(&value));
    }
    text += "\nPages: open `index.html` in a browser. Each run's raw data is beside its page, and `annulus-bench report \
             NAME.json --html PAGE.html` draws it again.\n";
    for (name, run) in runs {
        let _infallible = write!(
            text,
            "\n## {}\n\n[page]({name}.html), [raw data]({name}.json)\n\n```sh\n{}\n```\n",
            cell(&run.title),
            command(run).replace("```", "'''")
        );
        if !run.rows.is_empty() {
            text += "\n| what | target | measured | verdict | note |\n|---|---:|---:|---|---|\n";
        }
        for row in &run.rows {
            let [target, measured, verdict] = told(row);
            let (name, note) = (cell(&row.name), cell(&row.note));
            let _infallible = writeln!(text, "| {name} | {target} | {measured} | {verdict} | {note} |");
        }
        if !run.notes.is_empty() {
            text.push('\n');
        }
        for note in &run.notes {
            let _infallible = writeln!(text, "- {}", cell(note));
        }
    }
    text
}

/// Text that means nothing to Markdown's tables and tags.
fn cell(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn index(date: &str, runs: &[(String, Record)]) -> String {
    let title = format!("Results of {date}");
    let (holds, words) = conclusion(runs);
    let (class, sign) = if holds { ("ok", "\u{2713}") } else { ("miss", "\u{2717}") };
    let verdict = format!("<p class=\"verdict {class}\">{sign} {}</p>", words.trim_end_matches('.'));
    let mut sections = String::new();
    for (name, run) in runs {
        let rows = if run.rows.is_empty() { String::new() } else { html::rows(&run.rows) };
        let _infallible = writeln!(
            sections,
            "<section><h2><a href=\"{name}.html\">{}</a></h2><pre tabindex=\"0\" aria-label=\"command\"><code>{}</code></pre>\
             <p class=\"files\"><a href=\"{name}.html\">page with plots</a> <a href=\"{name}.json\">raw data, JSON</a></p>\
             {rows}</section>",
            escape(&run.title),
            of_command(command(run))
        );
    }
    if runs.is_empty() {
        sections = wide("Runs", "<tbody><tr><td>No run was made.</td></tr></tbody>");
    }
    document(&title, &format!("{}<main id=\"main\">{sections}</main>\n", head(&title, &common(runs), &verdict)))
}

#[cfg(test)]
mod tests {
    use super::super::demo;
    use super::*;

    #[test]
    fn days_have_their_dates() {
        let dates = [0, 10_956, 11_016, 11_017, 19_782, 20_483].map(date);
        assert_eq!(dates, ["1970-01-01", "1999-12-31", "2000-02-29", "2000-03-01", "2024-02-29", "2026-01-30"]);
        assert!(today().starts_with("20") && today().len() == 10);
    }

    #[test]
    fn the_folder_has_every_run_and_lists_them() {
        let root = std::env::temp_dir().join(format!("annulus-results-{}", std::process::id()));
        let mut other = demo::record();
        other.facts[1].1 = "other".to_owned();
        other.rows[0].name = "a | b".to_owned();
        let runs = [("one".to_owned(), demo::record()), ("two".to_owned(), other)];
        let folder = write(&root, "2026-01-31", &runs).unwrap();
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(json::read(&read("two.json")).unwrap().rows, runs[1].1.rows);
        assert!(read("one.html").contains("percentiles-plot"));
        let (list, index) = (read("README.md"), read("index.html"));
        for words in
            ["[page](two.html), [raw data](two.json)", "a \\| b", "| MISS |", "- commit: 0000000", "--rate 2000"]
        {
            assert!(list.contains(words), "{words}: {list}");
        }
        assert!(!list.contains("- kernel"), "it is not the same in both");
        assert!(index.contains("href=\"one.html\"") && index.contains("href=\"two.json\""));
        // Again, over what is there.
        write(&root, "2026-01-31", &runs[..1]).unwrap();
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let root = Path::new("never-created");
        for name in ["../up", "a/b", "", "index", "README"] {
            let refused = write(root, "2026-01-31", &[(name.to_owned(), Record::default())]).unwrap_err();
            assert!(refused.contains("cannot name a run's files"), "{refused}");
        }
        let twice = [("a".to_owned(), Record::default()), ("a".to_owned(), Record::default())];
        assert!(write(root, "2026-01-31", &twice).unwrap_err().contains("two runs are called a"));
        assert!(write(root, "../..", &[]).is_err() && !root.exists());
    }
}
