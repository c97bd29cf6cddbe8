//! `annulus doctor` with real servers: what it says of them, and its exit status.

use std::process::Command;

use crate::chat_rig::Folder;
use crate::outside::postgres::Postgres;
use crate::outside::redis::{Durability, Redis};
use crate::outside::s3::S3Server;

/// Whether all is well, and what it says.
fn doctor(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_annulus")).arg("doctor").args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{text}{}", String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

#[track_caller]
fn says(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn of_postgresql() {
    let Some(postgres) = Postgres::start("the doctor with PostgreSQL") else { return };
    // Its tests run without fsync: that is what has to be changed.
    let url = postgres.url();
    let (is_well, text) = doctor(&["--postgres", &url]);
    assert!(!is_well);
    says(&text, &["kernel interface", "lets us in", "no fsync or full_page_writes is off", "Fix: fsync = on"]);
    postgres.sql("ALTER SYSTEM SET fsync = on");
    postgres.sql("SELECT pg_reload_conf()");
    let (is_well, text) = doctor(&["--postgres", &url]);
    assert!(is_well, "{text}");
    says(
        &text,
        &[
            "yes PostgreSQL 1",
            "yes no TLS, on this machine",
            "yes it takes writes",
            "note synchronous_commit = on and no synchronous standby",
            "connections 0 are in use, and one node wants up to 50",
            "yes tables of the chat's publications: none yet",
        ],
    );
    // Of one who may hardly do anything, with a server that promises little.
    postgres.sql(
        "CREATE ROLE poor LOGIN CONNECTION LIMIT 7; ALTER ROLE poor SET synchronous_commit = off; \
         CREATE TABLE annulus_image_events (a int)",
    );
    let (is_well, text) = doctor(&["--postgres", &url.replace("annulus@", "poor@")]);
    assert!(!is_well);
    says(
        &text,
        &[
            "no synchronous_commit = off",
            "no of 7 connections",
            "Fix: raise max_connections",
            "note tables of the chat's publications: none yet, made when they are needed; this user may not",
            "no there is a table annulus_image_events that annulus did not make",
        ],
    );
    assert!(!text.contains("poor:"), "{text}");
    // One of two takes writes, and the other is not there.
    postgres.sql("DROP TABLE annulus_image_events");
    let two = url.replace("/annulus?", ",127.0.0.1:1/annulus?");
    let (is_well, text) = doctor(&["--postgres", &two]);
    assert!(!is_well);
    says(
        &text,
        &["yes one of them takes writes", "no connecting to postgres://annulus@127.0.0.1:1/annulus", "Fix: start it"],
    );
    // As a service's configuration names it, with as many connections as that wants.
    let folder = Folder::new();
    let file =
        format!("[chat.database]\npostgres = \"{url}\"\nconnections = 500\n[image]\naudit_postgres = \"{url}\"\n");
    let file = folder.file("annulus.toml", &file);
    let (is_well, text) = doctor(&["--config", file.to_str().unwrap()]);
    assert!(!is_well);
    says(
        &text,
        &["for the chat", "one node wants up to 500", "for the account of image jobs", "one node wants up to 1\n"],
    );
    let (is_well, text) = doctor(&["--postgres", "mysql://a@b/c"]);
    assert!(!is_well);
    says(&text, &["a database URL begins with postgres://"]);
}

#[test]
fn of_redis() {
    for (durability, options, is_well_then, lines) in [
        (
            Durability::Always,
            &[][..],
            true,
            &["yes a crash loses nothing that was acknowledged", "yes when its memory is full"][..],
        ),
        (Durability::EverySecond, &[][..], true, &["note a crash loses what was acknowledged in the last second"]),
        (
            Durability::None,
            &["--maxmemory-policy", "allkeys-lru"],
            false,
            &[
                "no a crash loses all that was acknowledged since",
                "Fix: CONFIG SET appendonly yes",
                "maxmemory-policy allkeys-lru",
            ],
        ),
    ] {
        let Some(redis) = Redis::start_with(durability, options) else { return };
        let (is_well, text) = doctor(&["--redis", &redis.url()]);
        assert_eq!(is_well, is_well_then, "{text}");
        says(&text, &["yes it answers", "yes version"]);
        says(&text, lines);
    }
}

#[test]
fn of_a_store() {
    let Some(mut store) = S3Server::start("the doctor with an S3-compatible store") else { return };
    let folder = Folder::new();
    let file = folder.file("annulus.toml", &store.section());
    let config = ["--config", file.to_str().unwrap()];
    let (is_well, text) = doctor(&config);
    assert!(is_well, "{text}");
    says(&text, &["bucket \"photos\" of an S3-compatible store", "yes lets us write, list and remove"]);
    store.crash();
    let (is_well, text) = doctor(&config);
    assert!(!is_well, "{text}");
    says(&text, &["no ", &store.endpoint()]);
}
