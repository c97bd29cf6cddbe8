//! TIFF (revision 6.0 section 2): its first directory, which may lie anywhere and mostly lies at the end. What an entry
//! holds itself is all that is read here, because what it points at may lie before the directory, where it has passed.

use super::bytes::{Head, Pause, bad, unsupported};
use super::{Header, Limits, Orientation};
use crate::format::Format;

/// Entries of a directory. Cameras write a few dozen.
const ENTRIES_MAX: u16 = 512;
/// Pixels of either side of a tile beyond the image's own: writers round up, and readers hold a row of it.
const TILE_BEYOND_MAX: u32 = 4096;
/// Samples of a pixel, transparency and what else there is included.
const SAMPLES_MAX: u32 = 16;

/// The number of a field (section 8, and the registered ones behind it).
pub(crate) mod tag {
    pub(crate) const NEW_SUBFILE_TYPE: u16 = 254;
    pub(crate) const IMAGE_WIDTH: u16 = 256;
    pub(crate) const IMAGE_LENGTH: u16 = 257;
    pub(crate) const BITS_PER_SAMPLE: u16 = 258;
    pub(crate) const COMPRESSION: u16 = 259;
    pub(crate) const PHOTOMETRIC: u16 = 262;
    pub(crate) const FILL_ORDER: u16 = 266;
    pub(crate) const ORIENTATION: u16 = 274;
    pub(crate) const SAMPLES_PER_PIXEL: u16 = 277;
    pub(crate) const PLANAR_CONFIGURATION: u16 = 284;
    pub(crate) const COLOR_MAP: u16 = 320;
    pub(crate) const TILE_WIDTH: u16 = 322;
    pub(crate) const TILE_LENGTH: u16 = 323;
    pub(crate) const EXTRA_SAMPLES: u16 = 338;
    pub(crate) const XMP: u16 = 700;
    pub(crate) const IPTC: u16 = 33_723;
    pub(crate) const PHOTOSHOP: u16 = 34_377;
    pub(crate) const ICC_PROFILE: u16 = 34_675;
    pub(crate) const DNG_VERSION: u16 = 50_706;
}

/// How colours are stored (section 4, 5, 6, 16 and 21).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Photometric {
    WhiteIsZero,
    BlackIsZero,
    Rgb,
    Palette,
    Inks,
    YCbCr,
}

impl Photometric {
    fn of(value: u32) -> Result<Photometric, Pause> {
        Ok(match value {
            0 => Photometric::WhiteIsZero,
            1 => Photometric::BlackIsZero,
            2 => Photometric::Rgb,
            3 => Photometric::Palette,
            5 => Photometric::Inks,
            6 => Photometric::YCbCr,
            8..=10 => return Err(unsupported("the tiff is in Lab colours, which are not supported. Send it in RGB.")),
            32_803 | 34_892 => return Err(raw()),
            4 => return Err(unsupported("the tiff is a mask of transparency and no picture")),
            other => {
                let what = format!("the tiff stores colours in a way that is not supported (photometric {other})");
                return Err(unsupported(what));
            }
        })
    }

    fn components(self) -> u8 {
        match self {
            Photometric::WhiteIsZero | Photometric::BlackIsZero => 1,
            Photometric::Rgb | Photometric::Palette | Photometric::YCbCr => 3,
            Photometric::Inks => 4,
        }
    }

    /// Samples of a stored pixel, those beyond the colours not counted.
    fn samples(self) -> u32 {
        if self == Photometric::Palette { 1 } else { self.components().into() }
    }
}

/// The compression of JPEG's strips and tiles (Technical Note 2).
pub(crate) const JPEG: u32 = 7;

fn check_compression(compression: u32) -> Result<(), Pause> {
    let what = match compression {
        // None, LZW, JPEG, Deflate by either number, PackBits, fax of group 4.
        1 | 4 | 5 | JPEG | 8 | 32_773 | 32_946 => return Ok(()),
        2 | 3 => "fax compression of group 3, which is not supported; group 4 is",
        6 => "JPEG compression as of 1992, which is not supported; the one of Technical Note 2 is",
        32_809 => "ThunderScan compression, which is not supported",
        34_713 | 32_767 | 65_535 | 34_892 => return Err(raw()),
        34_712 | 33_003 | 33_005 => "JPEG 2000 compression, which is not supported",
        34_925 => "LZMA compression, which is not supported",
        50_000 | 34_926 => "Zstandard compression, which is not supported",
        50_001 | 34_927 => "WebP compression, which is not supported",
        _ => "a compression that is not known here",
    };
    Err(unsupported(format!("the tiff has {what}. Send it with LZW or Deflate, or as PNG.")))
}

fn raw() -> Pause {
    unsupported("this is a camera's raw image in the shape of a TIFF. Develop it, and send a JPEG.")
}

/// A field: 12 bytes of a directory.
pub(crate) struct Entry {
    pub(crate) tag: u16,
    /// Where it lies in the file.
    pub(crate) at: u64,
    kind: u16,
    count: u32,
    /// The value, where a SHORT or LONG lies in the entry; of two SHORTs the first.
    inline: Option<u32>,
}

/// The first directory.
pub(crate) struct Directory {
    pub(crate) entries: Vec<Entry>,
    pub(crate) big_endian: bool,
}

impl Directory {
    pub(crate) fn read(head: Head<'_>) -> Result<Directory, Pause> {
        let big_endian = head.array(0)? == *b"MM";
        let order = Order { head, big_endian };
        let from = u64::from(order.u32(4)?);
        if from < 8 {
            return Err(bad(format!("the tiff says that its directory begins at byte {from}, within its header")));
        }
        // From here on nothing before it is wanted.
        let ahead = |pause| match pause {
            Pause::More(bytes) => Pause::Ahead { from, bytes },
            pause => pause,
        };
        let count = order.u16(from).map_err(ahead)?;
        if count == 0 || count > ENTRIES_MAX {
            return Err(bad(format!("the tiff's directory has {count} entries; 1 to {ENTRIES_MAX} are accepted")));
        }
        // All at once: asked for one by one they would be as many steps.
        head.slice(from, 2 + 12 * u64::from(count)).map_err(ahead)?;
        let entries =
            (0..u64::from(count)).map(|index| order.entry(from + 2 + 12 * index)).collect::<Result<_, _>>()?;
        Ok(Directory { entries, big_endian })
    }

    pub(crate) fn entry(&self, tag: u16) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.tag == tag)
    }

    /// The bytes of a field of bytes, characters or SHORTs, in the byte order of the file, which has to be all here.
    pub(crate) fn bytes<'a>(&self, file: &'a [u8], tag: u16) -> Option<&'a [u8]> {
        const SIZES: [u64; 8] = [0, 1, 1, 2, 4, 0, 1, 1];
        let entry = self.entry(tag)?;
        let len = u64::from(entry.count) * SIZES.get(usize::from(entry.kind)).copied().unwrap_or(0);
        let order = Order { head: Head::of(file), big_endian: self.big_endian };
        let at = if len <= 4 { entry.at + 8 } else { order.u32(entry.at + 8).ok()?.into() };
        order.head.slice(at, len).ok()
    }

    /// A number that has to lie in its entry.
    fn number(&self, tag: u16) -> Result<Option<u32>, Pause> {
        match self.entry(tag) {
            None => Ok(None),
            Some(Entry { inline: Some(value), .. }) => Ok(Some(*value)),
            Some(entry) => Err(bad(format!("the tiff's field {tag} is no number (type {})", entry.kind))),
        }
    }

    fn needed(&self, tag: u16, name: &str) -> Result<u32, Pause> {
        self.number(tag)?.ok_or_else(|| bad(format!("the tiff does not say its {name} (field {tag})")))
    }

    pub(crate) fn compression(&self) -> Result<u32, Pause> {
        Ok(self.number(tag::COMPRESSION)?.unwrap_or(1))
    }

    pub(crate) fn photometric(&self) -> Result<Photometric, Pause> {
        Photometric::of(self.needed(tag::PHOTOMETRIC, "kind of colours")?)
    }

    /// Whether all reds come first, then all greens.
    pub(crate) fn is_in_planes(&self) -> bool {
        self.entry(tag::PLANAR_CONFIGURATION).is_some_and(|planar| planar.inline == Some(2))
    }

    /// What the first sample behind the colours is, where its entry says it.
    pub(crate) fn extra_sample(&self) -> Option<u32> {
        self.entry(tag::EXTRA_SAMPLES)?.inline
    }

    /// Whether the first sample behind the colours is transparency. Where several say what they are, elsewhere, it may be.
    fn alpha(&self) -> bool {
        self.entry(tag::EXTRA_SAMPLES).is_some_and(|extra| extra.inline.is_none_or(|kind| matches!(kind, 1 | 2)))
    }

    /// Bits of a sample. Three values and more lie elsewhere, and 16 is the most that is accepted.
    fn bits(&self) -> Result<u32, Pause> {
        let bits = self.entry(tag::BITS_PER_SAMPLE).map_or(1, |bits| bits.inline.unwrap_or(16));
        match bits {
            1 | 2 | 4 | 8 | 16 => Ok(bits),
            _ => Err(unsupported(format!("the tiff has samples of {bits} bits; 1, 2, 4, 8 and 16 are supported"))),
        }
    }
}

pub(super) fn read(head: Head<'_>, limits: &Limits) -> Result<Header, Pause> {
    let directory = Directory::read(head)?;
    // Raw files begin with a small preview, which nobody means who sends one.
    let is_preview = directory.number(tag::NEW_SUBFILE_TYPE)?.is_some_and(|kind| kind & 1 == 1);
    if directory.entry(tag::DNG_VERSION).is_some() || is_preview {
        return Err(raw());
    }
    let width = directory.needed(tag::IMAGE_WIDTH, "width")?;
    let height = directory.needed(tag::IMAGE_LENGTH, "height")?;
    if width == 0 || height == 0 {
        return Err(bad(format!("the tiff says that it is {width}x{height} pixels large")));
    }
    check_compression(directory.compression()?)?;
    let photometric = directory.photometric()?;
    let samples = directory.number(tag::SAMPLES_PER_PIXEL)?.unwrap_or(1);
    if samples < photometric.samples() || samples > SAMPLES_MAX {
        return Err(bad(format!("the tiff has {samples} samples for pixels of {}", photometric.samples())));
    }
    if directory.number(tag::FILL_ORDER)?.is_some_and(|order| order != 1) {
        return Err(unsupported("the tiff fills its bytes from their low end (FillOrder 2), which is not supported."));
    }
    for (tag, side) in [(tag::TILE_WIDTH, width), (tag::TILE_LENGTH, height)] {
        if directory.number(tag)?.is_some_and(|tile| tile > side.saturating_add(TILE_BEYOND_MAX)) {
            return Err(bad("the tiff has tiles that are much larger than itself"));
        }
    }
    let bytes = |tag: u16| directory.entry(tag).map_or(0, |entry| u64::from(entry.count));
    limits.check_icc(bytes(tag::ICC_PROFILE))?;
    limits.check_metadata(bytes(tag::XMP) + bytes(tag::IPTC) + bytes(tag::PHOTOSHOP))?;
    let turned = directory.number(tag::ORIENTATION).ok().flatten().and_then(|tag| u16::try_from(tag).ok());
    Ok(Header {
        format: Format::Tiff,
        width,
        height,
        components: photometric.components(),
        bits: directory.bits()? as u8,
        alpha: directory.alpha(),
        frames: 1,
        coefficient_bytes: 0,
        orientation: turned.map_or(Orientation::Normal, Orientation::of_tag),
    })
}

/// Numbers in the byte order of the file.
#[derive(Clone, Copy)]
struct Order<'a> {
    head: Head<'a>,
    big_endian: bool,
}

impl Order<'_> {
    fn u16(self, at: u64) -> Result<u16, Pause> {
        if self.big_endian { self.head.be16(at) } else { self.head.le16(at) }
    }

    fn u32(self, at: u64) -> Result<u32, Pause> {
        if self.big_endian { self.head.be32(at) } else { self.head.le32(at) }
    }

    fn entry(self, at: u64) -> Result<Entry, Pause> {
        const SHORT: u16 = 3;
        const LONG: u16 = 4;
        let (tag, kind, count) = (self.u16(at)?, self.u16(at + 2)?, self.u32(at + 4)?);
        let inline = match (kind, count) {
            (SHORT, 1 | 2) => Some(self.u16(at + 8)?.into()),
            (LONG, 1) => Some(self.u32(at + 8)?),
            _ => None,
        };
        Ok(Entry { tag, at, kind, count, inline })
    }
}
