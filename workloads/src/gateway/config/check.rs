//! What no key shows by itself: endpoints against each other, and an endpoint's backends against each other.

use std::collections::HashMap;

use super::model::{Backend, Endpoint, Gateway, Method, OutputEncoding, Segment};
use super::report::Report;
use super::tree::Place;

/// Paths that are the gateway's own, with everything below.
const RESERVED: [&str; 4] = ["/__debug", "/__echo", "/__health", "/__stats"];

/// Checks all endpoints of a gateway.
pub fn endpoints(gateway: &Gateway, report: &mut Report) {
    let mut seen: HashMap<(Method, Vec<Shape<'_>>), &Endpoint> = HashMap::new();
    for (index, endpoint) in gateway.endpoints.iter().enumerate() {
        // What has no path has a problem already.
        if endpoint.pattern.is_empty() {
            continue;
        }
        let key = format!("endpoints[{index}]");
        let first = *seen.entry(shape(endpoint)).or_insert(endpoint);
        if !std::ptr::eq(first, endpoint) {
            let says = format!(
                "{} {} is {} {} once more, which is in line {}: a request could not tell them apart",
                endpoint.method.as_str(),
                endpoint.pattern,
                first.method.as_str(),
                first.pattern,
                first.location.line
            );
            report.problem(place(endpoint), &key, says);
        }
        let below = |path: &str| {
            endpoint.pattern.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let health = gateway.router.health_path.as_deref().filter(|path| *path == endpoint.pattern);
        if let Some(path) = health.or(RESERVED.into_iter().find(|path| below(path))) {
            report.problem(place(endpoint), &key, format!("{path} is the gateway's own: choose another path"));
        }
        backends(endpoint, &key, report);
    }
}

/// What a segment matches, whatever its parameter is called.
#[derive(PartialEq, Eq, Hash)]
enum Shape<'e> {
    Literal(&'e str),
    Any,
    Rest,
}

fn shape(endpoint: &Endpoint) -> (Method, Vec<Shape<'_>>) {
    let segments = endpoint.path.iter().map(|segment| match segment {
        Segment::Literal(text) => Shape::Literal(text),
        Segment::Parameter(_) => Shape::Any,
        Segment::Wildcard(_) => Shape::Rest,
    });
    (endpoint.method, segments.collect())
}

fn backends(endpoint: &Endpoint, key: &str, report: &mut Report) {
    let count = endpoint.answering().count();
    let at = place(endpoint);
    if count == 0 && !endpoint.backends.is_empty() {
        report.problem(at, key, "all backends are shadows, whose answers nobody gets: one at least must not be");
    }
    if endpoint.output_encoding == OutputEncoding::NoOp && count > 1 {
        let says = format!("a no-op endpoint passes one backend's answer on as it comes, and this has {count}");
        report.problem(at, key, says);
    }
    if endpoint.output_encoding == OutputEncoding::NoOp
        && (endpoint.static_data.is_some() || !endpoint.flatmap.is_empty())
    {
        report.note(at, key, "a no-op answer is passed on as it comes: static data and flatmap have no effect");
    }
    if endpoint.sequential && count == 1 {
        report.note(at, key, "sequential has no effect: there is one backend");
    }
    if count > 1 && endpoint.backends.iter().any(|backend| backend.return_error_code) {
        report.note(at, key, "return_error_code has an effect only where there is one backend");
    }
    if endpoint.concurrent_calls > 1 && endpoint.output_encoding == OutputEncoding::NoOp {
        report.note(
            at,
            key,
            "concurrent_calls has no effect: a no-op answer is passed on as it comes, and asked for once",
        );
    }
    for (index, backend) in endpoint.backends.iter().enumerate() {
        if endpoint.concurrent_calls > 1 && endpoint.output_encoding != OutputEncoding::NoOp {
            concurrent_calls(backend, &format!("{key}.backend[{index}]"), report);
        }
        if backend.shadow.is_some() {
            continue;
        }
        let twin = |other: &Backend| other.shadow.is_none() && other.group.is_some() && other.group == backend.group;
        if let (Some(first), Some(group)) = (endpoint.backends[..index].iter().position(twin), &backend.group) {
            let at = Place { line: backend.location.line, column: backend.location.column };
            let says = format!("backend {first} has the group {group:?} too: only one of the answers is kept");
            report.note(at, &format!("{key}.backend[{index}]"), says);
        }
    }
}

fn concurrent_calls(backend: &Backend, key: &str, report: &mut Report) {
    let at = Place { line: backend.location.line, column: backend.location.column };
    if !backend.method.is_safe() {
        let method = backend.method.as_str();
        let says =
            format!("concurrent_calls has no effect here: {method} is asked once, or it would be done several times");
        report.note(at, key, says);
    } else if backend.hedge.is_some() {
        report.note(at, key, "hedge has no effect beside concurrent_calls: the second question is asked already");
    }
}

fn place(endpoint: &Endpoint) -> Place {
    Place { line: endpoint.location.line, column: endpoint.location.column }
}
