//! Who must have received what, and who has: lost, duplicated and misplaced publications, counted exactly.
//!
//! Two accounts that do not know of each other. By number: every receiver of a room keeps a bit for each publication of
//! that room. By offset: every receiver expects the offset after the last, and all receivers of a room must see the same
//! publication at the same offset.
//!
//! A publication is owed to every member of its room once it has been acknowledged. One without an answer, because its
//! publisher's connection broke, may come or not, but never twice.

use super::stamp::Stamp;

/// No publication's number.
const NOBODY: u32 = u32::MAX;
/// Offsets of a channel that are compared between receivers. Beyond, which no run reaches, they count as disagreeing.
const OFFSETS_MAX: u64 = 1 << 24;

/// What became of a publish command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Unanswered,
    /// Its publisher's connection broke before the answer.
    Abandoned,
    Acknowledged,
    Refused,
}

/// A publication: when it was meant to leave, and what its publisher was told.
struct Sent {
    due: u64,
    fate: Fate,
}

#[derive(Default)]
struct Room {
    sent: Vec<Sent>,
    /// The channel's life.
    epoch: String,
    /// The first offset of this life that was seen.
    first: u64,
    /// Which publication is at an offset, from there on; [`NOBODY`] where it was not seen.
    at: Vec<u32>,
}

impl Room {
    /// Whether every receiver that saw this offset saw this publication there.
    fn agrees(&mut self, offset: u64, number: u32) -> bool {
        if self.at.is_empty() {
            self.first = offset;
        }
        // What came before the first that was seen was seen by nobody else.
        let Some(index) = offset.checked_sub(self.first) else { return true };
        if index >= OFFSETS_MAX {
            return false;
        }
        let index = index as usize;
        if self.at.len() <= index {
            self.at.resize(index + 1, NOBODY);
        }
        if self.at[index] == NOBODY {
            self.at[index] = number;
        }
        self.at[index] == number
    }
}

struct Receiver {
    room: usize,
    /// A bit per publication of the room.
    seen: Vec<u64>,
    /// The last offset of the stream that it has seen.
    last: Option<u64>,
}

/// All rooms and receivers of a run.
pub struct Tally {
    rooms: Vec<Room>,
    receivers: Vec<Receiver>,
    counts: Counts,
}

/// What went right and wrong, in publications times receivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Publications that came for the first time.
    pub delivered: u64,
    /// Publications that a receiver had already.
    pub duplicated: u64,
    /// Publications that nobody sent to that room.
    pub strange: u64,
    /// Offsets that were passed over.
    pub gaps: u64,
    /// Offsets that came again, or ran backwards.
    pub reversed: u64,
    /// Offsets at which two receivers saw different publications.
    pub disagreed: u64,
}

/// The end of the account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What was counted on the way.
    pub counts: Counts,
    /// Publish commands that left.
    pub published: u64,
    /// Of them acknowledged.
    pub acknowledged: u64,
    /// Of them refused with an error.
    pub refused: u64,
    /// Of them without an answer, because the publisher's connection broke.
    pub abandoned: u64,
    /// Deliveries owed: acknowledged publications times members of their room.
    pub owed: u64,
    /// Of them missing.
    pub lost: u64,
}

impl Verdict {
    /// Publish commands whose answer is awaited.
    pub fn unanswered(&self) -> u64 {
        self.published - self.acknowledged - self.refused - self.abandoned
    }

    /// Everything that a fault of any kind could be seen in but a loss.
    pub fn misplaced(&self) -> u64 {
        self.counts.gaps + self.counts.reversed + self.counts.disagreed + self.counts.strange
    }
}

impl Tally {
    /// Nothing sent yet; `rooms_of[receiver]` is where it is a member.
    pub fn new(rooms_of: &[usize]) -> Tally {
        let rooms = rooms_of.iter().max().map_or(0, |most| most + 1);
        Tally {
            rooms: (0..rooms).map(|_| Room::default()).collect(),
            receivers: rooms_of.iter().map(|&room| Receiver { room, seen: Vec::new(), last: None }).collect(),
            counts: Counts::default(),
        }
    }

    /// A publish command for a room leaves, meant for `due`; its number there.
    pub fn on_publish(&mut self, room: usize, due: u64) -> u32 {
        let sent = &mut self.rooms[room].sent;
        sent.push(Sent { due, fate: Fate::Unanswered });
        u32::try_from(sent.len() - 1).expect("no run is that long")
    }

    /// It was answered.
    pub fn on_answer(&mut self, room: usize, number: u32, acknowledged: bool) {
        let fate = if acknowledged { Fate::Acknowledged } else { Fate::Refused };
        self.rooms[room].sent[number as usize].fate = fate;
    }

    /// It will not be answered any more.
    pub fn on_abandoned(&mut self, room: usize, number: u32) {
        self.rooms[room].sent[number as usize].fate = Fate::Abandoned;
    }

    /// A receiver was told its position in a stream that it does not continue: it subscribed anew. A life of the channel
    /// that is not known counts its offsets from the start.
    pub fn on_position(&mut self, receiver: usize, epoch: &str, offset: u64) {
        let to = &mut self.receivers[receiver];
        to.last = Some(offset);
        let room = &mut self.rooms[to.room];
        if room.epoch != epoch {
            epoch.clone_into(&mut room.epoch);
            room.at.clear();
        }
    }

    /// A publication came to a receiver. When it was meant to leave, if it came for the first time.
    #[inline]
    pub fn on_publication(&mut self, receiver: usize, stamp: Stamp, offset: Option<u64>) -> Option<u64> {
        let to = &mut self.receivers[receiver];
        let room = &mut self.rooms[to.room];
        let Some(&Sent { due, .. }) = room.sent.get(stamp.number as usize).filter(|_| stamp.room as usize == to.room)
        else {
            self.counts.strange += 1;
            return None;
        };
        if let Some(offset) = offset {
            match to.last {
                Some(last) if offset <= last => self.counts.reversed += 1,
                Some(last) => self.counts.gaps += offset - last - 1,
                None => {}
            }
            to.last = Some(to.last.map_or(offset, |last| last.max(offset)));
            self.counts.disagreed += u64::from(!room.agrees(offset, stamp.number));
        }
        let (word, bit) = (stamp.number as usize / 64, 1u64 << (stamp.number % 64));
        if to.seen.len() <= word {
            to.seen.resize(word + 1, 0);
        }
        if to.seen[word] & bit != 0 {
            self.counts.duplicated += 1;
            return None;
        }
        to.seen[word] |= bit;
        self.counts.delivered += 1;
        Some(due)
    }

    /// What has been counted so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether nobody misses anything that was acknowledged, and no answer is awaited any more.
    pub fn is_settled(&self) -> bool {
        let verdict = self.verdict();
        verdict.lost == 0 && verdict.unanswered() == 0
    }

    /// Goes through all that is owed.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict { counts: self.counts, ..Verdict::default() };
        let mut owed = Vec::with_capacity(self.rooms.len());
        for room in &self.rooms {
            let mut bits = vec![0u64; room.sent.len().div_ceil(64)];
            verdict.published += room.sent.len() as u64;
            for (number, sent) in room.sent.iter().enumerate() {
                match sent.fate {
                    Fate::Acknowledged => bits[number / 64] |= 1 << (number % 64),
                    Fate::Refused => verdict.refused += 1,
                    Fate::Abandoned => verdict.abandoned += 1,
                    Fate::Unanswered => {}
                }
            }
            verdict.acknowledged += ones(&bits);
            owed.push(bits);
        }
        for receiver in &self.receivers {
            let owed = &owed[receiver.room];
            verdict.owed += ones(owed);
            let seen = receiver.seen.iter().copied().chain(std::iter::repeat(0));
            verdict.lost +=
                owed.iter().zip(seen).map(|(owed, seen)| u64::from((owed & !seen).count_ones())).sum::<u64>();
        }
        verdict
    }
}

fn ones(bits: &[u64]) -> u64 {
    bits.iter().map(|word| u64::from(word.count_ones())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(room: u32, number: u32) -> Stamp {
        Stamp { room, publisher: 0, number }
    }

    /// Two rooms of two; one publication in the first, acknowledged.
    fn tally() -> Tally {
        let mut tally = Tally::new(&[0, 0, 1, 1]);
        assert_eq!(tally.on_publish(0, 500), 0);
        tally.on_answer(0, 0, true);
        tally
    }

    #[test]
    fn what_all_have_received_once_is_settled() {
        let mut tally = tally();
        assert_eq!(tally.on_publication(0, stamp(0, 0), Some(1)), Some(500));
        assert!(!tally.is_settled());
        assert_eq!(tally.verdict().lost, 1);
        assert_eq!(tally.on_publication(1, stamp(0, 0), Some(1)), Some(500));
        assert!(tally.is_settled());
        let verdict = tally.verdict();
        assert_eq!((verdict.owed, verdict.lost, verdict.counts.delivered), (2, 0, 2));
        assert_eq!((verdict.counts.duplicated, verdict.misplaced()), (0, 0));
    }

    #[test]
    fn a_second_copy_is_a_duplicate_even_at_another_offset() {
        let mut tally = tally();
        assert!(tally.on_publication(0, stamp(0, 0), Some(1)).is_some());
        assert_eq!(tally.on_publication(0, stamp(0, 0), Some(2)), None);
        assert_eq!(tally.counts(), Counts { delivered: 1, duplicated: 1, ..Counts::default() });
    }

    #[test]
    fn a_hole_between_offsets_is_a_gap_of_its_width() {
        let mut tally = Tally::new(&[0]);
        (0..3).for_each(|due| assert_eq!(u64::from(tally.on_publish(0, due)), due));
        tally.on_position(0, "e", 6);
        tally.on_publication(0, stamp(0, 0), Some(7));
        tally.on_publication(0, stamp(0, 1), Some(10));
        assert_eq!((tally.counts().gaps, tally.counts().reversed), (2, 0));
        tally.on_publication(0, stamp(0, 2), Some(8));
        assert_eq!((tally.counts().gaps, tally.counts().reversed), (2, 1));
    }

    #[test]
    fn receivers_that_see_different_publications_at_an_offset_disagree() {
        let mut tally = tally();
        tally.on_publish(0, 600);
        tally.on_publication(0, stamp(0, 0), Some(1));
        tally.on_publication(1, stamp(0, 1), Some(1));
        assert_eq!(tally.counts().disagreed, 1);
        tally.on_position(0, "another", 0);
        tally.on_position(1, "another", 0);
        tally.on_publication(0, stamp(0, 1), Some(1));
        assert_eq!(tally.counts().disagreed, 1);
    }

    #[test]
    fn refused_and_unanswered_publications_are_owed_to_nobody_and_may_come_once() {
        let mut tally = Tally::new(&[0]);
        let (refused, unanswered) = (tally.on_publish(0, 1), tally.on_publish(0, 2));
        tally.on_answer(0, refused, false);
        assert_eq!(tally.verdict().owed, 0);
        assert!(!tally.is_settled(), "one has no answer");
        tally.on_abandoned(0, unanswered);
        assert!(tally.is_settled(), "and never will");
        tally.on_publication(0, stamp(0, unanswered), Some(1));
        assert_eq!(tally.counts().delivered, 1);
        tally.on_publication(0, stamp(0, unanswered), Some(1));
        let verdict = tally.verdict();
        assert_eq!((verdict.published, verdict.acknowledged, verdict.refused, verdict.lost), (2, 0, 1, 0));
        assert_eq!((verdict.counts.duplicated, verdict.counts.reversed), (1, 1));
    }

    #[test]
    fn another_rooms_publication_is_strange() {
        let mut tally = tally();
        assert_eq!(tally.on_publication(2, stamp(0, 0), None), None);
        assert_eq!(tally.on_publication(0, stamp(0, 9), None), None);
        assert_eq!(tally.counts(), Counts { strange: 2, ..Counts::default() });
    }

    #[test]
    fn losses_are_counted_across_words_of_bits() {
        let mut tally = Tally::new(&[0]);
        for number in 0..200 {
            assert_eq!(tally.on_publish(0, 0), number);
            tally.on_answer(0, number, true);
            if number % 3 != 0 {
                tally.on_publication(0, stamp(0, number), None);
            }
        }
        assert_eq!(tally.verdict().lost, 67);
    }
}
