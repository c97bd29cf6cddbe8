//! What is noted of changes for those who are told of them, in the transaction that makes them; see [`crate::image::outbox`].

use rusqlite::{Connection, Row, ToSql, params};

use super::{Ledger, Sql, WorkState, now_ms, text};
use crate::image::fault::Fault;
use crate::image::job::JobId;
use crate::image::outbox::{AGAIN_MAX, EVENTS_MAX, Event, EventSet, Fill, LETTERS_MAX, Letter, Noted, Place, Reader};

/// Columns of an event, beside its place.
const COLUMNS: &str = "job BLOB NOT NULL, revision INTEGER NOT NULL, event TEXT NOT NULL, time_ms INTEGER NOT NULL,
    tenant TEXT NOT NULL, attempt INTEGER NOT NULL, lane TEXT, bytes_in INTEGER NOT NULL, width INTEGER, height INTEGER,
    bytes_out INTEGER, error TEXT";
/// Their names.
const NAMES: &str = "job, revision, event, time_ms, tenant, attempt, lane, bytes_in, width, height, bytes_out, error";
/// The table of dead letters.
const LETTERS: &str = "webhook_letters";

/// What is known of jobs and their work, as an event has it: `?2` is the event, `?3` now, `?4` the fault.
const NOTE: &str = "
    SELECT jobs.id, jobs.revision + works.revision, ?2, ?3, jobs.tenant, works.attempts, works.lane, works.len,
        json_extract(works.header, '$.width'), json_extract(works.header, '$.height'),
        CASE WHEN ?2 = 'done' THEN
            (SELECT sum(json_extract(output.value, '$.bytes')) FROM json_each(works.manifest, '$.outputs') AS output) END,
        ?4
    FROM jobs JOIN works ON works.id = jobs.work";
/// All jobs that want the work `?1`.
const OF_WORK: &str = "jobs.work = ?1 AND NOT jobs.cancelled";
/// The job `?1`.
const OF_JOB: &str = "jobs.id = ?1";

/// The table of a reader's outbox.
fn table(reader: Reader) -> &'static str {
    match reader {
        Reader::Account => "events",
        Reader::Webhooks => "webhook_events",
    }
}

/// Rows of a table, counted without asking for them.
#[derive(Debug, Default)]
struct Rows {
    kept: u64,
    /// What the transaction at hand has added or taken out.
    changed: i64,
}

impl Rows {
    fn now(&self) -> u64 {
        self.kept.saturating_add_signed(self.changed)
    }

    fn end(&mut self, is_committed: bool) {
        if is_committed {
            self.kept = self.now();
        }
        self.changed = 0;
    }
}

/// How much of an outbox is used.
#[derive(Debug)]
pub(super) struct Room {
    reader: Reader,
    /// What its reader is told of.
    events: EventSet,
    most: u64,
    waiting: Rows,
    letters: Rows,
    /// Left out for want of room.
    lost: Rows,
}

impl Room {
    /// The transaction at hand has ended.
    pub(super) fn end(&mut self, is_committed: bool) {
        for rows in [&mut self.waiting, &mut self.letters, &mut self.lost] {
            rows.end(is_committed);
        }
    }

    /// Notes an event of these jobs, or counts those that there is no room for.
    fn note(
        &mut self,
        connection: &Connection,
        (which, id): (&str, &dyn ToSql),
        event: Event,
        fault: Option<&Fault>,
    ) -> Sql<()> {
        if self.waiting.now() >= self.most {
            let mut jobs = connection.prepare_cached(&format!("SELECT count(*) FROM jobs WHERE {which}"))?;
            self.lost.changed += jobs.query_row(params![id], |row| row.get::<_, i64>(0))?;
            return Ok(());
        }
        let sql = format!("INSERT INTO {} ({NAMES}) {NOTE} WHERE {which}", table(self.reader));
        let noted = params![id, event.name(), now_ms(), fault.map(text)];
        self.waiting.changed += connection.prepare_cached(&sql)?.execute(noted)? as i64;
        Ok(())
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
    /// Beside the queue's own tables, and only where somebody is told: releases that know none pass them over. Places are never
    /// given twice, so that one that was told is not taken for a later one.
    pub(super) fn open_outboxes(&mut self) -> Sql<()> {
        let webhooks = if self.options.webhooks.is_empty() { 0 } else { EVENTS_MAX };
        for (reader, events, most) in [
            (Reader::Account, EventSet::ALL, self.options.events_max),
            (Reader::Webhooks, self.options.webhooks, webhooks),
        ] {
            if most == 0 {
                continue;
            }
            let mut room = Room {
                reader,
                events,
                most,
                waiting: self.open_table(table(reader), "")?,
                letters: Rows::default(),
                lost: Rows::default(),
            };
            if reader == Reader::Webhooks {
                room.letters = self.open_table(LETTERS, ", why TEXT NOT NULL, given_up_ms INTEGER NOT NULL")?;
            }
            self.outboxes.push(room);
        }
        Ok(())
    }

    fn open_table(&self, table: &str, more: &str) -> Sql<Rows> {
        let place = "place INTEGER PRIMARY KEY AUTOINCREMENT";
        self.connection
            .execute_batch(&format!("CREATE TABLE IF NOT EXISTS {table} ({place}, {COLUMNS}{more}) STRICT"))?;
        let kept: i64 = self.connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
        Ok(Rows { kept: kept.max(0) as u64, changed: 0 })
    }

    fn outbox(&mut self, reader: Reader) -> Option<&mut Room> {
        self.outboxes.iter_mut().find(|room| room.reader == reader)
    }

    /// How much of a reader's outbox is used.
    pub(crate) fn fill(&self, reader: Reader) -> Fill {
        let room = self.outboxes.iter().find(|room| room.reader == reader);
        room.map_or_else(Fill::default, |room| Fill {
            waiting: room.waiting.kept,
            lost: room.lost.kept,
            dead: room.letters.kept,
        })
    }

    /// Something happened to a work, and so to all jobs that want it.
    pub(super) fn note(&mut self, work: i64, event: Event, fault: Option<&Fault>) -> Sql<()> {
        let mut rooms = self.outboxes.iter_mut().filter(|room| room.events.has(event));
        rooms.try_for_each(|room| room.note(&self.connection, (OF_WORK, &work), event, fault))
    }

    /// Something happened to a job alone.
    pub(super) fn note_job(&mut self, job: JobId, event: Event) -> Sql<()> {
        let mut rooms = self.outboxes.iter_mut().filter(|room| room.events.has(event));
        rooms.try_for_each(|room| room.note(&self.connection, (OF_JOB, &job.0), event, None))
    }

    /// A job was entered whose work has ended already. The account has that end from the jobs before; by webhooks each job's is
    /// told.
    pub(super) fn note_ended(&mut self, job: JobId, work: i64) -> Sql<()> {
        if self.outbox(Reader::Webhooks).is_none() {
            return Ok(());
        }
        let Some(standing) = self.standing(work)? else { return Ok(()) };
        let event = match standing.state {
            WorkState::Waiting | WorkState::Leased => return Ok(()),
            ended => event(ended, ended, None),
        };
        let mut rooms =
            self.outboxes.iter_mut().filter(|room| room.reader == Reader::Webhooks && room.events.has(event));
        rooms.try_for_each(|room| room.note(&self.connection, (OF_JOB, &job.0), event, standing.fault.as_ref()))
    }

    /// The first events.
    pub fn events(&self, reader: Reader, most: usize) -> Sql<Vec<Noted>> {
        if !self.outboxes.iter().any(|room| room.reader == reader) {
            return Ok(Vec::new());
        }
        let sql = format!("SELECT place, {NAMES} FROM {} ORDER BY place LIMIT ?1", table(reader));
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params![most as i64], noted)?;
        rows.collect()
    }

    /// All up to this place were told.
    pub fn forget_events(&mut self, reader: Reader, upto: Place) -> Sql<()> {
        let sql = format!("DELETE FROM {} WHERE place <= ?1", table(reader));
        if self.outbox(reader).is_none() {
            return Ok(());
        }
        let gone = self.connection.prepare_cached(&sql)?.execute(params![upto.0 as i64])?;
        if let Some(room) = self.outbox(reader) {
            room.waiting.changed -= gone as i64;
        }
        Ok(())
    }

    /// All of the webhooks' up to this place are dead letters.
    pub fn give_up_events(&mut self, upto: Place, why: &str) -> Sql<()> {
        if self.outbox(Reader::Webhooks).is_none() {
            return Ok(());
        }
        let events = table(Reader::Webhooks);
        let sql = format!(
            "INSERT INTO {LETTERS} ({NAMES}, why, given_up_ms) SELECT {NAMES}, ?2, ?3 FROM {events} WHERE place <= ?1 ORDER BY place"
        );
        let added = self.connection.prepare_cached(&sql)?.execute(params![upto.0 as i64, why, now_ms()])?;
        // Numbers that were told again are missing among them: so no more than these are kept, and sometimes fewer.
        let sql = format!("DELETE FROM {LETTERS} WHERE place <= (SELECT max(place) FROM {LETTERS}) - ?1");
        let gone = self.connection.prepare_cached(&sql)?.execute(params![LETTERS_MAX as i64])?;
        if let Some(room) = self.outbox(Reader::Webhooks) {
            room.letters.changed += added as i64 - gone as i64;
            room.lost.changed += gone as i64;
        }
        self.forget_events(Reader::Webhooks, upto)
    }

    /// Dead letters, newest first.
    pub fn letters(&self, before: Option<Place>, most: usize) -> Sql<Vec<Letter>> {
        if !self.outboxes.iter().any(|room| room.reader == Reader::Webhooks) {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT place, {NAMES}, why, given_up_ms FROM {LETTERS} WHERE place < ?1 ORDER BY place DESC LIMIT ?2"
        );
        let before = before.map_or(i64::MAX, |place| i64::try_from(place.0).unwrap_or(i64::MAX));
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params![before, most as i64], |row| {
            Ok(Letter { noted: noted(row)?, given_up_ms: row.get("given_up_ms")?, why: row.get("why")? })
        })?;
        rows.collect()
    }

    /// Dead letters go back, behind what waits. How many.
    pub fn tell_again(&mut self, letter: Option<Place>) -> Sql<u64> {
        if self.outbox(Reader::Webhooks).is_none() {
            return Ok(0);
        }
        let letter = letter.map(|place| i64::try_from(place.0).unwrap_or(i64::MAX));
        let which =
            format!("place IN (SELECT place FROM {LETTERS} WHERE ?1 IS NULL OR place = ?1 ORDER BY place LIMIT ?2)");
        let most = AGAIN_MAX as i64;
        let sql = format!(
            "INSERT INTO {} ({NAMES}) SELECT {NAMES} FROM {LETTERS} WHERE {which} ORDER BY place",
            table(Reader::Webhooks)
        );
        let count = self.connection.prepare_cached(&sql)?.execute(params![letter, most])?;
        let sql = format!("DELETE FROM {LETTERS} WHERE {which}");
        self.connection.prepare_cached(&sql)?.execute(params![letter, most])?;
        if let Some(room) = self.outbox(Reader::Webhooks) {
            room.waiting.changed += count as i64;
            room.letters.changed -= count as i64;
        }
        Ok(count as u64)
    }
}

fn noted(row: &Row<'_>) -> Sql<Noted> {
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
}
