//! What shards share: rings of letters, the marks that say which ring holds something, and the sleep protocol.
//!
//! ```text
//!   sender                                   sleeper
//!     push letter, mark ring                   prepare: sleeping = true, fence
//!     fence                                    look again at every mark      ── something? do not sleep
//!     sleeping? take that back: ring the bell  sleep until the bell rings; awake
//! ```
//!
//! Of the two fences one comes first in the single order that both threads agree on. If it is the sleeper's, the
//! sender sees `sleeping` and rings; if it is the sender's, the sleeper sees the mark and stays awake. So no
//! letter waits for a sleeper, and of many senders the one that takes the announcement back rings alone.
//!
//! A ring has one producer and one consumer, which the types enforce: neither is `Clone`, both take `&mut self`.
//! Invariant: `head <= tail <= head + capacity` (free-running, wrapping); slots from `head` to `tail` are
//! initialised and the consumer's, all others are empty and the producer's. The stores to `head` and `tail`
//! (release) hand a slot over, their loads (acquire) take it.
//!
//! Built with `--cfg loom`, this file runs on Loom's atomics: see `tests/loom_mailbox.rs`.

use std::mem::MaybeUninit;

use kernel::{Arc, AtomicBool, AtomicU64, AtomicUsize, Ordering, UnsafeCell, fence};

#[cfg(loom)]
mod kernel {
    pub(super) use loom::cell::UnsafeCell;
    pub(super) use loom::sync::Arc;
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
}

#[cfg(not(loom))]
mod kernel {
    pub(super) use std::sync::Arc;
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

    /// Loom's interface to a cell, at no cost.
    pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(super) fn new(value: T) -> UnsafeCell<T> {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

        pub(super) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

/// Alone on its cache lines: x86 fetches them in pairs.
#[repr(align(128))]
struct Padded<T>(T);

struct Shared<T> {
    head: Padded<AtomicUsize>,
    tail: Padded<AtomicUsize>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: values of `T` move between threads, one owner at a time (module invariant); `T` itself is never shared.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above; the values that remain are dropped by whichever thread drops last.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    fn slot(&self, at: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[at & (self.slots.len() - 1)]
    }

    /// Empties the slot `at`, which must hold a value and belong to the caller.
    fn take(&self, at: usize) -> T {
        self.slot(at).with_mut(|slot| {
            // SAFETY: callers name a slot between `head` and `tail`: it is initialised, and only the consumer (or
            // the drop of both ends) reads there; `head` passes it before the producer writes it again.
            let value = unsafe { slot.read() };
            // SAFETY: initialised, as said.
            unsafe { value.assume_init() }
        })
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let tail = self.tail.0.load(Ordering::Relaxed);
        let mut head = self.head.0.load(Ordering::Relaxed);
        while head != tail {
            drop(self.take(head));
            head = head.wrapping_add(1);
        }
    }
}

/// The end of a ring that puts in.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    tail: usize,
    /// `head` when last looked at; the true one is there or further.
    head_seen: usize,
}

/// The end of a ring that takes out, in the order in which things were put in.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    head: usize,
    /// `tail` when last looked at; the true one is there or further.
    tail_seen: usize,
}

/// A ring that holds up to `capacity` values, rounded up to a power of two.
///
/// # Panics
/// When `capacity` is 0.
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    assert!(capacity > 0, "a ring holds at least one value");
    let slots = (0..capacity.next_power_of_two()).map(|_| UnsafeCell::new(MaybeUninit::uninit()));
    let shared = Arc::new(Shared {
        head: Padded(AtomicUsize::new(0)),
        tail: Padded(AtomicUsize::new(0)),
        slots: slots.collect(),
    });
    let consumer = Consumer { shared: shared.clone(), head: 0, tail_seen: 0 };
    (Producer { shared, tail: 0, head_seen: 0 }, consumer)
}

impl<T> Producer<T> {
    /// Puts `value` in.
    ///
    /// # Errors
    /// Gives `value` back when the ring is full.
    pub fn push(&mut self, value: T) -> Result<(), T> {
        let capacity = self.shared.slots.len();
        if self.tail.wrapping_sub(self.head_seen) == capacity {
            self.head_seen = self.shared.head.0.load(Ordering::Acquire);
            if self.tail.wrapping_sub(self.head_seen) == capacity {
                return Err(value);
            }
        }
        self.shared.slot(self.tail).with_mut(|slot| {
            // SAFETY: the slot at `tail` is empty and ours: the consumer does not look there before `tail` passes
            // it, and has left it if it was there before, as `head_seen` shows.
            unsafe { slot.write(MaybeUninit::new(value)) };
        });
        self.tail = self.tail.wrapping_add(1);
        self.shared.tail.0.store(self.tail, Ordering::Release);
        Ok(())
    }
}

impl<T> Consumer<T> {
    /// Takes the oldest value out, if there is one.
    pub fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let value = self.shared.take(self.head);
        self.head = self.head.wrapping_add(1);
        self.shared.head.0.store(self.head, Ordering::Release);
        Some(value)
    }

    /// Takes up to `most` values out, oldest first.
    pub fn drain(&mut self, most: usize) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.pop()).take(most)
    }

    /// Whether nothing is in. A push that is not marked yet may go unseen.
    pub fn is_empty(&mut self) -> bool {
        if self.head == self.tail_seen {
            self.tail_seen = self.shared.tail.0.load(Ordering::Acquire);
        }
        self.head == self.tail_seen
    }
}

/// Which of a shard's incoming rings hold something: one bit per sender.
pub struct DirtyMap {
    words: Box<[Padded<AtomicU64>]>,
}

impl DirtyMap {
    /// For senders `0..count`, none marked.
    pub fn new(count: usize) -> DirtyMap {
        DirtyMap { words: (0..count.div_ceil(64)).map(|_| Padded(AtomicU64::new(0))).collect() }
    }

    /// Marks sender `from`. Call after the push and before [`Sleep::should_ring`].
    ///
    /// # Panics
    /// When there is no such sender.
    pub fn mark(&self, from: usize) {
        // Always a read-modify-write, never a look first: a plain load may see a mark that was taken already.
        self.words[from / 64].0.fetch_or(1 << (from % 64), Ordering::Release);
    }

    /// The marked senders, each unmarked as its word is reached; take from their rings afterwards.
    pub fn take(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let marked = match word.0.load(Ordering::Relaxed) {
                0 => 0,
                _ => word.0.swap(0, Ordering::Acquire),
            };
            bits(marked).map(move |bit| index * 64 + bit)
        })
    }

    /// Whether no sender is marked.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| word.0.load(Ordering::Relaxed) == 0)
    }
}

/// The numbers of the bits set in `word`, lowest first.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        word &= word.checked_sub(1)?;
        Some(bit)
    })
}

/// One sleeper's announcement that it is about to sleep, or does.
pub struct Sleep {
    sleeping: Padded<AtomicBool>,
}

impl Default for Sleep {
    fn default() -> Sleep {
        Sleep::new()
    }
}

impl Sleep {
    /// Of a sleeper that is awake.
    pub fn new() -> Sleep {
        Sleep { sleeping: Padded(AtomicBool::new(false)) }
    }

    /// Sleeper: announces the sleep. Then look again at everything that a sender might have published, and sleep
    /// only if there is nothing.
    pub fn prepare(&self) {
        self.sleeping.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Sleeper: takes the announcement back, after sleeping or instead of it. A sender that saw it just before may
    /// still ring; such a ring means nothing.
    pub fn awake(&self) {
        // Most turns were never announced: leave the line shared then. A swap, not a store, so that whatever a
        // sender wrote meanwhile comes before the next announcement.
        if self.sleeping.0.load(Ordering::Relaxed) {
            self.sleeping.0.swap(false, Ordering::Relaxed);
        }
    }

    /// Sender: whether to ring the bell, once what the sleeper shall see has been published. Of all senders since
    /// the announcement exactly one is told so.
    #[must_use]
    pub fn should_ring(&self) -> bool {
        fence(Ordering::SeqCst);
        let sleeping = &self.sleeping.0;
        sleeping.load(Ordering::Relaxed)
            && sleeping.compare_exchange(true, false, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Rounds of the threaded tests; Miri takes a thousand times as long for each.
    const ROUNDS: usize = if cfg!(miri) { 200 } else { 200_000 };

    #[test]
    fn values_come_out_in_order_and_a_full_ring_gives_back() {
        let (mut producer, mut consumer) = ring(3);
        for lap in 0..10 {
            for n in 0..4 {
                assert_eq!(producer.push(lap * 10 + n), Ok(()));
            }
            assert_eq!(producer.push(99), Err(99));
            assert_eq!(consumer.pop(), Some(lap * 10));
            assert_eq!(producer.push(lap * 10 + 4), Ok(()));
            assert_eq!(consumer.drain(2).collect::<Vec<_>>(), [lap * 10 + 1, lap * 10 + 2]);
            assert_eq!(consumer.drain(9).collect::<Vec<_>>(), [lap * 10 + 3, lap * 10 + 4]);
            assert!(consumer.is_empty());
        }
    }

    #[test]
    fn what_was_never_taken_is_dropped_once() {
        let value = std::sync::Arc::new(());
        let (mut producer, mut consumer) = ring(8);
        for _ in 0..6 {
            assert!(producer.push(value.clone()).is_ok());
        }
        drop(consumer.pop());
        drop(producer);
        drop(consumer);
        assert_eq!(std::sync::Arc::strong_count(&value), 1);
    }

    #[test]
    fn indexes_may_wrap_around() {
        let (mut producer, mut consumer) = ring(2);
        let near = usize::MAX - 1;
        producer.shared.head.0.store(near, Ordering::Relaxed);
        producer.shared.tail.0.store(near, Ordering::Relaxed);
        (producer.tail, producer.head_seen) = (near, near);
        (consumer.head, consumer.tail_seen) = (near, near);
        for n in 0..9 {
            assert_eq!(producer.push(n), Ok(()));
            assert_eq!(producer.push(n + 100), Ok(()));
            assert_eq!(producer.push(0), Err(0));
            assert_eq!((consumer.pop(), consumer.pop(), consumer.pop()), (Some(n), Some(n + 100), None));
        }
    }

    #[test]
    fn marks_are_taken_once_and_in_order() {
        let map = DirtyMap::new(130);
        assert!(map.is_empty());
        for from in [129, 0, 63, 64, 0] {
            map.mark(from);
        }
        assert!(!map.is_empty());
        assert_eq!(map.take().collect::<Vec<_>>(), [0, 63, 64, 129]);
        assert!(map.is_empty());
        assert_eq!(map.take().count(), 0);
    }

    #[test]
    fn a_mark_made_while_taking_waits_for_the_next_time() {
        let map = DirtyMap::new(2);
        map.mark(0);
        map.mark(1);
        for from in map.take() {
            map.mark(from);
        }
        assert_eq!(map.take().count(), 2);
    }

    #[test]
    fn one_sender_rings_for_one_sleep() {
        let sleep = Sleep::new();
        assert!(!sleep.should_ring());
        sleep.prepare();
        assert!(sleep.should_ring());
        assert!(!sleep.should_ring());
        sleep.prepare();
        sleep.awake();
        assert!(!sleep.should_ring());
    }

    #[test]
    fn a_sleeper_gets_every_letter_between_real_threads() {
        let (mut producer, mut consumer) = ring(16);
        let shared = std::sync::Arc::new((Sleep::new(), DirtyMap::new(1)));
        let theirs = shared.clone();
        let sleeper = std::thread::spawn(move || {
            let (sleep, dirty) = &*theirs;
            let mut expected = 0;
            while expected < ROUNDS {
                sleep.prepare();
                if dirty.is_empty() {
                    // A lost wake-up shows as a test that hangs.
                    std::thread::park();
                }
                sleep.awake();
                for _ in dirty.take() {
                    for value in consumer.drain(usize::MAX) {
                        assert_eq!(value, expected);
                        expected += 1;
                    }
                }
            }
        });
        let (sleep, dirty) = &*shared;
        for n in 0..ROUNDS {
            while producer.push(n).is_err() {
                std::thread::yield_now();
            }
            dirty.mark(0);
            if sleep.should_ring() {
                sleeper.thread().unpark();
            }
        }
        sleeper.join().unwrap();
    }
}
