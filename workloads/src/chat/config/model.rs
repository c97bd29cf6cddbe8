//! What a deployment may choose of the chat: plain structs, parsed once and passed down.
//!
//! Sizes are bytes and times are milliseconds, and their names say so. A limit that is 0 is off only where its line
//! says that 0 is off.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::channels::Channels;
use super::events::Events;
use super::hooks::Hooks;
use super::secret::{KeySource, Pem, Secret};

/// How the chat is served.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// TLS on the listener; none: plain TCP.
    pub tls: Option<Tls>,
    /// Where what is asked for is found.
    pub paths: Paths,
    /// Whether clients may come by HTTP streams.
    pub http_stream: bool,
    /// Whether clients may come by server-sent events.
    pub sse: bool,
    /// Origins whose pages may connect; `*` stands for anything but a slash. Requests without an origin always may.
    pub allowed_origins: Vec<String>,
    /// Whether pages of the origin that the request itself goes to may connect without being listed.
    pub allow_own_origin: bool,
    /// Largest message of a client in bytes. Beyond: close 1009.
    pub message_bytes_max: usize,
    /// Bytes that may wait for one client. Beyond: what the namespace says of slow clients.
    pub outbox_bytes_max: usize,
    /// Bytes that may wait for all clients of the process together. Beyond: the slowest give way first. 0: off.
    pub outbound_bytes_max: usize,
    /// How long an HTTP connection may be silent between requests, in milliseconds.
    pub idle_ms_max: u64,
    /// How long a client may take nothing of what is written to it, in milliseconds. Beyond: the connection is cut.
    pub write_ms_max: u64,
    /// How long clients are given to go to other nodes at the end, in milliseconds.
    pub shutdown_ms_max: u64,
    /// Connections at the same time. Beyond: 503. 0: off.
    pub connections_max: usize,
    /// What clients may do and when they are cut off.
    pub client: Client,
    /// What connection tokens must be signed with; and subscription tokens, if those have no own section.
    pub tokens: Tokens,
    /// What subscription tokens must be signed with; none: as `tokens`.
    pub subscription_tokens: Option<Tokens>,
    /// Channels and their namespaces.
    pub channels: Channels,
    /// What the backend is asked about.
    pub hooks: Hooks,
    /// What the backend is told happened; none: nothing.
    pub events: Option<Events>,
    /// The server's HTTP API.
    pub api: Api,
    /// The console.
    pub admin: Admin,
    /// permessage-deflate (RFC 7692); none: not negotiated.
    pub compression: Option<Compression>,
    /// The write-ahead log.
    pub log: Log,
    /// Where publications go from the log.
    pub database: Database,
    /// Whether there is to be one where nothing says which: see [`Config::settle`].
    pub has_database: bool,
    /// What several nodes share; none: this node is alone.
    pub broker: Option<Broker>,
    /// The keys of publications at rest.
    pub encryption: Encryption,
    /// How often what may be done.
    pub rates: Rates,
    /// Whether each request and each connection is a line on standard output. Tokens are left out of it.
    pub access_log: bool,
    /// What this node calls itself in `info`; empty: the host's name and the port.
    pub node_name: String,
    /// Names this run of the process.
    pub uid: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: ([127, 0, 0, 1], 8000).into(),
            tls: None,
            paths: Paths::default(),
            http_stream: false,
            sse: false,
            allowed_origins: Vec::new(),
            allow_own_origin: true,
            message_bytes_max: 65_536,
            outbox_bytes_max: 1 << 20,
            outbound_bytes_max: 256 << 20,
            idle_ms_max: 60_000,
            write_ms_max: 30_000,
            shutdown_ms_max: 30_000,
            connections_max: 0,
            client: Client::default(),
            tokens: Tokens::default(),
            subscription_tokens: None,
            channels: Channels::default(),
            hooks: Hooks::default(),
            events: None,
            api: Api::default(),
            admin: Admin::default(),
            compression: None,
            log: Log::default(),
            database: Database::None,
            has_database: true,
            broker: None,
            encryption: Encryption::default(),
            rates: Rates::default(),
            access_log: false,
            node_name: String::new(),
            uid: std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default().trim().to_owned(),
        }
    }
}

impl Config {
    /// What Centrifugo v6 does without a file: the whole network may come, with a token, and nothing is allowed.
    pub fn centrifugo() -> Config {
        Config {
            listen: ([0, 0, 0, 0], 8000).into(),
            paths: Paths { health: None, metrics: None, ..Paths::default() },
            allow_own_origin: false,
            write_ms_max: 1000,
            client: Client { insecure: Some(false), ..Client::default() },
            channels: Channels::centrifugo(),
            hooks: Hooks { rpc_hook: None, ..Hooks::default() },
            api: Api { insecure: Some(false), ..Api::default() },
            rates: Rates::OFF,
            ..Config::default()
        }
    }

    /// Puts what is to be kept, and is not said to be kept elsewhere, into `data`.
    pub fn settle(&mut self, data: &Path) {
        if self.log.enabled && self.log.directory.is_none() {
            self.log.directory = Some(data.join("log"));
        }
        if !self.log.enabled {
            self.log.directory = None;
        }
        if self.has_database && self.database == Database::None && self.log.directory.is_some() {
            self.database = Database::Sqlite { directory: data.join("database") };
        }
    }

    /// Whether clients need no token here: if that was chosen, or on the loopback interface as long as nothing says who
    /// clients are.
    pub fn is_insecure(&self) -> bool {
        self.client.insecure.unwrap_or(self.listen.ip().is_loopback() && !self.tells_clients_apart())
    }

    /// Whether something says who clients are, or that it does not matter.
    pub fn tells_clients_apart(&self) -> bool {
        self.tokens.has_key()
            || self.hooks.connect.is_some()
            || self.client.user_id_header.is_some()
            || self.client.allow_anonymous_connect_without_token
            || self.client.insecure_skip_signature
    }

    /// Whether the HTTP API answers without a key: if that was chosen, or if clients need none and there is no key.
    pub fn is_api_open(&self) -> bool {
        self.api.insecure.unwrap_or_else(|| self.api.keys.is_empty() && self.is_insecure())
    }

    /// Whether clients may come by what carries messages down only.
    pub fn has_emulation(&self) -> bool {
        self.http_stream || self.sse
    }

    /// Whether a channel may be called so, whatever its length: printable ASCII, and with a broker no brace that ends its
    /// part of a key before that has begun.
    pub fn is_channel_name(&self, name: &str) -> bool {
        let is_taggable = self.broker.is_none() || !name.starts_with('}');
        is_taggable && name.bytes().all(|byte| (0x20..0x7f).contains(&byte))
    }

    /// The files that it names, which are read at the start or when the process is told to.
    pub fn files(&self) -> Vec<&Path> {
        let tokens = std::iter::once(&self.tokens).chain(&self.subscription_tokens);
        let tokens = tokens.flat_map(|tokens| {
            let keys = [&tokens.rsa_public_key, &tokens.ecdsa_public_key, &tokens.ed25519_public_key];
            keys.into_iter().flatten().filter_map(Pem::path).chain(tokens.jwks_file.as_deref())
        });
        let pair = self.tls.iter().flat_map(|tls| [&tls.cert, &tls.key]).filter_map(Pem::path);
        let keys = self.encryption.keys.iter().filter_map(|(_, source)| match source {
            KeySource::File(path) => Some(path.as_path()),
            KeySource::Environment(_) => None,
        });
        let schemas = self.channels.all().filter_map(|namespace| namespace.schema.as_deref());
        tokens.chain(pair).chain(keys).chain(schemas).collect()
    }

    /// What subscription tokens must be signed with.
    pub fn subscription_tokens(&self) -> &Tokens {
        self.subscription_tokens.as_ref().unwrap_or(&self.tokens)
    }
}

/// TLS on the listener. Both are read again on SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and what it was signed with, in order.
    pub cert: Pem,
    /// Its private key.
    pub key: Pem,
}

/// Where what is asked for is found. Each starts with a slash and ends without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Where clients connect by WebSocket.
    pub websocket: String,
    /// Where clients connect by HTTP streams, if they may.
    pub http_stream: String,
    /// Where clients connect by server-sent events, if they may.
    pub sse: String,
    /// Where clients of these two send their commands.
    pub emulation: String,
    /// What the methods of the HTTP API are under.
    pub api: String,
    /// Whether the node is well; none: it is not told.
    pub health: Option<String>,
    /// Figures for Prometheus; none: there are none.
    pub metrics: Option<String>,
}

impl Default for Paths {
    fn default() -> Paths {
        Paths {
            websocket: "/connection/websocket".to_owned(),
            http_stream: "/connection/http_stream".to_owned(),
            sse: "/connection/sse".to_owned(),
            emulation: "/emulation".to_owned(),
            api: "/api".to_owned(),
            health: Some("/health".to_owned()),
            metrics: Some("/metrics".to_owned()),
        }
    }
}

/// What clients may do and when they are cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Whether everybody is let in without a token and may do everything; `None`: only on the loopback interface.
    /// A token that is sent is verified all the same.
    pub insecure: Option<bool>,
    /// Whether tokens are believed without their signature. For tests only.
    pub insecure_skip_signature: bool,
    /// Whether a client without a token is let in, as the user without a name.
    pub allow_anonymous_connect_without_token: bool,
    /// Whether a token without a user is refused: disconnect 3507.
    pub disallow_anonymous_tokens: bool,
    /// Channels per connection. Beyond: error 106.
    pub channel_limit: usize,
    /// Bytes of a channel's name. Beyond: error 107.
    pub channel_bytes_max: usize,
    /// Connections of one user on this node. Beyond: disconnect 3504. 0: off.
    pub user_connection_limit: usize,
    /// How long a connection may be open without `connect`, in milliseconds. Beyond: disconnect 3502.
    pub stale_close_delay_ms: u64,
    /// How long after its token's end a connection may be refreshed, in milliseconds. Beyond: disconnect 3005.
    pub expired_close_delay_ms: u64,
    /// How long after its token's end a subscription may be refreshed, in milliseconds. Beyond: disconnect 3006.
    pub expired_sub_close_delay_ms: u64,
    /// How often the server pings, in milliseconds. 0: never.
    pub ping_interval_ms: u64,
    /// How long an answer to a ping may take, in milliseconds. Beyond: disconnect 3012. 0: for ever.
    pub pong_timeout_ms: u64,
    /// Publications in one page of history. A larger page is cut to it.
    pub history_max: usize,
    /// Publications that one recovery brings. More were missed: not recovered.
    pub recovery_max: usize,
    /// Whether each user is subscribed to a channel of their own on `connect`.
    pub personal_channel: Option<PersonalChannel>,
    /// The header that names the user, set by a proxy that has authenticated them; in lower case.
    pub user_id_header: Option<String>,
    /// Whether the reply to `connect` tells the server's time.
    pub include_server_time: bool,
}

impl Default for Client {
    fn default() -> Client {
        Client {
            insecure: None,
            insecure_skip_signature: false,
            allow_anonymous_connect_without_token: false,
            disallow_anonymous_tokens: false,
            channel_limit: 128,
            channel_bytes_max: 255,
            user_connection_limit: 0,
            stale_close_delay_ms: 10_000,
            expired_close_delay_ms: 25_000,
            expired_sub_close_delay_ms: 25_000,
            ping_interval_ms: 25_000,
            pong_timeout_ms: 8_000,
            history_max: 300,
            recovery_max: 300,
            personal_channel: None,
            user_id_header: None,
            include_server_time: false,
        }
    }
}

/// A channel per user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PersonalChannel {
    /// The namespace that it is in; empty: in none.
    pub namespace: String,
    /// Whether a user's new connection cuts off the older ones; found by the channel's presence.
    pub single_connection: bool,
}

/// What tokens must be signed with, and what they must say. Without any key, every token is invalid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// HS256, HS384, HS512.
    pub hmac_secret: Option<Secret>,
    /// The secret before the present one, while tokens signed with it are about.
    pub hmac_previous_secret: Option<Secret>,
    /// Until when that one is good, in seconds since 1970; `None`: for ever.
    pub hmac_previous_valid_until: Option<u64>,
    /// RS256, RS384, RS512.
    pub rsa_public_key: Option<Pem>,
    /// ES256, ES384.
    pub ecdsa_public_key: Option<Pem>,
    /// EdDSA.
    pub ed25519_public_key: Option<Pem>,
    /// Where the set of keys (RFC 7517) is.
    pub jwks_url: Option<String>,
    /// The set of keys in a file; read again on SIGHUP.
    pub jwks_file: Option<PathBuf>,
    /// What must be among a token's `aud`.
    pub audience: Option<String>,
    /// What a token's `iss` must be.
    pub issuer: Option<String>,
    /// The claim that is the user; `None`: `sub`.
    pub user_id_claim: Option<String>,
}

impl Tokens {
    /// Whether there is anything to verify a token with.
    pub fn has_key(&self) -> bool {
        self.hmac_secret.is_some()
            || self.rsa_public_key.is_some()
            || self.ecdsa_public_key.is_some()
            || self.ed25519_public_key.is_some()
            || self.jwks_url.is_some()
            || self.jwks_file.is_some()
    }
}

/// The server's HTTP API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// Whether it is there at all.
    pub enabled: bool,
    /// Any of these, in `X-API-Key`, in `Authorization: apikey` or in `?api_key=`.
    pub keys: Vec<Secret>,
    /// Whether it answers without a key; `None`: see [`Config::is_api_open`].
    pub insecure: Option<bool>,
}

impl Default for Api {
    fn default() -> Api {
        Api { enabled: true, keys: Vec::new(), insecure: None }
    }
}

/// The console.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admin {
    /// Whether it is there at all; `None`: where clients need no token on the loopback interface.
    pub enabled: Option<bool>,
    /// What is asked for at the door.
    pub password: Option<Secret>,
    /// What signs the tokens of those who came in; none: a random one, so that a restart sends everybody to the door.
    pub secret: Option<Secret>,
    /// Whether everybody may come in.
    pub insecure: bool,
}

/// permessage-deflate (RFC 7692), always without context takeover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    /// Messages shorter than this go out as they are, in bytes.
    pub min_bytes: usize,
}

impl Default for Compression {
    fn default() -> Compression {
        Compression { min_bytes: 128 }
    }
}

/// The write-ahead log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Whether there is to be one where nothing says where: see [`Config::settle`].
    pub enabled: bool,
    /// Where it is; none: there is no log, and nothing outlives the process.
    pub directory: Option<PathBuf>,
    /// Whether a damaged log is opened without what is damaged, once and for all.
    pub accept_loss: bool,
    /// Bytes of a segment's file.
    pub segment_bytes: u64,
    /// Bytes of all segments. Beyond: publishing gets a temporary error until the database has caught up.
    pub bytes_max: u64,
    /// Bytes that one batch, and so one fdatasync, takes.
    pub batch_bytes_max: usize,
    /// Bytes written between checkpoints; what a start reads again.
    pub checkpoint_bytes: u64,
}

impl Default for Log {
    fn default() -> Log {
        Log {
            enabled: true,
            directory: None,
            accept_loss: false,
            segment_bytes: 16 << 20,
            bytes_max: 4 << 30,
            batch_bytes_max: 256 << 10,
            checkpoint_bytes: 64 << 20,
        }
    }
}

/// Where publications go from the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Database {
    /// Nowhere.
    #[default]
    None,
    /// The embedded one.
    Sqlite {
        /// Its folder; made if it is not there.
        directory: PathBuf,
    },
    /// PostgreSQL.
    Postgres {
        /// `postgres://user:password@host:port/database`; it holds a password.
        url: Secret,
        /// Connections, and so writers: 50 hold 250 messages/s where the database takes 200 ms.
        connections: usize,
        /// Rows of one statement.
        batch_rows_max: usize,
    },
}

/// The Redis that makes several nodes one chat: it numbers publications, keeps history, and passes everything on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Where it is, as a `redis://`, `rediss://` or `redis+cluster://` URL; it may hold a password.
    pub redis: Secret,
    /// What all names in it begin with: one Redis serves several chats apart.
    pub prefix: String,
}

impl Default for Broker {
    fn default() -> Broker {
        Broker { redis: Secret::new("redis://127.0.0.1:6379"), prefix: "annulus".to_owned() }
    }
}

/// The keys of publications at rest, in the log and in the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encryption {
    /// The name of the key that new publications are encrypted with; `None`: nothing is encrypted.
    pub current: Option<String>,
    /// All that publications may be encrypted with, by name. [`Encryption::load`] fetches them.
    pub keys: Vec<(String, KeySource)>,
}

/// How often something may be done: a bucket that holds `burst` and fills by `per_second`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// How many each second in the long run. 0: off, without any limit.
    pub per_second: u32,
    /// How many at once after a pause.
    pub burst: u32,
}

impl Rate {
    /// No limit.
    pub const OFF: Rate = Rate { per_second: 0, burst: 0 };

    /// So many each second, and twice as many at once.
    pub const fn of(per_second: u32) -> Rate {
        Rate { per_second, burst: per_second.saturating_mul(2) }
    }

    /// Whether there is a limit.
    pub const fn is_on(self) -> bool {
        self.per_second > 0
    }
}

/// How often what may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Commands of one connection. Beyond: error 111, temporary. Sixteen clients who are looked up for an answer to presence
    /// cost one more.
    pub commands: Rate,
    /// Publications of one user, all connections on one core together. Beyond: error 111, temporary. Users without a
    /// name are counted by connection.
    pub publishes: Rate,
    /// New connections from one address. Beyond: 429. Off by default: behind a proxy all clients have one address.
    pub handshakes: Rate,
    /// New connections of the node. Beyond: 503 with `Retry-After`.
    pub accepts: Rate,
}

impl Rates {
    /// No limits, as in Centrifugo.
    pub const OFF: Rates =
        Rates { commands: Rate::OFF, publishes: Rate::OFF, handshakes: Rate::OFF, accepts: Rate::OFF };
}

impl Default for Rates {
    /// Far above what people and their applications do, and below what harms a node.
    fn default() -> Rates {
        Rates {
            commands: Rate::of(1000),
            publishes: Rate::of(1000),
            handshakes: Rate::OFF,
            accepts: Rate { per_second: 5000, burst: 20_000 },
        }
    }
}
