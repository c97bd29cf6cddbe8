//! A log in memory, a feed of it, and what must be true of a table that was fed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use annulus::chat::store::{
    Feed, FeedState, LogId, Mark, PostgresSettings, Progress, Row, Rows, Source, start_postgres,
};
use annulus::postgres::Target;
use annulus_engine::{Engine, Running, Shard};

use crate::outside::postgres::Postgres;

/// How long anything may take on a busy machine before it counts as never.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of the log per row.
pub const ROW_BYTES: u64 = 100;

static FOLDERS: AtomicUsize = AtomicUsize::new(0);

/// A folder, removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        Folder(std::env::temp_dir().join(format!("annulus-store-{}-{number}", std::process::id())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _temporary = std::fs::remove_dir_all(&self.0);
    }
}

/// A publication, owned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub channel: String,
    pub offset: u64,
    pub user: String,
    pub data: Vec<u8>,
    pub time_ms: u64,
}

/// A log in memory: rows may be added while it is read.
#[derive(Clone, Default)]
pub struct MemoryLog {
    messages: Arc<Mutex<Vec<Message>>>,
    pub mark: Mark,
}

impl MemoryLog {
    /// `rows` of `channels`, round and round, offsets from 1.
    pub fn of(rows: u64, channels: u64) -> MemoryLog {
        let log = MemoryLog::default();
        (0..rows).for_each(|number| log.push(message(number, channels)));
        log
    }

    /// The same log for another feed, which needs a mark of its own.
    pub fn again(&self) -> MemoryLog {
        MemoryLog { messages: self.messages.clone(), mark: Mark::new(self.mark.durable()) }
    }

    pub fn push(&self, message: Message) {
        let mut messages = self.messages.lock().unwrap();
        messages.push(message);
        self.mark.advance(messages.len() as u64 * ROW_BYTES);
    }

    pub fn len(&self) -> u64 {
        self.messages.lock().unwrap().len() as u64
    }

    pub fn source(&self) -> Box<dyn Source> {
        Box::new(Reader { log: self.clone(), next: 0 })
    }
}

/// The message of that number.
pub fn message(number: u64, channels: u64) -> Message {
    let (channel, offset) = (number % channels, number / channels + 1);
    let data = format!(r#"{{"number":{number},"text":"{}"}}"#, "x".repeat(number as usize % 50)).into_bytes();
    let user = format!("user {}", number % 7);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    Message { channel: format!("room:{channel}"), offset, user, data, time_ms: now }
}

struct Reader {
    log: MemoryLog,
    next: usize,
}

impl Source for Reader {
    fn log(&self) -> LogId {
        [1; 16]
    }

    fn seek(&mut self, position: u64) -> io::Result<()> {
        assert!(position.is_multiple_of(ROW_BYTES), "only places that were told");
        self.next = (position / ROW_BYTES) as usize;
        Ok(())
    }

    fn next(&mut self, upto: u64, rows: &mut Rows) -> io::Result<bool> {
        let messages = self.log.messages.lock().unwrap();
        let durable = (upto / ROW_BYTES) as usize;
        while self.next < durable && !rows.is_full() {
            let Message { channel, offset, user, data, time_ms } = &messages[self.next];
            self.next += 1;
            let row = Row {
                lsn: self.next as u64 * ROW_BYTES,
                channel,
                epoch: *b"abcd",
                offset: *offset,
                time_ms: *time_ms,
                user,
                client: [9; 16],
                conn_info: b"{}",
                data,
                ..Row::default()
            };
            rows.push(&row, [("number", "one")]);
        }
        Ok(self.next < durable)
    }
}

/// Waits until something is so.
pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A feed to PostgreSQL on a shard of its own.
pub struct Feeding {
    pub state: Arc<FeedState>,
    /// The newest of what was told.
    pub told: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    running: Option<Running<()>>,
}

impl Feeding {
    pub fn start(settings: PostgresSettings, log: &MemoryLog) -> Feeding {
        let (sender, receiver) = mpsc::channel();
        let (stop, told) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, telling, log) = (stop.clone(), told.clone(), log.clone());
        let main = move |shard: annulus_engine::Shard| {
            let (settings, log, sender) = (settings.clone(), log.clone(), sender.clone());
            let (stopped, telling) = (stopped.clone(), telling.clone());
            async move {
                let on_progress = Box::new(move |progress: Progress| {
                    assert!(progress.checkpoint <= progress.stored);
                    assert!(telling.swap(progress.stored, Ordering::SeqCst) <= progress.stored);
                });
                let feed: Feed = start_postgres(&shard, &settings, log.source(), &log.mark, on_progress).unwrap();
                sender.send(feed.state().clone()).unwrap();
                while !stopped.load(Ordering::SeqCst) {
                    shard.sleep(Duration::from_millis(5)).await;
                }
                feed.stop(Duration::from_millis(200)).await;
            }
        };
        let running = Engine::builder().shards(1).compute(1).oversubscribed().start(main).unwrap();
        let state = receiver.recv().unwrap();
        Feeding { state, told, stop, running: Some(running) }
    }

    pub fn rows(&self) -> u64 {
        self.state.rows.load(Ordering::Relaxed)
    }

    /// Waits until all of the log is stored.
    pub fn settle(&self, log: &MemoryLog) {
        until(&format!("all rows stored; {:?}", self.state.last_error()), || {
            self.told.load(Ordering::SeqCst) == log.mark.durable()
        });
    }

    /// Stops it as a service would.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.running.take().unwrap().wait().unwrap();
    }
}

impl Drop for Feeding {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// Runs something on a shard of its own; what it gives.
pub fn on_a_shard<T: Send + 'static, F: Future<Output = T> + 'static>(
    work: impl Fn(Shard) -> F + Send + Sync + Clone + 'static,
) -> T {
    let running = Engine::builder().shards(1).compute(1).oversubscribed().start(work).unwrap();
    running.wait().unwrap().remove(0)
}

/// Settings for a test: a few lanes, small batches, little memory.
pub fn settings(folder: &Path, url: &str) -> PostgresSettings {
    PostgresSettings {
        connections: 5,
        batch_rows: 100,
        buffer_bytes: 1 << 20,
        ..PostgresSettings::new(folder, Target::parse(url).unwrap())
    }
}

/// Every row is there once, and rows of a channel became visible in their order: whoever sees one sees those before it.
/// A later statement has a higher transaction number, because a lane waits for each.
pub fn check(postgres: &Postgres, rows: u64, channels: u64) {
    let sum = postgres.sql("SELECT count(*), count(DISTINCT channel), sum(\"offset\") FROM annulus_publications");
    let offsets: u64 = (0..rows).map(|number| number / channels + 1).sum();
    assert_eq!(sum, format!("{rows}|{}|{offsets}", channels.min(rows)));
    let unordered = "SELECT count(*) FROM (SELECT xmin::text::bigint AS now, lag(xmin::text::bigint) \
                     OVER (PARTITION BY channel ORDER BY \"offset\") AS before FROM annulus_publications) AS t \
                     WHERE before > now";
    assert_eq!(postgres.sql(unordered), "0");
    let changed =
        "SELECT count(*) FROM annulus_messages WHERE (data->>'number')::bigint % 7 <> right(\"user\", 1)::bigint";
    assert_eq!(postgres.sql(changed), "0");
}
