//! Small answers beside large ones: how much longer the small ones take when half of all answers are of a megabyte.
//!
//! The large answers pass the services and the generator too, on one core: what small answers wait for there is told by
//! the same load without a gateway.

use super::super::Options;
use super::super::config::{Choices, FAR, LARGE_BYTES, SMALL_BYTES};
use super::super::generator::{self, Request};
use super::super::multiplexed;
use super::super::tally::{Outcome, percentile_ms};
use super::{plain, progress, rig, shop};
use crate::report::{Row, Target};
use crate::scenario::Settings;
use crate::schedule::profile::Profile;
use std::net::SocketAddr;

/// Requests per second in all: at more, the services' megabytes make the generator late where both share a core.
const RATE: f64 = 120.0;
/// Small answers' p99 beside large ones, of what it is alone.
const RATIO_MOST: f64 = 1.5;
/// HTTP/2 connections of the clients: each carries small and large answers.
const CONNECTIONS: usize = 2;
/// Rounds of alone and mixed, and the longest of each.
const ROUNDS: u64 = 3;
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
struct Pair {
    client: Client,
    alone: Outcome,
    mixed: Outcome,
}

impl Pair {
    fn new(client: Client) -> Pair {
        Pair { client, alone: Outcome::new(1, 1), mixed: Outcome::new(1, 2) }
    }

    /// One round more of both, at `rate` in all where they are mixed.
    fn add(&mut self, at: SocketAddr, paths: [&str; 2], rate: f64, seconds: f64, seed: u64) -> Result<(), String> {
        let alone = self.client.run(at, &paths[..1], &Profile::steady(rate / 2.0, seconds, seed))?;
        let mixed = self.client.run(at, &paths, &Profile::steady(rate, seconds, seed))?;
        self.alone.add(&alone);
        self.mixed.add(&mixed);
        Ok(())
    }

    /// Both p99s, of the small answers of all rounds.
    fn p99(&self) -> [Option<f64>; 2] {
        [&self.alone, &self.mixed].map(|outcome| percentile_ms(&outcome.class(0).added, 99.0))
    }

    fn ratio(&self) -> Option<f64> {
        let [alone, mixed] = self.p99();
        Some(mixed? / alone?)
    }

    fn is_honest(&self) -> bool {
        self.alone.is_honest() && self.mixed.is_honest()
    }

    fn note(&self) -> String {
        let text = |value: Option<f64>| value.map_or_else(|| "none".to_owned(), |value| format!("{value:.3}"));
        let [alone, mixed] = self.p99().map(text);
        let late = percentile_ms(&self.mixed.lateness, 99.0).unwrap_or_default();
        format!("alone {alone}, mixed {mixed} ms; generator late p99 {late:.2} ms")
    }
}

pub fn run(settings: &Settings, options: &Options) -> Result<Vec<Row>, String> {
    let shop = shop(options, &[("latency", "0"), ("sizes", "1KB")])?;
    let paths = ["/small", "/large"];
    let classed: Vec<(String, usize)> =
        paths.iter().zip(0..).map(|(path, class)| ((*path).to_owned(), class)).collect();
    let choices = Choices { h2c_clients: true, ..plain(options) };
    let rig = rig(None, options, &shop, &choices, &classed)?;
    let rate = settings.rate.unwrap_or(RATE);
    let seconds = settings.seconds.min(SECONDS_MAX);
    let direct = [format!("/s/0?bytes={SMALL_BYTES}"), format!("/s/{FAR}?bytes={LARGE_BYTES}")];
    let mut rows = Vec::new();
    for (client, speaks) in [(Client::H2c, "HTTP/2"), (Client::Http1, "HTTP/1.1")] {
        let (mut gateway, mut floor) = (Pair::new(client), Pair::new(client));
        for seed in 1..=ROUNDS {
            gateway.add(rig.address(), paths, rate, seconds, seed)?;
            floor.add(shop.address, [&direct[0], &direct[1]], rate, seconds / 2.0, seed)?;
        }
        let name = format!("fairness, {speaks} clients, {}", rig.name);
        progress(&format!("{name}: {}; without gateway {}", gateway.note(), floor.note()));
        rows.extend(pair_rows(&name, &gateway, &floor, rate));
    }
    Ok(rows)
}

fn pair_rows(name: &str, gateway: &Pair, floor: &Pair, rate: f64) -> [Row; 6] {
    let refused = if gateway.is_honest() { "" } else { "refused: the generator itself was late; " };
    let ratio = gateway.ratio().filter(|_| gateway.is_honest());
    let [alone, mixed] = gateway.p99();
    let incomplete: u64 =
        [&gateway.alone, &gateway.mixed].map(Outcome::whole).iter().map(|whole| whole.sent - whole.complete).sum();
    let whole = gateway.mixed.whole();
    let per_s = whole.body_bytes as f64 / gateway.mixed.seconds / 1e6;
    let half = format!("ms, at {:.0}/s of 1 KB", rate / 2.0);
    let all = format!("ms, with as many of 1 MB, at {rate:.0}/s in all");
    let failures = format!("of {} mixed: {} rejected, {}", whole.sent, whole.rejected, whole.failures_text());
    [
        Row::new(format!("{name}: 1 KB added p99 alone"), Target::Fact, alone, half),
        Row::new(format!("{name}: 1 KB added p99 mixed"), Target::Fact, mixed, all),
        Row::new(
            format!("{name}: 1 KB p99, mixed of alone"),
            Target::Most(RATIO_MOST),
            ratio,
            format!("{refused}{}", gateway.note()),
        ),
        Row::new(format!("{name}: the same without gateway"), Target::Fact, floor.ratio(), floor.note()),
        Row::new(format!("{name}: incomplete"), Target::Most(0.0), Some(incomplete as f64), failures),
        Row::fact(format!("{name}: throughput"), per_s, "MB/s of bodies, mixed"),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::super::tally::Verdict;
    use super::*;

    #[test]
    fn rounds_are_put_together_before_they_are_compared() {
        let mut pair = Pair::new(Client::H2c);
        for (to, took) in [(&mut pair.alone, 1_000_000), (&mut pair.mixed, 3_000_000)] {
            for round in [1, 2] {
                let mut outcome = Outcome::new(1, to.tallies[0].len());
                outcome.tallies[0][0].sent = 10;
                (0..10).for_each(|_| outcome.on_verdict((0, 0), 0, took * round, Some(0), Verdict::Complete));
                to.add(&outcome);
            }
        }
        let ratio = pair.ratio().unwrap();
        assert!((ratio - 3.0).abs() < 0.01, "{ratio}");
        let rows = pair_rows("f", &pair, &Pair::new(Client::H2c), 10.0);
        assert_eq!(rows.iter().filter(|row| !row.holds()).count(), 1);
        assert!(rows[3].measured.is_none(), "nothing is known without a gateway");
    }
}
