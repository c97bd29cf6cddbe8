//! What the gateway's reader says of its own namespace, `extra_config.annulus`. KrakenD's keys are KrakenD's documentation's.

use super::lines::{GATEWAY, Place};
use super::{NOBODYS, Row, assert_same_keys, listed, table, wanted};
use crate::gateway::config::tree::{Node, Value, parse};
use crate::gateway::config::{LoadOptions, Problem, Syntax, load_text, print_effective, report::Report};

/// A table for each place.
pub fn tables() -> String {
    let mut out = String::new();
    for place in GATEWAY {
        let keys = keys(place);
        assert_same_keys(place.title, &keys, place.lines);
        let effective = effective(place);
        let row = |key: &String| {
            let line = place.lines.iter().find(|line| line.key == key).expect("they are the same");
            let default = match line.default {
                "" => default(place, &effective, key),
                words => words.to_owned(),
            };
            Row { key: key.clone(), takes: takes(place, key), default, says: line.says.to_owned() }
        };
        table(&mut out, place.title, &keys.iter().map(row).collect::<Vec<_>>());
    }
    out
}

/// The smallest file that has these members at this place.
fn document(place: &Place, members: &str) -> String {
    const AROUND: &str = r#"{"version": 3, "extra_config": {"annulus": {ROOT}}, "endpoints": [{"endpoint": "/a",
        "extra_config": {"annulus": {ENDPOINT}, "qos/ratelimit/router": {"max_rate": 1}},
        "backend": [{"host": ["http://h"], "url_pattern": "/", "extra_config": {"annulus": {BACKEND}}}]}]}"#;
    let within = match place.within {
        "" => members.to_owned(),
        name => format!("\"{name}\": {{{members}}}"),
    };
    let at = |level: &str| if level == place.level { within.clone() } else { String::new() };
    AROUND.replace("ROOT", &at("root")).replace("ENDPOINT", &at("endpoint")).replace("BACKEND", &at("backend"))
}

fn problems(place: &Place, members: &str) -> Vec<Problem> {
    load_text("a.json", Syntax::Json, &document(place, members), &LoadOptions::default()).err().unwrap_or_default()
}

fn keys(place: &Place) -> Vec<String> {
    let problems = problems(place, &format!("\"{NOBODYS}\": 1"));
    let says = problems.iter().map(|problem| &problem.says).find(|says| says.contains("there are: "));
    let mut keys = listed(says.unwrap_or_else(|| panic!("{}: no list in {problems:?}", place.title)));
    // A reader may ask for a key twice.
    keys.dedup();
    keys
}

fn takes(place: &Place, key: &str) -> String {
    let of = |value: &str| {
        let problems = problems(place, &format!("\"{key}\": {value}"));
        let about = problems
            .into_iter()
            .find(|problem| problem.key.rsplit('.').next() == Some(key) && problem.says.starts_with("expected "));
        about.map(|problem| wanted(&problem.says).to_owned())
    };
    // What is no boolean does not take one, and what is one takes no number.
    let what = of("true").or_else(|| of("1"));
    let what = what.unwrap_or_else(|| panic!("{}: {key} takes everything", place.title));
    match &what[..] {
        "an object" => "an object, see below".to_owned(),
        _ => what.strip_suffix(&format!(" to {}", u64::MAX)).map_or(what.clone(), str::to_owned),
    }
}

/// What the configuration in force says where nothing is said.
fn effective(place: &Place) -> Node {
    let text = document(place, place.needs);
    let (gateway, _) = load_text("a.json", Syntax::Json, &text, &LoadOptions::default()).unwrap();
    let mut report = Report::new("printed", false);
    parse(Syntax::Json, &print_effective(&gateway), &mut report).unwrap()
}

fn default(place: &Place, effective: &Node, key: &str) -> String {
    let mut node = Some(effective);
    if place.level != "root" {
        node = node.and_then(|node| member(node, "endpoints")).and_then(first);
    }
    if place.level == "backend" {
        node = node.and_then(|node| member(node, "backend")).and_then(first);
    }
    for name in ["extra_config", "annulus", place.within, key].into_iter().filter(|name| !name.is_empty()) {
        node = node.and_then(|node| member(node, name));
    }
    let node = node.unwrap_or_else(|| panic!("{}: {key} needs a default in words", place.title));
    format!("`{}`", node.value.to_json())
}

fn member<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    match &node.value {
        Value::Object(members) => members.iter().find(|member| member.name == name).map(|member| &member.value),
        _ => None,
    }
}

fn first(node: &Node) -> Option<&Node> {
    match &node.value {
        Value::Array(values) => values.first(),
        _ => None,
    }
}
