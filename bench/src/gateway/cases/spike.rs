//! A spike of five times the rate, services as slow and bodies as large as a shop's.

use super::super::Options;
use super::super::config::Choices;
use super::super::tally::percentile_ms;
use super::{failures_row, latency_row, memory_rows, mixed, plain, progress, quality_rows, rig, shop, sub_request_row};
use crate::report::{Row, Target};
use crate::scenario::Settings;
use crate::schedule::profile::Profile;

/// The spike's height.
const TIMES: f64 = 5.0;
/// The rate before and after the spike, where the machine carries it.
pub const RATE: f64 = 1000.0;

pub fn run(settings: &Settings, options: &Options) -> Result<Vec<Row>, String> {
    let shop = shop(options, &[("latency", "100-500ms"), ("sizes", "1-100KB")])?;
    let mut rows = Vec::new();
    let peers = std::iter::once(None).chain(settings.peers.iter().map(|peer| Some(peer.as_str())));
    for peer in peers {
        let mut rig = rig(peer, options, &shop, &Choices { all_cores: true, ..plain(options) }, &mixed())?;
        let name = format!("spike, {}", rig.name);
        let rate = match settings.rate {
            Some(rate) => rate,
            None => RATE.min(rig.bearable_rate(&shop, settings.seconds)? / TIMES),
        };
        progress(&format!("{name}: {rate:.0}/s, then {:.0}/s, then {rate:.0}/s", rate * TIMES));
        let profile = Profile::spike(rate, TIMES, settings.seconds, 1);
        let measured = rig.measured(&shop, |load| load.open_loop(&profile))?;
        let judged = peer.is_none();
        for (segment, (when, factor)) in [("before", 1.0), ("during", TIMES), ("after", 1.0)].into_iter().enumerate() {
            let tally = measured.outcome.segment(segment);
            let goodput = tally.answered() as f64 / settings.seconds;
            let note =
                format!("answers/s of {:.0}; {} rejected, {}", rate * factor, tally.rejected, tally.failures_text());
            rows.push(Row::fact(format!("{name}: goodput {when}"), goodput, note));
            let most = if judged { Target::Most(3.0) } else { Target::Fact };
            // In the spike the machine is at its permitted share, not at 60 % of saturation.
            let target = if segment == 1 { Target::Fact } else { most };
            rows.push(latency_row(format!("{name}: added p99 {when}"), target, &measured, &tally.added, 99.0));
            let (total, note) = (percentile_ms(&tally.total, 99.0), "ms, services' own time included");
            rows.push(Row::new(format!("{name}: answer p99 {when}"), Target::Fact, total, note));
        }
        rows.push(failures_row(&name, &measured));
        rows.extend(quality_rows(&name, &measured));
        rows.push(Row::fact(format!("{name}: CPU per request"), measured.cpu_us_per_request(), measured.shares_text()));
        rows.push(sub_request_row(&name, &measured));
        rows.extend(memory_rows(&name, &measured));
    }
    Ok(rows)
}
