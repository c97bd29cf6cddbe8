//! Where traces and metrics go.

use std::time::Duration;

use crate::outbound::Endpoint;

/// `telemetry/opentelemetry` of the root.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// What the gateway is called there.
    pub service_name: String,
    /// Which version of it this is.
    pub service_version: Option<String>,
    /// Which environment it is in.
    pub deploy_env: Option<String>,
    /// The share of requests that are traced.
    pub trace_sample_rate: f64,
    /// Paths whose requests are never traced.
    pub skip_paths: Vec<String>,
    /// The collectors.
    pub exporters: Vec<Exporter>,
}

impl Telemetry {
    /// Of a service that traces everything and knows no collector.
    pub fn of(service_name: &str) -> Telemetry {
        Telemetry {
            service_name: service_name.to_owned(),
            service_version: None,
            deploy_env: None,
            trace_sample_rate: 1.0,
            skip_paths: Vec::new(),
            exporters: Vec::new(),
        }
    }
}

/// A collector that takes OTLP over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct Exporter {
    /// What it is called in logs and metrics.
    pub name: String,
    /// Where it is, without `/v1/traces` and `/v1/metrics`.
    pub endpoint: Endpoint,
    /// Whether it gets traces.
    pub traces: bool,
    /// Whether it gets metrics.
    pub metrics: bool,
    /// How often it gets those.
    pub metric_period: Duration,
}
