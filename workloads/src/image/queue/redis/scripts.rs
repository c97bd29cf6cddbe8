//! The queue's scripts: each is the common prelude and its own text.

use std::sync::LazyLock;

use crate::redis::Script;

macro_rules! scripts {
    ($($(#[$about:meta])* $name:ident = $file:literal;)*) => {
        $($(#[$about])*
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!(include_str!("prelude.lua"), include_str!($file))));)*
    };
}

scripts! {
    /// Enters a job.
    ENQUEUE = "enqueue.lua";
    /// Answers questions.
    ASK = "ask.lua";
    /// Cancels a job.
    CANCEL = "cancel.lua";
    /// Deletes a job.
    PURGE = "purge.lua";
    /// Takes what is due.
    LEASE = "lease.lua";
    /// Renews leases.
    HOLD = "hold.lua";
    /// Ends an attempt.
    SETTLE = "settle.lua";
    /// Revives a dead work.
    RETRY = "retry.lua";
    /// What comes by itself.
    TEND = "tend.lua";
    /// Events for those who are told of them.
    EVENTS = "events.lua";
    /// Dead letters of webhooks.
    LETTERS = "letters.lua";
}
