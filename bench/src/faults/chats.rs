//! Faults of one chat node, and of the database behind it.

use super::clock::{self, Clock};
use super::finding::{Findings, Trouble, span};
use super::limits::{self, Cage, NO_MORE};
use super::road::{Road, Weather};
use super::service::{Service, Way};
use super::volume::Volume;
use crate::chat::config::{Ack, Chat, prefix};
use crate::chat::ledger::Counts;
use crate::chat::member::Field;
use crate::chat::talk::Talk;
use crate::chat::trial::{self, Account, CHANNELS, Reader};
use crate::ground::Ground;
use crate::process::postgres::Postgres;
use crate::random::Random;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often something is killed.
const KILLS: usize = 6;
/// It lives between these in milliseconds, once it answers.
const LIFE_MS: (usize, usize) = (50, 900);
/// How long faults last that have no length of their own, and how long all is well before and after.
const LASTS: Duration = Duration::from_secs(3);
const CALM: Duration = Duration::from_millis(1500);
/// Acknowledgements that show that publishing goes on: more than were under way.
const AGAIN: u64 = 64;
/// How long that may take once the fault is over.
const RECOVERY_MAX: Duration = Duration::from_secs(5);
/// And how long we look.
pub(super) const LOOK_MAX: Duration = Duration::from_secs(60);
/// Small, so that the log begins new ones while the fault lasts.
const SEGMENT: &str = "[chat.log]\nsegment_bytes = \"2MiB\"\n";
/// Temporary errors of the log: it is full.
const FULL: u64 = 111;

/// What the chat is told: two shards, and channels that keep everything.
pub(super) fn text(ack: Option<Ack>, log: &Path, database: Option<&str>, broker: Option<&str>) -> String {
    let chat =
        Chat { shards: Some(2), ack, directory: Some(log), database, broker, keeps_all: true, ..Chat::default() };
    chat.text()
}

/// The account of all that the chat promises, whatever is done to it.
pub(super) fn promises(field: &Field, account: Account) -> Findings {
    let Account { counts, behind } = account;
    let Counts { published, acknowledged, lost, duplicated, moved, damaged, holes } = counts;
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let first = |text: &std::sync::Mutex<String>| text.lock().map(|text| text.clone()).unwrap_or_default();
    let mut findings = Findings::new();
    let unanswered = published.saturating_sub(acknowledged + of(&field.refused));
    findings.promise(
        "what was acknowledged is in history, once",
        lost == 0 && duplicated == 0 && acknowledged > 0,
        format!("of {acknowledged} acknowledged {lost} lost, {duplicated} twice; {unanswered} without an answer"),
    );
    findings.promise(
        "it keeps its place and its bytes",
        moved + damaged + holes == 0,
        format!("{moved} moved, {damaged} damaged, {holes} holes"),
    );
    let (recovered, unrecovered, disordered) = (of(&field.recovered), of(&field.unrecovered), of(&field.disordered));
    findings.promise(
        "subscribers get all of it, in order, and go on where they were",
        unrecovered == 0 && disordered == 0 && behind == 0,
        format!(
            "{recovered} recovered, {unrecovered} not, {disordered} out of order, {behind} lack something; {}",
            first(&field.disorder)
        ),
    );
    let (repeated, differing) = (of(&field.repeated), of(&field.differing));
    let observed = format!("{differing} of {repeated} repeats");
    findings.promise("a repeat with a key is told the first one's place", differing == 0, observed);
    let refused = of(&field.refused);
    findings.promise("nothing is refused for good", refused == 0, format!("{refused} refused {}", first(&field.why)));
    findings
}

/// One node, and who publishes to it.
struct One {
    service: Service,
    field: Field,
}

impl One {
    fn start(ground: &Ground, ack: Ack, text: &str, way: Way) -> Result<One, Trouble> {
        let service = Service::chat(&ground.folder, text, None, way)?;
        let field = Field::new(vec![service.address], prefix(Some(ack)), CHANNELS);
        Ok(One { service, field })
    }

    fn durable(ground: &Ground, way: Way) -> Result<One, Trouble> {
        One::start(ground, Ack::Wal, &text(Some(Ack::Wal), &ground.folder.join("log"), None, None), way)
    }

    /// Publishes while something is done to it, and looks at every promise in the end.
    fn run(
        mut self,
        during: impl FnOnce(&mut Service, &Field, &mut Reader) -> Result<Findings, Trouble>,
    ) -> Result<Findings, Trouble> {
        let (service, field) = (&mut self.service, &self.field);
        let mut trouble = None;
        let ran = trial::run(field, |reader| {
            during(service, field, reader).or_else(|failed| match failed {
                Trouble::Failed(why) => Err(why),
                not_run => {
                    trouble = Some(not_run);
                    Ok(Findings::new())
                }
            })
        });
        match (trouble, ran) {
            (Some(not_run), _) => Err(not_run),
            (None, Ok((findings, account))) => Ok(promises(field, account).and(findings)),
            (None, Err(why)) => Err(Trouble::Failed(format!("{why}; it said: {}", service.last_words()))),
        }
    }
}

/// What was seen of coming back: how long it took, and how long nothing was acknowledged.
pub(super) fn came_back(field: &Field, within: Duration) -> Findings {
    let mut findings = Findings::new();
    findings.recovery("publishing goes on by itself", field.pulse.wait(AGAIN, LOOK_MAX), within);
    findings.told("longest time without an acknowledgement", span(field.pulse.longest()));
    findings
}

fn calm(field: &Field) -> Result<(), String> {
    field.pulse.wait(AGAIN, LOOK_MAX).ok_or("nobody can publish even before the fault")?;
    std::thread::sleep(CALM);
    field.pulse.begin();
    Ok(())
}

/// See `list.rs`.
pub(super) fn killed(ground: &Ground) -> Result<Findings, Trouble> {
    One::durable(ground, Way::default())?.run(|service, field, reader| {
        calm(field)?;
        let (mut random, mut lost, mut starts) = (Random::new(1), 0, Vec::new());
        for _ in 0..KILLS {
            std::thread::sleep(Duration::from_millis((LIFE_MS.0 + random.below(LIFE_MS.1 - LIFE_MS.0)) as u64));
            service.kill();
            let promised = field.ledger.lock().map_err(|error| error.to_string())?.acknowledged();
            starts.push(service.start_again()?);
            reader.read_on()?;
            lost = lost.max(field.ledger.lock().map_err(|error| error.to_string())?.missing(&promised).len());
        }
        let mut findings = Findings::new();
        findings.promise("nor is anything missing right after a start", lost == 0, format!("{lost} missing"));
        let slowest = starts.into_iter().max().unwrap_or_default();
        findings.told("it accepts again after", format!("{} at most, log read", span(slowest)));
        Ok(findings.and(came_back(field, RECOVERY_MAX)))
    })
}

/// See `list.rs`.
pub(super) fn paused(ground: &Ground) -> Result<Findings, Trouble> {
    One::durable(ground, Way::default())?.run(|service, field, _| {
        calm(field)?;
        service.pause()?;
        std::thread::sleep(LASTS);
        service.go_on()?;
        Ok(came_back(field, RECOVERY_MAX))
    })
}

/// See `list.rs`.
pub(super) fn restarted(ground: &Ground) -> Result<Findings, Trouble> {
    One::durable(ground, Way::default())?.run(|service, field, _| {
        calm(field)?;
        let mut findings = Findings::new();
        for _ in 0..2 {
            let (status, took) = service.stop()?;
            findings.promise("it ends in order", status.success(), format!("{status} after {}", span(took)));
            service.start_again()?;
            std::thread::sleep(CALM);
        }
        Ok(findings.and(came_back(field, RECOVERY_MAX)))
    })
}

/// See `list.rs`.
pub(super) fn disk_full(ground: &Ground) -> Result<Findings, Trouble> {
    let volume = Volume::new(&ground.folder.join("disk"), 96)?;
    let log = volume.path.join("log");
    let text = text(Some(Ack::Wal), &log, None, None).replace("[chat.log]\n", SEGMENT);
    let mut one = One::start(ground, Ack::Wal, &text, Way::default())?;
    one.field.for_now = vec![FULL];
    one.run(|service, field, _| {
        calm(field)?;
        let was_full = service.figure("annulus_chat_log_full") == Some(1.0);
        let bytes = volume.fill()?;
        // Until the segments that it has ahead are full too.
        let waited = Instant::now();
        while service.figure("annulus_chat_log_full") != Some(1.0) && waited.elapsed() < LASTS * 4 {
            std::thread::sleep(Duration::from_millis(50));
        }
        let full = !was_full && service.figure("annulus_chat_log_full") == Some(1.0);
        let mut findings = Findings::new();
        findings.promise(
            "a full disk is told as one, by a temporary error",
            full,
            format!("{:.0} MB of ballast, full after {}", bytes as f64 / 1e6, span(waited.elapsed())),
        );
        std::thread::sleep(LASTS);
        volume.make_room()?;
        let findings = findings.and(came_back(field, RECOVERY_MAX * 2));
        Ok(findings.and(database_follows(service)))
    })
}

/// That the database has had what the log has, soon after.
fn database_follows(service: &Service) -> Findings {
    let mut findings = Findings::new();
    let began = Instant::now();
    let is_near = || service.figure("annulus_chat_database_lag_ms").is_some_and(|lag| lag < 2000.0);
    while !is_near() && began.elapsed() < LOOK_MAX {
        std::thread::sleep(Duration::from_millis(100));
    }
    let took = is_near().then(|| began.elapsed());
    findings.recovery("the database follows the log", took, Duration::from_secs(30));
    let dead = service.figure("annulus_chat_database_dead_letters").unwrap_or(0.0);
    findings.promise("no row is set aside", dead == 0.0, format!("{dead} dead letters"));
    findings
}

/// See `list.rs`.
pub(super) fn descriptors(ground: &Ground) -> Result<Findings, Trouble> {
    let text = text(Some(Ack::Wal), &ground.folder.join("log"), None, None).replace("[chat.log]\n", SEGMENT);
    let mut one = One::start(ground, Ack::Wal, &text, Way::default())?;
    one.field.for_now = vec![FULL];
    one.run(|service, field, _| {
        calm(field)?;
        let pid = service.pid();
        let before = limits::descriptors(pid, Some(NO_MORE))?;
        let acknowledged = field.pulse.beats();
        let mut strangers = Vec::new();
        let began = Instant::now();
        while began.elapsed() < LASTS {
            // They are in the listener's queue, or accepted and closed: either is fine, but somebody must come in afterwards.
            strangers.extend(std::net::TcpStream::connect(service.address).ok());
            std::thread::sleep(Duration::from_millis(20));
        }
        let meanwhile = field.pulse.beats() - acknowledged;
        limits::descriptors(pid, before)?;
        let mut findings = Findings::new();
        findings.promise("who is there already publishes on", meanwhile > AGAIN, format!("{meanwhile} acknowledged"));
        findings.recovery("somebody new comes in", comes_in(service.address), RECOVERY_MAX);
        Ok(findings.and(came_back(field, RECOVERY_MAX)))
    })
}

/// How long it takes until a client can connect.
pub(super) fn comes_in(address: SocketAddr) -> Option<Duration> {
    let began = Instant::now();
    while began.elapsed() < LOOK_MAX {
        if Talk::open(address, 999).is_ok() {
            return Some(began.elapsed());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

/// See `list.rs`.
pub(super) fn memory(ground: &Ground) -> Result<Findings, Trouble> {
    let cage = Cage::new(4 << 30)?;
    One::durable(ground, Way::default())?.run(|service, field, reader| {
        calm(field)?;
        cage.hold(service.pid())?;
        // What it has already counts where it was taken from before; what it takes from now on counts here.
        cage.narrow(4 << 20)?;
        let began = Instant::now();
        let mut ended = None;
        while ended.is_none() && began.elapsed() < LASTS * 5 {
            std::thread::sleep(Duration::from_millis(10));
            ended = service.ended();
        }
        let promised = field.ledger.lock().map_err(|error| error.to_string())?.acknowledged();
        let observed = match ended {
            Some(status) => format!("{status} after {}", span(began.elapsed())),
            None => format!("it lived within the limit for {}", span(began.elapsed())),
        };
        service.kill();
        service.start_again()?;
        reader.read_on()?;
        let lost = field.ledger.lock().map_err(|error| error.to_string())?.missing(&promised).len();
        let mut findings = cage.felt();
        findings.told("what the limit did", observed);
        findings.promise("nothing is missing right after the start", lost == 0, format!("{lost} missing"));
        Ok(findings.and(came_back(field, RECOVERY_MAX)))
    })
}

/// See `list.rs`.
pub(super) fn clock(ground: &Ground) -> Result<Findings, Trouble> {
    let clock = Clock::new(&ground.folder)?;
    One::durable(ground, clock.way())?.run(|service, field, _| {
        calm(field)?;
        let findings = clock.swing(LASTS / 2, || clock::of_mute(service.address))?;
        Ok(findings.and(came_back(field, RECOVERY_MAX)))
    })
}

/// A chat whose acknowledgements are PostgreSQL's commits.
fn with_database(
    ground: &Ground,
    during: impl FnOnce(&mut Postgres, &Road, &Field) -> Result<Findings, Trouble>,
) -> Result<Findings, Trouble> {
    let mut postgres = Postgres::start(&ground.folder.join("postgres")).map_err(Trouble::NotRun)?;
    let road = Road::to(postgres.address)?;
    let url = postgres.url_at(road.address);
    let text = text(Some(Ack::Db), &ground.folder.join("log"), Some(&url), None);
    let mut one = One::start(ground, Ack::Db, &text, Way::default())?;
    one.field.for_now = vec![FULL];
    let acknowledged = std::cell::Cell::new(0);
    let findings = one.run(|service, field, _| {
        calm(field)?;
        let findings = during(&mut postgres, &road, field)?;
        acknowledged.set(field.ledger.lock().map_err(|error| error.to_string())?.acknowledged().len());
        Ok(findings.and(database_follows(service)))
    })?;
    let rows = postgres.sql("SELECT count(*) FROM annulus_publications")?;
    let rows: usize = rows.parse().map_err(|error| format!("{rows:?}: {error}"))?;
    let mut more = Findings::new();
    let observed = format!("{rows} rows of {} acknowledged by the fault's end", acknowledged.get());
    more.promise("what was acknowledged is in PostgreSQL", rows >= acknowledged.get(), observed);
    Ok(findings.and(more))
}

/// See `list.rs`.
pub(super) fn database_killed(ground: &Ground) -> Result<Findings, Trouble> {
    with_database(ground, |postgres, _, field| {
        for _ in 0..2 {
            postgres.kill();
            std::thread::sleep(Duration::from_secs(2));
            postgres.start_again()?;
            std::thread::sleep(CALM);
        }
        // The feed tries again after up to ten seconds.
        Ok(came_back(field, Duration::from_secs(15)))
    })
}

/// See `list.rs`.
pub(super) fn database_slow(ground: &Ground) -> Result<Findings, Trouble> {
    with_database(ground, |_, road, field| {
        let slow = Duration::from_millis(40);
        road.set(Weather { delay: slow, jitter: slow / 4, loss: 0.02, ..Weather::default() });
        let acknowledged = field.pulse.beats();
        for _ in 0..4 {
            std::thread::sleep(LASTS / 2);
            road.cut();
        }
        let meanwhile = field.pulse.beats() - acknowledged;
        road.set(Weather { black: true, ..Weather::default() });
        std::thread::sleep(LASTS);
        road.set(Weather::default());
        road.cut();
        let mut findings = Findings::new();
        findings.promise("publishing goes on meanwhile", meanwhile > AGAIN, format!("{meanwhile} acknowledged"));
        Ok(findings.and(came_back(field, Duration::from_secs(15))))
    })
}
