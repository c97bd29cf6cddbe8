//! What the doors of one shard share: where a request goes, and what it gets.

use super::behaviour::Fate;
use super::body::{Shape, tail};
use super::control::{Settings, Shared};
use super::distribution::{BODY_BYTES_MAX, LATENCY_MAX};
use super::service::{SERVICES, number_of};
use crate::random::Random;
use annulus_engine::Frame;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Bytes of bodies made for `bytes=N` that a shard keeps; beyond, it starts afresh.
const MADE_BYTES_MAX: usize = 64 << 20;

/// Where a request's target leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To a service.
    Service(Ask),
    /// To the settings.
    Control,
    /// Nowhere.
    Nowhere,
    /// To a service, with a size or delay that is none.
    Malformed,
}

/// What a request asks of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The service's number.
    pub service: usize,
    /// An object, or a list.
    pub shape: Shape,
    /// The body's size, instead of one of the service's.
    pub bytes: Option<usize>,
    /// The time until the answer, instead of the service's.
    pub delay: Option<Duration>,
    /// Seconds for which the answer says that it may be kept; none: it does not say.
    pub fresh_s: Option<u32>,
}

/// Finds the service. `door` is the one whose port the request came to.
pub fn route(door: Option<usize>, path: &str, query: Option<&str>) -> Target {
    // Paths that end so are the ones a configuration marks with `is_collection`.
    let shape = if path.ends_with("/list") { Shape::List } else { Shape::Object };
    let ask = |service| Target::Service(Ask { service, shape, bytes: None, delay: None, fresh_s: None });
    let first = |rest: &str| rest.split('/').next().unwrap_or_default().to_owned();
    if path == "/control" {
        return Target::Control;
    }
    if let Some(rest) = path.strip_prefix("/svc/") {
        return number_of(&first(rest)).map_or(Target::Nowhere, ask);
    }
    if let Some(rest) = path.strip_prefix("/s/") {
        let Ok(number) = first(rest).parse::<usize>() else { return Target::Nowhere };
        return neutral(number % SERVICES.len(), shape, query.unwrap_or_default());
    }
    door.map_or(Target::Nowhere, ask)
}

fn neutral(service: usize, shape: Shape, query: &str) -> Target {
    let mut ask = Ask { service, shape, bytes: None, delay: None, fresh_s: None };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').map(|(name, value)| (name, value.parse::<u64>())) {
            Some(("bytes", Ok(bytes))) if bytes <= BODY_BYTES_MAX as u64 => ask.bytes = Some(bytes as usize),
            Some(("delay_ms", Ok(ms))) if ms <= LATENCY_MAX.as_millis() as u64 => {
                ask.delay = Some(Duration::from_millis(ms));
            }
            Some(("fresh_s", Ok(seconds))) if seconds <= u64::from(u32::MAX) => ask.fresh_s = Some(seconds as u32),
            Some(("bytes" | "delay_ms" | "fresh_s", _)) => return Target::Malformed,
            _ => {}
        }
    }
    Target::Service(ask)
}

/// What a request will get, decided when it arrives.
#[derive(Clone, Debug)]
pub struct Order {
    /// Whose it is.
    pub service: u8,
    /// An object, or a list.
    pub shape: Shape,
    /// What becomes of it.
    pub fate: Fate,
    /// When, from now.
    pub delay: Duration,
    /// Requests after which its connection is retired; zero: never.
    pub goaway_every: u64,
    /// Seconds for which it may be kept, if it says that.
    pub fresh_s: Option<u32>,
    /// The body, without its lead.
    pub tail: Frame,
}

impl Order {
    /// Whether a request of this method, acted upon twice, does something twice; one that is turned away does nothing.
    pub fn acts_on(&self, method: &str) -> bool {
        method == "POST" && self.fate != Fate::Refuse
    }

    /// What it says of being kept, as a field.
    pub fn cache_control(&self) -> Option<String> {
        self.fresh_s.map(|seconds| format!("max-age={seconds}"))
    }

    /// The body's length, with its lead.
    pub fn body_bytes(&self) -> usize {
        self.shape.lead_bytes() + self.tail.len()
    }
}

/// One shard's view of the settings, and its bodies as frames.
pub struct Floor {
    shared: Arc<Shared>,
    version: u64,
    settings: Settings,
    frames: Vec<[Vec<Frame>; 2]>,
    made: HashMap<(usize, Shape, usize), Frame>,
    made_bytes: usize,
    random: Random,
}

impl Floor {
    /// A shard's floor; the seed makes its chances repeatable.
    pub fn new(shared: Arc<Shared>, seed: u64) -> Floor {
        let (version, settings) = (shared.version(), shared.settings());
        let frames = frames_of(&settings);
        Floor {
            shared,
            version,
            settings,
            frames,
            made: HashMap::new(),
            made_bytes: 0,
            random: Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        }
    }

    /// What all shards share.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Decides what a request gets.
    pub fn order(&mut self, ask: &Ask) -> Order {
        self.refresh();
        self.shared.counts[ask.service].requests.fetch_add(1, Ordering::Relaxed);
        let behaviour = &self.settings[ask.service].behaviour;
        let fate = behaviour.fate(&mut self.random);
        let delay = behaviour.delay(ask.delay, &mut self.random);
        let goaway_every = behaviour.goaway_every;
        let tail = match ask.bytes {
            Some(bytes) => self.made(ask.service, ask.shape, bytes),
            None => {
                let frames = &self.frames[ask.service][ask.shape as usize];
                frames[self.random.below(frames.len())].clone()
            }
        };
        Order { service: ask.service as u8, shape: ask.shape, fate, delay, goaway_every, fresh_s: ask.fresh_s, tail }
    }

    fn refresh(&mut self) {
        let version = self.shared.version();
        if version != self.version {
            self.version = version;
            self.settings = self.shared.settings();
            self.frames = frames_of(&self.settings);
        }
    }

    fn made(&mut self, service: usize, shape: Shape, bytes: usize) -> Frame {
        if let Some(frame) = self.made.get(&(service, shape, bytes)) {
            return frame.clone();
        }
        if self.made_bytes > MADE_BYTES_MAX {
            self.made.clear();
            self.made_bytes = 0;
        }
        let frame = Frame::owned(tail(service, shape, bytes));
        self.made_bytes += frame.len();
        self.made.insert((service, shape, bytes), frame.clone());
        frame
    }
}

fn frames_of(settings: &Settings) -> Vec<[Vec<Frame>; 2]> {
    let of = |shelf: &super::control::Shelf, shape| shelf.tails(shape).iter().cloned().map(Frame::shared).collect();
    let both = |setting: &super::control::Setting| [of(&setting.shelf, Shape::Object), of(&setting.shelf, Shape::List)];
    settings.iter().map(both).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstreams::behaviour::Behaviour;

    fn ask(service: usize, shape: Shape) -> Ask {
        Ask { service, shape, bytes: None, delay: None, fresh_s: None }
    }

    #[test]
    fn targets_lead_to_services_by_port_and_by_path() {
        let stock = number_of("stock").unwrap();
        assert_eq!(route(Some(stock), "/items/5", None), Target::Service(ask(stock, Shape::Object)));
        assert_eq!(route(None, "/svc/stock/items/5", None), Target::Service(ask(stock, Shape::Object)));
        assert_eq!(route(None, "/svc/stock/list", Some("q=1")), Target::Service(ask(stock, Shape::List)));
        assert_eq!(route(None, "/items/5", None), Target::Nowhere);
        assert_eq!(route(Some(1), "/svc/nobody/x", None), Target::Nowhere);
        assert_eq!(route(Some(1), "/control", None), Target::Control);
    }

    #[test]
    fn the_neutral_path_says_size_and_delay_itself() {
        let delay = Some(Duration::from_millis(20));
        let wanted = Ask { service: 3, shape: Shape::Object, bytes: Some(1024), delay, fresh_s: Some(60) };
        assert_eq!(route(None, "/s/25", Some("bytes=1024&delay_ms=20&fresh_s=60&x")), Target::Service(wanted));
        assert_eq!(route(None, "/s/3", None), Target::Service(ask(3, Shape::Object)));
        assert_eq!(route(None, "/s/x", None), Target::Nowhere);
        for query in ["bytes=x", "bytes=99999999999", "delay_ms=-1", "delay_ms=9999999", "fresh_s=soon"] {
            assert_eq!(route(None, "/s/3", Some(query)), Target::Malformed, "{query}");
        }
    }

    #[test]
    fn orders_follow_changed_settings() {
        let mut behaviour = Behaviour::default();
        behaviour.set("sizes", "1KB").unwrap();
        let shared = Arc::new(Shared::new(&behaviour, &[]).unwrap());
        let mut floor = Floor::new(shared.clone(), 1);
        let order = floor.order(&ask(2, Shape::Object));
        assert_eq!((order.body_bytes(), order.fate), (1024, Fate::Answer));
        assert!(order.delay >= Duration::from_millis(100) && order.delay <= Duration::from_millis(500));
        shared.change(br#"{"service": "stock", "sizes": "3KB", "stalls": 1, "latency": "0"}"#).unwrap();
        let order = floor.order(&ask(2, Shape::List));
        assert_eq!((order.body_bytes(), order.fate, order.delay), (3072, Fate::Stall, Duration::ZERO));
        let order = floor.order(&Ask { bytes: Some(777), ..ask(0, Shape::Object) });
        assert_eq!((order.body_bytes(), order.fate), (777, Fate::Answer));
    }
}
