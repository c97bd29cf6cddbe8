//! Connections: HTTP first, then WebSocket, or a stream.

use std::net::IpAddr;
use std::time::Duration;

use annulus_engine::trace::{Stage, Trace};
use annulus_engine::{Chunk, Close, ConnId, Group, Reason, Sent};
use annulus_protocols::Input;
use annulus_protocols::centrifuge::{Codec, Disconnect};
use annulus_protocols::http1::{self, Exchange, Server};
use annulus_protocols::websocket::{CloseCode, Event as WsEvent, WebSocket, write_pong};

use super::call::HttpReply;
use super::stream::{self, Opening};
use super::upgrade::Opened;
use super::{Service, address_of};
use crate::chat::admin::LOGIN_BYTES_MAX;
use crate::chat::api;
use crate::chat::dialect::Dialect;
use crate::chat::http::{self, Cors, Route};
use crate::chat::hub::Outcome;
use crate::chat::session::Client;
use crate::gateway::access::Line;

/// Limits of requests: bodies of the API may be longer than others'.
const HTTP_LIMITS: http1::Limits =
    http1::Limits { body_bytes_max: api::request::BODY_BYTES_MAX as u64, ..http1::Limits::DEFAULT };

/// A client.
pub struct Chat {
    pub(super) websocket: WebSocket,
    pub(super) client: Client,
}

/// A connection before it is a WebSocket, or for good.
pub struct Http {
    server: Server,
    request: Option<Request>,
    /// Where it comes from, where the socket does not tell: behind TLS.
    peer: Option<IpAddr>,
}

impl Http {
    /// Whether a request's body is still not whole, for longer than a connection may be silent. A byte now and then is no
    /// reason to keep what has come of it.
    fn is_late(&self, now: Duration, ms_max: u64) -> bool {
        let took = |request: &Request| now.saturating_sub(request.came).as_millis() as u64;
        self.request.as_ref().is_some_and(|request| !self.server.is_idle() && took(request) > ms_max)
    }
}

struct Request {
    exchange: Exchange,
    purpose: Purpose,
    /// Errors are told by statuses, too.
    by_status: bool,
    body: Vec<u8>,
    /// When it came, on the shard's clock.
    came: Duration,
}

/// What the request is for, whose body is coming.
pub(super) enum Purpose {
    /// A method of the API.
    Call(String),
    /// A token of the console, for somebody at this address.
    Login(Option<IpAddr>),
    /// The first commands of a stream.
    Stream(Opening),
    /// A message of a stream's client, in this codec.
    Emulation(Codec, Cors),
}

impl Purpose {
    fn body_bytes_max(&self, message_bytes_max: usize) -> usize {
        match self {
            Purpose::Call(_) => api::request::BODY_BYTES_MAX,
            Purpose::Login(_) => LOGIN_BYTES_MAX,
            Purpose::Stream(_) => stream::body_bytes_max(message_bytes_max, false),
            Purpose::Emulation(..) => stream::body_bytes_max(message_bytes_max, true),
        }
    }

    /// What a page of another origin may read of the answer.
    fn cors(&self) -> &Cors {
        match self {
            Purpose::Call(_) | Purpose::Login(_) => &Cors::NONE,
            Purpose::Stream(opening) => opening.cors(),
            Purpose::Emulation(_, cors) => cors,
        }
    }
}

/// What a connection is.
pub enum Session {
    /// Nothing was received yet. Most send their whole request at once, and are never anything on the heap; from where it
    /// comes, if its socket does not tell.
    New(Option<IpAddr>),
    /// HTTP.
    Http(Box<Http>),
    /// A WebSocket.
    Chat(Chat),
    /// A stream.
    Stream(Client),
    /// Told everything; what still comes is ignored.
    Done,
}

impl Http {
    /// Whether a request waits for its answer.
    pub(super) fn is_asked(&self) -> bool {
        self.request.is_some()
    }
}

impl Session {
    /// Its client, if it has one.
    pub(super) fn client(&mut self) -> Option<&mut Client> {
        match self {
            Session::Chat(chat) => Some(&mut chat.client),
            Session::Stream(client) => Some(client),
            Session::New(_) | Session::Http(_) | Session::Done => None,
        }
    }
}

const _: () = assert!(size_of::<Option<Session>>() <= 120, "idle clients are counted in bytes");

impl Service {
    pub(super) fn received(&mut self, id: ConnId, session: &mut Session, mut chunk: Chunk) {
        self.sockets.trace = self.sockets.shard.take_trace();
        let mut input = Input::new(&mut chunk);
        let next = match session {
            Session::New(peer) => {
                let mut http = Http { server: Server::new(), request: None, peer: *peer };
                let next = self.http(id, &mut http, &mut input);
                Some(next.unwrap_or_else(|| Session::Http(Box::new(http))))
            }
            Session::Http(http) => self.http(id, http, &mut input),
            Session::Chat(_) | Session::Stream(_) | Session::Done => None,
        };
        if let Some(next) = next {
            *session = next;
        }
        let closes = match session {
            Session::Chat(chat) => self.chat(id, chat, &mut input),
            Session::New(_) | Session::Http(_) | Session::Stream(_) | Session::Done => None,
        };
        self.sockets.trace = Trace::NONE;
        let rest = input.take_rest();
        if matches!(session, Session::Stream(_)) && !rest.is_empty() {
            // Commands come by requests of their own: here is nobody who knows what to do.
            return self.disconnect(id, session, &Disconnect::BAD_REQUEST);
        }
        let waits = match session {
            Session::Chat(chat) => chat.client.held.is_some(),
            Session::Http(http) => http.request.is_some() && !rest.is_empty(),
            Session::New(_) | Session::Stream(_) | Session::Done => false,
        };
        if waits && !rest.is_empty() {
            let rest = rest.to_vec();
            self.sockets.outlet.give_back(id, Chunk::Owned(rest));
        }
        match closes {
            None => {}
            Some(None) => self.end(id, session),
            Some(Some(disconnect)) => self.disconnect(id, session, &disconnect),
        }
    }

    /// The peer will send nothing more. A client that only stopped speaking is gone; a caller of the API may wait for its
    /// answer.
    pub(super) fn ended(&mut self, group: &mut Group<Session>, id: ConnId) {
        match group.session(id) {
            Some(Session::Http(http)) if http.request.is_some() => return,
            Some(session @ Session::Stream(_)) => return self.break_off(id, session),
            _ => {}
        }
        self.sockets.outlet.close(id, Close::Graceful, Reason::Peer);
    }

    /// Ends a session: what was written leaves, then the connection closes.
    pub(super) fn end(&mut self, id: ConnId, session: &mut Session) {
        if let Some(client) = session.client() {
            self.forget(id, client);
        }
        *session = Session::Done;
        self.sockets.outlet.close(id, Close::Graceful, Reason::Local);
    }

    /// A client has come.
    pub(super) fn opened(&mut self, dialect: Dialect) {
        self.node.count_connection(1);
        self.meters.opened(dialect.carrier());
    }

    /// A client is gone.
    pub(super) fn forget(&mut self, id: ConnId, client: &mut Client) {
        let now = self.now();
        self.hub.remove(&mut self.sockets, now, id, client);
        self.node.count_connection(-1);
        self.meters.ended(client.dialect.carrier());
    }

    /// Sends a client away, with a code; anybody else without.
    pub(super) fn disconnect(&mut self, id: ConnId, session: &mut Session, why: &Disconnect) {
        let is_slow = why.code == Disconnect::SLOW.code;
        if let Some(client) = session.client() {
            self.meters.closed(why.code);
            self.note_end(id, client, &why.code.to_string());
        }
        match session {
            Session::Chat(chat) => {
                chat.websocket.write_close(&mut self.out, CloseCode::new(why.code), &why.reason, None);
            }
            Session::Stream(client) => self.write_farewell(client.dialect, why),
            Session::New(_) | Session::Http(_) | Session::Done => {}
        }
        self.flush_out(id);
        self.end(id, session);
        if is_slow {
            // Nothing more can be told to it: it takes nothing.
            self.sockets.outlet.close(id, Close::Now, Reason::Slow);
        }
    }

    pub(super) fn flush_out(&mut self, id: ConnId) {
        if !self.out.is_empty() {
            if self.sockets.outlet.send_copy(id, &[&self.out]) == Sent::Full {
                self.sockets.closing.push((id, Disconnect::SLOW));
            }
            self.out.clear();
        }
    }

    /// Takes requests off the input. The session's next state, if it changes.
    fn http(&mut self, id: ConnId, http: &mut Http, input: &mut Input<'_>) -> Option<Session> {
        let now = self.now();
        loop {
            let next = match http.server.next_event(&HTTP_LIMITS, now, input) {
                Ok(http1::Event::NeedMore) => return None,
                Ok(http1::Event::Head(head)) => {
                    let peer = http.peer.or_else(|| address_of(self.sockets.outlet.peer(id)));
                    self.head(&head, http, peer)
                }
                Ok(http1::Event::Body(part)) => self.body(http, part),
                Ok(http1::Event::Trailers(_)) => None,
                Ok(http1::Event::End) => {
                    match &mut http.request {
                        Some(Request { purpose: Purpose::Call(method), body, by_status, .. }) => {
                            // A task answers; later requests of this connection wait for it.
                            let (method, body) = (std::mem::take(method), std::mem::take(body));
                            self.call(id, method, body, *by_status);
                            self.sockets.outlet.pause(id);
                            return None;
                        }
                        Some(Request { purpose: Purpose::Login(from), body, exchange, .. }) => {
                            let closes = self.login(exchange, body, *from);
                            http.request = None;
                            closes.then_some(Session::Done)
                        }
                        Some(Request { purpose: Purpose::Stream(_), .. }) => {
                            http.request.take().and_then(|request| self.begin_stream(id, http.peer, request))
                        }
                        Some(Request { purpose: Purpose::Emulation(codec, cors), body, exchange, .. }) => {
                            let body = std::mem::take(body);
                            let Some((status, problem)) = self.emulate(id, *codec, &body) else {
                                self.sockets.outlet.pause(id);
                                return None;
                            };
                            let fields = cors.fields();
                            let closes = match status {
                                204 => http::answer(&mut self.out, exchange, 204, &fields, b""),
                                _ => http::answer_problem(&mut self.out, exchange, status, problem, &fields),
                            };
                            http.request = None;
                            closes.then_some(Session::Done)
                        }
                        None => None,
                    }
                }
                Err(fault) => {
                    let status = fault.status();
                    http::answer_problem(&mut self.out, &Exchange::REFUSED, status, fault.reason(), &[]);
                    Some(Session::Done)
                }
            };
            self.flush_out(id);
            if next.is_some() {
                if matches!(next, Some(Session::Done)) {
                    self.sockets.outlet.close(id, Close::Graceful, Reason::Local);
                }
                return next;
            }
        }
    }

    /// A request's head. What the session becomes, if it changes.
    fn head(&mut self, head: &http1::RequestHead<'_>, http: &mut Http, peer: Option<IpAddr>) -> Option<Session> {
        let exchange = if self.is_leaving { head.exchange().closing() } else { head.exchange() };
        let node = self.node.clone();
        let config = &node.common.config;
        match http::route(config, head.method(), head.path()) {
            Route::Connect => return Some(self.open_websocket(head, peer)),
            Route::Stream(carrier) => match self.wish(carrier, head, peer) {
                Ok(purpose) => {
                    self.take_on(http, exchange, purpose, false);
                    return None;
                }
                Err(closes) => return closes.then_some(Session::Done),
            },
            Route::Emulation | Route::Preflight if !http::is_page_allowed(head, config) => {
                let title = "this origin may not connect: add it to chat.allowed_origins";
                http::answer_problem(&mut self.out, &exchange.closing(), 403, title, &[]);
            }
            Route::Emulation => {
                let purpose = Purpose::Emulation(stream::codec_of(head), Cors::of(head));
                self.take_on(http, exchange, purpose, false);
                return None;
            }
            Route::Preflight => {
                let closes = http::answer_preflight(&mut self.out, &exchange, head);
                return closes.then_some(Session::Done);
            }
            Route::Api(_) if !config.api.enabled => {
                http::answer_problem(&mut self.out, &exchange.closing(), 404, "the API is switched off", &[]);
            }
            Route::Api(_) if !self.may_call(head) => {
                let title = "wrong or missing API key: send it in X-API-Key";
                http::answer_problem(&mut self.out, &exchange.closing(), 401, title, &[]);
            }
            Route::Api(_) if config.is_api_open() && !http::is_page_allowed(head, config) => {
                // Without a key, any page that a developer looks at could publish.
                let title = "this origin may not call the API: add it to chat.allowed_origins, or set chat.api_key";
                http::answer_problem(&mut self.out, &exchange.closing(), 403, title, &[]);
            }
            Route::Api(method) => {
                let mode = head.fields().get("x-centrifugo-error-mode");
                let by_status = mode.is_some_and(|mode| mode.eq_ignore_ascii_case(b"transport"));
                self.take_on(http, exchange, Purpose::Call(method), by_status);
                return None;
            }
            Route::Admin(ask) => match self.admin(ask, &exchange, head, peer) {
                Ok(purpose) => {
                    self.take_on(http, exchange, purpose, false);
                    return None;
                }
                Err(closes) => return closes.then_some(Session::Done),
            },
            route => return self.answer(&route, &exchange).then_some(Session::Done),
        }
        Some(Session::Done)
    }

    /// A request is to be answered when its body is there.
    fn take_on(&mut self, http: &mut Http, exchange: Exchange, purpose: Purpose, by_status: bool) {
        if exchange.expects_continue() {
            http1::write_continue(&mut self.out);
        }
        let came = self.sockets.shard.now();
        http.request = Some(Request { exchange, purpose, by_status, body: Vec::new(), came });
    }

    /// A part of a request's body.
    fn body(&mut self, http: &mut Http, part: &[u8]) -> Option<Session> {
        let request = http.request.as_mut()?;
        let most = request.purpose.body_bytes_max(self.node.common.config.message_bytes_max);
        if request.body.len() + part.len() > most {
            let exchange = request.exchange.closing();
            let fields = request.purpose.cors().fields();
            http::answer_problem(&mut self.out, &exchange, 413, "the body is larger than may be", &fields);
            return Some(Session::Done);
        }
        request.body.extend_from_slice(part);
        None
    }

    /// The API has an answer.
    pub(super) fn replied(&mut self, group: &mut Group<Session>, id: ConnId, reply: &HttpReply) {
        let Some(session) = group.session(id) else { return };
        let Session::Http(http) = session else { return };
        let Some(mut request) = http.request.take() else { return };
        if self.is_leaving {
            request.exchange = request.exchange.closing();
        }
        let peer = http.peer.or_else(|| address_of(self.sockets.outlet.peer(id)));
        let took = self.sockets.shard.now().saturating_sub(request.came);
        if let Purpose::Call(method) = &request.purpose {
            let path = format!("{}/{method}", self.node.common.config.paths.api);
            self.note_request(peer, "POST", &path, reply.status, took);
        }
        let fields = request.purpose.cors().fields();
        let closes = match (&reply.problem, &request.purpose) {
            (Some(title), _) => http::answer_problem(&mut self.out, &request.exchange, reply.status, title, &fields),
            (None, Purpose::Emulation(..)) => {
                http::answer(&mut self.out, &request.exchange, reply.status, &fields, &reply.body)
            }
            (None, _) => http::answer_json(&mut self.out, &request.exchange, reply.status, &reply.body),
        };
        self.flush_out(id);
        match closes {
            true => self.end(id, session),
            false => self.sockets.outlet.resume(id),
        }
    }

    /// The first commands of a stream are there.
    fn begin_stream(&mut self, id: ConnId, peer: Option<IpAddr>, request: Request) -> Option<Session> {
        let Request { exchange, purpose: Purpose::Stream(opening), body, .. } = request else { return None };
        let peer = peer.or_else(|| address_of(self.sockets.outlet.peer(id)));
        Some(self.open_stream(id, peer, &exchange, opening, &body))
    }

    fn open_websocket(&mut self, head: &http1::RequestHead<'_>, peer: Option<IpAddr>) -> Session {
        let now = self.now();
        match self.door.open(&self.node, head, peer, now, &mut self.out) {
            Opened::Chat { websocket, client } => {
                self.opened(client.dialect);
                self.note_request(peer, head.method(), head.path(), 101, Duration::ZERO);
                Session::Chat(Chat { websocket, client })
            }
            Opened::Refused => {
                self.meters.refused();
                self.note_request(peer, head.method(), head.path(), 0, Duration::ZERO);
                Session::Done
            }
        }
    }

    /// Logs a request. A refused WebSocket has status 0: why, the client was told.
    pub(super) fn note_request(&self, peer: Option<IpAddr>, method: &str, path: &str, status: u16, took: Duration) {
        if let Some(access) = &self.access {
            let client = peer.unwrap_or(IpAddr::from([0, 0, 0, 0]));
            access.add(&Line { method, path, status, took, ..Line::unread(client) });
        }
    }

    /// Logs the end of a session: whose it was, and why.
    pub(super) fn note_end(&self, id: ConnId, client: &Client, why: &str) {
        if let Some(access) = &self.access {
            let peer = address_of(self.sockets.outlet.peer(id)).unwrap_or(IpAddr::from([0, 0, 0, 0]));
            access.note(&format!("{peer} session {} {:?} {why}", client.id, self.hub.user_of(client)));
        }
    }

    fn may_call(&self, head: &http1::RequestHead<'_>) -> bool {
        let config = &self.node.common.config;
        config.is_api_open() || config.api.keys.iter().any(|key| api::has_key(head, key.reveal()))
    }

    /// Answers what needs no body. True when the connection is to close.
    fn answer(&mut self, route: &Route, exchange: &Exchange) -> bool {
        match route {
            Route::Page => http::answer_page(&mut self.out, exchange),
            Route::Health => {
                let (status, body) = self.node.health();
                http::answer_json(&mut self.out, exchange, status, body.as_bytes())
            }
            Route::Metrics => {
                self.meters.show(&self.hub);
                let text = annulus_engine::metrics::render(self.sockets.shard.all_metrics());
                let fields = [("content-type", "text/plain; version=0.0.4")];
                http::answer(&mut self.out, exchange, 200, &fields, text.as_bytes())
            }
            Route::NotAllowed(allow) => {
                http::answer_problem(&mut self.out, exchange, 405, "method not allowed", &[("allow", allow)])
            }
            Route::Connect
            | Route::Stream(_)
            | Route::Emulation
            | Route::Preflight
            | Route::Api(_)
            | Route::Admin(_)
            | Route::NotFound => http::answer_problem(&mut self.out, exchange, 404, "there is nothing here", &[]),
        }
    }

    /// Takes messages off the input until it is used up or a command waits (`None`), or the session ends: with a close
    /// frame that was written already, or still to be sent away.
    fn chat(&mut self, id: ConnId, chat: &mut Chat, input: &mut Input<'_>) -> Option<Option<Disconnect>> {
        let now = self.now();
        while chat.client.held.is_none() {
            let outcome = match chat.websocket.next_event(&self.limits, now, input) {
                Ok(WsEvent::NeedMore) => return None,
                Ok(WsEvent::Message(message)) if message.kind == chat.client.dialect.codec().message_kind() => {
                    let text = &message.payload;
                    self.sockets.trace.mark(Stage::Parse);
                    self.hub.receive(&mut self.sockets, now, id, &mut chat.client, text)
                }
                Ok(WsEvent::Message(_)) => Outcome::Close(Disconnect::INAPPROPRIATE_PROTOCOL),
                Ok(WsEvent::Ping(payload)) => {
                    write_pong(&mut self.out, &payload, None);
                    Outcome::Continue
                }
                Ok(WsEvent::Pong(_)) => Outcome::Continue,
                Ok(WsEvent::Close(close)) => {
                    chat.websocket.write_close(&mut self.out, close.code, "", None);
                    self.flush_out(id);
                    return Some(None);
                }
                Err(fault) => {
                    self.meters.closed(fault.close_code().get());
                    chat.websocket.write_close(&mut self.out, Some(fault.close_code()), fault.reason(), None);
                    self.flush_out(id);
                    return Some(None);
                }
            };
            self.flush_out(id);
            match outcome {
                Outcome::Continue => {}
                Outcome::Wait => self.sockets.outlet.pause(id),
                Outcome::Close(disconnect) => return Some(Some(disconnect)),
            }
        }
        None
    }

    /// Looks at a session that `waiting` bytes wait for.
    pub(super) fn look_at(&mut self, id: ConnId, session: &mut Session, waiting: usize) {
        let now = self.now();
        match session {
            Session::New(_) => {
                if self.sockets.outlet.silence(id).as_millis() as u64 > self.node.common.config.idle_ms_max {
                    self.end(id, session);
                }
            }
            Session::Http(http) => {
                let silent = self.sockets.outlet.silence(id).as_millis() as u64;
                let idle_max = match http.server.is_idle() {
                    true => self.node.common.config.idle_ms_max,
                    false => u64::MAX,
                };
                let idle_ms_max = self.node.common.config.idle_ms_max;
                if http.is_late(self.sockets.shard.now(), idle_ms_max) {
                    let why = "the request took too long to arrive";
                    http::answer_problem(&mut self.out, &Exchange::REFUSED, 408, why, &[]);
                    self.flush_out(id);
                    self.end(id, session);
                } else if silent > idle_max || http.server.is_overdue(&HTTP_LIMITS, now) {
                    self.end(id, session);
                }
            }
            Session::Chat(chat) if chat.websocket.is_overdue(&self.limits, now) => {
                chat.websocket.write_close(&mut self.out, Some(CloseCode::POLICY), "message takes too long", None);
                self.flush_out(id);
                self.end(id, session);
            }
            Session::Chat(Chat { client, .. }) | Session::Stream(client) => {
                if self.sockets.count_waiting(waiting) {
                    return self.disconnect(id, session, &Disconnect::SLOW);
                }
                match self.hub.visit(&mut self.sockets, now, id, client) {
                    Outcome::Close(disconnect) => self.disconnect(id, session, &disconnect),
                    Outcome::Continue | Outcome::Wait => {}
                }
            }
            Session::Done => {}
        }
    }
}
