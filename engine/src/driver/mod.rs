//! What a shard asks of a kernel, written three times: io_uring, epoll, and a seeded simulation.
//!
//! The contract, the same for all three:
//!
//! ```text
//!   shard                         driver                        kernel
//!     submit(token, op) ───────►  owns op's memory ───────────►  works on it
//!     turn(wait, &mut out) ────►  one enter / epoll_wait ─────►
//!                       ◄───────  Completion {token, result, more, memory}
//! ```
//!
//! * `submit` never fails and never blocks: what does not fit waits in the driver.
//! * An operation *owns* the memory it works on, and gets it back to the caller only in its terminal
//!   completion (`more == false`). So memory that a kernel may still touch cannot be freed by a mistake above.
//! * Every submitted operation retires exactly once. Cancelling ([`Driver::cancel`]) only hastens that; the
//!   completion still comes, with `ECANCELED` or with whatever happened first.
//! * Tokens are the caller's. The driver hands them back and does not read them.
//! * At most one [`Op::Send`] may be in flight per socket (the caller's duty; the simulation checks it).

pub mod epoll;
mod file_thread;
pub mod sim;
pub mod uring;

use std::ffi::CString;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::buffers::{BufferPool, Lease};
use crate::frame::Frame;

/// A kernel's file descriptor, or the simulation's stand-in for one. Not closed on drop: whoever holds the
/// connection closes it, after its last operation retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fd(pub i32);

/// Names an operation for its submitter: `[tag:8][generation:24][index:32]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(u64);

impl Token {
    /// Packs the three parts; `generation` keeps its low 24 bits.
    pub fn new(tag: u8, generation: u32, index: u32) -> Token {
        Token((tag as u64) << 56 | ((generation & 0xff_ffff) as u64) << 32 | index as u64)
    }

    /// What kind of operation, in the submitter's numbering.
    pub fn tag(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// Which life of the slot the operation belongs to.
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & 0xff_ffff
    }

    /// The submitter's slot.
    pub fn index(self) -> u32 {
        self.0 as u32
    }

    /// The whole token.
    pub fn raw(self) -> u64 {
        self.0
    }

    /// The inverse of [`Token::raw`].
    pub fn from_raw(raw: u64) -> Token {
        Token(raw)
    }
}

/// A positive `errno` of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// The provided buffers ran out; the receive ended and wants to be armed again later.
    pub const NOBUFS: Errno = Errno(libc::ENOBUFS);
    /// There is no room at the moment.
    pub const AGAIN: Errno = Errno(libc::EAGAIN);
    /// The operation was cancelled.
    pub const CANCELED: Errno = Errno(libc::ECANCELED);
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.0)
    }
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Errno {
        Errno(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// Where a socket listens or connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP or UDP over IPv4 or IPv6.
    Ip(SocketAddr),
    /// A Unix stream socket's path.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Ip(addr) => addr.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Address {
        Address::Ip(addr)
    }
}

/// Options set on a listening socket; accepted sockets inherit them.
#[derive(Clone, Debug)]
pub struct SocketOptions {
    /// Several sockets share one port and the kernel spreads connections over them (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// Pending connections the kernel holds before accept.
    pub backlog: u32,
    /// Send small segments at once (`TCP_NODELAY`).
    pub no_delay: bool,
    /// Probe a silent peer after this long (`SO_KEEPALIVE`, `TCP_KEEPIDLE`).
    pub keep_alive: Option<Duration>,
    /// Give up on unacknowledged data after this long (`TCP_USER_TIMEOUT`).
    pub user_timeout: Option<Duration>,
    /// Report writable only when less than this many bytes are unsent (`TCP_NOTSENT_LOWAT`).
    pub not_sent_low_water_bytes: Option<u32>,
}

impl Default for SocketOptions {
    fn default() -> SocketOptions {
        SocketOptions {
            reuse_port: false,
            backlog: crate::limits::BACKLOG,
            no_delay: true,
            keep_alive: None,
            user_timeout: None,
            not_sent_low_water_bytes: None,
        }
    }
}

/// What one send carries: frames in order, as one write.
#[derive(Debug)]
pub enum Batch {
    /// The usual case: one contiguous run of bytes.
    One(Frame),
    /// Gathered by the kernel; never empty.
    Many(Vec<Frame>),
}

impl Batch {
    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.frames().iter().map(|frame| frame.len()).sum()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The frames in order.
    pub fn frames(&self) -> &[Frame] {
        match self {
            Batch::One(frame) => std::slice::from_ref(frame),
            Batch::Many(frames) => frames,
        }
    }

    /// Drops the first `sent` bytes; what remains, or `None` when all was sent.
    pub fn after(self, sent: usize) -> Option<Batch> {
        let mut frames = match self {
            Batch::One(frame) => vec![frame],
            Batch::Many(frames) => frames,
        };
        let mut left = sent;
        let whole = frames.iter().take_while(|frame| {
            let gone = frame.len() <= left;
            if gone {
                left -= frame.len();
            }
            gone
        });
        let whole = whole.count();
        frames.drain(..whole);
        frames.first_mut()?.advance(left);
        Some(if frames.len() == 1 { Batch::One(frames.remove(0)) } else { Batch::Many(frames) })
    }
}

/// One request to the kernel, with the memory it works on.
#[derive(Debug)]
pub enum Op {
    /// Accept until cancelled. Each completion's result is a new descriptor.
    Accept {
        /// The listening socket.
        listener: Fd,
    },
    /// Receive into the shard's buffer pool until cancelled or ended. Each completion carries a [`Lease`];
    /// a result of 0 is the end of the stream; `ENOBUFS` means the pool was empty.
    Receive {
        /// A connected stream socket.
        socket: Fd,
    },
    /// Receive into owned memory: appends up to `want` bytes after `memory`'s length, and completes when they
    /// are all there, at the end of the stream, or on an error. `memory`'s length tells what arrived.
    ReceiveInto {
        /// A connected stream socket.
        socket: Fd,
        /// The memory; its capacity is at least its length plus `want`.
        memory: Vec<u8>,
        /// Bytes wanted.
        want: usize,
    },
    /// Send the batch; the result is the number of bytes taken, short when the peer or kernel forces it.
    Send {
        /// A connected stream socket.
        socket: Fd,
        /// What to send.
        batch: Batch,
        /// How.
        manner: SendManner,
    },
    /// Connect a socket made by [`Driver::socket`].
    Connect {
        /// The socket.
        socket: Fd,
        /// Its peer.
        peer: Address,
    },
    /// Receive one datagram into `memory`'s capacity; completes with [`Memory::Datagram`].
    ReceiveFrom {
        /// A datagram socket.
        socket: Fd,
        /// Its capacity bounds the datagram; longer ones are cut.
        memory: Vec<u8>,
    },
    /// Send one datagram.
    SendTo {
        /// A datagram socket.
        socket: Fd,
        /// The payload.
        memory: Vec<u8>,
        /// The receiver.
        peer: SocketAddr,
    },
    /// Open a file; the result is its descriptor.
    Open {
        /// The path.
        path: CString,
        /// `open(2)` flags; `O_CLOEXEC` is added.
        flags: i32,
        /// Permission bits for a new file.
        mode: u32,
    },
    /// Open a file below a directory, and refuse a path that leaves it or goes by a link (`openat2(2)` with
    /// `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`); the result is its descriptor.
    OpenBeneath {
        /// The directory.
        directory: Fd,
        /// The path, relative to it.
        path: CString,
        /// `open(2)` flags; `O_CLOEXEC` is added.
        flags: i32,
        /// Permission bits for a new file; 0 where none is made.
        mode: u32,
    },
    /// Read up to `want` bytes at `offset`, appended to `memory`.
    Read {
        /// The file.
        file: Fd,
        /// The memory; its capacity is at least its length plus `want`.
        memory: Vec<u8>,
        /// Bytes wanted.
        want: usize,
        /// Where in the file.
        offset: u64,
    },
    /// Write the batch at `offset`; the result is the number of bytes written.
    Write {
        /// The file.
        file: Fd,
        /// What to write.
        batch: Batch,
        /// Where in the file.
        offset: u64,
    },
    /// `fdatasync(2)`, or `fsync(2)` where `metadata` is wanted too (directories).
    Sync {
        /// The file or directory.
        file: Fd,
        /// Whether all metadata must be durable, not only what reading the data needs.
        metadata: bool,
    },
    /// `rename(2)`.
    Rename {
        /// The old path.
        from: CString,
        /// The new path, replaced if it exists.
        to: CString,
    },
    /// `link(2)`: a second name, which replaces nothing.
    Link {
        /// The name it has.
        from: CString,
        /// The name it gets.
        to: CString,
    },
    /// `unlink(2)`.
    Unlink {
        /// The path.
        path: CString,
    },
    /// `mkdir(2)`.
    MakeDirectory {
        /// The path.
        path: CString,
        /// Permission bits.
        mode: u32,
    },
}

/// What a completion gives back or brings.
#[derive(Debug)]
pub enum Memory {
    /// Nothing.
    None,
    /// Received bytes, in a buffer of the pool.
    Lease(Lease),
    /// The memory of a read, a direct receive or a datagram sent.
    Bytes(Vec<u8>),
    /// The batch of a send or write.
    Batch(Batch),
    /// A datagram and who sent it.
    Datagram(Vec<u8>, SocketAddr),
}

/// The outcome of an operation, or one of several while `more` is set.
#[derive(Debug)]
pub struct Completion {
    /// The submitter's name for it.
    pub token: Token,
    /// Bytes, or a descriptor, or 0; else why not.
    pub result: Result<u32, Errno>,
    /// Whether this operation will complete again.
    pub more: bool,
    /// The memory that comes back.
    pub memory: Memory,
}

/// How long a turn may sleep in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until something completes, the doorbell rings, or this moment of [`Driver::now`] has come.
    Until(Option<Duration>),
}

/// How a send is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendManner {
    /// Copied into the kernel, which waits until it has taken everything.
    Copy,
    /// Read by the kernel in place: completes once more when the memory is free, with 1 where the kernel says that it had to
    /// copy all the same, because the receiver is on this machine, or its device cannot gather.
    ZeroCopy,
    /// Copied as far as there is room at once; what does not fit is told as a short result or `EAGAIN`. Nobody waits for
    /// the outcome, so the driver need not end a sleep for it.
    Quiet,
}

/// Which kernel interface a driver uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// `io_uring(7)`.
    Uring,
    /// `epoll(7)`.
    Epoll,
    /// The seeded simulation.
    Sim,
}

impl std::fmt::Display for DriverKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            DriverKind::Uring => "io_uring",
            DriverKind::Epoll => "epoll",
            DriverKind::Sim => "sim",
        })
    }
}

/// Wakes a sleeping driver from any thread. Rings are not counted: many before a wake are one.
pub trait Bell: Send + Sync {
    /// Ends the driver's current or next wait.
    fn ring(&self);

    /// The io_uring that a peer's ring may message directly, if that is how it likes to be woken.
    fn ring_fd(&self) -> Option<i32> {
        None
    }
}

/// A shared [`Bell`].
pub type Doorbell = Arc<dyn Bell>;

/// Which half of a connection to shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// Sending: the peer sees the end of the stream.
    Write,
    /// Both: pending operations on the socket end.
    Both,
}

/// What an open file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMeta {
    /// Bytes.
    pub len: u64,
    /// Its last change, since 1970.
    pub modified: Duration,
}

/// What a driver did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// System calls that submit to or wait for the kernel.
    pub enters: u64,
    /// Operations handed to the kernel.
    pub submitted: u64,
    /// Times the kernel had more completions than room for them.
    pub overflows: u64,
}

/// A kernel, as seen by the one shard that owns it.
pub trait Driver {
    /// Which interface this is.
    fn kind(&self) -> DriverKind;

    /// Whether all that is asked for without a system call of its own is bound to the operations of this engine. Where nothing is,
    /// as in a driver without a ring, it is too.
    ///
    /// # Errors
    /// The kernel's, which does not bind it.
    fn restricted(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// Hands over an operation. It starts at the next [`Driver::turn`] at the latest.
    fn submit(&mut self, token: Token, op: Op);

    /// Hastens the end of every operation on `fd`.
    fn cancel(&mut self, fd: Fd);

    /// Hastens the end of the one [`Op::Receive`] named `token` on `socket`, and of nothing else there.
    fn cancel_receive(&mut self, socket: Fd, token: Token);

    /// Starts what was submitted, sleeps as `wait` allows unless something is ready, and appends completions
    /// to `out`, at most a bounded number. Interruptions and back-pressure of the kernel are not errors.
    ///
    /// # Errors
    /// Only what leaves the driver unusable.
    fn turn(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()>;

    /// What it did so far; zeros where a driver does not count.
    fn account(&self) -> Account {
        Account::default()
    }

    /// The buffers that [`Op::Receive`] fills.
    fn pool(&self) -> &Rc<BufferPool>;

    /// Time since an arbitrary start, never going back.
    fn now(&self) -> Duration;

    /// The machine's clock: time since 1970, which people and other machines know, and which may be set.
    fn unix_now(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// A handle that wakes this driver.
    fn doorbell(&self) -> Doorbell;

    /// Wakes a peer's driver, by the cheapest way this one knows.
    fn ring(&mut self, peer: &Doorbell) {
        peer.ring();
    }

    /// Operations submitted and not yet retired.
    fn in_flight(&self) -> usize;

    /// The next connection that waits at a listening socket, at once; none if none does, or where a kernel has no such thing.
    fn accept_now(&mut self, _listener: Fd) -> Option<Fd> {
        None
    }

    /// As [`Driver::close`], for a socket that another process may have too: nothing more is heard of it here all the same.
    fn close_shared(&mut self, fd: Fd) {
        self.close(fd);
    }

    /// Opens a listening socket; the address tells the port that was chosen when 0 was asked.
    ///
    /// # Errors
    /// The kernel's, as from `socket`, `bind` and `listen`.
    fn listen(&mut self, address: &Address, options: &SocketOptions) -> io::Result<(Fd, Address)>;

    /// Opens a stream socket that can connect to `peer`.
    ///
    /// # Errors
    /// The kernel's, as from `socket(2)`.
    fn socket(&mut self, peer: &Address, options: &SocketOptions) -> io::Result<Fd>;

    /// Opens two stream sockets that are connected with each other.
    ///
    /// # Errors
    /// The kernel's, as from `socketpair(2)`; the simulated kernel has none.
    fn pair(&mut self) -> io::Result<(Fd, Fd)>;

    /// Opens a datagram socket bound to `local`.
    ///
    /// # Errors
    /// The kernel's, as from `socket` and `bind`.
    fn datagram(&mut self, local: SocketAddr) -> io::Result<(Fd, SocketAddr)>;

    /// The address of a connected socket's peer.
    ///
    /// # Errors
    /// The kernel's, as from `getpeername(2)`.
    fn peer(&self, socket: Fd) -> io::Result<Address>;

    /// Applies options to an accepted or connected socket.
    ///
    /// # Errors
    /// The kernel's, as from `setsockopt(2)`.
    fn configure(&mut self, socket: Fd, options: &SocketOptions) -> io::Result<()>;

    /// What an open file says of itself. Its inode is in memory, so that a local file system answers at once.
    ///
    /// # Errors
    /// The kernel's, as from `fstat(2)`.
    fn stat(&self, file: Fd) -> io::Result<FileMeta>;

    /// Shuts one or both halves down; errors mean that the connection is gone, which completions tell too.
    fn shutdown(&mut self, socket: Fd, how: Shut);

    /// Closes a descriptor on which nothing is in flight.
    fn close(&mut self, fd: Fd);
}
