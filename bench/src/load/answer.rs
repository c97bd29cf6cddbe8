//! Finds where an HTTP/1.1 answer ends, as strictly as RFC 9112 wants it, and keeps nothing of its body.
//!
//! ```text
//!   Head ──► Length ──► done          Size ─► Data ─► DataEnd ─┐
//!    │ ▲  └► Chunked: Size ...          ▲  └─ 0 ─► Trailers ─► done
//!   1xx┘  └► UntilClose ─ end ─► done   └──────────────────────┘
//! ```
//!
//! Not our own protocol machine: the load must not share the faults of what it measures.

/// Longest head, and longest trailers.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Most fields of a head.
const FIELDS_MAX: usize = 128;
/// Interim answers before the final one.
const INTERIM_MAX: u8 = 16;
/// Longest line that tells a chunk's size, extensions included.
const SIZE_LINE_BYTES_MAX: usize = 4096;

/// A complete answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Whether the connection ends with it.
    pub closes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    /// The number so far, whether it has a digit, and how long the line is.
    Size {
        size: u64,
        digits: u8,
        length: usize,
        extension: bool,
    },
    SizeEnd {
        size: u64,
    },
    Data(u64),
    DataEnd {
        line_feed: bool,
    },
    /// Bytes of the line and of all lines so far.
    Trailers {
        line: usize,
        total: usize,
        carriage: bool,
    },
    UntilClose,
}

const SIZE: State = State::Size { size: 0, digits: 0, length: 0, extension: false };

/// Reads one answer after the other of a connection.
pub struct AnswerReader {
    state: State,
    /// The beginning of a head whose end has not come.
    held: Vec<u8>,
    answer: Answer,
    interim: u8,
    bodiless: bool,
    begun: bool,
}

impl Default for AnswerReader {
    fn default() -> AnswerReader {
        AnswerReader {
            state: State::Head,
            held: Vec::new(),
            answer: Answer { status: 0, closes: false },
            interim: 0,
            bodiless: false,
            begun: false,
        }
    }
}

struct Head {
    bytes: usize,
    answer: Answer,
    state: Option<State>,
}

impl AnswerReader {
    /// A request is sent whose answer comes next; `bodiless` says that it is a HEAD.
    pub fn expect(&mut self, bodiless: bool) {
        *self = AnswerReader { held: std::mem::take(&mut self.held), bodiless, ..AnswerReader::default() };
        self.held.clear();
    }

    /// Whether a byte of the answer has come.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Takes bytes from the front, up to the answer's end; how many, and the answer if that was it.
    ///
    /// # Errors
    /// What is wrong with it, in a few words.
    pub fn recv(&mut self, received: &[u8]) -> Result<(usize, Option<Answer>), &'static str> {
        let mut at = 0;
        self.begun |= !received.is_empty();
        loop {
            if self.state == State::Head {
                match self.head(&received[at..])? {
                    (taken, true) => at += taken,
                    (taken, false) => return Ok((at + taken, None)),
                }
            }
            if self.state == State::Head {
                // An interim answer; the next head may be here.
                continue;
            }
            let (taken, done) = self.body(&received[at..])?;
            at += taken;
            return Ok((at, done.then_some(self.answer)));
        }
    }

    /// The connection has ended. `clean` says that nobody can have cut something off.
    ///
    /// # Errors
    /// That was in the middle of an answer, or before one.
    pub fn on_end(&mut self, clean: bool) -> Result<Answer, &'static str> {
        match self.state {
            State::UntilClose if clean => Ok(self.answer),
            _ if self.begun => Err(super::flight::reason::CLOSED),
            _ => Err(super::flight::reason::CLOSED_BEFORE),
        }
    }

    /// Reads a head; how many of these bytes it took, and whether it is complete.
    fn head(&mut self, bytes: &[u8]) -> Result<(usize, bool), &'static str> {
        let (head, carried) = if self.held.is_empty() {
            (parse(bytes, self.bodiless)?, 0)
        } else {
            let carried = self.held.len();
            self.held.extend_from_slice(bytes);
            (parse(&self.held, self.bodiless)?, carried)
        };
        let Some(head) = head else {
            if carried == 0 {
                self.held.extend_from_slice(bytes);
            }
            return if self.held.len() > HEAD_BYTES_MAX { Err("head too large") } else { Ok((bytes.len(), false)) };
        };
        self.held.clear();
        match head.state {
            Some(state) => (self.state, self.answer) = (state, head.answer),
            None => {
                self.interim += 1;
                if self.interim > INTERIM_MAX {
                    return Err("too many interim answers");
                }
            }
        }
        Ok((head.bytes - carried, true))
    }

    /// Passes over the body; how many bytes, and whether it has ended.
    fn body(&mut self, bytes: &[u8]) -> Result<(usize, bool), &'static str> {
        let mut at = 0;
        loop {
            let rest = bytes.len() - at;
            let skipped = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(rest);
            match self.state {
                State::Length(0) => return Ok((at, true)),
                State::Length(left) => {
                    let count = skipped(left);
                    self.state = State::Length(left - count as u64);
                    at += count;
                    if count == 0 {
                        return Ok((at, false));
                    }
                    continue;
                }
                State::Data(left) if left > 0 => {
                    let count = skipped(left);
                    self.state = State::Data(left - count as u64);
                    at += count;
                    if count == 0 {
                        return Ok((at, false));
                    }
                    continue;
                }
                State::UntilClose => return Ok((bytes.len(), false)),
                _ => {}
            }
            let Some(&byte) = bytes.get(at) else { return Ok((at, false)) };
            at += 1;
            if self.framing(byte)? {
                return Ok((at, true));
            }
        }
    }

    /// One byte of what frames chunks; whether it was the last.
    fn framing(&mut self, byte: u8) -> Result<bool, &'static str> {
        const WRONG: &str = "malformed chunk";
        self.state = match (self.state, byte) {
            (State::Size { size, digits, length, extension: false }, _) if byte.is_ascii_hexdigit() => {
                let digit = (byte as char).to_digit(16).map_or(0, u64::from);
                // Sixteen digits fit.
                if digits == 16 {
                    return Err(WRONG);
                }
                State::Size { size: size << 4 | digit, digits: digits + 1, length: length + 1, extension: false }
            }
            (State::Size { size, digits: 1.., .. }, b'\r') => State::SizeEnd { size },
            (State::Size { size, digits: digits @ 1.., length, extension }, _)
                if (extension || matches!(byte, b';' | b' ' | b'\t'))
                    && length < SIZE_LINE_BYTES_MAX
                    && byte != b'\n' =>
            {
                State::Size { size, digits, length: length + 1, extension: true }
            }
            (State::SizeEnd { size: 0 }, b'\n') => State::Trailers { line: 0, total: 0, carriage: false },
            (State::SizeEnd { size }, b'\n') => State::Data(size),
            (State::Data(0), b'\r') => State::DataEnd { line_feed: true },
            (State::DataEnd { .. }, b'\n') => SIZE,
            (State::Trailers { line: 0, carriage: true, .. }, b'\n') => return Ok(true),
            (State::Trailers { total, .. }, _) if total > HEAD_BYTES_MAX => return Err("trailers too large"),
            (State::Trailers { total, carriage: true, .. }, b'\n') => {
                State::Trailers { line: 0, total: total + 1, carriage: false }
            }
            (State::Trailers { carriage: true, .. }, _) | (State::Trailers { .. }, b'\n') => return Err(WRONG),
            (State::Trailers { line, total, .. }, b'\r') => State::Trailers { line, total: total + 1, carriage: true },
            (State::Trailers { line, total, .. }, _) => {
                State::Trailers { line: line + 1, total: total + 1, carriage: false }
            }
            _ => return Err(WRONG),
        };
        Ok(false)
    }
}

fn parse(bytes: &[u8], bodiless: bool) -> Result<Option<Head>, &'static str> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err("too many fields"),
        Err(_) => return Err("malformed head"),
    };
    let status = response.code.unwrap_or_default();
    let is_old = response.version == Some(0);
    let (mut content_length, mut chunked) = (None, false);
    let (mut closes, mut keeps) = (false, false);
    for field in response.headers.iter() {
        match field.name.len() {
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                let number = digits(field.value).ok_or("malformed content-length")?;
                if content_length.replace(number).is_some_and(|before| before != number) {
                    return Err("two different content-lengths");
                }
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                if chunked || !field.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err("a transfer-encoding other than chunked");
                }
                chunked = true;
            }
            10 if field.name.eq_ignore_ascii_case("connection") => {
                for token in field.value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                    closes |= token.eq_ignore_ascii_case(b"close");
                    keeps |= token.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            _ => {}
        }
    }
    if chunked && (content_length.is_some() || is_old) {
        return Err("a transfer-encoding where none may be");
    }
    let mut answer = Answer { status, closes: closes || (is_old && !keeps) };
    let state = match status {
        101 => return Err("switched protocols unasked"),
        100..=199 => return Ok(Some(Head { bytes: length, answer, state: None })),
        204 | 304 => State::Length(0),
        200..=999 if bodiless => State::Length(0),
        200..=999 if chunked => SIZE,
        200..=999 => match content_length {
            Some(number) => State::Length(number),
            None => State::UntilClose,
        },
        _ => return Err("malformed status"),
    };
    answer.closes |= state == State::UntilClose;
    Ok(Some(Head { bytes: length, answer, state: Some(state) }))
}

/// Digits and nothing else.
fn digits(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii();
    let plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| plain)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds in pieces; how many bytes the answer took.
    fn feed(bytes: &[u8], step: usize, bodiless: bool) -> Result<Option<(usize, Answer)>, &'static str> {
        let mut reader = AnswerReader::default();
        reader.expect(bodiless);
        let mut at = 0;
        for piece in bytes.chunks(step) {
            let (taken, answer) = reader.recv(piece)?;
            at += taken;
            if let Some(answer) = answer {
                return Ok(Some((at, answer)));
            }
            assert_eq!(taken, piece.len());
        }
        Ok(None)
    }

    #[test]
    fn answers_end_where_their_framing_says() {
        let cases: &[(&[u8], bool, u16, bool)] = &[
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false, 200, false),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello", false, 200, false),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, 200, false),
            (b"HTTP/1.1 204 No\r\n\r\n", false, 204, false),
            (b"HTTP/1.1 304 No\r\nContent-Length: 99\r\n\r\n", false, 304, false),
            (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: x, Close\r\n\r\n", false, 500, true),
            (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", false, 200, true),
            (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx", false, 200, false),
            (
                b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
                false,
                200,
                false,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n",
                false,
                200,
                false,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\nTrailer: 1\r\nOther: 2\r\n\r\n",
                false,
                200,
                false,
            ),
        ];
        for (bytes, bodiless, status, closes) in cases {
            for step in [1, 2, 7, 1000] {
                let text = String::from_utf8_lossy(bytes);
                let (taken, answer) = feed(bytes, step, *bodiless).unwrap().unwrap_or_else(|| panic!("{text}"));
                assert_eq!((taken, answer), (bytes.len(), Answer { status: *status, closes: *closes }), "{text}");
            }
            // What follows is not taken.
            let (taken, _) = feed(&[bytes, &b"HTTP"[..]].concat(), 1000, *bodiless).unwrap().unwrap();
            assert_eq!(taken, bytes.len());
            // And without its last byte it is none.
            assert_eq!(feed(&bytes[..bytes.len() - 1], 3, *bodiless), Ok(None));
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for wrong in [
            "nonsense\r\n\r\n",
            "HTTP/1.1 99 No\r\n\r\n",
            "HTTP/1.1 101 Switching\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nbare\nline\r\n\r\n",
        ] {
            for step in [1, 1000] {
                assert!(feed(wrong.as_bytes(), step, false).is_err(), "{wrong:?} in pieces of {step}");
            }
        }
        let endless = [b"HTTP/1.1 200 OK\r\nX: ", &vec![b'x'; 2 * HEAD_BYTES_MAX][..]].concat();
        assert!(feed(&endless, 1000, false).is_err());
        assert!(feed("HTTP/1.1 100 C\r\n\r\n".repeat(20).as_bytes(), 7, false).is_err());
    }

    #[test]
    fn an_end_completes_or_breaks() {
        let mut reader = AnswerReader::default();
        assert_eq!(reader.on_end(true), Err("closed before an answer"));
        reader.expect(false);
        assert_eq!(reader.recv(b"HTTP/1.1 200 OK\r\n\r\nsomething"), Ok((28, None)));
        assert_eq!(reader.on_end(true), Ok(Answer { status: 200, closes: true }));
        assert_eq!(reader.on_end(false), Err("closed in the middle of an answer"));
        reader.expect(false);
        assert_eq!(reader.recv(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome"), Ok((42, None)));
        assert_eq!(reader.on_end(true), Err("closed in the middle of an answer"));
        reader.expect(false);
        assert!(!reader.has_begun() && reader.recv(b"H").is_ok() && reader.has_begun());
        assert_eq!(reader.on_end(true), Err("closed in the middle of an answer"));
    }
}
