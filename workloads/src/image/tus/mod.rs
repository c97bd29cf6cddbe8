//! Resumable uploads: tus 1.0 at `/v1/tus`, so that clients of that protocol bring their images over connections that break.
//!
//! ```text
//!   POST   creation: facts are durable ─► 201, Location        OPTIONS  what is offered
//!   PATCH  a piece ─► fdatasync ─► record ─► 204, Upload-Offset HEAD     how far it is
//!   the last piece ─► intake, as if it came now ─► job         DELETE   given up
//! ```
//!
//! An offset is told after the bytes before it are durable. The last byte is acknowledged only with the job: whoever reads
//! that all of it is here reads of a job as durable as after a 202. What comes twice is one job, because the upload's name is
//! its idempotency key. Pieces lie in the directory of one node, whatever the store is.

mod answer;
mod fields;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod piece;
mod record;
mod settings;
mod table;

pub(super) use answer::{answer, sweep};
pub use settings::TusSettings;
pub use table::{Figures, Tus};
