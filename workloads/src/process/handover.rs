//! How a server is replaced while it works: its successor is given the listening sockets themselves.
//!
//! ```text
//!   successor                                   the one before
//!     reads and checks its configuration
//!     connect ──"annulus 1 gateway 4711"──────►  is it one of us, and the same command?
//!     whose process is it? ◄─"sockets", names,── all listening sockets (SCM_RIGHTS)
//!                             descriptors
//!     opens what the one before does not have
//!     chat, image: "release" ─────────────────►  drains to its end: log and queue have one writer
//!                  ◄───────────── "released"───  (or its end: what a process locked is free then)
//!     opens, listens on what it was given
//!     "ready" ────────────────────────────────►  gateway: drains now
//!     "failed WHY" ───────────────────────────►  goes on as if nothing had been
//! ```
//!
//! What waits in a socket's queue stays there: the socket has an owner at every moment. Nothing else is handed over;
//! connections end with the process that accepted them.
//!
//! The socket's file belongs to who runs the server and is open to nobody else. Each side asks the kernel who the other is
//! (`SO_PEERCRED`, unix(7)): whoever could make a file at that place might otherwise have all that a server listens on, or
//! have it listen on what is theirs.
//!
//! A successor that is not ready in `READY_MAX` ends, and the one before waits `WORD_MAX` longer for its word: so
//! there is no moment at which both believe that the other has given up, or that it has not.
//!
//! | file | noun |
//! |---|---|
//! | `takeover.rs` | the successor's side |
//! | `offer.rs` | the side of the one before |
//! | `place.rs` | the socket's file: its folder, and whose it is |
//! | `words.rs` | what is said, and the descriptors that go with it |

mod offer;
mod place;
mod takeover;
mod words;

use std::time::Duration;

pub use offer::Handover;
pub use takeover::Takeover;

/// What both sides begin with; the number changes with what is said.
const GREETING: &str = "annulus 1";
/// How long the other side may take for a word that it has only to say.
const WORD_MAX: Duration = Duration::from_secs(5);
/// How long a successor may take from its greeting until it is ready, or asks the one before to finish. Beyond: it ends, and
/// the one before goes on.
const READY_MAX: Duration = Duration::from_secs(120);
