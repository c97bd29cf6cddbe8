//! One HTTP/2 connection (RFC 9113): many requests at once, over our own protocol machine.

use super::flight::{Flight, Verdict, reason};
use super::request::Requests;
use super::wire::{Broken, Wire};
use annulus_protocols::Input;
use annulus_protocols::http2::{Connection, ErrorCode, Event, Head, Limits, RequestLine};
use std::collections::VecDeque;

/// Windows as wide as browsers have them, and none of a server's defences: who loads a server wants its answers.
pub const LIMITS: Limits = Limits {
    stream_window_bytes: 4 << 20,
    connection_window_bytes: 16 << 20,
    list_bytes_max: 64 << 10,
    block_bytes_max: 128 << 10,
    continuations_max: 64,
    interim_max: 16,
    idle_frames_max: u32::MAX,
    tiny_frames_max: u32::MAX,
    resets_max: u32::MAX,
    pending_bytes_max: 1 << 20,
    ..Limits::DEFAULT
};
/// Fields that HTTP/2 does not have, and what else names the host.
const NOT_HERE: [&str; 4] = ["keep-alive", "proxy-connection", "te", "host"];

struct Stream {
    id: u32,
    flight: Option<Flight>,
    status: u16,
}

/// See the module's description.
pub struct Http2 {
    machine: Connection,
    out: Vec<u8>,
    /// In order of their ids; those that are over leave from the front.
    streams: VecDeque<Stream>,
    /// Under way.
    busy: usize,
    streams_max: usize,
    /// Bodies that the windows do not let through yet: the stream, and where to go on.
    uploads: VecDeque<(u32, usize)>,
}

impl Http2 {
    /// A connection that carries at most so many requests at once.
    pub fn new(streams_max: usize) -> Http2 {
        let (mut machine, mut out) = (Connection::client(&LIMITS), Vec::new());
        machine.write_preface(&LIMITS, &mut out);
        Http2 { machine, out, streams: VecDeque::new(), busy: 0, streams_max, uploads: VecDeque::new() }
    }

    /// Requests that may be sent now.
    pub fn room(&self) -> usize {
        self.streams_max.saturating_sub(self.busy).min(self.machine.can_open())
    }

    /// Whether it should be replaced.
    pub fn is_done(&self) -> bool {
        self.machine.is_closing() && self.busy == 0
    }

    /// Puts a request into what is sent with the next [`Http2::flush`].
    pub fn send(&mut self, requests: &Requests, flight: Flight, now: u64, verdicts: &mut Vec<(Flight, Verdict)>) {
        let request = &requests.all[flight.request as usize];
        let line = RequestLine {
            method: &request.method,
            scheme: if requests.origin.scheme.is_secure() { "https" } else { "http" },
            authority: &requests.authority,
            path: &request.target,
        };
        let fields = requests.fields.iter().filter(|(name, _)| !NOT_HERE.contains(&name.as_str()));
        let length = requests.body.len().to_string();
        let length = (!requests.body.is_empty()).then_some(("content-length", length.as_bytes()));
        let fields = fields.map(|(name, value)| (name.as_str(), value.as_bytes())).chain(length);
        match self.machine.open(&mut self.out, &line, fields, requests.body.is_empty()) {
            Ok(id) => {
                self.busy += 1;
                self.streams.push_back(Stream { id, flight: Some(flight), status: 0 });
                if !requests.body.is_empty() {
                    self.uploads.push_back((id, 0));
                    self.upload(requests, now);
                }
            }
            Err(_) => verdicts.push((flight, Verdict::Unseen(reason::STREAM_REFUSED))),
        }
    }

    fn upload(&mut self, requests: &Requests, now: u64) {
        for _ in 0..self.uploads.len() {
            let Some((id, at)) = self.uploads.pop_front() else { return };
            let rest = &requests.body[at..];
            if let Some(taken) = self.machine.write_data(now / 1_000_000, &mut self.out, id, rest, true)
                && taken < rest.len()
            {
                self.uploads.push_back((id, at + taken));
            }
        }
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn flush(&mut self, wire: &mut Wire) -> Result<(), Broken> {
        self.machine.write_pending(&mut self.out);
        if self.out.is_empty() {
            return Ok(());
        }
        let sent = wire.send(&self.out);
        self.out.clear();
        sent
    }

    /// Takes received bytes.
    ///
    /// # Errors
    /// What is wrong with them: the connection is of no more use.
    pub fn recv(
        &mut self,
        bytes: &mut [u8],
        requests: &Requests,
        now: u64,
        verdicts: &mut Vec<(Flight, Verdict)>,
    ) -> Result<(), &'static str> {
        let mut input = Input::new(bytes);
        loop {
            let event = self.machine.next_event(&LIMITS, now / 1_000_000, &mut input).map_err(|fault| fault.what)?;
            let (id, end) = match event {
                Event::NeedMore => return Ok(()),
                Event::Head { stream, head: Head::Response { status, .. }, end } => {
                    if let Some(stream) = self.stream(stream) {
                        stream.status = status;
                    }
                    (stream, end)
                }
                Event::Data { stream, bytes, end } => {
                    let len = bytes.len() as u32;
                    self.machine.release(stream, len);
                    (stream, end)
                }
                Event::Trailers { stream, .. } => (stream, true),
                Event::Reset { stream, code, unprocessed, fault } => {
                    if let Some((flight, status)) = self.end(stream) {
                        verdicts.push((
                            flight,
                            match (fault, unprocessed) {
                                (Some(fault), _) => Verdict::Failed(fault),
                                (None, true) if !flight.resent => Verdict::Unseen(reason::STREAM_REFUSED),
                                (None, true) => Verdict::Failed(reason::STREAM_REFUSED),
                                // The answer is whole, and the rest of our body not wanted (RFC 9113 section 8.1).
                                (None, false) if code == ErrorCode::NO_ERROR && status > 0 => Verdict::Answered(status),
                                (None, false) => Verdict::Failed(reason::STREAM_RESET),
                            },
                        ));
                    }
                    continue;
                }
                Event::Writable => {
                    self.upload(requests, now);
                    continue;
                }
                _ => continue,
            };
            if end && let Some((flight, status)) = self.end(id) {
                verdicts.push((flight, Verdict::Answered(status)));
            }
        }
    }

    fn stream(&mut self, id: u32) -> Option<&mut Stream> {
        let at = self.streams.binary_search_by_key(&id, |stream| stream.id).ok()?;
        self.streams.get_mut(at)
    }

    /// A stream is over; what it carried, and the status that came.
    fn end(&mut self, id: u32) -> Option<(Flight, u16)> {
        let stream = self.stream(id)?;
        let ended = stream.flight.take().map(|flight| (flight, stream.status));
        while self.streams.front().is_some_and(|stream| stream.flight.is_none()) {
            self.streams.pop_front();
        }
        self.busy -= usize::from(ended.is_some());
        ended
    }

    /// The connection is gone, and with it what it carried.
    pub fn on_gone(&mut self, why: &'static str, verdicts: &mut Vec<(Flight, Verdict)>) {
        self.busy = 0;
        let flights = self.streams.drain(..).filter_map(|stream| stream.flight);
        verdicts.extend(flights.map(|flight| (flight, Verdict::Failed(why))));
    }

    /// Whether this request is still under way.
    pub fn carries(&self, serial: u64) -> bool {
        self.streams.iter().any(|stream| stream.flight.is_some_and(|flight| flight.serial == serial))
    }

    /// Gives a request up.
    pub fn expire(&mut self, serial: u64) -> Option<Flight> {
        let of = |stream: &&Stream| stream.flight.is_some_and(|flight| flight.serial == serial);
        let id = self.streams.iter().find(of)?.id;
        self.machine.reset(id, ErrorCode::CANCEL);
        self.uploads.retain(|(upload, _)| *upload != id);
        self.end(id).map(|(flight, _)| flight)
    }
}
