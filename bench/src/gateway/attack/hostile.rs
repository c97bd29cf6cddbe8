//! A service that attacks the gateway: one thread, HTTP/2 by prior knowledge, its conduct changed while load runs.

use crate::attacks::frames::{
    self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame,
};
use crate::attacks::siege::{Ledger, Pace, TICK, UNSENT_BYTES_MAX};
use crate::attacks::wire::Wire;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// Units per second, over all connections.
pub const FLOOD_RATE: f64 = 20_000.0;
/// What an honest answer holds.
const BODY: &[u8] = br#"{"service_us":        0,"id":1}"#;
/// Fields of an answer whose head is too large, and the bytes of each.
const FIELDS: usize = 150;
const FIELD_BYTES: usize = 200;
/// Frames of a body that ignores the window, and the bytes of each: more than a stream's window.
const FLOOD_FRAMES: usize = 20;
const FLOOD_FRAME_BYTES: usize = 16 << 10;

/// What the service does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// Answers.
    Honest,
    /// Answers 103 without an end.
    Interim,
    /// PING without an end.
    Pings,
    /// SETTINGS without an end.
    Settings,
    /// An answer's head without an end.
    Continuations,
    /// An answer's head of 30 KB.
    LargeHead,
    /// An answer's head, and then RST_STREAM.
    Resets,
    /// A body that does not wait for windows.
    Overflow,
    /// An answer in frames of one byte, without an end.
    TinyData,
    /// The end of the connection for every request.
    Closes,
}

impl Conduct {
    /// Those that are attacks.
    pub const ATTACKS: [Conduct; 9] = [
        Conduct::Interim,
        Conduct::Pings,
        Conduct::Settings,
        Conduct::Continuations,
        Conduct::LargeHead,
        Conduct::Resets,
        Conduct::Overflow,
        Conduct::TinyData,
        Conduct::Closes,
    ];

    /// Its name in rows.
    pub fn name(self) -> &'static str {
        match self {
            Conduct::Honest => "honest",
            Conduct::Interim => "endless 1xx",
            Conduct::Pings => "PING flood",
            Conduct::Settings => "SETTINGS flood",
            Conduct::Continuations => "CONTINUATION flood",
            Conduct::LargeHead => "oversized head",
            Conduct::Resets => "RST after the head",
            Conduct::Overflow => "window overflow",
            Conduct::TinyData => "tiny DATA",
            Conduct::Closes => "connection closed",
        }
    }

    /// What a request is answered with. False when the connection is to be closed.
    fn answer(self, stream: u32, out: &mut Vec<u8>) -> bool {
        let mut head = frames::status("200");
        frames::field(&mut head, "content-type", b"application/json");
        match self {
            Conduct::Honest | Conduct::Pings | Conduct::Settings => {
                frame(out, HEADERS, END_HEADERS, stream, &head);
                frame(out, DATA, END_STREAM, stream, BODY);
            }
            // Goes on in units.
            Conduct::Interim => {}
            Conduct::Continuations => frame(out, HEADERS, 0, stream, &head),
            Conduct::LargeHead => {
                let mut rest = Vec::new();
                (0..FIELDS).for_each(|_| frames::field(&mut rest, "x-filler", &[b'a'; FIELD_BYTES]));
                frame(out, HEADERS, 0, stream, &head);
                let parts = rest.chunks(FLOOD_FRAME_BYTES);
                let last = parts.len() - 1;
                for (number, part) in parts.enumerate() {
                    frame(out, CONTINUATION, if number == last { END_HEADERS } else { 0 }, stream, part);
                }
            }
            Conduct::Resets => {
                frame(out, HEADERS, END_HEADERS, stream, &head);
                // INTERNAL_ERROR.
                frame(out, RST_STREAM, 0, stream, &2u32.to_be_bytes());
            }
            Conduct::Overflow => {
                frame(out, HEADERS, END_HEADERS, stream, &head);
                (0..FLOOD_FRAMES).for_each(|_| frame(out, DATA, 0, stream, &[b' '; FLOOD_FRAME_BYTES]));
            }
            Conduct::TinyData => frame(out, HEADERS, END_HEADERS, stream, &head),
            Conduct::Closes => return false,
        }
        true
    }

    /// What is repeated while a connection lives; `stream` is the newest request's.
    fn unit(self, stream: u32, out: &mut Vec<u8>) {
        match self {
            Conduct::Interim => frame(out, HEADERS, END_HEADERS, stream, &frames::status("103")),
            Conduct::Pings => frame(out, PING, 0, 0, b"annoying"),
            Conduct::Settings => frame(out, SETTINGS, 0, 0, &frames::setting(frames::INITIAL_WINDOW, 65_535)),
            Conduct::Continuations => {
                let mut block = Vec::new();
                frames::field(&mut block, "x-filler", b"aaaaaaaa");
                frame(out, CONTINUATION, 0, stream, &block);
            }
            Conduct::TinyData => frame(out, DATA, 0, stream, b" "),
            _ => {}
        }
    }
}

const CONDUCTS: usize = Conduct::ATTACKS.len();

/// The running service.
pub struct Hostile {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    /// A place in [`Conduct::ATTACKS`], or [`CONDUCTS`] for honesty.
    conduct: AtomicUsize,
    ledger: Mutex<Ledger>,
}

impl Hostile {
    /// Starts it, honest at first, in a thread on its starter's core.
    ///
    /// # Errors
    /// A sentence: there is no port.
    pub fn start() -> Result<Hostile, String> {
        let failed = |error: std::io::Error| format!("the hostile service cannot listen: {error}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (conduct, ledger) = (AtomicUsize::new(CONDUCTS), Mutex::default());
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), conduct, ledger });
        let of_thread = shared.clone();
        let thread = std::thread::spawn(move || serve(&listener, &of_thread));
        Ok(Hostile { address, shared, thread: Some(thread) })
    }

    /// Changes what it does, and gives what became of it since the last change.
    pub fn behave(&self, conduct: Conduct) -> Ledger {
        let place = Conduct::ATTACKS.iter().position(|attack| *attack == conduct).unwrap_or(CONDUCTS);
        self.shared.conduct.store(place, Ordering::Relaxed);
        std::mem::take(&mut *self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _a_panic_was_told_on_stderr = thread.join();
        }
    }
}

struct Session {
    wire: Wire,
    begun: bool,
    /// The newest request's stream while units belong to it.
    stream: Option<u32>,
    units: u64,
    farewell: Option<&'static str>,
}

fn serve(listener: &TcpListener, shared: &Shared) {
    let mut sessions: Vec<Session> = Vec::new();
    let (began, mut pace, mut before) = (Instant::now(), Pace::new(FLOOD_RATE), Conduct::Honest);
    while !shared.stop.load(Ordering::Relaxed) {
        std::thread::sleep(TICK);
        let conduct = Conduct::ATTACKS.get(shared.conduct.load(Ordering::Relaxed)).copied().unwrap_or(Conduct::Honest);
        // Every conduct has connections of its own.
        if std::mem::replace(&mut before, conduct) != conduct {
            sessions.clear();
        }
        let mut ledger = shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(wire) = listener.accept().ok().and_then(|(stream, _)| Wire::new(stream).ok()) {
            sessions.push(Session { wire, begun: false, stream: None, units: 0, farewell: None });
            ledger.connections += 1;
        }
        let each = pace.due(began.elapsed()).div_ceil(sessions.len().max(1) as u64);
        sessions.retain_mut(|session| session.turn(conduct, each, &mut ledger));
    }
}

impl Session {
    /// Answers, attacks, and moves bytes. False when the connection is over.
    fn turn(&mut self, conduct: Conduct, units: u64, ledger: &mut Ledger) -> bool {
        if !self.wire.receive(true) {
            let how = self.farewell.map_or_else(|| "closed".to_owned(), |code| format!("GOAWAY {code}"));
            ledger.end(how, self.units);
            return false;
        }
        if !self.begun && self.wire.frames.skip_preface() {
            self.begun = true;
            frame(&mut self.wire.unsent, SETTINGS, 0, 0, b"");
            // The gateway's requests have no bodies: the window is for appearance.
            frame(&mut self.wire.unsent, WINDOW_UPDATE, 0, 0, &65_535u32.to_be_bytes());
        }
        if self.begun && !self.react(conduct, ledger) {
            return false;
        }
        // What a flood is about is there with the first request.
        for _ in 0..self.stream.map_or(0, |_| units) {
            if self.wire.unsent.len() >= UNSENT_BYTES_MAX {
                break;
            }
            let before = self.wire.unsent.len();
            conduct.unit(self.stream.unwrap_or_default(), &mut self.wire.unsent);
            let sent = u64::from(self.wire.unsent.len() > before);
            self.units += sent;
            ledger.units += sent;
        }
        // A connection that breaks here ends with the next reading.
        let _broken = !self.wire.flush();
        true
    }

    /// Answers what arrived. False when that closes the connection.
    fn react(&mut self, conduct: Conduct, ledger: &mut Ledger) -> bool {
        let Session { wire, stream, farewell, units, .. } = self;
        while let Some(arrived) = wire.frames.next() {
            match arrived.kind {
                SETTINGS if arrived.flags & ACK == 0 => frame(&mut wire.unsent, SETTINGS, ACK, 0, b""),
                PING if arrived.flags & ACK == 0 => frame(&mut wire.unsent, PING, ACK, 0, arrived.payload),
                RST_STREAM => {
                    ledger.resets += 1;
                    *stream = stream.filter(|of| *of != arrived.stream || conduct == Conduct::Continuations);
                }
                HEADERS if *stream == Some(arrived.stream) => {}
                HEADERS => {
                    // Inside an endless head nothing else may be said.
                    if conduct != Conduct::Continuations || stream.is_none() {
                        *units += 1;
                        ledger.units += 1;
                        if !conduct.answer(arrived.stream, &mut wire.unsent) {
                            return false;
                        }
                        *stream = Some(arrived.stream);
                    }
                }
                _ => *farewell = farewell.or(arrived.goaway()),
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulus_protocols::Input;
    use annulus_protocols::http2::{Connection, ErrorCode, Event, Limits, RequestLine};

    /// A client of ours with one request, and what it says to an answer and some units.
    fn told(conduct: Conduct, units: usize) -> Result<Vec<String>, ErrorCode> {
        let limits = Limits::DEFAULT;
        let (mut machine, mut out) = (Connection::client(&limits), Vec::new());
        machine.write_preface(&limits, &mut out);
        let line = RequestLine { method: "GET", scheme: "http", authority: "a", path: "/" };
        let stream = machine.open(&mut out, &line, [], true).unwrap();
        let mut bytes = Vec::new();
        frame(&mut bytes, SETTINGS, 0, 0, b"");
        conduct.answer(stream, &mut bytes);
        (0..units).for_each(|_| conduct.unit(stream, &mut bytes));
        let mut input = Input::new(&mut bytes);
        let mut seen = Vec::new();
        loop {
            match machine.next_event(&limits, 0, &mut input) {
                Ok(Event::NeedMore) => return Ok(seen),
                Ok(Event::Head { .. }) => seen.push("head".to_owned()),
                Ok(Event::Data { end, .. }) => seen.push(if end { "end" } else { "data" }.to_owned()),
                Ok(Event::Reset { code, .. }) => seen.push(format!("reset {code}")),
                Ok(_) => {}
                Err(fault) => return Err(fault.code),
            }
        }
    }

    #[test]
    fn honesty_is_understood() {
        assert_eq!(told(Conduct::Honest, 10).unwrap(), ["head", "end"]);
        assert_eq!(told(Conduct::Resets, 0).unwrap(), ["head", "reset INTERNAL_ERROR"]);
    }

    #[test]
    fn floods_are_refused_by_a_careful_client() {
        for (conduct, units) in [
            (Conduct::Pings, 2000),
            (Conduct::Settings, 2000),
            (Conduct::Continuations, 20),
            (Conduct::TinyData, 20_000),
        ] {
            assert_eq!(told(conduct, units).unwrap_err(), ErrorCode::ENHANCE_YOUR_CALM, "{}", conduct.name());
        }
        // The stream is reset at its window's end; what still comes is more than can have been under way.
        assert_eq!(told(Conduct::Overflow, 0).unwrap_err(), ErrorCode::STREAM_CLOSED);
        assert!(told(Conduct::Interim, 20).unwrap().last().unwrap().starts_with("reset"));
        assert!(told(Conduct::LargeHead, 0).unwrap().last().unwrap().starts_with("reset"));
    }

    #[test]
    fn what_became_of_it_is_told_once() {
        let hostile = Hostile::start().unwrap();
        let mut client = Wire::connect(hostile.address).unwrap();
        client.unsent.extend_from_slice(frames::PREFACE);
        frame(&mut client.unsent, SETTINGS, 0, 0, b"");
        frame(&mut client.unsent, HEADERS, END_HEADERS | END_STREAM, 1, &frames::request("GET", "/"));
        hostile.behave(Conduct::Pings);
        let (began, mut pings) = (Instant::now(), 0);
        while pings < 10 && began.elapsed().as_secs() < 10 {
            assert!(client.flush() && client.receive(true));
            while let Some(frame) = client.frames.next() {
                pings += u32::from(frame.kind == PING);
            }
        }
        assert!(pings >= 10);
        let ledger = hostile.behave(Conduct::Honest);
        assert!(ledger.connections == 1 && ledger.units >= 10, "{ledger:?}");
        assert!(hostile.behave(Conduct::Honest).connections == 0);
    }
}
