//! The last things that happened, and a hash of everything that happened.

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;

use super::random::mix;

/// Events kept for a report.
const KEPT: usize = 400;

#[derive(Clone, Copy)]
struct Event {
    at: Duration,
    what: &'static str,
    numbers: [i64; 3],
}

/// See the module's description.
pub(super) struct Trace {
    events: VecDeque<Event>,
    count: u64,
    hash: u64,
}

impl Trace {
    pub(super) fn new() -> Trace {
        Trace { events: VecDeque::new(), count: 0, hash: 0 }
    }

    pub(super) fn note(&mut self, at: Duration, what: &'static str, numbers: [i64; 3]) {
        self.count += 1;
        let words = [at.as_nanos() as u64, numbers[0] as u64, numbers[1] as u64, numbers[2] as u64];
        let text = what.bytes().fold(0u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte as u64));
        self.hash = words.into_iter().fold(self.hash ^ text, |hash, word| mix(hash.rotate_left(5) ^ word));
        if self.events.len() == KEPT {
            self.events.pop_front();
        }
        self.events.push_back(Event { at, what, numbers });
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("the last {} of {} events:\n", self.events.len(), self.count);
        for Event { at, what, numbers: [a, b, c] } in &self.events {
            writeln!(text, "{:>14.6} s  {what:<22} {a:>6} {b:>8} {c:>8}", at.as_secs_f64())
                .expect("writing to a string does not fail");
        }
        text
    }
}
