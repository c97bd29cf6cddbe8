//! Names of sessions whose commands come as requests of their own: HTTP streams and event streams.
//!
//! A name says on which shard the session is and which connection carries it, and a keyed hash proves that this node said so
//! and nobody else. So nobody keeps a list of sessions, an idle one costs nothing, and a name that is made up is told before
//! anything is looked up. The key lives as long as the process: after a restart no name of before is good.
//!
//! ```text
//! hexadecimal of:  shard, 1 byte | connection, 8 bytes | HMAC-SHA-256 of both, 32 bytes
//! ```

use annulus_engine::ConnId;
use ring::hmac;
use ring::rand::SystemRandom;

use crate::hex;

const PLACE_BYTES: usize = 9;
const TAG_BYTES: usize = 32;
const NAME_BYTES: usize = PLACE_BYTES + TAG_BYTES;

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The shard, of 64 at most.
    pub shard: usize,
    /// The connection that carries it down.
    pub conn: ConnId,
}

/// Names sessions, and finds them by their names.
pub struct Sessions(hmac::Key);

impl Sessions {
    /// With a key of its own.
    ///
    /// # Errors
    /// If the kernel gives no random bytes.
    pub fn new() -> Result<Sessions, String> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        key.map(Sessions).map_err(|_| "chat: the kernel gives no random bytes for the names of sessions".to_owned())
    }

    /// The name of the session at a place.
    pub fn name(&self, place: Place) -> String {
        let place = bytes_of(place);
        let tag = hmac::sign(&self.0, &place);
        let mut name = String::with_capacity(2 * NAME_BYTES);
        hex::encode_into(&mut name, &place);
        hex::encode_into(&mut name, tag.as_ref());
        name
    }

    /// Whether a name may be one that some node gave.
    pub fn is_name(name: &str) -> bool {
        hex::decode_into(name, &mut [0; NAME_BYTES]).is_some()
    }

    /// Where the session of that name is, or was; `None`: it is no name that was given here.
    pub fn find(&self, name: &str) -> Option<Place> {
        let mut bytes = [0; NAME_BYTES];
        hex::decode_into(name, &mut bytes)?;
        let (place, tag) = bytes.split_at(PLACE_BYTES);
        hmac::verify(&self.0, place, tag).ok()?;
        let (shard, conn) = place.split_first()?;
        let conn = ConnId::from_bits(u64::from_be_bytes(conn.try_into().ok()?));
        Some(Place { shard: usize::from(*shard), conn })
    }
}

fn bytes_of(place: Place) -> [u8; PLACE_BYTES] {
    let mut bytes = [0; PLACE_BYTES];
    bytes[0] = place.shard as u8;
    bytes[1..].copy_from_slice(&place.conn.to_bits().to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_its_place_and_no_other_text_does() {
        let (ours, others) = (Sessions::new().unwrap(), Sessions::new().unwrap());
        for (shard, bits) in [(0, 1), (63, u64::MAX), (7, 0x0123_4567_89ab_cdef)] {
            let place = Place { shard, conn: ConnId::from_bits(bits) };
            let name = ours.name(place);
            assert_eq!(ours.find(&name), Some(place));
            assert_eq!(others.find(&name), None, "another node's, or of before a restart");
            for at in 0..name.len() {
                let mut wrong = name.clone().into_bytes();
                wrong[at] = if wrong[at] == b'0' { b'1' } else { b'0' };
                assert_eq!(ours.find(std::str::from_utf8(&wrong).unwrap()), None);
            }
            for wrong in [&name[1..], &name[..80], "", &name.to_uppercase(), &format!("{name}00"), &"é".repeat(41)] {
                assert_eq!(ours.find(wrong), None, "{wrong}");
            }
        }
    }
}
