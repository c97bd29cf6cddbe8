//! Clients of a run: they keep connections, send requests in pieces, read in pieces, and go away in the midst.

use std::collections::BTreeMap;

use annulus_engine::driver::sim::Peer;
use annulus_protocols::Input;
use annulus_protocols::http1::{Client as Machine, ClientEvent, Limits, RequestBody, write_request_head};

use super::{GATEWAY, Lab, address};

/// Connected at a time.
const CLIENTS_MAX: usize = 8;
/// What is asked for. Orders are posted.
const PATHS: [&str; 6] = ["one", "both", "again", "order", "raw", "kept"];
/// The first id of what may be kept.
const KEPT: u64 = 1_000_000;
/// Statuses that the gateway gives of its own or passes on.
const STATUSES: [u16; 8] = [200, 408, 429, 500, 502, 503, 504, 413];

struct Asked {
    id: u64,
    path: &'static str,
    /// Not yet written.
    unsent: Vec<u8>,
}

struct Client {
    peer: Peer,
    machine: Machine,
    asked: Option<Asked>,
    inbox: Vec<u8>,
    status: u16,
    body: Vec<u8>,
    answered: usize,
    /// It has said that nothing more will come.
    ended: bool,
}

/// All clients.
pub struct Clients {
    lab: Lab,
    open: Vec<Client>,
    next_id: u64,
    answers: BTreeMap<u16, usize>,
    cut: usize,
}

impl Clients {
    pub fn new(lab: &Lab) -> Clients {
        Clients { lab: lab.clone(), open: Vec::new(), next_id: 0, answers: BTreeMap::new(), cut: 0 }
    }

    pub fn tally(&self) -> (BTreeMap<u16, usize>, usize) {
        (self.answers.clone(), self.cut)
    }

    /// Who waits, and for what: its number in the trace, the request, what of it was not sent, what of the answer has come.
    pub fn waiting(&self) -> Vec<String> {
        let asked = |client: &Client| {
            let (id, path, unsent) = client.asked.as_ref().map(|asked| (asked.id, asked.path, asked.unsent.len()))?;
            let (number, status, came) = (client.peer.number(), client.status, client.body.len());
            Some(format!("{number}: /{path}/{id}, {unsent} unsent, status {status}, {came} came"))
        };
        self.open.iter().filter_map(asked).collect()
    }

    /// A few random acts.
    pub fn act(&mut self) {
        for _ in 0..1 + self.lab.below(5) {
            if self.open.is_empty() || self.open.len() < CLIENTS_MAX && self.lab.hit(100) {
                if let Ok(peer) = self.lab.world.connect(&address(GATEWAY)) {
                    self.open.push(Client::new(peer));
                }
                continue;
            }
            let at = self.lab.below(self.open.len());
            match self.lab.below(100) {
                0 => self.leaves(at, true),
                1 => self.leaves(at, false),
                2..40 => self.reads(at, 1 + self.lab.below(3000)),
                _ => self.writes(at, 1 + self.lab.below(400)),
            }
        }
    }

    /// Everybody gets the answer to what was asked, and goes. Whether all have.
    pub fn finish(&mut self) -> bool {
        for at in (0..self.open.len()).rev() {
            if self.open[at].asked.is_none() {
                self.open.swap_remove(at);
                continue;
            }
            self.writes(at, usize::MAX);
            self.reads(at, usize::MAX);
        }
        self.open.is_empty()
    }

    fn leaves(&mut self, at: usize, reset: bool) {
        let client = self.open.swap_remove(at);
        self.cut += usize::from(client.asked.is_some());
        if reset {
            client.peer.reset();
        }
    }

    fn writes(&mut self, at: usize, most: usize) {
        let client = &mut self.open[at];
        if client.asked.is_none() && client.machine.is_idle() {
            self.next_id += 1;
            client.asks(&self.lab, self.next_id);
        }
        let Some(asked) = &mut client.asked else { return };
        let len = asked.unsent.len().min(most);
        let written = client.peer.write(&asked.unsent[..len]);
        asked.unsent.drain(..written);
    }

    fn reads(&mut self, at: usize, most: usize) {
        let client = &mut self.open[at];
        client.peer.read(most, &mut client.inbox);
        let mut bytes = std::mem::take(&mut client.inbox);
        let mut input = Input::new(&mut bytes);
        loop {
            let event = match client.machine.next_event(&Limits::default(), 0, &mut input) {
                Ok(event) => event,
                Err(fault) => return self.lab.world.fail(format!("an answer that is none: {fault:?}")),
            };
            match event {
                ClientEvent::NeedMore => break,
                ClientEvent::Head(head) => client.status = head.status(),
                ClientEvent::Body(part) => client.body.extend_from_slice(part),
                ClientEvent::Interim(_) | ClientEvent::Trailers(_) => {}
                ClientEvent::End => {
                    let status = client.status;
                    if let Err(why) = client.is_right() {
                        return self.lab.world.fail(why);
                    }
                    *self.answers.entry(status).or_default() += 1;
                }
            }
        }
        let rest = input.rest().to_vec();
        client.inbox = rest;
        if client.machine.is_closed() {
            self.open.swap_remove(at);
        } else if client.peer.is_reset() || client.peer.is_ended() && client.peer.unread() == 0 {
            self.is_gone(at);
        }
    }

    /// The gateway has ended a connection. It may do so between requests; an answer that is owed is owed.
    fn is_gone(&mut self, at: usize) {
        let mut client = self.open.swap_remove(at);
        let Some(asked) = client.asked.take() else { return };
        if matches!(client.machine.on_end_of_stream(), Ok(true)) {
            client.asked = Some(asked);
            if let Err(why) = client.is_right() {
                self.lab.world.fail(why);
            }
            *self.answers.entry(client.status).or_default() += 1;
            return;
        }
        self.cut += 1;
        // An answer that is passed on as it comes breaks off with its service's.
        let may_break = asked.path == "raw" && client.status == 200;
        if !self.lab.hostile && !may_break && !client.ended {
            let (id, path, sent) = (asked.id, asked.path, asked.unsent.is_empty());
            let (status, answered) = (client.status, client.answered);
            self.lab.world.fail(format!(
                "request {id} to {path} (sent whole: {sent}, status {status}, after {answered} answers) got no answer"
            ));
        }
    }
}

impl Client {
    fn new(peer: Peer) -> Client {
        let (machine, asked, inbox, body) = (Machine::new(), None, Vec::new(), Vec::new());
        Client { peer, machine, asked, inbox, status: 0, body, answered: 0, ended: false }
    }

    fn asks(&mut self, lab: &Lab, id: u64) {
        let path = PATHS[lab.below(PATHS.len())];
        // What may be kept is asked for by several.
        let id = if path == "kept" { KEPT + id % 4 } else { id };
        let method = if path == "order" { "POST" } else { "GET" };
        let body = vec![b'x'; if path == "order" { lab.below(2000) } else { 0 }];
        let framing = if path == "order" { RequestBody::Known(body.len() as u64) } else { RequestBody::None };
        let mut unsent = Vec::new();
        write_request_head(&mut unsent, method, &format!("/{path}/{id}"), "shop", &[], framing);
        unsent.extend_from_slice(&body);
        assert!(self.machine.on_request(method));
        self.asked = Some(Asked { id, path, unsent });
        self.status = 0;
        self.body.clear();
    }

    /// The answer is to what was asked, and to nothing else.
    fn is_right(&mut self) -> Result<(), String> {
        let asked = self.asked.take().ok_or("an answer that nobody asked for")?;
        let (id, path, status) = (asked.id, asked.path, self.status);
        self.answered += 1;
        if !STATUSES.contains(&status) {
            return Err(format!("request {id} to {path} was answered with {status}"));
        }
        if status != 200 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&self.body);
        // What is passed on is not looked into.
        if path == "raw" && text == super::services::NONSENSE {
            return Ok(());
        }
        let ids: Vec<&str> = text.split("\"id\":\"").skip(1).map(|rest| rest.split('"').next().unwrap_or("")).collect();
        let wanted = id.to_string();
        // One of two services may be missing; what is there is whole.
        let fewest = 1;
        if ids.len() < fewest || ids.iter().any(|found| *found != wanted) {
            return Err(format!("request {id} to {path} was answered with ids {ids:?}: {text}"));
        }
        match serde_json::from_slice::<serde_json::Value>(&self.body) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("request {id} to {path}: {error}: {text}")),
        }
    }
}
