//! Listening sockets: accepting without pause, and sharing the load.
//!
//! Two ways to spread connections over shards: every shard listens on the port and the kernel hashes
//! ([`Balance::ReusePort`], best for masses), or shard 0 accepts and hands each descriptor to the shard with the
//! fewest connections ([`Balance::LeastLoaded`], best for a few heavy ones).
//!
//! When descriptors run out, a reserve is spent on accepting and refusing what waits, so that peers learn at
//! once; then accepting pauses for [`limits::ACCEPT_PAUSE`].
//!
//! A successor is given these very sockets ([`ListeningSocket`]) and not others on the same port: what waits in a socket's
//! queue belongs to the socket, and is lost with the last process that has it. So the end of a listener has two steps:
//! [`Listener::stop`], after which what was accepted still arrives ([`Listener::last`]), and dropping it.
//!
//! ```text
//!   accepting ─stop─► cancelled ─► queue emptied ─► closed here ─► letters arrived ─► settled ─drop─► gone
//! ```

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::conn::Owner;
use crate::driver::{Address, Completion, Errno, Fd, Op, SocketOptions, Token};
use crate::limits;
use crate::listening::Listening;
use crate::mail::Letter;
use crate::shard::{Core, Mesh, Shard, TAG_ACCEPT};
use crate::stream::Stream;
use crate::sys::net;

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

/// Connections at most that are taken off a socket's queue when its listener stops: a bound against a flood.
const LAST_ACCEPTS: usize = 4096;
/// How often a listener that has stopped looks for connections that other shards have accepted for it.
const LAST_LOOK: Duration = Duration::from_millis(1);

/// A listening socket that one process has from another, or that was opened before the engine started.
#[derive(Debug)]
pub struct ListeningSocket {
    /// The address that was asked for, as text: it is found by that, or by where it is bound.
    pub name: String,
    /// The socket.
    pub socket: OwnedFd,
}

impl ListeningSocket {
    /// Opens one, for an engine that is to start: as somebody who may use a port that the engine's user may not.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(address: &Address, options: &SocketOptions) -> io::Result<ListeningSocket> {
        let (fd, _bound) = net::listen(address, options)?;
        Ok(ListeningSocket { name: address.to_string(), socket: net::own(fd) })
    }
}

/// The sockets that an engine was given before it started.
#[derive(Default)]
pub(crate) struct Inherited {
    by_name: std::collections::HashMap<String, Vec<Option<OwnedFd>>>,
}

impl Inherited {
    pub(crate) fn new(sockets: Vec<ListeningSocket>) -> Inherited {
        let mut inherited = Inherited::default();
        for ListeningSocket { name, socket } in sockets {
            inherited.by_name.entry(name).or_default().push(Some(socket));
        }
        inherited
    }

    /// The sockets of an address that are one shard's, and whether each shard has exactly one. Where there are more or fewer
    /// than shards, each socket still has one shard that accepts from it.
    fn take(&mut self, address: &str, shard: usize, shards: usize) -> Option<(Vec<OwnedFd>, bool)> {
        let sockets = match self.by_name.contains_key(address) {
            true => self.by_name.get_mut(address)?,
            // Asked for by another name, such as any port.
            false => self.by_name.values_mut().find(|sockets| {
                let bound = sockets.iter().flatten().next().and_then(|socket| net::local_of(socket).ok());
                bound.is_some_and(|bound| bound.to_string() == address)
            })?,
        };
        let is_even = sockets.len() == shards;
        let own = sockets.iter_mut().skip(shard).step_by(shards).filter_map(Option::take);
        Some((own.collect(), is_even))
    }

    /// Closes what nobody has taken; the addresses.
    pub(crate) fn give_up(&mut self) -> Vec<String> {
        let left = self.by_name.drain().filter(|(_, sockets)| sockets.iter().any(Option::is_some));
        left.map(|(name, _)| name).collect()
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
    /// What shards share of the listeners of this key.
    listening: Arc<Listening>,
    /// Of a further socket that the shard has been given: the entry that its connections are for.
    main: Option<u32>,
    balance: Balance,
    connections_max: usize,
    target: Target,
    armed: bool,
    /// No more is accepted, and what was accepted still arrives.
    stopping: bool,
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
        let key: Arc<str> = address.to_string().into();
        let here = options.balance == Balance::ReusePort || core.index == 0;
        let mut options = options.clone();
        let (mut fds, bound) = match core.inherit(&key, &mut options)? {
            Some((fds, bound)) => (fds, bound.unwrap_or_else(|| address.clone())),
            None if here => core.bind(address, &options).map(|(fd, bound)| (vec![fd], bound))?,
            None => (Vec::new(), address.clone()),
        };
        let listening = core.mesh.listeners_of(&key);
        listening.accepts(fds.len());
        fds.iter().for_each(|fd| core.mesh.keep_listener(&key, *fd));
        let first = if fds.is_empty() { None } else { Some(fds.remove(0)) };
        let index = core.listeners.borrow_mut().insert(first, None, &key, &listening, &options);
        core.arm_accept(index);
        for further in fds {
            let further = core.listeners.borrow_mut().insert(Some(further), Some(index), &key, &listening, &options);
            core.arm_accept(further);
        }
        listening.opens(core.index);
        Ok(Listener { core: core.clone(), index, address: bound })
    }
}

impl ListenerTable {
    fn insert(
        &mut self,
        fd: Option<Fd>,
        main: Option<u32>,
        key: &Arc<str>,
        listening: &Arc<Listening>,
        options: &ListenOptions,
    ) -> u32 {
        let entry = Entry {
            generation: 0,
            fd,
            key: key.clone(),
            listening: listening.clone(),
            main,
            balance: options.balance,
            connections_max: options.connections_max,
            target: Target::Queue { waiting: VecDeque::new(), waker: None },
            armed: false,
            stopping: false,
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

/// An address's sockets that are this shard's, and where they are bound, if there are any.
type Own = (Vec<Fd>, Option<Address>);

impl Core {
    /// The sockets that the engine was given for that address. All shards have listeners then, and where sockets and shards do
    /// not match, connections are handed on.
    fn inherit(&self, key: &str, options: &mut ListenOptions) -> io::Result<Option<Own>> {
        let mut inherited = self.mesh.inherited.lock().expect("nothing panics under this lock");
        let shards = self.mesh.load.len();
        let owners = if options.balance == Balance::ReusePort { shards } else { 1 };
        if self.index >= owners {
            return Ok(None);
        }
        let Some((sockets, is_even)) = inherited.take(key, self.index, owners) else { return Ok(None) };
        if owners > 1 && !is_even {
            options.balance = Balance::LeastLoaded;
        }
        let (mut fds, mut bound) = (Vec::new(), None);
        for socket in sockets {
            let (fd, address) = net::adopt_listener(socket, &options.socket)?;
            fds.push(fd);
            bound = Some(address);
        }
        Ok(Some((fds, bound)))
    }

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
        let Some(fd) = entry.fd.filter(|_| !entry.armed && !entry.stopping && !entry.closing) else { return };
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
                drop(listeners);
                self.place(index, Fd(fd as i32));
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
        let (armed, closing, stopping) = (entry.armed, entry.closing, entry.stopping);
        drop(listeners);
        match (closing || stopping) && !armed {
            true if closing => self.let_go(index),
            true => self.empty_and_let_go(index),
            false => self.arm_accept(index),
        }
    }

    /// Closes an entry's socket here; others may have it too.
    fn let_go(&self, index: u32) {
        let mut listeners = self.listeners.borrow_mut();
        let entry = &mut listeners.entries[index as usize];
        let mut driver = self.driver.borrow_mut();
        if let Some(fd) = entry.fd.take() {
            self.mesh.forget_listener(fd);
            driver.close_shared(fd);
            entry.listening.accepts_no_more();
        }
        if let Some(reserve) = entry.reserve.take() {
            driver.close(reserve);
        }
    }

    /// Takes what waits in the socket's queue before closing it. Where a successor has the socket too, it may have been us whom the
    /// kernel woke for a connection, and nobody else would be woken for it.
    fn empty_and_let_go(&self, index: u32) {
        for _ in 0..LAST_ACCEPTS {
            let Some(listener) = self.listeners.borrow().entries[index as usize].fd else { break };
            let Some(fd) = self.driver.borrow_mut().accept_now(listener) else { break };
            self.place(index, fd);
        }
        self.let_go(index);
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
    fn place(&self, index: u32, fd: Fd) {
        let (index, key, listening, balance) = {
            let listeners = self.listeners.borrow();
            let entry = &listeners.entries[index as usize];
            (entry.main.unwrap_or(index), entry.key.clone(), entry.listening.clone(), entry.balance)
        };
        let Mesh { strained, load, .. } = &*self.mesh;
        let to = match balance {
            Balance::LeastLoaded => (0..load.len()).filter(|&shard| listening.is_open_on(shard)).min_by_key(|&shard| {
                let connections = load[shard].load(Ordering::Relaxed);
                (strained[shard].load(Ordering::Relaxed), connections, shard != self.index)
            }),
            _ => None,
        };
        let to = to.unwrap_or(self.index);
        // Counted there already, so that a burst is spread though letters travel only at turn's end.
        self.count_in(to);
        if to != self.index {
            let letter = Letter::Socket { listener: key, fd };
            listening.sends();
            if self.post_letter(to, letter).is_ok() {
                return;
            }
            listening.has_arrived();
            self.count_out(to);
            self.count_in(self.index);
        }
        self.give(index, fd);
    }

    /// A connection for the listener of that address arrived on this shard.
    pub(crate) fn on_handed(&self, key: &str, fd: Fd) {
        let of_key = |entry: &Entry| &*entry.key == key && !entry.closing && entry.main.is_none();
        let index = self.listeners.borrow().entries.iter().position(of_key);
        let listening = self.mesh.listeners_of(&key.into());
        match index {
            Some(index) => self.give(index as u32, fd),
            None => {
                self.count_out(self.index);
                self.metrics.refused.add(1);
                self.driver.borrow_mut().close(fd);
            }
        }
        listening.has_arrived();
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
        self.end_each_of(index, |core, index| {
            let mut listeners = core.listeners.borrow_mut();
            let entry = &mut listeners.entries[index as usize];
            if std::mem::replace(&mut entry.closing, true) {
                return false;
            }
            if entry.main.is_none() {
                entry.listening.closes(core.index);
            }
            if let Target::Queue { waiting, .. } = &mut entry.target {
                waiting.drain(..).for_each(|fd| {
                    core.count_out(core.index);
                    core.driver.borrow_mut().close(fd);
                });
            }
            true
        });
    }

    fn stop_listener(&self, index: u32) {
        self.end_each_of(index, |core, index| {
            let mut listeners = core.listeners.borrow_mut();
            let entry = &mut listeners.entries[index as usize];
            !std::mem::replace(&mut entry.stopping, true) && !entry.closing
        });
    }

    /// Ends accepting for an entry and those of its further sockets which `begins` says have to be ended.
    fn end_each_of(&self, main: u32, begins: impl Fn(&Core, u32) -> bool) {
        let of_main = |(index, entry): (usize, &Entry)| {
            (index as u32 == main || entry.main == Some(main) && !entry.closing).then_some(index as u32)
        };
        let indexes: Vec<u32> = self.listeners.borrow().entries.iter().enumerate().filter_map(of_main).collect();
        for index in indexes {
            if !begins(self, index) {
                continue;
            }
            let mut listeners = self.listeners.borrow_mut();
            let entry = &mut listeners.entries[index as usize];
            entry.pressure = Pressure::None;
            let (fd, armed, closing) = (entry.fd, entry.armed, entry.closing);
            drop(listeners);
            match fd {
                Some(fd) if armed => self.driver.borrow_mut().cancel(fd),
                _ if closing => self.let_go(index),
                _ => self.empty_and_let_go(index),
            }
        }
    }

    pub(crate) fn is_listener_settled(&self, index: u32) -> bool {
        self.listeners.borrow().entries[index as usize].listening.is_settled()
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

    /// Stops accepting. What was accepted before still arrives, from other shards too: see [`Listener::last`].
    pub fn stop(&self) {
        self.core.stop_listener(self.index);
    }

    /// Whether it has stopped on all shards and nothing more can arrive.
    pub fn is_settled(&self) -> bool {
        self.core.is_listener_settled(self.index)
    }

    /// After [`Listener::stop`]: the next of the connections that were accepted before it, on any shard; none when nothing more
    /// can come. All shards have to stop for that, so give it a time limit.
    ///
    /// # Panics
    /// When the listener was given to a group.
    pub async fn last(&self) -> Option<Stream> {
        let shard = Shard { core: self.core.clone() };
        loop {
            let is_settled = self.is_settled();
            match shard.timeout(Duration::ZERO, self.accept()).await {
                Ok(stream) => return Some(stream),
                Err(_) if is_settled => return None,
                Err(_) => shard.sleep(LAST_LOOK).await,
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.core.close_listener(self.index);
    }
}
