//! PostgreSQL gone, slow, locked, forbidding, or refusing single rows: rows wait in the log, nothing is lost, and memory
//! stays bounded.

use std::process::{Child, Command};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use annulus::chat::store::PostgresSettings;

use crate::outside::postgres::Postgres;
use crate::proxy::Proxy;
use crate::rig::{Feeding, Folder, MemoryLog, Message, ROW_BYTES, check, message, settings, until};

const GROUP: &str = "the chat's feed to PostgreSQL, disturbed";
const CHANNELS: u64 = 13;

fn now_ms() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64
}

#[test]
fn a_server_that_is_gone_for_a_while_costs_time_only() {
    let Some(mut postgres) = Postgres::start(GROUP) else { return };
    let (folder, log) = (Folder::new(), MemoryLog::default());
    let settings = settings(&folder.0, &postgres.url());
    let limit = settings.buffer_bytes as u64;
    let feeding = Feeding::start(settings, &log);
    let mut number = 0;
    let mut publish = |rows: u64| {
        (number..number + rows).for_each(|number| log.push(message(number, CHANNELS)));
        number += rows;
    };
    publish(5000);
    feeding.settle(&log);
    for _ in 0..2 {
        publish(500);
        postgres.crash();
        // More than the buffer holds.
        publish(15_000);
        until("the trouble is told", || feeding.state.last_error().is_some());
        until("the lag is seen", || feeding.state.lag_ms(now_ms()) >= 500);
        assert!(feeding.state.lag_bytes() > 10_000 * ROW_BYTES);
        assert!(feeding.told.load(Ordering::SeqCst) < log.mark.durable());
        postgres.resume();
        feeding.settle(&log);
        until("it is well again", || feeding.state.last_error().is_none() && feeding.state.lag_ms(now_ms()) == 0);
    }
    // Beyond the limit: one chunk of the log, and what the statements of the last batches add.
    let peak = feeding.state.buffered_bytes_peak.load(Ordering::Relaxed);
    assert!(peak > limit / 2 && peak < limit + (1 << 20), "{peak}");
    assert!(feeding.state.retries.load(Ordering::Relaxed) > 0);
    feeding.stop();
    check(&postgres, log.len(), CHANNELS);
}

#[test]
fn a_slow_server_behind_cut_connections_gets_all_rows() {
    let Some(postgres) = Postgres::start(GROUP) else { return };
    let proxy = Proxy::start(postgres.port, 10..200);
    let (folder, log) = (Folder::new(), MemoryLog::of(20_000, CHANNELS));
    let feeding = Feeding::start(
        settings(&folder.0, &postgres.url().replace(&postgres.port.to_string(), &proxy.port.to_string())),
        &log,
    );
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(150));
        proxy.cut();
    }
    feeding.settle(&log);
    assert!(feeding.state.buffered_bytes_peak.load(Ordering::Relaxed) < 2 << 20);
    feeding.stop();
    check(&postgres, log.len(), CHANNELS);
}

#[test]
fn rows_that_the_server_refuses_are_bisected_out() {
    let Some(postgres) = Postgres::start(GROUP) else { return };
    let (folder, log) = (Folder::new(), MemoryLog::of(1000, CHANNELS));
    let zero = |number: u64| Message { user: "\0".to_owned(), offset: 1_000_000 + number, ..message(number, CHANNELS) };
    log.push(zero(1));
    (1000..1500).for_each(|number| log.push(message(number, CHANNELS)));
    log.push(zero(2));
    log.push(Message { offset: u64::MAX, ..message(3, CHANNELS) });
    (1500..2000).for_each(|number| log.push(message(number, CHANNELS)));
    let feeding = Feeding::start(settings(&folder.0, &postgres.url()), &log);
    feeding.settle(&log);
    // A rule of the table's owner refuses, too.
    postgres.sql("ALTER TABLE annulus_publications ADD CHECK (\"user\" <> 'banned')");
    log.push(Message { user: "banned".to_owned(), offset: 2_000_000, ..message(4, CHANNELS) });
    (2000..2100).for_each(|number| log.push(message(number, CHANNELS)));
    feeding.settle(&log);
    assert_eq!(feeding.state.dead_letters.load(Ordering::Relaxed), 4);
    assert_eq!(feeding.rows(), 2100);
    feeding.stop();
    check(&postgres, 2100, CHANNELS);
    let letters = std::fs::read_to_string(folder.0.join("dead-letters.jsonl")).unwrap();
    assert_eq!(letters.lines().count(), 4, "{letters}");
    for known in ["SQLSTATE 22021", "SQLSTATE 23514", r#""user":"\u0000""#, r#""user":"banned""#, "it cannot be sent"] {
        assert!(letters.contains(known), "{known}: {letters}");
    }
}

#[test]
fn a_database_that_refuses_everything_stops_the_feed_at_the_files_limit() {
    let Some(postgres) = Postgres::start(GROUP) else { return };
    let (folder, log) = (Folder::new(), MemoryLog::of(1, 1));
    let settings = PostgresSettings { dead_bytes_max: 2000, ..settings(&folder.0, &postgres.url()) };
    let feeding = Feeding::start(settings, &log);
    feeding.settle(&log);
    postgres.sql("ALTER TABLE annulus_publications ADD CHECK (\"offset\" = 1)");
    (1..100).for_each(|number| log.push(message(number, 1)));
    until("it stops", || feeding.state.last_error().is_some_and(|error| error.contains("move it away")));
    assert!(std::fs::metadata(folder.0.join("dead-letters.jsonl")).unwrap().len() <= 2000);
    let stuck = feeding.told.load(Ordering::SeqCst);
    assert!(stuck < log.mark.durable());
    postgres.sql("ALTER TABLE annulus_publications DROP CONSTRAINT annulus_publications_offset_check");
    std::fs::rename(folder.0.join("dead-letters.jsonl"), folder.0.join("looked-at")).unwrap();
    feeding.settle(&log);
    let dead = feeding.state.dead_letters.load(Ordering::Relaxed);
    assert_eq!(dead + feeding.rows(), 100);
    feeding.stop();
}

/// Somebody's session that holds a lock, ended with the test.
struct Locker(Child);

impl Drop for Locker {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn statements_that_wait_for_a_lock_are_cancelled_and_do_not_pile_up() {
    let Some(postgres) = Postgres::start(GROUP) else { return };
    let (folder, log) = (Folder::new(), MemoryLog::of(100, CHANNELS));
    let url = postgres.url() + "&connect_timeout=1";
    let settings = PostgresSettings { answer_max: Duration::from_millis(300), ..settings(&folder.0, &url) };
    let feeding = Feeding::start(settings, &log);
    feeding.settle(&log);
    let lock = "BEGIN; LOCK TABLE annulus_publications; SELECT pg_sleep(5); COMMIT";
    let host = postgres.folder().to_str().unwrap();
    let words = ["-X", "-q", "-h", host, "-p", &postgres.port.to_string(), "-U", "annulus", "-c", lock];
    let locker = Locker(Command::new("psql").args(words).stdout(std::process::Stdio::null()).spawn().unwrap());
    let locked = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = \
                  'annulus_publications'::regclass";
    until("it is locked", || postgres.sql(locked) == "1");
    (100..2000).for_each(|number| log.push(message(number, CHANNELS)));
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'INSERT%' AND state = 'active'";
    let (mut most, until_then) = (0, Instant::now() + Duration::from_millis(3500));
    while Instant::now() < until_then {
        most = most.max(postgres.sql(waiting).parse::<u32>().unwrap());
    }
    // Five lanes; a cancelled one may not have ended when its successor begins.
    assert!((1..=10).contains(&most), "{most}");
    // Two lanes at least have channels; each gives up a statement, and then a session that cannot look at the table.
    assert!(feeding.state.retries.load(Ordering::Relaxed) >= 4);
    feeding.settle(&log);
    drop(locker);
    feeding.stop();
    check(&postgres, 2000, CHANNELS);
}

#[test]
fn a_lost_table_and_a_missing_right_are_told_and_mended() {
    let Some(postgres) = Postgres::start(GROUP) else { return };
    postgres.sql("CREATE ROLE chat LOGIN");
    let (folder, log) = (Folder::new(), MemoryLog::of(100, CHANNELS));
    let feeding = Feeding::start(settings(&folder.0, &postgres.url().replace("annulus@", "chat@")), &log);
    // PostgreSQL 15 lets nobody but its owner make tables in `public`.
    until("it is told", || feeding.state.last_error().is_some_and(|error| error.contains("SQLSTATE 42501")));
    assert!(feeding.state.last_error().unwrap().contains("Fix: grant"));
    postgres.sql("GRANT CREATE ON SCHEMA public TO chat");
    feeding.settle(&log);
    postgres.sql("DROP TABLE annulus_publications CASCADE");
    (100..200).for_each(|number| log.push(message(number, CHANNELS)));
    feeding.settle(&log);
    assert_eq!(postgres.sql("SELECT count(*) FROM annulus_publications"), "100");
    feeding.stop();
    // With a table that is there, INSERT and SELECT are enough.
    postgres.sql("CREATE ROLE writer LOGIN; GRANT INSERT, SELECT ON annulus_publications TO writer");
    (200..300).for_each(|number| log.push(message(number, CHANNELS)));
    let log = log.again();
    let feeding = Feeding::start(settings(&folder.0, &postgres.url().replace("annulus@", "writer@")), &log);
    feeding.settle(&log);
    // Another user may see another table: all that the log has is sent again.
    assert_eq!(postgres.sql("SELECT count(*) FROM annulus_publications"), "300");
    feeding.stop();
}

#[test]
fn a_table_of_another_version_is_not_touched() {
    let Some(postgres) = Postgres::start(GROUP) else { return };
    postgres.sql("CREATE TABLE annulus_publications (a int)");
    let (folder, log) = (Folder::new(), MemoryLog::of(10, CHANNELS));
    let feeding = Feeding::start(settings(&folder.0, &postgres.url()), &log);
    until("it is told", || feeding.state.last_error().is_some_and(|error| error.contains("annulus did not make")));
    feeding.stop();
    assert_eq!(postgres.sql("SELECT count(*) FROM annulus_publications"), "0");
}

#[test]
fn one_of_two_feeds_of_the_same_rows_sees_them_as_repeated() {
    let Some(postgres) = Postgres::start(GROUP) else { return };
    let log = MemoryLog::of(3000, CHANNELS);
    let folders = [Folder::new(), Folder::new()];
    let repeated = Arc::new(Mutex::new(Vec::new()));
    for folder in &folders {
        let log = log.again();
        let feeding = Feeding::start(settings(&folder.0, &postgres.url()), &log);
        feeding.settle(&log);
        repeated.lock().unwrap().push(feeding.state.repeated.load(Ordering::Relaxed));
        assert_eq!(feeding.rows(), 3000);
        feeding.stop();
    }
    assert_eq!(*repeated.lock().unwrap(), [0, 3000]);
    // A third, in the first one's folder, knows its position.
    let log = log.again();
    let feeding = Feeding::start(settings(&folders[0].0, &postgres.url()), &log);
    feeding.settle(&log);
    assert_eq!(feeding.rows(), 0);
    feeding.stop();
    check(&postgres, 3000, CHANNELS);
}
