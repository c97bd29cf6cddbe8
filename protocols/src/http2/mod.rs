//! HTTP/2 (RFC 9113): one connection, either end, with field compression (RFC 7541) and priorities (RFC 9218).
//!
//! The machine opens and answers streams, keeps the windows, and defends itself; which request goes where, and what is
//! sent first, the caller decides. There is no server push and no upgrade from HTTP/1.1: a connection begins with prior
//! knowledge or by ALPN.
//!
//! ```
//! use annulus_protocols::Input;
//! use annulus_protocols::http2::{Connection, Event, Head, Limits, RequestLine};
//!
//! let limits = Limits::DEFAULT;
//! let (mut client, mut server) = (Connection::client(&limits), Connection::server(&limits));
//! let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
//! client.write_preface(&limits, &mut to_server);
//! server.write_preface(&limits, &mut to_client);
//!
//! let line = RequestLine { method: "GET", scheme: "http", authority: "a.example", path: "/" };
//! let asked = client.open(&mut to_server, &line, [("accept", &b"*/*"[..])], true).expect("nothing is open yet");
//!
//! let mut input = Input::new(&mut to_server);
//! loop {
//!     match server.next_event(&limits, 0, &mut input).expect("the client behaves") {
//!         Event::Head { stream, head: Head::Request { path, .. }, end: true } => {
//!             assert_eq!(path, "/");
//!             server.write_head(&mut to_client, stream, 200, [("content-type", &b"text/plain"[..])], false);
//!             server.write_data(0, &mut to_client, stream, b"hello", true);
//!         }
//!         Event::NeedMore => break,
//!         _ => {}
//!     }
//! }
//! server.write_pending(&mut to_client);
//!
//! let mut body = Vec::new();
//! let mut input = Input::new(&mut to_client);
//! loop {
//!     match client.next_event(&limits, 0, &mut input).expect("the server behaves") {
//!         Event::Head { stream, head: Head::Response { status, .. }, .. } => assert_eq!((stream, status), (asked, 200)),
//!         Event::Data { bytes, .. } => body.extend_from_slice(bytes),
//!         Event::NeedMore => break,
//!         _ => {}
//!     }
//! }
//! assert_eq!(body, b"hello");
//! ```

mod connection;
mod fault;
mod fields;
mod floods;
mod frame;
mod head;
pub mod hpack;
mod limits;
mod streams;

pub use connection::{Connection, Event, Refusal, RequestLine, Role};
pub use fault::{ErrorCode, Fault};
pub use fields::Fields;
pub use head::{Head, Priority};
pub use limits::Limits;
