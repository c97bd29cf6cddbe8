//! Flexible configuration: a file that still has to go through KrakenD's templates is told from one that can be read.
//!
//! Templates are rendered by KrakenD (`FC_ENABLE=1 FC_OUT=out.json krakend check ...`), not here. A marker outside of a
//! text breaks the syntax, so it is looked for where the syntax is broken; one inside a text is looked for in the tree,
//! but not where such texts belong: in static data and in namespaces that we do not interpret.

use super::report::Report;
use super::support;
use super::tree::{Lines, Node, Place, Value, shortened};

/// Markers that are named one by one.
const NAMED_MAX: usize = 20;

/// Names the markers of a text that could not be parsed.
pub fn find_in_text(text: &str, report: &mut Report) {
    let lines = Lines::new(text);
    for (start, marker) in markers(text).take(NAMED_MAX) {
        say(lines.place(start), "", marker, report);
    }
}

/// Names the markers in keys and values of a tree.
pub fn find_in_tree(root: &Node, report: &mut Report) {
    match &root.value {
        Value::String(text) => find_in_string(text, root.at, report),
        Value::Array(values) => values.iter().for_each(|value| find_in_tree(value, report)),
        Value::Object(members) => {
            for member in members {
                find_in_string(&member.name, member.at, report);
                if member.name != "static" && !support::is_opaque(&member.name) {
                    find_in_tree(&member.value, report);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn find_in_string(text: &str, at: Place, report: &mut Report) {
    if let Some((_, marker)) = markers(text).next() {
        say(at, "", marker, report);
    }
}

fn say(at: Place, key: &str, marker: &str, report: &mut Report) {
    let says = format!(
        "{:?} is a template of KrakenD's flexible configuration, which is not rendered here. Render the file first \
         (FC_ENABLE=1 FC_OUT=rendered.json krakend check -c FILE) and use the result",
        shortened(marker)
    );
    report.problem(at, key, says);
}

/// The template actions of a text with their offsets: `{{ ... }}` on one line.
fn markers(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices("{{").filter_map(|(start, _)| {
        let rest = &text[start..];
        let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
        let end = line.find("}}")? + 2;
        is_action(&line[2..end - 2]).then_some((start, &line[..end]))
    })
}

/// Whether what stands between the braces is how a Go template action starts: a field, a variable, a text, a word.
fn is_action(inside: &str) -> bool {
    let inside = inside.trim_start_matches('-').trim_start();
    let inside = inside.strip_prefix("/*").unwrap_or(inside).trim_start();
    inside.starts_with(|c: char| c.is_ascii_alphabetic() || ".$\"`(".contains(c)) && !inside.starts_with("\":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_told_from_braces() {
        for (text, expected) in [
            ("a {{ .port }} b {{- include \"x.tmpl\" -}}", vec!["{{ .port }}", "{{- include \"x.tmpl\" -}}"]),
            ("{{ range $i, $e := .list }}", vec!["{{ range $i, $e := .list }}"]),
            ("{{/* note */}}", vec!["{{/* note */}}"]),
            ("{\"a\":{}}", vec![]),
            ("{{}}", vec![]),
            ("{{\n.a }}", vec![]),
        ] {
            let found: Vec<&str> = markers(text).map(|(_, marker)| marker).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
