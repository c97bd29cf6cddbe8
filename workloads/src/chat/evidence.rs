//! What has been found out for a command that could not be carried out at once.
//!
//! A command that needs a compute thread, a backend or other shards is put back as it came. When the result is here it is
//! carried out anew, from its beginning, now with this evidence. So every command is one straight function, and none
//! has half-done states of its own.

use std::sync::Arc;

use annulus_engine::trace::Trace;
use annulus_protocols::centrifuge::{ErrorCode, Filter};

use super::hooks::HookError;
use super::letters::{Granted, Joined, Purpose};
use super::stream::Stored;
use super::tokens::{ConnectionClaims, SubscriptionClaims, TokenError};

/// Somebody in a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// The client; empty where clients are only counted.
    pub client: String,
    /// The user, or, where users are only counted, a hash of it.
    pub user: Arc<str>,
    /// What its connection says of itself.
    pub conn_info: Option<Arc<[u8]>>,
    /// What its subscription says of itself.
    pub chan_info: Option<Arc<[u8]>>,
}

/// Whether a payload fits its namespace's schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// It does.
    Fits,
    /// It does not: what, where.
    Misfits(String),
    /// Nobody had the time to look.
    Busy,
}

impl Checked {
    /// Of what a schema says.
    pub fn of(result: Result<(), String>) -> Checked {
        result.map_or_else(Checked::Misfits, |()| Checked::Fits)
    }
}

/// One result.
#[derive(Debug)]
pub enum Found {
    /// Of [`super::letters::Work::ConnectionToken`].
    Connection(Result<ConnectionClaims, TokenError>),
    /// Of [`super::letters::Work::SubscriptionToken`].
    Subscription(Result<SubscriptionClaims, TokenError>),
    /// Of [`super::letters::Work::Hook`].
    Hook(Purpose, Result<Vec<u8>, HookError>),
    /// Of [`super::letters::Work::Presence`]; `None`: more than can be named.
    Presence(Option<Vec<Present>>),
    /// Of [`super::letters::Work::Check`].
    Checked(Checked),
    /// Of [`super::letters::Work::Past`]: the answer to that command. It is no evidence, since it needs no further work.
    Page(u32, Result<Page, ErrorCode>),
}

/// A page of history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its publications.
    pub publications: Vec<Stored>,
    /// The last number given.
    pub top: u64,
    /// The stream's life.
    pub epoch: String,
}

/// All results so far.
#[derive(Debug, Default)]
pub struct Evidence {
    /// The connection token.
    pub connection: Option<Result<ConnectionClaims, TokenError>>,
    /// The subscription token.
    pub subscription: Option<Result<SubscriptionClaims, TokenError>>,
    /// The backend's answer.
    pub hook: Option<Result<Vec<u8>, HookError>>,
    /// Who is there.
    pub presence: Option<Option<Vec<Present>>>,
    /// Whether the payload fits.
    pub checked: Option<Checked>,
    /// The subscription whose channel's owner was asked.
    pub joining: Option<Joining>,
    /// The subscriptions that come with `connect`.
    pub connecting: Option<Box<Connecting>>,
    /// Where the command's time goes.
    pub trace: Trace,
}

impl Evidence {
    /// Adds a result.
    pub fn add(&mut self, found: Found) {
        match found {
            Found::Connection(result) => self.connection = Some(result),
            Found::Subscription(result) => self.subscription = Some(result),
            Found::Hook(_, result) => self.hook = Some(result),
            Found::Presence(result) => self.presence = Some(result),
            Found::Checked(result) => self.checked = Some(result),
            Found::Page(..) => {}
        }
    }
}

/// A subscription on its way.
#[derive(Debug, Default)]
pub struct Joining {
    /// What was granted beyond the namespace.
    pub granted: Granted,
    /// The server made it, not the client.
    pub server_side: bool,
    /// The client refreshes it itself, and is told when.
    pub client_refreshes: bool,
    /// Which publications it wants.
    pub filter: Option<Filter>,
}

/// A `connect` that brings subscriptions: its reply waits for them.
#[derive(Debug, Default)]
pub struct Connecting {
    /// The command.
    pub id: u32,
    /// Told to the client: JSON.
    pub data: Option<Vec<u8>>,
    /// Seconds until the token's end, if the client refreshes it itself.
    pub ttl: Option<u64>,
    /// What is granted, and where each stands once its channel's owner has answered.
    pub subscriptions: Vec<(Granted, Option<Joined>)>,
    /// Answers that are missing.
    pub missing: usize,
}

impl Connecting {
    /// Whether the answer for that channel is missing.
    pub fn awaits(&self, channel: &str) -> bool {
        self.subscriptions.iter().any(|(granted, joined)| granted.channel == channel && joined.is_none())
    }
}
