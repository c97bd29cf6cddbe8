//! Upstreams: one [`Upstream`] per shard and origin, with its connections.
//!
//! ```text
//!   call ─► idle HTTP/1.1 connection ─┐
//!      └──► HTTP/2 connection's stream ┼─► Answer: head now, body when asked for
//!      └──► dial: name, TCP, TLS, ALPN ┘
//! ```
//!
//! Deadlines are the caller's: dropping a call gives its stream or connection up.

mod dial;
mod http1;
mod http2;
mod origins;
mod switch;

pub use http1::too_large;

pub use dial::Dialer;
pub use origins::Upstreams;
pub use switch::Switch;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use annulus_engine::Shard;
use annulus_protocols::http1 as http1_protocol;
use annulus_protocols::http2 as http2_protocol;

use self::dial::Spoken;
use super::message::{Call, Cause, Failure, FieldList, Phase};
use super::throttle::Bearing;
use crate::serve::wire::Wire;

/// What may be spoken with an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// With TLS what ALPN says; without, HTTP/1.1.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; without TLS by prior knowledge (h2c).
    Http2,
}

/// Whom calls go to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether TLS is used.
    pub tls: bool,
    /// What is spoken.
    pub protocol: Protocol,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}:{}", if self.tls { "https" } else { "http" }, self.host, self.port)
    }
}

/// How connections to upstreams are kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Idle HTTP/1.1 connections kept per origin and shard. More are closed as they become idle.
    pub idle_max: usize,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// What HTTP/1.1 answers may be.
    pub http1: http1_protocol::Limits,
    /// What HTTP/2 answers may be.
    pub http2: http2_protocol::Limits,
    /// Streams on one HTTP/2 connection, at most.
    pub streams_max: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            idle_max: 250,
            idle_timeout: Duration::from_secs(60),
            http1: http1_protocol::Limits { body_bytes_max: 64 << 20, ..http1_protocol::Limits::DEFAULT },
            http2: http2_protocol::Limits::DEFAULT,
            streams_max: 100,
        }
    }
}

/// What has happened on an upstream, since the start.
#[derive(Default)]
pub struct Counts {
    /// Calls under way.
    pub in_flight: Cell<u64>,
    /// Calls made.
    pub calls: Cell<u64>,
    /// Connections made.
    pub connects: Cell<u64>,
    /// Connections that could not be made.
    pub connect_failures: Cell<u64>,
}

fn count(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

/// One origin, as one shard sees it.
pub struct Upstream {
    shard: Shard,
    dialer: Rc<Dialer>,
    /// Whom the calls go to.
    pub origin: Origin,
    settings: Rc<Settings>,
    idle: RefCell<Vec<http1::Conn>>,
    multiplexed: http2::Pool,
    /// What ALPN said last.
    learned: Cell<Option<Spoken>>,
    /// What has happened.
    pub counts: Counts,
    /// How much it is sent.
    pub bearing: Bearing,
}

/// An answer whose head is here.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Its fields, without those of the connection.
    pub fields: FieldList,
    /// Until when its rest is waited for, by the shard's clock, if its client has said so.
    pub deadline: Option<Duration>,
    body: Body,
    _flight: Flight,
}

enum Body {
    Http1(Box<http1::Http1Body>),
    Http2(http2::Http2Body),
}

/// A call under way; counts itself out when it is dropped.
struct Flight(Rc<Upstream>);

impl Flight {
    fn begin(upstream: &Rc<Upstream>) -> Flight {
        count(&upstream.counts.calls);
        count(&upstream.counts.in_flight);
        Flight(upstream.clone())
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let in_flight = &self.0.counts.in_flight;
        in_flight.set(in_flight.get() - 1);
    }
}

impl Upstream {
    /// An origin without connections.
    pub fn new(shard: &Shard, dialer: Rc<Dialer>, origin: Origin, settings: Rc<Settings>) -> Rc<Upstream> {
        Rc::new(Upstream {
            shard: shard.clone(),
            dialer,
            origin,
            settings,
            idle: RefCell::default(),
            multiplexed: http2::Pool::default(),
            learned: Cell::new(None),
            counts: Counts::default(),
            bearing: Bearing::default(),
        })
    }

    /// Makes a call and waits for the head of its answer. A connection that turns out to be stale is replaced, once.
    ///
    /// What is rare or large is boxed: a future is moved with all the room that it may need, and these would be the most
    /// of it.
    ///
    /// # Errors
    /// Where and why it failed.
    pub async fn call(self: &Rc<Self>, call: &Call<'_>) -> Result<Answer, Failure> {
        let flight = Flight::begin(self);
        let (status, fields, body) = match self.spoken() {
            Some(Spoken::Http2) => self.call_http2(call).await?,
            Some(Spoken::Http1) if call.inflow.is_some() => return Err(speaks_http1()),
            Some(Spoken::Http1) => Box::pin(self.call_http1(call)).await?,
            None => {
                // The first connection tells; calls that come meanwhile find out by one of their own.
                let (wire, spoken) = Box::pin(self.dial(&|phase| call.progress.set(phase))).await?;
                self.learned.set(Some(spoken));
                match spoken {
                    Spoken::Http1 if call.inflow.is_some() => return Err(speaks_http1()),
                    Spoken::Http1 => Box::pin(http1::Conn::new(wire, self.shard.now()).call(self, call)).await?,
                    Spoken::Http2 => {
                        self.multiplexed.add(self, wire);
                        self.call_http2(call).await?
                    }
                }
            }
        };
        Ok(Answer { status, fields, deadline: None, body, _flight: flight })
    }

    fn spoken(&self) -> Option<Spoken> {
        match (self.origin.protocol, self.origin.tls) {
            (Protocol::Http2, _) => Some(Spoken::Http2),
            (Protocol::Http1, _) | (Protocol::Auto, false) => Some(Spoken::Http1),
            (Protocol::Auto, true) => self.learned.get(),
        }
    }

    async fn call_http1(self: &Rc<Self>, call: &Call<'_>) -> Result<(u16, FieldList, Body), Failure> {
        if let Some(conn) = self.take_idle() {
            match conn.call(self, call).await {
                Err(failure) if failure.unprocessed => {}
                outcome => return outcome,
            }
        }
        let (wire, spoken) = Box::pin(self.dial(&|phase| call.progress.set(phase))).await?;
        if spoken == Spoken::Http2 {
            // The upstream has learned HTTP/2 since.
            self.learned.set(Some(spoken));
            self.multiplexed.add(self, wire);
            return self.call_http2(call).await;
        }
        http1::Conn::new(wire, self.shard.now()).call(self, call).await
    }

    async fn call_http2(self: &Rc<Self>, call: &Call<'_>) -> Result<(u16, FieldList, Body), Failure> {
        self.multiplexed.call(self, call).await
    }

    /// Makes a connection, and tells at which phase it is.
    async fn dial(&self, enter: &dyn Fn(Phase)) -> Result<(Wire, Spoken), Failure> {
        let dialed = self.dialer.dial(&self.origin, enter).await;
        count(if dialed.is_ok() { &self.counts.connects } else { &self.counts.connect_failures });
        dialed
    }

    fn take_idle(&self) -> Option<http1::Conn> {
        // The last one used is the least likely to have been closed meanwhile.
        loop {
            let mut conn = self.idle.borrow_mut().pop()?;
            if conn.is_usable() {
                return Some(conn);
            }
        }
    }

    fn give_back(&self, mut conn: http1::Conn) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.settings.idle_max && conn.is_usable() {
            conn.idle_since = self.shard.now();
            idle.push(conn);
        }
    }

    /// Closes connections that have been idle for too long, or that the upstream has closed.
    pub fn sweep(&self) {
        let oldest = self.shard.now().saturating_sub(self.settings.idle_timeout);
        self.idle.borrow_mut().retain_mut(|conn| conn.idle_since >= oldest && conn.is_usable());
        self.multiplexed.sweep(self);
    }

    /// Closes all connections as soon as their calls have ended.
    fn retire(&self) {
        self.idle.borrow_mut().clear();
        self.multiplexed.retire();
    }

    /// Idle HTTP/1.1 connections, HTTP/2 connections, and their streams.
    pub fn connections(&self) -> (usize, usize, usize) {
        let (connections, streams) = self.multiplexed.len();
        (self.idle.borrow().len(), connections, streams)
    }

    fn now_ms(&self) -> u64 {
        self.shard.now().as_millis() as u64
    }
}

/// Why a body cannot go on as it comes.
fn speaks_http1() -> Failure {
    let what =
        "it speaks HTTP/1.1, and gRPC is HTTP/2 alone: set the backend's annulus.protocol to h2c, or to h2 with TLS";
    Failure { phase: Phase::Connect, cause: Cause::Refused(what), unprocessed: true }
}

impl Answer {
    /// Whether it is nothing but its head, and that is known.
    pub fn is_bodiless(&self) -> bool {
        match &self.body {
            Body::Http1(_) => false,
            Body::Http2(body) => body.is_bodiless(),
        }
    }

    /// What came behind the body, once that is complete. HTTP/1.1's are not kept.
    pub fn trailers(&mut self) -> Option<FieldList> {
        match &mut self.body {
            Body::Http1(_) => None,
            Body::Http2(body) => body.trailers(),
        }
    }

    /// Appends what comes next of the body to `out`. False when it is complete.
    ///
    /// # Errors
    /// Why the rest will not come.
    pub async fn next(&mut self, out: &mut Vec<u8>) -> Result<bool, Failure> {
        match &mut self.body {
            Body::Http1(body) => body.next(out).await,
            Body::Http2(body) => body.next(out).await,
        }
    }

    /// Room for the body, as far as its length is known.
    ///
    /// # Errors
    /// It is longer than `bytes_max`.
    pub fn begin_body(&self, bytes_max: usize) -> Result<Vec<u8>, Failure> {
        let declared = self.fields.text("content-length").and_then(|length| length.parse::<usize>().ok());
        match declared {
            Some(length) if length > bytes_max => Err(too_large(bytes_max)),
            declared => Ok(Vec::with_capacity(declared.unwrap_or(0))),
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// Why the rest will not come; more than `bytes_max` of it.
    pub async fn collect(mut self, bytes_max: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = self.begin_body(bytes_max)?;
        while self.next(&mut bytes).await? {
            if bytes.len() > bytes_max {
                return Err(too_large(bytes_max));
            }
        }
        Ok(bytes)
    }
}
