//! A server as a process of its machine: how it is replaced while it works, whose it is, what it may do, and who waits for it.
//!
//! | file | noun |
//! |---|---|
//! | `handover.rs`, `handover/` | the sockets that a successor is given, and what the two say to each other |
//! | `user.rs` | whom a server becomes that root started |
//! | `walls.rs` | the kernel's walls around a server: paths, ports, system calls |
//! | `needs.rs` | what of the machine the configured services need |
//! | `supervisor.rs` | what the service manager that started it is told |

pub mod handover;
pub mod needs;
pub mod supervisor;
pub mod user;
pub mod walls;
