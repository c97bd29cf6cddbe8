//! What other processes' consoles tell: each is asked once a second for what is new, and put on the board beside ours.

use std::sync::Arc;
use std::time::Duration;

use annulus_engine::Shard;
use serde_json::Value;

use super::figures::{PERIOD, POINTS_BYTES_MAX};
use super::{Console, lock};
use crate::gateway::fetching::system_resolver;
use crate::outbound::{self, Outbound, trusted};

/// What an answer may have: five minutes of the largest machine's shards.
const BYTES_MAX: usize = 4 << 20;
const _: () = assert!(POINTS_BYTES_MAX + (512 << 10) < BYTES_MAX, "what a console keeps can be told to another");
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
            match answered.and_then(|document| Told::read(&document).ok_or_else(|| self.is_strange())) {
                Ok(told) => self.put(&console, &told),
                Err(why) => lock(&console.board).miss(self.process, why),
            }
            shard.sleep(PERIOD).await;
        }
    }

    fn is_strange(&self) -> String {
        format!("http://{}/figures is no console's of this release", self.at)
    }

    fn put(&mut self, console: &Console, told: &Told) {
        let mut board = lock(&console.board);
        let began_anew = self.began_ms != told.began_ms;
        if began_anew {
            board.forget(self.process);
        }
        // What began anew numbers its points anew: it was asked for too few, and is asked again for all.
        let is_whole = !began_anew || self.newest == 0;
        (self.began_ms, self.newest) = (told.began_ms, if is_whole { told.newest } else { 0 });
        board.put(self.process, &told.head, if is_whole { &told.points } else { &[] });
    }
}

/// What another console told.
struct Told {
    began_ms: u64,
    newest: u64,
    head: Value,
    points: Vec<Value>,
}

impl Told {
    /// Reads what another console answered; `None`: it is nothing that a console answers.
    fn read(document: &[u8]) -> Option<Told> {
        let mut document: Value = serde_json::from_slice(document).ok()?;
        let number = |name: &str| document.get(name)?.as_u64();
        let (began_ms, newest) = (number("began_ms")?, number("newest")?);
        let process = document.get_mut("processes")?.get_mut(0)?.as_object_mut()?;
        let head = process.remove("head").filter(Value::is_object)?;
        let Value::Array(points) = process.remove("points")? else { return None };
        Some(Told { began_ms, newest, head, points })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Settings;
    use super::*;

    fn document(began_ms: u64, newest: u64, points: &[u64]) -> Vec<u8> {
        let process = json!({ "at": "", "trouble": null, "head": { "name": "annulus chat" }, "points": points });
        json!({ "began_ms": began_ms, "newest": newest, "processes": [process] }).to_string().into_bytes()
    }

    #[test]
    fn what_no_console_answers_is_told_from_what_one_does() {
        let whole = document(1, 2, &[3]);
        assert!(Told::read(&whole).is_some());
        for len in 0..whole.len() {
            assert!(Told::read(&whole[..len]).is_none(), "{len}");
        }
        for other in [
            "[]",
            "7",
            r#"{"began_ms":1,"newest":2}"#,
            r#"{"began_ms":1,"newest":2,"processes":[]}"#,
            r#"{"began_ms":1,"newest":2,"processes":[[]]}"#,
            r#"{"began_ms":1,"newest":2,"processes":[{"head":null,"points":[]}]}"#,
            r#"{"began_ms":1,"newest":2,"processes":[{"head":{},"points":{}}]}"#,
            r#"{"began_ms":-1,"newest":2,"processes":[{"head":{},"points":[]}]}"#,
        ] {
            assert!(Told::read(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn one_that_began_anew_is_asked_for_all_it_has() {
        let settings = Settings { others: vec!["localhost:9901".to_owned()], ..Settings::default() };
        let console = Console::new(settings);
        let mut other = Other { process: 1, at: "localhost:9901".to_owned(), began_ms: 0, newest: 0 };
        let mut hear = |began_ms, newest, points: &[u64]| {
            other.put(&console, &Told::read(&document(began_ms, newest, points)).unwrap());
            let known: Value = serde_json::from_str(&lock(&console.board).document(0, 0, 0, false)).unwrap();
            (other.newest, known["processes"][1]["points"].clone())
        };
        assert_eq!(hear(1, 7, &[6, 7]), (7, json!([6, 7])));
        assert_eq!(hear(1, 8, &[8]), (8, json!([6, 7, 8])));
        // It was asked for what came after 8, and has only begun to count.
        assert_eq!(hear(2, 3, &[]), (0, json!([])));
        assert_eq!(hear(2, 4, &[1, 2, 3, 4]), (4, json!([1, 2, 3, 4])));
    }
}
