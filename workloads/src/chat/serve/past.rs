//! Carrying out the older part of a page: the database is asked, and where its feed is behind, waited for.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use annulus_engine::Shard;
use annulus_engine::metrics::Counter;
use annulus_protocols::centrifuge::ErrorCode;

use crate::chat::evidence::Page;
use crate::chat::node::Node;
use crate::chat::past::{Joined, Partial, join};
use crate::chat::store::archive::{READ_MAX, Unread};
use crate::chat::store::{Archive, FeedState};
use crate::chat::stream::Stored;
use crate::voice::Voice;

/// How often a feed that is behind is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// What other nodes published is looked for so often again,
const LOOKS_ELSEWHERE: usize = 3;
/// and so long after each other.
const LOOK_ELSEWHERE: Duration = Duration::from_millis(300);

/// See the module's description.
pub struct Past {
    shard: Shard,
    node: Arc<Node>,
    archive: Archive,
    pages: Arc<Counter>,
    short: Arc<Counter>,
    refused: Arc<Counter>,
    trouble: RefCell<Voice>,
}

impl Past {
    /// Of a shard; `None`: no namespace reads its history from the database.
    ///
    /// # Errors
    /// A sentence: the database cannot be used.
    pub(super) fn new(shard: &Shard, node: &Arc<Node>) -> Result<Option<Past>, String> {
        let Some(archive) = node.archive(shard)? else { return Ok(None) };
        let metrics = shard.metrics();
        let counter = |name, about| metrics.counter(name, about);
        Ok(Some(Past {
            shard: shard.clone(),
            node: node.clone(),
            archive,
            pages: counter("annulus_chat_past_pages_total", "Pages of history with a part from the database."),
            short: counter(
                "annulus_chat_past_short_total",
                "Of them, those that ended early because the database was behind.",
            ),
            refused: counter(
                "annulus_chat_past_refused_total",
                "Pages of history that the database did not give, answered with a temporary error.",
            ),
            trouble: RefCell::default(),
        }))
    }

    /// Completes a page.
    ///
    /// # Errors
    /// 111 when too many wait, 100 when the database is away, too slow, or so far behind that nothing can be said.
    pub(super) async fn complete(&self, channel: &Arc<str>, partial: Partial) -> Result<Page, ErrorCode> {
        let late = || Unread::Failed(format!("the database gave no part of {channel:?} within {READ_MAX:?}"));
        let page = match self.shard.timeout(READ_MAX, self.page(channel, &partial)).await {
            Ok(page) => page,
            Err(_elapsed) => Err(late()),
        };
        match page {
            Ok(publications) => {
                self.pages.add(1);
                let Partial { top, epoch, .. } = partial;
                Ok(Page { publications, top, epoch })
            }
            Err(unread) => {
                self.refused.add(1);
                self.trouble.borrow_mut().say(&format_args!("a page of history cannot be completed: {unread}"));
                Err(match unread {
                    Unread::Busy => ErrorCode::TOO_MANY_REQUESTS,
                    Unread::Failed(_) => ErrorCode::INTERNAL,
                })
            }
        }
    }

    async fn page(&self, channel: &Arc<str>, partial: &Partial) -> Result<Vec<Stored>, Unread> {
        // All that had settled when the owner looked is in the log below this.
        let mark = self.node.common.log.as_ref().map_or(u64::MAX, |log| log.told_lsn().0);
        let feed = self.node.feed();
        let is_settled = is_there(&feed, mark);
        let (epoch, span) = (&partial.epoch, partial.span);
        let mut short = match join(partial, self.archive.read(channel, epoch, span).await?, is_settled) {
            Joined::Whole(page) => return Ok(page),
            Joined::Short(page) => page,
        };
        // Rows are missing that may be on their way: a moment later they are there, or will never be.
        let waiting = async {
            while !is_there(&feed, mark) {
                self.shard.sleep(LOOK).await;
            }
        };
        if self.shard.timeout(READ_MAX / 2, waiting).await.is_ok() {
            let (looks, pause) = match partial.elsewhere {
                Some(_) => (LOOKS_ELSEWHERE, LOOK_ELSEWHERE),
                None => (1, Duration::ZERO),
            };
            for _ in 0..looks {
                self.shard.sleep(pause).await;
                match join(partial, self.archive.read(channel, epoch, span).await?, true) {
                    Joined::Whole(page) => return Ok(page),
                    Joined::Short(page) => short = page,
                }
            }
        }
        match short.is_empty() {
            true => {
                let sentence = format!("{channel:?} has publications that the database does not have yet");
                Err(Unread::Failed(sentence))
            }
            false => {
                self.short.add(1);
                Ok(short)
            }
        }
    }

    /// What was removed is not read from the database any more either.
    ///
    /// # Errors
    /// 100: it may come back, so it is to be removed once more.
    pub(super) async fn clear(&self, channel: &Arc<str>, epoch: &str, upto: u64) -> Result<(), ErrorCode> {
        self.archive.clear(channel, epoch, upto).await.map_err(|unread| {
            self.trouble.borrow_mut().say(&format_args!("a history cannot be removed from the database: {unread}"));
            ErrorCode::INTERNAL
        })
    }

    /// A publication that was removed is not read from the database any more either.
    ///
    /// # Errors
    /// 100: it may come back, so it is to be removed once more.
    pub(super) async fn remove(&self, channel: &Arc<str>, epoch: &str, offset: u64) -> Result<(), ErrorCode> {
        self.archive.remove(channel, epoch, offset).await.map_err(|unread| {
            self.trouble.borrow_mut().say(&format_args!("a publication cannot be removed from the database: {unread}"));
            ErrorCode::INTERNAL
        })
    }
}

/// Whether everything below `mark` is in the database, or refused by it.
fn is_there(feed: &Option<Arc<FeedState>>, mark: u64) -> bool {
    feed.as_ref().is_some_and(|feed| feed.stored_lsn.load(Ordering::Acquire) >= mark)
}
