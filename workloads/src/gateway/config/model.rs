//! What the gateway runs on: plain structs in which every inherited and default value is already in its place.
//!
//! Whoever holds a [`Gateway`] holds a configuration that passed every check: placeholders resolve, names are in lower
//! case where HTTP ignores case, and a `None` means "no such limit" or "not asked for", never "look it up elsewhere".
//! Nothing here reads a file, and nothing here knows the syntax that it came from.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

mod access;
mod backend;
mod guard;
mod telemetry;
mod websocket;

pub use access::*;
pub use backend::*;
pub use guard::*;
pub use telemetry::*;
pub use websocket::*;

/// Where something stands in the file that said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file's name as it was given.
    pub file: Arc<str>,
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1, in characters.
    pub column: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One gateway: what it listens on, what it offers, how it speaks to upstreams.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    /// What it calls itself in logs, traces and the console; may be empty.
    pub name: String,
    /// Where clients connect.
    pub listen: Listen,
    /// The upstreams of backends that name none. Already copied into those; here for printing.
    pub hosts: Vec<Host>,
    /// The deadline of endpoints that set none. Already copied into those.
    pub timeout: Duration,
    /// What is offered, in the file's order.
    pub endpoints: Vec<Endpoint>,
    /// Certificates for clients; `None`: plain text.
    pub tls: Option<Tls>,
    /// How upstreams' certificates are verified and what is shown to them.
    pub client_tls: ClientTls,
    /// Whether clients may speak HTTP/2 without TLS, by prior knowledge.
    pub use_h2c: bool,
    /// Connections to upstreams.
    pub pool: Pool,
    /// How long clients may take.
    pub server: Server,
    /// How long the answer of a name server is believed at most; a record whose time to live is shorter, as long as
    /// that says, but a second at least.
    pub dns_cache_ttl: Duration,
    /// Name servers instead of those in `/etc/resolv.conf`; empty: those.
    pub name_servers: Vec<SocketAddr>,
    /// `/__debug/` answers, for use as a fake upstream.
    pub debug_endpoint: bool,
    /// `/__echo/` answers.
    pub echo_endpoint: bool,
    /// Endpoints are logged in the file's order. They are always registered in it.
    pub sequential_start: bool,
    /// Answers to clients are never compressed, whatever `compression` says: it is `None` then.
    pub disable_compression: bool,
    /// Paths, proxies and messages of the front.
    pub router: Router,
    /// Whose habits are followed where KrakenD's and ours differ.
    pub compat: Compat,
    /// Bytes that requests in flight may hold together; beyond: requests are shed. `None`: from the machine's limits.
    pub memory_bytes_max: Option<u64>,
    /// WebSockets that are open at once, on all shards.
    pub tunnels_max: usize,
    /// How lines of the access log are written.
    pub access_format: AccessFormat,
    /// Where rate limits are kept together with other gateways.
    pub rate_limit_store: Option<RateLimitStore>,
    /// Answers are compressed for clients that take them so; `None`: never.
    pub compression: Option<Compression>,
    /// Which pages of other origins may ask; `None`: nothing is said to browsers.
    pub cors: Option<Cors>,
    /// Which programs may not ask at all.
    pub bot_detector: Option<BotDetector>,
    /// Where traces and metrics go.
    pub telemetry: Option<Arc<Telemetry>>,
}

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// `127.0.0.1` unless the file says `listen_ip`.
    pub ip: IpAddr,
    /// 8080 unless the file says `port`.
    pub port: u16,
}

/// Whose habits are followed: status codes, merge order, form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compat {
    /// No success at all is 500, the later arrival wins a conflict, output is canonical. For files without `annulus`.
    KrakenD,
    /// 502 or 504 with a problem document, the later in the file wins, output is spliced.
    Annulus,
}

/// Connections to upstreams, per shard and upstream address.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Idle connections kept per upstream address; beyond: closed after use.
    pub max_idle_connections_per_host: u32,
    /// An idle connection is closed after this long; `None`: kept until the upstream closes.
    pub idle_connection_timeout: Option<Duration>,
    /// From the first SYN to a usable connection, TLS included; `None`: only the request's deadline.
    pub dialer_timeout: Option<Duration>,
    /// From the request's last byte to the answer's head; `None`: only the request's deadline.
    pub response_header_timeout: Option<Duration>,
    /// One request per connection, as `Connection: close` asks.
    pub disable_keep_alives: bool,
}

/// How long clients may take; a `None` never ends a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// A whole request, body included. Beyond: the connection is closed.
    pub read_timeout: Option<Duration>,
    /// A request's head. Beyond: 408 and the connection is closed.
    pub read_header_timeout: Option<Duration>,
    /// From the request's head to the answer's last byte. Beyond: the connection is closed.
    pub write_timeout: Option<Duration>,
    /// Between two requests of a connection.
    pub idle_timeout: Option<Duration>,
    /// Bytes of a request's head. Beyond: 431.
    pub max_header_bytes: u32,
    /// How long requests in flight may take after the order to end; `None`: as long as they need.
    pub max_shutdown_wait: Option<Duration>,
}

/// Certificates for clients.
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// At least one.
    pub keys: Vec<KeyPair>,
    /// The oldest version spoken: 1.3 unless the file says otherwise, as KrakenD's.
    pub min_version: TlsVersion,
    /// The newest version spoken.
    pub max_version: TlsVersion,
    /// Clients must show a certificate signed by one of these; empty: they need none.
    pub client_ca_certs: Vec<PathBuf>,
    /// When clients must show a certificate, the system's authorities are believed as well.
    pub system_ca_pool: bool,
}

/// How upstreams' certificates are verified and what is shown to them.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientTls {
    /// Certificates are not verified at all.
    pub allow_insecure_connections: bool,
    /// Authorities to believe besides the system's.
    pub ca_certs: Vec<PathBuf>,
    /// The system's authorities are believed.
    pub system_ca_pool: bool,
    /// The oldest version spoken.
    pub min_version: TlsVersion,
    /// The newest version spoken.
    pub max_version: TlsVersion,
    /// What is shown to upstreams that ask.
    pub client_certs: Vec<KeyPair>,
}

/// A certificate chain and its key, both as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The key.
    pub private_key: PathBuf,
}

/// The versions of TLS that are spoken at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// Paths, proxies and messages of the front: the `router` namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Router {
    /// Where the gateway says that it is alive; `None`: nowhere.
    pub health_path: Option<String>,
    /// Whose forwarding headers are believed.
    pub trusted_proxies: Vec<Network>,
    /// Headers, in order, that hold a client's address when a trusted proxy set them. Lower case.
    pub remote_ip_headers: Vec<String>,
    /// Failures carry their reason in the answer's body.
    pub return_error_msg: bool,
    /// No request is logged.
    pub disable_access_log: bool,
    /// Paths whose requests are not logged.
    pub logger_skip_paths: Vec<String>,
    /// Answers do not say which gateway made them.
    pub hide_version_header: bool,
    /// OPTIONS is answered with the path's methods.
    pub auto_options: bool,
    /// A known path with another method is 404 instead of 405.
    pub disable_method_not_allowed: bool,
    /// `/a/` is not redirected to `/a`.
    pub disable_redirect_trailing_slash: bool,
    /// Another name for `disable_compression`.
    pub disable_gzip: bool,
}

/// Answers are compressed for clients that take them so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    /// Those that are offered, at least one; of those that a client likes equally the first is used.
    pub codings: Vec<Coding>,
    /// Shorter answers are sent as they are.
    pub bytes_min: usize,
}

/// How an answer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 7932.
    Brotli,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// As in `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Coding::Brotli => "br",
            Coding::Gzip => "gzip",
        }
    }
}

/// A range of addresses in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its first address.
    pub address: IpAddr,
    /// How many leading bits count: at most 32 or 128.
    pub prefix: u8,
}

impl Network {
    /// Whether an address lies in it. An IPv4 address mapped into IPv6 counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        fn same(a: u128, b: u128, bits: u32, prefix: u8) -> bool {
            prefix == 0 || (a ^ b) >> (bits - u32::from(prefix).min(bits)) == 0
        }
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => same(own.to_bits().into(), other.to_bits().into(), 32, self.prefix),
            (IpAddr::V6(own), IpAddr::V6(other)) => same(own.to_bits(), other.to_bits(), 128, self.prefix),
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.prefix)
    }
}

/// The methods that can be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // RFC 9110 section 9.3 and RFC 5789 say what they are.
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
        }
    }

    /// Whether it asks for nothing to be changed (RFC 9110 section 9.2.1).
    pub fn is_safe(self) -> bool {
        matches!(self, Method::Get | Method::Head | Method::Options)
    }

    /// Whether sending it twice is the same as once (RFC 9110 section 9.2.2).
    pub fn is_idempotent(self) -> bool {
        !matches!(self, Method::Post | Method::Patch)
    }
}

/// Something offered to clients: a method and a path, answered out of backends.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// The path as it was written: what logs and metrics call this endpoint.
    pub pattern: String,
    /// The path, one entry per segment; empty for `/`. A trailing slash is an empty last literal.
    pub path: Vec<Segment>,
    /// The only method it answers.
    pub method: Method,
    /// From the request's head to the answer.
    pub timeout: Duration,
    /// How long clients may keep a complete answer; zero: nothing is said.
    pub cache_ttl: Duration,
    /// The form of the answer.
    pub output_encoding: OutputEncoding,
    /// Which of the client's headers reach backends.
    pub input_headers: Forward,
    /// Which of the client's query parameters reach backends. Names keep their case.
    pub input_query_strings: Forward,
    /// How often each backend is asked at once, where its method is safe; the first success counts.
    pub concurrent_calls: u32,
    /// What is asked, at least one.
    pub backends: Vec<Backend>,
    /// Backends are asked one after another instead of all at once.
    pub sequential: bool,
    /// Members added to the answer.
    pub static_data: Option<Static>,
    /// What is done to the merged answer.
    pub flatmap: Vec<Flatmap>,
    /// How often clients may ask.
    pub rate_limit: Option<RouterRateLimit>,
    /// Whether that is of all gateways together: [`Gateway::rate_limit_store`].
    pub rate_limit_is_global: bool,
    /// Which token clients must show.
    pub validator: Option<Validator>,
    /// Which programs may not ask it.
    pub bot_detector: Option<BotDetector>,
    /// What bodies of requests must look like: a JSON Schema, as JSON.
    pub body_schema: Option<String>,
    /// WebSockets that are passed on to the one backend.
    pub websocket: Option<WebSocket>,
    /// What is refused first when there is too much.
    pub priority: Priority,
    /// Who wins when two backends answer the same member.
    pub merge_order: MergeOrder,
    /// Whether the file says so, here or at its root; else it is [`Compat`]'s.
    pub merge_order_is_set: bool,
    /// How the merged answer is written.
    pub output: Output,
    /// Whether the file says so, here or at its root; else it is [`Compat`]'s.
    pub output_is_set: bool,
    /// Why every request is answered 501: the file asks for something that we do not offer, and
    /// `--allow-unsupported` let it pass.
    pub unsupported: Option<String>,
    /// Where the file says so.
    pub location: Location,
}

impl Endpoint {
    /// The backends whose answers count: all but shadows. A [`Piece::Response`] is an index into these.
    pub fn answering(&self) -> impl Iterator<Item = &Backend> {
        self.backends.iter().filter(|backend| backend.shadow.is_none())
    }

    /// The path's parameters in order; a [`Piece::Parameter`] is an index into this.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.path.iter().filter_map(Segment::parameter)
    }
}

/// Between two slashes of an endpoint's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Exactly this.
    Literal(String),
    /// Any one segment, by this name.
    Parameter(String),
    /// The rest of the path, slashes included, by this name (`wildcard` if the file gave none). Only as the last.
    Wildcard(String),
}

impl Segment {
    /// Its name, if it matches more than one text.
    pub fn parameter(&self) -> Option<&str> {
        match self {
            Segment::Literal(_) => None,
            Segment::Parameter(name) | Segment::Wildcard(name) => Some(name),
        }
    }
}

/// What of the client's headers or query parameters goes on to backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forward {
    /// Everything.
    All,
    /// Only these; headers in lower case. In the file's order, without repetition.
    Only(Vec<String>),
}

impl Forward {
    /// Whether a name goes on. Headers must be given in lower case.
    pub fn allows(&self, name: &str) -> bool {
        match self {
            Forward::All => true,
            Forward::Only(names) => names.iter().any(|listed| listed == name),
        }
    }
}

/// The form of an endpoint's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputEncoding {
    /// One object.
    Json,
    /// An array: the member `collection`, bare.
    JsonCollection,
    /// The member `content` as text.
    String,
    /// The backend's answer, byte for byte.
    NoOp,
    /// As the client's `Accept` asks.
    Negotiate,
    /// An XML document.
    Xml,
    /// A YAML document.
    Yaml,
}

/// Members that are added to an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Static {
    /// When.
    pub strategy: StaticStrategy,
    /// In the file's order.
    pub data: Vec<StaticMember>,
}

/// A member and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct StaticMember {
    /// The name, unescaped.
    pub name: String,
    /// The value as compact JSON.
    pub json: String,
}

/// When static members are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaticStrategy {
    /// Always.
    Always,
    /// When no backend failed outright: the answer is one, complete or not.
    Success,
    /// When every backend answered.
    Complete,
    /// When there is an error, whatever else there is.
    Errored,
    /// When some backend did not answer.
    Incomplete,
}

/// A change to an answer that may cross levels. Paths are split at dots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flatmap {
    /// What was there is now here.
    Move {
        /// From.
        from: Vec<FlatmapKey>,
        /// To, as many wildcards as in `from` at most.
        to: Vec<FlatmapKey>,
    },
    /// The elements there are added to the collection here.
    Append {
        /// From.
        from: Vec<FlatmapKey>,
        /// To.
        to: Vec<FlatmapKey>,
    },
    /// These are gone.
    Delete(Vec<Vec<FlatmapKey>>),
}

/// A step of a flatmap path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlatmapKey {
    /// A member of this name; of an array, the element of this index.
    Name(String),
    /// Every element or member: `*`.
    Any,
}

/// Where several gateways keep rate limits together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitStore {
    /// A Redis that all of them use.
    pub redis: crate::redis::Settings,
    /// What keys begin with there.
    pub prefix: String,
    /// How long a request waits for it before limits are kept locally.
    pub timeout: Duration,
    /// How many gateways share the limits while each keeps them alone.
    pub gateways: u32,
}

/// How often clients may ask.
#[derive(Clone, Debug, PartialEq)]
pub struct RouterRateLimit {
    /// All together; beyond: 503 with Retry-After.
    pub all: Option<Rate>,
    /// Each by itself; beyond: 429 with Retry-After.
    pub client: Option<ClientRate>,
}

/// How often one client may ask.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientRate {
    /// How often.
    pub rate: Rate,
    /// Who is one client.
    pub key: ClientKey,
}

/// What tells clients apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientKey {
    /// The address.
    Ip,
    /// The address in this header, or in X-Forwarded-For if the header is not there. Lower case.
    IpFromHeader(String),
    /// The value of this header. Lower case.
    Header(String),
    /// The value of this parameter of the path: an index into [`Endpoint::parameters`].
    Parameter(usize),
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Tokens added in each `every`, above 0; may be a fraction.
    pub tokens: f64,
    /// The time in which they are added.
    pub every: Duration,
    /// Tokens that can be saved up, at least 1.
    pub capacity: u64,
}

/// What is refused first when there is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// First.
    Sheddable,
    /// Next.
    Normal,
    /// Last.
    Critical,
}

/// Who wins when two backends answer the same member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeOrder {
    /// The later in the file.
    Declared,
    /// The later to answer.
    Arrival,
}

/// How a merged answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The upstreams' own bytes, spliced in the order of backends.
    Fast,
    /// Keys sorted bytewise, `<>&` escaped, numbers verbatim.
    Canonical,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses() {
        for (network, prefix, address, expected) in [
            ("10.0.0.0", 8, "10.255.0.1", true),
            ("10.0.0.0", 8, "11.0.0.1", false),
            ("10.0.0.0", 8, "::ffff:10.1.1.1", true),
            ("0.0.0.0", 0, "255.255.255.255", true),
            ("0.0.0.0", 0, "::1", false),
            ("192.168.1.7", 32, "192.168.1.7", true),
            ("192.168.1.7", 32, "192.168.1.6", false),
            ("fd00::", 8, "fd12::1", true),
            ("::", 0, "2001:db8::1", true),
            ("::1", 128, "::2", false),
        ] {
            let network = Network { address: network.parse().unwrap(), prefix };
            assert_eq!(network.contains(address.parse().unwrap()), expected, "{network} {address}");
        }
    }
}
