//! Sends what is in the outbox, for as long as the shard lives.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use annulus_engine::Shard;

use super::SCHEMA;
use crate::backoff::{Backoff, seed};
use crate::image::outbox::{Noted, Outbox, Reader};
use crate::image::queue::QueueError;
use crate::postgres::{Pool, PoolSettings, Session, Target};
use crate::voice::Voice;

/// Events in one statement at most.
const BATCH_MAX: usize = 500;
/// How often an outbox that was empty is looked at, and so how late the account may be.
const LOOK: Duration = Duration::from_millis(250);
/// How long a statement may take, connecting included. Beyond, it is cancelled and tried again.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How long the connection is kept without events.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// First and longest wait after a failure. Each is a random part of its length.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// One JSON array of events, so that the statement is the same whatever their number. What is there already stays as it is.
const INSERT: &str = "
INSERT INTO annulus_image_events
    (job, revision, event, time, tenant, attempt, lane, bytes_in, width, height, bytes_out, error)
SELECT job, revision, event, to_timestamp(time_ms / 1000.0), tenant, attempt, lane, bytes_in, width, height, bytes_out, error
FROM json_to_recordset($1::json) AS noted (job text, revision bigint, event text, time_ms bigint, tenant text, attempt integer,
    lane text, bytes_in bigint, width integer, height integer, bytes_out bigint, error text)
ON CONFLICT (job, revision, event) DO NOTHING";

/// What was sent. Read from any thread.
#[derive(Debug, Default)]
pub struct Figures {
    /// Events that the database has confirmed.
    pub sent: AtomicU64,
    /// Attempts that failed and were or will be made again.
    pub retries: AtomicU64,
    is_well: AtomicBool,
}

impl Figures {
    /// Whether the last attempt succeeded.
    pub fn is_well(&self) -> bool {
        self.is_well.load(Ordering::Relaxed)
    }
}

/// Sends events to a database, until the queue has ended.
///
/// # Errors
/// A sentence: the database cannot be used at all.
pub async fn send(shard: Shard, outbox: Arc<dyn Outbox>, target: Target, figures: Arc<Figures>) -> Result<(), String> {
    let settings = PoolSettings {
        sessions_max: 1,
        waiting_max: 0,
        answer_max: ANSWER_MAX,
        idle_max: IDLE_MAX,
        schema: Some(&SCHEMA),
    };
    let pool = Pool::new(&shard, &target, settings)?;
    let mut backoff = Backoff::new(RETRY.0, RETRY.1, seed());
    let mut trouble = Voice::default();
    loop {
        let wait = match step(&pool, &*outbox).await {
            Ok(Some(sent)) => {
                figures.sent.fetch_add(sent, Ordering::Relaxed);
                backoff.reset();
                if !figures.is_well.swap(true, Ordering::Relaxed) {
                    crate::say!("image: the account of jobs goes to {target}");
                }
                // A batch that was full is followed at once.
                if sent as usize == BATCH_MAX { Duration::ZERO } else { LOOK }
            }
            Ok(None) => LOOK,
            Err(Stop::Ended) => return Ok(()),
            Err(Stop::Trouble(words)) => {
                figures.retries.fetch_add(1, Ordering::Relaxed);
                figures.is_well.store(false, Ordering::Relaxed);
                if let Some(line) = trouble.line(Instant::now(), &format_args!("the account of jobs waits: {words}")) {
                    crate::warn!("image: {line}");
                }
                backoff.next()
            }
        };
        if !wait.is_zero() {
            shard.sleep(wait).await;
        }
    }
}

enum Stop {
    /// The queue has.
    Ended,
    /// It is to be tried again.
    Trouble(String),
}

/// Sends one batch; `None`: there was nothing to send.
async fn step(pool: &Rc<Pool>, outbox: &dyn Outbox) -> Result<Option<u64>, Stop> {
    let stop = |error| match error {
        QueueError::Gone => Stop::Ended,
        other => Stop::Trouble(other.to_string()),
    };
    let events = outbox.first(Reader::Account, BATCH_MAX).await.map_err(stop)?;
    let Some(last) = events.last().map(|noted| noted.place) else { return Ok(None) };
    let json = text(&events);
    let insert = async |session: &mut Session| session.ask(INSERT, &[Some(&json)], |_| Ok(())).await;
    pool.with(insert).await.map_err(|refusal| Stop::Trouble(refusal.to_string()))?;
    outbox.forget(Reader::Account, last).await.map_err(stop)?;
    Ok(Some(events.len() as u64))
}

/// JSON that PostgreSQL takes: a text there has no zero byte, and one event must not hold up all others.
fn text(events: &[Noted]) -> String {
    let json = serde_json::to_string(events).expect("plain data with text keys");
    json.replace("\\u0000", "\\ufffd")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_json_that_postgresql_takes() {
        let noted = Noted {
            place: crate::image::outbox::Place(7, 0),
            job: "j".to_owned(),
            revision: 3,
            event: crate::image::outbox::Event::Failed.name().to_owned(),
            time_ms: 9,
            tenant: "shop".to_owned(),
            attempt: 1,
            lane: None,
            bytes_in: 5,
            width: Some(2),
            height: None,
            bytes_out: None,
            error: Some("a \"zero\" \0".to_owned()),
        };
        let json = text(&[noted]);
        assert!(json.starts_with(r#"[{"job":"j","revision":3,"event":"failed","time_ms":9,"tenant":"shop""#), "{json}");
        assert!(json.contains(r#""error":"a \"zero\" \ufffd""#) && !json.contains("place"), "{json}");
    }
}
