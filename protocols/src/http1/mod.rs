//! HTTP/1.1, RFC 9112: strict heads and bodies.
//!
//! Heads are tokenised by `httparse`; then our own rules apply, which are stricter than the RFC wherever leniency lets
//! two parsers disagree about where a message ends (request smuggling): no bare LF, no folded lines, one length and only
//! one, `chunked` and nothing else, one `Host`.
//!
//! It does not route, decode content codings, or decide deadlines: it tells since when it waits.
//!
//! ```text
//!  received bytes --> Server --> Head, Body*, Trailers?, End --> Head ...   (pipelined requests follow one another)
//!                                  |
//!                                  +--> Exchange (Copy) --> write_response_head --> BodyWriter --> bytes to send
//! ```

mod body;
mod fault;
mod fields;
mod head;
mod limits;
mod respond;
mod scan;
mod server;

pub use fault::Fault;
pub use fields::{Field, Fields};
pub use head::{BodyFraming, RequestHead, Version};
pub use limits::Limits;
pub use respond::{BodyLength, BodyWriter, Exchange, reason_phrase, write_continue, write_response_head};
pub use server::{Event, Server, Trailers};

pub(crate) use respond::write_field;
