//! From the bytes of an image to the bytes of its outputs. Pure: no file, no thread, and a clock only to tell where the time went.
//!
//! ```text
//!   bytes ─► decode (shrunk as far as all outputs allow) ─► where cut-outs lie ─► largest output first, each made
//!            from the last one that is large enough ─► upright, in sRGB, adjusted ─► encode ─► bytes
//! ```

pub mod adjust;
pub mod animation;
pub mod avif;
pub mod cascade;
pub mod color;
pub mod cost;
pub mod exif;
pub mod geometry;
pub mod gif;
pub mod jpeg;
#[cfg(test)]
mod mutation;
pub mod picture;
pub mod pixels;
pub mod placeholder;
pub mod plan;
pub mod png;
pub mod resample;
pub mod sharpen;
pub mod sight;
#[cfg(test)]
mod tests;
pub mod tiff;
pub mod tone;
#[cfg(test)]
mod trial;
pub mod turn;
pub mod watermark;
pub mod webp;

use std::time::{Duration, Instant};

use super::fault::{Fault, Kind};
use super::format::Format;
use super::header::{self, Header};
use super::recipe::{Metadata, Recipe};
use cascade::Cascade;
use color::{Source, ToSrgb};
use exif::Exif;
use jpeg::Shrink;
use picture::Picture;
use pixels::{Layout, Pixels, Pool};
use placeholder::Placeholders;
use plan::Plan;
use sight::Sight;
use watermark::Marks;

/// Bytes of a colour profile. A larger one is ignored; the header's limit refuses it before where that is smaller.
pub const PROFILE_BYTES_MAX: usize = 16 << 20;

/// Asked between strips of work; what it answers ends the job.
pub trait Watch {
    /// # Errors
    /// [`Stopped`](super::fault::Kind::Stopped): give up at once.
    fn check(&self) -> Result<(), Fault>;
}

/// A finished output.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// The recipe's place in the list.
    pub index: usize,
    /// What it was encoded as.
    pub format: Format,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// The encoded bytes.
    pub bytes: Vec<u8>,
    /// What stands in for it, as far as the recipe asks for that.
    pub placeholders: Placeholders,
}

/// Where the time went.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Timings {
    /// Decoding.
    pub decode: Duration,
    /// Resampling and adjusting.
    pub transform: Duration,
    /// Encoding.
    pub encode: Duration,
}

/// What it will take, known from the header alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Bytes at the peak, without the input and the outputs.
    pub peak_bytes: u64,
    /// A guess of the processor time, in microseconds.
    pub cpu_us: u64,
}

/// What is to be made of an image.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// What its head said.
    pub header: &'a Header,
    /// The outputs.
    pub recipes: &'a [Recipe],
    /// What may be laid over them.
    pub marks: &'a Marks,
}

/// Takes each output as soon as it is there; what it answers ends the job.
pub type Made<'a> = &'a mut dyn FnMut(Output) -> Result<(), Fault>;

/// Predicts what [`process`] will take.
pub fn predict(header: &Header, recipes: &[Recipe]) -> Cost {
    cost::predict(header, recipes)
}

/// Whether a format can hold a picture of this size.
fn check_sides(format: &str, (width, height): (u32, u32), side_max: u32) -> Result<(), Fault> {
    if width.max(height) <= side_max {
        return Ok(());
    }
    let detail = format!(
        "the output is {width}x{height} pixels; {format} has at most {side_max} at a side. Ask for a smaller one."
    );
    Err(Fault::new(Kind::BadRequest, detail))
}

/// Makes every recipe's output, largest first, and hands each over as soon as it is there.
///
/// # Errors
/// A [`Fault`]; outputs that were handed over before are whole.
pub fn process(
    input: &[u8],
    wanted: Wanted<'_>,
    pool: &mut Pool,
    watch: &dyn Watch,
    made: Made<'_>,
) -> Result<Timings, Fault> {
    let Wanted { header, recipes, marks } = wanted;
    let counted;
    let header = match recipes.iter().any(|recipe| recipe.frames_max > 1) {
        false => header,
        true => {
            counted = Header { frames: header::frames(input, header), ..header.clone() };
            &counted
        }
    };
    let (plans, shrink) = plan::plan(header, recipes)?;
    let (mut moving, mut still): (Vec<_>, Vec<_>) = plans.into_iter().partition(|plan| plan.frames > 1);
    watch.check()?;
    let rights = || {
        let wanted = recipes.iter().any(|recipe| recipe.metadata == Metadata::KeepCopyright);
        wanted.then(|| exif(input, header.format).rights()).flatten()
    };
    if !moving.is_empty() {
        if is_cut_by_sight(&moving, recipes) {
            // All frames are cut where the first one is.
            let (first, _its_profile_says_little) = decode(input, header, shrink, pool, watch)?;
            plan::move_by_sight(&mut moving, header, recipes, &Sight::of(&first), pool)?;
            first.give(pool);
        }
        let (rights, encoding) = (rights(), Duration::ZERO);
        let mut cascade = Cascade { recipes, marks, to_srgb: None, rights, pool: &mut *pool, watch, encoding };
        let timings = animation::run(input, header, &moving, &mut cascade, &mut *made)?;
        if still.is_empty() {
            return Ok(timings);
        }
    }
    let started = Instant::now();
    let (picture, to_srgb) = decode(input, header, shrink, pool, watch)?;
    let decode = started.elapsed();
    if is_cut_by_sight(&still, recipes) {
        watch.check()?;
        plan::move_by_sight(&mut still, header, recipes, &Sight::of(&picture), pool)?;
    }
    let extent = (f64::from(header.width) * shrink.factor(), f64::from(header.height) * shrink.factor());
    let mut cascade = Cascade { recipes, marks, to_srgb, rights: rights(), pool, watch, encoding: Duration::ZERO };
    cascade.run(picture, (header.width, header.height), extent, &still, made)?;
    let encode = cascade.encoding;
    Ok(Timings { decode, transform: started.elapsed().saturating_sub(decode + encode), encode })
}

fn is_cut_by_sight(plans: &[Plan], recipes: &[Recipe]) -> bool {
    plans.iter().any(|plan| recipes[plan.index].is_cut_by_sight())
}

/// Decodes, a JPEG shrunk. Gives the way to sRGB where the pixels are not there yet: a JPEG's are converted when they are
/// small, and what is in sRGB by another name stays in its planes.
fn decode(
    input: &[u8],
    header: &Header,
    shrink: Shrink,
    pool: &mut Pool,
    watch: &dyn Watch,
) -> Result<(Picture, Option<ToSrgb>), Fault> {
    match decode_pixels(input, header, pool, watch)? {
        Decoded::Pixels(pixels) => Ok((Picture::Pixels(pixels), None)),
        Decoded::Jpeg => {
            let layout = if header.components == 1 { Layout::Gray } else { Layout::Rgb };
            let profile = jpeg::profile(input, PROFILE_BYTES_MAX);
            let picture = jpeg::decode(input, header, shrink, profile.as_deref(), pool, watch)?;
            let to_srgb = profile.as_deref().and_then(Source::of_icc).and_then(|source| source.to_srgb(layout));
            Ok((picture, to_srgb))
        }
    }
}

enum Decoded {
    /// In sRGB, as it is stored.
    Pixels(Pixels),
    /// Not decoded: of a JPEG one must know how small it may become.
    Jpeg,
}

fn decode_pixels(input: &[u8], header: &Header, pool: &mut Pool, watch: &dyn Watch) -> Result<Decoded, Fault> {
    let pixels = match header.format {
        Format::Jpeg => return Ok(Decoded::Jpeg),
        Format::Png => png::decode(input, header, pool, watch)?,
        Format::Webp => webp::decode(input, header, pool, watch)?,
        Format::Avif => avif::decode(input, header, pool, watch)?,
        Format::Gif => gif::decode(input, header, pool, watch)?,
        Format::Tiff => tiff::decode(input, header, pool, watch)?,
    };
    Ok(Decoded::Pixels(pixels))
}

/// Whose image it is.
fn exif(input: &[u8], format: Format) -> Exif {
    match format {
        Format::Jpeg => Exif::of_jpeg(input),
        Format::Png => png::exif(input),
        Format::Webp => webp::exif(input),
        // The directory of EXIF is TIFF's.
        Format::Tiff => Exif::read(input),
        // A GIF has no place for it, and of an AVIF its place is not looked for.
        Format::Gif | Format::Avif => Exif::default(),
    }
}

/// Encodes an upright picture, with a small EXIF where there is one. What is no JPEG comes as pixels.
fn encode(format: Format, picture: &mut Picture, quality: Option<u8>, rights: Option<&[u8]>) -> Result<Vec<u8>, Fault> {
    match (format, &*picture) {
        (Format::Png, Picture::Pixels(pixels)) => png::encode(pixels, rights),
        (Format::Webp, Picture::Pixels(pixels)) => webp::encode(pixels, quality, rights),
        (Format::Avif, Picture::Pixels(pixels)) => avif::encode(pixels, quality, rights),
        (Format::Jpeg, _) => {
            let mut bytes = jpeg::encode(picture, quality)?;
            if let Some(rights) = rights {
                exif::into_jpeg(&mut bytes, rights);
            }
            Ok(bytes)
        }
        (other, _) => Err(Fault::new(Kind::BadRequest, format!("{} is not written here", other.name()))),
    }
}
