//! Signals as events: blocked everywhere, taken by one thread, told to a callback.
//!
//! ```text
//!   main: Signals::block() ─► start threads (they inherit the mask) ─► listen(callback)
//!   TERM, INT   first: Signal::Drain     second: exit at once, status 143 or 130
//!   HUP, USR1   Signal::Reload, Signal::User1, as often as they come
//!   PIPE        ignored
//! ```

use std::io;

use crate::sys::signals::{Blocked, block, exit_at_once, ignore_broken_pipes, wait};

/// What the outside asks of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT for the first time: finish what is begun, then end.
    Drain,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1.
    User1,
}

/// Proof that the signals are blocked in this process's threads.
pub struct Signals {
    blocked: Blocked,
}

impl Signals {
    /// Blocks the signals. Call in `main` before any thread starts: a thread that is not covered could be hit.
    ///
    /// # Errors
    /// The kernel's, as from `pthread_sigmask(3)`.
    pub fn block() -> io::Result<Signals> {
        ignore_broken_pipes();
        let blocked = block(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1])?;
        Ok(Signals { blocked })
    }

    /// Starts the thread that takes the signals and calls `on_signal` for each. It runs until the process ends.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn listen(self, on_signal: impl FnMut(Signal) + Send + 'static) -> io::Result<()> {
        let body = move || take(&self.blocked, on_signal);
        std::thread::Builder::new().name("signals".to_owned()).spawn(body).map(drop)
    }
}

fn take(blocked: &Blocked, mut on_signal: impl FnMut(Signal)) {
    let mut draining = false;
    loop {
        let Ok(number) = wait(blocked) else { continue };
        match verdict(number, &mut draining) {
            Some(Verdict::Tell(signal)) => on_signal(signal),
            Some(Verdict::Exit(status)) => exit_at_once(status),
            None => {}
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Tell(Signal),
    Exit(i32),
}

fn verdict(number: i32, draining: &mut bool) -> Option<Verdict> {
    match number {
        // The status by which a shell tells death by a signal.
        libc::SIGTERM | libc::SIGINT if *draining => Some(Verdict::Exit(128 + number)),
        libc::SIGTERM | libc::SIGINT => {
            *draining = true;
            Some(Verdict::Tell(Signal::Drain))
        }
        libc::SIGHUP => Some(Verdict::Tell(Signal::Reload)),
        libc::SIGUSR1 => Some(Verdict::Tell(Signal::User1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_asks_and_the_second_ends() {
        for (second, status) in [(libc::SIGTERM, 143), (libc::SIGINT, 130)] {
            let mut draining = false;
            let mut after = |number| verdict(number, &mut draining);
            assert_eq!(after(libc::SIGHUP), Some(Verdict::Tell(Signal::Reload)));
            assert_eq!(after(libc::SIGINT), Some(Verdict::Tell(Signal::Drain)));
            assert_eq!(after(libc::SIGUSR1), Some(Verdict::Tell(Signal::User1)));
            assert_eq!(after(second), Some(Verdict::Exit(status)));
            assert_eq!(after(libc::SIGWINCH), None);
        }
    }
}
