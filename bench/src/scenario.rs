//! The scenarios: what is started, loaded and measured, and the rows that come of it.

use crate::compare::{Ratio, median};
use crate::generator::{self, Load, Outcome};
use crate::observe::beside;
use crate::process::{Mode, Server};
use crate::record::{LATENESS_MAX_NS, Record, Round};
use crate::report::{Row, Target};
use crate::sampler::Sample;
use crate::schedule::{Schedule, Spread};
use annulus_protocols::websocket::MessageKind;
use std::io::Write;
use std::time::{Duration, Instant};

/// How much of everything.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Peers to compare with.
    pub peers: Vec<String>,
    /// Sockets; the scenario's own number when none.
    pub sockets: Option<usize>,
    /// Payload bytes; the scenario's own sizes when none.
    pub size: Option<usize>,
    /// Messages per second; found out when none.
    pub rate: Option<f64>,
    /// Seconds per round.
    pub seconds: f64,
    /// Rounds per side.
    pub rounds: usize,
    /// Whether messages arrive at random instead of evenly.
    pub poisson: bool,
}

/// One side's rounds.
#[derive(Default)]
struct Rounds {
    cpu: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    refused: usize,
}

fn named(peer: Option<&str>) -> &str {
    peer.unwrap_or("ours")
}

fn progress(line: &str) {
    eprintln!("  {line}");
}

/// A server with its sockets, loaded once so that its buffers exist.
struct Side {
    server: Server,
    load: Load,
}

impl Side {
    fn start(peer: Option<&str>, mode: Mode, sockets: usize, size: usize) -> Result<Side, String> {
        let failed = |error| format!("{}: {error}", named(peer));
        let server = Server::start(peer, mode).map_err(failed)?;
        let load = Load::open(server.address, sockets, size).map_err(failed)?;
        Ok(Side { server, load })
    }

    /// Runs a load and gives what the server's processor spent on it.
    fn measured(
        &mut self,
        run: impl FnOnce(&mut Load) -> Result<Outcome, String>,
    ) -> Result<(Outcome, f64, u64), String> {
        let before = Sample::of(self.server.pid())?;
        let outcome = run(&mut self.load)?;
        let after = Sample::of(self.server.pid())?;
        Ok((outcome, after.cpu_s - before.cpu_s, after.switches - before.switches))
    }
}

/// The open-loop rate, as a share of the slower side's saturation.
const RATE_OF_SATURATION: f64 = 0.6;
/// The lowest share of that rate which is tried; later even then, it is the machine that is busy, not the generator.
const RATE_SHARE_MIN: f64 = 0.25;

/// Lowers a rate until the generator keeps it on every side: an open loop that is late measures itself. A rate it
/// cannot keep even at a fraction stays as it was, and the latencies are refused.
fn bearable(sides: &mut [(Option<&str>, Side)], wanted: f64, spread: Spread, seconds: f64) -> Result<f64, String> {
    let mut rate = wanted;
    while rate > wanted * RATE_SHARE_MIN {
        let mut late = 0;
        for (_, side) in sides.iter_mut() {
            let outcome = side.load.open_loop(Schedule::new(spread, rate, 1), seconds.min(0.5))?;
            late = late.max(outcome.lateness.value_at_quantile(0.99));
        }
        if late <= LATENESS_MAX_NS / 2 {
            return Ok(rate);
        }
        progress(&format!("{rate:.0}/s is too much for the generator (p99 late by {} us)", late / 1000));
        rate *= 0.7;
    }
    progress("another program shares the generator's core: latencies will be refused");
    Ok(wanted)
}

/// Bytes copied per byte received on our server, from its own counters.
fn copied(server: &Server) -> Option<Row> {
    let received = server.counter("annulus_bytes_received_total")?;
    let copied = server.counter("annulus_bytes_copied_total")?;
    Some(Row::fact("bytes copied per byte received", copied / received.max(1.0), "ours"))
}

/// Echo: processor time per message and latency at a fixed rate.
///
/// # Errors
/// A sentence: a server or a socket failed.
pub fn ws_echo(settings: &Settings) -> Result<Record, String> {
    let sizes = settings.size.map_or_else(|| vec![20, 512], |size| vec![size]);
    let mut record = Record::default();
    for size in sizes {
        if settings.peers.is_empty() {
            echo_of(settings, None, size, &mut record)?;
        }
        for peer in &settings.peers {
            echo_of(settings, Some(peer), size, &mut record)?;
        }
    }
    Ok(record)
}

fn echo_of(settings: &Settings, peer: Option<&str>, size: usize, record: &mut Record) -> Result<(), String> {
    let began = Instant::now();
    let rows = &mut record.rows;
    let sockets = settings.sockets.unwrap_or(200);
    let mut sides = vec![(None, Side::start(None, Mode::Echo, sockets, size)?)];
    if peer.is_some() {
        sides.push((peer, Side::start(peer, Mode::Echo, sockets, size)?));
    }
    let mut saturated = [Vec::new(), Vec::new()];
    let mut per_second = [Vec::new(), Vec::new()];
    for _ in 0..settings.rounds {
        for (index, (_, side)) in sides.iter_mut().enumerate() {
            let (outcome, cpu, _) = side.measured(|load| load.closed_loop(settings.seconds.min(1.0)))?;
            side.load.settle()?;
            saturated[index].push(cpu * 1e6 / outcome.received as f64);
            per_second[index].push(outcome.received as f64 / outcome.seconds);
        }
    }
    for (index, (name, _)) in sides.iter().enumerate() {
        let note = format!("messages/s, {:.2} us CPU each", median(&saturated[index]));
        rows.push(Row::fact(format!("echo {size} B saturation, {}", named(*name)), median(&per_second[index]), note));
    }
    if let Some(peer) = peer {
        let ratio = Ratio::of(&saturated[0], &saturated[1]);
        let note = ratio.map_or_else(String::new, |ratio| format!("rounds {:.2} to {:.2}", ratio.low, ratio.high));
        let name = format!("echo {size} B CPU per message, saturated, ours / {peer}");
        rows.push(Row::new(name, Target::Most(0.9), ratio.map(|ratio| ratio.value), note));
    }
    let slowest =
        per_second.iter().filter(|side| !side.is_empty()).map(|side| median(side)).fold(f64::INFINITY, f64::min);
    let spread = if settings.poisson { Spread::Poisson } else { Spread::Constant };
    let rate = match settings.rate {
        Some(rate) => rate,
        None => bearable(&mut sides, slowest * RATE_OF_SATURATION, spread, settings.seconds)?,
    };
    let mut rounds = [Rounds::default(), Rounds::default()];
    let mut measured_rounds = Vec::new();
    for round in 0..settings.rounds {
        for (index, (name, side)) in sides.iter_mut().enumerate() {
            let schedule = Schedule::new(spread, rate, round as u64 + 1);
            let (at_s, pid) = (began.elapsed().as_secs_f64(), side.server.pid());
            let (measured, watched) =
                beside(&[pid], || side.measured(|load| load.open_loop(schedule, settings.seconds)));
            let (outcome, cpu, switches) = measured?;
            let per_message = cpu * 1e6 / outcome.sent as f64;
            let late = outcome.lateness.value_at_quantile(0.99) as f64 / 1e3;
            let of = &mut rounds[index];
            of.cpu.push(per_message);
            match (outcome.latency_us(50.0), outcome.latency_us(99.0)) {
                (Some(p50), Some(p99)) => {
                    of.p50.push(p50);
                    of.p99.push(p99);
                }
                _ => of.refused += 1,
            }
            measured_rounds
                .push((format!("{}, {size} B", named(*name)), Round { at_s, ..outcome.round(rate, watched.usage) }));
            let p99 = outcome.latency_us(99.0).map_or_else(|| "refused".to_owned(), |p99| format!("{p99:.0} us"));
            progress(&format!(
                "echo {size} B round {} {}: {rate:.0}/s, {per_message:.2} us CPU, p99 {p99}, sent late p99 {late:.0} us, \
                 {switches} switches",
                round + 1,
                named(*name)
            ));
        }
    }
    let side_facts = |rows: &mut Vec<Row>, name: &str, side: &Rounds| {
        let late = if side.refused > 0 { format!(", {} rounds refused", side.refused) } else { String::new() };
        rows.push(Row::fact(format!("echo {size} B CPU per message, {name}"), median(&side.cpu), "us"));
        let (p99, p50) = (median(&side.p99), median(&side.p50));
        let measured = (!side.p99.is_empty()).then_some(p99);
        let note = format!("us, p50 {p50:.0}{late}, at {rate:.0}/s");
        rows.push(Row::new(format!("echo {size} B p99, {name}"), Target::Fact, measured, note));
    };
    side_facts(rows, "ours", &rounds[0]);
    if let Some(peer) = peer {
        side_facts(rows, peer, &rounds[1]);
        let cpu = Ratio::of(&rounds[0].cpu, &rounds[1].cpu);
        let note = cpu.map_or_else(String::new, |cpu| format!("rounds {:.2} to {:.2}", cpu.low, cpu.high));
        let name = format!("echo {size} B CPU per message, open loop, ours / {peer}");
        rows.push(Row::new(name, Target::Most(0.9), cpu.map(|cpu| cpu.value), note));
        let p99 = Ratio::of(&rounds[0].p99, &rounds[1].p99);
        let note = p99.map_or_else(
            || "refused: the generator itself was late".to_owned(),
            |p99| format!("rounds {:.2} to {:.2}", p99.low, p99.high),
        );
        let most = 1.0 + p99.map_or(0.0, |p99| p99.spread().min(0.1));
        let name = format!("echo {size} B p99, ours / {peer}");
        rows.push(Row::new(name, Target::Most(most), p99.map(|p99| p99.value), note));
    }
    rows.extend(copied(&sides[0].1.server));
    measured_rounds.into_iter().for_each(|(name, round)| record.add_round(&name, round));
    Ok(())
}

/// Broadcast: deliveries per second of the server's processor, with every socket sending.
///
/// # Errors
/// A sentence: a server or a socket failed.
pub fn ws_broadcast(settings: &Settings) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    if settings.peers.is_empty() {
        broadcast_of(settings, None, &mut rows)?;
    }
    for peer in &settings.peers {
        broadcast_of(settings, Some(peer), &mut rows)?;
    }
    Ok(rows)
}

fn broadcast_of(settings: &Settings, peer: Option<&str>, rows: &mut Vec<Row>) -> Result<(), String> {
    let (sockets, size) = (settings.sockets.unwrap_or(200), settings.size.unwrap_or(20));
    let mut sides = vec![(None, Side::start(None, Mode::Broadcast, sockets, size)?)];
    if peer.is_some() {
        sides.push((peer, Side::start(peer, Mode::Broadcast, sockets, size)?));
    }
    let mut rounds = [Vec::new(), Vec::new()];
    let mut wall = [Vec::new(), Vec::new()];
    for round in 0..settings.rounds {
        for (index, (name, side)) in sides.iter_mut().enumerate() {
            let (outcome, cpu, switches) = side.measured(|load| load.closed_loop(settings.seconds))?;
            side.load.settle()?;
            let per_cpu_second = outcome.received as f64 / cpu.max(0.01);
            let per_second = outcome.received as f64 / outcome.seconds;
            rounds[index].push(per_cpu_second);
            wall[index].push(per_second);
            progress(&format!(
                "broadcast round {} {}: {per_second:.0} deliveries/s, {per_cpu_second:.0} per CPU second, CPU {:.0} %, \
                 {switches} switches",
                round + 1,
                named(*name),
                cpu * 100.0 / outcome.seconds
            ));
        }
    }
    for (index, (name, _)) in sides.iter().enumerate() {
        let note = format!("{:.0} per second", median(&wall[index]));
        let row = format!("broadcast deliveries per CPU second, {}", named(*name));
        rows.push(Row::fact(row, median(&rounds[index]), note));
    }
    if let Some(peer) = peer {
        let ratio = Ratio::of(&rounds[0], &rounds[1]);
        let note = ratio.map_or_else(String::new, |ratio| format!("rounds {:.2} to {:.2}", ratio.low, ratio.high));
        let name = format!("broadcast deliveries per CPU second, ours / {peer}");
        rows.push(Row::new(name, Target::Least(3.0), ratio.map(|ratio| ratio.value), note));
    }
    rows.extend(copied(&sides[0].1.server));
    Ok(())
}

/// Sockets opened before the baseline, so that what a server allocates once is not charged to connections.
const WARM_UP: usize = 500;

/// Idle connections: growth of the server's memory per connection.
///
/// # Errors
/// A sentence: a server or a socket failed.
pub fn ws_idle(settings: &Settings, chat: bool) -> Result<Vec<Row>, String> {
    let count = settings.sockets.unwrap_or(16_000);
    let mode = if chat { Mode::Chat } else { Mode::Echo };
    let server = Server::start(None, mode)?;
    let mut held = Vec::with_capacity(count + WARM_UP);
    let mut grow = |from: usize, to: usize| -> Result<(), String> {
        for index in from..to {
            held.push(if chat { chat_client(&server, index)? } else { generator::open(server.address, "/", index)? });
            if index % 4000 == 3999 {
                progress(&format!("{} sockets", index + 1));
            }
            if chat && index % 500 == 499 {
                answer_pings(&mut held)?;
            }
        }
        std::thread::sleep(Duration::from_millis(if count > 1000 { 3000 } else { 300 }));
        if chat { answer_pings(&mut held) } else { Ok(()) }
    };
    grow(0, WARM_UP)?;
    let before = Sample::of(server.pid())?;
    grow(WARM_UP, WARM_UP + count)?;
    let after = Sample::of(server.pid())?;
    // The metrics request is itself one connection.
    let alive = server.counter("annulus_connections").unwrap_or(0.0);
    if (alive as usize) < count + WARM_UP {
        return Err(format!("only {alive} of {} connections are still open", count + WARM_UP));
    }
    let each = |after: u64, before: u64| (after as f64 - before as f64) / count as f64;
    let (name, most) = if chat { ("chat", 512.0) } else { ("echo", 400.0) };
    let note = format!("PSS growth over {count}, {} kB before", before.pss / 1024);
    let mut rows = vec![
        Row::new(
            format!("idle {name} bytes per connection"),
            Target::Most(most),
            Some(each(after.pss, before.pss)),
            note,
        ),
        Row::fact(format!("idle {name} RSS bytes per connection"), each(after.rss, before.rss), ""),
        Row::fact(
            format!("idle {name} kernel slab bytes per connection"),
            each(after.slab, before.slab),
            "both ends, whole machine",
        ),
    ];
    rows.extend(copied(&server));
    Ok(rows)
}

/// A chat client, connected and subscribed to a channel that sixteen share.
fn chat_client(server: &Server, index: usize) -> Result<std::net::TcpStream, String> {
    use std::io::Read;
    let mut stream = generator::open(server.address, "/connection/websocket", index)?;
    let connect = generator::frame(MessageKind::Text, br#"{"id":1,"connect":{}}"#);
    let channel = format!(r#"{{"id":2,"subscribe":{{"channel":"room:{}"}}}}"#, index / 16);
    let subscribe = generator::frame(MessageKind::Text, channel.as_bytes());
    let (mut seen, mut part) = (Vec::new(), [0; 2048]);
    for (request, answer) in [(connect, &b"\"id\":1"[..]), (subscribe, &b"\"id\":2"[..])] {
        stream.write_all(&request).map_err(|error| format!("client {index}: {error}"))?;
        seen.clear();
        while !seen.windows(answer.len()).any(|window| window == answer) {
            match stream.read(&mut part).map_err(|error| format!("client {index}: {error}"))? {
                0 => return Err(format!("client {index}: the server closed")),
                count => seen.extend_from_slice(&part[..count]),
            }
        }
        if seen.windows(7).any(|window| window == b"\"error\"") {
            return Err(format!("client {index}: {}", String::from_utf8_lossy(&seen)));
        }
    }
    Ok(stream)
}

/// Answers the server's pings, so that no client is cut off while others are still opened on a slow machine.
fn answer_pings(clients: &mut [std::net::TcpStream]) -> Result<(), String> {
    use std::io::{ErrorKind, Read};
    let pong = generator::frame(MessageKind::Text, b"{}");
    let mut part = [0; 2048];
    for (index, stream) in clients.iter_mut().enumerate() {
        let failed = |error: std::io::Error| format!("client {index}: {error}");
        stream.set_nonblocking(true).map_err(failed)?;
        match stream.read(&mut part) {
            Ok(0) => return Err(format!("client {index}: the server closed")),
            Ok(count) if part[..count].windows(2).any(|window| window == b"{}") => {
                stream.write_all(&pong).map_err(failed)?;
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}
