//! Figures for the dashboard: what each shard knows, written down once a second where every shard can read it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use annulus_engine::Shard;
use annulus_engine::metrics::Snapshot;
use annulus_protocols::json::write_string;

use super::endpoint::Service;
use super::live::{Live, name_of};
use super::meters::EndpointMeters;

/// All shards' figures, as JSON.
#[derive(Default)]
pub struct Figures {
    shards: Mutex<Vec<String>>,
}

impl Figures {
    /// Writes down a shard's.
    pub fn publish(&self, shard: &Shard, json: String) {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards.resize(shard.count(), String::new());
        shards[shard.index()] = json;
    }

    /// All of them, as a document.
    pub fn all(&self, shard: &Shard) -> Vec<u8> {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let known: Vec<&str> = shards.iter().map(String::as_str).filter(|json| !json.is_empty()).collect();
        format!("{{\"now_ms\":{},\"shards\":[{}]}}", shard.now().as_millis(), known.join(",")).into_bytes()
    }
}

/// A shard's view of latencies: of the last period, not of all time.
pub struct Recent {
    before: RefCell<Vec<OfEndpoint>>,
}

/// What had been counted when figures were last written.
struct OfEndpoint {
    all: Snapshot,
    backends: Vec<Snapshot>,
}

impl Recent {
    /// Beginning now: meters outlive a reload, and what they counted before is not recent.
    pub fn new(live: &Live) -> Recent {
        let of = |(service, meters): (&Service, &EndpointMeters)| OfEndpoint {
            all: meters.latency.snapshot(),
            backends: service.everybody().map(|ready| ready.latency()).collect(),
        };
        Recent { before: RefCell::new(live.services().iter().zip(live.endpoint_meters()).map(of).collect()) }
    }

    /// Writes a shard's figures down.
    pub fn write(&self, live: &Rc<Live>) -> String {
        let (memory, meters) = (live.memory.figures(), &live.meters);
        let mut out = format!(
            "{{\"shard\":{},\"at_ms\":{},\"in_flight\":{},\"level\":\"{}\",\"memory\":[{},{}],\"shed\":{},\
             \"limited\":{},\"endpoints\":[",
            live.shard.index(),
            live.shard.now().as_millis(),
            live.in_flight.get(),
            live.shedder.level().name(),
            memory.0,
            memory.1,
            meters.shed.get(),
            meters.limited.get(),
        )
        .into_bytes();
        self.write_endpoints(live, &mut out);
        out.extend_from_slice(b"],\"upstreams\":[");
        write_upstreams(live, &mut out);
        out.extend_from_slice(b"]}");
        String::from_utf8_lossy(&out).into_owned()
    }

    fn write_endpoints(&self, live: &Live, out: &mut Vec<u8>) {
        let mut before = self.before.borrow_mut();
        for (index, (service, meters)) in live.services().iter().zip(live.endpoint_meters()).enumerate() {
            separate(out, index);
            out.extend_from_slice(b"{\"endpoint\":");
            write_string(out, &name_of(&service.endpoint));
            out.extend_from_slice(
                format!(",\"answers\":{:?},\"limited\":{}", meters.answers(), meters.limited.get()).as_bytes(),
            );
            write_limit(out, live.limit_left(index));
            write_quantiles(out, &mut before[index].all, meters.latency.snapshot());
            out.extend_from_slice(b",\"backends\":[");
            for (place, ready) in service.everybody().enumerate() {
                separate(out, place);
                out.extend_from_slice(b"{\"backend\":");
                write_string(out, &ready.backend.url_pattern.source);
                let now = live.shard.now();
                ready.write_figures(out, now);
                write_limit(out, ready.limit_left(now));
                write_quantiles(out, &mut before[index].backends[place], ready.latency());
                out.push(b'}');
            }
            out.extend_from_slice(b"],\"sample\":");
            service.write_sample(out);
            out.push(b'}');
        }
    }
}

/// Percentiles of what came since `before`, which becomes `now`. All are 0 where nothing came.
fn write_quantiles(out: &mut Vec<u8>, before: &mut Snapshot, now: Snapshot) {
    let recent = now.since(before);
    let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|q| recent.quantile(q));
    let text = format!(",\"recent\":{},\"p50_us\":{p50},\"p95_us\":{p95},\"p99_us\":{p99}", recent.count());
    out.extend_from_slice(text.as_bytes());
    *before = now;
}

/// Tokens left of a rate limit's, or null where there is none.
fn write_limit(out: &mut Vec<u8>, limit: Option<(f64, u64)>) {
    let text = limit.map_or_else(|| "null".to_owned(), |(left, capacity)| format!("[{left:.2},{capacity}]"));
    out.extend_from_slice(format!(",\"limit\":{text}").as_bytes());
}

fn write_upstreams(live: &Live, out: &mut Vec<u8>) {
    for (index, upstream) in live.upstreams.all().iter().enumerate() {
        separate(out, index);
        let (idle, connections, streams) = upstream.connections();
        out.extend_from_slice(b"{\"origin\":");
        write_string(out, &upstream.origin.to_string());
        let counts = &upstream.counts;
        let (limit, refused_share) = upstream.bearing.figures();
        out.extend_from_slice(
            format!(
                ",\"calls\":{},\"in_flight\":{},\"limit\":{limit},\"refused_share\":{refused_share:.3},\
                 \"connects\":{},\"connect_failures\":{},\"idle_http1\":{idle},\"http2\":{connections},\
                 \"streams\":{streams}}}",
                counts.calls.get(),
                counts.in_flight.get(),
                counts.connects.get(),
                counts.connect_failures.get()
            )
            .as_bytes(),
        );
    }
}

fn separate(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.push(b',');
    }
}
