//! `[chat]` itself, and the tables about the door: who comes in, by which way, with what.

use super::channels::{CHANNELS, NAMESPACE, set_namespaces};
use super::events::EVENTS;
use super::hooks::HOOKS;
use super::limits::set_limits;
use super::storage::{BROKER, ENCRYPTION, LOG, set_database};
use super::{DAY, HOUR, MANY, SECOND, TIB, key, origins, pem, secret, some};
use crate::chat::config::keys::{Key, Set, expected, read_table};
use crate::chat::config::model::{Admin, Api, Client, Compression, Config, Paths, PersonalChannel, Tls, Tokens};
use crate::chat::config::secret::{Pem, Secret};
use crate::gateway::config::tree::Value;

/// `[chat]` itself.
pub const CHAT: &[Key<Config>] = &[
    key(
        "listen",
        "\"127.0.0.1:8000\"",
        "where to listen",
        Set::Try("an address and port such as \"127.0.0.1:8000\"", |chat, text| {
            text.parse().map(|address| chat.listen = address).is_ok()
        }),
    ),
    key(
        "insecure",
        "on loopback, unless something says who clients are",
        "short for `client.insecure`",
        Set::Bool(|chat, is| chat.client.insecure = Some(is)),
    ),
    key(
        "allowed_origins",
        "[]",
        "whose pages may connect, as `\"https://*.example.com\"`; `*`: anything but a slash; alone: all",
        Set::Texts(|chat, patterns| chat.allowed_origins = origins(patterns)),
    ),
    key(
        "allow_own_origin",
        "true",
        "pages of the origin that the request goes to may connect too",
        Set::Bool(|chat, is| chat.allow_own_origin = is),
    ),
    key(
        "api_key",
        "none",
        "short for `api.keys` with one",
        Set::Value("text", |chat, value| set_keys(&mut chat.api, value)),
    ),
    key(
        "message_bytes_max",
        "65536",
        "largest message of a client; beyond: close 1009",
        Set::Bytes(256, 16 << 20, |chat, bytes| chat.message_bytes_max = bytes as usize),
    ),
    key(
        "outbox_bytes_max",
        "\"1MiB\"",
        "what may wait for one client; beyond: close 3008; from a quarter of it on: `slow` of the namespace",
        Set::Bytes(4096, 1 << 30, |chat, bytes| chat.outbox_bytes_max = bytes as usize),
    ),
    key(
        "outbound_bytes_max",
        "\"256MiB\"",
        "what may wait for all clients together; beyond: the slowest give way; 0: off",
        Set::Bytes(0, TIB, |chat, bytes| chat.outbound_bytes_max = bytes as usize),
    ),
    key(
        "connections_max",
        "0",
        "connections at the same time; beyond: 503; 0: off",
        Set::Count(0, MANY, |chat, count| chat.connections_max = count as usize),
    ),
    key(
        "idle_seconds_max",
        "60",
        "silence of an HTTP connection between requests, and how long a request's body may take; beyond: it is closed",
        Set::Ms(SECOND, DAY, |chat, ms| chat.idle_ms_max = ms),
    ),
    key(
        "write_timeout",
        "\"30s\"",
        "how long a client may take nothing of what is written to it; beyond: it is cut off",
        Set::Ms(100, HOUR, |chat, ms| chat.write_ms_max = ms),
    ),
    key(
        "shutdown_timeout",
        "\"30s\"",
        "how long clients are given to go at the end",
        Set::Ms(0, HOUR, |chat, ms| chat.shutdown_ms_max = ms),
    ),
    key(
        "access_log",
        "false",
        "a line for each API call, WebSocket and end of a session",
        Set::Bool(|chat, is| chat.access_log = is),
    ),
    key(
        "http_stream",
        "false",
        "clients may also come by HTTP streams, and send commands to `paths.emulation`",
        Set::Bool(|chat, is| chat.http_stream = is),
    ),
    key("sse", "false", "clients may also come by server-sent events, likewise", Set::Bool(|chat, is| chat.sse = is)),
    key("node_name", "host and port", "what the node calls itself", Set::Text(|chat, name| chat.node_name = name)),
    key(
        "history_size",
        "100",
        "short for `default.history_size`",
        Set::Count(0, 100_000, |chat, count| chat.channels.default.history_size = count as usize),
    ),
    key(
        "history_seconds",
        "300",
        "short for `default.history_ttl`",
        Set::Ms(SECOND, 30 * DAY, |chat, ms| chat.channels.default.history_ttl_ms = ms),
    ),
    key("presence", "true", "short for `default.presence`", Set::Bool(|chat, is| chat.channels.default.presence = is)),
    key(
        "join_leave",
        "true",
        "short for `default.join_leave`",
        Set::Bool(|chat, is| chat.channels.default.join_leave = is),
    ),
    key("tls", "none", "table `[chat.tls]`", Set::Value("table", set_tls)),
    key(
        "paths",
        "",
        "table `[chat.paths]`",
        Set::Value("table", |chat, value| read_table(PATHS, &mut chat.paths, value)),
    ),
    key(
        "client",
        "",
        "table `[chat.client]`",
        Set::Value("table", |chat, value| read_table(CLIENT, &mut chat.client, value)),
    ),
    key(
        "tokens",
        "",
        "table `[chat.tokens]`",
        Set::Value("table", |chat, value| read_table(TOKENS, &mut chat.tokens, value)),
    ),
    key(
        "subscription_tokens",
        "as `tokens`",
        "table `[chat.subscription_tokens]`, with the keys of `[chat.tokens]`",
        Set::Value("table", |chat, value| read_table(TOKENS, chat.subscription_tokens.get_or_insert_default(), value)),
    ),
    key(
        "channels",
        "",
        "table `[chat.channels]`",
        Set::Value("table", |chat, value| read_table(CHANNELS, &mut chat.channels, value)),
    ),
    key(
        "default",
        "",
        "table `[chat.default]`: channels without a namespace, with the keys of `[[chat.namespaces]]` but its name",
        Set::Value("table", |chat, value| read_table(NAMESPACE, &mut chat.channels.default, value)),
    ),
    key("namespaces", "[]", "tables `[[chat.namespaces]]`", Set::Value("list of tables", set_namespaces)),
    key(
        "hooks",
        "",
        "table `[chat.hooks]`",
        Set::Value("table", |chat, value| read_table(HOOKS, &mut chat.hooks, value)),
    ),
    key(
        "events",
        "none",
        "table `[chat.events]`: what the backend is told happened; without it it is told nothing",
        Set::Value("table", |chat, value| read_table(EVENTS, chat.events.get_or_insert_default(), value)),
    ),
    key("api", "", "table `[chat.api]`", Set::Value("table", |chat, value| read_table(API, &mut chat.api, value))),
    key(
        "admin",
        "",
        "table `[chat.admin]`",
        Set::Value("table", |chat, value| read_table(ADMIN, &mut chat.admin, value)),
    ),
    key(
        "compression",
        "none",
        "table `[chat.compression]`; without it there is none",
        Set::Value("table", |chat, value| read_table(COMPRESSION, chat.compression.get_or_insert_default(), value)),
    ),
    key("log", "", "table `[chat.log]`", Set::Value("table", |chat, value| read_table(LOG, &mut chat.log, value))),
    key("database", "none", "table `[chat.database]`", Set::Value("table", set_database)),
    key(
        "broker",
        "none",
        "table `[chat.broker]`: what several nodes share; without it this node is alone",
        Set::Value("table", |chat, value| read_table(BROKER, chat.broker.get_or_insert_default(), value)),
    ),
    key(
        "encryption",
        "none",
        "table `[chat.encryption]`",
        Set::Value("table", |chat, value| read_table(ENCRYPTION, &mut chat.encryption, value)),
    ),
    key("limits", "", "table `[chat.limits]`", Set::Value("table", set_limits)),
];

/// `[chat.tls]`.
pub const TLS: &[Key<(Option<Pem>, Option<Pem>)>] = &[
    key(
        "cert",
        "",
        "the certificate and what it was signed with: a file, or PEM itself",
        Set::Text(|tls, text| tls.0 = pem(text)),
    ),
    key(
        "key",
        "",
        "its private key, likewise; both are read again on SIGHUP",
        Set::Text(|tls, text| tls.1 = pem(text)),
    ),
];

/// `[chat.paths]`.
pub const PATHS: &[Key<Paths>] = &[
    key(
        "websocket",
        "\"/connection/websocket\"",
        "where clients connect",
        Set::Text(|paths, path| paths.websocket = path),
    ),
    key(
        "http_stream",
        "\"/connection/http_stream\"",
        "where clients connect by HTTP streams",
        Set::Text(|paths, path| paths.http_stream = path),
    ),
    key(
        "sse",
        "\"/connection/sse\"",
        "where clients connect by server-sent events",
        Set::Text(|paths, path| paths.sse = path),
    ),
    key(
        "emulation",
        "\"/emulation\"",
        "where clients of these two send their commands",
        Set::Text(|paths, path| paths.emulation = path),
    ),
    key("api", "\"/api\"", "what the methods of the HTTP API are under", Set::Text(|paths, path| paths.api = path)),
    key(
        "health",
        "\"/health\"",
        "whether the node is well; empty: not told",
        Set::Text(|paths, path| paths.health = some(path)),
    ),
    key(
        "metrics",
        "\"/metrics\"",
        "figures for Prometheus; empty: none",
        Set::Text(|paths, path| paths.metrics = some(path)),
    ),
];

/// `[chat.client]`.
pub const CLIENT: &[Key<Client>] = &[
    key(
        "insecure",
        "on loopback, unless something says who clients are",
        "everybody comes in without a token and may do all but subscribe to `$` and others' `#` channels; a token that is sent is verified all the same",
        Set::Bool(|client, is| client.insecure = Some(is)),
    ),
    key(
        "insecure_skip_signature",
        "false",
        "tokens are believed without their signature: for tests only",
        Set::Bool(|client, is| client.insecure_skip_signature = is),
    ),
    key(
        "allow_anonymous_connect_without_token",
        "false",
        "who has no token comes in as the user without a name",
        Set::Bool(|client, is| client.allow_anonymous_connect_without_token = is),
    ),
    key(
        "disallow_anonymous_tokens",
        "false",
        "a token without a user: disconnect 3507",
        Set::Bool(|client, is| client.disallow_anonymous_tokens = is),
    ),
    key(
        "channel_limit",
        "128",
        "subscriptions of a connection; beyond: error 106",
        Set::Count(1, 1_000_000, |client, count| client.channel_limit = count as usize),
    ),
    key(
        "channel_bytes_max",
        "255",
        "bytes of a channel's name; beyond: error 107",
        Set::Bytes(1, 4096, |client, bytes| client.channel_bytes_max = bytes as usize),
    ),
    key(
        "user_connection_limit",
        "0",
        "connections of a user; beyond: disconnect 3504; 0: off",
        Set::Count(0, MANY, |client, count| client.user_connection_limit = count as usize),
    ),
    key(
        "stale_close_delay",
        "\"10s\"",
        "how long a connection may be open without `connect`; beyond: disconnect 3502",
        Set::Ms(100, HOUR, |client, ms| client.stale_close_delay_ms = ms),
    ),
    key(
        "expired_close_delay",
        "\"25s\"",
        "how long after its token's end a connection may be refreshed; beyond: disconnect 3005",
        Set::Ms(0, DAY, |client, ms| client.expired_close_delay_ms = ms),
    ),
    key(
        "expired_sub_close_delay",
        "\"25s\"",
        "the same of a subscription; beyond: disconnect 3006",
        Set::Ms(0, DAY, |client, ms| client.expired_sub_close_delay_ms = ms),
    ),
    key(
        "ping_interval",
        "\"25s\"",
        "how often the server pings; 0: never",
        Set::Ms(0, DAY, |client, ms| client.ping_interval_ms = ms),
    ),
    key(
        "pong_timeout",
        "\"8s\"",
        "how long the answer may take; beyond: disconnect 3012; 0: for ever",
        Set::Ms(0, DAY, |client, ms| client.pong_timeout_ms = ms),
    ),
    key(
        "history_max",
        "300",
        "publications of a page of history; a larger page is cut to it",
        Set::Count(1, 100_000, |client, count| client.history_max = count as usize),
    ),
    key(
        "recovery_max",
        "300",
        "publications that a recovery brings; if more were missed: not recovered",
        Set::Count(1, 100_000, |client, count| client.recovery_max = count as usize),
    ),
    key(
        "personal_channel",
        "false",
        "each user is subscribed to a channel of their own: `true`, or a table",
        Set::Value("true, false or table", set_personal_channel),
    ),
    key(
        "user_id_header",
        "none",
        "the header with the user, set by a proxy that has authenticated them",
        Set::Text(|client, name| client.user_id_header = some(name.to_ascii_lowercase())),
    ),
    key(
        "include_server_time",
        "false",
        "the reply to `connect` tells the time",
        Set::Bool(|client, is| client.include_server_time = is),
    ),
];

/// `personal_channel` of `[chat.client]`.
pub const PERSONAL_CHANNEL: &[Key<PersonalChannel>] = &[
    key("namespace", "none", "the namespace that it is in", Set::Text(|personal, name| personal.namespace = name)),
    key(
        "single_connection",
        "false",
        "a user's new connection cuts off the older ones; needs `presence`",
        Set::Bool(|personal, is| personal.single_connection = is),
    ),
];

/// `[chat.tokens]`.
pub const TOKENS: &[Key<Tokens>] = &[
    key("hmac_secret", "none", "for HS256, HS384, HS512", Set::Text(|tokens, text| tokens.hmac_secret = secret(text))),
    key(
        "hmac_previous_secret",
        "none",
        "the secret before, while tokens signed with it are about",
        Set::Text(|tokens, text| tokens.hmac_previous_secret = secret(text)),
    ),
    key(
        "hmac_previous_valid_until",
        "for ever",
        "until when that one is good, in seconds since 1970",
        Set::Count(0, u64::MAX >> 1, |tokens, at| tokens.hmac_previous_valid_until = (at > 0).then_some(at)),
    ),
    key(
        "rsa_public_key",
        "none",
        "for RS256, RS384, RS512: a file, or PEM itself",
        Set::Text(|tokens, text| tokens.rsa_public_key = pem(text)),
    ),
    key(
        "ecdsa_public_key",
        "none",
        "for ES256, ES384, likewise",
        Set::Text(|tokens, text| tokens.ecdsa_public_key = pem(text)),
    ),
    key(
        "ed25519_public_key",
        "none",
        "for EdDSA, likewise",
        Set::Text(|tokens, text| tokens.ed25519_public_key = pem(text)),
    ),
    key(
        "jwks_url",
        "none",
        "where the set of keys is (RFC 7517)",
        Set::Text(|tokens, url| tokens.jwks_url = some(url)),
    ),
    key(
        "jwks_file",
        "none",
        "the set of keys in a file; read again on SIGHUP",
        Set::Text(|tokens, path| tokens.jwks_file = some(path).map(Into::into)),
    ),
    key("audience", "any", "what must be among `aud`", Set::Text(|tokens, text| tokens.audience = some(text))),
    key("issuer", "any", "what `iss` must be", Set::Text(|tokens, text| tokens.issuer = some(text))),
    key(
        "user_id_claim",
        "\"sub\"",
        "the claim that is the user",
        Set::Text(|tokens, name| tokens.user_id_claim = some(name)),
    ),
];

/// `[chat.api]`.
pub const API: &[Key<Api>] = &[
    key("enabled", "true", "it is there at all", Set::Bool(|api, is| api.enabled = is)),
    key("keys", "[]", "any of these in `X-API-Key`", Set::Value("list of texts", set_keys)),
    key(
        "insecure",
        "if clients need no token and there is no key",
        "it answers without a key",
        Set::Bool(|api, is| api.insecure = Some(is)),
    ),
];

/// `[chat.admin]`.
pub const ADMIN: &[Key<Admin>] = &[
    key(
        "enabled",
        "where clients need no token on the loopback interface",
        "the console at `/admin/` is there at all",
        Set::Bool(|admin, is| admin.enabled = Some(is)),
    ),
    key("password", "none", "what is asked for at its door", Set::Text(|admin, text| admin.password = secret(text))),
    key(
        "secret",
        "random",
        "what signs the tokens of those who came in",
        Set::Text(|admin, text| admin.secret = secret(text)),
    ),
    key("insecure", "false", "everybody may come in", Set::Bool(|admin, is| admin.insecure = is)),
];

/// `[chat.compression]`.
pub const COMPRESSION: &[Key<Compression>] = &[key(
    "min_bytes",
    "128",
    "shorter messages go out as they are",
    Set::Bytes(0, 16 << 20, |compression, bytes| compression.min_bytes = bytes as usize),
)];

fn set_tls(chat: &mut Config, value: &Value) -> Result<(), String> {
    let mut tls = (None, None);
    read_table(TLS, &mut tls, value)?;
    match tls {
        (Some(cert), Some(key)) => chat.tls = Some(Tls { cert, key }),
        _ => return Err("cert and key belong together".to_owned()),
    }
    Ok(())
}

fn set_keys(api: &mut Api, value: &Value) -> Result<(), String> {
    let texts = match value {
        Value::Array(values) => values.iter().map(|node| &node.value).collect(),
        text => vec![text],
    };
    let mut keys = Vec::with_capacity(texts.len());
    for text in texts {
        let Value::String(text) = text else { return expected("a text") };
        if text.is_empty() {
            return Err("an empty key would let anybody in. Choose one, or leave it out".to_owned());
        }
        keys.push(Secret::new(text.clone()));
    }
    api.keys = keys;
    Ok(())
}

fn set_personal_channel(client: &mut Client, value: &Value) -> Result<(), String> {
    client.personal_channel = match value {
        Value::Bool(is) => is.then(PersonalChannel::default),
        Value::Object(_) => {
            let mut personal = PersonalChannel::default();
            read_table(PERSONAL_CHANNEL, &mut personal, value)?;
            Some(personal)
        }
        _ => return expected("true, false or a table"),
    };
    Ok(())
}
