//! The kernel's two interfaces side by side: what an operation costs the processor on io_uring and on epoll, in our own servers.
//!
//! Rounds alternate, both servers stay, and each pair of rounds gives a ratio. Where io_uring is kept from programs there is
//! nothing to compare, which is an error that says so.

use crate::chat;
use crate::compare::{Confidence, median};
use crate::gateway::config::{Choices, Upstream};
use crate::gateway::generator::Request;
use crate::gateway::rig::Rig;
use crate::gateway::shop::Shop;
use crate::generator::Load;
use crate::placement;
use crate::process::{Driver, Mode, Server};
use crate::report::Row;
use crate::sampler::Sample;
use crate::scenario::Settings;
use crate::schedule::profile::Profile;
use crate::schedule::{Schedule, Spread};
use std::net::SocketAddr;

/// The sides, in the order of ratios.
const SIDES: [Driver; 2] = [Driver::Uring, Driver::Epoll];
/// Sockets of the echo server, and bytes of a message.
const SOCKETS: usize = 200;
const SIZE: usize = 512;
/// Messages a second where a server is not saturated: most wake-ups bring one.
const ECHO_RATE: f64 = 4000.0;
/// Requests a second to the gateway, each of which asks so many services.
const GATEWAY_RATE: f64 = 200.0;
const FAN_OUT: usize = 6;
/// Requests at once while it is saturated.
const AT_ONCE: usize = 64;

/// Processor time per operation, of each side by round.
type Costs = [Vec<f64>; 2];

/// Compares them: echo, a room of the chat, and the gateway.
///
/// # Errors
/// A sentence: a server does not start, or is gone.
pub fn run(settings: &Settings) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    rows.extend(echo(settings)?);
    rows.extend(room(settings)?);
    rows.extend(gateway(settings)?);
    Ok(rows)
}

/// Medians of both sides, and their ratio.
fn compared(what: &str, costs: &Costs) -> Vec<Row> {
    let side =
        |driver: Driver, of: &[f64]| Row::fact(format!("{what}, {}", driver.name()), median(of), "us of processor");
    let confidence = Confidence::of(&costs[0], &costs[1]);
    let note = confidence.map_or_else(|| "too few rounds".to_owned(), |confidence| confidence.text());
    let ratio = confidence.map_or_else(|| median(&costs[0]) / median(&costs[1]), |confidence| confidence.ratio);
    vec![
        side(SIDES[0], &costs[0]),
        side(SIDES[1], &costs[1]),
        Row::fact(format!("{what}, io_uring / epoll"), ratio, note),
    ]
}

fn progress(what: &str, round: usize, costs: &Costs) {
    let last = |of: &[f64]| of.last().copied().unwrap_or_default();
    eprintln!("  {what}, round {}: io_uring {:.2} us, epoll {:.2} us", round + 1, last(&costs[0]), last(&costs[1]));
}

fn echo(settings: &Settings) -> Result<Vec<Row>, String> {
    let size = settings.size.unwrap_or(SIZE);
    let mut sides = Vec::new();
    for driver in SIDES {
        placement::unpin()?;
        let server = Server::start_on(driver, None, Mode::Echo)?;
        let load = Load::open(server.address, settings.sockets.unwrap_or(SOCKETS), size)?;
        sides.push((server, load));
    }
    let (mut saturated, mut open) = (Costs::default(), Costs::default());
    for round in 0..settings.rounds {
        for (index, (server, load)) in sides.iter_mut().enumerate() {
            let before = Sample::of(server.pid())?.cpu_s;
            let outcome = load.closed_loop(settings.seconds)?;
            let cpu = Sample::of(server.pid())?.cpu_s - before;
            load.settle()?;
            saturated[index].push(cpu * 1e6 / (outcome.received as f64).max(1.0));
            let before = Sample::of(server.pid())?.cpu_s;
            let schedule = Schedule::new(Spread::Constant, settings.rate.unwrap_or(ECHO_RATE), round as u64 + 1);
            let outcome = load.open_loop(schedule, settings.seconds)?;
            let cpu = Sample::of(server.pid())?.cpu_s - before;
            open[index].push(cpu * 1e6 / (outcome.sent as f64).max(1.0));
        }
        progress("echo saturated", round, &saturated);
    }
    let rate = settings.rate.unwrap_or(ECHO_RATE);
    let mut rows = compared(&format!("echo {size} B, saturated"), &saturated);
    rows.extend(compared(&format!("echo {size} B at {rate:.0}/s"), &open));
    Ok(rows)
}

fn room(settings: &Settings) -> Result<Vec<Row>, String> {
    let mut costs = Costs::default();
    for round in 0..settings.rounds {
        for (index, driver) in SIDES.into_iter().enumerate() {
            placement::unpin()?;
            costs[index].push(chat::delivery_cpu_us(settings, driver)?);
        }
        progress("room", round, &costs);
    }
    Ok(compared("chat, a delivery in rooms of 100", &costs))
}

fn gateway(settings: &Settings) -> Result<Vec<Row>, String> {
    let shop = Shop::start(None, &[("latency", "0-20ms"), ("sizes", "1KB")])?;
    let requests = |address: SocketAddr| vec![Request::get(address, &format!("/fanout/{FAN_OUT}"), 0)];
    let mut rigs = Vec::new();
    for driver in SIDES {
        let choices = Choices {
            upstream: Upstream::Http1,
            backend_ms: 2000,
            all_cores: false,
            breakers: false,
            retries: true,
            apart: false,
            h2c_clients: false,
            compresses: false,
            memory_bytes: None,
            hostile: None,
            driver,
        };
        rigs.push(Rig::start(None, None, &shop, &choices, &requests, 1)?);
    }
    let (mut saturated, mut open) = (Costs::default(), Costs::default());
    for round in 0..settings.rounds {
        for (index, rig) in rigs.iter_mut().enumerate() {
            let measured = rig.measured(&shop, |load| load.closed_loop(AT_ONCE, settings.seconds))?;
            saturated[index].extend(measured.cpu_us_per_sub_request());
            let profile = Profile::steady(GATEWAY_RATE, settings.seconds, round as u64 + 1);
            let measured = rig.measured(&shop, |load| load.open_loop(&profile))?;
            open[index].extend(measured.cpu_us_per_sub_request());
        }
        progress("gateway saturated", round, &saturated);
    }
    let mut rows = compared("gateway, a sub-request, saturated", &saturated);
    rows.extend(compared(&format!("gateway, a sub-request at {GATEWAY_RATE:.0}/s"), &open));
    Ok(rows)
}
