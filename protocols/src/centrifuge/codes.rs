//! Codes of errors, disconnects and unsubscribes, with the texts that go with them.

/// An error in a reply. Codes from 400 to 1999 are free for applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// On the wire.
    pub code: u32,
    /// On the wire.
    pub message: &'static str,
    /// Whether the client may try the same again later.
    pub temporary: bool,
}

impl ErrorCode {
    const fn new(code: u32, message: &'static str, temporary: bool) -> Self {
        Self { code, message, temporary }
    }

    /// Our failure.
    pub const INTERNAL: Self = Self::new(100, "internal server error", true);
    /// The connection is not authenticated.
    pub const UNAUTHORIZED: Self = Self::new(101, "unauthorized", false);
    /// The channel's namespace does not exist.
    pub const UNKNOWN_CHANNEL: Self = Self::new(102, "unknown channel", false);
    /// Not allowed here.
    pub const PERMISSION_DENIED: Self = Self::new(103, "permission denied", false);
    /// No such RPC method.
    pub const METHOD_NOT_FOUND: Self = Self::new(104, "method not found", false);
    /// This client has the subscription already.
    pub const ALREADY_SUBSCRIBED: Self = Self::new(105, "already subscribed", false);
    /// Too many channels.
    pub const LIMIT_EXCEEDED: Self = Self::new(106, "limit exceeded", false);
    /// The command's content is wrong.
    pub const BAD_REQUEST: Self = Self::new(107, "bad request", false);
    /// The feature is off.
    pub const NOT_AVAILABLE: Self = Self::new(108, "not available", false);
    /// The token has expired: the client gets a new one.
    pub const TOKEN_EXPIRED: Self = Self::new(109, "token expired", false);
    /// Expired.
    pub const EXPIRED: Self = Self::new(110, "expired", false);
    /// Slow down.
    pub const TOO_MANY_REQUESTS: Self = Self::new(111, "too many requests", true);
    /// History does not reach back that far, or is another stream's.
    pub const UNRECOVERABLE_POSITION: Self = Self::new(112, "unrecoverable position", false);
}

/// A close of the connection by the server: the code and reason of the WebSocket close frame. Clients reconnect after
/// 3000 to 3499 and give up after 3500 to 3999.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// On the wire.
    pub code: u16,
    /// On the wire.
    pub reason: &'static str,
}

impl Disconnect {
    const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason }
    }

    /// The server goes away.
    pub const SHUTDOWN: Self = Self::new(3001, "shutdown");
    /// Our failure.
    pub const INTERNAL: Self = Self::new(3004, "internal server error");
    /// The client does not take what is sent.
    pub const SLOW: Self = Self::new(3008, "slow");
    /// A stream's position cannot be kept.
    pub const INSUFFICIENT_STATE: Self = Self::new(3010, "insufficient state");
    /// A ping was not answered.
    pub const NO_PONG: Self = Self::new(3012, "no pong");
    /// Too many commands.
    pub const TOO_MANY_REQUESTS: Self = Self::new(3013, "too many requests");
    /// The token proves nothing.
    pub const INVALID_TOKEN: Self = Self::new(3500, "invalid token");
    /// The client breaks the protocol.
    pub const BAD_REQUEST: Self = Self::new(3501, "bad request");
    /// No `connect` in time.
    pub const STALE: Self = Self::new(3502, "stale");
    /// Binary data to a JSON connection.
    pub const INAPPROPRIATE_PROTOCOL: Self = Self::new(3506, "inappropriate protocol");
    /// Not allowed here.
    pub const PERMISSION_DENIED: Self = Self::new(3507, "permission denied");
    /// Nobody handles that here.
    pub const NOT_AVAILABLE: Self = Self::new(3508, "not available");
}

/// Why a subscription ended. Clients subscribe again from 2500 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribed {
    /// On the wire.
    pub code: u32,
    /// On the wire.
    pub reason: &'static str,
}

impl Unsubscribed {
    /// The server ended it.
    pub const SERVER: Self = Self { code: 2000, reason: "server unsubscribe" };
    /// Publications were missed: the client recovers.
    pub const INSUFFICIENT_STATE: Self = Self { code: 2500, reason: "insufficient state" };
}
