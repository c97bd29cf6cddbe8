//! What crosses between the hubs of a node, and what a hub asks of the world.

use std::sync::Arc;

use annulus_engine::ConnId;
use annulus_engine::compute::Ticket;
use annulus_engine::trace::{Stage, Trace};
use annulus_protocols::centrifuge::{Disconnect, ErrorCode};

pub use super::api::Overrides;
use super::broker::News;
use super::dialect::Dialect;
use super::evidence::{Found, Present};
use super::hub::Verifiers;
pub use super::log::Key;
use super::log::Told;
use super::past::Partial;
use super::sanctions::Sanction;
use super::session::{ClientId, Given};
use super::stream::{Author, Content, Epoch, Stored};

/// Who waits for an answer.
#[derive(Debug)]
pub enum Asker {
    /// A client's command.
    Client {
        /// Where it is connected.
        shard: usize,
        /// Its connection.
        conn: ConnId,
        /// The command; 0: a subscription that came with `connect` or from the server.
        id: u32,
        /// Where the command's time goes.
        trace: Trace,
    },
    /// A call of the server's API.
    Call(CallTicket),
    /// Nobody.
    Nobody,
}

impl Asker {
    /// A client's command spent the time since the last mark so, if it is traced.
    pub fn mark(&mut self, stage: Stage) {
        if let Asker::Client { trace, .. } = self {
            trace.mark(stage);
        }
    }

    /// The trace of a client's command.
    pub fn trace(&self) -> Trace {
        match self {
            Asker::Client { trace, .. } => trace.clone(),
            Asker::Call(_) | Asker::Nobody => Trace::NONE,
        }
    }
}

/// The right to answer a call of the API.
pub struct CallTicket(pub Ticket<Answer>);

impl std::fmt::Debug for CallTicket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallTicket")
    }
}

/// A wish to publish.
#[derive(Debug)]
pub struct Publish {
    /// What.
    pub content: Arc<Content>,
    /// Whatever was published with it once is not published again.
    pub key: Option<Key>,
    /// It is for those who are here now.
    pub skip_history: bool,
}

/// A wish to subscribe, as its channel's owner sees it.
#[derive(Debug)]
pub struct Join {
    /// How the member speaks.
    pub dialect: Dialect,
    /// Tell who comes and goes.
    pub watches: bool,
    /// Which publications, and how.
    pub given: Given,
    /// Tell the position.
    pub positioned: bool,
    /// Tell that the client may recover from it.
    pub recoverable: bool,
    /// What the client has, if it wants to recover.
    pub since: Option<(u64, String)>,
    /// Answer 112 if it cannot recover.
    pub reject: bool,
    /// What the namespace's channels may take together holds for it: the client made it, not the server.
    pub limited: bool,
}

/// What is asked of a channel's owner.
#[derive(Debug)]
pub enum Ask {
    /// Count this shard in, and tell the position, with what was missed since one.
    Join(Join),
    /// Number, keep, deliver.
    Publish(Publish),
    /// A page of history.
    History {
        /// Publications wanted.
        limit: usize,
        /// From where.
        since: Option<(u64, String)>,
        /// Newest first.
        reverse: bool,
    },
    /// Forget the history.
    Clear,
    /// Forget one publication.
    Remove {
        /// Its number.
        offset: u64,
        /// In which life of the channel; empty: in the present one.
        epoch: String,
    },
    /// What follows an offset, for a member that was slow.
    Follow {
        /// The last publication it has.
        offset: u64,
    },
}

/// What the owner answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Counted in.
    Joined(Joined),
    /// Published under this number.
    Published {
        /// The number; 0 where the channel keeps no history.
        offset: u64,
        /// The stream's life.
        epoch: String,
    },
    /// A page of history.
    Page {
        /// The publications.
        page: Vec<Stored>,
        /// The last number given.
        top: u64,
        /// The stream's life.
        epoch: String,
    },
    /// A page of history, for the older part of which the database is to be asked.
    Partial(Box<Partial>),
    /// The history is forgotten: up to this offset of this life. `None`: there was none.
    Cleared(Option<(u64, Epoch)>),
    /// The publication is forgotten: of this life. `None`: nothing was published there.
    Removed(Option<Epoch>),
    /// What follows; `None` when some of it is gone.
    Follows {
        /// The publications.
        page: Option<Vec<Stored>>,
        /// The last one that there is.
        top: u64,
    },
    /// No subscription.
    NotJoined(ErrorCode),
    /// Not published.
    NotPublished(ErrorCode),
    /// No.
    Refused(ErrorCode),
}

/// A new member's position.
#[derive(Clone, Debug)]
pub struct Joined {
    /// It wants to know who comes and goes.
    pub watches: bool,
    /// Which publications it gets, and how.
    pub given: Given,
    /// The last offset given out.
    pub top: u64,
    /// What is told of the position.
    pub position: Option<Recovery>,
}

/// Where a stream is, and what came of a wish to recover.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// The client may recover from it later.
    pub recoverable: bool,
    /// The position told.
    pub offset: u64,
    /// The stream's life.
    pub epoch: String,
    /// The client asked to recover.
    pub was_recovering: bool,
    /// What it had missed, if that is complete.
    pub missed: Option<Vec<Stored>>,
}

/// One message as it is on the wire, by dialect, for those that somebody speaks.
pub type OfDialects = [Option<Arc<[u8]>>; Dialect::COUNT];

/// A publication for those who get differences.
#[derive(Clone, Debug, Default)]
pub struct DifferenceFrames {
    /// As it is.
    pub whole: OfDialects,
    /// As its difference from the one before; nothing where that is no shorter, or not known.
    pub differing: OfDialects,
}

/// What members are sent.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    /// For those who get it as it is.
    pub of: OfDialects,
    /// For those who get differences.
    pub differences: Option<Arc<DifferenceFrames>>,
    /// The publication, if it has tags that filters may ask for.
    pub tagged: Option<Arc<Content>>,
    /// When a publication got its number, by [`Ports::clock_us`](super::hub::Ports::clock_us); `None`: it is none.
    pub numbered_us: Option<u64>,
    /// Where its time goes.
    pub trace: Trace,
}

/// What crosses between hubs.
#[derive(Debug)]
pub enum Letter {
    /// To a channel's owner.
    Ask {
        /// Who asks.
        asker: Asker,
        /// Which shard.
        shard: usize,
        /// About what.
        channel: Arc<str>,
        /// What.
        ask: Ask,
    },
    /// Back from the owner.
    Answer {
        /// For whom.
        conn: ConnId,
        /// Which command.
        id: u32,
        /// About what.
        channel: Arc<str>,
        /// What.
        answer: Answer,
        /// Where its time goes.
        trace: Trace,
    },
    /// The last member on that shard left; to the owner.
    Left {
        /// Which shard.
        shard: usize,
        /// Which channel.
        channel: Arc<str>,
    },
    /// Somebody came or left; to the owner, which passes it on.
    Announce {
        /// Where.
        channel: Arc<str>,
        /// Came, or left.
        came: bool,
        /// Who.
        who: Author,
    },
    /// A shard could not be told of a channel's publications, from this offset on: its members are to ask for them.
    Missed {
        /// Which channel.
        channel: Arc<str>,
        /// The first publication that it was not told of.
        offset: u64,
    },
    /// To a shard's members of a channel.
    Deliver {
        /// Which channel.
        channel: Arc<str>,
        /// The publication's number; 0: it has none.
        offset: u64,
        /// The encoded publication.
        frames: Frames,
        /// Only those who want to know who comes and goes.
        watchers: bool,
    },
    /// Who is there? To every shard.
    Who {
        /// Where.
        channel: Arc<str>,
        /// As many of them at most are named; 0: they are only counted.
        most: usize,
        /// Whom to tell.
        reply: Reply<Vec<Present>>,
    },
    /// Which channels are there? To every shard.
    Channels {
        /// A pattern that their names match.
        pattern: String,
        /// Whom to tell: names with how many members.
        reply: Reply<Vec<(Arc<str>, usize)>>,
    },
    /// To do with a user's clients, on every shard.
    Order {
        /// What.
        order: Arc<Order>,
        /// Whom to tell how many clients it concerned, or why it was not carried out.
        reply: Reply<Result<usize, ErrorCode>>,
    },
    /// What is forbidden to users: those of one, or of all.
    Sanctions {
        /// Whose; empty: everybody's.
        user: String,
        /// As many at most are named.
        most: usize,
        /// Whom to tell: them, and how many there are.
        reply: Reply<(Vec<Sanction>, usize)>,
    },
    /// Something that a client's command waits for has been found out.
    Found {
        /// Whose.
        conn: ConnId,
        /// What.
        found: Box<Found>,
    },
    /// To a shard's members of a channel: they cannot be told what they have missed, and begin anew.
    Anew {
        /// Which channel.
        channel: Arc<str>,
    },
    /// From the broker.
    Broker(News),
    /// From the log.
    Log(Told),
    /// All rows up to this position of the log are in the database.
    Stored(u64),
    /// A message of a client that came as a request of its own.
    Emulated {
        /// The connection that carries its session down.
        conn: ConnId,
        /// The message.
        message: Vec<u8>,
    },
    /// An answer of the API, to be written to its connection.
    Replied {
        /// Whose.
        conn: ConnId,
        /// What is written to it.
        reply: super::serve::HttpReply,
    },
}

/// The right to answer a question that goes to every shard.
pub struct Reply<T>(pub Ticket<T>);

impl<T> std::fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reply")
    }
}

/// Whose clients an order is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The user.
    pub user: String,
    /// Only this client.
    pub client: Option<ClientId>,
    /// Only the client of the session with this name; empty: of any.
    pub session: String,
    /// Not these.
    pub except: Vec<ClientId>,
}

/// What is to be done with a user's clients.
#[derive(Clone, Debug)]
pub enum Order {
    /// Forbid a user something, or allow it again; its clients that may not be where they are leave.
    Sanction(Sanction),
    /// Subscribe them.
    Subscribe {
        /// Whom.
        target: Target,
        /// To what.
        subscription: Granted,
        /// Bring what was missed since this position.
        since: Option<(u64, String)>,
    },
    /// Unsubscribe them.
    Unsubscribe {
        /// Whom.
        target: Target,
        /// From what; empty: from everything.
        channel: String,
        /// Why.
        code: u32,
        /// In words.
        reason: String,
    },
    /// Disconnect them.
    Disconnect {
        /// Whom.
        target: Target,
        /// Why.
        disconnect: Disconnect,
        /// Only those that came before this one, by their numbers; `None`: all.
        before: Option<u64>,
    },
    /// Change when they end.
    Refresh {
        /// Whom.
        target: Target,
        /// At once.
        expired: bool,
        /// Or then, in Unix seconds; 0: never.
        expires_at: u64,
        /// What others are told of them from now on: JSON.
        info: Option<Vec<u8>>,
    },
}

/// A subscription that the server grants, beyond what the namespace says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// To what.
    pub channel: String,
    /// When it ends, in Unix seconds; 0: never.
    pub expires_at: u64,
    /// What it says of itself to others: JSON.
    pub info: Option<Vec<u8>>,
    /// What the client is told: JSON.
    pub data: Option<Vec<u8>>,
    /// Differs from the namespace.
    pub overrides: Overrides,
}

/// What the backend is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A command that waits for it.
    Command,
    /// Whether the connection may go on.
    Refresh,
    /// Whether the subscription to this channel may.
    SubRefresh(Arc<str>),
}

/// What takes longer than a turn, or needs others: its result comes back as [`Letter::Found`].
pub enum Work {
    /// Verify a connection token.
    ConnectionToken(Arc<Verifiers>, String),
    /// Verify a subscription token.
    SubscriptionToken(Arc<Verifiers>, String),
    /// Ask the backend.
    Hook {
        /// What for.
        purpose: Purpose,
        /// Which: what it is asked, and its name.
        hook: (super::hooks::Kind, String),
        /// The request's body.
        body: Vec<u8>,
        /// Fields of the client's upgrade request.
        sent: Vec<(String, String)>,
        /// Fields of its `connect`.
        emulated: Vec<(String, String)>,
    },
    /// Who is in a channel?
    Presence {
        /// Which.
        channel: Arc<str>,
        /// As many at most are named; 0: they are only counted.
        most: usize,
    },
    /// The older part of a page of history.
    Past {
        /// The command that asked for it.
        id: u32,
        /// Of which channel.
        channel: Arc<str>,
        /// What is known of it.
        partial: Box<Partial>,
    },
    /// Does a payload fit its namespace's schema?
    Check {
        /// The namespace's place in the configuration.
        namespace: usize,
        /// The payload.
        data: Vec<u8>,
    },
}
