//! The formats by name, ending and media type.

/// A format that can be read. GIF and TIFF are read only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// JPEG (ITU-T T.81).
    Jpeg,
    /// PNG (RFC 2083, third edition).
    Png,
    /// WebP (RFC 9649).
    Webp,
    /// AVIF.
    Avif,
    /// GIF89a.
    Gif,
    /// TIFF (revision 6.0).
    Tiff,
}

impl Format {
    /// The media type (RFC 9110 section 8.3.1).
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Jpeg => "image/jpeg",
            Format::Png => "image/png",
            Format::Webp => "image/webp",
            Format::Avif => "image/avif",
            Format::Gif => "image/gif",
            Format::Tiff => "image/tiff",
        }
    }

    /// The name in options and documents.
    pub fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "jpeg",
            Format::Png => "png",
            Format::Webp => "webp",
            Format::Avif => "avif",
            Format::Gif => "gif",
            Format::Tiff => "tiff",
        }
    }

    /// Whether it can be written.
    pub fn is_output(self) -> bool {
        !matches!(self, Format::Gif | Format::Tiff)
    }

    /// Whether it can hold transparency.
    pub fn has_alpha(self) -> bool {
        self != Format::Jpeg
    }
}
