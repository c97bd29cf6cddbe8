//! What the simulated kernel does with the operations it has: as much or as little as chance allows.
//!
//! Every look at an operation either posts completions, keeps what it moved so far, or leaves it alone. An
//! operation's bytes move in order; operations of different sockets overtake each other.

use std::mem::replace;

use super::driver::{COMPLETIONS_MAX, SimDriver, Work, image};
use super::link::Io;
use super::world::{EndId, Kind, State};
use crate::buffers::BUFFER_BYTES;
use crate::driver::{Address, Batch, Errno, Fd, Memory, Op, SendManner};

/// Completions that one look at a multishot operation may post.
const SHOTS_MAX: usize = 3;

impl SimDriver {
    /// Looks once at every operation, in random order.
    pub(super) fn progress(&mut self, state: &mut State) {
        let mut order: Vec<usize> = (0..self.running.len()).collect();
        state.random.shuffle(&mut order);
        for at in order {
            if state.random.hit(state.faults.delayed) {
                continue;
            }
            if self.running[at].cancelled && !state.random.hit(state.faults.cancel_race) {
                self.cancel_now(state, at);
            } else {
                self.step(state, at);
            }
        }
    }

    fn step(&mut self, state: &mut State, at: usize) {
        let fd = self.running[at].fd.unwrap_or(Fd(-1));
        let end = state.end_of(fd);
        match (&self.running[at].work, end) {
            (Work::Accept, _) => self.accept(state, at, fd),
            (Work::Receive, Some(end)) => self.receive(state, at, end),
            (Work::Fill { .. }, Some(end)) => self.fill(state, at, end),
            (Work::Send { .. }, Some(end)) => self.send(state, at, end),
            (Work::Notice { .. }, _) => self.notice(state, at),
            (Work::Connect(_), _) => self.connect(state, at, fd),
            (Work::Once(_), _) => self.once(state, at, fd),
            // An operation on a descriptor that is none for it was reported when it was submitted.
            (Work::Receive | Work::Fill { .. } | Work::Send { .. } | Work::Done, _) => {}
        }
    }

    /// Ends a cancelled operation, with what it achieved before.
    fn cancel_now(&mut self, state: &mut State, at: usize) {
        let canceled = Err(Errno::CANCELED);
        match replace(&mut self.running[at].work, Work::Done) {
            Work::Accept | Work::Connect(_) => self.complete(at, canceled, false, Memory::None),
            Work::Receive => {
                let memory = self.stray_buffer(state);
                self.complete(at, canceled, false, memory);
            }
            Work::Fill { memory, got, .. } => {
                let result = if got > 0 { Ok(got as u32) } else { canceled };
                self.complete(at, result, false, Memory::Bytes(memory));
            }
            Work::Send { batch, sent, .. } => {
                let result = if sent > 0 { Ok(sent as u32) } else { canceled };
                self.complete(at, result, false, Memory::Batch(batch));
            }
            Work::Once(Op::ReceiveFrom { memory, .. }) => self.complete(at, canceled, false, Memory::Bytes(memory)),
            // Kernels do not interrupt file operations and notifications.
            other => {
                self.running[at].work = other;
                self.step(state, at);
            }
        }
    }

    /// Whether a multishot operation that posts now stays armed.
    fn stays_armed(&self, state: &mut State) -> bool {
        let overflows = self.completions.len() >= COMPLETIONS_MAX || state.random.hit(state.faults.overflow);
        !overflows && !state.random.hit(state.faults.multishot_ends)
    }

    /// A buffer that comes with a completion without bytes, sometimes.
    fn stray_buffer(&mut self, state: &mut State) -> Memory {
        match state.random.hit(state.faults.buffer_without_bytes) {
            true => self.fill_buffer(0, |_| {}).unwrap_or(Memory::None),
            false => Memory::None,
        }
    }

    fn accept(&mut self, state: &mut State, at: usize, fd: Fd) {
        for _ in 0..SHOTS_MAX {
            let Some(Kind::Listener { pending, .. }) = state.get(fd).map(|descriptor| &mut descriptor.kind) else {
                return;
            };
            let Some(&link) = pending.front() else { return };
            if state.random.hit(state.faults.accept_aborted) {
                self.take_pending(state, fd);
                state.links[link].reset(1);
                return self.complete(at, Err(Errno(libc::ECONNABORTED)), false, Memory::None);
            }
            let accepted = match state.allocate(Kind::Stream { end: Some((link, 1)) }) {
                Ok(accepted) => accepted,
                Err(errno) => return self.complete(at, Err(errno), false, Memory::None),
            };
            self.take_pending(state, fd);
            let more = self.stays_armed(state);
            state.note("accepted", [accepted.0 as i64, link as i64, more as i64]);
            self.complete(at, Ok(accepted.0 as u32), more, Memory::None);
            if !more {
                return;
            }
        }
    }

    fn take_pending(&self, state: &mut State, fd: Fd) {
        if let Some(Kind::Listener { pending, .. }) = state.get(fd).map(|descriptor| &mut descriptor.kind) {
            pending.pop_front();
        }
    }

    fn receive(&mut self, state: &mut State, at: usize, (link, side): EndId) {
        for _ in 0..SHOTS_MAX {
            if !state.links[link].is_readable(side) {
                return;
            }
            if !self.has_buffer() || state.random.hit(state.faults.no_buffers) {
                return self.complete(at, Err(Errno::NOBUFS), false, Memory::None);
            }
            let most = state.links[link].ready(side).min(BUFFER_BYTES);
            if most == 0 {
                let mut none = [];
                let result = match state.links[link].read(side, &mut none) {
                    Io::Failed(errno) => Err(errno),
                    _ => Ok(0),
                };
                let memory = self.stray_buffer(state);
                return self.complete(at, result, false, memory);
            }
            let len = some_of(state, most);
            let connection = &mut state.links[link];
            let memory = self.fill_buffer(len, |buffer| {
                connection.read(side, buffer);
            });
            let Some(memory) = memory else { return };
            let more = self.stays_armed(state);
            self.complete(at, Ok(len as u32), more, memory);
            if !more {
                return;
            }
        }
    }

    fn fill(&mut self, state: &mut State, at: usize, (link, side): EndId) {
        let Work::Fill { memory, want, got } = &mut self.running[at].work else { return };
        let most = state.links[link].ready(side).min(*want - *got);
        let len = if most > 0 { some_of(state, most) } else { 0 };
        let start = memory.len();
        memory.resize(start + len, 0);
        let ended = match state.links[link].read(side, &mut memory[start..]) {
            Io::Moved(len) => {
                *got += len;
                let short = state.random.hit(state.faults.short_receive / 8);
                if *got < *want && !short {
                    return;
                }
                Ok(*got as u32)
            }
            Io::Wait => return,
            Io::End => Ok(*got as u32),
            // The bytes come first; the error stays for the next operation.
            Io::Failed(_) if *got > 0 => Ok(*got as u32),
            Io::Failed(errno) => Err(errno),
        };
        let memory = std::mem::take(memory);
        self.complete(at, ended, false, Memory::Bytes(memory));
    }

    fn send(&mut self, state: &mut State, at: usize, (link, side): EndId) {
        let Work::Send { batch, manner, sent, image: before } = &mut self.running[at].work else { return };
        let quiet = *manner == SendManner::Quiet;
        let left = batch.len() - *sent;
        let most = if state.random.hit(state.faults.short_send) { state.random.between(1, left) } else { left };
        let result = match state.links[link].write(side, batch, *sent, most) {
            Io::Moved(len) => {
                *sent += len;
                state.note("sent", [link as i64, len as i64, left as i64]);
                if len < most && !quiet {
                    return;
                }
                Ok(*sent as u32)
            }
            Io::Wait if quiet => Err(Errno::AGAIN),
            Io::Wait | Io::End => return,
            Io::Failed(_) if *sent > 0 => Ok(*sent as u32),
            Io::Failed(errno) => Err(errno),
        };
        if image(batch) != *before {
            return state.fail("the memory of a send changed while it was in flight".to_owned());
        }
        self.end_send(state, at, result);
    }

    /// Tells a send's result, and keeps its memory if the kernel still reads it.
    fn end_send(&mut self, state: &mut State, at: usize, result: Result<u32, Errno>) {
        let late = state.random.hit(state.faults.late_notice);
        match replace(&mut self.running[at].work, Work::Done) {
            Work::Send { batch, manner, image, .. } if manner == SendManner::ZeroCopy || late => {
                let copy = Batch::Many(batch.frames().to_vec());
                self.complete(at, result, true, Memory::Batch(copy));
                self.running[at].work = Work::Notice { batch, image };
            }
            Work::Send { batch, .. } => self.complete(at, result, false, Memory::Batch(batch)),
            other => self.running[at].work = other,
        }
    }

    fn notice(&mut self, state: &mut State, at: usize) {
        let Work::Notice { batch, image: before } = &self.running[at].work else { return };
        if state.random.hit(700) {
            return;
        }
        if image(batch) != *before {
            return state.fail("the memory of a zero-copy send changed before its notification".to_owned());
        }
        self.complete(at, Ok(0), false, Memory::None);
    }

    fn connect(&mut self, state: &mut State, at: usize, fd: Fd) {
        let Work::Connect(peer) = &self.running[at].work else { return };
        let result = match state.random.hit(state.faults.connect_fails) {
            true => Err(Errno(libc::ETIMEDOUT)),
            false => connect_to(state, fd, peer),
        };
        self.complete(at, result, false, Memory::None);
    }

    fn once(&mut self, state: &mut State, at: usize, fd: Fd) {
        let Work::Once(op) = replace(&mut self.running[at].work, Work::Done) else { return };
        match perform(state, fd, op) {
            Ok((result, memory)) => self.complete(at, result, false, memory),
            Err(op) => self.running[at].work = Work::Once(op),
        }
    }
}

/// All of `most` bytes, or, where chance says so, one or a few.
fn some_of(state: &mut State, most: usize) -> usize {
    match state.random.hit(state.faults.short_receive) {
        true if state.random.hit(500) => 1,
        true => state.random.between(1, most),
        false => most,
    }
}

fn connect_to(state: &mut State, fd: Fd, peer: &Address) -> Result<u32, Errno> {
    let link = state.dial(peer)?;
    match state.get(fd).map(|descriptor| &mut descriptor.kind) {
        Some(Kind::Stream { end }) => {
            *end = Some((link, 0));
            Ok(0)
        }
        _ => Err(Errno(libc::EBADF)),
    }
}

type Outcome = (Result<u32, Errno>, Memory);

/// Does an operation that takes one step, or gives it back if it cannot be done yet.
fn perform(state: &mut State, fd: Fd, op: Op) -> Result<Outcome, Op> {
    let unit = |done: Result<(), Errno>| (done.map(|()| 0), Memory::None);
    Ok(match op {
        Op::ReceiveFrom { socket, mut memory } => {
            let Some(Kind::Datagram { queue, .. }) = state.get(fd).map(|descriptor| &mut descriptor.kind) else {
                return Ok((Err(Errno(libc::EBADF)), Memory::Bytes(memory)));
            };
            let Some((payload, from)) = queue.pop_front() else { return Err(Op::ReceiveFrom { socket, memory }) };
            let len = payload.len().min(memory.capacity() - memory.len());
            memory.extend_from_slice(&payload[..len]);
            (Ok(len as u32), Memory::Datagram(memory, from))
        }
        Op::SendTo { memory, peer, .. } => {
            let from = match state.get(fd).map(|descriptor| &descriptor.kind) {
                Some(Kind::Datagram { address, .. }) => *address,
                _ => return Ok((Err(Errno(libc::EBADF)), Memory::Bytes(memory))),
            };
            state.post(from, peer, &memory);
            (Ok(memory.len() as u32), Memory::Bytes(memory))
        }
        Op::Open { path, flags, .. } => {
            let opened = state.disk.open(path.as_bytes(), flags);
            let opened = opened.and_then(|opened| state.allocate(Kind::Opened(opened)));
            (opened.map(|fd| fd.0 as u32), Memory::None)
        }
        Op::OpenBeneath { path, flags, .. } => {
            let opened = beneath(state, fd, path.as_bytes()).and_then(|path| state.disk.open(&path, flags));
            let opened = opened.and_then(|opened| state.allocate(Kind::Opened(opened)));
            (opened.map(|fd| fd.0 as u32), Memory::None)
        }
        Op::Read { mut memory, want, offset, .. } => {
            let want = part_of(state, want);
            let read = inode(state, fd).map(|inode| state.disk.read(inode, &mut memory, want, offset) as u32);
            (read, Memory::Bytes(memory))
        }
        Op::Write { batch, offset, .. } => (write(state, fd, &batch, offset), Memory::Batch(batch)),
        Op::Sync { .. } => unit(sync(state, fd)),
        Op::Rename { from, to } => unit(state.disk.rename(from.as_bytes(), to.as_bytes())),
        Op::Link { from, to } => unit(state.disk.link(from.as_bytes(), to.as_bytes())),
        Op::Unlink { path } => unit(state.disk.unlink(path.as_bytes())),
        Op::MakeDirectory { path, .. } => unit(state.disk.make_directory(path.as_bytes())),
        other => return Err(other),
    })
}

/// The whole path of a relative one below the open directory. There are no links here.
fn beneath(state: &mut State, directory: Fd, path: &[u8]) -> Result<Vec<u8>, Errno> {
    if path.starts_with(b"/") || path.split(|&byte| byte == b'/').any(|part| part == b"..") {
        return Err(Errno(libc::EXDEV));
    }
    match state.get(directory).map(|descriptor| &descriptor.kind) {
        Some(Kind::Opened(super::disk::Opened::Directory(parent))) => {
            let parent = parent.strip_suffix(b"/").unwrap_or(parent);
            Ok([parent, b"/", path].concat())
        }
        Some(Kind::Opened(_)) => Err(Errno(libc::ENOTDIR)),
        _ => Err(Errno(libc::EBADF)),
    }
}

fn part_of(state: &mut State, want: usize) -> usize {
    match want > 0 && state.random.hit(state.faults.short_file) {
        true => state.random.between(1, want),
        false => want,
    }
}

fn inode(state: &mut State, fd: Fd) -> Result<usize, Errno> {
    match state.get(fd).map(|descriptor| &descriptor.kind) {
        Some(Kind::Opened(super::disk::Opened::File(inode))) => Ok(*inode),
        Some(Kind::Opened(_)) => Err(Errno(libc::EISDIR)),
        _ => Err(Errno(libc::EBADF)),
    }
}

fn write(state: &mut State, fd: Fd, batch: &Batch, offset: u64) -> Result<u32, Errno> {
    let inode = inode(state, fd)?;
    if state.random.hit(state.faults.disk_full) {
        return Err(Errno(libc::ENOSPC));
    }
    let len = part_of(state, batch.len());
    state.disk.write(inode, batch, len, offset);
    Ok(len as u32)
}

fn sync(state: &mut State, fd: Fd) -> Result<(), Errno> {
    let opened = match state.get(fd).map(|descriptor| &descriptor.kind) {
        Some(Kind::Opened(opened)) => opened.clone(),
        _ => return Err(Errno(libc::EBADF)),
    };
    if state.random.hit(state.faults.sync_fails) {
        state.disk.forget(&opened);
        return Err(Errno(libc::EIO));
    }
    state.disk.sync(&opened);
    Ok(())
}
