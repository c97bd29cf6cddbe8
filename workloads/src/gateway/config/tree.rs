//! A configuration file as a tree in which everything knows its line and column, whatever its syntax was.
//!
//! The three front ends (`json`, `yaml`, `toml`) build it; the readers above know only this. A tree is at most
//! [`DEPTH_MAX`] deep, and no object holds a name twice: both are refused with their places before anybody reads on.

use std::cell::Cell;
use std::fmt::Write;
use std::path::Path;

use super::report::Report;
use super::{json, template, toml, yaml};

/// Objects and arrays within each other; beyond: the file is refused.
pub const DEPTH_MAX: usize = 64;

/// A line and a column, both counted from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1, in characters.
    pub column: u32,
}

impl Place {
    /// Where a file starts.
    pub const START: Place = Place { line: 1, column: 1 };
}

/// A value and where it starts.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where its first character stands.
    pub at: Place,
}

/// What JSON can say.
#[derive(Clone, Debug)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as JSON writes it (RFC 8259 section 6), whatever the file's own notation was.
    Number(String),
    /// A text, unescaped.
    String(String),
    /// In order.
    Array(Vec<Node>),
    /// In the file's order, no name twice.
    Object(Vec<Member>),
}

/// A name and its value in an object.
#[derive(Clone, Debug)]
pub struct Member {
    /// Unescaped.
    pub name: String,
    /// Where the name stands.
    pub at: Place,
    /// Its value.
    pub value: Node,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// RFC 8259.
    Json,
    /// YAML 1.2, one document.
    Yaml,
    /// TOML 1.0.
    Toml,
}

impl Syntax {
    /// By the file's extension, else by its first line that says anything.
    pub fn of(path: &Path, text: &str) -> Syntax {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => Syntax::Json,
            Some("yaml" | "yml") => Syntax::Yaml,
            Some("toml") => Syntax::Toml,
            _ => Syntax::of_text(text),
        }
    }

    /// By the first line that says anything: `{` is JSON, `key = ` or `[table]` is TOML, anything else is YAML.
    pub fn of_text(text: &str) -> Syntax {
        let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
        let Some(line) = lines.into_iter().find(|line| !line.is_empty() && !line.starts_with('#')) else {
            return Syntax::Json;
        };
        let before_equals = line.split_once('=').map(|(key, _)| key);
        if line.starts_with('{') {
            Syntax::Json
        } else if line.starts_with('[') || before_equals.is_some_and(|key| !key.contains(':')) {
            Syntax::Toml
        } else {
            Syntax::Yaml
        }
    }
}

/// The tree of a text. `None` if it has none; what is wrong with it goes to the report either way.
pub fn parse(syntax: Syntax, text: &str, report: &mut Report) -> Option<Node> {
    let root = match syntax {
        Syntax::Json => json::parse(text, report),
        Syntax::Yaml => yaml::parse(text, report),
        Syntax::Toml => toml::parse(text, report),
    };
    match &root {
        Some(root) => template::find_in_tree(root, report),
        None => template::find_in_text(text, report),
    }
    root
}

/// Adds a member to an object, unless the object has one of this name: then that is said, and the first one stays.
pub fn insert(members: &mut Vec<Member>, member: Member, report: &mut Report) {
    match members.iter().find(|known| known.name == member.name) {
        None => members.push(member),
        Some(first) => {
            let says =
                format!("the key {:?} is here twice: line {} has it already. Remove one", member.name, first.at.line);
            report.problem(member.at, "", says);
        }
    }
}

/// Turns byte offsets into places. Quick for offsets that grow, also in a file that is one long line.
pub struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
    /// The last offset asked for and its place, to count on from.
    last: Cell<(usize, Place)>,
}

impl<'t> Lines<'t> {
    /// Looks through a text once.
    pub fn new(text: &'t str) -> Lines<'t> {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let starts = std::iter::once(0).chain(breaks).collect();
        Lines { text, starts, last: Cell::new((0, Place::START)) }
    }

    /// The place of a byte; of one beyond the end, the end.
    pub fn place(&self, at: usize) -> Place {
        let at = self.text.floor_char_boundary(at);
        let line = self.starts.partition_point(|start| *start <= at);
        let (last, place) = self.last.get();
        let (from, column) = match place.line as usize == line && last <= at {
            true => (last, place.column),
            false => (self.starts[line - 1], 1),
        };
        let column = column + self.text[from..at].chars().count() as u32;
        let place = Place { line: line as u32, column };
        self.last.set((at, place));
        place
    }
}

impl Value {
    /// What it is, for messages: `the number 3`, `a list`.
    pub fn describe(&self) -> String {
        match self {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(number) => format!("the number {number}"),
            Value::String(text) => format!("the text {:?}", shortened(text)),
            Value::Array(values) if values.is_empty() => "an empty list".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
        }
    }

    /// As JSON without white space.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out);
        out
    }

    fn write_json(&self, out: &mut String) {
        match self {
            Value::Null => out.push_str("null"),
            Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Number(number) => out.push_str(number),
            Value::String(text) => quote(text, out),
            Value::Array(values) => {
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    value.value.write_json(out);
                }
                out.push(']');
            }
            Value::Object(members) => {
                out.push('{');
                for (index, member) in members.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    quote(&member.name, out);
                    out.push(':');
                    member.value.value.write_json(out);
                }
                out.push('}');
            }
        }
    }
}

/// A text that came from a file, short enough for a message.
pub fn shortened(text: &str) -> String {
    const CHARACTERS_MAX: usize = 60;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// A JSON string (RFC 8259 section 7).
pub fn quote(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => {
                write!(out, "\\u{:04x}", u32::from(control)).expect("a String takes everything")
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters() {
        let lines = Lines::new("aä\nöb\n");
        let places =
            [(0, 1, 1), (1, 1, 2), (3, 1, 3), (2, 1, 2), (4, 2, 1), (6, 2, 2), (99, 3, 1), (3, 1, 3), (1, 1, 2)];
        for (at, line, column) in places {
            assert_eq!(lines.place(at), Place { line, column }, "{at}");
        }
    }

    #[test]
    fn a_syntax_is_told_by_extension_then_by_text() {
        for (path, text, syntax) in [
            ("a.yml", "{}", Syntax::Yaml),
            ("a.json", "a: 1", Syntax::Json),
            ("-", "\u{feff}\n {\n", Syntax::Json),
            ("-", "# a = b\nversion: 3\n", Syntax::Yaml),
            ("-", "version = 3\n", Syntax::Toml),
            ("-", "[[endpoints]]\n", Syntax::Toml),
            ("-", "name: a = b\n", Syntax::Yaml),
            ("-", "---\nversion: 3\n", Syntax::Yaml),
            ("-", "", Syntax::Json),
        ] {
            assert_eq!(Syntax::of(Path::new(path), text), syntax, "{path} {text:?}");
        }
    }
}
