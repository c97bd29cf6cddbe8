//! Where another thread is right now: a signal makes it write its own return addresses down.
//!
//! ```text
//!   asker: WANTED = its number ─► tgkill ─► (that thread) claims WANTED, writes ADDRESSES ─► DONE
//! ```
//!
//! The promise: the signal's action touches nothing but atomics and the thread's own stack. It takes no lock of
//! ours and allocates nothing; the unwinder reads tables that are loaded already (`install` has run it once, so
//! that what it sets up on first use is set up). Only the thread that claims the request writes, so an answer
//! that comes too late finds no request and writes nothing.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Return addresses kept of one thread; the outermost beyond that are left out.
const DEPTH_MAX: usize = 96;
/// How long a thread may take to answer. One that sits in an uninterruptible call of the kernel does not.
const PATIENCE: Duration = Duration::from_millis(200);

const NOBODY: i32 = 0;
const CLAIMED: i32 = -1;

static WANTED: AtomicI32 = AtomicI32::new(NOBODY);
static DONE: AtomicBool = AtomicBool::new(false);
static DEPTH: AtomicUsize = AtomicUsize::new(0);
/// The first address that is not the signal's own.
static OUTER: AtomicUsize = AtomicUsize::new(0);
static ADDRESSES: [AtomicUsize; DEPTH_MAX] = [const { AtomicUsize::new(0) }; DEPTH_MAX];

/// The signal: real-time ones have no meaning of their own, and the C library keeps the first few for itself.
fn signal_number() -> i32 {
    libc::SIGRTMIN() + 7
}

/// The outcome of preparing, or its errno.
static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();

/// Prepares for [`where_is`]. Once per process; later calls give the first one's outcome.
///
/// # Errors
/// `sigaction(2)`'s.
pub fn install() -> io::Result<()> {
    let set = || set_action().map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL));
    INSTALLED.get_or_init(set).map_err(io::Error::from_raw_os_error)
}

fn set_action() -> io::Result<()> {
    // SAFETY: this thread only; nobody symbolizes, which is what the crate's lock would guard.
    unsafe { backtrace::trace_unsynchronized(|_| false) };
    // SAFETY: plain data; all zeros is a valid value: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_signal as *const () as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `on_signal` has the signature for an action without SA_SIGINFO and is async-signal-safe (module
    // promise); `action` lives across the call.
    match unsafe { libc::sigaction(signal_number(), &action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs on the thread asked about, in the middle of whatever it does.
extern "C" fn on_signal(_number: libc::c_int) {
    // SAFETY: the address of this thread's errno is valid as long as the thread.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { errno.read() };
    if WANTED.compare_exchange(super::threads::current_thread(), CLAIMED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    {
        write_down();
    }
    // SAFETY: as above. The interrupted code must not see our errno.
    unsafe { errno.write(before) };
}

fn write_down() {
    let mut depth = 0;
    let mut outer = 0;
    // SAFETY: unwinds this thread's own stack; the closure touches atomics only. The crate's lock, which a signal
    // must not take, guards only state of Windows and of symbolizing.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            ADDRESSES[depth].store(frame.ip() as usize, Ordering::Relaxed);
            depth += 1;
            if std::ptr::eq(frame.symbol_address(), on_signal as *const std::ffi::c_void) {
                // Outside of the action is the kernel's trampoline, then comes the code that was interrupted.
                outer = depth + 1;
            }
            depth < DEPTH_MAX
        });
    }
    OUTER.store(outer.min(depth), Ordering::Relaxed);
    DEPTH.store(depth, Ordering::Relaxed);
    DONE.store(true, Ordering::Release);
}

/// The return addresses of `thread`, innermost first. `None` when it is gone or does not answer in time,
/// or when [`install`] has not succeeded.
pub fn where_is(thread: i32) -> Option<Vec<usize>> {
    if INSTALLED.get() != Some(&Ok(())) {
        // The signal's default action would end the process.
        return None;
    }
    // One request at a time; what it guards is reset below, so a panic left nothing behind.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    DONE.store(false, Ordering::Relaxed);
    WANTED.store(thread, Ordering::Release);
    // SAFETY: no memory is passed, and the action is installed, as looked at above.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), thread, signal_number()) };
    let until = Instant::now() + PATIENCE;
    while !DONE.load(Ordering::Acquire) {
        let late = sent != 0 || Instant::now() >= until;
        // Once claimed the answer is on its way, however late.
        if late && WANTED.compare_exchange(thread, NOBODY, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return None;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    WANTED.store(NOBODY, Ordering::Relaxed);
    let (outer, depth) = (OUTER.load(Ordering::Relaxed), DEPTH.load(Ordering::Relaxed));
    Some(ADDRESSES[outer..depth].iter().map(|address| address.load(Ordering::Relaxed)).collect())
}
