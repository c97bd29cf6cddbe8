//! What a peer may grow, how far, and the status that answers it. Shared by all connections of one kind.

/// Most fields that the parser has room for, whatever the configured limit.
pub(super) const FIELDS_CAPACITY: usize = 128;

/// What a request line needs besides its target: a method of up to 32 bytes, spaces, version, line end, with room.
pub(super) const REQUEST_LINE_OVERHEAD: usize = 64;

/// Limits of one kind of HTTP/1 endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest head in bytes, from the request line to the empty line. Beyond it: 431.
    pub head_bytes_max: usize,
    /// Most fields of a head; at most 128. Beyond it: 431.
    pub fields_max: usize,
    /// Longest request target in bytes. Beyond it: 414.
    pub target_bytes_max: usize,
    /// Largest body in bytes, after chunked decoding. Beyond it: 413, by declaration or as it arrives.
    pub body_bytes_max: u64,
    /// Longest trailer section in bytes. Beyond it: 431.
    pub trailer_bytes_max: usize,
    /// Most interim answers (1xx) that one request may get. Beyond it: the connection is given up.
    pub interim_max: u8,
    /// Longest time in milliseconds from a head's first byte to its last; see
    /// [`Server::is_overdue`](super::Server::is_overdue). Consequence: 408.
    pub head_ms_max: u64,
}

impl Limits {
    /// Heads of 16 KiB with 100 fields and targets of 8 KiB within 10 seconds; bodies of 1 MiB; trailers of 4 KiB.
    pub const DEFAULT: Self = Self {
        head_bytes_max: 16 << 10,
        fields_max: 100,
        target_bytes_max: 8 << 10,
        body_bytes_max: 1 << 20,
        trailer_bytes_max: 4 << 10,
        interim_max: 8,
        head_ms_max: 10_000,
    };
}

const _: () = {
    assert!(Limits::DEFAULT.fields_max <= FIELDS_CAPACITY);
    assert!(Limits::DEFAULT.target_bytes_max + REQUEST_LINE_OVERHEAD < Limits::DEFAULT.head_bytes_max);
};

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
