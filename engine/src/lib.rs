//! The shard-per-core engine: cores, time and bytes on io_uring, epoll or a simulated kernel.

pub mod buffers;
pub mod driver;
#[allow(unsafe_code)] // The carved blocks: bytes below the mark are shared, bytes above it are written.
pub mod frame;
mod sys;
