//! The resolver of one shard: literals, hosts, cache, and one flight per question, however many wait for it.
//!
//! A flight is a task of its own, so it goes on when those who wait for it have gone, and fills the cache. When it fails
//! and an old answer is known, that is served; when it takes longer than [`STALE_AFTER`], too.
//!
//! The system's files are looked at while names are looked up, every [`LOOK`] at most, and read again when their dates
//! have changed. What the hosts file says counts at once; answers of earlier servers are believed to the end of their time.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use annulus_engine::Shard;

use super::cache::{Cache, Cached};
use super::codec::{ALIASES_MAX, Fault, Kind, Record, Reply, Service};
use super::exchange::{Miss, Question};
use super::name::Name;
use super::settings::{Dates, Files, Settings};

pub use super::cache::Limits;

/// Questions under way at most: beyond, further ones fail at once.
pub const FLIGHTS_MAX: usize = 256;
/// Who has an old answer waits so long for a new one. RFC 8767 section 5 recommends 1.8 s, for programs that wait five for a name;
/// here a request waits, whose own time is often a second, and an address that was right a moment ago mostly still is.
pub const STALE_AFTER: Duration = Duration::from_millis(300);
/// How often the dates of the system's files are looked at.
pub const LOOK: Duration = Duration::from_secs(2);
/// How long an answer is kept of which the other address family's half is missing because of a failure.
const PARTIAL_TTL: u32 = 5;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It is no name: see [`Name`].
    BadName,
    /// The servers say that there is no such thing.
    NotFound,
    /// No server answered in time.
    TimedOut,
    /// A server answered with this response code.
    Refused(u16),
    /// A server could not be reached.
    Unreachable(io::ErrorKind),
    /// What a server said is no answer.
    Nonsense(Fault),
    /// The name is an alias of an alias, and so on: [`ALIASES_MAX`] at most.
    TooManyAliases,
    /// More than [`FLIGHTS_MAX`] questions are under way.
    Busy,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::BadName => write!(f, "not a name that can be looked up"),
            Error::NotFound => write!(f, "the name servers know no such name"),
            Error::TimedOut => write!(f, "no name server answered in time"),
            Error::Refused(2) => write!(f, "the name server failed (SERVFAIL)"),
            Error::Refused(5) => write!(f, "the name server refused to answer (REFUSED)"),
            Error::Refused(code) => write!(f, "the name server answered with response code {code}"),
            Error::Unreachable(kind) => write!(f, "no name server could be reached: {kind}"),
            Error::Nonsense(fault) => write!(f, "the name server sent {}", fault.reason()),
            Error::TooManyAliases => write!(f, "the name is an alias of more than {ALIASES_MAX} others"),
            Error::Busy => write!(f, "too many names are being looked up"),
        }
    }
}

impl std::error::Error for Error {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Want {
    Addresses,
    Services,
}

type Key = (Name, Want);

/// An answer that can be shared by all who asked.
#[derive(Clone, Debug)]
enum Answer {
    Addresses(Rc<[IpAddr]>),
    Services(Rc<[Service]>),
    Nothing,
}

impl Answer {
    fn found(self) -> Result<Answer, Error> {
        if matches!(self, Answer::Nothing) { Err(Error::NotFound) } else { Ok(self) }
    }
}

/// A question under way, and who waits for its answer.
#[derive(Default)]
struct Flight {
    outcome: RefCell<Option<Result<Answer, Error>>>,
    waiters: RefCell<Vec<Waker>>,
}

/// The system's files, as they were when they were last read.
struct Watched {
    files: Files,
    dates: Cell<Dates>,
    look_at: Cell<Duration>,
}

struct Inner {
    shard: Shard,
    settings: RefCell<Rc<Settings>>,
    watched: Option<Watched>,
    random: Box<dyn Fn() -> u64>,
    cache: RefCell<Cache<Key, Answer>>,
    flights: RefCell<HashMap<Key, Rc<Flight>>>,
    /// The server that is asked first: the last one that answered.
    first: Cell<usize>,
}

/// Looks names up. Cheap to clone; stays on its shard.
#[derive(Clone)]
pub struct Resolver {
    inner: Rc<Inner>,
}

impl Resolver {
    /// On `shard`, with words that nobody can foresee from `random`.
    pub fn new(shard: &Shard, settings: Settings, limits: Limits, random: impl Fn() -> u64 + 'static) -> Resolver {
        Resolver::with(shard, settings, None, limits, random)
    }

    /// As [`Resolver::new`], with settings from files, which are read again when they change.
    pub fn watching(shard: &Shard, files: Files, limits: Limits, random: impl Fn() -> u64 + 'static) -> Resolver {
        // The dates first: a change between the two is then seen at the next look.
        let (dates, look_at) = (Cell::new(files.dates()), Cell::new(shard.now() + LOOK));
        let settings = files.read();
        tell_ignored(shard, &settings);
        Resolver::with(shard, settings, Some(Watched { files, dates, look_at }), limits, random)
    }

    fn with(
        shard: &Shard,
        settings: Settings,
        watched: Option<Watched>,
        limits: Limits,
        random: impl Fn() -> u64 + 'static,
    ) -> Resolver {
        let inner = Inner {
            shard: shard.clone(),
            settings: RefCell::new(Rc::new(settings)),
            watched,
            random: Box::new(random),
            cache: RefCell::new(Cache::new(limits)),
            flights: RefCell::default(),
            first: Cell::new(0),
        };
        Resolver { inner: Rc::new(inner) }
    }

    /// The addresses of a host: a literal (with or without brackets) is its own; IPv4 comes first, each family in the
    /// order of the answer.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn addresses(&self, host: &str) -> Result<Rc<[IpAddr]>, Error> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Rc::new([address]));
        }
        if let Some(known) = Name::new(host).and_then(|name| self.inner.settings().known(&name)) {
            return Ok(known.into());
        }
        match self.search(host, Want::Addresses).await? {
            Answer::Addresses(addresses) => Ok(addresses),
            _ => Err(Error::NotFound),
        }
    }

    /// The hosts of a service, as its SRV records list them.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn services(&self, name: &str) -> Result<Rc<[Service]>, Error> {
        match self.search(name, Want::Services).await? {
            Answer::Services(services) => Ok(services),
            _ => Err(Error::NotFound),
        }
    }

    /// Looks up each complete name that `host` may stand for. One that a server could not answer for does not keep the
    /// next from being tried, but is told if none is found; silence ends the search.
    async fn search(&self, host: &str, want: Want) -> Result<Answer, Error> {
        let mut error = Error::BadName;
        for name in self.inner.settings().candidates(host) {
            match self.lookup((name, want)).await {
                Err(missing @ Error::NotFound) if matches!(error, Error::BadName | Error::NotFound) => error = missing,
                Err(Error::NotFound) => {}
                Err(refused @ Error::Refused(_)) => error = refused,
                outcome => return outcome,
            }
        }
        Err(error)
    }

    async fn lookup(&self, key: Key) -> Result<Answer, Error> {
        let now = self.inner.shard.now();
        let cached = self.inner.cache.borrow().get(now, &key);
        let stale = match cached {
            Cached::Fresh(answer) => return answer.found(),
            Cached::Stale(answer) => Some(answer),
            Cached::Absent => None,
        };
        let flight = self.board(&key)?;
        let landed = match stale {
            Some(stale) => match self.inner.shard.timeout(STALE_AFTER, land(&flight)).await {
                Ok(landed) => landed,
                Err(_elapsed) => Ok(stale),
            },
            None => land(&flight).await,
        };
        landed.and_then(Answer::found)
    }

    /// The flight for a question, started if there is none.
    fn board(&self, key: &Key) -> Result<Rc<Flight>, Error> {
        let mut flights = self.inner.flights.borrow_mut();
        if let Some(flight) = flights.get(key) {
            return Ok(flight.clone());
        }
        if flights.len() >= FLIGHTS_MAX {
            return Err(Error::Busy);
        }
        let flight = Rc::new(Flight::default());
        flights.insert(key.clone(), flight.clone());
        let landing = Landing { inner: self.inner.clone(), key: key.clone(), flight: flight.clone() };
        self.inner.shard.spawn(landing.fly());
        Ok(flight)
    }
}

/// Waits for a flight's end.
async fn land(flight: &Flight) -> Result<Answer, Error> {
    std::future::poll_fn(|cx| match &*flight.outcome.borrow() {
        Some(outcome) => Poll::Ready(outcome.clone()),
        None => {
            let mut waiters = flight.waiters.borrow_mut();
            if !waiters.iter().any(|waiter| waiter.will_wake(cx.waker())) {
                waiters.push(cx.waker().clone());
            }
            Poll::Pending
        }
    })
    .await
}

/// Ends a flight whatever becomes of its task, so that nobody waits for ever.
struct Landing {
    inner: Rc<Inner>,
    key: Key,
    flight: Rc<Flight>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.inner.flights.borrow_mut().remove(&self.key);
        // Only a task that was cut short has not said what it found.
        self.flight.outcome.borrow_mut().get_or_insert(Err(Error::Unreachable(io::ErrorKind::Interrupted)));
        self.flight.waiters.take().into_iter().for_each(Waker::wake);
    }
}

impl Landing {
    async fn fly(self) {
        let inner = &self.inner;
        let asked = match self.key.1 {
            Want::Addresses => inner.ask_addresses(&self.key.0).await,
            Want::Services => inner.ask(&self.key.0, Kind::Srv).await.map(|(records, ttl)| (services(records), ttl)),
        };
        let (now, mut cache) = (inner.shard.now(), inner.cache.borrow_mut());
        let outcome = match asked {
            Ok((answer, ttl)) => {
                let ttl = Duration::from_secs(ttl.into()).min(cache.ttl_max());
                let (key, ttl) = (self.key.clone(), early(ttl, (inner.random)()));
                match answer {
                    Answer::Nothing => cache.insert_negative(now, key, Answer::Nothing, ttl),
                    _ => cache.insert(now, key, answer.clone(), ttl),
                }
                Ok(answer)
            }
            Err(error) => cache.after_failure(now, &self.key).ok_or(error),
        };
        *self.flight.outcome.borrow_mut() = Some(outcome);
    }
}

/// Up to a tenth less, by `word`: a fleet that asked together does not go on asking together.
fn early(ttl: Duration, word: u64) -> Duration {
    ttl - ttl.mul_f64((word >> 11) as f64 / (1u64 << 53) as f64 / 10.0)
}

fn services(records: Vec<Record>) -> Answer {
    let services: Vec<Service> = records
        .into_iter()
        .filter_map(|record| match record {
            Record::Service(service) => Some(service),
            Record::Address(_) => None,
        })
        .collect();
    if services.is_empty() { Answer::Nothing } else { Answer::Services(services.into()) }
}

/// Says, once for the whole process, which lines of the system's files have no effect.
fn tell_ignored(shard: &Shard, settings: &Settings) {
    if shard.index() == 0 {
        settings
            .ignored
            .iter()
            .for_each(|line| crate::warn!("dns: this line is not understood and has no effect: {line}"));
    }
}

impl Inner {
    fn settings(&self) -> Rc<Settings> {
        if let Some(watched) = &self.watched
            && self.shard.now() >= watched.look_at.get()
        {
            watched.look_at.set(self.shard.now() + LOOK);
            let dates = watched.files.dates();
            if watched.dates.replace(dates) != dates {
                let settings = watched.files.read();
                tell_ignored(&self.shard, &settings);
                *self.settings.borrow_mut() = Rc::new(settings);
            }
        }
        self.settings.borrow().clone()
    }

    /// Both families at once. One that fails does not keep the other's addresses back, but shortens their time.
    async fn ask_addresses(&self, name: &Name) -> Result<(Answer, u32), Error> {
        let (v4, v6) = both(self.ask(name, Kind::A), self.ask(name, Kind::Aaaa)).await;
        let (mut addresses, mut ttl, mut failure) = (Vec::new(), u32::MAX, None);
        let mut ttl_of_nothing = u32::MAX;
        for half in [v4, v6] {
            match half {
                Ok((records, of_half)) if records.is_empty() => ttl_of_nothing = ttl_of_nothing.min(of_half),
                Ok((records, of_half)) => {
                    ttl = ttl.min(of_half);
                    addresses.extend(records.into_iter().filter_map(|record| match record {
                        Record::Address(address) => Some(address),
                        Record::Service(_) => None,
                    }));
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match (addresses.is_empty(), failure) {
            (false, None) => Ok((Answer::Addresses(addresses.into()), ttl)),
            (false, Some(_)) => Ok((Answer::Addresses(addresses.into()), ttl.min(PARTIAL_TTL))),
            (true, None) => Ok((Answer::Nothing, ttl_of_nothing)),
            (true, Some(error)) => Err(error),
        }
    }

    /// The records of a kind, over aliases that the servers did not follow, and for how many seconds. None: that there
    /// are none.
    async fn ask(&self, name: &Name, kind: Kind) -> Result<(Vec<Record>, u32), Error> {
        let (mut name, mut ttl) = (name.clone(), u32::MAX);
        for _ in 0..=ALIASES_MAX {
            match self.ask_servers(&name, kind).await? {
                Reply::Found(records, of_records) => return Ok((records, ttl.min(of_records))),
                Reply::Nothing(of_nothing) => return Ok((Vec::new(), ttl.min(of_nothing.unwrap_or(0)))),
                Reply::Alias(target, of_alias) => (name, ttl) = (target, ttl.min(of_alias)),
                Reply::Failed(code) => return Err(Error::Refused(code)),
                Reply::Truncated => return Err(Error::Nonsense(Fault::Malformed)),
            }
        }
        Err(Error::TooManyAliases)
    }

    /// Asks one server after the other, as often as the settings say, until one answers.
    async fn ask_servers(&self, name: &Name, kind: Kind) -> Result<Reply, Error> {
        let settings = self.settings();
        let Settings { servers, attempts, timeout, tcp, rotate, .. } = &*settings;
        let question = Question { name, kind, timeout: *timeout, tcp: *tcp };
        if *rotate {
            self.first.set(self.first.get().wrapping_add(1));
        }
        let (first, mut error) = (self.first.get(), Error::Unreachable(io::ErrorKind::NotFound));
        for turn in 0..servers.len() * *attempts as usize {
            let index = first.wrapping_add(turn) % servers.len();
            error = match question.ask(&self.shard, servers[index], &self.random).await {
                Ok(Reply::Failed(code)) => Error::Refused(code),
                Ok(reply) => {
                    if !rotate {
                        self.first.set(index);
                    }
                    return Ok(reply);
                }
                Err(Miss::TimedOut) => Error::TimedOut,
                Err(Miss::Io(error)) => Error::Unreachable(error.kind()),
                Err(Miss::Fault(Fault::TooManyAliases)) => Error::TooManyAliases,
                Err(Miss::Fault(fault)) => Error::Nonsense(fault),
            };
        }
        Err(error)
    }
}

/// Both values, of two futures that run at the same time.
async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut first, mut second) = (None, None);
    std::future::poll_fn(|cx| {
        if first.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(cx)
        {
            first = Some(value);
        }
        if second.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(cx)
        {
            second = Some(value);
        }
        match (first.take(), second.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            pair => {
                (first, second) = pair;
                Poll::Pending
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_asked_for_again_a_little_early() {
        let ttl = Duration::from_secs(100);
        assert_eq!(early(ttl, 0), ttl);
        let words = (0..1000u64).map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let all: Vec<Duration> = words.map(|word| early(ttl, word)).collect();
        assert!(all.iter().all(|early| (Duration::from_secs(90)..=ttl).contains(early)));
        let mean = all.iter().sum::<Duration>() / 1000;
        assert!(mean > Duration::from_secs(94) && mean < Duration::from_secs(96), "{mean:?}");
    }
}
