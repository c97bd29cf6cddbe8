//! Rate limits that several gateways keep together, in Redis.
//!
//! ```text
//!   request ─► purse: tokens that were fetched ─┬─ some: one is spent, here
//!                                               ├─ none, and Redis said when there will be: refused, here
//!                                               └─ none: fetch for all who wait, and a little ahead ─► a script in Redis
//!   Redis away, slow or refusing ─► the local bucket decides, and Redis is asked again within a second
//! ```
//!
//! A bucket is one key, refilled by Redis' own clock: gateways need not agree about the time. One purse fetches one lot at a
//! time, for all requests that came meanwhile, so calls grow with round trips and not with requests. Where a purse is busy it
//! fetches ahead what it spent in the last 100 ms, a sixteenth of the bucket at most: then most requests wait for nobody. A
//! bucket of less than 16 is never fetched ahead, which makes it exact.
//!
//! Tokens are taken from the one bucket before they are spent, and forgotten after 250 ms. So all gateways together let
//! through, in any time T, at most what the bucket holds and what it gains in T and 250 ms. What is forgotten is lost: a limit is
//! reached a little below its rate where traffic moves about, never above.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use annulus_engine::Shard;
use annulus_engine::metrics::Counter;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{Context, SHA256};

use super::config::model::{Rate, RateLimitStore};
use crate::backoff::{Backoff, seed};
use crate::redis::{Redis, Script, Settings};
use crate::serve::wire::Crowd;
use crate::voice::Voice;

/// Keys and limits that one limit remembers on one shard. Beyond, the quiet ones are forgotten; if there are none, Redis is
/// asked for each request of a newcomer.
const PURSES_MAX: usize = 50_000;
/// What was spent in this time is fetched ahead.
const AHEAD: Duration = Duration::from_millis(100);
/// And at most this part of the bucket.
const AHEAD_PART: u64 = 16;
/// Tokens that are not spent after this long are forgotten.
const TOKEN_AGE_MAX: Duration = Duration::from_millis(250);
/// A refusal is believed for this long at least: what the bucket gains meanwhile is fetched together.
const REFUSAL_AGE_MIN: Duration = Duration::from_millis(10);
/// And for this long at most: somebody may have raised the limit, or emptied Redis.
const REFUSAL_AGE_MAX: Duration = Duration::from_secs(1);
/// After Redis could not say it is left alone for half of this to all of it.
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes of a key's digest: enough that no two buckets meet by accident or by design.
const DIGEST_BYTES: usize = 16;

/// Takes up to ARGV[3] tokens out of the bucket KEYS[1] that gains ARGV[1] a second and holds ARGV[2]. Gives how many, and if
/// none, in how many milliseconds there is one. The key goes when the bucket is full again.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local now = redis.call('TIME')\n\
         now = tonumber(now[1]) + tonumber(now[2]) / 1000000\n\
         local rate, capacity, want = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])\n\
         local tokens = capacity\n\
         local kept = redis.call('GET', KEYS[1])\n\
         if kept then\n\
           local left, at = string.match(kept, '^(%S+) (%S+)$')\n\
           tokens = math.min(capacity, tonumber(left) + math.max(0, now - tonumber(at)) * rate)\n\
         end\n\
         local taken = math.min(want, math.floor(tokens))\n\
         if taken < 1 then return {0, math.ceil((1 - tokens) / rate * 1000)} end\n\
         tokens = tokens - taken\n\
         local full = math.ceil((capacity - tokens) / rate * 1000) + 1000\n\
         redis.call('SET', KEYS[1], string.format('%.6f %.6f', tokens, now), 'PX', string.format('%.0f', full))\n\
         return {taken, 0}",
    )
});

/// What counts what a shard does with them.
struct Meters {
    fetches: Arc<Counter>,
    tokens: Arc<Counter>,
    local: Arc<Counter>,
}

/// A shard's way to the limits that are kept together.
pub struct Quota {
    shard: Shard,
    settings: Settings,
    redis: Redis,
    prefix: String,
    timeout: Duration,
    /// It did not answer in time: nobody else waits for it before this.
    paused_until: Cell<Duration>,
    pause: RefCell<Backoff>,
    /// Before it has worked there is nothing to tell but what the connection tells.
    has_worked: Cell<bool>,
    trouble: RefCell<Voice>,
    meters: Meters,
}

impl Quota {
    /// Begins to connect, or takes the connection over from an earlier configuration.
    pub fn new(shard: &Shard, store: &RateLimitStore, before: Option<&Quota>) -> Rc<Quota> {
        let redis = match before.filter(|before| before.settings == store.redis) {
            Some(before) => before.redis.clone(),
            None => Redis::start(shard, &store.redis, "gateway"),
        };
        let counter = |name, help| shard.metrics().counter(name, help);
        Rc::new(Quota {
            shard: shard.clone(),
            settings: store.redis.clone(),
            redis,
            prefix: store.prefix.clone(),
            timeout: store.timeout,
            paused_until: Cell::new(Duration::ZERO),
            pause: RefCell::new(Backoff::new(PAUSE, PAUSE, seed())),
            has_worked: Cell::new(false),
            trouble: RefCell::default(),
            meters: Meters {
                fetches: counter(
                    "annulus_gateway_quota_fetches_total",
                    "Questions to Redis for tokens of rate limits.",
                ),
                tokens: counter("annulus_gateway_quota_tokens_total", "Tokens of rate limits that Redis gave."),
                local: counter(
                    "annulus_gateway_quota_local_total",
                    "Requests whose rate limit was kept locally, because Redis was away, slow or refusing.",
                ),
            },
        })
    }

    /// Redis could not say: until when its limits are kept locally.
    fn pause(&self, unable: &Unable) -> Duration {
        let until = self.shard.now() + PAUSE / 2 + self.pause.borrow_mut().next() / 2;
        if unable.is_slow {
            self.paused_until.set(until);
        }
        if self.has_worked.get()
            && let Some(line) = self.trouble.borrow_mut().line(Instant::now(), &unable.why)
        {
            crate::warn!("gateway: rate limits are kept locally: {line}");
        }
        until
    }

    /// Fetches up to `want` tokens: how many there were, and if none, when there is one.
    async fn fetch(&self, key: &str, rate: &Rate, want: u64) -> Result<(u64, Duration), Unable> {
        self.meters.fetches.add(1);
        let rate_a_second = (rate.tokens / rate.every.as_secs_f64()).to_string();
        let arguments = [rate_a_second, rate.capacity.to_string(), want.to_string()];
        let arguments: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
        let asking = self.redis.script(&TAKE, &[key.as_bytes()], &arguments);
        let answer = match self.shard.timeout(self.timeout, asking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(trouble)) => return Err(Unable { why: trouble.to_string(), is_slow: false }),
            Err(_elapsed) => {
                let why = format!("Redis has not answered within {:?}", self.timeout);
                return Err(Unable { why, is_slow: true });
            }
        };
        let numbers: Option<Vec<u64>> = answer.as_list().and_then(|values| {
            values.iter().map(|value| value.as_int().and_then(|number| u64::try_from(number).ok())).collect()
        });
        match numbers.as_deref() {
            Some([taken, wait_ms]) if *taken <= want => {
                self.has_worked.set(true);
                self.meters.tokens.add(*taken);
                Ok((*taken, Duration::from_millis(*wait_ms)))
            }
            _ => Err(Unable { why: format!("Redis answers what the script cannot: {answer:?}"), is_slow: false }),
        }
    }
}

/// Why Redis could not say.
struct Unable {
    why: String,
    /// It did not answer in time: whoever asks for another bucket would wait, too.
    is_slow: bool,
}

/// Redis cannot say: the local bucket decides.
#[derive(Debug, PartialEq, Eq)]
pub struct Away;

/// What tells a bucket from others: a digest, so that no client chooses its length, and that no braces in it choose its slot.
type Name = [u8; DIGEST_BYTES];

/// One limit of one endpoint, with a bucket for each of its clients or one for all.
pub struct Limit {
    quota: Rc<Quota>,
    rate: Rate,
    /// What tells its buckets from those of others.
    name: String,
    purses: RefCell<HashMap<Name, Rc<Purse>>>,
}

impl Limit {
    /// The limit of that name, which is the same at all gateways.
    pub fn new(quota: &Rc<Quota>, rate: Rate, name: String) -> Limit {
        Limit { quota: quota.clone(), rate, name, purses: RefCell::default() }
    }

    /// Takes a token of a client's; of all together, of nobody's. The refusal says how long until there is one.
    ///
    /// # Errors
    /// [`Away`].
    pub async fn take(&self, who: &str) -> Result<Result<(), Duration>, Away> {
        let name = self.name_of(who);
        let (quota, purse) = (&self.quota, self.purse(name));
        purse.count(quota.shard.now());
        loop {
            if let Some(outcome) = purse.spend(quota.shard.now()) {
                return Ok(outcome);
            }
            if quota.shard.now() < quota.paused_until.get().max(purse.away_until.get()) {
                quota.meters.local.add(1);
                return Err(Away);
            }
            match Fetching::begin(&purse) {
                None => purse.wait().await,
                Some(_fetching) => {
                    // Who else comes in this turn is fetched for, too.
                    quota.shard.yield_now().await;
                    let want = purse.want(self.rate.capacity);
                    let fetched = quota.fetch(&self.key(&name), &self.rate, want).await;
                    match fetched {
                        Ok((tokens, wait)) => purse.fill(quota.shard.now(), tokens, wait),
                        Err(unable) => purse.away_until.set(quota.pause(&unable)),
                    }
                }
            }
        }
    }

    fn purse(&self, name: Name) -> Rc<Purse> {
        let mut purses = self.purses.borrow_mut();
        if let Some(purse) = purses.get(&name) {
            return purse.clone();
        }
        if purses.len() >= PURSES_MAX {
            let now = self.quota.shard.now();
            purses.retain(|_, purse| !purse.is_quiet(now));
        }
        let purse = Rc::new(Purse::default());
        if purses.len() < PURSES_MAX {
            purses.insert(name, purse.clone());
        }
        purse
    }

    fn name_of(&self, who: &str) -> Name {
        let mut sum = Context::new(&SHA256);
        [self.name.as_bytes(), b"\0", who.as_bytes()].into_iter().for_each(|part| sum.update(part));
        let sum = sum.finish();
        sum.as_ref()[..DIGEST_BYTES].try_into().expect("SHA-256 is longer")
    }

    /// The bucket's key.
    fn key(&self, name: &Name) -> String {
        format!("{}{}", self.quota.prefix, URL_SAFE_NO_PAD.encode(name))
    }
}

/// Tokens of one bucket that were fetched, on one shard.
#[derive(Default)]
struct Purse {
    tokens: Cell<u64>,
    /// When they are forgotten.
    forget_at: Cell<Duration>,
    /// Until when refusals are known without asking, and when there is a token.
    refused_until: Cell<Duration>,
    next_at: Cell<Duration>,
    /// Until when Redis is not asked, because it could not say.
    away_until: Cell<Duration>,
    /// Requests of this and of the last 100 ms.
    window: Cell<Duration>,
    spent: Cell<u64>,
    spent_before: Cell<u64>,
    is_fetching: Cell<bool>,
    waiting: Crowd,
}

impl Purse {
    /// A request came.
    fn count(&self, now: Duration) {
        let passed = now.saturating_sub(self.window.get());
        if passed >= AHEAD {
            let spent = self.spent.replace(0);
            self.spent_before.set(if passed < 2 * AHEAD { spent } else { 0 });
            self.window.set(now);
        }
        self.spent.set(self.spent.get() + 1);
    }

    /// What is known without asking.
    fn spend(&self, now: Duration) -> Option<Result<(), Duration>> {
        if now >= self.forget_at.get() {
            self.tokens.set(0);
        }
        if self.tokens.get() > 0 {
            self.tokens.set(self.tokens.get() - 1);
            return Some(Ok(()));
        }
        (now < self.refused_until.get()).then(|| Err(self.next_at.get().saturating_sub(now)))
    }

    /// How many to fetch: for who asks, for all who wait, and ahead.
    fn want(&self, capacity: u64) -> u64 {
        1 + self.waiting.size() as u64 + self.spent_before.get().min(capacity / AHEAD_PART)
    }

    fn fill(&self, now: Duration, tokens: u64, wait: Duration) {
        if tokens == 0 {
            self.next_at.set(now + wait);
            self.refused_until.set(now + wait.clamp(REFUSAL_AGE_MIN, REFUSAL_AGE_MAX));
        } else {
            self.tokens.set(self.tokens.get() + tokens);
            self.forget_at.set(now + TOKEN_AGE_MAX);
        }
    }

    async fn wait(&self) {
        self.waiting.wait().await;
    }

    /// Whether forgetting it changes nothing.
    fn is_quiet(&self, now: Duration) -> bool {
        let is_used = self.is_fetching.get() || self.waiting.size() > 0;
        let is_known = now < self.refused_until.get() || (self.tokens.get() > 0 && now < self.forget_at.get());
        !is_used && !is_known
    }
}

/// A fetch under way. Whoever began it may be gone before it ends: then the next one who waits begins another.
struct Fetching<'a>(&'a Purse);

impl<'a> Fetching<'a> {
    fn begin(purse: &'a Purse) -> Option<Fetching<'a>> {
        (!purse.is_fetching.replace(true)).then(|| Fetching(purse))
    }
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        self.0.is_fetching.set(false);
        self.0.waiting.all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(1_000_000 + ms)
    }

    #[test]
    fn a_purse_spends_what_it_has_and_forgets_the_rest() {
        let purse = Purse::default();
        assert_eq!(purse.spend(ms(0)), None, "nothing is known");
        purse.fill(ms(0), 3, Duration::ZERO);
        assert_eq!((purse.spend(ms(0)), purse.spend(ms(249))), (Some(Ok(())), Some(Ok(()))));
        assert_eq!(purse.spend(ms(250)), None, "the third is too old");
        purse.fill(ms(300), 0, Duration::from_millis(40));
        assert_eq!(purse.spend(ms(310)), Some(Err(Duration::from_millis(30))));
        assert_eq!(purse.spend(ms(340)), None, "now there may be one");
        purse.fill(ms(400), 0, Duration::from_secs(3600));
        assert_eq!(purse.spend(ms(1399)), Some(Err(Duration::from_secs(3600) - Duration::from_millis(999))));
        assert_eq!(purse.spend(ms(1400)), None, "a long refusal is asked about again");
        purse.fill(ms(1400), 0, Duration::from_millis(2));
        assert_eq!(purse.spend(ms(1405)), Some(Err(Duration::ZERO)), "a short one is not, for every token");
        assert_eq!(purse.spend(ms(1410)), None);
    }

    #[test]
    fn what_was_spent_lately_is_fetched_ahead() {
        let purse = Purse::default();
        (0..100).for_each(|request| purse.count(ms(request)));
        assert_eq!(purse.want(1_000), 1, "the first 100 ms say nothing yet");
        purse.count(ms(100));
        assert_eq!((purse.want(10_000), purse.want(160), purse.want(15)), (101, 11, 1));
        purse.count(ms(400));
        assert_eq!(purse.want(10_000), 1, "it was quiet");
    }

    #[test]
    fn quiet_purses_may_be_forgotten() {
        let purse = Purse::default();
        assert!(purse.is_quiet(ms(0)));
        purse.fill(ms(0), 1, Duration::ZERO);
        assert!(!purse.is_quiet(ms(0)) && purse.is_quiet(ms(250)));
        purse.fill(ms(300), 0, Duration::from_millis(50));
        assert!(!purse.is_quiet(ms(349)) && purse.is_quiet(ms(350)));
        let fetching = Fetching::begin(&purse);
        assert!(fetching.is_some() && Fetching::begin(&purse).is_none() && !purse.is_quiet(ms(400)));
        drop(fetching);
        assert!(purse.is_quiet(ms(400)));
    }
}
