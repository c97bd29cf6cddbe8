//! permessage-deflate (RFC 7692): compressed messages, without context takeover in either direction.
//!
//! ```text
//!  offers --> Agreement --> WebSocket::with_deflate    received: inflated into the message under assembly
//!                      `--> Compressor                 sent: one frame per message, to be shared by its receivers
//! ```
//!
//! Context takeover is never agreed on: a window kept per connection costs more memory than everything else that an idle
//! connection has, and a frame that depends on earlier frames cannot be shared. So every message is compressed for
//! itself, an inflater lives only while a message is incomplete, and a compressed frame fits every receiver whose
//! window is large enough.
//!
//! Compression tells its input's redundancy by its length: a message that holds a secret beside text that others choose
//! should be sent plain (the attack known as BREACH).

mod agreement;
mod compressor;
mod inflation;

pub use agreement::{Agreement, OFFER};
pub use compressor::{CompressOptions, Compressor};
pub(super) use inflation::Inflation;

/// The largest window of DEFLATE, as a power of two: what an end may use when nothing smaller was asked for (RFC 7692
/// section 7.1.2).
pub const WINDOW_BITS_MAX: u8 = 15;

/// The smallest window that the library compresses with. RFC 7692 has 8 too, but no zlib can honour it.
pub const WINDOW_BITS_MIN: u8 = 9;

/// What a sender takes off the end of a compressed message (RFC 7692 section 7.2.1), and a receiver puts back: the
/// lengths of an empty stored block.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
