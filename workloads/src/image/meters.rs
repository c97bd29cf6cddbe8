//! What the service counts: for Prometheus, for autoscaling, and for the console.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use annulus_engine::Shard;
use annulus_engine::metrics::{Counter, Gauge, Histogram, ShardMetrics, Snapshot, Unit, render};
use serde_json::{Value, json};

use super::dispatch::{Desk, Telling};
use super::lanes::gpu::both::BothLanes;
use super::outbox::{Fill, Reader};
use super::quotas::Quotas;
use super::tus::Tus;
use super::variants::Variants;
use crate::serve::{Reply, ReplyBody};

/// One shard's meters.
pub struct Meters {
    /// Answers by the first digit of their status: 2 to 5.
    answers: [Arc<Counter>; 4],
    uploads: Arc<Gauge>,
    pub(super) event_streams: Arc<Gauge>,
    accepted: Arc<Counter>,
    bytes_in: Arc<Counter>,
    delivered: Arc<Counter>,
    bytes_out: Arc<Counter>,
    accept_us: Arc<Histogram>,
}

const ACCEPT: (&str, &str) = ("annulus_image_accept_seconds", "From an upload's last byte to its job in the queue.");

impl Meters {
    /// The meters of this shard.
    pub fn of(shard: &Shard) -> Meters {
        let metrics = shard.metrics();
        let answers = ["2xx", "3xx", "4xx", "5xx"].map(|class| {
            metrics.counter_with("annulus_image_answers_total", "Answers to HTTP requests.", &[("status", class)])
        });
        Meters {
            answers,
            uploads: metrics.gauge("annulus_image_uploads", "Uploads on their way in."),
            event_streams: metrics.gauge("annulus_image_event_streams", "Streams of events that are open."),
            accepted: metrics.counter("annulus_image_uploads_total", "Uploads that became jobs."),
            bytes_in: metrics.counter("annulus_image_upload_bytes_total", "Bytes of uploads that became jobs."),
            delivered: metrics.counter("annulus_image_deliveries_total", "Images delivered, whole or in part."),
            bytes_out: metrics.counter("annulus_image_delivery_bytes_total", "Bytes of images delivered."),
            accept_us: metrics.histogram(ACCEPT.0, ACCEPT.1, Unit::Micros),
        }
    }

    /// An answer was given.
    pub fn answered(&self, status: u16) {
        let class = usize::from(status / 100).clamp(2, 5) - 2;
        self.answers[class].add(1);
    }

    /// An upload begins; it ends when this is dropped.
    pub fn upload_begins(&self) -> UnderWay {
        self.uploads.add(1);
        UnderWay(self.uploads.clone())
    }

    /// An upload of so many bytes became a job, this long after its last byte.
    pub fn accepted(&self, took: Duration, bytes: u64) {
        self.accepted.add(1);
        self.bytes_in.add(bytes);
        self.accept_us.record(took.as_micros() as u64);
    }

    /// An image is delivered.
    pub fn delivered(&self, reply: Reply) -> Reply {
        if let ReplyBody::Streamed { len: Some(len), .. } = &reply.body {
            self.delivered.add(1);
            self.bytes_out.add(*len);
        }
        reply
    }

    /// All shards' metrics as Prometheus text.
    pub fn render(&self, shard: &Shard, desk: &Desk, quotas: &Quotas) -> String {
        show(&shard.all_metrics()[0], desk);
        quotas.show(&shard.all_metrics()[0]);
        render(shard.all_metrics())
    }

    /// What the console shows.
    pub fn figures(&self, shard: &Shard, desk: &Desk) -> Value {
        let (depth, counts, gate) = (desk.queue.depth(), desk.queue.counts(), &desk.gate);
        let sum = |name: &'static str, help: &'static str| -> u64 {
            shard.all_metrics().iter().map(|metrics| metrics.counter(name, help).get()).sum()
        };
        let accept = shard.all_metrics().iter().fold(Snapshot::default(), |mut all, metrics| {
            all.merge(&metrics.histogram(ACCEPT.0, ACCEPT.1, Unit::Micros).snapshot());
            all
        });
        let lanes: Vec<Value> = desk
            .lanes
            .iter()
            .map(|lane| json!({"name": lane.name, "threads": lane.threads, "busy": lane.busy(), "done": lane.ran(), "busy_us": lane.ran_us()}))
            .collect();
        json!({
            "queue": {
                "interactive": depth.interactive, "bulk": depth.bulk, "leased": depth.leased, "dead": depth.dead,
                "predicted_wait_ms": gate.forecast().as_millis() as u64,
                "delayed_after_ms": gate.marks().soft.as_millis() as u64,
                "refused_after_ms": gate.marks().hard.as_millis() as u64,
            },
            "memory": {"used": gate.budget().used(), "total": gate.budget().total(), "most": gate.budget().used_max()},
            "trouble": gate.pressure().why(gate.marks().disk_reserve_bytes),
            "lanes": lanes,
            "gpu": desk.both.as_deref().and_then(gpu_figures),
            "jobs": {
                "accepted": counts.accepted, "joined": counts.joined, "done": counts.done, "failed": counts.failed,
                "died": counts.died, "cancelled": counts.cancelled, "retried": counts.retried,
                "refused": gate.refused(), "shed": gate.shed(), "delayed": gate.delayed(),
            },
            "bytes": {
                "in": sum("annulus_image_upload_bytes_total", "Bytes of uploads that became jobs."),
                "out": sum("annulus_image_delivery_bytes_total", "Bytes of images delivered."),
            },
            "accept_us": {"count": accept.count(), "p50": accept.quantile(0.5), "p99": accept.quantile(0.99)},
            "commit_us_max": counts.commit_us_max,
        })
    }
}

/// What all shards share is shown once, by the first one's metrics.
pub(super) fn show(metrics: &ShardMetrics, desk: &Desk) {
    let (depth, counts, gate) = (desk.queue.depth(), desk.queue.counts(), &desk.gate);
    let waiting = [("interactive", depth.interactive), ("bulk", depth.bulk)];
    for (priority, depth) in waiting {
        let help = "Works that wait for their turn or their next attempt.";
        metrics.gauge_with("annulus_image_queue_depth", help, &[("priority", priority)]).set(depth);
    }
    for (name, help, value) in [
        ("annulus_image_queue_leased", "Works that are being worked on.", depth.leased),
        ("annulus_image_queue_dead", "Works that wait for a person.", depth.dead),
        (
            "annulus_image_predicted_wait_milliseconds",
            "How long a work that comes now will probably wait.",
            gate.forecast().as_millis() as u64,
        ),
        ("annulus_image_memory_reserved_bytes", "Predicted peaks of the works that run.", gate.budget().used()),
        ("annulus_image_memory_budget_bytes", "What they may be together.", gate.budget().total()),
    ] {
        metrics.gauge(name, help).set(value);
    }
    for (event, count) in [
        ("accepted", counts.accepted),
        ("joined", counts.joined),
        ("done", counts.done),
        ("failed", counts.failed),
        ("dead", counts.died),
        ("cancelled", counts.cancelled),
        ("retried", counts.retried),
        ("lease_expired", counts.expired),
        ("refused", gate.refused()),
        ("shed", gate.shed()),
        ("delayed", gate.delayed()),
    ] {
        metrics.counter_with("annulus_image_events_total", "What became of jobs.", &[("event", event)]).set(count);
    }
    metrics.counter("annulus_image_queue_commits_total", "Transactions of the queue.").set(counts.commits);
    if let Some(account) = &desk.audit {
        let Fill { waiting, lost, .. } = account.outbox.fill(Reader::Account);
        let sent = account.figures.sent.load(Ordering::Relaxed);
        let retries = account.figures.retries.load(Ordering::Relaxed);
        let counter = |name, help, count| metrics.counter(name, help).set(count);
        metrics.gauge("annulus_image_audit_waiting", "Events that wait to be in the account of jobs.").set(waiting);
        counter("annulus_image_audit_sent_total", "Events that the account's database has confirmed.", sent);
        counter("annulus_image_audit_lost_total", "Events left out of the account, because too many waited.", lost);
        counter("annulus_image_audit_retries_total", "Attempts to send events that failed.", retries);
    }
    if let Some(telling) = &desk.webhooks {
        show_webhooks(metrics, telling);
    }
    if let Some(variants) = &desk.variants {
        show_variants(metrics, variants);
    }
    if let Some(tus) = &desk.tus {
        show_tus(metrics, tus);
    }
    if let Some(both) = &desk.both {
        show_gpu(metrics, both);
    }
    for lane in desk.lanes.iter() {
        let label = &[("lane", lane.name)];
        let gauge = |name, help| metrics.gauge_with(name, help, label);
        gauge("annulus_image_lane_threads", "Threads of the lane.").set(lane.threads as u64);
        gauge("annulus_image_lane_busy", "Threads of the lane that are at work.").set(lane.busy());
        let counter = |name, help| metrics.counter_with(name, help, label);
        counter("annulus_image_lane_works_total", "Works that ended in the lane.").set(lane.ran());
        counter("annulus_image_lane_busy_microseconds_total", "Time that its threads were at work.").set(lane.ran_us());
    }
}

/// What the console shows of the GPU.
fn gpu_figures(both: &BothLanes) -> Option<Value> {
    let status = both.gpu()?.status();
    let spent_us = status.spent.map(|spent| spent.as_micros() as u64);
    let jobs: Vec<Value> =
        both.counts().all().map(|(lane, why, count)| json!({"lane": lane, "why": why, "count": count})).collect();
    Some(json!({
        "name": status.facts.map(|facts| facts.name), "up": status.worker.is_some(), "trouble": status.trouble,
        "faults": status.faults, "batches": status.batches, "jobs": status.jobs, "spent_us": spent_us, "routed": jobs,
    }))
}

fn show_gpu(metrics: &ShardMetrics, both: &BothLanes) {
    for (lane, why, count) in both.counts().all() {
        let (name, help) = ("annulus_image_routed_total", "Works by the lane that did them, and why that one.");
        metrics.counter_with(name, help, &[("lane", lane), ("why", why)]).set(count);
    }
    let Some(gpu) = both.gpu() else { return };
    let status = gpu.status();
    let up = "Whether the GPU's worker is up.";
    metrics.gauge("annulus_image_gpu_up", up).set(u64::from(status.worker.is_some()));
    for (name, help, count) in [
        ("annulus_image_gpu_faults_total", "Workers of the GPU that died, hung or broke.", status.faults),
        ("annulus_image_gpu_batches_total", "Batches that the GPU has done.", status.batches),
        ("annulus_image_gpu_batch_works_total", "Works in those batches.", status.jobs),
    ] {
        metrics.counter(name, help).set(count);
    }
    for (step, spent) in ["decode", "transform", "encode"].into_iter().zip(status.spent) {
        let (name, help) = ("annulus_image_gpu_desk_microseconds_total", "Time of batches at their desks, by step.");
        metrics.counter_with(name, help, &[("step", step)]).set(spent.as_micros() as u64);
    }
}

fn show_webhooks(metrics: &ShardMetrics, Telling { outbox, figures }: &Telling) {
    let Fill { waiting, lost, dead } = outbox.fill(Reader::Webhooks);
    metrics.gauge("annulus_image_webhooks_waiting", "Ends of jobs that are to be told.").set(waiting);
    metrics.gauge("annulus_image_webhooks_dead", "Dead letters: ends of jobs that nobody took.").set(dead);
    let [taken, given_up] = [&figures.taken, &figures.given_up].map(|count| count.load(Ordering::Relaxed));
    for (outcome, count) in [("taken", taken), ("dead_letter", given_up), ("lost", lost)] {
        let help = "Ends of jobs for webhooks, by what has become of them.";
        metrics.counter_with("annulus_image_webhooks_total", help, &[("outcome", outcome)]).set(count);
    }
    let [requests, failures] = [&figures.requests, &figures.failures].map(|count| count.load(Ordering::Relaxed));
    let counter = |name, help, count| metrics.counter(name, help).set(count);
    counter("annulus_image_webhook_requests_total", "Requests of webhooks, each attempt counted.", requests);
    counter("annulus_image_webhook_requests_failed_total", "Those of them that were not taken.", failures);
}

fn show_variants(metrics: &ShardMetrics, variants: &Variants) {
    let (figures, cache) = (&variants.figures, &variants.cache);
    for (event, count) in [
        ("found", &figures.found),
        ("made", &figures.made),
        ("joined", &figures.joined),
        ("refused", &figures.refused),
        ("unsigned", &figures.unsigned),
        ("failed", &figures.failed),
    ] {
        let help = "Requests for variants that found one, joined others or were refused; variants made and failed.";
        metrics
            .counter_with("annulus_image_variants_total", help, &[("event", event)])
            .set(count.load(Ordering::Relaxed));
    }
    let evicted = "Variants that left the store because they were too old or too much.";
    metrics.counter("annulus_image_variants_evicted_total", evicted).set(cache.evicted());
    for (name, help, value) in [
        ("annulus_image_variants_waiting", "Variants that wait to be made.", figures.waiting.load(Ordering::Relaxed)),
        ("annulus_image_variants_kept", "Variants in the store.", cache.entries()),
        ("annulus_image_variants_kept_bytes", "Bytes of the variants in the store.", cache.bytes()),
        ("annulus_image_variants_kept_bytes_max", "What they may be together.", variants.settings.bytes_max),
    ] {
        metrics.gauge(name, help).set(value);
    }
}

fn show_tus(metrics: &ShardMetrics, tus: &Tus) {
    let ((uploads, bytes), figures) = (tus.unfinished(), &tus.figures);
    metrics.gauge("annulus_image_tus_unfinished", "Resumable uploads that are no jobs yet.").set(uploads);
    let promised = "Bytes that those will have when they are finished.";
    metrics.gauge("annulus_image_tus_promised_bytes", promised).set(bytes);
    for (event, count) in [
        ("created", &figures.created),
        ("finished", &figures.finished),
        ("terminated", &figures.terminated),
        ("expired", &figures.expired),
        ("failed", &figures.failed),
        ("refused", &figures.refused),
        ("mismatched", &figures.mismatched),
    ] {
        let help = "Resumable uploads by what became of them; pieces whose checksum did not match.";
        let count = count.load(Ordering::Relaxed);
        metrics.counter_with("annulus_image_tus_total", help, &[("event", event)]).set(count);
    }
    let bytes = figures.bytes.load(Ordering::Relaxed);
    metrics.counter("annulus_image_tus_bytes_total", "Bytes of pieces, whatever became of them.").set(bytes);
}

/// An upload on its way.
pub struct UnderWay(Arc<Gauge>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}
