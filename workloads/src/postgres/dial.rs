//! Making connections: name, address, TCP or a Unix socket, and TLS as the URL wants it.

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
use super::url::{SslMode, Target};
use crate::gateway::config::model::{ClientTls, TlsVersion};
use crate::gateway::dns::Resolver;
use crate::gateway::fetching::{client_config, system_resolver};
use crate::serve::wire::Wire;

/// How long data may stay unacknowledged before a connection counts as dead.
const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// A silent connection is probed after this long.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Longest time that an address of the server is believed: databases fail over by name.
const ADDRESS_TTL_MAX: Duration = Duration::from_secs(10);

/// Makes a shard's connections to one server.
pub(crate) struct Dialer {
    shard: Shard,
    target: Target,
    resolver: Rc<Resolver>,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Dialer {
    /// Connections to `target`.
    ///
    /// # Errors
    /// A sentence: certificates cannot be read, or the name cannot be in one.
    pub(crate) fn new(shard: &Shard, target: &Target) -> Result<Dialer, String> {
        let tls = match target.ssl_mode {
            SslMode::Disable => None,
            _ if target.is_local() => None,
            mode => Some((tls(mode, target)?, server_name(target)?)),
        };
        let resolver = system_resolver(shard, &[], ADDRESS_TTL_MAX);
        Ok(Dialer { shard: shard.clone(), target: target.clone(), resolver, tls })
    }

    pub(crate) fn shard(&self) -> &Shard {
        &self.shard
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// A connection on which nothing was said yet, to the first of the server's addresses that answers.
    pub(crate) async fn dial(&self) -> Result<Wire, Trouble> {
        let Target { host, port, .. } = &self.target;
        let addresses = if self.target.is_local() {
            vec![Address::Unix(format!("{host}/.s.PGSQL.{port}").into())]
        } else {
            let found = self.resolver.addresses(host).await;
            let found = found.map_err(|error| self.trouble(&io::Error::other(error.to_string())))?;
            found.iter().map(|ip: &IpAddr| Address::Ip(SocketAddr::new(*ip, *port))).collect()
        };
        let mut last = Trouble::setup(format!("{} has no address", self.target));
        for address in addresses {
            match self.connect(&address).await {
                Ok(wire) => return Ok(wire),
                Err(trouble) => last = trouble,
            }
        }
        Err(last)
    }

    fn trouble(&self, error: &io::Error) -> Trouble {
        Trouble::transport(&format!("connecting to {}", self.target), error)
    }

    async fn connect(&self, address: &Address) -> Result<Wire, Trouble> {
        let options = SocketOptions {
            user_timeout: Some(USER_TIMEOUT),
            keep_alive: Some(KEEP_ALIVE),
            ..SocketOptions::default()
        };
        let mut stream = self.shard.connect(address, &options).await.map_err(|error| self.trouble(&error))?;
        let Some((config, name)) = &self.tls else { return Ok(Wire::Plain(stream)) };
        if self.offers_tls(&mut stream).await? {
            let stream = TlsStream::connect(stream, config.clone(), name.clone()).await;
            return stream.map(|stream| Wire::Tls(Box::new(stream))).map_err(|error| self.trouble(&error));
        }
        match self.target.ssl_mode {
            SslMode::Prefer => Ok(Wire::Plain(stream)),
            _ => Err(Trouble::setup(format!(
                "{} offers no TLS. Fix: turn it on at the server (ssl = on), or ask for less: sslmode=prefer",
                self.target
            ))),
        }
    }

    /// Asks whether the server wants to speak TLS (PostgreSQL's manual, "SSL Session Encryption").
    async fn offers_tls(&self, stream: &mut Stream) -> Result<bool, Trouble> {
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        stream.send_copy(&[&request]).await.map_err(|error| self.trouble(&error))?;
        let answer = stream.recv().await.map_err(|error| self.trouble(&error))?;
        match answer.as_deref() {
            Some(b"S") => Ok(true),
            Some(b"N") => Ok(false),
            None => Err(self.trouble(&io::ErrorKind::UnexpectedEof.into())),
            // Bytes behind the letter would be taken for bytes out of the encryption (CVE-2021-23222).
            Some(_) => Err(Trouble::protocol("its answer to the question for TLS is none")),
        }
    }
}

fn tls(mode: SslMode, target: &Target) -> Result<Arc<ClientConfig>, String> {
    let config = client_config(&ClientTls {
        allow_insecure_connections: mode != SslMode::VerifyFull,
        ca_certs: target.ssl_root_cert.iter().cloned().collect(),
        system_ca_pool: mode == SslMode::VerifyFull,
        min_version: TlsVersion::Tls12,
        max_version: TlsVersion::Tls13,
        client_certs: Vec::new(),
    });
    config.map_err(|error| format!("the database's certificates: {error}"))
}

fn server_name(target: &Target) -> Result<ServerName<'static>, String> {
    ServerName::try_from(target.host.clone()).map_err(|_| format!("{:?} cannot be in a certificate", target.host))
}
