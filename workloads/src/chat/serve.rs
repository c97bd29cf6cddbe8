//! The chat's task on each shard: sockets, HTTP, WebSocket, and letters between hubs.
//!
//! One task turns everything: the group's events, the letters of other shards, and the drain. So the hub has one user
//! and needs no lock.

use std::task::Poll;
use std::time::Duration;

use annulus_engine::metrics::{Counter, Gauge, render};
use annulus_engine::{
    Address, Balance, Chunk, Close, ConnId, Event, Frame, Group, GroupOptions, Inbox, ListenOptions, Outlet, Reason,
    Sent, Shard,
};
use annulus_protocols::Input;
use annulus_protocols::centrifuge::{Disconnect, ErrorCode};
use annulus_protocols::http1::{self, Exchange, Server};
use annulus_protocols::websocket::handshake::{Upgrade, write_accept};
use annulus_protocols::websocket::{
    CloseCode, Event as WsEvent, Limits, MessageKind, Role, WebSocket, message_header, write_pong,
};
use std::sync::Arc;

use super::api::{self, Node};
use super::http::{self, Route};
use super::hub::{Answer, Counts, Hub, Letter, Outcome, Ports, Woken, flush};
use super::session::Client;
use super::{Config, Options};

/// The hubs' inbox.
const INBOX: &str = "chat";
/// Sessions are looked at in this many cohorts, one per tick, so each is looked at every five seconds.
const COHORTS: u32 = 25;
const TICK: Duration = Duration::from_millis(200);
/// How long clients may take to close when the server goes away.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// The subprotocol that a client may ask for; the usual one asks for none.
const SUBPROTOCOL: &str = "centrifuge-json";

struct Chat {
    websocket: WebSocket,
    client: Client,
}

/// A connection before it is a WebSocket, or for good.
struct Http {
    server: Server,
    request: Option<Request>,
}

struct Request {
    exchange: Exchange,
    method: String,
    body: Vec<u8>,
}

enum Session {
    Http(Box<Http>),
    Chat(Chat),
    /// Told everything; what still comes is ignored.
    Done,
}

const _: () = assert!(size_of::<Option<Session>>() <= 96, "idle clients are counted in bytes");

/// What the shard counts for the outside.
struct Meters {
    clients: Arc<Gauge>,
    users: Arc<Gauge>,
    channels: Arc<Gauge>,
    commands: Arc<Counter>,
    publications: Arc<Counter>,
    deliveries: Arc<Counter>,
    slow: Arc<Counter>,
}

impl Meters {
    fn of(shard: &Shard, index: usize) -> Meters {
        let metrics = &shard.all_metrics()[index];
        Meters {
            clients: metrics.gauge("annulus_chat_clients", "Connected clients."),
            users: metrics.gauge("annulus_chat_users", "Users with connected clients, per shard."),
            channels: metrics.gauge("annulus_chat_channels", "Channels known, per shard."),
            commands: metrics.counter("annulus_chat_commands_total", "Commands of clients."),
            publications: metrics.counter("annulus_chat_publications_total", "Publications numbered."),
            deliveries: metrics.counter("annulus_chat_deliveries_total", "Publications handed to subscribers."),
            slow: metrics.counter("annulus_chat_slow_clients_total", "Clients closed because they took too long."),
        }
    }

    fn show(&self, hub: &Hub) {
        let Counts { commands, publications, deliveries } = hub.counts;
        self.clients.set(hub.clients() as u64);
        self.users.set(hub.users() as u64);
        self.channels.set(hub.channels() as u64);
        self.commands.set(commands);
        self.publications.set(publications);
        self.deliveries.set(deliveries);
    }
}

/// The hub's world: this shard's sockets and the other shards.
struct Sockets {
    shard: Shard,
    outlet: Outlet,
    slow: Vec<ConnId>,
    /// Letters that did not fit; the peer shard lags.
    lost: u64,
}

impl Ports for Sockets {
    fn send(&mut self, to: ConnId, text: &[u8]) {
        let header = message_header(MessageKind::Text, text.len());
        if self.outlet.send_copy(to, &[header.as_bytes(), text]) == Sent::Full {
            self.slow.push(to);
        }
    }

    fn send_all(&mut self, to: &[ConnId], frame: &[u8]) {
        if !to.is_empty() {
            let frame: Frame = self.shard.frame(&[frame]);
            self.outlet.send_all(to, &frame, &mut self.slow);
        }
    }

    fn post(&mut self, shard: usize, letter: Letter) {
        if self.shard.post(shard, INBOX, letter).is_err() {
            self.lost += 1;
        }
    }
}

/// What woke the task.
enum Woke {
    Sockets,
    Letter(Letter),
    Drain,
}

/// Serves on one shard until the engine drains.
///
/// # Errors
/// A sentence for people: why it could not listen.
pub async fn run(shard: Shard, config: Arc<Config>) -> Result<(), String> {
    let address = Address::Ip(config.listen);
    let balance = match config.listen.port() {
        // Any port: the kernel would choose another for each shard.
        0 => Balance::LeastLoaded,
        _ => Balance::ReusePort,
    };
    let listening = shard.listen(&address, &ListenOptions { balance, ..ListenOptions::default() });
    let listener = listening.map_err(|error| annulus_engine::error::explain_listen(&address, &error))?;
    let bound = listener.address().clone();
    let options = GroupOptions { outbox_bytes_max: config.outbox_bytes_max, tick: Some(TICK), cohorts: COHORTS };
    let mut group = shard.group::<Session>(options);
    group.listen(listener);
    if shard.index() == 0 {
        crate::say!("chat      http://{bound}/   clients: ws://{bound}{}", http::WEBSOCKET_PATH);
        if config.is_insecure() {
            crate::say!("          clients need no token and may claim any name (chat.insecure)");
        } else {
            crate::say!(
                "          nobody can connect yet: tokens are not supported. To let anybody in: chat.insecure = true"
            );
        }
    }
    let sockets = Sockets { shard: shard.clone(), outlet: group.outlet(), slow: Vec::new(), lost: 0 };
    let options = Options { insecure: config.is_insecure(), ..config.options.clone() };
    let mut service = Service {
        hub: Hub::new(shard.index(), shard.count(), options),
        meters: Meters::of(&shard, shard.index()),
        limits: Limits::with_message_bytes_max(config.message_bytes_max as u64),
        sockets,
        config,
        out: Vec::new(),
        replies: Vec::new(),
        ids: Vec::new(),
    };
    let mut inbox = shard.inbox::<Letter>(INBOX);
    loop {
        match woken(&shard, &mut group, &mut inbox).await {
            Woke::Drain => break,
            Woke::Letter(letter) => service.on_letter(&mut group, letter),
            Woke::Sockets => {}
        }
        service.turn(&mut group, &mut inbox);
    }
    group.stop_listening();
    service.say_farewell(&mut group);
    let rest = async {
        while !group.is_empty() {
            group.ready().await;
            while let Some(event) = group.next_event() {
                service.on_event(&mut group, event);
            }
        }
    };
    // Who has not gone by then is cut off.
    let _patience = shard.timeout(DRAIN_MAX, rest).await;
    Ok(())
}

async fn woken(shard: &Shard, group: &mut Group<Session>, inbox: &mut Inbox<Letter>) -> Woke {
    let mut ready = std::pin::pin!(shard.until_drained(group.ready()));
    std::future::poll_fn(|cx| {
        // Sockets first: asking them begins a new batch of events, and letters are taken between the events too.
        if let Poll::Ready(ready) = ready.as_mut().poll(cx) {
            return Poll::Ready(if ready.is_some() { Woke::Sockets } else { Woke::Drain });
        }
        inbox.poll_recv(cx).map(Woke::Letter)
    })
    .await
}

struct Service {
    hub: Hub,
    meters: Meters,
    limits: Limits,
    sockets: Sockets,
    config: Arc<Config>,
    /// Bytes for the connection at hand that are no chat messages.
    out: Vec<u8>,
    /// Replies for the client at hand.
    replies: Vec<u8>,
    ids: Vec<ConnId>,
}

impl Service {
    /// Works off what is there, sockets and letters by turns.
    fn turn(&mut self, group: &mut Group<Session>, inbox: &mut Inbox<Letter>) {
        while let Some(event) = group.next_event() {
            self.on_event(group, event);
            while let Some(letter) = inbox.try_recv() {
                self.on_letter(group, letter);
            }
        }
        self.close_slow(group);
        self.meters.show(&self.hub);
    }

    fn now(&self) -> u64 {
        self.sockets.shard.now().as_millis() as u64
    }

    fn on_event(&mut self, group: &mut Group<Session>, event: Event) {
        match event {
            Event::Opened(id) => {
                group.attach(id, Session::Http(Box::new(Http { server: Server::new(), request: None })));
            }
            Event::Received(id, chunk) => {
                if let Some(session) = group.session(id) {
                    self.received(id, session, chunk);
                }
            }
            Event::Ended(id) => self.sockets.outlet.close(id, Close::Graceful, Reason::Peer),
            Event::Closed(id, _) => {
                if let Some(Session::Chat(chat)) = group.session(id) {
                    self.hub.remove(&mut self.sockets, id, &mut chat.client);
                }
            }
            Event::Tick(cohort) => self.visit_cohort(group, cohort),
            Event::Drained(_) => {}
        }
    }

    fn received(&mut self, id: ConnId, session: &mut Session, mut chunk: Chunk) {
        let mut input = Input::new(&mut chunk);
        if let Session::Http(http) = session
            && let Some(next) = self.http(id, http, &mut input)
        {
            *session = next;
        }
        let closes = match session {
            Session::Chat(chat) => self.chat(id, chat, &mut input),
            Session::Http(_) | Session::Done => false,
        };
        let rest = input.take_rest();
        let waits = match session {
            Session::Chat(chat) => chat.client.waiting.is_some(),
            Session::Http(http) => http.request.is_some() && !rest.is_empty(),
            Session::Done => false,
        };
        if waits && !rest.is_empty() {
            let rest = rest.to_vec();
            self.sockets.outlet.give_back(id, Chunk::Owned(rest));
        }
        if closes {
            self.end(id, session);
        }
    }

    /// Ends a session: what was written leaves, then the connection closes.
    fn end(&mut self, id: ConnId, session: &mut Session) {
        if let Session::Chat(chat) = session {
            self.hub.remove(&mut self.sockets, id, &mut chat.client);
        }
        *session = Session::Done;
        self.sockets.outlet.close(id, Close::Graceful, Reason::Local);
    }

    /// Takes requests off the input. The session's next state, if it changes.
    fn http(&mut self, id: ConnId, http: &mut Http, input: &mut Input<'_>) -> Option<Session> {
        let now = self.now();
        loop {
            let next = match http.server.next_event(&http1::Limits::DEFAULT, now, input) {
                Ok(http1::Event::NeedMore) => return None,
                Ok(http1::Event::Head(head)) => {
                    let exchange = head.exchange();
                    match http::route(head.method(), head.path()) {
                        Route::Connect => Some(self.upgrade(&head)),
                        Route::Api(method) if self.may_call(&head) => {
                            if exchange.expects_continue() {
                                http1::write_continue(&mut self.out);
                            }
                            http.request = Some(Request { exchange, method, body: Vec::new() });
                            None
                        }
                        Route::Api(_) => {
                            http::answer_problem(
                                &mut self.out,
                                &exchange.closing(),
                                401,
                                "wrong or missing API key",
                                &[],
                            );
                            Some(Session::Done)
                        }
                        route => self.answer(&route, &exchange).then_some(Session::Done),
                    }
                }
                Ok(http1::Event::Body(part)) => {
                    if let Some(request) = &mut http.request {
                        request.body.extend_from_slice(part);
                    }
                    None
                }
                Ok(http1::Event::Trailers(_)) => None,
                Ok(http1::Event::End) => match http.request.take() {
                    Some(request) => match self.call(id, &request) {
                        Some(body) => {
                            http::answer_json(&mut self.out, &request.exchange, 200, &body).then_some(Session::Done)
                        }
                        None => {
                            // Another shard answers; later requests of this connection wait for it.
                            http.request = Some(request);
                            self.sockets.outlet.pause(id);
                            return None;
                        }
                    },
                    None => None,
                },
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

    fn flush_out(&mut self, id: ConnId) {
        if !self.out.is_empty() {
            if self.sockets.outlet.send_copy(id, &[&self.out]) == Sent::Full {
                self.sockets.slow.push(id);
            }
            self.out.clear();
        }
    }

    fn upgrade(&mut self, head: &http1::RequestHead<'_>) -> Session {
        let exchange = head.exchange().closing();
        match Upgrade::check(head) {
            Ok(upgrade) if http::is_origin_allowed(&upgrade, head, &self.config.allowed_origins) => {
                let offered = upgrade.protocols().any(|name| name == SUBPROTOCOL);
                write_accept(&mut self.out, &upgrade, offered.then_some(SUBPROTOCOL));
                Session::Chat(Chat { websocket: WebSocket::new(Role::Server), client: Client::default() })
            }
            Ok(_) => {
                let title = "this origin may not connect: add it to chat.allowed_origins";
                http::answer_problem(&mut self.out, &exchange, 403, title, &[]);
                Session::Done
            }
            Err(refusal) => {
                http::answer_problem(
                    &mut self.out,
                    &exchange,
                    refusal.status(),
                    &refusal.to_string(),
                    refusal.fields(),
                );
                Session::Done
            }
        }
    }

    fn may_call(&self, head: &http1::RequestHead<'_>) -> bool {
        match &self.config.api_key {
            Some(key) => http::has_key(head, key),
            None => self.config.is_insecure(),
        }
    }

    /// Answers what needs no body. True when the connection is to close.
    fn answer(&mut self, route: &Route, exchange: &Exchange) -> bool {
        match route {
            Route::Page => http::answer_page(&mut self.out, exchange),
            Route::Health => http::answer_json(&mut self.out, exchange, 200, b"{}"),
            Route::Metrics => {
                self.meters.show(&self.hub);
                let text = render(self.sockets.shard.all_metrics());
                let fields = [("content-type", "text/plain; version=0.0.4")];
                http::answer(&mut self.out, exchange, 200, &fields, text.as_bytes())
            }
            Route::NotAllowed(allow) => {
                http::answer_problem(&mut self.out, exchange, 405, "method not allowed", &[("allow", allow)])
            }
            _ => http::answer_problem(&mut self.out, exchange, 404, "there is nothing here", &[]),
        }
    }

    /// Carries out a call of the API; `None` while another shard works on it.
    fn call(&mut self, id: ConnId, request: &Request) -> Option<Vec<u8>> {
        let now = self.now();
        Some(match api::read(&request.method, &request.body) {
            Ok(api::Request::Info) => api::info(&self.node()),
            Ok(api::Request::Publish { channel, data }) => {
                match self.hub.publish(&mut self.sockets, now, id, &channel, data) {
                    Ok(answer) => api_answer(answer?),
                    Err(error) => api::error(error),
                }
            }
            Err(error) => api::error(error),
        })
    }

    fn node(&self) -> Node {
        let shard = &self.sockets.shard;
        self.meters.show(&self.hub);
        let all: Vec<Meters> = (0..shard.count()).map(|index| Meters::of(shard, index)).collect();
        let sum = |of: &dyn Fn(&Meters) -> u64| all.iter().map(of).sum();
        Node {
            uid: self.config.uid.clone(),
            name: std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
            clients: sum(&|meters| meters.clients.get()),
            users: sum(&|meters| meters.users.get()),
            channels: sum(&|meters| meters.channels.get()),
            uptime: shard.now().as_secs(),
        }
    }

    /// Takes messages off the input until it is used up, a command waits, or the session ends (true).
    fn chat(&mut self, id: ConnId, chat: &mut Chat, input: &mut Input<'_>) -> bool {
        let now = self.now();
        while chat.client.waiting.is_none() {
            let outcome = match chat.websocket.next_event(&self.limits, now, input) {
                Ok(WsEvent::NeedMore) => return false,
                Ok(WsEvent::Message(message)) if message.kind == MessageKind::Text => {
                    let text = &message.payload;
                    let (hub, ports) = (&mut self.hub, &mut self.sockets);
                    let outcome = hub.receive(ports, now, id, &mut chat.client, text, &mut self.replies);
                    flush(ports, id, &mut self.replies);
                    outcome
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
                    return true;
                }
                Err(fault) => {
                    chat.websocket.write_close(&mut self.out, Some(fault.close_code()), fault.reason(), None);
                    self.flush_out(id);
                    return true;
                }
            };
            self.flush_out(id);
            match outcome {
                Outcome::Continue => {}
                Outcome::Wait => self.sockets.outlet.pause(id),
                Outcome::Close(disconnect) => {
                    self.write_disconnect(id, chat, disconnect);
                    return true;
                }
            }
        }
        false
    }

    fn write_disconnect(&mut self, id: ConnId, chat: &mut Chat, disconnect: Disconnect) {
        let code = CloseCode::new(disconnect.code);
        chat.websocket.write_close(&mut self.out, code, disconnect.reason, None);
        self.flush_out(id);
    }

    fn on_letter(&mut self, group: &mut Group<Session>, letter: Letter) {
        let now = self.now();
        let client_of = |id: ConnId| match group.peek(id) {
            Some(Session::Chat(chat)) => Some(&chat.client),
            _ => None,
        };
        if let Some(woken) = self.hub.on_letter(&mut self.sockets, now, letter, client_of) {
            self.wake(group, woken);
        }
    }

    /// Goes on with a connection whose command waited for another shard.
    fn wake(&mut self, group: &mut Group<Session>, woken: Woken) {
        let (now, id) = (self.now(), woken.asker().conn);
        match group.session(id) {
            Some(session @ Session::Chat(_)) => {
                let Session::Chat(chat) = session else { return };
                let (hub, ports) = (&mut self.hub, &mut self.sockets);
                let outcome = hub.wake(ports, now, &mut chat.client, woken, &mut self.replies);
                flush(ports, id, &mut self.replies);
                match outcome {
                    Outcome::Continue => self.sockets.outlet.resume(id),
                    Outcome::Wait => {}
                    Outcome::Close(disconnect) => {
                        self.write_disconnect(id, chat, disconnect);
                        self.end(id, session);
                    }
                }
            }
            Some(Session::Http(http)) => {
                if let (Some(request), Woken::Answered { answer, .. }) = (http.request.take(), woken) {
                    let closes = http::answer_json(&mut self.out, &request.exchange, 200, &api_answer(answer));
                    self.flush_out(id);
                    match closes {
                        true => self.sockets.outlet.close(id, Close::Graceful, Reason::Local),
                        false => self.sockets.outlet.resume(id),
                    }
                }
            }
            Some(Session::Done) | None => self.hub.orphan(&mut self.sockets, woken),
        }
    }

    /// Looks at a cohort of sessions: pings, pongs, and what takes too long.
    fn visit_cohort(&mut self, group: &mut Group<Session>, cohort: u32) {
        let now = self.now();
        if cohort == 0 {
            self.hub.expire(now);
        }
        let mut ids = std::mem::take(&mut self.ids);
        self.sockets.outlet.cohort(cohort, &mut ids);
        for id in ids.drain(..) {
            let Some(session) = group.session(id) else { continue };
            let closes = match session {
                Session::Http(http) => {
                    let silent = self.sockets.outlet.silence(id).as_millis() as u64;
                    let idle_max = if http.server.is_idle() { self.config.idle_ms_max } else { u64::MAX };
                    silent > idle_max || http.server.is_overdue(&http1::Limits::DEFAULT, now)
                }
                Session::Chat(chat) if chat.websocket.is_overdue(&self.limits, now) => {
                    chat.websocket.write_close(&mut self.out, Some(CloseCode::POLICY), "message takes too long", None);
                    self.flush_out(id);
                    true
                }
                Session::Chat(chat) => match self.hub.visit(&mut self.sockets, id, &mut chat.client) {
                    Outcome::Close(disconnect) => {
                        self.write_disconnect(id, chat, disconnect);
                        true
                    }
                    Outcome::Continue | Outcome::Wait => false,
                },
                Session::Done => false,
            };
            if closes {
                self.end(id, session);
            }
        }
        self.ids = ids;
    }

    /// Cuts off clients whose outbox is full: nothing more can be told to them.
    fn close_slow(&mut self, group: &mut Group<Session>) {
        while let Some(id) = self.sockets.slow.pop() {
            self.meters.slow.add(1);
            if let Some(Session::Chat(chat)) = group.session(id) {
                self.hub.remove(&mut self.sockets, id, &mut chat.client);
            }
            self.sockets.outlet.close(id, Close::Now, Reason::Slow);
        }
        if self.sockets.lost > 0 {
            crate::say!("chat: {} letters to another shard were lost: it lags too far behind", self.sockets.lost);
            self.sockets.lost = 0;
        }
    }

    fn say_farewell(&mut self, group: &mut Group<Session>) {
        let mut ids = std::mem::take(&mut self.ids);
        self.sockets.outlet.all(&mut ids);
        for id in ids.drain(..) {
            if let Some(session) = group.session(id) {
                if let Session::Chat(chat) = session {
                    self.write_disconnect(id, chat, Disconnect::SHUTDOWN);
                }
                self.end(id, session);
            }
        }
    }
}

fn api_answer(answer: Answer) -> Vec<u8> {
    match answer {
        Answer::Published { offset, epoch } => api::published(offset, &epoch),
        Answer::Refused(error) | Answer::NotSubscribed(error) => api::error(error),
        Answer::Subscribed { .. } | Answer::Page { .. } => api::error(ErrorCode::INTERNAL),
    }
}
