//! Many calls over few HTTP/2 connections.
//!
//! ```text
//!   call ─► opens a stream on the least loaded connection ─► out ──┐
//!   call ─► …                                              ─► out ──┼─► the connection's task: one send a turn
//!   caller ◄─ woken by its exchange ◄─ events ◄─ machine ◄─────────┘        and whatever arrives
//! ```
//!
//! A connection has one task, which moves its bytes. Callers write into its output and wait for their exchange; a caller
//! that gives up resets its stream.

mod exchange;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use annulus_protocols::Input;
use annulus_protocols::http2::{Connection, ErrorCode, Event, Head, Refusal, RequestLine};

use self::exchange::{Exchange, feed, list_of, wake};
use super::dial::Spoken;
use super::{Body, Upstream};
use crate::gateway::inflow::{Inflow, Reader, Taken};
use crate::gateway::message::{Call, Cause, Failure, FieldList, Phase};
use crate::serve::wire::{Crowd, Either, Notify, Wire, either};

/// Connections to one origin and shard. When all are full, calls wait for a stream to end.
const CONNECTIONS_MAX: usize = 192;
/// Connections that are made at the same time: a load that rises fivefold waits for one round trip, not for twenty.
const DIALS_MAX: usize = 8;
/// Where there is a connection, another one is tried again this long after one could not be made.
const DIAL_PAUSE: Duration = Duration::from_millis(100);
/// Another connection is made when the least loaded one is used to this share.
const GROW_AT: f64 = 0.75;
/// A surplus connection is closed once it was idle for so long.
const SURPLUS_IDLE: Duration = Duration::from_secs(30);
/// Streams that we may reset on one connection. Beyond, it is used up: peers take many resets for an attack.
const RESETS_MAX: u64 = 200;
/// Calls are repeated so often when the upstream certainly did not act on them.
const REPETITIONS_MAX: usize = 2;
/// A connection with calls under way on which nothing has arrived for so long is asked whether it lives.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// And is given up when it does not say so within this.
const PONG_MAX: Duration = Duration::from_secs(5);
/// Bytes that are taken in before others have their turn.
const QUANTUM_BYTES: usize = 64 << 10;
/// Output beyond this is sent before more is taken.
const OUT_BYTES_KEPT: usize = 64 << 10;

/// An origin's connections.
#[derive(Default)]
pub(super) struct Pool {
    conns: RefCell<Vec<Rc<Conn>>>,
    /// Connections that are being made, and how far the one is that was heard of last.
    dials: Cell<usize>,
    dial_phase: Cell<Phase>,
    /// Before this, no further connection is made beside those that are.
    dial_again: Cell<Duration>,
    is_retired: Cell<bool>,
    last_failure: RefCell<Option<Failure>>,
    changed: Crowd,
}

/// One connection, shared by its task and its callers.
pub(super) struct Conn {
    state: RefCell<State>,
    notify: Notify,
    ended: Cell<bool>,
}

struct State {
    machine: Connection,
    out: Vec<u8>,
    exchanges: Vec<Exchange>,
    heard: Duration,
    pinged: Option<Duration>,
    idle_since: Duration,
}

impl State {
    fn exchange(&mut self, stream: u32) -> Option<&mut Exchange> {
        self.exchanges.iter_mut().find(|exchange| exchange.stream == stream)
    }

    /// Sends on what the windows let through.
    fn pump(&mut self, now_ms: u64) {
        for exchange in &mut self.exchanges {
            exchange.send(&mut self.machine, now_ms, &mut self.out);
        }
    }

    fn fail_all(&mut self, what: &Failure) {
        for exchange in &mut self.exchanges {
            if !exchange.ended && exchange.failure.is_none() {
                let phase = if exchange.head.is_some() { Phase::Body } else { Phase::Request };
                exchange.failure = Some(Failure { phase, ..what.clone() });
            }
            wake(exchange);
        }
    }
}

impl Pool {
    /// Takes a new connection over and starts its task.
    pub(super) fn add(&self, upstream: &Rc<Upstream>, wire: Wire) {
        let limits = &upstream.settings.http2;
        let mut machine = Connection::client(limits);
        let mut out = Vec::new();
        machine.write_preface(limits, &mut out);
        let now = upstream.shard.now();
        let state = State { machine, out, exchanges: Vec::new(), heard: now, pinged: None, idle_since: now };
        let conn = Rc::new(Conn { state: RefCell::new(state), notify: Notify::default(), ended: Cell::new(false) });
        self.conns.borrow_mut().push(conn.clone());
        if self.is_retired.get() {
            self.retire();
        }
        self.changed.all();
        let upstream = upstream.clone();
        drop(upstream.shard.clone().spawn(async move {
            conn.run(&upstream, wire).await;
            conn.ended.set(true);
            upstream.multiplexed.conns.borrow_mut().retain(|other| !Rc::ptr_eq(other, &conn));
            upstream.multiplexed.changed.all();
        }));
    }

    pub(super) async fn call(
        &self,
        upstream: &Rc<Upstream>,
        call: &Call<'_>,
    ) -> Result<(u16, FieldList, Body), Failure> {
        let mut repetitions = 0;
        let mut last_failure = None;
        loop {
            let conn = self.place(upstream, call).await?;
            call.progress.set(Phase::Request);
            let reader = match call.inflow.map(Inflow::begin) {
                None => None,
                Some(Some(reader)) => Some(reader),
                // What has gone on cannot be sent again.
                Some(None) => return Err(last_failure.unwrap_or_else(lost)),
            };
            let Some(lease) = conn.open(upstream, call, reader) else { continue };
            match lease.head().await {
                Err(failure) if failure.unprocessed && repetitions < REPETITIONS_MAX => {
                    repetitions += 1;
                    last_failure = Some(failure);
                }
                Err(failure) => return Err(failure),
                Ok((status, fields)) => {
                    call.inflow.into_iter().for_each(|inflow| inflow.settle());
                    return Ok((status, fields, Body::Http2(Http2Body { lease })));
                }
            }
        }
    }

    /// The least loaded connection that takes a stream; makes one where there is none.
    async fn place(&self, upstream: &Rc<Upstream>, call: &Call<'_>) -> Result<Rc<Conn>, Failure> {
        loop {
            let (best, count) = self.least_loaded(upstream);
            if let Some((conn, load)) = best {
                if load >= GROW_AT && self.may_grow(upstream, count) {
                    self.grow(upstream);
                }
                return Ok(conn);
            }
            if !self.may_grow(upstream, count) {
                call.progress.set(if self.dials.get() > 0 { self.dial_phase.get() } else { Phase::Admission });
                self.changed.wait().await;
                if let Some(failure) = self.last_failure.borrow().clone()
                    && self.dials.get() == 0
                    && self.conns.borrow().is_empty()
                {
                    return Err(failure);
                }
                continue;
            }
            self.grow(upstream);
        }
    }

    fn may_grow(&self, upstream: &Upstream, count: usize) -> bool {
        let rested = count == 0 || upstream.shard.now() >= self.dial_again.get();
        let wanted = 1 + self.changed.size() / upstream.settings.streams_max.max(1);
        let dials = self.dials.get();
        count + dials < CONNECTIONS_MAX && dials < wanted.min(DIALS_MAX) && rested
    }

    /// The best connection with its load, and how many there are.
    fn least_loaded(&self, upstream: &Upstream) -> (Option<(Rc<Conn>, f64)>, usize) {
        let conns = self.conns.borrow();
        let mut best: Option<(&Rc<Conn>, f64)> = None;
        for conn in conns.iter() {
            let state = conn.state.borrow();
            let allowed = state.machine.streams_max().min(upstream.settings.streams_max);
            let open = state.machine.streams_open();
            let usable = open < allowed && state.machine.can_open() > 0 && state.machine.own_resets() < RESETS_MAX;
            let load = open as f64 / allowed.max(1) as f64;
            if usable && best.is_none_or(|(_, other)| load < other) {
                best = Some((conn, load));
            }
        }
        (best.map(|(conn, load)| (conn.clone(), load)), conns.len())
    }

    /// Makes another connection, in a task of its own: nobody's deadline ends it.
    fn grow(&self, upstream: &Rc<Upstream>) {
        self.dials.set(self.dials.get() + 1);
        self.dial_phase.set(Phase::Admission);
        let upstream = upstream.clone();
        drop(upstream.shard.clone().spawn(async move {
            let pool = &upstream.multiplexed;
            let enter = |phase| {
                pool.dial_phase.set(phase);
                pool.changed.all();
            };
            let dialed = upstream.dial(&enter).await;
            pool.dials.set(pool.dials.get() - 1);
            *pool.last_failure.borrow_mut() = match dialed {
                Ok((wire, Spoken::Http2)) => {
                    pool.add(&upstream, wire);
                    None
                }
                Ok((_, Spoken::Http1)) => Some(Failure::protocol(Phase::Connect, "it does not speak HTTP/2 any more")),
                Err(failure) => Some(failure),
            };
            if pool.last_failure.borrow().is_some() {
                pool.dial_again.set(upstream.shard.now() + DIAL_PAUSE);
            }
            pool.changed.all();
        }));
    }

    /// Pings the silent, gives up the dead, closes the surplus.
    pub(super) fn sweep(&self, upstream: &Upstream) {
        self.changed.all();
        let now = upstream.shard.now();
        let conns = self.conns.borrow();
        let count = conns.len();
        for conn in conns.iter() {
            let mut state = conn.state.borrow_mut();
            if let Err(fault) = state.machine.on_clock(&upstream.settings.http2, upstream.now_ms()) {
                // The farewell is pending; it is sent, and the connection ends.
                state.fail_all(&Failure::protocol(Phase::Request, fault));
                conn.ended.set(true);
                conn.notify.notify();
                continue;
            }
            let patience = if count > 1 { SURPLUS_IDLE } else { upstream.settings.idle_timeout };
            if state.exchanges.is_empty() {
                let used_up = state.machine.own_resets() >= RESETS_MAX;
                if used_up || now.saturating_sub(state.idle_since) > patience {
                    state.machine.go_away(ErrorCode::NO_ERROR, "");
                    conn.notify.notify();
                }
                continue;
            }
            match state.pinged {
                Some(at) if now.saturating_sub(at) > PONG_MAX => {
                    let cause = Cause::Transport("it does not answer pings".into());
                    state.fail_all(&Failure { phase: Phase::Request, cause, unprocessed: false });
                    state.machine.go_away(ErrorCode::NO_ERROR, "no answer to a ping");
                    conn.ended.set(true);
                    conn.notify.notify();
                }
                None if now.saturating_sub(state.heard) > SILENCE_MAX => {
                    state.pinged = Some(now);
                    state.machine.ping(now.as_millis() as u64);
                    conn.notify.notify();
                }
                Some(_) | None => {}
            }
        }
    }

    /// Lets every connection end after its calls, also one that is still being made.
    pub(super) fn retire(&self) {
        self.is_retired.set(true);
        for conn in self.conns.borrow().iter() {
            conn.state.borrow_mut().machine.go_away(ErrorCode::NO_ERROR, "");
            conn.notify.notify();
        }
    }

    /// Connections and their open streams.
    pub(super) fn len(&self) -> (usize, usize) {
        let conns = self.conns.borrow();
        (conns.len(), conns.iter().map(|conn| conn.state.borrow().machine.streams_open()).sum())
    }
}

impl Conn {
    /// Opens a stream for a call; `None` if that is not possible after all. With a `reader` its body goes on as it comes.
    fn open(self: &Rc<Self>, upstream: &Rc<Upstream>, call: &Call<'_>, reader: Option<Reader>) -> Option<Lease> {
        let mut state = self.state.borrow_mut();
        let State { machine, out, exchanges, .. } = &mut *state;
        let scheme = if upstream.origin.tls { "https" } else { "http" };
        let line = RequestLine { method: call.method, scheme, authority: call.authority, path: call.target };
        let body = call.body.unwrap_or_default();
        let length = body.len().to_string();
        let framing = call.body.map(|_| ("content-length", length.as_bytes()));
        let end = body.is_empty() && reader.is_none();
        let stream = match machine.open(out, &line, call.fields.iter().chain(framing), end) {
            Ok(stream) => stream,
            Err(Refusal::Full | Refusal::Closing | Refusal::Exhausted) => return None,
        };
        let exchange = match &reader {
            None if end => Exchange::begin(stream, Vec::new(), true, false),
            None => {
                let taken = machine.write_data(upstream.now_ms(), out, stream, body, true).unwrap_or(0);
                let mut exchange = Exchange::begin(stream, body[taken..].to_vec(), true, false);
                exchange.has_ended = taken == body.len();
                exchange
            }
            Some(reader) => {
                let mut first = Vec::new();
                let is_whole = reader.now(&mut first) == Taken::All;
                let mut exchange = Exchange::begin(stream, first, is_whole, true);
                exchange.has_ended = false;
                exchange.send(machine, upstream.now_ms(), out);
                exchange
            }
        };
        let is_whole = exchange.is_whole;
        exchanges.push(exchange);
        drop(state);
        self.notify.notify();
        if let Some(reader) = reader.filter(|_| !is_whole) {
            drop(upstream.shard.spawn(feed(self.clone(), upstream.clone(), stream, reader)));
        }
        Some(Lease { conn: self.clone(), stream, upstream: upstream.clone() })
    }

    /// Moves the connection's bytes until it ends.
    async fn run(&self, upstream: &Upstream, mut wire: Wire) {
        let mut worked = 0;
        let failure = loop {
            if worked >= QUANTUM_BYTES {
                worked = 0;
                upstream.shard.yield_now().await;
            }
            let mut out = {
                let mut state = self.state.borrow_mut();
                state.pump(upstream.now_ms());
                let State { machine, out, .. } = &mut *state;
                machine.write_pending(out);
                std::mem::take(out)
            };
            if !out.is_empty() {
                if let Err(error) = wire.send(&mut out).await {
                    break Failure::transport(Phase::Request, &error);
                }
                if out.capacity() <= OUT_BYTES_KEPT {
                    // The allocation is used again, unless somebody wrote meanwhile.
                    let mut state = self.state.borrow_mut();
                    if state.out.is_empty() {
                        state.out = out;
                    }
                }
                if !self.state.borrow().out.is_empty() {
                    continue;
                }
            }
            if self.is_over() {
                // What is left unsaid is said by the end of the stream.
                drop(wire.finish().await);
                return;
            }
            match either(self.notify.notified(), wire.recv()).await {
                Either::First(()) => {}
                Either::Second(Ok(Some(mut chunk))) => {
                    worked += chunk.len();
                    if let Err(failure) = self.take(upstream, &mut chunk) {
                        let mut out = Vec::new();
                        self.state.borrow_mut().machine.write_pending(&mut out);
                        // The peer broke the protocol: whether it still reads why is its own affair.
                        drop(wire.send(&mut out).await);
                        break failure;
                    }
                }
                Either::Second(Ok(None)) => {
                    let reason = match self.state.borrow().machine.peer_farewell() {
                        Some(code) => format!("the upstream closed the connection after a GOAWAY: {code}"),
                        None => "the upstream closed the connection".to_owned(),
                    };
                    let cause = Cause::Transport(reason);
                    break Failure { phase: Phase::Request, cause, unprocessed: false };
                }
                Either::Second(Err(error)) => break Failure::transport(Phase::Request, &error),
            }
        };
        self.state.borrow_mut().fail_all(&failure);
    }

    /// Whether nothing is under way and nothing new can come.
    fn is_over(&self) -> bool {
        let state = self.state.borrow();
        self.ended.get()
            || state.machine.is_closing() && state.machine.streams_open() == 0 && state.exchanges.is_empty()
    }

    /// Works off what arrived.
    fn take(&self, upstream: &Upstream, bytes: &mut [u8]) -> Result<(), Failure> {
        let mut state = self.state.borrow_mut();
        (state.heard, state.pinged) = (upstream.shard.now(), None);
        let limits = &upstream.settings.http2;
        let mut input = Input::new(bytes);
        loop {
            let event = state.machine.next_event(limits, upstream.now_ms(), &mut input);
            match event.map_err(|fault| Failure::protocol(Phase::Request, fault))? {
                Event::NeedMore => return Ok(()),
                Event::Head { stream, head, end } => {
                    if let (Head::Response { status, fields }, Some(exchange)) = (head, state.exchange(stream)) {
                        exchange.head = Some((status, list_of(&fields)));
                        exchange.ended = end;
                        wake(exchange);
                    }
                }
                Event::Data { stream, bytes, end } => match state.exchange(stream) {
                    Some(exchange) => {
                        exchange.body.extend_from_slice(bytes);
                        exchange.ended = end;
                        let is_duplex = exchange.is_duplex;
                        wake(exchange);
                        if is_duplex {
                            state.machine.release_connection(bytes.len() as u32);
                        }
                    }
                    None => state.machine.release(stream, bytes.len() as u32),
                },
                Event::Trailers { stream, fields } => {
                    if let Some(exchange) = state.exchange(stream) {
                        exchange.ended = true;
                        exchange.trailers = Some(list_of(&fields));
                        wake(exchange);
                    }
                }
                Event::Reset { stream, code, unprocessed, fault } => {
                    if let Some(exchange) = state.exchange(stream) {
                        let cause = match fault {
                            Some(what) => Cause::Protocol(what.to_owned()),
                            None => Cause::Reset(code),
                        };
                        let phase = if exchange.head.is_some() { Phase::Body } else { Phase::Request };
                        exchange.failure = Some(Failure { phase, cause, unprocessed });
                        wake(exchange);
                    }
                }
                Event::GoAway { .. } | Event::Writable => upstream.multiplexed.changed.all(),
                Event::Pong(_) => {}
            }
        }
    }
}

/// A call's hold on its stream. Dropping it before the end resets the stream.
struct Lease {
    conn: Rc<Conn>,
    stream: u32,
    upstream: Rc<Upstream>,
}

impl Lease {
    /// Waits for the head of the answer.
    async fn head(&self) -> Result<(u16, FieldList), Failure> {
        std::future::poll_fn(|cx| {
            let mut state = self.conn.state.borrow_mut();
            let Some(exchange) = state.exchange(self.stream) else { return Poll::Ready(Err(lost())) };
            if let Some(head) = exchange.head.take() {
                return Poll::Ready(Ok(head));
            }
            if let Some(failure) = exchange.failure.take() {
                return Poll::Ready(Err(failure));
            }
            exchange.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

fn lost() -> Failure {
    Failure::protocol(Phase::Request, "the exchange is gone")
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.conn.state.borrow_mut();
        let at = state.exchanges.iter().position(|exchange| exchange.stream == self.stream);
        if let Some(exchange) = at.map(|at| state.exchanges.swap_remove(at)) {
            // What was received and not used is used up now.
            if !exchange.is_duplex {
                state.machine.release(self.stream, exchange.body.len() as u32);
            }
            exchange.sender.into_iter().for_each(Waker::wake);
        }
        state.machine.reset(self.stream, ErrorCode::CANCEL);
        if state.exchanges.is_empty() {
            state.idle_since = self.upstream.shard.now();
        }
        let speaks = state.machine.has_pending() || state.machine.is_closing();
        drop(state);
        if speaks {
            self.conn.notify.notify();
        }
        self.upstream.multiplexed.changed.one();
    }
}

/// The body of an answer that is still on its way.
pub(super) struct Http2Body {
    lease: Lease,
}

impl Http2Body {
    /// Whether the answer was nothing but its head.
    pub(super) fn is_bodiless(&self) -> bool {
        let mut state = self.lease.conn.state.borrow_mut();
        let exchange = state.exchange(self.lease.stream);
        exchange.is_some_and(|exchange| exchange.ended && exchange.body.is_empty() && exchange.trailers.is_none())
    }

    /// What came behind the body, once that is complete.
    pub(super) fn trailers(&mut self) -> Option<FieldList> {
        self.lease.conn.state.borrow_mut().exchange(self.lease.stream)?.trailers.take()
    }

    /// Appends what comes next to `out`. False when the body is complete.
    pub(super) async fn next(&mut self, out: &mut Vec<u8>) -> Result<bool, Failure> {
        let lease = &self.lease;
        std::future::poll_fn(|cx| {
            let mut state = lease.conn.state.borrow_mut();
            let Some(exchange) = state.exchange(lease.stream) else { return Poll::Ready(Err(lost())) };
            if !exchange.body.is_empty() {
                let (len, ended, is_duplex) = (exchange.body.len() as u32, exchange.ended, exchange.is_duplex);
                // Where room was made for all of it, pieces are put there; otherwise what is here is the beginning.
                match out.is_empty() && out.capacity() < exchange.body.len() {
                    true => std::mem::swap(out, &mut exchange.body),
                    false => out.append(&mut exchange.body),
                }
                match is_duplex {
                    true => state.machine.release_stream(lease.stream, len),
                    false => state.machine.release(lease.stream, len),
                }
                if state.machine.has_pending() {
                    lease.conn.notify.notify();
                }
                return Poll::Ready(Ok(!ended));
            }
            if exchange.ended {
                return Poll::Ready(Ok(false));
            }
            if let Some(failure) = exchange.failure.take() {
                return Poll::Ready(Err(failure));
            }
            exchange.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}
