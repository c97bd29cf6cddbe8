//! The shard-per-core engine: cores, time and bytes on io_uring, epoll or a simulated kernel.
//!
//! A shard is a thread on a core of its own with everything that its connections need: nothing is shared, nothing is locked, and
//! its futures need not be [`Send`]. [`Engine`] starts shards, and each runs the same `main` with its own [`Shard`]:
//!
//! ```
//! use annulus_engine::{Address, Engine, ListenOptions, SocketOptions};
//!
//! # fn main() -> std::io::Result<()> {
//! let heard = Engine::builder().shards(1).run(|shard| async move {
//!     let anywhere = Address::Ip(([127, 0, 0, 1], 0).into());
//!     let listener = shard.listen(&anywhere, &ListenOptions::default())?;
//!     let (address, own) = (listener.address().clone(), shard.clone());
//!     // A client, in a task beside the server's.
//!     let client = shard.spawn(async move {
//!         let mut stream = own.connect(&address, &SocketOptions::default()).await?;
//!         stream.send_copy(&[b"hel", b"lo"]).await?;
//!         stream.finish().await?;
//!         let mut heard = Vec::new();
//!         while let Some(chunk) = stream.recv().await? {
//!             heard.extend_from_slice(&chunk);
//!         }
//!         Ok::<_, std::io::Error>(heard)
//!     });
//!     // The server: whatever comes goes back, in place.
//!     let mut stream = listener.accept().await;
//!     while let Some(chunk) = stream.recv().await? {
//!         stream.send(&chunk.into_frame()).await?;
//!     }
//!     drop(stream);
//!     client.await.expect("the client did not panic")
//! })?;
//! assert_eq!(heard.into_iter().collect::<Result<Vec<_>, _>>()?, [b"hello"]);
//! # Ok(())
//! # }
//! ```
//!
//! | what | with |
//! |---|---|
//! | a few connections, each in a task | [`Stream`], [`Shard::connect`], [`Listener::accept`]; TLS: [`tls`] |
//! | masses of connections, without a task or memory for each | [`Group`] |
//! | something for another shard | [`Shard::post`], [`Inbox`]; an answer to it: [`compute::ticket`] |
//! | work that takes longer than a turn | [`Shard::compute`] |
//! | files, datagrams, time | [`File`], [`Datagrams`], [`Shard::sleep`], [`Shard::timeout`] |
//! | an end in good order | [`Engine::drain`], [`Shard::until_drained`], [`signals`] |
//!
//! # Whole programs
//!
//! Below `examples/`, each tested as it stands, from the shortest to the longest:
//!
//! | example | what it shows |
//! |---|---|
//! | `echo` | a task for each connection; bytes that go back in place |
//! | `factors` | a pipeline through the compute threads, with answers in order and a refusal where there are too many |
//! | `tls_get` | a client: names resolved on a compute thread, TLS, a time limit over all of it |
//! | `room` | masses of connections as a group; one frame for all of them; letters between shards |
//! | `memcached` | a protocol from its document to a server that real clients use: keys divided among shards, questions to another shard |
//! | `hello` | next to nothing above the engine, for measuring it |
//! | `http_hello`, with the services | HTTP/1.1 with `annulus-protocols` |
//!
//! # What stays as it is
//!
//! Versions follow semver as Cargo reads it. What is public and documented here keeps its meaning within a minor version below
//! 1.0 and within a major version from there on: signatures, the order of events, errors' kinds, and that no byte of a peer makes
//! it panic. [`limits`] may grow or shrink with a minor version, and says so in CHANGELOG.md; nobody should count on a number
//! there. Not covered: what is printed for people ([`metrics`]' texts, stall reports, error sentences), the [`driver`] trait's
//! methods, which follow the kernel, and how fast anything is. The oldest compiler is named in `Cargo.toml`; a newer one is
//! asked for with a minor version only.
#![warn(missing_docs)]

pub mod buffers;
pub mod compute;
mod conn;
mod datagram;
pub mod driver;
mod engine;
pub mod error;
mod files;
#[allow(unsafe_code)] // The carved blocks: bytes below the mark are shared, bytes above it are written.
pub mod frame;
pub mod gpu;
mod group;
pub mod limits;
mod listen;
#[cfg(not(loom))]
mod listening;
#[cfg(loom)] // For `tests/loom_listening.rs`.
pub mod listening;
mod mail;
#[allow(unsafe_code)] // The slots of the rings between shards.
pub mod mailbox;
pub mod metrics;
mod once;
pub mod plan;
mod remote;
mod shard;
pub mod signals;
mod sockets;
pub mod stall;
mod stream;
mod sys;
#[allow(unsafe_code)] // A waker is a number, and its vtable treats it as one; a task is pinned with its future.
mod task;
mod ticket;
mod timer;
pub mod tls;
pub mod trace;
mod tracer;

pub use conn::{Chunk, Close, ConnId, Reason};
pub use datagram::Datagrams;
pub use driver::{Address, FileMeta, SocketOptions};
pub use engine::{
    Builder, DriverChoice, Engine, Running, describe_drivers, keep_descriptors_from_programs, raise_file_limit,
    yield_to_all,
};
pub use files::{Directory, File, OpenOptions};
pub use frame::Frame;
pub use group::{Event, Group, GroupOptions, Outlet};
pub use listen::{Balance, ListenOptions, Listener, ListeningSocket};
pub use mail::{Inbox, MailboxFull};
pub use shard::{LocalShard, Shard};
pub use sockets::Sent;
pub use stream::Stream;
pub use task::{Ended, JoinHandle, TaskClass};
pub use timer::{Elapsed, Interval, Sleep};
