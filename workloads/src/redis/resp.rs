//! The protocol's bytes: commands out, replies in.
//!
//! ```text
//!   bytes ─► Inbound: how long is the next reply, and may it be? ─► redis-protocol ─► Value
//! ```
//!
//! The scanner comes first, because a reply is a claim until it has passed the limits: the codec would recurse as deep and
//! collect as much as a peer likes, and it starts anew with every piece that arrives. What is incomplete is looked at once.
//! RESP3's streamed types and a server's `HELLO` are refused: no Redis sends them to who did not ask.

use bytes::Bytes;
use redis_protocol::{resp2, resp3};

use super::value::{self, Value};

/// Longest reply that is believed, in bytes: a page of a channel's history, with room. Beyond, the connection is given up.
pub const REPLY_BYTES_MAX: usize = 64 << 20;
/// Values in one reply at most, those within others included.
const REPLY_VALUES_MAX: usize = 1 << 20;
/// How deep values may lie within others.
const DEPTH_MAX: usize = 16;
/// Longest word, number or error, in bytes.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Bytes that were read are given back to the buffer's front beyond this many.
const COMPACT_BYTES_MIN: usize = 64 << 10;
/// A buffer that has grown beyond this is given back when it is empty.
const KEEP_BYTES_MAX: usize = 256 << 10;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// What all servers speak.
    Resp2,
    /// Redis 6 and later.
    Resp3,
}

/// A reply.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    /// The answer to the oldest command that has none.
    Answer(Value),
    /// What nobody asked for (RESP3 only).
    Push(Vec<Value>),
}

/// Appends a command's head: how many parts follow.
pub(super) fn write_count(out: &mut Vec<u8>, parts: usize) {
    write_length(out, b'*', parts);
}

/// Appends a part of a command.
pub(super) fn write_part(out: &mut Vec<u8>, part: &[u8]) {
    write_length(out, b'$', part.len());
    out.extend_from_slice(part);
    out.extend_from_slice(b"\r\n");
}

/// Appends a command.
pub(super) fn write_command<P: AsRef<[u8]>>(out: &mut Vec<u8>, parts: &[P]) {
    write_count(out, parts.len());
    parts.iter().for_each(|part| write_part(out, part.as_ref()));
}

fn write_length(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    let (mut digits, mut at, mut rest) = ([0; 20], 20, length);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Bytes of a server on their way to be replies.
pub(super) struct Inbound {
    version: Version,
    bytes: Vec<u8>,
    /// Where the next reply begins.
    from: usize,
    scan: Scan,
}

impl Inbound {
    /// Nothing yet, in the version that every server speaks.
    pub(super) fn new() -> Inbound {
        Inbound { version: Version::Resp2, bytes: Vec::new(), from: 0, scan: Scan::default() }
    }

    /// The server agreed on another version. Its answer to that is in the new one already.
    pub(super) fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// What was agreed on.
    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// Takes what was received.
    pub(super) fn recv_bytes(&mut self, bytes: &[u8]) {
        if self.from >= COMPACT_BYTES_MIN {
            self.bytes.drain(..self.from);
            self.from = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next reply, if it is whole.
    ///
    /// # Errors
    /// A sentence: it is none, or larger than is believed. The connection cannot be read further.
    pub(super) fn next_reply(&mut self) -> Result<Option<Reply>, String> {
        let Some(length) = self.scan.next(&self.bytes[self.from..], self.version)? else {
            return Ok(None);
        };
        let until = self.from + length;
        let reply = Bytes::copy_from_slice(&self.bytes[self.from..until]);
        self.from = until;
        if self.from == self.bytes.len() {
            self.from = 0;
            self.bytes.clear();
            if self.bytes.capacity() > KEEP_BYTES_MAX {
                self.bytes = Vec::new();
            }
        }
        decode(&reply, self.version).map(Some)
    }
}

fn decode(reply: &Bytes, version: Version) -> Result<Reply, String> {
    let wrong = |error: redis_protocol::error::RedisProtocolError| format!("a reply that is none ({error})");
    let short = || "a reply that is shorter than it says".to_owned();
    match version {
        Version::Resp2 => {
            let decoded = resp2::decode::decode_range(reply).map_err(wrong)?;
            let (frame, _length) = decoded.ok_or_else(short)?;
            Ok(Reply::Answer(value::of_resp2(reply, frame)))
        }
        Version::Resp3 => {
            let decoded = resp3::decode::complete::decode_range(reply).map_err(wrong)?;
            let (frame, _length) = decoded.ok_or_else(short)?;
            let is_push = matches!(frame, resp3::types::RangeFrame::Push { .. });
            Ok(match value::of_resp3(reply, frame) {
                Value::List(values) if is_push => Reply::Push(values),
                value => Reply::Answer(value),
            })
        }
    }
}

/// How far the next reply was looked at.
#[derive(Default)]
struct Scan {
    /// Bytes behind which everything is still to be looked at; always the beginning of a value.
    at: usize,
    /// Values that are still missing, of the outermost list first.
    missing: Vec<usize>,
    /// Values within the reply, those that have not come yet included.
    claimed: usize,
}

impl Scan {
    /// The length of the reply that `bytes` begins with, if it is whole.
    fn next(&mut self, bytes: &[u8], version: Version) -> Result<Option<usize>, String> {
        loop {
            let Some((length, children)) = head(&bytes[self.at..], version)? else {
                return match bytes.len() {
                    0..=REPLY_BYTES_MAX => Ok(None),
                    _ => Err(too_long()),
                };
            };
            self.at += length;
            self.claimed = self.claimed.saturating_add(children);
            if self.at > REPLY_BYTES_MAX {
                return Err(too_long());
            }
            if self.claimed > REPLY_VALUES_MAX {
                return Err(format!("a reply of more than {REPLY_VALUES_MAX} values"));
            }
            if children > 0 {
                if self.missing.len() == DEPTH_MAX {
                    return Err(format!("a reply with values more than {DEPTH_MAX} deep"));
                }
                self.missing.push(children);
                continue;
            }
            while let Some(last) = self.missing.last_mut() {
                *last -= 1;
                if *last > 0 {
                    break;
                }
                self.missing.pop();
            }
            if self.missing.is_empty() {
                let whole = self.at;
                *self = Scan { missing: std::mem::take(&mut self.missing), ..Scan::default() };
                return Ok(Some(whole));
            }
        }
    }
}

fn too_long() -> String {
    format!("a reply of more than {REPLY_BYTES_MAX} bytes")
}

/// How many bytes the value in front takes without those within it, and how many are within it.
fn head(bytes: &[u8], version: Version) -> Result<Option<(usize, usize)>, String> {
    let Some(&kind) = bytes.first() else { return Ok(None) };
    let is_known = match version {
        Version::Resp2 => b"+-:$*".contains(&kind),
        Version::Resp3 => b"+-:$*_,#!=(~%>".contains(&kind),
    };
    if !is_known {
        return Err(format!("a reply that begins with byte {kind:#04x}"));
    }
    let within = &bytes[1..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', within) else {
        return match within.len() {
            whole if whole + 1 >= LINE_BYTES_MAX => Err(format!("a line of more than {LINE_BYTES_MAX} bytes")),
            _ => Ok(None),
        };
    };
    let Some(line) = within[..end].strip_suffix(b"\r") else {
        return Err("a line that does not end in CR LF".to_owned());
    };
    let line_bytes = 1 + end + 1;
    match kind {
        b'$' | b'!' | b'=' => match length(line, version)? {
            None => Ok(Some((line_bytes, 0))),
            Some(length) if length > REPLY_BYTES_MAX => Err(too_long()),
            Some(length) if kind == b'=' && length < 4 => Err("a verbatim text without its kind".to_owned()),
            Some(length) => {
                let whole = line_bytes + length + 2;
                match bytes.get(whole - 2..whole) {
                    None => Ok(None),
                    Some(b"\r\n") => Ok(Some((whole, 0))),
                    Some(_) => Err("a text that is longer than it says".to_owned()),
                }
            }
        },
        b'*' | b'~' | b'>' => Ok(Some((line_bytes, length(line, version)?.unwrap_or(0)))),
        b'%' => Ok(Some((line_bytes, length(line, version)?.unwrap_or(0).saturating_mul(2)))),
        _ => Ok(Some((line_bytes, 0))),
    }
}

/// The length in a line; `None` for RESP2's -1, which says that nothing is there.
fn length(line: &[u8], version: Version) -> Result<Option<usize>, String> {
    if line == b"-1" && version == Version::Resp2 {
        return Ok(None);
    }
    let is_number = (1..=10).contains(&line.len()) && line.iter().all(u8::is_ascii_digit);
    if !is_number {
        return Err("a length that is none".to_owned());
    }
    Ok(Some(line.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESP2: &[u8] =
        b"+OK\r\n-ERR no such thing\r\n:-12\r\n$5\r\nhe\r\no\r\n$-1\r\n*-1\r\n*0\r\n*2\r\n*1\r\n:1\r\n$0\r\n\r\n";
    const RESP3: &[u8] =
        b"%1\r\n$3\r\nkey\r\n*2\r\n_\r\n#t\r\n,1.5\r\n~1\r\n:7\r\n>3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n\
                           =8\r\ntxt:okay\r\n(123456789012345678901234567890\r\n!9\r\nERR wrong\r\n%0\r\n,inf\r\n";

    fn read(version: Version, pieces: &[&[u8]]) -> Result<Vec<Reply>, String> {
        let (mut inbound, mut replies) = (Inbound::new(), Vec::new());
        inbound.set_version(version);
        for piece in pieces {
            inbound.recv_bytes(piece);
            while let Some(reply) = inbound.next_reply()? {
                replies.push(reply);
            }
        }
        Ok(replies)
    }

    fn bytes(text: &'static str) -> Value {
        Value::Bytes(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn commands_are_lists_of_counted_texts() {
        let mut out = Vec::new();
        write_command(&mut out, &["SET", "key", "", "a long value"]);
        assert_eq!(out, b"*4\r\n$3\r\nSET\r\n$3\r\nkey\r\n$0\r\n\r\n$12\r\na long value\r\n");
    }

    #[test]
    fn both_versions_are_read_whole_or_byte_by_byte() {
        let error = Value::Error { code: "ERR".to_owned(), message: "no such thing".to_owned() };
        let list = Value::List(vec![Value::List(vec![Value::Int(1)]), bytes("")]);
        let ok = Value::Text("OK".to_owned());
        let nil = || Value::Nil;
        let two = [ok, error, Value::Int(-12), bytes("he\r\no"), nil(), nil(), Value::List(vec![]), list];
        let three = [
            Value::Map(vec![(bytes("key"), Value::List(vec![Value::Nil, Value::Bool(true)]))]),
            Value::Double(1.5),
            Value::List(vec![Value::Int(7)]),
            bytes("okay"),
            bytes("123456789012345678901234567890"),
            Value::Error { code: "ERR".to_owned(), message: "wrong".to_owned() },
            Value::Map(vec![]),
            Value::Double(f64::INFINITY),
        ];
        let push = Reply::Push(vec![bytes("message"), bytes("a"), bytes("b")]);
        let mut three: Vec<Reply> = three.into_iter().map(Reply::Answer).collect();
        three.insert(3, push);
        let two: Vec<Reply> = two.into_iter().map(Reply::Answer).collect();
        for (version, wire, expected) in [(Version::Resp2, RESP2, two), (Version::Resp3, RESP3, three)] {
            assert_eq!(read(version, &[wire]).unwrap(), expected);
            assert_eq!(read(version, &wire.chunks(1).collect::<Vec<_>>()).unwrap(), expected);
            assert_eq!(read(version, &wire.chunks(7).collect::<Vec<_>>()).unwrap(), expected);
        }
    }

    #[test]
    fn claims_beyond_reason_end_the_connection() {
        let deep = "*1\r\n".repeat(DEPTH_MAX + 1);
        let long = "x".repeat(LINE_BYTES_MAX);
        let cases: [(&str, &str); 16] = [
            ("$67108865\r\n", "67108864 bytes"),
            ("*1048577\r\n", "1048576 values"),
            ("%600000\r\n", "1048576 values"),
            (&deep, "16 deep"),
            ("$99999999999999999999\r\n", "length that is none"),
            ("*\r\n", "length that is none"),
            ("$-2\r\n", "length that is none"),
            ("$-1\r\n", "length that is none"),
            ("*?\r\n", "length that is none"),
            ("=3\r\ntxt\r\n", "without its kind"),
            ("$1\r\nabc", "longer than it says"),
            ("+OK\n", "CR LF"),
            ("HELLO 3\r\n", "0x48"),
            (";4\r\n", "0x3b"),
            ("|1\r\n", "0x7c"),
            (&long, "begins with byte"),
        ];
        for (wire, what) in cases {
            let error = read(Version::Resp3, &[wire.as_bytes()]).unwrap_err();
            assert!(error.contains(what), "{wire:.40}: {error}");
        }
        let endless = format!("+{long}");
        assert!(read(Version::Resp2, &[endless.as_bytes()]).unwrap_err().contains("line of more than"));
        assert!(read(Version::Resp2, &[b"%1\r\n"]).unwrap_err().contains("0x25"));
        // Lists that are within the limit alone and not together.
        let lists = |inner: usize| format!("*1000000\r\n*{inner}\r\n");
        assert_eq!(read(Version::Resp2, &[lists(48_576).as_bytes()]).unwrap(), []);
        assert!(read(Version::Resp2, &[lists(48_577).as_bytes()]).unwrap_err().contains("values"));
    }

    #[test]
    fn no_bytes_panic() {
        let mut random = 1u64;
        for round in 0..10_000 {
            let (version, wire) = if round % 2 == 0 { (Version::Resp2, RESP2) } else { (Version::Resp3, RESP3) };
            let mut bytes = wire.to_vec();
            for _ in 0..3 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (random >> 33) as usize % bytes.len();
                bytes[at] = if round % 3 == 0 {
                    b"0123456789-+:$*_,#!=(~%>|\r\n"[(random >> 24) as usize % 27]
                } else {
                    (random >> 24) as u8
                };
            }
            let whole = read(version, &[&bytes]);
            let pieces = read(version, &bytes.chunks(5).collect::<Vec<_>>());
            // What a Double cannot be compared with is compared as text.
            assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
        }
    }
}
