//! The chat's task on each shard: sockets, HTTP, WebSocket, and letters between hubs.
//!
//! ```text
//!   group's events ─┐                       ┌─► outboxes
//!   letters ────────┼─► one task: the hub ──┼─► letters, records for the log
//!   TLS, drain ─────┘                       └─► work.rs: tasks that bring back what was found out
//! ```
//!
//! One task turns everything. So the hub has one user and needs no lock.
//!
//! | file | noun |
//! |---|---|
//! | `mod.rs` | the loop, the beginning, the end |
//! | `world.rs` | what the hub does to the world |
//! | `session.rs` | connections: HTTP first, then WebSocket or a stream |
//! | `stream.rs` | clients without a WebSocket: HTTP streams, server-sent events, and their commands |
//! | `upgrade.rs` | who may open a WebSocket, and how it will be spoken |
//! | `work.rs` | what takes longer than a turn |
//! | `call.rs` | calls of the HTTP API, each a task |
//! | `admin.rs` | the console's requests |
//! | `secure.rs` | TLS in front of all that |
//! | `log.rs` | the log's writer, the database's feeder, and their end |
//! | `events.rs` | what the backend is still told at the end |
//! | `meters.rs` | what is counted for the outside |

mod admin;
mod call;
mod events;
mod log;
mod meters;
mod past;
mod secure;
mod session;
mod stream;
mod upgrade;
mod work;
mod world;

use std::future::Future;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use annulus_engine::{
    Address, Balance, ConnId, Event, Group, GroupOptions, Inbox, ListenOptions, Shard, SocketOptions,
};

use super::broker::link::Link;
use super::fleet::{Captain, Figures};
use super::hub::Hub;
use super::letters::Letter;
use super::node::Node;
use crate::gateway::access::AccessLog;
pub use call::HttpReply;
use meters::{DatabaseMeters, Meters, QuotaMeters, Sums};
use secure::Doorway;
use session::Session;
use work::Works;
use world::{Sockets, Visitors};

/// The hubs' inbox.
pub const INBOX: &str = "chat";
/// Sessions are looked at in this many cohorts, one per tick, so each is looked at every five seconds.
const COHORTS: u32 = 25;
const TICK: Duration = Duration::from_millis(200);
const _: () = assert!(COHORTS as u64 * TICK.as_millis() as u64 == super::hub::VISIT_SECONDS * 1000);
/// How long a port that is taken is waited for at the start, and from one look to the next.
const PORT_WAIT_MAX: Duration = Duration::from_secs(2);
const PORT_WAIT: Duration = Duration::from_millis(20);
/// Ticks after which the access log is handed over.
const ACCESS_TICKS: u32 = 5;
/// Clients that are sent away in one go at the end. They come back somewhere, and should not all do so at once.
const FAREWELLS_AT_ONCE: usize = 1000;
/// The pause between two of those.
const FAREWELL_PAUSE: Duration = Duration::from_millis(100);
/// At the end, how long connections without a client stay open: a request that is on its way, or that another shard has accepted, is
/// answered. A successor waits for this, so it is short.
const LAST_CALL: Duration = Duration::from_millis(200);
/// How often it is looked then whether connections came.
const FAREWELL_LOOK: Duration = Duration::from_millis(5);

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
pub async fn run(shard: Shard, node: Arc<Node>) -> Result<(), String> {
    let config = &node.common.config;
    // Before the port is open: nobody may be acknowledged what cannot be logged.
    let keeper = log::start(&shard, &node).await?;
    let options = GroupOptions { outbox_bytes_max: config.outbox_bytes_max, tick: Some(TICK), cohorts: COHORTS };
    let mut group = shard.group::<Session>(options);
    let doorway = open(&shard, &node, &mut group).await?;
    let mut service = Service::new(&shard, &node, &group)?;
    let captain = match config.broker.as_ref().filter(|_| shard.index() == 0) {
        Some(broker) => Some(Captain::start(&shard, &node, broker)?),
        None => None,
    };
    let mut inbox = shard.inbox::<Letter>(INBOX);
    loop {
        match woken(&shard, &mut group, &mut inbox, &doorway, service.has_more).await {
            Woke::Drain => break,
            Woke::Letter(letter) => service.on_letter(&mut group, letter),
            Woke::Sockets => {}
        }
        service.admit(&mut group, &doorway);
        service.turn(&mut group, &mut inbox);
    }
    service.is_leaving = true;
    group.stop_accepting();
    service.say_farewell(&mut group, &mut inbox, &doorway).await;
    group.stop_listening();
    drop(doorway);
    if let Some(captain) = captain {
        captain.leave().await;
    }
    service.tell_the_rest(&mut group, &mut inbox).await;
    keeper.finish(&shard, &node, &mut service, &mut group, &mut inbox).await;
    service.give_up_events();
    if let Some(access) = &service.access {
        access.finish(&shard).await;
    }
    Ok(())
}

/// Opens the port.
async fn open(shard: &Shard, node: &Arc<Node>, group: &mut Group<Session>) -> Result<Doorway, String> {
    let config = &node.common.config;
    let address = Address::Ip(config.listen);
    let balance = match config.listen.port() {
        // Any port: the kernel would choose another for each shard.
        0 => Balance::LeastLoaded,
        _ => Balance::ReusePort,
    };
    // What a client does not acknowledge, because it is gone or takes nothing, the kernel waits for so long and no longer.
    let user_timeout = Some(Duration::from_millis(config.write_ms_max)).filter(|timeout| !timeout.is_zero());
    let socket = SocketOptions { user_timeout, ..SocketOptions::default() };
    let options = ListenOptions { balance, socket, ..ListenOptions::default() };
    let patience = shard.now() + PORT_WAIT_MAX;
    let listener = loop {
        match shard.listen(&address, &options) {
            // The kernel takes a moment to bury a process that was killed, and its port with it.
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && shard.now() < patience => {
                shard.sleep(PORT_WAIT).await;
            }
            listening => {
                break listening.map_err(|error| annulus_engine::error::explain_listen(&address, &error))?;
            }
        }
    };
    let address = listener.address().to_string();
    let doorway = match &config.tls {
        None => {
            group.listen(listener);
            Doorway::default()
        }
        Some(_) => Doorway::secure(shard, node, listener),
    };
    node.listens(shard.index(), shard.count(), address);
    Ok(doorway)
}

async fn woken(
    shard: &Shard,
    group: &mut Group<Session>,
    inbox: &mut Inbox<Letter>,
    doorway: &Doorway,
    has_more: bool,
) -> Woke {
    if has_more {
        // There is work left over: others have their turn first.
        shard.yield_now().await;
    }
    let mut ready = std::pin::pin!(shard.until_drained(group.ready()));
    std::future::poll_fn(|cx| {
        // Sockets first: asking them begins a new batch of events, and letters are taken between the events too.
        if let Poll::Ready(ready) = ready.as_mut().poll(cx) {
            return Poll::Ready(if ready.is_some() { Woke::Sockets } else { Woke::Drain });
        }
        if doorway.poll_waiting(cx) || has_more {
            return Poll::Ready(Woke::Sockets);
        }
        inbox.poll_recv(cx).map(Woke::Letter)
    })
    .await
}

/// The chat of one shard.
pub(super) struct Service {
    pub(super) node: Arc<Node>,
    pub(super) hub: Hub,
    pub(super) sockets: Sockets,
    meters: Meters,
    /// On the shard that feeds a database.
    database: Option<DatabaseMeters>,
    /// The figures of namespaces with limits, on the shard that tells them.
    quotas: Option<QuotaMeters>,
    limits: annulus_protocols::websocket::Limits,
    door: upgrade::Door,
    /// Who came, asked and left, if that is logged.
    access: Option<AccessLog>,
    works: Rc<Works>,
    /// Bytes for the connection at hand that are no chat messages.
    out: Vec<u8>,
    ids: Vec<ConnId>,
    /// The Unix clock when the shard's was at zero, in milliseconds.
    epoch_ms: u64,
    /// Which verifiers the hub has.
    edition: usize,
    /// There is work that was not finished in this turn.
    pub(super) has_more: bool,
    /// The end has begun: each answer is its connection's last.
    pub(super) is_leaving: bool,
}

impl Service {
    fn new(shard: &Shard, node: &Arc<Node>, group: &Group<Session>) -> Result<Service, String> {
        let config = &node.common.config;
        let works = Works::new(shard, node)?;
        let epoch_ms = shard.unix_now().saturating_sub(shard.now()).as_millis() as u64;
        let link = config.broker.as_ref().map(|broker| Link::start(shard, broker, epoch_ms)).transpose()?;
        let mut sockets = Sockets::new(shard, node, group.outlet(), works.clone(), link);
        let mut hub = Hub::new(shard.index(), shard.count(), node.common.clone(), node.verifiers());
        if let Some(mut restored) = node.take_restored(shard.index()) {
            let intents = restored.take_intents();
            hub.adopt(restored, node.is_doubtful);
            hub.resume_intents(&mut sockets, intents);
        }
        Ok(Service {
            hub,
            sockets,
            meters: Meters::of(shard, shard.index()),
            database: (shard.index() == 0 && node.feed().is_some()).then(|| DatabaseMeters::new(shard)),
            quotas: (shard.index() == 0).then(|| QuotaMeters::new(shard, &node.common)),
            limits: annulus_protocols::websocket::Limits::with_message_bytes_max(config.message_bytes_max as u64),
            door: upgrade::Door::new(node, shard.count()),
            access: node.access_log(shard),
            works,
            node: node.clone(),
            out: Vec::new(),
            ids: Vec::new(),
            epoch_ms,
            edition: 0,
            has_more: false,
            is_leaving: false,
        })
    }

    /// Milliseconds of the Unix clock, as it was when the shard started: it never goes back.
    pub(super) fn now(&self) -> u64 {
        self.epoch_ms + self.sockets.shard.now().as_millis() as u64
    }

    /// Works off what is there, sockets and letters by turns.
    pub(super) fn turn(&mut self, group: &mut Group<Session>, inbox: &mut Inbox<Letter>) {
        while let Some(event) = group.next_event() {
            self.on_event(group, event);
            while let Some(letter) = inbox.try_recv() {
                self.on_letter(group, letter);
            }
        }
        self.has_more = self.hub.go_on_fanning(&mut self.sockets);
        self.has_more |= self.hub.go_on_with_checkpoint(self.now());
        self.close_marked(group);
        self.hand_over();
        self.sockets.send_overflow();
        self.meters.show(&self.hub);
    }

    /// Hands the log what was added to it.
    fn hand_over(&mut self) {
        let Some(state) = &self.node.common.log else { return };
        while let Some(append) = self.hub.take_append() {
            if let Err(annulus_engine::MailboxFull(append)) = state.append(&self.sockets.shard, append) {
                // The writer's shard lags: in the next turn, together with what comes meanwhile.
                self.hub.give_append_back(append);
                self.has_more = true;
                break;
            }
        }
    }

    fn on_letter(&mut self, group: &mut Group<Session>, letter: Letter) {
        let now = self.now();
        if let Letter::Replied { conn, reply } = letter {
            return self.replied(group, conn, &reply);
        }
        if let Letter::Emulated { conn, message } = letter {
            return self.emulated(group, conn, &message);
        }
        self.hub.on_letter(&mut self.sockets, &mut Visitors(group), now, letter);
    }

    /// Takes over connections that have shaken hands.
    fn admit(&mut self, group: &mut Group<Session>, doorway: &Doorway) {
        while let Some((stream, peer)) = doorway.take() {
            let session = Session::New(Some(peer));
            group.adopt(stream, session);
        }
    }

    fn on_event(&mut self, group: &mut Group<Session>, event: Event) {
        match event {
            Event::Opened(id) => drop(group.attach(id, Session::New(None))),
            Event::Received(id, chunk) => {
                if let Some(session) = group.session(id) {
                    self.received(id, session, chunk);
                }
            }
            Event::Ended(id) => self.ended(group, id),
            Event::Closed(id, _) => {
                if let Some(client) = group.session(id).and_then(Session::client) {
                    self.note_end(id, client, "gone");
                    self.forget(id, client);
                }
            }
            Event::Drained(id) => {
                let now = self.now();
                if let Some(client) = group.session(id).and_then(Session::client) {
                    self.hub.drained(&mut self.sockets, now, id, client);
                }
            }
            Event::Tick(cohort) => self.tick(group, cohort),
        }
    }

    /// Looks at a cohort of sessions: pings, pongs, what takes too long and what waits for too much.
    fn tick(&mut self, group: &mut Group<Session>, cohort: u32) {
        let now = self.now();
        self.hub.tick(&mut self.sockets, now);
        self.door.tick(now);
        if self.hub.take_settled_doubt() {
            self.node.settle_doubt(&self.sockets.shard);
        }
        if let Some(verifiers) = self.node.newer_verifiers(&mut self.edition) {
            self.hub.set_verifiers(verifiers);
        }
        if let Some(access) = self.access.as_ref().filter(|_| cohort.is_multiple_of(ACCESS_TICKS)) {
            access.flush();
        }
        if self.sockets.shard.index() == 0 && cohort == 0 {
            Works::refresh_keys(&self.works, &self.node.verifiers());
        }
        let mut ids = std::mem::take(&mut self.ids);
        self.sockets.outlet.cohort(cohort, &mut ids);
        self.sockets.begin_cohort(cohort);
        for id in ids.drain(..) {
            let waiting = self.sockets.outlet.outbox_bytes(id);
            if let Some(session) = group.session(id) {
                self.look_at(id, session, waiting);
            }
        }
        self.ids = ids;
        if let Some((meters, feed)) = self.database.as_ref().zip(self.node.feed()) {
            meters.show(&feed, now);
        }
        if let Some(meters) = &self.quotas {
            meters.show(&self.node.common.quotas);
        }
        self.meters.show_waiting(self.sockets.waiting_bytes());
    }

    /// Closes connections that the hub has done with.
    pub(super) fn close_marked(&mut self, group: &mut Group<Session>) {
        while let Some((id, disconnect)) = self.sockets.closing.pop() {
            if let Some(session) = group.session(id) {
                self.disconnect(id, session, &disconnect);
            }
        }
    }

    /// Sends everybody away, some at a time, and waits until they are gone. Clients go first: calls of the API that are under way are
    /// answered, and so are those that come within a last call.
    async fn say_farewell(&mut self, group: &mut Group<Session>, inbox: &mut Inbox<Letter>, doorway: &Doorway) {
        let shard = self.sockets.shard.clone();
        let patience = shard.now() + Duration::from_millis(self.node.common.config.shutdown_ms_max);
        let last_call = shard.now() + LAST_CALL;
        let mut ids = Vec::new();
        self.sockets.outlet.all(&mut ids);
        ids.retain(|&id| group.session(id).is_some_and(|session| session.client().is_some()));
        let mut batches = ids.chunks(FAREWELLS_AT_ONCE).peekable();
        while let Some(batch) = batches.next() {
            for &id in batch {
                if let Some(session) = group.session(id) {
                    self.disconnect(id, session, &annulus_protocols::centrifuge::Disconnect::SHUTDOWN);
                }
            }
            let is_last = batches.peek().is_none() || shard.now() >= patience;
            let pause = if is_last { Duration::ZERO } else { FAREWELL_PAUSE };
            let until = shard.now() + pause;
            while shard.now() < until {
                let _ready = shard.timeout(until.saturating_sub(shard.now()), group.ready()).await;
                self.turn(group, inbox);
            }
        }
        let last_call = last_call.min(patience);
        while shard.now() < last_call || !group.is_settled() && shard.now() < last_call + LAST_CALL {
            let _ready = shard.timeout(FAREWELL_LOOK, group.ready()).await;
            self.admit(group, doorway);
            self.turn(group, inbox);
        }
        self.sockets.outlet.all(&mut ids);
        for id in ids.drain(..) {
            match group.session(id) {
                // Ends with its answer.
                Some(Session::Http(http)) if http.is_asked() => {}
                Some(session) => self.disconnect(id, session, &annulus_protocols::centrifuge::Disconnect::SHUTDOWN),
                None => {}
            }
        }
        // Who has not gone by then is cut off.
        while !group.is_empty() && shard.now() < patience {
            let _ready = shard.timeout(patience.saturating_sub(shard.now()), group.ready()).await;
            self.turn(group, inbox);
        }
    }
}

/// What a node says of itself.
pub(super) fn figures(shard: &Shard, node: &Node) -> Figures {
    let sums = Sums::of(shard);
    Figures {
        name: node.name(),
        release: call::VERSION.to_owned(),
        clients: sums.clients,
        users: sums.users,
        subscriptions: sums.subscriptions,
        channels: sums.channels,
        uptime: node.uptime(),
        beat: 0,
    }
}

/// The address that a connection comes from.
fn address_of(peer: Option<Address>) -> Option<IpAddr> {
    match peer? {
        // Where IPv4 comes over an IPv6 socket, it is IPv4 all the same.
        Address::Ip(address) => Some(address.ip().to_canonical()),
        Address::Unix(_) => None,
    }
}
