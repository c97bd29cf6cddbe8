//! The shard-per-core engine: cores, time and bytes on io_uring, epoll or a simulated kernel.
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
pub use listen::{Balance, ListenOptions, Listener};
pub use mail::{Inbox, MailboxFull};
pub use shard::{LocalShard, Shard};
pub use sockets::Sent;
pub use stream::Stream;
pub use task::{Ended, JoinHandle, TaskClass};
pub use timer::{Elapsed, Interval, Sleep};
