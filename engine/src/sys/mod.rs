//! The only unsafe code, and the promise each file of it keeps.
//!
//! Every file opens with its promise: what its safe interface guarantees whatever safe code above does.
#![allow(unsafe_code)]

pub mod epoll;
pub mod event;
pub mod files;
pub mod gpu;
pub mod memory;
pub mod net;
pub mod process;
pub mod signals;
pub mod stall;
pub mod threads;
pub mod uring;
