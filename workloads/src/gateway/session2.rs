//! A client's HTTP/2 connection: one task moves its bytes, and every request has a task of its own.
//!
//! ```text
//!   wire ─► machine ─► requests ─► tasks ─► replies ─► queue by urgency ─► machine ─► wire
//! ```

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use annulus_engine::Chunk;
use annulus_protocols::Input;
use annulus_protocols::http2::{Connection, ErrorCode, Event, Fields, Head, Limits};

use super::live::{Live, REQUEST_BODY_BYTES_MAX};
use super::message::{Failure, FieldList, is_hop_by_hop};
use super::problem;
use super::request::{Reply, ReplyBody, Request};
use super::shed::{Memory, Waiting};
use super::upstream::Answer;
use crate::serve::wire::{Either, Notify, Wire, either};

/// Bytes of one answer that are written before the next one's turn: a large answer does not hold small ones up.
const QUANTUM_BYTES: usize = 16 << 10;
/// Bytes that are put together before they are sent.
const SEND_BYTES: usize = 128 << 10;
/// Bytes of answers that wait for one client's windows. Beyond, its further requests wait until it takes some.
const UNTAKEN_BYTES_MAX: usize = 4 << 20;
/// Bytes of a streamed answer that may wait for the client's window.
const STREAMED_BYTES_MAX: usize = 64 << 10;
/// Bytes of all request bodies of one connection. Beyond: 413.
const BODIES_BYTES_MAX: u64 = 2 * REQUEST_BODY_BYTES_MAX;
const TOO_LARGE: &str = "the request's body is too large";
/// How long a client may keep an answer waiting by a closed window. Beyond, the stream is reset.
const STALL_MAX: Duration = Duration::from_secs(30);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(1);

struct Session {
    live: RefCell<Rc<Live>>,
    state: RefCell<State>,
    notify: Notify,
    limits: Limits,
    peer: IpAddr,
}

struct State {
    machine: Connection,
    out: Vec<u8>,
    /// Requests whose bodies are not complete.
    arriving: HashMap<u32, Request>,
    arriving_bytes: u64,
    /// Requests that wait because the client does not take the answers that are there.
    waiting: VecDeque<(u32, Request)>,
    /// Answers on their way, in order of arrival.
    leaving: Vec<Leaving>,
    /// Requests that are being answered.
    answering: usize,
    /// Whom to wake when a stream is given up whose request is being answered.
    givers_up: HashMap<u32, Waker>,
    /// The connection has ended.
    over: bool,
    /// When the client was told that the end is near.
    warned: Option<Duration>,
}

/// An answer's body on its way.
struct Leaving {
    stream: u32,
    bytes: Vec<u8>,
    at: usize,
    /// Nothing more will be added.
    complete: bool,
    /// The rest of the request is not wanted: the client is told so after the answer (RFC 9113 section 8.1).
    cuts: bool,
    /// Waits for room.
    waker: Option<Waker>,
    /// What it takes of the memory for answers.
    _held: Option<Waiting>,
}

/// Serves a connection until it ends. `first` is what was received already.
pub async fn serve(live: Rc<Live>, wire: Wire, peer: IpAddr, first: Chunk) {
    let limits = Limits { list_bytes_max: live.gateway.server.max_header_bytes as usize, ..Limits::DEFAULT };
    let limits = Limits { list_bytes_max: limits.list_bytes_max.min(limits.block_bytes_max), ..limits };
    let mut machine = Connection::server(&limits);
    let mut out = Vec::new();
    machine.write_preface(&limits, &mut out);
    let state = State {
        machine,
        out,
        arriving: HashMap::new(),
        arriving_bytes: 0,
        waiting: VecDeque::new(),
        leaving: Vec::new(),
        answering: 0,
        givers_up: HashMap::new(),
        over: false,
        warned: None,
    };
    let session =
        Session { live: RefCell::new(live), state: RefCell::new(state), notify: Notify::default(), limits, peer };
    Rc::new(session).run(wire, first).await;
}

/// A request that is being answered. When its task ends by a panic, its client is told.
struct Answering {
    session: Rc<Session>,
    stream: u32,
    done: Cell<bool>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        let state = &mut *self.session.state.borrow_mut();
        state.answering -= 1;
        state.givers_up.remove(&self.stream);
        if !self.done.get() {
            state.machine.reset(self.stream, ErrorCode::INTERNAL_ERROR);
            state.forget(self.stream);
        }
        self.session.notify.notify();
    }
}

impl Session {
    async fn run(self: Rc<Self>, mut wire: Wire, mut first: Chunk) {
        let live = self.live.borrow().clone();
        let shard = live.shard.clone();
        let mut alive = self.take(&mut first);
        let mut idle_since = shard.now();
        let mut looked = shard.now();
        loop {
            if shard.now().saturating_sub(looked) >= LOOK {
                looked = shard.now();
                self.look();
            }
            self.close_door(live.last_call(), shard.now());
            self.start_waiting();
            let mut out = self.fill();
            if !out.is_empty() && wire.send(&mut out).await.is_err() {
                break;
            }
            let (busy, more) = {
                let state = self.state.borrow();
                let writable = state.leaving.iter().any(|leaving| {
                    (leaving.at < leaving.bytes.len() || leaving.complete) && state.machine.capacity(leaving.stream) > 0
                });
                (state.machine.streams_open() > 0 || state.answering > 0, writable || !state.out.is_empty())
            };
            if !alive || !busy && self.state.borrow().machine.is_closing() {
                // The farewell has been sent; whether the client still hears the end is its own affair.
                drop(wire.finish().await);
                break;
            }
            if more {
                continue;
            }
            let incoming = either(self.notify.notified(), wire.recv());
            let pause = if self.state.borrow().warned.is_some() { LOOK.min(live.last_call()) } else { LOOK };
            match either(shard.timeout(pause, incoming), draining(&shard, &self)).await {
                Either::First(Ok(Either::First(()))) => {}
                Either::First(Ok(Either::Second(Ok(Some(mut chunk))))) => alive = self.take(&mut chunk),
                Either::First(Ok(Either::Second(Ok(None) | Err(_)))) => break,
                Either::First(Err(_elapsed)) => {}
                Either::Second(()) => self.warn(shard.now()),
            }
            if busy {
                idle_since = shard.now();
            }
            let patience = live.gateway.server.idle_timeout.unwrap_or(Duration::MAX);
            if shard.now().saturating_sub(idle_since) > patience {
                self.state.borrow_mut().machine.go_away(ErrorCode::NO_ERROR, "idle");
            }
        }
        // Tasks that still answer, or wait for room, learn that nobody is there.
        let state = &mut *self.state.borrow_mut();
        state.over = true;
        state.waiting.clear();
        let waiting = state.leaving.drain(..).filter_map(|leaving| leaving.waker);
        waiting.chain(state.givers_up.drain().map(|(_, waker)| waker)).for_each(Waker::wake);
    }

    /// Tells the client that the end is near. What it sends until it has heard of it is answered.
    fn warn(&self, now: Duration) {
        let state = &mut *self.state.borrow_mut();
        state.warned = Some(now);
        state.machine.go_away_soon();
    }

    /// Lets no further request in once the client has had time to hear of the end.
    fn close_door(&self, last_call: Duration, now: Duration) {
        let state = &mut *self.state.borrow_mut();
        if state.warned.is_some_and(|at| now.saturating_sub(at) >= last_call) {
            state.machine.go_away(ErrorCode::NO_ERROR, "shutting down");
        }
    }

    /// Resets answers that the client does not let through.
    fn look(&self) {
        let now = self.live.borrow().now_ms();
        let state = &mut *self.state.borrow_mut();
        let stalled = |leaving: &Leaving| {
            let since = state.machine.blocked_since(leaving.stream);
            since.is_some_and(|since| now.saturating_sub(since) > STALL_MAX.as_millis() as u64)
        };
        let ids: Vec<u32> =
            state.leaving.iter().filter(|leaving| stalled(leaving)).map(|leaving| leaving.stream).collect();
        for id in ids {
            state.machine.reset(id, ErrorCode::CANCEL);
            state.forget(id);
        }
    }

    /// Works off what arrived. False when the client broke the protocol.
    fn take(self: &Rc<Self>, bytes: &mut [u8]) -> bool {
        let live = self.live.borrow().newest();
        *self.live.borrow_mut() = live.clone();
        let mut input = Input::new(bytes);
        loop {
            let mut guard = self.state.borrow_mut();
            let state = &mut *guard;
            match state.machine.next_event(&self.limits, live.now_ms(), &mut input) {
                Err(fault) => {
                    live.refused(self.peer, 400, &fault.to_string());
                    return false;
                }
                Ok(Event::NeedMore) => return true,
                Ok(Event::Head { stream, head: Head::Request { method, authority, path, fields, .. }, end }) => {
                    let request = self.request(&live, method, authority, &path, &fields);
                    match end {
                        true => self.start(state, stream, request),
                        false => drop(state.arriving.insert(stream, request)),
                    }
                }
                Ok(Event::Data { stream, bytes, end }) => {
                    let len = bytes.len() as u64;
                    state.machine.release(stream, bytes.len() as u32);
                    let Some(request) = state.arriving.get_mut(&stream) else { continue };
                    if request.body.len() as u64 + len > REQUEST_BODY_BYTES_MAX
                        || state.arriving_bytes + len > BODIES_BYTES_MAX
                    {
                        state.forget(stream);
                        live.refused(self.peer, 413, TOO_LARGE);
                        let reply = problem::problem(413, TOO_LARGE);
                        state.answer_whole(&live.memory, stream, reply, false);
                        state
                            .leaving
                            .iter_mut()
                            .filter(|leaving| leaving.stream == stream)
                            .for_each(|it| it.cuts = true);
                        continue;
                    }
                    request.body.extend_from_slice(bytes);
                    state.arriving_bytes += len;
                    if end {
                        self.finish_arrival(state, stream);
                    }
                }
                Ok(Event::Trailers { stream, .. }) => self.finish_arrival(state, stream),
                Ok(Event::Reset { stream, .. }) => state.forget(stream),
                Ok(Event::Head { .. } | Event::GoAway { .. } | Event::Writable | Event::Pong(_)) => {}
            }
        }
    }

    fn request(&self, live: &Live, method: String, authority: String, target: &str, fields: &Fields) -> Request {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (target.to_owned(), None),
        };
        let mut list = FieldList::new();
        for (name, value) in fields.iter() {
            let name = std::str::from_utf8(name).unwrap_or_default();
            if !is_hop_by_hop(name) {
                list.push(name, value);
            }
        }
        let (peer, began) = (self.peer, live.shard.now());
        Request { method, path, query, authority, fields: list, body: Vec::new(), peer, began }
    }

    fn finish_arrival(self: &Rc<Self>, state: &mut State, stream: u32) {
        if let Some(request) = state.arriving.remove(&stream) {
            state.arriving_bytes -= request.body.len() as u64;
            self.start(state, stream, request);
        }
    }

    /// Answers a request, once the client takes what is there for it.
    fn start(self: &Rc<Self>, state: &mut State, stream: u32, request: Request) {
        match state.waiting.is_empty() && state.untaken_bytes() <= UNTAKEN_BYTES_MAX {
            true => self.answer(state, stream, request),
            false => state.waiting.push_back((stream, request)),
        }
    }

    fn start_waiting(self: &Rc<Self>) {
        let state = &mut *self.state.borrow_mut();
        while state.untaken_bytes() <= UNTAKEN_BYTES_MAX {
            let Some((stream, request)) = state.waiting.pop_front() else { break };
            self.answer(state, stream, request);
        }
    }

    /// Answers a request in a task of its own.
    fn answer(self: &Rc<Self>, state: &mut State, stream: u32, request: Request) {
        state.answering += 1;
        let answering = Answering { session: self.clone(), stream, done: Cell::new(false) };
        let live = self.live.borrow().clone();
        drop(live.shard.clone().spawn(async move {
            // Whole, so that the task owns it: a closure may capture fields.
            let answering = answering;
            let session = &answering.session;
            // Given up comes first: a request that was cancelled before its turn asks nobody.
            if let Either::Second(reply) = either(session.given_up(stream), pin!(live.answer(&request))).await {
                session.send(stream, reply, request.method == "HEAD").await;
            }
            answering.done.set(true);
        }));
    }

    /// Waits until the client has given the stream up.
    async fn given_up(&self, stream: u32) {
        std::future::poll_fn(|cx| {
            let state = &mut *self.state.borrow_mut();
            if state.over || !state.machine.is_open(stream) {
                return Poll::Ready(());
            }
            state.givers_up.insert(stream, cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    async fn send(&self, stream: u32, reply: Reply, head_only: bool) {
        match reply.body {
            ReplyBody::Whole(_) => {
                let memory = self.live.borrow().memory.clone();
                self.state.borrow_mut().answer_whole(&memory, stream, reply, head_only);
                self.notify.notify();
            }
            ReplyBody::Streamed(answer) => {
                let fields = reply.fields;
                let begun = {
                    let state = &mut *self.state.borrow_mut();
                    let begun =
                        state.machine.write_head(&mut state.out, stream, reply.status, fields.iter(), head_only);
                    if begun && !head_only {
                        let (bytes, at, complete, cuts, waker) = (Vec::new(), 0, false, false, None);
                        // At most STREAMED_BYTES_MAX and a piece: its upstream waits for the client.
                        state.leaving.push(Leaving { stream, bytes, at, complete, cuts, waker, _held: None });
                    }
                    begun
                };
                if head_only {
                    self.notify.notify();
                } else if begun {
                    self.stream(stream, *answer).await;
                }
            }
        }
    }

    /// Passes an upstream's body on, as fast as the client takes it.
    async fn stream(&self, stream: u32, mut answer: Answer) {
        loop {
            let mut piece = Vec::new();
            let more = answer.next(&mut piece).await;
            if !self.add(stream, &piece, &more) {
                return;
            }
            self.notify.notify();
            if !matches!(more, Ok(true)) {
                return;
            }
            if self.room(stream).await.is_none() {
                return;
            }
        }
    }

    /// Queues a piece of a streamed answer. False when the stream is gone.
    fn add(&self, stream: u32, piece: &[u8], more: &Result<bool, Failure>) -> bool {
        let state = &mut *self.state.borrow_mut();
        let Some(leaving) = state.leaving.iter_mut().find(|leaving| leaving.stream == stream) else { return false };
        match more {
            Ok(more) => {
                leaving.bytes.extend_from_slice(piece);
                leaving.complete = !more;
            }
            // A body that breaks off must not look complete.
            Err(_) => {
                state.machine.reset(stream, ErrorCode::INTERNAL_ERROR);
                state.forget(stream);
            }
        }
        true
    }

    /// Waits until a streamed answer may go on; `None` when it is gone.
    async fn room(&self, stream: u32) -> Option<()> {
        std::future::poll_fn(|cx| {
            let mut state = self.state.borrow_mut();
            let Some(leaving) = state.leaving.iter_mut().find(|leaving| leaving.stream == stream) else {
                return Poll::Ready(None);
            };
            if leaving.bytes.len() - leaving.at < STREAMED_BYTES_MAX {
                return Poll::Ready(Some(()));
            }
            leaving.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// What is to be sent now: the machine's own words, then answers by urgency, a quantum each.
    fn fill(&self) -> Vec<u8> {
        let now = self.live.borrow().now_ms();
        let state = &mut *self.state.borrow_mut();
        state.machine.write_pending(&mut state.out);
        while state.out.len() < SEND_BYTES {
            let Some(at) = state.next_leaving() else { break };
            let leaving = &mut state.leaving[at];
            let len = (leaving.bytes.len() - leaving.at).min(QUANTUM_BYTES);
            let end = leaving.complete && leaving.at + len == leaving.bytes.len();
            let bytes = &leaving.bytes[leaving.at..leaving.at + len];
            match state.machine.write_data(now, &mut state.out, leaving.stream, bytes, end) {
                None => drop(state.leaving.remove(at)),
                Some(taken) => {
                    leaving.at += taken;
                    leaving.waker.take().into_iter().for_each(Waker::wake);
                    if taken == len && end {
                        let gone = state.leaving.remove(at);
                        if gone.cuts {
                            state.machine.reset(gone.stream, ErrorCode::NO_ERROR);
                            state.machine.write_pending(&mut state.out);
                        }
                        continue;
                    }
                    if leaving.at == leaving.bytes.len() {
                        leaving.bytes.clear();
                        leaving.at = 0;
                    }
                    // Answers of the same urgency take turns.
                    let turned = state.leaving.remove(at);
                    state.leaving.push(turned);
                }
            }
        }
        std::mem::take(&mut state.out)
    }
}

/// Waits until the engine is asked to stop, unless this connection has heard of it.
async fn draining(shard: &annulus_engine::Shard, session: &Session) {
    let heard = session.state.borrow().warned.is_some() || session.state.borrow().machine.is_closing();
    if heard {
        return std::future::pending().await;
    }
    shard.draining().await;
}

impl State {
    /// The most urgent answer that can go on.
    fn next_leaving(&self) -> Option<usize> {
        let can_go = |leaving: &Leaving| {
            let left = leaving.bytes.len() - leaving.at;
            let gone = !self.machine.is_open(leaving.stream);
            gone || (left > 0 && self.machine.capacity(leaving.stream) > 0) || (left == 0 && leaving.complete)
        };
        let ready = self.leaving.iter().enumerate().filter(|(_, leaving)| can_go(leaving));
        ready.min_by_key(|(_, leaving)| self.machine.priority(leaving.stream).urgency).map(|(at, _)| at)
    }

    /// Bytes of answers that the client has not let through.
    fn untaken_bytes(&self) -> usize {
        self.leaving.iter().map(|leaving| leaving.bytes.len() - leaving.at).sum()
    }

    /// Writes an answer's head and queues its body, unless the head was all that was asked for (RFC 9110 section 9.3.2).
    fn answer_whole(&mut self, memory: &Arc<Memory>, stream: u32, reply: Reply, head_only: bool) {
        let ReplyBody::Whole(bytes) = reply.body else { return };
        let bodiless = bytes.is_empty() || head_only;
        let length = bytes.len().to_string();
        let fields = reply.fields.iter().chain([("content-length", length.as_bytes())]);
        if self.machine.write_head(&mut self.out, stream, reply.status, fields, bodiless) && !bodiless {
            let _held = Some(memory.hold(bytes.len()));
            self.leaving.push(Leaving { stream, bytes, at: 0, complete: true, cuts: false, waker: None, _held });
        }
    }

    /// Forgets a stream that is gone.
    fn forget(&mut self, stream: u32) {
        self.waiting.retain(|(waiting, _)| *waiting != stream);
        self.givers_up.remove(&stream).into_iter().for_each(Waker::wake);
        if let Some(request) = self.arriving.remove(&stream) {
            self.arriving_bytes -= request.body.len() as u64;
        }
        if let Some(at) = self.leaving.iter().position(|leaving| leaving.stream == stream) {
            self.leaving.remove(at).waker.into_iter().for_each(Waker::wake);
        }
    }
}
