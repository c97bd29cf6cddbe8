//! What the server's API does to a user's clients.

use std::sync::Arc;

use annulus_engine::ConnId;
use annulus_protocols::centrifuge::{Disconnect, Unsubscribed};

use super::{Clients, Hub, Ports};
use crate::chat::letters::{Order, Target};
use crate::chat::session::{Client, Phase};

impl Hub {
    /// Carries an order out on this shard; how many clients it concerned. All clients are looked at: orders are rare, and
    /// an index of clients by user would cost every one of them.
    pub(super) fn carry_out_order(
        &mut self,
        ports: &mut impl Ports,
        clients: &mut impl Clients,
        now: u64,
        order: &Arc<Order>,
    ) -> usize {
        let target = match &**order {
            Order::Subscribe { target, .. }
            | Order::Unsubscribe { target, .. }
            | Order::Disconnect { target, .. }
            | Order::Refresh { target, .. } => target,
        };
        let place = match target.session.is_empty() {
            true => None,
            false => match self.common.sessions.find(&target.session) {
                Some(place) if place.shard == self.shard => Some(place.conn),
                // Another shard's, another node's, or nobody's.
                _ => return 0,
            },
        };
        let mut concerned = 0;
        for conn in clients.all() {
            let Some(client) = clients.client(conn) else { continue };
            if client.phase == Phase::Connected && self.is_target(conn, client, target, place) {
                concerned += 1;
                self.carry_out_for(ports, now, conn, client, order);
            }
        }
        concerned
    }

    fn is_target(&self, conn: ConnId, client: &Client, target: &Target, place: Option<ConnId>) -> bool {
        *self.users.name(client.user) == *target.user
            && target.client.is_none_or(|only| only == client.id)
            && place.is_none_or(|only| only == conn)
            && !target.except.contains(&client.id)
    }

    fn carry_out_for(&mut self, ports: &mut impl Ports, now: u64, conn: ConnId, client: &mut Client, order: &Order) {
        match order {
            Order::Subscribe { subscription, since, .. } => {
                let slot = self.channels.find(&subscription.channel);
                let has_it = slot.is_some_and(|slot| client.subscriptions.to(slot).is_some());
                let extra = client.extra_mut();
                let is_coming = extra.granted.iter().any(|granted| granted.channel == subscription.channel);
                if !has_it && !is_coming {
                    extra.granted.push(subscription.clone());
                    self.ask_aside(ports, now, conn, client, subscription, since.clone());
                }
            }
            Order::Unsubscribe { channel, code, reason, .. } => {
                let why = Unsubscribed { code: *code, reason: reason.clone().into() };
                let slots = match channel.is_empty() {
                    true => client.subscriptions.as_slice().iter().map(|subscription| subscription.slot()).collect(),
                    false => Vec::from_iter(self.channels.find(channel)),
                };
                for slot in slots {
                    self.expel(ports, now, conn, client, slot, &why);
                }
            }
            Order::Disconnect { disconnect, before, .. } => {
                let number = client.extra.as_ref().map_or(0, |extra| extra.number);
                if before.is_none_or(|before| number < before) {
                    self.end(ports, now, conn, client, disconnect.clone());
                }
            }
            Order::Refresh { expired: true, .. } => {
                self.end(ports, now, conn, client, Disconnect::CONNECTION_EXPIRED);
            }
            Order::Refresh { expires_at, info, .. } => {
                client.expires_at = u32::try_from(*expires_at).unwrap_or(u32::MAX);
                if let Some(info) = info {
                    client.extra_mut().conn_info = Some(info.as_slice().into());
                }
            }
        }
    }
}
