//! One shard's simulated kernel: its queues, and the [`Driver`] that a shard sees.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::disk::Opened;
use super::random::mix;
use super::world::{Kind, State, World};
use crate::buffers::BufferPool;
use crate::driver::{
    Address, Batch, Bell, Completion, Doorbell, Driver, DriverKind, Errno, Fd, FileMeta, Memory, Op, SendManner, Shut,
    SocketOptions, Token, Wait,
};

/// Most completions one turn reaps.
const REAPED_MAX: usize = 32;
/// Completions that fit; beyond, multishot operations end.
pub(super) const COMPLETIONS_MAX: usize = 64;

/// The Unix time at which worlds begin: some day of 2023.
const BORN: Duration = Duration::from_secs(1_700_000_000);

/// What an operation is doing.
pub(super) enum Work {
    Accept,
    Receive,
    Fill {
        memory: Vec<u8>,
        want: usize,
        got: usize,
    },
    Send {
        batch: Batch,
        manner: SendManner,
        sent: usize,
        image: u64,
    },
    /// A send whose result was told and whose memory is still in use.
    Notice {
        batch: Batch,
        image: u64,
    },
    Connect(Address),
    /// One that ends in one step.
    Once(Op),
    /// Its terminal completion waits to be reaped.
    Done,
}

/// An operation that was submitted and has not retired.
pub(super) struct Running {
    key: u64,
    class: Class,
    pub(super) token: Token,
    pub(super) fd: Option<Fd>,
    pub(super) work: Work,
    pub(super) cancelled: bool,
}

enum Request {
    Start(Running),
    Cancel(Fd),
    CancelReceive(Token),
}

/// See the module's description.
pub struct SimDriver {
    pub(super) world: Rc<RefCell<State>>,
    pool: Rc<BufferPool>,
    /// What the kernel may fill, in the order it will.
    published: VecDeque<u16>,
    depth: usize,
    submissions: VecDeque<Request>,
    pub(super) running: Vec<Running>,
    pub(super) completions: VecDeque<(u64, Completion)>,
    next_key: u64,
    in_flight: usize,
    bell: Arc<SimBell>,
}

#[derive(Default)]
struct SimBell {
    rung: AtomicBool,
}

impl Bell for SimBell {
    fn ring(&self) {
        self.rung.store(true, Ordering::Release);
    }
}

impl World {
    /// A kernel interface for one shard, with so many receive buffers. Few make scarcity common.
    ///
    /// # Panics
    /// When there is no memory for them.
    pub fn driver(&self, buffers: usize) -> SimDriver {
        let depth = self.state.borrow_mut().random.between(1, buffers);
        SimDriver {
            world: self.state.clone(),
            pool: BufferPool::new(buffers).expect("a simulation needs little memory"),
            published: VecDeque::new(),
            depth,
            submissions: VecDeque::new(),
            running: Vec::new(),
            completions: VecDeque::new(),
            next_key: 0,
            in_flight: 0,
            bell: Arc::default(),
        }
    }
}

/// A number that tells whether the bytes of a batch are what they were.
pub(super) fn image(batch: &Batch) -> u64 {
    let mut hash = 0;
    for frame in batch.frames() {
        let mut words = frame.chunks_exact(8);
        for word in &mut words {
            let word = u64::from_le_bytes(word.try_into().expect("chunks of eight bytes"));
            hash = mix(hash ^ word);
        }
        hash = words.remainder().iter().fold(hash, |hash, &byte| mix(hash ^ byte as u64));
    }
    hash
}

fn operand(op: &Op) -> Option<Fd> {
    match op {
        Op::Accept { listener } => Some(*listener),
        Op::Receive { socket }
        | Op::ReceiveInto { socket, .. }
        | Op::Send { socket, .. }
        | Op::Connect { socket, .. }
        | Op::ReceiveFrom { socket, .. }
        | Op::SendTo { socket, .. } => Some(*socket),
        Op::Read { file, .. } | Op::Write { file, .. } | Op::Sync { file, .. } => Some(*file),
        Op::OpenBeneath { directory, .. } => Some(*directory),
        Op::Open { .. } | Op::Rename { .. } | Op::Link { .. } | Op::Unlink { .. } | Op::MakeDirectory { .. } => None,
    }
}

fn name(op: &Op) -> &'static str {
    match op {
        Op::Accept { .. } => "submit accept",
        Op::Receive { .. } => "submit receive",
        Op::ReceiveInto { .. } => "submit receive into",
        Op::Send { .. } => "submit send",
        Op::Connect { .. } => "submit connect",
        Op::ReceiveFrom { .. } => "submit receive from",
        Op::SendTo { .. } => "submit send to",
        Op::Open { .. } => "submit open",
        Op::OpenBeneath { .. } => "submit open beneath",
        Op::Read { .. } => "submit read",
        Op::Write { .. } => "submit write",
        Op::Sync { .. } => "submit sync",
        Op::Rename { .. } => "submit rename",
        Op::Link { .. } => "submit link",
        Op::Unlink { .. } => "submit unlink",
        Op::MakeDirectory { .. } => "submit mkdir",
    }
}

fn fits(op: &Op, kind: &Kind) -> bool {
    match op {
        Op::Accept { .. } => matches!(kind, Kind::Listener { .. }),
        Op::Receive { .. } | Op::ReceiveInto { .. } | Op::Send { .. } => {
            matches!(kind, Kind::Stream { end: Some(_) })
        }
        Op::Connect { .. } => matches!(kind, Kind::Stream { end: None }),
        Op::ReceiveFrom { .. } | Op::SendTo { .. } => matches!(kind, Kind::Datagram { .. }),
        _ => matches!(kind, Kind::Opened(_)),
    }
}

/// Of which kinds only one may be in flight.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Receive,
    Send,
    Other,
}

fn class(op: &Op) -> Class {
    match op {
        Op::Accept { .. } | Op::Receive { .. } | Op::ReceiveInto { .. } => Class::Receive,
        Op::Send { .. } => Class::Send,
        _ => Class::Other,
    }
}

/// Checks what the submitter must keep to, and counts the operation in.
fn admit(state: &mut State, token: Token, op: &Op) {
    let fd = operand(op);
    state.in_flight += 1;
    state.note(name(op), [fd.map_or(-1, |fd| fd.0 as i64), token.raw() as i64, 0]);
    let Some(fd) = fd else { return };
    let Some(descriptor) = state.get(fd) else {
        return state.fail(format!("{} on closed descriptor {}", name(op), fd.0));
    };
    descriptor.in_flight += 1;
    let (sends, receives) = (class(op) == Class::Send, class(op) == Class::Receive);
    descriptor.sending += sends as usize;
    descriptor.receiving += receives as usize;
    let (sending, receiving, fits) = (descriptor.sending, descriptor.receiving, fits(op, &descriptor.kind));
    if sends && sending > 1 {
        state.fail(format!("a second send in flight on descriptor {}", fd.0));
    }
    if receives && receiving > 1 {
        state.fail(format!("a second receive in flight on descriptor {}", fd.0));
    }
    if !fits {
        state.fail(format!("{} on descriptor {} that is none for it", name(op), fd.0));
    }
    if let Some((link, side)) = state.end_of(fd).filter(|_| sends) {
        state.links[link].on_send(side);
    }
    match op {
        Op::Send { batch, .. } if batch.is_empty() => state.fail(format!("an empty send on descriptor {}", fd.0)),
        Op::ReceiveInto { memory, want, .. } | Op::Read { memory, want, .. }
            if memory.capacity() - memory.len() < *want =>
        {
            state.fail("less memory than is wanted".to_owned());
        }
        _ => {}
    }
}

impl SimDriver {
    /// Moves part of what waits into the kernel, in order.
    fn start(&mut self, state: &mut State) {
        while let Some(request) = self.submissions.pop_front() {
            match request {
                Request::Start(running) => self.running.push(running),
                Request::Cancel(fd) => {
                    self.running.iter_mut().filter(|running| running.fd == Some(fd)).for_each(|running| {
                        running.cancelled = true;
                    });
                }
                Request::CancelReceive(token) => {
                    let named =
                        |running: &&mut Running| running.token == token && matches!(running.work, Work::Receive);
                    self.running.iter_mut().filter(named).for_each(|running| running.cancelled = true);
                }
            }
            if state.random.hit(state.faults.slow_submit) {
                break;
            }
        }
    }

    /// Publishes buffers up to the depth in use, which changes now and then.
    fn publish(&mut self, state: &mut State) {
        if state.random.hit(20) {
            self.depth = state.random.between(1, self.pool.count());
        }
        while self.published.len() < self.depth {
            let Some((id, _)) = self.pool.publish() else { break };
            if self.published.contains(&id) {
                state.fail(format!("buffer {id} was in two places"));
            }
            self.published.push_back(id);
        }
    }

    /// Fills the next published buffer with what `fill` gives.
    pub(super) fn fill_buffer(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<Memory> {
        let id = self.published.pop_front()?;
        let mut lease = self.pool.filled(id, len);
        fill(&mut lease);
        Some(Memory::Lease(lease))
    }

    pub(super) fn has_buffer(&self) -> bool {
        !self.published.is_empty()
    }

    /// Queues a completion; a terminal one ends the work.
    pub(super) fn complete(&mut self, at: usize, result: Result<u32, Errno>, more: bool, memory: Memory) {
        let running = &mut self.running[at];
        if !more {
            running.work = Work::Done;
        }
        self.completions.push_back((running.key, Completion { token: running.token, result, more, memory }));
    }

    /// Takes completions out and retires what they end.
    fn reap(&mut self, state: &mut State, out: &mut Vec<Completion>) {
        let mut most = REAPED_MAX;
        if state.random.hit(state.faults.partial_reap) {
            most = state.random.below(4);
        }
        for _ in 0..most {
            let Some((key, done)) = self.completions.pop_front() else { return };
            let result = done.result.map_or_else(|errno| -errno.0 as i64, |value| value as i64);
            state.note("complete", [done.token.raw() as i64, result, done.more as i64]);
            let at = self.running.iter().position(|running| running.key == key);
            let Some(at) = at else { return state.fail("an operation completed after it had retired".to_owned()) };
            let class = self.running[at].class;
            if let Some(descriptor) = self.running[at].fd.and_then(|fd| state.get(fd)) {
                descriptor.in_flight -= !done.more as usize;
                descriptor.receiving -= (class == Class::Receive && !done.more) as usize;
                // A send is over for its owner when its batch is back, though the memory may still be in use.
                let sent = class == Class::Send && matches!(done.memory, Memory::Batch(_));
                descriptor.sending -= sent as usize;
            }
            if let (Class::Receive, Ok(len), Some(fd)) = (class, done.result, self.running[at].fd)
                && let Some((link, side)) = state.end_of(fd)
            {
                state.links[link].on_handed(side, u64::from(len));
            }
            if !done.more {
                self.running.swap_remove(at);
                self.in_flight -= 1;
                state.in_flight -= 1;
            }
            out.push(done);
        }
    }

    fn check(&self, state: &mut State) {
        let pool = &self.pool;
        if pool.published() != self.published.len() || pool.free() + pool.published() > pool.count() {
            let (free, published, count) = (pool.free(), pool.published(), pool.count());
            state.fail(format!(
                "buffers: {free} free and {published} published of {count}, the kernel has {}",
                self.published.len()
            ));
        }
        if self.in_flight != self.running.len() + self.waiting() {
            state.fail("the count of operations in flight is wrong".to_owned());
        }
    }

    fn waiting(&self) -> usize {
        self.submissions.iter().filter(|request| matches!(request, Request::Start(_))).count()
    }
}

/// How far one sleep moves the clock.
fn sleep(state: &mut State, until: Option<Duration>) {
    if state.random.hit(state.faults.clock_jump) {
        let jump = Duration::from_millis(state.random.between(1, 10_000) as u64);
        state.clock += jump;
        state.note("clock jumps", [jump.as_millis() as i64, 0, 0]);
    }
    // Something else may end a sleep at any time; without a deadline, something must.
    let most = until.map_or(Duration::from_millis(1), |until| until.saturating_sub(state.clock));
    let step = match state.sleep_max {
        Duration::MAX => most,
        limit => Duration::from_micros(state.random.below(limit.as_micros() as usize + 1) as u64).min(most),
    };
    state.clock += step;
}

impl Driver for SimDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Sim
    }

    fn submit(&mut self, token: Token, op: Op) {
        admit(&mut self.world.borrow_mut(), token, &op);
        let (fd, class) = (operand(&op), class(&op));
        let work = match op {
            Op::Accept { .. } => Work::Accept,
            Op::Receive { .. } => Work::Receive,
            Op::ReceiveInto { memory, want, .. } => Work::Fill { memory, want, got: 0 },
            Op::Send { batch, manner, .. } => {
                let image = image(&batch);
                Work::Send { batch, manner, sent: 0, image }
            }
            Op::Connect { peer, .. } => Work::Connect(peer),
            op => Work::Once(op),
        };
        self.next_key += 1;
        self.in_flight += 1;
        let running = Running { key: self.next_key, class, token, fd, work, cancelled: false };
        self.submissions.push_back(Request::Start(running));
    }

    fn cancel(&mut self, fd: Fd) {
        self.world.borrow_mut().note("cancel", [fd.0 as i64, 0, 0]);
        self.submissions.push_back(Request::Cancel(fd));
    }

    fn cancel_receive(&mut self, socket: Fd, token: Token) {
        self.world.borrow_mut().note("cancel receive", [socket.0 as i64, token.raw() as i64, 0]);
        self.submissions.push_back(Request::CancelReceive(token));
    }

    fn turn(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()> {
        let world = self.world.clone();
        let state = &mut *world.borrow_mut();
        let waits = wait != Wait::No;
        state.note("turn", [waits as i64, self.submissions.len() as i64, self.running.len() as i64]);
        state.clock += Duration::from_micros(state.random.below(20) as u64);
        if state.random.hit(state.faults.interrupted) {
            state.note("interrupted", [0; 3]);
            return Ok(());
        }
        self.publish(state);
        self.start(state);
        state.deliver();
        self.progress(state);
        let rung = self.bell.rung.swap(false, Ordering::AcqRel);
        if let Wait::Until(until) = wait
            && self.completions.is_empty()
            && !rung
        {
            sleep(state, until);
            state.deliver();
            self.progress(state);
        }
        self.reap(state, out);
        self.check(state);
        Ok(())
    }

    fn pool(&self) -> &Rc<BufferPool> {
        &self.pool
    }

    fn now(&self) -> Duration {
        let state = &mut *self.world.borrow_mut();
        if state.random.hit(state.faults.slow_code) {
            state.clock += Duration::from_micros(state.random.below(800) as u64);
        }
        state.clock
    }

    fn unix_now(&self) -> Duration {
        BORN + self.world.borrow().clock
    }

    fn doorbell(&self) -> Doorbell {
        self.bell.clone()
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn listen(&mut self, address: &Address, options: &SocketOptions) -> io::Result<(Fd, Address)> {
        let state = &mut *self.world.borrow_mut();
        let mut address = address.clone();
        if let Address::Ip(ip) = &mut address
            && ip.port() == 0
        {
            ip.set_port(state.port());
        }
        if !state.is_free(&address, options.reuse_port) {
            return Err(Errno(libc::EADDRINUSE).into());
        }
        let reuse_port = options.reuse_port;
        let kind = Kind::Listener { address: address.clone(), reuse_port, pending: VecDeque::new() };
        let fd = state.allocate(kind)?;
        state.note("listen", [fd.0 as i64, 0, 0]);
        Ok((fd, address))
    }

    fn socket(&mut self, _peer: &Address, _options: &SocketOptions) -> io::Result<Fd> {
        let state = &mut *self.world.borrow_mut();
        let fd = state.allocate(Kind::Stream { end: None })?;
        state.note("socket", [fd.0 as i64, 0, 0]);
        Ok(fd)
    }

    fn pair(&mut self) -> io::Result<(Fd, Fd)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn datagram(&mut self, mut local: SocketAddr) -> io::Result<(Fd, SocketAddr)> {
        let state = &mut *self.world.borrow_mut();
        if local.port() == 0 {
            local.set_port(state.port());
        }
        let fd = state.allocate(Kind::Datagram { address: local, queue: VecDeque::new() })?;
        state.note("datagram socket", [fd.0 as i64, 0, 0]);
        Ok((fd, local))
    }

    fn peer(&self, socket: Fd) -> io::Result<Address> {
        let state = &mut *self.world.borrow_mut();
        let (link, side) = state.end_of(socket).ok_or(Errno(libc::ENOTCONN))?;
        Ok(state.links[link].names[1 - side].clone())
    }

    fn stat(&self, file: Fd) -> io::Result<FileMeta> {
        let state = &mut *self.world.borrow_mut();
        let opened = match state.get(file).map(|descriptor| &descriptor.kind) {
            Some(Kind::Opened(opened)) => opened.clone(),
            _ => return Err(Errno(libc::EBADF).into()),
        };
        let len = match opened {
            Opened::File(inode) => state.disk.len(inode) as u64,
            Opened::Directory(_) => 0,
        };
        Ok(FileMeta { len, modified: state.clock })
    }

    fn configure(&mut self, socket: Fd, _options: &SocketOptions) -> io::Result<()> {
        let state = &mut *self.world.borrow_mut();
        if state.get(socket).is_none() {
            state.fail(format!("options set on closed descriptor {}", socket.0));
        }
        Ok(())
    }

    fn shutdown(&mut self, socket: Fd, how: Shut) {
        let state = &mut *self.world.borrow_mut();
        state.note("shutdown", [socket.0 as i64, (how == Shut::Both) as i64, 0]);
        if state.get(socket).is_none() {
            state.fail(format!("shutdown of closed descriptor {}", socket.0));
        }
        let Some((link, side)) = state.end_of(socket) else { return };
        state.links[link].shut_write(side);
        if how == Shut::Both {
            state.links[link].shut_read(side);
        }
    }

    fn close(&mut self, fd: Fd) {
        let state = &mut *self.world.borrow_mut();
        state.note("close", [fd.0 as i64, 0, 0]);
        let Some(descriptor) = state.release(fd) else {
            return state.fail(format!("descriptor {} was closed twice", fd.0));
        };
        if descriptor.in_flight > 0 {
            let left = descriptor.in_flight;
            state.fail(format!("descriptor {} closed with {left} operations in flight", fd.0));
        }
        match descriptor.kind {
            Kind::Stream { end: Some(end) } => state.close_end(end),
            Kind::Listener { pending, .. } => pending.into_iter().for_each(|link| state.links[link].reset(1)),
            Kind::Stream { end: None } | Kind::Datagram { .. } | Kind::Opened(_) => {}
        }
    }
}
