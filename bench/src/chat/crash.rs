//! The server is killed at random moments, again and again, while clients publish at a level that survives it. Every
//! acknowledged publication must be in history once, where everybody saw it, for ever; subscribers must recover all of it.

use super::config::Chat;
use super::member::Field;
use super::nodes::Nodes;
use super::trial::{self, Account, CHANNELS, MEMBERS, Reader};
use super::{Asked, Folder, Options};
use crate::compare::median;
use crate::process::{Server, wait_until_free};
use crate::random::Random;
use crate::report::{Row, Target};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The server lives between these, in milliseconds, once its history was read.
const LIFE_MS: (usize, usize) = (20, 600);
/// What a node says while Redis is away.
const NOT_NOW: u64 = 100;

/// Runs it.
///
/// # Errors
/// A sentence: the server does not start again, or does not tell its history.
pub fn run(options: &Options) -> Result<Vec<Row>, String> {
    let folder = Folder::new(options.asked.directory.as_deref())?;
    let log = folder.log();
    let victims = match options.asked.nodes {
        Some(count) => Victims::Nodes(Nodes::start(options, &folder, count, true)?, options.asked.kills_redis),
        None => {
            let text = Chat { keeps_all: true, ..options.chat(&log, None) }.text();
            Victims::One(Some(Server::start_chat(&text, None)?), text)
        }
    };
    let mut field = Field::new(victims.addresses(), options.prefix(), CHANNELS);
    if options.asked.nodes.is_some() {
        field.for_now = vec![NOT_NOW];
    }
    let mut run = Run { victims, random: Random::new(1), lost: 0 };
    let (starts, account) = trial::run(&field, |reader| {
        let mut starts = Vec::new();
        for kill in 1..=options.asked.kills {
            starts.push(run.kill(reader)?);
            if kill % 20 == 0 {
                let counts = field.ledger.lock().map_err(|error| error.to_string())?.counts();
                eprintln!("  {kill} kills, {} acknowledged, {} lost so far", counts.acknowledged, run.lost);
            }
        }
        Ok(starts)
    })?;
    rows(&field, &options.asked, run.lost, account, &starts)
}

/// What is killed.
enum Victims {
    /// A server without others, and its configuration.
    One(Option<Server>, String),
    /// Nodes, or the Redis that they share.
    Nodes(Nodes, bool),
}

impl Victims {
    fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Victims::One(server, _) => server.iter().map(|server| server.address).collect(),
            Victims::Nodes(nodes, _) => nodes.addresses.clone(),
        }
    }

    /// Kills one of them; whom.
    fn kill(&mut self, random: &mut Random) -> Result<usize, String> {
        match self {
            Victims::One(server, _) => {
                drop(server.take());
                Ok(0)
            }
            // It comes back at once: nobody can look for what was promised without it.
            Victims::Nodes(nodes, true) => nodes.redis.kill_and_start().map(|()| 0),
            Victims::Nodes(nodes, false) => {
                let number = random.below(nodes.addresses.len());
                nodes.kill(number);
                Ok(number)
            }
        }
    }

    /// Starts it where it was.
    fn start_again(&mut self, number: usize, addresses: &[SocketAddr]) -> Result<(), String> {
        match self {
            Victims::One(server, text) => {
                wait_until_free(addresses[number])?;
                *server = Some(Server::start_chat(text, Some(addresses[number]))?);
                Ok(())
            }
            Victims::Nodes(_, true) => Ok(()),
            Victims::Nodes(nodes, false) => nodes.start_again(number),
        }
    }
}

struct Run {
    victims: Victims,
    random: Random,
    /// Acknowledged before a kill and not in history after it, summed over kills.
    lost: usize,
}

impl Run {
    /// Lets the server live for a while, kills it, starts it again, and looks for all that was acknowledged. The
    /// milliseconds until it accepted.
    fn kill(&mut self, reader: &mut Reader) -> Result<f64, String> {
        std::thread::sleep(Duration::from_millis((LIFE_MS.0 + self.random.below(LIFE_MS.1 - LIFE_MS.0)) as u64));
        let victim = self.victims.kill(&mut self.random)?;
        // Acknowledged by now is what an answer came for; one under way is in nobody's hands any more.
        let promised = reader.field.ledger.lock().map_err(|error| error.to_string())?.acknowledged();
        let started = Instant::now();
        self.victims.start_again(victim, &reader.field.addresses)?;
        let took = started.elapsed().as_secs_f64() * 1e3;
        reader.read_on()?;
        let ledger = reader.field.ledger.lock().map_err(|error| error.to_string())?;
        let missing = ledger.missing(&promised);
        if let Some(first) = missing.first().filter(|_| missing.len() > self.lost) {
            eprintln!(
                "  missing after a kill: {} publications, the first number {} of channel {}",
                missing.len(),
                first.1,
                first.0
            );
        }
        self.lost = self.lost.max(missing.len());
        Ok(took)
    }
}

fn rows(field: &Field, asked: &Asked, lost: usize, account: Account, starts: &[f64]) -> Result<Vec<Row>, String> {
    let Account { counts, behind } = account;
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let row = |what: &str, target, value: u64, note: String| {
        Row::new(format!("crash: {what}"), target, Some(value as f64), note)
    };
    let none = Target::Most(0.0);
    let some = Target::Least(1.0);
    let disorder = field.disorder.lock().map_err(|error| error.to_string())?.clone();
    let why = field.why.lock().map_err(|error| error.to_string())?.clone();
    let unanswered = counts.published.saturating_sub(counts.acknowledged + of(&field.refused));
    // Where only Redis is killed clients stay, and have nothing to recover.
    let (recovered, stay) = match asked.kills_redis {
        true => (Target::Fact, "clients stay connected".to_owned()),
        false => (some, String::new()),
    };
    let mut rows = vec![
        row("kills", Target::Fact, asked.kills.into(), format!("after {} to {} ms each", LIFE_MS.0, LIFE_MS.1)),
        row(
            "publications acknowledged",
            some,
            counts.acknowledged,
            format!("of {}; {unanswered} without an answer, or told to come again", counts.published),
        ),
        row(
            "of those lost",
            none,
            counts.lost.max(lost as u64),
            "not in history after the next start, or in the end".into(),
        ),
        row("duplicated", none, counts.duplicated, "at two offsets, or twice in history".into()),
        row("moved", none, counts.moved, "seen at an offset or in an epoch that is another's now".into()),
        row("damaged", none, counts.damaged, "other data than was published".into()),
        row("holes", none, counts.holes, "offsets without a publication".into()),
        row("subscriptions recovered", recovered, of(&field.recovered), stay),
        row("subscriptions not recovered", none, of(&field.unrecovered), String::new()),
        row("out of order or after a gap", none, of(&field.disordered), disorder),
        row("subscribers that lack something", none, behind as u64, format!("of {MEMBERS}, in the end")),
        row("requests repeated after a kill", some, of(&field.repeated), "with their idempotency key".into()),
        row("of those answered with another place", none, of(&field.differing), String::new()),
        row("refused", none, of(&field.refused), why),
    ];
    if !asked.kills_redis {
        rows.push(Row::fact("crash: start, median", median(starts), "ms until it accepted, log read"));
    }
    Ok(rows)
}
