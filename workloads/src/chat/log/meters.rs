//! What the log tells of itself in `/metrics`.

use std::sync::Arc;

use annulus_engine::metrics::{Counter, Gauge, Histogram, ShardMetrics, Unit};

/// The log's series, all of the writer's shard.
#[derive(Clone, Debug)]
pub struct Meters {
    /// Batches written.
    pub batches: Arc<Counter>,
    /// Records in them.
    pub records: Arc<Counter>,
    /// Bytes of them.
    pub bytes: Arc<Counter>,
    /// Records per batch.
    pub batch_records: Arc<Histogram>,
    /// How long `fdatasync` took, in microseconds.
    pub sync: Arc<Histogram>,
    /// How long writing took, in microseconds.
    pub write: Arc<Histogram>,
    /// Bytes that the log holds.
    pub used_bytes: Arc<Gauge>,
    /// Bytes that wait for the writer.
    pub waiting_bytes: Arc<Gauge>,
    /// 1 while new publications must be refused.
    pub full: Arc<Gauge>,
    /// 1 once a write or a sync has failed.
    pub failed: Arc<Gauge>,
    /// Checkpoints completed.
    pub checkpoints: Arc<Counter>,
}

impl Meters {
    pub(super) fn new(metrics: &ShardMetrics) -> Meters {
        Meters {
            batches: metrics.counter("annulus_chat_log_batches_total", "Batches written to the log."),
            records: metrics.counter("annulus_chat_log_records_total", "Records written to the log."),
            bytes: metrics.counter("annulus_chat_log_written_bytes_total", "Bytes written to the log."),
            batch_records: metrics.histogram("annulus_chat_log_batch_records", "Records in a batch.", Unit::Plain),
            sync: metrics.histogram("annulus_chat_log_sync_seconds", "How long fdatasync took.", Unit::Micros),
            write: metrics.histogram("annulus_chat_log_write_seconds", "How long writing a batch took.", Unit::Micros),
            used_bytes: metrics.gauge("annulus_chat_log_used_bytes", "Bytes that the log holds."),
            waiting_bytes: metrics.gauge("annulus_chat_log_waiting_bytes", "Bytes on their way to the log."),
            full: metrics.gauge("annulus_chat_log_full", "1 while new publications are refused for want of room."),
            failed: metrics.gauge("annulus_chat_log_failed", "1 once the log has failed and the node is read-only."),
            checkpoints: metrics.counter("annulus_chat_log_checkpoints_total", "Checkpoints completed."),
        }
    }
}
