//! What is told of the inside at once: stalls, the shards' figures, and where messages' time went.

use std::time::{Duration, Instant, UNIX_EPOCH};

use annulus_engine::Shard;
use annulus_engine::metrics::{ShardMetrics, Snapshot};
use annulus_engine::stall::StallLog;
use annulus_engine::trace::{self, Stage, Traced};
use annulus_perf::attribution::{Slow, Table};
use serde_json::{Value, json};

use crate::serve::{Problem, Reply, Request};

/// How long figures may be counted.
const COUNTED_MAX: u64 = 60;

/// The list of what there is.
pub fn index() -> String {
    let links = [
        ("flamegraph?last=60", "where the last minute's processor time went, by shard and class of task"),
        ("flamegraph?seconds=10&hz=99", "the same of the next ten seconds, looked at more closely"),
        ("flamegraph?last=60&format=collapsed", "the same as text, for tools: seconds and last as above"),
        ("attribution", "where messages' time went, by percentile, and the slowest of the last minutes"),
        ("attribution?format=svg", "the same as a picture; kind=NAME chooses one of several"),
        ("stalls", "the last turns that took too long, with their stacks"),
        ("shards?seconds=1", "each shard's figures, counted for so long"),
    ];
    let rows: String = links
        .iter()
        .map(|(path, about)| {
            let path = path.replace('&', "&amp;");
            format!("<tr><td><a href=\"/debug/{path}\">{path}</a><td>{about}</tr>")
        })
        .collect();
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>annulus: inside</title><link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"/page.css\">\
         <main class=\"inside\"><header><h1><span class=\"ring\"></span>inside</h1><nav><a href=\"/\">Console</a></nav></header>\
         <section><table>{rows}</table></section></main></html>"
    )
}

/// The last reports of turns that took too long, newest first.
pub fn stalls(log: &StallLog, request: &Request) -> Result<Reply, Problem> {
    let reports = log.reports().into_iter().rev();
    let unix_ms = |at: std::time::SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    match request.query_value("format").as_deref() {
        None | Some("text") => {
            let text: String = reports
                .map(|(at, report)| format!("{:.1} s ago: {report}\n", at.elapsed().unwrap_or_default().as_secs_f64()))
                .collect();
            let text = if text.is_empty() { "no turn has taken too long\n".to_owned() } else { text };
            Ok(Reply::bytes(200, "text/plain; charset=utf-8", text.into_bytes()))
        }
        Some("json") => {
            let one = |(at, report): (_, annulus_engine::stall::StallReport)| {
                json!({
                    "at_ms": unix_ms(at), "shard": report.shard, "lasted_ms": report.lasted.as_millis() as u64,
                    "unreported": report.unreported, "frames": report.frames,
                })
            };
            Ok(Reply::json(200, &reports.map(one).collect::<Vec<Value>>()))
        }
        Some(_) => Err(unknown_format("text or json")),
    }
}

/// Each shard's figures, counted for some seconds from now.
pub async fn shards(shard: &Shard, request: &Request) -> Result<Reply, Problem> {
    let seconds = seconds(request, "seconds", 1, COUNTED_MAX)?;
    let before: Vec<Reading> = shard.all_metrics().iter().map(|metrics| Reading::of(metrics)).collect();
    let began = Instant::now();
    shard.sleep(Duration::from_secs(seconds)).await;
    let counted = began.elapsed();
    let rows = shard.all_metrics().iter().zip(&before).enumerate();
    let rows: Vec<Value> =
        rows.map(|(index, (metrics, before))| figures(index, metrics, before, counted.as_secs_f64())).collect();
    Ok(Reply::json(200, &json!({ "counted_s": counted.as_secs_f64(), "shards": rows })))
}

/// A shard's counters at one moment.
struct Reading {
    turns: Snapshot,
    timers: Snapshot,
    counts: Vec<u64>,
}

/// Counters that are told per second.
const COUNTED: [&str; 13] = [
    "enters",
    "sqes",
    "cqes",
    "task_polls",
    "timers_fired",
    "bytes_received",
    "bytes_sent",
    "accepted",
    "closed",
    "letters_sent",
    "letters_received",
    "doorbells_rung",
    "compute_submitted",
];

impl Reading {
    fn of(metrics: &ShardMetrics) -> Reading {
        let counts = [
            &metrics.enters,
            &metrics.sqes,
            &metrics.cqes,
            &metrics.task_polls,
            &metrics.timers_fired,
            &metrics.bytes_received,
            &metrics.bytes_sent,
            &metrics.accepted,
            &metrics.closed,
            &metrics.letters_sent,
            &metrics.letters_received,
            &metrics.doorbells_rung,
            &metrics.compute_submitted,
        ];
        Reading {
            turns: metrics.turn_us.snapshot(),
            timers: metrics.timer_lateness_us.snapshot(),
            counts: counts.map(|counter| counter.get()).to_vec(),
        }
    }
}

fn figures(index: usize, metrics: &ShardMetrics, before: &Reading, seconds: f64) -> Value {
    let now = Reading::of(metrics);
    let turns = now.turns.since(&before.turns);
    let mut rates: serde_json::Map<String, Value> = COUNTED
        .iter()
        .zip(now.counts.iter().zip(&before.counts))
        .map(|(name, (now, before))| ((*name).to_owned(), json!(now.wrapping_sub(*before) as f64 / seconds)))
        .collect();
    rates.insert("turns".to_owned(), json!(turns.count() as f64 / seconds));
    let timers = now.timers.since(&before.timers);
    json!({
        "shard": index,
        "busy_percent": turns.sum() as f64 / (seconds * 1e4),
        "turn_us": { "p50": turns.quantile(0.5), "p99": turns.quantile(0.99), "p999": turns.quantile(0.999), "max": turns.quantile(1.0) },
        "timer_lateness_us": { "p50": timers.quantile(0.5), "p99": timers.quantile(0.99) },
        "per_second": rates,
        "connections": metrics.connections.get(),
        "groups_ready": metrics.groups_ready.get(),
        "buffers_leased": metrics.buffers_leased.get(),
        "since_start": {
            "stalls": metrics.stalls.get(), "mailbox_full": metrics.mailbox_full.get(), "parked": metrics.parked.get(),
            "enobufs": metrics.enobufs.get(), "cq_overflows": metrics.cq_overflows.get(),
            "short_sends": metrics.short_sends.get(), "send_errors": metrics.send_errors.get(),
            "compute_busy": metrics.compute_busy.get(), "task_panics": metrics.task_panics.get(),
        },
    })
}

/// Where the time of traced messages went.
pub fn attribution(shard: &Shard, request: &Request) -> Result<Reply, Problem> {
    let wanted = request.query_value("kind");
    let mut traced = trace::all(shard.all_metrics());
    traced.retain(|traced| wanted.as_ref().is_none_or(|kind| kind == traced.kind.name));
    if traced.is_empty() {
        return Err(Problem::new(
            404,
            "Nothing has been traced yet, of that kind or at all. Messages are sampled as they come; ask again then.",
        ));
    }
    let tables: Vec<Table> = traced.into_iter().map(table).collect();
    match request.query_value("format").as_deref() {
        None | Some("text") => {
            let text: Vec<String> = tables.iter().map(Table::text).collect();
            Ok(Reply::bytes(200, "text/plain; charset=utf-8", text.join("\n").into_bytes()))
        }
        // A picture is of one kind: that of which most was traced.
        Some("svg") => {
            let most = tables.iter().max_by_key(|table| table.messages).map(Table::svg).unwrap_or_default();
            Ok(Reply::bytes(200, "image/svg+xml", most.into_bytes()))
        }
        Some("json") => {
            let one = |table: &Table| {
                let bands = table.bands.iter().map(|band| {
                    json!({ "from": band.from, "to": band.to, "messages": band.messages, "total_ns": band.total, "spent_ns": band.spent })
                });
                let slow = table.slowest.iter().map(|slow| json!({ "ago_s": slow.ago_s, "spent_ns": slow.spent }));
                json!({
                    "kind": table.name, "about": table.about, "stages": table.stages, "messages": table.messages,
                    "bands": bands.collect::<Vec<_>>(), "slowest": slow.collect::<Vec<_>>(),
                })
            };
            Ok(Reply::json(200, &tables.iter().map(one).collect::<Vec<_>>()))
        }
        Some(_) => Err(unknown_format("text, json or svg")),
    }
}

fn table(traced: Traced) -> Table {
    let now = Instant::now();
    let stages = Stage::ALL.map(Stage::name);
    let slow = traced.slow.iter().map(|journey| Slow {
        ago_s: now.saturating_duration_since(journey.ended).as_secs_f64(),
        spent: journey.spent.to_vec(),
    });
    let messages = traced.last.iter().map(|journey| journey.spent.to_vec()).collect();
    let about = format!("{} Away: at the {}.", traced.kind.about, traced.kind.away);
    Table::new(traced.kind.name, &about, &stages, messages, slow.collect())
}

/// A number of seconds in the query.
pub fn seconds(request: &Request, name: &str, default: u64, most: u64) -> Result<u64, Problem> {
    let Some(text) = request.query_value(name) else { return Ok(default) };
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| Problem::new(400, format!("{name}: expected whole seconds from 1 to {most}, not {text:?}.")))
}

/// What is answered to a format that there is not.
pub fn unknown_format(known: &str) -> Problem {
    Problem::new(400, format!("There is no such format here; there are {known}."))
}
