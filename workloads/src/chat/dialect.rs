//! How a client is spoken to: what carries it, in which codec, and what a message looks like on its wire.
//!
//! ```text
//! WebSocket      frame header, message                   a message may be several lines or records
//! HTTP stream    message, line end  |  message           JSON | Protobuf: a line each, or a length in front of each
//! event stream   "data: ", line, two line ends           JSON: an event for each line
//! ```
//!
//! The two streams end when their connection does, and nothing is around their parts: what is told to many is the same bytes
//! for all of one dialect, whichever version of HTTP they came with.

use annulus_protocols::centrifuge::Codec;
use annulus_protocols::websocket::message_header;

/// What carries a client's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// A WebSocket: both ways.
    WebSocket,
    /// The body of an answer that does not end. Commands come as requests of their own.
    HttpStream,
    /// Server-sent events. Commands likewise.
    EventStream,
}

impl Carrier {
    /// All of them, each at its [`Carrier::index`].
    pub const ALL: [Carrier; 3] = [Carrier::WebSocket, Carrier::HttpStream, Carrier::EventStream];

    /// For what is kept once per carrier.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// As hooks and figures call it.
    pub const fn name(self) -> &'static str {
        match self {
            Carrier::WebSocket => "websocket",
            Carrier::HttpStream => "http_stream",
            Carrier::EventStream => "sse",
        }
    }
}

/// How a client speaks: the carrier, the codec, and whether its frames may be compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dialect(u8);

impl Dialect {
    /// How many there are.
    pub const COUNT: usize = 7;
    /// Server-sent events, which are texts.
    pub const EVENT_STREAM: Dialect = Dialect(6);

    const PROTOBUF: u8 = 1;
    const DEFLATE: u8 = 2;
    const HTTP_STREAM: u8 = 4;

    /// Over a WebSocket, in a codec.
    pub fn new(codec: Codec, deflate: bool) -> Dialect {
        Dialect(bit_of(codec) | if deflate { Self::DEFLATE } else { 0 })
    }

    /// Over an HTTP stream, in a codec.
    pub fn http_stream(codec: Codec) -> Dialect {
        Dialect(Self::HTTP_STREAM | bit_of(codec))
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Dialect> {
        (0..Self::COUNT as u8).map(Dialect)
    }

    /// From 0 to [`Dialect::COUNT`].
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// Its codec.
    pub fn codec(self) -> Codec {
        if self.0 & Self::PROTOBUF == 0 { Codec::Json } else { Codec::Protobuf }
    }

    /// What carries it.
    pub fn carrier(self) -> Carrier {
        match self {
            Self::EVENT_STREAM => Carrier::EventStream,
            Dialect(bits) if bits & Self::HTTP_STREAM != 0 => Carrier::HttpStream,
            Dialect(_) => Carrier::WebSocket,
        }
    }

    /// Whether frames may be compressed.
    pub fn deflates(self) -> bool {
        self.carrier() == Carrier::WebSocket && self.0 & Self::DEFLATE != 0
    }

    /// Appends a message as it is on the wire, uncompressed.
    pub fn write_message(self, out: &mut Vec<u8>, message: &[u8]) {
        match self.carrier() {
            Carrier::WebSocket => {
                out.extend_from_slice(message_header(self.codec().message_kind(), message.len()).as_bytes());
                out.extend_from_slice(message);
            }
            Carrier::HttpStream => {
                out.extend_from_slice(message);
                if self.codec() == Codec::Json {
                    out.push(b'\n');
                }
            }
            // The codec leaves no line ends within a line, neither of their two kinds.
            Carrier::EventStream => {
                for line in message.split(|&byte| byte == b'\n') {
                    out.extend_from_slice(b"data: ");
                    out.extend_from_slice(line);
                    out.extend_from_slice(b"\n\n");
                }
            }
        }
    }
}

fn bit_of(codec: Codec) -> u8 {
    match codec {
        Codec::Json => 0,
        Codec::Protobuf => Dialect::PROTOBUF,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialects_are_told_apart() {
        let all: Vec<_> = Dialect::all().collect();
        for (index, dialect) in all.iter().enumerate() {
            assert_eq!(dialect.index(), index);
            let same = match dialect.carrier() {
                Carrier::WebSocket => Dialect::new(dialect.codec(), dialect.deflates()),
                Carrier::HttpStream => Dialect::http_stream(dialect.codec()),
                Carrier::EventStream => Dialect::EVENT_STREAM,
            };
            assert_eq!(same, *dialect);
        }
        assert!(all[4..].iter().all(|dialect| !dialect.deflates() && dialect.carrier() != Carrier::WebSocket));
        assert_eq!(Dialect::EVENT_STREAM.codec(), Codec::Json);
        for carrier in Carrier::ALL {
            assert_eq!(Carrier::ALL[carrier.index()], carrier);
        }
    }

    #[test]
    fn messages_on_each_wire() {
        let written = |dialect: Dialect, message: &[u8]| {
            let mut out = Vec::new();
            dialect.write_message(&mut out, message);
            out
        };
        assert_eq!(written(Dialect::default(), b"{}\n{}"), b"\x81\x05{}\n{}");
        assert_eq!(written(Dialect::new(Codec::Protobuf, false), b"\x00"), b"\x82\x01\x00");
        assert_eq!(written(Dialect::http_stream(Codec::Json), b"{}\n{}"), b"{}\n{}\n");
        assert_eq!(written(Dialect::http_stream(Codec::Protobuf), b"\x00"), b"\x00");
        assert_eq!(written(Dialect::EVENT_STREAM, b"{}\n{}"), b"data: {}\n\ndata: {}\n\n");
    }
}
