//! The chat of one shard: commands in, replies, pushes and letters out. It knows no socket; see [`Ports`].
//!
//! ```text
//!   client ─► command ─► this shard owns the channel?  yes ─► done here
//!                                                      no ──► Letter::Ask ─► owner ─► Letter::Answer ─► reply
//!   owner ─► number ─► log ─► settled ─► encode once ─► Letter::Deliver to each shard with members ─► every member
//! ```
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | commands one after the other, letters, what waits |
//! | `connect.rs` | sessions begin, are refreshed, and end |
//! | `subscribe.rs` | subscriptions begin and end |
//! | `publish.rs` | publications are checked, numbered, logged, settled |
//! | `frames.rs` | what members are sent, made once for all of them who are sent the same |
//! | `deliver.rs` | who hears what, how large rooms are paced, and what becomes of slow members |
//! | `read.rs` | history and presence |
//! | `shared/` | channels that several nodes share: copies of their streams, and publications on their way to the broker |
//! | `events.rs` | what of all that the backend is told |
//! | `order.rs` | what the server's API does to a user's clients |
//! | `keeping.rs` | what is forgotten in time, checkpoints, and an earlier life |
//!
//! Invariants:
//! * The commands of one client are carried out strictly in order. One that waits for something holds back the ones
//!   behind it ([`Outcome::Wait`]); only publications may follow publications whose replies are still to come.
//! * What an owner sends to a shard arrives in order, and a member is entered when the owner's answer arrives. So a
//!   subscriber sees exactly the publications after the position it was told: no gap, none twice.
//! * Where a broker numbers, nothing here does: members are handed what is heard from it, in its order.
//! * Presence is the union of the shards' members, asked for when somebody wants it; nobody keeps it.

mod connect;
mod deliver;
mod events;
mod frames;
mod keeping;
mod order;
mod publish;
mod read;
mod shared;
mod subscribe;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use annulus_engine::ConnId;
use annulus_engine::trace::{self, Stage, Trace};
use annulus_protocols::centrifuge::{
    Codec, Command, Commands, Disconnect, ErrorCode, Method, write_error, write_publish_result,
    write_unsubscribe_result,
};

use super::broker::Wish;
use super::bucket::Bucket;
use super::channel::Channels;
use super::config::{Config, Namespace};
use super::dialect::Dialect;
use super::emulation::Sessions;
use super::events::Event;
use super::evidence::{Evidence, Found};
use super::hooks::{Kind, Unfit};
use super::letters::{Answer, Ask, Asker, Letter, Reply, Work};
use super::quota::Quota;
use super::sanctions::Sanctions;
use super::seal::Sealer;
use super::session::{ChannelSlot, Client, Held, Phase, Waits};
use super::stream::{Author, Epoch};
use super::tokens::Verifier;
use super::users::{Counted, Users};
use deliver::{FanOut, Moves};
use frames::Framer;
pub use keeping::{Restored, Restorer};
pub use publish::key_of;
use publish::{Keys, LogEnd, Pending};
pub use read::count;
pub use shared::Intent;

/// Shards of a node: which of them have members of a channel is kept in one word, a bit for each.
pub const SHARDS_MAX: usize = u64::BITS as usize;
/// Bytes of a user's name. Beyond: error 107.
pub const USER_BYTES_MAX: usize = 255;
/// Replies to publications that one client may wait for. Beyond, its commands are held back.
pub const UNANSWERED_MAX: u8 = 64;
/// Largest messages' worth of commands that may wait of a client whose commands come as requests of their own. Beyond:
/// disconnect 3013.
pub const HELD_MESSAGES_MAX: usize = 4;
/// Seconds between looks at one session.
pub const VISIT_SECONDS: u64 = 5;

/// From a publish command to its reply.
static REPLY: trace::Kind = trace::Kind {
    name: "chat reply",
    about: "From a publish command's arrival to its reply.",
    away: "log, database, hook or check",
};
/// From a publish command to a subscriber.
static DELIVERY: trace::Kind = trace::Kind {
    name: "chat delivery",
    about: "From a publish command's arrival to the last of the members, of the first 1024, that a shard sends to.",
    away: "log, database, hook or check",
};

/// What a hub does to the world.
pub trait Ports {
    /// Sends one message to a client.
    fn send(&mut self, to: ConnId, dialect: Dialect, message: &[u8]);
    /// Sends one message as it is on the wire to many; those for whom too much waits already are appended to `full`
    /// instead.
    fn send_all(&mut self, to: &[ConnId], frame: &[u8], full: &mut Vec<ConnId>);
    /// Sends a WebSocket ping.
    fn ping(&mut self, to: ConnId);
    /// Calls [`Hub::drained`] once nothing waits for this client.
    fn tell_drained(&mut self, to: ConnId);
    /// Takes the client's commands again.
    fn resume(&mut self, to: ConnId);
    /// Ends a connection once what was sent has left. The hub has forgotten the client.
    fn close(&mut self, conn: ConnId, why: Disconnect);
    /// Sends a letter to a hub, this one included.
    fn post(&mut self, shard: usize, letter: Letter);
    /// Begins something that takes longer; [`Letter::Found`] brings its result.
    fn begin(&mut self, conn: ConnId, work: Work);
    /// Wishes something of the broker; [`Letter::Broker`] brings what came of it.
    fn wish(&mut self, wish: Wish);
    /// Microseconds of a clock that all hubs share.
    fn clock_us(&self) -> u64;
    /// The trace of the command at hand; empty if it is not traced, or was taken.
    fn take_trace(&mut self) -> Trace;
    /// A traced command waited for the log, or somebody else's letter; see [`annulus_engine::Shard::woke`].
    fn woke(&mut self, trace: &mut Trace);
    /// What was sent to this client last is what the trace waits for.
    fn trace(&mut self, conn: ConnId, trace: Trace, kind: &'static trace::Kind);
    /// What was numbered at that moment of the clock has been handed to members here, to some of them if they are many.
    fn handed_over(&mut self, numbered_us: u64);
    /// A backend's answer could not be read.
    fn unfit(&mut self, hook: (Kind, &str), unfit: &Unfit);
    /// Something happened that the backend is to be told.
    fn note(&mut self, event: Event);
}

/// Where the clients of a shard are kept.
pub trait Clients {
    /// The client of a connection, if it is one.
    fn client(&mut self, conn: ConnId) -> Option<&mut Client>;
    /// All connections.
    fn all(&mut self) -> Vec<ConnId>;
}

/// How a message was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// Done; more may come.
    Continue,
    /// A command waits for something; take no input of this client until [`Ports::resume`].
    Wait,
    /// Close the connection so. The hub is still to be told by [`Hub::remove`].
    Close(Disconnect),
}

/// Totals that the hub counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commands taken.
    pub commands: u64,
    /// Commands refused.
    pub refused: u64,
    /// Publications numbered here.
    pub publications: u64,
    /// Publications that were not made again, because their key was known.
    pub repeated: u64,
    /// Publications handed to members here.
    pub deliveries: u64,
    /// Times that a member was set apart because it was slow.
    pub slow: u64,
    /// Times that a slow member had to begin anew.
    pub fallen_off: u64,
    /// Publications that slow members were not given.
    pub dropped: u64,
    /// Times that something was not heard from the broker, and was read.
    pub resynced: u64,
    /// Times that members of a shared channel had to begin anew, because what they missed is gone.
    pub begun_anew: u64,
    /// Publications in the log that were not given to the broker in time.
    pub given_up: u64,
    /// Times that a user was refused for what is forbidden to them.
    pub sanctioned: u64,
    /// Publications that were removed.
    pub removed: u64,
}

/// What proves tokens. All hubs share it; a reload replaces it.
pub struct Verifiers {
    /// Proves connection tokens.
    pub connection: Verifier,
    /// Proves subscription tokens.
    pub subscription: Verifier,
}

/// What all hubs of a node share.
pub struct Common {
    /// The configuration.
    pub config: Config,
    /// Payload schemas, by namespace: the default one first.
    pub schemas: Vec<Option<crate::schema::Schema>>,
    /// What channels of a namespace may take together, by namespace: the default one first.
    pub quotas: Vec<Quota>,
    /// Encrypts what is kept at rest.
    pub sealer: Option<Arc<Sealer>>,
    /// Connections of each user, where they are limited.
    pub counted: Counted,
    /// Fan-outs to large rooms under way.
    pub fan_outs: std::sync::atomic::AtomicUsize,
    /// Clients that came, where a user may have one connection only.
    pub connects: std::sync::atomic::AtomicU64,
    /// The log, if there is one.
    pub log: Option<Arc<super::log::LogState>>,
    /// Names sessions whose commands come as requests of their own.
    pub sessions: Sessions,
}

impl Common {
    /// The namespace of a channel, and its place: the default one first.
    pub fn namespace(&self, channel: &str) -> Option<(usize, &Namespace)> {
        let channels = &self.config.channels;
        match channels.namespace_name(channel) {
            "" => Some((0, &channels.default)),
            name => {
                let at = channels.namespaces.iter().position(|namespace| namespace.name == name)?;
                Some((at + 1, &channels.namespaces[at]))
            }
        }
    }

    /// What the channels of a channel's namespace may take together; `None`: there is no such namespace.
    pub fn quota(&self, channel: &str) -> Option<&Quota> {
        self.namespace(channel).map(|(at, _)| &self.quotas[at])
    }
}

/// What is forbidden to a user and not in the log yet.
type Sanctioning = (u64, Reply<Result<usize, ErrorCode>>, usize);

/// The chat of one shard.
pub struct Hub {
    shard: usize,
    shards: usize,
    common: Arc<Common>,
    verifiers: Arc<Verifiers>,
    channels: Channels,
    users: Users,
    random: RandomState,
    drawn: u64,
    clients: usize,
    subscriptions: usize,
    framer: Framer,
    /// Publications that have not settled, and what is to be logged.
    pending: Pending,
    log: LogEnd,
    keys: Keys,
    /// Who came and went since the last tick, by channel.
    moves: HashMap<Arc<str>, Moves>,
    fan_outs: VecDeque<FanOut>,
    /// Publications of users within the last moments.
    publishers: HashMap<u64, Bucket>,
    /// Histories that were cleared, until the log has that: its record, who asked, the channel, and the answer.
    clearing: VecDeque<(u64, Asker, Arc<str>, Answer)>,
    /// What is forbidden to users.
    sanctions: Sanctions,
    /// Of these, what the log does not have yet: its record, whom to tell, and how many clients it concerned.
    sanctioning: VecDeque<Sanctioning>,
    /// The last of this shard's records that the disk has.
    durable: u64,
    /// After a loss of power: the record up to which the log is told of channels that begin anew.
    doubt: Option<u64>,
    /// What several nodes share.
    shared: shared::Shared,
    /// Where the rounds of keeping are.
    round: keeping::Round,
    /// Totals.
    pub counts: Counts,
}

/// What came of a command.
enum Step {
    /// It has its reply, or gets it later without holding others back.
    Replied,
    /// It is to be carried out again when something is there.
    Again(Waits),
    /// It gets its reply from the answer of a channel's owner.
    Asked,
    /// It ends the connection.
    Close(Disconnect),
}

/// A command at hand, and whose it is.
struct Turn<'t, P> {
    ports: &'t mut P,
    /// Milliseconds of the Unix clock.
    now: u64,
    conn: ConnId,
    client: &'t mut Client,
    /// The command's id.
    id: u32,
    evidence: &'t mut Evidence,
    /// Replies so far.
    out: &'t mut Vec<u8>,
    /// It was answered with an error.
    refused: bool,
}

impl<P: Ports> Turn<'_, P> {
    fn codec(&self) -> Codec {
        self.client.dialect.codec()
    }

    fn refuse(&mut self, error: ErrorCode) -> Step {
        self.refused = true;
        write_error(self.client.dialect.codec(), self.out, self.id, &error);
        Step::Replied
    }

    /// Begins something that takes longer; the command is carried out again with its result.
    fn work(&mut self, work: Work) -> Step {
        self.ports.begin(self.conn, work);
        Step::Again(Waits::Found)
    }

    /// Sends the replies so far: nothing that follows may overtake them.
    fn flush(&mut self) {
        if !self.out.is_empty() {
            self.ports.send(self.conn, self.client.dialect, self.out);
            self.out.clear();
        }
    }
}

/// The shard that owns a channel: the same answer on every shard.
pub fn owner(channel: &str, shards: usize) -> usize {
    // FNV-1a: short names, and every shard must agree.
    let hash = channel
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ byte as u64).wrapping_mul(0x0100_0000_01b3));
    ((hash >> 32) % shards as u64) as usize
}

impl Hub {
    /// The hub of shard `shard` of `shards`.
    ///
    /// # Panics
    /// With more than [`SHARDS_MAX`] shards.
    pub fn new(shard: usize, shards: usize, common: Arc<Common>, verifiers: Arc<Verifiers>) -> Hub {
        assert!(shards <= SHARDS_MAX, "a channel's shards are counted in 64 bits");
        let framer = Framer::new(common.config.compression.as_ref().map(|compression| compression.min_bytes));
        Hub {
            shard,
            shards,
            common,
            verifiers,
            channels: Channels::default(),
            users: Users::default(),
            random: RandomState::new(),
            drawn: 0,
            clients: 0,
            subscriptions: 0,
            framer,
            pending: Pending::default(),
            log: LogEnd::default(),
            keys: Keys::default(),
            moves: HashMap::new(),
            fan_outs: VecDeque::new(),
            publishers: HashMap::new(),
            clearing: VecDeque::new(),
            sanctions: Sanctions::default(),
            sanctioning: VecDeque::new(),
            durable: 0,
            doubt: None,
            shared: shared::Shared::default(),
            round: keeping::Round::default(),
            counts: Counts::default(),
        }
    }

    /// From now on tokens are proven by others.
    pub fn set_verifiers(&mut self, verifiers: Arc<Verifiers>) {
        self.verifiers = verifiers;
    }

    /// Clients that are connected here.
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// Users with clients here.
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// Channels known here.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Subscriptions of clients here.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// What is forbidden to users, counted.
    pub fn sanctions(&self) -> usize {
        self.sanctions.len()
    }

    /// Publications that have not settled.
    pub fn pending(&self) -> usize {
        self.pending.len() + self.shared.flights.waiting()
    }

    fn owner(&self, channel: &str) -> usize {
        owner(channel, self.shards)
    }

    /// Sixty-four bits that nobody outside can foretell: a keyed hash of a counter.
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        let mut hasher = self.random.build_hasher();
        hasher.write_u64(self.drawn);
        hasher.finish()
    }

    fn draw_epoch(&mut self) -> Epoch {
        let bits = self.draw();
        const LETTERS: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        std::array::from_fn(|at| LETTERS[((bits >> (at * 16)) % 62) as usize])
    }

    /// Takes one message of a client. What is to be said at once is sent.
    pub fn receive(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        conn: ConnId,
        client: &mut Client,
        message: &[u8],
    ) -> Outcome {
        self.carry_on(ports, now, conn, client, message, None)
    }

    /// Takes one message of a client that came as a request of its own. Behind commands that wait it waits, too: nobody holds
    /// it back as a socket's pause would, so there is a limit to that.
    pub fn receive_aside(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        conn: ConnId,
        client: &mut Client,
        message: &[u8],
    ) -> Outcome {
        let separator: &[u8] = if client.dialect.codec() == Codec::Json { b"\n" } else { b"" };
        let Some(held) = &mut client.held else { return self.receive(ports, now, conn, client, message) };
        if message.is_empty() {
            return Outcome::Close(Disconnect::BAD_REQUEST);
        }
        if held.commands.len() + message.len() > HELD_MESSAGES_MAX * self.common.config.message_bytes_max {
            return Outcome::Close(Disconnect::TOO_MANY_REQUESTS);
        }
        if !held.commands.is_empty() && !held.commands.ends_with(b"\n") {
            held.commands.extend_from_slice(separator);
        }
        held.commands.extend_from_slice(message);
        Outcome::Wait
    }

    /// Carries commands out, the first of them with what was found out for it.
    fn carry_on(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        conn: ConnId,
        client: &mut Client,
        message: &[u8],
        mut found: Option<Evidence>,
    ) -> Outcome {
        let codec = client.dialect.codec();
        let mut commands = Commands::of(codec, message);
        let mut out = Vec::new();
        let outcome = loop {
            let command = match commands.next() {
                None => break Outcome::Continue,
                Some(Err(_)) => break Outcome::Close(Disconnect::BAD_REQUEST),
                Some(Ok(command)) => command,
            };
            let is_new = found.is_none();
            let mut evidence = found.take().unwrap_or_default();
            let id = command.id;
            // Asked for by us, one for each ping: refused, whoever is over its rate for a while would be taken for dead.
            let is_pong = matches!(command.method, Method::Pong);
            let (out, refused) = (&mut out, false);
            let mut turn = Turn { ports, now, conn, client, id, evidence: &mut evidence, out, refused };
            let step = match is_new && !self.may_command(&mut turn) && !is_pong {
                true => turn.refuse(ErrorCode::TOO_MANY_REQUESTS),
                false => self.carry_out(&mut turn, command),
            };
            self.counts.refused += u64::from(turn.refused);
            let (commands, waits) = match step {
                Step::Replied => continue,
                Step::Close(disconnect) => break Outcome::Close(disconnect),
                Step::Again(waits) => (commands.from_last(), waits),
                Step::Asked => (commands.rest(), Waits::Owner),
            };
            client.held = Some(Box::new(Held { commands: commands.to_vec(), evidence, waits }));
            break Outcome::Wait;
        };
        if !out.is_empty() {
            ports.send(conn, client.dialect, &out);
        }
        outcome
    }

    /// Goes on with a client's commands that were held back.
    fn go_on(&mut self, ports: &mut impl Ports, now: u64, conn: ConnId, client: &mut Client) {
        let Some(held) = client.held.take() else { return };
        let Held { commands, evidence, waits } = *held;
        // What the owner has answered is done: those behind it begin with nothing known.
        let evidence = (waits != Waits::Owner).then_some(evidence);
        let outcome = match commands.is_empty() {
            true => Outcome::Continue,
            false => self.carry_on(ports, now, conn, client, &commands, evidence),
        };
        match outcome {
            Outcome::Wait => {}
            Outcome::Continue => ports.resume(conn),
            Outcome::Close(disconnect) => self.end(ports, now, conn, client, disconnect),
        }
    }

    /// Ends a connection from here.
    fn end(&mut self, ports: &mut impl Ports, now: u64, conn: ConnId, client: &mut Client, why: Disconnect) {
        self.remove(ports, now, conn, client);
        ports.close(conn, why);
    }

    /// Whether the client's allowance has a command left.
    fn may_command<P>(&mut self, turn: &mut Turn<'_, P>) -> bool {
        self.counts.commands += 1;
        let rate = self.common.config.rates.commands;
        !rate.is_on() || turn.client.allowance.take(rate, turn.now)
    }

    /// Counts what a command's answer has cost beyond the command, as so many more of them.
    fn charge<P>(&mut self, turn: &mut Turn<'_, P>, commands: usize) {
        let rate = self.common.config.rates.commands;
        if rate.is_on() {
            turn.client.allowance.owe(rate, turn.now, commands);
        }
    }

    fn carry_out(&mut self, turn: &mut Turn<'_, impl Ports>, command: Command<'_>) -> Step {
        match (turn.client.phase, command.method) {
            (Phase::New, Method::Connect(connect)) => self.connect(turn, &connect),
            (Phase::New | Phase::Refused, _) | (Phase::Connected, Method::Connect(_)) => {
                Step::Close(Disconnect::BAD_REQUEST)
            }
            (Phase::Connected, Method::Pong) => match std::mem::take(&mut turn.client.ping_outstanding) {
                true => Step::Replied,
                false => Step::Close(Disconnect::BAD_REQUEST),
            },
            (Phase::Connected, Method::Publish { channel, data }) => self.publish(turn, &channel, data),
            (Phase::Connected, _) if turn.client.unanswered > 0 => Step::Again(Waits::Replies),
            (Phase::Connected, method) => self.carry_out_alone(turn, method),
        }
    }

    /// Commands before which all publications must have their replies.
    fn carry_out_alone(&mut self, turn: &mut Turn<'_, impl Ports>, method: Method<'_>) -> Step {
        match method {
            Method::Subscribe(subscribe) => self.subscribe(turn, &subscribe),
            Method::Unsubscribe { channel } => {
                self.unsubscribe(turn.ports, turn.now, turn.conn, turn.client, &channel);
                write_unsubscribe_result(turn.codec(), turn.out, turn.id);
                Step::Replied
            }
            Method::Presence { channel } => self.presence(turn, &channel, false),
            Method::PresenceStats { channel } => self.presence(turn, &channel, true),
            Method::History(history) => self.history(turn, &history),
            Method::Rpc { method, data } => self.rpc(turn, &method, data),
            Method::Refresh { token } => self.refresh(turn, &token),
            Method::SubRefresh { channel, token } => self.sub_refresh(turn, &channel, &token),
            Method::Send { .. } => Step::Close(Disconnect::NOT_AVAILABLE),
            Method::Ping => turn.refuse(ErrorCode::NOT_AVAILABLE),
            Method::Connect(_) | Method::Pong | Method::Publish { .. } => Step::Close(Disconnect::BAD_REQUEST),
        }
    }

    /// The namespace of a channel with a good name.
    fn namespace(&self, channel: &str) -> Result<&Namespace, ErrorCode> {
        let config = &self.common.config;
        let fits = (1..=config.client.channel_bytes_max).contains(&channel.len());
        if !fits || !config.is_channel_name(channel) {
            return Err(ErrorCode::BAD_REQUEST);
        }
        config.channels.namespace(channel).ok_or(ErrorCode::UNKNOWN_CHANNEL)
    }

    /// The same for what a client wishes to do there: 103 if it is to keep to other namespaces.
    fn namespace_for(&self, client: &Client, channel: &str) -> Result<&Namespace, ErrorCode> {
        let namespace = self.namespace(channel)?;
        let only = client.extra.as_ref().and_then(|extra| extra.namespaces.as_ref());
        match only.is_none_or(|only| only.contains(&namespace.name)) {
            true => Ok(namespace),
            false => Err(ErrorCode::PERMISSION_DENIED),
        }
    }

    /// Gives a channel up if nobody needs it.
    fn release(&mut self, slot: ChannelSlot, now: u64) {
        if self.is_attached(slot) {
            return;
        }
        let config = &self.common.config.channels;
        let namespace = config.namespace(&self.channels.peek(slot).name);
        let meta_ttl = namespace.and_then(|namespace| namespace.history_meta_ttl_ms);
        self.channels.release(slot, now, meta_ttl.unwrap_or(config.history_meta_ttl_ms));
    }

    /// The name of a client's user.
    pub fn user_of(&self, client: &Client) -> &str {
        self.users.name(client.user)
    }

    /// Who a client is towards others.
    fn author(&self, client: &Client, slot: Option<ChannelSlot>) -> Author {
        let chan_info = slot.and_then(|slot| client.subscription_extra(slot)?.chan_info.clone());
        Author {
            user: self.users.name(client.user).into(),
            client: client.id.into(),
            conn_info: client.conn_info(),
            chan_info,
        }
    }

    /// Puts a question to a channel's owner.
    fn ask(&mut self, ports: &mut impl Ports, now: u64, mut asker: Asker, channel: &str, ask: Ask) {
        let owner = self.owner(channel);
        if owner == self.shard {
            return self.answer(ports, now, asker, self.shard, channel, ask);
        }
        asker.mark(Stage::Work);
        ports.post(owner, Letter::Ask { asker, shard: self.shard, channel: channel.into(), ask });
    }

    /// Answers as a channel's owner; a publication is answered when it settles.
    fn answer(&mut self, ports: &mut impl Ports, now: u64, asker: Asker, shard: usize, channel: &str, ask: Ask) {
        let answer = match ask {
            Ask::Publish(publish) => return self.number(ports, now, asker, channel, publish),
            Ask::Join(join) if self.has_broker() => return self.join_shared(ports, now, asker, shard, channel, join),
            Ask::Join(join) => self.join(ports, now, shard, channel, join, None),
            Ask::History { limit, since, reverse } if self.is_shared(channel) => {
                return self.page_shared(ports, asker, channel, limit, since, reverse);
            }
            Ask::History { limit, since, reverse } => self.page(now, channel, limit, since, reverse),
            Ask::Clear if self.is_shared(channel) => return self.clear_shared(ports, asker, channel),
            Ask::Clear => return self.clear(ports, asker, channel),
            Ask::Remove { offset, epoch } if self.is_shared(channel) => {
                return self.remove_shared(ports, asker, channel, offset, epoch);
            }
            Ask::Remove { offset, epoch } => return self.remove_publication(ports, asker, channel, offset, &epoch),
            Ask::Follow { offset } => self.follow(channel, offset),
        };
        self.tell(ports, asker, channel, answer);
    }

    /// Tells an answer to who asked. To this shard it goes by letter, too: nobody is in the middle of something then.
    fn tell(&mut self, ports: &mut impl Ports, asker: Asker, channel: &str, answer: Answer) {
        match asker {
            Asker::Client { shard, conn, id, mut trace } => {
                trace.mark(Stage::Work);
                ports.post(shard, Letter::Answer { conn, id, channel: channel.into(), answer, trace });
            }
            Asker::Call(ticket) => ticket.0.answer(answer),
            Asker::Nobody => {}
        }
    }

    /// Takes a letter.
    pub fn on_letter(&mut self, ports: &mut impl Ports, clients: &mut impl Clients, now: u64, letter: Letter) {
        match letter {
            Letter::Ask { mut asker, shard, channel, ask } => {
                asker.mark(Stage::Mailbox);
                self.answer(ports, now, asker, shard, &channel, ask);
            }
            Letter::Answer { conn, id, channel, answer, mut trace } => {
                trace.mark(Stage::Mailbox);
                self.on_answer(ports, clients, now, conn, id, &channel, answer);
                trace.mark(Stage::Work);
                ports.trace(conn, trace, &REPLY);
            }
            Letter::Left { shard, channel } => self.left(ports, now, shard, &channel),
            Letter::Announce { channel, came, who } => self.pass_on(ports, &channel, came, who),
            Letter::Missed { channel, offset } => self.missed(ports, &channel, offset),
            Letter::Deliver { channel, offset, mut frames, watchers } => {
                frames.trace.mark(Stage::Mailbox);
                if let Some(slot) = self.channels.find(&channel) {
                    self.deliver(ports, slot, offset, frames, watchers);
                }
            }
            Letter::Who { channel, most, reply } => reply.0.answer(self.who(clients, &channel, most)),
            Letter::Channels { pattern, reply } => reply.0.answer(self.list(&pattern)),
            Letter::Order { order, reply } => self.on_order(ports, clients, now, &order, reply),
            Letter::Sanctions { user, most, reply } => reply.0.answer(self.tell_sanctions(&user, most)),
            Letter::Found { conn, found } => self.on_found(ports, clients, now, conn, *found),
            Letter::Anew { channel } => self.anew(ports, clients, now, &channel),
            Letter::Broker(news) => self.on_news(ports, now, news),
            Letter::Log(told) => self.on_log(ports, now, told),
            Letter::Stored(lsn) => self.on_stored(ports, now, lsn),
            // For the connections' side: nothing of a hub's.
            Letter::Emulated { .. } | Letter::Replied { .. } => {}
        }
    }

    #[allow(clippy::too_many_arguments)] // Whose, which, about what, what: all of it is needed.
    fn on_answer(
        &mut self,
        ports: &mut impl Ports,
        clients: &mut impl Clients,
        now: u64,
        conn: ConnId,
        id: u32,
        channel: &str,
        answer: Answer,
    ) {
        let Some(client) = clients.client(conn).filter(|client| client.phase != Phase::Refused) else {
            // It left while it waited: its subscription no longer keeps the channel.
            if matches!(answer, Answer::Joined(_) | Answer::NotJoined(_)) {
                self.not_arriving(ports, now, channel);
            }
            return;
        };
        let (codec, mut out) = (client.dialect.codec(), Vec::new());
        let was_publication = matches!(answer, Answer::Published { .. } | Answer::NotPublished(_));
        match answer {
            Answer::Published { .. } => write_publish_result(codec, &mut out, id),
            Answer::NotPublished(error) => self.write_refusal(codec, &mut out, id, &error),
            Answer::Follows { page, top } => return self.follows(ports, now, conn, client, channel, page, top),
            Answer::Joined(joined) if id == 0 => {
                return self.joined_aside(ports, now, conn, client, channel, Ok(joined));
            }
            Answer::NotJoined(error) if id == 0 => {
                return self.joined_aside(ports, now, conn, client, channel, Err(error));
            }
            Answer::Joined(joined) => return self.joined(ports, now, conn, client, id, channel, joined),
            Answer::NotJoined(error) => {
                self.not_arriving(ports, now, channel);
                self.write_refusal(codec, &mut out, id, &error);
            }
            Answer::Page { page, top, epoch } => read::write_page(codec, &mut out, id, &page, top, &epoch),
            Answer::Refused(error) => self.write_refusal(codec, &mut out, id, &error),
            Answer::Partial(partial) => {
                return ports.begin(conn, Work::Past { id, channel: channel.into(), partial });
            }
            Answer::Cleared(_) | Answer::Removed(_) => {}
        }
        ports.send(conn, client.dialect, &out);
        let waits = client.held.as_ref().map(|held| held.waits);
        let goes_on = match was_publication {
            true => {
                client.unanswered -= 1;
                waits == Some(Waits::Replies) && client.unanswered == 0
                    || waits == Some(Waits::Room) && client.unanswered <= UNANSWERED_MAX / 2
            }
            false => waits == Some(Waits::Owner),
        };
        if goes_on {
            self.go_on(ports, now, conn, client);
        }
    }

    fn write_refusal(&mut self, codec: Codec, out: &mut Vec<u8>, id: u32, error: &ErrorCode) {
        self.counts.refused += 1;
        write_error(codec, out, id, error);
    }

    fn on_found(&mut self, ports: &mut impl Ports, clients: &mut impl Clients, now: u64, conn: ConnId, found: Found) {
        let Some(client) = clients.client(conn) else { return };
        let found = match found {
            Found::Page(id, page) => return self.on_page(ports, now, conn, client, id, page),
            found => found,
        };
        match &mut client.held {
            Some(held) if held.waits == Waits::Found => {
                held.evidence.add(found);
                self.go_on(ports, now, conn, client);
            }
            _ => self.on_found_aside(ports, now, conn, client, found),
        }
    }
}

#[cfg(test)]
mod tests;
