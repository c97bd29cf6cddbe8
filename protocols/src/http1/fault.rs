//! What a peer did wrong, and the status that says so. Every fault is the peer's and ends the connection: after it, it
//! is unknown where the next message would begin.

use std::fmt;

/// A violation of RFC 9112, of our stricter rules, or of the [`Limits`](super::Limits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The start line is not one.
    StartLine,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    Version,
    /// A line that ends in LF without CR. The RFC lets a recipient accept it (section 2.2); we do not.
    BareLineFeed,
    /// A field that is not a token, a colon and a value: folded lines, space before the colon, control characters.
    Field,
    /// A request target that is no origin, absolute, authority or asterisk form, or not ASCII.
    Target,
    /// No `Host`, several, one with characters that a host cannot have, or one that differs from an absolute target.
    Host,
    /// A `Content-Length` that is not one plain decimal number.
    ContentLength,
    /// A `Transfer-Encoding` that is not exactly `chunked`, or one in HTTP/1.0.
    TransferEncoding,
    /// A transfer coding before `chunked` that we do not implement.
    TransferCoding,
    /// Both `Content-Length` and `Transfer-Encoding`.
    TwoLengths,
    /// An expectation other than `100-continue`.
    Expectation,
    /// A chunk without a proper size or line end, or with excessive extensions.
    Chunk,
    /// A trailer that is not a field, or one that frames or routes the message.
    Trailer,
    /// Bytes from a server that nobody asked for, or more than it announced.
    Unsolicited,
    /// The connection ended inside a message.
    Truncated,
    /// More interim answers (1xx) than one request can have.
    TooManyInterim,
    /// The head is over its byte limit.
    HeadTooLarge,
    /// The head has too many fields.
    TooManyFields,
    /// The target is over its byte limit.
    TargetTooLong,
    /// The body is over its byte limit.
    BodyTooLarge,
    /// The trailers are over their byte limit.
    TrailersTooLarge,
}

impl Fault {
    /// The status that answers this fault of a client. A server's fault is its proxy's 502.
    pub const fn status(self) -> u16 {
        match self {
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::HeadTooLarge | Self::TooManyFields | Self::TrailersTooLarge => 431,
            Self::TransferCoding => 501,
            Self::Version => 505,
            _ => 400,
        }
    }

    /// What was wrong, in a few words; quotes nothing of the peer's.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::StartLine => "malformed start line",
            Self::Version => "unsupported HTTP version",
            Self::BareLineFeed => "line feed without carriage return",
            Self::Field => "malformed field",
            Self::Target => "malformed request target",
            Self::Host => "missing, repeated or malformed Host",
            Self::ContentLength => "malformed or repeated Content-Length",
            Self::TransferEncoding => "Transfer-Encoding is not exactly chunked",
            Self::TransferCoding => "transfer coding not implemented",
            Self::TwoLengths => "both Content-Length and Transfer-Encoding",
            Self::Expectation => "unknown expectation",
            Self::Chunk => "malformed chunk",
            Self::Trailer => "malformed or forbidden trailer",
            Self::Unsolicited => "bytes without a request",
            Self::Truncated => "connection ended inside a message",
            Self::TooManyInterim => "too many interim answers",
            Self::HeadTooLarge => "head too large",
            Self::TooManyFields => "too many fields",
            Self::TargetTooLong => "request target too long",
            Self::BodyTooLarge => "body too large",
            Self::TrailersTooLarge => "trailers too large",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Fault {}
