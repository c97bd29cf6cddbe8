//! A gateway with its load, and what a stretch of it cost everybody.
//!
//! ```text
//!   generator ──► gateway ──► services, each on its own cores where there are enough
//! ```

use super::config::{Choices, Upstream};
use super::generator::{Load, Request};
use super::launch::Launched;
use super::shop::{Counts, Shop};
use super::tally::Outcome;
use crate::observe::beside;
use crate::placement;
use crate::process::{self, Server};
use crate::record::{Round, Usage};
use crate::sampler::Sample;
use std::net::SocketAddr;

/// The share of a core that a rate may take, of the gateway's and of the load's.
const CORE_SHARE: f64 = 0.7;
/// Requests per second of the first look at a gateway.
const FIRST_RATE: f64 = 100.0;
/// The next look is at so many times the rate, at most, and there is none when less than that much more seems bearable.
const LOOK_TIMES: f64 = 4.0;
const LOOK_AGAIN: f64 = 1.3;
/// Complete answers, of all: below, a rate is not carried, however little it costs to refuse.
const CARRIED: f64 = 0.99;
/// Requests at once, and for how long, before anything is measured.
const WARM_UP_AT_ONCE: usize = 16;
const WARM_UP_SECONDS: f64 = 0.3;

/// A gateway that somebody else has started.
#[derive(Clone, Copy, Debug)]
pub struct Outside {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process number, for its accounts.
    pub pid: u32,
}

enum Held {
    Ours(Launched),
    Peer(Server),
    Outside(Outside),
}

/// A running gateway with its load.
pub struct Rig {
    held: Held,
    /// Its name in rows.
    pub name: String,
    /// The cores that it may use.
    cores: f64,
    /// The generator.
    pub load: Load,
}

impl Rig {
    /// Starts our gateway or a peer's, or takes the one that is there, and gives it a generator of `requests`.
    ///
    /// # Errors
    /// A sentence: it could not be built or started.
    pub fn start(
        peer: Option<&str>,
        outside: Option<Outside>,
        shop: &Shop,
        choices: &Choices,
        requests: &dyn Fn(SocketAddr) -> Vec<Request>,
        seed: u64,
    ) -> Result<Rig, String> {
        placement::unpin()?;
        let (held, name) = match (outside, peer) {
            (Some(outside), _) => (Held::Outside(outside), format!("at {}", outside.address)),
            (None, None) => (Held::Ours(Launched::start(shop, choices)?), "ours".to_owned()),
            (None, Some(peer)) => {
                let protocol = match choices.upstream {
                    Upstream::H2c => process::Upstream::H2c,
                    Upstream::Http1 => process::Upstream::Http1,
                };
                let started = process::start_gateway(Some(peer), shop.address, protocol);
                (Held::Peer(started.map_err(|error| error.to_string())?), peer.to_owned())
            }
        };
        placement::pin_generator();
        let address = match &held {
            Held::Ours(launched) => launched.address,
            Held::Peer(server) => server.address,
            Held::Outside(outside) => outside.address,
        };
        let cores = match &held {
            Held::Ours(_) if choices.all_cores => placement::server_cores().len() as f64,
            _ => 1.0,
        };
        let mut rig = Rig { load: Load::new(address, requests(address), seed)?, held, name, cores };
        // So that connections are open and buffers exist on every side.
        let outcome = rig.load.closed_loop(WARM_UP_AT_ONCE, WARM_UP_SECONDS)?;
        match outcome.whole() {
            whole if whole.answered() > 0 => Ok(rig),
            whole => {
                Err(format!("{} answers nothing: {} rejected, {}", rig.name, whole.rejected, whole.failures_text()))
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        match &self.held {
            Held::Ours(launched) => launched.address,
            Held::Peer(server) => server.address,
            Held::Outside(outside) => outside.address,
        }
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        match &self.held {
            Held::Ours(launched) => launched.pid(),
            Held::Peer(server) => server.pid(),
            Held::Outside(outside) => outside.pid,
        }
    }

    /// The gateway's accounts.
    ///
    /// # Errors
    /// When it is gone.
    pub fn sample(&self) -> Result<Sample, String> {
        Sample::of(self.pid()).map_err(|error| format!("{} is gone: {error}", self.name))
    }

    /// Runs a load, and gives what it cost.
    ///
    /// # Errors
    /// A sentence: somebody is gone.
    pub fn measured(
        &mut self,
        shop: &Shop,
        run: impl FnOnce(&mut Load) -> Result<Outcome, String>,
    ) -> Result<Measured, String> {
        let of_load = |shop: &Shop| Ok::<f64, String>(shop.sample()?.cpu_s + Sample::of(std::process::id())?.cpu_s);
        let (before, counts, load) = (self.sample()?, shop.counts()?, of_load(shop)?);
        let (pid, load_now) = (self.pid(), &mut self.load);
        let (outcome, watched) = beside(&[pid], || run(load_now));
        let outcome = outcome?;
        let (after, counted) = (self.sample()?, shop.counts()?);
        Ok(Measured {
            cpu_s: after.cpu_s - before.cpu_s,
            load_cpu_s: of_load(shop)? - load,
            // The counts are asked for over connections of their own, one each.
            counts: difference(&counted, &counts),
            after,
            outcome,
            usage: watched.usage,
        })
    }

    /// The most it answers, at the number of requests under way that suits it best: too few leave it idle, and some
    /// servers do worse with many.
    ///
    /// # Errors
    /// As [`Rig::measured`].
    pub fn saturated(&mut self, shop: &Shop, at_once: &[usize], seconds: f64) -> Result<Measured, String> {
        let mut best: Option<Measured> = None;
        for &at_once in at_once {
            let measured = self.measured(shop, |load| load.closed_loop(at_once, seconds))?;
            best = best.filter(|best| best.goodput() >= measured.goodput()).or(Some(measured));
        }
        best.filter(|best| best.goodput() >= 1.0).ok_or_else(|| format!("{} answers nothing", self.name))
    }

    /// The rate that loads the gateway's cores or the load's, whichever are busier, to their permitted share. Where the
    /// services have cores of their own, generator and services count as two busy cores: neither should be short.
    ///
    /// # Errors
    /// As [`Rig::measured`].
    pub fn bearable_rate(&mut self, shop: &Shop, seconds: f64) -> Result<f64, String> {
        let (mut rate, mut looked_at) = (FIRST_RATE, 0.0);
        // A few requests cost more each, so the guess is looked at itself. It is approached from below: a gateway that was
        // overloaded remembers it, and what follows would measure its memory.
        while rate > looked_at * LOOK_AGAIN {
            let before = looked_at.max(FIRST_RATE);
            rate = rate.min(if looked_at > 0.0 { looked_at * LOOK_TIMES } else { FIRST_RATE });
            looked_at = rate;
            let seconds = seconds.clamp(1.0, 2.0);
            let profile = crate::schedule::profile::Profile::steady(rate, seconds, 1);
            let measured = self.measured(shop, |load| load.open_loop(&profile))?;
            let whole = measured.outcome.whole();
            if (whole.complete as f64) < CARRIED * whole.sent as f64 {
                return Ok(before);
            }
            let sent = whole.sent.max(1) as f64;
            let load_cores = if placement::services_cores().contains(&placement::generator_core()) { 1.0 } else { 2.0 };
            let busiest = (measured.cpu_s / self.cores).max(measured.load_cpu_s / load_cores).max(0.01);
            rate = (CORE_SHARE * sent / busiest).clamp(10.0, 20_000.0);
        }
        Ok(rate)
    }
}

/// What a stretch of load cost.
pub struct Measured {
    /// What the client saw.
    pub outcome: Outcome,
    /// Processor seconds of the gateway.
    pub cpu_s: f64,
    /// Processor seconds of generator and services.
    pub load_cpu_s: f64,
    /// What the services counted meanwhile.
    pub counts: Counts,
    /// The gateway's accounts at the end.
    pub after: Sample,
    /// And meanwhile.
    pub usage: Vec<Usage>,
}

impl Measured {
    /// As a round of a record, at so many requests per second.
    pub fn round(&self, offered_per_s: f64) -> Round {
        self.outcome.round(offered_per_s, self.usage.clone())
    }

    /// Requests that got an answer of any kind.
    fn answers(&self) -> f64 {
        let whole = self.outcome.whole();
        (whole.answered() + whole.rejected + whole.failures()).max(1) as f64
    }

    /// The gateway's processor time per client request, in microseconds.
    pub fn cpu_us_per_request(&self) -> f64 {
        self.cpu_s * 1e6 / self.answers()
    }

    /// The gateway's processor time per request to a service, in microseconds; none when the services saw none.
    pub fn cpu_us_per_sub_request(&self) -> Option<f64> {
        (self.counts.requests > 0).then(|| self.cpu_s * 1e6 / self.counts.requests as f64)
    }

    /// Share of the gateway's core.
    pub fn gateway_share(&self) -> f64 {
        self.cpu_s / self.outcome.seconds
    }

    /// Share of the core of generator and services.
    pub fn load_share(&self) -> f64 {
        self.load_cpu_s / self.outcome.seconds
    }

    /// Answers with data per second.
    pub fn goodput(&self) -> f64 {
        self.outcome.whole().answered() as f64 / self.outcome.seconds
    }

    /// Share of requests to services that went over a connection made before. Connections that a service broke are not
    /// held against the gateway.
    pub fn reuse(&self) -> f64 {
        let broken = self.counts.reset + self.counts.refused;
        let opened = self.counts.connections.saturating_sub(broken) as f64;
        1.0 - opened / self.counts.requests.max(1) as f64
    }

    /// How busy both cores were, in words.
    pub fn shares_text(&self) -> String {
        format!(
            "gateway {:.0} %, generator and services {:.0} % of a core",
            self.gateway_share() * 100.0,
            self.load_share() * 100.0
        )
    }
}

/// Counts from `before` to `after`. The connection that asked for the second ones does not count.
fn difference(after: &Counts, before: &Counts) -> Counts {
    Counts {
        requests: after.requests - before.requests,
        connections: (after.connections - before.connections).saturating_sub(1),
        repeated: after.repeated - before.repeated,
        reset: after.reset - before.reset,
        refused: after.refused - before.refused,
        by_service: after.by_service.iter().zip(&before.by_service).map(|(after, before)| after - before).collect(),
    }
}
