//! What other processes' consoles tell: each is asked once a second for what is new, and put on the board beside ours.

use std::sync::Arc;
use std::time::Duration;

use annulus_engine::Shard;
use serde_json::Value;

use super::figures::PERIOD;
use super::{Console, lock};
use crate::gateway::fetching::system_resolver;
use crate::outbound::{self, Outbound, trusted};

/// What an answer may have: five minutes of the largest machine's shards.
const BYTES_MAX: usize = 4 << 20;
/// How long it may take.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// No address is believed for longer.
const NAME_TTL_MAX: Duration = Duration::from_secs(30);

/// Begins to ask the others, if there are any.
///
/// # Errors
/// A sentence: they could not be reached in any case.
pub(super) fn follow(shard: &Shard, console: &Arc<Console>) -> Result<(), String> {
    if console.settings.others.is_empty() {
        return Ok(());
    }
    let outbound = Outbound::new(shard, system_resolver(shard, &[], NAME_TTL_MAX), &trusted()?);
    for (index, at) in console.settings.others.iter().enumerate() {
        let (shard, console, outbound) = (shard.clone(), console.clone(), outbound.clone());
        let other = Other { process: index + 1, at: at.clone(), began_ms: 0, newest: 0 };
        drop(shard.clone().spawn_background(other.ask(shard, console, outbound)));
    }
    Ok(())
}

/// Another process, and what is known of it already.
struct Other {
    /// Its place on the board.
    process: usize,
    /// Where its console is.
    at: String,
    began_ms: u64,
    newest: u64,
}

impl Other {
    async fn ask(mut self, shard: Shard, console: Arc<Console>, outbound: std::rc::Rc<Outbound>) {
        loop {
            let url = format!("http://{}/figures?own=yes&after={}", self.at, self.newest);
            let answered = outbound::get(&outbound, &url, BYTES_MAX, ANSWER_MAX).await;
            match answered.and_then(|document| self.read(&document)) {
                Ok(told) => self.put(&console, &told),
                Err(why) => lock(&console.board).miss(self.process, why),
            }
            shard.sleep(PERIOD).await;
        }
    }

    fn read(&self, document: &[u8]) -> Result<Told, String> {
        let wrong = || format!("http://{}/figures is no console's of this release", self.at);
        let mut document: Value = serde_json::from_slice(document).map_err(|_| wrong())?;
        let number = |name: &str| document[name].as_u64().ok_or_else(wrong);
        let (began_ms, newest) = (number("began_ms")?, number("newest")?);
        let process = document["processes"].get_mut(0).map(Value::take).ok_or_else(wrong)?;
        let head = process.get("head").filter(|head| head.is_object()).ok_or_else(wrong)?.clone();
        let points = process.get("points").and_then(Value::as_array).ok_or_else(wrong)?.clone();
        Ok(Told { began_ms, newest, head, points })
    }

    fn put(&mut self, console: &Console, told: &Told) {
        let mut board = lock(&console.board);
        if self.began_ms != told.began_ms {
            board.forget(self.process);
        }
        // What began anew numbers its points anew: it is asked for all of them.
        if self.began_ms != told.began_ms && self.newest > 0 {
            (self.began_ms, self.newest) = (told.began_ms, 0);
            return board.put(self.process, &told.head, &[]);
        }
        (self.began_ms, self.newest) = (told.began_ms, told.newest);
        board.put(self.process, &told.head, &told.points);
    }
}

/// What another console told.
struct Told {
    began_ms: u64,
    newest: u64,
    head: Value,
    points: Vec<Value>,
}
