//! Pages of history that reach behind what is in memory: what of them the database has to give, and how the two are joined.
//! Pure: nothing is read here, and where the recent end comes from is the caller's business.
//!
//! ```text
//!   offsets    1 … 40 │ 41 … 57 58
//!              database│ recent (memory)          before = 41: what is older is asked of the database,
//!                      └ the seam                 what is not is never
//! ```
//!
//! Whoever owns the channel looks once: at one moment it says what it has of the page, and which offsets below are wanted
//! ([`Span`]). The database is asked for exactly those, so nothing comes twice, however long it takes. Rows of a channel
//! become visible in their order. So if the database has the row next to the seam, or next to where the client is, it has
//! all that is wanted; if it lacks it, the feed may be behind, and the page must not go on beyond. Only when all that the
//! log had at that moment is in the database, what is missing is missing for good (a dead letter, or deleted there), and a
//! page goes on over it, as one does over what has expired.
//!
//! Where several nodes publish, each fills the database with what came by it, and none can see how far the others are. There
//! what is missing before a publication that is old enough counts as missing for good.

use super::stream::Stored;

/// Rows of one read at most. Beyond, a page is shorter than it was asked to be, and its reader asks on from its end.
pub const ROWS_MAX: usize = 10_000;
/// Bytes of payloads of one read at most, beyond which the last row may reach. As with [`ROWS_MAX`].
pub const BYTES_MAX: usize = 8 << 20;

/// Offsets of a channel that the database is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Those above this one,
    pub after: u64,
    /// and below this one.
    pub before: u64,
    /// As many at most.
    pub most: usize,
    /// From the newest on, otherwise from the oldest.
    pub reverse: bool,
}

/// What was read of a span.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// In the span's order.
    pub rows: Vec<Stored>,
    /// There are more, which did not fit into one read.
    pub is_cut: bool,
    /// Where there are no rows: up to there the history was removed, and nothing is missing.
    pub removed: u64,
}

/// A page that lacks its older part.
#[derive(Clone, Debug)]
pub struct Partial {
    /// What is not older, in the order of the page.
    pub recent: Vec<Stored>,
    /// What is.
    pub span: Span,
    /// Publications that were asked for.
    pub limit: usize,
    /// The last number given.
    pub top: u64,
    /// The stream's life.
    pub epoch: String,
    /// Other nodes publish here, too: what is missing may be on its way from one of them, unless what follows it was
    /// published before this, in milliseconds of the Unix clock. `None`: only this node does.
    pub elsewhere: Option<u64>,
}

impl Partial {
    /// Whether what is missing before `next` is missing for good, if all that this node published is in the database.
    /// Of what follows nothing that is kept we cannot tell, and believe it: it is older than the broker keeps anything.
    fn is_gone_before(&self, next: Option<&Stored>) -> bool {
        let (Some(old), Some(next)) = (self.elsewhere, next) else { return true };
        next.time_ms < old
    }
}

/// A page put together.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Joined {
    /// As it was asked for, or the longest that one read gives.
    Whole(Vec<Stored>),
    /// What can be given while rows at the seam are not in the database yet: nothing in it is missing, but it ends early.
    /// Empty: nothing can be said yet.
    Short(Vec<Stored>),
}

/// What the database has to give to a page, if anything.
///
/// `first` is the oldest offset in memory, or the next one to be given where there is none; `have` is how many of `limit`
/// publications the page has from there.
pub fn lacking(since: Option<u64>, reverse: bool, limit: usize, first: u64, have: usize) -> Option<Span> {
    let span = match (reverse, since) {
        // Without a position a page begins with the window, not with what was ever published.
        (false, None) => return None,
        (false, Some(since)) => Span { after: since, before: first, most: limit.min(ROWS_MAX), reverse },
        (true, since) => {
            let before = since.map_or(first, |since| since.min(first));
            Span { after: 0, before, most: limit.saturating_sub(have).min(ROWS_MAX), reverse }
        }
    };
    (span.most > 0 && span.after.saturating_add(1) < span.before).then_some(span)
}

/// Puts a page together. `is_settled`: all that this node had published when the owner looked was in the database, or refused
/// by it, before the rows were read.
pub fn join(partial: &Partial, found: Found, is_settled: bool) -> Joined {
    let Partial { recent, span, limit, .. } = partial;
    let Found { mut rows, mut is_cut, removed } = found;
    let is_gone = |next: Option<&Stored>| is_settled && partial.is_gone_before(next);
    is_cut |= cut_at_hole(&mut rows, span.reverse, is_gone);
    let at_seam = if span.reverse { rows.first() } else { rows.last() };
    let touches = at_seam.map_or(span.after.max(removed), |stored| stored.offset) + 1 >= span.before;
    let is_joined = touches || is_gone(if span.reverse { recent.last() } else { recent.first() });
    match span.reverse {
        // Rows first: with enough of them, or a read's worth, the seam is not reached.
        false if rows.len() >= span.most || is_cut && !rows.is_empty() => Joined::Whole(rows),
        false if is_joined => {
            rows.extend(recent.iter().cloned());
            rows.truncate(*limit);
            Joined::Whole(rows)
        }
        false => Joined::Short(rows),
        true if is_joined => {
            let mut page = recent.clone();
            page.append(&mut rows);
            page.truncate(*limit);
            Joined::Whole(page)
        }
        true => Joined::Short(recent.clone()),
    }
}

/// Cuts rows off behind a hole among them, where what is missing before the next one may still come. Whether there was one.
fn cut_at_hole(rows: &mut Vec<Stored>, reverse: bool, is_gone: impl Fn(Option<&Stored>) -> bool) -> bool {
    let may_come = |pair: &[Stored]| {
        let (before, next) = if reverse { (&pair[1], &pair[0]) } else { (&pair[0], &pair[1]) };
        before.offset + 1 < next.offset && !is_gone(Some(next))
    };
    let Some(at) = rows.windows(2).position(may_come) else { return false };
    rows.truncate(at + 1);
    true
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::chat::stream::{Content, Stream};

    fn stored(offset: u64) -> Stored {
        let content = Content { data: offset.to_string().as_bytes().into(), binary: false, author: None, tags: vec![] };
        Stored { offset, time_ms: offset, content: Arc::new(content) }
    }

    /// What the owner says, of a stream with offsets to `top`, of which the last `kept` are in memory.
    fn look(top: u64, kept: u64, since: Option<u64>, reverse: bool, limit: usize) -> (Vec<Stored>, Option<Span>) {
        let mut stream = Stream::new(*b"abcd");
        (1..=top).for_each(|offset| stream.restore(stored(offset)));
        stream.trim(kept as usize);
        let page = stream.page(since, reverse, limit);
        let span = lacking(since, reverse, limit, top - kept + 1, page.len());
        (page, span)
    }

    /// What a database with these offsets gives.
    fn read(rows: &[u64], span: &Span) -> Found {
        let mut rows: Vec<u64> = rows.iter().copied().filter(|row| *row > span.after && *row < span.before).collect();
        rows.sort_unstable();
        if span.reverse {
            rows.reverse();
        }
        rows.truncate(span.most);
        Found { rows: rows.into_iter().map(stored).collect(), ..Found::default() }
    }

    fn page(
        (top, kept): (u64, u64),
        database: &[u64],
        since: Option<u64>,
        reverse: bool,
        limit: usize,
        is_settled: bool,
    ) -> Result<Vec<u64>, Vec<u64>> {
        let offsets = |rows: &[Stored]| rows.iter().map(|stored| stored.offset).collect::<Vec<_>>();
        let (recent, span) = look(top, kept, since, reverse, limit);
        let Some(span) = span else { return Ok(offsets(&recent)) };
        let partial = Partial { recent, span, limit, top, epoch: "abcd".to_owned(), elsewhere: None };
        match join(&partial, read(database, &span), is_settled) {
            Joined::Whole(page) => Ok(offsets(&page)),
            Joined::Short(page) => Err(offsets(&page)),
        }
    }

    /// Whatever is in memory and whatever the limit: a page is what one long memory would give.
    #[test]
    fn any_page_is_what_a_memory_of_everything_would_give() {
        let all: Vec<u64> = (1..=20).collect();
        for kept in 0..=20 {
            for limit in 0..=22 {
                for since in std::iter::once(None).chain((0..=22).map(Some)) {
                    for reverse in [false, true] {
                        if reverse && since == Some(0) || !reverse && since.is_none() {
                            continue;
                        }
                        let (whole, none) = look(20, 20, since, reverse, limit);
                        assert_eq!(none, None, "everything is in memory");
                        let whole = whole.iter().map(|stored| stored.offset).collect();
                        // The database may have what memory has, too, or not.
                        for database in [&all[..], &all[..20 - kept]] {
                            for is_settled in [false, true] {
                                let found = page((20, kept as u64), database, since, reverse, limit, is_settled);
                                assert_eq!(
                                    found,
                                    Ok::<_, Vec<u64>>(Vec::clone(&whole)),
                                    "{kept} {limit} {since:?} {reverse}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn without_a_position_a_page_begins_with_the_window() {
        assert_eq!(page((20, 5), &[], None, false, 3, false), Ok(vec![16, 17, 18]));
    }

    #[test]
    fn a_feed_that_is_behind_leaves_no_gap() {
        // 13 to 15 are in neither: they are on their way.
        let database: Vec<u64> = (1..=12).collect();
        assert_eq!(page((20, 5), &database, Some(8), false, 10, false), Err(vec![9, 10, 11, 12]));
        assert_eq!(page((20, 5), &database, Some(8), false, 4, false), Ok(vec![9, 10, 11, 12]));
        assert_eq!(page((20, 5), &database, Some(12), false, 10, false), Err(vec![]));
        assert_eq!(page((20, 5), &database, None, true, 10, false), Err(vec![20, 19, 18, 17, 16]));
        assert_eq!(page((20, 5), &database, None, true, 5, false), Ok(vec![20, 19, 18, 17, 16]));
        assert_eq!(page((20, 5), &database, Some(14), true, 10, false), Err(vec![]));
        assert_eq!(page((20, 5), &database, Some(13), true, 2, false), Ok(vec![12, 11]));
        // A hole in the middle may be filled, too.
        let holed = [1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        assert_eq!(page((20, 5), &holed, Some(1), false, 30, false), Ok(vec![2, 3]));
        assert_eq!(page((20, 5), &holed, Some(9), true, 30, false), Ok(vec![8, 7, 6]));
    }

    #[test]
    fn what_is_missing_for_good_is_passed_over() {
        let database = [3, 4, 7, 8];
        assert_eq!(page((12, 2), &database, Some(0), false, 30, true), Ok(vec![3, 4, 7, 8, 11, 12]));
        assert_eq!(page((12, 2), &database, Some(0), false, 5, true), Ok(vec![3, 4, 7, 8, 11]));
        assert_eq!(page((12, 2), &database, None, true, 30, true), Ok(vec![12, 11, 8, 7, 4, 3]));
        assert_eq!(page((12, 0), &[], Some(3), false, 30, true), Ok(vec![]));
    }

    #[test]
    fn a_read_that_was_cut_ends_the_page() {
        let (recent, span) = look(20, 5, Some(3), false, 100);
        let (span, epoch) = (span.unwrap(), "abcd".to_owned());
        let partial = Partial { recent, span, limit: 100, top: 20, epoch, elsewhere: None };
        let found = Found { rows: (4..=9).map(stored).collect(), is_cut: true, removed: 0 };
        let Joined::Whole(page) = join(&partial, found, true) else { panic!("it is whole") };
        assert_eq!((page.len(), page[5].offset), (6, 9));
    }

    #[test]
    fn what_other_nodes_published_is_waited_for_while_it_is_young() {
        // Publications are as old as their number; 5 and 6 are on their way, or were never to come, and so is 15.
        let database = [1, 2, 3, 4, 7, 8, 9, 10, 11, 12, 13, 14];
        let page = |since, reverse, old| {
            let (recent, span) = look(20, 5, since, reverse, 30);
            let (span, epoch) = (span.unwrap(), "abcd".to_owned());
            let partial = Partial { recent, span, limit: 30, top: 20, epoch, elsewhere: Some(old) };
            let (Joined::Whole(page) | Joined::Short(page)) = join(&partial, read(&database, &span), true);
            page.iter().map(|stored| stored.offset).collect::<Vec<_>>()
        };
        assert_eq!(page(Some(2), false, 7), [3, 4]);
        assert_eq!(page(Some(2), false, 8), [3, 4, 7, 8, 9, 10, 11, 12, 13, 14]);
        assert_eq!(page(Some(10), false, 17), (11..=20).filter(|offset| *offset != 15).collect::<Vec<_>>());
        assert_eq!(page(None, true, 16), [20, 19, 18, 17, 16]);
        assert_eq!(page(None, true, 17).len(), 5 + database.len());
        assert_eq!(page(Some(9), true, 7), [8, 7]);
        // What was removed is not waited for.
        let (recent, span) = look(20, 5, Some(0), false, 30);
        let (span, epoch) = (span.unwrap(), "abcd".to_owned());
        let partial = Partial { recent, span, limit: 30, top: 20, epoch, elsewhere: Some(7) };
        let whole = join(&partial, Found { removed: 15, ..Found::default() }, true);
        assert!(matches!(whole, Joined::Whole(page) if page.len() == 5));
        assert_eq!(join(&partial, Found { removed: 14, ..Found::default() }, true), Joined::Short(vec![]));
    }
}
