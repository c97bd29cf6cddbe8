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
//!
//!  write_request_head --> bytes to send; Client::on_request
//!  received bytes --> Client --> Interim*, Head, Body*, Trailers?, End; then the next request
//! ```

mod body;
mod client;
mod fault;
mod fields;
mod head;
mod limits;
mod reader;
mod request;
mod respond;
mod response;
mod scan;
mod server;

pub use client::{Client, ClientEvent};
pub use fault::Fault;
pub use fields::{Field, Fields};
pub use head::{BodyFraming, RequestHead, Version};
pub use limits::Limits;
pub use request::{RequestBody, write_request_head};
pub use respond::{BodyLength, BodyWriter, Exchange, reason_phrase, write_chunk, write_continue, write_response_head};
pub use response::ResponseHead;
pub use server::{Event, Server, Trailers};

pub(crate) use respond::write_field;
