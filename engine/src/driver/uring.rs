//! The io_uring driver: one ring per shard, set up with the best flags this kernel grants.
//!
//! It owns no policy but two: how deep the provided buffers are published (a small warm set, grown when the
//! kernel ran out, shrunk when it is quiet), and which kernels are refused because they returned wrong data.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{
    Account, Address, Bell, Completion, Doorbell, Driver, DriverKind, Errno, Fd, FileMeta, Op, Shut, SocketOptions,
    Token, Wait,
};
use crate::buffers::BufferPool;
use crate::limits;
use crate::sys::event::EventFd;
use crate::sys::files;
use crate::sys::net;
use crate::sys::uring::{Ring, Setup};

/// Fewest buffers the kernel keeps: they stay in a core's own cache.
const PUBLISHED_MIN: usize = 64;
/// How long without starvation before the published depth is halved.
const QUIET: Duration = Duration::from_secs(2);

/// One fact about what the kernel granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// What it is called.
    pub name: &'static str,
    /// Whether we have it.
    pub granted: bool,
    /// What it is good for, or why it is absent.
    pub note: String,
}

/// See the module's description.
pub struct UringDriver {
    ring: Ring,
    pool: Rc<BufferPool>,
    start: Instant,
    bell: Arc<RingBell>,
    depth: usize,
    starved_at: Option<Instant>,
    capabilities: Vec<Capability>,
    message_rings: bool,
    restricted: Result<(), Errno>,
}

struct RingBell {
    event: EventFd,
    ring: i32,
    message: bool,
}

impl Bell for RingBell {
    fn ring(&self) {
        self.event.ring();
    }

    fn ring_fd(&self) -> Option<i32> {
        self.message.then_some(self.ring)
    }
}

/// Flag sets from the newest kernels to the oldest that will do.
const SETUPS: [Setup; 3] = [
    Setup {
        defer_taskrun: true,
        coop_taskrun: true,
        single_issuer: true,
        no_sqarray: true,
        sq_entries: limits::SQ_ENTRIES,
        cq_entries: limits::CQ_ENTRIES,
    },
    Setup {
        defer_taskrun: true,
        coop_taskrun: true,
        single_issuer: true,
        no_sqarray: false,
        sq_entries: limits::SQ_ENTRIES,
        cq_entries: limits::CQ_ENTRIES,
    },
    Setup {
        defer_taskrun: false,
        coop_taskrun: true,
        single_issuer: true,
        no_sqarray: false,
        sq_entries: limits::SQ_ENTRIES,
        cq_entries: limits::CQ_ENTRIES,
    },
];

impl UringDriver {
    /// Sets a ring up for the calling thread, which alone may use it.
    ///
    /// # Errors
    /// The kernel's word when it grants no usable ring: `EPERM` where a sandbox blocks it, `ENOSYS` where it is
    /// absent, `ENOMEM` when locked memory is short even for the smallest ring, `EOPNOTSUPP` on a kernel on the
    /// denylist.
    pub fn new(buffers: usize, start: Instant) -> io::Result<UringDriver> {
        if let Some(why) = denied(&net::kernel_release()) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let pool = BufferPool::new(buffers)?;
        let (mut ring, setup) = best_ring(&pool)?;
        let mut capabilities = describe(&setup);
        let registered = ring.register_ring_fd().is_ok();
        capabilities.push(capability("registered ring descriptor", registered, "saves a lookup per enter"));
        let zero_copy = ring.supports(io_uring::opcode::SendZc::CODE);
        capabilities.push(capability("zero-copy send", zero_copy, "large frames leave without a copy"));
        // The flag has no probe of its own; it is older than this operation.
        if ring.supports(io_uring::opcode::FutexWait::CODE) {
            ring.report_copies();
        }
        let capped = ring.cap_workers(limits::KERNEL_WORKERS_MAX).is_ok();
        capabilities.push(capability("capped kernel workers", capped, "file operations use few threads"));
        let message_rings = ring.supports(io_uring::opcode::MsgRingData::CODE);
        // Nothing is registered after this.
        let restricted = ring.enable()?;
        capabilities.push(capability(
            "restricted operations",
            restricted.is_ok(),
            "the ring takes those of the engine only",
        ));
        let event = EventFd::new()?;
        ring.watch(event.fd());
        let bell = Arc::new(RingBell { event, ring: ring.fd(), message: message_rings && limits::WAKE_BY_MESSAGE });
        let depth = PUBLISHED_MIN.min(pool.count());
        Ok(UringDriver { ring, pool, start, bell, depth, starved_at: None, capabilities, message_rings, restricted })
    }

    /// What this kernel granted, for people.
    pub fn capabilities(&self) -> &[Capability] {
        &self.capabilities
    }

    fn adjust_depth(&mut self, starved: bool) {
        if starved {
            self.depth = (self.depth * 2).min(self.pool.count());
            self.starved_at = Some(Instant::now());
        } else if self.depth > PUBLISHED_MIN && self.starved_at.is_some_and(|at| at.elapsed() > QUIET) {
            self.depth = (self.depth / 2).max(PUBLISHED_MIN);
            self.starved_at = (self.depth > PUBLISHED_MIN).then(Instant::now);
            self.pool.release_free_pages();
        }
    }
}

/// Tries the setups in order; where memory is short, smaller completion queues.
fn best_ring(pool: &Rc<BufferPool>) -> io::Result<(Ring, Setup)> {
    let mut last = io::Error::from_raw_os_error(libc::ENOSYS);
    for setup in SETUPS {
        let mut setup = setup;
        loop {
            match Ring::new(setup, pool.clone()) {
                Ok(ring) => return Ok((ring, setup)),
                Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && setup.cq_entries > 256 => {
                    setup.cq_entries /= 2;
                    setup.sq_entries = setup.sq_entries.min(setup.cq_entries / 4);
                }
                Err(error) => {
                    last = error;
                    break;
                }
            }
        }
        if last.raw_os_error() != Some(libc::EINVAL) {
            break;
        }
    }
    Err(last)
}

fn capability(name: &'static str, granted: bool, note: &str) -> Capability {
    Capability { name, granted, note: note.to_owned() }
}

fn describe(setup: &Setup) -> Vec<Capability> {
    let size = format!("{} submissions, {} completions", setup.sq_entries, setup.cq_entries);
    vec![
        Capability { name: "io_uring", granted: true, note: size },
        capability("single issuer", setup.single_issuer, "cheaper locking in the kernel"),
        capability("deferred task work", setup.defer_taskrun, "completions run only inside our own enter"),
        capability("no submission array", setup.no_sqarray, "one indirection less per submission"),
        capability("multishot receive", true, "one armed receive per connection, buffers only when data came"),
    ]
}

/// Kernels known to return wrong data with the features this driver lives on.
fn denied(release: &str) -> Option<String> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u32>().ok());
    let version = (numbers.next()?, numbers.next()?, numbers.next().unwrap_or(0));
    let why = match version {
        (major, minor, _) if (major, minor) < (6, 0) => "multishot receive needs Linux 6.0",
        (6, 1, 7) => "it leaks provided buffers",
        (6, 6, 1..=16) | (6, 7, 0..=4) => "multishot accept with deferred task work loses connections",
        _ => return None,
    };
    Some(format!("Linux {release} is not used with io_uring: {why}"))
}

impl Driver for UringDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Uring
    }

    fn restricted(&self) -> Result<(), Errno> {
        self.restricted
    }

    fn submit(&mut self, token: Token, op: Op) {
        self.ring.submit(token, op);
    }

    fn cancel(&mut self, fd: Fd) {
        self.ring.cancel(fd);
    }

    fn cancel_receive(&mut self, _socket: Fd, token: Token) {
        self.ring.cancel_token(token);
    }

    fn turn(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()> {
        self.ring.publish(self.depth);
        let sleep = match wait {
            Wait::No => None,
            Wait::Until(None) => Some(None),
            Wait::Until(Some(at)) => at.checked_sub(self.now()).filter(|left| !left.is_zero()).map(Some),
        };
        self.ring.enter(sleep)?;
        let first = out.len();
        self.ring.reap(limits::COMPLETIONS_PER_TURN, out);
        let starved = out[first..].iter().any(|done| done.result == Err(Errno::NOBUFS));
        self.adjust_depth(starved);
        Ok(())
    }

    fn account(&self) -> Account {
        Account { enters: self.ring.enters, submitted: self.ring.submitted, overflows: self.ring.overflows }
    }

    fn pool(&self) -> &Rc<BufferPool> {
        &self.pool
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn doorbell(&self) -> Doorbell {
        self.bell.clone()
    }

    fn ring(&mut self, peer: &Doorbell) {
        match peer.ring_fd() {
            Some(fd) if self.message_rings => self.ring.message(fd),
            _ => peer.ring(),
        }
    }

    fn in_flight(&self) -> usize {
        self.ring.in_flight()
    }

    fn listen(&mut self, address: &Address, options: &SocketOptions) -> io::Result<(Fd, Address)> {
        net::listen(address, options)
    }

    fn accept_now(&mut self, listener: Fd) -> Option<Fd> {
        net::accept(listener).ok()
    }

    fn socket(&mut self, peer: &Address, options: &SocketOptions) -> io::Result<Fd> {
        net::socket(peer, options)
    }

    fn pair(&mut self) -> io::Result<(Fd, Fd)> {
        net::pair()
    }

    fn datagram(&mut self, local: SocketAddr) -> io::Result<(Fd, SocketAddr)> {
        net::datagram(local)
    }

    fn peer(&self, socket: Fd) -> io::Result<Address> {
        net::peer(socket)
    }

    fn configure(&mut self, socket: Fd, options: &SocketOptions) -> io::Result<()> {
        net::configure(socket, options)
    }

    fn stat(&self, file: Fd) -> io::Result<FileMeta> {
        files::stat(file)
    }

    fn shutdown(&mut self, socket: Fd, how: Shut) {
        net::shutdown(socket, how);
    }

    fn close(&mut self, fd: Fd) {
        net::close(fd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_corrupt_are_refused_by_name() {
        assert!(denied("5.15.0-91-generic").unwrap().contains("6.0"));
        assert!(denied("6.1.7").unwrap().contains("leaks"));
        assert!(denied("6.7.4-arch").is_some());
        assert!(denied("6.6.5").is_some());
        assert_eq!(denied("6.6.40"), None);
        assert_eq!(denied("6.18.44-fc"), None);
        assert_eq!(denied("6.1.8"), None);
        assert_eq!(denied("nonsense"), None);
    }
}
