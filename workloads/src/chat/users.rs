//! User names, each stored once per shard however many clients its user has.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

/// The slot of the user nobody knows, whose name is empty.
pub const ANONYMOUS: u32 = 0;

struct Entry {
    name: Arc<str>,
    clients: usize,
}

/// The users of a shard's clients.
pub struct Users {
    by_name: HashMap<Arc<str>, u32>,
    slots: Vec<Option<Entry>>,
    vacant: Vec<u32>,
}

impl Default for Users {
    fn default() -> Users {
        let nobody = Entry { name: "".into(), clients: 0 };
        Users { by_name: HashMap::new(), slots: vec![Some(nobody)], vacant: Vec::new() }
    }
}

impl Users {
    /// Counts a client of the user in; the user's slot.
    pub fn enter(&mut self, name: &str) -> u32 {
        let slot = if name.is_empty() { Some(ANONYMOUS) } else { self.by_name.get(name).copied() };
        let slot = slot.unwrap_or_else(|| {
            let name: Arc<str> = name.into();
            let slot = self.vacant.pop().unwrap_or_else(|| {
                self.slots.push(None);
                (self.slots.len() - 1) as u32
            });
            self.slots[slot as usize] = Some(Entry { name: name.clone(), clients: 0 });
            self.by_name.insert(name, slot);
            slot
        });
        self.entry(slot).clients += 1;
        slot
    }

    /// Counts a client of the user out.
    pub fn leave(&mut self, slot: u32) {
        let entry = self.entry(slot);
        entry.clients -= 1;
        if entry.clients == 0 && slot != ANONYMOUS {
            let name = entry.name.clone();
            self.by_name.remove(&name);
            self.slots[slot as usize] = None;
            self.vacant.push(slot);
        }
    }

    fn entry(&mut self, slot: u32) -> &mut Entry {
        self.slots[slot as usize].as_mut().expect("a client's user is counted in")
    }

    /// The name in a slot.
    pub fn name(&self, slot: u32) -> Arc<str> {
        self.slots[slot as usize].as_ref().map(|entry| entry.name.clone()).unwrap_or_default()
    }

    /// Users with clients, the unknown one included if it has some.
    pub fn len(&self) -> usize {
        self.by_name.len() + self.slots[0].as_ref().is_some_and(|nobody| nobody.clients > 0) as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Counters of [`Counted`] that share a lock.
const STRIPES: usize = 64;

/// Connections of each user on the whole node, where they are limited.
///
/// The one thing that shards share and lock: for the time of one addition, when a client comes or goes, and only where
/// `user_connection_limit` is set.
pub struct Counted {
    most: usize,
    stripes: Vec<Mutex<HashMap<Box<str>, usize>>>,
    hasher: RandomState,
}

impl Counted {
    /// Counts to `most` connections of a user; 0: does not count.
    pub fn new(most: usize) -> Counted {
        Counted { most, stripes: (0..STRIPES).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    fn stripe(&self, user: &str) -> &Mutex<HashMap<Box<str>, usize>> {
        &self.stripes[self.hasher.hash_one(user) as usize % STRIPES]
    }

    /// Counts one in, if the user may have another. The user nobody knows is not counted.
    pub fn enter(&self, user: &str) -> bool {
        if self.most == 0 || user.is_empty() {
            return true;
        }
        let mut counts = self.stripe(user).lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(user) {
            Some(count) if *count >= self.most => return false,
            Some(count) => *count += 1,
            None => drop(counts.insert(user.into(), 1)),
        }
        true
    }

    /// Counts one out.
    pub fn leave(&self, user: &str) {
        if self.most == 0 || user.is_empty() {
            return;
        }
        let mut counts = self.stripe(user).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                counts.remove(user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_as_long_as_it_has_clients() {
        let mut users = Users::default();
        let ann = users.enter("ann");
        assert_eq!(users.enter("ann"), ann);
        let bob = users.enter("bob");
        assert_eq!(users.enter(""), ANONYMOUS);
        assert_eq!((users.len(), &*users.name(ann), &*users.name(bob)), (3, "ann", "bob"));
        users.leave(ann);
        assert_eq!(&*users.name(ann), "ann");
        users.leave(ann);
        users.leave(ANONYMOUS);
        assert_eq!(users.len(), 1);
        assert_eq!(users.enter("cid"), ann);
    }

    #[test]
    fn connections_of_a_user_are_limited() {
        let counted = Counted::new(2);
        assert!(counted.enter("ann") && counted.enter("ann") && !counted.enter("ann") && counted.enter("bob"));
        counted.leave("ann");
        assert!(counted.enter("ann") && !counted.enter("ann"));
        assert!((0..9).all(|_| counted.enter("")), "nobody is not counted");
        assert!((0..9).all(|_| Counted::new(0).enter("ann")));
    }
}
