//! The Centrifuge client protocol, bidirectional, in both of its codecs: commands in, replies and pushes out.
//!
//! ```text
//! message --> Commands --> Command --> the service --> write_* --> &mut Vec<u8>, always a message that can be sent
//! ```
//!
//! It reads and writes the content of WebSocket messages; it keeps no state. Who may do what, and what a channel holds,
//! is the service's. Source: the public protocol definition (`client.proto` of the Centrifugal project) and what its
//! client SDKs send and expect.
//!
//! Payloads (`data`) belong to the application. In JSON they are spans of a validated text, in Protobuf bytes that nobody
//! has looked at: before they go to clients of the other codec, [`Payload::of`] looks once.
//!
//! ```
//! use annulus_protocols::centrifuge::{Codec, Commands, Method, Payload, Publication};
//! use annulus_protocols::centrifuge::{write_publication, write_publish_result};
//!
//! let message = b"{\"id\":3,\"publish\":{\"channel\":\"news\",\"data\":{\"text\":\"hi\"}}}";
//! for command in Commands::of(Codec::Json, message) {
//!     let command = command.expect("the client behaves");
//!     let Method::Publish { channel, data: Some(data) } = command.method else { panic!("not a publish") };
//!
//!     let publication = Publication { data: Payload::of(data), offset: 1, ..Publication::default() };
//!     let [json, protobuf] = Codec::ALL.map(|codec| {
//!         let mut out = Vec::new();
//!         write_publication(codec, &mut out, &channel, &publication);
//!         out
//!     });
//!     assert_eq!(json, b"{\"push\":{\"channel\":\"news\",\"pub\":{\"data\":{\"text\":\"hi\"},\"offset\":1}}}");
//!     assert_eq!(protobuf, b"\x1b\x22\x19\x12\x04news\x22\x11\x22\x0d{\"text\":\"hi\"}\x30\x01");
//!
//!     let mut reply = Vec::new();
//!     write_publish_result(Codec::Json, &mut reply, command.id);
//!     assert_eq!(reply, b"{\"id\":3,\"publish\":{}}");
//! }
//! ```

mod codec;
mod codes;
mod command;
mod commands;
mod delta;
mod emulation;
mod filter;
mod form;
mod json;
mod protobuf;
mod reply;
mod schema;
mod write;

pub use codec::Codec;
pub use codes::{
    BadCode, CUSTOM_DISCONNECTS, CUSTOM_ERRORS, Disconnect, ErrorCode, REASON_BYTES_MAX, UNSUBSCRIBES, Unsubscribed,
    check_reason,
};
pub use command::{Command, Connect, HEADERS_MAX, History, Method, Position, SERVER_SUBS_MAX, ServerSub, Subscribe};
pub use commands::{Commands, Malformed};
pub use delta::{delta, patch};
pub use emulation::Emulation;
pub use filter::{FILTER_BYTES_MAX, FILTER_DEPTH_MAX, FILTER_NODES_MAX, Filter, NoFilter, Test};
pub use reply::{
    ClientInfo, ConnectResult, HistoryResult, Payload, Publication, RefreshResult, SubRefreshResult, SubscribeResult,
};
pub use write::{
    write_connect, write_disconnect_push, write_error, write_history, write_join, write_leave, write_message_push,
    write_ping, write_presence, write_presence_stats, write_publication, write_publish_result, write_refresh,
    write_rpc, write_sub_refresh, write_subscribe, write_subscribe_push, write_unsubscribe_push,
    write_unsubscribe_result,
};
