//! Peers that abuse HTTP: clients that attack the gateway from the front, and a service that attacks it from behind.
//!
//! ```text
//!   core 1: attacker ──► core 0: gateway ──► core 1: hostile service
//! ```
//!
//! An attack is a beginning and a unit that is repeated at a fixed rate: what is measured is what a unit costs the
//! gateway and everybody else, not how fast the attacker's own core writes. Frames are written by hand, since no
//! honest encoder writes them.

pub mod client;
pub mod hostile;
