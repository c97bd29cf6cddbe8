//! What an image says of itself before a pixel is decoded: enough to refuse it, and to predict its cost.
//!
//! [`read`] walks from mark to mark and skips what lies between, so its time follows the number of marks and not the
//! number of bytes. It works on the beginning of an upload and says how much more it needs, at least twice as much each
//! time: reading a header as it arrives takes linear time whatever its author intended. Frames, scans, and metadata that
//! lie behind the pixels are known only when the whole file is there; reading again then costs next to nothing.
//! Where a header lies behind the pixels itself, they need not be kept for it: see [`read_apart`].

mod avif;
mod bytes;
mod gif;
mod jpeg;
mod png;
pub(crate) mod tiff;
mod webp;

use super::fault::{Fault, Kind};
use super::format::Format;
use super::sniff;
pub use super::sniff::SNIFF_BYTES;
pub(crate) use bytes::Head;
use bytes::Pause;

pub(crate) use avif::{Avif, Item};
pub use bytes::Apart;
pub(crate) use jpeg::{APP1, Segments};

/// As much of an upload is worth collecting before the first [`read`]: nearly every header is shorter.
pub const HEAD_BYTES: usize = 64 << 10;

/// Images of up to so many pixels may have any ratio of pixels to bytes: they cost little, and a plain surface compresses
/// without end.
pub const RATIO_FREE_PIXELS: u64 = 16 << 20;

/// How far [`read`] came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Call again with at least so many bytes from the start of the file.
    NeedMore {
        /// Bytes from here on are needed, and what was there this time; 0: all are.
        from: u64,
        /// Of the file, from its start.
        bytes: u64,
    },
    /// The header, within the limits.
    Header(Header),
}

/// Reads the header at the start of a file of which `head` is the beginning and `whole_len` the length, if it is known.
///
/// # Errors
/// [`Kind::BadImage`], [`Kind::Unsupported`], and [`Kind::TooLarge`] with the name of the limit.
pub fn read(head: &[u8], whole_len: Option<u64>, limits: &Limits) -> Result<Progress, Fault> {
    read_apart(head, Apart::default(), whole_len, limits)
}

/// The same where [`Progress::NeedMore`] said that what follows `head` is of no interest before [`Apart::at`].
///
/// # Errors
/// As [`read`].
pub fn read_apart(head: &[u8], apart: Apart<'_>, whole_len: Option<u64>, limits: &Limits) -> Result<Progress, Fault> {
    if let Some(len) = whole_len {
        limits.check_bytes(len)?;
        if len == 0 {
            return Err(Fault::new(Kind::BadImage, "the upload is empty: it has no bytes. Send an image."));
        }
    }
    let whole = whole_len == Some(head.len() as u64);
    let format = match sniff::sniff(head) {
        Some(sniffed) => sniff::format(sniffed)?,
        None if whole => {
            return Err(Fault::new(
                Kind::BadImage,
                format!("the upload has {} bytes, too few to be an image.", head.len()),
            ));
        }
        None => {
            let bytes = (SNIFF_BYTES as u64).min(whole_len.unwrap_or(u64::MAX));
            return Ok(Progress::NeedMore { from: 0, bytes });
        }
    };
    let head = Head { bytes: head, apart, whole };
    let read = match format {
        Format::Jpeg => jpeg::read(head, limits),
        Format::Png => png::read(head, limits),
        Format::Webp => webp::read(head, limits),
        Format::Avif => avif::read(head, limits),
        Format::Gif => gif::read(head, limits),
        Format::Tiff => tiff::read(head, limits),
    };
    match read {
        Ok(header) => limits.check(&header, whole_len).map(|()| Progress::Header(header)),
        Err(Pause::Fault(fault)) => Err(fault),
        Err(Pause::More(bytes) | Pause::Ahead { bytes, .. }) if whole || whole_len.is_some_and(|len| bytes > len) => {
            Err(truncated(format, whole_len))
        }
        Err(Pause::More(bytes)) => {
            let twice = head.bytes.len() as u64 * 2;
            Ok(Progress::NeedMore { from: 0, bytes: bytes.max(whole_len.map_or(twice, |len| twice.min(len))) })
        }
        Err(Pause::Ahead { from, bytes }) => Ok(Progress::NeedMore { from, bytes }),
    }
}

/// Frames of a file that is all here, whose head may have been read when it was not.
pub fn frames(file: &[u8], header: &Header) -> u32 {
    let head = Head::of(file);
    let read = match header.format {
        Format::Gif => gif::read(head, &Limits::DEFAULT),
        Format::Webp => webp::read(head, &Limits::DEFAULT),
        _ => return header.frames,
    };
    read.map_or(header.frames, |whole| whole.frames)
}

fn truncated(format: Format, whole_len: Option<u64>) -> Fault {
    let len = whole_len.unwrap_or_default();
    let name = format.name();
    Fault::new(
        Kind::BadImage,
        format!("the {name} ends after {len} bytes, in the middle of its header. It was probably cut off on its way."),
    )
}

/// Facts of an image's head. All are claims of a stranger, within the limits that were checked.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Header {
    /// The format, by magic bytes.
    pub format: Format,
    /// Stored width in pixels, before any orientation. At least 1.
    pub width: u32,
    /// Stored height in pixels, before any orientation. At least 1.
    pub height: u32,
    /// Colour components without transparency: 1, 3 or 4 (CMYK).
    pub components: u8,
    /// Bits per component as stored: 1 to 16.
    pub bits: u8,
    /// Whether it has transparency.
    pub alpha: bool,
    /// Frames, as far as the head says; 1 for a still image.
    pub frames: u32,
    /// Bytes per pixel of the coefficient store that a progressive JPEG needs; 0 for a baseline one and other formats.
    pub coefficient_bytes: u8,
    /// The orientation that its metadata asks for.
    pub orientation: Orientation,
}

impl Header {
    /// Stored pixels of one frame.
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

/// The orientation of EXIF tag 0x0112: how a viewer turns what is stored. The number is the tag's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum Orientation {
    /// As stored.
    #[default]
    Normal = 1,
    /// Mirrored left to right.
    FlipH = 2,
    /// Turned half round.
    Rotate180 = 3,
    /// Mirrored top to bottom.
    FlipV = 4,
    /// Mirrored at the main diagonal.
    Transpose = 5,
    /// Turned a quarter clockwise.
    Rotate90 = 6,
    /// Mirrored at the other diagonal.
    Transverse = 7,
    /// Turned a quarter anticlockwise.
    Rotate270 = 8,
}

impl Orientation {
    /// The orientation of a tag's value; an unknown value means as stored, which is what browsers do.
    pub fn of_tag(value: u16) -> Orientation {
        match value {
            2 => Orientation::FlipH,
            3 => Orientation::Rotate180,
            4 => Orientation::FlipV,
            5 => Orientation::Transpose,
            6 => Orientation::Rotate90,
            7 => Orientation::Transverse,
            8 => Orientation::Rotate270,
            _ => Orientation::Normal,
        }
    }

    /// This and then `next`, as one.
    pub fn then(self, next: Orientation) -> Orientation {
        // Each is a mirror at the main diagonal or not, then mirrors at both axes: what a matrix of signs says.
        let (a, b) = (self.matrix(), next.matrix());
        let product = [
            [b[0][0] * a[0][0] + b[0][1] * a[1][0], b[0][0] * a[0][1] + b[0][1] * a[1][1]],
            [b[1][0] * a[0][0] + b[1][1] * a[1][0], b[1][0] * a[0][1] + b[1][1] * a[1][1]],
        ];
        (1..=8).map(Orientation::of_tag).find(|whole| whole.matrix() == product).unwrap_or_default()
    }

    /// Where a stored pixel goes, x to the right and y downwards, around the middle.
    fn matrix(self) -> [[i8; 2]; 2] {
        match self {
            Orientation::Normal => [[1, 0], [0, 1]],
            Orientation::FlipH => [[-1, 0], [0, 1]],
            Orientation::Rotate180 => [[-1, 0], [0, -1]],
            Orientation::FlipV => [[1, 0], [0, -1]],
            Orientation::Transpose => [[0, 1], [1, 0]],
            Orientation::Rotate90 => [[0, -1], [1, 0]],
            Orientation::Transverse => [[0, -1], [-1, 0]],
            Orientation::Rotate270 => [[0, 1], [-1, 0]],
        }
    }

    /// Whether width and height change places.
    pub fn swaps_sides(self) -> bool {
        self as u8 >= Orientation::Transpose as u8
    }
}

/// Limits of what is accepted, each with its unit. Beyond one: [`TooLarge`](super::fault::Kind::TooLarge), with
/// the limit named.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Bytes of an upload.
    pub bytes_max: u64,
    /// Pixels of a frame, as stored.
    pub pixels_max: u64,
    /// Pixels of a frame of a progressive JPEG, whose decoder holds all its coefficients.
    pub progressive_pixels_max: u64,
    /// Pixels of either side.
    pub side_max: u32,
    /// Frames of an animation.
    pub frames_max: u32,
    /// Scans of a progressive JPEG; a decoder's time is pixels times scans.
    pub scans_max: u32,
    /// Bytes of an ICC profile.
    pub icc_bytes_max: u32,
    /// Bytes of EXIF and XMP metadata, together.
    pub metadata_bytes_max: u32,
    /// Pixels per byte of the upload: more is a decompression bomb.
    pub pixels_per_byte_max: u32,
}

impl Limits {
    /// The defaults.
    pub const DEFAULT: Limits = Limits {
        bytes_max: 64 << 20,
        pixels_max: 256_000_000,
        progressive_pixels_max: 100_000_000,
        side_max: 32_767,
        frames_max: 1024,
        scans_max: 100,
        icc_bytes_max: 4 << 20,
        metadata_bytes_max: 8 << 20,
        pixels_per_byte_max: 2000,
    };
}

impl Limits {
    /// Whether so many bytes are accepted.
    ///
    /// # Errors
    /// [`Kind::TooLarge`].
    pub fn check_bytes(&self, len: u64) -> Result<(), Fault> {
        within("the upload", "bytes", len, self.bytes_max, "bytes_max")
    }

    /// Whether what a header says is accepted.
    fn check(&self, header: &Header, whole_len: Option<u64>) -> Result<(), Fault> {
        let size = format!("the {}, {}x{},", header.format.name(), header.width, header.height);
        let side = header.width.max(header.height);
        within(&size, "pixels on its longer side", side.into(), self.side_max.into(), "side_max")?;
        within(&size, "pixels", header.pixels(), self.pixels_max, "pixels_max")?;
        if header.coefficient_bytes > 0 {
            let what = format!("{size} stored in several scans,");
            within(&what, "pixels", header.pixels(), self.progressive_pixels_max, "progressive_pixels_max")?;
        }
        within(&size, "frames", header.frames.into(), self.frames_max.into(), "frames_max")?;
        match whole_len {
            Some(len) if header.pixels() > RATIO_FREE_PIXELS => {
                let ratio = header.pixels() / len.max(1);
                within(&size, "pixels per byte", ratio, self.pixels_per_byte_max.into(), "pixels_per_byte_max")
            }
            _ => Ok(()),
        }
    }

    fn check_icc(&self, bytes: u64) -> Result<(), Fault> {
        within("its colour profile", "bytes", bytes, self.icc_bytes_max.into(), "icc_bytes_max")
    }

    fn check_metadata(&self, bytes: u64) -> Result<(), Fault> {
        within("its metadata", "bytes", bytes, self.metadata_bytes_max.into(), "metadata_bytes_max")
    }

    fn check_scans(&self, scans: u64) -> Result<(), Fault> {
        within("the jpeg", "scans", scans, self.scans_max.into(), "scans_max")
    }
}

fn within(what: &str, unit: &str, found: u64, allowed: u64, limit: &str) -> Result<(), Fault> {
    if found <= allowed {
        return Ok(());
    }
    Err(Fault::new(
        Kind::TooLarge,
        format!("{what} has {found} {unit}; at most {allowed} are accepted here (limit {limit})."),
    ))
}

#[cfg(test)]
mod tests;
