//! Close codes: which numbers may appear on the wire (RFC 6455 section 7.4 and the IANA registry).

use std::fmt;

/// A close code that may be sent. The reserved 1004, 1005, 1006 and 1015, the unassigned 1016-2999, and everything
/// outside 1000-4999 cannot be represented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: a server goes down, or a page is left.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a kind of data that this endpoint does not take.
    pub const UNSUPPORTED: Self = Self(1003);
    /// 1007: data that does not fit the message's type, such as text that is not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// 1008: a policy was broken.
    pub const POLICY: Self = Self(1008);
    /// 1009: a message that is too big.
    pub const TOO_BIG: Self = Self(1009);
    /// 1010: the server did not negotiate an extension that the client needs.
    pub const EXTENSION_REQUIRED: Self = Self(1010);
    /// 1011: the server met an unexpected condition.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the service restarts.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: the service is overloaded; try again later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a gateway got an invalid answer from upstream.
    pub const BAD_GATEWAY: Self = Self(1014);

    /// The code, if it may appear on the wire: 1000-1003, 1007-1014, 3000-4999.
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number on the wire.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_for_the_wire_exist() {
        let allowed = |code: &u16| CloseCode::new(*code).is_some();
        let low: Vec<u16> = (0..3000).filter(allowed).collect();
        assert_eq!(low, [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014]);
        assert_eq!((3000..=u16::MAX).filter(allowed).count(), 2000);
        assert!(CloseCode::new(4999).is_some() && CloseCode::new(5000).is_none());
    }
}
