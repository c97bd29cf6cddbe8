//! What hooks say and hear: JSON, with the field names of Centrifugo v6's proxies.
//!
//! ```text
//!   {"client":"<id>","transport":"websocket","protocol":"json","encoding":"json","user":"42","channel":"c",...}
//!   {"result":{...}}
//!   {"error":{"code":403,"message":"no","temporary":true}}
//!   {"disconnect":{"code":4001,"reason":"bye"}}
//! ```
//!
//! Of an answer `disconnect` counts before `error`, and `error` before `result`. Unknown fields are passed over, but
//! for those which would restrict what a client gets: see [`Unfit`].

use std::borrow::Cow;
use std::fmt;

use annulus_protocols::centrifuge::ErrorCode;
use annulus_protocols::json::{self, Value, validate, write_base64, write_string};

use crate::chat::api::fields::{Field, Fields, Misfit, Pairs};
use crate::chat::api::request::{IDEMPOTENCY_KEY_BYTES_MAX, TAGS_MAX};
use crate::chat::api::values::{Close, Either, NotBase64, Overrides, Payload};

/// Most channels that an answer to connect subscribes to. Beyond: the answer is unfit.
pub const CHANNELS_MAX: usize = 1024;
/// Longest user name in bytes, since it is kept per connection. Beyond: the answer is unfit.
pub const USER_BYTES_MAX: usize = 255;
/// Most bytes of `info` and of `meta` each, since they are kept per connection. Beyond: the answer is unfit.
pub const KEPT_BYTES_MAX: usize = 64 << 10;
/// Longest message of an error in bytes. Beyond: the answer is unfit.
pub const MESSAGE_BYTES_MAX: usize = 1024;
/// What a connection or a subscription lives on in seconds when its refresh could not be asked for.
pub const REFRESH_GRACE_SECONDS: i64 = 60;

/// What hooks are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// [`Question::Connect`]
    Connect,
    /// [`Question::Refresh`]
    Refresh,
    /// [`Question::Subscribe`]
    Subscribe,
    /// [`Question::Publish`]
    Publish,
    /// [`Question::SubRefresh`]
    SubRefresh,
    /// [`Question::Rpc`]
    Rpc,
}

impl Kind {
    /// As configuration, logs and metrics say it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Connect => "connect",
            Kind::Refresh => "refresh",
            Kind::Subscribe => "subscribe",
            Kind::Publish => "publish",
            Kind::SubRefresh => "sub_refresh",
            Kind::Rpc => "rpc",
        }
    }

    /// Whether asking twice does no harm: a publication or a call of the application may be acted on.
    pub const fn is_repeatable(self) -> bool {
        !matches!(self, Kind::Publish | Kind::Rpc)
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The client's id.
    pub client: &'a str,
    /// Its user; empty: none. Not told by connect, which finds it out.
    pub user: &'a str,
    /// `websocket`, `http_stream`, `sse`.
    pub transport: &'a str,
    /// The form of its messages: `json` or `protobuf`.
    pub protocol: &'a str,
    /// What the backend has attached to its connection: JSON. `None` unless the hook is to be told. Not told by
    /// connect.
    pub meta: Option<&'a [u8]>,
}

/// What is asked. Payloads are empty for none.
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// May it connect, and as whom?
    Connect {
        /// What the client sent along.
        data: &'a [u8],
        /// Its SDK.
        name: &'a str,
        /// Its SDK's version.
        version: &'a str,
        /// Channels that it says it is subscribed to by the server.
        channels: &'a [&'a str],
    },
    /// May it stay?
    Refresh,
    /// May it subscribe?
    Subscribe {
        /// To what.
        channel: &'a str,
        /// What it was given as a proof.
        token: &'a str,
        /// What the client sent along.
        data: &'a [u8],
    },
    /// May it publish?
    Publish {
        /// Where.
        channel: &'a str,
        /// What.
        data: &'a [u8],
    },
    /// May it stay subscribed?
    SubRefresh {
        /// To what.
        channel: &'a str,
    },
    /// A call of the application.
    Rpc {
        /// Of what.
        method: &'a str,
        /// With what.
        data: &'a [u8],
    },
}

impl Question<'_> {
    /// What it asks.
    pub const fn kind(&self) -> Kind {
        match self {
            Question::Connect { .. } => Kind::Connect,
            Question::Refresh => Kind::Refresh,
            Question::Subscribe { .. } => Kind::Subscribe,
            Question::Publish { .. } => Kind::Publish,
            Question::SubRefresh { .. } => Kind::SubRefresh,
            Question::Rpc { .. } => Kind::Rpc,
        }
    }
}

/// A payload that is no JSON, for a hook that takes only JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson;

/// Appends the body of a question. `binary` is the hook's: payloads go in base64.
///
/// # Errors
/// The payload is no JSON, and would have to be. Nothing is appended then.
pub fn write_question(
    out: &mut Vec<u8>,
    asker: &Asker<'_>,
    question: &Question<'_>,
    binary: bool,
) -> Result<(), NotJson> {
    let data = match question {
        Question::Connect { data, .. }
        | Question::Subscribe { data, .. }
        | Question::Publish { data, .. }
        | Question::Rpc { data, .. } => *data,
        Question::Refresh | Question::SubRefresh { .. } => b"",
    };
    if !binary && !data.is_empty() && validate(data).is_err() {
        return Err(NotJson);
    }
    out.push(b'{');
    text_member(out, "client", asker.client);
    text_member(out, "transport", asker.transport);
    text_member(out, "protocol", asker.protocol);
    text_member(out, "encoding", if binary { "binary" } else { "json" });
    if !matches!(question, Question::Connect { .. }) {
        member(out, "user");
        write_string(out, asker.user);
        if let Some(meta) = asker.meta.filter(|meta| !meta.is_empty()) {
            member(out, "meta");
            out.extend_from_slice(meta);
        }
    }
    match question {
        Question::Connect { name, version, channels, .. } => {
            text_member(out, "name", name);
            text_member(out, "version", version);
            write_channels(out, channels);
        }
        Question::Subscribe { channel, token, .. } => {
            text_member(out, "channel", channel);
            text_member(out, "token", token);
        }
        Question::Publish { channel, .. } | Question::SubRefresh { channel } => text_member(out, "channel", channel),
        Question::Rpc { method, .. } => text_member(out, "method", method),
        Question::Refresh => {}
    }
    if !data.is_empty() && binary {
        member(out, "b64data");
        write_base64(out, data);
    } else if !data.is_empty() {
        member(out, "data");
        out.extend_from_slice(data);
    }
    out.push(b'}');
    Ok(())
}

fn write_channels(out: &mut Vec<u8>, channels: &[&str]) {
    if channels.is_empty() {
        return;
    }
    member(out, "channels");
    for (at, channel) in channels.iter().enumerate() {
        out.push(if at == 0 { b'[' } else { b',' });
        write_string(out, channel);
    }
    out.push(b']');
}

/// Opens the next member of the one object that a question is.
fn member(out: &mut Vec<u8>, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    write_string(out, name);
    out.push(b':');
}

fn text_member(out: &mut Vec<u8>, name: &str, text: &str) {
    if !text.is_empty() {
        member(out, name);
        write_string(out, text);
    }
}

/// An answer that is none: the backend's mistake, told to its operators. Clients get error 100.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Not JSON.
    NotJson(json::Fault),
    /// A field is not what it has to be, or is one that we cannot heed.
    Field(Misfit),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::NotJson(fault) => write!(f, "its answer is not JSON: {fault}"),
            Unfit::Field(misfit) => write!(f, "in its answer {misfit}"),
        }
    }
}

impl std::error::Error for Unfit {}

impl From<Misfit> for Unfit {
    fn from(misfit: Misfit) -> Unfit {
        Unfit::Field(misfit)
    }
}

impl From<NotBase64> for Unfit {
    fn from(_: NotBase64) -> Unfit {
        Unfit::Field(Misfit { field: "b64data or b64info".into(), expected: "base64 with padding" })
    }
}

/// An error that a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// Not 0. Those from 400 to 1999 are the application's.
    pub code: u32,
    /// For people.
    pub message: Cow<'a, str>,
    /// Whether the client may try again.
    pub temporary: bool,
}

impl From<ErrorCode> for Refusal<'_> {
    fn from(error: ErrorCode) -> Self {
        Refusal { code: error.code, message: error.message, temporary: error.temporary }
    }
}

impl From<Refusal<'_>> for ErrorCode {
    fn from(refusal: Refusal<'_>) -> ErrorCode {
        let message = refusal.message.into_owned().into();
        ErrorCode { code: refusal.code, message, temporary: refusal.temporary }
    }
}

/// What the backend says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<'a, R> {
    /// It may. Without a result: connect has found out nothing, so that it is as if there were no hook; refresh and
    /// sub_refresh have ended; the others go by the defaults.
    Result(Option<R>),
    /// It may not.
    Error(Refusal<'a>),
    /// It has to leave.
    Disconnect(Close<'a>),
}

/// Who a client is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connected<'a> {
    /// The user; empty: none.
    pub user: Cow<'a, str>,
    /// When the connection ends, in seconds since 1970; 0: never.
    pub expire_at: i64,
    /// What others are told (`conn_info`).
    pub info: Option<Payload<'a>>,
    /// What the client is told.
    pub data: Option<Payload<'a>>,
    /// Channels that it is subscribed to, with the namespace's options.
    pub channels: Vec<Cow<'a, str>>,
    /// Channels that it is subscribed to, with options; each once.
    pub subs: Vec<(Cow<'a, str>, Subscribed<'a>)>,
    /// What later hooks are told: JSON.
    pub meta: Option<&'a [u8]>,
    /// The only namespaces in which it may do anything; `None`: all.
    pub namespaces: Option<Vec<Cow<'a, str>>>,
}

/// How a subscription is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribed<'a> {
    /// When it ends, in seconds since 1970; 0: never.
    pub expire_at: i64,
    /// What others are told (`chan_info`).
    pub info: Option<Payload<'a>>,
    /// What the client is told.
    pub data: Option<Payload<'a>>,
    /// What is different from the namespace's options.
    pub overrides: Overrides,
}

/// How long a connection or a subscription lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refreshed<'a> {
    /// It ends now.
    pub expired: bool,
    /// When it ends, in seconds since 1970; 0: never.
    pub expire_at: i64,
    /// What others are told from now on.
    pub info: Option<Payload<'a>>,
    /// What later hooks are told from now on: JSON. Of connections only.
    pub meta: Option<&'a [u8]>,
}

/// What becomes of a publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published<'a> {
    /// Instead of what the client sent.
    pub data: Option<Payload<'a>>,
    /// It is delivered and not kept.
    pub skip_history: bool,
    /// For the application; each name once.
    pub tags: Pairs<'a>,
    /// Of publications to a channel with the same key only the first is one; empty: each is.
    pub idempotency_key: Cow<'a, str>,
}

/// What a call of the application returns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Returned<'a> {
    /// What the client is told.
    pub data: Option<Payload<'a>>,
}

/// Reads the answer to [`Question::Connect`].
///
/// # Errors
/// It is none.
pub fn read_connect(answer: &[u8]) -> Result<Verdict<'_, Connected<'_>>, Unfit> {
    read(answer, |fields| {
        let mut connected = Connected::default();
        let (mut info, mut data) = (Either::default(), Either::default());
        for field in fields {
            match field.name() {
                "user" => connected.user = user(&field)?,
                "expire_at" => connected.expire_at = field.number()?,
                "info" => info.set_json(&field),
                "b64info" => info.set_base64(&field)?,
                "data" => data.set_json(&field),
                "b64data" => data.set_base64(&field)?,
                "channels" => connected.channels = field.texts(CHANNELS_MAX)?,
                "subs" => connected.subs = subs(&field)?,
                "namespaces" => connected.namespaces = Some(field.texts(CHANNELS_MAX)?),
                "meta" => connected.meta = Some(meta(&field)?),
                _ => {}
            }
        }
        (connected.info, connected.data) = (kept(info)?, data.get()?);
        Ok(connected)
    })
}

/// Reads the answer to [`Question::Subscribe`].
///
/// # Errors
/// It is none.
pub fn read_subscribe(answer: &[u8]) -> Result<Verdict<'_, Subscribed<'_>>, Unfit> {
    read(answer, subscribed)
}

/// Reads the answer to [`Question::Refresh`] and [`Question::SubRefresh`].
///
/// # Errors
/// It is none.
pub fn read_refresh(answer: &[u8]) -> Result<Verdict<'_, Refreshed<'_>>, Unfit> {
    read(answer, |fields| {
        let (mut refreshed, mut info) = (Refreshed::default(), Either::default());
        for field in fields {
            match field.name() {
                "expired" => refreshed.expired = field.boolean()?,
                "expire_at" => refreshed.expire_at = field.number()?,
                "info" => info.set_json(&field),
                "b64info" => info.set_base64(&field)?,
                "meta" => refreshed.meta = Some(meta(&field)?),
                _ => {}
            }
        }
        refreshed.info = kept(info)?;
        Ok(refreshed)
    })
}

/// Reads the answer to [`Question::Publish`].
///
/// # Errors
/// It is none, or it makes the publication depend on a version, which is not offered.
pub fn read_publish(answer: &[u8]) -> Result<Verdict<'_, Published<'_>>, Unfit> {
    read(answer, |fields| {
        let (mut published, mut data) = (Published::default(), Either::default());
        for field in fields {
            match field.name() {
                "data" => data.set_json(&field),
                "b64data" => data.set_base64(&field)?,
                "skip_history" => published.skip_history = field.boolean()?,
                "tags" => published.tags = field.pairs(TAGS_MAX)?,
                "idempotency_key" => published.idempotency_key = field.text()?,
                "version" if field.number::<u64>()? != 0 => {
                    return Err(field.misfit("absent: it is not offered").into());
                }
                // A delta is a shorter way to say the same; whether it is used is ours to choose.
                _ => {}
            }
        }
        if published.idempotency_key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
            return Err(Misfit { field: "idempotency_key".into(), expected: "shorter" }.into());
        }
        published.data = data.get()?;
        Ok(published)
    })
}

/// Reads the answer to [`Question::Rpc`].
///
/// # Errors
/// It is none.
pub fn read_rpc(answer: &[u8]) -> Result<Verdict<'_, Returned<'_>>, Unfit> {
    read(answer, |fields| {
        let mut data = Either::default();
        for field in fields {
            match field.name() {
                "data" => data.set_json(&field),
                "b64data" => data.set_base64(&field)?,
                _ => {}
            }
        }
        Ok(Returned { data: data.get()? })
    })
}

fn read<'a, R>(answer: &'a [u8], result: impl FnOnce(Fields<'a>) -> Result<R, Unfit>) -> Result<Verdict<'a, R>, Unfit> {
    validate(answer).map_err(Unfit::NotJson)?;
    let (mut found, mut error, mut disconnect) = (None, None, None);
    for field in Fields::of("the answer", Value::of(answer))? {
        match field.name() {
            "result" => found = Some(field.fields()?),
            "error" => error = Some(refusal(&field)?),
            "disconnect" => disconnect = Some(close(&field)?),
            _ => {}
        }
    }
    match (disconnect, error, found) {
        (Some(close), _, _) => Ok(Verdict::Disconnect(close)),
        (None, Some(refusal), _) => Ok(Verdict::Error(refusal)),
        (None, None, Some(fields)) => result(fields).map(|found| Verdict::Result(Some(found))),
        (None, None, None) => Ok(Verdict::Result(None)),
    }
}

fn refusal<'a>(field: &Field<'a>) -> Result<Refusal<'a>, Unfit> {
    let mut refusal = Refusal { code: 0, message: Cow::Borrowed(""), temporary: false };
    for inner in field.fields()? {
        match inner.name() {
            "code" => refusal.code = inner.number()?,
            "message" => refusal.message = inner.text()?,
            "temporary" => refusal.temporary = inner.boolean()?,
            _ => {}
        }
    }
    match refusal.code {
        0 => Err(field.misfit("with a code").into()),
        _ if refusal.message.len() > MESSAGE_BYTES_MAX => Err(field.misfit("with a shorter message").into()),
        _ => Ok(refusal),
    }
}

fn close<'a>(field: &Field<'a>) -> Result<Close<'a>, Unfit> {
    let close = Close::read(field)?;
    let expected = "with a code from 3000 to 4999 and a reason of at most 123 bytes that is no object";
    if close.is_sendable() { Ok(close) } else { Err(field.misfit(expected).into()) }
}

fn user<'a>(field: &Field<'a>) -> Result<Cow<'a, str>, Unfit> {
    let user = field.text()?;
    if user.len() > USER_BYTES_MAX { Err(field.misfit("shorter").into()) } else { Ok(user) }
}

fn meta<'a>(field: &Field<'a>) -> Result<&'a [u8], Unfit> {
    let meta = field.value().raw();
    if meta.len() > KEPT_BYTES_MAX { Err(field.misfit("smaller").into()) } else { Ok(meta) }
}

fn kept(info: Either<'_>) -> Result<Option<Payload<'_>>, Unfit> {
    let info = info.get()?;
    match &info {
        Some(info) if info.bytes.len() > KEPT_BYTES_MAX => {
            Err(Misfit { field: "info".into(), expected: "smaller" }.into())
        }
        _ => Ok(info),
    }
}

fn subs<'a>(field: &Field<'a>) -> Result<Vec<(Cow<'a, str>, Subscribed<'a>)>, Unfit> {
    let mut subs = Vec::new();
    for sub in field.fields()? {
        if subs.len() == CHANNELS_MAX {
            return Err(field.misfit("smaller").into());
        }
        let options = subscribed(sub.fields()?)?;
        subs.push((sub.into_name(), options));
    }
    // Of those with the same name the last counts, as with all members.
    subs.reverse();
    subs.sort_by(|(a, _), (b, _)| a.cmp(b));
    subs.dedup_by(|(later, _), (first, _)| later == first);
    Ok(subs)
}

fn subscribed(fields: Fields<'_>) -> Result<Subscribed<'_>, Unfit> {
    let mut subscribed = Subscribed::default();
    let (mut info, mut data) = (Either::default(), Either::default());
    for field in fields {
        match field.name() {
            "expire_at" => subscribed.expire_at = field.number()?,
            "info" => info.set_json(&field),
            "b64info" => info.set_base64(&field)?,
            "data" => data.set_json(&field),
            "b64data" => data.set_base64(&field)?,
            "override" => subscribed.overrides = Overrides::read(&field)?,
            // Checked, and not offered: the latest publication comes only to who recovers.
            "cache_recover" => drop(field.boolean()?),
            // Without it the subscriber would get what it is not meant to get.
            "server_tags_filter" => return Err(field.misfit("absent: it is not offered").into()),
            _ => {}
        }
    }
    (subscribed.info, subscribed.data) = (kept(info)?, data.get()?);
    Ok(subscribed)
}

#[cfg(test)]
mod tests;
