//! One round: threads are placed and connected, then told to begin at the same moment, watched, and added up.

use super::server::{Placed, pin};
use super::tally::{Extra, Tally};
use super::worker::{Exchange, Job, Worker};
use crate::observe;
use crate::progress::Progress;
use crate::record::Round;
use crate::schedule::course::Course;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How often those who watch are told.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// Between two looks at whether the threads are done.
const NAP: Duration = Duration::from_millis(10);
/// From the last connection to the beginning.
const BREATH: Duration = Duration::from_millis(20);

/// When requests leave.
#[derive(Clone, Debug, PartialEq)]
pub enum Pace {
    /// When they are due.
    Open(Course),
    /// As soon as there is a connection for them; the course says how long, and nothing of the rate.
    Closed(Course),
}

impl Pace {
    /// How long, and what of it counts.
    pub fn course(&self) -> &Course {
        match self {
            Pace::Open(course) | Pace::Closed(course) => course,
        }
    }

    /// Whether requests wait for answers.
    pub fn is_closed(&self) -> bool {
        matches!(self, Pace::Closed(_))
    }
}

/// A side as it is loaded.
pub struct Load {
    /// How it is called.
    pub name: String,
    /// What threads share; times are set for each round.
    pub job: Job,
    /// Connections of all threads.
    pub connections: usize,
    /// Where the threads run.
    pub placed: Placed,
    /// The server's processes; none where they are unknown.
    pub server: Vec<u32>,
}

/// What a round brought.
pub struct Outcome {
    /// Its record.
    pub round: Round,
    /// What the record has no room for.
    pub extra: Extra,
    /// What was spoken.
    pub spoken: &'static str,
    /// A sentence, when the server ended.
    pub gone: Option<String>,
}

/// What a thread tells when it is ready, or why it is not.
type Ready = Result<&'static str, String>;

/// Runs one. `number` counts from 1 and is the seed, so that all sides get the same times; `began` is the record's
/// beginning.
///
/// # Errors
/// A sentence with a remedy: the server lets nobody in, or the kernel refused something.
pub fn run(
    load: &Load,
    pace: &Pace,
    number: usize,
    began: Instant,
    progress: &mut dyn Progress,
) -> Result<Outcome, String> {
    let course = pace.course();
    let ns = |seconds: f64| (seconds * 1e9) as u64;
    let mut job = load.job.clone();
    job.counted = ns(course.warm_up_s)..ns(course.warm_up_s + course.seconds);
    job.closed_until = pace.is_closed().then(|| ns(course.total_s()));
    let job = Arc::new(job);
    let threads = load.placed.threads.len().min(load.connections).max(1);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (ready, readiness) = mpsc::channel::<Ready>();
        let mut workers = Vec::with_capacity(threads);
        for place in 0..threads {
            let exchange = Arc::new(Exchange::default());
            let (begin, beginning) = mpsc::channel::<Instant>();
            let connections = load.connections / threads + usize::from(place < load.connections % threads);
            let (job, theirs, ready) = (Arc::clone(&job), Arc::clone(&exchange), ready.clone());
            let core = load.placed.threads[place];
            let handle = scope.spawn(move || -> Result<Option<Box<Tally>>, String> {
                pin(&[core]);
                let worker = Worker::new(job, theirs, (place, threads), connections);
                let prepared = worker.and_then(|mut worker| worker.prepare().map(|()| worker));
                let worker = match prepared {
                    Ok(worker) => worker,
                    Err(why) => {
                        // Whoever coordinates waits for it.
                        let _somebody_listens = ready.send(Err(why));
                        return Ok(None);
                    }
                };
                let _somebody_listens = ready.send(Ok(worker.spoken()));
                drop(ready);
                // Nobody begins where another thread was not let in.
                let Ok(start) = beginning.recv() else { return Ok(None) };
                let mut times: Box<dyn Iterator<Item = _> + Send> = match pace {
                    Pace::Open(course) => course.times(number as u64),
                    Pace::Closed(_) => Box::new(std::iter::empty()),
                };
                worker.run(start, &mut *times).map(Some)
            });
            workers.push((handle, exchange, begin));
        }
        drop(ready);
        // Ends when every thread has told.
        let readiness = readiness.iter().collect::<Result<Vec<&'static str>, String>>();
        let spoken = match readiness {
            Ok(spoken) => spoken.first().copied().unwrap_or_default(),
            Err(why) => return Err(why),
        };
        let start = Instant::now() + BREATH;
        let mut round = Round {
            at_s: start.duration_since(began).as_secs_f64(),
            warm_up_s: course.warm_up_s,
            seconds: course.seconds,
            ..Round::default()
        };
        let watcher = (!load.server.is_empty()).then(|| {
            let (from, until) = (course.warm_up_s, course.warm_up_s + course.seconds);
            let stop = &stop;
            scope.spawn(move || {
                pin(&load.placed.watchers);
                observe::watch(&load.server, start, from, until, stop)
            })
        });
        for (_, _, begin) in &workers {
            // A thread that is gone says why when it is joined.
            let _told = begin.send(start);
        }
        let mut extra = Extra::default();
        let empty = || Box::new(Tally::new(job.counted.clone()));
        let mut told = start;
        let mut seen = (0, 0);
        while workers.iter().any(|(handle, ..)| !handle.is_finished()) {
            std::thread::sleep(NAP);
            if told.elapsed() < TELL_EVERY {
                continue;
            }
            told = Instant::now();
            for (_, exchange, _) in &workers {
                if let Some(mut tally) = exchange.trade(empty) {
                    tally.drain_into(&mut round, &mut extra);
                }
            }
            let new = (extra.seen.0 - seen.0, extra.seen.1 - seen.1);
            seen = extra.seen;
            let at_s = start.elapsed().as_secs_f64();
            progress.on_interval(&load.name, number, at_s, course.total_s(), new.0, new.1, &round.latency);
        }
        stop.store(true, Ordering::Relaxed);
        for (handle, exchange, _) in workers {
            let last = handle.join().map_err(|_| "a thread of the load panicked: this is a defect of annulus-bench")?;
            for mut tally in exchange.last().into_iter().chain(last?) {
                tally.drain_into(&mut round, &mut extra);
            }
        }
        if !pace.is_closed() {
            round.offered_per_s = extra.offered as f64 / course.seconds.max(1e-9);
        }
        let watched = watcher.map(|watcher| watcher.join()).transpose();
        let watched = watched.map_err(|_| "the observer panicked: this is a defect of annulus-bench")?;
        let watched = watched.unwrap_or_default();
        round.usage = watched.usage;
        progress.on_round(&load.name, number, &round);
        Ok(Outcome { round, extra, spoken, gone: watched.gone })
    })
}
