//! What arrived, acted upon: one function per kind of frame, and what they share.

use super::{Block, Connection, DataFrame, Event, Reading, Role};
use crate::Input;
use crate::http2::Limits;
use crate::http2::fault::{ErrorCode, Fault, fault};
use crate::http2::fields::Fields;
use crate::http2::frame::{self, Header, PAYLOAD_BYTES_MAX, WINDOW_INITIAL, WINDOW_MAX};
use crate::http2::head::{self, Head, Kind, Message, Priority};
use crate::http2::hpack::DecodeError;
use crate::http2::streams::{Lateness, Remote, Stream};

use super::NEXT;

impl Connection {
    pub(super) fn begin_frame(
        &mut self,
        limits: &Limits,
        now: u64,
        header: Header,
    ) -> Result<Option<Event<'static>>, Fault> {
        if header.len > PAYLOAD_BYTES_MAX {
            return Err(fault(ErrorCode::FRAME_SIZE_ERROR, "sent a frame larger than allowed"));
        }
        if !self.peer.greeted && (header.kind != frame::SETTINGS || header.has(frame::ACK)) {
            return Err(fault(ErrorCode::PROTOCOL_ERROR, "does not begin with its settings"));
        }
        if let Some(block) = &self.block
            && (header.kind != frame::CONTINUATION || header.stream != block.stream)
        {
            return Err(fault(ErrorCode::PROTOCOL_ERROR, "interrupted a field block"));
        }
        if header.kind != frame::DATA {
            self.reading = Reading::Payload { header, gathered: Vec::new() };
            return Ok(None);
        }
        let event = self.begin_data(limits, now, header)?;
        if !header.has(frame::PADDED) {
            return Ok(event.or(self.begin_body(limits, now, header, header.len, 0)?));
        }
        if header.len == 0 {
            return Err(fault(ErrorCode::FRAME_SIZE_ERROR, "sent a padded frame without a length of its padding"));
        }
        self.reading = Reading::PadLength { header };
        Ok(event)
    }

    /// Holds a frame of `left` bytes of a body to the length that was announced, before any of it is handed out.
    pub(super) fn begin_body(
        &mut self,
        limits: &Limits,
        now: u64,
        header: Header,
        left: usize,
        padding: usize,
    ) -> Result<Option<Event<'static>>, Fault> {
        let (id, end) = (header.stream, header.has(frame::END_STREAM));
        match left {
            0 if !end => self.floods.count_idle(limits, now)?,
            _ if left >= limits.tiny_data_bytes as usize => self.floods.count_data(),
            _ if !end => self.floods.count_tiny(limits, now)?,
            _ => {}
        }
        let mut fits = true;
        if let Some(stream) = self.streams.get(id)
            && let Some(expected) = &mut stream.expected
        {
            fits = left as u64 <= *expected && (!end || left as u64 == *expected);
            *expected = expected.saturating_sub(left as u64);
        }
        let event = match fits {
            true => None,
            false => {
                let what = "sent a body that is not as long as it said";
                Some(self.reset_for(limits, now, id, ErrorCode::PROTOCOL_ERROR, what)?)
            }
        };
        let discarded = self.streams.peek(id).is_none();
        self.reading = Reading::Data(DataFrame { stream: id, left, padding, end, discarded });
        Ok(event)
    }

    /// Accounts for a DATA frame before its bytes are looked at (section 6.9: padding counts).
    fn begin_data(&mut self, limits: &Limits, now: u64, header: Header) -> Result<Option<Event<'static>>, Fault> {
        let len = header.len as i64;
        if header.stream == 0 || self.is_idle_id(header.stream) {
            return Err(fault(ErrorCode::PROTOCOL_ERROR, "sent data on a stream that does not exist"));
        }
        if len > self.recv_window {
            return Err(fault(ErrorCode::FLOW_CONTROL_ERROR, "sent more data than the connection's window allows"));
        }
        self.recv_window -= len;
        let Some(stream) = self.streams.get(header.stream) else {
            self.judge_late(limits, now, header.stream, len, "sent data on a closed stream")?;
            return Ok(None);
        };
        let wrong = match stream.remote {
            Remote::AwaitsHead => Some((ErrorCode::PROTOCOL_ERROR, "sent data before the answer's head")),
            Remote::Closed => Some((ErrorCode::STREAM_CLOSED, "sent data after the end")),
            Remote::Open if len > stream.recv_window => {
                Some((ErrorCode::FLOW_CONTROL_ERROR, "sent more data than the stream's window allows"))
            }
            Remote::Open => None,
        };
        match wrong {
            Some((code, what)) => self.reset_for(limits, now, header.stream, code, what).map(Some),
            None => {
                stream.recv_window -= len;
                Ok(None)
            }
        }
    }

    /// Something came on a stream that is closed: fine if it was under way when we closed it.
    fn judge_late(&mut self, limits: &Limits, now: u64, id: u32, bytes: i64, what: &'static str) -> Result<(), Fault> {
        let is_ignored = self.role == Role::Server && self.farewell.is_some_and(|farewell| id > farewell.last);
        if !is_ignored && self.late.judge(id, bytes) == Lateness::Wrong {
            return Err(fault(ErrorCode::STREAM_CLOSED, what));
        }
        if bytes == 0 { self.floods.count_idle(limits, now) } else { Ok(()) }
    }

    pub(super) fn data<'a>(&mut self, input: &mut Input<'a>) -> Option<Event<'a>> {
        let Reading::Data(data) = &mut self.reading else { return None };
        let bytes: &'a [u8] = input.take(data.left);
        data.left -= bytes.len();
        if data.left == 0 {
            data.padding -= input.take(data.padding).len();
        }
        let done = data.left + data.padding == 0;
        let frame = *data;
        if done {
            self.reading = NEXT;
        }
        let id = frame.stream;
        if frame.discarded || self.streams.peek(id).is_none() {
            self.grant_back(id, bytes.len() as u32);
            return None;
        }
        let end = done && frame.end;
        if bytes.is_empty() && !end {
            return None;
        }
        if end {
            self.end_remote(id);
        }
        Some(Event::Data { stream: id, bytes, end })
    }

    pub(super) fn on_frame(
        &mut self,
        limits: &Limits,
        now: u64,
        header: Header,
        payload: &[u8],
    ) -> Result<Option<Event<'static>>, Fault> {
        match header.kind {
            frame::HEADERS => self.on_headers(limits, now, header, payload),
            frame::CONTINUATION => self.on_continuation(limits, now, header, payload),
            frame::RST_STREAM => self.on_reset(limits, now, header, payload),
            frame::SETTINGS => self.on_settings(limits, now, header, payload),
            frame::PING => self.on_ping(limits, now, header, payload),
            frame::GOAWAY => self.on_go_away(limits, now, header, payload),
            frame::WINDOW_UPDATE => self.on_window_update(limits, now, header, payload),
            frame::PUSH_PROMISE => Err(fault(ErrorCode::PROTOCOL_ERROR, "pushes, which was switched off")),
            frame::PRIORITY => {
                self.floods.count_idle(limits, now)?;
                match (header.stream, payload.len()) {
                    (0, _) => Err(fault(ErrorCode::PROTOCOL_ERROR, "sent a priority for no stream")),
                    (_, 5) => Ok(None),
                    (id, _) => {
                        let (code, what) = (ErrorCode::FRAME_SIZE_ERROR, "sent a priority of a wrong length");
                        // A stream that was never opened cannot be reset.
                        if self.is_idle_id(id) {
                            return Err(fault(code, what));
                        }
                        let is_open = self.streams.peek(id).is_some();
                        let reset = self.reset_for(limits, now, id, code, what)?;
                        Ok(is_open.then_some(reset))
                    }
                }
            }
            frame::PRIORITY_UPDATE => {
                self.floods.count_idle(limits, now)?;
                if payload.len() < 4 {
                    return Err(fault(ErrorCode::FRAME_SIZE_ERROR, "sent a priority update of a wrong length"));
                }
                let id = frame::word(payload, 0) & 0x7fff_ffff;
                if header.stream != 0 || id == 0 || self.role == Role::Client {
                    return Err(fault(ErrorCode::PROTOCOL_ERROR, "sent a priority update that may not be"));
                }
                if let Some(stream) = self.streams.get(id) {
                    stream.priority = Priority::parse(&payload[4..]);
                }
                Ok(None)
            }
            // Section 4.1: unknown ones are ignored.
            _ => self.floods.count_idle(limits, now).map(|()| None),
        }
    }

    fn on_headers(
        &mut self,
        limits: &Limits,
        now: u64,
        header: Header,
        payload: &[u8],
    ) -> Result<Option<Event<'static>>, Fault> {
        if header.stream == 0 {
            return Err(fault(ErrorCode::PROTOCOL_ERROR, "sent fields on no stream"));
        }
        let mut block = payload;
        if header.has(frame::PADDED) {
            let Some((&padding, rest)) = block.split_first() else {
                return Err(fault(ErrorCode::FRAME_SIZE_ERROR, "sent a padded frame without a length of its padding"));
            };
            let keep = rest.len().checked_sub(usize::from(padding));
            let keep = keep.ok_or(fault(ErrorCode::PROTOCOL_ERROR, "pads a frame beyond its length"))?;
            block = &rest[..keep];
        }
        if header.has(frame::WITH_PRIORITY) {
            // RFC 7540's priorities are obsolete; but a stream must not depend on itself.
            if block.len() < 5 {
                return Err(fault(ErrorCode::FRAME_SIZE_ERROR, "sent a frame that is too short for its priority"));
            }
            if frame::word(block, 0) & 0x7fff_ffff == header.stream {
                return Err(fault(ErrorCode::PROTOCOL_ERROR, "made a stream depend on itself"));
            }
            block = &block[5..];
        }
        let end = header.has(frame::END_STREAM);
        if header.has(frame::END_HEADERS) {
            return self.on_block(limits, now, header.stream, block, end);
        }
        self.block = Some(Block { stream: header.stream, end, bytes: block.to_vec(), continuations: 0 });
        Ok(None)
    }

    fn on_continuation(
        &mut self,
        limits: &Limits,
        now: u64,
        header: Header,
        payload: &[u8],
    ) -> Result<Option<Event<'static>>, Fault> {
        let Some(block) = &mut self.block else {
            return Err(fault(ErrorCode::PROTOCOL_ERROR, "continued no field block"));
        };
        block.continuations += 1;
        block.bytes.extend_from_slice(payload);
        if block.continuations > limits.continuations_max || block.bytes.len() > limits.block_bytes_max {
            return Err(fault(ErrorCode::ENHANCE_YOUR_CALM, "sent a field block without an end"));
        }
        if !header.has(frame::END_HEADERS) {
            return Ok(None);
        }
        let Some(block) = self.block.take() else { return Ok(None) };
        self.on_block(limits, now, block.stream, &block.bytes, block.end)
    }

    /// A whole field block.
    fn on_block(
        &mut self,
        limits: &Limits,
        now: u64,
        id: u32,
        block: &[u8],
        end: bool,
    ) -> Result<Option<Event<'static>>, Fault> {
        let decoded = match self.decoder.decode(block, limits.list_bytes_max, limits.fields_max) {
            Err(DecodeError::Invalid) => {
                return Err(fault(ErrorCode::COMPRESSION_ERROR, "sent a field block that cannot be decoded"));
            }
            Err(DecodeError::TooLarge) => None,
            Ok(fields) => Some(fields),
        };
        let kind = match self.streams.peek(id).map(|stream| stream.remote) {
            Some(Remote::AwaitsHead) => Kind::Response,
            Some(Remote::Open) => Kind::Trailers,
            Some(Remote::Closed) => return Err(fault(ErrorCode::STREAM_CLOSED, "sent fields after the end")),
            None => match self.admit(limits, now, id)? {
                Admission::Ignored => return Ok(None),
                Admission::New => Kind::Request,
            },
        };
        let Some(fields) = decoded else {
            let what = "sent more fields than allowed";
            return self.reset_for(limits, now, id, ErrorCode::ENHANCE_YOUR_CALM, what).map(Some);
        };
        let checked = match head::check(kind, fields) {
            Ok(checked) => checked,
            Err(what) => return self.reset_for(limits, now, id, ErrorCode::PROTOCOL_ERROR, what).map(Some),
        };
        match checked.message {
            Message::Head(head) => self.on_head(limits, now, id, head, checked.content_length, end),
            Message::Trailers(fields) => self.on_trailers(limits, now, id, fields, end).map(Some),
        }
    }

    fn on_trailers(
        &mut self,
        limits: &Limits,
        now: u64,
        id: u32,
        fields: Fields,
        end: bool,
    ) -> Result<Event<'static>, Fault> {
        let short = self.streams.peek(id).is_some_and(|stream| stream.expected.is_some_and(|left| left > 0));
        let wrong = match (end, short) {
            (false, _) => "sent fields in the middle of a body",
            (true, true) => "sent a body that is not as long as it said",
            (true, false) => {
                self.end_remote(id);
                return Ok(Event::Trailers { stream: id, fields });
            }
        };
        self.reset_for(limits, now, id, ErrorCode::PROTOCOL_ERROR, wrong)
    }

    /// Decides about a block on a stream that is not open.
    fn admit(&mut self, limits: &Limits, now: u64, id: u32) -> Result<Admission, Fault> {
        if self.passed_over.contains(&id) {
            return Err(fault(ErrorCode::PROTOCOL_ERROR, "opened a stream below the last one"));
        }
        if !self.is_idle_id(id) {
            self.judge_late(limits, now, id, 0, "sent fields on a closed stream")?;
            return Ok(Admission::Ignored);
        }
        if self.role == Role::Client {
            return Err(fault(ErrorCode::PROTOCOL_ERROR, "answered a stream that was never opened"));
        }
        if id.is_multiple_of(2) {
            return Err(fault(ErrorCode::PROTOCOL_ERROR, "opened a stream with a server's id"));
        }
        if id > self.last_peer_id + 2 {
            self.passed_over = self.last_peer_id + 1..id;
        }
        self.last_peer_id = id;
        if self.farewell.is_some() {
            self.floods.count_idle(limits, now)?;
            return Ok(Admission::Ignored);
        }
        let (send_window, recv_window) = (self.peer.window, self.initial_recv_window());
        if self.streams.len() >= limits.streams_max as usize {
            self.write_reset(id, ErrorCode::REFUSED_STREAM, recv_window);
            self.floods.count_reset(limits, now)?;
            return Ok(Admission::Ignored);
        }
        self.streams.add(Stream {
            id,
            remote: Remote::Open,
            local_closed: false,
            send_window,
            recv_window,
            credit: 0,
            expected: None,
            bodiless: false,
            interim: 0,
            priority: Priority::default(),
            blocked_since: None,
        });
        Ok(Admission::New)
    }

    fn on_head(
        &mut self,
        limits: &Limits,
        now: u64,
        id: u32,
        head: Head,
        content_length: Option<u64>,
        end: bool,
    ) -> Result<Option<Event<'static>>, Fault> {
        let Some(stream) = self.streams.get(id) else { return Ok(None) };
        let mut wrong = None;
        match &head {
            Head::Request { fields, .. } => {
                if let Some(value) = fields.get(b"priority") {
                    stream.priority = Priority::parse(value);
                }
                stream.expected = content_length;
            }
            Head::Response { status: 101, .. } => wrong = Some("switches protocols, which HTTP/2 cannot"),
            Head::Response { status: 100..=199, .. } => {
                stream.interim += 1;
                if end || stream.interim > limits.interim_max {
                    wrong = Some("sent interim answers without an end, or with one");
                } else {
                    return Ok(None);
                }
            }
            Head::Response { status, .. } => {
                let bodiless = stream.bodiless || matches!(status, 204 | 304);
                stream.expected = if bodiless { Some(0) } else { content_length };
            }
        }
        if end && stream.expected.is_some_and(|expected| expected > 0) {
            wrong = wrong.or(Some("sent a body that is not as long as it said"));
        }
        if let Some(what) = wrong {
            return self.reset_for(limits, now, id, ErrorCode::PROTOCOL_ERROR, what).map(Some);
        }
        stream.remote = Remote::Open;
        if end {
            self.end_remote(id);
        }
        Ok(Some(Event::Head { stream: id, head, end }))
    }

    fn on_reset(
        &mut self,
        limits: &Limits,
        now: u64,
        header: Header,
        payload: &[u8],
    ) -> Result<Option<Event<'static>>, Fault> {
        let id = header.stream;
        if payload.len() != 4 {
            return Err(fault(ErrorCode::FRAME_SIZE_ERROR, "sent a reset of a wrong length"));
        }
        if id == 0 || self.is_idle_id(id) {
            return Err(fault(ErrorCode::PROTOCOL_ERROR, "reset a stream that does not exist"));
        }
        if self.streams.remove(id).is_none() {
            self.floods.count_idle(limits, now)?;
            return Ok(None);
        }
        if self.role == Role::Server {
            self.floods.count_reset(limits, now)?;
        }
        let code = ErrorCode(frame::word(payload, 0));
        let unprocessed = code == ErrorCode::REFUSED_STREAM;
        Ok(Some(Event::Reset { stream: id, code, unprocessed, fault: None }))
    }

    fn on_settings(
        &mut self,
        limits: &Limits,
        now: u64,
        header: Header,
        payload: &[u8],
    ) -> Result<Option<Event<'static>>, Fault> {
        if header.stream != 0 {
            return Err(fault(ErrorCode::PROTOCOL_ERROR, "sent settings on a stream"));
        }
        let ack = header.has(frame::ACK);
        if !payload.len().is_multiple_of(6) || ack && !payload.is_empty() {
            return Err(fault(ErrorCode::FRAME_SIZE_ERROR, "sent settings of a wrong length"));
        }
        self.floods.count_idle(limits, now)?;
        if ack {
            self.on_acknowledgement();
            return Ok(None);
        }
        self.peer.greeted = true;
        for setting in payload.chunks_exact(6) {
            let id = u16::from_be_bytes([setting[0], setting[1]]);
            self.apply_setting(id, frame::word(setting, 2))?;
        }
        frame::write_header(&mut self.pending, 0, frame::SETTINGS, frame::ACK, 0);
        Ok(Some(Event::Writable))
    }

    /// The peer goes by our settings from now on; what it opened before shrinks or grows with them (section 6.9.2).
    fn on_acknowledgement(&mut self) {
        let before = self.initial_recv_window();
        self.acknowledged = true;
        let change = self.initial_recv_window() - before;
        for stream in self.streams.iter_mut() {
            stream.recv_window += change;
        }
    }

    fn apply_setting(&mut self, id: u16, value: u32) -> Result<(), Fault> {
        match id {
            frame::SETTINGS_HEADER_TABLE_SIZE => self.encoder.set_peer_max(value as usize),
            frame::SETTINGS_ENABLE_PUSH if value > 1 || (value == 1 && self.role == Role::Client) => {
                return Err(fault(ErrorCode::PROTOCOL_ERROR, "has a setting that may not be"));
            }
            frame::SETTINGS_MAX_CONCURRENT_STREAMS => self.peer.streams_max = value,
            frame::SETTINGS_INITIAL_WINDOW_SIZE => {
                let window = i64::from(value);
                if window > WINDOW_MAX {
                    return Err(fault(ErrorCode::FLOW_CONTROL_ERROR, "has a window that may not be"));
                }
                let change = window - self.peer.window;
                self.peer.window = window;
                for stream in self.streams.iter_mut() {
                    stream.send_window += change;
                    if stream.send_window > WINDOW_MAX {
                        return Err(fault(ErrorCode::FLOW_CONTROL_ERROR, "made a window overflow"));
                    }
                }
            }
            frame::SETTINGS_MAX_FRAME_SIZE => {
                let size = value as usize;
                if !(PAYLOAD_BYTES_MAX..1 << 24).contains(&size) {
                    return Err(fault(ErrorCode::PROTOCOL_ERROR, "has a frame size that may not be"));
                }
                // Larger frames would only hold others up.
                self.peer.payload_max = PAYLOAD_BYTES_MAX;
            }
            frame::SETTINGS_NO_RFC7540_PRIORITIES if value > 1 => {
                return Err(fault(ErrorCode::PROTOCOL_ERROR, "has a setting that may not be"));
            }
            _ => {}
        }
        Ok(())
    }

    fn on_ping(
        &mut self,
        limits: &Limits,
        now: u64,
        header: Header,
        payload: &[u8],
    ) -> Result<Option<Event<'static>>, Fault> {
        if header.stream != 0 {
            return Err(fault(ErrorCode::PROTOCOL_ERROR, "sent a ping on a stream"));
        }
        let Some(data) = payload.first_chunk::<8>().filter(|_| payload.len() == 8) else {
            return Err(fault(ErrorCode::FRAME_SIZE_ERROR, "sent a ping of a wrong length"));
        };
        self.floods.count_idle(limits, now)?;
        if header.has(frame::ACK) {
            return Ok(Some(Event::Pong(u64::from_be_bytes(*data))));
        }
        frame::write_header(&mut self.pending, 8, frame::PING, frame::ACK, 0);
        self.pending.extend_from_slice(data);
        Ok(None)
    }

    fn on_go_away(
        &mut self,
        limits: &Limits,
        now: u64,
        header: Header,
        payload: &[u8],
    ) -> Result<Option<Event<'static>>, Fault> {
        if header.stream != 0 {
            return Err(fault(ErrorCode::PROTOCOL_ERROR, "sent a farewell on a stream"));
        }
        if payload.len() < 8 {
            return Err(fault(ErrorCode::FRAME_SIZE_ERROR, "sent a farewell that is too short"));
        }
        self.floods.count_idle(limits, now)?;
        let (last, code) = (frame::word(payload, 0) & 0x7fff_ffff, ErrorCode(frame::word(payload, 4)));
        self.peer_farewell = Some(code);
        if self.role == Role::Client {
            let lost = self.streams.split_above(last);
            for stream in lost {
                self.lost.push_back(stream.id);
                self.late.remember(stream.id, stream.recv_window);
            }
        }
        Ok(Some(Event::GoAway { last, code }))
    }

    fn on_window_update(
        &mut self,
        limits: &Limits,
        now: u64,
        header: Header,
        payload: &[u8],
    ) -> Result<Option<Event<'static>>, Fault> {
        if payload.len() != 4 {
            return Err(fault(ErrorCode::FRAME_SIZE_ERROR, "sent a window of a wrong length"));
        }
        let (id, more) = (header.stream, i64::from(frame::word(payload, 0) & 0x7fff_ffff));
        self.floods.count_tiny(limits, now)?;
        if id == 0 {
            self.send_window += more;
            return match more > 0 && self.send_window <= WINDOW_MAX {
                true => Ok(Some(Event::Writable)),
                false if more == 0 => Err(fault(ErrorCode::PROTOCOL_ERROR, "opened a window by nothing")),
                false => Err(fault(ErrorCode::FLOW_CONTROL_ERROR, "made a window overflow")),
            };
        }
        if self.is_idle_id(id) {
            return Err(fault(ErrorCode::PROTOCOL_ERROR, "opened the window of a stream that does not exist"));
        }
        let Some(stream) = self.streams.get(id) else { return Ok(None) };
        stream.send_window += more;
        if more == 0 {
            let what = "opened a window by nothing";
            return self.reset_for(limits, now, id, ErrorCode::PROTOCOL_ERROR, what).map(Some);
        }
        if stream.send_window > WINDOW_MAX {
            let what = "made a window overflow";
            return self.reset_for(limits, now, id, ErrorCode::FLOW_CONTROL_ERROR, what).map(Some);
        }
        stream.blocked_since = None;
        Ok(Some(Event::Writable))
    }

    /// Whether nobody has used this id yet.
    fn is_idle_id(&self, id: u32) -> bool {
        match self.role {
            Role::Client => id.is_multiple_of(2) || id >= self.next_id,
            Role::Server => id.is_multiple_of(2) || id > self.last_peer_id,
        }
    }

    pub(super) fn initial_recv_window(&self) -> i64 {
        // Until it has seen our settings the peer goes by the default.
        let window = i64::from(self.stream_window);
        if self.acknowledged { window } else { window.max(WINDOW_INITIAL) }
    }

    /// The peer has said all on a stream.
    fn end_remote(&mut self, id: u32) {
        if let Some(stream) = self.streams.get(id) {
            stream.remote = Remote::Closed;
            if stream.local_closed {
                self.streams.remove(id);
                self.floods.count_good();
            }
        }
    }

    /// We have said all on a stream.
    pub(super) fn end_local(&mut self, id: u32) {
        if let Some(stream) = self.streams.get(id) {
            stream.local_closed = true;
            if stream.remote == Remote::Closed {
                self.streams.remove(id);
                self.floods.count_good();
            }
        }
    }

    /// Ends a stream because of what the peer did on it. A client that forces many of these is as costly as one that
    /// resets by itself (the "made you reset" attack).
    fn reset_for(
        &mut self,
        limits: &Limits,
        now: u64,
        id: u32,
        code: ErrorCode,
        what: &'static str,
    ) -> Result<Event<'static>, Fault> {
        let window = self.streams.remove(id).map_or(0, |stream| stream.recv_window);
        self.write_reset(id, code, window);
        self.floods.count_reset(limits, now)?;
        Ok(Event::Reset { stream: id, code, unprocessed: false, fault: Some(what) })
    }

    /// Resets a stream on which the peer may have sent `window` bytes more before it hears of that.
    pub(super) fn write_reset(&mut self, id: u32, code: ErrorCode, window: i64) {
        self.late.remember(id, window);
        frame::write_reset(&mut self.pending, id, code);
    }

    /// Grants bytes again that nobody will use.
    pub(super) fn grant_back(&mut self, id: u32, bytes: u32) {
        if bytes > 0 {
            self.release(id, bytes);
        }
    }
}

/// What is done with a block on a stream that is not open.
enum Admission {
    Ignored,
    New,
}
