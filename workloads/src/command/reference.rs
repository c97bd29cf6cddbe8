//! The table as Markdown: workloads/docs/command-line.md, which a test compares with it.

use std::fmt::Write;

use super::commands::COMMANDS;
use super::help::{STATUSES, VARIABLES, says, shown};
use super::table::{Entry, Flag, Group};

/// Everything between the two marks of the page.
pub fn commands() -> String {
    let mut out = String::new();
    for group in Group::ALL {
        line(&mut out, &format!("### {}\n\n| command | |\n|---|---|", capital(group.title())));
        for entry in COMMANDS.iter().filter(|entry| entry.group == group) {
            line(
                &mut out,
                &format!(
                    "| [`annulus {}`](#annulus-{}) | {} |",
                    entry.name,
                    entry.name.replace(' ', "-"),
                    cell(entry.about)
                ),
            );
        }
        line(&mut out, "");
    }
    line(&mut out, "### Exit status\n\n| status | |\n|---|---|");
    STATUSES.iter().for_each(|(status, says)| line(&mut out, &format!("| {status} | {says} |")));
    line(&mut out, "\n### Environment\n\n| variable | |\n|---|---|");
    VARIABLES.iter().for_each(|(name, says)| line(&mut out, &format!("| `{name}` | {says} |")));
    for entry in COMMANDS {
        command(&mut out, entry);
    }
    out
}

fn command(out: &mut String, entry: &Entry) {
    line(out, &format!("\n### annulus {}\n\n{}.\n\n```\n{}\n```", entry.name, capital(entry.about), entry.usage()));
    if !entry.operands.is_empty() || entry.flags().next().is_some() {
        line(out, "\n| word | |\n|---|---|");
    }
    for operand in entry.operands {
        line(out, &format!("| `{}` | {} |", cell(&operand.shown()), cell(operand.says)));
    }
    let row = |flag: &Flag| format!("| `{}` | {} |", shown(flag), cell(&says(flag)));
    entry.flags().for_each(|flag| line(out, &row(flag)));
    if !entry.more.is_empty() {
        line(out, &format!("\n{}", entry.more));
    }
    if !entry.examples.is_empty() {
        line(out, "\n```");
        entry.examples.iter().for_each(|(command, says)| line(out, &format!("{command:<58}  # {says}")));
        line(out, "```");
    }
}

/// As a sentence begins.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// What would end a cell of a table is escaped.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Write it anew: `ANNULUS_WRITE_REFERENCE=1 cargo test -p annulus --lib command::reference`.
    #[test]
    fn the_page_says_what_the_table_says() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/command-line.md");
        let page = std::fs::read_to_string(&path).unwrap();
        let (begin, end) = ("<!-- commands -->\n", "<!-- end of commands -->\n");
        let (before, rest) = page.split_once(begin).unwrap();
        let (_, after) = rest.split_once(end).unwrap();
        let written = format!("{before}{begin}\n{}\n{end}{after}", commands());
        if std::env::var_os("ANNULUS_WRITE_REFERENCE").is_some() {
            std::fs::write(&path, &written).unwrap();
        }
        assert!(written == page, "docs/command-line.md is not what the table says: see above how to write it anew");
    }
}
