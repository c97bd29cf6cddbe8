//! Rows read as a job's document.

use rusqlite::Row;

use super::{Ledger, Sql, WorkState, parse, priority, unreadable, unsigned};
use crate::image::fault::Fault;
use crate::image::job::{Document, JobId, JobTimings, Problem, Source, State};
use crate::image::work::Manifest;

/// What [`Ledger::document`] reads of a job and its work.
pub(super) const DOCUMENT: &str = "
    jobs.id AS id, jobs.tenant AS tenant, jobs.work AS work, jobs.revision + works.revision AS revision,
    jobs.asked AS asked, jobs.priority AS priority, jobs.delayed AS delayed, jobs.wait_ms AS wait_ms,
    jobs.created_ms AS created_ms, jobs.finished_ms AS finished_ms, jobs.cancelled AS cancelled, works.state AS state,
    works.turn AS turn, works.attempts AS attempts, works.header AS header, works.len AS len,
    works.original AS original, works.lane AS lane,
    works.manifest AS manifest, works.fault AS fault, works.started_ms AS started_ms, works.due_ms AS due_ms
    FROM jobs JOIN works ON works.id = jobs.work";

impl Ledger {
    pub(super) fn document(&self, row: &Row<'_>) -> Sql<Document> {
        let state = match row.get("cancelled")? {
            true => State::Cancelled,
            false => WorkState::of(row.get("state")?)?.of_job(),
        };
        let (work, turn) = (row.get::<_, i64>("work")?, unsigned(row, "turn")?);
        let running = self.deadlines.get(&work).filter(|deadline| state == State::Leased && deadline.turn == turn);
        let progress = match state {
            State::Done => 1.0,
            _ => running.map_or(0.0, |deadline| deadline.progress.clamp(0.0, 0.999)),
        };
        let manifest: Option<String> = row.get("manifest")?;
        let manifest: Option<Manifest> = manifest.filter(|_| state == State::Done).as_deref().map(parse).transpose()?;
        let fault: Option<String> = row.get("fault")?;
        let fault: Option<Fault> = fault.as_deref().map(parse).transpose()?;
        let header: crate::image::header::Header = parse(&row.get::<_, String>("header")?)?;
        let (attempts, original): (u32, String) = (row.get("attempts")?, row.get("original")?);
        let started_ms = row.get::<_, Option<i64>>("started_ms")?.map(|at| at as u64);
        let created_ms = unsigned(row, "created_ms")?;
        let lane_reason = manifest.as_ref().map(|manifest| manifest.lane_reason.clone()).filter(|why| !why.is_empty());
        let (timings, outputs) = manifest.map(|manifest| (manifest.timings, manifest.outputs)).unzip();
        let queued_ms = started_ms.map_or(0, |started| started.saturating_sub(created_ms));
        Ok(Document {
            id: JobId(row.get("id")?),
            state,
            // Progress moves within a revision of the work; the next revision is above all of it.
            revision: unsigned(row, "revision")? << 10 | (progress * 1000.0) as u64,
            priority: priority(row.get("priority")?),
            asked: row.get("asked")?,
            source: Source {
                format: header.format,
                width: header.width,
                height: header.height,
                bytes: unsigned(row, "len")?,
                key: original.parse().map_err(|_not_a_key| unreadable(format!("{original} is no key")))?,
            },
            attempts,
            attempts_max: self.options.attempts_max,
            progress,
            lane: row.get("lane")?,
            lane_reason,
            delayed: row.get("delayed")?,
            predicted_wait_ms: unsigned(row, "wait_ms")?,
            created_ms,
            started_ms,
            finished_ms: row.get::<_, Option<i64>>("finished_ms")?.map(|at| at as u64),
            next_attempt_ms: match state {
                State::Queued if attempts > 0 => Some(unsigned(row, "due_ms")?),
                _ => None,
            },
            outputs: outputs.unwrap_or_default(),
            timings: timings.map(|timings| JobTimings { queued_ms, ..timings }),
            error: fault.filter(|_| state != State::Cancelled).as_ref().map(Problem::from),
        })
    }
}
