//! Attacks by bytes: connections that begin alike, and a unit that is added to one after the other at a fixed rate.
//!
//! What is measured is what a unit costs the server and everybody else, not how fast the attacker's own core writes. Who
//! is sent away comes back, 20 times a second at most.

use super::frames::{Frame, HEADERS, RST_STREAM};
use super::wire::Wire;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often an attacker wakes up.
pub const TICK: Duration = Duration::from_millis(1);
/// Units that a tick may catch up on: an attacker that was late does not burst.
const CATCH_UP: u64 = 4;
/// Bytes that wait for a server that does not read. Beyond, no units are added.
pub const UNSENT_BYTES_MAX: usize = 64 << 10;
/// Connections per second at first: it is what they hold that is measured, not what accepting them costs.
const CONNECTS_RATE: f64 = 1000.0;
/// Connections per second that replace those which the server ended.
const RECONNECTS_RATE: f64 = 20.0;
/// Connections that are read from in one tick.
const VISITS: usize = 16;
/// The longest patience for the server's last words.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What an attacker does: the number of a connection, or of a unit on it, and where its bytes go.
type Bytes = Box<dyn Fn(u64, &mut Vec<u8>) + Send>;

/// What is spoken, so that a server's last word is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// A status.
    Http1,
    /// GOAWAY.
    Http2,
    /// A close frame, or a status before that.
    WebSocket,
}

/// A siege.
pub struct Plan {
    /// Connections at a time.
    pub connections: usize,
    /// Units per second over all of them.
    pub rate: f64,
    /// What is spoken.
    pub speech: Speech,
    /// Whether what the server says is read at all.
    pub reads: bool,
    /// What the connection with this number begins with.
    pub begin: Bytes,
    /// The unit with this number on its connection.
    pub unit: Bytes,
}

/// An attack under way, in a thread on its starter's core.
pub struct Attacker {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Ledger>,
}

impl Attacker {
    /// Starts it.
    pub fn start(plan: Plan, address: SocketAddr) -> Attacker {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut siege = Siege { plan, address, clients: Vec::new(), ledger: Ledger::default() };
            siege.run(&stopped);
            siege.ledger
        });
        Attacker { stop, thread }
    }

    /// Ends it.
    ///
    /// # Errors
    /// When its thread has panicked.
    pub fn end(self) -> Result<Ledger, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the attacker's thread has panicked".to_owned())
    }
}

/// What an attacker did, and what was done to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Connections, the first ones included.
    pub connections: u64,
    /// Units sent on all of them.
    pub units: u64,
    /// Connections that the server ended, by how.
    pub ended: BTreeMap<String, u64>,
    /// The fewest units on a connection that the server ended.
    pub endured: Option<u64>,
    /// RST_STREAM frames received.
    pub resets: u64,
    /// Heads of answers received, where HTTP/2 is spoken.
    pub answered: u64,
}

impl Ledger {
    /// The server has ended a connection after so many units.
    pub fn end(&mut self, how: String, units: u64) {
        *self.ended.entry(how).or_default() += 1;
        self.endured = Some(self.endured.map_or(units, |endured| endured.min(units)));
    }

    /// Connections that the server ended.
    pub fn ends(&self) -> u64 {
        self.ended.values().sum()
    }

    /// In words.
    pub fn text(&self) -> String {
        format!("of {} connections with {} units: {}", self.connections, self.units, self.answers())
    }

    /// How the server answered.
    pub fn answers(&self) -> String {
        let endings: Vec<String> = self.ended.iter().map(|(how, count)| format!("{count} x {how}")).collect();
        let after = self.endured.map_or_else(String::new, |units| format!(" after {units} units or more"));
        let endings = if endings.is_empty() { "endured".to_owned() } else { endings.join(", ") + &after };
        let resets = if self.resets > 0 { format!(", {} streams reset", self.resets) } else { String::new() };
        let answered = if self.answered > 0 { format!(", {} streams answered", self.answered) } else { String::new() };
        format!("{endings}{resets}{answered}")
    }
}

/// Units that are due: a rate, less what a late tick must not catch up on.
pub struct Pace {
    rate: f64,
    sent: u64,
}

impl Pace {
    /// So many per second.
    pub fn new(rate: f64) -> Pace {
        Pace { rate, sent: 0 }
    }

    /// Units to send now, `elapsed` after the start.
    pub fn due(&mut self, elapsed: Duration) -> u64 {
        let wanted = (elapsed.as_secs_f64() * self.rate) as u64;
        let most = ((TICK.as_secs_f64() * self.rate) as u64).max(1) * CATCH_UP;
        let due = (wanted - self.sent.min(wanted)).min(most);
        self.sent = wanted.max(self.sent);
        due
    }
}

struct Client {
    wire: Wire,
    units: u64,
    /// The code of a GOAWAY that arrived.
    farewell: Option<&'static str>,
    /// Since when nothing can be sent any more.
    broken: Option<Instant>,
}

struct Siege {
    plan: Plan,
    address: SocketAddr,
    clients: Vec<Client>,
    ledger: Ledger,
}

impl Siege {
    fn run(&mut self, stopped: &AtomicBool) {
        let began = Instant::now();
        let mut pace = Pace::new(self.plan.rate);
        let (mut first, mut again) = (Pace::new(CONNECTS_RATE), Pace::new(RECONNECTS_RATE));
        let mut turn = 0;
        while !stopped.load(Ordering::Relaxed) {
            std::thread::sleep(TICK);
            let (elapsed, connections) = (began.elapsed(), self.plan.connections as u64);
            let missing = connections.saturating_sub(self.ledger.connections);
            let (first, again) = (first.due(elapsed).min(missing), again.due(elapsed));
            (0..first.max(again)).for_each(|_| self.connect());
            for _ in 0..pace.due(elapsed) {
                turn += 1;
                self.add(turn);
            }
            self.move_bytes(elapsed);
        }
    }

    fn connect(&mut self) {
        if self.clients.len() >= self.plan.connections {
            return;
        }
        if let Ok(mut wire) = Wire::connect(self.address) {
            (self.plan.begin)(self.ledger.connections, &mut wire.unsent);
            self.clients.push(Client { wire, units: 0, farewell: None, broken: None });
            self.ledger.connections += 1;
        }
    }

    /// Adds a unit to a connection.
    fn add(&mut self, turn: usize) {
        let count = self.clients.len().max(1);
        let Some(client) = self.clients.get_mut(turn % count) else { return };
        if client.broken.is_none() && client.wire.unsent.len() < UNSENT_BYTES_MAX {
            (self.plan.unit)(client.units, &mut client.wire.unsent);
            client.units += 1;
            self.ledger.units += 1;
        }
    }

    /// Sends and receives; where connections are many, on some of them.
    fn move_bytes(&mut self, elapsed: Duration) {
        let Siege { plan, clients, ledger, .. } = self;
        let share = clients.len().div_ceil(VISITS).max(1);
        let (turn, mut place) = (elapsed.as_millis() as usize % share, 0);
        clients.retain_mut(|client| {
            place += 1;
            if place % share != turn {
                return true;
            }
            if !client.wire.flush() {
                client.broken.get_or_insert_with(Instant::now);
            }
            let open = !plan.reads || client.wire.receive(plan.speech == Speech::Http2);
            while let Some(frame) = client.wire.frames.next() {
                ledger.resets += u64::from(frame.kind == RST_STREAM);
                ledger.answered += u64::from(frame.kind == HEADERS);
                client.farewell = client.farewell.or_else(|| Frame::goaway(&frame));
            }
            let over = !open || client.broken.is_some_and(|since| since.elapsed() > LAST_WORDS);
            if over {
                ledger.end(client.how(plan.speech), client.units);
            }
            !over
        });
    }
}

impl Client {
    /// How the server ended it.
    fn how(&self, speech: Speech) -> String {
        let code = self.wire.close_code().filter(|_| speech == Speech::WebSocket);
        match (self.farewell, code, self.wire.status()) {
            (Some(name), ..) => format!("GOAWAY {name}"),
            (None, Some(code), _) => format!("close {code}"),
            (None, None, Some(status)) => format!("status {status}"),
            (None, None, None) => "closed".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_keeps_its_rate_and_does_not_burst() {
        let mut pace = Pace::new(5000.0);
        let due: Vec<u64> = (1..=4).map(|tick| pace.due(Duration::from_millis(tick))).collect();
        assert_eq!(due, [5, 5, 5, 5]);
        assert_eq!(pace.due(Duration::from_millis(104)), 20, "what a late tick missed is not made up for");
        assert_eq!(pace.due(Duration::from_millis(105)), 5);
        let mut slow = Pace::new(100.0);
        assert_eq!((1..=20).map(|tick| slow.due(Duration::from_millis(tick))).sum::<u64>(), 2);
    }

    #[test]
    fn a_ledger_tells_who_was_ended_and_how_soon() {
        let mut ledger = Ledger { connections: 3, units: 500, ..Ledger::default() };
        assert_eq!(ledger.text(), "of 3 connections with 500 units: endured");
        ledger.end("GOAWAY ENHANCE_YOUR_CALM".to_owned(), 300);
        ledger.end("GOAWAY ENHANCE_YOUR_CALM".to_owned(), 200);
        ledger.resets = 7;
        let text =
            "of 3 connections with 500 units: 2 x GOAWAY ENHANCE_YOUR_CALM after 200 units or more, 7 streams reset";
        assert_eq!((ledger.ends(), ledger.text().as_str()), (2, text));
    }
}
