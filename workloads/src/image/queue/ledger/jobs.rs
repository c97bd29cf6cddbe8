//! Entering, asking, cancelling.

use annulus_engine::compute::Ticket;
use rusqlite::{OptionalExtension, params};

use super::documents::DOCUMENT;
use super::{Follower, Ledger, Sql, Standing, Told, WorkState, now_ms, text, unreadable};
use crate::image::fault::Kind;
use crate::image::job::{Document, JobId, Priority, Tenant};
use crate::image::outbox::Event;
use crate::image::queue::{Enqueued, Forecast, QueueError};
use crate::image::work::{Idempotency, Order};

impl Ledger {
    pub fn enqueue(&mut self, order: &Order, forecast: Forecast) -> Sql<Enqueued> {
        if let Some(idempotency) = &order.idempotency
            && let Some((document, request)) = self.find(&order.tenant, &idempotency.key)?
        {
            return Ok(match request == idempotency.request {
                true => Enqueued::Before(document),
                false => Enqueued::KeyReused(document.id),
            });
        }
        let now = now_ms();
        let Some(work) = self.enter_work(order, now)? else { return Ok(Enqueued::Refused) };
        let id = JobId::random().map_err(|error| unreadable(error.to_string()))?;
        self.enter_job(id, work, order, forecast, now)?;
        self.note_usage(&order.tenant, order.work.len, now)?;
        self.delta.counts.accepted += 1;
        self.touched.insert(work);
        let document = self.job(&order.tenant, id)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        Ok(Enqueued::Accepted(document))
    }

    /// The work of this order: found, revived or new. `None`: no room for another.
    fn enter_work(&mut self, order: &Order, now: i64) -> Sql<Option<i64>> {
        let Some(standing) = self.standing_of_key(&order.work.key)? else {
            let waiting = self.depth.waiting().saturating_add_signed(self.delta.interactive + self.delta.bulk);
            return if waiting >= self.options.waiting_max { Ok(None) } else { self.new_work(order, now).map(Some) };
        };
        self.delta.counts.joined += 1;
        match standing.state {
            WorkState::Waiting if order.priority < standing.priority => self.raise(&standing, order.priority)?,
            WorkState::Waiting | WorkState::Leased | WorkState::Done => {}
            // What the image itself is to blame for stays as it is; out of time may have been our own load.
            WorkState::Failed if standing.fault.as_ref().is_none_or(|fault| fault.kind != Kind::Stopped) => {}
            WorkState::Failed | WorkState::Dead | WorkState::Cancelled => self.revive(&standing, order.priority)?,
        }
        Ok(Some(standing.id))
    }

    fn new_work(&mut self, order: &Order, now: i64) -> Sql<i64> {
        let work = &order.work;
        self.connection
            .prepare_cached(
                // Turns begin at this moment: a work that was deleted may have had the same number, and its last holder
                // may not have ended yet.
                "INSERT INTO works (key, state, priority, due_ms, turn, original, len, header, recipes, peak_bytes, cpu_us)
                 VALUES (?1, 0, ?2, ?3, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                work.key.0,
                order.priority as i64,
                now,
                work.original.to_string(),
                work.len as i64,
                text(&work.header),
                text(&&*work.recipes),
                work.cost.peak_bytes.min(i64::MAX as u64) as i64,
                work.cost.cpu_us.min(i64::MAX as u64) as i64,
            ])?;
        self.sum(WorkState::Waiting, order.priority, work.cost.cpu_us, 1);
        Ok(self.connection.last_insert_rowid())
    }

    fn enter_job(&mut self, id: JobId, work: i64, order: &Order, forecast: Forecast, now: i64) -> Sql<()> {
        let (key, request) = match &order.idempotency {
            Some(Idempotency { key, request }) => (Some(key.as_str()), Some(request.as_slice())),
            None => (None, None),
        };
        self.connection
            .prepare_cached(
                "INSERT INTO jobs (id, tenant, work, asked, priority, delayed, wait_ms, created_ms, finished_ms, idempotency,
                                   request)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8,
                         (SELECT ?8 FROM works WHERE id = ?3 AND state >= 2), ?9, ?10)",
            )?
            .execute(params![
                id.0,
                &*order.tenant.0,
                work,
                order.asked,
                order.priority as i64,
                forecast.delayed,
                forecast.wait.as_millis() as i64,
                now,
                key,
                request,
            ])?;
        self.note_job(id, Event::Accepted)?;
        self.note_ended(id, work)
    }

    fn raise(&mut self, standing: &Standing, to: Priority) -> Sql<()> {
        self.sum(WorkState::Waiting, standing.priority, standing.cpu_us, -1);
        self.sum(WorkState::Waiting, to, standing.cpu_us, 1);
        let sql = "UPDATE works SET priority = ?2 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute(params![standing.id, to as i64])?;
        Ok(())
    }

    /// Begins anew, with all attempts before it.
    pub(super) fn revive(&mut self, standing: &Standing, priority: Priority) -> Sql<()> {
        let sql = "UPDATE works SET attempts = 0, crashes = 0, priority = ?2, fault = NULL WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute(params![standing.id, priority as i64])?;
        // Raised while it does not wait, so no sum depends on the old priority.
        let standing = Standing { priority, fault: None, ..*standing };
        self.change(&standing, WorkState::Waiting, now_ms(), None)
    }

    pub fn find(&mut self, tenant: &Tenant, key: &str) -> Sql<Option<(Document, [u8; 32])>> {
        let sql = "SELECT id, request FROM jobs WHERE tenant = ?1 AND idempotency = ?2";
        let found: Option<([u8; 16], [u8; 32])> = self
            .connection
            .prepare_cached(sql)?
            .query_row(params![&*tenant.0, key], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((id, request)) = found else { return Ok(None) };
        Ok(self.job(tenant, JobId(id))?.map(|document| (document, request)))
    }

    pub fn job(&self, tenant: &Tenant, id: JobId) -> Sql<Option<Document>> {
        Ok(self.job_and_work(tenant, id)?.map(|(document, _)| document))
    }

    fn job_and_work(&self, tenant: &Tenant, id: JobId) -> Sql<Option<(Document, i64)>> {
        let sql = format!("SELECT {DOCUMENT} WHERE jobs.id = ?1 AND jobs.tenant = ?2");
        let mut statement = self.connection.prepare_cached(&sql)?;
        statement.query_row(params![id.0, &*tenant.0], |row| Ok((self.document(row)?, row.get("work")?))).optional()
    }

    pub fn follow(
        &mut self,
        tenant: Tenant,
        id: JobId,
        seen: u64,
        ticket: Ticket<Result<Option<Document>, QueueError>>,
    ) -> Sql<Option<Told>> {
        match self.job_and_work(&tenant, id)? {
            Some((document, work)) if document.revision <= seen => {
                self.followers.entry(work).or_default().push(Follower { tenant, id, seen, ticket });
                Ok(None)
            }
            found => Ok(Some((ticket, found.map(|(document, _)| document)))),
        }
    }

    /// Followers whose jobs have changed, with what they shall be told.
    pub fn news(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        let mut changed = std::mem::take(&mut self.touched);
        changed.extend(self.progressed.drain());
        for work in changed {
            let Some(followers) = self.followers.remove(&work) else { continue };
            let mut waiting = Vec::new();
            for follower in followers {
                if follower.ticket.is_abandoned() {
                    continue;
                }
                match self.job(&follower.tenant, follower.id) {
                    Ok(Some(document)) if document.revision <= follower.seen => waiting.push(follower),
                    Ok(found) => told.push((follower.ticket, found)),
                    // Its ticket, dropped, says that there will be no answer; the follower asks anew.
                    Err(_) => drop(follower),
                }
            }
            if !waiting.is_empty() {
                self.followers.insert(work, waiting);
            }
        }
        told
    }

    pub fn cancel(&mut self, tenant: &Tenant, id: JobId) -> Sql<Option<Document>> {
        let Some((document, work)) = self.job_and_work(tenant, id)? else { return Ok(None) };
        if document.state.is_final() {
            return Ok(Some(document));
        }
        let now = now_ms();
        let sql = "UPDATE jobs SET cancelled = 1, finished_ms = ?2, revision = revision + 1 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute(params![id.0, now])?;
        self.note_job(id, Event::Cancelled)?;
        self.touched.insert(work);
        let sql = "SELECT EXISTS (SELECT 1 FROM jobs WHERE work = ?1 AND NOT cancelled)";
        let wanted: bool = self.connection.prepare_cached(sql)?.query_row(params![work], |row| row.get(0))?;
        if !wanted && let Some(standing) = self.standing(work)? {
            self.delta.counts.cancelled += 1;
            self.change(&standing, WorkState::Cancelled, now, None)?;
        }
        self.job(tenant, id)
    }
}
