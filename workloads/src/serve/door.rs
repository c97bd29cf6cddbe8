//! The service on one shard: its port, its clients' connections, and its end.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::error::explain_listen;
use annulus_engine::tls::TlsStream;
use annulus_engine::tls::rustls::ServerConfig;
use annulus_engine::{Address, Balance, ListenOptions, Listener, Shard, Stream};

use super::wire::Wire;
use super::{Service, Settings, session};

/// How long a client may take for the TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// At the end, connections that have been made are still taken: until none came for so long, and no longer than that.
const BACKLOG_PAUSE: Duration = Duration::from_millis(20);
const BACKLOG_MAX: Duration = Duration::from_millis(200);
/// How long what other shards have accepted may take to arrive.
const SETTLE_MAX: Duration = Duration::from_secs(1);

/// A port with a service behind it.
pub struct Door<S> {
    shard: Shard,
    service: Rc<S>,
    settings: Rc<Settings>,
    tls: Option<Arc<ServerConfig>>,
    listener: Option<Listener>,
    open: Rc<Cell<usize>>,
}

/// An open connection. It is counted out also when its task ends by a panic.
struct Visit(Rc<Cell<usize>>);

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl<S: Service> Door<S> {
    /// Listens. Every shard of the engine has to.
    ///
    /// # Errors
    /// A sentence: the port cannot be had.
    pub fn open(
        shard: &Shard,
        listen: SocketAddr,
        settings: Settings,
        tls: Option<Arc<ServerConfig>>,
        service: Rc<S>,
    ) -> Result<Door<S>, String> {
        let listen = Address::Ip(listen);
        // A few clients with much to send would be hashed unevenly.
        let (balance, connections_max) = (Balance::LeastLoaded, settings.connections_max);
        let options = ListenOptions { balance, connections_max, ..ListenOptions::default() };
        let listener = shard.listen(&listen, &options).map_err(|error| explain_listen(&listen, &error))?;
        let (shard, settings) = (shard.clone(), Rc::new(settings));
        Ok(Door { shard, service, settings, tls, listener: Some(listener), open: Rc::default() })
    }

    /// Where it listens. On shards but the first it is what was asked for, which may be any port.
    pub fn address(&self) -> String {
        self.listener.as_ref().map_or_else(String::new, |listener| listener.address().to_string())
    }

    /// How many connections are open.
    pub fn connections(&self) -> Rc<Cell<usize>> {
        self.open.clone()
    }

    /// Serves until the engine is asked to stop and what is under way has ended, or its time is over. How many
    /// connections were cut off.
    pub async fn serve(mut self) -> usize {
        let Some(listener) = self.listener.take() else { return 0 };
        let shard = self.shard.clone();
        while let Some(stream) = shard.until_drained(listener.accept()).await {
            self.admit(stream);
        }
        // Who was let in by the kernel before the door closed is still served.
        let closing = shard.now() + BACKLOG_MAX;
        while let Ok(stream) = shard.timeout(BACKLOG_PAUSE, listener.accept()).await {
            self.admit(stream);
            if shard.now() >= closing {
                break;
            }
        }
        // From here on a successor gets whoever comes. What was accepted, on any shard, is ours to serve.
        listener.stop();
        while let Ok(Some(stream)) = shard.timeout(SETTLE_MAX, listener.last()).await {
            self.admit(stream);
        }
        drop(listener);
        let deadline = shard.now() + self.settings.drain_max;
        while self.open.get() > 0 && shard.now() < deadline {
            shard.sleep(Duration::from_millis(5)).await;
        }
        self.open.get()
    }

    /// Serves a connection in a task of its own.
    fn admit(&self, stream: Stream) {
        self.open.set(self.open.get() + 1);
        let visit = Visit(self.open.clone());
        let (shard, service, settings) = (self.shard.clone(), self.service.clone(), self.settings.clone());
        let tls = self.tls.clone();
        drop(self.shard.spawn(async move {
            let peer = match stream.peer() {
                // Where IPv4 comes over an IPv6 socket, it is IPv4 all the same.
                Ok(Address::Ip(address)) => address.ip().to_canonical(),
                Ok(Address::Unix(_)) | Err(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            };
            let wire = match tls {
                None => Wire::Plain(stream),
                Some(config) => match shard.timeout(HANDSHAKE_MAX, TlsStream::accept(stream, config)).await {
                    Ok(Ok(stream)) => Wire::Tls(Box::new(stream)),
                    // A client that cannot agree on anything is told by the end of its connection.
                    Ok(Err(_)) | Err(_) => return,
                },
            };
            session::serve(shard, service, settings, wire, peer).await;
            drop(visit);
        }));
    }
}
