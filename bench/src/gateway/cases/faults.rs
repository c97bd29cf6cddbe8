//! Services that misbehave all the time: storms of refusals and retirements, and the long run with a tenth of all
//! answers wrong.

use super::super::Options;
use super::super::config::{Choices, Upstream};
use super::super::profile::Profile;
use super::{failures_row, memory_rows, mixed, plain, progress, quality_rows, rig, shop, sub_request_row};
use crate::report::{Row, Target};
use crate::scenario::Settings;

/// The rate of the long run, as a share of what one core carries.
const RATE_SHARE: f64 = 0.6;
/// The long run's memory is compared with what it was after this share of the time.
const SETTLED: f64 = 0.2;

/// GOAWAY and REFUSED_STREAM: nothing of that may reach the client. Then broken answers: no POST may be sent twice.
pub fn storm(settings: &Settings, options: &Options) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    let shop = shop(options, &[("latency", "0-20ms"), ("sizes", "1KB"), ("goaway_every", "50"), ("refused", "0.05")])?;
    let mut paths = mixed();
    paths.push(("/post/4".to_owned(), 0));
    let choices = Choices { breakers: false, ..plain(options) };
    let mut rig = rig(None, options, &shop, &choices, &paths)?;
    let rate = settings.rate.unwrap_or(200.0);
    let name = format!("storm, {}", rig.name);
    let measured = rig.measured(&shop, |load| load.open_loop(&Profile::steady(rate, settings.seconds, 1)))?;
    let whole = measured.outcome.whole();
    // Over HTTP/1.1 nobody can tell an unprocessed request from a lost one: a POST is not tried again there.
    let target = if options.upstream == Upstream::H2c { Target::Most(0.0) } else { Target::Fact };
    let note = format!("of {}, {} refused by services; {}", whole.sent, measured.counts.refused, whole.failures_text());
    let visible = (whole.sent - whole.complete) as f64;
    rows.push(Row::new(format!("{name}: refusals that clients saw"), target, Some(visible), note));
    shop.change(&serde_json::json!({ "refused": 0, "resets": 0.1 }))?;
    let measured = rig.measured(&shop, |load| load.open_loop(&Profile::steady(rate, settings.seconds, 2)))?;
    let whole = measured.outcome.whole();
    let repeated = shop.counts()?.repeated as f64;
    let note = format!("of {}; {} answers were broken off", whole.sent, measured.counts.reset);
    rows.push(Row::new(format!("{name}: POSTs that came twice"), Target::Most(0.0), Some(repeated), note));
    rows.extend(quality_rows(&name, &measured));
    Ok(rows)
}

/// A tenth of all answers 500, late or broken, for `--seconds`: memory stays flat, connections are used again.
pub fn soak(settings: &Settings, options: &Options) -> Result<Vec<Row>, String> {
    let faults = [("errors", "0.034"), ("late", "0.033"), ("late_by", "3s"), ("resets", "0.033")];
    let shop = shop(options, &[&[("latency", "100-500ms"), ("sizes", "1-100KB")], &faults[..]].concat())?;
    let choices = Choices { backend_ms: 1500, all_cores: true, ..plain(options) };
    let mut rig = rig(None, options, &shop, &choices, &mixed())?;
    let rate = match settings.rate {
        Some(rate) => rate,
        None => super::spike::RATE.min(rig.bearable_rate(&shop, settings.seconds)? * RATE_SHARE),
    };
    let name = format!("soak, {}", rig.name);
    progress(&format!("{name}: {rate:.0}/s for {:.0} s", settings.seconds));
    let steady = |share: f64, seed| Profile::steady(rate, settings.seconds * share, seed);
    let early = rig.measured(&shop, |load| load.open_loop(&steady(SETTLED, 1)))?;
    let late = rig.measured(&shop, |load| load.open_loop(&steady(1.0 - SETTLED, 2)))?;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let growth = late.after.pss as f64 / early.after.pss.max(1) as f64;
    let note = format!("PSS {:.1} MB after a fifth, {:.1} MB at the end", mb(early.after.pss), mb(late.after.pss));
    // A run of seconds ends before allocators have seen every size.
    let judged = settings.seconds >= 60.0;
    let flat = if judged { Target::Most(1.05) } else { Target::Fact };
    let reused = if judged { Target::Least(0.999) } else { Target::Fact };
    let whole = late.outcome.whole();
    let mut rows = vec![
        Row::new(format!("{name}: memory, end of early"), flat, Some(growth), note),
        Row::new(format!("{name}: reuse, broken ones aside"), reused, Some(late.reuse()), format!("{rate:.0}/s")),
        Row::fact(
            format!("{name}: answers with some data"),
            whole.answered() as f64 * 100.0 / whole.sent.max(1) as f64,
            format!("% of {}; {} partial, {} rejected", whole.sent, whole.partial, whole.rejected),
        ),
        sub_request_row(&name, &late),
        failures_row(&name, &late),
    ];
    rows.extend(memory_rows(&name, &late));
    Ok(rows)
}
