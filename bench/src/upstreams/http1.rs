//! One HTTP/1.1 connection to a service: one request at a time, the next ones kept until its answer has left.

use super::behaviour::Fate;
use super::body::write_lead;
use super::door::{Door, Due};
use super::floor::{Order, Target, route};
use annulus_engine::{Close, ConnId};
use annulus_protocols::Input;
use annulus_protocols::http1::{
    BodyLength, Event, Exchange, Limits, RequestHead, Server, write_continue, write_response_head,
};
use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Requests sent ahead that are kept for one connection. Beyond, it is closed.
const AHEAD_BYTES_MAX: usize = 256 << 10;
/// Largest change of settings.
const CHANGE_BYTES_MAX: usize = 64 << 10;
/// Names a request that must not be acted upon twice.
pub const MARK: &str = "x-bench-mark";

/// A connection's state.
#[derive(Default)]
pub struct Http1 {
    server: Server,
    request: Option<Request>,
    /// The answer that is owed; nothing more is read until it has left.
    owed: Option<Exchange>,
    ahead: Vec<u8>,
    requests: u64,
}

/// A request whose end has not come.
struct Request {
    exchange: Exchange,
    kind: Kind,
}

enum Kind {
    Order(Order),
    /// A change of the settings, or none to see them.
    Control {
        change: Option<Vec<u8>>,
    },
    Refused(u16, &'static str),
}

impl Http1 {
    /// Takes requests off the input. True when the session is over.
    pub fn receive(&mut self, door: &mut Door, id: ConnId, input: &mut Input<'_>) -> bool {
        let now = door.shard.now().as_millis() as u64;
        while self.owed.is_none() {
            let ends = match self.server.next_event(&Limits::DEFAULT, now, input) {
                Ok(Event::NeedMore) => return false,
                Ok(Event::Head(head)) => {
                    self.request = Some(begin(door, &head));
                    false
                }
                Ok(Event::Body(part)) => self.keep(part),
                Ok(Event::Trailers(_)) => false,
                Ok(Event::End) => self.complete(door, id),
                Err(fault) => {
                    write_text(&mut door.out, &Exchange::REFUSED, fault.status(), fault.reason().as_bytes());
                    door.send(id, None);
                    door.close(id, Close::Graceful);
                    true
                }
            };
            if ends {
                return true;
            }
        }
        if self.ahead.len() + input.len() > AHEAD_BYTES_MAX {
            door.close(id, Close::Now);
            return true;
        }
        self.ahead.extend_from_slice(input.take_rest());
        false
    }

    /// An answer has come due. True when the session is over.
    pub fn on_due(&mut self, door: &mut Door, due: &Due) -> bool {
        let Some(exchange) = self.owed.take() else { return false };
        if answer(door, due.id, &exchange, &due.order, due.started) {
            return true;
        }
        if self.ahead.is_empty() {
            return false;
        }
        let mut ahead = std::mem::take(&mut self.ahead);
        self.receive(door, due.id, &mut Input::new(&mut ahead))
    }

    /// Keeps a part of a change of settings; other bodies are read and dropped.
    fn keep(&mut self, part: &[u8]) -> bool {
        if let Some(Request { kind, .. }) = &mut self.request
            && let Kind::Control { change: Some(change) } = kind
        {
            if change.len() + part.len() > CHANGE_BYTES_MAX {
                *kind = Kind::Refused(413, "change of settings too large");
            } else {
                change.extend_from_slice(part);
            }
        }
        false
    }

    /// The request is here. True when the session is over.
    fn complete(&mut self, door: &mut Door, id: ConnId) -> bool {
        let Some(Request { mut exchange, kind }) = self.request.take() else { return false };
        self.requests += 1;
        match kind {
            Kind::Refused(status, reason) => write_text(&mut door.out, &exchange, status, reason.as_bytes()),
            Kind::Control { change } => {
                let changed = change.map_or(Ok(()), |change| door.floor.borrow().shared().change(&change));
                match changed {
                    Ok(()) => {
                        let page = format!("{:#}\n", door.floor.borrow().shared().json());
                        write_text(&mut door.out, &exchange, 200, page.as_bytes());
                    }
                    Err(error) => write_text(&mut door.out, &exchange, 400, error.as_bytes()),
                }
            }
            Kind::Order(order) => {
                if order.goaway_every > 0 && self.requests.is_multiple_of(order.goaway_every) {
                    exchange = exchange.closing();
                }
                return self.take_order(door, id, exchange, order);
            }
        }
        door.send(id, None);
        if !exchange.persists() {
            door.close(id, Close::Graceful);
        }
        !exchange.persists()
    }

    fn take_order(&mut self, door: &mut Door, id: ConnId, exchange: Exchange, order: Order) -> bool {
        let count_unanswered = |door: &Door| {
            let floor = door.floor.borrow();
            let counts = &floor.shared().counts[order.service as usize];
            let counter = if order.fate == Fate::Refuse { &counts.refused } else { &counts.stalled };
            counter.fetch_add(1, Ordering::Relaxed);
        };
        match order.fate {
            Fate::Refuse => {
                count_unanswered(door);
                door.close(id, Close::Now);
                true
            }
            Fate::Stall => {
                count_unanswered(door);
                self.owed = Some(exchange);
                false
            }
            _ if order.delay.is_zero() => {
                let started = door.shard.now();
                answer(door, id, &exchange, &order, started)
            }
            _ => {
                self.owed = Some(exchange);
                door.put_off(id, 0, order);
                false
            }
        }
    }
}

fn begin(door: &mut Door, head: &RequestHead<'_>) -> Request {
    let exchange = head.exchange();
    let kind = match route(door.service, head.path(), head.query()) {
        Target::Control => Kind::Control { change: (head.method() == "POST").then(Vec::new) },
        Target::Nowhere => Kind::Refused(404, "there is no such service"),
        Target::Malformed => Kind::Refused(400, "bytes or delay_ms is not a number within its limits"),
        Target::Service(ask) => {
            let mut floor = door.floor.borrow_mut();
            let order = floor.order(&ask);
            if let Some(mark) = head.fields().get(MARK).filter(|_| order.acts_on(head.method())) {
                floor.shared().on_mark(mark);
            }
            Kind::Order(order)
        }
    };
    if exchange.expects_continue() {
        write_continue(&mut door.out);
    }
    Request { exchange, kind }
}

/// Sends an answer. True when that was the connection's last.
fn answer(door: &mut Door, id: ConnId, exchange: &Exchange, order: &Order, started: Duration) -> bool {
    let service_us = door.service_us(started);
    let mut text = String::with_capacity(16);
    write!(text, "{}.{:03}", service_us / 1000, service_us % 1000).expect("writing to a string does not fail");
    let status = if order.fate == Fate::Error { 500 } else { 200 };
    let kept = order.cache_control();
    let mut fields = vec![("content-type", "application/json"), ("x-service-ms", &*text)];
    fields.extend(kept.as_deref().map(|kept| ("cache-control", kept)));
    let length = BodyLength::Known(order.body_bytes() as u64);
    // The body follows without its writer, because it is sent in place; the length is the one announced.
    let _framing = write_response_head(&mut door.out, exchange, status, &fields, length);
    count(door, order);
    if exchange.is_head() {
        door.send(id, None);
    } else {
        write_lead(&mut door.out, order.shape, service_us);
        let mut tail = order.tail.clone();
        if order.fate == Fate::Reset {
            tail = tail.split_to(tail.len() / 2);
        }
        door.send(id, Some(&tail));
    }
    let ends = !exchange.persists() || order.fate == Fate::Reset;
    if ends {
        door.close(id, Close::Graceful);
    }
    ends
}

/// Counts an answer by its fate.
pub fn count(door: &Door, order: &Order) {
    let floor = door.floor.borrow();
    let counts = &floor.shared().counts[order.service as usize];
    let counter = match order.fate {
        Fate::Error => &counts.errors,
        Fate::Reset => &counts.reset,
        _ => &counts.answered,
    };
    counter.fetch_add(1, Ordering::Relaxed);
}

fn write_text(out: &mut Vec<u8>, exchange: &Exchange, status: u16, text: &[u8]) {
    let kind = if text.starts_with(b"{") { "application/json" } else { "text/plain; charset=utf-8" };
    let mut body =
        write_response_head(out, exchange, status, &[("content-type", kind)], BodyLength::Known(text.len() as u64));
    body.write_data(out, text);
    let _persistence_is_the_exchange_s = body.write_end(out);
}
