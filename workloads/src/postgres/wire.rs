//! Messages to and from a server, over TCP, a Unix socket or TLS.
//!
//! [`Inbound`] is the machine: bytes in, messages out, no socket. [`Link`] moves its bytes.
//! What a server says without being asked (notices, changed parameters) is read over.

use std::io;

use annulus_engine::Shard;
use bytes::BytesMut;
use postgres_protocol::message::backend::{Header, Message};

use super::trouble::Trouble;
use crate::serve::wire::Wire;

/// Longest message that is believed, in bytes: a row that we have stored is about as long as a record of the chat's log at
/// most, some 1.1 MiB. Beyond, the connection is given up.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Bytes of a server on their way to be messages.
#[derive(Default)]
pub(crate) struct Inbound {
    bytes: BytesMut,
}

impl Inbound {
    /// Takes what was received.
    pub(crate) fn recv_bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, if it is whole.
    ///
    /// # Errors
    /// It is none, or longer than is believed.
    pub(crate) fn next_message(&mut self) -> Result<Option<Message>, Trouble> {
        let broken = |error: io::Error| Trouble::protocol(&error.to_string());
        let Some(header) = Header::parse(&self.bytes).map_err(broken)? else { return Ok(None) };
        // The length is a claim until it has passed the limit: memory is reserved for it.
        if usize::try_from(header.len()).map_or(true, |len| len > MESSAGE_BYTES_MAX) {
            return Err(Trouble::protocol("a message is too long"));
        }
        Message::parse(&mut self.bytes).map_err(broken)
    }
}

/// A connection's messages.
pub(crate) struct Link {
    wire: Wire,
    inbound: Inbound,
}

impl Link {
    /// Speaks over `wire`, on which nothing was said.
    pub(crate) fn new(wire: Wire) -> Link {
        Link { wire, inbound: Inbound::default() }
    }

    /// Sends messages.
    ///
    /// # Errors
    /// Why the connection broke.
    pub(crate) async fn send(&mut self, messages: impl Into<Vec<u8>>) -> Result<(), Trouble> {
        let sent = self.wire.send(&mut messages.into()).await;
        sent.map_err(|error| Trouble::transport("sending to the database", &error))
    }

    /// The next message that was asked for. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Why the connection broke.
    pub(crate) async fn recv(&mut self) -> Result<Message, Trouble> {
        loop {
            match self.inbound.next_message()? {
                Some(Message::NoticeResponse(_) | Message::ParameterStatus(_) | Message::NotificationResponse(_)) => {}
                Some(message) => return Ok(message),
                None => match self.wire.recv().await {
                    Ok(Some(chunk)) => self.inbound.recv_bytes(&chunk),
                    Ok(None) => return Err(Trouble::transport("the database server", &ended())),
                    Err(error) => return Err(Trouble::transport("the connection to the database", &error)),
                },
            }
        }
    }

    /// Says farewell, if the server still listens.
    pub(crate) async fn terminate(mut self, shard: &Shard) {
        let mut farewell = BytesMut::new();
        postgres_protocol::message::frontend::terminate(&mut farewell);
        let send = async {
            // A server that is gone misses nothing.
            let _gone = self.send(farewell).await;
            let _gone = self.wire.finish().await;
        };
        let _elapsed = shard.timeout(super::FAREWELL_MAX, send).await;
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ReadyForQuery, an error, BindComplete.
    const BYTES: &[u8] = b"Z\0\0\0\x05IE\0\0\0\x0cC22021\0\x002\0\0\0\x04";

    fn tags(pieces: &[&[u8]]) -> Vec<char> {
        let (mut inbound, mut tags) = (Inbound::default(), Vec::new());
        for piece in pieces {
            inbound.recv_bytes(piece);
            while let Some(message) = inbound.next_message().unwrap() {
                tags.push(match message {
                    Message::ReadyForQuery(_) => 'Z',
                    Message::ErrorResponse(_) => 'E',
                    Message::BindComplete => '2',
                    _ => '?',
                });
            }
        }
        tags
    }

    #[test]
    fn whole_or_byte_by_byte_is_the_same() {
        assert_eq!(tags(&[BYTES]), ['Z', 'E', '2']);
        assert_eq!(tags(&BYTES.chunks(1).collect::<Vec<_>>()), ['Z', 'E', '2']);
    }

    #[test]
    fn claims_beyond_reason_and_unknown_messages_end_it() {
        for bytes in
            [&b"D\x7f\xff\xff\xff"[..], b"D\xff\xff\xff\xff", b"Z\0\0\0\x03", b"?\0\0\0\x04", b"R\0\0\0\x08\0\0\0\x63"]
        {
            let mut inbound = Inbound::default();
            inbound.recv_bytes(bytes);
            assert!(inbound.next_message().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn no_bytes_panic() {
        let mut random = 1u64;
        for _ in 0..20_000 {
            let mut bytes = BYTES.to_vec();
            for _ in 0..3 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (random >> 33) as usize % bytes.len();
                bytes[at] = (random >> 24) as u8;
            }
            let mut inbound = Inbound::default();
            inbound.recv_bytes(&bytes);
            while let Ok(Some(message)) = inbound.next_message() {
                if let Message::ErrorResponse(body) = message {
                    assert!(!Trouble::of_server(&body).to_string().is_empty());
                }
            }
        }
    }
}
