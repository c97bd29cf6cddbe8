//! Faults of the gateway, and of the services behind it.

use super::certificates::Authority;
use super::finding::{Findings, Trouble, span};
use super::limits;
use super::names::Names;
use super::probe::{Probe, Seen};
use super::road::{Road, Weather};
use super::service::{Service, Way, signal};
use crate::gateway::config::{self, Choices, Upstream};
use crate::gateway::shop::Shop;
use crate::ground::Ground;
use crate::process::Driver;
use crate::random::Random;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// Time-out of a backend, in milliseconds.
const BACKEND_MS: u64 = 1000;
/// No answer takes longer: the endpoint's own time-out is half a second more than its backends', and the rest is this machine's.
const ANSWER_MAX: Duration = Duration::from_millis(BACKEND_MS + 500 + 1500);
/// How long faults last that have no length of their own, and how long all is well before and after.
const LASTS: Duration = Duration::from_secs(3);
const CALM: Duration = Duration::from_millis(1500);
/// Whole answers that show that all is well again, and how long that may take: an open breaker is closed for two seconds.
const AGAIN: u64 = 32;
const RECOVERY_MAX: Duration = Duration::from_secs(5);
const LOOK_MAX: Duration = Duration::from_secs(60);
/// Of a crowd, who cannot be served: its number but the descriptors, generously.
const TURNED_AWAY: usize = limits::CROWD - 2 * limits::FEW;
/// How often it is killed, and it lives between these in milliseconds.
const KILLS: usize = 6;
const LIFE_MS: (usize, usize) = (100, 1200);
/// What the services are like.
const SHOP: [(&str, &str); 2] = [("latency", "5-20ms"), ("sizes", "1-4KB")];

fn choices() -> Choices {
    Choices {
        upstream: Upstream::Http1,
        backend_ms: BACKEND_MS,
        all_cores: false,
        breakers: true,
        retries: true,
        apart: false,
        h2c_clients: true,
        compresses: false,
        memory_bytes: None,
        hostile: None,
        driver: Driver::Auto,
    }
}

/// What a gateway promises its clients, whatever is done to it or to its services.
fn promises(seen: &Seen, shop: &Shop, may_be_away: bool) -> Result<Findings, String> {
    let mut findings = Findings::new();
    findings.promise("no answer breaks off", seen.broken == 0 || may_be_away, format!("{} broken", seen.broken));
    let observed = format!(
        "{} whole, {} in part, by status {:?}, {} shed; {} not taken, {} POSTs in doubt, {} without a word; {}",
        seen.whole, seen.in_part, seen.statuses, seen.shed, seen.untaken, seen.unsure, seen.silent, seen.first
    );
    findings.promise("every request is answered", (seen.untaken == 0 || may_be_away) && seen.silent == 0, observed);
    let observed = format!("{} the slowest", span(seen.slowest));
    if may_be_away {
        findings.told("the slowest answer", observed);
    } else {
        findings.promise(format!("within {}", span(ANSWER_MAX)), seen.slowest <= ANSWER_MAX, observed);
    }
    let repeated = shop.counts()?.repeated;
    findings.promise("no POST comes twice to a service", repeated == 0, format!("{repeated} did"));
    Ok(findings)
}

fn came_back(probe: &Probe, within: Duration) -> Findings {
    let mut findings = Findings::new();
    findings.recovery("whole answers come again by themselves", probe.pulse.wait(AGAIN, LOOK_MAX), within);
    findings.told("longest time without a whole answer", span(probe.pulse.longest()));
    findings
}

fn calm(probe: &Probe) -> Result<(), String> {
    if probe.pulse.wait(AGAIN, LOOK_MAX).is_none() {
        return Err(format!("nobody is answered even before the fault: {:?}", probe.seen()));
    }
    std::thread::sleep(CALM);
    probe.begin();
    Ok(())
}

/// What things are done to.
struct Parts {
    gateway: Service,
    shop: Option<Shop>,
    road: Road,
}

impl Parts {
    fn shop(&self) -> Result<&Shop, String> {
        self.shop.as_ref().ok_or_else(|| "there are no services".to_owned())
    }
}

/// Clients ask a gateway in front of the shop, by way of a road, while something is done.
fn one(
    ground: &Ground,
    may_be_away: bool,
    during: impl FnOnce(&mut Parts, &Probe) -> Result<Findings, Trouble>,
) -> Result<Findings, Trouble> {
    started(ground, Way::default(), may_be_away, during)
}

fn started(
    ground: &Ground,
    way: Way,
    may_be_away: bool,
    during: impl FnOnce(&mut Parts, &Probe) -> Result<Findings, Trouble>,
) -> Result<Findings, Trouble> {
    let shop = Shop::start(None, &SHOP)?;
    let road = Road::to(shop.address)?;
    let text = |listen: SocketAddr| config::write(listen, road.address, &choices());
    let gateway = Service::gateway(&ground.folder, text, way)?;
    let probe = Probe::new(vec![gateway.address], "/fanout/4", Some("/post/2"));
    let mut parts = Parts { gateway, shop: Some(shop), road };
    let findings = probe.run(|probe| {
        calm(probe)?;
        during(&mut parts, probe)
    })?;
    Ok(promises(&probe.seen(), parts.shop()?, may_be_away)?.and(findings))
}

/// See `list.rs`.
pub(super) fn killed(ground: &Ground) -> Result<Findings, Trouble> {
    one(ground, true, |parts, probe| {
        let (mut random, mut slowest) = (Random::new(1), Duration::ZERO);
        for _ in 0..KILLS {
            std::thread::sleep(Duration::from_millis((LIFE_MS.0 + random.below(LIFE_MS.1 - LIFE_MS.0)) as u64));
            parts.gateway.kill();
            slowest = slowest.max(parts.gateway.start_again()?);
        }
        let mut findings = Findings::new();
        findings.told("it accepts again after", format!("{} at most", span(slowest)));
        Ok(findings.and(came_back(probe, RECOVERY_MAX)))
    })
}

/// See `list.rs`.
pub(super) fn services_killed(ground: &Ground) -> Result<Findings, Trouble> {
    one(ground, false, |parts, probe| {
        let port = parts.shop()?.address.port();
        parts.shop = None;
        std::thread::sleep(Duration::from_secs(2));
        parts.shop = Some(Shop::start(Some(port), &SHOP)?);
        Ok(came_back(probe, RECOVERY_MAX))
    })
}

/// See `list.rs`.
pub(super) fn services_paused(ground: &Ground) -> Result<Findings, Trouble> {
    one(ground, false, |parts, probe| {
        let pid = parts.shop()?.pid();
        signal(pid, Signal::STOP)?;
        std::thread::sleep(LASTS + Duration::from_secs(1));
        signal(pid, Signal::CONT)?;
        Ok(came_back(probe, RECOVERY_MAX))
    })
}

/// See `list.rs`.
pub(super) fn services_slow(ground: &Ground) -> Result<Findings, Trouble> {
    one(ground, false, |parts, probe| {
        let slow = Duration::from_millis(20);
        parts.road.set(Weather { delay: slow, jitter: slow / 4, loss: 0.01, ..Weather::default() });
        // Often, so that some POSTs are cut off between a service and its answer.
        for _ in 0..12 {
            std::thread::sleep(LASTS / 6);
            parts.road.cut();
        }
        let whole = probe.seen().whole;
        parts.road.set(Weather { closed: true, ..Weather::default() });
        parts.road.cut();
        std::thread::sleep(LASTS / 2);
        parts.road.set(Weather::default());
        let mut findings = Findings::new();
        findings.promise("whole answers come meanwhile", whole > AGAIN, format!("{whole} whole"));
        Ok(findings.and(came_back(probe, RECOVERY_MAX)))
    })
}

/// See `list.rs`.
pub(super) fn descriptors(ground: &Ground) -> Result<Findings, Trouble> {
    // Who comes meanwhile may find a closed door: there is no descriptor for a connection.
    started(ground, limits::few_descriptors(), true, |parts, probe| {
        let closed = limits::crowd(parts.gateway.address, LASTS);
        let mut findings = Findings::new();
        findings.promise(
            "who cannot be served is told at once",
            closed >= TURNED_AWAY,
            format!("{closed} of the crowd closed"),
        );
        Ok(findings.and(came_back(probe, RECOVERY_MAX)))
    })
}

/// See `list.rs`.
pub(super) fn names_slow(ground: &Ground) -> Result<Findings, Trouble> {
    let names = Names::start(&ground.folder)?;
    let shop = Shop::start(None, &SHOP)?;
    // A connection that is kept needs no name; so the services do not keep them for long.
    shop.change(&json!({ "goaway_every": 20 }))?;
    let named = format!("http://shop.test:{}", shop.address.port());
    let text = |listen: SocketAddr| {
        config::write(listen, shop.address, &choices()).replace(&format!("http://{}", shop.address), &named)
    };
    let gateway = Service::gateway(&ground.folder, text, names.way())?;
    let probe = Probe::new(vec![gateway.address], "/fanout/4", Some("/post/2"));
    let findings = probe.run(|probe| {
        calm(probe)?;
        let asked = names.asked();
        names.set(Some(Duration::from_secs(2)));
        std::thread::sleep(LASTS);
        names.set(None);
        std::thread::sleep(LASTS * 2);
        let seen = probe.seen();
        let mut findings = Findings::new();
        let others = seen.in_part + seen.statuses.values().sum::<u64>();
        let (late, unanswered) = names.troubled();
        let observed = format!("{late} questions answered two seconds late, {unanswered} not at all");
        findings.felt("the name server was asked and slow, then silent", late > 0 && unanswered > 0, observed);
        findings.promise(
            "what was known of names serves meanwhile",
            seen.whole > AGAIN && others == 0,
            format!("{} whole, {others} not; {} questions", seen.whole, names.asked() - asked),
        );
        names.set(Some(Duration::ZERO));
        Ok::<_, Trouble>(findings.and(came_back(probe, RECOVERY_MAX)))
    })?;
    Ok(promises(&probe.seen(), &shop, false)?.and(findings))
}

/// See `list.rs`. The service with a certificate is a gateway of ours in front of the shop.
pub(super) fn certificate_expired(ground: &Ground) -> Result<Findings, Trouble> {
    let authority = Authority::new(&ground.folder)?;
    authority.issue(30)?;
    let shop = Shop::start(None, &SHOP)?;
    let (certificate, key) = authority.server();
    let secure = |listen: SocketAddr| {
        let keys = json!([{ "public_key": certificate, "private_key": key }]);
        changed(&config::write(listen, shop.address, &choices()), |root| root["tls"] = json!({ "keys": keys }))
    };
    let mut service = Service::gateway(&ground.folder, secure, Way::default())?;
    let front = |listen: SocketAddr| {
        let backend = json!({ "host": [format!("https://{}", service.address)], "url_pattern": "/small" });
        changed(&config::write(listen, shop.address, &choices()), |root| {
            root["client_tls"] = json!({ "ca_certs": [authority.certificate()] });
            root["endpoints"] = json!([{ "endpoint": "/secure", "backend": [backend] }]);
        })
    };
    let gateway = Service::gateway(&ground.folder, front, Way::default())?;
    let probe = Probe::new(vec![gateway.address], "/secure", None);
    let mut findings = probe.run(|probe| {
        calm(probe)?;
        authority.issue(-1)?;
        // With a restart, so that nobody goes on over a connection from when it was valid.
        service.kill();
        service.start_again()?;
        std::thread::sleep(CALM);
        probe.begin();
        std::thread::sleep(LASTS);
        let seen = probe.seen();
        let mut findings = Findings::new();
        let refused: u64 = seen.statuses.values().sum();
        findings.promise(
            "nothing is taken from who shows an expired certificate",
            seen.whole == 0 && refused > 0,
            format!("{} taken, {:?} refused; {}", seen.whole, seen.statuses, seen.first),
        );
        authority.issue(30)?;
        // The service reads its certificate again by itself.
        Ok::<_, Trouble>(findings.and(came_back(probe, Duration::from_secs(15))))
    })?;
    let seen = probe.seen();
    let observed = format!("{} broken, {} without a word", seen.broken, seen.silent);
    findings.promise("every request is answered", seen.broken == 0 && seen.silent == 0, observed);
    Ok(findings)
}

fn changed(text: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut root: Value = serde_json::from_str(text).expect("we wrote it");
    change(&mut root);
    root.to_string()
}

/// See `list.rs`.
pub(super) fn rolling(ground: &Ground) -> Result<Findings, Trouble> {
    let shop = Shop::start(None, &SHOP)?;
    let text = |listen: SocketAddr| config::write(listen, shop.address, &choices());
    let start = || Service::gateway(&ground.folder, text, Way::default());
    let mut gateways = [start()?, start()?];
    let probe = Probe::new(gateways.iter().map(|gateway| gateway.address).collect(), "/fanout/4", Some("/post/2"));
    let mut findings = probe.run(|probe| {
        calm(probe)?;
        let mut findings = Findings::new();
        for round in 0..6 {
            let gateway = &mut gateways[round % 2];
            let (status, took) = gateway.stop()?;
            findings.promise("the gateway ends in order", status.success(), format!("{status} after {}", span(took)));
            gateway.start_again()?;
            std::thread::sleep(CALM / 2);
        }
        Ok::<_, Trouble>(findings.and(came_back(probe, RECOVERY_MAX)))
    })?;
    let seen = probe.seen();
    let failed = seen.in_part + seen.statuses.values().sum::<u64>();
    findings.promise("nobody notices", failed == 0, format!("{} whole, {failed} not", seen.whole));
    Ok(promises(&seen, &shop, false)?.and(findings))
}
