//! Things with names, each in a slot of its own: found by its name, and faster by its slot.
//!
//! Slots come in pages that never move, and the index holds eight bytes per name and not the name: a million of them grow
//! without a copy of what they are, and without a look at each.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

/// Slots of a page.
const PAGE: usize = 256;

/// What has a name, which stays the same for as long as it has a slot.
pub trait Named {
    /// The name.
    fn name(&self) -> &str;
}

/// Where a name is found: the slot, and of the name's hash what the index needs to grow.
#[derive(Clone, Copy)]
struct Place {
    hash: u32,
    slot: u32,
}

/// The table takes a hash's highest bits to tell neighbours apart, and its lowest to choose among them.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// See the module's description.
pub struct Slots<T> {
    pages: Vec<Box<[Option<T>; PAGE]>>,
    /// Slots given so far; those below may be vacant.
    given: u32,
    vacant: Vec<u32>,
    index: HashTable<Place>,
    hasher: RandomState,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        let (pages, vacant) = (Vec::new(), Vec::new());
        Slots { pages, given: 0, vacant, index: HashTable::new(), hasher: RandomState::new() }
    }
}

impl<T: Named> Slots<T> {
    /// The slot of a name.
    pub fn find(&self, name: &str) -> Option<u32> {
        let hash = self.hash(name);
        let is_it =
            |place: &Place| place.hash == hash && self.get(place.slot).is_some_and(|thing| thing.name() == name);
        Some(self.index.find(spread(hash), is_it)?.slot)
    }

    /// Gives a slot to a thing whose name none has.
    pub fn insert(&mut self, thing: T) -> u32 {
        let hash = self.hash(thing.name());
        let slot = self.vacant.pop().unwrap_or_else(|| {
            let slot = self.given;
            self.given = slot.checked_add(1).expect("more names than a machine has memory for");
            slot
        });
        let (page, at) = split(slot);
        if page == self.pages.len() {
            self.pages.push(Box::new([const { None }; PAGE]));
        }
        self.pages[page][at] = Some(thing);
        self.index.insert_unique(spread(hash), Place { hash, slot }, |place| spread(place.hash));
        slot
    }

    /// Takes the thing out of a slot.
    pub fn remove(&mut self, slot: u32) -> Option<T> {
        let (page, at) = split(slot);
        let thing = self.pages.get_mut(page)?[at].take()?;
        let hash = spread(self.hash(thing.name()));
        if let Ok(place) = self.index.find_entry(hash, |place| place.slot == slot) {
            place.remove();
        }
        self.vacant.push(slot);
        Some(thing)
    }

    fn hash(&self, name: &str) -> u32 {
        (self.hasher.hash_one(name) >> 32) as u32
    }
}

impl<T> Slots<T> {
    /// What is in a slot.
    pub fn get(&self, slot: u32) -> Option<&T> {
        let (page, at) = split(slot);
        self.pages.get(page)?[at].as_ref()
    }

    /// What is in a slot.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        let (page, at) = split(slot);
        self.pages.get_mut(page)?[at].as_mut()
    }

    /// Slots given so far; those below may be vacant.
    pub fn given(&self) -> u32 {
        self.given
    }

    /// How many are in use.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// All things.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| page.iter().flatten())
    }
}

fn split(slot: u32) -> (usize, usize) {
    (slot as usize / PAGE, slot as usize % PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    impl Named for String {
        fn name(&self) -> &str {
            self
        }
    }

    #[test]
    fn names_are_found_while_others_come_and_go() {
        let (mut slots, mut known) = (Slots::<String>::default(), HashMap::new());
        let mut state = 1u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let name = format!("name {}", (state >> 33) % 3000);
            match known.remove(&name) {
                Some(slot) => assert_eq!(slots.remove(slot), Some(name)),
                None => drop(known.insert(name.clone(), slots.insert(name))),
            }
            assert_eq!(slots.len(), known.len());
        }
        assert!(known.len() > 1000 && slots.given() as usize <= 3000, "slots are used again");
        for (name, &slot) in &known {
            assert_eq!((slots.find(name), slots.get(slot)), (Some(slot), Some(name)));
        }
        let mut all: Vec<_> = slots.iter().cloned().collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), known.len());
        assert!(slots.find("another").is_none() && slots.get(1 << 30).is_none() && slots.remove(1 << 30).is_none());
    }
}
