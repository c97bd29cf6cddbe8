//! Clients without a WebSocket: an answer that does not end, read line by line, and requests with commands beside it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::PATIENCE;

/// How a stream is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Http,
    Events,
}

impl Kind {
    pub const ALL: [Kind; 2] = [Kind::Http, Kind::Events];
}

/// A stream, in JSON.
pub struct Stream {
    pub socket: TcpStream,
    kind: Kind,
    /// The answer's head.
    pub head: String,
    buffer: Vec<u8>,
    pub session: String,
    pub node: String,
}

impl Stream {
    /// Asks for one with commands; the answer's head is read.
    pub fn open(address: SocketAddr, kind: Kind, commands: &str, fields: &str) -> Stream {
        let request = match kind {
            Kind::Http => format!(
                "POST /connection/http_stream HTTP/1.1\r\nHost: chat\r\n{fields}Content-Length: {}\r\n\r\n{commands}",
                commands.len()
            ),
            Kind::Events => {
                let escaped: String = commands.bytes().map(|byte| format!("%{byte:02x}")).collect();
                format!("GET /connection/sse?cf_connect={escaped} HTTP/1.1\r\nHost: chat\r\n{fields}\r\n")
            }
        };
        Stream::write(address, kind, request.as_bytes())
    }

    /// Sends a request as it is, and reads the answer's head.
    pub fn write(address: SocketAddr, kind: Kind, request: &[u8]) -> Stream {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(request).unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            socket.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let (head, session, node) = (String::from_utf8(head).unwrap(), String::new(), String::new());
        Stream { socket, kind, head, buffer: Vec::new(), session, node }
    }

    /// Opens one, and connects as somebody.
    pub fn connect(address: SocketAddr, kind: Kind, user: &str) -> Stream {
        let connect = format!(r#"{{"id":1,"connect":{{"data":{{"user":"{user}"}}}}}}"#);
        let mut stream = Stream::open(address, kind, &connect, "");
        assert!(stream.head.starts_with("HTTP/1.1 200 "), "{}", stream.head);
        stream.take_session();
        stream
    }

    /// Reads the reply to `connect`.
    pub fn take_session(&mut self) {
        let reply: Value = serde_json::from_str(&self.hear()).unwrap();
        let text = |name: &str| reply["connect"][name].as_str().unwrap_or_default().to_owned();
        (self.session, self.node) = (text("session"), text("node"));
        assert!(!self.session.is_empty() && !self.node.is_empty(), "{reply}");
    }

    /// The next message; `None`: it has ended.
    pub fn next(&mut self) -> Option<String> {
        loop {
            let end: &[u8] = if self.kind == Kind::Http { b"\n" } else { b"\n\n" };
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                let part: Vec<u8> = self.buffer.drain(..at + end.len()).collect();
                let text = String::from_utf8(part).unwrap();
                let text = text.trim();
                return Some(match self.kind {
                    Kind::Http => text.to_owned(),
                    Kind::Events => text.strip_prefix("data: ").unwrap().to_owned(),
                });
            }
            let mut piece = [0; 65_536];
            match self.socket.read(&mut piece) {
                Ok(0) => return None,
                Ok(read) => self.buffer.extend_from_slice(&piece[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("nothing came in time")
                }
                Err(_) => return None,
            }
        }
    }

    pub fn hear(&mut self) -> String {
        self.next().expect("a message, and not the end")
    }

    /// Waits for a message with this in it.
    pub fn hear_of(&mut self, what: &str) -> String {
        loop {
            let text = self.hear();
            if text.contains(what) {
                return text;
            }
        }
    }

    /// The code that it ends with, which is told in front of the end.
    pub fn end(&mut self) -> Option<u64> {
        let mut code = None;
        while let Some(text) = self.next() {
            let told: Value = serde_json::from_str(&text).unwrap();
            code = told["push"]["disconnect"]["code"].as_u64().or(code);
        }
        code
    }

    /// The body of a request that carries commands of this client.
    pub fn request(&self, commands: &str) -> String {
        serde_json::json!({"session": self.session, "node": self.node, "data": commands}).to_string()
    }

    /// Says something by way of a service; the status.
    pub fn say(&self, address: SocketAddr, commands: &str) -> u16 {
        post(address, "/emulation", "", self.request(commands).as_bytes()).0
    }
}

/// A request with a body on a connection of its own: the status, and everything that is answered.
pub fn post(address: SocketAddr, path: &str, fields: &str, body: &[u8]) -> (u16, String) {
    let head = format!("POST {path} HTTP/1.1\r\nHost: chat\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    send(address, &[head.as_bytes(), body].concat())
}

/// A request on a connection of its own, after which nothing is sent.
pub fn send(address: SocketAddr, request: &[u8]) -> (u16, String) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // Who is refused at the head may hear of it before everything is sent.
    let _cut = socket.write_all(request);
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return (head.split(' ').nth(1).unwrap().parse().unwrap(), text);
            }
        }
        match socket.read(&mut piece) {
            Ok(read) if read > 0 => bytes.extend_from_slice(&piece[..read]),
            ended => panic!("{ended:?} after {text:?}"),
        }
    }
}
