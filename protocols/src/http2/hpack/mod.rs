//! Field compression for HTTP/2 (RFC 7541): one [`Encoder`] and one [`Decoder`] per connection.
//!
//! ```text
//!   block ─► Decoder ─► Fields            field, field, … ─► Encoder ─► block
//!               └──► static table, dynamic table ◄──────────────┘
//! ```
//!
//! It knows no frames and judges no names. Both dynamic tables stay within [`TABLE_BYTES_MAX`], whatever a peer says.

mod decode;
mod encode;
mod huffman;
mod integer;
mod static_table;
mod table;

pub use decode::{DecodeError, Decoder};
pub use encode::{Encoder, Indexing, write_static};

/// Largest dynamic table in bytes, as RFC 7541 section 4.1 counts them: the peer's at our end, because that is what
/// SETTINGS_HEADER_TABLE_SIZE is when nothing is said, and ours at the peer's, whatever it allows.
pub const TABLE_BYTES_MAX: usize = 4096;
