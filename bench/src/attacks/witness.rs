//! Well-behaved clients at a steady rate: what others notice of an attack.
//!
//! The load is open: requests are due by the clock, a few blocking clients share them, and latency counts from when a request
//! was due. So a server that stands still is seen by all that would have come meanwhile.

use crate::histogram::{latencies, percentile_us};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What became of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered as it should be, after it was turned away so often.
    Good(u64),
    /// Turned away again and again with a status that says so: 429, 503.
    Refused,
    /// Anything else, in words.
    Failed(String),
}

/// One client: asks, waits, and tells what became of it. It makes its connection anew where that broke.
pub type Client = Box<dyn FnMut() -> Outcome + Send>;

/// What clients were told in a time.
#[derive(Clone, Debug)]
pub struct Heard {
    /// From when a request was due to its answer's end, in nanoseconds; good answers only.
    pub latency: Histogram<u64>,
    /// Turned away and answered later.
    pub again: u64,
    /// Turned away for good.
    pub refused: u64,
    /// Failed, by reason.
    pub failed: BTreeMap<String, u64>,
}

impl Default for Heard {
    fn default() -> Heard {
        Heard { latency: latencies(), again: 0, refused: 0, failed: BTreeMap::new() }
    }
}

impl Heard {
    /// Requests that have ended.
    pub fn ended(&self) -> u64 {
        self.latency.len() + self.refused + self.failures()
    }

    /// Requests that failed.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// A percentile in milliseconds; none without good answers.
    pub fn ms(&self, percentile: f64) -> Option<f64> {
        percentile_us(&self.latency, percentile).map(|us| us / 1e3)
    }

    /// What was heard later, too.
    pub fn add(&mut self, other: &Heard) {
        // Both have the same bounds.
        let _always_fits = self.latency.add(&other.latency);
        self.again += other.again;
        self.refused += other.refused;
        for (why, count) in &other.failed {
            *self.failed.entry(why.clone()).or_default() += count;
        }
    }

    fn note(&mut self, outcome: Outcome, took: Duration) {
        match outcome {
            Outcome::Good(times) => {
                self.latency.saturating_record(took.as_nanos() as u64);
                self.again += u64::from(times > 0);
            }
            Outcome::Refused => self.refused += 1,
            Outcome::Failed(why) => *self.failed.entry(why).or_default() += 1,
        }
    }
}

/// The clients at work.
pub struct Witness {
    stop: Arc<AtomicBool>,
    heard: Arc<Mutex<Heard>>,
    threads: Vec<JoinHandle<()>>,
}

impl Witness {
    /// Lets clients begin with `rate` requests per second in all.
    pub fn start(rate: f64, clients: Vec<Client>) -> Witness {
        let (stop, heard) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Heard::default())));
        let (began, count) = (Instant::now(), clients.len());
        let work = |(index, mut client): (usize, Client)| {
            let (stop, heard) = (stop.clone(), heard.clone());
            std::thread::spawn(move || {
                for number in 0.. {
                    let due = began + Duration::from_secs_f64((number * count + index) as f64 / rate);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let outcome = client();
                    heard.lock().unwrap_or_else(PoisonError::into_inner).note(outcome, due.elapsed());
                }
            })
        };
        let threads = clients.into_iter().enumerate().map(work).collect();
        Witness { stop, heard, threads }
    }

    /// What was heard since the last time.
    pub fn take(&self) -> Heard {
        std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _a_panic_was_told_on_stderr = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_seen_by_all_who_were_due_in_it() {
        let mut first = true;
        let client: Client = Box::new(move || {
            if std::mem::take(&mut first) {
                std::thread::sleep(Duration::from_millis(100));
            }
            Outcome::Good(0)
        });
        let witness = Witness::start(100.0, vec![client]);
        std::thread::sleep(Duration::from_millis(200));
        let heard = witness.take();
        assert!(heard.latency.len() >= 10, "{}", heard.latency.len());
        assert!(heard.ms(90.0).unwrap() > 30.0, "{:?}", heard.ms(90.0));
    }

    #[test]
    fn failures_and_refusals_are_told_apart() {
        let mut heard = Heard::default();
        heard.note(Outcome::Failed("closed".into()), Duration::ZERO);
        heard.note(Outcome::Refused, Duration::ZERO);
        heard.note(Outcome::Good(2), Duration::from_millis(2));
        assert_eq!((heard.ended(), heard.failures(), heard.refused, heard.again), (3, 1, 1, 1));
        assert!((heard.ms(50.0).unwrap() - 2.0).abs() < 0.1);
        assert_eq!(Heard::default().ms(50.0), None);
    }
}
