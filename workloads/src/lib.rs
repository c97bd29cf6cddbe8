//! The services built on the engine, and the one binary that runs them.

pub mod args;
pub mod chat;
pub mod config;
pub mod console;
pub mod nearest;
