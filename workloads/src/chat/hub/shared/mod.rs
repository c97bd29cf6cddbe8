//! Channels that several nodes share: a copy of the end of each stream, kept where the channel's owner is.
//!
//! ```text
//!   first member ─► Asked ──attached──► Reading ──read──► Live ──lost──► Asked …
//!                     members to come wait                 │
//!                                                          ├─ the next number: kept, handed to members
//!                                                          ├─ a known number: nothing
//!                                                          └─ a number further on, another life: Reading
//! ```
//!
//! The broker numbers; the copy follows, number by number. What is read closes a gap; if the broker cannot close it, or the
//! channel has another life, members are sent to begin anew (2500), so that none of them ever has a silent gap. A channel
//! without history has no numbers, and is merely listened to.

mod flights;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use annulus_engine::ConnId;
use annulus_engine::trace::Trace;
use annulus_protocols::centrifuge::{ErrorCode, Unsubscribed};
use bytes::Bytes;

use super::{Clients, Hub, Ports};
use crate::chat::broker::message::{self, Message};
use crate::chat::broker::{Failure, From, News, Page, Read, Wish};
use crate::chat::config::{Namespace, RecoveryMode};
use crate::chat::kept::content_of;
use crate::chat::letters::{Answer, Asker, Join, Letter};
use crate::chat::log::Publication;
use crate::chat::past::{self, Partial, Span};
use crate::chat::stream::{Author, Content, Epoch, Stored, Stream, epoch_text};
pub(super) use flights::Flights;
pub use flights::Intent;

/// Publications that are read at once to close a gap.
const SYNC_PAGE: usize = 256;
/// What was heard of a channel while it is being read. Beyond, it is read once more.
const EARLY_MAX: usize = 1024;
/// Channels that are tried again at once, where many could not be read: five times a second.
const UNREAD_AT_ONCE: usize = 1024;
/// How long somebody waits to become a member before that is refused, in milliseconds: the client tries again.
const JOIN_WAIT_MS_MAX: u64 = 5_000;
/// How long a channel without members is still listened to, in milliseconds.
const IDLE_MS: u64 = 10_000;

/// What a hub keeps of what is shared.
#[derive(Default)]
pub(super) struct Shared {
    /// The broker answers.
    is_up: bool,
    attached: HashMap<Arc<str>, Attachment>,
    reads: HashMap<u64, Reading>,
    next_read: u64,
    /// Publications on their way to the broker.
    pub(super) flights: Flights,
    /// Channels that somebody waits for, by when they began to.
    late: VecDeque<(u64, Arc<str>)>,
    /// Channels whose last member left, by when.
    idle: VecDeque<(u64, Arc<str>)>,
    /// Channels that could not be read.
    unread: Vec<Arc<str>>,
    /// Messages that were not understood.
    strange: u64,
}

/// A channel that is listened to.
struct Attachment {
    state: State,
    /// The copy is of this channel's stream, and not a new one that knows nothing.
    is_known: bool,
    waiting: Vec<Waiting>,
    /// What was heard and not taken yet, oldest first.
    early: VecDeque<(Epoch, u64, Bytes)>,
    /// Not all of it.
    is_early_cut: bool,
    /// A history that was forgotten while the copy was read: the copy must not have it afterwards.
    cleared: Option<(Epoch, u64)>,
    /// Publications that were removed meanwhile, likewise. Beyond [`EARLY_MAX`], it is read once more.
    removed: Vec<(Epoch, u64)>,
    idle_since: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is not heard yet, or no more.
    Asked,
    /// It is heard, and where the stream is was asked for.
    Reading(u64),
    /// It is heard, and nobody could say where the stream is.
    Unread,
    /// It is heard, and the copy has everything so far.
    Live,
}

/// Who wants to become a member.
struct Waiting {
    asker: Asker,
    shard: usize,
    join: Join,
    since: u64,
}

/// What something is read for.
enum Reading {
    /// The copy's sake.
    Sync(Arc<str>),
    /// Somebody who recovers from before the copy's beginning.
    Join(Arc<str>, Waiting),
    /// A page of history.
    Page(PageWish),
    /// It is cleared.
    Clear(Asker, Arc<str>),
    /// One publication is removed, of this life if it says so.
    Remove(Asker, Arc<str>, String),
}

/// A page that somebody wants.
struct PageWish {
    asker: Asker,
    channel: Arc<str>,
    /// What it is to begin next to.
    since: Option<u64>,
    /// The life of the channel that it is wanted of; empty: of any.
    since_epoch: String,
    limit: usize,
    /// How many were asked for.
    asked: usize,
    reverse: bool,
}

impl Attachment {
    fn new() -> Attachment {
        Attachment {
            state: State::Asked,
            is_known: false,
            waiting: Vec::new(),
            early: VecDeque::new(),
            is_early_cut: false,
            cleared: None,
            removed: Vec::new(),
            idle_since: None,
        }
    }

    fn keep_early(&mut self, epoch: Epoch, offset: u64, entry: Bytes) {
        match self.early.len() < EARLY_MAX {
            true => self.early.push_back((epoch, offset, entry)),
            false => self.is_early_cut = true,
        }
    }
}

impl Hub {
    /// Whether several nodes share this chat.
    pub(super) fn has_broker(&self) -> bool {
        self.common.config.broker.is_some()
    }

    /// Whether the broker numbers and keeps a channel's publications.
    pub(super) fn is_shared(&self, channel: &str) -> bool {
        let config = &self.common.config;
        config.channels.namespace(channel).is_some_and(|namespace| namespace.is_shared(config))
    }

    /// Whether a channel is listened to: then its slot stays.
    pub(super) fn is_attached(&self, slot: crate::chat::session::ChannelSlot) -> bool {
        !self.shared.attached.is_empty() && self.shared.attached.contains_key(&self.channels.peek(slot).name)
    }

    /// Channels that are listened to.
    pub fn attached(&self) -> usize {
        self.shared.attached.len()
    }

    fn meta_ttl_ms(&self, namespace: &Namespace) -> u64 {
        namespace.history_meta_ttl_ms.unwrap_or(self.common.config.channels.history_meta_ttl_ms)
    }

    /// Hears from the broker.
    pub(super) fn on_news(&mut self, ports: &mut impl Ports, now: u64, news: News) {
        match news {
            News::Up(is_up) => {
                self.shared.is_up = is_up;
                match is_up {
                    true => self.read_unread(ports),
                    false => self.refuse_waiting(ports, now),
                }
            }
            News::Attached(channel) => self.on_attached(ports, now, &channel),
            News::Heard { channel, message } => self.on_heard(ports, now, &channel, &message),
            News::Lost => self.on_lost(),
            News::Added { id, outcome } => self.on_added(ports, now, id, outcome),
            News::Read { id, outcome } => self.on_read(ports, now, id, outcome),
            News::Cleared { id, outcome } => {
                if let Some(Reading::Clear(asker, channel)) = self.shared.reads.remove(&id) {
                    let answer = match outcome {
                        Ok((epoch, upto)) => Answer::Cleared(Some((upto, epoch))),
                        Err(_) => Answer::Refused(ErrorCode::INTERNAL),
                    };
                    self.tell(ports, asker, &channel, answer);
                }
            }
            News::Removed { id, outcome } => {
                if let Some(Reading::Remove(asker, channel, wanted)) = self.shared.reads.remove(&id) {
                    let answer = match outcome {
                        Ok((epoch, true)) => {
                            self.counts.removed += 1;
                            Answer::Removed(Some(epoch))
                        }
                        Ok((epoch, false)) if !wanted.is_empty() && wanted != epoch_text(&epoch) => {
                            Answer::Refused(ErrorCode::UNRECOVERABLE_POSITION)
                        }
                        Ok((_, false)) => Answer::Refused(ErrorCode::BAD_REQUEST),
                        Err(_) => Answer::Refused(ErrorCode::INTERNAL),
                    };
                    self.tell(ports, asker, &channel, answer);
                }
            }
        }
    }

    /// Nothing is heard any more, and not that a history was forgotten either: copies go on from where they are, and keep
    /// nothing from before.
    fn on_lost(&mut self) {
        for (channel, attachment) in &mut self.shared.attached {
            attachment.state = State::Asked;
            let slot = self.channels.find(channel);
            if let Some(stream) = slot.and_then(|slot| self.channels.at(slot).stream.as_mut()) {
                stream.clear(stream.settled());
            }
        }
    }

    fn ask_broker(
        &mut self,
        ports: &mut impl Ports,
        channel: &Arc<str>,
        from: From,
        limit: usize,
        why: Reading,
    ) -> u64 {
        let config = &self.common.config.channels;
        let meta_ttl_ms = config.namespace(channel).map_or(0, |namespace| self.meta_ttl_ms(namespace));
        self.shared.next_read += 1;
        let id = self.shared.next_read;
        self.shared.reads.insert(id, why);
        ports.wish(Wish::Read(Read { id, channel: channel.clone(), from, limit, meta_ttl_ms }));
        id
    }

    /// The owner's side: somebody wants to become a member.
    pub(super) fn join_shared(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        asker: Asker,
        shard: usize,
        channel: &str,
        join: Join,
    ) {
        if self.common.namespace(channel).is_none() {
            return self.tell(ports, asker, channel, Answer::NotJoined(ErrorCode::UNKNOWN_CHANNEL));
        }
        let channel = self.attach(ports, channel);
        let waiting = Waiting { asker, shard, join, since: now };
        let (is_up, is_shared) = (self.shared.is_up, self.is_shared(&channel));
        let attachment = self.shared.attached.get_mut(&channel).expect("it was just attached");
        attachment.idle_since = None;
        match attachment.state {
            State::Live => self.join_live(ports, now, &channel, waiting),
            _ if is_up => {
                attachment.waiting.push(waiting);
                self.shared.late.push_back((now, channel));
            }
            // Those who are here hear each other all the same.
            _ if !is_shared => self.join_live(ports, now, &channel, waiting),
            _ => self.tell(ports, waiting.asker, &channel, Answer::NotJoined(ErrorCode::INTERNAL)),
        }
    }

    /// Listens to a channel from now on, if it does not yet.
    fn attach(&mut self, ports: &mut impl Ports, channel: &str) -> Arc<str> {
        if let Some((known, _)) = self.shared.attached.get_key_value(channel) {
            return known.clone();
        }
        let (slot, epoch) = (self.channels.open(channel), self.draw_epoch());
        self.channels.stream(slot, || epoch);
        let name = self.channels.at(slot).name.clone();
        self.shared.attached.insert(name.clone(), Attachment::new());
        ports.wish(Wish::Attach(name.clone()));
        name
    }

    /// The last member left; if nobody comes back, the channel is given up in a while.
    pub(super) fn on_left_alone(&mut self, now: u64, channel: &str) {
        let Some((name, _)) = self.shared.attached.get_key_value(channel) else { return };
        self.shared.idle.push_back((now, name.clone()));
        if let Some(attachment) = self.shared.attached.get_mut(channel) {
            attachment.idle_since = Some(now);
        }
    }

    fn on_attached(&mut self, ports: &mut impl Ports, now: u64, channel: &Arc<str>) {
        let is_shared = self.is_shared(channel);
        let Some(attachment) = self.shared.attached.get_mut(channel) else { return };
        match is_shared {
            true => self.begin_sync(ports, channel),
            false => {
                attachment.state = State::Live;
                self.let_in(ports, now, channel);
            }
        }
    }

    /// Those who waited for a channel become members.
    fn let_in(&mut self, ports: &mut impl Ports, now: u64, channel: &Arc<str>) {
        let Some(attachment) = self.shared.attached.get_mut(channel) else { return };
        for waiting in std::mem::take(&mut attachment.waiting) {
            self.join_live(ports, now, channel, waiting);
        }
    }

    /// Asks what the copy lacks. What was heard so far is in that.
    fn begin_sync(&mut self, ports: &mut impl Ports, channel: &Arc<str>) {
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

    fn on_read(&mut self, ports: &mut impl Ports, now: u64, id: u64, outcome: Result<Page, Failure>) {
        match self.shared.reads.remove(&id) {
            Some(Reading::Sync(channel)) => self.on_sync(ports, now, id, &channel, outcome),
            Some(Reading::Join(channel, waiting)) => self.on_recovered(ports, now, &channel, waiting, outcome),
            Some(Reading::Page(wish)) => self.on_page_read(ports, now, wish, outcome),
            Some(Reading::Clear(..) | Reading::Remove(..)) | None => {}
        }
    }

    fn on_page_read(&mut self, ports: &mut impl Ports, now: u64, mut wish: PageWish, outcome: Result<Page, Failure>) {
        let is_there = |stored: &Stored| !stored.content.is_removed();
        let answer = match outcome {
            Ok(page) if !wish.since_epoch.is_empty() && wish.since_epoch != epoch_text(&page.epoch) => {
                Answer::Refused(ErrorCode::UNRECOVERABLE_POSITION)
            }
            Ok(page) => {
                let (top, epoch, count) = (page.top, epoch_text(&page.epoch).to_owned(), page.entries.len());
                let last = page.entries.last().map_or(0, |(offset, _)| *offset);
                let mut page = self.stored(now, &wish.channel, page);
                let has_removed = !page.iter().all(is_there);
                page.retain(is_there);
                if wish.reverse && has_removed && count == wish.asked && page.len() < wish.limit {
                    // More of them, for those that are to be given in the place of those that are not.
                    wish.asked = (2 * wish.asked).max(SYNC_PAGE);
                    let from = wish.since.map_or(From::End, From::Before);
                    let (channel, asked) = (wish.channel.clone(), wish.asked);
                    self.ask_broker(ports, &channel, from, asked, Reading::Page(wish));
                    return;
                }
                if !wish.reverse && count == wish.asked && page.len() < wish.limit {
                    // Some are too old and still there: the page goes on behind them, and is asked for twice as much until it
                    // is full or the stream has no more.
                    let from = page.first().map_or(last, |stored| stored.offset - 1);
                    wish.asked = (2 * wish.asked).max(SYNC_PAGE);
                    let (channel, asked) = (wish.channel.clone(), wish.asked);
                    self.ask_broker(ports, &channel, From::After(from), asked, Reading::Page(wish));
                    return;
                }
                page.truncate(wish.limit);
                match self.lacking(now, &wish, top, &page) {
                    None => Answer::Page { page, top, epoch },
                    Some((span, old)) => {
                        let (limit, elsewhere) = (wish.limit, Some(old));
                        Answer::Partial(Box::new(Partial { recent: page, span, limit, top, epoch, elsewhere }))
                    }
                }
            }
            Err(_) => Answer::Refused(ErrorCode::INTERNAL),
        };
        self.tell(ports, wish.asker, &wish.channel, answer);
    }

    /// What of a page the database has to give, if the namespace says so; and when a publication is old enough for what is
    /// missing before it to be missing for good: intents of other nodes are given up by then.
    fn lacking(&self, now: u64, wish: &PageWish, top: u64, page: &[Stored]) -> Option<(Span, u64)> {
        let namespace = self.common.config.channels.namespace(&wish.channel).filter(|it| it.history_from_database)?;
        let oldest = if wish.reverse { page.last() } else { page.first() };
        let first = oldest.map_or(top + 1, |stored| stored.offset);
        let span = past::lacking(wish.since, wish.reverse, wish.limit, first, page.len())?;
        Some((span, now.saturating_sub(namespace.idempotency_window_ms)))
    }

    /// What was read for a copy.
    fn on_sync(
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
    fn position(&mut self, channel: &str) -> (Epoch, u64) {
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
    pub(super) fn anew(&mut self, ports: &mut impl Ports, clients: &mut impl Clients, now: u64, channel: &str) {
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
    fn tell_strange(&mut self, channel: &str, why: impl std::fmt::Display) {
        if self.shared.strange.is_multiple_of(1000) {
            crate::warn!("chat: broker: {channel:?}: {why} ({} times before)", self.shared.strange);
        }
        self.shared.strange += 1;
    }

    fn on_heard(&mut self, ports: &mut impl Ports, now: u64, channel: &Arc<str>, bytes: &Bytes) {
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

    /// A member comes to a channel whose copy is live.
    fn join_live(&mut self, ports: &mut impl Ports, now: u64, channel: &Arc<str>, waiting: Waiting) {
        match self.lacks(channel, &waiting.join) {
            Some((from, limit)) => {
                self.ask_broker(ports, channel, from, limit, Reading::Join(channel.clone(), waiting));
            }
            None => {
                let answer = self.join(ports, now, waiting.shard, channel, waiting.join, None);
                self.tell(ports, waiting.asker, channel, answer);
            }
        }
    }

    /// What a member wants that the copy does not have and the broker may.
    fn lacks(&mut self, channel: &str, join: &Join) -> Option<(From, usize)> {
        let common = self.common.clone();
        let namespace = common.config.channels.namespace(channel).filter(|it| it.is_shared(&common.config))?;
        let (offset, epoch) = join.since.as_ref()?;
        let slot = self.channels.open(channel);
        let stream = self.channels.at(slot).stream.as_ref()?;
        let (most, settled) = (common.config.client.recovery_max, stream.settled());
        if !epoch.is_empty() && epoch != stream.epoch() && namespace.recovery_mode == RecoveryMode::Stream {
            return None;
        }
        match namespace.recovery_mode {
            RecoveryMode::Stream => {
                let is_here = *offset >= settled || stream.missed(*offset, epoch, most).is_some();
                (!is_here && settled - offset <= most as u64).then_some((From::After(*offset), most))
            }
            RecoveryMode::Cache => {
                let has_it = *offset == settled && epoch == stream.epoch();
                (settled > 0 && !has_it && stream.at(settled).is_none()).then_some((From::End, 1))
            }
        }
    }

    /// What was read for somebody who recovers.
    fn on_recovered(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        channel: &Arc<str>,
        waiting: Waiting,
        outcome: Result<Page, Failure>,
    ) {
        let (known, _) = self.position(channel);
        let attachment = self.shared.attached.get_mut(channel);
        let page = match (outcome, attachment) {
            (Ok(page), Some(Attachment { state: State::Live, .. })) if page.epoch == known => page,
            (Ok(_), Some(attachment)) => {
                // The channel has another life, or will soon be known to: with the others, once it is read.
                attachment.waiting.push(waiting);
                let is_live = attachment.state == State::Live;
                self.shared.late.push_back((now, channel.clone()));
                if is_live {
                    self.begin_sync(ports, channel);
                }
                return;
            }
            _ => return self.tell(ports, waiting.asker, channel, Answer::NotJoined(ErrorCode::INTERNAL)),
        };
        let read = self.stored(now, channel, page);
        let found = self.join_up(channel, &waiting.join, read);
        let answer = self.join(ports, now, waiting.shard, channel, waiting.join, Some(found));
        self.tell(ports, waiting.asker, channel, answer);
    }

    /// What was read and what the copy has, in one piece that ends where the copy does; `None`: there is a gap.
    fn join_up(&mut self, channel: &str, join: &Join, mut read: Vec<Stored>) -> Option<Vec<Stored>> {
        let common = self.common.clone();
        let namespace = common.config.channels.namespace(channel)?;
        let since = join.since.as_ref()?.0;
        let slot = self.channels.open(channel);
        let stream = self.channels.at(slot).stream.as_ref()?;
        if namespace.recovery_mode == RecoveryMode::Cache {
            let latest = stream.latest(None).cloned().or(read.pop());
            return Some(latest.into_iter().collect());
        }
        let (settled, most) = (stream.settled(), common.config.client.recovery_max);
        // What the copy has not heard yet comes as a push.
        read.retain(|stored| stored.offset <= settled);
        let last = read.last().map_or(since, |stored| stored.offset);
        read.extend(stream.missed(last, stream.epoch(), most)?);
        let is_whole = read.iter().zip(since + 1..).all(|(stored, expected)| stored.offset == expected);
        (is_whole && read.len() as u64 == settled - since && read.len() <= most).then_some(read)
    }

    /// Entries as publications, without those that are too old, or that cannot be read.
    fn stored(&mut self, now: u64, channel: &str, page: Page) -> Vec<Stored> {
        let common = self.common.clone();
        let ttl_ms = common.config.channels.namespace(channel).map_or(0, |namespace| namespace.history_ttl_ms);
        let mut all = Vec::with_capacity(page.entries.len());
        for (offset, entry) in page.entries {
            if entry.is_empty() {
                all.push(Stored { offset, time_ms: now, content: Arc::new(Content::removed()) });
                continue;
            }
            let read = Publication::of_bytes(&entry)
                .and_then(|read| Some((read.time_ms, content_of(&read, common.sealer.as_deref())?)));
            match read {
                Some((time_ms, _)) if now.saturating_sub(time_ms) > ttl_ms => {}
                Some((time_ms, content)) => all.push(Stored { offset, time_ms, content: Arc::new(content) }),
                None => self.tell_strange(channel, "a publication cannot be read: is its encryption key known here?"),
            }
        }
        all
    }

    /// The owner's side: a page of a history that is shared.
    #[allow(clippy::too_many_arguments)] // Who asks, where, and which part: all of it is needed.
    pub(super) fn page_shared(
        &mut self,
        ports: &mut impl Ports,
        asker: Asker,
        channel: &str,
        limit: usize,
        since: Option<(u64, String)>,
        reverse: bool,
    ) {
        if !self.shared.is_up {
            return self.tell(ports, asker, channel, Answer::Refused(ErrorCode::INTERNAL));
        }
        let from = match (&since, reverse) {
            (Some((offset, _)), true) => From::Before(*offset),
            (None, true) => From::End,
            (since, false) => From::After(since.as_ref().map_or(0, |since| since.0)),
        };
        let channel: Arc<str> = channel.into();
        let (since, since_epoch) = since.unzip();
        let since_epoch = since_epoch.unwrap_or_default();
        let wish = PageWish { asker, channel: channel.clone(), since, since_epoch, limit, asked: limit, reverse };
        self.ask_broker(ports, &channel, from, limit, Reading::Page(wish));
    }

    /// Forgets a history that is shared.
    pub(super) fn clear_shared(&mut self, ports: &mut impl Ports, asker: Asker, channel: &str) {
        if !self.shared.is_up {
            return self.tell(ports, asker, channel, Answer::Refused(ErrorCode::INTERNAL));
        }
        let channel: Arc<str> = channel.into();
        self.shared.next_read += 1;
        let id = self.shared.next_read;
        self.shared.reads.insert(id, Reading::Clear(asker, channel.clone()));
        let config = &self.common.config.channels;
        let meta_ttl_ms = config.namespace(&channel).map_or(0, |namespace| self.meta_ttl_ms(namespace));
        ports.wish(Wish::Clear { id, channel, meta_ttl_ms });
    }

    /// Removes one publication of a history that is shared.
    pub(super) fn remove_shared(
        &mut self,
        ports: &mut impl Ports,
        asker: Asker,
        channel: &str,
        offset: u64,
        epoch: String,
    ) {
        if !self.shared.is_up {
            return self.tell(ports, asker, channel, Answer::Refused(ErrorCode::INTERNAL));
        }
        let channel: Arc<str> = channel.into();
        self.shared.next_read += 1;
        let id = self.shared.next_read;
        self.shared.reads.insert(id, Reading::Remove(asker, channel.clone(), epoch.clone()));
        let config = &self.common.config.channels;
        let meta_ttl_ms = config.namespace(&channel).map_or(0, |namespace| self.meta_ttl_ms(namespace));
        ports.wish(Wish::Remove { id, channel, offset, epoch, meta_ttl_ms });
    }

    /// Says something without history to the other nodes.
    pub(super) fn say_elsewhere(&mut self, ports: &mut impl Ports, now: u64, channel: &Arc<str>, content: &Content) {
        if self.has_broker() {
            let message = message::said(&self.common.config.uid, channel, now, content);
            ports.wish(Wish::Say { channel: channel.clone(), message });
        }
    }

    /// Tells the other nodes who came or left.
    pub(super) fn move_elsewhere(&mut self, ports: &mut impl Ports, channel: &str, came: bool, who: &Author) {
        if self.has_broker() {
            let message = message::moved(&self.common.config.uid, channel, came, who);
            ports.wish(Wish::Say { channel: channel.into(), message });
        }
    }

    /// The broker is away: who waits for it is refused, and tries again.
    fn refuse_waiting(&mut self, ports: &mut impl Ports, now: u64) {
        let all: Vec<Arc<str>> = self.shared.attached.keys().cloned().collect();
        for channel in all {
            let is_shared = self.is_shared(&channel);
            let Some(attachment) = self.shared.attached.get_mut(&channel) else { continue };
            for waiting in std::mem::take(&mut attachment.waiting) {
                match is_shared {
                    true => self.tell(ports, waiting.asker, &channel, Answer::NotJoined(ErrorCode::INTERNAL)),
                    false => self.join_live(ports, now, &channel, waiting),
                }
            }
        }
    }

    /// Tries some of them again.
    fn read_unread(&mut self, ports: &mut impl Ports) {
        let count = self.shared.unread.len().min(UNREAD_AT_ONCE);
        let some: Vec<Arc<str>> = self.shared.unread.drain(..count).collect();
        for channel in some {
            if self.shared.attached.get(&channel).is_some_and(|attachment| attachment.state == State::Unread) {
                self.begin_sync(ports, &channel);
            }
        }
    }

    /// Gives up who waits for too long, and channels that nobody listens to. To be called five times a second.
    pub(super) fn tick_shared(&mut self, ports: &mut impl Ports, now: u64) {
        if self.shared.is_up {
            self.read_unread(ports);
        }
        while let Some((_, channel)) = self.shared.late.pop_front_if(|(since, _)| *since + JOIN_WAIT_MS_MAX <= now) {
            let Some(attachment) = self.shared.attached.get_mut(&channel) else { continue };
            let (late, waiting) = std::mem::take(&mut attachment.waiting)
                .into_iter()
                .partition(|waiting: &Waiting| waiting.since + JOIN_WAIT_MS_MAX <= now);
            attachment.waiting = waiting;
            let late: Vec<Waiting> = late;
            for waiting in late {
                self.tell(ports, waiting.asker, &channel, Answer::NotJoined(ErrorCode::INTERNAL));
            }
        }
        while let Some((since, channel)) = self.shared.idle.pop_front_if(|(since, _)| *since + IDLE_MS <= now) {
            self.detach(ports, now, since, channel);
        }
    }

    fn detach(&mut self, ports: &mut impl Ports, now: u64, since: u64, channel: Arc<str>) {
        let attachment = self.shared.attached.get(&channel);
        let is_idle = attachment.is_some_and(|it| it.idle_since == Some(since) && it.waiting.is_empty());
        let Some(slot) = self.channels.find(&channel).filter(|_| is_idle) else { return };
        // Whoever waited when the last one left may have come in since.
        if self.channels.at(slot).stream.as_ref().is_some_and(|stream| stream.shards != 0) {
            return;
        }
        self.shared.attached.remove(&channel);
        if self.is_shared(&channel) {
            // The broker has it.
            self.channels.at(slot).stream = None;
        }
        ports.wish(Wish::Detach(channel));
        self.release(slot, now);
    }
}
