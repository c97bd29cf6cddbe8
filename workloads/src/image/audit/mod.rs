//! An account of what became of every job, in PostgreSQL, by choice: accepted, leased, retried, expired, done, failed and so
//! on, with times, tenant, sizes and errors. For people who ask weeks later, and for bills.
//!
//! ```text
//!   queue's thread: a change of state ──┬─ the tables          one transaction, one fdatasync
//!                                       └─ outbox (a row each)
//!   a shard's task: outbox ─► INSERT ... ON CONFLICT DO NOTHING ─► committed ─► taken out of the outbox
//! ```
//!
//! An event is in the outbox exactly if its change happened, whatever crashes. From there it is sent until the database has
//! it, so at least once, and `(job, revision, event)` lets the database keep it once. Jobs wait for nothing of this: while
//! the database is away the outbox grows, and beyond [`EVENTS_MAX`] events are left out, and counted.

mod sender;

use serde::Serialize;

use super::queue::Answer;
use crate::postgres::migrate::{Schema, Step};

pub use sender::{Figures, send};

/// Events in the outbox at most, some 200 bytes each. Beyond, new ones are lost to the account, and counted.
pub const EVENTS_MAX: u64 = 1_000_000;
/// The same where the outbox is in Redis: its memory is for jobs.
pub const EVENTS_MAX_IN_REDIS: u64 = 100_000;

/// What happened to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was entered, durably.
    Accepted,
    /// A lane has taken it.
    Leased,
    /// The attempt failed, and it will be tried again.
    Retried,
    /// Whoever had taken it did not say that it still works on it.
    Expired,
    /// It was given back untouched.
    Released,
    /// Its outputs are there.
    Done,
    /// The image is to blame.
    Failed,
    /// It failed too often, and waits for a person.
    Dead,
    /// Nobody wants it any more.
    Cancelled,
    /// It begins anew, because somebody asked for it again.
    Revived,
}

impl Event {
    /// As the account has it.
    pub fn name(self) -> &'static str {
        match self {
            Event::Accepted => "accepted",
            Event::Leased => "leased",
            Event::Retried => "retried",
            Event::Expired => "expired",
            Event::Released => "released",
            Event::Done => "done",
            Event::Failed => "failed",
            Event::Dead => "dead",
            Event::Cancelled => "cancelled",
            Event::Revived => "revived",
        }
    }
}

/// Where an event is in an outbox; later ones are greater. What the numbers are is the outbox' own affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub u64, pub u64);

/// An event in the outbox.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Noted {
    /// Its place in the outbox.
    #[serde(skip)]
    pub place: Place,
    /// The job, as clients know it.
    pub job: String,
    /// The job's revision with this event.
    pub revision: i64,
    /// What happened.
    pub event: String,
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// Whose job it is.
    pub tenant: String,
    /// Attempts so far.
    pub attempt: i64,
    /// Where it was worked on.
    pub lane: Option<String>,
    /// Bytes of the original.
    pub bytes_in: i64,
    /// Its width in pixels.
    pub width: Option<i64>,
    /// Its height.
    pub height: Option<i64>,
    /// Bytes of the outputs, of one that is done.
    pub bytes_out: Option<i64>,
    /// What went wrong: kind and words.
    pub error: Option<String>,
}

/// Events that are to be sent, oldest first. Part of a queue, since it must not say what did not happen.
pub trait Outbox: Send + Sync {
    /// The first ones. None where another node of the fleet sends them.
    fn first(&self, most: usize) -> Answer<Vec<Noted>>;

    /// All up to this place are in the database.
    fn forget(&self, upto: Place) -> Answer<()>;

    /// How many wait, and how many this process left out for want of room since its start.
    fn figures(&self) -> (u64, u64);
}

/// The account's table.
pub static SCHEMA: Schema =
    Schema { name: "image audit", table: "annulus_image_events", steps: &[Step { words: EVENTS, least: 1 }] };

const EVENTS: &str = "
CREATE TABLE annulus_image_events (
    job text NOT NULL,
    revision bigint NOT NULL,
    event text NOT NULL,
    time timestamptz NOT NULL,
    tenant text NOT NULL,
    attempt integer NOT NULL,
    lane text,
    bytes_in bigint NOT NULL,
    width integer,
    height integer,
    bytes_out bigint,
    error text,
    PRIMARY KEY (job, revision, event)
);
CREATE INDEX annulus_image_events_time ON annulus_image_events (time);
COMMENT ON TABLE annulus_image_events IS 'what became of the jobs of the image service, one row for each event, never changed';
COMMENT ON COLUMN annulus_image_events.revision IS 'rises with the events of a job, and orders them';
COMMENT ON COLUMN annulus_image_events.bytes_out IS 'of all outputs together, where event is done';
";
