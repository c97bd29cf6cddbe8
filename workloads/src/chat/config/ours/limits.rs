//! `[chat.limits]`.

use super::{MANY, key};
use crate::chat::config::keys::{Key, Set, read_table};
use crate::chat::config::model::{Config, Rate, Rates};
use crate::gateway::config::tree::Value;

/// What `[chat.limits]` says: a rate's two parts may come in any order.
#[derive(Default)]
pub struct LimitsDraft {
    commands: RateDraft,
    publishes: RateDraft,
    handshakes: RateDraft,
    accepts: RateDraft,
}

#[derive(Default)]
struct RateDraft {
    per_second: Option<u32>,
    burst: Option<u32>,
}

/// `[chat.limits]`.
pub const LIMITS: &[Key<LimitsDraft>] = &[
    key(
        "commands_per_second",
        "1000",
        "commands of a connection, sixteen clients in an answer to presence as one more; beyond: error 111, temporary; 0: off",
        Set::Count(0, MANY, |draft, count| draft.commands.per_second = Some(count as u32)),
    ),
    key(
        "commands_burst",
        "twice that",
        "so many at once after a pause",
        Set::Count(1, MANY, |draft, count| draft.commands.burst = Some(count as u32)),
    ),
    key(
        "publishes_per_second",
        "1000",
        "publications of a user; beyond: error 111, temporary; 0: off",
        Set::Count(0, MANY, |draft, count| draft.publishes.per_second = Some(count as u32)),
    ),
    key(
        "publishes_burst",
        "twice that",
        "so many at once after a pause",
        Set::Count(1, MANY, |draft, count| draft.publishes.burst = Some(count as u32)),
    ),
    key(
        "handshakes_per_second",
        "0",
        "new connections from an address; beyond: 429; 0: off, because behind a proxy all have one address",
        Set::Count(0, MANY, |draft, count| draft.handshakes.per_second = Some(count as u32)),
    ),
    key(
        "handshakes_burst",
        "twice that",
        "so many at once after a pause",
        Set::Count(1, MANY, |draft, count| draft.handshakes.burst = Some(count as u32)),
    ),
    key(
        "accepts_per_second",
        "5000",
        "new connections; beyond: 503 with `Retry-After`; 0: off",
        Set::Count(0, MANY, |draft, count| draft.accepts.per_second = Some(count as u32)),
    ),
    key(
        "accepts_burst",
        "20000, or twice what is chosen",
        "so many at once after a pause",
        Set::Count(1, MANY, |draft, count| draft.accepts.burst = Some(count as u32)),
    ),
];

/// Reads it.
pub fn set_limits(chat: &mut Config, value: &Value) -> Result<(), String> {
    let mut draft = LimitsDraft::default();
    read_table(LIMITS, &mut draft, value)?;
    let default = Rates::default();
    chat.rates = Rates {
        commands: draft.commands.finish(default.commands),
        publishes: draft.publishes.finish(default.publishes),
        handshakes: draft.handshakes.finish(default.handshakes),
        accepts: draft.accepts.finish(default.accepts),
    };
    Ok(())
}

impl RateDraft {
    fn finish(self, default: Rate) -> Rate {
        let rate = self.per_second.map_or(default, Rate::of);
        Rate { burst: self.burst.filter(|_| rate.is_on()).unwrap_or(rate.burst), ..rate }
    }
}
