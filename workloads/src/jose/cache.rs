//! When a key set is fetched from its endpoint, and what is known meanwhile. No socket and no clock: somebody else
//! fetches, and says what came of it.
//!
//! ```text
//!            begin_fetch                  on_fetched(Ok)
//!   Never ───────────────► Flying(began) ───────────────► Landed(ended)
//!                            ▲      └────────────────────► Failed(ended)
//!                            │        on_fetched(Err)          │
//!                            └── interval after `ended` ◄──────┘ (and from Landed)
//! ```
//!
//! The whole of that is one word, changed by compare-and-swap, so that all shards share one cache, one fetch is under
//! way at most, and no shard waits for another. The set itself is in a [`Current`].
//!
//! Tokens name their key's id, and anybody can make up ids. So what a fetch brought is also the answer for the ids that
//! it did not bring, until the interval is over: however many made-up ids come, there is one fetch per interval.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::current::Current;
use super::jwks::{KeySet, Skipped};
use super::keys::PublicKey;

/// How often a set is fetched and how long it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// From the end of one fetch to the beginning of the next, at least, in seconds; 1 at least. So long an id that the
    /// last fetch did not bring is taken for unknown.
    pub interval_seconds: u64,
    /// After so many seconds a set is fetched again, though no id was missing: keys may have been withdrawn.
    pub age_seconds_max: u64,
    /// So many seconds after the last good fetch its keys are used no longer; until then, an endpoint that fails goes
    /// unnoticed by clients. Not below `age_seconds_max`.
    pub stale_seconds_max: u64,
    /// A fetch without a result is given up after so many seconds; whoever fetches should give up before.
    pub fetch_seconds_max: u64,
}

impl Default for Times {
    fn default() -> Times {
        Times { interval_seconds: 10, age_seconds_max: 3600, stale_seconds_max: 24 * 3600, fetch_seconds_max: 15 }
    }
}

impl Times {
    /// As they are, but for a set's age, which is up to a tenth less, by `word`: those who began together do not go on asking
    /// together.
    #[must_use]
    pub fn spread(self, word: u64) -> Times {
        let tenth = self.age_seconds_max / 10;
        Times { age_seconds_max: self.age_seconds_max - word % (tenth + 1), ..self }
    }
}

/// What is known of a key id.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Lookup {
    /// The key.
    Found(Arc<PublicKey>),
    /// A fetch is under way or may begin: call [`JwksCache::begin_fetch`], and ask again when it ended. Then the answer
    /// is another, so nobody waits twice.
    Wait,
    /// The set was fetched a moment ago, and there is no such key.
    Unknown,
    /// The set could not be fetched a moment ago. Try again later.
    Unavailable,
}

/// The right to fetch once. To be given back with what came of it; one that is lost counts as failed when its time is
/// up.
#[derive(Debug)]
#[must_use]
pub struct Flight {
    word: u64,
}

/// What a good fetch brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landed {
    /// Keys that can be used.
    pub keys: usize,
    /// Those that cannot.
    pub skipped: Skipped,
}

const NEVER: u64 = 0;
const FLYING: u64 = 1;
const LANDED: u64 = 2;
const FAILED: u64 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Never,
    Flying { began: u64 },
    Landed { ended: u64 },
    Failed { ended: u64 },
}

impl Phase {
    fn of(word: u64) -> Phase {
        let at = word >> 2;
        match word & 3 {
            NEVER => Phase::Never,
            FLYING => Phase::Flying { began: at },
            LANDED => Phase::Landed { ended: at },
            _ => Phase::Failed { ended: at },
        }
    }
}

/// A set and when it came.
#[derive(Debug)]
struct Fetched {
    at: u64,
    set: KeySet,
}

/// The keys of one endpoint, shared by all shards.
#[derive(Debug)]
pub struct JwksCache {
    times: Times,
    word: AtomicU64,
    current: Current<Option<Fetched>>,
}

impl JwksCache {
    /// Before the first fetch.
    pub fn new(times: Times) -> JwksCache {
        JwksCache { times, word: AtomicU64::new(NEVER), current: Current::new(None) }
    }

    /// The key of that id, or what to do without. `now` is in Unix seconds, here and everywhere.
    pub fn lookup(&self, key_id: &str, now: u64) -> Lookup {
        if let Some(fetched) = &*self.current.load()
            && now < fetched.at.saturating_add(self.times.stale_seconds_max)
            && let Some(key) = fetched.set.get(key_id)
        {
            return Lookup::Found(key.clone());
        }
        match Phase::of(self.word.load(Ordering::Acquire)) {
            phase if self.may_begin(phase, now) => Lookup::Wait,
            Phase::Flying { began } if now < began + self.times.fetch_seconds_max => Lookup::Wait,
            Phase::Landed { .. } => Lookup::Unknown,
            Phase::Never | Phase::Flying { .. } | Phase::Failed { .. } => Lookup::Unavailable,
        }
    }

    /// Whether a fetch should begin, without anybody having asked: there is no set, or it is too old. For a timer.
    pub fn is_due(&self, now: u64) -> bool {
        let fresh = |fetched: &Fetched| now < fetched.at.saturating_add(self.times.age_seconds_max);
        !self.current.load().as_ref().as_ref().is_some_and(fresh)
            && self.may_begin(Phase::of(self.word.load(Ordering::Acquire)), now)
    }

    /// The right to fetch now; `None` if somebody has it, or the interval is not over. Only one caller gets it.
    pub fn begin_fetch(&self, now: u64) -> Option<Flight> {
        let word = self.word.load(Ordering::Acquire);
        if !self.may_begin(Phase::of(word), now) {
            return None;
        }
        let flying = now << 2 | FLYING;
        self.word.compare_exchange(word, flying, Ordering::AcqRel, Ordering::Acquire).ok()?;
        Some(Flight { word: flying })
    }

    fn may_begin(&self, phase: Phase, now: u64) -> bool {
        let rest = self.times.interval_seconds.max(1);
        match phase {
            Phase::Never => true,
            // A clock that was put back must not stop fetching until it has caught up.
            Phase::Flying { began } => now >= began + self.times.fetch_seconds_max.max(rest) || now < began,
            Phase::Landed { ended } | Phase::Failed { ended } => now >= ended + rest || now < ended,
        }
    }

    /// What came of a fetch: the body of an answer with status 200, or nothing. Reads the set, so it is not for a
    /// shard's turn.
    ///
    /// # Errors
    /// Why there is no new set, as the end of a sentence; the last one stays in force.
    pub fn on_fetched(&self, flight: Flight, now: u64, body: Result<&[u8], ()>) -> Result<Landed, String> {
        if self.word.load(Ordering::Acquire) != flight.word {
            // What another flight brought, or will bring, is newer.
            return Err("came after its fetch was given up and another began".into());
        }
        let landed = body.map_err(|()| "could not be fetched".to_owned()).and_then(|body| self.take(body, now));
        let ended = now << 2 | if landed.is_ok() { LANDED } else { FAILED };
        // Fails only where this flight was given up while the set was read: then the other's end counts.
        let _ = self.word.compare_exchange(flight.word, ended, Ordering::AcqRel, Ordering::Acquire);
        landed
    }

    fn take(&self, body: &[u8], now: u64) -> Result<Landed, String> {
        let set = KeySet::parse(body)?;
        let landed = Landed { keys: set.len(), skipped: *set.skipped() };
        match self.current.publish(Arc::new(Some(Fetched { at: now, set }))) {
            true => Ok(landed),
            false => Err("could not be put in force at once, as the one before was still being read".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::jwks;
    use super::*;

    const TIMES: Times =
        Times { interval_seconds: 10, age_seconds_max: 100, stale_seconds_max: 1000, fetch_seconds_max: 15 };

    /// What happens, at a second.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// A lookup of a key that the endpoint has, and of one that it has not.
        Looks(Answer, Answer),
        /// Whether a timer would have it fetched.
        Due(bool),
        /// Whether a fetch may begin; if so it is under way.
        Begins(bool),
        /// The fetch under way ends with the set.
        Lands,
        /// It ends with nothing.
        Fails,
        /// It ends with a text that is no set.
        LandsWrong,
        /// Nothing is heard of it again.
        IsLost,
    }
    use Step::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Answer {
        Found,
        Wait,
        Unknown,
        Unavailable,
    }
    use Answer::*;

    fn look(cache: &JwksCache, id: &str, now: u64) -> Answer {
        match cache.lookup(id, now) {
            Lookup::Found(_) => Found,
            Lookup::Wait => Wait,
            Lookup::Unknown => Unknown,
            Lookup::Unavailable => Unavailable,
        }
    }

    fn run(steps: &[(u64, Step)]) {
        run_with(TIMES, steps);
    }

    fn run_with(times: Times, steps: &[(u64, Step)]) {
        let (cache, mut flying) = (JwksCache::new(times), None);
        for &(at, step) in steps {
            match step {
                Looks(known, other) => {
                    assert_eq!((look(&cache, "ed", at), look(&cache, "other", at)), (known, other), "at {at}");
                }
                Due(due) => assert_eq!(cache.is_due(at), due, "at {at}"),
                Begins(begins) => {
                    let flight = cache.begin_fetch(at);
                    assert_eq!(flight.is_some(), begins, "at {at}");
                    flying = flight.or(flying);
                }
                Lands => _ = cache.on_fetched(flying.take().unwrap(), at, Ok(jwks().as_bytes())).unwrap(),
                Fails => _ = cache.on_fetched(flying.take().unwrap(), at, Err(())).unwrap_err(),
                LandsWrong => _ = cache.on_fetched(flying.take().unwrap(), at, Ok(b"{}")).unwrap_err(),
                IsLost => drop(flying.take().unwrap()),
            }
        }
    }

    #[test]
    fn the_first_set() {
        run(&[
            (1000, Looks(Wait, Wait)),
            (1000, Due(true)),
            (1000, Begins(true)),
            (1000, Begins(false)),
            (1001, Due(false)),
            (1001, Looks(Wait, Wait)),
            (1001, Lands),
            (1001, Looks(Found, Unknown)),
            (1001, Due(false)),
        ]);
    }

    #[test]
    fn a_fleet_does_not_fetch_together() {
        let ages: Vec<u64> = (0..1000).map(|word| Times::default().spread(word * 7919).age_seconds_max).collect();
        assert!(ages.iter().all(|age| (3240..=3600).contains(age)));
        let most = ages.iter().map(|age| ages.iter().filter(|other| *other == age).count()).max();
        assert!(most < Some(10), "{most:?} of a thousand in the same second");
        assert_eq!(Times { age_seconds_max: 9, ..TIMES }.spread(u64::MAX).age_seconds_max, 9);
    }

    #[test]
    fn made_up_ids_cause_one_fetch_per_interval() {
        run(&[
            (1000, Begins(true)),
            (1000, Lands),
            (1000, Looks(Found, Unknown)),
            (1009, Looks(Found, Unknown)),
            (1009, Begins(false)),
            (1010, Looks(Found, Wait)),
            (1010, Due(false)),
            (1010, Begins(true)),
            (1010, Begins(false)),
            (1012, Looks(Found, Wait)),
            (1012, Lands),
            (1012, Looks(Found, Unknown)),
            // From the end of the fetch, so that nobody who waited for it waits again.
            (1021, Looks(Found, Unknown)),
            (1021, Begins(false)),
            (1022, Looks(Found, Wait)),
        ]);
        // The same, counted: ten ids per second for ten minutes.
        let (cache, mut fetches) = (JwksCache::new(TIMES), 0);
        for now in 5000..5600 {
            for id in 0..10 {
                if cache.lookup(&format!("{now}-{id}"), now) == Lookup::Wait
                    && let Some(flight) = cache.begin_fetch(now)
                {
                    fetches += 1;
                    cache.on_fetched(flight, now, Ok(jwks().as_bytes())).unwrap();
                }
            }
        }
        assert_eq!(fetches, 60);
    }

    #[test]
    fn an_endpoint_that_fails_at_first() {
        for fails in [Fails, LandsWrong] {
            run(&[
                (1000, Begins(true)),
                (1002, fails),
                (1002, Looks(Unavailable, Unavailable)),
                (1002, Due(false)),
                (1011, Begins(false)),
                (1012, Looks(Wait, Wait)),
                (1012, Due(true)),
                (1012, Begins(true)),
                (1013, Lands),
                (1013, Looks(Found, Unknown)),
            ]);
        }
    }

    #[test]
    fn the_last_good_set_stays_until_it_is_stale() {
        run(&[
            (1000, Begins(true)),
            (1000, Lands),
            (1099, Due(false)),
            (1100, Due(true)),
            (1100, Looks(Found, Wait)),
            (1100, Begins(true)),
            (1101, Fails),
            (1101, Looks(Found, Unavailable)),
            (1110, Due(false)),
            (1111, Due(true)),
            (1111, Begins(true)),
            (1112, LandsWrong),
            (1112, Looks(Found, Unavailable)),
            (1999, Begins(true)),
            (1999, Fails),
            (1999, Looks(Found, Unavailable)),
            (2000, Looks(Unavailable, Unavailable)),
            (2009, Begins(true)),
            (2010, Lands),
            (2010, Looks(Found, Unknown)),
            (2109, Due(false)),
            (2110, Due(true)),
        ]);
    }

    #[test]
    fn a_fetch_that_takes_long_is_not_waited_for_twice() {
        run(&[(1000, Begins(true)), (1014, Looks(Wait, Wait)), (1014, Lands), (1014, Looks(Found, Unknown))]);
        run(&[(1000, Begins(true)), (1014, Fails), (1014, Looks(Unavailable, Unavailable)), (1023, Due(false))]);
    }

    #[test]
    fn a_fetch_that_is_lost_is_given_up() {
        run(&[
            (1000, Begins(true)),
            (1000, IsLost),
            (1014, Looks(Wait, Wait)),
            (1014, Begins(false)),
            (1015, Looks(Wait, Wait)),
            (1015, Due(true)),
            (1015, Begins(true)),
            (1016, Lands),
            (1016, Looks(Found, Unknown)),
        ]);
        // With a long interval nobody is kept waiting for what does not come.
        let times = Times { interval_seconds: 60, ..TIMES };
        let lost = [(1000, Begins(true)), (1000, IsLost), (1014, Looks(Wait, Wait))];
        let given_up = [(1015, Looks(Unavailable, Unavailable)), (1059, Begins(false)), (1060, Begins(true))];
        run_with(times, &[lost, given_up].concat());
    }

    #[test]
    fn a_clock_that_is_put_back_does_not_stop_fetching() {
        run(&[
            (1_000_000, Begins(true)),
            (1_000_000, Lands),
            (1000, Looks(Found, Wait)),
            (1000, Begins(true)),
            (1000, Lands),
            (1009, Begins(false)),
            (1010, Begins(true)),
            (1010, IsLost),
            (900, Begins(true)),
        ]);
    }

    #[test]
    fn what_comes_too_late_is_not_taken() {
        let cache = JwksCache::new(TIMES);
        let first = cache.begin_fetch(1000).unwrap();
        let second = cache.begin_fetch(1015).unwrap();
        assert!(cache.on_fetched(first, 1016, Ok(jwks().as_bytes())).unwrap_err().contains("given up"));
        assert_eq!(cache.lookup("ed", 1016), Lookup::Wait);
        let landed = cache.on_fetched(second, 1017, Ok(jwks().as_bytes())).unwrap();
        assert_eq!(landed, Landed { keys: 4, skipped: Skipped::default() });
        assert!(matches!(cache.lookup("ed", 1017), Lookup::Found(_)));
    }

    #[test]
    fn only_one_of_many_fetches() {
        let cache = JwksCache::new(TIMES);
        for round in 0..200 {
            let now = 1000 + round * 20;
            let begun: usize = std::thread::scope(|scope| {
                let all: Vec<_> = (0..4).map(|_| scope.spawn(|| cache.begin_fetch(now).is_some() as usize)).collect();
                all.into_iter().map(|one| one.join().unwrap()).sum()
            });
            assert_eq!(begun, 1, "round {round}");
        }
    }
}
