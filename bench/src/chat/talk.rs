//! A client that blocks, for where order matters more than speed; and the server's HTTP API.

use super::stamp::Stamp;
use super::wire::{PONG, Position};
use crate::generator::{frame, open};
use crate::scanner;
use annulus_protocols::websocket::MessageKind;
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Publications of a page of history: what servers give at most.
pub const PAGE: usize = 300;

/// A connection.
pub struct Talk {
    stream: TcpStream,
    /// Bytes of frames that are not complete.
    bytes: Vec<u8>,
    lines: VecDeque<Value>,
}

impl Talk {
    /// Connects and upgrades.
    ///
    /// # Errors
    /// A sentence: refused, or gone.
    pub fn open(address: SocketAddr, index: usize) -> Result<Talk, String> {
        let stream = open(address, "/connection/websocket", index)?;
        Ok(Talk { stream, bytes: Vec::new(), lines: VecDeque::new() })
    }

    /// Sends a message.
    ///
    /// # Errors
    /// A sentence: the connection is gone.
    pub fn say(&mut self, text: &str) -> Result<(), String> {
        self.stream.write_all(&frame(MessageKind::Text, text.as_bytes())).map_err(|error| error.to_string())
    }

    /// The next line that is no ping; pings are answered.
    ///
    /// # Errors
    /// A sentence: the connection is gone, or says what it must not.
    pub fn hear(&mut self) -> Result<Value, String> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                if line.as_object().is_some_and(serde_json::Map::is_empty) {
                    self.say(std::str::from_utf8(PONG).expect("it is ASCII"))?;
                    continue;
                }
                return Ok(line);
            }
            let mut part = [0; 64 * 1024];
            match self.stream.read(&mut part).map_err(|error| error.to_string())? {
                0 => return Err("the server closed".into()),
                count => self.bytes.extend_from_slice(&part[..count]),
            }
            let mut rest = &self.bytes[..];
            while let Some(found) = scanner::next(&mut rest)? {
                match found.opcode {
                    1 => {
                        for line in found.payload.split(|&byte| byte == b'\n') {
                            self.lines.push_back(serde_json::from_slice(line).map_err(|error| error.to_string())?);
                        }
                    }
                    8 => return Err("the server closed".into()),
                    _ => {}
                }
            }
            self.bytes = rest.to_vec();
        }
    }

    /// The reply to the command `id`; pushes before it are dropped.
    ///
    /// # Errors
    /// As [`Talk::hear`]; or it is an error.
    pub fn reply(&mut self, id: u32) -> Result<Value, String> {
        let line = self.reply_or_error(id)?;
        match line.get("error") {
            Some(error) => Err(format!("command {id}: {error}")),
            None => Ok(line),
        }
    }

    /// The reply to a command, which may be an error.
    ///
    /// # Errors
    /// A sentence: the connection is gone.
    pub fn reply_or_error(&mut self, id: u32) -> Result<Value, String> {
        loop {
            let line = self.hear()?;
            if line["id"] == id {
                return Ok(line);
            }
        }
    }
}

/// A publication as somebody saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which it is.
    pub stamp: Stamp,
    /// Where it is.
    pub offset: u64,
    /// Whether its data is what was published, to the last byte.
    pub whole: bool,
}

impl Seen {
    /// Reads a publication whose data had `size(number)` bytes.
    ///
    /// # Errors
    /// A sentence: it is none of ours.
    pub fn read(publication: &Value, size: fn(u32) -> usize) -> Result<Seen, String> {
        let data = publication["data"].to_string();
        let stamp = Stamp::find(data.as_bytes()).map(|(stamp, _)| stamp);
        let (stamp, offset) = stamp
            .zip(publication["offset"].as_u64())
            .ok_or_else(|| format!("a publication of nobody's: {publication}"))?;
        Ok(Seen { stamp, offset, whole: stamp.data(size(stamp.number)) == data })
    }
}

/// Asks the HTTP API.
///
/// # Errors
/// A sentence: the connection broke before the answer was whole, or the answer is no JSON.
pub fn post(address: SocketAddr, method: &str, body: &str) -> Result<Value, String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX).map_err(failed)?;
    stream.set_read_timeout(Some(ANSWER_MAX)).map_err(failed)?;
    let request = format!(
        "POST /api/{method} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed)?;
    let end = memchr::memmem::find(&answer, b"\r\n\r\n").ok_or("an answer without a head")?;
    serde_json::from_slice(&answer[end + 4..]).map_err(|error| format!("an answer that is no JSON: {error}"))
}

/// The place that an answer of the API's tells.
pub fn place(answer: &Value) -> Option<Position> {
    let result = &answer["result"];
    Some(Position { epoch: result["epoch"].as_str()?.to_owned(), offset: result["offset"].as_u64()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_is_whole_or_it_is_not() {
        let stamp = Stamp { room: 1, publisher: 2, number: 3 };
        let read = |data: &str| {
            let text = format!(r#"{{"data":{data},"offset":4}}"#);
            Seen::read(&serde_json::from_str(&text).unwrap(), |_| 80)
        };
        assert_eq!(read(&stamp.data(80)), Ok(Seen { stamp, offset: 4, whole: true }));
        assert!(!read(&stamp.data(79)).unwrap().whole);
        assert!(read("{}").is_err());
    }

    #[test]
    fn a_place_is_told_by_a_result_and_by_nothing_else() {
        let answer = |text: &str| place(&serde_json::from_str(text).unwrap());
        let position = Position { epoch: "e".into(), offset: 5 };
        assert_eq!(answer(r#"{"result":{"offset":5,"epoch":"e"}}"#), Some(position));
        assert_eq!(answer(r#"{"error":{"code":108,"message":"not available"}}"#), None);
    }
}
