//! Token buckets: how often something may happen, in all and for each client.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;

use super::config::model::Rate;

/// Clients told apart at once by one limit. Beyond, those that are full again are forgotten; if there are none, the
/// newcomer shares one bucket with all others like it.
const CLIENTS_MAX: usize = 50_000;

/// One bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    tokens: Cell<f64>,
    filled: Cell<Duration>,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: &Rate, now: Duration) -> Bucket {
        Bucket { tokens: Cell::new(rate.capacity as f64), filled: Cell::new(now) }
    }

    fn fill(&self, rate: &Rate, now: Duration) {
        let passed = now.saturating_sub(self.filled.replace(now.max(self.filled.get())));
        let more = passed.as_secs_f64() / rate.every.as_secs_f64() * rate.tokens;
        self.tokens.set((self.tokens.get() + more).min(rate.capacity as f64));
    }

    /// Takes a token.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&self, rate: &Rate, now: Duration) -> Result<(), Duration> {
        self.fill(rate, now);
        let tokens = self.tokens.get();
        if tokens >= 1.0 {
            self.tokens.set(tokens - 1.0);
            return Ok(());
        }
        Err(rate.every.mul_f64((1.0 - tokens) / rate.tokens))
    }

    /// Tokens that are there now.
    pub fn left(&self, rate: &Rate, now: Duration) -> f64 {
        self.fill(rate, now);
        self.tokens.get()
    }

    fn is_full(&self, rate: &Rate, now: Duration) -> bool {
        self.left(rate, now) >= rate.capacity as f64
    }
}

/// A bucket for each client.
pub struct Clients {
    rate: Rate,
    buckets: RefCell<HashMap<String, Bucket>>,
    others: Bucket,
}

impl Clients {
    /// None yet.
    pub fn new(rate: Rate, now: Duration) -> Clients {
        Clients { others: Bucket::new(&rate, now), rate, buckets: RefCell::default() }
    }

    /// Takes a token of a client's.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&self, client: &str, now: Duration) -> Result<(), Duration> {
        let mut buckets = self.buckets.borrow_mut();
        if let Some(bucket) = buckets.get(client) {
            return bucket.take(&self.rate, now);
        }
        if buckets.len() >= CLIENTS_MAX {
            buckets.retain(|_, bucket| !bucket.is_full(&self.rate, now));
        }
        if buckets.len() >= CLIENTS_MAX {
            return self.others.take(&self.rate, now);
        }
        let bucket = Bucket::new(&self.rate, now);
        let taken = bucket.take(&self.rate, now);
        buckets.insert(client.to_owned(), bucket);
        taken
    }
}

/// A rate as one of several shards keeps it.
pub fn share(rate: &Rate, shards: usize) -> Rate {
    let shards = shards.max(1);
    let capacity = rate.capacity.div_ceil(shards as u64).max(1);
    Rate { tokens: rate.tokens / shards as f64, capacity, ..*rate }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { tokens: 2.0, every: Duration::from_secs(1), capacity: 3 };

    fn at(ms: u64) -> Duration {
        Duration::from_millis(1_000_000 + ms)
    }

    #[test]
    fn a_bucket_gives_what_it_holds_and_then_its_rate() {
        let bucket = Bucket::new(&RATE, at(0));
        (0..3).for_each(|_| assert_eq!(bucket.take(&RATE, at(0)), Ok(())));
        assert_eq!(bucket.take(&RATE, at(0)), Err(Duration::from_millis(500)));
        assert_eq!(bucket.take(&RATE, at(250)), Err(Duration::from_millis(250)));
        assert_eq!(bucket.take(&RATE, at(500)), Ok(()));
        let taken = (0..100_000).filter(|step| bucket.take(&RATE, at(1000 + step / 10)).is_ok()).count();
        assert_eq!(taken, 20, "one saved up since, and two a second for not quite ten seconds");
        // A clock that goes back gives nothing.
        assert!(bucket.take(&RATE, at(0)).is_err());
    }

    #[test]
    fn clients_do_not_share() {
        let clients = Clients::new(RATE, at(0));
        for client in ["a", "b"] {
            (0..3).for_each(|_| assert_eq!(clients.take(client, at(0)), Ok(())));
            assert!(clients.take(client, at(0)).is_err());
        }
    }

    #[test]
    fn there_is_an_end_to_clients() {
        let clients = Clients::new(RATE, at(0));
        (0..CLIENTS_MAX).for_each(|client| assert_eq!(clients.take(&client.to_string(), at(0)), Ok(())));
        // All are known and none is full: newcomers share.
        assert_eq!(clients.take("new", at(0)), Ok(()));
        (0..2).for_each(|_| assert_eq!(clients.take("newer", at(0)), Ok(())));
        assert!(clients.take("newest", at(0)).is_err());
        // Later the old ones are full again and forgotten.
        assert_eq!(clients.take("newest", at(10_000)), Ok(()));
        assert_eq!(clients.buckets.borrow().len(), 1);
    }

    #[test]
    fn shards_share_a_rate() {
        let shared = share(&Rate { tokens: 1000.0, every: Duration::from_secs(1), capacity: 1000 }, 4);
        assert_eq!((shared.tokens, shared.capacity), (250.0, 250));
    }
}
