//! Sessions begin, are refreshed, and end.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use annulus_engine::ConnId;
use annulus_protocols::centrifuge::{
    Connect, ConnectResult, Disconnect, ErrorCode, Payload, RefreshResult, Unsubscribed, write_connect, write_ping,
    write_refresh,
};
use annulus_protocols::json::Value;

use super::subscribe::{as_json, result_of};
use super::{Hub, Outcome, Ports, Step, Turn, USER_BYTES_MAX, VISIT_SECONDS};
use crate::chat::channel::{Apart, KEPT_FRAMES_MAX};
use crate::chat::config::hooks::OWN;
use crate::chat::dialect::Carrier;
use crate::chat::emulation::Place;
use crate::chat::evidence::{Connecting, Found};
use crate::chat::hooks::wire::{self, Question};
use crate::chat::hooks::{HookError, Kind, Unfit, Verdict};
use crate::chat::letters::{Granted, Joined, Letter, Order, Purpose, Reply, Target, Work};
use crate::chat::sanctions::Kind as Forbidden;
use crate::chat::session::{ChannelSlot, Client, ClientId, ClientText, Phase, Waits};
use crate::chat::tokens::{ConnectionClaims, SubOptions, TokenError};
use crate::jose::Weight;

/// What a server says it is.
const VERSION: &str = concat!("annulus ", env!("CARGO_PKG_VERSION"));
/// Bytes of an SDK's name and of its version. Beyond: disconnect 3501.
const NAME_BYTES_MAX: usize = 16;
const VERSION_BYTES_MAX: usize = 64;
/// What a session lives on in seconds when its backend could not be asked whether it may.
const GRACE_SECONDS: u64 = wire::REFRESH_GRACE_SECONDS as u64;

/// Who a client is, and what comes with that.
#[derive(Default)]
struct Credentials {
    user: String,
    /// Unix seconds; 0: never.
    expires_at: u64,
    /// The client refreshes it itself, and is told when.
    client_refreshes: bool,
    info: Option<Vec<u8>>,
    meta: Option<Vec<u8>>,
    data: Option<Vec<u8>>,
    granted: Vec<Granted>,
    namespaces: Option<Vec<String>>,
}

impl Hub {
    pub(super) fn connect(&mut self, turn: &mut Turn<'_, impl Ports>, connect: &Connect<'_>) -> Step {
        if connect.name.len() > NAME_BYTES_MAX || connect.version.len() > VERSION_BYTES_MAX {
            return Step::Close(Disconnect::BAD_REQUEST);
        }
        let mut credentials = match self.credentials(turn, connect) {
            Ok(credentials) => credentials,
            Err(step) => return step,
        };
        if credentials.user.len() > USER_BYTES_MAX {
            turn.client.phase = Phase::Refused;
            return turn.refuse(ErrorCode::BAD_REQUEST);
        }
        self.add_personal(&mut credentials);
        // Each channel once: what says more of it comes first.
        let mut known = HashSet::new();
        credentials.granted.retain(|granted| known.insert(granted.channel.clone()));
        if self.is_banned(turn.now, &credentials.user, "") {
            return Step::Close(Disconnect::BANNED);
        }
        credentials.granted.retain(|granted| !self.is_banned(turn.now, &credentials.user, &granted.channel));
        if let Err(step) = self.check_granted(turn, &credentials.granted) {
            return step;
        }
        if !self.common.counted.enter(&credentials.user) {
            return Step::Close(Disconnect::CONNECTION_LIMIT);
        }
        self.begin(turn, &credentials);
        self.cut_older(turn.ports, turn.client, &credentials.user);
        let ttl = match credentials.client_refreshes {
            true => Some(credentials.expires_at.saturating_sub(turn.now / 1000)).filter(|ttl| *ttl > 0),
            false => None,
        };
        let missing = credentials.granted.len();
        let granted: Vec<Granted> = credentials.granted;
        let subscriptions = granted.iter().map(|granted| (granted.clone(), None)).collect();
        let connecting = Connecting { id: turn.id, data: credentials.data, ttl, subscriptions, missing };
        if missing == 0 {
            self.write_connected(turn.conn, turn.client, turn.now, &connecting, turn.out);
            return Step::Replied;
        }
        turn.evidence.connecting = Some(Box::new(connecting));
        for granted in &granted {
            let position = connect.subs.iter().find(|sub| sub.recover && *sub.channel == *granted.channel);
            let since = position.map(|sub| (sub.since.offset, sub.since.epoch.to_string()));
            self.ask_aside(turn.ports, turn.now, turn.conn, turn.client, granted, since);
        }
        Step::Asked
    }

    fn is_banned(&mut self, now: u64, user: &str, channel: &str) -> bool {
        let is_banned = self.sanctions.until(now / 1000, Forbidden::Ban, user, channel).is_some();
        self.counts.sanctioned += u64::from(is_banned);
        is_banned
    }

    /// Makes the connection a client.
    fn begin(&mut self, turn: &mut Turn<'_, impl Ports>, credentials: &Credentials) {
        turn.client.user = self.users.enter(&credentials.user);
        let (high, low) = (self.draw(), self.draw());
        turn.client.id = ClientId(((high as u128) << 64 | low as u128).to_be_bytes());
        turn.client.phase = Phase::Connected;
        turn.client.expires_at = u32::try_from(credentials.expires_at).unwrap_or(u32::MAX);
        // The first ping comes after half an interval to a whole one, drawn per client, so that clients that came
        // together part.
        turn.client.visits = (self.draw() % u64::from(self.visits_per_ping() / 2 + 1)) as u8;
        let is_usual = credentials.info.is_none() && credentials.meta.is_none() && credentials.namespaces.is_none();
        if !is_usual {
            let extra = turn.client.extra_mut();
            extra.namespaces = credentials.namespaces.as_deref().map(Arc::from);
            extra.conn_info = credentials.info.as_deref().map(Arc::from);
            extra.meta = credentials.meta.as_deref().map(Arc::from);
        }
        self.clients += 1;
        self.note_client(turn.ports, turn.now, turn.client, true);
    }

    fn credentials(&mut self, turn: &mut Turn<'_, impl Ports>, connect: &Connect<'_>) -> Result<Credentials, Step> {
        let common = self.common.clone();
        if !connect.token.is_empty() {
            return self.by_token(turn, &connect.token);
        }
        if let Some(user) = turn.client.extra.as_mut().and_then(|extra| extra.user.take()) {
            return Ok(Credentials { user, ..Credentials::default() });
        }
        if common.config.hooks.connect.is_some()
            && let Some(credentials) = self.by_hook(turn, connect)?
        {
            return Ok(credentials);
        }
        if common.config.is_insecure() {
            let user = connect.data.map(claimed_user).unwrap_or_default();
            return Ok(Credentials { user, ..Credentials::default() });
        }
        match common.config.client.allow_anonymous_connect_without_token {
            true => Ok(Credentials::default()),
            false => Err(Step::Close(Disconnect::BAD_REQUEST)),
        }
    }

    fn by_token(&mut self, turn: &mut Turn<'_, impl Ports>, token: &str) -> Result<Credentials, Step> {
        let common = self.common.clone();
        let claims = match self.connection_claims(turn, token)? {
            Ok(claims) => claims,
            Err(error) => {
                let refusal = match error {
                    TokenError::Expired => ErrorCode::TOKEN_EXPIRED,
                    TokenError::KeyPending | TokenError::KeysUnavailable => ErrorCode::INTERNAL,
                    TokenError::Invalid(_) | TokenError::UnknownKey(_) => {
                        return Err(Step::Close(Disconnect::INVALID_TOKEN));
                    }
                };
                turn.client.phase = Phase::Refused;
                return Err(turn.refuse(refusal));
            }
        };
        if claims.user.is_empty() && common.config.client.disallow_anonymous_tokens {
            return Err(Step::Close(Disconnect::PERMISSION_DENIED));
        }
        let expires_at = claims.expires_at.filter(|_| !common.config.is_insecure()).unwrap_or(0);
        if expires_at > 0 && expires_at <= turn.now / 1000 {
            turn.client.phase = Phase::Refused;
            return Err(turn.refuse(ErrorCode::TOKEN_EXPIRED));
        }
        let channels = claims.channels.into_iter().map(|channel| (channel, SubOptions::default()));
        let granted = claims.subs.into_iter().chain(channels).map(|(channel, options)| Granted {
            channel,
            expires_at: 0,
            info: options.info.as_ref().and_then(|info| info.json()).map(<[u8]>::to_vec),
            data: options.data.as_ref().map(|data| data.bytes().to_vec()),
            overrides: options.overrides.into(),
        });
        Ok(Credentials {
            user: claims.user,
            expires_at,
            client_refreshes: common.config.hooks.refresh.is_none(),
            info: claims.info.as_ref().and_then(|info| info.json()).map(<[u8]>::to_vec),
            meta: claims.meta,
            data: None,
            granted: granted.collect(),
            namespaces: claims.namespaces,
        })
    }

    /// What a connection token says, at once or from a compute thread.
    fn connection_claims(
        &mut self,
        turn: &mut Turn<'_, impl Ports>,
        token: &str,
    ) -> Result<Result<ConnectionClaims, TokenError>, Step> {
        let verifiers = self.verifiers.clone();
        let verifier = &verifiers.connection;
        if let Some(claims) = turn.evidence.connection.take() {
            return Ok(claims);
        }
        if verifier.signatures.weight(token, turn.now / 1000) == Weight::Compute {
            return Err(turn.work(Work::ConnectionToken(verifiers.clone(), token.to_owned())));
        }
        match verifier.verify_connection(token, turn.now / 1000) {
            // Its key is to be fetched first.
            Err(TokenError::KeyPending) => Err(turn.work(Work::ConnectionToken(verifiers.clone(), token.to_owned()))),
            claims => Ok(verifier.signatures.tentatively(claims)),
        }
    }

    /// Who the backend says it is; `None`: it does not know either.
    fn by_hook(&mut self, turn: &mut Turn<'_, impl Ports>, connect: &Connect<'_>) -> Result<Option<Credentials>, Step> {
        let Some(answer) = turn.evidence.hook.take() else {
            let common = self.common.clone();
            let wanted: Vec<&String> = common.config.hooks.all().flat_map(|(_, _, hook)| &hook.http_headers).collect();
            let is_wanted = |name: &str| wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(name));
            let emulated = connect.headers.iter().filter(|(name, _)| is_wanted(name));
            let emulated = emulated.map(|(name, value)| (name.to_string(), value.to_string())).collect();
            turn.client.extra_mut().emulated = emulated;
            let channels: Vec<&str> = connect.subs.iter().map(|sub| &*sub.channel).collect();
            let data = connect.data.unwrap_or_default();
            let question =
                Question::Connect { data, name: &connect.name, version: &connect.version, channels: &channels };
            return Err(self.ask_backend(turn, OWN, &question));
        };
        let verdict = self.verdict(turn.ports, (Kind::Connect, OWN), &answer, wire::read_connect);
        let connected = match verdict {
            Verdict::Result(connected) => connected,
            Verdict::Error(refusal) => {
                turn.client.phase = Phase::Refused;
                return Err(turn.refuse(refusal.into()));
            }
            Verdict::Disconnect(close) => return Err(Step::Close(close.into())),
        };
        Ok(connected.map(|connected| {
            let channels = connected.channels.into_iter().map(|channel| (channel, wire::Subscribed::default()));
            let granted = connected.subs.into_iter().chain(channels).map(|(channel, options)| Granted {
                channel: channel.into_owned(),
                expires_at: u64::try_from(options.expire_at).unwrap_or(0),
                info: options.info.as_ref().and_then(as_json),
                data: options.data.map(|data| data.bytes.into_owned()),
                overrides: options.overrides,
            });
            Credentials {
                user: connected.user.into_owned(),
                expires_at: u64::try_from(connected.expire_at).unwrap_or(0),
                client_refreshes: false,
                info: connected.info.as_ref().and_then(as_json),
                meta: connected.meta.map(<[u8]>::to_vec),
                data: connected.data.map(|data| data.bytes.into_owned()),
                granted: granted.collect(),
                namespaces: connected.namespaces.map(|names| names.into_iter().map(Cow::into_owned).collect()),
            }
        }))
    }

    /// Begins to ask the backend for the command at hand.
    pub(super) fn ask_backend(&mut self, turn: &mut Turn<'_, impl Ports>, name: &str, question: &Question<'_>) -> Step {
        match self.hook_work(turn.client, Purpose::Command, name, question) {
            Some(work) => turn.work(work),
            // Only bytes that are no JSON cannot be asked about.
            None => turn.refuse(ErrorCode::BAD_REQUEST),
        }
    }

    fn hook_work(&self, client: &Client, purpose: Purpose, name: &str, question: &Question<'_>) -> Option<Work> {
        let kind = question.kind();
        let settings = self.common.config.hooks.named(kind, name);
        let (id, user) = (ClientText::from(client.id), self.users.name(client.user));
        let is_new = client.phase == Phase::New;
        let (sent, emulated, meta) = match &client.extra {
            Some(extra) => (extra.sent.clone(), extra.emulated.clone(), extra.meta.as_deref()),
            None => (Vec::new(), Vec::new(), None),
        };
        let asker = wire::Asker {
            client: if is_new { "" } else { id.as_str() },
            user,
            transport: client.dialect.carrier().name(),
            protocol: match client.dialect.codec() {
                annulus_protocols::centrifuge::Codec::Json => "json",
                annulus_protocols::centrifuge::Codec::Protobuf => "protobuf",
            },
            meta: meta.filter(|_| settings.is_some_and(|hook| hook.include_connection_meta)),
        };
        let mut body = Vec::new();
        let binary = settings.is_some_and(|hook| hook.binary_encoding);
        wire::write_question(&mut body, &asker, question, binary).ok()?;
        Some(Work::Hook { purpose, hook: (kind, name.to_owned()), body, sent, emulated })
    }

    /// What a backend's answer, or its absence, says.
    pub(super) fn verdict<'a, R>(
        &mut self,
        ports: &mut impl Ports,
        hook: (Kind, &str),
        answer: &'a Result<Vec<u8>, HookError>,
        read: impl FnOnce(&'a [u8]) -> Result<Verdict<'a, R>, Unfit>,
    ) -> Verdict<'a, R> {
        match answer.as_ref().map(|body| read(body)) {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(unfit)) => {
                ports.unfit(hook, &unfit);
                Verdict::Error(ErrorCode::INTERNAL.into())
            }
            Err(error) => error.clone().verdict(hook.0),
        }
    }

    fn add_personal(&self, credentials: &mut Credentials) {
        let config = &self.common.config;
        if let Some(personal) = config.client.personal_channel.as_ref().filter(|_| !credentials.user.is_empty()) {
            let channel = config.channels.personal(&personal.namespace, &credentials.user);
            if !credentials.granted.iter().any(|granted| granted.channel == channel) {
                credentials.granted.push(Granted { channel, ..Granted::default() });
            }
        }
    }

    /// Where a user may have one connection only, the newest wins.
    fn cut_older(&self, ports: &mut impl Ports, client: &mut Client, user: &str) {
        let personal = self.common.config.client.personal_channel.as_ref();
        if user.is_empty() || !personal.is_some_and(|personal| personal.single_connection) {
            return;
        }
        let number = self.common.connects.fetch_add(1, Ordering::Relaxed) + 1;
        client.extra_mut().number = number;
        let target = Target { user: user.to_owned(), ..Target::default() };
        let (disconnect, before) = (Disconnect::CONNECTION_LIMIT, Some(number));
        let order = Arc::new(Order::Disconnect { target, disconnect, before });
        for shard in 0..self.shards {
            // How many it concerned nobody wants to know.
            let (ticket, _) = annulus_engine::compute::ticket();
            ports.post(shard, Letter::Order { order: order.clone(), reply: Reply(ticket) });
        }
    }

    /// Whether the server may subscribe a client to so many, and to these.
    fn check_granted(&self, turn: &mut Turn<'_, impl Ports>, granted: &[Granted]) -> Result<(), Step> {
        if granted.len() > self.common.config.client.channel_limit {
            return Err(Step::Close(Disconnect::CHANNEL_LIMIT));
        }
        for granted in granted {
            if let Err(error) = self.namespace(&granted.channel) {
                turn.client.phase = Phase::Refused;
                return Err(turn.refuse(error));
            }
        }
        Ok(())
    }

    /// The owner has answered for one of the subscriptions that come with `connect`.
    pub(super) fn joined_in_connect(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        conn: ConnId,
        client: &mut Client,
        channel: &str,
        answer: Result<Joined, ErrorCode>,
    ) {
        let Some(held) = client.held.as_mut().filter(|held| held.waits == Waits::Owner) else { return };
        let Some(connecting) = &mut held.evidence.connecting else { return };
        connecting.missing -= 1;
        let is_last = connecting.missing == 0;
        let at = connecting.subscriptions.iter().position(|(granted, _)| granted.channel == channel);
        let granted = at.map(|at| connecting.subscriptions[at].0.clone()).unwrap_or_default();
        let answer = match self.forbidden(now, Forbidden::Ban, client, channel) {
            None => answer,
            Some(banned_since) => Err(banned_since),
        };
        let Some(held) = client.held.as_mut() else { return };
        let Some(connecting) = &mut held.evidence.connecting else { return };
        match answer {
            Err(_) => {
                if let Some(at) = at {
                    connecting.subscriptions.swap_remove(at);
                }
                self.not_arriving(ports, now, channel);
            }
            Ok(joined) => {
                if let Some(at) = at {
                    connecting.subscriptions[at].1 = Some(joined.clone());
                }
                self.count_subscription(channel);
                let slot = self.enter(conn, client, channel, &granted, true, &joined);
                self.note_member(ports, now, client, slot, true);
                // Whatever is published before the reply has left must wait for that.
                self.keep_apart(conn, slot, joined.top);
            }
        }
        if is_last {
            self.connected(ports, now, conn, client);
        }
    }

    fn keep_apart(&mut self, conn: ConnId, slot: ChannelSlot, top: u64) {
        let channel = self.channels.at(slot);
        let has_history = self.common.config.channels.namespace(&channel.name).is_some_and(|ns| ns.has_history());
        let apart = match has_history {
            true => Apart::Behind { offset: top, asked: true },
            false => Apart::Kept { frames: VecDeque::new(), most: KEPT_FRAMES_MAX },
        };
        channel.rare_mut().apart.insert(conn, apart);
    }

    /// All subscriptions that come with `connect` are there: its reply, what was published meanwhile, and the commands
    /// behind it.
    fn connected(&mut self, ports: &mut impl Ports, now: u64, conn: ConnId, client: &mut Client) {
        let connecting = client.held.as_mut().and_then(|held| held.evidence.connecting.take()).unwrap_or_default();
        let mut out = Vec::new();
        self.write_connected(conn, client, now, &connecting, &mut out);
        ports.send(conn, client.dialect, &out);
        for &subscription in client.subscriptions.as_slice() {
            let rare = self.channels.at(subscription.slot()).rare.as_mut();
            if let Some(Apart::Behind { asked, .. }) = rare.and_then(|rare| rare.apart.get_mut(&conn)) {
                *asked = false;
            }
        }
        let slots: Vec<_> = client.subscriptions.as_slice().iter().map(|subscription| subscription.slot()).collect();
        self.drained(ports, now, conn, client);
        for slot in slots {
            self.announce(ports, client, slot, true);
        }
        self.go_on(ports, now, conn, client);
    }

    fn write_connected(&self, conn: ConnId, client: &Client, now: u64, connecting: &Connecting, out: &mut Vec<u8>) {
        let config = &self.common.config.client;
        let (session, node) = match client.dialect.carrier() {
            Carrier::WebSocket => (String::new(), ""),
            Carrier::HttpStream | Carrier::EventStream => {
                (self.common.sessions.name(Place { shard: self.shard, conn }), &*self.common.config.uid)
            }
        };
        let id = ClientText::from(client.id);
        let joined = connecting.subscriptions.iter().filter_map(|(granted, joined)| Some((granted, joined.as_ref()?)));
        let subs: Vec<_> = joined.map(|(granted, joined)| (&*granted.channel, result_of(granted, joined, 0))).collect();
        let pings = config.ping_interval_ms > 0 && !client.native_ping;
        let result = ConnectResult {
            client: id.as_str(),
            version: VERSION,
            expires: connecting.ttl.is_some(),
            ttl: connecting.ttl.map_or(0, |ttl| u32::try_from(ttl).unwrap_or(u32::MAX)),
            data: connecting.data.as_deref().map(Payload::of),
            subs: &subs,
            ping_seconds: if pings { (config.ping_interval_ms / 1000).max(1) as u32 } else { 0 },
            pong: pings && config.pong_timeout_ms > 0,
            session: &session,
            node,
            time_ms: if config.include_server_time { now } else { 0 },
        };
        write_connect(client.dialect.codec(), out, connecting.id, &result);
    }

    pub(super) fn refresh(&mut self, turn: &mut Turn<'_, impl Ports>, token: &str) -> Step {
        if token.is_empty() || self.common.config.hooks.refresh.is_some() {
            return Step::Close(Disconnect::BAD_REQUEST);
        }
        let claims = match self.connection_claims(turn, token) {
            Ok(Ok(claims)) => claims,
            Ok(Err(TokenError::Expired)) => return Step::Close(Disconnect::CONNECTION_EXPIRED),
            Ok(Err(TokenError::KeyPending | TokenError::KeysUnavailable)) => return turn.refuse(ErrorCode::INTERNAL),
            Ok(Err(_)) => return Step::Close(Disconnect::INVALID_TOKEN),
            Err(step) => return step,
        };
        if *claims.user != *self.users.name(turn.client.user) {
            return Step::Close(Disconnect::INVALID_TOKEN);
        }
        let now = turn.now / 1000;
        let expires_at = claims.expires_at.unwrap_or(0);
        if expires_at > 0 && expires_at <= now {
            return turn.refuse(ErrorCode::EXPIRED);
        }
        turn.client.expires_at = u32::try_from(expires_at).unwrap_or(u32::MAX);
        if claims.namespaces.is_some() || turn.client.extra.is_some() {
            turn.client.extra_mut().namespaces = claims.namespaces.as_deref().map(Arc::from);
        }
        let id = ClientText::from(turn.client.id);
        let ttl = u32::try_from(expires_at.saturating_sub(now)).unwrap_or(u32::MAX);
        let result = RefreshResult { client: id.as_str(), version: VERSION, expires: expires_at > 0, ttl };
        write_refresh(turn.codec(), turn.out, turn.id, &result);
        Step::Replied
    }

    fn visits_per_ping(&self) -> u8 {
        let visits = self.common.config.client.ping_interval_ms / 1000 / VISIT_SECONDS;
        visits.clamp(1, 60) as u8
    }

    /// Looks at a session, as happens every five seconds.
    pub fn visit(&mut self, ports: &mut impl Ports, now: u64, conn: ConnId, client: &mut Client) -> Outcome {
        let config = &self.common.clone().config.client;
        client.visits = client.visits.saturating_add(1);
        let visits_in = |ms: u64| (ms / 1000).div_ceil(VISIT_SECONDS).clamp(1, 250) as u8;
        if client.phase != Phase::Connected {
            // It is looked at for the first time up to five seconds after it came.
            let stale = config.stale_close_delay_ms > 0 && client.visits > visits_in(config.stale_close_delay_ms);
            return if stale { Outcome::Close(Disconnect::STALE) } else { Outcome::Continue };
        }
        if let Some(disconnect) = self.look_at_ends(ports, now, conn, client) {
            return Outcome::Close(disconnect);
        }
        let every = self.visits_per_ping();
        if client.ping_outstanding {
            if config.pong_timeout_ms > 0 && client.visits >= visits_in(config.pong_timeout_ms).min(every) {
                return Outcome::Close(Disconnect::NO_PONG);
            }
        } else if config.ping_interval_ms > 0 && client.visits >= every {
            client.visits = 0;
            match client.native_ping {
                true => ports.ping(conn),
                false => {
                    client.ping_outstanding = config.pong_timeout_ms > 0;
                    let mut out = Vec::new();
                    write_ping(client.dialect.codec(), &mut out);
                    ports.send(conn, client.dialect, &out);
                }
            }
        }
        Outcome::Continue
    }

    /// Whether the time of the connection, or of a subscription, is over.
    fn look_at_ends(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        conn: ConnId,
        client: &mut Client,
    ) -> Option<Disconnect> {
        let common = self.common.clone();
        let config = &common.config;
        let seconds = now / 1000;
        let ends_at = u64::from(client.expires_at);
        if ends_at > 0 && seconds >= ends_at {
            let is_asked = client.extra.as_ref().is_some_and(|extra| extra.refreshing);
            if config.hooks.refresh.is_some() {
                if !is_asked && let Some(work) = self.hook_work(client, Purpose::Refresh, OWN, &Question::Refresh) {
                    client.extra_mut().refreshing = true;
                    ports.begin(conn, work);
                }
            } else if seconds >= ends_at + config.client.expired_close_delay_ms / 1000 {
                return Some(Disconnect::CONNECTION_EXPIRED);
            }
        }
        let over = |extra: &&crate::chat::session::SubscriptionExtra| {
            extra.expires_at > 0 && seconds >= extra.expires_at && !extra.refreshing
        };
        let over: Vec<(ChannelSlot, u64)> = match &client.extra {
            None => return None,
            Some(extra) => {
                extra.subscriptions.iter().filter(over).map(|extra| (extra.slot, extra.expires_at)).collect()
            }
        };
        for (slot, ends_at) in over {
            self.look_at_subscription(ports, now, conn, client, slot, ends_at);
            if client.phase != Phase::Connected {
                return None;
            }
        }
        None
    }

    fn look_at_subscription(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        conn: ConnId,
        client: &mut Client,
        slot: ChannelSlot,
        ends_at: u64,
    ) {
        let common = self.common.clone();
        let channel = self.channels.at(slot).name.clone();
        let hook = common.config.channels.namespace(&channel).and_then(|namespace| namespace.sub_refresh_hook.as_ref());
        if let Some(hook) = hook {
            let question = Question::SubRefresh { channel: &channel };
            if let Some(work) = self.hook_work(client, Purpose::SubRefresh(channel.clone()), hook, &question) {
                let extra = client.extra_mut().subscriptions.iter_mut().find(|extra| extra.slot == slot);
                extra.into_iter().for_each(|extra| extra.refreshing = true);
                return ports.begin(conn, work);
            }
        }
        if now / 1000 >= ends_at + common.config.client.expired_sub_close_delay_ms / 1000 {
            self.expel(ports, now, conn, client, slot, &Unsubscribed::EXPIRED);
        }
    }

    /// Something that no command waits for has been found out.
    pub(super) fn on_found_aside(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        conn: ConnId,
        client: &mut Client,
        found: Found,
    ) {
        let Found::Hook(purpose, answer) = found else { return };
        if client.phase != Phase::Connected {
            return;
        }
        let seconds = now / 1000;
        match purpose {
            Purpose::Command => {}
            Purpose::Refresh => {
                client.extra_mut().refreshing = false;
                let verdict = self.verdict(ports, (Kind::Refresh, OWN), &answer, wire::read_refresh);
                match verdict {
                    Verdict::Result(Some(refreshed)) if !refreshed.expired => {
                        client.expires_at = u32::try_from(refreshed.expire_at).unwrap_or(0);
                        let info = refreshed.info.as_ref().and_then(as_json).map(Arc::from);
                        let meta = refreshed.meta.map(Arc::from);
                        let extra = client.extra_mut();
                        extra.conn_info = info.or(extra.conn_info.take());
                        extra.meta = meta.or(extra.meta.take());
                    }
                    Verdict::Result(_) => self.end(ports, now, conn, client, Disconnect::CONNECTION_EXPIRED),
                    Verdict::Disconnect(close) => self.end(ports, now, conn, client, close.into()),
                    // A backend that is away is no reason to send everybody away.
                    Verdict::Error(_) => client.expires_at = u32::try_from(seconds + GRACE_SECONDS).unwrap_or(u32::MAX),
                }
            }
            Purpose::SubRefresh(channel) => {
                let common = self.common.clone();
                let hook = common.config.channels.namespace(&channel).and_then(|ns| ns.sub_refresh_hook.as_deref());
                let hook = (Kind::SubRefresh, hook.unwrap_or(OWN));
                let verdict = self.verdict(ports, hook, &answer, wire::read_refresh);
                let Some(slot) = self.channels.find(&channel) else { return };
                match verdict {
                    Verdict::Result(Some(refreshed)) if !refreshed.expired => {
                        client.set_subscription_end(slot, u64::try_from(refreshed.expire_at).unwrap_or(0));
                    }
                    Verdict::Result(_) => self.expel(ports, now, conn, client, slot, &Unsubscribed::EXPIRED),
                    Verdict::Disconnect(close) => self.end(ports, now, conn, client, close.into()),
                    Verdict::Error(_) => client.set_subscription_end(slot, seconds + GRACE_SECONDS),
                }
            }
        }
    }

    /// A client is gone.
    pub fn remove(&mut self, ports: &mut impl Ports, now: u64, conn: ConnId, client: &mut Client) {
        if client.phase != Phase::Connected {
            return;
        }
        let slots: Vec<_> = client.subscriptions.as_slice().iter().map(|subscription| subscription.slot()).collect();
        for slot in slots {
            self.leave(ports, now, conn, client, slot);
        }
        self.note_client(ports, now, client, false);
        client.phase = Phase::Refused;
        client.held = None;
        self.common.counted.leave(self.users.name(client.user));
        self.users.leave(client.user);
        self.clients -= 1;
    }
}

/// The name that a client gives itself in `connect`'s data: `{"user": "ann"}`. Nothing proves it.
fn claimed_user(data: &[u8]) -> String {
    if annulus_protocols::json::validate(data).is_err() {
        return String::new();
    }
    let user = Value::of(data).member("user").and_then(Value::string);
    user.map(|user| user.into_owned()).unwrap_or_default()
}
