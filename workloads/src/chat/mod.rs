//! `annulus chat`: real-time messaging for Centrifuge clients over WebSocket.
//!
//! ```text
//!   serve.rs    one task per shard: sockets, HTTP, WebSocket
//!   hub.rs      one hub per shard: what clients may do, who hears what; no socket
//!   channel.rs  session.rs  users.rs    what the hub keeps
//!   http.rs     routes and answers      api.rs   the server's HTTP API      page.html   the page at /
//! ```

mod api;
pub mod channel;
mod http;
pub mod hub;
pub mod serve;
pub mod session;
pub mod users;

use std::net::SocketAddr;

/// What a deployment may choose of the chat's behaviour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Clients need no token, and may claim any user name. For development.
    pub insecure: bool,
    /// Publications kept per channel; 0: none, and no recovery.
    pub history_size: usize,
    /// How long they are kept, in milliseconds.
    pub history_ttl_ms: u64,
    /// Whether clients may ask who is there.
    pub presence: bool,
    /// Whether clients may be told who comes and goes.
    pub join_leave: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { insecure: false, history_size: 100, history_ttl_ms: 300_000, presence: true, join_leave: true }
    }
}

/// How the chat is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Whether clients need no token; `None`: only on the loopback interface.
    pub insecure: Option<bool>,
    /// Origins whose pages may connect, besides our own; `*` stands for anything but a slash.
    pub allowed_origins: Vec<String>,
    /// The key of the HTTP API; without one the API is open where the chat is insecure, and closed elsewhere.
    pub api_key: Option<String>,
    /// Largest message of a client in bytes. Beyond: close 1009.
    pub message_bytes_max: usize,
    /// Bytes that may wait for one client. Beyond: the connection is cut.
    pub outbox_bytes_max: usize,
    /// How long an HTTP connection may be silent between requests, in milliseconds.
    pub idle_ms_max: u64,
    /// The hub's options.
    pub options: Options,
    /// Names this run of the process.
    pub uid: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: ([127, 0, 0, 1], 8000).into(),
            insecure: None,
            allowed_origins: Vec::new(),
            api_key: None,
            message_bytes_max: 65536,
            outbox_bytes_max: 1 << 20,
            idle_ms_max: 60_000,
            options: Options::default(),
            uid: std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default().trim().to_owned(),
        }
    }
}

impl Config {
    /// Whether clients need no token here.
    pub fn is_insecure(&self) -> bool {
        self.insecure.unwrap_or(self.listen.ip().is_loopback())
    }
}
