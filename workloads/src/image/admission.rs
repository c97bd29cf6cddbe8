//! Who is let in: marks of the queue's length, a forecast of the wait, and memory by predicted bytes.

use std::time::Duration;

use super::pipeline::Cost;
use super::queue::Forecast;

/// What the door says to an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Come in; the forecast goes into the order.
    Welcome(Forecast),
    /// Not now: 429 with `Retry-After`, or 503 where `why` is the machine's state and not the queue's length.
    Later {
        /// When it will probably be welcome; whole seconds, at least one.
        retry_after: Duration,
        /// A sentence.
        why: String,
        /// Whether the queue's length is the reason (429), else the machine (503).
        too_many: bool,
    },
    /// Never on this machine: it needs more memory than all of it that may be used. 413.
    Never(String),
}

/// The door.
#[derive(Debug, Default)]
pub struct Gate {
    _private: (),
}

impl Gate {
    /// Before an upload, when nothing is known of it: without its cost.
    pub fn ask(&self, cost: Option<&Cost>) -> Verdict {
        let _ = cost;
        Verdict::Welcome(Forecast::default())
    }
}
