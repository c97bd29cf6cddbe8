//! Attacks from both sides of the gateway, one after the other, while ordinary clients go on: what they notice of it,
//! what it costs in memory, and how the gateway ends it.

use super::super::Options;
use super::super::attack::client::Attack;
use super::super::attack::hostile::{Conduct, FLOOD_RATE, Hostile};
use super::super::config::Choices;
use super::super::rig::{Measured, Rig};
use super::super::shop::Shop;
use super::super::tally::percentile_ms;
use super::{plain, progress, rig, shop};
use crate::attacks::siege::{Attacker, Ledger};
use crate::compare::median;
use crate::report::{Row, Target};
use crate::sampler;
use crate::scenario::Settings;
use crate::schedule::profile::Profile;
use std::time::Duration;

/// The ordinary clients' rate, as a share of what one core carries.
const RATE_SHARE: f64 = 0.5;
/// The longest attack, as there are many, and the calm before each as a share of it.
const SECONDS_MAX: f64 = 1.1;
const CALM_SHARE: f64 = 0.45;
/// An attack is compared with the median of the last calm stretches: what else the machine does changes with time.
const CALM_KEPT: usize = 5;
/// Requests for other endpoints per request for the hostile one.
const OTHERS: usize = 9;
/// Looks at one attack.
const LOOKS_MAX: usize = 2;
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
    let address = scene.rig.address();
    for attack in Attack::ALL {
        let title = format!("{name}: client's {}", attack.name());
        let begin = || Attacker::start(attack.plan(&other), address);
        rows.extend(scene.besieged(&title, attack.rate(), begin, Attacker::end)?);
    }
    for conduct in Conduct::ATTACKS {
        let title = format!("{name}: service's {}", conduct.name());
        let (begin, end) = (|| hostile.behave(conduct), |_| Ok(hostile.behave(Conduct::Honest)));
        rows.extend(scene.besieged(&title, FLOOD_RATE, begin, end)?);
    }
    Ok(rows)
}

/// A run and the memory it took.
struct Seen {
    measured: Measured,
    growth_mb: f64,
    /// Other clients' added p99, of what it was in calm; none when the generator was late.
    ratio: Option<f64>,
}

impl Seen {
    /// Answers that other clients did not get as they should.
    fn incomplete(&self) -> u64 {
        let others = self.measured.outcome.class(0);
        others.sent - others.complete
    }

    fn note(&self) -> String {
        let (outcome, others) = (&self.measured.outcome, self.measured.outcome.class(0));
        let [p99, late] = [&others.added, &outcome.lateness].map(|of| percentile_ms(of, 99.0).unwrap_or(f64::NAN));
        let refused = if outcome.is_honest() { "" } else { "refused: the generator itself was late; " };
        format!("{refused}{p99:.3} ms, generator late p99 {late:.2} ms; {}", self.measured.shares_text())
    }
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
            let p99 = percentile_ms(&measured.outcome.class(0).added, 99.0);
            let ratio = p99.filter(|_| measured.outcome.is_honest()).map(|p99| p99 / median(&self.calm));
            Ok(Seen { measured, growth_mb, ratio })
        });
        (seen, begun)
    }

    /// Looks at an attack, and once more when others suffered: what the machine did meanwhile does not come again, what
    /// the attack does comes every time.
    fn besieged<T>(
        &mut self,
        title: &str,
        rate: f64,
        begin: impl Fn() -> T,
        end: impl Fn(T) -> Result<Ledger, String>,
    ) -> Result<[Row; 4], String> {
        let mut looks = Vec::new();
        let mut ledger = Ledger::default();
        while looks.len() < LOOKS_MAX && !looks.iter().any(is_bearable) {
            self.calm_down()?;
            let (seen, begun) = self.look(self.seconds, &begin);
            ledger = end(begun)?;
            let seen = seen?;
            progress(&format!("{title}: {}", seen.note()));
            looks.push(seen);
        }
        let note = format!("{}; at most {rate:.0} units/s", ledger.text());
        Ok(rows(title, &looks, median(&self.calm), &ledger, note))
    }
}

fn is_bearable(seen: &Seen) -> bool {
    seen.ratio.is_some_and(|ratio| ratio <= RATIO_MOST)
}

/// The best latency of all looks, and the worst of everything else.
fn rows(title: &str, looks: &[Seen], calm_ms: f64, ledger: &Ledger, ending: String) -> [Row; 4] {
    let ratio = looks.iter().filter_map(|seen| seen.ratio).reduce(f64::min);
    let notes: Vec<String> = looks.iter().map(Seen::note).collect();
    let note = format!("calm {calm_ms:.3} ms; {}", notes.join("; again: "));
    let worst = looks.iter().max_by_key(|seen| seen.incomplete());
    let failures = worst.map_or_else(String::new, |seen| {
        let others = seen.measured.outcome.class(0);
        let (partial, rejected) = (others.partial, others.rejected);
        format!("of {}: {partial} partial, {rejected} rejected, {}", others.sent, others.failures_text())
    });
    let growth = looks.iter().map(|seen| seen.growth_mb).reduce(f64::max);
    [
        Row::new(format!("{title}: others' added p99, of calm"), Target::Most(RATIO_MOST), ratio, note),
        Row::new(
            format!("{title}: others' incomplete"),
            Target::Most(0.0),
            worst.map(|seen| seen.incomplete() as f64),
            failures,
        ),
        Row::new(format!("{title}: memory growth"), Target::Most(GROWTH_MB_MOST), growth, "MB"),
        Row::fact(format!("{title}: connections ended"), ledger.ends() as f64, ending),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::super::shop::Counts;
    use super::super::super::tally::{Outcome, Verdict};
    use super::*;
    use crate::sampler::Sample;

    fn seen(ratio: Option<f64>, failed: usize, growth_mb: f64) -> Seen {
        let mut outcome = Outcome::new(1, 2);
        outcome.tallies[0][0].sent = 100;
        (0..failed).for_each(|_| outcome.on_verdict((0, 0), 0, 1, None, Verdict::Failed("timeout")));
        (failed..100).for_each(|_| outcome.on_verdict((0, 0), 0, 1_000_000, Some(0), Verdict::Complete));
        let (counts, after) = (Counts::default(), Sample::default());
        Seen {
            measured: Measured { outcome, cpu_s: 0.0, load_cpu_s: 0.0, counts, after, usage: Vec::new() },
            growth_mb,
            ratio,
        }
    }

    #[test]
    fn noise_is_forgiven_and_failures_are_not() {
        let looks = [seen(Some(5.0), 3, 1.0), seen(Some(1.1), 0, 70.0)];
        let rows = rows("a", &looks, 1.0, &Ledger::default(), String::new());
        assert_eq!(rows.each_ref().map(Row::holds), [true, false, false, true]);
        assert_eq!(rows.each_ref().map(|row| row.measured), [Some(1.1), Some(3.0), Some(70.0), Some(0.0)]);
    }

    #[test]
    fn a_late_generator_gives_no_latency() {
        let rows = rows("a", &[seen(None, 0, 0.0), seen(None, 0, 0.0)], 1.0, &Ledger::default(), String::new());
        assert_eq!(rows.each_ref().map(Row::holds), [false, true, true, true]);
        assert!(!is_bearable(&seen(None, 0, 0.0)) && is_bearable(&seen(Some(2.0), 0, 0.0)));
    }
}
