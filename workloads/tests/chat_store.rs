//! The chat's database, SQLite and a real PostgreSQL: rows come once and in order, whatever is killed, slow, locked or
//! refused meanwhile.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod outside;

#[path = "chat_store/failover.rs"]
mod failover;
#[path = "chat_store/faults.rs"]
mod faults;
#[path = "chat_store/figures.rs"]
mod figures;
#[path = "chat_store/kills.rs"]
mod kills;
#[path = "chat_store/logins.rs"]
mod logins;
#[path = "chat_store/migrations.rs"]
mod migrations;
#[path = "chat_store/pool.rs"]
mod pool;
#[path = "chat_store/proxy.rs"]
mod proxy;
#[path = "chat_store/rig.rs"]
mod rig;
#[path = "chat_store/sqlite.rs"]
mod sqlite;
