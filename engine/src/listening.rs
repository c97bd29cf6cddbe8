//! What shards share of the listeners of one address: who listens, and whether anything can still come.
//!
//! ```text
//!   accepting shard: sends a connection away ─► … ─► closes its socket      both counted, in this order
//!   other shard:     hands it over ─► it has arrived
//!   whoever ends:    no socket accepts any more, and then: nothing is under way ─► settled
//! ```
//!
//! Built with `--cfg loom`, this file runs on Loom's atomics: see `tests/loom_listening.rs`.
#![cfg_attr(loom, allow(missing_docs))] // Public for its model only.

use kernel::{AtomicUsize, Ordering};

#[cfg(loom)]
mod kernel {
    pub(super) use loom::sync::atomic::{AtomicUsize, Ordering};
}

#[cfg(not(loom))]
mod kernel {
    pub(super) use std::sync::atomic::{AtomicUsize, Ordering};
}

/// See the module's description.
pub struct Listening {
    /// How many listeners each shard has.
    open_on: Box<[AtomicUsize]>,
    /// Sockets that accept.
    accepting: AtomicUsize,
    /// Connections that were accepted and are on their way to another shard.
    under_way: AtomicUsize,
}

impl Listening {
    pub fn new(shards: usize) -> Listening {
        let open_on = (0..shards).map(|_| AtomicUsize::new(0)).collect();
        Listening { open_on, accepting: AtomicUsize::new(0), under_way: AtomicUsize::new(0) }
    }

    /// A listener is open on that shard: connections may be sent there.
    pub fn opens(&self, shard: usize) {
        self.open_on[shard].fetch_add(1, Ordering::Release);
    }

    /// It is not any more.
    pub fn closes(&self, shard: usize) {
        self.open_on[shard].fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether that shard listens, by what is known here.
    pub fn is_open_on(&self, shard: usize) -> bool {
        self.open_on[shard].load(Ordering::Relaxed) > 0
    }

    /// Whether every shard listens.
    pub fn is_everywhere(&self) -> bool {
        self.open_on.iter().all(|count| count.load(Ordering::Acquire) > 0)
    }

    /// So many sockets more accept.
    pub fn accepts(&self, sockets: usize) {
        self.accepting.fetch_add(sockets, Ordering::AcqRel);
    }

    /// A socket is closed. What it accepted has been sent before.
    pub fn accepts_no_more(&self) {
        self.accepting.fetch_sub(1, Ordering::AcqRel);
    }

    /// A connection is about to be sent to another shard.
    pub fn sends(&self) {
        self.under_way.fetch_add(1, Ordering::AcqRel);
    }

    /// It has arrived there, or could not be sent.
    pub fn has_arrived(&self) {
        self.under_way.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether nothing more can come. The first is read first: who accepts no more has counted before what it sent.
    pub fn is_settled(&self) -> bool {
        self.accepting.load(Ordering::Acquire) == 0 && self.under_way.load(Ordering::Acquire) == 0
    }
}
