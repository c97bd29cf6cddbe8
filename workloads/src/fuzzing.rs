//! What fuzz targets of the services share. Compiled for tests and for the fuzzer only.
//!
//! ```text
//!   workloads/fuzz/fuzz_targets/NAME.rs ──┐
//!                                         ├─► a function in `fuzzing.rs` beside what it tries
//!   a test that replays corpus/NAME/* ────┘
//! ```
//!
//! So a file of the corpus is tried by every `cargo test`, where there is no fuzzer, and means the same in both.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)] // A target that panics has found something.

pub mod config;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// An input read from its front as choices. What is not there is zeros, so that every input means something.
pub(crate) struct Choices<'a>(pub(crate) &'a [u8]);

impl<'a> Choices<'a> {
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let some = self.bytes(N);
        array[..some.len()].copy_from_slice(some);
        array
    }

    /// So many bytes, or as many as there are.
    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (some, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        some
    }

    pub(crate) fn number(&mut self) -> u64 {
        u64::from(u16::from_le_bytes(self.array()))
    }
}

/// A directory for one input, in memory where there is such a place, and gone with its value.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let memory = Path::new("/dev/shm");
        let home = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = home.join(format!("annulus-fuzz-{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind is a nuisance, no finding.
        let _left = fs::remove_dir_all(&self.0);
    }
}

/// Opens what has one owner. A process that another test is just starting has our descriptors until it has become a program,
/// and so holds a lock for a moment that we let go of.
pub(crate) fn owned<T, E: std::fmt::Display>(mut open: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let mut tries = 0;
    loop {
        match open() {
            Err(error) if tries < 1000 && is_locked(&error.to_string()) => {
                tries += 1;
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            opened => return opened,
        }
    }
}

fn is_locked(says: &str) -> bool {
    says.contains("in use by another") || says.contains(" is locked ") || says.contains("another annulus")
}

/// Tries every file of a target's corpus, and says how many there were.
#[cfg(test)]
pub(crate) fn replay(target: &str, body: fn(&[u8])) -> usize {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<PathBuf> = fs::read_dir(&corpus)
        .unwrap_or_else(|error| panic!("{}: {error}", corpus.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    for file in &files {
        // Captured, and shown with a panic.
        println!("{}", file.display());
        body(&fs::read(file).unwrap());
    }
    files.len()
}
