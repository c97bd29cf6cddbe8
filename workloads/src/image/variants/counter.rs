//! Who waits for which variant: many who ask for the same one wait for one making of it.
//!
//! ```text
//!   wish ─┬─ failed a moment ago ─► the same fault
//!         ├─ waits or is being made ─► joins
//!         ├─ too many wait ─► busy
//!         └─► waits ─► next ─► a lane makes it ─► all who wait are told
//! ```
//!
//! It belongs to the dispatcher's thread, which alone knows what runs; so nothing is locked, and shards coalesce among each
//! other as tasks of one shard do. Nobody is forgotten: a ticket is answered, or dropped, which says that there is no answer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use annulus_engine::compute::Ticket;

use super::{Made, Refused, Variants, Wish};
use crate::image::admission::Pace;
use crate::image::fault::{Fault, Kind};
use crate::image::lanes::Stop;
use crate::image::store::Key;

/// How long a variant that cannot be made is not tried again: whoever asks gets the same answer, and no worker is ended
/// again by what has just ended one.
const FAULT_KEPT: Duration = Duration::from_secs(60);
/// Variants that are remembered so. Beyond, the oldest are forgotten.
const FAULTS_MAX: usize = 4096;

/// See the module's description.
pub struct Counter {
    /// `None`: no variants are offered.
    variants: Option<Arc<Variants>>,
    flights: HashMap<Key, Flight>,
    /// Those that wait, in their order.
    waiting: VecDeque<Key>,
    waiting_cpu_us: u64,
    running: usize,
    faults: HashMap<Key, Fault>,
    /// Until when, in the order in which they came.
    faulty: VecDeque<(Instant, Key)>,
}

/// Who waits for a variant.
type Waiter = Ticket<Result<Made, Refused>>;

/// A variant that is wanted.
struct Flight {
    wish: Arc<Wish>,
    waiters: Vec<Waiter>,
    /// What ends it, once a lane makes it.
    stop: Option<Stop>,
}

impl Counter {
    /// With nobody before it.
    pub fn new(variants: Option<Arc<Variants>>) -> Counter {
        Counter {
            variants,
            flights: HashMap::new(),
            waiting: VecDeque::new(),
            waiting_cpu_us: 0,
            running: 0,
            faults: HashMap::new(),
            faulty: VecDeque::new(),
        }
    }

    /// Somebody wants a variant.
    pub fn take(&mut self, now: Instant, wish: Wish, waiter: Waiter, pace: &Pace) {
        let Some(variants) = self.variants.clone() else { return };
        self.forget(now);
        if let Some(fault) = self.faults.get(&wish.key) {
            return waiter.answer(Err(Refused::Fault(fault.clone())));
        }
        if let Some(flight) = self.flights.get_mut(&wish.key) {
            variants.figures.joined.fetch_add(1, Ordering::Relaxed);
            // Those who left meanwhile make room before there is made more.
            if flight.waiters.len() == flight.waiters.capacity() {
                flight.waiters.retain(|waiter| !waiter.is_abandoned());
            }
            return flight.waiters.push(waiter);
        }
        if self.waiting.len() >= variants.settings.waiting_max {
            self.leave();
        }
        if self.waiting.len() >= variants.settings.waiting_max {
            variants.figures.refused.fetch_add(1, Ordering::Relaxed);
            return waiter.answer(Err(Refused::Busy(pace.duration(self.waiting_cpu_us))));
        }
        self.waiting_cpu_us = self.waiting_cpu_us.saturating_add(wish.cost.cpu_us);
        self.waiting.push_back(wish.key);
        self.flights.insert(wish.key, Flight { wish: Arc::new(wish), waiters: vec![waiter], stop: None });
        self.tell();
    }

    /// The next one that somebody waits for. It stays the next one until it [begins](Counter::begin).
    pub fn first(&mut self) -> Option<Arc<Wish>> {
        while let Some(key) = self.waiting.front() {
            let flight = self.flights.get(key)?;
            if flight.waiters.iter().any(|waiter| !waiter.is_abandoned()) {
                return Some(flight.wish.clone());
            }
            self.unqueue();
        }
        None
    }

    /// The next one is being made, until [`Counter::ended`] is told.
    pub fn begin(&mut self, stop: &Stop) {
        let Some(key) = self.waiting.pop_front() else { return };
        let Some(flight) = self.flights.get_mut(&key) else { return };
        flight.stop = Some(stop.clone());
        self.waiting_cpu_us = self.waiting_cpu_us.saturating_sub(flight.wish.cost.cpu_us);
        self.running += 1;
        self.tell();
    }

    /// The next one cannot be made here at all.
    pub fn refuse(&mut self, now: Instant, fault: Fault) {
        let Some(key) = self.waiting.front().copied() else { return };
        self.begin(&Stop::default());
        self.ended(now, key, &Err(Refused::Fault(fault)));
    }

    /// A variant is in the store, or will not be.
    pub fn ended(&mut self, now: Instant, key: Key, result: &Result<Made, Refused>) {
        let Some(flight) = self.flights.remove(&key) else { return };
        self.running -= usize::from(flight.stop.is_some());
        if let Err(Refused::Fault(fault)) = result {
            self.remember(now, key, fault);
        }
        if let Some(variants) = &self.variants {
            let figure = if result.is_ok() { &variants.figures.made } else { &variants.figures.failed };
            figure.fetch_add(1, Ordering::Relaxed);
        }
        flight.waiters.into_iter().for_each(|waiter| waiter.answer(result.clone()));
        self.tell();
    }

    /// Whether a lane makes one.
    pub fn is_running(&self) -> bool {
        self.running > 0
    }

    /// Nothing more begins: those who wait learn that there is no answer.
    pub fn close(&mut self) {
        while !self.waiting.is_empty() {
            self.unqueue();
        }
        self.tell();
    }

    /// Ends what is being made.
    pub fn stop_all(&self) {
        self.flights.values().filter_map(|flight| flight.stop.as_ref()).for_each(Stop::stop);
    }

    /// Takes out whom everybody has left.
    fn leave(&mut self) {
        for key in std::mem::take(&mut self.waiting) {
            let is_left = self.flights.get(&key).is_none_or(|flight| flight.waiters.iter().all(Ticket::is_abandoned));
            if is_left { self.lose(&key) } else { self.waiting.push_back(key) }
        }
    }

    /// Drops the first one that waits.
    fn unqueue(&mut self) {
        if let Some(key) = self.waiting.pop_front() {
            self.lose(&key);
        }
    }

    fn lose(&mut self, key: &Key) {
        if let Some(flight) = self.flights.remove(key) {
            self.waiting_cpu_us = self.waiting_cpu_us.saturating_sub(flight.wish.cost.cpu_us);
        }
    }

    fn remember(&mut self, now: Instant, key: Key, fault: &Fault) {
        // A disk that failed, or a service that ended, says nothing of the variant.
        if fault.kind == Kind::Io {
            return;
        }
        if self.faulty.len() >= FAULTS_MAX
            && let Some((_, oldest)) = self.faulty.pop_front()
        {
            self.faults.remove(&oldest);
        }
        self.faulty.push_back((now + FAULT_KEPT, key));
        self.faults.insert(key, fault.clone());
    }

    fn forget(&mut self, now: Instant) {
        while let Some((until, key)) = self.faulty.front().copied() {
            if until > now {
                return;
            }
            self.faulty.pop_front();
            self.faults.remove(&key);
        }
    }

    fn tell(&self) {
        if let Some(variants) = &self.variants {
            variants.figures.waiting.store(self.waiting.len() as u64, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use annulus_engine::compute::{Reply, ticket};

    use super::*;
    use crate::image::format::Format;
    use crate::image::queue::trial::header;
    use crate::image::recipe::Recipe;
    use crate::image::store::Suffix;
    use crate::image::variants::VariantSettings;

    struct Bar {
        counter: Counter,
        variants: Arc<Variants>,
        pace: Arc<Pace>,
        now: Instant,
    }

    impl Bar {
        fn new(waiting_max: usize) -> Bar {
            let settings = VariantSettings { waiting_max, ..VariantSettings::default() };
            let variants = Arc::new(Variants::new(settings));
            Bar { counter: Counter::new(Some(variants.clone())), variants, pace: Pace::new(1), now: Instant::now() }
        }

        fn ask(&mut self, number: u8) -> Reply<Result<Made, Refused>> {
            let (ticket, reply) = ticket();
            let recipe = Recipe::named("variant");
            let mut wish = Wish::of(key(number), key(0), 10, header(), recipe);
            wish.cost.cpu_us = 3_000_000;
            self.counter.take(self.now, wish, ticket, &self.pace);
            reply
        }

        fn figures(&self) -> [u64; 5] {
            let figures = &self.variants.figures;
            [&figures.made, &figures.joined, &figures.refused, &figures.failed, &figures.waiting]
                .map(|figure| figure.load(Ordering::Relaxed))
        }
    }

    fn key(number: u8) -> Key {
        Key { name: [number; 32], suffix: Suffix::Variant }
    }

    const MADE: Made = Made { format: Format::Webp };

    #[test]
    fn all_who_ask_for_the_same_get_one() {
        let mut bar = Bar::new(10);
        let early = [bar.ask(1), bar.ask(1)];
        let other = bar.ask(2);
        assert_eq!(bar.counter.first().unwrap().key, key(1));
        bar.counter.begin(&Stop::default());
        let late = bar.ask(1);
        assert_eq!(bar.counter.first().unwrap().key, key(2));
        assert!(bar.counter.is_running());
        bar.counter.ended(bar.now, key(1), &Ok(MADE));
        for reply in early.into_iter().chain([late]) {
            assert_eq!(reply.wait(), Some(Ok(MADE)));
        }
        assert!(!bar.counter.is_running());
        assert_eq!(bar.figures(), [1, 2, 0, 0, 1]);
        // The service ends.
        bar.counter.close();
        assert!(other.wait().is_none() && bar.counter.first().is_none());
        assert_eq!(bar.figures(), [1, 2, 0, 0, 0]);
    }

    #[test]
    fn too_many_are_told_how_long_it_will_take() {
        let mut bar = Bar::new(2);
        let (one, two) = (bar.ask(1), bar.ask(2));
        assert_eq!(bar.ask(3).wait(), Some(Err(Refused::Busy(Duration::from_secs(6)))));
        // To join costs nothing.
        let again = bar.ask(2);
        // Whom everybody has left makes room, wherever it stands.
        drop((two, again));
        let three = bar.ask(3);
        assert_eq!(bar.figures(), [0, 1, 1, 0, 2]);
        drop(one);
        assert_eq!(bar.counter.first().unwrap().key, key(3));
        drop(three);
        assert!(bar.counter.first().is_none());
        assert_eq!(bar.counter.waiting_cpu_us, 0);
    }

    #[test]
    fn what_cannot_be_made_is_not_tried_again_at_once() {
        let mut bar = Bar::new(10);
        let reply = bar.ask(1);
        let fault = Fault::new(Kind::Crashed, "its worker was killed");
        bar.counter.refuse(bar.now, fault.clone());
        assert_eq!(reply.wait(), Some(Err(Refused::Fault(fault.clone()))));
        assert_eq!(bar.ask(1).wait(), Some(Err(Refused::Fault(fault))));
        bar.now += FAULT_KEPT;
        let _again = bar.ask(1);
        assert_eq!(bar.counter.first().unwrap().key, key(1));
        // What is our own fault is tried at once.
        bar.counter.refuse(bar.now, Fault::new(Kind::Io, "the disk"));
        let _again = bar.ask(1);
        assert_eq!(bar.counter.first().unwrap().key, key(1));
        assert_eq!(bar.figures()[3], 2);
        for number in 0..=FAULTS_MAX {
            let mut name = [0; 32];
            name[..8].copy_from_slice(&(number as u64).to_le_bytes());
            bar.counter.remember(bar.now, Key { name, suffix: Suffix::Variant }, &Fault::new(Kind::BadImage, "bad"));
        }
        assert_eq!((bar.counter.faults.len(), bar.counter.faulty.len()), (FAULTS_MAX, FAULTS_MAX));
    }
}
