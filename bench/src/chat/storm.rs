//! Everybody at once: all clients connect as fast as they are taken; all lose their connections; the server is killed
//! and comes back. Publications go on meanwhile.
//!
//! Clients come back as the JavaScript SDK does, so half a second at least, and a whole one before the slowest has tried,
//! is theirs and not the server's.

use super::book::{Events, ms, words};
use super::fleet::{Fleet, Plan};
use super::tally::Verdict;
use super::{Folder, Options};
use crate::process::{Server, wait_until_free};
use crate::report::{Row, Target};
use crate::sampler::Sample;
use crate::scenario::Settings;
use crate::schedule::{Schedule, Spread};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// Connections under way at a time in the first storm: well below what a listener's queue holds.
const AT_ONCE: usize = 512;
/// How long a storm may last.
const STORM_MAX: Duration = Duration::from_secs(60);
/// How long what is owed may take after a storm.
const SETTLE_MAX: Duration = Duration::from_secs(3);

/// Runs the three storms.
///
/// # Errors
/// A sentence: the server does not start, or not again; or clients do not come back.
pub fn run(settings: &Settings, options: &Options) -> Result<Vec<Row>, String> {
    let folder = Folder::new(options.asked.directory.as_deref())?;
    let text = options.chat(&folder.log(), None).text();
    let mut server = Some(Server::start_chat(&text, None)?);
    let address = server.as_ref().map(|server| server.address).ok_or("no server")?;
    let pid = server.as_ref().map_or(0, Server::pid);
    let (order, orders) = channel();
    std::thread::scope(|scope| {
        // On a thread of its own, which pins itself; this one starts servers, and they would inherit the pin.
        let load = scope.spawn(move || storms(options.plan(vec![address]), pid, settings, options, &order));
        let mut freed = Duration::ZERO;
        for () in orders {
            drop(server.take());
            freed = wait_until_free(address)?;
            server = Some(Server::start_chat(&text, Some(address))?);
        }
        let mut rows = load.join().map_err(|_| "the load panicked".to_owned())??;
        let note = "ms, in which no server can start; part of the time above";
        rows.push(Row::fact("killed: until its port was free", freed.as_secs_f64() * 1e3, note));
        Ok(rows)
    })
}

fn storms(plan: Plan, pid: u32, settings: &Settings, options: &Options, kill: &Sender<()>) -> Result<Vec<Row>, String> {
    let mut fleet = Fleet::new(plan)?;
    let mut rows = connect_storm(&mut fleet, pid, options)?;
    let calm = |fleet: &mut Fleet| -> Result<(Events, Verdict), String> {
        fleet.load(Schedule::new(Spread::Constant, options.rate, 1), settings.seconds)?;
        if !fleet.settle(SETTLE_MAX)? {
            return Err(format!("before the storm, not everything came: {:?}", fleet.book.tally.verdict()));
        }
        fleet.take_times();
        Ok((fleet.book.events.clone(), fleet.book.tally.verdict()))
    };
    let before = calm(&mut fleet)?;
    fleet.scatter();
    let took = weather(&mut fleet, options.rate)?;
    rows.extend(reconnect_rows("all cut off", took, &mut fleet, &before, options, Target::Most(0.0))?);
    let before = calm(&mut fleet)?;
    kill.send(()).map_err(|_| "nobody kills the server")?;
    // The clients notice; the first is not back before the last has.
    let schedule = Schedule::new(Spread::Constant, options.rate, 1);
    fleet.load_while(schedule, STORM_MAX.as_secs_f64(), Fleet::is_complete)?;
    if fleet.is_complete() {
        return Err("no client noticed that the server was killed".to_owned());
    }
    let took = weather(&mut fleet, options.rate)?;
    // What lives in memory alone does not survive.
    let survives = if options.survives_kills() { Target::Most(0.0) } else { Target::Fact };
    rows.extend(reconnect_rows("killed", took, &mut fleet, &before, options, survives)?);
    Ok(rows)
}

fn connect_storm(fleet: &mut Fleet, pid: u32, options: &Options) -> Result<Vec<Row>, String> {
    let before = Sample::of(pid)?;
    let took = fleet.join(AT_ONCE, STORM_MAX)?;
    let after = Sample::of(pid)?;
    let times = fleet.take_times();
    let events = &fleet.book.events;
    let clients = options.clients as f64;
    let row = |what: &str, value: f64, note: String| Row::fact(format!("connect storm: {what}"), value, note);
    let of = |histogram| ms(histogram, 99.0).unwrap_or(0.0);
    Ok(vec![
        row("until all were subscribed", took, format!("s, {} clients, {AT_ONCE} at a time", options.clients)),
        row(
            "clients per second",
            clients / took,
            format!(
                "{} at the median",
                ms(&times.handshake, 50.0).map_or_else(String::new, |ms| format!("handshake {ms:.2} ms"))
            ),
        ),
        row("handshake p99", of(&times.handshake), "ms, from the first packet".into()),
        row("connect and subscribe p99", of(&times.joining), "ms, from the upgrade".into()),
        row("server's CPU per client", (after.cpu_s - before.cpu_s) * 1e6 / clients, "us, program and kernel".into()),
        row("refused with 503", events.busy as f64, words(&events.failed)),
    ])
}

/// Load goes on until everybody is back; the seconds that took.
fn weather(fleet: &mut Fleet, rate: f64) -> Result<f64, String> {
    let began = std::time::Instant::now();
    let schedule = Schedule::new(Spread::Constant, rate, 1);
    fleet.load_while(schedule, STORM_MAX.as_secs_f64(), |fleet| !fleet.is_complete())?;
    if !fleet.is_complete() {
        return Err(format!("{} clients are back after {STORM_MAX:?}; {:?}", fleet.live(), fleet.book.events));
    }
    Ok(began.elapsed().as_secs_f64())
}

fn reconnect_rows(
    what: &str,
    took: f64,
    fleet: &mut Fleet,
    (events_before, before): &(Events, Verdict),
    options: &Options,
    target: Target,
) -> Result<Vec<Row>, String> {
    fleet.settle(SETTLE_MAX)?;
    let times = fleet.take_times();
    let (events, after) = (&fleet.book.events, fleet.book.tally.verdict());
    let row =
        |name: &str, target, value: f64, note: String| Row::new(format!("{what}: {name}"), target, Some(value), note);
    let unrecovered = events.unrecovered - events_before.unrecovered;
    let recovered = events.recovered - events_before.recovered;
    let caught_up = events.caught_up - events_before.caught_up;
    let failed = events.failed.values().sum::<u64>() - events_before.failed.values().sum::<u64>();
    let rate = format!("while {:.0} publications/s went on, if somebody was there to send them", options.rate);
    Ok(vec![
        row(
            "until all were back",
            Target::Fact,
            took,
            format!("s, {} clients; 0.5 to 1 s is their own", options.clients),
        ),
        row("handshake p99", Target::Fact, ms(&times.handshake, 99.0).unwrap_or(0.0), "ms".into()),
        row(
            "refused with 503",
            Target::Fact,
            (events.busy - events_before.busy) as f64,
            format!("{failed} attempts failed otherwise"),
        ),
        row(
            "subscriptions not recovered",
            target,
            unrecovered as f64,
            format!("{recovered} were, with {caught_up} publications"),
        ),
        row("subscriptions recovered", Target::Least(1.0), recovered as f64, String::new()),
        row("publications that were owed", Target::Least(1.0), (after.owed - before.owed) as f64, rate),
        row("lost", target, after.lost.saturating_sub(before.lost) as f64, String::new()),
        row(
            "duplicated",
            Target::Most(0.0),
            (after.counts.duplicated - before.counts.duplicated) as f64,
            String::new(),
        ),
        row("misplaced", Target::Most(0.0), (after.misplaced() - before.misplaced()) as f64, String::new()),
    ])
}
