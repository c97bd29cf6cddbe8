//! Services that misbehave all the time: storms of refusals and retirements, and the long run with a tenth of all
//! answers wrong.

use super::super::Options;
use super::super::config::{Choices, Upstream};
use super::super::shop::{Shop, control};
use super::super::tally::Tally;
use super::{FAN_OUTS, memory_rows, mixed, plain, progress, quality_rows, rig, shop, sub_request_row};
use crate::report::{Row, Target};
use crate::scenario::Settings;
use crate::schedule::profile::Profile;
use serde_json::Value;

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
    let whole = &late.outcome.whole();
    let mut rows = vec![
        Row::new(format!("{name}: memory, end of early"), flat, Some(growth), note),
        Row::new(format!("{name}: reuse, broken ones aside"), reused, Some(late.reuse()), format!("{rate:.0}/s")),
        Row::fact(
            format!("{name}: answers with some data"),
            whole.answered() as f64 * 100.0 / whole.sent.max(1) as f64,
            format!("% of {}; {} partial, {} rejected", whole.sent, whole.partial, whole.rejected),
        ),
        sub_request_row(&name, &late),
    ];
    rows.extend(lost_rows(&name, whole, bad_share(&shop)?));
    rows.extend(memory_rows(&name, &late));
    Ok(rows)
}

/// The share of the services' answers of which no gateway can make anything, as they count them themselves: 500, which
/// is an answer and not asked for again, and those that were given up before they were due.
fn bad_share(shop: &Shop) -> Result<f64, String> {
    let page = control(shop.address, "GET", "")?;
    let services = page["services"].as_object().ok_or("the services count nothing")?;
    let sum = |names: &[&str]| -> u64 {
        let counts = services.values().flat_map(|service| names.iter().map(|name| &service["counts"][*name]));
        counts.filter_map(Value::as_u64).sum()
    };
    Ok(sum(&["errors", "abandoned", "stalled"]) as f64 / sum(&["requests"]).max(1) as f64)
}

/// Requests without an answer: those of which, by the services' own count, every service failed, and all others, which are
/// the gateway's fault. Chance decides how many the former are: three standard deviations more are allowed.
fn lost_rows(name: &str, whole: &Tally, bad: f64) -> [Row; 2] {
    let all_bad: f64 = FAN_OUTS.map(|count| bad.powi(count as i32)).sum::<f64>() / FAN_OUTS.count() as f64;
    let expected = all_bad * whole.sent as f64;
    let of = |reasons: [&str; 2]| reasons.iter().filter_map(|reason| whole.failed.get(reason)).sum::<u64>();
    let nothing_there = of(["status 502", "status 504"]);
    let others = whole.failures() - nothing_there;
    let note = format!(
        "expected {expected:.1} of {}: {:.2} % of the services' answers were bad, all of a request's by chance; {}",
        whole.sent,
        bad * 100.0,
        whole.failures_text()
    );
    [
        Row::new(
            format!("{name}: every service failed (502, 504)"),
            Target::Most((expected + 3.0 * expected.sqrt()).ceil()),
            Some(nothing_there as f64),
            note,
        ),
        Row::new(
            format!("{name}: other failures"),
            Target::Most(0.0),
            Some(others as f64),
            format!("of {}", whole.sent),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_gateway_could_answer_is_told_from_what_it_lost() {
        let mut whole = Tally { sent: 90_000, ..Tally::default() };
        // Of fan-outs of two, a ninth of all, one in a hundred: 100; of wider ones a tenth of that and less.
        whole.failed.extend([("status 502", 60), ("status 504", 60)]);
        let holds = |whole: &Tally, bad| lost_rows("soak", whole, bad).each_ref().map(Row::holds);
        assert_eq!(holds(&whole, 0.1), [true, true]);
        assert_eq!(holds(&whole, 0.05), [false, true], "more than the services can have caused");
        whole.failed.insert("reset", 1);
        assert_eq!(holds(&whole, 0.1), [true, false]);
    }
}
