//! TIFF in: the first page, of grey, colours, a palette or inks, in strips or tiles, 1 to 16 bits.
//!
//! A block (strip or tile) after the other is decoded and converted, so that only one is held beside the pixels. JPEG's
//! blocks go to libjpeg-turbo (`block.rs`), all others to the `tiff` crate.

mod block;
mod palette;
mod row;

use tiff::TiffError;
use tiff::decoder::{BufferLayoutPreference, ChunkType, Decoder};
use tiff::tags::SampleFormat;

use super::Watch;
use super::color::Source;
use super::jpeg::Shrink;
use super::picture::Picture;
use super::pixels::{Layout, Pixels, Pool};
use crate::fault::{Fault, Kind};
use crate::header::tiff::{Directory, JPEG, Photometric, tag};
use crate::header::{Head, Header};
use block::{Jpegs, Size};
use palette::{Palette, Patched};
use row::{Alpha, Colors, Row};

/// Bytes at the peak of [`decode`], the result included: a block may be the whole image.
pub fn decode_bytes(header: &Header) -> u64 {
    let stored = (u64::from(header.components) + u64::from(header.alpha)) * u64::from(header.bits.div_ceil(8));
    header.pixels() * (layout_of(header).bytes() as u64 + stored) + (1 << 20)
}

fn layout_of(header: &Header) -> Layout {
    match (header.components, header.alpha) {
        (_, true) => Layout::Rgba,
        (1, false) => Layout::Gray,
        _ => Layout::Rgb,
    }
}

/// Decodes to sRGB as it is stored, not turned.
///
/// # Errors
/// [`Kind::BadImage`], [`Kind::Unsupported`], or what `watch` says.
pub fn decode(input: &[u8], header: &Header, pool: &mut Pool, watch: &dyn Watch) -> Result<Pixels, Fault> {
    // It was read when the header was; what cannot be read now has changed since.
    let directory = Directory::read(Head::of(input)).map_err(|_| bad("the tiff's directory cannot be read"))?;
    let photometric = directory.photometric().map_err(|_| bad("the tiff does not say what its colours are"))?;
    let is_jpeg = directory.compression().is_ok_and(|compression| compression == JPEG);
    let profile = directory.bytes(input, tag::ICC_PROFILE);
    let mut decoder = Decoder::new(Patched::of(input, &directory, photometric)).map_err(broken)?;
    if decoder.dimensions().map_err(broken)? != (header.width, header.height) {
        return Err(bad("the tiff's size is not the one that its header was checked with"));
    }
    let layout = layout_of(header);
    let row_bytes = header.width as usize * layout.bytes();
    let mut samples = pool.take(row_bytes * header.height as usize);
    let (width, height) = decoder.chunk_dimensions();
    let blocks = Blocks { image: Size::of(header), block: Size { width, height }, is_tiled: is_tiled(&decoder) };
    let mut target = Target { samples: &mut samples, row_bytes, layout };
    let painted = if is_jpeg {
        let jpegs = Jpegs::of(&mut decoder, input, photometric);
        jpegs.and_then(|jpegs| paint_jpegs(&jpegs, profile, &blocks, &mut target, pool, watch))
    } else {
        let colors = match photometric {
            Photometric::WhiteIsZero | Photometric::BlackIsZero => Ok(Colors::Gray),
            Photometric::Rgb => Ok(Colors::rgb(profile)),
            Photometric::Inks => Ok(Colors::inks(profile)),
            Photometric::Palette => Palette::of(input, &directory).map(Colors::Palette),
            Photometric::YCbCr => Err(Fault::new(
                Kind::Unsupported,
                "the tiff has YCbCr colours that are not JPEG, which is not supported. Save it in RGB.",
            )),
        };
        colors.and_then(|colors| paint(&mut decoder, &directory, colors, &blocks, &mut target, pool, watch))
    };
    let mut pixels = Pixels { width: header.width, height: header.height, layout, samples };
    if let Err(fault) = painted {
        pool.give(pixels.samples);
        return Err(fault);
    }
    // Colours of 16 bits and inks have been converted already; a grey has one curve whatever its depth.
    let is_stored = photometric != Photometric::Inks && (header.components == 1 || !is_wide(&mut decoder));
    if let Some(to_srgb) = profile.filter(|_| is_stored).and_then(Source::of_icc).and_then(|it| it.to_srgb(layout)) {
        to_srgb.apply(&mut pixels, watch)?;
    }
    Ok(pixels)
}

type InMemory<'a> = Decoder<Patched<'a>>;

fn is_tiled(decoder: &InMemory<'_>) -> bool {
    decoder.get_chunk_type() == ChunkType::Tile
}

fn is_wide(decoder: &mut InMemory<'_>) -> bool {
    decoder.colortype().is_ok_and(|color| color.bit_depth() == 16)
}

/// How an image is cut.
struct Blocks {
    image: Size,
    block: Size,
    is_tiled: bool,
}

impl Blocks {
    fn across(&self) -> u32 {
        self.image.width.div_ceil(self.block.width.max(1))
    }

    /// How many there are of a plane. A file has offsets for as many.
    fn count(&self) -> u32 {
        self.across().saturating_mul(self.image.height.div_ceil(self.block.height.max(1)))
    }

    /// From the left to the right and from the top to the bottom: its number, where it begins, and what the image has of it.
    fn each(&self) -> impl Iterator<Item = (u32, (u32, u32), Size)> {
        let Size { width, height } = self.block;
        let across = self.across();
        (0..self.count()).map(move |index| {
            let (left, top) = (index % across * width, index / across * height);
            let visible =
                Size { width: width.min(self.image.width - left), height: height.min(self.image.height - top) };
            (index, (left, top), visible)
        })
    }
}

/// The image's own pixels, of which blocks are parts.
struct Target<'a> {
    samples: &'a mut [u8],
    row_bytes: usize,
    layout: Layout,
}

impl Target<'_> {
    /// The places of a block's rows.
    fn rows(&mut self, (left, top): (u32, u32), size: Size) -> impl Iterator<Item = &mut [u8]> {
        let (from, len) = (left as usize * self.layout.bytes(), size.width as usize * self.layout.bytes());
        let rows = self.samples.chunks_exact_mut(self.row_bytes).skip(top as usize).take(size.height as usize);
        rows.map(move |row| &mut row[from..from + len])
    }
}

fn paint(
    decoder: &mut InMemory<'_>,
    directory: &Directory,
    colors: Colors,
    blocks: &Blocks,
    target: &mut Target<'_>,
    pool: &mut Pool,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let color = decoder.colortype().map_err(broken)?;
    let alpha = match directory.extra_sample() {
        Some(1) => Alpha::Premultiplied,
        Some(2) => Alpha::Straight,
        _ => Alpha::None,
    };
    let row = Row::new(colors, alpha, color.num_samples().into(), color.bit_depth(), target.layout)?;
    let planes = if directory.is_in_planes() { u32::from(color.num_samples()) } else { 1 };
    for (index, place, size) in blocks.each() {
        watch.check()?;
        let chunks = (0..planes).map(|plane| index + plane * blocks.count());
        let layouts = chunks.clone().map(|chunk| decoder.image_chunk_buffer_layout(chunk).map_err(broken));
        let geometry = Stored::of(&layouts.collect::<Result<Vec<_>, Fault>>()?, size)?;
        let mut block = pool.take(geometry.plane_bytes * geometry.planes);
        let read = chunks
            .zip(block.chunks_exact_mut(geometry.plane_bytes))
            .try_for_each(|(chunk, bytes)| decoder.read_chunk_bytes(chunk, bytes).map_err(broken));
        if read.is_ok() {
            let mut scratch = row::Scratch::default();
            for (y, to) in target.rows(place, size).enumerate() {
                row.convert(geometry.row(&block, y, &row, &mut scratch.joined), to, &mut scratch.row);
            }
        }
        pool.give(block);
        read?;
    }
    Ok(())
}

/// How a decoded block lies in its buffer.
struct Stored {
    row_bytes: usize,
    planes: usize,
    plane_bytes: usize,
    width: usize,
}

impl Stored {
    /// Each plane is a block of its own, and the crate decodes more rows of some than are visible.
    fn of(planes: &[BufferLayoutPreference], size: Size) -> Result<Stored, Fault> {
        if planes.iter().any(|plane| plane.sample_format != SampleFormat::Uint) {
            let what =
                "the tiff's samples are signed or floating point, which is not supported. Save it with 8 or 16 bits.";
            return Err(Fault::new(Kind::Unsupported, what));
        }
        let row_bytes = planes.iter().filter_map(|plane| plane.row_stride).max().map_or(0, |bytes| bytes.get());
        let is_whole = |plane: &BufferLayoutPreference| {
            plane.row_stride.is_some_and(|bytes| bytes.get() == row_bytes)
                && plane.len >= row_bytes * size.height as usize
        };
        if !planes.iter().all(is_whole) {
            return Err(bad("the tiff's rows do not fit into its strips"));
        }
        let plane_bytes = planes.iter().map(|plane| plane.len).max().unwrap_or(0);
        Ok(Stored { row_bytes, planes: planes.len(), plane_bytes, width: size.width as usize })
    }

    /// A row with all samples of a pixel beside each other.
    fn row<'a>(&self, block: &'a [u8], y: usize, row: &Row, joined: &'a mut Vec<u8>) -> &'a [u8] {
        let of_plane = |plane: usize| &block[plane * self.plane_bytes + y * self.row_bytes..][..self.row_bytes];
        if self.planes == 1 {
            return of_plane(0);
        }
        let bytes = row.sample_bytes();
        joined.resize(self.width * self.planes * bytes, 0);
        for plane in 0..self.planes {
            let from = of_plane(plane).chunks_exact(bytes);
            let to = joined.chunks_exact_mut(self.planes * bytes).map(|pixel| &mut pixel[plane * bytes..][..bytes]);
            to.zip(from).for_each(|(to, from)| to.copy_from_slice(from));
        }
        joined
    }
}

fn paint_jpegs(
    jpegs: &Jpegs<'_>,
    profile: Option<&[u8]>,
    blocks: &Blocks,
    target: &mut Target<'_>,
    pool: &mut Pool,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let wanted = target.layout;
    for (index, place, size) in blocks.each() {
        watch.check()?;
        let (stream, header) = jpegs.block(index, size, blocks)?;
        let pixels = match super::jpeg::decode(&stream, &header, Shrink::Whole, profile, pool, watch)? {
            Picture::Pixels(pixels) => pixels,
            Picture::Planes(planes) => {
                let pixels = planes.to_rgb(pool);
                pool.give(planes.samples);
                pixels
            }
        };
        let row_bytes = pixels.width as usize * pixels.layout.bytes();
        let from = pixels.samples.chunks_exact(row_bytes);
        for (to, from) in target.rows(place, size).zip(from) {
            row::laid_out(from, pixels.layout, to, wanted);
        }
        pool.give(pixels.samples);
    }
    Ok(())
}

fn bad(what: &str) -> Fault {
    Fault::new(Kind::BadImage, what)
}

fn broken(error: TiffError) -> Fault {
    match error {
        TiffError::UnsupportedError(what) => {
            Fault::new(Kind::Unsupported, format!("the tiff is of a kind that is not supported: {what}"))
        }
        TiffError::LimitsExceeded => Fault::new(Kind::TooLarge, "the tiff's fields or strips are too large to be read"),
        other => Fault::new(Kind::BadImage, format!("the tiff cannot be decoded: {other}")),
    }
}

#[cfg(test)]
mod tests;
