//! What is logged, and its bytes.
//!
//! ```text
//!   hand-over to the writer   [len u32][kind u8][payload of len bytes]      integers little-endian
//!   payload                   [flags u8][epoch 4][varint …][text …]         text and bytes: [varint len][bytes]
//! ```
//!
//! Numbers that are small most of the time are varints (LEB128, as in Protobuf). A reader borrows everything. Every
//! truncation, and every byte left over, is an error: [`Record::decode`] is the only place where bytes become a record.

use std::fmt;

/// Most bytes of a record's payload; [`write_record`] refuses a longer one, and the publication is refused with it. A
/// message of a client is at most 64 KiB by default and 1 MiB at most; the rest is for names, tags and who it was.
pub const RECORD_BYTES_MAX: usize = (1 << 20) + (64 << 10);

/// What stands in front of a payload in the hand-over: its length and kind.
pub(super) const PREFIX_BYTES: usize = 5;

/// One thing that happened, or that a checkpoint says again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A message got its place in a channel.
    Publication(Publication<'a>),
    /// A checkpoint's word on a message of a channel's history: it was logged before, and is no news to the database.
    Kept(Publication<'a>),
    /// A checkpoint's word on a channel.
    Channel(ChannelState<'a>),
    /// A checkpoint's word on an idempotency key whose publication has left the history.
    Key(KeyState<'a>),
    /// A channel's history was removed.
    Cleared(Cleared<'a>),
    /// One publication of it was.
    Removed(Removed<'a>),
    /// Something was forbidden to a user, or allowed again.
    Sanction(SanctionState<'a>),
    /// A message is about to be given to the broker, which will number it. Its epoch and offset say nothing; its key is
    /// by what it is known. A [`Record::Publication`] or [`Record::Dropped`] with that key ends it.
    Intent(Publication<'a>),
    /// A message of that key was not taken by the broker, and will not be given to it again.
    Dropped(Dropped<'a>),
    /// From here on all shards say their state again. Written by the writer.
    CheckpointBegin {
        /// Rises from checkpoint to checkpoint.
        number: u64,
    },
    /// A shard has said its state. When all have, replay may begin at this checkpoint's begin.
    CheckpointEnd {
        /// The checkpoint.
        number: u64,
        /// The shard.
        shard: u32,
        /// How many shards there are.
        shards: u32,
    },
}

/// A message and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication<'a> {
    /// Its channel.
    pub channel: &'a str,
    /// The channel's epoch.
    pub epoch: [u8; 4],
    /// Its place in the channel, from 1.
    pub offset: u64,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// Its idempotency key, if it came with one.
    pub key: Option<Key>,
    /// Who published it.
    pub user: &'a str,
    /// With which connection; zeros: through the server's API.
    pub client: [u8; 16],
    /// What the connection's token said, as JSON; empty: nothing.
    pub conn_info: &'a [u8],
    /// What the subscription's token said, as JSON; empty: nothing.
    pub chan_info: &'a [u8],
    /// Its tags.
    pub tags: Tags<'a>,
    /// The message.
    pub data: &'a [u8],
    /// Whether `data` is encrypted.
    pub sealed: bool,
    /// Whether `data` (decrypted) is any bytes; else it is JSON.
    pub binary: bool,
}

/// An idempotency key, hashed with its scope, and what it was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Of scope and key.
    pub digest: [u8; 16],
    /// Of the message: the same key with another message is refused.
    pub payload: u64,
}

/// A channel as a checkpoint saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelState<'a> {
    /// Its name.
    pub channel: &'a str,
    /// Its epoch.
    pub epoch: [u8; 4],
    /// The newest offset given out in it.
    pub top: u64,
    /// When it was last used, in milliseconds since 1970.
    pub time_ms: u64,
}

/// An idempotency key as a checkpoint saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyState<'a> {
    /// The channel it was used in.
    pub channel: &'a str,
    /// The key.
    pub key: Key,
    /// The offset that the publication got.
    pub offset: u64,
    /// The epoch of that offset.
    pub epoch: [u8; 4],
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
}

/// A channel's history was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleared<'a> {
    /// The channel.
    pub channel: &'a str,
    /// Its epoch.
    pub epoch: [u8; 4],
    /// The last offset that was removed.
    pub upto: u64,
}

/// A publication was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed<'a> {
    /// Its channel.
    pub channel: &'a str,
    /// The channel's epoch.
    pub epoch: [u8; 4],
    /// Its place.
    pub offset: u64,
}

/// What is forbidden to a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SanctionState<'a> {
    /// To be there; otherwise to publish.
    pub is_ban: bool,
    /// The user.
    pub user: &'a str,
    /// Where; empty: everywhere.
    pub channel: &'a str,
    /// Until when, in Unix seconds; 0: it is forbidden no more.
    pub until: u64,
}

/// What was meant to be published, and was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped<'a> {
    /// The channel.
    pub channel: &'a str,
    /// The intent's key.
    pub key: Key,
}

/// Names and values, encoded: what a publication carries for whom it may concern.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Tags<'a>(&'a [u8]);

impl<'a> Tags<'a> {
    /// Encodes a list, to be kept and handed to [`Tags::new`].
    pub fn encode<'t>(tags: impl IntoIterator<Item = (&'t str, &'t str)>) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in tags {
            put_bytes(&mut out, name.as_bytes());
            put_bytes(&mut out, value.as_bytes());
        }
        out
    }

    /// What [`Tags::encode`] made; `None` when `encoded` is no such thing.
    pub fn new(encoded: &'a [u8]) -> Option<Tags<'a>> {
        let mut cursor = Cursor(encoded);
        while !cursor.0.is_empty() {
            cursor.text()?;
            cursor.text()?;
        }
        Some(Tags(encoded))
    }

    /// The bytes that [`Tags::new`] takes.
    pub fn encoded(&self) -> &'a [u8] {
        self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut cursor = Cursor(self.0);
        // `new` has seen all of it, so this ends at the end and nowhere else.
        std::iter::from_fn(move || Some((cursor.text()?, cursor.text()?)))
    }
}

impl fmt::Debug for Tags<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The record is longer than [`RECORD_BYTES_MAX`]; nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordTooLong {
    /// Its length.
    pub bytes: usize,
}

impl fmt::Display for RecordTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a record of {} bytes does not fit into the log: the most is {RECORD_BYTES_MAX}", self.bytes)
    }
}

impl std::error::Error for RecordTooLong {}

/// The kinds as they are written. Never use a number again for something else.
pub(super) mod kind {
    pub const PUBLICATION: u8 = 1;
    pub const KEPT: u8 = 2;
    pub const CHANNEL: u8 = 3;
    pub const KEY: u8 = 4;
    pub const CLEARED: u8 = 5;
    pub const CHECKPOINT_BEGIN: u8 = 6;
    pub const CHECKPOINT_END: u8 = 7;
    /// Not a record: bytes to be skipped, up to a segment's end or over what was lost.
    pub const FILLER: u8 = 8;

    pub const INTENT: u8 = 9;
    pub const DROPPED: u8 = 10;
    pub const REMOVED: u8 = 11;
    pub const SANCTION: u8 = 12;

    /// Whether something of this kind can stand in a segment.
    pub const fn is_known(kind: u8) -> bool {
        kind >= PUBLICATION && kind <= SANCTION
    }
}

const HAS_KEY: u8 = 1;
const HAS_CLIENT: u8 = 2;
const IS_SEALED: u8 = 4;
const IS_BINARY: u8 = 8;
const FLAGS_KNOWN: u8 = HAS_KEY | HAS_CLIENT | IS_SEALED | IS_BINARY;

/// Appends a record as the writer wants it handed over.
///
/// # Errors
/// [`RecordTooLong`]; `out` is as it was then.
pub fn write_record(out: &mut Vec<u8>, record: &Record<'_>) -> Result<(), RecordTooLong> {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, record.kind()]);
    record.encode(out);
    let bytes = out.len() - start - PREFIX_BYTES;
    if bytes > RECORD_BYTES_MAX {
        out.truncate(start);
        return Err(RecordTooLong { bytes });
    }
    out[start..start + 4].copy_from_slice(&(bytes as u32).to_le_bytes());
    Ok(())
}

/// The first record of a hand-over: its kind, its payload, and what follows. `None`: it is not whole.
pub(super) fn split_record(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (kind, rest) = rest.split_first()?;
    let len = u32::from_le_bytes(*len) as usize;
    let (payload, rest) = rest.split_at_checked(len)?;
    (len <= RECORD_BYTES_MAX).then_some((*kind, payload, rest))
}

impl<'a> Record<'a> {
    pub(super) fn kind(&self) -> u8 {
        match self {
            Record::Publication(_) => kind::PUBLICATION,
            Record::Kept(_) => kind::KEPT,
            Record::Channel(_) => kind::CHANNEL,
            Record::Key(_) => kind::KEY,
            Record::Cleared(_) => kind::CLEARED,
            Record::Removed(_) => kind::REMOVED,
            Record::Sanction(_) => kind::SANCTION,
            Record::Intent(_) => kind::INTENT,
            Record::Dropped(_) => kind::DROPPED,
            Record::CheckpointBegin { .. } => kind::CHECKPOINT_BEGIN,
            Record::CheckpointEnd { .. } => kind::CHECKPOINT_END,
        }
    }

    /// What its kind is called, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Record::Publication(_) => "publication",
            Record::Kept(_) => "kept",
            Record::Channel(_) => "channel",
            Record::Key(_) => "key",
            Record::Cleared(_) => "cleared",
            Record::Removed(_) => "removed",
            Record::Sanction(_) => "sanction",
            Record::Intent(_) => "intent",
            Record::Dropped(_) => "dropped",
            Record::CheckpointBegin { .. } => "checkpoint begin",
            Record::CheckpointEnd { .. } => "checkpoint end",
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Record::Publication(publication) | Record::Kept(publication) | Record::Intent(publication) => {
                publication.encode(out);
            }
            Record::Dropped(Dropped { channel, key }) => {
                put_key(out, key);
                put_bytes(out, channel.as_bytes());
            }
            Record::Channel(ChannelState { channel, epoch, top, time_ms }) => {
                out.extend_from_slice(epoch);
                put_varint(out, *top);
                put_varint(out, *time_ms);
                put_bytes(out, channel.as_bytes());
            }
            Record::Key(KeyState { channel, key, offset, epoch, time_ms }) => {
                out.extend_from_slice(epoch);
                put_varint(out, *offset);
                put_varint(out, *time_ms);
                put_key(out, key);
                put_bytes(out, channel.as_bytes());
            }
            Record::Cleared(Cleared { channel, epoch, upto }) => {
                out.extend_from_slice(epoch);
                put_varint(out, *upto);
                put_bytes(out, channel.as_bytes());
            }
            Record::Removed(Removed { channel, epoch, offset }) => {
                out.extend_from_slice(epoch);
                put_varint(out, *offset);
                put_bytes(out, channel.as_bytes());
            }
            Record::Sanction(SanctionState { is_ban, user, channel, until }) => {
                out.push(u8::from(*is_ban));
                put_varint(out, *until);
                put_bytes(out, user.as_bytes());
                put_bytes(out, channel.as_bytes());
            }
            Record::CheckpointBegin { number } => put_varint(out, *number),
            Record::CheckpointEnd { number, shard, shards } => {
                put_varint(out, *number);
                put_varint(out, u64::from(*shard));
                put_varint(out, u64::from(*shards));
            }
        }
    }

    /// Reads a payload. `None`: it is not one of this kind, whole and nothing more.
    pub fn decode(kind: u8, payload: &'a [u8]) -> Option<Record<'a>> {
        let mut cursor = Cursor(payload);
        let record = match kind {
            kind::PUBLICATION => Record::Publication(Publication::decode(&mut cursor)?),
            kind::KEPT => Record::Kept(Publication::decode(&mut cursor)?),
            kind::CHANNEL => Record::Channel(ChannelState {
                epoch: cursor.array()?,
                top: cursor.varint()?,
                time_ms: cursor.varint()?,
                channel: cursor.text()?,
            }),
            kind::KEY => Record::Key(KeyState {
                epoch: cursor.array()?,
                offset: cursor.varint()?,
                time_ms: cursor.varint()?,
                key: cursor.key()?,
                channel: cursor.text()?,
            }),
            kind::CLEARED => {
                Record::Cleared(Cleared { epoch: cursor.array()?, upto: cursor.varint()?, channel: cursor.text()? })
            }
            kind::REMOVED => {
                Record::Removed(Removed { epoch: cursor.array()?, offset: cursor.varint()?, channel: cursor.text()? })
            }
            kind::SANCTION => Record::Sanction(SanctionState {
                is_ban: match cursor.array()? {
                    [0] => false,
                    [1] => true,
                    _ => return None,
                },
                until: cursor.varint()?,
                user: cursor.text()?,
                channel: cursor.text()?,
            }),
            kind::INTENT => Record::Intent(Publication::decode(&mut cursor)?),
            kind::DROPPED => Record::Dropped(Dropped { key: cursor.key()?, channel: cursor.text()? }),
            kind::CHECKPOINT_BEGIN => Record::CheckpointBegin { number: cursor.varint()? },
            kind::CHECKPOINT_END => Record::CheckpointEnd {
                number: cursor.varint()?,
                shard: u32::try_from(cursor.varint()?).ok()?,
                shards: u32::try_from(cursor.varint()?).ok()?,
            },
            _ => return None,
        };
        cursor.0.is_empty().then_some(record)
    }
}

impl<'a> Publication<'a> {
    /// Its bytes alone, as they are in a record: what other nodes are told.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.data.len() + self.channel.len() + 64);
        self.encode(&mut out);
        out
    }

    /// Reads what [`Publication::to_bytes`] made. `None`: it is none, whole and nothing more.
    pub fn of_bytes(bytes: &'a [u8]) -> Option<Publication<'a>> {
        let mut cursor = Cursor(bytes);
        Publication::decode(&mut cursor).filter(|_| cursor.0.is_empty())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let has_client = self.client != [0; 16];
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        out.push(
            flag(self.key.is_some(), HAS_KEY)
                | flag(has_client, HAS_CLIENT)
                | flag(self.sealed, IS_SEALED)
                | flag(self.binary, IS_BINARY),
        );
        out.extend_from_slice(&self.epoch);
        put_varint(out, self.offset);
        put_varint(out, self.time_ms);
        if let Some(key) = &self.key {
            put_key(out, key);
        }
        if has_client {
            out.extend_from_slice(&self.client);
        }
        for bytes in [self.channel.as_bytes(), self.user.as_bytes(), self.conn_info, self.chan_info] {
            put_bytes(out, bytes);
        }
        put_bytes(out, self.tags.0);
        put_bytes(out, self.data);
    }

    fn decode(cursor: &mut Cursor<'a>) -> Option<Publication<'a>> {
        let [flags] = cursor.array()?;
        if flags & !FLAGS_KNOWN != 0 {
            return None;
        }
        let (epoch, offset, time_ms) = (cursor.array()?, cursor.varint()?, cursor.varint()?);
        let key = if flags & HAS_KEY != 0 { Some(cursor.key()?) } else { None };
        let client = if flags & HAS_CLIENT != 0 { cursor.array()? } else { [0; 16] };
        Some(Publication {
            epoch,
            offset,
            time_ms,
            key,
            client,
            channel: cursor.text()?,
            user: cursor.text()?,
            conn_info: cursor.bytes()?,
            chan_info: cursor.bytes()?,
            tags: Tags::new(cursor.bytes()?)?,
            data: cursor.bytes()?,
            sealed: flags & IS_SEALED != 0,
            binary: flags & IS_BINARY != 0,
        })
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_key(out: &mut Vec<u8>, key: &Key) {
    out.extend_from_slice(&key.digest);
    out.extend_from_slice(&key.payload.to_le_bytes());
}

/// Takes from the front of a payload.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    /// At most ten bytes, and no bits beyond 64.
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.varint()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn key(&mut self) -> Option<Key> {
        Some(Key { digest: self.array()?, payload: u64::from_le_bytes(self.array()?) })
    }
}

/// All records of a hand-over, for tests of those who hand over.
#[cfg(test)]
pub fn split_hand_over(mut bytes: &[u8]) -> Option<Vec<Record<'_>>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (kind, payload, rest) = split_record(bytes)?;
        records.push(Record::decode(kind, payload)?);
        bytes = rest;
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(tags: &[u8]) -> Publication<'_> {
        Publication {
            channel: "room:één",
            epoch: *b"abcd",
            offset: 300,
            time_ms: 1_790_000_000_000,
            key: Some(Key { digest: [7; 16], payload: u64::MAX }),
            user: "42",
            client: [9; 16],
            conn_info: b"{\"name\":\"x\"}",
            chan_info: b"",
            tags: Tags::new(tags).unwrap(),
            data: b"{\"text\":\"hello\"}",
            sealed: true,
            binary: false,
        }
    }

    fn examples(tags: &[u8]) -> Vec<Record<'_>> {
        let full = publication(tags);
        let bare = Publication {
            key: None,
            client: [0; 16],
            user: "",
            tags: Tags::default(),
            data: &[0, 255],
            sealed: false,
            binary: true,
            ..full.clone()
        };
        let key = Key { digest: [1; 16], payload: 2 };
        vec![
            Record::Publication(full.clone()),
            Record::Publication(bare.clone()),
            Record::Kept(full),
            Record::Kept(bare),
            Record::Channel(ChannelState { channel: "c", epoch: *b"wxyz", top: u64::MAX, time_ms: 0 }),
            Record::Key(KeyState { channel: "c", key, offset: 127, epoch: *b"wxyz", time_ms: 128 }),
            Record::Cleared(Cleared { channel: "c", epoch: *b"wxyz", upto: 1 << 40 }),
            Record::Removed(Removed { channel: "c", epoch: *b"wxyz", offset: 300 }),
            Record::Sanction(SanctionState { is_ban: true, user: "ann", channel: "", until: u64::MAX }),
            Record::Intent(Publication { epoch: [0; 4], offset: 0, ..publication(tags) }),
            Record::Dropped(Dropped { channel: "c", key }),
            Record::CheckpointBegin { number: 3 },
            Record::CheckpointEnd { number: 3, shard: u32::MAX, shards: 2 },
        ]
    }

    #[test]
    fn what_is_written_is_read_and_no_part_of_it_is_read() {
        let tags = Tags::encode([("lang", "nl"), ("", "empty name"), ("x", "")]);
        for record in examples(&tags) {
            let mut out = b"before".to_vec();
            write_record(&mut out, &record).unwrap();
            let (kind, payload, rest) = split_record(&out[6..]).unwrap();
            assert!(rest.is_empty());
            assert_eq!(Record::decode(kind, payload), Some(record.clone()));
            for len in 0..payload.len() {
                assert_eq!(Record::decode(kind, &payload[..len]), None, "{record:?} cut to {len}");
            }
            assert_eq!(Record::decode(kind, &[payload, b"x"].concat()), None, "{record:?} and a byte more");
            for len in 6..out.len() {
                assert!(split_record(&out[6..len]).is_none());
            }
        }
    }

    #[test]
    fn tags_come_back_in_order() {
        let list = [("a", "1"), ("b", ""), ("a", "2")];
        let encoded = Tags::encode(list);
        let tags = Tags::new(&encoded).unwrap();
        assert_eq!(tags.iter().collect::<Vec<_>>(), list);
        assert!(!tags.is_empty() && Tags::default().is_empty());
        assert_eq!(tags.encoded(), encoded);
        assert!(Tags::new(&encoded[..encoded.len() - 1]).is_none());
        assert!(Tags::new(&[1, 0xff, 0]).is_none(), "a name is UTF-8");
    }

    #[test]
    fn a_record_that_is_too_long_leaves_nothing_behind() {
        let data = vec![b'x'; RECORD_BYTES_MAX];
        let mut out = b"before".to_vec();
        let record = Record::Publication(Publication { data: &data, ..publication(&[]) });
        assert!(write_record(&mut out, &record).unwrap_err().bytes > RECORD_BYTES_MAX);
        assert_eq!(out, b"before");
        let record = Record::Publication(Publication { data: &data[..RECORD_BYTES_MAX - 200], ..publication(&[]) });
        assert!(write_record(&mut out, &record).is_ok());
    }

    #[test]
    fn bytes_of_all_kinds_are_read_or_refused_without_a_panic() {
        let mut random = annulus_engine::driver::sim::Random::new(1);
        let tags = Tags::encode([("lang", "nl")]);
        let (mut read, mut refused) = (0, 0);
        for record in examples(&tags) {
            let mut out = Vec::new();
            write_record(&mut out, &record).unwrap();
            for _ in 0..2000 {
                let mut bytes = out[PREFIX_BYTES..].to_vec();
                let at = random.below(bytes.len());
                bytes[at] = random.bits() as u8;
                match Record::decode(random.below(14) as u8, &bytes) {
                    // What is read is written the same again, but for varints that were not the shortest.
                    Some(record) => {
                        let mut again = Vec::new();
                        write_record(&mut again, &record).unwrap();
                        assert!(again.len() <= bytes.len() + PREFIX_BYTES);
                        read += 1;
                    }
                    None => refused += 1,
                }
            }
        }
        assert!(read > 100 && refused > 100, "{read} {refused}");
        assert_eq!(Record::decode(kind::CHECKPOINT_BEGIN, &[0xff; 9]), None);
        assert_eq!(Record::decode(kind::CHECKPOINT_BEGIN, &[255, 255, 255, 255, 255, 255, 255, 255, 255, 2]), None);
    }
}
