//! `/v1/tus`: what a client of tus asks, and what it is told.

use std::sync::Arc;
use std::time::Duration;

use annulus_engine::Shard;

use super::fields::{ALGORITHMS, Checksum, EXTENSIONS, METADATA_BYTES_MAX, VERSION, Wrong, is_piece, metadata, number};
use super::piece::{Reached, remove, take, write_new};
use super::record::{Facts, UploadId, fresh};
use super::table::{Claim, Not, Seen, Tus, now};
use crate::image::api::{Api, of_fault, of_store};
use crate::image::asked::Wishes;
use crate::image::fault::{Fault, Kind};
use crate::image::intake::judge;
use crate::image::job::{JobId, Tenant, random};
use crate::image::quotas::upload_begins;
use crate::image::store::StoreError;
use crate::image::upload::{asked, idempotency_key};
use crate::serve::date::http_date;
use crate::serve::{Body, Problem, Reply, Request};

/// What parts the outputs in the metadata's `ops`, where a key cannot come twice.
const OPS_APART: char = '&';
/// When a client that was one too many may come again, in seconds: some others have ended by then.
const RETRY_SECONDS: &str = "10";

/// Answers a request at `/v1/tus`, or at `/v1/tus/ID`.
pub(in crate::image) async fn answer(api: &Api, request: &Request, body: &mut Body<'_>, id: Option<&str>) -> Reply {
    let method = method(request);
    let answered = match &api.desk.tus {
        None => Err(not_offered()),
        Some(_) if method == "OPTIONS" => return options(api),
        Some(tus) => route(api, tus, request, body, method, id).await,
    };
    answered.unwrap_or_else(Reply::from).with("tus-resumable", VERSION)
}

/// The method that is meant (tus, "X-HTTP-Method-Override").
fn method(request: &Request) -> &str {
    match request.method() {
        "POST" => request.field("x-http-method-override").map_or("POST", str::trim),
        method => method,
    }
}

/// tus, "OPTIONS". Nobody needs a key to hear what is offered.
fn options(api: &Api) -> Reply {
    Reply::empty(204)
        .with("tus-resumable", VERSION)
        .with("tus-version", VERSION)
        .with("tus-extension", EXTENSIONS)
        .with("tus-checksum-algorithm", ALGORITHMS)
        .with("tus-max-size", api.config.limits.bytes_max.to_string())
}

async fn route(
    api: &Api,
    tus: &Arc<Tus>,
    request: &Request,
    body: &mut Body<'_>,
    method: &str,
    id: Option<&str>,
) -> Result<Reply, Problem> {
    if request.field("tus-resumable").map(str::trim) != Some(VERSION) {
        let detail = format!("This server speaks tus {VERSION}: send Tus-Resumable: {VERSION}.");
        return Err(Problem::new(412, detail).with("tus-version", VERSION));
    }
    let tenant = api.keys.caller(request)?.tenant;
    let Some(id) = id else {
        return match method {
            "POST" => create(api, tus, request, body, tenant).await,
            _ => Err(only("OPTIONS, POST")),
        };
    };
    // What cannot be a name is nobody's upload.
    let id = UploadId::read(id).ok_or_else(|| no(Not::There))?;
    match method {
        "HEAD" => head(tus, &tenant, id),
        "PATCH" => patch(api, tus, request, body, &tenant, id).await,
        "DELETE" => {
            tus.terminate(&tenant, id).map_err(no)?;
            remove(&api.shard, tus, id).await.map_err(|error| of_io(&error))?;
            Ok(private(204))
        }
        _ => Err(only("OPTIONS, HEAD, PATCH, DELETE")),
    }
}

/// tus, "Creation".
async fn create(
    api: &Api,
    tus: &Arc<Tus>,
    request: &Request,
    body: &mut Body<'_>,
    tenant: Tenant,
) -> Result<Reply, Problem> {
    let checksum = checksum(request)?;
    let has_piece = request.body_len() != Some(0);
    if has_piece && !is_piece(request.field("content-type")) {
        return Err(no_piece());
    }
    let facts = facts(api, tus, request, tenant)?;
    if request.body_len().is_some_and(|piece| piece > facts.len) {
        return Err(beyond(facts.len));
    }
    let _arriving = upload_begins(api, &Tenant::named(&facts.tenant), Some(facts.len)).await?;
    judge(api.desk.gate.ask(None))?;
    let mut id = UploadId([0; 16]);
    random(&mut id.0).map_err(|error| of_store(StoreError::Io(error.to_string())))?;
    let mut claim = tus.announce(id, facts).map_err(|why| {
        let detail = format!("{}. Send it again in {RETRY_SECONDS} s.", why.0);
        Problem::new(503, detail)
            .of_kind("about:blank#too-many-uploads", "Too many uploads are unfinished")
            .with("retry-after", RETRY_SECONDS)
    })?;
    if let Err(error) = make(&api.shard, tus, &claim).await {
        claim.failed();
        // What is left of it is removed by the next start, if it cannot be now.
        let _removed = remove(&api.shard, tus, id).await;
        return Err(of_io(&error));
    }
    let reached = match has_piece {
        false => Reached::Offset(0),
        true => match take(api, tus, &mut claim, body, checksum).await {
            Ok(reached) => reached,
            Err(problem) => {
                // Whoever is not told of an upload cannot go on with it.
                if !claim.is_over() {
                    claim.failed();
                    remove(&api.shard, tus, id).await.map_err(|error| of_io(&error))?;
                }
                return Err(problem);
            }
        },
    };
    let location = format!("/v1/tus/{}", id.text());
    Ok(at(reply(201, &reached, &claim).with("location", location), &claim.facts))
}

/// Makes an upload's files: once their folder is synced, a crash leaves both.
async fn make(shard: &Shard, tus: &Tus, claim: &Claim) -> std::io::Result<()> {
    write_new(shard, &tus.folder.part(claim.id), Vec::new()).await?;
    write_new(shard, &tus.folder.record(claim.id), fresh(&claim.facts)).await?;
    shard.sync_directory(&tus.folder.0).await
}

/// What a creation says, checked.
fn facts(api: &Api, tus: &Tus, request: &Request, tenant: Tenant) -> Result<Facts, Problem> {
    if request.field("upload-defer-length").is_some() {
        return Err(Problem::new(400, "An upload says its length when it is created: send Upload-Length."));
    }
    if request.field("upload-concat").is_some() {
        return Err(Problem::new(400, "Uploads are not put together here: send an image as one upload."));
    }
    let len = number("Upload-Length", request.field("upload-length")).map_err(of_field)?;
    api.config.limits.check_bytes(len).map_err(|fault| of_fault(&fault))?;
    if len == 0 {
        return Err(of_fault(&Fault::new(Kind::BadImage, "an upload of no bytes is no image")));
    }
    let mut words: Vec<(String, String)> = request.query().collect();
    if let Some((name, _)) = words.iter().find(|(name, _)| !Wishes::knows(name)) {
        let detail = format!("The query says {name:?}. Known are preset, ops, priority and lane.");
        return Err(of_fault(&Fault::new(Kind::BadRequest, detail)));
    }
    let told = match request.fields().get("upload-metadata") {
        None => "",
        Some(value) => std::str::from_utf8(value)
            .map_err(|_not_text| Problem::new(400, "Upload-Metadata is ASCII: keys, and values in base64."))?,
    };
    // Other keys, such as filename and filetype, are the client's own; what an image is, is seen from its bytes.
    for (name, value) in metadata(told).map_err(of_field)?.into_iter().filter(|(name, _)| Wishes::knows(name)) {
        let Ok(value) = String::from_utf8(value) else {
            return Err(Problem::new(400, format!("The value of {name:?} in Upload-Metadata is no text.")));
        };
        match &name[..] {
            "ops" => words.extend(value.split(OPS_APART).map(|ops| (name.clone(), ops.to_owned()))),
            _ => words.push((name, value)),
        }
    }
    if words.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > 2 * METADATA_BYTES_MAX {
        return Err(Problem::new(413, format!("More than {} bytes say what to make.", 2 * METADATA_BYTES_MAX)));
    }
    let mut wishes = Wishes::default();
    for (name, value) in &words {
        let _is_ours = wishes.add(name, value).map_err(|fault| of_fault(&fault))?;
    }
    asked(api, &wishes)?;
    let idempotency_key = idempotency_key(request)?;
    let expires = now().saturating_add(tus.settings.life.as_secs());
    Ok(Facts { tenant: tenant.0.to_string(), len, metadata: told.to_owned(), words, idempotency_key, expires })
}

/// tus, "HEAD".
fn head(tus: &Tus, tenant: &Tenant, id: UploadId) -> Result<Reply, Problem> {
    let Seen { facts, offset, job } = tus.look(tenant, id).map_err(no)?;
    let reply = private(200).with("upload-offset", offset.to_string()).with("upload-length", facts.len.to_string());
    let reply = if facts.metadata.is_empty() { reply } else { reply.with("upload-metadata", facts.metadata.clone()) };
    let reply = match job {
        Some(job) => with_job(reply, job),
        None => reply,
    };
    Ok(at(reply, &facts))
}

/// tus, "PATCH".
async fn patch(
    api: &Api,
    tus: &Arc<Tus>,
    request: &Request,
    body: &mut Body<'_>,
    tenant: &Tenant,
    id: UploadId,
) -> Result<Reply, Problem> {
    if !is_piece(request.field("content-type")) {
        return Err(no_piece());
    }
    let offset = number("Upload-Offset", request.field("upload-offset")).map_err(of_field)?;
    let checksum = checksum(request)?;
    let seen = tus.look(tenant, id).map_err(no)?;
    if let Some(job) = seen.job {
        return finished(request, &seen, job, offset);
    }
    let mut claim = tus.claim(tenant, id).map_err(no)?;
    if claim.offset != offset {
        return Err(elsewhere(claim.offset));
    }
    if request.body_len().is_some_and(|piece| piece > claim.facts.len - offset) {
        return Err(beyond(claim.facts.len));
    }
    let reached = take(api, tus, &mut claim, body, checksum).await?;
    Ok(at(reply(204, &reached, &claim), &claim.facts))
}

/// A piece of what is a job's already: nothing can be added, and nothing is missing.
fn finished(request: &Request, seen: &Seen, job: JobId, offset: u64) -> Result<Reply, Problem> {
    match (offset == seen.offset, request.body_len()) {
        (false, _) => Err(elsewhere(seen.offset)),
        (true, Some(0)) => {
            let reply = with_job(private(204).with("upload-offset", seen.offset.to_string()), job);
            Ok(at(reply, &seen.facts))
        }
        (true, _) => Err(beyond(seen.facts.len)),
    }
}

fn reply(status: u16, reached: &Reached, claim: &Claim) -> Reply {
    match reached {
        Reached::Offset(offset) => private(status).with("upload-offset", offset.to_string()),
        Reached::Job(job) => with_job(private(status).with("upload-offset", claim.facts.len.to_string()), *job),
    }
}

fn private(status: u16) -> Reply {
    Reply::empty(status).with("cache-control", "no-store")
}

/// The answer with when the upload goes (tus, "Expiration").
fn at(reply: Reply, facts: &Facts) -> Reply {
    reply.with("upload-expires", http_date(facts.expires))
}

/// The answer with what became of the upload.
fn with_job(reply: Reply, job: JobId) -> Reply {
    reply.with("x-annulus-job", job.to_string()).with("x-annulus-job-location", format!("/v1/jobs/{job}"))
}

fn checksum(request: &Request) -> Result<Option<Checksum>, Problem> {
    request.field("upload-checksum").map(Checksum::read).transpose().map_err(of_field)
}

fn of_field(wrong: Wrong) -> Problem {
    Problem::new(wrong.status, wrong.says)
}

fn of_io(error: &std::io::Error) -> Problem {
    of_store(StoreError::of(error, "making or removing", &"a resumable upload"))
}

fn only(methods: &'static str) -> Problem {
    Problem::new(405, format!("This address takes {methods}.")).with("allow", methods)
}

fn no_piece() -> Problem {
    Problem::new(415, format!("A piece of an upload comes with Content-Type: {}.", super::fields::PIECE_TYPE))
}

fn elsewhere(offset: u64) -> Problem {
    let detail = format!("The upload has {offset} bytes: the next piece begins there.");
    Problem::new(409, detail).with("upload-offset", offset.to_string())
}

fn beyond(len: u64) -> Problem {
    Problem::new(413, format!("The piece goes beyond the {len} bytes that Upload-Length says."))
}

fn not_offered() -> Problem {
    let detail = "This server takes no resumable uploads (image.tus.enabled). Upload to /v1/images.";
    Problem::new(404, detail)
}

fn no(not: Not) -> Problem {
    match not {
        Not::There => Problem::new(404, "There is no such upload of yours. Begin a new one."),
        Not::InTime => Problem::new(410, "The time of this upload is over. Begin a new one."),
        Not::Free => Problem::new(423, "Another request writes this upload. Ask again in a second."),
    }
}

/// Removes uploads whose time is over, for as long as the shard runs.
pub(in crate::image) async fn sweep(shard: Shard, tus: Arc<Tus>) {
    let every = (tus.settings.life / 10).clamp(Duration::from_secs(1), Duration::from_secs(60));
    loop {
        if shard.until_drained(shard.sleep(every)).await.is_none() {
            return;
        }
        for id in tus.expire(now()) {
            if let Err(error) = remove(&shard, &tus, id).await {
                crate::warn!("image: the resumable upload {} is too old: {error}", id.text());
            }
        }
    }
}
