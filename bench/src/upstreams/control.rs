//! The settings of all services, what they counted, and `/control`, which shows both and changes the former while load
//! runs.
//!
//! Settings are replaced as a whole and read by version: a shard that sees no new version touches no lock.

use super::behaviour::Behaviour;
use super::body::{Shape, tail};
use super::service::{SERVICES, number_of};
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Sizes per service and shape: enough that a log-uniform distribution over two decades has steps below a third.
const SIZE_CLASSES: usize = 16;
/// Marks of requests that must not come twice which are remembered; beyond, the memory starts afresh.
const MARKS_MAX: usize = 1 << 20;

/// Ready bodies of one service.
pub struct Shelf {
    objects: Vec<Arc<[u8]>>,
    lists: Vec<Arc<[u8]>>,
}

impl Shelf {
    fn fill(service: usize, behaviour: &Behaviour) -> Shelf {
        let make = |shape| {
            let sizes = behaviour.sizes.classes(SIZE_CLASSES);
            sizes.map(|bytes| Arc::from(tail(service, shape, bytes))).collect()
        };
        Shelf { objects: make(Shape::Object), lists: make(Shape::List) }
    }

    /// The tails of that shape, one per size class.
    pub fn tails(&self, shape: Shape) -> &[Arc<[u8]>] {
        match shape {
            Shape::Object => &self.objects,
            Shape::List => &self.lists,
        }
    }
}

/// Behaviour and bodies of one service.
#[derive(Clone)]
pub struct Setting {
    /// How it behaves.
    pub behaviour: Behaviour,
    /// Its bodies, made for `behaviour.sizes`.
    pub shelf: Arc<Shelf>,
}

/// The settings of all services, by number.
pub type Settings = Arc<Vec<Setting>>;

/// What one service counted, over all shards.
#[derive(Default)]
pub struct Counts {
    /// Requests received.
    pub requests: AtomicU64,
    /// Complete answers with 200.
    pub answered: AtomicU64,
    /// Answers with 500.
    pub errors: AtomicU64,
    /// Requests left without an answer.
    pub stalled: AtomicU64,
    /// Answers broken off.
    pub reset: AtomicU64,
    /// Requests turned away.
    pub refused: AtomicU64,
    /// Answers whose client was gone when they were due.
    pub abandoned: AtomicU64,
}

impl Counts {
    fn json(&self) -> Value {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!({
            "requests": of(&self.requests),
            "answered": of(&self.answered),
            "errors": of(&self.errors),
            "stalled": of(&self.stalled),
            "reset": of(&self.reset),
            "refused": of(&self.refused),
            "abandoned": of(&self.abandoned),
        })
    }
}

/// What all shards share.
pub struct Shared {
    version: AtomicU64,
    settings: Mutex<Settings>,
    /// By service.
    pub counts: Vec<Counts>,
    /// Connections accepted, over all ports.
    pub connections: AtomicU64,
    /// Requests that carried a mark which another had carried before: somebody sent them twice.
    pub repeated: AtomicU64,
    marks: Mutex<HashSet<Vec<u8>>>,
}

impl Shared {
    /// Every service with the same behaviour, but for those in `overrides` (`SERVICE:NAME=VALUE,NAME=VALUE`).
    ///
    /// # Errors
    /// A sentence: an override names no service, no setting, or no value.
    pub fn new(behaviour: &Behaviour, overrides: &[String]) -> Result<Shared, String> {
        let mut behaviours = vec![behaviour.clone(); SERVICES.len()];
        for text in overrides {
            let (service, rest) =
                text.split_once(':').ok_or_else(|| format!("{text:?}: expected SERVICE:NAME=VALUE,..."))?;
            let number = service_named(service)?;
            for pair in pairs(rest) {
                let (name, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?}: expected NAME=VALUE"))?;
                behaviours[number].set(name, value)?;
            }
        }
        let stock = |(number, behaviour): (usize, Behaviour)| Setting {
            shelf: Arc::new(Shelf::fill(number, &behaviour)),
            behaviour,
        };
        Ok(Shared {
            version: AtomicU64::new(0),
            settings: Mutex::new(Arc::new(behaviours.into_iter().enumerate().map(stock).collect())),
            counts: SERVICES.iter().map(|_| Counts::default()).collect(),
            connections: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            marks: Mutex::default(),
        })
    }

    /// Changes with every change of the settings.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The settings now.
    pub fn settings(&self) -> Settings {
        self.settings.lock().expect("nothing panics under this lock").clone()
    }

    /// Notes a request that must not come twice.
    pub fn on_mark(&self, mark: &[u8]) {
        let mut marks = self.marks.lock().expect("nothing panics under this lock");
        if marks.len() >= MARKS_MAX {
            marks.clear();
        }
        if !marks.insert(mark.to_vec()) {
            self.repeated.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Carries out a change: `{"service": "reviews", "stalls": 1}`; without a service, or with `"all"`, of all.
    ///
    /// # Errors
    /// A sentence. Nothing has changed then.
    pub fn change(&self, body: &[u8]) -> Result<(), String> {
        let change: Map<String, Value> =
            serde_json::from_slice(body).map_err(|error| format!("expected a JSON object: {error}"))?;
        let chosen = match change.get("service").map(|service| service.as_str().unwrap_or("")) {
            None | Some("all") => 0..SERVICES.len(),
            Some(name) => {
                let number = service_named(name)?;
                number..number + 1
            }
        };
        let mut behaviours: Vec<(usize, Behaviour)> = {
            let settings = self.settings();
            chosen.map(|number| (number, settings[number].behaviour.clone())).collect()
        };
        for (name, value) in change.iter().filter(|(name, _)| *name != "service") {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            behaviours.iter_mut().try_for_each(|(_, behaviour)| behaviour.set(name, &value))?;
        }
        let mut settings = self.settings.lock().expect("nothing panics under this lock");
        let mut changed = settings.as_ref().clone();
        for (number, behaviour) in behaviours {
            let setting = &mut changed[number];
            if setting.behaviour.sizes != behaviour.sizes {
                setting.shelf = Arc::new(Shelf::fill(number, &behaviour));
            }
            setting.behaviour = behaviour;
        }
        *settings = Arc::new(changed);
        self.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Settings and counts, as `GET /control` shows them.
    pub fn json(&self) -> Value {
        let settings = self.settings();
        let services = SERVICES.iter().zip(settings.iter()).zip(&self.counts).map(|((service, setting), counts)| {
            (service.name.to_owned(), json!({ "behaviour": setting.behaviour.json(), "counts": counts.json() }))
        });
        json!({
            "connections": self.connections.load(Ordering::Relaxed),
            "repeated": self.repeated.load(Ordering::Relaxed),
            "services": Value::Object(services.collect()),
        })
    }
}

fn service_named(name: &str) -> Result<usize, String> {
    number_of(name).ok_or_else(|| {
        let names: Vec<&str> = SERVICES.iter().map(|service| service.name).collect();
        format!("there is no service {name:?}: use all, {}", names.join(", "))
    })
}

/// Splits at commas that begin another `NAME=`: a value may hold one itself (`lognormal:5ms,90ms`).
fn pairs(text: &str) -> Vec<&str> {
    let mut pairs = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices(',') {
        let next = text[at + 1..].split(',').next().unwrap_or_default();
        if next.contains('=') {
            pairs.push(&text[start..at]);
            start = at + 1;
        }
    }
    pairs.push(&text[start..]);
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstreams::distribution::Latency;
    use std::time::Duration;

    fn small() -> Behaviour {
        let mut behaviour = Behaviour::default();
        behaviour.set("sizes", "1KB").unwrap();
        behaviour
    }

    #[test]
    fn overrides_concern_one_service() {
        let overrides = ["stock:latency=lognormal:5ms,90ms,errors=0.5".to_owned()];
        let shared = Shared::new(&small(), &overrides).unwrap();
        let settings = shared.settings();
        let stock = &settings[number_of("stock").unwrap()].behaviour;
        let (p50, p99) = (Duration::from_millis(5), Duration::from_millis(90));
        assert_eq!((stock.latency, stock.errors), (Latency::LogNormal { p50, p99 }, 0.5));
        assert_eq!(settings[0].behaviour, small());
        for wrong in ["stock", "nobody:errors=1", "stock:errors", "stock:errors=2"] {
            assert!(Shared::new(&small(), &[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_change_is_of_one_service_or_of_all_and_wholly_or_not() {
        let shared = Shared::new(&small(), &[]).unwrap();
        shared.change(br#"{"service": "reviews", "stalls": 1, "sizes": "2KB"}"#).unwrap();
        let settings = shared.settings();
        let reviews = number_of("reviews").unwrap();
        assert_eq!((settings[reviews].behaviour.stalls, settings[0].behaviour.stalls), (1.0, 0.0));
        let tail = settings[reviews].shelf.tails(Shape::Object)[0].len();
        assert_eq!(tail + Shape::Object.lead_bytes(), 2048);
        let version = shared.version();
        assert!(shared.change(br#"{"errors": 0.5, "latency": "soon"}"#).is_err());
        assert!(shared.change(b"[]").is_err());
        assert!(shared.change(br#"{"service": 5}"#).is_err());
        assert_eq!(shared.settings()[0].behaviour, small());
        assert_eq!(shared.version(), version);
        shared.change(br#"{"service": "all", "errors": 0.25}"#).unwrap();
        assert!(shared.settings().iter().all(|setting| setting.behaviour.errors == 0.25));
        assert_ne!(shared.version(), version);
    }

    #[test]
    fn a_mark_that_comes_twice_is_counted() {
        let shared = Shared::new(&small(), &[]).unwrap();
        [&b"a"[..], b"b", b"a"].iter().for_each(|mark| shared.on_mark(mark));
        assert_eq!(shared.json()["repeated"], 1);
    }
}
