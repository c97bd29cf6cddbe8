//! `annulus chat`: real-time messaging for Centrifuge clients over WebSocket and streams.
//!
//! ```text
//!   serve/ ◄──► hub/ ──► channel, stream, session, users      one of each per shard
//!     │           └────► log/ ──► feeding ──► store/           what outlives the process
//!     ├─ work ──► tokens/  hooks/  schema                      what takes longer
//!     └─ call ──► api/                                         what backends ask for
//!   config/ ──► node                                           what all shards share
//! ```
//!
//! | room | what |
//! |---|---|
//! | `config/` | one model, two dialects: ours and Centrifugo's |
//! | `node.rs`, `prepared.rs`, `secure.rs` | what all shards share, and what happens before they start |
//! | `dialect.rs`, `emulation.rs` | what carries messages and how they look there; names of sessions without a WebSocket |
//! | `serve/` | one task per shard: sockets, HTTP, WebSocket, streams; `http.rs`: routes and answers, `page.html`: the page at / |
//! | `fleet/` | several nodes as one chat: who lives, orders and questions to all |
//! | `hub/` | one hub per shard: what clients may do, who hears what; no socket |
//! | `letters.rs`, `evidence.rs` | what hubs say to each other, and what is found out for commands that wait |
//! | `past.rs` | pages of history that reach behind memory, into the database |
//! | `channel.rs`, `stream.rs`, `differences.rs`, `session.rs`, `users.rs`, `slots.rs`, `bucket.rs`, `quota.rs`, `rules.rs`, `sanctions.rs` | what a hub keeps and goes by |
//! | `admin/` | the console at /admin/: who may see it, and what it shows |
//! | `log/`, `feeding.rs`, `store/`, `seal.rs` | the write-ahead log, and the database behind it; encryption at rest |
//! | `events/` | what the backend is told happened, as webhooks |
//! | `offline.rs` | a log looked at without a service |
//! | `tokens/`, `hooks/`, `schema.rs`, `api/` | JWTs, the backend's word, payloads' shape, the server's HTTP API |

pub mod admin;
pub mod api;
pub mod broker;
pub mod bucket;
pub mod channel;
pub mod config;
pub mod dialect;
pub mod differences;
pub mod emulation;
pub mod events;
pub mod evidence;
pub mod feeding;
pub mod fleet;
pub mod hooks;
mod http;
pub mod hub;
pub mod kept;
pub mod letters;
pub mod log;
pub mod node;
pub mod offline;
pub mod past;
mod prepared;
pub mod quota;
pub mod rules;
pub mod sanctions;
pub mod seal;
mod secure;
pub mod serve;
pub mod session;
mod slots;
pub mod store;
pub mod stream;
pub mod tokens;
pub mod users;

pub use config::Config;
