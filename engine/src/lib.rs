//! The shard-per-core engine: cores, time and bytes on io_uring, epoll or a simulated kernel.
