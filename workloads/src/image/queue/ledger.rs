//! What the calls do to the tables. Runs on the queue's own thread, inside the transaction of a batch of calls.
//!
//! What is durable is in the tables. In memory are only the leases' deadlines and progress, which die with the process
//! as the leases do, and sums for whoever does not wait. Memory that a failed transaction leaves behind is harmless: a
//! deadline counts only while the tables say that its lease is valid, and sums are moved after the commit.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use annulus_engine::compute::Ticket;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::de::DeserializeOwned;

use super::options::QueueOptions;
use super::{Ask, Counts, Depth, Enqueued, Forecast, Held, Lease, LeaseId, QueueError, Settled};
use crate::image::fault::{Fault, Kind};
use crate::image::job::{Document, JobId, JobTimings, Priority, Problem, Source, State, Tenant, random};
use crate::image::pipeline::Cost;
use crate::image::store::{Key, Suffix};
use crate::image::work::{Idempotency, Manifest, Order, Salt, Work, WorkKey};

type Sql<T> = rusqlite::Result<T>;

/// Works looked at for one lease, at most: giants that must wait are stepped over.
const LOOKED_AT_MAX: usize = 1000;
/// Rows that one round of retention removes, so that nobody waits long for it.
const REMOVED_MAX: usize = 500;

/// The state of a work, as a number in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkState {
    Waiting = 0,
    Leased = 1,
    Done = 2,
    Failed = 3,
    Dead = 4,
    Cancelled = 5,
}

impl WorkState {
    fn of(number: i64) -> Sql<WorkState> {
        Ok(match number {
            0 => WorkState::Waiting,
            1 => WorkState::Leased,
            2 => WorkState::Done,
            3 => WorkState::Failed,
            4 => WorkState::Dead,
            5 => WorkState::Cancelled,
            other => return Err(unreadable(format!("{other} is no state of a work"))),
        })
    }

    fn of_job(self) -> State {
        match self {
            WorkState::Waiting => State::Queued,
            WorkState::Leased => State::Leased,
            WorkState::Done => State::Done,
            WorkState::Failed => State::Failed,
            WorkState::Dead => State::Dead,
            WorkState::Cancelled => State::Cancelled,
        }
    }
}

/// The lease's end unless it is renewed, and how far it is.
struct Deadline {
    turn: u64,
    until: Instant,
    progress: f32,
}

/// Someone who wants to know when a job changes.
struct Follower {
    tenant: Tenant,
    id: JobId,
    seen: u64,
    ticket: Ticket<Result<Option<Document>, QueueError>>,
}

/// What a batch changed in sums; counted once it is committed.
#[derive(Default)]
struct Delta {
    interactive: i64,
    bulk: i64,
    leased: i64,
    dead: i64,
    waiting_cpu_us: i64,
    counts: Counts,
}

/// The columns that decide what may become of a work.
struct Standing {
    id: i64,
    state: WorkState,
    priority: Priority,
    turn: u64,
    attempts: u32,
    crashes: u32,
    cpu_us: u64,
    fault: Option<Fault>,
}

/// See the module's description.
pub(super) struct Ledger {
    connection: Connection,
    options: QueueOptions,
    salt: Salt,
    deadlines: HashMap<i64, Deadline>,
    followers: HashMap<i64, Vec<Follower>>,
    depth: Depth,
    counts: Counts,
    delta: Delta,
    /// Works that changed in this batch.
    touched: HashSet<i64>,
    leases_given: u32,
}

/// Milliseconds since 1970; a clock before that is as good as 1970.
pub(super) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn unreadable(detail: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, detail.into())
}

/// Whether only one row cannot be understood, and the database as such works.
pub(super) fn is_one_row(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
    )
}

fn parse<T: DeserializeOwned>(text: &str) -> Sql<T> {
    serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))
}

fn text<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data with text keys")
}

fn priority(number: i64) -> Priority {
    if number == Priority::Interactive as i64 { Priority::Interactive } else { Priority::Bulk }
}

fn unsigned(row: &Row<'_>, column: &str) -> Sql<u64> {
    Ok(row.get::<_, i64>(column)?.max(0) as u64)
}

impl Standing {
    const COLUMNS: &'static str = "id, state, priority, turn, attempts, crashes, cpu_us, fault";

    fn of(row: &Row<'_>) -> Sql<Standing> {
        let fault: Option<String> = row.get("fault")?;
        Ok(Standing {
            id: row.get("id")?,
            state: WorkState::of(row.get("state")?)?,
            priority: priority(row.get("priority")?),
            turn: unsigned(row, "turn")?,
            attempts: row.get("attempts")?,
            crashes: row.get("crashes")?,
            cpu_us: unsigned(row, "cpu_us")?,
            fault: fault.as_deref().map(parse).transpose()?,
        })
    }
}

/// What a batch leaves to be done once it is committed.
pub(super) struct Committed {
    /// Something may be due.
    pub(super) ring: bool,
}

impl Ledger {
    /// Takes the tables over: what an earlier process had leased goes back.
    pub(super) fn new(connection: Connection, salt: Salt, options: QueueOptions) -> Sql<Ledger> {
        let mut ledger = Ledger {
            connection,
            options,
            salt,
            deadlines: HashMap::new(),
            followers: HashMap::new(),
            depth: Depth::default(),
            counts: Counts::default(),
            delta: Delta::default(),
            touched: HashSet::new(),
            leases_given: 0,
        };
        ledger.sum_up()?;
        ledger.begin()?;
        let ids: Vec<i64> = {
            let mut leased = ledger.connection.prepare("SELECT id FROM works WHERE state = 1")?;
            leased.query_map([], |row| row.get(0))?.collect::<Sql<_>>()?
        };
        for id in ids {
            ledger.lose(id, "the server ended while it was worked on")?;
        }
        // A clock that was set back must not make anyone wait longer than the longest backoff.
        let latest = now_ms() + ledger.options.backoff_max.as_millis() as i64;
        ledger.connection.execute("UPDATE works SET due_ms = ?1 WHERE state = 0 AND due_ms > ?1", params![latest])?;
        ledger.commit(0)?;
        Ok(ledger)
    }

    fn sum_up(&mut self) -> Sql<()> {
        let mut statement = self.connection.prepare(
            "SELECT state, priority, count(*), total(cpu_us) FROM works WHERE state IN (0, 1, 4) GROUP BY state, priority",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (state, count): (i64, i64) = (row.get(0)?, row.get(2)?);
            let count = count as u64;
            match (WorkState::of(state)?, priority(row.get(1)?)) {
                (WorkState::Waiting, Priority::Interactive) => self.depth.interactive += count,
                (WorkState::Waiting, Priority::Bulk) => self.depth.bulk += count,
                (WorkState::Leased, _) => self.depth.leased += count,
                _ => self.depth.dead += count,
            }
            if state == WorkState::Waiting as i64 {
                self.depth.waiting_cpu_us += row.get::<_, f64>(3)? as u64;
            }
        }
        Ok(())
    }

    pub(super) fn depth(&self) -> Depth {
        self.depth
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Begins a batch.
    pub(super) fn begin(&mut self) -> Sql<()> {
        self.connection.execute_batch("BEGIN")
    }

    /// Makes the batch of `calls` calls durable, and moves the sums.
    pub(super) fn commit(&mut self, calls: u64) -> Sql<Committed> {
        let begun = Instant::now();
        let changed = !self.touched.is_empty();
        self.connection.execute_batch("COMMIT")?;
        let delta = std::mem::take(&mut self.delta);
        let add = |sum: &mut u64, change: i64| *sum = sum.saturating_add_signed(change);
        add(&mut self.depth.interactive, delta.interactive);
        add(&mut self.depth.bulk, delta.bulk);
        add(&mut self.depth.leased, delta.leased);
        add(&mut self.depth.dead, delta.dead);
        add(&mut self.depth.waiting_cpu_us, delta.waiting_cpu_us);
        let (sum, counts) = (&mut self.counts, delta.counts);
        sum.accepted += counts.accepted;
        sum.joined += counts.joined;
        sum.done += counts.done;
        sum.failed += counts.failed;
        sum.died += counts.died;
        sum.cancelled += counts.cancelled;
        sum.retried += counts.retried;
        sum.expired += counts.expired;
        if changed {
            sum.commits += 1;
            sum.committed_calls += calls;
            sum.commit_us_max = sum.commit_us_max.max(begun.elapsed().as_micros() as u64);
        }
        Ok(Committed { ring: changed && self.depth.waiting() > 0 })
    }

    /// Undoes the batch.
    pub(super) fn roll_back(&mut self) {
        self.delta = Delta::default();
        self.touched.clear();
        // SQLite has rolled back by itself after the worst errors; then there is nothing to undo.
        let _nothing_to_undo = self.connection.execute_batch("ROLLBACK");
    }
}

/// Entering, asking, cancelling.
impl Ledger {
    pub(super) fn enqueue(&mut self, order: &Order, forecast: Forecast) -> Sql<Enqueued> {
        if let Some(idempotency) = &order.idempotency {
            if let Some((document, request)) = self.find(&order.tenant, &idempotency.key)? {
                return Ok(match request == idempotency.request {
                    true => Enqueued::Before(document),
                    false => Enqueued::KeyReused(document.id),
                });
            }
        }
        let now = now_ms();
        let Some(work) = self.enter_work(order, now)? else { return Ok(Enqueued::Refused) };
        let id = JobId::random().map_err(|error| unreadable(error.to_string()))?;
        self.enter_job(id, work, order, forecast, now)?;
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
                "INSERT INTO works (key, state, priority, due_ms, original, len, header, recipes, peak_bytes, cpu_us)
                 VALUES (?1, 0, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
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
        Ok(())
    }

    fn raise(&mut self, standing: &Standing, to: Priority) -> Sql<()> {
        self.sum(WorkState::Waiting, standing.priority, standing.cpu_us, -1);
        self.sum(WorkState::Waiting, to, standing.cpu_us, 1);
        let sql = "UPDATE works SET priority = ?2 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute(params![standing.id, to as i64])?;
        Ok(())
    }

    /// Begins anew, with all attempts before it.
    fn revive(&mut self, standing: &Standing, priority: Priority) -> Sql<()> {
        let sql = "UPDATE works SET attempts = 0, crashes = 0, priority = ?2, fault = NULL WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute(params![standing.id, priority as i64])?;
        // Raised while it does not wait, so no sum depends on the old priority.
        let standing = Standing { priority, fault: None, ..*standing };
        self.change(&standing, WorkState::Waiting, now_ms(), None)
    }

    pub(super) fn find(&mut self, tenant: &Tenant, key: &str) -> Sql<Option<(Document, [u8; 32])>> {
        let sql = "SELECT id, request FROM jobs WHERE tenant = ?1 AND idempotency = ?2";
        let found: Option<([u8; 16], [u8; 32])> = self
            .connection
            .prepare_cached(sql)?
            .query_row(params![&*tenant.0, key], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((id, request)) = found else { return Ok(None) };
        Ok(self.job(tenant, JobId(id))?.map(|document| (document, request)))
    }

    pub(super) fn job(&self, tenant: &Tenant, id: JobId) -> Sql<Option<Document>> {
        Ok(self.job_and_work(tenant, id)?.map(|(document, _)| document))
    }

    fn job_and_work(&self, tenant: &Tenant, id: JobId) -> Sql<Option<(Document, i64)>> {
        let sql = format!("SELECT {DOCUMENT} WHERE jobs.id = ?1 AND jobs.tenant = ?2");
        let mut statement = self.connection.prepare_cached(&sql)?;
        statement.query_row(params![id.0, &*tenant.0], |row| Ok((self.document(row)?, row.get("work")?))).optional()
    }

    pub(super) fn follow(
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
    pub(super) fn news(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        for work in std::mem::take(&mut self.touched) {
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

    pub(super) fn cancel(&mut self, tenant: &Tenant, id: JobId) -> Sql<Option<Document>> {
        let Some((document, work)) = self.job_and_work(tenant, id)? else { return Ok(None) };
        if document.state.is_final() {
            return Ok(Some(document));
        }
        let now = now_ms();
        let sql = "UPDATE jobs SET cancelled = 1, finished_ms = ?2, revision = revision + 1 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute(params![id.0, now])?;
        self.touched.insert(work);
        let sql = "SELECT EXISTS (SELECT 1 FROM jobs WHERE work = ?1 AND NOT cancelled)";
        let wanted: bool = self.connection.prepare_cached(sql)?.query_row(params![work], |row| row.get(0))?;
        if !wanted {
            if let Some(standing) = self.standing(work)? {
                self.delta.counts.cancelled += 1;
                self.change(&standing, WorkState::Cancelled, now, None)?;
            }
        }
        self.job(tenant, id)
    }
}

/// A ticket and its answer.
pub(super) type Told = (Ticket<Result<Option<Document>, QueueError>>, Option<Document>);

/// Leasing and what comes of it.
impl Ledger {
    pub(super) fn lease(&mut self, lane: &str, ask: Ask) -> Sql<Vec<Lease>> {
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
        let turn = standing.turn + 1;
        self.deadlines.insert(id, Deadline { turn, until: Instant::now() + self.options.lease, progress: 0.0 });
        Ok(Some(Lease {
            id: LeaseId { work: id, turn },
            work,
            attempt: standing.attempts + 1,
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

    pub(super) fn heartbeat(&mut self, leases: &[(LeaseId, f32)]) -> Sql<Vec<Held>> {
        let mut held = Vec::with_capacity(leases.len());
        for &(lease, progress) in leases {
            if self.valid(lease)?.is_none() {
                held.push(Held::No);
                continue;
            }
            let until = Instant::now() + self.options.lease;
            let before = self.deadlines.insert(lease.work, Deadline { turn: lease.turn, until, progress });
            if before.is_none_or(|before| before.progress != progress) {
                self.touched.insert(lease.work);
            }
            held.push(Held::Yes);
        }
        Ok(held)
    }

    pub(super) fn complete(&mut self, lease: LeaseId, manifest: &Manifest) -> Sql<Settled> {
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

    pub(super) fn fail(&mut self, lease: LeaseId, fault: &Fault) -> Sql<Settled> {
        match self.valid(lease)? {
            Some(standing) => self.end_attempt(&standing, fault),
            None => Ok(Settled::Stale),
        }
    }

    pub(super) fn release(&mut self, lease: LeaseId) -> Sql<Settled> {
        let Some(standing) = self.valid(lease)? else { return Ok(Settled::Stale) };
        let sql = "UPDATE works SET attempts = max(attempts - 1, 0) WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute(params![standing.id])?;
        self.change(&standing, WorkState::Waiting, now_ms(), None)?;
        Ok(Settled::Again(Duration::ZERO))
    }

    fn end_attempt(&mut self, standing: &Standing, fault: &Fault) -> Sql<Settled> {
        let crashes = standing.crashes + u32::from(fault.kind == Kind::Crashed);
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
    fn lose(&mut self, id: i64, why: &str) -> Sql<()> {
        let Some(standing) = self.standing(id)? else { return Ok(()) };
        let kind = if self.options.lost_is_crash { Kind::Crashed } else { Kind::Io };
        self.delta.counts.expired += 1;
        self.end_attempt(&standing, &Fault::new(kind, why))?;
        Ok(())
    }

    /// Takes leases back that were not renewed.
    pub(super) fn expire(&mut self) -> Sql<()> {
        let now = Instant::now();
        let over = self.deadlines.iter().filter(|(_, deadline)| deadline.until <= now);
        let over: Vec<(i64, u64)> = over.map(|(id, deadline)| (*id, deadline.turn)).collect();
        for (work, turn) in over {
            if self.valid(LeaseId { work, turn })?.is_some() {
                self.lose(work, "its lease was not renewed in time")?;
            }
            self.deadlines.remove(&work);
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

/// Dead letters, retention, the sweep's questions.
impl Ledger {
    pub(super) fn dead(&self, tenant: Option<&Tenant>, before: u64, most: usize) -> Sql<Vec<(Tenant, Document)>> {
        let sql = format!(
            "SELECT {DOCUMENT} WHERE works.state = 4 AND works.finished_ms < ?1 AND NOT jobs.cancelled
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

    pub(super) fn retry(&mut self, tenant: Option<&Tenant>, id: JobId) -> Sql<Option<Document>> {
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

    pub(super) fn wanted(&self, keys: &[Key]) -> Sql<Vec<bool>> {
        let kept = self.options.originals_kept;
        let mut originals = self.connection.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM works WHERE original = ?1 AND (state IN (0, 1, 4) OR (?2 AND state = 2)))",
        )?;
        let mut others = self.connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM objects WHERE key = ?1)")?;
        let mut wanted = Vec::with_capacity(keys.len());
        for key in keys {
            let name = key.to_string();
            wanted.push(match key.suffix {
                Suffix::Original => originals.query_row(params![name, kept], |row| row.get(0))?,
                _ => others.query_row(params![name], |row| row.get(0))?,
            });
        }
        Ok(wanted)
    }

    /// Forgets what is older than it is kept; whether there may be more.
    pub(super) fn forget(&mut self) -> Sql<bool> {
        let ago = |kept: Duration| now_ms().saturating_sub(kept.as_millis().min(i64::MAX as u128) as i64);
        let jobs = self
            .connection
            .prepare_cached(
                "DELETE FROM jobs WHERE id IN (
                SELECT jobs.id FROM jobs JOIN works ON works.id = jobs.work
                WHERE jobs.finished_ms < CASE works.state WHEN 4 THEN ?2 ELSE ?1 END LIMIT ?3)",
            )?
            .execute(params![ago(self.options.jobs_kept), ago(self.options.dead_kept), REMOVED_MAX as i64])?;
        // Outputs that are kept for good keep their work.
        let outputs = self.options.outputs_kept.map(ago).unwrap_or(i64::MIN);
        let ids: Vec<i64> = {
            let mut statement = self.connection.prepare_cached(
                "SELECT id FROM works WHERE state >= 2 AND finished_ms < CASE state WHEN 2 THEN ?1 ELSE ?2 END
                        AND NOT EXISTS (SELECT 1 FROM jobs WHERE work = works.id) LIMIT ?3",
            )?;
            let rows = statement
                .query_map(params![outputs, ago(self.options.jobs_kept), REMOVED_MAX as i64], |row| row.get(0))?;
            rows.collect::<Sql<_>>()?
        };
        for id in &ids {
            self.connection.prepare_cached("DELETE FROM objects WHERE work = ?1")?.execute(params![id])?;
            if let Some(standing) = self.standing(*id)? {
                self.sum(standing.state, standing.priority, standing.cpu_us, -1);
            }
            self.connection.prepare_cached("DELETE FROM works WHERE id = ?1")?.execute(params![id])?;
        }
        self.followers.retain(|_, followers| {
            followers.retain(|follower| !follower.ticket.is_abandoned());
            !followers.is_empty()
        });
        Ok(jobs == REMOVED_MAX || ids.len() == REMOVED_MAX)
    }

    /// How long until something becomes due or expires by itself.
    pub(super) fn idle_for(&self, most: Duration) -> Sql<Duration> {
        let now = now_ms();
        let mut statement = self
            .connection
            .prepare_cached("SELECT min(due_ms) FROM works WHERE state = 0 AND priority = ?1 AND due_ms > ?2")?;
        let mut wait = most;
        for priority in [Priority::Interactive, Priority::Bulk] {
            let due: Option<i64> = statement.query_row(params![priority as i64, now], |row| row.get(0))?;
            if let Some(due) = due {
                wait = wait.min(Duration::from_millis((due - now).max(0) as u64 + 1));
            }
        }
        let over = self.deadlines.values().map(|deadline| deadline.until.saturating_duration_since(Instant::now()));
        Ok(over.min().map_or(wait, |over| wait.min(over)))
    }
}

/// The one place where a work changes its state.
impl Ledger {
    fn standing(&self, id: i64) -> Sql<Option<Standing>> {
        let sql = format!("SELECT {} FROM works WHERE id = ?1", Standing::COLUMNS);
        self.connection.prepare_cached(&sql)?.query_row(params![id], Standing::of).optional()
    }

    fn standing_of_key(&self, key: &WorkKey) -> Sql<Option<Standing>> {
        let sql = format!("SELECT {} FROM works WHERE key = ?1", Standing::COLUMNS);
        self.connection.prepare_cached(&sql)?.query_row(params![key.0], Standing::of).optional()
    }

    fn valid(&self, lease: LeaseId) -> Sql<Option<Standing>> {
        let standing = self.standing(lease.work)?;
        Ok(standing.filter(|standing| standing.state == WorkState::Leased && standing.turn == lease.turn))
    }

    /// `at` is when a waiting work is due, and when any other became what it is.
    fn change(&mut self, from: &Standing, to: WorkState, at: i64, fault: Option<&Fault>) -> Sql<()> {
        self.sum(from.state, from.priority, from.cpu_us, -1);
        self.sum(to, from.priority, from.cpu_us, 1);
        self.touched.insert(from.id);
        let finished = (to as i64 >= WorkState::Done as i64).then_some(at);
        let due = (to == WorkState::Waiting).then_some(at);
        self.connection
            .prepare_cached(
                "UPDATE works SET state = ?2, revision = revision + 1, finished_ms = ?3, due_ms = coalesce(?4, due_ms),
                        fault = CASE WHEN ?2 = 2 THEN NULL ELSE coalesce(?5, fault) END
                 WHERE id = ?1",
            )?
            .execute(params![from.id, to as i64, finished, due, fault.map(text)])?;
        self.connection
            .prepare_cached("UPDATE jobs SET finished_ms = ?2 WHERE work = ?1 AND NOT cancelled")?
            .execute(params![from.id, finished])?;
        Ok(())
    }

    fn sum(&mut self, state: WorkState, priority: Priority, cpu_us: u64, change: i64) {
        let delta = &mut self.delta;
        match state {
            WorkState::Waiting => {
                match priority {
                    Priority::Interactive => delta.interactive += change,
                    Priority::Bulk => delta.bulk += change,
                }
                delta.waiting_cpu_us += change * cpu_us.min(i64::MAX as u64) as i64;
            }
            WorkState::Leased => delta.leased += change,
            WorkState::Dead => delta.dead += change,
            WorkState::Done | WorkState::Failed | WorkState::Cancelled => {}
        }
    }
}

const DOCUMENT: &str = "
    jobs.id AS id, jobs.tenant AS tenant, jobs.work AS work, jobs.revision + works.revision AS revision,
    jobs.asked AS asked, jobs.priority AS priority, jobs.delayed AS delayed, jobs.wait_ms AS wait_ms,
    jobs.created_ms AS created_ms, jobs.finished_ms AS finished_ms, jobs.cancelled AS cancelled, works.state AS state,
    works.turn AS turn, works.attempts AS attempts, works.header AS header, works.len AS len, works.lane AS lane,
    works.manifest AS manifest, works.fault AS fault, works.started_ms AS started_ms, works.due_ms AS due_ms
    FROM jobs JOIN works ON works.id = jobs.work";

impl Ledger {
    fn document(&self, row: &Row<'_>) -> Sql<Document> {
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
        let attempts: u32 = row.get("attempts")?;
        let started_ms = row.get::<_, Option<i64>>("started_ms")?.map(|at| at as u64);
        let created_ms = unsigned(row, "created_ms")?;
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
            },
            attempts,
            attempts_max: self.options.attempts_max,
            progress,
            lane: row.get("lane")?,
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
