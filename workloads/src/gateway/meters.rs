//! What the gateway counts, per shard, for `/metrics` and the dashboard.

use std::sync::Arc;
use std::time::Duration;

use annulus_engine::Shard;
use annulus_engine::metrics::{Counter, Gauge, Histogram, Unit};

use super::config::model::Endpoint;

/// Of the whole gateway.
pub struct Meters {
    /// Requests under way.
    pub in_flight: Arc<Gauge>,
    /// What could not be read as a request.
    pub refused: Arc<Counter>,
    /// Requests refused because there was too much.
    pub shed: Arc<Counter>,
    /// Requests beyond a rate limit.
    pub limited: Arc<Counter>,
    /// Requests that a guard did not let in.
    pub denied: Arc<Counter>,
    /// Connections ended because their clients did not take what was there for them.
    pub slow: Arc<Counter>,
    /// Lines left out of the access log.
    pub unlogged: Arc<Counter>,
    memory: [Arc<Gauge>; 2],
    statuses: [Arc<Counter>; 5],
}

const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

fn class(status: u16) -> usize {
    usize::from(status / 100).clamp(1, 5) - 1
}

impl Meters {
    /// A shard's.
    pub fn new(shard: &Shard) -> Meters {
        let metrics = shard.metrics();
        let status = |class: &str| {
            metrics.counter_with("annulus_gateway_answers_total", "Answers to clients.", &[("status", class)])
        };
        Meters {
            in_flight: metrics.gauge("annulus_gateway_requests_in_flight", "Requests under way."),
            refused: metrics.counter("annulus_gateway_refused_total", "Requests that could not be read."),
            shed: metrics.counter("annulus_gateway_shed_total", "Requests refused because there was too much."),
            limited: metrics.counter("annulus_gateway_limited_total", "Requests beyond a rate limit."),
            denied: metrics
                .counter("annulus_gateway_denied_total", "Requests whose program, token or body was not let in."),
            slow: metrics.counter(
                "annulus_gateway_slow_clients_total",
                "Connections ended because their clients took answers too slowly.",
            ),
            unlogged: metrics.counter("annulus_gateway_unlogged_total", "Lines left out of the access log."),
            memory: [
                metrics.gauge(
                    "annulus_gateway_memory_bytes",
                    "Bytes that answers take; the first shard tells it for all.",
                ),
                metrics.gauge("annulus_gateway_memory_budget_bytes", "What they may take together."),
            ],
            statuses: STATUS_CLASSES.map(status),
        }
    }

    /// Shows what answers take of the memory, and may take. It is one budget of all shards, so one of them shows it.
    pub fn show_memory(&self, (taken, budget): (u64, u64)) {
        self.memory[0].set(taken);
        self.memory[1].set(budget);
    }

    /// Counts an answer.
    pub fn count_status(&self, status: u16) {
        self.statuses[class(status)].add(1);
    }
}

/// Of questions whether hosts are well.
pub struct HealthMeters {
    passed: Arc<Counter>,
    failed: Arc<Counter>,
    /// Hosts that this shard asks and that are not well.
    pub unwell: Arc<Gauge>,
}

impl HealthMeters {
    /// A shard's.
    pub fn new(shard: &Shard) -> HealthMeters {
        let metrics = shard.metrics();
        let outcome = |outcome: &str| {
            let (name, help) = ("annulus_gateway_health_checks_total", "Questions whether hosts are well.");
            metrics.counter_with(name, help, &[("outcome", outcome)])
        };
        HealthMeters {
            passed: outcome("passed"),
            failed: outcome("failed"),
            unwell: metrics
                .gauge("annulus_gateway_hosts_unwell", "Hosts that are not well, on the shard that asks them."),
        }
    }

    /// Counts an outcome.
    pub fn count(&self, passed: bool) {
        if passed { &self.passed } else { &self.failed }.add(1);
    }
}

/// Of one backend.
pub struct BackendMeters {
    /// Calls that it served.
    pub served: Arc<Counter>,
    /// Calls that failed.
    pub failed: Arc<Counter>,
    /// Calls that were not made: its breaker or its limit.
    pub refused: Arc<Counter>,
    /// Calls that were made beside one that was slow.
    pub hedges: Arc<Counter>,
    /// Calls that were made at once with another.
    pub concurrent: Arc<Counter>,
    /// Answers that were kept from an earlier call.
    pub cached: Arc<Counter>,
    /// Calls that were made again.
    pub retries: Arc<Counter>,
    /// From the first call to the answer's end.
    pub latency: Arc<Histogram>,
}

impl BackendMeters {
    /// A backend's, on one shard.
    pub fn new(shard: &Shard, endpoint: &str, backend: &str) -> BackendMeters {
        let metrics = shard.metrics();
        let labels = [("endpoint", endpoint), ("backend", backend)];
        let outcome = |outcome: &str| {
            let labels = [labels[0], labels[1], ("outcome", outcome)];
            metrics.counter_with("annulus_gateway_backend_calls_total", "Calls to a backend.", &labels)
        };
        BackendMeters {
            served: outcome("served"),
            failed: outcome("failed"),
            refused: outcome("refused"),
            hedges: metrics.counter_with(
                "annulus_gateway_hedges_total",
                "Calls that were made beside one that was slow.",
                &labels,
            ),
            concurrent: metrics.counter_with(
                "annulus_gateway_concurrent_calls_total",
                "Calls that were made at once with another, as concurrent_calls says.",
                &labels,
            ),
            cached: metrics.counter_with(
                "annulus_gateway_cached_total",
                "Answers of backends that were kept from an earlier call.",
                &labels,
            ),
            retries: metrics.counter_with("annulus_gateway_retries_total", "Calls that were made again.", &labels),
            latency: metrics.histogram_with(
                "annulus_gateway_backend_seconds",
                "From a call to the end of its answer.",
                Unit::Micros,
                &labels,
            ),
        }
    }

    /// Counts a call: served or failed, or given up for reasons of our own.
    pub fn count(&self, served: Option<bool>, took: Duration) {
        match served {
            Some(true) => self.served.add(1),
            Some(false) => self.failed.add(1),
            None => return,
        }
        self.latency.record(took.as_micros() as u64);
    }
}

/// Of one endpoint.
pub struct EndpointMeters {
    statuses: [Arc<Counter>; 5],
    /// Requests beyond one of its rate limits.
    pub limited: Arc<Counter>,
    /// From the head to the answer.
    pub latency: Arc<Histogram>,
}

impl EndpointMeters {
    /// An endpoint's, on one shard.
    pub fn new(shard: &Shard, endpoint: &Endpoint) -> EndpointMeters {
        let metrics = shard.metrics();
        let name = format!("{} {}", endpoint.method.as_str(), endpoint.pattern);
        let status = |class: &str| {
            let labels = [("endpoint", &name[..]), ("status", class)];
            metrics.counter_with("annulus_gateway_endpoint_answers_total", "Answers of an endpoint.", &labels)
        };
        EndpointMeters {
            statuses: STATUS_CLASSES.map(status),
            limited: metrics.counter_with(
                "annulus_gateway_endpoint_limited_total",
                "Requests beyond one of an endpoint's rate limits.",
                &[("endpoint", &name[..])],
            ),
            latency: metrics.histogram_with(
                "annulus_gateway_endpoint_seconds",
                "From a request's head to its answer.",
                Unit::Micros,
                &[("endpoint", &name[..])],
            ),
        }
    }

    /// Counts an answer and the time it took.
    pub fn count(&self, status: u16, spent: Duration) {
        self.statuses[class(status)].add(1);
        self.latency.record(spent.as_micros() as u64);
    }

    /// Answers by class of their status.
    pub fn answers(&self) -> [u64; 5] {
        std::array::from_fn(|class| self.statuses[class].get())
    }
}
