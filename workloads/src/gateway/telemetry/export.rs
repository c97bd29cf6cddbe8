//! Sends what is gathered: each shard its spans, shard 0 the metrics of all.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use annulus_engine::Shard;
use annulus_engine::metrics::Counter;

use super::{Telemetry, otlp};
use crate::gateway::config::model::Exporter;
use crate::outbound::{self, Outbound};

/// How often spans are sent.
const SPANS_EVERY: Duration = Duration::from_secs(1);
/// Spans of a request, at most.
const BATCH_MAX: usize = 512;
/// How long a collector may take for a request.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Bytes of its answer that are read.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// A request that could not be taken goes out again after these pauses, then it is dropped.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];
/// How long the last spans are waited for at the end.
const FAREWELL_MAX: Duration = Duration::from_secs(2);
/// Failures are logged this often at most.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// A collector, as one shard sees it.
pub struct Collector {
    pub(super) exporter: Exporter,
    outbound: Rc<Outbound>,
    taken: Arc<Counter>,
    failed: Arc<Counter>,
    logged: Cell<Option<Duration>>,
}

impl Collector {
    pub(super) fn new(shard: &Shard, exporter: &Exporter, outbound: &Rc<Outbound>) -> Collector {
        let count = |outcome: &str| {
            let labels = [("exporter", &exporter.name[..]), ("outcome", outcome)];
            let help = "Requests to a collector, with their repetitions.";
            shard.metrics().counter_with("annulus_gateway_telemetry_requests_total", help, &labels)
        };
        Collector {
            exporter: exporter.clone(),
            outbound: outbound.clone(),
            taken: count("taken"),
            failed: count("failed"),
            logged: Cell::new(None),
        }
    }

    /// Whether the collector took it.
    async fn send(&self, path: &str, body: &[u8]) -> bool {
        let (shard, endpoint) = (self.outbound.shard(), self.exporter.endpoint.at(path));
        let mut pauses = PAUSES.iter();
        loop {
            let posted = outbound::post_json(&self.outbound, &endpoint, &[], body, ANSWER_BYTES_MAX, ANSWER_MAX).await;
            let (why, may_repeat) = match posted {
                Ok(200..=299) => {
                    self.taken.add(1);
                    return true;
                }
                // OTLP names these four.
                Ok(status) => {
                    (format!("{endpoint} answered with status {status}"), matches!(status, 429 | 502 | 503 | 504))
                }
                Err(why) => (why, true),
            };
            self.failed.add(1);
            match pauses.next().filter(|_| may_repeat) {
                Some(pause) => shard.sleep(*pause).await,
                None => {
                    self.tell(shard.now(), &why);
                    return false;
                }
            }
        }
    }

    fn tell(&self, now: Duration, why: &str) {
        if self.logged.get().is_none_or(|logged| now >= logged + LOG_EVERY) {
            self.logged.set(Some(now));
            crate::warn!("gateway: the collector {} did not take telemetry: {why}", self.exporter.name);
        }
    }
}

impl Telemetry {
    /// Sends for as long as anybody else has it, and then what is left.
    pub async fn export(self: Rc<Self>, shard: Shard) {
        let mut due = vec![shard.now(); self.collectors.len()];
        loop {
            shard.sleep(SPANS_EVERY).await;
            let is_last = Rc::strong_count(&self) == 1;
            self.send_spans().await;
            if is_last {
                return;
            }
            if shard.index() == 0 {
                self.send_metrics(&shard, &mut due).await;
            }
        }
    }

    /// Sends what is left, if that is soon.
    pub async fn farewell(&self, shard: &Shard) {
        if shard.timeout(FAREWELL_MAX, Box::pin(self.send_spans())).await.is_err() {
            crate::warn!("gateway: spans were left, because no collector took them within {FAREWELL_MAX:?}");
        }
    }

    async fn send_spans(&self) {
        loop {
            let spans = self.take(BATCH_MAX);
            if spans.is_empty() {
                return;
            }
            let body = otlp::traces(&self.resource, &spans);
            let mut is_taken = true;
            for collector in self.collectors.iter().filter(|collector| collector.exporter.traces) {
                is_taken &= collector.send("/v1/traces", &body).await;
            }
            if !is_taken {
                self.dropped.add(spans.len() as u64);
            }
        }
    }

    async fn send_metrics(&self, shard: &Shard, due: &mut [Duration]) {
        for (collector, due) in self.collectors.iter().zip(due) {
            let now = shard.now();
            if !collector.exporter.metrics || now < *due {
                continue;
            }
            *due = now + collector.exporter.metric_period;
            let (_, began) = super::process();
            let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            collector.send("/v1/metrics", &otlp::metrics(&self.resource, shard.all_metrics(), *began, time)).await;
        }
    }
}
