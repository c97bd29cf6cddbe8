//! The service with a real PostgreSQL behind its log: a promise of the database holds at once, an outage of it is noticed
//! by nobody who did not ask for that promise, and nothing is lost or doubled by a crash of either.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
mod outside;

use std::time::Duration;

use chat_rig::{Chat, Folder, KEY, Setup, until};
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
