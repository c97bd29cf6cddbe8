//! What the server keeps per connected client: small, flat, and without a heap of its own while the client is idle.

/// Names a client towards others: 16 random bytes, shown as a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(pub [u8; 16]);

impl std::fmt::Display for ClientId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g, h, i, rest @ ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}-{e:02x}{g:02x}-{h:02x}{i:02x}-{:02x}{:02x}-", rest[0], rest[1])?;
        rest[2..].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The slot of a channel on this shard.
pub type ChannelSlot = u32;

/// Which channels a client is subscribed to. Few are held in place.
#[derive(Debug, Default)]
pub enum Subscriptions {
    /// None.
    #[default]
    None,
    /// The usual case.
    One(ChannelSlot),
    /// In place as well.
    Two([ChannelSlot; 2]),
    /// Thin pointer: the size of the enum stays 16 bytes.
    #[allow(clippy::box_collection)]
    Many(Box<Vec<ChannelSlot>>),
}

impl Subscriptions {
    /// The channels.
    pub fn as_slice(&self) -> &[ChannelSlot] {
        match self {
            Subscriptions::None => &[],
            Subscriptions::One(slot) => std::slice::from_ref(slot),
            Subscriptions::Two(slots) => slots,
            Subscriptions::Many(slots) => slots,
        }
    }

    /// Whether the channel is among them.
    pub fn contains(&self, slot: ChannelSlot) -> bool {
        self.as_slice().contains(&slot)
    }

    /// Adds a channel that is not among them.
    pub fn insert(&mut self, slot: ChannelSlot) {
        *self = match std::mem::take(self) {
            Subscriptions::None => Subscriptions::One(slot),
            Subscriptions::One(first) => Subscriptions::Two([first, slot]),
            Subscriptions::Two([first, second]) => Subscriptions::Many(Box::new(vec![first, second, slot])),
            Subscriptions::Many(mut slots) => {
                slots.push(slot);
                Subscriptions::Many(slots)
            }
        };
    }

    /// Removes a channel; whether it was among them.
    pub fn remove(&mut self, slot: ChannelSlot) -> bool {
        let before = self.as_slice();
        if !before.contains(&slot) {
            return false;
        }
        let left: Vec<ChannelSlot> = before.iter().copied().filter(|&other| other != slot).collect();
        *self = match left[..] {
            [] => Subscriptions::None,
            [one] => Subscriptions::One(one),
            [one, two] => Subscriptions::Two([one, two]),
            _ => Subscriptions::Many(Box::new(left)),
        };
        true
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

/// One client.
#[derive(Debug, Default)]
pub struct Client {
    /// Its name towards others; zeros before `connect`.
    pub id: [u8; 16],
    /// Its user's slot; see `Users`.
    pub user: u32,
    /// How far it is.
    pub phase: Phase,
    /// A ping is out and not answered.
    pub ping_outstanding: bool,
    /// Looks at this session by the sweep, counted round and round.
    pub visits: u8,
    /// Its channels.
    pub subscriptions: Subscriptions,
    /// The commands behind one that waits for another shard; `Some` exactly while one waits.
    #[allow(clippy::box_collection)] // A thin pointer: almost always absent.
    pub waiting: Option<Box<Vec<u8>>>,
}

const _: () = assert!(size_of::<Client>() <= 56, "idle clients are counted in bytes");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_come_and_go_in_any_number() {
        let mut subscriptions = Subscriptions::default();
        for count in 1..=10 {
            subscriptions.insert(count);
            assert_eq!(subscriptions.as_slice().len(), count as usize);
        }
        assert!(!subscriptions.remove(11));
        for slot in [5, 1, 10, 2, 3, 4, 6, 7, 8] {
            assert!(subscriptions.remove(slot));
            assert!(!subscriptions.contains(slot));
        }
        assert_eq!(subscriptions.as_slice(), [9]);
    }

    #[test]
    fn a_client_id_looks_like_a_uuid() {
        let id = ClientId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(id.to_string(), "00010203-0405-0607-0809-0a0b0c0d0eff");
    }
}
