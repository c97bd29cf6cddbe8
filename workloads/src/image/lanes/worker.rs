//! The worker process: `annulus image-worker`, started by the lane with one end of a socket pair as its standard input.
//!
//! It shuts itself in before it reads its first task, does one task at a time, and keeps its buffers warm between them.
//! The input is copied into such a buffer: a mapped file that somebody cuts short would be a fatal fault, and a copy of
//! five megabytes into warm memory is a millisecond.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Processor;
use super::sandbox::enclose;
use super::wire::{ANSWER_BYTES_MAX, Answer, Claim, ORDER_BYTES_MAX, Order, Setup, TaskOrder, recv_order, tame};
use crate::image::fault::{Fault, Kind};
use crate::image::pipeline::pixels::Pool;
use crate::image::pipeline::watermark::Marks;
use crate::image::pipeline::{Output, Wanted, Watch};

/// The hidden command that starts a worker.
pub const COMMAND: &str = "image-worker";
/// How often a task looks whether it was stopped: a call costs a microsecond, a strip may cost ten.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What the last panic said, and where.
static PANIC: Mutex<String> = Mutex::new(String::new());

/// A worker's life. Give its result to the system.
pub fn main(processor: &dyn Processor) -> ExitCode {
    panic::set_hook(Box::new(|panic| {
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string();
    }));
    let socket = io::stdin();
    match live(socket.as_fd(), processor) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            // Its last words; where they cannot be written there is nobody to read them.
            let _nobody_listens = writeln!(io::stderr(), "{sentence}");
            ExitCode::FAILURE
        }
    }
}

fn live(socket: BorrowedFd<'_>, processor: &dyn Processor) -> Result<(), String> {
    let mut buffer = vec![0; ORDER_BYTES_MAX];
    let by_hand = |error: io::Error| match error.raw_os_error() {
        Some(libc::ENOTSOCK) => format!("annulus image starts its {COMMAND} itself; by hand it has nobody to serve"),
        _ => error.to_string(),
    };
    let Some((len, descriptors)) = recv_order(socket, true, &mut buffer).map_err(by_hand)? else { return Ok(()) };
    let Ok(Order::Setup(setup)) = serde_json::from_slice(&buffer[..len]) else {
        return Err("the first order was not how to set up".to_owned());
    };
    // Read before the walls, where no descriptor may be open but the standard ones, and decoded behind them.
    let read = setup.marks.iter().zip(descriptors).map(|(head, file)| head.read(&File::from(file)));
    let files = read.collect::<io::Result<Vec<_>>>().map_err(|error| format!("watermarks cannot be read: {error}"))?;
    let walls = match enclose(&setup) {
        Ok(walls) => walls,
        Err(sentence) => return answer(socket, &Answer::Refused(sentence)),
    };
    let marks = setup.marks.iter().zip(&files).map(|(head, bytes)| head.decode(bytes));
    let marks = match marks.collect::<Result<Vec<_>, String>>() {
        Ok(marks) => Marks::new(marks),
        Err(sentence) => return answer(socket, &Answer::Refused(tame(&sentence))),
    };
    drop(files);
    answer(socket, &Answer::Ready(walls))?;
    let mut worker = Worker { socket, processor, marks, pool: Pool::new(setup.pool_bytes_max as usize), setup };
    while let Some((len, descriptors)) = recv_order(socket, true, &mut buffer).map_err(|error| error.to_string())? {
        match serde_json::from_slice(&buffer[..len]) {
            Ok(Order::Task(order)) => worker.run(&order, descriptors)?,
            // For a task that is done already.
            Ok(Order::Stop { .. }) => {}
            Ok(Order::Setup(_)) => return Err("it was set up twice".to_owned()),
            Err(error) => return Err(format!("an order is not understood: {error}")),
        }
    }
    Ok(())
}

/// Says one thing, in one packet. A plain write, so that the sandbox needs no call that could pass a descriptor.
fn answer(socket: BorrowedFd<'_>, answer: &Answer) -> Result<(), String> {
    let text = serde_json::to_vec(answer).map_err(|error| error.to_string())?;
    debug_assert!(text.len() <= ANSWER_BYTES_MAX);
    rustix::io::write(socket, &text).map(|_| ()).map_err(|error| error.to_string())
}

struct Worker<'a> {
    socket: BorrowedFd<'a>,
    processor: &'a dyn Processor,
    marks: Marks,
    pool: Pool,
    setup: Setup,
}

impl Worker<'_> {
    fn run(&mut self, order: &TaskOrder<'_>, descriptors: Vec<OwnedFd>) -> Result<(), String> {
        let task = order.task;
        let mut files = descriptors.into_iter().map(File::from);
        let (Some(input), outputs) = (files.next(), files.by_ref().collect::<Vec<_>>()) else {
            return Err("a task came without its input".to_owned());
        };
        if outputs.len() != order.recipes.len() {
            return Err(format!("{} recipes and {} files for them", order.recipes.len(), outputs.len()));
        }
        let ended = panic::catch_unwind(AssertUnwindSafe(|| self.process(order, &input, &outputs)));
        answer(
            self.socket,
            &match ended {
                Ok(Ok(done)) => done,
                Ok(Err(fault)) => Answer::Fault { task, fault: Fault::new(fault.kind, tame(&fault.detail)) },
                Err(_) => {
                    let sentence = tame(&PANIC.lock().unwrap_or_else(PoisonError::into_inner));
                    Answer::Panicked { task, sentence }
                }
            },
        )
    }

    fn process(&mut self, order: &TaskOrder<'_>, input: &File, outputs: &[File]) -> Result<Answer, Fault> {
        let watch = Watching {
            socket: self.socket,
            task: order.task,
            until: Instant::now() + order.time_max,
            time_max: order.time_max,
            looked: Cell::new(Instant::now()),
            stopped: Cell::new(false),
        };
        let mut bytes = self.pool.take(order.len as usize);
        let read = input.read_exact_at(&mut bytes, 0);
        read.map_err(|error| Fault::new(Kind::Io, format!("the original could not be read: {error}")))?;
        let output_bytes_max = self.setup.output_bytes_max;
        let mut claims = Vec::with_capacity(outputs.len());
        let mut made = |output: Output| {
            claims.push(keep(output, outputs, output_bytes_max)?);
            Ok(())
        };
        let wanted = Wanted { header: &order.header, recipes: &order.recipes, marks: &self.marks };
        let processed = self.processor.process(&bytes, wanted, &mut self.pool, &watch, &mut made);
        self.pool.give(bytes);
        Ok(Answer::Done { task: order.task, timings: processed?, outputs: claims })
    }
}

/// Writes an output into the file that waits for it.
fn keep(output: Output, files: &[File], output_bytes_max: u64) -> Result<Claim, Fault> {
    let len = output.bytes.len() as u64;
    if len > output_bytes_max {
        let sentence = format!("an output of {len} bytes is beyond output_bytes_max = {output_bytes_max}");
        return Err(Fault::new(Kind::TooLarge, sentence));
    }
    let file = files.get(output.index).ok_or_else(|| Fault::new(Kind::Io, "an output that nobody asked for"))?;
    let mut file: &File = file;
    let written = file.write_all(&output.bytes);
    written.map_err(|error| Fault::new(Kind::Io, format!("an output could not be written: {error}")))?;
    let Output { index, format, width, height, placeholders, .. } = output;
    Ok(Claim { index, format, width, height, len, placeholders })
}

/// The answer to a strip that asks whether to go on.
struct Watching<'a> {
    socket: BorrowedFd<'a>,
    task: u64,
    until: Instant,
    time_max: Duration,
    looked: Cell<Instant>,
    stopped: Cell<bool>,
}

impl Watch for Watching<'_> {
    fn check(&self) -> Result<(), Fault> {
        let now = Instant::now();
        if now >= self.until {
            return Err(timed_out(self.time_max));
        }
        if !self.stopped.get() && now.duration_since(self.looked.get()) >= LOOK_EVERY {
            self.looked.set(now);
            self.stopped.set(self.is_told());
        }
        if self.stopped.get() { Err(cancelled()) } else { Ok(()) }
    }
}

impl Watching<'_> {
    /// Whether the lane said stop, or is gone.
    fn is_told(&self) -> bool {
        let mut buffer = [0; 256];
        match recv_order(self.socket, false, &mut buffer) {
            Ok(None) => true,
            Ok(Some((len, _))) => match serde_json::from_slice(&buffer[..len]) {
                Ok(Order::Stop { task }) => task == self.task,
                // The lane gives a task only to a worker that has none.
                Ok(_) | Err(_) => true,
            },
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

/// A task was cancelled.
pub(super) fn cancelled() -> Fault {
    Fault::new(Kind::Stopped, "cancelled")
}

/// A task's time was over.
pub(super) fn timed_out(time_max: Duration) -> Fault {
    Fault::new(Kind::Stopped, format!("stopped: it took longer than the {time_max:?} that it may take"))
}
