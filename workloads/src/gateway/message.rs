//! What goes through the gateway, whatever HTTP version it came by: fields, calls and answers.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use annulus_protocols::http2::ErrorCode;

use super::dns;
use super::inflow::Inflow;

/// Longer than any call or connection lasts: for timers of what has no end.
pub const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Fields in the order in which they came, in one piece of memory.
#[derive(Clone, Debug, Default)]
pub struct FieldList {
    bytes: Vec<u8>,
    /// Where each name ends and each value ends.
    ends: Vec<(u32, u32)>,
}

/// Room for usual fields, so that they are put together without growing.
const USUAL_BYTES: usize = 448;
const USUAL_COUNT: usize = 16;

impl FieldList {
    /// None yet.
    pub const fn new() -> FieldList {
        FieldList { bytes: Vec::new(), ends: Vec::new() }
    }

    /// Appends a field; its name in lower case.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        if self.ends.is_empty() {
            self.bytes.reserve(USUAL_BYTES);
            self.ends.reserve(USUAL_COUNT);
        }
        let name_begin = self.bytes.len();
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes[name_begin..].make_ascii_lowercase();
        let name_end = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        self.ends.push((name_end, self.bytes.len() as u32));
    }

    /// Takes the fields out whose names are of a kind.
    pub fn remove_all(&mut self, of_kind: impl Fn(&str) -> bool) {
        if self.iter().any(|(name, _)| of_kind(name)) {
            let mut rest = FieldList::new();
            self.iter().filter(|(name, _)| !of_kind(name)).for_each(|(name, value)| rest.push(name, value));
            *self = rest;
        }
    }

    /// The first value of a name, which is given in lower case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let ranges = (0..self.ends.len()).map(|index| self.ranges(index));
        ranges
            .into_iter()
            .find(|(other, _)| self.bytes[other.clone()] == *name.as_bytes())
            .map(|(_, value)| &self.bytes[value])
    }

    /// The first value of a name as text, if it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Names, in lower case, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        (0..self.ends.len()).map(|index| {
            let (name, value) = self.ranges(index);
            // Names are ASCII: parsers let nothing else through, and our own are literals.
            (std::str::from_utf8(&self.bytes[name]).unwrap_or_default(), &self.bytes[value])
        })
    }

    fn ranges(&self, index: usize) -> (Range<usize>, Range<usize>) {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before].1) as usize;
        let (name_end, value_end) = self.ends[index];
        (start..name_end as usize, name_end as usize..value_end as usize)
    }
}

/// Fields that concern one connection only (RFC 9110 section 7.6.1), besides those that `Connection` names.
pub const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a field, named in lower case, must not be passed on.
pub fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.contains(&name)
}

/// A request to an upstream.
pub struct Call<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query, percent-encoded.
    pub target: &'a str,
    /// The value of `Host` or `:authority`.
    pub authority: &'a str,
    /// The other fields, without those that frame the body.
    pub fields: &'a FieldList,
    /// The body; `None` where the request has none.
    pub body: Option<&'a [u8]>,
    /// The body as it arrives, instead of that: over HTTP/2 alone.
    pub inflow: Option<&'a Rc<Inflow>>,
    /// How far it got: what whoever gives it up says about it.
    pub progress: &'a Cell<Phase>,
}

impl Call<'_> {
    /// Whether doing it twice is the same as doing it once (RFC 9110 section 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
    }
}

/// How far a call got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Waiting for a place: a breaker, a limit, a pool.
    #[default]
    Admission,
    /// Finding the address.
    Resolve,
    /// Connecting, TLS included.
    Connect,
    /// Sending the request, until the answer begins.
    Request,
    /// Receiving the answer's body.
    Body,
    /// Reading the answer as JSON.
    Decode,
}

impl Phase {
    /// As problem documents and metrics say it.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Admission => "admission",
            Phase::Resolve => "dns",
            Phase::Connect => "connect",
            Phase::Request => "request",
            Phase::Body => "body",
            Phase::Decode => "decode",
        }
    }
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where.
    pub phase: Phase,
    /// What.
    pub cause: Cause,
    /// Whether the upstream certainly did not act on the request, so that it may be sent again whatever its method.
    pub unprocessed: bool,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The deadline came first.
    Timeout,
    /// The circuit breaker is open, or a limit was reached.
    Refused(&'static str),
    /// This name could not be made an address, and why.
    Unresolved(String, dns::Error),
    /// The transport failed or ended.
    Transport(String),
    /// The upstream gave the stream up.
    Reset(ErrorCode),
    /// The upstream broke the protocol.
    Protocol(String),
    /// The answer is larger than allowed.
    TooLarge(usize),
    /// The answer's status says failure.
    Status(u16),
    /// The answer is not what its encoding says.
    Malformed(String),
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cause::Timeout => f.write_str("took too long"),
            Cause::Refused(why) => f.write_str(why),
            Cause::Unresolved(name, why) => write!(f, "{name} could not be looked up: {why}"),
            Cause::Transport(what) => write!(f, "the connection failed: {what}"),
            Cause::Reset(code) => write!(f, "the connection failed: the upstream reset the stream: {code}"),
            Cause::Protocol(what) => write!(f, "the upstream broke the protocol: {what}"),
            Cause::TooLarge(limit) => write!(f, "the answer is larger than {limit} bytes"),
            Cause::Status(status) => write!(f, "answered with status {status}"),
            Cause::Malformed(what) => write!(f, "the answer is malformed: {what}"),
        }
    }
}

impl Failure {
    /// A failure of the transport.
    pub fn transport(phase: Phase, error: &std::io::Error) -> Failure {
        Failure { phase, cause: Cause::Transport(error.to_string()), unprocessed: phase == Phase::Connect }
    }

    /// A breach of the protocol.
    pub fn protocol(phase: Phase, what: impl ToString) -> Failure {
        Failure { phase, cause: Cause::Protocol(what.to_string()), unprocessed: false }
    }

    /// The deadline came.
    pub fn timeout(phase: Phase) -> Failure {
        Failure { phase, cause: Cause::Timeout, unprocessed: phase <= Phase::Connect }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order_and_lose_their_case() {
        let mut fields = FieldList::new();
        assert_eq!(fields.iter().count(), 0);
        fields.push("X-One", b"1");
        fields.push("Empty", b"");
        fields.push("x-one", b"2");
        let all: Vec<_> = fields.iter().collect();
        assert_eq!(all, [("x-one", &b"1"[..]), ("empty", b""), ("x-one", b"2")]);
        assert_eq!((fields.get("x-one"), fields.text("empty"), fields.get("two")), (Some(&b"1"[..]), Some(""), None));
    }
}
