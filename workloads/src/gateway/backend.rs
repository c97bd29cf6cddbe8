//! One question to one backend: whether it is asked, where it goes, what it carries, how long it may take, and what its
//! answer is worth.

mod account;
mod passing;
mod question;

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use annulus_engine::Shard;
use annulus_engine::metrics::Snapshot;
use annulus_protocols::json::write_string;

use super::breaker::{Breaker, Pass};
use super::bucket::{Bucket, share};
use super::cache::{Cache, Lifetime, Turn};
use super::config::model::{self, Backend, Encoding, Endpoint, Rate};
use super::encoding::{from_rss, from_xml};
use super::grpc;
use super::guard::Claims;
use super::hedge::Hedging;
use super::inflow::Inflow;
use super::memory::Short;
use super::message::{Call, Cause, Failure, FieldList, Phase};
use super::meters::BackendMeters;
use super::part::{Part, QUANTUM_BYTES, Reading};
use super::request::Request;
use super::retry::{Budget, is_worth_it};
use super::shed::Level;
use super::targets::{Target, Targets};
use super::telemetry::{CallSpan, RequestSpan};
use super::upstream::Answer;
use account::{Asked, OnHost, is_served};

pub use question::Question;

/// Bytes of a failed answer that are read. One that is longer is given up.
const ERROR_BODY_BYTES_MAX: usize = 64 << 10;

/// Bytes of XML that are read by the shard itself: it takes about as long as to hand them over.
const INLINE_XML_BYTES_MAX: usize = 32 << 10;
/// Bytes of an answer that is thrown away that are read, so that its connection can be used again.
const THROWN_AWAY_BYTES_MAX: usize = 64 << 10;

/// What the sub-requests of a request share.
pub struct Asking<'a> {
    /// The shard they run on.
    pub shard: &'a Shard,
    /// The endpoint.
    pub endpoint: &'a Endpoint,
    /// The client's request.
    pub request: &'a Request,
    /// The values of the path's parameters.
    pub params: &'a [String],
    /// What every backend gets, whatever it is allowed of the client's fields: who asks, and what the request is called.
    pub own_fields: &'a FieldList,
    /// What is told of it to collectors, if it is traced.
    pub span: Option<&'a RequestSpan<'a>>,
    /// What the client's token says, where the endpoint wants one.
    pub claims: Option<&'a Claims>,
    /// Until when sub-requests are waited for, by the shard's clock.
    pub deadline: Duration,
    /// What is given up because there is too much.
    pub level: Level,
    /// Whether some backend is required: only then are the others left out when there is too much.
    pub has_required: bool,
}

/// A backend with its upstreams, on one shard.
pub struct Ready {
    /// What the configuration says.
    pub backend: Backend,
    reading: Reading,
    targets: Rc<Targets>,
    breaker: Option<Breaker>,
    rate: Option<(Rate, Bucket)>,
    budget: Budget,
    hedging: Option<Hedging>,
    meters: BackendMeters,
    /// Answers that are kept.
    cache: Option<Cache>,
    /// How long an answer's head may take, whatever the deadline.
    head_timeout: Option<Duration>,
}

/// A failed sub-request, with what the upstream said.
#[derive(Debug)]
pub struct Refusal {
    /// Where and why.
    pub failure: Failure,
    /// The beginning of its body, where it answered with a status that is none of success.
    pub body: Vec<u8>,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        Refusal { failure, body: Vec::new() }
    }
}

impl From<Short> for Refusal {
    fn from(short: Short) -> Refusal {
        refused(short.reason()).into()
    }
}

fn refused(why: &'static str) -> Failure {
    Failure { phase: Phase::Admission, cause: Cause::Refused(why), unprocessed: true }
}

/// The first of one or more that is good; where none is, what came of the last. The others are given up.
async fn first_good<T, E, F: Future<Output = Result<T, E>> + Unpin>(mut calls: Vec<F>) -> Result<T, E> {
    std::future::poll_fn(|cx| {
        let mut at = 0;
        while let Some(call) = calls.get_mut(at) {
            match Pin::new(call).poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(outcome) if outcome.is_ok() || calls.len() == 1 => return Poll::Ready(outcome),
                Poll::Ready(_worse_than_what_is_left) => drop(calls.remove(at)),
            }
        }
        Poll::Pending
    })
    .await
}

impl Ready {
    /// A backend with those whom it asks. `named` is what metrics call the endpoint and it.
    pub fn new(
        shard: &Shard,
        named: (&str, &str),
        backend: Backend,
        targets: Rc<Targets>,
        cache: Option<Cache>,
        head_timeout: Option<Duration>,
    ) -> Ready {
        let rate = backend.rate_limit.as_ref().map(|rate| {
            let rate = share(rate, shard.count());
            let bucket = Bucket::new(&rate, shard.now());
            (rate, bucket)
        });
        Ready {
            breaker: backend.circuit_breaker.clone().map(Breaker::new),
            rate,
            budget: Budget::default(),
            hedging: backend.hedge.as_ref().map(Hedging::new),
            meters: BackendMeters::new(shard, named.0, named.1),
            cache,
            head_timeout,
            reading: Reading::new(&backend),
            backend,
            targets,
        }
    }

    /// Asks and shapes the answer. `earlier` are the answers of the backends before it, where they are sequential.
    ///
    /// # Errors
    /// Why there is no answer of use.
    pub async fn ask(&self, asking: &Asking<'_>, earlier: &[Option<Part>]) -> Result<Part, Refusal> {
        let target = self.target(asking, earlier)?;
        let deadline = asking.deadline.min(asking.shard.now() + self.backend.timeout);
        match &self.cache {
            Some(cache) => Box::pin(self.ask_unless_kept(cache, asking, &target, deadline)).await,
            None => self.ask_backend(asking, &target, deadline).await,
        }
    }

    /// Gives what is kept, or waits for whoever asks the same already, or asks.
    async fn ask_unless_kept(
        &self,
        cache: &Cache,
        asking: &Asking<'_>,
        target: &str,
        deadline: Duration,
    ) -> Result<Part, Refusal> {
        let (shard, fields) = (asking.shard, self.fields(asking));
        let mut has_waited = false;
        loop {
            if let Some(part) = cache.find(shard.now(), target, &fields) {
                self.meters.cached.add(1);
                let mut held = asking.request.client.room();
                held.grow_to(part.len())?;
                return Ok(part.holding(held));
            }
            if has_waited {
                return self.ask_backend(asking, target, deadline).await;
            }
            match cache.turn(shard.now(), target) {
                Turn::Passes => return self.ask_backend(asking, target, deadline).await,
                Turn::Leads(leading) => {
                    let outcome = self.ask_backend(asking, target, deadline).await;
                    leading.ended();
                    return outcome;
                }
                Turn::Follows(reply) => {
                    let left = deadline.saturating_sub(shard.now());
                    let Ok(ended) = shard.timeout(left, reply).await else {
                        return Err(Failure::timeout(Phase::Admission).into());
                    };
                    // One that was given up, with its client, is led by the next.
                    has_waited = ended.is_some();
                }
            }
        }
    }

    async fn ask_backend(&self, asking: &Asking<'_>, target: &str, deadline: Duration) -> Result<Part, Refusal> {
        let mut asked = self.admit(asking, deadline)?;
        let left = asked.deadline.saturating_sub(asking.shard.now());
        let outcome = match asking.shard.timeout(left, pin!(self.attempts(asking, target, &asked))).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(Failure::timeout(asked.progress.get()).into()),
        };
        asked.settle(outcome.as_ref().map_or_else(|refusal| is_served(&refusal.failure), |_| Some(true)));
        outcome
    }

    /// Whether the backend is asked at all.
    fn admit<'a>(&'a self, asking: &Asking<'a>, deadline: Duration) -> Result<Asked<'a>, Failure> {
        let shard = asking.shard;
        if asking.level >= Level::RequiredOnly
            && asking.has_required
            && !self.backend.required
            && asking.endpoint.priority != model::Priority::Critical
        {
            return Err(refused("left out, because the gateway has too much to do"));
        }
        self.enter(shard, deadline)
    }

    /// Whether its rate limit and its breaker let a call through.
    fn enter<'a>(&'a self, shard: &'a Shard, deadline: Duration) -> Result<Asked<'a>, Failure> {
        let now = shard.now();
        if let Some((rate, bucket)) = &self.rate
            && bucket.take(rate, now).is_err()
        {
            self.meters.refused.add(1);
            return Err(refused("its rate limit is reached"));
        }
        let pass = match &self.breaker {
            None => Some(Pass::default()),
            Some(breaker) => breaker.admit(now),
        };
        let Some(pass) = pass else {
            self.meters.refused.add(1);
            return Err(refused("its circuit breaker is open"));
        };
        Ok(Asked::new(self, shard, deadline, pass))
    }

    /// Asks, and asks again where that is allowed.
    async fn attempts(&self, asking: &Asking<'_>, target: &str, asked: &Asked<'_>) -> Result<Part, Refusal> {
        let mut repeated = 0;
        if let Some(retry) = &self.backend.retry {
            self.budget.earn(retry.budget);
        }
        loop {
            let attempted = match self.calls_at_once(asking) {
                1 => self.attempt_once_or_twice(asking, target, asked).await,
                calls => {
                    self.meters.concurrent.add(calls - 1);
                    first_good((0..calls).map(|_| Box::pin(self.attempt(asking, target, asked))).collect()).await
                }
            };
            let refusal = match attempted {
                Ok(part) => return Ok(part),
                Err(refusal) => refusal,
            };
            let again = self.backend.retry.as_ref().is_some_and(|retry| {
                repeated < retry.attempts
                    && asking.level < Level::NoRetries
                    && is_worth_it(retry, &refusal.failure, self.backend.method.is_idempotent())
                    && self.budget.spend()
            });
            if !again {
                return Err(refusal);
            }
            repeated += 1;
            self.meters.retries.add(1);
        }
    }

    /// How often the same is asked at once: several times only where that changes nothing, and not while there is too much.
    fn calls_at_once(&self, asking: &Asking<'_>) -> u64 {
        match asking.level < Level::NoRetries && self.backend.method.is_safe() {
            true => u64::from(asking.endpoint.concurrent_calls),
            false => 1,
        }
    }

    /// Asks, and where that is slow a second time beside it. The first good answer counts, the other call is given up.
    async fn attempt_once_or_twice(
        &self,
        asking: &Asking<'_>,
        target: &str,
        asked: &Asked<'_>,
    ) -> Result<Part, Refusal> {
        let Some(hedging) = self.hedging.as_ref().filter(|_| self.backend.method.is_idempotent()) else {
            return self.attempt(asking, target, asked).await;
        };
        let (shard, began) = (asking.shard, asking.shard.now());
        let mut first = Box::pin(self.attempt(asking, target, asked));
        let in_time = match hedging.begin() {
            Some(patience) => shard.timeout(patience, first.as_mut()).await.ok(),
            None => Some(first.as_mut().await),
        };
        let outcome = match in_time {
            Some(outcome) => outcome,
            None if asking.level >= Level::NoRetries || !hedging.spend() => first.await,
            None => {
                self.meters.hedges.add(1);
                first_good(vec![first, Box::pin(self.attempt(asking, target, asked))]).await
            }
        };
        if outcome.is_ok() {
            hedging.learn(shard.now().saturating_sub(began));
        }
        outcome
    }

    async fn attempt(&self, asking: &Asking<'_>, target: &str, asked: &Asked<'_>) -> Result<Part, Refusal> {
        let span = self.span(asking);
        let mut answer = self.send(asking, target, asked, span.as_ref()).await?;
        asked.progress.set(Phase::Body);
        let mut held = asking.request.client.room();
        // RFC 9110 has more successes, but KrakenD's users rely on these two.
        if !matches!(answer.status, 200 | 201) {
            let failure = Failure { phase: Phase::Body, cause: Cause::Status(answer.status), unprocessed: false };
            // Read in any case, within limits: so the connection can be used again.
            let body = answer.collect(ERROR_BODY_BYTES_MAX).await.unwrap_or_default();
            return Err(Refusal { failure, body });
        }
        // Nobody asked for it, and what a small body unfolds to has no end: it is not unfolded.
        if let Some(coding) = answer.fields.text("content-encoding").filter(|coding| *coding != "identity") {
            let what = format!("it is compressed ({coding}), which was not asked for");
            let failure = Failure { phase: Phase::Decode, cause: Cause::Malformed(what), unprocessed: false };
            drop(answer.collect(ERROR_BODY_BYTES_MAX).await);
            return Err(failure.into());
        }
        let most = self.backend.max_response_bytes.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        let mut body = answer.begin_body(most)?;
        held.grow_to(body.capacity())?;
        let malformed = |what| Failure { phase: Phase::Decode, cause: Cause::Malformed(what), unprocessed: false };
        let (mut check, mut worked) = (self.reading.begin(), 0);
        loop {
            let more = answer.next(&mut body).await?;
            if body.len() > most {
                return Err(super::upstream::too_large(most).into());
            }
            held.grow_to(body.capacity())?;
            while check.advance(&body).map_err(malformed)? {
                asking.shard.yield_now().await;
                worked = body.len();
            }
            if body.len() - worked >= QUANTUM_BYTES {
                asking.shard.yield_now().await;
                worked = body.len();
            }
            if !more {
                break;
            }
        }
        if matches!(self.backend.encoding, Encoding::Xml | Encoding::Rss) {
            body = self.json_of_xml(asking.shard, body, most).await?;
            held.grow_to(body.capacity())?;
        }
        let part = self.reading.read(body, &check).map_err(malformed)?;
        if let Some(cache) = self.cache.as_ref().filter(|_| answer.status == 200) {
            let fields = self.fields(asking);
            let is_authorized = asking.claims.is_some_and(|claims| claims.are_told_in(&fields));
            let lifetime = Lifetime::of(&answer.fields, &fields, is_authorized);
            cache.keep(asking.shard.now(), target, &fields, lifetime, &part);
        }
        Ok(part.holding(held))
    }

    /// What is told of a call to collectors. It lasts until the answer is there, or its head where that is passed on.
    fn span<'a>(&self, asking: &Asking<'a>) -> Option<CallSpan<'a>> {
        let span = asking.span?.call(format!("{} {}", self.backend.method.as_str(), self.backend.url_pattern.source));
        span.note("http.request.method", self.backend.method.as_str().to_owned());
        span.note("url.template", self.backend.url_pattern.source.clone());
        Some(span)
    }

    /// A document as JSON, large ones by the compute threads.
    async fn json_of_xml(&self, shard: &Shard, document: Vec<u8>, most: usize) -> Result<Vec<u8>, Failure> {
        // A feed is one, whatever is said of collections.
        let is_feed = self.backend.encoding == Encoding::Rss;
        let (len, is_collection) = (document.len(), self.backend.is_collection && !is_feed);
        let read = move || {
            let json = if is_feed { from_rss(&document, most)? } else { from_xml(&document, most)? };
            Ok::<_, String>(if is_collection { [b"{\"collection\":", &json[..], b"}"].concat() } else { json })
        };
        let failed = |cause| Failure { phase: Phase::Decode, cause, unprocessed: false };
        let outcome = if len <= INLINE_XML_BYTES_MAX {
            read()
        } else {
            let job = shard.compute(read).map_err(|_busy| failed(Cause::Refused("nobody has time to read its XML")))?;
            job.await.map_err(|_lost| failed(Cause::Refused("its XML was being read when that broke off")))?
        };
        outcome.map_err(|what| failed(Cause::Malformed(what)))
    }

    /// Asks, and throws the answer away.
    pub async fn ask_in_vain(&self, shard: &Shard, question: &Question, within: Duration) {
        // What is not let through is counted there.
        let Ok(mut asked) = self.enter(shard, shard.now() + within) else { return };
        let Question { target, fields, body } = question;
        let asking = async {
            let answer = self.send_to_host(shard, target, fields, (body.as_deref(), None), &asked, None).await?;
            let status = answer.status;
            asked.progress.set(Phase::Body);
            // Read within limits, so that the connection can be used again.
            match answer.collect(THROWN_AWAY_BYTES_MAX).await {
                Err(failure) if !matches!(failure.cause, Cause::TooLarge(_)) => Err(failure),
                Ok(_) | Err(_) => Ok(status),
            }
        };
        let outcome = shard.timeout(within, pin!(asking)).await;
        asked.settle(match outcome {
            Ok(Ok(status)) => Some(status < 500),
            Ok(Err(failure)) => is_served(&failure),
            Err(_elapsed) => Some(false),
        });
    }

    /// Sends a request's question to one host and waits for the head of its answer.
    async fn send(
        &self,
        asking: &Asking<'_>,
        target: &str,
        asked: &Asked<'_>,
        span: Option<&CallSpan<'_>>,
    ) -> Result<Answer, Failure> {
        let mut fields = self.fields(asking);
        if let Some(span) = span {
            let fields = fields.to_mut();
            fields.remove_all(|name| name == "traceparent");
            fields.push("traceparent", span.traceparent().as_bytes());
        }
        let (shard, body) = (asking.shard, self.body_of(asking.request));
        let answered = self.send_to_host(shard, target, &fields, (body, None), asked, span).await;
        match (span, &answered) {
            (Some(span), Ok(answer)) => span.answered(answer.status),
            (Some(span), Err(failure)) => span.failed(failure.phase.name(), failure.cause.to_string()),
            (None, _) => {}
        }
        answered
    }

    async fn send_to_host(
        &self,
        shard: &Shard,
        target: &str,
        fields: &FieldList,
        (body, inflow): (Option<&[u8]>, Option<&Rc<Inflow>>),
        asked: &Asked<'_>,
        span: Option<&CallSpan<'_>>,
    ) -> Result<Answer, Failure> {
        let counted = self.choose(shard, asked).await?;
        let Target { host, authority, upstream, .. } = &counted.member.what;
        if let Some(span) = span {
            span.note("server.address", authority.to_string());
        }
        let method = self.backend.method.as_str();
        let base = &host.base_path;
        let joined;
        let target = match base.is_empty() {
            true => target,
            false => {
                joined = format!("{base}{target}");
                &joined
            }
        };
        let call = Call { method, target, authority, fields, body, inflow, progress: &asked.progress };
        let answered = match self.head_timeout.filter(|_| inflow.is_none()) {
            None => upstream.call(&call).await,
            Some(limit) => {
                let answered = shard.timeout(limit, pin!(upstream.call(&call))).await;
                answered.unwrap_or_else(|_elapsed| Err(Failure::timeout(asked.progress.get())))
            }
        };
        counted.settle(answered.as_ref().map(|answer| grpc::standing(answer.status, &answer.fields)));
        answered
    }

    /// A host that takes the call.
    async fn choose<'a>(&'a self, shard: &'a Shard, asked: &Asked<'_>) -> Result<OnHost<'a>, Failure> {
        asked.progress.set(Phase::Resolve);
        let member = self.targets.choose(shard, self.backend.lb).await?;
        asked.progress.set(Phase::Admission);
        OnHost::begin(&self.targets, shard, member, asked.deadline, asked.is_trial())
    }

    /// Forgets answers that are out of date.
    pub fn sweep(&self, now: Duration) {
        self.cache.iter().for_each(|cache| cache.sweep(now));
    }

    /// How long its calls took, since the start.
    pub fn latency(&self) -> Snapshot {
        self.meters.latency.snapshot()
    }

    /// Calls that its rate limit would let through now, and the most that it ever would.
    pub fn limit_left(&self, now: Duration) -> Option<(f64, u64)> {
        self.rate.as_ref().map(|(rate, bucket)| (bucket.left(rate, now), rate.capacity))
    }

    /// Appends figures for the dashboard to an object that is begun.
    pub fn write_figures(&self, out: &mut Vec<u8>, now: Duration) {
        let state = self.breaker.as_ref().map_or("none", |breaker| breaker.state(now).name());
        let hosts = self.targets.hosts();
        let names: Vec<String> = hosts.members().iter().map(|member| member.what.host.to_string()).collect();
        out.extend_from_slice(b",\"hosts\":");
        write_string(out, &names.join(", "));
        let is_shadow = self.backend.shadow.is_some();
        let unwell = hosts.members().iter().filter(|member| !member.what.is_well()).count();
        out.extend_from_slice(
            format!(
                ",\"shadow\":{is_shadow},\"breaker\":\"{state}\",\"unwell\":{unwell},\"ejected\":{},\"served\":{},\"failed\":{},\"refused\":{},\"retries\":{}",
                hosts.ejected(now),
                self.meters.served.get(),
                self.meters.failed.get(),
                self.meters.refused.get(),
                self.meters.retries.get()
            )
            .as_bytes(),
        );
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::gateway::config::model::{
        Discovery, Filter, Forward, LoadBalancing, Location, Method, Piece, Protocol, Scheme, Template,
    };

    #[test]
    fn of_several_calls_the_first_good_one_counts_and_of_bad_ones_the_last() {
        use std::future::{pending, ready};
        use std::task::{Context, Waker};
        type Call = Pin<Box<dyn Future<Output = Result<u8, u8>>>>;
        let polled = |calls: Vec<Call>| pin!(first_good(calls)).poll(&mut Context::from_waker(Waker::noop()));
        let (good, bad) = (|of: u8| -> Call { Box::pin(ready(Ok(of))) }, |of: u8| -> Call { Box::pin(ready(Err(of))) });
        let silent = || -> Call { Box::pin(pending()) };
        assert_eq!(polled(vec![silent(), bad(1), good(2), good(3)]), Poll::Ready(Ok(2)));
        assert_eq!(polled(vec![bad(1), bad(2), bad(3)]), Poll::Ready(Err(3)));
        assert_eq!(polled(vec![bad(1), silent(), bad(2)]), Poll::Pending);
        assert_eq!(polled(vec![bad(1)]), Poll::Ready(Err(1)));
    }

    /// A backend of nothing but a path.
    pub(in crate::gateway) fn bare_backend(path: &str) -> Backend {
        let pieces = vec![Piece::Literal(path.to_owned())];
        Backend {
            hosts: vec![model::Host {
                scheme: Scheme::Http,
                name: "127.0.0.1".into(),
                port: 80,
                base_path: String::new(),
            }],
            url_pattern: Template { source: path.into(), path: pieces, query: Vec::new() },
            method: Method::Get,
            encoding: Encoding::Json,
            is_collection: false,
            target: Vec::new(),
            group: None,
            filter: Filter::Everything,
            mapping: Vec::new(),
            flatmap: Vec::new(),
            input_headers: Forward::All,
            input_query_strings: Forward::All,
            sd: Discovery::Static,
            sd_scheme: Scheme::Http,
            disable_host_sanitize: false,
            circuit_breaker: None,
            rate_limit: None,
            return_error_details: None,
            return_error_code: false,
            timeout: std::time::Duration::from_secs(2),
            required: false,
            retry: None,
            hedge: None,
            outlier: None,
            health: None,
            lb: LoadBalancing::RoundRobin,
            protocol: Protocol::Auto,
            max_response_bytes: Some(1 << 20),
            shadow: None,
            cache: None,
            location: Location { file: "test".into(), line: 1, column: 1 },
        }
    }
}
