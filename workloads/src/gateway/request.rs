//! What a client asks and what it is answered, whatever HTTP version it speaks.

use std::net::IpAddr;
use std::time::Duration;

use super::message::FieldList;
use super::upstream::Answer;

/// A client's request, its body included.
#[derive(Debug)]
pub struct Request {
    /// The method as sent.
    pub method: String,
    /// The path as sent, percent-encoding untouched.
    pub path: String,
    /// What follows the `?`.
    pub query: Option<String>,
    /// `Host` or `:authority`.
    pub authority: String,
    /// All fields but those of the connection.
    pub fields: FieldList,
    /// The body; empty where there is none.
    pub body: Vec<u8>,
    /// Who is connected.
    pub peer: IpAddr,
    /// When the head was complete, by the shard's clock.
    pub began: Duration,
}

impl Request {
    /// Name and value of each parameter of the query, as sent.
    pub fn query_pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let query = self.query.as_deref().unwrap_or_default();
        query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }
}

/// What a client is answered.
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Fields besides those that frame the body.
    pub fields: FieldList,
    /// The body.
    pub body: ReplyBody,
}

/// An answer's body.
pub enum ReplyBody {
    /// All of it.
    Whole(Vec<u8>),
    /// An upstream's, as it comes.
    Streamed(Box<Answer>),
}

impl Reply {
    /// An answer with a body of a type.
    pub fn new(status: u16, content_type: &str, body: Vec<u8>) -> Reply {
        let mut fields = FieldList::new();
        fields.push("content-type", content_type.as_bytes());
        Reply { status, fields, body: ReplyBody::Whole(body) }
    }

    /// An answer without a body.
    pub fn empty(status: u16) -> Reply {
        Reply { status, fields: FieldList::new(), body: ReplyBody::Whole(Vec::new()) }
    }

    /// With one more field.
    pub fn with(mut self, name: &str, value: &str) -> Reply {
        self.fields.push(name, value.as_bytes());
        self
    }
}
