//! The peers of a schedule: they connect, write, read, end, reset and vanish at random.

use annulus_engine::driver::sim::{Peer, PeerListener};

use super::servers::DATAGRAMS;
use super::{Addresses, Lab, pattern};

/// Peers connected at a time.
const PEERS_MAX: usize = 12;
/// Bytes a peer that only asks to be broadcast to writes in all.
const ASKED_MAX: u64 = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wants {
    Echo,
    Numbers,
    Upload,
    /// It was connected to, and echoes.
    Serves,
}

struct Client {
    peer: Peer,
    wants: Wants,
    key: u64,
    /// Bytes it will write before it ends.
    goal: u64,
    sent: u64,
    came: u64,
    shut: bool,
    /// Not yet written, of what was begun: a served peer's echo, an upload.
    outgoing: Vec<u8>,
    /// Of an answer that is not whole yet.
    partial: Vec<u8>,
    /// The number expected next.
    number: Option<u64>,
    /// Lengths of the uploads that are not answered.
    unanswered: std::collections::VecDeque<u32>,
    uploads: u64,
}

/// All peers.
pub struct Crowd {
    lab: Lab,
    addresses: Addresses,
    remote: PeerListener,
    clients: Vec<Client>,
    next_key: u64,
    completed: usize,
}

impl Crowd {
    pub fn new(lab: &Lab, addresses: Addresses) -> Crowd {
        let remote = lab.world.serve(&addresses.remote);
        Crowd { lab: lab.clone(), addresses, remote, clients: Vec::new(), next_key: 0, completed: 0 }
    }

    /// Exchanges that came to a clean and complete end.
    pub fn completed(&self) -> usize {
        self.completed
    }

    /// Who has not ended: what it wants, sent, came.
    pub fn waiting(&self) -> Vec<(usize, String)> {
        let describe = |client: &Client| {
            (client.peer.number(), format!("{:?} sent {} came {}", client.wants, client.sent, client.came))
        };
        self.clients.iter().map(describe).collect()
    }

    /// A few random acts.
    pub fn act(&mut self) {
        self.answer();
        for _ in 0..self.lab.below(5) {
            if self.clients.is_empty() || (self.clients.len() < PEERS_MAX && self.lab.hit(100)) {
                self.connect();
            } else {
                self.act_once();
            }
        }
    }

    /// Takes what was connected to it, and answers datagrams.
    fn answer(&mut self) {
        while let Some(peer) = self.remote.accept() {
            self.add(peer, Wants::Serves);
        }
        while let Some((payload, from)) = self.lab.world.take_datagram(DATAGRAMS.into()) {
            self.lab.world.send_datagram(DATAGRAMS.into(), from, &payload);
        }
    }

    fn connect(&mut self) {
        let Addresses { echo_group, adopting, echo_stream, sleepy, broadcast, upload, shared, .. } = &self.addresses;
        let targets = [
            (echo_group, Wants::Echo),
            (adopting, Wants::Echo),
            (shared, Wants::Echo),
            (sleepy, Wants::Echo),
            (echo_stream, Wants::Echo),
            (broadcast, Wants::Numbers),
            (upload, Wants::Upload),
        ];
        let (address, wants) = targets[self.lab.below(targets.len())];
        let Some(Ok(peer)) = address.as_ref().map(|address| self.lab.world.connect(address)) else { return };
        self.add(peer, wants);
    }

    fn add(&mut self, peer: Peer, wants: Wants) {
        self.next_key += 1;
        let goal = match (wants, self.lab.below(10)) {
            (Wants::Numbers, _) => 1 + self.lab.below(ASKED_MAX as usize) as u64,
            (_, 0) => self.lab.below(50_000) as u64,
            _ => self.lab.below(2_000) as u64,
        };
        self.clients.push(Client {
            peer,
            wants,
            key: self.next_key,
            goal,
            sent: 0,
            came: 0,
            shut: false,
            outgoing: Vec::new(),
            partial: Vec::new(),
            number: None,
            unanswered: Default::default(),
            uploads: 0,
        });
    }

    fn act_once(&mut self) {
        let at = self.lab.below(self.clients.len());
        let client = &mut self.clients[at];
        match self.lab.below(100) {
            0 => self.clients.swap_remove(at).peer.reset(),
            1 => drop(self.clients.swap_remove(at)),
            2..10 => client.end(),
            10..50 => {
                let most = if self.lab.hit(500) { 1 + self.lab.below(100) } else { usize::MAX };
                client.read(&self.lab, most);
                self.settle(at);
            }
            50..60 => client.write(&self.lab, 1),
            _ => client.write(&self.lab, 1 + self.lab.below(3_000)),
        }
    }

    /// Everybody writes what is left to write, ends, and reads to the end. Whether all have.
    pub fn finish(&mut self) -> bool {
        self.answer();
        for at in (0..self.clients.len()).rev() {
            let client = &mut self.clients[at];
            client.read(&self.lab, usize::MAX);
            client.write(&self.lab, usize::MAX);
            if client.is_written() {
                client.end();
            }
            self.settle(at);
        }
        self.clients.is_empty()
    }

    /// Lets a client go whose connection has come to its end.
    fn settle(&mut self, at: usize) {
        let client = &self.clients[at];
        let over = client.peer.is_reset() || (client.peer.is_ended() && client.shut && client.peer.unread() == 0);
        if !over {
            return;
        }
        let client = self.clients.swap_remove(at);
        if client.peer.is_reset() {
            return;
        }
        let whole = match client.wants {
            Wants::Echo => client.came == client.sent,
            Wants::Upload => client.unanswered.is_empty() || !client.outgoing.is_empty(),
            Wants::Numbers => client.partial.is_empty(),
            Wants::Serves => client.outgoing.is_empty(),
        };
        if !whole && self.lab.complete {
            self.lab.world.fail(format!(
                "connection {} ended cleanly but not completely: {:?} sent {} came {}",
                client.peer.number(),
                client.wants,
                client.sent,
                client.came
            ));
        }
        self.completed += whole as usize;
    }
}

impl Client {
    fn is_written(&self) -> bool {
        match self.wants {
            Wants::Serves => self.peer.is_ended() && self.peer.unread() == 0 && self.outgoing.is_empty(),
            _ => self.sent >= self.goal && self.outgoing.is_empty(),
        }
    }

    fn end(&mut self) {
        // A server of echoes that ends early would be no server.
        if !self.shut && (self.wants != Wants::Serves || self.is_written()) {
            self.shut = true;
            self.peer.shutdown();
        }
    }

    fn write(&mut self, lab: &Lab, most: usize) {
        if self.shut {
            return;
        }
        if self.wants == Wants::Upload && self.outgoing.is_empty() && self.sent < self.goal {
            self.begin_upload(lab);
        }
        if matches!(self.wants, Wants::Upload | Wants::Serves) {
            let len = self.peer.write(&self.outgoing[..self.outgoing.len().min(most)]);
            self.outgoing.drain(..len);
            return;
        }
        let len = (self.goal - self.sent).min(most as u64) as usize;
        let bytes: Vec<u8> = pattern(self.key, self.sent).take(len.min(20_000)).collect();
        self.sent += self.peer.write(&bytes) as u64;
    }

    fn begin_upload(&mut self, lab: &Lab) {
        let len = match lab.below(10) {
            0 => 16_000 + lab.below(30_000),
            _ => lab.below(500),
        };
        self.outgoing.extend_from_slice(&(len as u32).to_le_bytes());
        self.outgoing.extend(pattern(self.uploads, len as u64).take(len));
        self.unanswered.push_back(len as u32);
        self.uploads += 1;
        self.sent += 4 + len as u64;
    }

    fn read(&mut self, lab: &Lab, most: usize) {
        let mut bytes = Vec::new();
        let len = self.peer.read(most, &mut bytes);
        match self.wants {
            Wants::Echo => {
                if !pattern(self.key, self.came).take(len).eq(bytes.iter().copied()) {
                    self.complain(lab, &bytes);
                }
            }
            Wants::Serves => self.outgoing.extend_from_slice(&bytes),
            Wants::Numbers => {
                self.partial.extend_from_slice(&bytes);
                for number in whole(&mut self.partial, 8) {
                    let number = u64::from_le_bytes(number.try_into().expect("eight bytes"));
                    if self.number.is_some_and(|expected| expected != number) {
                        lab.world.fail(format!("broadcast {number} came where {:?} was due", self.number));
                    }
                    self.number = Some(number + 1);
                }
            }
            Wants::Upload => {
                self.partial.extend_from_slice(&bytes);
                for answer in whole(&mut self.partial, 4) {
                    let answer = u32::from_le_bytes(answer.try_into().expect("four bytes"));
                    if self.unanswered.pop_front() != Some(answer) {
                        lab.world.fail(format!("an upload was answered with {answer}"));
                    }
                }
            }
        }
        self.came += len as u64;
    }
}

impl Client {
    fn complain(&self, lab: &Lab, bytes: &[u8]) {
        let equal = pattern(self.key, self.came).zip(bytes).take_while(|(due, came)| due == *came).count();
        let (at, rest) = (self.came + equal as u64, &bytes[equal..]);
        let from = (0..self.sent).find(|&at| pattern(self.key, at).take(rest.len()).eq(rest.iter().copied()));
        let (number, len) = (self.peer.number(), rest.len());
        lab.world.fail(format!("the echo on connection {number} differs at {at}: {len} bytes, sent at {from:?}"));
    }
}

/// Takes whole pieces of `size` bytes off the front.
fn whole(bytes: &mut Vec<u8>, size: usize) -> Vec<Vec<u8>> {
    let end = bytes.len() / size * size;
    let pieces: Vec<u8> = bytes.drain(..end).collect();
    pieces.chunks(size).map(<[u8]>::to_vec).collect()
}
