//! The world that simulated kernels and peers share: descriptors, connections, a disk, one clock.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::disk::{Disk, Opened};
use super::link::Link;
use super::peer::{Peer, PeerListener};
use super::trace::Trace;
use super::{Faults, Random};
use crate::driver::{Address, Errno, Fd};

/// The first descriptor given out; the ones below are the process's own.
const FD_FIRST: usize = 3;
/// Connections a listener holds before they are accepted.
const BACKLOG: usize = 64;

/// One end of a connection: its number, and which end.
pub(super) type EndId = (usize, usize);

/// What a descriptor stands for.
pub(super) enum Kind {
    Listener { address: Address, reuse_port: bool, pending: VecDeque<usize> },
    Stream { end: Option<EndId> },
    Datagram { address: SocketAddr, queue: VecDeque<(Vec<u8>, SocketAddr)> },
    Opened(Opened),
}

/// An open descriptor and what is in flight on it.
pub(super) struct Descriptor {
    pub(super) kind: Kind,
    pub(super) in_flight: usize,
    pub(super) sending: usize,
    pub(super) receiving: usize,
}

/// Everything there is.
pub(super) struct State {
    seed: u64,
    pub(super) random: Random,
    pub(super) faults: Faults,
    pub(super) clock: Duration,
    /// The farthest that one sleep moves the clock.
    pub(super) sleep_max: Duration,
    descriptors: Vec<Option<Descriptor>>,
    descriptors_max: usize,
    pub(super) links: Vec<Link>,
    pub(super) served: Vec<(Address, VecDeque<usize>)>,
    pub(super) datagrams: BTreeMap<SocketAddr, VecDeque<(Vec<u8>, SocketAddr)>>,
    pub(super) disk: Disk,
    pub(super) in_flight: usize,
    deliveries: u64,
    trace: Trace,
    failure: Option<String>,
    next_port: u16,
}

impl State {
    pub(super) fn note(&mut self, what: &'static str, numbers: [i64; 3]) {
        self.trace.note(self.clock, what, numbers);
    }

    /// A broken invariant: reports it and panics. Task code may catch the panic; [`World::failure`] remembers.
    #[track_caller]
    pub(super) fn fail(&mut self, why: String) {
        if self.failure.is_none() {
            let seed = self.seed;
            let report = format!(
                "simulated kernel, seed {seed}: {why}\n{}replay: the program that `make sim` runs, with --seed {seed}",
                self.trace.text()
            );
            eprintln!("{report}");
            self.failure = Some(why.clone());
        }
        // A second panic while the first unwinds would end the process and the report with it.
        if !std::thread::panicking() {
            panic!("simulated kernel, seed {}: {why}", self.seed);
        }
    }

    pub(super) fn get(&mut self, fd: Fd) -> Option<&mut Descriptor> {
        self.descriptors.get_mut(usize::try_from(fd.0).ok()?)?.as_mut()
    }

    /// The lowest free number, as POSIX has it: a number that was just closed is used again at once.
    pub(super) fn allocate(&mut self, kind: Kind) -> Result<Fd, Errno> {
        if self.random.hit(self.faults.out_of_descriptors) {
            return Err(Errno(libc::EMFILE));
        }
        let vacant = self.descriptors.iter().skip(FD_FIRST).position(Option::is_none).map(|at| at + FD_FIRST);
        let number = vacant.unwrap_or(self.descriptors.len());
        if number >= self.descriptors_max {
            return Err(Errno(libc::EMFILE));
        }
        if number == self.descriptors.len() {
            self.descriptors.push(None);
        }
        self.descriptors[number] = Some(Descriptor { kind, in_flight: 0, sending: 0, receiving: 0 });
        Ok(Fd(number as i32))
    }

    pub(super) fn release(&mut self, fd: Fd) -> Option<Descriptor> {
        self.descriptors.get_mut(usize::try_from(fd.0).ok()?)?.take()
    }

    /// The end of a connected stream socket.
    pub(super) fn end_of(&mut self, fd: Fd) -> Option<EndId> {
        match self.get(fd)?.kind {
            Kind::Stream { end } => end,
            _ => None,
        }
    }

    pub(super) fn port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port
    }

    fn new_link(&mut self, to: &Address) -> usize {
        let from = Address::Ip(([10, 0, 0, 1], self.port()).into());
        // Windows of a few bytes are slow going, so they are rare.
        let room = [0, 0].map(|_| match self.random.below(50) {
            0 => self.random.between(1, 16),
            1..10 => self.random.between(16, 512),
            10..25 => self.random.between(512, 8192),
            _ => self.random.between(8192, 65536),
        });
        self.links.push(Link::new([from, to.clone()], room));
        self.links.len() - 1
    }

    /// Connects to whoever listens at `address`: a simulated kernel or a peer.
    pub(super) fn dial(&mut self, address: &Address) -> Result<usize, Errno> {
        let listening: Vec<usize> = (0..self.descriptors.len())
            .filter(|&number| match &self.descriptors[number] {
                Some(Descriptor { kind: Kind::Listener { address: own, pending, .. }, .. }) => {
                    own == address && pending.len() < BACKLOG
                }
                _ => false,
            })
            .collect();
        let served = self.served.iter().position(|(own, _)| own == address);
        let listener = self.random.pick(&listening).copied();
        if listener.is_none() && served.is_none() {
            return Err(Errno(libc::ECONNREFUSED));
        }
        let link = self.new_link(address);
        if let Some(number) = listener {
            if let Some(Descriptor { kind: Kind::Listener { pending, .. }, .. }) = &mut self.descriptors[number] {
                pending.push_back(link);
            }
        } else if let Some(at) = served {
            self.served[at].1.push_back(link);
        }
        self.note("established", [link as i64, 0, 0]);
        Ok(link)
    }

    /// Whether a new listener may have this address.
    pub(super) fn is_free(&self, address: &Address, sharing: bool) -> bool {
        let others = self.descriptors.iter().flatten();
        !others.into_iter().any(|other| {
            matches!(&other.kind, Kind::Listener { address: own, reuse_port, .. }
                if own == address && !(*reuse_port && sharing))
        })
    }

    /// Lets what travels arrive. Whether anything did.
    pub(super) fn deliver(&mut self) -> bool {
        let State { random, faults, links, .. } = self;
        let mut moved = false;
        let mut cut = 0;
        for link in links.iter_mut().filter(|link| !link.is_over()) {
            if random.hit(faults.reset) {
                link.cut();
                cut += 1;
            }
            moved |= link.deliver(random, faults.trickle);
        }
        if cut > 0 {
            self.note("network resets", [cut, 0, 0]);
        }
        self.deliveries += moved as u64;
        moved
    }

    /// Hands a datagram to whoever is bound to `to`.
    pub(super) fn post(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let copies = match self.random.hit(self.faults.datagram_lost) {
            true => 0,
            false => 1 + self.random.hit(self.faults.datagram_doubled) as usize,
        };
        let bound = self.descriptors.iter_mut().flatten().find_map(|other| match &mut other.kind {
            Kind::Datagram { address, queue } if *address == to => Some(queue),
            _ => None,
        });
        let queue = match bound {
            Some(queue) => queue,
            None => self.datagrams.entry(to).or_default(),
        };
        (0..copies).for_each(|_| queue.push_back((payload.to_vec(), from)));
    }

    pub(super) fn close_end(&mut self, (link, side): EndId) {
        self.links[link].close(side);
    }
}

/// A handle to the world, for tests: its clock, its peers, its faults, its report. Cheap to clone.
#[derive(Clone)]
pub struct World {
    pub(super) state: Rc<RefCell<State>>,
}

impl World {
    /// A world in which everything that happens follows from `seed`, `faults`, and what is done to it.
    pub fn new(seed: u64, faults: Faults) -> World {
        let state = State {
            seed,
            random: Random::new(seed),
            faults,
            clock: Duration::from_secs(1),
            sleep_max: Duration::from_millis(2),
            descriptors: (0..FD_FIRST).map(|_| None).collect(),
            descriptors_max: 1 << 16,
            links: Vec::new(),
            served: Vec::new(),
            datagrams: BTreeMap::new(),
            disk: Disk::default(),
            in_flight: 0,
            deliveries: 0,
            trace: Trace::new(),
            failure: None,
            next_port: 40_000,
        };
        World { state: Rc::new(RefCell::new(state)) }
    }

    /// The world's clock.
    pub fn now(&self) -> Duration {
        self.state.borrow().clock
    }

    /// Moves the clock.
    pub fn advance(&self, by: Duration) {
        self.state.borrow_mut().clock += by;
    }

    /// From now on these may happen.
    pub fn set_faults(&self, faults: Faults) {
        self.state.borrow_mut().faults = faults;
    }

    /// The farthest that one sleep of a shard moves the clock when nothing happens. Small values leave time for
    /// peers to act between turns; [`Duration::MAX`] runs straight to the next deadline.
    pub fn set_sleep_max(&self, most: Duration) {
        self.state.borrow_mut().sleep_max = most;
    }

    /// From now on descriptors end at this number.
    pub fn set_descriptors_max(&self, most: usize) {
        self.state.borrow_mut().descriptors_max = most;
    }

    /// Connects a peer to a listener.
    ///
    /// # Errors
    /// `ECONNREFUSED` when nobody listens there, or too many wait.
    pub fn connect(&self, address: &Address) -> Result<Peer, Errno> {
        let link = self.state.borrow_mut().dial(address)?;
        Ok(Peer::new(self.clone(), (link, 0)))
    }

    /// Listens for what simulated kernels connect to.
    pub fn serve(&self, address: &Address) -> PeerListener {
        self.state.borrow_mut().served.push((address.clone(), VecDeque::new()));
        PeerListener::new(self.clone(), address.clone())
    }

    /// Sends a datagram.
    pub fn send_datagram(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        self.state.borrow_mut().post(from, to, payload);
    }

    /// The next datagram that came to `address`, where no simulated socket is bound, and who sent it.
    pub fn take_datagram(&self, address: SocketAddr) -> Option<(Vec<u8>, SocketAddr)> {
        self.state.borrow_mut().datagrams.get_mut(&address)?.pop_front()
    }

    /// The bytes of a file as they can be read now, if it is there.
    pub fn file(&self, path: &str) -> Option<Vec<u8>> {
        self.state.borrow().disk.content(path.as_bytes()).map(<[u8]>::to_vec)
    }

    /// All files as they can be read now, by path.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let path = |path: &[u8]| PathBuf::from(OsStr::from_bytes(path));
        self.state.borrow().disk.files().map(|(name, bytes)| (path(name), bytes.to_vec())).collect()
    }

    /// Replaces what is on the disk by these files, all of it durable: what programs have left there that look at a disk
    /// before their shards run. For use when no descriptor is open.
    pub fn set_files(&self, files: impl IntoIterator<Item = (PathBuf, Vec<u8>)>) {
        let mut disk = Disk::default();
        files.into_iter().for_each(|(path, bytes)| disk.put(path.into_os_string().into_vec(), bytes));
        self.state.borrow_mut().disk = disk;
    }

    /// The power goes and comes back: files keep what is durable, and maybe some of the rest. For use between
    /// two shards, when no descriptor is open.
    pub fn power_cut(&self) {
        let mut state = self.state.borrow_mut();
        let State { disk, random, .. } = &mut *state;
        disk.power_cut(random);
        state.note("power cut", [0; 3]);
    }

    /// Lets what travels arrive without any shard's turn.
    pub fn deliver(&self) {
        self.state.borrow_mut().deliver();
    }

    /// How often something arrived somewhere: grows as long as there is progress.
    pub fn deliveries(&self) -> u64 {
        self.state.borrow().deliveries
    }

    /// Notes something of the test's own in the trace.
    pub fn note(&self, what: &'static str, numbers: [i64; 3]) {
        self.state.borrow_mut().note(what, numbers);
    }

    /// A number that is equal for runs in which the same things happened at the same times.
    pub fn trace_hash(&self) -> u64 {
        self.state.borrow().trace.hash()
    }

    /// The last events, for people.
    pub fn trace_text(&self) -> String {
        self.state.borrow().trace.text()
    }

    /// The first broken invariant, if any: panics inside of tasks are caught there, so look here too.
    pub fn failure(&self) -> Option<String> {
        self.state.borrow().failure.clone()
    }

    /// Reports a broken expectation of the test with trace and replay command, and panics.
    ///
    /// # Panics
    /// Always, unless a panic is under way already.
    #[track_caller]
    pub fn fail(&self, why: impl Into<String>) {
        self.state.borrow_mut().fail(why.into());
    }

    /// Checks that everything was given back: no operation in flight, no descriptor open.
    ///
    /// # Panics
    /// When something was not, or an invariant was broken before.
    pub fn finish(&self) {
        let mut state = self.state.borrow_mut();
        if let Some(why) = state.failure.clone() {
            panic!("{why}");
        }
        if state.in_flight > 0 {
            let left = state.in_flight;
            state.fail(format!("{left} operations never retired"));
        }
        let open: Vec<usize> =
            (0..state.descriptors.len()).filter(|&number| state.descriptors[number].is_some()).collect();
        if !open.is_empty() {
            state.fail(format!("descriptors left open: {open:?}"));
        }
    }
}
