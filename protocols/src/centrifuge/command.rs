//! Reading commands.

use std::borrow::Cow;
use std::fmt;

use crate::json::{Kind, Members, Value, validate};

/// A message that breaks the protocol's form: the connection is closed with 3501.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// No bytes, or nothing between two line ends.
    Empty,
    /// Not JSON, or not an object.
    NotAnObject,
    /// A field of a type or range it cannot have.
    Field,
    /// None of the methods, with an id.
    NoMethod,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Empty => "an empty command",
            Malformed::NotAnObject => "a command that is not a JSON object",
            Malformed::Field => "a field of the wrong type",
            Malformed::NoMethod => "a command without a method",
        })
    }
}

impl std::error::Error for Malformed {}

/// One command of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// Repeated in the reply; 0 only for [`Method::Pong`] and [`Method::Send`].
    pub id: u32,
    /// What is wanted.
    pub method: Method<'a>,
}

/// What a client wants. Texts are borrowed unless they have escapes; `data` is the span of a JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method<'a> {
    /// Begins the session.
    Connect(Connect<'a>),
    /// Begins a subscription.
    Subscribe(Subscribe<'a>),
    /// Ends a subscription.
    Unsubscribe {
        /// Whose.
        channel: Cow<'a, str>,
    },
    /// Publishes to a channel.
    Publish {
        /// Where.
        channel: Cow<'a, str>,
        /// What; `None` when it is absent or null.
        data: Option<&'a [u8]>,
    },
    /// Who is there.
    Presence {
        /// Where.
        channel: Cow<'a, str>,
    },
    /// How many are there.
    PresenceStats {
        /// Where.
        channel: Cow<'a, str>,
    },
    /// What was published.
    History(History<'a>),
    /// Not for clients: answered with 108.
    Ping,
    /// A message without a reply.
    Send,
    /// A call of the application.
    Rpc,
    /// A new connection token.
    Refresh,
    /// A new subscription token.
    SubRefresh,
    /// The answer to a ping.
    Pong,
}

/// What a session begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connect<'a> {
    /// Proves who the client is; empty if it does not try.
    pub token: Cow<'a, str>,
    /// The client's own, for the application.
    pub data: Option<&'a [u8]>,
    /// The SDK's name.
    pub name: Cow<'a, str>,
    /// The SDK's version.
    pub version: Cow<'a, str>,
}

/// A position in a channel's stream of publications.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position<'a> {
    /// The last publication seen.
    pub offset: u64,
    /// The stream's life; empty matches any.
    pub epoch: Cow<'a, str>,
}

/// A wish to subscribe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// To what.
    pub channel: Cow<'a, str>,
    /// Proves the permission; empty if the client does not try.
    pub token: Cow<'a, str>,
    /// Bring what was missed since [`Subscribe::since`].
    pub recover: bool,
    /// Where the client is.
    pub since: Position<'a>,
    /// Say where the stream is.
    pub positioned: bool,
    /// Say where the stream is, so that the client can recover later.
    pub recoverable: bool,
    /// Tell who comes and goes.
    pub join_leave: bool,
    /// A wish that what cannot be recovered is an error (112): bit 2 of `flag`.
    pub reject_unrecovered: bool,
    /// A compression of publications.
    pub delta: Cow<'a, str>,
    /// Whether a filter by tags is wanted.
    pub filtered: bool,
    /// 0 for a stream; other kinds of subscription are answered with 108.
    pub kind: u32,
}

/// A wish for past publications.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History<'a> {
    /// Of what.
    pub channel: Cow<'a, str>,
    /// 0: the position only; negative: as many as there are.
    pub limit: i32,
    /// From where.
    pub since: Option<Position<'a>>,
    /// Newest first.
    pub reverse: bool,
}

/// The commands of one WebSocket message, in order. After an error there are no more.
pub struct Commands<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Commands<'a> {
    /// Commands are separated by one line end; one may follow the last.
    pub fn of(message: &'a [u8]) -> Commands<'a> {
        Commands { rest: Some(message.strip_suffix(b"\n").unwrap_or(message)) }
    }

    /// What has not been read yet; empty at the end.
    pub fn rest(&self) -> &'a [u8] {
        self.rest.unwrap_or_default()
    }
}

impl<'a> Iterator for Commands<'a> {
    type Item = Result<Command<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.rest.take()?;
        let text = match text.iter().position(|&byte| byte == b'\n') {
            Some(at) => {
                self.rest = Some(&text[at + 1..]);
                &text[..at]
            }
            None => text,
        };
        let command = read(text);
        if command.is_err() {
            self.rest = None;
        }
        Some(command)
    }
}

/// The methods in the order in which the first that is present counts.
const METHODS: [&str; 12] = [
    "connect",
    "subscribe",
    "unsubscribe",
    "publish",
    "presence",
    "presence_stats",
    "history",
    "ping",
    "send",
    "rpc",
    "refresh",
    "sub_refresh",
];

fn read(text: &[u8]) -> Result<Command<'_>, Malformed> {
    if text.is_empty() {
        return Err(Malformed::Empty);
    }
    if validate(text) != Ok(Kind::Object) {
        return Err(Malformed::NotAnObject);
    }
    let mut id = 0;
    let mut found: Option<(usize, Value<'_>)> = None;
    let mut is_send = false;
    for (name, value) in members(Value::of(text))? {
        if name == "id" {
            id = unsigned(value)?;
        } else if let Some(at) = METHODS.iter().position(|method| *method == name).filter(|_| !value.is_null()) {
            is_send |= METHODS[at] == "send";
            if found.is_none_or(|(first, _)| at < first) {
                found = Some((at, value));
            }
        }
    }
    if id == 0 && !is_send {
        return Ok(Command { id, method: Method::Pong });
    }
    let (at, params) = found.ok_or(Malformed::NoMethod)?;
    Ok(Command { id, method: method(METHODS[at], params)? })
}

fn method<'a>(name: &str, params: Value<'a>) -> Result<Method<'a>, Malformed> {
    Ok(match name {
        "connect" => Method::Connect(connect(params)?),
        "subscribe" => Method::Subscribe(subscribe(params)?),
        "unsubscribe" => Method::Unsubscribe { channel: channel(params)? },
        "publish" => publish(params)?,
        "presence" => Method::Presence { channel: channel(params)? },
        "presence_stats" => Method::PresenceStats { channel: channel(params)? },
        "history" => Method::History(history(params)?),
        other => {
            members(params)?;
            match other {
                "ping" => Method::Ping,
                "send" => Method::Send,
                "rpc" => Method::Rpc,
                "refresh" => Method::Refresh,
                _ => Method::SubRefresh,
            }
        }
    })
}

fn members(value: Value<'_>) -> Result<Members<'_>, Malformed> {
    value.members().ok_or(Malformed::Field)
}

fn text(value: Value<'_>) -> Result<Cow<'_, str>, Malformed> {
    if value.is_null() { Ok(Cow::Borrowed("")) } else { value.string().ok_or(Malformed::Field) }
}

fn boolean(value: Value<'_>) -> Result<bool, Malformed> {
    if value.is_null() { Ok(false) } else { value.boolean().ok_or(Malformed::Field) }
}

fn unsigned(value: Value<'_>) -> Result<u32, Malformed> {
    if value.is_null() {
        return Ok(0);
    }
    value.unsigned().and_then(|number| u32::try_from(number).ok()).ok_or(Malformed::Field)
}

fn offset(value: Value<'_>) -> Result<u64, Malformed> {
    if value.is_null() { Ok(0) } else { value.unsigned().ok_or(Malformed::Field) }
}

fn data(value: Value<'_>) -> Option<&[u8]> {
    (!value.is_null()).then(|| value.raw())
}

/// The channel of a method that has little else.
fn channel(params: Value<'_>) -> Result<Cow<'_, str>, Malformed> {
    let mut channel = Cow::Borrowed("");
    for (name, value) in members(params)? {
        if name == "channel" {
            channel = text(value)?;
        }
    }
    Ok(channel)
}

fn connect(params: Value<'_>) -> Result<Connect<'_>, Malformed> {
    let mut connect = Connect::default();
    for (name, value) in members(params)? {
        match &*name {
            "token" => connect.token = text(value)?,
            "data" => connect.data = data(value),
            "name" => connect.name = text(value)?,
            "version" => connect.version = text(value)?,
            // Later versions of the SDKs keep adding fields; what we do not know does not concern us.
            _ => {}
        }
    }
    Ok(connect)
}

fn subscribe(params: Value<'_>) -> Result<Subscribe<'_>, Malformed> {
    let mut subscribe = Subscribe::default();
    for (name, value) in members(params)? {
        match &*name {
            "channel" => subscribe.channel = text(value)?,
            "token" => subscribe.token = text(value)?,
            "recover" => subscribe.recover = boolean(value)?,
            "epoch" => subscribe.since.epoch = text(value)?,
            "offset" => subscribe.since.offset = offset(value)?,
            "positioned" => subscribe.positioned = boolean(value)?,
            "recoverable" => subscribe.recoverable = boolean(value)?,
            "join_leave" => subscribe.join_leave = boolean(value)?,
            "flag" => subscribe.reject_unrecovered = offset(value)? & 2 != 0,
            "delta" => subscribe.delta = text(value)?,
            "tf" => subscribe.filtered = !value.is_null(),
            "type" => subscribe.kind = unsigned(value)?,
            _ => {}
        }
    }
    Ok(subscribe)
}

fn publish(params: Value<'_>) -> Result<Method<'_>, Malformed> {
    let (mut channel, mut payload) = (Cow::Borrowed(""), None);
    for (name, value) in members(params)? {
        match &*name {
            "channel" => channel = text(value)?,
            "data" => payload = data(value),
            _ => {}
        }
    }
    Ok(Method::Publish { channel, data: payload })
}

fn history(params: Value<'_>) -> Result<History<'_>, Malformed> {
    let mut history = History::default();
    for (name, value) in members(params)? {
        match &*name {
            "channel" => history.channel = text(value)?,
            "limit" if !value.is_null() => {
                let limit = value.integer().and_then(|limit| i32::try_from(limit).ok());
                history.limit = limit.ok_or(Malformed::Field)?;
            }
            "since" if !value.is_null() => history.since = Some(position(value)?),
            "reverse" => history.reverse = boolean(value)?,
            _ => {}
        }
    }
    Ok(history)
}

fn position(value: Value<'_>) -> Result<Position<'_>, Malformed> {
    let mut position = Position::default();
    for (name, value) in members(value)? {
        match &*name {
            "offset" => position.offset = offset(value)?,
            "epoch" => position.epoch = text(value)?,
            _ => {}
        }
    }
    Ok(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Command<'_>, Malformed> {
        let mut commands = Commands::of(text.as_bytes());
        let first = commands.next().unwrap();
        assert!(commands.next().is_none());
        first
    }

    #[test]
    fn the_first_frame_of_the_javascript_client() {
        let frame = "{\"connect\":{\"name\":\"js\",\"flag\":1,\"dict\":\"\"},\"id\":1}\n{\"subscribe\":{\"channel\":\"news\",\"flag\":1},\"id\":2}";
        let commands: Vec<_> = Commands::of(frame.as_bytes()).collect::<Result<_, _>>().unwrap();
        assert_eq!(commands[0].id, 1);
        assert!(
            matches!(&commands[0].method, Method::Connect(connect) if connect.name == "js" && connect.token.is_empty())
        );
        assert!(
            matches!(&commands[1].method, Method::Subscribe(s) if s.channel == "news" && !s.recover && !s.reject_unrecovered)
        );
    }

    #[test]
    fn every_method_is_read() {
        let subscribe = one(
            "{\"id\":2,\"subscribe\":{\"channel\":\"c\\u00e9\",\"recover\":true,\"epoch\":\"e\",\"offset\":5,\"flag\":3,\"type\":4}}",
        );
        let Method::Subscribe(subscribe) = subscribe.unwrap().method else { panic!("not a subscribe") };
        assert_eq!(subscribe.channel, "cé");
        assert_eq!(subscribe.since, Position { offset: 5, epoch: "e".into() });
        assert!(subscribe.recover && subscribe.reject_unrecovered && subscribe.kind == 4);
        let history = one(
            "{\"id\":7,\"history\":{\"channel\":\"c\",\"limit\":-1,\"since\":{\"offset\":3,\"epoch\":\"x\"},\"reverse\":true}}",
        );
        let Method::History(history) = history.unwrap().method else { panic!("not a history") };
        assert_eq!((history.limit, history.reverse), (-1, true));
        assert_eq!(history.since, Some(Position { offset: 3, epoch: "x".into() }));
        let publish = one("{\"id\":3,\"publish\":{\"channel\":\"c\",\"data\":{\"a\": [1]}}}").unwrap();
        assert_eq!(publish.method, Method::Publish { channel: "c".into(), data: Some(b"{\"a\": [1]}") });
        for (name, method) in [
            ("ping", Method::Ping),
            ("rpc", Method::Rpc),
            ("refresh", Method::Refresh),
            ("sub_refresh", Method::SubRefresh),
        ] {
            assert_eq!(one(&format!("{{\"id\":3,\"{name}\":{{}}}}")).unwrap().method, method);
        }
        assert_eq!(one("{\"send\":{\"data\":1}}").unwrap(), Command { id: 0, method: Method::Send });
    }

    #[test]
    fn without_an_id_it_is_a_pong_whatever_else_it_holds() {
        for text in ["{}", "{\"id\":0}", "{\"connect\":{}}", "{\"id\":null,\"publish\":{}}", "{\"nonsense\":7}"] {
            assert_eq!(one(text).unwrap().method, Method::Pong, "{text}");
        }
    }

    #[test]
    fn malformed_messages_are_refused() {
        let fault = |text: &str| Commands::of(text.as_bytes()).find_map(Result::err);
        for text in ["", "\n", "{}\n\n", "{}\n\n{}", "\n{}"] {
            assert_eq!(fault(text), Some(Malformed::Empty), "{text:?}");
        }
        for text in ["1", "[]", "{\"id\":1", "{}{}", "{}\nx", "null", "\u{0}"] {
            assert_eq!(fault(text), Some(Malformed::NotAnObject), "{text:?}");
        }
        for text in [
            "{\"id\":-1}",
            "{\"id\":4294967296}",
            "{\"id\":1.5}",
            "{\"id\":\"1\"}",
            "{\"id\":1,\"connect\":7}",
            "{\"id\":1,\"subscribe\":{\"channel\":7}}",
            "{\"id\":1,\"history\":{\"limit\":\"x\"}}",
            "{\"id\":1,\"rpc\":[]}",
        ] {
            assert_eq!(fault(text), Some(Malformed::Field), "{text:?}");
        }
        assert_eq!(fault("{\"id\":1}"), Some(Malformed::NoMethod));
        assert_eq!(fault("{\"id\":1,\"fly\":{}}"), Some(Malformed::NoMethod));
        assert_eq!(fault("{}\n"), None);
    }
}
