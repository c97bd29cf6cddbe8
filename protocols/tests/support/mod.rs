//! What the scenarios share: feeding a machine in a given split, and a small deterministic generator. No assertions of
//! its own.
#![allow(dead_code, reason = "each scenario uses its part")]

pub mod http;

use annulus_protocols::Input;
use annulus_protocols::websocket::{Event, Fault, Limits, MessageKind, Role, WebSocket};

/// xorshift64*: splits have to differ, not to be random.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number in `0..bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn mask(&mut self) -> [u8; 4] {
        (self.next() as u32).to_ne_bytes()
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len.div_ceil(8)).flat_map(|_| self.next().to_ne_bytes()).take(len).collect()
    }

    /// Cuts `bytes` into pieces of 1 to `piece_max` bytes.
    pub fn split(&mut self, bytes: &[u8], piece_max: usize) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let len = (1 + self.below(piece_max)).min(rest.len());
            let (piece, tail) = rest.split_at(len);
            pieces.push(piece.to_vec());
            rest = tail;
        }
        pieces
    }
}

/// A WebSocket event with bytes of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Fault(Fault),
}

/// Feeds `pieces` one after the other and collects what the machine reports, its fault included.
pub fn feed(machine: &mut WebSocket, limits: &Limits, pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<Seen> {
    let mut seen = Vec::new();
    for mut piece in pieces {
        let mut input = Input::new(&mut piece);
        loop {
            match machine.next_event(limits, 0, &mut input) {
                Ok(Event::NeedMore) => break,
                Ok(event) => seen.push(keep(event)),
                Err(fault) => seen.push(Seen::Fault(fault)),
            }
        }
        assert!(input.is_empty(), "NeedMore leaves nothing behind");
    }
    seen
}

fn keep(event: Event<'_>) -> Seen {
    match event {
        Event::Message(message) => match message.kind {
            MessageKind::Text => Seen::Text(String::from_utf8(message.payload.into_vec()).expect("text is UTF-8")),
            MessageKind::Binary => Seen::Binary(message.payload.into_vec()),
        },
        Event::Ping(payload) => Seen::Ping(payload.into_vec()),
        Event::Pong(payload) => Seen::Pong(payload.into_vec()),
        Event::Close(close) => Seen::Close(close.code.map(|code| code.get()), close.reason.into_owned()),
        Event::NeedMore => unreachable!("handled by the loop"),
    }
}

/// Feeds `wire` to a fresh machine whole, byte by byte, and in random splits; all must report the same. Returns it.
pub fn feed_every_way(role: Role, limits: &Limits, wire: &[u8]) -> Vec<Seen> {
    let whole = feed(&mut WebSocket::new(role), limits, [wire.to_vec()]);
    let single = feed(&mut WebSocket::new(role), limits, wire.iter().map(|byte| vec![*byte]));
    assert_eq!(whole, single, "byte by byte differs from whole");
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15 ^ wire.len() as u64);
    for piece_max in [2, 3, 7, 16, 64, 1000] {
        let pieces = rng.split(wire, piece_max);
        assert_eq!(whole, feed(&mut WebSocket::new(role), limits, pieces), "split differs from whole");
    }
    whole
}
