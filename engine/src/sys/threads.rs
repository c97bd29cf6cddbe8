//! What a thread asks the kernel about itself: its number, to be woken in time, and to come after everyone else.
//!
//! The promise: every call concerns the calling thread only, and passes no memory that outlives the call.

use std::io;

/// The calling thread's number, as `tgkill(2)` wants it.
pub fn current_thread() -> i32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// Has the kernel wake the calling thread when its timers are due, not up to 50 us later, as it may by default.
///
/// # Errors
/// As `prctl(2)`.
pub fn wake_in_time() -> io::Result<()> {
    const NANOSECOND: libc::c_ulong = 1;
    // SAFETY: sets a number of the calling thread; no memory is passed.
    match unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, NANOSECOND) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets the calling thread run only when nothing else wants its core; where that is refused, at the lowest of the
/// ordinary priorities.
///
/// # Errors
/// When both were refused.
pub fn yield_to_all() -> io::Result<()> {
    // SAFETY: plain data; all zeros is a valid value.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: 0 names the calling thread; `parameters` lives across the call.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &parameters) } == 0 {
        return Ok(());
    }
    // SAFETY: 0 names the calling thread (on Linux a thread has its own nice value); no memory is passed.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_can_step_back() {
        let lowered = std::thread::spawn(|| {
            yield_to_all().unwrap();
            // SAFETY: 0 names the calling thread; no memory is passed.
            unsafe { libc::sched_getscheduler(0) }
        });
        let policy = lowered.join().unwrap();
        assert!(policy == libc::SCHED_IDLE || policy == libc::SCHED_OTHER);
        std::thread::spawn(|| wake_in_time().unwrap()).join().unwrap();
        assert_ne!(current_thread(), std::thread::spawn(current_thread).join().unwrap());
    }
}
