//! The user's reference of all keys, `workloads/docs/configuration.md`, compared with what the readers of configurations say.
//!
//! ```text
//! readers --which keys are there?--> "there is no key ...; there are: a, b"     the rows
//!         --what does a take?------> "expected a whole number from 1 to 64"     the column `takes`
//!         --what is a without?-----> the default is given, and changes nothing  the column `default`
//! lines of this folder ------------------------------------------------------> the column `meaning`
//! ```
//!
//! So a key without a line here fails the test, and so does a line without a key, a default that is another, and a
//! document that says anything else. With `ANNULUS_WRITE_REFERENCE` in the environment the tables are written into the
//! document instead.

mod gateway;
mod lines;
mod ours;

use std::fmt::Write;
use std::path::Path;

use crate::chat::config::reference as chat;

/// What only a person can say of a key.
pub struct Line {
    /// The key.
    pub key: &'static str,
    /// What it is where nothing is said: as it would be written, or in words. Empty where the reader tells it.
    pub default: &'static str,
    /// What it means, and what becomes of what is beyond it.
    pub says: &'static str,
}

/// A line of a table.
pub const fn line(key: &'static str, default: &'static str, says: &'static str) -> Line {
    Line { key, default, says }
}

/// A line with what the readers say of it.
struct Row {
    key: String,
    takes: String,
    default: String,
    says: String,
}

/// A name that is near to no key, so that readers list all that there are.
const NOBODYS: &str = "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";

/// What a reader lists when it was asked for [`NOBODYS`] key.
fn listed(says: &str) -> Vec<String> {
    let (_, keys) = says.split_once("there are: ").unwrap_or_else(|| panic!("{says:?} lists no keys"));
    keys.split(", ").map(str::to_owned).collect()
}

/// What a reader expected, without what it found.
fn wanted(says: &str) -> &str {
    let (_, what) = says.split_once("expected ").unwrap_or_else(|| panic!("{says:?} does not say what was expected"));
    what.split_once(", found ").map_or(what, |(what, _)| what)
}

fn assert_same_keys(table: &str, keys: &[String], lines: &[Line]) {
    for key in keys {
        assert!(lines.iter().any(|line| line.key == key), "{table}: {key} has no line in workloads/src/reference");
    }
    for line in lines {
        assert!(keys.iter().any(|key| key == line.key), "{table}: there is no key {} any more", line.key);
    }
}

/// A table of Markdown.
fn table(out: &mut String, title: &str, rows: &[Row]) {
    let cell = |text: &str| text.replace('|', "\\|");
    let head = "| key | takes | default | meaning |\n| --- | --- | --- | --- |";
    writeln!(out, "### `{title}`\n\n{head}").expect("a String takes everything");
    for Row { key, takes, default, says } in rows {
        let (takes, default) = (cell(takes), cell(default));
        writeln!(out, "| `{key}` | {takes} | {default} | {} |", cell(says)).expect("a String takes everything");
    }
    out.push('\n');
}

#[test]
fn the_document_has_every_key_as_it_is() {
    assert_page(
        "configuration.md",
        &[("toml", ours::tables()), ("chat", chat::ours()), ("gateway", gateway::tables())],
    );
}

/// That a page of `workloads/docs` has these tables between the marks of their names; with `ANNULUS_WRITE_REFERENCE` in the
/// environment it is given them instead.
pub(crate) fn assert_page(name: &str, tables: &[(&str, String)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    let mut page = std::fs::read_to_string(&path).unwrap();
    let writes = std::env::var_os("ANNULUS_WRITE_REFERENCE").is_some();
    for (title, table) in tables {
        let (begin, end) = (format!("<!-- table {title} -->\n\n"), format!("\n<!-- end of {title} -->"));
        let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("{name}: no mark {begin:?}"));
        let (written, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{name}: no mark {end:?}"));
        let (written, is) = (written.trim_end(), table.trim_end());
        if writes {
            page = [before, &begin, is, "\n", &end, after].concat();
            continue;
        }
        let different = written.lines().zip(is.lines()).find(|(written, is)| written != is);
        assert_eq!(different, None, "workloads/docs/{name}, {title}: what is written, and what is. {HOW}");
        assert_eq!(written.lines().count(), is.lines().count(), "workloads/docs/{name}, {title}. {HOW}");
    }
    if writes {
        std::fs::write(&path, page).unwrap();
    }
}

const HOW: &str = "To write it anew: ANNULUS_WRITE_REFERENCE=1 cargo test -p annulus --lib reference";
