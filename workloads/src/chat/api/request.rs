//! Requests of the server HTTP API.
//!
//! Texts are borrowed from the body unless they have escapes; payloads are spans of it. What a request asks for and we
//! do not offer is refused with 108, where passing it over would do something else than what was asked.

use std::borrow::Cow;
use std::fmt;

use annulus_protocols::centrifuge::ErrorCode;
use annulus_protocols::json::{self, Value, validate};

use super::NOT_FOUND;
use super::fields::{Field, Fields, Misfit, Pairs};
use super::values::{Close, Either, NotBase64, Overrides, Payload, Position};
use crate::chat::sanctions::Kind;

/// Largest body in bytes. Beyond: 413. Room for a broadcast to tens of thousands of channels.
pub const BODY_BYTES_MAX: usize = 8 << 20;
/// Most channels of a broadcast. Beyond: 400.
pub const BROADCAST_CHANNELS_MAX: usize = 65_536;
/// Most commands of a batch. Beyond: 400.
pub const BATCH_COMMANDS_MAX: usize = 16_384;
/// Most tags of a publication. Beyond: 400.
pub const TAGS_MAX: usize = 256;
/// Most clients that a disconnect spares. Beyond: 400.
pub const WHITELIST_MAX: usize = 1024;
/// Sanctions that one answer names at most, and without a wish. Beyond: it tells how many there are.
pub const SANCTIONS_TOLD: usize = 1000;
/// Longest idempotency key in bytes, since they are kept. Beyond: 107.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// What is wrong with a request as such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no such method.
    NotFound,
    /// The body has more than [`BODY_BYTES_MAX`].
    TooLarge,
    /// The body is not JSON.
    NotJson(json::Fault),
    /// A field is not what it has to be.
    Field(Misfit),
    /// The request is one, and cannot be fulfilled.
    Refused(ErrorCode),
}

impl Fault {
    /// The answer's status. With 200 the body is [`write_response`](super::write_response) of the error.
    pub const fn status(&self) -> u16 {
        match self {
            Fault::NotFound => 404,
            Fault::TooLarge => 413,
            Fault::NotJson(_) | Fault::Field(_) => 400,
            Fault::Refused(_) => 200,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NotFound => f.write_str("the API has no such method"),
            Fault::TooLarge => write!(f, "the body has more than {BODY_BYTES_MAX} bytes"),
            Fault::NotJson(fault) => write!(f, "the body is not JSON: {fault}"),
            Fault::Field(misfit) => misfit.fmt(f),
            Fault::Refused(error) => write!(f, "{} ({})", error.message, error.code),
        }
    }
}

impl std::error::Error for Fault {}

impl From<Misfit> for Fault {
    fn from(misfit: Misfit) -> Fault {
        Fault::Field(misfit)
    }
}

impl From<ErrorCode> for Fault {
    fn from(error: ErrorCode) -> Fault {
        Fault::Refused(error)
    }
}

impl From<NotBase64> for Fault {
    fn from(_: NotBase64) -> Fault {
        Fault::Refused(ErrorCode::BAD_REQUEST)
    }
}

/// What is asked of the chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Publish to a channel.
    Publish {
        /// Where; not empty.
        channel: Cow<'a, str>,
        /// What.
        message: Message<'a>,
    },
    /// Publish the same to several channels, each with its own outcome.
    Broadcast {
        /// Where; at least one. One that is empty has the outcome 107.
        channels: Vec<Cow<'a, str>>,
        /// What.
        message: Message<'a>,
    },
    /// Subscribe a user's clients.
    Subscribe(Box<Subscribe<'a>>),
    /// End subscriptions of a user's clients.
    Unsubscribe {
        /// Of which channel; empty: of all.
        channel: Cow<'a, str>,
        /// Whose.
        whom: Whom<'a>,
    },
    /// Send a user's clients away.
    Disconnect {
        /// Which.
        whom: Whom<'a>,
        /// With what.
        close: Close<'a>,
        /// Clients that stay.
        whitelist: Vec<Cow<'a, str>>,
    },
    /// Let the connections of a user's clients live longer, or end.
    Refresh(Refresh<'a>),
    /// Who is in a channel.
    Presence {
        /// Which; not empty.
        channel: Cow<'a, str>,
    },
    /// How many are in a channel.
    PresenceStats {
        /// Which; not empty.
        channel: Cow<'a, str>,
    },
    /// What was published to a channel.
    History(History<'a>),
    /// Forget what was published to a channel.
    HistoryRemove {
        /// Which; not empty.
        channel: Cow<'a, str>,
    },
    /// Forget one publication of it.
    PublicationRemove {
        /// Of which channel; not empty.
        channel: Cow<'a, str>,
        /// Its number.
        offset: u64,
        /// In which life of the channel; empty: in the present one.
        epoch: Cow<'a, str>,
    },
    /// Forbid a user something, or allow it again.
    Sanction(Sanctioning<'a>),
    /// What is forbidden to users.
    Sanctions {
        /// To whom; empty: to anybody.
        user: Cow<'a, str>,
        /// How many at most; 0: [`SANCTIONS_TOLD`].
        limit: usize,
    },
    /// Which channels have subscribers.
    Channels {
        /// As [`Pattern`](super::Pattern) reads it, and it does; empty: all.
        pattern: Cow<'a, str>,
    },
    /// What the nodes are and have.
    Info,
    /// Several requests, none of which is a batch.
    Batch {
        /// In their order, with what is wrong with some.
        commands: Vec<Result<Request<'a>, ErrorCode>>,
        /// Whether they may be done at the same time.
        parallel: bool,
    },
}

impl Request<'_> {
    /// The method's name, under which a batch has its result.
    pub const fn method(&self) -> &'static str {
        match self {
            Request::Publish { .. } => "publish",
            Request::Broadcast { .. } => "broadcast",
            Request::Subscribe(_) => "subscribe",
            Request::Unsubscribe { .. } => "unsubscribe",
            Request::Disconnect { .. } => "disconnect",
            Request::Refresh(_) => "refresh",
            Request::Presence { .. } => "presence",
            Request::PresenceStats { .. } => "presence_stats",
            Request::History(_) => "history",
            Request::HistoryRemove { .. } => "history_remove",
            Request::PublicationRemove { .. } => "publication_remove",
            Request::Sanction(sanctioning) => sanctioning.method,
            Request::Sanctions { .. } => "sanctions",
            Request::Channels { .. } => "channels",
            Request::Info => "info",
            Request::Batch { .. } => "batch",
        }
    }
}

/// What is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The payload; not empty.
    pub data: Payload<'a>,
    /// It is delivered and not kept.
    pub skip_history: bool,
    /// For the application; each name once.
    pub tags: Pairs<'a>,
    /// Of publications to a channel with the same key only the first is one; empty: each is.
    pub idempotency_key: Cow<'a, str>,
}

/// Whose connections are meant: those of `user` for which everything else that is not empty holds, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whom<'a> {
    /// The user; empty means those without one.
    pub user: Cow<'a, str>,
    /// The client's id.
    pub client: Cow<'a, str>,
    /// The session of a client without a WebSocket.
    pub session: Cow<'a, str>,
}

/// A wish to subscribe a user's clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// To what; not empty.
    pub channel: Cow<'a, str>,
    /// Which.
    pub whom: Whom<'a>,
    /// When the subscription ends, in seconds since 1970; 0: never.
    pub expire_at: i64,
    /// What others are told of the subscriber (`chan_info`).
    pub info: Option<Payload<'a>>,
    /// What the subscriber is told.
    pub data: Option<Payload<'a>>,
    /// From where on publications that it has missed are sent.
    pub recover_since: Option<Position<'a>>,
    /// What is different from the namespace's options.
    pub overrides: Overrides,
}

/// A wish to forbid a user something, or to allow it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sanctioning<'a> {
    /// What it was called by the caller.
    pub method: &'static str,
    /// What is forbidden.
    pub kind: Kind,
    /// It is allowed again.
    pub lifts: bool,
    /// To whom; not empty.
    pub user: Cow<'a, str>,
    /// Where; empty: everywhere.
    pub channel: Cow<'a, str>,
    /// When it ends.
    pub end: End,
}

/// When something ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// When it is lifted.
    Never,
    /// At that moment, in seconds since 1970.
    At(u64),
    /// After so many seconds.
    After(u64),
}

/// A wish to change how long connections live.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refresh<'a> {
    /// Whose.
    pub whom: Whom<'a>,
    /// They end now.
    pub expired: bool,
    /// When they end, in seconds since 1970; 0: never.
    pub expire_at: i64,
    /// What others are told of the user from now on (`conn_info`).
    pub info: Option<Payload<'a>>,
}

/// A wish for past publications.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History<'a> {
    /// Of which channel; not empty.
    pub channel: Cow<'a, str>,
    /// How many at most; 0: only the position; negative: all.
    pub limit: i32,
    /// After which (`reverse`: before which) one.
    pub since: Option<Position<'a>>,
    /// The newest first.
    pub reverse: bool,
}

/// Reads the request of `POST /api/<method>`.
///
/// # Errors
/// What is wrong with it, and with which status that is answered.
pub fn read<'a>(method: &str, body: &'a [u8]) -> Result<Request<'a>, Fault> {
    if body.len() > BODY_BYTES_MAX {
        return Err(Fault::TooLarge);
    }
    let method = METHODS.iter().find(|known| **known == method).ok_or(Fault::NotFound)?;
    // Those that need nothing may be asked with nothing.
    let body = if body.is_empty() && matches!(*method, "info" | "channels" | "sanctions") { b"{}" } else { body };
    validate(body).map_err(Fault::NotJson)?;
    let fields = Fields::of("the body", Value::of(body))?;
    match *method {
        "batch" => batch(fields),
        method => command(method, fields),
    }
}

/// All methods. In a command of a batch that has several the first of them counts.
const METHODS: [&str; 29] = [
    "publish",
    "broadcast",
    "subscribe",
    "unsubscribe",
    "disconnect",
    "history",
    "history_remove",
    "presence",
    "presence_stats",
    "info",
    "rpc",
    "refresh",
    "channels",
    "map_publish",
    "map_remove",
    "map_read_state",
    "map_read_stream",
    "map_stats",
    "map_clear",
    "shared_poll_publish",
    "publication_remove",
    "mute",
    "unmute",
    "ban",
    "unban",
    // Of Centrifugo's paid edition: a ban of everything.
    "block_user",
    "unblock_user",
    "sanctions",
    "batch",
];

fn batch(fields: Fields<'_>) -> Result<Request<'_>, Fault> {
    let (mut commands, mut parallel) = (Vec::new(), false);
    for field in fields {
        match field.name() {
            "commands" => commands = field.elements(BATCH_COMMANDS_MAX)?,
            "parallel" => parallel = field.boolean()?,
            _ => {}
        }
    }
    let commands = commands.into_iter().map(in_batch).collect::<Result<_, _>>()?;
    Ok(Request::Batch { commands, parallel })
}

/// A command of a batch. What is wrong with its form is wrong with the batch; what it asks for is its own affair.
fn in_batch(value: Value<'_>) -> Result<Result<Request<'_>, ErrorCode>, Fault> {
    if value.is_null() {
        return Ok(Err(ErrorCode::BAD_REQUEST));
    }
    let mut first: Option<(usize, Field<'_>)> = None;
    for field in Fields::of("a command", value)? {
        let place = METHODS.iter().position(|method| *method == field.name() && *method != "batch");
        if let Some(place) = place.filter(|place| first.as_ref().is_none_or(|(first, _)| place <= first)) {
            first = Some((place, field));
        }
    }
    let Some((place, field)) = first else { return Ok(Err(NOT_FOUND)) };
    match command(METHODS[place], field.fields()?) {
        Ok(request) => Ok(Ok(request)),
        Err(Fault::Refused(error)) => Ok(Err(error)),
        Err(fault) => Err(fault),
    }
}

fn command<'a>(method: &str, fields: Fields<'a>) -> Result<Request<'a>, Fault> {
    match method {
        "publish" => publish(fields),
        "broadcast" => broadcast(fields),
        "subscribe" => subscribe(fields),
        "unsubscribe" => unsubscribe(fields),
        "disconnect" => disconnect(fields),
        "refresh" => refresh(fields),
        "presence" => Ok(Request::Presence { channel: channel(fields)? }),
        "presence_stats" => Ok(Request::PresenceStats { channel: channel(fields)? }),
        "history" => history(fields),
        "history_remove" => Ok(Request::HistoryRemove { channel: channel(fields)? }),
        "publication_remove" => publication_remove(fields),
        "mute" => sanction("mute", Kind::Mute, false, fields),
        "unmute" => sanction("unmute", Kind::Mute, true, fields),
        "ban" => sanction("ban", Kind::Ban, false, fields),
        "unban" => sanction("unban", Kind::Ban, true, fields),
        "block_user" => sanction("block_user", Kind::Ban, false, fields),
        "unblock_user" => sanction("unblock_user", Kind::Ban, true, fields),
        "sanctions" => sanctions(fields),
        "channels" => channels(fields),
        "info" => Ok(Request::Info),
        "rpc" => Err(rpc(fields)?.into()),
        // Of map subscriptions and shared polls: known, and not offered.
        _ => Err(ErrorCode::NOT_AVAILABLE.into()),
    }
}

/// What is told to calls of methods that the server would have to be extended with: none are.
fn rpc(fields: Fields<'_>) -> Result<ErrorCode, Fault> {
    let mut method = Cow::Borrowed("");
    for field in fields.filter(|field| field.name() == "method") {
        method = field.text()?;
    }
    Ok(if method.is_empty() { ErrorCode::BAD_REQUEST } else { NOT_FOUND })
}

fn not_empty(channel: Cow<'_, str>) -> Result<Cow<'_, str>, Fault> {
    if channel.is_empty() { Err(ErrorCode::BAD_REQUEST.into()) } else { Ok(channel) }
}

/// The channel of a method that has nothing else.
fn channel(fields: Fields<'_>) -> Result<Cow<'_, str>, Fault> {
    let mut channel = Cow::Borrowed("");
    for field in fields.filter(|field| field.name() == "channel") {
        channel = field.text()?;
    }
    not_empty(channel)
}

/// The fields of a publication, as they come.
#[derive(Default)]
struct Draft<'a> {
    data: Either<'a>,
    skip_history: bool,
    tags: Pairs<'a>,
    idempotency_key: Cow<'a, str>,
    wants_more: bool,
}

impl<'a> Draft<'a> {
    fn take(&mut self, field: &Field<'a>) -> Result<(), Fault> {
        match field.name() {
            "data" => self.data.set_json(field),
            "b64data" => self.data.set_base64(field)?,
            "skip_history" => self.skip_history = field.boolean()?,
            "tags" => self.tags = field.pairs(TAGS_MAX)?,
            "idempotency_key" => self.idempotency_key = field.text()?,
            "version" => self.wants_more |= field.number::<u64>()? != 0,
            "version_epoch" => self.wants_more |= !field.text()?.is_empty(),
            // A delta is a shorter way to say the same; whether it is used is ours to choose.
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<Message<'a>, Fault> {
        if self.wants_more {
            return Err(ErrorCode::NOT_AVAILABLE.into());
        }
        let data = self.data.get()?.ok_or(ErrorCode::BAD_REQUEST)?;
        if self.idempotency_key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
            return Err(ErrorCode::BAD_REQUEST.into());
        }
        let Draft { skip_history, tags, idempotency_key, .. } = self;
        Ok(Message { data, skip_history, tags, idempotency_key })
    }
}

fn publish(fields: Fields<'_>) -> Result<Request<'_>, Fault> {
    let (mut channel, mut draft) = (Cow::Borrowed(""), Draft::default());
    for field in fields {
        match field.name() {
            "channel" => channel = field.text()?,
            _ => draft.take(&field)?,
        }
    }
    Ok(Request::Publish { channel: not_empty(channel)?, message: draft.finish()? })
}

fn broadcast(fields: Fields<'_>) -> Result<Request<'_>, Fault> {
    let (mut channels, mut draft) = (Vec::new(), Draft::default());
    for field in fields {
        match field.name() {
            "channels" => channels = field.texts(BROADCAST_CHANNELS_MAX)?,
            _ => draft.take(&field)?,
        }
    }
    if channels.is_empty() {
        return Err(ErrorCode::BAD_REQUEST.into());
    }
    Ok(Request::Broadcast { channels, message: draft.finish()? })
}

impl<'a> Whom<'a> {
    /// Refuses what would narrow or widen the choice and is not offered: others would be met than those who are meant.
    fn take(&mut self, field: &Field<'a>) -> Result<(), Fault> {
        match field.name() {
            "user" => self.user = field.text()?,
            "client" => self.client = field.text()?,
            "session" => self.session = field.text()?,
            "label_filter" => return Err(ErrorCode::NOT_AVAILABLE.into()),
            "all_users" if field.boolean()? => return Err(ErrorCode::NOT_AVAILABLE.into()),
            _ => {}
        }
        Ok(())
    }
}

fn subscribe(fields: Fields<'_>) -> Result<Request<'_>, Fault> {
    let mut subscribe = Subscribe::default();
    let (mut info, mut data) = (Either::default(), Either::default());
    for field in fields {
        match field.name() {
            "channel" => subscribe.channel = field.text()?,
            "expire_at" => subscribe.expire_at = field.number()?,
            "info" => info.set_json(&field),
            "b64info" => info.set_base64(&field)?,
            "data" => data.set_json(&field),
            "b64data" => data.set_base64(&field)?,
            "recover_since" => subscribe.recover_since = Some(Position::read(&field)?),
            "override" => subscribe.overrides = Overrides::read(&field)?,
            _ => subscribe.whom.take(&field)?,
        }
    }
    (subscribe.info, subscribe.data) = (info.get()?, data.get()?);
    subscribe.channel = not_empty(subscribe.channel)?;
    Ok(Request::Subscribe(Box::new(subscribe)))
}

fn unsubscribe(fields: Fields<'_>) -> Result<Request<'_>, Fault> {
    let (mut channel, mut whom) = (Cow::Borrowed(""), Whom::default());
    for field in fields {
        match field.name() {
            "channel" => channel = field.text()?,
            _ => whom.take(&field)?,
        }
    }
    Ok(Request::Unsubscribe { channel, whom })
}

fn disconnect(fields: Fields<'_>) -> Result<Request<'_>, Fault> {
    let (mut whom, mut close, mut whitelist) = (Whom::default(), Close::default(), Vec::new());
    for field in fields {
        match field.name() {
            "disconnect" => close = Close::read(&field)?,
            "whitelist" => whitelist = field.texts(WHITELIST_MAX)?,
            _ => whom.take(&field)?,
        }
    }
    if !close.is_sendable() {
        return Err(ErrorCode::BAD_REQUEST.into());
    }
    Ok(Request::Disconnect { whom, close, whitelist })
}

fn refresh(fields: Fields<'_>) -> Result<Request<'_>, Fault> {
    let mut refresh = Refresh::default();
    for field in fields {
        match field.name() {
            "expired" => refresh.expired = field.boolean()?,
            "expire_at" => refresh.expire_at = field.number()?,
            "info" => refresh.info = Some(Payload::json(&field)),
            _ => refresh.whom.take(&field)?,
        }
    }
    Ok(Request::Refresh(refresh))
}

fn history(fields: Fields<'_>) -> Result<Request<'_>, Fault> {
    let mut history = History::default();
    for field in fields {
        match field.name() {
            "channel" => history.channel = field.text()?,
            "limit" => history.limit = field.number()?,
            "since" => history.since = Some(Position::read(&field)?),
            "reverse" => history.reverse = field.boolean()?,
            _ => {}
        }
    }
    // Nothing comes before the first publication.
    if history.reverse && history.since.as_ref().is_some_and(|since| since.offset == 0) {
        return Err(ErrorCode::BAD_REQUEST.into());
    }
    history.channel = not_empty(history.channel)?;
    Ok(Request::History(history))
}

fn publication_remove(fields: Fields<'_>) -> Result<Request<'_>, Fault> {
    let (mut channel, mut offset, mut epoch) = (Cow::Borrowed(""), 0, Cow::Borrowed(""));
    for field in fields {
        match field.name() {
            "channel" => channel = field.text()?,
            "offset" => offset = field.number()?,
            "epoch" => epoch = field.text()?,
            _ => {}
        }
    }
    // Numbers begin with 1.
    if offset == 0 {
        return Err(ErrorCode::BAD_REQUEST.into());
    }
    Ok(Request::PublicationRemove { channel: not_empty(channel)?, offset, epoch })
}

fn sanction<'a>(method: &'static str, kind: Kind, lifts: bool, fields: Fields<'a>) -> Result<Request<'a>, Fault> {
    let (mut user, mut channel) = (Cow::Borrowed(""), Cow::Borrowed(""));
    let (mut expire_at, mut seconds) = (0, 0);
    for field in fields {
        match field.name() {
            "user" => user = field.text()?,
            "channel" => channel = field.text()?,
            "expire_at" => expire_at = field.number()?,
            "seconds" => seconds = field.number()?,
            // One of a user's clients comes back as another one: what is forbidden is forbidden to all of them.
            "client" | "session" if !field.text()?.is_empty() => return Err(ErrorCode::NOT_AVAILABLE.into()),
            _ => {}
        }
    }
    let end = match (expire_at, seconds) {
        (0, 0) => End::Never,
        (at, 0) => End::At(at),
        (0, seconds) => End::After(seconds),
        _ => return Err(ErrorCode::BAD_REQUEST.into()),
    };
    // Those without a name are not one user.
    if user.is_empty() {
        return Err(ErrorCode::BAD_REQUEST.into());
    }
    Ok(Request::Sanction(Sanctioning { method, kind, lifts, user, channel, end }))
}

fn sanctions(fields: Fields<'_>) -> Result<Request<'_>, Fault> {
    let (mut user, mut limit) = (Cow::Borrowed(""), 0);
    for field in fields {
        match field.name() {
            "user" => user = field.text()?,
            "limit" => limit = field.number()?,
            _ => {}
        }
    }
    Ok(Request::Sanctions { user, limit })
}

fn channels(fields: Fields<'_>) -> Result<Request<'_>, Fault> {
    let mut pattern = Cow::Borrowed("");
    for field in fields.filter(|field| field.name() == "pattern") {
        pattern = field.text()?;
    }
    match pattern.is_empty() || super::Pattern::read(&pattern).is_some() {
        true => Ok(Request::Channels { pattern }),
        false => Err(ErrorCode::BAD_REQUEST.into()),
    }
}

#[cfg(test)]
mod tests;
