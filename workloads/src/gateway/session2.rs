//! A client's HTTP/2 connection: one task moves its bytes, and every request has a task of its own.
//!
//! ```text
//!   wire ─► machine ─► requests ─► tasks ─► replies ─► queue by urgency ─► machine ─► wire
//! ```

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use annulus_engine::trace::{Stage, Trace};
use annulus_engine::{Chunk, Frame};
use annulus_protocols::Input;
use annulus_protocols::http2::{Connection, ErrorCode, Event, Fields, Head, Limits};

use super::client::{Client, LOOK};
use super::grpc;
use super::inflow::Inflow;
use super::live::Live;
use super::memory::Held;
use super::message::{Cause, FOREVER, Failure, FieldList, Phase, is_hop_by_hop};
use super::problem;
use super::request::{REQUEST_BODY_BYTES_MAX, Reply, ReplyBody, Request, Upgrade};
use super::session1::TRACED;
use super::upstream::Answer;
use crate::serve::pieces::Pieces;
use crate::serve::wire::{Either, Notify, Wire, either};

/// Bytes of one answer that are written before the next one's turn: a large answer does not hold small ones up.
const QUANTUM_BYTES: usize = 16 << 10;
/// Bytes that are put together before they are sent: others on this shard wait for it.
const SEND_BYTES: usize = 48 << 10;
/// Bytes of a streamed answer that may wait for the client's window.
const STREAMED_BYTES_MAX: usize = 64 << 10;
/// Bytes of all request bodies that arrive on one connection. Beyond: 413.
const BODIES_BYTES_MAX: u64 = 2 * REQUEST_BODY_BYTES_MAX;
/// How long a client that is told to go has to take that.
const LAST_WORDS: Duration = Duration::from_secs(1);
const LATE: &str = "the request took too long to arrive";

struct Session {
    live: RefCell<Rc<Live>>,
    state: RefCell<State>,
    notify: Rc<Notify>,
    limits: Limits,
    peer: IpAddr,
    client: Rc<Client>,
}

struct State {
    machine: Connection,
    out: Vec<u8>,
    /// Where what is sent next is joined, if it is in several pieces.
    joined: Vec<u8>,
    /// Requests whose bodies are not complete.
    arriving: HashMap<u32, Request>,
    arriving_bytes: u64,
    /// Bodies of requests that go on as they come.
    inflows: HashMap<u32, Rc<Inflow>>,
    /// Answers on their way, in order of arrival.
    leaving: Vec<Leaving>,
    /// Of answers whose last bytes are in `out`.
    traced: Vec<Trace>,
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
    body: Pieces,
    /// Nothing more will be added.
    complete: bool,
    /// What follows the body.
    trailers: Option<FieldList>,
    /// Waits for room.
    waker: Option<Waker>,
    /// What it takes of the memory for answers.
    held: Held,
    /// Where its request's time goes.
    trace: Trace,
}

/// How a connection ends.
enum End {
    /// The client is gone.
    Gone,
    /// Everything was said.
    Said,
    /// The client takes nothing, or next to nothing.
    Slow,
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
        joined: Vec::new(),
        arriving: HashMap::new(),
        arriving_bytes: 0,
        inflows: HashMap::new(),
        leaving: Vec::new(),
        traced: Vec::new(),
        answering: 0,
        givers_up: HashMap::new(),
        over: false,
        warned: None,
    };
    let client = Client::new(&live.memory);
    let (live, state) = (RefCell::new(live), RefCell::new(state));
    let session = Session { live, state, notify: Rc::default(), limits, peer, client };
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
        state.inflows.remove(&self.stream).into_iter().for_each(|inflow| inflow.give_up());
        if !self.done.get() {
            state.machine.reset(self.stream, ErrorCode::INTERNAL_ERROR);
            state.forget(self.stream);
        }
        self.session.notify.notify();
    }
}

impl Session {
    async fn run(self: Rc<Self>, mut wire: Wire, first: Chunk) {
        let shard = self.live.borrow().shard.clone();
        let said = self.serve(&mut wire, first).await;
        // Tasks that still answer, or wait for room, learn that nobody is there.
        {
            let state = &mut *self.state.borrow_mut();
            state.over = true;
            state.inflows.drain().for_each(|(_, inflow)| inflow.give_up());
            let waiting = state.leaving.drain(..).filter_map(|leaving| leaving.waker);
            waiting.chain(state.givers_up.drain().map(|(_, waker)| waker)).for_each(Waker::wake);
        }
        match said {
            End::Gone => {}
            // Whether the client still hears the end is its own affair.
            End::Said => match shard.timeout(LAST_WORDS, wire.finish()).await {
                Ok(_heard_or_gone) => {}
                Err(_elapsed) => wire.abort(),
            },
            End::Slow => {
                self.live.borrow().too_slow(self.peer);
                wire.abort();
            }
        }
    }

    async fn serve(self: &Rc<Self>, wire: &mut Wire, mut first: Chunk) -> End {
        let live = self.live.borrow().clone();
        let shard = live.shard.clone();
        let mut alive = self.take(&mut first);
        let mut idle_since = shard.now();
        let mut looked = shard.now();
        loop {
            if shard.now().saturating_sub(looked) >= LOOK {
                looked = shard.now();
                alive &= self.look();
            }
            self.close_door(live.last_call(), shard.now());
            let mut out = self.fill();
            if !out.is_empty() {
                self.client.waits(shard.now(), true);
                match either(wire.send_paced(&mut out), self.client.too_slow(&shard)).await {
                    Either::First(Ok(())) => {}
                    Either::First(Err(_)) => return End::Gone,
                    Either::Second(()) => return End::Slow,
                }
            }
            for trace in self.state.borrow_mut().traced.drain(..) {
                wire.trace(trace, &TRACED);
            }
            self.client.waits(shard.now(), self.state.borrow().untaken_bytes() > 0);
            let (busy, more) = {
                let state = self.state.borrow();
                (state.machine.streams_open() > 0 || state.answering > 0, state.has_more())
            };
            if !alive || !busy && self.state.borrow().machine.is_closing() {
                return End::Said;
            }
            if more {
                continue;
            }
            let incoming = either(self.notify.notified(), wire.recv());
            let pause = if self.state.borrow().warned.is_some() { LOOK.min(live.last_call()) } else { LOOK };
            match either(shard.timeout(pause, incoming), draining(&shard, self)).await {
                Either::First(Ok(Either::First(()))) => {}
                Either::First(Ok(Either::Second(Ok(Some(mut chunk))))) => alive = self.take(&mut chunk),
                Either::First(Ok(Either::Second(Ok(None) | Err(_)))) => return End::Gone,
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
            state.machine.go_away(ErrorCode::NO_ERROR, "its last call is over");
        }
    }

    /// Resets answers that the client does not let through, refuses requests that take too long to arrive, and says farewell to one that takes too little of all, or does
    /// not answer what it must. False then.
    fn look(&self) -> bool {
        let live = self.live.borrow();
        let (now, now_ms, stall_max) = (live.shard.now(), live.now_ms(), self.client.stall_max().as_millis() as u64);
        let state = &mut *self.state.borrow_mut();
        let stalled = |leaving: &Leaving| {
            let since = state.machine.blocked_since(leaving.stream);
            since.is_some_and(|since| now_ms.saturating_sub(since) > stall_max)
        };
        let ids: Vec<u32> =
            state.leaving.iter().filter(|leaving| stalled(leaving)).map(|leaving| leaving.stream).collect();
        for id in ids {
            state.machine.reset(id, ErrorCode::CANCEL);
            state.forget(id);
        }
        let read_timeout = live.gateway.server.read_timeout;
        let late = state.arriving.iter().filter(|(_, request)| request.whole_by(read_timeout) <= now);
        for id in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            live.refused(self.peer, 408, LATE);
            state.refuse(&self.client, id, problem::problem(408, LATE));
        }
        if let Err(fault) = state.machine.on_clock(&self.limits, now_ms) {
            live.refused(self.peer, 400, &fault.to_string());
            return false;
        }
        // What other threads gave back was told to nobody.
        self.client.let_in();
        let slow = self.client.is_slow(now);
        if slow {
            live.too_slow(self.peer);
            state.machine.go_away(ErrorCode::ENHANCE_YOUR_CALM, "takes its answers too slowly");
        }
        !slow
    }

    /// Works off what arrived. False when the client broke the protocol.
    fn take(self: &Rc<Self>, bytes: &mut [u8]) -> bool {
        let live = self.live.borrow().newest();
        *self.live.borrow_mut() = live.clone();
        self.client.follow(&live.memory);
        let mut trace = live.shard.take_trace();
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
                    let mut request = self.request(&live, method, authority, &path, &fields);
                    trace.mark(Stage::Parse);
                    request.trace = std::mem::take(&mut trace);
                    if grpc::is_call(&request.fields) {
                        let inflow = Inflow::new(&self.notify, self.client.body_room());
                        inflow.arrive(&[], end);
                        request.inflow = Some(inflow.clone());
                        state.inflows.insert(stream, inflow);
                        self.answer(state, stream, request);
                        continue;
                    }
                    match end {
                        true => self.answer(state, stream, request),
                        false => drop(state.arriving.insert(stream, request)),
                    }
                }
                Ok(Event::Data { stream, bytes, end }) => {
                    let len = bytes.len() as u64;
                    if let Some(inflow) = state.inflows.get(&stream) {
                        // Others are not held up by one whose backend takes nothing.
                        state.machine.release_connection(bytes.len() as u32);
                        inflow.arrive(bytes, end);
                        continue;
                    }
                    state.machine.release(stream, bytes.len() as u32);
                    let Some(request) = state.arriving.get_mut(&stream) else { continue };
                    let fits = state.arriving_bytes + len <= BODIES_BYTES_MAX;
                    if let Err((status, why)) = request.extend(bytes, fits) {
                        live.refused(self.peer, status, why);
                        state.refuse(&self.client, stream, problem::problem(status, why));
                        continue;
                    }
                    state.arriving_bytes += len;
                    if end {
                        self.finish_arrival(state, stream);
                    }
                }
                Ok(Event::Trailers { stream, .. }) => match state.inflows.get(&stream) {
                    Some(inflow) => inflow.arrive(&[], true),
                    None => self.finish_arrival(state, stream),
                },
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
        Request {
            method,
            protocol: "HTTP/2.0",
            path,
            query,
            authority,
            fields: list,
            body: Vec::new(),
            body_held: self.client.body_room(),
            peer: self.peer,
            client: self.client.clone(),
            began: live.shard.now(),
            trace: Trace::NONE,
            inflow: None,
            upgrade: Upgrade::None,
        }
    }

    fn finish_arrival(self: &Rc<Self>, state: &mut State, stream: u32) {
        if let Some(request) = state.arriving.remove(&stream) {
            state.arriving_bytes -= request.body.len() as u64;
            self.answer(state, stream, request);
        }
    }

    /// Answers a request in a task of its own.
    fn answer(self: &Rc<Self>, state: &mut State, stream: u32, mut request: Request) {
        state.answering += 1;
        let answering = Answering { session: self.clone(), stream, done: Cell::new(false) };
        let live = self.live.borrow().clone();
        drop(live.shard.clone().spawn(async move {
            // Whole, so that the task owns it: a closure may capture fields.
            let answering = answering;
            let session = &answering.session;
            // Given up comes first: a request that was cancelled before its turn asks nobody.
            let mut trace = std::mem::take(&mut request.trace);
            let answered = {
                let asked = pin!(live.shard.follow(&mut trace, live.answer(&request)));
                either(session.given_up(stream), asked).await
            };
            if let Either::Second(reply) = answered {
                session.send(stream, reply, request.method == "HEAD", trace).await;
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

    async fn send(&self, stream: u32, reply: Reply, head_only: bool, trace: Trace) {
        if reply.last && self.state.borrow().warned.is_none() {
            self.warn(self.live.borrow().shard.now());
        }
        match reply.body {
            ReplyBody::Whole(_) => {
                self.state.borrow_mut().answer_whole(&self.client, stream, reply, head_only, trace);
                self.notify.notify();
            }
            ReplyBody::Streamed(answer) => {
                let (fields, _turn) = (reply.fields, reply.turn);
                // gRPC's clients tell the end of a call from its beginning by this.
                let head_only = head_only || answer.is_bodiless();
                let begun = {
                    let state = &mut *self.state.borrow_mut();
                    let begun =
                        state.machine.write_head(&mut state.out, stream, reply.status, fields.iter(), head_only);
                    if begun && head_only {
                        state.cut(stream);
                    }
                    if begun && !head_only {
                        let (body, held) = (Pieces::default(), self.client.room());
                        state.leaving.push(Leaving {
                            stream,
                            body,
                            complete: false,
                            trailers: None,
                            waker: None,
                            held,
                            trace,
                        });
                    }
                    begun
                };
                if head_only {
                    self.notify.notify();
                } else if begun {
                    self.stream(stream, *answer).await;
                }
            }
            // Nobody could have asked for it: HTTP/2 has no upgrade.
            ReplyBody::Tunnel(_) => {
                self.state.borrow_mut().machine.reset(stream, ErrorCode::INTERNAL_ERROR);
                self.notify.notify();
            }
        }
    }

    /// Passes an upstream's body on, as fast as the client takes it.
    async fn stream(&self, stream: u32, mut answer: Answer) {
        let shard = self.live.borrow().shard.clone();
        let is_call = self.state.borrow().inflows.contains_key(&stream);
        loop {
            let mut piece = Vec::new();
            let left = answer.deadline.map_or(FOREVER, |deadline| deadline.saturating_sub(shard.now()));
            // A client that goes while its upstream says nothing is noticed all the same.
            let next = either(self.given_up(stream), shard.timeout(left, answer.next(&mut piece)));
            let more = match next.await {
                Either::First(()) => return,
                Either::Second(next) => next.unwrap_or_else(|_elapsed| Err(Failure::timeout(Phase::Body))),
            };
            let (more, trailers) = match more {
                Ok(true) => (Ok(true), None),
                Ok(false) => (Ok(false), answer.trailers()),
                Err(failure) if is_call => ended_early(&failure),
                Err(_broken_off) => (Err(ErrorCode::INTERNAL_ERROR), None),
            };
            let goes_on = more == Ok(true);
            if !self.add(stream, piece, more, trailers) {
                return;
            }
            self.notify.notify();
            if !goes_on || self.room(stream).await.is_none() {
                return;
            }
        }
    }

    /// Queues a piece of a streamed answer, and what follows it if that was all. False when the stream is gone.
    fn add(&self, stream: u32, piece: Vec<u8>, more: Result<bool, ErrorCode>, trailers: Option<FieldList>) -> bool {
        let state = &mut *self.state.borrow_mut();
        let Some(leaving) = state.leaving.iter_mut().find(|leaving| leaving.stream == stream) else { return false };
        match more {
            Ok(more) => {
                // At most STREAMED_BYTES_MAX and a piece: its upstream waits for the client.
                leaving.body.push(Frame::owned(piece));
                leaving.held.set(leaving.body.len());
                leaving.complete = !more;
                leaving.trailers = trailers;
            }
            // A body that breaks off must not look complete.
            Err(code) => {
                state.machine.reset(stream, code);
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
            if leaving.body.len() < STREAMED_BYTES_MAX {
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
        for (stream, inflow) in &state.inflows {
            let credit = inflow.credit();
            if credit > 0 {
                state.machine.release_stream(*stream, credit as u32);
            }
        }
        state.machine.write_pending(&mut state.out);
        while state.out.len() < SEND_BYTES {
            let Some(at) = state.next_leaving() else { break };
            let leaving = &mut state.leaving[at];
            let bytes = leaving.body.peek(QUANTUM_BYTES, &mut state.joined);
            let len = bytes.len();
            let is_last = leaving.complete && len == leaving.body.len();
            let end = is_last && leaving.trailers.is_none();
            match state.machine.write_data(now, &mut state.out, leaving.stream, bytes, end) {
                None => drop(state.leaving.remove(at)),
                Some(taken) => {
                    self.client.took(taken);
                    leaving.body.advance(taken);
                    leaving.waker.take().into_iter().for_each(Waker::wake);
                    // Answers of the same urgency take turns.
                    let mut turned = state.leaving.remove(at);
                    if taken < len || !is_last {
                        state.leaving.push(turned);
                        continue;
                    }
                    if let Some(trailers) = turned.trailers.take() {
                        state.machine.write_trailers(&mut state.out, turned.stream, trailers.iter());
                    }
                    state.leaves(std::mem::take(&mut turned.trace));
                    state.cut(turned.stream);
                }
            }
        }
        self.client.leaves(state.untaken_bytes());
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

/// How a call ends whose answer broke off: with a status, or as its upstream ended it.
fn ended_early(failure: &Failure) -> (Result<bool, ErrorCode>, Option<FieldList>) {
    match failure.cause {
        // These two would say that nothing was wrong, or that nobody had acted on it.
        Cause::Reset(ErrorCode::NO_ERROR | ErrorCode::REFUSED_STREAM) => return (Err(ErrorCode::INTERNAL_ERROR), None),
        Cause::Reset(code) => return (Err(code), None),
        _ => {}
    }
    let (status, message) = grpc::failed(failure);
    (Ok(false), Some(grpc::trailers(status, &message)))
}

impl State {
    /// The most urgent answer that can go on.
    fn next_leaving(&self) -> Option<usize> {
        let can_go = |leaving: &Leaving| {
            let left = leaving.body.len();
            let gone = !self.machine.is_open(leaving.stream);
            gone || (left > 0 && self.machine.capacity(leaving.stream) > 0) || (left == 0 && leaving.complete)
        };
        let ready = self.leaving.iter().enumerate().filter(|(_, leaving)| can_go(leaving));
        ready.min_by_key(|(_, leaving)| self.machine.priority(leaving.stream).urgency).map(|(at, _)| at)
    }

    /// Bytes of answers that the client has not let through.
    fn untaken_bytes(&self) -> usize {
        self.leaving.iter().map(|leaving| leaving.body.len()).sum()
    }

    /// Whether more can be sent at once.
    fn has_more(&self) -> bool {
        let can_go = |leaving: &Leaving| match leaving.body.is_empty() {
            true => leaving.complete,
            false => self.machine.capacity(leaving.stream) > 0,
        };
        !self.out.is_empty() || self.leaving.iter().any(can_go)
    }

    /// Writes an answer's head and queues its body, unless the head was all that was asked for (RFC 9110 section 9.3.2).
    fn answer_whole(&mut self, client: &Client, stream: u32, reply: Reply, head_only: bool, trace: Trace) {
        let ReplyBody::Whole(body) = reply.body else { return };
        let bodiless = body.is_empty() || head_only;
        let length = body.len().to_string();
        let fields = reply.fields.iter().chain([("content-length", length.as_bytes())]);
        if !self.machine.write_head(&mut self.out, stream, reply.status, fields, bodiless) {
            return;
        }
        if bodiless {
            self.leaves(trace);
            self.cut(stream);
        } else {
            let held = client.hold(body.len());
            self.leaving.push(Leaving { stream, body, complete: true, trailers: None, waker: None, held, trace });
        }
    }

    /// An answer's last bytes are in `out`.
    fn leaves(&mut self, mut trace: Trace) {
        if trace.is_chosen() {
            trace.mark(Stage::Outbox);
            self.traced.push(trace);
        }
    }

    /// Answers a request whose body is not wanted.
    fn refuse(&mut self, client: &Client, stream: u32, reply: Reply) {
        self.forget(stream);
        self.answer_whole(client, stream, reply, false, Trace::NONE);
    }

    /// Everything was said on a stream. What of its request is still to come is not wanted: the client is told so (RFC 9113
    /// section 8.1).
    fn cut(&mut self, stream: u32) {
        if self.machine.is_open(stream) {
            self.machine.reset(stream, ErrorCode::NO_ERROR);
            self.machine.write_pending(&mut self.out);
        }
    }

    /// Forgets a stream that is gone.
    fn forget(&mut self, stream: u32) {
        self.givers_up.remove(&stream).into_iter().for_each(Waker::wake);
        self.inflows.remove(&stream).into_iter().for_each(|inflow| inflow.give_up());
        if let Some(request) = self.arriving.remove(&stream) {
            self.arriving_bytes -= request.body.len() as u64;
        }
        if let Some(at) = self.leaving.iter().position(|leaving| leaving.stream == stream) {
            self.leaving.remove(at).waker.into_iter().for_each(Waker::wake);
        }
    }
}
