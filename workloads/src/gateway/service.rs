//! The gateway on one shard: its port, its clients' connections, its housekeeping and its end.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use annulus_engine::error::explain_listen;
use annulus_engine::tls::TlsStream;
use annulus_engine::tls::rustls::ServerConfig;
use annulus_engine::{Address, Balance, ListenOptions, Shard, Stream};

use super::access::{AccessLog, Writer};
use super::config::model::Gateway;
use super::dns;
use super::figures::{Figures, Recent};
use super::guard::Guards;
use super::health::Checks;
use super::live::Live;
use super::memory::Memory;
use super::reload::Editions;
use super::shed::Level;
use super::tunnel::Places;
use super::{session1, session2, tls};
use crate::serve::wire::Wire;

/// How often idle connections to upstreams are looked at.
const SWEEP: Duration = Duration::from_secs(1);
/// Memory for answers where nobody says how much there is.
const MEMORY_ASSUMED: u64 = 512 << 20;
/// How often the shard's lag is measured while requests are under way, and while there are none.
const LAG_LOOK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));
/// How long a client may take for the TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// TLS handshakes that go on in one turn of a shard. One costs a signature: a crowd of newcomers waits for the next turns
/// and does not hold up those who are connected.
const HANDSHAKES_PER_TURN: usize = 4;
/// At the end, connections that have been made are still taken: until none came for so long, and no longer than that.
const BACKLOG_PAUSE: Duration = Duration::from_millis(20);
const BACKLOG_MAX: Duration = Duration::from_millis(200);
/// How long what other shards have accepted may take to arrive.
const SETTLE_MAX: Duration = Duration::from_secs(1);
/// How long requests under way may take at the end, where the configuration does not say.
const SHUTDOWN_MAX: Duration = Duration::from_secs(30);
/// What a client without TLS begins with that speaks HTTP/2 (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A configuration and what was read from the files that it names.
#[derive(Clone)]
pub struct Edition {
    /// What it says.
    pub gateway: Arc<Gateway>,
    /// TLS towards clients.
    pub server_tls: Option<Arc<ServerConfig>>,
    /// TLS towards upstreams.
    pub client_tls: Arc<annulus_engine::tls::rustls::ClientConfig>,
    /// What answers may take, of all shards.
    pub memory: Arc<Memory>,
    /// What the dashboard shows, of all shards.
    pub figures: Arc<Figures>,
    /// What is asked of clients.
    pub guards: Arc<Guards>,
    /// Which hosts are well, for all shards.
    pub checks: Arc<Checks>,
    /// How many tunnels are open, on all shards.
    pub tunnels: Arc<Places>,
    /// Writes the access log, unless that is switched off.
    pub access: Option<Writer>,
}

impl Edition {
    /// Reads the files that a configuration names.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn load(gateway: Gateway) -> Result<Edition, String> {
        let server_tls = gateway.tls.as_ref().map(tls::server_config).transpose()?;
        let client_tls = tls::client_config(&gateway.client_tls)?;
        let access = match gateway.router.disable_access_log {
            true => None,
            false => Some(Writer::start().map_err(|error| format!("the access log's thread cannot start: {error}"))?),
        };
        let memory = Arc::new(Memory::new(gateway.memory_bytes_max.unwrap_or_else(memory_granted)));
        let guards = Arc::new(Guards::new(&gateway, None)?);
        let (gateway, figures, checks, tunnels) = (Arc::new(gateway), Arc::default(), Arc::default(), Arc::default());
        Ok(Edition { gateway, server_tls, client_tls, memory, figures, guards, checks, tunnels, access })
    }
}

impl Edition {
    /// Takes over from another edition what outlives it: the budget for answers that are still held, what the dashboard
    /// shows, which hosts are well, the tunnels that are open, and the log's thread. To be put in force: the one before asks no host any more.
    pub fn after(self, before: &Edition) -> Edition {
        let same_budget = self.memory.figures().1 == before.memory.figures().1;
        let memory = if same_budget { before.memory.clone() } else { self.memory };
        let access = self.access.map(|own| before.access.clone().unwrap_or(own));
        // What could be read a moment ago is read once more; should it have gone since, nothing is lost but the keys known.
        let guards = Guards::new(&self.gateway, Some(&before.guards)).map_or(self.guards, Arc::new);
        let checks = Arc::new(Checks::after(&before.checks));
        let (figures, tunnels) = (before.figures.clone(), before.tunnels.clone());
        Edition { memory, access, guards, checks, figures, tunnels, ..self }
    }
}

/// Half of what the machine or the control group grants: the rest is for everything else.
fn memory_granted() -> u64 {
    let number = |text: String| text.trim().parse::<u64>().ok();
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(number);
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:").map(str::to_owned))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    });
    [group, machine].into_iter().flatten().min().map_or(MEMORY_ASSUMED, |granted| granted / 2)
}

/// What the accept loop and the connections share.
struct Door {
    shard: Shard,
    live: RefCell<Rc<Live>>,
    server_tls: RefCell<Option<Arc<ServerConfig>>>,
    open: Cell<usize>,
    handshakes: Turnstile,
}

/// Lets so many pass in a turn.
#[derive(Default)]
struct Turnstile {
    turn: Cell<Duration>,
    passed: Cell<usize>,
}

impl Turnstile {
    fn passes(&self, turn: Duration) -> bool {
        let passed = if self.turn.replace(turn) == turn { self.passed.get() } else { 0 };
        self.passed.set((passed + 1).min(HANDSHAKES_PER_TURN));
        passed < HANDSHAKES_PER_TURN
    }

    /// Polls a future only in turns that have room for it.
    async fn through<T>(&self, shard: &Shard, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| {
            if self.passes(shard.now()) {
                return future.as_mut().poll(cx);
            }
            // What is woken now is polled in the next turn.
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }
}

/// Runs until the engine is asked to stop and what is under way has ended.
///
/// # Errors
/// A sentence: the port cannot be had.
pub async fn run(shard: Shard, editions: Arc<Editions>) -> Result<(), String> {
    let mut seen = 0;
    let edition = editions.newer(&mut seen).await;
    let listen = Address::Ip(SocketAddr::new(edition.gateway.listen.ip, edition.gateway.listen.port));
    // A few clients with many streams each would be hashed unevenly.
    let options = ListenOptions { balance: Balance::LeastLoaded, ..ListenOptions::default() };
    let listener = shard.listen(&listen, &options).map_err(|error| explain_listen(&listen, &error))?;
    if shard.index() == 0 {
        let scheme = if edition.server_tls.is_some() { "https" } else { "http" };
        let count = edition.gateway.endpoints.len();
        crate::say!("gateway: {scheme}://{} ({count} endpoints)", listener.address());
    }
    let door = Rc::new(Door {
        shard: shard.clone(),
        live: RefCell::new(put_in_force(&shard, &edition, None)),
        server_tls: RefCell::new(edition.server_tls),
        open: Cell::new(0),
        handshakes: Turnstile::default(),
    });
    drop(shard.spawn(housekeeping(door.clone())));
    drop(shard.spawn(watching_lag(door.clone())));
    drop(shard.spawn(reloading(door.clone(), editions, seen)));
    while let Some(stream) = shard.until_drained(listener.accept()).await {
        door.clone().admit(stream);
    }
    // Who was let in by the kernel before the door closed is still served.
    let closing = shard.now() + BACKLOG_MAX;
    while let Ok(stream) = shard.timeout(BACKLOG_PAUSE, listener.accept()).await {
        door.clone().admit(stream);
        if shard.now() >= closing {
            break;
        }
    }
    // From here on a successor gets whoever comes. What was accepted, on any shard, is ours to serve.
    listener.stop();
    while let Ok(Some(stream)) = shard.timeout(SETTLE_MAX, listener.last()).await {
        door.clone().admit(stream);
    }
    drop(listener);
    let patience = door.live().gateway.server.max_shutdown_wait.unwrap_or(SHUTDOWN_MAX);
    let deadline = shard.now() + patience;
    while door.open.get() > 0 && shard.now() < deadline {
        shard.sleep(Duration::from_millis(5)).await;
    }
    if let Some(access) = &door.live().access {
        access.finish(&shard).await;
    }
    if let Some(telemetry) = &door.live().telemetry {
        telemetry.farewell(&shard).await;
    }
    if door.open.get() > 0 {
        crate::warn!("gateway: {} connections were cut off after {patience:?}", door.open.get());
    }
    Ok(())
}

fn put_in_force(shard: &Shard, edition: &Edition, before: Option<&Live>) -> Rc<Live> {
    let gateway = &edition.gateway;
    let resolver = dns::system_resolver(shard, &gateway.name_servers, gateway.dns_cache_ttl);
    Live::new(shard, edition, &resolver, before)
}

async fn housekeeping(door: Rc<Door>) {
    let mut interval = door.shard.interval(SWEEP);
    let mut shown: Option<(Rc<Live>, Recent)> = None;
    loop {
        interval.tick().await;
        let live = door.live();
        let recent = match shown.take() {
            Some((of, recent)) if Rc::ptr_eq(&of, &live) => recent,
            _ => Recent::new(&live),
        };
        live.access.iter().for_each(AccessLog::flush);
        live.figures.publish(&door.shard, recent.write(&live));
        if door.shard.index() == 0 {
            live.meters.show_memory(live.memory.figures());
        }
        shown = Some((live.clone(), recent));
        live.upstreams.sweep();
        live.tend();
    }
}

/// Measures how late the shard is: a timer that is due waits like everything else.
async fn watching_lag(door: Rc<Door>) {
    let shard = door.shard.clone();
    loop {
        let live = door.live();
        let pause = if live.in_flight.get() > 0 { LAG_LOOK.0 } else { LAG_LOOK.1 };
        let due = shard.now() + pause;
        shard.sleep_until(due).await;
        let now = shard.precise_now();
        live.shedder.observe(now, now.saturating_sub(due), &live.memory);
        shard.set_strained(live.shedder.level() >= Level::NoSheddable);
    }
}

/// Puts new editions in force as they come.
async fn reloading(door: Rc<Door>, editions: Arc<Editions>, mut seen: u64) {
    loop {
        let edition = editions.newer(&mut seen).await;
        let next = put_in_force(&door.shard, &edition, Some(&door.live()));
        *door.server_tls.borrow_mut() = edition.server_tls;
        door.live().succeed(next.clone());
        *door.live.borrow_mut() = next;
    }
}

/// An open connection. It is counted out also when its task ends by a panic.
struct Visit(Rc<Door>);

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

impl Door {
    fn live(&self) -> Rc<Live> {
        self.live.borrow().clone()
    }

    /// Serves a connection in a task of its own.
    fn admit(self: Rc<Self>, stream: Stream) {
        self.open.set(self.open.get() + 1);
        let visit = Visit(self);
        drop(visit.0.shard.clone().spawn(async move { visit.0.serve(stream).await }));
    }

    /// Finds out what the client speaks, and serves it.
    async fn serve(&self, stream: Stream) {
        let peer = match stream.peer() {
            // Where IPv4 comes over an IPv6 socket, it is IPv4 all the same: for lists of networks, limits and the log.
            Ok(Address::Ip(address)) => address.ip().to_canonical(),
            Ok(Address::Unix(_)) | Err(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let config = self.server_tls.borrow().clone();
        let Some(config) = config else {
            return self.serve_plain(stream, peer).await;
        };
        let accepting = self.handshakes.through(&self.shard, TlsStream::accept(stream, config));
        let handshake = self.shard.timeout(HANDSHAKE_MAX, accepting).await;
        let stream = match handshake {
            Ok(Ok(stream)) => stream,
            // A client that cannot agree on anything is told by the end of its connection.
            Ok(Err(error)) => return self.live().unsecured(peer, &error.to_string()),
            Err(_elapsed) => return self.live().unsecured(peer, "took too long"),
        };
        let is_http2 = stream.alpn() == Some(b"h2");
        let wire = Wire::Tls(Box::new(stream));
        match is_http2 {
            true => session2::serve(self.live(), wire, peer, annulus_engine::Chunk::Owned(Vec::new())).await,
            false => session1::serve(self.live(), wire, peer, annulus_engine::Chunk::Owned(Vec::new())).await,
        }
    }

    async fn serve_plain(&self, stream: Stream, peer: IpAddr) {
        let live = self.live();
        let mut wire = Wire::Plain(stream);
        if !live.gateway.use_h2c {
            return session1::serve(live, wire, peer, annulus_engine::Chunk::Owned(Vec::new())).await;
        }
        let patience = live.gateway.server.read_header_timeout.unwrap_or(HANDSHAKE_MAX);
        let mut first = Vec::new();
        while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
            match self.shard.timeout(patience, wire.recv()).await {
                Ok(Ok(Some(chunk))) => first.extend_from_slice(&chunk),
                _ => return,
            }
        }
        let is_http2 = first.starts_with(PREFACE);
        let first = annulus_engine::Chunk::Owned(first);
        match is_http2 {
            true => session2::serve(live, wire, peer, first).await,
            false => session1::serve(live, wire, peer, first).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_has_room_for_some() {
        let turnstile = Turnstile::default();
        for turn in 1..3 {
            let passed = (0..10).filter(|_| turnstile.passes(Duration::from_micros(turn))).count();
            assert_eq!(passed, HANDSHAKES_PER_TURN);
        }
    }
}
