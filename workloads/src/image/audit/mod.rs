//! An account of what became of every job, in PostgreSQL, by choice: accepted, leased, retried, expired, done, failed and so
//! on, with times, tenant, sizes and errors. For people who ask weeks later, and for bills.
//!
//! ```text
//!   queue's thread: a change of state ──┬─ the tables          one transaction, one fdatasync
//!                                       └─ outbox (a row each)
//!   a shard's task: outbox ─► INSERT ... ON CONFLICT DO NOTHING ─► committed ─► taken out of the outbox
//! ```
//!
//! What is in the [outbox](super::outbox) is sent until the database has it, so at least once, and `(job, revision, event)` lets
//! the database keep it once.

mod sender;

use crate::postgres::migrate::{Schema, Step};

pub use sender::{Figures, send};

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
