//! Dead letters, retention, the sweep's questions.

use std::time::{Duration, Instant};

use rusqlite::{OptionalExtension, params};

use super::documents::DOCUMENT;
use super::{Ledger, Sql, WorkState, now_ms};
use crate::image::job::{Document, JobId, Priority, Tenant};
use crate::image::queue::{Purged, Remains, Usage};
use crate::image::store::{Key, Suffix};

/// Rows that one round of retention removes, so that nobody waits long for it.
const REMOVED_MAX: usize = 500;
const DAY_MS: i64 = 86_400_000;

impl Ledger {
    pub fn dead(&self, tenant: Option<&Tenant>, before: u64, most: usize) -> Sql<Vec<(Tenant, Document)>> {
        let sql = format!(
            "SELECT {DOCUMENT} WHERE works.state = 4 AND works.state >= 2 AND works.finished_ms < ?1 AND NOT jobs.cancelled
                    AND (?2 IS NULL OR jobs.tenant = ?2)
             ORDER BY works.finished_ms DESC, jobs.id LIMIT ?3"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let before = before.min(i64::MAX as u64) as i64;
        let name = tenant.map(|tenant| &*tenant.0);
        let rows = statement.query_map(params![before, name, most.min(10_000) as i64], |row| {
            Ok((Tenant::named(&row.get::<_, String>("tenant")?), self.document(row)?))
        })?;
        rows.collect()
    }

    pub fn retry(&mut self, tenant: Option<&Tenant>, id: JobId) -> Sql<Option<Document>> {
        let sql = "SELECT tenant, work FROM jobs WHERE id = ?1 AND (?2 IS NULL OR tenant = ?2)";
        let found: Option<(String, i64)> = self
            .connection
            .prepare_cached(sql)?
            .query_row(params![id.0, tenant.map(|tenant| &*tenant.0)], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((tenant, work)) = found else { return Ok(None) };
        if let Some(standing) = self.standing(work)?.filter(|standing| standing.state == WorkState::Dead) {
            self.revive(&standing, standing.priority)?;
        }
        self.job(&Tenant::named(&tenant), id)
    }

    pub fn wanted(&self, keys: &[Key]) -> Sql<Vec<bool>> {
        let kept = self.options.originals_kept;
        let since = self.options.originals_since_ms().unwrap_or(i64::MIN);
        let mut originals = self.connection.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM works WHERE original = ?1
                    AND (state IN (0, 1, 4) OR (?2 AND state = 2 AND finished_ms > ?3)))",
        )?;
        let mut others = self.connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM objects WHERE key = ?1)")?;
        let mut wanted = Vec::with_capacity(keys.len());
        for key in keys {
            let name = key.to_string();
            wanted.push(match key.suffix {
                Suffix::Original => originals.query_row(params![name, kept, since], |row| row.get(0))?,
                _ => others.query_row(params![name], |row| row.get(0))?,
            });
        }
        Ok(wanted)
    }

    pub fn usage(&self, tenant: &Tenant) -> Sql<Usage> {
        let sql = "SELECT count(*) FROM jobs WHERE tenant = ?1 AND finished_ms IS NULL";
        let unended: i64 = self.connection.prepare_cached(sql)?.query_row(params![&*tenant.0], |row| row.get(0))?;
        let sql = "SELECT bytes FROM usage WHERE tenant = ?1 AND day = ?2";
        let day = now_ms() / DAY_MS;
        let bytes: Option<i64> =
            self.connection.prepare_cached(sql)?.query_row(params![&*tenant.0, day], |row| row.get(0)).optional()?;
        Ok(Usage { unended: unended.max(0) as u64, bytes_of_day: bytes.unwrap_or(0).max(0) as u64 })
    }

    /// A job of a tenant was entered, for an original of so many bytes.
    pub(super) fn note_usage(&self, tenant: &Tenant, bytes: u64, now: i64) -> Sql<()> {
        let sql = "INSERT INTO usage (tenant, day, bytes) VALUES (?1, ?2, ?3) ON CONFLICT (tenant) DO UPDATE
                   SET bytes = excluded.bytes + iif(day = excluded.day, bytes, 0), day = excluded.day";
        let bytes = bytes.min(1 << 50) as i64;
        self.connection.prepare_cached(sql)?.execute(params![&*tenant.0, now / DAY_MS, bytes])?;
        Ok(())
    }

    pub fn whose(&self, id: JobId) -> Sql<Option<(Tenant, Document)>> {
        let sql = "SELECT tenant FROM jobs WHERE id = ?1";
        let tenant: Option<String> =
            self.connection.prepare_cached(sql)?.query_row(params![id.0], |row| row.get(0)).optional()?;
        let Some(tenant) = tenant.as_deref().map(Tenant::named) else { return Ok(None) };
        Ok(self.job(&tenant, id)?.map(|document| (tenant, document)))
    }

    pub fn purge(&mut self, tenant: &Tenant, id: JobId) -> Sql<Purged> {
        let Some(document) = self.job(tenant, id)? else { return Ok(Purged::Unknown) };
        if !document.state.is_final() {
            return Ok(Purged::Unended(Box::new(document)));
        }
        let sql = "DELETE FROM jobs WHERE id = ?1 RETURNING work";
        let work: i64 = self.connection.prepare_cached(sql)?.query_row(params![id.0], |row| row.get(0))?;
        self.touched.insert(work);
        let sql = "SELECT EXISTS (SELECT 1 FROM jobs WHERE work = ?1)";
        let keeps_outputs: bool = self.connection.prepare_cached(sql)?.query_row(params![work], |row| row.get(0))?;
        let mut remains = Remains { keeps_outputs, ..Remains::default() };
        if !keeps_outputs {
            let mut statement = self.connection.prepare_cached("SELECT key FROM objects WHERE work = ?1")?;
            for name in statement.query_map(params![work], |row| row.get::<_, String>(0))? {
                // What is no key was never stored by it.
                remains.objects.extend(name?.parse::<Key>().ok());
            }
            drop(statement);
            self.forget_work(work)?;
        }
        let original = document.source.key;
        if !self.wanted(&[original])?.contains(&true) {
            remains.original = Some(original);
        }
        Ok(Purged::Gone(remains))
    }

    /// A work that no job has.
    fn forget_work(&mut self, id: i64) -> Sql<()> {
        self.connection.prepare_cached("DELETE FROM objects WHERE work = ?1")?.execute(params![id])?;
        if let Some(standing) = self.standing(id)? {
            self.sum(standing.state, standing.priority, standing.cpu_us, -1);
        }
        self.connection.prepare_cached("DELETE FROM works WHERE id = ?1")?.execute(params![id])?;
        Ok(())
    }

    /// Forgets what is older than it is kept; whether there may be more.
    pub fn forget(&mut self) -> Sql<bool> {
        let ago = |kept: Duration| now_ms().saturating_sub(kept.as_millis().min(i64::MAX as u128) as i64);
        let jobs = self
            .connection
            .prepare_cached(
                "DELETE FROM jobs WHERE id IN (
                    SELECT jobs.id FROM jobs JOIN works ON works.id = jobs.work
                    WHERE jobs.finished_ms < ?1 AND (works.state <> 4 OR jobs.finished_ms < ?2) LIMIT ?3)",
            )?
            .execute(params![ago(self.options.jobs_kept), ago(self.options.dead_kept), REMOVED_MAX as i64])?;
        let mut ids: Vec<i64> = Vec::new();
        for state in [WorkState::Done, WorkState::Failed, WorkState::Dead, WorkState::Cancelled] {
            let kept = match state {
                WorkState::Done => self.options.outputs_kept,
                _ => Some(self.options.jobs_kept),
            };
            // Outputs that are kept for good keep their work.
            let Some(kept) = kept else { continue };
            let mut statement = self.connection.prepare_cached(
                "SELECT id FROM works WHERE state = ?1 AND state >= 2 AND finished_ms < ?2
                        AND NOT EXISTS (SELECT 1 FROM jobs WHERE work = works.id) LIMIT ?3",
            )?;
            let rows = statement.query_map(params![state as i64, ago(kept), REMOVED_MAX as i64], |row| row.get(0))?;
            for id in rows {
                ids.push(id?);
            }
        }
        for id in &ids {
            self.forget_work(*id)?;
        }
        self.followers.retain(|_, followers| {
            followers.retain(|follower| !follower.ticket.is_abandoned());
            !followers.is_empty()
        });
        Ok(jobs == REMOVED_MAX || ids.len() >= REMOVED_MAX)
    }

    /// How long until something becomes due or expires by itself.
    pub fn idle_for(&self, most: Duration) -> Sql<Duration> {
        let now = now_ms();
        let mut statement = self
            .connection
            .prepare_cached("SELECT min(due_ms) FROM works WHERE state = 0 AND priority = ?1 AND due_ms > ?2")?;
        let mut wait = most;
        for priority in [Priority::Interactive, Priority::Bulk] {
            let due: Option<i64> = statement.query_row(params![priority as i64, now], |row| row.get(0))?;
            if let Some(due) = due {
                wait = wait.min(Duration::from_millis(due.saturating_sub(now).max(0) as u64 + 1));
            }
        }
        let over = self.deadlines.values().map(|deadline| deadline.until.saturating_duration_since(Instant::now()));
        Ok(over.min().map_or(wait, |over| wait.min(over)))
    }
}
