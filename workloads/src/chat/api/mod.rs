//! The server HTTP API: what backends ask of the chat, in the form of Centrifugo v6 (`POST /api/<method>`, JSON both
//! ways).
//!
//! ```text
//!   head ─► key.rs: may it?      body ─► request.rs: what is wanted ─► the hub ─► reply.rs ─► body
//!                                          fields.rs  values.rs  pattern.rs
//! ```
//!
//! Nothing here does anything: texts become [`Request`]s, and [`Outcome`]s become texts. Whether a namespace exists, a
//! channel's name fits, or history is kept is the hub's to say. Source: Centrifugo's public `api.proto`, and what its
//! server SDKs send and expect.
//!
//! Errors are answered with status 200 and `{"error":{...}}`, unless the request has
//! `X-Centrifugo-Error-Mode: transport`: see [`transport_status`]. What is no request at all is a [`Fault`] with a
//! status.

pub mod fields;
pub mod key;
pub mod pattern;
pub mod reply;
pub mod request;
pub mod values;

use annulus_protocols::centrifuge::ErrorCode;

pub use key::has_key;
pub use pattern::Pattern;
pub use reply::{Answer, Outcome, transport_status, write_bare_error, write_batch, write_reply, write_response};
pub use request::{Fault, Request, read};
pub use values::{Close, Overrides, Payload, Position};

/// No such method, in the words of the API: clients are told of methods of the application instead.
pub const NOT_FOUND: ErrorCode =
    ErrorCode { code: 104, message: std::borrow::Cow::Borrowed("not found"), temporary: false };
