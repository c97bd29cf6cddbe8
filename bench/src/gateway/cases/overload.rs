//! Twice what the gateway can carry, with work that is its own: canonical merges on one shard.

use super::super::Options;
use super::super::rig::Measured;
use super::super::tally::{Outcome, STEP_NS, percentile_ms};
use super::{failures_row, memory_rows, plain, progress, rig, shop};
use crate::report::{Row, Target};
use crate::scenario::Settings;
use crate::schedule::Spread;
use crate::schedule::profile::{Profile, Segment};

/// Requests under way while the best is looked for.
const AT_ONCE: [usize; 3] = [32, 128, 512];
/// Rates as shares of saturation: before, during and after.
const CALM: f64 = 0.5;
const STORM: f64 = 2.0;
/// The gateway's share of its core at saturation from which on the load counts as the gateway's own.
const BOUND_SHARE: f64 = 0.9;
/// A tenth of a second is calm again when nothing was rejected and nothing took longer than this on top.
const CALM_ADDED_NS: u64 = 50_000_000;

pub fn run(settings: &Settings, options: &Options) -> Result<Vec<Row>, String> {
    let size = settings.size.unwrap_or(16 << 10).to_string();
    let shop = shop(options, &[("latency", "0-20ms"), ("sizes", &size)])?;
    let path = [(format!("/merge/{}", options.fan_out), 0)];
    let mut rig = rig(None, options, &shop, &plain(options), &path)?;
    let at_once = settings.sockets.map_or_else(|| AT_ONCE.to_vec(), |sockets| vec![sockets]);
    let best = rig.saturated(&shop, &at_once, settings.seconds.min(3.0))?;
    let (saturation, name) = (settings.rate.unwrap_or(best.goodput()), format!("overload, {}", rig.name));
    let bound = best.gateway_share() >= BOUND_SHARE;
    let mut rows = vec![Row::fact(
        format!("{name}: best goodput"),
        best.goodput(),
        format!("answers/s; {}{}", best.shares_text(), if bound { "" } else { "; NOT bound by the gateway" }),
    )];
    progress(&format!("{name}: {saturation:.0}/s is saturation; {:.0}/s follow", saturation * STORM));
    let segment = |share: f64, seconds| Segment { rate: saturation * share, seconds };
    let segments = vec![segment(CALM, 1.0), segment(STORM, settings.seconds.max(1.0)), segment(CALM, 4.0)];
    let profile = Profile { segments, spread: Spread::Poisson, seed: 1 };
    let measured = rig.measured(&shop, |load| load.open_loop(&profile))?;
    let storm = measured.outcome.segment(1);
    let goodput = storm.answered() as f64 / profile.segments[1].seconds;
    let note = format!(
        "{goodput:.0} answers/s, {} of all partial; {} rejected, {}",
        storm.partial,
        storm.rejected,
        storm.failures_text()
    );
    let share = goodput / saturation.max(1.0);
    rows.push(Row::new(format!("{name}: goodput at twice, of best"), Target::Least(0.9), Some(share), note));
    rows.push(failures_row(&name, &measured));
    for percentile in [50.0, 99.0] {
        let value = percentile_ms(&storm.rejection, percentile);
        let note = format!("ms, as the client saw it, of {}", storm.rejected);
        rows.push(Row::new(format!("{name}: rejection p{percentile:.0}"), Target::Fact, value, note));
    }
    let note = "us; what the answers do not explain, at what one costs at saturation";
    if let Some(us) = rejection_us(&best, &measured) {
        rows.push(Row::new(format!("{name}: CPU per rejection"), Target::Most(1000.0), Some(us), note));
    }
    let recovery = recovery_s(&measured.outcome, profile.start_ns(2));
    rows.push(Row::new(
        format!("{name}: recovery"),
        Target::Most(2.0),
        Some(recovery),
        "s until nothing is rejected or slow",
    ));
    let late = percentile_ms(&measured.outcome.lateness, 99.0).unwrap_or_default();
    rows.push(Row::fact(format!("{name}: generator late p99"), late, format!("ms; {}", measured.shares_text())));
    rows.extend(memory_rows(&name, &measured));
    Ok(rows)
}

/// The gateway's processor time per rejection, in microseconds; none without rejections.
fn rejection_us(best: &Measured, measured: &Measured) -> Option<f64> {
    let per_answer = best.cpu_s / best.outcome.whole().answered().max(1) as f64;
    let whole = measured.outcome.whole();
    let unexplained = (measured.cpu_s - per_answer * whole.answered() as f64).max(0.0);
    (whole.rejected > 0).then(|| unexplained * 1e6 / whole.rejected as f64)
}

/// Seconds from the end of the overload to the end of the last tenth of a second that was not calm.
fn recovery_s(outcome: &Outcome, calm_ns: u64) -> f64 {
    let first = (calm_ns / STEP_NS) as usize;
    let steps = outcome.timeline.get(first..).unwrap_or_default();
    let restless =
        |step: &&super::super::tally::Step| step.rejected + step.failed > 0 || step.added_most > CALM_ADDED_NS;
    let count = steps.len() - steps.iter().rev().take_while(|step| !restless(step)).count();
    count as f64 * STEP_NS as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::super::super::tally::Verdict;
    use super::*;

    #[test]
    fn recovery_lasts_until_the_last_restless_step() {
        let mut outcome = Outcome::new(1, 1);
        let mut at = |step: u64, verdict, added| outcome.on_verdict((0, 0), step * STEP_NS, added, Some(0), verdict);
        at(5, Verdict::Rejected, 1);
        (10..30).for_each(|step| at(step, Verdict::Complete, 1_000_000));
        at(12, Verdict::Rejected, 1);
        at(14, Verdict::Complete, 2 * CALM_ADDED_NS);
        assert_eq!(recovery_s(&outcome, 10 * STEP_NS), 0.5);
        assert_eq!(recovery_s(&outcome, 15 * STEP_NS), 0.0);
        assert_eq!(recovery_s(&outcome, 100 * STEP_NS), 0.0);
    }
}
