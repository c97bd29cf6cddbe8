//! The cases: what is started, loaded and measured, and the rows that come of it.

mod attack;
mod blackhole;
mod cpu;
mod fairness;
mod faults;
mod hedged;
mod kept;
mod overload;
mod seed;
mod spike;

pub(super) use seed::seed_target;

use super::config::Choices;
use super::generator::Request;
use super::rig::{Measured, Rig};
use super::shop::Shop;
use super::tally::percentile_ms;
use super::{Case, Options};
use crate::process::Driver;
use crate::record::Record;
use crate::report::{Row, Target};
use crate::scenario::Settings;
use hdrhistogram::Histogram;
use std::net::SocketAddr;

/// The time-out of a backend where the case does not say otherwise, in milliseconds.
const BACKEND_MS: u64 = 2000;

pub(super) fn run(settings: &Settings, options: &Options) -> Result<Record, String> {
    let rows = match options.case {
        Case::Direct => return cpu::direct(settings, options),
        Case::Cpu => return cpu::run(settings, options),
        Case::Spike => spike::run(settings, options),
        Case::Overload => overload::run(settings, options),
        Case::BlackHole => blackhole::run(settings, options),
        Case::Storm => faults::storm(settings, options),
        Case::Soak => faults::soak(settings, options),
        Case::Attack => attack::run(settings, options),
        Case::Fairness => fairness::run(settings, options),
        Case::Kept => kept::run(settings, options),
        Case::Hedged => hedged::run(settings, options),
    };
    rows.map(Record::from)
}

fn progress(line: &str) {
    eprintln!("  {line}");
}

/// The configuration of a case that has nothing special.
fn plain(options: &Options) -> Choices {
    Choices {
        upstream: options.upstream,
        backend_ms: BACKEND_MS,
        all_cores: false,
        breakers: false,
        retries: true,
        apart: false,
        h2c_clients: false,
        compresses: false,
        memory_bytes: None,
        hostile: None,
        driver: Driver::Auto,
    }
}

/// Starts the services as a case wants them.
fn shop(options: &Options, settings: &[(&str, &str)]) -> Result<Shop, String> {
    Shop::start(options.shop_port, settings)
}

/// Starts one side with the paths of the case, or the path that was asked for, each with its class.
fn rig(
    peer: Option<&str>,
    options: &Options,
    shop: &Shop,
    choices: &Choices,
    paths: &[(String, usize)],
) -> Result<Rig, String> {
    let requests = |address: SocketAddr| match &options.path {
        Some(path) => vec![Request::get(address, path, 0)],
        None => paths
            .iter()
            .map(|(path, class)| match path.starts_with("/post/") {
                true => Request::post(address, path, *class),
                false => Request::get(address, path, *class),
            })
            .collect(),
    };
    Rig::start(peer, options.outside, shop, choices, &requests, 1)
}

/// Services of a mixed load's requests, equally likely: a mean of six.
const FAN_OUTS: std::ops::RangeInclusive<usize> = 2..=10;

fn mixed() -> Vec<(String, usize)> {
    FAN_OUTS.map(|count| (format!("/fanout/{count}"), 0)).collect()
}

/// A percentile as a row, refused when the generator was late.
fn latency_row(name: String, target: Target, measured: &Measured, of: &Histogram<u64>, percentile: f64) -> Row {
    let late = percentile_ms(&measured.outcome.lateness, 99.0).unwrap_or_default();
    let value = percentile_ms(of, percentile).filter(|_| measured.outcome.is_honest());
    let note = match (value, of.is_empty()) {
        (None, false) => format!("refused: the generator itself was late, p99 {late:.2} ms"),
        (None, true) => "no answer told its services' time".to_owned(),
        (Some(_), _) => format!("ms, generator late p99 {late:.2} ms"),
    };
    Row::new(name, target, value, note)
}

/// Requests that failed: none is the target.
fn failures_row(name: &str, measured: &Measured) -> Row {
    let whole = measured.outcome.whole();
    let note = format!("of {}: {}", whole.sent, whole.failures_text());
    Row::new(format!("{name}: failures"), Target::Most(0.0), Some(whole.failures() as f64), note)
}

/// The gateway's processor time per request to a service.
fn sub_request_row(name: &str, measured: &Measured) -> Row {
    let note = format!("us; {}", measured.shares_text());
    Row::new(format!("{name}: CPU per sub-request"), Target::Fact, measured.cpu_us_per_sub_request(), note)
}

/// Memory rows.
fn memory_rows(name: &str, measured: &Measured) -> [Row; 2] {
    let mb = |bytes: u64| bytes as f64 / 1e6;
    [
        Row::new(format!("{name}: RSS peak"), Target::Most(1000.0), Some(mb(measured.after.rss_peak)), "MB"),
        Row::fact(format!("{name}: PSS at the end"), mb(measured.after.pss), "MB"),
    ]
}

/// Shares of complete answers and of connections used again.
fn quality_rows(name: &str, measured: &Measured) -> [Row; 2] {
    let whole = measured.outcome.whole();
    let complete = whole.complete as f64 * 100.0 / whole.sent.max(1) as f64;
    let note = format!("% of {}; {} partial, {} rejected", whole.sent, whole.partial, whole.rejected);
    let reuse =
        format!("{} connections for {} requests to services", measured.counts.connections, measured.counts.requests);
    [
        Row::fact(format!("{name}: complete"), complete, note),
        Row::fact(format!("{name}: connection reuse"), measured.reuse(), reuse),
    ]
}
