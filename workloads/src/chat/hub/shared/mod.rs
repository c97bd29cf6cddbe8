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

mod copy;
mod flights;
mod members;
mod pages;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use annulus_protocols::centrifuge::ErrorCode;
use bytes::Bytes;

use super::{Hub, Ports};
use crate::chat::broker::message;
use crate::chat::broker::{Failure, From, News, Page, Read, Wish};
use crate::chat::config::Namespace;
use crate::chat::letters::{Answer, Asker, Join};
use crate::chat::stream::{Author, Content, Epoch, epoch_text};
pub(super) use flights::Flights;
pub use flights::Intent;
use pages::PageWish;

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

    fn on_read(&mut self, ports: &mut impl Ports, now: u64, id: u64, outcome: Result<Page, Failure>) {
        match self.shared.reads.remove(&id) {
            Some(Reading::Sync(channel)) => self.on_sync(ports, now, id, &channel, outcome),
            Some(Reading::Join(channel, waiting)) => self.on_recovered(ports, now, &channel, waiting, outcome),
            Some(Reading::Page(wish)) => self.on_page_read(ports, now, wish, outcome),
            Some(Reading::Clear(..) | Reading::Remove(..)) | None => {}
        }
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
