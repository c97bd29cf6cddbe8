//! What a process may ask of the kernel about itself.
//!
//! The promise: plain system calls on memory of our own.

use std::io;

/// Raises the limit of open files to the hard limit; the limit then in force.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is ours to write.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a valid limit, not above the hard one.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}

/// The first descriptor after the standard streams.
const DESCRIPTOR_FIRST: libc::c_uint = 3;

/// Marks every open descriptor but the standard streams as closed by `execve(2)`: a program started later inherits
/// none that somebody left open. Closes nothing.
///
/// # Errors
/// As `close_range(2)`; before Linux 5.11 the kernel has no such call (`ENOSYS` or `EINVAL`).
pub fn keep_descriptors_from_programs() -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
    // SAFETY: sets a flag of descriptors and closes none, so nobody's descriptor ends; no memory is passed.
    match unsafe { libc::close_range(DESCRIPTOR_FIRST, libc::c_uint::MAX, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn descriptors_are_kept_from_programs() {
        let file = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: clears a flag of a descriptor that `file` keeps open.
        assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) }, 0);
        keep_descriptors_from_programs().unwrap();
        // SAFETY: reads a flag of a descriptor that `file` keeps open.
        assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFD) }, libc::FD_CLOEXEC);
    }
}
