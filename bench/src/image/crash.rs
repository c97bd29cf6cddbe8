//! The service is killed at random moments, again and again, while clients upload: nothing that was promised is missing,
//! nothing is there in part, nothing twice. What uploads that were cut off leave behind is counted.

use super::server::Server;
use super::trial::Uploads;
use crate::compare::median;
use crate::ground::Ground;
use crate::random::Random;
use crate::report::{Row, Target};
use crate::scenario::Settings;
use std::path::Path;
use std::time::{Duration, Instant};

/// The service lives between these, in milliseconds.
const LIFE_MS: (usize, usize) = (20, 600);
/// Leases end soon, so that what a dead process held comes back while the run lasts, and no job dies of its attempts.
const SETTINGS: &str = "lease_seconds = 2\nattempts_max = 100\n";
/// How long all that was promised may take in the end.
const END_MAX: Duration = Duration::from_secs(120);

/// Kills it `--rounds` times.
///
/// # Errors
/// A sentence: the service does not start again.
pub fn crash(settings: &Settings, kills: u32) -> Result<Vec<Row>, String> {
    let ground = Ground::new("image")?;
    let data = ground.folder.join("data");
    let uploads = Uploads::new(Vec::new())?;
    let (mut restarts, mut random) = (Vec::new(), Random::new(settings.rounds as u64));
    for kill in 0..kills {
        let started = Instant::now();
        let server = Server::start(&data, SETTINGS)?;
        restarts.push(started.elapsed().as_secs_f64() * 1e3);
        uploads.go_to(vec![server.address]);
        uploads.run(|_| {
            std::thread::sleep(Duration::from_millis((LIFE_MS.0 + random.below(LIFE_MS.1 - LIFE_MS.0)) as u64));
            server.kill();
        });
        if (kill + 1) % 20 == 0 {
            let (promised, sent) = (uploads.promised(), uploads.sent());
            eprintln!("  {} of {kills} kills, {promised} of {sent} uploads promised", kill + 1);
        }
    }
    let server = Server::start(&data, SETTINGS)?;
    let settled = uploads.settle(&[server.address], END_MAX);
    let leftovers = files(&data.join("temporary"))?.len() + files(&data.join("trash"))?.len();
    let outputs = files(&data.join("objects"))?.iter().filter(|name| name.ends_with(".jpeg")).count();
    let extra = outputs as f64 - settled.told as f64;
    let promised = uploads.promised();
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    let row =
        |what: &str, target, value: f64, note: String| Row::new(format!("crash: {what}"), target, Some(value), note);
    Ok(vec![
        row("kills", Target::Fact, f64::from(kills), format!("after {} to {} ms each", LIFE_MS.0, LIFE_MS.1)),
        row("uploads answered with 202", Target::Least(1.0), promised as f64, "distinct images".into()),
        row("of those lost or not done", Target::Most(0.0), settled.lost.len() as f64, first(&settled.lost)),
        row("outputs missing or in part", Target::Most(0.0), settled.partial.len() as f64, first(&settled.partial)),
        row("outputs told by two jobs", Target::Most(0.0), settled.twice as f64, String::new()),
        row("outputs beyond those told", Target::Fact, extra, "of uploads that were not answered any more".into()),
        row("temporary files", Target::Fact, leftovers as f64, "all younger than the sweep lets them be".into()),
        row("attempts per job", Target::Fact, settled.attempts as f64 / promised.max(1) as f64, String::new()),
        row("start, median", Target::Fact, median(&restarts), "ms until healthy".into()),
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
