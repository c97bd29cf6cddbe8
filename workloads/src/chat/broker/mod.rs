//! What several nodes share: a Redis that numbers publications, keeps history, and passes everything on.
//!
//! ```text
//!   hub ──Wish──► link ──► scripts ──► Redis: meta, stream, key ──PUBLISH──► every node's link ──News──► the channel's owner
//!    ▲                                   │
//!    └────────────── News ◄──────────────┘ its number, or why not
//! ```
//!
//! | file | noun |
//! |---|---|
//! | `mod.rs` | what a hub wants of it, and what it hears |
//! | `message.rs` | what nodes say to each other, as bytes |
//! | `scripts.rs` | what Redis does at once or not at all |
//! | `link.rs` | a shard's two connections, and what is tried again |
//!
//! **Redis is the one truth for offsets.** A publication is added, numbered, remembered by its key and passed on by one
//! script. What a hub keeps of a channel is a copy of the end, without a gap; it never numbers anything itself.
//!
//! **An epoch ends when Redis may have lost something**: the server's run is another one than the one that wrote last, and
//! it was not configured to lose nothing (append-only file, synced always), or it was a replica then. The script that sees
//! that first gives the channel a new epoch. Numbers go on, so none is given twice even in what people call one channel.

pub mod link;
pub mod message;
mod scripts;

use std::sync::Arc;

use bytes::Bytes;

use super::log::Key;
use super::stream::Epoch;

/// What a hub wants.
#[derive(Debug)]
pub enum Wish {
    /// To hear of a channel from now on: [`News::Attached`], then [`News::Heard`].
    Attach(Arc<str>),
    /// No more of it.
    Detach(Arc<str>),
    /// A publication numbered, kept and passed on: [`News::Added`].
    Add(Box<Add>),
    /// A part of a history: [`News::Read`].
    Read(Read),
    /// A history forgotten: [`News::Cleared`].
    Clear {
        /// For the answer.
        id: u64,
        /// Whose.
        channel: Arc<str>,
        /// How long the channel's epoch and top are kept from now on, in milliseconds.
        meta_ttl_ms: u64,
    },
    /// One publication forgotten: [`News::Removed`].
    Remove {
        /// For the answer.
        id: u64,
        /// Whose.
        channel: Arc<str>,
        /// Its number.
        offset: u64,
        /// In which life of the channel; empty: in the present one.
        epoch: String,
        /// How long the channel's epoch and top are kept from now on, in milliseconds.
        meta_ttl_ms: u64,
    },
    /// Something said to all other nodes that listen to a channel. Nobody hears whether it arrived.
    Say {
        /// Where.
        channel: Arc<str>,
        /// What, encoded.
        message: Vec<u8>,
    },
}

/// A publication for the broker.
#[derive(Clone, Debug)]
pub struct Add {
    /// For the answer.
    pub id: u64,
    /// Where.
    pub channel: Arc<str>,
    /// By which it is known if it comes twice.
    pub key: Key,
    /// What, encoded.
    pub entry: Bytes,
    /// How long it is kept.
    pub keep: Keep,
    /// Until when the key is surely remembered, in milliseconds of the Unix clock: it is not tried again after that.
    pub until: u64,
    /// Nobody waits: it is tried for as long as that, and not only at once.
    pub is_patient: bool,
}

/// How long a channel's publications are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// How many.
    pub size: usize,
    /// How long without a new one, in milliseconds.
    pub ttl_ms: u64,
    /// How long the channel's epoch and top are kept, in milliseconds.
    pub meta_ttl_ms: u64,
    /// How long keys are remembered, in milliseconds.
    pub key_ttl_ms: u64,
}

/// A part of a history.
#[derive(Clone, Debug)]
pub struct Read {
    /// For the answer.
    pub id: u64,
    /// Whose.
    pub channel: Arc<str>,
    /// Which part.
    pub from: From,
    /// How many at most; 0: only where the stream is.
    pub limit: usize,
    /// How long the channel's epoch and top are kept from now on, in milliseconds.
    pub meta_ttl_ms: u64,
}

/// Where a part of a history begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Behind this number, oldest first.
    After(u64),
    /// Before this number, newest first.
    Before(u64),
    /// At the end, newest first.
    End,
}

/// What a hub hears.
#[derive(Debug)]
pub enum News {
    /// Whether the broker answers now.
    Up(bool),
    /// What is said in the channel from now on is heard.
    Attached(Arc<str>),
    /// Something was said.
    Heard {
        /// Where.
        channel: Arc<str>,
        /// What, encoded.
        message: Bytes,
    },
    /// Anything may have been said since, in all channels; each is attached anew.
    Lost,
    /// What became of a publication.
    Added {
        /// Which.
        id: u64,
        /// Its place, or why it has none.
        outcome: Result<Added, Failure>,
    },
    /// A part of a history.
    Read {
        /// Which was asked for.
        id: u64,
        /// It, or why not.
        outcome: Result<Page, Failure>,
    },
    /// A history is forgotten.
    Cleared {
        /// Which wish it was.
        id: u64,
        /// Of which life, and up to which number; or it may not be.
        outcome: Result<(Epoch, u64), Failure>,
    },
    /// A publication is forgotten.
    Removed {
        /// Which wish it was.
        id: u64,
        /// The channel's life, and whether there was ever such a number in the one that was meant; or it may not be.
        outcome: Result<(Epoch, bool), Failure>,
    },
}

/// A publication's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// The channel's life.
    pub epoch: Epoch,
    /// Its number.
    pub offset: u64,
    /// It was there already, by its key.
    pub is_repeat: bool,
    /// What was published with the key, as [`Key::payload`].
    pub payload: u64,
}

/// A part of a history, and where the stream is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The channel's life.
    pub epoch: Epoch,
    /// The last number given.
    pub top: u64,
    /// Numbers and encoded publications, in the order asked for.
    pub entries: Vec<(u64, Bytes)>,
}

/// Why the broker did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is away; surely nothing was done.
    Away,
    /// It went away meanwhile, and nobody knows whether it was done. It is tried again, and told again.
    Doubtful,
    /// It refused.
    Refused,
    /// It went on for so long that it cannot be tried again without doing it twice.
    TooOld,
}
