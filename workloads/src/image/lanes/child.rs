//! The lane's side of one worker process: start it, give it a task, believe nothing, end it.
//!
//! A worker has just decoded a stranger's bytes with somebody's C, so it may be the stranger's by now. It cannot hang
//! the lane (every wait has an end, and then the kernel ends the worker), exhaust it (answers, files, memory and
//! processor time are bounded by the kernel), or confuse it (files are the lane's own, sealed before they are looked
//! at, and what is claimed of them is checked). What it can do is answer with a wrong picture, for its own task and for
//! those that it is given later; `tasks_per_worker = 1` is for whoever minds that.

use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{
    MemfdFlags, OFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fcntl_getfl, fcntl_setfl, memfd_create,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use super::cpu::Options;
use super::wire::{
    ANSWER_BYTES_MAX, Answer, Claim, ORDER_BYTES_MAX, OUTPUTS_MAX, Order, Setup, TaskOrder, Walls, recv_answer, send,
    send_bytes, tame,
};
use super::worker::{COMMAND, cancelled, timed_out};
use super::{Done, Made, Task, Told};
use crate::image::fault::{Fault, Kind};
use crate::image::header::{self, Header, Limits, Progress};
use crate::image::pipeline::Timings;
use crate::image::recipe::Recipe;

/// How long a worker may take to start; it takes some milliseconds.
const START_MAX: Duration = Duration::from_secs(10);
/// How often a waiting lane looks whether its task was stopped.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long a worker that hung up may take to be dead. The kernel closes its socket a moment before it can be reaped.
const DYING_MAX: Duration = Duration::from_millis(500);
/// Address space beyond what is counted: gaps between the allocator's blocks, and its reserve.
const SLACK_BYTES: u64 = 64 << 20;
/// Processor time beyond what is counted; the limit is in whole seconds.
const SLACK_SECONDS: u64 = 2;
/// Bytes of last words that are kept.
const LAST_WORDS_MAX: usize = 4096;
/// Bytes that a worker may write to its standard error during a task; one that writes more is ended.
const WORDS_MAX: usize = 1 << 20;
/// Bytes of an output that are looked at first for its header, which is nearly always enough.
const HEAD_BYTES: u64 = 4096;
/// And at most: a profile or a copyright may stand before the size.
const HEAD_BYTES_MAX: u64 = 4 << 20;

/// A worker process and its descriptors.
#[derive(Debug)]
pub(super) struct Child {
    process: std::process::Child,
    socket: OwnedFd,
    /// Its standard error; `None` once it closed that.
    words: Option<PipeReader>,
    /// The last that was heard there during this task, and how much it was.
    heard: Vec<u8>,
    heard_bytes: usize,
    /// `/proc/PID/status`, opened while that was still allowed.
    status: File,
    /// `/proc/PID/clear_refs`, where the kernel has it.
    peak: Option<File>,
    /// Address space before the first task.
    start_bytes: u64,
    /// Resident after the last task.
    resident_bytes: u64,
    /// At most the processor time that it had.
    spent: Duration,
    tasks: u32,
    walls: Walls,
}

/// How a task ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The worker is as good as before.
    Kept(Result<Done, Fault>),
    /// The worker is not to be used again.
    Lost(Fault),
    /// The worker was gone before it saw the task, which did nothing to deserve it.
    NotBegun,
}

impl Child {
    /// Starts a worker and waits until it has shut itself in.
    ///
    /// # Errors
    /// A sentence.
    pub fn start(options: &Options) -> Result<Child, String> {
        let program = options.program.display();
        let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|error| failed("a socket pair")(error.into()))?;
        let (words, their_words) = io::pipe().map_err(failed("a pipe"))?;
        fcntl_setfl(&words, OFlags::NONBLOCK).map_err(|error| failed("a pipe")(error.into()))?;
        // Whatever some library opened without the flag. Where the kernel cannot, the worker itself looks and refuses.
        let _worker_looks = annulus_engine::keep_descriptors_from_programs();
        let mut command = Command::new(&options.program);
        command.arg(COMMAND).env_clear().current_dir("/").process_group(0);
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::from(their_words));
        let process = command.spawn().map_err(|error| format!("{program} could not be started: {error}"))?;
        drop(command);
        let about = format!("/proc/{}", process.id());
        let status = File::open(format!("{about}/status"));
        let peak = OpenOptions::new().write(true).open(format!("{about}/clear_refs")).ok();
        let mut child = Child {
            process,
            socket,
            words: Some(words),
            heard: Vec::new(),
            heard_bytes: 0,
            status: status.map_err(failed("/proc"))?,
            peak,
            start_bytes: 0,
            resident_bytes: 0,
            spent: Duration::ZERO,
            tasks: 0,
            walls: Walls { landlock: false, seccomp: false },
        };
        child.set_up(options)?;
        Ok(child)
    }

    fn set_up(&mut self, options: &Options) -> Result<(), String> {
        let setup = Setup {
            parent: std::process::id(),
            required: options.required,
            output_bytes_max: options.output_bytes_max,
            pool_bytes_max: options.pool_bytes_max,
            yields: options.yields,
            marks: options.marks.heads().cloned().collect(),
        };
        let marks = options.marks.descriptors();
        send(self.socket.as_fd(), &Order::Setup(setup), &marks).map_err(|error| self.silent(&error.to_string()))?;
        let until = Instant::now() + START_MAX;
        while !self.wait(START_MAX).map_err(|error| error.to_string())? {
            if Instant::now() >= until {
                return Err(self.silent("no answer"));
            }
        }
        match recv_answer(&self.socket, &mut [0; ANSWER_BYTES_MAX]) {
            Ok(Some(Answer::Ready(walls))) => self.walls = walls,
            Ok(Some(Answer::Refused(sentence))) => return Err(tame(&sentence)),
            Ok(Some(_)) => return Err(self.silent("another answer than expected")),
            Ok(None) => return Err(self.silent("it hung up")),
            Err(error) => return Err(self.silent(&error.to_string())),
        }
        self.start_bytes = self.memory().address;
        self.spent = options.worker_start_max;
        Ok(())
    }

    /// A worker that did not start.
    fn silent(&mut self, why: &str) -> String {
        let (status, _) = self.dead();
        let words = self.last_words();
        let ended = status.map_or_else(|| "it still runs".to_owned(), |status| status.to_string());
        format!("a worker did not start: {why}; {ended}; {words}")
    }

    /// Which walls stand around it.
    pub fn walls(&self) -> Walls {
        self.walls
    }

    /// Whether it may be given another task.
    pub fn is_fit(&self, options: &Options) -> bool {
        self.tasks < options.tasks_per_worker && self.resident_bytes <= options.resident_bytes_max
    }

    /// Gives it a task and waits for the end.
    pub fn run(&mut self, task: &Task, options: &Options) -> Ended {
        // Before the worker hears of it: whoever stops in time by its own clock must not be early by ours.
        let started = Instant::now();
        match self.begin(task, options) {
            Ok(files) => self.finish(task, &files, options, started),
            Err(ended) => *ended,
        }
    }

    /// Sends the task; the files of its outputs.
    fn begin(&mut self, task: &Task, options: &Options) -> Result<Vec<File>, Box<Ended>> {
        self.tasks += 1;
        let refused = |fault| Box::new(Ended::Kept(Err(fault)));
        if task.recipes.is_empty() || task.recipes.len() > OUTPUTS_MAX {
            let sentence = format!("{} outputs; at least 1 and at most {OUTPUTS_MAX} are possible", task.recipes.len());
            return Err(refused(Fault::new(Kind::BadRequest, sentence)));
        }
        check_input(&task.input).map_err(refused)?;
        let order = Order::Task(TaskOrder {
            task: u64::from(self.tasks),
            len: task.len,
            time_max: task.time_max,
            header: std::borrow::Cow::Borrowed(&task.header),
            recipes: std::borrow::Cow::Borrowed(&task.recipes),
        });
        let text =
            serde_json::to_vec(&order).map_err(|error| refused(Fault::new(Kind::BadRequest, error.to_string())))?;
        if text.len() > ORDER_BYTES_MAX {
            let sentence = format!("the recipes need {} bytes; at most {ORDER_BYTES_MAX} are possible", text.len());
            return Err(refused(Fault::new(Kind::BadRequest, sentence)));
        }
        let files = task.recipes.iter().map(|_| Output::new()).collect::<io::Result<Vec<Output>>>();
        let files = files.map_err(|error| refused(Fault::new(Kind::Io, format!("a memory file: {error}"))))?;
        // An honest worker has nothing to say before it is asked.
        if self.wait(Duration::ZERO).unwrap_or(true) {
            return Err(Box::new(Ended::NotBegun));
        }
        // Words of earlier tasks are no last words.
        while self.listen() {}
        self.heard.clear();
        self.heard_bytes = 0;
        self.limit(task, options).map_err(|_| Box::new(Ended::NotBegun))?;
        let descriptors: Vec<BorrowedFd<'_>> =
            std::iter::once(task.input.as_fd()).chain(files.iter().map(|file| file.theirs.as_fd())).collect();
        match send_bytes(self.socket.as_fd(), &text, &descriptors) {
            Ok(()) => Ok(files.into_iter().map(|file| file.ours).collect()),
            // Also when its queue is full, which an honest worker's never is.
            Err(_) => Err(Box::new(Ended::NotBegun)),
        }
    }

    /// What the kernel holds it to, whatever becomes of it.
    fn limit(&mut self, task: &Task, options: &Options) -> io::Result<()> {
        let pid = self.pid();
        let bytes = [self.start_bytes, options.pool_bytes_max, task.len, task.memory_bytes, SLACK_BYTES];
        let bytes = bytes.into_iter().fold(0u64, u64::saturating_add);
        // Every task's processor time is at most the time that it took.
        let seconds = (self.spent + task.time_max + options.grace).as_secs() + SLACK_SECONDS;
        for (resource, limit) in [(Resource::As, bytes), (Resource::Cpu, seconds)] {
            prlimit(pid, resource, Rlimit { current: Some(limit), maximum: None })?;
        }
        if let Some(peak) = &self.peak {
            // "5" sets the peak to what is resident now (proc_pid_clear_refs(5)).
            peak.write_at(b"5", 0)?;
        }
        Ok(())
    }

    fn finish(&mut self, task: &Task, files: &[File], options: &Options, started: Instant) -> Ended {
        let mut until = started + task.time_max + options.grace;
        let mut over = timed_out(task.time_max);
        let mut told = false;
        loop {
            if !told && task.stop.is_stopped() {
                told = true;
                (until, over) = (Instant::now() + options.grace, cancelled());
                // Where this cannot be said, the grace ends it.
                let _grace = send(self.socket.as_fd(), &Order::Stop { task: u64::from(self.tasks) }, &[]);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ended::Lost(over);
            }
            match self.wait(left.min(LOOK_EVERY)) {
                Ok(false) => continue,
                Ok(true) => break,
                Err(error) => return Ended::Lost(Fault::new(Kind::Crashed, format!("its worker: {error}"))),
            }
        }
        let answer = recv_answer(&self.socket, &mut [0; ANSWER_BYTES_MAX]);
        self.spent += started.elapsed();
        // Asked once: the kernel takes longer to tell than anything else here does.
        let memory = self.memory();
        self.resident_bytes = memory.resident;
        let wrong = |why: &str| Ended::Lost(Fault::new(Kind::Crashed, format!("its worker lied: {why}")));
        let number = u64::from(self.tasks);
        match answer {
            Ok(Some(Answer::Done { task: of, outputs, timings })) if of == number => {
                match checked(task, files, &outputs, timings, memory.peak, options) {
                    Ok(done) => Ended::Kept(Ok(done)),
                    Err(why) => wrong(&why),
                }
            }
            Ok(Some(Answer::Fault { task: of, fault })) if of == number => {
                let fault = Fault::new(fault.kind, tame(&fault.detail));
                let in_time = started.elapsed() < task.time_max;
                match fault.kind {
                    Kind::Stopped if in_time && !told => wrong("nobody stopped it"),
                    Kind::Stopped => Ended::Kept(Err(over)),
                    Kind::Crashed => wrong("it still runs"),
                    _ => Ended::Kept(Err(fault)),
                }
            }
            Ok(Some(Answer::Panicked { task: of, sentence })) if of == number => {
                Ended::Lost(Fault::new(Kind::Crashed, format!("the pipeline panicked: {}", tame(&sentence))))
            }
            Ok(Some(_)) => wrong("an answer to another question"),
            Ok(None) => Ended::Lost(self.post_mortem(task)),
            Err(error) => wrong(&tame(&error.to_string())),
        }
    }

    /// Why a worker died, from how it died and what it said last. It can fake both; all that this wins is the wrong
    /// word in the fault, and every word here counts as an attempt.
    fn post_mortem(&mut self, task: &Task) -> Fault {
        let (status, ours) = self.dead();
        let words = self.last_words();
        let Some(status) = status else {
            return Fault::new(Kind::Crashed, "its worker hung up and would not end".to_owned());
        };
        let crashed = |what: String| Fault::new(Kind::Crashed, format!("its worker {what}; {words}"));
        let signal = status.signal().and_then(Signal::from_named_raw);
        match signal {
            Some(Signal::ABORT) if words.contains("memory allocation of") => {
                let limit = task.memory_bytes;
                Fault::new(Kind::Memory, format!("it needed more memory than the {limit} bytes it was given: {words}"))
            }
            Some(Signal::KILL) if ours => crashed("hung up and was ended".to_owned()),
            Some(Signal::KILL) => Fault::new(
                Kind::Memory,
                "its worker was killed from outside, most likely for want of memory".to_owned(),
            ),
            Some(Signal::XCPU) => timed_out(task.time_max),
            Some(Signal::SYS) => crashed("made a system call that the sandbox forbids".to_owned()),
            Some(Signal::XFSZ) => crashed("wrote beyond the size of an output".to_owned()),
            Some(signal) => crashed(format!("died of signal {}", signal.as_raw())),
            None => crashed(format!("ended by itself ({status})")),
        }
    }

    /// Waits for the end of a worker that hung up, and makes it if need be; whether we made it.
    fn dead(&mut self) -> (Option<ExitStatus>, bool) {
        if let Some(status) = self.reap(DYING_MAX) {
            return (Some(status), false);
        }
        self.kill();
        (self.reap(DYING_MAX), true)
    }

    /// Has the kernel end it, without waiting for that.
    pub fn kill(&mut self) {
        // Fails only for one that is dead and reaped.
        let _dead = self.process.kill();
    }

    fn reap(&mut self, most: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + most;
        loop {
            match self.process.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(1)),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// Waits for the end of one that was killed, as long as it takes: the kernel may still be reading for it.
    pub fn bury(mut self) {
        self.kill();
        // Fails only for one that is reaped.
        let _reaped = self.process.wait();
    }

    /// What it wrote to its standard error during this task, the end of it, as one line.
    fn last_words(&mut self) -> String {
        while self.listen() {}
        match self.heard.is_empty() {
            true => "it said nothing".to_owned(),
            false => tame(&String::from_utf8_lossy(&self.heard)),
        }
    }

    /// Takes in what it wrote to its standard error; whether there may be more. The pipe must not fill up, or a
    /// codec that warns a lot would wait for ever.
    fn listen(&mut self) -> bool {
        let mut words = [0; LAST_WORDS_MAX];
        match self.words.as_mut().map(|pipe| pipe.read(&mut words)) {
            Some(Ok(len @ 1..)) => {
                self.heard_bytes += len;
                self.heard.extend_from_slice(&words[..len]);
                self.heard.drain(..self.heard.len().saturating_sub(LAST_WORDS_MAX));
                self.heard_bytes <= WORDS_MAX
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => false,
            Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => true,
            Some(Ok(_) | Err(_)) | None => {
                self.words = None;
                false
            }
        }
    }

    /// Waits until the worker answers; false when the time is over.
    ///
    /// # Errors
    /// When it says too much beside.
    fn wait(&mut self, most: Duration) -> io::Result<bool> {
        let time = Timespec { tv_sec: most.as_secs() as i64, tv_nsec: i64::from(most.subsec_nanos()) };
        let mut watched = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&self.socket, PollFlags::empty())];
        let count = match &self.words {
            Some(words) => {
                watched[1] = PollFd::new(words, PollFlags::IN);
                2
            }
            None => 1,
        };
        match poll(&mut watched[..count], Some(&time)) {
            Err(rustix::io::Errno::INTR) => return Ok(false),
            polled => polled?,
        };
        let [answers, speaks] = watched.map(|watched| !watched.revents().is_empty());
        if speaks && count == 2 {
            self.listen();
        }
        if self.heard_bytes > WORDS_MAX {
            return Err(io::Error::other(format!("it wrote more than {WORDS_MAX} bytes to its standard error")));
        }
        Ok(answers)
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.process.id() as i32)
    }

    /// What the kernel says of its memory: it is told there, not by the worker, and counts what C allocates, too.
    fn memory(&self) -> Memory {
        let mut text = [0; 4096];
        let len = self.status.read_at(&mut text, 0).unwrap_or(0);
        Memory::read(&String::from_utf8_lossy(&text[..len]))
    }
}

/// Bytes of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Memory {
    address: u64,
    peak: u64,
    resident: u64,
}

impl Memory {
    /// Reads `/proc/PID/status` (proc_pid_status(5)). Of a dead process nothing is told, and all is 0.
    fn read(status: &str) -> Memory {
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib =
                line.and_then(|line| line.trim().strip_suffix("kB")).and_then(|kib| kib.trim().parse::<u64>().ok());
            kib.map_or(0, |kib| kib << 10)
        };
        Memory { address: bytes("VmSize:"), peak: bytes("VmHWM:"), resident: bytes("VmRSS:") }
    }
}

/// The file of an output.
struct Output {
    /// For us to read, at its start, whatever the worker does with its own.
    ours: File,
    /// For the worker to write, and for nothing else: such a descriptor cannot be mapped.
    theirs: File,
}

impl Output {
    fn new() -> io::Result<Output> {
        let ours = memory_file()?;
        let theirs = OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", ours.as_raw_fd()))?;
        Ok(Output { ours, theirs })
    }
}

/// A file in memory that can be sealed.
pub(super) fn memory_file() -> io::Result<File> {
    const NAME: &str = "annulus-image";
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Never a program. Linux before 6.3 does not know the flag.
    match memfd_create(NAME, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(rustix::io::Errno::INVAL) => Ok(File::from(memfd_create(NAME, flags)?)),
        made => Ok(File::from(made?)),
    }
}

/// Seals a memory file: its bytes and its length are what they are.
pub(super) fn seal(file: &File) -> io::Result<()> {
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    Ok(fcntl_add_seals(file, seals)?)
}

/// Checks what the worker claims to have made.
fn checked(
    task: &Task,
    files: &[File],
    claims: &[Claim],
    timings: Timings,
    peak_bytes: u64,
    options: &Options,
) -> Result<Done, String> {
    if claims.len() != files.len() {
        return Err(format!("{} outputs instead of {}", claims.len(), files.len()));
    }
    let mut outputs: Vec<Option<Made>> = files.iter().map(|_| None).collect();
    for claim in claims {
        let (Some(recipe), Some(file)) = (task.recipes.get(claim.index), files.get(claim.index)) else {
            return Err(format!("an output number {}", claim.index));
        };
        if outputs[claim.index].is_some() {
            return Err(format!("output {} twice", claim.index));
        }
        outputs[claim.index] = Some(take(claim, recipe, file, options.output_bytes_max)?);
    }
    let outputs: Vec<Made> = outputs.into_iter().flatten().collect();
    // The files' pages belong to no process.
    let peak_bytes = peak_bytes + outputs.iter().map(|output| output.len).sum::<u64>();
    Ok(Done { outputs, timings, peak_bytes, told: Told::CPU, share: None })
}

/// Seals an output, and checks what was claimed of it.
pub(super) fn take(claim: &Claim, recipe: &Recipe, file: &File, output_bytes_max: u64) -> Result<Made, String> {
    seal(file).map_err(|error| format!("an output cannot be sealed: {error}"))?;
    let len = file.metadata().map_err(|error| format!("an output cannot be looked at: {error}"))?.len();
    if len != claim.len || len > output_bytes_max {
        return Err(format!("an output of {len} bytes that should have {}", claim.len));
    }
    if !claim.format.is_output() || recipe.format.is_some_and(|format| format != claim.format) {
        return Err(format!("an output in {}", claim.format.name()));
    }
    let header = read_header(file, len, output_bytes_max)?;
    if (header.format, header.width, header.height) != (claim.format, claim.width, claim.height) {
        let Header { format, width, height, .. } = header;
        return Err(format!("an output that is a {} of {width} x {height} pixels", format.name()));
    }
    if !claim.placeholders.answer(recipe) {
        return Err("placeholders that were not asked for, or are none".to_owned());
    }
    let file = file.try_clone().map_err(|error| format!("an output's descriptor: {error}"))?;
    let Claim { format, width, height, .. } = *claim;
    let (name, placeholders) = (recipe.name.clone(), claim.placeholders.clone());
    Ok(Made { name, format, width, height, file, len, placeholders })
}

/// What an output says of itself: read as a stranger's upload is.
fn read_header(file: &File, len: u64, output_bytes_max: u64) -> Result<Header, String> {
    // What compresses well may be ours, and how large it is was asked for.
    let limits = Limits {
        bytes_max: output_bytes_max,
        pixels_max: u64::MAX,
        side_max: u32::MAX,
        pixels_per_byte_max: u32::MAX,
        ..Limits::DEFAULT
    };
    let mut bytes = HEAD_BYTES.min(len);
    loop {
        let mut head = vec![0; bytes as usize];
        file.read_exact_at(&mut head, 0).map_err(|error| format!("an output cannot be read: {error}"))?;
        match header::read(&head, Some(len), &limits).map_err(|fault| format!("an output that is none: {fault}"))? {
            Progress::Header(header) => return Ok(header),
            Progress::NeedMore { bytes: more, .. } if more > bytes && more <= HEAD_BYTES_MAX.min(len) => bytes = more,
            Progress::NeedMore { .. } => return Err("an output whose header has no end".to_owned()),
        }
    }
}

/// An input is for reading: a worker that could write to an original could change what others are given.
fn check_input(input: &File) -> Result<(), Fault> {
    let mode = fcntl_getfl(input).map_err(|error| Fault::new(Kind::Io, format!("the original: {error}")))?;
    let is_sealed = || fcntl_get_seals(input).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
    if mode & OFlags::RWMODE == OFlags::RDONLY || is_sealed() {
        return Ok(());
    }
    Err(Fault::new(Kind::Io, "the original was opened for writing, and a worker is given none such"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::image::format::Format;
    use crate::image::pipeline::placeholder::Placeholders;

    fn written(bytes: &[u8]) -> Output {
        let output = Output::new().unwrap();
        (&output.theirs).write_all(bytes).unwrap();
        output
    }

    fn claim(len: u64) -> Claim {
        Claim { index: 0, format: Format::Png, width: 3, height: 2, len, placeholders: Placeholders::default() }
    }

    fn png() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 3, 2);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.write_header().unwrap().write_image_data(&[7; 6]).unwrap();
        bytes
    }

    #[test]
    fn an_output_is_sealed_and_read_from_its_start() {
        let png = png();
        let output = written(&png);
        let mut made = take(&claim(png.len() as u64), &Recipe::named("a"), &output.ours, 1000).unwrap();
        let mut bytes = Vec::new();
        made.file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, png);
        assert!((&output.theirs).write_all(b"more").is_err());
        assert!(output.theirs.set_len(1).is_err());
        let mut byte = [0];
        assert!((&output.theirs).read(&mut byte).is_err(), "a worker reads its output");
        assert!(fcntl_get_seals(&made.file).unwrap().contains(SealFlags::WRITE | SealFlags::SEAL));
    }

    #[test]
    fn claims_are_checked() {
        let mut recipe = Recipe::named("a");
        let png = png();
        let len = png.len() as u64;
        let says = |claim: Claim, recipe: &Recipe| take(&claim, recipe, &written(&png).ours, 1000).unwrap_err();
        assert!(says(claim(len + 1), &recipe).contains("bytes"));
        assert!(says(Claim { format: Format::Jpeg, ..claim(len) }, &recipe).contains("is a png"));
        assert!(says(Claim { format: Format::Gif, ..claim(len) }, &recipe).contains("in gif"));
        assert!(says(Claim { width: 0, ..claim(len) }, &recipe).contains("3 x 2"));
        assert!(says(Claim { height: u32::MAX, ..claim(len) }, &recipe).contains("3 x 2"));
        assert!(take(&claim(len), &recipe, &written(&png).ours, len - 1).is_err());
        for junk in [&b""[..], b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff", &[0; 9000]] {
            let claim = Claim { len: junk.len() as u64, ..claim(len) };
            assert!(take(&claim, &recipe, &written(junk).ours, 10_000).unwrap_err().contains("none"));
        }
        // Words for a document that nobody asked for, and none where somebody did.
        let blurhash = Some("00HB}M".to_owned());
        let placeholders = Placeholders { thumbhash: None, blurhash };
        assert!(says(Claim { placeholders, ..claim(len) }, &recipe).contains("placeholders"));
        recipe.thumbhash = true;
        assert!(says(claim(len), &recipe).contains("placeholders"));
        recipe.format = Some(Format::Webp);
        assert!(says(claim(len), &recipe).contains("in png"));
    }

    #[test]
    fn inputs_are_not_for_writing() {
        let file = memory_file().unwrap();
        assert!(check_input(&file).is_err());
        seal(&file).unwrap();
        check_input(&file).unwrap();
        check_input(&File::open("/dev/null").unwrap()).unwrap();
    }

    #[test]
    fn the_kernels_words_are_read() {
        let text = "Name:\tx\nVmPeak:\t  9 kB\nVmSize:\t   8 kB\nVmHWM:\t    7 kB\nVmRSS:\t    6 kB\nThreads:\t1\n";
        assert_eq!(Memory::read(text), Memory { address: 8 << 10, peak: 7 << 10, resident: 6 << 10 });
        assert_eq!(Memory::read("State:\tZ (zombie)\n"), Memory::default());
    }
}
