//! Traces and metrics for a collector of OpenTelemetry: `telemetry/opentelemetry`.
//!
//! ```text
//!   identity.rs ─► is it sampled? ─► span.rs: a span for the request, one for each call to a host
//!                                      └► gathered, up to SPANS_MAX ─┐ every second, in batches
//!   engine's metrics ─► every metric_reporting_period (shard 0) ─────┤
//!                                                          otlp.rs: JSON ─► export.rs: POST /v1/traces, /v1/metrics
//! ```
//!
//! Nothing waits for a collector: what it does not take in time is dropped, counted, and said in the log now and then.

mod export;
mod otlp;
mod span;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use annulus_engine::Shard;
use annulus_engine::metrics::Counter;

use super::config::model;
use super::identity::{Context, mixed};
use crate::outbound::Outbound;
use export::Collector;
use otlp::Resource;
use span::Span;

pub use span::{CallSpan, RequestSpan};

/// Spans of a shard that wait to be sent. Beyond, they are dropped: some 2 MB.
const SPANS_MAX: usize = 4096;

/// What tells this process from others of the same service, and when it began to count, since 1970.
fn process() -> &'static (String, Duration) {
    static PROCESS: OnceLock<(String, Duration)> = OnceLock::new();
    PROCESS.get_or_init(|| {
        let instance = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
        (instance, SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    })
}

/// A shard's.
pub struct Telemetry {
    settings: Arc<model::Telemetry>,
    collectors: Vec<Collector>,
    resource: Resource,
    spans: RefCell<VecDeque<Span>>,
    /// What the ids of spans are made from.
    ids: Cell<u64>,
    dropped: Arc<Counter>,
}

impl Telemetry {
    /// Without spans yet; it begins to send at once.
    pub fn start(shard: &Shard, settings: &Arc<model::Telemetry>, outbound: &Rc<Outbound>) -> Rc<Telemetry> {
        let help = "Spans that a collector did not take: too many waited, or it did not answer.";
        let collector = |exporter| Collector::new(shard, exporter, outbound);
        let telemetry = Rc::new(Telemetry {
            settings: settings.clone(),
            collectors: settings.exporters.iter().map(collector).collect(),
            resource: Resource::new(settings, process().0.clone()),
            spans: RefCell::default(),
            ids: Cell::new(RandomState::new().hash_one(shard.index())),
            dropped: shard.metrics().counter("annulus_gateway_spans_dropped_total", help),
        });
        drop(shard.spawn_background(telemetry.clone().export(shard.clone())));
        telemetry
    }

    /// The span of a request, if it is traced.
    pub fn begin<'a>(&'a self, shard: &'a Shard, context: &'a Context, path: &str) -> Option<RequestSpan<'a>> {
        let is_wanted = context.is_sampled && self.collectors.iter().any(|collector| collector.exporter.traces);
        (is_wanted && !self.settings.skip_paths.iter().any(|skipped| skipped == path))
            .then(|| RequestSpan::new(self, shard, context))
    }

    /// The id of a span.
    fn next_id(&self) -> u64 {
        let id = self.ids.get().wrapping_add(1);
        self.ids.set(id);
        mixed(id)
    }

    fn gather(&self, span: Span) {
        let mut spans = self.spans.borrow_mut();
        if spans.len() < SPANS_MAX {
            spans.push_back(span);
        } else {
            self.dropped.add(1);
        }
    }

    /// Takes up to so many of the oldest.
    fn take(&self, most: usize) -> Vec<Span> {
        let mut spans = self.spans.borrow_mut();
        let count = spans.len().min(most);
        spans.drain(..count).collect()
    }
}
