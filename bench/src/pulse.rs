//! When a service last did what it is there for, and the longest time in which it did not: how outages are measured.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Beats, from any thread.
#[derive(Debug, Default)]
pub struct Pulse {
    beats: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    longest: Duration,
}

impl Pulse {
    /// It did it once more.
    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let mut state = self.state.lock().expect("nobody panics with it");
        if let Some(last) = state.last.replace(now) {
            state.longest = state.longest.max(now - last);
        }
    }

    /// How often so far.
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// The longest time between two beats so far, the one since the last included.
    pub fn longest(&self) -> Duration {
        let state = self.state.lock().expect("nobody panics with it");
        state.longest.max(state.last.map_or(Duration::ZERO, |last| last.elapsed()))
    }

    /// Waits for so many more beats; how long that took. Nothing when they do not come in time.
    pub fn wait(&self, more: u64, within: Duration) -> Option<Duration> {
        let (from, began) = (self.beats(), Instant::now());
        while self.beats() < from + more {
            if began.elapsed() > within {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Some(began.elapsed())
    }

    /// Forgets the longest time: what follows is measured anew.
    pub fn begin(&self) {
        *self.state.lock().expect("nobody panics with it") = State { last: Some(Instant::now()), ..State::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_time_without_a_beat_is_kept() {
        let pulse = Pulse::default();
        pulse.begin();
        std::thread::sleep(Duration::from_millis(30));
        pulse.beat();
        pulse.beat();
        assert_eq!(pulse.beats(), 2);
        assert!(pulse.longest() >= Duration::from_millis(30));
        pulse.begin();
        assert!(pulse.longest() < Duration::from_millis(30));
        assert_eq!(pulse.wait(1, Duration::from_millis(5)), None);
    }
}
