//! What the server's API does to a user's clients, and what it forbids users.

use std::sync::Arc;

use annulus_engine::ConnId;
use annulus_protocols::centrifuge::{Disconnect, ErrorCode, Unsubscribed};

use super::keeping::state_of;
use super::{Clients, Hub, Ports};
use crate::chat::letters::{Order, Reply, Target};
use crate::chat::log::Record;
use crate::chat::sanctions::{FOREVER, Kind, Sanction};
use crate::chat::session::{Client, Phase};

impl Hub {
    /// Carries an order out on this shard, and tells who wants to know. What the log is to have, it has by then.
    pub(super) fn on_order(
        &mut self,
        ports: &mut impl Ports,
        clients: &mut impl Clients,
        now: u64,
        order: &Arc<Order>,
        reply: Reply<Result<usize, ErrorCode>>,
    ) {
        let Order::Sanction(sanction) = &**order else {
            return reply.0.answer(Ok(self.carry_out_order(ports, clients, now, order)));
        };
        self.sanctions.expire(now / 1000);
        let known = self.sanctions.end_of(sanction).unwrap_or(0);
        if known == sanction.until && self.sanctioning.is_empty() && !self.has_log_failed() {
            // Said again, or by another node: it holds, and the log has it.
            return reply.0.answer(Ok(0));
        }
        if self.sanctions.set(sanction).is_err() {
            return reply.0.answer(Err(ErrorCode::LIMIT_EXCEEDED));
        }
        let concerned = match sanction.kind == Kind::Ban && !sanction.lifts() {
            true => self.carry_out_order(ports, clients, now, order),
            false => 0,
        };
        if self.common.log.is_none() || self.owner(&sanction.user) != self.shard {
            return reply.0.answer(Ok(concerned));
        }
        let logged = match self.has_log_failed() {
            true => Err(ErrorCode::INTERNAL),
            false => self.log.write(&Record::Sanction(state_of(sanction))).map_err(|_| ErrorCode::INTERNAL),
        };
        match logged {
            Ok(record) => self.sanctioning.push_back((record, reply, concerned)),
            // It holds, and nobody knows for how long.
            Err(error) => reply.0.answer(Err(error)),
        }
    }

    /// The log has everything up to that record.
    pub(super) fn sanctioned(&mut self, last: u64) {
        while let Some((_, reply, concerned)) = self.sanctioning.pop_front_if(|(record, ..)| *record <= last) {
            reply.0.answer(Ok(concerned));
        }
    }

    /// The log is lost: what it was to be told it will not have.
    pub(super) fn sanctions_failed(&mut self) {
        for (_, reply, _) in std::mem::take(&mut self.sanctioning) {
            reply.0.answer(Err(ErrorCode::INTERNAL));
        }
    }

    /// What is forbidden to one user, or to all: `most` of it by name, and how much there is.
    pub(super) fn tell_sanctions(&self, user: &str, most: usize) -> (Vec<Sanction>, usize) {
        let of = || self.sanctions.of(Some(user).filter(|user| !user.is_empty()));
        (of().take(most).collect(), of().count())
    }

    /// Whether something is forbidden to the client's user in a channel, or, with an empty one, everywhere; for people, for
    /// how long.
    pub(super) fn forbidden(&mut self, now: u64, kind: Kind, client: &Client, channel: &str) -> Option<ErrorCode> {
        let until = self.sanctions.until(now / 1000, kind, self.users.name(client.user), channel)?;
        self.counts.sanctioned += 1;
        let code = match kind {
            Kind::Mute => ErrorCode::MUTED,
            Kind::Ban => ErrorCode::BANNED,
        };
        Some(match until {
            FOREVER => code,
            until => {
                let message = format!("{}: {} s to go", code.message, until - now / 1000);
                ErrorCode { message: message.into(), ..code }
            }
        })
    }

    /// Carries an order out for this shard's clients; how many clients it concerned. All clients are looked at: orders are
    /// rare, and an index of clients by user would cost every one of them.
    fn carry_out_order(
        &mut self,
        ports: &mut impl Ports,
        clients: &mut impl Clients,
        now: u64,
        order: &Arc<Order>,
    ) -> usize {
        let banned;
        let target = match &**order {
            Order::Sanction(sanction) => {
                banned = Target { user: sanction.user.to_string(), ..Target::default() };
                &banned
            }
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
            Order::Sanction(Sanction { channel, .. }) if channel.is_empty() => {
                self.end(ports, now, conn, client, Disconnect::BANNED);
            }
            Order::Sanction(Sanction { channel, .. }) => {
                if let Some(slot) = self.channels.find(channel) {
                    self.expel(ports, now, conn, client, slot, &Unsubscribed::BANNED);
                }
            }
            Order::Subscribe { subscription, .. }
                if self.forbidden(now, Kind::Ban, client, &subscription.channel).is_some() => {}
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
