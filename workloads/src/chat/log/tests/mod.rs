//! Whole logs: written, broken, opened again.

mod damaged;
mod kernels;
mod offline;
mod opened;
mod simulated;
mod torn;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use annulus_engine::driver::sim::Random;

use super::batch::{Backlog, Place};
use super::replay::make_segment;
use super::segment::{Identity, Segment};
use super::{Append, Log, LogError, Lsn, Opened, Options, Publication, Record, Tags, write_record};

/// A directory that is gone with its value.
struct Folder(PathBuf);

impl Folder {
    /// In memory, where there is such a place: most tests are about bytes, and sync a thousand times.
    fn new() -> Folder {
        let memory = Path::new("/dev/shm");
        Folder::below(if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() })
    }

    fn on_disk() -> Folder {
        Folder::below(std::env::temp_dir())
    }

    fn below(home: PathBuf) -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = home.join(format!("annulus-log-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn options(&self) -> Options {
        Options {
            segment_bytes: 4096,
            bytes_max: 256 << 10,
            batch_bytes_max: 4096,
            checkpoint_bytes: 32 << 10,
            ..Options::new(&self.0)
        }
    }

    /// Another one with the same files.
    fn copy(&self) -> Folder {
        let copy = Folder::new();
        for entry in fs::read_dir(&self.0).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.0.join(entry.file_name())).unwrap();
        }
        copy
    }

    fn open(&self) -> Result<(Opened, Vec<Seen>), LogError> {
        open(&self.options())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// What was replayed: enough of a record to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Published(String, u64, Vec<u8>),
    Kept(String, u64, Vec<u8>),
    Top(String, u64),
    Other(&'static str),
}

impl Seen {
    fn of(record: &Record<'_>) -> Seen {
        match record {
            Record::Publication(p) => Seen::Published(p.channel.to_owned(), p.offset, p.data.to_vec()),
            Record::Kept(p) => Seen::Kept(p.channel.to_owned(), p.offset, p.data.to_vec()),
            Record::Channel(c) => Seen::Top(c.channel.to_owned(), c.top),
            other => Seen::Other(other.name()),
        }
    }

    /// Offsets of publications, in order.
    fn offsets(seen: &[Seen]) -> Vec<u64> {
        let offset = |seen: &Seen| if let Seen::Published(_, offset, _) = seen { Some(*offset) } else { None };
        seen.iter().filter_map(offset).collect()
    }
}

fn open(options: &Options) -> Result<(Opened, Vec<Seen>), LogError> {
    let mut seen = Vec::new();
    let opened = Log::open(options, &mut |_, record| seen.push(Seen::of(&record)))?;
    Ok((opened, seen))
}

/// Bytes that follow from their place.
fn data(channel: &str, offset: u64) -> Vec<u8> {
    let mut random = Random::new(offset.wrapping_mul(31) ^ channel.len() as u64);
    let len = if random.hit(100) { random.below(1500) } else { random.below(200) };
    (0..len).map(|_| random.bits() as u8).collect()
}

fn publication<'a>(channel: &'a str, offset: u64, data: &'a [u8]) -> Publication<'a> {
    Publication {
        channel,
        epoch: *b"epoc",
        offset,
        time_ms: 1_790_000_000_000 + offset,
        key: None,
        user: "u",
        client: [0; 16],
        conn_info: b"",
        chan_info: b"",
        tags: Tags::default(),
        data,
        sealed: false,
        binary: true,
    }
}

fn published(out: &mut Vec<u8>, channel: &str, offset: u64) {
    let data = data(channel, offset);
    write_record(out, &Record::Publication(publication(channel, offset, &data))).unwrap();
}

/// Writes batches as the writer does, and nothing else.
struct Scribe {
    opened: Opened,
    offset: u64,
}

impl Scribe {
    fn new(folder: &Folder) -> Scribe {
        let (opened, seen) = folder.open().unwrap();
        let offset = Seen::offsets(&seen).last().copied().unwrap_or(0);
        Scribe { opened, offset }
    }

    fn current(&self) -> Segment {
        *self.opened.segments.back().unwrap()
    }

    /// Some publications as one batch, or as two where the segment ends. Where their records lie.
    fn batch(&mut self, count: usize) -> (Lsn, Lsn) {
        let mut bytes = Vec::new();
        for _ in 0..count {
            self.offset += 1;
            published(&mut bytes, "c", self.offset);
        }
        self.write(bytes)
    }

    fn write(&mut self, bytes: Vec<u8>) -> (Lsn, Lsn) {
        self.write_level(bytes, true)
    }

    fn write_level(&mut self, bytes: Vec<u8>, sync: bool) -> (Lsn, Lsn) {
        let mut backlog = Backlog::default();
        backlog.push(Append { shard: 0, last: self.offset, sync, tells_written: !sync, bytes });
        let mut from = self.opened.next;
        while !backlog.is_empty() {
            let segment = self.current();
            let place = Place {
                segment,
                identity: Identity::new(&self.opened.id, &segment),
                at: self.opened.next,
                number: self.opened.batch,
                bytes_max: self.opened.options.batch_bytes_max,
                may_sync: true,
            };
            let batch = backlog.take(&place).unwrap();
            let directory = &self.opened.options.directory;
            put(&segment.path(directory), place.at.0 - segment.first.0, &batch.bytes);
            self.opened.batch += batch.syncs as u64;
            self.opened.next = Lsn(place.at.0 + batch.bytes.len() as u64);
            if batch.turns {
                let next = Segment { first: segment.end(), bytes: 4096 };
                make_segment(directory, self.opened.id, next).unwrap();
                self.opened.segments.push_back(next);
                self.opened.next = next.body();
                // A batch of the filler alone has none of them.
                from = if batch.records == 0 { next.body() } else { from };
            }
        }
        (from, self.opened.next)
    }
}

/// Writes over a part of a file.
fn put(path: &Path, offset: u64, bytes: &[u8]) {
    let file = fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, offset).unwrap();
}

/// The file and the offset in it where this place is.
fn file_of(folder: &Folder, lsn: Lsn) -> (PathBuf, u64) {
    let segment = Segment { first: Lsn(lsn.0 / 4096 * 4096), bytes: 4096 };
    (segment.path(&folder.0), lsn.0 % 4096)
}
