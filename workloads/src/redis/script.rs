//! Scripts in Lua: sent whole once per connection, by their SHA-1 afterwards.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::hex;

/// A script. Make it a `static`: `static ADD: LazyLock<Script> = LazyLock::new(|| Script::new("return 1"));`
#[derive(Debug)]
pub struct Script {
    text: String,
    /// What Redis calls it.
    sha: String,
}

impl Script {
    /// A script of this text. Its name is computed here: the server need not be asked for it.
    pub fn new(text: &str) -> Script {
        // SHA-1 is the protocol's choice, for a name and not for safety.
        let sum = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        Script { text: text.to_owned(), sha: hex::encode(sum.as_ref()) }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The SHA-1 of the text, in hexadecimal digits.
    pub fn sha(&self) -> &str {
        &self.sha
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_name_is_what_redis_calls_it() {
        // As `SCRIPT LOAD "return 1"` answers.
        assert_eq!(Script::new("return 1").sha(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }
}
