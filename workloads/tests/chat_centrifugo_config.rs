//! An existing Centrifugo v6 deployment's file in front of the real binary: it starts and behaves as the file says, in
//! JSON, YAML and TOML; the environment wins over it; and what it does not understand is refused with the place and the
//! nearest name.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
mod outside;

use std::path::Path;

use chat_rig::{Folder, Setup, has_node};
use outside::passes;

const JSON: &str = r#"{
  "http_server": { "port": "9000" },
  "log": { "level": "debug" },
  "client": {
    "allowed_origins": ["https://*.example.com"],
    "token": { "hmac_secret_key": "a secret of the tests" },
    "ping_interval": "25s",
    "subscribe_to_user_personal_channel": { "enabled": true, "personal_channel_namespace": "personal" }
  },
  "channel": {
    "without_namespace": { "presence": true, "allow_subscribe_for_client": true },
    "namespaces": [
      { "name": "personal" },
      { "name": "chat", "presence": true, "join_leave": true, "force_push_join_leave": true, "history_size": 10,
        "history_ttl": "300s", "force_recovery": true, "allow_subscribe_for_client": true,
        "allow_publish_for_subscriber": true, "allow_history_for_subscriber": true, "allow_presence_for_subscriber": true },
      { "name": "newest", "history_size": 1, "history_ttl": "1h", "force_recovery": true, "force_recovery_mode": "cache",
        "allow_subscribe_for_client": true }
    ]
  },
  "http_api": { "key": "a key of the API" },
  "health": { "enabled": true },
  "prometheus": { "enabled": true }
}"#;

const YAML: &str = r#"
http_server: { port: 9000 }
log: { level: debug }
client:
  allowed_origins: [ "https://*.example.com" ]
  token:
    hmac_secret_key: a secret of the tests
  ping_interval: 25s
  subscribe_to_user_personal_channel: { enabled: true, personal_channel_namespace: personal }
channel:
  without_namespace: { presence: true, allow_subscribe_for_client: true }
  namespaces:
    - name: personal
    - name: chat
      presence: true
      join_leave: true
      force_push_join_leave: true
      history_size: 10
      history_ttl: 300s
      force_recovery: true
      allow_subscribe_for_client: true
      allow_publish_for_subscriber: true
      allow_history_for_subscriber: true
      allow_presence_for_subscriber: true
    - name: newest
      history_size: 1
      history_ttl: 1h
      force_recovery: true
      force_recovery_mode: cache
      allow_subscribe_for_client: true
http_api: { key: a key of the API }
health: { enabled: true }
prometheus: { enabled: true }
"#;

const TOML: &str = r#"
[http_server]
port = 9000
[log]
level = "debug"
[client]
allowed_origins = ["https://*.example.com"]
ping_interval = "25s"
token.hmac_secret_key = "a secret of the tests"
subscribe_to_user_personal_channel = { enabled = true, personal_channel_namespace = "personal" }
[channel.without_namespace]
presence = true
allow_subscribe_for_client = true
[[channel.namespaces]]
name = "personal"
[[channel.namespaces]]
name = "chat"
presence = true
join_leave = true
force_push_join_leave = true
history_size = 10
history_ttl = "300s"
force_recovery = true
allow_subscribe_for_client = true
allow_publish_for_subscriber = true
allow_history_for_subscriber = true
allow_presence_for_subscriber = true
[[channel.namespaces]]
name = "newest"
history_size = 1
history_ttl = "1h"
force_recovery = true
force_recovery_mode = "cache"
allow_subscribe_for_client = true
[http_api]
key = "a key of the API"
[health]
enabled = true
[prometheus]
enabled = true
"#;

#[test]
fn a_deployment_behaves_as_its_file_says() {
    if !has_node("a Centrifugo deployment's file") {
        return;
    }
    for (name, text, form) in
        [("config.json", JSON, "json"), ("config.yaml", YAML, "protobuf"), ("config.toml", TOML, "json")]
    {
        let folder = Folder::new();
        let chat = Setup { shards: "2", ..Setup::file(name, text.to_owned()) }.start(&folder);
        passes(Path::new("node"), "deployment.mjs", &[&chat.url(), form, "a secret of the tests"]);
        assert_eq!(chat.ask("GET /health HTTP/1.1", "").0, 200);
        assert!(chat.figure("annulus_chat_publications_total") > 0.0);
        chat.stop();
    }
}

#[test]
fn the_environment_wins() {
    if !has_node("a Centrifugo deployment's environment") {
        return;
    }
    let folder = Folder::new();
    let variables = [
        ("CENTRIFUGO_CLIENT_TOKEN_HMAC_SECRET_KEY", "another secret"),
        ("CENTRIFUGO_HEALTH_ENABLED", "false"),
        ("CENTRIFUGO_CHANNEL_WITHOUT_NAMESPACE_PRESENCE", "true"),
    ];
    let chat = Setup { variables: &variables, ..Setup::file("config.json", JSON.to_owned()) }.start(&folder);
    passes(Path::new("node"), "deployment.mjs", &[&chat.url(), "json", "another secret"]);
    assert_eq!(chat.ask("GET /health HTTP/1.1", "").0, 404);
    chat.stop();
    let misspelt = [("CENTRIFUGO_CLIENT_TOKEN_HMAC_SECRET", "x")];
    let says = Setup { variables: &misspelt, ..Setup::file("config.json", JSON.to_owned()) }.refused(&folder);
    assert!(says.contains("CENTRIFUGO_CLIENT_TOKEN_HMAC_SECRET"), "{says}");
}

#[test]
fn what_is_not_understood_is_refused() {
    let folder = Folder::new();
    let refused = |name: &'static str, text: &str, says: &[&str]| {
        let said = Setup::file(name, text.to_owned()).refused(&folder);
        for what in says {
            assert!(said.contains(what), "expected {what:?} in: {said}");
        }
    };
    let line = |text: &str, what: &str| text.lines().position(|line| line.contains(what)).unwrap() + 1;
    for (name, text) in [("config.json", JSON), ("config.yaml", YAML), ("config.toml", TOML)] {
        let bad = text.replace("history_size", "histroy_size");
        let at = format!(":{}:", line(&bad, "histroy_size"));
        refused(name, &bad, &["histroy_size", r#"did you mean "history_size"?"#, &at]);
        let bad = text.replace("300s", "300 sec");
        let at = format!(":{}:", line(&bad, "300 sec"));
        refused(name, &bad, &["history_ttl", &at]);
    }
    // Known, and not offered: refused, unless it is at its default or that is accepted.
    let redis = JSON.replace(r#""log":"#, r#""map_broker": { "type": "redis" }, "log":"#);
    refused("config.json", &redis, &["map_broker.type", "--allow-unsupported"]);
    let chat = Setup { options: &["--allow-unsupported"], ..Setup::file("config.json", redis) }.start(&folder);
    assert!(chat.logged().contains("map_broker.type"), "{}", chat.logged());
    chat.stop();
    let memory =
        JSON.replace(r#""log":"#, r#""engine": { "type": "memory" }, "uni_sse": { "enabled": false }, "log":"#);
    Setup::file("config.json", memory).start(&folder).stop();
    refused("config.json", "{", &["config.json:1"]);
    // Ours is as strict.
    refused("annulus.toml", "[chat]\nallowed_orgins = []\n", &["allowed_orgins", "allowed_origins", "2"]);
}
