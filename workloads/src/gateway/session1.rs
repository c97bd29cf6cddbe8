//! A client's HTTP/1.1 connection: requests one after the other, each answered before the next is read.

use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use annulus_engine::trace::{Kind, Stage, Trace};
use annulus_engine::{Chunk, Shard};
use annulus_protocols::http1::{self, BodyLength, Event, Exchange, Server, write_continue, write_response_head};

use super::client::Client;
use super::live::Live;
use super::message::{Cause, FOREVER, FieldList, is_hop_by_hop};
use super::problem;
use super::request::{Reply, ReplyBody, Request};
use super::tunnel::Tunnel;
use crate::serve::rest::Rest;
use crate::serve::wire::{Either, Wire, either};

/// Pieces of a streamed body are sent once they are so long, or when nothing more is here.
const STREAM_PIECE_BYTES: usize = 16 << 10;

/// Where a request's time goes.
pub(super) static TRACED: Kind =
    Kind { name: "gateway request", about: "From a request's arrival to its answer.", away: "services" };

/// Why a connection ends.
enum Ended {
    /// Everything was said.
    Done,
    /// The peer is gone, or the transport broke: nothing can be said.
    Gone,
    /// The peer does not take what is said.
    Slow,
}

struct Session {
    live: Rc<Live>,
    wire: Wire,
    peer: IpAddr,
    client: Rc<Client>,
    machine: Server,
    limits: http1::Limits,
    /// What was received and not used yet.
    rest: Rest,
    out: Vec<u8>,
    /// Of the request at hand.
    trace: Trace,
}

/// Serves a connection until it ends. `first` is what was received already.
pub async fn serve(live: Rc<Live>, wire: Wire, peer: IpAddr, first: Chunk) {
    let limits = live.request_limits();
    let (machine, out) = (Server::new(), Vec::new());
    let client = Client::new(&live.memory);
    let mut session =
        Session { live, wire, peer, client, machine, limits, rest: Rest::of(first), out, trace: Trace::NONE };
    loop {
        match session.exchange().await {
            Ok(()) => {}
            Err(Ended::Done | Ended::Gone) => return,
            Err(Ended::Slow) => {
                session.live.too_slow(peer);
                return session.wire.abort();
            }
        }
    }
}

impl Session {
    /// One request and its answer.
    async fn exchange(&mut self) -> Result<(), Ended> {
        let (mut request, exchange) = match self.next_head().await? {
            Ok(head) => head,
            Err(fault) => return self.refuse(fault.status(), &fault.to_string()).await,
        };
        // What comes later belongs to the settings that are in force now, also after a reload.
        self.live = self.live.newest();
        self.client.follow(&self.live.memory);
        if exchange.expects_continue() {
            write_continue(&mut self.out);
        }
        if let Err(fault) = self.read_body(&mut request).await? {
            return self.refuse(fault.status(), &fault.to_string()).await;
        }
        let exchange = if self.live.shard.is_draining() { exchange.closing() } else { exchange };
        let live = self.live.clone();
        self.trace.mark(Stage::Parse);
        // On the heap, so that the connection's task stays small between requests.
        let answering = live.shard.follow(&mut self.trace, Box::pin(live.answer(&request)));
        // A client that leaves takes its sub-requests with it.
        let reply = match either(pin!(answering), Self::left(&mut self.wire, &mut self.rest)).await {
            Either::First(reply) => reply,
            Either::Second(()) => return Err(Ended::Gone),
        };
        if let ReplyBody::Tunnel(tunnel) = reply.body {
            return Box::pin(self.keep_tunnel(&exchange, &reply.fields, *tunnel)).await;
        }
        let exchange = if reply.last { exchange.closing() } else { exchange };
        let sent = self.send(&exchange, reply, &request).await;
        let mut trace = std::mem::take(&mut self.trace);
        trace.mark(Stage::Work);
        self.wire.trace(trace, &TRACED);
        sent
    }

    /// Waits until the client is gone. What it sends meanwhile is kept.
    async fn left(wire: &mut Wire, rest: &mut Rest) {
        rest.hold();
        // Someone who sends the next requests early is not waited for, so that what is kept stays one chunk.
        if !rest.is_empty() {
            return std::future::pending().await;
        }
        if let Ok(Some(more)) = wire.recv().await {
            *rest = Rest::of(more);
            rest.hold();
            std::future::pending().await
        }
    }

    /// The next request's head.
    async fn next_head(&mut self) -> Result<Result<(Request, Exchange), http1::Fault>, Ended> {
        loop {
            let now = self.live.now_ms();
            let event = self.rest.read(|input| self.machine.next_event(&self.limits, now, input));
            match event {
                Err(fault) => return Ok(Err(fault)),
                Ok(Event::Head(head)) => {
                    let exchange = head.exchange();
                    let request = self.live.request_of_http1(&head, self.peer, &self.client);
                    return Ok(Ok((request, exchange)));
                }
                Ok(Event::NeedMore) => {
                    if self.machine.is_closed() {
                        return Err(Ended::Done);
                    }
                    self.receive(None).await?;
                }
                Ok(Event::Body(_) | Event::Trailers(_) | Event::End) => {}
            }
        }
    }

    async fn read_body(&mut self, request: &mut Request) -> Result<Result<(), http1::Fault>, Ended> {
        loop {
            let now = self.live.now_ms();
            let event = self.rest.read(|input| self.machine.next_event(&self.limits, now, input));
            match event {
                Err(fault) => return Ok(Err(fault)),
                Ok(Event::End) => return Ok(Ok(())),
                Ok(Event::Body(bytes)) => {
                    if let Err((status, why)) = request.extend(bytes, true) {
                        self.refuse(status, why).await?;
                        return Err(Ended::Done);
                    }
                }
                Ok(Event::NeedMore) => {
                    if !self.out.is_empty() {
                        self.wire.send(&mut self.out).await.map_err(|_| Ended::Gone)?;
                    }
                    let server = &self.live.gateway.server;
                    self.receive(Some(request.whole_by(server.read_timeout))).await?;
                }
                Ok(Event::Trailers(_) | Event::Head(_)) => {}
            }
        }
    }

    /// Receives, within the time that the state of the connection allows; of a body, until `whole_by`.
    async fn receive(&mut self, whole_by: Option<Duration>) -> Result<(), Ended> {
        let live = self.live.clone();
        let server = &live.gateway.server;
        let until = match (self.machine.is_idle(), self.machine.head_started()) {
            (true, _) => None,
            (false, Some(started)) => Some(Duration::from_millis(started + self.limits.head_ms_max)),
            (false, None) => whole_by,
        };
        let patience = match until {
            Some(until) => until.saturating_sub(live.shard.now()),
            None => server.idle_timeout.unwrap_or(Duration::MAX),
        };
        let idle = self.machine.is_idle();
        self.rest.hold();
        let receiving = live.shard.timeout(patience.min(FOREVER), self.wire.recv());
        // An idle connection does not keep the gateway from stopping; but a request may be on its way at that moment, and a
        // busy client's next one is answered and told that it is the last.
        let last_call = async {
            live.shard.draining().await;
            live.shard.sleep(live.last_call()).await;
        };
        let received = match idle {
            true => match either(receiving, last_call).await {
                Either::First(received) => received,
                Either::Second(()) => return Err(Ended::Done),
            },
            false => receiving.await,
        };
        match received {
            Ok(Ok(Some(chunk))) => {
                match idle {
                    true => self.trace = live.shard.take_trace(),
                    false => live.shard.woke(&mut self.trace, Stage::Socket),
                }
                self.rest = Rest::of(chunk);
                Ok(())
            }
            Ok(Ok(None) | Err(_)) => Err(Ended::Gone),
            Err(_elapsed) if idle => Err(Ended::Done),
            Err(_elapsed) => {
                self.refuse(408, "the request took too long to arrive").await?;
                Err(Ended::Done)
            }
        }
    }

    /// Answers what could not be read, and ends.
    async fn refuse(&mut self, status: u16, detail: &str) -> Result<(), Ended> {
        self.live.refused(self.peer, status, detail);
        let reply = problem::problem(status, detail);
        if let ReplyBody::Whole(pieces) = reply.body {
            let mut body = Vec::new();
            pieces.copy_to(&mut body);
            let fields = [("content-type", problem::CONTENT_TYPE)];
            let length = BodyLength::Known(body.len() as u64);
            let mut writer = write_response_head(&mut self.out, &Exchange::REFUSED, status, &fields, length);
            writer.write_data(&mut self.out, &body);
            let _always_closes = writer.write_end(&mut self.out);
        }
        self.wire.send(&mut self.out).await.map_err(|_| Ended::Gone)?;
        self.wire.finish().await.map_err(|_| Ended::Gone)?;
        Err(Ended::Done)
    }

    /// Says that the connection is a tunnel from now on, and keeps it until it ends.
    async fn keep_tunnel(&mut self, exchange: &Exchange, fields: &FieldList, tunnel: Tunnel) -> Result<(), Ended> {
        let mut fields = text_fields(fields);
        fields.extend([("connection", "Upgrade"), ("upgrade", "websocket")]);
        let head = write_response_head(&mut self.out, exchange, 101, &fields, BodyLength::None);
        let _nothing_follows = head.write_end(&mut self.out);
        self.wire.send(&mut self.out).await.map_err(|_| Ended::Gone)?;
        let live = self.live.clone();
        // Not in a receive buffer: a tunnel lasts for as long as it pleases.
        let first = self.rest.bytes().to_vec();
        self.rest = Rest::empty();
        tunnel.run(&live.shard, &mut self.wire, &first, live.last_call()).await;
        Err(Ended::Done)
    }

    async fn send(&mut self, exchange: &Exchange, reply: Reply, request: &Request) -> Result<(), Ended> {
        self.rest.hold();
        let _held = match &reply.body {
            ReplyBody::Whole(body) if !body.is_empty() => Some(self.client.hold(body.len())),
            ReplyBody::Whole(_) | ReplyBody::Streamed(_) | ReplyBody::Tunnel(_) => None,
        };
        let (shard, client) = (self.live.shard.clone(), self.client.clone());
        let taking = Taking { shard: &shard, client: &client };
        let sending = Self::write(&mut self.wire, &mut self.out, exchange, reply, &taking);
        let sending = either(sending, client.too_slow(&shard));
        let limit = self.live.gateway.server.write_timeout;
        let spent = self.live.shard.now().saturating_sub(request.began);
        let left = limit.map_or(FOREVER, |limit| limit.saturating_sub(spent));
        match self.live.shard.timeout(left, sending).await {
            Ok(Either::First(outcome)) => {
                client.waits(shard.now(), false);
                outcome
            }
            Ok(Either::Second(())) | Err(_) => Err(Ended::Slow),
        }
    }

    async fn write(
        wire: &mut Wire,
        out: &mut Vec<u8>,
        exchange: &Exchange,
        reply: Reply,
        taking: &Taking<'_>,
    ) -> Result<(), Ended> {
        taking.begins();
        let fields = text_fields(&reply.fields);
        let gone = |_| Ended::Gone;
        let must_close = match reply.body {
            ReplyBody::Whole(body) => {
                let length = BodyLength::Known(body.len() as u64);
                let writer = write_response_head(out, exchange, reply.status, &fields, length);
                // The writer's framing is a length: what it would append is the body as it is.
                if writer.wants_data() && !body.is_empty() {
                    wire.send_pieces(out, body, |bytes| taking.client.took(bytes)).await.map_err(gone)?;
                    !exchange.persists()
                } else {
                    let closes = writer.write_end(out);
                    wire.send(out).await.map_err(gone)?;
                    closes
                }
            }
            ReplyBody::Streamed(mut answer) => {
                let declared = answer.fields.text("content-length").and_then(|length| length.parse().ok());
                let length = declared.map_or(BodyLength::Unknown, BodyLength::Known);
                let (begin, mut has_left) = (out.len(), false);
                let mut writer = write_response_head(out, exchange, reply.status, &fields, length);
                let mut piece = Vec::with_capacity(STREAM_PIECE_BYTES);
                loop {
                    taking.pauses();
                    let more = match answer.next(&mut piece).await {
                        Ok(more) => more,
                        // Nothing of it has left: whoever asked can be told. Rare, so its future is on the heap.
                        Err(failure) if !has_left => {
                            out.truncate(begin);
                            let status = if failure.cause == Cause::Timeout { 504 } else { 502 };
                            let id = reply.fields.text("x-request-id").unwrap_or_default();
                            let problem =
                                problem::problem(status, "the backend's answer broke off").with("x-request-id", id);
                            return Box::pin(Self::write(wire, out, exchange, problem, taking)).await;
                        }
                        // A body that breaks off must not look complete: the connection breaks off with it.
                        Err(_) => return Err(Ended::Gone),
                    };
                    taking.begins();
                    writer.write_data(out, &piece);
                    piece.clear();
                    if !more {
                        break;
                    }
                    if !out.is_empty() {
                        let bytes = out.len();
                        wire.send_paced(out).await.map_err(gone)?;
                        has_left = true;
                        taking.client.took(bytes);
                    }
                }
                let closes = writer.write_end(out);
                wire.send(out).await.map_err(gone)?;
                closes
            }
            // Kept before this is called.
            ReplyBody::Tunnel(_) => true,
        };
        if must_close {
            wire.finish().await.map_err(gone)?;
            return Err(Ended::Done);
        }
        Ok(())
    }
}

/// A client while it is sent an answer.
struct Taking<'a> {
    shard: &'a Shard,
    client: &'a Client,
}

impl Taking<'_> {
    /// From now on it is waited for.
    fn begins(&self) {
        self.client.waits(self.shard.now(), true);
    }

    /// From now on it waits itself.
    fn pauses(&self) {
        self.client.waits(self.shard.now(), false);
    }
}

/// The fields whose values are text; others cannot be written.
fn text_fields(fields: &FieldList) -> Vec<(&str, &str)> {
    let text = |(name, value): (_, _)| Some((name, std::str::from_utf8(value).ok()?));
    // Upstreams' fields of this name were left behind; our own says what a 426 asks for (RFC 9110 section 15.5.22).
    let goes_on = |name: &str| name == "upgrade" || !is_hop_by_hop(name);
    let mut fields: Vec<_> = fields.iter().filter_map(text).filter(|(name, _)| goes_on(name)).collect();
    if fields.iter().any(|(name, _)| *name == "upgrade") {
        fields.push(("connection", "Upgrade"));
    }
    fields
}
