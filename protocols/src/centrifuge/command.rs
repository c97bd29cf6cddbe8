//! What clients send, and how it is read from either codec.

use std::borrow::Cow;

use super::filter::{Filter, NoFilter};
use super::form::Source;
use super::{Malformed, schema};

/// Most channels in `subs` of a connect command, which has one for each subscription that the server made before. More
/// are [`Malformed::TooMany`].
pub const SERVER_SUBS_MAX: usize = 1024;

/// Most entries in `headers` of a connect command. More are [`Malformed::TooMany`].
pub const HEADERS_MAX: usize = 128;

/// The bit of a subscription's `flag` that says: what cannot be recovered is an error.
const FLAG_REJECT_UNRECOVERED: u64 = 2;

/// One command of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// Repeated in the reply; 0 only for [`Method::Pong`] and where [`Method::Send`] is among the methods.
    pub id: u32,
    /// What is wanted.
    pub method: Method<'a>,
}

/// What a client wants. Texts are borrowed unless JSON has escapes in them.
///
/// `data` is `None` when it is absent: in JSON also when it is null, in Protobuf also when it is empty. In JSON it is the
/// span of a value, in Protobuf any bytes.
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
        /// What.
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
    Send {
        /// What.
        data: Option<&'a [u8]>,
    },
    /// A call of the application.
    Rpc {
        /// What is called.
        method: Cow<'a, str>,
        /// With what.
        data: Option<&'a [u8]>,
    },
    /// A new connection token.
    Refresh {
        /// The token.
        token: Cow<'a, str>,
    },
    /// A new subscription token.
    SubRefresh {
        /// The subscription's.
        channel: Cow<'a, str>,
        /// The token.
        token: Cow<'a, str>,
    },
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
    /// Where the client is in the channels that the server subscribed it to; of equal channels the last counts.
    pub subs: Vec<ServerSub<'a>>,
    /// What would be HTTP headers, from clients that cannot set those; of equal names the last counts.
    pub headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// Where a client is in a channel that the server subscribes it to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerSub<'a> {
    /// In which.
    pub channel: Cow<'a, str>,
    /// Bring what was missed since [`ServerSub::since`].
    pub recover: bool,
    /// Where the client is.
    pub since: Position<'a>,
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
    /// The client's own, for the application.
    pub data: Option<&'a [u8]>,
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
    /// Which publications are wanted, by their tags.
    pub filter: Option<Result<Filter, NoFilter>>,
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

impl<'a> Command<'a> {
    pub(super) fn read(source: impl Source<'a>) -> Result<Command<'a>, Malformed> {
        let (mut id, mut is_send) = (0, false);
        let mut found: Option<(schema::Command, Method<'a>)> = None;
        source.fields(|field, value| {
            let Some(mut method) = Method::empty(field) else {
                id = value.u32()?;
                return Ok(());
            };
            is_send |= field == schema::Command::Send;
            match &mut found {
                // A message that comes in parts is put together, as the Protobuf encoding has it.
                Some((first, method)) if *first == field => method.merge(value)?,
                other => {
                    method.merge(value)?;
                    if other.as_ref().is_none_or(|(first, _)| field < *first) {
                        *other = Some((field, method));
                    }
                }
            }
            Ok(())
        })?;
        match found {
            _ if id == 0 && !is_send => Ok(Command { id, method: Method::Pong }),
            Some((_, method)) => Ok(Command { id, method }),
            None => Err(Malformed::NoMethod),
        }
    }
}

impl<'a> Method<'a> {
    /// With nothing in it; `None` for the one field that is no method.
    fn empty(field: schema::Command) -> Option<Method<'a>> {
        let (channel, token, data) = (Cow::Borrowed(""), Cow::Borrowed(""), None);
        Some(match field {
            schema::Command::Id => return None,
            schema::Command::Connect => Method::Connect(Connect::default()),
            schema::Command::Subscribe => Method::Subscribe(Subscribe::default()),
            schema::Command::Unsubscribe => Method::Unsubscribe { channel },
            schema::Command::Publish => Method::Publish { channel, data },
            schema::Command::Presence => Method::Presence { channel },
            schema::Command::PresenceStats => Method::PresenceStats { channel },
            schema::Command::History => Method::History(History::default()),
            schema::Command::Ping => Method::Ping,
            schema::Command::Send => Method::Send { data },
            schema::Command::Rpc => Method::Rpc { method: Cow::Borrowed(""), data },
            schema::Command::Refresh => Method::Refresh { token },
            schema::Command::SubRefresh => Method::SubRefresh { channel, token },
        })
    }

    /// Adds what `source` says.
    fn merge(&mut self, source: impl Source<'a>) -> Result<(), Malformed> {
        match self {
            Method::Connect(connect) => source.fields(|field, value| connect.set(field, value)),
            Method::Subscribe(subscribe) => source.fields(|field, value| subscribe.set(field, value)),
            Method::History(history) => source.fields(|field, value| history.set(field, value)),
            Method::Unsubscribe { channel } | Method::Presence { channel } | Method::PresenceStats { channel } => {
                source.fields(|schema::ChannelRequest::Channel, value| {
                    *channel = value.text()?;
                    Ok(())
                })
            }
            Method::Publish { channel, data } => source.fields(|field, value| {
                match field {
                    schema::PublishRequest::Channel => *channel = value.text()?,
                    schema::PublishRequest::Data => *data = value.payload()?,
                }
                Ok(())
            }),
            Method::Send { data } => source.fields(|schema::SendRequest::Data, value| {
                *data = value.payload()?;
                Ok(())
            }),
            Method::Rpc { method, data } => source.fields(|field, value| {
                match field {
                    schema::RpcRequest::Method => *method = value.text()?,
                    schema::RpcRequest::Data => *data = value.payload()?,
                }
                Ok(())
            }),
            Method::Refresh { token } => source.fields(|schema::RefreshRequest::Token, value| {
                *token = value.text()?;
                Ok(())
            }),
            Method::SubRefresh { channel, token } => source.fields(|field, value| {
                match field {
                    schema::SubRefreshRequest::Channel => *channel = value.text()?,
                    schema::SubRefreshRequest::Token => *token = value.text()?,
                }
                Ok(())
            }),
            Method::Ping | Method::Pong => source.fields(|_: schema::PingRequest, _| Ok(())),
        }
    }
}

impl<'a> Connect<'a> {
    fn set(&mut self, field: schema::ConnectRequest, value: impl Source<'a>) -> Result<(), Malformed> {
        use schema::ConnectRequest::*;
        match field {
            Token => self.token = value.text()?,
            Data => self.data = value.payload()?,
            Name => self.name = value.text()?,
            Version => self.version = value.text()?,
            Subs => value.entries(|channel, sub| {
                if self.subs.len() == SERVER_SUBS_MAX {
                    return Err(Malformed::TooMany);
                }
                self.subs.push(ServerSub::read(channel, sub)?);
                Ok(())
            })?,
            Headers => value.entries(|name, value| {
                if self.headers.len() == HEADERS_MAX {
                    return Err(Malformed::TooMany);
                }
                self.headers.push((name, value.map(Source::text).transpose()?.unwrap_or_default()));
                Ok(())
            })?,
        }
        Ok(())
    }
}

impl<'a> ServerSub<'a> {
    /// On the wire it is a wish to subscribe, of which only the position has a meaning.
    fn read(channel: Cow<'a, str>, sub: Option<impl Source<'a>>) -> Result<ServerSub<'a>, Malformed> {
        let mut subscribe = Subscribe::default();
        if let Some(sub) = sub {
            sub.fields(|field, value| subscribe.set(field, value))?;
        }
        Ok(ServerSub { channel, recover: subscribe.recover, since: subscribe.since })
    }
}

impl<'a> Subscribe<'a> {
    fn set(&mut self, field: schema::SubscribeRequest, value: impl Source<'a>) -> Result<(), Malformed> {
        use schema::SubscribeRequest::*;
        match field {
            Channel => self.channel = value.text()?,
            Token => self.token = value.text()?,
            Data => self.data = value.payload()?,
            Recover => self.recover = value.boolean()?,
            Epoch => self.since.epoch = value.text()?,
            Offset => self.since.offset = value.u64()?,
            Positioned => self.positioned = value.boolean()?,
            Recoverable => self.recoverable = value.boolean()?,
            JoinLeave => self.join_leave = value.boolean()?,
            Delta => self.delta = value.text()?,
            Filter => self.filter = Some(super::Filter::read(value)?),
            Flag => self.reject_unrecovered = value.u64()? & FLAG_REJECT_UNRECOVERED != 0,
            Type => self.kind = value.u32()?,
        }
        Ok(())
    }
}

impl<'a> History<'a> {
    fn set(&mut self, field: schema::HistoryRequest, value: impl Source<'a>) -> Result<(), Malformed> {
        use schema::HistoryRequest::*;
        match field {
            Channel => self.channel = value.text()?,
            Limit => self.limit = value.i32()?,
            Since => {
                let since = self.since.get_or_insert_default();
                value.fields(|field, value| since.set(field, value))?;
            }
            Reverse => self.reverse = value.boolean()?,
        }
        Ok(())
    }
}

impl<'a> Position<'a> {
    fn set(&mut self, field: schema::StreamPosition, value: impl Source<'a>) -> Result<(), Malformed> {
        match field {
            schema::StreamPosition::Offset => self.offset = value.u64()?,
            schema::StreamPosition::Epoch => self.epoch = value.text()?,
        }
        Ok(())
    }
}
