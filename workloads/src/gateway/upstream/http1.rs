//! One call over one HTTP/1.1 connection. The caller's own task drives it: dropping the call drops the connection, since
//! nobody would read the rest of its answer.

use std::rc::Rc;
use std::time::Duration;

use annulus_protocols::http1::{self, ClientEvent, RequestBody, ResponseHead, write_request_head};

use super::{Body, Upstream};
use crate::gateway::message::{Call, Cause, Failure, FieldList, Phase, is_hop_by_hop};
use crate::serve::rest::Rest;
use crate::serve::wire::Wire;

/// A connection that carries one call at a time.
pub(super) struct Conn {
    wire: Wire,
    machine: http1::Client,
    /// Calls that it carried.
    pub(super) calls: u64,
    /// Since when nothing is under way.
    pub(super) idle_since: Duration,
}

impl Conn {
    pub(super) fn new(wire: Wire, now: Duration) -> Conn {
        Conn { wire, machine: http1::Client::new(), calls: 0, idle_since: now }
    }

    /// Whether another call can be made on it.
    pub(super) fn is_usable(&mut self) -> bool {
        self.machine.is_idle() && self.wire.is_quiet()
    }

    /// Sends the call and waits for the head of its answer.
    ///
    /// A connection that was used before may have been closed by the upstream at the moment it was chosen; a failure
    /// before the first byte of an answer then says `unprocessed` where sending again can do no harm.
    pub(super) async fn call(
        mut self,
        upstream: &Rc<Upstream>,
        call: &Call<'_>,
    ) -> Result<(u16, FieldList, Body), Failure> {
        let reused = self.calls > 0;
        self.calls += 1;
        call.progress.set(Phase::Request);
        let failed = |error: &std::io::Error, heard: bool| Failure {
            unprocessed: reused && !heard && call.is_idempotent(),
            ..Failure::transport(Phase::Request, error)
        };
        let mut out = write_call(call);
        let sent = match call.body {
            Some(body) if body.len() > SMALL_BODY_BYTES => self.wire.send_with_body(&mut out, body.to_vec()).await,
            body => {
                out.extend_from_slice(body.unwrap_or_default());
                self.wire.send(&mut out).await
            }
        };
        sent.map_err(|error| failed(&error, false))?;
        if !self.machine.on_request(call.method) {
            return Err(Failure::protocol(Phase::Request, "the connection was in use"));
        }
        let mut heard = false;
        loop {
            let received = self.wire.recv().await.map_err(|error| failed(&error, heard))?;
            let Some(chunk) = received else {
                return Err(failed(&std::io::Error::other("it was closed before the answer"), heard));
            };
            heard = true;
            let (now, mut rest) = (upstream.now_ms(), Rest::of(chunk));
            while !rest.is_empty() {
                let event = rest.read(|input| self.machine.next_event(&upstream.settings.http1, now, input));
                match event.map_err(|fault| Failure::protocol(Phase::Request, fault))? {
                    ClientEvent::Head(head) => {
                        let (status, fields) = (head.status(), fields_of(&head));
                        rest.hold();
                        let body = Http1Body { conn: Some(self), rest, upstream: upstream.clone() };
                        return Ok((status, fields, Body::Http1(Box::new(body))));
                    }
                    ClientEvent::NeedMore | ClientEvent::Interim(_) => {}
                    // Nothing else comes before the head.
                    ClientEvent::Body(_) | ClientEvent::Trailers(_) | ClientEvent::End => {}
                }
            }
        }
    }
}

/// Bodies up to this size are copied behind the head.
const SMALL_BODY_BYTES: usize = 4096;

fn write_call(call: &Call<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let body = match call.body {
        None => RequestBody::None,
        Some(body) => RequestBody::Known(body.len() as u64),
    };
    let fields: Vec<(&str, &str)> =
        call.fields.iter().filter_map(|(name, value)| Some((name, std::str::from_utf8(value).ok()?))).collect();
    write_request_head(&mut out, call.method, call.target, call.authority, &fields, body);
    out
}

/// The fields that concern more than this connection; and to which protocol it switches, if it does.
fn fields_of(head: &ResponseHead<'_>) -> FieldList {
    let mut fields = FieldList::new();
    for field in head.fields() {
        let name = field.name.to_ascii_lowercase();
        let named = || head.fields().has_token("connection", &name);
        let is_new_protocol = head.status() == 101 && name == "upgrade";
        if is_new_protocol || !is_hop_by_hop(&name) && !named() {
            fields.push(&name, field.value);
        }
    }
    fields
}

/// The body of an answer that is still on its way.
pub(super) struct Http1Body {
    /// `None` once the answer is complete.
    conn: Option<Conn>,
    rest: Rest,
    upstream: Rc<Upstream>,
}

impl Http1Body {
    /// The connection behind a 101, and what has arrived of the new protocol.
    pub(super) fn into_wire(self) -> Option<(Wire, Vec<u8>)> {
        let early = self.rest.bytes().to_vec();
        self.conn.map(|conn| (conn.wire, early))
    }

    /// Appends what comes next to `out`. False when the body is complete.
    pub(super) async fn next(&mut self, out: &mut Vec<u8>) -> Result<bool, Failure> {
        loop {
            let before = out.len();
            if self.drain(out)? {
                return Ok(false);
            }
            self.rest.hold();
            if out.len() > before {
                return Ok(true);
            }
            let Some(conn) = &mut self.conn else { return Ok(false) };
            match conn.wire.recv().await.map_err(|error| Failure::transport(Phase::Body, &error))? {
                Some(chunk) => self.rest = Rest::of(chunk),
                None => {
                    let ended = conn.machine.on_end_of_stream();
                    self.conn = None;
                    return match ended {
                        Ok(true) => Ok(false),
                        Ok(false) => Err(Failure::protocol(Phase::Body, "the answer was cut short")),
                        Err(fault) => Err(Failure::protocol(Phase::Body, fault)),
                    };
                }
            }
        }
    }

    /// Works off what was received. True when that was the end.
    fn drain(&mut self, out: &mut Vec<u8>) -> Result<bool, Failure> {
        let Some(conn) = &mut self.conn else { return Ok(true) };
        let now = self.upstream.now_ms();
        loop {
            let event = self.rest.read(|input| conn.machine.next_event(&self.upstream.settings.http1, now, input));
            match event.map_err(|fault| Failure::protocol(Phase::Body, fault))? {
                ClientEvent::NeedMore => return Ok(false),
                ClientEvent::Body(bytes) => out.extend_from_slice(bytes),
                ClientEvent::End => {
                    let excess = !self.rest.is_empty();
                    // More than was promised: whose answer would that be? Such a connection is never used again.
                    if let Some(conn) = self.conn.take().filter(|_| !excess) {
                        self.upstream.give_back(conn);
                    }
                    return Ok(true);
                }
                ClientEvent::Trailers(_) | ClientEvent::Interim(_) | ClientEvent::Head(_) => {}
            }
        }
    }
}

/// The limit that a too large answer met.
pub fn too_large(limit: usize) -> Failure {
    Failure { phase: Phase::Body, cause: Cause::TooLarge(limit), unprocessed: false }
}
