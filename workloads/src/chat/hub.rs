//! The chat of one shard: commands in, replies, pushes and letters out. It knows no socket; see [`Ports`].
//!
//! ```text
//!   client ─► command ─► this shard owns the channel?  yes ─► done here
//!                                                      no ──► Letter::Ask ─► owner ─► Letter::Answer ─► reply
//!   owner ─► number, keep, encode once ─► Letter::Deliver to each shard with members ─► every member
//! ```
//!
//! Invariants:
//! * The commands of one client are carried out strictly in order. One that waits for another shard holds back the
//!   ones behind it ([`Outcome::Wait`]).
//! * What an owner sends to a shard arrives in order, and a member is entered when the owner's answer arrives. So a
//!   subscriber sees exactly the publications after the position it was told: no gap, none twice.
//! * Presence is the union of the shards' members, asked for when somebody wants it; nobody keeps it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use annulus_engine::ConnId;
use annulus_protocols::centrifuge::{
    ClientInfo, Command, Commands, Connect, Disconnect, ErrorCode, History, HistoryResult, Method, Publication,
    Subscribe, SubscribeResult, write_connect, write_error, write_history, write_join, write_leave, write_presence,
    write_presence_stats, write_publication, write_result, write_subscribe,
};
use annulus_protocols::json::Value;
use annulus_protocols::websocket::{MessageKind, message_header};

use super::Options;
use super::channel::{Channels, Stored};
use super::session::{ChannelSlot, Client, ClientId, Phase};
use super::users::Users;

/// Channels of one client. Beyond: error 106.
pub const CHANNELS_PER_CLIENT_MAX: usize = 128;
/// Bytes of a channel's name. Beyond: error 107.
pub const CHANNEL_BYTES_MAX: usize = 255;
/// Publications that one recovery or page of history gives. Beyond: not recovered; a shorter page.
pub const PAGE_MAX: usize = 300;
/// Bytes of a user's name that a client claims. Beyond: error 107.
pub const USER_BYTES_MAX: usize = 128;
/// Seconds between pings.
pub const PING_SECONDS: u32 = 25;
/// Looks at a session between two pings: one every five seconds.
pub const VISITS_PER_PING: u8 = 5;
/// Looks after a ping at which its answer is due: ten seconds.
const PONG_VISITS: u8 = 2;
/// Looks at which a session without `connect` is stale: after ten to fifteen seconds.
const STALE_VISITS: u8 = 3;

/// What a hub does to the world.
pub trait Ports {
    /// Sends one text message to a client.
    fn send(&mut self, to: ConnId, text: &[u8]);
    /// Sends one encoded WebSocket frame to many; those that are too slow are closed.
    fn send_all(&mut self, to: &[ConnId], frame: &[u8]);
    /// Sends a letter to another shard's hub.
    fn post(&mut self, shard: usize, letter: Letter);
}

/// Who waits for an answer: a connection, and the command's id (0: the HTTP API).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The connection.
    pub conn: ConnId,
    /// The command.
    pub id: u32,
}

/// What is asked of a channel's owner.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Count this shard in, and tell the position, with what was missed since one.
    Subscribe {
        /// Tell who comes and goes.
        watch: bool,
        /// Tell the position.
        positioned: bool,
        /// What the client has, if it wants to recover.
        since: Option<(u64, String)>,
        /// Answer 112 if it cannot recover.
        reject: bool,
    },
    /// Number, keep, deliver.
    Publish {
        /// A validated JSON value.
        data: Arc<[u8]>,
        /// The publishing client.
        info: Option<Arc<(String, String)>>,
    },
    /// A page of history.
    History {
        /// Publications wanted.
        limit: usize,
        /// From where.
        since: Option<(u64, String)>,
        /// Newest first.
        reverse: bool,
    },
}

/// What the owner answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Subscribed.
    Subscribed {
        /// Tell who comes and goes.
        watch: bool,
        /// What is told of the position.
        position: Option<Recovery>,
    },
    /// Published under this number.
    Published {
        /// The number; 0 where the channel keeps no history.
        offset: u64,
        /// The stream's life.
        epoch: String,
    },
    /// A page of history.
    Page {
        /// The publications.
        page: Vec<Stored>,
        /// The last number given.
        top: u64,
        /// The stream's life.
        epoch: String,
    },
    /// No subscription.
    NotSubscribed(ErrorCode),
    /// No.
    Refused(ErrorCode),
}

/// Where a stream is, and what came of a wish to recover.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// The position told.
    pub offset: u64,
    /// The stream's life.
    pub epoch: String,
    /// The client asked to recover.
    pub was_recovering: bool,
    /// What it had missed, if that is complete.
    pub missed: Option<Vec<Stored>>,
}

/// What crosses between hubs.
#[derive(Clone, Debug)]
pub enum Letter {
    /// To a channel's owner.
    Ask {
        /// Who asks.
        shard: usize,
        /// For whom.
        asker: Asker,
        /// About what.
        channel: Arc<str>,
        /// What.
        ask: Ask,
    },
    /// Back from the owner.
    Answer {
        /// For whom.
        asker: Asker,
        /// About what.
        channel: Arc<str>,
        /// What.
        answer: Answer,
    },
    /// The last member on that shard left; to the owner.
    Left {
        /// Which shard.
        shard: usize,
        /// Which channel.
        channel: Arc<str>,
    },
    /// Somebody came or left; to the owner, which passes it on.
    Announce {
        /// Where.
        channel: Arc<str>,
        /// The encoded frame.
        frame: Arc<[u8]>,
    },
    /// To a shard's members of a channel.
    Deliver {
        /// Which channel.
        channel: Arc<str>,
        /// The encoded frame.
        frame: Arc<[u8]>,
        /// Only those who want to know who comes and goes.
        watchers: bool,
    },
    /// Who is there? To every other shard.
    WhoIsThere {
        /// Who asks.
        shard: usize,
        /// Names the question there.
        gather: u32,
        /// Where.
        channel: Arc<str>,
    },
    /// These are; back.
    These {
        /// The question.
        gather: u32,
        /// User and client id of each.
        present: Vec<(String, String)>,
    },
}

/// How a message was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// Done; more may come.
    Continue,
    /// A command waits for another shard; take no input of this client until [`Hub::on_letter`] names it.
    Wait,
    /// Close the connection so.
    Close(Disconnect),
}

struct Gather {
    asker: Asker,
    stats: bool,
    missing: usize,
    present: Vec<(String, String)>,
}

/// Totals that the hub counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commands taken.
    pub commands: u64,
    /// Publications numbered here.
    pub publications: u64,
    /// Publications handed to members here.
    pub deliveries: u64,
}

/// The chat of one shard.
pub struct Hub {
    shard: usize,
    shards: usize,
    options: Options,
    channels: Channels,
    users: Users,
    gathers: Vec<Option<Gather>>,
    random: RandomState,
    drawn: u64,
    clients: usize,
    /// Totals.
    pub counts: Counts,
    scratch: Vec<u8>,
}

/// A command's carrying out: replied, waiting, or the end.
enum Step {
    Replied,
    Wait,
    Close(Disconnect),
}

impl Hub {
    /// The hub of shard `shard` of `shards`.
    pub fn new(shard: usize, shards: usize, options: Options) -> Hub {
        assert!(shards <= 64, "a channel's shards are counted in 64 bits");
        Hub {
            shard,
            shards,
            options,
            channels: Channels::default(),
            users: Users::default(),
            gathers: Vec::new(),
            random: RandomState::new(),
            drawn: 0,
            clients: 0,
            counts: Counts::default(),
            scratch: Vec::new(),
        }
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

    /// The shard that owns a channel: the same answer on every shard.
    fn owner(&self, channel: &str) -> usize {
        // FNV-1a: short names, and every shard must agree.
        let hash = channel
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ byte as u64).wrapping_mul(0x0100_0000_01b3));
        ((hash >> 32) % self.shards as u64) as usize
    }

    /// Sixty-four bits that nobody outside can foretell: a keyed hash of a counter.
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        let mut hasher = self.random.build_hasher();
        hasher.write_u64(self.drawn);
        hasher.finish()
    }

    /// Takes one text message of a client. Replies are appended to `out`, a line each; the caller sends them with
    /// [`flush`].
    pub fn receive(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        conn: ConnId,
        client: &mut Client,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> Outcome {
        let mut commands = Commands::of(message);
        while let Some(command) = commands.next() {
            let Ok(command) = command else { return Outcome::Close(Disconnect::BAD_REQUEST) };
            self.counts.commands += 1;
            let step = self.carry_out(ports, now, conn, client, command, out);
            end_line(out);
            match step {
                Step::Replied => {}
                Step::Close(disconnect) => return Outcome::Close(disconnect),
                Step::Wait => {
                    client.waiting = Some(Box::new(commands.rest().to_vec()));
                    return Outcome::Wait;
                }
            }
        }
        Outcome::Continue
    }

    fn carry_out(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        conn: ConnId,
        client: &mut Client,
        command: Command<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        let Command { id, method } = command;
        match (client.phase, &method) {
            (Phase::New, Method::Connect(connect)) => return self.connect(client, id, connect, out),
            (Phase::Connected, Method::Connect(_)) | (Phase::New | Phase::Refused, _) => {
                return Step::Close(Disconnect::BAD_REQUEST);
            }
            (Phase::Connected, _) => {}
        }
        let asker = Asker { conn, id };
        match method {
            Method::Pong if std::mem::take(&mut client.ping_outstanding) => return Step::Replied,
            Method::Pong | Method::Connect(_) => return Step::Close(Disconnect::BAD_REQUEST),
            Method::Subscribe(subscribe) => return self.subscribe(ports, now, asker, client, &subscribe, out),
            Method::Unsubscribe { channel } => {
                self.unsubscribe(ports, conn, client, &channel);
                write_result(out, id, "unsubscribe");
            }
            Method::Publish { channel, data } => {
                let Some(data) = data else { return refuse(out, id, ErrorCode::BAD_REQUEST) };
                if let Err(error) = check_channel(&channel) {
                    return refuse(out, id, error);
                }
                let info = Arc::new((self.users.name(client.user).to_string(), ClientId(client.id).to_string()));
                let ask = Ask::Publish { data: data.into(), info: Some(info) };
                return self.ask(ports, now, asker, Some(client), &channel, ask, out);
            }
            Method::Presence { channel } => return self.presence(ports, asker, &channel, false, out),
            Method::PresenceStats { channel } => return self.presence(ports, asker, &channel, true, out),
            Method::History(history) => return self.history(ports, now, asker, client, &history, out),
            Method::Send => return Step::Close(Disconnect::NOT_AVAILABLE),
            Method::Refresh | Method::SubRefresh => return Step::Close(Disconnect::BAD_REQUEST),
            Method::Ping | Method::Rpc => write_error(out, id, ErrorCode::NOT_AVAILABLE),
        }
        Step::Replied
    }

    fn connect(&mut self, client: &mut Client, id: u32, connect: &Connect<'_>, out: &mut Vec<u8>) -> Step {
        // Without keys no token can be proven, and one that is offered must not be ignored.
        if !connect.token.is_empty() {
            return Step::Close(Disconnect::INVALID_TOKEN);
        }
        if !self.options.insecure || connect.name.len() > 16 || connect.version.len() > 64 {
            return Step::Close(Disconnect::BAD_REQUEST);
        }
        let user = connect.data.map(claimed_user).unwrap_or_default();
        if user.len() > USER_BYTES_MAX {
            client.phase = Phase::Refused;
            return refuse(out, id, ErrorCode::BAD_REQUEST);
        }
        client.user = self.users.enter(&user);
        let (high, low) = (self.draw(), self.draw());
        client.id = ((high as u128) << 64 | low as u128).to_be_bytes();
        client.phase = Phase::Connected;
        // The first ping comes after 10 to 25 seconds, drawn per client, so that clients that came together part.
        client.visits = (self.draw() % (VISITS_PER_PING as u64 / 2 + 1)) as u8;
        self.clients += 1;
        let version = concat!("annulus ", env!("CARGO_PKG_VERSION"));
        write_connect(out, id, &ClientId(client.id).to_string(), version, PING_SECONDS);
        Step::Replied
    }

    fn subscribe(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        asker: Asker,
        client: &mut Client,
        subscribe: &Subscribe<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        let channel = &*subscribe.channel;
        if channel.is_empty() || !(subscribe.delta.is_empty() || subscribe.delta == "fossil") {
            return Step::Close(Disconnect::BAD_REQUEST);
        }
        if let Err(error) = self.may_subscribe(client, subscribe) {
            return refuse(out, asker.id, error);
        }
        let has_stream = self.options.history_size > 0;
        let recover = subscribe.recover && has_stream;
        let ask = Ask::Subscribe {
            watch: subscribe.join_leave && self.options.join_leave,
            positioned: has_stream && (subscribe.recover || subscribe.recoverable || subscribe.positioned),
            since: recover.then(|| (subscribe.since.offset, subscribe.since.epoch.to_string())),
            reject: subscribe.reject_unrecovered,
        };
        let slot = self.channels.open(channel);
        self.channels.at(slot).arriving += 1;
        self.ask(ports, now, asker, Some(client), channel, ask, out)
    }

    fn may_subscribe(&mut self, client: &Client, subscribe: &Subscribe<'_>) -> Result<(), ErrorCode> {
        let channel = &*subscribe.channel;
        check_channel(channel)?;
        let slot = self.channels.find(channel);
        if slot.is_some_and(|slot| client.subscriptions.contains(slot)) {
            return Err(ErrorCode::ALREADY_SUBSCRIBED);
        }
        if client.subscriptions.as_slice().len() >= CHANNELS_PER_CLIENT_MAX {
            return Err(ErrorCode::LIMIT_EXCEEDED);
        }
        if subscribe.kind != 0 {
            return Err(ErrorCode::NOT_AVAILABLE);
        }
        if subscribe.filtered {
            return Err(ErrorCode::BAD_REQUEST);
        }
        // A private channel needs a token, and no token can be proven without keys.
        if channel.starts_with('$') || !subscribe.token.is_empty() {
            return Err(ErrorCode::PERMISSION_DENIED);
        }
        // `room#ann,bob` is for ann and bob.
        let user = self.users.name(client.user);
        match channel.split_once('#') {
            Some((_, users)) if user.is_empty() || !users.split(',').any(|allowed| *allowed == *user) => {
                Err(ErrorCode::PERMISSION_DENIED)
            }
            _ => Ok(()),
        }
    }

    /// Puts a question to the channel's owner. If that is this shard, the answer is here at once.
    #[allow(clippy::too_many_arguments)] // Who asks, what, and where the answer goes: all of it is needed.
    fn ask(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        asker: Asker,
        client: Option<&mut Client>,
        channel: &str,
        ask: Ask,
        out: &mut Vec<u8>,
    ) -> Step {
        let owner = self.owner(channel);
        if owner != self.shard {
            let channel = Arc::from(channel);
            ports.post(owner, Letter::Ask { shard: self.shard, asker, channel, ask });
            return Step::Wait;
        }
        if matches!(ask, Ask::Publish { .. }) {
            // Replies written so far must not be overtaken by the publication.
            flush(ports, asker.conn, out);
        }
        let answer = self.own(ports, now, self.shard, channel, ask);
        if let Some(client) = client {
            self.apply(ports, asker, client, channel, answer, out);
        }
        Step::Replied
    }

    /// Answers as a channel's owner.
    fn own(&mut self, ports: &mut impl Ports, now: u64, shard: usize, channel: &str, ask: Ask) -> Answer {
        let slot = self.channels.open(channel);
        let size = self.options.history_size;
        let ttl = self.options.history_ttl_ms;
        let epoch = self.draw();
        let owned = self.channels.own(slot, || letters(epoch));
        owned.expire(now, ttl);
        match ask {
            Ask::Subscribe { watch, positioned, since, reject } => {
                let was_recovering = since.is_some();
                let missed = since.as_ref().and_then(|(offset, epoch)| owned.missed(*offset, epoch, PAGE_MAX));
                if was_recovering && missed.is_none() && reject {
                    return Answer::NotSubscribed(ErrorCode::UNRECOVERABLE_POSITION);
                }
                owned.shards |= 1 << shard;
                let offset = match (&missed, &since) {
                    // A client that recovered counts on from where it was.
                    (Some(_), Some((offset, _))) => *offset,
                    _ => owned.top,
                };
                let epoch = owned.epoch().to_owned();
                let position = positioned.then_some(Recovery { offset, epoch, was_recovering, missed });
                Answer::Subscribed { watch, position }
            }
            Ask::Publish { data, info } => {
                let offset = owned.publish(now, data.clone(), info.clone(), size);
                let offset = if size > 0 { offset } else { 0 };
                let epoch = owned.epoch().to_owned();
                self.counts.publications += 1;
                let info = info.as_deref().map(|(user, client)| ClientInfo { user, client });
                let frame =
                    self.encode(|out| write_publication(out, channel, &Publication { data: &data, offset, info }));
                self.fan_out(ports, slot, frame, false);
                self.channels.release(slot);
                Answer::Published { offset, epoch }
            }
            Ask::History { limit, since, reverse } => {
                let (top, epoch) = (owned.top, owned.epoch().to_owned());
                let answer = match since {
                    Some((_, wanted)) if !wanted.is_empty() && wanted != epoch => {
                        Answer::Refused(ErrorCode::UNRECOVERABLE_POSITION)
                    }
                    since => Answer::Page { page: owned.page(since.map(|since| since.0), reverse, limit), top, epoch },
                };
                self.channels.release(slot);
                answer
            }
        }
    }

    /// A text message as the WebSocket frame that all its receivers share.
    fn encode(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Arc<[u8]> {
        self.scratch.clear();
        write(&mut self.scratch);
        let header = message_header(MessageKind::Text, self.scratch.len());
        [header.as_bytes(), &self.scratch].concat().into()
    }

    /// Sends a frame to every shard that has members, this one included.
    fn fan_out(&mut self, ports: &mut impl Ports, slot: ChannelSlot, frame: Arc<[u8]>, watchers: bool) {
        let channel = self.channels.at(slot);
        let mut shards = channel.owned.as_ref().map_or(0, |owned| owned.shards);
        while shards != 0 {
            let shard = shards.trailing_zeros() as usize;
            shards &= shards - 1;
            if shard != self.shard {
                let (channel, frame) = (channel.name.clone(), frame.clone());
                ports.post(shard, Letter::Deliver { channel, frame, watchers });
            }
        }
        self.deliver(ports, slot, &frame, watchers);
    }

    fn deliver(&mut self, ports: &mut impl Ports, slot: ChannelSlot, frame: &[u8], watchers: bool) {
        let channel = self.channels.at(slot);
        let to = if watchers { &channel.watchers } else { &channel.members };
        if !watchers {
            self.counts.deliveries += to.len() as u64;
        }
        ports.send_all(to, frame);
    }

    /// Makes an owner's answer true here and writes the reply.
    fn apply(
        &mut self,
        ports: &mut impl Ports,
        asker: Asker,
        client: &mut Client,
        channel: &str,
        answer: Answer,
        out: &mut Vec<u8>,
    ) {
        match answer {
            Answer::Subscribed { watch, position } => {
                let slot = self.channels.open(channel);
                let entry = self.channels.at(slot);
                entry.arriving -= 1;
                entry.members.push(asker.conn);
                if watch {
                    entry.watchers.push(asker.conn);
                }
                client.subscriptions.insert(slot);
                write_subscribed(out, asker.id, position.as_ref());
                // The reply goes out before anything that the announcement may bring.
                flush(ports, asker.conn, out);
                self.announce(ports, client, channel, true);
            }
            Answer::Published { .. } => write_result(out, asker.id, "publish"),
            Answer::Page { page, top, epoch } => {
                let publications = page.iter().map(as_publication).collect();
                write_history(out, asker.id, &HistoryResult { publications, offset: top, epoch: &epoch });
            }
            Answer::NotSubscribed(error) => {
                self.not_arriving(ports, channel);
                write_error(out, asker.id, error);
            }
            Answer::Refused(error) => write_error(out, asker.id, error),
        }
    }

    /// A subscription that does not come about no longer keeps its channel.
    fn not_arriving(&mut self, ports: &mut impl Ports, channel: &str) {
        let Some(slot) = self.channels.find(channel) else { return };
        let entry = self.channels.at(slot);
        entry.arriving -= 1;
        let name = entry.name.clone();
        self.forget_if_last(ports, slot, name);
    }

    /// Tells the owner when this shard has no members any more, and gives the slot up if it can.
    fn forget_if_last(&mut self, ports: &mut impl Ports, slot: ChannelSlot, channel: Arc<str>) {
        let entry = self.channels.at(slot);
        if entry.members.is_empty() && entry.arriving == 0 {
            match self.owner(&channel) {
                owner if owner == self.shard => return self.left(self.shard, &channel),
                owner => ports.post(owner, Letter::Left { shard: self.shard, channel }),
            }
        }
        self.channels.release(slot);
    }

    /// Tells those who want to know that the client came or left.
    fn announce(&mut self, ports: &mut impl Ports, client: &Client, channel: &str, came: bool) {
        if !self.options.join_leave {
            return;
        }
        let (user, id) = (self.users.name(client.user), ClientId(client.id).to_string());
        let info = ClientInfo { user: &user, client: &id };
        let frame = match came {
            true => self.encode(|out| write_join(out, channel, &info)),
            false => self.encode(|out| write_leave(out, channel, &info)),
        };
        self.pass_on(ports, channel, frame);
    }

    fn pass_on(&mut self, ports: &mut impl Ports, channel: &str, frame: Arc<[u8]>) {
        let owner = self.owner(channel);
        if owner != self.shard {
            return ports.post(owner, Letter::Announce { channel: channel.into(), frame });
        }
        if let Some(slot) = self.channels.find(channel) {
            self.fan_out(ports, slot, frame, true);
        }
    }

    fn unsubscribe(&mut self, ports: &mut impl Ports, conn: ConnId, client: &mut Client, channel: &str) {
        if let Some(slot) = self.channels.find(channel)
            && client.subscriptions.remove(slot)
        {
            self.leave(ports, conn, client, slot);
        }
    }

    /// Takes a member out of a channel.
    fn leave(&mut self, ports: &mut impl Ports, conn: ConnId, client: &Client, slot: ChannelSlot) {
        let channel = self.channels.at(slot);
        channel.members.retain(|&member| member != conn);
        channel.watchers.retain(|&watcher| watcher != conn);
        let name = channel.name.clone();
        self.announce(ports, client, &name, false);
        self.forget_if_last(ports, slot, name);
    }

    /// The owner hears that a shard has no members any more.
    fn left(&mut self, shard: usize, channel: &str) {
        if let Some(slot) = self.channels.find(channel) {
            if let Some(owned) = &mut self.channels.at(slot).owned {
                owned.shards &= !(1 << shard);
            }
            self.channels.release(slot);
        }
    }

    fn presence(
        &mut self,
        ports: &mut impl Ports,
        asker: Asker,
        channel: &str,
        stats: bool,
        out: &mut Vec<u8>,
    ) -> Step {
        if let Err(error) = check_channel(channel) {
            return refuse(out, asker.id, error);
        }
        if !self.options.presence {
            return refuse(out, asker.id, ErrorCode::NOT_AVAILABLE);
        }
        let gather = Gather { asker, stats, missing: self.shards, present: Vec::new() };
        let at = self.gathers.iter().position(Option::is_none).unwrap_or_else(|| {
            self.gathers.push(None);
            self.gathers.len() - 1
        });
        self.gathers[at] = Some(gather);
        let channel: Arc<str> = channel.into();
        for shard in 0..self.shards {
            let (channel, gather) = (channel.clone(), at as u32);
            // This shard too is asked by letter: then its members' ids are looked up in one place only.
            ports.post(shard, Letter::WhoIsThere { shard: self.shard, gather, channel });
        }
        Step::Wait
    }

    fn history(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        asker: Asker,
        client: &mut Client,
        history: &History<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        if let Err(error) = check_channel(&history.channel) {
            return refuse(out, asker.id, error);
        }
        if self.options.history_size == 0 {
            return refuse(out, asker.id, ErrorCode::NOT_AVAILABLE);
        }
        if history.reverse && history.since.as_ref().is_some_and(|since| since.offset == 0) {
            return refuse(out, asker.id, ErrorCode::BAD_REQUEST);
        }
        let limit = usize::try_from(history.limit).map_or(PAGE_MAX, |limit| limit.min(PAGE_MAX));
        let since = history.since.as_ref().map(|since| (since.offset, since.epoch.to_string()));
        let ask = Ask::History { limit, since, reverse: history.reverse };
        self.ask(ports, now, asker, Some(client), &history.channel, ask, out)
    }

    /// A publication by the server's own API. The answer comes at once, or as [`Woken::Answered`].
    pub fn publish(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        conn: ConnId,
        channel: &str,
        data: &[u8],
    ) -> Result<Option<Answer>, ErrorCode> {
        check_channel(channel)?;
        let ask = Ask::Publish { data: data.into(), info: None };
        let owner = self.owner(channel);
        if owner == self.shard {
            return Ok(Some(self.own(ports, now, self.shard, channel, ask)));
        }
        let asker = Asker { conn, id: 0 };
        ports.post(owner, Letter::Ask { shard: self.shard, asker, channel: channel.into(), ask });
        Ok(None)
    }

    /// Takes a letter of another hub. If that ends somebody's waiting, who and with what.
    pub fn on_letter<'c>(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        letter: Letter,
        client_of: impl Fn(ConnId) -> Option<&'c Client>,
    ) -> Option<Woken> {
        match letter {
            Letter::Ask { shard, asker, channel, ask } => {
                let answer = self.own(ports, now, shard, &channel, ask);
                ports.post(shard, Letter::Answer { asker, channel, answer });
                None
            }
            Letter::Answer { asker, channel, answer } => Some(Woken::Answered { asker, channel, answer }),
            Letter::Left { shard, channel } => {
                self.left(shard, &channel);
                None
            }
            Letter::Announce { channel, frame } => {
                self.pass_on(ports, &channel, frame);
                None
            }
            Letter::Deliver { channel, frame, watchers } => {
                if let Some(slot) = self.channels.find(&channel) {
                    self.deliver(ports, slot, &frame, watchers);
                }
                None
            }
            Letter::WhoIsThere { shard, gather, channel } => {
                let slot = self.channels.find(&channel);
                let members = slot.map(|slot| self.channels.at(slot).members.clone()).unwrap_or_default();
                let clients = members.into_iter().filter_map(client_of);
                let name =
                    |client: &Client| (self.users.name(client.user).to_string(), ClientId(client.id).to_string());
                let present = clients.map(name).collect();
                ports.post(shard, Letter::These { gather, present });
                None
            }
            Letter::These { gather, mut present } => {
                let entry = self.gathers[gather as usize].as_mut().expect("a question is open until all have answered");
                entry.present.append(&mut present);
                entry.missing -= 1;
                if entry.missing > 0 {
                    return None;
                }
                let Gather { asker, stats, present, .. } = self.gathers[gather as usize].take()?;
                Some(Woken::Gathered { asker, stats, present })
            }
        }
    }

    /// Goes on with a client whose waiting has ended: the reply, then the commands behind.
    pub fn wake(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        client: &mut Client,
        woken: Woken,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let rest = client.waiting.take().unwrap_or_default();
        let conn = match woken {
            Woken::Answered { asker, channel, answer } => {
                self.apply(ports, asker, client, &channel, answer, out);
                asker.conn
            }
            Woken::Gathered { asker, stats, mut present } => {
                if stats {
                    let clients = present.len();
                    present.sort_unstable();
                    present.dedup_by(|a, b| a.0 == b.0);
                    write_presence_stats(out, asker.id, clients, present.len());
                } else {
                    let infos = present.iter().map(|(user, client)| ClientInfo { user, client });
                    write_presence(out, asker.id, infos);
                }
                asker.conn
            }
        };
        end_line(out);
        if rest.is_empty() { Outcome::Continue } else { self.receive(ports, now, conn, client, &rest, out) }
    }

    /// Drops an answer whose client left while it waited.
    pub fn orphan(&mut self, ports: &mut impl Ports, woken: Woken) {
        if let Woken::Answered { channel, answer: Answer::Subscribed { .. } | Answer::NotSubscribed(_), .. } = woken {
            self.not_arriving(ports, &channel);
        }
    }

    /// Looks at a session, as happens every five seconds.
    pub fn visit(&mut self, ports: &mut impl Ports, conn: ConnId, client: &mut Client) -> Outcome {
        client.visits += 1;
        match client.phase {
            Phase::New | Phase::Refused if client.visits >= STALE_VISITS => return Outcome::Close(Disconnect::STALE),
            Phase::New | Phase::Refused => {}
            Phase::Connected if client.ping_outstanding => {
                if client.visits % VISITS_PER_PING >= PONG_VISITS {
                    return Outcome::Close(Disconnect::NO_PONG);
                }
            }
            Phase::Connected if client.visits >= VISITS_PER_PING => {
                client.visits = 0;
                client.ping_outstanding = true;
                ports.send(conn, b"{}");
            }
            Phase::Connected => {}
        }
        Outcome::Continue
    }

    /// Forgets history that is too old.
    pub fn expire(&mut self, now: u64) {
        self.channels.expire(now, self.options.history_ttl_ms);
    }

    /// A client is gone.
    pub fn remove(&mut self, ports: &mut impl Ports, conn: ConnId, client: &mut Client) {
        if client.phase != Phase::Connected {
            return;
        }
        client.phase = Phase::Refused;
        let subscriptions = std::mem::take(&mut client.subscriptions);
        for &slot in subscriptions.as_slice() {
            self.leave(ports, conn, client, slot);
        }
        self.users.leave(client.user);
        self.clients -= 1;
    }
}

/// Whose waiting has ended, and with what.
#[derive(Clone, Debug)]
pub enum Woken {
    /// The channel's owner answered.
    Answered {
        /// Who.
        asker: Asker,
        /// About what.
        channel: Arc<str>,
        /// What.
        answer: Answer,
    },
    /// Every shard told who is there.
    Gathered {
        /// Who.
        asker: Asker,
        /// Only how many.
        stats: bool,
        /// User and client id of each.
        present: Vec<(String, String)>,
    },
}

impl Woken {
    /// Who waited.
    pub fn asker(&self) -> Asker {
        match self {
            Woken::Answered { asker, .. } | Woken::Gathered { asker, .. } => *asker,
        }
    }
}

fn refuse(out: &mut Vec<u8>, id: u32, error: ErrorCode) -> Step {
    write_error(out, id, error);
    Step::Replied
}

/// Replies are joined by line ends into one message.
fn end_line(out: &mut Vec<u8>) {
    if !out.is_empty() && !out.ends_with(b"\n") {
        out.push(b'\n');
    }
}

/// Sends the replies written so far as one message.
pub fn flush(ports: &mut impl Ports, conn: ConnId, out: &mut Vec<u8>) {
    let text = out.strip_suffix(b"\n").unwrap_or(out);
    if !text.is_empty() {
        ports.send(conn, text);
    }
    out.clear();
}

fn check_channel(channel: &str) -> Result<(), ErrorCode> {
    let good =
        (1..=CHANNEL_BYTES_MAX).contains(&channel.len()) && channel.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if good { Ok(()) } else { Err(ErrorCode::BAD_REQUEST) }
}

/// The name that a client gives itself in `connect`'s data: `{"user": "ann"}`. Nothing proves it.
fn claimed_user(data: &[u8]) -> String {
    let members = Value::of(data).members().into_iter().flatten();
    let user = members.filter(|(name, _)| name == "user").find_map(|(_, value)| value.string());
    user.map(|user| user.into_owned()).unwrap_or_default()
}

fn as_publication(stored: &Stored) -> Publication<'_> {
    let info = stored.info.as_deref().map(|(user, client)| ClientInfo { user, client });
    Publication { data: &stored.data, offset: stored.offset, info }
}

fn write_subscribed(out: &mut Vec<u8>, id: u32, position: Option<&Recovery>) {
    let mut result = SubscribeResult::default();
    if let Some(position) = position {
        result.recoverable = true;
        result.offset = position.offset;
        result.epoch = &position.epoch;
        result.was_recovering = position.was_recovering;
        result.recovered = position.missed.is_some();
        result.publications = position.missed.iter().flatten().map(as_publication).collect();
    }
    write_subscribe(out, id, &result);
}

/// Four letters of sixty-four bits.
fn letters(bits: u64) -> [u8; 4] {
    std::array::from_fn(|at| b'a' + ((bits >> (at * 16)) % 26) as u8)
}

#[cfg(test)]
mod tests;
