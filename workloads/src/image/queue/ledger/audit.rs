//! What is noted of changes for the account of jobs, in the transaction that makes them; see [`crate::image::audit`].

use rusqlite::params;

use super::{Ledger, Sql, WorkState, now_ms, text};
use crate::image::audit::{Event, Noted, Place};
use crate::image::fault::Fault;
use crate::image::job::JobId;

/// Beside the queue's own tables, and only where an account is kept: releases that know none pass it over. Places are never
/// given twice, so that one that was sent is not taken for a later one.
const OUTBOX: &str = "CREATE TABLE IF NOT EXISTS events (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    job BLOB NOT NULL,
    revision INTEGER NOT NULL,
    event TEXT NOT NULL,
    time_ms INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    lane TEXT,
    bytes_in INTEGER NOT NULL,
    width INTEGER,
    height INTEGER,
    bytes_out INTEGER,
    error TEXT
) STRICT";

/// What is known of jobs and their work, as an event has it: `?1` is the event, `?2` now, `?3` the fault.
const NOTE: &str = "
    INSERT INTO events (job, revision, event, time_ms, tenant, attempt, lane, bytes_in, width, height, bytes_out, error)
    SELECT jobs.id, jobs.revision + works.revision, ?1, ?2, jobs.tenant, works.attempts, works.lane, works.len,
        json_extract(works.header, '$.width'), json_extract(works.header, '$.height'),
        CASE WHEN ?1 = 'done' THEN
            (SELECT sum(json_extract(output.value, '$.bytes')) FROM json_each(works.manifest, '$.outputs') AS output) END,
        ?3
    FROM jobs JOIN works ON works.id = jobs.work WHERE ";

/// How much of the outbox is used.
#[derive(Debug, Default)]
pub(super) struct Room {
    most: u64,
    kept: u64,
    /// Of them, what the transaction at hand has added or taken out.
    changed: i64,
    /// Left out for want of room.
    lost: u64,
    /// Of them, in the transaction at hand.
    losing: u64,
}

impl Room {
    pub(super) fn commit(&mut self) {
        self.kept = self.now();
        self.lost += self.losing;
        (self.changed, self.losing) = (0, 0);
    }

    pub(super) fn roll_back(&mut self) {
        (self.changed, self.losing) = (0, 0);
    }

    fn now(&self) -> u64 {
        self.kept.saturating_add_signed(self.changed)
    }
}

/// What a change of a work's state is called.
pub(super) fn event(from: WorkState, to: WorkState, fault: Option<&Fault>) -> Event {
    match to {
        WorkState::Leased => Event::Leased,
        WorkState::Done => Event::Done,
        WorkState::Failed => Event::Failed,
        WorkState::Dead => Event::Dead,
        WorkState::Cancelled => Event::Cancelled,
        WorkState::Waiting if fault.is_some() => Event::Retried,
        WorkState::Waiting if from == WorkState::Leased => Event::Released,
        WorkState::Waiting => Event::Revived,
    }
}

impl Ledger {
    pub(super) fn open_outbox(&mut self) -> Sql<()> {
        let most = self.options.events_max;
        if most == 0 {
            return Ok(());
        }
        self.connection.execute_batch(OUTBOX)?;
        let kept: i64 = self.connection.query_row("SELECT count(*) FROM events", [], |row| row.get(0))?;
        self.outbox = Some(Room { most, kept: kept.max(0) as u64, ..Room::default() });
        Ok(())
    }

    /// How many events wait, and how many were left out.
    pub(crate) fn outbox_figures(&self) -> (u64, u64) {
        self.outbox.as_ref().map_or((0, 0), |outbox| (outbox.kept, outbox.lost))
    }

    /// Something happened to a work, and so to all jobs that want it.
    pub(super) fn audit(&mut self, work: i64, event: Event, fault: Option<&Fault>) -> Sql<()> {
        let Some(outbox) = &mut self.outbox else { return Ok(()) };
        if outbox.now() >= outbox.most {
            let sql = "SELECT count(*) FROM jobs WHERE work = ?1 AND NOT cancelled";
            let jobs: i64 = self.connection.prepare_cached(sql)?.query_row(params![work], |row| row.get(0))?;
            outbox.losing += jobs.max(0) as u64;
            return Ok(());
        }
        let sql = format!("{NOTE} jobs.work = ?4 AND NOT jobs.cancelled");
        let noted = params![event.name(), now_ms(), fault.map(text), work];
        outbox.changed += self.connection.prepare_cached(&sql)?.execute(noted)? as i64;
        Ok(())
    }

    /// Something happened to a job alone.
    pub(super) fn audit_job(&mut self, job: JobId, event: Event) -> Sql<()> {
        let Some(outbox) = &mut self.outbox else { return Ok(()) };
        if outbox.now() >= outbox.most {
            outbox.losing += 1;
            return Ok(());
        }
        let sql = format!("{NOTE} jobs.id = ?4");
        let noted = params![event.name(), now_ms(), None::<String>, job.0];
        outbox.changed += self.connection.prepare_cached(&sql)?.execute(noted)? as i64;
        Ok(())
    }

    /// The first events.
    pub fn events(&self, most: usize) -> Sql<Vec<Noted>> {
        if self.outbox.is_none() {
            return Ok(Vec::new());
        }
        let sql =
            "SELECT place, job, revision, event, time_ms, tenant, attempt, lane, bytes_in, width, height, bytes_out,
                          error FROM events ORDER BY place LIMIT ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![most as i64], |row| {
            Ok(Noted {
                place: Place(row.get::<_, i64>("place")?.unsigned_abs(), 0),
                job: JobId(row.get("job")?).to_string(),
                revision: row.get("revision")?,
                event: row.get("event")?,
                time_ms: row.get("time_ms")?,
                tenant: row.get("tenant")?,
                attempt: row.get("attempt")?,
                lane: row.get("lane")?,
                bytes_in: row.get("bytes_in")?,
                width: row.get("width")?,
                height: row.get("height")?,
                bytes_out: row.get("bytes_out")?,
                error: row.get("error")?,
            })
        })?;
        rows.collect()
    }

    /// All up to this place were sent.
    pub fn forget_events(&mut self, upto: Place) -> Sql<()> {
        let Some(outbox) = &mut self.outbox else { return Ok(()) };
        let gone =
            self.connection.prepare_cached("DELETE FROM events WHERE place <= ?1")?.execute(params![upto.0 as i64])?;
        outbox.changed -= gone as i64;
        Ok(())
    }
}
