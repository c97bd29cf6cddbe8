//! An epoll set.
//!
//! The promise: the descriptor is open as long as the set exists, and the kernel writes events only into memory of
//! the length it was told.

use std::io;
use std::time::Duration;

use crate::driver::Fd;

/// Readiness of one descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// What was registered for.
    pub fd: Fd,
    /// Input, its end, or an error.
    pub input: bool,
    /// Room for output, or an error.
    pub output: bool,
}

/// See the module's description.
pub struct Epoll {
    fd: i32,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    /// An empty set that reports up to `most` descriptors at a time.
    pub fn new(most: usize) -> io::Result<Epoll> {
        // SAFETY: a system call on plain numbers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Epoll { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; most] })
    }

    /// Watches `fd` for edges in both directions. One call for its whole life.
    pub fn add(&self, fd: Fd) -> io::Result<()> {
        let edges = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        let mut event = libc::epoll_event { events: edges as u32, u64: fd.0 as u64 };
        // SAFETY: `event` lives until the call returns.
        let added = unsafe { libc::epoll_ctl(self.fd, libc::EPOLL_CTL_ADD, fd.0, &mut event) };
        if added < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Watches `fd` no more. Closing it does the same, unless another process has the same file.
    pub fn remove(&self, fd: Fd) {
        // SAFETY: the kernel ignores the event's pointer here. An error means that it was not watched.
        unsafe { libc::epoll_ctl(self.fd, libc::EPOLL_CTL_DEL, fd.0, std::ptr::null_mut()) };
    }

    /// Waits at most `timeout`, for ever if there is none. An interruption gives nothing.
    pub fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        let most = self.events.len() as i32;
        // Rounded up: waking early would only mean waiting again.
        let ms = timeout.map_or(-1, |timeout| timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i32);
        // SAFETY: `events` has room for `most` events.
        let count = unsafe { libc::epoll_wait(self.fd, self.events.as_mut_ptr(), most, ms) };
        if count < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        ready.extend(self.events[..count as usize].iter().map(|event| {
            let (events, fd) = (event.events as i32, Fd(event.u64 as i32));
            let broken = events & (libc::EPOLLERR | libc::EPOLLHUP) != 0;
            Ready {
                fd,
                input: broken || events & (libc::EPOLLIN | libc::EPOLLRDHUP) != 0,
                output: broken || events & libc::EPOLLOUT != 0,
            }
        }));
        Ok(())
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours and not used after this.
        unsafe { libc::close(self.fd) };
    }
}
