//! The embedded database: what is written is read again, and a row that cannot be stored holds up nobody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use annulus::chat::store::{
    Feed, History, LogId, Mark, Progress, Row, Rows, Source, SqliteSettings, Stored, start_sqlite,
};

use crate::rig::{Folder, MemoryLog, PATIENCE, ROW_BYTES, message, until};

/// Starts a feed once the folder is free: another test's program that is just being started has all our descriptors for a
/// moment, the lock of a feed that has ended among them.
fn start_when_free(start: impl Fn() -> Result<Feed, String>) -> Feed {
    let mut feed = None;
    until("the folder is free", || {
        feed = match start() {
            Ok(feed) => Some(feed),
            Err(error) => {
                assert!(error.contains("is locked"), "{error}");
                None
            }
        };
        feed.is_some()
    });
    feed.unwrap()
}

fn start(folder: &Folder, log: &MemoryLog) -> Feed {
    let settings = SqliteSettings::new(&folder.0);
    start_when_free(|| start_sqlite(&settings, log.source(), &log.mark, Box::new(|_| {})))
}

/// One row of everything, given once.
struct One(bool);

impl Source for One {
    fn log(&self) -> LogId {
        [2; 16]
    }

    fn seek(&mut self, position: u64) -> std::io::Result<()> {
        self.0 = position == 0;
        Ok(())
    }

    fn next(&mut self, _upto: u64, rows: &mut Rows) -> std::io::Result<bool> {
        if std::mem::take(&mut self.0) {
            rows.push(&everything(), [("a", "b"), ("c", "\"")]);
        }
        Ok(false)
    }
}

fn everything() -> Row<'static> {
    Row {
        lsn: 10,
        channel: "room",
        epoch: *b"wxyz",
        offset: 7,
        time_ms: 1_700_000_000_000,
        user: "ümläut",
        client: *b"\x00123456789abcdef",
        conn_info: b"[1]",
        chan_info: b"{}",
        data: b"\x00\xff\x01",
        sealed: true,
        binary: true,
    }
}

#[test]
fn what_goes_in_comes_out() {
    let folder = Folder::new();
    let mark = Mark::new(10);
    let feed = start_sqlite(&SqliteSettings::new(&folder.0), Box::new(One(true)), &mark, Box::new(|_| {})).unwrap();
    feed.stop(PATIENCE).wait();
    let history = History::open(&folder.0).unwrap();
    let mut seen = 0;
    let each = |row: &Stored<'_>| {
        let Row { channel, epoch, offset, time_ms, user, client, conn_info, chan_info, data, sealed, binary, .. } =
            everything();
        let tags = r#"{"a":"b","c":"\""}"#;
        let want =
            Stored { channel, epoch, offset, time_ms, user, client, conn_info, chan_info, tags, data, sealed, binary };
        assert_eq!(*row, want);
        seen += 1;
        true
    };
    history.read(Some("room"), each).unwrap();
    assert_eq!(seen, 1);
    history.read(Some("none"), |_| panic!("another channel")).unwrap();
    assert_eq!(history.position().unwrap(), ([2; 16], 10));
}

#[test]
fn rows_that_come_while_it_runs_are_stored_and_told() {
    let folder = Folder::new();
    let log = MemoryLog::default();
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = told.clone();
    let on_progress = Box::new(move |progress: Progress| telling.lock().unwrap().push(progress));
    let feed = start_sqlite(&SqliteSettings::new(&folder.0), log.source(), &log.mark, on_progress).unwrap();
    for number in 0..50 {
        log.push(message(number, 3));
        std::thread::sleep(Duration::from_millis(2));
    }
    until("all stored", || feed.state().rows.load(Ordering::Relaxed) == 50);
    let batches = feed.state().batches.load(Ordering::Relaxed);
    assert!(batches < 50, "rows of ten milliseconds share a transaction: {batches}");
    feed.stop(PATIENCE).wait();
    let told = told.lock().unwrap();
    assert!(told.is_sorted_by_key(|progress| progress.stored));
    let end = 50 * ROW_BYTES;
    assert_eq!(told.last().unwrap(), &Progress { stored: end, checkpoint: end });
}

#[test]
fn another_log_begins_anew_and_the_same_one_goes_on() {
    let folder = Folder::new();
    let log = MemoryLog::of(100, 3);
    let feed = start(&folder, &log);
    until("all stored", || feed.state().rows.load(Ordering::Relaxed) == 100);
    feed.stop(PATIENCE).wait();
    (100..150).for_each(|number| log.push(message(number, 3)));
    let log = log.again();
    let feed = start(&folder, &log);
    until("the rest stored", || feed.state().lag_bytes() == 0);
    assert_eq!(feed.state().rows.load(Ordering::Relaxed), 50);
    // One feed has the folder.
    let second = start_sqlite(&SqliteSettings::new(&folder.0), log.source(), &Mark::default(), Box::new(|_| {}));
    assert!(second.err().unwrap().contains("locked"));
    feed.stop(PATIENCE).wait();
    let mark = Mark::new(10);
    let settings = SqliteSettings::new(&folder.0);
    let other = start_when_free(|| start_sqlite(&settings, Box::new(One(true)), &mark, Box::new(|_| {})));
    other.stop(PATIENCE).wait();
    assert_eq!(History::open(&folder.0).unwrap().count().unwrap(), 151);
}

#[test]
fn a_row_that_cannot_be_stored_is_a_dead_letter() {
    let folder = Folder::new();
    let log = MemoryLog::of(10, 2);
    log.push(annulus_message_beyond_sqlite());
    (10..20).for_each(|number| log.push(message(number, 2)));
    let feed = start(&folder, &log);
    let state = feed.state().clone();
    feed.stop(PATIENCE).wait();
    let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
    assert_eq!((load(&state.rows), load(&state.dead_letters)), (20, 1));
    assert_eq!(load(&state.checkpoint_lsn), 21 * ROW_BYTES);
    let letters = std::fs::read_to_string(folder.0.join("dead-letters.jsonl")).unwrap();
    assert!(letters.lines().count() == 1 && letters.contains(r#""offset":18446744073709551615"#), "{letters}");
}

/// An offset that no signed integer holds.
fn annulus_message_beyond_sqlite() -> crate::rig::Message {
    crate::rig::Message { offset: u64::MAX, ..message(0, 2) }
}
