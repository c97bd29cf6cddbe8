//! Frame headers (RFC 6455 section 5.2): parsed with every check that needs no connection state, and encoded on the
//! stack.
//!
//! ```text
//!  byte 0             byte 1            then                               then
//!  FIN RSV1-3 opcode  MASK length:7     0, 2 or 8 bytes of longer length   0 or 4 bytes of mask
//! ```

use super::{Fault, MessageKind, Role};

/// Longest header: two bytes, eight of length, four of mask.
pub const HEADER_BYTES_MAX: usize = 14;

/// The three reserved bits of the first byte, and the one of them that marks a compressed message.
const RESERVED: u8 = 0x70;
const RSV1: u8 = 0x40;

/// Largest payload of a control frame (RFC 6455 section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// The next fragment of the message under way.
    Continuation = 0x0,
    /// The first or only fragment of a text message.
    Text = 0x1,
    /// The first or only fragment of a binary message.
    Binary = 0x2,
    /// The closing handshake.
    Close = 0x8,
    /// A request for a pong.
    Ping = 0x9,
    /// The answer to a ping.
    Pong = 0xa,
}

impl Opcode {
    /// The opcode with this number, unless it is reserved.
    #[inline]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    /// Whether this is a close, ping or pong.
    #[inline]
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

impl From<MessageKind> for Opcode {
    #[inline]
    fn from(kind: MessageKind) -> Self {
        match kind {
            MessageKind::Text => Self::Text,
            MessageKind::Binary => Self::Binary,
        }
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whether this is the last fragment.
    pub fin: bool,
    /// RSV1: whether this begins a compressed message (RFC 7692 section 6).
    pub compressed: bool,
    /// What the frame carries.
    pub opcode: Opcode,
    /// Payload length in bytes.
    pub len: u64,
    /// The mask, if the payload is masked.
    pub mask: Option<[u8; 4]>,
}

impl FrameHeader {
    /// Parses the header at the start of `bytes`, which the peer of a `role` endpoint sent. `deflate`: whether messages
    /// may be compressed. Returns it with its own length, or `None` when more bytes are needed.
    ///
    /// # Errors
    ///
    /// As soon as two bytes show a violation; the length form when it is complete.
    #[inline]
    pub fn parse(bytes: &[u8], role: Role, deflate: bool) -> Result<Option<(Self, usize)>, Fault> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        let opcode = check_start(*first, *second, role, deflate)?;
        let masked = second & 0x80 != 0;
        let (len, rest) = match second & 0x7f {
            126 => {
                let Some((len, rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(*len)), rest)
            }
            127 => {
                let Some((len, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
                (u64::from_be_bytes(*len), rest)
            }
            short => (u64::from(short), rest),
        };
        check_len(second & 0x7f, len)?;
        let (mask, rest) = match (masked, rest.split_first_chunk::<4>()) {
            (false, _) => (None, rest),
            (true, Some((mask, rest))) => (Some(*mask), rest),
            (true, None) => return Ok(None),
        };
        let header = Self { fin: first & 0x80 != 0, compressed: first & RSV1 != 0, opcode, len, mask };
        Ok(Some((header, bytes.len() - rest.len())))
    }

    /// The header as bytes on the stack, in the shortest form.
    #[inline]
    pub fn encode(&self) -> EncodedHeader {
        let mut encoded = EncodedHeader { bytes: [0; HEADER_BYTES_MAX], len: 2 };
        encoded.bytes[0] = (u8::from(self.fin) << 7) | (u8::from(self.compressed) << 6) | self.opcode as u8;
        let masked = u8::from(self.mask.is_some()) << 7;
        if self.len < 126 {
            encoded.bytes[1] = masked | self.len as u8;
        } else if let Ok(len) = u16::try_from(self.len) {
            encoded.bytes[1] = masked | 126;
            encoded.bytes[2..4].copy_from_slice(&len.to_be_bytes());
            encoded.len = 4;
        } else {
            encoded.bytes[1] = masked | 127;
            encoded.bytes[2..10].copy_from_slice(&self.len.to_be_bytes());
            encoded.len = 10;
        }
        if let Some(mask) = self.mask {
            let at = usize::from(encoded.len);
            encoded.bytes[at..at + 4].copy_from_slice(&mask);
            encoded.len += 4;
        }
        encoded
    }
}

/// An encoded header on the stack.
#[derive(Clone, Copy, Debug)]
pub struct EncodedHeader {
    bytes: [u8; HEADER_BYTES_MAX],
    len: u8,
}

impl EncodedHeader {
    /// The bytes for the wire.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// What the first two bytes already tell.
#[inline]
fn check_start(first: u8, second: u8, role: Role, deflate: bool) -> Result<Opcode, Fault> {
    // Only compression gives a reserved bit a meaning, and only on the first frame of a data message (RFC 7692
    // section 6).
    let begins_message = matches!(first & 0x0f, 0x1 | 0x2);
    let allowed = if deflate && begins_message { RSV1 } else { 0 };
    if first & RESERVED & !allowed != 0 {
        return Err(Fault::ReservedBits);
    }
    let opcode = Opcode::from_bits(first & 0x0f).ok_or(Fault::ReservedOpcode)?;
    match (role, second & 0x80 != 0) {
        (Role::Server, false) => return Err(Fault::Unmasked),
        (Role::Client, true) => return Err(Fault::Masked),
        _ => {}
    }
    if opcode.is_control() {
        if first & 0x80 == 0 {
            return Err(Fault::FragmentedControl);
        }
        if usize::from(second & 0x7f) > CONTROL_BYTES_MAX {
            return Err(Fault::LongControl);
        }
    }
    Ok(opcode)
}

/// Section 5.2: the shortest form must be used, and the highest bit of a 64-bit length must be zero.
#[inline]
fn check_len(form: u8, len: u64) -> Result<(), Fault> {
    let good = match form {
        126 => len >= 126,
        127 => len > u64::from(u16::MAX) && len >> 63 == 0,
        _ => true,
    };
    if good { Ok(()) } else { Err(Fault::LengthForm) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_and_parses_every_form() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, u64::MAX >> 1] {
            for (role, mask) in [(Role::Server, Some([1, 2, 3, 4])), (Role::Client, None)] {
                for compressed in [false, true] {
                    let header = FrameHeader { fin: len % 2 == 0, compressed, opcode: Opcode::Binary, len, mask };
                    let encoded = header.encode();
                    let bytes = encoded.as_bytes();
                    assert_eq!(FrameHeader::parse(bytes, role, true), Ok(Some((header, bytes.len()))));
                    for short in 0..bytes.len() {
                        assert_eq!(FrameHeader::parse(&bytes[..short], role, compressed), Ok(None));
                    }
                }
            }
        }
    }

    #[test]
    fn refuses_lengths_that_are_not_minimal_or_have_the_high_bit() {
        let parse = |bytes: &[u8]| FrameHeader::parse(bytes, Role::Client, false);
        assert_eq!(parse(&[0x82, 126, 0, 125]), Err(Fault::LengthForm));
        assert!(parse(&[0x82, 126, 0, 126]).is_ok());
        assert_eq!(parse(&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]), Err(Fault::LengthForm));
        assert!(parse(&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]).is_ok());
        assert_eq!(parse(&[0x82, 127, 0x80, 0, 0, 0, 0, 1, 0, 0]), Err(Fault::LengthForm));
    }

    #[test]
    fn refuses_by_the_first_two_bytes() {
        let server =
            |first, second| FrameHeader::parse(&[first, second], Role::Server, false).expect_err("must be refused");
        for bit in [0x40, 0x20, 0x10] {
            assert_eq!(server(0x81 | bit, 0x80), Fault::ReservedBits);
        }
        // With compression, RSV1 on the first frame of a data message is the one combination that is allowed.
        for first in 0..=u8::MAX {
            let verdict = FrameHeader::parse(&[first, 0x80], Role::Server, true);
            let may = first & 0x70 == 0 || (first & 0x70 == 0x40 && matches!(first & 0x0f, 1 | 2));
            assert_eq!(verdict == Err(Fault::ReservedBits), !may, "{first:#x}");
        }
        for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
            assert_eq!(server(0x80 | opcode, 0x80), Fault::ReservedOpcode);
        }
        assert_eq!(server(0x81, 0x00), Fault::Unmasked);
        for control in [0x8, 0x9, 0xa] {
            assert_eq!(server(control, 0x80), Fault::FragmentedControl);
            assert_eq!(server(0x80 | control, 0x80 | 126), Fault::LongControl);
            assert_eq!(server(0x80 | control, 0x80 | 127), Fault::LongControl);
        }
        assert_eq!(FrameHeader::parse(&[0x81, 0x80], Role::Client, false), Err(Fault::Masked));
    }
}
