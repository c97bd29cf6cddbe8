//! Many clients that come and go at once, against the real binary: whoever watches is told of each in whole lines, presence
//! counts them, and nobody is left behind.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
mod outside;

use std::collections::HashSet;
use std::thread;

use chat_rig::frames::{Frame, Raw};
use chat_rig::{Folder, Setup, until};
use serde_json::{Value, json};

const CROWD: usize = 300;

/// The users of so many comings or goings that are told next, each once.
fn told(watcher: &mut Raw, kind: &str, count: usize) -> HashSet<String> {
    let mut users = HashSet::new();
    while users.len() < count {
        let Ok(Frame { payload, .. }) = watcher.next() else { panic!("the watcher was sent away") };
        for line in String::from_utf8(payload).unwrap().lines() {
            if line == "{}" {
                watcher.say("{}");
                continue;
            }
            let told: Value = serde_json::from_str(line).unwrap();
            let user = told["push"][kind]["info"]["user"].as_str().unwrap_or_else(|| panic!("no {kind}: {line}"));
            assert!(users.insert(user.to_owned()), "{kind} of {user} is told twice");
        }
    }
    users
}

#[test]
fn everybody_is_seen_to_come_and_go() {
    for shards in ["1", "2"] {
        let folder = Folder::new();
        let chat = Setup { shards, ..Setup::ours("") }.start(&folder);
        let mut watcher = Raw::connect(chat.address, "watcher");
        watcher.say(r#"{"id":2,"subscribe":{"channel":"hall","join_leave":true}}"#);
        watcher.hear_of(r#""subscribe":{"#);
        let address = chat.address;
        let crowd: Vec<_> = (0..4)
            .map(|part| {
                thread::spawn(move || {
                    let come = |number: usize| {
                        let mut raw = Raw::open(address);
                        // Both at once, as the JavaScript client does.
                        let user = format!("guest {}", part * CROWD / 4 + number);
                        raw.say(&format!(
                            "{{\"id\":1,\"connect\":{{\"data\":{{\"user\":\"{user}\"}}}}}}\n\
                             {{\"id\":2,\"subscribe\":{{\"channel\":\"hall\"}}}}"
                        ));
                        raw
                    };
                    let mut all: Vec<Raw> = (0..CROWD / 4).map(come).collect();
                    for raw in &mut all {
                        raw.hear_of(r#""subscribe":{"#);
                    }
                    all
                })
            })
            .collect();
        let crowd: Vec<Raw> = crowd.into_iter().flat_map(|part| part.join().unwrap()).collect();
        let stats = || chat.call("presence_stats", r#"{"channel":"hall"}"#)["result"].clone();
        assert_eq!(stats(), json!({ "num_clients": CROWD + 1, "num_users": CROWD + 1 }));
        let present = chat.call("presence", r#"{"channel":"hall"}"#);
        assert_eq!(present["result"]["presence"].as_object().unwrap().len(), CROWD + 1);
        let mut came = told(&mut watcher, "join", CROWD + 1);
        assert!(came.remove("watcher"), "a watcher is told that it came, too");
        drop(crowd);
        until("all are gone", || stats() == json!({ "num_clients": 1, "num_users": 1 }));
        assert_eq!(told(&mut watcher, "leave", CROWD), came);
        assert_eq!(chat.figure("annulus_chat_clients"), 1.0);
        assert_eq!(chat.figure("annulus_chat_subscriptions"), 1.0);
        chat.stop();
    }
}
