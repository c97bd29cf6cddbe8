//! What servers send, and how it is written in either codec.

use std::borrow::Cow;

use super::form::{Form, Message};
use super::{Disconnect, ErrorCode, Unsubscribed, schema};
use crate::json::validate;

/// What belongs to the application. Empty ones are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// A validated JSON value: clients of the JSON codec get it as it is, on one line.
    Json(&'a [u8]),
    /// Any bytes: clients of the JSON codec get them as a string, in base 64 with the standard alphabet and padding.
    Binary(&'a [u8]),
    /// A text: clients of the JSON codec get it as a string.
    Quoted(&'a str),
}

impl<'a> Payload<'a> {
    /// Looks what `bytes` are.
    pub fn of(bytes: &'a [u8]) -> Payload<'a> {
        if validate(bytes).is_ok() { Payload::Json(bytes) } else { Payload::Binary(bytes) }
    }

    /// What clients of the Protobuf codec get.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Payload::Json(bytes) | Payload::Binary(bytes) => bytes,
            Payload::Quoted(text) => text.as_bytes(),
        }
    }
}

impl Default for Payload<'_> {
    fn default() -> Self {
        Payload::Json(&[])
    }
}

/// Who published, joined or is present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo<'a> {
    /// The user; empty for nobody known.
    pub user: &'a str,
    /// The client's id.
    pub client: &'a str,
    /// What the connection's token or the application says of the client: a validated JSON value.
    pub conn_info: Option<&'a [u8]>,
    /// The same for the channel.
    pub chan_info: Option<&'a [u8]>,
}

/// One publication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Publication<'a> {
    /// What was published.
    pub data: Payload<'a>,
    /// Its place in the stream; 0 where the channel keeps none.
    pub offset: u64,
    /// The publishing client, if it was one.
    pub info: Option<ClientInfo<'a>>,
    /// What the publisher attached, names before values.
    pub tags: &'a [(Cow<'a, str>, Cow<'a, str>)],
    /// The data is the difference from what the client got before; see [`delta`](super::delta()).
    pub delta: bool,
    /// When it was published, in milliseconds of Unix time; 0 if that is not told.
    pub time_ms: u64,
}

/// The answer to a connect command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectResult<'a> {
    /// The client's id.
    pub client: &'a str,
    /// The server's.
    pub version: &'a str,
    /// Whether the client is to refresh its token.
    pub expires: bool,
    /// In how many seconds.
    pub ttl: u32,
    /// The application's.
    pub data: Option<Payload<'a>>,
    /// What the server has subscribed the client to, with the names of the channels.
    pub subs: &'a [(&'a str, SubscribeResult<'a>)],
    /// How often the server pings, in seconds; 0 if it does not.
    pub ping_seconds: u32,
    /// Whether the client is to answer pings.
    pub pong: bool,
    /// The session's name, where commands come by another way.
    pub session: &'a str,
    /// The node's name, where commands come by another way.
    pub node: &'a str,
    /// What time it is, in milliseconds of Unix time; 0 if that is not told.
    pub time_ms: u64,
}

/// The answer to a subscribe command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeResult<'a> {
    /// Whether the client is to refresh its token.
    pub expires: bool,
    /// In how many seconds.
    pub ttl: u32,
    /// Whether the client may recover later.
    pub recoverable: bool,
    /// Whether the stream's position is told and watched.
    pub positioned: bool,
    /// The stream's life.
    pub epoch: &'a str,
    /// The stream's top, or where the client was if it recovered.
    pub offset: u64,
    /// What was missed, oldest first.
    pub publications: Vec<Publication<'a>>,
    /// Nothing is missing: `publications` is all that the client did not have.
    pub recovered: bool,
    /// The client asked to recover.
    pub was_recovering: bool,
    /// The application's.
    pub data: Option<Payload<'a>>,
    /// Publications come as texts, some of them as differences from the one before.
    pub delta: bool,
}

/// The answer to a history command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryResult<'a> {
    /// What was asked for.
    pub publications: Vec<Publication<'a>>,
    /// The stream's top.
    pub offset: u64,
    /// The stream's life.
    pub epoch: &'a str,
}

/// The answer to a refresh command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefreshResult<'a> {
    /// The client's id.
    pub client: &'a str,
    /// The server's.
    pub version: &'a str,
    /// Whether the client is to refresh its token.
    pub expires: bool,
    /// In how many seconds.
    pub ttl: u32,
}

/// The answer to a sub_refresh command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubRefreshResult {
    /// Whether the client is to refresh its token.
    pub expires: bool,
    /// In how many seconds.
    pub ttl: u32,
}

/// What a server sends: an answer with the id of its command, or a push with 0.
pub(super) struct Reply<M> {
    pub(super) id: u32,
    pub(super) kind: schema::Reply,
    pub(super) content: M,
}

/// A push; without a channel where it concerns the connection.
pub(super) struct Push<'a, M> {
    pub(super) channel: &'a str,
    pub(super) kind: schema::Push,
    pub(super) content: M,
}

/// Somebody came or left.
pub(super) struct PresenceChange<'a>(pub(super) &'a ClientInfo<'a>);

/// What a server says of a subscription that it has begun.
pub(super) struct ServerSubscribed<'a>(pub(super) &'a SubscribeResult<'a>);

/// Who is there.
pub(super) struct Present<I>(pub(super) I);

/// How many are there.
pub(super) struct PresenceStats {
    pub(super) clients: usize,
    pub(super) users: usize,
}

/// What an RPC gave.
pub(super) struct RpcResult<'a>(pub(super) Option<Payload<'a>>);

/// A message to one client.
pub(super) struct AsyncMessage<'a>(pub(super) Payload<'a>);

impl<M: Message> Message for Reply<M> {
    fn write(self, form: &mut impl Form) {
        form.number(schema::Reply::Id, self.id.into());
        form.message(self.kind, self.content);
    }
}

impl<M: Message> Message for Push<'_, M> {
    fn write(self, form: &mut impl Form) {
        form.text(schema::Push::Channel, self.channel);
        form.message(self.kind, self.content);
    }
}

impl Message for &ErrorCode {
    fn write(self, form: &mut impl Form) {
        form.number(schema::Error::Code, self.code.into());
        form.text(schema::Error::Message, &self.message);
        form.boolean(schema::Error::Temporary, self.temporary);
    }
}

impl Message for &ConnectResult<'_> {
    fn write(self, form: &mut impl Form) {
        use schema::ConnectResult as Field;
        form.text(Field::Client, self.client);
        form.text(Field::Version, self.version);
        form.boolean(Field::Expires, self.expires);
        form.number(Field::Ttl, self.ttl.into());
        form.payload(Field::Data, self.data.unwrap_or_default());
        if !self.subs.is_empty() {
            form.map(Field::Subs, self.subs.iter().map(|(channel, result)| (*channel, result)));
        }
        form.number(Field::Ping, self.ping_seconds.into());
        form.boolean(Field::Pong, self.pong);
        form.text(Field::Session, self.session);
        form.text(Field::Node, self.node);
        form.number(Field::Time, self.time_ms);
    }
}

impl Message for &SubscribeResult<'_> {
    fn write(self, form: &mut impl Form) {
        use schema::SubscribeResult as Field;
        form.boolean(Field::Expires, self.expires);
        form.number(Field::Ttl, self.ttl.into());
        form.boolean(Field::Recoverable, self.recoverable);
        form.text(Field::Epoch, self.epoch);
        if !self.publications.is_empty() {
            form.list(Field::Publications, self.publications.iter());
        }
        form.boolean(Field::Recovered, self.recovered);
        form.number(Field::Offset, self.offset);
        form.boolean(Field::Positioned, self.positioned);
        form.payload(Field::Data, self.data.unwrap_or_default());
        form.boolean(Field::WasRecovering, self.was_recovering);
        form.boolean(Field::Delta, self.delta);
    }
}

impl Message for ServerSubscribed<'_> {
    fn write(self, form: &mut impl Form) {
        use schema::Subscribe as Field;
        form.boolean(Field::Recoverable, self.0.recoverable);
        form.text(Field::Epoch, self.0.epoch);
        form.number(Field::Offset, self.0.offset);
        form.boolean(Field::Positioned, self.0.positioned);
        form.payload(Field::Data, self.0.data.unwrap_or_default());
    }
}

impl Message for &Publication<'_> {
    fn write(self, form: &mut impl Form) {
        use schema::Publication as Field;
        form.payload(Field::Data, self.data);
        if let Some(info) = &self.info {
            form.message(Field::Info, info);
        }
        form.number(Field::Offset, self.offset);
        if !self.tags.is_empty() {
            form.text_map(Field::Tags, self.tags.iter().map(|(name, value)| (&**name, &**value)));
        }
        form.boolean(Field::Delta, self.delta);
        form.number(Field::Time, self.time_ms);
    }
}

impl Message for &ClientInfo<'_> {
    fn write(self, form: &mut impl Form) {
        use schema::ClientInfo as Field;
        form.text_or_empty(Field::User, self.user);
        form.text_or_empty(Field::Client, self.client);
        form.payload(Field::ConnInfo, Payload::Json(self.conn_info.unwrap_or_default()));
        form.payload(Field::ChanInfo, Payload::Json(self.chan_info.unwrap_or_default()));
    }
}

impl Message for PresenceChange<'_> {
    fn write(self, form: &mut impl Form) {
        form.message(schema::PresenceChange::Info, self.0);
    }
}

impl<'a, I: Iterator<Item = ClientInfo<'a>>> Message for Present<I> {
    fn write(self, form: &mut impl Form) {
        form.map(schema::PresenceResult::Presence, self.0.map(|info| (info.client, Client(info))));
    }
}

/// A [`ClientInfo`] that is not kept anywhere.
struct Client<'a>(ClientInfo<'a>);

impl Message for Client<'_> {
    fn write(self, form: &mut impl Form) {
        (&self.0).write(form);
    }
}

impl Message for PresenceStats {
    fn write(self, form: &mut impl Form) {
        form.number_or_zero(schema::PresenceStatsResult::NumClients, self.clients as u64);
        form.number_or_zero(schema::PresenceStatsResult::NumUsers, self.users as u64);
    }
}

impl Message for &HistoryResult<'_> {
    fn write(self, form: &mut impl Form) {
        use schema::HistoryResult as Field;
        form.list(Field::Publications, self.publications.iter());
        form.text_or_empty(Field::Epoch, self.epoch);
        form.number_or_zero(Field::Offset, self.offset);
    }
}

impl Message for RpcResult<'_> {
    fn write(self, form: &mut impl Form) {
        form.payload(schema::RpcResult::Data, self.0.unwrap_or_default());
    }
}

impl Message for &RefreshResult<'_> {
    fn write(self, form: &mut impl Form) {
        use schema::RefreshResult as Field;
        form.text(Field::Client, self.client);
        form.text(Field::Version, self.version);
        form.boolean(Field::Expires, self.expires);
        form.number(Field::Ttl, self.ttl.into());
    }
}

impl Message for &SubRefreshResult {
    fn write(self, form: &mut impl Form) {
        form.boolean(schema::SubRefreshResult::Expires, self.expires);
        form.number(schema::SubRefreshResult::Ttl, self.ttl.into());
    }
}

impl Message for &Unsubscribed {
    fn write(self, form: &mut impl Form) {
        form.number(schema::Unsubscribe::Code, self.code.into());
        form.text(schema::Unsubscribe::Reason, &self.reason);
    }
}

impl Message for &Disconnect {
    fn write(self, form: &mut impl Form) {
        form.number(schema::Disconnect::Code, self.code.into());
        form.text(schema::Disconnect::Reason, &self.reason);
    }
}

impl Message for AsyncMessage<'_> {
    fn write(self, form: &mut impl Form) {
        form.payload(schema::Message::Data, self.0);
    }
}
