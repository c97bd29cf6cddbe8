//! Listening sockets: accepting without pause, and sharing the load.
//!
//! Two ways to spread connections over shards: every shard listens on the port and the kernel hashes
//! ([`Balance::ReusePort`], best for masses), or shard 0 accepts and hands each descriptor to the shard with the
//! fewest connections ([`Balance::LeastLoaded`], best for a few heavy ones).
//!
//! When descriptors run out, a reserve is spent on accepting and refusing what waits, so that peers learn at
//! once; then accepting pauses for [`limits::ACCEPT_PAUSE`].

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::conn::Owner;
use crate::driver::{Address, Completion, Errno, Fd, Op, SocketOptions, Token};
use crate::limits;
use crate::mail::Letter;
use crate::shard::{Core, Mesh, Shard, TAG_ACCEPT};
use crate::stream::Stream;

/// How connections are spread over shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Each shard that listens has its own socket on the port; the kernel hashes over them.
    ReusePort,
    /// Only shard 0 has a socket; each connection goes to the shard with the fewest, of those that are not strained
    /// ([`Shard::set_strained`]) if there are any. All shards call `listen`.
    LeastLoaded,
}

/// How to listen.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// How to spread connections.
    pub balance: Balance,
    /// Most connections this shard holds; more are closed as they come, counted as refused.
    pub connections_max: usize,
    /// Socket options, inherited by accepted sockets.
    pub socket: SocketOptions,
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions {
            balance: Balance::ReusePort,
            connections_max: limits::CONNECTIONS_MAX,
            socket: SocketOptions::default(),
        }
    }
}

enum Target {
    Queue { waiting: VecDeque<Fd>, waker: Option<Waker> },
    Group(u16),
}

struct Entry {
    generation: u32,
    /// `None` where another shard accepts for this one, or the slot is vacant.
    fd: Option<Fd>,
    key: Arc<str>,
    /// How many listeners of this key each shard has.
    open_on: Arc<[AtomicUsize]>,
    balance: Balance,
    connections_max: usize,
    target: Target,
    armed: bool,
    closing: bool,
    reserve: Option<Fd>,
    pressure: Pressure,
}

/// What the lack of descriptors makes of accepting.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pressure {
    None,
    /// Accepts only to refuse.
    Shedding {
        until: Duration,
        /// Whether somebody was refused since descriptors ran out the last time, so that one is free again.
        refused: bool,
    },
    /// Does not accept.
    Paused {
        until: Duration,
    },
}

impl Pressure {
    fn until(self) -> Option<Duration> {
        match self {
            Pressure::None => None,
            Pressure::Shedding { until, .. } | Pressure::Paused { until } => Some(until),
        }
    }
}

/// A shard's listeners.
#[derive(Default)]
pub(crate) struct ListenerTable {
    entries: Vec<Entry>,
}

/// A listening socket. Dropping it stops listening; connections made stay.
pub struct Listener {
    pub(crate) core: Rc<Core>,
    pub(crate) index: u32,
    address: Address,
}

impl Shard {
    /// Listens on `address`. With several shards call it on each.
    ///
    /// # Errors
    /// The kernel's; `crate::error::explain_listen` makes a sentence of them.
    pub fn listen(&self, address: &Address, options: &ListenOptions) -> io::Result<Listener> {
        let core = &self.core;
        let here = options.balance == Balance::ReusePort || core.index == 0;
        let (fd, bound) = match here {
            true => core.bind(address, options).map(|(fd, bound)| (Some(fd), bound))?,
            false => (None, address.clone()),
        };
        let key: Arc<str> = address.to_string().into();
        let open_on = core.mesh.listeners_of(&key);
        open_on[core.index].fetch_add(1, Ordering::Relaxed);
        let index = core.listeners.borrow_mut().insert(fd, key, open_on, options);
        core.arm_accept(index);
        Ok(Listener { core: core.clone(), index, address: bound })
    }
}

impl ListenerTable {
    fn insert(&mut self, fd: Option<Fd>, key: Arc<str>, open_on: Arc<[AtomicUsize]>, options: &ListenOptions) -> u32 {
        let entry = Entry {
            generation: 0,
            fd,
            key,
            open_on,
            balance: options.balance,
            connections_max: options.connections_max,
            target: Target::Queue { waiting: VecDeque::new(), waker: None },
            armed: false,
            closing: false,
            reserve: None,
            pressure: Pressure::None,
        };
        // Listeners are few and long-lived; vacant slots are found by looking.
        match self.entries.iter().position(|entry| entry.fd.is_none() && entry.closing && !entry.armed) {
            Some(index) => {
                let generation = self.entries[index].generation + 1;
                self.entries[index] = Entry { generation, ..entry };
                index as u32
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        }
    }
}

impl Core {
    /// Opens a listening socket. With several shards, the first to come makes sure that no other process listens
    /// there (sharing a port would let the kernel split the connections between the two), and the others join it on
    /// the port it was given.
    fn bind(&self, address: &Address, options: &ListenOptions) -> io::Result<(Fd, Address)> {
        let mut socket = options.socket.clone();
        if self.mesh.load.len() == 1 || options.balance != Balance::ReusePort {
            return self.driver.borrow_mut().listen(address, &socket);
        }
        // A shard's first, second, ... socket for that address belongs to the others' first, second, ...
        let key = address.to_string();
        let ordinal = self.bound.borrow().iter().filter(|other| **other == key).count();
        self.bound.borrow_mut().push(key.clone());
        // Held while binding, at the start only: so that exactly one shard is the first.
        let mut ports = self.mesh.ports.lock().expect("nothing panics under this lock");
        let mut driver = self.driver.borrow_mut();
        let shared = match ports.get(&(key.clone(), ordinal)) {
            Some(shared) => shared.clone(),
            None => {
                let (alone, bound) = driver.listen(address, &socket)?;
                driver.close(alone);
                bound
            }
        };
        socket.reuse_port = true;
        let listening = driver.listen(&shared, &socket)?;
        ports.insert((key, ordinal), shared);
        Ok(listening)
    }

    fn arm_accept(&self, index: u32) {
        let mut listeners = self.listeners.borrow_mut();
        let entry = &mut listeners.entries[index as usize];
        let Some(fd) = entry.fd.filter(|_| !entry.armed && !entry.closing) else { return };
        match entry.pressure {
            Pressure::None => self.take_reserve(entry),
            Pressure::Shedding { .. } => {}
            Pressure::Paused { .. } => return,
        }
        entry.armed = true;
        self.driver.borrow_mut().submit(Token::new(TAG_ACCEPT, entry.generation, index), Op::Accept { listener: fd });
    }

    pub(crate) fn on_accept(&self, done: Completion) {
        let index = done.token.index();
        let mut listeners = self.listeners.borrow_mut();
        let entry = &mut listeners.entries[index as usize];
        if entry.generation & 0xff_ffff != done.token.generation() {
            // An orphan: nobody listens any more.
            if let Ok(fd) = done.result {
                self.driver.borrow_mut().close(Fd(fd as i32));
            }
            return self.metrics.stale_completions.add(1);
        }
        if !done.more {
            entry.armed = false;
        }
        match done.result {
            Ok(fd) if entry.closing || matches!(entry.pressure, Pressure::Shedding { .. }) => {
                self.metrics.refused.add(1);
                self.driver.borrow_mut().close(Fd(fd as i32));
                if let Pressure::Shedding { refused, .. } = &mut entry.pressure {
                    *refused = true;
                }
            }
            Ok(fd) => {
                let (key, open_on, balance) = (entry.key.clone(), entry.open_on.clone(), entry.balance);
                drop(listeners);
                self.place(index, &key, &open_on, balance, Fd(fd as i32));
                listeners = self.listeners.borrow_mut();
            }
            Err(Errno(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)) if !entry.closing => {
                self.metrics.refused.add(1);
                self.out_of_descriptors(&mut listeners.entries[index as usize]);
            }
            // A peer that left while it waited, or a cancelled accept: the next one is unaffected.
            Err(_) => {}
        }
        let entry = &mut listeners.entries[index as usize];
        if entry.closing && !entry.armed {
            let fds = [entry.fd.take(), entry.reserve.take()];
            fds.into_iter().flatten().for_each(|fd| self.driver.borrow_mut().close(fd));
            return;
        }
        drop(listeners);
        self.arm_accept(index);
    }

    /// Spends the reserve on refusing those who wait, one after the other: an accept that goes on by itself (multishot) takes the
    /// one descriptor, and finds none for the next before the first is refused. Without a reserve, pauses.
    fn out_of_descriptors(&self, entry: &mut Entry) {
        if let Pressure::Shedding { refused, .. } = &mut entry.pressure
            && std::mem::take(refused)
        {
            return;
        }
        let until = self.timers.now() + limits::ACCEPT_PAUSE;
        entry.pressure = match entry.reserve.take() {
            Some(reserve) => {
                self.driver.borrow_mut().close(reserve);
                Pressure::Shedding { until, refused: false }
            }
            None => Pressure::Paused { until },
        };
    }

    /// Ends refusals and pauses of accepting that are over.
    pub(crate) fn resume_accepting(&self, now: Duration) {
        let count = self.listeners.borrow().entries.len();
        for index in 0..count {
            let due = {
                let mut listeners = self.listeners.borrow_mut();
                let entry = &mut listeners.entries[index];
                let due = entry.pressure.until().is_some_and(|until| until <= now);
                if due {
                    self.take_reserve(entry);
                    let until = now + limits::ACCEPT_PAUSE;
                    // Without a descriptor to spare, going on would only fail again.
                    entry.pressure = if entry.reserve.is_some() { Pressure::None } else { Pressure::Paused { until } };
                }
                due
            };
            if due {
                self.arm_accept(index as u32);
            }
        }
    }

    fn take_reserve(&self, entry: &mut Entry) {
        if entry.reserve.is_none() {
            // Any descriptor will do; a datagram socket is the one that every driver can make.
            let made = self.driver.borrow_mut().datagram(([127, 0, 0, 1], 0).into());
            entry.reserve = made.ok().map(|(fd, _)| fd);
        }
    }

    /// When [`Core::resume_accepting`] has something to do.
    pub(crate) fn accept_deadline(&self) -> Option<Duration> {
        self.listeners.borrow().entries.iter().filter_map(|entry| entry.pressure.until()).min()
    }

    /// Chooses the shard for an accepted connection, among those that listen: at the start some have not begun to.
    fn place(&self, index: u32, key: &Arc<str>, open_on: &[AtomicUsize], balance: Balance, fd: Fd) {
        let Mesh { strained, load, .. } = &*self.mesh;
        let listens = |shard: usize| open_on[shard].load(Ordering::Relaxed) > 0;
        let to = match balance {
            Balance::LeastLoaded => (0..load.len()).filter(|&shard| listens(shard)).min_by_key(|&shard| {
                let connections = load[shard].load(Ordering::Relaxed);
                (strained[shard].load(Ordering::Relaxed), connections, shard != self.index)
            }),
            _ => None,
        };
        let to = to.unwrap_or(self.index);
        // Counted there already, so that a burst is spread though letters travel only at turn's end.
        self.count_in(to);
        if to != self.index {
            let letter = Letter::Socket { listener: key.clone(), fd };
            if self.post_letter(to, letter).is_ok() {
                return;
            }
            self.count_out(to);
            self.count_in(self.index);
        }
        self.give(index, fd);
    }

    /// A connection for the listener of that address arrived on this shard.
    pub(crate) fn on_handed(&self, key: &str, fd: Fd) {
        let index = self.listeners.borrow().entries.iter().position(|entry| &*entry.key == key && !entry.closing);
        match index {
            Some(index) => self.give(index as u32, fd),
            None => {
                self.count_out(self.index);
                self.metrics.refused.add(1);
                self.driver.borrow_mut().close(fd);
            }
        }
    }

    /// Gives an accepted connection to the listener's target.
    fn give(&self, index: u32, fd: Fd) {
        let mut listeners = self.listeners.borrow_mut();
        let entry = &mut listeners.entries[index as usize];
        if self.conns.borrow().alive() >= entry.connections_max {
            self.count_out(self.index);
            self.metrics.refused.add(1);
            return self.driver.borrow_mut().close(fd);
        }
        self.metrics.accepted.add(1);
        match &mut entry.target {
            Target::Queue { waiting, waker } => {
                waiting.push_back(fd);
                if let Some(waker) = waker.take() {
                    waker.wake();
                }
            }
            Target::Group(number) => {
                let owner = Owner::Group(*number);
                drop(listeners);
                self.open(fd, owner);
            }
        }
    }

    /// Everything this listener accepts belongs to the group from now on.
    pub(crate) fn listen_for(&self, listener: &Listener, group: u16) {
        let mut listeners = self.listeners.borrow_mut();
        let entry = &mut listeners.entries[listener.index as usize];
        let before = std::mem::replace(&mut entry.target, Target::Group(group));
        drop(listeners);
        if let Target::Queue { waiting, .. } = before {
            for fd in waiting {
                self.open(fd, Owner::Group(group));
            }
        }
    }

    /// Stops every listener.
    pub(crate) fn close_listeners(&self) {
        let count = self.listeners.borrow().entries.len();
        (0..count).for_each(|index| self.close_listener(index as u32));
    }

    fn close_listener(&self, index: u32) {
        let mut listeners = self.listeners.borrow_mut();
        let entry = &mut listeners.entries[index as usize];
        if std::mem::replace(&mut entry.closing, true) {
            return;
        }
        entry.open_on[self.index].fetch_sub(1, Ordering::Relaxed);
        entry.pressure = Pressure::None;
        let mut driver = self.driver.borrow_mut();
        if let Target::Queue { waiting, .. } = &mut entry.target {
            waiting.drain(..).for_each(|fd| {
                self.count_out(self.index);
                driver.close(fd);
            });
        }
        match entry.fd {
            Some(fd) if entry.armed => driver.cancel(fd),
            _ => {
                let fds = [entry.fd.take(), entry.reserve.take()];
                fds.into_iter().flatten().for_each(|fd| driver.close(fd));
            }
        }
    }
}

impl Listener {
    /// Where it listens: tells the port when 0 was asked for.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The next connection, as an async stream.
    ///
    /// # Panics
    /// When the listener was given to a group.
    pub async fn accept(&self) -> Stream {
        let fd = std::future::poll_fn(|cx| {
            let mut listeners = self.core.listeners.borrow_mut();
            let entry = &mut listeners.entries[self.index as usize];
            match &mut entry.target {
                Target::Group(_) => panic!("a listener feeds a group or a queue, not both"),
                Target::Queue { waiting, waker } => match waiting.pop_front() {
                    Some(fd) => Poll::Ready(fd),
                    None => {
                        *waker = Some(cx.waker().clone());
                        Poll::Pending
                    }
                },
            }
        })
        .await;
        Stream::adopt(&self.core, fd)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.core.close_listener(self.index);
    }
}
