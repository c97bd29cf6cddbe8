//! The epoll driver: the same operations, by readiness. For the many containers that block io_uring.
//!
//! Each descriptor is registered once, for edges in both directions; what it can do is remembered here until the
//! kernel says "would block". Operations are tried at once or in the next turn, in the order of submission.
//!
//! ```text
//!   submit ─► the descriptor's slot (one operation per direction) ─► runnable ─► try ─► done, or wait for its edge
//! ```

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::file_thread::FileThread;
use super::{
    Account, Address, Batch, Bell, Completion, Doorbell, Driver, DriverKind, Errno, Fd, FileMeta, Memory, Op, Shut,
    SocketOptions, Token, Wait,
};
use crate::buffers::BufferPool;
use crate::limits;
use crate::sys::epoll::{Epoll, Ready};
use crate::sys::event::EventFd;
use crate::sys::files;
use crate::sys::net;

/// Completions one descriptor may have per turn and direction: what is left waits for the next turn, so that one
/// busy peer does not starve the others.
const PER_TURN: usize = 8;

/// What waits for input on a descriptor.
enum Input {
    Accept,
    Receive,
    Into { memory: Vec<u8>, want: usize, before: usize },
    From { memory: Vec<u8> },
}

/// What waits for room for output.
enum Output {
    Send { batch: Batch, sent: usize },
    Connect { peer: Address, started: bool },
    To { memory: Vec<u8>, peer: SocketAddr },
}

#[derive(Default)]
struct Slot {
    registered: bool,
    readable: bool,
    writable: bool,
    cancelled: bool,
    queued: bool,
    input: Option<(Token, Input)>,
    output: Option<(Token, Output)>,
}

struct EpollBell(EventFd);

impl Bell for EpollBell {
    fn ring(&self) {
        self.0.ring();
    }
}

/// See the module's description.
pub struct EpollDriver {
    epoll: Epoll,
    pool: Rc<BufferPool>,
    start: Instant,
    bell: Arc<EpollBell>,
    slots: Vec<Slot>,
    runnable: VecDeque<Fd>,
    /// Ended outside a turn, such as operations refused at once.
    ended: VecDeque<Completion>,
    ready: Vec<Ready>,
    files: Option<FileThread>,
    in_flight: usize,
    waits: u64,
}

impl EpollDriver {
    /// A driver for the calling thread.
    ///
    /// # Errors
    /// As `epoll_create1(2)` and `mmap(2)`.
    pub fn new(buffers: usize, start: Instant) -> io::Result<EpollDriver> {
        let epoll = Epoll::new(limits::COMPLETIONS_PER_TURN)?;
        let bell = Arc::new(EpollBell(EventFd::new()?));
        epoll.add(bell.0.fd())?;
        Ok(EpollDriver {
            epoll,
            pool: BufferPool::new(buffers)?,
            start,
            bell,
            slots: Vec::new(),
            runnable: VecDeque::new(),
            ended: VecDeque::new(),
            ready: Vec::new(),
            files: None,
            in_flight: 0,
            waits: 0,
        })
    }

    fn slot(&mut self, fd: Fd) -> &mut Slot {
        let index = fd.0 as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, Slot::default);
        }
        &mut self.slots[index]
    }

    fn enqueue(&mut self, fd: Fd) {
        let slot = self.slot(fd);
        if !std::mem::replace(&mut slot.queued, true) {
            self.runnable.push_back(fd);
        }
    }

    /// Watches the descriptor from its first operation on.
    fn register(&mut self, fd: Fd) {
        if !std::mem::replace(&mut self.slot(fd).registered, true) {
            // Try without waiting for an edge: it may have passed already. If the kernel cannot watch it, the
            // attempts tell why.
            let _attempts_tell = self.epoll.add(fd);
            let slot = self.slot(fd);
            (slot.readable, slot.writable) = (true, true);
        }
    }

    fn await_input(&mut self, token: Token, fd: Fd, input: Input) {
        self.register(fd);
        self.slot(fd).input = Some((token, input));
        self.enqueue(fd);
    }

    fn await_output(&mut self, token: Token, fd: Fd, output: Output) {
        self.register(fd);
        self.slot(fd).output = Some((token, output));
        self.enqueue(fd);
    }

    fn submit_file(&mut self, token: Token, op: Op) {
        let started = match self.files.take() {
            Some(files) => Ok(files),
            None => FileThread::start(self.bell.clone()),
        };
        match started {
            Ok(mut files) => {
                files.submit(token, op).expect("every socket operation was taken before");
                self.files = Some(files);
            }
            Err(error) => {
                self.ended.push_back(Completion { token, result: Err(error.into()), more: false, memory: Memory::None })
            }
        }
    }

    /// Tries what waits on the descriptor.
    fn run(&mut self, fd: Fd, out: &mut Vec<Completion>) {
        let before = out.len();
        let slot = &mut self.slots[fd.0 as usize];
        slot.queued = false;
        if std::mem::take(&mut slot.cancelled) {
            let input = slot.input.take().map(|(token, input)| (token, input.memory()));
            let output = slot.output.take().map(|(token, output)| (token, output.memory()));
            for (token, memory) in input.into_iter().chain(output) {
                out.push(Completion { token, result: Err(Errno::CANCELED), more: false, memory });
            }
        }
        // Output first: an answer that waits is worth more than the next question.
        if slot.writable {
            try_output(slot, fd, out);
        }
        if slot.readable {
            try_input(slot, fd, &self.pool, out);
        }
        let again = (slot.readable && slot.input.is_some()) || (slot.writable && slot.output.is_some());
        self.in_flight -= out[before..].iter().filter(|done| !done.more).count();
        if again {
            self.enqueue(fd);
        }
    }
}

impl Input {
    fn memory(self) -> Memory {
        match self {
            Input::Accept | Input::Receive => Memory::None,
            Input::Into { memory, .. } | Input::From { memory } => Memory::Bytes(memory),
        }
    }
}

impl Output {
    fn memory(self) -> Memory {
        match self {
            Output::Send { batch, .. } => Memory::Batch(batch),
            Output::Connect { .. } => Memory::None,
            Output::To { memory, .. } => Memory::Bytes(memory),
        }
    }
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Works the input operation off until it would block, ends, or has had its share.
fn try_input(slot: &mut Slot, fd: Fd, pool: &Rc<BufferPool>, out: &mut Vec<Completion>) {
    for _ in 0..PER_TURN {
        let Some((token, input)) = &mut slot.input else { return };
        let token = *token;
        let (result, memory, more) = match input {
            Input::Accept => {
                let result = net::accept(fd).map(|accepted| accepted.0 as u32);
                let more = result.is_ok();
                (result, Memory::None, more)
            }
            Input::Receive => match pool.take() {
                None => (Err(io::Error::from_raw_os_error(libc::ENOBUFS)), Memory::None, false),
                Some(mut lease) => match net::recv(fd, &mut lease) {
                    Ok(0) => (Ok(0), Memory::None, false),
                    Ok(len) => {
                        lease.truncate(len);
                        (Ok(len as u32), Memory::Lease(lease), true)
                    }
                    Err(error) => (Err(error), Memory::None, false),
                },
            },
            Input::Into { memory, want, before } => {
                let left = *want - (memory.len() - *before);
                match net::recv_append(fd, memory, left) {
                    Ok(len) if len > 0 && len < left => continue,
                    Ok(_) => (Ok((memory.len() - *before) as u32), Memory::Bytes(std::mem::take(memory)), false),
                    // What came before an error counts; the error comes again with the next operation.
                    Err(error) if !would_block(&error) && memory.len() > *before => {
                        (Ok((memory.len() - *before) as u32), Memory::Bytes(std::mem::take(memory)), false)
                    }
                    Err(error) => (Err(error), Memory::None, false),
                }
            }
            Input::From { memory } => match net::recv_from(fd, memory) {
                Ok(peer) => (Ok(memory.len() as u32), Memory::Datagram(std::mem::take(memory), peer), false),
                Err(error) => (Err(error), Memory::None, false),
            },
        };
        match result {
            Err(error) if would_block(&error) => {
                slot.readable = false;
                return;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => {
                let memory = match (memory, more) {
                    (Memory::None, false) => slot.input.take().map_or(Memory::None, |(_, input)| input.memory()),
                    (memory, more) => {
                        if !more {
                            slot.input = None;
                        }
                        memory
                    }
                };
                out.push(Completion { token, result: result.map_err(Errno::from), more, memory });
            }
        }
    }
}

/// Works the output operation off until it would block or ends.
fn try_output(slot: &mut Slot, fd: Fd, out: &mut Vec<Completion>) {
    while let Some((token, output)) = &mut slot.output {
        let token = *token;
        let result = match output {
            Output::Send { batch, sent } => match send_rest(fd, batch, sent) {
                Ok(()) => Ok(*sent as u32),
                Err(error) => Err(error),
            },
            Output::Connect { peer, started } => match std::mem::replace(started, true) {
                false => net::connect(fd, peer).map(|()| 0).map_err(|error| match error.raw_os_error() {
                    // It goes on in the background; the edge tells when it is done.
                    Some(libc::EINPROGRESS) => io::ErrorKind::WouldBlock.into(),
                    _ => error,
                }),
                true => net::take_error(fd).and_then(|()| net::peer(fd)).map(|_| 0).map_err(not_yet),
            },
            Output::To { memory, peer } => net::send_to(fd, memory, *peer).map(|len| len as u32),
        };
        match result {
            Err(error) if would_block(&error) => {
                slot.writable = false;
                return;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => {
                let memory = slot.output.take().map_or(Memory::None, |(_, output)| output.memory());
                out.push(Completion { token, result: result.map_err(Errno::from), more: false, memory });
            }
        }
    }
}

/// An edge that came before the connection did.
fn not_yet(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::ENOTCONN) { io::ErrorKind::WouldBlock.into() } else { error }
}

/// Sends what is left of the batch; `sent` counts on.
fn send_rest(fd: Fd, batch: &mut Batch, sent: &mut usize) -> io::Result<()> {
    let all = batch.len();
    while *sent < all {
        let rest = match *sent {
            0 => net::send(fd, batch),
            _ => {
                let copy = Batch::Many(batch.frames().to_vec());
                match copy.after(*sent) {
                    Some(rest) => net::send(fd, &rest),
                    None => return Ok(()),
                }
            }
        };
        *sent += rest?;
    }
    Ok(())
}

impl Driver for EpollDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Epoll
    }

    fn submit(&mut self, token: Token, op: Op) {
        self.in_flight += 1;
        match op {
            Op::Accept { listener } => self.await_input(token, listener, Input::Accept),
            Op::Receive { socket } => self.await_input(token, socket, Input::Receive),
            Op::ReceiveInto { socket, memory, want } => {
                let before = memory.len();
                self.await_input(token, socket, Input::Into { memory, want, before });
            }
            Op::ReceiveFrom { socket, memory } => self.await_input(token, socket, Input::From { memory }),
            Op::Send { socket, batch, manner: _ } => {
                self.await_output(token, socket, Output::Send { batch, sent: 0 });
            }
            Op::Connect { socket, peer } => {
                self.await_output(token, socket, Output::Connect { peer, started: false });
            }
            Op::SendTo { socket, memory, peer } => self.await_output(token, socket, Output::To { memory, peer }),
            file => self.submit_file(token, file),
        }
    }

    fn cancel(&mut self, fd: Fd) {
        let slot = self.slot(fd);
        if slot.input.is_some() || slot.output.is_some() {
            slot.cancelled = true;
            self.enqueue(fd);
        }
    }

    fn cancel_receive(&mut self, socket: Fd, token: Token) {
        let slot = self.slot(socket);
        if matches!(&slot.input, Some((armed, Input::Receive)) if *armed == token) {
            slot.input = None;
            self.ended.push_back(Completion { token, result: Err(Errno::CANCELED), more: false, memory: Memory::None });
        }
    }

    fn turn(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()> {
        let idle = self.runnable.is_empty() && self.ended.is_empty();
        let timeout = match wait {
            Wait::Until(moment) if idle => moment.map(|moment| moment.saturating_sub(self.start.elapsed())),
            _ => Some(Duration::ZERO),
        };
        let mut ready = std::mem::take(&mut self.ready);
        self.waits += 1;
        self.epoll.wait(timeout, &mut ready)?;
        for edge in ready.drain(..) {
            if edge.fd == self.bell.0.fd() {
                self.bell.0.drain();
                continue;
            }
            let slot = self.slot(edge.fd);
            slot.readable |= edge.input;
            slot.writable |= edge.output;
            if slot.registered {
                self.enqueue(edge.fd);
            }
        }
        self.ready = ready;
        for _ in 0..self.runnable.len() {
            if out.len() >= limits::COMPLETIONS_PER_TURN {
                break;
            }
            let Some(fd) = self.runnable.pop_front() else { break };
            self.run(fd, out);
        }
        while let Some(done) = self.ended.pop_front() {
            self.in_flight -= 1;
            out.push(done);
        }
        while let Some((token, result, memory)) = self.files.as_mut().and_then(FileThread::reap) {
            self.in_flight -= 1;
            out.push(Completion { token, result, more: false, memory });
        }
        Ok(())
    }

    fn account(&self) -> Account {
        Account { enters: self.waits, ..Account::default() }
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

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn listen(&mut self, address: &Address, options: &SocketOptions) -> io::Result<(Fd, Address)> {
        net::listen(address, options)
    }

    fn accept_now(&mut self, listener: Fd) -> Option<Fd> {
        net::accept(listener).ok()
    }

    fn close_shared(&mut self, fd: Fd) {
        // Closing alone ends the watch only with the last descriptor of the socket, and that is somebody else's.
        self.epoll.remove(fd);
        self.close(fd);
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
        if let Some(slot) = self.slots.get_mut(fd.0 as usize) {
            let queued = slot.queued;
            *slot = Slot { queued, ..Slot::default() };
        }
        net::close(fd);
    }
}
