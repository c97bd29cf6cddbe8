//! `CENTRIFUGO_*`: a key's path in capitals with underscores. Lists of named things are JSON, or names with spaces
//! between; an entry's own keys go by its name: `CENTRIFUGO_CHANNEL_NAMESPACES_NEWS_HISTORY_SIZE`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{LISTS, Origin, Reader, Source, Where};
use crate::config::unknown;
use crate::gateway::config::tree::{Node, Place, Syntax, Value};

/// What all of Centrifugo's variables start with.
const PREFIX: &str = "CENTRIFUGO_";
/// What those start with that only texts by name refer to.
const CUSTOM: &str = "VAR_";

impl Reader {
    /// Takes the variables; whatever they say wins over what was given before. An empty one says nothing.
    pub(super) fn read_environment(&mut self, environment: impl Iterator<Item = (String, String)>) {
        let ours = environment.filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?.to_owned(), value)));
        let mut variables: BTreeMap<String, String> = ours.collect();
        let custom = |name: &String| name.strip_prefix(CUSTOM).map(str::to_owned);
        self.variables = variables.iter().filter_map(|(name, value)| Some((custom(name)?, value.clone()))).collect();
        variables.retain(|name, _| custom(name).is_none());

        for (list, path) in LISTS.iter().enumerate() {
            if let Some(value) = variables.remove(&variable(path)) {
                self.read_list(list, &value);
            }
        }
        let single: Vec<String> = self.known.keys().filter(|pattern| !pattern.contains("[]")).cloned().collect();
        for pattern in single {
            if let Some(value) = variables.remove(&variable(&pattern)) {
                self.read_variable(&variable(&pattern), &pattern, &pattern, &value);
            }
        }
        for (list, path) in LISTS.iter().enumerate() {
            self.read_entries(self.counts[list], path, &mut variables);
        }
        for (name, _) in variables.into_iter().filter(|(name, value)| !is_of_kubernetes(name, value)) {
            self.refuse(&name);
        }
    }

    fn read_variable(&mut self, name: &str, pattern: &str, path: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        let name: Arc<str> = format!("{PREFIX}{name}").into();
        let Some(entry) = self.known.get(pattern) else { return };
        let (is_texts, is_json) = (entry.fact.is_texts, entry.fact.is_json);
        let node = |text: &str| Node { value: Value::String(text.to_owned()), at: Place::START };
        let value = if is_texts {
            Value::Array(value.split(' ').filter(|text| !text.is_empty()).map(node).collect())
        } else if is_json {
            let place = Where { origin: Origin::Environment(name.clone()), syntax: Syntax::Json };
            let Some(root) = self.parse(&place, value) else { return };
            root.value
        } else {
            Value::String(value.to_owned())
        };
        self.give(pattern, path, value, Source::Environment { name, at: None });
    }

    /// A whole list: JSON takes the place of the file's, names are added to it.
    fn read_list(&mut self, list: usize, value: &str) {
        let path = LISTS[list];
        let name: Arc<str> = format!("{PREFIX}{}", variable(path)).into();
        if value.starts_with('[') {
            let place = Where { origin: Origin::Environment(name), syntax: Syntax::Json };
            if let Some(root) = self.parse(&place, value) {
                self.given.retain(|key, _| !key.starts_with(&format!("{path}[")));
                self.walk(path, path, &root, &place);
            }
            return;
        }
        for entry in value.split(' ').filter(|entry| !entry.is_empty()) {
            let index = self.counts[list];
            self.counts[list] += 1;
            let source = Source::Environment { name: name.clone(), at: None };
            let value = Value::String(entry.to_owned());
            self.give(&format!("{path}[].name"), &format!("{path}[{index}].name"), value, source);
        }
    }

    /// The keys of a list's entries, by the entries' names.
    fn read_entries(&mut self, count: usize, path: &str, variables: &mut BTreeMap<String, String>) {
        let within = format!("{path}[].");
        let known = self.known.keys().filter_map(|key| key.strip_prefix(&within));
        let known: Vec<String> = known.map(str::to_owned).collect();
        for index in 0..count {
            let name = match self.given.get(&format!("{path}[{index}].name")).map(|given| &given.value) {
                Some(Value::String(name)) => variable(&name.replace(['.', '-'], "_")),
                _ => continue,
            };
            for key in &known {
                let variable = format!("{}_{name}_{}", variable(path), variable(key));
                if let Some(value) = variables.remove(&variable) {
                    self.read_variable(&variable, &format!("{within}{key}"), &format!("{path}[{index}].{key}"), &value);
                }
            }
        }
    }

    fn refuse(&mut self, name: &str) {
        let known: Vec<String> = self.known.keys().filter(|key| !key.contains("[]")).map(|key| variable(key)).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let says = match crate::nearest::nearest(name, &known) {
            Some(near) => unknown("variable", &format!("{PREFIX}{name}"), &[&format!("{PREFIX}{near}")]),
            None => format!("there is no variable {PREFIX}{name}. Unset it, or call it {PREFIX}{CUSTOM}..."),
        };
        self.problem(Source::Environment { name: format!("{PREFIX}{name}").into(), at: None }, "", says);
    }
}

fn variable(path: &str) -> String {
    path.replace('.', "_").to_ascii_uppercase()
}

/// Whether Kubernetes sets such a variable by itself, for a service whose name begins with `centrifugo`:
/// `CENTRIFUGO_PORT=tcp://10.1.1.1:8000`, `CENTRIFUGO_PORT_8000_TCP...`, `CENTRIFUGO_API_SERVICE_HOST`,
/// `CENTRIFUGO_SERVICE_PORT...`. They are passed over.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    let name = format!("_{name}");
    let is_of_port = |rest: &str| rest.split('_').next().is_some_and(|port| port.parse::<u16>().is_ok());
    name.ends_with("_PORT") && value.contains("://")
        || name.split("_PORT_").skip(1).any(is_of_port)
        || name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
}
