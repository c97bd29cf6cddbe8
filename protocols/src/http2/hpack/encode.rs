//! Writing field blocks.

use super::static_table::{self, Found, STATIC_LEN};
use super::table::{ENTRY_OVERHEAD_BYTES, Hashes, Table};
use super::{TABLE_BYTES_MAX, huffman, integer};

/// What the dynamic table is to do with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexing {
    /// Remember it: the next time it costs one byte. For what is the same in many messages.
    Index,
    /// Write it out. For what differs from message to message.
    Literal,
    /// Write it out, and let no proxy on the way remember it either. For secrets (RFC 7541 section 7.1.3).
    Never,
}

impl Indexing {
    /// What suits a field, judged by its name.
    pub fn of(name: &str) -> Indexing {
        match name {
            "authorization"
            | "cookie"
            | "set-cookie"
            | "proxy-authorization"
            | "x-api-key"
            | "x-auth-token"
            | "x-csrf-token" => Indexing::Never,
            "content-length" | "content-range" | "date" | "etag" | "expires" | "age" | "last-modified" | "location"
            | "if-none-match" | "if-modified-since" | "range" | "traceparent" | "tracestate" | "x-request-id"
            | "x-forwarded-for" | ":path" => Indexing::Literal,
            _ => Indexing::Index,
        }
    }
}

/// The encoder of one connection. It owns no memory before it remembers something.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    /// Sizes that the peer must be told before the next block: the smallest since then, and the last.
    resized: Option<(usize, usize)>,
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder { table: Table::new(TABLE_BYTES_MAX), resized: None }
    }
}

impl Encoder {
    /// The peer's SETTINGS_HEADER_TABLE_SIZE.
    pub fn set_peer_max(&mut self, size: usize) {
        let size = size.min(TABLE_BYTES_MAX);
        if size == self.table.size_max() && self.resized.is_none() {
            return;
        }
        self.table.resize(size);
        let smallest = self.resized.map_or(size, |(smallest, _)| smallest.min(size));
        self.resized = Some((smallest, size));
    }

    /// Bytes of memory held between blocks.
    pub fn heap_bytes(&self) -> usize {
        self.table.heap_bytes()
    }

    /// Begins a block: to be called once before its first field.
    #[inline]
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some((smallest, last)) = self.resized.take() {
            // Section 4.2: the smallest size in between evicts entries at the peer, too.
            if smallest < last {
                integer::write(out, 0x20, 5, smallest);
            }
            integer::write(out, 0x20, 5, last);
        }
    }

    /// Appends a field; its name in lower case.
    pub fn field(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8], indexing: Indexing) {
        let found = static_table::find(name, value);
        if let Found::Field(index) = found {
            return integer::write(out, 0x80, 7, index);
        }
        // A large one would push many others out.
        let is_large = name.len() + value.len() + ENTRY_OVERHEAD_BYTES > self.table.size_max() / 4;
        if indexing != Indexing::Index || is_large {
            return literal(out, found, name, value, indexing);
        }
        let hashes = Hashes::of(name, value);
        let (same, named) = self.table.find(name, value, hashes);
        if let Some(offset) = same {
            return integer::write(out, 0x80, 7, offset + STATIC_LEN + 1);
        }
        let name_index = match found {
            Found::Name(index) => index,
            _ => named.map_or(0, |offset| offset + STATIC_LEN + 1),
        };
        literal_of(out, 0x40, 6, name_index, name, value);
        self.table.insert_hashed(name, value, hashes);
    }
}

/// Appends a field without use of a dynamic table: the bytes are valid in any block of any connection, and can be kept.
/// The name is in lower case.
pub fn write_static(out: &mut Vec<u8>, name: &[u8], value: &[u8], indexing: Indexing) {
    match static_table::find(name, value) {
        Found::Field(index) => integer::write(out, 0x80, 7, index),
        found => literal(out, found, name, value, indexing),
    }
}

/// A literal that is not to be remembered (section 6.2.2), or never (section 6.2.3).
fn literal(out: &mut Vec<u8>, found: Found, name: &[u8], value: &[u8], indexing: Indexing) {
    let name_index = if let Found::Name(index) = found { index } else { 0 };
    let first = if indexing == Indexing::Never { 0x10 } else { 0x00 };
    literal_of(out, first, 4, name_index, name, value);
}

fn literal_of(out: &mut Vec<u8>, first: u8, prefix: u32, name_index: usize, name: &[u8], value: &[u8]) {
    integer::write(out, first, prefix, name_index);
    if name_index == 0 {
        string(out, name);
    }
    string(out, value);
}

/// A string, in whichever form is shorter.
fn string(out: &mut Vec<u8>, text: &[u8]) {
    let encoded = huffman::encoded_len(text);
    if encoded < text.len() {
        integer::write(out, 0x80, 7, encoded);
        huffman::encode(out, text);
    } else {
        integer::write(out, 0x00, 7, text.len());
        out.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(encoder: &mut Encoder, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        for (name, value) in fields {
            encoder.field(&mut out, name.as_bytes(), value.as_bytes(), Indexing::of(name));
        }
        out
    }

    #[test]
    fn what_comes_again_takes_one_byte() {
        let mut encoder = Encoder::default();
        let fields = [(":status", "200"), ("content-type", "application/json"), ("x-service", "stock")];
        assert!(block(&mut encoder, &fields).len() > 20);
        assert_eq!(block(&mut encoder, &fields), [0x88, 0xbf, 0xbe]);
    }

    #[test]
    fn what_changes_or_is_secret_or_large_is_not_remembered() {
        let mut encoder = Encoder::default();
        let large = "v".repeat(2000);
        block(&mut encoder, &[("content-length", "17"), ("cookie", "a=b"), ("authorization", "x"), ("x", &large)]);
        assert_eq!(encoder.table.get(0), None);
    }

    #[test]
    fn size_changes_are_announced_smallest_first() {
        let mut encoder = Encoder::default();
        block(&mut encoder, &[("a", "b")]);
        encoder.set_peer_max(65_536);
        assert!(block(&mut encoder, &[]).is_empty(), "we keep to our own maximum");
        encoder.set_peer_max(0);
        encoder.set_peer_max(100);
        assert_eq!(block(&mut encoder, &[(":method", "GET")]), [0x20, 0x3f, 0x45, 0x82]);
        assert_eq!(encoder.table.get(0), None);
        encoder.set_peer_max(4096);
        assert_eq!(block(&mut encoder, &[]), [0x3f, 0xe1, 0x1f]);
    }

    #[test]
    fn what_uses_no_table_is_valid_anywhere() {
        let mut kept = Vec::new();
        write_static(&mut kept, b":method", b"GET", Indexing::Index);
        write_static(&mut kept, b"x-own", b"value", Indexing::Index);
        write_static(&mut kept, b"authorization", b"secret", Indexing::Never);
        for _ in 0..2 {
            let fields = super::super::Decoder::default().decode(&kept, 1000, 10).expect("a valid block");
            assert_eq!(
                (fields.get(b"x-own"), fields.get(b"authorization")),
                (Some(&b"value"[..]), Some(&b"secret"[..]))
            );
        }
    }
}
