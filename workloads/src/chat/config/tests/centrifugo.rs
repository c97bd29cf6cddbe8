//! Centrifugo's dialect: one model from three syntaxes, the environment over the file, every error with its place, and
//! no panic whatever is in the file.

use std::collections::HashSet;
use std::path::Path;

use crate::chat::config::centrifugo::{Offer, sections};
use crate::chat::config::hooks::Event;
use crate::chat::config::{Config, DataFormat, Note, Pem, Problem, Rate, RecoveryMode, Secret, Tls, load_centrifugo};
use crate::gateway::config::tree::quote;

const JSON: &str = r##"{
  "http_server": { "address": "10.0.0.1", "port": "9000", "tls": { "enabled": true, "cert_pem": "/c", "key_pem": "/k" } },
  "log": { "level": "debug" },
  "engine": { "type": "memory", "redis": { "address": "redis:6379" } },
  "client": {
    "allowed_origins": ["https://app.example.com", "https://*.example.org"],
    "token": { "hmac_secret_key": "hush", "issuer": "us", "audience": "them" },
    "subscription_token": { "enabled": true, "jwks_public_endpoint": "https://keys.example.com/set" },
    "ping_interval": "1m30s", "pong_timeout": 10000000000, "connection_rate_limit": 100,
    "subscribe_to_user_personal_channel": { "enabled": true, "personal_channel_namespace": "user" },
    "proxy": { "connect": { "enabled": true, "endpoint": "http://backend:3000/connect", "timeout": "2s",
      "http_headers": ["Cookie"], "http": { "static_headers": { "X-Secret": "${CENTRIFUGO_VAR_SECRET}" } } } }
  },
  "channel": {
    "proxy": { "publish": { "endpoint": "http://backend:3000/publish" } },
    "publication_data_format": "json",
    "without_namespace": { "presence": true, "allow_subscribe_for_client": true },
    "namespaces": [
      { "name": "user", "presence": true, "history_size": 10, "history_ttl": "300s", "force_recovery": true },
      { "name": "chat", "history_size": "1", "history_ttl": "1h", "force_recovery": true, "force_recovery_mode": "cache",
        "publish_proxy_enabled": true, "subscribe_proxy_enabled": true, "subscribe_proxy_name": "gate",
        "publication_data_format": "binary", "subscription_type": "stream" }
    ]
  },
  "rpc": { "namespaces": [ { "name": "user", "proxy_enabled": true, "proxy_name": "gate" } ] },
  "proxies": [ { "name": "gate", "endpoint": "https://gate.example.com", "timeout": "1500ms" } ],
  "http_api": { "key": "api" },
  "admin": { "enabled": true, "password": "pass", "secret": "sec" },
  "prometheus": { "enabled": true },
  "websocket": { "compression": true, "compression_min_size": 200, "write_timeout": "2s" },
  "uni_sse": { "enabled": false, "max_request_body_size": 1 },
  "shutdown": { "timeout": "1m" }
}"##;

const YAML: &str = r##"
http_server: { address: 10.0.0.1, port: 9000, tls: { enabled: yes-it-is, cert_pem: /c, key_pem: /k } }
log: { level: debug }
engine: { type: memory, redis: { address: [ "redis:6379" ] } }
client:
  allowed_origins:
    - https://app.example.com
    - https://*.example.org
  token: { hmac_secret_key: hush, issuer: us, audience: them }
  subscription_token: { enabled: true, jwks_public_endpoint: https://keys.example.com/set }
  ping_interval: 90s
  pong_timeout: 10s
  connection_rate_limit: 100
  subscribe_to_user_personal_channel:
    enabled: true
    personal_channel_namespace: user
  proxy:
    connect:
      enabled: true
      endpoint: http://backend:3000/connect
      timeout: 2s
      http_headers: [Cookie]
      http: { static_headers: [ { key: X-Secret, value: "${CENTRIFUGO_VAR_SECRET}" } ] }
channel:
  proxy: { publish: { endpoint: "http://backend:3000/publish" } }
  publication_data_format: json
  without_namespace: { presence: true, allow_subscribe_for_client: true }
  namespaces:
    - &history { name: user, presence: true, history_size: 10, history_ttl: 5m, force_recovery: true }
    - name: chat
      history_size: 1
      history_ttl: 60m
      force_recovery: true
      force_recovery_mode: cache
      publish_proxy_enabled: true
      subscribe_proxy_enabled: true
      subscribe_proxy_name: gate
      publication_data_format: binary
rpc: { namespaces: [ { name: user, proxy_enabled: true, proxy_name: gate } ] }
proxies:
  - { name: gate, endpoint: https://gate.example.com, timeout: 1.5s }
http_api: { key: api }
admin: { enabled: true, password: pass, secret: sec }
prometheus: { enabled: true }
websocket: { compression: true, compression_min_size: 200, write_timeout: 2s }
shutdown: { timeout: 1m }
"##;

const TOML: &str = r##"
proxies = [{ name = "gate", endpoint = "https://gate.example.com", timeout = "1500ms" }]
[http_server]
address = "10.0.0.1"
port = 9000
tls = { enabled = true, cert_pem = "/c", key_pem = "/k" }
[log]
level = "debug"
[client]
allowed_origins = ["https://app.example.com", "https://*.example.org"]
ping_interval = "90s"
pong_timeout = "10s"
connection_rate_limit = 100
[client.token]
hmac_secret_key = "hush"
issuer = "us"
audience = "them"
[client.subscription_token]
enabled = true
jwks_public_endpoint = "https://keys.example.com/set"
[client.subscribe_to_user_personal_channel]
enabled = true
personal_channel_namespace = "user"
[client.proxy.connect]
enabled = true
endpoint = "http://backend:3000/connect"
timeout = "2s"
http_headers = ["Cookie"]
http.static_headers = { X-Secret = "${CENTRIFUGO_VAR_SECRET}" }
[channel]
publication_data_format = "json"
proxy.publish.endpoint = "http://backend:3000/publish"
[channel.without_namespace]
presence = true
allow_subscribe_for_client = true
[[channel.namespaces]]
name = "user"
presence = true
history_size = 10
history_ttl = "300s"
force_recovery = true
[[channel.namespaces]]
name = "chat"
history_size = 1
history_ttl = "1h"
force_recovery = true
force_recovery_mode = "cache"
publish_proxy_enabled = true
subscribe_proxy_enabled = true
subscribe_proxy_name = "gate"
publication_data_format = "binary"
[[rpc.namespaces]]
name = "user"
proxy_enabled = true
proxy_name = "gate"
[http_api]
key = "api"
[admin]
enabled = true
password = "pass"
secret = "sec"
[prometheus]
enabled = true
[websocket]
compression = true
compression_min_size = 200
write_timeout = "2s"
[shutdown]
timeout = "1m"
"##;

type Loaded = Result<(Config, Vec<Note>), Vec<Problem>>;

fn load_with(file: &str, text: &str, environment: &[(&str, &str)], allow_unsupported: bool) -> Loaded {
    let secret = ("CENTRIFUGO_VAR_SECRET", "s3");
    let environment =
        environment.iter().chain([&secret]).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let loaded = load_centrifugo(Path::new(file), text, environment, allow_unsupported);
    loaded.map(|(config, notes)| (Config { uid: String::new(), ..config }, notes))
}

fn load(file: &str, text: &str) -> Config {
    load_with(file, text, &[], false).unwrap_or_else(|problems| panic!("{file}: {}", said(&problems))).0
}

fn with(environment: &[(&str, &str)]) -> Config {
    load_with("c.json", "{}", environment, false).unwrap_or_else(|problems| panic!("{}", said(&problems))).0
}

fn said(findings: &[Problem]) -> String {
    findings.iter().map(|finding| format!("{finding}\n")).collect()
}

fn problems(text: &str) -> String {
    said(&load_with("c.json", text, &[], false).expect_err(text))
}

#[test]
fn three_syntaxes_give_one_model() {
    let json = load("c.json", JSON);
    assert_eq!(load("c.yaml", &YAML.replace("yes-it-is", "true")), json);
    assert_eq!(load("c.toml", TOML), json);

    assert_eq!(json.listen, "10.0.0.1:9000".parse().unwrap());
    assert_eq!(json.tls, Some(Tls { cert: Pem::new("/c"), key: Pem::new("/k") }));
    assert_eq!(
        (json.tokens.hmac_secret.clone(), json.api.keys.clone()),
        (Some(Secret::new("hush")), vec![Secret::new("api")])
    );
    assert_eq!(json.subscription_tokens().jwks_url.as_deref(), Some("https://keys.example.com/set"));
    assert_eq!((json.client.ping_interval_ms, json.client.pong_timeout_ms), (90_000, 10_000));
    assert_eq!(json.rates.accepts, Rate { per_second: 100, burst: 100 });
    let connect = json.hooks.connect.as_ref().unwrap();
    assert_eq!((connect.timeout_ms, &connect.http_headers[..]), (2000, &["cookie".to_owned()][..]));
    assert_eq!(connect.static_headers, [("X-Secret".to_owned(), Secret::new("s3"))]);
    let chat = json.channels.namespace("chat:1").unwrap();
    assert_eq!((chat.recovery_mode, chat.history_ttl_ms), (RecoveryMode::Cache, 3_600_000));
    assert_eq!(json.hooks.of(Event::Subscribe, chat.subscribe_hook.as_deref().unwrap()).unwrap().timeout_ms, 1500);
    assert_eq!(json.hooks.of_method("user:ban").unwrap().endpoint, "https://gate.example.com");
    assert_eq!(json.hooks.of_method("ban"), None);
    let formats = [&json.channels.default, &json.channels.namespaces[0], chat].map(|it| it.publication_data_format);
    assert_eq!(formats, [DataFormat::Json, DataFormat::Json, DataFormat::Binary]);
    assert_eq!((json.paths.metrics.as_deref(), json.paths.health.as_deref()), (Some("/metrics"), None));
    assert_eq!(
        (json.compression.as_ref().unwrap().min_bytes, json.write_ms_max, json.shutdown_ms_max),
        (200, 2000, 60_000)
    );
}

#[test]
fn nothing_said_is_centrifugos_own_default() {
    let plain = Config { uid: String::new(), ..Config::centrifugo() };
    for (file, text) in [("c.json", "{}"), ("c.toml", ""), ("c.yaml", "client:\n"), ("c.json", " \n")] {
        assert_eq!(load(file, text), plain, "{file}");
    }
    assert!(!plain.is_insecure() && !plain.is_api_open() && plain.allowed_origins.is_empty());
    assert!(!plain.channels.default.allow_subscribe_for_client && !plain.channels.default.has_history());
    assert_eq!(plain.listen, "0.0.0.0:8000".parse().unwrap());
}

#[test]
fn every_documented_default_changes_nothing() {
    let mut variables = Vec::new();
    for section in sections().filter(|section| !section.prefix().contains("[]")) {
        for fact in section.facts().into_iter().filter(|fact| !fact.default.is_empty()) {
            let path = format!("{}.{}", section.prefix(), fact.name);
            let name = format!("CENTRIFUGO_{}", path.trim_start_matches('.').replace('.', "_").to_ascii_uppercase());
            variables.push((name, fact.default.split('|').next_back().unwrap().to_owned()));
        }
    }
    assert!(variables.len() > 170, "{}", variables.len());
    let loaded = load_centrifugo(Path::new("c.json"), "", variables.into_iter(), false);
    let (config, notes) = loaded.unwrap_or_else(|problems| panic!("{}", said(&problems)));
    assert_eq!(Config { uid: String::new(), ..config }, Config { uid: String::new(), ..Config::centrifugo() });
    assert_eq!(notes, []);
}

#[test]
fn the_environment_wins_over_the_file() {
    let environment = [
        ("CENTRIFUGO_CLIENT_TOKEN_HMAC_SECRET_KEY", "other"),
        ("CENTRIFUGO_HTTP_SERVER_PORT", "9001"),
        ("CENTRIFUGO_HTTP_API_KEY", ""),
        ("CENTRIFUGO_CLIENT_ALLOWED_ORIGINS", "https://a.b https://c.d"),
        ("CENTRIFUGO_CHANNEL_WITHOUT_NAMESPACE_HISTORY_SIZE", "7"),
        ("CENTRIFUGO_CHANNEL_WITHOUT_NAMESPACE_HISTORY_TTL", "70s"),
        ("CENTRIFUGO_CHANNEL_NAMESPACES_USER_HISTORY_SIZE", "99"),
        ("CENTRIFUGO_PROXIES_GATE_TIMEOUT", "3s"),
        ("CENTRIFUGO_CLIENT_PROXY_CONNECT_HTTP_STATIC_HEADERS", "{\"A\":\"${CENTRIFUGO_VAR_SECRET}!\"}"),
        ("CENTRIFUGO_SERVICE_HOST", "10.1.1.1"),
        ("CENTRIFUGO_PORT_8000_TCP", "tcp://10.1.1.1:8000"),
        ("PATH", "/bin"),
    ];
    let config = load_with("c.json", JSON, &environment, false).map_err(|it| said(&it)).unwrap().0;
    assert_eq!(config.tokens.hmac_secret, Some(Secret::new("other")));
    assert_eq!((config.listen.port(), config.api.keys.clone()), (9001, vec![Secret::new("api")]));
    assert_eq!(config.allowed_origins, ["https://a.b", "https://c.d"]);
    assert_eq!((config.channels.default.history_size, config.channels.default.history_ttl_ms), (7, 70_000));
    assert_eq!((config.channels.namespaces[0].history_size, config.channels.namespaces[1].history_size), (99, 1));
    assert_eq!(config.hooks.named[0].1.timeout_ms, 3000);
    assert_eq!(config.hooks.connect.unwrap().static_headers, [("A".to_owned(), Secret::new("s3!"))]);
}

#[test]
fn namespaces_come_from_the_environment_too() {
    let json = "[{\"name\":\"news\",\"history_size\":5,\"history_ttl\":\"1m\"}]";
    let config =
        with(&[("CENTRIFUGO_CHANNEL_NAMESPACES", json), ("CENTRIFUGO_CHANNEL_NAMESPACES_NEWS_PRESENCE", "true")]);
    let news = config.channels.namespace("news:a").unwrap();
    assert_eq!((news.history_size, news.presence, config.channels.namespaces.len()), (5, true, 1));
    let names =
        [("CENTRIFUGO_CHANNEL_NAMESPACES", "aa b-c.d"), ("CENTRIFUGO_CHANNEL_NAMESPACES_B_C_D_JOIN_LEAVE", "1")];
    let config = with(&names);
    assert_eq!(config.channels.namespaces.iter().map(|it| it.join_leave).collect::<Vec<_>>(), [false, true]);
    let replaced = load_with("c.json", JSON.trim(), &[("CENTRIFUGO_RPC_NAMESPACES", "[]")], false).unwrap().0;
    assert_eq!((replaced.hooks.rpc_namespaces.len(), replaced.channels.namespaces.len()), (0, 2));
}

#[test]
fn every_error_has_its_place() {
    for (text, says) in [
        ("{", "c.json:1:2: expected a key in double quotes, found the end of the file"),
        ("[]", "c.json:1:1: expected an object, found an empty list"),
        ("{\"a\":1,\"a\":2}", "c.json:1:8: the key \"a\" is here twice"),
        ("{\n \"clent\": {}}", "c.json:2:2: clent: there is no key \"clent\": did you mean \"client\"?"),
        (
            "{\"client\":{\"chanel_limit\":1}}",
            "c.json:1:12: client.chanel_limit: there is no key \"chanel_limit\": did you mean \"channel_limit\"?",
        ),
        (
            "{\"token_hmac_secret_key\":\"a\"}",
            "c.json:1:2: token_hmac_secret_key: there is no key \"token_hmac_secret_key\" here: Centrifugo v6 has it as \"client.token.hmac_secret_key\"",
        ),
        ("{\"client\":1}", "c.json:1:11: client: expected an object, found the number 1"),
        ("{\"proxies\":{}}", "c.json:1:12: proxies: expected a list, found an object"),
        ("{\"client\":{\"insecure\":\"yes\"}}", "c.json:1:23: client.insecure: expected true or false"),
        (
            "{\"client\":{\"channel_limit\":-1}}",
            "c.json:1:28: client.channel_limit: expected a whole number from 1 to 1000000",
        ),
        ("{\"client\":{\"ping_interval\":\"25\"}}", "c.json:1:28: client.ping_interval: expected a duration such as"),
        (
            "{\"client\":{\"ping_interval\":25}}",
            "c.json:1:28: client.ping_interval: a number without a unit is nanoseconds: did you mean \"25s\"",
        ),
        ("{\"client\":{\"allowed_origins\":{}}}", "c.json:1:30: client.allowed_origins: expected a list of texts"),
        ("{\"http_server\":{\"address\":\"host\"}}", "c.json:1:27: http_server.address: expected an IP address"),
        (
            "{\"http_server\":{\"tls\":{\"enabled\":true}}}",
            "c.json:1:34: http_server.tls.enabled: TLS is on, and needs",
        ),
        (
            "{\"map_broker\":{\"type\":\"redis\"}}",
            "c.json:1:23: map_broker.type: the text \"redis\" is not offered. Remove it, or start with --allow-unsupported",
        ),
        (
            "{\"engine\":{\"type\":\"redis\",\"redis\":{\"address\":[\"a:1\",\"b:2\"]}}}",
            "c.json:1:46: engine.redis.address: several Redis servers side by side are not offered",
        ),
        ("{\"uni_sse\":{\"enabled\":true}}", "c.json:1:23: uni_sse.enabled: true is not offered"),
        (
            "{\"channel\":{\"namespaces\":[{\"name\":\"aa\",\"channel_regex\":\"^a\"}]}}",
            "c.json:1:56: channel.namespaces[0].channel_regex: this text is not offered",
        ),
        (
            "{\"channel\":{\"namespaces\":[{\"name\":\"aa\",\"subscription_type\":\"map\"}]}}",
            "c.json:1:60: channel.namespaces[0].subscription_type: the text \"map\" is not offered",
        ),
        ("{\"channel\":{\"namespaces\":[{}]}}", "c.json:1:1: channel.namespaces[0].name: \"\" is no name"),
        (
            "{\"channel\":{\"namespaces\":[{\"name\":\"aa\"},{\"name\":\"aa\"}]}}",
            "c.json:1:49: channel.namespaces[1].name: there are two namespaces",
        ),
        (
            "{\"channel\":{\"without_namespace\":{\"history_size\":1}}}",
            "c.json:1:49: channel.without_namespace.history_ttl: history needs a size and a time",
        ),
        (
            "{\"channel\":{\"without_namespace\":{\"force_recovery\":true}}}",
            "c.json:1:51: channel.without_namespace.force_recovery: there is no history",
        ),
        (
            "{\"channel\":{\"without_namespace\":{\"publish_proxy_enabled\":true}}}",
            "c.json:1:58: channel.without_namespace.publish_proxy_enabled: there is no hook \"default\"",
        ),
        ("{\"client\":{\"pong_timeout\":\"30s\"}}", "c.json:1:27: client.pong_timeout: the next ping would come"),
        (
            "{\"client\":{\"proxy\":{\"connect\":{\"enabled\":true,\"endpoint\":\"grpc://a\"}}}}",
            "c.json:1:58: client.proxy.connect.endpoint: gRPC is not offered",
        ),
        (
            "{\"client\":{\"token\":{\"hmac_previous_secret_key\":\"a\"}}}",
            "c.json:1:48: client.token.hmac_previous_secret_key: there is a secret before",
        ),
        ("{\"admin\":{\"enabled\":true}}", "c.json:1:21: admin.password: the console is on"),
        (
            "{\"rpc\":{\"without_namespace\":{\"proxy_enabled\":true}}}",
            "c.json:1:1: rpc.proxy.endpoint: rpc.without_namespace uses it",
        ),
        (
            "{\"proxies\":[{\"name\":\"aa\",\"endpoint\":\"http://a\",\"http\":{\"static_headers\":{\"a\":\"${CENTRIFUGO_VAR_X}\"}}}]}",
            "c.json:1:73: proxies[0].http.static_headers: there is no variable CENTRIFUGO_VAR_X",
        ),
        (
            "{\"rpc\":{\"proxy\":{\"http\":{\"static_headers\":[{\"key\":\"a\"}]}}}}",
            "c.json:1:43: rpc.proxy.http.static_headers: expected texts by name",
        ),
    ] {
        let said = problems(text);
        assert!(said.contains(says), "{text}\n  {said}  wanted: {says}");
    }
}

#[test]
fn wrong_variables_are_named() {
    for (name, value, says) in [
        (
            "CENTRIFUGO_CLIENT_CHANNEL_LIMITT",
            "1",
            "CENTRIFUGO_CLIENT_CHANNEL_LIMITT: there is no variable \"CENTRIFUGO_CLIENT_CHANNEL_LIMITT\": did you mean \"CENTRIFUGO_CLIENT_CHANNEL_LIMIT\"?",
        ),
        ("CENTRIFUGO_X", "1", "CENTRIFUGO_X: there is no variable CENTRIFUGO_X. Unset it, or call it CENTRIFUGO_VAR_"),
        (
            "CENTRIFUGO_CLIENT_CHANNEL_LIMIT",
            "many",
            "CENTRIFUGO_CLIENT_CHANNEL_LIMIT: client.channel_limit: expected a whole number",
        ),
        (
            "CENTRIFUGO_CHANNEL_NAMESPACES",
            "[{\"nam\":1}]",
            "CENTRIFUGO_CHANNEL_NAMESPACES:1:3: channel.namespaces[0].nam: there is no key \"nam\": did you mean \"name\"?",
        ),
        ("CENTRIFUGO_CHANNEL_NAMESPACES", "[{]", "CENTRIFUGO_CHANNEL_NAMESPACES:1:3: expected a key in double quotes"),
        (
            "CENTRIFUGO_CHANNEL_NAMESPACES_NEWS_PRESENCE",
            "1",
            "CENTRIFUGO_CHANNEL_NAMESPACES_NEWS_PRESENCE: there is no variable",
        ),
        (
            "CENTRIFUGO_MAP_BROKER_TYPE",
            "redis",
            "CENTRIFUGO_MAP_BROKER_TYPE: map_broker.type: the text \"redis\" is not offered",
        ),
    ] {
        let said = said(&load_with("c.json", "", &[(name, value)], false).expect_err(name));
        assert!(said.starts_with(says), "{name}: {said}");
    }
}

#[test]
fn what_is_not_offered_can_be_passed_over() {
    let text = "{\"map_broker\":{\"type\":\"redis\"},\"client\":{\"concurrency\":8},\"http_api\":{\"key\":\"a\"}}";
    let (config, notes) = load_with("c.json", text, &[], true).unwrap();
    assert_eq!(config.api.keys, [Secret::new("a")]);
    let said = said(&notes);
    assert!(
        said.contains("c.json:1:23: map_broker.type: the text \"redis\" is not offered: the rest works without it"),
        "{said}"
    );
    assert!(said.contains("client.concurrency: it has no effect here: a connection's commands"), "{said}");
    // A key that nobody knows is a mistake all the same.
    assert!(load_with("c.json", "{\"enginee\":{}}", &[], true).is_err());
}

#[test]
fn the_redis_of_an_engine_becomes_the_broker() {
    let url = |redis: &str| {
        let text = format!("{{\"engine\":{{\"type\":\"redis\",\"redis\":{redis}}}}}");
        let (config, _) = load_with("c.json", &text, &[], false).unwrap();
        let broker = config.broker.unwrap();
        (broker.redis.reveal().to_owned(), broker.prefix)
    };
    for (redis, expected, prefix) in [
        ("{}", "redis://127.0.0.1:6379", "centrifugo"),
        ("{\"address\":\"redis:6379\",\"prefix\":\"x\"}", "redis://redis:6379", "x"),
        ("{\"address\":\"rediss://a:1\",\"password\":\"p@/\",\"db\":2}", "rediss://:p%40%2F@a:1/2", "centrifugo"),
        ("{\"address\":\"redis://u:p@a:1/3\",\"password\":\"q\",\"db\":2}", "redis://u:p@a:1/3", "centrifugo"),
        ("{\"cluster_address\":[\"a:1\",\"redis://b:2\"],\"user\":\"u\"}", "redis+cluster://u:@a:1,b:2", "centrifugo"),
    ] {
        assert_eq!(url(redis), (expected.to_owned(), prefix.to_owned()), "{redis}");
    }
    let (config, _) = load_with("c.json", "{\"engine\":{\"redis\":{\"prefix\":\"x\"}}}", &[], false).unwrap();
    assert_eq!(config.broker, None, "the engine is in memory");
}

#[test]
fn what_is_switched_off_asks_for_nothing() {
    for text in [
        "{\"grpc_api\":{\"port\":1,\"tls\":{\"cert_pem\":\"a\"}}}",
        "{\"engine\":{\"redis\":{\"address\":\"a:1\",\"tls\":{\"enabled\":true}}}}",
        "{\"broker\":{\"enabled\":false,\"type\":\"nats\",\"nats\":{\"url\":\"a\"}}}",
        "{\"consumers\":[{\"name\":\"a\",\"type\":\"kafka\",\"kafka\":{\"topics\":[\"a\"]}}]}",
        "{\"client\":{\"proxy\":{\"connect\":{\"emulated_headers\":[\"a\"]}}}}",
    ] {
        let loaded = load_with("c.json", text, &[], false);
        assert!(loaded.is_ok(), "{text}: {}", said(&loaded.unwrap_err()));
    }
    let consumers =
        "{\"consumers\":[{\"name\":\"a\",\"enabled\":true,\"type\":\"kafka\",\"kafka\":{\"topics\":[\"a\"]}}]}";
    assert!(problems(consumers).contains("consumers[0].kafka.topics: a list is not offered"));
    let secret = "{\"grpc_api\":{\"enabled\":true,\"key\":\"hush\"}}";
    assert!(problems(secret).contains("grpc_api.key: this text is not offered") && !problems(secret).contains("hush"));
}

#[test]
fn no_path_is_known_twice_and_no_variable_means_two() {
    let (mut paths, mut variables) = (HashSet::new(), HashSet::new());
    let mut offered = 0;
    for section in sections() {
        for fact in section.facts() {
            let path = format!("{}.{}", section.prefix(), fact.name);
            offered += usize::from(fact.offer == Offer::Yes);
            assert!(variables.insert(path.replace('.', "_").to_ascii_uppercase()), "{path}");
            assert!(paths.insert(path.clone()), "{path}");
        }
    }
    // Of 6.9.1, without the four lists themselves.
    assert_eq!((paths.len(), offered > 150), (1090, true), "{offered}");
}

#[test]
fn no_mutation_of_a_file_panics() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below.max(1) as u64) as usize
    };
    let pieces = [
        "{", "}", "[", "]", "\"", ":", ",", "null", "-1", "1e999", "true", "\n", "\\u0000", "name", "[]", "ä", "&a ",
        "*a", "= ",
    ];
    let (mut read, mut refused) = (0, 0);
    for (file, text) in [("c.json", JSON), ("c.yaml", YAML), ("c.toml", TOML)] {
        for _ in 0..200 {
            let mut text: Vec<char> = text.chars().collect();
            for _ in 0..=random(3) {
                let from = random(text.len());
                let to = (from + random(12)).min(text.len());
                let piece = pieces[random(pieces.len())];
                text.splice(from..to, piece.chars());
            }
            let text: String = text.into_iter().collect();
            match load_with(file, &text, &[("CENTRIFUGO_CHANNEL_NAMESPACES", &text)], random(2) == 0) {
                Ok(_) => read += 1,
                Err(problems) => {
                    assert!(!problems.is_empty());
                    refused += 1;
                }
            }
            // Every value of the file as another one.
            let mut quoted = String::new();
            quote(&text, &mut quoted);
            let _ = load_with("c.json", &format!("{{\"client\":{{\"ping_interval\":{quoted}}}}}"), &[], false);
        }
    }
    assert!(refused > 300 && read + refused == 600, "{read} {refused}");
}
