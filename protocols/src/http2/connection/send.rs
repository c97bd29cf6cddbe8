//! What is sent: opening streams, heads, bodies as far as the windows allow, and what ends a stream or the connection.

use super::{Connection, Farewell, ROOM_BYTES_KEPT, Reading, Refusal, RequestLine, Role};
use crate::http2::fault::ErrorCode;
use crate::http2::frame;
use crate::http2::head::Priority;
use crate::http2::hpack::Indexing;
use crate::http2::streams::{Remote, Stream};

/// A frame of data of this size is worth its header.
const USEFUL_DATA_BYTES: usize = 1024;

impl Connection {
    /// Streams that may be opened now.
    pub fn can_open(&self) -> usize {
        let room = (self.peer.streams_max as usize).saturating_sub(self.streams.len());
        if self.is_closing() { 0 } else { room }
    }

    /// Streams that the peer allows.
    pub fn streams_max(&self) -> usize {
        self.peer.streams_max as usize
    }

    /// Streams that are open.
    pub fn streams_open(&self) -> usize {
        self.streams.len()
    }

    /// Whether a stream is there, at least one side of it open.
    pub fn is_open(&self, id: u32) -> bool {
        self.streams.peek(id).is_some()
    }

    /// Whether no new stream can ever be opened here. A client's farewell forbids pushes, and nothing else.
    pub fn is_closing(&self) -> bool {
        let told = self.role == Role::Client && self.peer_farewell.is_some();
        self.is_closed() || told || self.farewell.is_some() || self.next_id > 0x7fff_ffff
    }

    /// What the peer gave as its reason to go away, if it has said that it will.
    pub fn peer_farewell(&self) -> Option<ErrorCode> {
        self.peer_farewell
    }

    /// Whether nothing is read any more.
    pub fn is_closed(&self) -> bool {
        matches!(self.reading, Reading::Closed)
    }

    /// Streams that [`Connection::reset`] has ended. Many of them look like an attack to the peer.
    pub fn own_resets(&self) -> u64 {
        self.own_resets
    }

    /// Opens a stream with a request. `fields` have names in lower case and concern more than a connection.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn open<'f>(
        &mut self,
        out: &mut Vec<u8>,
        request: &RequestLine<'_>,
        fields: impl IntoIterator<Item = (&'f str, &'f [u8])>,
        end: bool,
    ) -> Result<u32, Refusal> {
        if self.next_id > 0x7fff_ffff {
            return Err(Refusal::Exhausted);
        }
        if self.is_closing() {
            return Err(Refusal::Closing);
        }
        if self.can_open() == 0 {
            return Err(Refusal::Full);
        }
        let id = self.next_id;
        self.next_id += 2;
        let pseudo = [
            (":method", request.method, Indexing::Index),
            (":scheme", request.scheme, Indexing::Index),
            (":authority", request.authority, Indexing::Index),
            (":path", request.path, Indexing::Literal),
        ];
        let pseudo = pseudo.map(|(name, value, indexing)| (name, value.as_bytes(), indexing));
        self.write_block(out, id, &pseudo, fields, end);
        let (send_window, recv_window) = (self.peer.window, self.initial_recv_window());
        self.streams.add(Stream {
            id,
            remote: Remote::AwaitsHead,
            local_closed: end,
            send_window,
            recv_window,
            credit: 0,
            expected: None,
            bodiless: request.method == "HEAD",
            interim: 0,
            priority: Priority::default(),
            blocked_since: None,
        });
        Ok(id)
    }

    /// Appends an answer's head. False if the stream is gone.
    pub fn write_head<'f>(
        &mut self,
        out: &mut Vec<u8>,
        id: u32,
        status: u16,
        fields: impl IntoIterator<Item = (&'f str, &'f [u8])>,
        end: bool,
    ) -> bool {
        if self.streams.peek(id).is_none_or(|stream| stream.local_closed) {
            return false;
        }
        let digits = [b'0' + (status / 100 % 10) as u8, b'0' + (status / 10 % 10) as u8, b'0' + (status % 10) as u8];
        self.write_block(out, id, &[(":status", &digits, Indexing::Index)], fields, end);
        if end {
            self.end_local(id);
        }
        true
    }

    /// Appends as much of `bytes` as the windows allow; how much that was. `end` takes effect once all were taken.
    /// `None` if the stream is gone.
    pub fn write_data(&mut self, now: u64, out: &mut Vec<u8>, id: u32, bytes: &[u8], end: bool) -> Option<usize> {
        self.write_pending(out);
        let stream = self.streams.get(id).filter(|stream| !stream.local_closed)?;
        let window = usize::try_from(stream.send_window.min(self.send_window)).unwrap_or(0);
        let taken = bytes.len().min(window);
        stream.send_window -= taken as i64;
        self.send_window -= taken as i64;
        let all = taken == bytes.len();
        stream.blocked_since = match (all, taken) {
            (true, _) => None,
            (false, 0) => stream.blocked_since.or(Some(now)),
            // It waits again, but it was let through meanwhile.
            (false, _) => Some(now),
        };
        let mut rest = &bytes[..taken];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(self.peer.payload_max));
            rest = after;
            let flags = if end && all && rest.is_empty() { frame::END_STREAM } else { 0 };
            frame::write_header(out, piece.len(), frame::DATA, flags, id);
            crate::output::append(out, piece);
            if piece.len() >= USEFUL_DATA_BYTES {
                self.floods.count_data();
            }
        }
        if end && all {
            if bytes.is_empty() {
                frame::write_header(out, 0, frame::DATA, frame::END_STREAM, id);
            }
            self.end_local(id);
        }
        Some(taken)
    }

    /// Bytes that [`Connection::write_data`] would take now.
    pub fn capacity(&self, id: u32) -> usize {
        let window = self.streams.peek(id).map_or(0, |stream| stream.send_window.min(self.send_window));
        usize::try_from(window).unwrap_or(0)
    }

    /// Since when a stream has data that the peer does not let through: the time to give it up.
    pub fn blocked_since(&self, id: u32) -> Option<u64> {
        self.streams.peek(id)?.blocked_since
    }

    /// How urgent the answer on a stream is.
    pub fn priority(&self, id: u32) -> Priority {
        self.streams.peek(id).map_or_else(Priority::default, |stream| stream.priority)
    }

    /// Appends trailers, and ends our side of the stream. False if it is gone.
    pub fn write_trailers<'f>(
        &mut self,
        out: &mut Vec<u8>,
        id: u32,
        fields: impl IntoIterator<Item = (&'f str, &'f [u8])>,
    ) -> bool {
        if self.streams.peek(id).is_none_or(|stream| stream.local_closed) {
            return false;
        }
        self.write_block(out, id, &[], fields, true);
        self.end_local(id);
        true
    }

    fn write_block<'f>(
        &mut self,
        out: &mut Vec<u8>,
        id: u32,
        pseudo: &[(&str, &[u8], Indexing)],
        fields: impl IntoIterator<Item = (&'f str, &'f [u8])>,
        end: bool,
    ) {
        self.write_pending(out);
        let mut block = std::mem::take(&mut self.scratch);
        block.clear();
        self.encoder.begin(&mut block);
        for (name, value, indexing) in pseudo {
            self.encoder.field(&mut block, name.as_bytes(), value, *indexing);
        }
        for (name, value) in fields {
            self.encoder.field(&mut block, name.as_bytes(), value, Indexing::of(name));
        }
        frame::write_block(out, id, &block, self.peer.payload_max, end);
        if block.capacity() <= ROOM_BYTES_KEPT {
            self.scratch = block;
        }
    }

    /// Gives a stream up. Whether there was one.
    pub fn reset(&mut self, id: u32, code: ErrorCode) -> bool {
        let Some(stream) = self.streams.remove(id) else { return false };
        self.own_resets += 1;
        self.write_reset(id, code, stream.recv_window);
        true
    }

    /// Lets the peer send as many bytes more: what [`Event::Data`](crate::http2::Event::Data) brought and was used. Granted in portions of half a
    /// window.
    pub fn release(&mut self, id: u32, bytes: u32) {
        self.release_connection(bytes);
        self.release_stream(id, bytes);
    }

    /// The part of [`Connection::release`] that concerns the connection: where one stream's bytes may wait without holding up
    /// the others.
    pub fn release_connection(&mut self, bytes: u32) {
        self.credit += bytes;
        if self.credit >= self.connection_window / 2 {
            self.recv_window += i64::from(self.credit);
            frame::write_window_update(&mut self.pending, 0, std::mem::take(&mut self.credit));
        }
    }

    /// The part of [`Connection::release`] that concerns the stream.
    pub fn release_stream(&mut self, id: u32, bytes: u32) {
        let portion = self.stream_window / 2;
        if let Some(stream) = self.streams.get(id)
            && stream.remote != Remote::Closed
        {
            stream.credit += bytes;
            if stream.credit >= portion.max(1) {
                stream.recv_window += i64::from(stream.credit);
                frame::write_window_update(&mut self.pending, id, std::mem::take(&mut stream.credit));
            }
        }
    }

    /// Says that no stream after those that have come will be answered. New ones are ignored from now on. Said again only
    /// where there is an error to tell now.
    pub fn go_away(&mut self, code: ErrorCode, text: &str) {
        let last = match self.farewell {
            Some(said) if code == ErrorCode::NO_ERROR || said.code != ErrorCode::NO_ERROR => return,
            Some(said) => said.last,
            None => self.last_peer_id,
        };
        self.farewell = Some(Farewell { last, code });
        frame::write_go_away(&mut self.pending, last, code, text);
    }

    /// Says that [`Connection::go_away`] will follow, so that requests which are on their way meanwhile are still answered
    /// (RFC 9113 section 6.8). A round trip should lie between the two.
    pub fn go_away_soon(&mut self) {
        if self.farewell.is_none() {
            frame::write_go_away(&mut self.pending, u32::MAX >> 1, ErrorCode::NO_ERROR, "");
        }
    }

    /// Asks for an [`Event::Pong`](crate::http2::Event::Pong) with the same number.
    pub fn ping(&mut self, number: u64) {
        frame::write_header(&mut self.pending, 8, frame::PING, 0, 0);
        self.pending.extend_from_slice(&number.to_be_bytes());
    }

    /// What the peer may send on the connection, what waits to be granted, and the window: for checks of the invariant.
    #[doc(hidden)]
    pub fn connection_account(&self) -> (i64, u32, u32) {
        (self.recv_window, self.credit, self.connection_window)
    }
}
