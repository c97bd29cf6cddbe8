//! The mailbox and the sleep protocol under Loom, which tries every interleaving that matters.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p annulus-engine --release --test loom_mailbox`
//!
//! Without `--cfg loom` this file is empty: the models need Loom's atomics inside the mailbox.
#![cfg(loom)]

use annulus_engine::mailbox::{DirtyMap, Sleep, ring};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// A kernel's bell: rings are not lost, and many before a wait are one.
struct Bell {
    rung: loom::sync::Mutex<bool>,
    heard: loom::sync::Condvar,
}

impl Bell {
    fn new() -> Bell {
        Bell { rung: loom::sync::Mutex::new(false), heard: loom::sync::Condvar::new() }
    }

    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.heard.notify_one();
    }

    /// Loom reports a wait that nobody ends as a deadlock: that is how a lost wake-up shows.
    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.heard.wait(rung).unwrap();
        }
        *rung = false;
    }
}

struct Shard {
    sleep: Sleep,
    dirty: DirtyMap,
    bell: Bell,
    rings: AtomicUsize,
}

impl Shard {
    fn new(senders: usize) -> Arc<Shard> {
        let (sleep, dirty, bell) = (Sleep::new(), DirtyMap::new(senders), Bell::new());
        Arc::new(Shard { sleep, dirty, bell, rings: AtomicUsize::new(0) })
    }

    fn sent(&self, from: usize) {
        self.dirty.mark(from);
        if self.sleep.should_ring() {
            self.rings.fetch_add(1, Ordering::Relaxed);
            self.bell.ring();
        }
    }

    fn sleep_unless_marked(&self) {
        self.sleep.prepare();
        if self.dirty.is_empty() {
            self.bell.wait();
        }
        self.sleep.awake();
    }
}

#[test]
fn a_ring_neither_loses_nor_doubles_nor_reorders() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(2);
        let sender = thread::spawn(move || {
            let mut sent = 0;
            for n in 0..4 {
                if producer.push(Box::new(n)).is_err() {
                    break;
                }
                sent += 1;
            }
            sent
        });
        let mut seen: Vec<usize> = (0..3).filter_map(|_| consumer.pop()).map(|value| *value).collect();
        let sent = sender.join().unwrap();
        seen.extend(consumer.drain(4).map(|value| *value));
        assert_eq!(seen, (0..sent).collect::<Vec<_>>());
    });
}

#[test]
fn what_is_left_in_a_ring_is_dropped_by_either_end() {
    loom::model(|| {
        let counted = Arc::new(());
        let value = counted.clone();
        let (mut producer, mut consumer) = ring(2);
        let sender = thread::spawn(move || {
            let _fits = producer.push(value.clone());
            let _fits = producer.push(value);
        });
        drop(consumer.pop());
        drop(consumer);
        sender.join().unwrap();
        assert_eq!(Arc::strong_count(&counted), 1);
    });
}

#[test]
fn a_sleeper_wakes_for_every_letter_of_one_sender() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(4);
    model.check(|| {
        let (mut producer, mut consumer) = ring(2);
        let shard = Shard::new(1);
        let theirs = shard.clone();
        let sender = thread::spawn(move || {
            for n in 0..2 {
                producer.push(n).expect("the ring has room for both");
                theirs.sent(0);
            }
        });
        let mut expected = 0;
        while expected < 2 {
            shard.sleep_unless_marked();
            for _ in shard.dirty.take() {
                for value in consumer.drain(2) {
                    assert_eq!(value, expected);
                    expected += 1;
                }
            }
        }
        sender.join().unwrap();
    });
}

#[test]
fn a_sleeper_wakes_for_two_senders_and_one_of_them_rings_per_sleep() {
    let mut model = loom::model::Builder::new();
    // Three threads: all schedules with up to three forced switches, which is where such faults show.
    model.preemption_bound = Some(3);
    model.check(|| {
        let shard = Shard::new(2);
        let (ends, mut consumers): (Vec<_>, Vec<_>) = (0..2).map(|_| ring(1)).unzip();
        let senders: Vec<_> = ends
            .into_iter()
            .enumerate()
            .map(|(from, mut producer)| {
                let shard = shard.clone();
                thread::spawn(move || {
                    producer.push(from).expect("the ring has room for one");
                    shard.sent(from);
                })
            })
            .collect();
        let mut received = 0;
        let mut sleeps = 0;
        while received < 2 {
            shard.sleep_unless_marked();
            sleeps += 1;
            for from in shard.dirty.take() {
                assert_eq!(consumers[from].pop(), Some(from));
                received += 1;
            }
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        assert!(shard.rings.load(Ordering::Relaxed) <= sleeps);
    });
}
