//! Publications at rest: encrypted with AES-256-GCM (NIST SP 800-38D) under a key of a keyring.
//!
//! ```text
//!   [length of the key's name u8][key's name][nonce 12][ciphertext][tag 16]
//! ```
//!
//! New publications are sealed with the current key; those sealed with another key of the ring can still be opened. So a
//! key is rotated by adding a new one and calling it current, and retired when nothing sealed with it is kept any more.
//! Each payload is bound to its channel, epoch and offset: put elsewhere, it does not open.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

/// Bytes of a key's name.
pub const KEY_NAME_BYTES_MAX: usize = 64;

/// A keyring. Shared by all shards.
pub struct Sealer {
    current: String,
    keys: Vec<(String, LessSafeKey)>,
    random: SystemRandom,
}

impl Sealer {
    /// A ring of keys, of which `current` seals.
    ///
    /// # Errors
    /// A sentence: the current key is not among them, a name is too long, or two keys have one name.
    pub fn new(current: &str, keys: &[(String, [u8; 32])]) -> Result<Sealer, String> {
        let mut ring: Vec<(String, LessSafeKey)> = Vec::new();
        for (name, key) in keys {
            if !(1..=KEY_NAME_BYTES_MAX).contains(&name.len()) {
                return Err(format!("encryption: the key's name {name:?} must have 1 to {KEY_NAME_BYTES_MAX} bytes"));
            }
            if ring.iter().any(|(known, _)| known == name) {
                return Err(format!("encryption: there are two keys with the name {name:?}"));
            }
            let key =
                UnboundKey::new(&AES_256_GCM, key).map_err(|_| format!("encryption: the key {name:?} is unfit"))?;
            ring.push((name.clone(), LessSafeKey::new(key)));
        }
        if !ring.iter().any(|(name, _)| name == current) {
            return Err(format!("encryption.current = {current:?}: there is no key of that name"));
        }
        Ok(Sealer { current: current.to_owned(), keys: ring, random: SystemRandom::new() })
    }

    fn key(&self, name: &[u8]) -> Option<&LessSafeKey> {
        self.keys.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, key)| key)
    }

    /// Encrypts `data`, bound to `place`.
    ///
    /// # Panics
    /// When the system has no randomness: then nothing is safe.
    pub fn seal(&self, place: &[u8], data: &[u8]) -> Vec<u8> {
        let key = self.key(self.current.as_bytes()).expect("the current key is in the ring");
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).expect("the system has randomness");
        let mut sealed = vec![self.current.len() as u8];
        sealed.extend_from_slice(self.current.as_bytes());
        sealed.extend_from_slice(&nonce);
        let start = sealed.len();
        sealed.extend_from_slice(data);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(place), &mut sealed[start..]);
        sealed.extend_from_slice(tag.expect("a payload is shorter than 64 GiB").as_ref());
        sealed
    }

    /// Decrypts what [`Sealer::seal`] made; `None`: another key, another place, or changed.
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (&len, rest) = sealed.split_first()?;
        let (name, rest) = rest.split_at_checked(len as usize)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut data = rest.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let len = self.key(name)?.open_in_place(nonce, Aad::from(place), &mut data).ok()?.len();
        data.truncate(len);
        Some(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(current: &str) -> Sealer {
        Sealer::new(current, &[("old".into(), [1; 32]), ("new".into(), [2; 32])]).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_only() {
        let (old, new) = (ring("old"), ring("new"));
        let sealed = old.seal(b"room 7", b"hello");
        assert_eq!(new.open(b"room 7", &sealed).as_deref(), Some(&b"hello"[..]), "after a rotation");
        assert_eq!(new.open(b"room 8", &sealed), None);
        assert!(!sealed.windows(5).any(|window| window == b"hello"));
        assert_ne!(old.seal(b"room 7", b"hello"), sealed, "no nonce comes twice");
        let other = Sealer::new("old", &[("old".into(), [3; 32])]).unwrap();
        assert_eq!(other.open(b"room 7", &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(new.open(b"room 7", &changed), None, "byte {at}");
            assert_eq!(new.open(b"room 7", &sealed[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn a_ring_is_checked() {
        let says = |current: &str, keys: &[(String, [u8; 32])]| Sealer::new(current, keys).err().unwrap();
        assert!(says("a", &[("b".into(), [0; 32])]).contains("no key of that name"));
        assert!(says("a", &[("a".into(), [0; 32]), ("a".into(), [1; 32])]).contains("two keys"));
        assert!(says("", &[(String::new(), [0; 32])]).contains("1 to 64"));
    }
}
