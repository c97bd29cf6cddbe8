//! Clients without a WebSocket: their messages go down in the body of an answer that does not end, and their commands come up
//! in requests of their own, on any connection and any shard.
//!
//! ```text
//!   POST /connection/http_stream ─┐ body or query: connect
//!   GET  /connection/sse ─────────┴─► Session::Stream ─► hub, as with a WebSocket ─► reply, pushes ... ─► end
//!   POST /emulation ─► session's name ─► Letter::Emulated ─► the shard where it is ─► hub
//! ```
//!
//! From here on such a client is like any other: one session in the slab, one outbox with the same limits, the same pings. What
//! differs: there is no close frame, so it is told its code by a push in front of the end; nothing may come on its own
//! connection any more, and its end is the client's, at once. A request is answered with 204 as soon as its message is on its
//! way to the session: what becomes of it is told there.

use std::net::IpAddr;
use std::time::Duration;

use annulus_engine::{Close, ConnId, Group, Reason};
use annulus_protocols::centrifuge::{Codec, Disconnect, Emulation, write_disconnect_push};
use annulus_protocols::http1::{BodyLength, Exchange, RequestHead, write_response_head};

use super::call::HttpReply;
use super::session::{Purpose, Session};
use super::{INBOX, Service};
use crate::chat::dialect::{Carrier, Dialect};
use crate::chat::emulation::Sessions;
use crate::chat::fleet::{Forwarded, NodeId};
use crate::chat::http::Cors;
use crate::chat::hub::{Outcome, Ports};
use crate::chat::letters::Letter;
use crate::chat::session::Client;

/// What a body in Protobuf calls itself.
const PROTOBUF: &[u8] = b"application/octet-stream";
/// The member of a query in which an event stream's first commands are.
const CONNECT: &str = "cf_connect";
/// Nothing on the way may keep or hold back what is sent.
const UNCACHED: [(&str, &str); 3] = [
    ("cache-control", "private, no-cache, no-store, must-revalidate, max-age=0"),
    ("x-accel-buffering", "no"),
    ("x-content-type-options", "nosniff"),
];
/// To who has a session that nobody knows.
const UNKNOWN: &str = "there is no such session: connect again";
/// Bytes of a request to `/emulation` beyond twice its message: names, and room for the text to be escaped.
const AROUND_MESSAGE_BYTES: usize = 1024;

/// A stream that is wished for, until its first commands are there.
pub(super) struct Opening {
    client: Client,
    cors: Cors,
    /// The commands, if they came with the head.
    first: Option<Vec<u8>>,
}

impl HttpReply {
    /// What became of a message for a session of another node.
    fn of(forwarded: Forwarded) -> HttpReply {
        let (status, problem) = match forwarded {
            Forwarded::Sent => (204, None),
            Forwarded::Unknown => (404, Some(UNKNOWN.to_owned())),
            Forwarded::Away(why) => (503, Some(format!("the session's node cannot be reached: {why}"))),
        };
        HttpReply { status, problem, body: Vec::new() }
    }
}

impl Opening {
    /// What a page of another origin may read of the answer.
    pub(super) fn cors(&self) -> &Cors {
        &self.cors
    }
}

/// The largest body with which a stream may be wished for, or a message sent.
pub(super) fn body_bytes_max(message_bytes_max: usize, is_emulation: bool) -> usize {
    match is_emulation {
        // A text within a text: quotes and backslashes take two bytes.
        true => 2 * message_bytes_max + AROUND_MESSAGE_BYTES,
        false => message_bytes_max,
    }
}

impl Service {
    /// A wish for a stream: what it is to be when its body is there, or whether to close, if it was refused.
    pub(super) fn wish(
        &mut self,
        carrier: Carrier,
        head: &RequestHead<'_>,
        peer: Option<IpAddr>,
    ) -> Result<Purpose, bool> {
        let now = self.now();
        let dialect = match carrier {
            Carrier::EventStream => Dialect::EVENT_STREAM,
            Carrier::HttpStream | Carrier::WebSocket => Dialect::http_stream(codec_of(head)),
        };
        match self.door.open_stream(&self.node, head, peer, now, dialect, &mut self.out) {
            Some(client) => {
                let first = (head.method() == "GET").then(|| member(head.query().unwrap_or_default(), CONNECT));
                Ok(Purpose::Stream(Opening { client, cors: Cors::of(head), first }))
            }
            None => {
                self.meters.refused();
                self.note_request(peer, head.method(), head.path(), 0, Duration::ZERO);
                Err(true)
            }
        }
    }

    /// Opens a stream: what its session is.
    pub(super) fn open_stream(
        &mut self,
        id: ConnId,
        peer: Option<IpAddr>,
        exchange: &Exchange,
        opening: Opening,
        body: &[u8],
    ) -> Session {
        let Opening { mut client, cors, first } = opening;
        let (path, kind) = match client.dialect {
            Dialect::EVENT_STREAM => (&self.node.common.config.paths.sse, "text/event-stream"),
            dialect if dialect.codec() == Codec::Protobuf => {
                (&self.node.common.config.paths.http_stream, "application/octet-stream")
            }
            _ => (&self.node.common.config.paths.http_stream, "application/json"),
        };
        self.note_request(peer, if first.is_some() { "GET" } else { "POST" }, path, 200, Duration::ZERO);
        let fields: Vec<(&str, &str)> =
            [("content-type", kind)].into_iter().chain(UNCACHED).chain(cors.fields()).collect();
        // Its body is written by others from here on, and ends with the connection.
        let _body = write_response_head(&mut self.out, &exchange.closing(), 200, &fields, BodyLength::UntilClose);
        if client.dialect == Dialect::EVENT_STREAM {
            // Something at once, so that whoever is in between passes the head on.
            self.out.extend_from_slice(b"\r\n");
        }
        self.flush_out(id);
        self.opened(client.dialect);
        let now = self.now();
        let first = first.as_deref().unwrap_or(body);
        match self.hub.receive(&mut self.sockets, now, id, &mut client, first) {
            Outcome::Continue | Outcome::Wait => {}
            // When it is a session: in this turn.
            Outcome::Close(disconnect) => self.sockets.close(id, disconnect),
        }
        Session::Stream(client)
    }

    /// A request that carries a message is there: its status, and what is wrong with it. `None`: a task answers it.
    pub(super) fn emulate(&mut self, id: ConnId, codec: Codec, body: &[u8]) -> Option<(u16, &'static str)> {
        let Ok(emulation) = Emulation::read(codec, body) else {
            return Some((400, "expected an object with session, node and data"));
        };
        let common = self.node.common.clone();
        if emulation.data.len() > common.config.message_bytes_max {
            return Some((413, "the message is larger than may be (chat.message_bytes_max)"));
        }
        let is_ours = *emulation.node == *common.config.uid;
        if !Sessions::is_name(&emulation.session) {
            self.meters.emulated_unknown();
            return Some((404, UNKNOWN));
        }
        if let Some((fleet, node)) =
            self.works.fleet().cloned().zip(NodeId::parse(&emulation.node)).filter(|_| !is_ours)
        {
            self.meters.emulated_forwarded();
            let (session, message) = (emulation.session.into_owned(), emulation.data.into_owned());
            let shard = self.sockets.shard.clone();
            drop(shard.clone().spawn(async move {
                let reply = HttpReply::of(fleet.forward(node, session, message).await);
                let told = shard.post(shard.index(), INBOX, Letter::Replied { conn: id, reply });
                debug_assert!(told.is_ok(), "a letter to oneself always fits");
            }));
            return None;
        }
        let Some(place) = common.sessions.find(&emulation.session).filter(|_| is_ours) else {
            self.meters.emulated_unknown();
            return Some((404, UNKNOWN));
        };
        self.meters.emulated();
        let message = emulation.data.into_owned();
        self.sockets.post(place.shard, Letter::Emulated { conn: place.conn, message });
        Some((204, ""))
    }

    /// A message for a client of this shard that came as a request of its own. One for a session that is gone needs no answer:
    /// its stream has ended, and that says so.
    pub(super) fn emulated(&mut self, group: &mut Group<Session>, id: ConnId, message: &[u8]) {
        let now = self.now();
        let Some(session) = group.session(id) else { return };
        let Session::Stream(client) = session else { return };
        match self.hub.receive_aside(&mut self.sockets, now, id, client, message) {
            Outcome::Continue | Outcome::Wait => {}
            Outcome::Close(disconnect) => self.disconnect(id, session, &disconnect),
        }
    }

    /// Tells a client of a stream why it is sent away.
    pub(super) fn write_farewell(&mut self, dialect: Dialect, why: &Disconnect) {
        let mut push = Vec::new();
        write_disconnect_push(dialect.codec(), &mut push, why);
        dialect.write_message(&mut self.out, &push);
    }

    /// Ends a session whose client has broken off: nothing more can be told to it.
    pub(super) fn break_off(&mut self, id: ConnId, session: &mut Session) {
        if let Session::Stream(client) = session {
            self.note_end(id, client, "gone");
        }
        self.end(id, session);
        self.sockets.outlet.close(id, Close::Now, Reason::Peer);
    }
}

/// The codec of a request's body.
pub(super) fn codec_of(head: &RequestHead<'_>) -> Codec {
    let kind = head.fields().get("content-type").unwrap_or_default();
    let kind = kind.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    if kind.eq_ignore_ascii_case(PROTOBUF) { Codec::Protobuf } else { Codec::Json }
}

/// The value of a query's member, decoded; empty if there is none. What is no good encoding stays as it is, and is no command.
fn member(query: &str, name: &str) -> Vec<u8> {
    let value = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
    let mut bytes = value.map_or(&b""[..], |(_, value)| value.as_bytes());
    let mut decoded = Vec::with_capacity(bytes.len());
    let digit = |byte: u8| char::from(byte).to_digit(16);
    while let Some((&first, rest)) = bytes.split_first() {
        bytes = rest;
        match (first, rest) {
            (b'+', _) => decoded.push(b' '),
            (b'%', [high, low, after @ ..]) if digit(*high).is_some() && digit(*low).is_some() => {
                decoded.push((digit(*high).unwrap_or(0) << 4 | digit(*low).unwrap_or(0)) as u8);
                bytes = after;
            }
            _ => decoded.push(first),
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_a_query() {
        let found = |query: &str| String::from_utf8(member(query, CONNECT)).unwrap();
        assert_eq!(found("a=b&cf_connect=%7B%22id%22%3A1%7D+x&c=d"), "{\"id\":1} x");
        assert_eq!(found("cf_connect=%E6%B0%B4%0a"), "水\n");
        assert_eq!(found("cf_connect=%zz%4"), "%zz%4");
        for nothing in ["", "cf_connect", "cf_connect=", "xcf_connect=1"] {
            assert_eq!(found(nothing), "", "{nothing}");
        }
    }
}
