//! What was promised, and what was seen of it: the account of the kills.
//!
//! ```text
//!   published ──► acknowledged ──► must be in history, once, for ever at one place
//!       └───────► no answer    ──► may be, once
//! ```
//!
//! A place is an epoch and an offset. Whoever sees a publication tells its place here: its publisher by the API's answer,
//! subscribers live and by recovery, and whoever reads history. All must agree, over all lives of the server.

use super::talk::Seen;
use super::wire::Position;
use std::collections::BTreeSet;

/// A publication.
#[derive(Clone, Debug, Default)]
struct Entry {
    acknowledged: bool,
    /// The offset at which it was first seen, by anybody.
    offset: Option<u64>,
    /// Whether the last reading of history had it.
    in_history: bool,
}

/// A channel.
#[derive(Clone, Debug, Default)]
struct Channel {
    epoch: Option<String>,
    entries: Vec<Entry>,
    /// Whose publication is at an offset; the first has offset 1.
    at: Vec<Option<u32>>,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Publish commands and requests that left.
    pub published: u64,
    /// Of them acknowledged.
    pub acknowledged: u64,
    /// Acknowledged, and not in history.
    pub lost: u64,
    /// At two offsets.
    pub duplicated: u64,
    /// Where somebody had seen another publication, or in another epoch.
    pub moved: u64,
    /// With other data than was published.
    pub damaged: u64,
    /// Offsets between the first and the last at which history has nothing.
    pub holes: u64,
}

/// All channels.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    channels: Vec<Channel>,
    /// Told twice, they count once.
    duplicated: BTreeSet<(usize, u32, u64)>,
    moved: BTreeSet<(usize, u64, u32)>,
    damaged: BTreeSet<(usize, u32)>,
    epochs: BTreeSet<(usize, String)>,
}

impl Ledger {
    /// So many channels without publications.
    pub fn new(channels: usize) -> Ledger {
        Ledger { channels: vec![Channel::default(); channels], ..Ledger::default() }
    }

    /// A publication is about to leave; its number in the channel.
    pub fn publish(&mut self, channel: usize) -> u32 {
        let entries = &mut self.channels[channel].entries;
        entries.push(Entry::default());
        u32::try_from(entries.len() - 1).expect("no run is that long")
    }

    /// How many left for a channel.
    pub fn published(&self, channel: usize) -> usize {
        self.channels[channel].entries.len()
    }

    /// It was acknowledged.
    pub fn acknowledge(&mut self, channel: usize, number: u32) {
        if let Some(entry) = self.channels[channel].entries.get_mut(number as usize) {
            entry.acknowledged = true;
        }
    }

    /// Somebody was told the channel's epoch.
    pub fn epoch(&mut self, channel: usize, epoch: &str) {
        let known = self.channels[channel].epoch.get_or_insert_with(|| epoch.to_owned());
        if known != epoch {
            self.epochs.insert((channel, epoch.to_owned()));
        }
    }

    /// Somebody saw a publication there.
    pub fn see(&mut self, channel: usize, epoch: &str, seen: &Seen) {
        self.epoch(channel, epoch);
        let (number, offset) = (seen.stamp.number, seen.offset);
        if !seen.whole || seen.stamp.room as usize != channel {
            self.damaged.insert((channel, number));
        }
        self.place(channel, number, offset);
    }

    /// A publication is at this offset.
    fn place(&mut self, channel: usize, number: u32, offset: u64) {
        let of = &mut self.channels[channel];
        let Some(entry) = of.entries.get_mut(number as usize) else {
            self.damaged.insert((channel, number));
            return;
        };
        if *entry.offset.get_or_insert(offset) != offset {
            self.duplicated.insert((channel, number, offset));
        }
        // Nobody published more than there are entries, so an offset beyond twice as many is no place.
        let index = offset.saturating_sub(1) as usize;
        if offset == 0 || index > 2 * of.entries.len() {
            self.moved.insert((channel, offset, number));
            return;
        }
        if of.at.len() <= index {
            of.at.resize(index + 1, None);
        }
        if *of.at[index].get_or_insert(number) != number {
            self.moved.insert((channel, offset, number));
        }
    }

    /// The API answered a publisher with this place.
    pub fn told(&mut self, channel: usize, number: u32, at: &Position) {
        self.acknowledge(channel, number);
        self.epoch(channel, &at.epoch);
        self.place(channel, number, at.offset);
    }

    /// A page of history begins here: at the start, it is read anew.
    pub fn begin_history(&mut self, channel: usize) {
        self.channels[channel].entries.iter_mut().for_each(|entry| entry.in_history = false);
    }

    /// A page of history has this.
    pub fn in_history(&mut self, channel: usize, epoch: &str, seen: &Seen) {
        self.see(channel, epoch, seen);
        let number = seen.stamp.number as usize;
        let Some(entry) = self.channels[channel].entries.get_mut(number) else { return };
        // A second copy in one reading, even at the same offset.
        if std::mem::replace(&mut entry.in_history, true) {
            self.duplicated.insert((channel, seen.stamp.number, seen.offset));
        }
    }

    /// Publications that are acknowledged by now.
    pub fn acknowledged(&self) -> Vec<(usize, u32)> {
        let of = |(channel, of): (usize, &Channel)| {
            let numbers = of.entries.iter().enumerate().filter(|(_, entry)| entry.acknowledged);
            numbers.map(move |(number, _)| (channel, number as u32)).collect::<Vec<_>>()
        };
        self.channels.iter().enumerate().flat_map(of).collect()
    }

    /// Which of these the last reading of history did not have.
    pub fn missing<'a>(&self, of: &'a [(usize, u32)]) -> Vec<&'a (usize, u32)> {
        of.iter().filter(|(channel, number)| !self.channels[*channel].entries[*number as usize].in_history).collect()
    }

    /// The account, after all of history was read.
    pub fn counts(&self) -> Counts {
        let entries = || self.channels.iter().flat_map(|channel| &channel.entries);
        let holes = |channel: &Channel| {
            let top = channel.entries.iter().filter(|entry| entry.in_history).filter_map(|entry| entry.offset).max();
            let there = channel.entries.iter().filter(|entry| entry.in_history).count() as u64;
            top.unwrap_or(0).saturating_sub(there)
        };
        Counts {
            published: entries().count() as u64,
            acknowledged: entries().filter(|entry| entry.acknowledged).count() as u64,
            lost: entries().filter(|entry| entry.acknowledged && !entry.in_history).count() as u64,
            duplicated: self.duplicated.len() as u64,
            moved: (self.moved.len() + self.epochs.len()) as u64,
            damaged: self.damaged.len() as u64,
            holes: self.channels.iter().map(holes).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stamp::Stamp;
    use super::*;

    fn seen(number: u32, offset: u64) -> Seen {
        Seen { stamp: Stamp { room: 0, publisher: 0, number }, offset, whole: true }
    }

    /// One channel with `count` publications, all acknowledged.
    fn ledger(count: u32) -> Ledger {
        let mut ledger = Ledger::new(1);
        for number in 0..count {
            assert_eq!(ledger.publish(0), number);
            ledger.acknowledge(0, number);
        }
        ledger
    }

    #[test]
    fn what_is_in_history_once_where_all_saw_it_is_in_order() {
        let mut ledger = ledger(3);
        ledger.see(0, "e", &seen(1, 2));
        ledger.told(0, 0, &Position { epoch: "e".into(), offset: 1 });
        (0..3).for_each(|number| ledger.in_history(0, "e", &seen(number, u64::from(number) + 1)));
        assert_eq!(ledger.counts(), Counts { published: 3, acknowledged: 3, ..Counts::default() });
    }

    #[test]
    fn an_acknowledged_publication_that_history_has_not_is_lost_and_another_is_not() {
        let mut ledger = ledger(2);
        let unanswered = ledger.publish(0);
        ledger.in_history(0, "e", &seen(0, 1));
        let acknowledged = ledger.acknowledged();
        assert_eq!(ledger.missing(&acknowledged), [&(0, 1)]);
        assert_eq!(ledger.counts().lost, 1);
        ledger.in_history(0, "e", &seen(unanswered, 2));
        assert_eq!((ledger.counts().lost, ledger.counts().holes), (1, 0));
    }

    #[test]
    fn a_second_copy_is_a_duplicate_wherever_it_is() {
        let mut elsewhere = ledger(1);
        elsewhere.in_history(0, "e", &seen(0, 1));
        elsewhere.in_history(0, "e", &seen(0, 2));
        assert_eq!(elsewhere.counts().duplicated, 1);
        let mut here = ledger(1);
        here.in_history(0, "e", &seen(0, 1));
        here.in_history(0, "e", &seen(0, 1));
        assert_eq!(here.counts().duplicated, 1);
        here.begin_history(0);
        here.in_history(0, "e", &seen(0, 1));
        assert_eq!(here.counts().duplicated, 1, "a new reading is no copy");
    }

    #[test]
    fn another_publication_at_a_place_that_somebody_saw_is_moved() {
        let mut ledger = ledger(2);
        ledger.see(0, "e", &seen(0, 1));
        ledger.in_history(0, "e", &seen(1, 1));
        assert_eq!((ledger.counts().moved, ledger.counts().lost), (1, 1));
        ledger.in_history(0, "another", &seen(0, 1));
        assert_eq!(ledger.counts().moved, 2, "an epoch of its own");
    }

    #[test]
    fn holes_and_damage_are_seen() {
        let mut ledger = ledger(2);
        ledger.in_history(0, "e", &seen(0, 1));
        ledger.in_history(0, "e", &Seen { whole: false, ..seen(1, 3) });
        assert_eq!((ledger.counts().holes, ledger.counts().damaged), (1, 1));
        ledger.see(0, "e", &seen(77, 4));
        assert_eq!(ledger.counts().damaged, 2, "nobody published it");
        ledger.see(0, "e", &seen(0, u64::MAX));
        assert_eq!(ledger.counts().moved, 1, "no such place");
    }
}
