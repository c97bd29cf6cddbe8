//! Answers: the head, and the framing of the body that follows it.

use super::Version;
use crate::output::append;

/// What an answer has to know about its request: a plain value that outlives the request's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    version: Version,
    is_head: bool,
    persists: bool,
    expects_continue: bool,
}

impl Exchange {
    /// For answers to what could not be parsed, such as a [`Fault`](super::Fault): says `Connection: close`.
    pub const REFUSED: Self = Self::new(Version::Http11, false, false, false);

    pub(super) const fn new(version: Version, is_head: bool, persists: bool, expects_continue: bool) -> Self {
        Self { version, is_head, persists, expects_continue }
    }

    /// The request's version.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Whether the request was a HEAD, whose answer has no body (RFC 9110 section 9.3.2).
    pub const fn is_head(&self) -> bool {
        self.is_head
    }

    /// Whether the connection stays open for another request.
    pub const fn persists(&self) -> bool {
        self.persists
    }

    /// Whether the client waits for [`write_continue`] before it sends its body. A caller that refuses the body answers
    /// at once and then closes, because the client may send it all the same.
    pub const fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// The same exchange, as the last of its connection.
    pub const fn closing(self) -> Self {
        Self { persists: false, ..self }
    }
}

/// What is known about an answer's body before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none, and no `Content-Length` either: for 1xx, 204, 304 and upgrades.
    None,
    /// This many bytes.
    Known(u64),
    /// Not known: chunked, or until the connection closes for an HTTP/1.0 client.
    Unknown,
    /// Until the connection closes (RFC 9112 section 6.3), whatever the client's version: for what is written without a
    /// [`BodyWriter`], by many hands, and in the same bytes to all.
    UntilClose,
}

/// Appends the interim answer that lets the client send its body (RFC 9110 section 15.2.1).
pub fn write_continue(out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
}

/// Appends a status line, `fields` and the fields that frame the body, and returns the writer for that body.
///
/// `Content-Length`, `Transfer-Encoding` and `Connection: close` or `keep-alive` are written from what `exchange` and
/// `length` say; `fields` must not hold them (an upgrade passes its own `Connection: Upgrade`). Line ends and NUL in a
/// value are replaced by spaces, so that no value can become another field.
pub fn write_response_head(
    out: &mut Vec<u8>,
    exchange: &Exchange,
    status: u16,
    fields: &[(&str, &str)],
    length: BodyLength,
) -> BodyWriter {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in fields {
        write_field(out, name, value.as_bytes());
    }
    let body = BodyMode::choose(exchange, status, length);
    body.write_fields(out, status, length);
    let must_close = !exchange.persists || body == BodyMode::UntilClose;
    write_persistence(out, exchange, status, must_close);
    out.extend_from_slice(b"\r\n");
    let body = if exchange.is_head { BodyMode::Absent } else { body };
    BodyWriter { body, must_close }
}

/// Writes an answer's body with the framing that its head announced.
#[derive(Debug)]
#[must_use = "the body must be ended, and the connection closed when must_close says so"]
pub struct BodyWriter {
    body: BodyMode,
    must_close: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyMode {
    Absent,
    Length(u64),
    Chunked,
    UntilClose,
}

impl BodyMode {
    fn choose(exchange: &Exchange, status: u16, length: BodyLength) -> Self {
        // RFC 9112 section 6.3: these never have a body.
        if matches!(status, 100..=199 | 204 | 304) {
            return Self::Absent;
        }
        match (length, exchange.version) {
            (BodyLength::None, _) => Self::Length(0),
            (BodyLength::Known(len), _) => Self::Length(len),
            (BodyLength::Unknown, Version::Http11) => Self::Chunked,
            (BodyLength::Unknown, Version::Http10) | (BodyLength::UntilClose, _) => Self::UntilClose,
        }
    }

    fn write_fields(self, out: &mut Vec<u8>, status: u16, length: BodyLength) {
        match self {
            Self::Length(len) => {
                out.extend_from_slice(b"content-length: ");
                write_decimal(out, len);
                out.extend_from_slice(b"\r\n");
            }
            Self::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            // A 304 may say how long the body would be (RFC 9110 section 8.6).
            Self::Absent if status == 304 => {
                if let BodyLength::Known(len) = length {
                    Self::Length(len).write_fields(out, status, length);
                }
            }
            Self::Absent | Self::UntilClose => {}
        }
    }
}

impl BodyWriter {
    /// Appends a part of the body. Nothing is written where the answer has no body (HEAD, 204, 304). What goes beyond an
    /// announced length is left out, because it would be read as the next answer.
    pub fn write_data(&mut self, out: &mut Vec<u8>, data: &[u8]) {
        match &mut self.body {
            BodyMode::Absent => {}
            BodyMode::UntilClose => append(out, data),
            BodyMode::Length(remaining) => {
                let len = data.len().min(usize::try_from(*remaining).unwrap_or(usize::MAX));
                debug_assert_eq!(len, data.len(), "body longer than announced");
                append(out, &data[..len]);
                *remaining -= len as u64;
            }
            // An empty chunk would end the body.
            BodyMode::Chunked if data.is_empty() => {}
            BodyMode::Chunked => write_chunk(out, data),
        }
    }

    /// Ends the body. Returns whether the connection must be closed now: because it does not persist, or because fewer
    /// bytes were written than announced.
    pub fn write_end(self, out: &mut Vec<u8>) -> bool {
        match self.body {
            BodyMode::Chunked => write_chunk(out, b""),
            BodyMode::Length(missing) if missing > 0 => return true,
            _ => {}
        }
        self.must_close
    }

    /// Whether data given to this writer goes anywhere: not for HEAD, 204 and 304.
    pub fn wants_data(&self) -> bool {
        self.body != BodyMode::Absent
    }
}

/// Appends one chunk; an empty one ends the body.
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
    append(out, data);
    out.extend_from_slice(b"\r\n");
}

fn write_persistence(out: &mut Vec<u8>, exchange: &Exchange, status: u16, must_close: bool) {
    // An upgrade names its own connection options, and an interim answer ends nothing.
    if matches!(status, 100..=199) {
        return;
    }
    if must_close {
        out.extend_from_slice(b"connection: close\r\n");
    } else if exchange.version == Version::Http10 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
}

pub(crate) fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend(value.iter().map(|byte| if matches!(byte, b'\r' | b'\n' | 0) { b' ' } else { *byte }));
    out.extend_from_slice(b"\r\n");
}

pub(super) fn write_decimal(out: &mut Vec<u8>, mut number: u64) {
    // Twenty digits hold any 64-bit number.
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The reason phrase of a status (RFC 9110 section 15 and the IANA registry); empty for unknown ones.
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}
