//! Small answers beside large ones: how much longer the small ones take when half of all answers are of a megabyte.
//!
//! The large answers pass the services and the generator too, on one core: what small answers wait for there is told by
//! the same load without a gateway.

use super::super::Options;
use super::super::config::{Choices, FAR, LARGE_BYTES, SMALL_BYTES};
use super::super::generator::{self, Request};
use super::super::multiplexed;
use super::super::profile::Profile;
use super::super::tally::{Outcome, percentile_ms};
use super::{plain, progress, rig, shop};
use crate::compare::median;
use crate::report::{Row, Target};
use crate::scenario::Settings;
use std::net::SocketAddr;

/// The rate, as a share of what one core carries.
const RATE_SHARE: f64 = 0.5;
/// Small answers' p99 beside large ones, of what it is alone.
const RATIO_MOST: f64 = 1.5;
/// HTTP/2 connections of the clients: each carries small and large answers.
const CONNECTIONS: usize = 2;
/// Rounds of alone and mixed, and the longest of each.
const ROUNDS: usize = 3;
const SECONDS_MAX: f64 = 2.5;
/// Before the clock starts, connections are opened and buffers made.
const WARM_UP_AT_ONCE: usize = 8;
const WARM_UP_RATE: f64 = 100.0;
const WARM_UP_SECONDS: f64 = 0.2;

/// What clients speak.
#[derive(Clone, Copy)]
enum Client {
    Http1,
    H2c,
}

impl Client {
    /// An open loop of `paths`, each of the class of its place.
    fn run(self, address: SocketAddr, paths: &[&str], profile: &Profile) -> Result<Outcome, String> {
        let classed = paths.iter().enumerate();
        match self {
            Client::Http1 => {
                let requests = classed.map(|(class, path)| Request::get(address, path, class)).collect();
                let mut load = generator::Load::new(address, requests, 1)?;
                load.closed_loop(WARM_UP_AT_ONCE, WARM_UP_SECONDS)?;
                load.open_loop(profile)
            }
            Client::H2c => {
                let requests = classed.map(|(class, path)| ((*path).to_owned(), class)).collect();
                let mut load = multiplexed::Load::open(address, requests, CONNECTIONS, 1)?;
                load.open_loop(&Profile::steady(WARM_UP_RATE, WARM_UP_SECONDS, 1))?;
                load.open_loop(profile)
            }
        }
    }
}

/// Small answers alone, and with as many large ones.
#[derive(Default)]
struct Pair {
    alone: Vec<f64>,
    mixed: Vec<f64>,
    late: Vec<f64>,
    failures: u64,
    bytes_per_s: Vec<f64>,
}

impl Pair {
    fn add(
        &mut self,
        client: Client,
        at: SocketAddr,
        paths: [&str; 2],
        rate: f64,
        seconds: f64,
        seed: u64,
    ) -> Result<(), String> {
        let alone = client.run(at, &paths[..1], &Profile::steady(rate / 2.0, seconds, seed))?;
        let mixed = client.run(at, &paths, &Profile::steady(rate, seconds, seed))?;
        for (outcome, values) in [(&alone, &mut self.alone), (&mixed, &mut self.mixed)] {
            values.extend(percentile_ms(&outcome.class(0).added, 99.0));
            self.late.extend(percentile_ms(&outcome.lateness, 99.0));
            self.failures += outcome.whole().sent - outcome.whole().complete;
        }
        self.bytes_per_s.push(mixed.whole().body_bytes as f64 / mixed.seconds);
        Ok(())
    }

    fn ratio(&self) -> Option<f64> {
        (!self.alone.is_empty() && !self.mixed.is_empty()).then(|| median(&self.mixed) / median(&self.alone))
    }

    fn note(&self) -> String {
        format!(
            "alone {:.3?}, mixed {:.3?} ms; generator late p99 {:.2} ms",
            self.alone,
            self.mixed,
            median(&self.late)
        )
    }
}

pub fn run(settings: &Settings, options: &Options) -> Result<Vec<Row>, String> {
    let shop = shop(options, &[("latency", "0"), ("sizes", "1KB")])?;
    let paths = ["/small", "/large"];
    let classed: Vec<(String, usize)> =
        paths.iter().zip(0..).map(|(path, class)| ((*path).to_owned(), class)).collect();
    let choices = Choices { h2c_clients: true, ..plain(options) };
    let mut rig = rig(None, options, &shop, &choices, &classed)?;
    let rate = match settings.rate {
        Some(rate) => rate,
        None => rig.bearable_rate(&shop, 1.0)? * RATE_SHARE,
    };
    let seconds = settings.seconds.min(SECONDS_MAX);
    let direct = [format!("/s/0?bytes={SMALL_BYTES}"), format!("/s/{FAR}?bytes={LARGE_BYTES}")];
    let mut rows = Vec::new();
    for (client, speaks) in [(Client::H2c, "HTTP/2"), (Client::Http1, "HTTP/1.1")] {
        let (mut gateway, mut floor) = (Pair::default(), Pair::default());
        for seed in 1..=ROUNDS as u64 {
            gateway.add(client, rig.address(), paths, rate, seconds, seed)?;
            floor.add(client, shop.address, [&direct[0], &direct[1]], rate, seconds / 2.0, seed)?;
        }
        let name = format!("fairness, {speaks} clients, {}", rig.name);
        progress(&format!("{name}: {}", gateway.note()));
        rows.extend(pair_rows(&name, &gateway, &floor, rate));
    }
    Ok(rows)
}

fn pair_rows(name: &str, gateway: &Pair, floor: &Pair, rate: f64) -> [Row; 6] {
    let honest = median(&gateway.late) * 1e6 <= crate::generator::LATENESS_MAX_NS as f64;
    let refused = if honest { "" } else { "refused: the generator itself was late; " };
    let halves = format!("ms, at {:.0}/s of 1 KB", rate / 2.0);
    let mixed = format!("ms, with as many of 1 MB, at {rate:.0}/s in all");
    let value = |values: &[f64]| (!values.is_empty()).then(|| median(values));
    [
        Row::new(format!("{name}: 1 KB added p99 alone"), Target::Fact, value(&gateway.alone), halves),
        Row::new(format!("{name}: 1 KB added p99 mixed"), Target::Fact, value(&gateway.mixed), mixed),
        Row::new(
            format!("{name}: 1 KB p99, mixed of alone"),
            Target::Most(RATIO_MOST),
            gateway.ratio().filter(|_| honest),
            format!("{refused}{}", gateway.note()),
        ),
        Row::new(format!("{name}: the same without gateway"), Target::Fact, floor.ratio(), floor.note()),
        Row::new(
            format!("{name}: incomplete"),
            Target::Most(0.0),
            Some(gateway.failures as f64),
            "answers that were partial, rejected or failed",
        ),
        Row::fact(format!("{name}: throughput"), median(&gateway.bytes_per_s) / 1e6, "MB/s of bodies, mixed"),
    ]
}
