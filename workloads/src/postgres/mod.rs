//! A client for PostgreSQL on the engine, shared by whatever keeps something there. It knows no table.
//!
//! ```text
//!   url.rs       where and who                dial.rs      name, TCP, TLS     login.rs    authentication
//!   session.rs   logged in, and questions     wire.rs      messages           row.rs      what comes back
//!   migrate.rs   tables and their versions    pool.rs      a few sessions for many questions
//!   trouble.rs   what goes wrong, and what to do about it
//! ```
//!
//! Messages are encoded and decoded by `postgres-protocol`; sockets, TLS, time-outs and the order of things are ours.
//!
//! # When a server is gone
//!
//! A session belongs to one server. When that ends, or takes no writes any more, the session is given up, and the next one
//! is opened on the first server of the URL that lets us in and, where several are named, takes writes. That is all that
//! failing over is: nobody here elects a primary. What had no answer is doubtful; whoever asks must be able to ask again.

mod dial;
mod login;
pub mod migrate;
pub mod pool;
pub mod row;
mod session;
mod trouble;
pub mod url;
mod wire;

use std::time::Duration;

pub(crate) use dial::Dialer;
pub use migrate::Schema;
pub use pool::{Pool, PoolSettings};
pub use row::Row;
pub use session::Session;
pub use trouble::{Kind, Trouble};
pub use url::{SessionAttrs, SslMode, Target};

/// How long saying farewell may take, and cancelling.
pub(crate) const FAREWELL_MAX: Duration = Duration::from_secs(2);
