//! The ends of HTTP/2 connections of a run: a client that asks for several things at once, and a service that answers so.

use std::collections::BTreeMap;
use std::time::Duration;

use annulus_engine::driver::sim::Peer;
use annulus_protocols::Input;
use annulus_protocols::http2::{Connection, ErrorCode, Event, Head, Limits, RequestLine};

use super::Lab;
use super::asked::Asked;
use super::clients::{Seen, is_mistaken};
use super::services::{NONSENSE, ORDERS, answer_body};

/// Streams of a client at a time.
const STREAMS_MAX: usize = 6;

/// One end: bytes in, events and bytes out.
struct End {
    peer: Peer,
    machine: Connection,
    inbox: Vec<u8>,
    unsent: Vec<u8>,
}

impl End {
    fn new(peer: Peer, mut machine: Connection) -> End {
        let mut unsent = Vec::new();
        machine.write_preface(&Limits::DEFAULT, &mut unsent);
        End { peer, machine, inbox: Vec::new(), unsent }
    }

    fn flush(&mut self, most: usize) {
        self.machine.write_pending(&mut self.unsent);
        let len = self.unsent.len().min(most);
        let written = self.peer.write(&self.unsent[..len]);
        self.unsent.drain(..written);
    }

    /// What has arrived, as events that borrow nothing.
    fn receive(&mut self, lab: &Lab, most: usize) -> Vec<Came> {
        self.peer.read(most, &mut self.inbox);
        let mut bytes = std::mem::take(&mut self.inbox);
        let mut input = Input::new(&mut bytes);
        let mut all = Vec::new();
        loop {
            let came = match self.machine.next_event(&Limits::DEFAULT, lab.now_ms(), &mut input) {
                Ok(Event::NeedMore) => break,
                Ok(Event::Head { stream, head, end }) => Came::Head(stream, head, end),
                Ok(Event::Data { stream, bytes, end }) => Came::Data(stream, bytes.to_vec(), end),
                Ok(Event::Trailers { stream, .. }) => Came::Data(stream, Vec::new(), true),
                Ok(Event::Reset { stream, unprocessed, .. }) => Came::Reset { stream, unprocessed },
                Ok(Event::GoAway { .. } | Event::Writable | Event::Pong(_)) => continue,
                Err(fault) => {
                    lab.world.fail(format!("the gateway breaks HTTP/2: {fault:?}"));
                    break;
                }
            };
            if let Came::Data(stream, bytes, _) = &came {
                self.machine.release(*stream, bytes.len() as u32);
            }
            all.push(came);
        }
        self.inbox = input.rest().to_vec();
        all
    }

    fn is_gone(&self) -> bool {
        self.peer.is_reset() || self.peer.is_ended() && self.peer.unread() == 0
    }
}

enum Came {
    Head(u32, Head, bool),
    Data(u32, Vec<u8>, bool),
    /// `unprocessed`: by REFUSED_STREAM, or by a GOAWAY that leaves it out (RFC 9113 section 8.7).
    Reset {
        stream: u32,
        unprocessed: bool,
    },
}

struct Open {
    asked: Asked,
    status: u16,
    body: Vec<u8>,
    /// Of the request, not taken by the windows yet.
    unsent: Vec<u8>,
}

/// A client.
pub struct Asking {
    end: End,
    open: BTreeMap<u32, Open>,
}

impl Asking {
    pub fn new(peer: Peer) -> Asking {
        Asking { end: End::new(peer, Connection::client(&Limits::DEFAULT)), open: BTreeMap::new() }
    }

    pub fn waiting(&self) -> Option<String> {
        let all: Vec<String> =
            self.open.values().map(|open| format!("{} {}", open.asked.target(), open.status)).collect();
        (!all.is_empty()).then(|| format!("{}: {all:?}", self.end.peer.number()))
    }

    pub fn owes(&self) -> bool {
        !self.open.is_empty()
    }

    /// Its connection, and how many answers it was owed.
    pub fn leaves(self) -> (Peer, usize) {
        (self.end.peer, self.open.len())
    }

    pub fn asks(&mut self, lab: &Lab, seen: &mut Seen) {
        if self.open.len() >= STREAMS_MAX || self.end.machine.can_open() == 0 || lab.hit(500) {
            // Sometimes it changes its mind.
            if let Some((&stream, _)) = self.open.iter().next().filter(|_| lab.hit(20)) {
                self.open.remove(&stream);
                self.end.machine.reset(stream, ErrorCode::CANCEL);
                seen.cut += 1;
            }
            return;
        }
        seen.asked += 1;
        let asked = Asked::anything(lab, seen.asked);
        let target = asked.target();
        let line = RequestLine { method: asked.method(), scheme: "http", authority: "shop", path: &target };
        let unsent = asked.body.clone().unwrap_or_default();
        let fields: [(&str, &[u8]); 0] = [];
        if let Ok(stream) = self.end.machine.open(&mut self.end.unsent, &line, fields, asked.body.is_none()) {
            self.open.insert(stream, Open { asked, status: 0, body: Vec::new(), unsent });
        }
    }

    pub fn flush(&mut self, lab: &Lab, most: usize) {
        for (&stream, open) in self.open.iter_mut().filter(|(_, open)| open.asked.body.is_some()) {
            if let Some(taken) =
                self.end.machine.write_data(lab.now_ms(), &mut self.end.unsent, stream, &open.unsent, true)
            {
                open.unsent.drain(..taken);
            }
        }
        self.end.flush(most);
    }

    /// Whether it goes on.
    pub fn reads(&mut self, lab: &Lab, seen: &mut Seen, most: usize) -> bool {
        for came in self.end.receive(lab, most) {
            let (stream, ends) = match came {
                Came::Head(stream, head, end) => {
                    if let (Some(open), Head::Response { status, .. }) = (self.open.get_mut(&stream), head) {
                        open.status = status;
                    }
                    (stream, end)
                }
                Came::Data(stream, bytes, end) => {
                    if let Some(open) = self.open.get_mut(&stream) {
                        open.body.extend_from_slice(&bytes);
                    }
                    (stream, end)
                }
                Came::Reset { stream, unprocessed } => {
                    match self.open.remove(&stream) {
                        Some(open) if unprocessed => is_refused(lab, seen, &open),
                        Some(open) => is_cut(lab, seen, &open),
                        None => {}
                    }
                    continue;
                }
            };
            if ends && let Some(open) = self.open.remove(&stream) {
                if let Err(why) = open.asked.is_answered_by(open.status, &open.body) {
                    lab.world.fail(why);
                }
                seen.mistaken += usize::from(is_mistaken(&open.body));
                *seen.answers.entry((open.asked.path, open.status)).or_default() += 1;
            }
        }
        self.end.flush(usize::MAX);
        if self.end.is_gone() {
            self.open.values().for_each(|open| is_cut(lab, seen, open));
            self.open.clear();
            return false;
        }
        true
    }
}

/// What is refused may be asked again, whatever it is: so nobody may have acted on it.
fn is_refused(lab: &Lab, seen: &mut Seen, open: &Open) {
    seen.refused += 1;
    let Asked { id, body, .. } = &open.asked;
    let acted = lab.book.borrow();
    if body.is_some() && acted.keys().any(|(service, of)| ORDERS.contains(service) && of == id) {
        drop(acted);
        lab.world.fail(format!("order {id} was refused, and carried out"));
    }
}

fn is_cut(lab: &Lab, seen: &mut Seen, open: &Open) {
    seen.cut += 1;
    // Through a window of a byte an acknowledgement of settings takes longer than it may.
    if !lab.may_cut(Duration::ZERO, Duration::from_millis(Limits::DEFAULT.ack_ms_max))
        && !open.asked.may_break(open.status)
    {
        lab.world.fail(format!(
            "the stream of {} (status {}) ended without an answer",
            open.asked.target(),
            open.status
        ));
    }
}

struct Question {
    id: u64,
    /// Acts of the run until it is answered; `None`: it is not whole yet.
    wait: Option<usize>,
    /// Of the answer, not taken by the windows yet; `None`: it has not begun.
    unsent: Option<Vec<u8>>,
    breaks_off: bool,
    stalls: bool,
}

/// A service's side of a connection.
pub struct Answering {
    service: u8,
    end: End,
    open: BTreeMap<u32, Question>,
    goes_away: bool,
}

impl Answering {
    pub fn new(service: u8, peer: Peer) -> Answering {
        let end = End::new(peer, Connection::server(&Limits::DEFAULT));
        Answering { service, end, open: BTreeMap::new(), goes_away: false }
    }

    /// Whether it goes on.
    pub fn act(&mut self, lab: &Lab) -> bool {
        if self.end.is_gone() {
            return false;
        }
        for came in self.end.receive(lab, 1 + lab.below(2000)) {
            match came {
                Came::Head(stream, head, end) => {
                    let Head::Request { path, .. } = head else { continue };
                    // Refused before anything was done: that may be asked again.
                    if lab.hit(20) {
                        self.end.machine.reset(stream, ErrorCode::REFUSED_STREAM);
                        continue;
                    }
                    let id = path.trim_start_matches('/').parse().unwrap_or(u64::MAX);
                    let question = Question { id, wait: None, unsent: None, breaks_off: false, stalls: false };
                    self.open.insert(stream, question);
                    self.is_asked(lab, stream, end);
                }
                Came::Data(stream, _, end) => self.is_asked(lab, stream, end),
                Came::Reset { stream, .. } => drop(self.open.remove(&stream)),
            }
        }
        let all: Vec<u32> = self.open.keys().copied().collect();
        all.into_iter().for_each(|stream| self.answers(lab, stream));
        if lab.hit(4) && !self.goes_away {
            self.goes_away = true;
            self.end.machine.go_away(ErrorCode::NO_ERROR, "");
        }
        self.end.flush(if lab.hit(500) { 1 + lab.below(100) } else { usize::MAX });
        // Whoever has said goodbye ends when all is said.
        !(self.goes_away && self.open.is_empty() && self.end.unsent.is_empty() && lab.hit(100))
    }

    /// A stall is for ever.
    pub fn is_stalled(&self) -> bool {
        self.open.values().any(|question| question.stalls)
    }

    fn is_asked(&mut self, lab: &Lab, stream: u32, whole: bool) {
        if whole && let Some(question) = self.open.get_mut(&stream) {
            question.wait = Some(lab.below(40));
            *lab.book.borrow_mut().entry((self.service, question.id)).or_default() += 1;
        }
    }

    fn answers(&mut self, lab: &Lab, stream: u32) {
        let Some(question) = self.open.get_mut(&stream) else { return };
        match &mut question.wait {
            Some(0) => {}
            Some(acts) => return *acts -= 1,
            None => return,
        }
        if question.stalls {
            return;
        }
        let (machine, out) = (&mut self.end.machine, &mut self.end.unsent);
        let json: [(&str, &[u8]); 1] = [("content-type", b"application/json")];
        let Some(unsent) = &mut question.unsent else {
            let (status, body) = match lab.below(40) {
                0 => (500, Vec::new()),
                1 => {
                    question.stalls = true;
                    return;
                }
                2 => (200, NONSENSE.as_bytes().to_vec()),
                fate => {
                    question.breaks_off = fate == 3;
                    (200, answer_body(lab, self.service, question.id))
                }
            };
            machine.write_head(out, stream, status, json, body.is_empty());
            question.unsent = Some(body);
            if question.unsent.as_ref().is_some_and(Vec::is_empty) {
                self.open.remove(&stream);
            }
            return;
        };
        if question.breaks_off {
            machine.reset(stream, ErrorCode::INTERNAL_ERROR);
            self.open.remove(&stream);
            return;
        }
        match machine.write_data(lab.now_ms(), out, stream, unsent, true) {
            Some(taken) if taken < unsent.len() => drop(unsent.drain(..taken)),
            Some(_) | None => drop(self.open.remove(&stream)),
        }
    }
}
