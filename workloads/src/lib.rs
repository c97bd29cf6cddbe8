//! The services built on the engine, and the one binary that runs them.

pub mod chat;
