//! The services built on the engine, and the one binary that runs them.

pub mod args;
mod backoff;
pub mod chat;
pub mod command;
pub mod config;
pub mod console;
pub mod doctor;
mod durable;
pub mod fetch;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod gateway;
mod hex;
pub mod image;
pub mod jose;
pub mod journal;
pub mod nearest;
pub mod outbound;
mod pace;
mod percent;
pub mod postgres;
pub mod process;
pub mod redis;
#[cfg(test)]
mod reference;
mod schema;
mod secret;
pub mod serve;
mod voice;
