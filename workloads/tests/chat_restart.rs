//! A server that is killed and started again, also with another number of shards: official clients find back by themselves
//! and are given exactly what they missed; history, epoch, offsets and idempotency keys are what they were; log and
//! database have every acknowledged publication once.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
mod outside;

use std::path::Path;
use std::process::Command;

use chat_rig::{Chat, Folder, KEY, Script, Setup, has_node, offline, until};
use outside::{clients, has};
use serde_json::Value;

const PUBLICATIONS: u64 = 77;

fn setup(port: u16, shards: &str) -> Setup<'_> {
    Setup { port, shards, ..Setup::ours(&format!("api_key = \"{KEY}\"\n")) }
}

#[test]
fn clients_and_history_outlive_a_kill() {
    if !has_node("clients over a kill of the chat") {
        return;
    }
    for (form, shards, shards_then) in [("json", "1", "2"), ("protobuf", "2", "1"), ("json", "2", "2")] {
        let (folder, channel) = (Folder::new(), "room:of a kill");
        let chat = setup(0, shards).start(&folder);
        let mut script = Script::start(Path::new("node"), "restart.mjs", &[&chat.url(), form, channel, KEY]);
        script.hear("ready");
        let port = chat.address.port();
        chat.kill();
        script.say("crashed");
        let chat = setup(port, shards_then).start(&folder);
        script.say("restarted");
        script.ends_well();
        the_database_has_it(&folder, channel, &chat);
        chat.stop();
        the_log_has_it(&folder, channel);
    }
}

fn the_log_has_it(folder: &Folder, channel: &str) {
    let said = offline("verify-log", &folder.log());
    assert!(!said.contains("damage"), "{said}");
    let lines = offline("export", &folder.log());
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    each_is_there_once(lines.iter().filter(|line| line["channel"] == channel));
}

fn the_database_has_it(folder: &Folder, channel: &str, chat: &Chat) {
    if !has("python3", "the rows of the chat's database") {
        return;
    }
    let file = folder.data().join("chat/database/publications.db");
    let rows = || -> Vec<Value> {
        let read = Command::new("python3").arg(clients().join("stored.py")).arg(&file).arg(channel).output().unwrap();
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        String::from_utf8(read.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert!(chat.figure("annulus_chat_publications_total") > 0.0);
    until("every row is stored", || rows().len() as u64 >= PUBLICATIONS);
    each_is_there_once(rows().iter());
}

/// Offsets from 1, one epoch, and the number that belongs to each offset.
fn each_is_there_once<'v>(lines: impl Iterator<Item = &'v Value>) {
    let lines: Vec<&Value> = lines.collect();
    let offsets: Vec<u64> = lines.iter().map(|line| line["offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, (1..=PUBLICATIONS).collect::<Vec<_>>());
    for line in &lines {
        assert_eq!(line["epoch"], lines[0]["epoch"]);
        assert_eq!(line["data"]["number"].as_u64().unwrap() + 1, line["offset"].as_u64().unwrap());
    }
    assert_eq!((&lines[0]["user"], &lines[70]["user"]), (&Value::from("author"), &Value::from("")));
}

#[test]
fn an_orderly_end_loses_nothing_either() {
    let folder = Folder::new();
    let mut epoch = Value::Null;
    for (start, shards) in ["1", "2", "1"].into_iter().enumerate() {
        let chat = setup(0, shards).start(&folder);
        for count in 0..10u64 {
            let offset = start as u64 * 10 + count + 1;
            let answer = chat.call("publish", &format!(r#"{{"channel":"a","data":{{"number":{offset}}}}}"#));
            assert_eq!(answer["result"]["offset"], offset, "{answer}");
            if epoch.is_null() {
                epoch = answer["result"]["epoch"].clone();
            }
            assert_eq!(answer["result"]["epoch"], epoch);
        }
        chat.stop();
        offline("verify-log", &folder.log());
    }
    let chat = setup(0, "2").start(&folder);
    let history = chat.call("history", r#"{"channel":"a","limit":100}"#);
    let numbers: Vec<u64> = history["result"]["publications"]
        .as_array()
        .unwrap()
        .iter()
        .map(|publication| publication["data"]["number"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (1..=30).collect::<Vec<u64>>());
    // What was forgotten by order stays forgotten, and its offsets are not given out again.
    assert_eq!(chat.call("history_remove", r#"{"channel":"a"}"#)["result"], serde_json::json!({}));
    chat.kill();
    let chat = setup(0, "1").start(&folder);
    let history = &chat.call("history", r#"{"channel":"a","limit":100}"#)["result"];
    assert_eq!((&history["publications"], &history["offset"]), (&serde_json::json!([]), &Value::from(30)), "{history}");
    let answer = chat.call("publish", r#"{"channel":"a","data":{}}"#);
    assert_eq!(answer["result"]["offset"], 31);
    chat.stop();
}

#[test]
fn only_one_service_may_have_a_folder() {
    let folder = Folder::new();
    let chat = setup(0, "1").start(&folder);
    let says = setup(0, "1").refused(&folder);
    assert!(says.contains("log") && says.contains("use"), "{says}");
    chat.call("publish", r#"{"channel":"a","data":1}"#);
    chat.stop();
}
