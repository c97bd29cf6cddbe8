//! What must not be printed, and what comes from somewhere else: secrets, PEM, keys.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;

use super::model::Encryption;

/// Bytes of an encryption key: AES-256.
pub const KEY_BYTES: usize = 32;
/// Bytes of a file that may hold a certificate or a key. Beyond: it is refused.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A text that messages and logs do not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text, for those who use it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(..)")
    }
}

/// PEM (RFC 7468): the text itself, the same in base64, or the path of a file with it.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem(String);

/// What every PEM text has.
const PEM_BEGIN: &str = "-----BEGIN ";

impl Pem {
    /// Of what the configuration says.
    pub fn new(text: impl Into<String>) -> Pem {
        Pem(text.into())
    }

    /// The path, if that is what it is.
    pub fn path(&self) -> Option<&Path> {
        let inline = self.0.contains(PEM_BEGIN) || self.decoded().is_some();
        (!inline).then(|| Path::new(&self.0))
    }

    /// The PEM text, read from its file anew each time.
    ///
    /// # Errors
    /// A sentence: the file, and what is wrong with it.
    pub fn load(&self) -> Result<String, String> {
        if self.0.contains(PEM_BEGIN) {
            return Ok(self.0.clone());
        }
        if let Some(text) = self.decoded() {
            return Ok(text);
        }
        let path = Path::new(&self.0);
        let bytes = read(path)?;
        let text = String::from_utf8(bytes).ok().filter(|text| text.contains(PEM_BEGIN));
        text.ok_or_else(|| format!("{} holds no PEM: expected \"{PEM_BEGIN}...\"", path.display()))
    }

    fn decoded(&self) -> Option<String> {
        let text = String::from_utf8(decode_base64(&self.0)?).ok()?;
        text.contains(PEM_BEGIN).then_some(text)
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path() {
            Some(path) => write!(out, "Pem({path:?})"),
            None => out.write_str("Pem(..)"),
        }
    }
}

/// Where an encryption key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file: 32 bytes, or their 64 hexadecimal digits, or their base64.
    File(PathBuf),
    /// A variable of the environment: 64 hexadecimal digits or base64.
    Environment(String),
}

impl KeySource {
    /// Of `file:PATH` or `env:NAME`.
    pub fn parse(text: &str) -> Option<KeySource> {
        match text.split_once(':')? {
            (_, "") => None,
            ("file", path) => Some(KeySource::File(path.into())),
            ("env", name) => Some(KeySource::Environment(name.to_owned())),
            _ => None,
        }
    }

    fn load(&self) -> Result<[u8; KEY_BYTES], String> {
        let (name, bytes) = match self {
            KeySource::File(path) => (path.display().to_string(), read(path)?),
            KeySource::Environment(name) => {
                let value = std::env::var(name).map_err(|error| format!("the variable {name}: {error}"))?;
                (format!("the variable {name}"), value.into_bytes())
            }
        };
        key(&bytes).ok_or_else(|| format!("{name} holds no key: expected {KEY_BYTES} bytes, in hexadecimal or base64"))
    }
}

/// The keys themselves.
#[derive(Clone, PartialEq, Eq)]
pub struct Keyring {
    /// Which of them new publications are encrypted with.
    pub current: usize,
    /// By name.
    pub keys: Vec<(String, [u8; KEY_BYTES])>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.keys.iter().map(|(name, _)| name).collect();
        out.debug_struct("Keyring").field("current", &self.current).field("keys", &names).finish_non_exhaustive()
    }
}

impl Encryption {
    /// Fetches the keys; none if there is nothing to encrypt with.
    ///
    /// # Errors
    /// A sentence: which key, from where, and what is wrong with it.
    pub fn load(&self) -> Result<Option<Keyring>, String> {
        let Some(name) = &self.current else { return Ok(None) };
        let mut keys = Vec::with_capacity(self.keys.len());
        for (name, source) in &self.keys {
            let key = source.load().map_err(|error| format!("chat.encryption.keys.{name}: {error}"))?;
            keys.push((name.clone(), key));
        }
        match keys.iter().position(|(known, _)| known == name) {
            Some(current) => Ok(Some(Keyring { current, keys })),
            None => Err(format!("chat.encryption.current: there is no key {name:?} in chat.encryption.keys")),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > FILE_BYTES_MAX {
        return Err(format!("{} has {length} bytes, more than {FILE_BYTES_MAX}", path.display()));
    }
    std::fs::read(path).map_err(failed)
}

/// The key that bytes are or spell.
fn key(bytes: &[u8]) -> Option<[u8; KEY_BYTES]> {
    if let Ok(key) = bytes.try_into() {
        return Some(key);
    }
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let decoded = match text.len() {
        n if n == 2 * KEY_BYTES => decode_hexadecimal(text),
        _ => decode_base64(text),
    };
    decoded?.try_into().ok()
}

fn decode_hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| Some((digit(*pair.first()?)? * 16 + digit(*pair.get(1)?)?) as u8);
    text.as_bytes().chunks(2).map(pair).collect()
}

/// Standard base64 (RFC 4648 section 4), with or without its padding; line ends are passed over.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.trim_end().chars().filter(|char| !matches!(char, '\n' | '\r')).collect();
    BASE64_STANDARD_NO_PAD.decode(digits.trim_end_matches('=')).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9v\nYmE", "fooba")] {
            assert_eq!(decode_base64(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        for text in ["Z", "Zh==", "Zg-_", "Zg==Zg=="] {
            assert_eq!(decode_base64(text), None, "{text}");
        }
    }

    #[test]
    fn keys_come_as_bytes_hexadecimal_or_base64() {
        let bytes: [u8; KEY_BYTES] = std::array::from_fn(|index| index as u8);
        let hexadecimal = crate::hex::encode(&bytes);
        assert_eq!(key(&bytes), Some(bytes));
        assert_eq!(key(format!("{hexadecimal}\n").as_bytes()), Some(bytes));
        assert_eq!(key(b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="), Some(bytes));
        for wrong in [&hexadecimal.as_bytes()[1..], b"", b"\xff\xff", &[b'g'; 64]] {
            assert_eq!(key(wrong), None);
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let pem = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let printed = format!("{:?} {:?} {:?}", Secret::new("hush"), Pem::new(pem), Pem::new("/etc/key.pem"));
        assert_eq!(printed, "Secret(..) Pem(..) Pem(\"/etc/key.pem\")");
        let keyring = Keyring { current: 0, keys: vec![("a".to_owned(), [7; KEY_BYTES])] };
        assert!(!format!("{keyring:?}").contains('7'));
        assert_eq!(Pem::new(pem).load().as_deref(), Ok(pem));
        let base64 = "LS0tLS1CRUdJTiBYLS0tLS0K";
        assert_eq!(Pem::new(base64).load().as_deref(), Ok("-----BEGIN X-----\n"));
        assert!(Pem::new("/nowhere/key.pem").load().unwrap_err().contains("cannot read /nowhere/key.pem"));
    }

    #[test]
    fn a_keyring_names_what_is_missing() {
        assert_eq!(Encryption::default().load(), Ok(None));
        let keys = vec![("a".to_owned(), KeySource::File("/nowhere/a".into()))];
        let encryption = Encryption { current: Some("b".to_owned()), keys };
        assert!(encryption.load().unwrap_err().starts_with("chat.encryption.keys.a: cannot read /nowhere/a"));
        let encryption = Encryption { current: Some("b".to_owned()), keys: Vec::new() };
        assert!(encryption.load().unwrap_err().contains("there is no key \"b\""));
        assert_eq!(KeySource::parse("env:A"), Some(KeySource::Environment("A".to_owned())));
        assert_eq!((KeySource::parse("env:"), KeySource::parse("a"), KeySource::parse("x:y")), (None, None, None));
    }
}
