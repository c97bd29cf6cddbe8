//! A client for PostgreSQL on the engine, shared by whatever keeps something there. It knows no table.
//!
//! ```text
//!   url.rs       where and who          dial.rs      name, TCP, TLS       login.rs    authentication
//!   wire.rs      messages               session.rs   logged in            trouble.rs  what goes wrong, and what to do
//! ```
//!
//! Messages are encoded and decoded by `postgres-protocol`; sockets, TLS, time-outs and the order of things are ours.

mod dial;
mod login;
mod session;
mod trouble;
pub mod url;
mod wire;

use std::time::Duration;

pub(crate) use dial::Dialer;
pub(crate) use session::Session;
pub(crate) use trouble::{Kind, Trouble};
pub use url::{SslMode, Target};
pub(crate) use wire::Link;

/// How long saying farewell may take, and cancelling.
pub(crate) const FAREWELL_MAX: Duration = Duration::from_secs(2);
