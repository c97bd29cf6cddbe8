//! Clients that upload while something is done to the service, and what became of all that was promised: shared by the kills
//! (`crash.rs`, `fleet.rs`) and by all other faults (`crate::faults`).

use super::photos;
use super::server::{Answer, check_outputs, ended, marked, upload};
use crate::pulse::Pulse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Clients that upload, one image after the other, and the pause of each between two of them, so that what waits at the end is
/// not a matter of hours.
const CLIENTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(50);
/// The same where something else than their number is looked at.
const FEW_CLIENTS: usize = 2;
const LONG_PAUSE: Duration = Duration::from_millis(300);
/// Outputs of the preset.
pub(super) const OUTPUTS: usize = 3;

/// What was uploaded, and what was promised of it.
pub struct Uploads {
    small: Vec<u8>,
    addresses: Mutex<Vec<SocketAddr>>,
    clients: usize,
    pause: Duration,
    numbers: AtomicU64,
    /// What was answered with 202: the job, and the number of its image.
    promised: Mutex<BTreeMap<String, u64>>,
    /// Other answers, by status; 0 for none.
    others: Mutex<BTreeMap<u16, u64>>,
    /// When something was promised.
    pub pulse: Pulse,
}

/// What became of all that was promised.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// Jobs that are not there, or not done.
    pub lost: Vec<String>,
    /// Outputs that are missing or in part.
    pub partial: Vec<String>,
    /// Outputs that two jobs tell of.
    pub twice: usize,
    /// Attempts that jobs took, all together.
    pub attempts: u64,
    /// Outputs that were told of.
    pub told: usize,
}

impl Uploads {
    /// Nothing yet; clients go to these addresses in turn.
    ///
    /// # Errors
    /// A sentence: no image could be made.
    pub fn new(addresses: Vec<SocketAddr>) -> Result<Uploads, String> {
        Ok(Uploads {
            small: photos::small()?,
            addresses: Mutex::new(addresses),
            clients: CLIENTS,
            pause: PAUSE,
            numbers: AtomicU64::new(0),
            promised: Mutex::default(),
            others: Mutex::default(),
            pulse: Pulse::default(),
        })
    }

    /// The same with a few clients that take their time.
    pub fn few(self) -> Uploads {
        Uploads { clients: FEW_CLIENTS, pause: LONG_PAUSE, ..self }
    }

    /// Clients go there from now on.
    pub fn go_to(&self, addresses: Vec<SocketAddr>) {
        *self.addresses.lock().expect("nobody panics with it") = addresses;
    }

    /// Images that left.
    pub fn sent(&self) -> u64 {
        self.numbers.load(Ordering::Relaxed)
    }

    /// Uploads that were answered with 202.
    pub fn promised(&self) -> usize {
        self.promised.lock().expect("nobody panics with it").len()
    }

    /// How often another status came; 0 for connections that broke.
    pub fn others(&self) -> BTreeMap<u16, u64> {
        self.others.lock().expect("nobody panics with it").clone()
    }

    /// Clients upload while `during` runs.
    pub fn run<T>(&self, during: impl FnOnce(&Uploads) -> T) -> T {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for client in 0..self.clients {
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        self.upload(client);
                    }
                });
            }
            let value = during(self);
            stop.store(true, Ordering::Relaxed);
            value
        })
    }

    fn upload(&self, client: usize) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(self.pause);
        let address = {
            let addresses = self.addresses.lock().expect("nobody panics with it");
            addresses[(client + number as usize) % addresses.len()]
        };
        let answer = upload(address, "web", &marked(&self.small, number));
        match answer.as_ref().map(|answer| (answer.status, Answer::document(answer))) {
            Ok((202, document)) if document["id"].is_string() => {
                let id = document["id"].as_str().unwrap_or_default().to_owned();
                self.promised.lock().expect("nobody panics with it").insert(id, number);
                self.pulse.beat();
            }
            Ok((status, _)) => *self.others.lock().expect("nobody panics with it").entry(status).or_default() += 1,
            Err(_) => *self.others.lock().expect("nobody panics with it").entry(0).or_default() += 1,
        }
    }

    /// Waits for the end of all jobs that were promised, asking these addresses in turn, and fetches all outputs. Jobs that have
    /// not ended after `within`, counted from now and for all of them together, are lost.
    pub fn settle(&self, addresses: &[SocketAddr], within: Duration) -> Settled {
        let until = Instant::now() + within;
        let promised = self.promised.lock().expect("nobody panics with it").clone();
        let (mut settled, mut keys) = (Settled::default(), BTreeMap::new());
        for (at, id) in promised.keys().enumerate() {
            let address = addresses[at % addresses.len()];
            match ended(address, id, until.saturating_duration_since(Instant::now())) {
                Ok(document) if document["state"] == "done" => {
                    settled.attempts += document["attempts"].as_u64().unwrap_or(0);
                    match check_outputs(address, &document) {
                        Ok(OUTPUTS) => {}
                        Ok(count) => settled.partial.push(format!("{id} has {count} outputs")),
                        Err(why) => settled.partial.push(why),
                    }
                    for output in document["outputs"].as_array().into_iter().flatten() {
                        *keys.entry(output["key"].to_string()).or_insert(0) += 1;
                    }
                }
                Ok(document) => settled.lost.push(format!("{id} is {}: {}", document["state"], document["error"])),
                Err(why) => settled.lost.push(why),
            }
        }
        settled.twice = keys.values().filter(|count| **count > 1).count();
        settled.told = keys.len();
        settled
    }
}
