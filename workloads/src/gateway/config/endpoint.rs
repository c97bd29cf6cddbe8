//! An endpoint: what is offered to clients.

use super::backend::{self, Parent};
use super::extra::{self, Namespaces};
use super::model::{Backend, Endpoint, Forward, MergeOrder, Method, Output, OutputEncoding, Priority};
use super::read::{Field, Object};
use super::report::Report;
use super::root::{Inherited, OUTPUT_ENCODING};
use super::support::Levels;
use super::tree::Value;
use super::{guard, ours, path, telemetry, websocket};

const METHODS: [(&str, Method); 5] = [
    ("GET", Method::Get),
    ("POST", Method::Post),
    ("PUT", Method::Put),
    ("PATCH", Method::Patch),
    ("DELETE", Method::Delete),
];

/// KrakenD's limit.
const CONCURRENT_CALLS_MAX: u64 = 5;

/// An encoding and, if it is not offered, the name that the table of features has for it.
#[derive(Clone, Copy)]
pub struct Encoded {
    encoding: OutputEncoding,
    feature: Option<&'static str>,
}

/// `output_encoding`, of the root or of an endpoint.
pub fn output_encoding(field: &Field<'_>, report: &mut Report) -> Option<Encoded> {
    let plain = |encoding| Encoded { encoding, feature: None };
    let named = |encoding, feature| Encoded { encoding, feature: Some(feature) };
    let words = [
        ("json", plain(OutputEncoding::Json)),
        ("json-collection", plain(OutputEncoding::JsonCollection)),
        ("string", plain(OutputEncoding::String)),
        ("no-op", plain(OutputEncoding::NoOp)),
        ("negotiate", plain(OutputEncoding::Negotiate)),
        ("xml", plain(OutputEncoding::Xml)),
        ("yaml", plain(OutputEncoding::Yaml)),
        ("fast-json", named(OutputEncoding::Json, "output_encoding: fast-json")),
    ];
    field.one_of(&words, report)
}

/// Reads an endpoint. `None` only if it is not even an object.
pub fn read(field: &Field<'_>, inherited: &Inherited, report: &mut Report) -> Option<Endpoint> {
    report.about(None);
    let mut object = field.object(report)?;
    let pattern = object.need("endpoint", report);
    let text = pattern.as_ref().and_then(|field| field.string("a path such as \"/users/{id}\"", report));
    let method = match object.take("method") {
        Some(field) => field.one_of(&METHODS, report).unwrap_or(Method::Get),
        None => Method::Get,
    };
    report.about(text.map(|text| format!("{} {text}", method.as_str())));
    let path = match (&pattern, text.map(path::endpoint)) {
        (Some(_), Some(Ok(path))) => Some(path),
        (Some(field), Some(Err(error))) => {
            field.problem(error, report);
            None
        }
        _ => None,
    };
    let path_is_known = path.is_some();
    let mut endpoint = Endpoint {
        // Without a path it is not compared with others.
        pattern: text.filter(|_| path_is_known).unwrap_or_default().to_owned(),
        path: path.unwrap_or_default(),
        method,
        timeout: inherited.timeout,
        cache_ttl: inherited.cache_ttl,
        output_encoding: OUTPUT_ENCODING,
        input_headers: input_headers(&mut object, report).unwrap_or(Forward::Only(Vec::new())),
        input_query_strings: input_query_strings(&mut object, report).unwrap_or(Forward::Only(Vec::new())),
        concurrent_calls: 1,
        backends: Vec::new(),
        sequential: false,
        static_data: None,
        flatmap: Vec::new(),
        rate_limit: None,
        rate_limit_is_global: false,
        validator: None,
        bot_detector: None,
        body_schema: None,
        websocket: None,
        priority: Priority::Normal,
        merge_order: MergeOrder::Arrival,
        merge_order_is_set: false,
        output: Output::Canonical,
        output_is_set: false,
        unsupported: None,
        location: report.location(object.at()),
    };
    // Zero is as good as not said, as in KrakenD.
    for (name, value) in [("timeout", &mut endpoint.timeout), ("cache_ttl", &mut endpoint.cache_ttl)] {
        let duration = object.take(name).and_then(|field| field.duration(report));
        *value = duration.filter(|duration| !duration.is_zero()).unwrap_or(*value);
    }
    let has_own_encoding = object.take("output_encoding").is_some();
    let mut reasons = vec![encode(&mut object, &mut endpoint, inherited, report)];
    let concurrent_calls = object.take("concurrent_calls");
    let concurrent_calls = concurrent_calls.and_then(|field| field.whole(1, CONCURRENT_CALLS_MAX, report));
    endpoint.concurrent_calls = concurrent_calls.unwrap_or(1) as u32;
    let namespaces = Namespaces::take(&mut object, Levels::ENDPOINT, report);
    telemetry::elsewhere(&namespaces, report);
    if let Some(field) = namespaces.get("websocket") {
        reasons.push(websocket::read(field, has_own_encoding, &mut endpoint, report));
    }
    let has_token = namespaces.get("auth/validator").is_some();
    reasons.push(extras(&namespaces, &mut endpoint, inherited, report));
    if let Some(field) = object.need("backend", report) {
        let parent = Parent { endpoint: &endpoint, path_is_known, has_token, index: 0, hosts: &inherited.hosts };
        let (backends, reason) = backends(&field, parent, report);
        endpoint.backends = backends;
        reasons.push(reason);
    }
    object.finish(report);
    endpoint.unsupported = reasons.into_iter().flatten().next();
    Some(endpoint)
}

fn encode(
    object: &mut Object<'_>,
    endpoint: &mut Endpoint,
    inherited: &Inherited,
    report: &mut Report,
) -> Option<String> {
    let own = object.take("output_encoding");
    let encoded = match &own {
        Some(field) => output_encoding(field, report),
        None => inherited.output_encoding,
    }?;
    endpoint.output_encoding = encoded.encoding;
    match (encoded.feature, &own) {
        (Some(name), Some(field)) => ours::feature(name, field, report),
        (Some(name), None) => {
            report.unsupported(object.at(), &object.key_of("output_encoding"), super::support::feature(name)?)
        }
        (None, _) => None,
    }
}

fn extras(
    namespaces: &Namespaces<'_>,
    endpoint: &mut Endpoint,
    inherited: &Inherited,
    report: &mut Report,
) -> Option<String> {
    let mut unsupported = namespaces.unsupported.clone();
    if let Some(object) = namespaces.object("proxy", report) {
        unsupported = unsupported.or(proxy(object, endpoint, report));
    }
    if let Some(object) = namespaces.object("qos/ratelimit/router", report) {
        endpoint.rate_limit = extra::router_rate_limit(object, endpoint, report);
    }
    endpoint.validator =
        namespaces.object("auth/validator", report).and_then(|object| guard::validator(object, report));
    let bots = namespaces.object("security/bot-detector", report);
    endpoint.bot_detector = bots.map(|object| guard::bot_detector(object, report));
    endpoint.body_schema = namespaces.get("validation/json-schema").and_then(|field| guard::body_schema(field, report));
    guard::check_propagated(namespaces.get("auth/validator"), endpoint, report);
    ours::endpoint(namespaces.object("annulus", report), inherited.ours, endpoint, report);
    unsupported
}

fn proxy(mut object: Object<'_>, endpoint: &mut Endpoint, report: &mut Report) -> Option<String> {
    let sequential = object.take("sequential").and_then(|field| field.boolean(report));
    endpoint.sequential = sequential.unwrap_or(false);
    endpoint.static_data = object.take("static").and_then(|field| extra::static_data(&field, report));
    endpoint.flatmap = object.take("flatmap_filter").map_or(Vec::new(), |field| extra::flatmap(&field, report));
    let mut unsupported = None;
    for (key, name) in [
        ("combiner", "proxy.combiner"),
        ("decompress_gzip", "proxy.decompress_gzip"),
        ("max_payload", "proxy.max_payload"),
        ("sequential_propagated_params", "proxy.sequential_propagated_params"),
    ] {
        let off = |value: &Value| match value {
            Value::Bool(value) => !value,
            Value::Number(number) => number == "0",
            Value::String(text) => text == "default",
            _ => false,
        };
        let field = object.take(key).filter(|field| !off(&field.node.value));
        unsupported = unsupported.or(field.and_then(|field| ours::feature(name, &field, report)));
    }
    object.finish(report);
    unsupported
}

fn backends(field: &Field<'_>, parent: Parent<'_>, report: &mut Report) -> (Vec<Backend>, Option<String>) {
    let fields = field.list("a list of backends", report).unwrap_or_default();
    if fields.is_empty() && matches!(field.node.value, Value::Array(_)) {
        field.problem("expected a backend at least: there is nobody to ask", report);
    }
    let mut unsupported = None;
    let (mut backends, mut index) = (Vec::<Backend>::new(), 0);
    for field in &fields {
        let (backend, reason) = backend::read(field, &Parent { index, ..parent }, report);
        // Shadows have no number, as in KrakenD: `resp0` is the first answer that counts.
        index += usize::from(backend.as_ref().is_none_or(|backend| backend.shadow.is_none()));
        backends.extend(backend);
        unsupported = unsupported.or(reason);
    }
    (backends, unsupported)
}

/// `input_headers`, in lower case. An empty list is as good as none, and `[""]` is nothing at all, as in KrakenD.
pub fn input_headers(object: &mut Object<'_>, report: &mut Report) -> Option<Forward> {
    let field = object.take("input_headers")?;
    let names = names(&field, "a list of headers", report)?;
    for (field, name) in &names {
        if !is_token(name) {
            field.problem(format!("{name:?} is not a header's name"), report);
        } else if is_hop_by_hop(&name.to_lowercase()) {
            field.note("this header is about one connection and is never passed on", report);
        }
    }
    Some(forward(&field, names.iter().map(|(_, name)| name.to_lowercase()), report))
}

/// `input_query_strings`, in the case that they have. Empty lists are as for [`input_headers`].
pub fn input_query_strings(object: &mut Object<'_>, report: &mut Report) -> Option<Forward> {
    let field = object.take("input_query_strings")?;
    let names = names(&field, "a list of query parameters", report)?;
    Some(forward(&field, names.iter().map(|(_, name)| (*name).to_owned()), report))
}

/// The names of a list but empty ones; `None` if the list is empty.
fn names<'t>(field: &Field<'t>, what: &str, report: &mut Report) -> Option<Vec<(Field<'t>, &'t str)>> {
    let entries = field.list(what, report)?;
    if entries.is_empty() {
        return None;
    }
    let texts: Vec<_> =
        entries.into_iter().map(|entry| entry.string("a text", report).map(|text| (entry, text))).collect();
    let texts: Option<Vec<_>> = texts.into_iter().collect();
    texts.map(|texts| texts.into_iter().filter(|(_, text)| !text.is_empty()).collect())
}

fn forward(field: &Field<'_>, names: impl Iterator<Item = String>, report: &mut Report) -> Forward {
    let mut once: Vec<String> = Vec::new();
    for name in names {
        if !once.contains(&name) {
            once.push(name);
        }
    }
    if !once.iter().any(|name| name == "*") {
        return Forward::Only(once);
    }
    if once.len() > 1 {
        field.note("\"*\" passes everything on: the other names change nothing", report);
    }
    Forward::All
}

/// RFC 9110 section 5.6.2.
fn is_token(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// RFC 9110 section 7.6.1, and what the request to the backend has of its own.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "host"
            | "content-length"
    )
}
