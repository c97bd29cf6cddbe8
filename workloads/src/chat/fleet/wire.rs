//! What nodes say to each other: small messages, in a form of our own.
//!
//! ```text
//!   message   [version u8][sender 16][number 8][sent 8]  [kind u8][fields]
//!             └─ the same in all versions, for ever ─┘   └─ of this version ─┘
//! ```
//!
//! The head is read whatever the version says, so that who asks in another one is told so at once instead of waiting: a fleet
//! is upgraded node by node. A message is taken whole or not at all: what is left over behind it is a fault.

use std::sync::Arc;

use annulus_protocols::centrifuge::Disconnect;

use super::fields::{Reader, Writer};
use crate::chat::evidence::Present;
use crate::chat::letters::{Granted, Order, Overrides, Target};
use crate::chat::sanctions::{Kind, Sanction};
use crate::chat::session::ClientId;

/// The version that is written here, and the only one that is read.
pub const VERSION: u8 = 1;
/// Bytes of what is told of a channel's members, or of channels, in one answer. Beyond, the answer is cut, and says so.
pub const FOUND_BYTES_MAX: usize = 4 << 20;

/// Names a node: its run's UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub [u8; 16]);

impl NodeId {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<NodeId> {
        ClientId::parse(text).map(|id| NodeId(id.0))
    }
}

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        ClientId(self.0).fmt(f)
    }
}

/// What is in front of every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Who says it.
    pub sender: NodeId,
    /// What the sender calls it; an answer has the number of what it answers.
    pub number: u64,
    /// When, in milliseconds of Redis' clock; 0: the sender does not know that clock yet.
    pub sent_ms: u64,
}

/// What is asked of every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Who is in a channel: so many of them at most are named; 0: they are only counted.
    Presence {
        /// Which.
        channel: String,
        /// How many.
        most: u32,
    },
    /// Which channels have members.
    Channels {
        /// What their names match.
        pattern: String,
    },
    /// What is forbidden to users.
    Sanctions,
}

/// What a node answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Members of the channel, by name.
    pub present: Vec<Present>,
    /// Members that are only counted: users' hashes, and how many clients each has.
    pub counted: Vec<(u64, u64)>,
    /// Channels, and how many members each has.
    pub channels: Vec<(Arc<str>, u64)>,
    /// What is forbidden to users; if anything is, the answer has nothing else.
    pub sanctions: Vec<Sanction>,
    /// There were more than an answer may hold.
    pub is_cut: bool,
}

/// What is said.
#[derive(Clone, Debug)]
pub enum Message {
    /// To all.
    Question(Question),
    /// To who asked.
    Found(Found),
    /// To all: to be done with a user's clients.
    Order(Order),
    /// To who gave an order: it is carried out.
    Done,
    /// To the node where a session is: a message of its client.
    Emulated {
        /// The session's name.
        session: String,
        /// The message.
        message: Vec<u8>,
    },
    /// To who asked: not now, too much is asked.
    Busy,
    /// To who asked: only this version is understood here.
    NotUnderstood(u8),
}

/// Why a message is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has not even a head.
    Headless,
    /// It is of another version than [`VERSION`].
    Version(u8, Head),
    /// What follows the head is no message.
    Malformed(Head),
}

const HEAD_BYTES: usize = 1 + 16 + 8 + 8;

/// Writes a message.
pub fn write(head: &Head, message: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + 64);
    out.push(VERSION);
    out.extend_from_slice(&head.sender.0);
    out.extend_from_slice(&head.number.to_be_bytes());
    out.extend_from_slice(&head.sent_ms.to_be_bytes());
    let mut writer = Writer(&mut out);
    match message {
        Message::Question(Question::Presence { channel, most }) => {
            writer.byte(kind::PRESENCE).text(channel).number((*most).into());
        }
        Message::Question(Question::Channels { pattern }) => {
            writer.byte(kind::CHANNELS).text(pattern);
        }
        Message::Question(Question::Sanctions) => {
            writer.byte(kind::SANCTIONS_WANTED);
        }
        // A kind of its own: nodes of the release before read the other answers as ever.
        Message::Found(found) if !found.sanctions.is_empty() => {
            let sanctions = fitting(&found.sanctions, |one| one.user.len() + one.channel.len());
            let is_whole = sanctions.len() == found.sanctions.len();
            writer.byte(kind::SANCTIONS).byte((found.is_cut || !is_whole).into());
            writer.list(sanctions, write_sanction);
        }
        Message::Found(found) => write_found(writer.byte(kind::FOUND), found),
        Message::Order(order) => write_order(writer.byte(kind::ORDER), order),
        Message::Done => {
            writer.byte(kind::DONE);
        }
        Message::Emulated { session, message } => {
            writer.byte(kind::EMULATED).text(session).bytes(message);
        }
        Message::Busy => {
            writer.byte(kind::BUSY);
        }
        Message::NotUnderstood(version) => {
            writer.byte(kind::NOT_UNDERSTOOD).byte(*version);
        }
    }
    out
}

/// Reads a message.
///
/// # Errors
/// It is none, or none of this version.
pub fn read(bytes: &[u8]) -> Result<(Head, Message), Fault> {
    let mut reader = Reader(bytes);
    let head = |reader: &mut Reader<'_>| {
        let version = reader.byte()?;
        let sender = NodeId(reader.array()?);
        let number = u64::from_be_bytes(reader.array()?);
        Some((version, Head { sender, number, sent_ms: u64::from_be_bytes(reader.array()?) }))
    };
    let (version, head) = head(&mut reader).ok_or(Fault::Headless)?;
    if version != VERSION {
        return Err(Fault::Version(version, head));
    }
    match read_message(&mut reader) {
        Some(message) if reader.0.is_empty() => Ok((head, message)),
        _ => Err(Fault::Malformed(head)),
    }
}

mod kind {
    pub const PRESENCE: u8 = 1;
    pub const CHANNELS: u8 = 2;
    pub const FOUND: u8 = 3;
    pub const ORDER: u8 = 4;
    pub const DONE: u8 = 5;
    pub const EMULATED: u8 = 6;
    pub const BUSY: u8 = 7;
    pub const NOT_UNDERSTOOD: u8 = 8;
    pub const SANCTIONS_WANTED: u8 = 9;
    pub const SANCTIONS: u8 = 10;
}

mod order {
    pub const SUBSCRIBE: u8 = 1;
    pub const UNSUBSCRIBE: u8 = 2;
    pub const DISCONNECT: u8 = 3;
    pub const REFRESH: u8 = 4;
    pub const SANCTION: u8 = 5;
}

fn read_message(reader: &mut Reader<'_>) -> Option<Message> {
    Some(match reader.byte()? {
        kind::PRESENCE => {
            let channel = reader.text()?.to_owned();
            Message::Question(Question::Presence { channel, most: u32::try_from(reader.number()?).ok()? })
        }
        kind::CHANNELS => Message::Question(Question::Channels { pattern: reader.text()?.to_owned() }),
        kind::FOUND => Message::Found(read_found(reader)?),
        kind::ORDER => Message::Order(read_order(reader)?),
        kind::DONE => Message::Done,
        kind::EMULATED => {
            let session = reader.text()?.to_owned();
            Message::Emulated { session, message: reader.bytes()?.to_vec() }
        }
        kind::BUSY => Message::Busy,
        kind::NOT_UNDERSTOOD => Message::NotUnderstood(reader.byte()?),
        kind::SANCTIONS_WANTED => Message::Question(Question::Sanctions),
        kind::SANCTIONS => {
            let is_cut = reader.flag()?;
            Message::Found(Found { sanctions: reader.list(read_sanction)?, is_cut, ..Found::default() })
        }
        _ => return None,
    })
}

fn write_found(writer: &mut Writer<'_>, found: &Found) {
    let present = fitting(&found.present, |one| {
        let infos = [&one.conn_info, &one.chan_info].into_iter().flatten();
        one.client.len() + one.user.len() + infos.map(|info| info.len()).sum::<usize>()
    });
    let counted = fitting(&found.counted, |_| 0);
    let channels = fitting(&found.channels, |(name, _)| name.len());
    let is_whole = present.len() == found.present.len()
        && counted.len() == found.counted.len()
        && channels.len() == found.channels.len();
    writer.byte((found.is_cut || !is_whole).into());
    writer.list(present, |writer, one| {
        writer.text(&one.client).text(&one.user);
        writer.option(one.conn_info.as_deref(), |writer, info| {
            writer.bytes(info);
        });
        writer.option(one.chan_info.as_deref(), |writer, info| {
            writer.bytes(info);
        });
    });
    writer.list(counted, |writer, (user, clients)| {
        writer.number(*user).number(*clients);
    });
    writer.list(channels, |writer, (name, members)| {
        writer.text(name).number(*members);
    });
}

/// As many of the first ones as an answer has room for.
fn fitting<T>(all: &[T], bytes: impl Fn(&T) -> usize) -> &[T] {
    /// Lengths and numbers of one entry, at most.
    const AROUND_BYTES: usize = 32;
    let mut left = FOUND_BYTES_MAX;
    let fits = |one: &T| {
        let rest = left.checked_sub(bytes(one) + AROUND_BYTES);
        left = rest.unwrap_or(0);
        rest.is_some()
    };
    &all[..all.iter().map(fits).take_while(|fits| *fits).count()]
}

fn read_found(reader: &mut Reader<'_>) -> Option<Found> {
    let is_cut = reader.flag()?;
    let present = reader.list(|reader| {
        Some(Present {
            client: reader.text()?.to_owned(),
            user: reader.text()?.into(),
            conn_info: reader.option(|reader| reader.bytes().map(Arc::from))?,
            chan_info: reader.option(|reader| reader.bytes().map(Arc::from))?,
        })
    })?;
    let counted = reader.list(|reader| Some((reader.number()?, reader.number()?)))?;
    let channels = reader.list(|reader| Some((reader.text()?.into(), reader.number()?)))?;
    Some(Found { present, counted, channels, sanctions: Vec::new(), is_cut })
}

fn write_order(writer: &mut Writer<'_>, order: &Order) {
    match order {
        Order::Sanction(sanction) => write_sanction(writer.byte(order::SANCTION), sanction),
        Order::Subscribe { target, subscription, since } => {
            write_target(writer.byte(order::SUBSCRIBE), target);
            let Granted { channel, expires_at, info, data, overrides } = subscription;
            writer.text(channel).number(*expires_at);
            writer.option(info.as_deref(), |writer, info| {
                writer.bytes(info);
            });
            writer.option(data.as_deref(), |writer, data| {
                writer.bytes(data);
            });
            let Overrides { presence, join_leave, force_push_join_leave, force_recovery, force_positioning } =
                overrides;
            for option in [presence, join_leave, force_push_join_leave, force_recovery, force_positioning] {
                writer.option(*option, |writer, is| {
                    writer.byte(is.into());
                });
            }
            writer.option(since.as_ref(), |writer, (offset, epoch)| {
                writer.number(*offset).text(epoch);
            });
        }
        Order::Unsubscribe { target, channel, code, reason } => {
            write_target(writer.byte(order::UNSUBSCRIBE), target);
            writer.text(channel).number((*code).into()).text(reason);
        }
        Order::Disconnect { target, disconnect, before } => {
            write_target(writer.byte(order::DISCONNECT), target);
            writer.number(disconnect.code.into()).text(&disconnect.reason);
            writer.option(*before, |writer, before| {
                writer.number(before);
            });
        }
        Order::Refresh { target, expired, expires_at, info } => {
            write_target(writer.byte(order::REFRESH), target);
            writer.byte((*expired).into()).number(*expires_at);
            writer.option(info.as_deref(), |writer, info| {
                writer.bytes(info);
            });
        }
    }
}

fn read_order(reader: &mut Reader<'_>) -> Option<Order> {
    let kind = reader.byte()?;
    if kind == order::SANCTION {
        return read_sanction(reader).map(Order::Sanction);
    }
    let target = read_target(reader)?;
    Some(match kind {
        order::SUBSCRIBE => {
            let (channel, expires_at) = (reader.text()?.to_owned(), reader.number()?);
            let info = reader.option(|reader| reader.bytes().map(<[u8]>::to_vec))?;
            let data = reader.option(|reader| reader.bytes().map(<[u8]>::to_vec))?;
            let mut flag = || reader.option(Reader::flag);
            let overrides = Overrides {
                presence: flag()?,
                join_leave: flag()?,
                force_push_join_leave: flag()?,
                force_recovery: flag()?,
                force_positioning: flag()?,
            };
            let since = reader.option(|reader| Some((reader.number()?, reader.text()?.to_owned())))?;
            let subscription = Granted { channel, expires_at, info, data, overrides };
            Order::Subscribe { target, subscription, since }
        }
        order::UNSUBSCRIBE => Order::Unsubscribe {
            target,
            channel: reader.text()?.to_owned(),
            code: u32::try_from(reader.number()?).ok()?,
            reason: reader.text()?.to_owned(),
        },
        order::DISCONNECT => Order::Disconnect {
            target,
            disconnect: Disconnect {
                code: u16::try_from(reader.number()?).ok()?,
                reason: reader.text()?.to_owned().into(),
            },
            before: reader.option(Reader::number)?,
        },
        order::REFRESH => Order::Refresh {
            target,
            expired: reader.flag()?,
            expires_at: reader.number()?,
            info: reader.option(|reader| reader.bytes().map(<[u8]>::to_vec))?,
        },
        _ => return None,
    })
}

fn write_sanction(writer: &mut Writer<'_>, sanction: &Sanction) {
    let Sanction { kind, user, channel, until } = sanction;
    writer.byte((*kind == Kind::Ban).into()).text(user).text(channel).number(*until);
}

fn read_sanction(reader: &mut Reader<'_>) -> Option<Sanction> {
    let kind = if reader.flag()? { Kind::Ban } else { Kind::Mute };
    Some(Sanction { kind, user: reader.text()?.into(), channel: reader.text()?.into(), until: reader.number()? })
}

fn write_target(writer: &mut Writer<'_>, target: &Target) {
    let Target { user, client, session, except } = target;
    writer.text(user).text(session);
    writer.option(*client, |writer, client| writer.0.extend_from_slice(&client.0));
    writer.list(except, |writer, client| writer.0.extend_from_slice(&client.0));
}

fn read_target(reader: &mut Reader<'_>) -> Option<Target> {
    let (user, session) = (reader.text()?.to_owned(), reader.text()?.to_owned());
    let client = reader.option(|reader| reader.array().map(ClientId))?;
    let except = reader.list(|reader| reader.array().map(ClientId))?;
    Some(Target { user, client, session, except })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head { sender: NodeId([7; 16]), number: 0x0102_0304_0506_0708, sent_ms: 1_700_000_000_123 };

    fn all() -> Vec<Message> {
        let target = Target {
            user: "ann".to_owned(),
            client: Some(ClientId([1; 16])),
            session: "s".to_owned(),
            except: vec![ClientId([2; 16]), ClientId([3; 16])],
        };
        let present =
            Present { client: "c".to_owned(), user: "ünn".into(), conn_info: Some(b"{}"[..].into()), chan_info: None };
        let granted = Granted {
            channel: "a".to_owned(),
            expires_at: 5,
            info: Some(b"1".to_vec()),
            data: None,
            overrides: Overrides { presence: Some(true), force_recovery: Some(false), ..Overrides::default() },
        };
        let found = Found {
            present: vec![present.clone(), present],
            counted: vec![(u64::MAX, 1)],
            channels: vec![("x".into(), 300)],
            sanctions: Vec::new(),
            is_cut: false,
        };
        let sanction = Sanction { kind: Kind::Ban, user: "ann".into(), channel: "a".into(), until: u64::MAX };
        vec![
            Message::Question(Question::Presence { channel: "a".to_owned(), most: u32::MAX }),
            Message::Question(Question::Channels { pattern: "a*".to_owned() }),
            Message::Question(Question::Sanctions),
            Message::Found(Found { sanctions: vec![sanction.clone()], ..Found::default() }),
            Message::Order(Order::Sanction(sanction)),
            Message::Found(found),
            Message::Order(Order::Subscribe {
                target: target.clone(),
                subscription: granted,
                since: Some((7, "abcd".to_owned())),
            }),
            Message::Order(Order::Unsubscribe {
                target: target.clone(),
                channel: String::new(),
                code: 2000,
                reason: "r".to_owned(),
            }),
            Message::Order(Order::Disconnect {
                target: target.clone(),
                disconnect: Disconnect::FORCE_DISCONNECT,
                before: Some(9),
            }),
            Message::Order(Order::Refresh { target, expired: false, expires_at: 99, info: Some(b"{}".to_vec()) }),
            Message::Done,
            Message::Emulated { session: "s".to_owned(), message: b"{}\xff".to_vec() },
            Message::Busy,
            Message::NotUnderstood(3),
        ]
    }

    #[test]
    fn every_message_is_read_as_it_was_written_and_no_part_of_one_is() {
        for message in all() {
            let bytes = write(&HEAD, &message);
            let (head, read_again) = read(&bytes).unwrap();
            assert_eq!((head, format!("{read_again:?}")), (HEAD, format!("{message:?}")));
            for len in 0..bytes.len() {
                assert!(read(&bytes[..len]).is_err(), "{len} bytes of {message:?}");
            }
            assert_eq!(read(&[&bytes[..], b"\0"].concat()).unwrap_err(), Fault::Malformed(HEAD));
        }
    }

    #[test]
    fn another_version_is_told_whatever_follows_its_head() {
        let mut bytes = write(&HEAD, &Message::Done);
        bytes[0] = 9;
        bytes.extend_from_slice(b"something new");
        assert_eq!(read(&bytes).unwrap_err(), Fault::Version(9, HEAD));
        assert_eq!(read(b"\x09").unwrap_err(), Fault::Headless);
    }

    #[test]
    fn damaged_messages_are_refused_or_read_and_nothing_else() {
        let mut state = 1u64;
        for message in all() {
            let bytes = write(&HEAD, &message);
            for _ in 0..2000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let mut damaged = bytes.clone();
                let at = HEAD_BYTES + (state >> 33) as usize % (bytes.len() - HEAD_BYTES);
                damaged[at] = (state >> 25) as u8;
                if let Ok((_, message)) = read(&damaged) {
                    // Whatever it is now, it is a message.
                    assert!(read(&write(&HEAD, &message)).is_ok());
                }
            }
        }
        // A count that is a claim.
        let mut claim = write(&HEAD, &Message::Busy);
        claim.pop();
        claim.extend_from_slice(&[kind::FOUND, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
        assert_eq!(read(&claim).unwrap_err(), Fault::Malformed(HEAD));
    }

    #[test]
    fn an_answer_that_is_too_large_is_cut_and_says_so() {
        let channels: Vec<(Arc<str>, u64)> = (0..100_000).map(|n| (format!("{n:0>200}").into(), 1)).collect();
        let bytes = write(&HEAD, &Message::Found(Found { channels, ..Found::default() }));
        assert!(bytes.len() <= FOUND_BYTES_MAX + 1024, "{}", bytes.len());
        let Ok((_, Message::Found(found))) = read(&bytes) else { panic!("an answer") };
        assert!(found.is_cut && found.channels.len() > 10_000);
    }
}
