//! A WebSocket client that sends any bytes and shows every frame that comes (RFC 6455).

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Opcodes (RFC 6455 section 5.2).
pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With a close frame: its code and reason.
    Closed(u16, String),
    /// Without one.
    Cut,
}

/// The bytes of a client's frame, masked.
pub fn frame(opcode: u8, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![opcode | if is_final { 0x80 } else { 0 }];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 | len as u8),
        len @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    let mask = [0x12, 0x34, 0x56, 0x78];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A connection.
pub struct Raw {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    /// Opens a WebSocket of the JSON dialect.
    pub fn open(address: SocketAddr) -> Raw {
        Raw::open_with(address, "")
    }

    /// Opens one of the Protobuf dialect.
    pub fn open_protobuf(address: SocketAddr) -> Raw {
        Raw::open_with(address, "Sec-WebSocket-Protocol: centrifuge-protobuf\r\n")
    }

    /// `fields` end with a line end.
    pub fn open_with(address: SocketAddr, fields: &str) -> Raw {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let request = format!(
            "GET /connection/websocket HTTP/1.1\r\nHost: chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        Raw { stream, buffer: Vec::new() }
    }

    /// Opens one, and says connect as somebody.
    pub fn connect(address: SocketAddr, user: &str) -> Raw {
        let mut raw = Raw::open(address);
        raw.say(&format!(r#"{{"id":1,"connect":{{"data":{{"user":"{user}"}}}}}}"#));
        let reply = raw.hear();
        assert!(reply.contains(r#""connect":{"client":""#), "{reply}");
        raw
    }

    /// Sends bytes as they are. Who was cut off already hears of it by reading.
    pub fn write(&mut self, bytes: &[u8]) {
        let _cut = self.stream.write_all(bytes);
    }

    /// Sends a text message.
    pub fn say(&mut self, text: &str) {
        self.write(&frame(TEXT, true, text.as_bytes()));
    }

    /// The next text message.
    pub fn hear(&mut self) -> String {
        match self.next() {
            Ok(Frame { opcode: TEXT, payload }) => String::from_utf8(payload).unwrap(),
            other => panic!("expected a text, not {other:?}"),
        }
    }

    /// Waits for a text message with this in it.
    pub fn hear_of(&mut self, what: &str) -> String {
        loop {
            let text = self.hear();
            if text.contains(what) {
                return text;
            }
        }
    }

    /// The next frame, or how the connection ended.
    pub fn next(&mut self) -> Result<Frame, End> {
        loop {
            if let Some(frame) = self.take() {
                return match frame.opcode {
                    CLOSE if frame.payload.len() >= 2 => {
                        let code = u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
                        Err(End::Closed(code, String::from_utf8_lossy(&frame.payload[2..]).into_owned()))
                    }
                    _ => Ok(frame),
                };
            }
            let mut piece = [0; 65_536];
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(End::Cut),
                Ok(read) => self.buffer.extend_from_slice(&piece[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("nothing came for half a minute")
                }
                Err(_) => return Err(End::Cut),
            }
        }
    }

    /// Reads until the connection ends.
    pub fn end(&mut self) -> End {
        let latest = Instant::now() + Duration::from_secs(60);
        loop {
            match self.next() {
                Err(end) => return end,
                Ok(_) => assert!(Instant::now() < latest, "it does not end"),
            }
        }
    }

    /// Reads until the connection ends, which it must with this code.
    pub fn ends_with(&mut self, code: u16) {
        match self.end() {
            End::Closed(closed, _) if closed == code => {}
            end => panic!("expected close {code}, not {end:?}"),
        }
    }

    /// Cuts a frame off the buffer. A server's frames are not masked (section 5.1).
    fn take(&mut self) -> Option<Frame> {
        let bytes = &self.buffer;
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        assert!(second & 0x80 == 0, "a server's frame is masked");
        let (len, header) = match second {
            126 => (u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()) as usize, 4),
            127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize, 10),
            len => (len as usize, 2),
        };
        let payload = bytes.get(header..header + len)?.to_vec();
        self.buffer.drain(..header + len);
        Some(Frame { opcode: first & 0x0f, payload })
    }
}
