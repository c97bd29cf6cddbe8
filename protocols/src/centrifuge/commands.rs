//! Taking a message apart into commands.

use std::fmt;

use memchr::memchr;

use super::protobuf::{self, Protobuf};
use super::{Codec, Command};
use crate::json::{Kind, Value, validate};

/// A message that breaks the protocol's form: the connection is closed with 3501.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// No bytes, or nothing between two line ends.
    Empty,
    /// Not JSON, or not an object.
    NotAnObject,
    /// Not Protobuf: it ends too early, or has what no message can have.
    NotAMessage,
    /// A field of a type or range it cannot have, or with a text that is not UTF-8.
    Field,
    /// More in a map or a filter than anybody needs.
    TooMany,
    /// None of the methods, with an id.
    NoMethod,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Empty => "an empty command",
            Malformed::NotAnObject => "a command that is not a JSON object",
            Malformed::NotAMessage => "a command that is not a Protobuf message",
            Malformed::Field => "a field of the wrong type",
            Malformed::TooMany => "a map or a filter with too much in it",
            Malformed::NoMethod => "a command without a method",
        })
    }
}

impl std::error::Error for Malformed {}

/// The commands of one WebSocket message, in order. After an error there are no more.
///
/// ```text
/// message  command command command command command
///                          ^last   ^next
///          from_last() ----|-------|-------------->
///          rest() -----------------|-------------->
/// ```
///
/// Both of them can be read later as a message of their own, with the same outcome as if reading had gone on.
#[derive(Clone, Debug)]
pub struct Commands<'a> {
    codec: Codec,
    /// Where the last command began, and everything behind it.
    from_last: &'a [u8],
    /// `None` at the end.
    rest: Option<&'a [u8]>,
}

impl<'a> Commands<'a> {
    /// In JSON, commands are separated by one line end, and one may follow the last. In Protobuf, each has its length in
    /// front.
    pub fn of(codec: Codec, message: &'a [u8]) -> Commands<'a> {
        Commands { codec, from_last: message, rest: Some(message) }
    }

    /// What has not been read yet; empty at the end.
    pub fn rest(&self) -> &'a [u8] {
        self.rest.unwrap_or_default()
    }

    /// The last command that was given out, and everything behind it: for a caller that puts it back, to carry it out
    /// later. The whole message before the first.
    pub fn from_last(&self) -> &'a [u8] {
        self.from_last
    }
}

impl<'a> Iterator for Commands<'a> {
    type Item = Result<Command<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.from_last = self.rest.take()?;
        let read = match self.codec {
            Codec::Json => json(self.from_last),
            Codec::Protobuf => protobuf(self.from_last),
        };
        Some(read.map(|(command, rest)| {
            self.rest = (!rest.is_empty()).then_some(rest);
            command
        }))
    }
}

fn json(message: &[u8]) -> Result<(Command<'_>, &[u8]), Malformed> {
    let (line, rest) = match memchr(b'\n', message) {
        Some(at) => (&message[..at], &message[at + 1..]),
        None => (message, &[][..]),
    };
    match validate(line) {
        _ if line.is_empty() => Err(Malformed::Empty),
        Ok(Kind::Object) => Ok((Command::read(Value::of(line))?, rest)),
        _ => Err(Malformed::NotAnObject),
    }
}

fn protobuf(message: &[u8]) -> Result<(Command<'_>, &[u8]), Malformed> {
    if message.is_empty() {
        return Err(Malformed::Empty);
    }
    let (content, rest) = protobuf::split_delimited(message).ok_or(Malformed::NotAMessage)?;
    Ok((Command::read(Protobuf::message(content))?, rest))
}
