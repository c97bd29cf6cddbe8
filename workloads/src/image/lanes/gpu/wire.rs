//! What the lane and its worker say to each other: short JSON packets over a socket pair, and berths of shared memory in
//! which jobs and results lie.
//!
//! ```text
//!   berth:  [ the job, then its result (JSON) | the original's bytes | the outputs' bytes ]
//!
//!   lane ── Setup + the memory file ─────────────► worker
//!        ◄──────────────── Ready or Refused ──────
//!        ── Batch { number, berths } ────────────►       several at a time, one per desk
//!        ◄─────────────── Done { number, ... } ───       or Broken, and then nothing more
//! ```
//!
//! A berth belongs to a job's thread until its batch is sent, then to the worker until that batch is done or the worker is
//! dead, then to the job's thread again. The worker maps the file for reading, and writes results with plain writes.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{RecvFlags, recv};
use serde::{Deserialize, Serialize};

use super::super::wire::Claim;
use crate::image::fault::Fault;
use crate::image::header::Header;
use crate::image::recipe::Recipe;

/// Bytes of a job or its result; a job that needs more is for the CPU.
pub const WORDS_BYTES_MAX: usize = 256 << 10;
/// Bytes of a packet.
pub const PACKET_BYTES_MAX: usize = 16 << 10;
/// Jobs of a batch; a berth's number takes at most 6 bytes of a packet.
pub const BATCH_MAX: usize = 64;
/// Bytes of an original; one that is larger is for the CPU.
pub const INPUT_BYTES_MAX: usize = 64 << 20;
/// Bytes of all outputs of a job; more are for the CPU.
pub const OUTPUTS_BYTES_MAX: usize = 64 << 20;
/// Bytes of address space of a berth; pages that were never used take no memory.
pub const BERTH_BYTES: usize = WORDS_BYTES_MAX + INPUT_BYTES_MAX + OUTPUTS_BYTES_MAX;

const _: () = assert!(BATCH_MAX * 8 + 512 <= PACKET_BYTES_MAX);
const _: () = assert!(BERTH_BYTES.is_multiple_of(4096) && WORDS_BYTES_MAX.is_multiple_of(4096));

/// Where a berth begins.
pub fn berth_at(berth: usize) -> usize {
    berth * BERTH_BYTES
}

/// Where its original begins.
pub fn input_at(berth: usize) -> usize {
    berth_at(berth) + WORDS_BYTES_MAX
}

/// Where its outputs begin.
pub fn outputs_at(berth: usize) -> usize {
    input_at(berth) + INPUT_BYTES_MAX
}

/// From the lane to the worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// The first.
    Setup(Setup),
    /// Make what lies in these berths.
    Batch {
        /// Its number.
        number: u64,
        /// The berths.
        berths: Vec<usize>,
    },
}

/// Who the worker is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    /// The process that it belongs to: without it, it ends.
    pub parent: u32,
    /// The device, counted from 0.
    pub device: usize,
    /// nvJPEG's file; without it, it is looked for by its names.
    pub nvjpeg: Option<PathBuf>,
    /// Batches at a time.
    pub desks: usize,
    /// Bytes of the device's memory for the pictures of one desk; less where the device has not so many.
    pub arena_bytes: u64,
    /// Berths of the memory file.
    pub berths: usize,
}

/// From the worker to the lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// The device is open, and all desks stand.
    Ready(Facts),
    /// It cannot start.
    Refused {
        /// Why, in a sentence.
        sentence: String,
        /// Whether there is nothing to start with: no driver, no device, no library.
        absent: bool,
    },
    /// A batch is done: its results lie in its berths.
    Done {
        /// Its number.
        number: u64,
        /// Microseconds of decoding, our kernels, and encoding.
        spent_us: [u64; 3],
    },
    /// The device has failed. The worker ends.
    Broken {
        /// How, in a sentence.
        sentence: String,
    },
}

/// What the worker found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The device's name.
    pub name: String,
    /// Bytes of its memory.
    pub memory_bytes: u64,
    /// Engines of its hardware decoder that can be used; 0 for none.
    pub engines: u32,
    /// nvJPEG's version.
    pub nvjpeg: String,
    /// What the driver speaks: 13000 is CUDA 13.0.
    pub driver: i32,
    /// Batches at a time.
    pub desks: usize,
    /// Bytes of the device's memory for one desk's pictures.
    pub arena_bytes: u64,
}

impl Facts {
    /// What a batch takes of the device's memory: a desk's arena, and as much again for the codecs' own buffers.
    pub fn batch_bytes(&self) -> u64 {
        self.arena_bytes.saturating_mul(2)
    }
}

/// A job in a berth.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job<'a> {
    /// Bytes of the original.
    pub len: usize,
    /// What its head said.
    pub header: Cow<'a, Header>,
    /// What is to be made.
    pub recipes: Cow<'a, [Recipe]>,
}

/// Its result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// The outputs lie one after the other where outputs begin.
    Made(Vec<Claim>),
    /// Another lane can do it.
    Unsupported(String),
    /// Nobody can.
    Fault(Fault),
}

/// The memory file of so many berths.
///
/// # Errors
/// As `memfd_create(2)`.
pub fn memory_file(berths: usize) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(memfd_create("annulus-gpu", flags)?);
    file.set_len((berths * BERTH_BYTES) as u64)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

/// Writes words into a berth, with their length before them.
///
/// # Errors
/// `InvalidInput` for too many; as `pwrite(2)`.
pub fn put_words(file: &File, berth: usize, words: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(words).map_err(io::Error::other)?;
    if text.len() + 8 > WORDS_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "more words than a berth has room for"));
    }
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    file.write_all_at(&bytes, berth_at(berth) as u64)
}

/// Reads what [`put_words`] wrote.
///
/// # Errors
/// `InvalidData` for anything else; as `pread(2)`.
pub fn take_words<T: for<'a> Deserialize<'a>>(file: &File, berth: usize) -> io::Result<T> {
    let mut len = [0; 8];
    file.read_exact_at(&mut len, berth_at(berth) as u64)?;
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let len = usize::try_from(u64::from_le_bytes(len)).ok().filter(|&len| len <= WORDS_BYTES_MAX - 8);
    let mut text = vec![0; len.ok_or_else(|| wrong("words of no sensible length".to_owned()))?];
    file.read_exact_at(&mut text, berth_at(berth) as u64 + 8)?;
    serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))
}

/// Takes an answer that is there already; `None` when the worker has hung up.
///
/// # Errors
/// `WouldBlock` where none is there; `InvalidData` for what is no answer.
pub fn recv_answer(socket: impl AsFd, buffer: &mut [u8; PACKET_BYTES_MAX]) -> io::Result<Option<Answer>> {
    let len = loop {
        match recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
            Err(rustix::io::Errno::INTR) => {}
            Ok((_, 0)) | Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            Ok((_, len)) if len <= PACKET_BYTES_MAX => break len,
            Ok((_, len)) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it said {len} bytes at once")));
            }
            Err(error) => return Err(error.into()),
        }
    };
    let answer = serde_json::from_slice(&buffer[..len]);
    answer.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_and_nonsense_is_found() {
        let file = memory_file(2).unwrap();
        put_words(&file, 1, &Outcome::Unsupported("why".to_owned())).unwrap();
        assert!(matches!(take_words(&file, 1).unwrap(), Outcome::Unsupported(why) if why == "why"));
        assert!(take_words::<Outcome>(&file, 0).is_err(), "nothing was put there");
        file.write_all_at(&u64::MAX.to_le_bytes(), 0).unwrap();
        assert!(take_words::<Outcome>(&file, 0).is_err());
        assert!(put_words(&file, 0, &"x".repeat(WORDS_BYTES_MAX)).is_err());
        assert!(file.set_len(0).is_err(), "a mapped file must not shrink");
    }

    #[test]
    fn the_longest_batch_fits_a_packet() {
        let order = Order::Batch { number: u64::MAX, berths: vec![99_999; BATCH_MAX] };
        assert!(serde_json::to_vec(&order).unwrap().len() <= PACKET_BYTES_MAX);
    }
}
