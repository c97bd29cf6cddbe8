//! `[chat.channels]`, `[chat.default]` and `[[chat.namespaces]]`.

use super::hooks::set_hook;
use super::{DAY, MANY, SECOND, YEAR, key, some};
use crate::chat::config::channels::{Ack, Channels, DataFormat, Namespace, RecoveryMode, Slow};
use crate::chat::config::keys::{Key, Set, expected, members, read_member};
use crate::chat::config::model::{Config, Rate};
use crate::gateway::config::tree::Value;

/// `[chat.channels]`.
pub const CHANNELS: &[Key<Channels>] = &[
    key(
        "private_prefix",
        "\"$\"",
        "what channels start with that need a token; empty: none do",
        Set::Text(|channels, text| channels.private_prefix = text),
    ),
    key(
        "namespace_boundary",
        "\":\"",
        "what ends a namespace; empty, or no `[[chat.namespaces]]` at all: there are none",
        Set::Text(|channels, text| channels.namespace_boundary = text),
    ),
    key(
        "user_boundary",
        "\"#\"",
        "what the users of a user-limited channel come after; empty: there are none",
        Set::Text(|channels, text| channels.user_boundary = text),
    ),
    key(
        "user_separator",
        "\",\"",
        "what parts them; empty: there is one",
        Set::Text(|channels, text| channels.user_separator = text),
    ),
    key(
        "history_meta_ttl",
        "\"720h\"",
        "how long a channel's epoch and offset are kept after its last publication",
        Set::Ms(SECOND, YEAR, |channels, ms| channels.history_meta_ttl_ms = ms),
    ),
];

/// `[[chat.namespaces]]` and `[chat.default]`, without `name`.
pub const NAMESPACE: &[Key<Namespace>] = &[
    key("presence", "true", "it is known who is there", Set::Bool(|it, is| it.presence = is)),
    key(
        "presence_page",
        "1000",
        "clients of a reply to `presence`; beyond: the rest is left out, and counted",
        Set::Count(1, 1_000_000, |it, count| it.presence_page = count as usize),
    ),
    key("join_leave", "true", "clients may be told who comes and goes", Set::Bool(|it, is| it.join_leave = is)),
    key(
        "force_push_join_leave",
        "false",
        "they are told without asking",
        Set::Bool(|it, is| it.force_push_join_leave = is),
    ),
    key(
        "history_size",
        "100",
        "publications kept per channel; 0: none, and no recovery",
        Set::Count(0, 100_000, |it, count| it.history_size = count as usize),
    ),
    key("history_ttl", "\"300s\"", "how long they are kept", Set::Ms(0, YEAR, |it, ms| it.history_ttl_ms = ms)),
    key(
        "history_meta_ttl",
        "as `channels`",
        "how long a channel's epoch and offset are kept after its last publication",
        Set::Ms(0, YEAR, |it, ms| it.history_meta_ttl_ms = (ms > 0).then_some(ms)),
    ),
    key(
        "history_from_database",
        "false",
        "pages of history that reach behind what is kept go on in the database",
        Set::Bool(|it, is| it.history_from_database = is),
    ),
    key(
        "allow_positioning",
        "true",
        "a client may ask to be told of loss",
        Set::Bool(|it, is| it.allow_positioning = is),
    ),
    key("force_positioning", "false", "it is told without asking", Set::Bool(|it, is| it.force_positioning = is)),
    key("allow_recovery", "true", "a client may ask to recover", Set::Bool(|it, is| it.allow_recovery = is)),
    key("force_recovery", "false", "it recovers without asking", Set::Bool(|it, is| it.force_recovery = is)),
    key(
        "allow_deltas",
        "true",
        "a client may ask for publications as their differences from the ones before",
        Set::Bool(|it, is| it.allow_deltas = is),
    ),
    key(
        "allow_tags_filter",
        "true",
        "it may ask for publications with certain tags only",
        Set::Bool(|it, is| it.allow_tags_filter = is),
    ),
    key("recovery_mode", "\"stream\"", "all that was missed, or only the newest", RECOVERY_MODE),
    key(
        "allow_subscribe_for_client",
        "true",
        "clients with a user's name may subscribe without a token",
        Set::Bool(|it, is| it.allow_subscribe_for_client = is),
    ),
    key(
        "allow_subscribe_for_anonymous",
        "false",
        "those without one may",
        Set::Bool(|it, is| it.allow_subscribe_for_anonymous = is),
    ),
    key(
        "allow_publish_for_client",
        "true",
        "clients with a user's name may publish",
        Set::Bool(|it, is| it.allow_publish_for_client = is),
    ),
    key(
        "allow_publish_for_subscriber",
        "false",
        "subscribers may",
        Set::Bool(|it, is| it.allow_publish_for_subscriber = is),
    ),
    key(
        "allow_publish_for_anonymous",
        "false",
        "clients without a user's name may",
        Set::Bool(|it, is| it.allow_publish_for_anonymous = is),
    ),
    key(
        "allow_presence_for_client",
        "true",
        "clients with a user's name may ask who is there",
        Set::Bool(|it, is| it.allow_presence_for_client = is),
    ),
    key(
        "allow_presence_for_subscriber",
        "false",
        "subscribers may",
        Set::Bool(|it, is| it.allow_presence_for_subscriber = is),
    ),
    key(
        "allow_presence_for_anonymous",
        "false",
        "clients without a user's name may",
        Set::Bool(|it, is| it.allow_presence_for_anonymous = is),
    ),
    key(
        "allow_history_for_client",
        "true",
        "clients with a user's name may read history",
        Set::Bool(|it, is| it.allow_history_for_client = is),
    ),
    key(
        "allow_history_for_subscriber",
        "false",
        "subscribers may",
        Set::Bool(|it, is| it.allow_history_for_subscriber = is),
    ),
    key(
        "allow_history_for_anonymous",
        "false",
        "clients without a user's name may",
        Set::Bool(|it, is| it.allow_history_for_anonymous = is),
    ),
    key(
        "allow_user_limited_channels",
        "true",
        "channels may name their users, as `a#42,43`",
        Set::Bool(|it, is| it.allow_user_limited_channels = is),
    ),
    key(
        "publication_data_format",
        "\"any\"",
        "what publications must be; else error 107. `any` is anything but nothing, `binary` also nothing",
        Set::Choice(&["any", "json", "json_object", "binary"], |it, index| {
            it.publication_data_format = DATA_FORMATS[index]
        }),
    ),
    key(
        "subscribe_hook",
        "false",
        "`true`: `hooks.subscribe` is asked; or the name of one of `hooks.named`",
        Set::Value("true, false or text", |it, value| set_hook(&mut it.subscribe_hook, value)),
    ),
    key(
        "publish_hook",
        "false",
        "the same with `hooks.publish`",
        Set::Value("true, false or text", |it, value| set_hook(&mut it.publish_hook, value)),
    ),
    key(
        "sub_refresh_hook",
        "false",
        "the same with `hooks.sub_refresh`",
        Set::Value("true, false or text", |it, value| set_hook(&mut it.sub_refresh_hook, value)),
    ),
    key(
        "ack",
        "\"redis\" with history and a broker, \"wal\" with history and a log, else \"mem\"",
        "when the reply to a publication leaves: in memory, written, on stable storage, taken by the broker's Redis and \
         logged, committed by the database",
        Set::Choice(&["mem", "page", "wal", "redis", "db"], |it, index| it.ack = Some(ACKS[index])),
    ),
    key(
        "idempotency_field",
        "none",
        "where a client's publication has its idempotency key, as `\"id\"` or `\"meta.id\"`",
        Set::Text(|it, path| it.idempotency_field = some(path)),
    ),
    key(
        "idempotency_window",
        "\"5m\"",
        "how long a key is remembered",
        Set::Ms(SECOND, DAY, |it, ms| it.idempotency_window_ms = ms),
    ),
    key(
        "schema",
        "none",
        "file of the JSON Schema that publications must satisfy; else error 107",
        Set::Text(|it, path| it.schema = some(path).map(Into::into)),
    ),
    key("encrypt", "false", "publications are encrypted in log and database", Set::Bool(|it, is| it.encrypt = is)),
    key(
        "slow",
        "\"disconnect\"",
        "what becomes of slow clients, where there is no history: disconnect 3008, or what waits gives way",
        Set::Choice(&["disconnect", "drop_oldest", "keep_latest"], |it, index| it.slow = SLOWS[index]),
    ),
    key(
        "subscriptions_max",
        "0",
        "subscriptions of clients to all of its channels together, on this node; beyond: 106; 0: any number",
        Set::Count(0, MANY, |it, count| it.subscriptions_max = count),
    ),
    key(
        "channels_max",
        "0",
        "channels of it that clients are subscribed to, on this node; beyond: 106; 0: any number",
        Set::Count(0, MANY, |it, count| it.channels_max = count),
    ),
    key(
        "publications_per_second",
        "0",
        "publications of all clients to its channels together, on this node, twice as many at once after a pause; beyond: 111; 0: any number",
        Set::Count(0, MANY, |it, count| it.publications = Rate::of(count as u32)),
    ),
];

/// What recovery brings, in both dialects.
pub const RECOVERY_MODES: [RecoveryMode; 2] = [RecoveryMode::Stream, RecoveryMode::Cache];
const RECOVERY_MODE: Set<Namespace> =
    Set::Choice(&["stream", "cache"], |it, index| it.recovery_mode = RECOVERY_MODES[index]);
/// What publications must be, in the order of both dialects' names.
pub const DATA_FORMATS: [DataFormat; 4] =
    [DataFormat::Any, DataFormat::Json, DataFormat::JsonObject, DataFormat::Binary];
const ACKS: [Ack; 5] = [Ack::Mem, Ack::Page, Ack::Wal, Ack::Redis, Ack::Db];
const SLOWS: [Slow; 3] = [Slow::Disconnect, Slow::DropOldest, Slow::KeepLatest];

/// Reads it.
pub fn set_namespaces(chat: &mut Config, value: &Value) -> Result<(), String> {
    let Value::Array(values) = value else { return expected("tables, as in [[chat.namespaces]]") };
    let mut namespaces = Vec::with_capacity(values.len());
    for node in values {
        let members = members(&node.value)?;
        let name = members.iter().find(|member| member.name == "name").map(|member| &member.value.value);
        let Some(Value::String(name)) = name else { return Err("each needs a name, which is a text".to_owned()) };
        let mut namespace = Namespace { name: name.clone(), ..Namespace::default() };
        for member in members.iter().filter(|member| member.name != "name") {
            read_member(NAMESPACE, &mut namespace, member).map_err(|says| format!("{name}.{says}"))?;
        }
        namespaces.push(namespace);
    }
    chat.channels.namespaces = namespaces;
    Ok(())
}
