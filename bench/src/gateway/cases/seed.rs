//! The owner's case: 1,000 requests a second with spikes to 5,000, on 4 cores and 1 GB, fanning out to 2-10 services
//! that take 100-500 ms. What this machine cannot carry is projected from what it was seen to need, and called so.

use super::super::Options;
use super::super::profile::Profile;
use super::{failures_row, latency_row, mixed, plain, progress, rig, shop, sub_request_row};
use crate::report::{Row, Target};
use crate::scenario::Settings;

const RATE: f64 = 1000.0;
const SPIKE: f64 = 5000.0;
const CORES: f64 = 4.0;

pub fn seed_target(settings: &Settings, options: &Options) -> Result<Vec<Row>, String> {
    let shop = shop(options, &[("latency", "100-500ms"), ("sizes", "1-100KB")])?;
    let mut rig = rig(None, options, &shop, &plain(options), &mixed())?;
    let carried = rig.bearable_rate(&shop, settings.seconds)?;
    let rate = settings.rate.unwrap_or(RATE).min(carried);
    progress(&format!("this machine carries {carried:.0}/s with one core for the gateway and one for the load"));
    let idle = rig.sample()?;
    let measured = rig.measured(&shop, |load| load.open_loop(&Profile::steady(rate, settings.seconds.max(3.0), 1)))?;
    let whole = measured.outcome.whole();
    let (per_request, fan_out) =
        (measured.cpu_us_per_request(), measured.counts.requests as f64 / whole.sent.max(1) as f64);
    let name = "owner's case";
    let mut rows = vec![
        Row::fact(format!("{name}: rate measured"), rate, format!("of {RATE:.0}/s; {}", measured.shares_text())),
        Row::fact(format!("{name}: CPU per request"), per_request, format!("us; fan-out {fan_out:.1} on average")),
        sub_request_row(name, &measured),
        latency_row(format!("{name}: added p50"), Target::Fact, &measured, &whole.added, 50.0),
        latency_row(format!("{name}: added p99"), Target::Fact, &measured, &whole.added, 99.0),
        failures_row(name, &measured),
    ];
    let growth = measured.after.rss_peak.saturating_sub(idle.rss) as f64;
    for (what, wanted) in [("steady", RATE), ("spike", SPIKE)] {
        let cores = per_request * wanted / 1e6;
        let carried = rate >= wanted;
        let how = if carried { "measured" } else { "projected" };
        let note = format!("of {CORES:.0} cores at {wanted:.0}/s, {how} from CPU per request");
        rows.push(Row::fact(format!("{name}: cores, {what}"), cores, note));
        let memory = (idle.rss as f64 + growth * wanted / rate) / 1e6;
        let note = format!("MB of 1000 at {wanted:.0}/s, {how} from {rate:.0}/s in proportion");
        rows.push(Row::fact(format!("{name}: memory, {what}"), memory, note));
    }
    Ok(rows)
}
