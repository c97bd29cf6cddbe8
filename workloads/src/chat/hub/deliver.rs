//! Who hears what: fan-out, its pace in large rooms, and what becomes of slow members.
//!
//! ```text
//!   frame ─► members ─► outbox has room? ─ yes ─► sent
//!                                          no ──► channel with history:   set apart at this offset; when the outbox is
//!                                                                         empty, the owner gives what follows, page by page
//!                                                 channel without:       closed, or the frame waits, as the namespace says
//! ```
//!
//! So a slow member of a channel with history costs an offset, not a queue: what it has not taken lies in the history,
//! once for all. If it falls so far behind that the history has moved on, it is told to begin anew (2500).

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use annulus_engine::ConnId;
use annulus_engine::trace::{Stage, Trace};
use annulus_protocols::centrifuge::{
    Disconnect, Publication, Unsubscribed, write_join, write_leave, write_publication,
};

use super::frames::{Frame, as_info, as_publication, in_differences, with_offset};
use super::{DELIVERY, Hub, Ports};
use crate::chat::channel::{Apart, Channel, Group, KEPT_FRAMES_MAX};
use crate::chat::config::{Namespace, Slow};
use crate::chat::dialect::Dialect;
use crate::chat::differences::as_text;
use crate::chat::letters::{Answer, Ask, Asker, Frames, Letter};
use crate::chat::session::{ChannelSlot, Client, Given};
use crate::chat::stream::{Author, Content, Stored};

/// Receivers of one channel that are sent to at once. The others of a larger room follow in later turns, so that small
/// rooms need not wait for it.
pub const FAN_OUT_AT_ONCE: usize = 1024;
/// Fan-outs to large rooms under way on all shards. Beyond, publishing gets error 111: rooms hear less than is said.
pub const FAN_OUTS_MAX: usize = 1024;
/// Publications that a slow member is given at once.
pub const FOLLOW_MAX: usize = 128;
/// Comings and goings of one channel that are told at once within a tick; more are told together at its end.
pub const MOVES_AT_ONCE: usize = 16;
/// Comings and goings that are told together. Beyond, the oldest are not told.
pub const MOVES_MAX: usize = 1024;

/// A fan-out under way.
pub(super) struct FanOut {
    slot: ChannelSlot,
    offset: u64,
    numbered_us: Option<u64>,
    frame: Frame,
    /// Who was a member when it began.
    members: Rc<[ConnId]>,
    at: usize,
    /// It tells who comes and goes.
    watchers: bool,
}

/// Comings and goings of a channel within a tick.
#[derive(Default)]
pub(super) struct Moves {
    told: usize,
    waiting: VecDeque<(bool, Author)>,
}

impl Moves {
    /// Adds one; a going that follows a coming not told yet takes it back.
    fn add(&mut self, came: bool, who: Author) {
        let before = self.waiting.iter().rposition(|(_, other)| other.client == who.client);
        match before.filter(|&at| self.waiting[at].0 != came) {
            Some(at) => drop(self.waiting.remove(at)),
            None => self.waiting.push_back((came, who)),
        }
        if self.waiting.len() > MOVES_MAX {
            self.waiting.pop_front();
        }
    }
}

impl Hub {
    /// Sends a publication to every shard that has members.
    pub(super) fn fan_out_publication(
        &mut self,
        ports: &mut impl Ports,
        slot: ChannelSlot,
        offset: u64,
        numbered_us: u64,
        content: &Arc<Content>,
        mut trace: Trace,
    ) {
        let channel = self.channels.at(slot);
        let (dialects, name) = (channel.dialects, &*channel.name);
        let publication = with_offset(content, offset);
        let of = self.framer.frames(dialects, |codec, out| write_publication(codec, out, name, &publication));
        let differences = channel.rare.as_mut().and_then(|rare| rare.differences.as_mut()).map(|differences| {
            let epoch = channel.stream.as_ref().map(|stream| stream.epoch).unwrap_or_default();
            let keeps = self.common.config.channels.namespace(name).is_some_and(Namespace::has_history);
            let difference = differences.follow(epoch, offset, content, keeps);
            let dialects = differences.dialects;
            Arc::new(self.framer.differing(dialects, name, &publication, content, difference.as_deref()))
        });
        trace.mark(Stage::Work);
        let tagged = (!content.tags.is_empty()).then(|| content.clone());
        let frames = Frames { of, differences, tagged, numbered_us: Some(numbered_us), trace };
        self.fan_out(ports, slot, offset, frames, false);
    }

    /// Sends a frame to every shard that has members.
    fn fan_out(&mut self, ports: &mut impl Ports, slot: ChannelSlot, offset: u64, frames: Frames, watchers: bool) {
        let channel = self.channels.at(slot);
        let mut shards = channel.stream.as_ref().map_or(0, |stream| stream.shards);
        while shards != 0 {
            let shard = shards.trailing_zeros() as usize;
            shards &= shards - 1;
            // To this shard, too: a new member is entered when the owner's answer arrives, and what has settled since
            // must come behind it.
            let (channel, frames) = (channel.name.clone(), frames.clone());
            ports.post(shard, Letter::Deliver { channel, offset, frames, watchers });
        }
    }

    /// Sends a frame to this shard's members.
    pub(super) fn deliver(
        &mut self,
        ports: &mut impl Ports,
        slot: ChannelSlot,
        offset: u64,
        mut frames: Frames,
        watchers: bool,
    ) {
        let groups = if watchers { &[Group::Watchers][..] } else { &Group::MEMBERS };
        for &group in groups {
            for dialect in Dialect::all() {
                self.deliver_to(ports, slot, offset, &mut frames, (group, dialect));
            }
            if self.channels.at(slot).rare.is_none() {
                break;
            }
        }
    }

    /// Sends a frame to those of this shard's members who are sent the same.
    fn deliver_to(
        &mut self,
        ports: &mut impl Ports,
        slot: ChannelSlot,
        offset: u64,
        frames: &mut Frames,
        (group, dialect): (Group, Dialect),
    ) {
        let channel = self.channels.at(slot);
        let mut to = channel.group(group, dialect);
        let wanted: Vec<ConnId>;
        if group == Group::Filtered && !to.is_empty() {
            let tags = frames.tagged.as_ref().map_or(&[][..], |content| &content.tags);
            let filters = channel.rare.as_ref().map(|rare| &rare.filters);
            let filter = |conn: &ConnId| filters.and_then(|filters| filters.get(conn));
            wanted = to.iter().copied().filter(|conn| filter(conn).is_some_and(|it| it.matches(tags))).collect();
            to = &wanted;
        }
        let Some(frame) = Frame::of(frames, group, dialect).filter(|_| !to.is_empty()) else { return };
        let is_fanning = channel.rare.as_ref().is_some_and(|rare| rare.fanning > 0);
        let (now, later) = to.split_at(if is_fanning { 0 } else { to.len().min(FAN_OUT_AT_ONCE) });
        let watchers = group == Group::Watchers;
        if !later.is_empty() {
            let (frame, members, numbered_us) = (frame.clone(), later.into(), frames.numbered_us);
            self.common.fan_outs.fetch_add(1, Ordering::Relaxed);
            self.fan_outs.push_back(FanOut { slot, offset, numbered_us, frame, members, at: 0, watchers });
        }
        let fresh = if group == Group::Fresh { to.to_vec() } else { Vec::new() };
        let (now, is_later): (Vec<ConnId>, bool) = (now.to_vec(), !later.is_empty());
        if is_later {
            channel.rare_mut().fanning += 1;
        }
        // Whether they get it at once, in a later turn or out of the history: they have it before the next one.
        channel.promote(&fresh, dialect);
        self.send_some(ports, slot, offset, &frame, &now, watchers);
        if let Some(numbered_us) = frames.numbered_us.filter(|_| !now.is_empty()) {
            ports.handed_over(numbered_us);
        }
        if let Some(&last) = now.last() {
            frames.trace.mark(Stage::Work);
            ports.trace(last, std::mem::take(&mut frames.trace), &DELIVERY);
        }
    }

    /// Goes on with the fan-outs under way, for a bounded time. Whether there are more.
    pub fn go_on_fanning(&mut self, ports: &mut impl Ports) -> bool {
        let Some(mut fan_out) = self.fan_outs.pop_front() else { return false };
        let FanOut { slot, offset, numbered_us, watchers, .. } = fan_out;
        let end = fan_out.members.len().min(fan_out.at + FAN_OUT_AT_ONCE);
        let to = &fan_out.members[fan_out.at..end];
        self.send_some(ports, slot, offset, &fan_out.frame, to, watchers);
        if let Some(numbered_us) = numbered_us {
            ports.handed_over(numbered_us);
        }
        fan_out.at = end;
        match end == fan_out.members.len() {
            true => {
                self.common.fan_outs.fetch_sub(1, Ordering::Relaxed);
                self.channels.at(slot).fanned();
            }
            // In front again: what was published to this channel since follows it. Other channels wait no longer than it
            // takes to send to so many.
            false => self.fan_outs.push_front(fan_out),
        }
        !self.fan_outs.is_empty()
    }

    /// Sends a frame to some members, and deals with those who have no room for it.
    fn send_some(
        &mut self,
        ports: &mut impl Ports,
        slot: ChannelSlot,
        offset: u64,
        frame: &Frame,
        to: &[ConnId],
        watchers: bool,
    ) {
        let dropped = &mut self.counts.dropped;
        let full = send_to(self.channels.at(slot), ports, to, frame, offset, watchers, dropped);
        if watchers {
            // Who comes and goes is told to those who listen.
            return;
        }
        self.counts.deliveries += (to.len() - full.len()) as u64;
        if !full.is_empty() {
            self.set_apart(ports, slot, offset, &frame.later, full);
        }
    }

    fn set_apart(
        &mut self,
        ports: &mut impl Ports,
        slot: ChannelSlot,
        offset: u64,
        frame: &Arc<[u8]>,
        full: Vec<ConnId>,
    ) {
        let common = self.common.clone();
        let channel = self.channels.at(slot);
        let namespace = common.config.channels.namespace(&channel.name);
        let slow = namespace.map_or(Slow::Disconnect, |namespace| namespace.slow);
        self.counts.slow += full.len() as u64;
        if offset == 0 && namespace.is_some_and(Namespace::has_history) {
            // It was for those who are here now, and is not kept. What is numbered must not be lost for it.
            self.counts.dropped += full.len() as u64;
            return;
        }
        for conn in full {
            let apart = match (offset, slow) {
                (0, Slow::Disconnect) => {
                    ports.close(conn, Disconnect::SLOW);
                    continue;
                }
                (0, Slow::DropOldest) => kept(frame, KEPT_FRAMES_MAX),
                (0, Slow::KeepLatest) => kept(frame, 1),
                (offset, _) => Apart::Behind { offset: offset - 1, asked: false },
            };
            channel.rare_mut().apart.insert(conn, apart);
            ports.tell_drained(conn);
        }
    }

    /// A client that was slow has taken all that waited for it.
    pub fn drained(&mut self, ports: &mut impl Ports, now: u64, conn: ConnId, client: &mut Client) {
        for &subscription in client.subscriptions.as_slice() {
            let slot = subscription.slot();
            let channel = self.channels.at(slot);
            let name = channel.name.clone();
            let Some(rare) = &mut channel.rare else { continue };
            match rare.apart.get_mut(&conn) {
                Some(Apart::Behind { offset, asked }) if !*asked => {
                    *asked = true;
                    let (offset, shard) = (*offset, self.shard);
                    let asker = Asker::Client { shard, conn, id: 0, trace: Trace::NONE };
                    self.ask(ports, now, asker, &name, Ask::Follow { offset });
                }
                Some(Apart::Kept { frames, .. }) => {
                    let mut full = Vec::new();
                    while let Some(frame) = frames.front() {
                        ports.send_all(&[conn], frame, &mut full);
                        if !full.is_empty() {
                            // The rest when it has taken these.
                            ports.tell_drained(conn);
                            break;
                        }
                        frames.pop_front();
                    }
                    if frames.is_empty() {
                        rare.apart.remove(&conn);
                        channel.tidy();
                    }
                }
                _ => {}
            }
        }
    }

    /// The owner's side: what follows an offset.
    pub(super) fn follow(&mut self, channel: &str, offset: u64) -> Answer {
        let stream = self.channels.find(channel).and_then(|slot| self.channels.at(slot).stream.as_ref());
        // As much as may wait for a client: it has taken all that did.
        let bytes_max = self.common.config.outbox_bytes_max / 4;
        match stream {
            Some(stream) => {
                Answer::Follows { page: stream.following(offset, FOLLOW_MAX, bytes_max), top: stream.settled() }
            }
            None => Answer::Follows { page: None, top: 0 },
        }
    }

    /// Gives a slow member what follows.
    #[allow(clippy::too_many_arguments)] // Whose, where, and what: all of it is needed.
    pub(super) fn follows(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        conn: ConnId,
        client: &mut Client,
        channel: &str,
        page: Option<Vec<Stored>>,
        top: u64,
    ) {
        let Some(slot) = self.channels.find(channel) else { return };
        let Some(subscription) = client.subscriptions.to(slot) else { return };
        let entry = self.channels.at(slot);
        let apart = entry.rare.as_mut().and_then(|rare| rare.apart.get_mut(&conn));
        let Some(Apart::Behind { offset, asked }) = apart else { return };
        let Some(page) = page else {
            self.counts.fallen_off += 1;
            return self.expel(ports, now, conn, client, slot, &Unsubscribed::INSUFFICIENT_STATE);
        };
        let last = page.last().map_or(*offset, |stored| stored.offset);
        (*offset, *asked) = (last, false);
        let (codec, mut out) = (client.dialect.codec(), Vec::new());
        let filter = entry.rare.as_ref().and_then(|rare| rare.filters.get(&conn));
        let is_wanted = |content: &Content| filter.is_none_or(|filter| filter.matches(&content.tags));
        for stored in page.iter().filter(|stored| !stored.content.is_removed() && is_wanted(&stored.content)) {
            let publication = as_publication(stored);
            match subscription.given() {
                Given::Whole | Given::Filtered => write_publication(codec, &mut out, channel, &publication),
                Given::Differences => {
                    let text = as_text(&stored.content);
                    let data = in_differences(codec, publication.data, &text);
                    write_publication(codec, &mut out, channel, &Publication { data, ..publication });
                }
            }
            self.counts.deliveries += 1;
        }
        if last >= top {
            let rare = entry.rare_mut();
            match rare.fanning > 0 {
                true => drop(rare.apart.insert(conn, Apart::Has(top))),
                false => drop(rare.apart.remove(&conn)),
            }
            entry.tidy();
        } else {
            ports.tell_drained(conn);
        }
        if !out.is_empty() {
            ports.send(conn, client.dialect, &out);
        }
    }

    /// This shard was not told of publications from `offset` on: its members are to ask for them.
    pub(super) fn missed(&mut self, ports: &mut impl Ports, channel: &str, offset: u64) {
        let Some(slot) = self.channels.find(channel) else { return };
        let channel = self.channels.at(slot);
        let members: Vec<ConnId> = channel.everybody().collect();
        let apart = &mut channel.rare_mut().apart;
        for conn in members {
            let behind = Apart::Behind { offset: offset.saturating_sub(1), asked: false };
            match apart.get_mut(&conn) {
                Some(Apart::Behind { .. }) => continue,
                Some(Apart::Has(has)) if *has >= offset => continue,
                Some(other) => *other = behind,
                None => drop(apart.insert(conn, behind)),
            }
            ports.tell_drained(conn);
        }
    }

    /// Tells those who want to know that the client came or left.
    pub(super) fn announce(&mut self, ports: &mut impl Ports, client: &Client, slot: ChannelSlot, came: bool) {
        let channel = self.channels.at(slot).name.clone();
        let namespace = self.common.config.channels.namespace(&channel);
        if !namespace.is_some_and(|namespace| namespace.join_leave) {
            return;
        }
        let who = self.author(client, Some(slot));
        match self.owner(&channel) {
            owner if owner == self.shard => self.pass_on(ports, &channel, came, who),
            owner => ports.post(owner, Letter::Announce { channel, came, who }),
        }
    }

    /// The owner's side: tells it here and to the other nodes.
    pub(super) fn pass_on(&mut self, ports: &mut impl Ports, channel: &str, came: bool, who: Author) {
        self.move_elsewhere(ports, channel, came, &who);
        self.tell_move(ports, channel, came, who);
    }

    /// Tells it here at once, or, where many come and go, together with others.
    pub(super) fn tell_move(&mut self, ports: &mut impl Ports, channel: &str, came: bool, who: Author) {
        let Some(slot) = self.channels.find(channel) else { return };
        let moves = self.moves.entry(channel.into()).or_default();
        if moves.told >= MOVES_AT_ONCE {
            return moves.add(came, who);
        }
        moves.told += 1;
        self.tell_moves(ports, slot, &[(came, who)]);
    }

    fn tell_moves(&mut self, ports: &mut impl Ports, slot: ChannelSlot, moves: &[(bool, Author)]) {
        let channel = self.channels.at(slot);
        let dialects = channel.all_dialects();
        let name = channel.name.clone();
        let of = self.framer.frames(dialects, |codec, out| {
            for (came, who) in moves {
                match came {
                    true => write_join(codec, out, &name, &as_info(who)),
                    false => write_leave(codec, out, &name, &as_info(who)),
                }
            }
        });
        self.fan_out(ports, slot, 0, Frames { of, ..Frames::default() }, true);
    }

    /// Tells the comings and goings that waited for the end of the tick.
    pub fn tell_waiting_moves(&mut self, ports: &mut impl Ports) {
        for (channel, moves) in std::mem::take(&mut self.moves) {
            if let Some(slot) = self.channels.find(&channel).filter(|_| !moves.waiting.is_empty()) {
                let moves: Vec<_> = moves.waiting.into();
                self.tell_moves(ports, slot, &moves);
            }
        }
    }
}

/// A frame that waits for a slow member, with room for as many.
fn kept(frame: &Arc<[u8]>, most: usize) -> Apart {
    Apart::Kept { frames: VecDeque::from([frame.clone()]), most }
}

/// Sends to those who are not apart; who had no room.
fn send_to(
    channel: &mut Channel,
    ports: &mut impl Ports,
    to: &[ConnId],
    frame: &Frame,
    offset: u64,
    watchers: bool,
    dropped: &mut u64,
) -> Vec<ConnId> {
    let mut full = Vec::new();
    match channel.rare.as_mut().filter(|rare| !rare.apart.is_empty()) {
        None => ports.send_all(to, &frame.now, &mut full),
        Some(rare) => {
            let is_for = |conn: &ConnId| match rare.apart.get_mut(conn) {
                None => true,
                Some(Apart::Has(has)) => offset == 0 || offset > *has,
                Some(Apart::Gone | Apart::Behind { .. }) => false,
                Some(Apart::Kept { frames, most }) => {
                    if !watchers {
                        *dropped += u64::from(frames.len() == *most);
                        frames.drain(..(frames.len() + 1).saturating_sub(*most));
                        frames.push_back(frame.later.clone());
                    }
                    false
                }
            };
            let to: Vec<ConnId> = to.iter().copied().filter(is_for).collect();
            ports.send_all(&to, &frame.now, &mut full);
        }
    }
    full
}
