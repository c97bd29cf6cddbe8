//! The service under uploads: fifty at a time, then more than it can carry.

use super::photos;
use super::server::{Server, check_outputs, ended, get, marked, offer, upload};
use crate::compare::median;
use crate::ground::Ground;
use crate::report::{Row, Target};
use crate::sampler::Sample;
use crate::scenario::Settings;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

/// Uploads at a time, in the owner's case.
const UPLOADS: usize = 50;
/// How long all of them may take.
const ALL_MAX: Duration = Duration::from_secs(300);
/// What the answer may take, of the disk's own time.
const DISK_TIMES: f64 = 3.0;
/// Load of the overload, of what the service carries.
const OVERLOAD: f64 = 4.0;
/// Marks of the queue during the overload, in seconds of waiting: far lower than by default, so that a short run meets
/// both.
const OVERLOAD_MARKS: &str = "delayed_after_seconds = 2\nrefused_after_seconds = 5\n";
/// Uploads that wait for their end at once while the best is looked for.
const BEST_AT_ONCE: usize = 8;

fn percentile(values: &[f64], of: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (of / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// Fifty uploads of about 5 MB at once: who is answered when, what it takes, and whether all are there.
///
/// # Errors
/// A sentence: the service could not be started.
pub fn seed_target(settings: &Settings) -> Result<Vec<Row>, String> {
    let ground = Ground::new("image")?;
    let photo = photos::all(&ground.folder)?.into_iter().find(|photo| !photo.progressive).ok_or("no baseline photo")?;
    let bytes = std::fs::read(&photo.path).map_err(|error| format!("cannot read {}: {error}", photo.path.display()))?;
    let uploads = settings.sockets.unwrap_or(UPLOADS);
    let disk = disk_ms(&ground.folder, &bytes, uploads)?;
    let server = Server::start(&ground.folder.join("data"), "")?;
    let (address, before) = (server.address, Sample::of_tree(server.pid())?);
    let peak = Peak::watch(server.pid());
    let gate = Arc::new(Barrier::new(uploads));
    let bytes = Arc::new(bytes);
    let started = Instant::now();
    let threads: Vec<_> = (0..uploads)
        .map(|number| {
            let (gate, bytes) = (gate.clone(), bytes.clone());
            std::thread::spawn(move || {
                let image = marked(&bytes, number as u64);
                gate.wait();
                let answer = upload(address, "web", &image)?;
                let id = answer.document()["id"].as_str().unwrap_or_default().to_owned();
                if answer.status != 202 {
                    return Err(format!("status {}: {}", answer.status, String::from_utf8_lossy(&answer.body)));
                }
                let document = ended(address, &id, ALL_MAX)?;
                let outputs = check_outputs(address, &document)?;
                let finished = document["state"] == "done" && outputs == 3;
                Ok((answer.waited.as_secs_f64() * 1e3, finished))
            })
        })
        .collect();
    let results: Vec<Result<(f64, bool), String>> =
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a client panicked".into()))).collect();
    let took = started.elapsed().as_secs_f64();
    let peak = peak.stop();
    let after = Sample::of_tree(server.pid())?;
    let waited: Vec<f64> = results.iter().flatten().map(|(ms, _)| *ms).collect();
    let finished = results.iter().flatten().filter(|(_, finished)| *finished).count();
    let first = results.iter().find_map(|result| result.as_ref().err()).cloned().unwrap_or_default();
    let budget = server.figure("annulus_image_memory_budget_bytes").unwrap_or(0.0);
    let own = get(address, "/v1/figures", &[])?.document()["accept_us"].clone();
    let own = |percentile: &str| own[percentile].as_f64().unwrap_or(0.0) / 1e3;
    let name = format!("{uploads} uploads at once");
    let row =
        |what: &str, target, value: f64, note: String| Row::new(format!("{name}: {what}"), target, Some(value), note);
    let (p99, disk_p99) = (percentile(&waited, 99.0), percentile(&disk, 99.0));
    Ok(vec![
        row("finished", Target::Least(uploads as f64), finished as f64, format!("{}; {first}", photo.note())),
        row("time until all were done", Target::Fact, took, "s".into()),
        row("images per second", Target::Fact, finished as f64 / took, "three outputs each".into()),
        row("CPU per image", Target::Fact, (after.cpu_s - before.cpu_s) * 1e3 / finished.max(1) as f64, "ms".into()),
        row("last byte to 202, p50", Target::Fact, median(&waited), format!("ms; disk's own {:.1}", median(&disk))),
        row("last byte to 202, p99", Target::Fact, p99, format!("ms; disk's own {disk_p99:.1}")),
        row("p99 of the disk's own time", Target::Most(DISK_TIMES), p99 / disk_p99, "as many files at once".into()),
        row(
            "last byte read to job in the queue, p50",
            Target::Fact,
            own("p50"),
            "ms; the service's own account, which leaves out what waits in sockets".into(),
        ),
        row("last byte read to job in the queue, p99", Target::Fact, own("p99"), "ms".into()),
        row(
            "RSS at the peak",
            Target::Most(budget / 1e6),
            peak / 1e6,
            "MB, workers included; target: the budget".into(),
        ),
    ])
}

/// What the disk itself takes to make as many files of these bytes durable at once, from the last byte written: data,
/// name and directory.
fn disk_ms(folder: &Path, bytes: &[u8], count: usize) -> Result<Vec<f64>, String> {
    let folder = folder.join("disk");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let gate = Barrier::new(count);
    let times = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for number in 0..count {
            let (gate, times, folder) = (&gate, &times, &folder);
            scope.spawn(move || {
                gate.wait();
                let written = || -> std::io::Result<f64> {
                    let (temporary, path) = (folder.join(format!("{number}.part")), folder.join(number.to_string()));
                    let mut file = std::fs::File::create(&temporary)?;
                    file.write_all(bytes)?;
                    let last = Instant::now();
                    file.sync_data()?;
                    std::fs::rename(&temporary, &path)?;
                    std::fs::File::open(folder)?.sync_all()?;
                    Ok(last.elapsed().as_secs_f64() * 1e3)
                };
                times.lock().expect("nobody panics with it").push(written());
            });
        }
    });
    let times = times.into_inner().map_err(|error| error.to_string())?;
    times.into_iter().collect::<std::io::Result<Vec<f64>>>().map_err(|error| format!("the disk: {error}"))
}

/// The largest resident set of a process and its children, looked at again and again.
struct Peak {
    stop: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Peak {
    fn watch(pid: u32) -> Peak {
        let (stop, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, peak) = (stop.clone(), most.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Ok(sample) = Sample::of_tree(pid) {
                    peak.fetch_max(sample.rss, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Peak { stop, most, thread }
    }

    fn stop(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        let _it_only_reads = self.thread.join();
        self.most.load(Ordering::Relaxed) as f64
    }
}

/// What became of uploads during the overload.
#[derive(Default)]
struct Tally {
    accepted: AtomicU64,
    delayed: AtomicU64,
    refused: AtomicU64,
    other: AtomicU64,
    retry_after: Mutex<Vec<f64>>,
}

/// Four times what the service carries: it says so, and goes on at full speed. Clients ask before they send the body: the
/// generator's own copying would take a good part of a small machine otherwise.
///
/// # Errors
/// A sentence: the service could not be started, or is gone.
pub fn overload(settings: &Settings) -> Result<Vec<Row>, String> {
    let ground = Ground::new("image")?;
    let photo = photos::all(&ground.folder)?.into_iter().find(|photo| !photo.progressive).ok_or("no baseline photo")?;
    let bytes = std::fs::read(&photo.path).map_err(|error| format!("cannot read {}: {error}", photo.path.display()))?;
    let server = Server::start(&ground.folder.join("data"), OVERLOAD_MARKS)?;
    let (address, seconds) = (server.address, settings.seconds.max(5.0));
    let numbers = AtomicU64::new(0);
    let done = |server: &Server| server.figure("annulus_image_lane_works_total").ok_or("the service is gone");
    let closed = |until: Instant| {
        std::thread::scope(|scope| {
            for _ in 0..BEST_AT_ONCE {
                scope.spawn(|| {
                    while Instant::now() < until {
                        let image = marked(&bytes, numbers.fetch_add(1, Ordering::Relaxed));
                        let answer = upload(address, "web", &image);
                        let id = answer.ok().and_then(|answer| answer.document()["id"].as_str().map(str::to_owned));
                        let _counted_by_the_service = id.map(|id| ended(address, &id, ALL_MAX));
                    }
                });
            }
        });
    };
    let (before, started) = (done(&server)?, Instant::now());
    closed(started + Duration::from_secs_f64(seconds));
    let best = (done(&server)? - before) / started.elapsed().as_secs_f64();
    let rate = settings.rate.unwrap_or(best * OVERLOAD);
    eprintln!("  {best:.1} images/s are the best; {rate:.1}/s follow for {seconds:.0} s");
    let tally = Tally::default();
    let (before, started) = (done(&server)?, Instant::now());
    std::thread::scope(|scope| {
        let mut due = started;
        while started.elapsed().as_secs_f64() < seconds {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due += Duration::from_secs_f64(1.0 / rate);
            let image = marked(&bytes, numbers.fetch_add(1, Ordering::Relaxed));
            let tally = &tally;
            scope.spawn(move || count(tally, offer(address, "web", &image)));
        }
    });
    let took = started.elapsed().as_secs_f64();
    let goodput = (done(&server)? - before) / took;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let waits = tally.retry_after.lock().map_err(|error| error.to_string())?.clone();
    let emptied = emptied(&server)?;
    let row =
        |what: &str, target, value: f64, note: String| Row::new(format!("overload: {what}"), target, Some(value), note);
    Ok(vec![
        row("best goodput", Target::Fact, best, format!("images/s; {}", photo.note())),
        row(
            "goodput at four times, of best",
            Target::Least(0.9),
            goodput / best.max(0.01),
            format!("{goodput:.1} images/s"),
        ),
        row("accepted", Target::Fact, count(&tally.accepted), format!("{} of them delayed", count(&tally.delayed))),
        row(
            "429 with Retry-After",
            Target::Least(1.0),
            waits.len() as f64,
            format!("of {} 429s", count(&tally.refused)),
        ),
        row("Retry-After, median", Target::Fact, median(&waits), "s".into()),
        row("time until the queue was empty", Target::Fact, emptied, "s, after the load's end".into()),
        row("anything else", Target::Most(0.0), count(&tally.other), "broken connections, other statuses".into()),
    ])
}

fn count(tally: &Tally, answer: Result<super::server::Answer, String>) {
    let add = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
    let Ok(answer) = answer else {
        add(&tally.other);
        return;
    };
    match answer.status {
        202 | 200 => {
            add(&tally.accepted);
            if answer.document()["delayed"] == true {
                add(&tally.delayed);
            }
        }
        429 => {
            add(&tally.refused);
            let after = answer.field("retry-after").and_then(|seconds| seconds.parse::<f64>().ok());
            tally.retry_after.lock().expect("nobody panics with it").extend(after);
        }
        _ => {
            add(&tally.other);
        }
    }
}

/// Seconds until nothing waits and nothing is worked on.
pub(super) fn emptied(server: &Server) -> Result<f64, String> {
    let started = Instant::now();
    while started.elapsed() < ALL_MAX {
        let left = ["annulus_image_queue_depth", "annulus_image_queue_leased"].map(|name| server.figure(name));
        if left == [Some(0.0), Some(0.0)] {
            return Ok(started.elapsed().as_secs_f64());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(format!("the queue is not empty after {ALL_MAX:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(percentile(&values, 50.0), 2.0);
        assert_eq!(percentile(&values, 99.0), 4.0);
        assert_eq!(percentile(&[], 99.0), 0.0);
    }
}
