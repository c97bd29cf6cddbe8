//! A shard's items. What is over the budget goes by second chance (the clock of Corbató, 1968): in the order in which items
//! came, but who was asked for since its last turn stays for another.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What an item costs beside its key and value, about: the map's entry, the queue's, two allocations.
const ITEM_BYTES: usize = 160;

/// What can be done with a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Its value is wanted.
    Look,
    /// It gets a value, if the condition holds.
    Store { condition: Condition, flags: u32, expiry: Expiry, value: Arc<[u8]> },
    /// It goes.
    Delete,
    /// Its number grows.
    Add(u64),
    /// Its number shrinks, to 0 at most.
    Subtract(u64),
    /// It expires at another time.
    Touch(Expiry),
    /// All keys of this shard go.
    Flush,
}

/// What has to be so for a value to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Any,
    /// The key has no value.
    Absent,
    /// It has one.
    Present,
    /// It still has the one that got this number.
    Unchanged(u64),
}

/// When an item goes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Never.
    Never,
    /// So many seconds from now.
    After(u64),
    /// At that Unix time.
    At(u64),
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The value, its flags, and the number for [`Condition::Unchanged`].
    Found { flags: u32, unique: u64, value: Arc<[u8]> },
    /// The number that the value is now.
    Number(u64),
    /// The protocol's word for it, with its line end.
    Said(&'static str),
    /// It was not tried, or is wrong: as `Said`.
    Refused(&'static str),
}

struct Item {
    flags: u32,
    unique: u64,
    /// In seconds of Unix time.
    expires: Option<u64>,
    value: Arc<[u8]>,
    was_asked_for: bool,
}

/// Keys and their values, up to a budget.
pub struct Store {
    items: HashMap<Arc<[u8]>, Item>,
    /// Whose turn it is to go, and which of the key's items is meant: others of that key are gone already.
    turns: VecDeque<(Arc<[u8]>, u64)>,
    bytes: usize,
    bytes_max: usize,
    unique: u64,
}

impl Store {
    /// An empty one.
    pub fn new(bytes_max: usize) -> Store {
        Store { items: HashMap::new(), turns: VecDeque::new(), bytes: 0, bytes_max, unique: 0 }
    }

    /// Does what is asked.
    pub fn apply(&mut self, key: &[u8], change: Change) -> Outcome {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.apply_at(now, key, change)
    }

    fn apply_at(&mut self, now: u64, key: &[u8], change: Change) -> Outcome {
        if self.items.get(key).is_some_and(|item| item.expires.is_some_and(|expires| expires <= now)) {
            self.remove(key);
        }
        match change {
            Change::Look => match self.items.get_mut(key) {
                Some(item) => {
                    item.was_asked_for = true;
                    Outcome::Found { flags: item.flags, unique: item.unique, value: item.value.clone() }
                }
                None => NOT_FOUND,
            },
            Change::Store { condition, flags, expiry, value } => {
                let unique = self.items.get(key).map(|item| item.unique);
                match (condition, unique) {
                    (Condition::Absent, Some(_)) | (Condition::Present, None) => Outcome::Said("NOT_STORED\r\n"),
                    (Condition::Unchanged(_), None) => NOT_FOUND,
                    (Condition::Unchanged(seen), Some(unique)) if seen != unique => Outcome::Said("EXISTS\r\n"),
                    _ => {
                        self.put(key, flags, expires(now, expiry), value);
                        Outcome::Said("STORED\r\n")
                    }
                }
            }
            Change::Delete => match self.remove(key) {
                true => Outcome::Said("DELETED\r\n"),
                false => NOT_FOUND,
            },
            Change::Add(by) => self.count(key, |number| number.wrapping_add(by)),
            Change::Subtract(by) => self.count(key, |number| number.saturating_sub(by)),
            Change::Touch(expiry) => match self.items.get_mut(key) {
                Some(item) => {
                    item.expires = expires(now, expiry);
                    Outcome::Said("TOUCHED\r\n")
                }
                None => NOT_FOUND,
            },
            Change::Flush => {
                *self = Store { unique: self.unique, ..Store::new(self.bytes_max) };
                Outcome::Said("OK\r\n")
            }
        }
    }

    fn count(&mut self, key: &[u8], changed: impl Fn(u64) -> u64) -> Outcome {
        let Some(item) = self.items.get(key) else { return NOT_FOUND };
        let Some(number) = std::str::from_utf8(&item.value).ok().and_then(|text| text.parse::<u64>().ok()) else {
            return Outcome::Refused("CLIENT_ERROR cannot increment or decrement non-numeric value\r\n");
        };
        let (number, flags, expires) = (changed(number), item.flags, item.expires);
        self.put(key, flags, expires, number.to_string().into_bytes().into());
        Outcome::Number(number)
    }

    fn put(&mut self, key: &[u8], flags: u32, expires: Option<u64>, value: Arc<[u8]>) {
        self.remove(key);
        self.unique += 1;
        self.bytes += cost(key, &value);
        let key: Arc<[u8]> = key.into();
        self.turns.push_back((key.clone(), self.unique));
        self.items.insert(key, Item { flags, unique: self.unique, expires, value, was_asked_for: false });
        self.keep_to_the_budget();
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let Some(item) = self.items.remove(key) else { return false };
        self.bytes -= cost(key, &item.value);
        // Turns of items that are gone are passed over; more of them than items would be a leak.
        if self.turns.len() > 2 * self.items.len() + 64 {
            self.turns.retain(|(key, unique)| self.items.get(key).is_some_and(|item| item.unique == *unique));
        }
        true
    }

    fn keep_to_the_budget(&mut self) {
        while self.bytes > self.bytes_max
            && let Some((key, unique)) = self.turns.pop_front()
        {
            let Some(item) = self.items.get_mut(&key).filter(|item| item.unique == unique) else { continue };
            if std::mem::take(&mut item.was_asked_for) {
                self.turns.push_back((key, unique));
            } else {
                self.remove(&key);
            }
        }
    }
}

const NOT_FOUND: Outcome = Outcome::Said("NOT_FOUND\r\n");

fn cost(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + ITEM_BYTES
}

fn expires(now: u64, expiry: Expiry) -> Option<u64> {
    match expiry {
        Expiry::Never => None,
        Expiry::After(seconds) => Some(now + seconds),
        Expiry::At(time) => Some(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(store: &mut Store, key: &str, value: &str) {
        let change = Change::Store {
            condition: Condition::Any,
            flags: 0,
            expiry: Expiry::Never,
            value: value.as_bytes().into(),
        };
        assert_eq!(store.apply_at(0, key.as_bytes(), change), Outcome::Said("STORED\r\n"));
    }

    fn has(store: &mut Store, key: &str) -> bool {
        matches!(store.apply_at(0, key.as_bytes(), Change::Look), Outcome::Found { .. })
    }

    #[test]
    fn who_was_asked_for_stays_when_others_go() {
        let mut store = Store::new(10 * cost(b"k0", b"value"));
        for number in 0..10 {
            set(&mut store, &format!("k{number}"), "value");
        }
        assert!(has(&mut store, "k0"));
        for number in 0..5 {
            set(&mut store, &format!("n{number}"), "value");
        }
        assert!(has(&mut store, "k0") && !has(&mut store, "k1") && has(&mut store, "n4"));
        assert!(store.bytes <= store.bytes_max);
        // Deleted and stored again without end, nothing is left behind.
        for _ in 0..10_000 {
            set(&mut store, "k0", "again");
        }
        assert!(store.turns.len() <= 2 * store.items.len() + 65, "{}", store.turns.len());
    }

    #[test]
    fn what_is_larger_than_the_budget_does_not_stay() {
        let mut store = Store::new(100);
        set(&mut store, "k", &"x".repeat(1000));
        assert!(!has(&mut store, "k") && store.bytes == 0);
    }

    #[test]
    fn items_expire_at_their_second() {
        let mut store = Store::new(1 << 20);
        let store_at = |store: &mut Store, expiry| {
            let change = Change::Store { condition: Condition::Any, flags: 0, expiry, value: (*b"v").into() };
            store.apply_at(1000, b"k", change)
        };
        for (expiry, living, gone) in [(Expiry::After(5), 1004, 1005), (Expiry::At(2000), 1999, 2000)] {
            store_at(&mut store, expiry);
            assert!(matches!(store.apply_at(living, b"k", Change::Look), Outcome::Found { .. }));
            assert_eq!(store.apply_at(gone, b"k", Change::Look), NOT_FOUND);
        }
        store_at(&mut store, Expiry::At(0));
        assert_eq!(store.apply_at(1000, b"k", Change::Touch(Expiry::Never)), NOT_FOUND);
    }
}
