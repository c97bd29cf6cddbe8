//! What the backend is told: who comes and goes, and which channels are in use. What it does not want to know costs a look at
//! the configuration.

use super::{Hub, Ports};
use crate::chat::events::{Event, Kind, What, Who};
use crate::chat::session::{ChannelSlot, Client};

impl Hub {
    /// Notes that a client came, or is gone.
    pub(super) fn note_client(&self, ports: &mut impl Ports, now: u64, client: &Client, came: bool) {
        let kind = if came { Kind::Connected } else { Kind::Disconnected };
        if !self.tells(kind, None) {
            return;
        }
        let who = self.named(client);
        ports.note(Event { time_ms: now, what: if came { What::Connected(who) } else { What::Disconnected(who) } });
    }

    /// Notes that a client joined a channel, or left it.
    pub(super) fn note_member(&self, ports: &mut impl Ports, now: u64, client: &Client, slot: ChannelSlot, came: bool) {
        let kind = if came { Kind::Joined } else { Kind::Left };
        if !self.tells(kind, Some(slot)) {
            return;
        }
        let (who, channel) = (self.named(client), self.channels.peek(slot).name.clone());
        let what = if came { What::Joined(who, channel) } else { What::Left(who, channel) };
        ports.note(Event { time_ms: now, what });
    }

    /// Notes, as its owner, that a channel has its first subscriber, or none any more.
    pub(super) fn note_channel(&self, ports: &mut impl Ports, now: u64, slot: ChannelSlot, is_occupied: bool) {
        let kind = if is_occupied { Kind::Occupied } else { Kind::Vacated };
        if !self.tells(kind, Some(slot)) {
            return;
        }
        let channel = self.channels.peek(slot).name.clone();
        ports.note(Event {
            time_ms: now,
            what: if is_occupied { What::Occupied(channel) } else { What::Vacated(channel) },
        });
    }

    /// Whether the backend wants to know of such things, in a channel or of connections.
    fn tells(&self, kind: Kind, slot: Option<ChannelSlot>) -> bool {
        let config = &self.common.config;
        let Some(events) = &config.events else { return false };
        let namespace = slot.map(|slot| config.channels.namespace_name(&self.channels.peek(slot).name));
        events.tells(kind, namespace)
    }

    fn named(&self, client: &Client) -> Who {
        Who { user: self.users.name(client.user).into(), client: client.id }
    }
}
