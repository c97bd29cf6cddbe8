//! The load of a soak: all three services at once, a little of everything, for as long as it takes.
//!
//! ```text
//!   chat      clients in rooms; a few lose their connection in each interval and come back
//!   image     an upload now and then, followed until it is done; some are fetched
//!   gateway   requests over kept connections, fanned out; a connection that asks once, and one that asks nothing
//! ```

use crate::chat::client::Speech;
use crate::chat::fleet::{Fleet, Plan};
use crate::gateway::generator::{Load, Request};
use crate::histogram::latencies;
use crate::image::photos;
use crate::image::server::{ended, get, marked, upload};
use crate::schedule::profile::Profile;
use crate::schedule::{Schedule, Spread};
use hdrhistogram::Histogram;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Clients of the chat, members of a room, publications a second, bytes of one, and who comes anew in an interval.
const CLIENTS: usize = 200;
const ROOM: usize = 20;
const PUBLICATIONS: f64 = 25.0;
const SIZE: usize = 1000;
const CHURN: usize = 10;
/// Requests a second to the gateway.
const REQUESTS: f64 = 60.0;
/// The pause between two uploads, and between two strangers.
const UPLOAD_EVERY: Duration = Duration::from_millis(700);
const STRANGER_EVERY: Duration = Duration::from_millis(100);
/// How long a job may take.
const JOB_MAX: Duration = Duration::from_secs(60);

/// What an interval of a load was like.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Interval {
    /// Percentiles, in milliseconds; none of nothing.
    pub p50_ms: Option<f64>,
    /// Likewise.
    pub p99_ms: Option<f64>,
}

impl Interval {
    fn of(times: &Histogram<u64>) -> Interval {
        let at = |percentile| crate::chat::book::ms(times, percentile);
        Interval { p50_ms: at(50.0), p99_ms: at(99.0) }
    }
}

/// Where the services are, what the last intervals were like, and what went wrong.
pub struct Loads {
    /// The chat.
    pub chat: SocketAddr,
    /// The image service.
    pub image: SocketAddr,
    /// The gateway.
    pub gateway: SocketAddr,
    /// How long an interval is.
    pub every: Duration,
    /// The last interval of the chat, the image service and the gateway.
    pub last: Mutex<[Interval; 3]>,
    /// What was done, in all: deliveries, jobs, answers.
    pub done: [AtomicU64; 3],
    /// What failed, in all.
    pub failed: [AtomicU64; 3],
    /// The first failure of each.
    pub why: Mutex<[String; 3]>,
    /// It is over.
    pub stop: AtomicBool,
}

/// What the loads have come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// See [`Loads::done`].
    pub done: [u64; 3],
    /// See [`Loads::failed`].
    pub failed: [u64; 3],
    /// See [`Loads::why`].
    pub why: [String; 3],
}

impl Loads {
    /// What they have come to so far.
    pub fn account(&self) -> Account {
        let of = |counters: &[AtomicU64; 3]| counters.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        let why = self.why.lock().expect("nobody panics with it").clone();
        Account { done: of(&self.done), failed: of(&self.failed), why }
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn note(&self, of: usize, times: &Histogram<u64>) {
        self.done[of].fetch_add(times.len(), Ordering::Relaxed);
        self.last.lock().expect("nobody panics with it")[of] = Interval::of(times);
    }

    fn fail(&self, of: usize, count: u64, why: impl FnOnce() -> String) {
        if count == 0 {
            return;
        }
        self.failed[of].fetch_add(count, Ordering::Relaxed);
        let mut first = self.why.lock().expect("nobody panics with it");
        if first[of].is_empty() {
            first[of] = why();
        }
    }

    /// Runs all of it while `during` runs.
    pub fn run<T>(&self, during: impl FnOnce(&Loads) -> T) -> T {
        std::thread::scope(|scope| {
            let guarded = |of: usize, load: fn(&Loads) -> Result<(), String>| {
                move || {
                    if let Err(why) = load(self) {
                        self.fail(of, 1, || format!("the load ended: {why}"));
                    }
                }
            };
            scope.spawn(guarded(0, chat));
            scope.spawn(guarded(1, image));
            scope.spawn(guarded(2, gateway));
            scope.spawn(guarded(2, strangers));
            let value = during(self);
            self.stop.store(true, Ordering::Relaxed);
            value
        })
    }
}

fn chat(loads: &Loads) -> Result<(), String> {
    let mut fleet = Fleet::new(Plan {
        addresses: vec![loads.chat],
        clients: CLIENTS,
        room_size: ROOM,
        prefix: super::NAMESPACE.to_owned(),
        own_channel: false,
        signer: None,
        speech: Speech::Centrifuge { recoverable: true },
        size: SIZE,
    })?;
    fleet.join(64, Duration::from_secs(60))?;
    let (mut round, mut unrecovered, mut refused) = (0, 0, 0);
    while loads.goes_on() {
        round += 1;
        fleet.scatter_some(round * CHURN, CHURN);
        fleet.load(Schedule::new(Spread::Poisson, PUBLICATIONS, round as u64), loads.every.as_secs_f64())?;
        loads.note(0, &fleet.take_times().delivery);
        let events = &fleet.book.events;
        let errors: u64 = events.errors.values().sum();
        loads.fail(0, events.unrecovered - unrecovered, || "a subscription that could not go on".to_owned());
        loads.fail(0, errors - refused, || format!("publications refused: {:?}", events.errors));
        (unrecovered, refused) = (events.unrecovered, errors);
    }
    // Whoever was just sent away is owed what it missed.
    fleet.settle(Duration::from_secs(30))?;
    let verdict = fleet.book.tally.verdict();
    loads.fail(0, verdict.lost, || format!("{} of {} deliveries lost", verdict.lost, verdict.owed));
    loads.fail(0, verdict.misplaced() + verdict.counts.duplicated, || "deliveries twice or misplaced".to_owned());
    Ok(())
}

fn image(loads: &Loads) -> Result<(), String> {
    let small = photos::small()?;
    let (mut number, mut times, mut since) = (0, latencies(), Instant::now());
    while loads.goes_on() {
        number += 1;
        let began = Instant::now();
        let answer = upload(loads.image, "web", &marked(&small, number));
        match answer.as_ref().map(|answer| (answer.status, answer.document())) {
            Ok((202, document)) => {
                let id = document["id"].as_str().unwrap_or_default().to_owned();
                match ended(loads.image, &id, JOB_MAX) {
                    Ok(document) if document["state"] == "done" => {
                        times.saturating_record(began.elapsed().as_nanos() as u64);
                        let url = document["outputs"][0]["url"].as_str().unwrap_or_default().to_owned();
                        let fetched = get(loads.image, &url, &[]).is_ok_and(|answer| answer.status == 200);
                        loads.fail(1, u64::from(!fetched), || format!("{url} is not there"));
                    }
                    Ok(document) => {
                        loads.fail(1, 1, || format!("job {id} is {}: {}", document["state"], document["error"]))
                    }
                    Err(why) => loads.fail(1, 1, || why),
                }
            }
            Ok((status, _)) => loads.fail(1, 1, || format!("an upload was answered with {status}")),
            Err(why) => loads.fail(1, 1, || why.clone()),
        }
        if since.elapsed() >= loads.every {
            loads.note(1, &times);
            (times, since) = (latencies(), Instant::now());
        }
        std::thread::sleep(UPLOAD_EVERY);
    }
    Ok(())
}

fn gateway(loads: &Loads) -> Result<(), String> {
    let at = loads.gateway;
    let requests = vec![
        Request::get(at, "/fanout/4", 0),
        Request::get(at, "/merge/3", 0),
        Request::post(at, "/post/2", 0),
        Request::get(at, "/small", 0),
    ];
    let (mut load, mut round) = (Load::new(at, requests, 1)?, 0);
    while loads.goes_on() {
        round += 1;
        let outcome = load.open_loop(&Profile::steady(REQUESTS, loads.every.as_secs_f64(), round))?;
        let whole = outcome.whole();
        loads.note(2, &whole.total);
        let why = || format!("{} of {} rejected; {}", whole.rejected, whole.sent, whole.failures_text());
        loads.fail(2, whole.rejected + whole.failures(), why);
    }
    Ok(())
}

/// Who comes once, and who comes and says nothing: to the chat and to the gateway.
fn strangers(loads: &Loads) -> Result<(), String> {
    let mut number = 0u64;
    while loads.goes_on() {
        number += 1;
        let door = if number.is_multiple_of(2) { loads.gateway } else { loads.chat };
        if let Ok(mut stream) = TcpStream::connect_timeout(&door, Duration::from_secs(2)) {
            let _a_stranger = stream.set_read_timeout(Some(Duration::from_secs(5)));
            if number % 4 < 2 {
                let _may_be_gone = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
                let _whatever_comes = stream.read_to_end(&mut Vec::new());
            }
        }
        std::thread::sleep(STRANGER_EVERY);
    }
    Ok(())
}
