//! Refusing early what could only be answered late, by priority.
//!
//! Two things say that there is too much: how far the shard lags behind its own clock (CoDel: a lag that never falls
//! below 5 ms for 100 ms), and how much of the memory for answers is taken. Each maps to a level, the higher counts, and a
//! level is left only after it was not needed for a while, so that it does not flutter.
//!
//! ```text
//!   calm ─► no retries ─► only what is required ─► no sheddable, and a share of the others ─► critical only
//!                                                  (the share follows the lag)               (memory alone)
//! ```
//!
//! To refuse everything until the lag is gone would waste what the shard can do meanwhile. So beyond the third step the
//! share of normal requests that are refused grows while the shard lags, and shrinks slowly while it does not.

use std::cell::Cell;
use std::time::Duration;

use super::config::model::Priority;
use super::memory::{self, Memory};

/// A shard that lags less than this is well (CoDel's target).
const LAG_TARGET: Duration = Duration::from_millis(5);
/// So long must it lag before anything is refused (CoDel's interval).
const LAG_INTERVAL: Duration = Duration::from_millis(100);
/// By so much the share of refused requests changes, up while the shard lags and down while it does not.
const SHARE_UP: f64 = 0.10;
const SHARE_DOWN: f64 = 0.03;
/// How often it changes.
const SHARE_INTERVAL: Duration = Duration::from_millis(50);
/// The largest share: some must come through to see whether it is over.
const SHARE_MAX: f64 = 0.95;
/// A level is left at the earliest after this.
const LEVEL_MIN: Duration = Duration::from_millis(250);

/// How much is given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    #[default]
    Calm,
    /// Calls are not repeated.
    NoRetries,
    /// Backends that are not required are left out.
    RequiredOnly,
    /// Sheddable requests are refused, and a share of the normal ones.
    NoSheddable,
    /// All but critical requests are refused.
    CriticalOnly,
}

impl Level {
    const ALL: [Level; 5] =
        [Level::Calm, Level::NoRetries, Level::RequiredOnly, Level::NoSheddable, Level::CriticalOnly];

    fn next(self) -> Level {
        Level::ALL[(self as usize + 1).min(Level::ALL.len() - 1)]
    }

    fn before(self) -> Level {
        Level::ALL[(self as usize).saturating_sub(1)]
    }

    /// As the dashboard says it.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Calm => "calm",
            Level::NoRetries => "no retries",
            Level::RequiredOnly => "required backends only",
            Level::NoSheddable => "no sheddable requests",
            Level::CriticalOnly => "critical requests only",
        }
    }

    /// Whether requests of a priority are refused.
    pub fn refuses(self, priority: Priority) -> bool {
        match priority {
            Priority::Sheddable => self >= Level::NoSheddable,
            Priority::Normal => self >= Level::CriticalOnly,
            Priority::Critical => false,
        }
    }
}

/// One shard's shedding.
#[derive(Default)]
pub struct Shedder {
    level: Cell<Level>,
    /// When the level was last raised, or last needed.
    needed: Cell<Duration>,
    /// Since when every measured lag was above the target.
    lagging_since: Cell<Option<Duration>>,
    /// The share of normal requests to refuse, when it changed last, and what is owed to it.
    share: Cell<f64>,
    share_changed: Cell<Duration>,
    owed: Cell<f64>,
}

impl Shedder {
    /// Takes note of how late the shard is, at least every few milliseconds; and of the memory.
    pub fn observe(&self, now: Duration, lag: Duration, memory: &Memory) {
        let by_memory = match memory.share() {
            share if share >= memory::HARD => Level::CriticalOnly,
            share if share >= memory::SOFT => Level::RequiredOnly,
            _ => Level::Calm,
        };
        let lagging = match (lag > LAG_TARGET, self.lagging_since.get()) {
            (false, _) => {
                self.lagging_since.set(None);
                false
            }
            (true, None) => {
                self.lagging_since.set(Some(now));
                false
            }
            (true, Some(since)) => now.saturating_sub(since) >= LAG_INTERVAL,
        };
        let level = self.level.get();
        if level == Level::NoSheddable && now.saturating_sub(self.share_changed.get()) >= SHARE_INTERVAL {
            let change = if lag > LAG_TARGET { SHARE_UP } else { -SHARE_DOWN };
            self.share.set((self.share.get() + change).clamp(0.0, SHARE_MAX));
            self.share_changed.set(now);
        }
        if by_memory > level {
            self.set(by_memory, now);
        } else if lagging && level < Level::NoSheddable {
            // One step, and another interval to see whether it was enough.
            self.set(level.next(), now);
            self.lagging_since.set(Some(now));
        } else if lagging || self.share.get() > 0.0 {
            self.needed.set(now);
        } else if lag <= LAG_TARGET && by_memory < level && now.saturating_sub(self.needed.get()) >= LEVEL_MIN {
            self.set(level.before(), now);
        }
    }

    fn set(&self, level: Level, now: Duration) {
        self.level.set(level);
        self.needed.set(now);
    }

    /// Whether a request of that priority is to be refused: decided anew for each.
    pub fn refuses(&self, priority: Priority) -> bool {
        if self.level.get().refuses(priority) {
            return true;
        }
        if self.level.get() < Level::NoSheddable || priority == Priority::Critical {
            return false;
        }
        // Evenly spread: after three that pass, one that does not.
        let owed = self.owed.get() + self.share.get();
        self.owed.set(owed - owed.floor());
        owed >= 1.0
    }

    /// What is given up now.
    pub fn level(&self) -> Level {
        self.level.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::memory::{Held, Tab};
    use std::sync::Arc;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_lag_that_stays_raises_the_level_step_by_step_and_calm_lowers_it() {
        let (shedder, memory) = (Shedder::default(), Memory::new(100));
        let mut seen = vec![Level::Calm];
        for ms in 0..700 {
            shedder.observe(at(ms), at(20), &memory);
            if seen.last() != Some(&shedder.level()) {
                seen.push(shedder.level());
            }
        }
        assert_eq!(seen, Level::ALL[..4], "critical only is for memory");
        let refused = (0..1000).filter(|_| shedder.refuses(Priority::Normal)).count();
        assert!((500..=950).contains(&refused), "{refused}");
        assert!(!shedder.refuses(Priority::Critical) && shedder.refuses(Priority::Sheddable));
        for ms in 700..1000 {
            shedder.observe(at(ms), at(1), &memory);
        }
        assert_eq!(shedder.level(), Level::NoSheddable);
        for ms in 1000..5000 {
            shedder.observe(at(ms), at(1), &memory);
        }
        assert_eq!(shedder.level(), Level::Calm);
        assert!(!shedder.refuses(Priority::Sheddable));
    }

    #[test]
    fn a_lag_that_passes_is_nothing() {
        let (shedder, memory) = (Shedder::default(), Memory::new(100));
        for ms in 0..5000 {
            let lag = if ms % 90 == 0 { at(0) } else { at(50) };
            shedder.observe(at(ms), lag, &memory);
        }
        assert_eq!(shedder.level(), Level::Calm);
    }

    #[test]
    fn memory_has_two_marks() {
        let (shedder, memory) = (Shedder::default(), Arc::new(Memory::new(100)));
        let tab = Tab::new(&memory);
        let mut held = Held::of(&tab, 85);
        shedder.observe(at(0), at(0), &memory);
        assert_eq!(shedder.level(), Level::RequiredOnly);
        held.set(95);
        shedder.observe(at(1), at(0), &memory);
        assert_eq!(shedder.level(), Level::CriticalOnly);
    }

    #[test]
    fn priorities_are_refused_in_order() {
        use Priority::{Critical, Normal, Sheddable};
        let refused = |level: Level| [Sheddable, Normal, Critical].map(|priority| level.refuses(priority));
        assert_eq!(refused(Level::RequiredOnly), [false, false, false]);
        assert_eq!(refused(Level::NoSheddable), [true, false, false]);
        assert_eq!(refused(Level::CriticalOnly), [true, true, false]);
    }
}
