//! OTLP's JSON (opentelemetry-proto 1.x, "JSON Protobuf Encoding"): ids as hexadecimal digits, numbers of 64 bits as texts,
//! names in lower camel case.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::metrics::{Reading, Sample, ShardMetrics, Unit, visit};
use serde::{Serialize, Serializer};

use super::span::{Kind, Span};
use crate::gateway::config::model;

/// Whose traces and metrics these are.
#[derive(Serialize)]
pub struct Resource {
    attributes: Vec<Attribute<'static>>,
}

impl Resource {
    /// Of a gateway; `instance` tells this process from others of the same service.
    pub fn new(settings: &model::Telemetry, instance: String) -> Resource {
        let mut attributes = vec![
            Attribute::text("service.name", settings.service_name.clone()),
            Attribute::text("service.instance.id", instance),
        ];
        let version = settings.service_version.clone().map(|version| Attribute::text("service.version", version));
        let environment = settings.deploy_env.clone().map(|name| Attribute::text("deployment.environment.name", name));
        attributes.extend(version.into_iter().chain(environment));
        Resource { attributes }
    }
}

#[derive(Serialize)]
struct Attribute<'a> {
    key: &'a str,
    value: AttributeValue,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum AttributeValue {
    StringValue(String),
    IntValue(Digits<u64>),
}

impl<'a> Attribute<'a> {
    fn text(key: &'a str, text: impl Into<String>) -> Attribute<'a> {
        Attribute { key, value: AttributeValue::StringValue(text.into()) }
    }

    fn whole(key: &'a str, number: u64) -> Attribute<'a> {
        Attribute { key, value: AttributeValue::IntValue(Digits(number)) }
    }
}

/// A number as a text of its digits.
struct Digits<T>(T);

impl<T: fmt::Display> Serialize for Digits<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

const SCOPE: Scope = Scope { name: "annulus.gateway", version: env!("CARGO_PKG_VERSION") };

fn nanos(time: Duration) -> Digits<u128> {
    Digits(time.as_nanos())
}

/// A request for `/v1/traces`.
pub fn traces(resource: &Resource, spans: &[Span]) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Request<'a> {
        resource_spans: [ResourceSpans<'a>; 1],
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ResourceSpans<'a> {
        resource: &'a Resource,
        scope_spans: [ScopeSpans<'a>; 1],
    }
    #[derive(Serialize)]
    struct ScopeSpans<'a> {
        scope: Scope,
        spans: Vec<SpanJson<'a>>,
    }
    let spans = spans.iter().map(SpanJson::of).collect();
    written(&Request {
        resource_spans: [ResourceSpans { resource, scope_spans: [ScopeSpans { scope: SCOPE, spans }] }],
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpanJson<'a> {
    trace_id: &'a str,
    span_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    parent_span_id: String,
    name: &'a str,
    kind: u8,
    start_time_unix_nano: Digits<u128>,
    end_time_unix_nano: Digits<u128>,
    attributes: Vec<Attribute<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u8,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
}

const STATUS_CODE_ERROR: u8 = 2;
const SPAN_KIND_SERVER: u8 = 2;
const SPAN_KIND_CLIENT: u8 = 3;
const AGGREGATION_TEMPORALITY_CUMULATIVE: u8 = 2;

impl<'a> SpanJson<'a> {
    fn of(span: &'a Span) -> SpanJson<'a> {
        let Span { trace, id, parent, name, kind, began, took, texts, status, failure } = span;
        let mut attributes: Vec<_> = texts.iter().map(|(key, text)| Attribute::text(key, text.clone())).collect();
        attributes.extend(status.map(|status| Attribute::whole("http.response.status_code", status.into())));
        attributes.extend(failure.as_ref().map(|failed| Attribute::text("error.type", failed.kind.clone())));
        SpanJson {
            trace_id: trace,
            span_id: format!("{id:016x}"),
            parent_span_id: if *parent == 0 { String::new() } else { format!("{parent:016x}") },
            name,
            kind: match kind {
                Kind::Server => SPAN_KIND_SERVER,
                Kind::Client => SPAN_KIND_CLIENT,
            },
            start_time_unix_nano: nanos(*began),
            end_time_unix_nano: nanos(*began + *took),
            attributes,
            status: failure.as_ref().map(|failed| Status { code: STATUS_CODE_ERROR, message: &failed.words }),
        }
    }
}

/// A request for `/v1/metrics`: all values since `began`, at `now`, both since 1970.
pub fn metrics(resource: &Resource, shards: &[Arc<ShardMetrics>], began: Duration, now: Duration) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Request<'a> {
        resource_metrics: [ResourceMetrics<'a>; 1],
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ResourceMetrics<'a> {
        resource: &'a Resource,
        scope_metrics: [ScopeMetrics; 1],
    }
    #[derive(Serialize)]
    struct ScopeMetrics {
        scope: Scope,
        metrics: Vec<Metric>,
    }
    let mut metrics: Vec<Metric> = Vec::new();
    visit(shards, |sample| {
        let point = Point::of(sample, began, now);
        match metrics.last_mut().filter(|metric| metric.name == sample.name) {
            Some(metric) => metric.data.points().push(point),
            None => metrics.push(Metric::of(sample, point)),
        }
    });
    written(&Request {
        resource_metrics: [ResourceMetrics { resource, scope_metrics: [ScopeMetrics { scope: SCOPE, metrics }] }],
    })
}

#[derive(Serialize)]
struct Metric {
    name: &'static str,
    description: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    unit: &'static str,
    #[serde(flatten)]
    data: Data,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Data {
    #[serde(rename_all = "camelCase")]
    Sum { data_points: Vec<Point>, aggregation_temporality: u8, is_monotonic: bool },
    #[serde(rename_all = "camelCase")]
    Gauge { data_points: Vec<Point> },
    #[serde(rename_all = "camelCase")]
    Histogram { data_points: Vec<Point>, aggregation_temporality: u8 },
}

impl Data {
    fn points(&mut self) -> &mut Vec<Point> {
        match self {
            Data::Sum { data_points, .. } | Data::Gauge { data_points } | Data::Histogram { data_points, .. } => {
                data_points
            }
        }
    }
}

impl Metric {
    fn of(sample: &Sample<'_>, point: Point) -> Metric {
        let (data_points, aggregation_temporality) = (vec![point], AGGREGATION_TEMPORALITY_CUMULATIVE);
        let (unit, data) = match sample.reading {
            Reading::Counter(_) => ("", Data::Sum { data_points, aggregation_temporality, is_monotonic: true }),
            Reading::Gauge(_) => ("", Data::Gauge { data_points }),
            Reading::Histogram(_, unit) => {
                let unit = if unit == Unit::Micros { "s" } else { "" };
                (unit, Data::Histogram { data_points, aggregation_temporality })
            }
        };
        Metric { name: sample.name, description: sample.help, unit, data }
    }
}

/// A value of one shard.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Point {
    attributes: Vec<Attribute<'static>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time_unix_nano: Option<Digits<u128>>,
    time_unix_nano: Digits<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_int: Option<Digits<u64>>,
    #[serde(flatten)]
    distribution: Option<Distribution>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Distribution {
    count: Digits<u64>,
    sum: f64,
    bucket_counts: Vec<Digits<u64>>,
    explicit_bounds: Vec<f64>,
}

impl Point {
    fn of(sample: &Sample<'_>, began: Duration, now: Duration) -> Point {
        let labels = sample.labels.iter().map(|(key, text)| Attribute::text(key, text.clone()));
        let attributes = labels.chain([Attribute::whole("shard", sample.shard as u64)]).collect();
        let (as_int, distribution) = match &sample.reading {
            Reading::Counter(value) | Reading::Gauge(value) => (Some(Digits(*value)), None),
            Reading::Histogram(snapshot, unit) => {
                let (explicit_bounds, cumulated): (Vec<f64>, Vec<u64>) = snapshot.cumulated(*unit).unzip();
                let ends = cumulated.iter().copied().chain([snapshot.count()]);
                let starts = [0].into_iter().chain(cumulated.iter().copied());
                let bucket_counts = ends.zip(starts).map(|(end, start)| Digits(end - start)).collect();
                let sum = match unit {
                    Unit::Micros => snapshot.sum() as f64 / 1e6,
                    Unit::Plain => snapshot.sum() as f64,
                };
                let count = Digits(snapshot.count());
                (None, Some(Distribution { count, sum, bucket_counts, explicit_bounds }))
            }
        };
        let is_total = !matches!(sample.reading, Reading::Gauge(_));
        let start_time_unix_nano = is_total.then(|| nanos(began));
        Point { attributes, start_time_unix_nano, time_unix_nano: nanos(now), as_int, distribution }
    }
}

fn written(request: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(request).expect("texts and numbers can be written")
}

#[cfg(test)]
mod tests {
    use super::super::span::Failed;
    use super::*;
    use serde_json::{Value, json};

    fn resource() -> Resource {
        let settings = model::Telemetry { deploy_env: Some("test".into()), ..model::Telemetry::of("shop") };
        Resource::new(&settings, "one".into())
    }

    #[test]
    fn a_span_is_written_as_the_protocol_has_it() {
        let span = Span {
            trace: "5b8efff798038103d269b633813fc60c".into(),
            id: 0xeee1_9b7e_c3c1_b174,
            parent: 0xeee1_9b7e_c3c1_b173,
            name: "GET /a".into(),
            kind: Kind::Client,
            began: Duration::from_nanos(1_544_712_660_000_000_000),
            took: Duration::from_secs(1),
            texts: vec![("http.request.method", "GET".into())],
            status: Some(503),
            failure: Some(Failed { kind: "503".into(), words: "too much".into() }),
        };
        let written: Value = serde_json::from_slice(&traces(&resource(), &[span])).unwrap();
        let of = &written["resourceSpans"][0];
        assert_eq!(of["resource"]["attributes"][0], json!({"key": "service.name", "value": {"stringValue": "shop"}}));
        assert_eq!(
            of["scopeSpans"][0]["spans"][0],
            json!({
                "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "parentSpanId": "eee19b7ec3c1b173",
                "name": "GET /a", "kind": 3,
                "startTimeUnixNano": "1544712660000000000", "endTimeUnixNano": "1544712661000000000",
                "attributes": [
                    {"key": "http.request.method", "value": {"stringValue": "GET"}},
                    {"key": "http.response.status_code", "value": {"intValue": "503"}},
                    {"key": "error.type", "value": {"stringValue": "503"}},
                ],
                "status": {"code": 2, "message": "too much"},
            })
        );
    }

    #[test]
    fn metrics_are_sums_gauges_and_histograms() {
        let shard = Arc::new(ShardMetrics::default());
        shard.counter_with("test_total", "Things.", &[("kind", "a")]).add(2);
        shard.gauge("test_level", "A level.").set(7);
        let histogram = shard.histogram("test_seconds", "Times.", Unit::Micros);
        [0, 3, 1 << 30].into_iter().for_each(|value| histogram.record(value));
        let (began, now) = (Duration::from_secs(1), Duration::from_secs(2));
        let written: Value = serde_json::from_slice(&metrics(&resource(), &[shard], began, now)).unwrap();
        let all = written["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
        let named = |name: &str| all.iter().find(|metric| metric["name"] == name).unwrap();
        let shard = json!({"key": "shard", "value": {"intValue": "0"}});
        assert_eq!(
            named("test_total")["sum"],
            json!({"dataPoints": [{
                "attributes": [{"key": "kind", "value": {"stringValue": "a"}}, shard],
                "startTimeUnixNano": "1000000000", "timeUnixNano": "2000000000", "asInt": "2",
            }], "aggregationTemporality": 2, "isMonotonic": true})
        );
        assert_eq!(
            named("test_level")["gauge"],
            json!({"dataPoints": [{"attributes": [shard], "timeUnixNano": "2000000000", "asInt": "7"}]})
        );
        let histogram = named("test_seconds");
        let point = &histogram["histogram"]["dataPoints"][0];
        let counts: Vec<&str> =
            point["bucketCounts"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        assert_eq!((&histogram["unit"], &point["count"]), (&json!("s"), &json!("3")));
        assert_eq!(counts.len(), point["explicitBounds"].as_array().unwrap().len() + 1);
        assert_eq!((counts[0], counts[2], counts[counts.len() - 1]), ("1", "1", "1"));
    }
}
