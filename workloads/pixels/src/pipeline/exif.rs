//! The few facts of EXIF metadata that matter here: how the image stands, and whose it is. Everything else (place,
//! camera, preview) is dropped, which is what most people expect of a picture that is published.
//!
//! EXIF is a TIFF file in miniature (CIPA DC-008 section 4.5; TIFF 6.0 section 2): a byte order, then a directory of
//! 12-byte entries whose values lie in the entry or at an offset. All offsets are claims; one directory is read, once.

use crate::header::{APP1, Orientation, Segments};

/// Bytes of an artist's name or a copyright notice. What is longer is cut off.
pub const TEXT_BYTES_MAX: usize = 2048;
/// Entries of the directory that are looked at. What is beyond is ignored.
const ENTRIES_MAX: usize = 512;

/// What stands before the TIFF in a JPEG's segment.
const EXIF_NAME: &[u8] = b"Exif\0\0";

const ORIENTATION: u16 = 0x0112;
const ARTIST: u16 = 0x013B;
const COPYRIGHT: u16 = 0x8298;
const ASCII: u16 = 2;
const SHORT: u16 = 3;

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exif {
    /// Tag 0x0112.
    pub orientation: Orientation,
    /// Tag 0x013B, without its terminator. Not always UTF-8.
    pub artist: Option<Vec<u8>>,
    /// Tag 0x8298, likewise.
    pub copyright: Option<Vec<u8>>,
}

impl Exif {
    /// Reads what follows `Exif\0\0` in a JPEG, or the whole of a PNG's `eXIf` chunk or a WebP's `EXIF` chunk. What cannot
    /// be read is as if it were absent: bad metadata never refuses an image.
    pub fn read(tiff: &[u8]) -> Exif {
        // Some writers of WebP and PNG keep the JPEG segment's name in front.
        let tiff = tiff.strip_prefix(EXIF_NAME).unwrap_or(tiff);
        directory(tiff).unwrap_or_default()
    }

    /// Of a JPEG.
    pub fn of_jpeg(file: &[u8]) -> Exif {
        let found = Segments::of(file).find(|(marker, payload)| *marker == APP1 && payload.starts_with(EXIF_NAME));
        found.map(|(_, payload)| Exif::read(payload)).unwrap_or_default()
    }

    /// Whether there is something to keep.
    pub fn has_rights(&self) -> bool {
        self.artist.is_some() || self.copyright.is_some()
    }

    /// The smallest TIFF that says whose image this is, or nothing when nobody was named. The orientation is not in it: it
    /// has been applied.
    pub fn rights(&self) -> Option<Vec<u8>> {
        let texts = [(ARTIST, &self.artist), (COPYRIGHT, &self.copyright)];
        let texts: Vec<(u16, &[u8])> = texts.iter().filter_map(|(tag, text)| Some((*tag, text.as_deref()?))).collect();
        if texts.is_empty() {
            return None;
        }
        let mut tiff = b"MM\0*\0\0\0\x08".to_vec();
        tiff.extend_from_slice(&(texts.len() as u16).to_be_bytes());
        let mut values = Vec::new();
        let values_at = 8 + 2 + 12 * texts.len() + 4;
        for (tag, text) in texts {
            let len = text.len() + 1;
            tiff.extend_from_slice(&tag.to_be_bytes());
            tiff.extend_from_slice(&ASCII.to_be_bytes());
            tiff.extend_from_slice(&(len as u32).to_be_bytes());
            if len <= 4 {
                let mut inline = [0; 4];
                inline[..text.len()].copy_from_slice(text);
                tiff.extend_from_slice(&inline);
            } else {
                tiff.extend_from_slice(&((values_at + values.len()) as u32).to_be_bytes());
                values.extend_from_slice(text);
                // The terminator, and values begin at even offsets.
                values.resize((values.len() + 2) & !1, 0);
            }
        }
        tiff.extend_from_slice(&[0; 4]);
        tiff.extend_from_slice(&values);
        Some(tiff)
    }
}

/// Puts a small EXIF of [`Exif::rights`] into a JPEG, behind its first marker and the JFIF segment that may follow.
pub fn into_jpeg(jpeg: &mut Vec<u8>, rights: &[u8]) {
    const APP0: [u8; 2] = [0xFF, 0xE0];
    let mut at = 2;
    if let [a, b, high, low, ..] = jpeg[2..]
        && [a, b] == APP0
    {
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
    // Two texts of at most `TEXT_BYTES_MAX` fit into a segment.
    let len = (2 + EXIF_NAME.len() + rights.len()) as u16;
    let segment = [&[0xFF, APP1], &len.to_be_bytes()[..], EXIF_NAME, rights].concat();
    jpeg.splice(at.min(jpeg.len())..at.min(jpeg.len()), segment).for_each(drop);
}

#[derive(Clone, Copy)]
struct Tiff<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl<'a> Tiff<'a> {
    fn u16(self, at: usize) -> Option<u16> {
        let bytes = self.bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32(self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// The text of the entry at `entry`, without terminators and spaces at its end; empty is absent.
    fn text(self, entry: usize) -> Option<Vec<u8>> {
        let len = self.u32(entry + 4)? as usize;
        let at = if len <= 4 { entry + 8 } else { self.u32(entry + 8)? as usize };
        let text = self.bytes.get(at..at.checked_add(len)?)?;
        // A copyright is the photographer's and, after a terminator, the editor's: both are kept, parted by a line.
        let end = text.iter().rposition(|&byte| byte != 0 && byte != b' ').map_or(0, |last| last + 1);
        let text: Vec<u8> =
            text[..end.min(TEXT_BYTES_MAX)].iter().map(|&byte| if byte == 0 { b'\n' } else { byte }).collect();
        (!text.is_empty()).then_some(text)
    }
}

fn directory(bytes: &[u8]) -> Option<Exif> {
    let big_endian = match bytes.get(..4)? {
        b"MM\0*" => true,
        b"II*\0" => false,
        _ => return None,
    };
    let tiff = Tiff { bytes, big_endian };
    let start = tiff.u32(4)? as usize;
    let count = usize::from(tiff.u16(start)?).min(ENTRIES_MAX);
    let mut exif = Exif::default();
    for index in 0..count {
        let entry = start + 2 + 12 * index;
        // A directory that ends too early says what it said until there.
        let (Some(tag), Some(kind)) = (tiff.u16(entry), tiff.u16(entry + 2)) else { break };
        match (tag, kind) {
            (ORIENTATION, SHORT) => exif.orientation = Orientation::of_tag(tiff.u16(entry + 8).unwrap_or(1)),
            (ARTIST, ASCII) => exif.artist = tiff.text(entry),
            (COPYRIGHT, ASCII) => exif.copyright = tiff.text(entry),
            _ => {}
        }
    }
    Some(exif)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn little_endian(orientation: u16) -> Vec<u8> {
        let mut tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        tiff.extend_from_slice(&orientation.to_le_bytes());
        tiff.extend_from_slice(&[0; 6]);
        tiff
    }

    #[test]
    fn orientation_is_read_in_both_byte_orders() {
        assert_eq!(Exif::read(&little_endian(6)).orientation, Orientation::Rotate90);
        let big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0\0\0\0\0";
        assert_eq!(Exif::read(big).orientation, Orientation::Rotate270);
        let mut named = b"Exif\0\0".to_vec();
        named.extend_from_slice(big);
        assert_eq!(Exif::read(&named).orientation, Orientation::Rotate270);
        assert_eq!(Exif::read(&little_endian(9)).orientation, Orientation::Normal);
    }

    #[test]
    fn rights_are_written_and_read_again() {
        for (artist, copyright) in [
            (None, Some(b"(c) 2024 Somebody & Daughters".to_vec())),
            (Some(b"Ann".to_vec()), None),
            (Some(b"An artist with a name".to_vec()), Some(b"odd".to_vec())),
            (Some(vec![b'x'; TEXT_BYTES_MAX]), Some(b"long".to_vec())),
        ] {
            let exif = Exif { orientation: Orientation::Normal, artist, copyright };
            assert!(exif.has_rights());
            assert_eq!(Exif::read(&exif.rights().unwrap()), exif);
        }
        assert_eq!(Exif::default().rights(), None);
    }

    #[test]
    fn both_copyrights_are_kept_and_long_ones_cut() {
        let exif = Exif { copyright: Some(b"photographer\0editor".to_vec()), ..Exif::default() };
        assert_eq!(Exif::read(&exif.rights().unwrap()).copyright.unwrap(), b"photographer\neditor");
        let exif = Exif { copyright: Some(vec![b'x'; 5000]), ..Exif::default() };
        assert_eq!(Exif::read(&exif.rights().unwrap()).copyright.unwrap().len(), TEXT_BYTES_MAX);
        let exif = Exif { copyright: Some(b"   ".to_vec()), ..Exif::default() };
        assert_eq!(Exif::read(&exif.rights().unwrap()).copyright, None);
    }

    #[test]
    fn segments_of_a_jpeg() {
        let exif = Exif { copyright: Some(b"(c) Somebody".to_vec()), ..Exif::default() };
        for start in [&b"\xFF\xD8\xFF\xE0\0\x04ab"[..], &b"\xFF\xD8"[..]] {
            let mut jpeg = start.to_vec();
            jpeg.extend_from_slice(b"\xFF\xEE\0\x07Adobe\xFF\xDA\0\x02");
            into_jpeg(&mut jpeg, &exif.rights().unwrap());
            assert!(jpeg.starts_with(start) && jpeg[start.len()..].starts_with(&[0xFF, APP1]));
            assert_eq!(Exif::of_jpeg(&jpeg), exif);
        }
        assert_eq!(Exif::of_jpeg(b"\xFF\xD8"), Exif::default());
    }

    #[test]
    fn broken_metadata_is_absent() {
        let exif = Exif { artist: Some(b"Somebody with a name".to_vec()), ..Exif::default() };
        let whole = exif.rights().unwrap();
        for len in 0..whole.len() {
            let _ = Exif::read(&whole[..len]);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7F, 0xFF] {
                let mut broken = whole.clone();
                broken[at] = value;
                let _ = Exif::read(&broken);
            }
        }
        assert_eq!(Exif::read(b""), Exif::default());
        assert_eq!(Exif::read(b"MM\0*\xFF\xFF\xFF\xFF"), Exif::default());
    }
}
