//! Faults of the image service, alone on a disk, and as two nodes around a Redis and an S3 store.

use super::clock::{self, Clock};
use super::finding::{Findings, Trouble, span};
use super::limits::{self, Cage};
use super::road::{Road, Weather};
use super::service::{Service, Way, signal};
use super::volume::Volume;
use crate::ground::Ground;
use crate::image::server::get;
use crate::image::trial::{Settled, Uploads};
use crate::observe;
use crate::process::redis::Redis;
use crate::process::store::Store;
use crate::random::Random;
use rustix::process::Signal;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// Leases end soon, so that what a dead process held comes back while the trial lasts, and no job dies of its attempts.
const LINES: &str = "lease_seconds = 2\nattempts_max = 100\nworkers = 1\n";
/// Nothing is kept free: a disk may be full to the last page.
const NO_RESERVE: &str = "disk_reserve_bytes = 0\n";
/// How often something is killed, and it lives between these in milliseconds.
const KILLS: usize = 6;
const LIFE_MS: (usize, usize) = (200, 1500);
/// How long faults last that have no length of their own, and how long all is well before and after.
const LASTS: Duration = Duration::from_secs(3);
const CALM: Duration = Duration::from_millis(1500);
/// Uploads that show that they are taken again.
const AGAIN: u64 = 4;
/// How long that may take once the fault is over: a call waits five seconds for Redis.
const RECOVERY_MAX: Duration = Duration::from_secs(10);
/// And how long we look.
const LOOK_MAX: Duration = Duration::from_secs(60);
/// How long all that was promised may take in the end.
const END_MAX: Duration = Duration::from_secs(300);

/// The account of all that the image service promises, whatever is done to it.
fn promises(uploads: &Uploads, settled: &Settled) -> Findings {
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    let (promised, lost, partial) = (uploads.promised(), settled.lost.len(), settled.partial.len());
    let mut findings = Findings::new();
    findings.promise(
        "what was answered with 202 is done",
        lost == 0 && promised > 0,
        format!("of {promised} promised {lost} lost; {:?} other answers {}", uploads.others(), first(&settled.lost)),
    );
    let observed = format!("{partial} in part {}", first(&settled.partial));
    findings.promise("all outputs are there, and whole", partial == 0, observed);
    findings.promise("no output is told by two jobs", settled.twice == 0, format!("{} twice", settled.twice));
    let attempts = settled.attempts as f64 / promised.max(1) as f64;
    findings.told("attempts per job", format!("{attempts:.2}"));
    findings
}

/// Everybody can upload, and then for a while nothing happens.
fn calm(uploads: &Uploads) -> Result<(), String> {
    uploads.pulse.wait(AGAIN, LOOK_MAX).ok_or("nobody can upload even before the fault")?;
    std::thread::sleep(CALM);
    uploads.pulse.begin();
    Ok(())
}

fn came_back(uploads: &Uploads) -> Findings {
    let mut findings = Findings::new();
    findings.recovery("uploads are taken again by themselves", uploads.pulse.wait(AGAIN, LOOK_MAX), RECOVERY_MAX);
    findings.told("longest time without a promise", span(uploads.pulse.longest()));
    findings
}

/// Clients upload to one service on `data` while something is done to it.
fn one(
    ground: &Ground,
    data: &Path,
    lines: &str,
    way: Way,
    during: impl FnOnce(&mut Service, &Uploads) -> Result<Findings, Trouble>,
) -> Result<Findings, Trouble> {
    let mut service = Service::image(&ground.folder, data, lines, way)?;
    let uploads = Uploads::new(vec![service.address])?.few();
    let findings = uploads.run(|uploads| {
        calm(uploads)?;
        during(&mut service, uploads)
    })?;
    let settled = uploads.settle(&[service.address], END_MAX);
    let mut ended = Findings::new();
    let alive = service.ended().is_none();
    ended.promise("it lives in the end", alive, if alive { String::new() } else { service.last_words() });
    Ok(promises(&uploads, &settled).and(findings).and(ended))
}

/// See `list.rs`.
pub(super) fn killed(ground: &Ground) -> Result<Findings, Trouble> {
    one(ground, &ground.folder.join("data"), LINES, Way::default(), |service, uploads| {
        let mut random = Random::new(1);
        for _ in 0..KILLS {
            std::thread::sleep(Duration::from_millis((LIFE_MS.0 + random.below(LIFE_MS.1 - LIFE_MS.0)) as u64));
            service.kill();
            service.start_again()?;
        }
        Ok(came_back(uploads))
    })
}

/// See `list.rs`.
pub(super) fn workers_killed(ground: &Ground) -> Result<Findings, Trouble> {
    one(ground, &ground.folder.join("data"), LINES, Way::default(), |service, uploads| {
        let (began, mut killed) = (Instant::now(), 0);
        while began.elapsed() < LASTS {
            let mut all = Vec::new();
            observe::tree(service.pid(), &mut all);
            for worker in all.into_iter().filter(|pid| *pid != service.pid()) {
                killed += u32::from(signal(worker, Signal::KILL).is_ok());
            }
            std::thread::sleep(Duration::from_millis(150));
        }
        let mut findings = Findings::new();
        findings.promise("there were workers to kill", killed > 0, format!("{killed} killed"));
        Ok(findings.and(came_back(uploads)))
    })
}

/// See `list.rs`.
pub(super) fn disk_full(ground: &Ground) -> Result<Findings, Trouble> {
    let volume = Volume::new(&ground.folder.join("disk"), 256)?;
    let lines = format!("{LINES}{NO_RESERVE}");
    one(ground, &volume.path.join("data"), &lines, Way::default(), |_, uploads| {
        let told = || -> u64 {
            uploads.others().iter().filter(|(status, _)| matches!(status, 503 | 507)).map(|of| of.1).sum()
        };
        let (before, told_before) = (uploads.promised(), told());
        let bytes = volume.fill()?;
        std::thread::sleep(LASTS);
        let (meanwhile, told) = (uploads.promised() - before, told() - told_before);
        volume.make_room()?;
        let mut findings = Findings::new();
        findings.promise(
            "a full disk is told as one, by 503 or 507",
            told > 0,
            format!("{:.0} MB of ballast; told {told} times, {meanwhile} promised meanwhile", bytes as f64 / 1e6),
        );
        Ok(findings.and(came_back(uploads)))
    })
}

/// See `list.rs`.
pub(super) fn descriptors(ground: &Ground) -> Result<Findings, Trouble> {
    one(ground, &ground.folder.join("data"), LINES, limits::few_descriptors(), |service, uploads| {
        let closed = limits::crowd(service.address, LASTS);
        let mut findings = Findings::new();
        let least = limits::CROWD - 2 * limits::FEW;
        findings.promise(
            "who cannot be served is told at once",
            closed >= least,
            format!("{closed} of the crowd closed"),
        );
        Ok(findings.and(came_back(uploads)))
    })
}

/// See `list.rs`.
pub(super) fn memory(ground: &Ground) -> Result<Findings, Trouble> {
    let cage = Cage::new(4 << 30)?;
    one(ground, &ground.folder.join("data"), LINES, cage.way(), |service, uploads| {
        let limit = cage.close()?;
        let (began, mut deaths) = (Instant::now(), Vec::new());
        while began.elapsed() < LASTS * 2 {
            std::thread::sleep(Duration::from_millis(20));
            if let Some(status) = service.ended() {
                deaths.push(status.to_string());
                service.start_again()?;
            }
        }
        let mut findings = cage.felt();
        cage.narrow(4 << 30)?;
        findings.told("the limit", format!("{:.0} MB", limit as f64 / 1e6));
        findings.told(
            "what the limit did to the service",
            match deaths.first() {
                Some(first) => format!("{} deaths: {first}", deaths.len()),
                None => "it lived; workers may have died".to_owned(),
            },
        );
        Ok(findings.and(came_back(uploads)))
    })
}

/// See `list.rs`.
pub(super) fn clock(ground: &Ground) -> Result<Findings, Trouble> {
    let clock = Clock::new(&ground.folder)?;
    one(ground, &ground.folder.join("data"), LINES, clock.way(), |service, uploads| {
        let findings = clock.swing(LASTS / 2, || clock::dated(service.address))?;
        Ok(findings.and(came_back(uploads)))
    })
}

/// Two nodes around a Redis and a store.
struct Parts {
    nodes: Vec<Service>,
    redis: Redis,
    store: Store,
    road: Road,
}

impl Parts {
    fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.address).collect()
    }
}

fn fleet(
    ground: &Ground,
    during: impl FnOnce(&mut Parts, &Uploads) -> Result<Findings, String>,
) -> Result<Findings, Trouble> {
    let redis = Redis::start(&ground.folder.join("redis")).map_err(Trouble::NotRun)?;
    let store = Store::start(&ground.folder.join("store")).map_err(Trouble::NotRun)?;
    let road = Road::to(store.address)?;
    let lines = format!("redis = \"{}\"\n{LINES}{}", redis.url(), store.settings_at(road.address));
    let node = |number: usize| {
        let folder = ground.folder.join(format!("node-{number}"));
        Service::image(&folder, &folder.join("data"), &lines, Way::default())
    };
    let nodes = (0..2).map(node).collect::<Result<Vec<_>, _>>()?;
    let mut parts = Parts { nodes, redis, store, road };
    let uploads = Uploads::new(parts.addresses())?.few();
    let findings = uploads.run(|uploads| {
        calm(uploads)?;
        during(&mut parts, uploads)
    })?;
    let settled = uploads.settle(&parts.addresses(), END_MAX);
    let mut findings = promises(&uploads, &settled).and(findings);
    let told = settled.told;
    let outputs = parts.store.outputs()?;
    findings.told("outputs in the store", format!("{outputs}, {told} of them told of"));
    Ok(findings)
}

/// See `list.rs`.
pub(super) fn fleet_killed(ground: &Ground) -> Result<Findings, Trouble> {
    fleet(ground, |parts, uploads| {
        let (mut random, mut killed) = (Random::new(5), [0; 3]);
        for kill in 0..KILLS + 2 {
            std::thread::sleep(Duration::from_millis((LIFE_MS.0 + random.below(LIFE_MS.1 - LIFE_MS.0)) as u64));
            // When is chance; whom goes around, so that everybody has a turn.
            match kill % 4 {
                0 | 1 => {
                    let node = &mut parts.nodes[random.below(2)];
                    node.kill();
                    node.start_again()?;
                    killed[0] += 1;
                }
                2 => {
                    parts.redis.kill_and_start()?;
                    killed[1] += 1;
                }
                _ => {
                    parts.store.kill();
                    std::thread::sleep(CALM);
                    parts.store.start_again()?;
                    killed[2] += 1;
                }
            }
        }
        let mut findings = Findings::new();
        let [nodes, redis, store] = killed;
        findings.told("killed", format!("nodes {nodes} times, Redis {redis}, the store {store}"));
        Ok(findings.and(came_back(uploads)))
    })
}

/// See `list.rs`.
pub(super) fn fleet_paused(ground: &Ground) -> Result<Findings, Trouble> {
    fleet(ground, |parts, uploads| {
        // Its workers too, as with the machine of both.
        let mut all = Vec::new();
        observe::tree(parts.nodes[1].pid(), &mut all);
        all.iter().try_for_each(|pid| signal(*pid, Signal::STOP))?;
        uploads.go_to(vec![parts.nodes[0].address]);
        let before = uploads.promised();
        std::thread::sleep(LASTS * 2);
        let meanwhile = uploads.promised() - before;
        all.iter().rev().try_for_each(|pid| signal(*pid, Signal::CONT))?;
        uploads.go_to(parts.addresses());
        let mut findings = Findings::new();
        findings.promise("the other node takes uploads meanwhile", meanwhile > 0, format!("{meanwhile} promised"));
        Ok(findings.and(came_back(uploads)))
    })
}

/// See `list.rs`.
pub(super) fn store_slow(ground: &Ground) -> Result<Findings, Trouble> {
    fleet(ground, |parts, uploads| {
        let slow = Duration::from_millis(20);
        parts.road.set(Weather { delay: slow, jitter: slow / 4, loss: 0.01, ..Weather::default() });
        let before = uploads.promised();
        for _ in 0..4 {
            std::thread::sleep(LASTS / 2);
            parts.road.cut();
        }
        let meanwhile = uploads.promised() - before;
        parts.road.set(Weather::default());
        let mut findings = Findings::new();
        findings.promise("uploads are taken meanwhile", meanwhile > 0, format!("{meanwhile} promised"));
        Ok(findings.and(came_back(uploads)))
    })
}

/// See `list.rs`.
pub(super) fn rolling(ground: &Ground) -> Result<Findings, Trouble> {
    fleet(ground, |parts, uploads| {
        let mut findings = Findings::new();
        for round in 0..4 {
            // A balancer sends nobody to a node that is about to end.
            uploads.go_to(vec![parts.nodes[(round + 1) % 2].address]);
            let node = &mut parts.nodes[round % 2];
            let (status, took) = node.stop()?;
            findings.promise("the node ends in order", status.success(), format!("{status} after {}", span(took)));
            node.start_again()?;
            let began = Instant::now();
            while get(node.address, "/health", &[]).map_or(true, |answer| answer.status != 200) {
                if began.elapsed() > LOOK_MAX {
                    return Err(format!("the node is not healthy again: {}", node.last_words()));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            uploads.go_to(parts.addresses());
            std::thread::sleep(CALM);
        }
        Ok(findings.and(came_back(uploads)))
    })
}
