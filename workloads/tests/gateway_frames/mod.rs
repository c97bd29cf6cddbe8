//! A bare HTTP/2 client for tests: it writes frames as it is told, well-behaved or not, and shows those that come.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.
#![allow(dead_code)] // Each test program uses a part of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// A connection, from either end.
pub struct Peer {
    pub stream: TcpStream,
    /// Whether it acknowledges settings, as everybody must.
    pub acknowledges: bool,
    received: Vec<u8>,
}

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn ends(&self) -> bool {
        self.flags & END_STREAM != 0 && matches!(self.kind, DATA | HEADERS)
    }

    /// The code of a reset or a farewell.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

impl Peer {
    /// A client that has said its preface, with an initial window for its streams.
    pub fn client(address: SocketAddr, window: u32) -> Peer {
        let mut peer = Peer::of(TcpStream::connect(address).unwrap());
        peer.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let setting = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &window.to_be_bytes()].concat();
        peer.send(SETTINGS, 0, 0, &setting);
        peer
    }

    pub fn of(stream: TcpStream) -> Peer {
        Peer { stream, acknowledges: true, received: Vec::new() }
    }

    /// Writes a frame. Whether somebody is still there.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).is_ok()
    }

    pub fn get(&mut self, stream: u32, path: &str) -> bool {
        let mut block = vec![0x82, 0x86, 0x04, path.len() as u8];
        block.extend_from_slice(path.as_bytes());
        block.extend_from_slice(b"\x01\x01a");
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &block)
    }

    pub fn grant(&mut self, stream: u32, bytes: u32) -> bool {
        self.send(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
    }

    /// The next frame; `None` when none comes in time, or at the end.
    pub fn next(&mut self, patience: Duration) -> Option<Frame> {
        let until = Instant::now() + patience;
        loop {
            if self.received.len() >= 9 {
                let len = u32::from_be_bytes([0, self.received[0], self.received[1], self.received[2]]) as usize;
                if self.received.len() >= 9 + len {
                    let rest = self.received.split_off(9 + len);
                    let whole = std::mem::replace(&mut self.received, rest);
                    let stream = u32::from_be_bytes(whole[5..9].try_into().unwrap());
                    if self.acknowledges && whole[3] == SETTINGS && whole[4] & ACK == 0 {
                        self.send(SETTINGS, ACK, 0, b"");
                    }
                    // Who answers no ping is ended for that, at the same time as for missing acknowledgements.
                    if whole[3] == PING && whole[4] & ACK == 0 {
                        self.send(PING, ACK, 0, &whole[9..]);
                    }
                    return Some(Frame { kind: whole[3], flags: whole[4], stream, payload: whole[9..].to_vec() });
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut piece = [0; 65536];
            match self.stream.read(&mut piece) {
                Ok(0) => return None,
                Ok(len) => self.received.extend_from_slice(&piece[..len]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return None,
                Err(_) => return None,
            }
        }
    }

    /// The next frame of a kind, within ten seconds.
    pub fn wait_for(&mut self, kind: u8) -> Frame {
        let until = Instant::now() + Duration::from_secs(10);
        while let Some(frame) = self.next(until.saturating_duration_since(Instant::now())) {
            if frame.kind == kind {
                return frame;
            }
        }
        panic!("no frame of kind {kind} came");
    }
}
