//! The beginning of a file, read by offsets that come from the file itself.

use crate::fault::{Fault, Kind};

/// Why a header is not there yet.
#[derive(Debug)]
pub(crate) enum Pause {
    /// It takes at least so many bytes from the start of the file.
    More(u64),
    /// The same, and of what has not come yet nothing before `from`.
    Ahead {
        /// Of the file, from its start.
        from: u64,
        /// Of the file, from its start.
        bytes: u64,
    },
    /// It never will be.
    Fault(Fault),
}

impl From<Fault> for Pause {
    fn from(fault: Fault) -> Pause {
        Pause::Fault(fault)
    }
}

/// Bytes of a file from somewhere within it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Apart<'a> {
    /// Where they begin in the file.
    pub at: usize,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// The bytes that are there.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) bytes: &'a [u8],
    /// What is there of what lies further on.
    pub(crate) apart: Apart<'a>,
    /// Whether these are all.
    pub(crate) whole: bool,
}

impl<'a> Head<'a> {
    /// A file that is all here.
    pub(crate) fn of(file: &'a [u8]) -> Head<'a> {
        Head { bytes: file, apart: Apart::default(), whole: true }
    }

    /// `len` bytes from `at`.
    pub(super) fn slice(self, at: u64, len: u64) -> Result<&'a [u8], Pause> {
        let end = at.saturating_add(len);
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        let to = usize::try_from(end).unwrap_or(usize::MAX);
        let apart = || self.apart.bytes.get(from.checked_sub(self.apart.at)?..to.checked_sub(self.apart.at)?);
        self.bytes.get(from..to).or_else(apart).ok_or(Pause::More(end))
    }

    pub(super) fn array<const N: usize>(self, at: u64) -> Result<[u8; N], Pause> {
        let mut array = [0; N];
        array.copy_from_slice(self.slice(at, N as u64)?);
        Ok(array)
    }

    pub(super) fn u8(self, at: u64) -> Result<u8, Pause> {
        Ok(self.array::<1>(at)?[0])
    }

    pub(super) fn be16(self, at: u64) -> Result<u16, Pause> {
        Ok(u16::from_be_bytes(self.array(at)?))
    }

    pub(super) fn be32(self, at: u64) -> Result<u32, Pause> {
        Ok(u32::from_be_bytes(self.array(at)?))
    }

    pub(super) fn le16(self, at: u64) -> Result<u16, Pause> {
        Ok(u16::from_le_bytes(self.array(at)?))
    }

    pub(super) fn le24(self, at: u64) -> Result<u32, Pause> {
        let [a, b, c] = self.array(at)?;
        Ok(u32::from_le_bytes([a, b, c, 0]))
    }

    pub(super) fn le32(self, at: u64) -> Result<u32, Pause> {
        Ok(u32::from_le_bytes(self.array(at)?))
    }
}

/// The image contradicts its own format.
pub(super) fn bad(what: impl Into<String>) -> Pause {
    Pause::Fault(Fault::new(Kind::BadImage, what))
}

/// The image is of a kind that its format allows and nobody here decodes.
pub(super) fn unsupported(what: impl Into<String>) -> Pause {
    Pause::Fault(Fault::new(Kind::Unsupported, what))
}
