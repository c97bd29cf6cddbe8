//! A file of the log: its header, the frames around records, and their checksums.
//!
//! ```text
//!   file     [header 64][frame][frame]…[frame][filler ─────────────────────────────────────────────┐ to the end]
//!   header   [magic 8][version u32][0 u32][first u64][bytes u64][checkpoint u64][id 16][0 u32][crc u32]
//!   frame    [len u32][crc u32][batch u64][kind u8][flags u8][payload of len bytes]
//!              ▲        ▲        ▲ exclusive-or with the log's mask     ▲ 1: the last of its batch
//!              │        └ CRC-32C of all other bytes of the frame (of a filler: without the payload), begun with the
//!              └ little-endian, as everything   segment's seed
//! ```
//!
//! Place `n` of the log lies in the segment with `first <= n < first + bytes`, at offset `n - first`.
//!
//! The seed makes stale bytes harmless: a segment that is used again holds frames of its earlier life, and their
//! checksums were begun with another seed. For the same bytes two different seeds never give the same CRC, and two
//! segments of one log have different seeds within 16 TiB; so this is certain, not only likely. The mask, part of the
//! log's random id, is against people: nobody can write a message that looks like a frame to the search for later
//! batches, without a luck of 2^-32 x 2^-44 or so.

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::record::{RECORD_BYTES_MAX, kind};
use super::{LogError, LogId, Lsn};

/// The format's version.
pub(super) const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"annulWAL";
/// Bytes of a header.
pub(super) const HEADER_BYTES: u64 = 64;
/// Bytes of a frame without its payload.
pub(super) const FRAME_BYTES: usize = 18;
/// The frame is the last of its batch, and a sync follows.
pub(super) const END_OF_BATCH: u8 = 1;
/// What a reader takes from the file at once, unless a record is longer.
const WINDOW_BYTES: usize = 256 << 10;

/// A segment's place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) first: Lsn,
    pub(super) bytes: u64,
}

impl Segment {
    /// Where the next one begins.
    pub(super) fn end(&self) -> Lsn {
        Lsn(self.first.0 + self.bytes)
    }

    /// Where its first frame stands.
    pub(super) fn body(&self) -> Lsn {
        Lsn(self.first.0 + HEADER_BYTES)
    }

    pub(super) fn path(&self, directory: &Path) -> PathBuf {
        directory.join(format!("wal-{}.log", self.first))
    }
}

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: LogId,
    pub(super) segment: Segment,
    /// The begin of the newest complete checkpoint when the segment was made ready; 0: none. Replay looks no further
    /// back.
    pub(super) checkpoint: Lsn,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHeader {
    Damaged,
    Version(u32),
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES as usize] {
        let mut out = [0; HEADER_BYTES as usize];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.segment.first.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.segment.bytes.to_le_bytes());
        out[32..40].copy_from_slice(&self.checkpoint.0.to_le_bytes());
        out[40..56].copy_from_slice(&self.id);
        let crc = crc32c::crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Header, NoHeader> {
        let bytes = bytes.first_chunk::<{ HEADER_BYTES as usize }>().ok_or(NoHeader::Damaged)?;
        if bytes[..8] != MAGIC || u32_at(bytes, 60) != crc32c::crc32c(&bytes[..60]) {
            return Err(NoHeader::Damaged);
        }
        match u32_at(bytes, 8) {
            VERSION => {}
            version => return Err(NoHeader::Version(version)),
        }
        let mut id = LogId::default();
        id.copy_from_slice(&bytes[40..56]);
        let segment = Segment { first: Lsn(u64_at(bytes, 16)), bytes: u64_at(bytes, 24) };
        Ok(Header { id, segment, checkpoint: Lsn(u64_at(bytes, 32)) })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut array = [0; 4];
    array.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(array)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut array = [0; 8];
    array.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(array)
}

/// What the frames of a segment are checked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    seed: u32,
    mask: u64,
}

impl Identity {
    pub(super) fn new(id: &LogId, segment: &Segment) -> Identity {
        // Segments begin at multiples of 4096. A CRC of four bytes tells all their values apart.
        let number = (segment.first.0 >> 12) as u32;
        Identity { seed: crc32c::crc32c_append(crc32c::crc32c(id), &number.to_le_bytes()), mask: u64_at(id, 0) }
    }

    /// The checksum of a frame whose covered bytes are these.
    fn crc(&self, frame: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c_append(self.seed, &frame[..4]), &frame[8..])
    }

    /// Appends a record's frame.
    pub(super) fn put_record(&self, out: &mut Vec<u8>, batch: u64, kind: u8, payload: &[u8]) {
        let start = out.len();
        self.put_head(out, batch, kind, payload.len());
        out.extend_from_slice(payload);
        self.seal(&mut out[start..]);
    }

    /// Appends the head of a filler that covers `bytes` in all; nothing needs to be written behind it.
    pub(super) fn put_filler(&self, out: &mut Vec<u8>, batch: u64, bytes: u64) {
        let start = out.len();
        self.put_head(out, batch, kind::FILLER, bytes as usize - FRAME_BYTES);
        self.seal(&mut out[start..]);
    }

    fn put_head(&self, out: &mut Vec<u8>, batch: u64, kind: u8, len: usize) {
        out.extend_from_slice(&(len as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(batch ^ self.mask).to_le_bytes());
        out.extend_from_slice(&[kind, 0]);
    }

    /// Marks a frame as the last of its batch.
    pub(super) fn end_batch(&self, frame: &mut [u8]) {
        frame[FRAME_BYTES - 1] |= END_OF_BATCH;
        self.seal(frame);
    }

    fn seal(&self, frame: &mut [u8]) {
        let crc = self.crc(frame);
        frame[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// What a frame claims to be, if it could be one with `room` bytes left in the segment. Not checked yet.
    fn claim(&self, head: &[u8], room: u64) -> Option<Frame> {
        let head = head.first_chunk::<FRAME_BYTES>()?;
        let [kind, flags] = [head[16], head[17]];
        let len = u32_at(head, 0);
        let fits = kind == kind::FILLER || len as usize <= RECORD_BYTES_MAX;
        let plausible = kind::is_known(kind) && flags & !END_OF_BATCH == 0 && fits;
        let frame = Frame { batch: u64_at(head, 8) ^ self.mask, kind, ends: flags == END_OF_BATCH, len };
        (plausible && frame.total() <= room).then_some(frame)
    }
}

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) batch: u64,
    pub(super) kind: u8,
    /// Whether it is the last of its batch.
    pub(super) ends: bool,
    len: u32,
}

impl Frame {
    /// Bytes up to the next frame.
    pub(super) fn total(&self) -> u64 {
        FRAME_BYTES as u64 + u64::from(self.len)
    }

    /// Bytes of it that its checksum covers, from its first.
    fn covered(&self) -> usize {
        if self.kind == kind::FILLER { FRAME_BYTES } else { FRAME_BYTES + self.len as usize }
    }
}

/// An open segment, read through a window.
pub(super) struct SegmentFile {
    pub(super) segment: Segment,
    pub(super) path: PathBuf,
    identity: Identity,
    file: fs::File,
    window: Vec<u8>,
    /// Where in the file the window begins.
    window_at: u64,
}

impl SegmentFile {
    pub(super) fn open(directory: &Path, id: &LogId, segment: Segment) -> Result<SegmentFile, LogError> {
        let path = segment.path(directory);
        let file = fs::File::open(&path).map_err(LogError::io("opening", &path))?;
        let identity = Identity::new(id, &segment);
        Ok(SegmentFile { segment, path, identity, file, window: Vec::new(), window_at: 0 })
    }

    /// Up to `want` bytes at `offset`, and nothing at or beyond `limit`: what is written there is not settled yet.
    /// Fewer come at the limit and at the file's end.
    fn view(&mut self, offset: u64, want: usize, limit: u64) -> io::Result<&[u8]> {
        let most = limit.saturating_sub(offset);
        let want = want.min(usize::try_from(most).unwrap_or(usize::MAX));
        let from = offset.checked_sub(self.window_at).unwrap_or(u64::MAX);
        if from.saturating_add(want as u64) > self.window.len() as u64 {
            let fill = want.max(WINDOW_BYTES).min(usize::try_from(most).unwrap_or(usize::MAX));
            self.window.resize(fill, 0);
            self.window_at = offset;
            let read = read_at_most(&self.file, &mut self.window, offset);
            self.window.truncate(*read.as_ref().unwrap_or(&0));
            read?;
        }
        let from = (offset - self.window_at) as usize;
        Ok(&self.window[from..self.window.len().min(from + want)])
    }

    /// The frame at `lsn`, if a whole and sound one stands there and ends at `limit` or before.
    pub(super) fn frame(&mut self, lsn: Lsn, limit: Lsn) -> Result<Option<Frame>, LogError> {
        let offset = lsn.0 - self.segment.first.0;
        let limit = limit.min(self.segment.end()).0 - self.segment.first.0;
        let found = self.sound(offset, limit);
        found.map_err(|error| LogError::io("reading", &self.path)(error))
    }

    fn sound(&mut self, offset: u64, limit: u64) -> io::Result<Option<Frame>> {
        let (identity, room) = (self.identity, limit.saturating_sub(offset));
        let Some(frame) = identity.claim(self.view(offset, FRAME_BYTES, limit)?, room) else { return Ok(None) };
        let covered = frame.covered();
        let bytes = self.view(offset, covered, limit)?;
        let sound = bytes.len() == covered && identity.crc(bytes) == u32_at(bytes, 4);
        Ok(sound.then_some(frame))
    }

    /// The payload of the frame that [`SegmentFile::frame`] has just found at `lsn`.
    pub(super) fn payload(&self, lsn: Lsn, frame: &Frame) -> &[u8] {
        let from = (lsn.0 - self.segment.first.0 - self.window_at) as usize;
        &self.window[from + FRAME_BYTES..from + frame.covered()]
    }

    /// Where a frame of batch `batch` that begins at `lsn` would end, sound or not.
    pub(super) fn claims(&mut self, lsn: Lsn, batch: u64) -> Result<Option<Lsn>, LogError> {
        let (offset, limit, identity) = (lsn.0 - self.segment.first.0, self.segment.bytes, self.identity);
        let head = self.view(offset, FRAME_BYTES, limit).map(|head| identity.claim(head, limit - offset));
        let frame = head.map_err(|error| LogError::io("reading", &self.path)(error))?;
        Ok(frame.filter(|frame| frame.batch == batch).map(|frame| Lsn(lsn.0 + frame.total())))
    }

    /// The first sound frame from `from` on, at whatever byte, of one of these batches.
    pub(super) fn find(&mut self, from: Lsn, batches: &Range<u64>) -> Result<Option<(Lsn, Frame)>, LogError> {
        let limit = self.segment.bytes;
        let (mut offset, identity) = (from.0 - self.segment.first.0, self.identity);
        let found = loop {
            let skip = match self.view(offset, WINDOW_BYTES, limit) {
                Ok(bytes) if bytes.len() < FRAME_BYTES => break Ok(None),
                Ok(bytes) => identity.promising(bytes, limit - offset, batches),
                Err(error) => break Err(error),
            };
            match skip {
                Skip::Nothing(bytes) => offset += bytes,
                Skip::Maybe(bytes) => {
                    offset += bytes;
                    match self.sound(offset, limit) {
                        Ok(Some(frame)) => break Ok(Some((Lsn(self.segment.first.0 + offset), frame))),
                        Ok(None) => offset += 1,
                        Err(error) => break Err(error),
                    }
                }
            }
        };
        found.map_err(|error| LogError::io("reading", &self.path)(error))
    }
}

/// What a search through some bytes found.
enum Skip {
    /// So many of them begin no frame.
    Nothing(u64),
    /// A frame may begin behind so many.
    Maybe(u64),
}

impl Identity {
    /// The first place in `bytes`, with `room` bytes from their start to the segment's end, where a frame could begin.
    fn promising(&self, bytes: &[u8], room: u64, batches: &Range<u64>) -> Skip {
        let heads = bytes.windows(FRAME_BYTES);
        let mut tried = 0;
        for head in heads {
            // Cheap first: most bytes are zeros, or the inside of stale records.
            if kind::is_known(head[16]) && head[17] <= END_OF_BATCH {
                let frame = self.claim(head, room - tried);
                if frame.is_some_and(|frame| batches.contains(&frame.batch)) {
                    return Skip::Maybe(tried);
                }
            }
            tried += 1;
        }
        Skip::Nothing(tried)
    }
}

fn read_at_most(file: &fs::File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The files of a log's directory.
#[derive(Default)]
pub(super) struct Listing {
    /// By name, with their lengths: the first place is in the name.
    pub(super) segments: Vec<Segment>,
    pub(super) spares: Vec<Spare>,
}

/// A file to be used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spare {
    pub(super) number: u64,
    pub(super) bytes: u64,
}

impl Spare {
    pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
        directory.join(format!("spare-{number}.log"))
    }
}

impl Listing {
    /// Lists what is there; files of other names are left alone.
    pub(super) fn of(directory: &Path) -> Result<Listing, LogError> {
        let mut listing = Listing::default();
        let entries = fs::read_dir(directory).map_err(LogError::io("listing", directory))?;
        for entry in entries {
            let entry = entry.map_err(LogError::io("listing", directory))?;
            let name = entry.file_name();
            let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".log")) else { continue };
            // A reader beside the writer may list what is released meanwhile.
            let len = match entry.metadata() {
                Ok(meta) => meta.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(LogError::io("looking at", &entry.path())(error)),
            };
            if let Some(first) = stem.strip_prefix("wal-").and_then(place) {
                listing.segments.push(Segment { first, bytes: len });
            } else if let Some(number) = stem.strip_prefix("spare-").and_then(|number| number.parse().ok()) {
                listing.spares.push(Spare { number, bytes: len });
            }
        }
        listing.segments.sort_by_key(|segment| segment.first);
        Ok(listing)
    }
}

fn place(text: &str) -> Option<Lsn> {
    let hex = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    hex.then(|| u64::from_str_radix(text, 16).ok()).flatten().map(Lsn)
}

/// Reads the header of a listed segment. `Ok(None)`: it is damaged, or does not fit the file's name and length.
pub(super) fn read_header(directory: &Path, segment: &Segment) -> Result<Option<Header>, LogError> {
    let path = segment.path(directory);
    let file = fs::File::open(&path).map_err(LogError::io("opening", &path))?;
    let mut bytes = [0; HEADER_BYTES as usize];
    let read = read_at_most(&file, &mut bytes, 0).map_err(LogError::io("reading", &path))?;
    match Header::decode(&bytes[..read]) {
        Ok(header) => Ok((header.segment == *segment).then_some(header)),
        Err(NoHeader::Version(version)) => Err(LogError::Version { path, version }),
        Err(NoHeader::Damaged) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let segment = Segment { first: Lsn(8192), bytes: 4096 };
        Header { id: *b"0123456789abcdef", segment, checkpoint: Lsn(77) }
    }

    #[test]
    fn a_header_is_read_whole_or_not_at_all() {
        let bytes = header().encode();
        assert_eq!(Header::decode(&bytes), Ok(header()));
        for at in 0..bytes.len() {
            let mut broken = bytes;
            broken[at] ^= 1;
            assert_eq!(Header::decode(&broken), Err(NoHeader::Damaged), "byte {at}");
            assert_eq!(Header::decode(&bytes[..at]), Err(NoHeader::Damaged));
        }
        let mut newer = bytes;
        newer[8] = 2;
        let crc = crc32c::crc32c(&newer[..60]);
        newer[60..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&newer), Err(NoHeader::Version(2)));
    }

    #[test]
    fn every_changed_bit_of_a_frame_shows() {
        let identity = Identity::new(&header().id, &header().segment);
        let mut bytes = Vec::new();
        identity.put_record(&mut bytes, 5, kind::CLEARED, b"payload");
        identity.end_batch(&mut bytes);
        let sound = |bytes: &[u8]| {
            let frame = identity.claim(bytes, 100)?;
            let bytes = bytes.get(..frame.covered())?;
            (identity.crc(bytes) == u32_at(bytes, 4)).then_some(frame)
        };
        assert_eq!(sound(&bytes), Some(Frame { batch: 5, kind: kind::CLEARED, ends: true, len: 7 }));
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(sound(&broken), None, "bit {bit}");
        }
    }

    #[test]
    fn the_same_bytes_never_pass_under_another_segments_seed() {
        let segment = |number: u64| Segment { first: Lsn(number << 12), bytes: 4096 };
        let id = header().id;
        let mut bytes = Vec::new();
        Identity::new(&id, &segment(0)).put_record(&mut bytes, 1, kind::KEPT, &[3; 300]);
        for number in (1..2000).chain([1 << 20, u64::from(u32::MAX)]) {
            let other = Identity::new(&id, &segment(number));
            assert_ne!(other.crc(&bytes), u32_at(&bytes, 4), "segment {number}");
        }
    }

    #[test]
    fn only_names_of_ours_are_places() {
        assert_eq!(place("00000000000000ff"), Some(Lsn(255)));
        for name in ["", "ff", "00000000000000FF", "+0000000000000ff", "00000000000000fg", "000000000000000ff"] {
            assert_eq!(place(name), None, "{name}");
        }
        let segment = header().segment;
        assert_eq!(segment.path(Path::new("/d")), Path::new("/d/wal-0000000000002000.log"));
    }
}
