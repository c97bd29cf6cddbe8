//! Faults of two chat nodes around a Redis.

use super::cable::Cable;
use super::chats::{came_back, promises, text};
use super::finding::{Findings, Trouble, span};
use super::road::{Road, Weather};
use super::service::{Service, Way, signal};
use crate::chat::member::Field;
use crate::chat::trial::{self, CHANNELS};
use crate::ground::Ground;
use crate::process::free_address;
use crate::process::redis::Redis;
use crate::random::Random;
use rustix::process::Signal;
use std::net::SocketAddr;
use std::time::Duration;

/// What a node says while Redis is away, and while its log is full.
const NOT_NOW: [u64; 2] = [100, 111];
/// How long it may take until publishing goes on: a client's patience with a node that says nothing is ten seconds, and a
/// publication in doubt is answered after ten.
const RECOVERY_MAX: Duration = Duration::from_secs(25);
const CALM: Duration = Duration::from_millis(1500);
/// How often something is killed, and it lives between these in milliseconds.
const KILLS: usize = 8;
const LIFE_MS: (usize, usize) = (100, 1200);
/// A node's lease is good for three.
const LONGER_THAN_LEASES: Duration = Duration::from_secs(5);
/// Redis is given up after so long without an answer.
const ANSWER_MS: u32 = 2000;

/// See the module's description.
struct Fleet {
    nodes: Vec<Service>,
    redis: Redis,
    road: Road,
    field: Field,
}

impl Fleet {
    /// Two nodes; the second one at the cable's far end if there is one.
    fn start(ground: &Ground, cable: Option<&Cable>) -> Result<Fleet, Trouble> {
        let beside = cable.map(Cable::near);
        let redis = Redis::start_beside(&ground.folder.join("redis"), beside).map_err(Trouble::NotRun)?;
        let road = Road::to(redis.address)?;
        let mut nodes = Vec::new();
        for number in 0..2 {
            let folder = ground.folder.join(format!("node-{number}"));
            let (way, at, redis_at) = match cable.filter(|_| number == 1) {
                Some(cable) => {
                    let port = free_address()?.port();
                    let redis_at = SocketAddr::new(cable.near(), redis.address.port());
                    (cable.way(), Some(SocketAddr::new(cable.far(), port)), redis_at)
                }
                None => (Way::default(), None, road.address),
            };
            let url = format!("redis://{redis_at}?answer_ms={ANSWER_MS}&connect_ms={ANSWER_MS}");
            // Everybody comes in without a token, also from the cable's other end.
            let text = text(None, &folder.join("log"), None, Some(&url));
            nodes.push(Service::chat(&folder, &text, at, way)?);
        }
        let mut field = Field::new(nodes.iter().map(|node| node.address).collect(), String::new(), CHANNELS);
        field.for_now = NOT_NOW.to_vec();
        Ok(Fleet { nodes, redis, road, field })
    }

    fn run(mut self, during: impl FnOnce(&mut Parts) -> Result<Findings, String>) -> Result<Findings, Trouble> {
        let field = &self.field;
        let mut parts = Parts { nodes: &mut self.nodes, redis: &mut self.redis, road: &self.road, field };
        let ran = trial::run(field, |_| {
            field.pulse.wait(64, Duration::from_secs(30)).ok_or("nobody can publish even before the fault")?;
            std::thread::sleep(CALM);
            field.pulse.begin();
            during(&mut parts)
        });
        let (findings, account) = ran.map_err(|why| {
            let words = self.nodes.iter().map(Service::last_words).collect::<Vec<_>>().join(" || ");
            format!("{why}; the nodes said: {words}")
        })?;
        Ok(promises(field, account).and(findings))
    }
}

/// What things are done to.
struct Parts<'a> {
    nodes: &'a mut [Service],
    redis: &'a mut Redis,
    road: &'a Road,
    field: &'a Field,
}

/// See `list.rs`.
pub(super) fn killed(ground: &Ground) -> Result<Findings, Trouble> {
    Fleet::start(ground, None)?.run(|parts| {
        let (mut random, mut killed) = (Random::new(3), [0, 0]);
        for kill in 0..KILLS {
            std::thread::sleep(Duration::from_millis((LIFE_MS.0 + random.below(LIFE_MS.1 - LIFE_MS.0)) as u64));
            // When is chance; whom goes around, so that everybody has a turn.
            match kill % 3 {
                2 => {
                    parts.redis.kill_and_start()?;
                    killed[1] += 1;
                }
                node => {
                    parts.nodes[node].kill();
                    parts.nodes[node].start_again()?;
                    killed[0] += 1;
                }
            }
        }
        let mut findings = Findings::new();
        findings.told("killed", format!("nodes {} times, Redis {} times", killed[0], killed[1]));
        Ok(findings.and(came_back(parts.field, RECOVERY_MAX)))
    })
}

/// See `list.rs`.
pub(super) fn paused(ground: &Ground) -> Result<Findings, Trouble> {
    Fleet::start(ground, None)?.run(|parts| {
        parts.nodes[1].pause()?;
        let before = parts.field.pulse.beats();
        std::thread::sleep(LONGER_THAN_LEASES);
        let meanwhile = parts.field.pulse.beats() - before;
        parts.nodes[1].go_on()?;
        let mut findings = Findings::new();
        let observed = format!("{meanwhile} acknowledged while it was stopped");
        findings.promise("the other node's clients publish on", meanwhile > 0, observed);
        std::thread::sleep(CALM);
        signal(parts.redis.pid(), Signal::STOP)?;
        std::thread::sleep(LONGER_THAN_LEASES);
        signal(parts.redis.pid(), Signal::CONT)?;
        Ok(findings.and(came_back(parts.field, RECOVERY_MAX)))
    })
}

/// See `list.rs`.
pub(super) fn partitioned(ground: &Ground) -> Result<Findings, Trouble> {
    let cable = Cable::new()?;
    Fleet::start(ground, Some(&cable))?.run(|parts| {
        cable.cut()?;
        let before = parts.field.pulse.beats();
        std::thread::sleep(LONGER_THAN_LEASES + Duration::from_secs(1));
        let meanwhile = parts.field.pulse.beats() - before;
        cable.mend()?;
        let mut findings = Findings::new();
        let observed = format!("{meanwhile} acknowledged while it was cut off");
        findings.promise("the other node's clients publish on", meanwhile > 0, observed);
        let findings = findings.and(came_back(parts.field, RECOVERY_MAX));
        Ok(findings.and(see_each_other(parts)))
    })
}

/// That each node knows of the other.
fn see_each_other(parts: &Parts) -> Findings {
    let began = std::time::Instant::now();
    let nodes = |node: &Service| node.figure("annulus_chat_fleet_nodes").unwrap_or(0.0);
    let all = || parts.nodes.iter().all(|node| nodes(node) >= parts.nodes.len() as f64);
    while !all() && began.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut findings = Findings::new();
    let took = all().then(|| began.elapsed());
    findings.recovery("nodes see each other", took, Duration::from_secs(10));
    findings
}

/// See `list.rs`.
pub(super) fn redis_slow(ground: &Ground) -> Result<Findings, Trouble> {
    Fleet::start(ground, None)?.run(|parts| {
        let slow = Duration::from_millis(20);
        parts.road.set(Weather { delay: slow, jitter: slow / 4, loss: 0.01, ..Weather::default() });
        let before = parts.field.pulse.beats();
        std::thread::sleep(LONGER_THAN_LEASES);
        let meanwhile = parts.field.pulse.beats() - before;
        let mut findings = Findings::new();
        findings.promise("publishing goes on meanwhile", meanwhile > 0, format!("{meanwhile} acknowledged"));
        findings.told("longest time without an acknowledgement meanwhile", span(parts.field.pulse.longest()));
        parts.road.set(Weather::default());
        Ok(findings.and(came_back(parts.field, RECOVERY_MAX)))
    })
}

/// See `list.rs`.
pub(super) fn redis_cut(ground: &Ground) -> Result<Findings, Trouble> {
    Fleet::start(ground, None)?.run(|parts| {
        for _ in 0..10 {
            parts.road.cut();
            std::thread::sleep(Duration::from_millis(200));
        }
        parts.road.set(Weather { black: true, ..Weather::default() });
        std::thread::sleep(LONGER_THAN_LEASES + Duration::from_secs(2));
        parts.road.set(Weather::default());
        let findings = came_back(parts.field, RECOVERY_MAX);
        Ok(findings.and(see_each_other(parts)))
    })
}

/// See `list.rs`.
pub(super) fn rolling(ground: &Ground) -> Result<Findings, Trouble> {
    Fleet::start(ground, None)?.run(|parts| {
        let mut findings = Findings::new();
        for round in 0..4 {
            let node = &mut parts.nodes[round % 2];
            let (status, took) = node.stop()?;
            findings.promise("the node ends in order", status.success(), format!("{status} after {}", span(took)));
            node.start_again()?;
            std::thread::sleep(CALM);
        }
        let findings = findings.and(came_back(parts.field, RECOVERY_MAX));
        Ok(findings.and(see_each_other(parts)))
    })
}
