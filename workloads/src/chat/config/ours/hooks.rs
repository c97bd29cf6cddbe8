//! `[chat.hooks]`.

use super::{HOUR, key, lower_case};
use crate::chat::config::hooks::{Hook, Hooks, OWN, RpcNamespace};
use crate::chat::config::keys::{Key, Set, expected, is_name, members, read_table};
use crate::gateway::config::tree::Value;

/// `[chat.hooks]`.
pub const HOOKS: &[Key<Hooks>] = &[
    key(
        "connect",
        "none",
        "table: who a client without a token is",
        Set::Value("table", |hooks, value| read_table(HOOK, hooks.connect.get_or_insert_default(), value)),
    ),
    key(
        "refresh",
        "none",
        "table: whether a connection may go on",
        Set::Value("table", |hooks, value| read_table(HOOK, hooks.refresh.get_or_insert_default(), value)),
    ),
    key(
        "subscribe",
        "none",
        "table: whether a client may subscribe",
        Set::Value("table", |hooks, value| read_table(HOOK, hooks.subscribe.get_or_insert_default(), value)),
    ),
    key(
        "publish",
        "none",
        "table: whether a client may publish",
        Set::Value("table", |hooks, value| read_table(HOOK, hooks.publish.get_or_insert_default(), value)),
    ),
    key(
        "sub_refresh",
        "none",
        "table: whether a subscription may go on",
        Set::Value("table", |hooks, value| read_table(HOOK, hooks.sub_refresh.get_or_insert_default(), value)),
    ),
    key(
        "rpc",
        "none",
        "table: calls of methods",
        Set::Value("table", |hooks, value| read_table(HOOK, hooks.rpc.get_or_insert_default(), value)),
    ),
    key(
        "rpc_hook",
        "true",
        "`true`: methods without a namespace go to `rpc`; or the name of one of `named`; `false`: error 104",
        Set::Value("true, false or text", |hooks, value| set_hook(&mut hooks.rpc_hook, value)),
    ),
    key(
        "rpc_boundary",
        "\":\"",
        "what ends a method's namespace; empty: there are none",
        Set::Text(|hooks, text| hooks.rpc_boundary = text),
    ),
    key(
        "rpc_namespaces",
        "{}",
        "by name: `true` for `rpc`, or the name of one of `named`",
        Set::Value("table", set_rpc_namespaces),
    ),
    key(
        "named",
        "{}",
        "tables `[chat.hooks.named.NAME]`, for namespaces that choose them",
        Set::Value("tables by name", set_named),
    ),
];

/// Each of the hooks.
pub const HOOK: &[Key<Hook>] = &[
    key("endpoint", "", "an `http://` or `https://` URL; needed", Set::Text(|hook, url| hook.endpoint = url)),
    key(
        "timeout",
        "\"1s\"",
        "how long an answer may take; beyond: error 100",
        Set::Ms(1, HOUR, |hook, ms| hook.timeout_ms = ms),
    ),
    key(
        "concurrency_max",
        "64",
        "requests at the same time; more wait",
        Set::Count(1, 65_536, |hook, count| hook.concurrency_max = count as usize),
    ),
    key(
        "waiting_max",
        "1024",
        "requests that wait; beyond: error 111, temporary",
        Set::Count(0, 1_000_000, |hook, count| hook.waiting_max = count as usize),
    ),
    key(
        "breaker_failures",
        "10",
        "failures in a row within 10 s after which a core asks nothing for a while; 0: off",
        Set::Count(0, 1_000_000, |hook, count| hook.breaker_failures = count as u32),
    ),
    key("breaker_time", "\"1s\"", "how long that is", Set::Ms(1, HOUR, |hook, ms| hook.breaker_ms = ms)),
    key(
        "http_headers",
        "[]",
        "headers of the client's request that are sent along",
        Set::Texts(|hook, names| hook.http_headers = lower_case(names)),
    ),
    key("static_headers", "{}", "headers that are always sent", Set::Pairs(|hook, pairs| hook.static_headers = pairs)),
    key(
        "include_connection_meta",
        "false",
        "the connection's `meta` is sent along",
        Set::Bool(|hook, is| hook.include_connection_meta = is),
    ),
    key(
        "binary_encoding",
        "false",
        "payloads are sent as `b64data`, and need not be JSON",
        Set::Bool(|hook, is| hook.binary_encoding = is),
    ),
];

/// Reads it.
pub fn set_hook(hook: &mut Option<String>, value: &Value) -> Result<(), String> {
    *hook = match value {
        Value::Bool(is) => is.then(|| OWN.to_owned()),
        Value::String(name) if is_name(name) => Some(name.clone()),
        _ => return expected("true, false, or the name of a hook"),
    };
    Ok(())
}

fn set_rpc_namespaces(hooks: &mut Hooks, value: &Value) -> Result<(), String> {
    hooks.rpc_namespaces.clear();
    for member in members(value)? {
        let mut hook = None;
        set_hook(&mut hook, &member.value.value).map_err(|says| format!("{}: {says}", member.name))?;
        hooks.rpc_namespaces.push(RpcNamespace { name: member.name.clone(), hook });
    }
    Ok(())
}

fn set_named(hooks: &mut Hooks, value: &Value) -> Result<(), String> {
    hooks.named.clear();
    for member in members(value)? {
        let mut hook = Hook::default();
        read_table(HOOK, &mut hook, &member.value.value).map_err(|says| format!("{}.{says}", member.name))?;
        hooks.named.push((member.name.clone(), hook));
    }
    Ok(())
}
