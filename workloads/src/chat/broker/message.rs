//! What nodes say to each other in a channel, as bytes.
//!
//! ```text
//!   1 P epoch offset : publication      by Redis' script, of what it has just numbered
//!   1 C epoch offset :                  by Redis' script: everything up to the offset is forgotten
//!   1 R epoch offset :                  by Redis' script: what was published there is removed
//!   1 S | J | L  len node  publication  by a node: published without history; somebody came, somebody left
//! ```
//!
//! The first byte is the version: a node that does not know it says so, and takes nothing from the message. Epochs are four
//! letters and offsets decimal, so that the script can put them there; a publication is as in the log.

use crate::chat::kept::{Place, author_of, with_publication};
use crate::chat::log::Publication;
use crate::chat::stream::{Author, Content, Epoch};

/// The version that is spoken, and the only one that is understood.
const VERSION: u8 = b'1';
/// Bytes of a node's name.
const NODE_BYTES_MAX: usize = 255;

/// What was said.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A publication of the history.
    Publication {
        /// Its channel's life.
        epoch: Epoch,
        /// Its number.
        offset: u64,
        /// Itself, encoded.
        entry: &'a [u8],
    },
    /// The history is forgotten.
    Cleared {
        /// Its channel's life.
        epoch: Epoch,
        /// Up to where.
        upto: u64,
    },
    /// One publication is removed.
    Removed {
        /// Its channel's life.
        epoch: Epoch,
        /// Its number.
        offset: u64,
    },
    /// A publication without history.
    Said {
        /// By which node.
        node: &'a str,
        /// What.
        publication: Publication<'a>,
    },
    /// Somebody came or left.
    Moved {
        /// By which node.
        node: &'a str,
        /// Came, or left.
        came: bool,
        /// Who.
        who: Author,
    },
}

/// Why a message is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strange {
    /// It is of another version.
    Version(u8),
    /// It is none of ours.
    Bytes,
}

impl std::fmt::Display for Strange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Strange::Version(version) => write!(
                f,
                "a node speaks version {:?}, and this one {:?}: upgrade the older one",
                char::from(*version),
                char::from(VERSION)
            ),
            Strange::Bytes => f.write_str("it is no message of a node: does somebody else use the same prefix?"),
        }
    }
}

/// Reads a message.
///
/// # Errors
/// [`Strange`].
pub fn read(bytes: &[u8]) -> Result<Message<'_>, Strange> {
    match bytes {
        [VERSION, kind @ (b'P' | b'C' | b'R'), rest @ ..] => {
            let (epoch, offset, entry) = read_place(rest).ok_or(Strange::Bytes)?;
            match kind {
                b'P' => Ok(Message::Publication { epoch, offset, entry }),
                b'C' if entry.is_empty() => Ok(Message::Cleared { epoch, upto: offset }),
                b'R' if entry.is_empty() => Ok(Message::Removed { epoch, offset }),
                _ => Err(Strange::Bytes),
            }
        }
        [VERSION, kind @ (b'S' | b'J' | b'L'), rest @ ..] => {
            let (node, publication) = read_said(rest).ok_or(Strange::Bytes)?;
            match kind {
                b'S' => Ok(Message::Said { node, publication }),
                _ => {
                    let who = author_of(&publication).ok_or(Strange::Bytes)?;
                    Ok(Message::Moved { node, came: *kind == b'J', who })
                }
            }
        }
        [VERSION, ..] | [] => Err(Strange::Bytes),
        [version, ..] => Err(Strange::Version(*version)),
    }
}

fn read_place(bytes: &[u8]) -> Option<(Epoch, u64, &[u8])> {
    let (epoch, rest) = bytes.split_first_chunk::<4>()?;
    let colon = rest.iter().take(21).position(|byte| *byte == b':')?;
    let (digits, entry) = (&rest[..colon], &rest[colon + 1..]);
    let offset = std::str::from_utf8(digits).ok()?;
    let is_plain = epoch.iter().all(u8::is_ascii_alphanumeric) && offset.bytes().all(|byte| byte.is_ascii_digit());
    Some((*epoch, offset.parse().ok().filter(|_| is_plain)?, entry))
}

fn read_said(bytes: &[u8]) -> Option<(&str, Publication<'_>)> {
    let (len, rest) = bytes.split_first()?;
    let (node, rest) = rest.split_at_checked(*len as usize)?;
    Some((std::str::from_utf8(node).ok()?, Publication::of_bytes(rest)?))
}

/// A publication without history, for the other nodes. It is not kept anywhere, so it is not encrypted for keeping.
pub fn said(node: &str, channel: &str, now: u64, content: &Content) -> Vec<u8> {
    with_publication(Place::none(channel), now, None, content, None, |publication| write_said(b'S', node, &publication))
}

/// Somebody who came or left, for the other nodes.
pub fn moved(node: &str, channel: &str, came: bool, who: &Author) -> Vec<u8> {
    let content = Content { data: Box::default(), binary: false, author: Some(who.clone()), tags: Vec::new() };
    let kind = if came { b'J' } else { b'L' };
    with_publication(Place::none(channel), 0, None, &content, None, |publication| write_said(kind, node, &publication))
}

fn write_said(kind: u8, node: &str, publication: &Publication<'_>) -> Vec<u8> {
    let node = &node.as_bytes()[..node.len().min(NODE_BYTES_MAX)];
    [&[VERSION, kind, node.len() as u8], node, &publication.to_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::session::ClientId;

    fn content() -> Content {
        let who = Author { user: "u".into(), client: ClientId([7; 16]).into(), conn_info: None, chan_info: None };
        Content {
            data: b"{}".as_slice().into(),
            binary: false,
            author: Some(who),
            tags: vec![("a".into(), "b".into())],
        }
    }

    #[test]
    fn what_a_node_says_is_what_others_hear() {
        let content = content();
        let message = said("node-1", "room", 5, &content);
        let Ok(Message::Said { node: "node-1", publication }) = read(&message) else { panic!("{:?}", read(&message)) };
        assert_eq!((publication.channel, publication.time_ms), ("room", 5));
        assert_eq!(crate::chat::kept::content_of(&publication, None), Some(content.clone()));
        let who = content.author.unwrap();
        for came in [true, false] {
            let message = moved("n", "room", came, &who);
            assert_eq!(read(&message), Ok(Message::Moved { node: "n", came, who: who.clone() }));
        }
    }

    #[test]
    fn what_the_scripts_say_is_read() {
        assert_eq!(
            read(b"1Pabcd17:entry:x"),
            Ok(Message::Publication { epoch: *b"abcd", offset: 17, entry: b"entry:x" })
        );
        assert_eq!(read(b"1Cabcd0:"), Ok(Message::Cleared { epoch: *b"abcd", upto: 0 }));
        assert_eq!(read(b"1Rabcd7:"), Ok(Message::Removed { epoch: *b"abcd", offset: 7 }));
        assert_eq!(read(b"1Rabcd7:x"), Err(Strange::Bytes));
    }

    #[test]
    fn bytes_of_all_kinds_are_read_or_refused_without_a_panic() {
        for strange in [&b""[..], b"1", b"1P", b"1Pabcd:", b"1Pabcd-1:", b"1Pabcd99999999999999999999:", b"1Ca.cd1:"] {
            assert_eq!(read(strange), Err(Strange::Bytes), "{strange:?}");
        }
        for strange in [&b"1Cabcd1:x"[..], b"1S", b"1S\x05abc", b"1X", b"1J\x01n"] {
            assert_eq!(read(strange), Err(Strange::Bytes), "{strange:?}");
        }
        assert_eq!(read(b"2Pabcd1:"), Err(Strange::Version(b'2')));
        let mut random = annulus_engine::driver::sim::Random::new(3);
        let (messages, mut read_ones) = ([said("n", "c", 1, &content()), b"1Pabcd17:entry".to_vec()], 0);
        for message in messages {
            for _ in 0..5000 {
                let mut bytes = message.clone();
                let at = random.below(bytes.len());
                bytes[at] = random.bits() as u8;
                bytes.truncate(random.below(bytes.len()) + 1);
                read_ones += usize::from(read(&bytes).is_ok());
            }
        }
        assert!(read_ones > 100, "{read_ones}");
    }
}
