//! Finds the ends of server frames in a byte stream, and nothing more: the generator must be cheaper than the server.
//!
//! Servers do not mask and the benched ones do not fragment; a frame that breaks this is an error of the run.

/// A frame within the scanned bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The opcode.
    pub opcode: u8,
    /// The payload.
    pub payload: &'a [u8],
}

/// Takes one complete frame off the front of `bytes`; none when it is not complete yet.
///
/// # Errors
/// When the frame is masked or a fragment.
#[inline]
pub fn next<'a>(bytes: &mut &'a [u8]) -> Result<Option<Found<'a>>, String> {
    let [first, second, ..] = **bytes else { return Ok(None) };
    if first & 0xf0 != 0x80 || second & 0x80 != 0 {
        return Err(format!("the server sent a frame that starts with {first:#04x} {second:#04x}"));
    }
    let (head, length) = match second {
        126 if bytes.len() < 4 => return Ok(None),
        126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
        127 if bytes.len() < 10 => return Ok(None),
        127 => {
            let mut length = [0; 8];
            length.copy_from_slice(&bytes[2..10]);
            (10, usize::try_from(u64::from_be_bytes(length)).map_err(|_| "a frame too large".to_owned())?)
        }
        short => (2, usize::from(short)),
    };
    let Some(payload) = bytes[head..].get(..length) else { return Ok(None) };
    *bytes = &bytes[head + length..];
    Ok(Some(Found { opcode: first & 0x0f, payload }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulus_protocols::websocket::{MessageKind, write_message};

    #[test]
    fn frames_of_every_length_are_found_whole_and_never_in_part() {
        for length in [0usize, 1, 20, 125, 126, 127, 512, 65_535, 65_536, 70_000] {
            let mut encoded = Vec::new();
            write_message(&mut encoded, MessageKind::Binary, &vec![7; length], None);
            for cut in [0, 1, 2, 3, 9, encoded.len() - 1] {
                if cut < encoded.len() {
                    let mut part = &encoded[..cut];
                    assert_eq!(next(&mut part), Ok(None), "{length} cut at {cut}");
                    assert_eq!(part.len(), cut);
                }
            }
            encoded.extend_from_slice(&[0x81, 1, b'x']);
            let mut bytes = &encoded[..];
            let found = next(&mut bytes).unwrap().unwrap();
            assert_eq!((found.opcode, found.payload.len()), (2, length));
            assert_eq!(next(&mut bytes).unwrap().unwrap().payload, b"x");
            assert!(bytes.is_empty());
        }
    }

    #[test]
    fn masked_frames_and_fragments_are_errors() {
        assert!(next(&mut &[0x82, 0x81, 0, 0, 0, 0, 0][..]).is_err());
        assert!(next(&mut &[0x02, 0x01, 0][..]).is_err());
    }
}
