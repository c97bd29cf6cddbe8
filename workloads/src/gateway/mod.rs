//! `annulus gateway`: one answer out of many upstreams' answers, described by a KrakenD v3 configuration file.
//!
//! ```text
//!   service.rs    one port per shard        session1.rs  session2.rs   a client's connection, HTTP/1.1 and HTTP/2
//!   live.rs       a configuration in force: route.rs ─► endpoint.rs ─► fanout.rs ─► backend.rs ─► upstream/
//!   targets.rs    whom a backend asks: hosts as written, or as SRV records tell (dns/), chosen by balance.rs among those
//!                 that health.rs finds well
//!   part.rs       answers shaped and merged, as spans of the upstreams' own texts
//!   config/       the configuration file    own.rs       health, figures, the dashboard
//! ```

pub(crate) mod access;
mod backend;
mod balance;
mod breaker;
mod bucket;
mod cache;
mod client;
mod compression;
pub mod config;
pub mod dns;
mod encoding;
mod endpoint;
mod fanout;
mod figures;
mod grpc;
mod guard;
mod health;
mod hedge;
mod identity;
mod inflow;
mod live;
mod memory;
mod message;
mod meters;
mod own;
mod part;
mod problem;
mod quota;
pub mod reload;
mod request;
mod retry;
mod route;
pub mod service;
mod session1;
mod session2;
mod shadow;
mod shed;
mod targets;
mod telemetry;
mod throttle;
pub(crate) mod tls;
mod tunnel;
mod upstream;

/// The client side, for `annulus fetch` and for the chat's hooks.
pub(crate) mod fetching {
    pub use super::breaker::{Breaker, Pass, State};
    pub use super::config::address::network;
    pub use super::config::model::{CircuitBreaker, Network};
    pub use super::dns::system_resolver;
    pub use super::message::{Call, Cause, Failure, FieldList, Phase, is_hop_by_hop};
    pub use super::tls::client_config;
    pub use super::upstream::{Answer, Dialer, Origin, Protocol, Settings, Upstream, Upstreams};
}
