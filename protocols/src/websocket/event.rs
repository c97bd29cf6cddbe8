//! What the machine reports. Events borrow from the caller's receive buffer, or own what was put together.

use super::CloseCode;
use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

/// One thing that happened on the connection.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Event<'a> {
    /// The input is used up; feed more.
    NeedMore,
    /// A whole message.
    Message(Message<'a>),
    /// The peer asks for a pong with this payload (at most 125 bytes). The caller answers with
    /// [`write_pong`](super::write_pong), and may answer only the last of several (RFC 6455 section 5.5.3).
    Ping(Payload<'a>),
    /// The peer answered a ping, or sent an unsolicited pong.
    Pong(Payload<'a>),
    /// The peer closes. Nothing that it sends after this is looked at. Unless this end closed first, the caller answers
    /// with [`WebSocket::write_close`](super::WebSocket::write_close).
    Close(Close<'a>),
}

/// A whole data message.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Text or binary.
    pub kind: MessageKind,
    /// The bytes; valid UTF-8 when `kind` is [`MessageKind::Text`].
    pub payload: Payload<'a>,
}

/// The two kinds of data messages (RFC 6455 section 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// UTF-8 text.
    Text,
    /// Arbitrary bytes.
    Binary,
}

/// Bytes of a frame or message, already unmasked.
#[derive(PartialEq, Eq)]
pub enum Payload<'a> {
    /// Lies in the caller's receive buffer.
    Borrowed(&'a mut [u8]),
    /// Arrived in several buffers or fragments and was put together, or was inflated; the caller may keep it without a
    /// copy.
    Owned(Vec<u8>),
}

impl Payload<'_> {
    /// The bytes as a vector of their own; copies only what lies in the receive buffer.
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Borrowed(bytes) => bytes.to_vec(),
            Self::Owned(bytes) => bytes,
        }
    }

    /// Whether the payload is a vector of its own: put together from several buffers or fragments, or inflated.
    pub fn is_owned(&self) -> bool {
        matches!(self, Self::Owned(_))
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// Shows the length only: the content is a peer's, and may be large or secret.
impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

/// The content of a close frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close<'a> {
    /// The peer's code; `None` when the frame was empty, which APIs report as 1005 (RFC 6455 section 7.1.5).
    pub code: Option<CloseCode>,
    /// The peer's reason, at most 123 bytes, valid UTF-8.
    pub reason: Cow<'a, str>,
}
