//! A publication on its way from the log to a database, and an arena of them.
//!
//! ```text
//!   Row (borrowed, as the log has it) ──push──► Rows (one buffer, one entry per row) ──get──► Stored (as tables have it)
//! ```
//!
//! A batch is one `Rows`: two allocations, however many rows, and it moves between threads as a whole.

/// A publication as the log gives it, but for its tags, which [`Rows::push`] takes beside it, and its idempotency key,
/// which is the log's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row<'a> {
    /// Where the log goes on behind it: everything below this place is this row and those before it. Rises from row to row.
    pub lsn: u64,
    /// Its channel.
    pub channel: &'a str,
    /// Its channel's epoch: four letters.
    pub epoch: [u8; 4],
    /// Its place in the channel's history.
    pub offset: u64,
    /// When it was published, in milliseconds since 1970.
    pub time_ms: u64,
    /// Who published it; empty: nobody, or the server.
    pub user: &'a str,
    /// The connection that published it; zero: the server.
    pub client: [u8; 16],
    /// What the connection's token said of it.
    pub conn_info: &'a [u8],
    /// What the subscription's token said of it.
    pub chan_info: &'a [u8],
    /// What was published.
    pub data: &'a [u8],
    /// `data` is encrypted.
    pub sealed: bool,
    /// `data`, once opened, is bytes; otherwise it is a JSON text.
    pub binary: bool,
}

/// A publication as tables have it: its tags are a JSON object by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    /// See [`Row::channel`].
    pub channel: &'a str,
    /// See [`Row::epoch`].
    pub epoch: [u8; 4],
    /// See [`Row::offset`].
    pub offset: u64,
    /// See [`Row::time_ms`].
    pub time_ms: u64,
    /// See [`Row::user`].
    pub user: &'a str,
    /// See [`Row::client`].
    pub client: [u8; 16],
    /// See [`Row::conn_info`].
    pub conn_info: &'a [u8],
    /// See [`Row::chan_info`].
    pub chan_info: &'a [u8],
    /// A JSON object of texts; empty without tags.
    pub tags: &'a str,
    /// See [`Row::data`].
    pub data: &'a [u8],
    /// See [`Row::sealed`].
    pub sealed: bool,
    /// See [`Row::binary`].
    pub binary: bool,
}

/// What the arena notes of a row beside its bytes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    lsn: u64,
    offset: u64,
    time_ms: u64,
    epoch: [u8; 4],
    client: [u8; 16],
    sealed: bool,
    binary: bool,
    start: usize,
    /// Lengths of channel, user, conn_info, chan_info, tags and data, which lie one behind the other.
    lens: [usize; PIECES],
}

const PIECES: usize = 6;

/// Rows in log order, copied once into one buffer.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    rows_max: usize,
    bytes_max: usize,
}

impl Rows {
    /// An arena that calls itself full at `rows_max` rows or `bytes_max` bytes. A row always fits: what comes last may go
    /// beyond.
    pub fn new(rows_max: usize, bytes_max: usize) -> Rows {
        Rows { bytes: Vec::new(), entries: Vec::new(), rows_max, bytes_max }
    }

    /// Copies a row in, with its tags: names and values.
    pub fn push<'t>(&mut self, row: &Row<'_>, tags: impl IntoIterator<Item = (&'t str, &'t str)>) {
        let start = self.bytes.len();
        let mut lens = [0; PIECES];
        let pieces = [row.channel.as_bytes(), row.user.as_bytes(), row.conn_info, row.chan_info];
        for (len, piece) in lens.iter_mut().zip(pieces) {
            *len = piece.len();
            self.bytes.extend_from_slice(piece);
        }
        let before = self.bytes.len();
        write_tags(tags, &mut self.bytes);
        lens[4] = self.bytes.len() - before;
        self.bytes.extend_from_slice(row.data);
        lens[5] = row.data.len();
        let Row { lsn, offset, time_ms, epoch, client, sealed, binary, .. } = *row;
        self.entries.push(Entry { lsn, offset, time_ms, epoch, client, sealed, binary, start, lens });
    }

    /// Copies a row of another arena in.
    pub(super) fn push_from(&mut self, other: &Rows, index: usize) {
        let entry = other.entries[index];
        let len: usize = entry.lens.iter().sum();
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes[entry.start..entry.start + len]);
        self.entries.push(Entry { start, ..entry });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that it holds, entries included.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.entries.len() * size_of::<Entry>()
    }

    /// Whether a source should stop pushing.
    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.rows_max || self.bytes() >= self.bytes_max
    }

    /// Forgets all rows and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    /// Where the log goes on behind the row.
    ///
    /// # Panics
    /// When there is no such row, as with all that take an index.
    pub fn lsn(&self, index: usize) -> u64 {
        self.entries[index].lsn
    }

    /// The row as tables have it.
    pub fn get(&self, index: usize) -> Stored<'_> {
        let Entry { offset, time_ms, epoch, client, sealed, binary, .. } = self.entries[index];
        let (channel, user, tags) = (self.text(index, 0), self.text(index, 1), self.text(index, 4));
        let (conn_info, chan_info, data) = (self.piece(index, 2), self.piece(index, 3), self.piece(index, 5));
        Stored { channel, epoch, offset, time_ms, user, client, conn_info, chan_info, tags, data, sealed, binary }
    }

    /// All rows.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Stored<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }

    fn piece(&self, index: usize, piece: usize) -> &[u8] {
        let Entry { start, lens, .. } = &self.entries[index];
        let from = start + lens[..piece].iter().sum::<usize>();
        &self.bytes[from..from + lens[piece]]
    }

    fn text(&self, index: usize, piece: usize) -> &str {
        std::str::from_utf8(self.piece(index, piece)).expect("it was copied from a text")
    }
}

/// Tags as a JSON object; nothing at all without tags.
fn write_tags<'t>(tags: impl IntoIterator<Item = (&'t str, &'t str)>, out: &mut Vec<u8>) {
    let start = out.len();
    for (name, value) in tags {
        out.push(if out.len() == start { b'{' } else { b',' });
        write_json_text(name, out);
        out.push(b':');
        write_json_text(value, out);
    }
    if out.len() > start {
        out.push(b'}');
    }
}

/// A JSON string (RFC 8259 section 7): quotes, backslashes and control characters escaped, everything else as it is.
pub(super) fn write_json_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_out_as_it_went_in() {
        let mut rows = Rows::new(10, 1000);
        let row = Row {
            lsn: 7,
            channel: "news",
            epoch: *b"abcd",
            offset: 3,
            time_ms: 99,
            user: "ü",
            client: [1; 16],
            conn_info: b"{}",
            chan_info: b"[]",
            data: b"\x00\xff",
            sealed: true,
            binary: true,
        };
        rows.push(&Row { lsn: 6, channel: "other", ..Row::default() }, []);
        rows.push(&row, [("a", "b\"\n"), ("c", "")]);
        let mut again = Rows::new(10, 1000);
        again.push_from(&rows, 1);
        for (rows, index) in [(&rows, 1), (&again, 0)] {
            let stored = rows.get(index);
            assert_eq!(rows.lsn(index), 7);
            assert_eq!((stored.channel, stored.user, stored.tags), ("news", "ü", r#"{"a":"b\"\u000a","c":""}"#));
            assert_eq!((stored.conn_info, stored.chan_info), (&b"{}"[..], &b"[]"[..]));
            assert_eq!((stored.data, stored.sealed, stored.binary), (&b"\x00\xff"[..], true, true));
            assert_eq!((stored.epoch, stored.offset, stored.time_ms, stored.client), (*b"abcd", 3, 99, [1; 16]));
        }
        assert_eq!(rows.get(0).tags, "");
    }

    #[test]
    fn it_is_full_by_rows_and_by_bytes() {
        let mut rows = Rows::new(2, 1 << 20);
        rows.push(&Row::default(), []);
        assert!(!rows.is_full());
        rows.push(&Row::default(), []);
        assert!(rows.is_full());
        let mut rows = Rows::new(100, 1000);
        rows.push(&Row { data: &[0; 999], ..Row::default() }, []);
        assert!(rows.is_full() && rows.len() == 1);
        rows.clear();
        assert!(rows.is_empty() && !rows.is_full());
    }
}
