//! All three services under mixed load for a chosen time: whether anything grows that should not.
//!
//! ```text
//!   load.rs    what is done to them        gauge.rs   what is looked at        slope.rs   whether it grows
//! ```
//!
//! The text is written anew after each interval, so that a run in the background can be looked at, and stopped, at any time;
//! the samples stand beside it as CSV. A figure grows if its slope after the warm-up is positive beyond what chance explains,
//! and has added more than a fixed amount or share while it was looked at; the limits of each stand in the table.

mod gauge;
mod load;
mod slope;

use crate::chat::config::{Ack, Chat};
use crate::faults::service::{Service, Way};
use crate::gateway::config::{self, Choices, Upstream};
use crate::gateway::shop::Shop;
use crate::process::Driver;
use crate::report;
use gauge::{GAUGES, Gauge, Judged, SERVICES, Scene};
use load::Loads;
use slope::Slope;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What channels' names begin with: a namespace of this level.
const NAMESPACE: &str = "wal:";
/// The share of the time that is warm-up.
const WARM_UP: f64 = 0.2;
/// The log gives segments back after so much; small, so that it does so in minutes.
const LOG: &str = "[chat.log]\nsegment_bytes = \"2MiB\"\ncheckpoint_bytes = \"1MiB\"\n";
/// What the image service forgets soon, so that what stays is a leak.
const IMAGE: &str = "workers = 1\noriginals_kept = false\noutputs_kept_seconds = 60\njobs_kept_seconds = 60\n\
                     sweep_seconds = 60\n";

/// How it is run.
pub struct Options {
    /// For so long.
    pub time: Duration,
    /// With samples so far apart.
    pub every: Duration,
    /// Where the text is written; the samples go beside it.
    pub out: PathBuf,
}

/// Samples: the hours since the beginning, and what each gauge said.
type Samples = Vec<(f64, Vec<Option<f64>>)>;

/// Runs it. Whether nothing grows and nothing failed.
///
/// # Errors
/// A sentence: something could not be started, or is gone.
pub fn run(options: &Options) -> Result<bool, String> {
    let folder = Folder::new()?;
    let chat_folder = folder.0.join("chat");
    let chat =
        Chat { ack: Some(Ack::Wal), shards: Some(1), directory: Some(&chat_folder.join("log")), ..Chat::default() };
    let chat = Service::chat(&chat_folder, &chat.text().replace("[chat.log]\n", LOG), None, Way::default())?;
    let image_folder = folder.0.join("image");
    let image = Service::image(&image_folder, &image_folder.join("data"), IMAGE, Way::default())?;
    let shop = Shop::start(None, &[("latency", "5-20ms"), ("sizes", "1-4KB")])?;
    let gateway =
        Service::gateway(&folder.0, |listen| config::write(listen, shop.address, &choices()), Way::default())?;
    let loads = Loads {
        chat: chat.address,
        image: image.address,
        gateway: gateway.address,
        every: options.every,
        last: std::sync::Mutex::default(),
        done: Default::default(),
        failed: Default::default(),
        why: std::sync::Mutex::default(),
        stop: false.into(),
    };
    let folders = [chat_folder, image_folder.join("data"), folder.0.clone()];
    let mut samples = Samples::new();
    let died = loads.run(|loads| {
        let scene = Scene { services: [&chat, &image, &gateway], loads, folders };
        watch(options, &scene, &mut samples)
    });
    let (text, good) = told(options, &samples, &loads, true);
    write(&options.out, &text)?;
    print!("{text}");
    died.map(|()| good)
}

/// Samples until the time is over, and writes what is known after each.
fn watch(options: &Options, scene: &Scene, samples: &mut Samples) -> Result<(), String> {
    let csv = options.out.with_extension("csv");
    let names: Vec<String> = GAUGES.iter().map(Gauge::name).collect();
    let mut lines = format!("hours,{}\n", names.join(",").replace(", ", " "));
    let began = Instant::now();
    let mut next = options.every;
    while began.elapsed() < options.time {
        std::thread::sleep(next.saturating_sub(began.elapsed()));
        next += options.every;
        if let Some(of) = (0..SERVICES.len()).find(|of| !crate::observe::is_alive(scene.services[*of].pid())) {
            return Err(format!("the {} has ended: {}", SERVICES[of], scene.services[of].last_words()));
        }
        let hours = began.elapsed().as_secs_f64() / 3600.0;
        let values: Vec<Option<f64>> = GAUGES.iter().map(|gauge| gauge.read(scene)).collect();
        let cell = |value: &Option<f64>| value.map(|value| format!("{value:.3}")).unwrap_or_default();
        lines += &format!("{hours:.5},{}\n", values.iter().map(cell).collect::<Vec<_>>().join(","));
        samples.push((hours, values));
        write(&csv, &lines)?;
        let (text, _) = told(options, samples, scene.loads, false);
        write(&options.out, &text)?;
    }
    Ok(())
}

fn choices() -> Choices {
    Choices {
        upstream: Upstream::Http1,
        backend_ms: 2000,
        all_cores: false,
        breakers: true,
        retries: true,
        apart: false,
        h2c_clients: false,
        compresses: false,
        memory_bytes: None,
        hostile: None,
        driver: Driver::Auto,
    }
}

/// The text, and whether nothing grows and nothing failed.
fn told(options: &Options, samples: &Samples, loads: &Loads, is_over: bool) -> (String, bool) {
    let hours = options.time.as_secs_f64() / 3600.0;
    let warm = samples.partition_point(|(at, _)| *at < hours * WARM_UP);
    let at = samples.last().map_or(0.0, |(at, _)| at * 60.0);
    let mut text: String = report::facts().iter().map(|(name, value)| format!("{name:<8} {value}\n")).collect();
    let state = if is_over { "over" } else { "RUNNING" };
    text += &format!(
        "state    {state}: {at:.1} of {:.1} minutes, the first {:.1} of them warm-up\n\n",
        hours * 60.0,
        hours * 60.0 * WARM_UP
    );
    text += &format!(
        "  {:<7}  {:<40} {:>10}  {:>24}  {:>9}  {:>11}\n",
        "", "figure", "mean", "slope an hour", "samples", "may add"
    );
    let mut good = true;
    for (index, gauge) in GAUGES.iter().enumerate() {
        let values: Vec<(f64, f64)> =
            samples[warm..].iter().filter_map(|(at, values)| Some((*at, values[index]?))).collect();
        let (line, grows) = row(gauge, Slope::of(&values));
        good &= !grows;
        text += &line;
    }
    text.push('\n');
    let why = loads.why.lock().map(|why| why.clone()).unwrap_or_default();
    for (of, what) in ["deliveries", "jobs", "answers"].into_iter().enumerate() {
        let (done, failed) = (loads.done[of].load(Ordering::Relaxed), loads.failed[of].load(Ordering::Relaxed));
        good &= failed == 0 && (done > 0 || !is_over);
        let verdict = if failed == 0 { "" } else { "FAILED" };
        text += &format!("  {verdict:<7}  {}: {done} {what}, {failed} failures {}\n", SERVICES[of], why[of]);
    }
    if is_over {
        text += if good { "\nnothing grows\n" } else { "\nSOMETHING GROWS, OR FAILED\n" };
    }
    (text, good)
}

/// A figure's line, and whether it grows.
fn row(gauge: &Gauge, slope: Option<Slope>) -> (String, bool) {
    let Some(slope) = slope else {
        return (format!("  {:<7}  {:<40} {:>10}\n", "", gauge.name(), "too few"), false);
    };
    let (grows, limit) = match gauge.judged {
        Judged::Level(least, share) => {
            let limit = least.max(share * slope.mean.abs());
            (slope.grows(least, share), format!("{limit:.1}"))
        }
        Judged::ByDesign(why) => (false, why.to_owned()),
    };
    let verdict = if grows { "GROWS" } else { "" };
    let of = format!("{:+.2} +- {:.2} {}", slope.per_hour, slope.uncertainty, gauge.unit);
    let counted = format!("{}/{:.0}", slope.samples, slope.independent);
    let line =
        format!("  {verdict:<7}  {:<40} {:>10.2}  {of:>24}  {counted:>9}  {limit:>11}\n", gauge.name(), slope.mean);
    (line, grows)
}

/// Writes a file at once, so that nobody reads half of it.
fn write(file: &Path, text: &str) -> Result<(), String> {
    let next = file.with_extension("next");
    std::fs::write(&next, text)
        .and_then(|()| std::fs::rename(&next, file))
        .map_err(|error| format!("cannot write {}: {error}", file.display()))
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder, String> {
        let path = std::env::temp_dir().join(format!("annulus-soak-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _left_for_a_person_to_remove = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_said_and_what_may_grow_is_not_held_against_it() {
        let samples = |per_hour: f64| {
            Slope::of(&(0..60).map(|at| at as f64 / 60.0).map(|at| (at, 50.0 + per_hour * at)).collect::<Vec<_>>())
        };
        let named = |what: &str| GAUGES.iter().find(|gauge| gauge.name() == what).unwrap();
        let (line, grows) = row(named("chat: memory (RSS)"), samples(20.0));
        assert!(grows && line.contains("GROWS") && line.contains("+20.00"), "{line}");
        let (line, grows) = row(named("chat: memory (RSS)"), samples(0.5));
        assert!(!grows && !line.contains("GROWS"), "half a megabyte in an hour is little: {line}");
        let (_, grows) = row(named("image: queue on disk"), samples(20.0));
        assert!(!grows);
        let (line, grows) = row(named("chat: memory (RSS)"), None);
        assert!(!grows && line.contains("too few"), "{line}");
    }
}
