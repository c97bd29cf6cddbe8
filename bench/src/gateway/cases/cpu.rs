//! Processor time per request to a service, and the latency that the gateway adds, side by side with peers.

use super::super::Options;
use super::super::config::Upstream;
use super::super::rig::{Measured, Outside, Rig};
use super::super::shop::Shop;
use super::super::tally::percentile_ms;
use super::{failures_row, memory_rows, plain, progress, quality_rows, rig, shop};
use crate::compare::{Ratio, median};
use crate::record::{LATENESS_MAX_NS, Record, Round};
use crate::report::{Row, Target};
use crate::scenario::Settings;
use crate::schedule::Spread;
use crate::schedule::profile::Profile;
use std::time::Instant;

/// Requests under way while saturation is looked for.
const AT_ONCE: [usize; 2] = [64, 256];
/// Bytes of a body.
const SIZE: usize = 1024;
/// The open-loop rate, as a share of the slowest side's saturation.
const RATE_OF_SATURATION: f64 = 0.6;
/// What a peer's processor time is compared with, by protocol: the acceptance of the gateway.
const fn ratio_most(upstream: Upstream) -> f64 {
    match upstream {
        Upstream::H2c => 0.5,
        Upstream::Http1 => 0.7,
    }
}

#[derive(Default)]
struct Rounds {
    per_request: Vec<f64>,
    per_sub_request: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    refused: usize,
    last: Option<Measured>,
}

pub fn run(settings: &Settings, options: &Options) -> Result<Record, String> {
    let size = settings.size.unwrap_or(SIZE).to_string();
    let shop = shop(options, &[("latency", "0-20ms"), ("sizes", &size)])?;
    let path = [(format!("/fanout/{}", options.fan_out), 0)];
    let peers = std::iter::once(None).chain(settings.peers.iter().map(|peer| Some(peer.as_str())));
    let mut rigs =
        peers.map(|peer| rig(peer, options, &shop, &plain(options), &path)).collect::<Result<Vec<_>, _>>()?;
    let title = format!("{} x {size} B {}", options.fan_out, options.upstream.name());
    compared(settings, options, &shop, &mut rigs, &title)
}

/// The services alone, over HTTP/1.1: the floor of everything else that is measured here.
pub fn direct(settings: &Settings, options: &Options) -> Result<Record, String> {
    let size = settings.size.unwrap_or(SIZE).to_string();
    let shop = shop(options, &[("latency", "0-20ms"), ("sizes", &size)])?;
    let options = Options {
        outside: Some(Outside { address: shop.address, pid: shop.pid() }),
        path: Some(options.path.clone().unwrap_or_else(|| "/s/0".to_owned())),
        ..options.clone()
    };
    let mut rig = rig(None, &options, &shop, &plain(&options), &[])?;
    rig.name = "services".to_owned();
    compared(settings, &options, &shop, &mut [rig], &format!("{size} B direct"))
}

/// Rounds of all sides by turns at the same rate, and the rows they give.
fn compared(
    settings: &Settings,
    options: &Options,
    shop: &Shop,
    rigs: &mut [Rig],
    title: &str,
) -> Result<Record, String> {
    let began = Instant::now();
    let mut record = Record::default();
    let mut rows = Vec::new();
    let rate = match settings.rate {
        Some(rate) => rate,
        None => {
            let slowest = saturation(settings, options, shop, rigs, title, &mut rows)?;
            kept(settings, rigs, slowest * RATE_OF_SATURATION)?
        }
    };
    let mut rounds: Vec<Rounds> = rigs.iter().map(|_| Rounds::default()).collect();
    for round in 0..settings.rounds {
        for (rig, of) in rigs.iter_mut().zip(&mut rounds) {
            let at_s = began.elapsed().as_secs_f64();
            one_round(settings, shop, rig, rate, round, of)?;
            if let Some(last) = &of.last {
                record.add_round(&rig.name, Round { at_s, ..last.round(rate) });
            }
        }
    }
    for (rig, of) in rigs.iter().zip(&rounds) {
        side_rows(&format!("{title}, {}", rig.name), of, rate, &mut rows);
    }
    for (rig, of) in rigs.iter().zip(&rounds).skip(1) {
        let ratio = Ratio::of(&rounds[0].per_sub_request, &of.per_sub_request);
        let note = ratio.map_or_else(String::new, |ratio| format!("rounds {:.2} to {:.2}", ratio.low, ratio.high));
        let name = format!("{title}: CPU per sub-request, {} / {}", rigs[0].name, rig.name);
        rows.push(Row::new(name, Target::Most(ratio_most(options.upstream)), ratio.map(|ratio| ratio.value), note));
    }
    record.rows = rows;
    Ok(record)
}

/// What the slowest side carries. At its own saturation a side works in its largest batches, so what it spends there is
/// its best; at the same rate below it, both wake up for each sub-request, and the kernel's share is most of the cost.
fn saturation(
    settings: &Settings,
    options: &Options,
    shop: &Shop,
    rigs: &mut [Rig],
    title: &str,
    rows: &mut Vec<Row>,
) -> Result<f64, String> {
    let mut slowest = f64::INFINITY;
    let mut ours = None;
    for rig in rigs {
        let at_once = settings.sockets.map_or_else(|| AT_ONCE.to_vec(), |sockets| vec![sockets]);
        let measured = rig.saturated(shop, &at_once, settings.seconds.min(2.0))?;
        slowest = slowest.min(measured.goodput());
        let note = format!("requests/s; {}", measured.shares_text());
        let name = format!("{title}, {}: saturation", rig.name);
        rows.push(Row::fact(name.clone(), measured.goodput(), note));
        let Some(spent) = measured.cpu_us_per_sub_request() else { continue };
        rows.push(Row::fact(format!("{name}: CPU per sub-request"), spent, "us".to_owned()));
        match ours {
            None => ours = Some(spent),
            Some(ours) => {
                let name = format!("{title}, saturated: CPU per sub-request, ours / {}", rig.name);
                rows.push(Row::new(name, Target::Most(ratio_most(options.upstream)), Some(ours / spent), ""));
            }
        }
    }
    Ok(slowest)
}

/// Lowers a rate until the generator keeps it on every side: an open loop that is late measures itself.
fn kept(settings: &Settings, rigs: &mut [Rig], wanted: f64) -> Result<f64, String> {
    let mut rate = wanted;
    while rate > wanted / 4.0 {
        let mut late = 0;
        for rig in rigs.iter_mut() {
            let outcome = rig.load.open_loop(&Profile::steady(rate, settings.seconds.min(1.0), 1))?;
            late = late.max(outcome.lateness.value_at_quantile(0.99));
        }
        if late <= LATENESS_MAX_NS / 2 {
            return Ok(rate);
        }
        progress(&format!("{rate:.0}/s is too much for the generator (p99 late by {} us)", late / 1000));
        rate *= 0.75;
    }
    progress("another program shares the generator's core: latencies will be refused");
    Ok(wanted)
}

fn one_round(
    settings: &Settings,
    shop: &Shop,
    rig: &mut Rig,
    rate: f64,
    round: usize,
    of: &mut Rounds,
) -> Result<(), String> {
    let spread = if settings.poisson { Spread::Poisson } else { Spread::Constant };
    let profile = Profile { spread, ..Profile::steady(rate, settings.seconds, round as u64 + 1) };
    let measured = rig.measured(shop, |load| load.open_loop(&profile))?;
    let added = measured.outcome.whole().added;
    of.per_request.push(measured.cpu_us_per_request());
    of.per_sub_request.extend(measured.cpu_us_per_sub_request());
    let (p50, p99) = (percentile_ms(&added, 50.0), percentile_ms(&added, 99.0));
    match (p50, p99) {
        (Some(p50), Some(p99)) if measured.outcome.is_honest() => {
            of.p50.push(p50);
            of.p99.push(p99);
        }
        _ => of.refused += 1,
    }
    progress(&format!(
        "round {} {}: {rate:.0}/s, {:.1} us CPU per sub-request, added p50 {:.3} p99 {:.3} ms, sent late p99 {:.0} us, {}",
        round + 1,
        rig.name,
        measured.cpu_us_per_sub_request().unwrap_or(f64::NAN),
        p50.unwrap_or(f64::NAN),
        p99.unwrap_or(f64::NAN),
        measured.outcome.lateness.value_at_quantile(0.99) as f64 / 1e3,
        measured.shares_text()
    ));
    of.last = Some(measured);
    Ok(())
}

fn side_rows(name: &str, of: &Rounds, rate: f64, rows: &mut Vec<Row>) {
    let goal = if name.ends_with("ours") { "us; goal 25" } else { "us" };
    let per_sub_request = (!of.per_sub_request.is_empty()).then(|| median(&of.per_sub_request));
    rows.push(Row::new(format!("{name}: CPU per sub-request"), Target::Fact, per_sub_request, goal));
    rows.push(Row::fact(format!("{name}: CPU per request"), median(&of.per_request), format!("us, at {rate:.0}/s")));
    // A peer is compared, not judged.
    let judged = |most| if name.ends_with("ours") { Target::Most(most) } else { Target::Fact };
    for (what, most, values) in [("p50", 0.5, &of.p50), ("p99", 3.0, &of.p99)] {
        let note = match of.refused {
            0 => format!("ms, at {rate:.0}/s"),
            refused => format!("ms, at {rate:.0}/s; {refused} rounds refused: the generator was late"),
        };
        let value = (!values.is_empty()).then(|| median(values));
        rows.push(Row::new(format!("{name}: added {what}"), judged(most), value, note));
    }
    if let Some(last) = &of.last {
        rows.push(failures_row(name, last));
        rows.extend(quality_rows(name, last));
        rows.extend(memory_rows(name, last));
    }
}
