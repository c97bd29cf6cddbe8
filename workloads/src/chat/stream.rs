//! A channel's stream of publications, as its owner keeps it.
//!
//! ```text
//!   offsets   1 … 40 │ 41 … 57            │ 58 59
//!             gone   │ history, settled   │ numbered, not settled yet
//!                                         └ what readers see ends here
//! ```
//!
//! A publication is numbered when it arrives and settles when its namespace's promise holds: at once in memory, or when
//! the log is on the disk. Nobody is told of an offset before it has settled, so none that was told is ever given again.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use super::session::ClientText;

/// How long the epoch of a channel that was never published to is kept after somebody was told of it, in milliseconds:
/// long enough for clients that were cut off together to come back and find that they missed nothing.
const EMPTY_KEPT_MS: u64 = 60_000;
/// What a publication takes beside its payload, about, when bytes are counted.
const PUBLICATION_BYTES: usize = 128;

/// Tells a stream from an earlier one of the same name.
pub type Epoch = [u8; 4];

/// An epoch's letters as text.
pub fn epoch_text(epoch: &Epoch) -> &str {
    std::str::from_utf8(epoch).unwrap_or("????")
}

/// Who published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The user; empty for nobody known.
    pub user: Arc<str>,
    /// The client's id, as text.
    pub client: ClientText,
    /// What its connection says of itself: JSON.
    pub conn_info: Option<Arc<[u8]>>,
    /// What its subscription says of itself: JSON.
    pub chan_info: Option<Arc<[u8]>>,
}

/// What is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// A JSON value, or any bytes where [`Content::binary`] says so.
    pub data: Box<[u8]>,
    /// The data is not JSON.
    pub binary: bool,
    /// The publishing client; `None`: the server's own API.
    pub author: Option<Author>,
    /// Labels, as names and values.
    pub tags: Vec<(Cow<'static, str>, Cow<'static, str>)>,
}

impl Content {
    /// What stands in the place of a publication that was removed. No JSON is empty, so nothing else looks like it, in
    /// memory and in the log.
    pub fn removed() -> Content {
        Content { data: Box::default(), binary: false, author: None, tags: Vec::new() }
    }

    /// It only keeps a place: nobody is given it.
    pub fn is_removed(&self) -> bool {
        self.data.is_empty() && !self.binary
    }
}

/// A publication with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its number; 0 where its channel keeps none.
    pub offset: u64,
    /// When it was numbered, in milliseconds of the Unix clock.
    pub time_ms: u64,
    /// What was published.
    pub content: Arc<Content>,
}

/// What the owner of a channel keeps of it.
#[derive(Debug)]
pub struct Stream {
    /// A bit for each shard with members.
    pub shards: u64,
    /// This stream's life.
    pub epoch: Epoch,
    top: u64,
    /// How many of the last have not settled.
    unsettled: u32,
    /// What was published, oldest first. Most channels are there for a moment that has not come.
    #[allow(clippy::box_collection)] // A thin pointer: most streams never need it.
    history: Option<Box<VecDeque<Stored>>>,
    /// When it was last published to, in milliseconds of the Unix clock.
    pub touched_ms: u64,
}

const _: () = assert!(size_of::<Stream>() <= 40, "channels of one member are counted in bytes");

impl Stream {
    /// An empty one.
    pub fn new(epoch: Epoch) -> Stream {
        Stream { shards: 0, epoch, top: 0, unsettled: 0, history: None, touched_ms: 0 }
    }

    fn kept(&self) -> &VecDeque<Stored> {
        static NOTHING: VecDeque<Stored> = VecDeque::new();
        self.history.as_deref().unwrap_or(&NOTHING)
    }

    fn kept_mut(&mut self) -> &mut VecDeque<Stored> {
        self.history.get_or_insert_default()
    }

    /// Takes those off that are `old`, from the oldest on.
    fn drop_while(&mut self, old: impl Fn(&Stored) -> bool) {
        let Some(history) = &mut self.history else { return };
        while history.pop_front_if(|stored| old(stored)).is_some() {}
    }

    /// Numbers a publication and keeps it.
    pub fn number(&mut self, now: u64, content: Arc<Content>) -> u64 {
        self.top += 1;
        self.unsettled += 1;
        self.touched_ms = now;
        let stored = Stored { offset: self.top, time_ms: now, content };
        self.kept_mut().push_back(stored);
        self.top
    }

    /// All publications up to `offset` may be seen from now on; the latest `size` of them are kept.
    pub fn settle(&mut self, offset: u64, size: usize) {
        debug_assert!(offset > self.settled() && offset <= self.top, "publications settle once and in order");
        self.unsettled = (self.top - offset) as u32;
        self.drop_while(|stored| stored.offset + size as u64 <= offset);
        if size == 0 && self.kept().is_empty() {
            self.history = None;
        }
    }

    /// Takes back the number given last, which nobody has heard of.
    pub fn withdraw(&mut self) {
        debug_assert!(self.unsettled > 0, "what has settled is not taken back");
        self.kept_mut().pop_back();
        self.top -= 1;
        self.unsettled -= 1;
    }

    /// Whether that publication was numbered in this life, and has not settled.
    pub fn is_unsettled(&self, epoch: &Epoch, offset: u64) -> bool {
        self.epoch == *epoch && offset > self.settled() && offset <= self.top
    }

    /// Puts a publication of an earlier life back. They come in any order, some of them twice.
    pub fn restore(&mut self, stored: Stored) {
        self.touched_ms = self.touched_ms.max(stored.time_ms);
        self.restore_top(stored.offset);
        let history = self.kept_mut();
        let at = history.partition_point(|known| known.offset < stored.offset);
        if history.get(at).is_none_or(|known| known.offset != stored.offset) {
            history.insert(at, stored);
        }
    }

    /// Offsets up to this one were given in an earlier life.
    pub fn restore_top(&mut self, top: u64) {
        self.top = self.top.max(top);
        self.unsettled = 0;
    }

    /// Keeps the latest `size` publications at most.
    pub fn trim(&mut self, size: usize) {
        let excess = self.kept().len().saturating_sub(size);
        if excess > 0 {
            self.kept_mut().drain(..excess);
        }
    }

    /// The last offset that readers see.
    pub fn settled(&self) -> u64 {
        self.top - u64::from(self.unsettled)
    }

    /// The last offset given.
    pub fn top(&self) -> u64 {
        self.top
    }

    /// The epoch as text.
    pub fn epoch(&self) -> &str {
        epoch_text(&self.epoch)
    }

    /// All that is kept, not settled ones included, oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Stored> {
        self.kept().iter()
    }

    /// What readers see, oldest first.
    fn visible(&self) -> impl DoubleEndedIterator<Item = &Stored> {
        self.after(0)
    }

    /// The first offset that is here for readers; where none is, the next one that they will see.
    pub fn oldest(&self) -> u64 {
        self.visible().next().map_or(self.settled() + 1, |stored| stored.offset)
    }

    /// What readers see behind an offset, oldest first.
    fn after(&self, offset: u64) -> impl DoubleEndedIterator<Item = &Stored> {
        let history = self.kept();
        let end = history.partition_point(|stored| stored.offset <= self.settled());
        let begin = history.partition_point(|stored| stored.offset <= offset);
        history.range(begin.min(end)..end)
    }

    /// The settled publication of that number, if it is still here.
    pub fn at(&self, offset: u64) -> Option<&Stored> {
        let at = self.kept().binary_search_by_key(&offset, |stored| stored.offset).ok()?;
        self.kept().get(at)
    }

    /// Takes what was published at that place away; the place stays, so that whoever counts finds no gap. Whether it was
    /// there.
    pub fn remove(&mut self, offset: u64) -> bool {
        let Ok(at) = self.kept().binary_search_by_key(&offset, |stored| stored.offset) else { return false };
        self.kept_mut()[at].content = Arc::new(Content::removed());
        true
    }

    /// Forgets all publications up to `upto`; the position stays.
    pub fn clear(&mut self, upto: u64) {
        self.drop_while(|stored| stored.offset <= upto);
    }

    /// Forgets publications older than `ttl` milliseconds.
    pub fn expire(&mut self, now: u64, ttl: u64) {
        let settled = self.settled();
        let is_old = |stored: &Stored| stored.offset <= settled && now.saturating_sub(stored.time_ms) > ttl;
        self.drop_while(is_old);
        if self.kept().is_empty() {
            self.history = None;
        }
    }

    /// What a client at `offset` of `epoch` has missed, if all of it is still here: at most `most` publications. Places of
    /// removed ones are among them.
    pub fn missed(&self, offset: u64, epoch: &str, most: usize) -> Option<Vec<Stored>> {
        if !epoch.is_empty() && epoch != self.epoch() {
            return None;
        }
        let missed: Vec<Stored> = self.after(offset).take(most).cloned().collect();
        let is_whole = missed.iter().zip(offset + 1..).all(|(stored, expected)| stored.offset == expected);
        let reached = missed.last().map_or(offset, |last| last.offset);
        (is_whole && reached == self.settled()).then_some(missed)
    }

    /// Up to `most` publications, or about so many bytes, that follow `offset` without a gap; `None` when the next one is gone.
    pub fn following(&self, offset: u64, most: usize, bytes_max: usize) -> Option<Vec<Stored>> {
        let mut bytes = 0;
        let fits = |stored: &&Stored| {
            // One in any case.
            let is_first = bytes == 0;
            bytes += stored.content.data.len() + PUBLICATION_BYTES;
            is_first || bytes <= bytes_max
        };
        let page: Vec<Stored> = self.after(offset).take(most).take_while(fits).cloned().collect();
        let is_whole = page.iter().zip(offset + 1..).all(|(stored, expected)| stored.offset == expected);
        (is_whole && (!page.is_empty() || offset >= self.settled())).then_some(page)
    }

    /// The latest publication, unless a client at `offset` of `epoch` has it.
    pub fn latest(&self, since: Option<(u64, &str)>) -> Option<&Stored> {
        let latest = self.visible().rfind(|stored| !stored.content.is_removed())?;
        let has_it = since.is_some_and(|(offset, epoch)| offset == latest.offset && epoch == self.epoch());
        (!has_it).then_some(latest)
    }

    /// A page of history: `limit` publications after (or, in reverse, before) `since`, without those that were removed.
    pub fn page(&self, since: Option<u64>, reverse: bool, limit: usize) -> Vec<Stored> {
        let is_there = |stored: &&Stored| !stored.content.is_removed();
        match reverse {
            false => self.after(since.unwrap_or(0)).filter(is_there).take(limit).cloned().collect(),
            true => {
                let before = self.visible().rev().filter(|stored| since.is_none_or(|since| stored.offset < since));
                before.filter(is_there).take(limit).cloned().collect()
            }
        }
    }

    /// Whether nobody needs it any more: no members, nothing published, or nothing for so long that no client will come
    /// back with a position in it.
    pub fn is_forgettable(&self, now: u64, meta_ttl_ms: u64) -> bool {
        let ttl = if self.top == 0 { EMPTY_KEPT_MS } else { meta_ttl_ms };
        let is_untold = self.top == 0 && self.touched_ms == 0;
        let unused = is_untold || now.saturating_sub(self.touched_ms) > ttl;
        self.shards == 0 && self.unsettled == 0 && unused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(n: u64) -> Arc<Content> {
        let data = n.to_string().into_bytes().into();
        Arc::new(Content { data, binary: false, author: None, tags: Vec::new() })
    }

    fn stream(count: u64, size: usize) -> Stream {
        let mut stream = Stream::new(*b"abcd");
        for n in 0..count {
            let offset = stream.number(n * 10, content(n));
            stream.settle(offset, size);
        }
        stream
    }

    fn offsets(stored: &[Stored]) -> Vec<u64> {
        stored.iter().map(|stored| stored.offset).collect()
    }

    #[test]
    fn what_was_missed_comes_back_only_if_it_is_complete() {
        let owned = stream(10, 4);
        assert_eq!(offsets(&owned.missed(6, "abcd", 300).unwrap()), [7, 8, 9, 10]);
        assert_eq!(offsets(&owned.missed(9, "", 300).unwrap()), [10]);
        assert_eq!(offsets(&owned.missed(10, "abcd", 300).unwrap()), [0u64; 0]);
        assert!(owned.missed(5, "abcd", 300).is_none(), "7 to 10 are kept, 6 is gone");
        assert!(owned.missed(6, "other", 300).is_none());
        assert!(owned.missed(11, "abcd", 300).is_none(), "a position from the future");
        assert!(owned.missed(6, "abcd", 3).is_none(), "more than may be recovered");
        assert!(stream(0, 4).missed(0, "", 300).is_some());
    }

    #[test]
    fn a_slow_reader_gets_what_follows_piece_by_piece() {
        let owned = stream(10, 4);
        assert_eq!(offsets(&owned.following(6, 3, 1 << 20).unwrap()), [7, 8, 9]);
        assert_eq!(offsets(&owned.following(9, 3, 1 << 20).unwrap()), [10]);
        assert_eq!(offsets(&owned.following(10, 3, 1 << 20).unwrap()), [0u64; 0]);
        assert!(owned.following(5, 3, 1 << 20).is_none(), "6 is gone");
        assert_eq!(offsets(&owned.following(6, 3, 1).unwrap()), [7], "one, however long it is");
    }

    #[test]
    fn pages_go_both_ways() {
        let owned = stream(10, 6);
        assert_eq!(offsets(&owned.page(None, false, 2)), [5, 6]);
        assert_eq!(offsets(&owned.page(Some(7), false, 10)), [8, 9, 10]);
        assert_eq!(offsets(&owned.page(Some(7), true, 10)), [6, 5]);
        assert_eq!(offsets(&owned.page(None, true, 3)), [10, 9, 8]);
    }

    #[test]
    fn what_has_not_settled_is_not_seen_and_not_lost() {
        let mut owned = stream(3, 2);
        assert_eq!((owned.number(100, content(3)), owned.number(100, content(4))), (4, 5));
        assert_eq!((owned.settled(), owned.top()), (3, 5));
        assert_eq!(offsets(&owned.page(None, false, 10)), [2, 3]);
        assert_eq!(owned.latest(None).unwrap().offset, 3);
        assert!(owned.missed(3, "abcd", 10).unwrap().is_empty());
        owned.expire(1000, 50);
        assert_eq!(owned.all().count(), 2, "they do not expire before they were seen");
        owned.settle(5, 2);
        assert_eq!(offsets(&owned.page(None, false, 10)), [4, 5]);
    }

    #[test]
    fn the_latest_goes_to_who_does_not_have_it() {
        let owned = stream(3, 2);
        assert_eq!(owned.latest(Some((2, "abcd"))).unwrap().offset, 3);
        assert!(owned.latest(Some((3, "abcd"))).is_none());
        assert!(owned.latest(Some((3, "efgh"))).is_some());
    }

    #[test]
    fn one_that_was_removed_keeps_its_place_and_is_given_to_nobody() {
        let mut owned = stream(10, 4);
        assert!(owned.remove(8) && owned.remove(8) && !owned.remove(6) && !owned.remove(11));
        assert_eq!(offsets(&owned.page(None, false, 9)), [7, 9, 10]);
        assert_eq!(offsets(&owned.page(None, true, 3)), [10, 9, 7], "a page is filled behind it");
        let missed = owned.missed(6, "abcd", 300).unwrap();
        assert_eq!(offsets(&missed), [7, 8, 9, 10]);
        assert!(missed[1].content.is_removed() && !missed[0].content.is_removed());
        assert_eq!(offsets(&owned.following(7, 2, 1 << 20).unwrap()), [8, 9]);
        assert!(owned.remove(10));
        assert_eq!(owned.latest(None).unwrap().offset, 9);
    }

    #[test]
    fn old_publications_expire_and_their_numbers_stay() {
        let mut owned = stream(10, 100);
        owned.expire(90 + 45, 50);
        assert_eq!(offsets(&owned.page(None, false, 100)), [10]);
        owned.expire(1000, 50);
        assert_eq!(owned.all().count(), 0);
        assert_eq!(owned.number(1000, content(0)), 11);
        assert!(!owned.is_forgettable(2000, 5000), "it has one that did not settle");
        owned.settle(11, 100);
        assert!(!owned.is_forgettable(2000, 5000) && owned.is_forgettable(7000, 5000));
    }

    #[test]
    fn an_earlier_life_is_put_together_from_pieces() {
        let mut owned = Stream::new(*b"abcd");
        let stored = |offset| Stored { offset, time_ms: offset, content: content(offset) };
        for offset in [4, 5, 3, 4, 6] {
            owned.restore(stored(offset));
        }
        owned.trim(3);
        assert_eq!(offsets(&owned.page(None, false, 9)), [4, 5, 6]);
        owned.restore_top(5);
        assert_eq!((owned.top(), owned.settled(), owned.touched_ms), (6, 6, 6));
        owned.clear(5);
        assert_eq!(offsets(&owned.page(None, false, 9)), [6]);
        assert_eq!(owned.at(6).map(|stored| stored.offset), Some(6));
    }
}
