//! Variants of stored originals over HTTP: what one costs that has to be made, beside a server with the peer's library, and
//! what one costs that is kept.
//!
//! Each round asks for sizes that nobody asked for before, so that nothing is found. The peer keeps nothing, checks no
//! signature and has no limit; its file system's cache is as warm as ours.

use super::photos;
use super::server::{Server, ended, get, upload};
use crate::compare::{Ratio, median};
use crate::ground::Ground;
use crate::janitor;
use crate::process::{self, Role};
use crate::report::{Row, Target};
use crate::sampler::Sample;
use crate::scenario::Settings;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Who asks at once: as many as a small machine has cores.
const CLIENTS: usize = 2;
/// Variants of a round.
const VARIANTS: u32 = 16;
/// The smallest side, and how much larger the next one is.
const SIDE: u32 = 240;
const STEP: u32 = 3;
/// Times that each kept variant is asked for.
const KEPT_TIMES: usize = 20;
const KEY: &str = "bench-key-of-at-least-32-characters";
const START_MAX: Duration = Duration::from_secs(20);

/// A server with the peer's library.
struct Peer {
    child: Child,
    address: SocketAddr,
}

impl Peer {
    fn start(name: &str, folder: &Path) -> Result<Peer, String> {
        let program = process::ready(name, Role::Image)?;
        let address = process::free_address()?;
        let mut command = Command::new(&program);
        command.args(["--serve", "--port", &address.port().to_string(), "--folder"]).arg(folder);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child =
            janitor::spawn(&mut command).map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let mut peer = Peer { child, address };
        let started = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            if peer.child.try_wait().is_ok_and(|status| status.is_some()) || started.elapsed() > START_MAX {
                return Err(format!("{name} serves no images"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// What a round gave.
struct Round {
    cpu_ms: f64,
    waited_ms: f64,
    answers_per_s: f64,
    bytes: f64,
}

/// Asks for all paths, some at once.
fn ask(address: SocketAddr, pid: u32, paths: &[String]) -> Result<Round, String> {
    let (next, before, started) = (AtomicUsize::new(0), Sample::of_tree(pid)?, Instant::now());
    let client = || {
        let mut seen = Vec::new();
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            let answer = get(address, path, &[])?;
            if answer.status != 200 || !answer.body.starts_with(&[0xFF, 0xD8]) {
                return Err(format!("{path}: status {}, {} bytes", answer.status, answer.body.len()));
            }
            seen.push((answer.waited.as_secs_f64() * 1e3, answer.body.len() as f64));
        }
        Ok(seen)
    };
    let seen = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let joined =
            clients.into_iter().map(|client| client.join().unwrap_or_else(|_| Err("a client panicked".into())));
        joined.collect::<Result<Vec<_>, String>>()
    })?;
    let took = started.elapsed().as_secs_f64();
    let spent = Sample::of_tree(pid)?.cpu_s - before.cpu_s;
    let (waited, bytes): (Vec<f64>, Vec<f64>) = seen.into_iter().flatten().unzip();
    let count = paths.len() as f64;
    Ok(Round {
        cpu_ms: spent * 1e3 / count,
        waited_ms: median(&waited),
        answers_per_s: count / took,
        bytes: median(&bytes),
    })
}

fn signed(config: &Path, original: &str, side: u32) -> Result<String, String> {
    let mut command = Command::new(process::our_program()?);
    command
        .args(["image", "sign", "--config"])
        .arg(config)
        .args([original, &format!("rs:fit:{side}:{side}/q:80/f:jpeg")]);
    let output = command.output().map_err(|error| format!("cannot sign: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(format!("cannot sign: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// Variants that are made, ours and a peer's by turns, and ours that are kept.
///
/// # Errors
/// A sentence: a server could not be started, or is gone.
pub fn variants(settings: &Settings) -> Result<Vec<Row>, String> {
    let ground = Ground::new("image")?;
    let photo = photos::all(&ground.folder)?.into_iter().find(|photo| !photo.progressive).ok_or("no baseline photo")?;
    let wrong = |error: std::io::Error| format!("{}: {error}", photo.path.display());
    let bytes = std::fs::read(&photo.path).map_err(wrong)?;
    let originals = ground.folder.join("originals");
    std::fs::create_dir_all(&originals).map_err(wrong)?;
    std::fs::write(originals.join("photo.jpg"), &bytes).map_err(wrong)?;
    let ours = Server::start(&ground.folder.join("data"), &format!("[image.variants]\nkeys = [\"{KEY}\"]\n"))?;
    let config = ground.folder.join("data.toml");
    let uploaded = upload(ours.address, "thumbnail", &bytes)?.document();
    let job = uploaded["id"].as_str().ok_or_else(|| format!("the upload was refused: {uploaded}"))?;
    let document = ended(ours.address, job, Duration::from_secs(60))?;
    let original = document["source"]["key"].as_str().ok_or("the job names no original")?;
    let peers = settings.peers.iter().map(|name| Ok((name, Peer::start(name, &originals)?)));
    let peers = peers.collect::<Result<Vec<_>, String>>()?;

    let (mut made, mut kept) = (Vec::new(), Vec::new());
    let mut theirs: Vec<Vec<Round>> = peers.iter().map(|_| Vec::new()).collect();
    // The first round warms both up: workers, file caches, compiled code.
    for round in 0..=settings.rounds as u32 {
        let sides: Vec<u32> = (0..VARIANTS).map(|at| SIDE + (round * VARIANTS + at) * STEP).collect();
        let paths = sides.iter().map(|side| signed(&config, original, *side)).collect::<Result<Vec<_>, _>>()?;
        let new = ask(ours.address, ours.pid(), &paths)?;
        let again: Vec<String> = (0..KEPT_TIMES).flat_map(|_| paths.iter().cloned()).collect();
        let old = ask(ours.address, ours.pid(), &again)?;
        for ((_, peer), theirs) in peers.iter().zip(&mut theirs) {
            let paths: Vec<String> = sides.iter().map(|side| format!("/photo.jpg?w={side}")).collect();
            let round_of_theirs = ask(peer.address, peer.child.id(), &paths)?;
            if round > 0 {
                theirs.push(round_of_theirs);
            }
        }
        if round > 0 {
            made.push(new);
            kept.push(old);
        }
    }
    let mut rows = side_rows("made, ours", &made, &photo.note());
    for ((name, _), theirs) in peers.iter().zip(&theirs) {
        rows.extend(side_rows(&format!("made, {name}"), theirs, ""));
        let cpu = |rounds: &[Round]| rounds.iter().map(|round| round.cpu_ms).collect::<Vec<f64>>();
        let ratio = Ratio::of(&cpu(&made), &cpu(theirs));
        let note = ratio.map_or_else(String::new, |ratio| format!("rounds {:.2} to {:.2}", ratio.low, ratio.high));
        let name = format!("made: CPU per answer, ours / {name}");
        rows.push(Row::new(name, Target::Most(1.0), ratio.map(|ratio| ratio.value), note));
    }
    rows.extend(side_rows("kept, ours", &kept, "a connection each"));
    Ok(rows)
}

fn side_rows(name: &str, rounds: &[Round], note: &str) -> Vec<Row> {
    let of = |value: fn(&Round) -> f64| median(&rounds.iter().map(value).collect::<Vec<f64>>());
    vec![
        Row::fact(format!("{name}: CPU per answer"), of(|round| round.cpu_ms), format!("ms; {note}")),
        Row::fact(format!("{name}: answers"), of(|round| round.answers_per_s), format!("/s, {CLIENTS} at once")),
        Row::fact(format!("{name}: time to first byte, p50"), of(|round| round.waited_ms), "ms".to_owned()),
        Row::fact(format!("{name}: bytes of an answer"), of(|round| round.bytes), String::new()),
    ]
}
