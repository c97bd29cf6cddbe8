//! Every key of Centrifugo v6: where it goes, or that it is not offered. Names, types and defaults are those of 6.9.1.
//!
//! A section is a path and what may stand under it; [`SECTIONS`] has them all. To offer a key that is not offered,
//! change its line here.

use super::super::hooks::Hook;
use super::super::keys::{Key, Kind, Set};
use super::super::model::{Rate, Tokens};
use super::super::ours::channels::{DATA_FORMATS, RECOVERY_MODES};
use super::super::ours::{DAY, HOUR, MANY, SECOND, YEAR, key, lower_case, origins, pem, secret, some};
use super::draft::{Door, Draft, EngineDraft, NamedHook, NamespaceDraft, RpcDraft, TlsDraft, address};
use super::foreign;
use super::section::{Lens, Section};

/// Everything that a file may say.
pub static SECTIONS: &[&dyn Section] = &[
    &lens("", ROOT, |draft, _| draft),
    &lens("http_server", HTTP_SERVER, |draft, _| draft),
    &lens("http_server.tls", HTTP_SERVER_TLS, |draft, _| &mut draft.tls),
    &lens("log", LOG, |draft, _| draft),
    &lens("client", CLIENT, |draft, _| draft),
    &lens("client.token", TOKEN, |draft, _| &mut draft.config.tokens),
    &lens("client.subscription_token", SUBSCRIPTION_TOKEN, |draft, _| draft),
    &lens("client.subscription_token", TOKEN, |draft, _| &mut draft.subscription_tokens),
    &lens("client.subscribe_to_user_personal_channel", PERSONAL_CHANNEL, |draft, _| draft),
    &lens("client.proxy.connect", SWITCH, |draft, _| &mut draft.connect.enabled),
    &lens("client.proxy.connect", PROXY, |draft, _| &mut draft.connect.hook),
    &lens("client.proxy.refresh", SWITCH, |draft, _| &mut draft.refresh.enabled),
    &lens("client.proxy.refresh", PROXY, |draft, _| &mut draft.refresh.hook),
    &lens("channel", CHANNEL, |draft, _| draft),
    &lens("channel.proxy.subscribe", PROXY, |draft, _| &mut draft.subscribe),
    &lens("channel.proxy.publish", PROXY, |draft, _| &mut draft.publish),
    &lens("channel.proxy.sub_refresh", PROXY, |draft, _| &mut draft.sub_refresh),
    &lens("channel.without_namespace", NAMESPACE, |draft, _| &mut draft.default),
    &lens("channel.namespaces[]", NAMESPACE_NAME, |draft, index| &mut draft.namespaces[index]),
    &lens("channel.namespaces[]", NAMESPACE, |draft, index| &mut draft.namespaces[index]),
    &lens("rpc", RPC, |draft, _| draft),
    &lens("rpc.proxy", PROXY, |draft, _| &mut draft.rpc),
    &lens("rpc.without_namespace", RPC_OPTIONS, |draft, _| &mut draft.rpc_default),
    &lens("rpc.namespaces[]", RPC_NAME, |draft, index| &mut draft.rpc_namespaces[index]),
    &lens("rpc.namespaces[]", RPC_OPTIONS, |draft, index| &mut draft.rpc_namespaces[index]),
    &lens("proxies[]", PROXY_NAME, |draft, index| &mut draft.proxies[index]),
    &lens("proxies[]", PROXY, |draft, index| &mut draft.proxies[index].hook),
    &lens("http_api", HTTP_API, |draft, _| draft),
    &lens("admin", ADMIN, |draft, _| draft),
    &lens("websocket", WEBSOCKET, |draft, _| draft),
    &lens("http_stream", HTTP_STREAM, |draft, _| draft),
    &lens("sse", SSE, |draft, _| draft),
    &lens("emulation", EMULATION, |draft, _| draft),
    &lens("engine", ENGINE, |draft, _| &mut draft.engine),
    &Lens { prefix: "engine.redis", keys: ENGINE_REDIS, of: |draft, _| &mut draft.engine, when: foreign::REDIS_ENGINE },
    &lens("health", HEALTH, |draft, _| &mut draft.health),
    &lens("prometheus", PROMETHEUS, |draft, _| &mut draft.metrics),
    &lens("node", NODE, |draft, _| draft),
    &lens("usage_stats", USAGE_STATS, |draft, _| draft),
    &lens("shutdown", SHUTDOWN, |draft, _| draft),
];

const fn lens<T>(prefix: &'static str, keys: &'static [Key<T>], of: fn(&mut Draft, usize) -> &mut T) -> Lens<T> {
    Lens { prefix, keys, of, when: None }
}

const fn not<T>(kind: Kind, name: &'static str, default: &'static str) -> Key<T> {
    key(name, default, "", Set::Not(kind))
}

const fn inert<T>(kind: Kind, name: &'static str, default: &'static str, why: &'static str) -> Key<T> {
    key(name, default, "", Set::Inert(kind, why))
}

use Kind::{Bool, Duration, Number, Text, Texts};

const ROOT: &[Key<Draft>] = &[not(Text, "pid_file", ""), not(Bool, "enable_unreleased_features", "")];

const ONE_PORT: &str = "there is one port, and it is there";

const HTTP_SERVER: &[Key<Draft>] = &[
    key(
        "address",
        "",
        "listen",
        Set::Try("an IP address, or nothing for all of them", |draft, text| {
            address(text).map(|address| draft.address = address).is_some()
        }),
    ),
    key("port", "8000", "listen", Set::Count(0, 65_535, |draft, port| draft.port = port as u16)),
    not(Text, "internal_address", ""),
    not(Text, "internal_port", ""),
    not(Bool, "tls_external", ""),
    not(Bool, "h2c_external", ""),
    not(Bool, "external_http2_extended_connect", ""),
    not(Bool, "http3.enabled", ""),
];

const ENGINE: &[Key<EngineDraft>] =
    &[key("type", "memory", "broker", Set::Choice(&["memory", "redis"], |engine, index| engine.is_redis = index == 1))];

const ENGINE_REDIS: &[Key<EngineDraft>] = &[
    key("prefix", "centrifugo", "broker.prefix", Set::Text(|engine, prefix| engine.prefix = prefix)),
    key("address", "redis://127.0.0.1:6379", "broker.redis", Set::Texts(|engine, list| engine.addresses = list)),
    key("cluster_address", "", "broker.redis", Set::Texts(|engine, list| engine.cluster = list)),
    key("db", "0", "broker.redis", Set::Count(0, 65_535, |engine, number| engine.database = number)),
    key("user", "", "broker.redis", Set::Text(|engine, user| engine.user = user)),
    key("password", "", "broker.redis", Set::Text(|engine, password| engine.password = password)),
];

const HTTP_SERVER_TLS: &[Key<TlsDraft>] = &[
    key("enabled", "", "tls", Set::Bool(|tls, is| tls.enabled = is)),
    key("cert_pem", "", "tls.cert", Set::Text(|tls, text| tls.cert = pem(text))),
    key("key_pem", "", "tls.key", Set::Text(|tls, text| tls.key = pem(text))),
    inert(Text, "server_ca_pem", "", "a server asks nobody else for a certificate"),
    not(Text, "client_ca_pem", ""),
    inert(Bool, "insecure_skip_verify", "", "a server asks nobody else for a certificate"),
    inert(Text, "server_name", "", "a server asks nobody else for a certificate"),
];

const LOG: &[Key<Draft>] =
    &[inert(Text, "level", "info", "the log has one level: what somebody should look at"), not(Text, "file", "")];

const CLIENT: &[Key<Draft>] = &[
    key(
        "allowed_origins",
        "",
        "allowed_origins",
        Set::Texts(|draft, patterns| draft.config.allowed_origins = origins(patterns)),
    ),
    key(
        "allow_anonymous_connect_without_token",
        "",
        "client.allow_anonymous_connect_without_token",
        Set::Bool(|draft, is| draft.config.client.allow_anonymous_connect_without_token = is),
    ),
    key(
        "disallow_anonymous_connection_tokens",
        "",
        "client.disallow_anonymous_tokens",
        Set::Bool(|draft, is| draft.config.client.disallow_anonymous_tokens = is),
    ),
    key(
        "ping_interval",
        "25s",
        "client.ping_interval",
        Set::Ms(0, DAY, |draft, ms| draft.config.client.ping_interval_ms = ms),
    ),
    key(
        "pong_timeout",
        "8s",
        "client.pong_timeout",
        Set::Ms(0, DAY, |draft, ms| draft.config.client.pong_timeout_ms = ms),
    ),
    key(
        "expired_close_delay",
        "25s",
        "client.expired_close_delay",
        Set::Ms(0, DAY, |draft, ms| draft.config.client.expired_close_delay_ms = ms),
    ),
    key(
        "expired_sub_close_delay",
        "25s",
        "client.expired_sub_close_delay",
        Set::Ms(0, DAY, |draft, ms| draft.config.client.expired_sub_close_delay_ms = ms),
    ),
    key(
        "stale_close_delay",
        "10s",
        "client.stale_close_delay",
        Set::Ms(100, HOUR, |draft, ms| draft.config.client.stale_close_delay_ms = ms),
    ),
    key(
        "channel_limit",
        "128",
        "client.channel_limit",
        Set::Count(1, 1_000_000, |draft, count| draft.config.client.channel_limit = count as usize),
    ),
    key(
        "queue_max_size",
        "1048576",
        "outbox_bytes_max",
        Set::Bytes(4096, 1 << 30, |draft, bytes| draft.config.outbox_bytes_max = bytes as usize),
    ),
    inert(
        Duration,
        "presence_update_interval",
        "27s",
        "presence is not refreshed by the clock: a client is there until it goes",
    ),
    inert(Number, "concurrency", "", "a connection's commands are carried out in order"),
    inert(Duration, "channel_position_check_delay", "40s", "every publication is checked for gaps, not now and then"),
    not(Duration, "channel_position_max_time_lag", ""),
    key(
        "connection_limit",
        "",
        "connections_max",
        Set::Count(0, MANY, |draft, count| draft.config.connections_max = count as usize),
    ),
    key(
        "user_connection_limit",
        "",
        "client.user_connection_limit",
        Set::Count(0, MANY, |draft, count| draft.config.client.user_connection_limit = count as usize),
    ),
    key(
        "connection_rate_limit",
        "",
        "limits.accepts_per_second",
        Set::Count(0, MANY, |draft, count| {
            draft.config.rates.accepts = Rate { per_second: count as u32, burst: count as u32 };
        }),
    ),
    key(
        "connect_include_server_time",
        "",
        "client.include_server_time",
        Set::Bool(|draft, is| draft.config.client.include_server_time = is),
    ),
    key(
        "history_max_publication_limit",
        "300",
        "client.history_max",
        Set::Count(1, 100_000, |draft, count| draft.config.client.history_max = count as usize),
    ),
    key(
        "recovery_max_publication_limit",
        "300",
        "client.recovery_max",
        Set::Count(1, 100_000, |draft, count| draft.config.client.recovery_max = count as usize),
    ),
    key(
        "insecure_skip_token_signature_verify",
        "",
        "client.insecure_skip_signature",
        Set::Bool(|draft, is| draft.config.client.insecure_skip_signature = is),
    ),
    key(
        "user_id_http_header",
        "",
        "client.user_id_header",
        Set::Text(|draft, name| draft.config.client.user_id_header = some(name.to_ascii_lowercase())),
    ),
    key("insecure", "", "client.insecure", Set::Bool(|draft, is| draft.config.client.insecure = Some(is))),
];

const TOKEN: &[Key<Tokens>] = &[
    key("hmac_secret_key", "", "tokens.hmac_secret", Set::Text(|tokens, text| tokens.hmac_secret = secret(text))),
    key(
        "hmac_previous_secret_key",
        "",
        "tokens.hmac_previous_secret",
        Set::Text(|tokens, text| tokens.hmac_previous_secret = secret(text)),
    ),
    key(
        "hmac_previous_secret_key_valid_until",
        "",
        "tokens.hmac_previous_valid_until",
        Set::Count(0, u64::MAX >> 1, |tokens, at| {
            tokens.hmac_previous_valid_until = (at > 0).then_some(at);
        }),
    ),
    key("rsa_public_key", "", "tokens.rsa_public_key", Set::Text(|tokens, text| tokens.rsa_public_key = pem(text))),
    key(
        "ecdsa_public_key",
        "",
        "tokens.ecdsa_public_key",
        Set::Text(|tokens, text| tokens.ecdsa_public_key = pem(text)),
    ),
    key("jwks_public_endpoint", "", "tokens.jwks_url", Set::Text(|tokens, url| tokens.jwks_url = some(url))),
    key("audience", "", "tokens.audience", Set::Text(|tokens, text| tokens.audience = some(text))),
    not(Text, "audience_regex", ""),
    key("issuer", "", "tokens.issuer", Set::Text(|tokens, text| tokens.issuer = some(text))),
    not(Text, "issuer_regex", ""),
    key("user_id_claim", "", "tokens.user_id_claim", Set::Text(|tokens, name| tokens.user_id_claim = some(name))),
    inert(Bool, "insecure_skip_jwks_endpoint_safety_check", "", "the endpoint never depends on a token"),
];

const SUBSCRIPTION_TOKEN: &[Key<Draft>] =
    &[key("enabled", "", "subscription_tokens", Set::Bool(|draft, is| draft.has_subscription_tokens = is))];

const PERSONAL_CHANNEL: &[Key<Draft>] = &[
    key("enabled", "", "client.personal_channel", Set::Bool(|draft, is| draft.has_personal_channel = is)),
    key(
        "personal_channel_namespace",
        "",
        "client.personal_channel.namespace",
        Set::Text(|draft, name| draft.personal_channel.namespace = name),
    ),
    key(
        "single_connection",
        "",
        "client.personal_channel.single_connection",
        Set::Bool(|draft, is| draft.personal_channel.single_connection = is),
    ),
];

const SWITCH: &[Key<bool>] = &[key("enabled", "", "hooks", Set::Bool(|enabled, is| *enabled = is))];

const PROXY: &[Key<Hook>] = &[
    key("endpoint", "", "hooks.*.endpoint", Set::Text(|hook, url| hook.endpoint = url)),
    key("timeout", "1s", "hooks.*.timeout", Set::Ms(1, HOUR, |hook, ms| hook.timeout_ms = ms)),
    key("http_headers", "", "hooks.*.http_headers", Set::Texts(|hook, names| hook.http_headers = lower_case(names))),
    not(Texts, "grpc_metadata", ""),
    not(Texts, "emulated_headers", ""),
    key("binary_encoding", "", "hooks.*.binary_encoding", Set::Bool(|hook, is| hook.binary_encoding = is)),
    key(
        "include_connection_meta",
        "",
        "hooks.*.include_connection_meta",
        Set::Bool(|hook, is| hook.include_connection_meta = is),
    ),
    key("http.static_headers", "{}", "hooks.*.static_headers", Set::Pairs(|hook, pairs| hook.static_headers = pairs)),
    not(Kind::Any, "http.status_to_code_transforms", "[]"),
];

const PROXY_NAME: &[Key<NamedHook>] = &[key("name", "", "hooks.named", Set::Text(|named, name| named.name = name))];

const CHANNEL: &[Key<Draft>] = &[
    key(
        "history_meta_ttl",
        "720h",
        "channels.history_meta_ttl",
        Set::Ms(SECOND, YEAR, |draft, ms| draft.config.channels.history_meta_ttl_ms = ms),
    ),
    key(
        "publication_data_format",
        "",
        "default.publication_data_format",
        Set::Choice(DATA_FORMAT_NAMES, |draft, index| draft.data_format = DATA_FORMATS[index]),
    ),
    key(
        "max_length",
        "255",
        "client.channel_bytes_max",
        Set::Bytes(1, 4096, |draft, bytes| draft.config.client.channel_bytes_max = bytes as usize),
    ),
    key(
        "private_prefix",
        "$",
        "channels.private_prefix",
        Set::Text(|draft, text| draft.config.channels.private_prefix = text),
    ),
    key(
        "namespace_boundary",
        ":",
        "channels.namespace_boundary",
        Set::Text(|draft, text| draft.config.channels.namespace_boundary = text),
    ),
    key(
        "user_boundary",
        "#",
        "channels.user_boundary",
        Set::Text(|draft, text| draft.config.channels.user_boundary = text),
    ),
    key(
        "user_separator",
        ",",
        "channels.user_separator",
        Set::Text(|draft, text| draft.config.channels.user_separator = text),
    ),
];

const DATA_FORMAT_NAMES: &[&str] = &["", "json", "json_object", "binary"];

const NAMESPACE_NAME: &[Key<NamespaceDraft>] =
    &[key("name", "", "namespaces[].name", Set::Text(|it, name| it.namespace.name = name))];

const NAMESPACE: &[Key<NamespaceDraft>] = &[
    key("presence", "", "presence", Set::Bool(|it, is| it.namespace.presence = is)),
    key("join_leave", "", "join_leave", Set::Bool(|it, is| it.namespace.join_leave = is)),
    key(
        "force_push_join_leave",
        "",
        "force_push_join_leave",
        Set::Bool(|it, is| it.namespace.force_push_join_leave = is),
    ),
    not(Text, "map_clients_presence_channel_prefix", ""),
    not(Text, "map_users_presence_channel_prefix", ""),
    key(
        "history_size",
        "",
        "history_size",
        Set::Count(0, 100_000, |it, count| it.namespace.history_size = count as usize),
    ),
    key("history_ttl", "", "history_ttl", Set::Ms(0, YEAR, |it, ms| it.namespace.history_ttl_ms = ms)),
    key(
        "history_meta_ttl",
        "",
        "history_meta_ttl",
        Set::Ms(0, YEAR, |it, ms| it.namespace.history_meta_ttl_ms = (ms > 0).then_some(ms)),
    ),
    key("force_positioning", "", "force_positioning", Set::Bool(|it, is| it.namespace.force_positioning = is)),
    key("allow_positioning", "", "allow_positioning", Set::Bool(|it, is| it.namespace.allow_positioning = is)),
    key("force_recovery", "", "force_recovery", Set::Bool(|it, is| it.namespace.force_recovery = is)),
    key("allow_recovery", "", "allow_recovery", Set::Bool(|it, is| it.namespace.allow_recovery = is)),
    key(
        "force_recovery_mode",
        "",
        "recovery_mode",
        Set::Choice(&["", "stream", "cache"], |it, index| {
            it.namespace.recovery_mode = RECOVERY_MODES[index.saturating_sub(1)]
        }),
    ),
    not(Bool, "auto_cache_recover", ""),
    key(
        "allowed_delta_types",
        "",
        "allow_deltas",
        Set::Texts(|it, types| it.namespace.allow_deltas = types.iter().any(|name| name == "fossil")),
    ),
    key("allow_tags_filter", "", "allow_tags_filter", Set::Bool(|it, is| it.namespace.allow_tags_filter = is)),
    inert(Bool, "delta_publish", "", "what a client asks for as differences is told so, whoever published it"),
    key(
        "allow_subscribe_for_anonymous",
        "",
        "allow_subscribe_for_anonymous",
        Set::Bool(|it, is| it.namespace.allow_subscribe_for_anonymous = is),
    ),
    key(
        "allow_subscribe_for_client",
        "",
        "allow_subscribe_for_client",
        Set::Bool(|it, is| it.namespace.allow_subscribe_for_client = is),
    ),
    key(
        "allow_publish_for_anonymous",
        "",
        "allow_publish_for_anonymous",
        Set::Bool(|it, is| it.namespace.allow_publish_for_anonymous = is),
    ),
    key(
        "allow_publish_for_subscriber",
        "",
        "allow_publish_for_subscriber",
        Set::Bool(|it, is| it.namespace.allow_publish_for_subscriber = is),
    ),
    key(
        "allow_publish_for_client",
        "",
        "allow_publish_for_client",
        Set::Bool(|it, is| it.namespace.allow_publish_for_client = is),
    ),
    key(
        "allow_presence_for_anonymous",
        "",
        "allow_presence_for_anonymous",
        Set::Bool(|it, is| it.namespace.allow_presence_for_anonymous = is),
    ),
    key(
        "allow_presence_for_subscriber",
        "",
        "allow_presence_for_subscriber",
        Set::Bool(|it, is| it.namespace.allow_presence_for_subscriber = is),
    ),
    key(
        "allow_presence_for_client",
        "",
        "allow_presence_for_client",
        Set::Bool(|it, is| it.namespace.allow_presence_for_client = is),
    ),
    key(
        "allow_history_for_anonymous",
        "",
        "allow_history_for_anonymous",
        Set::Bool(|it, is| it.namespace.allow_history_for_anonymous = is),
    ),
    key(
        "allow_history_for_subscriber",
        "",
        "allow_history_for_subscriber",
        Set::Bool(|it, is| it.namespace.allow_history_for_subscriber = is),
    ),
    key(
        "allow_history_for_client",
        "",
        "allow_history_for_client",
        Set::Bool(|it, is| it.namespace.allow_history_for_client = is),
    ),
    key(
        "allow_user_limited_channels",
        "",
        "allow_user_limited_channels",
        Set::Bool(|it, is| it.namespace.allow_user_limited_channels = is),
    ),
    not(Text, "channel_regex", ""),
    key(
        "publication_data_format",
        "",
        "publication_data_format",
        Set::Choice(DATA_FORMAT_NAMES, |it, index| it.namespace.publication_data_format = DATA_FORMATS[index]),
    ),
    key("subscribe_proxy_enabled", "", "subscribe_hook", Set::Bool(|it, is| it.subscribe.enabled = is)),
    key("subscribe_proxy_name", "default", "subscribe_hook", Set::Text(|it, name| it.subscribe.name = name)),
    key("publish_proxy_enabled", "", "publish_hook", Set::Bool(|it, is| it.publish.enabled = is)),
    key("publish_proxy_name", "default", "publish_hook", Set::Text(|it, name| it.publish.name = name)),
    key("sub_refresh_proxy_enabled", "", "sub_refresh_hook", Set::Bool(|it, is| it.sub_refresh.enabled = is)),
    key("sub_refresh_proxy_name", "default", "sub_refresh_hook", Set::Text(|it, name| it.sub_refresh.name = name)),
    not(Bool, "subscribe_stream_proxy_enabled", ""),
    not(Text, "subscribe_stream_proxy_name", "default"),
    not(Bool, "subscribe_stream_proxy_bidirectional", ""),
    not(Text, "subscription_type", "|stream"),
];

const RPC: &[Key<Draft>] = &[key(
    "namespace_boundary",
    ":",
    "hooks.rpc_boundary",
    Set::Text(|draft, text| draft.config.hooks.rpc_boundary = text),
)];

const RPC_NAME: &[Key<RpcDraft>] = &[key("name", "", "hooks.rpc_namespaces", Set::Text(|it, name| it.name = name))];

const RPC_OPTIONS: &[Key<RpcDraft>] = &[
    key("proxy_enabled", "", "hooks.rpc_hook", Set::Bool(|it, is| it.proxy.enabled = is)),
    key("proxy_name", "default", "hooks.rpc_hook", Set::Text(|it, name| it.proxy.name = name)),
];

const HTTP_API: &[Key<Draft>] = &[
    key("disabled", "", "api.enabled", Set::Bool(|draft, is| draft.config.api.enabled = !is)),
    key("handler_prefix", "/api", "paths.api", Set::Text(|draft, path| draft.config.paths.api = path)),
    key("key", "", "api.keys", Set::Text(|draft, text| draft.config.api.keys = secret(text).into_iter().collect())),
    not(Text, "error_mode", ""),
    inert(Bool, "external", "", ONE_PORT),
    key("insecure", "", "api.insecure", Set::Bool(|draft, is| draft.config.api.insecure = Some(is))),
];

const ADMIN: &[Key<Draft>] = &[
    key("enabled", "", "admin.enabled", Set::Bool(|draft, is| draft.config.admin.enabled = Some(is))),
    not(Text, "handler_prefix", ""),
    key("password", "", "admin.password", Set::Text(|draft, text| draft.config.admin.password = secret(text))),
    key("secret", "", "admin.secret", Set::Text(|draft, text| draft.config.admin.secret = secret(text))),
    key("insecure", "", "admin.insecure", Set::Bool(|draft, is| draft.config.admin.insecure = is)),
    not(Text, "web_path", ""),
    not(Text, "web_proxy_address", ""),
    inert(Bool, "external", "", ONE_PORT),
];

const NO_BUFFERS: &str = "a connection has no buffers of its own";

const WEBSOCKET: &[Key<Draft>] = &[
    not(Bool, "disabled", ""),
    key(
        "handler_prefix",
        "/connection/websocket",
        "paths.websocket",
        Set::Text(|draft, path| draft.config.paths.websocket = path),
    ),
    key("compression", "", "compression", Set::Bool(|draft, is| draft.compresses = is)),
    key(
        "compression_min_size",
        "",
        "compression.min_bytes",
        Set::Bytes(0, 16 << 20, |draft, bytes| draft.compression.min_bytes = bytes as usize),
    ),
    inert(Number, "compression_level", "1", "the level is not chosen: a publication is compressed once for all"),
    inert(Number, "read_buffer_size", "", NO_BUFFERS),
    inert(Bool, "use_write_buffer_pool", "", NO_BUFFERS),
    inert(Number, "write_buffer_size", "", NO_BUFFERS),
    key("write_timeout", "1000ms", "write_timeout", Set::Ms(100, HOUR, |draft, ms| draft.config.write_ms_max = ms)),
    key(
        "message_size_limit",
        "65536",
        "message_bytes_max",
        Set::Bytes(256, 16 << 20, |draft, bytes| draft.config.message_bytes_max = bytes as usize),
    ),
    not(Number, "decompressed_message_size_limit", ""),
];

const ONE_SIZE: &str = "a client's message is as large as websocket.message_size_limit says, whatever carries it";

const HTTP_STREAM: &[Key<Draft>] = &[
    key("enabled", "", "http_stream", Set::Bool(|draft, is| draft.config.http_stream = is)),
    key(
        "handler_prefix",
        "/connection/http_stream",
        "paths.http_stream",
        Set::Text(|draft, path| draft.config.paths.http_stream = path),
    ),
    inert(Number, "max_request_body_size", "65536", ONE_SIZE),
];

const SSE: &[Key<Draft>] = &[
    key("enabled", "", "sse", Set::Bool(|draft, is| draft.config.sse = is)),
    key("handler_prefix", "/connection/sse", "paths.sse", Set::Text(|draft, path| draft.config.paths.sse = path)),
    inert(Number, "max_request_body_size", "65536", ONE_SIZE),
];

const EMULATION: &[Key<Draft>] = &[
    key(
        "handler_prefix",
        "/emulation",
        "paths.emulation",
        Set::Text(|draft, path| draft.config.paths.emulation = path),
    ),
    inert(Number, "max_request_body_size", "65536", ONE_SIZE),
];

const HEALTH: &[Key<Door>] = &[
    key("enabled", "", "paths.health", Set::Bool(|door, is| door.enabled = is)),
    key("handler_prefix", "/health", "paths.health", Set::Text(|door, path| door.path = path)),
];

const OWN_FIGURES: &str = "the figures are our own, and always complete";

const PROMETHEUS: &[Key<Door>] = &[
    key("enabled", "", "paths.metrics", Set::Bool(|door, is| door.enabled = is)),
    key("handler_prefix", "/metrics", "paths.metrics", Set::Text(|door, path| door.path = path)),
    inert(Bool, "instrument_http_handlers", "", OWN_FIGURES),
    inert(Bool, "recovered_publications_histogram", "", OWN_FIGURES),
    inert(Bool, "native_histograms", "", OWN_FIGURES),
];

const NODE: &[Key<Draft>] = &[
    key("name", "", "node_name", Set::Text(|draft, name| draft.config.node_name = name)),
    inert(Duration, "info_metrics_aggregate_interval", "60s", OWN_FIGURES),
];

const USAGE_STATS: &[Key<Draft>] = &[inert(Bool, "disabled", "", "nothing is told to anybody")];

const SHUTDOWN: &[Key<Draft>] =
    &[key("timeout", "30s", "shutdown_timeout", Set::Ms(0, HOUR, |draft, ms| draft.config.shutdown_ms_max = ms))];

/// All sections: those that are offered, and those that are not.
pub fn sections() -> impl Iterator<Item = &'static dyn Section> {
    SECTIONS.iter().copied().chain(foreign::SECTIONS.iter().map(|section| section as &dyn Section))
}
