//! A backend: one question to an upstream, whom it goes to, and what becomes of the answer.

use std::fmt;
use std::time::Duration;

use super::{Flatmap, Forward, Location, Method, Rate};

/// One question to an upstream, and what becomes of its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Who may answer it, at least one unless the endpoint is `unsupported`.
    pub hosts: Vec<Host>,
    /// What is asked.
    pub url_pattern: Template,
    /// The request's method.
    pub method: Method,
    /// The form of the upstream's answer.
    pub encoding: Encoding,
    /// The answer is an array, wrapped as `{"collection": [...]}`.
    pub is_collection: bool,
    /// Only this part of the answer counts: names from the root. Empty: all.
    pub target: Vec<String>,
    /// The answer becomes this member of the endpoint's.
    pub group: Option<String>,
    /// Which members are kept, each a path of names. Ignored when `flatmap` is not empty.
    pub filter: Filter,
    /// Members of the root that get another name: old, new.
    pub mapping: Vec<(String, String)>,
    /// Changes instead of filter and mapping.
    pub flatmap: Vec<Flatmap>,
    /// Which of the client's headers reach this backend: never more than the endpoint lets through.
    pub input_headers: Forward,
    /// Which of the client's query parameters reach this backend: never more than the endpoint lets through.
    pub input_query_strings: Forward,
    /// How hosts become addresses.
    pub sd: Discovery,
    /// The scheme towards discovered addresses.
    pub sd_scheme: Scheme,
    /// Hosts were taken as they stand; they may carry a base path.
    pub disable_host_sanitize: bool,
    /// Stop asking after too many failures.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// How often the upstream is asked at most; beyond: this backend fails.
    pub rate_limit: Option<Rate>,
    /// A failure is described in the answer as the member `error_NAME`: this is NAME.
    pub return_error_details: Option<String>,
    /// The upstream's status becomes the answer's when this is the only backend.
    pub return_error_code: bool,
    /// From the sub-request's start to its answer; at most the endpoint's.
    pub timeout: Duration,
    /// Its failure fails the request: 502 or 504.
    pub required: bool,
    /// Ask again when that is safe.
    pub retry: Option<Retry>,
    /// Ask a second time when the first is slow.
    pub hedge: Option<Hedge>,
    /// Leave out upstream addresses that keep failing.
    pub outlier: Option<Outlier>,
    /// Ask upstream addresses whether they are well.
    pub health: Option<Health>,
    /// Which address is asked.
    pub lb: LoadBalancing,
    /// What is spoken.
    pub protocol: Protocol,
    /// Bytes of an answer; beyond: this backend fails. `None` only for `no-op`, which is passed on as it comes.
    pub max_response_bytes: Option<u64>,
    /// Its answer is thrown away, and it has so long for it. `None`: it is asked for its answer.
    pub shadow: Option<Duration>,
    /// Keep answers as their Cache-Control allows.
    pub cache: Option<HttpCache>,
    /// Where the file says so.
    pub location: Location,
}

/// An upstream: where requests go, or the name that is looked up to learn it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    /// Whether TLS is spoken.
    pub scheme: Scheme,
    /// A name in lower case, or an address without brackets.
    pub name: String,
    /// The scheme's own if none was written. Not used with [`Discovery::Dns`], where SRV records tell it.
    pub port: u16,
    /// Comes before every path; empty or starts with a slash and ends without one.
    pub base_path: String,
}

impl Host {
    /// For `Host` and `:authority`: with brackets around an IPv6 address, and without the scheme's own port.
    pub fn authority(&self) -> String {
        let name = if self.name.contains(':') { format!("[{}]", self.name) } else { self.name.clone() };
        if self.port == self.scheme.default_port() { name } else { format!("{name}:{}", self.port) }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://{}{}", self.scheme.as_str(), self.authority(), self.base_path)
    }
}

/// How an upstream is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In plain text.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// As in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port when none is written.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// A backend's path and query with places for values. What is put there is percent-encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// As it was written.
    pub source: String,
    /// The path, starting with a slash.
    pub path: Vec<Piece>,
    /// What stands after the `?`, as written; empty: there is none.
    pub query: Vec<Piece>,
}

/// A part of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Literal(String),
    /// What the client put there: an index into [`Endpoint::parameters`](super::Endpoint::parameters).
    Parameter(usize),
    /// `{respN_a.b}`: a scalar of an earlier backend's formatted answer, or its scalars joined with commas.
    Response {
        /// An index into [`Endpoint::answering`](super::Endpoint::answering), lower than its own.
        backend: usize,
        /// Names from the answer's root, at least one.
        path: Vec<String>,
    },
    /// `{JWT.a.b}`: a claim of the client's token.
    Claim(Vec<String>),
}

/// The form of an upstream's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// An object, or an array if `is_collection`.
    Json,
    /// An object or an array, whichever comes.
    SafeJson,
    /// Anything, wrapped as `{"content": "..."}`.
    String,
    /// Anything, passed on.
    NoOp,
    /// An XML document.
    Xml,
    /// An RSS or Atom feed.
    Rss,
}

/// Which members of an answer are kept; each path is names from the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All.
    Everything,
    /// Only these.
    Allow(Vec<Vec<String>>),
    /// All but these.
    Deny(Vec<Vec<String>>),
}

/// How hosts become addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// They are names or addresses with ports.
    Static,
    /// They are names of SRV records.
    Dns,
    /// As [`Discovery::Dns`], with one lookup for all backends of the same name.
    DnsShared,
}

/// Stop asking an upstream after too many failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// What logs and metrics call it; empty: the backend's own name.
    pub name: String,
    /// Failures are counted over this long.
    pub interval: Duration,
    /// Open for this long, then one request tries.
    pub timeout: Duration,
    /// More failures in a row than this open it.
    pub max_errors: u32,
    /// Its changes are logged.
    pub log_status_change: bool,
}

/// Ask again, if nothing was processed or the method is idempotent.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Additional requests at most, at least 1.
    pub attempts: u32,
    /// After which failures.
    pub on: RetryOn,
    /// Retries at most, as a share of all requests to this backend: 0 to 1.
    pub budget: f64,
}

/// The failures that are worth another request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// `connect`: no connection came about.
    pub connect: bool,
    /// `refused`: the upstream says that it did not process the request (REFUSED_STREAM, GOAWAY).
    pub refused: bool,
    /// `reset`: the connection or stream broke before an answer.
    pub reset: bool,
    /// `timeout`: no answer in the time for one attempt.
    pub timeout: bool,
    /// Statuses, such as 503; `5xx` is all from 500 to 599.
    pub statuses: Vec<u16>,
}

/// Ask a second time when the first is slow; the loser is cancelled.
#[derive(Clone, Debug, PartialEq)]
pub struct Hedge {
    /// How slow.
    pub after: HedgeAfter,
    /// Second requests at most, as a share of all requests to this backend: 0 to 1.
    pub budget: f64,
}

/// When the second request starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HedgeAfter {
    /// When so many per cent of recent answers were faster: 50 to 99.9.
    Percentile(f64),
    /// After this long.
    Fixed(Duration),
}

/// Leave out upstream addresses that keep failing.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlier {
    /// So many failures in a row.
    pub consecutive_errors: u32,
    /// Left out for this long the first time, then for twice as long, and so on.
    pub ejection_time: Duration,
    /// Left out for this long at most.
    pub ejection_time_max: Duration,
    /// The share of addresses that may be left out at once: 0 to 1.
    pub ejected_max: f64,
}

/// Ask upstream addresses whether they are well.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// What is asked.
    pub check: HealthCheck,
    /// While less than this share of the addresses is well, all are asked as if they were: 0 to 1. With 0, while none is.
    pub panic_below: f64,
}

/// A question whether an address is well.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// Answers 200 to 299 when well.
    pub path: String,
    /// From one answer to the next question.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// So many failures in a row and it is not well.
    pub unhealthy_after: u32,
    /// So many good answers in a row and it is well again.
    pub healthy_after: u32,
}

/// Which of several addresses is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadBalancing {
    /// One after the other.
    RoundRobin,
    /// The one with the fewest requests in flight.
    LeastRequest,
    /// The better of two at random, by recent latency and requests in flight.
    P2cEwma,
}

/// What is spoken to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// What TLS agrees on; HTTP/1.1 in plain text.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 over TLS.
    H2,
    /// HTTP/2 in plain text, by prior knowledge.
    H2c,
}

/// Keep an upstream's answers as their Cache-Control allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCache {
    /// Answers at most; `None`: as many as the bytes allow.
    pub max_items: Option<u64>,
    /// Bytes at most; `None`: the gateway's own limit.
    pub max_size: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_leave_out_the_schemes_own_port() {
        let host = |scheme, name: &str, port| Host { scheme, name: name.to_owned(), port, base_path: String::new() };
        assert_eq!(host(Scheme::Http, "a.b", 80).authority(), "a.b");
        assert_eq!(host(Scheme::Https, "a.b", 80).authority(), "a.b:80");
        assert_eq!(host(Scheme::Http, "::1", 8080).to_string(), "http://[::1]:8080");
    }
}
