//! Services of a run: they read requests whole, and answer them late, in pieces, wrongly, in part, or not at all.

use annulus_engine::driver::sim::{Peer, PeerListener};
use annulus_protocols::Input;
use annulus_protocols::http1::{BodyLength, Event, Exchange, Limits, Server as Machine, write_response_head};

use super::Lab;
use super::streams::Answering;
use crate::lab::address;

/// The services that take orders. What is odd about them: an order must not be carried out twice.
pub const ORDERS: [u8; 2] = [3, 5];
const COUNT: u8 = 5;
/// From this one on they speak HTTP/2.
const FIRST_OF_STREAMS: u8 = 4;
/// The id of an answer that nobody asked for.
pub const UNASKED: &str = "nobody's";
/// A body that is no JSON.
pub const NONSENSE: &str = "{\"id\": no";

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answer,
    Chunked,
    UntilClose,
    Fails,
    Stalls,
    BreaksOff,
    Garbage,
    /// Says one answer more than it was asked for, and ends.
    Excess,
    /// Is no JSON.
    Nonsense,
}

enum Anyone {
    One(Conn),
    Many(Box<Answering>),
}

struct Conn {
    service: u8,
    peer: Peer,
    machine: Machine,
    inbox: Vec<u8>,
    /// Bytes read, where in them the next request begins, and where in what is written the answers end that were asked for.
    read: u64,
    next_request: u64,
    answered: u64,
    /// A request of which not everything is here.
    begun: Option<(Exchange, u64)>,
    asked: Option<(Exchange, u64)>,
    /// Acts of the run until it answers.
    wait: usize,
    unsent: Vec<u8>,
    /// It ends when that is sent: `Some(true)` by a reset.
    then_ends: Option<bool>,
    lingers: Option<Lingering>,
    stalls: bool,
}

/// A service that says too much answers nothing more, and ends soon: nobody could tell what it said from an answer once the
/// connection is used again.
struct Lingering {
    /// What it still says, after so many acts.
    excess: Vec<u8>,
    pause: usize,
    /// Acts until it ends.
    acts: usize,
}

/// All services.
pub struct Services {
    lab: Lab,
    doors: Vec<(u8, PeerListener)>,
    open: Vec<Anyone>,
}

impl Services {
    pub fn new(lab: &Lab) -> Services {
        let doors = (1..=COUNT).map(|number| (number, lab.world.serve(&address(&format!("10.0.1.{number}:80")))));
        Services { lab: lab.clone(), doors: doors.collect(), open: Vec::new() }
    }

    /// Their connections.
    pub fn waiting(&self) -> String {
        let is_stalled = |conn: &&Anyone| match conn {
            Anyone::One(conn) => conn.stalls,
            Anyone::Many(conn) => conn.is_stalled(),
        };
        let stalled = self.open.iter().filter(is_stalled).count();
        format!("{} connections of services, {stalled} of them stalled", self.open.len())
    }

    /// Everybody does something.
    pub fn act(&mut self) {
        for (service, door) in &mut self.doors {
            while let Some(peer) = door.accept() {
                self.open.push(match *service < FIRST_OF_STREAMS {
                    true => Anyone::One(Conn::new(*service, peer)),
                    false => Anyone::Many(Box::new(Answering::new(*service, peer))),
                });
            }
        }
        for at in (0..self.open.len()).rev() {
            if self.lab.hit(300) {
                continue;
            }
            let goes_on = match &mut self.open[at] {
                Anyone::One(conn) => conn.act(&self.lab),
                Anyone::Many(conn) => conn.act(&self.lab),
            };
            if goes_on {
                continue;
            }
            if let Anyone::One(Conn { then_ends: Some(true), peer, .. }) = self.open.swap_remove(at) {
                peer.reset();
            }
        }
    }
}

/// What a service says: whose it is, and a filler.
pub fn answer_body(lab: &Lab, service: u8, id: u64) -> Vec<u8> {
    let filler = "y".repeat(if lab.hit(100) { lab.below(60_000) } else { lab.below(300) });
    format!("{{\"id\":\"{id}\",\"service\":{service},\"filler\":\"{filler}\"}}").into_bytes()
}

impl Conn {
    fn new(service: u8, peer: Peer) -> Conn {
        let (machine, inbox, unsent) = (Machine::new(), Vec::new(), Vec::new());
        Conn {
            service,
            peer,
            machine,
            inbox,
            read: 0,
            next_request: 0,
            answered: 0,
            begun: None,
            asked: None,
            wait: 0,
            unsent,
            then_ends: None,
            lingers: None,
            stalls: false,
        }
    }

    /// Whether it goes on.
    fn act(&mut self, lab: &Lab) -> bool {
        if self.peer.is_reset() || self.peer.is_ended() && self.peer.unread() == 0 && self.unsent.is_empty() {
            return false;
        }
        if !self.unsent.is_empty() {
            let most = if lab.hit(500) { 1 + lab.below(50) } else { usize::MAX };
            let len = self.unsent.len().min(most);
            let written = self.peer.write(&self.unsent[..len]);
            self.unsent.drain(..written);
            return !self.unsent.is_empty() || self.then_ends.is_none();
        }
        if self.lingers.is_some() {
            return self.goes_on_lingering(lab);
        }
        if self.stalls {
            // The gateway gives it up.
            self.peer.read(usize::MAX, &mut Vec::new());
            return true;
        }
        if let Some((exchange, id)) = self.asked {
            if self.wait > 0 {
                self.wait -= 1;
                return true;
            }
            self.asked = None;
            self.answers(lab, &exchange, id);
            return true;
        }
        // A connection that is kept may end at any time between two requests.
        if lab.hit(5) && self.inbox.is_empty() && self.machine.is_idle() {
            return false;
        }
        self.reads(lab);
        true
    }

    /// Whether it goes on.
    fn goes_on_lingering(&mut self, lab: &Lab) -> bool {
        self.read += self.peer.read(usize::MAX, &mut self.inbox) as u64;
        let is_asked = !self.inbox.is_empty();
        if is_asked {
            self.is_chosen(lab);
        }
        let Some(Lingering { excess, pause, acts }) = &mut self.lingers else { return true };
        if *pause > 0 {
            *pause -= 1;
        } else if !excess.is_empty() {
            self.unsent.append(excess);
            // Who has asked meanwhile would take it for the answer.
            return !is_asked;
        } else {
            *acts = acts.saturating_sub(1);
        }
        *acts > 0
    }

    /// A request begins. Whoever sends it had nothing in hand beyond the answers that were asked for: bytes behind them mean
    /// that the connection cannot be used again.
    fn is_chosen(&self, lab: &Lab) {
        let known = self.peer.known_before(self.next_request);
        if known > self.answered {
            let excess = known - self.answered;
            lab.world.fail(format!("connection {} is used again with {excess} bytes unread", self.peer.number()));
        }
    }

    fn reads(&mut self, lab: &Lab) {
        self.read += self.peer.read(1 + lab.below(500), &mut self.inbox) as u64;
        let mut bytes = std::mem::take(&mut self.inbox);
        let mut input = Input::new(&mut bytes);
        loop {
            match self.machine.next_event(&Limits::default(), lab.now_ms(), &mut input) {
                Ok(Event::NeedMore) => break,
                Ok(Event::Head(head)) => {
                    self.is_chosen(lab);
                    let id = head.path().trim_start_matches('/').parse().unwrap_or(u64::MAX);
                    self.begun = Some((head.exchange(), id));
                }
                Ok(Event::Body(_) | Event::Trailers(_)) => {}
                Ok(Event::End) => {
                    self.asked = self.begun.take();
                    let id = self.asked.as_ref().map_or(u64::MAX, |(_, id)| *id);
                    *lab.book.borrow_mut().entry((self.service, id)).or_default() += 1;
                    self.wait = lab.below(40);
                    self.next_request = self.read - input.rest().len() as u64;
                    break;
                }
                Err(fault) => return lab.world.fail(format!("the gateway sent a request that is none: {fault:?}")),
            }
        }
        self.inbox = input.rest().to_vec();
    }

    fn answers(&mut self, lab: &Lab, exchange: &Exchange, id: u64) {
        let fate = match lab.below(40) {
            0 => Fate::Fails,
            1 => Fate::Stalls,
            2 => Fate::BreaksOff,
            3 => Fate::Garbage,
            4 => Fate::Nonsense,
            39 => Fate::Excess,
            5 | 6 => Fate::UntilClose,
            7..15 => Fate::Chunked,
            _ => Fate::Answer,
        };
        let body = answer_body(lab, self.service, id);
        let out = &mut self.unsent;
        let json = [("content-type", "application/json"), ("cache-control", "max-age=60")];
        match fate {
            Fate::Stalls => self.stalls = true,
            Fate::Fails => {
                let writer = write_response_head(out, exchange, 500, &[], BodyLength::Known(0));
                if writer.write_end(out) {
                    self.then_ends = Some(false);
                }
                self.answered = self.peer.written() + out.len() as u64;
            }
            Fate::Garbage => {
                out.extend_from_slice(b"HTTP/9.9 maybe\r\n\r\n");
                self.then_ends = Some(false);
            }
            Fate::Nonsense => {
                let length = BodyLength::Known(NONSENSE.len() as u64);
                let mut writer = write_response_head(out, exchange, 200, &json, length);
                writer.write_data(out, NONSENSE.as_bytes());
                let _closes = writer.write_end(out);
                self.then_ends = Some(false);
            }
            Fate::BreaksOff => {
                let mut writer = write_response_head(out, exchange, 200, &json, BodyLength::Known(body.len() as u64));
                writer.write_data(out, &body[..body.len() / 2]);
                let _closes = writer.write_end(out);
                self.then_ends = Some(lab.hit(500));
            }
            Fate::Answer | Fate::Chunked | Fate::UntilClose | Fate::Excess => {
                let length = match fate {
                    Fate::Answer | Fate::Excess => BodyLength::Known(body.len() as u64),
                    Fate::Chunked => BodyLength::Unknown,
                    _ => BodyLength::UntilClose,
                };
                let mut writer = write_response_head(out, exchange, 200, &json, length);
                body.chunks(1 + lab.below(5000)).for_each(|part| writer.write_data(out, part));
                if writer.write_end(out) {
                    self.then_ends = Some(false);
                }
                self.answered = self.peer.written() + out.len() as u64;
                if fate == Fate::Excess {
                    let unasked = format!("{{\"id\":\"{UNASKED}\"}}");
                    let length = BodyLength::Known(unasked.len() as u64);
                    let mut excess = Vec::new();
                    let mut writer = write_response_head(&mut excess, exchange, 200, &json, length);
                    writer.write_data(&mut excess, unasked.as_bytes());
                    let _closes = writer.write_end(&mut excess);
                    // Behind the answer, or a little later.
                    if lab.hit(500) {
                        out.append(&mut excess);
                    }
                    self.lingers = Some(Lingering { excess, pause: lab.below(8), acts: 1 + lab.below(100) });
                }
            }
        }
    }
}
