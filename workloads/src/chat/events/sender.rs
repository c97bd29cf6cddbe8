//! The task that empties a shard's queue of events: a batch at a time, by a [webhook](crate::outbound::webhook), and again until
//! it is taken. A delivery's name is NODE:SHARD:NUMBER of the batch's first event.
//!
//! One batch is under way at a time, so that the backend hears of a shard's events in their order. While one is told again the
//! others wait, within the queue's limits.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use annulus_engine::Shard;
use annulus_engine::metrics::{Counter, Gauge, Histogram, Unit};

use super::queue::WAITING_BYTES_MAX;
use super::{Batch, Event, Full, Origin, Queue};
use crate::backoff::{self, Backoff};
use crate::chat::config::Secret;
use crate::chat::config::events::Events;
use crate::outbound::webhook::{Outcome, Webhook};
use crate::outbound::{Endpoint, Outbound};
use crate::voice::Voice;

/// The pause after the first failure is a random part of this. The part of each one after that is of twice as much,
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// and of this at most: chance keeps a fleet from coming back in one moment.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The longest pause at the end, when there is no time for longer ones.
const PAUSE_AT_END_MAX: Duration = Duration::from_millis(250);

struct Meters {
    taken: Arc<Counter>,
    dead: Arc<Counter>,
    dropped: Arc<Counter>,
    requests: Arc<Counter>,
    failures: Arc<Counter>,
    waiting: Arc<Gauge>,
    latency: Arc<Histogram>,
}

impl Meters {
    fn new(shard: &Shard) -> Meters {
        let metrics = shard.metrics();
        let ended = |outcome: &str| {
            let help = "Events for the backend, by what has become of them.";
            metrics.counter_with("annulus_chat_events_total", help, &[("outcome", outcome)])
        };
        let counter = |name, help| metrics.counter(name, help);
        Meters {
            taken: ended("taken"),
            dead: ended("dead_letter"),
            dropped: ended("dropped"),
            requests: counter("annulus_chat_event_requests_total", "Requests with events, each attempt counted."),
            failures: counter("annulus_chat_event_requests_failed_total", "Those of them that were not taken."),
            waiting: metrics.gauge("annulus_chat_events_waiting", "Events that the backend has not taken yet."),
            latency: metrics.histogram(
                "annulus_chat_event_request_seconds",
                "From a request with events to the end of its answer, or of its time.",
                Unit::Micros,
            ),
        }
    }
}

/// What is said, each subject for itself: that a batch is told again must not keep back that another one is lost.
#[derive(Default)]
struct Voices {
    full: Voice,
    again: Voice,
    dead: Voice,
}

/// See the module's description.
pub struct Sender {
    shard: Shard,
    hook: Webhook,
    settings: Events,
    origin: Origin,
    queue: RefCell<Queue>,
    /// The last events come, and there is little time.
    is_ending: Cell<bool>,
    /// Of the task, while it waits for something that changes here.
    waker: Cell<Option<Waker>>,
    meters: Meters,
    voices: RefCell<Voices>,
}

impl Sender {
    /// Starts on a shard, for a node of that name.
    ///
    /// # Errors
    /// A sentence: the URL cannot be read.
    pub fn start(
        outbound: &Rc<Outbound>,
        settings: &Events,
        secret: &Secret,
        (node, name): (String, String),
    ) -> Result<Rc<Sender>, String> {
        let shard = outbound.shard();
        let endpoint = Endpoint::read(&settings.endpoint).map_err(|error| format!("chat.events.endpoint: {error}"))?;
        let (count_max, bytes_max) = (settings.waiting_max.div_ceil(shard.count()), WAITING_BYTES_MAX / shard.count());
        let chosen = settings.static_headers.iter();
        let fields = chosen.map(|(name, value)| (name.clone(), value.reveal().to_owned())).collect();
        let timeout = Duration::from_millis(settings.timeout_ms);
        let sender = Rc::new(Sender {
            shard: shard.clone(),
            hook: Webhook::new(outbound, endpoint, &[secret.reveal()], fields, timeout),
            settings: settings.clone(),
            origin: Origin { node, name, shard: shard.index() },
            queue: RefCell::new(Queue::new(count_max, bytes_max)),
            is_ending: Cell::new(false),
            waker: Cell::default(),
            meters: Meters::new(shard),
            voices: RefCell::default(),
        });
        // In the background: clients come first.
        drop(shard.spawn_background(sender.clone().run()));
        Ok(sender)
    }

    /// Puts an event into the queue, if there is room for it.
    pub fn push(&self, event: Event) {
        let pushed = self.queue.borrow_mut().push(event);
        if let Err(Full) = pushed {
            self.meters.dropped.add(1);
            return self.voices.borrow_mut().full.say(&format_args!(
                "events: {} does not take them as fast as they come, and as many as may wait already: newer ones are dropped. \
                 Fix: answer sooner, take more at once (chat.events.batch_max), let more wait (chat.events.waiting_max), or ask \
                 for less (chat.events.types, chat.events.namespaces)",
                self.hook.endpoint()
            ));
        }
        self.show();
        self.wake();
    }

    /// Tells what waits, and what still comes, without pauses that there is no time for.
    pub fn hurry(&self) {
        self.is_ending.set(true);
        self.wake();
    }

    /// Whether the backend has been told everything, or will not be.
    pub fn is_done(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    /// The end: what still waits is given up.
    pub fn give_up(&self) {
        let waiting = self.queue.borrow().len();
        let Some(batch) = self.queue.borrow().batch(&self.origin, 1) else { return };
        self.meters.dead.add(waiting as u64);
        crate::warn!(
            "chat: events: {waiting} from number {} of shard {} on are given up: {} had no time for them at the end",
            batch.first,
            self.origin.shard,
            self.hook.endpoint()
        );
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn show(&self) {
        self.meters.waiting.set(self.queue.borrow().len() as u64);
    }

    async fn run(self: Rc<Self>) {
        let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_MAX, backoff::seed());
        loop {
            self.until(|| !self.queue.borrow().is_empty()).await;
            // More may come, and go along.
            let is_full = || self.is_ending.get() || self.queue.borrow().len() >= self.settings.batch_max;
            self.pause(Duration::from_millis(self.settings.batch_wait_ms), is_full).await;
            let batch = self.queue.borrow().batch(&self.origin, self.settings.batch_max);
            let Some(batch) = batch else { continue };
            let is_taken = self.deliver(&batch, &mut backoff).await;
            self.queue.borrow_mut().forget(batch.count);
            self.show();
            if !is_taken {
                // A backend that refuses everything is asked no more often than one that is away.
                self.rest(&mut backoff).await;
            }
        }
    }

    /// Waits until something here is so. The task does one thing at a time, so it has one waker.
    async fn until(&self, is: impl Fn() -> bool) {
        poll_fn(|cx| {
            if is() {
                return Poll::Ready(());
            }
            self.waker.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Waits for so long, or until something here is so.
    async fn pause(&self, most: Duration, is: impl Fn() -> bool) {
        // Either end is as good as the other.
        let _elapsed = self.shard.timeout(most, self.until(is)).await;
    }

    /// Tells of a batch until the backend has it, or there is no hope. Whether it has it.
    async fn deliver(&self, batch: &Batch, backoff: &mut Backoff) -> bool {
        let Batch { first, last, count, body } = batch;
        let delivery = format!("{}:{}:{first}", self.origin.node, self.origin.shard);
        let give_up_after = Duration::from_millis(self.settings.give_up_after_ms);
        let patience = self.shard.now() + give_up_after;
        let why = loop {
            match self.attempt(&delivery, body).await {
                Outcome::Taken => {
                    backoff.reset();
                    self.meters.taken.add(*count as u64);
                    return true;
                }
                Outcome::Refused(why) => break why,
                Outcome::Later(why) if self.shard.now() >= patience => {
                    break format!("{why}; they have been told for {give_up_after:?} (chat.events.give_up_after)");
                }
                Outcome::Later(why) => {
                    self.voices
                        .borrow_mut()
                        .again
                        .say(&format_args!("events: {why}. They are told again (delivery {delivery})"));
                    self.rest(backoff).await;
                }
            }
        };
        self.meters.dead.add(*count as u64);
        self.voices.borrow_mut().dead.say(&format_args!(
            "events: {count}, number {first} to {last} of shard {}, are given up (delivery {delivery}): {why}",
            self.origin.shard
        ));
        false
    }

    /// Waits before the next attempt.
    async fn rest(&self, backoff: &mut Backoff) {
        let rest = backoff.next();
        match self.is_ending.get() {
            true => self.shard.sleep(rest.min(PAUSE_AT_END_MAX)).await,
            false => self.pause(rest, || self.is_ending.get()).await,
        }
    }

    async fn attempt(&self, delivery: &str, body: &[u8]) -> Outcome {
        let began = self.shard.now();
        let outcome = self.hook.tell(delivery, body).await;
        self.meters.requests.add(1);
        self.meters.latency.record(self.shard.now().saturating_sub(began).as_micros() as u64);
        if outcome != Outcome::Taken {
            self.meters.failures.add(1);
        }
        outcome
    }
}
