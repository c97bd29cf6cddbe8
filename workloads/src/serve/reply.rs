//! What a service answers.

use std::io;
use std::pin::Pin;

/// An answer.
pub struct Reply {
    /// Its status, 200-599.
    pub status: u16,
    /// Its fields, but those that frame the body, which the session writes.
    pub fields: Vec<(&'static str, String)>,
    /// Its body.
    pub body: ReplyBody,
}

/// An answer's body.
pub enum ReplyBody {
    /// None at all: 204 and 304 say no length either, unless it is named.
    Empty,
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes, which are in the binary.
    Fixed(&'static [u8]),
    /// Pieces as they come. With a length they must add up to it, or the connection breaks off.
    Streamed {
        /// All bytes, if that is known.
        len: Option<u64>,
        /// Where they come from. Not asked where only the head is wanted.
        pieces: Box<dyn Pieces>,
    },
}

/// A future that stays on its shard.
pub type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A body that is made while it is sent.
pub trait Pieces {
    /// The next bytes, `None` at the end. The future may be dropped when the client has left.
    fn next(&mut self) -> Local<'_, io::Result<Option<Vec<u8>>>>;
}

impl Reply {
    /// An answer without a body.
    pub fn empty(status: u16) -> Reply {
        Reply { status, fields: Vec::new(), body: ReplyBody::Empty }
    }

    /// An answer of this media type.
    pub fn bytes(status: u16, kind: &str, body: Vec<u8>) -> Reply {
        Reply { status, fields: vec![("content-type", kind.to_owned())], body: ReplyBody::Bytes(body) }
    }

    /// A JSON document.
    pub fn json(status: u16, document: &impl serde::Serialize) -> Reply {
        // Documents are structs of ours with text keys: nothing in them cannot be written.
        let mut body = serde_json::to_vec(document).expect("a document of ours is always JSON");
        body.push(b'\n');
        Reply::bytes(status, "application/json", body)
    }

    /// A text of the binary.
    pub fn fixed(kind: &str, text: &'static str) -> Reply {
        let fields = vec![("content-type", kind.to_owned())];
        Reply { status: 200, fields, body: ReplyBody::Fixed(text.as_bytes()) }
    }

    /// The answer with one more field.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.fields.push((name, value.into()));
        self
    }
}
