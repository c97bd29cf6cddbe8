//! The kernel's side: events on threads, and the records that they write into rings.
//!
//! An event that is inherited by later threads and children may only have a ring if it is bound to a core, so there is
//! one event and one ring for each thread and core. Where that would be too many, events are on threads alone, and
//! whoever holds them opens more for every [`What::Forked`].
//!
//! ```text
//! thread 1 ── core 0 ── ring ┐
//!          └─ core 1 ── ring ┤   drain    by time
//! thread 2 ── core 0 ── ring ├─────────► records ──► the session
//!          └─ core 1 ── ring ┘
//! ```

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use perf_event::data::parse::Parser;
use perf_event::data::{Comm, Exit, Fork, Lost, LostSamples, Mmap2, Record, RecordMetadata, SampleRegsAbi, Visitor};
use perf_event::events::{Hardware, Software};
use perf_event::{Builder, Clock, SampleFlag, Sampler};
use rustix::io::Errno;

use crate::refusal::Refusal;

/// How much of a thread's stack a sample carries away, if nothing else is asked for. Deeper stacks are cut off and marked
/// so.
pub const STACK_BYTES: u32 = 16 << 10;
/// How much it can be at most: a record has 64 KiB, and room for the rest must be left. At least a frame of some size.
pub const STACK_BYTES_MAX: u32 = 60 << 10;
/// See [`STACK_BYTES_MAX`].
pub const STACK_BYTES_MIN: u32 = 1 << 10;
/// The largest sampling rate that makes sense beside what a sample costs; the kernel's own limit may be lower.
pub const FREQUENCY_MAX: u64 = 10_000;
/// Bytes in a ring after which a reader is woken: there is none that waits.
const WAKE_NEVER: usize = i32::MAX as usize;
/// The smallest ring with which samples arrive at all: a few of them, with their stacks.
pub const RING_BYTES_MIN: usize = 64 << 10;
/// The kernel's marks between the parts of a call chain: the last 4095 numbers.
const CONTEXT_FIRST: u64 = u64::MAX - 4094;
/// What follows was in the kernel, or in the program (`PERF_CONTEXT_KERNEL`, `PERF_CONTEXT_USER`).
const CONTEXT_KERNEL: u64 = (-128_i64) as u64;
const CONTEXT_USER: u64 = (-512_i64) as u64;
/// `PERF_RECORD_SAMPLE`.
const SAMPLE: u32 = 9;
/// `PERF_RECORD_MISC_COMM_EXEC`: the name changed because another program was loaded.
const COMM_EXEC: u16 = 1 << 13;
/// Bytes of a record's header: type, flags, size.
const HEADER_BYTES: usize = 8;

/// The registers that unwinding needs, in the order of the kernel's numbers (`perf_regs.h`).
#[cfg(target_arch = "x86_64")]
const REGISTERS: u64 = (1 << 6) | (1 << 7) | (1 << 8);
#[cfg(target_arch = "aarch64")]
const REGISTERS: u64 = (1 << 29) | (1 << 30) | (1 << 31) | (1 << 32);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("annulus-perf knows the registers of x86_64 and aarch64 only");

/// How callers are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwind {
    /// By the unwind tables that every program carries, on a copy of the stack.
    Dwarf,
    /// By frame pointers, which the kernel follows itself: cheap, and right only for programs built with them.
    FramePointers,
}

/// What makes a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// The processor's cycle counter.
    Cycles,
    /// The kernel's timer, where there are no counters: in most virtual machines.
    CpuClock,
}

impl Beat {
    /// As `perf` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Beat::Cycles => "cycles",
            Beat::CpuClock => "cpu-clock",
        }
    }
}

/// What is asked of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Samples per second of a thread that runs.
    pub frequency: u64,
    /// How callers are found.
    pub unwind: Unwind,
    /// How much of the stack is carried away, in whole KiB.
    pub stack_bytes: u32,
    /// Whether time in the kernel is wanted, where it is allowed.
    pub kernel: bool,
    /// Whether the cycle counter is wanted, where there is one.
    pub cycles: bool,
    /// Whether later threads and children are sampled too: needs an event per core.
    pub inherit: bool,
    /// Whether mappings, names, begin and end of threads are told.
    pub tracking: bool,
    /// Whether sampling begins when the thread loads another program, and not at once.
    pub on_exec: bool,
    /// Bytes of a ring, rounded up to a power of two.
    pub ring_bytes: usize,
}

/// What the kernel granted of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What makes a sample.
    pub beat: Beat,
    /// Whether time in the kernel is seen.
    pub kernel: bool,
}

/// The registers of the program at a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// The instruction.
    pub ip: u64,
    /// The stack.
    pub sp: u64,
    /// The frame.
    pub fp: u64,
    /// The return address, on processors that keep it in a register.
    pub lr: u64,
}

/// One look at a thread. Addresses are as the kernel has them: innermost first, return addresses after the first.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// In the kernel.
    pub kernel: Vec<u64>,
    /// In the program, as the kernel followed its frame pointers.
    pub user: Vec<u64>,
    /// For unwinding; none if the thread has no program, or a 32-bit one.
    pub registers: Option<Registers>,
    /// The stack, from the stack pointer up.
    pub stack: Vec<u8>,
    /// Whether the stack goes on beyond that.
    pub is_cut_off: bool,
}

/// A file, or a piece of memory without one, became executable in a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Where it begins.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
    /// Where in the file it begins.
    pub offset: u64,
    /// The file's number in its file system; 0 for none.
    pub inode: u64,
    /// The file as the process names it, or a name in brackets.
    pub path: PathBuf,
}

/// What a record says.
#[derive(Clone, Debug)]
pub enum What {
    /// A look at the thread.
    Sample(Sample),
    /// A mapping appeared.
    Mapped(Mapped),
    /// The thread has a new name.
    Named(OsString),
    /// The process loaded another program: all mappings are gone.
    Executed(OsString),
    /// The thread was begun by another one, perhaps of another process.
    Forked {
        /// The process that it was begun by.
        parent_pid: i32,
        /// The thread that it was begun by.
        parent_tid: i32,
    },
    /// The thread ended.
    Exited,
    /// So many records found no room.
    Lost(u64),
}

/// A record, and whom and when it is about.
#[derive(Clone, Debug)]
pub struct Happened {
    /// Nanoseconds of the monotonic clock.
    pub time: u64,
    /// The process.
    pub pid: i32,
    /// The thread.
    pub tid: i32,
    /// What it says.
    pub what: What,
}

/// One event and its ring.
pub struct Ring {
    sampler: Sampler,
    stack_bytes: usize,
}

impl Ring {
    /// Opens an event on a thread: on one core, or on all. With `grant` as an earlier one had it, or finds out.
    ///
    /// # Errors
    /// The kernel's, untold: [`Refusal::of_open`] tells it.
    pub fn open(
        settings: &Settings,
        grant: Option<Grant>,
        tid: i32,
        core: Option<usize>,
    ) -> Result<(Ring, Grant), Failure> {
        let mut last = None;
        for grant in grant.map_or_else(|| Ring::wishes(settings), |grant| vec![grant]) {
            match Ring::builder(settings, grant, tid, core).build() {
                Ok(counter) => {
                    let sampler = counter.sampled(settings.ring_bytes).map_err(Failure::Ring)?;
                    return Ok((Ring { sampler, stack_bytes: settings.stack_bytes as usize }, grant));
                }
                Err(error) => last = Some(error),
            }
            // A thread that is gone will not come back for another wish.
            if last.as_ref().and_then(Errno::from_io_error) == Some(Errno::SRCH) {
                break;
            }
        }
        Err(Failure::Open(last.expect("there is at least one wish")))
    }

    /// What to ask for, the best first.
    fn wishes(settings: &Settings) -> Vec<Grant> {
        let beats = if settings.cycles { [Beat::Cycles, Beat::CpuClock].as_slice() } else { &[Beat::CpuClock] };
        let kernels = if settings.kernel { [true, false].as_slice() } else { &[false] };
        beats.iter().flat_map(|&beat| kernels.iter().map(move |&kernel| Grant { beat, kernel })).collect()
    }

    fn builder(settings: &Settings, grant: Grant, tid: i32, core: Option<usize>) -> Builder<'static> {
        let mut builder = match grant.beat {
            Beat::Cycles => Builder::new(Hardware::CPU_CYCLES),
            Beat::CpuClock => Builder::new(Software::CPU_CLOCK),
        };
        builder
            .observe_pid(tid)
            .sample_frequency(settings.frequency)
            .sample(SampleFlag::TID | SampleFlag::TIME | SampleFlag::CPU)
            .sample_id_all(true)
            .clockid(Clock::MONOTONIC)
            .enabled(!settings.on_exec)
            .enable_on_exec(settings.on_exec)
            .inherit(settings.inherit)
            .exclude_kernel(!grant.kernel)
            .mmap(settings.tracking)
            .mmap2(settings.tracking)
            .comm(settings.tracking)
            .comm_exec(settings.tracking)
            .task(settings.tracking)
            .wakeup_watermark(WAKE_NEVER);
        if let Some(core) = core {
            builder.one_cpu(core);
        }
        match settings.unwind {
            Unwind::Dwarf => {
                builder
                    .sample(SampleFlag::REGS_USER | SampleFlag::STACK_USER)
                    .sample_regs_user(REGISTERS)
                    .sample_stack_user(settings.stack_bytes);
                if grant.kernel {
                    builder.sample(SampleFlag::CALLCHAIN).exclude_callchain_user(true);
                }
            }
            Unwind::FramePointers => {
                builder.sample(SampleFlag::CALLCHAIN).exclude_callchain_kernel(!grant.kernel);
            }
        }
        builder
    }

    /// Hands out everything in the ring, oldest first.
    pub fn drain(&mut self, mut take: impl FnMut(Happened)) {
        let config = self.sampler.as_counter().config().clone();
        while let Some(record) = self.sampler.next_record() {
            if record.ty() == SAMPLE {
                if let Ok(Record::Sample(sample)) = record.parse_record()
                    && let Some(happened) = read_sample(&sample, self.stack_bytes)
                {
                    take(happened);
                }
                continue;
            }
            // Records other than samples are rare: copying them costs nothing, and gives their time.
            let mut bytes = Vec::with_capacity(HEADER_BYTES + record.len());
            bytes.extend_from_slice(&record.ty().to_ne_bytes());
            bytes.extend_from_slice(&record.misc().to_ne_bytes());
            let size = u16::try_from(HEADER_BYTES + record.len()).expect("the kernel's records have 16 bits of size");
            bytes.extend_from_slice(&size.to_ne_bytes());
            bytes.extend_from_slice(&record.to_contiguous());
            if let Ok(Some(happened)) = Parser::new(bytes.as_slice(), config.clone()).parse_record(Reader) {
                take(happened);
            }
        }
    }
}

/// What of opening a ring failed.
#[derive(Debug)]
pub enum Failure {
    /// The event.
    Open(io::Error),
    /// Its ring.
    Ring(io::Error),
}

impl Failure {
    /// In a sentence.
    pub fn refusal(&self, pid: i32) -> Refusal {
        match self {
            Failure::Open(error) => Refusal::of_open(error, pid),
            Failure::Ring(error) => Refusal::of_ring(error),
        }
    }

    /// Whether the thread ended before it could be opened.
    pub fn is_gone(&self) -> bool {
        matches!(self, Failure::Open(error) if Errno::from_io_error(error) == Some(Errno::SRCH))
    }

    /// Whether a smaller ring may do.
    pub fn is_ring(&self) -> bool {
        matches!(self, Failure::Ring(_))
    }
}

fn read_sample(sample: &perf_event::data::Sample<'_>, stack_bytes: usize) -> Option<Happened> {
    let mut read = Sample::default();
    let mut in_kernel = false;
    for &address in sample.callchain().unwrap_or_default() {
        match address {
            CONTEXT_KERNEL => in_kernel = true,
            CONTEXT_USER => in_kernel = false,
            CONTEXT_FIRST.. => {}
            _ if in_kernel => read.kernel.push(address),
            _ => read.user.push(address),
        }
    }
    if let Some(registers) = sample.regs_user()
        && registers.abi == SampleRegsAbi::ABI_64
    {
        read.registers = read_registers(&registers.regs);
    }
    if read.registers.is_some() {
        read.stack = sample.stack_user().unwrap_or_default().to_vec();
        // Where the stack itself ended before, there was less to copy.
        read.is_cut_off = read.stack.len() >= stack_bytes;
    }
    Some(Happened {
        time: sample.time()?,
        pid: sample.pid()? as i32,
        tid: sample.tid()? as i32,
        what: What::Sample(read),
    })
}

#[cfg(target_arch = "x86_64")]
fn read_registers(values: &[u64]) -> Option<Registers> {
    let &[fp, sp, ip] = values else { return None };
    Some(Registers { ip, sp, fp, lr: 0 })
}

#[cfg(target_arch = "aarch64")]
fn read_registers(values: &[u64]) -> Option<Registers> {
    let &[fp, lr, sp, ip] = values else { return None };
    Some(Registers { ip, sp, fp, lr })
}

/// Reads the records that are not samples.
struct Reader;

impl Reader {
    fn about(pid: u32, tid: u32, time: Option<u64>, what: What) -> Option<Happened> {
        Some(Happened { time: time?, pid: pid as i32, tid: tid as i32, what })
    }
}

impl<'a> Visitor<'a> for Reader {
    type Output = Option<Happened>;

    fn visit_unimplemented(self, _: RecordMetadata) -> Self::Output {
        None
    }

    fn visit_mmap2(self, map: Mmap2<'a>, metadata: RecordMetadata) -> Self::Output {
        let mapped = Mapped {
            start: map.addr,
            end: map.addr.saturating_add(map.len),
            offset: map.pgoff,
            inode: map.ino().unwrap_or(0),
            path: OsString::from_vec(map.filename.to_vec()).into(),
        };
        Reader::about(map.pid, map.tid, metadata.sample_id().time(), What::Mapped(mapped))
    }

    fn visit_comm(self, comm: Comm<'a>, metadata: RecordMetadata) -> Self::Output {
        let name = OsString::from_vec(comm.comm.to_vec());
        let what = if metadata.misc() & COMM_EXEC != 0 { What::Executed(name) } else { What::Named(name) };
        Reader::about(comm.pid, comm.tid, metadata.sample_id().time(), what)
    }

    fn visit_fork(self, fork: Fork, _: RecordMetadata) -> Self::Output {
        let what = What::Forked { parent_pid: fork.ppid as i32, parent_tid: fork.ptid as i32 };
        Reader::about(fork.pid, fork.tid, Some(fork.time), what)
    }

    fn visit_exit(self, exit: Exit, _: RecordMetadata) -> Self::Output {
        Reader::about(exit.pid, exit.tid, Some(exit.time), What::Exited)
    }

    fn visit_lost(self, lost: Lost, metadata: RecordMetadata) -> Self::Output {
        Reader::about(0, 0, metadata.sample_id().time(), What::Lost(lost.lost))
    }

    fn visit_lost_samples(self, lost: LostSamples, metadata: RecordMetadata) -> Self::Output {
        Reader::about(0, 0, metadata.sample_id().time(), What::Lost(lost.lost))
    }
}
