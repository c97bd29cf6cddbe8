//! User names, each stored once per shard however many clients its user has.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use super::slots::{Named, Slots};

/// The slot of the user nobody knows, whose name is empty.
pub const ANONYMOUS: u32 = 0;

struct User {
    name: Box<str>,
    clients: usize,
}

impl Named for User {
    fn name(&self) -> &str {
        &self.name
    }
}

/// The users of a shard's clients.
pub struct Users(Slots<User>);

impl Default for Users {
    fn default() -> Users {
        let mut slots = Slots::default();
        let anonymous = slots.insert(User { name: "".into(), clients: 0 });
        debug_assert_eq!(anonymous, ANONYMOUS);
        Users(slots)
    }
}

impl Users {
    /// Counts a client of the user in; the user's slot.
    pub fn enter(&mut self, name: &str) -> u32 {
        let slot = self.0.find(name).unwrap_or_else(|| self.0.insert(User { name: name.into(), clients: 0 }));
        self.user(slot).clients += 1;
        slot
    }

    /// Counts a client of the user out.
    pub fn leave(&mut self, slot: u32) {
        let user = self.user(slot);
        user.clients -= 1;
        if user.clients == 0 && slot != ANONYMOUS {
            self.0.remove(slot);
        }
    }

    fn user(&mut self, slot: u32) -> &mut User {
        self.0.get_mut(slot).expect("a client's user is counted in")
    }

    /// The name in a slot.
    pub fn name(&self, slot: u32) -> &str {
        self.0.get(slot).map_or("", |user| &user.name)
    }

    /// Users with clients, the unknown one included if it has some.
    pub fn len(&self) -> usize {
        let has_anonymous = self.0.get(ANONYMOUS).is_some_and(|anonymous| anonymous.clients > 0);
        self.0.len() - 1 + usize::from(has_anonymous)
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
        assert_eq!((users.len(), users.name(ann), users.name(bob)), (3, "ann", "bob"));
        users.leave(ann);
        assert_eq!(users.name(ann), "ann");
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
