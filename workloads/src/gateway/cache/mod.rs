//! A backend's answers, kept for as long as they say (RFC 9111), on one shard; and one question for all who ask the same at
//! once.
//!
//! ```text
//!   question ─► kept and fresh? ─ yes ─► its copy
//!                 └─ no ─► is it asked already? ─ yes ─► waits for that, looks once more ─ not there ─► asks by itself
//!                            └─ no ─► the backend ─► may be kept? ─ yes ─► kept, within items and bytes; the oldest use goes
//!                                                       └─ no ─► for a while nobody waits for another's answer to it
//! ```
//!
//! What is kept was checked and shaped already. It counts on the gateway's budget of memory, of which answers under way have
//! most: nothing is kept from a fifth of it on, and where memory is short what was kept makes room.

mod lifetime;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::compute::{Reply, Ticket, ticket};

use super::config::model::HttpCache;
use super::memory::{Held, Memory, Tab};
use super::message::FieldList;
use super::part::Part;
pub use lifetime::Lifetime;

/// Bytes that a backend's answers may take on all shards together, where the file does not say.
const BYTES_MAX: u64 = 64 << 20;
/// Answers that a backend may have kept on all shards together, where the file does not say.
const ITEMS_MAX: u64 = 1_000_000;
/// Bytes of bookkeeping for an answer, about.
const ENTRY_BYTES: usize = 256;
/// Answers to one question that differ by what `Vary` names, at most. Beyond, the oldest goes.
const VARIANTS_MAX: usize = 16;
/// How long nobody waits for another's answer, after one that could not be kept.
const PASS: Duration = Duration::from_secs(10);
/// From this share of the gateway's budget on, nothing more is kept.
const SHARE_MAX: f64 = 0.2;
/// Answers that are forgotten in one turn, at most: what is left waits for the next sweep.
const SWEEP_MAX: usize = 4096;
/// Questions of which that is known, at most.
const PASSED_MAX: usize = 16_384;

/// See the module's description.
pub struct Cache {
    items_max: usize,
    bytes_max: usize,
    tab: Arc<Tab>,
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    kept: HashMap<Rc<str>, Vec<Variant>>,
    /// By when they were used last.
    order: BTreeMap<u64, Rc<str>>,
    /// By when they are out of date, and their number among all that were kept.
    ends: BTreeMap<(Duration, u64), Rc<str>>,
    uses: u64,
    bytes: usize,
    asked: HashMap<String, Vec<Ticket<()>>>,
    /// By the question's hash: two that share it cost a question, and nothing else.
    passed: HashMap<u64, Duration>,
    hasher: RandomState,
}

/// An answer that is kept.
struct Variant {
    /// What the question had in the fields that the answer names.
    vary: Vec<(String, Vec<Vec<u8>>)>,
    part: Part,
    until: Duration,
    /// Its number among all that were kept, and among all uses the last.
    kept: u64,
    used: u64,
    bytes: usize,
    _held: Held,
}

/// Who asks something that is not kept.
pub enum Turn<'c> {
    /// Nobody else does: this one asks, for all.
    Leads(Leading<'c>),
    /// Somebody else does. The reply comes when that has ended; nothing, if it was given up.
    Follows(Reply<()>),
    /// Answers to it are not kept: everybody asks.
    Passes,
}

/// A question under way for all who ask it. Dropped, it is given up, and somebody else leads.
pub struct Leading<'c> {
    cache: &'c Cache,
    target: String,
}

impl Leading<'_> {
    /// It has an answer, or cannot have one.
    pub fn ended(self) {
        let waiting = self.cache.inner.borrow_mut().asked.remove(&self.target);
        waiting.into_iter().flatten().for_each(|ticket| ticket.answer(()));
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        // Those who wait are told nothing.
        let waiting = self.cache.inner.borrow_mut().asked.remove(&self.target);
        drop(waiting);
    }
}

impl Cache {
    /// A backend's, on one of so many shards.
    pub fn new(limits: &HttpCache, memory: &Arc<Memory>, shards: usize) -> Cache {
        let share = |most: u64| usize::try_from(most.div_ceil(shards.max(1) as u64)).unwrap_or(usize::MAX);
        Cache {
            items_max: share(limits.max_items.unwrap_or(ITEMS_MAX)),
            bytes_max: share(limits.max_size.unwrap_or(BYTES_MAX)),
            tab: Tab::new(memory),
            inner: RefCell::default(),
        }
    }

    /// The answer to a question, if it is kept and fresh.
    pub fn find(&self, now: Duration, target: &str, asked: &FieldList) -> Option<Part> {
        let inner = &mut *self.inner.borrow_mut();
        let (name, variants) = inner.kept.get_key_value(target)?;
        let name = name.clone();
        // Of several the most recent one (RFC 9111 section 4).
        let fresh = variants.iter().enumerate().filter(|(_, one)| one.until > now && one.answers(asked));
        let at = fresh.max_by_key(|(_, one)| one.kept).map(|(at, _)| at)?;
        inner.uses += 1;
        let variant = &mut inner.kept.get_mut(&name)?[at];
        inner.order.remove(&variant.used);
        variant.used = inner.uses;
        inner.order.insert(inner.uses, name);
        Some(variant.part.copy())
    }

    /// Forgets what is out of date; and as long as memory is short, what was not used for longest.
    pub fn sweep(&self, now: Duration) {
        let inner = &mut *self.inner.borrow_mut();
        for _ in 0..SWEEP_MAX {
            let has_forgotten = inner.forget_outdated(now) || (self.tab.memory().is_short() && inner.forget_oldest());
            if !has_forgotten {
                break;
            }
        }
        inner.passed.retain(|_, until| *until > now);
    }

    /// Whose turn it is to ask something that is not kept.
    pub fn turn(&self, now: Duration, target: &str) -> Turn<'_> {
        let inner = &mut *self.inner.borrow_mut();
        if inner.passed.get(&inner.hasher.hash_one(target)).is_some_and(|until| *until > now) {
            return Turn::Passes;
        }
        match inner.asked.get_mut(target) {
            Some(waiting) => {
                let (ticket, reply) = ticket();
                waiting.push(ticket);
                Turn::Follows(reply)
            }
            None => {
                inner.asked.insert(target.to_owned(), Vec::new());
                Turn::Leads(Leading { cache: self, target: target.to_owned() })
            }
        }
    }

    /// Keeps an answer, if it may be kept and there is room.
    pub fn keep(&self, now: Duration, target: &str, asked: &FieldList, lifetime: Option<Lifetime>, part: &Part) {
        let inner = &mut *self.inner.borrow_mut();
        let vary = lifetime.iter().flat_map(|lifetime| &lifetime.vary);
        let vary: Vec<_> = vary.map(|name| (name.clone(), values(asked, name))).collect();
        let varying: usize = vary.iter().map(|(name, has)| name.len() + has.iter().map(Vec::len).sum::<usize>()).sum();
        let bytes = part.len() + target.len() + varying + ENTRY_BYTES;
        let Some(lifetime) = lifetime.filter(|_| bytes <= self.bytes_max) else {
            return inner.pass(now, target);
        };
        inner.passed.remove(&inner.hasher.hash_one(target));
        while inner.order.len() >= self.items_max || inner.bytes + bytes > self.bytes_max {
            if !inner.forget_oldest() {
                break;
            }
        }
        let mut held = Held::none(&self.tab);
        if self.tab.memory().share() >= SHARE_MAX || held.grow_to(bytes).is_err() {
            return;
        }
        let name: Rc<str> = inner.kept.get_key_value(target).map_or_else(|| target.into(), |(name, _)| name.clone());
        let same = inner.kept.get(&name).and_then(|all| all.iter().position(|other| other.vary == vary));
        let oldest = inner
            .kept
            .get(&name)
            .filter(|all| all.len() >= VARIANTS_MAX)
            .and_then(|all| all.iter().enumerate().min_by_key(|(_, variant)| variant.used).map(|(at, _)| at));
        if let Some(at) = same.or(oldest) {
            inner.remove(&name, at);
        }
        inner.uses += 1;
        let used = inner.uses;
        let until = now + lifetime.fresh;
        inner.order.insert(used, name.clone());
        inner.ends.insert((until, used), name.clone());
        inner.bytes += bytes;
        let variant = Variant { vary, part: part.copy(), until, kept: used, used, bytes, _held: held };
        inner.kept.entry(name).or_default().push(variant);
    }
}

impl Inner {
    fn pass(&mut self, now: Duration, target: &str) {
        if self.passed.len() >= PASSED_MAX {
            self.passed.retain(|_, until| *until > now);
        }
        if self.passed.len() < PASSED_MAX {
            self.passed.insert(self.hasher.hash_one(target), now + PASS);
        }
    }

    fn remove(&mut self, name: &Rc<str>, at: usize) {
        let Some(variants) = self.kept.get_mut(name) else { return };
        let variant = variants.swap_remove(at);
        if variants.is_empty() {
            self.kept.remove(name);
        }
        self.order.remove(&variant.used);
        self.ends.remove(&(variant.until, variant.kept));
        self.bytes -= variant.bytes;
    }

    /// Forgets what was not used for longest; false if there is nothing.
    fn forget_oldest(&mut self) -> bool {
        let Some((used, name)) = self.order.pop_first() else { return false };
        self.forget(&name, |variant| variant.used == used);
        true
    }

    /// Forgets what is out of date for longest; false if nothing is.
    fn forget_outdated(&mut self, now: Duration) -> bool {
        let Some(first) = self.ends.first_entry().filter(|first| first.key().0 <= now) else { return false };
        let ((_, number), name) = first.remove_entry();
        self.forget(&name, |variant| variant.kept == number);
        true
    }

    fn forget(&mut self, name: &Rc<str>, is_it: impl Fn(&Variant) -> bool) {
        if let Some(at) = self.kept.get(name).and_then(|all| all.iter().position(is_it)) {
            self.remove(name, at);
        }
    }
}

impl Variant {
    fn answers(&self, asked: &FieldList) -> bool {
        self.vary.iter().all(|(name, has)| values(asked, name) == *has)
    }
}

fn values(fields: &FieldList, name: &str) -> Vec<Vec<u8>> {
    fields.iter().filter(|(other, _)| *other == name).map(|(_, value)| value.to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(items: u64, bytes: u64) -> Cache {
        let limits = HttpCache { max_items: Some(items), max_size: Some(bytes) };
        Cache::new(&limits, &Arc::new(Memory::new(1 << 20)), 1)
    }

    fn part(text: &str) -> Part {
        Part::of_text(text.as_bytes().to_vec())
    }

    fn for_seconds(seconds: u64, vary: &[&str]) -> Option<Lifetime> {
        let vary = vary.iter().map(|name| (*name).to_owned()).collect();
        Some(Lifetime { fresh: Duration::from_secs(seconds), vary })
    }

    fn fields(pairs: &[(&str, &str)]) -> FieldList {
        let mut fields = FieldList::new();
        pairs.iter().for_each(|(name, value)| fields.push(name, value.as_bytes()));
        fields
    }

    fn found(cache: &Cache, second: u64, target: &str, asked: &FieldList) -> Option<String> {
        let part = cache.find(Duration::from_secs(second), target, asked)?;
        Some(String::from_utf8(super::super::part::merge(&[part])).unwrap())
    }

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn answers_are_kept_for_their_time_and_by_what_they_vary_with() {
        let (cache, none) = (small(10, 1 << 20), FieldList::new());
        cache.keep(NOW, "/a", &none, for_seconds(10, &[]), &part(r#"{"a":1}"#));
        assert_eq!(found(&cache, 109, "/a", &none).as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(found(&cache, 109, "/b", &none), None);
        assert_eq!(found(&cache, 110, "/a", &none), None);
        cache.sweep(Duration::from_secs(110));
        let (de, en) = (fields(&[("accept-language", "de")]), fields(&[("accept-language", "en"), ("x", "1")]));
        cache.keep(NOW, "/a", &de, for_seconds(10, &["accept-language"]), &part(r#"{"a":"de"}"#));
        cache.keep(NOW, "/a", &en, for_seconds(10, &["accept-language"]), &part(r#"{"a":"en"}"#));
        assert_eq!(found(&cache, 101, "/a", &de).as_deref(), Some(r#"{"a":"de"}"#));
        assert_eq!(found(&cache, 101, "/a", &fields(&[("accept-language", "en")])).as_deref(), Some(r#"{"a":"en"}"#));
        assert_eq!(found(&cache, 101, "/a", &none), None);
        cache.keep(NOW, "/a", &de, for_seconds(10, &["accept-language"]), &part(r#"{"a":"neu"}"#));
        assert_eq!(found(&cache, 101, "/a", &de).as_deref(), Some(r#"{"a":"neu"}"#));
        // The most recent of those that fit.
        cache.keep(NOW, "/a", &en, for_seconds(10, &[]), &part(r#"{"a":"all"}"#));
        assert_eq!(found(&cache, 101, "/a", &de).as_deref(), Some(r#"{"a":"all"}"#));
        cache.sweep(Duration::from_secs(110));
        assert!(cache.inner.borrow().order.is_empty() && cache.inner.borrow().kept.is_empty());
        assert!(cache.inner.borrow().ends.is_empty());
        assert_eq!(cache.inner.borrow().bytes, 0);
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let (cache, none) = (small(3, 1 << 20), FieldList::new());
        for name in ["/a", "/b", "/c"] {
            cache.keep(NOW, name, &none, for_seconds(10, &[]), &part("{}"));
        }
        assert!(found(&cache, 101, "/a", &none).is_some());
        cache.keep(NOW, "/d", &none, for_seconds(10, &[]), &part("{}"));
        let there = ["/a", "/b", "/c", "/d"].map(|name| found(&cache, 101, name, &none).is_some());
        assert_eq!(there, [true, false, true, true]);
        // By bytes, and what can never fit leaves the others alone.
        let cache = small(1000, 10_000);
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(4000));
        for name in ["/a", "/b", "/c"] {
            cache.keep(NOW, name, &none, for_seconds(10, &[]), &part(&long));
        }
        cache.keep(NOW, "/e", &none, for_seconds(10, &[]), &part(&format!("{{\"a\":\"{}\"}}", "x".repeat(20_000))));
        let there = ["/a", "/b", "/c", "/e"].map(|name| found(&cache, 101, name, &none).is_some());
        assert_eq!(there, [false, true, true, false]);
        assert!(cache.inner.borrow().bytes <= 10_000);
    }

    #[test]
    fn memory_that_answers_need_is_not_taken() {
        let memory = Arc::new(Memory::new(100_000));
        let cache = Cache::new(&HttpCache { max_items: None, max_size: None }, &memory, 1);
        let (none, long) = (FieldList::new(), format!("{{\"a\":\"{}\"}}", "x".repeat(30_000)));
        for number in 0..20 {
            cache.keep(NOW, &format!("/{number}"), &none, for_seconds(10, &[]), &part(&long));
        }
        // One fits below a fifth of the budget; then there is no room for more.
        assert!((1..=50_000).contains(&memory.figures().0), "{:?}", memory.figures());
        // Where memory is short it makes room.
        let _others = Held::of(&Tab::new(&memory), 30_000);
        cache.sweep(NOW);
        assert_eq!(memory.figures().0, 30_000);
        drop(_others);
        assert_eq!(memory.figures().0, 0);
    }

    #[test]
    fn one_asks_for_all_unless_answers_are_not_kept() {
        let (cache, none) = (small(10, 1 << 20), FieldList::new());
        let Turn::Leads(leading) = cache.turn(NOW, "/a") else { panic!("nobody else asks") };
        assert!(matches!(cache.turn(NOW, "/a"), Turn::Follows(_)));
        assert!(matches!(cache.turn(NOW, "/b"), Turn::Leads(_)));
        // One that is given up is taken over.
        let (dropped, mut follower) = (
            leading,
            match cache.turn(NOW, "/a") {
                Turn::Follows(reply) => Box::pin(reply),
                _ => panic!("somebody asks"),
            },
        );
        drop(dropped);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert_eq!(follower.as_mut().poll(&mut context), std::task::Poll::Ready(None));
        let Turn::Leads(leading) = cache.turn(NOW, "/a") else { panic!("nobody else asks") };
        cache.keep(NOW, "/a", &none, None, &part("{}"));
        leading.ended();
        assert!(matches!(cache.turn(NOW, "/a"), Turn::Passes));
        assert!(matches!(cache.turn(NOW + PASS, "/a"), Turn::Leads(_)));
    }
}
