//! `extra_config`: which namespaces are there, and what those that are offered say.

use std::time::Duration;

use super::model::{
    CircuitBreaker, ClientKey, ClientRate, Endpoint, Flatmap, FlatmapKey, Rate, RouterRateLimit, Static, StaticMember,
    StaticStrategy,
};
use super::path;
use super::read::{Field, Object};
use super::report::Report;
use super::support::{self, Effect, Levels, State};
use super::tree::{Value, shortened};

/// The namespaces of one `extra_config`.
pub struct Namespaces<'t> {
    fields: Vec<(&'static str, Field<'t>)>,
    /// Why there can be no answer but 501, if the file asks for something that is not offered.
    pub unsupported: Option<String>,
}

impl<'t> Namespaces<'t> {
    /// Of the key `extra_config` of an object, which may not have one.
    pub fn take(object: &mut Object<'t>, level: Levels, report: &mut Report) -> Namespaces<'t> {
        let mut namespaces = Namespaces { fields: Vec::new(), unsupported: None };
        let extra = object.take("extra_config").and_then(|field| field.object(report));
        for (member, field) in extra.iter().flat_map(Object::members) {
            let unsupported = namespaces.add(&member.name, field, level, report);
            namespaces.unsupported = namespaces.unsupported.take().or(unsupported);
        }
        namespaces
    }

    fn add(&mut self, name: &str, field: Field<'t>, level: Levels, report: &mut Report) -> Option<String> {
        let Some(entry) = support::namespace(name) else {
            let meant = match (support::nearest_namespace(name, level), name.starts_with("github")) {
                (Some(near), _) => format!(": did you mean {near:?}?"),
                (None, true) => ": it is a name from before KrakenD 2.0".to_owned(),
                (None, false) => String::new(),
            };
            let why = format!("nobody knows the namespace {:?}{meant}", shortened(name));
            return report.refuse(field.at(), &field.key, why, Effect::Answers);
        };
        if !entry.levels.contains(level) {
            let says = format!("{name} belongs to {}, not here", entry.levels.describe());
            field.problem(says, report);
            return None;
        }
        let unsupported = report.unsupported(field.at(), &field.key, entry);
        if matches!(entry.state, State::Offered | State::Later) {
            self.fields.push((entry.name, field));
        }
        unsupported
    }

    /// What is under a namespace.
    pub fn get(&self, name: &str) -> Option<&Field<'t>> {
        self.fields.iter().find(|(known, _)| *known == name).map(|(_, field)| field)
    }

    /// What is under a namespace, as an object.
    pub fn object(&self, name: &str, report: &mut Report) -> Option<Object<'t>> {
        self.get(name)?.object(report)
    }
}

/// `proxy.static`.
pub fn static_data(field: &Field<'_>, report: &mut Report) -> Option<Static> {
    const STRATEGIES: [(&str, StaticStrategy); 5] = [
        ("always", StaticStrategy::Always),
        ("success", StaticStrategy::Success),
        ("complete", StaticStrategy::Complete),
        ("errored", StaticStrategy::Errored),
        ("incomplete", StaticStrategy::Incomplete),
    ];
    let mut object = field.object(report)?;
    let strategy = object.take("strategy").and_then(|field| field.one_of(&STRATEGIES, report));
    let data = object.need("data", report).and_then(|field| field.object(report));
    object.finish(report);
    // Here every name is the user's, also one that would be a comment elsewhere.
    let data = data?.all_members();
    let data = data.iter().map(|member| StaticMember { name: member.name.clone(), json: member.value.value.to_json() });
    Some(Static { strategy: strategy.unwrap_or(StaticStrategy::Always), data: data.collect() })
}

/// `proxy.flatmap_filter`.
pub fn flatmap(field: &Field<'_>, report: &mut Report) -> Vec<Flatmap> {
    let operations = field.list("a list of operations", report).unwrap_or_default();
    operations.iter().filter_map(|operation| flatmap_operation(operation, report)).collect()
}

fn flatmap_operation(field: &Field<'_>, report: &mut Report) -> Option<Flatmap> {
    #[derive(Clone, Copy)]
    enum Kind {
        Move,
        Append,
        Delete,
    }
    let mut object = field.object(report)?;
    let kinds = [("move", Kind::Move), ("append", Kind::Append), ("del", Kind::Delete)];
    let kind = object.need("type", report).and_then(|field| field.one_of(&kinds, report));
    let arguments = object.need("args", report);
    object.finish(report);
    let (kind, arguments) = (kind?, arguments?);
    let texts = arguments.strings("a list of paths such as \"a.*.b\"", report)?;
    let mut paths = Vec::new();
    for (field, text) in texts {
        match path::dotted(text) {
            Some(names) => paths.push(names.into_iter().map(flatmap_key).collect::<Vec<_>>()),
            None => {
                field.expected("names between dots, such as \"a.*.b\"", report);
                return None;
            }
        }
    }
    let wildcards = |path: &[FlatmapKey]| path.iter().filter(|key| **key == FlatmapKey::Any).count();
    match (kind, <[_; 2]>::try_from(paths)) {
        (Kind::Delete, Ok(paths)) => Some(Flatmap::Delete(paths.into())),
        (Kind::Delete, Err(paths)) if !paths.is_empty() => Some(Flatmap::Delete(paths)),
        (Kind::Delete, Err(_)) => {
            arguments.problem("expected one path at least", report);
            None
        }
        (_, Ok([from, to])) if wildcards(&from) < wildcards(&to) => {
            arguments.problem("the second path has more wildcards than the first: what should they match?", report);
            None
        }
        (Kind::Move, Ok([from, to])) => Some(Flatmap::Move { from, to }),
        (Kind::Append, Ok([from, to])) => Some(Flatmap::Append { from, to }),
        (_, Err(paths)) => {
            arguments.problem(format!("expected two paths, found {}", paths.len()), report);
            None
        }
    }
}

fn flatmap_key(name: String) -> FlatmapKey {
    if name == "*" { FlatmapKey::Any } else { FlatmapKey::Name(name) }
}

/// `qos/ratelimit/router`.
pub fn router_rate_limit(mut object: Object<'_>, endpoint: &Endpoint, report: &mut Report) -> Option<RouterRateLimit> {
    let problems = report.problem_count();
    let every = every(&mut object, report);
    let all = rate(&mut object, "max_rate", "capacity", every, report);
    let client = rate(&mut object, "client_max_rate", "client_capacity", every, report);
    let strategy = object.take("strategy");
    let key = object.take("key");
    object.pass_over(
        &[
            ("num_shards", "counters are per client, in one table per shard"),
            ("cleanup_period", "counters of clients that stay away go by themselves"),
            ("cleanup_threads", "counters of clients that stay away go by themselves"),
        ],
        report,
    );
    if all.is_none() && client.is_none() && report.problem_count() == problems {
        report.problem(object.at(), object.key(), "expected max_rate or client_max_rate, above zero");
    }
    if client.is_some() && strategy.is_none() {
        report.note(object.at(), object.key(), "client_max_rate without a strategy: clients are told apart by ip");
    }
    let key = client_key(strategy.as_ref(), key.as_ref(), endpoint, report);
    object.finish(report);
    Some(RouterRateLimit { all, client: client.map(|rate| ClientRate { rate, key }) })
}

fn client_key(
    strategy: Option<&Field<'_>>,
    key: Option<&Field<'_>>,
    endpoint: &Endpoint,
    report: &mut Report,
) -> ClientKey {
    #[derive(Clone, Copy)]
    enum Strategy {
        Ip,
        Header,
        Param,
    }
    let words = [("ip", Strategy::Ip), ("header", Strategy::Header), ("param", Strategy::Param)];
    let chosen = strategy.and_then(|field| field.one_of(&words, report)).unwrap_or(Strategy::Ip);
    let name = key.and_then(|field| field.text("a name", report));
    match (chosen, name) {
        (Strategy::Ip, None) => ClientKey::Ip,
        (Strategy::Ip, Some(header)) => ClientKey::IpFromHeader(header.to_lowercase()),
        (Strategy::Header, Some(header)) => ClientKey::Header(header.to_lowercase()),
        (Strategy::Param, Some(name)) => match endpoint.parameters().position(|known| known == name) {
            Some(index) => ClientKey::Parameter(index),
            None => {
                if let Some(field) = key {
                    field.problem(format!("the endpoint's path has no {{{name}}}"), report);
                }
                ClientKey::Ip
            }
        },
        (Strategy::Header | Strategy::Param, None) => {
            if let (Some(field), None) = (strategy, key) {
                field.problem("this strategy needs a key: the name of a header or of a parameter", report);
            }
            ClientKey::Ip
        }
    }
}

/// `qos/ratelimit/proxy`.
pub fn proxy_rate_limit(mut object: Object<'_>, report: &mut Report) -> Option<Rate> {
    let problems = report.problem_count();
    let every = every(&mut object, report);
    let rate = rate(&mut object, "max_rate", "capacity", every, report);
    if rate.is_none() && report.problem_count() == problems {
        report.problem(object.at(), object.key(), "expected max_rate, above zero");
    }
    object.finish(report);
    rate
}

fn every(object: &mut Object<'_>, report: &mut Report) -> Duration {
    let every = object.take("every").and_then(|field| field.duration_above_zero(report));
    every.unwrap_or(Duration::from_secs(1))
}

/// Tokens that a bucket may hold.
const CAPACITY_MAX: u64 = 1 << 32;

/// A rate of 0 is no limit and a capacity of 0 is the rate's own, as in KrakenD.
fn rate(
    object: &mut Object<'_>,
    rate: &'static str,
    capacity: &'static str,
    every: Duration,
    report: &mut Report,
) -> Option<Rate> {
    let capacity = object.take(capacity).and_then(|field| field.whole(0, CAPACITY_MAX, report)).unwrap_or(0);
    let field = object.take(rate)?;
    if matches!(&field.node.value, Value::Number(number) if number == "0") {
        return None;
    }
    let tokens = field.positive("a number of requests, such as 100 or 0.5; 0 is no limit", report)?;
    let capacity = if capacity == 0 { (tokens as u64).clamp(1, CAPACITY_MAX) } else { capacity };
    Some(Rate { tokens, every, capacity })
}

/// `qos/circuit-breaker`. Its times are whole seconds.
pub fn circuit_breaker(mut object: Object<'_>, report: &mut Report) -> Option<CircuitBreaker> {
    const SECONDS_MAX: u64 = 86_400;
    let interval = object.need("interval", report).and_then(|field| field.whole(1, SECONDS_MAX, report));
    let timeout = object.need("timeout", report).and_then(|field| field.whole(1, SECONDS_MAX, report));
    let max_errors = object.need("max_errors", report).and_then(|field| field.whole(1, u32::MAX.into(), report));
    let name = object.take("name").and_then(|field| field.string("a name", report)).unwrap_or_default();
    let log_status_change = object.take("log_status_change").and_then(|field| field.boolean(report));
    object.finish(report);
    Some(CircuitBreaker {
        name: name.to_owned(),
        interval: Duration::from_secs(interval?),
        timeout: Duration::from_secs(timeout?),
        max_errors: max_errors? as u32,
        log_status_change: log_status_change.unwrap_or(false),
    })
}

/// `backend/http`: the name under which failures are told, and whether a failure's status goes on.
pub fn backend_http(mut object: Object<'_>, report: &mut Report) -> (Option<String>, bool) {
    let details = object.take("return_error_details");
    let code = object.take("return_error_code").and_then(|field| field.boolean(report)).unwrap_or(false);
    if let Some(details) = details.as_ref().filter(|_| code) {
        details.note("return_error_details is set as well, and is what counts: return_error_code is ignored", report);
    }
    let details = details.and_then(|field| field.text("a name for the member error_NAME", report));
    object.finish(report);
    (details.map(str::to_owned), code && details.is_none())
}
