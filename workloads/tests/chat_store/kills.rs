//! Processes that feed, killed at random moments: every row is there once, in order, at the end.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use annulus::chat::store::{Feed, History, SqliteSettings, start_sqlite};

use crate::outside::postgres::Postgres;
use crate::rig::{Feeding, Folder, MemoryLog, PATIENCE, check, settings, until};

const ROWS: u64 = 100_000;
const CHANNELS: u64 = 13;
/// Kills before a child is let through.
const KILLS: u32 = 25;

/// What the child does: feeds all rows into what its environment names, and ends.
#[test]
#[ignore = "the process that the tests beside it start and kill"]
fn child() {
    let (folder, url) = (PathBuf::from(std::env::var("STORE_FOLDER").unwrap()), std::env::var("STORE_URL").ok());
    let log = MemoryLog::of(ROWS, CHANNELS);
    match url {
        Some(url) => {
            let feeding = Feeding::start(settings(&folder, &url), &log);
            feeding.settle(&log);
            feeding.stop();
        }
        None => {
            let settings = SqliteSettings { batch_rows: 200, ..SqliteSettings::new(&folder) };
            let feed: Feed = start_sqlite(&settings, log.source(), &log.mark, Box::new(|_| {})).unwrap();
            until("all rows stored", || feed.state().lag_bytes() == 0);
            feed.stop(PATIENCE).wait();
        }
    }
}

/// Kills children at random moments until one comes to its end. How many were killed.
fn feed_and_kill(folder: &Folder, url: Option<&str>) -> u32 {
    let (mut kills, mut random) = (0u32, 12345u64);
    let end = Instant::now() + 3 * PATIENCE;
    loop {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "kills::child", "--ignored"]).env("STORE_FOLDER", &folder.0).stdout(Stdio::null());
        url.map(|url| child.env("STORE_URL", url));
        let mut child = child.spawn().unwrap();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // After enough kills, the next is let through.
        let life = if kills < KILLS { 20 + (random >> 33) % 250 } else { PATIENCE.as_millis() as u64 };
        let until = Instant::now() + Duration::from_millis(life);
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "the child failed");
                return kills;
            }
            if Instant::now() >= until {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        assert!(Instant::now() < end, "it does not come to an end");
    }
}

#[test]
fn sqlite_has_every_row_once_and_in_order() {
    let folder = Folder::new();
    let kills = feed_and_kill(&folder, None);
    println!("{kills} kills");
    assert!(kills >= 2);
    let history = History::open(&folder.0).unwrap();
    assert_eq!(history.position().unwrap(), ([1; 16], ROWS * crate::rig::ROW_BYTES));
    assert_eq!(history.count().unwrap(), ROWS);
    let (mut seen, mut before) = (0, (String::new(), 0));
    let each = |row: &annulus::chat::store::Stored<'_>| {
        before = if before.0 == row.channel { (before.0.clone(), before.1 + 1) } else { (row.channel.to_owned(), 1) };
        assert_eq!(row.offset, before.1, "{}", row.channel);
        seen += 1;
        true
    };
    history.read(None, each).unwrap();
    assert_eq!(seen, ROWS);
}

#[test]
fn postgres_has_every_row_once_and_in_order() {
    let Some(postgres) = Postgres::start("the chat's feed to PostgreSQL, killed") else { return };
    let folder = Folder::new();
    let kills = feed_and_kill(&folder, Some(&postgres.url()));
    println!("{kills} kills");
    assert!(kills >= 2);
    check(&postgres, ROWS, CHANNELS);
}
