//! WebSocket, RFC 6455: framing, masking, UTF-8, fragments, compression and the close dance, one machine for both roles.
//!
//! It does not know sockets, timers or HTTP beyond the opening [`handshake`], and one extension, [`deflate`], which is
//! off until both ends agreed on it. One place ([`frame::FrameHeader::parse`]) decides about the reserved bits.
//!
//! ```text
//!  received bytes ----+--> whole frame, unfragmented: unmasked where it lies -------------> Event (borrowed)
//!                     |
//!                     +--> anything partial: Box<Partial>, exists only while it is partial -> Event (owned)
//!                     |
//!                     +--> compressed: inflated by an inflater that lives as long as the message -> Event (owned)
//! ```
//!
//! Invariants: a machine between two messages owns no heap memory and fits in 32 bytes; memory for a message grows with
//! the bytes that arrived, never with a length that was merely declared; text handed out is valid UTF-8.

mod boundaries;
mod close;
pub mod deflate;
mod event;
mod fault;
pub mod frame;
pub mod handshake;
mod limits;
mod machine;
mod mask;
mod partial;
mod utf8;
mod write;

pub use boundaries::Boundaries;
pub use close::CloseCode;
pub use event::{Close, Event, Message, MessageKind, Payload};
pub use fault::Fault;
pub use limits::Limits;
pub use machine::WebSocket;
pub use mask::apply_mask;
pub use write::{message_header, write_fragment, write_message, write_ping, write_pong};

/// Which end of the connection this machine is. It decides who masks: clients do, servers do not (RFC 6455 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The accepting end: what it receives is masked, what it sends is not.
    Server,
    /// The connecting end: what it receives is not masked, what it sends is.
    Client,
}
