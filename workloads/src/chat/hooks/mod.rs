//! Hooks: what clients want is asked of the application's backend over HTTP, in the form of Centrifugo v6's proxies.
//!
//! ```text
//!   the hub ─► wire.rs: a question as JSON ─► client.rs: Hook ──► gate.rs: a place ─► breaker ─┐
//!      ▲                                                                                       ▼
//!      └─── wire.rs: a verdict ◄── 200 with JSON ◄── outbound: one upstream per origin ◄── POST
//! ```
//!
//! Everything here is one shard's.
//!
//! A backend that is slow, dead or mad costs its own hook's callers their time-out and nothing else: calls under way,
//! calls that wait, bytes of an answer and time are bounded, and after failures in a row it is given a rest.

pub mod client;
pub mod gate;
pub mod wire;

pub(in crate::chat) use client::may_go;
pub use client::{Headers, Hook, HookError, Settings};
pub use wire::{Asker, Kind, Question, Unfit, Verdict};
