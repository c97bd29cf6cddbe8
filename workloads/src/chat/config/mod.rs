//! The configuration of `annulus chat`: one model, two dialects.
//!
//! ```text
//!   [chat] of annulus.toml --ours--------------------------\
//!                                                           > model --check--> the chat
//!   a Centrifugo v6 file and CENTRIFUGO_* --centrifugo-----/
//! ```
//!
//! The model is plain structs with everything resolved; nothing behind it knows which dialect a value came from. What
//! the dialects do not share is their defaults: [`Config::default`] is ours, [`Config::centrifugo`] is Centrifugo's.

pub mod centrifugo;
pub mod channels;
mod check;
pub mod events;
pub mod hooks;
mod keys;
pub mod model;
mod named;
mod ours;
pub mod reference;
pub mod secret;

pub use centrifugo::{Finding, Note, Problem, load_centrifugo};
pub use channels::{Ack, Channels, DataFormat, Namespace, RecoveryMode, Slow};
pub use hooks::{Hook, Hooks, RpcNamespace};
pub use model::{
    Admin, Api, Broker, Client, Compression, Config, Database, Encryption, Log, Paths, Rate, Rates, Tls, Tokens,
};
pub use secret::{KeySource, Keyring, Pem, Secret};

#[cfg(test)]
mod tests;
