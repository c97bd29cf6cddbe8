//! Signals: blocked for the whole process, then taken one by one with `sigwait`.
//!
//! The promise: no handler is installed, so no code of ours runs in signal context; signal sets are plain data
//! that live across each call.

use std::io;

/// A set of blocked signals.
#[derive(Clone, Copy)]
pub struct Blocked(libc::sigset_t);

/// Blocks `signals` in the calling thread and in all threads that it starts from now on.
///
/// # Errors
/// When one of them is not a signal.
pub fn block(signals: &[i32]) -> io::Result<Blocked> {
    // SAFETY: plain data; all zeros is a valid value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is ours and lives across the call.
    unsafe { libc::sigemptyset(&mut set) };
    for &signal in signals {
        // SAFETY: as above; a number that is no signal is refused.
        if unsafe { libc::sigaddset(&mut set, signal) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: both pointers are valid or null; the mask is the calling thread's own.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) } {
        0 => Ok(Blocked(set)),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Waits for one of the signals.
///
/// # Errors
/// `sigwait(3)`'s.
pub fn wait(blocked: &Blocked) -> io::Result<i32> {
    let mut signal = 0;
    // SAFETY: both live across the call.
    match unsafe { libc::sigwait(&blocked.0, &mut signal) } {
        0 => Ok(signal),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Lets writing to a closed pipe or socket fail with `EPIPE` instead of killing the process.
pub fn ignore_broken_pipes() {
    // SAFETY: ignoring installs no handler; the signal exists, so this cannot fail.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Ends the process here and now: no destructors, no exit handlers that might wait for something.
pub fn exit_at_once(status: i32) -> ! {
    // SAFETY: does not return, and runs no code of ours.
    unsafe { libc::_exit(status) }
}
