//! HTTP/2 frames as an attacker writes and reads them (RFC 9113 section 4.1): without any state that would object.

use annulus_protocols::http2::ErrorCode;

/// What a client begins with (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flags.
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// SETTINGS_INITIAL_WINDOW_SIZE.
pub const INITIAL_WINDOW: u16 = 4;

const HEADER_BYTES: usize = 9;
/// Largest payload that is read; ours never says that it takes more.
const PAYLOAD_BYTES_MAX: usize = 16 << 10;

/// Appends a frame.
///
/// # Panics
/// When the payload does not fit 24 bits.
pub fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let len = u32::try_from(payload.len()).expect("a payload of less than 4 GiB").to_be_bytes();
    assert_eq!(len[0], 0, "a payload of less than 16 MiB");
    out.extend_from_slice(&len[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A setting's bytes.
pub fn setting(name: u16, value: u32) -> Vec<u8> {
    [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// Appends a length or index with a prefix of 7 bits or fewer (RFC 7541 section 5.1).
fn integer(out: &mut Vec<u8>, first: u8, prefix: u32, value: usize) {
    let most = (1usize << prefix) - 1;
    if value < most {
        return out.push(first | value as u8);
    }
    out.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        out.push(rest as u8 | 128);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    integer(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

/// Appends a field that does not enter the table (RFC 7541 section 6.2.2).
pub fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.push(0);
    text(out, name.as_bytes());
    text(out, value);
}

/// Appends a field that enters the table, where it is then the newest: index 62 (RFC 7541 section 6.2.1).
pub fn kept_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.push(0x40);
    text(out, name.as_bytes());
    text(out, value);
}

/// The newest entry of the table (RFC 7541 section 6.1).
pub const NEWEST: u8 = 0x80 | 62;

/// A request's pseudo-fields. Methods: GET and POST.
pub fn request(method: &str, path: &str) -> Vec<u8> {
    // Static table: 2 GET, 3 POST, 6 http, 4 :path, 1 :authority.
    let mut out = vec![if method == "POST" { 0x83 } else { 0x82 }, 0x86, 0x04];
    text(&mut out, path.as_bytes());
    out.push(0x01);
    text(&mut out, b"gateway");
    out
}

/// An answer's status field, without the table.
pub fn status(code: &str) -> Vec<u8> {
    let mut out = vec![0x08];
    text(&mut out, code.as_bytes());
    out
}

/// One frame that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// A GOAWAY's code by its name.
    pub fn goaway(&self) -> Option<&'static str> {
        let code = self.payload.get(4..8).filter(|_| self.kind == GOAWAY)?;
        Some(ErrorCode(u32::from_be_bytes(code.try_into().ok()?)).name())
    }
}

/// Cuts received bytes into frames.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    at: usize,
}

impl FrameReader {
    /// Takes received bytes.
    pub fn extend(&mut self, received: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(received);
    }

    /// The client's preface, once it is here; true when it was.
    pub fn skip_preface(&mut self) -> bool {
        let begun = self.buffer[self.at..].starts_with(PREFACE);
        self.at += if begun { PREFACE.len() } else { 0 };
        begun
    }

    /// The next frame; none when more bytes are needed, or when what is here is no HTTP/2.
    pub fn next(&mut self) -> Option<Frame<'_>> {
        let bytes = &self.buffer[self.at..];
        let (head, rest) = bytes.split_at_checked(HEADER_BYTES)?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if len > PAYLOAD_BYTES_MAX {
            return None;
        }
        let payload = rest.get(..len)?;
        self.at += HEADER_BYTES + len;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulus_protocols::Input;
    use annulus_protocols::http2::{Connection, Event, Head, Limits};

    #[test]
    fn frames_survive_being_cut_anywhere() {
        let mut bytes = Vec::new();
        frame(&mut bytes, PING, ACK, 0, b"12345678");
        frame(&mut bytes, GOAWAY, 0, 0, &[0, 0, 0, 9, 0, 0, 0, 11, b'x']);
        for cut in 0..bytes.len() {
            let mut reader = FrameReader::default();
            let mut seen = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                reader.extend(part);
                while let Some(frame) = reader.next() {
                    seen.push((frame.kind, frame.flags, frame.payload.len(), frame.goaway()));
                }
            }
            assert_eq!(seen, [(PING, ACK, 8, None), (GOAWAY, 0, 9, Some("ENHANCE_YOUR_CALM"))], "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_http2_yields_no_frames() {
        let mut reader = FrameReader::default();
        reader.extend(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        assert!(reader.next().is_none() && !reader.skip_preface());
    }

    #[test]
    fn our_own_server_understands_the_beginnings() {
        let mut bytes = PREFACE.to_vec();
        frame(&mut bytes, SETTINGS, 0, 0, &setting(INITIAL_WINDOW, 1));
        let mut block = request("GET", "/a");
        kept_field(&mut block, "x-large", &[b'a'; 3000]);
        block.push(NEWEST);
        field(&mut block, "x-plain", b"b");
        frame(&mut bytes, HEADERS, END_HEADERS | END_STREAM, 1, &block);
        let mut machine = Connection::server(&Limits::DEFAULT);
        machine.write_preface(&Limits::DEFAULT, &mut Vec::new());
        let mut input = Input::new(&mut bytes);
        let mut event = machine.next_event(&Limits::DEFAULT, 0, &mut input).unwrap();
        if matches!(event, Event::Writable) {
            event = machine.next_event(&Limits::DEFAULT, 0, &mut input).unwrap();
        }
        let Event::Head { stream: 1, head: Head::Request { method, path, fields, .. }, end: true } = event else {
            panic!("{event:?}")
        };
        assert_eq!((method.as_str(), path.as_str()), ("GET", "/a"));
        assert_eq!(fields.iter().filter(|(name, value)| *name == b"x-large" && value.len() == 3000).count(), 2);
        assert_eq!(fields.get(b"x-plain"), Some(&b"b"[..]));
    }
}
