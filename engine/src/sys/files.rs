//! Descriptors as std's files.
//!
//! The promise: the caller owns the descriptor and keeps it open; the file made here is never dropped (it comes
//! without its destructor), so nothing is closed twice.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;

use crate::driver::Fd;

/// Borrows a descriptor. A number that is no open descriptor gives `EBADF` with the first use.
pub fn borrow(fd: Fd) -> ManuallyDrop<File> {
    // SAFETY: never dropped, so ownership stays where it is.
    ManuallyDrop::new(unsafe { File::from_raw_fd(fd.0) })
}
