//! The queue's database, damaged: what the fuzzer tries, and a test with its corpus.
//!
//! SQLite finds much of it and not all: a page has no checksum. So whatever is in a row may be anything, and must be refused
//! for the one job that it belongs to, or with the whole database, and by no panic: that would be the end of the queue's thread.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)] // A target that panics has found something.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::trial::order;
use super::{Answer, Ask, Enqueued, Forecast, Queue, QueueError, QueueOptions, SqliteQueue};
use crate::fuzzing::{Choices, Folder, owned};
use crate::image::fault::{Fault, Kind};
use crate::image::job::{JobTimings, Tenant};
use crate::image::outbox::{Outbox, Reader};
use crate::image::work::{Idempotency, Manifest, PIPELINE_VERSION};

const JOBS: u64 = 4;
const ALL: Ask = Ask { most: 1000, bytes: u64::MAX, bytes_total: u64::MAX, giant_bytes: u64::MAX, giant: true };
const OPTIONS: QueueOptions = QueueOptions { backoff: std::time::Duration::ZERO, ..QueueOptions::DEFAULT };
/// Every column that something is read from.
const COLUMNS: [(&str, &str); 30] = [
    ("works", "key"),
    ("works", "state"),
    ("works", "priority"),
    ("works", "due_ms"),
    ("works", "turn"),
    ("works", "revision"),
    ("works", "attempts"),
    ("works", "crashes"),
    ("works", "original"),
    ("works", "len"),
    ("works", "header"),
    ("works", "recipes"),
    ("works", "peak_bytes"),
    ("works", "cpu_us"),
    ("works", "lane"),
    ("works", "manifest"),
    ("works", "fault"),
    ("works", "started_ms"),
    ("works", "finished_ms"),
    ("jobs", "tenant"),
    ("jobs", "revision"),
    ("jobs", "priority"),
    ("jobs", "delayed"),
    ("jobs", "wait_ms"),
    ("jobs", "created_ms"),
    ("jobs", "finished_ms"),
    ("jobs", "cancelled"),
    ("jobs", "request"),
    ("usage", "bytes"),
    ("meta", "value"),
];

/// Opens a queue that an earlier process has left, after an input has damaged it, and asks it for everything.
///
/// The first byte chooses: bytes anywhere in the file, or values of rows. In the first case the database may be refused.
pub fn damaged(input: &[u8]) {
    let mut script = Choices(input);
    let folder = Folder::new("queue");
    let mut database = whole().clone();
    if script.byte() % 4 == 0 {
        while !script.is_over() {
            let at = u32::from_le_bytes(script.array()) as usize % database.len();
            let over = usize::from(script.byte() % 16);
            for (there, byte) in database[at..].iter_mut().zip(script.bytes(over)) {
                *there = *byte;
            }
        }
        fs::write(folder.path().join("queue.db"), &database).unwrap();
    } else {
        fs::write(folder.path().join("queue.db"), &database).unwrap();
        rewrite(&folder.path().join("queue.db"), &mut script);
    }
    match owned(|| SqliteQueue::open(folder.path(), OPTIONS)) {
        Ok(queue) => ask_everything(&queue),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Puts values of the input into rows, as far as the tables take them.
fn rewrite(path: &Path, script: &mut Choices<'_>) {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "synchronous", "OFF").unwrap();
    while !script.is_over() {
        let [column, row, kind] = script.array();
        let (table, column) = COLUMNS[usize::from(column) % COLUMNS.len()];
        let value = match kind % 4 {
            0 => Value::Integer(i64::from_le_bytes(script.array())),
            1 => Value::Integer(i64::from(script.byte())),
            2 => Value::Text(String::from_utf8_lossy(script.bytes(usize::from(kind))).into_owned()),
            _ => Value::Blob(script.bytes(usize::from(kind)).to_vec()),
        };
        let nth = format!(
            "SELECT min(x.rowid) FROM (SELECT rowid FROM {table} LIMIT 1 OFFSET {}) AS x",
            u64::from(row) % JOBS
        );
        let sql = match table {
            "works" => format!("UPDATE works SET {column} = ?1 WHERE id = ({nth})"),
            // Without row ids: all of them.
            _ => format!("UPDATE {table} SET {column} = ?1"),
        };
        let mut update = connection.prepare(&sql).expect("a column that the tables have");
        // What the tables do not take of a value cannot be in them.
        let _taken = update.execute(params_from_iter([value]));
    }
}

/// The file of a queue in which jobs are done, failed, leased and waiting.
fn whole() -> &'static Vec<u8> {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| {
        let folder = Folder::new("queue-whole");
        let queue = owned(|| SqliteQueue::open(folder.path(), OPTIONS)).unwrap();
        for number in 0..JOBS {
            let idempotency = Some(Idempotency { key: format!("key {number}"), request: [number as u8; 32] });
            let order = crate::image::work::Order { idempotency, ..order("ann", number) };
            assert!(matches!(queue.enqueue(order, Forecast::default()).wait().unwrap(), Enqueued::Accepted(_)));
        }
        let leases = queue.lease("cpu", Ask { most: 3, ..ALL }).wait().unwrap();
        queue.complete(leases[0].id, manifest()).wait().unwrap();
        queue.fail(leases[1].id, Fault::new(Kind::BadImage, "it is none")).wait().unwrap();
        drop(queue);
        fs::read(folder.path().join("queue.db")).unwrap()
    })
}

fn manifest() -> Manifest {
    let (lane, lane_reason) = ("cpu".to_owned(), "it is the only one".to_owned());
    Manifest { version: PIPELINE_VERSION, lane, lane_reason, outputs: Vec::new(), timings: JobTimings::default() }
}

fn ask_everything(queue: &SqliteQueue) {
    let ann = Tenant::named("ann");
    for number in 0..JOBS {
        if let Some(Some((document, _))) = told(queue.find(&ann, &format!("key {number}"))) {
            let again = told(queue.job(&ann, document.id)).flatten();
            assert!(again.is_none_or(|again| again.id == document.id));
            drop(told(queue.whose(document.id)));
        }
    }
    drop(told(queue.dead(None, u64::MAX, 100)));
    let _either_way = told(queue.usage(&ann));
    let leases = told(queue.lease("cpu", ALL)).unwrap_or_default();
    for (at, lease) in leases.iter().enumerate() {
        match at % 3 {
            0 => drop(told(queue.complete(lease.id, manifest()))),
            1 => drop(told(queue.fail(lease.id, Fault::new(Kind::Io, "the disk was unplugged")))),
            _ => drop(told(queue.release(lease.id))),
        }
    }
    drop(told(queue.enqueue(order("ann", JOBS), Forecast::default())));
    drop(told(queue.first(Reader::Account, 10)));
    let _sums = (queue.depth(), queue.counts());
}

/// Refusing is an answer. An end of the queue's thread is not.
fn told<T>(answer: Answer<T>) -> Option<T> {
    match answer.wait() {
        Ok(told) => Some(told),
        Err(QueueError::Gone) => panic!("the queue's thread has ended"),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_damaged_queues_is_opened_or_refused() {
        assert!(crate::fuzzing::replay("image_queue", super::damaged) > 10);
    }
}
