//! The owner's case: 1,000 requests a second with spikes to 5,000, on 4 cores and 1 GB, fanning out to 2-10 services
//! that take 100-500 ms. What this machine cannot carry is projected from what it was seen to need, and called so.

use super::super::Options;
use super::super::config::Choices;
use super::{failures_row, latency_row, mixed, plain, progress, rig, shop, sub_request_row};
use crate::placement;
use crate::record::{Record, Round};
use crate::report::{Row, Target};
use crate::scenario::Settings;
use crate::schedule::profile::Profile;
use std::time::Instant;

const RATES: [(&str, f64); 2] = [("steady", 1000.0), ("spike", 5000.0)];
const CORES: f64 = 4.0;

pub fn seed_target(settings: &Settings, options: &Options) -> Result<Record, String> {
    let shop = shop(options, &[("latency", "100-500ms"), ("sizes", "1-100KB")])?;
    let choices = Choices { all_cores: true, ..plain(options) };
    let mut rig = rig(None, options, &shop, &choices, &mixed())?;
    let carried = rig.bearable_rate(&shop, settings.seconds)?;
    let (shards, services) = (placement::server_cores().len(), placement::services_cores().len());
    progress(&format!("{shards} core(s) for the gateway and {services} for the services carry {carried:.0}/s"));
    let idle = rig.sample()?;
    let mut record = Record::default();
    let began = Instant::now();
    for (what, wanted) in RATES {
        let rate = settings.rate.unwrap_or(wanted).min(carried);
        let name = format!("owner's case, {what}");
        let load = Profile::steady(rate, settings.seconds.max(3.0), 1);
        let at_s = began.elapsed().as_secs_f64();
        let measured = rig.measured(&shop, |generator| generator.open_loop(&load))?;
        let whole = measured.outcome.whole();
        let per_request = measured.cpu_us_per_request();
        let fan_out = measured.counts.requests as f64 / whole.sent.max(1) as f64;
        let how = if rate >= wanted { "measured" } else { "projected" };
        let from = (rate < wanted).then(|| format!("{rate:.0}/s on {shards} core(s)"));
        let growth = measured.after.rss_peak.saturating_sub(idle.rss) as f64;
        let measured_rows = [
            Row::fact(format!("{name}: rate"), rate, format!("of {wanted:.0}/s; {}", measured.shares_text())),
            Row::fact(format!("{name}: CPU per request"), per_request, format!("us; fan-out {fan_out:.1} on average")),
            sub_request_row(&name, &measured),
            latency_row(format!("{name}: added p50"), Target::Fact, &measured, &whole.added, 50.0),
            latency_row(format!("{name}: added p99"), Target::Fact, &measured, &whole.added, 99.0),
            failures_row(&name, &measured),
            Row::fact(
                format!("{name}: cores"),
                per_request * wanted / 1e6,
                format!("of {CORES:.0} at {wanted:.0}/s, {how} from CPU per request"),
            ),
            Row::fact(
                format!("{name}: memory"),
                (idle.rss as f64 + growth * wanted / rate) / 1e6,
                format!("MB of 1000 at {wanted:.0}/s, {how}, in proportion to {rate:.0}/s"),
            ),
        ];
        record.rows.extend(measured_rows.into_iter().map(|row| row.projected(from.clone())));
        record.add_round(&format!("annulus gateway, {what}"), Round { at_s, ..measured.round(rate) });
    }
    Ok(record)
}
