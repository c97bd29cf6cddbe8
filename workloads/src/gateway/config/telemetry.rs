//! `telemetry/opentelemetry`: where traces and metrics go.

use std::time::Duration;

use super::extra::Namespaces;
use super::model::{Exporter, Telemetry};
use super::read::Field;
use super::report::Report;
use crate::outbound::Endpoint;

/// What the namespace is called.
const NAME: &str = "telemetry/opentelemetry";
/// How often metrics go out, where the file does not say: KrakenD's.
const METRIC_PERIOD: Duration = Duration::from_secs(30);
/// Where collectors listen for OTLP over HTTP.
const PORT: u64 = 4318;
/// Collectors, at most: each gets everything.
const EXPORTERS_MAX: usize = 8;

/// The root's, if it names a collector. `name` is the gateway's.
pub fn root(namespaces: &Namespaces<'_>, name: &str, report: &mut Report) -> Option<Telemetry> {
    let mut object = namespaces.object(NAME, report)?;
    let text = |field: Option<Field<'_>>, report: &mut Report| {
        field.and_then(|field| field.text("a text", report)).map(str::to_owned)
    };
    let service =
        text(object.take("service_name"), report).or_else(|| Some(name.to_owned()).filter(|it| !it.is_empty()));
    let mut telemetry = Telemetry::of(service.as_deref().unwrap_or("annulus"));
    telemetry.service_version = text(object.take("service_version"), report);
    telemetry.deploy_env = text(object.take("deploy_env"), report);
    if let Some(share) = object.take("trace_sample_rate").and_then(|field| field.share(report)) {
        telemetry.trace_sample_rate = share;
    }
    let period = period(object.take("metric_reporting_period"), report).unwrap_or(METRIC_PERIOD);
    let skipped = object.take("skip_paths").and_then(|field| field.strings("a list of paths", report));
    telemetry.skip_paths = skipped.unwrap_or_default().into_iter().map(|(_, path)| path.to_owned()).collect();
    object.pass_over(&[("layers", "requests and every call to a host are told of, and nothing between")], report);
    let at = (object.at(), object.key().to_owned());
    if let Some(mut exporters) = object.need("exporters", report).and_then(|field| field.object(report)) {
        exporters
            .pass_over(&[("prometheus", "metrics are at /metrics of the gateway's own port, in any case")], report);
        if let Some(field) = exporters.take("otlp") {
            let entries = field.list("a list of collectors", report).unwrap_or_default();
            if entries.len() > EXPORTERS_MAX {
                field.problem(format!("expected {EXPORTERS_MAX} collectors at most: one of them can pass on"), report);
            }
            telemetry.exporters = entries.iter().filter_map(|entry| exporter(entry, period, report)).collect();
        }
        exporters.finish(report);
    }
    object.finish(report);
    if telemetry.exporters.is_empty() {
        report.note(at.0, &at.1, format!("{NAME} has no effect: it names no collector"));
        return None;
    }
    Some(telemetry)
}

/// An endpoint's or backend's: only the root's is read.
pub fn elsewhere(namespaces: &Namespaces<'_>, report: &mut Report) {
    if let Some(field) = namespaces.get(NAME) {
        field.note(format!("{NAME} has no effect here: what the root says is of all endpoints and backends"), report);
    }
}

fn exporter(field: &Field<'_>, period_of_all: Duration, report: &mut Report) -> Option<Exporter> {
    let mut object = field.object(report)?;
    let host = object.need("host", report).and_then(|field| Some((field.text("a host", report)?, field)));
    let port = object.take("port").and_then(|field| field.whole(1, u16::MAX.into(), report)).unwrap_or(PORT);
    if !object.flag("use_http", report) {
        let says = "OTLP over gRPC is not offered: set use_http to true; collectors listen for that on port 4318";
        report.problem(object.at(), object.key(), says);
    }
    let is_tls = object.flag("is_tls", report);
    let name = object.take("name").and_then(|field| field.text("a name", report)).unwrap_or("otlp").to_owned();
    let traces = !object.flag("disable_traces", report);
    let metrics = !object.flag("disable_metrics", report);
    let metric_period = period(object.take("custom_reporting_period"), report).unwrap_or(period_of_all);
    object.finish(report);
    let (host, field) = host?;
    let url = match host.contains("://") {
        true => host.to_owned(),
        false => format!("{}://{host}:{port}", if is_tls { "https" } else { "http" }),
    };
    match Endpoint::read(&url) {
        Ok(endpoint) => Some(Exporter { name, endpoint, traces, metrics, metric_period }),
        Err(why) => {
            field.problem(why, report);
            None
        }
    }
}

fn period(field: Option<Field<'_>>, report: &mut Report) -> Option<Duration> {
    field.and_then(|field| field.whole(1, 3600, report)).map(Duration::from_secs)
}
