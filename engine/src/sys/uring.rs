//! One io_uring and the memory its operations work on.
//!
//! The promise: whatever an SQE points at is held here, at a stable address, from before the SQE is queued until
//! its terminal completion. It leaves only through [`Ring::reap`]; when the ring is dropped with operations
//! still in flight, their memory is leaked rather than freed under the kernel.
//!
//! ```text
//!   user_data   0 │ token of 63 bits                 no memory: accept, multishot receive
//!               1 │ generation:31 │ slot:32          memory held in slots[slot]
//!               one of the words at the very top     the ring's own: doorbell, cancel, message
//! ```

use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::register::Restriction;
use io_uring::squeue::Entry;
use io_uring::types::{BufRingEntry, CancelBuilder, Fd as RingFd, FsyncFlags, OpenHow, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};

use super::files::BENEATH;
use super::memory::Mapping;
use super::net::{SockAddr, gather};
use crate::buffers::BufferPool;
use crate::driver::{Batch, Completion, Errno, Fd, Memory, Op, SendManner, Token};

const OWNED: u64 = 1 << 63;
/// Completions of the ring's own requests; no slot number is ever this high.
const DOORBELL: u64 = u64::MAX;
const UNHEARD: u64 = u64::MAX - 1;

const BUFFER_GROUP: u16 = 0;
/// `IORING_RECVSEND_POLL_FIRST`: wait for data before taking a buffer, so that an armed but silent socket
/// survives an empty buffer ring.
const POLL_FIRST: u16 = 1;
/// `IORING_SEND_ZC_REPORT_USAGE`, and what the notification's result is then: `IORING_NOTIF_USAGE_ZC_COPIED`, its highest
/// bit alone, which as an error's number is its own negative.
const SEND_ZC_REPORT_USAGE: u16 = 1 << 3;
const NOTIF_USAGE_ZC_COPIED: i32 = i32::MIN;

/// Every operation that [`Ring`] ever asks for. A ring takes no others once it is enabled, because filters of system calls do not
/// see what a ring is asked for.
const OPERATIONS: [u8; 22] = [
    opcode::AcceptMulti::CODE,
    opcode::AsyncCancel::CODE,
    opcode::AsyncCancel2::CODE,
    opcode::Connect::CODE,
    opcode::Fsync::CODE,
    opcode::LinkAt::CODE,
    opcode::MkDirAt::CODE,
    opcode::MsgRingData::CODE,
    opcode::OpenAt::CODE,
    opcode::OpenAt2::CODE,
    opcode::PollAdd::CODE,
    opcode::Read::CODE,
    opcode::Recv::CODE,
    opcode::RecvMsg::CODE,
    opcode::RecvMulti::CODE,
    opcode::RenameAt::CODE,
    opcode::Send::CODE,
    opcode::SendMsg::CODE,
    opcode::SendMsgZc::CODE,
    opcode::SendZc::CODE,
    opcode::UnlinkAt::CODE,
    opcode::Writev::CODE,
];

/// What was asked of `io_uring_setup(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Completions are worked off only inside our own enter.
    pub defer_taskrun: bool,
    /// The kernel need not interrupt us to run completion work.
    pub coop_taskrun: bool,
    /// One thread submits: cheaper locking.
    pub single_issuer: bool,
    /// No indirection array in the submission queue.
    pub no_sqarray: bool,
    /// Submission entries, a power of two.
    pub sq_entries: u32,
    /// Completion entries, a power of two.
    pub cq_entries: u32,
}

/// What a gathering send or receive needs besides the bytes; boxed, so it does not move.
struct Header {
    message: libc::msghdr,
    parts: Vec<libc::iovec>,
    address: SockAddr,
}

impl Header {
    fn new(address: SockAddr) -> Box<Header> {
        // SAFETY: `msghdr` is plain data; all zeros is its empty value.
        let message = unsafe { std::mem::zeroed() };
        Box::new(Header { message, parts: Vec::new(), address })
    }

    /// Points the message at `parts`, which must not change afterwards.
    fn gather(&mut self, parts: Vec<libc::iovec>) -> *mut libc::msghdr {
        self.parts = parts;
        self.message.msg_iov = self.parts.as_mut_ptr();
        self.message.msg_iovlen = self.parts.len();
        &mut self.message
    }

    fn with_name(&mut self) {
        self.message.msg_namelen = self.address.len();
        self.message.msg_name = self.address.as_mut_ptr().cast();
    }
}

/// The memory of one operation in flight.
enum Held {
    Nothing,
    /// A read or receive appending to `memory`; `wanted` bytes may come.
    Fill {
        memory: Vec<u8>,
        wanted: usize,
    },
    Send {
        batch: Batch,
        header: Option<Box<Header>>,
    },
    /// A zero-copy send whose result came; the kernel still reads the frames.
    Noted {
        batch: Batch,
        header: Option<Box<Header>>,
    },
    Address {
        _peer: Box<SockAddr>,
    },
    ReceiveFrom {
        memory: Vec<u8>,
        header: Box<Header>,
    },
    SendTo {
        memory: Vec<u8>,
        header: Box<Header>,
    },
    Write {
        batch: Batch,
        parts: Vec<libc::iovec>,
    },
    Paths {
        _paths: [Option<CString>; 2],
    },
    Beneath {
        _path: CString,
        _how: Box<OpenHow>,
    },
}

struct Slot {
    token: Token,
    generation: u32,
    held: Held,
}

/// An io_uring with its provided buffers and the memory of its operations.
pub struct Ring {
    ring: IoUring,
    slots: Vec<Slot>,
    vacant: Vec<u32>,
    /// Entries that found the submission queue full.
    backlog: VecDeque<Entry>,
    in_flight: usize,
    pool: Rc<BufferPool>,
    published: Mapping,
    tail: u16,
    mask: u16,
    doorbell: Option<Fd>,
    doorbell_armed: bool,
    /// Completions the kernel had to hold back because the queue was full.
    pub overflows: u64,
    /// SQEs handed to the kernel.
    pub submitted: u64,
    /// Enter calls made.
    pub enters: u64,
    /// Sends that the next enter submits and that complete within it.
    quiet_sends: u32,
    /// The kernel can say of a zero-copy send whether it copied all the same.
    reports_copies: bool,
}

impl Ring {
    /// Sets a ring up exactly as asked.
    pub fn new(setup: Setup, pool: Rc<BufferPool>) -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder.setup_r_disabled();
        builder.setup_clamp().setup_cqsize(setup.cq_entries).setup_submit_all().dontfork();
        if setup.single_issuer {
            builder.setup_single_issuer();
        }
        if setup.coop_taskrun {
            builder.setup_coop_taskrun().setup_taskrun_flag();
        }
        if setup.defer_taskrun {
            builder.setup_defer_taskrun();
        }
        if setup.no_sqarray {
            builder.setup_no_sqarray();
        }
        let ring = builder.build(setup.sq_entries)?;
        let entries = pool.count().next_power_of_two().min(32768);
        let published = Mapping::anonymous(entries * size_of::<BufRingEntry>())?;
        let address = published.at(0) as u64;
        // SAFETY: `published` is page-aligned, holds `entries` entries and lives until the ring is gone (fields
        // drop in order, the ring first).
        unsafe { ring.submitter().register_buf_ring_with_flags(address, entries as u16, BUFFER_GROUP, 0) }?;
        Ok(Ring {
            ring,
            slots: Vec::new(),
            vacant: Vec::new(),
            backlog: VecDeque::new(),
            in_flight: 0,
            pool,
            published,
            tail: 0,
            mask: (entries - 1) as u16,
            doorbell: None,
            doorbell_armed: false,
            overflows: 0,
            submitted: 0,
            enters: 0,
            quiet_sends: 0,
            reports_copies: false,
        })
    }

    /// Restricts the ring to the operations that are used here, and lets it work. Nothing else can be registered from then on. Whether
    /// the kernel restricts it, or why not.
    ///
    /// # Errors
    /// The kernel does not let it work.
    pub fn enable(&self) -> io::Result<Result<(), Errno>> {
        let submitter = self.ring.submitter();
        let mut allowed: Vec<Restriction> = OPERATIONS.into_iter().map(Restriction::sqe_op).collect();
        // All flags of entries: without this line none would be allowed.
        allowed.push(Restriction::sqe_flags_allowed(u8::MAX));
        let restricted = submitter.register_restrictions(&mut allowed).map_err(Errno::from);
        submitter.register_enable_rings()?;
        Ok(restricted)
    }

    /// Registers the ring's own descriptor, which saves a lookup per enter.
    pub fn register_ring_fd(&mut self) -> io::Result<()> {
        self.ring.submitter().register_ring_fd()
    }

    /// Caps the kernel's worker threads for this ring.
    pub fn cap_workers(&self, most: u32) -> io::Result<()> {
        self.ring.submitter().register_iowq_max_workers(&mut [most, most])
    }

    /// Whether the kernel knows the opcode.
    pub fn supports(&self, code: u8) -> bool {
        let mut probe = io_uring::Probe::new();
        self.ring.submitter().register_probe(&mut probe).is_ok() && probe.is_supported(code)
    }

    /// Has the kernel say of zero-copy sends whether it copied all the same (Linux 6.2).
    pub fn report_copies(&mut self) {
        self.reports_copies = true;
    }

    /// The ring's descriptor, for peers that message it.
    pub fn fd(&self) -> i32 {
        use std::os::fd::AsRawFd;
        self.ring.as_raw_fd()
    }

    /// Operations submitted and not yet retired.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Watches an eventfd: its ringing ends a wait.
    pub fn watch(&mut self, doorbell: Fd) {
        self.doorbell = Some(doorbell);
        self.arm_doorbell();
    }

    fn arm_doorbell(&mut self) {
        if let Some(fd) = self.doorbell {
            // `EPOLLET`: every ring of the bell completes once, without our reading the counter.
            let events = (libc::POLLIN as u32) | libc::EPOLLET as u32;
            let entry = opcode::PollAdd::new(RingFd(fd.0), events).multi(true).build().user_data(DOORBELL);
            self.push(entry);
            self.doorbell_armed = true;
        }
    }

    /// Messages another ring: it wakes up, nothing more.
    pub fn message(&mut self, ring_fd: i32) {
        let entry = opcode::MsgRingData::new(RingFd(ring_fd), 0, DOORBELL, None).build().user_data(UNHEARD);
        self.push(entry.flags(io_uring::squeue::Flags::SKIP_SUCCESS));
    }

    /// Cancels everything on `fd`.
    pub fn cancel(&mut self, fd: Fd) {
        let which = CancelBuilder::fd(RingFd(fd.0)).all();
        self.push(opcode::AsyncCancel2::new(which).build().user_data(UNHEARD));
    }

    /// Cancels the one operation without memory that is named `token`.
    pub fn cancel_token(&mut self, token: Token) {
        self.push(opcode::AsyncCancel::new(token.raw()).build().user_data(UNHEARD));
    }

    /// Publishes free buffers until the kernel has `depth` of them.
    pub fn publish(&mut self, depth: usize) {
        let before = self.tail;
        while self.pool.published() < depth {
            let Some((id, address)) = self.pool.publish() else { break };
            let at = (self.tail & self.mask) as usize * size_of::<BufRingEntry>();
            let entry = self.published.at(at).cast::<BufRingEntry>();
            // SAFETY: `at` is inside the mapping; the kernel reads this entry only once the tail has passed it.
            let entry = unsafe { &mut *entry };
            entry.set_addr(address as u64);
            entry.set_len(crate::buffers::BUFFER_BYTES as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
        }
        if self.tail != before {
            let base = self.published.at(0).cast::<BufRingEntry>();
            // SAFETY: `base` is the registered ring's first entry, whose `resv` field is the tail.
            let tail = unsafe { BufRingEntry::tail(base) };
            // SAFETY: the tail is an aligned u16 that only this thread writes and the kernel reads.
            let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
            tail.store(self.tail, Ordering::Release);
        }
    }

    /// Queues an operation and takes its memory.
    pub fn submit(&mut self, token: Token, op: Op) {
        self.in_flight += 1;
        match op {
            Op::Accept { listener } => {
                let entry =
                    opcode::AcceptMulti::new(RingFd(listener.0)).flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
                self.push_token(entry.build(), token);
            }
            Op::Receive { socket } => {
                let mut entry = opcode::RecvMulti::new(RingFd(socket.0), BUFFER_GROUP).build();
                or_ioprio(&mut entry, POLL_FIRST);
                self.push_token(entry, token);
            }
            Op::ReceiveInto { socket, mut memory, want } => {
                let room = spare(&mut memory, want);
                let entry = opcode::Recv::new(RingFd(socket.0), room, want as u32).flags(libc::MSG_WAITALL);
                self.hold(entry.build(), token, Held::Fill { memory, wanted: want });
            }
            Op::Send { socket, batch, manner } => self.send(token, socket, batch, manner),
            Op::Connect { socket, peer } => {
                let mut peer = Box::new(SockAddr::from(&peer));
                let entry = opcode::Connect::new(RingFd(socket.0), peer.as_mut_ptr().cast(), peer.len());
                self.hold(entry.build(), token, Held::Address { _peer: peer });
            }
            Op::ReceiveFrom { socket, mut memory } => {
                let want = memory.capacity() - memory.len();
                let mut header = Header::new(SockAddr::any());
                let part = libc::iovec { iov_base: spare(&mut memory, want).cast(), iov_len: want };
                header.with_name();
                let message = header.gather(vec![part]);
                let entry = opcode::RecvMsg::new(RingFd(socket.0), message);
                self.hold(entry.build(), token, Held::ReceiveFrom { memory, header });
            }
            Op::SendTo { socket, memory, peer } => {
                let mut header = Header::new(SockAddr::from(&peer.into()));
                let part = libc::iovec { iov_base: memory.as_ptr().cast_mut().cast(), iov_len: memory.len() };
                header.with_name();
                let message = header.gather(vec![part]);
                let entry = opcode::SendMsg::new(RingFd(socket.0), message).flags(libc::MSG_NOSIGNAL as u32);
                self.hold(entry.build(), token, Held::SendTo { memory, header });
            }
            Op::Open { path, flags, mode } => {
                let at = RingFd(libc::AT_FDCWD);
                let entry = opcode::OpenAt::new(at, path.as_ptr()).flags(flags | libc::O_CLOEXEC).mode(mode);
                self.hold(entry.build(), token, Held::Paths { _paths: [Some(path), None] });
            }
            Op::OpenBeneath { directory, path, flags, mode } => {
                let how = OpenHow::new().flags((flags | libc::O_CLOEXEC) as u64).mode(mode.into()).resolve(BENEATH);
                let how = Box::new(how);
                let entry = opcode::OpenAt2::new(RingFd(directory.0), path.as_ptr(), &raw const *how);
                self.hold(entry.build(), token, Held::Beneath { _path: path, _how: how });
            }
            Op::Read { file, mut memory, want, offset } => {
                let room = spare(&mut memory, want);
                let entry = opcode::Read::new(RingFd(file.0), room, want as u32).offset(offset);
                self.hold(entry.build(), token, Held::Fill { memory, wanted: want });
            }
            Op::Write { file, batch, offset } => {
                let parts = gather(&batch);
                let entry = opcode::Writev::new(RingFd(file.0), parts.as_ptr(), parts.len() as u32).offset(offset);
                self.hold(entry.build(), token, Held::Write { batch, parts });
            }
            Op::Sync { file, metadata } => {
                let flags = if metadata { FsyncFlags::empty() } else { FsyncFlags::DATASYNC };
                self.hold(opcode::Fsync::new(RingFd(file.0)).flags(flags).build(), token, Held::Nothing);
            }
            Op::Rename { from, to } => {
                let at = RingFd(libc::AT_FDCWD);
                let entry = opcode::RenameAt::new(at, from.as_ptr(), at, to.as_ptr());
                self.hold(entry.build(), token, Held::Paths { _paths: [Some(from), Some(to)] });
            }
            Op::Link { from, to } => {
                let at = RingFd(libc::AT_FDCWD);
                let entry = opcode::LinkAt::new(at, from.as_ptr(), at, to.as_ptr());
                self.hold(entry.build(), token, Held::Paths { _paths: [Some(from), Some(to)] });
            }
            Op::Unlink { path } => {
                let entry = opcode::UnlinkAt::new(RingFd(libc::AT_FDCWD), path.as_ptr());
                self.hold(entry.build(), token, Held::Paths { _paths: [Some(path), None] });
            }
            Op::MakeDirectory { path, mode } => {
                let entry = opcode::MkDirAt::new(RingFd(libc::AT_FDCWD), path.as_ptr()).mode(mode);
                self.hold(entry.build(), token, Held::Paths { _paths: [Some(path), None] });
            }
        }
    }

    fn send(&mut self, token: Token, socket: Fd, batch: Batch, manner: SendManner) {
        let zero_copy = manner == SendManner::ZeroCopy;
        let patience = match manner {
            // Completes while it is submitted, whatever happens: `enter` relies on it.
            SendManner::Quiet => libc::MSG_DONTWAIT,
            // Lets the kernel finish a send that the socket's buffer cut short.
            SendManner::Copy | SendManner::ZeroCopy => libc::MSG_WAITALL,
        };
        let flags = libc::MSG_NOSIGNAL | patience;
        self.quiet_sends += (manner == SendManner::Quiet) as u32;
        let fd = RingFd(socket.0);
        if let Batch::One(frame) = &batch {
            let (bytes, len) = (frame.as_ptr(), frame.len() as u32);
            let entry = match zero_copy {
                true => self.reporting(opcode::SendZc::new(fd, bytes, len).flags(flags).build()),
                false => opcode::Send::new(fd, bytes, len).flags(flags).build(),
            };
            return self.hold(entry, token, Held::Send { batch, header: None });
        }
        let mut header = Header::new(SockAddr::any());
        let message = header.gather(gather(&batch));
        let entry = match zero_copy {
            true => self.reporting(opcode::SendMsgZc::new(fd, message).flags(flags as u32).build()),
            false => opcode::SendMsg::new(fd, message).flags(flags as u32).build(),
        };
        self.hold(entry, token, Held::Send { batch, header: Some(header) });
    }

    fn reporting(&self, mut entry: Entry) -> Entry {
        if self.reports_copies {
            or_ioprio(&mut entry, SEND_ZC_REPORT_USAGE);
        }
        entry
    }

    fn push_token(&mut self, entry: Entry, token: Token) {
        assert!(token.raw() & OWNED == 0, "tags stay below 128");
        self.push(entry.user_data(token.raw()));
    }

    fn hold(&mut self, entry: Entry, token: Token, held: Held) {
        let slot = match self.vacant.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(Slot { token, generation: 0, held: Held::Nothing });
                (self.slots.len() - 1) as u32
            }
        };
        let place = &mut self.slots[slot as usize];
        place.token = token;
        place.held = held;
        let user_data = OWNED | ((place.generation & 0x7fff_ffff) as u64) << 32 | slot as u64;
        self.push(entry.user_data(user_data));
    }

    fn push(&mut self, entry: Entry) {
        if !self.backlog.is_empty() || !self.try_push(&entry) {
            self.backlog.push_back(entry);
        }
    }

    fn try_push(&mut self, entry: &Entry) -> bool {
        // SAFETY: what the entry points at is held in `slots` (or static) until its terminal completion.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    fn flush_backlog(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_push(&entry) {
                self.backlog.push_front(entry);
                return;
            }
        }
    }

    /// One `io_uring_enter(2)`: submits what is queued and, if `sleep`, waits for a completion at most that long.
    /// Skipped when there is nothing to submit, nothing to run and nothing to wait for.
    pub fn enter(&mut self, sleep: Option<Option<Duration>>) -> io::Result<()> {
        if self.doorbell.is_some() && !self.doorbell_armed {
            self.arm_doorbell();
        }
        self.flush_backlog();
        let queue = self.ring.submission();
        let (len, taskrun, overflow) = (queue.len(), queue.taskrun(), queue.cq_overflow());
        drop(queue);
        if overflow {
            self.overflows += 1;
        }
        // With a full queue behind us, waiting would delay what did not fit.
        let sleep = if self.backlog.is_empty() && self.ring.completion().is_empty() { sleep } else { None };
        if len == 0 && !taskrun && !overflow && sleep.is_none() {
            return Ok(());
        }
        self.enters += 1;
        let quiet_sends = std::mem::take(&mut self.quiet_sends);
        let timespec = match sleep {
            Some(Some(limit)) => Some(Timespec::new().sec(limit.as_secs()).nsec(limit.subsec_nanos())),
            _ => None,
        };
        let args = SubmitArgs::new();
        let args = match &timespec {
            Some(timespec) => args.timespec(timespec),
            None => args,
        };
        let flags = ENTER_GETEVENTS | ENTER_EXT_ARG;
        // Quiet sends complete while they are submitted. If the kernel takes less than all, it does not wait.
        let want = sleep.map_or(0, |_| 1 + quiet_sends);
        // SAFETY: `args` outlives the call and is what EXT_ARG promises; every queued entry's memory is held.
        let entered = unsafe { self.ring.submitter().enter(len as u32, want, flags, Some(&args)) };
        match entered {
            Ok(taken) => self.submitted += taken as u64,
            // A signal, a timeout, or the kernel asking us to reap first: back-pressure, not failure.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Moves up to `most` completions out.
    pub fn reap(&mut self, most: usize, out: &mut Vec<Completion>) {
        for _ in 0..most {
            let Some(entry) = self.ring.completion().next() else { break };
            if let Some(completion) = self.complete(&entry) {
                out.push(completion);
            }
        }
    }

    fn complete(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let (user_data, flags) = (entry.user_data(), entry.flags());
        let more = cqueue::more(flags);
        let result = u32::try_from(entry.result()).map_err(|_| Errno(entry.result().wrapping_neg()));
        match user_data {
            DOORBELL => {
                // A peer's message carries no flags either, so an early re-arm may follow: harmless.
                if !more && result != Ok(0) {
                    self.doorbell_armed = false;
                }
                None
            }
            UNHEARD => None,
            _ if user_data & OWNED == 0 => {
                self.in_flight -= !more as usize;
                let memory = match cqueue::buffer_select(flags) {
                    // Even an error may carry a buffer; its lease returns it.
                    Some(id) => Memory::Lease(self.pool.filled(id, result.unwrap_or(0) as usize)),
                    None => Memory::None,
                };
                Some(Completion { token: Token::from_raw(user_data), result, more, memory })
            }
            _ => self.complete_owned(user_data as u32, (user_data >> 32) as u32 & 0x7fff_ffff, result, more),
        }
    }

    fn complete_owned(
        &mut self,
        slot: u32,
        generation: u32,
        result: Result<u32, Errno>,
        more: bool,
    ) -> Option<Completion> {
        let place = self.slots.get_mut(slot as usize).filter(|place| place.generation & 0x7fff_ffff == generation)?;
        let token = place.token;
        let held = std::mem::replace(&mut place.held, Held::Nothing);
        if more {
            // A zero-copy send's result: the send is over for its owner, the frames stay until the notification.
            if let Held::Send { batch, header } = held {
                let copy = Batch::Many(batch.frames().to_vec());
                place.held = Held::Noted { batch, header };
                return Some(Completion { token, result, more, memory: Memory::Batch(copy) });
            }
            place.held = held;
            return None;
        }
        place.generation = place.generation.wrapping_add(1);
        self.vacant.push(slot);
        self.in_flight -= 1;
        let memory = match held {
            Held::Nothing | Held::Paths { .. } | Held::Beneath { .. } | Held::Address { .. } => Memory::None,
            Held::Fill { mut memory, wanted } => {
                let came = (result.unwrap_or(0) as usize).min(wanted);
                // SAFETY: the kernel wrote `came` bytes behind the old length, within the capacity.
                unsafe { memory.set_len(memory.len() + came) };
                Memory::Bytes(memory)
            }
            Held::Send { batch, header } => {
                drop(header);
                Memory::Batch(batch)
            }
            Held::Noted { batch, header } => {
                drop((batch, header));
                let was_copied = result == Err(Errno(NOTIF_USAGE_ZC_COPIED)) && self.reports_copies;
                return Some(Completion { token, result: Ok(was_copied as u32), more: false, memory: Memory::None });
            }
            Held::ReceiveFrom { mut memory, header } => {
                let came = (result.unwrap_or(0) as usize).min(memory.capacity() - memory.len());
                // SAFETY: as above.
                unsafe { memory.set_len(memory.len() + came) };
                match header.address.to_socket_addr(header.message.msg_namelen) {
                    Some(peer) => Memory::Datagram(memory, peer),
                    None => Memory::Bytes(memory),
                }
            }
            Held::SendTo { memory, header } => {
                drop(header);
                Memory::Bytes(memory)
            }
            Held::Write { batch, parts } => {
                drop(parts);
                Memory::Batch(batch)
            }
        };
        Some(Completion { token, result, more, memory })
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.in_flight > 0 {
            // The kernel may still write there after the ring's descriptor is closed.
            std::mem::forget(std::mem::take(&mut self.slots));
            std::mem::forget(self.pool.clone());
        }
    }
}

const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 8;

/// The address behind `memory`'s length, after making room for `want` bytes.
fn spare(memory: &mut Vec<u8>, want: usize) -> *mut u8 {
    memory.reserve(want);
    memory.spare_capacity_mut().as_mut_ptr().cast()
}

/// Sets bits of the entry's `ioprio`, which carries the flags of receives.
fn or_ioprio(entry: &mut Entry, bits: u16) {
    let base: *mut Entry = entry;
    // SAFETY: an entry is `struct io_uring_sqe`: opcode u8, flags u8, then the u16 `ioprio`.
    let ioprio = unsafe { base.cast::<u16>().add(1) };
    // SAFETY: in bounds and aligned, as the layout above says; `entry` is borrowed mutably.
    unsafe { *ioprio |= bits };
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn an_enabled_ring_takes_the_engines_operations_and_no_others() {
        let pool = BufferPool::new(8).unwrap();
        let setup = Setup {
            defer_taskrun: false,
            coop_taskrun: false,
            single_issuer: false,
            no_sqarray: false,
            sq_entries: 8,
            cq_entries: 16,
        };
        // Where a kernel or a container offers no rings, there is nothing to restrict.
        let Ok(mut ring) = Ring::new(setup, pool) else { return };
        assert_eq!(ring.enable().unwrap(), Ok(()));
        let mut result_of = |entry: Entry| {
            // SAFETY: the entry refers to no memory.
            unsafe { ring.ring.submission().push(&entry.user_data(7)) }.unwrap();
            ring.ring.submit_and_wait(1).unwrap();
            ring.ring.completion().next().unwrap().result()
        };
        assert_eq!(result_of(opcode::Nop::new().build()), -libc::EACCES);
        assert_eq!(result_of(opcode::Close::new(RingFd(-1)).build()), -libc::EACCES);
        assert_eq!(result_of(opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build()), -libc::EACCES);
        // One of ours fails by itself.
        assert_eq!(result_of(opcode::Fsync::new(RingFd(-1)).build()), -libc::EBADF);
        assert!(ring.cap_workers(1).is_err(), "nothing is registered afterwards");
    }
}
