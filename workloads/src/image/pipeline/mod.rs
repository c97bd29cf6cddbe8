//! From the bytes of an image to the bytes of its outputs. Pure: no file, no thread, and a clock only to tell where the time went.
//!
//! ```text
//!   bytes ─► decode (shrunk as far as all outputs allow) ─► upright sRGB pixels ─► largest output first, each made
//!            from the last one that is large enough ─► adjust ─► encode ─► bytes
//! ```

pub mod cascade;
pub mod cost;
pub mod exif;
pub mod geometry;
pub mod jpeg;
pub mod picture;
pub mod pixels;
pub mod plan;
pub mod resample;
pub mod sharpen;
pub mod turn;

use std::time::{Duration, Instant};

use super::fault::{Fault, Kind};
use super::format::Format;
use super::header::Header;
use super::recipe::Recipe;
use cascade::Cascade;
use jpeg::Shrink;
use picture::Picture;
use pixels::Pool;

/// Asked between strips of work; what it answers ends the job.
pub trait Watch {
    /// # Errors
    /// [`Kind::Stopped`](super::fault::Kind::Stopped): give up at once.
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

/// Takes each output as soon as it is there; what it answers ends the job.
pub type Made<'a> = &'a mut dyn FnMut(Output) -> Result<(), Fault>;

/// Predicts what [`process`] will take.
pub fn predict(header: &Header, recipes: &[Recipe]) -> Cost {
    cost::predict(header, recipes)
}

/// Makes every recipe's output, largest first, and hands each over as soon as it is there.
///
/// # Errors
/// A [`Fault`]; outputs that were handed over before are whole.
pub fn process(
    input: &[u8],
    header: &Header,
    recipes: &[Recipe],
    pool: &mut Pool,
    watch: &dyn Watch,
    made: Made<'_>,
) -> Result<Timings, Fault> {
    let (plans, shrink) = plan::plan(header, recipes)?;
    watch.check()?;
    let started = Instant::now();
    let (picture, profile) = decode(input, header, shrink, pool, watch)?;
    let decode = started.elapsed();
    let extent = (f64::from(header.width) * shrink.factor(), f64::from(header.height) * shrink.factor());
    let mut cascade = Cascade { recipes, profile, pool, watch, encoding: Duration::ZERO };
    cascade.run(picture, (header.width, header.height), extent, &plans, made)?;
    let encode = cascade.encoding;
    Ok(Timings { decode, transform: started.elapsed().saturating_sub(decode + encode), encode })
}

/// Decodes, a JPEG shrunk. Gives the colour profile where the pixels are not sRGB yet.
fn decode(
    input: &[u8],
    header: &Header,
    shrink: Shrink,
    pool: &mut Pool,
    watch: &dyn Watch,
) -> Result<(Picture, Option<Vec<u8>>), Fault> {
    let _ = watch;
    match header.format {
        Format::Jpeg => Ok((jpeg::decode(input, header, shrink, pool)?, None)),
        other => Err(Fault::new(Kind::Unsupported, format!("{} is not read yet", other.name()))),
    }
}

/// Encodes an upright picture.
fn encode(format: Format, picture: &mut Picture, quality: Option<u8>, watch: &dyn Watch) -> Result<Vec<u8>, Fault> {
    let _ = watch;
    match format {
        Format::Jpeg => jpeg::encode(picture, quality),
        other => Err(Fault::new(Kind::Unsupported, format!("{} is not written yet", other.name()))),
    }
}
