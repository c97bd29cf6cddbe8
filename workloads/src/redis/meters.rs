//! What a shard counts of its Redis, by what it is for.

use std::sync::Arc;

use annulus_engine::Shard;
use annulus_engine::metrics::{Counter, Gauge, Histogram, Unit};

/// Of one purpose on one shard, all its connections together.
pub(super) struct Meters {
    /// Connections that are ready for commands.
    pub(super) up: Arc<Gauge>,
    /// Connections that were made.
    pub(super) connects: Arc<Counter>,
    /// Attempts that failed.
    pub(super) failures: Arc<Counter>,
    /// Calls that were sent.
    pub(super) calls: Arc<Counter>,
    /// Sends that carried them: calls for each send are what was gathered.
    pub(super) sends: Arc<Counter>,
    /// Bytes of calls.
    pub(super) sent: Arc<Counter>,
    /// Bytes of answers.
    pub(super) received: Arc<Counter>,
    /// Calls that were not sent: no connection, or too many under way.
    pub(super) refused: Arc<Counter>,
    /// Calls whose connection broke before their answers came.
    pub(super) doubtful: Arc<Counter>,
    /// From a batch's leaving to the answer to its last call.
    pub(super) answers: Arc<Histogram>,
}

impl Meters {
    /// A shard's.
    pub(super) fn new(shard: &Shard, purpose: &str) -> Meters {
        let (metrics, labels) = (shard.metrics(), [("for", purpose)]);
        let counter = |name, help| metrics.counter_with(name, help, &labels);
        Meters {
            up: metrics.gauge_with("annulus_redis_connections", "Connections to Redis that take commands.", &labels),
            connects: counter("annulus_redis_connects_total", "Connections to Redis that were made."),
            failures: counter("annulus_redis_connect_failures_total", "Attempts to connect to Redis that failed."),
            calls: counter("annulus_redis_calls_total", "Commands sent to Redis."),
            sends: counter("annulus_redis_sends_total", "Sends that carried commands to Redis, each one or more."),
            sent: counter("annulus_redis_sent_bytes_total", "Bytes of commands sent to Redis."),
            received: counter("annulus_redis_received_bytes_total", "Bytes of answers and messages from Redis."),
            refused: counter(
                "annulus_redis_unsent_total",
                "Commands that were not sent to Redis, because it was away or too many had no answer yet.",
            ),
            doubtful: counter(
                "annulus_redis_doubtful_total",
                "Commands whose connection to Redis broke before the answer came: they may have been carried out.",
            ),
            answers: metrics.histogram_with(
                "annulus_redis_answer_seconds",
                "From a command's leaving to its answer.",
                Unit::Micros,
                &labels,
            ),
        }
    }
}
