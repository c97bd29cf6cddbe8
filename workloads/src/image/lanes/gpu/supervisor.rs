//! The thread that owns the worker: gathers jobs into batches, sends each to a free desk, and when the worker dies, hangs
//! or breaks, gives every job under way back as lost and starts another.
//!
//! ```text
//!   waiting ──(a desk is free, and the batch is full or its first job has waited)──► under way ──Done──► answered
//!      │                                                                              │
//!      └── the worker is gone: lost ◄───────────── dead, late, broken: killed, reaped ┘
//! ```
//!
//! A job is answered as lost only after the worker is dead and reaped: until then it may write into the job's berth. While
//! no worker is up none waits: a job that came just then is answered as lost, too, at the latest when the next start has ended.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::super::wire::{send, tame};
use super::breaker::{Breaker, Next};
use super::wire::{Answer, Facts, Order, PACKET_BYTES_MAX, Setup, recv_answer};
use super::worker::COMMAND;
use super::{Common, Lost, Options};
use crate::image::pipeline::Timings;

/// What is said of a job that finds no worker.
pub(super) const DOWN: &str = "the GPU lane is down";
/// What of our environment a worker sees: where the driver's libraries are, and which devices there are.
const ENVIRONMENT: [&str; 4] = ["LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HOME"];
/// The longest sleep: after it the thread looks around.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Bytes of a worker's last words that are kept.
const WORDS_MAX: usize = 2048;

/// A job in its berth, and whoever waits for it.
pub(super) struct Pending {
    pub berth: usize,
    pub since: Instant,
    pub answer: Sender<Result<Timings, Lost>>,
}

struct Sent {
    jobs: Vec<Pending>,
    at: Instant,
}

struct Worker {
    process: std::process::Child,
    socket: OwnedFd,
    words: PipeReader,
}

enum State {
    Up(Worker),
    /// To be started at this time.
    Down(Instant),
    /// None, and none to come.
    Ended,
}

pub(super) struct Supervisor {
    options: Options,
    common: Arc<Common>,
    queue: Receiver<Pending>,
    waiting: VecDeque<Pending>,
    sent: BTreeMap<u64, Sent>,
    number: u64,
    state: State,
    breaker: Breaker,
}

/// Why no worker started.
struct NoStart {
    sentence: String,
    absent: bool,
}

impl Supervisor {
    pub fn new(options: Options, common: Arc<Common>, queue: Receiver<Pending>) -> Supervisor {
        let state = State::Down(Instant::now());
        let (waiting, sent) = (VecDeque::new(), BTreeMap::new());
        let breaker = Breaker::new(options.rest);
        Supervisor { options, common, queue, waiting, sent, number: 0, state, breaker }
    }

    /// The thread's life. Tells how the first start went.
    pub fn run(mut self, told: &Sender<Result<(), String>>) {
        let first = match self.start() {
            Err(why) if why.absent => Err(why.sentence),
            Err(why) => {
                let next = self.breaker.on_fault(Instant::now());
                self.fault(next, &why.sentence);
                Ok(())
            }
            Ok(()) => Ok(()),
        };
        let is_absent = first.is_err();
        // Whoever started the lane waits for this.
        let _told = told.send(first);
        if is_absent {
            return;
        }
        while !self.common.is_ending.load(Ordering::Acquire) {
            self.start_if_due();
            self.give();
            self.wait();
            self.waiting.extend(self.queue.try_iter());
            self.hear();
            self.check_time();
            self.send_away();
        }
        self.end("the service ends");
    }

    fn start_if_due(&mut self) {
        match self.state {
            State::Down(at) if Instant::now() >= at => {}
            _ => return,
        }
        if let Err(why) = self.start() {
            let now = Instant::now();
            let next = if why.absent { self.breaker.on_absence(now) } else { self.breaker.on_fault(now) };
            self.fault(next, &why.sentence);
        }
    }

    fn start(&mut self) -> Result<(), NoStart> {
        let started = Instant::now();
        let (worker, facts) = Worker::start(&self.options, &self.common)?;
        let mut status = self.common.status();
        status.worker = Some(worker.process.id());
        crate::say!(
            "image: GPU {}: {} with {} decoder engines, nvJPEG {}, {} desks of {} MiB; up in {:?}",
            self.options.device,
            facts.name,
            facts.engines,
            facts.nvjpeg,
            facts.desks,
            facts.arena_bytes >> 20,
            started.elapsed(),
        );
        status.facts = Some(facts);
        drop(status);
        self.state = State::Up(worker);
        self.common.is_up.store(true, Ordering::Release);
        Ok(())
    }

    /// Sends batches to desks that are free.
    fn give(&mut self) {
        while let State::Up(worker) = &self.state {
            let Some(first) = self.waiting.front() else { return };
            let is_ripe =
                self.waiting.len() >= self.options.batch_max || first.since.elapsed() >= self.options.batch_wait;
            if !is_ripe || self.sent.len() >= self.options.desks {
                return;
            }
            let count = self.waiting.len().min(self.options.batch_max);
            let jobs: Vec<Pending> = self.waiting.drain(..count).collect();
            self.number += 1;
            let order = Order::Batch { number: self.number, berths: jobs.iter().map(|job| job.berth).collect() };
            let sent = send(worker.socket.as_fd(), &order, &[]);
            self.sent.insert(self.number, Sent { jobs, at: Instant::now() });
            if let Err(error) = sent {
                self.lose(&format!("its socket: {error}"));
            }
        }
    }

    /// Sleeps until a job, an answer, or something that is due.
    fn wait(&self) {
        let now = Instant::now();
        let mut until = now + SLEEP_MAX;
        if let State::Down(at) = self.state {
            until = until.min(at);
        }
        if let (Some(first), true) = (self.waiting.front(), self.sent.len() < self.options.desks) {
            until = until.min(first.since + self.options.batch_wait);
        }
        if let Some(oldest) = self.sent.values().map(|sent| sent.at).min() {
            until = until.min(oldest + self.options.batch_time_max);
        }
        let mut watched = vec![PollFd::new(&self.common.bell, PollFlags::IN)];
        if let State::Up(worker) = &self.state {
            watched.push(PollFd::new(&worker.socket, PollFlags::IN));
        }
        let left = until.saturating_duration_since(now);
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        // Interrupted or refused, the round looks at everything anyway; it comes back here.
        let _looked = poll(&mut watched, Some(&left));
        let mut count = [0; 8];
        // Nothing to read is silence.
        let _silenced = rustix::io::read(&self.common.bell, &mut count);
    }

    /// Takes answers.
    fn hear(&mut self) {
        let mut buffer = [0; PACKET_BYTES_MAX];
        while let State::Up(worker) = &self.state {
            match recv_answer(&worker.socket, &mut buffer) {
                Ok(Some(Answer::Done { number, spent_us })) => match self.sent.remove(&number) {
                    Some(sent) => self.done(sent, spent_us),
                    None => self.lose("it told of a batch that it was not given"),
                },
                Ok(Some(Answer::Broken { sentence })) => self.lose(&tame(&sentence)),
                Ok(Some(_)) => self.lose("it gave an answer that was not expected"),
                Ok(None) => self.lose("it hung up"),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => self.lose(&tame(&error.to_string())),
            }
        }
    }

    fn done(&mut self, sent: Sent, spent_us: [u64; 3]) {
        let count = sent.jobs.len().max(1) as u32;
        let spent = spent_us.map(Duration::from_micros);
        let [decode, transform, encode] = spent.map(|spent| spent / count);
        let timings = Timings { decode, transform, encode };
        let mut status = self.common.status();
        status.batches += 1;
        status.jobs += u64::from(count);
        status.spent.iter_mut().zip(spent).for_each(|(sum, spent)| *sum += spent);
        drop(status);
        for job in sent.jobs {
            // Whoever waited may be gone.
            let _unwanted = job.answer.send(Ok(timings));
        }
    }

    fn check_time(&mut self) {
        let late = self.options.batch_time_max;
        if self.sent.values().any(|sent| sent.at.elapsed() >= late) {
            self.lose(&format!("a batch took longer than the {late:?} that it may take"));
        }
    }

    /// Gives back what came while no worker is up: whoever looked just before the last one was lost.
    fn send_away(&mut self) {
        if !matches!(self.state, State::Up(_)) {
            for job in self.waiting.drain(..) {
                // Whoever waited may be gone.
                let _unwanted = job.answer.send(Err(Lost { why: DOWN.to_owned(), begun: false }));
            }
        }
    }

    /// The worker is of no use any more.
    fn lose(&mut self, why: &str) {
        let words = self.end(why);
        let next = self.breaker.on_fault(Instant::now());
        self.fault(next, &format!("the GPU's worker was lost: {why}{words}"));
    }

    /// Ends the worker, and gives back every job. Its last words.
    fn end(&mut self, why: &str) -> String {
        self.common.is_up.store(false, Ordering::Release);
        let mut words = String::new();
        if let State::Up(worker) = std::mem::replace(&mut self.state, State::Ended) {
            words = worker.end();
        }
        self.waiting.extend(self.queue.try_iter());
        let under_way = std::mem::take(&mut self.sent).into_values().flat_map(|sent| sent.jobs).map(|job| (job, true));
        for (job, begun) in under_way.chain(self.waiting.drain(..).map(|job| (job, false))) {
            // Whoever waited may be gone.
            let _unwanted = job.answer.send(Err(Lost { why: format!("the GPU's worker was lost: {why}"), begun }));
        }
        words
    }

    fn fault(&mut self, next: Next, sentence: &str) {
        self.state = State::Down(next.at);
        let mut status = self.common.status();
        status.worker = None;
        status.faults = self.breaker.total();
        status.trouble = Some(sentence.to_owned());
        let then = if next.opened { format!("; it rests for {:?}", self.options.rest) } else { String::new() };
        crate::warn!("image: {sentence}; its jobs go to the CPU{then}");
    }
}

impl Worker {
    fn start(options: &Options, common: &Common) -> Result<(Worker, Facts), NoStart> {
        let failed =
            |what: &str, error: &dyn std::fmt::Display| NoStart { sentence: format!("{what}: {error}"), absent: false };
        let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|error| failed("a socket pair", &error))?;
        let (words, their_words) = io::pipe().map_err(|error| failed("a pipe", &error))?;
        // Neither side ever waits: a full pipe takes no more words.
        for end in [words.as_fd(), their_words.as_fd()] {
            fcntl_setfl(end, OFlags::NONBLOCK).map_err(|error| failed("a pipe", &error))?;
        }
        // Whatever some library opened without the flag; where the kernel cannot, the worker gets it too.
        let _as_good_as_it_gets = annulus_engine::keep_descriptors_from_programs();
        let mut command = Command::new(&options.program);
        command.arg(COMMAND).env_clear().current_dir("/");
        command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::from(their_words));
        let process = command.spawn();
        drop(command);
        let program = options.program.display();
        let process = process.map_err(|error| NoStart {
            absent: error.kind() == io::ErrorKind::NotFound,
            ..failed(&format!("{program} could not be started"), &error)
        })?;
        let mut worker = Worker { process, socket, words };
        match worker.set_up(options, common) {
            Ok(facts) => Ok((worker, facts)),
            Err(NoStart { sentence, absent }) => {
                let words = worker.end();
                // That there is no device says everything.
                let sentence = if absent { sentence } else { format!("{sentence}{words}") };
                Err(NoStart { sentence, absent })
            }
        }
    }

    fn set_up(&mut self, options: &Options, common: &Common) -> Result<Facts, NoStart> {
        let failed = |sentence: String| NoStart {
            sentence: format!("the GPU's worker did not start: {sentence}"),
            absent: false,
        };
        let setup = Setup {
            parent: std::process::id(),
            device: options.device,
            nvjpeg: options.nvjpeg.clone(),
            desks: options.desks,
            arena_bytes: options.arena_bytes,
            berths: options.berths(),
        };
        let sent = send(self.socket.as_fd(), &Order::Setup(setup), &[common.memory.as_fd()]);
        sent.map_err(|error| failed(error.to_string()))?;
        let until = Instant::now() + options.start_time_max;
        loop {
            match recv_answer(&self.socket, &mut [0; PACKET_BYTES_MAX]) {
                Ok(Some(Answer::Ready(facts))) => return Ok(facts),
                Ok(Some(Answer::Refused { sentence, absent })) => {
                    return Err(NoStart { sentence: tame(&sentence), absent });
                }
                Ok(Some(_)) => return Err(failed("it gave another answer than expected".to_owned())),
                Ok(None) => return Err(failed("it hung up".to_owned())),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(failed(error.to_string())),
                Err(_) => {}
            }
            let left = until.saturating_duration_since(Instant::now()).min(Duration::from_millis(100));
            if left.is_zero() || common.is_ending.load(Ordering::Acquire) {
                return Err(failed(format!("no answer within {:?}", options.start_time_max)));
            }
            let left = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
            // Interrupted, it looks and comes back.
            let _looked = poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&left));
        }
    }

    /// Kills it and waits until it is dead: then it writes nowhere any more. Its last words.
    fn end(mut self) -> String {
        // Fails where it is dead already.
        let _dead = self.process.kill();
        let status = self.process.wait();
        let mut words = vec![0; WORDS_MAX];
        let len = self.words.read(&mut words).unwrap_or(0);
        let words = tame(&String::from_utf8_lossy(&words[..len]));
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        if words.is_empty() { format!(" ({status})") } else { format!(" ({status}; it said: {words})") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::lanes::gpu::wire;
    use annulus_engine::gpu::Shared;
    use crossbeam_channel::bounded;
    use rustix::event::{EventfdFlags, eventfd};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicU64};

    #[test]
    fn who_comes_while_no_worker_is_up_is_sent_away() {
        let options = Options { desks: 1, batch_max: 1, ..Options::default() };
        let (jobs, queue) = bounded(1);
        let memory = wire::memory_file(1).unwrap();
        let common = Arc::new(Common {
            mapped: Shared::map(&memory, wire::BERTH_BYTES).unwrap(),
            memory,
            free: bounded(1),
            jobs,
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap(),
            is_up: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
            pixels: AtomicU64::new(0),
            status: Mutex::default(),
        });
        let mut supervisor = Supervisor::new(options, common, queue);
        let (answer, ended) = bounded(1);
        supervisor.waiting.push_back(Pending { berth: 0, since: Instant::now(), answer });
        supervisor.give();
        supervisor.send_away();
        assert_eq!(ended.try_recv().unwrap().unwrap_err(), Lost { why: DOWN.to_owned(), begun: false });
    }
}
