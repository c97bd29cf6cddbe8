//! The copy of a stream: what it lacks is read, what is heard is taken number by number, and where a gap cannot be closed
//! members begin anew.

use std::sync::Arc;

use annulus_engine::ConnId;
use annulus_engine::trace::Trace;
use annulus_protocols::centrifuge::Unsubscribed;
use bytes::Bytes;

use super::{EARLY_MAX, Reading, SYNC_PAGE, State};
use crate::chat::broker::message::{self, Message};
use crate::chat::broker::{Failure, From, Page};
use crate::chat::hub::{Clients, Hub, Ports};
use crate::chat::kept::content_of;
use crate::chat::letters::Letter;
use crate::chat::log::Publication;
use crate::chat::stream::{Content, Epoch, Stream};

impl Hub {
    /// Asks what the copy lacks. What was heard so far is in that.
    pub(super) fn begin_sync(&mut self, ports: &mut impl Ports, channel: &Arc<str>) {
        let Some(attachment) = self.shared.attached.get_mut(channel) else { return };
        attachment.early.clear();
        attachment.removed.clear();
        attachment.is_early_cut = false;
        let is_known = attachment.is_known;
        let slot = self.channels.open(channel);
        let settled = self.channels.at(slot).stream.as_ref().map_or(0, |stream| stream.settled());
        let (from, limit) = match is_known {
            true => (From::After(settled), SYNC_PAGE),
            false => (From::End, 0),
        };
        let id = self.ask_broker(ports, channel, from, limit, Reading::Sync(channel.clone()));
        if let Some(attachment) = self.shared.attached.get_mut(channel) {
            attachment.state = State::Reading(id);
        }
    }

    /// What was read for a copy.
    pub(super) fn on_sync(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        id: u64,
        channel: &Arc<str>,
        outcome: Result<Page, Failure>,
    ) {
        let Some(attachment) = self.shared.attached.get_mut(channel) else { return };
        if attachment.state != State::Reading(id) {
            // The connection was lost meanwhile: it is read again.
            return;
        }
        let Ok(page) = outcome else {
            attachment.state = State::Unread;
            return self.shared.unread.push(channel.clone());
        };
        let was_known = std::mem::replace(&mut attachment.is_known, true);
        let (epoch, top, is_empty) = (page.epoch, page.top, page.entries.is_empty());
        if !was_known {
            self.replace(channel, epoch, top);
        }
        let (known, settled) = self.position(channel);
        if known != epoch || top < settled {
            self.begin_anew(ports, channel, epoch, top);
        } else {
            for (offset, entry) in page.entries {
                self.take_next(ports, now, channel, offset, &entry);
            }
            let reached = self.position(channel).1;
            if reached < top && (is_empty || reached == settled) {
                // What is missing is not kept any more.
                self.begin_anew(ports, channel, epoch, top);
            } else if reached < top {
                return self.begin_sync(ports, channel);
            }
        }
        self.catch_up(ports, now, channel);
    }

    /// Takes what was heard while the copy was read; then it is live.
    fn catch_up(&mut self, ports: &mut impl Ports, now: u64, channel: &Arc<str>) {
        loop {
            let Some(attachment) = self.shared.attached.get_mut(channel) else { return };
            let Some((epoch, offset, entry)) = attachment.early.pop_front() else {
                if std::mem::take(&mut attachment.is_early_cut) {
                    return self.begin_sync(ports, channel);
                }
                attachment.state = State::Live;
                let (cleared, removed) = (attachment.cleared.take(), std::mem::take(&mut attachment.removed));
                if let Some((epoch, upto)) = cleared {
                    self.forget(channel, epoch, upto);
                }
                for (epoch, offset) in removed {
                    self.forget_one(channel, epoch, offset);
                }
                return self.let_in(ports, now, channel);
            };
            let (known, settled) = self.position(channel);
            match epoch == known && offset <= settled + 1 {
                true => self.take_next(ports, now, channel, offset, &entry),
                false => return self.begin_sync(ports, channel),
            }
        }
    }

    /// A copy's part of a history that is forgotten.
    fn forget(&mut self, channel: &str, epoch: Epoch, upto: u64) {
        let slot = self.channels.open(channel);
        if let Some(stream) = self.channels.at(slot).stream.as_mut().filter(|stream| stream.epoch == epoch) {
            stream.clear(upto);
        }
    }

    /// A copy's part in the removal of one publication.
    fn forget_one(&mut self, channel: &str, epoch: Epoch, offset: u64) {
        let slot = self.channels.open(channel);
        let entry = self.channels.at(slot);
        if entry.stream.as_ref().is_some_and(|stream| stream.epoch == epoch) {
            // If it is not here, nobody is given it from here.
            let _was_there = entry.remove(offset);
        }
    }

    /// Where a copy is.
    pub(super) fn position(&mut self, channel: &str) -> (Epoch, u64) {
        let slot = self.channels.find(channel);
        let stream = slot.and_then(|slot| self.channels.at(slot).stream.as_ref());
        stream.map_or(([0; 4], 0), |stream| (stream.epoch, stream.settled()))
    }

    /// The copy is of another stream from now on, at its end.
    fn replace(&mut self, channel: &str, epoch: Epoch, top: u64) {
        let slot = self.channels.open(channel);
        let stream = self.channels.stream(slot, || epoch);
        let shards = stream.shards;
        *stream = Stream::new(epoch);
        stream.shards = shards;
        stream.restore_top(top);
    }

    /// Members cannot be told what they have missed: they begin anew.
    fn begin_anew(&mut self, ports: &mut impl Ports, channel: &Arc<str>, epoch: Epoch, top: u64) {
        self.replace(channel, epoch, top);
        self.counts.begun_anew += 1;
        let slot = self.channels.open(channel);
        let mut shards = self.channels.at(slot).stream.as_ref().map_or(0, |stream| stream.shards);
        while shards != 0 {
            ports.post(shards.trailing_zeros() as usize, Letter::Anew { channel: channel.clone() });
            shards &= shards - 1;
        }
    }

    /// A shard's members of a channel begin anew.
    pub(in crate::chat::hub) fn anew(
        &mut self,
        ports: &mut impl Ports,
        clients: &mut impl Clients,
        now: u64,
        channel: &str,
    ) {
        let Some(slot) = self.channels.find(channel) else { return };
        let members: Vec<ConnId> = self.channels.at(slot).everybody().collect();
        for conn in members {
            if let Some(client) = clients.client(conn) {
                self.expel(ports, now, conn, client, slot, &Unsubscribed::INSUFFICIENT_STATE);
            }
        }
    }

    /// The next publication of a copy, or one that it has: kept, and handed to members.
    fn take_next(&mut self, ports: &mut impl Ports, now: u64, channel: &str, offset: u64, entry: &[u8]) {
        let common = self.common.clone();
        let Some(size) = common.config.channels.namespace(channel).map(|namespace| namespace.history_size) else {
            return;
        };
        let slot = self.channels.open(channel);
        let Some(settled) = self.channels.at(slot).stream.as_ref().map(|stream| stream.settled()) else { return };
        if offset != settled + 1 {
            return;
        }
        if entry.is_empty() {
            // It was removed: it keeps its place, and nobody is handed it.
            let stream = self.channels.stream(slot, || *b"none");
            stream.number(now, Arc::new(Content::removed()));
            return stream.settle(offset, size);
        }
        let read = Publication::of_bytes(entry).and_then(|publication| {
            let content = content_of(&publication, common.sealer.as_deref())?;
            Some((publication.time_ms, Arc::new(content)))
        });
        let Some((time_ms, content)) = read else {
            self.tell_strange(
                channel,
                "a publication of another node cannot be read: is its encryption key known here?",
            );
            let (name, epoch) = (self.channels.at(slot).name.clone(), self.position(channel).0);
            return self.begin_anew(ports, &name, epoch, offset);
        };
        let stream = self.channels.stream(slot, || *b"none");
        stream.number(time_ms, content.clone());
        stream.settle(offset, size);
        stream.touched_ms = stream.touched_ms.max(now);
        let numbered_us = ports.clock_us();
        self.fan_out_publication(ports, slot, offset, numbered_us, &content, Trace::NONE);
    }

    /// Says of the first and then of each thousandth message that it was not understood.
    pub(super) fn tell_strange(&mut self, channel: &str, why: impl std::fmt::Display) {
        if self.shared.strange.is_multiple_of(1000) {
            crate::warn!("chat: broker: {channel:?}: {why} ({} times before)", self.shared.strange);
        }
        self.shared.strange += 1;
    }

    pub(super) fn on_heard(&mut self, ports: &mut impl Ports, now: u64, channel: &Arc<str>, bytes: &Bytes) {
        if !self.shared.attached.contains_key(channel) {
            return;
        }
        let common = self.common.clone();
        let is_own = |node: &str| node == common.config.uid;
        match message::read(bytes) {
            Ok(Message::Publication { epoch, offset, entry }) => {
                let entry = bytes.slice_ref(entry);
                self.on_numbered(ports, now, channel, epoch, offset, entry);
            }
            Ok(Message::Cleared { epoch, upto }) => {
                self.forget(channel, epoch, upto);
                let attachment = self.shared.attached.get_mut(channel);
                if let Some(attachment) = attachment.filter(|attachment| attachment.state != State::Live) {
                    attachment.cleared = Some((epoch, upto));
                }
            }
            Ok(Message::Removed { epoch, offset }) => {
                self.forget_one(channel, epoch, offset);
                let attachment = self.shared.attached.get_mut(channel);
                if let Some(attachment) = attachment.filter(|attachment| attachment.state != State::Live) {
                    match attachment.removed.len() < EARLY_MAX {
                        true => attachment.removed.push((epoch, offset)),
                        false => attachment.is_early_cut = true,
                    }
                }
            }
            Ok(Message::Said { node, .. } | Message::Moved { node, .. }) if is_own(node) => {}
            Ok(Message::Said { publication, .. }) => {
                let Some(content) = content_of(&publication, common.sealer.as_deref()) else { return };
                let slot = self.channels.open(channel);
                let numbered_us = ports.clock_us();
                self.fan_out_publication(ports, slot, 0, numbered_us, &Arc::new(content), Trace::NONE);
            }
            Ok(Message::Moved { came, who, .. }) => self.tell_move(ports, channel, came, who),
            Err(strange) => self.tell_strange(channel, strange),
        }
    }

    fn on_numbered(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        channel: &Arc<str>,
        epoch: Epoch,
        offset: u64,
        entry: Bytes,
    ) {
        let (known, settled) = self.position(channel);
        let Some(attachment) = self.shared.attached.get_mut(channel) else { return };
        match attachment.state {
            State::Live if epoch == known && offset <= settled + 1 => {
                self.take_next(ports, now, channel, offset, &entry);
            }
            State::Live => {
                // Something was not heard, or the channel has another life.
                self.counts.resynced += 1;
                self.begin_sync(ports, channel);
            }
            State::Asked | State::Reading(_) | State::Unread => attachment.keep_early(epoch, offset, entry),
        }
    }
}
