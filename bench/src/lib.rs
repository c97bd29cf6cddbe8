//! Open-loop load, honest percentiles, peers side by side.
//!
//! A scenario starts a server pinned to its cores, loads it from one thread on another (`placement`), reads the server's own accounts
//! from `/proc`, and ends in rows: a name, a target, what was measured, and whether it holds. Nothing here is a
//! dependency of the product.

pub mod alarm;
pub mod attacks;
pub mod chat;
pub mod compare;
pub mod drivers;
pub mod faults;
pub mod gateway;
pub mod generator;
pub mod ground;
pub mod histogram;
pub mod image;
pub mod janitor;
pub mod live;
pub mod load;
pub mod observe;
pub mod placement;
pub mod process;
pub mod progress;
pub mod pulse;
pub mod random;
pub mod record;
pub mod report;
pub mod runs;
pub mod sampler;
pub mod scanner;
pub mod scenario;
pub mod schedule;
pub mod seeds;
pub mod smoke;
pub mod soak;
pub mod suite;
pub mod upstreams;
