//! The namespace `annulus`: what KrakenD has no words for.

use std::net::SocketAddr;
use std::time::Duration;

use super::access;
use super::model::{
    Backend, Coding, Compat, Compression, Endpoint, Gateway, Health, HealthCheck, Hedge, HedgeAfter, LoadBalancing,
    MergeOrder, Outlier, Output, Priority, Protocol, RateLimitStore, Retry, RetryOn,
};
use super::read::{Field, Object};
use super::report::Report;
use super::support;
use super::tree::Value;
use crate::gateway::dns::settings::SERVERS_MAX;

const MERGE_ORDERS: [(&str, MergeOrder); 2] = [("declared", MergeOrder::Declared), ("arrival", MergeOrder::Arrival)];
const OUTPUTS: [(&str, Output); 2] = [("fast", Output::Fast), ("canonical", Output::Canonical)];

/// WebSockets that are open at once, unless the file says otherwise: each takes two descriptors.
pub const TUNNELS_MAX: usize = 10_000;

/// What endpoints do that do not say it themselves.
#[derive(Clone, Copy)]
pub struct Defaults {
    /// Who wins a conflict.
    pub merge_order: MergeOrder,
    /// How the answer is written.
    pub output: Output,
    /// Whether the file says the first at its root.
    pub merge_order_is_set: bool,
    /// Whether the file says the second at its root.
    pub output_is_set: bool,
    /// Whether rate limits can be kept together with other gateways.
    pub has_rate_limit_store: bool,
}

impl Defaults {
    /// A file's that says nothing.
    pub fn of(compat: Compat) -> Defaults {
        let (merge_order, output) = match compat {
            Compat::KrakenD => (MergeOrder::Arrival, Output::Canonical),
            Compat::Annulus => (MergeOrder::Declared, Output::Fast),
        };
        Defaults { merge_order, output, merge_order_is_set: false, output_is_set: false, has_rate_limit_store: false }
    }
}

/// At the root.
pub fn root(object: Option<Object<'_>>, gateway: &mut Gateway, report: &mut Report) -> Defaults {
    const MEMORY_BYTES_LEAST: u64 = 16 << 20;
    let Some(mut object) = object else { return Defaults::of(gateway.compat) };
    let words = [("krakend", Compat::KrakenD), ("annulus", Compat::Annulus)];
    if let Some(compat) = object.take("compat").and_then(|field| field.one_of(&words, report)) {
        gateway.compat = compat;
    }
    gateway.memory_bytes_max =
        object.take("memory_bytes_max").and_then(|field| field.whole(MEMORY_BYTES_LEAST, u64::MAX, report));
    if let Some(format) = object.take("access_log").and_then(|field| access::format(&field, report)) {
        gateway.access_format = format;
    }
    if let Some(most) = object.take("tunnels_max").and_then(|field| field.whole(1, u32::MAX.into(), report)) {
        gateway.tunnels_max = most as usize;
    }
    if let Some(field) = object.take("name_servers") {
        gateway.name_servers = name_servers(&field, report);
    }
    gateway.compression = object.take("compression").and_then(|field| compression(&field, report));
    gateway.rate_limit_store = object.take("rate_limit").and_then(|field| rate_limit_store(&field, report));
    let mut defaults = Defaults::of(gateway.compat);
    defaults.has_rate_limit_store = gateway.rate_limit_store.is_some();
    forms(&mut object, &mut defaults, report);
    object.finish(report);
    defaults
}

/// How answers are compressed.
fn compression(field: &Field<'_>, report: &mut Report) -> Option<Compression> {
    const CODINGS: [(&str, Coding); 2] = [("br", Coding::Brotli), ("gzip", Coding::Gzip)];
    /// What fits into one packet is not there sooner for being shorter.
    const BYTES_MIN: u64 = 1024;
    const BYTES_MIN_MAX: u64 = 1 << 30;
    let mut object = field.object(report)?;
    let mut codings = CODINGS.map(|(_, coding)| coding).to_vec();
    if let Some(field) = object.take("encodings") {
        let entries = field.list("a list of encodings such as [\"br\", \"gzip\"]", report)?;
        if entries.is_empty() {
            field.problem("expected an encoding at least: to compress nothing, leave compression out", report);
        }
        codings.clear();
        for entry in entries {
            match entry.one_of(&CODINGS, report) {
                Some(coding) if codings.contains(&coding) => entry.problem("this is in the list already", report),
                coding => codings.extend(coding),
            }
        }
    }
    let bytes_min = object.take("min_bytes").and_then(|field| field.whole(0, BYTES_MIN_MAX, report));
    object.finish(report);
    Some(Compression { codings, bytes_min: bytes_min.unwrap_or(BYTES_MIN) as usize })
}

/// Where limits are kept together, if they are.
fn rate_limit_store(field: &Field<'_>, report: &mut Report) -> Option<RateLimitStore> {
    const GATEWAYS_MAX: u64 = 10_000;
    const PREFIX: &str = "annulus:rate:";
    const PREFIX_BYTES_MAX: usize = 128;
    const TIMEOUT: Duration = Duration::from_millis(50);
    let mut object = field.object(report)?;
    let redis = object.need("redis", report).and_then(|field| {
        let url = field.text("a URL such as \"redis://10.0.0.5:6379\"", report)?;
        let settings = crate::redis::Settings::parse(url);
        settings.map_err(|wrong| field.problem(wrong, report)).ok()
    });
    let prefix = object.take("prefix").and_then(|field| {
        let prefix = field.string("a text that keys begin with", report)?;
        if prefix.len() > PREFIX_BYTES_MAX || prefix.contains(['{', '}']) {
            field.expected("a text of at most 128 bytes without braces", report);
            return None;
        }
        Some(prefix.to_owned())
    });
    let timeout = object.take("timeout").and_then(|field| field.duration_above_zero(report));
    let gateways = object.take("gateways").and_then(|field| field.whole(1, GATEWAYS_MAX, report));
    object.finish(report);
    Some(RateLimitStore {
        redis: redis?,
        prefix: prefix.unwrap_or_else(|| PREFIX.to_owned()),
        timeout: timeout.unwrap_or(TIMEOUT),
        gateways: gateways.unwrap_or(1) as u32,
    })
}

/// Addresses of name servers, with a port or on that of DNS.
fn name_servers(field: &Field<'_>, report: &mut Report) -> Vec<SocketAddr> {
    const WHAT: &str = "a list of addresses such as [\"10.0.0.2\", \"127.0.0.1:5353\"]";
    let texts = field.strings(WHAT, report).unwrap_or_default();
    if texts.len() > SERVERS_MAX {
        field.problem(format!("{} name servers: at most {SERVERS_MAX} are asked", texts.len()), report);
    }
    let server = |(field, text): (Field<'_>, &str)| {
        let address = text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse().ok()?, 53)));
        if address.is_none() {
            field.expected("an address such as \"10.0.0.2\" or \"127.0.0.1:5353\"", report);
        }
        address
    };
    texts.into_iter().filter_map(server).collect()
}

fn forms(object: &mut Object<'_>, defaults: &mut Defaults, report: &mut Report) {
    if let Some(order) = object.take("merge_order").and_then(|field| field.one_of(&MERGE_ORDERS, report)) {
        (defaults.merge_order, defaults.merge_order_is_set) = (order, true);
    }
    if let Some(output) = object.take("output").and_then(|field| field.one_of(&OUTPUTS, report)) {
        (defaults.output, defaults.output_is_set) = (output, true);
    }
}

/// At an endpoint.
pub fn endpoint(object: Option<Object<'_>>, mut defaults: Defaults, endpoint: &mut Endpoint, report: &mut Report) {
    let has_limit = endpoint.rate_limit.is_some();
    endpoint.rate_limit_is_global = has_limit && defaults.has_rate_limit_store;
    if let Some(mut object) = object {
        let words =
            [("critical", Priority::Critical), ("normal", Priority::Normal), ("sheddable", Priority::Sheddable)];
        if let Some(priority) = object.take("priority").and_then(|field| field.one_of(&words, report)) {
            endpoint.priority = priority;
        }
        let words = [("global", true), ("local", false)];
        if let Some(field) = object.take("rate_limit")
            && let Some(is_global) = field.one_of(&words, report)
        {
            if is_global && !defaults.has_rate_limit_store {
                field.problem(
                    "limits are kept together in a Redis: extra_config.annulus.rate_limit at the root names none",
                    report,
                );
            }
            if !has_limit {
                field.note("this endpoint has no qos/ratelimit/router", report);
            }
            endpoint.rate_limit_is_global = has_limit && is_global;
        }
        if let Some(field) = object.take("tunnels_max")
            && let Some(most) = field.whole(1, u32::MAX.into(), report)
        {
            match &mut endpoint.websocket {
                Some(websocket) => websocket.tunnels_max = most as usize,
                None => field.note("this endpoint has no websocket", report),
            }
        }
        forms(&mut object, &mut defaults, report);
        object.finish(report);
    }
    (endpoint.merge_order, endpoint.merge_order_is_set) = (defaults.merge_order, defaults.merge_order_is_set);
    (endpoint.output, endpoint.output_is_set) = (defaults.output, defaults.output_is_set);
}

/// At a backend. `timeout` holds the endpoint's until now.
pub fn backend(mut object: Object<'_>, backend: &mut Backend, report: &mut Report) {
    if let Some(field) = object.take("timeout")
        && let Some(timeout) = field.duration_above_zero(report)
    {
        if timeout > backend.timeout {
            field.note("this is longer than the endpoint's timeout, which is what counts", report);
        }
        backend.timeout = timeout.min(backend.timeout);
    }
    required(&mut object, backend, report);
    backend.retry = object.take("retry").and_then(|field| retry(&field, report));
    backend.outlier = object.take("outlier").and_then(|field| outlier(&field, report));
    let lbs = [
        ("round_robin", LoadBalancing::RoundRobin),
        ("least_request", LoadBalancing::LeastRequest),
        ("p2c_ewma", LoadBalancing::P2cEwma),
    ];
    if let Some(lb) = object.take("lb").and_then(|field| field.one_of(&lbs, report)) {
        backend.lb = lb;
    }
    protocol(&mut object, backend, report);
    if let Some(bytes) = object.take("max_response_bytes").and_then(|field| field.whole(1, u64::MAX, report)) {
        backend.max_response_bytes = Some(bytes);
    }
    if let Some(field) = object.take("hedge") {
        backend.hedge = hedge(&field, report);
        if !backend.method.is_idempotent() {
            field.note("hedge has no effect here: asking twice is not the same as once with this method", report);
        }
    }
    backend.health = object.take("health").and_then(|field| health(&field, report));
    object.finish(report);
}

/// Something that the table of features may not have as offered yet.
pub fn feature(name: &str, field: &Field<'_>, report: &mut Report) -> Option<String> {
    report.unsupported(field.at(), &field.key, support::feature(name)?)
}

fn required(object: &mut Object<'_>, backend: &mut Backend, report: &mut Report) {
    let optional = object.take("optional").and_then(|field| field.boolean(report));
    let field = object.take("required");
    let required = field.as_ref().and_then(|field| field.boolean(report));
    if let (Some(field), Some(optional), Some(required)) = (&field, optional, required)
        && optional == required
    {
        field.problem(format!("optional is {optional} as well: a backend is either required or optional"), report);
    }
    backend.required = required.or(optional.map(|optional| !optional)).unwrap_or(false);
}

fn protocol(object: &mut Object<'_>, backend: &mut Backend, report: &mut Report) {
    use super::model::Scheme::{Http, Https};
    let words = [("auto", Protocol::Auto), ("http1", Protocol::Http1), ("h2", Protocol::H2), ("h2c", Protocol::H2c)];
    let Some(field) = object.take("protocol") else { return };
    let Some(protocol) = field.one_of(&words, report) else { return };
    backend.protocol = protocol;
    let wrong = match protocol {
        Protocol::H2 => Some((Http, "h2 is HTTP/2 over TLS, and this host is plain text: did you mean h2c or https?")),
        Protocol::H2c => Some((Https, "h2c is HTTP/2 in plain text, and this host is TLS: did you mean h2 or http?")),
        Protocol::Auto | Protocol::Http1 => None,
    };
    if let Some((scheme, says)) = wrong
        && let Some(host) = backend.hosts.iter().find(|host| host.scheme == scheme)
    {
        field.problem(format!("{host}: {says}"), report);
    }
}

fn retry(field: &Field<'_>, report: &mut Report) -> Option<Retry> {
    const ATTEMPTS_MAX: u64 = 10;
    const BUDGET: f64 = 0.2;
    let mut object = field.object(report)?;
    let attempts = object.take("attempts").and_then(|field| field.whole(1, ATTEMPTS_MAX, report)).unwrap_or(1) as u32;
    let on = match object.take("on") {
        Some(field) => retry_on(&field, report),
        None => RetryOn { connect: true, refused: true, reset: true, timeout: false, statuses: vec![502, 503, 504] },
    };
    let budget = object.take("budget").and_then(|field| field.share(report)).unwrap_or(BUDGET);
    object.finish(report);
    Some(Retry { attempts, on, budget })
}

fn retry_on(field: &Field<'_>, report: &mut Report) -> RetryOn {
    const WHAT: &str = "\"connect\", \"refused\", \"reset\", \"timeout\", \"5xx\" or a status from 400 to 599";
    let mut on = RetryOn::default();
    for entry in field.list("a list of reasons", report).unwrap_or_default() {
        let status = |text: &str| text.parse::<u16>().ok().filter(|status| (400..600).contains(status));
        match &entry.node.value {
            Value::String(text) => match &**text {
                "connect" => on.connect = true,
                "refused" => on.refused = true,
                "reset" => on.reset = true,
                "timeout" => on.timeout = true,
                "5xx" => on.statuses.extend(500..600),
                text => match status(text) {
                    Some(status) => on.statuses.push(status),
                    None => entry.expected(WHAT, report),
                },
            },
            Value::Number(text) => match status(text) {
                Some(status) => on.statuses.push(status),
                None => entry.expected(WHAT, report),
            },
            _ => entry.expected(WHAT, report),
        }
    }
    on.statuses.sort_unstable();
    on.statuses.dedup();
    on
}

fn hedge(field: &Field<'_>, report: &mut Report) -> Option<Hedge> {
    const BUDGET: f64 = 0.05;
    let mut object = field.object(report)?;
    let after = object.need("after", report).and_then(|field| hedge_after(&field, report));
    let budget = object.take("budget").and_then(|field| field.share(report)).unwrap_or(BUDGET);
    object.finish(report);
    Some(Hedge { after: after?, budget })
}

fn hedge_after(field: &Field<'_>, report: &mut Report) -> Option<HedgeAfter> {
    let percentile = match &field.node.value {
        Value::String(text) => text.strip_prefix('p'),
        _ => None,
    };
    let Some(percentile) = percentile else {
        return field.duration_above_zero(report).map(HedgeAfter::Fixed);
    };
    let percentile = percentile.parse().ok().filter(|percentile| (50.0..=99.9).contains(percentile));
    if percentile.is_none() {
        field.expected("a percentile from \"p50\" to \"p99.9\", or a duration such as \"80ms\"", report);
    }
    percentile.map(HedgeAfter::Percentile)
}

fn outlier(field: &Field<'_>, report: &mut Report) -> Option<Outlier> {
    let mut object = field.object(report)?;
    let consecutive_errors = object.take("consecutive_errors").and_then(|field| field.whole(1, 1_000_000, report));
    let ejection_time = object.take("ejection_time").and_then(|field| field.duration_above_zero(report));
    let ejection_time_max = object.take("ejection_time_max");
    let most = ejection_time_max.as_ref().and_then(|field| field.duration_above_zero(report));
    let ejected_max = object.take("ejected_max").and_then(|field| field.share(report));
    object.finish(report);
    let ejection_time = ejection_time.unwrap_or(Duration::from_secs(30));
    if let (Some(field), Some(most)) = (&ejection_time_max, most)
        && most < ejection_time
    {
        field.problem("this is shorter than ejection_time", report);
    }
    Some(Outlier {
        consecutive_errors: consecutive_errors.unwrap_or(5) as u32,
        ejection_time,
        ejection_time_max: most.unwrap_or(Duration::from_secs(300)).max(ejection_time),
        ejected_max: ejected_max.unwrap_or(0.5),
    })
}

fn health(field: &Field<'_>, report: &mut Report) -> Option<Health> {
    const INTERVAL: Duration = Duration::from_secs(10);
    /// Each host is asked so often at most: a check is not to be a load.
    const INTERVAL_LEAST: Duration = Duration::from_millis(100);
    const TIMEOUT: Duration = Duration::from_secs(2);
    const UNHEALTHY_AFTER: u64 = 3;
    const HEALTHY_AFTER: u64 = 2;
    const AFTER_MAX: u64 = 100;
    let mut object = field.object(report)?;
    let path = object.need("path", report).and_then(|field| {
        let text = field.text("a path such as \"/health\"", report)?;
        // It is sent as it stands.
        let is_path = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !is_path {
            field.expected("a path that starts with a slash and is percent-encoded, such as \"/health\"", report);
        }
        is_path.then(|| text.to_owned())
    });
    let mut interval = INTERVAL;
    if let Some(field) = object.take("interval")
        && let Some(own) = field.duration_above_zero(report)
    {
        if own < INTERVAL_LEAST {
            field.problem("a host is asked every 100ms at most: expected an interval from \"100ms\" on", report);
        }
        interval = own;
    }
    let mut timeout = TIMEOUT.min(interval);
    if let Some(field) = object.take("timeout")
        && let Some(own) = field.duration_above_zero(report)
    {
        if own > interval {
            field.problem("this is longer than the interval, in which a host should have answered", report);
        }
        timeout = own;
    }
    let unhealthy_after = object.take("unhealthy_after").and_then(|field| field.whole(1, AFTER_MAX, report));
    let healthy_after = object.take("healthy_after").and_then(|field| field.whole(1, AFTER_MAX, report));
    let panic_below = object.take("panic_below").and_then(|field| field.share(report));
    object.finish(report);
    let check = HealthCheck {
        path: path?,
        interval,
        timeout,
        unhealthy_after: unhealthy_after.unwrap_or(UNHEALTHY_AFTER) as u32,
        healthy_after: healthy_after.unwrap_or(HEALTHY_AFTER) as u32,
    };
    Some(Health { check, panic_below: panic_below.unwrap_or(0.0) })
}
