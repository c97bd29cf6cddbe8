//! HTTP/1.1 for a service: requests in, bodies streamed both ways, answers out. It routes nothing and stores nothing.
//!
//! ```text
//!   door.rs     a port on every shard, a task per connection, the end
//!   session.rs  one connection: head ─► Service::answer(request, body) ─► reply ─► the next head
//!   body.rs     a request's body, pulled piece by piece; who does not pull holds the sender back
//!   reply.rs    what is answered: bytes, or pieces that are asked for one after the other
//!   request.rs  target, query, fields       problem.rs  documents of RFC 9457
//!   range.rs  negotiate.rs  date.rs         conditions, ranges, accepted types, dates: text in, verdicts out
//!   wire.rs     a connection with or without TLS           visitor.rs  pages of other sites
//! ```
//!
//! A service keeps to this: what a request's body holds is only what was pulled. Memory of a connection is at most the
//! engine's receive queue, one piece of a body, and what the engine lets wait to be sent.

pub mod body;
pub mod date;
pub mod door;
pub mod negotiate;
pub mod pieces;
pub mod problem;
pub mod range;
pub mod reply;
pub mod request;
pub mod rest;
mod session;
pub mod visitor;
pub mod wire;

use std::time::Duration;

use annulus_engine::trace::Kind;
use annulus_protocols::http1;

pub use body::{Body, Broken};
pub use problem::Problem;
pub use reply::{Pieces, Reply, ReplyBody};
pub use request::Request;

/// What answers requests. One per shard.
pub trait Service: 'static {
    /// What its requests are called where their time is told.
    const TRACED: &'static Kind;

    /// Answers a request. A body that is not pulled to its end is refused: what is here is passed over, and if there is
    /// more, the connection closes after the answer.
    fn answer(&self, request: &Request, body: &mut Body<'_>) -> impl Future<Output = Reply>;

    /// An answer was given to what could not be read as a request.
    fn on_refused(&self, status: u16);
}

/// How long connections may take, and how much they may bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Limits of heads and bodies, and the time for a head. Consequence: 4xx, and the connection closes.
    pub http: http1::Limits,
    /// How long a connection may be silent between requests. Beyond: it is closed.
    pub idle_max: Duration,
    /// How long a body may pause. Beyond: 408.
    pub body_pause_max: Duration,
    /// The least bytes per second of a body on average, once [`Settings::body_grace`] has passed. Below: 408.
    pub body_bytes_per_second_min: u64,
    /// How long a body may be slower than that.
    pub body_grace: Duration,
    /// How long a client may take none of an answer while more than the engine holds for it waits. Beyond: cut off.
    pub take_pause_max: Duration,
    /// Connections per shard. More are closed as they come.
    pub connections_max: usize,
    /// How long requests under way may take when the engine drains. Beyond: cut off.
    pub drain_max: Duration,
}

impl Settings {
    /// The defaults: see the fields.
    pub const DEFAULT: Settings = Settings {
        http: http1::Limits::DEFAULT,
        idle_max: Duration::from_secs(60),
        body_pause_max: Duration::from_secs(30),
        body_bytes_per_second_min: 512,
        body_grace: Duration::from_secs(60),
        take_pause_max: Duration::from_secs(60),
        connections_max: 10_000,
        drain_max: Duration::from_secs(30),
    };
}
