//! What tests of the pipeline share.

use super::Watch;
use super::pixels::Pixels;
use crate::fault::{Fault, Kind};
use crate::header::{self, Header, Limits, Orientation, Progress};
use crate::recipe::{Mode, Recipe, Resize};

/// Stops nothing.
pub struct Never;

impl Watch for Never {
    fn check(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// The header of a whole file.
pub fn header(file: &[u8]) -> Result<Header, Fault> {
    match header::read(file, Some(file.len() as u64), &Limits::DEFAULT)? {
        Progress::Header(header) => Ok(header),
        Progress::NeedMore { .. } => panic!("more is needed than the whole file"),
    }
}

/// The header of a whole file, unless it is large: what a mutated one may claim is not what tests of decoders are for.
pub fn small_header(file: &[u8]) -> Result<Header, Fault> {
    let header = header(file)?;
    match header.pixels() > 1 << 20 {
        true => Err(Fault::new(Kind::TooLarge, "too large for a test")),
        false => Ok(header),
    }
}

/// Decoded pixels, which have as many samples as they say.
pub fn checked(pixels: Pixels) -> Pixels {
    assert_eq!(pixels.samples.len(), (pixels.width * pixels.height) as usize * pixels.layout.bytes());
    pixels
}

/// What the head of a JPEG of this size says.
pub fn jpeg(width: u32, height: u32, coefficient_bytes: u8) -> Header {
    Header {
        format: crate::format::Format::Jpeg,
        width,
        height,
        components: 3,
        bits: 8,
        alpha: false,
        frames: 1,
        coefficient_bytes,
        orientation: Orientation::Normal,
    }
}

/// An output that fits into a square.
pub fn fit(side: u32) -> Recipe {
    let mut recipe = Recipe::named("fit");
    recipe.resize = Some(Resize { mode: Mode::Fit, width: side, height: side, enlarge: false, extend: false });
    recipe
}
