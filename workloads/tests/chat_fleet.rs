//! Several nodes of the chat around a real Redis: what one says all hear, what was promised outlives a node, and Redis itself
//! as far as it is configured to keep it; and what is lost is lost in the documented way.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod chat_rig;
mod outside;

#[path = "chat_fleet/cable.rs"]
mod cable;
#[path = "chat_fleet/control.rs"]
mod control;
#[path = "chat_fleet/guide.rs"]
mod guide;
#[path = "chat_fleet/moderation.rs"]
mod moderation;
#[path = "chat_fleet/network.rs"]
mod network;
#[path = "chat_fleet/past.rs"]
mod past;
#[path = "chat_fleet/publications.rs"]
mod publications;
#[path = "chat_fleet/rig.rs"]
mod rig;
