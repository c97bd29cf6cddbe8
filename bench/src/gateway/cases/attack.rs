//! Attacks from both sides of the gateway, one after the other, while ordinary clients go on: what they notice of it,
//! what it costs in memory, and how the gateway ends it.

use super::super::Options;
use super::super::attack::Ledger;
use super::super::attack::client::{Attack, Attacker};
use super::super::attack::hostile::{Conduct, FLOOD_RATE, Hostile};
use super::super::config::Choices;
use super::super::profile::Profile;
use super::super::rig::{Measured, Rig};
use super::super::shop::Shop;
use super::super::tally::percentile_ms;
use super::{plain, progress, rig, shop};
use crate::compare::median;
use crate::report::{Row, Target};
use crate::sampler;
use crate::scenario::Settings;
use std::time::Duration;

/// The ordinary clients' rate, as a share of what one core carries.
const RATE_SHARE: f64 = 0.5;
/// The longest attack, as there are many, and the calm before each as a share of it.
const SECONDS_MAX: f64 = 1.2;
const CALM_SHARE: f64 = 0.5;
/// An attack is compared with the median of the last calm stretches: what else the machine does changes with time.
const CALM_KEPT: usize = 5;
/// Requests for other endpoints per request for the hostile one.
const OTHERS: usize = 9;
/// Other clients' added latency under attack, of what it is without one.
const RATIO_MOST: f64 = 2.0;
/// What the gateway may take for answers.
const MEMORY_BYTES: u64 = 48 << 20;
/// By so much its memory may grow, in MB: those, and a third more for everything else.
const GROWTH_MB_MOST: f64 = 64.0;
/// What an attack left behind has this long to go away.
const PAUSE: Duration = Duration::from_millis(200);

/// The gateway with what is done to it.
struct Scene<'a> {
    shop: &'a Shop,
    rig: Rig,
    rate: f64,
    seconds: f64,
    /// Other clients' added p99 in the last calm stretches, in milliseconds.
    calm: Vec<f64>,
}

pub fn run(settings: &Settings, options: &Options) -> Result<Vec<Row>, String> {
    let shop = shop(options, &[("latency", "0-20ms"), ("sizes", "1KB")])?;
    let other = format!("/fanout/{}", options.fan_out);
    let mut paths = vec![(other.clone(), 0); OTHERS];
    paths.push(("/hostile".to_owned(), 1));
    let hostile = Hostile::start()?;
    let choices = Choices {
        h2c_clients: true,
        memory_bytes: Some(MEMORY_BYTES),
        hostile: Some(hostile.address),
        ..plain(options)
    };
    let mut rig = rig(None, options, &shop, &choices, &paths)?;
    let rate = match settings.rate {
        Some(rate) => rate,
        None => rig.bearable_rate(&shop, 1.0)? * RATE_SHARE,
    };
    let seconds = settings.seconds.min(SECONDS_MAX);
    let name = format!("attack, {}", rig.name);
    let mut scene = Scene { shop: &shop, rig, rate, seconds, calm: Vec::new() };
    let mut rows = Vec::new();
    scene.calm_down()?;
    scene.calm_down()?;
    for attack in Attack::ALL {
        scene.calm_down()?;
        let address = scene.rig.address();
        let (seen, attacker) = scene.look(seconds, || Attacker::start(attack, address, &other));
        let ledger = attacker.end()?;
        rows.extend(scene.rows(&format!("{name}: client's {}", attack.name()), &seen?, &ledger, attack.rate()));
    }
    for conduct in Conduct::ATTACKS {
        scene.calm_down()?;
        let (seen, _) = scene.look(seconds, || hostile.behave(conduct));
        let ledger = hostile.behave(Conduct::Honest);
        rows.extend(scene.rows(&format!("{name}: service's {}", conduct.name()), &seen?, &ledger, FLOOD_RATE));
    }
    Ok(rows)
}

/// A run and the memory it took.
struct Seen {
    measured: Measured,
    growth_mb: f64,
}

impl Scene<'_> {
    /// A stretch without an attack.
    fn calm_down(&mut self) -> Result<(), String> {
        let (seen, ()) = self.look(self.seconds * CALM_SHARE, || ());
        let p99 = percentile_ms(&seen?.measured.outcome.class(0).added, 99.0);
        self.calm.push(p99.ok_or("a calm stretch had no answers")?);
        self.calm.drain(..self.calm.len().saturating_sub(CALM_KEPT));
        Ok(())
    }

    /// Ordinary load for a while, beside what `begin` begins.
    fn look<T>(&mut self, seconds: f64, begin: impl FnOnce() -> T) -> (Result<Seen, String>, T) {
        std::thread::sleep(PAUSE);
        let before = self.rig.sample().and_then(|sample| sampler::forget_peak(self.rig.pid()).map(|()| sample.rss));
        let begun = begin();
        // The same arrivals every time: what differs is the attack.
        let profile = Profile::steady(self.rate, seconds, 1);
        let measured = self.rig.measured(self.shop, |load| load.open_loop(&profile));
        let seen = before.and_then(|before| {
            let measured = measured?;
            let growth_mb = measured.after.rss_peak.saturating_sub(before) as f64 / 1e6;
            Ok(Seen { measured, growth_mb })
        });
        (seen, begun)
    }

    fn rows(&self, title: &str, seen: &Seen, ledger: &Ledger, rate: f64) -> [Row; 4] {
        let (outcome, others) = (&seen.measured.outcome, seen.measured.outcome.class(0));
        let base = median(&self.calm);
        let p99 = percentile_ms(&others.added, 99.0);
        let ratio = p99.filter(|_| outcome.is_honest()).map(|p99| p99 / base);
        let late = percentile_ms(&outcome.lateness, 99.0).unwrap_or_default();
        let refused = if outcome.is_honest() { "" } else { "refused: the generator itself was late; " };
        let shares = seen.measured.shares_text();
        let note = format!(
            "{refused}{:.3} ms, calm {base:.3}, generator late p99 {late:.2} ms; {shares}",
            p99.unwrap_or(f64::NAN),
        );
        progress(&format!("{title}: {note}"));
        let incomplete = (others.sent - others.complete) as f64;
        let failures = format!(
            "of {}: {} partial, {} rejected, {}",
            others.sent,
            others.partial,
            others.rejected,
            others.failures_text()
        );
        [
            Row::new(format!("{title}: others' added p99, of calm"), Target::Most(RATIO_MOST), ratio, note),
            Row::new(format!("{title}: others' incomplete"), Target::Most(0.0), Some(incomplete), failures),
            Row::new(format!("{title}: memory growth"), Target::Most(GROWTH_MB_MOST), Some(seen.growth_mb), "MB"),
            Row::fact(
                format!("{title}: connections ended"),
                ledger.ends() as f64,
                format!("{}; at most {rate:.0} units/s", ledger.text()),
            ),
        ]
    }
}
