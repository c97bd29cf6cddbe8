//! One service takes requests and never answers: who else notices, and how soon is it left alone.

use super::super::Options;
use super::super::config::Choices;
use super::super::shop;
use super::super::tally::percentile_ms;
use super::{failures_row, plain, progress, rig};
use crate::report::{Row, Target};
use crate::scenario::Settings;
use crate::schedule::profile::Profile;
use crate::upstreams::service::SERVICES;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The service that falls silent.
const SILENT: usize = 0;
/// The rate, as a share of what one core carries.
const RATE_SHARE: f64 = 0.5;
/// How long the gateway waits for a service.
const BACKEND_MS: u64 = 300;
/// How often its count is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Left alone: it gets less than this share of its requests.
const LEFT_ALONE: f64 = 0.1;

pub fn run(settings: &Settings, options: &Options) -> Result<Vec<Row>, String> {
    let shop = super::shop(options, &[("latency", "0-20ms"), ("sizes", "1KB")])?;
    let paths = [(format!("/fanout/{}", options.fan_out), 0), (format!("/far/{}", options.fan_out), 1)];
    let choices = Choices { backend_ms: BACKEND_MS, breakers: true, retries: false, apart: true, ..plain(options) };
    let mut rig = rig(None, options, &shop, &choices, &paths)?;
    let rate = match settings.rate {
        Some(rate) => rate,
        None => rig.bearable_rate(&shop, settings.seconds)? * RATE_SHARE,
    };
    // As many connections as will wait for the silent service at once. Clients of a shop have theirs; opening them in the
    // first moments would be measured as the gateway's slowness.
    rig.load.closed_loop((rate * BACKEND_MS as f64 / 1000.0) as usize, 0.2)?;
    let name = format!("blackhole, {}", rig.name);
    let mut calm = Vec::new();
    // Two calm runs: what chance alone does to the percentile. Watched as the third is, because the services share their
    // core with who asks for their counts.
    for seed in [1, 2] {
        let watch = Watch::start(shop.address);
        let measured = rig.measured(&shop, |load| load.open_loop(&Profile::steady(rate, settings.seconds, seed)))?;
        let _they_stay_in_use = watch.left_alone(rate / 2.0, settings.seconds);
        calm.push(percentile_ms(&measured.outcome.class(1).added, 99.0).ok_or("the calm runs had no answers")?);
    }
    shop.change(&json!({ "service": SERVICES[SILENT].name, "stalls": 1 }))?;
    let watch = Watch::start(shop.address);
    let measured = rig.measured(&shop, |load| load.open_loop(&Profile::steady(rate, settings.seconds.max(2.0), 3)))?;
    let opened = watch.left_alone(rate / 2.0, settings.seconds.max(2.0));
    progress(&format!("{name}: {rate:.0}/s, calm p99 {:.3} and {:.3} ms", calm[0], calm[1]));
    let (near, far) = (measured.outcome.class(0), measured.outcome.class(1));
    let base = f64::midpoint(calm[0], calm[1]);
    let spread = (calm[0] - calm[1]).abs() / base;
    let ratio = percentile_ms(&far.added, 99.0).filter(|_| measured.outcome.is_honest()).map(|p99| p99 / base);
    let note = format!("calm {:.3} and {:.3} ms; spread {:.0} %", calm[0], calm[1], spread * 100.0);
    let most = Target::Most(1.0 + spread.max(0.1));
    let mut rows = vec![
        Row::new(format!("{name}: other endpoints' added p99, of calm"), most, ratio, note),
        Row::new(
            format!("{name}: other endpoints' incomplete answers"),
            Target::Most(0.0),
            Some((far.sent - far.complete) as f64),
            format!("of {}; {}", far.sent, far.failures_text()),
        ),
        Row::new(
            format!("{name}: left alone after"),
            Target::Most(1.0),
            opened,
            "s of traffic, as the service counted it",
        ),
        Row::fact(
            format!("{name}: its endpoint's partial answers"),
            near.partial as f64 * 100.0 / near.sent.max(1) as f64,
            format!("% of {}; {} rejected, {}", near.sent, near.rejected, near.failures_text()),
        ),
    ];
    shop.change(&json!({ "service": SERVICES[SILENT].name, "stalls": 0 }))?;
    // The breaker's own pause, and a little.
    std::thread::sleep(Duration::from_millis(2500));
    let after = rig.measured(&shop, |load| load.open_loop(&Profile::steady(rate, settings.seconds, 4)))?;
    let back = after.outcome.class(0);
    let complete = back.complete as f64 * 100.0 / back.sent.max(1) as f64;
    rows.push(Row::new(
        format!("{name}: complete again"),
        Target::Least(99.0),
        Some(complete),
        "% once it answers again",
    ));
    rows.push(failures_row(&name, &measured));
    Ok(rows)
}

/// Looks at the silent service's count while load runs.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<(f64, u64)>>,
}

impl Watch {
    fn start(address: SocketAddr) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (since, mut seen) = (Instant::now(), Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                if let Ok(counts) = shop::counts(address) {
                    seen.push((since.elapsed().as_secs_f64(), counts.by_service[SILENT]));
                }
                std::thread::sleep(LOOK);
            }
            seen
        });
        Watch { stop, thread }
    }

    /// Seconds from its first request to the moment from which on, for half a second, it got next to none. None when
    /// that did not happen within the traffic's `seconds`.
    fn left_alone(self, rate: f64, seconds: f64) -> Option<f64> {
        self.stop.store(true, Ordering::Relaxed);
        left_alone(&self.thread.join().ok()?, rate, seconds)
    }
}

fn left_alone(seen: &[(f64, u64)], rate: f64, seconds: f64) -> Option<f64> {
    let begun = seen.iter().position(|(_, count)| *count > seen[0].1)?.saturating_sub(1);
    // After the traffic's end nobody gets anything.
    let seen = &seen[..seen.iter().take_while(|(time, _)| time - seen[begun].0 < seconds).count()];
    let calm_from = |at: usize| {
        let (start, count) = seen[at];
        let end = seen[at..].iter().find(|(time, _)| time - start >= 0.5)?;
        Some(((end.1 - count) as f64) < LEFT_ALONE * rate * (end.0 - start))
    };
    let at = (begun + 1..seen.len()).find(|&at| calm_from(at) == Some(true))?;
    Some(seen[at].0 - seen[begun].0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_left_alone_when_its_count_stands_still() {
        let counts = [5u64, 5, 55, 105, 155, 205, 210, 210, 211, 211, 212, 212, 212, 212, 212, 213, 213, 213];
        let seen: Vec<(f64, u64)> = counts.iter().enumerate().map(|(at, count)| (at as f64 * 0.1, *count)).collect();
        let after = left_alone(&seen, 500.0, 9.0).unwrap();
        assert!((after - 0.4).abs() < 1e-9, "{after}");
        assert_eq!(left_alone(&seen, 500.0, 0.6), None, "the traffic ended");
        assert_eq!(left_alone(&seen[..6], 500.0, 9.0), None);
        assert_eq!(left_alone(&[(0.0, 1), (0.6, 1)], 500.0, 9.0), None);
    }
}
