//! An attacker's end of a connection: bytes that never block it, and how it ended.

use super::frames::FrameReader;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_millis(200);
/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;

/// A connection.
pub struct Wire {
    stream: TcpStream,
    /// Waits to be sent.
    pub unsent: Vec<u8>,
    /// What arrived.
    pub frames: FrameReader,
    /// The first bytes that arrived, for answers that are no frames.
    pub heard: Vec<u8>,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    /// The kernel's.
    pub fn connect(address: SocketAddr) -> io::Result<Wire> {
        Wire::new(TcpStream::connect_timeout(&address, CONNECT_MAX)?)
    }

    /// Takes a connection over.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(stream: TcpStream) -> io::Result<Wire> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Wire { stream, unsent: Vec::new(), frames: FrameReader::default(), heard: Vec::new() })
    }

    /// Sends what the peer takes. False when the connection is broken.
    pub fn flush(&mut self) -> bool {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// Reads once. False when the connection has ended.
    pub fn receive(&mut self) -> bool {
        let mut buffer = [0; READ_BYTES];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                if self.heard.len() < READ_BYTES {
                    self.heard.extend_from_slice(&buffer[..count]);
                }
                self.frames.extend(&buffer[..count]);
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    /// The status of an HTTP/1.1 answer, if that is what arrived.
    pub fn status(&self) -> Option<&str> {
        std::str::from_utf8(self.heard.strip_prefix(b"HTTP/1.1 ")?.get(..3)?).ok()
    }
}
