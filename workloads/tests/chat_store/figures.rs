//! How many rows a second: `cargo test --release --test chat_store figures -- --ignored --nocapture --test-threads 1`.

use std::time::Instant;

use annulus::chat::store::{PostgresSettings, SqliteSettings, start_sqlite};
use annulus::postgres::Target;

use crate::outside::postgres::Postgres;
use crate::proxy::Proxy;
use crate::rig::{Feeding, Folder, MemoryLog, PATIENCE};

const ROWS: u64 = 500_000;
const CHANNELS: u64 = 1000;

#[test]
#[ignore = "a measurement"]
fn sqlite() {
    let (folder, log) = (Folder::new(), MemoryLog::of(ROWS, CHANNELS));
    let began = Instant::now();
    let feed = start_sqlite(&SqliteSettings::new(&folder.0), log.source(), &log.mark, Box::new(|_| {})).unwrap();
    let state = feed.state().clone();
    feed.stop(PATIENCE).wait();
    let rows = state.rows.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(rows, ROWS);
    println!("sqlite: {:.0} rows/s", rows as f64 / began.elapsed().as_secs_f64());
}

#[test]
#[ignore = "a measurement"]
fn postgres() {
    let Some(postgres) = Postgres::start("figures of the chat's feed to PostgreSQL") else { return };
    let slow = Proxy::start(postgres.port, 10..200);
    for (connections, port) in [(1, postgres.port), (5, postgres.port), (50, postgres.port), (50, slow.port)] {
        postgres.sql("DROP TABLE IF EXISTS annulus_publications CASCADE");
        let (folder, log) = (Folder::new(), MemoryLog::of(ROWS, CHANNELS));
        let url = postgres.url().replace(&postgres.port.to_string(), &port.to_string());
        let target = Target::parse(&url).unwrap();
        let settings = PostgresSettings { connections, ..PostgresSettings::new(&folder.0, target) };
        let began = Instant::now();
        let feeding = Feeding::start(settings, &log);
        feeding.settle(&log);
        let rate = ROWS as f64 / began.elapsed().as_secs_f64();
        let answers = if port == slow.port { "after 10 to 200 ms" } else { "at once" };
        println!("postgres, {connections} connections, answers {answers}: {rate:.0} rows/s");
        feeding.stop();
    }
}
