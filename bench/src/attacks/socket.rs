//! A WebSocket whose frames are written by hand, and everything that is answered on it.

use super::raw::{self, Line};
use crate::generator::MASK;
use crate::scanner;
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Flag of a message's last frame, and of a compressed message (RFC 6455 section 5.2, RFC 7692 section 6).
pub const FIN: u8 = 0x80;
pub const RSV1: u8 = 0x40;
/// Opcodes.
pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const PING: u8 = 9;

/// What was said last.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// A line of JSON.
    Line(Value),
    /// A close frame's code.
    Close(u16),
    /// The end of the connection without one.
    End,
    /// Nothing in time.
    Silence,
}

impl Heard {
    /// In a few words.
    pub fn text(&self) -> String {
        match self {
            Heard::Line(line) if line.get("error").is_some() => format!("error {}", line["error"]["code"]),
            Heard::Line(_) => "reply".to_owned(),
            Heard::Close(code) => format!("close {code}"),
            Heard::End => "closed".to_owned(),
            Heard::Silence => "silence".to_owned(),
        }
    }
}

/// The bytes of an opening handshake, with more fields, each with its line end.
pub fn handshake(path: &str, fields: &str) -> Vec<u8> {
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Version: 13\r\n";
    raw::request("GET", path, &format!("{upgrade}{fields}"), b"")
}

/// A masked frame; `first` is its first byte.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ ..=125 => bytes.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A text message in one frame.
pub fn text(message: &str) -> Vec<u8> {
    frame(FIN | TEXT, message.as_bytes())
}

/// A connection after its handshake.
pub struct Socket {
    stream: TcpStream,
    bytes: Vec<u8>,
    lines: Vec<Value>,
    /// The code of a close frame that has come.
    close: Option<u16>,
}

impl Socket {
    /// Connects; what the handshake was answered with, if not by agreement, is the error.
    ///
    /// # Errors
    /// In words, or `status NNN`.
    pub fn open(address: SocketAddr, path: &str, fields: &str) -> Result<Socket, String> {
        let mut line = Line::open(address)?;
        line.send(&handshake(path, fields))?;
        let reply = line.reply()?;
        match reply.status {
            101 => Ok(Socket { stream: line.into_stream(), bytes: Vec::new(), lines: Vec::new(), close: None }),
            status => Err(format!("status {status}")),
        }
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// In words: the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|error| format!("send: {:?}", error.kind()))
    }

    /// The next line, ping or end. Pings of the protocol are passed over.
    pub fn hear(&mut self) -> Heard {
        self.hear_within(ANSWER_MAX)
    }

    /// The same within a time.
    pub fn hear_within(&mut self, within: Duration) -> Heard {
        let began = Instant::now();
        loop {
            if !self.lines.is_empty() {
                let line = self.lines.remove(0);
                if line.as_object().is_some_and(serde_json::Map::is_empty) {
                    let _shows_when_it_is_read = self.send(&text("{}"));
                    continue;
                }
                return Heard::Line(line);
            }
            self.unpack();
            if !self.lines.is_empty() {
                continue;
            }
            if let Some(code) = self.close {
                return Heard::Close(code);
            }
            let left = within.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Heard::Silence;
            }
            let _the_kernel_takes_any_time = self.stream.set_read_timeout(Some(left));
            let mut part = [0; 64 << 10];
            match self.stream.read(&mut part) {
                Ok(0) => return Heard::End,
                Ok(count) => self.bytes.extend_from_slice(&part[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return Heard::End,
            }
        }
    }

    /// The reply to a command, or what came instead.
    pub fn reply(&mut self, id: u32) -> Heard {
        loop {
            match self.hear() {
                Heard::Line(line) if line["id"] != id => {}
                other => return other,
            }
        }
    }

    /// Cuts what has come into lines, and finds the code of a close frame.
    fn unpack(&mut self) {
        let mut rest = &self.bytes[..];
        while let Ok(Some(found)) = scanner::next(&mut rest) {
            match found.opcode {
                1 => {
                    let lines = found.payload.split(|&byte| byte == b'\n');
                    self.lines.extend(lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok()));
                }
                8 => {
                    let code = found.payload.get(..2).and_then(|code| code.try_into().ok());
                    // 1005: a close frame without a code (RFC 6455 section 7.1.5).
                    self.close = Some(code.map_or(1005, u16::from_be_bytes));
                }
                _ => {}
            }
        }
        self.bytes = rest.to_vec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulus_protocols::websocket::{MessageKind, write_message};

    #[test]
    fn frames_are_those_that_our_own_encoder_writes() {
        for len in [0, 125, 126, 65_535, 65_536] {
            let (payload, mut expected) = (vec![b'a'; len], Vec::new());
            write_message(&mut expected, MessageKind::Text, &payload, Some(MASK));
            assert_eq!(frame(FIN | TEXT, &payload), expected, "{len}");
        }
    }
}
