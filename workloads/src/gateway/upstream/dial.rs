//! Making connections to upstreams: name, address, TCP, TLS, and the protocol that comes of it.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::tls::TlsStream;
use annulus_engine::tls::rustls::ClientConfig;
use annulus_engine::tls::rustls::pki_types::ServerName;
use annulus_engine::{Address, Shard, SocketOptions};

use super::{Origin, Protocol};
use crate::gateway::dns::Resolver;
use crate::gateway::message::{Cause, Failure, Phase};
use crate::serve::wire::Wire;

/// How long data may stay unacknowledged before a connection counts as dead.
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// The protocol spoken on a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// One call at a time.
    Http1,
    /// Many at once.
    Http2,
}

/// Makes a shard's connections.
pub struct Dialer {
    shard: Shard,
    resolver: Rc<Resolver>,
    /// By the protocols they offer: both, HTTP/2 alone, HTTP/1.1 alone.
    tls: [Arc<ClientConfig>; 3],
    timeout: Duration,
    /// Where it may connect to; `None`: anywhere.
    allowed: Option<Allowed>,
}

/// Says whether an address may be connected to, or why not.
pub type Allowed = Rc<dyn Fn(IpAddr) -> Result<(), String>>;

impl Dialer {
    /// A dialer that gives each address `timeout`.
    pub fn new(shard: &Shard, resolver: Rc<Resolver>, tls: &Arc<ClientConfig>, timeout: Duration) -> Dialer {
        let offering = |protocols: &[&[u8]]| {
            let mut config = ClientConfig::clone(tls);
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Arc::new(config)
        };
        let tls = [offering(&[b"h2", b"http/1.1"]), offering(&[b"h2"]), offering(&[b"http/1.1"])];
        Dialer { shard: shard.clone(), resolver, tls, timeout, allowed: None }
    }

    /// The same, but it connects only where it is allowed to.
    pub fn within(self, allowed: Allowed) -> Dialer {
        Dialer { allowed: Some(allowed), ..self }
    }

    /// Connects to one of the origin's addresses, the next ones when one fails. `enter` is told each phase.
    pub(super) async fn dial(&self, origin: &Origin, enter: &dyn Fn(Phase)) -> Result<(Wire, Spoken), Failure> {
        enter(Phase::Resolve);
        let addresses = self.addresses(&origin.host).await?;
        enter(Phase::Connect);
        let mut last = Failure::timeout(Phase::Connect);
        for &ip in addresses.iter() {
            // Asked of what is connected to, not of the name: that may mean something else by now.
            if let Some(Err(why)) = self.allowed.as_ref().map(|allowed| allowed(ip)) {
                last = Failure { phase: Phase::Connect, cause: Cause::Transport(why), unprocessed: true };
                continue;
            }
            let connecting = self.connect(origin, SocketAddr::new(ip, origin.port));
            match self.shard.timeout(self.timeout, connecting).await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(failure)) => last = failure,
                Err(_elapsed) => last = Failure::timeout(Phase::Connect),
            }
        }
        Err(last)
    }

    async fn addresses(&self, host: &str) -> Result<Rc<[IpAddr]>, Failure> {
        self.resolver.addresses(host).await.map_err(|error| Failure {
            phase: Phase::Resolve,
            cause: Cause::Unresolved(host.to_owned(), error),
            unprocessed: true,
        })
    }

    async fn connect(&self, origin: &Origin, address: SocketAddr) -> Result<(Wire, Spoken), Failure> {
        let options = SocketOptions { user_timeout: Some(USER_TIMEOUT), ..SocketOptions::default() };
        let failed = |error| Failure::transport(Phase::Connect, &error);
        let stream = self.shard.connect(&Address::Ip(address), &options).await.map_err(failed)?;
        if !origin.tls {
            let spoken = if origin.protocol == Protocol::Http2 { Spoken::Http2 } else { Spoken::Http1 };
            return Ok((Wire::Plain(stream), spoken));
        }
        let config = match origin.protocol {
            Protocol::Auto => &self.tls[0],
            Protocol::Http2 => &self.tls[1],
            Protocol::Http1 => &self.tls[2],
        };
        let name = ServerName::try_from(origin.host.trim_matches(['[', ']']).to_owned())
            .map_err(|_| Failure::protocol(Phase::Connect, "its name cannot be in a certificate"))?;
        let stream = TlsStream::connect(stream, config.clone(), name).await.map_err(failed)?;
        let spoken = match stream.alpn() {
            Some(b"h2") => Spoken::Http2,
            // Asked for HTTP/2 alone, it agreed to nothing: RFC 9113 section 3.2 leaves no other way with TLS.
            _ if origin.protocol == Protocol::Http2 => {
                return Err(Failure::protocol(Phase::Connect, "it does not offer HTTP/2 (ALPN)"));
            }
            _ => Spoken::Http1,
        };
        Ok((Wire::Tls(Box::new(stream)), spoken))
    }
}
