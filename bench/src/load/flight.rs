//! A request from the time it is due to its verdict.

/// A request that has been given to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flight {
    /// When it was meant to leave, in nanoseconds since the round began.
    pub due: u64,
    /// When it was given to its connection.
    pub sent: u64,
    /// Tells requests of one thread apart; grows.
    pub serial: u64,
    /// Which of the requests it is.
    pub request: u32,
    /// Whether it was sent before, on a connection that the server closed without looking at it.
    pub resent: bool,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An answer with this status; 0 where answers have none.
    Answered(u16),
    /// No answer, or a wrong one, and why.
    Failed(&'static str),
    /// The server did certainly not act on it: it goes out again.
    Unseen(&'static str),
}

/// Reasons of failures, as they are shown.
pub mod reason {
    /// Nobody listens.
    pub const REFUSED: &str = "refused";
    /// The connection was reset.
    pub const RESET: &str = "reset";
    /// The connection ended before the answer did.
    pub const CLOSED: &str = "closed in the middle of an answer";
    /// The connection ended before an answer began.
    pub const CLOSED_BEFORE: &str = "closed before an answer";
    /// It took too long.
    pub const TIMEOUT: &str = "timeout";
    /// It took too long before it could be sent.
    pub const NEVER_SENT: &str = "timeout before a connection was free";
    /// No connection within the time for answers.
    pub const CONNECT_TIMEOUT: &str = "timeout while connecting";
    /// The kernel did not let us connect: there are no ports or files left, or no route.
    pub const CANNOT_CONNECT: &str = "cannot connect";
    /// Encryption failed.
    pub const TLS: &str = "TLS";
    /// An HTTP/2 stream was reset.
    pub const STREAM_RESET: &str = "stream reset";
    /// An HTTP/2 stream was refused twice.
    pub const STREAM_REFUSED: &str = "stream refused";
    /// A status that was not asked for, by its class.
    pub const STATUSES: [&str; 6] =
        ["status of another kind", "status 1xx", "status 2xx", "status 3xx", "status 4xx", "status 5xx"];
    /// A WebSocket message that never came back.
    pub const LOST: &str = "lost";
    /// One that another overtook.
    pub const MISORDERED: &str = "out of order";
    /// One that came back changed.
    pub const ALTERED: &str = "altered";
    /// A WebSocket that was not granted.
    pub const HANDSHAKE: &str = "WebSocket refused";

    /// The reason for a status.
    pub fn of_status(status: u16) -> &'static str {
        STATUSES[match status / 100 {
            class @ 1..=5 => usize::from(class),
            _ => 0,
        }]
    }
}
