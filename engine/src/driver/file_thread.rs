//! File operations for kernels' interfaces that have none: one thread that may block, beside the shard that may not.
//!
//! Started with the first operation. Uses std's files; descriptors cross as numbers.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::sys::files::{borrow, open_beneath};

use super::{Batch, Doorbell, Errno, Fd, Memory, Op, Token};

/// A batch's bytes cross threads as a copy: frames are counted without atomics and stay on their shard.
enum Work {
    Open { path: CString, flags: i32, mode: u32 },
    OpenBeneath { directory: Fd, path: CString, flags: i32, mode: u32 },
    Read { file: Fd, memory: Vec<u8>, want: usize, offset: u64 },
    Write { file: Fd, bytes: Vec<u8>, offset: u64 },
    Sync { file: Fd, metadata: bool },
    Rename { from: CString, to: CString },
    Link { from: CString, to: CString },
    Unlink { path: CString },
    MakeDirectory { path: CString, mode: u32 },
}

type Done = (Token, io::Result<u32>, Option<Vec<u8>>);

/// See the module's description.
pub(super) struct FileThread {
    work: Sender<(Token, Work)>,
    done: Receiver<Done>,
    /// The batches of writes in flight, given back with their completion.
    batches: Vec<(Token, Batch)>,
}

impl FileThread {
    /// Starts the thread; it rings `bell` after each operation and ends when this is dropped.
    pub(super) fn start(bell: Doorbell) -> io::Result<FileThread> {
        let (work, jobs) = unbounded::<(Token, Work)>();
        let (sender, done) = unbounded();
        std::thread::Builder::new().name("files".to_owned()).spawn(move || {
            for (token, work) in jobs {
                let (result, memory) = perform(work);
                if sender.send((token, result, memory)).is_err() {
                    return;
                }
                bell.ring();
            }
        })?;
        Ok(FileThread { work, done, batches: Vec::new() })
    }

    /// Takes a file operation over; gives other operations back.
    pub(super) fn submit(&mut self, token: Token, op: Op) -> Result<(), Op> {
        let work = match op {
            Op::Open { path, flags, mode } => Work::Open { path, flags, mode },
            Op::OpenBeneath { directory, path, flags, mode } => Work::OpenBeneath { directory, path, flags, mode },
            Op::Read { file, memory, want, offset } => Work::Read { file, memory, want, offset },
            Op::Write { file, batch, offset } => {
                let bytes = batch.frames().iter().flat_map(|frame| frame.iter().copied()).collect();
                self.batches.push((token, batch));
                Work::Write { file, bytes, offset }
            }
            Op::Sync { file, metadata } => Work::Sync { file, metadata },
            Op::Rename { from, to } => Work::Rename { from, to },
            Op::Link { from, to } => Work::Link { from, to },
            Op::Unlink { path } => Work::Unlink { path },
            Op::MakeDirectory { path, mode } => Work::MakeDirectory { path, mode },
            other => return Err(other),
        };
        self.work.send((token, work)).expect("the thread ends only after its sender is dropped");
        Ok(())
    }

    /// The next operation that has ended.
    pub(super) fn reap(&mut self) -> Option<(Token, Result<u32, Errno>, Memory)> {
        let (token, result, memory) = self.done.try_recv().ok()?;
        let batch = self.batches.iter().position(|(of, _)| *of == token).map(|at| self.batches.swap_remove(at).1);
        let memory = match (memory, batch) {
            (Some(memory), _) => Memory::Bytes(memory),
            (None, Some(batch)) => Memory::Batch(batch),
            (None, None) => Memory::None,
        };
        Some((token, result.map_err(Errno::from), memory))
    }
}

fn path(path: &CString) -> &Path {
    Path::new(OsStr::from_bytes(path.as_bytes()))
}

fn perform(work: Work) -> (io::Result<u32>, Option<Vec<u8>>) {
    let done = |result: io::Result<()>| (result.map(|()| 0), None);
    match work {
        Work::Open { path: name, flags, mode } => {
            let access = flags & libc::O_ACCMODE;
            let opened = fs::OpenOptions::new()
                .read(access != libc::O_WRONLY)
                .write(access != libc::O_RDONLY)
                .mode(mode)
                .custom_flags(flags & !libc::O_ACCMODE)
                .open(path(&name));
            (opened.map(|file| file.into_raw_fd() as u32), None)
        }
        Work::OpenBeneath { directory, path, flags, mode } => (open_beneath(directory, &path, flags, mode), None),
        Work::Read { file: fd, mut memory, want, offset } => {
            let before = memory.len();
            memory.resize(before + want, 0);
            let read = borrow(fd).read_at(&mut memory[before..], offset);
            memory.truncate(before + *read.as_ref().unwrap_or(&0));
            (read.map(|len| len as u32), Some(memory))
        }
        Work::Write { file: fd, bytes, offset } => (borrow(fd).write_at(&bytes, offset).map(|len| len as u32), None),
        Work::Sync { file: fd, metadata: true } => done(borrow(fd).sync_all()),
        Work::Sync { file: fd, metadata: false } => done(borrow(fd).sync_data()),
        Work::Rename { from, to } => done(fs::rename(path(&from), path(&to))),
        Work::Link { from, to } => done(fs::hard_link(path(&from), path(&to))),
        Work::Unlink { path: name } => done(fs::remove_file(path(&name))),
        Work::MakeDirectory { path: name, mode } => done(fs::DirBuilder::new().mode(mode).create(path(&name))),
    }
}
