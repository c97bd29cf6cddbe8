//! The worker process: `annulus image-gpu-worker`, which owns the device's context, because a fault of that ends only with
//! its process.
//!
//! One thread reads orders; one per desk makes batches. Whatever goes wrong with the device ends the process at once: its
//! lane sees that, and starts another. It is not shut in as the CPU lane's workers are, because the driver opens devices
//! and files as it pleases; it has no secrets, no network of its own, and ends with its parent.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use annulus_engine::gpu::{Desk, Device, Error, Nvjpeg, Shared};
use crossbeam_channel::{Receiver, bounded, unbounded};

use super::super::wire::{Claim, recv_order, send, tame};
use super::batch::{Item, Refusal, Spent, make};
use super::wire::{
    Answer, BATCH_MAX, BERTH_BYTES, Facts, Job, OUTPUTS_BYTES_MAX, Order, Outcome, PACKET_BYTES_MAX, Setup, input_at,
    outputs_at, put_words, take_words,
};
use crate::image::pipeline::Output;

/// The hidden command that starts a worker.
pub const COMMAND: &str = "image-gpu-worker";
/// What an exit says that needs no answer any more.
const EXIT_BROKEN: i32 = 70;
/// How much it gives way to others.
const NICE: i32 = 19;
/// Shares of the device's free memory: one per desk, and these for nvJPEG and the encoders.
const SHARES_BESIDE: u64 = 2;

/// A worker's life. Give its result to the system.
pub fn main() -> ExitCode {
    // A desk that panicked would leave its batch to the lane's patience.
    std::panic::set_hook(Box::new(|panic| {
        let _nobody_listens = writeln!(io::stderr(), "{panic}");
        std::process::exit(EXIT_BROKEN);
    }));
    let socket = io::stdin();
    match live(socket.as_fd()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            // Its last words; where they cannot be written there is nobody to read them.
            let _nobody_listens = writeln!(io::stderr(), "{sentence}");
            ExitCode::FAILURE
        }
    }
}

fn live(socket: BorrowedFd<'_>) -> Result<(), String> {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    let by_hand = |error: io::Error| match error.raw_os_error() {
        Some(libc::ENOTSOCK) => format!("annulus image starts its {COMMAND} itself; by hand it has nobody to serve"),
        _ => error.to_string(),
    };
    let Some((len, files)) = recv_order(socket, true, &mut buffer).map_err(by_hand)? else { return Ok(()) };
    let (Ok(Order::Setup(setup)), Some(file)) = (serde_json::from_slice(&buffer[..len]), files.into_iter().next())
    else {
        return Err("the first order was not how to set up".to_owned());
    };
    die_with(setup.parent)?;
    // Behind the shards, and before the CPU lane's workers, which run when nobody else does: what a desk waits for here keeps
    // the whole device waiting.
    let _as_good_as_it_gets = rustix::process::nice(NICE);
    let berths = Arc::new(Berths::map(file, setup.berths).map_err(|error| error.to_string())?);
    let socket = Arc::new(socket.try_clone_to_owned().map_err(|error| error.to_string())?);
    // As deep as there are desks: the lane never sends more batches than that.
    let (give, take) = bounded::<(u64, Vec<usize>)>(setup.desks);
    match start(&setup, &berths, &socket, &take) {
        Ok(facts) => answer(&socket, &Answer::Ready(facts))?,
        Err(error) => {
            let absent = matches!(error, Error::Absent(_));
            return answer(&socket, &Answer::Refused { sentence: tame(&error.to_string()), absent });
        }
    }
    while let Some((len, _)) = recv_order(socket.as_fd(), true, &mut buffer).map_err(|error| error.to_string())? {
        match serde_json::from_slice(&buffer[..len]) {
            Ok(Order::Batch { number, berths }) if berths.len() <= BATCH_MAX => {
                give.send((number, berths)).map_err(|_| "all desks are gone".to_owned())?;
            }
            Ok(_) => return Err("an order that was not expected".to_owned()),
            Err(error) => return Err(format!("an order is not understood: {error}")),
        }
    }
    Ok(())
}

/// Ends this process when the lane's does.
fn die_with(parent: u32) -> Result<(), String> {
    let wanted = Some(rustix::process::Signal::KILL);
    rustix::process::set_parent_process_death_signal(wanted).map_err(|error| error.to_string())?;
    // It may have ended before that was asked for.
    match rustix::process::getppid() {
        Some(now) if now.as_raw_nonzero().get().unsigned_abs() == parent => Ok(()),
        _ => Err("the server is gone".to_owned()),
    }
}

/// Opens the device and sets the desks up, each on its thread.
fn start(
    setup: &Setup,
    berths: &Arc<Berths>,
    socket: &Arc<OwnedFd>,
    batches: &Receiver<(u64, Vec<usize>)>,
) -> Result<Facts, Error> {
    let device = Device::open(setup.device)?;
    let nvjpeg = Nvjpeg::open(&device, setup.nvjpeg.as_deref())?;
    let share = device.free_bytes()? / (setup.desks as u64 + SHARES_BESIDE);
    let arena_bytes = setup.arena_bytes.min(share);
    let (ready, all) = unbounded();
    for number in 0..setup.desks {
        let (device, nvjpeg, berths) = (device.clone(), nvjpeg.clone(), berths.clone());
        let (socket, batches, ready) = (socket.clone(), batches.clone(), ready.clone());
        let body = move || {
            let desk = Desk::new(&device, &nvjpeg, arena_bytes);
            let (told, desk) = match desk {
                Ok(desk) => (Ok(()), Some(desk)),
                Err(error) => (Err(error), None),
            };
            // Whoever waits for it is gone only when the process ends.
            let _ending = ready.send(told);
            if let Some(desk) = desk {
                work(desk, &berths, &socket, &batches);
            }
        };
        let started = thread::Builder::new().name(format!("gpu-desk-{number}")).spawn(body);
        started.map_err(|error| Error::Failed(format!("a thread: {error}")))?;
    }
    for _ in 0..setup.desks {
        all.recv().map_err(|_| Error::Failed("a desk's thread has ended".to_owned()))??;
    }
    let (facts, (major, minor, patch)) = (device.facts(), nvjpeg.version());
    Ok(Facts {
        name: facts.name.clone(),
        memory_bytes: facts.memory_bytes,
        engines: nvjpeg.hardware().map_or(0, |hardware| hardware.engines),
        nvjpeg: format!("{major}.{minor}.{patch}"),
        driver: facts.driver,
        desks: setup.desks,
        arena_bytes,
    })
}

/// A desk's thread: batch after batch. Ends the process when the device fails.
fn work(mut desk: Desk, berths: &Berths, socket: &OwnedFd, batches: &Receiver<(u64, Vec<usize>)>) {
    for (number, numbers) in batches {
        let done = berths.make(&mut desk, &numbers);
        let told = match done {
            Ok(spent) => {
                let us = |spent: std::time::Duration| spent.as_micros() as u64;
                let spent_us = [us(spent.decode), us(spent.transform), us(spent.encode)];
                answer(socket, &Answer::Done { number, spent_us })
            }
            Err(sentence) => {
                // A context that has failed may hang whoever asks it for anything more, so nothing is taken down.
                let _ending = answer(socket, &Answer::Broken { sentence: tame(&sentence) });
                std::process::exit(EXIT_BROKEN);
            }
        };
        if told.is_err() {
            // Nobody is left to work for.
            std::process::exit(EXIT_BROKEN);
        }
    }
}

fn answer(socket: &OwnedFd, answer: &Answer) -> Result<(), String> {
    send(socket.as_fd(), answer, &[]).map_err(|error| error.to_string())
}

/// The shared memory: read where it is mapped, written by its file.
struct Berths {
    file: File,
    mapped: Shared,
    count: usize,
}

impl Berths {
    fn map(file: OwnedFd, count: usize) -> io::Result<Berths> {
        let file = File::from(file);
        let mapped = Shared::map(&file, count * BERTH_BYTES)?;
        Ok(Berths { file, mapped, count })
    }

    fn make(&self, desk: &mut Desk, numbers: &[usize]) -> Result<Spent, String> {
        let sentence = |error: io::Error| format!("the shared memory: {error}");
        let mut jobs: Vec<Job<'static>> = Vec::with_capacity(numbers.len());
        for &berth in numbers {
            if berth >= self.count {
                return Err(format!("an order names berth {berth} of {}", self.count));
            }
            jobs.push(take_words(&self.file, berth).map_err(sentence)?);
        }
        let mut items = Vec::with_capacity(numbers.len());
        for (job, &berth) in jobs.iter().zip(numbers) {
            let input = self.mapped.slice(input_at(berth), job.len).filter(|_| job.len <= BERTH_BYTES);
            let input = input.ok_or_else(|| format!("an order names {} bytes of a berth", job.len))?;
            items.push(Item { input, header: &job.header, recipes: &job.recipes });
        }
        let (made, spent) = make(desk, &items).map_err(|error| error.to_string())?;
        for (&berth, made) in numbers.iter().zip(made) {
            let outcome = match made {
                Ok(outputs) => self.keep(berth, outputs).map_err(sentence)?,
                Err(Refusal::Unsupported(why)) => Outcome::Unsupported(tame(&why)),
                Err(Refusal::Fault(fault)) => Outcome::Fault(fault),
            };
            put_words(&self.file, berth, &outcome).map_err(sentence)?;
        }
        Ok(spent)
    }

    fn keep(&self, berth: usize, outputs: Vec<Output>) -> io::Result<Outcome> {
        let total: usize = outputs.iter().map(|output| output.bytes.len()).sum();
        if total > OUTPUTS_BYTES_MAX {
            return Ok(Outcome::Unsupported(format!("outputs of {total} bytes; at most {OUTPUTS_BYTES_MAX}")));
        }
        let mut at = outputs_at(berth) as u64;
        let mut claims = Vec::with_capacity(outputs.len());
        for output in outputs {
            self.file.write_all_at(&output.bytes, at)?;
            let len = output.bytes.len() as u64;
            at += len;
            let Output { index, format, width, height, placeholders, .. } = output;
            claims.push(Claim { index, format, width, height, len, placeholders });
        }
        Ok(Outcome::Made(claims))
    }
}
