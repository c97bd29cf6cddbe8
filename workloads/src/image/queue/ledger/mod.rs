//! What the calls do to the tables. Runs on the queue's own thread, inside the transaction of a batch of calls.
//!
//! What is durable is in the tables. In memory are only the leases' deadlines and progress, which die with the process
//! as the leases do, and sums for whoever does not wait. Memory that a failed transaction leaves behind is harmless: a
//! deadline counts only while the tables say that its lease is valid, and sums are moved after the commit.

mod documents;
mod jobs;
mod keeping;
mod leases;
mod outbox;

use std::collections::{HashMap, HashSet};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use annulus_engine::compute::Ticket;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::de::DeserializeOwned;

use super::options::QueueOptions;
use super::{Counts, Depth, LeaseId, QueueError};
use crate::image::fault::Fault;
use crate::image::job::{Document, JobId, Priority, State, Tenant};
use crate::image::work::{Salt, WorkKey};

type Sql<T> = rusqlite::Result<T>;

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
    /// Works that this batch changes in the tables.
    touched: HashSet<i64>,
    /// Works of which only the progress has changed.
    progressed: HashSet<i64>,
    leases_given: u32,
    /// Both clocks when the last batch began; of the second one somebody may set the time.
    clock: (Instant, i64),
    /// Events that are to be told, of each reader that there is.
    outboxes: Vec<outbox::Room>,
}

/// Less than this is no step: clocks are slewed, and read one after the other.
const CLOCK_STEP_MS: i64 = 1000;

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
            progressed: HashSet::new(),
            leases_given: 0,
            clock: (Instant::now(), now_ms()),
            outboxes: Vec::new(),
        };
        ledger.open_outboxes()?;
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
                let waiting = &mut self.depth.waiting_cpu_us;
                *waiting = waiting.saturating_add(row.get::<_, f64>(3)? as u64);
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
        self.follow_clock(Instant::now(), now_ms())?;
        self.connection.execute_batch("BEGIN")
    }

    /// A clock that is set back takes what waits along, or works that are due would wait until it is there again. One that is
    /// set forward only ends backoffs early.
    pub(super) fn follow_clock(&mut self, now: Instant, wall_ms: i64) -> Sql<()> {
        let (before, before_ms) = self.clock;
        let back_ms = before_ms + now.saturating_duration_since(before).as_millis() as i64 - wall_ms;
        if back_ms >= CLOCK_STEP_MS {
            let sql = "UPDATE works SET due_ms = due_ms - ?1 WHERE state = 0";
            self.connection.execute(sql, params![back_ms])?;
        }
        self.clock = (now, wall_ms);
        Ok(())
    }

    /// Makes the batch of `calls` calls durable, and moves the sums.
    pub(super) fn commit(&mut self, calls: u64) -> Sql<Committed> {
        let begun = Instant::now();
        let changed = !self.touched.is_empty();
        self.connection.execute_batch("COMMIT")?;
        self.outboxes.iter_mut().for_each(|room| room.end(true));
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
        self.outboxes.iter_mut().for_each(|room| room.end(false));
        // SQLite has rolled back by itself after the worst errors; then there is nothing to undo.
        let _nothing_to_undo = self.connection.execute_batch("ROLLBACK");
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
        self.note(from.id, outbox::event(from.state, to, fault), fault)
    }

    fn sum(&mut self, state: WorkState, priority: Priority, cpu_us: u64, change: i64) {
        let delta = &mut self.delta;
        match state {
            WorkState::Waiting => {
                match priority {
                    Priority::Interactive => delta.interactive += change,
                    Priority::Bulk => delta.bulk += change,
                }
                // What a damaged row says may be enormous.
                let cpu_us = cpu_us.min(i64::MAX as u64) as i64;
                delta.waiting_cpu_us = delta.waiting_cpu_us.saturating_add(change * cpu_us);
            }
            WorkState::Leased => delta.leased += change,
            WorkState::Dead => delta.dead += change,
            WorkState::Done | WorkState::Failed | WorkState::Cancelled => {}
        }
    }
}

/// A ticket and its answer.
pub(super) type Told = (Ticket<Result<Option<Document>, QueueError>>, Option<Document>);
