//! PNG in and out: every colour type, depth and interlacing in; 8 bits, marked sRGB, out.

use std::io::Cursor;

use png::{BitDepth, ColorType, Compression, DecodingError, Info, SrgbRenderingIntent, Transformations};

use super::Watch;
use super::color::{Source, Wide, narrowed};
use super::exif::Exif;
use super::pixels::{Layout, Pixels, Pool};
use crate::fault::{Fault, Kind};
use crate::header::Header;

/// Bytes that the decoder may take beyond the pixels: rows, palette, inflated profile. Beyond: refused.
const DECODER_BYTES_MAX: usize = 64 << 20;

/// Bytes at the peak of [`decode`], the result included.
pub fn decode_bytes(header: &Header) -> u64 {
    let bytes = |layout: Layout| header.pixels() * layout.bytes() as u64;
    // An interlaced image, which the header does not tell from others, is held whole as it is stored; see `read_all`.
    bytes(layout_of(header)) + bytes(Layout::Rgba) * u64::from(header.bits.div_ceil(8)) + (1 << 20)
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
/// [`Kind::BadImage`], [`Kind::TooLarge`], or what `watch` says.
pub fn decode(input: &[u8], header: &Header, pool: &mut Pool, watch: &dyn Watch) -> Result<Pixels, Fault> {
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(input), png::Limits { bytes: DECODER_BYTES_MAX });
    decoder.set_ignore_text_chunk(true);
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(broken)?;
    let (width, height, interlaced) = (reader.info().width, reader.info().height, reader.info().interlaced);
    if (width, height) != (header.width, header.height) {
        return Err(Fault::new(Kind::BadImage, "the png's size is not the one that its header was checked with"));
    }
    let (color, depth) = reader.output_color_type();
    let layout = match color {
        ColorType::Grayscale => Layout::Gray,
        ColorType::Rgb | ColorType::Indexed => Layout::Rgb,
        ColorType::GrayscaleAlpha | ColorType::Rgba => Layout::Rgba,
    };
    let colors = Colors::of(reader.info());
    let is_high_range = colors.numbers.is_some_and(|(_, transfer)| matches!(transfer, 16 | 18));
    let wide = (depth == BitDepth::Sixteen || is_high_range).then(|| Wide::new(colors.numbers, colors.source.as_ref()));
    let to_row = Row { color, sixteen: depth == BitDepth::Sixteen, wide };

    let row_bytes = width as usize * layout.bytes();
    let mut samples = pool.take(row_bytes * height as usize);
    let mut scratch = Vec::new();
    let decoded = if interlaced {
        let mut stored = pool.take(reader.output_buffer_size().unwrap_or(usize::MAX));
        let decoded = watch.check().and_then(|()| reader.next_frame(&mut stored).map_err(broken));
        if decoded.is_ok() {
            let stored_row = stored.len() / height as usize;
            let rows = stored.chunks_exact(stored_row).zip(samples.chunks_exact_mut(row_bytes));
            rows.for_each(|(from, to)| to_row.convert(from, to, &mut scratch));
        }
        pool.give(stored);
        decoded.map(drop)
    } else {
        read_rows(&mut reader, &to_row, &mut samples, row_bytes, watch)
    };
    if let Err(fault) = decoded {
        pool.give(samples);
        return Err(fault);
    }
    let mut pixels = Pixels { width, height, layout, samples };
    // Colour samples of 16 bits have been converted already; a grey has one curve whatever its depth.
    let is_stored = to_row.wide.is_none() || color == ColorType::Grayscale;
    if let Some(to_srgb) = colors.source.filter(|_| is_stored).and_then(|source| source.to_srgb(layout)) {
        to_srgb.apply(&mut pixels, watch)?;
    }
    Ok(pixels)
}

fn read_rows(
    reader: &mut png::Reader<Cursor<&[u8]>>,
    to_row: &Row,
    samples: &mut [u8],
    row_bytes: usize,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let mut scratch = Vec::new();
    for (at, to) in samples.chunks_exact_mut(row_bytes).enumerate() {
        if at % 64 == 0 {
            watch.check()?;
        }
        match reader.next_row().map_err(broken)? {
            Some(row) => to_row.convert(row.data(), to, &mut scratch),
            None => return Err(Fault::new(Kind::BadImage, "the png ends before its last row")),
        }
    }
    Ok(())
}

fn broken(error: DecodingError) -> Fault {
    match error {
        DecodingError::LimitsExceeded => Fault::new(
            Kind::TooLarge,
            format!("the png needs more than {DECODER_BYTES_MAX} bytes beside its pixels; its metadata are too large"),
        ),
        error => Fault::new(Kind::BadImage, format!("the png cannot be decoded: {error}")),
    }
}

/// What the chunks say of colours, the most exact first (PNG third edition section 4.3).
struct Colors {
    numbers: Option<(u16, u16)>,
    source: Option<Source>,
}

impl Colors {
    fn of(info: &Info<'_>) -> Colors {
        if let Some(points) = info.coding_independent_code_points
            && points.matrix_coefficients == 0
        {
            let (primaries, transfer) = (points.color_primaries.into(), points.transfer_function.into());
            return Colors { numbers: Some((primaries, transfer)), source: Source::of_numbers(primaries, transfer) };
        }
        if let Some(profile) = &info.icc_profile {
            return Colors { numbers: None, source: Source::of_icc(profile) };
        }
        let source = match (info.srgb, info.gama_chunk) {
            (None, Some(gamma)) => {
                let point = |(x, y): (png::ScaledFloat, png::ScaledFloat)| (x.into_value(), y.into_value());
                let points = info.chrm_chunk.map(|chrm| [chrm.white, chrm.red, chrm.green, chrm.blue].map(point));
                Source::of_gamma(1.0 / gamma.into_value(), points)
            }
            _ => None,
        };
        Colors { numbers: None, source }
    }
}

/// How a row as the decoder gives it becomes one of ours.
struct Row {
    color: ColorType,
    sixteen: bool,
    wide: Option<Wide>,
}

impl Row {
    fn convert(&self, from: &[u8], to: &mut [u8], scratch: &mut Vec<u16>) {
        match (&self.wide, self.color) {
            (None, ColorType::GrayscaleAlpha) => {
                for (from, to) in from.as_chunks::<2>().0.iter().zip(to.as_chunks_mut::<4>().0) {
                    *to = [from[0], from[0], from[0], from[1]];
                }
            }
            (None, _) => to.copy_from_slice(&from[..to.len()]),
            (Some(wide), color) => {
                scratch.clear();
                match self.sixteen {
                    true => scratch.extend(from.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair))),
                    false => scratch.extend(from.iter().map(|&sample| u16::from(sample) * 257)),
                }
                match color {
                    ColorType::Grayscale => to.iter_mut().zip(&*scratch).for_each(|(to, from)| *to = narrowed(*from)),
                    ColorType::Rgb | ColorType::Indexed => wide.convert(scratch, to),
                    ColorType::GrayscaleAlpha => {
                        let pixels = scratch.as_chunks::<2>().0.iter();
                        wide_with_alpha(wide, pixels.map(|pixel| [pixel[0], pixel[0], pixel[0], pixel[1]]), to);
                    }
                    ColorType::Rgba => wide_with_alpha(wide, scratch.as_chunks::<4>().0.iter().copied(), to),
                }
            }
        }
    }
}

/// Converts the colours of pixels beside their alpha.
fn wide_with_alpha(wide: &Wide, pixels: impl Iterator<Item = [u16; 4]> + Clone, to: &mut [u8]) {
    let mut colors: Vec<u16> = pixels.clone().flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    let mut rgb = vec![0; colors.len()];
    wide.convert(&mut colors, &mut rgb);
    let all = to.as_chunks_mut::<4>().0.iter_mut().zip(rgb.as_chunks::<3>().0).zip(pixels);
    all.for_each(|((to, rgb), pixel)| *to = [rgb[0], rgb[1], rgb[2], narrowed(pixel[3])]);
}

/// Encodes, lossless whatever the quality. `rights` is a small EXIF of [`Exif::rights`].
///
/// # Errors
/// [`Kind::Memory`]: the encoder failed, which it does only without memory.
pub fn encode(pixels: &Pixels, rights: Option<&[u8]>) -> Result<Vec<u8>, Fault> {
    let failed = |error: png::EncodingError| Fault::new(Kind::Memory, format!("the png encoder failed: {error}"));
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, pixels.width, pixels.height);
    encoder.set_color(match pixels.layout {
        Layout::Gray => ColorType::Grayscale,
        Layout::Rgb => ColorType::Rgb,
        Layout::Rgba => ColorType::Rgba,
    });
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Balanced);
    encoder.set_source_srgb(SrgbRenderingIntent::Perceptual);
    let mut writer = encoder.write_header().map_err(failed)?;
    if let Some(rights) = rights {
        writer.write_chunk(png::chunk::eXIf, rights).map_err(failed)?;
    }
    writer.write_image_data(&pixels.samples).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

/// Whose image it is.
pub fn exif(input: &[u8]) -> Exif {
    let mut rest = input.get(8..).unwrap_or(&[]);
    while let Some((head, behind)) = rest.split_first_chunk::<8>() {
        let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if &head[4..] == b"eXIf" {
            return behind.get(..len).map(Exif::read).unwrap_or_default();
        }
        rest = behind.get(len.saturating_add(4)..).unwrap_or(&[]);
    }
    Exif::default()
}

#[cfg(test)]
mod tests;
