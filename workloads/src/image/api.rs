//! The API of the image service on one shard: who asks for what.
//!
//! ```text
//!   POST   /v1/images             upload.rs    a form or raw bytes ─► store ─► queue ─► 202, or 200 with Prefer: wait
//!   POST   /v1/uploads            upload.rs    where to put an original into the store oneself, then POST /v1/images?upload=ID
//!   /v1/tus, /v1/tus/ID           tus/         uploads that go on where they broke off
//!   GET    /v1/images/KEY         delivery.rs  an output; KEY without its ending: the format that the client likes best
//!   GET    /v1/images/KEY/OPTIONS variants/    what is made of an original now, by leave of a signature
//!   GET    /v1/jobs/ID            a job's document
//!   GET    /v1/jobs/ID/events     events.rs    its changes as server-sent events; /v1/events?job=ID&job=ID for several
//!   DELETE /v1/jobs/ID            cancels; with ?purge: purge.rs, deletes everything of it
//!   GET    /v1/dead, POST /v1/dead/ID/retry    dead letters
//!   GET    /v1/webhooks/dead, POST /v1/webhooks/dead/LETTER/retry    webhooks/dead.rs    what nobody took
//!   GET    /v1/presets            what can be asked for by name
//!   GET    /health, /metrics, /v1/figures      meters.rs
//!   GET    /, /console            pages.rs
//! ```

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::Shard;
use annulus_engine::trace::Kind;
use serde_json::{Value, json};

use super::config::Config;
use super::delivery;
use super::dispatch::Desk;
use super::events::{self, Followed};
use super::fault::Fault;
use super::job::{self, Document, JobId, State};
use super::keys::{Caller, Keys};
use super::meters::Meters;
use super::pages;
use super::purge;
use super::queue::QueueError;
use super::store::{Shelf, StoreError};
use super::variants::answer;
use super::webhooks::dead;
use super::{tus, upload};
use crate::serve::wire::{Either, either};
use crate::serve::{Body, Problem, Reply, Request, Service};

/// Dead letters in one answer, unless fewer are asked for.
const DEAD_MAX: usize = 100;

/// The service on one shard.
pub struct Api {
    pub(super) shard: Shard,
    pub(super) config: Arc<Config>,
    pub(super) keys: Arc<Keys>,
    pub(super) desk: Desk,
    pub(super) shelf: Rc<dyn Shelf>,
    pub(super) meters: Meters,
}

impl Service for Api {
    const TRACED: &'static Kind = &Kind {
        name: "image request",
        about: "From the arrival of a request's head to its answer, an upload's body included.",
        away: "the client's bytes, the disk, or the job",
    };

    async fn answer(&self, request: &Request, body: &mut Body<'_>) -> Reply {
        let reply = match self.route(request, body).await {
            Ok(reply) => reply,
            Err(problem) => self.config.origins.preflight(request).unwrap_or_else(|| problem.into()),
        };
        let reply = self.config.origins.mark(request, reply);
        self.meters.answered(reply.status);
        reply
    }

    fn on_refused(&self, status: u16) {
        self.meters.answered(status);
    }
}

impl Api {
    /// The API on this shard.
    pub fn new(shard: &Shard, config: Arc<Config>, keys: Arc<Keys>, desk: Desk) -> Api {
        let shelf = desk.objects.on_shard(shard);
        Api { shard: shard.clone(), config, keys, desk, shelf, meters: Meters::of(shard) }
    }

    async fn route(&self, request: &Request, body: &mut Body<'_>) -> Result<Reply, Problem> {
        let mut segments = request.segments();
        let place = [(); 5].map(|()| segments.next());
        match place {
            [Some("v1"), rest @ ..] => self.version_1(request, body, rest).await,
            [Some(_), None, ..] => self.top(request),
            _ => Err(nothing_here()),
        }
    }

    /// What is not part of the API proper.
    fn top(&self, request: &Request) -> Result<Reply, Problem> {
        let path = request.path();
        match path {
            "/health" => reading(request).map(|()| self.health()),
            "/metrics" => {
                reading(request)?;
                let text = self.meters.render(&self.shard, &self.desk, &self.keys.quotas);
                Ok(Reply::bytes(200, "text/plain; version=0.0.4; charset=utf-8", text.into_bytes()))
            }
            _ => {
                let page = pages::page(path).ok_or_else(nothing_here)?;
                reading(request).map(|()| page)
            }
        }
    }

    async fn version_1(
        &self,
        request: &Request,
        body: &mut Body<'_>,
        place: [Option<&str>; 4],
    ) -> Result<Reply, Problem> {
        match (place, request.method()) {
            // Keys of images cannot be guessed: whoever has one may see it, so that pages can show it.
            ([Some("images"), Some(key), None, _], "GET" | "HEAD") => delivery::deliver(self, request, key).await,
            ([Some("images"), Some(_), None, _], _) => Err(only("GET, HEAD")),
            // The address itself is the leave.
            ([Some("images"), Some(_), Some(_), _], "GET" | "HEAD") => answer::deliver(self, request, body).await,
            ([Some("images"), Some(_), Some(_), _], _) => Err(only("GET, HEAD")),
            ([Some("images"), None, ..], "POST") => {
                let caller = self.keys.caller(request)?;
                upload::upload(self, request, body, caller.tenant).await
            }
            ([Some("images"), None, ..], _) => Err(only("POST")),
            ([Some("uploads"), None, ..], "POST") => {
                self.keys.caller(request)?;
                upload::invite(self)
            }
            ([Some("uploads"), None, ..], _) => Err(only("POST")),
            ([Some("tus"), id, None, _], _) => {
                Ok(tus::answer(self, request, body, id.filter(|id| !id.is_empty())).await)
            }
            ([Some("jobs"), Some(id), None, _], "GET" | "HEAD") => self.job(request, body, id).await,
            ([Some("jobs"), Some(id), None, _], "DELETE") if request.query_value("purge").is_some() => {
                purge::purge(self, request, id).await
            }
            ([Some("jobs"), Some(id), None, _], "DELETE") => self.cancel(request, id).await,
            ([Some("jobs"), Some(_), None, _], _) => Err(only("GET, HEAD, DELETE")),
            ([Some("jobs"), Some(id), Some("events"), None], "GET") => self.events_of_one(request, id).await,
            ([Some("jobs"), Some(_), Some("events"), None], _) => Err(only("GET")),
            ([Some("events"), None, ..], "GET") => self.events_of_several(request).await,
            ([Some("events"), None, ..], _) => Err(only("GET")),
            ([Some("dead"), None, ..], "GET" | "HEAD") => self.dead(request).await,
            ([Some("dead"), None, ..], _) => Err(only("GET, HEAD")),
            ([Some("dead"), Some(id), Some("retry"), None], "POST") => self.retry(request, id).await,
            ([Some("dead"), Some(_), Some("retry"), None], _) => Err(only("POST")),
            ([Some("webhooks"), Some("dead"), rest @ ..], _) => self.dead_letters(request, rest).await,
            ([Some("presets"), None, ..], "GET" | "HEAD") => {
                self.keys.caller(request)?;
                Ok(private(Reply::json(200, &self.presets())))
            }
            ([Some("presets"), None, ..], _) => Err(only("GET, HEAD")),
            ([Some("figures"), None, ..], "GET" | "HEAD") => {
                self.admin(request)?;
                Ok(private(Reply::json(200, &self.meters.figures(&self.shard, &self.desk))))
            }
            ([Some("figures"), None, ..], _) => Err(only("GET, HEAD")),
            _ => Err(nothing_here()),
        }
    }

    async fn dead_letters(&self, request: &Request, place: [Option<&str>; 2]) -> Result<Reply, Problem> {
        match (place, request.method()) {
            ([None, _], "GET" | "HEAD") => dead::list(self, request).await,
            ([None, _], _) => Err(only("GET, HEAD")),
            ([Some("retry"), None], "POST") => dead::again(self, request, None).await,
            ([Some(letter), Some("retry")], "POST") => dead::again(self, request, Some(letter)).await,
            ([Some("retry"), None] | [Some(_), Some("retry")], _) => Err(only("POST")),
            _ => Err(nothing_here()),
        }
    }

    fn health(&self) -> Reply {
        match self.shard.is_draining() {
            false => private(Reply::json(200, &json!({"status": "ok"}))),
            true => private(Reply::json(503, &json!({"status": "draining"}))),
        }
    }

    fn presets(&self) -> Value {
        let presets = &self.config.presets;
        let of = |name: &str| {
            let recipes = presets.get(name).unwrap_or_default();
            let outputs =
                recipes.iter().map(|recipe| json!({"name": recipe.name, "ops": super::options::text(recipe)}));
            json!({"name": name, "outputs": outputs.collect::<Vec<_>>()})
        };
        json!({"default": self.config.default_preset, "presets": presets.names().map(of).collect::<Vec<_>>()})
    }

    pub(super) fn admin(&self, request: &Request) -> Result<Caller, Problem> {
        let caller = self.keys.caller(request)?;
        match caller.is_admin {
            true => Ok(caller),
            false => Err(Problem::new(403, "This is for those who run the server. Show its admin_key.")),
        }
    }

    async fn job(&self, request: &Request, body: &mut Body<'_>, id: &str) -> Result<Reply, Problem> {
        let (caller, id) = (self.keys.caller(request)?, job_id(id)?);
        let document = self.desk.queue.job(&caller.tenant, id).await.map_err(of_queue)?.ok_or_else(no_such_job)?;
        let waited = self.wait(request, body, &caller, document).await?;
        let etag = format!("\"{}\"", waited.document.revision);
        if request.field("if-none-match").is_some_and(|seen| seen.split(',').any(|seen| seen.trim() == etag)) {
            return Ok(private(Reply::empty(304)).with("etag", etag));
        }
        Ok(waited.applied(private(Reply::json(200, &told(&waited.document)))).with("etag", etag))
    }

    async fn cancel(&self, request: &Request, id: &str) -> Result<Reply, Problem> {
        let (caller, id) = (self.keys.caller(request)?, job_id(id)?);
        let document = self.desk.queue.cancel(&caller.tenant, id).await.map_err(of_queue)?.ok_or_else(no_such_job)?;
        Ok(private(Reply::json(200, &told(&document))))
    }

    async fn events_of_one(&self, request: &Request, id: &str) -> Result<Reply, Problem> {
        let (caller, id) = (self.keys.caller(request)?, job_id(id)?);
        let document = self.desk.queue.job(&caller.tenant, id).await.map_err(of_queue)?.ok_or_else(no_such_job)?;
        let seen = request.field("last-event-id").and_then(|seen| seen.trim().parse().ok()).unwrap_or(0);
        if document.state.is_final() && seen >= document.revision {
            // Nothing more will come: this tells an event source not to ask again.
            return Ok(private(Reply::empty(204)));
        }
        Ok(events::stream(self, &caller.tenant, vec![Followed { id, seen }]))
    }

    async fn events_of_several(&self, request: &Request) -> Result<Reply, Problem> {
        let caller = self.keys.caller(request)?;
        let mut followed = Vec::new();
        for (_, value) in request.query().filter(|(name, _)| name == "job") {
            // `ID.REVISION`: what the client knows already.
            let (id, seen) = value.split_once('.').unwrap_or((&value, "0"));
            followed.push(Followed { id: job_id(id)?, seen: seen.parse().unwrap_or(0) });
        }
        if followed.is_empty() || followed.len() > events::FOLLOWED_MAX {
            let most = events::FOLLOWED_MAX;
            return Err(Problem::new(400, format!("Name 1 to {most} jobs: /v1/events?job=ID&job=ID.")));
        }
        Ok(events::stream(self, &caller.tenant, followed))
    }

    async fn dead(&self, request: &Request) -> Result<Reply, Problem> {
        let caller = self.keys.caller(request)?;
        let number = |name| request.query_value(name).map(|value| value.parse::<u64>()).transpose();
        let (before, limit) = match (number("before"), number("limit")) {
            (Ok(before), Ok(limit)) => (before.unwrap_or(u64::MAX >> 1), limit.unwrap_or(DEAD_MAX as u64)),
            _ => return Err(Problem::new(400, "before (milliseconds since 1970) and limit are whole numbers.")),
        };
        let most = usize::try_from(limit).unwrap_or(DEAD_MAX).clamp(1, DEAD_MAX);
        let tenant = (!caller.is_admin).then_some(&caller.tenant);
        let dead = self.desk.queue.dead(tenant, before, most).await.map_err(of_queue)?;
        let one = |(tenant, document): &(job::Tenant, Document)| {
            let mut told = told(document);
            told["tenant"] = json!(&*tenant.0);
            told
        };
        let next = dead.last().filter(|_| dead.len() == most).and_then(|(_, document)| document.finished_ms);
        let jobs: Vec<Value> = dead.iter().map(one).collect();
        Ok(private(Reply::json(200, &json!({"jobs": jobs, "next_before": next}))))
    }

    async fn retry(&self, request: &Request, id: &str) -> Result<Reply, Problem> {
        let (caller, id) = (self.keys.caller(request)?, job_id(id)?);
        let tenant = (!caller.is_admin).then_some(&caller.tenant);
        let document = self.desk.queue.retry(tenant, id).await.map_err(of_queue)?.ok_or_else(no_such_job)?;
        if document.state.is_final() {
            let detail = format!("The job is {}: only dead ones are tried again.", name_of(document.state));
            return Err(Problem::new(409, detail).of_kind("about:blank#not-dead", "The job is not dead"));
        }
        Ok(private(Reply::json(202, &told(&document))).with("location", format!("/v1/jobs/{id}")))
    }

    /// Waits for a job's end as long as `Prefer: wait=N` (RFC 7240 section 4.3) and the server's limit say, and as long
    /// as the client is there.
    pub(super) async fn wait(
        &self,
        request: &Request,
        body: &mut Body<'_>,
        caller: &Caller,
        document: Document,
    ) -> Result<Waited, Problem> {
        let Some(preferred) = preferred_wait(request) else { return Ok(Waited { document, wait: None }) };
        let wait = Duration::from_secs(preferred).min(self.config.wait_max);
        let deadline = self.shard.now() + wait;
        let mut waited = Waited { document, wait: Some(wait.as_secs()) };
        while !waited.document.state.is_final() && self.shard.now() < deadline {
            let following = self.desk.queue.follow(&caller.tenant, waited.document.id, waited.document.revision);
            let left = deadline.saturating_sub(self.shard.now());
            let following = self.shard.until_drained(self.shard.timeout(left, following));
            match either(following, body.left()).await {
                Either::First(Some(Ok(Ok(Some(document))))) => waited.document = document,
                Either::First(Some(Ok(Err(error)))) => return Err(of_queue(error)),
                // Its time is over, the server stops, or the document is gone: what is known is told.
                Either::First(None | Some(Err(_) | Ok(Ok(None)))) | Either::Second(()) => break,
            }
        }
        Ok(waited)
    }
}

/// A job after it was waited for.
pub(super) struct Waited {
    /// As it is now.
    pub(super) document: Document,
    /// Seconds that would have been waited, if that was asked.
    wait: Option<u64>,
}

impl Waited {
    /// The answer, which says that a wish was heard.
    pub(super) fn applied(&self, reply: Reply) -> Reply {
        match self.wait {
            Some(seconds) => reply.with("preference-applied", format!("wait={seconds}")),
            None => reply,
        }
    }
}

fn preferred_wait(request: &Request) -> Option<u64> {
    let preferences = request.fields().get_all("prefer").filter_map(|value| std::str::from_utf8(value).ok());
    let mut waits = preferences.flat_map(|value| value.split([',', ';'])).filter_map(|preference| {
        let (name, value) = preference.trim().split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"').parse::<u64>().ok())?
    });
    waits.next()
}

/// A document as clients see it: with addresses.
pub(super) fn told(document: &Document) -> Value {
    let mut told = serde_json::to_value(document).unwrap_or_default();
    told["url"] = json!(format!("/v1/jobs/{}", document.id));
    for (output, told) in document.outputs.iter().zip(told["outputs"].as_array_mut().into_iter().flatten()) {
        told["url"] = json!(format!("/v1/images/{}", output.key));
        told["type"] = json!(output.format.media_type());
    }
    told
}

/// A state's name as documents write it.
pub(super) fn name_of(state: State) -> &'static str {
    match state {
        State::Uploaded => "uploaded",
        State::Queued => "queued",
        State::Leased => "leased",
        State::Done => "done",
        State::Failed => "failed",
        State::Dead => "dead",
        State::Cancelled => "cancelled",
    }
}

/// An answer that belongs to one tenant and changes.
pub(super) fn private(reply: Reply) -> Reply {
    reply.with("cache-control", "no-store")
}

pub(super) fn nothing_here() -> Problem {
    Problem::new(404, "There is nothing at this address. The API is at /v1/images, /v1/jobs/ID and /v1/dead.")
}

pub(super) fn no_such_job() -> Problem {
    Problem::new(404, "There is no such job of yours. Its id may be wrong, or it ended long ago and was forgotten.")
}

fn only(methods: &'static str) -> Problem {
    Problem::new(405, format!("This address takes {methods}.")).with("allow", methods)
}

fn reading(request: &Request) -> Result<(), Problem> {
    if request.reads() { Ok(()) } else { Err(only("GET, HEAD")) }
}

pub(super) fn job_id(text: &str) -> Result<JobId, Problem> {
    // What cannot be an id is nobody's job.
    text.parse().map_err(|_not_an_id| no_such_job())
}

/// What the image or the wish is at fault for.
pub(super) fn of_fault(fault: &Fault) -> Problem {
    let problem = job::Problem::from(fault);
    Problem::new(problem.status, problem.detail).of_kind(problem.kind, problem.title)
}

/// The queue did not do it.
pub(super) fn of_queue(error: QueueError) -> Problem {
    match error {
        QueueError::Busy => {
            let detail = "The server has more to write down than its disk takes right now. Ask again in a second.";
            Problem::new(503, detail).with("retry-after", "1")
        }
        QueueError::Full(_) => out_of_room(),
        QueueError::Io(detail) => {
            crate::warn!("image: the queue: {detail}");
            Problem::new(503, "The server cannot write to its queue. Ask again later, or tell those who run it.")
                .with("retry-after", "30")
        }
        QueueError::Gone => Problem::new(503, "The server is going away. Ask again.").with("retry-after", "5"),
    }
}

/// The store did not do it.
pub(super) fn of_store(error: StoreError) -> Problem {
    match error {
        StoreError::Missing(_) => Problem::new(404, "There is no such image. It may have been removed."),
        StoreError::Full(_) => out_of_room(),
        StoreError::Io(detail) => {
            crate::warn!("image: the store: {detail}");
            Problem::new(503, "The server cannot use its storage. Ask again later, or tell those who run it.")
                .with("retry-after", "30")
        }
    }
}

fn out_of_room() -> Problem {
    Problem::new(507, "The server has no room left on its disk. Ask again later, or tell those who run it.")
        .with("retry-after", "60")
}
