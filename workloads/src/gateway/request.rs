//! What a client asks and what it is answered, whatever HTTP version it speaks.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use annulus_engine::trace::Trace;
use annulus_protocols::websocket::handshake::Refusal;

use super::client::{Client, Turn};
use super::inflow::Inflow;
use super::memory::Held;
use super::message::FieldList;
use super::tunnel::Tunnel;
use super::upstream::Answer;
use crate::serve::pieces::Pieces;

/// A client's request, its body included.
pub struct Request {
    /// The method as sent.
    pub method: String,
    /// The protocol by which it came.
    pub protocol: &'static str,
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
    /// What the body takes of the memory.
    pub body_held: Held,
    /// Who is connected.
    pub peer: IpAddr,
    /// Its connection, and what its answers take.
    pub client: Rc<Client>,
    /// When the head was complete, by the shard's clock.
    pub began: Duration,
    /// Where its time goes, where its connection does not know.
    pub trace: Trace,
    /// The body as it arrives, instead of `body`: a gRPC call's.
    pub inflow: Option<Rc<Inflow>>,
    /// Whether it asks for a WebSocket.
    pub upgrade: Upgrade,
}

/// Whether a request asks for its connection to become a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// It does not.
    None,
    /// It does, as it should.
    Asked,
    /// It does, and it is wrong.
    Wrong(Refusal),
}

/// Largest body of a client's request in bytes. Beyond: 413.
pub const REQUEST_BODY_BYTES_MAX: u64 = 8 << 20;
/// How long a body may take to arrive, where the configuration says nothing, and in how many bytes more it has a second more.
/// Beyond: 408.
const BODY_TIME: Duration = Duration::from_secs(60);
const BODY_BYTES_PER_SECOND_MIN: u64 = 4 << 10;
const TOO_LARGE: &str = "the request's body is too large";
const NO_ROOM: &str = "no memory is left for the request's body";

impl Request {
    /// Appends to the body, if there is room elsewhere, too.
    ///
    /// # Errors
    /// The status and the reason of a refusal: it is too large, or no memory is left for it.
    pub fn extend(&mut self, bytes: &[u8], is_room: bool) -> Result<(), (u16, &'static str)> {
        let len = self.body.len() + bytes.len();
        if !is_room || len as u64 > REQUEST_BODY_BYTES_MAX {
            return Err((413, TOO_LARGE));
        }
        self.body_held.grow_to(len).map_err(|_short| (503, NO_ROOM))?;
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    /// When all of it has to be here, by the shard's clock: a body may be slow, but not for ever. `read_timeout` is for all of
    /// it, whatever pieces it comes in.
    pub fn whole_by(&self, read_timeout: Option<Duration>) -> Duration {
        let more = Duration::from_secs(self.body.len() as u64 / BODY_BYTES_PER_SECOND_MIN);
        self.began + read_timeout.unwrap_or(BODY_TIME + more)
    }

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
    /// The client is to ask on another connection from now on.
    pub last: bool,
    /// Kept until the body is counted among what waits for the client.
    pub turn: Option<Turn>,
}

/// An answer's body.
pub enum ReplyBody {
    /// All of it.
    Whole(Pieces),
    /// An upstream's, as it comes.
    Streamed(Box<Answer>),
    /// None: behind the head the connection is a tunnel.
    Tunnel(Box<Tunnel>),
}

impl Reply {
    /// An answer with a body of a type.
    pub fn new(status: u16, content_type: &str, body: impl Into<Pieces>) -> Reply {
        let mut fields = FieldList::new();
        fields.push("content-type", content_type.as_bytes());
        Reply { status, fields, body: ReplyBody::Whole(body.into()), last: false, turn: None }
    }

    /// An answer without a body.
    pub fn empty(status: u16) -> Reply {
        Reply { status, fields: FieldList::new(), body: ReplyBody::Whole(Pieces::default()), last: false, turn: None }
    }

    /// With one more field.
    pub fn with(mut self, name: &str, value: &str) -> Reply {
        self.fields.push(name, value.as_bytes());
        self
    }
}
