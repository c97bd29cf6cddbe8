//! WebSockets that are passed on.

use std::time::Duration;

/// WebSockets of an endpoint, passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocket {
    /// Those that clients may offer to the backend; empty: all.
    pub subprotocols: Vec<String>,
    /// One on which nothing moves for so long ends.
    pub idle: Duration,
    /// Other requests are passed on as well; else: 426.
    pub serves_others: bool,
    /// As many are open at once at most, on all shards; beyond: 503.
    pub tunnels_max: usize,
}
