//! Descriptors as std's files.
//!
//! The promise: the caller owns the descriptor and keeps it open; the file made here is never dropped (it comes
//! without its destructor), so nothing is closed twice.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::time::{Duration, UNIX_EPOCH};

use crate::driver::{Fd, FileMeta};

/// The path must stay below the directory and go by no link.
pub const BENEATH: u64 = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;

/// Borrows a descriptor. A number that is no open descriptor gives `EBADF` with the first use.
pub fn borrow(fd: Fd) -> ManuallyDrop<File> {
    // SAFETY: never dropped, so ownership stays where it is.
    ManuallyDrop::new(unsafe { File::from_raw_fd(fd.0) })
}

/// What an open file says of itself.
///
/// # Errors
/// As `fstat(2)`.
pub fn stat(file: Fd) -> io::Result<FileMeta> {
    let metadata = borrow(file).metadata()?;
    // A clock that was before 1970 tells nothing better than 1970.
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Ok(FileMeta { len: metadata.len(), modified })
}

/// Opens a file below a directory, for the thread that may block.
///
/// # Errors
/// As `openat2(2)`: `EXDEV` and `ELOOP` for a path that leaves the directory or goes by a link.
pub fn open_beneath(directory: Fd, path: &CStr, flags: i32, mode: u32) -> io::Result<u32> {
    // SAFETY: plain data; all zeros is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = u64::from(mode);
    how.resolve = BENEATH;
    let size = size_of::<libc::open_how>();
    // SAFETY: `path` ends with a zero byte, and both it and `how` live across the call, which writes to neither.
    let fd = unsafe { libc::syscall(libc::SYS_openat2, directory.0, path.as_ptr(), &raw const how, size) };
    u32::try_from(fd).map_err(|_| io::Error::last_os_error())
}
