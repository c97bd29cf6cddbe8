//! The image service: uploads that are never lost, work done once, and pixels that never touch a shard.
//!
//! ```text
//!   shard:   api ─► store (original) ─► queue (durable) ─► 202          delivery ◄─ store
//!                                          │                                          ▲
//!   threads:                     dispatch: lease ─► admit bytes ─► lane ─► outputs ───┘─► queue: done
//!                                                                   │
//!   process:                                      sandboxed worker: pipeline (decode, resize, adjust, encode)
//! ```
//!
//! What is done to bytes is a crate of its own, [`annulus_pixels`]: the vocabulary that all of them share (`format`, `header`,
//! `recipe`, `fault`), and `pipeline`, which runs in the worker; it is pure: bytes in, bytes out, no file, no clock, no thread.

pub mod admission;
mod api;
mod asked;
pub mod audit;
pub mod config;
mod cors;
mod courier;
mod delivery;
pub mod dispatch;
mod events;
mod intake;
pub mod job;
pub mod keys;
pub mod lanes;
mod meters;
pub mod outbox;
#[cfg(test)]
#[path = "../../tests/outside/mod.rs"]
pub(crate) mod outside;
mod pages;
pub mod plan;
pub mod presets;
pub mod pressure;
pub mod process;
mod purge;
pub mod queue;
pub mod quotas;
pub mod service;
pub mod store;
pub mod sweep;
pub mod tus;
mod upload;
pub mod variants;
pub mod webhooks;
pub mod work;

pub use annulus_pixels::{fault, format, header, options, pipeline, recipe, sniff};
