//! Several nodes of the image service on one Redis and one S3 server, all on this machine: what a node adds, what a job costs
//! the processor and Redis, and what a node that is killed costs.

use super::photos;
use super::server::{Server, check_outputs, ended, marked, upload};
use super::trial::{OUTPUTS, Uploads};
use crate::ground::Ground;
use crate::process::redis::Redis;
use crate::process::store::Store;
use crate::random::Random;
use crate::report::{Row, Target};
use crate::sampler::Sample;
use crate::scenario::Settings;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Uploads that wait for their end at once, for each node.
const AT_ONCE: usize = 4;
/// A node lives between these before one is killed, in milliseconds.
const LIFE_MS: (usize, usize) = (20, 600);
/// The pause after an upload that was not taken: nothing was promised then.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);
/// How long all that was promised may take in the end.
const END_MAX: Duration = Duration::from_secs(180);

/// Redis and an S3 server, ended when dropped.
struct Backing {
    redis: Redis,
    store: Store,
}

impl Backing {
    /// # Errors
    /// A sentence: a program is not installed, or does not start.
    fn start(folder: &Path) -> Result<Backing, String> {
        Ok(Backing { redis: Redis::start(&folder.join("redis"))?, store: Store::start(&folder.join("store"))? })
    }

    /// Lines for the section `[image]`, and the store's own.
    fn settings(&self, more: &str) -> String {
        format!("redis = \"{}\"\n{more}{}", self.redis.url(), self.store.settings())
    }
}

/// What was measured of so many nodes.
struct Measured {
    nodes: usize,
    jobs_per_s: f64,
    cpu_ms: f64,
    redis_cpu_ms: f64,
    scripts: f64,
    commands: f64,
    lost: Vec<String>,
}

/// From one node to `nodes`, each with one worker: jobs a second, and what a job costs.
///
/// # Errors
/// A sentence: something could not be started, or is gone.
pub fn scaling(settings: &Settings, nodes: usize) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    let mut alone = None;
    for count in 1..=nodes.max(1) {
        let measured = measure(settings, count)?;
        eprintln!("  {count} nodes: {:.2} jobs/s", measured.jobs_per_s);
        let alone = *alone.get_or_insert(measured.jobs_per_s);
        let row = |what: &str, target, value: f64, note: &str| {
            let plural = if measured.nodes == 1 { "" } else { "s" };
            Row::new(format!("{} node{plural}: {what}", measured.nodes), target, Some(value), note.to_owned())
        };
        let lost = measured.lost.first().cloned().unwrap_or_default();
        rows.extend([
            row(
                "jobs per second",
                Target::Fact,
                measured.jobs_per_s,
                "one worker each, three outputs; this machine's cores are shared",
            ),
            row("of one node's", Target::Fact, measured.jobs_per_s / alone.max(1e-9), "times"),
            row("CPU per job, all nodes", Target::Fact, measured.cpu_ms, "ms"),
            row("Redis' CPU per job", Target::Fact, measured.redis_cpu_ms, "ms; appendfsync always"),
            row("calls of Redis per job", Target::Fact, measured.scripts, "scripts, those of quiet seconds included"),
            row("Redis commands per job", Target::Fact, measured.commands, "those inside scripts included"),
            row("jobs lost or in part", Target::Most(0.0), measured.lost.len() as f64, &lost),
        ]);
    }
    Ok(rows)
}

fn measure(settings: &Settings, count: usize) -> Result<Measured, String> {
    let ground = Ground::new("image")?;
    let backing = Backing::start(&ground.folder.join(format!("backing-{count}")))?;
    let nodes = (0..count)
        .map(|number| {
            Server::start(&ground.folder.join(format!("node-{count}-{number}")), &backing.settings("workers = 1\n"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let photo = photos::all(&ground.folder)?.into_iter().find(|photo| !photo.progressive).ok_or("no baseline photo")?;
    let bytes = std::fs::read(&photo.path).map_err(|error| format!("cannot read {}: {error}", photo.path.display()))?;
    let cpu = |nodes: &[Server]| -> Result<f64, String> {
        nodes.iter().map(|node| Ok(Sample::of_tree(node.pid())?.cpu_s)).sum()
    };
    let numbers = AtomicU64::new(0);
    let (done, lost) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let (cpu_before, redis_before) = (cpu(&nodes)?, Sample::of_tree(backing.redis.pid())?.cpu_s);
    let (scripts_before, commands_before) = backing.redis.commands()?;
    let started = Instant::now();
    let until = started + Duration::from_secs_f64(settings.seconds.max(2.0));
    std::thread::scope(|scope| {
        for client in 0..AT_ONCE * count {
            // Posted to one node, asked of the next.
            let (to, of) = (nodes[client % count].address, nodes[(client + 1) % count].address);
            let (numbers, done, lost, bytes) = (&numbers, &done, &lost, &bytes);
            scope.spawn(move || {
                while Instant::now() < until {
                    let image = marked(bytes, numbers.fetch_add(1, Ordering::Relaxed));
                    match one(to, of, &image) {
                        Ok(true) => {
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(false) => std::thread::sleep(REFUSED_PAUSE),
                        Err(why) => lost.lock().expect("nobody panics with it").push(why),
                    }
                }
            });
        }
    });
    let took = started.elapsed().as_secs_f64();
    let jobs = (done.load(Ordering::Relaxed) as f64).max(1.0);
    let (scripts, commands) = backing.redis.commands()?;
    Ok(Measured {
        nodes: count,
        jobs_per_s: jobs / took,
        cpu_ms: (cpu(&nodes)? - cpu_before) * 1e3 / jobs,
        redis_cpu_ms: (Sample::of_tree(backing.redis.pid())?.cpu_s - redis_before) * 1e3 / jobs,
        scripts: (scripts - scripts_before) / jobs,
        commands: (commands - commands_before) / jobs,
        lost: lost.into_inner().map_err(|error| error.to_string())?,
    })
}

/// A job from its upload to the last byte of its outputs. Whether the upload was taken.
fn one(to: SocketAddr, of: SocketAddr, image: &[u8]) -> Result<bool, String> {
    let answer = upload(to, "web", image)?;
    if matches!(answer.status, 429 | 503) {
        return Ok(false);
    }
    let document = answer.document();
    let id = document["id"].as_str().ok_or_else(|| format!("status {} without a job", answer.status))?;
    let document = ended(of, id, END_MAX)?;
    match (document["state"].as_str(), check_outputs(of, &document)?) {
        (Some("done"), OUTPUTS) => Ok(true),
        (state, count) => Err(format!("{id} is {state:?} with {count} outputs")),
    }
}

/// Kills one node of several at random, again and again, while clients upload to all; another takes its place.
///
/// # Errors
/// A sentence: something does not start again.
pub fn crash(settings: &Settings, nodes: usize, kills: u32) -> Result<Vec<Row>, String> {
    let ground = Ground::new("image")?;
    let backing = Backing::start(&ground.folder.join("backing"))?;
    let lines = backing.settings("lease_seconds = 2\nattempts_max = 100\nworkers = 1\n");
    let start = |number: usize| Server::start(&ground.folder.join(format!("node-{number}")), &lines);
    let mut running = (0..nodes).map(start).collect::<Result<Vec<_>, _>>()?;
    let mut random = Random::new(settings.rounds as u64);
    let of = |running: &[Server]| running.iter().map(|node| node.address).collect::<Vec<_>>();
    let uploads = Uploads::new(of(&running))?;
    uploads.run(|uploads| {
        for _ in 0..kills {
            let wait = LIFE_MS.0 + random.below(LIFE_MS.1 - LIFE_MS.0);
            std::thread::sleep(Duration::from_millis(wait as u64));
            let number = random.below(nodes);
            // Its place is taken after it is gone, so that its port is not a matter.
            running.remove(number).kill();
            running.insert(number, start(number)?);
            uploads.go_to(of(&running));
        }
        Ok::<(), String>(())
    })?;
    let began = Instant::now();
    let settled = uploads.settle(&of(&running), END_MAX);
    let took = began.elapsed().as_secs_f64();
    let promised = uploads.promised();
    let extra = backing.store.outputs()? as f64 - settled.told as f64;
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    let row = |what: &str, target, value: f64, note: String| {
        Row::new(format!("{nodes} nodes, kills: {what}"), target, Some(value), note)
    };
    Ok(vec![
        row("kills", Target::Fact, f64::from(kills), format!("one node each, after {} to {} ms", LIFE_MS.0, LIFE_MS.1)),
        row("uploads answered with 202", Target::Least(1.0), promised as f64, "distinct images".into()),
        row("of those lost or not done", Target::Most(0.0), settled.lost.len() as f64, first(&settled.lost)),
        row("outputs missing or in part", Target::Most(0.0), settled.partial.len() as f64, first(&settled.partial)),
        row("outputs told by two jobs", Target::Most(0.0), settled.twice as f64, String::new()),
        row("outputs beyond those told", Target::Fact, extra, "of uploads that were not answered any more".into()),
        row("attempts per job", Target::Fact, settled.attempts as f64 / promised.max(1) as f64, String::new()),
        row("time until all were done", Target::Fact, took, "s, leases of 2 s included".into()),
    ])
}
