//! A log of any bytes, opened: what the fuzzer tries, and a test with its corpus.
//!
//! An input is a script. It writes a log of up to four small segments as the writer would, with frames that no writer makes
//! between them if it wants, all of them sealed, because nothing else passes the checksums; then it damages the files. What is
//! looked for is kept apart from what is tried: checksums are computed here once more, from what the module says of them.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)] // A target that panics has found something.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::record::{PREFIX_BYTES, Record, kind};
use super::segment::{FRAME_BYTES, HEADER_BYTES, Header, Identity, Segment};
use super::{Log, LogError, LogId, Lsn, Options, Publication, Tags, write_record};
use crate::fuzzing::{Choices, Folder, owned};

const SEGMENT_BYTES: usize = 4096;
const SEGMENTS_MAX: usize = 4;
const ID: LogId = *b"a log of fuzzing";

/// What was found in a log: places and names of records.
type Told = Vec<(Lsn, &'static str)>;

/// Opens the log that an input describes.
///
/// - Nothing panics, and a refused log is left as it was.
/// - What is told has a right checksum where it stands.
/// - What was on stable storage before the first damage is told, also where loss is accepted.
/// - What was opened once is opened again, without a word unless loss was accepted, and tells the same.
pub fn open_any(input: &[u8]) {
    let mut script = Script::new();
    script.run(&mut Choices(input));
    let folder = Folder::new("log");
    script.write(folder.path());
    let before = files(folder.path());
    let options = Options {
        segment_bytes: SEGMENT_BYTES as u64,
        bytes_max: 64 << 10,
        batch_bytes_max: 4096,
        sync: false,
        ..Options::new(folder.path())
    };
    match open(&options, &before) {
        Ok((from, told)) => {
            script.check(from, &told);
            opens_again(&options, &told);
        }
        Err(_) => {
            assert_eq!(files(folder.path()), before, "a log that is refused is left alone");
            let options = Options { accept_loss: true, ..options };
            let Ok((from, told)) = open(&options, &before) else { return };
            script.check(from, &told);
            opens_again(&options, &told);
        }
    }
}

fn open(options: &Options, files: &Files) -> Result<(Lsn, Told), LogError> {
    let mut told = Told::new();
    let mut tell = |lsn: Lsn, record: Record<'_>| {
        assert!(told.last().is_none_or(|(last, _)| *last < lsn), "in order");
        assert!(is_sound(files, lsn, &record), "{lsn}: {record:?} is not what is written there");
        told.push((lsn, record.name()));
    };
    let opened = owned(|| Log::open(options, &mut tell))?;
    assert!(opened.from <= opened.next && opened.records >= told.len() as u64);
    Ok((opened.from, told))
}

/// Nobody has written since, so nothing else may be told.
fn opens_again(options: &Options, told: &Told) {
    let mut again = Told::new();
    let opened = owned(|| Log::open(options, &mut |lsn, record| again.push((lsn, record.name()))));
    let opened = opened.unwrap_or_else(|error| panic!("opened once, and not again: {error}"));
    assert_eq!((opened.torn, &again), (None, told));
    assert!(options.accept_loss || opened.losses.is_empty());
}

/// Files of a directory by name.
type Files = BTreeMap<String, Vec<u8>>;

fn files(directory: &Path) -> Files {
    let read = |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
    let entries = fs::read_dir(directory).unwrap().map(|entry| read(entry.unwrap()));
    entries.filter(|(name, _)| name != "lock").collect()
}

/// Whether this record stands there, by a checksum that is computed from the description in `segment.rs` alone.
fn is_sound(files: &Files, lsn: Lsn, record: &Record<'_>) -> bool {
    let place = |name: &str| u64::from_str_radix(name.strip_prefix("wal-")?.strip_suffix(".log")?, 16).ok();
    let segments = files.iter().filter_map(|(name, bytes)| Some((place(name)?, bytes)));
    let Some((first, bytes)) = segments.filter(|(first, _)| *first <= lsn.0).max_by_key(|(first, _)| *first) else {
        return false;
    };
    let Some(frame) = bytes.get((lsn.0 - first) as usize..) else { return false };
    let Some(head) = frame.first_chunk::<FRAME_BYTES>() else { return false };
    let len = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
    let Some(payload) = frame[FRAME_BYTES..].get(..len) else { return false };
    let seed = crc32c::crc32c_append(crc32c::crc32c(&ID), &((first >> 12) as u32).to_le_bytes());
    let crc = [&head[..4], &head[8..], payload].iter().fold(seed, |crc, bytes| crc32c::crc32c_append(crc, bytes));
    crc.to_le_bytes() == head[4..8] && Record::decode(head[16], payload).as_ref() == Some(record)
}

/// A record that a writer has made durable.
struct Durable {
    lsn: Lsn,
    /// Where its batch ends.
    end: Lsn,
}

/// A log as it is made from an input.
struct Script {
    /// The newest is written to. Bytes are those of the file.
    segments: Vec<(Segment, Vec<u8>)>,
    /// Where the next frame goes.
    at: usize,
    batch: u64,
    /// Of the batch that is written: its records, and where its last frame begins.
    open: Vec<Lsn>,
    last_frame: Option<usize>,
    durable: Vec<Durable>,
    offset: u64,
    /// The first place that is not as it was written.
    damaged_at: Option<Lsn>,
    /// Whether there is something that no writer writes; then nothing can be said of what must survive.
    is_strange: bool,
    /// Segments whose files have another length.
    resized: BTreeMap<usize, usize>,
    /// Files of other names.
    others: Files,
}

impl Script {
    fn new() -> Script {
        let mut script = Script {
            segments: Vec::new(),
            at: 0,
            batch: 1,
            open: Vec::new(),
            last_frame: None,
            durable: Vec::new(),
            offset: 0,
            damaged_at: None,
            is_strange: false,
            resized: BTreeMap::new(),
            others: Files::new(),
        };
        script.begin_segment();
        script
    }

    fn begin_segment(&mut self) {
        let first = self.segments.last().map_or(Lsn(0), |(segment, _)| segment.end());
        let segment = Segment { first, bytes: SEGMENT_BYTES as u64 };
        let mut bytes = Header { id: ID, segment, checkpoint: Lsn(0) }.encode().to_vec();
        bytes.resize(SEGMENT_BYTES, 0);
        self.segments.push((segment, bytes));
        self.at = HEADER_BYTES as usize;
    }

    fn identity(&self) -> Identity {
        Identity::new(&ID, &self.segment())
    }

    fn segment(&self) -> Segment {
        self.segments.last().unwrap().0
    }

    fn here(&self) -> Lsn {
        Lsn(self.segment().first.0 + self.at as u64)
    }

    fn run(&mut self, choices: &mut Choices<'_>) {
        while !choices.is_over() {
            match choices.byte() % 16 {
                0..=4 => self.publish(choices.byte()),
                5 | 6 => self.end_batch(),
                7 => self.begin_checkpoint(choices),
                8 => self.end_checkpoint(choices),
                9 => self.strange_frame(choices),
                10 => self.strange_bytes(choices),
                11 => self.skip_batches(choices),
                12 => self.claim_checkpoint(choices),
                13 => self.damage(choices),
                14 => self.resize(choices),
                _ => self.misplace(choices),
            }
        }
    }

    fn publish(&mut self, len: u8) {
        self.offset += 1;
        let data: Vec<u8> = (0..len).map(|at| at.wrapping_mul(self.offset as u8)).collect();
        self.record(&Record::Publication(Publication {
            channel: "room",
            epoch: *b"epoc",
            offset: self.offset,
            time_ms: 1_790_000_000_000,
            key: None,
            user: "ann",
            client: [0; 16],
            conn_info: b"",
            chan_info: b"",
            tags: Tags::default(),
            data: &data,
            sealed: false,
            binary: true,
        }));
    }

    fn record(&mut self, record: &Record<'_>) {
        let mut out = Vec::new();
        write_record(&mut out, record).unwrap();
        self.frame(out[PREFIX_BYTES - 1], &out[PREFIX_BYTES..]);
    }

    /// As `batch.rs` does: a filler fits behind whatever does not fill a segment, and a segment's end is a batch's.
    fn frame(&mut self, kind: u8, payload: &[u8]) {
        let (bytes, room) = (FRAME_BYTES + payload.len(), SEGMENT_BYTES - self.at);
        if bytes != room && bytes + FRAME_BYTES > room {
            if room > 0 {
                let mut filler = Vec::new();
                self.identity().put_filler(&mut filler, self.batch, room as u64);
                self.put(&filler);
                self.at = SEGMENT_BYTES;
            }
            self.end_batch();
            if self.segments.len() == SEGMENTS_MAX {
                return;
            }
            self.begin_segment();
        }
        if kind != kind::FILLER {
            self.open.push(self.here());
        }
        let mut frame = Vec::new();
        self.identity().put_record(&mut frame, self.batch, kind, payload);
        self.put(&frame);
    }

    fn put(&mut self, frame: &[u8]) {
        let (_, bytes) = self.segments.last_mut().unwrap();
        bytes[self.at..self.at + frame.len()].copy_from_slice(frame);
        self.last_frame = Some(self.at);
        self.at += frame.len();
    }

    fn end_batch(&mut self) {
        let Some(last) = self.last_frame.take() else { return };
        let (identity, end) = (self.identity(), self.here());
        let (_, bytes) = self.segments.last_mut().unwrap();
        let is_filler = bytes[last + 16] == kind::FILLER;
        let until = if is_filler { last + FRAME_BYTES } else { self.at };
        identity.end_batch(&mut bytes[last..until]);
        self.durable.extend(self.open.drain(..).map(|lsn| Durable { lsn, end }));
        self.batch += 1;
    }

    fn begin_checkpoint(&mut self, choices: &mut Choices<'_>) {
        self.record(&Record::CheckpointBegin { number: u64::from(choices.byte()) });
    }

    fn end_checkpoint(&mut self, choices: &mut Choices<'_>) {
        let [number, shard, shards] = choices.array();
        self.record(&Record::CheckpointEnd { number: number.into(), shard: shard.into(), shards: shards.into() });
    }

    /// Sealed as it should be, and of any kind and content.
    fn strange_frame(&mut self, choices: &mut Choices<'_>) {
        let [kind, len] = choices.array();
        let payload = choices.bytes(len.into());
        self.is_strange = true;
        self.frame(kind, payload);
    }

    /// Not sealed, and written over by what comes next.
    fn strange_bytes(&mut self, choices: &mut Choices<'_>) {
        let len = choices.byte();
        let some = choices.bytes(len.into());
        let (_, bytes) = self.segments.last_mut().unwrap();
        let room = &mut bytes[self.at..];
        let len = some.len().min(room.len());
        room[..len].copy_from_slice(&some[..len]);
        self.is_strange = true;
    }

    fn skip_batches(&mut self, choices: &mut Choices<'_>) {
        let [far, some] = choices.array();
        self.batch = self.batch.wrapping_add(u64::from(some) << (far % 64));
        self.is_strange = true;
    }

    fn claim_checkpoint(&mut self, choices: &mut Choices<'_>) {
        let checkpoint = Lsn(choices.number());
        let (segment, bytes) = self.segments.last_mut().unwrap();
        bytes[..HEADER_BYTES as usize].copy_from_slice(&Header { id: ID, segment: *segment, checkpoint }.encode());
        self.is_strange = true;
    }

    fn damage(&mut self, choices: &mut Choices<'_>) {
        let (at, len) = (choices.number() as usize, usize::from(choices.byte() % 16));
        let over = choices.bytes(len);
        let total = self.segments.len() * SEGMENT_BYTES;
        for (at, byte) in (at % total..total).zip(over) {
            let (segment, bytes) = &mut self.segments[at / SEGMENT_BYTES];
            let there = bytes.get_mut(at % SEGMENT_BYTES);
            if let Some(there) = there.filter(|there| **there != *byte) {
                *there = *byte;
                let in_header = at % SEGMENT_BYTES < HEADER_BYTES as usize;
                let at = if in_header { segment.first } else { Lsn(at as u64) };
                self.damaged_at = Some(self.damaged_at.map_or(at, |first| first.min(at)));
            }
        }
    }

    fn resize(&mut self, choices: &mut Choices<'_>) {
        let which = usize::from(choices.byte()) % self.segments.len();
        let len = choices.number() as usize % (SEGMENT_BYTES + 2);
        if len != SEGMENT_BYTES {
            let first = self.segments[which].0.first;
            self.resized.insert(which, len);
            self.damaged_at = Some(self.damaged_at.map_or(first, |at| at.min(first)));
        }
    }

    /// A file more, of whatever name and length, with a header that fits it.
    fn misplace(&mut self, choices: &mut Choices<'_>) {
        let first = Lsn(u64::from_be_bytes(choices.array()));
        let len = usize::from(choices.byte());
        let segment = Segment { first, bytes: len as u64 };
        let mut bytes = Header { id: ID, segment, checkpoint: Lsn(0) }.encode().to_vec();
        bytes.resize(len, 0);
        self.others.insert(name_of(first), bytes);
        self.is_strange = true;
    }

    fn write(&self, directory: &Path) {
        for (index, (segment, bytes)) in self.segments.iter().enumerate() {
            let mut bytes = bytes.clone();
            bytes.resize(*self.resized.get(&index).unwrap_or(&SEGMENT_BYTES), 0);
            fs::write(segment.path(directory), bytes).unwrap();
        }
        for (name, bytes) in &self.others {
            fs::write(directory.join(name), bytes).unwrap();
        }
    }

    /// What was durable before the damage is there, from where the replay began: at the log's beginning, or a checkpoint's.
    fn check(&self, from: Lsn, told: &Told) {
        if self.is_strange {
            return;
        }
        let damaged_at = self.damaged_at.unwrap_or(Lsn(u64::MAX));
        let is_checkpoint = told.first().is_some_and(|(lsn, name)| *lsn == from && *name == "checkpoint begin");
        let is_beginning = from == Lsn(0) || damaged_at == Lsn(0);
        assert!(is_beginning || is_checkpoint, "the replay began at {from}, where no checkpoint begins");
        for Durable { lsn, end } in &self.durable {
            if *lsn >= from && *end <= damaged_at {
                let is_told = told.binary_search_by_key(lsn, |(lsn, _)| *lsn).is_ok();
                assert!(is_told, "{lsn} was durable, and damage begins at {damaged_at}: it is lost");
            }
        }
    }
}

fn name_of(first: Lsn) -> String {
    format!("wal-{first}.log")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_logs_is_opened_or_refused() {
        assert!(crate::fuzzing::replay("log_replay", super::open_any) > 10);
    }
}
