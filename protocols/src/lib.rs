//! Sans-I/O protocol machines: bytes in, events and bytes out.
//!
//! Nothing here owns a socket, a clock, a thread, randomness or a log. The caller moves the bytes, so the same
//! machine runs on any transport, is tested byte by byte, fuzzed, and joined to its own peer in memory.
//!
//! # The contract
//!
//! ```text
//!           recv                         next_*                        write_*
//! bytes --> Input (a cursor over the --> machine --> events until --> &mut Vec<u8> (appended) --> bytes
//!           caller's receive buffer)     NeedMore                      the caller's outbox
//! ```
//!
//! * **Feed.** The caller wraps what it received in an [`Input`]: a cursor over its own, mutable buffer. Machines may
//!   change those bytes (a WebSocket payload is unmasked where it lies).
//! * **Drain.** `next_*` takes from the input and returns one event. When it returns `NeedMore`, the input is empty:
//!   whatever was incomplete now lives in the machine, so the caller never keeps a tail, and its buffer is free again.
//!   A caller may stop draining earlier (HTTP pipelining); then the rest of the input is the caller's to keep.
//! * **Borrowing.** An event borrows from the caller's buffer, never from the machine, so the machine can be used
//!   while the event is alive. What had to be put together from several buffers is owned by the event instead, and can
//!   be kept without a copy.
//! * **Write.** `write_*` appends to a `Vec<u8>`.
//! * **Time and chance are arguments.** `now` is a number of milliseconds of any monotonic clock; masks and nonces are
//!   passed in.
//! * **Faults.** What the peer did wrong is an `Err` that names it and knows its answer on the wire (a close code, a
//!   status). After a fault the machine discards input. `NeedMore` is not a fault. No byte of a peer makes it panic.
//! * **Limits.** Everything that a peer can grow has a named limit, passed by reference and shared by all connections.
//!
//! # Example
//!
//! A WebSocket server that echoes, fed by a client through memory, three bytes at a time:
//!
//! ```
//! use annulus_protocols::Input;
//! use annulus_protocols::websocket::{Event, Limits, MessageKind, Role, WebSocket, write_message};
//!
//! let limits = Limits::DEFAULT;
//! let mut server = WebSocket::new(Role::Server);
//!
//! // What a client would send: two masked text messages.
//! let mut wire = Vec::new();
//! write_message(&mut wire, MessageKind::Text, b"hello", Some([1, 2, 3, 4]));
//! write_message(&mut wire, MessageKind::Text, b"again", Some([9, 8, 7, 6]));
//!
//! let mut outbox = Vec::new();
//! for (now, received) in wire.chunks_mut(3).enumerate() {
//!     let mut input = Input::new(received); // feed
//!     loop {
//!         match server.next_event(&limits, now as u64, &mut input).expect("the client behaves") {
//!             Event::Message(message) => write_message(&mut outbox, message.kind, &message.payload, None),
//!             Event::NeedMore => break, // feed again
//!             other => panic!("unexpected {other:?}"),
//!         }
//!     }
//!     assert!(input.is_empty());
//! }
//! assert_eq!(outbox, b"\x81\x05hello\x81\x05again");
//! ```
#![forbid(unsafe_code)]

pub mod input;
pub mod output;

pub mod centrifuge;
pub mod http1;
pub mod http2;
pub mod json;
pub mod multipart;
pub mod websocket;

pub use input::Input;
