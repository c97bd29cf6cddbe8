//! The other ends of simulated connections, moved by a test's script.

use super::link::Io;
use super::world::{EndId, World};
use crate::driver::{Address, Batch};
use crate::frame::Frame;

/// A simulated remote program's connection. What it does acts at once and arrives when the world delivers it.
/// Dropping it closes, which is a reset if it leaves bytes unread.
pub struct Peer {
    world: World,
    end: EndId,
}

impl Peer {
    pub(super) fn new(world: World, end: EndId) -> Peer {
        Peer { world, end }
    }

    /// A number that names the connection in the trace.
    pub fn number(&self) -> usize {
        self.end.0
    }

    /// Writes as many of the bytes as there is room for; none after a reset.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let (link, side) = self.end;
        let batch = Batch::One(Frame::owned(bytes.to_vec()));
        let mut state = self.world.state.borrow_mut();
        let written = match state.links[link].write(side, &batch, 0, usize::MAX) {
            Io::Moved(len) => len,
            Io::End | Io::Wait | Io::Failed(_) => 0,
        };
        state.note("peer writes", [link as i64, written as i64, 0]);
        written
    }

    /// Appends up to `most` bytes that have arrived; how many.
    pub fn read(&mut self, most: usize, out: &mut Vec<u8>) -> usize {
        let (link, side) = self.end;
        let mut state = self.world.state.borrow_mut();
        let start = out.len();
        let len = state.links[link].ready(side).min(most);
        out.resize(start + len, 0);
        let read = match state.links[link].read(side, &mut out[start..]) {
            Io::Moved(len) => len,
            Io::End | Io::Wait | Io::Failed(_) => 0,
        };
        out.truncate(start + read);
        state.note("peer reads", [link as i64, read as i64, 0]);
        read
    }

    /// Ends what it sends.
    pub fn shutdown(&mut self) {
        let mut state = self.world.state.borrow_mut();
        state.links[self.end.0].shut_write(self.end.1);
        state.note("peer ends", [self.end.0 as i64, 0, 0]);
    }

    /// Goes away at once; what travels is lost.
    pub fn reset(self) {
        let mut state = self.world.state.borrow_mut();
        state.links[self.end.0].reset(self.end.1);
        state.note("peer resets", [self.end.0 as i64, 0, 0]);
    }

    /// Whether the other end's last byte has arrived (and may be unread yet).
    pub fn is_ended(&self) -> bool {
        self.world.state.borrow().links[self.end.0].is_ended(self.end.1)
    }

    /// Whether the connection was reset.
    pub fn is_reset(&self) -> bool {
        self.world.state.borrow().links[self.end.0].is_broken(self.end.1)
    }

    /// Bytes that it has written, ever.
    pub fn written(&self) -> u64 {
        self.world.state.borrow().links[self.end.0].written(self.end.1)
    }

    /// How many bytes of what this peer wrote the shard at the other end had been handed by its kernel when it sent its byte
    /// number `at`, counted from 0: what it knew then, or could have known.
    pub fn known_before(&self, at: u64) -> u64 {
        self.world.state.borrow().links[self.end.0].handed_before(self.end.1, at)
    }

    /// Bytes that have arrived and are unread.
    pub fn unread(&self) -> usize {
        self.world.state.borrow().links[self.end.0].ready(self.end.1)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // After `reset` this changes nothing.
        self.world.state.borrow_mut().close_end(self.end);
    }
}

/// Where simulated kernels can connect to. Dropping it refuses from then on.
pub struct PeerListener {
    world: World,
    address: Address,
}

impl PeerListener {
    pub(super) fn new(world: World, address: Address) -> PeerListener {
        PeerListener { world, address }
    }

    /// The next connection, if one waits.
    pub fn accept(&mut self) -> Option<Peer> {
        let mut state = self.world.state.borrow_mut();
        let (_, waiting) = state.served.iter_mut().find(|(address, _)| *address == self.address)?;
        let link = waiting.pop_front()?;
        drop(state);
        Some(Peer::new(self.world.clone(), (link, 1)))
    }
}

impl Drop for PeerListener {
    fn drop(&mut self) {
        while let Some(peer) = self.accept() {
            peer.reset();
        }
        self.world.state.borrow_mut().served.retain(|(address, _)| *address != self.address);
    }
}
