//! The history of a shared channel: pages of it, and what is taken out of it.

use std::sync::Arc;

use annulus_protocols::centrifuge::ErrorCode;

use super::{Reading, SYNC_PAGE};
use crate::chat::broker::{Failure, From, Page, Wish};
use crate::chat::hub::{Hub, Ports};
use crate::chat::letters::{Answer, Asker};
use crate::chat::past::{self, Partial, Span};
use crate::chat::stream::{Stored, epoch_text};

/// A page that somebody wants.
pub(super) struct PageWish {
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

impl Hub {
    pub(super) fn on_page_read(
        &mut self,
        ports: &mut impl Ports,
        now: u64,
        mut wish: PageWish,
        outcome: Result<Page, Failure>,
    ) {
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

    /// The owner's side: a page of a history that is shared.
    #[allow(clippy::too_many_arguments)] // Who asks, where, and which part: all of it is needed.
    pub(in crate::chat::hub) fn page_shared(
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
    pub(in crate::chat::hub) fn clear_shared(&mut self, ports: &mut impl Ports, asker: Asker, channel: &str) {
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
    pub(in crate::chat::hub) fn remove_shared(
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
}
