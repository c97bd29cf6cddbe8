//! One HTTP/2 connection to a service, by prior knowledge: many requests at once, each answered in its own time.

use super::behaviour::Fate;
use super::body::write_lead;
use super::door::{Door, Due};
use super::floor::{Order, Target, route};
use super::http1::{MARK, count};
use annulus_engine::{Close, ConnId};
use annulus_protocols::Input;
use annulus_protocols::http2::{Connection, ErrorCode, Event, Head, Limits};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Services are asked more than browsers ask, and by gateways that give up on purpose.
const LIMITS: Limits =
    Limits { streams_max: 250, resets_max: 1_000_000, tiny_frames_max: 10_000_000, ..Limits::DEFAULT };

/// A connection's state.
pub struct Http2 {
    machine: Connection,
    /// Orders whose requests have not ended.
    arriving: HashMap<u32, Order>,
    /// Bodies that wait for a window, in order.
    waiting: Vec<(u32, Vec<u8>)>,
    requests: u64,
}

impl Http2 {
    /// A connection that begins; our settings are in `out`.
    pub fn begin(out: &mut Vec<u8>) -> Http2 {
        let mut machine = Connection::server(&LIMITS);
        machine.write_preface(&LIMITS, out);
        Http2 { machine, arriving: HashMap::new(), waiting: Vec::new(), requests: 0 }
    }

    /// Takes what arrived. True when the session is over.
    pub fn receive(&mut self, door: &mut Door, id: ConnId, input: &mut Input<'_>) -> bool {
        let now = door.shard.now().as_millis() as u64;
        let broken = loop {
            match self.machine.next_event(&LIMITS, now, input) {
                Ok(Event::NeedMore) => break false,
                Ok(Event::Head { stream, head, end }) => self.begin_request(door, id, stream, &head, end),
                Ok(Event::Data { stream, bytes, end }) => {
                    self.machine.release(stream, bytes.len() as u32);
                    if end {
                        self.complete(door, id, stream);
                    }
                }
                Ok(Event::Trailers { stream, .. }) => self.complete(door, id, stream),
                Ok(Event::Reset { stream, .. }) => {
                    self.arriving.remove(&stream);
                    self.waiting.retain(|(other, _)| *other != stream);
                }
                Ok(Event::GoAway { .. } | Event::Writable | Event::Pong(_)) => {}
                Err(_) => break true,
            }
        };
        self.flush(door, id, now);
        if broken {
            door.close(id, Close::Graceful);
        }
        broken || self.ends(door, id)
    }

    /// An answer has come due. True when the session is over.
    pub fn on_due(&mut self, door: &mut Door, due: &Due) -> bool {
        self.answer(door, due.stream, &due.order, due.started);
        self.flush(door, due.id, door.shard.now().as_millis() as u64);
        self.ends(door, due.id)
    }

    fn begin_request(&mut self, door: &mut Door, id: ConnId, stream: u32, head: &Head, end: bool) {
        let Head::Request { method, path: target, fields, .. } = head else { return };
        let (path, query) = target.split_once('?').map_or((&target[..], None), |(path, query)| (path, Some(query)));
        let refusal = match route(door.service, path, query) {
            Target::Service(ask) => {
                let mut floor = door.floor.borrow_mut();
                let order = floor.order(&ask);
                if let Some(mark) = fields.get(MARK.as_bytes()).filter(|_| order.acts_on(method)) {
                    floor.shared().on_mark(mark);
                }
                self.arriving.insert(stream, order);
                None
            }
            Target::Control => Some((400, "the settings are to be had over HTTP/1.1")),
            Target::Nowhere => Some((404, "there is no such service")),
            Target::Malformed => Some((400, "bytes or delay_ms is not a number within its limits")),
        };
        if let Some((status, reason)) = refusal {
            self.machine.write_head(&mut door.out, stream, status, [("content-type", &b"text/plain"[..])], false);
            self.waiting.push((stream, reason.as_bytes().to_vec()));
        } else if end {
            self.complete(door, id, stream);
        }
    }

    fn complete(&mut self, door: &mut Door, id: ConnId, stream: u32) {
        let Some(order) = self.arriving.remove(&stream) else { return };
        self.requests += 1;
        if order.goaway_every > 0 && self.requests.is_multiple_of(order.goaway_every) {
            self.machine.go_away(ErrorCode::NO_ERROR, "retired");
        }
        let counted = |door: &Door, order: &Order| {
            let floor = door.floor.borrow();
            let counts = &floor.shared().counts[order.service as usize];
            let counter = if order.fate == Fate::Refuse { &counts.refused } else { &counts.stalled };
            counter.fetch_add(1, Ordering::Relaxed);
        };
        match order.fate {
            Fate::Refuse => {
                counted(door, &order);
                self.machine.reset(stream, ErrorCode::REFUSED_STREAM);
            }
            Fate::Stall => counted(door, &order),
            _ if order.delay.is_zero() => self.answer(door, stream, &order, door.shard.now()),
            _ => door.put_off(id, stream, order),
        }
    }

    fn answer(&mut self, door: &mut Door, stream: u32, order: &Order, started: Duration) {
        let service_us = door.service_us(started);
        let time = format!("{}.{:03}", service_us / 1000, service_us % 1000);
        let length = order.body_bytes().to_string();
        let status = if order.fate == Fate::Error { 500 } else { 200 };
        let kept = order.cache_control();
        let mut fields = vec![
            ("content-type", &b"application/json"[..]),
            ("x-service-ms", time.as_bytes()),
            ("content-length", length.as_bytes()),
        ];
        fields.extend(kept.as_deref().map(|kept| ("cache-control", kept.as_bytes())));
        if !self.machine.write_head(&mut door.out, stream, status, fields, false) {
            // Its client has given it up.
            door.abandoned(order);
            return;
        }
        count(door, order);
        let mut body = Vec::with_capacity(order.body_bytes());
        write_lead(&mut body, order.shape, service_us);
        body.extend_from_slice(&order.tail);
        if order.fate == Fate::Reset {
            let half = body.len() / 2;
            // What the windows do not let through is not sent: the answer breaks off in any case.
            let now = door.shard.now().as_millis() as u64;
            self.machine.write_data(now, &mut door.out, stream, &body[..half], false);
            self.machine.reset(stream, ErrorCode::INTERNAL_ERROR);
            return;
        }
        self.waiting.push((stream, body));
    }

    /// Sends what the windows let through.
    fn flush(&mut self, door: &mut Door, id: ConnId, now: u64) {
        let machine = &mut self.machine;
        self.waiting.retain_mut(|(stream, body)| match machine.write_data(now, &mut door.out, *stream, body, true) {
            None => false,
            Some(taken) if taken == body.len() => false,
            Some(taken) => {
                body.drain(..taken);
                true
            }
        });
        machine.write_pending(&mut door.out);
        if !door.out.is_empty() {
            door.send(id, None);
        }
    }

    /// Closes a retired connection once it has answered everything.
    fn ends(&self, door: &Door, id: ConnId) -> bool {
        let over = self.machine.is_closing() && self.machine.streams_open() == 0;
        if over {
            door.close(id, Close::Graceful);
        }
        over
    }
}
