//! Leasing and what comes of it.

use std::time::{Duration, Instant};

use rusqlite::params;

use super::{Deadline, Ledger, Sql, Standing, WorkState, is_one_row, now_ms, parse, text, unreadable, unsigned};
use crate::image::fault::{Fault, Kind};
use crate::image::job::{Priority, random};
use crate::image::outbox::Event;
use crate::image::pipeline::Cost;
use crate::image::queue::{Ask, Held, Lease, LeaseId, Settled};
use crate::image::store::Key;
use crate::image::work::{Manifest, Work, WorkKey};

/// Works looked at for one lease, at most: giants that must wait are stepped over.
const LOOKED_AT_MAX: usize = 1000;

impl Ledger {
    pub fn lease(&mut self, lane: &str, ask: Ask) -> Sql<Vec<Lease>> {
        let mut ask = ask;
        let mut leases = Vec::new();
        while leases.len() < ask.most {
            // One in `bulk_share` looks at bulk first, so that it never starves.
            let bulk_first = self.leases_given % self.options.bulk_share.max(2) == self.options.bulk_share.max(2) - 1;
            let order = match bulk_first {
                true => [Priority::Bulk, Priority::Interactive],
                false => [Priority::Interactive, Priority::Bulk],
            };
            let mut next = Next::Nothing;
            for priority in order {
                next = self.next(priority, &ask)?;
                if !matches!(next, Next::Nothing) {
                    break;
                }
            }
            let Next::Fits { id, peak_bytes } = next else { break };
            self.leases_given = self.leases_given.wrapping_add(1);
            if let Some(lease) = self.give(id, lane)? {
                ask.bytes -= peak_bytes;
                ask.giant &= peak_bytes <= ask.giant_bytes;
                leases.push(lease);
            }
        }
        Ok(leases)
    }

    /// The first work of this priority that is due and may run.
    fn next(&self, priority: Priority, ask: &Ask) -> Sql<Next> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, peak_bytes FROM works WHERE state = 0 AND priority = ?1 AND due_ms <= ?2 ORDER BY due_ms, id",
        )?;
        let mut rows = statement.query(params![priority as i64, now_ms()])?;
        for _ in 0..LOOKED_AT_MAX {
            let Some(row) = rows.next()? else { break };
            let (id, peak_bytes) = (row.get(0)?, unsigned(row, "peak_bytes")?);
            if peak_bytes > ask.bytes_total {
                return Ok(Next::Fits { id, peak_bytes: 0 });
            }
            if peak_bytes > ask.giant_bytes && !ask.giant {
                continue;
            }
            return Ok(if peak_bytes > ask.bytes { Next::WaitsForBytes } else { Next::Fits { id, peak_bytes } });
        }
        Ok(Next::Nothing)
    }

    /// `None`: its record cannot be read, and it is failed.
    fn give(&mut self, id: i64, lane: &str) -> Sql<Option<Lease>> {
        let Some(standing) = self.standing(id)? else { return Ok(None) };
        let work = match self.work(id) {
            Ok(work) => work,
            Err(error) if is_one_row(&error) => {
                let fault = Fault::new(Kind::Io, format!("the queue's record of it cannot be read: {error}"));
                self.delta.counts.failed += 1;
                self.change(&standing, WorkState::Failed, now_ms(), Some(&fault))?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let now = now_ms();
        let sql = "UPDATE works SET turn = turn + 1, attempts = attempts + 1, lane = ?2, started_ms = ?3 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute(params![id, lane, now])?;
        self.change(&standing, WorkState::Leased, now, None)?;
        let turn = standing.turn.saturating_add(1);
        self.deadlines.insert(id, Deadline { turn, until: Instant::now() + self.options.lease, progress: 0.0 });
        Ok(Some(Lease {
            id: LeaseId { work: id, turn },
            work,
            attempt: standing.attempts.saturating_add(1),
            crashes: standing.crashes,
            priority: standing.priority,
        }))
    }

    fn work(&self, id: i64) -> Sql<Work> {
        let sql = "SELECT key, original, len, header, recipes, peak_bytes, cpu_us FROM works WHERE id = ?1";
        self.connection.prepare_cached(sql)?.query_row(params![id], |row| {
            let original: String = row.get("original")?;
            let recipes: Vec<_> = parse(&row.get::<_, String>("recipes")?)?;
            Ok(Work {
                key: WorkKey(row.get("key")?),
                original: original.parse().map_err(|_| unreadable(format!("{original} is no key")))?,
                len: unsigned(row, "len")?,
                header: parse(&row.get::<_, String>("header")?)?,
                recipes: recipes.into(),
                cost: Cost { peak_bytes: unsigned(row, "peak_bytes")?, cpu_us: unsigned(row, "cpu_us")? },
            })
        })
    }

    pub fn heartbeat(&mut self, leases: &[(LeaseId, f32)]) -> Sql<Vec<Held>> {
        let mut held = Vec::with_capacity(leases.len());
        for &(lease, progress) in leases {
            if self.valid(lease)?.is_none() {
                held.push(Held::No);
                continue;
            }
            let until = Instant::now() + self.options.lease;
            let before = self.deadlines.insert(lease.work, Deadline { turn: lease.turn, until, progress });
            if before.is_none_or(|before| before.progress != progress) {
                self.progressed.insert(lease.work);
            }
            held.push(Held::Yes);
        }
        Ok(held)
    }

    pub fn complete(&mut self, lease: LeaseId, manifest: &Manifest) -> Sql<Settled> {
        // An older holder's outputs are the same objects as the newest one's: whoever comes first ends the work.
        let Some(standing) = self.standing(lease.work)? else { return Ok(Settled::Stale) };
        if !matches!(standing.state, WorkState::Waiting | WorkState::Leased | WorkState::Dead) {
            return Ok(Settled::Stale);
        }
        let sql = "UPDATE works SET manifest = ?2, lane = ?3 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute(params![standing.id, text(manifest), manifest.lane])?;
        let key = self.work(standing.id)?.key;
        let mut keys: Vec<Key> = manifest.outputs.iter().map(|output| output.key).collect();
        keys.push(key.manifest(&self.salt));
        for key in keys {
            let sql = "INSERT OR REPLACE INTO objects VALUES (?1, ?2)";
            self.connection.prepare_cached(sql)?.execute(params![key.to_string(), standing.id])?;
        }
        self.delta.counts.done += 1;
        self.change(&standing, WorkState::Done, now_ms(), None)?;
        Ok(Settled::Ended)
    }

    pub fn fail(&mut self, lease: LeaseId, fault: &Fault) -> Sql<Settled> {
        match self.valid(lease)? {
            Some(standing) => self.end_attempt(&standing, fault),
            None => Ok(Settled::Stale),
        }
    }

    pub fn release(&mut self, lease: LeaseId) -> Sql<Settled> {
        let Some(standing) = self.valid(lease)? else { return Ok(Settled::Stale) };
        let sql = "UPDATE works SET attempts = max(attempts - 1, 0) WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute(params![standing.id])?;
        self.change(&standing, WorkState::Waiting, now_ms(), None)?;
        Ok(Settled::Again(Duration::ZERO))
    }

    fn end_attempt(&mut self, standing: &Standing, fault: &Fault) -> Sql<Settled> {
        let crashes = standing.crashes.saturating_add(u32::from(fault.kind == Kind::Crashed));
        let sql = "UPDATE works SET crashes = ?2 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute(params![standing.id, crashes])?;
        let now = now_ms();
        if !fault.is_transient() {
            self.delta.counts.failed += 1;
            self.change(standing, WorkState::Failed, now, Some(fault))?;
            return Ok(Settled::Ended);
        }
        if standing.attempts >= self.options.attempts_max || crashes >= self.options.crashes_max {
            self.delta.counts.died += 1;
            self.change(standing, WorkState::Dead, now, Some(fault))?;
            return Ok(Settled::Ended);
        }
        let mut number = [0; 8];
        random(&mut number).map_err(|error| unreadable(error.to_string()))?;
        let wait = self.options.backoff(standing.attempts, u64::from_le_bytes(number));
        self.delta.counts.retried += 1;
        self.change(standing, WorkState::Waiting, now + wait.as_millis() as i64, Some(fault))?;
        Ok(Settled::Again(wait))
    }

    /// A lease whose holder is gone.
    pub(super) fn lose(&mut self, id: i64, why: &str) -> Sql<()> {
        let Some(standing) = self.standing(id)? else { return Ok(()) };
        let kind = if self.options.lost_is_crash { Kind::Crashed } else { Kind::Io };
        self.delta.counts.expired += 1;
        self.note(id, Event::Expired, None)?;
        self.end_attempt(&standing, &Fault::new(kind, why))?;
        Ok(())
    }

    /// Whether a lease is over.
    pub fn is_expiring(&self) -> bool {
        let now = Instant::now();
        self.deadlines.values().any(|deadline| deadline.until <= now)
    }

    /// Takes leases back that were not renewed.
    pub fn expire(&mut self) -> Sql<()> {
        let now = Instant::now();
        let over = self.deadlines.iter().filter(|(_, deadline)| deadline.until <= now);
        let over: Vec<(i64, u64)> = over.map(|(id, deadline)| (*id, deadline.turn)).collect();
        for (work, turn) in over {
            if self.valid(LeaseId { work, turn })?.is_none() {
                self.deadlines.remove(&work);
                continue;
            }
            self.lose(work, "its lease was not renewed in time")?;
            // Looked at once more: should this not be committed, it is still to be done.
            if let Some(deadline) = self.deadlines.get_mut(&work) {
                deadline.until = now + Duration::from_secs(1);
            }
        }
        Ok(())
    }
}

enum Next {
    Nothing,
    /// It is its turn, and it must wait for others to give bytes back.
    WaitsForBytes,
    Fits {
        id: i64,
        peak_bytes: u64,
    },
}
