//! Tunnels: a client's WebSocket passed on to a backend, byte by byte in both directions.
//!
//! ```text
//!   client ─► receive queue ─► way up ────► outbox ─► backend      a way takes no more than its outbox has room for:
//!   client ◄─ outbox ◄──── way down ◄─ receive queue ◄─ backend    whoever does not read stops whoever sends
//! ```
//!
//! What is said is for the two ends alone: nothing is unmasked, answered or reassembled here. Only where frames begin is
//! followed, so that at shutdown a close frame with 1001 can be put between two of them: a client that is told so comes
//! back at once, and one whose connection merely ends takes it for a fault.
//!
//! Invariants: what waits here is bounded by [`ROOM_BYTES`] and a receive queue for each way; a way that has ended says so
//! to the other end and the other way goes on; a tunnel on which nothing moves ends.

mod places;

pub use places::{Place, Places};

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use annulus_engine::metrics::{Counter, Gauge};
use annulus_engine::{Chunk, Shard};
use annulus_protocols::websocket::{Boundaries, CloseCode, Role, WebSocket};

use crate::serve::wire::{Either, Wire, either};

/// Bytes that wait for an end that does not read, before no more are taken from the other.
const ROOM_BYTES: usize = 64 << 10;
/// Bytes of one way that are passed on before others have their turn.
const QUANTUM_BYTES: usize = 64 << 10;
/// How long the other way may rest once one has ended.
const HALF_CLOSED_MAX: Duration = Duration::from_secs(30);

/// One end of a tunnel.
pub trait End {
    /// The next bytes; nothing at the end of its half.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>>;
    /// Ready once fewer than `below` bytes wait for it.
    fn poll_room(&mut self, cx: &mut Context<'_>, below: usize) -> Poll<io::Result<()>>;
    /// Sends without waiting.
    fn queue(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Says that nothing more will be sent, once what waits has left.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl End for Wire {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        Wire::poll_recv(self, cx)
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, below: usize) -> Poll<io::Result<()>> {
        Wire::poll_room(self, cx, below)
    }

    fn queue(&mut self, bytes: &[u8]) -> io::Result<()> {
        Wire::queue(self, bytes)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Wire::poll_finish(self, cx)
    }
}

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The client ended its half, or its connection broke.
    Client,
    /// The backend did.
    Backend,
    /// Nothing moved for too long.
    Idle,
    /// The gateway stops.
    Stopped,
}

const REASONS: [(&str, Why); 4] =
    [("client", Why::Client), ("backend", Why::Backend), ("idle", Why::Idle), ("stopped", Why::Stopped)];

/// What is counted of a shard's tunnels.
pub struct Meters {
    open: Arc<Gauge>,
    opened: Arc<Counter>,
    refused: Arc<Counter>,
    up: Arc<Counter>,
    down: Arc<Counter>,
    ended: [Arc<Counter>; REASONS.len()],
}

impl Meters {
    /// A shard's.
    pub fn new(shard: &Shard) -> Rc<Meters> {
        let metrics = shard.metrics();
        let bytes = |to: &str| {
            metrics.counter_with("annulus_gateway_tunnel_bytes_total", "Bytes passed on by tunnels.", &[("to", to)])
        };
        let ended = |(why, _): (&str, Why)| {
            metrics.counter_with("annulus_gateway_tunnels_ended_total", "Tunnels that have ended.", &[("why", why)])
        };
        Rc::new(Meters {
            open: metrics.gauge("annulus_gateway_tunnels_open", "Tunnels that are open."),
            opened: metrics.counter("annulus_gateway_tunnels_opened_total", "Tunnels that were opened."),
            refused: metrics
                .counter("annulus_gateway_tunnels_refused_total", "Tunnels refused because too many are open."),
            up: bytes("backend"),
            down: bytes("client"),
            ended: REASONS.map(ended),
        })
    }

    /// Counts one that was refused.
    pub fn refuse(&self) {
        self.refused.add(1);
    }
}

/// A tunnel that a backend has agreed to.
pub struct Tunnel {
    backend: Wire,
    /// What the backend sent right behind its agreement.
    early: Vec<u8>,
    idle: Duration,
    meters: Rc<Meters>,
    ended: Option<Why>,
    _place: Place,
}

impl Tunnel {
    /// One that is open from now on.
    pub fn open(backend: Wire, early: Vec<u8>, idle: Duration, meters: &Rc<Meters>, place: Place) -> Tunnel {
        meters.open.add(1);
        meters.opened.add(1);
        Tunnel { backend, early, idle, meters: meters.clone(), ended: None, _place: place }
    }

    /// Passes bytes on until both ways have ended. `first` is what the client has sent already; `last_call` is how long it
    /// is spared when the gateway stops.
    pub async fn run(mut self, shard: &Shard, client: &mut impl End, first: &[u8], last_call: Duration) -> Why {
        let mut up = Way::new(Role::Client, &self.meters.up);
        let mut down = Way::new(Role::Server, &self.meters.down);
        let early = std::mem::take(&mut self.early);
        let begun = up.pass(first, &mut self.backend).map_err(|_broken| Why::Backend);
        let begun = begun.and_then(|()| down.pass(&early, client).map_err(|_broken| Why::Client));
        let why = match begun {
            Ok(()) => self.keep(shard, client, &mut up, &mut down, last_call).await,
            Err(why) => why,
        };
        self.ended = Some(why);
        why
    }

    async fn keep(
        &mut self,
        shard: &Shard,
        client: &mut impl End,
        up: &mut Way,
        down: &mut Way,
        last_call: Duration,
    ) -> Why {
        let (mut moved, mut stops) = (shard.now(), false);
        let mut first_to_end = None;
        loop {
            let half_closed = up.state != State::Open || down.state != State::Open;
            let patience = if half_closed { self.idle.min(HALF_CLOSED_MAX) } else { self.idle };
            let left = (moved + patience).saturating_sub(shard.now());
            let backend = &mut self.backend;
            let passing = std::future::poll_fn(|cx| {
                let ways = (up.poll(client, backend, stops, cx), down.poll(backend, client, stops, cx));
                if std::mem::take(&mut up.has_moved) | std::mem::take(&mut down.has_moved) {
                    moved = shard.now();
                }
                let ending = match (stops, up.state, down.state) {
                    (_, State::Open, State::Open) => None,
                    (true, ..) => Some(Why::Stopped),
                    (false, State::Open, _) => Some(Why::Backend),
                    (false, ..) => Some(Why::Client),
                };
                let has_changed = first_to_end.is_none() && ending.is_some();
                first_to_end = first_to_end.or(ending);
                match ways {
                    (Poll::Ready(Err(Side::From)), _) | (_, Poll::Ready(Err(Side::To))) => {
                        Poll::Ready(Some(first_to_end.unwrap_or(Why::Client)))
                    }
                    (Poll::Ready(Err(Side::To)), _) | (_, Poll::Ready(Err(Side::From))) => {
                        Poll::Ready(Some(first_to_end.unwrap_or(Why::Backend)))
                    }
                    (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                        Poll::Ready(Some(first_to_end.unwrap_or(Why::Stopped)))
                    }
                    // From now on there is less patience.
                    _ if has_changed => Poll::Ready(None),
                    _ => Poll::Pending,
                }
            });
            let stopping = async {
                if stops {
                    return std::future::pending().await;
                }
                shard.draining().await;
                shard.sleep(last_call).await;
            };
            match either(shard.timeout(left, passing), stopping).await {
                Either::First(Ok(Some(why))) => return why,
                Either::First(Ok(None)) => {}
                Either::First(Err(_elapsed)) if shard.now().saturating_sub(moved) >= patience => {
                    return first_to_end.unwrap_or(Why::Idle);
                }
                Either::First(Err(_elapsed)) => {}
                Either::Second(()) => stops = true,
            }
        }
    }
}

/// Counted out also where its task ends otherwise: with its client, or by a panic.
impl Drop for Tunnel {
    fn drop(&mut self) {
        self.meters.open.sub(1);
        let why = self.ended.unwrap_or(Why::Client);
        for (counter, (_, reason)) in self.meters.ended.iter().zip(REASONS) {
            if reason == why {
                counter.add(1);
            }
        }
    }
}

/// One direction.
struct Way {
    state: State,
    boundaries: Boundaries,
    /// As whom we put in a word of our own: towards a backend we are the client, and mask.
    speaks_as: Role,
    has_moved: bool,
    bytes: Arc<Counter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing more will be taken; the other end is still to be told.
    Finishing,
    Ended,
}

/// Which end of a way broke.
enum Side {
    From,
    To,
}

impl Way {
    fn new(speaks_as: Role, bytes: &Arc<Counter>) -> Way {
        let (state, boundaries) = (State::Open, Boundaries::default());
        Way { state, boundaries, speaks_as, has_moved: false, bytes: bytes.clone() }
    }

    fn pass(&mut self, bytes: &[u8], to: &mut impl End) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.boundaries.pass(bytes);
        self.bytes.add(bytes.len() as u64);
        self.has_moved = true;
        to.queue(bytes)
    }

    /// Passes on what is here and has room. With `stops` it ends as soon as no frame is cut by that.
    fn poll(
        &mut self,
        from: &mut impl End,
        to: &mut impl End,
        stops: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Side>> {
        let mut quantum = QUANTUM_BYTES;
        loop {
            match self.state {
                State::Open if stops && self.boundaries.is_between() => {
                    self.say_farewell(to).map_err(|_broken| Side::To)?;
                    self.state = State::Finishing;
                }
                State::Open => {
                    ready!(to.poll_room(cx, ROOM_BYTES)).map_err(|_broken| Side::To)?;
                    if quantum == 0 {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    match ready!(from.poll_recv(cx)).map_err(|_broken| Side::From)? {
                        None => self.state = State::Finishing,
                        Some(chunk) => {
                            quantum = quantum.saturating_sub(chunk.len());
                            self.pass(&chunk, to).map_err(|_broken| Side::To)?;
                        }
                    }
                }
                State::Finishing => {
                    ready!(to.poll_finish(cx)).map_err(|_broken| Side::To)?;
                    self.state = State::Ended;
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Unless the other end has said it.
    fn say_farewell(&self, to: &mut impl End) -> io::Result<()> {
        if self.boundaries.is_closed() {
            return Ok(());
        }
        // Masks keep scripts from choosing bytes on the wire (RFC 6455 section 10.3), and these two are ours.
        let mask = (self.speaks_as == Role::Client).then_some([0; 4]);
        let mut frame = Vec::new();
        WebSocket::new(self.speaks_as).write_close(&mut frame, Some(CloseCode::GOING_AWAY), "", mask);
        to.queue(&frame)
    }
}
