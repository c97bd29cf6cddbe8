//! What contradicts itself, and what is probably not meant. Nothing here opens a file or a socket.

use super::channels::{Ack, Channels, Namespace};
use super::events::Events;
use super::hooks::{Event, Hook};
use super::keys::is_name;
use super::model::{Config, Database, Tokens};
use super::secret::Secret;
use crate::chat::hooks::may_go;
use crate::outbound::Endpoint;
use crate::outbound::webhook::KEY_BYTES_MIN;

/// A key in our dialect, with the number of the list's entry where it is in one, and what is wrong.
pub type Contradiction = (String, String);

/// Largest message that the log takes, in bytes: a record has room for it and for names, tags and who it was.
const LOGGED_BYTES_MAX: usize = 1 << 20;
/// Bytes of what all names in the broker begin with.
const PREFIX_BYTES_MAX: usize = 64;
/// Bytes that a log record needs besides the publication, at most.
const RECORD_OVERHEAD_BYTES: u64 = 4096;

impl Config {
    /// Whether everything fits together.
    ///
    /// # Errors
    /// The first thing that does not: its key, and why.
    pub fn check(&self) -> Result<(), String> {
        match self.contradictions().into_iter().next() {
            None => Ok(()),
            Some((key, says)) => Err(format!("chat.{key}: {says}")),
        }
    }

    /// Everything that does not fit together, each with the key that it is about.
    pub fn contradictions(&self) -> Vec<Contradiction> {
        let mut found = Found(Vec::new());
        self.check_sizes(&mut found);
        self.check_doors(&mut found);
        self.check_hooks(&mut found);
        if let Some(events) = &self.events {
            check_events(events, &self.channels, &mut found);
        }
        self.check_storage(&mut found);
        check_tokens("tokens", &self.tokens, &mut found);
        if let Some(tokens) = &self.subscription_tokens {
            check_tokens("subscription_tokens", tokens, &mut found);
        }
        check_names(&self.channels, &mut found);
        self.check_namespace("default", &self.channels.default, &mut found);
        for (index, namespace) in self.channels.namespaces.iter().enumerate() {
            self.check_namespace(&format!("namespaces[{index}]"), namespace, &mut found);
        }
        found.0
    }

    /// What works but is probably not meant, for the log at the start.
    pub fn warnings(&self) -> Vec<String> {
        let mut says = Vec::new();
        let open = !self.listen.ip().is_loopback();
        if open && self.is_insecure() {
            says.push("anybody who reaches this machine comes in without a token and may do everything".to_owned());
        }
        if open && self.api.enabled && self.is_api_open() {
            says.push("anybody who reaches this machine may use the HTTP API".to_owned());
        }
        if self.client.insecure_skip_signature {
            says.push("tokens are believed without their signature: anybody may be anybody".to_owned());
        }
        if !self.is_insecure() && !self.tells_clients_apart() {
            says.push(
                "no client can connect: there is no key for tokens, no connect hook, and nobody comes in without"
                    .into(),
            );
        }
        says
    }

    fn check_sizes(&self, found: &mut Found) {
        if self.outbox_bytes_max < self.message_bytes_max {
            found.add("outbox_bytes_max", "less than one message may have: no client could be sent it".to_owned());
        }
        if self.outbound_bytes_max > 0 && self.outbound_bytes_max < self.outbox_bytes_max {
            found.add("outbound_bytes_max", "less for all clients than for one".to_owned());
        }
        let client = &self.client;
        if client.ping_interval_ms > 0 && client.pong_timeout_ms >= client.ping_interval_ms {
            found.add(
                "client.pong_timeout",
                "the next ping would come before it is over: choose less than the ping interval".to_owned(),
            );
        }
    }

    fn check_doors(&self, found: &mut Found) {
        let paths = &self.paths;
        let all = [
            ("paths.websocket", Some(&paths.websocket)),
            ("paths.http_stream", Some(&paths.http_stream).filter(|_| self.http_stream)),
            ("paths.sse", Some(&paths.sse).filter(|_| self.sse)),
            ("paths.emulation", Some(&paths.emulation).filter(|_| self.has_emulation())),
            ("paths.api", Some(&paths.api)),
            ("paths.health", paths.health.as_ref()),
            ("paths.metrics", paths.metrics.as_ref()),
        ];
        let all: Vec<(&str, &String)> = all.into_iter().filter_map(|(key, path)| Some((key, path?))).collect();
        for (index, (key, path)) in all.iter().enumerate() {
            if !path.starts_with('/') || path.len() < 2 || path.ends_with('/') || path.contains(['?', '#', ' ', '%']) {
                found.add(*key, format!("expected a path such as \"/a/b\", found {path:?}"));
            } else if let Some((other, _)) = all[..index].iter().find(|(_, known)| known == path) {
                found.add(*key, format!("{path:?} is {other} already"));
            }
        }
        let admin = &self.admin;
        if admin.enabled == Some(true) && !admin.insecure && admin.password.is_none() {
            found.add(
                "admin.password",
                "the console is on, and nothing would let anybody in: choose a password".to_owned(),
            );
        }
        if let Some(personal) = &self.client.personal_channel {
            let known = self.channels.all().find(|namespace| namespace.name == personal.namespace);
            match known {
                None => found.add("client.personal_channel", format!("there is no namespace {:?}", personal.namespace)),
                Some(namespace) if personal.single_connection && !namespace.presence => found.add(
                    "client.personal_channel",
                    "single_connection finds older connections by presence, which its namespace does not have"
                        .to_owned(),
                ),
                Some(_) => {}
            }
        }
    }

    fn check_hooks(&self, found: &mut Found) {
        let hooks = &self.hooks;
        let own = [
            ("hooks.connect", &hooks.connect),
            ("hooks.refresh", &hooks.refresh),
            ("hooks.subscribe", &hooks.subscribe),
            ("hooks.publish", &hooks.publish),
            ("hooks.sub_refresh", &hooks.sub_refresh),
            ("hooks.rpc", &hooks.rpc),
        ];
        for (key, hook) in own {
            if let Some(hook) = hook {
                check_hook(key, hook, found);
            }
        }
        for (index, (name, hook)) in hooks.named.iter().enumerate() {
            let key = format!("hooks.named[{index}]");
            if !is_name(name) || name == super::hooks::OWN {
                found.add(
                    &key,
                    format!("{name:?} is no name for a hook: letters, digits, -, _ and dots, and not \"default\""),
                );
            }
            if hooks.named[..index].iter().any(|(known, _)| known == name) {
                found.add(&key, format!("there are two hooks {name:?}"));
            }
            check_hook(&key, hook, found);
        }
        if let Some(name) = hooks.rpc_hook.as_ref().filter(|name| *name != super::hooks::OWN)
            && !hooks.named.iter().any(|(known, _)| known == name)
        {
            found.add("hooks.rpc_hook", format!("there is no hook {name:?}"));
        }
        for (index, namespace) in hooks.rpc_namespaces.iter().enumerate() {
            let key = format!("hooks.rpc_namespaces[{index}]");
            let Some(hook) = &namespace.hook else { continue };
            if !is_name(&namespace.name) {
                found.add(&key, format!("{:?} is no name for a namespace", namespace.name));
            }
            if hooks.rpc_namespaces[..index].iter().any(|known| known.name == namespace.name) {
                found.add(&key, format!("there are two namespaces {:?}", namespace.name));
            }
            let method = format!("{}{}a", namespace.name, hooks.rpc_boundary);
            if !hooks.rpc_boundary.is_empty() && hooks.of_method(&method).is_none() {
                found.add(&key, format!("there is no hook {hook:?}"));
            }
        }
    }

    fn check_storage(&self, found: &mut Found) {
        let log = &self.log;
        if self.database != Database::None && log.directory.is_none() {
            found.add("database", "it is filled from the log, and there is none: choose log.directory".to_owned());
        }
        if let Some(broker) = &self.broker {
            // Braces would mark the part of a key by which a cluster finds its server.
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
            if broker.prefix.is_empty() || broker.prefix.len() > PREFIX_BYTES_MAX || !broker.prefix.bytes().all(fits) {
                found.add(
                    "broker.prefix",
                    format!(
                        "expected 1 to {PREFIX_BYTES_MAX} letters, digits, -, _, . or :, found {:?}",
                        broker.prefix
                    ),
                );
            }
        }
        if log.bytes_max < log.segment_bytes.saturating_mul(4) {
            found.add(
                "log.bytes_max",
                "less than four segments: one is written, one is ready, and others are read".to_owned(),
            );
        }
        if log.directory.is_some() && log.segment_bytes < self.message_bytes_max as u64 + RECORD_OVERHEAD_BYTES {
            found.add("log.segment_bytes", "one message may be larger, and no record is cut in two".to_owned());
        }
        if log.directory.is_some() && self.message_bytes_max > LOGGED_BYTES_MAX {
            let most = LOGGED_BYTES_MAX;
            found.add(
                "message_bytes_max",
                format!("the log takes messages of at most {most} bytes: log.enabled = false"),
            );
        }
        let encryption = &self.encryption;
        for (index, (name, _)) in encryption.keys.iter().enumerate() {
            if !is_name(name) || encryption.keys[..index].iter().any(|(known, _)| known == name) {
                found.add("encryption.keys", format!("{name:?} is no name of its own"));
            }
        }
        match &encryption.current {
            Some(current) if !encryption.keys.iter().any(|(name, _)| name == current) => {
                found.add("encryption.current", format!("there is no key {current:?}"));
            }
            None if !encryption.keys.is_empty() => {
                found.add("encryption.current", "there are keys, and none of them is the current one".to_owned());
            }
            _ => {}
        }
    }

    fn check_namespace(&self, key: &str, namespace: &Namespace, found: &mut Found) {
        let mut add = |name: &str, says: &str| found.add(format!("{key}.{name}"), says.to_owned());
        let has_history = namespace.has_history();
        if (namespace.history_size > 0) != (namespace.history_ttl_ms > 0) && namespace.history_size > 0 {
            add("history_ttl", "history needs a size and a time, and has no time");
        }
        let meta_ttl_ms = namespace.history_meta_ttl_ms.unwrap_or(self.channels.history_meta_ttl_ms);
        if has_history && meta_ttl_ms < namespace.history_ttl_ms {
            add(
                "history_ttl",
                "publications would outlive the offsets that they have: the meta time must not be shorter",
            );
        }
        if (namespace.force_recovery || namespace.force_positioning) && !has_history {
            let forced = if namespace.force_recovery { "force_recovery" } else { "force_positioning" };
            add(forced, "there is no history to recover from");
        }
        match namespace.ack(self) {
            Ack::Page | Ack::Wal if namespace.is_shared(self) => {
                add(
                    "ack",
                    "the broker numbers its publications, so the log cannot promise them: \"redis\", \"db\" or \"mem\"",
                );
            }
            Ack::Redis if self.broker.is_none() => {
                add("ack", "\"redis\" needs a broker, and there is none: choose broker.redis");
            }
            Ack::Page | Ack::Wal if self.log.directory.is_none() => {
                add("ack", "\"page\" and \"wal\" need a log, and there is none: choose log.directory");
            }
            Ack::Db if self.database == Database::None => {
                add("ack", "\"db\" needs a database, and there is none");
            }
            ack if ack != Ack::Mem && !has_history => {
                add("ack", "it promises what history keeps, and there is no history");
            }
            _ => {}
        }
        if namespace.history_from_database {
            match namespace.ack(self) {
                _ if namespace.is_shared(self) && !matches!(self.database, Database::Postgres { .. }) => add(
                    "history_from_database",
                    "nodes that share a history need one database for all that they publish: choose database.postgres, the \
                     same on each",
                ),
                _ if self.database == Database::None => {
                    add("history_from_database", "there is no database to read from: choose chat.database");
                }
                Ack::Mem => add(
                    "history_from_database",
                    "publications without a log never reach the database: history and an ack above \"mem\" are needed",
                ),
                _ => {}
            }
        }
        if namespace.encrypt && self.encryption.current.is_none() {
            add("encrypt", "there is no key to encrypt with: choose encryption.current");
        }
        let events = [
            ("subscribe_hook", &namespace.subscribe_hook, Event::Subscribe),
            ("publish_hook", &namespace.publish_hook, Event::Publish),
            ("sub_refresh_hook", &namespace.sub_refresh_hook, Event::SubRefresh),
        ];
        for (name, hook, event) in events {
            if let Some(hook) = hook
                && self.hooks.of(event, hook).is_none()
            {
                add(name, &format!("there is no hook {hook:?} for it"));
            }
        }
        let is_path = |path: &String| path.split('.').all(|name| !name.is_empty());
        if namespace.idempotency_field.as_ref().is_some_and(|path| !is_path(path)) {
            add("idempotency_field", "expected names with dots between, such as \"meta.id\"");
        }
        if namespace.schema.is_some() && namespace.publication_data_format == super::DataFormat::Binary {
            add("schema", "only JSON has a schema, and this namespace takes any bytes");
        }
    }
}

struct Found(Vec<Contradiction>);

impl Found {
    fn add(&mut self, key: impl Into<String>, says: String) {
        self.0.push((key.into(), says));
    }
}

fn check_hook(key: &str, hook: &Hook, found: &mut Found) {
    let host = hook.endpoint.strip_prefix("http://").or_else(|| hook.endpoint.strip_prefix("https://"));
    if host.is_none_or(|host| host.is_empty() || host.starts_with('/')) {
        let says = match hook.endpoint.split_once("://") {
            Some(("grpc", _)) => "gRPC is not offered: expected an http:// or https:// URL".to_owned(),
            _ => format!("expected an http:// or https:// URL, found {:?}", hook.endpoint),
        };
        found.add(format!("{key}.endpoint"), says);
    }
    if !hook.http_headers.iter().all(|name| is_field(name)) {
        found.add(format!("{key}.http_headers"), "one of them is no header's name".to_owned());
    }
    check_static_headers(key, &hook.static_headers, found);
}

fn check_static_headers(key: &str, headers: &[(String, Secret)], found: &mut Found) {
    let is_value = |value: &str| value.bytes().all(|byte| byte == b'\t' || (b' '..0x7f).contains(&byte));
    if !headers.iter().all(|(name, value)| is_field(name) && is_value(value.reveal())) {
        found.add(format!("{key}.static_headers"), "one of them is no header".to_owned());
    }
}

fn is_field(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':')
}

fn check_events(events: &Events, channels: &Channels, found: &mut Found) {
    match Endpoint::read(&events.endpoint).map(|endpoint| events.reach.check(&endpoint)) {
        Err(says) => found.add("events.endpoint", format!("there is nowhere to send events to: {says}")),
        Ok(Err(says)) => found.add("events.endpoint", says),
        Ok(Ok(())) => {}
    }
    if events.secret.as_ref().is_none_or(|secret| secret.reveal().len() < KEY_BYTES_MIN) {
        found.add(
            "events.secret",
            format!(
                "requests are signed with it, and with a short one anybody could forge them: choose {KEY_BYTES_MIN} bytes or \
                 more, as `openssl rand -hex 32` gives them, and give the backend the same"
            ),
        );
    }
    if events.kinds.is_empty() {
        found.add("events.types", "the backend would be told nothing: name some, or leave the table out".to_owned());
    }
    for name in events.namespaces.iter().flatten() {
        if !channels.all().any(|namespace| namespace.name == *name) {
            found.add(
                "events.namespaces",
                format!("there is no namespace {name:?}: name those of [[chat.namespaces]], and \"\" for channels without one"),
            );
        }
    }
    check_static_headers("events", &events.static_headers, found);
    let is_ours = |name: &str| !may_go(name) || name.starts_with("x-annulus-");
    if let Some((name, _)) = events.static_headers.iter().find(|(name, _)| is_ours(name)) {
        found.add("events.static_headers", format!("{name} is set by the chat itself: leave it out"));
    }
}

fn check_tokens(key: &str, tokens: &Tokens, found: &mut Found) {
    if tokens.jwks_url.is_some() && tokens.jwks_file.is_some() {
        found.add(format!("{key}.jwks_file"), "there is a set of keys at a URL already".to_owned());
    }
    if let Some(url) = &tokens.jwks_url {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            found.add(format!("{key}.jwks_url"), format!("expected an http:// or https:// URL, found {url:?}"));
        } else if url.contains("{{") {
            found.add(format!("{key}.jwks_url"), "a URL that depends on the token is not offered".to_owned());
        }
    }
    if tokens.hmac_previous_secret.is_some() && tokens.hmac_secret.is_none() {
        found.add(
            format!("{key}.hmac_previous_secret"),
            "there is a secret before the present one, but no present one".to_owned(),
        );
    }
    let is_claim = |name: &String| name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if tokens.user_id_claim.as_ref().is_some_and(|name| !is_claim(name)) {
        found.add(format!("{key}.user_id_claim"), "expected letters and underscores".to_owned());
    }
}

fn check_names(channels: &Channels, found: &mut Found) {
    for (index, namespace) in channels.namespaces.iter().enumerate() {
        let (key, name) = (format!("namespaces[{index}].name"), &namespace.name);
        if !is_name(name) || name.len() < 2 {
            found.add(&key, format!("{name:?} is no name for a namespace: two or more letters, digits, -, _ and dots"));
        } else if channels.namespaces[..index].iter().any(|known| known.name == *name) {
            found.add(&key, format!("there are two namespaces {name:?}"));
        } else if !channels.namespace_boundary.is_empty() && name.contains(&channels.namespace_boundary) {
            found.add(&key, format!("{name:?} contains what ends a namespace, so no channel could be in it"));
        }
    }
    let marks = [&channels.private_prefix, &channels.namespace_boundary, &channels.user_boundary];
    for (index, mark) in marks.iter().enumerate() {
        if !mark.is_empty() && marks[..index].contains(mark) {
            found.add("channels", format!("{mark:?} cannot mean two things in a channel's name"));
        }
    }
}
