//! A hook: one endpoint of the backend, as one shard calls it.
//!
//! ```text
//!   call ─► is it at rest? ─► a place, or a seat and then a place ─► the breaker ─► POST ─► status ─► body
//!             Resting            Busy (the queue, or the time)        Resting     Failed  Status     TooLarge
//!                                                                      Late
//! ```
//!
//! The time-out is of all of it: who has waited in the queue has less time left.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::Shard;
use annulus_engine::metrics::{Counter, Gauge, Histogram, Unit};
use annulus_protocols::centrifuge::ErrorCode;

use super::gate::{Full, Gate, Place};
use super::wire::{Kind, Unfit, Verdict};
use crate::gateway::fetching::{
    Breaker, Call, Cause, CircuitBreaker, Failure, FieldList, Pass, Phase, State, Upstream, is_hop_by_hop,
};
use crate::outbound::{AGENT, Endpoint, Outbound};

/// Longest value of a client's field that is passed on, in bytes. A longer one is left out.
pub const VALUE_BYTES_MAX: usize = 8 << 10;
/// Bytes that are read of an answer whose status is not 200, so that its connection can be used again.
const ERROR_BODY_BYTES_MAX: usize = 64 << 10;
/// Failures of a hook are logged this often at most; the others are counted.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// What a deployment says of a hook. Numbers are per shard.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it is for.
    pub kind: Kind,
    /// Which of its kind it is, for logs and metrics; `default` for the only one.
    pub name: String,
    /// Where it is.
    pub endpoint: Endpoint,
    /// How long a call may take, the queue included. Beyond: error 100.
    pub timeout: Duration,
    /// Fields of the client's request for a WebSocket that are passed on.
    pub http_headers: Vec<String>,
    /// Fields that the client's connect command brings, for browsers that cannot set any, that are passed on where the
    /// request itself had none of that name. Clients say what they like there.
    pub emulated_headers: Vec<String>,
    /// Fields that go along unless a client's has the same name.
    pub static_headers: Vec<(String, String)>,
    /// Calls under way. Beyond: they wait.
    pub concurrency_max: usize,
    /// Calls that wait. Beyond: error 111 (100 for connect).
    pub queue_max: usize,
    /// Bytes of an answer. Beyond: error 100.
    pub answer_bytes_max: usize,
    /// More failures in a row than this give the backend a rest.
    pub failures_max: u32,
    /// Failures count as being in a row for so long after the first.
    pub failures_within: Duration,
    /// How long the rest is. Meanwhile: error 100 without asking.
    pub rest: Duration,
}

impl Settings {
    /// The defaults: see the fields.
    pub fn new(kind: Kind, name: &str, endpoint: Endpoint) -> Settings {
        Settings {
            kind,
            name: name.to_owned(),
            endpoint,
            timeout: Duration::from_secs(1),
            http_headers: Vec::new(),
            emulated_headers: Vec::new(),
            static_headers: Vec::new(),
            concurrency_max: 64,
            queue_max: 1024,
            answer_bytes_max: 1 << 20,
            failures_max: 20,
            failures_within: Duration::from_secs(10),
            rest: Duration::from_secs(5),
        }
    }
}

/// Fields of a client that may be passed on; names in lower case.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    /// Of its request.
    pub sent: &'a FieldList,
    /// Of its connect command.
    pub emulated: &'a FieldList,
}

impl Headers<'_> {
    /// None at all.
    pub const NONE: Headers<'static> = Headers { sent: &FieldList::new(), emulated: &FieldList::new() };
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookError {
    /// Too many calls are under way and wait already, or the time ended in the queue.
    Busy,
    /// The backend has failed often and is left alone for a while.
    Resting,
    /// It took too long.
    Late,
    /// It could not be reached, or it broke off.
    Failed(Failure),
    /// It answered with a status that means nothing to us.
    Status(u16),
    /// Its answer has more than this many bytes.
    TooLarge(usize),
}

impl std::fmt::Display for HookError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HookError::Busy => f.write_str("too many calls are under way"),
            HookError::Resting => f.write_str("it has failed often and is left alone for a while"),
            HookError::Late => f.write_str("it took too long"),
            HookError::Failed(failure) => write!(f, "{} ({})", failure.cause, failure.phase.name()),
            HookError::Status(status) => write!(f, "it answered with status {status}"),
            HookError::TooLarge(limit) => write!(f, "its answer has more than {limit} bytes"),
        }
    }
}

impl std::error::Error for HookError {}

impl HookError {
    /// What the client is told: an error that is temporary. Where a hook is busy it is asked to slow down, unless it is
    /// connecting, which it has not begun to do too often. Refreshes are rather put off: see
    /// [`REFRESH_GRACE_SECONDS`](super::wire::REFRESH_GRACE_SECONDS).
    pub fn verdict<R>(self, kind: Kind) -> Verdict<'static, R> {
        match self {
            HookError::Busy if kind != Kind::Connect => Verdict::Error(ErrorCode::TOO_MANY_REQUESTS.into()),
            _ => Verdict::Error(ErrorCode::INTERNAL.into()),
        }
    }

    /// Whether the backend did its part, as far as its health is concerned; `None`: it was not asked.
    fn is_served(&self) -> Option<bool> {
        match self {
            HookError::Busy | HookError::Resting => None,
            HookError::Late | HookError::Failed(_) => Some(false),
            HookError::Status(status) => Some(*status < 500),
            HookError::TooLarge(_) => Some(true),
        }
    }

    /// Which of the counters it is.
    const fn index(&self) -> usize {
        match self {
            HookError::Busy => 1,
            HookError::Resting => 2,
            HookError::Late => 3,
            HookError::Failed(_) => 4,
            HookError::Status(_) => 5,
            HookError::TooLarge(_) => 6,
        }
    }
}

/// How calls end, as metrics say it.
const OUTCOMES: [&str; 8] = ["answered", "busy", "resting", "late", "failed", "status", "too_large", "abandoned"];
const ANSWERED: usize = 0;
const ABANDONED: usize = OUTCOMES.len() - 1;

/// What is counted of a hook, on one shard.
pub struct Meters {
    outcomes: [Arc<Counter>; OUTCOMES.len()],
    /// Answers that were none.
    pub unfit: Arc<Counter>,
    /// Calls under way.
    pub in_flight: Arc<Gauge>,
    /// Calls that wait.
    pub waiting: Arc<Gauge>,
    /// How long calls took that were made, the queue included.
    pub latency: Arc<Histogram>,
}

impl Meters {
    fn new(shard: &Shard, settings: &Settings) -> Meters {
        let (metrics, labels) = (shard.metrics(), [("hook", settings.kind.name()), ("name", &settings.name[..])]);
        let outcome = |outcome: &str| {
            let labels = [labels[0], labels[1], ("outcome", outcome)];
            metrics.counter_with("annulus_chat_hook_calls_total", "Calls of a hook, by how they ended.", &labels)
        };
        Meters {
            outcomes: OUTCOMES.map(outcome),
            unfit: metrics.counter_with("annulus_chat_hook_unfit_total", "Answers that could not be read.", &labels),
            in_flight: metrics.gauge_with("annulus_chat_hook_in_flight", "Calls of a hook under way.", &labels),
            waiting: metrics.gauge_with("annulus_chat_hook_waiting", "Calls of a hook that wait.", &labels),
            latency: metrics.histogram_with(
                "annulus_chat_hook_seconds",
                "From a call of a hook to the end of its answer.",
                Unit::Micros,
                &labels,
            ),
        }
    }

    /// How many calls have ended so: see `annulus_chat_hook_calls_total`.
    pub fn ended(&self, outcome: &str) -> u64 {
        let known = OUTCOMES.iter().position(|known| *known == outcome);
        known.map_or(0, |at| self.outcomes[at].get())
    }
}

/// See the module's description.
pub struct Hook {
    outbound: Rc<Outbound>,
    upstream: Rc<Upstream>,
    settings: Settings,
    gate: Rc<Gate>,
    breaker: Breaker,
    /// What is counted.
    pub meters: Meters,
    /// When a failure was logged last, and how many were not since.
    logged: Cell<(Option<Duration>, u64)>,
}

/// A call that has begun. Dropped before it ended, its client has left.
struct Begun<'a> {
    hook: &'a Hook,
    began: Duration,
    has_ended: bool,
}

impl Begun<'_> {
    fn end(mut self, error: Option<&HookError>) {
        self.has_ended = true;
        let meters = &self.hook.meters;
        meters.outcomes[error.map_or(ANSWERED, HookError::index)].add(1);
        if error.is_none_or(|error| error.is_served().is_some()) {
            let took = self.hook.outbound.shard().now().saturating_sub(self.began);
            meters.latency.record(took.as_micros() as u64);
        }
        self.hook.show_load();
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.hook.meters.outcomes[ABANDONED].add(1);
            self.hook.show_load();
        }
    }
}

/// A call that the breaker let through. Dropped unsettled, it counts as failed if its time was over.
struct Asked<'a> {
    hook: &'a Hook,
    _place: Place,
    deadline: Duration,
    pass: Option<Pass>,
}

impl Asked<'_> {
    fn settle(&mut self, served: Option<bool>) {
        let Some(pass) = self.pass.take() else { return };
        let shard = self.hook.outbound.shard();
        if let Some(state) = self.hook.breaker.settle(shard.now(), pass, served) {
            crate::warn!("chat: the breaker of {} is {} (shard {})", self.hook, state.name(), shard.index());
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let late = self.hook.outbound.shard().now() >= self.deadline;
        self.settle(late.then_some(false));
    }
}

impl std::fmt::Display for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Settings { kind, name, endpoint, .. } = &self.settings;
        write!(f, "the {} hook {name} ({endpoint})", kind.name())
    }
}

impl Hook {
    /// A hook that has not been called yet.
    ///
    /// # Errors
    /// A sentence: a field of the settings is none that could go along.
    pub fn new(outbound: &Rc<Outbound>, mut settings: Settings) -> Result<Hook, String> {
        for names in [&mut settings.http_headers, &mut settings.emulated_headers] {
            names.iter_mut().for_each(|name| name.make_ascii_lowercase());
            names.sort();
            names.dedup();
        }
        settings.static_headers.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
        let Settings { http_headers, emulated_headers, static_headers, .. } = &settings;
        let names = http_headers.iter().chain(emulated_headers).chain(static_headers.iter().map(|(name, _)| name));
        if let Some(name) = names.into_iter().find(|name| !is_name(name)) {
            return Err(format!("{name:?} is no name of a header: letters, digits and -"));
        }
        if let Some((name, _)) = static_headers.iter().find(|(_, value)| !is_value(value.as_bytes())) {
            return Err(format!("the value of the static header {name} has control characters or is too long"));
        }
        let breaker = Breaker::new(CircuitBreaker {
            name: settings.name.clone(),
            interval: settings.failures_within,
            timeout: settings.rest,
            max_errors: settings.failures_max,
            log_status_change: true,
        });
        Ok(Hook {
            upstream: outbound.upstream(&settings.endpoint),
            gate: Gate::new(settings.concurrency_max, settings.queue_max),
            breaker,
            meters: Meters::new(outbound.shard(), &settings),
            logged: Cell::new((None, 0)),
            outbound: outbound.clone(),
            settings,
        })
    }

    /// What the deployment says of it.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether the backend is left alone at the moment.
    pub fn is_resting(&self) -> bool {
        self.breaker.state(self.outbound.shard().now()) == State::Open
    }

    /// Asks the backend, and waits for its answer: what it is, is for [`wire`](super::wire) to read. To drop the future
    /// is to give the call up.
    ///
    /// # Errors
    /// Why there is none; it has been counted and logged.
    pub async fn call(&self, body: Vec<u8>, headers: &Headers<'_>) -> Result<Vec<u8>, HookError> {
        let shard = self.outbound.shard();
        let begun = Begun { hook: self, began: shard.now(), has_ended: false };
        let is_waiting = Cell::new(true);
        let asking = Box::pin(self.ask(&body, headers, &is_waiting));
        let outcome = match shard.timeout(self.settings.timeout, asking).await {
            Ok(outcome) => outcome,
            Err(_elapsed) if is_waiting.get() => Err(HookError::Busy),
            Err(_elapsed) => Err(HookError::Late),
        };
        begun.end(outcome.as_ref().err());
        if let Err(error) = &outcome {
            self.log(error);
        }
        outcome
    }

    /// An answer could not be read: counted and logged.
    pub fn on_unfit(&self, unfit: &Unfit) {
        self.meters.unfit.add(1);
        self.log(unfit);
    }

    async fn ask(&self, body: &[u8], headers: &Headers<'_>, is_waiting: &Cell<bool>) -> Result<Vec<u8>, HookError> {
        let shard = self.outbound.shard();
        let deadline = shard.now() + self.settings.timeout;
        if self.is_resting() {
            return Err(HookError::Resting);
        }
        let ticket = self.gate.enter().map_err(|Full| HookError::Busy)?;
        self.show_load();
        let place = ticket.called().await;
        self.show_load();
        is_waiting.set(false);
        // It may have failed while this one waited.
        let pass = self.breaker.admit(shard.now()).ok_or(HookError::Resting)?;
        let mut asked = Asked { hook: self, _place: place, deadline, pass: Some(pass) };
        let outcome = self.exchange(body, headers).await;
        asked.settle(outcome.as_ref().map_or_else(HookError::is_served, |_| Some(true)));
        outcome
    }

    async fn exchange(&self, body: &[u8], headers: &Headers<'_>) -> Result<Vec<u8>, HookError> {
        self.outbound.sweep();
        let (fields, progress) = (self.fields(headers), Cell::new(Phase::Admission));
        let Endpoint { target, authority, .. } = &self.settings.endpoint;
        let call = Call {
            method: "POST",
            target,
            authority,
            fields: &fields,
            body: Some(body),
            inflow: None,
            progress: &progress,
        };
        let answer = match self.upstream.call(&call).await {
            Err(Failure { phase: Phase::Request, cause: Cause::Transport(_), .. })
                if self.settings.kind.is_repeatable() =>
            {
                // It may have been kept for too long; another may have the answer.
                self.upstream.call(&call).await
            }
            answer => answer,
        };
        let answer = answer.map_err(HookError::from)?;
        match answer.status {
            200 => answer.collect(self.settings.answer_bytes_max).await.map_err(HookError::from),
            status => {
                // What it says is for nobody; only its end matters, and that it has none is no news.
                drop(answer.collect(ERROR_BODY_BYTES_MAX).await);
                Err(HookError::Status(status))
            }
        }
    }

    /// The fields that go along: fixed ones, those that the client emulates, those that it sent, each instead of the
    /// ones before.
    fn fields(&self, headers: &Headers<'_>) -> FieldList {
        let Settings { http_headers, emulated_headers, static_headers, .. } = &self.settings;
        let is_sent =
            |name: &str| may_go(name) && contains(http_headers, name) && headers.sent.get(name).is_some_and(is_value);
        let is_emulated = |name: &str| {
            may_go(name) && contains(emulated_headers, name) && headers.emulated.get(name).is_some_and(is_value)
        };
        let mut fields = FieldList::new();
        fields.push("content-type", b"application/json");
        for (name, value) in static_headers {
            if may_go(name) && !is_sent(name) && !is_emulated(name) {
                fields.push(name, value.as_bytes());
            }
        }
        for name in emulated_headers.iter().filter(|name| !is_sent(name) && is_emulated(name)) {
            fields.push(name, headers.emulated.get(name).unwrap_or_default());
        }
        for (name, value) in headers.sent.iter().filter(|(name, value)| is_sent(name) && is_value(value)) {
            fields.push(name, value);
        }
        if fields.get("user-agent").is_none() {
            fields.push("user-agent", AGENT);
        }
        fields
    }

    fn show_load(&self) {
        self.meters.in_flight.set(self.gate.taken() as u64);
        self.meters.waiting.set(self.gate.waiting() as u64);
    }

    fn log(&self, what: &dyn std::fmt::Display) {
        let (now, (last, held)) = (self.outbound.shard().now(), self.logged.get());
        if last.is_some_and(|last| now.saturating_sub(last) < LOG_EVERY) {
            return self.logged.set((last, held + 1));
        }
        self.logged.set((Some(now), 0));
        let others = if held > 0 { format!(" (and {held} failures that were not logged)") } else { String::new() };
        crate::say!("chat: {self}: {what}{others}");
    }
}

impl From<Failure> for HookError {
    fn from(failure: Failure) -> HookError {
        match failure.cause {
            Cause::TooLarge(limit) => HookError::TooLarge(limit),
            Cause::Timeout => HookError::Late,
            _ => HookError::Failed(failure),
        }
    }
}

fn contains(names: &[String], name: &str) -> bool {
    names.iter().any(|other| other == name)
}

/// Whether a field of that name may go along: the connection's own, and what frames the body, are not for others to
/// say.
pub(in crate::chat) fn may_go(name: &str) -> bool {
    !is_hop_by_hop(name) && !matches!(name, "host" | "content-length" | "content-type")
}

/// Whether it is a token, in lower case (RFC 9110 section 5.6.2).
fn is_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}

/// Whether it can be a field's value (RFC 9110 section 5.5), and is not too long.
fn is_value(value: &[u8]) -> bool {
    value.len() <= VALUE_BYTES_MAX && value.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}

#[cfg(test)]
mod tests;
