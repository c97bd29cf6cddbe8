//! The server is killed at random moments, again and again, while clients publish at a level that survives it. Every
//! acknowledged publication must be in history once, where everybody saw it, for ever; subscribers must recover all of it.

use super::config::Chat;
use super::ledger::Ledger;
use super::member::{Field, Member, backend, size};
use super::nodes::Nodes;
use super::talk::{PAGE, Seen, Talk};
use super::wire::{self, CONNECT_ID, Credentials, Position};
use super::{Asked, Folder, Options};
use crate::compare::median;
use crate::process::{Server, wait_until_free};
use crate::random::Random;
use crate::report::{Row, Target};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Channels.
const CHANNELS: usize = 8;
/// Clients over WebSocket: two in each channel.
const MEMBERS: usize = 16;
/// Publishers over HTTP.
const BACKENDS: usize = 2;
/// The server lives between these, in milliseconds, once its history was read.
const LIFE_MS: (usize, usize) = (20, 600);
/// How long members have in the end to come back and to hear everything.
const QUIET: Duration = Duration::from_secs(2);
/// How long nodes may take to find again what they share.
const HEAL_MAX: Duration = Duration::from_secs(30);
/// Of commands for history; below are those of joining.
const HISTORY_ID: u32 = 100;

/// Where history has been read to, by channel.
type Read = Vec<Position>;

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
    let field = field(victims.addresses(), options);
    let mut run =
        Run { field: &field, victims, read: vec![Position::default(); CHANNELS], random: Random::new(1), lost: 0 };
    let mut starts = Vec::new();
    let tops = std::thread::scope(|scope| {
        let members: Vec<_> = (0..MEMBERS)
            .map(|index| {
                scope.spawn({
                    let field = &field;
                    move || Member::new(field, index).live()
                })
            })
            .collect();
        for index in 0..BACKENDS {
            let field = &field;
            scope.spawn(move || backend(field, MEMBERS + index));
        }
        let killed = (1..=options.asked.kills).try_for_each(|kill| {
            starts.push(run.kill()?);
            if kill % 20 == 0 {
                let counts = field.ledger.lock().map_err(|error| error.to_string())?.counts();
                eprintln!("  {kill} kills, {} acknowledged, {} lost so far", counts.acknowledged, run.lost);
            }
            Ok(())
        });
        let ended = killed.and_then(|()| run.end());
        field.stop.store(true, Ordering::Relaxed);
        let tops = members.into_iter().map(|member| member.join().map_err(|_| "a member panicked".to_owned()));
        let tops = tops.collect::<Result<Vec<_>, _>>();
        ended.and(tops)
    })?;
    let behind = tops.iter().filter(|(channel, offset)| *offset != run.read[*channel].offset).count();
    rows(&field, &options.asked, run.lost, behind, &starts)
}

fn field(addresses: Vec<SocketAddr>, options: &Options) -> Field {
    Field {
        addresses,
        is_shared: options.asked.nodes.is_some(),
        prefix: options.prefix(),
        channels: CHANNELS,
        ledger: Mutex::new(Ledger::new(CHANNELS)),
        quiet: AtomicBool::new(false),
        stop: AtomicBool::new(false),
        recovered: AtomicU64::new(0),
        unrecovered: AtomicU64::new(0),
        disordered: AtomicU64::new(0),
        repeated: AtomicU64::new(0),
        differing: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        why: Mutex::new(String::new()),
        disorder: Mutex::new(String::new()),
    }
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

struct Run<'a> {
    field: &'a Field,
    victims: Victims,
    read: Read,
    random: Random,
    /// Acknowledged before a kill and not in history after it, summed over kills.
    lost: usize,
}

impl Run<'_> {
    /// Lets the server live for a while, kills it, starts it again, and looks for all that was acknowledged. The
    /// milliseconds until it accepted.
    fn kill(&mut self) -> Result<f64, String> {
        std::thread::sleep(Duration::from_millis((LIFE_MS.0 + self.random.below(LIFE_MS.1 - LIFE_MS.0)) as u64));
        let victim = self.victims.kill(&mut self.random)?;
        // Acknowledged by now is what an answer came for; one under way is in nobody's hands any more.
        let promised = self.field.ledger.lock().map_err(|error| error.to_string())?.acknowledged();
        let started = Instant::now();
        self.victims.start_again(victim, &self.field.addresses)?;
        let took = started.elapsed().as_secs_f64() * 1e3;
        self.read_on()?;
        let ledger = self.field.ledger.lock().map_err(|error| error.to_string())?;
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

    /// Reads what history has beyond what was read before.
    fn read_on(&mut self) -> Result<(), String> {
        let mut talk = Talk::open(self.field.addresses[0], MEMBERS)?;
        talk.say(&wire::join(Credentials::Claim("reader"), &[], false))?;
        talk.reply(CONNECT_ID)?;
        for channel in 0..CHANNELS {
            let (name, asked) = (self.field.channel(channel), Instant::now());
            loop {
                // With the epoch, a server whose stream lives anew would refuse; what it has then is looked at.
                let since = Position { epoch: String::new(), offset: self.read[channel].offset };
                talk.say(&wire::history(HISTORY_ID, &name, &since, PAGE))?;
                let reply = talk.reply_or_error(HISTORY_ID)?;
                if self.field.is_for_now(&reply["error"]) && asked.elapsed() < HEAL_MAX {
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
                if let Some(error) = reply.get("error") {
                    return Err(format!("history of {name}: {error}"));
                }
                let page = &reply["history"];
                let epoch = page["epoch"].as_str().unwrap_or_default().to_owned();
                let publications = page["publications"].as_array().map(Vec::as_slice).unwrap_or_default();
                let mut ledger = self.field.ledger.lock().map_err(|error| error.to_string())?;
                for publication in publications {
                    let seen = Seen::read(publication, size)?;
                    self.read[channel].offset = seen.offset;
                    ledger.in_history(channel, &epoch, &seen);
                }
                if publications.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Nothing new is published; members come to the end, and all of history is read once more from the start.
    fn end(&mut self) -> Result<(), String> {
        self.field.quiet.store(true, Ordering::Relaxed);
        // The last bursts end, and whoever was cut off by the last kill comes back.
        std::thread::sleep(QUIET);
        self.read = vec![Position::default(); CHANNELS];
        {
            let mut ledger = self.field.ledger.lock().map_err(|error| error.to_string())?;
            (0..CHANNELS).for_each(|channel| ledger.begin_history(channel));
        }
        self.read_on()
    }
}

fn rows(field: &Field, asked: &Asked, lost: usize, behind: usize, starts: &[f64]) -> Result<Vec<Row>, String> {
    let counts = field.ledger.lock().map_err(|error| error.to_string())?.counts();
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
