//! Waiting for sockets or for the next request's time, whichever comes first, exact to microseconds.

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// The alarm's own events.
pub const TIMER: Token = Token(usize::MAX);
/// Closer than this, the next request is waited for without sleeping.
const SPIN_NS: u64 = 20_000;
/// The longest sleep: time-outs are looked for as often.
const NAP: Duration = Duration::from_millis(20);

/// A poll with a timer of the kernel's.
pub struct Alarm {
    /// Where sockets are registered.
    pub poll: Poll,
    timer: OwnedFd,
}

impl Alarm {
    /// A new one.
    ///
    /// # Errors
    /// A sentence: the kernel grants no poll or timer.
    pub fn new() -> Result<Alarm, String> {
        let failed = |error: std::io::Error| format!("the generator cannot start: {error}");
        let poll = Poll::new().map_err(failed)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)
            .map_err(|error| failed(error.into()))?;
        poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE).map_err(failed)?;
        Ok(Alarm { poll, timer })
    }

    /// Waits for an event, or until `ahead` nanoseconds are over.
    ///
    /// # Errors
    /// A sentence: the kernel refused.
    pub fn wait(&mut self, events: &mut Events, ahead: Option<u64>) -> Result<(), String> {
        let nap = match ahead {
            Some(ahead) if ahead < SPIN_NS => Duration::ZERO,
            Some(ahead) => {
                let it_value =
                    Timespec { tv_sec: (ahead / 1_000_000_000) as i64, tv_nsec: (ahead % 1_000_000_000) as _ };
                let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
                timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)
                    .map_err(|error| format!("the generator's timer: {error}"))?;
                NAP
            }
            None => NAP,
        };
        match self.poll.poll(events, Some(nap)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => Err(format!("the generator's poll: {error}")),
            _ => Ok(()),
        }
    }
}
