//! The server's HTTP API against the real binary: by the official server SDK for Python (`cent`), as the clients see it that
//! something is done to, and as bytes over HTTP with everything that may be wrong with a request.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
mod openapi;
mod outside;

use std::path::Path;

use chat_rig::frames::Raw;
use chat_rig::{Chat, Folder, KEY, Setup, has_node, python, until};
use openapi::Described;
use outside::{clients, not_run, passes};
use serde_json::{Value, json};

fn start(folder: &Folder, shards: &str) -> Chat {
    let config =
        format!("api_key = \"{KEY}\"\n[[chat.namespaces]]\nname = \"bare\"\nhistory_size = 0\npresence = false\n");
    Setup { shards, ..Setup::ours(&config) }.start(folder)
}

#[test]
fn the_server_sdk() {
    let Some(python) = python("cent (PyPI)") else { return };
    if !clients()
        .join(".venv/lib")
        .read_dir()
        .unwrap()
        .flatten()
        .any(|at| at.path().join("site-packages/cent").exists())
    {
        return not_run("cent (PyPI)", "the environment was made before it was needed: remove .venv, make setup-test");
    }
    for shards in ["1", "2"] {
        let folder = Folder::new();
        let chat = start(&folder, shards);
        passes(&python, "api.py", &[&chat.url(), KEY]);
        chat.stop();
    }
}

#[test]
fn what_live_clients_see_of_it() {
    if !has_node("the chat's HTTP API and live clients") {
        return;
    }
    for shards in ["1", "2"] {
        let folder = Folder::new();
        let chat = start(&folder, shards);
        for form in ["json", "protobuf"] {
            passes(Path::new("node"), "api.mjs", &[&chat.url(), form, KEY]);
        }
        chat.stop();
    }
}

#[test]
fn what_is_wrong_with_a_request_is_told() {
    let folder = Folder::new();
    let chat = start(&folder, "2");
    let with = |key: &str, method: &str, body: &str| {
        chat.ask(&format!("POST /api/{method} HTTP/1.1\r\n{key}Content-Type: application/json"), body)
    };
    let keyed = format!("X-API-Key: {KEY}\r\n");
    let ask = |method: &str, body: &str| with(&keyed, method, body);
    let says = |answer: (u16, String), status: u16, what: &str| {
        assert!(answer.0 == status && answer.1.contains(what), "{status} {what}: {answer:?}");
    };
    says(with("", "info", "{}"), 401, "API key");
    says(with("X-API-Key: a key\r\n", "info", "{}"), 401, "API key");
    says(with(&format!("Authorization: apikey {KEY}\r\n"), "info", "{}"), 200, "nodes");
    let query = KEY.replace(' ', "%20");
    says(with("", &format!("info?api_key={query}"), "{}"), 200, "nodes");
    says(chat.ask(&format!("GET /api/info HTTP/1.1\r\nX-API-Key: {KEY}"), ""), 405, "method");
    says(ask("nothing", "{}"), 404, "no such method");
    says(ask("publish", "{"), 400, "not JSON");
    says(ask("publish", ""), 400, "not JSON");
    says(ask("publish", "[]"), 400, "");
    says(ask("publish", r#"{"channel":1,"data":{}}"#), 400, "channel");
    says(ask("publish", r#"{"channel":"a","data":{}}{"#), 400, "not JSON");
    says(ask("publish", r#"{"channel":"a"}"#), 200, r#""code":107"#);
    says(ask("publish", r#"{"channel":"","data":{}}"#), 200, r#""code":107"#);
    says(ask("publish", r#"{"channel":"nonesuch:a","data":{}}"#), 200, r#""code":102"#);
    says(ask("publish", r#"{"channel":"a","data":{},"version":1}"#), 200, r#""code":108"#);
    says(ask("publish", &format!(r#"{{"channel":"{}","data":{{}}}}"#, "x".repeat(256))), 200, r#""code":107"#);
    says(ask("history", r#"{"channel":"bare:a"}"#), 200, r#""code":108"#);
    says(ask("presence", r#"{"channel":"bare:a"}"#), 200, r#""code":108"#);
    says(ask("presence_stats", r#"{"channel":"bare:a"}"#), 200, r#""code":108"#);
    says(ask("rpc", r#"{"method":"a"}"#), 200, r#""code":104"#);
    says(ask("map_publish", "{}"), 200, r#""code":108"#);
    // Deeper than any reader should have to go.
    let deep = format!(r#"{{"channel":"a","data":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    says(ask("publish", &deep), 400, "not JSON");
    let mode = format!("{keyed}X-Centrifugo-Error-Mode: transport\r\n");
    says(with(&mode, "publish", r#"{"channel":"nonesuch:a","data":{}}"#), 404, r#""code":102"#);
    // None of that has done anything, and the service goes on.
    assert_eq!(chat.call("history", r#"{"channel":"a","limit":10}"#)["result"]["offset"], 0);
    chat.stop();
}

#[test]
fn several_at_once() {
    let folder = Folder::new();
    let chat = start(&folder, "2");
    let answer =
        chat.call("broadcast", r#"{"channels":["a","b","nonesuch:a","bare:a"],"data":{"n":1},"idempotency_key":"k"}"#);
    let responses = answer["result"]["responses"].as_array().unwrap();
    assert_eq!((&responses[0]["result"]["offset"], &responses[1]["result"]["offset"]), (&json!(1), &json!(1)));
    assert_eq!(responses[2]["error"]["code"], 102, "{answer}");
    assert!(responses[3]["result"].is_object(), "{answer}");
    let again = chat.call("broadcast", r#"{"channels":["b","a"],"data":{"n":1},"idempotency_key":"k"}"#);
    assert_eq!(again["result"]["responses"][0], responses[1]);
    for parallel in [false, true] {
        let body = format!(
            r#"{{"parallel":{parallel},"commands":[{{"publish":{{"channel":"a","data":{parallel}}}}},
            {{"history":{{"channel":"nonesuch:a"}}}},{{"info":{{}}}},{{"nothing":{{}}}},{{"channels":{{}}}}]}}"#
        );
        let replies = chat.call("batch", &body)["replies"].clone();
        assert_eq!(replies[0]["publish"]["offset"], 2 + u64::from(parallel), "{replies}");
        assert_eq!(replies[1]["error"]["code"], 102, "{replies}");
        assert_eq!(replies[2]["info"]["nodes"].as_array().unwrap().len(), 1, "{replies}");
        assert!(replies[3]["error"]["code"] == 104 && replies[4]["channels"].is_object(), "{replies}");
    }
    let history = chat.call("history", r#"{"channel":"a","limit":-1}"#)["result"].clone();
    assert_eq!(history["publications"].as_array().unwrap().len(), 3, "{history}");
    // Line breaks inside of what is published: they must not become lines of a client's stream.
    chat.call("publish", "{\"channel\":\"a\",\"data\":{\n\"text\":\r\n\"a\\nb\"\n}}");
    let mut raw = Raw::connect(chat.address, "ann");
    raw.say(r#"{"id":2,"history":{"channel":"a","limit":1,"reverse":true}}"#);
    let reply = raw.hear();
    assert!(!reply.contains('\n') && !reply.contains('\r') && reply.contains(r#""text":"a\nb""#), "{reply}");
    chat.stop();
}

#[test]
fn who_is_subscribed_twice_at_once_is_told_once() {
    let folder = Folder::new();
    let chat = start(&folder, "2");
    let mut racer = Raw::connect(chat.address, "racer");
    for round in 0..200 {
        let channel = format!("race {round}");
        std::thread::scope(|scope| {
            scope.spawn(|| chat.call("subscribe", &format!(r#"{{"user":"racer","channel":"{channel}"}}"#)));
            racer.say(&format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#));
        });
        for text in ["first", "last"] {
            chat.call("publish", &format!(r#"{{"channel":"{channel}","data":"{text}"}}"#));
        }
        // Its own subscription, or the server's and error 105: whichever came first.
        let (mut told, mut firsts) = (String::new(), 0);
        while !told.contains(r#""data":"last""#) {
            told = racer.hear();
            firsts += told.matches(r#""data":"first""#).count();
        }
        assert_eq!((firsts, told.matches(r#""data":"last""#).count()), (1, 1), "{channel}: {told}");
        let stats = chat.call("presence_stats", &format!(r#"{{"channel":"{channel}"}}"#))["result"].clone();
        assert_eq!(stats, json!({"num_clients": 1, "num_users": 1}), "{channel}");
        let unsubscribe = format!(r#"{{"user":"racer","channel":"{channel}"}}"#);
        chat.call("unsubscribe", &unsubscribe);
        racer.hear_of(r#""unsubscribe":{"code":2000"#);
        let stats = chat.call("presence_stats", &format!(r#"{{"channel":"{channel}"}}"#))["result"].clone();
        assert_eq!(stats, json!({"num_clients": 0, "num_users": 0}), "{channel}");
    }
    chat.stop();
}

#[test]
fn a_log_is_complete_when_the_chat_has_ended() {
    let folder = Folder::new();
    let config = format!("api_key = \"{KEY}\"\naccess_log = true\n");
    let mut chat = Setup { shards: "2", ..Setup::ours(&config) }.start(&folder);
    for _ in 0..20 {
        chat.call("info", "{}");
    }
    chat.signal("-TERM");
    assert!(chat.process.wait().unwrap().success());
    // The pipe's reader may not have come to its end yet.
    until("all calls are in the log", || chat.logged().matches(" POST /api/ 200 ").count() == 20);
}

#[test]
fn the_description_for_tools_is_true() {
    let folder = Folder::new();
    let config = format!("api_key = \"{KEY}\"\n[chat.admin]\nenabled = true\npassword = \"change-me-change-me\"\n");
    let chat = Setup::ours(&config).start(&folder);
    let (status, token) = chat.ask("POST /admin/login HTTP/1.1", r#"{"password":"change-me-change-me"}"#);
    assert_eq!(status, 200, "{token}");
    let token = serde_json::from_str::<Value>(&token).unwrap()["token"].as_str().unwrap().to_owned();
    chat.call("publish", r#"{"channel":"room","data":{"text":"the first"},"tags":{"a":"b"}}"#);
    let mut member = Raw::connect(chat.address, "ann");
    member.say(r#"{"id":2,"subscribe":{"channel":"room"}}"#);
    member.hear_of(r#""subscribe""#);
    let api = Described::read("openapi-chat.json");
    let mut methods: Vec<String> = Vec::new();
    for operation in api.operations() {
        let Some(body) = &operation.example else {
            let head = format!("{} {} HTTP/1.1\r\nAuthorization: Bearer {token}", operation.method, operation.path);
            let (status, answer) = chat.ask(&head, "");
            assert_eq!(status, 200, "{}: {answer}", operation.path);
            api.check(&operation, status, answer.as_bytes());
            continue;
        };
        let who = match operation.path.strip_prefix("/api/") {
            Some(method) => {
                methods.push(method.to_owned());
                format!("X-API-Key: {KEY}")
            }
            None => format!("Authorization: Bearer {token}"),
        };
        let head = format!("{} {} HTTP/1.1\r\n{who}", operation.method, operation.path);
        let (status, answer) = chat.ask(&format!("{head}\r\nContent-Type: application/json"), &body.to_string());
        assert!(status == 200 && !answer.starts_with(r#"{"error""#), "{}: {status} {answer}", operation.path);
        api.check(&operation, status, answer.as_bytes());
    }
    // What the guide shows is described, all of it.
    let guide = include_str!("../docs/chat.md").lines().flat_map(|line| line.split("; "));
    let shown: Vec<&str> = guide.filter_map(|call| call.strip_prefix("api ")?.split(' ').next()).collect();
    assert!(shown.len() > 15, "{shown:?}");
    for method in shown {
        assert!(methods.iter().any(|described| described == method), "{method} is in chat.md, and not described");
    }
    chat.stop();
}
