//! Which variants the store holds, oldest first, so that they never take more of it than they may.
//!
//! ```text
//!   a lane made one ─► store ─► at the end of the line ─► more than bytes_max? those at its head leave the store
//!   start, every sweep ─► the store is listed ─► the line anew: what other nodes made, without what is too old
//! ```
//!
//! The line is in memory and known to the storing threads and the sweep only; shards ask the store itself. In a fleet each
//! node knows what it made since its last listing, so for that long all of them together may hold more.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::image::store::{Key, Objects, StoreError, Suffix};

/// Variants that are kept at most, however small they are: 40 bytes of memory each.
pub const ENTRIES_MAX: usize = 1 << 20;

/// See the module's description.
#[derive(Debug)]
pub struct Cache {
    bytes_max: u64,
    entries_max: usize,
    kept: Duration,
    line: Mutex<Line>,
    /// Of the line, for whoever must not wait for it.
    bytes: AtomicU64,
    entries: AtomicU64,
    evicted: AtomicU64,
}

#[derive(Debug, Default)]
struct Line {
    entries: VecDeque<Entry>,
    bytes: u64,
    /// What happened since the listing that is under way began, if there is one.
    since: Option<Since>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    name: [u8; 32],
    bytes: u64,
}

#[derive(Debug, Default)]
struct Since {
    entered: Vec<Entry>,
    left: HashSet<[u8; 32]>,
}

fn key(entry: Entry) -> Key {
    Key { name: entry.name, suffix: Suffix::Variant }
}

impl Line {
    fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes;
        self.entries.push_back(entry);
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.bytes;
        if let Some(since) = &mut self.since {
            since.left.insert(entry.name);
        }
        Some(entry)
    }
}

impl Cache {
    /// Of at most so many bytes, and none kept for longer than `kept`.
    pub fn new(bytes_max: u64, kept: Duration) -> Cache {
        let [bytes, entries, evicted] = [(); 3].map(|()| AtomicU64::new(0));
        Cache { bytes_max, entries_max: ENTRIES_MAX, kept, line: Mutex::default(), bytes, entries, evicted }
    }

    /// A variant is in the store now, which was not before. What has to leave the store for it; never itself.
    #[must_use]
    pub fn entered(&self, variant: Key, bytes: u64) -> Vec<Key> {
        let entry = Entry { name: variant.name, bytes };
        let mut line = self.line();
        line.push(entry);
        if let Some(since) = &mut line.since {
            since.entered.push(entry);
        }
        self.shorten(&mut line)
    }

    /// Some have left the store.
    pub fn forget(&self, names: impl Iterator<Item = [u8; 32]>) {
        let names: HashSet<[u8; 32]> = names.collect();
        if names.is_empty() {
            return;
        }
        let mut line = self.line();
        let mut bytes = 0;
        line.entries.retain(|entry| {
            let stays = !names.contains(&entry.name);
            bytes += if stays { 0 } else { entry.bytes };
            stays
        });
        line.bytes -= bytes;
        if let Some(since) = &mut line.since {
            since.entered.retain(|entry| !names.contains(&entry.name));
            since.left.extend(names);
        }
        self.bytes.store(line.bytes, Ordering::Relaxed);
        self.entries.store(line.entries.len() as u64, Ordering::Relaxed);
    }

    /// Lists the store and removes what is too old or too much. `is_over` ends it early.
    ///
    /// # Errors
    /// [`StoreError`]; what is known stays as it was.
    pub fn recount(&self, objects: &dyn Objects, is_over: &dyn Fn() -> bool) -> Result<(), StoreError> {
        self.line().since = Some(Since::default());
        let listed = self.listed(objects, is_over);
        let mut line = self.line();
        let since = line.since.take().unwrap_or_default();
        let (listed, too_old) = listed?;
        let entered: HashSet<[u8; 32]> = since.entered.iter().map(|entry| entry.name).collect();
        let is_there = |entry: &Entry| !since.left.contains(&entry.name) && !entered.contains(&entry.name);
        *line = Line::default();
        listed.into_iter().filter(is_there).chain(since.entered.iter().copied()).for_each(|entry| line.push(entry));
        let too_much = self.shorten(&mut line);
        drop(line);
        let gone = too_old.len() as u64;
        too_old.into_iter().map(key).chain(too_much).try_for_each(|key| objects.delete(&key))?;
        self.evicted.fetch_add(gone, Ordering::Relaxed);
        Ok(())
    }

    /// Variants in the store, oldest first, and those that are too old.
    fn listed(
        &self,
        objects: &dyn Objects,
        is_over: &dyn Fn() -> bool,
    ) -> Result<(Vec<Entry>, Vec<Entry>), StoreError> {
        let mut listed: Vec<(SystemTime, Entry)> = Vec::new();
        objects.list(&mut |key, meta| {
            if is_over() {
                return Err(StoreError::Io("the service ends while variants are counted".to_owned()));
            }
            if key.suffix == Suffix::Variant {
                listed.push((meta.modified, Entry { name: key.name, bytes: meta.len }));
            }
            Ok(())
        })?;
        listed.sort_unstable_by_key(|(modified, entry)| (*modified, entry.name));
        // A moment in the future is a clock that was set back: not old.
        let young = |modified: &SystemTime| modified.elapsed().map_or(true, |age| age <= self.kept);
        let old = listed.partition_point(|(modified, _)| !young(modified));
        let young = listed.split_off(old);
        let entries = |list: Vec<(SystemTime, Entry)>| list.into_iter().map(|(_, entry)| entry).collect();
        Ok((entries(young), entries(listed)))
    }

    /// Takes those at the head out, as many as are too much.
    fn shorten(&self, line: &mut Line) -> Vec<Key> {
        let mut gone = Vec::new();
        while line.entries.len() > 1 && (line.bytes > self.bytes_max || line.entries.len() > self.entries_max) {
            gone.extend(line.pop().map(key));
        }
        self.bytes.store(line.bytes, Ordering::Relaxed);
        self.entries.store(line.entries.len() as u64, Ordering::Relaxed);
        self.evicted.fetch_add(gone.len() as u64, Ordering::Relaxed);
        gone
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of variants in the store, as far as is known.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How many they are.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Variants that had to go, because they were too old or too much.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::queue::trial::Home;
    use crate::image::store::Directory;

    fn variant(number: u8) -> Key {
        Key { name: [number; 32], suffix: Suffix::Variant }
    }

    fn put(store: &Directory, key: &Key, bytes: usize) {
        let _put = store.put(key, &mut &vec![7; bytes][..]).unwrap();
    }

    fn is_there(store: &Directory, number: u8) -> bool {
        store.head(&variant(number)).unwrap().is_some()
    }

    #[test]
    fn the_oldest_leave_for_the_newest() {
        let cache = Cache::new(100, Duration::from_secs(60));
        assert!(cache.entered(variant(1), 40).is_empty() && cache.entered(variant(2), 60).is_empty());
        assert_eq!(cache.entered(variant(3), 30), [variant(1)]);
        assert_eq!((cache.bytes(), cache.entries(), cache.evicted()), (90, 2, 1));
        // One that is larger than all that may be kept is kept alone: who asked for it has not read it yet.
        assert_eq!(cache.entered(variant(4), 1000), [variant(2), variant(3)]);
        assert_eq!((cache.bytes(), cache.entries(), cache.evicted()), (1000, 1, 3));
        assert_eq!(cache.entered(variant(5), 1), [variant(4)]);
    }

    #[test]
    fn their_number_is_limited_too() {
        let cache = Cache { entries_max: 3, ..Cache::new(1 << 30, Duration::from_secs(60)) };
        let gone: Vec<Key> = (0..10).flat_map(|number| cache.entered(variant(number), 0)).collect();
        assert_eq!(gone, (0..7).map(variant).collect::<Vec<_>>());
        assert_eq!(cache.entries(), 3);
    }

    #[test]
    fn a_new_process_finds_what_is_there_and_removes_what_is_too_much() {
        let home = Home::new("variants");
        let store = Directory::open(home.path()).unwrap();
        let output = Key { name: [9; 32], suffix: Suffix::Jpeg };
        put(&store, &output, 500);
        for number in 1..=3 {
            put(&store, &variant(number), 40);
            // Moments of a file system are coarse; the order is that of the moments.
            std::thread::sleep(Duration::from_millis(20));
        }
        let cache = Cache::new(100, Duration::from_secs(3600));
        cache.recount(&store, &|| false).unwrap();
        assert_eq!((cache.bytes(), cache.entries(), cache.evicted()), (80, 2, 1));
        assert!(!is_there(&store, 1) && is_there(&store, 2) && is_there(&store, 3));
        assert!(store.head(&output).unwrap().is_some());
        // Again changes nothing; and what is there is the head of the line.
        cache.recount(&store, &|| false).unwrap();
        assert_eq!((cache.bytes(), cache.entries(), cache.evicted()), (80, 2, 1));
        assert_eq!(cache.entered(variant(4), 30), [variant(2)]);
        assert!(cache.recount(&store, &|| true).is_err());
        assert_eq!((cache.bytes(), cache.entries()), (70, 2));
    }

    #[test]
    fn what_is_too_old_goes() {
        let home = Home::new("variants");
        let store = Directory::open(home.path()).unwrap();
        put(&store, &variant(1), 40);
        let cache = Cache::new(100, Duration::ZERO);
        std::thread::sleep(Duration::from_millis(20));
        cache.recount(&store, &|| false).unwrap();
        assert_eq!((cache.bytes(), cache.entries(), cache.evicted()), (0, 0, 1));
        assert!(!is_there(&store, 1));
    }

    #[test]
    fn what_comes_and_goes_while_the_store_is_listed_is_counted_once() {
        let cache = Cache::new(100, Duration::from_secs(60));
        let _none = cache.entered(variant(1), 40);
        cache.line().since = Some(Since::default());
        assert_eq!(cache.entered(variant(2), 70), [variant(1)]);
        let since = cache.line().since.take().unwrap();
        assert_eq!(since.entered, [Entry { name: [2; 32], bytes: 70 }]);
        assert!(since.left.contains(&[1; 32]) && since.left.len() == 1);
    }
}
