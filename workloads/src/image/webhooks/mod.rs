//! Webhooks: somebody else's server is told how jobs ended, by choice.
//!
//! ```text
//!   webhooks' outbox ─► batch, with the jobs' documents ─► POST, signed ─► 2xx: forgotten
//!     (in the queue)                                        │ 5xx, no answer: again, later
//!                                                           ▼ 4xx, or too often
//!                                            a dead letter, in the queue ─► listed, and told again when an admin says so
//! ```
//!
//! | file | noun |
//! |---|---|
//! | `settings.rs` | what a deployment may choose |
//! | `sender.rs` | the task that empties the outbox |
//! | `dead.rs` | dead letters, for those who run the server |
//!
//! Invariants:
//! * No job waits for a webhook, and no end of a job is lost between the two: see [`outbox`](super::outbox).
//! * They are told in the order of the outbox, a batch at a time, at least once. In a fleet one node tells for all.
//! * What is given up is kept, and is somebody's to look at.

pub(super) mod dead;
mod sender;
mod settings;

pub use sender::{Figures, Sender};
pub use settings::WebhookSettings;
