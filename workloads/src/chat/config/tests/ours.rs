//! Our dialect: what a file says is where it belongs, what is wrong is named, and defaults are as documented.

use std::fmt::Debug;

use toml::de::DeTable;

use crate::chat::config::events::Events;
use crate::chat::config::hooks::Event;
use crate::chat::config::keys::{Dialect, Key};
use crate::chat::config::model::PersonalChannel;
use crate::chat::config::ours::{channels, chat, events, hooks, storage};
use crate::chat::config::{
    Ack, Config, DataFormat, Database, Hook, KeySource, Namespace, Pem, Rate, Rates, RecoveryMode, RpcNamespace,
    Secret, Slow, Tls,
};
use crate::chat::events::Kind;
use crate::gateway::config::report::Report;
use crate::gateway::config::toml as tree_of_toml;
use crate::gateway::config::tree::Value;
use crate::outbound::Reach;

/// Sets every key of a `[chat]` section as `crate::config` does.
fn read(text: &str) -> Result<Config, String> {
    let file = DeTable::parse(text).expect("TOML");
    let mut config = Config::default();
    for (key, value) in file.get_ref() {
        config.set(key.get_ref(), value).map_err(|says| format!("{}: {says}", key.get_ref()))?;
    }
    Ok(config)
}

/// Without the name of this run, which differs each time.
fn plain(config: Config) -> Config {
    Config { uid: String::new(), ..config }
}

#[test]
fn the_keys_that_were_always_there() {
    let config = read(
        "listen = \"[::1]:80\"\ninsecure = false\nallowed_origins = [\"https://a.b\"]\napi_key = \"k\"\n\
         message_bytes_max = 1_000\noutbox_bytes_max = 0x10000\nidle_seconds_max = 5\nhistory_size = 0\n\
         history_seconds = 7\npresence = false\njoin_leave = false\n",
    )
    .unwrap();
    assert_eq!(config.listen, "[::1]:80".parse().unwrap());
    assert_eq!((config.client.insecure, config.api.keys.clone()), (Some(false), vec![Secret::new("k")]));
    assert_eq!((config.message_bytes_max, config.outbox_bytes_max, config.idle_ms_max), (1000, 65_536, 5000));
    assert_eq!(config.allowed_origins, ["https://a.b"]);
    let default = &config.channels.default;
    assert_eq!((default.history_size, default.history_ttl_ms), (0, 7000));
    assert!(!default.presence && !default.join_leave);
    assert!(config.check().is_ok());
}

#[test]
fn a_whole_file_is_where_it_belongs() {
    let config = read(
        r##"
        outbound_bytes_max = "64MiB"
        allowed_origins = ["*"]
        [tls]
        cert = "/etc/cert.pem"
        key = "/etc/key.pem"
        [client]
        ping_interval = "1m"
        pong_timeout = 10
        channel_limit = 9
        user_id_header = "X-User"
        personal_channel = { namespace = "news", single_connection = true }
        [tokens]
        hmac_secret = "hush"
        audience = "chat"
        [subscription_tokens]
        jwks_url = "https://a.b/jwks"
        [default]
        history_size = 3
        [[namespaces]]
        name = "news"
        ack = "db"
        recovery_mode = "cache"
        force_recovery = true
        idempotency_field = "meta.id"
        schema = "news.json"
        encrypt = true
        slow = "keep_latest"
        publication_data_format = "json_object"
        subscribe_hook = true
        publish_hook = "moderation"
        [[namespaces]]
        name = "tick"
        history_size = 0
        history_ttl = 0
        [hooks.subscribe]
        endpoint = "http://127.0.0.1:9000/subscribe"
        timeout = "250ms"
        http_headers = ["X-Real-IP"]
        static_headers = { Authorization = "hush" }
        [hooks.named.moderation]
        endpoint = "https://a.b/moderate"
        [hooks.rpc_namespaces]
        moderation = "moderation"
        closed = false
        [events]
        endpoint = "https://a.b/events"
        secret = "hush, and thirty-two bytes of it"
        types = ["joined", "vacated"]
        namespaces = ["", "news"]
        batch_max = 7
        batch_wait = 0
        timeout = "250ms"
        give_up_after = "1h"
        waiting_max = 9
        allow_private = ["10.1.0.0/16"]
        static_headers = { Authorization = "hush" }
        [api]
        keys = ["a", "b"]
        [compression]
        min_bytes = "1KiB"
        [log]
        directory = "/var/lib/annulus"
        segment_bytes = "32MiB"
        [database]
        postgres = "postgres://u:p@h/d"
        connections = 20
        [encryption]
        current = "k2"
        keys = { k1 = "env:K1", k2 = "file:/etc/k2" }
        [limits]
        commands_per_second = 10
        publishes_burst = 7
        accepts_per_second = 0
        "##,
    )
    .unwrap();
    assert_eq!(config.check(), Ok(()));
    assert_eq!(config.allowed_origins, ["*", "*://*"]);
    assert_eq!(config.tls, Some(Tls { cert: Pem::new("/etc/cert.pem"), key: Pem::new("/etc/key.pem") }));
    assert_eq!((config.client.ping_interval_ms, config.client.pong_timeout_ms), (60_000, 10_000));
    assert_eq!(config.client.user_id_header.as_deref(), Some("x-user"));
    let personal = PersonalChannel { namespace: "news".to_owned(), single_connection: true };
    assert_eq!(config.client.personal_channel, Some(personal));
    assert_eq!(config.subscription_tokens().jwks_url.as_deref(), Some("https://a.b/jwks"));
    assert_eq!(config.channels.default.history_size, 3);
    let news = config.channels.namespace("news:a").unwrap();
    assert_eq!((news.ack(&config), news.slow, news.recovery_mode), (Ack::Db, Slow::KeepLatest, RecoveryMode::Cache));
    assert_eq!((news.publication_data_format, news.encrypt), (DataFormat::JsonObject, true));
    let subscribe = config.hooks.of(Event::Subscribe, news.subscribe_hook.as_deref().unwrap()).unwrap();
    assert_eq!((subscribe.timeout_ms, &subscribe.http_headers[..]), (250, &["x-real-ip".to_owned()][..]));
    let publish = config.hooks.of(Event::Publish, news.publish_hook.as_deref().unwrap()).unwrap();
    assert_eq!(publish.endpoint, "https://a.b/moderate");
    assert_eq!(config.hooks.of_method("moderation:ban"), Some(publish));
    assert_eq!((config.hooks.of_method("closed:a"), config.hooks.of_method("other:a")), (None, None));
    let events = Events {
        endpoint: "https://a.b/events".to_owned(),
        secret: Some(Secret::new("hush, and thirty-two bytes of it")),
        kinds: vec![Kind::Joined, Kind::Vacated],
        namespaces: Some(vec![String::new(), "news".to_owned()]),
        batch_max: 7,
        batch_wait_ms: 0,
        timeout_ms: 250,
        give_up_after_ms: 3_600_000,
        waiting_max: 9,
        reach: Reach::read(None, &["10.1.0.0/16"]).unwrap(),
        static_headers: vec![("authorization".to_owned(), Secret::new("hush"))],
    };
    assert_eq!(config.events, Some(events));
    assert_eq!(config.channels.namespace("tick:a").unwrap().ack(&config), Ack::Mem);
    assert_eq!(config.compression.as_ref().unwrap().min_bytes, 1024);
    let Database::Postgres { connections, batch_rows_max, .. } = &config.database else { panic!("PostgreSQL") };
    assert_eq!((*connections, *batch_rows_max), (20, 500));
    assert_eq!(config.encryption.keys[1], ("k2".to_owned(), KeySource::File("/etc/k2".into())));
    let rates = Rates {
        commands: Rate { per_second: 10, burst: 20 },
        publishes: Rate { per_second: 1000, burst: 7 },
        accepts: Rate::OFF,
        ..Rates::default()
    };
    assert_eq!(config.rates, rates);
    assert!(!format!("{config:?}").contains("hush") && !format!("{config:?}").contains("u:p"), "secrets in {config:?}");
}

#[test]
fn what_is_wrong_is_named() {
    for (text, says) in [
        ("listen = 8000", "listen: expected an address and port such as \"127.0.0.1:8000\""),
        ("lisen = \"x\"", "lisen: there is no key \"lisen\": did you mean \"listen\"?"),
        ("api_key = \"\"", "api_key: an empty key would let anybody in"),
        ("presence = \"yes\"", "presence: expected true or false"),
        ("history_size = -1", "history_size: expected a whole number from 0 to 100000"),
        ("message_bytes_max = \"lots\"", "message_bytes_max: expected 256 to 16777216 bytes, as a number or such as"),
        ("idle_seconds_max = \"2 days\"", "idle_seconds_max: expected a duration such as \"30s\""),
        ("allowed_origins = \"*\"", "allowed_origins: expected a list of texts"),
        ("client = 1", "client: expected a table"),
        ("[client]\nping_intervall = 1", "client: ping_intervall: there is no key \"ping_intervall\": did you mean"),
        ("[client]\npersonal_channel = 1", "client: personal_channel: expected true, false or a table"),
        ("[tls]\ncert = \"a\"", "tls: cert and key belong together"),
        ("namespaces = 1", "namespaces: expected tables, as in [[chat.namespaces]]"),
        ("[[namespaces]]\npresence = true", "namespaces: each needs a name"),
        (
            "[[namespaces]]\nname = \"a\"\nack = \"disk\"",
            "namespaces: a.ack: expected \"mem\", \"page\", \"wal\", \"redis\" or \"db\"",
        ),
        ("[hooks.named.a]\nendpont = \"x\"", "hooks: named: a.endpont: there is no key \"endpont\": did you mean"),
        ("[default]\nsubscribe_hook = \"a b\"", "default: subscribe_hook: expected true, false, or the name"),
        ("[hooks.rpc_namespaces]\na = 1", "hooks: rpc_namespaces: a: expected true, false"),
        ("[database]\nsqlite = \"a\"\npostgres = \"b\"", "database: sqlite and postgres exclude each other"),
        ("[database]\nsqlite = \"a\"\nconnections = 2", "database: connections and batch_rows_max are of postgres"),
        ("[database]\nconnections = 2", "database: connections and batch_rows_max are of postgres"),
        ("[encryption.keys]\na = \"0011\"", "encryption: keys: a: expected \"file:PATH\" or \"env:NAME\""),
        ("[limits]\ncommands_burst = 0", "limits: commands_burst: expected a whole number from 1"),
        ("events = true", "events: expected a table"),
        ("[events]\ntypes = [\"join\"]", "events: types: expected a list of some of connected, disconnected, joined"),
        ("[events]\ntypes = \"left\"", "events: types: expected a list of some of"),
        ("[events]\nbatch_max = 1001", "events: batch_max: expected a whole number from 1 to 1000"),
        ("[events]\nsecrets = \"a\"", "events: secrets: there is no key \"secrets\": did you mean \"secret\"?"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.starts_with(says), "{text:?}: {error}");
    }
}

#[test]
fn what_contradicts_itself_is_found() {
    for (text, says) in [
        ("message_bytes_max = 9000\noutbox_bytes_max = 8000", "chat.outbox_bytes_max: less than one message"),
        ("outbound_bytes_max = 9", "chat.outbound_bytes_max: less for all"),
        ("[client]\nping_interval = 5", "chat.client.pong_timeout: the next ping"),
        ("[paths]\napi = \"api\"", "chat.paths.api: expected a path"),
        ("[paths]\napi = \"/health\"", "chat.paths.health: \"/health\" is paths.api already"),
        ("[admin]\nenabled = true", "chat.admin.password: the console is on"),
        ("[client]\npersonal_channel = { namespace = \"x\" }", "chat.client.personal_channel: there is no namespace"),
        (
            "presence = false\n[client]\npersonal_channel = { single_connection = true }",
            "chat.client.personal_channel: single_connection finds",
        ),
        ("[hooks.connect]\nendpoint = \"grpc://a\"", "chat.hooks.connect.endpoint: gRPC is not offered"),
        ("[hooks.connect]\ntimeout = 1", "chat.hooks.connect.endpoint: expected an http://"),
        ("[hooks.rpc]\nendpoint = \"http://a\"\nhttp_headers = [\"a b\"]", "chat.hooks.rpc.http_headers: one of them"),
        (
            "[hooks.rpc]\nendpoint = \"http://a\"\nstatic_headers = { a = \"b\\nc\" }",
            "chat.hooks.rpc.static_headers: one of them",
        ),
        ("[hooks.named.default]\nendpoint = \"http://a\"", "chat.hooks.named[0]: \"default\" is no name"),
        ("[hooks.rpc_namespaces]\na = \"b\"", "chat.hooks.rpc_namespaces[0]: there is no hook \"b\""),
        ("[hooks]\nrpc_hook = \"b\"", "chat.hooks.rpc_hook: there is no hook \"b\""),
        ("[database]\nsqlite = \"a\"", "chat.database: it is filled from the log"),
        ("[log]\ndirectory = \"a\"\nbytes_max = \"16MiB\"", "chat.log.bytes_max: less than four segments"),
        (
            "message_bytes_max = \"1MiB\"\n[log]\ndirectory = \"a\"\nsegment_bytes = \"1MiB\"",
            "chat.log.segment_bytes: one message",
        ),
        ("[encryption]\ncurrent = \"a\"", "chat.encryption.current: there is no key \"a\""),
        ("[encryption.keys]\na = \"env:A\"", "chat.encryption.current: there are keys"),
        ("[default]\nhistory_ttl = 0", "chat.default.history_ttl: history needs a size and a time"),
        ("[default]\nhistory_ttl = \"721h\"", "chat.default.history_ttl: publications would outlive"),
        ("history_size = 0\n[default]\nforce_recovery = true", "chat.default.force_recovery: there is no history"),
        ("[default]\nack = \"wal\"", "chat.default.ack: \"page\" and \"wal\" need a log"),
        ("[default]\nack = \"db\"", "chat.default.ack: \"db\" needs a database"),
        ("history_size = 0\n[log]\ndirectory = \"a\"\n[default]\nack = \"wal\"", "chat.default.ack: it promises"),
        ("[default]\nencrypt = true", "chat.default.encrypt: there is no key"),
        ("[default]\npublish_hook = true", "chat.default.publish_hook: there is no hook \"default\""),
        ("[default]\nidempotency_field = \"a..b\"", "chat.default.idempotency_field: expected names"),
        (
            "[default]\nschema = \"a\"\npublication_data_format = \"binary\"",
            "chat.default.schema: only JSON has a schema",
        ),
        ("[[namespaces]]\nname = \"a\"", "chat.namespaces[0].name: \"a\" is no name"),
        ("[[namespaces]]\nname = \"aa\"\n[[namespaces]]\nname = \"aa\"", "chat.namespaces[1].name: there are two"),
        (
            "[channels]\nnamespace_boundary = \"-\"\n[[namespaces]]\nname = \"a-b\"",
            "chat.namespaces[0].name: \"a-b\" contains",
        ),
        ("[channels]\nuser_boundary = \":\"", "chat.channels: \":\" cannot mean two things"),
        ("[tokens]\njwks_url = \"a\"", "chat.tokens.jwks_url: expected an http://"),
        ("[tokens]\njwks_url = \"http://a\"\njwks_file = \"b\"", "chat.tokens.jwks_file: there is a set"),
        ("[tokens]\njwks_url = \"http://a/{{b}}\"", "chat.tokens.jwks_url: a URL that depends"),
        ("[tokens]\nhmac_previous_secret = \"a\"", "chat.tokens.hmac_previous_secret: there is a secret before"),
        ("[subscription_tokens]\nuser_id_claim = \"a.b\"", "chat.subscription_tokens.user_id_claim: expected letters"),
        ("[events]", "chat.events.endpoint: there is nowhere to send events to: \"\": it has no scheme"),
        (
            "[events]\nendpoint = \"http://a:x\"",
            "chat.events.endpoint: there is nowhere to send events to: \"http://a:x\": its",
        ),
        ("[events]\nendpoint = \"http://a\"", "chat.events.secret: requests are signed with it"),
        ("[events]\nendpoint = \"http://a\"\nsecret = \"short\"", "chat.events.secret: requests are signed with it"),
        (
            "[events]\nendpoint = \"http://a\"\nsecret = \"0123456789abcdef0123456789abcdef\"\ntypes = []",
            "chat.events.types: the backend would be told nothing",
        ),
        (
            "[events]\nendpoint = \"http://a\"\nsecret = \"0123456789abcdef0123456789abcdef\"\nnamespaces = [\"x\"]",
            "chat.events.namespaces: there is no namespace \"x\"",
        ),
        (
            "[events]\nendpoint = \"http://a\"\nsecret = \"0123456789abcdef0123456789abcdef\"\nstatic_headers = { a = \"\\n\" }",
            "chat.events.static_headers: one of them is no header",
        ),
        (
            "[events]\nendpoint = \"http://a\"\nsecret = \"0123456789abcdef0123456789abcdef\"\nstatic_headers = { Host = \"a\" }",
            "chat.events.static_headers: host is set by the chat itself",
        ),
        (
            "[events]\nendpoint = \"http://a\"\nsecret = \"0123456789abcdef0123456789abcdef\"\n\
             static_headers = { X-Annulus-Signature = \"a\" }",
            "chat.events.static_headers: x-annulus-signature is set",
        ),
    ] {
        let error = read(text).unwrap().check().expect_err(text);
        assert!(error.starts_with(says), "{text:?}: {error}");
    }
    assert_eq!((Config::default().check(), Config::centrifugo().check()), (Ok(()), Ok(())));
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let warnings = |text: &str| read(text).unwrap().warnings().concat();
    assert_eq!(warnings(""), "");
    assert!(warnings("listen = \"0.0.0.0:1\"\ninsecure = true").contains("without a token"));
    assert!(warnings("listen = \"0.0.0.0:1\"").contains("no client can connect"));
    assert_eq!(warnings("listen = \"0.0.0.0:1\"\n[tokens]\nhmac_secret = \"a\""), "");
    assert!(warnings("[client]\ninsecure_skip_signature = true").contains("anybody may be anybody"));
    assert!(warnings("listen = \"0.0.0.0:1\"\n[api]\ninsecure = true").contains("the HTTP API"));
}

#[test]
fn the_api_is_open_only_where_the_chat_is() {
    assert!(Config::default().is_api_open() && Config::default().is_insecure());
    // Behind a proxy on this machine everybody comes from here: keys that are set are meant.
    for closed in ["[tokens]\nhmac_secret = \"a\"", "[client]\nuser_id_header = \"x-user\""] {
        let config = read(closed).unwrap();
        assert!(!config.is_insecure() && !config.is_api_open(), "{closed}");
        assert!(read(&format!("insecure = true\n{closed}")).unwrap().is_insecure(), "{closed}");
    }
    assert!(!read("api_key = \"a\"").unwrap().is_api_open());
    assert!(!read("listen = \"0.0.0.0:1\"").unwrap().is_api_open());
    assert!(read("listen = \"0.0.0.0:1\"\n[api]\ninsecure = true").unwrap().is_api_open());
}

/// The value of a default that is written as TOML; others are words.
fn written(default: &str) -> Option<Value> {
    let mut report = Report::new("a", false);
    let root = tree_of_toml::parse(&format!("it = {default}"), &mut report)?;
    let Value::Object(mut members) = root.value else { return None };
    Some(members.pop()?.value.value)
}

/// Sets every key to its documented default; nothing may change. How many that were.
fn set_defaults<T: Clone + PartialEq + Debug>(keys: &[Key<T>], fresh: &T) -> usize {
    let mut count = 0;
    for key in keys {
        let Some(value) = written(key.default).filter(|_| !key.default.is_empty()) else { continue };
        let mut target = fresh.clone();
        let _ = key
            .set
            .apply(&mut target, &value, key.default, Dialect::Ours)
            .unwrap_or_else(|e| panic!("{}: {e}", key.name));
        assert_eq!(&target, fresh, "the documented default of {}", key.name);
        count += 1;
    }
    count
}

#[test]
fn documented_defaults_are_the_defaults() {
    let config = plain(Config::default());
    let counts = [
        set_defaults(chat::CHAT, &config),
        set_defaults(chat::PATHS, &config.paths),
        set_defaults(chat::CLIENT, &config.client),
        set_defaults(channels::CHANNELS, &config.channels),
        set_defaults(channels::NAMESPACE, &Namespace::default()),
        set_defaults(hooks::HOOKS, &config.hooks),
        set_defaults(hooks::HOOK, &Hook::default()),
        set_defaults(events::EVENTS, &Events::default()),
        set_defaults(chat::API, &config.api),
        set_defaults(chat::ADMIN, &config.admin),
        set_defaults(chat::COMPRESSION, &Default::default()),
        set_defaults(storage::LOG, &config.log),
        set_defaults(storage::ENCRYPTION, &config.encryption),
    ];
    assert!(counts.iter().sum::<usize>() > 90, "{counts:?}");
    let limits = read("[limits]\ncommands_per_second = 1000\npublishes_per_second = 1000\nhandshakes_per_second = 0\n");
    assert_eq!(limits.unwrap().rates, Rates::default());
    let rpc = RpcNamespace { name: "a".to_owned(), hook: None };
    assert_eq!(read("[hooks.rpc_namespaces]\na = false").unwrap().hooks.rpc_namespaces, [rpc]);
}
