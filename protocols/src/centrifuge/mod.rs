//! The Centrifuge client protocol, bidirectional, JSON form: commands in, replies and pushes out.
//!
//! It reads and writes texts of WebSocket messages; it keeps no state. Who may do what, and what a channel holds, is
//! the service's. Source: the public protocol definition (`client.proto` of the Centrifugal project) and what its
//! client SDKs send and expect.
//!
//! Payloads (`data`) are spans of JSON, validated and otherwise untouched. The Protobuf form will share
//! [`Command`], [`Publication`] and the codes.

mod codes;
mod command;
mod write;

pub use codes::{Disconnect, ErrorCode, Unsubscribed};
pub use command::{Command, Commands, Connect, History, Malformed, Method, Position, Subscribe};
pub use write::{
    ClientInfo, HistoryResult, Publication, SubscribeResult, write_connect, write_error, write_history, write_join,
    write_leave, write_presence, write_presence_stats, write_publication, write_result, write_subscribe,
    write_unsubscribe,
};
