//! One large room beside a peer that only broadcasts: deliveries per second of the server's processor.
//!
//! What each does for a message:
//!
//! ```text
//!   ours   parses JSON, numbers, keeps in history, writes channel, offset and publisher, answers the publisher
//!   peer   passes the publisher's message on as it came
//! ```
//!
//! Both gather what is queued for a connection. Saturated, some of the clients keep one message under way each; in open
//! loop both get the same rate.

use super::book::ms;
use super::client::Speech;
use super::config::Chat;
use super::deliver::{Loaded, load};
use super::fleet::{Fleet, Plan};
use super::{Folder, Options};
use crate::compare::{Ratio, median};
use crate::process::{Mode, Server};
use crate::report::{Row, Target};
use crate::sampler::Sample;
use crate::scenario::Settings;
use std::time::Duration;

/// The peer where the command line names none.
const PEER: &str = "tokio-tungstenite";
/// Clients that publish when saturated: a tenth of the room.
const PUBLISHER_SHARE: usize = 10;
/// The open-loop rate, as a share of the slower side's saturation: there, nothing is queued that could be gathered, and a
/// delivery costs about twice as much.
const RATE_OF_SATURATION: f64 = 0.3;
/// The least ratio.
const RATIO_LEAST: f64 = 3.0;
const AT_ONCE: usize = 64;
const JOIN_MAX: Duration = Duration::from_secs(30);
const SETTLE_MAX: Duration = Duration::from_secs(10);

struct Side {
    name: String,
    server: Server,
    fleet: Fleet,
    /// Deliveries per second of processor time, and of the clock, saturated.
    per_cpu: Vec<f64>,
    per_second: Vec<f64>,
    open: Vec<Loaded>,
}

impl Side {
    fn start(peer: Option<&str>, options: &Options, folder: &Folder) -> Result<Side, String> {
        let name = peer.unwrap_or("ours").to_owned();
        let failed = |error| format!("{name}: {error}");
        let server = match peer {
            None => {
                let log = folder.log();
                let chat = Chat { pings_nobody: true, ..options.chat(&log, None) };
                Server::start_chat(&chat.text(), None)
            }
            Some(_) => Server::start(peer, Mode::Broadcast),
        };
        let server = server.map_err(failed)?;
        let speech = if peer.is_none() { Speech::Centrifuge { recoverable: false } } else { Speech::Raw };
        let mut fleet = Fleet::new(Plan { speech, room_size: options.clients, ..options.plan(vec![server.address]) })?;
        fleet.join(AT_ONCE, JOIN_MAX).map_err(failed)?;
        Ok(Side { name, server, fleet, per_cpu: Vec::new(), per_second: Vec::new(), open: Vec::new() })
    }

    fn saturate(&mut self, publishers: usize, seconds: f64) -> Result<(), String> {
        let before = (Sample::of(self.server.pid())?, self.fleet.book.tally.counts().delivered);
        let took = self.fleet.saturate(publishers, seconds)?;
        let after = (Sample::of(self.server.pid())?, self.fleet.book.tally.counts().delivered);
        self.settle()?;
        let (cpu, delivered) = (after.0.cpu_s - before.0.cpu_s, (after.1 - before.1) as f64);
        eprintln!(
            "  saturated, {}: {:.0} deliveries/s, {:.0} per CPU second, CPU {:.0} %",
            self.name,
            delivered / took,
            delivered / cpu,
            cpu * 100.0 / took
        );
        self.per_cpu.push(delivered / cpu.max(1e-3));
        self.per_second.push(delivered / took);
        Ok(())
    }

    fn settle(&mut self) -> Result<(), String> {
        match self.fleet.settle(SETTLE_MAX)? {
            true => Ok(()),
            false => Err(format!("{}: {:?}", self.name, self.fleet.book.tally.verdict())),
        }
    }

    fn open(&mut self, settings: &Settings, rate: f64) -> Result<(), String> {
        self.fleet.take_times();
        let loaded = load(&mut self.fleet, self.server.pid(), settings, rate, settings.seconds)?;
        eprintln!("  {rate:.0}/s, {}: {:.0} deliveries per CPU second", self.name, per_cpu(&loaded));
        self.open.push(loaded);
        Ok(())
    }

    fn open_per_cpu(&self) -> Vec<f64> {
        self.open.iter().map(per_cpu).collect()
    }
}

fn per_cpu(loaded: &Loaded) -> f64 {
    loaded.delivered as f64 / (loaded.samples.1.cpu_s - loaded.samples.0.cpu_s).max(1e-3)
}

/// Runs both sides, in turn.
///
/// # Errors
/// A sentence: a side could not be started, or lost a message.
pub fn run(settings: &Settings, options: &Options) -> Result<Vec<Row>, String> {
    let peer = settings.peers.first().map_or(PEER, String::as_str);
    let folder = Folder::new(options.asked.directory.as_deref())?;
    let mut sides = [Side::start(None, options, &folder)?, Side::start(Some(peer), options, &folder)?];
    let publishers = (options.clients / PUBLISHER_SHARE).max(1);
    for round in 0..=settings.rounds {
        for side in &mut sides {
            side.saturate(publishers, settings.seconds)?;
            // The first round makes the buffers.
            if round == 0 {
                side.per_cpu.clear();
                side.per_second.clear();
            }
        }
    }
    let slower = sides.iter().map(|side| median(&side.per_second)).fold(f64::INFINITY, f64::min);
    let rate = settings.rate.unwrap_or(slower / options.clients as f64 * RATE_OF_SATURATION);
    for _ in 0..settings.rounds {
        sides.iter_mut().try_for_each(|side| side.open(settings, rate))?;
    }
    let mut rows = Vec::new();
    let name = |what: &str| format!("room of {}: {what}", options.clients);
    for side in &sides {
        let (book, per_second) = (&side.fleet.book, median(&side.per_second));
        let bytes = book.bytes as f64 / book.tally.counts().delivered as f64;
        let note = format!("{per_second:.0} per second, {publishers} publishers, {bytes:.0} bytes each");
        rows.push(Row::fact(name(&format!("deliveries per CPU second, {}", side.name)), median(&side.per_cpu), note));
    }
    let [ours, theirs] = &sides;
    let ratio = |what: &str, target, pair: Option<Ratio>| {
        let note = pair.map_or_else(String::new, |ratio| format!("rounds {:.2} to {:.2}", ratio.low, ratio.high));
        Row::new(name(&format!("{what}, ours / {peer}")), target, pair.map(|ratio| ratio.value), note)
    };
    let saturated = Ratio::of(&ours.per_cpu, &theirs.per_cpu);
    rows.push(ratio("deliveries per CPU second", Target::Least(RATIO_LEAST), saturated));
    for side in &sides {
        let honest = side.open.iter().filter(|loaded| loaded.times.is_honest());
        let p99: Vec<f64> = honest.filter_map(|loaded| ms(&loaded.times.delivery, 99.0)).collect();
        let p99 = if p99.is_empty() { "refused".to_owned() } else { format!("{:.2} ms", median(&p99)) };
        let note = format!("{rate:.0} publications/s, delivery p99 {p99}");
        let what = format!("deliveries per CPU second in open loop, {}", side.name);
        rows.push(Row::fact(name(&what), median(&side.open_per_cpu()), note));
    }
    let open = Ratio::of(&ours.open_per_cpu(), &theirs.open_per_cpu());
    rows.push(ratio("the same in open loop", Target::Fact, open));
    for side in &sides {
        let (verdict, events) = (side.fleet.book.tally.verdict(), &side.fleet.book.events);
        let unanswered = verdict.refused + verdict.unanswered() + verdict.abandoned + events.unsent;
        let wrong = verdict.lost + verdict.counts.duplicated + verdict.misplaced() + unanswered;
        let note = format!("of {} deliveries", verdict.owed);
        rows.push(Row::new(
            name(&format!("lost, twice, misplaced or not answered, {}", side.name)),
            Target::Most(0.0),
            Some(wrong as f64),
            note,
        ));
    }
    Ok(rows)
}
