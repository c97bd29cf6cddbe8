//! Images of indexes. The `tiff` crate reads no palettes, so it is told that the indexes are greys.

use std::io::{Read, Seek, SeekFrom};

use crate::fault::Fault;
use crate::header::tiff::{Directory, Photometric, tag};

/// A colour for each index.
pub(super) struct Palette(Vec<[u8; 3]>);

impl Palette {
    pub(super) fn of(file: &[u8], directory: &Directory) -> Result<Palette, Fault> {
        let map = directory.bytes(file, tag::COLOR_MAP).unwrap_or_default();
        let value = |pair: &[u8; 2]| match directory.big_endian {
            true => u16::from_be_bytes(*pair),
            false => u16::from_le_bytes(*pair),
        };
        let values: Vec<u16> = map.as_chunks::<2>().0.iter().map(value).collect();
        if values.len() < 6 || !values.len().is_multiple_of(3) {
            return Err(super::bad("the tiff has no palette for its indexes (field 320)"));
        }
        // Old writers put values of 8 bits where 16 belong.
        let narrow = values.iter().all(|value| *value < 256);
        let narrowed = |value: u16| if narrow { value as u8 } else { (value >> 8) as u8 };
        // All reds come first, then all greens.
        let (reds, others) = values.split_at(values.len() / 3);
        let (greens, blues) = others.split_at(reds.len());
        let all = reds.iter().zip(greens).zip(blues);
        Ok(Palette(all.map(|((red, green), blue)| [red, green, blue].map(|value| narrowed(*value))).collect()))
    }

    /// An index beyond the end is black.
    pub(super) fn color(&self, index: u8) -> [u8; 3] {
        self.0.get(usize::from(index)).copied().unwrap_or_default()
    }
}

/// The file, but for the two bytes that call indexes indexes.
#[derive(Debug)]
pub(super) struct Patched<'a> {
    file: &'a [u8],
    at: u64,
    patch: Option<(u64, [u8; 2])>,
}

impl<'a> Patched<'a> {
    pub(super) fn of(file: &'a [u8], directory: &Directory, photometric: Photometric) -> Patched<'a> {
        const BLACK_IS_ZERO: u16 = 1;
        let bytes = if directory.big_endian { BLACK_IS_ZERO.to_be_bytes() } else { BLACK_IS_ZERO.to_le_bytes() };
        let entry = directory.entry(tag::PHOTOMETRIC).filter(|_| photometric == Photometric::Palette);
        Patched { file, at: 0, patch: entry.map(|entry| (entry.at + 8, bytes)) }
    }
}

impl Read for Patched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let from = usize::try_from(self.at).unwrap_or(usize::MAX).min(self.file.len());
        let read = (&self.file[from..]).read(buffer)?;
        if let Some((patched, bytes)) = self.patch {
            for (at, byte) in (patched..).zip(bytes).filter(|(at, _)| (self.at..self.at + read as u64).contains(at)) {
                buffer[(at - self.at) as usize] = byte;
            }
        }
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Patched<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let len = self.file.len() as u64;
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
