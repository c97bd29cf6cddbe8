//! Encoders. They append whole frames; what may be sent when is the machine's matter
//! ([`WebSocket::is_open`](super::WebSocket::is_open)).
//!
//! Compressed messages are written by a [`Compressor`](super::deflate::Compressor).
//!
//! A server passes no mask and a client passes a fresh, unpredictable one for each frame (RFC 6455 section 5.3).

use super::frame::{CONTROL_BYTES_MAX, EncodedHeader, FrameHeader, Opcode};
use super::{MessageKind, apply_mask};
use crate::output::append;

/// The header of an unfragmented, unmasked message: for frames whose payload is gathered from elsewhere, and for
/// broadcast frames that are encoded once and shared.
#[inline]
pub fn message_header(kind: MessageKind, payload_len: usize) -> EncodedHeader {
    FrameHeader { fin: true, compressed: false, opcode: kind.into(), len: payload_len as u64, mask: None }.encode()
}

/// Appends a message as one frame.
#[inline]
pub fn write_message(out: &mut Vec<u8>, kind: MessageKind, payload: &[u8], mask: Option<[u8; 4]>) {
    write_frame(out, true, kind.into(), payload, mask);
}

/// Appends one fragment of a message: `first` carries the kind, `last` ends the message. Control frames may be written
/// between fragments, other messages may not.
pub fn write_fragment(
    out: &mut Vec<u8>,
    kind: MessageKind,
    first: bool,
    last: bool,
    payload: &[u8],
    mask: Option<[u8; 4]>,
) {
    let opcode = if first { kind.into() } else { Opcode::Continuation };
    write_frame(out, last, opcode, payload, mask);
}

/// Appends a ping.
///
/// # Panics
///
/// When `payload` is over 125 bytes.
pub fn write_ping(out: &mut Vec<u8>, payload: &[u8], mask: Option<[u8; 4]>) {
    assert!(payload.len() <= CONTROL_BYTES_MAX, "a ping carries at most 125 bytes");
    write_frame(out, true, Opcode::Ping, payload, mask);
}

/// Appends a pong; `payload` is that of the ping it answers.
///
/// # Panics
///
/// When `payload` is over 125 bytes, which no ping's is.
pub fn write_pong(out: &mut Vec<u8>, payload: &[u8], mask: Option<[u8; 4]>) {
    assert!(payload.len() <= CONTROL_BYTES_MAX, "a pong carries at most 125 bytes");
    write_frame(out, true, Opcode::Pong, payload, mask);
}

/// Appends one frame.
#[inline]
pub(super) fn write_frame(out: &mut Vec<u8>, fin: bool, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) {
    let header = FrameHeader { fin, compressed: false, opcode, len: payload.len() as u64, mask }.encode();
    out.reserve(header.as_bytes().len() + payload.len());
    out.extend_from_slice(header.as_bytes());
    let at = out.len();
    append(out, payload);
    if let Some(mask) = mask {
        apply_mask(&mut out[at..], mask);
    }
}
