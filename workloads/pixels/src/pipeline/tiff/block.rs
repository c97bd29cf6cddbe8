//! Strips and tiles that are JPEGs (Technical Note 2): each is put together with the tables that all share, and told what
//! its colours are, which in a JPEG of its own nobody would know.

use std::ops::Range;

use tiff::tags::Tag;

use super::{Blocks, InMemory, bad, broken};
use crate::fault::{Fault, Kind};
use crate::header::tiff::Photometric;
use crate::header::{self, Header, Limits, Progress};

/// Pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Size {
    pub(super) fn of(header: &Header) -> Size {
        Size { width: header.width, height: header.height }
    }
}

const SOI: [u8; 2] = [0xFF, 0xD8];
const EOI: [u8; 2] = [0xFF, 0xD9];

/// The JPEGs of an image.
pub(super) struct Jpegs<'a> {
    file: &'a [u8],
    ranges: Vec<Range<usize>>,
    /// Without the markers around them.
    tables: Vec<u8>,
    photometric: Photometric,
}

impl<'a> Jpegs<'a> {
    pub(super) fn of(decoder: &mut InMemory<'_>, file: &'a [u8], photometric: Photometric) -> Result<Jpegs<'a>, Fault> {
        let (offsets, counts) = match super::is_tiled(decoder) {
            true => (Tag::TileOffsets, Tag::TileByteCounts),
            false => (Tag::StripOffsets, Tag::StripByteCounts),
        };
        let offsets = decoder.get_tag_u64_vec(offsets).map_err(broken)?;
        let counts = decoder.get_tag_u64_vec(counts).map_err(broken)?;
        let ranges = offsets.iter().zip(counts).map(|(&offset, count)| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            start..start.saturating_add(usize::try_from(count).unwrap_or(usize::MAX))
        });
        let tables = decoder.find_tag(Tag::JPEGTables).map_err(broken)?;
        let tables = tables.map(|tables| tables.into_u8_vec().map_err(broken)).transpose()?.unwrap_or_default();
        let tables = tables.strip_prefix(&SOI).unwrap_or(&tables);
        let tables = tables.strip_suffix(&EOI).unwrap_or(tables).to_vec();
        Ok(Jpegs { file, ranges: ranges.collect(), tables, photometric })
    }

    /// A block as a JPEG of its own, which is as large as the image says, or as its tiles are.
    pub(super) fn block(&self, index: u32, visible: Size, blocks: &Blocks) -> Result<(Vec<u8>, Header), Fault> {
        let range = self.ranges.get(index as usize).cloned();
        let stored = range
            .and_then(|range| self.file.get(range))
            .ok_or_else(|| bad("a strip of the tiff lies beyond its end"))?;
        let body = stored.strip_prefix(&SOI).ok_or_else(|| bad("a strip of the tiff is no jpeg"))?;
        let stream = [&SOI[..], self.color_transform(), &self.tables, body].concat();
        let header = match header::read(&stream, Some(stream.len() as u64), &Limits::DEFAULT)? {
            Progress::Header(header) => header,
            Progress::NeedMore { .. } => return Err(bad("a strip of the tiff ends within its header")),
        };
        if header.coefficient_bytes > 0 {
            return Err(Fault::new(
                Kind::Unsupported,
                "the tiff's strips are progressive jpegs, which is not supported",
            ));
        }
        // The last strip may say that it is as high as the others.
        let fits = |side: u32, least: u32, most: u32| (least..=most.next_multiple_of(16)).contains(&side);
        let most = if blocks.is_tiled { blocks.block } else { Size { width: visible.width, ..blocks.block } };
        if !fits(header.width, visible.width, most.width) || !fits(header.height, visible.height, most.height) {
            let (width, height) = (header.width, header.height);
            return Err(Fault::new(
                Kind::BadImage,
                format!(
                    "a strip of the tiff is {width}x{height}, and {}x{} belong there",
                    visible.width, visible.height
                ),
            ));
        }
        Ok((stream, header))
    }

    /// Adobe's segment, by which decoders know whether three samples are RGB.
    fn color_transform(&self) -> &'static [u8] {
        match self.photometric {
            Photometric::Rgb => b"\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0\0",
            Photometric::YCbCr => b"\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0\x01",
            _ => b"",
        }
    }
}
