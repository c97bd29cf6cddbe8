//! What the scripts answer, read into documents, works and sums. Whatever cannot be read is an error with its place, never a
//! guess: other versions of annulus may have written it.

use std::collections::HashMap;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::hex;
use crate::image::fault::Fault;
use crate::image::header::Header;
use crate::image::job::{Document, JobId, JobTimings, Priority, Problem, Source, State};
use crate::image::outbox::{Letter, Noted, Place};
use crate::image::pipeline::Cost;
use crate::image::queue::{Counts, Depth, Lease, LeaseId};
use crate::image::work::{Manifest, Work, WorkKey};
use crate::redis::Value;

/// Why a record cannot be read.
pub(super) type Unreadable = String;

/// An answer of any script.
pub(super) struct Told {
    pub(super) result: Value,
    pub(super) depth: Versioned,
    /// What the script counted.
    pub(super) counts: Counts,
    /// Events for which there was no room in the account's outbox.
    pub(super) unnoted: u64,
    /// The same of webhooks.
    pub(super) untold: u64,
}

impl Told {
    pub(super) fn read(value: Value) -> Result<Told, Unreadable> {
        let parts: [Value; 3] = value
            .into_list()
            .and_then(|parts| parts.try_into().ok())
            .ok_or("a script's answer is not its result, depth and counts")?;
        let [result, sums, counted] = parts;
        let sums = sums.as_list().ok_or("the depth is no list")?;
        let mut counts = Counts { commits: 1, committed_calls: 1, ..Counts::default() };
        let (mut unnoted, mut untold) = (0, 0);
        for (name, by) in counted.into_pairs().ok_or("the counts are no pairs")? {
            let by = by.as_int().unwrap_or(0).max(0) as u64;
            match name.as_str() {
                Some("accepted") => counts.accepted = by,
                Some("joined") => counts.joined = by,
                Some("done") => counts.done = by,
                Some("failed") => counts.failed = by,
                Some("died") => counts.died = by,
                Some("cancelled") => counts.cancelled = by,
                Some("retried") => counts.retried = by,
                Some("expired") => counts.expired = by,
                Some("unnoted") => unnoted = by,
                Some("untold") => untold = by,
                name => return Err(format!("the queue counts no {name:?}")),
            }
        }
        let depth = depth(sums.iter().map(Value::as_int)).ok_or("the depth is no six numbers")?;
        Ok(Told { result, depth, counts, unnoted, untold })
    }
}

/// Sums, and which version of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Versioned {
    pub(super) version: u64,
    pub(super) depth: Depth,
}

/// Six numbers in the scripts' order. A sum below nothing is one that Redis has lost a part of.
pub(super) fn depth(sums: impl Iterator<Item = Option<i64>>) -> Option<Versioned> {
    let sums: Vec<u64> = sums.map(|sum| sum.map(|sum| sum.max(0) as u64)).collect::<Option<_>>()?;
    let [version, interactive, bulk, leased, dead, waiting_cpu_us] = sums.try_into().ok()?;
    Some(Versioned { version, depth: Depth { interactive, bulk, leased, dead, waiting_cpu_us } })
}

/// A hash's fields.
pub(super) struct Fields(HashMap<String, Value>);

impl Fields {
    pub(super) fn read(value: Value) -> Result<Fields, Unreadable> {
        let pairs = value.into_pairs().ok_or("a record is no pairs")?;
        let named = pairs.into_iter().map(|(name, value)| Some((name.as_str()?.to_owned(), value)));
        Ok(Fields(named.collect::<Option<_>>().ok_or("a record's field has no name")?))
    }

    fn text(&self, name: &str) -> Result<&str, Unreadable> {
        self.0.get(name).and_then(Value::as_str).ok_or_else(|| format!("{name} is missing"))
    }

    fn find(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    fn number<T: FromStr>(&self, name: &str) -> Result<T, Unreadable> {
        let text = self.text(name)?;
        text.parse().map_err(|_| format!("{name} is {text:?}, and no number"))
    }

    fn find_number<T: FromStr>(&self, name: &str) -> Option<T> {
        self.find(name)?.parse().ok()
    }

    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, Unreadable> {
        serde_json::from_str(self.text(name)?).map_err(|error| format!("{name}: {error}"))
    }

    fn find_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Unreadable> {
        self.find(name).map(serde_json::from_str).transpose().map_err(|error| format!("{name}: {error}"))
    }

    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).and_then(Value::as_bytes)
    }

    pub(super) fn tenant(&self) -> Result<&str, Unreadable> {
        self.text("tenant")
    }
}

/// A job as a script shows it, with the number of its work.
pub(super) struct Shown {
    pub(super) document: Document,
    pub(super) job: Fields,
    pub(super) work: i64,
}

impl Shown {
    pub(super) fn read(value: Value, attempts_max: u32) -> Result<Shown, Unreadable> {
        let parts: [Value; 3] =
            value.into_list().and_then(|parts| parts.try_into().ok()).ok_or("a job is not its id and two records")?;
        let [id, job, work] = parts;
        let id: JobId = id.as_str().and_then(|id| id.parse().ok()).ok_or("a job has no id")?;
        let named = |why: String| format!("the record of job {id}: {why}");
        let (job, work) = (Fields::read(job).map_err(named)?, Fields::read(work).map_err(named)?);
        let document = document(id, &job, &work, attempts_max).map_err(named)?;
        let work = job.number("work").map_err(named)?;
        Ok(Shown { document, job, work })
    }

    /// The same, where a script may have found nothing.
    pub(super) fn find(value: Value, attempts_max: u32) -> Result<Option<Shown>, Unreadable> {
        if value.is_nil() { Ok(None) } else { Shown::read(value, attempts_max).map(Some) }
    }
}

fn state_of(number: u8) -> Result<State, Unreadable> {
    Ok(match number {
        0 => State::Queued,
        1 => State::Leased,
        2 => State::Done,
        3 => State::Failed,
        4 => State::Dead,
        5 => State::Cancelled,
        other => return Err(format!("{other} is no state of a work")),
    })
}

fn priority(number: u8) -> Priority {
    if number == Priority::Interactive as u8 { Priority::Interactive } else { Priority::Bulk }
}

fn document(id: JobId, job: &Fields, work: &Fields, attempts_max: u32) -> Result<Document, Unreadable> {
    let state = match job.text("cancelled")? {
        "1" => State::Cancelled,
        _ => state_of(work.number("state")?)?,
    };
    let progress = match state {
        State::Done => 1.0,
        State::Leased => work.find_number::<f32>("progress").unwrap_or(0.0).clamp(0.0, 0.999),
        _ => 0.0,
    };
    let manifest: Option<Manifest> = if state == State::Done { work.find_json("manifest")? } else { None };
    let fault: Option<Fault> = work.find_json("fault")?;
    let header: Header = work.json("header")?;
    let (attempts, original): (u32, &str) = (work.number("attempts")?, work.text("original")?);
    let (created_ms, started_ms): (u64, Option<u64>) = (job.number("created")?, work.find_number("started"));
    let lane_reason = manifest.as_ref().map(|manifest| manifest.lane_reason.clone()).filter(|why| !why.is_empty());
    let (timings, outputs) = manifest.map(|manifest| (manifest.timings, manifest.outputs)).unzip();
    let queued_ms = started_ms.map_or(0, |started: u64| started.saturating_sub(created_ms));
    let revision = job.number::<u64>("revision")? + work.number::<u64>("revision")?;
    Ok(Document {
        id,
        state,
        // Progress moves within a revision of the work; the next revision is above all of it.
        revision: revision << 10 | (progress * 1000.0) as u64,
        priority: priority(job.number("priority")?),
        asked: job.text("asked")?.to_owned(),
        source: Source {
            format: header.format,
            width: header.width,
            height: header.height,
            bytes: work.number("len")?,
            key: original.parse().map_err(|_| format!("{original} is no key"))?,
        },
        attempts,
        attempts_max,
        progress,
        lane: work.find("lane").map(str::to_owned),
        lane_reason,
        delayed: job.text("delayed")? == "1",
        predicted_wait_ms: job.number("wait")?,
        created_ms,
        started_ms,
        finished_ms: job.find_number("finished"),
        next_attempt_ms: match state {
            State::Queued if attempts > 0 => work.find_number("due"),
            _ => None,
        },
        outputs: outputs.unwrap_or_default(),
        timings: timings.map(|timings| JobTimings { queued_ms, ..timings }),
        error: fault.filter(|_| state != State::Cancelled).as_ref().map(Problem::from),
    })
}

/// A work that was leased, as the script shows it.
pub(super) fn lease(value: Value) -> Result<Lease, (Option<LeaseId>, Unreadable)> {
    let parts: Option<[Value; 2]> = value.into_list().and_then(|parts| parts.try_into().ok());
    let [id, fields] = parts.ok_or((None, "a lease is not its work and record".to_owned()))?;
    let work = id.as_int().ok_or((None, "a lease has no number".to_owned()))?;
    let fields = Fields::read(fields).map_err(|why| (None, why))?;
    let turn = fields.number("turn").map_err(|why| (None, why))?;
    let id = LeaseId { work, turn };
    leased(id, &fields).map_err(|why| (Some(id), why))
}

fn leased(id: LeaseId, fields: &Fields) -> Result<Lease, Unreadable> {
    let mut key = [0; 32];
    hex::decode_into(fields.text("key")?, &mut key).ok_or("key is no work's")?;
    let original = fields.text("original")?;
    let recipes: Vec<_> = fields.json("recipes")?;
    Ok(Lease {
        id,
        work: Work {
            key: WorkKey(key),
            original: original.parse().map_err(|_| format!("{original} is no key"))?,
            len: fields.number("len")?,
            header: fields.json("header")?,
            recipes: recipes.into(),
            cost: Cost { peak_bytes: fields.number("peak")?, cpu_us: fields.number("cpu")? },
        },
        attempt: fields.number("attempts")?,
        crashes: fields.number("crashes")?,
        priority: priority(fields.number("priority")?),
    })
}

/// An event as the stream has it.
pub(super) fn event(value: Value) -> Result<Noted, Unreadable> {
    let (place, fields) = entry(value)?;
    noted(place, &fields)
}

/// A dead letter as the stream has it.
pub(super) fn letter(value: Value) -> Result<Letter, Unreadable> {
    let (place, fields) = entry(value)?;
    let (given_up_ms, why) = (fields.number("given_up")?, fields.text("why")?.to_owned());
    Ok(Letter { noted: noted(place, &fields)?, given_up_ms, why })
}

/// An entry of a stream of events: where it is, and what it says.
fn entry(value: Value) -> Result<(Place, Fields), Unreadable> {
    let parts: Option<[Value; 2]> = value.into_list().and_then(|parts| parts.try_into().ok());
    let [place, fields] = parts.ok_or("an event is not its place and record")?;
    let place = place.as_str().and_then(|place| place.parse().ok()).ok_or("an event has no place")?;
    Ok((place, Fields::read(fields)?))
}

fn noted(place: Place, fields: &Fields) -> Result<Noted, Unreadable> {
    let header: Header = fields.json("header")?;
    Ok(Noted {
        place,
        job: fields.text("job")?.to_owned(),
        revision: fields.number("revision")?,
        event: fields.text("event")?.to_owned(),
        time_ms: fields.number("time")?,
        tenant: fields.text("tenant")?.to_owned(),
        attempt: fields.number("attempt")?,
        lane: fields.find("lane").map(str::to_owned),
        bytes_in: fields.number("len")?,
        width: Some(header.width.into()),
        height: Some(header.height.into()),
        bytes_out: fields.find_number("made"),
        error: fields.find("fault").map(str::to_owned),
    })
}
