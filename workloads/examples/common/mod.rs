//! What the example servers share: arguments, the opening handshake, closing, and a metrics page.

use annulus_engine::metrics::render;
use annulus_engine::signals::{Signal, Signals};
use annulus_engine::{
    Address, Close, ConnId, DriverChoice, Engine, Event, Group, GroupOptions, ListenOptions, Outlet, Reason, Shard,
    raise_file_limit,
};
use annulus_protocols::Input;
use annulus_protocols::http1::{self, BodyLength, Server, write_response_head};
use annulus_protocols::websocket::deflate::{Agreement, WINDOW_BITS_MIN};
use annulus_protocols::websocket::handshake::{Refusal, Upgrade, write_accept_deflate};
use annulus_protocols::websocket::{CloseCode, Event as WsEvent, Limits, Message, Role, WebSocket, write_pong};
use std::net::SocketAddr;
use std::time::Duration;

/// Messages up to 16 MiB.
pub const LIMITS: Limits = Limits::with_message_bytes_max(16 << 20);
/// Bytes that may wait for one peer, over the largest message. Beyond, the connection is closed as too slow.
const OUTBOX_BYTES_MAX: usize = 64 << 20;
/// A connection is looked at for a handshake or message that takes too long once in this many ticks of a second.
const COHORTS: u32 = 4;
/// How long peers may take to close when the server goes away.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// `--listen ADDR --shards N --pin CORE,... --driver NAME --deflate`
pub struct Args {
    listen: SocketAddr,
    shards: usize,
    pin: Vec<usize>,
    driver: DriverChoice,
    deflate: bool,
}

impl Args {
    /// Reads the command line; says what is wrong and exits with 2 if it cannot.
    pub fn parse() -> Args {
        let mut args = Args {
            listen: ([127, 0, 0, 1], 9001).into(),
            shards: 1,
            pin: Vec::new(),
            driver: DriverChoice::Auto,
            deflate: false,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            if word == "--deflate" {
                args.deflate = true;
                continue;
            }
            let value = words.next().unwrap_or_default();
            if let Err(wrong) = args.set(&word, &value) {
                eprintln!(
                    "{wrong}\nusage: [--listen ADDR] [--shards N] [--pin CORE,...] [--driver auto|io_uring|epoll] [--deflate]"
                );
                std::process::exit(2);
            }
        }
        args
    }

    fn set(&mut self, option: &str, value: &str) -> Result<(), String> {
        let wrong = |what: &str| format!("{option} {value:?}: expected {what}");
        match option {
            "--listen" => self.listen = value.parse().map_err(|_| wrong("an address such as 127.0.0.1:9001"))?,
            "--shards" => self.shards = value.parse().map_err(|_| wrong("a number"))?,
            "--pin" => {
                let cores: Result<_, _> = value.split(',').map(str::parse).collect();
                self.pin = cores.map_err(|_| wrong("core numbers such as 0,1"))?;
            }
            "--driver" => self.driver = value.parse()?,
            other => return Err(format!("there is no option {other:?}")),
        }
        Ok(())
    }
}

/// What an example does with each message.
pub trait Behaviour {
    /// A message arrived. True when the sender is to be closed as too slow.
    fn message(&mut self, outlet: &Outlet, from: ConnId, message: Message<'_>) -> bool;
    /// The same, from a connection that agreed on compression; what goes out may be plain all the same.
    fn message_of_deflater(&mut self, outlet: &Outlet, from: ConnId, message: Message<'_>, _: Agreement) -> bool {
        self.message(outlet, from, message)
    }
    /// The shard is about to accept connections.
    fn started(&mut self, _outlet: &Outlet) {}
    /// The handshake is done.
    fn opened(&mut self, _id: ConnId) {}
    /// The connection is gone.
    fn closed(&mut self, _id: ConnId) {}
}

enum Session {
    Http(Box<Server>),
    Open(WebSocket),
    /// Answered for the last time; what still comes is ignored.
    Done,
}

/// Runs one behaviour per shard until the process is asked to stop.
pub fn serve<B: Behaviour + 'static>(make: impl Fn(&Shard) -> B + Send + Sync + 'static) {
    let args = Args::parse();
    let (listen, deflate) = (Address::Ip(args.listen), args.deflate);
    let main = move |shard: Shard| {
        let (behaviour, listen) = (make(&shard), listen.clone());
        async move { run(shard, behaviour, listen, deflate).await }
    };
    let files = raise_file_limit().unwrap_or_default();
    let signals = Signals::block().expect("masking signals does not fail");
    let ended =
        Engine::builder().shards(args.shards).cores(args.pin).driver(args.driver).start(main).and_then(|running| {
            println!("{}; at most {files} open files", running.engine().plan());
            let engine = running.engine().clone();
            signals.listen(move |signal| {
                if signal == Signal::Drain {
                    engine.drain();
                }
            })?;
            running.wait()
        });
    let failed = match ended {
        Ok(shards) => shards.into_iter().find_map(Result::err),
        Err(error) => Some(error.to_string()),
    };
    if let Some(sentence) = failed {
        eprintln!("{sentence}");
        std::process::exit(1);
    }
}

async fn run<B: Behaviour>(shard: Shard, behaviour: B, listen: Address, deflate: bool) -> Result<(), String> {
    let listener = shard
        .listen(&listen, &ListenOptions::default())
        .map_err(|error| annulus_engine::error::explain_listen(&listen, &error))?;
    if shard.index() == 0 {
        println!("ws://{} ({}); metrics at http://{0}/metrics", listener.address(), shard.driver_kind());
    }
    let tick = Some(Duration::from_secs(1));
    let mut group = shard.group::<Session>(GroupOptions { outbox_bytes_max: OUTBOX_BYTES_MAX, tick, cohorts: COHORTS });
    group.listen(listener);
    let outlet = group.outlet();
    let mut server = Runner { shard: shard.clone(), outlet, behaviour, deflate, out: Vec::new(), ids: Vec::new() };
    server.behaviour.started(&server.outlet);
    while shard.until_drained(group.ready()).await.is_some() {
        while let Some(event) = group.next_event() {
            server.on_event(&mut group, event);
        }
    }
    group.stop_listening();
    server.say_farewell(&mut group);
    let rest = async {
        while !group.is_empty() {
            group.ready().await;
            while let Some(event) = group.next_event() {
                server.on_event(&mut group, event);
            }
        }
    };
    // Who has not gone by then is cut off.
    let _patience = shard.timeout(DRAIN_MAX, rest).await;
    Ok(())
}

struct Runner<B> {
    shard: Shard,
    outlet: Outlet,
    behaviour: B,
    /// Whether compression is agreed on with who offers it.
    deflate: bool,
    out: Vec<u8>,
    ids: Vec<ConnId>,
}

impl<B: Behaviour> Runner<B> {
    fn on_event(&mut self, group: &mut Group<Session>, event: Event) {
        match event {
            Event::Opened(id) => {
                group.attach(id, Session::Http(Box::default()));
            }
            Event::Received(id, mut chunk) => {
                if let Some(session) = group.session(id) {
                    self.received(id, session, &mut chunk);
                }
            }
            Event::Ended(id) => self.outlet.close(id, Close::Graceful, Reason::Peer),
            Event::Closed(id, _) => self.behaviour.closed(id),
            Event::Tick(cohort) => self.sweep(group, cohort),
            Event::Drained(_) => {}
        }
    }

    fn received(&mut self, id: ConnId, session: &mut Session, bytes: &mut [u8]) {
        let mut input = Input::new(bytes);
        if let Session::Http(server) = session {
            match self.handshake(id, server, &mut input) {
                Some(next) => *session = next,
                None => return,
            }
        }
        if let Session::Open(websocket) = session
            && self.messages(id, websocket, &mut input)
        {
            *session = Session::Done;
            self.outlet.close(id, Close::Graceful, Reason::Local);
        }
    }

    /// Answers a request. The session's next state, or `None` while the head is incomplete.
    fn handshake(&mut self, id: ConnId, server: &mut Server, input: &mut Input<'_>) -> Option<Session> {
        let now = self.shard.now().as_millis() as u64;
        let next = match server.next_event(&http1::Limits::DEFAULT, now, input) {
            Ok(http1::Event::Head(head)) if head.path() == "/metrics" => {
                let text = render(self.shard.all_metrics());
                self.answer(&head.exchange(), 200, &[("content-type", "text/plain; version=0.0.4")], &text);
                Session::Done
            }
            Ok(http1::Event::Head(head)) => match self.open(&head) {
                Ok(websocket) => {
                    self.behaviour.opened(id);
                    Session::Open(websocket)
                }
                Err(refusal) => {
                    self.answer(&head.exchange(), refusal.status(), refusal.fields(), &format!("{refusal}\n"));
                    Session::Done
                }
            },
            Ok(_) => return None,
            Err(fault) => {
                self.answer(&http1::Exchange::REFUSED, fault.status(), &[], &format!("{fault}\n"));
                Session::Done
            }
        };
        self.flush(id);
        if matches!(next, Session::Done) {
            self.outlet.close(id, Close::Graceful, Reason::Local);
        }
        Some(next)
    }

    /// Answers a request for an upgrade.
    fn open(&mut self, head: &http1::RequestHead<'_>) -> Result<WebSocket, Refusal> {
        let upgrade = Upgrade::check(head)?;
        let agreement = if self.deflate { upgrade.deflate(WINDOW_BITS_MIN)? } else { None };
        write_accept_deflate(&mut self.out, &upgrade, None, agreement);
        Ok(match agreement {
            Some(agreement) => WebSocket::with_deflate(Role::Server, agreement),
            None => WebSocket::new(Role::Server),
        })
    }

    fn answer(&mut self, exchange: &http1::Exchange, status: u16, fields: &[(&str, &str)], text: &str) {
        let length = BodyLength::Known(text.len() as u64);
        let mut body = write_response_head(&mut self.out, &exchange.closing(), status, fields, length);
        body.write_data(&mut self.out, text.as_bytes());
        let _always_closed = body.write_end(&mut self.out);
    }

    /// Handles what arrived. True when the connection is to be closed.
    fn messages(&mut self, id: ConnId, websocket: &mut WebSocket, input: &mut Input<'_>) -> bool {
        let now = self.shard.now().as_millis() as u64;
        loop {
            match websocket.next_event(&LIMITS, now, input) {
                Ok(WsEvent::NeedMore) => return false,
                Ok(WsEvent::Message(message)) => {
                    let is_full = match websocket.deflate() {
                        Some(agreement) => self.behaviour.message_of_deflater(&self.outlet, id, message, agreement),
                        None => self.behaviour.message(&self.outlet, id, message),
                    };
                    if is_full {
                        return true;
                    }
                }
                Ok(WsEvent::Ping(payload)) => write_pong(&mut self.out, &payload, None),
                Ok(WsEvent::Pong(_)) => {}
                Ok(WsEvent::Close(close)) => {
                    websocket.write_close(&mut self.out, close.code, "", None);
                    self.flush(id);
                    return true;
                }
                Err(fault) => {
                    websocket.write_close(&mut self.out, Some(fault.close_code()), fault.reason(), None);
                    self.flush(id);
                    return true;
                }
            }
            self.flush(id);
        }
    }

    /// Sends what was written. A full outbox shows with the next message.
    fn flush(&mut self, id: ConnId) {
        if !self.out.is_empty() {
            let _small_and_rare = self.outlet.send_copy(id, &[&self.out]);
            self.out.clear();
        }
    }

    /// Tells everybody that the server goes away.
    fn say_farewell(&mut self, group: &mut Group<Session>) {
        let mut ids = std::mem::take(&mut self.ids);
        self.outlet.all(&mut ids);
        for id in ids.drain(..) {
            if let Some(Session::Open(websocket)) = group.session(id) {
                websocket.write_close(&mut self.out, Some(CloseCode::GOING_AWAY), "shutting down", None);
                self.flush(id);
            }
            self.outlet.close(id, Close::Graceful, Reason::Shutdown);
        }
    }

    /// Ends handshakes and messages that take too long.
    fn sweep(&mut self, group: &mut Group<Session>, cohort: u32) {
        let now = self.shard.now().as_millis() as u64;
        let mut ids = std::mem::take(&mut self.ids);
        self.outlet.cohort(cohort, &mut ids);
        for id in ids.drain(..) {
            let overdue = match group.session(id) {
                Some(Session::Http(server)) => {
                    let silent = self.outlet.silence(id).as_millis() as u64 > http1::Limits::DEFAULT.head_ms_max;
                    silent || server.is_overdue(&http1::Limits::DEFAULT, now)
                }
                Some(Session::Open(websocket)) if websocket.is_overdue(&LIMITS, now) => {
                    websocket.write_close(&mut self.out, Some(CloseCode::POLICY), "message takes too long", None);
                    true
                }
                _ => false,
            };
            if overdue {
                self.flush(id);
                self.outlet.close(id, Close::Graceful, Reason::Local);
            }
        }
        self.ids = ids;
    }
}
