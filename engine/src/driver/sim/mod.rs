//! The simulated kernel: seeded, single-threaded, with a virtual clock, and with every nuisance of a real one.
//!
//! ```text
//!   test script ──► Peer, World ──►┌─────────────────────────────┐
//!                                  │ World: links, descriptors,  │◄── SimDriver ◄── shard under test
//!                                  │ disk, clock, chance, trace  │◄── SimDriver ◄── another shard
//!                                  └─────────────────────────────┘
//! ```
//!
//! A run is a function of its seed, its [`Faults`] and the script: no thread, no real clock, no hash order. What
//! must always hold is checked where it happens, and a broken invariant panics with the trace and the command
//! that replays it:
//!
//! * an operation works on an open descriptor of its kind, and retires exactly once;
//! * at most one send and one receive are in flight per socket;
//! * the memory of a send does not change until its terminal completion;
//! * a descriptor is closed once, with nothing in flight on it;
//! * the buffers that the kernel has are those that the pool says it has;
//! * at the end ([`World::finish`]) nothing is in flight and nothing is open.
//!
//! It does not simulate: TCP itself (no packets, no windows beyond a capacity per direction), permissions,
//! several threads.

mod disk;
mod driver;
mod faults;
mod link;
mod peer;
mod progress;
mod random;
mod trace;
mod world;

pub use driver::SimDriver;
pub use faults::Faults;
pub use peer::{Peer, PeerListener};
pub use random::Random;
pub use world::World;

#[cfg(test)]
mod tests;
