//! AVIF in and out: rav1d decodes AV1, rav1e encodes it, both in one thread.
//!
//! ```text
//!   boxes ─► AV1 of one image, or of each tile of a grid ─► planes of luma and chroma ─► red, green, blue ─► sRGB
//!                                                     alpha, another image ─► beside them
//! ```

mod sequence;

use std::ops::Range;

use re_rav1d::dav1d::{Decoder, Error, Picture, PixelLayout, PlanarImageComponent, Settings, pixel};
use rgb::FromSlice as _;

use super::Watch;
use super::color::{Source, Wide, narrowed};
use super::pixels::{Layout, Pixels, Pool};
use crate::fault::{Fault, Kind};
use crate::header::{Avif, Header, Item};

/// The quality when none is asked for.
pub const QUALITY: u8 = 65;
/// From 1, slow and small, to 10: here it takes about as long as a large JPEG takes to decode.
const SPEED: u8 = 9;
/// Pixels of either side of an output: the format's profiles hold no more.
pub const SIDE_MAX: u32 = 16_384;

/// Bytes at the peak of [`decode`], the result included: the decoder's planes and references, and ours.
pub fn decode_bytes(header: &Header) -> u64 {
    let planes = header.pixels() * 3 * u64::from(header.bits.div_ceil(8));
    let alpha = if header.alpha { header.pixels() * u64::from(header.bits.div_ceil(8)) } else { 0 };
    header.pixels() * 4 + 2 * planes + alpha + (16 << 20)
}

/// Decodes to sRGB as it is stored, not turned.
///
/// # Errors
/// [`Kind::BadImage`], [`Kind::Unsupported`], or what `watch` says.
pub fn decode(input: &[u8], header: &Header, pool: &mut Pool, watch: &dyn Watch) -> Result<Pixels, Fault> {
    let avif = Avif::of(input).ok_or_else(|| bad("its boxes cannot be read"))?;
    if (avif.color.width, avif.color.height) != (header.width, header.height) {
        return Err(bad("its size is not the one that its header was checked with"));
    }
    let layout = match (avif.color.monochrome, &avif.alpha) {
        (_, Some(_)) => Layout::Rgba,
        (true, None) => Layout::Gray,
        (false, None) => Layout::Rgb,
    };
    let len = header.width as usize * header.height as usize * layout.bytes();
    let mut pixels = Pixels { width: header.width, height: header.height, layout, samples: pool.take(len) };
    match paint(input, &avif, &mut pixels, watch) {
        Ok(()) => Ok(pixels),
        Err(fault) => {
            pool.give(pixels.samples);
            Err(fault)
        }
    }
}

fn paint(input: &[u8], avif: &Avif, pixels: &mut Pixels, watch: &dyn Watch) -> Result<(), Fault> {
    let icc = avif.colors.icc.clone().and_then(|range| input.get(range));
    let mut source = icc.and_then(Source::of_icc);
    let mut to_srgb_later = false;
    each_tile(input, &avif.color, watch, |picture, stream, left, top| {
        let colors = Numbers::of(stream, picture.pixel_layout(), avif)?;
        if icc.is_none() && source.is_none() {
            source = Source::of_numbers(colors.primaries, colors.transfer);
        }
        let is_high_range = icc.is_none() && matches!(colors.transfer, 16 | 18);
        // A grey has no primaries to convert, and eight bits are converted all at once.
        let wide = (pixels.layout != Layout::Gray && (picture.bit_depth() > 8 || is_high_range))
            .then(|| Wide::new(icc.is_none().then_some((colors.primaries, colors.transfer)), source.as_ref()));
        to_srgb_later = wide.is_none();
        paint_colors(picture, &colors, wide.as_ref(), pixels, left, top, watch)
    })?;
    if let Some(alpha) = &avif.alpha {
        each_tile(input, alpha, watch, |picture, _, left, top| {
            paint_alpha(picture, pixels, left, top);
            Ok(())
        })?;
        if avif.premultiplied {
            unpremultiply(&mut pixels.samples);
        }
    }
    match source.and_then(|source| source.to_srgb(pixels.layout)) {
        Some(to_srgb) if to_srgb_later => to_srgb.apply(pixels, watch),
        _ => Ok(()),
    }
}

fn bad(what: &str) -> Fault {
    Fault::new(Kind::BadImage, format!("the avif cannot be decoded: {what}"))
}

/// Decodes an image or each tile of a grid, and hands it over with its stream and its place.
fn each_tile(
    input: &[u8],
    item: &Item,
    watch: &dyn Watch,
    mut paint: impl FnMut(&Picture, &[u8], u32, u32) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let columns = match &item.grid {
        None => 1,
        Some(ranges) => grid_columns(&bytes_of(input, ranges)?, item)?,
    };
    let mut size = None;
    for (at, ranges) in item.tiles.iter().enumerate() {
        watch.check()?;
        let stream = bytes_of(input, ranges)?;
        let picture = decode_one(stream.clone(), u64::from(item.width) * u64::from(item.height))?;
        let (width, height) = *size.get_or_insert((picture.width(), picture.height()));
        let rows = item.tiles.len() as u64 / u64::from(columns);
        let covers = u64::from(width) * u64::from(columns) >= item.width.into()
            && u64::from(height) * rows >= item.height.into();
        let is_whole = item.grid.is_some() || (width, height) == (item.width, item.height);
        if (picture.width(), picture.height()) != (width, height) || !covers || !is_whole {
            return Err(bad("its AV1 is of another size than its header says"));
        }
        let (column, row) = (at as u32 % columns, at as u32 / columns);
        let (left, top) = (u64::from(column) * u64::from(width), u64::from(row) * u64::from(height));
        if left < item.width.into() && top < item.height.into() {
            paint(&picture, &stream, left as u32, top as u32)?;
        }
    }
    Ok(())
}

/// The columns of a grid (ISO/IEC 23008-12 section 6.6.2.3.2).
fn grid_columns(description: &[u8], item: &Item) -> Result<u32, Fault> {
    let &[0, flags, rows, columns, ref size @ ..] = description else { return Err(bad("its grid is not described")) };
    let number = |bytes: Option<&[u8]>| bytes.map(|bytes| bytes.iter().fold(0, |n, &byte| n << 8 | u32::from(byte)));
    let len = if flags & 1 == 1 { 4 } else { 2 };
    let (width, height) = (number(size.get(..len)), number(size.get(len..2 * len)));
    let (rows, columns) = (usize::from(rows) + 1, usize::from(columns) + 1);
    if (width, height) != (Some(item.width), Some(item.height)) || rows * columns != item.tiles.len() {
        return Err(bad("its grid is another one than its header says"));
    }
    Ok(columns as u32)
}

/// What lies in these ranges of the file, together at most as long as the file.
fn bytes_of(input: &[u8], ranges: &[Range<u64>]) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    for range in ranges {
        let end = range.end.min(input.len() as u64);
        let part = usize::try_from(range.start).ok().and_then(|start| input.get(start..end as usize));
        let Some(part) = part.filter(|part| bytes.len() + part.len() <= input.len()) else {
            return Err(bad("it is cut off, or its pieces do not lie in the file"));
        };
        bytes.extend_from_slice(part);
    }
    Ok(bytes)
}

/// The first picture of a stream of AV1. `pixels` is how many it may have, with what a tile of a grid stands over.
fn decode_one(bytes: Vec<u8>, pixels: u64) -> Result<Picture, Fault> {
    if bytes.is_empty() {
        return Err(bad("it has no AV1"));
    }
    let mut settings = Settings::new();
    settings.set_n_threads(1);
    settings.set_max_frame_delay(1);
    settings.set_all_layers(false);
    settings.set_frame_size_limit(u32::try_from(pixels.saturating_mul(2)).unwrap_or(u32::MAX).max(1 << 16));
    let failed = |error: Error| bad(&format!("its AV1 is broken ({error})"));
    let mut decoder = Decoder::with_settings(&settings).map_err(failed)?;
    let mut sent = decoder.send_data(bytes, None, None, None);
    loop {
        match decoder.get_picture() {
            Ok(picture) => return Ok(picture),
            Err(Error::Again) if matches!(sent, Err(Error::Again)) => sent = decoder.send_pending_data(),
            Err(Error::Again) => return Err(sent.err().map_or_else(|| bad("its AV1 has no picture"), failed)),
            Err(error) => return Err(failed(error)),
        }
        if let Err(error) = &sent
            && !error.is_again()
        {
            return Err(failed(*error));
        }
    }
}

/// How samples are to be read (ITU-T H.273). What the boxes say goes before what the stream says.
#[derive(Clone, Copy)]
struct Numbers {
    primaries: u16,
    transfer: u16,
    matrix: Matrix,
    full: bool,
}

#[derive(Clone, Copy)]
enum Matrix {
    /// Red, green and blue themselves.
    Identity,
    /// Shares of red and blue in luma.
    Luma(f32, f32),
    /// Differences of green and orange.
    Cgco,
}

impl Numbers {
    fn of(stream: &[u8], layout: PixelLayout, avif: &Avif) -> Result<Numbers, Fault> {
        let said = avif.colors.nclx.or_else(|| sequence::colors(stream));
        let (primaries, transfer, matrix, full) = said.unwrap_or((2, 2, 2, false));
        let matrix = match matrix {
            0 if layout == PixelLayout::I444 => Matrix::Identity,
            1 => Matrix::Luma(0.2126, 0.0722),
            4 => Matrix::Luma(0.30, 0.11),
            // Unspecified is BT.601, as other decoders have it.
            0 | 2 | 5 | 6 => Matrix::Luma(0.299, 0.114),
            7 => Matrix::Luma(0.212, 0.087),
            8 => Matrix::Cgco,
            9 => Matrix::Luma(0.2627, 0.0593),
            _ => {
                let detail = format!("this AVIF has colours of a rare kind (matrix coefficients {matrix} of H.273)");
                return Err(Fault::new(Kind::Unsupported, detail));
            }
        };
        Ok(Numbers { primaries, transfer, matrix, full })
    }
}

/// A plane's samples, whatever their width.
struct Samples<'a> {
    bytes: &'a [u8],
    stride: usize,
    wide: bool,
}

impl Samples<'_> {
    fn row(&self, y: usize, to: &mut [f32]) {
        let row = self.bytes.get(y * self.stride..).unwrap_or(&[]);
        match self.wide {
            false => to.iter_mut().zip(row).for_each(|(to, &from)| *to = from.into()),
            true => {
                let row = row.as_chunks::<2>().0;
                to.iter_mut().zip(row).for_each(|(to, from)| *to = u16::from_ne_bytes(*from).into());
            }
        }
    }
}

/// Brings stored samples to 0..1 for luma and alpha and -0.5..0.5 for chroma.
#[derive(Clone, Copy)]
struct Scale {
    luma: (f32, f32),
    chroma: (f32, f32),
}

impl Scale {
    fn of(bits: u32, full: bool) -> Scale {
        let (one, most) = ((1u32 << (bits - 8)) as f32, ((1u32 << bits) - 1) as f32);
        let middle = (1u32 << (bits - 1)) as f32;
        match full {
            true => Scale { luma: (0.0, 1.0 / most), chroma: (middle, 1.0 / most) },
            false => Scale { luma: (16.0 * one, 1.0 / (219.0 * one)), chroma: (middle, 1.0 / (224.0 * one)) },
        }
    }
}

fn bits_of(picture: &Picture) -> u32 {
    picture.bits_per_component().map_or(8, |bits| bits.0 as u32)
}

fn paint_colors(
    picture: &Picture,
    numbers: &Numbers,
    wide: Option<&Wide>,
    pixels: &mut Pixels,
    left: u32,
    top: u32,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let range = Scale::of(bits_of(picture), numbers.full);
    let is_wide = picture.bit_depth() > 8;
    let plane = |component| picture.plane(component);
    let planes = match picture.pixel_layout() {
        PixelLayout::I400 => vec![plane(PlanarImageComponent::Y)],
        _ => [PlanarImageComponent::Y, PlanarImageComponent::U, PlanarImageComponent::V].map(plane).to_vec(),
    };
    let stride =
        |at: usize| picture.stride(if at == 0 { PlanarImageComponent::Y } else { PlanarImageComponent::U }) as usize;
    let samples: Vec<Samples<'_>> = planes
        .iter()
        .enumerate()
        .map(|(at, plane)| Samples { bytes: plane, stride: stride(at), wide: is_wide })
        .collect();
    let (halved_x, halved_y) = match picture.pixel_layout() {
        PixelLayout::I420 => (true, true),
        PixelLayout::I422 => (true, false),
        PixelLayout::I400 | PixelLayout::I444 => (false, false),
    };
    let columns = picture.width().min(pixels.width - left) as usize;
    let rows = picture.height().min(pixels.height - top) as usize;
    let chroma = Chroma {
        width: if halved_x { picture.width().div_ceil(2) } else { picture.width() } as usize,
        height: if halved_y { picture.height().div_ceil(2) } else { picture.height() } as usize,
        halved_x,
        halved_y,
    };
    let mut line = Line { luma: vec![0.0; columns], u: vec![0.0; columns], v: vec![0.0; columns] };
    let mut scratch = [vec![0.0; chroma.width], vec![0.0; chroma.width]];
    let (mut stored, mut rgb) = (vec![0u16; columns * 3], vec![0u8; columns * 3]);
    for y in 0..rows {
        if y % 64 == 0 {
            watch.check()?;
        }
        samples[0].row(y, &mut line.luma);
        line.luma.iter_mut().for_each(|luma| *luma = (*luma - range.luma.0) * range.luma.1);
        if let [_, u, v] = &samples[..] {
            chroma.row(u, y, &mut scratch, &mut line.u);
            chroma.row(v, y, &mut scratch, &mut line.v);
            let center = match numbers.matrix {
                Matrix::Identity => range.luma,
                _ => range.chroma,
            };
            let both = line.u.iter_mut().chain(line.v.iter_mut());
            both.for_each(|sample| *sample = (*sample - center.0) * center.1);
        }
        let row_bytes = pixels.width as usize * pixels.layout.bytes();
        let row = &mut pixels.samples[(top as usize + y) * row_bytes..][..row_bytes];
        let row = &mut row[left as usize * pixels.layout.bytes()..][..columns * pixels.layout.bytes()];
        if pixels.layout == Layout::Gray {
            row.iter_mut().zip(&line.luma).for_each(|(to, luma)| *to = (luma * 255.0 + 0.5) as u8);
            continue;
        }
        match wide {
            Some(wide) => {
                line.colors(numbers.matrix, samples.len() == 1, |at, color| {
                    stored[at * 3..][..3].copy_from_slice(&color.map(|sample| (sample * 65535.0 + 0.5) as u16));
                });
                wide.convert(&mut stored, &mut rgb);
            }
            None => line.colors(numbers.matrix, samples.len() == 1, |at, color| {
                rgb[at * 3..][..3].copy_from_slice(&color.map(|sample| (sample * 255.0 + 0.5) as u8));
            }),
        }
        let pixel = pixels.layout.bytes();
        let colors = row.chunks_exact_mut(pixel).zip(rgb.as_chunks::<3>().0);
        colors.for_each(|(to, rgb)| to[..3].copy_from_slice(rgb));
    }
    Ok(())
}

/// One row of a tile, each sample in its range.
struct Line {
    luma: Vec<f32>,
    u: Vec<f32>,
    v: Vec<f32>,
}

impl Line {
    /// Red, green and blue, of which parts may lie outside 0..1: conversion to whole numbers saturates.
    fn colors(&self, matrix: Matrix, grey: bool, mut each: impl FnMut(usize, [f32; 3])) {
        let pixels = self.luma.iter().zip(&self.u).zip(&self.v).map(|((y, u), v)| (*y, *u, *v)).enumerate();
        match matrix {
            _ if grey => pixels.for_each(|(at, (y, ..))| each(at, [y; 3])),
            Matrix::Identity => pixels.for_each(|(at, (green, blue, red))| each(at, [red, green, blue])),
            Matrix::Cgco => pixels.for_each(|(at, (y, g, o))| each(at, [y - g + o, y + g, y - g - o])),
            Matrix::Luma(red, blue) => {
                let green = 1.0 - red - blue;
                let (to_red, to_blue) = (2.0 * (1.0 - red), 2.0 * (1.0 - blue));
                let (of_u, of_v) = (blue * to_blue / green, red * to_red / green);
                pixels.for_each(|(at, (y, u, v))| each(at, [y + to_red * v, y - of_u * u - of_v * v, y + to_blue * u]));
            }
        }
    }
}

/// Chroma that may have half the samples of luma: each lies in the middle of the pixels that share it, and between them
/// is drawn a line.
struct Chroma {
    width: usize,
    height: usize,
    halved_x: bool,
    halved_y: bool,
}

impl Chroma {
    fn row(&self, samples: &Samples<'_>, y: usize, scratch: &mut [Vec<f32>; 2], to: &mut [f32]) {
        let [near, far] = scratch;
        if self.halved_y {
            let at = y / 2;
            let other = if y.is_multiple_of(2) { at.saturating_sub(1) } else { (at + 1).min(self.height - 1) };
            samples.row(at, near);
            samples.row(other, far);
            near.iter_mut().zip(&*far).for_each(|(near, far)| *near = *near * 0.75 + far * 0.25);
        } else {
            samples.row(y, near);
        }
        if !self.halved_x {
            to.copy_from_slice(&near[..to.len()]);
            return;
        }
        for (x, to) in to.iter_mut().enumerate() {
            let at = x / 2;
            let other = if x.is_multiple_of(2) { at.saturating_sub(1) } else { (at + 1).min(self.width - 1) };
            *to = near[at] * 0.75 + near[other] * 0.25;
        }
    }
}

fn paint_alpha(picture: &Picture, pixels: &mut Pixels, left: u32, top: u32) {
    let full = picture.color_range() == pixel::YUVRange::Full;
    let range = Scale::of(bits_of(picture), full).luma;
    let plane = picture.plane(PlanarImageComponent::Y);
    let samples = Samples {
        bytes: &plane,
        stride: picture.stride(PlanarImageComponent::Y) as usize,
        wide: picture.bit_depth() > 8,
    };
    let columns = picture.width().min(pixels.width - left) as usize;
    let rows = picture.height().min(pixels.height - top) as usize;
    let mut line = vec![0.0; columns];
    for y in 0..rows {
        samples.row(y, &mut line);
        let row = &mut pixels.samples[((top as usize + y) * pixels.width as usize + left as usize) * 4..];
        for (pixel, alpha) in row.chunks_exact_mut(4).zip(&line) {
            pixel[3] = narrowed(((alpha - range.0) * range.1 * 65535.0 + 0.5) as u16);
        }
    }
}

fn unpremultiply(samples: &mut [u8]) {
    for pixel in samples.as_chunks_mut::<4>().0 {
        let alpha = u32::from(pixel[3]).max(1);
        pixel[..3]
            .iter_mut()
            .for_each(|sample| *sample = ((u32::from(*sample) * 255 + alpha / 2) / alpha).min(255) as u8);
    }
}

/// Encodes, lossy, in 8 bits, in this thread. `rights` is a small EXIF of [`Exif::rights`](super::exif::Exif::rights).
///
/// # Errors
/// [`Kind::BadRequest`]: it is larger than [`SIDE_MAX`]. [`Kind::Memory`]: the encoder failed, which it does without
/// memory.
pub fn encode(pixels: &Pixels, quality: Option<u8>, rights: Option<&[u8]>) -> Result<Vec<u8>, Fault> {
    let (width, height) = (pixels.width, pixels.height);
    super::check_sides("an AVIF", (width, height), SIDE_MAX)?;
    let quality = f32::from(quality.unwrap_or(QUALITY).clamp(1, 100));
    let mut encoder = ravif::Encoder::new()
        .with_quality(quality)
        .with_alpha_quality(quality)
        .with_speed(SPEED)
        .with_num_threads(Some(1))
        .with_bit_depth(ravif::BitDepth::Eight);
    if let Some(rights) = rights {
        // The item begins with the offset of the TIFF in what follows (23008-12 annex A.2.1).
        encoder = encoder.with_exif([&[0; 4], rights].concat());
    }
    let (columns, rows) = (width as usize, height as usize);
    let encoded = match pixels.layout {
        Layout::Gray => {
            let grey: Vec<rgb::RGB8> = pixels.samples.iter().map(|&sample| rgb::RGB8::from([sample; 3])).collect();
            encoder.encode_rgb(ravif::Img::new(&grey, columns, rows))
        }
        Layout::Rgb => encoder.encode_rgb(ravif::Img::new(pixels.samples.as_rgb(), columns, rows)),
        Layout::Rgba => encoder.encode_rgba(ravif::Img::new(pixels.samples.as_rgba(), columns, rows)),
    };
    encoded
        .map(|encoded| encoded.avif_file)
        .map_err(|error| Fault::new(Kind::Memory, format!("the avif encoder failed: {error}")))
}

#[cfg(test)]
mod tests;
