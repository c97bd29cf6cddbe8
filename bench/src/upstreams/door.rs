//! One port: its connections, and the answers that are not due yet. One task per port and shard turns both.
//!
//! ```text
//!   Received ─► session ─► order ─┬─ no delay ─► answer
//!                                 └─ due heap ─(its time)─► session ─► answer
//! ```

use super::floor::{Floor, Order};
use super::http1::Http1;
use super::http2::Http2;
use annulus_engine::{
    Address, Chunk, Close, ConnId, Event, Frame, Group, GroupOptions, ListenOptions, Outlet, Reason, Shard,
};
use annulus_protocols::Input;
use std::cell::RefCell;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

/// Bytes that may wait for one client. Beyond, the connection is cut: it asks, but does not read.
const OUTBOX_BYTES_MAX: usize = 64 << 20;
/// Bodies up to this are copied behind their head, so that an answer is one run of bytes; larger ones are sent in place.
const COPY_BYTES_MAX: usize = 4096;

/// What is connected to a port.
pub enum Session {
    /// Has said nothing yet.
    New,
    /// Speaks HTTP/1.1.
    Http1(Box<Http1>),
    /// Speaks HTTP/2.
    Http2(Box<Http2>),
    /// Told everything; what still comes is ignored.
    Done,
}

/// An answer that waits for its time.
pub struct Due {
    /// When.
    at: Duration,
    /// When its request came.
    pub started: Duration,
    /// On which connection.
    pub id: ConnId,
    /// On which of its streams; zero for HTTP/1.1, which has none.
    pub stream: u32,
    /// What.
    pub order: Order,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.at == other.at
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    /// The earliest is the greatest: the heap gives the greatest first.
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        other.at.cmp(&self.at)
    }
}

/// A port, without its sessions: what sessions need to answer.
pub struct Door {
    /// The shard it is on.
    pub shard: Shard,
    /// The service it belongs to; none for the port of all.
    pub service: Option<usize>,
    /// What the shard's doors share.
    pub floor: Rc<RefCell<Floor>>,
    outlet: Outlet,
    due: BinaryHeap<Due>,
    /// Bytes for the connection at hand.
    pub out: Vec<u8>,
}

/// A session in its connection's slot: a slot is used again, and an answer may come due after that.
struct Slot {
    id: ConnId,
    session: Session,
}

/// Serves a port until the engine drains.
///
/// # Errors
/// A sentence: why it could not listen.
pub async fn serve(
    shard: Shard,
    listen: SocketAddr,
    service: Option<usize>,
    floor: Rc<RefCell<Floor>>,
) -> Result<(), String> {
    let address = Address::Ip(listen);
    let listener = shard
        .listen(&address, &ListenOptions::default())
        .map_err(|error| annulus_engine::error::explain_listen(&address, &error))?;
    let mut group = shard.group::<Slot>(GroupOptions { outbox_bytes_max: OUTBOX_BYTES_MAX, ..GroupOptions::default() });
    group.listen(listener);
    let outlet = group.outlet();
    let mut door = Door { shard, service, floor, outlet, due: BinaryHeap::new(), out: Vec::new() };
    while door.wait(&mut group).await {
        while let Some(event) = group.next_event() {
            door.on_event(&mut group, event);
        }
        door.answer_due(&mut group);
    }
    Ok(())
}

impl Door {
    /// Waits for events or for the next answer's time. False when the engine drains.
    async fn wait(&self, group: &mut Group<Slot>) -> bool {
        // Without an answer to come, a day is as good as never.
        let moment = self.due.peek().map_or(self.shard.now() + Duration::from_secs(86_400), |due| due.at);
        let mut due = self.shard.sleep_until(moment);
        let mut ready = pin!(self.shard.until_drained(group.ready()));
        std::future::poll_fn(|cx| match ready.as_mut().poll(cx) {
            Poll::Ready(ready) => Poll::Ready(ready.is_some()),
            Poll::Pending => pin!(&mut due).poll(cx).map(|()| true),
        })
        .await
    }

    fn on_event(&mut self, group: &mut Group<Slot>, event: Event) {
        match event {
            Event::Opened(id) => {
                self.floor.borrow().shared().connections.fetch_add(1, Ordering::Relaxed);
                group.attach(id, Slot { id, session: Session::New });
            }
            Event::Received(id, mut chunk) => {
                if let Some(slot) = group.session(id) {
                    self.received(id, &mut slot.session, &mut chunk);
                }
            }
            Event::Ended(id) => self.outlet.close(id, Close::Now, Reason::Peer),
            Event::Closed(..) | Event::Drained(_) | Event::Tick(_) => {}
        }
    }

    fn received(&mut self, id: ConnId, session: &mut Session, chunk: &mut Chunk) {
        let mut input = Input::new(chunk);
        if matches!(session, Session::New) {
            // No method begins so.
            *session = match input.rest().starts_with(b"PRI") {
                true => Session::Http2(Box::new(Http2::begin(&mut self.out))),
                false => Session::Http1(Box::default()),
            };
        }
        let ends = match session {
            Session::New => false,
            Session::Http1(http) => http.receive(self, id, &mut input),
            Session::Http2(http) => http.receive(self, id, &mut input),
            Session::Done => false,
        };
        if ends {
            *session = Session::Done;
        }
    }

    /// Sends what has come due.
    fn answer_due(&mut self, group: &mut Group<Slot>) {
        let now = self.shard.precise_now();
        while self.due.peek().is_some_and(|due| due.at <= now) {
            let Some(due) = self.due.pop() else { return };
            let Some(slot) = group.session(due.id).filter(|slot| slot.id == due.id) else {
                self.abandoned(&due.order);
                continue;
            };
            let ends = match &mut slot.session {
                Session::Http1(http) => http.on_due(self, &due),
                Session::Http2(http) => http.on_due(self, &due),
                Session::New | Session::Done => false,
            };
            if ends {
                slot.session = Session::Done;
            }
        }
    }

    /// Counts an answer that nobody waits for any more when its time has come.
    pub fn abandoned(&self, order: &Order) {
        self.floor.borrow().shared().counts[order.service as usize].abandoned.fetch_add(1, Ordering::Relaxed);
    }

    /// Keeps an answer until its time.
    pub fn put_off(&mut self, id: ConnId, stream: u32, order: Order) {
        let started = self.shard.now();
        self.due.push(Due { at: started + order.delay, started, id, stream, order });
    }

    /// The service time of an answer whose request came at `started`, in microseconds.
    pub fn service_us(&self, started: Duration) -> u64 {
        (self.shard.precise_now().saturating_sub(started)).as_micros() as u64
    }

    /// Sends what was written to `out`, and a body behind it. Cuts the connection when it does not read.
    pub fn send(&mut self, id: ConnId, body: Option<&Frame>) {
        use annulus_engine::Sent;
        let sent = match body {
            Some(body) if body.len() <= COPY_BYTES_MAX => self.outlet.send_copy(id, &[&self.out, body]),
            Some(body) => match self.outlet.send_copy(id, &[&self.out]) {
                Sent::Queued => self.outlet.send(id, body),
                refused => refused,
            },
            None => self.outlet.send_copy(id, &[&self.out]),
        };
        self.out.clear();
        if sent == Sent::Full {
            self.outlet.close(id, Close::Now, Reason::Slow);
        }
    }

    /// Closes after what was sent, or at once.
    pub fn close(&self, id: ConnId, how: Close) {
        self.outlet.close(id, how, Reason::Local);
    }
}
