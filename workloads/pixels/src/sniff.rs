//! What some bytes are, by their first ones alone: never by a name, an ending or a declared type, and never by what else
//! they might also be further on. A file that is two things at once (a polyglot) is what it begins as.

use super::fault::{Fault, Kind};
use super::format::Format;

/// As many first bytes decide, whatever they are.
pub const SNIFF_BYTES: usize = 64;

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// A format that can be read.
    Known(Format),
    /// A kind that is known by name and not supported.
    Unsupported(&'static str),
    /// Nothing that is known.
    Unknown,
}

/// Signatures at the very beginning. More specific ones come first.
const SIGNATURES: &[(&[u8], Sniffed)] = &[
    (b"\xFF\xD8\xFF", Sniffed::Known(Format::Jpeg)),
    (b"\x89PNG\r\n\x1A\n", Sniffed::Known(Format::Png)),
    (b"GIF87a", Sniffed::Known(Format::Gif)),
    (b"GIF89a", Sniffed::Known(Format::Gif)),
    (b"\xFF\x0A", Sniffed::Unsupported("a JPEG XL image")),
    (b"\0\0\0\x0CJXL \r\n\x87\n", Sniffed::Unsupported("a JPEG XL image")),
    (b"\0\0\0\x0CjP  \r\n\x87\n", Sniffed::Unsupported("a JPEG 2000 image")),
    (b"\xFF\x4F\xFF\x51", Sniffed::Unsupported("a JPEG 2000 image")),
    (b"\x8BJNG\r\n\x1A\n", Sniffed::Unsupported("a JNG image")),
    (b"\x8AMNG\r\n\x1A\n", Sniffed::Unsupported("an MNG animation")),
    (b"II*\0\x10\0\0\0CR", Sniffed::Unsupported("a Canon raw image (CR2)")),
    (b"IIRO", Sniffed::Unsupported("an Olympus raw image")),
    (b"IIRS", Sniffed::Unsupported("an Olympus raw image")),
    (b"IIU\0", Sniffed::Unsupported("a Panasonic raw image")),
    (b"II*\0", Sniffed::Known(Format::Tiff)),
    (b"MM\0*", Sniffed::Known(Format::Tiff)),
    (b"II+\0", Sniffed::Unsupported("a BigTIFF image")),
    (b"MM\0+", Sniffed::Unsupported("a BigTIFF image")),
    (b"II\xBC", Sniffed::Unsupported("a JPEG XR image")),
    (b"FUJIFILMCCD-RAW", Sniffed::Unsupported("a Fujifilm raw image")),
    (b"FOVb", Sniffed::Unsupported("a Sigma raw image")),
    (b"8BPS", Sniffed::Unsupported("a Photoshop document")),
    (b"BM", Sniffed::Unsupported("a BMP image")),
    (b"\0\0\x01\0", Sniffed::Unsupported("an ICO icon")),
    (b"\0\0\x02\0", Sniffed::Unsupported("a CUR cursor")),
    (b"qoif", Sniffed::Unsupported("a QOI image")),
    (b"farbfeld", Sniffed::Unsupported("a farbfeld image")),
    (b"v/1\x01", Sniffed::Unsupported("an OpenEXR image")),
    (b"#?RADIANCE", Sniffed::Unsupported("a Radiance HDR image")),
    (b"DDS ", Sniffed::Unsupported("a DDS texture")),
    (b"gimp xcf", Sniffed::Unsupported("a GIMP document")),
    (b"AT&TFORM", Sniffed::Unsupported("a DjVu document")),
    (b"BPG\xFB", Sniffed::Unsupported("a BPG image")),
    (b"FLIF", Sniffed::Unsupported("a FLIF image")),
    (b"%PDF-", Sniffed::Unsupported("a PDF document")),
    (b"%!PS", Sniffed::Unsupported("a PostScript document")),
    (b"PK\x03\x04", Sniffed::Unsupported("a ZIP archive or an office document")),
    (b"Rar!\x1A\x07", Sniffed::Unsupported("a RAR archive")),
    (b"7z\xBC\xAF\x27\x1C", Sniffed::Unsupported("a 7-Zip archive")),
    (b"\x1F\x8B", Sniffed::Unsupported("gzip-compressed data")),
    (b"\x28\xB5\x2F\xFD", Sniffed::Unsupported("zstd-compressed data")),
    (b"\x1A\x45\xDF\xA3", Sniffed::Unsupported("a WebM or Matroska video")),
    (b"OggS", Sniffed::Unsupported("an Ogg file")),
    (b"FLV\x01", Sniffed::Unsupported("a Flash video")),
    (b"ID3", Sniffed::Unsupported("an MP3 file")),
    (b"fLaC", Sniffed::Unsupported("a FLAC file")),
    (b"\x7FELF", Sniffed::Unsupported("a program")),
    (b"MZ", Sniffed::Unsupported("a program")),
];

/// Words that a text may begin with, in small letters.
const WORDS: &[(&[u8], &str)] = &[
    (b"<svg", "an SVG image"),
    (b"<?xml", "an XML or SVG document"),
    (b"<!doctype svg", "an SVG image"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<!--", "an XML, SVG or HTML document"),
    (b"#!", "a script"),
    (b"data:", "a data URL; send the bytes that it encodes"),
];

/// What these first bytes are, or `None` when more of them are needed: [`SNIFF_BYTES`] always suffice.
pub fn sniff(head: &[u8]) -> Option<Sniffed> {
    let decided = if let Some((_, sniffed)) = SIGNATURES.iter().find(|(signature, _)| head.starts_with(signature)) {
        *sniffed
    } else if head.starts_with(b"RIFF") {
        riff(head)
    } else if head.get(4..8) == Some(b"ftyp") {
        iso(head)
    } else {
        text(head)
    };
    // A longer signature could still match what a shorter head leaves open.
    if head.len() < SNIFF_BYTES && !matches!(decided, Sniffed::Known(_)) { None } else { Some(decided) }
}

/// What is answered for bytes that are no image of ours.
///
/// # Errors
/// [`Kind::Unsupported`] by name, or [`Kind::BadImage`].
pub fn format(sniffed: Sniffed) -> Result<Format, Fault> {
    const READ: &str = "Send a JPEG, PNG, WebP, AVIF, GIF or TIFF.";
    match sniffed {
        Sniffed::Known(format) => Ok(format),
        Sniffed::Unsupported(name) if name.contains("HEIC") => Err(Fault::new(
            Kind::Unsupported,
            format!(
                "this is {name}, which is not supported whatever its name ends with. {READ} \
                 Phones write JPEG when their camera is set to \"most compatible\"."
            ),
        )),
        Sniffed::Unsupported(name) => {
            Err(Fault::new(Kind::Unsupported, format!("this is {name}, which is not supported. {READ}")))
        }
        Sniffed::Unknown => {
            Err(Fault::new(Kind::BadImage, format!("the first bytes are those of no image that is known. {READ}")))
        }
    }
}

fn riff(head: &[u8]) -> Sniffed {
    match head.get(8..12) {
        Some(b"WEBP") => Sniffed::Known(Format::Webp),
        Some(b"AVI ") => Sniffed::Unsupported("an AVI video"),
        Some(b"WAVE") => Sniffed::Unsupported("a WAVE file"),
        _ => Sniffed::Unknown,
    }
}

/// A file of boxes (ISO/IEC 14496-12 section 4.3): the major brand decides, then the compatible ones in their order.
fn iso(head: &[u8]) -> Sniffed {
    let len = head.get(..4).map_or(0, |len| u32::from_be_bytes([len[0], len[1], len[2], len[3]]) as usize);
    let Some(major) = head.get(8..12) else { return Sniffed::Unknown };
    if len < 16 {
        return Sniffed::Unknown;
    }
    // What lies between is the minor version.
    let compatible = head.get(16..len.min(head.len()).min(SNIFF_BYTES)).unwrap_or(&[]);
    std::iter::once(major)
        .chain(compatible.chunks_exact(4))
        .find_map(brand)
        .unwrap_or(Sniffed::Unsupported("a media file of an unknown brand"))
}

fn brand(brand: &[u8]) -> Option<Sniffed> {
    Some(match brand {
        b"avif" | b"avis" => Sniffed::Known(Format::Avif),
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" => Sniffed::Unsupported("a HEIC image"),
        b"jxl " => Sniffed::Unsupported("a JPEG XL image"),
        b"crx " => Sniffed::Unsupported("a Canon raw image (CR3)"),
        b"qt  " => Sniffed::Unsupported("a QuickTime video"),
        b"isom" | b"iso2" | b"iso5" | b"iso6" | b"mp41" | b"mp42" | b"avc1" | b"M4V " | b"M4A " | b"dash" => {
            Sniffed::Unsupported("an MP4 video")
        }
        [b'3', b'g', ..] => Sniffed::Unsupported("a 3GPP video"),
        _ => return None,
    })
}

fn text(head: &[u8]) -> Sniffed {
    let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
    let word = |word: &[u8]| head.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    WORDS.iter().find(|(start, _)| word(start)).map_or(Sniffed::Unknown, |(_, name)| Sniffed::Unsupported(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn padded(start: &[u8]) -> Vec<u8> {
        let mut head = start.to_vec();
        head.resize(head.len().max(SNIFF_BYTES), 0);
        head
    }

    fn brands(major: &[u8; 4], compatible: &[&[u8; 4]]) -> Vec<u8> {
        let mut head = (16 + 4 * compatible.len() as u32).to_be_bytes().to_vec();
        head.extend_from_slice(b"ftyp");
        head.extend_from_slice(major);
        head.extend_from_slice(&[0; 4]);
        compatible.iter().for_each(|brand| head.extend_from_slice(*brand));
        padded(&head)
    }

    #[test]
    fn the_first_bytes_decide() {
        let known = |start: &[u8]| match sniff(&padded(start)) {
            Some(Sniffed::Known(format)) => Some(format),
            _ => None,
        };
        assert_eq!(known(b"\xFF\xD8\xFF\xE0"), Some(Format::Jpeg));
        assert_eq!(known(b"\x89PNG\r\n\x1A\n"), Some(Format::Png));
        assert_eq!(known(b"RIFF\x10\0\0\0WEBPVP8 "), Some(Format::Webp));
        assert_eq!(known(b"GIF89a"), Some(Format::Gif));
        assert_eq!(known(b"RIFF\x10\0\0\0WAVE"), None);
        assert_eq!(known(b"\xFF\xD8\xD8"), None);
    }

    #[test]
    fn a_heic_named_jpeg_is_called_by_its_name() {
        let head = brands(b"heic", &[b"mif1", b"heic"]);
        let fault = format(sniff(&head).unwrap()).unwrap_err();
        assert_eq!(fault.kind, Kind::Unsupported);
        assert!(fault.detail.contains("HEIC"), "{fault}");
        assert_eq!(sniff(&brands(b"mif1", &[b"heic"])), Some(Sniffed::Unsupported("a HEIC image")));
    }

    #[test]
    fn compatible_brands_decide_when_the_major_one_is_general() {
        assert_eq!(sniff(&brands(b"mif1", &[b"miaf", b"avif"])), Some(Sniffed::Known(Format::Avif)));
        assert_eq!(sniff(&brands(b"avif", &[b"mif1"])), Some(Sniffed::Known(Format::Avif)));
        assert_eq!(sniff(&brands(b"isom", &[b"avif"])), Some(Sniffed::Unsupported("an MP4 video")));
        assert!(matches!(sniff(&brands(b"what", &[])), Some(Sniffed::Unsupported(_))));
    }

    #[test]
    fn texts_are_named_after_marks_and_spaces() {
        assert_eq!(sniff(&padded(b"\xEF\xBB\xBF  \n<SVG xmlns=")), Some(Sniffed::Unsupported("an SVG image")));
        assert_eq!(sniff(&padded(b"<!DOCTYPE html>")), Some(Sniffed::Unsupported("an HTML page")));
        assert_eq!(sniff(&padded(b"hello")), Some(Sniffed::Unknown));
    }

    #[test]
    fn a_polyglot_is_what_it_begins_as() {
        // A GIF that is also a ZIP at its end, and a PDF with a JPEG inside.
        assert_eq!(sniff(&padded(b"GIF89a.......PK\x03\x04")), Some(Sniffed::Known(Format::Gif)));
        assert_eq!(sniff(&padded(b"%PDF-1.7 \xFF\xD8\xFF")), Some(Sniffed::Unsupported("a PDF document")));
    }

    #[test]
    fn too_few_bytes_are_not_decided() {
        assert_eq!(sniff(b""), None);
        assert_eq!(sniff(b"\xFF\xD8"), None);
        assert_eq!(sniff(b"\xFF\xD8\xFF"), Some(Sniffed::Known(Format::Jpeg)));
        assert_eq!(sniff(b"RIFF\0\0\0\0WEB"), None);
        assert_eq!(sniff(&[0; SNIFF_BYTES]), Some(Sniffed::Unknown));
    }

    #[test]
    fn no_signature_hides_a_later_one() {
        for (at, (signature, sniffed)) in SIGNATURES.iter().enumerate() {
            let first = SIGNATURES.iter().position(|(other, _)| signature.starts_with(other)).unwrap();
            assert_eq!(first, at, "{sniffed:?} is hidden by {:?}", SIGNATURES[first].1);
        }
    }
}
