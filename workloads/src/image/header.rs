//! What an image says of itself before a pixel is decoded: enough to refuse it, and to predict its cost.

use super::format::Format;

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

    /// Whether width and height change places.
    pub fn swaps_sides(self) -> bool {
        self as u8 >= Orientation::Transpose as u8
    }
}

/// Limits of what is accepted, each with its unit. Beyond one: [`Kind::TooLarge`](super::fault::Kind::TooLarge), with
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
