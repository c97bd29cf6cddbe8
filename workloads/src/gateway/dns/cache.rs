//! What was answered, for as long as it may be kept; and longer, while nobody can answer.
//!
//! ```text
//!   inserted ──── fresh: the record's time to live ────► stale: up to `stale_max` more ────► forgotten
//!                 (held between two bounds)              served only when asking again fails (RFC 8767)
//! ```

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// After a failure, what is stale counts as fresh for this long, so that servers in trouble are left alone (RFC 8767
/// section 5 suggests 30 seconds for the internet; our servers are near).
pub const RETRY_AFTER_FAILURE: Duration = Duration::from_secs(5);

/// How long and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Shorter times to live count as this.
    pub ttl_min: Duration,
    /// Longer ones count as this.
    pub ttl_max: Duration,
    /// That there is nothing is believed for this long at most.
    pub negative_ttl_max: Duration,
    /// How long beyond its time an answer may be served when nobody can answer.
    pub stale_max: Duration,
    /// Entries at most: beyond, the one that expires first is forgotten.
    pub entries_max: usize,
}

impl Limits {
    /// Follows most records exactly.
    pub const DEFAULT: Limits = Limits {
        ttl_min: Duration::from_secs(1),
        ttl_max: Duration::from_secs(300),
        negative_ttl_max: Duration::from_secs(10),
        stale_max: Duration::from_secs(3600),
        entries_max: 1024,
    };
}

/// What is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cached<T> {
    /// It still holds.
    Fresh(T),
    /// It held once, and may be served if asking fails.
    Stale(T),
    /// Nothing.
    Absent,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    fresh_until: Duration,
    stale_until: Duration,
}

/// Answers by question.
#[derive(Debug)]
pub struct Cache<K, V> {
    limits: Limits,
    entries: HashMap<K, Entry<V>>,
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    /// An empty one.
    pub fn new(limits: Limits) -> Cache<K, V> {
        Cache { limits, entries: HashMap::new() }
    }

    /// The longest time that an answer counts as fresh.
    pub fn ttl_max(&self) -> Duration {
        self.limits.ttl_max
    }

    /// What is known of `key`.
    pub fn get(&self, now: Duration, key: &K) -> Cached<V> {
        match self.entries.get(key) {
            Some(entry) if now < entry.fresh_until => Cached::Fresh(entry.value.clone()),
            Some(entry) if now < entry.stale_until => Cached::Stale(entry.value.clone()),
            _ => Cached::Absent,
        }
    }

    /// Keeps an answer.
    pub fn insert(&mut self, now: Duration, key: K, value: V, ttl: Duration) {
        let fresh_until = now + ttl.clamp(self.limits.ttl_min, self.limits.ttl_max);
        self.put(now, key, Entry { value, fresh_until, stale_until: fresh_until + self.limits.stale_max });
    }

    /// Keeps that there is nothing. That is never served when stale.
    pub fn insert_negative(&mut self, now: Duration, key: K, value: V, ttl: Duration) {
        let until = now + ttl.min(self.limits.negative_ttl_max).max(self.limits.ttl_min);
        self.put(now, key, Entry { value, fresh_until: until, stale_until: until });
    }

    /// What may be served of `key` although asking failed. It counts as fresh for a moment.
    pub fn after_failure(&mut self, now: Duration, key: &K) -> Option<V> {
        let entry = self.entries.get_mut(key).filter(|entry| now < entry.stale_until)?;
        entry.fresh_until = entry.fresh_until.max((now + RETRY_AFTER_FAILURE).min(entry.stale_until));
        Some(entry.value.clone())
    }

    /// Entries that are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn put(&mut self, now: Duration, key: K, entry: Entry<V>) {
        if self.entries.len() >= self.limits.entries_max && !self.entries.contains_key(&key) {
            self.make_room(now);
        }
        self.entries.insert(key, entry);
    }

    /// Forgets what cannot be served any more; if that is nothing, what expires first.
    fn make_room(&mut self, now: Duration) {
        self.entries.retain(|_, entry| now < entry.stale_until);
        if self.entries.len() >= self.limits.entries_max {
            let first = self.entries.iter().min_by_key(|(_, entry)| entry.fresh_until).map(|(key, _)| key.clone());
            first.and_then(|key| self.entries.remove(&key));
        }
    }
}

#[cfg(test)]
mod tests {
    use annulus_engine::driver::sim::Random;

    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn an_answer_is_fresh_then_stale_then_forgotten() {
        let mut cache = Cache::new(Limits { stale_max: secs(100), ..Limits::DEFAULT });
        cache.insert(secs(0), "cart", 1, secs(30));
        assert_eq!(cache.get(secs(29), &"cart"), Cached::Fresh(1));
        assert_eq!(cache.get(secs(30), &"cart"), Cached::Stale(1));
        assert_eq!(cache.after_failure(secs(50), &"cart"), Some(1));
        assert_eq!(cache.get(secs(54), &"cart"), Cached::Fresh(1), "left alone for a moment");
        assert_eq!(cache.get(secs(55), &"cart"), Cached::Stale(1));
        assert_eq!(cache.after_failure(secs(129), &"cart"), Some(1));
        assert_eq!(cache.get(secs(130), &"cart"), Cached::Absent, "not a second longer");
        assert_eq!(cache.after_failure(secs(130), &"cart"), None);
    }

    #[test]
    fn times_to_live_are_held_between_bounds() {
        let mut cache = Cache::new(Limits::DEFAULT);
        cache.insert(secs(0), "zero", 0, secs(0));
        cache.insert(secs(0), "year", 0, secs(31_000_000));
        cache.insert_negative(secs(0), "no", 0, secs(3600));
        assert_eq!(cache.get(Duration::from_millis(999), &"zero"), Cached::Fresh(0));
        assert_eq!(cache.get(secs(1), &"zero"), Cached::Stale(0));
        assert_eq!(cache.get(secs(299), &"year"), Cached::Fresh(0));
        assert_eq!(cache.get(secs(300), &"year"), Cached::Stale(0));
        assert_eq!(cache.get(secs(9), &"no"), Cached::Fresh(0));
        assert_eq!(cache.get(secs(10), &"no"), Cached::Absent, "that there is nothing does not get stale");
    }

    #[test]
    fn it_never_holds_more_than_its_limit() {
        let mut cache = Cache::new(Limits { entries_max: 8, stale_max: secs(10), ..Limits::DEFAULT });
        let (mut random, mut now) = (Random::new(1), secs(0));
        for step in 0..2000 {
            now += secs(random.below(3) as u64);
            let key = random.below(30);
            cache.insert(now, key, step, secs(random.between(1, 60) as u64));
            assert_eq!(cache.get(now, &key), Cached::Fresh(step), "what came last is always kept");
            assert!(cache.len() <= 8);
        }
        assert!(!cache.is_empty());
    }
}
