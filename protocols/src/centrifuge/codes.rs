//! Codes of errors, disconnects and unsubscribes, with the texts that go with them.
//!
//! The protocol's own are constants; those of an application are checked when they are made, because a client acts by
//! the range that a code is in.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use crate::json::validate;
use crate::websocket::frame::CONTROL_BYTES_MAX;

/// Error codes that are free for applications.
pub const CUSTOM_ERRORS: RangeInclusive<u32> = 400..=1999;

/// Disconnect codes that are free for applications: clients reconnect after those below 4500, and give up after others.
pub const CUSTOM_DISCONNECTS: RangeInclusive<u32> = 4000..=4999;

/// Unsubscribe codes: clients subscribe again after those from 2500 on.
pub const UNSUBSCRIBES: RangeInclusive<u32> = 2000..=2999;

/// Longest reason, in bytes: what a close frame has room for behind the code (RFC 6455 section 5.5). A longer one is
/// refused.
pub const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - size_of::<u16>();

/// Why a code of an application cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadCode {
    /// Not in the range that is free for it.
    Range(u32),
    /// More than [`REASON_BYTES_MAX`].
    LongReason(usize),
    /// It is a JSON value, in which JavaScript clients look for instructions instead of showing it.
    JsonReason,
}

impl fmt::Display for BadCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadCode::Range(code) => write!(f, "code {code} is outside of the range for it"),
            BadCode::LongReason(bytes) => write!(f, "a reason of {bytes} bytes, which may have {REASON_BYTES_MAX}"),
            BadCode::JsonReason => f.write_str("a reason that is JSON"),
        }
    }
}

impl std::error::Error for BadCode {}

fn check_code(range: RangeInclusive<u32>, code: u32) -> Result<(), BadCode> {
    if range.contains(&code) { Ok(()) } else { Err(BadCode::Range(code)) }
}

/// Checks a reason that somebody else chose.
///
/// # Errors
/// [`BadCode::LongReason`] or [`BadCode::JsonReason`].
pub fn check_reason(reason: &str) -> Result<(), BadCode> {
    if reason.len() > REASON_BYTES_MAX {
        return Err(BadCode::LongReason(reason.len()));
    }
    if validate(reason.as_bytes()).is_ok() { Err(BadCode::JsonReason) } else { Ok(()) }
}

/// An error in a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// On the wire.
    pub code: u32,
    /// On the wire.
    pub message: Cow<'static, str>,
    /// Whether the client may try the same again later.
    pub temporary: bool,
}

impl ErrorCode {
    const fn new(code: u32, message: &'static str, temporary: bool) -> Self {
        Self { code, message: Cow::Borrowed(message), temporary }
    }

    /// An application's own.
    ///
    /// # Errors
    /// The code is not one of [`CUSTOM_ERRORS`].
    pub fn custom(code: u32, message: impl Into<Cow<'static, str>>, temporary: bool) -> Result<Self, BadCode> {
        check_code(CUSTOM_ERRORS, code)?;
        Ok(Self { code, message: message.into(), temporary })
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
    /// What is paged through changed meanwhile.
    pub const CONCURRENT_PAGINATION: Self = Self::new(113, "concurrent pagination", true);
    /// The user may read and not publish, for a time. Not of the model: a number that it leaves free for servers.
    pub const MUTED: Self = Self::new(120, "muted", false);
    /// The user may not be in this channel, for a time. Not of the model, either.
    pub const BANNED: Self = Self::new(121, "banned", false);
}

/// A close of the connection by the server: the code and reason of the WebSocket close frame. Clients reconnect after
/// 3000 to 3499 and 4000 to 4499, and give up after 3500 to 3999 and 4500 to 4999.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// On the wire.
    pub code: u16,
    /// On the wire.
    pub reason: Cow<'static, str>,
}

impl Disconnect {
    const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }

    /// An application's own.
    ///
    /// # Errors
    /// The code is not one of [`CUSTOM_DISCONNECTS`], or the reason cannot be sent.
    pub fn custom(code: u32, reason: impl Into<Cow<'static, str>>) -> Result<Self, BadCode> {
        check_code(CUSTOM_DISCONNECTS, code)?;
        let (code, reason) = (u16::try_from(code).map_err(|_| BadCode::Range(code))?, reason.into());
        check_reason(&reason)?;
        Ok(Self { code, reason })
    }

    /// The connection ended by itself: nothing is sent, the code is for records.
    pub const CONNECTION_CLOSED: Self = Self::new(3000, "connection closed");
    /// The server goes away.
    pub const SHUTDOWN: Self = Self::new(3001, "shutdown");
    /// Our failure.
    pub const INTERNAL: Self = Self::new(3004, "internal server error");
    /// The connection's token has expired and was not refreshed.
    pub const CONNECTION_EXPIRED: Self = Self::new(3005, "connection expired");
    /// The token of a subscription that the server made has expired and was not refreshed.
    pub const SUBSCRIPTION_EXPIRED: Self = Self::new(3006, "subscription expired");
    /// The client does not take what is sent.
    pub const SLOW: Self = Self::new(3008, "slow");
    /// A write to the connection failed.
    pub const WRITE_ERROR: Self = Self::new(3009, "write error");
    /// A stream's position cannot be kept.
    pub const INSUFFICIENT_STATE: Self = Self::new(3010, "insufficient state");
    /// An application wants the client to connect anew.
    pub const FORCE_RECONNECT: Self = Self::new(3011, "force reconnect");
    /// A ping was not answered.
    pub const NO_PONG: Self = Self::new(3012, "no pong");
    /// Too many commands.
    pub const TOO_MANY_REQUESTS: Self = Self::new(3013, "too many requests");
    /// What the client knows is no longer true: it drops its token and positions.
    pub const STATE_INVALIDATED: Self = Self::new(3014, "state invalidated");
    /// The token proves nothing.
    pub const INVALID_TOKEN: Self = Self::new(3500, "invalid token");
    /// The client breaks the protocol.
    pub const BAD_REQUEST: Self = Self::new(3501, "bad request");
    /// No `connect` in time.
    pub const STALE: Self = Self::new(3502, "stale");
    /// An application wants the client away.
    pub const FORCE_DISCONNECT: Self = Self::new(3503, "force disconnect");
    /// The user has too many connections.
    pub const CONNECTION_LIMIT: Self = Self::new(3504, "connection limit");
    /// The server would subscribe the client to too many channels.
    pub const CHANNEL_LIMIT: Self = Self::new(3505, "channel limit");
    /// A message of the other codec's kind.
    pub const INAPPROPRIATE_PROTOCOL: Self = Self::new(3506, "inappropriate protocol");
    /// Not allowed here.
    pub const PERMISSION_DENIED: Self = Self::new(3507, "permission denied");
    /// Nobody handles that here.
    pub const NOT_AVAILABLE: Self = Self::new(3508, "not available");
    /// Too many commands that failed.
    pub const TOO_MANY_ERRORS: Self = Self::new(3509, "too many errors");
    /// The user may not be here, for a time. Not of the model: a number that it leaves free for servers.
    pub const BANNED: Self = Self::new(3520, "banned");
}

/// Why a subscription ended. Clients subscribe again from 2500 on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribed {
    /// On the wire.
    pub code: u32,
    /// On the wire.
    pub reason: Cow<'static, str>,
}

impl Unsubscribed {
    const fn new(code: u32, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }

    /// An application's own.
    ///
    /// # Errors
    /// The code is not one of [`UNSUBSCRIBES`], or the reason is one that no disconnect could have.
    pub fn custom(code: u32, reason: impl Into<Cow<'static, str>>) -> Result<Self, BadCode> {
        check_code(UNSUBSCRIBES, code)?;
        let reason = reason.into();
        check_reason(&reason)?;
        Ok(Self { code, reason })
    }

    /// The server ended it.
    pub const SERVER: Self = Self::new(2000, "server unsubscribe");
    /// The user may not be in this channel, for a time. Not of the model: a number that it leaves free for servers.
    pub const BANNED: Self = Self::new(2020, "banned");
    /// Publications were missed: the client recovers.
    pub const INSUFFICIENT_STATE: Self = Self::new(2500, "insufficient state");
    /// The subscription's token has expired and was not refreshed.
    pub const EXPIRED: Self = Self::new(2501, "expired");
    /// What the client knows of the channel is no longer true: it forgets its position.
    pub const STATE_INVALIDATED: Self = Self::new(2502, "state invalidated");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_gets_the_codes_that_are_free() {
        let error = ErrorCode::custom(400, format!("no {}", 7), true).unwrap();
        assert_eq!((error.code, &*error.message, error.temporary), (400, "no 7", true));
        assert_eq!(ErrorCode::custom(399, "", false), Err(BadCode::Range(399)));
        assert_eq!(ErrorCode::custom(2000, "", false), Err(BadCode::Range(2000)));
        assert_eq!(Disconnect::custom(4999, "bye").unwrap().code, 4999);
        for code in [0, 1000, 3500, 3999, 5000, 4000 + 65_536] {
            assert_eq!(Disconnect::custom(code, "bye"), Err(BadCode::Range(code)));
        }
        assert_eq!(Unsubscribed::custom(2600, "bye").unwrap().code, 2600);
        assert_eq!(Unsubscribed::custom(3000, "bye"), Err(BadCode::Range(3000)));
    }

    #[test]
    fn a_reason_fits_a_close_frame_and_is_a_text() {
        assert_eq!(REASON_BYTES_MAX, 123);
        assert!(Disconnect::custom(4000, "é".repeat(61)).is_ok());
        assert_eq!(Disconnect::custom(4000, "é".repeat(62)), Err(BadCode::LongReason(124)));
        for reason in ["{\"reason\":\"x\",\"reconnect\":false}", "7", " null", "\"x\""] {
            assert_eq!(Unsubscribed::custom(2000, reason), Err(BadCode::JsonReason));
        }
        for reason in ["", "{", "no {braces}"] {
            assert_eq!(check_reason(reason), Ok(()));
        }
    }
}
