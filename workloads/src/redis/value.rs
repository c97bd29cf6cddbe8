//! What Redis answers, in whichever version of its protocol.
//!
//! A value's bytes are slices of its own reply: keeping one keeps that reply in memory and nothing else.

use bytes::Bytes;
use redis_protocol::{resp2, resp3};

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing is there.
    Nil,
    /// A whole number.
    Int(i64),
    /// A fraction (RESP3 only; RESP2 has it as bytes).
    Double(f64),
    /// Yes or no (RESP3 only; RESP2 has 1 or 0).
    Bool(bool),
    /// Bytes of any kind.
    Bytes(Bytes),
    /// A word of the protocol's, such as `OK`.
    Text(String),
    /// Values in order.
    List(Vec<Value>),
    /// Pairs, in the server's order (RESP3 only; RESP2 has a list of keys and values in turn).
    Map(Vec<(Value, Value)>),
    /// An error within an answer, as that of a command in a transaction: the code and the words after it.
    Error {
        /// Its first word, such as `WRONGTYPE`.
        code: String,
        /// What comes after.
        message: String,
    },
}

impl Value {
    /// Whether nothing is there.
    pub fn is_nil(&self) -> bool {
        matches!(self, Value::Nil)
    }

    /// The whole number that it is, or that its bytes spell.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            Value::Bool(is_so) => Some(i64::from(*is_so)),
            other => other.as_str()?.parse().ok(),
        }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            Value::Text(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// Its bytes as text.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    /// Its bytes, shared.
    pub fn into_bytes(self) -> Option<Bytes> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            Value::Text(text) => Some(text.into()),
            _ => None,
        }
    }

    /// Its values.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::List(values) => Some(values),
            _ => None,
        }
    }

    /// Its values.
    pub fn into_list(self) -> Option<Vec<Value>> {
        match self {
            Value::List(values) => Some(values),
            _ => None,
        }
    }

    /// Its pairs: a map's, or a list's in which keys and values come in turn.
    pub fn into_pairs(self) -> Option<Vec<(Value, Value)>> {
        match self {
            Value::Map(pairs) => Some(pairs),
            Value::List(values) if values.len().is_multiple_of(2) => {
                let mut values = values.into_iter();
                Some(std::iter::from_fn(|| Some((values.next()?, values.next()?))).collect())
            }
            _ => None,
        }
    }
}

/// The code and the words of an error: `WRONGTYPE Operation against ...`.
pub(super) fn error(words: &[u8]) -> Value {
    let words = String::from_utf8_lossy(words);
    let (code, message) = words.split_once(' ').unwrap_or((&words, ""));
    Value::Error { code: code.to_owned(), message: message.to_owned() }
}

/// What a frame of RESP2 says; its ranges are within `reply`.
pub(super) fn of_resp2(reply: &Bytes, frame: resp2::types::RangeFrame) -> Value {
    use resp2::types::RangeFrame as Frame;
    match frame {
        Frame::Null => Value::Nil,
        Frame::Integer(number) => Value::Int(number),
        Frame::SimpleString((from, to)) => text(reply, (from, to)),
        Frame::Error((from, to)) => error(&reply[from..to]),
        Frame::BulkString((from, to)) => Value::Bytes(reply.slice(from..to)),
        Frame::Array(frames) => Value::List(frames.into_iter().map(|frame| of_resp2(reply, frame)).collect()),
    }
}

/// What a frame of RESP3 says; its ranges are within `reply`.
pub(super) fn of_resp3(reply: &Bytes, frame: resp3::types::RangeFrame) -> Value {
    use resp3::types::RangeFrame as Frame;
    let list = |frames: Vec<Frame>| Value::List(frames.into_iter().map(|frame| of_resp3(reply, frame)).collect());
    match frame {
        Frame::Null => Value::Nil,
        Frame::Number { data, .. } => Value::Int(data),
        Frame::Double { data, .. } => Value::Double(data),
        Frame::Boolean { data, .. } => Value::Bool(data),
        Frame::SimpleString { data, .. } => text(reply, data),
        Frame::SimpleError { data: (from, to), .. } | Frame::BlobError { data: (from, to), .. } => {
            error(&reply[from..to])
        }
        Frame::BlobString { data: (from, to), .. }
        | Frame::BigNumber { data: (from, to), .. }
        | Frame::VerbatimString { data: (from, to), .. }
        | Frame::ChunkedString((from, to)) => Value::Bytes(reply.slice(from..to)),
        Frame::Array { data, .. } | Frame::Push { data, .. } => list(data),
        Frame::Set { data, .. } => list(data.into_iter().collect()),
        Frame::Map { data, .. } => {
            // The codec takes them from the back.
            let pairs = data.into_iter().rev();
            Value::Map(pairs.map(|(key, value)| (of_resp3(reply, key), of_resp3(reply, value))).collect())
        }
        // A client's word, which the scanner lets no server say.
        Frame::Hello { .. } => Value::Nil,
    }
}

fn text(reply: &Bytes, (from, to): (usize, usize)) -> Value {
    Value::Text(String::from_utf8_lossy(&reply[from..to]).into_owned())
}
