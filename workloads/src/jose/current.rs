//! The value in force, read by shards that must not wait, replaced now and then.
//!
//! ```text
//!   readers ─► index ─► slot 0   ◄── in force
//!                       slot 1   ◄── a publisher writes here, then turns the index
//! ```
//!
//! A publisher writes only into the slot that is not in force. So a reader that finds its slot being written to has
//! read an index that was turned since, and finds the other slot free when it looks again: only somebody else's
//! progress sends it back, and it never waits for one who sleeps. A publisher does not wait either: where a reader
//! still holds the old slot, or another publishes, it gives up and says so.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock, TryLockError};

/// Holds one `Arc<T>`.
#[derive(Debug)]
pub(super) struct Current<T> {
    slots: [RwLock<Arc<T>>; 2],
    index: AtomicUsize,
    publishing: Mutex<()>,
}

impl<T> Current<T> {
    pub(super) fn new(value: T) -> Current<T> {
        let value = Arc::new(value);
        let slots = [RwLock::new(value.clone()), RwLock::new(value)];
        Current { slots, index: AtomicUsize::new(0), publishing: Mutex::new(()) }
    }

    /// The value in force.
    pub(super) fn load(&self) -> Arc<T> {
        loop {
            match self.slots[self.index.load(Ordering::Acquire) % 2].try_read() {
                Ok(value) => return value.clone(),
                // Nobody panics while he holds one; what is there is whole in any case.
                Err(TryLockError::Poisoned(value)) => return value.into_inner().clone(),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
    }

    /// Puts another in force; `false` if it could not be done at once.
    #[must_use]
    pub(super) fn publish(&self, value: Arc<T>) -> bool {
        let publishing = match self.publishing.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let spare = (self.index.load(Ordering::Relaxed) + 1) % 2;
        match self.slots[spare].try_write() {
            Ok(mut slot) => *slot = value,
            Err(TryLockError::Poisoned(slot)) => *slot.into_inner() = value,
            Err(TryLockError::WouldBlock) => return false,
        }
        // The slot is free again before anybody is sent to it.
        self.index.store(spare, Ordering::Release);
        drop(publishing);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn what_was_published_is_read() {
        let current = Current::new(1);
        for value in 2..10 {
            assert_eq!(*current.load(), value - 1);
            assert!(current.publish(Arc::new(value)));
            assert_eq!(*current.load(), value);
        }
    }

    #[test]
    fn a_publisher_gives_up_instead_of_waiting() {
        let current = Current::new(1);
        let late = current.slots[1].read().unwrap(); // One who read the index long ago.
        assert!(!current.publish(Arc::new(2)));
        assert_eq!(*current.load(), 1);
        drop(late);
        let other = current.publishing.lock().unwrap();
        assert!(!current.publish(Arc::new(2)));
        drop(other);
        assert!(current.publish(Arc::new(2)));
        assert_eq!(*current.load(), 2);
    }

    #[test]
    fn readers_see_whole_values_in_order_while_others_publish() {
        let (current, stop) = (Current::new((0u64, 0u64)), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut last = 0;
                        while !stop.load(Ordering::Relaxed) {
                            let (a, b) = *current.load();
                            assert_eq!(a, b);
                            assert!(a >= last, "{a} after {last}");
                            last = a;
                        }
                        last
                    })
                })
                .collect();
            let mut published = 0;
            for value in 1..=20_000 {
                published += current.publish(Arc::new((value, value))) as u64;
            }
            stop.store(true, Ordering::Relaxed);
            assert!(published > 0);
            for reader in readers {
                assert!(reader.join().unwrap() <= 20_000);
            }
        });
    }
}
