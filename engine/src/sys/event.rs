//! An eventfd: a bell that any thread may ring.
//!
//! The promise: the descriptor is open as long as the bell exists.

use std::io;

use crate::driver::Fd;

/// See the module's description.
pub struct EventFd {
    fd: i32,
}

impl EventFd {
    /// A bell that has not rung.
    pub fn new() -> io::Result<EventFd> {
        // SAFETY: a system call on plain numbers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(EventFd { fd }) }
    }

    /// The descriptor, to be watched for input.
    pub fn fd(&self) -> Fd {
        Fd(self.fd)
    }

    /// Makes the descriptor readable. A counter at its limit is readable already, so no error matters.
    pub fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the descriptor is ours and `one` holds the eight bytes an eventfd takes.
        unsafe { libc::write(self.fd, one.as_ptr().cast(), one.len()) };
    }

    /// Makes it silent again.
    pub fn drain(&self) {
        let mut count = [0u8; 8];
        // SAFETY: the descriptor is ours and `count` has room for the eight bytes an eventfd gives.
        unsafe { libc::read(self.fd, count.as_mut_ptr().cast(), count.len()) };
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours and not used after this.
        unsafe { libc::close(self.fd) };
    }
}
