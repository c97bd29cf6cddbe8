//! Peers that abuse HTTP: clients that attack the gateway from the front, and a service that attacks it from behind.
//!
//! ```text
//!   core 1: attacker ──► core 0: gateway ──► core 1: hostile service
//! ```
//!
//! An attack is a beginning and a unit that is repeated at a fixed rate: what is measured is what a unit costs the
//! gateway and everybody else, not how fast the attacker's own core writes. Frames are written by hand, since no
//! honest encoder writes them.

pub mod client;
mod frames;
pub mod hostile;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

/// How often an attacker wakes up.
const TICK: Duration = Duration::from_millis(1);
/// Units that a tick may catch up on: an attacker that was late does not burst.
const CATCH_UP: u64 = 4;
/// Bytes that wait for a gateway that does not read. Beyond, no units are added.
const UNSENT_BYTES_MAX: usize = 64 << 10;

/// What an attacker did, and what was done to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Connections, the first ones included.
    pub connections: u64,
    /// Units sent on all of them.
    pub units: u64,
    /// Connections that the gateway ended, by how.
    pub ended: BTreeMap<String, u64>,
    /// The fewest units on a connection that the gateway ended.
    pub endured: Option<u64>,
    /// RST_STREAM frames received.
    pub resets: u64,
}

impl Ledger {
    /// The gateway has ended a connection after so many units.
    fn end(&mut self, how: String, units: u64) {
        *self.ended.entry(how).or_default() += 1;
        self.endured = Some(self.endured.map_or(units, |endured| endured.min(units)));
    }

    /// Connections that the gateway ended.
    pub fn ends(&self) -> u64 {
        self.ended.values().sum()
    }

    /// In words.
    pub fn text(&self) -> String {
        let endings: Vec<String> = self.ended.iter().map(|(how, count)| format!("{count} x {how}")).collect();
        let after = self.endured.map_or_else(String::new, |units| format!(" after {units} units or more"));
        let endings = if endings.is_empty() { "endured".to_owned() } else { endings.join(", ") + &after };
        let resets = if self.resets > 0 { format!(", {} streams reset", self.resets) } else { String::new() };
        format!("of {} connections with {} units: {endings}{resets}", self.connections, self.units)
    }
}

/// Units that are due: a rate, less what a late tick must not catch up on.
struct Pace {
    rate: f64,
    sent: u64,
}

impl Pace {
    fn new(rate: f64) -> Pace {
        Pace { rate, sent: 0 }
    }

    /// Units to send now, `elapsed` after the start.
    fn due(&mut self, elapsed: Duration) -> u64 {
        let wanted = (elapsed.as_secs_f64() * self.rate) as u64;
        let most = ((TICK.as_secs_f64() * self.rate) as u64).max(1) * CATCH_UP;
        let due = (wanted - self.sent.min(wanted)).min(most);
        self.sent = wanted.max(self.sent);
        due
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
