//! As much of DER (X.690) as public keys need, strictly: definite lengths in their shortest form, nothing left over.
//!
//! ```text
//!   SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7)          RSAPublicKey (RFC 8017 appendix A.1.1)
//!   30 { 30 { 06 algorithm, parameters }  03 key }           30 { 02 n  02 e }
//! ```

/// What is not DER, or not what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const NULL: u8 = 0x05;

/// A cursor over values that stand one behind the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Der<'a> {
        Der(bytes)
    }

    /// The tag of the next value.
    pub(super) fn peek(self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Takes a value of that tag; its content.
    pub(super) fn take(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        let rest = self.0.strip_prefix(&[tag]).ok_or(Malformed)?;
        let (&first, rest) = rest.split_first().ok_or(Malformed)?;
        let (len, rest) = match first {
            0..=0x7F => (first as usize, rest),
            // Up to four bytes of length; keys are far below.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(first as usize - 0x80).ok_or(Malformed)?;
                let len = bytes.iter().fold(0, |len, byte| len << 8 | *byte as usize);
                if bytes[0] == 0 || len < 0x80 {
                    return Err(Malformed); // Not the shortest form (X.690 section 10.1).
                }
                (len, rest)
            }
            _ => return Err(Malformed),
        };
        let (content, rest) = rest.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(content)
    }

    /// Takes a sequence; a cursor over what is in it.
    pub(super) fn sequence(&mut self) -> Result<Der<'a>, Malformed> {
        self.take(SEQUENCE).map(Der)
    }

    /// Takes an integer that is not negative; its bytes, most significant first, without leading zeros.
    pub(super) fn unsigned(&mut self) -> Result<&'a [u8], Malformed> {
        let content = self.take(INTEGER)?;
        match content {
            [0] => Ok(&[]),
            // A zero in front only where the next bit would be taken for a sign (X.690 section 8.3).
            [0, 0x80..=0xFF, ..] => Ok(&content[1..]),
            [1..=0x7F, ..] => Ok(content),
            _ => Err(Malformed),
        }
    }

    /// Takes a bit string of whole bytes.
    pub(super) fn bit_string(&mut self) -> Result<&'a [u8], Malformed> {
        match self.take(BIT_STRING)? {
            [0, bytes @ ..] => Ok(bytes),
            _ => Err(Malformed),
        }
    }

    /// Takes a null.
    pub(super) fn null(&mut self) -> Result<(), Malformed> {
        self.take(NULL)?.is_empty().then_some(()).ok_or(Malformed)
    }

    /// There is nothing more.
    pub(super) fn end(self) -> Result<(), Malformed> {
        self.0.is_empty().then_some(()).ok_or(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_their_shortest_form() {
        let long = [&[0x30, 0x81, 0x80][..], &[7; 0x80]].concat();
        assert_eq!(Der::new(&long).take(SEQUENCE), Ok(&[7; 0x80][..]));
        let longer = [&[0x30, 0x82, 0x01, 0x00][..], &[7; 0x100]].concat();
        assert_eq!(Der::new(&longer).take(SEQUENCE), Ok(&[7; 0x100][..]));
        for (integer, bytes) in [
            (&[2, 1, 0][..], &[][..]),
            (&[2, 1, 0x7F], &[0x7F]),
            (&[2, 2, 0, 0x80], &[0x80]),
            (&[2, 3, 1, 0, 1], &[1, 0, 1]),
        ] {
            let mut der = Der::new(integer);
            assert_eq!(der.unsigned(), Ok(bytes), "{integer:?}");
            assert_eq!(der.end(), Ok(()));
        }
        assert_eq!(Der::new(&[3, 2, 0, 9]).bit_string(), Ok(&[9][..]));
        assert_eq!(Der::new(&[5, 0]).null(), Ok(()));
    }

    #[test]
    fn every_other_form_is_refused() {
        let padded = [&[0x30, 0x82, 0x00, 0x80][..], &[7; 0x80]].concat();
        let short_in_long = [&[0x30, 0x81, 0x7F][..], &[7; 0x7F]].concat();
        for sequence in [&padded[..], &short_in_long, &[0x30, 0x80, 0, 0], &[0x30, 3, 0, 0], &[0x30], &[0x31, 0], &[]] {
            assert!(Der::new(sequence).sequence().is_err(), "{sequence:?}");
        }
        assert!(Der::new(&[0x30, 0x85, 0, 0, 0, 0, 1, 0]).sequence().is_err());
        assert!(Der::new(&[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF, 0]).sequence().is_err());
        for integer in [&[2, 0][..], &[2, 1, 0x80], &[2, 2, 0, 0x7F], &[2, 2, 0, 0], &[2, 1]] {
            assert!(Der::new(integer).unsigned().is_err(), "{integer:?}");
        }
        for bits in [&[3, 0][..], &[3, 2, 1, 0x80]] {
            assert!(Der::new(bits).bit_string().is_err(), "{bits:?}");
        }
        assert!(Der::new(&[5, 1, 0]).null().is_err());
        assert!(Der::new(&[0]).end().is_err());
    }
}
