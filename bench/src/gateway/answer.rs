//! Reads one HTTP/1.1 answer as a client of a gateway does, and takes from it what is measured: status, completeness,
//! and what the slowest service said it needed.
//!
//! Not our own protocol machine: the load must not share the faults of what it measures.

use crate::upstreams::body::SERVICE_TIME;
use memchr::memmem;

/// Longest head that is read.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;
const FIELDS_MAX: usize = 64;

/// One complete answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Whether the gateway says that every service answered; none when it says nothing.
    pub completed: Option<bool>,
    /// The longest service time found in the body, in microseconds.
    pub service_us: Option<u64>,
    /// Whether the connection ends with it.
    pub closes: bool,
    /// Bytes of the body.
    pub body_bytes: usize,
}

#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

#[derive(Clone, Copy)]
struct Head {
    bytes: usize,
    status: u16,
    framing: Framing,
    completed: Option<bool>,
    closes: bool,
}

/// Collects the bytes of one answer. What arrives as a whole is never copied.
#[derive(Default)]
pub struct AnswerReader {
    buffer: Vec<u8>,
    head: Option<Head>,
    /// Where the next chunk's size stands.
    chunk_at: usize,
}

impl AnswerReader {
    /// Whether a part of an answer is here.
    pub fn has_begun(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Takes received bytes; gives the answer when it is complete.
    ///
    /// # Errors
    /// What is wrong with it, in a few words.
    pub fn recv(&mut self, received: &[u8]) -> Result<Option<Answer>, &'static str> {
        if self.buffer.is_empty() {
            let answer = self.examine(received)?;
            if answer.is_none() {
                self.buffer.extend_from_slice(received);
            }
            return Ok(answer);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.extend_from_slice(received);
        if buffer.len() > ANSWER_BYTES_MAX {
            return Err("answer too large");
        }
        let answer = self.examine(&buffer)?;
        match answer {
            Some(_) => buffer.clear(),
            None => self.buffer = buffer,
        }
        Ok(answer)
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// When that was in the middle of an answer, or before one.
    pub fn on_end(&mut self) -> Result<Answer, &'static str> {
        match self.head {
            Some(head) if matches!(head.framing, Framing::UntilClose) => {
                let buffer = std::mem::take(&mut self.buffer);
                Ok(self.complete(&head, &buffer[head.bytes..]))
            }
            _ if self.has_begun() => Err("closed in the middle of an answer"),
            _ => Err("closed before an answer"),
        }
    }

    fn examine(&mut self, bytes: &[u8]) -> Result<Option<Answer>, &'static str> {
        let head = match self.head {
            Some(head) => head,
            None => match parse_head(bytes)? {
                Some(head) => {
                    self.chunk_at = head.bytes;
                    *self.head.insert(head)
                }
                None => return Ok(None),
            },
        };
        match head.framing {
            Framing::Length(length) => match bytes.len().cmp(&(head.bytes + length)) {
                std::cmp::Ordering::Less => Ok(None),
                std::cmp::Ordering::Equal => Ok(Some(self.complete(&head, &bytes[head.bytes..]))),
                std::cmp::Ordering::Greater => Err("more bytes than announced"),
            },
            Framing::Chunked => match self.chunks_end(bytes)? {
                Some(end) if end == bytes.len() => {
                    let body = unchunked(&bytes[head.bytes..end]);
                    Ok(Some(self.complete(&head, &body)))
                }
                Some(_) => Err("more bytes than announced"),
                None => Ok(None),
            },
            Framing::UntilClose => Ok(None),
        }
    }

    fn complete(&mut self, head: &Head, body: &[u8]) -> Answer {
        self.head = None;
        let (status, completed, closes) = (head.status, head.completed, head.closes);
        Answer { status, completed, service_us: slowest(body), closes, body_bytes: body.len() }
    }

    /// Where the last chunk's trailers end, once they are here. Goes on where it stopped.
    fn chunks_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, &'static str> {
        while let Some((size, data_at)) = chunk_size(bytes, self.chunk_at)? {
            if size == 0 {
                // The size's line end may itself be the first half of the empty line.
                let from = data_at - 2;
                return Ok(memmem::find(&bytes[from..], b"\r\n\r\n").map(|at| from + at + 4));
            }
            if data_at + size + 2 > bytes.len() {
                return Ok(None);
            }
            self.chunk_at = data_at + size + 2;
        }
        Ok(None)
    }
}

/// The size of the chunk at `at`, and where its data begins.
fn chunk_size(bytes: &[u8], at: usize) -> Result<Option<(usize, usize)>, &'static str> {
    let Some(line) = memmem::find(&bytes[at..], b"\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[at..at + line]).unwrap_or_default();
    let digits = text.split(';').next().unwrap_or_default().trim();
    let size = usize::from_str_radix(digits, 16).map_err(|_| "malformed chunk size")?;
    if size > ANSWER_BYTES_MAX { Err("chunk too large") } else { Ok(Some((size, at + line + 2))) }
}

/// The data of complete chunks.
fn unchunked(bytes: &[u8]) -> Vec<u8> {
    let (mut body, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Ok(Some((size, data_at))) = chunk_size(bytes, at)
        && size > 0
    {
        body.extend_from_slice(&bytes[data_at..data_at + size]);
        at = data_at + size + 2;
    }
    body
}

fn parse_head(bytes: &[u8]) -> Result<Option<Head>, &'static str> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let head_bytes = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) if bytes.len() <= HEAD_BYTES_MAX => return Ok(None),
        _ => return Err("malformed head"),
    };
    let mut head = Head {
        bytes: head_bytes,
        status: response.code.unwrap_or_default(),
        framing: Framing::UntilClose,
        completed: None,
        closes: response.version == Some(0),
    };
    for field in response.headers.iter() {
        let value = std::str::from_utf8(field.value).unwrap_or_default();
        match field.name.to_ascii_lowercase().as_str() {
            "content-length" => head.framing = Framing::Length(value.parse().map_err(|_| "malformed length")?),
            "transfer-encoding" => head.framing = Framing::Chunked,
            "connection" if value.eq_ignore_ascii_case("close") => head.closes = true,
            "connection" if value.eq_ignore_ascii_case("keep-alive") => head.closes = false,
            "x-krakend-completed" | "x-completed" => head.completed = Some(value == "true"),
            _ => {}
        }
    }
    if matches!(head.status, 204 | 304) {
        head.framing = Framing::Length(0);
    }
    head.closes |= matches!(head.framing, Framing::UntilClose);
    Ok(Some(head))
}

/// The greatest service time of a body.
pub fn slowest(body: &[u8]) -> Option<u64> {
    memmem::find_iter(body, SERVICE_TIME.as_bytes())
        .filter_map(|at| {
            let digits = body[at + SERVICE_TIME.len()..].trim_ascii_start();
            let len = digits.iter().take(19).take_while(|digit| digit.is_ascii_digit()).count();
            std::str::from_utf8(&digits[..len]).ok()?.parse().ok()
        })
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\nX-Krakend-Completed: true\r\nContent-Length: 60\r\n\r\n\
        {\"a\":{\"service_us\":     12034,\"id\":1},\"b\":{\"service_us\":99}}";

    fn feed(bytes: &[u8], step: usize) -> Result<Option<Answer>, &'static str> {
        let mut reader = AnswerReader::default();
        let mut last = None;
        for part in bytes.chunks(step) {
            assert_eq!(last, None, "an answer before its last byte");
            last = reader.recv(part)?;
        }
        assert!(!reader.has_begun() || last.is_none());
        Ok(last)
    }

    #[test]
    fn an_answer_is_read_whole_and_byte_by_byte() {
        let wanted =
            Answer { status: 200, completed: Some(true), service_us: Some(12_034), closes: false, body_bytes: 60 };
        for step in [1, 7, 60, 1000] {
            assert_eq!(feed(WHOLE, step), Ok(Some(wanted)), "{step}");
        }
    }

    #[test]
    fn chunks_are_joined_before_times_are_looked_for() {
        let chunked = b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
            a\r\n{\"service_\r\n7;x=y\r\nus\":77}\r\n0\r\nTrailer: 1\r\n\r\n";
        for step in [1, 5, 1000] {
            let answer = feed(chunked, step).unwrap().unwrap();
            assert_eq!((answer.status, answer.service_us, answer.closes), (503, Some(77), true), "{step}");
            assert_eq!((answer.body_bytes, answer.completed), (17, None));
        }
        assert_eq!(
            feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 1).unwrap().unwrap().body_bytes,
            0
        );
    }

    #[test]
    fn an_end_completes_or_breaks() {
        let mut reader = AnswerReader::default();
        assert_eq!(reader.recv(b"HTTP/1.1 200 OK\r\n\r\n{\"service_us\":5}"), Ok(None));
        assert_eq!(reader.on_end().unwrap().service_us, Some(5));
        assert!(AnswerReader::default().on_end().is_err());
        let mut reader = AnswerReader::default();
        assert_eq!(reader.recv(&WHOLE[..100]), Ok(None));
        assert_eq!(reader.on_end(), Err("closed in the middle of an answer"));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        assert!(feed(&[WHOLE, b"x"].concat(), 1000).is_err());
        for wrong in ["nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"] {
            assert!(feed(wrong.as_bytes(), 1000).is_err(), "{wrong:?}");
        }
        assert!(feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 1000).is_err());
    }
}
