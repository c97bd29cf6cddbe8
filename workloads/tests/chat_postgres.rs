//! The service with a real PostgreSQL behind its log: a promise of the database holds at once, an outage of it is noticed
//! by nobody who did not ask for that promise, and nothing is lost or doubled by a crash of either.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
#[path = "chat_postgres/doctor.rs"]
mod doctor;
mod outside;

use std::path::Path;
use std::time::Duration;

use chat_rig::{Chat, Folder, KEY, Setup, has_node, until};
use outside::passes;
use outside::postgres::Postgres;

fn publish(chat: &Chat, channel: &str, number: u64) {
    let answer = chat.call("publish", &format!(r#"{{"channel":"{channel}","data":{{"number":{number}}}}}"#));
    assert_eq!(answer["result"]["offset"], number, "{answer}");
}

/// Offsets of a channel's rows, as the database has them.
fn rows(postgres: &Postgres, channel: &str) -> Vec<u64> {
    let words = format!("SELECT \"offset\" FROM annulus_publications WHERE channel = '{channel}' ORDER BY \"offset\"");
    postgres.sql(&words).lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn a_database_behind_the_log_promises_fails_and_catches_up() {
    let Some(mut postgres) = Postgres::start("the chat with PostgreSQL") else { return };
    let config = format!(
        "api_key = \"{KEY}\"\n[chat.database]\npostgres = \"{}\"\nconnections = 8\n\
         [[chat.namespaces]]\nname = \"db\"\nack = \"db\"\n[[chat.namespaces]]\nname = \"wal\"\nack = \"wal\"\n",
        postgres.url()
    );
    let (folder, setup) = (Folder::new(), |shards| Setup { shards, ..Setup::ours(&config) });
    let chat = setup("2").start(&folder);
    for number in 1..=20 {
        publish(&chat, "db:a", number);
        assert_eq!(rows(&postgres, "db:a").len() as u64, number, "the reply was the database's word");
    }

    postgres.crash();
    for number in 1..=50 {
        publish(&chat, "wal:a", number);
    }
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| publish(&chat, "db:a", 21));
        std::thread::sleep(Duration::from_millis(500));
        assert!(!asking.is_finished(), "there is no database that could have promised it");
        postgres.resume();
        asking.join().unwrap();
    });
    assert_eq!(rows(&postgres, "db:a"), (1..=21).collect::<Vec<_>>());

    chat.kill();
    let chat = setup("1").start(&folder);
    publish(&chat, "wal:a", 51);
    publish(&chat, "db:a", 22);
    until("every row is stored", || rows(&postgres, "wal:a").len() >= 51);
    assert_eq!(rows(&postgres, "wal:a"), (1..=51).collect::<Vec<_>>());
    assert_eq!(rows(&postgres, "db:a"), (1..=22).collect::<Vec<_>>());
    let history = &chat.call("history", r#"{"channel":"wal:a","limit":100}"#)["result"];
    assert_eq!(history["publications"].as_array().unwrap().len(), 51);
    chat.stop();
}

/// Publications in the channels that are read.
const PAST: u64 = 100;
/// Ten publications in memory, all of them in the database; the second namespace's are encrypted there.
const PAST_CONFIG: &str = "[[chat.namespaces]]\nname = \"past\"\nhistory_size = 10\nhistory_from_database = true\n\
                           [[chat.namespaces]]\nname = \"sealed\"\nhistory_size = 10\nhistory_from_database = true\n\
                           encrypt = true\n[chat.encryption]\ncurrent = \"k\"\n[chat.encryption.keys]\n\
                           k = \"env:PAST_KEY\"\n";

fn past(database: &str, shards: &'static str) -> Setup<'static> {
    let config = format!("api_key = \"{KEY}\"\n{database}{PAST_CONFIG}");
    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    Setup { shards, variables: &[("PAST_KEY", HEX)], ..Setup::ours(&config) }
}

fn publish_past(chat: &Chat, channel: &str, number: u64) {
    let body = format!(r#"{{"channel":"{channel}","data":{{"number":{number}}},"tags":{{"n":"{number}"}}}}"#);
    let answer = chat.call("publish", &body);
    assert_eq!(answer["result"]["offset"], number, "{answer}");
}

/// Offsets of a page; or the error's code.
fn page(chat: &Chat, channel: &str, since: u64, limit: i64, reverse: bool) -> Result<Vec<u64>, i64> {
    let body = format!(
        r#"{{"channel":"{channel}","limit":{limit},"reverse":{reverse},"since":{{"offset":{since},"epoch":""}}}}"#
    );
    let answer = chat.call("history", &body);
    match answer["error"]["code"].as_i64() {
        Some(code) => Err(code),
        None => {
            let publications = answer["result"]["publications"].as_array().unwrap();
            for one in publications {
                assert_eq!(one["data"]["number"], one["offset"], "{one}");
            }
            Ok(publications.iter().map(|one| one["offset"].as_u64().unwrap()).collect())
        }
    }
}

/// Reads through all of it with both official clients; removes it; sees that it stays removed over a restart.
fn reads_past_memory(database: &str) {
    if !has_node("pages of history out of the chat's database") {
        return;
    }
    let folder = Folder::new();
    let chat = past(database, "2").start(&folder);
    for channel in ["past:a", "sealed:a"] {
        (1..=PAST).for_each(|number| publish_past(&chat, channel, number));
        for form in ["json", "protobuf"] {
            passes(Path::new("node"), "past.mjs", &[&chat.url(), form, channel, &PAST.to_string()]);
        }
        assert_eq!(page(&chat, channel, 5, -1, false), Ok((6..=PAST).collect()));
        assert_eq!(page(&chat, channel, 95, 20, true), Ok((75..95).rev().collect()));
    }
    let read = chat.figure("annulus_chat_past_pages_total");
    assert!(read > 500.0, "{read}");
    // While more is published nothing is missing and nothing comes twice, wherever the seam is.
    std::thread::scope(|scope| {
        let publishing =
            scope.spawn(|| (PAST + 1..=PAST + 200).for_each(|number| publish_past(&chat, "past:a", number)));
        let mut rounds = 0;
        while !publishing.is_finished() || rounds == 0 {
            let offsets = page(&chat, "past:a", 60, -1, false).unwrap();
            let expected: Vec<u64> = (61..61 + offsets.len() as u64).collect();
            assert_eq!(offsets, expected);
            assert!(offsets.len() >= 40);
            rounds += 1;
        }
    });
    // What was removed does not come back from the database, after a restart neither.
    assert_eq!(chat.call("history_remove", r#"{"channel":"past:a"}"#)["result"], serde_json::json!({}));
    assert_eq!(page(&chat, "past:a", 0, -1, false), Ok(vec![]));
    publish_past(&chat, "past:a", PAST + 201);
    assert_eq!(page(&chat, "past:a", 0, -1, false), Ok(vec![PAST + 201]));
    chat.kill();
    let chat = past(database, "1").start(&folder);
    (PAST + 202..PAST + 230).for_each(|number| publish_past(&chat, "past:a", number));
    assert_eq!(page(&chat, "past:a", 0, -1, false), Ok((PAST + 201..PAST + 230).collect()));
    assert_eq!(page(&chat, "sealed:a", 0, 3, false), Ok(vec![1, 2, 3]));
    chat.stop();
}

#[test]
fn history_goes_on_in_sqlite() {
    reads_past_memory("");
}

#[test]
fn history_goes_on_in_postgresql_and_is_refused_without_it() {
    let Some(mut postgres) = Postgres::start("the chat's history in PostgreSQL") else { return };
    let database = format!("[chat.database]\npostgres = \"{}&connect_timeout=1\"\nconnections = 4\n", postgres.url());
    reads_past_memory(&database);
    let folder = Folder::new();
    let chat = past(&database, "1").start(&folder);
    (1..=30).for_each(|number| publish_past(&chat, "past:b", number));
    assert_eq!(page(&chat, "past:b", 0, -1, false), Ok((1..=30).collect()));
    postgres.crash();
    // Memory has 21 to 30, and what is wanted of it is given; what is older gets a temporary error.
    assert_eq!(page(&chat, "past:b", 20, -1, false), Ok((21..=30).collect()));
    assert_eq!(page(&chat, "past:b", 19, -1, false), Err(100));
    // These leave memory before the database is back. A page may end before them, and never jumps over them.
    (31..=60).for_each(|number| publish_past(&chat, "past:b", number));
    postgres.resume();
    until("all is there", || match page(&chat, "past:b", 5, -1, false) {
        Err(code) => {
            assert_eq!(code, 100);
            false
        }
        Ok(offsets) => {
            assert_eq!(offsets, (6..6 + offsets.len() as u64).collect::<Vec<_>>());
            offsets.len() == 55
        }
    });
    // What the database lost for good is passed over.
    postgres.sql("DELETE FROM annulus_publications WHERE channel = 'past:b' AND \"offset\" BETWEEN 40 AND 55");
    let left: Vec<u64> = (6..40).chain(51..=60).collect();
    assert_eq!(page(&chat, "past:b", 5, -1, false), Ok(left));
    chat.stop();
}
