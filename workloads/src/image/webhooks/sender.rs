//! The task that empties the webhooks' outbox: a batch at a time, and again until it is taken or given up.
//!
//! A batch is remembered while it is told again, so that all attempts say the same under the same name; a process that starts
//! anew makes another of what waits. What is told is read again before each attempt: in a fleet another node may have told it
//! while this one was slow.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use annulus_engine::Shard;
use annulus_engine::tls::rustls::ClientConfig;
use serde_json::{Value, json};

use super::WebhookSettings;
use crate::backoff::{Backoff, seed};
use crate::gateway::dns;
use crate::image::api::told;
use crate::image::dispatch::Telling;
use crate::image::job::Tenant;
use crate::image::outbox::{Noted, Outbox, Place, Reader};
use crate::image::queue::{Queue, QueueError};
use crate::outbound::Outbound;
use crate::outbound::webhook::{Outcome, Webhook};
use crate::voice::Voice;

/// Events of one request, at most.
const BATCH_MAX: usize = 50;
/// Bytes of them. A batch ends before it would have more, or has one event.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// How often a job's document is read, at most, while it cannot be: then its end holds up no other one any more.
const READS_MAX: u32 = 5;
/// How often an outbox that was empty is looked at, and so how late an end may be told.
const LOOK: Duration = Duration::from_millis(250);
/// While an attempt is waited for: so often that in a fleet this node stays the one that tells.
const LOOK_WAITING: Duration = Duration::from_secs(5);
/// First and longest wait after a failure. Each is a random part of its length.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// How long a name's address is trusted.
const NAME_TTL_MAX: Duration = Duration::from_secs(60);

/// What was told. Read from any thread.
#[derive(Debug, Default)]
pub struct Figures {
    /// Events that were taken.
    pub taken: AtomicU64,
    /// Events that became dead letters.
    pub given_up: AtomicU64,
    /// Requests, each attempt counted.
    pub requests: AtomicU64,
    /// Those of them that were not taken.
    pub failures: AtomicU64,
}

/// What one request tells.
struct Batch {
    first: Place,
    last: Place,
    count: u64,
    delivery: String,
    body: String,
    attempts: u32,
}

/// An event whose job's document could not be read, and how often.
struct Unread {
    place: Place,
    failures: u32,
}

/// What is under way with the outbox' first events.
#[derive(Default)]
struct Front {
    batch: Option<Batch>,
    /// The first of them, if it is one.
    unread: Option<Unread>,
}

/// What an attempt has come to.
enum Step {
    /// Nothing waits.
    Idle,
    /// It was taken.
    Taken,
    /// It was not, and it waits or is a dead letter.
    NotTaken(String),
}

/// See the module's description.
pub struct Sender {
    shard: Shard,
    hook: Webhook,
    outbox: Arc<dyn Outbox>,
    queue: Arc<dyn Queue>,
    attempts_max: u32,
    figures: Arc<Figures>,
}

impl Sender {
    /// One on a shard, for what the desk's queue has; servers are verified by what is `trusted`.
    pub fn new(
        shard: &Shard,
        queue: &Arc<dyn Queue>,
        telling: &Telling,
        settings: &WebhookSettings,
        trusted: &Arc<ClientConfig>,
    ) -> Sender {
        let resolver = dns::system_resolver(shard, &[], NAME_TTL_MAX);
        let outbound = Outbound::within(shard, resolver, trusted, settings.reach.clone());
        let keys: Vec<&str> = settings.keys.iter().map(String::as_str).collect();
        let hook = Webhook::new(&outbound, settings.endpoint.clone(), &keys, Vec::new(), settings.timeout);
        let Telling { outbox, figures } = telling.clone();
        Sender {
            shard: shard.clone(),
            hook,
            outbox,
            queue: queue.clone(),
            attempts_max: settings.attempts_max,
            figures,
        }
    }

    /// Tells ends of jobs, until the queue has ended.
    pub async fn run(self) {
        let mut front = Front::default();
        let mut backoff = Backoff::new(RETRY.0, RETRY.1, seed());
        let mut trouble = Voice::default();
        let mut say = |words: &dyn Display| {
            if let Some(line) = trouble.line(Instant::now(), words) {
                crate::warn!("image: webhooks: {line}");
            }
        };
        loop {
            match self.step(&mut front).await {
                Ok(Step::Taken) => backoff.reset(),
                Ok(Step::Idle) => self.shard.sleep(LOOK).await,
                Ok(Step::NotTaken(says)) => {
                    say(&says);
                    // A server that refuses everything is asked no more often than one that is away.
                    self.rest(backoff.next()).await;
                }
                Err(QueueError::Gone) => return,
                Err(error) => {
                    say(&format_args!("what is to be told cannot be read or noted: {error}"));
                    self.rest(backoff.next()).await;
                }
            }
        }
    }

    /// One attempt.
    async fn step(&self, front: &mut Front) -> Result<Step, QueueError> {
        let Front { batch, unread } = front;
        let events = self.outbox.first(Reader::Webhooks, BATCH_MAX).await?;
        let Some(first) = events.first() else {
            *batch = None;
            return Ok(Step::Idle);
        };
        let trying = match batch {
            Some(trying) if trying.first == first.place => trying,
            _ => match self.batch_of(&events).await {
                Ok(made) => batch.insert(made),
                Err(QueueError::Io(why)) => return self.not_read(unread, first, &why).await,
                Err(other) => return Err(other),
            },
        };
        trying.attempts += 1;
        self.figures.requests.fetch_add(1, Ordering::Relaxed);
        let outcome = self.hook.tell(&trying.delivery, trying.body.as_bytes()).await;
        if outcome != Outcome::Taken {
            self.figures.failures.fetch_add(1, Ordering::Relaxed);
        }
        let why = match outcome {
            Outcome::Taken => {
                self.outbox.forget(Reader::Webhooks, trying.last).await?;
                self.figures.taken.fetch_add(trying.count, Ordering::Relaxed);
                *batch = None;
                return Ok(Step::Taken);
            }
            Outcome::Later(why) if trying.attempts < self.attempts_max => {
                return Ok(Step::NotTaken(format!("{why}. It is told again (delivery {})", trying.delivery)));
            }
            Outcome::Later(why) => format!("{why}; it was told {} times (attempts_max)", trying.attempts),
            Outcome::Refused(why) => why,
        };
        self.outbox.give_up(trying.last, &why).await?;
        self.figures.given_up.fetch_add(trying.count, Ordering::Relaxed);
        let says = format!("{} ends of jobs are dead letters (delivery {}): {why}", trying.count, trying.delivery);
        *batch = None;
        Ok(Step::NotTaken(says))
    }

    /// The first event's document could not be read. The queue was read a moment ago, so it may be that one alone, and for good.
    async fn not_read(&self, unread: &mut Option<Unread>, event: &Noted, why: &str) -> Result<Step, QueueError> {
        let before = unread.as_ref().filter(|unread| unread.place == event.place);
        let failures = before.map_or(0, |unread| unread.failures) + 1;
        let name = name_of(event);
        if failures < READS_MAX {
            *unread = Some(Unread { place: event.place, failures });
            return Ok(Step::NotTaken(format!("the document of {name} cannot be read: {why}. It is read again")));
        }
        let why = format!("its document cannot be read: {why}");
        self.outbox.give_up(event.place, &why).await?;
        self.figures.given_up.fetch_add(1, Ordering::Relaxed);
        *unread = None;
        Ok(Step::NotTaken(format!("an end of a job is a dead letter ({name}): {why}")))
    }

    /// The first of these events, as many as a request takes and can be read, with their jobs as they are now.
    async fn batch_of(&self, events: &[Noted]) -> Result<Batch, QueueError> {
        let (first, mut last, mut count, mut body) = (events[0].place, events[0].place, 0, String::new());
        for noted in events {
            let event = match self.event(noted).await {
                Ok(event) => event.to_string(),
                // Those before it do not wait for it.
                Err(_said_when_it_is_the_first) if count > 0 => break,
                Err(error) => return Err(error),
            };
            if count > 0 && body.len() + event.len() > BATCH_BYTES_MAX {
                break;
            }
            if count > 0 {
                body.push(',');
            }
            body += &event;
            (last, count) = (noted.place, count + 1);
        }
        let body = format!("{{\"events\":[{body}]}}");
        Ok(Batch { first, last, count, delivery: format!("{}:{count}", name_of(&events[0])), body, attempts: 0 })
    }

    async fn event(&self, noted: &Noted) -> Result<Value, QueueError> {
        let document = match noted.job.parse() {
            Ok(id) => self.queue.job(&Tenant::named(&noted.tenant), id).await?,
            Err(_not_an_id) => None,
        };
        Ok(shown(noted, document.as_ref().map(told)))
    }

    /// Waits before the next attempt.
    async fn rest(&self, wait: Duration) {
        let until = self.shard.now() + wait;
        loop {
            let left = until.saturating_sub(self.shard.now());
            self.shard.sleep(left.min(LOOK_WAITING)).await;
            if left <= LOOK_WAITING {
                return;
            }
            // What is wrong with the queue is said by the next attempt.
            let _still_the_one = self.outbox.first(Reader::Webhooks, 1).await;
        }
    }
}

/// Names an event for good.
fn name_of(noted: &Noted) -> String {
    format!("{}.{}", noted.job, noted.revision)
}

/// An event as it is told, with its job's document, if that is still there.
pub(super) fn shown(noted: &Noted, document: Option<Value>) -> Value {
    json!({
        "id": name_of(noted),
        "type": noted.event,
        "time_ms": noted.time_ms,
        "tenant": noted.tenant,
        "job": noted.job,
        "document": document,
    })
}
