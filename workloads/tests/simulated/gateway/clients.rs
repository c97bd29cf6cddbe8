//! Clients of a run: they keep connections, send requests in pieces, read in pieces, and go away in the midst. Some speak
//! HTTP/2 ([`super::streams`]).

use std::collections::BTreeMap;
use std::time::Duration;

use annulus_engine::driver::sim::Peer;
use annulus_protocols::Input;
use annulus_protocols::http1::{Client as Machine, ClientEvent, Fault, Limits, RequestBody, write_request_head};

use super::asked::Asked;
use super::services::UNASKED;
use super::streams::Asking;
use super::{GATEWAY, Lab};
use crate::lab::{PATIENCE, address};

/// Connected at a time.
const CLIENTS_MAX: usize = 8;

/// What clients have seen.
#[derive(Default)]
pub struct Seen {
    /// Answers by what was asked for and by status.
    pub answers: BTreeMap<(&'static str, u16), usize>,
    /// Requests of which nobody can say what became of them: their connection was cut.
    pub cut: usize,
    /// Requests that may be asked again, because nobody has acted on them.
    pub refused: usize,
    /// Answers of services that nobody had asked for, taken for answers.
    pub mistaken: usize,
    /// Requests so far.
    pub asked: u64,
}

/// Whether an answer is, or has in it, one that nobody asked for.
pub fn is_mistaken(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).contains(UNASKED)
}

struct Client {
    peer: Peer,
    machine: Machine,
    asked: Option<Asked>,
    /// Of the request, not yet written.
    unsent: Vec<u8>,
    inbox: Vec<u8>,
    status: u16,
    body: Vec<u8>,
}

enum Anybody {
    One(Client),
    Many(Box<Asking>),
}

/// All clients.
pub struct Clients {
    lab: Lab,
    open: Vec<Anybody>,
    /// What they have seen.
    pub seen: Seen,
}

impl Clients {
    pub fn new(lab: &Lab) -> Clients {
        Clients { lab: lab.clone(), open: Vec::new(), seen: Seen::default() }
    }

    /// Who waits, and for what.
    pub fn waiting(&self) -> Vec<String> {
        self.open.iter().filter_map(Anybody::waiting).collect()
    }

    /// A few random acts.
    pub fn act(&mut self) {
        for _ in 0..1 + self.lab.below(5) {
            if self.open.is_empty() || self.open.len() < CLIENTS_MAX && self.lab.hit(100) {
                if let Ok(peer) = self.lab.world.connect(&address(GATEWAY)) {
                    let multiplexed = self.lab.hit(300);
                    self.open.push(if multiplexed {
                        Anybody::Many(Box::new(Asking::new(peer)))
                    } else {
                        Anybody::One(Client::new(peer))
                    });
                }
                continue;
            }
            let at = self.lab.below(self.open.len());
            let goes_on = match self.lab.below(100) {
                act @ 0..2 => {
                    self.open.swap_remove(at).leaves(&mut self.seen, act == 0);
                    continue;
                }
                2..40 => self.open[at].reads(&self.lab, &mut self.seen, 1 + self.lab.below(3000)),
                _ => self.open[at].writes(&self.lab, &mut self.seen, 1 + self.lab.below(400)),
            };
            if !goes_on {
                self.open.swap_remove(at);
            }
        }
    }

    /// Everybody gets the answers to what was asked, and goes. Whether all have.
    pub fn finish(&mut self) -> bool {
        for at in (0..self.open.len()).rev() {
            let client = &mut self.open[at];
            let goes_on =
                client.owes() && client.flushes(&self.lab) && client.reads(&self.lab, &mut self.seen, usize::MAX);
            if !goes_on {
                self.open.swap_remove(at);
            }
        }
        self.open.is_empty()
    }
}

impl Anybody {
    fn waiting(&self) -> Option<String> {
        match self {
            Anybody::One(client) => {
                let asked = client.asked.as_ref()?;
                let (number, target, unsent) = (client.peer.number(), asked.target(), client.unsent.len());
                Some(format!(
                    "{number}: {target}, {unsent} unsent, status {}, {} came",
                    client.status,
                    client.body.len()
                ))
            }
            Anybody::Many(client) => client.waiting(),
        }
    }

    fn leaves(self, seen: &mut Seen, reset: bool) {
        let (peer, owed) = match self {
            Anybody::One(client) => (client.peer, usize::from(client.asked.is_some())),
            Anybody::Many(client) => client.leaves(),
        };
        seen.cut += owed;
        if reset {
            peer.reset();
        }
    }

    /// Whether an answer is owed to it.
    fn owes(&self) -> bool {
        match self {
            Anybody::One(client) => client.asked.is_some(),
            Anybody::Many(client) => client.owes(),
        }
    }

    /// Writes what is left of what was asked, and asks for nothing more. True.
    fn flushes(&mut self, lab: &Lab) -> bool {
        match self {
            Anybody::One(client) => client.flush(usize::MAX),
            Anybody::Many(client) => client.flush(lab, usize::MAX),
        }
        true
    }

    /// Whether it goes on.
    fn writes(&mut self, lab: &Lab, seen: &mut Seen, most: usize) -> bool {
        match self {
            Anybody::One(client) => {
                if client.asked.is_none() && client.machine.is_idle() {
                    seen.asked += 1;
                    client.asks(Asked::anything(lab, seen.asked));
                }
                client.flush(most);
            }
            Anybody::Many(client) => {
                client.asks(lab, seen);
                client.flush(lab, most);
            }
        }
        true
    }

    /// Whether it goes on.
    fn reads(&mut self, lab: &Lab, seen: &mut Seen, most: usize) -> bool {
        match self {
            Anybody::One(client) => client.reads(lab, seen, most),
            Anybody::Many(client) => client.reads(lab, seen, most),
        }
    }
}

impl Client {
    fn new(peer: Peer) -> Client {
        let (inbox, unsent, body) = (Vec::new(), Vec::new(), Vec::new());
        Client { peer, machine: Machine::new(), asked: None, unsent, inbox, status: 0, body }
    }

    fn asks(&mut self, asked: Asked) {
        let framing = asked.body.as_ref().map_or(RequestBody::None, |body| RequestBody::Known(body.len() as u64));
        write_request_head(&mut self.unsent, asked.method(), &asked.target(), "shop", &[], framing);
        self.unsent.extend_from_slice(asked.body.as_deref().unwrap_or_default());
        assert!(self.machine.on_request(asked.method()));
        self.asked = Some(asked);
        self.status = 0;
        self.body.clear();
    }

    fn flush(&mut self, most: usize) {
        let len = self.unsent.len().min(most);
        let written = self.peer.write(&self.unsent[..len]);
        self.unsent.drain(..written);
    }

    fn reads(&mut self, lab: &Lab, seen: &mut Seen, most: usize) -> bool {
        self.peer.read(most, &mut self.inbox);
        let mut bytes = std::mem::take(&mut self.inbox);
        let mut input = Input::new(&mut bytes);
        loop {
            match self.machine.next_event(&Limits::default(), lab.now_ms(), &mut input) {
                Ok(ClientEvent::NeedMore) => break,
                Ok(ClientEvent::Head(head)) => self.status = head.status(),
                Ok(ClientEvent::Body(part)) => self.body.extend_from_slice(part),
                Ok(ClientEvent::Interim(_) | ClientEvent::Trailers(_)) => {}
                Ok(ClientEvent::End) => self.is_answered(lab, seen),
                // What trickles in is passed on in chunks of a few bytes, which our own machine takes for an attack.
                Err(Fault::Chunk) if self.asked.as_ref().is_some_and(|asked| asked.may_break(self.status)) => {
                    seen.cut += 1;
                    return false;
                }
                Err(fault) => lab.world.fail(format!("an answer that is none: {fault:?}")),
            }
        }
        self.inbox = input.rest().to_vec();
        if self.machine.is_closed() {
            return false;
        }
        if self.peer.is_reset() || self.peer.is_ended() && self.peer.unread() == 0 {
            self.is_left(lab, seen);
            return false;
        }
        true
    }

    fn is_answered(&mut self, lab: &Lab, seen: &mut Seen) {
        let Some(asked) = self.asked.take() else { return lab.world.fail("an answer that nobody asked for") };
        if let Err(why) = asked.is_answered_by(self.status, &self.body) {
            lab.world.fail(why);
        }
        seen.mistaken += usize::from(is_mistaken(&self.body));
        *seen.answers.entry((asked.path, self.status)).or_default() += 1;
    }

    /// The gateway has ended the connection. It may do so between requests; an answer that is owed is owed.
    fn is_left(&mut self, lab: &Lab, seen: &mut Seen) {
        if matches!(self.machine.on_end_of_stream(), Ok(true)) {
            return self.is_answered(lab, seen);
        }
        let Some(asked) = self.asked.take() else { return };
        seen.cut += 1;
        if !lab.may_cut(Duration::ZERO, PATIENCE) && !asked.may_break(self.status) {
            let (target, unsent, status) = (asked.target(), self.unsent.len(), self.status);
            lab.world.fail(format!("{target} ({unsent} bytes unsent, status {status}) got no answer"));
        }
    }
}
