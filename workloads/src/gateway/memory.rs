//! The memory that answers take: one budget of all shards, and for each client a share of what is free of it.
//!
//! ```text
//!   0 ├──── answers under way, answers that wait ────┤······· free ·······┤ soft mark ├─ reserve ─┤ budget
//!                                       a client may have a quarter of ───┘
//! ```
//!
//! A share of what is free, and not of the whole, divides the budget among any number of clients without a list of them
//! (the dynamic thresholds of shared switch buffers, Choudhury and Hahne 1998): one that lets everything lie ends at a
//! fifth of the soft mark, four of them at an eighth each, a thousand leave the reserve untouched. Whoever takes what is
//! there holds little and does not notice.
//!
//! What is held is `Send`: an answer may be put together by another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// From this share of the budget on, nothing optional is begun; up to here clients divide what is free.
pub const SOFT: f64 = 0.80;
/// From this share on, only critical requests are begun.
pub const HARD: f64 = 0.92;
/// From this share on, memory is short: who takes answers slowly has less patience to expect.
const SHORT: f64 = 0.25;
/// One client's answers may take this part of what is free. Beyond, its own sub-requests fail.
const CLIENT_PART: u64 = 4;
/// Bytes that a client may have even where nothing is free below the soft mark: small answers come through beside hoards.
const CLIENT_BYTES_LEAST: u64 = 64 << 10;

/// Bytes that answers take, of all shards.
#[derive(Debug)]
pub struct Memory {
    taken: AtomicU64,
    most: u64,
}

/// Why bytes cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// The budget is used up.
    Budget,
    /// The client's answers have its share already.
    Share,
}

impl Short {
    /// As a failed part's reason.
    pub const fn reason(self) -> &'static str {
        match self {
            Short::Budget => "no memory is left for its answer",
            Short::Share => "its client's answers take all the memory that one client may have",
        }
    }
}

impl Memory {
    /// With a budget in bytes.
    pub const fn new(most: u64) -> Memory {
        Memory { taken: AtomicU64::new(0), most }
    }

    /// What is taken, and the budget.
    pub fn figures(&self) -> (u64, u64) {
        (self.taken.load(Ordering::Relaxed), self.most)
    }

    /// How much of the budget is taken; more than 1 where answers that were there already did not fit.
    pub fn share(&self) -> f64 {
        self.taken.load(Ordering::Relaxed) as f64 / self.most.max(1) as f64
    }

    /// Whether slow clients are to be squeezed.
    pub fn is_short(&self) -> bool {
        self.share() >= SHORT
    }

    /// Takes `bytes`; false, and nothing is taken, where they would go beyond the budget.
    fn reserve(&self, bytes: u64) -> bool {
        let before = self.taken.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= self.most;
        if !fits {
            self.taken.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    /// What one client may have now, what it has included.
    fn client_most(&self) -> u64 {
        let free = ((self.most as f64 * SOFT) as u64).saturating_sub(self.taken.load(Ordering::Relaxed));
        (free / CLIENT_PART).max(CLIENT_BYTES_LEAST)
    }
}

/// What one client's answers take of the memory.
#[derive(Debug)]
pub struct Tab {
    memory: Arc<Memory>,
    taken: AtomicU64,
}

impl Tab {
    /// Nothing yet.
    pub fn new(memory: &Arc<Memory>) -> Arc<Tab> {
        Arc::new(Tab { memory: memory.clone(), taken: AtomicU64::new(0) })
    }

    /// The budget of all.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Bytes that are taken.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether so many bytes more are within the client's share.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.taken() + bytes <= self.memory.client_most()
    }
}

/// Bytes on a client's tab; given back when dropped.
#[derive(Debug)]
pub struct Held {
    tab: Arc<Tab>,
    bytes: u64,
}

impl Held {
    /// No bytes yet.
    pub fn none(tab: &Arc<Tab>) -> Held {
        Held { tab: tab.clone(), bytes: 0 }
    }

    /// So many bytes, whether or not they fit: they are there already, and what is new has to make room for them.
    pub fn of(tab: &Arc<Tab>, bytes: usize) -> Held {
        let mut held = Held::none(tab);
        held.set(bytes);
        held
    }

    /// Takes what is missing to `bytes`.
    ///
    /// # Errors
    /// They do not fit, and nothing is taken.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), Short> {
        let more = (bytes as u64).saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        if !self.tab.has_room(more) {
            return Err(Short::Share);
        }
        if !self.tab.memory.reserve(more) {
            return Err(Short::Budget);
        }
        self.tab.taken.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
        Ok(())
    }

    /// Holds so many bytes from now on, whether or not they fit.
    pub fn set(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        for taken in [&self.tab.taken, &self.tab.memory.taken] {
            taken.fetch_add(bytes, Ordering::Relaxed);
            taken.fetch_sub(self.bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: u64 = 100 << 20;

    /// What a client gets that takes all it can, in pieces.
    fn hoard(memory: &Arc<Memory>) -> (Held, u64) {
        let tab = Tab::new(memory);
        let mut held = Held::none(&tab);
        let mut bytes = 0;
        while held.grow_to(bytes + (16 << 10)).is_ok() {
            bytes += 16 << 10;
        }
        (held, tab.taken())
    }

    #[test]
    fn hoarders_share_and_leave_the_others_room() {
        let soft = (BUDGET as f64 * SOFT) as u64;
        let near = |bytes: u64, part: f64| (bytes as f64 - soft as f64 * part).abs() < 200e3;
        let memory = Arc::new(Memory::new(BUDGET));
        let (first, alone) = hoard(&memory);
        assert!(near(alone, 0.2), "{alone}");
        drop(first);
        assert_eq!(memory.figures(), (0, BUDGET));
        let hoards: Vec<_> = (0..1000).map(|_| hoard(&memory)).collect();
        let (all, _) = memory.figures();
        // Beyond the soft mark there are only the least shares of those that came too late.
        assert!(all <= BUDGET && hoards.iter().all(|(_, bytes)| *bytes >= CLIENT_BYTES_LEAST || all > soft), "{all}");
        assert!(hoards[0].1 > hoards[500].1 && hoards[500].1 <= CLIENT_BYTES_LEAST);
    }

    #[test]
    fn four_hoarders_leave_half() {
        let memory = Arc::new(Memory::new(BUDGET));
        let hoards: Vec<_> = (0..4).map(|_| hoard(&memory)).collect();
        assert!(memory.share() < 0.6 && memory.is_short(), "{}", memory.share());
        // One that comes then gets a large answer all the same.
        let honest = Tab::new(&memory);
        assert!(Held::none(&honest).grow_to(6 << 20).is_ok());
        drop(hoards);
        assert!(!memory.is_short());
    }

    #[test]
    fn both_ends_are_told_apart_and_nothing_is_lost() {
        let memory = Arc::new(Memory::new(1 << 20));
        let (tab, other) = (Tab::new(&memory), Tab::new(&memory));
        let mut held = Held::none(&tab);
        assert_eq!(held.grow_to(1 << 20), Err(Short::Share));
        assert_eq!((held.grow_to(1000), tab.taken(), memory.figures().0), (Ok(()), 1000, 1000));
        let waits = Held::of(&other, 1 << 20);
        assert_eq!(held.grow_to(2000), Err(Short::Budget), "the least share is of what there is");
        assert!(memory.share() > 1.0);
        drop(waits);
        assert_eq!(held.grow_to(2000), Ok(()));
        held.set(500);
        assert_eq!((tab.taken(), memory.figures().0), (500, 500));
        drop(held);
        assert_eq!((tab.taken(), memory.figures().0), (0, 0));
    }
}
