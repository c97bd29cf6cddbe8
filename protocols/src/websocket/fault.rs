//! What a peer did wrong. Every fault is the peer's, ends the connection, and knows its close code.

use super::CloseCode;
use std::fmt;

/// A violation of RFC 6455, of RFC 7692 or of our [`Limits`](super::Limits). The connection is over: send a close frame with
/// [`Fault::close_code`], then close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A client's frame without a mask (section 5.1).
    Unmasked,
    /// A server's frame with a mask (section 5.1).
    Masked,
    /// A reserved bit that no negotiated extension gives a meaning (section 5.2).
    ReservedBits,
    /// Opcode 3-7 or 11-15 (section 5.2).
    ReservedOpcode,
    /// A control frame without FIN (section 5.5).
    FragmentedControl,
    /// A control frame over 125 bytes (section 5.5).
    LongControl,
    /// A length with its highest bit set, or not in its shortest form (section 5.2).
    LengthForm,
    /// A continuation although no message was begun (section 5.4).
    StrayContinuation,
    /// A new text or binary frame inside a fragmented message (section 5.4).
    InterruptedMessage,
    /// A close payload of one byte (section 5.5.1).
    ShortClose,
    /// A close code that must not be on the wire (section 7.4).
    InvalidCloseCode,
    /// A text message or close reason that is not UTF-8 (section 8.1).
    InvalidUtf8,
    /// Over [`Limits::message_bytes_max`](super::Limits::message_bytes_max).
    MessageTooBig,
    /// Over one of the fragment limits.
    TooManyFragments,
    /// A compressed message that is no DEFLATE, or does not end where it should (RFC 7692 section 7.2.2).
    BrokenDeflate,
    /// Over [`Limits::inflated_ratio_max`](super::Limits::inflated_ratio_max).
    InflatedRatio,
}

impl Fault {
    /// The code for the close frame that answers this fault.
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::InvalidUtf8 | Self::BrokenDeflate => CloseCode::INVALID_DATA,
            Self::MessageTooBig | Self::InflatedRatio => CloseCode::TOO_BIG,
            Self::TooManyFragments => CloseCode::POLICY,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }

    /// A short reason for the close frame: says what was wrong, quotes nothing of the peer's.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Unmasked => "client frame without mask",
            Self::Masked => "server frame with mask",
            Self::ReservedBits => "reserved bit set",
            Self::ReservedOpcode => "reserved opcode",
            Self::FragmentedControl => "fragmented control frame",
            Self::LongControl => "control frame over 125 bytes",
            Self::LengthForm => "invalid length encoding",
            Self::StrayContinuation => "continuation without a message",
            Self::InterruptedMessage => "new message inside a fragmented one",
            Self::ShortClose => "close payload of one byte",
            Self::InvalidCloseCode => "invalid close code",
            Self::InvalidUtf8 => "text is not UTF-8",
            Self::MessageTooBig => "message too big",
            Self::TooManyFragments => "too many fragments",
            Self::BrokenDeflate => "compressed data is broken",
            Self::InflatedRatio => "message inflates too far",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Fault {}
