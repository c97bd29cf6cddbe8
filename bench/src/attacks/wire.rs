//! An attacker's end of a connection: bytes that never block it, and how it ended.

use super::frames::FrameReader;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_millis(200);
/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;
/// Bytes at the end that are kept: a close frame with the longest reason (RFC 6455 section 5.5).
const TAIL_BYTES: usize = 2 + 125;

/// A connection.
pub struct Wire {
    stream: TcpStream,
    /// Waits to be sent.
    pub unsent: Vec<u8>,
    /// What arrived.
    pub frames: FrameReader,
    /// The first bytes that arrived, for answers that are no frames.
    pub heard: Vec<u8>,
    /// The last ones: a close frame is the last that is said.
    tail: Vec<u8>,
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
        Ok(Wire { stream, unsent: Vec::new(), frames: FrameReader::default(), heard: Vec::new(), tail: Vec::new() })
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

    /// Reads once; what arrives is frames of HTTP/2, or is not. False when the connection has ended.
    pub fn receive(&mut self, has_frames: bool) -> bool {
        let mut buffer = [0; READ_BYTES];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                if self.heard.len() < READ_BYTES {
                    self.heard.extend_from_slice(&buffer[..count]);
                }
                if has_frames {
                    self.frames.extend(&buffer[..count]);
                }
                self.tail.extend_from_slice(&buffer[count.saturating_sub(TAIL_BYTES)..count]);
                self.tail.drain(..self.tail.len().saturating_sub(TAIL_BYTES));
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    /// The status of an HTTP/1.1 answer, if that is what arrived.
    pub fn status(&self) -> Option<&str> {
        std::str::from_utf8(self.heard.strip_prefix(b"HTTP/1.1 ")?.get(..3)?).ok()
    }

    /// The code of a WebSocket's close frame, if that was the last that arrived (RFC 6455 section 5.5.1).
    pub fn close_code(&self) -> Option<u16> {
        let tail = &self.tail[..];
        let ends =
            |at: &usize| tail[*at] == 0x88 && at + 2 + usize::from(*tail.get(at + 1).unwrap_or(&0)) == tail.len();
        let at = (0..tail.len().saturating_sub(3)).find(ends)?;
        Some(u16::from_be_bytes([tail[at + 2], tail[at + 3]]))
    }
}
