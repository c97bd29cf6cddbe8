//! The service is killed at random moments, again and again, while clients upload: nothing that was promised is missing,
//! nothing is there in part, nothing twice. What uploads that were cut off leave behind is counted.

use super::Folder;
use super::photos;
use super::server::{Server, check_outputs, ended, marked, upload};
use crate::random::Random;
use crate::report::{Row, Target};
use crate::scenario::Settings;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Clients that upload, one image after the other.
const CLIENTS: usize = 4;
/// And the pause of each between two of them, so that what waits at the end is not a matter of hours.
const PAUSE: Duration = Duration::from_millis(50);
/// The service lives between these, in milliseconds.
const LIFE_MS: (usize, usize) = (20, 600);
/// Leases end soon, so that what a dead process held comes back while the run lasts, and no job dies of its attempts.
const SETTINGS: &str = "lease_seconds = 2\nattempts_max = 100\n";
/// How long all that was promised may take in the end.
const END_MAX: Duration = Duration::from_secs(120);
/// Outputs of the preset.
const OUTPUTS: usize = 3;

/// Kills it `--rounds` times.
///
/// # Errors
/// A sentence: the service does not start again.
pub fn crash(settings: &Settings, kills: u32) -> Result<Vec<Row>, String> {
    let folder = Folder::new()?;
    let data = folder.0.join("data");
    let small = photos::small()?;
    let (numbers, mut random) = (AtomicU64::new(0), Random::new(settings.rounds as u64));
    // What was answered with 202: the job, and the number of its image.
    let promised = Mutex::new(BTreeMap::new());
    let restarts = Mutex::new(Vec::new());
    for kill in 0..kills {
        let started = Instant::now();
        let server = Server::start(&data, SETTINGS)?;
        restarts.lock().map_err(|error| error.to_string())?.push(started.elapsed().as_secs_f64() * 1e3);
        let (address, stop) = (server.address, AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let number = numbers.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(PAUSE);
                        let Ok(answer) = upload(address, "web", &marked(&small, number)) else { continue };
                        if let (202, Some(id)) = (answer.status, answer.document()["id"].as_str()) {
                            promised.lock().expect("nobody panics with it").insert(id.to_owned(), number);
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis((LIFE_MS.0 + random.below(LIFE_MS.1 - LIFE_MS.0)) as u64));
            server.kill();
            stop.store(true, Ordering::Relaxed);
        });
        if (kill + 1) % 20 == 0 {
            let promised = promised.lock().map_err(|error| error.to_string())?.len();
            eprintln!(
                "  {} of {kills} kills, {promised} of {} uploads promised",
                kill + 1,
                numbers.load(Ordering::Relaxed)
            );
        }
    }
    let server = Server::start(&data, SETTINGS)?;
    let promised = promised.into_inner().map_err(|error| error.to_string())?;
    let (mut lost, mut partial, mut attempts, mut keys) = (Vec::new(), Vec::new(), 0, BTreeMap::new());
    for id in promised.keys() {
        match ended(server.address, id, END_MAX) {
            Ok(document) if document["state"] == "done" => {
                attempts += document["attempts"].as_u64().unwrap_or(0);
                match check_outputs(server.address, &document) {
                    Ok(OUTPUTS) => {}
                    Ok(count) => partial.push(format!("{id} has {count} outputs")),
                    Err(why) => partial.push(why),
                }
                for output in document["outputs"].as_array().into_iter().flatten() {
                    *keys.entry(output["key"].to_string()).or_insert(0) += 1;
                }
            }
            Ok(document) => lost.push(format!("{id} is {}", document["state"])),
            Err(why) => lost.push(why),
        }
    }
    let twice = keys.values().filter(|count| **count > 1).count();
    let leftovers = files(&data.join("temporary"))?.len() + files(&data.join("trash"))?.len();
    let outputs = files(&data.join("objects"))?.iter().filter(|name| name.ends_with(".jpeg")).count();
    let extra = outputs as f64 - keys.len() as f64;
    let times = restarts.into_inner().map_err(|error| error.to_string())?;
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    let row =
        |what: &str, target, value: f64, note: String| Row::new(format!("crash: {what}"), target, Some(value), note);
    Ok(vec![
        row("kills", Target::Fact, f64::from(kills), format!("after {} to {} ms each", LIFE_MS.0, LIFE_MS.1)),
        row("uploads answered with 202", Target::Least(1.0), promised.len() as f64, "distinct images".into()),
        row("of those lost or not done", Target::Most(0.0), lost.len() as f64, first(&lost)),
        row("outputs missing or in part", Target::Most(0.0), partial.len() as f64, first(&partial)),
        row("outputs told by two jobs", Target::Most(0.0), twice as f64, String::new()),
        row("outputs beyond those told", Target::Fact, extra, "of uploads that were not answered any more".into()),
        row("temporary files", Target::Fact, leftovers as f64, "all younger than the sweep lets them be".into()),
        row("attempts per job", Target::Fact, attempts as f64 / promised.len().max(1) as f64, String::new()),
        row("start, median", Target::Fact, crate::compare::median(&times), "ms until healthy".into()),
    ])
}

/// The names of all files below a folder; none where there is no folder.
fn files(folder: &Path) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(format!("cannot read {}: {error}", folder.display())),
    };
    for entry in entries.flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(found)
}
