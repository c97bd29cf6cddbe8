//! Request heads, written.

use super::respond::{write_decimal, write_field};

/// What is known about a request's body before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestBody {
    /// There is none, and nothing is said about it.
    None,
    /// This many bytes, possibly zero, follow as they are.
    Known(u64),
    /// Chunks follow: write them with [`write_chunk`](super::write_chunk), an empty one last.
    Chunked,
}

/// Appends a request line, `Host`, `fields` and the field that frames the body.
///
/// `target` must be in the form that goes on the wire, percent-encoded; spaces, controls and line ends in it become
/// `%20`, and line ends and NUL in values become spaces, so that nothing can add a line.
pub fn write_request_head(
    out: &mut Vec<u8>,
    method: &str,
    target: &str,
    host: &str,
    fields: &[(&str, &str)],
    body: RequestBody,
) {
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    for byte in target.bytes() {
        if byte.is_ascii_graphic() {
            out.push(byte);
        } else {
            out.extend_from_slice(b"%20");
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_field(out, "host", host.as_bytes());
    for (name, value) in fields {
        write_field(out, name, value.as_bytes());
    }
    match body {
        RequestBody::None => {}
        RequestBody::Known(len) => {
            out.extend_from_slice(b"content-length: ");
            write_decimal(out, len);
            out.extend_from_slice(b"\r\n");
        }
        RequestBody::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}
