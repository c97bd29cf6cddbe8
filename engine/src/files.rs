//! Files through the shard's kernel interface: no call here blocks the shard.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use crate::driver::{Batch, Fd, FileMeta, Memory, Op};
use crate::frame::Frame;
use crate::shard::{Core, Shard};

/// How to open a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Allow writing.
    pub write: bool,
    /// Make the file if it is not there.
    pub create: bool,
    /// Make the file; fail if it is there.
    pub create_new: bool,
    /// Cut the file to nothing.
    pub truncate: bool,
}

/// An open file. Dropping it closes it; that makes nothing durable.
pub struct File {
    core: Rc<Core>,
    fd: Fd,
}

/// An open directory, to open files below it and nowhere else. Dropping it closes it.
pub struct Directory {
    core: Rc<Core>,
    fd: Fd,
}

impl OpenOptions {
    fn flags(self) -> i32 {
        let mut flags = if self.write { libc::O_RDWR } else { libc::O_RDONLY };
        flags |= if self.create || self.create_new { libc::O_CREAT } else { 0 };
        flags |= if self.create_new { libc::O_EXCL } else { 0 };
        flags | if self.truncate { libc::O_TRUNC } else { 0 }
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{path:?} has a zero byte in it")))
}

impl Shard {
    /// Opens a file.
    ///
    /// # Errors
    /// As `open(2)`.
    pub async fn open(&self, path: impl AsRef<Path>, options: OpenOptions) -> io::Result<File> {
        self.open_raw(path.as_ref(), options.flags()).await
    }

    async fn open_raw(&self, path: &Path, flags: i32) -> io::Result<File> {
        let (result, _) = self.core.once(Op::Open { path: c_path(path)?, flags, mode: 0o644 }).await;
        Ok(File { core: self.core.clone(), fd: Fd(result? as i32) })
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// As `open(2)`.
    pub async fn open_directory(&self, path: impl AsRef<Path>) -> io::Result<Directory> {
        let (path, flags) = (c_path(path.as_ref())?, libc::O_RDONLY | libc::O_DIRECTORY);
        let (result, _) = self.core.once(Op::Open { path, flags, mode: 0 }).await;
        Ok(Directory { core: self.core.clone(), fd: Fd(result? as i32) })
    }

    /// Gives a file a second name; fails if something has it. Durable once the directory is synced.
    ///
    /// # Errors
    /// As `link(2)`.
    pub async fn link(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let (from, to) = (c_path(from.as_ref())?, c_path(to.as_ref())?);
        self.core.once(Op::Link { from, to }).await.0?;
        Ok(())
    }

    /// Renames a file, replacing what has the new name. Durable once the directory is synced.
    ///
    /// # Errors
    /// As `rename(2)`.
    pub async fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let (from, to) = (c_path(from.as_ref())?, c_path(to.as_ref())?);
        self.core.once(Op::Rename { from, to }).await.0?;
        Ok(())
    }

    /// Removes a file.
    ///
    /// # Errors
    /// As `unlink(2)`.
    pub async fn remove(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.core.once(Op::Unlink { path: c_path(path.as_ref())? }).await.0?;
        Ok(())
    }

    /// Makes a directory; one that is there already is fine.
    ///
    /// # Errors
    /// As `mkdir(2)`.
    pub async fn make_directory(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = c_path(path.as_ref())?;
        match self.core.once(Op::MakeDirectory { path, mode: 0o755 }).await.0 {
            Err(errno) if errno.0 != libc::EEXIST => Err(errno.into()),
            _ => Ok(()),
        }
    }

    /// Makes the directory's entries durable: new, renamed and removed files.
    ///
    /// # Errors
    /// As `open(2)` and `fsync(2)`.
    pub async fn sync_directory(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let directory = self.open_raw(path.as_ref(), libc::O_RDONLY | libc::O_DIRECTORY).await?;
        self.core.once(Op::Sync { file: directory.fd, metadata: true }).await.0?;
        Ok(())
    }
}

impl Directory {
    /// Opens a file below this directory. A path that leaves it, or goes by a symbolic link, is refused by the kernel.
    ///
    /// # Errors
    /// As `openat2(2)`.
    pub async fn open(&self, path: impl AsRef<Path>, options: OpenOptions) -> io::Result<File> {
        let (path, flags) = (c_path(path.as_ref())?, options.flags());
        let mode = if options.create || options.create_new { 0o644 } else { 0 };
        let (result, _) = self.core.once(Op::OpenBeneath { directory: self.fd, path, flags, mode }).await;
        Ok(File { core: self.core.clone(), fd: Fd(result? as i32) })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.core.close_when_idle(self.fd);
    }
}

impl File {
    /// Its length and the moment of its last change.
    ///
    /// # Errors
    /// As `fstat(2)`.
    pub fn meta(&self) -> io::Result<FileMeta> {
        self.core.driver.borrow().stat(self.fd)
    }

    /// Reads up to `want` bytes at `offset`, appended to `memory`, which comes back. Fewer come only at the end
    /// of the file.
    ///
    /// # Errors
    /// As `pread(2)`; the memory is lost then.
    pub async fn read_at(&self, mut memory: Vec<u8>, want: usize, offset: u64) -> io::Result<Vec<u8>> {
        let goal = memory.len() + want;
        let mut offset = offset;
        loop {
            let want = goal - memory.len();
            memory.reserve(want);
            let (result, back) = self.core.once(Op::Read { file: self.fd, memory, want, offset }).await;
            let read = result? as usize;
            memory = match back {
                Memory::Bytes(memory) => memory,
                _ => return Err(io::Error::other("the driver kept the memory of a read")),
            };
            offset += read as u64;
            if read == 0 || memory.len() == goal {
                return Ok(memory);
            }
        }
    }

    /// Writes all of `frame` at `offset`.
    ///
    /// # Errors
    /// As `pwrite(2)`; part of it may be written then.
    pub async fn write_at(&self, frame: Frame, offset: u64) -> io::Result<()> {
        let mut left = Some(Batch::One(frame));
        let mut offset = offset;
        while let Some(batch) = left.take().filter(|batch| !batch.is_empty()) {
            let (result, back) = self.core.once(Op::Write { file: self.fd, batch, offset }).await;
            let wrote = result? as usize;
            if wrote == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            offset += wrote as u64;
            left = match back {
                Memory::Batch(batch) => batch.after(wrote),
                _ => None,
            };
        }
        Ok(())
    }

    /// Makes what was written durable (`fdatasync(2)`). After an error nothing is known about any earlier write:
    /// do not try again, stop.
    ///
    /// # Errors
    /// As `fdatasync(2)`.
    pub async fn sync_data(&self) -> io::Result<()> {
        self.core.once(Op::Sync { file: self.fd, metadata: false }).await.0?;
        Ok(())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.core.close_when_idle(self.fd);
    }
}
