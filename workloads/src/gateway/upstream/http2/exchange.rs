//! One call on its stream: what was sent and what has come of it; and bodies that go on as they come.

use std::rc::Rc;
use std::task::{Poll, Waker};

use annulus_protocols::http2::{Connection, Fields};

use super::Conn;
use crate::gateway::inflow::{Reader, Taken};
use crate::gateway::message::{Failure, FieldList};
use crate::gateway::upstream::Upstream;

/// Bytes of a body that goes on as it comes that may wait for the upstream's windows.
const UNSENT_BYTES_MAX: usize = 64 << 10;

/// One call on its stream.
pub(super) struct Exchange {
    pub(super) stream: u32,
    pub(super) head: Option<(u16, FieldList)>,
    pub(super) body: Vec<u8>,
    /// What of the call's body the windows have not let through.
    pub(super) unsent: Vec<u8>,
    /// Nothing more of it will come.
    pub(super) is_whole: bool,
    /// Its end has been said.
    pub(super) has_ended: bool,
    pub(super) ended: bool,
    pub(super) trailers: Option<FieldList>,
    pub(super) failure: Option<Failure>,
    pub(super) waker: Option<Waker>,
    /// Both bodies go on as they come: what waits of the answer holds up this stream and no other.
    pub(super) is_duplex: bool,
    /// Waits until more of the body can be sent.
    pub(super) sender: Option<Waker>,
}

impl Exchange {
    /// A call that begins, with so much of its body.
    pub(super) fn begin(stream: u32, body: Vec<u8>, is_whole: bool, is_duplex: bool) -> Exchange {
        let has_ended = is_whole && body.is_empty();
        Exchange {
            stream,
            head: None,
            body: Vec::new(),
            unsent: body,
            is_whole,
            has_ended,
            ended: false,
            trailers: None,
            failure: None,
            waker: None,
            is_duplex,
            sender: None,
        }
    }

    /// Sends on what the windows let through.
    pub(super) fn send(&mut self, machine: &mut Connection, now_ms: u64, out: &mut Vec<u8>) {
        if self.has_ended || self.unsent.is_empty() && !self.is_whole {
            return;
        }
        if let Some(taken) = machine.write_data(now_ms, out, self.stream, &self.unsent, self.is_whole) {
            self.has_ended = self.is_whole && taken == self.unsent.len();
            self.unsent.drain(..taken);
        }
        if self.unsent.len() < UNSENT_BYTES_MAX {
            self.sender.take().into_iter().for_each(Waker::wake);
        }
    }
}

/// Whoever waits for something of it looks again.
pub(super) fn wake(exchange: &mut Exchange) {
    exchange.waker.take().into_iter().chain(exchange.sender.take()).for_each(Waker::wake);
}

/// As others here keep fields.
pub(super) fn list_of(fields: &Fields) -> FieldList {
    let mut list = FieldList::new();
    for (name, value) in fields.iter() {
        list.push(std::str::from_utf8(name).unwrap_or_default(), value);
    }
    list
}

/// Sends a body on as it comes, as fast as the upstream takes it.
pub(super) async fn feed(conn: Rc<Conn>, upstream: Rc<Upstream>, stream: u32, reader: Reader) {
    loop {
        let has_room = std::future::poll_fn(|cx| {
            let mut state = conn.state.borrow_mut();
            let Some(exchange) = state.exchange(stream).filter(|exchange| exchange.failure.is_none()) else {
                return Poll::Ready(false);
            };
            if exchange.unsent.len() < UNSENT_BYTES_MAX {
                return Poll::Ready(true);
            }
            exchange.sender = Some(cx.waker().clone());
            Poll::Pending
        });
        if !has_room.await {
            return;
        }
        let mut piece = Vec::new();
        let taken = reader.next(&mut piece).await;
        let state = &mut *conn.state.borrow_mut();
        let at = state.exchanges.iter().position(|exchange| exchange.stream == stream);
        let Some(exchange) = at.map(|at| &mut state.exchanges[at]) else { return };
        if taken == Taken::Lost {
            return;
        }
        exchange.unsent.extend_from_slice(&piece);
        exchange.is_whole = taken == Taken::All;
        exchange.send(&mut state.machine, upstream.now_ms(), &mut state.out);
        conn.notify.notify();
        if taken == Taken::All {
            return;
        }
    }
}
