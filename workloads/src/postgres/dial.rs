//! Making connections to one of the servers: name, address, TCP or a Unix socket, and TLS as the URL wants it.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::tls::TlsStream;
use annulus_engine::tls::rustls::ClientConfig;
use annulus_engine::tls::rustls::pki_types::ServerName;
use annulus_engine::{Address, Shard, SocketOptions, Stream};
use bytes::BytesMut;
use postgres_protocol::message::frontend;

use super::trouble::Trouble;
use super::url::{Host, SslMode, Target};
use crate::gateway::config::model::{ClientTls, KeyPair, TlsVersion};
use crate::gateway::dns::Resolver;
use crate::gateway::fetching::{client_config, system_resolver};
use crate::serve::wire::Wire;

/// How long data may stay unacknowledged before a connection counts as dead.
const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// A silent connection is probed after this long.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Longest time that an address of the server is believed: databases fail over by name.
const ADDRESS_TTL_MAX: Duration = Duration::from_secs(10);

/// Makes a shard's connections to the servers of one URL.
pub(crate) struct Dialer {
    shard: Shard,
    target: Target,
    resolver: Rc<Resolver>,
    /// None: nothing is encrypted.
    tls: Option<Arc<ClientConfig>>,
    /// Where sessions were opened last: the first to be tried next time.
    favourite: Cell<usize>,
}

impl Dialer {
    /// Connections to `target`.
    ///
    /// # Errors
    /// A sentence: certificates cannot be read, or a name cannot be in one.
    pub(crate) fn new(shard: &Shard, target: &Target) -> Result<Dialer, String> {
        let tls = match target.ssl_mode {
            SslMode::Disable => None,
            mode => {
                let mut remote = target.hosts.iter().filter(|host| !host.is_local()).peekable();
                let is_needed = remote.peek().is_some();
                remote.try_for_each(|host| server_name(host).map(drop))?;
                is_needed.then(|| tls(mode, target)).transpose()?
            }
        };
        let resolver = system_resolver(shard, &[], ADDRESS_TTL_MAX);
        Ok(Dialer { shard: shard.clone(), target: target.clone(), resolver, tls, favourite: Cell::new(0) })
    }

    /// The servers' numbers, in the order in which they are to be tried: where sessions were opened last comes first.
    pub(crate) fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, count) = (self.favourite.get(), self.target.hosts.len());
        (0..count).map(move |turn| (first + turn) % count)
    }

    /// A session was opened there.
    pub(crate) fn set_favourite(&self, host: usize) {
        self.favourite.set(host);
    }

    /// None was opened there: where it is the favourite, the next one is.
    pub(crate) fn pass_over(&self, host: usize) {
        if self.favourite.get() == host {
            self.favourite.set((host + 1) % self.target.hosts.len());
        }
    }

    /// A server, as people are shown it.
    pub(crate) fn shown(&self, host: usize) -> String {
        self.target.shown(&self.target.hosts[host])
    }

    pub(crate) fn shard(&self) -> &Shard {
        &self.shard
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// A connection on which nothing was said yet, to the first of a server's addresses that answers.
    pub(crate) async fn dial(&self, number: usize) -> Result<Wire, Trouble> {
        let host = &self.target.hosts[number];
        let Host { name, port } = host;
        let addresses = if host.is_local() {
            vec![Address::Unix(format!("{name}/.s.PGSQL.{port}").into())]
        } else {
            let found = self.resolver.addresses(name).await;
            let found = found.map_err(|error| self.trouble(host, &io::Error::other(error.to_string())))?;
            found.iter().map(|ip: &IpAddr| Address::Ip(SocketAddr::new(*ip, *port))).collect()
        };
        let mut last = Trouble::setup(format!("{} has no address", self.target.shown(host)));
        for address in addresses {
            match self.connect(host, &address).await {
                Ok(wire) => return Ok(wire),
                Err(trouble) => last = trouble,
            }
        }
        Err(last)
    }

    fn trouble(&self, host: &Host, error: &io::Error) -> Trouble {
        Trouble::transport(&format!("connecting to {}", self.target.shown(host)), error)
    }

    async fn connect(&self, host: &Host, address: &Address) -> Result<Wire, Trouble> {
        let options = SocketOptions {
            user_timeout: Some(USER_TIMEOUT),
            keep_alive: Some(KEEP_ALIVE),
            ..SocketOptions::default()
        };
        let mut stream = self.shard.connect(address, &options).await.map_err(|error| self.trouble(host, &error))?;
        let Some(config) = self.tls.as_ref().filter(|_| !host.is_local()) else { return Ok(Wire::Plain(stream)) };
        if self.offers_tls(host, &mut stream).await? {
            let name = server_name(host).map_err(Trouble::setup)?;
            let stream = TlsStream::connect(stream, config.clone(), name).await;
            return stream.map(|stream| Wire::Tls(Box::new(stream))).map_err(|error| self.trouble(host, &error));
        }
        match self.target.ssl_mode {
            SslMode::Prefer => Ok(Wire::Plain(stream)),
            _ => Err(Trouble::setup(format!(
                "{} offers no TLS. Fix: turn it on at the server (ssl = on), or ask for less: sslmode=prefer",
                self.target.shown(host)
            ))),
        }
    }

    /// Asks whether the server wants to speak TLS (PostgreSQL's manual, "SSL Session Encryption").
    async fn offers_tls(&self, host: &Host, stream: &mut Stream) -> Result<bool, Trouble> {
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        stream.send_copy(&[&request]).await.map_err(|error| self.trouble(host, &error))?;
        let answer = stream.recv().await.map_err(|error| self.trouble(host, &error))?;
        match answer.as_deref() {
            Some(b"S") => Ok(true),
            Some(b"N") => Ok(false),
            None => Err(self.trouble(host, &io::ErrorKind::UnexpectedEof.into())),
            // Bytes behind the letter would be taken for bytes out of the encryption (CVE-2021-23222).
            Some(_) => Err(Trouble::protocol("its answer to the question for TLS is none")),
        }
    }
}

fn tls(mode: SslMode, target: &Target) -> Result<Arc<ClientConfig>, String> {
    let own = target.ssl_cert.iter().zip(&target.ssl_key);
    let own = own.map(|(chain, key)| KeyPair { certificate: chain.clone(), private_key: key.clone() });
    let config = client_config(&ClientTls {
        allow_insecure_connections: mode != SslMode::VerifyFull,
        ca_certs: target.ssl_root_cert.iter().cloned().collect(),
        system_ca_pool: mode == SslMode::VerifyFull,
        min_version: TlsVersion::Tls12,
        max_version: TlsVersion::Tls13,
        client_certs: own.collect(),
    });
    config.map_err(|error| format!("the database's certificates: {error}"))
}

fn server_name(host: &Host) -> Result<ServerName<'static>, String> {
    ServerName::try_from(host.name.clone()).map_err(|_| format!("{:?} cannot be in a certificate", host.name))
}
