//! A backend: one question to an upstream, and what becomes of its answer.

use std::time::Duration;

use super::extra::{self, Namespaces};
use super::model::{
    Backend, Discovery, Encoding, Endpoint, Filter, Forward, Host, HttpCache, LoadBalancing, Method, OutputEncoding,
    Protocol, Scheme, Template,
};
use super::read::{Field, Object};
use super::report::Report;
use super::support::Levels;
use super::tree::Value;
use super::{endpoint, ours, path, root, telemetry};

/// Bytes of an answer that is read as a whole, unless the file says otherwise.
const RESPONSE_BYTES_MAX: u64 = 16 << 20;

const METHODS: [(&str, Method); 7] = [
    ("GET", Method::Get),
    ("HEAD", Method::Head),
    ("POST", Method::Post),
    ("PUT", Method::Put),
    ("PATCH", Method::Patch),
    ("DELETE", Method::Delete),
    ("OPTIONS", Method::Options),
];

/// What a backend is part of.
#[derive(Clone, Copy)]
pub struct Parent<'e> {
    /// The endpoint, all but its backends.
    pub endpoint: &'e Endpoint,
    /// Whether its path could be read.
    pub path_is_known: bool,
    /// Whether clients must show a token.
    pub has_token: bool,
    /// The backend's number.
    pub index: usize,
    /// Upstreams for backends that name none.
    pub hosts: &'e [Host],
}

/// Reads a backend. `None` only if it is not even an object; then why there can be no answer but 501, if so.
pub fn read(field: &Field<'_>, parent: &Parent<'_>, report: &mut Report) -> (Option<Backend>, Option<String>) {
    let Some(mut object) = field.object(report) else { return (None, None) };
    let problems = report.problem_count();
    let namespaces = Namespaces::take(&mut object, Levels::BACKEND, report);
    telemetry::elsewhere(&namespaces, report);
    let elsewhere = namespaces.unsupported.is_some() || report.problem_count() > problems;
    let mut backend = blank(parent, report.location(object.at()));
    if let Some(method) = object.take("method").and_then(|field| field.one_of(&METHODS, report)) {
        backend.method = method;
    }
    hosts(&mut object, &mut backend, parent, elsewhere, report);
    if let Some(field) = object.take("timeout") {
        let says =
            "KrakenD has no timeout for a backend and passes this over: set extra_config annulus.timeout instead";
        field.problem(says, report);
    }
    let mut unsupported = namespaces.unsupported.clone();
    unsupported = unsupported.or(encoding(&mut object, &mut backend, parent, report));
    manipulation(&mut object, &mut backend, report);
    forwarding(&mut object, &mut backend, parent, report);
    extras(&namespaces, &mut backend, report);
    if let Some(field) = object.need("url_pattern", report) {
        backend.url_pattern = url_pattern(&field, backend.shadow.is_some(), parent, report);
    }
    object.finish(report);
    notes(&backend, field, report);
    (Some(backend), unsupported)
}

fn blank(parent: &Parent<'_>, location: super::model::Location) -> Backend {
    let is_no_op = parent.endpoint.output_encoding == OutputEncoding::NoOp;
    Backend {
        hosts: Vec::new(),
        url_pattern: Template { source: String::new(), path: Vec::new(), query: Vec::new() },
        method: parent.endpoint.method,
        encoding: if is_no_op { Encoding::NoOp } else { Encoding::Json },
        is_collection: false,
        target: Vec::new(),
        group: None,
        filter: Filter::Everything,
        mapping: Vec::new(),
        flatmap: Vec::new(),
        input_headers: parent.endpoint.input_headers.clone(),
        input_query_strings: parent.endpoint.input_query_strings.clone(),
        sd: Discovery::Static,
        sd_scheme: Scheme::Http,
        disable_host_sanitize: false,
        circuit_breaker: None,
        rate_limit: None,
        return_error_details: None,
        return_error_code: false,
        timeout: parent.endpoint.timeout,
        required: false,
        retry: None,
        hedge: None,
        outlier: None,
        health: None,
        lb: LoadBalancing::RoundRobin,
        protocol: Protocol::Auto,
        max_response_bytes: if is_no_op { None } else { Some(RESPONSE_BYTES_MAX) },
        shadow: None,
        cache: None,
        location,
    }
}

/// With `elsewhere` the answer does not come from a host at all (a queue, a function), and that is said already.
fn hosts(object: &mut Object<'_>, backend: &mut Backend, parent: &Parent<'_>, elsewhere: bool, report: &mut Report) {
    let raw = object.take("disable_host_sanitize").and_then(|field| field.boolean(report)).unwrap_or(false);
    backend.disable_host_sanitize = raw;
    let sds = [("static", Discovery::Static), ("dns", Discovery::Dns), ("dns-shared", Discovery::DnsShared)];
    if let Some(sd) = object.take("sd").and_then(|field| field.one_of(&sds, report)) {
        backend.sd = sd;
    }
    let schemes = [("http", Scheme::Http), ("https", Scheme::Https)];
    if let Some(scheme) = object.take("sd_scheme").and_then(|field| field.one_of(&schemes, report)) {
        backend.sd_scheme = scheme;
    }
    let own = object.take("host");
    if elsewhere {
        return;
    }
    let count = |field: &Field<'_>| match &field.node.value {
        Value::Array(values) => values.len(),
        _ => 1,
    };
    if parent.endpoint.websocket.is_none()
        && let Some(field) = &own
        && let Value::Array(entries) = &field.node.value
        && entries.iter().any(|entry| matches!(&entry.value, Value::String(text) if text.starts_with("ws://") || text.starts_with("wss://")))
    {
        field.problem("ws:// and wss:// are for backends of endpoints with the namespace websocket", report);
    }
    match own.as_ref().filter(|field| count(field) > 0) {
        Some(field) => backend.hosts = root::hosts(field, raw, report),
        None if parent.hosts.is_empty() => {
            report.problem(object.at(), object.key(), "the key \"host\" is missing, and the root has none either");
        }
        None => backend.hosts = parent.hosts.to_vec(),
    }
    if backend.sd != Discovery::Static {
        discovered(backend, own.as_ref(), report);
    }
}

/// SRV records tell the port, and `sd_scheme` the scheme.
fn discovered(backend: &mut Backend, field: Option<&Field<'_>>, report: &mut Report) {
    let scheme = backend.sd_scheme;
    for host in &mut backend.hosts {
        if let Some(field) = field.filter(|_| host.port != host.scheme.default_port()) {
            field.problem(format!("the port {} is told by SRV records with this sd: leave it out", host.port), report);
        }
        (host.scheme, host.port) = (scheme, scheme.default_port());
    }
}

fn url_pattern(field: &Field<'_>, is_shadow: bool, parent: &Parent<'_>, report: &mut Report) -> Template {
    let blank = Template { source: String::new(), path: Vec::new(), query: Vec::new() };
    let Some(text) = field.string("a path such as \"/users/{id}\"", report) else { return blank };
    let names = path::Names {
        parameters: parent.path_is_known.then(|| parent.endpoint.parameters().collect()),
        backend: parent.index,
        is_shadow,
        sequential: parent.endpoint.sequential,
        has_token: parent.has_token,
    };
    match path::template(text, &names) {
        Ok(template) => template,
        Err(errors) => {
            errors.into_iter().for_each(|error| field.problem(error, report));
            blank
        }
    }
}

fn encoding(
    object: &mut Object<'_>,
    backend: &mut Backend,
    parent: &Parent<'_>,
    report: &mut Report,
) -> Option<String> {
    let words = [
        ("json", (Encoding::Json, None)),
        ("safejson", (Encoding::SafeJson, None)),
        ("string", (Encoding::String, None)),
        ("no-op", (Encoding::NoOp, None)),
        ("xml", (Encoding::Xml, None)),
        ("rss", (Encoding::Rss, None)),
        ("yaml", (Encoding::Json, Some("encoding: yaml"))),
        ("fast-json", (Encoding::Json, Some("encoding: fast-json"))),
    ];
    let field = object.take("encoding")?;
    let (encoding, feature) = field.one_of(&words, report)?;
    match (encoding, parent.endpoint.output_encoding) {
        (Encoding::NoOp, OutputEncoding::NoOp) => {}
        (Encoding::NoOp, _) => {
            return ours::feature("encoding: no-op", &field, report);
        }
        (_, OutputEncoding::NoOp) => {
            field.note("has no effect: the endpoint's output_encoding is no-op, and so is this, as in KrakenD", report);
        }
        (encoding, _) => backend.encoding = encoding,
    }
    ours::feature(feature?, &field, report)
}

fn manipulation(object: &mut Object<'_>, backend: &mut Backend, report: &mut Report) {
    let is_collection = object.take("is_collection").and_then(|field| field.boolean(report));
    backend.is_collection = is_collection.unwrap_or(false);
    if let Some(field) = object.take("target")
        && let Some(text) = field.string("a path such as \"data.items\"", report)
        && !text.is_empty()
    {
        match path::dotted(text) {
            Some(names) => backend.target = names,
            None => field.expected("names between dots, such as \"data.items\"", report),
        }
    }
    let group = object.take("group").and_then(|field| field.string("a member's name", report));
    backend.group = group.filter(|name| !name.is_empty()).map(str::to_owned);
    let (allow, deny) = (object.take("allow"), object.take("deny"));
    let allowed = allow.map_or(Vec::new(), |field| dotted_paths(&field, report));
    let denied = deny.as_ref().map_or(Vec::new(), |field| dotted_paths(field, report));
    if let Some(field) = deny.filter(|_| !allowed.is_empty() && !denied.is_empty()) {
        field.note("allow is set as well, and is what counts: deny is ignored", report);
    }
    backend.filter = match (allowed.is_empty(), denied.is_empty()) {
        (false, _) => Filter::Allow(allowed),
        (true, false) => Filter::Deny(denied),
        (true, true) => Filter::Everything,
    };
    if let Some(mapping) = object.take("mapping").and_then(|field| field.object(report)) {
        for member in mapping.all_members() {
            let field = Field { node: &member.value, key: mapping.key_of(&member.name) };
            if let Some(name) = field.text("a member's new name", report) {
                backend.mapping.push((member.name.clone(), name.to_owned()));
            }
        }
    }
}

fn dotted_paths(field: &Field<'_>, report: &mut Report) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for (field, text) in field.strings("a list of members such as [\"id\", \"user.name\"]", report).unwrap_or_default()
    {
        match path::dotted(text) {
            Some(names) => paths.push(names),
            None => field.expected("names between dots, such as \"user.name\"", report),
        }
    }
    paths
}

fn forwarding(object: &mut Object<'_>, backend: &mut Backend, parent: &Parent<'_>, report: &mut Report) {
    let headers = endpoint::input_headers(object, report);
    let query_strings = endpoint::input_query_strings(object, report);
    for (own, name, inherited, forward) in [
        (headers, "input_headers", &parent.endpoint.input_headers, &mut backend.input_headers),
        (query_strings, "input_query_strings", &parent.endpoint.input_query_strings, &mut backend.input_query_strings),
    ] {
        let Some(own) = own else { continue };
        if let (Forward::Only(names), Forward::Only(_)) = (&own, inherited) {
            for missing in names.iter().filter(|name| !inherited.allows(name)) {
                let says = format!("{missing:?} does not reach this backend: the endpoint's {name} does not have it");
                report.note(object.at(), &object.key_of(name), says);
            }
        }
        *forward = intersection(own, inherited);
    }
}

fn intersection(own: Forward, inherited: &Forward) -> Forward {
    match (own, inherited) {
        (own, Forward::All) => own,
        (Forward::All, inherited) => inherited.clone(),
        (Forward::Only(names), inherited) => {
            Forward::Only(names.into_iter().filter(|name| inherited.allows(name)).collect())
        }
    }
}

fn extras(namespaces: &Namespaces<'_>, backend: &mut Backend, report: &mut Report) {
    if let Some(mut object) = namespaces.object("proxy", report) {
        backend.flatmap = object.take("flatmap_filter").map_or(Vec::new(), |field| extra::flatmap(&field, report));
        backend.shadow = shadow(&mut object, backend.timeout, report);
        object.finish(report);
    }
    if let Some(object) = namespaces.object("qos/circuit-breaker", report) {
        backend.circuit_breaker = extra::circuit_breaker(object, report);
    }
    if let Some(object) = namespaces.object("qos/ratelimit/proxy", report) {
        backend.rate_limit = extra::proxy_rate_limit(object, report);
    }
    if let Some(object) = namespaces.object("backend/http", report) {
        (backend.return_error_details, backend.return_error_code) = extra::backend_http(object, report);
    }
    if let Some(object) = namespaces.object("qos/http-cache", report) {
        let at = (object.at(), object.key().to_owned());
        let cache = http_cache(object, report);
        let why = match (backend.encoding, backend.method) {
            (Encoding::NoOp, _) => Some("what is passed on as it comes is not kept"),
            (_, Method::Get) => None,
            _ => Some("only answers to GET are kept"),
        };
        match why {
            None => backend.cache = Some(cache),
            Some(why) => report.note(at.0, &at.1, format!("qos/http-cache has no effect here: {why}")),
        }
    }
    if let Some(object) = namespaces.object("annulus", report) {
        ours::backend(object, backend, report);
    }
}

/// How long a shadow has for the answer that nobody gets, if the backend is one.
fn shadow(object: &mut Object<'_>, timeout: Duration, report: &mut Report) -> Option<Duration> {
    /// A copy takes room for so long where its backend is silent.
    const TIMEOUT_MAX: Duration = Duration::from_secs(300);
    let is_shadow = object.flag("shadow", report);
    let field = object.take("shadow_timeout");
    if let Some(field) = field.as_ref().filter(|_| !is_shadow) {
        field.note("shadow_timeout has no effect here: this backend is no shadow", report);
    }
    let own = field.as_ref().and_then(|field| field.duration_above_zero(report));
    if let (Some(field), Some(own)) = (&field, own)
        && own > TIMEOUT_MAX
    {
        field.problem("a shadow has five minutes at most: expected a duration up to \"5m\"", report);
    }
    is_shadow.then_some(own.unwrap_or(timeout))
}

fn http_cache(mut object: Object<'_>, report: &mut Report) -> HttpCache {
    object.pass_over(&[("shared", "each backend keeps its own answers, checked and shaped")], report);
    let max_items = object.take("max_items").and_then(|field| field.whole(1, u64::MAX, report));
    let max_size = object.take("max_size").and_then(|field| field.whole(1024, u64::MAX, report));
    if max_items.is_some() != max_size.is_some() {
        report.problem(object.at(), object.key(), "max_items and max_size belong together: one is missing");
    }
    object.finish(report);
    HttpCache { max_items, max_size }
}

/// What is allowed but hardly meant.
fn notes(backend: &Backend, field: &Field<'_>, report: &mut Report) {
    let asks_again = backend.retry.is_some() || backend.hedge.is_some() || backend.cache.is_some();
    if backend.shadow.is_some() && (asks_again || backend.required) {
        let says = "nobody gets a shadow's answer: retry, hedge, required and qos/http-cache have no effect here";
        field.note(says, report);
    }
    let filters = backend.filter != Filter::Everything || !backend.mapping.is_empty();
    let changes = filters || !backend.target.is_empty() || backend.group.is_some() || !backend.flatmap.is_empty();
    if backend.encoding == Encoding::NoOp && (changes || backend.is_collection) {
        field.note(
            "a no-op answer is passed on as it comes: target, group, allow, deny, mapping, flatmap_filter and \
             is_collection have no effect",
            report,
        );
        return;
    }
    if !backend.flatmap.is_empty() && filters {
        field.note("allow, deny and mapping are ignored where there is a flatmap_filter, as in KrakenD", report);
    }
    if backend.is_collection && !matches!(backend.encoding, Encoding::Json | Encoding::Xml) {
        field.note("is_collection has an effect with the encodings json and xml only", report);
    } else if backend.is_collection && backend.target.first().is_some_and(|name| name != "collection") {
        let says = "with is_collection the answer is {\"collection\": [...]}: a target other than \"collection\" finds \
                    nothing in it";
        field.note(says, report);
    }
}
