//! YAML 1.2 (core schema) into the tree, from a library's events. One document; anchors, aliases and `<<` merge as
//! people use them, but no more than [`NODES_MAX`] nodes come out, however the aliases multiply.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};

use super::json;
use super::report::Report;
use super::tree::{DEPTH_MAX, Member, Node, Place, Value, insert};

/// Nodes that a file may come to when its aliases are resolved; beyond: it is refused.
const NODES_MAX: usize = 200_000;

/// The tree of a text; `None` after a syntax error, which the report then has.
pub fn parse(text: &str, report: &mut Report) -> Option<Node> {
    let events = Parser::new_from_str(text.trim_start_matches('\u{feff}'));
    let mut builder = Builder { events, anchors: HashMap::new(), nodes: 0, report };
    match builder.document() {
        Ok(root) => Some(root),
        Err(error) => {
            builder.report.problem(error.at, "", error.says);
            None
        }
    }
}

struct Error {
    at: Place,
    says: String,
}

struct Builder<'t, 'r> {
    events: Parser<'t, StrInput<'t>>,
    /// What an alias stands for, by the parser's number of its anchor.
    anchors: HashMap<usize, Node>,
    nodes: usize,
    report: &'r mut Report,
}

impl<'t> Builder<'t, '_> {
    fn document(&mut self) -> Result<Node, Error> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            let at = place(span.start);
            match event {
                Event::StreamEnd => break,
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(_) if root.is_some() => {
                    return fail(at, "a second document: a configuration is one. Remove the ---");
                }
                Event::DocumentStart(_) => {}
                event => root = Some(self.node(event, span, 0)?),
            }
        }
        root.map_or_else(|| fail(Place::START, "expected a configuration, found nothing"), Ok)
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), Error> {
        match self.events.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => fail(place(*error.marker()), error.info()),
            None => Ok((Event::StreamEnd, Span::empty(Marker::new(0, 1, 0)))),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Error> {
        let at = place(span.start);
        self.count(1, at)?;
        if depth > DEPTH_MAX {
            return fail(at, format!("objects and lists are more than {DEPTH_MAX} deep here"));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (scalar(&text, style, tag.as_deref(), at)?, anchor),
            Event::SequenceStart(anchor, _) => (self.sequence(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.mapping(depth)?, anchor),
            Event::Alias(anchor) => return self.alias(anchor, at),
            _ => return fail(at, "expected a value"),
        };
        let node = Node { value, at };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// What an alias stands for keeps its own places: that is where a mistake is to be mended.
    fn alias(&mut self, anchor: usize, at: Place) -> Result<Node, Error> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return fail(at, "an alias within what it stands for, which would never end");
        };
        self.count(size(&node), at)?;
        Ok(node)
    }

    fn count(&mut self, nodes: usize, at: Place) -> Result<(), Error> {
        self.nodes += nodes;
        match self.nodes > NODES_MAX {
            true => fail(at, format!("more than {NODES_MAX} values, counting what aliases stand for")),
            false => Ok(()),
        }
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, Error> {
        let mut values = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::Array(values)),
                (event, span) => values.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, Error> {
        let mut members = Vec::new();
        let mut merged: Vec<Member> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let at = place(span.start);
            let name = match event {
                Event::MappingEnd => break,
                Event::Scalar(name, ..) => name.into_owned(),
                _ => return fail(at, "expected a key, which is a text, found an object, a list or an alias"),
            };
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            match name == "<<" {
                true => merge(value, &mut merged)?,
                false => insert(&mut members, Member { name, at, value }, self.report),
            }
        }
        for member in merged {
            if !members.iter().any(|own| own.name == member.name) {
                members.push(member);
            }
        }
        Ok(Value::Object(members))
    }
}

/// `<<: *a` and `<<: [*a, *b]`: the first to bring a key wins.
fn merge(value: Node, merged: &mut Vec<Member>) -> Result<(), Error> {
    match value.value {
        Value::Object(members) => {
            for member in members {
                if !merged.iter().any(|known| known.name == member.name) {
                    merged.push(member);
                }
            }
            Ok(())
        }
        Value::Array(values) => values.into_iter().try_for_each(|value| match value.value {
            Value::Object(_) => merge(value, merged),
            _ => fail(value.at, "expected an object to merge with <<"),
        }),
        _ => fail(value.at, "expected an object to merge with <<"),
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::Array(values) => values.iter().map(size).sum(),
        Value::Object(members) => members.iter().map(|member| size(&member.value)).sum(),
        _ => 0,
    }
}

/// A scalar by the core schema (YAML 1.2.2 section 10.3.2): only plain ones are anything but texts.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, at: Place) -> Result<Value, Error> {
    let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
    if style != ScalarStyle::Plain || is_text {
        return Ok(Value::String(text.to_owned()));
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match number(text) {
            Some(number) if json::is_number(&number) => Value::Number(number),
            Some(number) => return fail(at, format!("{number} is a number that no key takes")),
            None => Value::String(text.to_owned()),
        },
    })
}

/// A number of the core schema as JSON would write it.
fn number(text: &str) -> Option<String> {
    if json::is_number(text) {
        return Some(text.to_owned());
    }
    let radix = |digits: &str, radix| u64::from_str_radix(digits, radix).ok().map(|number| number.to_string());
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return Some(text.to_owned());
    }
    let starts = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    if !starts(unsigned.strip_prefix('.').unwrap_or(unsigned)) {
        return None;
    }
    text.parse::<i64>().map(|number| number.to_string()).ok().or_else(|| {
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite())?;
        Some(number.to_string())
    })
}

fn place(marker: Marker) -> Place {
    Place { line: marker.line() as u32, column: marker.col() as u32 + 1 }
}

fn fail<T>(at: Place, says: impl Into<String>) -> Result<T, Error> {
    Err(Error { at, says: says.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<String>, Vec<String>) {
        let mut report = Report::new("a.yaml", false);
        let root = parse(text, &mut report);
        let problems = report.finish().0.iter().map(ToString::to_string).collect();
        (root.map(|root| root.value.to_json()), problems)
    }

    #[test]
    fn scalars_are_those_of_the_core_schema() {
        let text = "---\n- 1\n- 0x1f\n- 0o17\n- +7\n- 007\n- .5\n- 1e3\n- '1'\n- !!str 1\n- yes\n- True\n- ~\n-\n- 2s\n- 1.2.3\n\
            - |\n  a\n  b\n- \"ä\\n\"\n...\n";
        let json = "[1,31,15,7,7,0.5,1e3,\"1\",\"1\",\"yes\",true,null,null,\"2s\",\"1.2.3\",\"a\\nb\\n\",\"ä\\n\"]";
        assert_eq!(read(text), (Some(json.to_owned()), vec![]));
    }

    #[test]
    fn anchors_and_merges() {
        let text = "a: &a {x: 1, y: 2}\nb: *a\nc:\n  <<: [*a, {z: 3, x: 9}]\n  y: 5\n";
        let json = "{\"a\":{\"x\":1,\"y\":2},\"b\":{\"x\":1,\"y\":2},\"c\":{\"y\":5,\"x\":1,\"z\":3}}";
        assert_eq!(read(text), (Some(json.to_owned()), vec![]));
    }

    #[test]
    fn errors_say_where_and_what() {
        let bomb = (1..12).fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, level| {
            let below = format!("*a{}", level - 1);
            format!("{text}a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(", "))
        });
        let deep = "[".repeat(80) + &"]".repeat(80);
        for (text, says) in [
            ("", "a.yaml:1:1: expected a configuration, found nothing"),
            ("a: 1\nb: 2\na: 3\n", "a.yaml:3:1: the key \"a\" is here twice: line 1 has it already"),
            ("a: [1\n", "a.yaml:2:1: "),
            ("a: 1\n---\nb: 2\n", "a.yaml:2:1: a second document"),
            ("a: *nothing\n", "a.yaml:1:4: "),
            ("{a: 1}: 2\n", "a.yaml:1:1: expected a key"),
            ("a: .inf\n", "a.yaml:1:4: .inf is a number that no key takes"),
            ("a: &a [*a]\n", "a.yaml:1:8: an alias within what it stands for"),
            ("<<: 1\n", "a.yaml:1:5: expected an object to merge"),
            ("a:\n\tb: 1\n", "a.yaml:2:"),
            (&bomb, "a.yaml:6:"),
            (&deep, "a.yaml:1:66: objects and lists are more than 64 deep"),
        ] {
            let (_, problems) = read(text);
            assert_eq!(problems.len(), 1, "{text:?}: {problems:?}");
            assert!(problems[0].starts_with(says), "{text:?}: {}", problems[0]);
        }
    }
}
