//! Several nodes as one chat: who lives, orders and questions that go to all of them, and messages that come to the wrong one.
//!
//! ```text
//!   shard ─ Fleet ─► letter ─► captain (shard 0) ─► PREFIX.control, PREFIX.node.ID ─► captains of other nodes ─► their shards
//!                                  │    ▲ answers, by PREFIX.node.ID
//!                                  └────┴── PREFIX.nodes: one hash, a field per node, written once a second
//! ```
//!
//! | file | noun |
//! |---|---|
//! | `mod.rs` | [`Fleet`]: what a shard asks of all nodes |
//! | `captain.rs` | what goes through Redis, on one shard of each node |
//! | `serving.rs` | what other nodes ask and order |
//! | `learning.rs` | what a node that was away asks the others |
//! | `roster.rs` | who is alive |
//! | `wire.rs`, `fields.rs` | what is said, and what that is made of |
//!
//! # What holds
//!
//! - **Who is connected where is known by the node that has the connection, and by nobody else.** Presence is asked for; what
//!   Redis is told in the long run is one lease per node and second. A node that dies takes its clients' presence with it when
//!   its lease ends, [`LEASE`] at most after it beat last.
//! - **A message is delivered once or not at all, and those of one node in their order.** None is sent again by us. Who asked or
//!   ordered learns which nodes have not answered within [`ANSWER_MAX`]; orders may be given again: the second does nothing.
//! - **An order that comes late is dropped** (older than [`LATE`] by Redis' clock): who gave it was told that it was not
//!   carried out, and a client that came since must not suffer from it.
//! - **What is incomplete says so**, with the names of the missing. Without Redis a node answers for itself; when Redis is back
//!   everything goes on by itself.

mod captain;
mod fields;
mod learning;
mod roster;
mod serving;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use annulus_engine::Shard;
use annulus_engine::compute::{Ticket, ticket};

pub use captain::Captain;
pub use roster::Figures;
pub use wire::{Found, NodeId, Question};

use super::letters::Order;

/// The captains' inbox, on shard 0.
const INBOX: &str = "chat fleet";
/// How often a node renews its lease.
pub const BEAT: Duration = Duration::from_secs(1);
/// How long a lease lasts. A node that does not beat for so long is gone.
pub const LEASE: Duration = Duration::from_secs(3);
/// How long the other nodes' answers are waited for.
pub const ANSWER_MAX: Duration = Duration::from_secs(1);
/// How old an order, or a client's message, may be when it arrives.
pub const LATE: Duration = Duration::from_secs(10);

const _: () = assert!(LEASE.as_millis() >= 3 * BEAT.as_millis(), "two beats may be lost");
const _: () = assert!(LATE.as_millis() > ANSWER_MAX.as_millis());

/// What came of asking all other nodes.
#[derive(Debug, Default)]
pub struct Survey {
    /// What those answered that did.
    pub found: Vec<Found>,
    /// The names of those that did not, or why nobody could be asked.
    pub missing: Vec<String>,
}

/// What is known of the other nodes.
#[derive(Debug, Default)]
pub struct Census {
    /// Those that live.
    pub nodes: Vec<(NodeId, Figures)>,
    /// Why there may be more; empty: there are not.
    pub missing: Vec<String>,
}

/// What became of a message for a session of another node.
#[derive(Debug)]
pub enum Forwarded {
    /// It is on its way.
    Sent,
    /// There is no such node.
    Unknown,
    /// It could not be sent, for this reason.
    Away(String),
}

/// What a shard asks of the captain.
enum Letter {
    /// Ask all other nodes.
    Ask(Question, Ticket<Survey>),
    /// Have all other nodes carry something out; who has not confirmed that.
    Order(Arc<Order>, Ticket<Vec<String>>),
    /// Send a client's message to the node where its session is.
    Emulated { node: NodeId, session: String, message: Vec<u8>, ticket: Ticket<Forwarded> },
    /// Who lives.
    Census(Ticket<Census>),
}

/// A shard's way to the other nodes. Cheap to clone.
#[derive(Clone)]
pub struct Fleet(Shard);

impl Fleet {
    /// Of a shard of a node that has a captain.
    pub fn new(shard: &Shard) -> Fleet {
        Fleet(shard.clone())
    }

    /// Asks all other nodes.
    pub async fn ask(&self, question: Question) -> Survey {
        let survey = self.send(|ticket| Letter::Ask(question, ticket)).await;
        survey.unwrap_or_else(|| Survey { missing: vec![BUSY.to_owned()], ..Survey::default() })
    }

    /// Has all other nodes carry an order out; who has not confirmed that.
    pub async fn order(&self, order: &Arc<Order>) -> Vec<String> {
        let missing = self.send(|ticket| Letter::Order(order.clone(), ticket)).await;
        missing.unwrap_or_else(|| vec![BUSY.to_owned()])
    }

    /// Sends a client's message to the node where its session is.
    pub async fn forward(&self, node: NodeId, session: String, message: Vec<u8>) -> Forwarded {
        let forwarded = self.send(|ticket| Letter::Emulated { node, session, message, ticket }).await;
        forwarded.unwrap_or_else(|| Forwarded::Away(BUSY.to_owned()))
    }

    /// Who lives, but for this node.
    pub async fn census(&self) -> Census {
        let census = self.send(Letter::Census).await;
        census.unwrap_or_else(|| Census { missing: vec![BUSY.to_owned()], ..Census::default() })
    }

    async fn send<T>(&self, letter: impl FnOnce(Ticket<T>) -> Letter) -> Option<T> {
        let (ticket, reply) = ticket();
        self.0.post(0, INBOX, letter(ticket)).ok()?;
        reply.await
    }
}

/// What is missing where the captain was not even asked.
const BUSY: &str = "all other nodes (too much is asked of them at once)";
