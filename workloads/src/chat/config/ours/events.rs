//! `[chat.events]`.

use super::{DAY, HOUR, key, secret};
use crate::chat::config::events::{BATCH_MAX, Events, WAITING_MAX};
use crate::chat::config::keys::{Key, Set, expected};
use crate::chat::config::secret::Secret;
use crate::chat::events::Kind;
use crate::gateway::config::tree::Value;
use crate::outbound::Reach;

/// `[chat.events]`.
pub const EVENTS: &[Key<Events>] = &[
    key("endpoint", "", "an `http://` or `https://` URL; needed", Set::Text(|events, url| events.endpoint = url)),
    key(
        "secret",
        "",
        "what requests are signed with, 32 bytes or more; needed",
        Set::Text(|events, text| events.secret = secret(text)),
    ),
    key(
        "types",
        "all",
        "which are told of: `\"connected\"`, `\"disconnected\"`, `\"joined\"`, `\"left\"`, `\"occupied\"`, `\"vacated\"`",
        Set::Value("list of texts", set_types),
    ),
    key(
        "namespaces",
        "all",
        "whose channels are told of; `\"\"`: those without a namespace",
        Set::Texts(|events, names| events.namespaces = Some(names)),
    ),
    key(
        "batch_max",
        "100",
        "events of one request",
        Set::Count(1, BATCH_MAX, |events, count| events.batch_max = count as usize),
    ),
    key(
        "batch_wait",
        "\"100ms\"",
        "how long more are waited for, to go along",
        Set::Ms(0, HOUR, |events, ms| events.batch_wait_ms = ms),
    ),
    key(
        "timeout",
        "\"5s\"",
        "how long an answer may take; beyond: the batch is told again",
        Set::Ms(1, HOUR, |events, ms| events.timeout_ms = ms),
    ),
    key(
        "give_up_after",
        "\"10m\"",
        "how long a batch is told again; beyond: it is a dead letter; 0: it is told once",
        Set::Ms(0, 30 * DAY, |events, ms| events.give_up_after_ms = ms),
    ),
    key(
        "waiting_max",
        "100000",
        "events that wait; beyond: newer ones are dropped",
        Set::Count(1, WAITING_MAX, |events, count| events.waiting_max = count as usize),
    ),
    key(
        "allow_private",
        "false",
        "whether `endpoint` may be at an address that is not of the public network: loopback, private, link-local; or a list of \
         networks in which it may be",
        Set::Value("true, false or list of networks", set_reach),
    ),
    key(
        "static_headers",
        "{}",
        "headers that are always sent",
        Set::Pairs(|events, pairs| {
            let lower_case = |(name, value): (String, Secret)| (name.to_ascii_lowercase(), value);
            events.static_headers = pairs.into_iter().map(lower_case).collect();
        }),
    ),
];

fn set_reach(events: &mut Events, value: &Value) -> Result<(), String> {
    const WHAT: &str = "true, false or a list of networks such as [\"10.0.0.0/8\"]";
    let (all, nodes) = match value {
        Value::Bool(all) => (Some(*all), &[][..]),
        Value::Array(nodes) => (None, &nodes[..]),
        _ => return expected(WHAT),
    };
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        _ => None,
    };
    let networks: Option<Vec<String>> = nodes.iter().map(|node| text(&node.value)).collect();
    let Some(networks) = networks else { return expected(WHAT) };
    events.reach = Reach::read(all, &networks.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(())
}

fn set_types(events: &mut Events, value: &Value) -> Result<(), String> {
    let names = Kind::ALL.map(Kind::name).join(", ");
    let Value::Array(nodes) = value else { return expected(&format!("a list of some of {names}")) };
    let kind = |value: &Value| match value {
        Value::String(name) => Kind::named(name),
        _ => None,
    };
    let kinds: Option<Vec<Kind>> = nodes.iter().map(|node| kind(&node.value)).collect();
    let Some(kinds) = kinds else { return expected(&format!("a list of some of {names}")) };
    events.kinds = kinds;
    Ok(())
}
