//! Secrets that somebody shows: compared so that the time it takes tells nothing of them.
//!
//! Where a secret is at hand as text, [`is_same`] compares it. Signatures are compared by `ring`, which does the same, and keys
//! that are looked up in a table are looked up by their hashes.

use std::hint::black_box;

/// Whether what is offered is the secret. It takes as long as what is offered is, whatever of it is right. An empty secret is
/// offered by nobody.
///
/// What is hidden is the secret's content, and not by much its length: what is offered may be of any.
#[must_use]
pub fn is_same(offered: &[u8], secret: &str) -> bool {
    let mut differing = u8::from(offered.len() != secret.len() || secret.is_empty());
    for (at, &byte) in offered.iter().enumerate() {
        // Beyond the secret's end there is something to compare with, too.
        let expected = secret.as_bytes().get(at % secret.len().max(1)).copied().unwrap_or_default();
        differing = black_box(differing | (byte ^ expected));
    }
    differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_is_the_secret() {
        assert!(is_same(b"s3cret", "s3cret") && is_same("schlüssel".as_bytes(), "schlüssel"));
        for offered in ["", "s", "s3cre", "s3creT", "S3cret", "s3crets", "s3crets3cret", "\0\0\0\0\0\0"] {
            assert!(!is_same(offered.as_bytes(), "s3cret"), "{offered:?}");
        }
        assert!(!is_same(b"", "") && !is_same(b"a", "") && !is_same(b"\0", ""));
    }

    #[test]
    fn a_difference_anywhere_is_one() {
        let secret = "0123456789abcdef";
        for at in 0..secret.len() {
            for bit in 0..8 {
                let mut offered = secret.as_bytes().to_vec();
                offered[at] ^= 1 << bit;
                assert!(!is_same(&offered, secret), "byte {at}, bit {bit}");
            }
        }
    }
}
