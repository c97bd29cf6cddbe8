//! What the server keeps per connected client: small, flat, and without a heap of its own while the client is idle.

use std::sync::Arc;

use super::bucket::Bucket;
use super::dialect::Dialect;
use super::evidence::Evidence;
use super::letters::Granted;

/// Names a client towards others: 16 random bytes, shown as a UUID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientId(pub [u8; 16]);

impl std::fmt::Display for ClientId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g, h, i, rest @ ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}-{e:02x}{g:02x}-{h:02x}{i:02x}-{:02x}{:02x}-", rest[0], rest[1])?;
        rest[2..].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl ClientId {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<ClientId> {
        let mut id = [0; 16];
        let mut digits = text.bytes().filter(|byte| *byte != b'-').map(|byte| (byte as char).to_digit(16));
        for byte in &mut id {
            *byte = (digits.next()?? << 4 | digits.next()??) as u8;
        }
        let id = ClientId(id);
        (digits.next().is_none() && id.to_string().eq_ignore_ascii_case(text)).then_some(id)
    }
}

/// A client's id as text, in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClientText([u8; 36]);

impl From<ClientId> for ClientText {
    fn from(id: ClientId) -> ClientText {
        let text = id.to_string();
        ClientText(text.as_bytes().try_into().expect("a client's id has 36 characters"))
    }
}

impl ClientText {
    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("it was made of a text")
    }

    /// What it is the text of.
    pub fn id(&self) -> ClientId {
        ClientId::parse(self.as_str()).expect("it was made of an id")
    }
}

impl std::fmt::Debug for ClientText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The slot of a channel on this shard.
pub type ChannelSlot = u32;

/// Which publications a subscription gets, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Given {
    /// All of them, as they are.
    #[default]
    Whole,
    /// All of them, each as its difference from the one before where that is shorter.
    Differences,
    /// Those that a filter lets through.
    Filtered,
}

/// One subscription of a client: the channel's slot, and what matters with every publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription(u32);

impl Subscription {
    const SERVER_SIDE: u32 = 1 << 31;
    const WATCHES: u32 = 1 << 30;
    const DIFFERENCES: u32 = 1 << 29;
    const FILTERED: u32 = 1 << 28;
    /// More channels than this per shard are not possible.
    pub const SLOTS: u32 = 1 << 28;

    /// A subscription to the channel in `slot`.
    pub fn new(slot: ChannelSlot, server_side: bool, watches: bool, given: Given) -> Subscription {
        let flags = if server_side { Self::SERVER_SIDE } else { 0 } | if watches { Self::WATCHES } else { 0 };
        let given = match given {
            Given::Whole => 0,
            Given::Differences => Self::DIFFERENCES,
            Given::Filtered => Self::FILTERED,
        };
        Subscription((slot % Self::SLOTS) | flags | given)
    }

    /// The channel.
    pub fn slot(self) -> ChannelSlot {
        self.0 % Self::SLOTS
    }

    /// The server made it, not the client.
    pub fn is_server_side(self) -> bool {
        self.0 & Self::SERVER_SIDE != 0
    }

    /// It wants to know who comes and goes.
    pub fn watches(self) -> bool {
        self.0 & Self::WATCHES != 0
    }

    /// Which publications it gets, and how.
    pub fn given(self) -> Given {
        match (self.0 & Self::DIFFERENCES != 0, self.0 & Self::FILTERED != 0) {
            (false, false) => Given::Whole,
            (true, _) => Given::Differences,
            (false, true) => Given::Filtered,
        }
    }
}

/// Which channels a client is subscribed to. Few are held in place.
#[derive(Debug, Default)]
pub enum Subscriptions {
    /// None.
    #[default]
    None,
    /// The usual case.
    One(Subscription),
    /// In place as well.
    Two([Subscription; 2]),
    /// Thin pointer: the size of the enum stays 16 bytes.
    #[allow(clippy::box_collection)]
    Many(Box<Vec<Subscription>>),
}

impl Subscriptions {
    /// All of them.
    pub fn as_slice(&self) -> &[Subscription] {
        match self {
            Subscriptions::None => &[],
            Subscriptions::One(one) => std::slice::from_ref(one),
            Subscriptions::Two(two) => two,
            Subscriptions::Many(many) => many,
        }
    }

    /// The one to the channel.
    pub fn to(&self, slot: ChannelSlot) -> Option<Subscription> {
        self.as_slice().iter().copied().find(|subscription| subscription.slot() == slot)
    }

    /// Adds one to a channel that is not among them.
    pub fn insert(&mut self, new: Subscription) {
        *self = match std::mem::take(self) {
            Subscriptions::None => Subscriptions::One(new),
            Subscriptions::One(first) => Subscriptions::Two([first, new]),
            Subscriptions::Two([first, second]) => Subscriptions::Many(Box::new(vec![first, second, new])),
            Subscriptions::Many(mut many) => {
                many.push(new);
                Subscriptions::Many(many)
            }
        };
    }

    /// Removes the one to the channel, if there is one.
    pub fn remove(&mut self, slot: ChannelSlot) -> Option<Subscription> {
        let removed = self.to(slot)?;
        let left: Vec<_> = self.as_slice().iter().copied().filter(|other| other.slot() != slot).collect();
        *self = match left[..] {
            [] => Subscriptions::None,
            [one] => Subscriptions::One(one),
            [one, two] => Subscriptions::Two([one, two]),
            _ => Subscriptions::Many(Box::new(left)),
        };
        Some(removed)
    }
}

/// How far a session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// No `connect` yet.
    #[default]
    New,
    /// In use.
    Connected,
    /// The connect command failed: the client is to close.
    Refused,
}

/// What commands that are held back wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// Something that takes longer.
    Found,
    /// The answer of a channel's owner to the command before them.
    Owner,
    /// The replies to all publications before them.
    Replies,
    /// Some of those replies.
    Room,
}

/// Commands that are held back, and what has been found out for the first of them.
#[derive(Debug)]
pub struct Held {
    /// The commands, as they came.
    pub commands: Vec<u8>,
    /// For the first of them.
    pub evidence: Evidence,
    /// For what they wait.
    pub waits: Waits,
}

/// What a subscription has beyond the usual.
#[derive(Clone, Debug)]
pub struct SubscriptionExtra {
    /// Whose.
    pub slot: ChannelSlot,
    /// When it ends unless it is refreshed, in Unix seconds; 0: never.
    pub expires_at: u64,
    /// What it says of itself to others: JSON.
    pub chan_info: Option<Arc<[u8]>>,
    /// The backend has been asked whether it may go on.
    pub refreshing: bool,
}

/// What few clients have.
#[derive(Debug, Default)]
pub struct Extra {
    /// What the connection says of itself to others: JSON.
    pub conn_info: Option<Arc<[u8]>>,
    /// What is told to hooks only: JSON.
    pub meta: Option<Arc<[u8]>>,
    /// Subscriptions with more than a channel.
    pub subscriptions: Vec<SubscriptionExtra>,
    /// Fields of the upgrade request that hooks are told.
    pub sent: Vec<(String, String)>,
    /// Fields of `connect` that they are told.
    pub emulated: Vec<(String, String)>,
    /// Who the user is, by a field of the upgrade request that a proxy has set.
    pub user: Option<String>,
    /// The only namespaces in which it may do anything; `None`: all.
    pub namespaces: Option<Arc<[String]>>,
    /// Which of the node's clients it is, counted as they came, where a user may have one connection only.
    pub number: u64,
    /// Subscriptions on their way that the server made.
    pub granted: Vec<Granted>,
    /// The backend has been asked whether the connection may go on.
    pub refreshing: bool,
}

/// One client.
#[derive(Debug, Default)]
pub struct Client {
    /// Its name towards others; zeros before `connect`.
    pub id: ClientId,
    /// Its user's slot; see `Users`.
    pub user: u32,
    /// When the connection ends unless it is refreshed, in Unix seconds; 0: never.
    pub expires_at: u32,
    /// How far it is.
    pub phase: Phase,
    /// How it speaks, and what carries that.
    pub dialect: Dialect,
    /// A ping is out and not answered.
    pub ping_outstanding: bool,
    /// It is pinged by WebSocket frames, and not by the protocol.
    pub native_ping: bool,
    /// Looks at this session by the sweep, counted round and round.
    pub visits: u8,
    /// Publications of this client that have no reply yet.
    pub unanswered: u8,
    /// Commands that it may still give.
    pub allowance: Bucket,
    /// Its channels.
    pub subscriptions: Subscriptions,
    /// `Some` exactly while commands wait.
    pub held: Option<Box<Held>>,
    /// What few have.
    pub extra: Option<Box<Extra>>,
}

const _: () = assert!(size_of::<Client>() <= 72, "idle clients are counted in bytes");

impl Client {
    /// What few have; made if need be.
    pub fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_with(Default::default)
    }

    /// What the connection says of itself.
    pub fn conn_info(&self) -> Option<Arc<[u8]>> {
        self.extra.as_ref()?.conn_info.clone()
    }

    /// What a subscription has beyond the usual.
    pub fn subscription_extra(&self, slot: ChannelSlot) -> Option<&SubscriptionExtra> {
        self.extra.as_ref()?.subscriptions.iter().find(|extra| extra.slot == slot)
    }

    /// Sets when a subscription ends, in Unix seconds; 0: never.
    pub fn set_subscription_end(&mut self, slot: ChannelSlot, expires_at: u64) {
        let subscriptions = &mut self.extra_mut().subscriptions;
        match subscriptions.iter_mut().find(|extra| extra.slot == slot) {
            Some(extra) => (extra.expires_at, extra.refreshing) = (expires_at, false),
            None => subscriptions.push(SubscriptionExtra { slot, expires_at, chan_info: None, refreshing: false }),
        }
    }

    /// Forgets what a subscription had beyond the usual.
    pub fn drop_subscription_extra(&mut self, slot: ChannelSlot) {
        if let Some(extra) = &mut self.extra {
            extra.subscriptions.retain(|extra| extra.slot != slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_come_and_go_in_any_number() {
        let mut subscriptions = Subscriptions::default();
        for count in 1..=10 {
            let given = if count == 5 { Given::Differences } else { Given::Whole };
            subscriptions.insert(Subscription::new(count, count == 3, count == 4, given));
            assert_eq!(subscriptions.as_slice().len(), count as usize);
        }
        assert!(subscriptions.to(3).unwrap().is_server_side() && !subscriptions.to(4).unwrap().is_server_side());
        assert!(subscriptions.to(4).unwrap().watches() && !subscriptions.to(3).unwrap().watches());
        assert_eq!(subscriptions.to(5).unwrap().given(), Given::Differences);
        assert_eq!(Subscription::new(5, true, true, Given::Filtered).given(), Given::Filtered);
        assert!(subscriptions.remove(11).is_none());
        for slot in [5, 1, 10, 2, 3, 4, 6, 7, 8] {
            assert_eq!(subscriptions.remove(slot).map(Subscription::slot), Some(slot));
            assert!(subscriptions.to(slot).is_none());
        }
        assert_eq!(subscriptions.as_slice(), [Subscription::new(9, false, false, Given::Whole)]);
    }

    #[test]
    fn a_client_id_looks_like_a_uuid() {
        let id = ClientId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(id.to_string(), "00010203-0405-0607-0809-0a0b0c0d0eff");
        assert_eq!(ClientId::parse(&id.to_string()), Some(id));
        assert_eq!(ClientText::from(id).id(), id);
        for bad in ["", "0", "00010203-0405-0607-0809-0a0b0c0d0ef", "000102030405060708090a0b0c0d0eff", "é"] {
            assert_eq!(ClientId::parse(bad), None, "{bad}");
        }
    }
}
