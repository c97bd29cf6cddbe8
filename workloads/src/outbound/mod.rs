//! What a service asks of other servers by itself: a shard's connections to them, shared by all that have the same TLS settings.

mod document;
mod endpoint;
mod reach;
pub mod webhook;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::Shard;
use annulus_engine::tls::rustls::ClientConfig;

use crate::gateway::config::model::{ClientTls, TlsVersion};
use crate::gateway::dns::Resolver;
use crate::gateway::fetching::{self, Dialer, Upstream, Upstreams};

pub use document::{get, post_json};
pub use endpoint::Endpoint;
pub use reach::Reach;

/// What servers see as the client's program.
pub const AGENT: &[u8] = concat!("annulus/", env!("CARGO_PKG_VERSION")).as_bytes();
/// How long making a connection to one address may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a connection is kept idle. Less than any usual backend keeps it (Node.js: 5 s), because a POST that meets
/// the backend's close cannot be sent again.
const IDLE_MAX: Duration = Duration::from_secs(3);
/// Idle connections per origin; more are closed as they become idle.
const IDLE_COUNT_MAX: usize = 64;
/// How often connections that were idle for too long are looked for, while calls are made.
const SWEEP_EVERY: Duration = Duration::from_millis(500);

/// What servers are verified by: the authorities that the system trusts.
///
/// # Errors
/// A sentence.
pub fn trusted() -> Result<Arc<ClientConfig>, String> {
    fetching::client_config(&ClientTls {
        allow_insecure_connections: false,
        ca_certs: Vec::new(),
        system_ca_pool: true,
        min_version: TlsVersion::Tls12,
        max_version: TlsVersion::Tls13,
        client_certs: Vec::new(),
    })
}

/// Connections to other servers.
pub struct Outbound {
    shard: Shard,
    upstreams: Upstreams,
    swept: Cell<Duration>,
}

impl Outbound {
    /// Without connections yet. They go wherever their endpoints are.
    pub fn new(shard: &Shard, resolver: Rc<Resolver>, tls: &Arc<ClientConfig>) -> Rc<Outbound> {
        Outbound::within(shard, resolver, tls, Reach::Anywhere)
    }

    /// Without connections yet. They go no further than `reach`, whatever a name means when it is connected to.
    pub fn within(shard: &Shard, resolver: Rc<Resolver>, tls: &Arc<ClientConfig>, reach: Reach) -> Rc<Outbound> {
        let allowed = move |address| match reach.allows(address) {
            true => Ok(()),
            false => Err(reach::refusal(address)),
        };
        let dialer = Rc::new(Dialer::new(shard, resolver, tls, CONNECT_MAX).within(Rc::new(allowed)));
        let settings =
            fetching::Settings { idle_max: IDLE_COUNT_MAX, idle_timeout: IDLE_MAX, ..fetching::Settings::default() };
        let upstreams = Upstreams::new(shard, dialer, settings);
        Rc::new(Outbound { shard: shard.clone(), upstreams, swept: Cell::new(shard.now()) })
    }

    /// The shard that it is on.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// The one that an endpoint is on. Idle connections are kept for as long as somebody holds it.
    pub fn upstream(&self, endpoint: &Endpoint) -> Rc<Upstream> {
        self.upstreams.of(endpoint.origin.clone())
    }

    /// Closes what has been idle for too long. Called before calls, so that none meets such a connection; between calls
    /// it is the other side that closes.
    pub fn sweep(&self) {
        let now = self.shard.now();
        if now.saturating_sub(self.swept.get()) >= SWEEP_EVERY {
            self.swept.set(now);
            self.upstreams.sweep();
        }
    }
}
