//! `annulus chat`: real-time messaging for Centrifuge clients over WebSocket.
//!
//! ```text
//!   serve.rs    one task per shard: sockets, HTTP, WebSocket
//!   hub.rs      one hub per shard: what clients may do, who hears what; no socket
//!   channel.rs  session.rs  users.rs    what the hub keeps
//!   api.rs      the server's HTTP API     page.html  the page at /
//! ```

pub mod channel;
pub mod hub;
pub mod session;
pub mod users;

/// What a deployment may choose.
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
