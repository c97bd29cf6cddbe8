//! Reading a tree key by key: what was expected, what was found, and which keys nobody asked for.
//!
//! An [`Object`] hands its members out by name and remembers every name that it was asked for. What is left over at
//! [`Object::finish`] is unknown, and the names that were asked for are what somebody may have meant: there is no list
//! of keys beside the code that reads them.

use std::time::Duration;

use super::duration;
use super::report::Report;
use super::tree::{Member, Node, Place, Value, shortened};
use crate::nearest::nearest;

/// A value and the way to it.
#[derive(Clone)]
pub struct Field<'t> {
    /// The value.
    pub node: &'t Node,
    /// As `endpoints[0].backend[1].host`.
    pub key: String,
}

impl<'t> Field<'t> {
    /// The root of a file.
    pub fn root(node: &'t Node) -> Field<'t> {
        Field { node, key: String::new() }
    }

    /// Where it starts.
    pub fn at(&self) -> Place {
        self.node.at
    }

    /// Says that something else was expected here.
    pub fn expected(&self, what: &str, report: &mut Report) {
        let says = format!("expected {what}, found {}", self.node.value.describe());
        report.problem(self.at(), &self.key, says);
    }

    /// Says what is wrong here.
    pub fn problem(&self, says: impl Into<String>, report: &mut Report) {
        report.problem(self.at(), &self.key, says);
    }

    /// Says what one should know.
    pub fn note(&self, says: impl Into<String>, report: &mut Report) {
        report.note(self.at(), &self.key, says);
    }

    /// A text.
    pub fn string(&self, what: &str, report: &mut Report) -> Option<&'t str> {
        match &self.node.value {
            Value::String(text) => Some(text),
            _ => {
                self.expected(what, report);
                None
            }
        }
    }

    /// A text that says something.
    pub fn text(&self, what: &str, report: &mut Report) -> Option<&'t str> {
        let text = self.string(what, report)?;
        if text.is_empty() {
            self.expected(what, report);
            return None;
        }
        Some(text)
    }

    /// `true` or `false`.
    pub fn boolean(&self, report: &mut Report) -> Option<bool> {
        match &self.node.value {
            Value::Bool(value) => Some(*value),
            _ => {
                self.expected("true or false", report);
                None
            }
        }
    }

    /// A whole number in a range.
    pub fn whole(&self, least: u64, most: u64, report: &mut Report) -> Option<u64> {
        if let Value::Number(text) = &self.node.value {
            let whole = text.parse::<u64>().ok().or_else(|| {
                let number = text.parse::<f64>().ok()?;
                // Below 2^53 every whole number is exact; "1e3" and "3.0" are whole numbers to JSON.
                ((0.0..9.0e15).contains(&number) && number.fract() == 0.0).then_some(number as u64)
            });
            if let Some(number) = whole.filter(|number| (least..=most).contains(number)) {
                return Some(number);
            }
        }
        let what = match most {
            u64::MAX => format!("a whole number from {least}"),
            most => format!("a whole number from {least} to {most}"),
        };
        self.expected(&what, report);
        None
    }

    /// A number above zero.
    pub fn positive(&self, what: &str, report: &mut Report) -> Option<f64> {
        if let Value::Number(text) = &self.node.value
            && let Ok(number) = text.parse::<f64>()
            && number.is_finite()
            && number > 0.0
        {
            return Some(number);
        }
        self.expected(what, report);
        None
    }

    /// A share: a number from 0 to 1, or a text such as `"20%"`.
    pub fn share(&self, report: &mut Report) -> Option<f64> {
        let share = match &self.node.value {
            Value::Number(text) => text.parse::<f64>().ok(),
            Value::String(text) => {
                text.strip_suffix('%').and_then(|text| text.parse().ok()).map(|share: f64| share / 100.0)
            }
            _ => None,
        };
        let share = share.filter(|share| (0.0..=1.0).contains(share));
        if share.is_none() {
            self.expected("a share: a number from 0 to 1, or a text such as \"20%\"", report);
        }
        share
    }

    /// A duration as Go writes them.
    pub fn duration(&self, report: &mut Report) -> Option<Duration> {
        const WHAT: &str = "a duration such as \"300ms\", \"1.5s\" or \"1h30m\"";
        match &self.node.value {
            Value::String(text) => match duration::parse(text) {
                Ok(duration) => Some(duration),
                Err(error) => {
                    self.problem(format!("expected {WHAT}, found {:?}: {error}", shortened(text)), report);
                    None
                }
            },
            Value::Number(number) if number == "0" => Some(Duration::ZERO),
            Value::Number(number) => {
                let says = format!(
                    "expected {WHAT}, found the number {number}. A bare number has no unit here: {number} seconds are \
                     \"{number}s\", and what Go would take it for, nanoseconds, is \"{number}ns\""
                );
                self.problem(says, report);
                None
            }
            _ => {
                self.expected(WHAT, report);
                None
            }
        }
    }

    /// A duration above zero.
    pub fn duration_above_zero(&self, report: &mut Report) -> Option<Duration> {
        let duration = self.duration(report)?;
        if duration.is_zero() {
            self.problem("expected a duration above zero", report);
            return None;
        }
        Some(duration)
    }

    /// One of some words.
    pub fn one_of<T: Copy>(&self, words: &[(&str, T)], report: &mut Report) -> Option<T> {
        if let Value::String(text) = &self.node.value
            && let Some((_, value)) = words.iter().find(|(word, _)| word == text)
        {
            return Some(*value);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let list = names.join("\", \"");
        let lower: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
        let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
        let meant = match &self.node.value {
            Value::String(text) => nearest(&text.to_lowercase(), &lower),
            _ => None,
        };
        let meant = meant.and_then(|meant| lower.iter().position(|name| *name == meant)).map(|index| names[index]);
        let meant = meant.map_or(String::new(), |meant| format!(": did you mean {meant:?}?"));
        let says = format!("expected one of \"{list}\", found {}{meant}", self.node.value.describe());
        self.problem(says, report);
        None
    }

    /// The entries of a list.
    pub fn list(&self, what: &str, report: &mut Report) -> Option<Vec<Field<'t>>> {
        let Value::Array(values) = &self.node.value else {
            self.expected(what, report);
            return None;
        };
        let entry = |(index, node)| Field { node, key: format!("{}[{index}]", self.key) };
        Some(values.iter().enumerate().map(entry).collect())
    }

    /// A list of texts that say something.
    pub fn strings(&self, what: &str, report: &mut Report) -> Option<Vec<(Field<'t>, &'t str)>> {
        let entries = self.list(what, report)?;
        let texts = entries.into_iter().map(|entry| {
            let text = entry.text("a text", report)?;
            Some((entry, text))
        });
        // Every entry is looked at, so that each mistake is said.
        let texts: Vec<_> = texts.collect();
        texts.into_iter().collect()
    }

    /// An object.
    pub fn object(&self, report: &mut Report) -> Option<Object<'t>> {
        match &self.node.value {
            Value::Object(members) => Some(Object { members, at: self.at(), key: self.key.clone(), asked: Vec::new() }),
            _ => {
                self.expected("an object", report);
                None
            }
        }
    }
}

/// An object, handed out member by member.
pub struct Object<'t> {
    members: &'t [Member],
    at: Place,
    key: String,
    asked: Vec<&'static str>,
}

impl<'t> Object<'t> {
    /// Where it starts.
    pub fn at(&self) -> Place {
        self.at
    }

    /// The way to it.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The way to a member of it.
    pub fn key_of(&self, name: &str) -> String {
        key_of(&self.key, name)
    }

    /// A member, if it is there. `null` is as good as not there, as in Go.
    pub fn take(&mut self, name: &'static str) -> Option<Field<'t>> {
        self.asked.push(name);
        let member = self.members.iter().find(|member| member.name == name)?;
        (!matches!(member.value.value, Value::Null))
            .then(|| Field { node: &member.value, key: key_of(&self.key, name) })
    }

    /// Whether a key is there and true.
    pub fn flag(&mut self, name: &'static str, report: &mut Report) -> bool {
        self.take(name).and_then(|field| field.boolean(report)).unwrap_or(false)
    }

    /// A member that must be there.
    pub fn need(&mut self, name: &'static str, report: &mut Report) -> Option<Field<'t>> {
        let field = self.take(name);
        if field.is_none() {
            report.problem(self.at, &self.key, format!("the key {name:?} is missing"));
        }
        field
    }

    /// Members that KrakenD knows and that change nothing here: a note for each that is there.
    pub fn pass_over(&mut self, names: &[(&'static str, &str)], report: &mut Report) {
        for (name, why) in names {
            if let Some(field) = self.take(name) {
                field.note(format!("{name} has no effect here: {why}"), report);
            }
        }
    }

    /// All members but comments, with the places of their names.
    pub fn members(&self) -> impl Iterator<Item = (&'t Member, Field<'t>)> {
        let key = self.key.clone();
        let members = self.members.iter().filter(|member| !is_comment(&member.name));
        members.map(move |member| (member, Field { node: &member.value, key: key_of(&key, &member.name) }))
    }

    /// All members, comments too: for an object whose names are the user's.
    pub fn all_members(&self) -> &'t [Member] {
        self.members
    }

    /// Says which members nobody asked for.
    pub fn finish(self, report: &mut Report) {
        for (member, field) in self.members() {
            if !self.asked.contains(&&*member.name) {
                report.problem(member.at, &field.key, unknown("key", &member.name, &self.asked));
            }
        }
    }
}

/// That a name is not known, and what was probably meant.
pub fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!("there is no {what} {:?}: did you mean {near:?}?", shortened(name)),
        None => format!("there is no {what} {:?}; there are: {}", shortened(name), known.join(", ")),
    }
}

/// Whether a key is a comment: it starts with `@`, `$`, `_` or `#`.
pub fn is_comment(name: &str) -> bool {
    name.starts_with(['@', '$', '_', '#'])
}

fn key_of(parent: &str, name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    match (plain, parent.is_empty()) {
        (true, true) => name.to_owned(),
        (true, false) => format!("{parent}.{name}"),
        (false, _) => format!("{parent}[{:?}]", shortened(name)),
    }
}
