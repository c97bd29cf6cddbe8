//! Load on any server that speaks HTTP or WebSocket: a URL, a rate, and what came of it.
//!
//! ```text
//!   settings, targets ─► rounds (threads ─► connections) ─► Record
//!                          └─ the server's own accounts, beside
//! ```

pub mod answer;
pub mod conn;
pub mod flight;
pub mod http1;
pub mod http2;
pub mod request;
pub mod round;
pub mod search;
pub mod server;
pub mod summary;
pub mod tally;
pub mod tls;
pub mod url;
pub mod websocket;
pub mod wire;
pub mod worker;

use crate::progress::Progress;
use crate::record::{Record, Side};
use conn::Protocol;
use request::Requests;
use round::{Load, Outcome, Pace};
use search::Bound;
use server::{cores_of, place, processes_at};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tally::Expected;
use tls::Trust;
use worker::Job;

/// A server to load.
#[derive(Clone, Debug)]
pub struct Target {
    /// How it is called.
    pub name: String,
    /// What is asked of it.
    pub requests: Requests,
    /// Its process, where it is not found by its port.
    pub pid: Option<u32>,
}

/// What is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Rounds at this pace.
    Rounds(Pace),
    /// Rounds at a share of what it can carry, found out before; how long they are is all that the course says.
    Half(Pace),
    /// The highest rate that keeps a bound.
    Search(Pace, Bound),
}

/// How it is done.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What.
    pub task: Task,
    /// Rounds of each side.
    pub rounds: usize,
    /// Connections.
    pub connections: usize,
    /// Requests at once on an HTTP/2 connection.
    pub streams: usize,
    /// Threads.
    pub threads: usize,
    /// Their cores; those that the server leaves free if not set.
    pub cores: Option<Vec<usize>>,
    /// The cores of this process.
    pub our_cores: Vec<usize>,
    /// How long an answer may take from the intended time.
    pub timeout: Duration,
    /// What counts as an answer.
    pub expected: Expected,
    /// What is spoken.
    pub protocol: Protocol,
    /// Whom TLS trusts.
    pub trust: Trust,
    /// Threads never sleep while requests are to come: exact to a microsecond on a core of one's own, and late on one
    /// that others want.
    pub spin: bool,
}

/// Of what a server carried in a closed loop, so much is its load where no rate was asked for.
const RATE_OF_SATURATION: f64 = 0.6;
/// Seconds that finding this out takes.
const SATURATION_S: f64 = 1.0;
/// Before them, not counted.
const SATURATION_WARM_UP_S: f64 = 0.3;

/// Loads the targets, in turn, and gives what came of it.
///
/// # Errors
/// A sentence with a remedy: a server cannot be reached, or nothing could be measured at all.
pub fn run(settings: &Settings, targets: &[Target], progress: &mut dyn Progress) -> Result<Record, String> {
    let began = Instant::now();
    let loads = loads(settings, targets)?;
    let mut record = Record { title: summary::title(settings, targets), ..Record::default() };
    record.sides = loads
        .iter()
        .map(|load| Side { name: load.name.clone(), rounds: Vec::with_capacity(settings.rounds) })
        .collect();
    let mut outcomes: Vec<Vec<Outcome>> = loads.iter().map(|_| Vec::new()).collect();
    let pace = match &settings.task {
        Task::Rounds(pace) => pace.clone(),
        Task::Half(pace) => {
            let rate = saturation(&loads, began, progress)? * RATE_OF_SATURATION;
            record.notes.push(format!(
                "No --rate was given: {rate:.0}/s is {:.0} % of what {} carried in a second of closed loop.",
                RATE_OF_SATURATION * 100.0,
                if loads.len() > 1 { "the slower side" } else { "the server" }
            ));
            search::at_rate(pace, rate)
        }
        Task::Search(pace, bound) => {
            let load = loads.first().ok_or("there is nothing to search: give a URL")?;
            let (tried, found) = search::run(load, pace, bound, began, progress)?;
            record.rows.extend(search::rows(&tried, bound));
            record.notes.extend(found.notes);
            outcomes[0] = found.outcome.into_iter().collect();
            summary::finish(&mut record, settings, &loads, outcomes);
            return Ok(record);
        }
    };
    'rounds: for number in 1..=settings.rounds {
        // Every other round the other side goes first: what drifts hits both.
        let order: Vec<usize> =
            if number % 2 == 1 { (0..loads.len()).collect() } else { (0..loads.len()).rev().collect() };
        for side in order {
            match round::run(&loads[side], &pace, number, began, progress) {
                Ok(outcome) => {
                    let gone = outcome.gone.is_some();
                    outcomes[side].push(outcome);
                    if gone {
                        break 'rounds;
                    }
                }
                Err(why) if outcomes.iter().any(|rounds| !rounds.is_empty()) => {
                    record.notes.push(format!("{} round {number} did not happen: {why}.", loads[side].name));
                    break 'rounds;
                }
                Err(why) => return Err(why),
            }
        }
    }
    summary::finish(&mut record, settings, &loads, outcomes);
    Ok(record)
}

/// Finds addresses, processes and cores.
fn loads(settings: &Settings, targets: &[Target]) -> Result<Vec<Load>, String> {
    let mut found = Vec::with_capacity(targets.len());
    let mut servers = BTreeSet::new();
    for target in targets {
        let address = target.requests.origin.resolve()?;
        let pids = match target.pid {
            Some(pid) if crate::observe::is_alive(pid) => vec![pid],
            Some(pid) => return Err(format!("--pid {pid}: there is no such process")),
            None => processes_at(address),
        };
        servers.extend(cores_of(&pids, settings.our_cores.len()));
        found.push((target, address, pids));
    }
    let placed = place(settings.threads, &settings.our_cores, &servers, settings.cores.as_deref())?;
    let load = |(target, address, server): (&Target, _, _)| {
        let origin = &target.requests.origin;
        let tls = if origin.scheme.is_secure() {
            let config = tls::config(&settings.trust, settings.protocol.alpn())?;
            Some((config, tls::name(&origin.host)?))
        } else {
            None
        };
        let job = Job {
            address,
            requests: target.requests.clone(),
            tls,
            protocol: settings.protocol.clone(),
            streams: settings.streams,
            timeout_ns: settings.timeout.as_nanos() as u64,
            expected: settings.expected.clone(),
            counted: 0..0,
            is_spinning: settings.spin,
            closed_until: None,
        };
        let (name, placed, connections) = (target.name.clone(), placed.clone(), settings.connections);
        Ok(Load { name, job, connections, placed, server })
    };
    found.into_iter().map(load).collect()
}

/// What the slowest carries in a closed loop, per second.
fn saturation(loads: &[Load], began: Instant, progress: &mut dyn Progress) -> Result<f64, String> {
    let mut slowest = f64::INFINITY;
    for load in loads {
        let pace = search::closed(SATURATION_WARM_UP_S, SATURATION_S);
        let outcome = round::run(load, &pace, 1, began, &mut search::Quiet)?;
        let per_s = outcome.round.per_s();
        progress.on_step(&format!("{}: {per_s:.0}/s in closed loop", load.name));
        if outcome.round.completed == 0 {
            return Err(format!(
                "{} answered nothing as it should: {}",
                load.name,
                summary::failures_text(&outcome.round.failed)
            ));
        }
        slowest = slowest.min(per_s);
    }
    Ok(slowest)
}
