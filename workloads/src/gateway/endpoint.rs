//! An endpoint at work: from a client's request to its answer.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use annulus_protocols::http1::reason_phrase;
use annulus_protocols::json::{self, write_string};
use annulus_protocols::websocket::handshake::Refusal;

use super::backend::{self, Asking, Ready};
use super::client::Expected;
use super::config::model::{Compat, Endpoint, MergeOrder, Output, OutputEncoding, StaticStrategy, WebSocket};
use super::encoding::{self, negotiated};
use super::fanout::{Outcome, parallel, sequential};
use super::grpc;
use super::inflow::Inflow;
use super::message::{Cause, Phase, is_hop_by_hop};
use super::part::{Changes, Part, member, merge, scanned, splice};
use super::problem::{self, Failed};
use super::request::{Reply, ReplyBody, Upgrade};
use super::shadow::Shadow;
use super::shed::Level;
use super::tunnel::{Meters, Places, Tunnel};
use super::upstream::{Answer, Switch};
use crate::serve::pieces::Pieces;

/// Says whether every backend answered.
const COMPLETED: &str = "x-krakend-completed";

/// An endpoint with its backends, on one shard.
pub struct Service {
    /// What the configuration says; its backends are in `backends`.
    pub endpoint: Endpoint,
    /// Whom it asks.
    pub backends: Vec<Rc<Ready>>,
    /// Who gets copies.
    pub shadows: Vec<Rc<Shadow>>,
    /// What is done to the merged answer.
    pub changes: Option<Arc<Changes>>,
    /// Whose behaviour it has.
    pub compat: Compat,
    /// Whether failures are told to clients that get KrakenD's answers.
    pub tells_errors: bool,
    /// What its answers take.
    pub expected: Rc<Expected>,
    /// A recent request, for the dashboard.
    pub sample: RefCell<Option<Sample>>,
    /// Where its WebSockets go through, if it has some.
    pub tunnels: Option<Tunnels>,
}

/// An endpoint's part in what is counted of all tunnels.
pub struct Tunnels {
    /// Of the process.
    pub places: Arc<Places>,
    /// The endpoint's own number.
    pub own: Arc<AtomicUsize>,
    /// The most of all.
    pub all_max: usize,
    /// The shard's.
    pub meters: Rc<Meters>,
}

/// How often a request is looked at more closely.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// One request's course.
pub struct Sample {
    taken: Duration,
    request: String,
    id: String,
    status: u16,
    took: Duration,
    steps: Vec<Step>,
}

/// A sub-request: when it began after the request, how long it took, and how it ended.
struct Step {
    start: Duration,
    took: Duration,
    says: String,
}

impl Service {
    /// Answers a request.
    pub async fn answer(&self, asking: &Asking<'_>) -> Reply {
        if let Some(why) = &self.endpoint.unsupported {
            return problem::problem(501, why);
        }
        if let (Some(websocket), Some(tunnels)) = (&self.endpoint.websocket, &self.tunnels) {
            match asking.request.upgrade {
                Upgrade::Asked => return Box::pin(self.open_tunnel(asking, websocket, tunnels)).await,
                Upgrade::Wrong(refusal) => return refused_upgrade(refusal),
                Upgrade::None if !websocket.serves_others => return refused_upgrade(Refusal::NotAnUpgrade),
                Upgrade::None => {}
            }
        }
        if let Some(inflow) = &asking.request.inflow {
            return match self.endpoint.output_encoding {
                OutputEncoding::NoOp => Box::pin(self.pass_call(asking, inflow)).await,
                _ => grpc::unimplemented(),
            };
        }
        self.shadows.iter().for_each(|shadow| shadow.copy(asking));
        if self.endpoint.output_encoding == OutputEncoding::NoOp {
            return self.pass(asking).await;
        }
        let outcomes = match self.endpoint.sequential {
            true => sequential(asking, &self.backends).await,
            false => parallel(asking, &self.backends).await,
        };
        let steps = self.is_sample_due(asking).then(|| self.steps(&outcomes));
        let reply = self.assemble(asking, outcomes).await;
        if let Some(steps) = steps {
            self.keep_sample(asking, reply.status, steps);
        }
        reply
    }

    /// All backends: those whose answers count, then those that get copies.
    pub fn everybody(&self) -> impl Iterator<Item = &Rc<Ready>> {
        self.backends.iter().chain(self.shadows.iter().map(|shadow| &shadow.ready))
    }

    /// Whether the last request kept is old.
    fn is_sample_due(&self, asking: &Asking<'_>) -> bool {
        let now = asking.shard.now();
        self.sample.borrow().as_ref().is_none_or(|sample| now.saturating_sub(sample.taken) >= SAMPLE_EVERY)
    }

    fn steps(&self, outcomes: &[Outcome]) -> Vec<Step> {
        let mut start = Duration::ZERO;
        let step = |outcome: &Outcome| {
            let says = match &outcome.result {
                None => "not asked".to_owned(),
                Some(Ok(_)) => "ok".to_owned(),
                Some(Err(backend::Refusal { failure, .. })) => format!("{}: {}", failure.phase.name(), failure.cause),
            };
            let step = Step { start, took: outcome.elapsed, says };
            if self.endpoint.sequential {
                start += outcome.elapsed;
            }
            step
        };
        outcomes.iter().map(step).collect()
    }

    fn keep_sample(&self, asking: &Asking<'_>, status: u16, steps: Vec<Step>) {
        let (request, now) = (asking.request, asking.shard.now());
        *self.sample.borrow_mut() = Some(Sample {
            taken: now,
            request: format!("{} {}", request.method, request.path),
            id: asking.own_fields.text("x-request-id").unwrap_or_default().to_owned(),
            status,
            took: now.saturating_sub(request.began),
            steps,
        });
    }

    /// Appends the request kept, with a step per backend: its start and length in microseconds, and how it ended.
    pub fn write_sample(&self, out: &mut Vec<u8>) {
        let sample = self.sample.borrow();
        let Some(sample) = &*sample else { return out.extend_from_slice(b"null") };
        let Sample { taken, request, id, status, took, steps } = sample;
        let (at, took) = (taken.as_millis(), took.as_micros());
        out.extend_from_slice(
            format!("{{\"at_ms\":{at},\"status\":{status},\"took_us\":{took},\"request\":").as_bytes(),
        );
        write_string(out, request);
        out.extend_from_slice(b",\"id\":");
        write_string(out, id);
        out.extend_from_slice(b",\"steps\":[");
        for (index, step) in steps.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(format!("[{},{},", step.start.as_micros(), step.took.as_micros()).as_bytes());
            write_string(out, &step.says);
            out.push(b']');
        }
        out.extend_from_slice(b"]}");
    }

    /// Passes the one backend's answer on as it comes.
    async fn pass(&self, asking: &Asking<'_>) -> Reply {
        let Some(backend) = self.backends.first() else { return problem::problem(500, "there is no backend") };
        let began = asking.shard.now();
        let passed = backend.pass(asking).await;
        if self.is_sample_due(asking) {
            let took = asking.shard.now().saturating_sub(began);
            let (status, says) = match &passed {
                Ok(answer) => (answer.status, "ok".to_owned()),
                Err(backend::Refusal { failure, .. }) => (502, format!("{}: {}", failure.phase.name(), failure.cause)),
            };
            self.keep_sample(asking, status, vec![Step { start: Duration::ZERO, took, says }]);
        }
        match passed {
            Ok(answer) => passed_on(answer),
            Err(refusal) => {
                let elapsed = asking.shard.now() - began;
                self.failure(&[Outcome { result: Some(Err(refusal)), elapsed, arrived: 0 }])
            }
        }
    }

    /// Passes a gRPC call on, both ways as they come.
    async fn pass_call(&self, asking: &Asking<'_>, inflow: &Rc<Inflow>) -> Reply {
        let Some(backend) = self.backends.first() else { return problem::problem(500, "there is no backend") };
        let Ok(timeout) = grpc::timeout(&asking.request.fields) else {
            return grpc::refusal(grpc::Status::INTERNAL, "grpc-timeout is no time");
        };
        match backend.pass_call(asking, inflow, timeout).await {
            Ok(answer) => passed_on(answer),
            Err(refusal) => {
                let (status, message) = grpc::failed(&refusal.failure);
                grpc::refusal(status, &message)
            }
        }
    }

    /// Asks the backend for a WebSocket. Its refusal is passed on as it is.
    async fn open_tunnel(&self, asking: &Asking<'_>, websocket: &WebSocket, tunnels: &Tunnels) -> Reply {
        let Some(backend) = self.backends.first() else { return problem::problem(500, "there is no backend") };
        let Tunnels { places, own, all_max, meters } = tunnels;
        let place = match places.enter(own, websocket.tunnels_max, *all_max) {
            Ok(place) => place,
            Err(full) => {
                meters.refuse();
                let wait = format!("{}", 1 + asking.request.began.subsec_nanos() % 4);
                return problem::problem(503, &full.to_string()).with("retry-after", &wait);
            }
        };
        let began = asking.shard.now();
        match backend.switch(asking, &websocket.subprotocols).await {
            Ok(Switch::Agreed { fields, wire, early }) => {
                let tunnel = Tunnel::open(wire, early, websocket.idle, meters, place);
                Reply { fields, body: ReplyBody::Tunnel(Box::new(tunnel)), ..Reply::empty(101) }
            }
            Ok(Switch::Refused(answer)) => passed_on(answer),
            Err(refusal) => {
                let elapsed = asking.shard.now() - began;
                self.failure(&[Outcome { result: Some(Err(refusal)), elapsed, arrived: 0 }])
            }
        }
    }

    async fn assemble(&self, asking: &Asking<'_>, mut outcomes: Vec<Outcome>) -> Reply {
        let answered = outcomes.iter().filter(|outcome| matches!(outcome.result, Some(Ok(_)))).count();
        let complete = answered == outcomes.len();
        let failed = outcomes.iter().any(|outcome| outcome.refusal().is_some());
        let indispensable = outcomes
            .iter()
            .zip(&self.backends)
            .any(|(outcome, backend)| backend.backend.required && !matches!(outcome.result, Some(Ok(_))));
        let extra = self.endpoint.static_data.as_ref().filter(|data| match data.strategy {
            StaticStrategy::Always => true,
            StaticStrategy::Success => answered > 0,
            StaticStrategy::Complete => complete,
            StaticStrategy::Errored => failed,
            StaticStrategy::Incomplete => !complete,
        });
        // The first of a sequence is what the others build on.
        let lost = answered == 0 && (extra.is_none() || self.endpoint.sequential);
        if indispensable || lost {
            if outcomes.iter().filter_map(Outcome::refusal).any(|refusal| refusal.failure.phase != Phase::Admission) {
                self.expected.learn_failure();
            }
            return self.failure(&outcomes);
        }
        let details = self.error_details(&outcomes);
        if self.endpoint.merge_order == MergeOrder::Arrival {
            outcomes.sort_by_key(|outcome| outcome.arrived);
        }
        let parts = outcomes.into_iter().filter_map(|outcome| outcome.result.and_then(Result::ok));
        let encoding = match self.endpoint.output_encoding {
            OutputEncoding::Negotiate => {
                let fields = asking.request.fields.iter().filter(|(name, _)| *name == "accept");
                negotiated(fields.map(|(_, value)| std::str::from_utf8(value).unwrap_or_default()))
            }
            other => other,
        };
        let draft = Draft {
            parts: parts.chain(details).collect(),
            changes: self.changes.clone(),
            extra: extra.map(|data| {
                Part::of_members(data.data.iter().map(|member| (&member.name[..], member.json.as_bytes())))
            }),
            encoding,
            output: self.endpoint.output,
        };
        let gathered: usize = draft.parts.iter().map(Part::len).sum();
        let (content_type, text) = draft.write_somewhere(asking).await;
        self.expected.learn(gathered.max(text.len()));
        let reply = Reply::new(200, content_type, text).with(COMPLETED, if complete { "true" } else { "false" });
        let reply = match self.endpoint.output_encoding {
            OutputEncoding::Negotiate => reply.with("vary", "Accept"),
            _ => reply,
        };
        match (complete, self.endpoint.cache_ttl.as_secs()) {
            (true, seconds @ 1..) => reply.with("cache-control", &format!("public, max-age={seconds}")),
            _ => reply,
        }
    }

    /// Members that describe failures, for backends that ask for them.
    fn error_details(&self, outcomes: &[Outcome]) -> Option<Part> {
        let mut members: Vec<(String, Vec<u8>)> = Vec::new();
        for (outcome, backend) in outcomes.iter().zip(&self.backends) {
            if let (Some(refusal), Some(name)) = (outcome.refusal(), &backend.backend.return_error_details) {
                members.push((format!("error_{name}"), detail(refusal)));
            }
        }
        let texts = members.iter().map(|(name, json)| (&name[..], &json[..]));
        (!members.is_empty()).then(|| Part::of_members(texts))
    }

    /// The answer when there is none.
    fn failure(&self, outcomes: &[Outcome]) -> Reply {
        let failed: Vec<Failed<'_>> = outcomes
            .iter()
            .zip(&self.backends)
            .filter_map(|(outcome, backend)| {
                let failure = &outcome.refusal()?.failure;
                let elapsed_ms = outcome.elapsed.as_millis() as u64;
                Some(Failed { backend: &backend.backend.url_pattern.source, failure, elapsed_ms })
            })
            .collect();
        let own_status = match (&self.backends[..], &failed[..]) {
            ([backend], [one]) if backend.backend.return_error_code => match one.failure.cause {
                Cause::Status(status) => Some(status),
                _ => None,
            },
            _ => None,
        };
        let late = failed.iter().any(|one| one.failure.cause == Cause::Timeout);
        let reply = match self.compat {
            Compat::Annulus => {
                let status = own_status.unwrap_or(if late { 504 } else { 502 });
                problem::with_backends(status, "no answer could be put together", &failed)
            }
            Compat::KrakenD => {
                let status = own_status.unwrap_or(500);
                match failed.first() {
                    Some(one) if self.tells_errors => {
                        let text = format!("{}: {}", reason_phrase(status), one.failure.cause);
                        Reply::new(status, "text/plain; charset=utf-8", text.into_bytes())
                    }
                    _ => Reply::empty(status),
                }
            }
        };
        reply.with(COMPLETED, "false")
    }
}

/// An answer as it comes.
fn passed_on(answer: Answer) -> Reply {
    let mut reply = Reply::empty(answer.status);
    for (name, value) in answer.fields.iter() {
        if !is_hop_by_hop(name) && name != "content-length" {
            reply.fields.push(name, value);
        }
    }
    reply.body = ReplyBody::Streamed(Box::new(answer));
    reply
}

/// The answer to a request that is no valid upgrade.
fn refused_upgrade(refusal: Refusal) -> Reply {
    let reply = problem::problem(refusal.status(), &refusal.to_string());
    refusal.fields().iter().fold(reply, |reply, (name, value)| reply.with(name, value))
}

/// Bytes of parts beyond which an answer is put together by the compute threads.
const LARGE_BYTES: usize = 256 << 10;
/// Bytes of parts beyond which their texts are sent from where they are; below, a copy is cheaper than the bookkeeping.
const SPLICED_BYTES_MIN: usize = 64 << 10;
const JSON: &str = "application/json";
/// How long those may take. They run when nothing else does, and a shard that is busy would wait for ever.
const PATIENCE: Duration = Duration::from_millis(50);

/// All that an answer is made of: enough to write it on any thread.
struct Draft {
    parts: Vec<Part>,
    changes: Option<Arc<Changes>>,
    /// Static data, which comes last.
    extra: Option<Part>,
    encoding: OutputEncoding,
    output: Output,
}

impl Draft {
    /// Writes the answer here, or on the compute threads if it is large and the shard has time for others: one that has
    /// not has none to lend either.
    async fn write_somewhere(self, asking: &Asking<'_>) -> (&'static str, Pieces) {
        let bytes: usize = self.parts.iter().map(Part::len).sum();
        if bytes > SPLICED_BYTES_MIN && self.is_spans() {
            return (JSON, splice(self.parts));
        }
        let (content_type, text) = self.write_whole(bytes, asking).await;
        (content_type, text.into())
    }

    /// Whether it is what its parts say, and little of that has to be looked at.
    fn is_spans(&self) -> bool {
        let is_plain = self.encoding == OutputEncoding::Json
            && self.output == Output::Fast
            && self.changes.is_none()
            && self.extra.is_none();
        is_plain && scanned(&self.parts) <= SPLICED_BYTES_MIN
    }

    async fn write_whole(self, bytes: usize, asking: &Asking<'_>) -> (&'static str, Vec<u8>) {
        if bytes <= LARGE_BYTES || asking.level > Level::Calm {
            return self.write();
        }
        let draft = Arc::new(self);
        let theirs = draft.clone();
        let Ok(job) = asking.shard.compute(move || theirs.write()) else { return draft.write() };
        match asking.shard.timeout(PATIENCE, job).await {
            Ok(Ok(written)) => written,
            Ok(Err(_)) | Err(_) => draft.write(),
        }
    }

    /// The content type, and the text in the endpoint's encoding.
    fn write(&self) -> (&'static str, Vec<u8>) {
        let mut merged = merge(&self.parts);
        if let Some(changes) = &self.changes {
            // What is deleted stays away from partial answers too, which KrakenD leaves as they are.
            merged = changes.apply(&merged);
        }
        if let Some(extra) = &self.extra {
            merged = merge(&[&Part::of_text(merged), extra]);
        }
        let text: Cow<'_, [u8]> = match self.encoding {
            OutputEncoding::String => {
                let content = member(&merged, "content").and_then(json::Value::string).unwrap_or_default();
                return ("text/plain; charset=utf-8", content.as_bytes().to_vec());
            }
            OutputEncoding::JsonCollection => {
                Cow::Owned(member(&merged, "collection").map_or_else(|| b"[]".to_vec(), |value| value.raw().to_vec()))
            }
            _ => Cow::Borrowed(&merged),
        };
        let text = match self.output {
            Output::Fast => text.into_owned(),
            Output::Canonical => {
                let mut out = Vec::with_capacity(text.len());
                json::canonical(&text, &mut out);
                out
            }
        };
        match self.encoding {
            OutputEncoding::Xml => (encoding::XML, rewritten(&text, encoding::to_xml)),
            OutputEncoding::Yaml => (encoding::YAML, rewritten(&text, encoding::to_yaml)),
            _ => (JSON, text),
        }
    }
}

fn rewritten(json: &[u8], write: impl Fn(&[u8], &mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    write(json, &mut out);
    out
}

/// A failure as a member's value.
fn detail(refusal: &backend::Refusal) -> Vec<u8> {
    let status = match refusal.failure.cause {
        Cause::Status(status) => status,
        Cause::Timeout => 504,
        _ => 502,
    };
    let mut json = format!("{{\"http_status_code\":{status},\"http_body\":").into_bytes();
    match std::str::from_utf8(&refusal.body) {
        Ok(text) if !text.is_empty() => write_string(&mut json, text),
        _ => write_string(&mut json, &refusal.failure.cause.to_string()),
    }
    json.push(b'}');
    json
}
