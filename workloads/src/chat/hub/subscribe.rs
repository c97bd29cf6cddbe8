//! Subscriptions begin and end.

use std::borrow::Cow;
use std::sync::Arc;

use annulus_engine::ConnId;
use annulus_engine::trace::Trace;
use annulus_protocols::centrifuge::{
    Disconnect, ErrorCode, Payload, SubRefreshResult, Subscribe, SubscribeResult, Unsubscribed, write_sub_refresh,
    write_subscribe, write_subscribe_push, write_unsubscribe_push,
};

use super::frames::{as_publication, in_differences};
use super::{Hub, Ports, Step, Turn};
use crate::chat::config::{DataFormat, Namespace, RecoveryMode};
use crate::chat::differences::as_text;
use crate::chat::evidence::Joining;
use crate::chat::hooks::wire::{self, Question};
use crate::chat::hooks::{Kind, Verdict};
use crate::chat::letters::{Answer, Ask, Asker, Granted, Join, Joined, Letter, Overrides, Recovery, Work};
use crate::chat::rules;
use crate::chat::sanctions::Kind as Forbidden;
use crate::chat::session::{ChannelSlot, Client, Given, Subscription, SubscriptionExtra};
use crate::chat::stream::Stored;
use crate::chat::tokens::{SubscriptionClaims, TokenError};
use crate::jose::Weight;

/// What a client is granted, or why it is not.
type Grant = Result<Joining, Step>;

impl Hub {
    pub(super) fn subscribe(&mut self, turn: &mut Turn<'_, impl Ports>, subscribe: &Subscribe<'_>) -> Step {
        let channel = &*subscribe.channel;
        if channel.is_empty() || !(subscribe.delta.is_empty() || subscribe.delta == "fossil") {
            return Step::Close(Disconnect::BAD_REQUEST);
        }
        if let Err(error) = self.may_try(turn.client, subscribe) {
            return turn.refuse(error);
        }
        if let Some(banned) = self.forbidden(turn.now, Forbidden::Ban, turn.client, channel) {
            return turn.refuse(banned);
        }
        let mut joining = match self.grant(turn, subscribe) {
            Ok(joining) => joining,
            Err(step) => return step,
        };
        let common = self.common.clone();
        let Ok(namespace) = common.config.channels.namespace(channel).ok_or(()) else {
            return turn.refuse(ErrorCode::UNKNOWN_CHANNEL);
        };
        let overrides = joining.granted.overrides;
        let wish = Wish {
            positioned: subscribe.positioned && namespace.allow_positioning,
            recoverable: (subscribe.recoverable || subscribe.recover) && namespace.allow_recovery,
            watches: subscribe.join_leave && rules::may_watch(namespace, &self.asking(turn.client, channel)),
            given: given(subscribe, namespace),
            since: subscribe.recover.then(|| (subscribe.since.offset, subscribe.since.epoch.to_string())),
            reject: subscribe.reject_unrecovered,
        };
        joining.filter = subscribe.filter.clone().and_then(Result::ok);
        turn.evidence.joining = Some(joining);
        let join = wish.join(namespace, turn.client, overrides);
        self.ask_to_join(turn.ports, turn.now, turn.conn, turn.id, channel, join);
        Step::Asked
    }

    /// Asks the owner to count a member in; until it answers, the channel's slot stays.
    fn ask_to_join(&mut self, ports: &mut impl Ports, now: u64, conn: ConnId, id: u32, channel: &str, join: Join) {
        let slot = self.channels.open(channel);
        self.channels.at(slot).arriving += 1;
        let asker = Asker::Client { shard: self.shard, conn, id, trace: Trace::NONE };
        self.ask(ports, now, asker, channel, Ask::Join(join));
    }

    /// Asks for a subscription that the server makes.
    #[allow(clippy::too_many_arguments)] // Whose, where, what, and from when: all of it is needed.
    pub(super) fn ask_aside(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        conn: ConnId,
        client: &Client,
        granted: &Granted,
        since: Option<(u64, String)>,
    ) {
        let common = self.common.clone();
        let Some(namespace) = common.config.channels.namespace(&granted.channel) else { return };
        let given = Given::Whole;
        let wish = Wish { positioned: false, recoverable: false, watches: false, given, since, reject: false };
        let join = Join { limited: false, ..wish.join(namespace, client, granted.overrides) };
        self.ask_to_join(ports, now, conn, 0, &granted.channel, join);
    }

    /// What is wrong with the wish, whoever has it.
    fn may_try(&mut self, client: &Client, subscribe: &Subscribe<'_>) -> Result<(), ErrorCode> {
        let channel = &*subscribe.channel;
        let takes_filters = self.namespace_for(client, channel)?.allow_tags_filter;
        let slot = self.channels.find(channel);
        if slot.is_some_and(|slot| client.subscriptions.to(slot).is_some()) {
            return Err(ErrorCode::ALREADY_SUBSCRIBED);
        }
        if client.subscriptions.as_slice().len() >= self.common.config.client.channel_limit {
            return Err(ErrorCode::LIMIT_EXCEEDED);
        }
        match (subscribe.kind, &subscribe.filter) {
            (0, None) => Ok(()),
            (0, Some(Ok(_))) if takes_filters => Ok(()),
            (0, Some(_)) => Err(ErrorCode::BAD_REQUEST),
            _ => Err(ErrorCode::NOT_AVAILABLE),
        }
    }

    /// Who asks, as the rules see it.
    pub(super) fn asking(&self, client: &Client, channel: &str) -> rules::Asking {
        let (slot, channels) = (self.channels.find(channel), &self.common.config.channels);
        rules::Asking {
            is_named: !self.users.name(client.user).is_empty(),
            is_subscribed: slot.is_some_and(|slot| client.subscriptions.to(slot).is_some()),
            is_insecure: self.common.config.is_insecure(),
            // Centrifugo's file says itself who may what.
            is_closed: !channels.strict && (channels.is_private(channel) || channels.is_user_limited(channel)),
        }
    }

    /// Whether the client may subscribe: by a token, by its name, by the backend's word, or by the namespace.
    fn grant(&mut self, turn: &mut Turn<'_, impl Ports>, subscribe: &Subscribe<'_>) -> Grant {
        let channel = &*subscribe.channel;
        let common = self.common.clone();
        let channels = &common.config.channels;
        let Some(namespace) = channels.namespace(channel) else {
            return Err(turn.refuse(ErrorCode::UNKNOWN_CHANNEL));
        };
        if !subscribe.token.is_empty() {
            return match self.subscription_claims(turn, &subscribe.token)? {
                Ok(claims) => self.grant_by_claims(turn, channel, claims),
                Err(TokenError::Expired) => Err(turn.refuse(ErrorCode::TOKEN_EXPIRED)),
                Err(TokenError::KeyPending | TokenError::KeysUnavailable) => Err(turn.refuse(ErrorCode::INTERNAL)),
                Err(_) => Err(turn.refuse(ErrorCode::PERMISSION_DENIED)),
            };
        }
        let user = self.users.name(turn.client.user);
        let limited = channels.is_user_limited(channel) && namespace.allow_user_limited_channels;
        if channels.is_private(channel) {
            return Err(turn.refuse(ErrorCode::PERMISSION_DENIED));
        }
        if limited {
            return match !user.is_empty() && channels.is_user_allowed(channel, user) {
                true => Ok(Joining::default()),
                false => Err(turn.refuse(ErrorCode::PERMISSION_DENIED)),
            };
        }
        if let Some(hook) = &namespace.subscribe_hook {
            return self.grant_by_hook(turn, hook, subscribe);
        }
        match rules::may_subscribe(namespace, &self.asking(turn.client, channel)) {
            true => Ok(Joining::default()),
            false => Err(turn.refuse(ErrorCode::PERMISSION_DENIED)),
        }
    }

    /// What a subscription token says, at once or from a compute thread.
    fn subscription_claims(
        &mut self,
        turn: &mut Turn<'_, impl Ports>,
        token: &str,
    ) -> Result<Result<SubscriptionClaims, TokenError>, Step> {
        if let Some(claims) = turn.evidence.subscription.take() {
            return Ok(claims);
        }
        let verifiers = self.verifiers.clone();
        let (verifier, seconds) = (&verifiers.subscription, turn.now / 1000);
        let claims = match verifier.signatures.weight(token, seconds) {
            Weight::Compute => Err(TokenError::KeyPending),
            Weight::Inline => verifier.verify_subscription(token, seconds),
        };
        match claims {
            // To be verified, or its key to be fetched, elsewhere.
            Err(TokenError::KeyPending) => Err(turn.work(Work::SubscriptionToken(verifiers, token.to_owned()))),
            claims => Ok(verifier.signatures.tentatively(claims)),
        }
    }

    /// What a token that is good grants, if it is this client's for this channel.
    fn grant_by_claims(&mut self, turn: &mut Turn<'_, impl Ports>, channel: &str, claims: SubscriptionClaims) -> Grant {
        let seconds = turn.now / 1000;
        let id = turn.client.id.to_string();
        if !claims.is_for(self.users.name(turn.client.user), &id, channel) {
            return Err(Step::Close(Disconnect::INVALID_TOKEN));
        }
        let expires_at = claims.expires_at.unwrap_or(0);
        if expires_at > 0 && expires_at <= seconds {
            return Err(turn.refuse(ErrorCode::EXPIRED));
        }
        let granted = Granted {
            channel: channel.to_owned(),
            expires_at,
            info: claims.options.info.as_ref().and_then(|info| info.json()).map(<[u8]>::to_vec),
            data: claims.options.data.map(|data| data.bytes().to_vec()),
            overrides: claims.options.overrides.into(),
        };
        Ok(Joining { granted, client_refreshes: true, ..Joining::default() })
    }

    fn grant_by_hook(&mut self, turn: &mut Turn<'_, impl Ports>, hook: &str, subscribe: &Subscribe<'_>) -> Grant {
        let channel = &*subscribe.channel;
        let Some(answer) = turn.evidence.hook.take() else {
            let data = subscribe.data.unwrap_or_default();
            let question = Question::Subscribe { channel, token: &subscribe.token, data };
            return Err(self.ask_backend(turn, hook, &question));
        };
        let verdict = self.verdict(turn.ports, (Kind::Subscribe, hook), &answer, wire::read_subscribe);
        let subscribed = match verdict {
            Verdict::Result(subscribed) => subscribed.unwrap_or_default(),
            Verdict::Error(refusal) => return Err(turn.refuse(refusal.into())),
            Verdict::Disconnect(close) => return Err(Step::Close(close.into())),
        };
        let granted = Granted {
            channel: channel.to_owned(),
            expires_at: u64::try_from(subscribed.expire_at).unwrap_or(0),
            info: subscribed.info.as_ref().and_then(as_json),
            data: subscribed.data.map(|data| data.bytes.into_owned()),
            overrides: subscribed.overrides,
        };
        Ok(Joining { granted, ..Joining::default() })
    }

    /// The owner's side: counts the shard in.
    /// Of a channel that several nodes share, `found` is what was missed as the broker has it, if the copy here does not go
    /// back as far; `Some(None)`: not even there is all of it.
    pub(super) fn join(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        shard: usize,
        channel: &str,
        join: Join,
        found: Option<Option<Vec<Stored>>>,
    ) -> Answer {
        let common = self.common.clone();
        let Some(namespace) = common.config.channels.namespace(channel) else {
            return Answer::NotJoined(ErrorCode::UNKNOWN_CHANNEL);
        };
        let (slot, epoch) = (self.channels.open(channel), self.draw_epoch());
        let stream = self.channels.stream(slot, || epoch);
        stream.expire(now, namespace.history_ttl_ms);
        let most = common.config.client.recovery_max;
        let here = |(offset, epoch): &(u64, String)| match namespace.recovery_mode {
            RecoveryMode::Stream => stream.missed(*offset, epoch, most),
            RecoveryMode::Cache => Some(stream.latest(Some((*offset, epoch))).into_iter().cloned().collect()),
        };
        let missed = found.unwrap_or_else(|| join.since.as_ref().and_then(here));
        let was_recovering = join.since.is_some();
        if was_recovering && missed.is_none() && join.reject {
            return Answer::NotJoined(ErrorCode::UNRECOVERABLE_POSITION);
        }
        let was_vacant = stream.shards == 0;
        if was_vacant && common.quota(channel).is_some_and(|quota| !quota.open(join.limited)) {
            return Answer::NotJoined(ErrorCode::LIMIT_EXCEEDED);
        }
        stream.shards |= 1 << shard;
        if join.positioned {
            stream.touched_ms = stream.touched_ms.max(now);
        }
        let top = stream.settled();
        let offset = match (&missed, &join.since, namespace.recovery_mode) {
            // A client that recovered counts on from where it was.
            (Some(_), Some((offset, _)), RecoveryMode::Stream) => *offset,
            _ => top,
        };
        let epoch = stream.epoch().to_owned();
        let recoverable = join.recoverable;
        let position = join.positioned.then_some(Recovery { recoverable, offset, epoch, was_recovering, missed });
        let (entry, dialect) = (self.channels.at(slot), 1 << join.dialect.index());
        match join.given {
            Given::Whole | Given::Filtered => entry.dialects |= dialect,
            Given::Differences => entry.rare_mut().differences.get_or_insert_default().dialects |= dialect,
        }
        if was_vacant {
            self.note_channel(ports, now, slot, true);
        }
        Answer::Joined(Joined { watches: join.watches, given: join.given, top, position })
    }

    /// The owner hears that a shard has no members any more.
    pub(super) fn left(&mut self, ports: &mut impl Ports, now: u64, shard: usize, channel: &str) {
        let Some(slot) = self.channels.find(channel) else { return };
        let entry = self.channels.at(slot);
        if let Some(stream) = &mut entry.stream {
            let was_occupied = stream.shards != 0;
            stream.shards &= !(1 << shard);
            if stream.shards == 0 {
                entry.vacate();
                // A subscription that was refused leaves, too, and may have been nobody's first.
                if was_occupied {
                    if let Some(quota) = self.common.quota(channel) {
                        quota.close();
                    }
                    self.note_channel(ports, now, slot, false);
                }
                self.on_left_alone(now, channel);
            }
        }
        self.release(slot, now);
    }

    /// A subscription that does not come about no longer keeps its channel.
    pub(super) fn not_arriving(&mut self, ports: &mut impl Ports, now: u64, channel: &str) {
        let Some(slot) = self.channels.find(channel) else { return };
        self.channels.at(slot).arriving -= 1;
        self.forget_if_last(ports, now, slot);
    }

    /// The owner has counted in the member of a client's command: the reply, and what waits behind it.
    #[allow(clippy::too_many_arguments)] // Whose, which, where, and what: all of it is needed.
    pub(super) fn joined(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        conn: ConnId,
        client: &mut Client,
        id: u32,
        channel: &str,
        joined: Joined,
    ) {
        let joining = client.held.as_mut().and_then(|held| held.evidence.joining.take()).unwrap_or_default();
        let filter = joining.filter;
        // The server was quicker with the same, or has banned the user since.
        let is_member = self.is_member(client, channel).then_some(ErrorCode::ALREADY_SUBSCRIBED);
        let refusal = is_member.or_else(|| self.forbidden(now, Forbidden::Ban, client, channel));
        let is_full = || self.common.quota(channel).is_some_and(|quota| !quota.subscribe(true));
        if let Some(error) = refusal.or_else(|| is_full().then_some(ErrorCode::LIMIT_EXCEEDED)) {
            self.not_arriving(ports, now, channel);
            let (codec, mut out) = (client.dialect.codec(), Vec::new());
            self.write_refusal(codec, &mut out, id, &error);
            ports.send(conn, client.dialect, &out);
            return self.go_on(ports, now, conn, client);
        }
        let slot = self.enter(conn, client, channel, &joining.granted, false, &joined);
        if let Some(filter) = filter.clone() {
            self.channels.at(slot).rare_mut().filters.insert(conn, filter);
        }
        self.note_member(ports, now, client, slot, true);
        let (codec, mut out) = (client.dialect.codec(), Vec::new());
        let ttl = match joining.client_refreshes {
            true => joining.granted.expires_at.saturating_sub(now / 1000),
            false => 0,
        };
        let gets_differences = joined.given == Given::Differences;
        let texts: Vec<Cow<'_, str>> = match gets_differences {
            true => missed(&joined).map(|stored| as_text(&stored.content)).collect(),
            false => Vec::new(),
        };
        let mut result = result_of(&joining.granted, &joined, ttl);
        result.delta = gets_differences;
        for (publication, text) in result.publications.iter_mut().zip(&texts) {
            publication.data = in_differences(codec, publication.data, text);
        }
        if let Some(filter) = &filter {
            result.publications.retain(|publication| filter.matches(publication.tags));
        }
        write_subscribe(codec, &mut out, id, &result);
        // The reply goes out before anything that the announcement may bring.
        ports.send(conn, client.dialect, &out);
        self.announce(ports, client, slot, true);
        self.go_on(ports, now, conn, client);
    }

    /// The owner has answered for a subscription that the server makes.
    pub(super) fn joined_aside(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        conn: ConnId,
        client: &mut Client,
        channel: &str,
        answer: Result<Joined, ErrorCode>,
    ) {
        let connecting = client.held.as_mut().and_then(|held| held.evidence.connecting.as_mut());
        let in_connect = connecting.is_some_and(|connecting| connecting.awaits(channel));
        if in_connect {
            return self.joined_in_connect(ports, now, conn, client, channel, answer);
        }
        let extra = client.extra_mut();
        let granted = extra.granted.iter().position(|granted| granted.channel == channel);
        let granted = granted.map(|at| extra.granted.swap_remove(at));
        let is_member =
            self.is_member(client, channel) || self.forbidden(now, Forbidden::Ban, client, channel).is_some();
        let (Ok(joined), Some(granted), false) = (answer, granted, is_member) else {
            return self.not_arriving(ports, now, channel);
        };
        self.count_subscription(channel);
        let slot = self.enter(conn, client, channel, &granted, true, &joined);
        self.note_member(ports, now, client, slot, true);
        let (codec, mut out) = (client.dialect.codec(), Vec::new());
        write_subscribe_push(codec, &mut out, channel, &result_of(&granted, &joined, 0));
        ports.send(conn, client.dialect, &out);
        self.announce(ports, client, slot, true);
    }

    /// Counts a subscription that the server makes.
    pub(super) fn count_subscription(&self, channel: &str) {
        if let Some(quota) = self.common.quota(channel) {
            quota.subscribe(false);
        }
    }

    fn is_member(&self, client: &Client, channel: &str) -> bool {
        self.channels.find(channel).is_some_and(|slot| client.subscriptions.to(slot).is_some())
    }

    /// Makes the client a member.
    pub(super) fn enter(
        &mut self,
        conn: ConnId,
        client: &mut Client,
        channel: &str,
        granted: &Granted,
        server_side: bool,
        joined: &Joined,
    ) -> ChannelSlot {
        let slot = self.channels.open(channel);
        let subscription = Subscription::new(slot, server_side, joined.watches, joined.given);
        let entry = self.channels.at(slot);
        entry.arriving -= 1;
        // It has, or is about to be told, everything up to the top.
        entry.enter(conn, client.dialect, subscription, joined.top);
        client.subscriptions.insert(subscription);
        self.subscriptions += 1;
        if granted.expires_at > 0 || granted.info.is_some() {
            let chan_info = granted.info.as_deref().map(Arc::from);
            let extra = SubscriptionExtra { slot, expires_at: granted.expires_at, chan_info, refreshing: false };
            client.extra_mut().subscriptions.push(extra);
        }
        slot
    }

    /// Ends a subscription at the client's wish.
    pub(super) fn unsubscribe(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        conn: ConnId,
        client: &mut Client,
        channel: &str,
    ) {
        if let Some(slot) = self.channels.find(channel) {
            self.leave(ports, now, conn, client, slot);
        }
    }

    /// Ends a subscription at ours, and says so. A server's subscription whose state is lost takes the connection along:
    /// the client cannot begin it anew.
    pub(super) fn expel(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        conn: ConnId,
        client: &mut Client,
        slot: ChannelSlot,
        why: &Unsubscribed,
    ) {
        let Some(subscription) = client.subscriptions.to(slot) else { return };
        if subscription.is_server_side() && why.code >= Unsubscribed::INSUFFICIENT_STATE.code {
            let why = match why.code == Unsubscribed::EXPIRED.code {
                true => Disconnect::SUBSCRIPTION_EXPIRED,
                false => Disconnect::INSUFFICIENT_STATE,
            };
            return self.end(ports, now, conn, client, why);
        }
        let name = self.channels.at(slot).name.clone();
        self.leave(ports, now, conn, client, slot);
        let (codec, mut out) = (client.dialect.codec(), Vec::new());
        write_unsubscribe_push(codec, &mut out, &name, why);
        ports.send(conn, client.dialect, &out);
    }

    /// Takes a member out of a channel.
    pub(super) fn leave(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        conn: ConnId,
        client: &mut Client,
        slot: ChannelSlot,
    ) {
        let Some(subscription) = client.subscriptions.remove(slot) else { return };
        self.channels.at(slot).leave(conn, client.dialect, subscription);
        self.subscriptions -= 1;
        if let Some(quota) = self.common.quota(&self.channels.at(slot).name) {
            quota.unsubscribe();
        }
        self.note_member(ports, now, client, slot, false);
        self.announce(ports, client, slot, false);
        client.drop_subscription_extra(slot);
        self.forget_if_last(ports, now, slot);
    }

    /// Tells the owner when this shard has no members any more, and gives the slot up if it can.
    fn forget_if_last(&mut self, ports: &mut impl Ports, now: u64, slot: ChannelSlot) {
        let entry = self.channels.at(slot);
        if entry.count() == 0 && entry.arriving == 0 {
            let channel = entry.name.clone();
            match self.owner(&channel) {
                owner if owner == self.shard => return self.left(ports, now, self.shard, &channel),
                owner => ports.post(owner, Letter::Left { shard: self.shard, channel }),
            }
        }
        self.release(slot, now);
    }

    pub(super) fn sub_refresh(&mut self, turn: &mut Turn<'_, impl Ports>, channel: &str, token: &str) -> Step {
        let slot = self.channels.find(channel).filter(|&slot| turn.client.subscriptions.to(slot).is_some());
        let Some(slot) = slot else { return turn.refuse(ErrorCode::PERMISSION_DENIED) };
        if token.is_empty() {
            return turn.refuse(ErrorCode::BAD_REQUEST);
        }
        // An old token is no reason to end what still goes on; one that was never good is.
        let granted = match self.subscription_claims(turn, token) {
            Ok(Ok(claims)) => self.grant_by_claims(turn, channel, claims),
            Ok(Err(TokenError::Expired)) => return turn.refuse(ErrorCode::EXPIRED),
            Ok(Err(TokenError::KeyPending | TokenError::KeysUnavailable)) => return turn.refuse(ErrorCode::INTERNAL),
            Ok(Err(_)) => return Step::Close(Disconnect::INVALID_TOKEN),
            Err(step) => return step,
        };
        let joining = match granted {
            Ok(joining) => joining,
            Err(step) => return step,
        };
        let ends_at = joining.granted.expires_at;
        turn.client.set_subscription_end(slot, ends_at);
        let ttl = ends_at.saturating_sub(turn.now / 1000);
        let result = SubRefreshResult { expires: ends_at > 0, ttl: u32::try_from(ttl).unwrap_or(u32::MAX) };
        write_sub_refresh(turn.codec(), turn.out, turn.id, &result);
        Step::Replied
    }
}

/// What a subscription is to be like, before the namespace and the token have their say.
struct Wish {
    positioned: bool,
    recoverable: bool,
    watches: bool,
    given: Given,
    since: Option<(u64, String)>,
    reject: bool,
}

impl Wish {
    fn join(self, namespace: &Namespace, client: &Client, overrides: Overrides) -> Join {
        let has_stream = namespace.has_history();
        let recoverable = self.recoverable || overrides.force_recovery.unwrap_or(namespace.force_recovery);
        let positioned = self.positioned || overrides.force_positioning.unwrap_or(namespace.force_positioning);
        let forced = overrides.force_push_join_leave.unwrap_or(namespace.force_push_join_leave);
        Join {
            dialect: client.dialect,
            watches: (self.watches || forced) && namespace.join_leave,
            given: self.given,
            positioned: has_stream && (recoverable || positioned),
            recoverable: has_stream && recoverable,
            since: self.since.filter(|_| has_stream && recoverable),
            reject: self.reject,
            limited: true,
        }
    }
}

/// Which publications a client gets, and how: as it wishes, if its namespace offers that.
fn given(subscribe: &Subscribe<'_>, namespace: &Namespace) -> Given {
    // What is no JSON is no text, and would be told in base 64: there is little to spare.
    let takes_differences = namespace.allow_deltas && namespace.publication_data_format != DataFormat::Binary;
    match subscribe.filter {
        Some(_) => Given::Filtered,
        None if takes_differences && !subscribe.delta.is_empty() => Given::Differences,
        None => Given::Whole,
    }
}

/// What a client is told of its subscription.
pub(super) fn result_of<'r>(granted: &'r Granted, joined: &'r Joined, ttl: u64) -> SubscribeResult<'r> {
    let mut result = SubscribeResult {
        data: granted.data.as_deref().map(Payload::of),
        expires: ttl > 0,
        ttl: u32::try_from(ttl).unwrap_or(u32::MAX),
        ..SubscribeResult::default()
    };
    if let Some(position) = &joined.position {
        result.recoverable = position.recoverable;
        result.positioned = true;
        result.offset = position.offset;
        result.epoch = &position.epoch;
        result.was_recovering = position.was_recovering;
        result.recovered = position.missed.is_some();
        result.publications = missed(joined).map(as_publication).collect();
    }
    result
}

/// What a client has missed and is told with the answer.
fn missed(joined: &Joined) -> impl Iterator<Item = &Stored> {
    let missed = joined.position.iter().flat_map(|position| position.missed.iter().flatten());
    missed.filter(|stored| !stored.content.is_removed())
}

/// What others are told of a client is JSON, or nothing.
pub(super) fn as_json(payload: &crate::chat::api::Payload<'_>) -> Option<Vec<u8>> {
    payload.kind.map(|_| payload.bytes.to_vec())
}
