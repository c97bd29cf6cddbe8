//! From the bytes of an image to the bytes of its outputs. Pure: no file, no clock, no thread.
//!
//! ```text
//!   bytes ─► decode (shrunk as far as all outputs allow) ─► upright sRGB pixels ─► largest output first, each made
//!            from the last one that is large enough ─► adjust ─► encode ─► bytes
//! ```

pub mod adjust;
pub mod avif;
pub mod color;
pub mod exif;
pub mod geometry;
pub mod gif;
#[cfg(test)]
mod mutation;
pub mod pixels;
pub mod png;
pub mod tone;
pub mod webp;

use std::time::Duration;

use super::fault::Fault;
use super::format::Format;
use super::header::Header;
use super::recipe::Recipe;
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

/// An image of raw samples, and whoever wants them reads them here.
pub type Made<'a> = &'a mut dyn FnMut(Output) -> Result<(), Fault>;

/// Predicts what [`process`] will take.
pub fn predict(header: &Header, recipes: &[Recipe]) -> Cost {
    let _ = recipes;
    Cost { peak_bytes: header.pixels() * 4, cpu_us: header.pixels() / 100 }
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
    let _ = (input, header, recipes, pool, watch, made);
    Err(Fault::new(super::fault::Kind::Unsupported, "no format yet"))
}
