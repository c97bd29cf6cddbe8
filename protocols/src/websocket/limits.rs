//! What a peer may grow, how far, and what happens then. Shared by all connections; never stored per connection.

/// Limits of one kind of WebSocket endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest message in bytes, all fragments together, inflated if it came compressed. Beyond it: close 1009, before a
    /// byte of the frame is stored; of a compressed message, at the first byte too many.
    pub message_bytes_max: u64,
    /// Largest size of a compressed message as a multiple of the compressed bytes that have come, above
    /// `inflated_bytes_free`. DEFLATE reaches 1032 with one byte repeated; text and JSON stay between 3 and 20. Beyond
    /// it: close 1009, which tells clients not to send the same again.
    pub inflated_ratio_max: u32,
    /// Bytes that a compressed message may have whatever the ratio.
    pub inflated_bytes_free: u64,
    /// Largest number of fragments of one message, empty ones included. Beyond it: close 1008.
    pub fragments_max: u32,
    /// Fragments of one message that may be as small as the peer likes. Beyond it `fragment_bytes_mean_min` holds.
    pub fragments_free: u32,
    /// Smallest mean payload of the fragments after the free ones, in bytes: a message in one-byte fragments costs
    /// seven times its size on the wire and far more in time. Beyond it: close 1008.
    pub fragment_bytes_mean_min: u32,
    /// Longest time in milliseconds from the first byte of a partial message to its last. The machine has no clock:
    /// see [`WebSocket::is_overdue`](super::WebSocket::is_overdue). Consequence: close 1008.
    pub assembly_ms_max: u64,
}

impl Limits {
    /// Messages up to 16 MiB in at most 1 Mi fragments, which beyond the first 1,024 carry 16 bytes on average, within
    /// a minute; compressed ones from 64 KiB on at most a hundredfold.
    pub const DEFAULT: Self = Self {
        message_bytes_max: 16 << 20,
        inflated_ratio_max: 100,
        inflated_bytes_free: 64 << 10,
        fragments_max: 1 << 20,
        fragments_free: 1024,
        fragment_bytes_mean_min: 16,
        assembly_ms_max: 60_000,
    };

    /// Most compressed bytes of one message, as frames declare them: an eighth more than the message may have, for what
    /// does not compress grows a little. Beyond it: close 1009.
    pub(super) const fn compressed_bytes_max(&self) -> u64 {
        self.message_bytes_max.saturating_add(self.message_bytes_max / 8).saturating_add(64)
    }

    /// The default limits with another message size.
    pub const fn with_message_bytes_max(message_bytes_max: u64) -> Self {
        Self { message_bytes_max, ..Self::DEFAULT }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
