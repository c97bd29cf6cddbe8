//! HTTP/1.1 by hand: requests exactly as they are written here, and all that is answered to them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What requests call a server: a service that needs no key answers under this machine's own names only.
pub const HOST: &str = "127.0.0.1";
/// Why there is no answer where nothing came in time.
const SILENT: &str = "no answer in time";
/// How often somebody asks again who was turned away because there is too much to do, and how long after.
const AGAIN: usize = 200;
const AGAIN_PAUSE: Duration = Duration::from_millis(100);
/// How long connecting, and a single answer, may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// After so long without a byte nothing more is expected of a server that keeps the connection.
const SILENCE: Duration = Duration::from_millis(400);

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// The head as text.
    pub head: String,
    /// The body without its chunks.
    pub body: Vec<u8>,
}

impl Reply {
    /// A field of the head.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Takes an answer off the front; none as long as it is not whole. `at_end`: nothing follows.
    fn cut(bytes: &mut Vec<u8>, at_end: bool) -> Option<Reply> {
        let end = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let mut reply = Reply { status, head, body: Vec::new() };
        let rest = &bytes[end..];
        let length = reply.field("content-length").and_then(|length| length.parse::<usize>().ok());
        let is_chunked = reply.field("transfer-encoding").is_some();
        let used = if status < 200 || matches!(status, 204 | 304) {
            0
        } else if is_chunked {
            let (body, used) = unchunked(rest)?;
            reply.body = body;
            used
        } else {
            let length = length.unwrap_or(if at_end { rest.len() } else { usize::MAX });
            reply.body = rest.get(..length)?.to_vec();
            length
        };
        bytes.drain(..end + used);
        Some(reply)
    }
}

/// A body out of its chunks, and the bytes that it took; none as long as the last one is not here.
fn unchunked(mut bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, whole) = (Vec::new(), bytes.len());
    loop {
        let end = memchr::memmem::find(bytes, b"\r\n")?;
        let size = std::str::from_utf8(&bytes[..end]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        bytes = &bytes[end + 2..];
        body.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size + 2..)?;
        if size == 0 {
            return Some((body, whole - bytes.len()));
        }
    }
}

/// A connection.
pub struct Line {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Line {
    /// Connects.
    ///
    /// # Errors
    /// In words.
    pub fn open(address: SocketAddr) -> Result<Line, String> {
        let wrong = |error: std::io::Error| format!("connect: {:?}", error.kind());
        let stream = TcpStream::connect_timeout(&address, ANSWER_MAX).map_err(wrong)?;
        stream.set_nodelay(true).map_err(wrong)?;
        stream.set_read_timeout(Some(ANSWER_MAX)).map_err(wrong)?;
        stream.set_write_timeout(Some(ANSWER_MAX)).map_err(wrong)?;
        Ok(Line { stream, bytes: Vec::new() })
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// In words.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|error| format!("send: {:?}", error.kind()))
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The socket, after an upgrade. A server says nothing more before its client does.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// The next answer that is no interim one.
    ///
    /// # Errors
    /// In words: there is none.
    pub fn reply(&mut self) -> Result<Reply, String> {
        let mut at_end = false;
        loop {
            while let Some(reply) = Reply::cut(&mut self.bytes, at_end) {
                if reply.status >= 200 || reply.status == 101 {
                    return Ok(reply);
                }
            }
            if at_end {
                return Err("closed before an answer".to_owned());
            }
            at_end = !self.receive().map_err(|kind| match kind {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => SILENT.to_owned(),
                kind => format!("receive: {kind:?}"),
            })?;
        }
    }

    /// All answers until the server closes or falls silent, and whether it has closed.
    pub fn replies(&mut self) -> (Vec<Reply>, bool) {
        let (mut replies, began) = (Vec::new(), Instant::now());
        // The first one may take its time.
        let _stays_as_it_was = self.stream.set_read_timeout(Some(SILENCE));
        let mut closed = false;
        loop {
            while let Some(reply) = Reply::cut(&mut self.bytes, closed) {
                replies.push(reply);
            }
            if closed {
                return (replies, true);
            }
            match self.receive() {
                Ok(open) => closed = !open,
                Err(ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if !replies.is_empty() || began.elapsed() > ANSWER_MAX {
                        return (replies, false);
                    }
                }
                Err(_) => closed = true,
            }
        }
    }

    fn receive(&mut self) -> Result<bool, ErrorKind> {
        let mut part = [0; 16 << 10];
        let count = self.stream.read(&mut part).map_err(|error| error.kind())?;
        self.bytes.extend_from_slice(&part[..count]);
        Ok(count > 0)
    }
}

/// Sends bytes on a connection of their own and gives all that is answered, and whether the server closed.
///
/// # Errors
/// In words: it does not accept.
pub fn tell(address: SocketAddr, bytes: &[u8]) -> Result<(Vec<Reply>, bool), String> {
    let mut line = Line::open(address)?;
    // A refusal may come before everything is sent.
    let _refused_early = line.send(bytes);
    Ok(line.replies())
}

/// One request's answer; and where none came, which is status 0, whether the server closed. Who is turned away because there
/// is too much to do asks again: that says nothing of the request.
///
/// # Errors
/// As [`tell`].
pub fn insist(address: SocketAddr, bytes: &[u8]) -> Result<(Reply, bool), String> {
    let mut told = (Reply::default(), false);
    for _ in 0..AGAIN {
        let mut line = Line::open(address)?;
        // A refusal may come before everything is sent.
        let _refused_early = line.send(bytes);
        let (reply, closed) = match line.reply() {
            Ok(reply) => (reply, false),
            Err(why) => (Reply::default(), why != SILENT),
        };
        let is_turned_away = matches!(reply.status, 429 | 503) && reply.field("retry-after").is_some();
        told = (reply, closed);
        if !is_turned_away {
            break;
        }
        std::thread::sleep(AGAIN_PAUSE);
    }
    Ok(told)
}

/// The same without the end.
///
/// # Errors
/// As [`tell`].
pub fn ask(address: SocketAddr, bytes: &[u8]) -> Result<Reply, String> {
    insist(address, bytes).map(|(reply, _closed)| reply)
}

/// A request with fields, each with its line end, and a body.
pub fn request(method: &str, target: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head = format!("{method} {target} HTTP/1.1\r\nHost: {HOST}\r\n{fields}{length}\r\n");
    [head.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_cut_where_they_end() {
        let mut bytes =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 404 No\r\n\
            Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1 500 No\r\n\r\nrest"
                .to_vec();
        let mut seen = Vec::new();
        while let Some(reply) = Reply::cut(&mut bytes, true) {
            seen.push((reply.status, String::from_utf8(reply.body).unwrap()));
        }
        let expected = [(100, ""), (200, "ok"), (404, "abc"), (500, "rest")];
        assert_eq!(seen, expected.map(|(status, body)| (status, body.to_owned())));
    }

    #[test]
    fn what_is_not_whole_is_no_answer() {
        for text in ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"] {
            let mut bytes = text.as_bytes().to_vec();
            assert_eq!(Reply::cut(&mut bytes, true), None);
        }
        let mut open_end = b"HTTP/1.1 200 OK\r\n\r\nso far".to_vec();
        assert_eq!(Reply::cut(&mut open_end, false), None);
    }
}
