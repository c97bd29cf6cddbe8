//! Sans-I/O protocol machines: bytes in, events and bytes out.
#![forbid(unsafe_code)]

pub mod centrifuge;
pub mod http1;
pub mod json;
pub mod websocket;
