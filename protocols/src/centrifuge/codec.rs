//! The two forms of the protocol, and what differs between them around a message.

use crate::websocket::MessageKind;

/// How commands, replies and pushes are written. A session keeps the codec it began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// A message is lines, each a JSON object.
    Json,
    /// A message is lengths as variable-length integers, each with a Protobuf message of that many bytes behind it.
    Protobuf,
}

impl Codec {
    /// Both, each at its [`Codec::index`].
    pub const ALL: [Codec; 2] = [Codec::Json, Codec::Protobuf];

    /// For what is kept once per codec.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The kind of WebSocket message that carries it.
    pub const fn message_kind(self) -> MessageKind {
        match self {
            Codec::Json => MessageKind::Text,
            Codec::Protobuf => MessageKind::Binary,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_a_place_in_all() {
        for codec in Codec::ALL {
            assert_eq!(Codec::ALL[codec.index()], codec);
        }
        assert_eq!(Codec::ALL.map(Codec::message_kind), [MessageKind::Text, MessageKind::Binary]);
    }
}
