//! JPEG (ITU-T T.81) by libjpeg-turbo: decoded into planes or pixels, shrunk on the way, and encoded from either.
//!
//! A shrink to 4/8, 2/8 or 1/8 leaves out the finer part of each block's DCT. Other eighths exist and are slower than
//! none. Entropy decoding is most of the work; at 1/8 half of that is saved by `eighth.rs`.

mod eighth;

use turbojpeg::{
    Colorspace, Compressor, DecompressHeader, Decompressor, Error, Image, OutputBuf, PixelFormat, ScalingFactor,
    Subsamp, YuvImage,
};

use super::Watch;
use super::color::Inks;
use super::picture::{Picture, Planes};
use super::pixels::{Layout, Pixels, Pool};
use crate::fault::{Fault, Kind};
use crate::header::{Header, Limits};

/// The quality where the recipe names none; imgproxy's default.
pub const QUALITY_DEFAULT: u8 = 80;
/// From this quality on colour is not subsampled: whoever asks for it looks closely.
pub const QUALITY_WHOLE_COLOUR: u8 = 90;

/// How many eighths of its size an image is decoded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shrink {
    /// 1/8.
    Eighth = 1,
    /// 2/8.
    Quarter = 2,
    /// 4/8.
    Half = 4,
    /// 8/8.
    Whole = 8,
}

impl Shrink {
    /// From the smallest on.
    pub const ALL: [Shrink; 4] = [Shrink::Eighth, Shrink::Quarter, Shrink::Half, Shrink::Whole];

    /// What a side is multiplied by. The decoder's picture is this, rounded up: what lies beyond the fraction is not part
    /// of the image.
    pub fn factor(self) -> f64 {
        f64::from(self as u8) / 8.0
    }
}

/// Whether colours stay in their planes. Not below a half: there the decoder's own conversion costs next to nothing, and
/// it keeps twice the resolution of subsampled colour.
fn in_planes(header: &DecompressHeader, shrink: Shrink) -> Option<(u32, u32)> {
    let subsampling = match header.subsamp {
        Subsamp::None => (1, 1),
        Subsamp::Sub2x1 => (2, 1),
        Subsamp::Sub2x2 => (2, 2),
        Subsamp::Sub1x2 => (1, 2),
        Subsamp::Sub4x1 => (4, 1),
        Subsamp::Sub1x4 => (1, 4),
        _ => return None,
    };
    (header.colorspace == Colorspace::YCbCr && shrink >= Shrink::Half).then_some(subsampling)
}

/// Decodes, shrunk. Four inks become red, green and blue, by the profile where there is one for them; other colours stay
/// as they are stored.
///
/// # Errors
/// [`Kind::BadImage`]: broken, or cut off. [`Kind::Unsupported`]: arithmetic coding, lossless. [`Kind::TooLarge`]: too
/// many scans. [`Kind::Memory`].
pub fn decode(
    input: &[u8],
    header: &Header,
    shrink: Shrink,
    profile: Option<&[u8]>,
    pool: &mut Pool,
    watch: &dyn Watch,
) -> Result<Picture, Fault> {
    let inks = Inks::new(profile.filter(|_| header.components == 4), is_adobe(input));
    let mut picture = read(input, header, shrink, pool)?;
    if let Picture::Pixels(pixels) = &mut picture
        && header.components == 4
    {
        inks_to_rgb(pixels, &inks, watch)?;
    }
    Ok(picture)
}

fn read(input: &[u8], header: &Header, shrink: Shrink, pool: &mut Pool) -> Result<Picture, Fault> {
    match decode_once(input, header, shrink, pool) {
        Err(Trouble::CutOff) => {
            // The end marker alone may be missing: nothing is lost then, and a decoder that finds one is content.
            let mut whole = pool.take(input.len() + 2);
            whole[..input.len()].copy_from_slice(input);
            whole[input.len()..].copy_from_slice(&[0xFF, 0xD9]);
            let decoded = decode_once(&whole, header, shrink, pool);
            pool.give(whole);
            decoded.map_err(|_| bad("the JPEG ends before its picture does: it was cut off. Upload it again, whole."))
        }
        decoded => decoded.map_err(|trouble| match trouble {
            Trouble::CutOff => bad("the JPEG ends before its picture does"),
            Trouble::Fault(fault) => fault,
        }),
    }
}

enum Trouble {
    CutOff,
    Fault(Fault),
}

fn bad(detail: impl Into<String>) -> Fault {
    Fault::new(Kind::BadImage, detail)
}

fn decode_once(input: &[u8], header: &Header, shrink: Shrink, pool: &mut Pool) -> Result<Picture, Trouble> {
    let mut decoder = Decompressor::new().map_err(trouble)?;
    decoder.set_scan_limit(Limits::DEFAULT.scans_max).map_err(trouble)?;
    let found = decoder.read_header(input).map_err(trouble)?;
    if (found.width, found.height) != (header.width as usize, header.height as usize) {
        return Err(Trouble::Fault(bad("the JPEG tells two sizes of itself")));
    }
    if found.is_lossless || found.is_arithmetic {
        let detail = "this kind of JPEG (lossless or arithmetic coding) is not supported. Save it as a baseline JPEG.";
        return Err(Trouble::Fault(Fault::new(Kind::Unsupported, detail)));
    }
    let scale = ScalingFactor::new(usize::from(shrink as u8), 8);
    decoder.set_scaling_factor(scale).map_err(trouble)?;
    let (width, height) = (scale.scale(found.width), scale.scale(found.height));
    if let Some(subsampling) = in_planes(&found, shrink) {
        let mut planes = Planes::take(width as u32, height as u32, subsampling, pool);
        let target = YuvImage { pixels: &mut planes.samples[..], width, align: 1, height, subsamp: found.subsamp };
        return match told(decoder.decompress_to_yuv(input, target)) {
            Ok(()) => Ok(Picture::Planes(planes)),
            Err(trouble) => {
                pool.give(planes.samples);
                Err(trouble)
            }
        };
    }
    if shrink == Shrink::Eighth
        && matches!(found.colorspace, Colorspace::YCbCr | Colorspace::Gray)
        && let Some(pixels) = eighth::decode(input, pool)
    {
        return Ok(Picture::Pixels(pixels));
    }
    let (format, layout) = match found.colorspace {
        Colorspace::Gray => (PixelFormat::GRAY, Layout::Gray),
        Colorspace::CMYK | Colorspace::YCCK => (PixelFormat::CMYK, Layout::Rgba),
        _ => (PixelFormat::RGB, Layout::Rgb),
    };
    let pitch = width * format.size();
    let mut samples = pool.take(pitch * height);
    let target = Image { pixels: &mut samples[..], width, pitch, height, format };
    if let Err(trouble) = told(decoder.decompress(input, target)) {
        pool.give(samples);
        return Err(trouble);
    }
    Ok(Picture::Pixels(Pixels { width: width as u32, height: height as u32, layout, samples }))
}

/// What the decoder complains of without losing a sample. Cameras write such files.
fn told(result: turbojpeg::Result<()>) -> Result<(), Trouble> {
    match result {
        Err(Error::TurboJpegError(said)) if said.contains("extraneous bytes before marker") => Ok(()),
        other => other.map_err(trouble),
    }
}

fn trouble(error: Error) -> Trouble {
    let said = error.to_string();
    if said.contains("Premature end of JPEG file") {
        return Trouble::CutOff;
    }
    Trouble::Fault(fault(&said))
}

fn fault(said: &str) -> Fault {
    let said = said.trim_start_matches("TurboJPEG error: ");
    if said.contains("nsufficient memory") || said.contains("Memory allocation failure") {
        return Fault::new(Kind::Memory, "the JPEG's decoder got no more memory");
    }
    if said.contains("scans") {
        let limit = Limits::DEFAULT.scans_max;
        return Fault::new(Kind::TooLarge, format!("the progressive JPEG has more than {limit} scans (scans_max)"));
    }
    bad(format!("the JPEG is broken: {said}"))
}

/// In place, from four samples to three, a row at a time.
fn inks_to_rgb(pixels: &mut Pixels, inks: &Inks, watch: &dyn Watch) -> Result<(), Fault> {
    let width = pixels.width as usize;
    let (mut row, mut rgb) = (vec![0; width * 4], vec![0; width * 3]);
    for y in 0..pixels.height as usize {
        if y.is_multiple_of(64) {
            watch.check()?;
        }
        row.copy_from_slice(&pixels.samples[y * width * 4..][..width * 4]);
        inks.convert(&mut row, &mut rgb);
        pixels.samples[y * width * 3..][..width * 3].copy_from_slice(&rgb);
    }
    pixels.samples.truncate(pixels.height as usize * width * 3);
    pixels.layout = Layout::Rgb;
    Ok(())
}

/// Whether an Adobe APP14 segment stands before the picture (Adobe Technical Note 5116 section 18).
fn is_adobe(input: &[u8]) -> bool {
    segments(input).any(|(marker, body)| marker == 0xEE && body.starts_with(b"Adobe"))
}

/// The ICC profile, if it is there in whole (ICC.1 annex B.4: chunks counted from 1 in APP2).
pub fn profile(input: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    const NAME: &[u8] = b"ICC_PROFILE\0";
    let chunk = |(marker, body)| (marker == 0xE2).then_some(body).and_then(|body: &[u8]| body.strip_prefix(NAME));
    let mut chunks: Vec<&[u8]> = segments(input).filter_map(chunk).filter(|chunk| chunk.len() > 2).collect();
    chunks.sort_by_key(|chunk| chunk[0]);
    let is_whole = chunks
        .iter()
        .enumerate()
        .all(|(at, chunk)| usize::from(chunk[0]) == at + 1 && usize::from(chunk[1]) == chunks.len());
    let profile = chunks.iter().flat_map(|chunk| &chunk[2..]).copied().take(bytes_max + 1).collect::<Vec<u8>>();
    (is_whole && !profile.is_empty() && profile.len() <= bytes_max).then_some(profile)
}

/// Markers and bodies of the segments up to the first scan, whose body is everything that follows.
fn segments(input: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = input.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        while let [0xFF, 0xFF, ..] = rest {
            rest = &rest[1..];
        }
        let &[0xFF, marker, high, low, ..] = rest else { return None };
        if marker == 0xDA {
            return Some((marker, std::mem::take(&mut rest).get(4..)?));
        }
        let len = usize::from(u16::from_be_bytes([high, low]));
        let body = rest.get(4..2 + len)?;
        rest = &rest[2 + len..];
        Some((marker, body))
    })
}

/// Encodes as baseline with Huffman tables made for the image. What is transparent must have been laid on a background.
///
/// # Errors
/// [`Kind::Memory`]; anything else is our own mistake and told as [`Kind::Io`].
pub fn encode(picture: &mut Picture, quality: Option<u8>) -> Result<Vec<u8>, Fault> {
    let quality = quality.unwrap_or(QUALITY_DEFAULT).clamp(1, 100);
    let failed = |error: Error| match fault(&error.to_string()) {
        memory if memory.kind == Kind::Memory => memory,
        _ => Fault::new(
            Kind::Io,
            format!("the JPEG could not be written: {error}. This is our mistake, please tell us."),
        ),
    };
    let mut encoder = Compressor::new().map_err(failed)?;
    encoder.set_quality(i32::from(quality)).map_err(failed)?;
    encoder.set_optimize(true).map_err(failed)?;
    let mut output = OutputBuf::new_owned();
    match picture {
        Picture::Planes(planes) => {
            planes.pad();
            let subsamp = if planes.subsampling == (1, 1) { Subsamp::None } else { Subsamp::Sub2x2 };
            let (width, height) = (planes.width as usize, planes.height as usize);
            let image = YuvImage { pixels: &planes.samples[..], width, align: 1, height, subsamp };
            encoder.compress_yuv(image, &mut output).map_err(failed)?;
        }
        Picture::Pixels(pixels) => {
            let (format, subsamp) = match pixels.layout {
                Layout::Gray => (PixelFormat::GRAY, Subsamp::Gray),
                Layout::Rgb => (PixelFormat::RGB, colour(quality)),
                Layout::Rgba => (PixelFormat::RGBX, colour(quality)),
            };
            encoder.set_subsamp(subsamp).map_err(failed)?;
            let (width, height) = (pixels.width as usize, pixels.height as usize);
            let image = Image { pixels: &pixels.samples[..], width, pitch: width * format.size(), height, format };
            encoder.compress(image, &mut output).map_err(failed)?;
        }
    }
    Ok(output.to_vec())
}

fn colour(quality: u8) -> Subsamp {
    if subsampling(Some(quality)) == (1, 1) { Subsamp::None } else { Subsamp::Sub2x2 }
}

/// Pixels per colour sample, along and down, of what is encoded with this quality.
pub fn subsampling(quality: Option<u8>) -> (u32, u32) {
    if quality.unwrap_or(QUALITY_DEFAULT) >= QUALITY_WHOLE_COLOUR { (1, 1) } else { (2, 2) }
}
