//! Centrifugo v6's dialect: its file in JSON, YAML or TOML, and its `CENTRIFUGO_*` variables, which win over the file.
//!
//! ```text
//! file ---tree---> walk \                        / Done
//!                        > Given, by path --apply  Inert: a note      --> Draft --finish--> Config --contradictions
//! CENTRIFUGO_* ---------/                        \ NotOffered: a problem, or a note if that is allowed
//! ```
//!
//! Nothing is passed over: a key that nobody knows is a problem with the nearest known one; one that is known but not
//! offered is a problem unless it says what is so anyway, or stands in a section that is switched off.

mod draft;
mod environment;
mod foreign;
mod keys;
mod section;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::keys::Applied;
use super::model::Config;
use crate::config::unknown;
use crate::gateway::config::report::Report;
use crate::gateway::config::tree::{Node, Place, Syntax, Value};
use crate::gateway::config::{json, toml, yaml};
use draft::Draft;
pub use keys::sections;
use section::Section;
pub use section::{Fact, Offer};

/// Findings in one reading; beyond: no more are collected.
const FINDINGS_MAX: usize = 200;

/// The lists of named things; their entries may be set by variables of the environment, too.
const LISTS: [&str; 4] = ["channel.namespaces", "rpc.namespaces", "proxies", "consumers"];

/// Where something was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the file.
    File {
        /// Its name as it was given.
        name: Arc<str>,
        /// Where in it.
        at: Place,
    },
    /// In a variable of the environment.
    Environment {
        /// Its name.
        name: Arc<str>,
        /// Where in it, if it is JSON.
        at: Option<Place>,
    },
}

/// Something to say about the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where it was said.
    pub source: Source,
    /// The key that it is about, as `channel.namespaces[0].history_ttl`; empty for the file as a whole.
    pub key: String,
    /// A sentence or two: what is so, what was expected, what to do.
    pub says: String,
}

/// What makes a configuration unusable.
pub type Problem = Finding;

/// What a person should know although it can be used.
pub type Note = Finding;

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File { name, at } => write!(out, "{name}:{}:{}", at.line, at.column),
            Source::Environment { name, at: Some(at) } => write!(out, "{name}:{}:{}", at.line, at.column),
            Source::Environment { name, at: None } => write!(out, "{name}"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.key.is_empty() { "" } else { ": " };
        write!(out, "{}: {}{colon}{}", self.source, self.key, self.says)
    }
}

/// Reads a Centrifugo v6 file and the environment's variables. An empty text is a file that says nothing.
///
/// # Errors
/// Every problem, in the order of the keys; at least one.
pub fn load_centrifugo(
    path: &Path,
    text: &str,
    environment: impl Iterator<Item = (String, String)>,
    allow_unsupported: bool,
) -> Result<(Config, Vec<Note>), Vec<Problem>> {
    let mut reader = Reader::new(&path.display().to_string(), allow_unsupported);
    if !text.trim().is_empty() {
        let place = Where { origin: Origin::File, syntax: Syntax::of(path, text) };
        if let Some(root) = reader.parse(&place, text) {
            reader.walk("", "", &root, &place);
        }
    }
    reader.read_environment(environment);
    let config = reader.apply();
    match reader.problems.is_empty() {
        true => Ok((config, reader.notes)),
        false => Err(reader.problems),
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

/// A value for a message. Texts of sections that are not offered may be secrets: only those that choose are shown.
fn shown(path: &str, value: &Value) -> String {
    match value {
        Value::String(_) if !path.ends_with("type") => "this text".to_owned(),
        _ => value.describe(),
    }
}

/// Which text is read.
#[derive(Clone)]
enum Origin {
    File,
    Environment(Arc<str>),
}

struct Where {
    origin: Origin,
    syntax: Syntax,
}

/// A known key: which section and which of its keys.
struct Entry {
    section: usize,
    key: usize,
    fact: Fact,
}

/// A value that was given for a known key.
struct Given {
    pattern: String,
    /// The number of the list's entry.
    index: usize,
    value: Value,
    source: Source,
}

/// A section means something only if a key has one of these values.
struct Gate {
    prefix: String,
    key: String,
    values: &'static [&'static str],
}

struct Reader {
    name: Arc<str>,
    allow_unsupported: bool,
    sections: Vec<&'static dyn Section>,
    /// By path with `[]`.
    known: BTreeMap<String, Entry>,
    gates: Vec<Gate>,
    /// By path with numbers.
    given: BTreeMap<String, Given>,
    /// Entries of each of [`LISTS`].
    counts: [usize; LISTS.len()],
    /// `CENTRIFUGO_VAR_*`, which texts by name may refer to.
    variables: BTreeMap<String, String>,
    problems: Vec<Problem>,
    notes: Vec<Note>,
}

impl Reader {
    fn new(name: &str, allow_unsupported: bool) -> Reader {
        let sections: Vec<&'static dyn Section> = sections().collect();
        let mut known = BTreeMap::new();
        let mut gates = Vec::new();
        for (section, of) in sections.iter().enumerate() {
            let prefix = of.prefix();
            if let Some((key, values)) = of.when() {
                gates.push(Gate { prefix: format!("{prefix}."), key: key.to_owned(), values });
            }
            for (key, fact) in of.facts().into_iter().enumerate() {
                if fact.name == "enabled" {
                    gates.push(Gate { prefix: format!("{prefix}."), key: join(prefix, "enabled"), values: &["true"] });
                }
                known.insert(join(prefix, fact.name), Entry { section, key, fact });
            }
        }
        Reader {
            name: name.into(),
            allow_unsupported,
            sections,
            known,
            gates,
            given: BTreeMap::new(),
            counts: [0; LISTS.len()],
            variables: BTreeMap::new(),
            problems: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn source(&self, origin: &Origin, at: Place) -> Source {
        match origin {
            Origin::File => Source::File { name: self.name.clone(), at },
            Origin::Environment(name) => Source::Environment { name: name.clone(), at: Some(at) },
        }
    }

    fn problem(&mut self, source: Source, key: &str, says: String) {
        if self.problems.len() < FINDINGS_MAX {
            self.problems.push(Finding { source, key: key.to_owned(), says });
        }
    }

    fn note(&mut self, source: Source, key: &str, says: String) {
        if self.notes.len() < FINDINGS_MAX {
            self.notes.push(Finding { source, key: key.to_owned(), says });
        }
    }

    /// The tree of a text; what is wrong with its syntax is a problem.
    fn parse(&mut self, place: &Where, text: &str) -> Option<Node> {
        let mut report = Report::new(&self.name, self.allow_unsupported);
        let root = match place.syntax {
            Syntax::Json => json::parse(text, &mut report),
            Syntax::Yaml => yaml::parse(text, &mut report),
            Syntax::Toml => toml::parse(text, &mut report),
        };
        for finding in report.finish().0 {
            let at = Place { line: finding.location.line, column: finding.location.column };
            self.problem(self.source(&place.origin, at), &finding.key, finding.says);
        }
        root
    }

    /// Finds the known keys in a tree. `pattern` is the path with `[]` instead of numbers.
    fn walk(&mut self, pattern: &str, path: &str, node: &Node, place: &Where) {
        let source = self.source(&place.origin, node.at);
        if matches!(node.value, Value::Null) {
            return;
        }
        if self.known.contains_key(pattern) {
            self.give(pattern, path, node.value.clone(), source);
            return;
        }
        match (&node.value, LISTS.iter().position(|list| *list == pattern)) {
            (Value::Array(values), Some(list)) => {
                self.counts[list] = values.len();
                for (index, node) in values.iter().enumerate() {
                    self.walk(&format!("{pattern}[]"), &format!("{path}[{index}]"), node, place);
                }
            }
            (_, Some(_)) => self.problem(source, path, format!("expected a list, found {}", node.value.describe())),
            (Value::Object(members), None) => {
                let mut known = HashSet::new();
                for member in members {
                    // The names of keys are compared as Centrifugo compares them: without regard to case.
                    let name = member.name.to_ascii_lowercase();
                    let (pattern_within, path_within) = (join(pattern, &name), join(path, &name));
                    if !known.insert(name.clone()) {
                        let says = "the key is here twice, in capital and in small letters. Remove one".to_owned();
                        self.problem(self.source(&place.origin, member.at), &path_within, says);
                        continue;
                    }
                    match self.is_known(&pattern_within) {
                        true => self.walk(&pattern_within, &path_within, &member.value, place),
                        false => {
                            let says = self.unknown(pattern, &name);
                            self.problem(self.source(&place.origin, member.at), &path_within, says);
                        }
                    }
                }
            }
            (other, None) => self.problem(source, path, format!("expected an object, found {}", other.describe())),
        }
    }

    fn give(&mut self, pattern: &str, path: &str, value: Value, source: Source) {
        let digits = path.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        let index = digits.and_then(|(digits, _)| digits.parse().ok()).unwrap_or(0);
        self.given.insert(path.to_owned(), Given { pattern: pattern.to_owned(), index, value, source });
    }

    /// Whether there are keys of this path or under it.
    fn is_known(&self, pattern: &str) -> bool {
        let mut from = self.known.range(pattern.to_owned()..).map(|(key, _)| key.as_str());
        from.next().is_some_and(|key| key == pattern)
            || [format!("{pattern}."), format!("{pattern}[].")]
                .iter()
                .any(|within| self.known.range(within.clone()..).next().is_some_and(|(key, _)| key.starts_with(within)))
    }

    /// What to say of a name that is none under this path.
    fn unknown(&self, pattern: &str, name: &str) -> String {
        let prefix = if pattern.is_empty() { String::new() } else { format!("{pattern}.") };
        let within = self.known.keys().filter_map(|key| key.strip_prefix(&prefix));
        let mut names: Vec<&str> = within.map(|rest| rest.split(['.', '[']).next().unwrap_or(rest)).collect();
        names.dedup();
        let flat = |key: &&String| key.replace('.', "_").ends_with(&format!("_{name}"));
        match self.known.keys().filter(flat).min_by_key(|key| key.len()) {
            Some(moved) if name.contains('_') && crate::nearest::nearest(name, &names).is_none() => {
                format!("there is no key {name:?} here: Centrifugo v6 has it as {moved:?}")
            }
            _ => unknown("key", name, &names),
        }
    }

    /// Puts everything that was given where it belongs, and sees whether it fits together.
    fn apply(&mut self) -> Config {
        let mut draft = Draft::default();
        draft.namespaces.resize_with(self.counts[0], Default::default);
        draft.rpc_namespaces.resize_with(self.counts[1], Default::default);
        draft.proxies.resize_with(self.counts[2], Default::default);
        let given = std::mem::take(&mut self.given);
        for (path, value) in &given {
            self.apply_one(&mut draft, path, value, &given);
        }
        let (config, wrong) = draft.finish();
        let mut wrong: Vec<(String, String)> = wrong;
        wrong.extend(config.contradictions().into_iter().map(|(key, says)| (self.theirs(&key), says)));
        for (key, says) in wrong {
            let source = self.nearest_source(&key, &given);
            self.problem(source, &key, says);
        }
        config
    }

    fn apply_one(&mut self, draft: &mut Draft, path: &str, given: &Given, all: &BTreeMap<String, Given>) {
        let Some(entry) = self.known.get(&given.pattern) else { return };
        let (section, key) = (self.sections[entry.section], entry.key);
        let mut value = given.value.clone();
        if given.pattern.ends_with("static_headers")
            && let Err(says) = self.expand(&mut value)
        {
            return self.problem(given.source.clone(), path, says);
        }
        match section.apply(draft, given.index, key, &value) {
            Ok(Applied::Done) => {}
            Ok(Applied::Inert(why)) => {
                if self.is_in_effect(given, all) {
                    self.note(given.source.clone(), path, format!("it has no effect here: {why}"));
                }
            }
            Ok(Applied::NotOffered) if !self.is_in_effect(given, all) => {}
            Ok(Applied::NotOffered) if self.allow_unsupported => {
                let says = format!("{} is not offered: the rest works without it", shown(path, &value));
                self.note(given.source.clone(), path, says);
            }
            Ok(Applied::NotOffered) => {
                let says = format!(
                    "{} is not offered. Remove it, or start with --allow-unsupported: the rest works then, without it",
                    shown(path, &value)
                );
                self.problem(given.source.clone(), path, says);
            }
            Err(says) => self.problem(given.source.clone(), path, says),
        }
    }

    /// Where a key was given; else where something beside it was; else the file's start.
    fn nearest_source(&self, key: &str, all: &BTreeMap<String, Given>) -> Source {
        let beside = key.rsplit_once('.').map_or(key, |(parent, _)| parent);
        let within = [format!("{key}."), format!("{beside}.")];
        let first = |prefix: &String| all.range(prefix.clone()..).next().filter(|(path, _)| path.starts_with(prefix));
        let found = all.get(key).or_else(|| within.iter().find_map(first).map(|(_, given)| given));
        found.map_or(Source::File { name: self.name.clone(), at: Place::START }, |given| given.source.clone())
    }

    /// Whether none of the sections that a key is in is switched off.
    fn is_in_effect(&self, given: &Given, all: &BTreeMap<String, Given>) -> bool {
        let applies = |gate: &&Gate| given.pattern.starts_with(&gate.prefix) && given.pattern != gate.key;
        self.gates.iter().filter(applies).all(|gate| {
            let path = gate.key.replace("[]", &format!("[{}]", given.index));
            let default = self.known.get(&gate.key).map_or("", |entry| entry.fact.default);
            let value = match all.get(&path).map(|given| &given.value) {
                Some(Value::Bool(value)) => value.to_string(),
                Some(Value::Number(number)) => number.clone(),
                Some(Value::String(text)) => text.to_ascii_lowercase(),
                _ => default.to_owned(),
            };
            let is_true = gate.values == ["true"] && matches!(value.as_str(), "1" | "t" | "true");
            is_true || gate.values.contains(&value.as_str())
        })
    }

    /// Replaces `${CENTRIFUGO_VAR_X}` in the texts of an object or list.
    fn expand(&self, value: &mut Value) -> Result<(), String> {
        match value {
            Value::Object(members) => members.iter_mut().try_for_each(|member| self.expand(&mut member.value.value)),
            Value::Array(values) => values.iter_mut().try_for_each(|node| self.expand(&mut node.value)),
            Value::String(text) => {
                let mut out = String::new();
                let mut rest = text.as_str();
                while let Some((before, after)) = rest.split_once("${CENTRIFUGO_VAR_") {
                    let Some((name, after)) = after.split_once('}') else { break };
                    let Some(value) = self.variables.get(name) else {
                        return Err(format!("there is no variable CENTRIFUGO_VAR_{name} in the environment"));
                    };
                    out.push_str(before);
                    out.push_str(value);
                    rest = after;
                }
                out.push_str(rest);
                *text = out;
                Ok(())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        }
    }

    /// Centrifugo's key for one of ours, which may have numbers.
    fn theirs(&self, ours: &str) -> String {
        const PLACES: [(&str, &str); 12] = [
            ("default", "channel.without_namespace"),
            ("namespaces[]", "channel.namespaces[]"),
            ("tokens", "client.token"),
            ("subscription_tokens", "client.subscription_token"),
            ("hooks.connect", "client.proxy.connect"),
            ("hooks.refresh", "client.proxy.refresh"),
            ("hooks.subscribe", "channel.proxy.subscribe"),
            ("hooks.publish", "channel.proxy.publish"),
            ("hooks.sub_refresh", "channel.proxy.sub_refresh"),
            ("hooks.rpc", "rpc.proxy"),
            ("hooks.named[]", "proxies[]"),
            ("hooks.rpc_namespaces[]", "rpc.namespaces[]"),
        ];
        let number = ours.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(number, _)| number);
        let pattern = number.map_or(ours.to_owned(), |number| ours.replacen(&format!("[{number}]"), "[]", 1));
        let theirs = match PLACES.iter().find_map(|(prefix, theirs)| Some((pattern.strip_prefix(prefix)?, theirs))) {
            Some(("", theirs)) => Some((*theirs).to_owned()),
            Some((rest, theirs)) if rest.starts_with('.') => {
                let means = |ours: &str| ours.rsplit('.').next() == rest.rsplit('.').next();
                let within = format!("{theirs}.");
                let mut known = self.known.iter().filter(|(key, _)| key.starts_with(&within));
                known.find(|(_, entry)| means(entry.fact.ours)).map(|(key, _)| key.clone())
            }
            _ => self.known.iter().find(|(_, entry)| entry.fact.ours == pattern).map(|(key, _)| key.clone()),
        };
        let theirs = theirs.unwrap_or_else(|| format!("chat.{ours}"));
        number.map_or(theirs.clone(), |number| theirs.replacen("[]", &format!("[{number}]"), 1))
    }
}
