//! Who is muted or banned, and publications that are removed, with the real binary: as the official client sees it, over kills,
//! in the tools and in pages out of the database.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
mod outside;

use std::path::Path;

use chat_rig::frames::Raw;
use chat_rig::{Chat, Folder, KEY, Setup, has_node, offline, until};
use outside::passes;
use serde_json::{Value, json};

const CONFIG: &str = "database.enabled = false\n";

fn start(folder: &Folder, shards: &str, more: &str) -> Chat {
    let setup = Setup::ours(&format!("api_key = \"{KEY}\"\n{more}"));
    Setup { shards, ..setup }.start(folder)
}

fn texts(chat: &Chat, which: &str) -> Vec<String> {
    let answer = chat.call("history", &format!(r#"{{"channel":"room",{which}}}"#));
    let list = answer["result"]["publications"].as_array().unwrap_or_else(|| panic!("{answer}"));
    list.iter().map(|publication| publication["data"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_the_official_client_sees() {
    if !has_node("mutes and bans") {
        return;
    }
    for shards in ["1", "2"] {
        let folder = Folder::new();
        let chat = start(&folder, shards, CONFIG);
        for form in ["json", "protobuf"] {
            passes(Path::new("node"), "moderation.mjs", &[&chat.url(), form, KEY]);
        }
        assert!(chat.figure("annulus_chat_sanctioned_total") > 0.0);
        assert!(chat.figure_with("annulus_chat_closed_total", r#"code="3520""#) > 0.0);
        chat.stop();
    }
}

#[test]
fn what_is_forbidden_and_removed_outlives_kills() {
    let folder = Folder::new();
    let done = json!({"result": {}});
    let chat = start(&folder, "2", CONFIG);
    for text in ["one", "two", "three"] {
        chat.call("publish", &format!(r#"{{"channel":"room","data":"{text}","idempotency_key":"{text}"}}"#));
    }
    assert_eq!(chat.call("ban", r#"{"user":"ann"}"#), done);
    assert_eq!(chat.call("ban", r#"{"user":"bob"}"#), done);
    assert_eq!(chat.call("mute", r#"{"user":"cid","channel":"room","seconds":3600}"#), done);
    assert_eq!(chat.call("unban", r#"{"user":"bob"}"#), done);
    assert_eq!(chat.call("publication_remove", r#"{"channel":"room","offset":2}"#), done);
    chat.kill();
    for shards in ["1", "2"] {
        let chat = start(&folder, shards, CONFIG);
        let all = chat.call("sanctions", "{}")["result"].clone();
        assert_eq!((&all["total"], all["sanctions"].as_array().unwrap().len()), (&json!(2), 2), "{all}");
        let cid = chat.call("sanctions", r#"{"user":"cid"}"#)["result"]["sanctions"][0].clone();
        assert_eq!((&cid["kind"], &cid["channel"]), (&json!("mute"), &json!("room")));
        assert!(cid["expire_at"].as_u64().unwrap() > 1_700_000_000, "{cid}");
        let mut ann = Raw::open(chat.address);
        ann.say(r#"{"id":1,"connect":{"data":{"user":"ann"}}}"#);
        ann.ends_with(3520);
        let mut bob = Raw::connect(chat.address, "bob");
        bob.say(r#"{"id":2,"subscribe":{"channel":"room","recover":true,"offset":1,"epoch":""}}"#);
        let reply: Value = serde_json::from_str(&bob.hear()).unwrap();
        let missed = &reply["subscribe"]["publications"];
        assert_eq!((&reply["subscribe"]["recovered"], missed.as_array().unwrap().len()), (&json!(true), 1), "{reply}");
        assert_eq!(missed[0]["data"], "three");
        let mut cid = Raw::connect(chat.address, "cid");
        cid.say(r#"{"id":2,"publish":{"channel":"room","data":"no"}}"#);
        assert!(cid.hear().contains(r#""code":120"#));
        assert_eq!(texts(&chat, r#""limit":-1"#), ["one", "three"]);
        // Sent again, it does not come back.
        let again = chat.call("publish", r#"{"channel":"room","data":"two","idempotency_key":"two"}"#);
        assert_eq!(again["result"]["offset"], 2, "{again}");
        assert_eq!(texts(&chat, r#""limit":-1"#), ["one", "three"]);
        chat.kill();
        let said = offline("verify-log", &folder.log());
        assert!(said.contains("the log is whole") && said.contains("removed") && said.contains("sanction"), "{said}");
        let lines = offline("export", &folder.log());
        assert!(lines.contains("three") && !lines.contains("two"), "{lines}");
    }
}

#[test]
fn what_is_wrong_with_such_a_call_is_told() {
    let folder = Folder::new();
    let chat = start(&folder, "2", &format!("{CONFIG}[[chat.namespaces]]\nname = \"known\"\n"));
    let code = |method: &str, body: &str| chat.call(method, body)["error"]["code"].as_u64();
    assert_eq!(code("mute", r#"{"user":""}"#), Some(107));
    assert_eq!(code("mute", r#"{"user":"ann","expire_at":5}"#), Some(107), "long over");
    assert_eq!(code("ban", r#"{"user":"ann","channel":"nonesuch:a"}"#), Some(102));
    assert_eq!(code("ban", &format!(r#"{{"user":"{}"}}"#, "x".repeat(256))), Some(107));
    assert_eq!(code("ban", r#"{"user":"ann","session":"s"}"#), Some(108));
    assert_eq!(code("publication_remove", r#"{"channel":"room","offset":0}"#), Some(107));
    assert_eq!(code("publication_remove", r#"{"channel":"room","offset":1}"#), None, "nothing was ever there");
    chat.call("publish", r#"{"channel":"room","data":1}"#);
    assert_eq!(code("publication_remove", r#"{"channel":"room","offset":2}"#), Some(107));
    assert_eq!(code("publication_remove", r#"{"channel":"room","offset":1,"epoch":"zzzz"}"#), Some(112));
    assert_eq!(chat.call("sanctions", "{}"), json!({"result": {"sanctions": []}}), "nothing of that was done");
    let body = r#"{"commands":[{"ban":{"user":"ann","seconds":9}},{"unblock_user":{"user":"ann"}},{"sanctions":{}}]}"#;
    let replies = chat.call("batch", body)["replies"].clone();
    assert_eq!(replies, json!([{"ban": {}}, {"unblock_user": {}}, {"sanctions": {"sanctions": []}}]));
    chat.stop();
}

#[test]
fn what_was_removed_is_not_read_from_the_database_either() {
    let folder = Folder::new();
    let chat = start(&folder, "1", "default.history_size = 2\ndefault.history_from_database = true\n");
    for number in 1..=6 {
        chat.call("publish", &format!(r#"{{"channel":"room","data":"t{number}"}}"#));
    }
    let all = r#""limit":100,"since":{"offset":0,"epoch":""}"#;
    until("the database has what has left memory", || texts(&chat, all).len() == 6);
    for offset in [2, 5] {
        let body = format!(r#"{{"channel":"room","offset":{offset}}}"#);
        assert_eq!(chat.call("publication_remove", &body), json!({"result": {}}));
    }
    until("pages go on over it", || texts(&chat, all) == ["t1", "t3", "t4", "t6"]);
    assert_eq!(texts(&chat, r#""limit":3,"reverse":true"#), ["t6", "t4", "t3"]);
    chat.stop();
}
