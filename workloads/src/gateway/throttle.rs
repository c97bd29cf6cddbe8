//! How many requests an upstream is sent: two limits that learn from what it says about its load.
//!
//! [`Throttle`] refuses a share of the requests here while the upstream refuses most of them there:
//! `max(0, (requests - 2 × accepts) / (requests + 1))` over a sliding window (Site Reliability Engineering, chapter 21).
//! A tenth always passes: by the formula alone a dead upstream would get next to nothing, and take a minute to be believed
//! again. Keeping all requests from it is the breaker's business. And a few requests say nothing: below [`REQUESTS_MIN`]
//! all pass.
//!
//! [`Concurrency`] bounds how many are under way. It begins wide open, because a healthy upstream needs no limit from us;
//! when more than a quarter of a round of answers say "too much", it falls to 70 % of what was under way, and then climbs
//! step by step while it is being used. Stray failures move nothing.

use std::cell::RefCell;
use std::time::Duration;

/// How far back [`Throttle`] looks.
pub const WINDOW: Duration = Duration::from_secs(5);
/// The window moves by this share of itself.
const SLOTS: usize = 10;
/// Requests sent for each one accepted, before any is refused here: room in which recovery shows.
const HEADROOM: f64 = 2.0;
/// Requests within the window from which on it counts.
pub const REQUESTS_MIN: u32 = 50;
/// The share that is refused here at most.
pub const REFUSED_SHARE_MAX: f64 = 0.9;

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    requests: u32,
    accepts: u32,
}

/// Refuses in our place what an upstream would refuse.
#[derive(Clone, Debug, Default)]
pub struct Throttle {
    slots: [Counts; SLOTS],
    sum: Counts,
    /// The slot of now, counted from the clock's start.
    slot: u64,
    /// What is owed of the share that is refused: refusals are spread evenly.
    owed: f64,
}

impl Throttle {
    /// Whether a request may be sent. One that may is counted when it ends: a burst whose answers are on their way is no
    /// refusal.
    #[must_use]
    pub fn admit(&mut self, now: Duration) -> bool {
        self.advance(now);
        self.owed += self.refused_share();
        let admitted = self.owed < 1.0;
        self.owed = self.owed.fract();
        if !admitted {
            self.count(1, 0);
        }
        admitted
    }

    /// A request that was sent has ended: the upstream took it (it answered in time, well or not, but not that it has too
    /// much), or turned it away.
    pub fn on_end(&mut self, now: Duration, taken: bool) {
        self.advance(now);
        self.count(1, u32::from(taken));
    }

    /// Takes nothing of what was seen as true any more.
    pub fn forgive(&mut self) {
        *self = Throttle { slot: self.slot, ..Throttle::default() };
    }

    fn count(&mut self, requests: u32, accepts: u32) {
        for counts in [&mut self.slots[self.slot as usize % SLOTS], &mut self.sum] {
            counts.requests += requests;
            counts.accepts += accepts;
        }
    }

    /// The share of requests that is refused here, as of the last call.
    pub fn refused_share(&self) -> f64 {
        if self.sum.requests < REQUESTS_MIN {
            return 0.0;
        }
        let (requests, accepts) = (f64::from(self.sum.requests), f64::from(self.sum.accepts));
        ((requests - HEADROOM * accepts) / (requests + 1.0)).clamp(0.0, REFUSED_SHARE_MAX)
    }

    /// Forgets the slots that have left the window.
    fn advance(&mut self, now: Duration) {
        let slot = (now.as_nanos() / (WINDOW.as_nanos() / SLOTS as u128)) as u64;
        for old in (self.slot + 1..=slot).take(SLOTS) {
            let counts = std::mem::take(&mut self.slots[old as usize % SLOTS]);
            self.sum.requests -= counts.requests;
            self.sum.accepts -= counts.accepts;
        }
        self.slot = self.slot.max(slot);
    }
}

/// Answers that make a round, at least; more when more were under way at once.
pub const ROUND_MIN: u32 = 64;
/// More than one overloaded answer in so many make a round overloaded.
pub const OVERLOADED_ONE_IN: u32 = 4;
/// What an overloaded round leaves.
const DECREASE: f64 = 0.7;
/// Rounds from nothing to the greatest limit.
const CLIMB_ROUNDS: f64 = 64.0;

/// What an answer says about an upstream's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// An answer in time, good or bad.
    Fine,
    /// 429, 503, REFUSED_STREAM, ENHANCE_YOUR_CALM, or none in time.
    TooMuch,
    /// Nothing: given up by us.
    Unknown,
}

/// How many requests may be under way.
#[derive(Clone, Debug)]
pub struct Concurrency {
    limit: f64,
    least: f64,
    most: f64,
    in_flight: u32,
    /// Of this round: answers, those that said too much, and the most that was under way.
    answers: u32,
    overloaded: u32,
    peak: u32,
}

impl Concurrency {
    /// From `least` (at least 1) to `most`, where it begins.
    pub fn new(least: u32, most: u32) -> Concurrency {
        let (least, most) = (f64::from(least.max(1)), f64::from(most.max(least).max(1)));
        Concurrency { limit: most, least, most, in_flight: 0, answers: 0, overloaded: 0, peak: 0 }
    }

    /// Begins a request; whether it may. If so, [`Concurrency::release`] ends it.
    #[must_use]
    pub fn acquire(&mut self) -> bool {
        let may = self.in_flight < self.limit();
        self.in_flight += u32::from(may);
        self.peak = self.peak.max(self.in_flight);
        may
    }

    /// Ends a request.
    pub fn release(&mut self, load: Load) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if load == Load::Unknown {
            return;
        }
        self.answers += 1;
        self.overloaded += u32::from(load == Load::TooMuch);
        if self.answers >= self.peak.max(ROUND_MIN) {
            self.end_round();
        }
    }

    /// How many may be under way now.
    pub fn limit(&self) -> u32 {
        self.limit as u32
    }

    fn end_round(&mut self) {
        let peak = f64::from(self.peak);
        if self.overloaded * OVERLOADED_ONE_IN > self.answers {
            self.limit = (self.limit.min(peak) * DECREASE).max(self.least);
        } else if peak * 2.0 >= self.limit {
            self.limit = (self.limit + (self.most / CLIMB_ROUNDS).max(1.0)).min(self.most);
        }
        (self.answers, self.overloaded, self.peak) = (0, 0, self.in_flight);
    }
}

/// Requests to one upstream that may be under way, at most, per shard: about what its connections carry. It is there for an
/// upstream that answers nothing; memory is bounded by the budget.
const IN_FLIGHT_MAX: u32 = 16 << 10;

/// Both limits of one upstream, on one shard.
pub struct Bearing {
    throttle: RefCell<Throttle>,
    concurrency: RefCell<Concurrency>,
}

impl Default for Bearing {
    fn default() -> Bearing {
        Bearing { throttle: RefCell::default(), concurrency: RefCell::new(Concurrency::new(1, IN_FLIGHT_MAX)) }
    }
}

impl Bearing {
    /// Begins a request, which [`Bearing::end`] ends.
    ///
    /// # Errors
    /// Why it is not sent.
    pub fn begin(&self, now: Duration) -> Result<(), &'static str> {
        if !self.throttle.borrow_mut().admit(now) {
            return Err("its upstream turns most requests away");
        }
        match self.concurrency.borrow_mut().acquire() {
            true => Ok(()),
            false => Err("as many requests are under way as its upstream bears"),
        }
    }

    /// Ends a request that was begun.
    pub fn end(&self, now: Duration, load: Load) {
        if load != Load::Unknown {
            self.throttle.borrow_mut().on_end(now, load == Load::Fine);
        }
        self.concurrency.borrow_mut().release(load);
    }

    /// The upstream is known to be well again: what it turned away before says nothing any more, and nothing is refused for
    /// it. The limit of what is under way climbs by itself.
    pub fn forgive(&self) {
        self.throttle.borrow_mut().forgive();
    }

    /// Requests that may be under way, and the share that is refused here.
    pub fn figures(&self) -> (u32, f64) {
        (self.concurrency.borrow().limit(), self.throttle.borrow().refused_share())
    }
}

#[cfg(test)]
mod tests {
    use annulus_engine::driver::sim::Random;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Sends 1000 requests per second to an upstream that takes `capacity` of them; how many reached it, and how many it
    /// took, in the last `seconds / 2`.
    fn drive(throttle: &mut Throttle, from: u64, seconds: u64, capacity: u64) -> (u64, u64) {
        let (mut reached, mut took, mut in_second) = (0, 0, 0);
        for now in from..from + seconds * 1000 {
            if now % 1000 == 0 {
                in_second = 0;
            }
            let counts = u64::from(now >= from + seconds * 500);
            if throttle.admit(ms(now)) {
                reached += counts;
                // Spread over the second.
                let taken = in_second * 1000 < capacity * (now % 1000 + 1);
                if taken {
                    (in_second, took) = (in_second + 1, took + counts);
                }
                throttle.on_end(ms(now), taken);
            }
        }
        (reached, took)
    }

    #[test]
    fn it_sends_twice_what_is_taken_and_recovers() {
        let mut throttle = Throttle::default();
        assert_eq!(drive(&mut throttle, 0, 20, 1000), (10_000, 10_000), "nothing is refused in health");
        let (reached, took) = drive(&mut throttle, 20_000, 40, 100);
        assert!((3500..4700).contains(&reached) && took >= 1950, "{reached} reached it, it took {took}");
        let (reached, _) = drive(&mut throttle, 60_000, 40, 0);
        assert!((1800..2200).contains(&reached), "{reached} are a tenth");
        drive(&mut throttle, 100_000, 15, 1000);
        let (reached, _) = drive(&mut throttle, 115_000, 20, 1000);
        assert_eq!(reached, 10_000, "recovered");
    }

    #[test]
    fn a_few_refusals_say_nothing() {
        let mut throttle = Throttle::default();
        assert!((0..10 * REQUESTS_MIN).all(|_| throttle.admit(ms(0))), "no answer yet");
        (1..REQUESTS_MIN).for_each(|at| throttle.on_end(ms(at.into()), false));
        assert!((0..10).all(|_| throttle.admit(ms(60))));
        throttle.on_end(ms(60), false);
        assert!(!(0..10).all(|_| throttle.admit(ms(60))));
        throttle.forgive();
        assert!((0..10 * REQUESTS_MIN).all(|_| throttle.admit(ms(70))));
    }

    #[test]
    fn its_sums_are_those_of_the_window() {
        for seed in 0..50 {
            let (mut random, mut throttle) = (Random::new(seed), Throttle::default());
            let (mut now, mut events) = (ms(0), Vec::new());
            for _ in 0..2000 {
                now += ms(if random.hit(2) { random.below(30_000) } else { random.below(40) } as u64);
                let taken = random.hit(400);
                if throttle.admit(now) {
                    throttle.on_end(now, taken);
                    events.push((now.as_millis() / 500, taken));
                } else {
                    events.push((now.as_millis() / 500, false));
                }
                let recent = events.iter().filter(|(slot, _)| slot + 10 > now.as_millis() / 500);
                let accepts = recent.clone().filter(|(_, taken)| *taken).count() as u32;
                let requests = recent.count() as u32;
                assert_eq!((throttle.sum.requests, throttle.sum.accepts), (requests, accepts), "{seed}");
            }
        }
    }

    #[test]
    fn concurrency_settles_near_what_the_upstream_can_take() {
        for (seed, capacity) in (0..10).flat_map(|seed| [10, 50, 200].map(|capacity| (seed, capacity))) {
            let mut random = Random::new(seed);
            let mut limit = Concurrency::new(1, 1000);
            assert_eq!(limit.limit(), 1000, "wide open");
            let (mut inside, mut rounds) = (0, 0);
            for round in 0..800 {
                while limit.acquire() && limit.in_flight < 500 {}
                while limit.in_flight > 0 {
                    let over = limit.in_flight > capacity;
                    limit.release(if over { Load::TooMuch } else { Load::Fine });
                    if random.hit(100) && limit.acquire() {
                        limit.release(Load::Unknown);
                    }
                }
                if round >= 200 {
                    rounds += 1;
                    inside += u32::from((capacity / 2..=capacity * 2 + 20).contains(&limit.limit()));
                }
            }
            assert!(inside * 10 >= rounds * 9, "{seed} {capacity}: {inside} of {rounds}, now {}", limit.limit());
        }
    }

    #[test]
    fn stray_failures_move_nothing_and_idle_limits_do_not_climb() {
        let (mut random, mut limit) = (Random::new(1), Concurrency::new(2, 100));
        for _ in 0..10_000 {
            assert!(limit.acquire());
            limit.release(if random.hit(100) { Load::TooMuch } else { Load::Fine });
        }
        assert_eq!(limit.limit(), 100);
        for _ in 0..ROUND_MIN {
            assert!(limit.acquire());
            limit.release(Load::TooMuch);
        }
        assert_eq!(limit.limit(), 2, "never below the least");
        (0..1000).for_each(|_| {
            assert!(limit.acquire());
            limit.release(Load::Fine);
        });
        assert!((2..=4).contains(&limit.limit()), "one at a time needs no more: {}", limit.limit());
    }

    #[test]
    fn no_more_than_the_limit_are_under_way() {
        for seed in 0..100 {
            let (mut random, mut limit) = (Random::new(seed), Concurrency::new(1, random_most(seed)));
            let mut held = 0;
            for _ in 0..3000 {
                if random.hit(550) {
                    let room = held < limit.limit();
                    assert_eq!(limit.acquire(), room, "{seed}");
                    held += u32::from(room);
                } else if held > 0 {
                    held -= 1;
                    limit.release([Load::Fine, Load::TooMuch, Load::Unknown][random.below(3)]);
                }
                assert_eq!(limit.in_flight, held);
                assert!(limit.limit() >= 1);
            }
        }
    }

    fn random_most(seed: u64) -> u32 {
        1 + (seed as u32 * 7) % 60
    }
}
